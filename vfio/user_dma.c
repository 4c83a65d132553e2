// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory that a vfio-user server may have read and written by messages (VFIO_USER_DMA_READ,
 * VFIO_USER_DMA_WRITE): a table of the ranges that were mapped, as many as guest memory has banks.
 *
 * An access may span ranges that touch. It is judged whole before a byte moves.
 */
#include <errno.h>
#include <string.h>

#include "vfio/user_client.h"

static const struct user_dma_range *range_of(const struct user_dma *dma, uint64_t iova)
{
	for (unsigned i = 0; i < dma->count; i++)
		if (iova >= dma->ranges[i].iova && iova - dma->ranges[i].iova < dma->ranges[i].size)
			return &dma->ranges[i];
	return NULL;
}

int user_dma_add(struct user_dma *dma, uint64_t iova, uint64_t size, void *hva)
{
	int ret = 0;

	if (!size || !hva || iova + (size - 1) < iova)
		return -EINVAL;
	pthread_mutex_lock(&dma->lock);
	for (unsigned i = 0; i < dma->count && !ret; i++) {
		const struct user_dma_range *range = &dma->ranges[i];

		if (iova <= range->iova + (range->size - 1) && range->iova <= iova + (size - 1))
			ret = -EEXIST;
	}
	if (!ret && dma->count == USER_DMA_RANGES_MAX)
		ret = -ENOSPC;
	if (!ret)
		dma->ranges[dma->count++] =
			(struct user_dma_range){ .iova = iova, .size = size, .hva = hva };
	pthread_mutex_unlock(&dma->lock);
	return ret;
}

int user_dma_remove(struct user_dma *dma, uint64_t iova, uint64_t size)
{
	int ret = -ENOENT;

	pthread_mutex_lock(&dma->lock);
	for (unsigned i = 0; i < dma->count; i++) {
		if (dma->ranges[i].iova != iova || dma->ranges[i].size != size)
			continue;
		dma->ranges[i] = dma->ranges[--dma->count];
		ret = 0;
		break;
	}
	pthread_mutex_unlock(&dma->lock);
	return ret;
}

/* One walk over the ranges of an access; without @buf it only looks. */
static int walk(const struct user_dma *dma, uint64_t iova, uint8_t *buf, size_t count,
		bool to_guest)
{
	while (count) {
		const struct user_dma_range *range = range_of(dma, iova);
		uint8_t *at;
		size_t part;

		if (!range)
			return -EFAULT;
		at = range->hva + (iova - range->iova);
		part = (size_t)MIN((uint64_t)count, range->size - (iova - range->iova));
		if (buf) {
			memcpy(to_guest ? at : buf, to_guest ? buf : at, part);
			buf += part;
		}
		count -= part;
		iova += part;
		if (count && !iova)
			return -EFAULT; /* wrapped around the end of the address space */
	}
	return 0;
}

int user_dma_copy(struct user_dma *dma, uint64_t iova, void *buf, size_t count, bool to_guest)
{
	int ret;

	pthread_mutex_lock(&dma->lock);
	ret = walk(dma, iova, NULL, count, to_guest);
	if (!ret)
		ret = walk(dma, iova, buf, count, to_guest);
	pthread_mutex_unlock(&dma->lock);
	return ret;
}
