// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's VFIO device behind the operations table: what include/uapi/linux/vfio.h says, once
 * a device file is open and attached to an address space (device_open.c does that).
 *
 * Region and interrupt facts are read once at opening, so that accessors of any thread only look
 * at memory that no longer changes. Lengths that the kernel gives are bounded like any other input.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio/device.h"

static struct vfio_kernel_device *to_kernel(struct vfio_device *device)
{
	return container_of(device, struct vfio_kernel_device, device);
}

bool vfio_region_range_ok(uint64_t size, uint64_t offset, uint64_t count)
{
	return count && offset < size && count <= size - offset;
}

bool vfio_region_mappable(const struct vfio_region *region, uint64_t offset, uint64_t size)
{
	if (!(region->flags & VFIO_REGION_INFO_FLAG_MMAP))
		return false;
	for (unsigned i = 0; i < region->area_count; i++) {
		const struct vfio_area *area = &region->areas[i];

		if (offset >= area->offset &&
		    vfio_region_range_ok(area->size, offset - area->offset, size))
			return true;
	}
	return false;
}

static int kernel_get_region(struct vfio_device *device, uint32_t index, struct vfio_region *region)
{
	if (index >= device->region_count)
		return -EINVAL;
	*region = to_kernel(device)->regions[index].region;
	return 0;
}

static const struct vfio_kernel_region *region_for(struct vfio_device *device, uint32_t index,
						   uint64_t offset, size_t count, uint32_t flag)
{
	const struct vfio_kernel_region *kept;

	if (index >= device->region_count)
		return NULL;
	kept = &to_kernel(device)->regions[index];
	if (!(kept->region.flags & flag) || !vfio_region_range_ok(kept->region.size, offset, count))
		return NULL;
	return kept;
}

static ssize_t kernel_region_read(struct vfio_device *device, uint32_t index, uint64_t offset,
				  void *buf, size_t count)
{
	const struct vfio_kernel_region *kept =
		region_for(device, index, offset, count, VFIO_REGION_INFO_FLAG_READ);
	int err;

	if (!kept)
		return -EINVAL;
	err = pread_full(to_kernel(device)->fd, buf, count, kept->file_offset + offset);
	return err ? err : (ssize_t)count;
}

static ssize_t kernel_region_write(struct vfio_device *device, uint32_t index, uint64_t offset,
				   const void *buf, size_t count)
{
	const struct vfio_kernel_region *kept =
		region_for(device, index, offset, count, VFIO_REGION_INFO_FLAG_WRITE);
	int err;

	if (!kept)
		return -EINVAL;
	err = pwrite_full(to_kernel(device)->fd, buf, count, kept->file_offset + offset);
	return err ? err : (ssize_t)count;
}

static int kernel_region_mmap(struct vfio_device *device, uint32_t index, uint64_t offset,
			      uint64_t size, void *at)
{
	const struct vfio_kernel_region *kept;
	int prot = 0;

	if (index >= device->region_count)
		return -EINVAL;
	kept = &to_kernel(device)->regions[index];
	if (!vfio_region_mappable(&kept->region, offset, size))
		return -EINVAL;
	if (kept->region.flags & VFIO_REGION_INFO_FLAG_READ)
		prot |= PROT_READ;
	if (kept->region.flags & VFIO_REGION_INFO_FLAG_WRITE)
		prot |= PROT_WRITE;
	if (mmap(at, size, prot, MAP_SHARED | MAP_FIXED, to_kernel(device)->fd,
		 (off_t)(kept->file_offset + offset)) == MAP_FAILED)
		return -errno;
	return 0;
}

static int kernel_get_irq(struct vfio_device *device, uint32_t index, struct vfio_irq *irq)
{
	if (index >= device->irq_count)
		return -EINVAL;
	*irq = to_kernel(device)->irqs[index];
	return 0;
}

static int kernel_set_irqs(struct vfio_device *device, uint32_t flags, uint32_t index,
			   uint32_t start, uint32_t count, const void *data)
{
	union vfio_irq_set_buffer buf;
	ssize_t size;

	if (index >= device->irq_count)
		return -EINVAL;
	size = vfio_irq_set_build(&buf, to_kernel(device)->irqs[index].count, flags, index, start,
				  count, data);
	if (size < 0)
		return (int)size;
	/* A positive answer is "fewer are available" (MSI), which is no success here. */
	switch (ioctl(to_kernel(device)->fd, VFIO_DEVICE_SET_IRQS, &buf)) {
	case 0:
		return 0;
	case -1:
		return -errno;
	default:
		return -ENOSPC;
	}
}

static int kernel_reset(struct vfio_device *device)
{
	if (!(device->flags & VFIO_DEVICE_FLAGS_RESET))
		return -ENOTTY;
	return ioctl(to_kernel(device)->fd, VFIO_DEVICE_RESET) ? -errno : 0;
}

static void kernel_close(struct vfio_device *device)
{
	vfio_kernel_device_release(to_kernel(device));
}

const struct vfio_device_ops vfio_kernel_ops = {
	.get_region = kernel_get_region,
	.region_read = kernel_region_read,
	.region_write = kernel_region_write,
	.region_mmap = kernel_region_mmap,
	.get_irq = kernel_get_irq,
	.set_irqs = kernel_set_irqs,
	.reset = kernel_reset,
	.close = kernel_close,
};

int vfio_device_start(struct vfio_device *device, struct error *e)
{
	return device->ops->start ? device->ops->start(device, e) : 0;
}

void vfio_device_close(struct vfio_device *device)
{
	if (device)
		device->ops->close(device);
}

/* ---- asking the kernel -------------------------------------------------------------------- */

/*
 * One region, with the chain of capabilities when it has one: the kernel says in argsz how much
 * room the whole answer needs. A region the device does not have is one of no size.
 */
static int query_region(struct vfio_kernel_device *kernel, uint32_t index)
{
	struct vfio_kernel_region *kept = &kernel->regions[index];
	struct vfio_region_info head = { .argsz = sizeof(head), .index = index };
	struct vfio_region_info *info = &head;
	int err;

	if (ioctl(kernel->fd, VFIO_DEVICE_GET_REGION_INFO, &head))
		return errno == EINVAL || errno == ENODEV ? 0 : -errno;
	if (head.argsz > VFIO_REGION_INFO_MAX)
		return -E2BIG;
	if (head.argsz > sizeof(head)) {
		size_t room = head.argsz;

		info = calloc(1, room);
		if (!info)
			return -ENOMEM;
		info->argsz = (uint32_t)room;
		info->index = index;
		if (ioctl(kernel->fd, VFIO_DEVICE_GET_REGION_INFO, info)) {
			err = -errno;
			goto out;
		}
		err = vfio_region_parse(info, MIN(room, (size_t)info->argsz), &kept->region);
	} else {
		err = vfio_region_parse(info, sizeof(head), &kept->region);
	}
	/* The last byte must have an offset that pread(2) can name. */
	if (!err && (info->offset > INT64_MAX || info->size > INT64_MAX - info->offset))
		err = -EINVAL;
	kept->file_offset = info->offset;
out:
	if (info != &head)
		free(info);
	if (err)
		kept->region = (struct vfio_region){ 0 };
	return err;
}

static int query_irq(struct vfio_kernel_device *kernel, uint32_t index)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	/* vfio-pci refuses ERR on a device that is not PCI Express: the index is not there */
	if (ioctl(kernel->fd, VFIO_DEVICE_GET_IRQ_INFO, &info))
		return errno == EINVAL || errno == ENODEV ? 0 : -errno;
	kernel->irqs[index] = (struct vfio_irq){ .count = info.count, .flags = info.flags };
	return 0;
}

int vfio_kernel_device_query(struct vfio_kernel_device *kernel, struct error *e)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_device *device = &kernel->device;
	int err;

	if (ioctl(kernel->fd, VFIO_DEVICE_GET_INFO, &info))
		return error_set(e, errno, "bad-device", NULL, "%s: VFIO_DEVICE_GET_INFO: %s",
				 device->name, strerror(errno));
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI) ||
	    info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX)
		return error_set(e, ENODEV, "bad-device", NULL,
				 "%s: the VFIO device is no PCI function (flags 0x%x, %u regions)",
				 device->name, info.flags, info.num_regions);
	device->flags = info.flags;
	device->region_count = MIN(info.num_regions, (uint32_t)VFIO_KERNEL_REGIONS_MAX);
	device->irq_count = MIN(info.num_irqs, (uint32_t)VFIO_KERNEL_IRQS_MAX);
	for (uint32_t i = 0; i < device->region_count; i++) {
		err = query_region(kernel, i);
		/* Device-specific regions are extras: one that cannot be read is left out. */
		if (err && i >= VFIO_PCI_NUM_REGIONS) {
			log_warn("%s: region %u is left out: %s", device->name, i, strerror(-err));
			continue;
		}
		if (err)
			return error_set(e, -err, "bad-device", NULL,
					 "%s: VFIO_DEVICE_GET_REGION_INFO of region %u: %s",
					 device->name, i, strerror(-err));
	}
	for (uint32_t i = 0; i < device->irq_count; i++) {
		err = query_irq(kernel, i);
		if (err)
			return error_set(e, -err, "bad-device", NULL,
					 "%s: VFIO_DEVICE_GET_IRQ_INFO of index %u: %s",
					 device->name, i, strerror(-err));
	}
	return 0;
}
