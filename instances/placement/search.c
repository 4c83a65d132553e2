// SPDX-License-Identifier: Apache-2.0
/*
 * Where an instance goes. Entries of its type are placed one after the other, those that name a GPU first, whole GPUs before vGPUs; for
 * each there are candidates in the policy's order, and what turns out to be a dead end is taken back. A vGPU's candidates are GPUs; an
 * entry of whole GPUs has sets of them: behind one PCIe switch, else of one NUMA node, else any.
 *
 * The number of steps is bounded; a type and a machine that need more are refused as if nothing fitted.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/placement/private.h"

#define STEPS_MAX 4096

/* What a set of GPUs has in common: the bridge that is the root of their switch, a NUMA node, or nothing. */
enum nearness {
	SAME_SWITCH,
	SAME_NUMA,
	ANYWHERE
};

struct search {
	const struct placement_ledger *ledger;
	const struct instance_type *type;
	struct placement *out;
	unsigned order[TYPE_GPUS_MAX]; /* of entries */
	unsigned steps;
	bool bind_numa; /* CPUs and memory from the GPUs' node */
};

static const struct node_gpu *gpu_at(const struct search *s, unsigned index)
{
	return &s->ledger->node->gpus[index];
}

/* The part that entry @entry takes of GPU @index. */
static struct placement_part part_of(const struct search *s, unsigned entry, unsigned index)
{
	const struct type_gpu *wanted = &s->type->gpus[entry];
	struct placement_part part = { .entry = entry, .mode = wanted->mode };

	memcpy(part.gpu, gpu_at(s, index)->id, sizeof(part.gpu));
	if (wanted->mode == TYPE_DEDICATED) {
		const struct node_mdev_type *type =
			node_mdev_type_find(gpu_at(s, index), wanted->mdev_type);

		part.provider = wanted->provider;
		/* Where it has no such type: what was asked for, to say so. */
		if (wanted->provider == TYPE_MDEV)
			snprintf(part.mdev_type, sizeof(part.mdev_type), "%s",
				 type ? type->id : wanted->mdev_type);
		return part;
	}
	part.policy = wanted->policy;
	part.time_ppm = wanted->time_ppm;
	part.vram_mib = type_gpu_vram_mib(wanted, gpu_at(s, index)->vram_mib);
	part.users_max = wanted->users_max;
	for (unsigned i = 0; i <= entry; i++)
		if (s->type->gpus[i].mode == TYPE_SHARED) {
			/* All heads are the first vGPU's. */
			part.heads = i == entry ? s->type->display_count : 0;
			break;
		}
	return part;
}

static bool fits(const struct search *s, unsigned entry, unsigned index,
		 struct placement_refusal *refusal)
{
	const struct type_gpu *wanted = &s->type->gpus[entry];
	struct placement_part part = part_of(s, entry, index);
	struct placement_refusal ignored;

	return placement_selected(s->ledger, index, wanted) &&
	       placement_part_fits(s->ledger, index, wanted->selector, &part, s->out->parts,
				   s->out->part_count, refusal ? refusal : &ignored);
}

/* ---- NUMA ---------------------------------------------------------------------------------------------- */

/* The node of a GPU; on a machine with one node, or none, everything is there. -1: not known */
static int numa_of(const struct search *s, unsigned index)
{
	const struct node *node = s->ledger->node;

	if (node->numa_count == 1)
		return (int)node->numa[0].id;
	return gpu_at(s, index)->numa_node;
}

/* The node that all parts so far are on; -1: there is none. */
static int common_numa(const struct search *s)
{
	int common = -1;

	for (unsigned i = 0; i < s->out->part_count; i++) {
		const int index = placement_gpu_index(s->ledger, s->out->parts[i].gpu);
		const int numa = index < 0 ? -1 : numa_of(s, (unsigned)index);

		if (numa < 0 || (i && numa != common))
			return -1;
		common = numa;
	}
	return common;
}

/* Whether the whole instance would fit with CPUs and memory from node @numa. */
static bool numa_fits(const struct search *s, int numa)
{
	struct placement bound = *s->out;

	bound.numa_node = numa;
	return placement_numa_index(s->ledger, numa) >= 0 &&
	       placement_machine_fits(s->ledger, &bound, NULL);
}

/* The last step: CPUs and memory for the GPUs that were found. */
static bool settle(struct search *s)
{
	s->out->numa_node = -1;
	if (s->bind_numa) {
		const int numa = common_numa(s);

		if (numa < 0 && !s->ledger->node->numa_count)
			return true; /* a kernel without NUMA: everything is local */
		if (numa < 0 || !numa_fits(s, numa))
			return false;
		s->out->numa_node = numa;
	}
	return true;
}

static int64_t root_port(const struct node_gpu *gpu)
{
	const struct pci_address *top;

	if (!gpu->upstream_count)
		return -1;
	top = &gpu->upstream[gpu->upstream_count - 1];
	return (int64_t)top->domain << 16 | top->bus << 8 | top->device << 3 | top->function;
}

static bool together(const struct search *s, unsigned a, unsigned b, enum nearness nearness)
{
	switch (nearness) {
	case SAME_SWITCH:
		return root_port(gpu_at(s, a)) >= 0 &&
		       root_port(gpu_at(s, a)) == root_port(gpu_at(s, b)) &&
		       numa_of(s, a) == numa_of(s, b);
	case SAME_NUMA:
		return numa_of(s, a) >= 0 && numa_of(s, a) == numa_of(s, b);
	case ANYWHERE:
		break;
	}
	return true;
}

/* ---- the order of candidates -------------------------------------------------------------------------- */

struct candidate {
	unsigned index;
	uint64_t keys[5]; /* the smallest first */
};

static int candidate_order(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	for (unsigned i = 0; i < ARRAY_SIZE(x->keys); i++)
		if (x->keys[i] != y->keys[i])
			return x->keys[i] < y->keys[i] ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

static struct candidate for_share(const struct search *s, unsigned index)
{
	const struct placement_gpu_sum sum =
		placement_gpu_sum(s->ledger, index, s->out->parts, s->out->part_count);
	const uint64_t vram = gpu_at(s, index)->vram_mib;
	const uint64_t left = vram > sum.vram_mib ? vram - sum.vram_mib : 0;
	struct candidate c = { .index = index };

	switch (s->ledger->limits.policy) {
	case PLACEMENT_SPREAD:
		c.keys[0] = sum.users;
		c.keys[1] = sum.time_ppm;
		c.keys[2] = UINT64_MAX - left;
		break;
	case PLACEMENT_NUMA_FIRST:
	case PLACEMENT_PACK:
	case PLACEMENT_POLICIES:
		c.keys[0] = s->ledger->limits.policy == PLACEMENT_NUMA_FIRST &&
			    !numa_fits(s, numa_of(s, index));
		c.keys[1] = !sum.users;
		c.keys[2] = SCHED_PPM - MIN(sum.time_ppm, SCHED_PPM);
		c.keys[3] = left;
		c.keys[4] = UINT32_MAX - sum.users;
		break;
	}
	return c;
}

/* Mediated devices as vGPUs: on the fullest GPU, or on the emptiest. */
static struct candidate for_mdev(const struct search *s, unsigned entry, unsigned index)
{
	const struct placement_gpu_sum sum =
		placement_gpu_sum(s->ledger, index, s->out->parts, s->out->part_count);
	const uint64_t left =
		(uint64_t)MAX(placement_mdevs_left(s->ledger, index, s->type->gpus[entry].mdev_type,
						   s->out->parts, s->out->part_count),
			      0);
	struct candidate c = { .index = index };

	if (s->ledger->limits.policy == PLACEMENT_SPREAD) {
		c.keys[0] = sum.slices;
		c.keys[1] = UINT64_MAX - left;
		return c;
	}
	c.keys[0] = s->ledger->limits.policy == PLACEMENT_NUMA_FIRST &&
		    !numa_fits(s, numa_of(s, index));
	c.keys[1] = !sum.slices;
	c.keys[2] = left;
	return c;
}

/* The host's console where it is named, and what could serve vGPUs, last. */
static struct candidate for_whole(const struct search *s, unsigned index)
{
	const struct node_gpu *gpu = gpu_at(s, index);

	return (struct candidate){
		.index = index,
		.keys = { gpu->boot_vga, (gpu->providers & NODE_VULKAN) != 0 },
	};
}

/* A single GPU comes from the switch that has the fewest others free: pairs stay whole. Spread: the most. */
static void rank_switches(const struct search *s, struct candidate *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t others = 0;

		for (unsigned j = 0; j < count; j++)
			others += together(s, list[i].index, list[j].index, SAME_SWITCH);
		list[i].keys[2] = s->ledger->limits.policy == PLACEMENT_SPREAD
					  ? NODE_GPUS_MAX - others
					  : others;
	}
}

/* Whether an entry takes functions of the hardware, which go by sets. */
static bool takes_functions(const struct type_gpu *wanted)
{
	return wanted->mode == TYPE_DEDICATED && wanted->provider != TYPE_MDEV;
}

/* Those that fit entry @entry now, best first. Returns how many. */
static unsigned candidates(const struct search *s, unsigned entry,
			   struct candidate list[NODE_GPUS_MAX])
{
	const struct type_gpu *wanted = &s->type->gpus[entry];
	unsigned count = 0;

	for (unsigned i = 0; i < s->ledger->node->gpu_count; i++)
		if (fits(s, entry, i, NULL))
			list[count++] = takes_functions(wanted)	      ? for_whole(s, i)
					: wanted->mode == TYPE_SHARED ? for_share(s, i)
								      : for_mdev(s, entry, i);
	if (takes_functions(wanted))
		rank_switches(s, list, count);
	qsort(list, count, sizeof(*list), candidate_order);
	return count;
}

/* ---- placing ----------------------------------------------------------------------------------------------- */

static bool place(struct search *s, unsigned at);

static bool take_and_go_on(struct search *s, unsigned at, const unsigned *indexes, unsigned count)
{
	const unsigned before = s->out->part_count, entry = s->order[at];

	for (unsigned i = 0; i < count; i++)
		s->out->parts[s->out->part_count++] = part_of(s, entry, indexes[i]);
	if (place(s, at + 1))
		return true;
	s->out->part_count = before;
	return false;
}

static bool place_share(struct search *s, unsigned at)
{
	struct candidate list[NODE_GPUS_MAX];
	const unsigned count = candidates(s, s->order[at], list);

	for (unsigned i = 0; i < count; i++)
		if (take_and_go_on(s, at, &list[i].index, 1))
			return true;
	return false;
}

/* A set of GPUs that are together: those of list[first]. */
struct set {
	unsigned first, size;
};

/* The sets of at least @wanted, in the policy's order: the smallest that will do, or the largest. */
static unsigned sets(const struct search *s, const struct candidate *list, unsigned count,
		     unsigned wanted, enum nearness nearness, struct set *found)
{
	const bool largest = s->ledger->limits.policy == PLACEMENT_SPREAD;
	unsigned set_count = 0;

	for (unsigned i = 0; i < count; i++) {
		struct set set = { .first = i };
		bool seen = false;
		unsigned at;

		for (unsigned j = 0; j < count; j++) {
			const bool with =
				j == i || together(s, list[i].index, list[j].index, nearness);

			set.size += with;
			seen |= with && j < i;
		}
		if (seen || set.size < wanted)
			continue;
		for (at = set_count++; at; at--) {
			const bool better = largest ? set.size > found[at - 1].size
						    : set.size < found[at - 1].size;

			if (!better)
				break;
			found[at] = found[at - 1];
		}
		found[at] = set;
	}
	return set_count;
}

static bool place_sets(struct search *s, unsigned at, const struct candidate *list, unsigned count,
		       enum nearness nearness)
{
	const unsigned wanted = s->type->gpus[s->order[at]].count;
	struct set found[NODE_GPUS_MAX];
	const unsigned set_count = sets(s, list, count, wanted, nearness, found);

	for (unsigned i = 0; i < set_count; i++) {
		unsigned indexes[TYPE_GPU_COUNT_MAX] = { 0 }, n = 0;

		for (unsigned j = 0; j < count && n < wanted; j++)
			if (j == found[i].first ||
			    together(s, list[found[i].first].index, list[j].index, nearness))
				indexes[n++] = list[j].index;
		if (take_and_go_on(s, at, indexes, n))
			return true;
	}
	return false;
}

static bool place_whole(struct search *s, unsigned at)
{
	struct candidate list[NODE_GPUS_MAX];
	const unsigned count = candidates(s, s->order[at], list);

	if (s->type->gpus[s->order[at]].count > 1 && place_sets(s, at, list, count, SAME_SWITCH))
		return true;
	return place_sets(s, at, list, count, SAME_NUMA) ||
	       place_sets(s, at, list, count, ANYWHERE);
}

static bool place(struct search *s, unsigned at)
{
	if (++s->steps > STEPS_MAX)
		return false;
	if (at == s->type->gpu_count)
		return settle(s);
	return takes_functions(&s->type->gpus[s->order[at]]) ? place_whole(s, at)
							     : place_share(s, at);
}

/* ---- words ------------------------------------------------------------------------------------------------- */

static int nearest_first(const void *a, const void *b)
{
	const struct placement_refusal *x = a, *y = b;

	return (int)y->nearness - (int)x->nearness;
}

#define REFUSALS_MAX 16

/* Why entry @entry finds too few GPUs, the nearest miss first. Returns whether it does. */
static bool explain_entry(struct search *s, unsigned entry, struct findings *findings)
{
	const struct type_gpu *wanted = &s->type->gpus[entry];
	struct placement_refusal refusals[REFUSALS_MAX];
	unsigned good = 0, matching = 0, count = 0;

	for (unsigned i = 0; i < s->ledger->node->gpu_count; i++) {
		struct placement_refusal refusal = { 0 };

		if (fits(s, entry, i, &refusal))
			good++;
		else if (refusal.code && count < REFUSALS_MAX)
			refusals[count++] = refusal;
		matching += placement_selected(s->ledger, i, wanted);
	}
	if (good >= wanted->count)
		return false;
	if (!matching) {
		findings_add(findings, FINDING_BLOCKER, "no-gpu",
			     wanted->selector[0] ? "no GPU here is called that" : "there is no GPU",
			     "divvy list gpus", "%s: no GPU%s%s", s->type->name,
			     wanted->selector[0] ? " matches " : "", wanted->selector);
		return true;
	}
	if (wanted->count > 1)
		findings_add(findings, FINDING_BLOCKER, "gpus-short", "it takes more than are free",
			     "divvy list gpus", "%s: %u %s are asked for, %u can be had",
			     s->type->name, wanted->count,
			     wanted->provider == TYPE_SRIOV ? "virtual functions" : "whole GPUs",
			     good);
	/* A stable order: they were found in the node's. */
	for (unsigned i = 1; i < count; i++)
		for (unsigned j = i; j && nearest_first(&refusals[j - 1], &refusals[j]) > 0; j--) {
			const struct placement_refusal swap = refusals[j];

			refusals[j] = refusals[j - 1];
			refusals[j - 1] = swap;
		}
	for (unsigned i = 0; i < count; i++)
		placement_refusal_add(&refusals[i], findings);
	return true;
}

/* Every entry alone finds GPUs: it is their sum, or the NUMA node. */
static void explain_sum(struct search *s, struct findings *findings)
{
	if (s->steps > STEPS_MAX)
		findings_add(findings, FINDING_BLOCKER, "too-many-ways", "the search was given up",
			     "name GPUs in the type's selectors", "%s: more than %d ways to try",
			     s->type->name, STEPS_MAX);
	else if (s->bind_numa)
		findings_add(findings, FINDING_BLOCKER, "numa-short",
			     "numa: local wants GPUs, CPUs and memory of one NUMA node",
			     "a type with numa: any",
			     "%s: no NUMA node has the GPUs, %" PRIu64
			     " thousandths of a CPU and %" PRIu64 " MiB of memory free",
			     s->type->name, s->out->cpu_milli,
			     s->out->memory_mib + s->out->huge_count * (s->out->huge_page / MIB));
	else
		findings_add(findings, FINDING_BLOCKER, "gpus-short",
			     "what each of its entries finds alone, they do not find together",
			     "divvy list gpus", "%s: its %u entries of GPUs do not fit at once",
			     s->type->name, s->type->gpu_count);
}

/* What is not as good as it could be. */
static void notes(const struct search *s, struct findings *findings)
{
	unsigned whole[PLACEMENT_PARTS_MAX], count = 0;
	bool one_switch = true, one_numa = true;

	for (unsigned i = 0; i < s->out->part_count; i++) {
		const int index = placement_gpu_index(s->ledger, s->out->parts[i].gpu);

		if (s->out->parts[i].mode == TYPE_DEDICATED &&
		    s->out->parts[i].provider == TYPE_WHOLE && index >= 0)
			whole[count++] = (unsigned)index;
	}
	for (unsigned i = 1; i < count; i++) {
		one_switch &= together(s, whole[0], whole[i], SAME_SWITCH);
		one_numa &=
			together(s, whole[0], whole[i], SAME_NUMA) || !s->ledger->node->numa_count;
	}
	if (!one_numa)
		findings_add(findings, FINDING_NOTE, "gpus-several-nodes",
			     "what they send each other crosses between processors", NULL,
			     "%s: its GPUs are on several NUMA nodes", s->type->name);
	else if (!one_switch)
		findings_add(findings, FINDING_NOTE, "gpus-several-switches",
			     "what they send each other goes through the root complex", NULL,
			     "%s: its GPUs are not behind one PCIe switch", s->type->name);
	if (s->out->numa_node < 0 && s->ledger->node->numa_count > 1 &&
	    s->ledger->limits.policy == PLACEMENT_NUMA_FIRST)
		findings_add(findings, FINDING_NOTE, "numa-several",
			     "memory and CPUs may be far from its GPU", NULL,
			     "%s: no NUMA node has all of it free", s->type->name);
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

/* What an instance takes of the machine, wherever it goes. */
static void take_machine(const struct search *s)
{
	const struct placement_limits *limits = &s->ledger->limits;
	const struct instance_type *type = s->type;
	const uint64_t percent = MAX(type_is_dedicated(type) ? limits->cpu_percent_dedicated
							     : limits->cpu_percent_shared,
				     1u);
	unsigned vgpus = 0;

	for (unsigned i = 0; i < type->gpu_count; i++)
		vgpus += type->gpus[i].mode == TYPE_SHARED;
	*s->out = (struct placement){
		.numa_node = -1,
		.vcpus = type->vcpus,
		.cpu_milli = (type->vcpus * UINT64_C(100000) + percent - 1) / percent,
		.memory_mib = (type->huge_page ? 0 : type->memory_mib) +
			      limits->memory_overhead_mib + vgpus * limits->vgpu_overhead_mib,
		.huge_page = type->huge_page,
		.huge_count = type->huge_page ? type->memory_mib / (type->huge_page / MIB) : 0,
	};
}

/* Entries that name a GPU first, whole functions before what shares a GPU, then as they are written. */
static unsigned rank(const struct type_gpu *gpu)
{
	return (gpu->selector[0] ? 0 : 2) + !takes_functions(gpu);
}

static void order_entries(struct search *s)
{
	for (unsigned i = 0; i < s->type->gpu_count; i++) {
		unsigned at = i;

		for (; at && rank(&s->type->gpus[s->order[at - 1]]) > rank(&s->type->gpus[i]); at--)
			s->order[at] = s->order[at - 1];
		s->order[at] = i;
	}
}

static int part_order(const void *a, const void *b)
{
	const struct placement_part *x = a, *y = b;

	if (x->entry != y->entry)
		return x->entry < y->entry ? -1 : 1;
	return strcmp(x->gpu, y->gpu);
}

static bool find(struct search *s)
{
	const bool local = s->type->numa == TYPE_NUMA_LOCAL;
	const bool wish = !local && s->ledger->limits.policy == PLACEMENT_NUMA_FIRST &&
			  s->ledger->node->numa_count;

	s->bind_numa = local || wish;
	if (place(s, 0))
		return true;
	/* A wish that can't be had is none. */
	if (wish) {
		s->bind_numa = false;
		s->steps = 0;
		s->out->part_count = 0;
		return place(s, 0);
	}
	return false;
}

int placement_find(const struct placement_ledger *ledger, const struct instance_type *type,
		   struct placement *out, struct findings *findings)
{
	struct search s = { .ledger = ledger, .type = type, .out = out };
	bool machine, short_of_gpus = false;

	take_machine(&s);
	order_entries(&s);
	machine = placement_machine_fits(ledger, out, findings);
	if (machine && find(&s)) {
		qsort(out->parts, out->part_count, sizeof(out->parts[0]), part_order);
		notes(&s, findings);
		return 0;
	}
	out->part_count = 0;
	for (unsigned i = 0; i < type->gpu_count; i++)
		short_of_gpus |= explain_entry(&s, i, findings);
	if (machine && !short_of_gpus)
		explain_sum(&s, findings);
	return -ENOSPC;
}

int placement_fits(const struct placement_ledger *ledger, const struct placement *placement,
		   struct findings *findings)
{
	bool good = placement_machine_fits(ledger, placement, findings);

	for (unsigned i = 0; i < MIN(placement->part_count, PLACEMENT_PARTS_MAX); i++) {
		const struct placement_part *part = &placement->parts[i];
		const int index = placement_gpu_index(ledger, part->gpu);
		struct placement_refusal refusal = { 0 };

		if (index < 0) {
			findings_add(findings, FINDING_BLOCKER, "no-gpu",
				     "it is not in the machine", "divvy list gpus",
				     "%.60s: there is no such GPU", part->gpu);
			good = false;
		} else if (!placement_part_fits(ledger, (unsigned)index, NULL, part,
						placement->parts, i, &refusal)) {
			placement_refusal_add(&refusal, findings);
			good = false;
		}
	}
	return good ? 0 : -ENOSPC;
}
