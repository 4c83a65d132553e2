// SPDX-License-Identifier: Apache-2.0
/* Guest memory: banks, listeners, lookups, and that nothing is left behind. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "iommu/iommu.h"
#include "tests/unit/resources.h"

static struct guest_memory *memory;
static struct error err;
static unsigned fds_before, maps_before, witness_count;

static int setup(void **state)
{
	memset(&err, 0, sizeof(err));
	witness_count = 0;
	fds_before = count_fds();
	maps_before = count_maps();
	return guest_memory_create(&memory, &err);
}

static int teardown(void **state)
{
	guest_memory_destroy(memory);
	assert_int_equal(count_fds(), fds_before);
	assert_int_equal(count_maps(), maps_before);
	return 0;
}

/* Remembers which banks it has, refuses one address. */
struct witness {
	struct memory_listener listener;
	uint64_t refuse; /* gpa, or ~0 */
	unsigned adds, removes;
	uint64_t has[MEMORY_BANKS_MAX];
	unsigned count;
};

static int witness_add(struct memory_listener *listener, const struct memory_bank *bank,
		       struct error *e)
{
	struct witness *w = container_of(listener, struct witness, listener);

	w->adds++;
	if (bank->gpa == w->refuse)
		return error_set(e, EPERM, "witness-refuses", NULL, "no");
	w->has[w->count++] = bank->gpa;
	return 0;
}

static void witness_remove(struct memory_listener *listener, const struct memory_bank *bank)
{
	struct witness *w = container_of(listener, struct witness, listener);
	unsigned at = 0;

	w->removes++;
	while (at < w->count && w->has[at] != bank->gpa)
		at++;
	assert_true(at < w->count);
	memmove(&w->has[at], &w->has[at + 1], (w->count - at - 1) * sizeof(w->has[0]));
	w->count--;
}

/* Listeners must outlive the memory, which teardown() destroys: they are not on a test's stack. */
static struct witness witnesses[3];

static struct witness *witness(uint64_t refuse)
{
	struct witness *w = &witnesses[witness_count++];

	*w = (struct witness){ .listener = { .add = witness_add, .remove = witness_remove },
			       .refuse = refuse };
	return w;
}

static char bar[8192] __attribute__((aligned(4096)));

static void ram_reads_and_writes_and_is_the_file(void **state)
{
	const struct memory_bank *bank;
	char byte;

	assert_int_equal(guest_memory_add_ram(memory, 0, 4 * MIB, &err), 0);
	bank = guest_memory_bank(memory, 0);
	*(char *)guest_memory_ptr(memory, 0x1234, 1) = 'x';
	assert_int_equal(pread(bank->fd, &byte, 1, 0x1234), 1);
	assert_int_equal(byte, 'x');
	assert_int_equal((uintptr_t)bank->hva & (2 * MIB - 1), 0);
	/* Whoever is handed the descriptor cannot cut it short, nor does it leak into programs. */
	assert_int_equal(ftruncate(bank->fd, 4096), -1);
	assert_int_equal(fcntl(bank->fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void lookups_stay_within_one_bank(void **state)
{
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, MIB, MIB, &err), 0);
	assert_non_null(guest_memory_ptr(memory, 0, MIB));
	assert_null(guest_memory_ptr(memory, 0, MIB + 1));
	assert_non_null(guest_memory_ptr(memory, MIB - 1, 1));
	assert_null(guest_memory_ptr(memory, MIB - 1, 2));
	assert_non_null(guest_memory_ptr(memory, MIB, MIB));
	assert_null(guest_memory_ptr(memory, 2 * MIB, 1));
	assert_null(guest_memory_ptr(memory, UINT64_MAX, 1));
	assert_null(guest_memory_ptr(memory, 16, UINT64_MAX));
}

static void ram_banks_come_in_order_of_address(void **state)
{
	assert_int_equal(guest_memory_add_ram(memory, 4 * GIB, MIB, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(guest_memory_add_device(memory, GIB, 8192, bar, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 8 * GIB, MIB, &err), 0);
	assert_int_equal(guest_memory_bank(memory, 0)->gpa, 0);
	assert_int_equal(guest_memory_bank(memory, 1)->gpa, 4 * GIB); /* RAM only */
	assert_int_equal(guest_memory_bank(memory, 2)->gpa, 8 * GIB);
	assert_null(guest_memory_bank(memory, 3));
	guest_memory_remove_device(memory, GIB);
	assert_int_equal(guest_memory_bank(memory, 1)->gpa, 4 * GIB);
	/* RAM is not a device's bank. */
	guest_memory_remove_device(memory, 0);
	assert_int_equal(guest_memory_bank(memory, 0)->gpa, 0);
}

static void overlaps_and_ragged_banks_are_refused(void **state)
{
	static const struct {
		uint64_t gpa, size;
		int err;
	} bad[] = {
		{ MIB, MIB, -EEXIST },		{ 2 * MIB - 4096, 4096, -EEXIST },
		{ 0, 4 * MIB, -EEXIST },	{ 0, MIB + 4096, -EEXIST },
		{ 4 * MIB, 0, -EINVAL },	{ 4 * MIB, 100, -EINVAL },
		{ 4 * MIB + 1, 4096, -EINVAL }, { UINT64_MAX - 4095, 8192, -EINVAL },
	};

	assert_int_equal(guest_memory_add_ram(memory, MIB, MIB, &err), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(guest_memory_add_ram(memory, bad[i].gpa, bad[i].size, &err),
				 bad[i].err);
		assert_int_equal(
			guest_memory_add_device(memory, bad[i].gpa, bad[i].size, bar, &err),
			bad[i].err);
	}
	assert_null(guest_memory_bank(memory, 1));
	/* Touching is not overlapping. */
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 2 * MIB, MIB, &err), 0);
}

static void more_memory_than_there_is_names_what_there_is(void **state)
{
	static const uint64_t sizes[] = { 1 * 1024 * 1024 * GIB, UINT64_C(1) << 62,
					  UINT64_MAX - 4095 };

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(guest_memory_add_ram(memory, 0, sizes[i], &err), -ENOMEM);
		assert_string_equal(err.code, "memory-too-large");
		assert_non_null(strstr(err.text, "MemAvailable"));
	}
}

static void the_65th_bank_is_refused(void **state)
{
	for (uint64_t i = 0; i < MEMORY_BANKS_MAX; i++)
		assert_int_equal(guest_memory_add_ram(memory, i * MIB, 4096, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, GIB, 4096, &err), -ENOSPC);
	assert_int_equal(guest_memory_add_device(memory, GIB, 4096, bar, &err), -ENOSPC);
	assert_non_null(guest_memory_ptr(memory, 63 * MIB, 4096));
}

static void a_listener_hears_of_banks_past_and_future(void **state)
{
	struct witness *w = witness(~UINT64_C(0));

	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(guest_memory_listen(memory, &w->listener, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, GIB, MIB, &err), 0);
	assert_int_equal(guest_memory_add_device(memory, 2 * GIB, 4096, bar, &err), 0);
	assert_int_equal(w->count, 3);
	guest_memory_remove_device(memory, 2 * GIB);
	assert_int_equal(w->count, 2);
	guest_memory_unlisten(memory, &w->listener);
	assert_int_equal(w->count, 0);
	assert_int_equal(guest_memory_add_ram(memory, 3 * GIB, MIB, &err), 0);
	assert_int_equal(w->count, 0);
	assert_int_equal(w->adds, 3);
	assert_int_equal(w->removes, 3);
}

static void a_refused_bank_is_taken_back_from_all_and_does_not_exist(void **state)
{
	struct witness *first = witness(~UINT64_C(0)), *second = witness(GIB),
		       *third = witness(~UINT64_C(0));
	unsigned fds, maps;

	assert_int_equal(guest_memory_listen(memory, &first->listener, &err), 0);
	assert_int_equal(guest_memory_listen(memory, &second->listener, &err), 0);
	assert_int_equal(guest_memory_listen(memory, &third->listener, &err), 0);
	fds = count_fds();
	maps = count_maps();
	assert_int_equal(guest_memory_add_ram(memory, GIB, MIB, &err), -EPERM);
	assert_string_equal(err.code, "witness-refuses");
	assert_int_equal(first->count, 0);
	assert_int_equal(first->adds, 1);
	assert_int_equal(second->removes, 0);
	assert_int_equal(third->adds, 0);
	assert_null(guest_memory_bank(memory, 0));
	assert_null(guest_memory_ptr(memory, GIB, 1));
	assert_int_equal(count_fds(), fds);
	assert_int_equal(count_maps(), maps);
	/* The list works on. */
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(first->count + second->count + third->count, 3);
}

static void a_listener_that_refuses_a_bank_that_is_there_is_not_kept(void **state)
{
	struct witness *w = witness(GIB);

	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, GIB, MIB, &err), 0);
	assert_int_equal(guest_memory_listen(memory, &w->listener, &err), -EPERM);
	assert_int_equal(w->count, 0);
	assert_int_equal(w->removes, 1);
	assert_int_equal(guest_memory_add_ram(memory, 2 * GIB, MIB, &err), 0);
	assert_int_equal(w->adds, 2);
}

static void a_refused_device_bank_is_a_warning_and_is_not_taken_back(void **state)
{
	struct witness *refuses = witness(GIB), *takes = witness(~UINT64_C(0));

	assert_int_equal(guest_memory_listen(memory, &refuses->listener, &err), 0);
	assert_int_equal(guest_memory_listen(memory, &takes->listener, &err), 0);
	assert_int_equal(guest_memory_add_device(memory, GIB, 4096, bar, &err), 0);
	assert_int_equal(takes->count, 1);
	guest_memory_remove_device(memory, GIB);
	assert_int_equal(refuses->removes, 0);
	assert_int_equal(takes->removes, 1);
}

static void a_reused_slot_does_not_remember_who_accepted_it(void **state)
{
	struct witness *w = witness(GIB);

	assert_int_equal(guest_memory_listen(memory, &w->listener, &err), 0);
	assert_int_equal(guest_memory_add_device(memory, 2 * GIB, 4096, bar, &err), 0);
	guest_memory_remove_device(memory, 2 * GIB);
	assert_int_equal(guest_memory_add_device(memory, GIB, 4096, bar, &err), 0);
	guest_memory_remove_device(memory, GIB);
	assert_int_equal(w->removes, 1);
}

static void destroy_takes_everything_back(void **state)
{
	struct witness *w = witness(~UINT64_C(0));

	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(guest_memory_listen(memory, &w->listener, &err), 0);
	assert_int_equal(guest_memory_add_device(memory, GIB, 4096, bar, &err), 0);
	guest_memory_destroy(memory);
	memory = NULL;
	assert_int_equal(w->count, 0);
	assert_int_equal(w->removes, 2);
}

struct reader {
	struct guest_memory *memory;
	bool stop;
	unsigned wrong;
};

/* What is found is right, whenever it is found. */
static void *read_beside(void *opaque)
{
	struct reader *reader = opaque;

	while (!__atomic_load_n(&reader->stop, __ATOMIC_ACQUIRE))
		for (uint64_t i = 0; i < MEMORY_BANKS_MAX; i++) {
			char *first = guest_memory_ptr(reader->memory, i * MIB, 8192);
			char *second = guest_memory_ptr(reader->memory, i * MIB + 4096, 4096);

			reader->wrong += first && second != first + 4096;
			reader->wrong += guest_memory_ptr(reader->memory, i * MIB, 8193) != NULL;
		}
	return NULL;
}

static void lookups_run_beside_additions(void **state)
{
	struct reader reader = { .memory = memory };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, read_beside, &reader), 0);
	for (uint64_t i = MEMORY_BANKS_MAX; i-- > 0;)
		assert_int_equal(guest_memory_add_ram(memory, i * MIB, 8192, &err), 0);
	__atomic_store_n(&reader.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_int_equal(reader.wrong, 0);
}

struct mover {
	struct guest_memory *memory;
	uint64_t gpa;
	unsigned wrong;
};

/* A BAR that goes on and off, as a vCPU has it. */
static void *move_beside(void *opaque)
{
	struct mover *mover = opaque;

	for (unsigned i = 0; i < 100000; i++) {
		mover->wrong +=
			guest_memory_add_device(mover->memory, mover->gpa, 4096, bar, NULL) != 0;
		guest_memory_remove_device(mover->memory, mover->gpa);
	}
	return NULL;
}

static void device_banks_come_and_go_on_any_thread(void **state)
{
	struct witness *w = witness(~UINT64_C(0));
	struct mover movers[4];
	pthread_t threads[4];

	assert_int_equal(guest_memory_listen(memory, &w->listener, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	for (unsigned i = 0; i < 4; i++) {
		movers[i] = (struct mover){ .memory = memory, .gpa = (i + 1) * GIB };
		assert_int_equal(pthread_create(&threads[i], NULL, move_beside, &movers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(movers[i].wrong, 0);
	}
	assert_int_equal(w->count, 1);
	assert_int_equal(w->removes, 4 * 100000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* Peers are handed the file: what they cut off, every other process would be killed for touching. */
static void no_peer_can_cut_guest_memory_off(void **state)
{
	const struct memory_bank *bank;
	int fd;

	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	bank = guest_memory_bank(memory, 0);
	fd = fcntl(bank->fd, F_DUPFD_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 2 * MIB), -1);
	/* Nor take the others' right to write. */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	assert_int_equal(errno, EPERM);
	close(fd);
	memset(bank->hva, 0xa5, bank->size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_peer_can_cut_guest_memory_off),
		TEST(ram_reads_and_writes_and_is_the_file),
		TEST(lookups_stay_within_one_bank),
		TEST(ram_banks_come_in_order_of_address),
		TEST(overlaps_and_ragged_banks_are_refused),
		TEST(more_memory_than_there_is_names_what_there_is),
		TEST(the_65th_bank_is_refused),
		TEST(a_listener_hears_of_banks_past_and_future),
		TEST(a_refused_bank_is_taken_back_from_all_and_does_not_exist),
		TEST(a_listener_that_refuses_a_bank_that_is_there_is_not_kept),
		TEST(a_refused_device_bank_is_a_warning_and_is_not_taken_back),
		TEST(a_reused_slot_does_not_remember_who_accepted_it),
		TEST(destroy_takes_everything_back),
		TEST(lookups_run_beside_additions),
		TEST(device_banks_come_and_go_on_any_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
