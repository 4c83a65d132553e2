/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtqueue_ring: what both kinds of rings share: how the words of a driver are read and judged.
 * Private to virtqueue*.c.
 *
 * Everything a driver writes into its rings is hostile and may change while it is read. So each
 * value is copied once and only the copy is judged and used: places against the ring's length, chains
 * against a count of descriptors that no loop can get past, addresses against the table of guest
 * memory, order (readable before writable) and total length. What does not pass makes the whole
 * queue malformed; there is no second interpretation. All of it is inline: it runs for every descriptor.
 */
#ifndef MDEV_VIRTQUEUE_RING_H
#define MDEV_VIRTQUEUE_RING_H

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "mdev/virtio.h"

/* The calls of virtio.h for each kind of ring. */
int virtqueue_split_start(struct virtqueue *queue);
int virtqueue_split_pop(struct virtqueue *queue, struct virtio_chain *chain);
void virtqueue_split_rewind(struct virtqueue *queue);
int virtqueue_split_push(struct virtqueue *queue, uint16_t head, uint32_t length);

int virtqueue_packed_start(struct virtqueue *queue);
int virtqueue_packed_pop(struct virtqueue *queue, struct virtio_chain *chain);
void virtqueue_packed_rewind(struct virtqueue *queue);
int virtqueue_packed_push(struct virtqueue *queue, uint16_t head, uint32_t length);

static inline int virtqueue_malformed(struct virtqueue *queue, const char *fault)
{
	queue->fault = fault;
	return -EBADMSG;
}

/* Copy guest memory so that the compiler can never go back to it for a second look. */
static inline void virtqueue_copy_once(void *to, const void *from, size_t count)
{
	memcpy(to, from, count);
	__asm__ volatile("" : : "r"(to) : "memory");
}

/* Whether the ring's pointers into host memory are those of the guest memory that there is now. */
static inline bool virtqueue_is_mapped(const struct virtqueue *queue)
{
	return queue->mapped && queue->generation == queue->dma->generation;
}

/* The pointers were made anew: @good when all of them are in guest memory. Returns 0 or -EBADMSG. */
static inline int virtqueue_set_mapped(struct virtqueue *queue, bool good)
{
	queue->mapped = good;
	queue->generation = queue->dma->generation;
	return good ? 0 : virtqueue_malformed(queue, "a ring is not in guest memory");
}

static inline void virtqueue_chain_begin(struct virtio_chain *chain)
{
	chain->out_count = chain->in_count = 0;
	chain->out_length = chain->in_length = 0;
}

static inline void virtqueue_chain_end(struct virtio_chain *chain)
{
	chain->out = chain->segments;
	chain->in = chain->segments + chain->out_count;
}

/* Add the memory of one descriptor to @chain. Returns 0 or -EBADMSG. */
static inline int virtqueue_add_segment(struct virtqueue *queue, struct virtio_chain *chain,
					uint64_t iova, uint32_t length, bool writable)
{
	unsigned count = chain->out_count + chain->in_count;
	int added;

	if (!length)
		return virtqueue_malformed(queue, "descriptor of length zero");
	/* 2.7.4.2, 2.8.17: device-writable after device-readable. */
	if (!writable && chain->in_count)
		return virtqueue_malformed(queue, "readable descriptor after a writable one");
	/* 2.7.5: more than 2^32 bytes in one chain is prohibited. */
	if (chain->out_length + chain->in_length + length > UINT32_MAX)
		return virtqueue_malformed(queue, "chain longer than 4 GiB");
	added = virtio_dma_resolve(queue->dma, iova, length, &chain->segments[count],
				   VIRTIO_SEGMENTS_MAX - count);
	if (added < 0)
		return virtqueue_malformed(queue, added == -E2BIG
							  ? "chain with too many segments"
							  : "buffer is not in guest memory");
	if (writable) {
		chain->in_count += (unsigned)added;
		chain->in_length += length;
	} else {
		chain->out_count += (unsigned)added;
		chain->out_length += length;
	}
	return 0;
}

/* Descriptors of both kinds have 16 bytes. */
#define VIRTQUEUE_DESC_SIZE 16u

/*
 * The table of @length bytes that an indirect descriptor names, which needs no alignment: Linux does
 * not align them, and unaligned ones are copied just as well. Returns its descriptors' number, or
 * -EBADMSG.
 */
static inline int virtqueue_indirect_table(struct virtqueue *queue, uint64_t iova, uint32_t length,
					   const void **table)
{
	if (!length || length % VIRTQUEUE_DESC_SIZE ||
	    length / VIRTQUEUE_DESC_SIZE > queue->size_max)
		return virtqueue_malformed(queue, "indirect table of a wrong length");
	*table = virtio_dma_ptr(queue->dma, iova, length);
	if (!*table)
		return virtqueue_malformed(queue, "indirect table is not in guest memory");
	return (int)(length / VIRTQUEUE_DESC_SIZE);
}

#endif
