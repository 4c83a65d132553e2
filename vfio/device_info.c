// SPDX-License-Identifier: Apache-2.0
/*
 * The pure half of the kernel's VFIO device: reading a region info answer with its capability
 * chain, and building the argument of VFIO_DEVICE_SET_IRQS. No system call here, so that both can
 * be tested and fuzzed byte by byte.
 *
 * Follows include/uapi/linux/vfio.h, VFIO_DEVICE_GET_REGION_INFO and VFIO_DEVICE_SET_IRQS.
 */
#include <errno.h>
#include <string.h>

#include "vfio/device.h"

/* One area of the sparse mmap capability; an empty one says nothing. */
static int add_area(struct vfio_region *region, const struct vfio_region_sparse_mmap_area *area)
{
	if (!area->size)
		return 0;
	if (!vfio_region_range_ok(region->size, area->offset, area->size))
		return -EINVAL;
	if (region->area_count == VFIO_SPARSE_AREAS_MAX)
		return -E2BIG;
	region->areas[region->area_count++] =
		(struct vfio_area){ .offset = area->offset, .size = area->size };
	return 0;
}

static int parse_sparse(const uint8_t *cap, size_t room, struct vfio_region *region)
{
	struct vfio_region_info_cap_sparse_mmap head;
	int err;

	if (room < sizeof(head))
		return -EINVAL;
	memcpy(&head, cap, sizeof(head));
	if (head.nr_areas > (room - sizeof(head)) / sizeof(struct vfio_region_sparse_mmap_area))
		return -EINVAL;
	for (uint32_t i = 0; i < head.nr_areas; i++) {
		struct vfio_region_sparse_mmap_area area;

		memcpy(&area, cap + sizeof(head) + i * sizeof(area), sizeof(area));
		err = add_area(region, &area);
		if (err)
			return err;
	}
	return 0;
}

int vfio_region_parse(const void *info, size_t size, struct vfio_region *region)
{
	const uint8_t *bytes = info;
	struct vfio_region_info head;
	struct vfio_info_cap_header cap;
	bool sparse = false;
	uint32_t at, last = 0;
	int err;

	*region = (struct vfio_region){ 0 };
	if (size < sizeof(head))
		return -EINVAL;
	memcpy(&head, bytes, sizeof(head));
	region->size = head.size;
	region->flags = head.flags & (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
				      VFIO_REGION_INFO_FLAG_MMAP);
	at = head.flags & VFIO_REGION_INFO_FLAG_CAPS ? head.cap_offset : 0;
	/* The kernel appends, so each is behind the one before: a chain that is not is no chain. */
	for (; at; last = at, at = cap.next) {
		if (at < sizeof(head) || at <= last || at > size - sizeof(cap))
			return -EINVAL;
		memcpy(&cap, bytes + at, sizeof(cap));
		if (cap.id == VFIO_REGION_INFO_CAP_MSIX_MAPPABLE) {
			region->msix_mappable = true;
		} else if (cap.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP && cap.version == 1) {
			if (sparse)
				return -EINVAL;
			sparse = true;
			err = parse_sparse(bytes + at, size - at, region);
			if (err)
				return err;
		}
	}
	if (!sparse && region->size && region->flags & VFIO_REGION_INFO_FLAG_MMAP) {
		region->area_count = 1;
		region->areas[0] = (struct vfio_area){ .offset = 0, .size = region->size };
	}
	return 0;
}

ssize_t vfio_irq_set_build(union vfio_irq_set_buffer *buf, uint32_t irq_count, uint32_t flags,
			   uint32_t index, uint32_t start, uint32_t count, const void *data)
{
	uint32_t type = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	uint32_t action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	size_t data_size = 0;

	/* exactly one kind of data, exactly one action, nothing unknown */
	if (!type || type & (type - 1) || !action || action & (action - 1) ||
	    flags != (type | action))
		return -EINVAL;
	if (start >= irq_count || count > irq_count - start)
		return -EINVAL;
	if (count > VFIO_IRQ_SET_MAX)
		return -E2BIG;
	/* no entries means "the index as a whole", which only DATA_NONE with TRIGGER can say */
	if (!count && (type != VFIO_IRQ_SET_DATA_NONE || action != VFIO_IRQ_SET_ACTION_TRIGGER))
		return -EINVAL;
	if (type == VFIO_IRQ_SET_DATA_BOOL)
		data_size = count * sizeof(uint8_t);
	else if (type == VFIO_IRQ_SET_DATA_EVENTFD)
		data_size = count * sizeof(int32_t);
	if (data_size && !data)
		return -EINVAL;
	buf->set = (struct vfio_irq_set){ .argsz = (uint32_t)(sizeof(buf->set) + data_size),
					  .flags = flags,
					  .index = index,
					  .start = start,
					  .count = count };
	if (data_size)
		memcpy(buf->bytes + offsetof(struct vfio_irq_set, data), data, data_size);
	return (ssize_t)buf->set.argsz;
}
