// SPDX-License-Identifier: Apache-2.0
/*
 * vm_memory: guest memory and areas of BARs as KVM memory slots.
 *
 * The table of slots has a fixed size, since a guest that moves a BAR adds and removes them. A slot
 * number is free again as soon as KVM has let go of it. KVM refuses overlaps by itself (-EEXIST).
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hypervisor-glue/vm_internal.h"

static int set_region(struct vm *vm, unsigned slot, uint64_t gpa, uint64_t size, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

int vm_slot_add(struct vm *vm, uint64_t gpa, uint64_t size, void *hva)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	unsigned slot;
	int ret = -ENOSPC;

	if (size == 0 || gpa + size < gpa || (gpa | size | (uintptr_t)hva) & (page - 1))
		return -EINVAL;

	pthread_mutex_lock(&vm->slot_lock);
	for (slot = 0; slot < vm->slot_count && vm->slots[slot].used; slot++)
		;
	if (slot < vm->slot_count) {
		ret = set_region(vm, slot, gpa, size, hva);
		if (ret == 0)
			vm->slots[slot] = (struct vm_slot){ true, gpa, size };
	}
	pthread_mutex_unlock(&vm->slot_lock);
	return ret;
}

int vm_slot_remove(struct vm *vm, uint64_t gpa)
{
	int ret = -ENOENT;

	pthread_mutex_lock(&vm->slot_lock);
	for (unsigned slot = 0; slot < vm->slot_count; slot++) {
		if (!vm->slots[slot].used || vm->slots[slot].gpa != gpa)
			continue;
		ret = set_region(vm, slot, gpa, 0, NULL);
		if (ret == 0)
			vm->slots[slot].used = false;
		else
			/*
			 * The caller unmaps what lies behind it next, and whatever this process maps
			 * there afterwards would be the guest's. The host's kernel is out of memory.
			 */
			vm_request_exit(vm, VM_EXIT_ERROR,
					"KVM keeps the memory slot at 0x%llx: %s",
					(unsigned long long)gpa, strerror(-ret));
		break;
	}
	pthread_mutex_unlock(&vm->slot_lock);
	return ret;
}

static int follow_add(struct memory_listener *listener, const struct memory_bank *bank,
		      struct error *e)
{
	struct vm *vm = container_of(listener, struct vm, listener);
	int ret;

	/* What a device's BAR shows the guest is its own affair: vm_slot_add(). */
	if (bank->kind != MEMORY_BANK_RAM)
		return 0;
	ret = vm_slot_add(vm, bank->gpa, bank->size, bank->hva);
	if (ret < 0)
		return error_set(e, -ret, "memory-slot-failed", NULL,
				 "KVM refuses %llu MiB of guest memory at 0x%llx: %s",
				 (unsigned long long)(bank->size / MIB),
				 (unsigned long long)bank->gpa, strerror(-ret));
	return 0;
}

static void follow_remove(struct memory_listener *listener, const struct memory_bank *bank)
{
	struct vm *vm = container_of(listener, struct vm, listener);
	int ret;

	if (bank->kind != MEMORY_BANK_RAM)
		return;
	ret = vm_slot_remove(vm, bank->gpa);
	if (ret < 0)
		log_error("vm: memory slot at 0x%llx stays: %s", (unsigned long long)bank->gpa,
			  strerror(-ret));
}

int vm_follow(struct vm *vm, struct guest_memory *memory, struct error *e)
{
	int ret;

	if (vm->memory)
		return error_set(e, EBUSY, "memory-followed", NULL,
				 "the VM has its memory already");
	vm->listener = (struct memory_listener){ .add = follow_add, .remove = follow_remove };
	ret = guest_memory_listen(memory, &vm->listener, e);
	if (ret == 0)
		vm->memory = memory;
	return ret;
}

void vm_memory_release(struct vm *vm)
{
	if (vm->memory)
		guest_memory_unlisten(vm->memory, &vm->listener);
	vm->memory = NULL;
}
