// SPDX-License-Identifier: Apache-2.0
/* The KVM core's interrupts: messages, level lines with resample, GSIs, ioeventfds. */
#include "tests/unit/confined.h"
#include "tests/unit/vm_machine.h"

static void irqfd_delivers_the_message_of_its_route(void **state)
{
	struct pollfd ended;
	char reason[256];
	struct machine m;
	int gsi, fd;

	need_kvm();
	machine_init(&m, 1);
	fd = eventfd(0, EFD_CLOEXEC);
	gsi = vm_gsi_alloc(m.vm, 3);
	assert_true(gsi >= GSI_MSI_FIRST);
	/* The irqfd is there before the route, as when a driver enables MSI-X and fills it later. */
	assert_int_equal(vm_irqfd_add(m.vm, (unsigned)gsi + 2, fd, -1), 0);
	vm_route_msi(m.vm, (unsigned)gsi + 2, LAYOUT_LAPIC, 0x44);
	assert_int_equal(vm_routes_commit(m.vm), 0);
	machine_start(&m, "irq count=3 vector=0x44");
	await_fd(m.ready_fd);
	ended = (struct pollfd){ .fd = vm_exit_fd(m.vm), .events = POLLIN };
	for (unsigned i = 0; i < 1000 && poll(&ended, 1, 10) == 0; i++)
		signal_fd(fd);
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(m.result, 3);
	assert_int_equal(vm_irqfd_remove(m.vm, (unsigned)gsi + 2, fd), 0);
	vm_gsi_free(m.vm, (unsigned)gsi, 3);
	assert_int_equal(vm_routes_commit(m.vm), 0);
	close(fd);
	machine_release(&m);
}

static void interrupts_reach_ring_3_and_return_there(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	machine_start(&m, "irq count=1 vector=0x45 ring=3");
	await_fd(m.ready_fd);
	usleep(20000);
	assert_int_equal(vm_signal_msi(m.vm, LAYOUT_LAPIC, 0x45), 0);
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(m.result, 1);
	machine_release(&m);
}

static void message_at_once_reaches_the_guest(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	machine_start(&m, "irq count=1 vector=0x45");
	await_fd(m.ready_fd);
	assert_int_equal(vm_signal_msi(m.vm, LAYOUT_LAPIC, 0x45), 0);
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	machine_release(&m);
}

static void level_interrupt_is_resampled_at_every_eoi(void **state)
{
	char reason[256];
	int fd, resample;
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	fd = eventfd(0, EFD_CLOEXEC);
	resample = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(vm_irqfd_add(m.vm, GSI_INTX_FIRST, fd, resample), 0);
	machine_start(&m, "intx pin=16 count=4 vector=0x46");
	await_fd(m.ready_fd);
	for (unsigned i = 0; i < 4; i++) {
		signal_fd(fd);
		await_fd(resample);
	}
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(m.result, 4);
	assert_int_equal(vm_irqfd_remove(m.vm, GSI_INTX_FIRST, fd), 0);
	close(fd);
	close(resample);
	machine_release(&m);
}

static void irq_line_raises_a_pin(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	machine_start(&m, "intx pin=9 count=1 vector=0x47");
	await_fd(m.ready_fd);
	assert_int_equal(vm_irq_line(m.vm, 9, true), 0);
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(vm_irq_line(m.vm, 9, false), 0);
	assert_int_equal(vm_irq_line(m.vm, GSI_MSI_FIRST, true), -EINVAL);
	machine_release(&m);
}

static void timer_is_on_pin_2_of_the_ioapic(void **state)
{
	char reason[256];
	struct machine m;

	need_kvm();
	machine_init(&m, 1);
	machine_start(&m, "intx pin=2 count=1 vector=0x48");
	await_fd(m.ready_fd);
	assert_int_equal(vm_irq_line(m.vm, 0, true), 0);
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	machine_release(&m);
}

static void gsis_are_given_in_runs_and_given_again(void **state)
{
	struct machine m;
	int a, b, c;

	need_kvm();
	machine_init(&m, 1);
	a = vm_gsi_alloc(m.vm, 4);
	b = vm_gsi_alloc(m.vm, 8);
	assert_int_equal(a, GSI_MSI_FIRST);
	assert_int_equal(b, a + 4);
	vm_gsi_free(m.vm, (unsigned)a, 4);
	c = vm_gsi_alloc(m.vm, 5);
	assert_int_equal(c, b + 8);
	assert_int_equal(vm_gsi_alloc(m.vm, 4), a);
	assert_int_equal(vm_gsi_alloc(m.vm, VM_GSI_MAX), -ENOSPC);
	assert_int_equal(vm_gsi_alloc(m.vm, 0), -EINVAL);
	machine_release(&m);
}

static void every_gsi_can_have_a_route(void **state)
{
	struct machine m;
	unsigned count;
	int first;

	need_kvm();
	machine_init(&m, 1);
	count = m.vm->gsi_count - GSI_MSI_FIRST;
	first = vm_gsi_alloc(m.vm, count);
	assert_int_equal(first, GSI_MSI_FIRST);
	for (unsigned i = 0; i < count; i++)
		vm_route_msi(m.vm, (unsigned)first + i, LAYOUT_LAPIC, 0x30 + i % 64);
	assert_int_equal(vm_routes_commit(m.vm), 0);
	/* None of these may write outside the table. */
	vm_route_msi(m.vm, 4, 0, 0);
	vm_route_msi(m.vm, UINT32_MAX, 0, 0);
	vm_gsi_free(m.vm, UINT32_MAX, 2);
	vm_gsi_free(m.vm, GSI_MSI_FIRST, UINT32_MAX);
	assert_int_equal(vm_routes_commit(m.vm), 0);
	machine_release(&m);
}

static void ioeventfd_takes_guest_writes_without_an_exit(void **state)
{
	struct vm_counters counters;
	char reason[256];
	struct machine m;
	uint64_t signals = 0;
	int fd;

	need_kvm();
	machine_init(&m, 1);
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(vm_ioeventfd_add(m.vm, false, 0xf0000100, 4, fd, true, 7), 0);
	assert_int_equal(vm_ioeventfd_add(m.vm, false, 0xf0000100, 4, fd, true, 7), -EEXIST);
	machine_start(&m, "write addr=0xf0000100 size=4 value=7 count=5");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(read(fd, &signals, sizeof(signals)), sizeof(signals));
	assert_int_equal(signals, 5);
	assert_int_equal(m.accesses, 0);
	vm_counters(m.vm, &counters);
	assert_int_equal(counters.mmio, 1);
	assert_int_equal(vm_ioeventfd_remove(m.vm, false, 0xf0000100, 4, fd, true, 7), 0);
	assert_int_equal(vm_ioeventfd_remove(m.vm, false, 0xf0000100, 4, fd, true, 7), -ENOENT);
	close(fd);
	machine_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(irqfd_delivers_the_message_of_its_route),
		cmocka_unit_test(interrupts_reach_ring_3_and_return_there),
		cmocka_unit_test(message_at_once_reaches_the_guest),
		cmocka_unit_test(level_interrupt_is_resampled_at_every_eoi),
		cmocka_unit_test(irq_line_raises_a_pin),
		cmocka_unit_test(timer_is_on_pin_2_of_the_ioapic),
		cmocka_unit_test(gsis_are_given_in_runs_and_given_again),
		cmocka_unit_test(every_gsi_can_have_a_route),
		cmocka_unit_test(ioeventfd_takes_guest_writes_without_an_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
