// SPDX-License-Identifier: Apache-2.0
/*
 * KVM is told which VFIO files belong to the VM (Documentation/virt/kvm/devices/vfio.rst): a device
 * whose DMA does not snoop caches makes it heed the guest's memory types and cache flushes, and
 * drivers that work with KVM learn of their VM. KVM holds the files until it is told or the VM ends.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hypervisor-glue/vm_internal.h"

int vm_add_vfio_file(struct vm *vm, int fd, struct error *e)
{
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_VFIO };
	int32_t file = fd;
	struct kvm_device_attr add = {
		.group = KVM_DEV_VFIO_FILE,
		.attr = KVM_DEV_VFIO_FILE_ADD,
		.addr = (uintptr_t)&file,
	};

	if (vm->vfio_fd < 0) {
		if (ioctl(vm->fd, KVM_CREATE_DEVICE, &create))
			return error_set(e, errno, "kvm-failed", "modprobe vfio",
					 "KVM_CREATE_DEVICE(VFIO): %s", strerror(errno));
		vm->vfio_fd = (int)create.fd;
	}
	/* EEXIST: a group that several of its devices bring along. */
	if (ioctl(vm->vfio_fd, KVM_SET_DEVICE_ATTR, &add) && errno != EEXIST)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_DEV_VFIO_FILE_ADD: %s",
				 strerror(errno));
	return 0;
}

void vm_remove_vfio_file(struct vm *vm, int fd)
{
	int32_t file = fd;
	struct kvm_device_attr remove = {
		.group = KVM_DEV_VFIO_FILE,
		.attr = KVM_DEV_VFIO_FILE_DEL,
		.addr = (uintptr_t)&file,
	};

	if (vm->vfio_fd >= 0 && ioctl(vm->vfio_fd, KVM_SET_DEVICE_ATTR, &remove) && errno != ENOENT)
		log_error("KVM_DEV_VFIO_FILE_DEL: %s", strerror(errno));
}
