// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupts that a vfio-user client asks for: every rule broken once, descriptors that are no eventfds, and
 * what a virtio device behind the server does with the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/resources.h"
#include "tests/unit/server_bench.h"

#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER
#define MASK	VFIO_IRQ_SET_ACTION_MASK
#define UNMASK	VFIO_IRQ_SET_ACTION_UNMASK
#define NONE	VFIO_IRQ_SET_DATA_NONE
#define BOOL	VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define MSIX	VFIO_PCI_MSIX_IRQ_INDEX
#define INTX	VFIO_PCI_INTX_IRQ_INDEX

static unsigned fds_before;
static struct bench bench;
static struct bench_device made_up;
static struct raw raw;
static int vectors[SERVER_FDS_MAX];

static int setup(void **state)
{
	bench_device_init(&made_up);
	fds_before = count_fds();
	for (unsigned i = 0; i < SERVER_FDS_MAX; i++)
		vectors[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bench_start(&bench, &made_up.fake.device, 0);
	raw_open(&raw, &bench);
	return 0;
}

static int teardown(void **state)
{
	raw_close(&raw);
	bench_stop(&bench);
	for (unsigned i = 0; i < SERVER_FDS_MAX; i++)
		close(vectors[i]);
	assert_int_equal(made_up.fake.armed[MSIX], 0);
	assert_int_equal(count_fds(), fds_before);
	bench_device_release(&made_up);
	return 0;
}

static int set_irqs(uint32_t flags, uint32_t index, uint32_t start, uint32_t count, size_t bytes,
		    unsigned fd_count)
{
	const struct vfio_irq_set set = { .argsz = (uint32_t)(sizeof(set) + bytes),
					  .flags = flags,
					  .index = index,
					  .start = start,
					  .count = count };
	uint8_t message[sizeof(set) + 64];

	memset(message, 1, sizeof(message));
	memcpy(message, &set, sizeof(set));
	return raw_call(&raw, USER_DEVICE_SET_IRQS, message, sizeof(set) + bytes, vectors,
			fd_count);
}

static void each_rule_of_set_irqs_is_kept(void **state)
{
	static const struct {
		const char *name;
		uint32_t flags, index, start, count;
		size_t bytes;
		unsigned fds;
	} cases[] = {
		{ "no action", NONE, MSIX, 0, 1, 0, 0 },
		{ "two actions", NONE | TRIGGER | MASK, INTX, 0, 1, 0, 0 },
		{ "no data", TRIGGER, MSIX, 0, 1, 0, 0 },
		{ "two kinds of data", NONE | EVENTFD | TRIGGER, MSIX, 0, 1, 0, 1 },
		{ "unknown flag", NONE | TRIGGER | 0x40, MSIX, 0, 1, 0, 0 },
		{ "unknown high flag", NONE | TRIGGER | 0x80000000, MSIX, 0, 1, 0, 0 },
		{ "unknown index", NONE | TRIGGER, FAKE_IRQS, 0, 1, 0, 0 },
		{ "endless index", NONE | TRIGGER, UINT32_MAX, 0, 1, 0, 0 },
		{ "index without interrupts", NONE | TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, 0, 0 },
		{ "start beyond", NONE | TRIGGER, MSIX, 21, 0, 0, 0 },
		{ "one too many", NONE | TRIGGER, MSIX, 0, 21, 0, 0 },
		{ "count around the end", NONE | TRIGGER, MSIX, 2, UINT32_MAX - 1, 0, 0 },
		{ "start around the end", NONE | TRIGGER, MSIX, UINT32_MAX, 2, 0, 0 },
		{ "none from somewhere", NONE | TRIGGER, MSIX, 1, 0, 0, 0 },
		{ "no eventfds for none", EVENTFD | TRIGGER, MSIX, 0, 0, 0, 0 },
		{ "no bools", BOOL | TRIGGER, MSIX, 0, 0, 0, 0 },
		{ "none is masked", NONE | MASK, INTX, 0, 0, 0, 0 },
		{ "MSI-X is not masked so", NONE | MASK, MSIX, 0, 1, 0, 0 },
		{ "nor unmasked", NONE | UNMASK, MSIX, 0, 1, 0, 0 },
		{ "no eventfds there", EVENTFD | TRIGGER, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, 0, 1 },
		{ "too few bools", BOOL | TRIGGER, MSIX, 0, 4, 3, 0 },
		{ "too many bools", BOOL | TRIGGER, MSIX, 0, 4, 5, 0 },
		{ "bytes with none", NONE | TRIGGER, MSIX, 0, 4, 4, 0 },
		{ "bytes with eventfds", EVENTFD | TRIGGER, MSIX, 0, 4, 16, 4 },
		{ "fewer descriptors", EVENTFD | TRIGGER, MSIX, 0, 4, 0, 3 },
		{ "more descriptors", EVENTFD | TRIGGER, MSIX, 0, 4, 0, 5 },
		{ "descriptors with bools", BOOL | TRIGGER, MSIX, 0, 4, 4, 4 },
		{ "descriptors with none", NONE | TRIGGER, MSIX, 0, 4, 0, 4 },
	};
	struct vfio_irq_set set = { .argsz = 19, .flags = NONE | TRIGGER, .index = MSIX };
	const unsigned calls = made_up.fake.set_irqs_calls;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		int err = set_irqs(cases[i].flags, cases[i].index, cases[i].start, cases[i].count,
				   cases[i].bytes, cases[i].fds);

		if (err != -EINVAL)
			fail_msg("%s: %d", cases[i].name, err);
	}
	assert_int_equal(raw_call(&raw, USER_DEVICE_SET_IRQS, &set, sizeof(set), NULL, 0), -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_SET_IRQS, &set, 19, NULL, 0), -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_SET_IRQS, NULL, 0, NULL, 0), -EINVAL);
	/* The device has heard of none of it. */
	assert_int_equal(made_up.fake.set_irqs_calls, calls);
}

static void eventfds_are_set_and_let_go(void **state)
{
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 16, 0, 16), 0);
	assert_int_equal(made_up.fake.armed[MSIX], 16);
	assert_int_equal(set_irqs(NONE | TRIGGER, MSIX, 0, 0, 0, 0), 0);
	assert_int_equal(made_up.fake.armed[MSIX], 0);
	/* No descriptors: these have none any more. */
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 4, 0, 0), 0);
	assert_int_equal(made_up.fake.fds[MSIX][0], -1);
	assert_int_equal(made_up.fake.fds[MSIX][3], -1);
	/* What the device says of it is what the client hears. */
	made_up.fake.fail_at = made_up.fake.calls + 1;
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, 0, 1), -EBUSY);
}

/* Anything else that takes a write could make the device wait, or do what its owner did not mean. */
static void only_eventfds_are_taken(void **state)
{
	const unsigned calls = made_up.fake.set_irqs_calls;
	const int kept = vectors[0];
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	vectors[0] = pipes[1];
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, 0, 1), -EBADF);
	vectors[0] = raw.fd;
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, 0, 1), -EBADF);
	vectors[0] = bench_memory(4096, 0);
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, 0, 1), -EBADF);
	/* One bad one among good ones. */
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 4, 0, 4), -EBADF);
	close(vectors[0]);
	close(pipes[0]);
	close(pipes[1]);
	vectors[0] = kept;
	assert_int_equal(made_up.fake.set_irqs_calls, calls);
	/* One that would wait when it is full does not any more. */
	close(vectors[0]);
	vectors[0] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, 0, 1), 0);
	assert_true(fcntl(vectors[0], F_GETFL) & O_NONBLOCK);
}

static void irq_info_has_its_size_and_index(void **state)
{
	struct vfio_irq_info info = { .argsz = 15 };

	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_IRQ_INFO, &info, sizeof(info), NULL, 0),
			 -EINVAL);
	info.argsz = 16;
	info.index = FAKE_IRQS;
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_IRQ_INFO, &info, sizeof(info), NULL, 0),
			 -EINVAL);
	info.index = UINT32_MAX;
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_IRQ_INFO, &info, sizeof(info), NULL, 0),
			 -EINVAL);
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_IRQ_INFO, &info, 12, NULL, 0), -EINVAL);
	info.index = MSIX;
	assert_int_equal(raw_call(&raw, USER_DEVICE_GET_IRQ_INFO, &info, sizeof(info), NULL, 0), 0);
	memcpy(&info, raw.reply.payload, sizeof(info));
	assert_int_equal(info.argsz, 16);
	assert_int_equal(info.index, MSIX);
	assert_int_equal(info.count, 20);
	assert_int_equal(info.flags, VFIO_IRQ_INFO_EVENTFD);
}

/* ---- a virtio device: the loopback trigger -------------------------------------------------- */

static struct vfio_device *rng;

static int rng_setup(void **state)
{
	fds_before = count_fds();
	for (unsigned i = 0; i < SERVER_FDS_MAX; i++)
		vectors[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(virtio_rng_create(&rng, NULL), 0);
	assert_int_equal(vfio_device_start(rng, NULL), 0);
	bench_start(&bench, rng, 0);
	raw_open(&raw, &bench);
	return 0;
}

static int rng_teardown(void **state)
{
	raw_close(&raw);
	bench_stop(&bench);
	rng->ops->close(rng);
	for (unsigned i = 0; i < SERVER_FDS_MAX; i++)
		close(vectors[i]);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void a_vector_is_raised_on_request(void **state)
{
	eventfd_t count;

	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 2, 0, 2), 0);
	assert_int_equal(set_irqs(NONE | TRIGGER, MSIX, 1, 1, 0, 0), 0);
	assert_int_equal(eventfd_read(vectors[1], &count), 0);
	assert_int_equal(eventfd_read(vectors[0], &count), -1);
	assert_int_equal(set_irqs(BOOL | TRIGGER, MSIX, 0, 2, 2, 0), 0);
	assert_int_equal(eventfd_read(vectors[0], &count), 0);
	assert_int_equal(eventfd_read(vectors[1], &count), 0);
}

/* A full one would keep the device's thread, and the server that waits for it, for ever. */
static void a_full_eventfd_holds_nobody_up(void **state)
{
	close(vectors[0]);
	vectors[0] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, 0, 1), 0);
	assert_int_equal(eventfd_write(vectors[0], UINT64_MAX - 1), 0);
	assert_int_equal(set_irqs(NONE | TRIGGER, MSIX, 0, 1, 0, 0), 0);
	assert_int_equal(raw_call(&raw, USER_DEVICE_RESET, NULL, 0, NULL, 0), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define RNG(f)	cmocka_unit_test_setup_teardown(f, rng_setup, rng_teardown)
	const struct CMUnitTest tests[] = {
		TEST(each_rule_of_set_irqs_is_kept), TEST(eventfds_are_set_and_let_go),
		TEST(only_eventfds_are_taken),	     TEST(irq_info_has_its_size_and_index),
		RNG(a_vector_is_raised_on_request),  RNG(a_full_eventfd_holds_nobody_up),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
