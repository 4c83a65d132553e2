// SPDX-License-Identifier: Apache-2.0
/*
 * Placement: made-up machines, types and sequences, each step held against a second book that is kept in the simplest way there is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/placement/private.h"

#define LIVE_MAX 400

static uint64_t seed;

static unsigned chance(unsigned below)
{
	/* xorshift64* (Vigna) */
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (unsigned)((seed * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

/* ---- machines and types ---------------------------------------------------------------------------- */

static struct node *make_node(unsigned gpus, unsigned numa)
{
	struct node *node = calloc(1, sizeof(*node));

	assert_non_null(node);
	node->cpu_count = 64;
	node->memory_mib = UINT64_C(512) * 1024;
	node->interrupt_remapping = true;
	node->numa_count = numa;
	for (unsigned i = 0; i < numa; i++) {
		node->numa[i] = (struct node_numa){ .id = i,
						    .cpu_count = 64 / numa,
						    .memory_mib = node->memory_mib / numa };
	}
	node->gpu_count = gpus;
	node->gpus = calloc(gpus + 1, sizeof(*node->gpus));
	assert_non_null(node->gpus);
	for (unsigned i = 0; i < gpus; i++) {
		struct node_gpu *gpu = &node->gpus[i];

		snprintf(gpu->id, sizeof(gpu->id), "pci-0000:%02x:00.0", i + 1);
		snprintf(gpu->name, sizeof(gpu->name), "NVIDIA Corporation GH100 [H100 SXM5 80GB]");
		gpu->address = (struct pci_address){ .bus = (uint8_t)(i + 1) };
		gpu->has_address = true;
		gpu->vendor = 0x10de;
		gpu->device = 0x2330;
		gpu->assignable = gpu->isolated = true;
		gpu->numa_node = numa ? (int)(i * numa / gpus) : -1;
		gpu->vram_mib = 81559;
		gpu->providers = NODE_WHOLE | NODE_VULKAN;
		/* Two behind each switch. */
		gpu->upstream_count = 2;
		gpu->upstream[0] = (struct pci_address){ .bus = (uint8_t)(0x80 + i) };
		gpu->upstream[1] = (struct pci_address){ .device = (uint8_t)(i / 2 + 1) };
	}
	return node;
}

static struct node *random_node(void)
{
	struct node *node = make_node(chance(9), chance(4));

	node->cpu_count = 1 + chance(64);
	node->memory_mib = 4096 + chance(200000);
	node->huge_2m.total = chance(3) ? 0 : chance(8192);
	node->huge_1g.total = chance(3) ? 0 : chance(32);
	node->interrupt_remapping = chance(8) != 0;
	for (unsigned i = 0; i < node->numa_count; i++) {
		node->numa[i].cpu_count = chance(64);
		node->numa[i].memory_mib = chance(200000);
		node->numa[i].huge_2m.total = chance(4096);
		node->numa[i].huge_1g.total = chance(16);
	}
	for (unsigned i = 0; i < node->gpu_count; i++) {
		struct node_gpu *gpu = &node->gpus[i];

		gpu->assignable = chance(6) != 0;
		gpu->isolated = gpu->assignable && chance(8);
		gpu->providers = chance(5) ? NODE_VULKAN : 0;
		gpu->vram_mib = chance(7) ? 1024 + chance(81559) : chance(3);
		gpu->software = !chance(6);
		gpu->is_virtual_function = !chance(8);
		gpu->boot_vga = !chance(5);
		gpu->numa_node = (int)chance(node->numa_count + 1) - 1;
		gpu->upstream_count = chance(3);
		gpu->upstream[0].device = gpu->upstream[1].device = (uint8_t)chance(4);
		if (gpu->software)
			gpu->has_address = false;
	}
	return node;
}

static struct instance_type shared_type(uint32_t ppm, enum sched_policy policy)
{
	struct instance_type type = { .name = "t", .vcpus = 2, .memory_mib = 1024, .gpu_count = 1 };

	type.gpus[0] = (struct type_gpu){
		.mode = TYPE_SHARED, .count = 1, .policy = policy, .partition_ppm = ppm
	};
	if (policy == SCHED_FIXED_SHARE || policy == SCHED_BURST)
		type.gpus[0].time_ppm = ppm;
	return type;
}

static struct instance_type whole_type(unsigned count)
{
	struct instance_type type = { .name = "d", .vcpus = 2, .memory_mib = 1024, .gpu_count = 1 };

	type.gpus[0] = (struct type_gpu){ .mode = TYPE_DEDICATED, .count = count };
	return type;
}

static struct instance_type random_type(const struct node *node)
{
	struct instance_type type = shared_type(1 + chance(chance(2) ? 150000 : 700000),
						(enum sched_policy)chance(SCHED_POLICIES));

	type.gpu_count = 1 + (chance(3) ? 0 : chance(3));
	type.vcpus = 1 + chance(chance(2) ? 3 : 16);
	type.memory_mib = 1024u * (1 + chance(chance(2) ? 3 : 32));
	type.huge_page = chance(4) ? 0 : chance(2) ? 2 * MIB : GIB;
	type.numa = chance(3) ? TYPE_NUMA_ANY : TYPE_NUMA_LOCAL;
	type.display_count = chance(TYPE_DISPLAYS_MAX + 1);
	for (unsigned i = 0; i < type.gpu_count; i++) {
		struct type_gpu *gpu = &type.gpus[i];

		*gpu = type.gpus[0];
		if (!chance(3))
			*gpu = whole_type(1 + chance(3)).gpus[0];
		else if (!chance(3))
			gpu->users_max = 1 + chance(12);
		if (!chance(4) && node->gpu_count)
			strcpy(gpu->selector, node->gpus[chance(node->gpu_count)].id);
		else if (!chance(8))
			strcpy(gpu->selector, chance(2) ? "H100" : "software");
	}
	return type;
}

/* ---- the second book -------------------------------------------------------------------------------- */

struct live {
	struct placement placement;
	struct instance_type type;
};

static unsigned placed, refused, counted;
static struct live live[LIVE_MAX];
static unsigned live_count;

static const struct node_gpu *gpu_of(const struct node *node, const struct placement_part *part)
{
	for (unsigned i = 0; i < node->gpu_count; i++)
		if (!strcmp(node->gpus[i].id, part->gpu))
			return &node->gpus[i];
	fail_msg("%s is not in the machine", part->gpu);
	return NULL;
}

static bool waits(const struct placement_part *part)
{
	return part->mode == TYPE_SHARED &&
	       (part->policy == SCHED_WEIGHTED || part->policy == SCHED_EQUAL_SHARE);
}

static void check_gpu(const struct node_gpu *gpu, const struct placement_limits *limits)
{
	uint64_t time = 0, vram = 0;
	unsigned whole = 0, users = 0, heads = 0, waiters = 0, most = limits->users_max;

	for (unsigned i = 0; i < live_count; i++)
		for (unsigned j = 0; j < live[i].placement.part_count; j++) {
			const struct placement_part *part = &live[i].placement.parts[j];

			if (strcmp(part->gpu, gpu->id) != 0)
				continue;
			if (part->mode == TYPE_DEDICATED) {
				whole++;
				continue;
			}
			users++;
			waiters += waits(part);
			heads += part->heads;
			time += part->time_ppm;
			vram += part->vram_mib;
			if (part->users_max && part->users_max < most)
				most = part->users_max;
		}
	assert_true(whole <= 1);
	assert_true(!whole || !users);
	assert_true(users <= most);
	assert_true(heads <= limits->heads_max);
	assert_true(time <= SCHED_PPM - (waiters ? limits->left_min_ppm : 0));
	assert_true(vram <= gpu->vram_mib);
}

static void check_machine(const struct node *node, const struct placement_limits *limits, int numa)
{
	uint64_t cpu = 0, memory = 0, huge_2m = 0, huge_1g = 0, cpus, all;

	for (unsigned i = 0; i < live_count; i++) {
		const struct placement *p = &live[i].placement;

		if (numa >= 0 && p->numa_node != numa)
			continue;
		cpu += p->cpu_milli;
		memory += p->memory_mib;
		huge_2m += p->huge_page == 2 * MIB ? p->huge_count : 0;
		huge_1g += p->huge_page == GIB ? p->huge_count : 0;
	}
	cpus = numa < 0 ? node->cpu_count : node->numa[numa].cpu_count;
	all = numa < 0 ? node->memory_mib : node->numa[numa].memory_mib;
	assert_true(cpu <= cpus * 1000);
	assert_true(memory <= all);
	assert_true(huge_2m <= (numa < 0 ? node->huge_2m : node->numa[numa].huge_2m).total);
	assert_true(huge_1g <= (numa < 0 ? node->huge_1g : node->numa[numa].huge_1g).total);
	if (numa < 0)
		assert_true(!memory || memory + node->huge_2m.total * 2 +
						       node->huge_1g.total * 1024 +
						       limits->memory_reserved_mib <=
					       all);
}

static void check_all(const struct node *node, const struct placement_limits *limits)
{
	for (unsigned i = 0; i < node->gpu_count; i++)
		check_gpu(&node->gpus[i], limits);
	check_machine(node, limits, -1);
	for (unsigned i = 0; i < node->numa_count; i++)
		check_machine(node, limits, (int)i);
}

/* That what was found is what was asked for. */
static void check_found(const struct node *node, const struct placement_ledger *ledger,
			const struct instance_type *type, const struct placement *found)
{
	unsigned parts = 0, heads = 0, shared = 0;

	for (unsigned i = 0; i < type->gpu_count; i++) {
		parts += type->gpus[i].count;
		shared += type->gpus[i].mode == TYPE_SHARED;
	}
	assert_int_equal(found->part_count, parts);
	for (unsigned i = 0; i < found->part_count; i++) {
		const struct placement_part *part = &found->parts[i];
		const struct node_gpu *gpu = gpu_of(node, part);
		const struct type_gpu *wanted = &type->gpus[part->entry];
		struct placement_gpu_usage usage;

		assert_int_equal(part->mode, wanted->mode);
		assert_true(node_gpu_matches(gpu, wanted->selector));
		assert_int_equal(placement_gpu_usage(ledger, gpu->id, &usage), 0);
		assert_int_equal(usage.closed, PLACEMENT_OPEN);
		heads += part->heads;
		if (found->numa_node >= 0 && node->numa_count > 1)
			assert_int_equal(gpu->numa_node, found->numa_node);
		if (part->mode == TYPE_DEDICATED)
			assert_true(gpu->assignable);
		else
			assert_true(gpu->providers & NODE_VULKAN);
	}
	assert_int_equal(heads, shared ? type->display_count : 0);
	if (type->numa == TYPE_NUMA_LOCAL && node->numa_count)
		assert_true(found->numa_node >= 0);
}

static bool same_books(const struct placement_ledger *ledger, const struct placement_state *state,
		       const struct placement_taken *gpus)
{
	return !memcmp(&ledger->state, state, sizeof(*state)) &&
	       !memcmp(ledger->gpus, gpus, ledger->node->gpu_count * sizeof(*gpus));
}

/* How-many-more is what then succeeds, and asking changes nothing. */
static void check_count(struct placement_ledger *ledger, const struct instance_type *type)
{
	static struct placement taken[64];
	static struct findings findings;
	const struct placement_state state = ledger->state;
	const size_t size = (ledger->node->gpu_count + 1) * sizeof(struct placement_taken);
	struct placement_taken *gpus = malloc(size);
	unsigned count, done = 0;

	assert_non_null(gpus);
	memcpy(gpus, ledger->gpus, ledger->node->gpu_count * sizeof(*gpus));
	findings.count = 0;
	count = placement_fits_count(ledger, type, ARRAY_SIZE(taken), &findings);
	assert_true(same_books(ledger, &state, gpus));
	if (count < ARRAY_SIZE(taken))
		assert_true(findings_blockers(&findings) > 0);
	counted += count;
	while (done < ARRAY_SIZE(taken)) {
		findings.count = 0;
		if (placement_find(ledger, type, &taken[done], &findings))
			break;
		assert_int_equal(placement_take(ledger, &taken[done++]), 0);
	}
	assert_int_equal(done, count);
	/* Given back in another order than taken. */
	for (unsigned i = 0; i < done; i++)
		placement_release(ledger, &taken[i]);
	assert_true(same_books(ledger, &state, gpus));
	free(gpus);
}

/* For one vGPU without further wishes: whether any GPU has room, by the second book's sums. */
static bool room_for_one(const struct node *node, const struct placement_limits *limits,
			 const struct placement_ledger *ledger, const struct instance_type *type)
{
	const struct type_gpu *wanted = &type->gpus[0];
	bool hardware = false, room = false;

	for (unsigned i = 0; i < node->gpu_count; i++)
		hardware |= node->gpus[i].providers & NODE_VULKAN && !node->gpus[i].software;
	for (unsigned i = 0; i < node->gpu_count; i++) {
		const struct node_gpu *gpu = &node->gpus[i];
		const uint64_t vram = type_gpu_vram_mib(wanted, gpu->vram_mib);
		struct placement_gpu_usage usage;
		unsigned waiters =
			wanted->policy == SCHED_WEIGHTED || wanted->policy == SCHED_EQUAL_SHARE;
		unsigned most = limits->users_max;

		assert_int_equal(placement_gpu_usage(ledger, gpu->id, &usage), 0);
		for (unsigned j = 0; j < live_count; j++)
			for (unsigned k = 0; k < live[j].placement.part_count; k++) {
				const struct placement_part *part = &live[j].placement.parts[k];

				if (strcmp(part->gpu, gpu->id) != 0)
					continue;
				waiters += waits(part);
				if (part->users_max && part->users_max < most)
					most = part->users_max;
			}
		room |= gpu->providers & NODE_VULKAN && (!gpu->software || !hardware) &&
			!usage.closed && !usage.whole && usage.users < most && vram &&
			usage.heads + type->display_count <= limits->heads_max &&
			usage.vram_mib + vram <= gpu->vram_mib &&
			usage.time_ppm + wanted->time_ppm <=
				SCHED_PPM - (waiters ? limits->left_min_ppm : 0);
	}
	return room;
}

static void one_life(unsigned steps)
{
	static struct findings findings;
	struct node *node = random_node();
	struct placement_ledger *ledger;
	struct placement_limits limits;
	struct error e;

	placement_limits_default(node, &limits);
	limits.policy = (enum placement_policy)chance(PLACEMENT_POLICIES);
	limits.users_max = 1 + chance(30);
	limits.heads_max = chance(60);
	limits.allow_unisolated = chance(2);
	limits.memory_reserved_mib = chance(2) ? 0 : limits.memory_reserved_mib;
	assert_int_equal(placement_ledger_create(node, &limits, &ledger, &e), 0);
	live_count = 0;
	for (unsigned step = 0; step < steps; step++) {
		const struct instance_type type = random_type(node);
		struct placement found, again;

		if (live_count && !chance(3)) {
			const unsigned which = chance(live_count);

			placement_release(ledger, &live[which].placement);
			live[which] = live[--live_count];
			continue;
		}
		if (node->gpu_count && !chance(10))
			placement_gpu_close(ledger, node->gpus[chance(node->gpu_count)].id,
					    (enum placement_closed)chance(3));
		if (!chance(4))
			check_count(ledger, &type);
		findings.count = 0;
		if (placement_find(ledger, &type, &found, &findings)) {
			refused++;
			assert_true(findings_blockers(&findings) > 0);
			/* A simple wish is refused for a reason only. */
			if (type.gpu_count == 1 && type.gpus[0].mode == TYPE_SHARED &&
			    !type.gpus[0].selector[0] && !type.gpus[0].users_max &&
			    type.numa == TYPE_NUMA_ANY &&
			    placement_machine_fits(ledger, &found, NULL))
				assert_false(room_for_one(node, &limits, ledger, &type));
			continue;
		}
		assert_int_equal(findings_blockers(&findings), 0);
		assert_int_equal(placement_find(ledger, &type, &again, &findings), 0);
		assert_memory_equal(&found, &again, sizeof(found));
		findings.count = 0;
		assert_int_equal(placement_fits(ledger, &found, &findings), 0);
		check_found(node, ledger, &type, &found);
		if (live_count == LIVE_MAX)
			continue;
		assert_int_equal(placement_take(ledger, &found), 0);
		placed++;
		live[live_count++] = (struct live){ found, type };
		check_all(node, &limits);
	}
	while (live_count)
		placement_release(ledger, &live[--live_count].placement);
	{
		struct placement_ledger *fresh;

		assert_int_equal(placement_ledger_create(node, &limits, &fresh, &e), 0);
		assert_true(same_books(ledger, &fresh->state, fresh->gpus));
		placement_ledger_destroy(fresh);
	}
	placement_ledger_destroy(ledger);
	node_free(node);
}

static void no_sequence_breaks_a_limit(void **state)
{
	const char *from = getenv("DIVVY_SEED"), *lives = getenv("DIVVY_LIVES");
	const unsigned first = from ? (unsigned)strtoul(from, NULL, 10) : 1;
	const unsigned count = lives ? (unsigned)strtoul(lives, NULL, 10) : 300;

	for (unsigned i = 0; i < count; i++) {
		seed = (first + i) * UINT64_C(0x9e3779b97f4a7c15);
		one_life(200);
	}
	print_message("seeds from %u on: %u placed, %u refused, %u counted\n", first, placed,
		      refused, counted);
	/* It has to have met both answers often. */
	assert_true(placed > 10 * count && refused > 10 * count && counted > 10 * count);
}

/* ---- what single cases promise --------------------------------------------------------------------- */

static struct node *node;
static struct placement_ledger *ledger;
static struct placement_limits limits;
static struct placement placement;
static struct findings findings;

static void open_books(unsigned gpus, unsigned numa, enum placement_policy policy)
{
	struct error e;

	node = make_node(gpus, numa);
	placement_limits_default(node, &limits);
	limits.policy = policy;
	assert_int_equal(placement_ledger_create(node, &limits, &ledger, &e), 0);
}

static void close_books(void)
{
	placement_ledger_destroy(ledger);
	node_free(node);
}

/* Where the parts went: "1 2" are the GPUs 0000:01:00.0 and 0000:02:00.0; "-": nowhere. It is taken. */
static const char *goes_to(const struct instance_type *type)
{
	static char text[128];

	text[0] = '\0';
	findings.count = 0;
	if (placement_find(ledger, type, &placement, &findings))
		return "-";
	for (unsigned i = 0; i < placement.part_count; i++)
		text_append(text, sizeof(text), "%s%c", i ? " " : "", placement.parts[i].gpu[10]);
	assert_int_equal(placement_take(ledger, &placement), 0);
	return text;
}

static bool found_code(const char *code)
{
	for (unsigned i = 0; i < findings.count; i++)
		if (!strcmp(findings.items[i].code, code))
			return true;
	return false;
}

static void pack_fills_one_gpu_and_spread_takes_turns(void **state)
{
	const struct instance_type quarter = shared_type(250000, SCHED_FIXED_SHARE);
	static const char *const packed[] = { "1", "1", "1", "1", "2" };
	static const char *const spread[] = { "1", "2", "3", "1", "2" };

	open_books(3, 1, PLACEMENT_PACK);
	for (unsigned i = 0; i < 5; i++)
		assert_string_equal(goes_to(&quarter), packed[i]);
	close_books();
	open_books(3, 1, PLACEMENT_SPREAD);
	for (unsigned i = 0; i < 5; i++)
		assert_string_equal(goes_to(&quarter), spread[i]);
	close_books();
}

static void pack_prefers_the_gpu_with_least_left(void **state)
{
	const struct instance_type half = shared_type(500000, SCHED_FIXED_SHARE),
				   tenth = shared_type(100000, SCHED_FIXED_SHARE);
	struct placement first;

	open_books(2, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&tenth), "1");
	first = placement;
	assert_string_equal(goes_to(&half), "1");
	assert_string_equal(goes_to(&half), "2");
	placement_release(ledger, &first);
	/* Both have half of their time left: the first in order. */
	assert_string_equal(goes_to(&tenth), "1");
	assert_string_equal(goes_to(&tenth), "1");
	close_books();
}

static void whole_gpus_come_from_one_switch_and_node(void **state)
{
	const struct instance_type one = whole_type(1), pair = whole_type(2), four = whole_type(4),
				   three = whole_type(3);

	open_books(8, 2, PLACEMENT_PACK);
	assert_string_equal(goes_to(&pair), "1 2");
	assert_false(found_code("gpus-several-switches"));
	assert_string_equal(goes_to(&one), "3");
	/* The broken pair is used up before another is broken. */
	assert_string_equal(goes_to(&one), "4");
	assert_string_equal(goes_to(&one), "5");
	/* Two of the second socket's three that are a pair. */
	assert_string_equal(goes_to(&pair), "7 8");
	assert_string_equal(goes_to(&pair), "-");
	assert_true(found_code("gpus-short"));
	close_books();

	open_books(8, 2, PLACEMENT_PACK);
	assert_string_equal(goes_to(&four), "1 2 3 4");
	assert_true(found_code("gpus-several-switches"));
	assert_false(found_code("gpus-several-nodes"));
	assert_string_equal(goes_to(&three), "5 6 7");
	close_books();

	open_books(8, 2, PLACEMENT_PACK);
	assert_string_equal(goes_to(&three), "1 2 3");
	/* Four of one socket rather than three and one. */
	assert_string_equal(goes_to(&four), "5 6 7 8");
	close_books();

	open_books(8, 2, PLACEMENT_PACK);
	assert_string_equal(goes_to(&one), "1");
	assert_string_equal(goes_to(&three), "2 3 4");
	close_books();
}

static void local_memory_and_cpus_are_the_gpus_nodes(void **state)
{
	struct instance_type local = whole_type(1);

	local.numa = TYPE_NUMA_LOCAL;
	local.vcpus = 20;
	open_books(8, 2, PLACEMENT_PACK);
	assert_string_equal(goes_to(&local), "1");
	assert_int_equal(placement.numa_node, 0);
	/* 32 CPUs a node: the second instance finds 12 there, and goes to the other. */
	assert_string_equal(goes_to(&local), "5");
	assert_int_equal(placement.numa_node, 1);
	assert_string_equal(goes_to(&local), "-");
	assert_true(found_code("numa-short"));
	local.numa = TYPE_NUMA_ANY;
	assert_string_equal(goes_to(&local), "2");
	assert_int_equal(placement.numa_node, -1);
	close_books();

	/* Of a GPU that is nowhere nothing is local. */
	open_books(2, 2, PLACEMENT_PACK);
	node->gpus[0].numa_node = node->gpus[1].numa_node = -1;
	local.numa = TYPE_NUMA_LOCAL;
	assert_string_equal(goes_to(&local), "-");
	close_books();
	/* On a machine with one node everything is. */
	open_books(2, 1, PLACEMENT_PACK);
	node->gpus[0].numa_node = -1;
	assert_string_equal(goes_to(&local), "1");
	assert_int_equal(placement.numa_node, 0);
	close_books();
}

static void numa_first_binds_where_it_can(void **state)
{
	struct instance_type type = shared_type(100000, SCHED_FIXED_SHARE);

	type.vcpus = 80; /* 20 CPUs: four vCPUs on each */
	open_books(8, 2, PLACEMENT_NUMA_FIRST);
	assert_string_equal(goes_to(&type), "1");
	assert_int_equal(placement.numa_node, 0);
	assert_string_equal(goes_to(&type), "5");
	assert_int_equal(placement.numa_node, 1);
	assert_string_equal(goes_to(&type), "1");
	assert_int_equal(placement.numa_node, -1);
	assert_true(found_code("numa-several"));
	assert_int_equal(findings_blockers(&findings), 0);
	close_books();
}

static void whole_and_shared_exclude_each_other(void **state)
{
	const struct instance_type half = shared_type(500000, SCHED_FIXED_SHARE),
				   whole = whole_type(1);
	struct placement shared, taken;

	open_books(1, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&half), "1");
	shared = placement;
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("gpu-shared"));
	placement_release(ledger, &shared);
	assert_string_equal(goes_to(&whole), "1");
	taken = placement;
	assert_string_equal(goes_to(&half), "-");
	assert_true(found_code("gpu-taken"));
	placement_release(ledger, &taken);
	assert_string_equal(goes_to(&half), "1");
	close_books();
}

static void closed_gpus_take_nothing_new(void **state)
{
	const struct instance_type quarter = shared_type(250000, SCHED_FIXED_SHARE);
	struct placement_gpu_usage usage;

	open_books(2, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&quarter), "1");
	assert_int_equal(placement_gpu_close(ledger, node->gpus[0].id, PLACEMENT_DRAINED), 0);
	assert_string_equal(goes_to(&quarter), "2");
	assert_int_equal(placement_gpu_close(ledger, node->gpus[1].id, PLACEMENT_QUARANTINED), 0);
	assert_string_equal(goes_to(&quarter), "-");
	assert_true(found_code("gpu-drained") && found_code("gpu-quarantined"));
	/* What is there stays. */
	assert_int_equal(placement_gpu_usage(ledger, node->gpus[0].id, &usage), 0);
	assert_int_equal(usage.users, 1);
	assert_int_equal(placement_gpu_close(ledger, node->gpus[0].id, PLACEMENT_OPEN), 0);
	assert_string_equal(goes_to(&quarter), "1");
	assert_int_equal(placement_gpu_close(ledger, "pci-0000:77:00.0", PLACEMENT_DRAINED),
			 -ENOENT);
	close_books();
}

static void users_wish_holds_for_all_on_the_gpu(void **state)
{
	struct instance_type few = shared_type(10000, SCHED_EQUAL_SHARE),
			     plain = shared_type(10000, SCHED_EQUAL_SHARE);
	struct placement picky;

	few.gpus[0].users_max = 2;
	open_books(1, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&few), "1");
	picky = placement;
	assert_string_equal(goes_to(&plain), "1");
	assert_string_equal(goes_to(&plain), "-");
	assert_true(found_code("gpu-users-full"));
	placement_release(ledger, &picky);
	assert_string_equal(goes_to(&plain), "1");
	/* Two are there already. */
	assert_string_equal(goes_to(&few), "-");
	close_books();
}

static void some_time_is_left_to_those_without_a_promise(void **state)
{
	const struct instance_type most = shared_type(960000, SCHED_FIXED_SHARE),
				   waits = shared_type(10000, SCHED_WEIGHTED),
				   rest = shared_type(40000, SCHED_BURST),
				   effort = shared_type(10000, SCHED_BEST_EFFORT);
	struct placement weighted;

	open_books(1, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&waits), "1");
	weighted = placement;
	assert_string_equal(goes_to(&most), "-");
	assert_true(found_code("gpu-time-left-short"));
	placement_release(ledger, &weighted);
	assert_string_equal(goes_to(&most), "1");
	assert_string_equal(goes_to(&waits), "-");
	assert_true(found_code("gpu-time-left-short"));
	/* Best effort is promised nothing. */
	assert_string_equal(goes_to(&effort), "1");
	close_books();

	open_books(1, 1, PLACEMENT_PACK);
	for (unsigned i = 0; i < 25; i++)
		assert_string_equal(goes_to(&rest), "1");
	assert_string_equal(goes_to(&rest), "-");
	assert_true(found_code("gpu-time-short"));
	close_books();
}

static void software_serves_where_nothing_else_does_or_by_name(void **state)
{
	struct instance_type quarter = shared_type(250000, SCHED_FIXED_SHARE);

	node = make_node(2, 1);
	node->gpus[0].software = true;
	placement_limits_default(node, &limits);
	assert_int_equal(placement_ledger_create(node, &limits, &ledger, NULL), 0);
	assert_string_equal(goes_to(&quarter), "2");
	strcpy(quarter.gpus[0].selector, "software");
	assert_string_equal(goes_to(&quarter), "1");
	close_books();
	node = make_node(2, 1);
	node->gpus[0].software = true;
	node->gpus[1].providers = NODE_WHOLE;
	assert_int_equal(placement_ledger_create(node, &limits, &ledger, NULL), 0);
	quarter.gpus[0].selector[0] = '\0';
	assert_string_equal(goes_to(&quarter), "1");
	close_books();
}

static void console_and_virtual_functions_are_taken_by_name_only(void **state)
{
	struct instance_type whole = whole_type(1);

	open_books(2, 1, PLACEMENT_PACK);
	node->gpus[0].boot_vga = true;
	node->gpus[1].is_virtual_function = true;
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("gpu-console") && found_code("gpu-virtual-function"));
	strcpy(whole.gpus[0].selector, "02:00.0");
	assert_string_equal(goes_to(&whole), "2");
	strcpy(whole.gpus[0].selector, "10de:2330");
	assert_string_equal(goes_to(&whole), "1");
	strcpy(whole.gpus[0].selector, "A100");
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("no-gpu"));
	close_books();
}

static void isolation_that_is_assumed_is_refused(void **state)
{
	const struct instance_type whole = whole_type(1);

	open_books(1, 1, PLACEMENT_PACK);
	node->gpus[0].isolated = false;
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("gpu-unisolated"));
	node->gpus[0].isolated = true;
	node->interrupt_remapping = false;
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("no-interrupt-remapping"));
	close_books();
}

static void named_gpu_is_kept_for_who_names_it(void **state)
{
	struct instance_type two = shared_type(600000, SCHED_FIXED_SHARE);

	/* The first entry would take GPU 1, which the second names. */
	two.gpu_count = 2;
	two.gpus[1] = two.gpus[0];
	strcpy(two.gpus[1].selector, "01:00.0");
	open_books(2, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&two), "2 1");
	close_books();
}

static void dead_end_is_taken_back(void **state)
{
	struct instance_type two = shared_type(400000, SCHED_FIXED_SHARE);

	/* Both can go to GPU 1, and "H100" matches it first; only one of the names matches GPU 2. */
	two.gpu_count = 2;
	two.gpus[1] = two.gpus[0];
	two.gpus[0].time_ppm = two.gpus[0].partition_ppm = 700000;
	strcpy(two.gpus[0].selector, "H100");
	strcpy(two.gpus[1].selector, "Only This");
	open_books(2, 1, PLACEMENT_PACK);
	strcpy(node->gpus[0].name, "H100 Only This");
	assert_string_equal(goes_to(&two), "2 1");
	close_books();
}

static void processors_of_shared_instances_are_oversold_and_others_not(void **state)
{
	struct instance_type shared = shared_type(1000, SCHED_FIXED_SHARE), whole = whole_type(1);
	struct placement_usage usage;

	shared.vcpus = 3;
	whole.vcpus = 3;
	open_books(2, 1, PLACEMENT_PACK);
	goes_to(&shared);
	placement_usage(ledger, &usage);
	assert_int_equal(usage.cpu_milli, 750);
	assert_int_equal(usage.memory_mib,
			 1024 + limits.memory_overhead_mib + limits.vgpu_overhead_mib);
	goes_to(&whole);
	placement_usage(ledger, &usage);
	assert_int_equal(usage.cpu_milli, 3750);
	assert_int_equal(usage.cpu_milli_total, 64000);
	assert_int_equal(usage.instances, 2);
	close_books();
}

static void huge_pages_are_counted_by_page(void **state)
{
	struct instance_type type = shared_type(1000, SCHED_FIXED_SHARE);
	struct placement_usage usage;

	type.huge_page = GIB;
	type.memory_mib = 4096;
	open_books(1, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&type), "-");
	assert_true(found_code("huge-pages-short"));
	close_books();
	node = make_node(1, 1);
	node->huge_1g.total = node->numa[0].huge_1g.total = 9;
	assert_int_equal(placement_ledger_create(node, &limits, &ledger, NULL), 0);
	assert_int_equal(placement_fits_count(ledger, &type, 100, NULL), 2);
	goes_to(&type);
	placement_usage(ledger, &usage);
	assert_int_equal(usage.huge_1g, 4);
	assert_int_equal(usage.memory_mib, limits.memory_overhead_mib + limits.vgpu_overhead_mib);
	close_books();
}

static void what_runs_is_taken_beyond_the_limits(void **state)
{
	const struct instance_type half = shared_type(500000, SCHED_FIXED_SHARE);
	struct placement_gpu_usage usage;

	open_books(1, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&half), "1");
	assert_string_equal(goes_to(&half), "1");
	findings.count = 0;
	assert_int_equal(placement_fits(ledger, &placement, &findings), -ENOSPC);
	assert_true(found_code("gpu-time-short"));
	assert_int_equal(placement_take(ledger, &placement), 0);
	assert_int_equal(placement_gpu_usage(ledger, node->gpus[0].id, &usage), 0);
	assert_int_equal(usage.time_ppm, 1500000);
	/* And of a GPU that is gone. */
	strcpy(placement.parts[0].gpu, "GPU-gone");
	assert_int_equal(placement_take(ledger, &placement), -ENOENT);
	findings.count = 0;
	assert_int_equal(placement_fits(ledger, &placement, &findings), -ENOSPC);
	assert_true(found_code("no-gpu"));
	placement_release(ledger, &placement);
	assert_int_equal(placement_gpu_usage(ledger, "GPU-gone", &usage), -ENOENT);
	close_books();
}

static void share_that_changed_is_asked_for_again(void **state)
{
	const struct instance_type half = shared_type(500000, SCHED_FIXED_SHARE);
	struct placement changed;

	open_books(1, 1, PLACEMENT_PACK);
	assert_string_equal(goes_to(&half), "1");
	assert_string_equal(goes_to(&half), "1");
	placement_release(ledger, &placement);
	changed = placement;
	changed.parts[0].time_ppm = 500001;
	findings.count = 0;
	assert_int_equal(placement_fits(ledger, &changed, &findings), -ENOSPC);
	changed.parts[0].time_ppm = 499999;
	assert_int_equal(placement_fits(ledger, &changed, &findings), 0);
	close_books();
}

static void placement_goes_through_json_exactly(void **state)
{
	static const char *const bad[] = {
		"{}",
		"[]",
		"{\"numa_node\":-2,\"vcpus\":1,\"cpu_milli\":1,\"memory_mib\":1,\"huge_page\":0,\"huge_count\":0,\"parts\":[]}",
		"{\"numa_node\":0,\"vcpus\":-1,\"cpu_milli\":1,\"memory_mib\":1,\"huge_page\":0,\"huge_count\":0,\"parts\":[]}",
		"{\"numa_node\":0,\"vcpus\":1,\"cpu_milli\":1,\"memory_mib\":1,\"huge_page\":0,\"huge_count\":0,\"parts\":[{}]}",
		"{\"numa_node\":0,\"vcpus\":1,\"cpu_milli\":1,\"memory_mib\":1,\"huge_page\":0,\"huge_count\":0,\"parts\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}",
	};
	struct instance_type type = shared_type(333333, SCHED_BURST);

	type.gpus[1] = whole_type(2).gpus[0];
	type.gpu_count = 2;
	type.display_count = 3;
	type.gpus[0].users_max = 7;
	open_books(8, 2, PLACEMENT_PACK);
	assert_string_not_equal(goes_to(&type), "-");
	{
		json_t *json = placement_json(&placement), *again;
		char *text = json_dumps(json, 0);
		struct placement back;

		again = json_loads(text, 0, NULL);
		assert_int_equal(placement_from_json(again, &back), 0);
		assert_int_equal(back.part_count, 3);
		placement_release(ledger, &back);
		findings.count = 0;
		assert_int_equal(placement_fits_count(ledger, &type, 1, &findings), 1);
		json_decref(json);
		json = placement_json(&back);
		assert_true(json_equal(json, again));
		json_decref(json);
		json_decref(again);
		free(text);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		json_t *json = json_loads(bad[i], 0, NULL);

		assert_non_null(json);
		assert_int_equal(placement_from_json(json, &placement), -EINVAL);
		json_decref(json);
	}
	close_books();
}

static void policies_have_names(void **state)
{
	enum placement_policy policy;

	for (unsigned i = 0; i < PLACEMENT_POLICIES; i++) {
		assert_int_equal(placement_policy_parse(
					 placement_policy_name((enum placement_policy)i), &policy),
				 0);
		assert_int_equal(policy, i);
	}
	assert_int_equal(placement_policy_parse("best", &policy), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pack_fills_one_gpu_and_spread_takes_turns),
		cmocka_unit_test(pack_prefers_the_gpu_with_least_left),
		cmocka_unit_test(whole_gpus_come_from_one_switch_and_node),
		cmocka_unit_test(local_memory_and_cpus_are_the_gpus_nodes),
		cmocka_unit_test(numa_first_binds_where_it_can),
		cmocka_unit_test(whole_and_shared_exclude_each_other),
		cmocka_unit_test(closed_gpus_take_nothing_new),
		cmocka_unit_test(users_wish_holds_for_all_on_the_gpu),
		cmocka_unit_test(some_time_is_left_to_those_without_a_promise),
		cmocka_unit_test(software_serves_where_nothing_else_does_or_by_name),
		cmocka_unit_test(console_and_virtual_functions_are_taken_by_name_only),
		cmocka_unit_test(isolation_that_is_assumed_is_refused),
		cmocka_unit_test(named_gpu_is_kept_for_who_names_it),
		cmocka_unit_test(dead_end_is_taken_back),
		cmocka_unit_test(processors_of_shared_instances_are_oversold_and_others_not),
		cmocka_unit_test(huge_pages_are_counted_by_page),
		cmocka_unit_test(what_runs_is_taken_beyond_the_limits),
		cmocka_unit_test(share_that_changed_is_asked_for_again),
		cmocka_unit_test(placement_goes_through_json_exactly),
		cmocka_unit_test(policies_have_names),
		cmocka_unit_test(no_sequence_breaks_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
