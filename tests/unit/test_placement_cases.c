// SPDX-License-Identifier: Apache-2.0
/* Placement, promise by promise: policies, switches and NUMA nodes, who excludes whom, what is counted and how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/placement_world.h"

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
	struct placement_gpu_usage usage;
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
	assert_int_equal(placement_gpu_usage(ledger, node->gpus[0].id, &usage), 0);
	assert_true(usage.whole && usage.time_ppm == SCHED_PPM);
	assert_int_equal(usage.vram_mib, usage.vram_total_mib);
	placement_release(ledger, &taken);
	assert_int_equal(placement_gpu_usage(ledger, node->gpus[0].id, &usage), 0);
	assert_true(!usage.whole && !usage.time_ppm && !usage.vram_mib);
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

static void console_is_taken_by_name_only_and_a_virtual_function_is_no_whole_gpu(void **state)
{
	struct instance_type whole = whole_type(1);

	open_books(2, 1, PLACEMENT_PACK);
	node->gpus[0].boot_vga = true;
	node->gpus[1].is_virtual_function = true;
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("gpu-console") && found_code("gpu-virtual-function"));
	strcpy(whole.gpus[0].selector, "02:00.0");
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("gpu-virtual-function"));
	strcpy(whole.gpus[0].selector, "10de:2330");
	assert_string_equal(goes_to(&whole), "1");
	strcpy(whole.gpus[0].selector, "A100");
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("no-gpu"));
	close_books();
}

/* GPU 1 has the virtual functions 2 and 3; 4 has none of its seven; 5 is another. */
static void open_sliced(enum placement_policy policy)
{
	node = make_node(5, 1);
	for (unsigned i = 1; i < 3; i++) {
		node->gpus[i].is_virtual_function = true;
		node->gpus[i].physical_function = node->gpus[0].address;
		node->gpus[i].providers = NODE_WHOLE;
		strcpy(node->gpus[i].name, "VF");
	}
	node->gpus[0].assignable = false;
	node->gpus[0].sriov_total = node->gpus[0].sriov_now = 2;
	node->gpus[3].sriov_total = 7;
	for (unsigned i = 3; i < 5; i++) {
		node->gpus[i].providers = NODE_WHOLE | NODE_MDEV;
		node->gpus[i].mdev_type_count = 2;
		node->gpus[i].mdev_types[0] = (struct node_mdev_type){ "m-0", "Profile 0", 4 };
		node->gpus[i].mdev_types[1] = (struct node_mdev_type){ "m-1", "Profile 1", i - 2 };
	}
	placement_limits_default(node, &limits);
	limits.policy = policy;
	assert_int_equal(placement_ledger_create(node, &limits, &ledger, NULL), 0);
}

static void virtual_functions_go_one_by_one_and_not_beside_vgpus(void **state)
{
	const struct instance_type share = shared_type(100000, SCHED_FIXED_SHARE);
	struct instance_type one = device_type(TYPE_SRIOV, 1), both = device_type(TYPE_SRIOV, 2);
	struct placement_gpu_usage usage;
	struct placement first;

	open_sliced(PLACEMENT_PACK);
	assert_int_equal(placement_fits_count(ledger, &one, 9, &findings), 2);
	assert_true(found_code("gpu-no-virtual-functions") && found_code("gpu-taken"));
	assert_int_equal(placement_fits_count(ledger, &both, 9, NULL), 1);
	assert_string_equal(goes_to(&one), "2");
	first = placement;
	assert_int_equal(placement_gpu_usage(ledger, node->gpus[0].id, &usage), 0);
	assert_true(usage.slices == 1 && !usage.whole);
	assert_int_equal(placement_gpu_usage(ledger, node->gpus[1].id, &usage), 0);
	assert_true(!usage.slices && usage.whole);
	assert_string_equal(goes_to(&both), "-");
	assert_true(found_code("gpus-short"));
	/* The physical function's time is nobody's to promise any more. */
	assert_string_equal(goes_to(&share), "-");
	assert_true(found_code("gpu-sliced"));
	placement_release(ledger, &first);
	assert_string_equal(goes_to(&share), "1");
	assert_string_equal(goes_to(&one), "-");
	assert_true(found_code("gpu-shared"));
	placement_release(ledger, &placement);
	close_books();

	/* A card whose virtual functions are none. */
	open_sliced(PLACEMENT_PACK);
	strcpy(one.gpus[0].selector, "05:00.0");
	node->gpus[4].sriov_total = node->gpus[4].sriov_now = 4;
	assert_string_equal(goes_to(&one), "-");
	assert_true(found_code("gpu-no-virtual-functions"));
	close_books();

	/* Named by what it is a part of, or itself; and set aside with it. */
	open_sliced(PLACEMENT_PACK);
	strcpy(one.gpus[0].selector, "H100");
	assert_string_equal(goes_to(&one), "2");
	placement_release(ledger, &placement);
	strcpy(one.gpus[0].selector, "03:00.0");
	assert_string_equal(goes_to(&one), "3");
	placement_release(ledger, &placement);
	one.gpus[0].selector[0] = '\0';
	assert_int_equal(placement_gpu_close(ledger, node->gpus[0].id, PLACEMENT_DRAINED), 0);
	assert_string_equal(goes_to(&one), "-");
	assert_true(found_code("gpu-drained"));
	assert_int_equal(placement_gpu_close(ledger, node->gpus[0].id, PLACEMENT_OPEN), 0);
	node->gpus[1].assignable = false;
	node->gpus[2].isolated = false;
	assert_string_equal(goes_to(&one), "-");
	assert_true(found_code("gpu-not-assignable") && found_code("gpu-unisolated"));
	close_books();
}

static void mediated_devices_are_as_many_as_the_driver_makes(void **state)
{
	struct instance_type small = device_type(TYPE_MDEV, 1), named = device_type(TYPE_MDEV, 2),
			     whole = whole_type(1), two = named;
	const struct instance_type share = shared_type(100000, SCHED_FIXED_SHARE);
	static struct node_mdev there;
	struct placement taken;

	open_sliced(PLACEMENT_PACK);
	assert_int_equal(placement_fits_count(ledger, &small, 99, &findings), 8);
	assert_true(found_code("gpu-mdev-short") && found_code("gpu-no-mdev"));
	assert_int_equal(placement_fits_count(ledger, &named, 99, NULL), 3);
	two.gpus[1] = two.gpus[0];
	two.gpu_count = 2;
	assert_int_equal(placement_fits_count(ledger, &two, 99, NULL), 1);
	assert_string_equal(goes_to(&two), "4 5");
	assert_string_equal(placement.parts[0].mdev_type, "m-1");
	taken = placement;
	/* Neither whole nor by time any more, and none of a GPU that is. */
	node->gpus[3].providers |= NODE_VULKAN;
	strcpy(whole.gpus[0].selector, "04:00.0");
	assert_string_equal(goes_to(&whole), "-");
	assert_true(found_code("gpu-sliced"));
	placement_release(ledger, &taken);
	assert_string_equal(goes_to(&share), "1");
	assert_string_equal(goes_to(&whole), "4");
	assert_int_equal(placement_fits_count(ledger, &small, 99, &findings), 4);
	assert_true(found_code("gpu-taken"));
	strcpy(small.gpus[0].mdev_type, "m-7");
	assert_string_equal(goes_to(&small), "-");
	assert_true(found_code("gpu-no-mdev"));
	close_books();

	/* One that is there already is not counted twice. */
	open_sliced(PLACEMENT_SPREAD);
	strcpy(named.gpus[0].selector, "05:00.0");
	assert_string_equal(goes_to(&named), "5");
	assert_int_equal(placement_fits_count(ledger, &named, 99, NULL), 1);
	placement_release(ledger, &placement);
	strcpy(placement.parts[0].mdev, "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
	there = (struct node_mdev){ .parent = node->gpus[4].address };
	strcpy(there.uuid, placement.parts[0].mdev);
	node->mdevs = &there;
	node->mdev_count = 1;
	node->gpus[4].mdev_types[1].available = 1;
	assert_int_equal(placement_take(ledger, &placement), 0);
	assert_int_equal(placement_fits_count(ledger, &named, 99, NULL), 1);
	placement_release(ledger, &placement);
	node->mdevs = NULL;
	close_books();

	/* The fullest, or the emptiest. */
	strcpy(small.gpus[0].mdev_type, "m-0");
	open_sliced(PLACEMENT_PACK);
	assert_string_equal(goes_to(&small), "4");
	assert_string_equal(goes_to(&small), "4");
	close_books();
	open_sliced(PLACEMENT_SPREAD);
	assert_string_equal(goes_to(&small), "4");
	assert_string_equal(goes_to(&small), "5");
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

/* What is said of the next one is true of the machine: those that are counted are not there. */
static void why_not_more_is_told_of_what_is_there(void **state)
{
	static const struct {
		unsigned cpus, vcpus, fit;
		const char *fact;
	} cases[] = {
		{ 3, 2, 1, "after 1 more: 1 of 3 CPUs is free, 2 are asked for" },
		{ 2, 1, 2, "after 2 more: 0 of 2 CPUs are free, 1 is asked for" },
		{ 2, 8, 0, "2 of 2 CPUs are free, 8 are asked for" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct instance_type type = whole_type(1);

		type.vcpus = cases[i].vcpus;
		node = make_node(8, 0);
		node->cpu_count = cases[i].cpus;
		placement_limits_default(node, &limits);
		assert_int_equal(placement_ledger_create(node, &limits, &ledger, NULL), 0);
		assert_int_equal(placement_fits_count(ledger, &type, 9, &findings), cases[i].fit);
		assert_string_equal(findings.items[0].fact, cases[i].fact);
		close_books();
	}
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
		cmocka_unit_test(
			console_is_taken_by_name_only_and_a_virtual_function_is_no_whole_gpu),
		cmocka_unit_test(virtual_functions_go_one_by_one_and_not_beside_vgpus),
		cmocka_unit_test(mediated_devices_are_as_many_as_the_driver_makes),
		cmocka_unit_test(isolation_that_is_assumed_is_refused),
		cmocka_unit_test(named_gpu_is_kept_for_who_names_it),
		cmocka_unit_test(dead_end_is_taken_back),
		cmocka_unit_test(processors_of_shared_instances_are_oversold_and_others_not),
		cmocka_unit_test(huge_pages_are_counted_by_page),
		cmocka_unit_test(what_runs_is_taken_beyond_the_limits),
		cmocka_unit_test(share_that_changed_is_asked_for_again),
		cmocka_unit_test(placement_goes_through_json_exactly),
		cmocka_unit_test(why_not_more_is_told_of_what_is_there),
		cmocka_unit_test(policies_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
