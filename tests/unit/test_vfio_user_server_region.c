// SPDX-License-Identifier: Apache-2.0
/*
 * Regions that a vfio-user client asks about, reads and writes: every rule broken once, answers that do not
 * fit, files that are not handed out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/resources.h"
#include "tests/unit/server_bench.h"

static unsigned fds_before;
static struct bench bench;
static struct bench_device made_up;
static struct raw raw;

static int setup(void **state)
{
	bench_device_init(&made_up);
	fds_before = count_fds();
	return 0;
}

static void start(void)
{
	bench_start(&bench, &made_up.fake.device, 0);
	raw_open(&raw, &bench);
}

static int teardown(void **state)
{
	raw_close(&raw);
	bench_stop(&bench);
	assert_int_equal(count_fds(), fds_before);
	bench_device_release(&made_up);
	return 0;
}

/* ---- info ---------------------------------------------------------------------------------- */

static int region_info(uint32_t index, uint32_t argsz)
{
	const struct vfio_region_info info = { .argsz = argsz, .index = index };

	return raw_call(&raw, USER_DEVICE_GET_REGION_INFO, &info, sizeof(info), NULL, 0);
}

static struct vfio_region_info answered_info(void)
{
	struct vfio_region_info info;

	assert_true(raw.reply.payload_size >= sizeof(info));
	memcpy(&info, raw.reply.payload, sizeof(info));
	return info;
}

static void region_info_has_its_size_and_index(void **state)
{
	const struct vfio_region_info info = { .argsz = 32 };

	start();
	assert_int_equal(region_info(0, 31), -EINVAL);
	assert_int_equal(region_info(0, 0), -EINVAL);
	assert_int_equal(region_info(VFIO_PCI_NUM_REGIONS, 4096), -EINVAL);
	assert_int_equal(region_info(UINT32_MAX, 4096), -EINVAL);
	assert_int_equal(
		raw_call(&raw, USER_DEVICE_GET_REGION_INFO, &info, sizeof(info) - 1, NULL, 0),
		-EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_REGION_INFO, NULL, 0, NULL, 0), -EINVAL);
}

static void an_answer_that_does_not_fit_says_how_long_it_is(void **state)
{
	struct vfio_region_info info;
	struct vfio_region_sparse_mmap_area areas[2];

	start();
	/* As QEMU asks first: no capability, no file. */
	assert_int_equal(region_info(0, 32), 0);
	info = answered_info();
	assert_int_equal(raw.reply.payload_size, 32);
	assert_int_equal(raw.reply.fd_count, 0);
	assert_int_equal(info.argsz, 32 + 16 + 2 * 16);
	assert_int_equal(info.size, 64 * KIB);
	assert_int_equal(info.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
					     VFIO_REGION_INFO_FLAG_MMAP);
	/* Then with that much room. */
	assert_int_equal(region_info(0, info.argsz - 1), 0);
	assert_int_equal(raw.reply.payload_size, 32);
	assert_int_equal(region_info(0, info.argsz), 0);
	info = answered_info();
	assert_int_equal(raw.reply.payload_size, info.argsz);
	assert_int_equal(raw.reply.fd_count, 1);
	assert_true(info.flags & VFIO_REGION_INFO_FLAG_CAPS);
	assert_int_equal(info.cap_offset, 32);
	memcpy(areas, raw.reply.payload + 48, sizeof(areas));
	assert_int_equal(areas[0].offset, 0x1000);
	assert_int_equal(areas[1].offset, 0x8000);
	assert_int_equal(areas[1].size, 0x1000);
}

static void a_region_that_is_not_mapped_has_neither_file_nor_capability(void **state)
{
	struct vfio_region_info info;

	start();
	assert_int_equal(region_info(2, 4096), 0);
	info = answered_info();
	assert_int_equal(raw.reply.payload_size, 32);
	assert_int_equal(raw.reply.fd_count, 0);
	assert_int_equal(info.argsz, 32);
	assert_int_equal(info.size, MIB);
	assert_int_equal(info.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
	/* Not there at all. */
	assert_int_equal(region_info(1, 4096), 0);
	assert_int_equal(answered_info().size, 0);
}

static void expect_unmappable(void)
{
	start();
	assert_int_equal(region_info(0, 4096), 0);
	assert_int_equal(raw.reply.fd_count, 0);
	assert_int_equal(answered_info().flags,
			 VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
}

static void a_file_that_a_client_could_cut_off_is_not_handed_out(void **state)
{
	close(made_up.fake.memory[0]);
	made_up.fake.memory[0] = bench_memory(64 * KIB, 0);
	expect_unmappable();
}

static void a_file_that_is_too_short_is_not_handed_out(void **state)
{
	close(made_up.fake.memory[0]);
	made_up.fake.memory[0] = bench_memory(0x8fff, F_SEAL_SHRINK);
	expect_unmappable();
}

/* ---- eventfds for writes ------------------------------------------------------------------- */

static int io_fds(uint32_t index, uint32_t argsz, uint32_t flags)
{
	const struct user_region_io_fds head = { .argsz = argsz, .flags = flags, .index = index };

	return raw_call(&raw, USER_DEVICE_GET_REGION_IO_FDS, &head, sizeof(head), NULL, 0);
}

static void io_fds_have_their_size_and_index(void **state)
{
	struct user_region_io_fds head = { .argsz = 4096 };
	struct user_io_fd sub;

	start();
	assert_int_equal(io_fds(0, 15, 0), -EINVAL);
	assert_int_equal(io_fds(0, 4096, 1), -EINVAL);
	assert_int_equal(io_fds(VFIO_PCI_NUM_REGIONS, 4096, 0), -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_REGION_IO_FDS, &head, 15, NULL, 0),
			 -EINVAL);
	/* No room for it: how much there must be. */
	assert_int_equal(io_fds(0, 16, 0), 0);
	memcpy(&head, raw.reply.payload, sizeof(head));
	assert_int_equal(head.argsz, 16 + 40);
	assert_int_equal(head.count, 0);
	assert_int_equal(raw.reply.fd_count, 0);
	assert_int_equal(io_fds(0, 56, 0), 0);
	memcpy(&head, raw.reply.payload, sizeof(head));
	memcpy(&sub, raw.reply.payload + sizeof(head), sizeof(sub));
	assert_int_equal(head.count, 1);
	assert_int_equal(raw.reply.fd_count, 1);
	assert_int_equal(sub.offset, 0x3000);
	assert_int_equal(sub.size, 4);
	assert_int_equal(sub.flags, USER_IO_FD_FLAG_DATAMATCH);
	assert_int_equal(sub.datamatch, 7);
	/* None in another region. */
	assert_int_equal(io_fds(2, 4096, 0), 0);
	memcpy(&head, raw.reply.payload, sizeof(head));
	assert_int_equal(head.count, 0);
}

static void a_client_gets_no_more_eventfds_than_it_takes(void **state)
{
	struct user_region_io_fds head = { .argsz = 4096 };

	for (unsigned i = 1; i < 4; i++)
		made_up.fake.io_fds[i] = made_up.fake.io_fds[0];
	made_up.fake.io_fd_count = 4;
	bench_start(&bench, &made_up.fake.device, 0);
	raw_connect(&raw, &bench);
	assert_int_equal(RAW_VERSION(&raw, "{\"capabilities\":{\"max_msg_fds\":3}}"), 0);
	assert_int_equal(
		raw_call(&raw, USER_DEVICE_GET_REGION_IO_FDS, &head, sizeof(head), NULL, 0), 0);
	memcpy(&head, raw.reply.payload, sizeof(head));
	assert_int_equal(head.count, 3);
	assert_int_equal(raw.reply.fd_count, 3);
}

/* ---- accesses ------------------------------------------------------------------------------ */

static int access_with(uint16_t command, uint32_t region, uint64_t offset, uint32_t count,
		       size_t bytes)
{
	struct {
		struct user_region_access access;
		uint8_t data[64];
	} message = { .access = { offset, region, count }, .data = "written" };

	return raw_call(&raw, command, &message, sizeof(message.access) + bytes, NULL, 0);
}

static void each_rule_of_an_access_is_kept(void **state)
{
	static const struct {
		const char *name;
		uint16_t command;
		uint32_t region;
		uint64_t offset;
		uint32_t count;
		size_t bytes;
		int err;
	} cases[] = {
		{ "read of nothing", USER_REGION_READ, 0, 0, 0, 0, -EINVAL },
		{ "write of nothing", USER_REGION_WRITE, 0, 0, 0, 0, -EINVAL },
		{ "read with bytes", USER_REGION_READ, 0, 0, 4, 4, -EINVAL },
		{ "write of fewer bytes", USER_REGION_WRITE, 0, 0, 8, 4, -EINVAL },
		{ "write of more bytes", USER_REGION_WRITE, 0, 0, 4, 8, -EINVAL },
		{ "write without bytes", USER_REGION_WRITE, 0, 0, 4, 0, -EINVAL },
		{ "unknown region", USER_REGION_READ, VFIO_PCI_NUM_REGIONS, 0, 4, 0, -EINVAL },
		{ "endless region", USER_REGION_READ, UINT32_MAX, 0, 4, 0, -EINVAL },
		{ "region of no size", USER_REGION_READ, 1, 0, 4, 0, -EINVAL },
		{ "begins at the end", USER_REGION_READ, 0, 64 * KIB, 4, 0, -EINVAL },
		{ "ends beyond", USER_REGION_READ, 0, 64 * KIB - 2, 4, 0, -EINVAL },
		{ "around the end", USER_REGION_WRITE, 0, UINT64_MAX - 1, 4, 4, -EINVAL },
		{ "more than all of it", USER_REGION_READ, 0, 0, 64 * KIB + 1, 0, -EINVAL },
		{ "more than was agreed on", USER_REGION_READ, 2, 0, MIB + 1, 0, -EINVAL },
		{ "endless", USER_REGION_READ, 2, 0, UINT32_MAX, 0, -EINVAL },
		{ "write to what is read", USER_REGION_WRITE, 3, 0, 4, 4, -EPERM },
		{ "read of what is written", USER_REGION_READ, 4, 0, 4, 0, -EPERM },
	};
	unsigned touched;

	fake_bar(&made_up.fake, 3, 4096, 0);
	made_up.fake.regions[3].flags = VFIO_REGION_INFO_FLAG_READ;
	fake_bar(&made_up.fake, 4, 4096, 0);
	made_up.fake.regions[4].flags = VFIO_REGION_INFO_FLAG_WRITE;
	fds_before += 2;
	start();
	touched = made_up.fake.bar_reads + made_up.fake.bar_writes;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		int err = access_with(cases[i].command, cases[i].region, cases[i].offset,
				      cases[i].count, cases[i].bytes);

		if (err != cases[i].err)
			fail_msg("%s: %d, not %d", cases[i].name, err, cases[i].err);
	}
	assert_int_equal(raw_call(&raw, USER_REGION_READ, "short", 5, NULL, 0), -EINVAL);
	assert_int_equal(raw_call(&raw, USER_REGION_WRITE, "short", 5, NULL, 0), -EINVAL);
	assert_int_equal(made_up.fake.bar_reads + made_up.fake.bar_writes, touched);
}

static void accesses_reach_the_device_and_their_answers_repeat_them(void **state)
{
	struct user_region_access access;

	start();
	assert_int_equal(access_with(USER_REGION_WRITE, 0, 0x24, 7, 7), 0);
	assert_int_equal(raw.reply.payload_size, sizeof(access));
	memcpy(&access, raw.reply.payload, sizeof(access));
	assert_int_equal(access.offset, 0x24);
	assert_int_equal(access.count, 7);
	assert_int_equal(access_with(USER_REGION_READ, 0, 0x20, 16, 0), 0);
	assert_int_equal(raw.reply.payload_size, sizeof(access) + 16);
	assert_memory_equal(raw.reply.payload + sizeof(access), "\0\0\0\0written\0\0\0\0", 16);
	/* All that goes into one message. */
	assert_int_equal(access_with(USER_REGION_READ, 2, 0, MIB, 0), 0);
	assert_int_equal(raw.reply.payload_size, sizeof(access) + MIB);
	made_up.fake.fail_at = made_up.fake.calls + 1;
	assert_int_equal(access_with(USER_REGION_READ, 0, 0, 4, 0), -EIO);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(region_info_has_its_size_and_index),
		TEST(an_answer_that_does_not_fit_says_how_long_it_is),
		TEST(a_region_that_is_not_mapped_has_neither_file_nor_capability),
		TEST(a_file_that_a_client_could_cut_off_is_not_handed_out),
		TEST(a_file_that_is_too_short_is_not_handed_out),
		TEST(io_fds_have_their_size_and_index),
		TEST(a_client_gets_no_more_eventfds_than_it_takes),
		TEST(each_rule_of_an_access_is_kept),
		TEST(accesses_reach_the_device_and_their_answers_repeat_them),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
