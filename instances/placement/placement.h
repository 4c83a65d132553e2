/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: what a machine has, what is taken of it, and where an instance of a type would go, or why nowhere (docs/types.md). Private to instances/ and its tests.
 *
 * Pure: no I/O, no clock, no chance; the same calls give the same answers. All amounts are integers: parts of a million of a GPU's
 * time, MiB, pages, thousandths of a CPU. What an instance takes is written down in its struct placement, so that giving it back restores what was there
 * exactly, whatever limits hold by then. Allocates in placement_ledger_create() only. One thread at a time a ledger.
 */
#ifndef INSTANCES_PLACEMENT_PLACEMENT_H
#define INSTANCES_PLACEMENT_PLACEMENT_H

#include "instances/node/node.h"
#include "instances/types/types.h"

#define PLACEMENT_PARTS_MAX TYPE_GPU_COUNT_MAX

enum placement_policy {
	PLACEMENT_PACK,	      /* fullest first: whole GPUs stay free */
	PLACEMENT_SPREAD,     /* emptiest first: neighbours are few */
	PLACEMENT_NUMA_FIRST, /* where CPUs and memory of the GPU's NUMA node are left; then as PACK */
	PLACEMENT_POLICIES
};
const char *
placement_policy_name(enum placement_policy policy); /* "pack", "spread", "numa-first" */
int placement_policy_parse(const char *text, enum placement_policy *policy); /* 0 or -EINVAL */

struct placement_limits {
	enum placement_policy policy;
	/* vCPUs that 100 CPUs may carry: of instances with a whole GPU, and of the others. */
	unsigned cpu_percent_dedicated, cpu_percent_shared;
	unsigned cpus_reserved;	      /* for the host */
	uint64_t memory_reserved_mib; /* for the host */
	uint64_t
		memory_overhead_mib; /* an instance's VMM, beside its memory; its vGPUs have theirs besides: */
	uint64_t vgpu_overhead_mib;
	unsigned users_max; /* vGPUs on one GPU */
	unsigned heads_max; /* displays on one GPU */
	/* Of a GPU's time, what fixed shares and baselines must leave while weighted or equal_share vGPUs are there. */
	uint32_t left_min_ppm;
	bool allow_unisolated; /* whole GPUs although groups prove nothing (ACS override) or interrupts are not remapped */
};
/* placement_limits_default() - what holds where nothing is said; memory_reserved_mib depends on the machine. */
void placement_limits_default(const struct node *node, struct placement_limits *limits);

/* What an instance takes of one GPU. */
struct placement_part {
	char gpu[NODE_ID_SIZE];
	unsigned entry; /* of the type's gpus */
	enum type_mode mode;
	enum type_provider provider;	/* dedicated */
	char mdev_type[NODE_MDEV_SIZE]; /* mdev: as its folder in sysfs is called */
	char mdev[37]; /* mdev: its UUID, once the caller has chosen one; "": not yet */
	enum sched_policy policy;
	uint32_t time_ppm;
	uint64_t vram_mib;
	unsigned heads;
	unsigned users_max; /* 0: no wish */
};

/* What an instance takes: a reservation, to be kept as long as the instance is. */
struct placement {
	int numa_node; /* CPUs and memory from there; -1: from anywhere */
	unsigned vcpus;
	uint64_t cpu_milli;  /* thousandths of a CPU that it is accounted with */
	uint64_t memory_mib; /* of ordinary memory, overhead included */
	uint64_t huge_page;  /* bytes; 0: none */
	uint64_t huge_count; /* pages */
	unsigned part_count;
	struct placement_part parts[PLACEMENT_PARTS_MAX];
};

/* placement_json(), placement_from_json() - for the store and the API. NULL: out of memory; 0 or -EINVAL. */
json_t *placement_json(const struct placement *placement);
int placement_from_json(const json_t *json, struct placement *placement);

struct placement_ledger;

/*
 * placement_ledger_create() - nothing is taken yet.
 * @node: borrowed; must outlive the ledger. When the machine changes: a new ledger, all taken again
 * @limits: copied
 * Returns 0 or -ENOMEM.
 */
int placement_ledger_create(const struct node *node, const struct placement_limits *limits,
			    struct placement_ledger **out, struct error *e);
void placement_ledger_destroy(struct placement_ledger *ledger); /* NULL is fine */

/* Why nothing new goes to a GPU. */
enum placement_closed {
	PLACEMENT_OPEN,
	PLACEMENT_DRAINED,
	PLACEMENT_QUARANTINED,
};
/* placement_gpu_close() - or open it again. What is there stays. Returns 0 or -ENOENT. */
int placement_gpu_close(struct placement_ledger *ledger, const char *id,
			enum placement_closed closed);

/*
 * placement_find() - where an instance of @type would go. Nothing is taken yet.
 * @findings: what stands in the way (blockers), one a GPU or resource, each with what to do; or, with success, what is not as good as it could be (notes)
 * Returns 0 with *out, or -ENOSPC.
 */
int placement_find(const struct placement_ledger *ledger, const struct instance_type *type,
		   struct placement *out, struct findings *findings);
/*
 * placement_fits() - whether exactly @placement could be taken now: one that was found before, or that a share was changed in.
 * Returns 0, or -ENOSPC with blockers.
 */
int placement_fits(const struct placement_ledger *ledger, const struct placement *placement,
		   struct findings *findings);
/*
 * placement_take() - it is taken, even beyond the limits: what runs, runs. placement_release() - it is given back: the same one, once.
 * Returns 0, or -ENOENT when a GPU of it is not in the machine (the rest is accounted for).
 */
int placement_take(struct placement_ledger *ledger, const struct placement *placement);
void placement_release(struct placement_ledger *ledger, const struct placement *placement);

/*
 * placement_fits_count() - how many more instances of @type there can be, up to @max.
 * @findings: the blockers that stop the next one ("after 2 more: ..." where some fit); may be NULL
 * Leaves the ledger as it was. Returns the number.
 */
unsigned placement_fits_count(struct placement_ledger *ledger, const struct instance_type *type,
			      unsigned max, struct findings *findings);

/* What is taken of a GPU, and of the machine. */
struct placement_gpu_usage {
	bool whole;	 /* handed out as one; of a virtual function too */
	unsigned slices; /* virtual functions and mediated devices of it that are handed out */
	unsigned users, heads;
	uint32_t time_ppm; /* guaranteed; a whole one's is all of it, as is its memory */
	uint64_t vram_mib, vram_total_mib;
	enum placement_closed closed;
};
int placement_gpu_usage(const struct placement_ledger *ledger, const char *id,
			struct placement_gpu_usage *usage); /* 0 or -ENOENT */

struct placement_usage {
	unsigned instances;
	uint64_t cpu_milli, cpu_milli_total;
	uint64_t memory_mib, memory_total_mib;
	uint64_t huge_2m, huge_2m_total, huge_1g, huge_1g_total; /* pages */
};
void placement_usage(const struct placement_ledger *ledger, struct placement_usage *usage);

#endif
