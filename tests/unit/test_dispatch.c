// SPDX-License-Identifier: Apache-2.0
/*
 * What the exit tables promise: the right handler, nothing crossed, changes from inside a handler and
 * beside readers.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/dispatch.h"

struct device {
	struct dispatch *d;
	uint64_t id;
	uint64_t offset, value;
	unsigned size, reads, writes;
	uint64_t move_to;
	int result;
};

static uint64_t device_read(void *opaque, uint64_t offset, unsigned size)
{
	struct device *device = opaque;

	device->offset = offset;
	device->size = size;
	__atomic_fetch_add(&device->reads, 1, __ATOMIC_RELAXED);
	return device->id;
}

static void device_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct device *device = opaque;

	device->offset = offset;
	device->size = size;
	device->value = value;
	device->writes++;
}

static const struct dispatch_handler handler = { device_read, device_write };

static int setup(void **state)
{
	struct dispatch *d;

	dispatch_thread_enter();
	if (dispatch_create(&d) < 0)
		return -1;
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	dispatch_destroy(*state);
	dispatch_thread_leave();
	return 0;
}

static void access_reaches_its_region_with_offset_and_size(void **state)
{
	struct dispatch *d = *state;
	struct device a = { .id = 0x1122334455667788 }, b = { .id = 2 };

	assert_int_equal(dispatch_add(d, 0x2000, 0x1000, &handler, &b), 0);
	assert_int_equal(dispatch_add(d, 0x1000, 0x1000, &handler, &a), 0);
	assert_int_equal(dispatch_read(d, 0x1ff8, 8), 0x1122334455667788);
	assert_int_equal(a.offset, 0xff8);
	assert_int_equal(a.size, 8);
	assert_int_equal(dispatch_read(d, 0x2000, 1), 2);
	assert_int_equal(b.offset, 0);
	dispatch_write(d, 0x2004, 4, 0xabcd);
	assert_int_equal(b.value, 0xabcd);
	assert_int_equal(b.offset, 4);
	assert_int_equal(a.writes, 0);
}

static void values_are_cut_to_the_size_of_the_access(void **state)
{
	struct dispatch *d = *state;
	struct device a = { .id = 0x1122334455667788 };

	dispatch_add(d, 0, 0x100, &handler, &a);
	assert_int_equal(dispatch_read(d, 0, 2), 0x7788);
	dispatch_write(d, 0, 1, 0xfff);
	assert_int_equal(a.value, 0xff);
}

static void nothing_there_answers_all_ones(void **state)
{
	struct dispatch *d = *state;
	struct device a = { 0 };

	assert_int_equal(dispatch_read(d, 0, 1), 0xff);
	dispatch_add(d, 0x1000, 0x10, &handler, &a);
	assert_int_equal(dispatch_read(d, 0xfff, 1), 0xff);
	assert_int_equal(dispatch_read(d, 0x1010, 4), 0xffffffff);
	assert_int_equal(dispatch_read(d, UINT64_MAX, 8), UINT64_MAX);
	dispatch_write(d, 0x1010, 4, 1);
	assert_int_equal(a.reads + a.writes, 0);
}

static void access_across_a_region_end_answers_all_ones(void **state)
{
	struct dispatch *d = *state;
	struct device a = { 0 }, b = { 0 };

	dispatch_add(d, 0x1000, 0x10, &handler, &a);
	dispatch_add(d, 0x1010, 0x10, &handler, &b);
	assert_int_equal(dispatch_read(d, 0x100e, 4), 0xffffffff);
	assert_int_equal(dispatch_read(d, 0xffe, 4), 0xffffffff);
	assert_int_equal(dispatch_read(d, 0x101c, 8), UINT64_MAX);
	dispatch_write(d, 0x100e, 4, 0);
	assert_int_equal(a.reads + a.writes + b.reads + b.writes, 0);
	assert_int_equal(dispatch_read(d, 0x100c, 4), 0);
}

static void odd_sizes_never_reach_a_handler(void **state)
{
	struct dispatch *d = *state;
	struct device a = { 0 };
	static const unsigned sizes[] = { 0, 3, 5, 16 };

	dispatch_add(d, 0, 0x100, &handler, &a);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(dispatch_read(d, 0, sizes[i]), UINT64_MAX);
		dispatch_write(d, 0, sizes[i], 1);
	}
	assert_int_equal(a.reads + a.writes, 0);
}

static void overlap_is_refused_and_neighbours_are_not(void **state)
{
	struct dispatch *d = *state;
	struct device a = { .id = 1 };

	assert_int_equal(dispatch_add(d, 0x1000, 0x1000, &handler, &a), 0);
	assert_int_equal(dispatch_add(d, 0x1000, 0x1000, &handler, &a), -EEXIST);
	assert_int_equal(dispatch_add(d, 0xfff, 2, &handler, &a), -EEXIST);
	assert_int_equal(dispatch_add(d, 0x1fff, 1, &handler, &a), -EEXIST);
	assert_int_equal(dispatch_add(d, 0x800, 0x2000, &handler, &a), -EEXIST);
	assert_int_equal(dispatch_add(d, 0xfff, 1, &handler, &a), 0);
	assert_int_equal(dispatch_add(d, 0x2000, 1, &handler, &a), 0);
}

static void empty_and_wrapping_regions_are_refused(void **state)
{
	struct dispatch *d = *state;
	struct device a = { .id = 7 };

	assert_int_equal(dispatch_add(d, 0x1000, 0, &handler, &a), -EINVAL);
	assert_int_equal(dispatch_add(d, UINT64_MAX, 2, &handler, &a), -EINVAL);
	/* The top of the space itself is fine. */
	assert_int_equal(dispatch_add(d, UINT64_MAX - 7, 8, &handler, &a), 0);
	assert_int_equal(dispatch_read(d, UINT64_MAX - 7, 8), 7);
	assert_int_equal(dispatch_read(d, UINT64_MAX - 3, 8), UINT64_MAX);
}

static void removed_region_answers_no_more(void **state)
{
	struct dispatch *d = *state;
	struct device a = { .id = 1 }, b = { .id = 2 }, c = { .id = 3 };

	dispatch_add(d, 0x1000, 0x10, &handler, &a);
	dispatch_add(d, 0x2000, 0x10, &handler, &b);
	dispatch_add(d, 0x3000, 0x10, &handler, &c);
	assert_int_equal(dispatch_remove(d, 0x2008), -ENOENT);
	assert_int_equal(dispatch_remove(d, 0x2000), 0);
	assert_int_equal(dispatch_remove(d, 0x2000), -ENOENT);
	dispatch_synchronize(d);
	assert_int_equal(dispatch_read(d, 0x1000, 1), 1);
	assert_int_equal(dispatch_read(d, 0x2000, 1), 0xff);
	assert_int_equal(dispatch_read(d, 0x3000, 1), 3);
}

static void moving_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct device *device = opaque;

	device->result = dispatch_remove(device->d, value);
	if (device->result == 0)
		device->result = dispatch_add(device->d, device->move_to, 0x1000, &handler, device);
	/* A mistake that must not hang the vCPU. */
	dispatch_synchronize(device->d);
}

static void handler_may_move_its_own_region(void **state)
{
	static const struct dispatch_handler moving = { device_read, moving_write };
	struct dispatch *d = *state;
	struct device a = { .d = d, .id = 9, .move_to = 0x8000 };

	dispatch_add(d, 0x1000, 0x1000, &moving, &a);
	alarm(20);
	dispatch_write(d, 0x1000, 8, 0x1000);
	alarm(0);
	assert_int_equal(a.result, 0);
	assert_int_equal(dispatch_read(d, 0x1000, 1), 0xff);
	assert_int_equal(dispatch_read(d, 0x8000, 1), 9);
}

struct many {
	struct dispatch *d;
	bool stop;
	unsigned wrong;
};

/* The even regions are always there; the odd ones come and go. */
static void *reader(void *arg)
{
	struct many *many = arg;
	unsigned i = 0;

	while (!__atomic_load_n(&many->stop, __ATOMIC_ACQUIRE)) {
		uint64_t even = dispatch_read(many->d, (i % 64) * 2 * 0x1000, 8);
		uint64_t odd = dispatch_read(many->d, ((i % 64) * 2 + 1) * 0x1000, 8);

		if (even != (i % 64) * 2 || (odd != UINT64_MAX && odd != (i % 64) * 2 + 1))
			__atomic_fetch_add(&many->wrong, 1, __ATOMIC_RELAXED);
		i++;
	}
	return NULL;
}

static void *registered_reader(void *arg)
{
	void *result;

	dispatch_thread_enter();
	result = reader(arg);
	dispatch_thread_leave();
	return result;
}

static void readers_beside_changes_see_the_old_or_the_new(void **state)
{
	struct many many = { .d = *state };
	struct device devices[128] = { 0 };
	pthread_t threads[2];

	for (unsigned i = 0; i < 128; i++) {
		devices[i].id = i;
		assert_int_equal(dispatch_add(many.d, i * 0x1000, 0x1000, &handler, &devices[i]),
				 0);
	}
	assert_int_equal(pthread_create(&threads[0], NULL, registered_reader, &many), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, reader, &many), 0);
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned i = 1; i < 128; i += 2)
			assert_int_equal(dispatch_remove(many.d, i * 0x1000), 0);
		dispatch_synchronize(many.d);
		for (unsigned i = 1; i < 128; i += 2)
			assert_int_equal(
				dispatch_add(many.d, i * 0x1000, 0x1000, &handler, &devices[i]), 0);
	}
	__atomic_store_n(&many.stop, true, __ATOMIC_RELEASE);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_int_equal(many.wrong, 0);
}

struct slow {
	bool entered, leave, left;
};

static uint64_t slow_read(void *opaque, uint64_t offset, unsigned size)
{
	struct slow *slow = opaque;

	__atomic_store_n(&slow->entered, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&slow->leave, __ATOMIC_ACQUIRE))
		usleep(1000);
	usleep(20000);
	__atomic_store_n(&slow->left, true, __ATOMIC_RELEASE);
	return 0;
}

static void *slow_reader(void *arg)
{
	dispatch_thread_enter();
	dispatch_read(arg, 0x1000, 1);
	dispatch_thread_leave();
	return NULL;
}

static void synchronize_waits_for_a_running_handler_and_remove_does_not(void **state)
{
	static const struct dispatch_handler slow_handler = { slow_read, NULL };
	struct dispatch *d = *state;
	struct slow slow = { 0 };
	pthread_t thread;

	dispatch_add(d, 0x1000, 0x10, &slow_handler, &slow);
	assert_int_equal(pthread_create(&thread, NULL, slow_reader, d), 0);
	while (!__atomic_load_n(&slow.entered, __ATOMIC_ACQUIRE))
		usleep(1000);
	assert_int_equal(dispatch_remove(d, 0x1000), 0);
	assert_false(__atomic_load_n(&slow.left, __ATOMIC_ACQUIRE));
	__atomic_store_n(&slow.leave, true, __ATOMIC_RELEASE);
	dispatch_synchronize(d);
	assert_true(__atomic_load_n(&slow.left, __ATOMIC_ACQUIRE));
	pthread_join(thread, NULL);
}

static void changes_are_slowed_down_while_a_handler_holds_back_freeing(void **state)
{
	static const struct dispatch_handler slow_handler = { slow_read, NULL };
	struct dispatch *d = *state;
	struct slow slow = { 0 };
	pthread_t thread;
	uint64_t took;

	dispatch_add(d, 0x1000, 0x10, &slow_handler, &slow);
	assert_int_equal(pthread_create(&thread, NULL, slow_reader, d), 0);
	while (!__atomic_load_n(&slow.entered, __ATOMIC_ACQUIRE))
		usleep(1000);
	for (unsigned i = 0; i < 600; i++) {
		assert_int_equal(dispatch_add(d, 0x2000, 0x10, &handler, NULL), 0);
		assert_int_equal(dispatch_remove(d, 0x2000), 0);
	}
	took = monotonic_ns();
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(dispatch_add(d, 0x2000, 0x10, &handler, NULL), 0);
		assert_int_equal(dispatch_remove(d, 0x2000), 0);
	}
	took = monotonic_ns() - took;
	__atomic_store_n(&slow.leave, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_true(took >= 100 * UINT64_C(1000000));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(access_reaches_its_region_with_offset_and_size),
		TEST(values_are_cut_to_the_size_of_the_access),
		TEST(nothing_there_answers_all_ones),
		TEST(access_across_a_region_end_answers_all_ones),
		TEST(odd_sizes_never_reach_a_handler),
		TEST(overlap_is_refused_and_neighbours_are_not),
		TEST(empty_and_wrapping_regions_are_refused),
		TEST(removed_region_answers_no_more),
		TEST(handler_may_move_its_own_region),
		TEST(readers_beside_changes_see_the_old_or_the_new),
		TEST(synchronize_waits_for_a_running_handler_and_remove_does_not),
		TEST(changes_are_slowed_down_while_a_handler_holds_back_freeing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
