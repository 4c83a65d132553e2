// SPDX-License-Identifier: Apache-2.0
/*
 * DMA maps that a vfio-user client asks for: every rule broken once, the table full, files that are no
 * memory or could be cut off, and what the device hears of each: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "tests/unit/resources.h"
#include "tests/unit/server_bench.h"

#define BASE UINT64_C(0x100000)

static unsigned fds_before, maps_before;
static struct bench bench;
static struct bench_device made_up;
static struct raw raw;

static unsigned count_memory(void)
{
	char line[512];
	unsigned count = 0;
	FILE *maps = fopen("/proc/self/maps", "re");

	assert_non_null(maps);
	while (maps && fgets(line, sizeof(line), maps))
		count += strstr(line, "bench-memory") != NULL;
	if (maps)
		fclose(maps);
	return count;
}

static int setup(void **state)
{
	bench_device_init(&made_up);
	fds_before = count_fds();
	maps_before = count_memory();
	bench_start(&bench, &made_up.fake.device, 0);
	raw_open(&raw, &bench);
	return 0;
}

static int teardown(void **state)
{
	raw_close(&raw);
	bench_stop(&bench);
	assert_int_equal(made_up.range_count, 0);
	assert_int_equal(made_up.maps, made_up.unmaps);
	assert_int_equal(count_memory(), maps_before);
	assert_int_equal(count_fds(), fds_before);
	bench_device_release(&made_up);
	return 0;
}

static int map_with(struct user_dma_map map, int fd)
{
	return raw_call(&raw, USER_DMA_MAP, &map, sizeof(map), &fd, fd >= 0);
}

static struct user_dma_map a_map(uint64_t address, uint64_t size)
{
	return (struct user_dma_map){
		.argsz = sizeof(struct user_dma_map),
		.flags = USER_DMA_MAP_READ | USER_DMA_MAP_WRITE,
		.address = address,
		.size = size,
	};
}

static int unmap(uint64_t address, uint64_t size, uint32_t flags)
{
	const struct user_dma_unmap message = {
		.argsz = sizeof(message), .flags = flags, .address = address, .size = size
	};

	return raw_call(&raw, USER_DMA_UNMAP, &message, sizeof(message), NULL, 0);
}

static void each_rule_of_a_map_is_kept(void **state)
{
	static const struct {
		const char *name;
		struct user_dma_map map;
		int err;
	} cases[] = {
		{ "argsz", { 31, 3, 0, BASE, 4096 }, -EINVAL },
		{ "no flags", { 32, 0, 0, BASE, 4096 }, -EINVAL },
		{ "unknown flag", { 32, 7, 0, BASE, 4096 }, -EINVAL },
		{ "unknown high flag", { 32, 0x80000003, 0, BASE, 4096 }, -EINVAL },
		{ "no size", { 32, 3, 0, BASE, 0 }, -EINVAL },
		{ "half a page", { 32, 3, 0, BASE, 2048 }, -EINVAL },
		{ "unaligned address", { 32, 3, 0, BASE + 1, 4096 }, -EINVAL },
		{ "unaligned offset", { 32, 3, 8, BASE, 4096 }, -EINVAL },
		{ "around the end", { 32, 3, 0, UINT64_MAX - 4095, 8192 }, -EINVAL },
		{ "size of all", { 32, 3, 0, 4096, UINT64_MAX - 8191 }, -EEXIST },
		{ "beyond the file", { 32, 3, 0, BASE, 65536 + 4096 }, -EFBIG },
		{ "offset at the end", { 32, 3, 65536, BASE, 4096 }, -EFBIG },
		{ "offset beyond", { 32, 3, UINT64_MAX - 4095, BASE, 4096 }, -EFBIG },
		{ "overlaps from below", { 32, 3, 0, BASE + 0x200000 - 4096, 8192 }, -EEXIST },
		{ "overlaps from above", { 32, 3, 0, BASE + 0x20f000, 8192 }, -EEXIST },
		{ "the same again", { 32, 3, 0, BASE + 0x200000, 65536 }, -EEXIST },
		{ "inside", { 32, 3, 0, BASE + 0x201000, 4096 }, -EEXIST },
	};
	int fd = bench_memory(64 * KIB, F_SEAL_SHRINK);

	assert_int_equal(map_with(a_map(BASE + 0x200000, 64 * KIB), fd), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		int err = map_with(cases[i].map, fd);

		if (err != cases[i].err)
			fail_msg("%s: %d, not %d", cases[i].name, err, cases[i].err);
	}
	assert_int_equal(made_up.maps, 1);
	assert_int_equal(count_memory(), maps_before + 1);
	/* Payloads of other sizes. */
	assert_int_equal(raw_call(&raw, USER_DMA_MAP, &cases[0].map, 31, &fd, 1), -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DMA_MAP, NULL, 0, NULL, 0), -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DMA_MAP, &cases[0], 33, &fd, 1), -EINVAL);
	close(fd);
}

static void what_is_mapped_is_the_clients_memory(void **state)
{
	int fd = bench_memory(64 * KIB, F_SEAL_SHRINK);
	struct user_dma_map map = a_map(BASE, 8192);
	char text[8] = "";

	map.offset = 4096;
	assert_int_equal(map_with(map, fd), 0);
	assert_int_equal(made_up.range_count, 1);
	assert_int_equal(made_up.ranges[0].offset, BASE);
	memcpy((char *)(uintptr_t)made_up.ranges[0].fd_offset + 10, "written", 8);
	assert_int_equal(pread(fd, text, 8, 4096 + 10), 8);
	assert_string_equal(text, "written");
	close(fd);
}

static void only_sealed_memory_is_mapped(void **state)
{
	char path[] = "/tmp/test-server-dma-XXXXXX";
	int fd, pipes[2];

	/* It can be sealed, and is now: nobody shrinks it any more. */
	fd = bench_memory(64 * KIB, 0);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), 0);
	assert_true(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(unmap(BASE, 4096, 0), 0);
	close(fd);
	/* It can not. */
	fd = bench_memory(64 * KIB, F_SEAL_SEAL);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), -EPERM);
	close(fd);
	fd = memfd_create("bench-memory", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 64 * KIB), 0);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), -EPERM);
	close(fd);
	/* Empty, sealed too late. */
	fd = bench_memory(0, F_SEAL_SHRINK);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), -EFBIG);
	close(fd);
	/* No memory at all. */
	fd = mkstemp(path);
	unlink(path);
	assert_int_equal(ftruncate(fd, 64 * KIB), 0);
	assert_true(map_with(a_map(BASE, 4096), fd) < 0);
	close(fd);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), -EACCES);
	close(fd);
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), -EACCES);
	close(fd);
	fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), -EACCES);
	close(fd);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(map_with(a_map(BASE, 4096), pipes[0]), -EACCES);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(map_with(a_map(BASE, 4096), raw.fd), -EACCES);
	/* Only to be read. */
	fd = bench_memory(64 * KIB, F_SEAL_SHRINK | F_SEAL_WRITE);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), -EPERM);
	close(fd);
	assert_int_equal(made_up.maps, 1);
}

static void memory_without_a_file_or_for_reading_is_taken_and_not_told(void **state)
{
	int fd = bench_memory(64 * KIB, F_SEAL_SHRINK);
	struct user_dma_map map = a_map(BASE, 4096);

	assert_int_equal(map_with(map, -1), 0);
	/* It has its place all the same. */
	assert_int_equal(map_with(map, fd), -EEXIST);
	map = a_map(BASE + 4096, 4096);
	map.flags = USER_DMA_MAP_READ;
	assert_int_equal(map_with(map, fd), 0);
	assert_int_equal(made_up.maps, 0);
	assert_int_equal(count_memory(), maps_before);
	assert_int_equal(unmap(BASE, 4096, 0), 0);
	assert_int_equal(unmap(BASE + 4096, 4096, 0), 0);
	close(fd);
}

static void there_are_so_many_ranges_and_no_more(void **state)
{
	int fd = bench_memory(64 * KIB, F_SEAL_SHRINK);

	for (unsigned i = 0; i < SERVER_RANGES_MAX; i++)
		assert_int_equal(map_with(a_map(BASE + i * 8192, 4096), fd), 0);
	assert_int_equal(map_with(a_map(BASE + SERVER_RANGES_MAX * 8192, 4096), fd), -ENOSPC);
	assert_int_equal(made_up.range_count, SERVER_RANGES_MAX);
	assert_int_equal(unmap(BASE, 4096, 0), 0);
	assert_int_equal(map_with(a_map(BASE + SERVER_RANGES_MAX * 8192, 4096), fd), 0);
	close(fd);
}

static void what_the_device_refuses_is_not_mapped(void **state)
{
	int fd = bench_memory(64 * KIB, F_SEAL_SHRINK);

	made_up.fake.fail_at = made_up.fake.calls + 1;
	assert_int_equal(map_with(a_map(BASE, 4096), fd), -ENOMEM);
	assert_int_equal(count_memory(), maps_before);
	assert_int_equal(map_with(a_map(BASE, 4096), fd), 0);
	close(fd);
}

static void each_rule_of_an_unmap_is_kept(void **state)
{
	struct user_dma_unmap message = { .argsz = 23, .address = BASE, .size = 8192 };
	int fd = bench_memory(64 * KIB, F_SEAL_SHRINK);

	assert_int_equal(map_with(a_map(BASE, 8192), fd), 0);
	assert_int_equal(raw_call(&raw, USER_DMA_UNMAP, &message, sizeof(message), NULL, 0),
			 -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DMA_UNMAP, &message, 23, NULL, 0), -EINVAL);
	assert_int_equal(unmap(BASE, 4096, 0), -ENOENT);
	assert_int_equal(unmap(BASE + 4096, 4096, 0), -ENOENT);
	assert_int_equal(unmap(BASE, 16384, 0), -ENOENT);
	assert_int_equal(unmap(0, 0, 0), -ENOENT);
	/* A dirty bitmap; everything, with an address; both. */
	assert_int_equal(unmap(BASE, 8192, 1), -EINVAL);
	assert_int_equal(unmap(BASE, 8192, VFIO_DMA_UNMAP_FLAG_ALL), -EINVAL);
	assert_int_equal(unmap(0, 4096, VFIO_DMA_UNMAP_FLAG_ALL), -EINVAL);
	assert_int_equal(unmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL | 1), -EINVAL);
	assert_int_equal(made_up.range_count, 1);
	assert_int_equal(unmap(BASE, 8192, 0), 0);
	assert_int_equal(raw.reply.payload_size, sizeof(message));
	message.argsz = sizeof(message);
	assert_memory_equal(raw.reply.payload, &message, sizeof(message));
	assert_int_equal(unmap(BASE, 8192, 0), -ENOENT);
	close(fd);
}

static void everything_is_unmapped_at_once(void **state)
{
	int fd = bench_memory(64 * KIB, F_SEAL_SHRINK);

	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(map_with(a_map(BASE + i * 4096, 4096), i == 2 ? -1 : fd), 0);
	assert_int_equal(unmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 0);
	assert_int_equal(made_up.range_count, 0);
	assert_int_equal(count_memory(), maps_before);
	assert_int_equal(unmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 0);
	close(fd);
}

static void what_the_device_keeps_stays_mapped(void **state)
{
	int fd = bench_memory(64 * KIB, F_SEAL_SHRINK);

	assert_int_equal(map_with(a_map(BASE, 4096), fd), 0);
	made_up.keeps = true;
	assert_int_equal(unmap(BASE, 4096, 0), -EBUSY);
	assert_int_equal(unmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL), -EBUSY);
	assert_int_equal(count_memory(), maps_before + 1);
	made_up.keeps = false;
	assert_int_equal(unmap(BASE, 4096, 0), 0);
	close(fd);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(each_rule_of_a_map_is_kept),
		TEST(what_is_mapped_is_the_clients_memory),
		TEST(only_sealed_memory_is_mapped),
		TEST(memory_without_a_file_or_for_reading_is_taken_and_not_told),
		TEST(there_are_so_many_ranges_and_no_more),
		TEST(what_the_device_refuses_is_not_mapped),
		TEST(each_rule_of_an_unmap_is_kept),
		TEST(everything_is_unmapped_at_once),
		TEST(what_the_device_keeps_stays_mapped),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
