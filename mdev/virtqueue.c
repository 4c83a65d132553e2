// SPDX-License-Identifier: Apache-2.0
/*
 * virtqueue: what a device knows of its queues, whatever kind of ring the driver chose (VIRTIO 1.2, 2.6).
 *
 * A ring is split (virtqueue_split.c) or packed (virtqueue_packed.c), by VIRTIO_F_RING_PACKED, from
 * virtqueue_start() to virtqueue_reset(). Here that is told apart, once a call; device types never see
 * it. Below are the copies between buffers and the host's memory. Nothing here allocates, blocks or logs.
 */
#include "mdev/virtqueue_ring.h"

int virtqueue_start(struct virtqueue *queue, const struct virtio_dma *dma, uint64_t features)
{
	queue->dma = dma;
	queue->is_packed = features & (UINT64_C(1) << VIRTIO_F_RING_PACKED);
	queue->event_idx = features & (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX);
	queue->indirect = features & (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC);
	queue->mapped = false;
	queue->fault = NULL;
	if (!queue->size || queue->size > queue->size_max)
		return virtqueue_malformed(queue, "queue size is not within the maximum");
	if ((queue->is_packed ? virtqueue_packed_start(queue) : virtqueue_split_start(queue)) < 0)
		return -EBADMSG;
	queue->running = true;
	return 0;
}

void virtqueue_reset(struct virtqueue *queue)
{
	*queue = (struct virtqueue){ .size_max = queue->size_max, .size = queue->size_max };
}

int virtqueue_pop(struct virtqueue *queue, struct virtio_chain *chain)
{
	return queue->is_packed ? virtqueue_packed_pop(queue, chain)
				: virtqueue_split_pop(queue, chain);
}

void virtqueue_rewind(struct virtqueue *queue)
{
	if (queue->is_packed)
		virtqueue_packed_rewind(queue);
	else
		virtqueue_split_rewind(queue);
}

int virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t length)
{
	return queue->is_packed ? virtqueue_packed_push(queue, head, length)
				: virtqueue_split_push(queue, head, length);
}

size_t virtio_iov_read(const struct iovec *iov, unsigned iov_count, size_t skip, void *buffer,
		       size_t count)
{
	size_t done = 0;

	for (unsigned i = 0; i < iov_count && done < count; i++) {
		size_t part;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - skip, count - done);
		virtqueue_copy_once((uint8_t *)buffer + done,
				    (const uint8_t *)iov[i].iov_base + skip, part);
		done += part;
		skip = 0;
	}
	return done;
}

size_t virtio_iov_write(const struct iovec *iov, unsigned iov_count, size_t skip,
			const void *buffer, size_t count)
{
	size_t done = 0;

	for (unsigned i = 0; i < iov_count && done < count; i++) {
		size_t part;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - skip, count - done);
		memcpy((uint8_t *)iov[i].iov_base + skip, (const uint8_t *)buffer + done, part);
		done += part;
		skip = 0;
	}
	return done;
}

unsigned virtio_iov_slice(struct iovec *iov, unsigned iov_count, size_t skip, size_t count)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < iov_count && count; i++) {
		size_t part;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - skip, count);
		iov[kept].iov_base = (uint8_t *)iov[i].iov_base + skip;
		iov[kept].iov_len = part;
		kept++;
		count -= part;
		skip = 0;
	}
	return kept;
}
