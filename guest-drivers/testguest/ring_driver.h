/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_driver: the driver's side of a virtqueue, of either kind (VIRTIO 1.2, 2.7 and 2.8), in memory that
 * the test lays out: what tests and benchmarks put chains into and take used ones from.
 *
 * It is a well-behaved driver, and one of the simplest: split descriptors are used in turn, so a test has no more
 * in flight than there are; a packed ring keeps the length of each chain by its ID. Nothing of the device's side
 * is used. Tests of bad drivers write to the rings themselves.
 */
#ifndef TESTGUEST_RING_DRIVER_H
#define TESTGUEST_RING_DRIVER_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define RING_SIZE_MAX	  256u
#define RING_PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define RING_PACKED_USED  (1u << VRING_PACKED_DESC_F_USED)

/* One buffer of a chain. */
struct guest_buffer {
	uint64_t gpa;
	uint32_t length;
	bool writable;
};

struct ring_driver {
	bool packed, event_idx;
	uint16_t size;
	uint16_t unnotified; /* chains (packed: descriptors) added since ring_wants_kick() */

	/* Split. */
	uint16_t next_desc, added, seen;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;

	/* Packed. */
	struct vring_packed_desc *ring;
	struct vring_packed_desc_event *driver_event, *device_event;
	uint16_t next_avail, next_used;
	bool avail_wrap, used_wrap;
	uint16_t lengths[RING_SIZE_MAX], idle[RING_SIZE_MAX], idle_count;
};

/* How many bytes the three parts of a ring of @size take, of either kind. */
static inline uint64_t ring_desc_bytes(uint16_t size)
{
	return size * (uint64_t)sizeof(struct vring_desc);
}
static inline uint64_t ring_driver_bytes(uint16_t size)
{
	return 6 + 2 * (uint64_t)size;
}
static inline uint64_t ring_device_bytes(uint16_t size)
{
	return 6 + 8 * (uint64_t)size;
}

/* Begin, over zeroed parts. */
static inline void ring_begin(struct ring_driver *ring, bool packed, bool event_idx, uint16_t size,
			      void *desc, void *driver, void *device)
{
	memset(ring, 0, sizeof(*ring));
	ring->packed = packed;
	ring->event_idx = event_idx;
	ring->size = size;
	memset(desc, 0, ring_desc_bytes(size));
	memset(driver, 0, ring_driver_bytes(size));
	memset(device, 0, ring_device_bytes(size));
	ring->desc = desc;
	ring->avail = driver;
	ring->used = device;
	ring->ring = desc;
	ring->driver_event = driver;
	ring->device_event = device;
	ring->avail_wrap = ring->used_wrap = true;
	while (ring->idle_count < size) {
		ring->idle[ring->idle_count] = (uint16_t)(size - 1 - ring->idle_count);
		ring->idle_count++;
	}
}

static inline void ring_step(const struct ring_driver *ring, uint16_t *at, bool *wrap,
			     unsigned count)
{
	*at = (uint16_t)(*at + count);
	if (*at >= ring->size) {
		*at = (uint16_t)(*at - ring->size);
		*wrap = !*wrap;
	}
}

/* ---- available ----------------------------------------------------------------------------- */

/* Split: make the chain at @head available. */
static inline void ring_publish(struct ring_driver *ring, uint16_t head)
{
	__atomic_store_n(&ring->avail->ring[ring->added % ring->size], head, __ATOMIC_RELAXED);
	ring->added++;
	ring->unnotified++;
	__atomic_store_n(&ring->avail->idx, ring->added, __ATOMIC_RELEASE);
}

static inline uint16_t ring_add_split(struct ring_driver *ring, const struct guest_buffer *buffers,
				      unsigned count, uint16_t more_flags)
{
	const uint16_t head = ring->next_desc % ring->size;

	for (unsigned i = 0; i < count; i++) {
		uint16_t at = ring->next_desc++ % ring->size;

		ring->desc[at] = (struct vring_desc){
			.addr = buffers[i].gpa,
			.len = buffers[i].length,
			.flags = (uint16_t)((buffers[i].writable ? VRING_DESC_F_WRITE : 0) |
					    (i + 1 < count ? VRING_DESC_F_NEXT : 0) | more_flags),
			.next = ring->next_desc % ring->size,
		};
	}
	ring_publish(ring, head);
	return head;
}

static inline uint16_t ring_add_packed(struct ring_driver *ring, const struct guest_buffer *buffers,
				       unsigned count, uint16_t more_flags)
{
	struct vring_packed_desc *first = &ring->ring[ring->next_avail];
	uint16_t first_flags = 0, id;

	if (!ring->idle_count)
		__builtin_trap();
	id = ring->idle[--ring->idle_count];
	ring->lengths[id] = (uint16_t)count;
	for (unsigned i = 0; i < count; i++) {
		struct vring_packed_desc *desc = &ring->ring[ring->next_avail];
		uint16_t flags =
			(uint16_t)((buffers[i].writable ? VRING_DESC_F_WRITE : 0) |
				   (i + 1 < count ? VRING_DESC_F_NEXT : 0) | more_flags |
				   (ring->avail_wrap ? RING_PACKED_AVAIL : RING_PACKED_USED));

		desc->addr = buffers[i].gpa;
		desc->len = buffers[i].length;
		desc->id = id;
		if (i)
			desc->flags = flags;
		else
			first_flags = flags;
		ring_step(ring, &ring->next_avail, &ring->avail_wrap, 1);
	}
	/* The first one last: then all are there. */
	__atomic_store_n(&first->flags, first_flags, __ATOMIC_RELEASE);
	ring->unnotified = (uint16_t)(ring->unnotified + count);
	return id;
}

/*
 * ring_add() - make a chain of @count buffers available. Returns what it comes back as: its head (split)
 * or ID (packed).
 */
static inline uint16_t ring_add(struct ring_driver *ring, const struct guest_buffer *buffers,
				unsigned count)
{
	return ring->packed ? ring_add_packed(ring, buffers, count, 0)
			    : ring_add_split(ring, buffers, count, 0);
}

/* ring_lay_table() - the same buffers as an indirect table at @table, 16 bytes each. */
static inline void ring_lay_table(const struct ring_driver *ring, void *table,
				  const struct guest_buffer *buffers, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const uint16_t writes = buffers[i].writable ? VRING_DESC_F_WRITE : 0;
		const struct vring_packed_desc packed = { buffers[i].gpa, buffers[i].length, 0,
							  writes };
		const struct vring_desc split = {
			buffers[i].gpa, buffers[i].length,
			(uint16_t)(writes | (i + 1 < count ? VRING_DESC_F_NEXT : 0)),
			(uint16_t)(i + 1)
		};

		memcpy((uint8_t *)table + i * sizeof(split),
		       ring->packed ? (const void *)&packed : &split, sizeof(split));
	}
}

/* ring_add_indirect() - make the table of @count descriptors at @gpa available. */
static inline uint16_t ring_add_indirect(struct ring_driver *ring, uint64_t gpa, unsigned count)
{
	const struct guest_buffer table = { gpa, (uint32_t)(count * sizeof(struct vring_desc)),
					    false };

	return ring->packed ? ring_add_packed(ring, &table, 1, VRING_DESC_F_INDIRECT)
			    : ring_add_split(ring, &table, 1, VRING_DESC_F_INDIRECT);
}

/* ring_wants_kick() - whether the device asked to be notified of what was added since the last call. */
static inline bool ring_wants_kick(struct ring_driver *ring)
{
	const uint16_t since = ring->unnotified;
	struct vring_packed_desc_event event;
	uint16_t place;

	ring->unnotified = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!ring->packed) {
		if (!ring->event_idx)
			return !(ring->used->flags & VRING_USED_F_NO_NOTIFY);
		memcpy(&place, &ring->used->ring[ring->size], sizeof(place));
		return vring_need_event(place, ring->added, (uint16_t)(ring->added - since));
	}
	memcpy(&event, ring->device_event, sizeof(event));
	if (event.flags != VRING_PACKED_EVENT_FLAG_DESC)
		return event.flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	place = event.off_wrap & 0x7fff;
	if (event.off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR != ring->avail_wrap)
		place = (uint16_t)(place - ring->size);
	return vring_need_event(place, ring->next_avail, (uint16_t)(ring->next_avail - since));
}

/* ---- used ---------------------------------------------------------------------------------- */

/* ring_has_used() - whether there is a used chain. */
static inline bool ring_has_used(const struct ring_driver *ring)
{
	uint16_t flags;

	if (!ring->packed)
		return __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) != ring->seen;
	flags = __atomic_load_n(&ring->ring[ring->next_used].flags, __ATOMIC_ACQUIRE);
	return (flags & (RING_PACKED_AVAIL | RING_PACKED_USED)) ==
	       (ring->used_wrap ? RING_PACKED_AVAIL | RING_PACKED_USED : 0);
}

/* ring_take_used() - the next used chain and the bytes written to it. Returns false when there is none. */
static inline bool ring_take_used(struct ring_driver *ring, uint16_t *id, uint32_t *length)
{
	const struct vring_packed_desc *desc = &ring->ring[ring->next_used];

	if (!ring_has_used(ring))
		return false;
	if (!ring->packed) {
		const struct vring_used_elem *element =
			&ring->used->ring[ring->seen++ % ring->size];

		*id = (uint16_t)element->id;
		*length = element->len;
		return true;
	}
	*id = desc->id;
	*length = desc->len;
	/* Of a chain that is not out, or twice: no driver could go on. */
	if (*id >= ring->size || !ring->lengths[*id] ||
	    !!(desc->flags & VRING_DESC_F_WRITE) != !!*length)
		__builtin_trap();
	ring_step(ring, &ring->next_used, &ring->used_wrap, ring->lengths[*id]);
	ring->lengths[*id] = 0;
	ring->idle[ring->idle_count++] = *id;
	return true;
}

/*
 * ring_ask_interrupt() - interrupt when the chain after @more further used ones is used (packed: of one
 * descriptor each); without event indexes: of each. Look for used ones after it.
 */
static inline void ring_ask_interrupt(struct ring_driver *ring, uint16_t more)
{
	if (ring->packed) {
		struct vring_packed_desc_event event = { 0 };
		uint16_t at = ring->next_used;
		bool wrap = ring->used_wrap;
		uint32_t word;

		ring_step(ring, &at, &wrap, more);
		if (ring->event_idx) {
			event.off_wrap = (uint16_t)(at | wrap << VRING_PACKED_EVENT_F_WRAP_CTR);
			event.flags = VRING_PACKED_EVENT_FLAG_DESC;
		}
		memcpy(&word, &event, sizeof(word));
		__atomic_store_n((uint32_t *)(void *)ring->driver_event, word, __ATOMIC_RELAXED);
	} else {
		__atomic_store_n(&ring->avail->flags, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&ring->avail->ring[ring->size], (uint16_t)(ring->seen + more),
				 __ATOMIC_RELAXED);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ring_refuse_interrupts() - none, please; split rings have that without event indexes only. */
static inline void ring_refuse_interrupts(struct ring_driver *ring)
{
	if (ring->packed)
		ring->driver_event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	else
		ring->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
