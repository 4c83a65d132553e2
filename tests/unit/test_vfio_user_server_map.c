// SPDX-License-Identifier: Apache-2.0
/*
 * Device memory shown in the client's region (USER_DIVVY_REGION_MAP, docs/mdev.md): from the device's mapper
 * through server, socket and client to the mapper of whoever has the client; and with clients that answer
 * wrongly, late or never.
 */
#include "tests/unit/confined.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/resources.h"
#include "tests/unit/server_bench.h"

#define WINDOW 2 /* the BAR */

static unsigned fds_before;
static struct bench bench;
static struct bench_device made_up;
static struct vfio_device *client;
static struct raw raw;
static int blob;

static int setup_with(unsigned timeout_ms)
{
	bench_device_init(&made_up);
	blob = bench_memory(256 * KIB, F_SEAL_SHRINK);
	fds_before = count_fds();
	bench_start(&bench, &made_up.fake.device, timeout_ms);
	return 0;
}

static int setup(void **state)
{
	return setup_with(0);
}

static int setup_impatient(void **state)
{
	return setup_with(200);
}

static int teardown(void **state)
{
	bench_stop(&bench);
	assert_null(made_up.mapper);
	assert_int_equal(count_fds(), fds_before);
	close(blob);
	bench_device_release(&made_up);
	return 0;
}

/* ---- the device asks ----------------------------------------------------------------------- */

struct outcome {
	unsigned calls; /* atomic */
	int result;
};

static void on_done(void *token, int result)
{
	struct outcome *outcome = token;

	outcome->result = result;
	__atomic_fetch_add(&outcome->calls, 1, __ATOMIC_RELEASE);
}

static int ask_map(uint64_t offset, uint64_t size, uint64_t fd_offset, struct outcome *outcome)
{
	const struct vfio_region_map map = {
		.index = WINDOW, .offset = offset, .size = size, .fd = blob, .fd_offset = fd_offset
	};

	outcome->calls = 0;
	return made_up.mapper->map(made_up.mapper_opaque, &map, on_done, outcome);
}

static int ask_unmap(uint64_t offset, uint64_t size, struct outcome *outcome)
{
	if (outcome)
		outcome->calls = 0;
	return made_up.mapper->unmap(made_up.mapper_opaque, WINDOW, offset, size,
				     outcome ? on_done : NULL, outcome);
}

static int wait_for(struct outcome *outcome)
{
	BENCH_WAIT(__atomic_load_n(&outcome->calls, __ATOMIC_ACQUIRE));
	assert_int_equal(outcome->calls, 1);
	return outcome->result;
}

static int map_now(uint64_t offset, uint64_t size, uint64_t fd_offset)
{
	struct outcome outcome;
	int err = ask_map(offset, size, fd_offset, &outcome);

	return err == -EINPROGRESS ? wait_for(&outcome) : err;
}

static int unmap_now(uint64_t offset, uint64_t size)
{
	struct outcome outcome;
	int err = ask_unmap(offset, size, &outcome);

	return err == -EINPROGRESS ? wait_for(&outcome) : err;
}

/* ---- who shows it -------------------------------------------------------------------------- */

static struct shown {
	unsigned maps, unmaps;
	struct vfio_region_map last;
	void *hva;
	int refuse;
} shown;

static int show(void *opaque, const struct vfio_region_map *map, vfio_mapped done, void *token)
{
	assert_ptr_equal(opaque, &shown);
	assert_null(done);
	if (shown.refuse)
		return shown.refuse;
	shown.last = *map;
	shown.hva = mmap(NULL, map->size, PROT_READ | PROT_WRITE, MAP_SHARED, map->fd,
			 (off_t)map->fd_offset);
	assert_true(shown.hva != MAP_FAILED);
	__atomic_fetch_add(&shown.maps, 1, __ATOMIC_RELEASE);
	return 0;
}

static int hide(void *opaque, uint32_t index, uint64_t offset, uint64_t size, vfio_mapped done,
		void *token)
{
	if (!shown.hva || index != shown.last.index || offset != shown.last.offset ||
	    size != shown.last.size)
		return -ENOENT;
	munmap(shown.hva, size);
	shown.hva = NULL;
	__atomic_fetch_add(&shown.unmaps, 1, __ATOMIC_RELEASE);
	return 0;
}

static const struct vfio_mapper shower = { .map = show, .unmap = hide };

static void connect_client(void)
{
	struct error e = { 0 };

	memset(&shown, 0, sizeof(shown));
	if (vfio_user_open(bench.path, &client, &e) || vfio_device_start(client, &e))
		fail_msg("%s: %s", e.code, e.text);
	client->ops->set_mapper(client, &shower, &shown);
	assert_non_null(made_up.mapper);
}

static void disconnect(void)
{
	vfio_device_close(client);
	BENCH_WAIT(!__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
}

static void what_the_device_maps_is_its_memory_on_the_other_side(void **state)
{
	char text[8] = "";

	connect_client();
	assert_int_equal(pwrite(blob, "blob", 5, 0x3000), 5);
	assert_int_equal(map_now(0x10000, 0x4000, 0x2000), 0);
	assert_int_equal(shown.last.index, WINDOW);
	assert_int_equal(shown.last.offset, 0x10000);
	assert_int_equal(shown.last.size, 0x4000);
	assert_string_equal((char *)shown.hva + 0x1000, "blob");
	memcpy((char *)shown.hva + 0x1000, "back", 5);
	assert_int_equal(pread(blob, text, 5, 0x3000), 5);
	assert_string_equal(text, "back");
	assert_int_equal(unmap_now(0x10000, 0x4000), 0);
	assert_null(shown.hva);
	/* What is not there, and what the other side does not want. */
	assert_int_equal(unmap_now(0x10000, 0x4000), -ENOENT);
	shown.refuse = -ENOSPC;
	assert_int_equal(map_now(0x10000, 0x4000, 0), -ENOSPC);
	shown.refuse = 0;
	assert_int_equal(map_now(0, 0x1000, 0), 0);
	assert_int_equal(unmap_now(0, 0x1000), 0);
	disconnect();
}

static void what_cannot_be_is_refused_before_it_is_asked(void **state)
{
	static const struct {
		uint32_t index;
		uint64_t offset, size;
	} cases[] = {
		{ WINDOW, 0, 0 },
		{ WINDOW, 1, 4096 },
		{ WINDOW, 0, 4097 },
		{ WINDOW, MIB, 4096 },
		{ WINDOW, 0, MIB + 4096 },
		{ WINDOW, MIB - 4096, 8192 },
		{ 1, 0, 4096 },
		{ 7, 0, 4096 },
		{ 99, 0, 4096 },
		{ WINDOW, 4096, -4096ul },
	};
	struct outcome outcome;

	connect_client();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct vfio_region_map map = { .index = cases[i].index,
						     .offset = cases[i].offset,
						     .size = cases[i].size,
						     .fd = blob };

		assert_int_equal(
			made_up.mapper->map(made_up.mapper_opaque, &map, on_done, &outcome),
			-EINVAL);
		assert_int_equal(made_up.mapper->unmap(made_up.mapper_opaque, map.index, map.offset,
						       map.size, on_done, &outcome),
				 -EINVAL);
	}
	/* It cannot be said at once whether it is mapped. */
	{
		const struct vfio_region_map map = { .index = WINDOW, .size = 4096, .fd = blob };

		assert_int_equal(made_up.mapper->map(made_up.mapper_opaque, &map, NULL, NULL),
				 -EINVAL);
	}
	assert_int_equal(shown.maps, 0);
	disconnect();
}

/* The client looks at the file: only memory, all of it there. */
static void a_file_that_is_no_memory_is_not_shown(void **state)
{
	char path[] = "/tmp/test-server-map-XXXXXX";
	const int kept = blob;

	connect_client();
	assert_int_equal(map_now(0, 0x1000, 256 * KIB), -EFBIG);
	assert_int_equal(map_now(0, 0x2000, 256 * KIB - 0x1000), -EFBIG);
	assert_int_equal(map_now(0, 0x1000, UINT64_MAX - 4095), -EFBIG);
	assert_int_equal(map_now(0, 0x1000, 1), -EINVAL);
	blob = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_true(map_now(0, 0x1000, 0) < 0);
	close(blob);
	blob = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(map_now(0, 0x1000, 0), -EACCES);
	close(blob);
	blob = mkstemp(path);
	unlink(path);
	close(blob);
	blob = kept;
	assert_int_equal(shown.maps, 0);
	disconnect();
}

/* Drivers round memory up to pages, and not their files. */
static void the_last_page_of_a_file_is_there_as_a_whole(void **state)
{
	const int kept = blob;

	connect_client();
	blob = memfd_create("odd", MFD_CLOEXEC);
	assert_true(blob >= 0);
	assert_int_equal(ftruncate(blob, 4097), 0);
	assert_int_equal(map_now(0, 0x3000, 0), -EFBIG);
	assert_int_equal(map_now(0, 0x1000, 0x2000), -EFBIG);
	assert_int_equal(map_now(0, 0x2000, 0), 0);
	assert_int_equal(unmap_now(0, 0x2000), 0);
	close(blob);
	blob = kept;
	disconnect();
}

static void without_a_mapper_of_its_own_the_client_refuses(void **state)
{
	connect_client();
	client->ops->set_mapper(client, NULL, NULL);
	assert_int_equal(map_now(0, 0x1000, 0), -EOPNOTSUPP);
	assert_int_equal(unmap_now(0, 0x1000), -EOPNOTSUPP);
	client->ops->set_mapper(client, &shower, &shown);
	assert_int_equal(map_now(0, 0x1000, 0), 0);
	assert_int_equal(unmap_now(0, 0x1000), 0);
	disconnect();
}

/* ---- clients that say anything ------------------------------------------------------------- */

/* Bytes of the window by messages, as stock QEMU does. */
static int window_access(bool write, uint64_t offset, void *data, uint32_t count)
{
	struct {
		struct user_region_access access;
		uint8_t data[64];
	} message = { .access = { .offset = offset, .region = WINDOW, .count = count } };
	int err;

	if (write)
		memcpy(message.data, data, count);
	err = raw_call(&raw, write ? USER_REGION_WRITE : USER_REGION_READ, &message,
		       sizeof(message.access) + (write ? count : 0), NULL, 0);
	if (!err && !write) {
		assert_int_equal(raw.reply.payload_size, sizeof(message.access) + count);
		memcpy(data, raw.reply.payload + sizeof(message.access), count);
	}
	return err;
}

static void a_client_that_cannot_map_reads_and_writes_by_messages(void **state)
{
	const uint64_t page = 4096;
	uint64_t word = 0x1122334455667788, seen = 0;
	uint8_t bytes[24];

	raw_connect(&raw, &bench);
	assert_int_equal(RAW_VERSION(&raw, "{\"capabilities\":{\"max_msg_fds\":8}}"), 0);
	BENCH_WAIT(__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
	assert_int_equal(map_now(page, 2 * page, page), 0);
	assert_int_equal(window_access(true, page + 8, &word, sizeof(word)), 0);
	assert_int_equal(pread(blob, &seen, sizeof(seen), (off_t)page + 8), sizeof(seen));
	assert_int_equal(seen, word);
	for (uint32_t count = 1; count <= sizeof(bytes); count++)
		for (uint64_t at = 0; at < 9; at++) {
			uint8_t want[sizeof(bytes)];

			memset(want, (int)(count + at), sizeof(want));
			assert_int_equal(pwrite(blob, want, count, (off_t)(2 * page + at)), count);
			memset(bytes, 0, sizeof(bytes));
			assert_int_equal(window_access(false, 2 * page + at, bytes, count), 0);
			assert_memory_equal(bytes, want, count);
		}
	/* What the client cannot do either way. */
	assert_int_equal(map_now(2 * page, page, 0), -EEXIST);
	assert_int_equal(map_now(4 * page, 512 * KIB, 0), -EFBIG);
	assert_int_equal(map_now(4 * page + 1, page, 0), -EINVAL);
	assert_int_equal(unmap_now(page, page), -ENOENT);
	assert_int_equal(unmap_now(page, 2 * page), 0);
	/* It is the device's again. */
	seen = 0;
	window_access(false, page + 8, &seen, sizeof(seen));
	assert_int_not_equal(seen, word);
	assert_int_equal(map_now(0, page, 0), 0); /* the end takes it away */
	raw_close(&raw);
	BENCH_WAIT(!__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
}

static void answer(uint16_t id, uint16_t command, uint32_t flags, uint32_t error, size_t payload,
		   unsigned fds)
{
	struct {
		struct user_header header;
		uint8_t payload[8];
	} message = { .header = { .id = id,
				  .command = command,
				  .size = (uint32_t)(sizeof(message.header) + payload),
				  .flags = USER_TYPE_REPLY | flags,
				  .error = error } };

	raw_send(&raw, &message, sizeof(message.header) + payload, &raw.fd, fds);
}

static void expect_request(uint16_t command, uint64_t offset)
{
	struct user_region_map map;

	assert_int_equal(raw_receive(&raw), 0);
	assert_int_equal(raw.reply.header.command, command);
	assert_int_equal(raw.reply.header.flags, USER_TYPE_COMMAND);
	assert_int_equal(raw.reply.payload_size, sizeof(map));
	assert_int_equal(raw.reply.fd_count, command == USER_DIVVY_REGION_MAP);
	memcpy(&map, raw.reply.payload, sizeof(map));
	assert_int_equal(map.argsz, sizeof(map));
	assert_int_equal(map.region, WINDOW);
	assert_int_equal(map.offset, offset);
}

static void the_message_is_what_is_written_down(void **state)
{
	struct outcome outcome;
	static const uint8_t bytes[] = { 40, 0, 0, 0, 0, 0,    0, 0, 2, 0, 0, 0,    0, 0,
					 0,  0, 0, 0, 1, 0,    0, 0, 0, 0, 0, 0x40, 0, 0,
					 0,  0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0 };

	raw_open(&raw, &bench);
	assert_int_equal(ask_map(0x10000, 0x4000, 0x2000, &outcome), -EINPROGRESS);
	assert_int_equal(raw_receive(&raw), 0);
	assert_int_equal(raw.reply.header.command, 0xd100);
	assert_int_equal(raw.reply.payload_size, sizeof(bytes));
	assert_memory_equal(raw.reply.payload, bytes, sizeof(bytes));
	answer(raw.reply.header.id, 0xd100, 0, 0, 0, 0);
	assert_int_equal(wait_for(&outcome), 0);
	raw_close(&raw);
}

static void answers_find_their_requests_in_any_order(void **state)
{
	struct outcome outcomes[3];
	uint16_t ids[3];

	raw_open(&raw, &bench);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ask_map(i * 0x1000, 0x1000, 0, &outcomes[i]), -EINPROGRESS);
	for (unsigned i = 0; i < 3; i++) {
		expect_request(USER_DIVVY_REGION_MAP, i * 0x1000);
		ids[i] = raw.reply.header.id;
	}
	answer(ids[2], USER_DIVVY_REGION_MAP, USER_FLAG_ERROR, ENOSPC, 0, 0);
	assert_int_equal(wait_for(&outcomes[2]), -ENOSPC);
	answer(ids[0], USER_DIVVY_REGION_MAP, 0, 0, 0, 0);
	assert_int_equal(wait_for(&outcomes[0]), 0);
	assert_int_equal(outcomes[1].calls, 0);
	/* An error that says nothing, or too much. */
	answer(ids[1], USER_DIVVY_REGION_MAP, USER_FLAG_ERROR, 100000, 0, 0);
	assert_int_equal(wait_for(&outcomes[1]), -EIO);
	raw_close(&raw);
}

static void answers_that_cannot_be_end_the_connection(void **state)
{
	static const struct {
		const char *name;
		uint16_t id_off, command;
		size_t payload;
		unsigned fds;
	} cases[] = {
		{ "another ID", 1, USER_DIVVY_REGION_MAP, 0, 0 },
		{ "another command", 0, USER_DIVVY_REGION_UNMAP, 0, 0 },
		{ "a command of the protocol's", 0, USER_DMA_READ, 0, 0 },
		{ "a payload", 0, USER_DIVVY_REGION_MAP, 8, 0 },
		{ "a descriptor", 0, USER_DIVVY_REGION_MAP, 0, 1 },
	};
	struct outcome outcome;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		raw_open(&raw, &bench);
		assert_int_equal(ask_map(0, 0x1000, 0, &outcome), -EINPROGRESS);
		expect_request(USER_DIVVY_REGION_MAP, 0);
		answer((uint16_t)(raw.reply.header.id + cases[i].id_off), cases[i].command, 0, 0,
		       cases[i].payload, cases[i].fds);
		if (!raw_ended(&raw))
			fail_msg("%s: the connection goes on", cases[i].name);
		assert_int_equal(wait_for(&outcome), -ECONNRESET);
		raw_close(&raw);
	}
	/* The same twice. */
	raw_open(&raw, &bench);
	assert_int_equal(ask_map(0, 0x1000, 0, &outcome), -EINPROGRESS);
	expect_request(USER_DIVVY_REGION_MAP, 0);
	answer(raw.reply.header.id, USER_DIVVY_REGION_MAP, 0, 0, 0, 0);
	answer(raw.reply.header.id, USER_DIVVY_REGION_MAP, 0, 0, 0, 0);
	assert_true(raw_ended(&raw));
	assert_int_equal(wait_for(&outcome), 0);
	raw_close(&raw);
}

static void who_does_not_answer_is_disconnected(void **state)
{
	struct outcome outcome;
	int err;

	raw_open(&raw, &bench);
	assert_int_equal(ask_map(0, 0x1000, 0, &outcome), -EINPROGRESS);
	expect_request(USER_DIVVY_REGION_MAP, 0);
	/* Asking does not answer; on a busy machine it may come too late. */
	err = raw_call(&raw, USER_DEVICE_RESET, NULL, 0, NULL, 0);
	assert_true(err == 0 || err == RAW_ENDED);
	assert_true(err == RAW_ENDED || raw_ended(&raw));
	assert_int_equal(wait_for(&outcome), -ECONNRESET);
	raw_close(&raw);
}

static void so_many_may_be_under_way_and_no_more(void **state)
{
	struct outcome outcomes[SERVER_REQUESTS_MAX], more;

	raw_open(&raw, &bench);
	for (unsigned i = 0; i < SERVER_REQUESTS_MAX; i++)
		assert_int_equal(ask_map(i * 0x1000, 0x1000, 0, &outcomes[i]), -EINPROGRESS);
	assert_int_equal(ask_map(0x80000, 0x1000, 0, &more), -ENOSPC);
	assert_int_equal(ask_unmap(0x80000, 0x1000, NULL), -ENOSPC);
	expect_request(USER_DIVVY_REGION_MAP, 0);
	answer(raw.reply.header.id, USER_DIVVY_REGION_MAP, 0, 0, 0, 0);
	assert_int_equal(wait_for(&outcomes[0]), 0);
	assert_int_equal(ask_map(0x80000, 0x1000, 0, &more), -EINPROGRESS);
	raw_close(&raw);
	for (unsigned i = 1; i < SERVER_REQUESTS_MAX; i++)
		assert_int_equal(wait_for(&outcomes[i]), -ECONNRESET);
	assert_int_equal(wait_for(&more), -ECONNRESET);
	BENCH_WAIT(!__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
}

/* ---- with a reset -------------------------------------------------------------------------- */

static int reset_and_unmap(struct vfio_device *device)
{
	const struct vfio_mapper *mapper = made_up.mapper;

	return mapper ? mapper->unmap(made_up.mapper_opaque, WINDOW, 0x5000, 0x1000, NULL, NULL)
		      : 0;
}

/* What is not shown any more is told before the reply to the reset that made it so. */
static void a_resets_unmaps_come_before_its_reply(void **state)
{
	struct vfio_device_ops ops = bench_ops;

	ops.reset = reset_and_unmap;
	made_up.fake.device.ops = &ops;
	raw_open(&raw, &bench);
	raw_request(&raw, USER_DEVICE_RESET, 0, NULL, 0, NULL, 0);
	expect_request(USER_DIVVY_REGION_UNMAP, 0x5000);
	assert_int_equal(raw_receive(&raw), 0);
	assert_int_equal(raw.reply.header.command, USER_DEVICE_RESET);
	assert_int_equal(raw.reply.header.flags, USER_TYPE_REPLY);
	raw_close(&raw);
	BENCH_WAIT(!__atomic_load_n(&made_up.mapper, __ATOMIC_ACQUIRE));
	made_up.fake.device.ops = &bench_ops;
}

int main(void)
{
#define TEST(f)	     cmocka_unit_test_setup_teardown(f, setup, teardown)
#define IMPATIENT(f) cmocka_unit_test_setup_teardown(f, setup_impatient, teardown)
	const struct CMUnitTest tests[] = {
		TEST(what_the_device_maps_is_its_memory_on_the_other_side),
		TEST(what_cannot_be_is_refused_before_it_is_asked),
		TEST(a_file_that_is_no_memory_is_not_shown),
		TEST(the_last_page_of_a_file_is_there_as_a_whole),
		TEST(without_a_mapper_of_its_own_the_client_refuses),
		TEST(a_client_that_cannot_map_reads_and_writes_by_messages),
		TEST(the_message_is_what_is_written_down),
		TEST(answers_find_their_requests_in_any_order),
		TEST(answers_that_cannot_be_end_the_connection),
		IMPATIENT(who_does_not_answer_is_disconnected),
		TEST(so_many_may_be_under_way_and_no_more),
		TEST(a_resets_unmaps_come_before_its_reply),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
