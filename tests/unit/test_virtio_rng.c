// SPDX-License-Identifier: Apache-2.0
/* virtio-rng, driven end to end by a guest's driver. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

static struct guest guest;
static unsigned fds_before;

static int setup(void **state)
{
	struct vfio_device *device;

	fds_before = count_fds();
	assert_int_equal(virtio_rng_create(&device, NULL), 0);
	guest_open(&guest, device);
	guest_start(&guest, 1, 0);
	return 0;
}

static int teardown(void **state)
{
	guest_close(&guest);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void fills_the_buffer(void **state)
{
	uint64_t gpa = guest_alloc(&guest, 256);
	struct guest_buffer buffer = { gpa, 256, true };
	uint8_t first[256];

	assert_int_equal(guest_request(&guest, 0, &buffer, 1), 256);
	memcpy(first, guest_ptr(&guest, gpa), sizeof(first));
	assert_int_equal(guest_request(&guest, 0, &buffer, 1), 256);
	assert_memory_not_equal(first, guest_ptr(&guest, gpa), sizeof(first));
}

static void bounds_one_request(void **state)
{
	uint64_t gpa = guest_alloc(&guest, 128 * KIB);
	struct guest_buffer buffer = { gpa, 128 * KIB, true };

	assert_int_equal(guest_request(&guest, 0, &buffer, 1), 64 * KIB);
}

static void serves_many_requests_in_order(void **state)
{
	uint64_t gpa = guest_alloc(&guest, 64);
	struct guest_buffer buffer = { gpa, 64, true };

	/* Past the wrap of a 16-bit index is the property test's business; past the ring is ours. */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(guest_request(&guest, 0, &buffer, 1), 64);
}

static void leaves_a_readable_buffer_alone(void **state)
{
	uint64_t gpa = guest_alloc(&guest, 64);
	struct guest_buffer buffer = { gpa, 64, false };

	memset(guest_ptr(&guest, gpa), 0x5a, 64);
	assert_int_equal(guest_request(&guest, 0, &buffer, 1), 0);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(((uint8_t *)guest_ptr(&guest, gpa))[i], 0x5a);
}

static bool no_more_threads;

/* Stands before libc's: like it, leaves something in *thread when it fails. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (no_more_threads) {
		*thread = 0x10;
		return EAGAIN;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return real(thread, attr, start, arg);
}

static void without_a_thread_there_is_no_device(void **state)
{
	unsigned before = count_fds();
	struct vfio_device *device;
	struct error e = { 0 };

	no_more_threads = true;
	assert_int_equal(virtio_rng_create(&device, &e), 0);
	assert_int_equal(vfio_device_start(device, &e), -EAGAIN);
	vfio_device_close(device);
	no_more_threads = false;
	assert_string_equal(e.code, "device-failed");
	assert_int_equal(count_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(fills_the_buffer, setup, teardown),
		cmocka_unit_test_setup_teardown(bounds_one_request, setup, teardown),
		cmocka_unit_test_setup_teardown(serves_many_requests_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(leaves_a_readable_buffer_alone, setup, teardown),
		cmocka_unit_test(without_a_thread_there_is_no_device),
	};

	return guest_run_over_both_rings(tests);
}
