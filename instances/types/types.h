/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instance types: what can be asked for, as data (docs/types.md). Private to instances/ and its tests.
 *
 *   yaml.c       YAML text -> JSON and the lines it came from; whatever is hostile in YAML ends here
 *   read.c       JSON -> struct instance_type: the keys, their ranges, every complaint at once
 *   check.c      what belongs together and what cannot be kept
 *   json.c       struct instance_type -> JSON
 *   asked.c      what somebody asks for otherwise
 *   catalogue.c  folders of files; later ones override by name
 */
#ifndef INSTANCES_TYPES_TYPES_H
#define INSTANCES_TYPES_TYPES_H

#include <jansson.h>

#include "base/base.h"
#include "vgpu-sched/vgpu-sched.h"

#define TYPE_NAME_SIZE	    48
#define TYPE_TEXT_SIZE	    128
#define TYPE_SELECTOR_SIZE  64
#define TYPE_GPUS_MAX	    8  /* entries of gpus: */
#define TYPE_GPU_COUNT_MAX  16 /* GPUs and vGPUs of one instance, over all entries */
#define TYPE_DISPLAYS_MAX   4
#define TYPE_DISPLAY_WIDTH  4096
#define TYPE_DISPLAY_HEIGHT 2160
#define TYPE_DISKS_MAX	    8
#define TYPE_NICS_MAX	    8
#define TYPE_VCPUS_MAX	    1024u
#define TYPE_MEMORY_MIB_MAX (UINT64_C(64) * 1024 * 1024)   /* 64 TiB */
#define TYPE_DISK_MIB_MAX   (UINT64_C(1024) * 1024 * 1024) /* 1 PiB */
#define TYPE_VRAM_MIB_MAX   (UINT64_C(4) * 1024 * 1024)	   /* 4 TiB */
#define TYPE_CREDITS_MAX    1000000u			   /* minutes of a whole GPU */
#define TYPE_USERS_MAX	    1024u
#define TYPE_MDEV_SIZE	    64

enum type_mode {
	TYPE_DEDICATED, /* a device of the kernel's, by VFIO */
	TYPE_SHARED,	/* a vGPU: a part of a GPU's time and memory */
};

/* What a dedicated entry gets, as the inventory calls it (enum node_provider). */
enum type_provider {
	TYPE_WHOLE, /* a GPU with all functions of its slot */
	TYPE_SRIOV, /* a virtual function of one */
	TYPE_MDEV,  /* a mediated device, made for the instance by the GPU's driver */
};

struct type_gpu {
	enum type_mode mode;
	enum type_provider provider; /* dedicated */
	unsigned count;		     /* dedicated: how many GPUs, or virtual functions; else 1 */
	/* "": any. Else an ID, a PCI address, "vendor:device", "software", or a part of the GPU's name. */
	char selector[TYPE_SELECTOR_SIZE];
	char mdev_type
		[TYPE_MDEV_SIZE]; /* mdev: of which type, by its name in sysfs or its driver's */
	/* The rest is of shared entries; 0 where it means nothing. */
	enum sched_policy policy;
	uint32_t partition_ppm; /* as written: part of the GPU; 0: not said */
	uint32_t
		time_ppm; /* of the GPU's time, guaranteed: fixed share or baseline; 0: no promise */
	uint64_t vram_mib;    /* of device memory; 0: partition_ppm of the GPU's */
	uint32_t weight;      /* weighted, and burst above its baseline */
	uint32_t elastic_ppm; /* fixed_share: so much more while others leave it */
	uint64_t credit_max_ns, credit_initial_ns,
		surplus_max_ns; /* burst; SCHED_CREDIT_NS is a credit */
	unsigned
		users_max; /* how many vGPUs there may be on the GPU that this one is on; 0: the node's limit */
};

struct type_display {
	unsigned width, height;
};

struct type_disk {
	uint64_t size_mib;
};

enum type_nic {
	TYPE_NIC_USER, /* no privilege: passt */
	TYPE_NIC_TAP,
};

enum type_numa {
	TYPE_NUMA_ANY,
	TYPE_NUMA_LOCAL, /* CPUs and memory from the node that the GPU is on */
};

struct instance_type {
	char name[TYPE_NAME_SIZE]; /* [a-z0-9] and then [a-z0-9.-] */
	char description[TYPE_TEXT_SIZE];
	unsigned vcpus;
	uint64_t memory_mib;
	uint64_t huge_page; /* bytes a page: 0, 2 MiB, 1 GiB */
	enum type_numa numa;
	unsigned gpu_count, display_count, disk_count, nic_count;
	struct type_gpu gpus[TYPE_GPUS_MAX];
	struct type_display displays[TYPE_DISPLAYS_MAX]; /* heads of the first vGPU */
	struct type_disk disks[TYPE_DISKS_MAX];
	enum type_nic nics[TYPE_NICS_MAX];
	char source[256]; /* the file that it is from, for people; not in JSON */
};

const char *type_mode_name(enum type_mode mode);
const char *type_provider_name(enum type_provider provider); /* "whole", "sriov", "mdev" */
int type_provider_parse(const char *text, enum type_provider *provider); /* 0 or -EINVAL */
/* type_gpu_vram_mib() - device memory of a shared entry on a GPU that has @total_mib. */
uint64_t type_gpu_vram_mib(const struct type_gpu *gpu, uint64_t total_mib);
/* type_is_dedicated() - whether it has a device by VFIO, so that its CPUs are its own too. */
bool type_is_dedicated(const struct instance_type *type);
/* type_name_ok() - whether @name may be a type's: never a path, an option or a control character. */
bool type_name_ok(const char *name);

/*
 * type_nearest() - the word of @words that @word is most likely meant to be, or NULL.
 * type_is_it() - that as an error's text goes on: "; is it WORD?", or "". Returns @text.
 */
#define TYPE_IS_IT_SIZE 64
const char *type_nearest(const char *word, const char *const *words, unsigned count);
char *type_is_it(const char *word, const char *const *words, unsigned count,
		 char text[TYPE_IS_IT_SIZE]);

/*
 * type_json() - the type as a JSON object, keys in a fixed order, shares in parts of a million, credits in
 * nanoseconds. NULL: out of memory.
 * type_from_json() - the same the other way round. Also takes the words of a type file (docs/types.md). Whatever is wrong is added to @findings
 * as a blocker, under @name. Returns 0 or -EINVAL.
 */
json_t *type_json(const struct instance_type *type);
int type_from_json(const json_t *json, const char *name, struct instance_type *type,
		   struct findings *findings);

/*
 * type_displays_set() - other heads, an array of {width, height} that was judged; beyond TYPE_DISPLAYS_MAX they are left out.
 * type_weight_set() - another weight, of each of its weighted and burst vGPUs. False when it has none.
 */
void type_displays_set(struct instance_type *type, const json_t *displays);
bool type_weight_set(struct instance_type *type, uint32_t weight);

/* ---- catalogue ---------------------------------------------------------------------------- */

#define TYPE_FILE_BYTES	   (64 * KIB)
#define TYPE_FOLDER_FILES  256
#define TYPE_CATALOGUE_MAX 1024

struct type_catalogue {
	unsigned count, room;
	struct instance_type *items; /* by name */
};

/*
 * type_catalogue_load() - the types that are shipped, then those of @root's /etc/divvy/types.d. What is missing is no error; what is wrong with
 * a file is a blocker in @findings, and the file's other types and the other files are there all the same.
 * @catalogue: zeroed; type_catalogue_free() in any case
 *
 * Returns 0 or -ENOMEM.
 *
 * type_catalogue_add_folder() - the files *.yaml of a folder, in order of name; a type that is there already is replaced, with a note.
 * type_catalogue_add_file() - one file: a type, or a list of types.
 * type_catalogue_add_text() - the same from memory; @name is what complaints call it.
 * These return how many types were taken or -errno ("type-unreadable" in @findings).
 */
int type_catalogue_load(const char *root, struct type_catalogue *catalogue,
			struct findings *findings);
int type_catalogue_add_folder(struct type_catalogue *catalogue, const char *folder,
			      struct findings *findings);
int type_catalogue_add_file(struct type_catalogue *catalogue, const char *path,
			    struct findings *findings);
int type_catalogue_add_text(struct type_catalogue *catalogue, const char *text, size_t size,
			    const char *name, struct findings *findings);
const struct instance_type *type_catalogue_find(const struct type_catalogue *catalogue,
						const char *name);
/* type_catalogue_is_it() - type_is_it() of the types there are. */
char *type_catalogue_is_it(const struct type_catalogue *catalogue, const char *name,
			   char text[TYPE_IS_IT_SIZE]);
void type_catalogue_free(struct type_catalogue *catalogue);
/* type_shipped_folder() - where the shipped types are: beside the executable, installed or built, or /usr/share. Returns @path. */
char *type_shipped_folder(char path[4096]);

#endif
