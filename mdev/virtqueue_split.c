// SPDX-License-Identifier: Apache-2.0
/*
 * virtqueue_split: split virtqueues (VIRTIO 1.2, 2.7), the device's side.
 *
 * Three parts: descriptors, linked into chains by number; the driver's ring of available chains; the
 * device's ring of used ones. How they are judged is virtqueue_ring.h's.
 */
#include "mdev/virtqueue_ring.h"

/* Make host pointers of the ring addresses, again whenever guest memory has changed. */
static int map_rings(struct virtqueue *queue)
{
	struct virtqueue_split *ring = &queue->split;
	const uint64_t size = queue->size;

	if (virtqueue_is_mapped(queue))
		return 0;
	ring->desc = virtio_dma_ptr(queue->dma, queue->desc_iova, size * sizeof(struct vring_desc));
	/* Both rings end with the event index of VIRTIO_F_EVENT_IDX (2.7.6, 2.7.8). */
	ring->avail = virtio_dma_ptr(queue->dma, queue->driver_iova,
				     sizeof(struct vring_avail) + size * 2 + 2);
	ring->used = virtio_dma_ptr(queue->dma, queue->device_iova,
				    sizeof(struct vring_used) +
					    size * sizeof(struct vring_used_elem) + 2);
	return virtqueue_set_mapped(queue, ring->desc && ring->avail && ring->used);
}

static uint16_t *avail_event(struct virtqueue *queue)
{
	return (uint16_t *)&queue->split.used->ring[queue->size];
}

static uint16_t *used_event(struct virtqueue *queue)
{
	return &queue->split.avail->ring[queue->size];
}

int virtqueue_split_start(struct virtqueue *queue)
{
	queue->split = (struct virtqueue_split){ 0 };
	if (queue->size & (queue->size - 1))
		return virtqueue_malformed(queue, "queue size is not a power of two");
	if (queue->desc_iova & (VRING_DESC_ALIGN_SIZE - 1) ||
	    queue->driver_iova & (VRING_AVAIL_ALIGN_SIZE - 1) ||
	    queue->device_iova & (VRING_USED_ALIGN_SIZE - 1))
		return virtqueue_malformed(queue, "a ring is not aligned");
	return map_rings(queue);
}

static void copy_desc(struct vring_desc *to, const void *from)
{
	virtqueue_copy_once(to, from, sizeof(*to));
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
			return virtqueue_malformed(queue, "descriptor index out of range");
		copy_desc(&desc, (const uint8_t *)table + index * sizeof(desc));
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			/* 2.7.5.3: negotiated, not nested, last of its chain. */
			if (!queue->indirect || nested)
				return virtqueue_malformed(queue,
							   "indirect descriptor where none may be");
			if (desc.flags & VRING_DESC_F_NEXT)
				return virtqueue_malformed(queue,
							   "indirect descriptor with a next one");
			ret = virtqueue_indirect_table(queue, desc.addr, desc.len, &nested_table);
			if (ret < 0)
				return ret;
			return walk(queue, chain, nested_table, (unsigned)ret, 0, (unsigned)ret,
				    true);
		}
		ret = virtqueue_add_segment(queue, chain, desc.addr, desc.len,
					    desc.flags & VRING_DESC_F_WRITE);
		if (ret)
			return ret;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
		index = desc.next;
	}
	return virtqueue_malformed(queue, "descriptor chain is longer than its table: a loop");
}

/* How many chains the driver says there are. */
static uint16_t waiting_chains(const struct virtqueue_split *ring)
{
	return (uint16_t)(le16toh(__atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE)) -
			  ring->last_avail);
}

/*
 * Ask for a notification of the next chain, then look once more: a driver that added one before it
 * could see the request does not notify. Returns how many chains there are.
 */
static uint16_t arm(struct virtqueue *queue)
{
	struct virtqueue_split *ring = &queue->split;

	if (queue->event_idx)
		__atomic_store_n(avail_event(queue), htole16(ring->last_avail), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&ring->used->flags, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return waiting_chains(ring);
}

int virtqueue_split_pop(struct virtqueue *queue, struct virtio_chain *chain)
{
	struct virtqueue_split *ring = &queue->split;
	uint16_t waiting, head;
	int ret;

	if (map_rings(queue) < 0)
		return -EBADMSG;
	waiting = waiting_chains(ring);
	if (!waiting) {
		waiting = arm(queue);
		if (!waiting)
			return 0;
	}
	if (waiting > queue->size)
		return virtqueue_malformed(
			queue, "available index is further ahead than the queue is long");
	if (!queue->event_idx)
		__atomic_store_n(&ring->used->flags, htole16(VRING_USED_F_NO_NOTIFY),
				 __ATOMIC_RELAXED);

	head = le16toh(__atomic_load_n(&ring->avail->ring[ring->last_avail & (queue->size - 1)],
				       __ATOMIC_RELAXED));
	chain->head = head;
	virtqueue_chain_begin(chain);
	ret = walk(queue, chain, ring->desc, queue->size, head, queue->size, false);
	if (ret)
		return ret;
	virtqueue_chain_end(chain);
	ring->last_avail++;
	return 1;
}

void virtqueue_split_rewind(struct virtqueue *queue)
{
	queue->split.last_avail--;
}

int virtqueue_split_push(struct virtqueue *queue, uint16_t head, uint32_t length)
{
	struct vring_used_elem element = { .id = htole32(head), .len = htole32(length) };
	struct virtqueue_split *ring = &queue->split;
	uint16_t old, event, flags;

	if (map_rings(queue) < 0)
		return -EBADMSG;
	memcpy(&ring->used->ring[ring->used_index & (queue->size - 1)], &element, sizeof(element));
	ring->used_index++;
	__atomic_store_n(&ring->used->idx, htole16(ring->used_index), __ATOMIC_RELEASE);

	/* 2.7.7.2: the index must be visible before the driver's wish is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (queue->event_idx) {
		event = le16toh(__atomic_load_n(used_event(queue), __ATOMIC_RELAXED));
		old = ring->signalled_index;
		ring->signalled_index = ring->used_index;
		return vring_need_event(event, ring->used_index, old);
	}
	flags = le16toh(__atomic_load_n(&ring->avail->flags, __ATOMIC_RELAXED));
	return !(flags & VRING_AVAIL_F_NO_INTERRUPT);
}
