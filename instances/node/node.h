/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine has: GPUs with all that is known of them, CPUs, memory, NUMA nodes (docs/node.md). Private to instances/ and its tests.
 *
 * sysfs and procfs below a root are the truth; libpci lends the names, and the Vulkan loader says which GPUs can be shared and how
 * much memory they have. Everything read is bounded and taken as untrusted text.
 */
#ifndef INSTANCES_NODE_NODE_H
#define INSTANCES_NODE_NODE_H

#include <jansson.h>

#include "base/base.h"

#define NODE_GPUS_MAX	   512
#define NODE_NUMA_MAX	   64
#define NODE_FUNCTIONS_MAX 8 /* of a slot */
#define NODE_UPSTREAM_MAX  16
#define NODE_BARS	   6
#define NODE_ID_SIZE	   72
#define NODE_VULKAN_MAX	   32
#define NODE_VULKAN_NAME   48
#define NODE_MDEV_SIZE	   64
#define NODE_MDEV_TYPES	   64 /* of a GPU */
#define NODE_MDEVS_MAX	   4096

enum node_provider {
	NODE_WHOLE = 1,	 /* the whole function, by VFIO */
	NODE_SRIOV = 2,	 /* virtual functions */
	NODE_MDEV = 4,	 /* the kernel's mediated devices */
	NODE_VULKAN = 8, /* Divvy's vGPUs */
};

enum node_vram_source {
	NODE_VRAM_UNKNOWN,
	NODE_VRAM_DRIVER, /* the kernel's driver says so */
	NODE_VRAM_VULKAN, /* device-local heaps */
	NODE_VRAM_BAR,	  /* the largest prefetchable BAR: an estimate */
};

/* A function of a GPU's slot: the GPU itself, its audio, its USB. */
struct node_function {
	struct pci_address address;
	uint16_t vendor, device;
	uint32_t class_code; /* 24 bits */
	char driver[64];     /* "": none */
};

struct node_link {
	unsigned mts, width;	     /* now; 0: not known */
	unsigned max_mts, max_width; /* of the device */
};

/* What a GPU's driver makes of it when asked (Documentation/driver-api/vfio-mediated-device.rst). */
struct node_mdev_type {
	char id[NODE_MDEV_SIZE];   /* of its folder: "nvidia-558" */
	char name[NODE_MDEV_SIZE]; /* the driver's: "NVIDIA A40-4Q"; "": it tells none */
	unsigned available;	   /* how many more the driver would make now */
};

struct node_gpu {
	char id[NODE_ID_SIZE]; /* stable where the hardware has a number of its own, else by address */
	char serial[64];       /* that number; "": none was read */
	bool software;	       /* renders on the CPU */
	bool has_address;
	struct pci_address address;
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code;
	char name[160], class_name[96]; /* by libpci, or as Vulkan calls it */
	char driver[64];		/* "": none */
	unsigned function_count;	/* of the slot, this one among them */
	struct node_function functions[NODE_FUNCTIONS_MAX];

	int group;		  /* -1: none */
	bool viable;		  /* its group could be assigned as it stands now */
	char why_not[512];	  /* not viable: why */
	bool assignable;	  /* it could be handed out whole, once its slot is bound */
	char not_assignable[256]; /* why not */
	bool isolated; /* and its isolation is the hardware's promise (no ACS override) */

	int numa_node; /* -1: not known */
	struct cpu_list local_cpus;
	unsigned upstream_count; /* bridges above it, nearest first */
	struct pci_address upstream[NODE_UPSTREAM_MAX];
	struct node_link link;
	char reset_methods[96]; /* "flr bus"; "": none */
	char power_state[16];	/* "D0" */
	bool boot_vga;
	char card[24], render[24]; /* DRM nodes: "card0", "renderD128"; "": none */
	uint64_t bars[NODE_BARS];  /* bytes */

	uint64_t vram_mib; /* 0: not known */
	enum node_vram_source vram_source;
	unsigned providers; /* NODE_* */
	unsigned sriov_total, sriov_now;
	bool is_virtual_function;
	struct pci_address physical_function;
	unsigned mdev_type_count; /* those of VFIO's PCI kind */
	struct node_mdev_type mdev_types[NODE_MDEV_TYPES];
	unsigned mdev_now; /* mediated devices of it that are there */
	/* As a GPU that vGPUs run on. */
	char vulkan_name
		[NODE_VULKAN_NAME]; /* what the arbiter and `run-native --gpu` call it; "": they don't */
	char vulkan_device[160];
	uint64_t vulkan_mib;
};

struct node_huge_pages {
	uint64_t total, free; /* pages */
};

struct node_numa {
	unsigned id;
	struct cpu_list cpus;
	unsigned cpu_count;
	uint64_t memory_mib;
	struct node_huge_pages huge_2m, huge_1g;
};

/* A mediated device of a GPU, whoever made it. */
struct node_mdev {
	char uuid[37];
	struct pci_address parent;
};

struct node {
	unsigned cpu_count; /* online */
	struct cpu_list cpus;
	uint64_t memory_mib; /* MemTotal */
	struct node_huge_pages huge_2m, huge_1g;
	unsigned numa_count; /* 0: the kernel knows none */
	struct node_numa numa[NODE_NUMA_MAX];
	bool iommu;	   /* there is one, and it translates */
	bool acs_override; /* groups prove nothing between tenants */
	bool interrupt_remapping;
	unsigned gpu_count;
	struct node_gpu *gpus; /* in order of address; those without one last */
	unsigned mdev_count;
	struct node_mdev *mdevs; /* by UUID, NODE_MDEVS_MAX at most */
	bool truncated;		 /* there are more than NODE_GPUS_MAX */
};

/* ---- what Vulkan says --------------------------------------------------------------------- */

struct node_vulkan_gpu {
	char name[NODE_VULKAN_NAME]; /* the arbiter's */
	char device[160];
	bool cpu;
	uint64_t memory_mib;
};

struct node_vulkan {
	unsigned count;
	struct node_vulkan_gpu gpus[NODE_VULKAN_MAX];
};

/*
 * node_vulkan_read() - ask the Vulkan drivers, in a child that is killed after @timeout_ms, since drivers hang and crash.
 * Returns 0, also with none, or -errno: "vulkan-hangs", "vulkan-crashed", "no-vulkan-device". Blocking; makes and reaps one child.
 */
#define NODE_VULKAN_TIMEOUT_MS 20000
int node_vulkan_read(unsigned timeout_ms, struct node_vulkan *vulkan, struct error *e);

/* ---- the inventory ------------------------------------------------------------------------- */

/* An ID that was given before: a GPU keeps it while a driver that does not tell its number has it. */
struct node_known {
	char id[NODE_ID_SIZE];
	struct pci_address address;
	uint16_t vendor, device;
};

struct node_ids {
	unsigned count;
	struct node_known items[NODE_GPUS_MAX];
};

struct node_options {
	const char *root;		  /* prefix of /sys and /proc; "" for the real ones */
	const struct node_vulkan *vulkan; /* borrowed; NULL: no GPU can be shared */
	const struct node_known *known;	  /* borrowed */
	unsigned known_count;
};

/*
 * node_read() - the machine as it is now. Reads files only and takes some milliseconds.
 * @out: the caller's, for node_free()
 *
 * Returns 0 or -errno: "no-memory". What cannot be read is left empty; a machine without PCI has no GPUs.
 */
int node_read(const struct node_options *options, struct node **out, struct error *e);
void node_free(struct node *node); /* NULL is fine */
/* node_equal() - whether nothing of it changed. */
bool node_equal(const struct node *a, const struct node *b);
/* node_gpu_find() - by ID, or by PCI address in any form; NULL. */
const struct node_gpu *node_gpu_find(const struct node *node, const char *id);
/* node_gpu_matches() - whether a type's selector (struct type_gpu) names the GPU. */
bool node_gpu_matches(const struct node_gpu *gpu, const char *selector);
/* node_gpu_physical() - of a virtual function: the GPU that it is a part of; NULL: it is none, or that is not in the inventory. */
const struct node_gpu *node_gpu_physical(const struct node *node, const struct node_gpu *gpu);
/* node_mdev_type_find() - the type of a GPU that is called @name, in sysfs or by its driver (in any case); NULL. */
const struct node_mdev_type *node_mdev_type_find(const struct node_gpu *gpu, const char *name);
/* node_json() - all of it; the keys are documented in docs/node.md. NULL: out of memory. */
json_t *node_json(const struct node *node);
/*
 * node_gpu_api_json() - what the machine itself says of a GPU, in the words of the API's Gpu (instances/openapi.yaml); whose it is comes after.
 * node_link_api_json() - of its link, which is known. NULL: out of memory.
 */
json_t *node_gpu_api_json(const struct node_gpu *gpu);
json_t *node_link_api_json(const struct node_link *link);

/* ---- IDs that stay ---------------------------------------------------------------------------- */

/*
 * node_ids_load() - the IDs in the file @path; none where it is not there, or with -errno ("gpu-ids-unreadable").
 * node_ids_learn() - those of @node, too; what is gone stays known. Returns whether anything changed.
 * node_ids_save() - write them beside the file, flushed, and then over it. Returns 0 or -errno ("gpu-ids-unwritten").
 */
int node_ids_load(const char *path, struct node_ids *ids, struct error *e);
bool node_ids_learn(struct node_ids *ids, const struct node *node);
int node_ids_save(const char *path, const struct node_ids *ids, struct error *e);

/* ---- names of PCI devices --------------------------------------------------------------------- */

struct node_pci_names;
/* By libpci, from pci.ids. NULL: out of memory; the others take that, and give numbers. */
struct node_pci_names *node_pci_names_open(void);
void node_pci_names_close(struct node_pci_names *names);
/* node_pci_name() - "Vendor Device"; node_pci_class_name(): of a class of 24 bits. Printable ASCII. */
void node_pci_name(struct node_pci_names *names, unsigned vendor, unsigned device, char *name,
		   size_t size);
void node_pci_class_name(struct node_pci_names *names, unsigned class_code, char *name,
			 size_t size);

/* ---- changes -------------------------------------------------------------------------------- */

/*
 * node_watch_create() - call @changed in the loop @event, shortly after devices that node_read() reads of came, went or changed (udev). It reads again, and
 * compares. Returns 0 or -errno: "no-udev".
 */
struct sd_event;
struct node_watch;
int node_watch_create(struct sd_event *event, void (*changed)(void *opaque), void *opaque,
		      struct node_watch **out, struct error *e);
void node_watch_destroy(struct node_watch *watch); /* NULL is fine */

#endif
