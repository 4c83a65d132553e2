// SPDX-License-Identifier: Apache-2.0
/* The machine's memory: what devices keep for themselves, and the nodes that the guest is told of. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hypervisor-glue/machine_private.h"
#include "tests/unit/fake_sysfs.h"

static struct fake_sysfs fs;
static struct machine_config config;
static struct error err;

static int setup(void **state)
{
	memset(&err, 0, sizeof(err));
	machine_config_init(&config);
	fake_sysfs_create(&fs);
	return 0;
}

static int teardown(void **state)
{
	fake_sysfs_destroy(&fs);
	return 0;
}

static void set(const char *word, const char *value)
{
	if (machine_config_set(&config, word, value, &err))
		fail_msg("%s", err.text);
}

static void add_device(const char *bdf, int group, const char *reserved)
{
	fake_sysfs_add_pci(
		&fs, &(struct fake_pci){ .bdf = bdf, .class_code = 0x030000, .group = group });
	fake_sysfs_group_reserved(&fs, group, reserved);
	set("vfio", bdf);
}

static void what_every_device_reserves_is_gathered(void **state)
{
	struct iommu_range ranges[8];

	add_device("0000:01:00.0", 4,
		   "0x000000007b800000 0x000000007b9fffff direct\n"
		   "0x000000007c000000 0x000000007c0fffff direct-relaxable\n"
		   "0x00000000fee00000 0x00000000feefffff msi\n");
	add_device("0000:02:00.0", 5, "0x000000fd00000000 0x000000ffffffffff reserved\n");
	set("vfio", "0000:03:00.0"); /* is not there: told when it is opened */
	assert_int_equal(machine_reserved(&config, fs.root, false, ranges, ARRAY_SIZE(ranges)), 3);
	assert_int_equal(ranges[0].start, 0x7b800000);
	assert_int_equal(ranges[0].last, 0x7b9fffff);
	assert_int_equal(ranges[1].start, 0xfee00000);
	assert_int_equal(ranges[2].start, 0xfd00000000);
	/* Devices come later too, and the range below 1 TiB is every AMD host's. */
	assert_int_equal(machine_reserved(&config, fs.root, true, ranges, ARRAY_SIZE(ranges)), 4);
	assert_int_equal(ranges[0].start, 0xfd00000000);
	assert_int_equal(machine_reserved(&config, fs.root, true, ranges, 2), 2);
}

static void distances_are_the_hosts_where_nodes_are_bound(void **state)
{
	struct memory_plan plan = { 0 };
	struct acpi_numa numa;

	/* Node 1 is not online: it has no column. */
	fake_sysfs_write(&fs, "/sys/devices/system/node/online", "0,2-3\n");
	fake_sysfs_write(&fs, "/sys/devices/system/node/node0/distance", "10 21 31\n");
	fake_sysfs_write(&fs, "/sys/devices/system/node/node2/distance", "21 10 11\n");
	set("numa", "cpus=0-1,memory=1G,host-node=0");
	set("numa", "cpus=2,memory=1G,host-node=2");
	set("numa", "cpus=3,memory=1G,host-node=2");
	set("numa", "cpus=4,memory=1G");
	set("cpus", "5");
	machine_numa(&config, &plan, fs.root, &numa);
	assert_int_equal(numa.nodes, 4);
	assert_ptr_equal(numa.memory, &plan);
	assert_int_equal(numa.node_of_vcpu[1], 0);
	assert_int_equal(numa.node_of_vcpu[4], 3);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(numa.distances[i][i], 10);
	assert_int_equal(numa.distances[0][1], 21);
	assert_int_equal(numa.distances[1][0], 21);
	assert_int_equal(numa.distances[1][2], 11); /* one node of the host, two of the guest */
	assert_int_equal(numa.distances[0][3], 20);
	assert_int_equal(numa.distances[3][0], 20);
}

static void distances_that_make_no_sense_are_left_out(void **state)
{
	static const char *const bad[] = { "", "x", "10", "10 x", "10 -1 " };
	struct memory_plan plan = { 0 };
	struct acpi_numa numa;

	fake_sysfs_write(&fs, "/sys/devices/system/node/online", "0-1\n");
	set("numa", "cpus=0,memory=1G,host-node=0");
	set("numa", "cpus=1,memory=1G,host-node=1");
	set("cpus", "2");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		fake_sysfs_write(&fs, "/sys/devices/system/node/node0/distance", "%s\n", bad[i]);
		machine_numa(&config, &plan, fs.root, &numa);
		assert_in_range(numa.distances[0][1], 11, 254);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_every_device_reserves_is_gathered),
		TEST(distances_are_the_hosts_where_nodes_are_bound),
		TEST(distances_that_make_no_sense_are_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
