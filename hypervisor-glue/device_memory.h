/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_memory: guest memory for devices that do not sit behind an address space (virtio in our
 * own process, vfio-user servers): every bank of RAM is told to the device by dma_map().
 */
#ifndef GLUE_DEVICE_MEMORY_H
#define GLUE_DEVICE_MEMORY_H

#include "iommu/iommu.h"
#include "vfio/vfio.h"

struct device_memory {
	struct memory_listener listener;
	struct vfio_device *device;
	struct guest_memory *memory; /* NULL: not following */
};

/*
 * device_memory_follow() - tell @device of all RAM, now and later. @follower is the caller's
 * storage, unmoved until device_memory_unfollow(). Returns 0 or what the device answered, undone.
 */
int device_memory_follow(struct device_memory *follower, struct vfio_device *device,
			 struct guest_memory *memory, struct error *e);
/* device_memory_unfollow() - before the device is closed; fine when it never followed. */
void device_memory_unfollow(struct device_memory *follower);

#endif
