// SPDX-License-Identifier: Apache-2.0
/* Guest memory for devices of software: a listener that hands RAM banks to dma_map(). */
#include <errno.h>
#include <string.h>

#include "hypervisor-glue/device_memory.h"

static int bank_add(struct memory_listener *listener, const struct memory_bank *bank,
		    struct error *e)
{
	struct vfio_device *device = container_of(listener, struct device_memory, listener)->device;
	int err;

	/* A BAR of another device: software devices do not reach it. */
	if (bank->kind != MEMORY_BANK_RAM)
		return 0;
	err = device->ops->dma_map(device, bank->gpa, bank->size, bank->hva, bank->fd,
				   bank->fd_offset);
	if (err)
		return error_set(e, -err, "dma-map-failed", NULL, "%s: guest RAM at 0x%llx: %s",
				 device->name, (unsigned long long)bank->gpa, strerror(-err));
	return 0;
}

static void bank_remove(struct memory_listener *listener, const struct memory_bank *bank)
{
	struct vfio_device *device = container_of(listener, struct device_memory, listener)->device;
	int err;

	if (bank->kind != MEMORY_BANK_RAM)
		return;
	err = device->ops->dma_unmap(device, bank->gpa, bank->size);
	/* Of a vfio-user server that is gone, which was said when it went. */
	if (err && err != -ENODEV)
		log_error("%s: taking back guest RAM at 0x%llx: %s", device->name,
			  (unsigned long long)bank->gpa, strerror(-err));
}

int device_memory_follow(struct device_memory *follower, struct vfio_device *device,
			 struct guest_memory *memory, struct error *e)
{
	int err;

	*follower = (struct device_memory){
		.listener = { .add = bank_add, .remove = bank_remove },
		.device = device,
	};
	if (!device->ops->dma_map || !device->ops->dma_unmap)
		return 0;
	err = guest_memory_listen(memory, &follower->listener, e);
	if (!err)
		follower->memory = memory;
	return err;
}

void device_memory_unfollow(struct device_memory *follower)
{
	if (follower->memory)
		guest_memory_unlisten(follower->memory, &follower->listener);
	follower->memory = NULL;
}
