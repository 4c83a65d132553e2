// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_dma: the guest's memory as a device may reach it.
 *
 * A sorted table of ranges that were dma_map()ed; every guest address that a device uses goes
 * through it. Changes happen on the device's worker thread, which is also the only reader, so
 * there is nothing to lock. Promises that a pointer it gives covers mapped bytes only.
 */
#include <errno.h>
#include <string.h>

#include "mdev/virtio.h"

/* The range that holds @iova, or NULL. */
static const struct virtio_dma_range *range_of(const struct virtio_dma *dma, uint64_t iova)
{
	unsigned low = 0, high = dma->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct virtio_dma_range *range = &dma->ranges[middle];

		if (iova < range->iova)
			high = middle;
		else if (iova - range->iova >= range->size)
			low = middle + 1;
		else
			return range;
	}
	return NULL;
}

int virtio_dma_map(struct virtio_dma *dma, uint64_t iova, uint64_t size, void *hva)
{
	unsigned at = 0;

	if (!size || !hva || iova + (size - 1) < iova)
		return -EINVAL;
	/* Rings are read with aligned loads: guest alignment must be host alignment. */
	if (((uintptr_t)hva ^ iova) & 0xfff)
		return -EINVAL;
	while (at < dma->count && dma->ranges[at].iova < iova)
		at++;
	if (at && iova - dma->ranges[at - 1].iova < dma->ranges[at - 1].size)
		return -EEXIST;
	if (at < dma->count && dma->ranges[at].iova - iova < size)
		return -EEXIST;
	if (dma->count == VIRTIO_DMA_RANGES_MAX)
		return -ENOSPC;
	memmove(&dma->ranges[at + 1], &dma->ranges[at], (dma->count - at) * sizeof(dma->ranges[0]));
	dma->ranges[at] = (struct virtio_dma_range){ .iova = iova, .size = size, .hva = hva };
	dma->count++;
	dma->generation++;
	return 0;
}

int virtio_dma_unmap(struct virtio_dma *dma, uint64_t iova, uint64_t size)
{
	for (unsigned at = 0; at < dma->count; at++) {
		if (dma->ranges[at].iova != iova || dma->ranges[at].size != size)
			continue;
		dma->count--;
		memmove(&dma->ranges[at], &dma->ranges[at + 1],
			(dma->count - at) * sizeof(dma->ranges[0]));
		dma->generation++;
		return 0;
	}
	return -ENOENT;
}

void *virtio_dma_ptr(const struct virtio_dma *dma, uint64_t iova, uint64_t length)
{
	const struct virtio_dma_range *range = range_of(dma, iova);

	if (!range || !length || length > range->size - (iova - range->iova))
		return NULL;
	return range->hva + (iova - range->iova);
}

int virtio_dma_resolve(const struct virtio_dma *dma, uint64_t iova, uint64_t length,
		       struct iovec *iov, unsigned max)
{
	unsigned count = 0;

	while (length) {
		const struct virtio_dma_range *range = range_of(dma, iova);
		uint64_t part;

		if (!range)
			return -EFAULT;
		if (count == max)
			return -E2BIG;
		part = MIN(length, range->size - (iova - range->iova));
		iov[count].iov_base = range->hva + (iova - range->iova);
		iov[count].iov_len = part;
		count++;
		length -= part;
		iova += part;
		if (length && !iova)
			return -EFAULT; /* wrapped around the end of the address space */
	}
	return (int)count;
}
