// SPDX-License-Identifier: Apache-2.0
/*
 * virtqueue: split virtqueues (VIRTIO 1.2, 2.7), the device's side.
 *
 * Everything a driver writes into its rings is hostile and may change while it is read. So each
 * value is copied once and only the copy is judged and used: indexes against the queue size, chains
 * against a count of descriptors that no loop can get past, addresses against the table of guest
 * memory, order (readable before writable) and total length. What does not pass makes the whole
 * queue malformed; there is no second interpretation. Nothing here allocates, blocks or logs.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "mdev/virtio.h"

static int malformed(struct virtqueue *queue, const char *fault)
{
	queue->fault = fault;
	return -EBADMSG;
}

/* Copy guest memory so that the compiler can never go back to it for a second look. */
static void copy_once(void *to, const void *from, size_t count)
{
	memcpy(to, from, count);
	__asm__ volatile("" : : "r"(to) : "memory");
}

/* Make host pointers of the ring addresses, again whenever guest memory has changed. */
static int map_rings(struct virtqueue *queue)
{
	const uint64_t size = queue->size;

	if (queue->desc && queue->generation == queue->dma->generation)
		return 0;
	queue->desc =
		virtio_dma_ptr(queue->dma, queue->desc_iova, size * sizeof(struct vring_desc));
	/* Both rings end with the event index of VIRTIO_F_EVENT_IDX (2.7.6, 2.7.8). */
	queue->avail = virtio_dma_ptr(queue->dma, queue->driver_iova,
				      sizeof(struct vring_avail) + size * 2 + 2);
	queue->used = virtio_dma_ptr(queue->dma, queue->device_iova,
				     sizeof(struct vring_used) +
					     size * sizeof(struct vring_used_elem) + 2);
	if (!queue->desc || !queue->avail || !queue->used) {
		queue->desc = NULL;
		return malformed(queue, "a ring is not in guest memory");
	}
	queue->generation = queue->dma->generation;
	return 0;
}

static uint16_t *avail_event(struct virtqueue *queue)
{
	return (uint16_t *)&queue->used->ring[queue->size];
}

static uint16_t *used_event(struct virtqueue *queue)
{
	return &queue->avail->ring[queue->size];
}

int virtqueue_start(struct virtqueue *queue, const struct virtio_dma *dma, uint64_t features)
{
	queue->dma = dma;
	queue->event_idx = features & (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX);
	queue->indirect = features & (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC);
	queue->desc = NULL;
	queue->last_avail = queue->used_index = queue->signalled_index = 0;
	queue->fault = NULL;
	if (!queue->size || queue->size > queue->size_max || queue->size & (queue->size - 1))
		return malformed(queue, "queue size is not a power of two within the maximum");
	if (queue->desc_iova & (VRING_DESC_ALIGN_SIZE - 1) ||
	    queue->driver_iova & (VRING_AVAIL_ALIGN_SIZE - 1) ||
	    queue->device_iova & (VRING_USED_ALIGN_SIZE - 1))
		return malformed(queue, "a ring is not aligned");
	if (map_rings(queue) < 0)
		return -EBADMSG;
	queue->running = true;
	return 0;
}

void virtqueue_reset(struct virtqueue *queue)
{
	*queue = (struct virtqueue){ .size_max = queue->size_max, .size = queue->size_max };
}

/* Add the memory behind one descriptor to @chain. */
static int add_segment(struct virtqueue *queue, struct virtio_chain *chain,
		       const struct vring_desc *desc)
{
	const bool writable = desc->flags & VRING_DESC_F_WRITE;
	unsigned count = chain->out_count + chain->in_count;
	int added;

	if (!desc->len)
		return malformed(queue, "descriptor of length zero");
	/* 2.7.4.2: device-writable after device-readable. */
	if (!writable && chain->in_count)
		return malformed(queue, "readable descriptor after a writable one");
	/* 2.7.5: more than 2^32 bytes in one chain is prohibited. */
	if (chain->out_length + chain->in_length + desc->len > UINT32_MAX)
		return malformed(queue, "chain longer than 4 GiB");
	added = virtio_dma_resolve(queue->dma, desc->addr, desc->len, &chain->segments[count],
				   VIRTIO_SEGMENTS_MAX - count);
	if (added < 0)
		return malformed(queue, added == -E2BIG ? "chain with too many segments"
							: "buffer is not in guest memory");
	if (writable) {
		chain->in_count += (unsigned)added;
		chain->in_length += desc->len;
	} else {
		chain->out_count += (unsigned)added;
		chain->out_length += desc->len;
	}
	return 0;
}

static void copy_desc(struct vring_desc *to, const void *from)
{
	copy_once(to, from, sizeof(*to));
	to->addr = le64toh(to->addr);
	to->len = le32toh(to->len);
	to->flags = le16toh(to->flags);
	to->next = le16toh(to->next);
}

/*
 * Walk a chain in @table of @entries descriptors. Each step counts against @limit, so a chain that
 * loops is found when it gets longer than any honest one can be.
 */
static int walk(struct virtqueue *queue, struct virtio_chain *chain, const void *table,
		unsigned entries, unsigned index, unsigned limit, bool nested)
{
	for (unsigned steps = 0; steps < limit; steps++) {
		struct vring_desc desc;
		const void *nested_table;
		int ret;

		if (index >= entries)
			return malformed(queue, "descriptor index out of range");
		copy_desc(&desc, (const uint8_t *)table + index * sizeof(desc));
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			/* 2.7.5.3: negotiated, not nested, last of its chain. */
			if (!queue->indirect || nested)
				return malformed(queue, "indirect descriptor where none may be");
			if (desc.flags & VRING_DESC_F_NEXT)
				return malformed(queue, "indirect descriptor with a next one");
			if (!desc.len || desc.len % sizeof(struct vring_desc) ||
			    desc.len / sizeof(struct vring_desc) > queue->size_max)
				return malformed(queue, "indirect table of a wrong length");
			/* Linux does not align the tables; unaligned ones are copied just as well. */
			nested_table = virtio_dma_ptr(queue->dma, desc.addr, desc.len);
			if (!nested_table)
				return malformed(queue, "indirect table is not in guest memory");
			return walk(queue, chain, nested_table,
				    (unsigned)(desc.len / sizeof(struct vring_desc)), 0,
				    (unsigned)(desc.len / sizeof(struct vring_desc)), true);
		}
		ret = add_segment(queue, chain, &desc);
		if (ret)
			return ret;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
		index = desc.next;
	}
	return malformed(queue, "descriptor chain is longer than its table: a loop");
}

/*
 * Ask for a notification of the next chain, then look once more: a driver that added one before it
 * could see the request does not notify. Returns how many chains there are.
 */
static uint16_t arm(struct virtqueue *queue)
{
	if (queue->event_idx)
		__atomic_store_n(avail_event(queue), htole16(queue->last_avail), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&queue->used->flags, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return (uint16_t)(le16toh(__atomic_load_n(&queue->avail->idx, __ATOMIC_ACQUIRE)) -
			  queue->last_avail);
}

int virtqueue_pop(struct virtqueue *queue, struct virtio_chain *chain)
{
	uint16_t waiting, head;
	int ret;

	if (map_rings(queue) < 0)
		return -EBADMSG;
	waiting = (uint16_t)(le16toh(__atomic_load_n(&queue->avail->idx, __ATOMIC_ACQUIRE)) -
			     queue->last_avail);
	if (!waiting) {
		waiting = arm(queue);
		if (!waiting)
			return 0;
	}
	if (waiting > queue->size)
		return malformed(queue, "available index is further ahead than the queue is long");
	if (!queue->event_idx)
		__atomic_store_n(&queue->used->flags, htole16(VRING_USED_F_NO_NOTIFY),
				 __ATOMIC_RELAXED);

	head = le16toh(__atomic_load_n(&queue->avail->ring[queue->last_avail & (queue->size - 1)],
				       __ATOMIC_RELAXED));
	chain->head = head;
	chain->out_count = chain->in_count = 0;
	chain->out_length = chain->in_length = 0;
	ret = walk(queue, chain, queue->desc, queue->size, head, queue->size, false);
	if (ret)
		return ret;
	chain->out = chain->segments;
	chain->in = chain->segments + chain->out_count;
	queue->last_avail++;
	return 1;
}

void virtqueue_rewind(struct virtqueue *queue)
{
	queue->last_avail--;
}

int virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t length)
{
	struct vring_used_elem element = { .id = htole32(head), .len = htole32(length) };
	uint16_t old, event, flags;

	if (map_rings(queue) < 0)
		return -EBADMSG;
	memcpy(&queue->used->ring[queue->used_index & (queue->size - 1)], &element,
	       sizeof(element));
	queue->used_index++;
	__atomic_store_n(&queue->used->idx, htole16(queue->used_index), __ATOMIC_RELEASE);

	/* 2.7.7.2: the index must be visible before the driver's wish is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (queue->event_idx) {
		event = le16toh(__atomic_load_n(used_event(queue), __ATOMIC_RELAXED));
		old = queue->signalled_index;
		queue->signalled_index = queue->used_index;
		return vring_need_event(event, queue->used_index, old);
	}
	flags = le16toh(__atomic_load_n(&queue->avail->flags, __ATOMIC_RELAXED));
	return !(flags & VRING_AVAIL_F_NO_INTERRUPT);
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
		copy_once((uint8_t *)buffer + done, (const uint8_t *)iov[i].iov_base + skip, part);
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
