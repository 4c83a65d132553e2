// SPDX-License-Identifier: Apache-2.0
/*
 * The books: what the machine has, what is taken of it, and by how many. Only sums are kept; who took what is written in each
 * instance's struct placement, and giving it back subtracts the same numbers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/placement/private.h"

static const char *const policy_names[PLACEMENT_POLICIES] = { "pack", "spread", "numa-first" };

const char *placement_policy_name(enum placement_policy policy)
{
	return policy < PLACEMENT_POLICIES ? policy_names[policy] : "unknown";
}

int placement_policy_parse(const char *text, enum placement_policy *policy)
{
	for (unsigned i = 0; i < PLACEMENT_POLICIES; i++)
		if (!strcmp(text, policy_names[i])) {
			*policy = (enum placement_policy)i;
			return 0;
		}
	return -EINVAL;
}

void placement_limits_default(const struct node *node, struct placement_limits *limits)
{
	*limits = (struct placement_limits){
		.policy = PLACEMENT_PACK,
		.cpu_percent_dedicated = 100,
		.cpu_percent_shared = 400,
		.memory_reserved_mib = MIN(MAX(node->memory_mib / 16, 512u), 8192u),
		.memory_overhead_mib = 64,
		.vgpu_overhead_mib = 256,
		.users_max = 64,
		.heads_max = 100,
		.left_min_ppm = 50000,
	};
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t huge_mib(const struct node_huge_pages *huge_2m,
			 const struct node_huge_pages *huge_1g)
{
	return huge_2m->total * 2 + huge_1g->total * 1024;
}

static void totals(struct placement_ledger *ledger)
{
	const struct node *node = ledger->node;

	ledger->machine_total = (struct placement_amounts){
		.cpu_milli = less(node->cpu_count, ledger->limits.cpus_reserved) * 1000,
		.memory_mib = less(node->memory_mib, huge_mib(&node->huge_2m, &node->huge_1g) +
							     ledger->limits.memory_reserved_mib),
		.huge_2m = node->huge_2m.total,
		.huge_1g = node->huge_1g.total,
	};
	for (unsigned i = 0; i < node->numa_count; i++) {
		const struct node_numa *numa = &node->numa[i];

		ledger->numa_total[i] = (struct placement_amounts){
			.cpu_milli = (uint64_t)numa->cpu_count * 1000,
			.memory_mib =
				less(numa->memory_mib, huge_mib(&numa->huge_2m, &numa->huge_1g)),
			.huge_2m = numa->huge_2m.total,
			.huge_1g = numa->huge_1g.total,
		};
	}
	for (unsigned i = 0; i < node->gpu_count; i++) {
		const struct node_gpu *physical = node_gpu_physical(node, &node->gpus[i]);

		ledger->physical[i] = physical ? (int)(physical - node->gpus) : -1;
		ledger->hardware_shares |=
			(node->gpus[i].providers & NODE_VULKAN || node->gpus[i].vulkan_name[0]) &&
			!node->gpus[i].software;
	}
}

int placement_ledger_create(const struct node *node, const struct placement_limits *limits,
			    struct placement_ledger **out, struct error *e)
{
	const size_t count = node->gpu_count;
	struct placement_ledger *ledger;
	char *memory;

	memory = calloc(1, sizeof(*ledger) + count * (2 * sizeof(*ledger->gpus)) +
				   count * (sizeof(*ledger->closed) + sizeof(*ledger->physical)));
	if (!memory)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for the ledger");
	ledger = (void *)memory;
	ledger->gpus = (void *)(memory + sizeof(*ledger));
	ledger->gpus_saved = ledger->gpus + count;
	ledger->closed = (void *)(ledger->gpus_saved + count);
	ledger->physical = (void *)(ledger->closed + count);
	ledger->node = node;
	ledger->limits = *limits;
	totals(ledger);
	*out = ledger;
	return 0;
}

void placement_ledger_destroy(struct placement_ledger *ledger)
{
	free(ledger);
}

int placement_gpu_index(const struct placement_ledger *ledger, const char *id)
{
	for (unsigned i = 0; i < ledger->node->gpu_count; i++)
		if (!strcmp(ledger->node->gpus[i].id, id))
			return (int)i;
	return -1;
}

int placement_numa_index(const struct placement_ledger *ledger, int numa)
{
	for (unsigned i = 0; i < ledger->node->numa_count; i++)
		if ((int)ledger->node->numa[i].id == numa)
			return (int)i;
	return -1;
}

int placement_gpu_close(struct placement_ledger *ledger, const char *id,
			enum placement_closed closed)
{
	const int index = placement_gpu_index(ledger, id);

	if (index < 0)
		return -ENOENT;
	ledger->closed[index] = closed;
	return 0;
}

/* ---- taking and giving back ----------------------------------------------------------------------- */

struct placement_amounts placement_amounts_of(const struct placement *placement)
{
	return (struct placement_amounts){
		.cpu_milli = placement->cpu_milli,
		.memory_mib = placement->memory_mib,
		.huge_2m = placement->huge_page == 2 * MIB ? placement->huge_count : 0,
		.huge_1g = placement->huge_page == GIB ? placement->huge_count : 0,
	};
}

/* @sign: 1 or -1; unsigned arithmetic makes the two undo each other whatever the numbers are. */
static void amounts_add(struct placement_amounts *sum, const struct placement_amounts *amounts,
			int sign)
{
	const uint64_t s = (uint64_t)(int64_t)sign;

	sum->cpu_milli += s * amounts->cpu_milli;
	sum->memory_mib += s * amounts->memory_mib;
	sum->huge_2m += s * amounts->huge_2m;
	sum->huge_1g += s * amounts->huge_1g;
}

static bool waits(const struct placement_part *part)
{
	return part->policy == SCHED_WEIGHTED || part->policy == SCHED_EQUAL_SHARE;
}

static bool is_there(const struct placement_ledger *ledger, const char *mdev)
{
	for (unsigned i = 0; i < ledger->node->mdev_count; i++)
		if (!strcmp(ledger->node->mdevs[i].uuid, mdev))
			return true;
	return false;
}

/* What is not a GPU's time and memory: all of it, or a slice that its hardware or its driver makes. */
static void device_add(struct placement_ledger *ledger, unsigned gpu,
		       const struct placement_part *part, unsigned s)
{
	const struct node_gpu *of = &ledger->node->gpus[gpu];
	const struct node_mdev_type *type;

	if (part->provider != TYPE_MDEV)
		ledger->gpus[gpu].whole += s;
	else
		ledger->gpus[gpu].slices += s;
	if (part->provider != TYPE_WHOLE && ledger->physical[gpu] >= 0)
		ledger->gpus[ledger->physical[gpu]].slices += s;
	type = part->provider == TYPE_MDEV ? node_mdev_type_find(of, part->mdev_type) : NULL;
	if (type && !is_there(ledger, part->mdev))
		ledger->gpus[gpu].mdevs[type - of->mdev_types] += s;
}

static void part_add(struct placement_ledger *ledger, unsigned gpu,
		     const struct placement_part *part, int sign)
{
	struct placement_taken *taken = &ledger->gpus[gpu];
	const unsigned s = (unsigned)sign;

	if (part->mode == TYPE_DEDICATED) {
		device_add(ledger, gpu, part, s);
		return;
	}
	taken->users += s;
	taken->waiters += waits(part) ? s : 0;
	taken->heads += s * part->heads;
	taken->time_ppm += (uint64_t)(int64_t)sign * part->time_ppm;
	taken->vram_mib += (uint64_t)(int64_t)sign * part->vram_mib;
	taken->wishes[MIN(part->users_max, TYPE_USERS_MAX)] += s;
}

static int add(struct placement_ledger *ledger, const struct placement *placement, int sign)
{
	const struct placement_amounts amounts = placement_amounts_of(placement);
	const int numa = placement_numa_index(ledger, placement->numa_node);
	int err = 0;

	ledger->state.instances += (unsigned)sign;
	amounts_add(&ledger->state.machine, &amounts, sign);
	if (numa >= 0)
		amounts_add(&ledger->state.numa[numa], &amounts, sign);
	for (unsigned i = 0; i < MIN(placement->part_count, PLACEMENT_PARTS_MAX); i++) {
		const int gpu = placement_gpu_index(ledger, placement->parts[i].gpu);

		if (gpu >= 0)
			part_add(ledger, (unsigned)gpu, &placement->parts[i], sign);
		else
			err = -ENOENT;
	}
	return err;
}

int placement_take(struct placement_ledger *ledger, const struct placement *placement)
{
	return add(ledger, placement, 1);
}

void placement_release(struct placement_ledger *ledger, const struct placement *placement)
{
	add(ledger, placement, -1);
}

/* What stops the next one is so only once those before it are there. */
static void after_more(struct findings *why, unsigned count)
{
	char fact[sizeof(why->items[0].fact)];

	for (unsigned i = 0; i < why->count; i++) {
		memcpy(fact, why->items[i].fact, sizeof(fact));
		snprintf(why->items[i].fact, sizeof(fact), "after %u more: %.*s", count,
			 (int)sizeof(fact) - 32, fact);
	}
}

unsigned placement_fits_count(struct placement_ledger *ledger, const struct instance_type *type,
			      unsigned max, struct findings *findings)
{
	const size_t gpus = ledger->node->gpu_count * sizeof(*ledger->gpus);
	struct findings ignored, *why = findings ? findings : &ignored;
	struct placement placement;
	unsigned count = 0;

	ledger->saved = ledger->state;
	memcpy(ledger->gpus_saved, ledger->gpus, gpus);
	for (; count < max; count++) {
		why->count = 0;
		if (placement_find(ledger, type, &placement, why))
			break;
		placement_take(ledger, &placement);
	}
	ledger->state = ledger->saved;
	memcpy(ledger->gpus, ledger->gpus_saved, gpus);
	if (count == max)
		why->count = 0;
	else if (count)
		after_more(why, count);
	return count;
}

/* ---- what is taken ------------------------------------------------------------------------------------ */

int placement_gpu_usage(const struct placement_ledger *ledger, const char *id,
			struct placement_gpu_usage *usage)
{
	const int index = placement_gpu_index(ledger, id);
	const struct placement_taken *taken;

	if (index < 0)
		return -ENOENT;
	taken = &ledger->gpus[index];
	*usage = (struct placement_gpu_usage){
		.whole = taken->whole > 0,
		.slices = taken->slices,
		.users = taken->users,
		.heads = taken->heads,
		.time_ppm = taken->whole ? SCHED_PPM : (uint32_t)MIN(taken->time_ppm, UINT32_MAX),
		.vram_mib = taken->whole ? ledger->node->gpus[index].vram_mib : taken->vram_mib,
		.vram_total_mib = ledger->node->gpus[index].vram_mib,
		.closed = ledger->closed[index],
	};
	return 0;
}

void placement_usage(const struct placement_ledger *ledger, struct placement_usage *usage)
{
	const struct placement_amounts *taken = &ledger->state.machine;
	const struct placement_amounts *total = &ledger->machine_total;

	*usage = (struct placement_usage){
		.instances = ledger->state.instances,
		.cpu_milli = taken->cpu_milli,
		.cpu_milli_total = total->cpu_milli,
		.memory_mib = taken->memory_mib,
		.memory_total_mib = total->memory_mib,
		.huge_2m = taken->huge_2m,
		.huge_2m_total = total->huge_2m,
		.huge_1g = taken->huge_1g,
		.huge_1g_total = total->huge_1g,
	};
}
