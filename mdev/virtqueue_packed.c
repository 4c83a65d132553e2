// SPDX-License-Identifier: Apache-2.0
/*
 * virtqueue_packed: packed virtqueues (VIRTIO 1.2, 2.8), the device's side.
 *
 * One ring of descriptors that both sides write. The driver puts a chain into the next descriptors, the
 * device reads them in that order; a chain that is done is written over the next ones that are not used yet, as
 * one descriptor with the chain's ID, and the others of its length are skipped. Whose a descriptor is
 * is said by two flags, against a counter that each side turns over at the ring's end. So the device has
 * two places in the ring, and keeps of every chain that is out its ID and how long it was: what the
 * driver writes there meanwhile is not looked at again. How descriptors are judged is virtqueue_ring.h's.
 *
 * The descriptors of chains that are out lie between the two places, modulo the ring; as their number is
 * kept and bounded by the ring's length, neither place ever overtakes the other, whatever the flags say.
 */
#include "mdev/virtqueue_ring.h"

#define AVAIL	     (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED	     (1u << VRING_PACKED_DESC_F_USED)
#define EVENT_AT     ((1u << VRING_PACKED_EVENT_F_WRAP_CTR) - 1)
#define EVENT_FLAGS  3u /* 2.8.14: two bits, the others are reserved */
#define DRIVER_ALIGN 4	/* 2.8.10.1, also the device's */

static int map_rings(struct virtqueue *queue)
{
	struct virtqueue_packed *ring = &queue->packed;

	if (virtqueue_is_mapped(queue))
		return 0;
	ring->desc = virtio_dma_ptr(queue->dma, queue->desc_iova,
				    queue->size * sizeof(struct vring_packed_desc));
	ring->driver_event = virtio_dma_ptr(queue->dma, queue->driver_iova,
					    sizeof(struct vring_packed_desc_event));
	ring->device_event = virtio_dma_ptr(queue->dma, queue->device_iova,
					    sizeof(struct vring_packed_desc_event));
	return virtqueue_set_mapped(queue, ring->desc && ring->driver_event && ring->device_event);
}

int virtqueue_packed_start(struct virtqueue *queue)
{
	struct virtqueue_packed *ring = &queue->packed;

	*ring = (struct virtqueue_packed){ .avail_wrap = true, .used_wrap = true };
	/* A chain has one descriptor at least: no more of them than descriptors can be out. */
	while (ring->idle_count < queue->size) {
		ring->idle[ring->idle_count] = ring->idle_count;
		ring->idle_count++;
	}
	if (queue->desc_iova & (VRING_DESC_ALIGN_SIZE - 1) ||
	    queue->driver_iova & (DRIVER_ALIGN - 1) || queue->device_iova & (DRIVER_ALIGN - 1))
		return virtqueue_malformed(queue, "a ring is not aligned");
	return map_rings(queue);
}

/* Go on by @count (at most the ring's length). */
static void advance(const struct virtqueue *queue, uint16_t *at, bool *wrap, unsigned count)
{
	unsigned to = *at + count;

	if (to >= queue->size) {
		to -= queue->size;
		*wrap = !*wrap;
	}
	*at = (uint16_t)to;
}

/* ---- available ------------------------------------------------------------------------------ */

/* Whether a descriptor with @flags is the device's, in a round of the ring with @wrap (2.8.1). */
static bool is_available(uint16_t flags, bool wrap)
{
	return (flags & (AVAIL | USED)) == (wrap ? AVAIL : USED);
}

static uint16_t next_flags(const struct virtqueue_packed *ring)
{
	return le16toh(__atomic_load_n(&ring->desc[ring->avail_at].flags, __ATOMIC_ACQUIRE));
}

static void copy_desc(struct vring_packed_desc *to, const void *from)
{
	virtqueue_copy_once(to, from, sizeof(*to));
	to->addr = le64toh(to->addr);
	to->len = le32toh(to->len);
	to->id = le16toh(to->id);
	to->flags = le16toh(to->flags);
}

/* 2.8.7: of what says a descriptor in the table, only WRITE means something; the others are ignored. */
static int walk_table(struct virtqueue *queue, struct virtio_chain *chain, uint64_t iova,
		      uint32_t length)
{
	const void *table;
	int entries = virtqueue_indirect_table(queue, iova, length, &table);

	if (entries < 0)
		return entries;
	for (unsigned i = 0; i < (unsigned)entries; i++) {
		struct vring_packed_desc desc;
		int ret;

		copy_desc(&desc, (const uint8_t *)table + i * sizeof(desc));
		ret = virtqueue_add_segment(queue, chain, desc.addr, desc.len,
					    desc.flags & VRING_DESC_F_WRITE);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * Walk the chain at the next place, whose first descriptor was seen to be available with @flags. Returns
 * its number of descriptors (at least 1) with the ID of its last one, or -EBADMSG.
 */
static int walk(struct virtqueue *queue, struct virtio_chain *chain, uint16_t flags, uint16_t *id)
{
	const struct virtqueue_packed *ring = &queue->packed;
	const unsigned room = queue->size - ring->held;
	uint16_t at = ring->avail_at;
	bool wrap = ring->avail_wrap;

	for (unsigned count = 0; count < room; count++) {
		struct vring_packed_desc desc;
		int ret;

		copy_desc(&desc, &ring->desc[at]);
		if (!count)
			desc.flags = flags; /* not looked at twice */
		else if (!is_available(desc.flags, wrap))
			/* 2.8.17: the first is made available after all others. */
			return virtqueue_malformed(queue,
						   "a chain goes on where nothing is available");
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			/* 2.8.19: negotiated, and a chain by itself. */
			if (!queue->indirect || count)
				return virtqueue_malformed(queue,
							   "indirect descriptor where none may be");
			if (desc.flags & VRING_DESC_F_NEXT)
				return virtqueue_malformed(queue,
							   "indirect descriptor with a next one");
			ret = walk_table(queue, chain, desc.addr, desc.len);
		} else {
			ret = virtqueue_add_segment(queue, chain, desc.addr, desc.len,
						    desc.flags & VRING_DESC_F_WRITE);
		}
		if (ret)
			return ret;
		if (!(desc.flags & VRING_DESC_F_NEXT)) {
			*id = desc.id;
			return (int)count + 1;
		}
		advance(queue, &at, &wrap, 1);
	}
	return virtqueue_malformed(queue, "more descriptors than the queue is long");
}

/* What the driver finds when it asks whether to notify; both halves at once. */
static void tell_driver(struct virtqueue *queue, uint16_t off_wrap, uint16_t flags)
{
	const struct vring_packed_desc_event event = { .off_wrap = htole16(off_wrap),
						       .flags = htole16(flags) };
	uint32_t word;

	memcpy(&word, &event, sizeof(word));
	__atomic_store_n((uint32_t *)(void *)queue->packed.device_event, word, __ATOMIC_RELAXED);
}

/*
 * Ask for a notification of the next chain. Who looks once more afterwards sees one that a driver
 * added before it could see the request.
 */
static void arm(struct virtqueue *queue)
{
	struct virtqueue_packed *ring = &queue->packed;

	if (queue->event_idx)
		tell_driver(queue,
			    (uint16_t)(ring->avail_at | ring->avail_wrap
								<< VRING_PACKED_EVENT_F_WRAP_CTR),
			    VRING_PACKED_EVENT_FLAG_DESC);
	else
		tell_driver(queue, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
	ring->quiet = false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

int virtqueue_packed_pop(struct virtqueue *queue, struct virtio_chain *chain)
{
	struct virtqueue_packed *ring = &queue->packed;
	uint16_t flags, id = 0;
	int count;

	if (map_rings(queue) < 0)
		return -EBADMSG;
	flags = next_flags(ring);
	if (!is_available(flags, ring->avail_wrap)) {
		arm(queue);
		flags = next_flags(ring);
		if (!is_available(flags, ring->avail_wrap))
			return 0;
	}
	/* One store for as long as there is something to do. */
	if (!ring->quiet)
		tell_driver(queue, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
	ring->quiet = true;

	virtqueue_chain_begin(chain);
	count = walk(queue, chain, flags, &id);
	if (count < 0)
		return count;
	virtqueue_chain_end(chain);
	chain->head = ring->popped = ring->idle[--ring->idle_count];
	ring->chains[chain->head].id = id;
	ring->chains[chain->head].count = (uint16_t)count;
	ring->held = (uint16_t)(ring->held + count);
	advance(queue, &ring->avail_at, &ring->avail_wrap, (unsigned)count);
	return 1;
}

/* A chain is not out any more. */
static unsigned release(struct virtqueue_packed *ring, uint16_t head)
{
	const uint16_t count = ring->chains[head].count;

	ring->held = (uint16_t)(ring->held - count);
	ring->idle[ring->idle_count++] = head;
	return count;
}

void virtqueue_packed_rewind(struct virtqueue *queue)
{
	struct virtqueue_packed *ring = &queue->packed;
	const unsigned count = release(ring, ring->popped);

	if (ring->avail_at < count) {
		ring->avail_at = (uint16_t)(ring->avail_at + queue->size);
		ring->avail_wrap = !ring->avail_wrap;
	}
	ring->avail_at = (uint16_t)(ring->avail_at - count);
}

/* ---- used ----------------------------------------------------------------------------------- */

/*
 * Whether the driver wants an interrupt for the last @count descriptors before the next used one (2.8.10).
 * A place of the round before this one is negative here, as is that of a chain that began there.
 */
static bool wants_interrupt(const struct virtqueue *queue, unsigned count)
{
	const struct virtqueue_packed *ring = &queue->packed;
	const uint32_t word = __atomic_load_n((const uint32_t *)(const void *)ring->driver_event,
					      __ATOMIC_RELAXED);
	struct vring_packed_desc_event event;
	uint16_t flags, off_wrap, place;

	memcpy(&event, &word, sizeof(event));
	flags = le16toh(event.flags) & EVENT_FLAGS;
	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	/* What was not negotiated, or means nothing, holds nothing back. */
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !queue->event_idx)
		return true;
	off_wrap = le16toh(event.off_wrap);
	place = off_wrap & EVENT_AT;
	if (off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR != ring->used_wrap)
		place = (uint16_t)(place - queue->size);
	return vring_need_event(place, ring->used_at, (uint16_t)(ring->used_at - count));
}

int virtqueue_packed_push(struct virtqueue *queue, uint16_t head, uint32_t length)
{
	struct virtqueue_packed *ring = &queue->packed;
	struct vring_packed_desc *desc;
	unsigned flags, count;

	if (map_rings(queue) < 0)
		return -EBADMSG;
	desc = &ring->desc[ring->used_at];
	flags = (ring->used_wrap ? AVAIL | USED : 0) | (length ? VRING_DESC_F_WRITE : 0);
	desc->id = htole16(ring->chains[head].id);
	desc->len = htole32(length);
	__atomic_store_n(&desc->flags, htole16((uint16_t)flags), __ATOMIC_RELEASE);
	count = release(ring, head);
	advance(queue, &ring->used_at, &ring->used_wrap, count);

	/* The flags must be visible before the driver's wish is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return wants_interrupt(queue, count);
}
