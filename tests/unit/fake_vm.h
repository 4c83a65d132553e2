/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the PCI code asks of a VM and of guest memory, played by small fakes that write down what they
 * are told; the dispatch tables are the real ones. It defines the real ones' names: for a test that
 * includes it, the linker takes vm*.o and memory.o for nothing else. After cmocka.h, once a program.
 */
#ifndef TESTS_UNIT_FAKE_VM_H
#define TESTS_UNIT_FAKE_VM_H

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci.h"

/* ---- the fake VM ----------------------------------------------------------------------------- */

struct fake_slot {
	uint64_t gpa, size;
	void *hva;
};

struct vm {
	struct dispatch *mmio, *ports;
	struct fake_slot slots[16];
	unsigned slot_count;
	bool refuse_slots;
	struct {
		unsigned gsi;
		int fd, resample;
	} irqfds[64];
	unsigned irqfd_count;
	struct {
		bool is_port;
		uint64_t address;
		int fd;
	} doorbells[8];
	unsigned doorbell_count;
	bool gsis[64];
	unsigned gsi_limit;
	struct {
		uint64_t address;
		uint32_t data;
	} routes[64];
	unsigned routings, commits;
	unsigned physical_bits;
	bool reset_asked;
	unsigned messages; /* sent at once, without an eventfd */
	uint64_t last_address;
	uint32_t last_data;
};

struct dispatch *vm_mmio(struct vm *vm)
{
	return vm->mmio;
}

struct dispatch *vm_ports(struct vm *vm)
{
	return vm->ports;
}

unsigned vm_physical_bits(struct vm *vm)
{
	return vm->physical_bits;
}

int vm_slot_add(struct vm *vm, uint64_t gpa, uint64_t size, void *hva)
{
	if (vm->refuse_slots || vm->slot_count == ARRAY_SIZE(vm->slots))
		return -ENOSPC;
	vm->slots[vm->slot_count++] = (struct fake_slot){ gpa, size, hva };
	return 0;
}

int vm_slot_remove(struct vm *vm, uint64_t gpa)
{
	for (unsigned i = 0; i < vm->slot_count; i++) {
		if (vm->slots[i].gpa != gpa)
			continue;
		vm->slots[i] = vm->slots[--vm->slot_count];
		return 0;
	}
	fail_msg("slot 0x%llx was never there", (unsigned long long)gpa);
	return -ENOENT;
}

int vm_irqfd_add(struct vm *vm, unsigned gsi, int fd, int resample)
{
	assert_true(vm->irqfd_count < ARRAY_SIZE(vm->irqfds));
	vm->irqfds[vm->irqfd_count].gsi = gsi;
	vm->irqfds[vm->irqfd_count].resample = resample;
	vm->irqfds[vm->irqfd_count++].fd = fd;
	return 0;
}

int vm_irqfd_remove(struct vm *vm, unsigned gsi, int fd)
{
	for (unsigned i = 0; i < vm->irqfd_count; i++) {
		if (vm->irqfds[i].gsi != gsi || vm->irqfds[i].fd != fd)
			continue;
		vm->irqfds[i] = vm->irqfds[--vm->irqfd_count];
		return 0;
	}
	fail_msg("irqfd %d on GSI %u was never there", fd, gsi);
	return -ENOENT;
}

int vm_ioeventfd_add(struct vm *vm, bool is_port, uint64_t address, unsigned size, int fd,
		     bool datamatch, uint64_t value)
{
	assert_true(vm->doorbell_count < ARRAY_SIZE(vm->doorbells));
	vm->doorbells[vm->doorbell_count].is_port = is_port;
	vm->doorbells[vm->doorbell_count].address = address;
	vm->doorbells[vm->doorbell_count++].fd = fd;
	return 0;
}

int vm_ioeventfd_remove(struct vm *vm, bool is_port, uint64_t address, unsigned size, int fd,
			bool datamatch, uint64_t value)
{
	for (unsigned i = 0; i < vm->doorbell_count; i++) {
		if (vm->doorbells[i].address != address || vm->doorbells[i].fd != fd)
			continue;
		vm->doorbells[i] = vm->doorbells[--vm->doorbell_count];
		return 0;
	}
	fail_msg("ioeventfd %d was never there", fd);
	return -ENOENT;
}

int vm_gsi_alloc(struct vm *vm, unsigned count)
{
	assert_int_equal(count, 1);
	for (unsigned gsi = GSI_MSI_FIRST; gsi < vm->gsi_limit; gsi++) {
		if (vm->gsis[gsi])
			continue;
		vm->gsis[gsi] = true;
		return (int)gsi;
	}
	return -ENOSPC;
}

void vm_gsi_free(struct vm *vm, unsigned first, unsigned count)
{
	assert_true(vm->gsis[first]);
	vm->gsis[first] = false;
}

void vm_route_msi(struct vm *vm, unsigned gsi, uint64_t address, uint32_t data)
{
	assert_true(vm->gsis[gsi]);
	vm->routes[gsi].address = address;
	vm->routes[gsi].data = data;
	vm->routings++;
}

int vm_routes_commit(struct vm *vm)
{
	vm->commits++;
	return 0;
}

int vm_signal_msi(struct vm *vm, uint64_t address, uint32_t data)
{
	vm->messages++;
	vm->last_address = address;
	vm->last_data = data;
	return 0;
}

void vm_request_exit(struct vm *vm, enum vm_exit why, const char *fmt, ...)
{
	vm->reset_asked = why == VM_EXIT_RESET;
}

static unsigned gsis_taken(const struct vm *vm)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(vm->gsis); i++)
		count += vm->gsis[i];
	return count;
}

/* ---- the fake guest memory ------------------------------------------------------------------- */

int guest_memory_add_device(struct guest_memory *memory, uint64_t gpa, uint64_t size, void *hva,
			    struct error *e)
{
	fail_msg("nobody shares BARs here (test_p2p.c)");
	return -EINVAL;
}

void guest_memory_remove_device(struct guest_memory *memory, uint64_t gpa)
{
	fail_msg("nobody shares BARs here");
}

const struct memory_bank *guest_memory_bank(const struct guest_memory *memory, unsigned index)
{
	static const struct memory_bank banks[] = {
		{ .kind = MEMORY_BANK_RAM, .gpa = 0, .size = 3 * GIB },
		{ .kind = MEMORY_BANK_RAM, .gpa = 4 * GIB, .size = 1 * GIB },
	};

	return index < ARRAY_SIZE(banks) ? &banks[index] : NULL;
}

#endif
