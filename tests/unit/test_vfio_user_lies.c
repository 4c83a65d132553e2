// SPDX-License-Identifier: Apache-2.0
/*
 * The vfio-user client against servers that lie, die or say nothing: each case ends in an errno of the
 * call it hits, a device that is dead for good, and nothing left open.
 */
#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

#include <errno.h>
#include <fcntl.h>

#include "tests/unit/fake_vfio_device.h"
#include "tests/unit/vfio_user_liar.h"

/* Long enough for a loaded machine to keep, where keeping it is wanted. */
#define TIMEOUT_MS 300

static unsigned fds_before;
static struct server server;
static struct fake_device fake;
static int guest_fd;
static void *guest_memory;

static int setup(void **state)
{
	fake_init(&fake, 0x56781234, 0x088000, 4096);
	fake_bar(&fake, 0, 64 * KIB, 0);
	fake.regions[VFIO_PCI_CONFIG_REGION_INDEX].flags =
		VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	fake.irqs[VFIO_PCI_MSIX_IRQ_INDEX] =
		(struct vfio_irq){ .count = 20, .flags = VFIO_IRQ_INFO_EVENTFD };
	guest_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(guest_fd, 4096), 0);
	guest_memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, guest_fd, 0);
	fds_before = count_fds();
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(count_fds(), fds_before);
	munmap(guest_memory, 4096);
	close(guest_fd);
	fake_release(&fake);
	return 0;
}

/* Connect to a server that tells @lie. Returns what vfio_user_attach() did. */
static int attach(const struct lie *lie, struct vfio_device **device, struct error *e)
{
	int pair[2], ret;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	server_init(&server, &fake.device, pair[1]);
	server.region_fds[0] = fake.memory[0];
	server.hook = lie_hook;
	server.opaque = (void *)(uintptr_t)lie;
	assert_int_equal(server_start(&server), 0);
	ret = vfio_user_attach(pair[0], "test", TIMEOUT_MS, device, e);
	if (!ret)
		assert_int_equal(vfio_device_start(*device, e), 0);
	else
		server_join(&server);
	return ret;
}

/* ---- while it is opened -------------------------------------------------------------------- */

static void expect_not_opened(const struct lie *lies, size_t count, const char *code)
{
	for (size_t i = 0; i < count; i++) {
		struct vfio_device *device = NULL;
		struct error e = { 0 };
		int ret = attach(&lies[i], &device, &e);

		if (ret != lies[i].err || strcmp(e.code, code) != 0)
			fail_msg("%s: %d (%s: %s), not %d", lies[i].name, ret, e.code ? e.code : "",
				 e.text, lies[i].err);
		assert_null(device);
		if (count_fds() != fds_before)
			fail_msg("%s: %u file descriptors, not %u", lies[i].name, count_fds(),
				 fds_before);
	}
}

static const void *version_bytes;
static size_t version_size;

static void lie_version(struct server *s, const struct user_message *message)
{
	server_reply(s, message, version_bytes, version_size, NULL, 0, NULL, 0);
}

/* A version of @minor with @json and its NUL (and @cut bytes less). */
static void version_set(uint16_t major, uint16_t minor, const char *json, size_t cut)
{
	static char bytes[8192];
	const struct user_version version = { major, minor };

	memcpy(bytes, &version, sizeof(version));
	strcpy(bytes + sizeof(version), json);
	version_bytes = bytes;
	version_size = sizeof(version) + strlen(json) + 1 - cut;
}

static void expect_version_refused(uint16_t major, uint16_t minor, const char *json, size_t cut)
{
	const struct lie lie = { json, USER_VERSION, lie_version, -EPROTO };

	version_set(major, minor, json, cut);
	expect_not_opened(&lie, 1, "vfio-user-version");
}

static void versions_that_were_not_proposed_are_refused(void **state)
{
	const struct lie short_one = { "short", USER_VERSION, lie_version, -EPROTO };

	expect_version_refused(1, 0, "{}", 0);
	expect_version_refused(0, USER_VERSION_MINOR + 1, "{}", 0);
	version_bytes = "123";
	version_size = 3;
	expect_not_opened(&short_one, 1, "vfio-user-version");
}

static void capabilities_that_cannot_be_are_refused(void **state)
{
	static char endless[USER_VERSION_MAX + 1], deep[3000];

	expect_version_refused(0, 0, "{}", 1); /* no NUL */
	expect_version_refused(0, 0, "", 0);
	expect_version_refused(0, 0, "{", 0);
	expect_version_refused(0, 0, "[]", 0);
	expect_version_refused(0, 0, "{\"capabilities\":3}", 0);
	expect_version_refused(0, 0, "{\"capabilities\":{\"max_msg_fds\":0}}", 0);
	expect_version_refused(0, 0, "{\"capabilities\":{\"max_msg_fds\":-1}}", 0);
	expect_version_refused(0, 0, "{\"capabilities\":{\"max_msg_fds\":1.5}}", 0);
	expect_version_refused(0, 0, "{\"capabilities\":{\"max_msg_fds\":\"8\"}}", 0);
	expect_version_refused(0, 0, "{\"capabilities\":{\"max_data_xfer_size\":0}}", 0);
	memset(deep, '[', sizeof(deep) - 1);
	expect_version_refused(0, 0, deep, 0);
	memset(endless, ' ', sizeof(endless) - 1);
	endless[0] = '{';
	endless[sizeof(endless) - 2] = '}';
	expect_version_refused(0, 0, endless, 0); /* its NUL is one too many */
}

/* What the client made of capabilities that are fine. */
static void expect_limits(const char *json, size_t cut, unsigned fds, size_t transfer)
{
	const struct lie lie = { json, USER_VERSION, lie_version, 0 };
	struct vfio_device *device;
	struct user_client *client;
	struct error e = { 0 };

	version_set(0, 0, json, cut);
	if (attach(&lie, &device, &e))
		fail_msg("%s: %s", json, e.text);
	client = &container_of(device, struct user_device, device)->client;
	assert_int_equal(client->fds_max, fds);
	assert_int_equal(client->transfer_max, transfer);
	vfio_device_close(device);
	server_join(&server);
}

static void limits_are_the_servers_the_specifications_or_ours(void **state)
{
	expect_limits("", 1, 1, MIB); /* no version data at all */
	expect_limits("{}", 0, 1, MIB);
	expect_limits("{\"capabilities\":{\"migration\":{\"pgsize\":4096},\"x\":[]}}", 0, 1, MIB);
	expect_limits("{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":4096}}", 0, 8,
		      4096);
	expect_limits("{\"capabilities\":{\"max_msg_fds\":9999999999,"
		      "\"max_data_xfer_size\":9999999999}}",
		      0, USER_FDS_MAX, USER_TRANSFER_MAX);
}

static void a_server_that_fails_in_the_handshake_is_given_up(void **state)
{
	static const struct lie lies[] = {
		{ "dies", USER_VERSION, lie_die, -ECONNRESET },
		{ "says nothing", USER_VERSION, lie_hang, -ETIMEDOUT },
		{ "stops midway", USER_VERSION, lie_hang_midway, -ETIMEDOUT },
		{ "sends a descriptor", USER_VERSION, lie_one_fd, -EPROTO },
		{ "sends too much", USER_VERSION, lie_long, -EPROTO },
	};

	expect_not_opened(lies, ARRAY_SIZE(lies), "vfio-user-version");
}

static void devices_that_cannot_be_are_not_opened(void **state)
{
	static const struct lie lies[] = {
		{ "empty info", USER_DEVICE_GET_INFO, lie_empty, -EPROTO },
		{ "long info", USER_DEVICE_GET_INFO, lie_long, -EPROTO },
		{ "no PCI device", USER_DEVICE_GET_INFO, lie_not_pci, -ENODEV },
		{ "no config space", USER_DEVICE_GET_INFO, lie_no_config, -ENODEV },
		{ "empty region", USER_DEVICE_GET_REGION_INFO, lie_empty, -EPROTO },
		{ "long region", USER_DEVICE_GET_REGION_INFO, lie_long, -EPROTO },
		{ "another region", USER_DEVICE_GET_REGION_INFO, lie_region_index, -EPROTO },
		{ "a chain into the head", USER_DEVICE_GET_REGION_INFO, lie_region_chain, -EPROTO },
		{ "too many areas", USER_DEVICE_GET_REGION_INFO, lie_region_areas, -EPROTO },
		{ "an area outside", USER_DEVICE_GET_REGION_INFO, lie_region_outside, -EPROTO },
		{ "an endless region", USER_DEVICE_GET_REGION_INFO, lie_region_endless, -EPROTO },
		{ "a file without mapping", USER_DEVICE_GET_REGION_INFO, lie_region_fd, -EPROTO },
		{ "two files", USER_DEVICE_GET_REGION_INFO, lie_region_fds, -EPROTO },
		{ "empty IO fds", USER_DEVICE_GET_REGION_IO_FDS, lie_empty, -EPROTO },
		{ "IO fd without fd", USER_DEVICE_GET_REGION_IO_FDS, lie_io_fd_index, -EPROTO },
		{ "IO fd outside", USER_DEVICE_GET_REGION_IO_FDS, lie_io_fd_offset, -EPROTO },
		{ "IO fd of three bytes", USER_DEVICE_GET_REGION_IO_FDS, lie_io_fd_size, -EPROTO },
		{ "IO fd with flags", USER_DEVICE_GET_REGION_IO_FDS, lie_io_fd_flags, -EPROTO },
		{ "IO fds without end", USER_DEVICE_GET_REGION_IO_FDS, lie_io_fd_count, -EPROTO },
		{ "many good descriptors", USER_DEVICE_GET_REGION_IO_FDS, lie_io_fd_many, -EPROTO },
		{ "too many descriptors", USER_DEVICE_GET_REGION_IO_FDS, lie_many_fds, -EPROTO },
		{ "empty interrupt", USER_DEVICE_GET_IRQ_INFO, lie_empty, -EPROTO },
		{ "another interrupt", USER_DEVICE_GET_IRQ_INFO, lie_irq_index, -EPROTO },
		{ "dies at a region", USER_DEVICE_GET_REGION_INFO, lie_die, -ECONNRESET },
		{ "dies at IO fds", USER_DEVICE_GET_REGION_IO_FDS, lie_die_midway, -ECONNRESET },
		{ "silent at interrupts", USER_DEVICE_GET_IRQ_INFO, lie_hang, -ETIMEDOUT },
	};

	expect_not_opened(lies, ARRAY_SIZE(lies), "bad-device");
}

/* ---- while it is used ---------------------------------------------------------------------- */

static int call_once(struct vfio_device *device, uint16_t command)
{
	int32_t fd = eventfd(0, EFD_CLOEXEC);
	uint32_t value = 0;
	ssize_t ret = 0;

	switch (command) {
	case USER_REGION_READ:
		ret = device->ops->region_read(device, 0, 0, &value, 4);
		break;
	case USER_REGION_WRITE:
		ret = device->ops->region_write(device, 0, 0, &value, 4);
		break;
	case USER_DMA_MAP:
		ret = device->ops->dma_map(device, 0x10000, 4096, guest_memory, guest_fd, 0);
		break;
	case USER_DMA_UNMAP:
		ret = device->ops->dma_map(device, 0x20000, 4096, guest_memory, guest_fd, 0);
		ret = ret ? ret : device->ops->dma_unmap(device, 0x20000, 4096);
		break;
	case USER_DEVICE_SET_IRQS:
		ret = device->ops->set_irqs(device,
					    VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
					    VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &fd);
		break;
	default:
		ret = device->ops->reset(device);
		break;
	}
	close(fd);
	return ret > 0 ? 0 : (int)ret;
}

static const uint16_t calls[] = { USER_REGION_READ, USER_REGION_WRITE,	  USER_DMA_MAP,
				  USER_DMA_UNMAP,   USER_DEVICE_SET_IRQS, USER_DEVICE_RESET };

static void expect_death(const struct lie *lie)
{
	struct vfio_device *device = NULL;
	struct vfio_region region;
	struct error e = { 0 };
	uint64_t start;
	int ret;

	if (attach(lie, &device, &e))
		fail_msg("%s: %s", lie->name, e.text);
	start = monotonic_ns();
	ret = call_once(device, lie->command);
	if (ret != lie->err)
		fail_msg("%s (command %u): %d, not %d", lie->name, lie->command, ret, lie->err);
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		ret = call_once(device, calls[i]);
		if (ret != -ENODEV)
			fail_msg("%s: command %u afterwards: %d", lie->name, calls[i], ret);
	}
	/* No call waited longer than its limit, none of the later ones at all. */
	assert_true(monotonic_ns() - start < 10 * TIMEOUT_MS * UINT64_C(1000000));
	/* What was learned at the start is still known. */
	assert_int_equal(device->ops->get_region(device, 0, &region), 0);
	assert_int_equal(region.size, 64 * KIB);
	vfio_device_close(device);
	server_join(&server);
	if (count_fds() != fds_before)
		fail_msg("%s: %u file descriptors, not %u", lie->name, count_fds(), fds_before);
}

/* Lies that no command is safe from. */
static void malformed_answers_kill_the_device_whatever_was_asked(void **state)
{
	static struct lie lies[] = {
		{ "wrong message ID", 0, lie_id, -EPROTO },
		{ "wrong command", 0, lie_command, -EPROTO },
		{ "unknown flags", 0, lie_flags, -EPROTO },
		{ "unknown type", 0, lie_type, -EPROTO },
		{ "a reply without reply", 0, lie_reply_no_reply, -EPROTO },
		{ "a command that failed", 0, lie_command_error, -EPROTO },
		{ "less than a header", 0, lie_size_small, -EPROTO },
		{ "4 GiB", 0, lie_size_huge, -EPROTO },
		{ "an error with data", 0, lie_error_payload, -EPROTO },
		{ "too much data", 0, lie_long, -EPROTO },
		{ "a descriptor", 0, lie_one_fd, -EPROTO },
		{ "100 descriptors", 0, lie_many_fds, -EPROTO },
		{ "80 descriptors in two parts", 0, lie_fds_in_parts, -EPROTO },
		{ "an error with a descriptor", 0, lie_error_fd, -EPROTO },
		{ "death", 0, lie_die, -ECONNRESET },
		{ "death in a header", 0, lie_die_midway, -ECONNRESET },
		{ "death in a payload", 0, lie_die_in_payload, -ECONNRESET },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++)
		for (unsigned j = 0; j < ARRAY_SIZE(calls); j++) {
			lies[i].command = calls[j];
			expect_death(&lies[i]);
		}
}

static void silence_lasts_as_long_as_the_time_limit(void **state)
{
	static const struct lie lies[] = {
		{ "silence", USER_REGION_READ, lie_hang, -ETIMEDOUT },
		{ "silence", USER_DMA_UNMAP, lie_hang, -ETIMEDOUT },
		{ "silence in a message", USER_DEVICE_RESET, lie_hang_midway, -ETIMEDOUT },
		{ "requests instead of an answer", USER_REGION_WRITE, lie_busy, -ETIMEDOUT },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++)
		expect_death(&lies[i]);
}

static void answers_to_something_else_kill_the_device(void **state)
{
	static const struct lie lies[] = {
		{ "nothing read", USER_REGION_READ, lie_empty, -EPROTO },
		{ "another offset", USER_REGION_READ, lie_access_offset, -EPROTO },
		{ "another count", USER_REGION_READ, lie_access_count, -EPROTO },
		{ "nothing written", USER_REGION_WRITE, lie_empty, -EPROTO },
		{ "4 GiB written", USER_REGION_WRITE, lie_write_count, -EPROTO },
		{ "another range", USER_DMA_UNMAP, lie_unmap, -EPROTO },
		{ "a range elsewhere", USER_DMA_UNMAP, lie_unmap_address, -EPROTO },
		{ "no range", USER_DMA_UNMAP, lie_empty, -EPROTO },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++)
		expect_death(&lies[i]);
}

static void malformed_requests_of_the_server_kill_the_device(void **state)
{
	static const struct lie lies[] = {
		{ "endless DMA", USER_DEVICE_RESET, lie_dma_huge, -EPROTO },
		{ "a read with data", USER_DEVICE_RESET, lie_dma_read_data, -EPROTO },
		{ "a write with less", USER_DEVICE_RESET, lie_dma_write_short, -EPROTO },
		{ "DMA with a descriptor", USER_DEVICE_RESET, lie_dma_fd, -EPROTO },
		{ "DMA without address", USER_DEVICE_RESET, lie_dma_short, -EPROTO },
		{ "half a map", USER_DEVICE_RESET, lie_map_short, -EPROTO },
		{ "a map of nothing", USER_DEVICE_RESET, lie_map_no_fd, -EPROTO },
		{ "a map of two files", USER_DEVICE_RESET, lie_map_two_fds, -EPROTO },
		{ "an unmap with a file", USER_DEVICE_RESET, lie_unmap_fd, -EPROTO },
		{ "a map of another size", USER_DEVICE_RESET, lie_map_argsz, -EPROTO },
		{ "a map with flags", USER_DEVICE_RESET, lie_map_flags, -EPROTO },
		{ "an unmap with what is reserved", USER_DEVICE_RESET, lie_map_reserved, -EPROTO },
		{ "an unmap with a file's offset", USER_DEVICE_RESET, lie_unmap_offset, -EPROTO },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++)
		expect_death(&lies[i]);
}

/* One answer too many is noticed when it comes, or by the next call at the latest. */
static void a_second_answer_kills_the_device(void **state)
{
	const struct lie lie = { "twice", USER_DEVICE_RESET, lie_twice, 0 };
	struct vfio_device *device = NULL;
	struct error e = { 0 };
	int ret = 0;

	assert_int_equal(attach(&lie, &device, &e), 0);
	assert_int_equal(device->ops->reset(device), 0);
	for (unsigned i = 0; i < 5000 && ret != -ENODEV; i++) {
		ret = call_once(device, USER_REGION_READ);
		usleep(1000);
	}
	assert_int_equal(ret, -ENODEV);
	vfio_device_close(device);
	server_join(&server);
}

/* Nobody waits for it, and still half a message does not last for ever. */
static void a_message_that_does_not_end_kills_the_device(void **state)
{
	const struct lie lie = { "half", USER_DEVICE_RESET, lie_hang_later, 0 };
	struct vfio_device *device = NULL;
	struct user_client *client;
	struct error e = { 0 };

	assert_int_equal(attach(&lie, &device, &e), 0);
	client = &container_of(device, struct user_device, device)->client;
	assert_int_equal(device->ops->reset(device), 0);
	for (unsigned i = 0; i < 10 * TIMEOUT_MS && !user_client_dead(client); i++)
		usleep(1000);
	assert_true(user_client_dead(client));
	assert_int_equal(call_once(device, USER_REGION_READ), -ENODEV);
	vfio_device_close(device);
	server_join(&server);
}

/*
 * A server that stops reading: what is sent must not wait for ever either. One thread's request holds
 * it up, the next finds the socket full.
 */
static pthread_mutex_t deaf = PTHREAD_MUTEX_INITIALIZER;

static void lie_deaf(struct server *s, const struct user_message *message)
{
	pthread_mutex_lock(&deaf);
	pthread_mutex_unlock(&deaf);
}

static void *reset_for_nothing(void *device)
{
	((struct vfio_device *)device)->ops->reset(device);
	return NULL;
}

static void a_server_that_does_not_read_kills_the_device(void **state)
{
	static const struct lie lie = { "deaf", USER_DEVICE_RESET, lie_deaf, 0 };
	const size_t size = 64 * KIB;
	uint8_t *bytes = calloc(1, size);
	struct vfio_device *device = NULL;
	struct error e = { 0 };
	pthread_t thread;
	int ret, small = 4096;

	assert_int_equal(attach(&lie, &device, &e), 0);
	setsockopt(container_of(device, struct user_device, device)->client.fd, SOL_SOCKET,
		   SO_SNDBUF, &small, sizeof(small));
	pthread_mutex_lock(&deaf);
	pthread_create(&thread, NULL, reset_for_nothing, device);
	usleep(10000);
	ret = (int)device->ops->region_write(device, 0, 0, bytes, size);
	pthread_join(thread, NULL);
	pthread_mutex_unlock(&deaf);
	assert_int_equal(ret, -ETIMEDOUT);
	assert_int_equal(call_once(device, USER_REGION_READ), -ENODEV);
	vfio_device_close(device);
	server_join(&server);
	free(bytes);
}

struct waiter {
	struct vfio_device *device;
	int ret;
};

static void *wait_for_answer(void *arg)
{
	struct waiter *waiter = arg;
	uint32_t value;

	waiter->ret = (int)waiter->device->ops->region_read(waiter->device, 0, 0, &value, 4);
	return NULL;
}

static void death_wakes_everybody_who_waits(void **state)
{
	const struct lie lie = { "silence", USER_REGION_READ, lie_hang, 0 };
	struct vfio_device *device = NULL;
	struct waiter waiters[4];
	pthread_t threads[4];
	struct error e = { 0 };
	uint64_t start;

	assert_int_equal(attach(&lie, &device, &e), 0);
	start = monotonic_ns();
	for (unsigned i = 0; i < 4; i++) {
		waiters[i].device = device;
		pthread_create(&threads[i], NULL, wait_for_answer, &waiters[i]);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_true(waiters[i].ret == -ETIMEDOUT || waiters[i].ret == -ENODEV);
	}
	assert_true(monotonic_ns() - start < 10 * TIMEOUT_MS * UINT64_C(1000000));
	vfio_device_close(device);
	server_join(&server);
}

static void guest_memory_is_let_go_when_the_server_is_dead(void **state)
{
	const struct lie lie = { "death", USER_DEVICE_RESET, lie_die, 0 };
	struct vfio_device *device = NULL;
	struct user_client *client;
	struct error e = { 0 };

	assert_int_equal(attach(&lie, &device, &e), 0);
	client = &container_of(device, struct user_device, device)->client;
	assert_int_equal(call_once(device, USER_DMA_MAP), 0);
	assert_int_equal(client->dma.count, 1);
	assert_int_equal(call_once(device, USER_DEVICE_RESET), -ECONNRESET);
	assert_int_equal(device->ops->dma_unmap(device, 0x10000, 4096), -ENODEV);
	assert_int_equal(client->dma.count, 0);
	vfio_device_close(device);
	server_join(&server);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(versions_that_were_not_proposed_are_refused),
		TEST(capabilities_that_cannot_be_are_refused),
		TEST(limits_are_the_servers_the_specifications_or_ours),
		TEST(a_server_that_fails_in_the_handshake_is_given_up),
		TEST(devices_that_cannot_be_are_not_opened),
		TEST(malformed_answers_kill_the_device_whatever_was_asked),
		TEST(silence_lasts_as_long_as_the_time_limit),
		TEST(answers_to_something_else_kill_the_device),
		TEST(malformed_requests_of_the_server_kill_the_device),
		TEST(a_second_answer_kills_the_device),
		TEST(a_message_that_does_not_end_kills_the_device),
		TEST(a_server_that_does_not_read_kills_the_device),
		TEST(death_wakes_everybody_who_waits),
		TEST(guest_memory_is_let_go_when_the_server_is_dead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
