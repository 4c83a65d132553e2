// SPDX-License-Identifier: Apache-2.0
/*
 * Headers, versions and device info that a vfio-user client cannot mean: what ends the connection, what is only
 * refused, and that the server serves the next one either way.
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

static int setup_with(unsigned timeout_ms)
{
	bench_device_init(&made_up);
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
	assert_int_equal(count_fds(), fds_before);
	bench_device_release(&made_up);
	return 0;
}

/* ---- headers ------------------------------------------------------------------------------- */

static void headers_that_cannot_be_end_the_connection(void **state)
{
	static const struct {
		const char *name;
		struct user_header header;
	} cases[] = {
		{ "size below a header", { .command = USER_DEVICE_RESET, .size = 15 } },
		{ "size of nothing", { .command = USER_DEVICE_RESET, .size = 0 } },
		{ "size beyond a message", { .command = USER_REGION_WRITE, .size = 0x7fffffff } },
		{ "size beyond all", { .command = USER_REGION_WRITE, .size = UINT32_MAX } },
		{ "unknown type", { .command = USER_DEVICE_RESET, .size = 16, .flags = 2 } },
		{ "unknown flag", { .command = USER_DEVICE_RESET, .size = 16, .flags = 0x40 } },
		{ "a command that failed",
		  { .command = USER_DEVICE_RESET, .size = 16, .flags = USER_FLAG_ERROR } },
		{ "an answer to nothing",
		  { .command = USER_DEVICE_RESET, .size = 16, .flags = USER_TYPE_REPLY } },
		{ "an answer to a map that was not asked for",
		  { .command = USER_DIVVY_REGION_MAP, .size = 16, .flags = USER_TYPE_REPLY } },
		{ "an answer that wants no answer",
		  { .size = 16, .flags = USER_TYPE_REPLY | USER_FLAG_NO_REPLY } },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		raw_open(&raw, &bench);
		raw_send(&raw, &cases[i].header, sizeof(cases[i].header), NULL, 0);
		if (!raw_ended(&raw))
			fail_msg("%s: the connection goes on", cases[i].name);
		raw_close(&raw);
	}
	raw_open(&raw, &bench);
	assert_int_equal(raw_call(&raw, USER_DEVICE_RESET, NULL, 0, NULL, 0), 0);
	raw_close(&raw);
}

static void unknown_commands_are_refused(void **state)
{
	static const uint16_t numbers[] = {
		0,  USER_DMA_READ, USER_DMA_WRITE, 14, 15, 16, 17, 18, USER_DIVVY_REGION_MAP,
		99, 0xffff
	};

	raw_open(&raw, &bench);
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		assert_int_equal(raw_call(&raw, numbers[i], "12345678", 8, NULL, 0), -EOPNOTSUPP);
	assert_int_equal(raw_call(&raw, USER_DEVICE_RESET, NULL, 0, NULL, 0), 0);
	raw_close(&raw);
}

static void a_message_may_come_byte_by_byte(void **state)
{
	struct {
		struct user_header header;
		struct user_region_access access;
	} message = { { .id = 7, .command = USER_REGION_READ, .size = sizeof(message) },
		      { .region = VFIO_PCI_CONFIG_REGION_INDEX, .count = 4 } };
	uint32_t id;

	raw_open(&raw, &bench);
	for (size_t i = 0; i < sizeof(message); i++)
		raw_send(&raw, (char *)&message + i, 1, NULL, 0);
	assert_int_equal(raw_receive(&raw), 0);
	assert_int_equal(raw.reply.header.id, 7);
	memcpy(&id, raw.reply.payload + sizeof(message.access), sizeof(id));
	assert_int_equal(id, 0x56781234);
	raw_close(&raw);
}

static void many_messages_at_once_are_answered_in_order(void **state)
{
	raw_open(&raw, &bench);
	for (unsigned i = 0; i < 100; i++)
		raw_request(&raw, USER_DEVICE_RESET, 0, NULL, 0, NULL, 0);
	for (unsigned i = 100; i--;) {
		assert_int_equal(raw_receive(&raw), 0);
		assert_int_equal(raw.reply.header.id, raw.id - i);
	}
	raw_close(&raw);
}

static void an_answer_that_is_not_wanted_is_not_sent(void **state)
{
	const unsigned resets = made_up.fake.resets;

	raw_open(&raw, &bench);
	raw_request(&raw, USER_DEVICE_RESET, USER_FLAG_NO_REPLY, NULL, 0, NULL, 0);
	/* Nor a refusal. */
	raw_request(&raw, 99, USER_FLAG_NO_REPLY, NULL, 0, NULL, 0);
	assert_int_equal(raw_call(&raw, USER_DEVICE_RESET, NULL, 0, NULL, 0), 0);
	assert_int_equal(made_up.fake.resets, resets + 2);
	raw_close(&raw);
}

/* ---- descriptors --------------------------------------------------------------------------- */

static void descriptors_where_none_belong_are_closed(void **state)
{
	static const struct {
		uint16_t command;
		size_t size;
	} cases[] = {
		{ USER_VERSION, 4 },
		{ USER_DMA_UNMAP, 24 },
		{ USER_DEVICE_GET_INFO, 16 },
		{ USER_DEVICE_GET_REGION_INFO, 32 },
		{ USER_DEVICE_GET_IRQ_INFO, 16 },
		{ USER_DEVICE_GET_REGION_IO_FDS, 16 },
		{ USER_REGION_READ, 16 },
		{ USER_REGION_WRITE, 20 },
		{ USER_DEVICE_RESET, 0 },
	};
	static const uint8_t zeroes[64];
	int fds[USER_FDS_MAX];

	raw_open(&raw, &bench);
	for (unsigned i = 0; i < USER_FDS_MAX; i++)
		fds[i] = raw.fd;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(raw_call(&raw, cases[i].command, zeroes, cases[i].size, fds, 1),
				 -EINVAL);
	/* One file at most; as many as were agreed on. */
	assert_int_equal(raw_call(&raw, USER_DMA_MAP, zeroes, 32, fds, 2), -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_SET_IRQS, zeroes, 20, fds, SERVER_FDS_MAX + 1),
			 -EINVAL);
	raw_close(&raw);
}

static void more_descriptors_than_any_message_has_end_the_connection(void **state)
{
	struct user_header header = { .command = USER_DEVICE_SET_IRQS, .size = sizeof(header) + 2 };
	int fds[USER_FDS_MAX];

	raw_open(&raw, &bench);
	for (unsigned i = 0; i < USER_FDS_MAX; i++)
		fds[i] = raw.fd;
	/* In two parts of one message. */
	raw_send(&raw, &header, sizeof(header), fds, 40);
	raw_send(&raw, "a", 1, fds, 40);
	assert_true(raw_ended(&raw));
	raw_close(&raw);
}

/* ---- time ---------------------------------------------------------------------------------- */

static void a_message_that_does_not_end_ends_the_connection(void **state)
{
	const struct user_header header = { .command = USER_DEVICE_RESET, .size = 100 };

	raw_open(&raw, &bench);
	raw_send(&raw, &header, sizeof(header), &raw.fd, 1);
	assert_true(raw_ended(&raw));
	raw_close(&raw);
	raw_open(&raw, &bench);
	raw_send(&raw, &header, 3, NULL, 0);
	assert_true(raw_ended(&raw));
	raw_close(&raw);
}

static void who_says_nothing_may_stay(void **state)
{
	raw_open(&raw, &bench);
	usleep(600000);
	assert_int_equal(raw_call(&raw, USER_DEVICE_RESET, NULL, 0, NULL, 0), 0);
	raw_close(&raw);
}

/* Answers of 64 KiB that nobody takes: the socket fills, the server waits its time and goes on. */
static void who_does_not_read_is_disconnected(void **state)
{
	const struct user_region_access access = { .region = 0, .count = 64 * KIB };
	const unsigned resets = made_up.fake.resets;

	raw_open(&raw, &bench);
	for (unsigned i = 0; i < 100; i++)
		raw_request(&raw, USER_REGION_READ, 0, &access, sizeof(access), NULL, 0);
	BENCH_WAIT(__atomic_load_n(&made_up.fake.resets, __ATOMIC_ACQUIRE) > resets);
	raw_close(&raw);
	raw_open(&raw, &bench);
	raw_close(&raw);
}

/* ---- version ------------------------------------------------------------------------------- */

static void whatever_comes_before_the_version_ends_the_connection(void **state)
{
	const unsigned resets = made_up.fake.resets;

	for (uint16_t command = 0; command < 20; command++) {
		if (command == USER_VERSION)
			continue;
		raw_connect(&raw, &bench);
		assert_int_equal(raw_call(&raw, command, "1234567890123456", 16, NULL, 0),
				 RAW_ENDED);
		raw_close(&raw);
	}
	/* And nobody has touched the device. */
	assert_int_equal(made_up.fake.resets, resets);
}

static void expect_version(uint16_t major, uint16_t minor, const char *json, size_t size, int err)
{
	raw_connect(&raw, &bench);
	if (raw_version(&raw, major, minor, json, size) != err)
		fail_msg("%u.%u %.40s: not %d", major, minor, json ? json : "", err);
	raw_close(&raw);
}

static void versions_that_are_not_ours_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"3",
		"{\"capabilities\":3}",
		"{\"capabilities\":[]}",
		"{\"capabilities\":{\"max_msg_fds\":0}}",
		"{\"capabilities\":{\"max_msg_fds\":-1}}",
		"{\"capabilities\":{\"max_msg_fds\":1.5}}",
		"{\"capabilities\":{\"max_msg_fds\":\"8\"}}",
		"{\"capabilities\":{\"max_msg_fds\":99999999999999999999}}",
		"{\"capabilities\":{\"max_data_xfer_size\":0}}",
		"{\"capabilities\":{\"divvy_region_map\":true}}",
	};
	char text[6000];

	expect_version(1, 0, NULL, 0, -EPROTONOSUPPORT);
	expect_version(0xffff, 0xffff, NULL, 0, -EPROTONOSUPPORT);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		expect_version(0, 1, bad[i], strlen(bad[i]) + 1, -EINVAL);
	/* Without its NUL; too long; too deep. */
	expect_version(0, 1, "{}", 2, -EINVAL);
	memset(text, ' ', sizeof(text));
	expect_version(0, 1, text, USER_VERSION_MAX + 1, -EINVAL);
	memset(text, '[', sizeof(text));
	text[USER_VERSION_MAX - 1] = '\0';
	expect_version(0, 1, text, USER_VERSION_MAX, -EINVAL);
	raw_connect(&raw, &bench);
	assert_int_equal(raw_call(&raw, USER_VERSION, "abc", 3, NULL, 0), -EINVAL);
	/* After a refusal it may say it better, but once. */
	assert_int_equal(raw_version(&raw, 0, 1, NULL, 0), 0);
	assert_int_equal(raw_version(&raw, 0, 1, NULL, 0), -EINVAL);
	raw_close(&raw);
}

static void expect_answer(const char *proposal, const char *answer)
{
	raw_connect(&raw, &bench);
	assert_int_equal(raw_version(&raw, 0, 7, proposal, strlen(proposal) + 1), 0);
	assert_memory_equal(raw.reply.payload, "\0\0\1\0", 4);
	assert_string_equal((char *)raw.reply.payload + 4, answer);
	assert_true(raw.reply.payload_size <= 4 + strlen(proposal) + 1);
	raw_close(&raw);
}

static void what_was_not_proposed_is_not_answered(void **state)
{
	expect_answer("{\"capabilities\":{}}", "{\"capabilities\":{}}");
	/* What stock QEMU says, and the extension besides. */
	expect_answer(
		"{\"capabilities\": {\"migration\": {\"max_bitmap_size\": 268435456, \"pgsize\": "
		"4096}, \"max_msg_fds\": 16, \"max_dma_maps\": 65535, \"pgsizes\": 4096, "
		"\"max_data_xfer_size\": 1048576, \"write_multiple\": true}}",
		"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
		"\"max_dma_maps\":64,\"pgsizes\":4096}}");
	expect_answer("{\"capabilities\":{\"max_msg_fds\":3,\"divvy_region_map\":2}}",
		      "{\"capabilities\":{\"max_msg_fds\":3,\"divvy_region_map\":1}}");
	/* A lower minor version is agreed to. */
	raw_connect(&raw, &bench);
	assert_int_equal(raw_version(&raw, 0, 0, NULL, 0), 0);
	assert_int_equal(raw.reply.payload_size, 4);
	assert_memory_equal(raw.reply.payload, "\0\0\0\0", 4);
	raw_close(&raw);
}

/* ---- device info --------------------------------------------------------------------------- */

static void device_info_has_its_size(void **state)
{
	struct user_device_info info = { .argsz = 15 };

	raw_open(&raw, &bench);
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_INFO, &info, sizeof(info), NULL, 0),
			 -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_INFO, &info, 15, NULL, 0), -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_INFO, "12345678901234567", 17, NULL, 0),
			 -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_INFO, NULL, 0, NULL, 0), -EINVAL);
	info.argsz = 4096;
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_INFO, &info, sizeof(info), NULL, 0), 0);
	memcpy(&info, raw.reply.payload, sizeof(info));
	assert_int_equal(info.argsz, 16);
	assert_int_equal(info.num_regions, VFIO_PCI_NUM_REGIONS);
	assert_int_equal(info.num_irqs, FAKE_IRQS);
	raw_close(&raw);
}

static void a_reset_has_no_payload_and_its_failure_is_told(void **state)
{
	raw_open(&raw, &bench);
	assert_int_equal(raw_call(&raw, USER_DEVICE_RESET, "1", 1, NULL, 0), -EINVAL);
	made_up.fake.reset_result = -EBUSY;
	assert_int_equal(raw_call(&raw, USER_DEVICE_RESET, NULL, 0, NULL, 0), -EBUSY);
	made_up.fake.reset_result = 0;
	assert_int_equal(raw_call(&raw, USER_DEVICE_RESET, NULL, 0, NULL, 0), 0);
	raw_close(&raw);
}

int main(void)
{
#define TEST(f)	     cmocka_unit_test_setup_teardown(f, setup, teardown)
#define IMPATIENT(f) cmocka_unit_test_setup_teardown(f, setup_impatient, teardown)
	const struct CMUnitTest tests[] = {
		TEST(headers_that_cannot_be_end_the_connection),
		TEST(unknown_commands_are_refused),
		TEST(a_message_may_come_byte_by_byte),
		TEST(many_messages_at_once_are_answered_in_order),
		TEST(an_answer_that_is_not_wanted_is_not_sent),
		TEST(descriptors_where_none_belong_are_closed),
		TEST(more_descriptors_than_any_message_has_end_the_connection),
		IMPATIENT(a_message_that_does_not_end_ends_the_connection),
		IMPATIENT(who_says_nothing_may_stay),
		IMPATIENT(who_does_not_read_is_disconnected),
		TEST(whatever_comes_before_the_version_ends_the_connection),
		TEST(versions_that_are_not_ours_are_refused),
		TEST(what_was_not_proposed_is_not_answered),
		TEST(device_info_has_its_size),
		TEST(a_reset_has_no_payload_and_its_failure_is_told),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
