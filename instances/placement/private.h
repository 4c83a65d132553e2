/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of instances/placement/ share with each other. */
#ifndef INSTANCES_PLACEMENT_PRIVATE_H
#define INSTANCES_PLACEMENT_PRIVATE_H

#include "instances/placement/placement.h"

/* What is taken of one GPU. */
struct placement_taken {
	unsigned whole; /* 1; more only where what runs was taken beyond the limits */
	unsigned
		slices; /* mediated devices of it, and what is handed out of its virtual functions */
	unsigned users, heads;
	unsigned waiters; /* users of what shares and baselines leave: weighted, equal_share */
	uint64_t time_ppm, vram_mib;
	/* How many wish for at most that many users, by number; [0] have no wish. */
	uint32_t wishes[TYPE_USERS_MAX + 1];
	/* Of each of its types of mediated devices, those that the inventory has not seen yet: what it says is available is less by them. */
	uint32_t mdevs[NODE_MDEV_TYPES];
};

/* CPUs, memory and pages: of the machine, or of a NUMA node. */
struct placement_amounts {
	uint64_t cpu_milli, memory_mib, huge_2m, huge_1g;
};

struct placement_state {
	unsigned instances;
	struct placement_amounts machine;
	struct placement_amounts numa[NODE_NUMA_MAX]; /* of instances that are bound to it */
};

struct placement_ledger {
	const struct node *node;
	struct placement_limits limits;
	struct placement_amounts machine_total, numa_total[NODE_NUMA_MAX];
	struct placement_state state, saved;
	enum placement_closed *closed; /* a GPU each, in the node's order, as the next two */
	struct placement_taken *gpus, *gpus_saved;
	int *physical;	      /* of a virtual function: the GPU that it is a part of; -1: none */
	bool hardware_shares; /* there is a GPU for vGPUs that is not the CPU */
};

/* Why a part does not fit; code NULL: it does. Ordered by how near it came. */
struct placement_refusal {
	const char *code, *meaning;
	unsigned nearness;
	char fact[256], next[128];
};

/* ---- fit.c ------------------------------------------------------------------------------------- */

/*
 * placement_part_fits() - whether @part fits GPU @index beside what is taken and beside @before, the parts of the same instance so far.
 * @selector: of the type's entry; NULL: not asked for
 */
bool placement_part_fits(const struct placement_ledger *ledger, unsigned index,
			 const char *selector, const struct placement_part *part,
			 const struct placement_part *before, unsigned before_count,
			 struct placement_refusal *refusal);
/* placement_machine_fits() - CPUs, memory, pages of the machine and of placement->numa_node. @findings: NULL for none */
bool placement_machine_fits(const struct placement_ledger *ledger,
			    const struct placement *placement, struct findings *findings);
void placement_refusal_add(const struct placement_refusal *refusal, struct findings *findings);
/* placement_gpu_index() - in the node's order; -1: not there. */
int placement_gpu_index(const struct placement_ledger *ledger, const char *id);
/* placement_numa_index() - of a node's number; -1: not there. */
int placement_numa_index(const struct placement_ledger *ledger, int numa);
/* placement_selected() - whether @selector names GPU @index; of a virtual function or a mediated device also by its physical function. */
bool placement_selected(const struct placement_ledger *ledger, unsigned index,
			const struct type_gpu *wanted);
/* placement_mdevs_left() - how many more mediated devices of @type GPU @index has, beside @before; -1: it has no such type. */
int placement_mdevs_left(const struct placement_ledger *ledger, unsigned index, const char *type,
			 const struct placement_part *before, unsigned before_count);
struct placement_amounts placement_amounts_of(const struct placement *placement);
/* Of a GPU with @before on it, too. */
struct placement_gpu_sum {
	unsigned users, heads, waiters, users_max, slices;
	uint64_t time_ppm, vram_mib;
	bool whole;
};
struct placement_gpu_sum placement_gpu_sum(const struct placement_ledger *ledger, unsigned index,
					   const struct placement_part *before,
					   unsigned before_count);

#endif
