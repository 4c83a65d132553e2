/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommu: who is isolated from whom, and what a device may reach.
 *
 * Three ideas: the isolation group (read from sysfs, judged in words), guest memory as a list of
 * typed banks to which whoever needs DMA subscribes, and the address space, one operations table
 * with iommufd, type1 and a mock behind it. Knows nothing of KVM or of VFIO devices: it attaches
 * whatever VFIO file descriptor it is given.
 *
 * Follows Documentation/driver-api/vfio.rst, Documentation/userspace-api/iommufd.rst,
 * include/uapi/linux/{vfio,iommufd}.h and Documentation/ABI/testing/sysfs-kernel-iommu_groups.
 */
#ifndef IOMMU_IOMMU_H
#define IOMMU_IOMMU_H

#include "base/base.h"

/* ---- isolation groups -------------------------------------------------------------------- */

#define IOMMU_GROUP_MEMBERS_MAX	 64
#define IOMMU_GROUP_RESERVED_MAX 64
#define IOMMU_GROUP_UPSTREAM_MAX 16

struct iommu_group_member {
	struct pci_address address;
	uint16_t vendor, device;
	uint32_t class_code; /* 24 bits: base class, subclass, programming interface */
	bool is_bridge;	     /* PCI-to-PCI bridge: exempt from the viability rule */
	char driver[64];     /* bound driver, "" when none */
};

struct iommu_reserved_region {
	uint64_t start, last; /* IOVA, inclusive */
	char type[24];	      /* "direct", "direct-relaxable", "reserved", "msi" */
};

/* A bridge on the way from the device to the root, nearest first. */
struct iommu_upstream {
	struct pci_address address;
	bool has_acs;	      /* the ACS extended capability is present (and config was readable) */
	bool config_readable; /* beyond 64 bytes needs privilege */
	uint16_t acs_capability, acs_control; /* PCIe 6.0, 7.7.11 */
	uint8_t port_type; /* PCIe 6.0, 7.5.3.2; IOMMU_PORT_CONVENTIONAL: not PCI Express */
};
#define IOMMU_PORT_ROOT		0x4
#define IOMMU_PORT_UPSTREAM	0x5
#define IOMMU_PORT_DOWNSTREAM	0x6
#define IOMMU_PORT_TO_PCI	0x7 /* PCI Express to conventional PCI bridge */
#define IOMMU_PORT_FROM_PCI	0x8
#define IOMMU_PORT_CONVENTIONAL 0xfe /* a conventional PCI-to-PCI bridge */
#define IOMMU_PORT_UNKNOWN	0xff /* config was not readable so far */

struct iommu_group {
	unsigned id;
	char type[16]; /* "DMA", "DMA-FQ", "identity", "blocked", ... as sysfs says; "" unread */
	unsigned member_count, reserved_count, upstream_count;
	struct iommu_group_member members[IOMMU_GROUP_MEMBERS_MAX];
	struct iommu_reserved_region reserved[IOMMU_GROUP_RESERVED_MAX];
	struct iommu_upstream upstream[IOMMU_GROUP_UPSTREAM_MAX]; /* of @device */
};

/*
 * iommu_group_load() - read the group of @device.
 * @root: prefix of /sys and /proc; "" for the real ones, a folder in tests
 * @group: filled; on error left zeroed
 *
 * Returns 0; -ENOENT ("no-such-device"), -ENODEV ("no-iommu-group": the IOMMU is off or does not
 * cover the device), -E2BIG ("group-too-large"), or another -errno, with *e filled.
 */
int iommu_group_load(const char *root, const struct pci_address *device, struct iommu_group *group,
		     struct error *e);

/*
 * iommu_group_check_viable() - every member must be on a VFIO driver, driverless, or a bridge
 * (vfio.rst: "groups are the unit of ownership").
 *
 * Returns 0, or -EBUSY ("group-not-viable") naming each member in the way, its driver, the
 * upstream port without ACS that joined them, and the command that moves the whole group.
 */
int iommu_group_check_viable(const struct iommu_group *group, const struct pci_address *device,
			     struct error *e);

/*
 * iommu_precheck() - what the IOMMU side has to say of assigning @device: IOMMU present and
 * translating (kernel command line, /sys/class/iommu, group type), interrupt remapping,
 * pcie_acs_override, viability, ACS on the path, reserved regions. Appends to @findings; never
 * fails: what cannot be read is a finding.
 */
void iommu_precheck(const char *root, const struct pci_address *device, struct findings *findings);

/* ---- guest memory ------------------------------------------------------------------------ */

enum memory_bank_kind {
	MEMORY_BANK_RAM,      /* memfd-backed guest RAM; a failed DMA map of it is fatal */
	MEMORY_BANK_DEVICE,   /* a device's BAR (peer to peer); a failed DMA map is a warning */
	MEMORY_BANK_RESERVED, /* addresses that must stay empty; listeners are not told */
};

/* Where the pages of a bank of RAM come from. */
struct memory_backing {
	uint64_t huge_page; /* reserved pages (hugetlb) of 2 MiB or 1 GiB; 0: ordinary ones */
	int host_node;	    /* of this NUMA node only; -1: of any */
};

struct memory_bank {
	enum memory_bank_kind kind;
	uint64_t gpa, size; /* page-aligned */
	void *hva;
	int fd; /* memfd (borrowed by listeners), -1 where there is none */
	uint64_t fd_offset;
	struct memory_backing backing; /* RAM */
};

/* Who needs to know of banks (an IOMMU address space, a vfio-user peer, a software device). */
struct memory_listener {
	/*
	 * 0 or -errno with *e filled; called once for each bank, present and future. For a device
	 * bank, an error without text is one that need not be logged. Both callbacks run with the
	 * memory's lock held and may look banks of RAM up, but change nothing of it.
	 */
	int (*add)(struct memory_listener *listener, const struct memory_bank *bank,
		   struct error *e);
	/* only for banks that add() accepted; must not fail */
	void (*remove)(struct memory_listener *listener, const struct memory_bank *bank);
	struct memory_listener *next; /* private to guest_memory */
	uint64_t accepted;	      /* private to guest_memory: a bit for each bank */
};
#define MEMORY_BANKS_MAX 64

struct guest_memory; /* any thread may change it and look things up; create and destroy: one */

int guest_memory_create(struct guest_memory **out, struct error *e);
/* Removes every bank from every listener, then unmaps and closes. */
void guest_memory_destroy(struct guest_memory *memory);

/*
 * guest_memory_add_ram() - one memfd-backed bank of RAM, MAP_SHARED, madvised for huge pages, not
 * populated. Refuses an overlap (-EEXIST), a size beyond what the host has ("memory-too-large",
 * -ENOMEM; the fact is MemAvailable). When a listener refuses, those told before are told back and
 * the bank does not exist.
 */
int guest_memory_add_ram(struct guest_memory *memory, uint64_t gpa, uint64_t size, struct error *e);

/*
 * guest_memory_add_ram_on() - the same with pages of a kind, from a place. With huge pages, @gpa and @size
 * are made of whole ones, and those are set aside for the bank at once.
 * Errors besides: "huge-pages-short" and "node-memory-short" (how many there are and are needed, and the
 * next command), "no-huge-pages" (not of that size on this machine), "no-host-node".
 */
int guest_memory_add_ram_on(struct guest_memory *memory, uint64_t gpa, uint64_t size,
			    const struct memory_backing *backing, struct error *e);

/* guest_memory_add_reserved() - nothing is ever put there. Not removed before the end. */
int guest_memory_add_reserved(struct guest_memory *memory, uint64_t gpa, uint64_t size,
			      struct error *e);

/*
 * guest_memory_populate() - begin to take every page of all RAM from the host, zeroed, in the background: a
 * thread for each 64 MiB, no more than there are CPUs for this process, and 16 at most, each on
 * the CPUs of the node that it fills. No RAM may be added before it is finished.
 * memory_population_finish() - wait for the end (@give_up: stop instead, and return 0), and free.
 * Errors: "no-memory"; of the pages themselves "huge-pages-short" or "memory-not-populated".
 */
struct memory_population;
int guest_memory_populate(struct guest_memory *memory, struct memory_population **out,
			  struct error *e);
int memory_population_finish(struct memory_population *population, bool give_up, struct error *e);

/*
 * guest_memory_add_device(), guest_memory_remove_device() - a bank over memory somebody else owns.
 * A listener's refusal is logged as a warning and does not fail. @hva must stay until the bank is
 * removed, which takes it back from every listener before it returns.
 */
int guest_memory_add_device(struct guest_memory *memory, uint64_t gpa, uint64_t size, void *hva,
			    struct error *e);
void guest_memory_remove_device(struct guest_memory *memory, uint64_t gpa);

/*
 * guest_memory_listen() - tell @listener of all banks now, and of changes later. When one is
 * refused, those already told are told back and the listener is not kept.
 */
int guest_memory_listen(struct guest_memory *memory, struct memory_listener *listener,
			struct error *e);
void guest_memory_unlisten(struct guest_memory *memory, struct memory_listener *listener);

/* guest_memory_ptr() - @len bytes of RAM at @gpa within one bank, or NULL. Any thread. */
void *guest_memory_ptr(const struct guest_memory *memory, uint64_t gpa, uint64_t len);

/* guest_memory_bank() - the @index-th bank of RAM in order of address, or NULL. Any thread. */
const struct memory_bank *guest_memory_bank(const struct guest_memory *memory, unsigned index);

/* ---- address spaces ---------------------------------------------------------------------- */

enum iommu_kind {
	IOMMU_AUTO, /* iommufd where /dev/iommu and the devices' cdevs are there, else type1 */
	IOMMU_IOMMUFD,
	IOMMU_TYPE1,
	IOMMU_MOCK, /* tests: records maps, fails the n-th call */
};

#define IOMMU_PROT_READ	 1u
#define IOMMU_PROT_WRITE 2u

struct iommu_range {
	uint64_t start, last; /* inclusive */
};

struct iommu_space;

struct iommu_space_ops {
	const char *name;
	enum iommu_kind kind;
	/* All return 0 or -errno. @iova, @size and @vaddr are page-aligned. */
	int (*map)(struct iommu_space *space, uint64_t iova, uint64_t size, void *vaddr,
		   unsigned prot);
	/* map() of a part of a memory file; NULL where there is none, -ENOTTY: this kernel cannot */
	int (*map_file)(struct iommu_space *space, uint64_t iova, uint64_t size, int fd,
			uint64_t offset, unsigned prot);
	int (*unmap)(struct iommu_space *space, uint64_t iova, uint64_t size);
	/*
	 * @vfio_fd: a group fd (type1) or a device cdev fd (iommufd); borrowed, kept until detach.
	 * Device cdevs may be attached by several threads at once (it takes as long as the kernel's
	 * reset of the device), groups by one at a time; not while something is mapped.
	 */
	int (*attach)(struct iommu_space *space, int vfio_fd, struct error *e);
	void (*detach)(struct iommu_space *space, int vfio_fd);
	/* fills up to @max ranges the attached devices can address; returns how many or -errno */
	int (*ranges)(struct iommu_space *space, struct iommu_range *ranges, unsigned max);
	void (*destroy)(struct iommu_space *space);
};

/* The head of every backend; the backends embed it first. */
struct iommu_space {
	const struct iommu_space_ops *ops;
	struct memory_listener listener;
	unsigned long maps;		   /* live maps, for tests and for the log at exit */
	bool maps_no_bars;		   /* found out, and said */
	pthread_mutex_t vfio_lock;	   /* private to vfio/, which opens devices in parallel: */
	struct vfio_group *vfio_groups;	   /* the groups it has open here */
	const struct guest_memory *memory; /* what is followed, for messages; NULL when nothing */
};

/*
 * iommu_space_open() - open a backend.
 * @root: prefix of /dev (and /sys); "" for the real one
 * @kind: IOMMU_AUTO picks iommufd when ROOT/dev/iommu and ROOT/dev/vfio/devices exist
 *
 * Returns 0, or -errno: "no-iommufd", "no-vfio" (module not loaded), "permission-denied".
 */
int iommu_space_open(const char *root, enum iommu_kind kind, struct iommu_space **out,
		     struct error *e);
/*
 * iommu_space_mock() - the test backend: it records maps and refuses an overlap. Its @fail_at-th call
 * (1-based, 0 = never) of map, attach or ranges is -ENOMEM; unmap and detach are not counted, since
 * what was mapped can be unmapped. NULL when out of memory.
 */
struct iommu_space *iommu_space_mock(unsigned long fail_at);
/* iommu_mock_calls() - how many calls that can fail were made so far. */
unsigned long iommu_mock_calls(const struct iommu_space *space);
/* iommu_mock_lookup() - the host address that @iova reaches and with which prot; NULL: none. */
void *iommu_mock_lookup(const struct iommu_space *space, uint64_t iova, unsigned *prot);

/* iommu_space_close() - after every detach and unfollow. NULL is fine. */
void iommu_space_close(struct iommu_space *space);

/*
 * iommu_space_follow() - subscribe the space to guest memory: RAM is mapped read-write (failure is
 * fatal and undone: "dma-map-failed", or "memlock-too-small" with the limit and the bytes needed),
 * device banks are mapped where the backend can (failure is a warning).
 * A type1 space needs one group attached before, since the kernel chooses the IOMMU by it, and must
 * be unfollowed before its last group is detached, since the kernel drops all maps then.
 */
int iommu_space_follow(struct iommu_space *space, struct guest_memory *memory, struct error *e);
void iommu_space_unfollow(struct iommu_space *space, struct guest_memory *memory);

#endif
