// SPDX-License-Identifier: Apache-2.0
/* The KVM core's memory: slots that come and go, pages that vanish, guest RAM that outlives a VM. */
#include "tests/unit/confined.h"
#include "tests/unit/vm_machine.h"

static void slot_shows_host_memory_until_it_is_removed(void **state)
{
	struct machine m;
	char reason[256];
	uint32_t *page;

	need_kvm();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	page[1] = 0x12345678;
	machine_init(&m, 1);
	assert_int_equal(vm_slot_add(m.vm, 0xd0000000, 4096, page), 0);
	machine_start(&m, "read addr=0xd0000004 size=4");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(m.result, 0x12345678);
	machine_release(&m);

	machine_init(&m, 1);
	assert_int_equal(vm_slot_add(m.vm, 0xd0000000, 4096, page), 0);
	assert_int_equal(vm_slot_remove(m.vm, 0xd0000000), 0);
	machine_start(&m, "read addr=0xd0000004 size=4");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_POWER_OFF);
	assert_int_equal(m.result, 0xffffffff);
	machine_release(&m);
	munmap(page, 4096);
}

static void slots_are_used_again_and_never_overlap(void **state)
{
	struct machine m;
	void *page;

	need_kvm();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	machine_init(&m, 1);
	for (unsigned i = 0; i < 2 * VM_SLOTS_MAX; i++) {
		assert_int_equal(vm_slot_add(m.vm, 0xd0000000, 4096, page), 0);
		assert_int_equal(vm_slot_remove(m.vm, 0xd0000000), 0);
	}
	assert_int_equal(vm_slot_add(m.vm, 0, 4096, page), -EEXIST);
	assert_int_equal(vm_slot_remove(m.vm, 0xd0000000), -ENOENT);
	assert_int_equal(vm_slot_add(m.vm, 0xd0000001, 4096, page), -EINVAL);
	assert_int_equal(vm_slot_add(m.vm, 0xd0000000, 0, page), -EINVAL);
	assert_int_equal(vm_slot_add(m.vm, UINT64_MAX - 4095, 8192, page), -EINVAL);
	machine_release(&m);
	munmap(page, 4096);
}

static void page_that_vanished_ends_in_an_error_and_not_a_signal(void **state)
{
	struct machine m;
	char reason[256];
	void *page;

	need_kvm();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	machine_init(&m, 1);
	assert_int_equal(vm_slot_add(m.vm, 0xd0000000, 4096, page), 0);
	assert_int_equal(mprotect(page, 4096, PROT_NONE), 0);
	machine_start(&m, "read addr=0xd0000000 size=4 ring=3");
	assert_int_equal(machine_join(&m, reason), VM_EXIT_ERROR);
	assert_non_null(strstr(reason, "nothing behind it"));
	machine_release(&m);
	munmap(page, 4096);
}

struct rescuer {
	struct vm *vm;
	int result;
};

static void *rescue(void *arg)
{
	struct rescuer *rescuer = arg;

	usleep(200000);
	rescuer->result = vm_slot_remove(rescuer->vm, 0xd0000000);
	return NULL;
}

static void page_that_vanished_becomes_all_ones_when_its_slot_goes(void **state)
{
	struct rescuer rescuer;
	struct machine m;
	pthread_t thread;
	char reason[256];
	void *page;

	need_kvm();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	machine_init(&m, 1);
	assert_int_equal(vm_slot_add(m.vm, 0xd0000000, 4096, page), 0);
	assert_int_equal(mprotect(page, 4096, PROT_NONE), 0);
	rescuer = (struct rescuer){ m.vm, -1 };
	assert_int_equal(pthread_create(&thread, NULL, rescue, &rescuer), 0);
	machine_start(&m, "read addr=0xd0000000 size=4 ring=3");
	if (machine_join(&m, reason) != VM_EXIT_POWER_OFF)
		fail_msg("%s", reason);
	pthread_join(thread, NULL);
	assert_int_equal(rescuer.result, 0);
	assert_int_equal(m.result, 0xffffffff);
	machine_release(&m);
	munmap(page, 4096);
}

static void memory_outlives_the_vm_and_serves_the_next(void **state)
{
	struct guest_memory *memory;
	struct error e = { 0 };
	struct vm *vm;

	need_kvm();
	assert_int_equal(guest_memory_create(&memory, &e), 0);
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &e), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vm_create(&vm, &e), 0);
		assert_int_equal(vm_follow(vm, memory, &e), 0);
		assert_int_equal(vm_follow(vm, memory, &e), -EBUSY);
		vm_destroy(vm);
	}
	/* Nobody listens any more: this must not reach a VM that is gone. */
	assert_int_equal(guest_memory_add_ram(memory, 16 * MIB, MIB, &e), 0);
	guest_memory_destroy(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slot_shows_host_memory_until_it_is_removed),
		cmocka_unit_test(slots_are_used_again_and_never_overlap),
		cmocka_unit_test(page_that_vanished_ends_in_an_error_and_not_a_signal),
		cmocka_unit_test(page_that_vanished_becomes_all_ones_when_its_slot_goes),
		cmocka_unit_test(memory_outlives_the_vm_and_serves_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
