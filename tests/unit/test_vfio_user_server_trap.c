// SPDX-License-Identifier: Apache-2.0
/*
 * Device memory for a client that cannot map it: what it reads and writes by messages (server_trap.c), and atomic instructions
 * of its guest's, which arrive as a read and a write.
 */
#include "tests/unit/confined.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/resources.h"
#include "tests/unit/server_bench.h"

#define WINDOW 2 /* the BAR */
#define PAGE   4096

static unsigned fds_before;
static struct bench bench;
static struct bench_device made_up;
static struct raw raw;
static int blob;
static uint8_t *memory; /* the blob, as its other side has it */

static int setup(void **state)
{
	bench_device_init(&made_up);
	blob = bench_memory(16 * PAGE, F_SEAL_SHRINK);
	memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, blob, 0);
	assert_true(memory != MAP_FAILED);
	fds_before = count_fds();
	bench_start(&bench, &made_up.fake.device, 0);
	raw_connect(&raw, &bench);
	assert_int_equal(RAW_VERSION(&raw, "{\"capabilities\":{\"max_msg_fds\":8}}"), 0);
	BENCH_WAIT(__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
	return 0;
}

static int teardown(void **state)
{
	raw_close(&raw);
	BENCH_WAIT(!__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
	bench_stop(&bench);
	assert_int_equal(count_fds(), fds_before);
	munmap(memory, 16 * PAGE);
	close(blob);
	bench_device_release(&made_up);
	return 0;
}

/* A page of the blob in the same place of the window. */
static void map_page(unsigned page, bool is_atomic)
{
	const struct vfio_region_map map = {
		.index = WINDOW,
		.offset = page * PAGE,
		.size = PAGE,
		.fd = blob,
		.fd_offset = page * PAGE,
		.is_atomic = is_atomic,
	};

	assert_int_equal(made_up.mapper->map(made_up.mapper_opaque, &map, NULL, NULL), 0);
}

static void unmap_page(unsigned page)
{
	assert_int_equal(
		made_up.mapper->unmap(made_up.mapper_opaque, WINDOW, page * PAGE, PAGE, NULL, NULL),
		0);
}

static uint64_t client_read(uint64_t offset, uint32_t count)
{
	const struct user_region_access message = { .offset = offset,
						    .region = WINDOW,
						    .count = count };
	uint64_t value = 0;

	assert_int_equal(raw_call(&raw, USER_REGION_READ, &message, sizeof(message), NULL, 0), 0);
	assert_int_equal(raw.reply.payload_size, sizeof(message) + count);
	memcpy(&value, raw.reply.payload + sizeof(message), count);
	return value;
}

static void client_write(uint64_t offset, uint64_t value, uint32_t count)
{
	struct {
		struct user_region_access access;
		uint8_t data[sizeof(value)];
	} message = { .access = { .offset = offset, .region = WINDOW, .count = count } };

	memcpy(message.data, &value, count);
	assert_int_equal(raw_call(&raw, USER_REGION_WRITE, &message, sizeof(message.access) + count,
				  NULL, 0),
			 0);
}

static uint64_t value_at(uint64_t offset, uint32_t count)
{
	uint64_t value = 0;

	memcpy(&value, memory + offset, count);
	return value;
}

/* They come late: what they cleared may be in use by then. */
static void zeros_over_new_memory_undo_nothing(void **state)
{
	map_page(1, true);
	memory[PAGE + 128] = 1;
	for (uint64_t at = PAGE; at < 2 * PAGE; at += 8)
		client_write(at, 0, 8);
	assert_int_equal(memory[PAGE + 128], 1);
	/* What is no zero is written, also where it is the first. */
	client_write(PAGE + 64, 52, 4);
	assert_int_equal(value_at(PAGE + 64, 4), 52);
	/* And from then on zeros are as good as anything. */
	client_write(PAGE + 128, 0, 4);
	assert_int_equal(memory[PAGE + 128], 0);
	/* A look ends it, too. */
	map_page(2, true);
	assert_int_equal(client_read(2 * PAGE, 4), 0);
	memory[2 * PAGE + 128] = 1;
	client_write(2 * PAGE + 128, 0, 4);
	assert_int_equal(memory[2 * PAGE + 128], 0);
	/* Memory that had something in it when it was shown is not new, and no other kind of memory ever is. */
	memory[3 * PAGE + 4] = 7;
	map_page(3, true);
	client_write(3 * PAGE + 4, 0, 4);
	assert_int_equal(memory[3 * PAGE + 4], 0);
	map_page(4, false);
	memory[4 * PAGE] = 1;
	client_write(4 * PAGE, 0, 4);
	assert_int_equal(memory[4 * PAGE], 0);
}

static void what_both_sides_change_at_once_has_both_changes(void **state)
{
	static const struct {
		uint64_t read, meanwhile, written, becomes;
	} cases[] = {
		{ 0, 0, 4, 4 }, /* nothing meanwhile */
		{ 5, 5, 1, 1 },
		{ 0, 1, 0, 1 }, /* lock and, of a bit that is clear; the other side sets one */
		{ 4, 5, 0, 1 }, /* of one that is set */
		{ 1, 0, 1, 0 }, /* the other side clears one */
		{ 5, 4, 1, 0 }, /* both do */
		{ 0, 1, 4, 5 }, /* lock or */
		{ 0x7f, 0x70, 0x7f, 0x70 }, /* a comparison that failed writes what it has read */
	};

	map_page(0, true);
	for (uint32_t count = 1; count <= 8; count *= 2)
		for (uint64_t at = 0; at < 16; at += count)
			for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
				memset(memory, 0xcc, 24);
				memcpy(memory + at, &cases[i].read, count);
				assert_int_equal(client_read(at, count), cases[i].read);
				memcpy(memory + at, &cases[i].meanwhile, count);
				client_write(at, cases[i].written, count);
				assert_int_equal(value_at(at, count), cases[i].becomes);
				/* And its neighbours nothing. */
				for (uint64_t n = 0; n < 24; n++)
					assert_true((n >= at && n < at + count) ||
						    memory[n] == 0xcc);
			}
}

/* What lies between the read and the write. */
static void far(void)
{
	for (unsigned i = 0; i < SERVER_RECENT_MAX; i++)
		client_read(64 + 4 * i, 4);
}

static void not_far(void)
{
	for (unsigned i = 0; i < SERVER_RECENT_MAX - 1; i++)
		client_write(64 + 4 * i, i, 4);
}

static void elsewhere(void)
{
	for (unsigned i = 0; i < SERVER_RECENT_MAX; i++)
		client_read(2 * PAGE + 4 * i, 4);
}

static void written(void)
{
	client_write(8, 0, 4);
}

static void written_beside(void)
{
	client_write(10, 0, 4);
}

static void read_as_another_size(void)
{
	client_read(8, 8);
}

static void mapped_anew(void)
{
	unmap_page(0);
	map_page(0, true);
}

static void a_write_that_follows_no_read_is_a_write(void **state)
{
	static const struct {
		const char *name;
		void (*between)(void);
		bool together; /* they are one instruction */
	} cases[] = {
		{ "others' accesses, a few", not_far, true },
		{ "others' accesses, in memory that only one side changes", elsewhere, true },
		{ "others' accesses, many", far, false },
		{ "a write there", written, false },
		{ "a write that overlaps", written_beside, false },
		{ "a read of more", read_as_another_size, false },
		{ "another mapping", mapped_anew, false },
	};

	map_page(0, true);
	map_page(2, false);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(memory, 0, PAGE);
		assert_int_equal(client_read(8, 4), 0);
		cases[i].between();
		memory[8] = 1;
		client_write(8, 0, 4);
		if (memory[8] != cases[i].together)
			fail_msg("%s: %#x", cases[i].name, memory[8]);
	}
	/* Without any before. */
	memory[32] = 1;
	client_write(32, 4, 4);
	assert_int_equal(memory[32], 4);
}

static void what_programs_have_is_written_as_it_is(void **state)
{
	map_page(0, false);
	for (uint32_t count = 1; count <= 8; count *= 2) {
		memset(memory, 0, 16);
		assert_int_equal(client_read(8, count), 0);
		memory[8] = 1;
		client_write(8, 4, count);
		assert_int_equal(memory[8], 4);
	}
	/* What is no word is none in the other kind either. */
	map_page(1, true);
	memset(memory + PAGE, 0, 16);
	assert_int_equal(client_read(PAGE + 1, 4), 0);
	memory[PAGE + 1] = 1;
	client_write(PAGE + 1, 4, 4);
	assert_int_equal(memory[PAGE + 1], 4);
}

/* As lavapipe's is. */
static void a_file_that_ends_within_a_page_has_that_page(void **state)
{
	struct vfio_region_map map = { .index = WINDOW, .size = PAGE };

	map.fd = bench_memory(PAGE + 100, 0);
	map.fd_offset = PAGE;
	assert_int_equal(made_up.mapper->map(made_up.mapper_opaque, &map, NULL, NULL), 0);
	client_write(PAGE - 4, 0x12345678, 4);
	assert_int_equal(client_read(PAGE - 4, 4), 0x12345678);
	unmap_page(0);
	map.size = 2 * PAGE;
	assert_int_equal(made_up.mapper->map(made_up.mapper_opaque, &map, NULL, NULL), -EFBIG);
	map.size = PAGE;
	map.fd_offset = 2 * PAGE;
	assert_int_equal(made_up.mapper->map(made_up.mapper_opaque, &map, NULL, NULL), -EFBIG);
	close(map.fd);
}

/* ---- at once, in truth ----------------------------------------------------------------------- */

#define ROUNDS	   2000
#define ROUNDS_MAX 200000 /* while the other side was not there yet */

struct other {
	uint32_t *word;
	bool stop;	 /* atomic */
	unsigned rounds; /* atomic */
	unsigned lost;
};

/* The other side's bit is as it left it, whatever the client does with its own. */
static void *other_side(void *arg)
{
	struct other *other = arg;

	while (!__atomic_load_n(&other->stop, __ATOMIC_RELAXED)) {
		__atomic_fetch_or(other->word, 1, __ATOMIC_SEQ_CST);
		sched_yield();
		other->lost += !(__atomic_load_n(other->word, __ATOMIC_SEQ_CST) & 1);
		__atomic_fetch_and(other->word, ~1u, __ATOMIC_SEQ_CST);
		sched_yield();
		other->lost += __atomic_load_n(other->word, __ATOMIC_SEQ_CST) & 1;
		__atomic_fetch_add(&other->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void neither_side_loses_its_bit(void **state)
{
	struct other other = { .word = (uint32_t *)(memory + 128) };
	unsigned wrong = 0;
	pthread_t thread;

	map_page(0, true);
	assert_int_equal(pthread_create(&thread, NULL, other_side, &other), 0);
	for (unsigned i = 0;
	     i < ROUNDS_MAX &&
	     (i < ROUNDS || __atomic_load_n(&other.rounds, __ATOMIC_RELAXED) < ROUNDS / 10);
	     i++) {
		client_write(128, client_read(128, 4) | 4, 4);
		wrong += !(__atomic_load_n(other.word, __ATOMIC_SEQ_CST) & 4);
		client_write(128, client_read(128, 4) & ~UINT64_C(4), 4);
		wrong += !!(__atomic_load_n(other.word, __ATOMIC_SEQ_CST) & 4);
	}
	__atomic_store_n(&other.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_true(other.rounds >= ROUNDS / 10);
	assert_int_equal(other.lost, 0);
	assert_int_equal(wrong, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(what_both_sides_change_at_once_has_both_changes),
		TEST(zeros_over_new_memory_undo_nothing),
		TEST(a_write_that_follows_no_read_is_a_write),
		TEST(what_programs_have_is_written_as_it_is),
		TEST(a_file_that_ends_within_a_page_has_that_page),
		TEST(neither_side_loses_its_bit),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
