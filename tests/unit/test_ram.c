// SPDX-License-Identifier: Apache-2.0
/*
 * Where RAM comes from: ordinary and reserved pages, nodes, populating it by threads, and the words when
 * there is not enough. Reserved pages are taken from the machine for the time of a case and given back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "iommu/private.h"
#include "tests/unit/fake_sysfs.h"
#include "tests/unit/resources.h"

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB"

static struct guest_memory *memory;
static struct error err;
static unsigned fds_before, maps_before;
static uint64_t pool_before;
static bool pool_taken;

static char bar[4096] __attribute__((aligned(4096)));

static const struct memory_backing huge = { .huge_page = 2 * MIB, .host_node = -1 };

static uint64_t pool(const char *name)
{
	uint64_t value = 0;
	char path[256];

	snprintf(path, sizeof(path), POOL "/%s", name);
	assert_int_equal(file_read_u64(AT_FDCWD, path, &value), 0);
	return value;
}

static int setup(void **state)
{
	memset(&err, 0, sizeof(err));
	log_set_level(LOG_LEVEL_ERROR);
	fds_before = count_fds();
	maps_before = count_maps();
	return guest_memory_create(&memory, &err);
}

static int teardown(void **state)
{
	char text[32];
	int ret = 0;

	guest_memory_destroy(memory);
	if (pool_taken) {
		if (pool("free_hugepages") != pool("nr_hugepages"))
			print_message("reserved pages are still in use\n");
		ret = pool("free_hugepages") == pool("nr_hugepages") ? 0 : -1;
		snprintf(text, sizeof(text), "%llu", (unsigned long long)pool_before);
		if (file_write(AT_FDCWD, POOL "/nr_hugepages", text))
			ret = -1;
		pool_taken = false;
	}
	assert_int_equal(count_fds(), fds_before);
	assert_int_equal(count_maps(), maps_before);
	return ret;
}

/* @count pages of 2 MiB that nobody uses; skips where they cannot be had. */
static void need_huge_pages(unsigned count)
{
	char text[32];

	if (access(POOL "/nr_hugepages", W_OK)) {
		print_message("skipped: %s/nr_hugepages: %s\n", POOL, strerror(errno));
		skip();
	}
	if (pool("nr_hugepages")) {
		print_message("skipped: this machine's reserved pages are somebody's\n");
		skip();
	}
	pool_before = 0;
	pool_taken = true;
	snprintf(text, sizeof(text), "%u", count);
	if (file_write(AT_FDCWD, POOL "/nr_hugepages", text) || pool("free_hugepages") < count) {
		print_message("skipped: %u pages of 2 MiB cannot be reserved here\n", count);
		skip();
	}
}

static uint64_t resident(const struct memory_bank *bank)
{
	struct stat st;

	assert_int_equal(fstat(bank->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void populate(void)
{
	struct memory_population *population;

	if (guest_memory_populate(memory, &population, &err) ||
	    memory_population_finish(population, false, &err))
		fail_msg("%s", err.text);
}

static void populated_memory_is_all_there_and_zero(void **state)
{
	assert_int_equal(guest_memory_add_ram(memory, 0, 130 * MIB, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, GIB, 8192, &err), 0);
	assert_int_equal(resident(guest_memory_bank(memory, 0)), 0);
	populate();
	assert_true(resident(guest_memory_bank(memory, 0)) >= 130 * MIB);
	assert_true(resident(guest_memory_bank(memory, 1)) >= 8192);
	assert_int_equal(*(uint64_t *)guest_memory_ptr(memory, 129 * MIB, 8), 0);
}

static void a_population_that_is_given_up_leaves_nothing_behind(void **state)
{
	struct memory_population *population;

	assert_int_equal(guest_memory_add_ram(memory, 0, GIB, &err), 0);
	assert_int_equal(guest_memory_populate(memory, &population, &err), 0);
	assert_int_equal(memory_population_finish(population, true, &err), 0);
	assert_int_equal(memory_population_finish(NULL, true, &err), 0);
}

static unsigned threads_left; /* of which threads can be made */

/* Stands before the one of base/. */
int thread_create(pthread_t *thread, const char *kind, void *(*run)(void *arg), void *arg)
{
	if (!threads_left)
		return -EAGAIN;
	threads_left--;
	return -pthread_create(thread, NULL, run, arg);
}

static void population_needs_no_thread_of_its_own(void **state)
{
	struct cpu_list before, after;

	assert_int_equal(cpu_list_allowed(&before), 0);
	threads_left = 0;
	assert_int_equal(guest_memory_add_ram(memory, 0, 100 * MIB, &err), 0);
	populate();
	threads_left = 64;
	assert_true(resident(guest_memory_bank(memory, 0)) >= 100 * MIB);
	assert_int_equal(cpu_list_allowed(&after), 0);
	assert_memory_equal(&before, &after, sizeof(after));
}

/* ---- reserved huge pages --------------------------------------------------------------------- */

static void huge_pages_back_ram_and_go_back(void **state)
{
	const struct memory_bank *bank;

	need_huge_pages(8);
	assert_int_equal(guest_memory_add_ram_on(memory, 0, 12 * MIB, &huge, &err), 0);
	bank = guest_memory_bank(memory, 0);
	assert_int_equal((uintptr_t)bank->hva & (2 * MIB - 1), 0);
	assert_int_equal(pool("resv_hugepages"), 6);
	populate();
	assert_int_equal(pool("free_hugepages"), 2);
	*(char *)guest_memory_ptr(memory, 11 * MIB, 1) = 1;
	assert_int_equal(ftruncate(bank->fd, 0), -1);
	/* A refused bank gives its pages back at once: teardown() counts the rest. */
	assert_int_equal(guest_memory_add_ram_on(memory, GIB, 6 * MIB, &huge, &err), -ENOMEM);
	assert_string_equal(err.code, "huge-pages-short");
	assert_non_null(strstr(err.text, "3 pages of 2 MiB are needed, 2 are free"));
	assert_string_equal(err.next, "echo 9 | sudo tee " POOL "/nr_hugepages");
}

static void huge_pages_of_a_node_are_counted_there(void **state)
{
	const struct memory_backing node = { .huge_page = 2 * MIB, .host_node = 0 };

	need_huge_pages(4);
	if (access("/sys/devices/system/node/node0/hugepages", F_OK)) {
		print_message("skipped: this kernel has no NUMA nodes\n");
		skip();
	}
	/* Nothing of the first bank is touched yet: it counts all the same. */
	assert_int_equal(guest_memory_add_ram_on(memory, 0, 6 * MIB, &node, &err), 0);
	assert_int_equal(guest_memory_add_ram_on(memory, GIB, 4 * MIB, &node, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "on host node 0"));
	assert_non_null(strstr(err.next, "/sys/devices/system/node/node0/hugepages"));
	populate();
	assert_int_equal(pool("free_hugepages"), 1);
}

static void huge_pages_need_whole_pages(void **state)
{
	need_huge_pages(4);
	assert_int_equal(guest_memory_add_ram_on(memory, 0, 3 * MIB, &huge, &err), -EINVAL);
	assert_int_equal(guest_memory_add_ram_on(memory, MIB, 4 * MIB, &huge, &err), -EINVAL);
	assert_null(guest_memory_bank(memory, 0));
}

static void missing_huge_pages_are_told_with_the_next_command(void **state)
{
	struct fake_sysfs fs;

	fake_sysfs_create(&fs);
	fake_sysfs_write(&fs, POOL "/nr_hugepages", "100\n");
	fake_sysfs_write(&fs, POOL "/free_hugepages", "60\n");
	fake_sysfs_write(&fs, POOL "/resv_hugepages", "50\n");
	assert_int_equal(huge_pages_check(fs.root, 2 * MIB, 20 * MIB, -1, &err), 0);
	assert_int_equal(huge_pages_check(fs.root, 2 * MIB, GIB, -1, &err), -ENOMEM);
	assert_string_equal(err.code, "huge-pages-short");
	assert_non_null(strstr(err.text, "512 pages of 2 MiB are needed, 10 are free"));
	assert_string_equal(err.next, "echo 602 | sudo tee " POOL "/nr_hugepages");
	/* The kernel makes more as they are asked for. */
	fake_sysfs_write(&fs, POOL "/nr_overcommit_hugepages", "1000\n");
	fake_sysfs_write(&fs, POOL "/surplus_hugepages", "400\n");
	assert_int_equal(huge_pages_check(fs.root, 2 * MIB, GIB, -1, &err), 0);
	assert_int_equal(huge_pages_check(fs.root, GIB, GIB, -1, &err), -ENOENT);
	assert_string_equal(err.code, "no-huge-pages");

	fake_sysfs_write(&fs,
			 "/sys/devices/system/node/node1/hugepages/hugepages-1048576kB/"
			 "nr_hugepages",
			 "2\n");
	fake_sysfs_write(&fs,
			 "/sys/devices/system/node/node1/hugepages/hugepages-1048576kB/"
			 "free_hugepages",
			 "1\n");
	assert_int_equal(huge_pages_check(fs.root, GIB, 4 * GIB, 1, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "4 pages of 1024 MiB are needed on host node 1, 1 are"));
	assert_string_equal(err.next, "echo 5 | sudo tee /sys/devices/system/node/node1/hugepages/"
				      "hugepages-1048576kB/nr_hugepages");
	fake_sysfs_destroy(&fs);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void memory_of_a_node_is_bound_to_it(void **state)
{
	const struct memory_backing node = { .host_node = 0 };
	unsigned long mask[16] = { 0 };
	int mode = -1;

	if (access("/sys/devices/system/node/node0", F_OK)) {
		print_message("skipped: this kernel has no NUMA nodes\n");
		skip();
	}
	assert_int_equal(guest_memory_add_ram_on(memory, 0, 4 * MIB, &node, &err), 0);
	assert_int_equal(syscall(SYS_get_mempolicy, &mode, mask, 1025,
				 guest_memory_ptr(memory, 2 * MIB, 1), MPOL_F_ADDR),
			 0);
	assert_int_equal(mode, MPOL_BIND);
	assert_int_equal(mask[0], 1);
	populate();
	assert_true(resident(guest_memory_bank(memory, 0)) >= 4 * MIB);
}

static void a_node_that_is_not_there_is_told(void **state)
{
	const struct memory_backing node = { .host_node = 77 };

	assert_int_equal(guest_memory_add_ram_on(memory, 0, 4 * MIB, &node, &err), -ENOENT);
	assert_string_equal(err.code, "no-host-node");
	assert_null(guest_memory_bank(memory, 0));
}

static void a_node_that_is_too_small_names_what_it_has(void **state)
{
	struct fake_sysfs fs;

	fake_sysfs_create(&fs);
	fake_sysfs_write(&fs, "/sys/devices/system/node/node3/meminfo",
			 "Node 3 MemTotal:       9999999 kB\n"
			 "Node 3 MemFree:         524288 kB\n"
			 "Node 3 Active:          777777 kB\n"
			 "Node 3 Active(file):    262144 kB\n"
			 "Node 3 Inactive(file):  131072 kB\n"
			 "Node 3 SReclaimable:    131072 kB\n");
	assert_int_equal(node_memory_check(fs.root, GIB, 3, &err), 0);
	assert_int_equal(node_memory_check(fs.root, GIB + MIB, 3, &err), -ENOMEM);
	assert_string_equal(err.code, "node-memory-short");
	assert_non_null(strstr(err.text, "1025 MiB of guest memory were asked of host node 3, "
					 "which has 1024 MiB"));
	assert_int_equal(node_memory_check(fs.root, GIB, 4, &err), -ENOENT);
	fake_sysfs_destroy(&fs);
}

/* ---- reserved ranges ------------------------------------------------------------------------- */

static int refuse_all(struct memory_listener *listener, const struct memory_bank *bank,
		      struct error *e)
{
	return -EPERM;
}

static void take_nothing_back(struct memory_listener *listener, const struct memory_bank *bank)
{
	fail_msg("nothing was given");
}

static void a_reserved_range_keeps_others_out_and_is_told_to_nobody(void **state)
{
	static struct memory_listener listener = { .add = refuse_all, .remove = take_nothing_back };

	assert_int_equal(guest_memory_listen(memory, &listener, &err), 0);
	assert_int_equal(guest_memory_add_reserved(memory, GIB, MIB, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, GIB, MIB, &err), -EEXIST);
	assert_int_equal(guest_memory_add_device(memory, GIB + 4096, 4096, bar, &err), -EEXIST);
	assert_null(guest_memory_ptr(memory, GIB, 1));
	assert_null(guest_memory_bank(memory, 0)); /* it is no RAM */
	populate();
	guest_memory_unlisten(memory, &listener);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(populated_memory_is_all_there_and_zero),
		TEST(a_population_that_is_given_up_leaves_nothing_behind),
		TEST(population_needs_no_thread_of_its_own),
		TEST(huge_pages_back_ram_and_go_back),
		TEST(huge_pages_of_a_node_are_counted_there),
		TEST(huge_pages_need_whole_pages),
		TEST(missing_huge_pages_are_told_with_the_next_command),
		TEST(memory_of_a_node_is_bound_to_it),
		TEST(a_node_that_is_not_there_is_told),
		TEST(a_node_that_is_too_small_names_what_it_has),
		TEST(a_reserved_range_keeps_others_out_and_is_told_to_nobody),
	};

	threads_left = 64;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
