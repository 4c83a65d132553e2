// SPDX-License-Identifier: Apache-2.0
/* vCPUs that are held outside the guest, on the host's own /dev/kvm. */
#include "tests/unit/vm_machine.h"

#define LONG_ENOUGH "read addr=0xf0000010 size=4 count=2000000000"

static unsigned accesses(struct machine *m)
{
	return __atomic_load_n(&m->accesses, __ATOMIC_RELAXED);
}

static void await_progress(struct machine *m)
{
	unsigned before = accesses(m);

	for (unsigned i = 0; i < 5000 && accesses(m) == before; i++)
		usleep(1000);
	assert_int_not_equal(accesses(m), before);
}

static void a_paused_guest_does_nothing_and_goes_on_where_it_was(void **state)
{
	char reason[256];
	struct machine m;
	unsigned before;

	need_kvm();
	machine_init(&m, 1);
	machine_start(&m, LONG_ENOUGH);
	for (unsigned round = 0; round < 20; round++) {
		await_progress(&m);
		assert_int_equal(vm_pause(m.vm, 5000), 0);
		assert_true(vm_is_paused(m.vm));
		assert_int_equal(vm_pause(m.vm, 5000), -EALREADY);
		before = accesses(&m);
		usleep(2000);
		assert_int_equal(accesses(&m), before);
		assert_int_equal(vm_resume(m.vm), 0);
		assert_int_equal(vm_resume(m.vm), -EALREADY);
	}
	await_progress(&m);
	vm_request_exit(m.vm, VM_EXIT_STOPPED, "enough");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_STOPPED);
	machine_release(&m);
}

static void a_guest_that_sleeps_is_paused_too_and_wakes_afterwards(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 2); /* the second waits to be started, in the kernel */
	machine_start(&m, "irq count=1 vector=64");
	await_fd(m.ready_fd);
	assert_int_equal(vm_pause(m.vm, 5000), 0);
	assert_int_equal(vm_signal_msi(m.vm, LAYOUT_LAPIC, 64), 0);
	usleep(20000);
	assert_int_equal(m.result, 0);
	assert_int_equal(vm_resume(m.vm), 0);
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(m.result, 1);
	machine_release(&m);
}

static void a_paused_guest_can_be_ended(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 2);
	machine_start(&m, LONG_ENOUGH);
	await_progress(&m);
	assert_int_equal(vm_pause(m.vm, 5000), 0);
	vm_request_exit(m.vm, VM_EXIT_RESET, "while it was paused");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_RESET);
	assert_string_equal(reason, "while it was paused");
	machine_release(&m);
}

/* ---- a vCPU that is busy with an access ------------------------------------------------------ */

static int door[2];
static int entered;

static uint64_t slow_read(void *opaque, uint64_t offset, unsigned size)
{
	char byte;

	signal_fd(entered);
	assert_int_equal(read(door[0], &byte, 1), 1);
	return 7;
}

static const struct dispatch_handler slow_handler = { slow_read, NULL };

static void a_vcpu_that_does_not_come_is_not_waited_for_for_ever(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	assert_int_equal(pipe2(door, O_CLOEXEC), 0);
	entered = eventfd(0, EFD_CLOEXEC);
	machine_init(&m, 1);
	assert_int_equal(dispatch_add(vm_mmio(m.vm), LAYOUT_PLATFORM_START + 0x10000, 0x1000,
				      &slow_handler, NULL),
			 0);
	machine_start(&m, "read addr=0xf0010000 size=4 count=1");
	await_fd(entered);
	assert_int_equal(vm_pause(m.vm, 50), -ETIMEDOUT);
	assert_false(vm_is_paused(m.vm));
	/* It comes out of its access later, and is not held by the pause that was given up. */
	assert_int_equal(write(door[1], "x", 1), 1);
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(m.result, 7);
	machine_release(&m);
	close(entered);
	close(door[0]);
	close(door[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_paused_guest_does_nothing_and_goes_on_where_it_was),
		cmocka_unit_test(a_guest_that_sleeps_is_paused_too_and_wakes_afterwards),
		cmocka_unit_test(a_paused_guest_can_be_ended),
		cmocka_unit_test(a_vcpu_that_does_not_come_is_not_waited_for_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
