// SPDX-License-Identifier: Apache-2.0
/* The words about processors, NUMA and huge pages, and what follows from them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hypervisor-glue/config_private.h"
#include "hypervisor-glue/machine_private.h"
#include "tests/unit/fake_sysfs.h"

struct fixture {
	struct machine_config config;
	struct error e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	log_set_level(LOG_LEVEL_ERROR);
	machine_config_init(&f->config);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static int set(struct fixture *f, const char *word, const char *value)
{
	memset(&f->e, 0, sizeof(f->e));
	return machine_config_set(&f->config, word, value, &f->e);
}

static void expect_bad(struct fixture *f, const char *word, const char *value)
{
	if (set(f, word, value) >= 0)
		fail_msg("%s %s was taken", word, value);
	assert_string_equal(f->e.code, "bad-value");
	assert_non_null(strstr(f->e.text, word));
}

static void expect_contradiction(struct fixture *f, const char *text)
{
	assert_int_equal(config_settle_guest(&f->config, &f->e), -EINVAL);
	assert_string_equal(f->e.code, "bad-value");
	if (!strstr(f->e.text, text))
		fail_msg("\"%s\" is not about \"%s\"", f->e.text, text);
}

static void settle(struct fixture *f)
{
	if (config_settle_guest(&f->config, &f->e))
		fail_msg("%s", f->e.text);
}

static void a_topology_says_how_many_vcpus_there_are(void **state)
{
	struct fixture *f = *state;
	struct cpu_topology t;

	assert_int_equal(set(f, "topology", "sockets=2,cores=4,threads=2"), 0);
	settle(f);
	assert_int_equal(f->config.cpus, 16);
	assert_int_equal(set(f, "topology", "cores=3"), 0);
	settle(f);
	t = machine_topology(&f->config);
	assert_int_equal(f->config.cpus, 3);
	assert_int_equal(t.sockets, 1);
	assert_int_equal(t.cores, 3);
	assert_int_equal(t.threads, 1);
	assert_int_equal(set(f, "cpus", "4"), 0);
	expect_contradiction(f, "are 3 vCPUs");
}

static void what_is_no_topology_is_refused(void **state)
{
	static const char *const bad[] = {
		"",	      "4",	   "sockets=0",		"sockets=1,sockets=1", "dies=2",
		"cores=",     "cores=two", "cores=2,",		"sockets=16,cores=16", "cores=-1",
		"cores=1000", "cores=2 ",  "cores=2,,threads=2"
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		expect_bad(*state, "topology", bad[i]);
}

static void gaps_between_apic_ids_count(void **state)
{
	struct fixture *f = *state;

	/* 8 IDs for each socket of 5 */
	assert_int_equal(set(f, "topology", "sockets=33,cores=5"), 0);
	expect_contradiction(f, "APIC ID 260");
	assert_int_equal(set(f, "topology", "sockets=32,cores=6"), 0);
	settle(f);
}

static void pins_are_pairs_and_ranges(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "cpus", "6"), 0);
	assert_int_equal(set(f, "pin", "0=2,1=3"), 0);
	assert_int_equal(set(f, "pin", "2-4=8-10"), 0);
	settle(f);
	assert_int_equal(f->config.pins[0], 2);
	assert_int_equal(f->config.pins[1], 3);
	assert_int_equal(f->config.pins[4], 10);
	assert_int_equal(f->config.pins[5], -1);
	expect_bad(f, "pin", "4=1");
	assert_int_equal(set(f, "pin", "7=1"), 0);
	expect_contradiction(f, "vCPU 7");
}

static void what_is_no_pin_is_refused(void **state)
{
	static const char *const bad[] = { "",	      "1",	 "0=",	     "=1",   "0=1,",
					   "0-1=2",   "1-0=1-0", "0=8192",   "a=1",  "0=1=2",
					   "0-1=2-4", "256=1",	 "0=1,0=2",  "-1=2", "0=-1",
					   "0-=1",    "0=1;1=2", "0-1-2=0-2" };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		machine_config_init(&((struct fixture *)*state)->config);
		expect_bad(*state, "pin", bad[i]);
	}
}

static void nodes_say_how_many_vcpus_and_how_much_memory_there_are(void **state)
{
	struct fixture *f = *state;
	struct cpu_topology t;

	assert_int_equal(set(f, "numa", "cpus=0-3,memory=4G,host-node=1"), 0);
	assert_int_equal(set(f, "numa", "memory=2G,cpus=4-6,7"), 0);
	settle(f);
	assert_int_equal(f->config.cpus, 8);
	assert_int_equal(f->config.memory, 6 * GIB);
	assert_int_equal(f->config.nodes[0].host_node, 1);
	assert_int_equal(f->config.nodes[1].host_node, -1);
	assert_int_equal(machine_node_of(&f->config, 3), 0);
	assert_int_equal(machine_node_of(&f->config, 7), 1);
	/* A socket a node. */
	t = machine_topology(&f->config);
	assert_int_equal(t.sockets, 2);
	assert_int_equal(t.cores, 4);
	assert_int_equal(set(f, "memory", "8G"), 0);
	expect_contradiction(f, "8192 MiB");
}

static void uneven_nodes_still_have_whole_sockets(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "numa", "cpus=0-3,memory=1G"), 0);
	assert_int_equal(set(f, "numa", "cpus=4-5,memory=1G"), 0);
	settle(f);
	assert_int_equal(machine_topology(&f->config).sockets, 3);
	assert_int_equal(machine_topology(&f->config).cores, 2);
	assert_int_equal(set(f, "topology", "sockets=1,cores=6"), 0);
	expect_contradiction(f, "two NUMA nodes");
}

static void every_vcpu_is_in_one_node(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "cpus", "3"), 0);
	assert_int_equal(set(f, "numa", "cpus=0,memory=1G"), 0);
	expect_contradiction(f, "vCPU 1 of 3 is in no node");
	assert_int_equal(set(f, "numa", "cpus=0-2,memory=1G"), 0);
	expect_contradiction(f, "vCPU 0 of 3 is in two nodes");
	f->config.node_count = 0;
	assert_int_equal(set(f, "numa", "cpus=0-3,memory=1G"), 0);
	expect_contradiction(f, "no vCPU 3");
}

static void what_is_no_node_is_refused(void **state)
{
	static const char *const bad[] = { "",
					   "cpus=0",
					   "memory=1G",
					   "cpus=,memory=1G",
					   "cpus=0,memory=1",
					   "cpus=0,memory=0M",
					   "cpus=0,memory=1G,host-node=x",
					   "cpus=0,memory=1G,host-node=",
					   "cpus=0,memory=1G,host-node=0,host-node=1",
					   "cpus=3-0,memory=1G",
					   "cpus=0,cpus=1,memory=1G",
					   "0-3,memory=1G",
					   "cpus=0,memory=1G,distance=20",
					   "cpus=0,memory=1G," };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		expect_bad(*state, "numa", bad[i]);
}

static void huge_pages_divide_all_memory(void **state)
{
	struct fixture *f = *state;

	expect_bad(f, "huge-pages", "4K");
	expect_bad(f, "huge-pages", "");
	assert_int_equal(set(f, "huge-pages", "1G"), 0);
	assert_int_equal(set(f, "memory", "2G"), 0);
	settle(f);
	assert_int_equal(f->config.huge_page, GIB);
	assert_int_equal(set(f, "memory", "1536M"), 0);
	expect_contradiction(f, "whole pages of 1024 MiB");
	assert_int_equal(set(f, "huge-pages", "2m"), 0);
	settle(f);
}

/* ---- where vCPUs run ------------------------------------------------------------------------- */

static void pins_and_nodes_decide_where_a_vcpu_runs(void **state)
{
	struct fixture *f = *state;
	struct cpu_list allowed, *lists;
	struct fake_sysfs fs;
	char text[64];

	fake_sysfs_create(&fs);
	fake_sysfs_write(&fs, "/sys/devices/system/node/node0/cpulist", "0-3\n");
	fake_sysfs_write(&fs, "/sys/devices/system/node/node1/cpulist", "4-7,12\n");
	fake_sysfs_write(&fs, "/sys/devices/system/node/node2/cpulist", "\n");
	assert_int_equal(cpu_list_parse("1-12", &allowed), 0);
	assert_int_equal(set(f, "numa", "cpus=0-1,memory=1G,host-node=1"), 0);
	assert_int_equal(set(f, "numa", "cpus=2,memory=1G"), 0);
	assert_int_equal(set(f, "numa", "cpus=3,memory=1G,host-node=2"), 0);
	assert_int_equal(set(f, "pin", "1=5"), 0);
	settle(f);
	assert_int_equal(machine_cpus_affinity(&f->config, fs.root, &allowed, &lists, &f->e), 0);
	assert_string_equal(cpu_list_format(&lists[0], text, sizeof(text)), "4-7,12");
	assert_string_equal(cpu_list_format(&lists[1], text, sizeof(text)), "5");
	assert_string_equal(cpu_list_format(&lists[2], text, sizeof(text)), "1-12");
	assert_string_equal(cpu_list_format(&lists[3], text, sizeof(text)), "1-12");
	free(lists);

	/* What this process may not use is refused in words. */
	assert_int_equal(cpu_list_parse("0-3", &allowed), 0);
	assert_int_equal(machine_cpus_affinity(&f->config, fs.root, &allowed, &lists, &f->e),
			 -EINVAL);
	assert_string_equal(f->e.code, "cpu-not-allowed");
	assert_non_null(strstr(f->e.text, "host node 1 with CPUs 4-7,12"));
	assert_null(lists);
	f->config.nodes[0].host_node = -1;
	assert_int_equal(machine_cpus_affinity(&f->config, fs.root, &allowed, &lists, &f->e),
			 -EINVAL);
	assert_non_null(strstr(f->e.text, "host CPU 5: this process may use 0-3"));
	f->config.pins[1] = -1;
	f->config.nodes[1].host_node = 9;
	assert_int_equal(machine_cpus_affinity(&f->config, fs.root, &allowed, &lists, &f->e),
			 -ENOENT);
	assert_string_equal(f->e.code, "no-host-node");
	fake_sysfs_destroy(&fs);
}

static void nothing_is_bound_that_nobody_asked_for(void **state)
{
	struct fixture *f = *state;
	struct cpu_list allowed, *lists;

	assert_int_equal(cpu_list_parse("0", &allowed), 0);
	assert_int_equal(machine_cpus_affinity(&f->config, "/nonexistent", &allowed, &lists, &f->e),
			 0);
	assert_null(lists);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_topology_says_how_many_vcpus_there_are),
		TEST(what_is_no_topology_is_refused),
		TEST(gaps_between_apic_ids_count),
		TEST(pins_are_pairs_and_ranges),
		TEST(what_is_no_pin_is_refused),
		TEST(nodes_say_how_many_vcpus_and_how_much_memory_there_are),
		TEST(uneven_nodes_still_have_whole_sockets),
		TEST(every_vcpu_is_in_one_node),
		TEST(what_is_no_node_is_refused),
		TEST(huge_pages_divide_all_memory),
		TEST(pins_and_nodes_decide_where_a_vcpu_runs),
		TEST(nothing_is_bound_that_nobody_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
