// SPDX-License-Identifier: Apache-2.0
/*
 * Peer-to-peer maps of BARs: real guest memory, KVM and PCI functions over made-up devices, and an
 * address space that remembers what is mapped where.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci.h"
#include "tests/unit/fake_vfio_device.h"

#define BAR1	  (PCI_BASE_ADDRESS_0 + 4)
#define MOVED	  UINT64_C(0x2000000000) /* a multiple of 8 GiB, outside the window */
#define RAM_BANKS 2
#define GPU_BANKS 5 /* three pieces around MSI-X in BAR 0, BARs 1 and 3 */

static struct fixture {
	struct guest_memory *memory;
	struct iommu_space *space;
	struct vm *vm;
	struct pci_host *host;
	struct fake_device gpus[2];
} fix;

static int start(unsigned long fail_at, bool shares)
{
	const struct vfio_pci_options options = { 0 };
	struct error e = { 0 };

	memset(&fix, 0, sizeof(fix));
	fix.space = iommu_space_mock(fail_at);
	assert_non_null(fix.space);
	if (guest_memory_create(&fix.memory, &e) || guest_memory_add_ram(fix.memory, 0, MIB, &e) ||
	    guest_memory_add_ram(fix.memory, 16 * MIB, MIB, &e) ||
	    iommu_space_follow(fix.space, fix.memory, &e) || vm_create(&fix.vm, &e) ||
	    vm_follow(fix.vm, fix.memory, &e) ||
	    pci_host_create(fix.vm, fix.memory, NULL, 0, &fix.host, &e))
		fail_msg("%s", e.text);
	if (shares)
		pci_host_share_bars(fix.host);
	for (unsigned i = 0; i < ARRAY_SIZE(fix.gpus); i++) {
		struct fake_device *gpu = &fix.gpus[i];

		fake_gpu(gpu);
		snprintf(gpu->device.name, sizeof(gpu->device.name), "0000:%02u:00.0", i + 1);
		assert_int_equal(pci_host_add(fix.host, &gpu->device, true, &options, &e), 0);
	}
	assert_int_equal(pci_host_place(fix.host, &e), 0);
	return 0;
}

/* Whatever a test did: only RAM is mapped once the functions are gone. */
static int stop(void **state)
{
	int left;

	pci_host_destroy(fix.host);
	left = fix.space->maps != RAM_BANKS;
	vm_destroy(fix.vm);
	iommu_space_unfollow(fix.space, fix.memory);
	left += (int)fix.space->maps;
	guest_memory_destroy(fix.memory);
	iommu_space_close(fix.space);
	for (unsigned i = 0; i < ARRAY_SIZE(fix.gpus); i++)
		fake_release(&fix.gpus[i]);
	return left + (int)fake_mappings();
}

static int start_shared(void **state)
{
	return start(0, true);
}

static void put(unsigned gpu, unsigned offset, unsigned size, uint64_t value)
{
	dispatch_write(vm_mmio(fix.vm), LAYOUT_ECAM_START + ((uint64_t)(gpu + 1) << 20) + offset,
		       size, value);
}

static void move(unsigned gpu, uint64_t address)
{
	put(gpu, BAR1, 4, (uint32_t)address);
	put(gpu, BAR1 + 4, 4, address >> 32);
}

static const struct vfio_pci_bar *bar(unsigned gpu, unsigned index)
{
	return vfio_pci_bar(pci_host_function(fix.host, gpu), index);
}

/* Whether KVM has a memory slot there. */
static bool guest_reaches(uint64_t gpa)
{
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret = vm_slot_add(fix.vm, gpa, 4096, page);

	if (!ret)
		vm_slot_remove(fix.vm, gpa);
	munmap(page, 4096);
	return ret == -EEXIST;
}

static void bars_are_mapped_while_they_decode_and_msix_never(void **state)
{
	unsigned prot = 0;

	assert_int_equal(fix.space->maps, RAM_BANKS);
	put(0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(fix.space->maps, RAM_BANKS + GPU_BANKS);
	assert_ptr_equal(iommu_mock_lookup(fix.space, bar(0, 1)->gpa + 5 * GIB, &prot),
			 (char *)bar(0, 1)->hva + 5 * GIB);
	assert_int_equal(prot, IOMMU_PROT_READ | IOMMU_PROT_WRITE);
	assert_non_null(iommu_mock_lookup(fix.space, bar(0, 0)->gpa, NULL));
	assert_null(iommu_mock_lookup(fix.space, bar(0, 0)->gpa + 0xb90000, NULL));
	assert_null(iommu_mock_lookup(fix.space, bar(1, 1)->gpa, NULL));
	put(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(fix.space->maps, RAM_BANKS + 2 * GPU_BANKS);
	put(0, PCI_COMMAND, 2, 0);
	assert_int_equal(fix.space->maps, RAM_BANKS + GPU_BANKS);
	assert_null(iommu_mock_lookup(fix.space, bar(0, 1)->gpa, NULL));
	assert_non_null(iommu_mock_lookup(fix.space, bar(1, 1)->gpa, NULL));
}

static void a_bar_that_moves_takes_both_maps_along(void **state)
{
	uint64_t before = bar(0, 1)->gpa;

	put(0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(guest_reaches(before));
	move(0, MOVED);
	assert_ptr_equal(iommu_mock_lookup(fix.space, MOVED, NULL), bar(0, 1)->hva);
	assert_true(guest_reaches(MOVED));
	assert_null(iommu_mock_lookup(fix.space, before, NULL));
	assert_false(guest_reaches(before));
	assert_int_equal(fix.space->maps, RAM_BANKS + GPU_BANKS);
	/* what a guest does to learn the size takes it away for as long */
	move(0, UINT64_MAX);
	assert_int_equal(fix.space->maps, RAM_BANKS + GPU_BANKS - 1);
	move(0, MOVED);
	assert_int_equal(fix.space->maps, RAM_BANKS + GPU_BANKS);
}

/* The kernel limits how many maps there are (vfio_iommu_type1.dma_entry_limit); a guest cannot use them up. */
static void moving_for_ever_keeps_as_many_maps(void **state)
{
	put(0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	for (unsigned i = 0; i < 1000; i++) {
		move(0, MOVED * (1 + i % 7));
		assert_int_equal(fix.space->maps, RAM_BANKS + GPU_BANKS);
	}
	assert_ptr_equal(iommu_mock_lookup(fix.space, bar(0, 1)->gpa, NULL), bar(0, 1)->hva);
}

static void a_bar_over_ram_is_nobodys(void **state)
{
	/* BAR 0 onto the second bank: the guest goes on seeing its RAM, and so do its devices. */
	put(0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(0, PCI_BASE_ADDRESS_0, 4, 16 * MIB);
	assert_ptr_equal(iommu_mock_lookup(fix.space, 16 * MIB, NULL),
			 guest_memory_ptr(fix.memory, 16 * MIB, 4096));
	/* both GPUs' memory at one place: it is the first one's until that moves away */
	put(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	move(0, MOVED);
	move(1, MOVED);
	assert_ptr_equal(iommu_mock_lookup(fix.space, MOVED, NULL), bar(0, 1)->hva);
	move(0, 2 * MOVED);
	assert_ptr_equal(iommu_mock_lookup(fix.space, MOVED, NULL), bar(1, 1)->hva);
	assert_ptr_equal(iommu_mock_lookup(fix.space, 2 * MOVED, NULL), bar(0, 1)->hva);
}

static void a_reset_takes_the_maps_away(void **state)
{
	put(0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(vfio_pci_reset(pci_host_function(fix.host, 0), NULL), 0);
	assert_int_equal(fix.space->maps, RAM_BANKS);
	put(0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(fix.space->maps, RAM_BANKS + GPU_BANKS);
	/* and the end of the VM does: stop() looks */
}

static void who_does_not_ask_gets_none(void **state)
{
	start(0, false);
	put(0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	move(0, MOVED);
	assert_true(guest_reaches(MOVED));
	assert_int_equal(fix.space->maps, RAM_BANKS);
	assert_int_equal(stop(NULL), 0);
}

static void drive(void)
{
	put(0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	move(0, MOVED);
	put(1, PCI_COMMAND, 2, 0);
	move(0, 2 * MOVED);
	put(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

static void a_map_that_fails_costs_that_map_only(void **state)
{
	unsigned long calls;

	start(0, true);
	drive();
	calls = iommu_mock_calls(fix.space);
	assert_int_equal(stop(NULL), 0);
	/* the first are RAM's, which are fatal */
	for (unsigned long n = 1 + RAM_BANKS; n <= calls; n++) {
		start(n, true);
		drive();
		assert_in_range(fix.space->maps, RAM_BANKS + 2 * GPU_BANKS - 1,
				RAM_BANKS + 2 * GPU_BANKS);
		assert_true(guest_reaches(2 * MOVED));
		assert_true(guest_reaches(bar(1, 1)->gpa));
		assert_int_equal(stop(NULL), 0);
	}
	assert_true(calls > 3 * GPU_BANKS);
}

static void *move_about(void *opaque)
{
	unsigned gpu = *(unsigned *)opaque;

	for (unsigned i = 0; i < 300; i++) {
		move(gpu, MOVED * (1 + gpu + i % 3)); /* where the other one is, too */
		put(gpu, PCI_COMMAND, 2, i % 7 ? PCI_COMMAND_MEMORY : 0);
	}
	move(gpu, MOVED * (1 + gpu));
	put(gpu, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	return NULL;
}

static void vcpus_may_move_bars_while_listeners_come_and_go(void **state)
{
	struct iommu_space *late = iommu_space_mock(0);
	unsigned numbers[2] = { 0, 1 };
	pthread_t threads[2];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, move_about, &numbers[i]), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(iommu_space_follow(late, fix.memory, NULL), 0);
		assert_non_null(iommu_mock_lookup(late, 0, NULL));
		assert_non_null(guest_memory_bank(fix.memory, 0));
		assert_null(guest_memory_bank(fix.memory, RAM_BANKS));
		iommu_space_unfollow(late, fix.memory);
		assert_int_equal(late->maps, 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(iommu_space_follow(late, fix.memory, NULL), 0);
	assert_int_equal(late->maps, RAM_BANKS + 2 * GPU_BANKS);
	assert_int_equal(fix.space->maps, RAM_BANKS + 2 * GPU_BANKS);
	for (unsigned i = 0; i < 2; i++)
		assert_ptr_equal(iommu_mock_lookup(late, MOVED * (1 + i), NULL), bar(i, 1)->hva);
	iommu_space_unfollow(late, fix.memory);
	iommu_space_close(late);
}

int main(void)
{
#define SHARED(name) cmocka_unit_test_setup_teardown(name, start_shared, stop)
	const struct CMUnitTest tests[] = {
		SHARED(bars_are_mapped_while_they_decode_and_msix_never),
		SHARED(a_bar_that_moves_takes_both_maps_along),
		SHARED(moving_for_ever_keeps_as_many_maps),
		SHARED(a_bar_over_ram_is_nobodys),
		SHARED(a_reset_takes_the_maps_away),
		cmocka_unit_test(who_does_not_ask_gets_none),
		cmocka_unit_test(a_map_that_fails_costs_that_map_only),
		SHARED(vcpus_may_move_bars_while_listeners_come_and_go),
	};

	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: no /dev/kvm\n");
		return 0;
	}
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
