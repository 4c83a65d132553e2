// SPDX-License-Identifier: Apache-2.0
/*
 * Placement: made-up machines, types and sequences, each step held against a second book that is kept in the simplest way there is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/placement_world.h"

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
		gpu->boot_vga = !chance(5);
		gpu->numa_node = (int)chance(node->numa_count + 1) - 1;
		gpu->upstream_count = chance(3);
		gpu->upstream[0].device = gpu->upstream[1].device = (uint8_t)chance(4);
		if (gpu->software)
			gpu->has_address = false;
		gpu->mdev_type_count = chance(3) ? 0 : 1 + chance(2);
		for (unsigned t = 0; t < gpu->mdev_type_count; t++) {
			snprintf(gpu->mdev_types[t].id, sizeof(gpu->mdev_types[t].id), "m-%u", t);
			snprintf(gpu->mdev_types[t].name, sizeof(gpu->mdev_types[t].name),
				 "Profile %u", t);
			gpu->mdev_types[t].available = chance(5);
		}
	}
	/* Some are virtual functions of the first, and of one that is no GPU. */
	for (unsigned i = 1; i < node->gpu_count; i++)
		if (node->gpus[i].has_address && !chance(3)) {
			node->gpus[i].is_virtual_function = true;
			node->gpus[i].physical_function =
				chance(3) ? node->gpus[0].address
					  : (struct pci_address){ .bus = 0xf0 };
		}
	return node;
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
			*gpu = device_type((enum type_provider)chance(3), 1 + chance(3)).gpus[0];
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

static unsigned placed, refused, counted, kinds[3];
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

/* A slice of @gpu by its hardware or its driver: on it, or on a virtual function of it. */
static bool is_slice(const struct node *node, const struct placement_part *part,
		     const struct node_gpu *gpu)
{
	if (part->mode != TYPE_DEDICATED || part->provider == TYPE_WHOLE)
		return false;
	if (!strcmp(part->gpu, gpu->id))
		return part->provider == TYPE_MDEV;
	return node_gpu_physical(node, gpu_of(node, part)) == gpu;
}

static void check_gpu(const struct node *node, const struct placement_ledger *ledger,
		      const struct node_gpu *gpu, const struct placement_limits *limits)
{
	uint64_t time = 0, vram = 0;
	unsigned whole = 0, users = 0, heads = 0, waiters = 0, most = limits->users_max;
	unsigned slices = 0, mdevs[2] = { 0 };
	struct placement_gpu_usage usage;

	for (unsigned i = 0; i < live_count; i++)
		for (unsigned j = 0; j < live[i].placement.part_count; j++) {
			const struct placement_part *part = &live[i].placement.parts[j];

			slices += is_slice(node, part, gpu);
			if (strcmp(part->gpu, gpu->id) != 0)
				continue;
			if (part->mode == TYPE_DEDICATED && part->provider == TYPE_MDEV) {
				mdevs[part->mdev_type[2] - '0']++;
				continue;
			}
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
	assert_true(!!whole + !!users + !!slices <= 1);
	for (unsigned t = 0; t < 2; t++)
		assert_true(!mdevs[t] ||
			    (t < gpu->mdev_type_count && mdevs[t] <= gpu->mdev_types[t].available));
	assert_int_equal(placement_gpu_usage(ledger, gpu->id, &usage), 0);
	assert_int_equal(usage.slices, slices);
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

static void check_all(const struct node *node, const struct placement_ledger *ledger,
		      const struct placement_limits *limits)
{
	for (unsigned i = 0; i < node->gpu_count; i++)
		check_gpu(node, ledger, &node->gpus[i], limits);
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

		const struct node_gpu *physical = node_gpu_physical(node, gpu);

		assert_int_equal(part->mode, wanted->mode);
		assert_int_equal(part->provider, wanted->provider);
		assert_true(node_gpu_matches(gpu, wanted->selector) ||
			    (wanted->provider != TYPE_WHOLE && physical &&
			     node_gpu_matches(physical, wanted->selector)));
		if (physical && part->mode == TYPE_DEDICATED) {
			assert_int_equal(placement_gpu_usage(ledger, physical->id, &usage), 0);
			assert_int_equal(usage.closed, PLACEMENT_OPEN);
		}
		assert_int_equal(placement_gpu_usage(ledger, gpu->id, &usage), 0);
		assert_int_equal(usage.closed, PLACEMENT_OPEN);
		heads += part->heads;
		if (found->numa_node >= 0 && node->numa_count > 1)
			assert_int_equal(gpu->numa_node, found->numa_node);
		if (part->mode == TYPE_SHARED)
			assert_true(gpu->providers & NODE_VULKAN);
		else if (part->provider == TYPE_MDEV)
			assert_non_null(node_mdev_type_find(gpu, wanted->mdev_type));
		else
			assert_true(gpu->assignable &&
				    gpu->is_virtual_function == (part->provider == TYPE_SRIOV));
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
		const struct node_gpu *physical = node_gpu_physical(node, gpu);
		struct placement_gpu_usage usage, above = { 0 };
		unsigned waiters =
			wanted->policy == SCHED_WEIGHTED || wanted->policy == SCHED_EQUAL_SHARE;
		unsigned most = limits->users_max;

		assert_int_equal(placement_gpu_usage(ledger, gpu->id, &usage), 0);
		if (physical)
			placement_gpu_usage(ledger, physical->id, &above);
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
			!usage.closed && !above.closed && !usage.whole && !usage.slices &&
			usage.users < most && vram &&
			usage.heads + type->display_count <= limits->heads_max &&
			usage.vram_mib + vram <= gpu->vram_mib &&
			usage.time_ppm + wanted->time_ppm <=
				SCHED_PPM - (waiters ? limits->left_min_ppm : 0);
	}
	return room;
}

/* For one virtual function or mediated device: whether any GPU has one. */
static bool device_for_one(const struct node *node, const struct placement_limits *limits,
			   const struct placement_ledger *ledger, const struct type_gpu *wanted)
{
	bool room = false;

	for (unsigned i = 0; i < node->gpu_count; i++) {
		const struct node_gpu *gpu = &node->gpus[i], *physical;
		struct placement_gpu_usage usage, above = { 0 };
		unsigned mdevs = 0;

		physical = node_gpu_physical(node, gpu);
		assert_int_equal(placement_gpu_usage(ledger, gpu->id, &usage), 0);
		if (physical)
			placement_gpu_usage(ledger, physical->id, &above);
		if (usage.closed || usage.whole || usage.users || above.closed || above.whole ||
		    above.users)
			continue;
		if (wanted->provider == TYPE_SRIOV) {
			room |= gpu->is_virtual_function && gpu->assignable && !usage.slices &&
				((gpu->isolated && node->interrupt_remapping) ||
				 limits->allow_unisolated);
			continue;
		}
		for (unsigned j = 0; j < live_count; j++)
			for (unsigned k = 0; k < live[j].placement.part_count; k++)
				mdevs += live[j].placement.parts[k].provider == TYPE_MDEV &&
					 !strcmp(live[j].placement.parts[k].gpu, gpu->id);
		/* Of one type all are of that one; of two it is not known here which. */
		room |= gpu->mdev_type_count == 1 && !strcmp(wanted->mdev_type, "m-0") &&
			mdevs < gpu->mdev_types[0].available;
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
			if (type.gpu_count == 1 && type.gpus[0].mode == TYPE_DEDICATED &&
			    type.gpus[0].provider != TYPE_WHOLE && type.gpus[0].count == 1 &&
			    !type.gpus[0].selector[0] && type.numa == TYPE_NUMA_ANY &&
			    placement_machine_fits(ledger, &found, NULL))
				assert_false(device_for_one(node, &limits, ledger, &type.gpus[0]));
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
		for (unsigned i = 0; i < found.part_count; i++)
			if (found.parts[i].mode == TYPE_DEDICATED)
				kinds[found.parts[i].provider]++;
		live[live_count++] = (struct live){ found, type };
		check_all(node, ledger, &limits);
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
	print_message("seeds from %u on: %u placed, %u refused, %u counted; %u whole, %u virtual "
		      "functions, %u mediated devices\n",
		      first, placed, refused, counted, kinds[TYPE_WHOLE], kinds[TYPE_SRIOV],
		      kinds[TYPE_MDEV]);
	/* It has to have met both answers often. */
	assert_true(placed > 10 * count && refused > 10 * count && counted > 10 * count);
	assert_true(kinds[TYPE_WHOLE] > count && kinds[TYPE_SRIOV] > count / 10 &&
		    kinds[TYPE_MDEV] > count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_sequence_breaks_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
