// SPDX-License-Identifier: Apache-2.0
/*
 * Rings from a hostile guest: whatever lies in guest memory, and however it changes while it is
 * read, a chain that virtqueue_pop() accepts is made of guest memory only, in order, bounded; and no more of them
 * are out than the queue is long, in whatever order they are handed back or put back.
 *
 * Input: a byte of features (bit 0: indirect, 1: event indexes, 2: packed rings, 6: chains stay out and
 * come back out of order, 7: memory changes during the calls too), a byte for the queue's size, then steps. A
 * step is offset (16 bits), length (8 bits) and bytes to lay into guest memory, after which the queue is
 * served once.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mdev/virtio.h"

#define BASE   UINT64_C(0x10000)
#define SIZE   UINT64_C(0x10000)
#define HALF   (SIZE / 2)
#define DESC   BASE
#define DRIVER (BASE + 0x1000)
#define DEVICE (BASE + 0x2000)
#define TABLE  0x3000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *memory;

/* Guest memory between pages that fault. */
static void make_memory(void)
{
	uint8_t *area = mmap(NULL, SIZE + 2 * 0x1000, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED || mprotect(area + 0x1000, SIZE, PROT_READ | PROT_WRITE))
		abort();
	memory = area + 0x1000;
}

static void check(bool good)
{
	if (!good)
		abort();
}

static uint64_t check_segments(const struct iovec *iov, unsigned count)
{
	uint64_t length = 0;

	for (unsigned i = 0; i < count; i++) {
		const uint8_t *at = iov[i].iov_base;

		check(iov[i].iov_len && at >= memory && at < memory + SIZE &&
		      iov[i].iov_len <= (size_t)(memory + SIZE - at));
		length += iov[i].iov_len;
	}
	return length;
}

/* Chains that are out, when they are not handed back at once. */
static struct {
	uint16_t head[VIRTIO_QUEUE_SIZE_MAX + 1];
	unsigned count;
} out;

/* Hand back one of those that are out, or put the last one back first: @which says. */
static int hand_back(struct virtqueue *queue, unsigned which)
{
	const uint32_t length = which % 3;
	uint16_t head;

	if (!(which % 5)) {
		virtqueue_rewind(queue);
		out.count--;
		return 0;
	}
	if (out.count < 3 + which % VIRTIO_QUEUE_SIZE_MAX / 2 && out.count < queue->size)
		return 0;
	which %= out.count--;
	head = out.head[which];
	out.head[which] = out.head[out.count];
	return virtqueue_push(queue, head, length);
}

static void serve(struct virtqueue *queue, struct virtio_chain *chain, bool keep)
{
	static uint8_t buffer[512];
	unsigned served = 0;
	int ret;

	while ((ret = virtqueue_pop(queue, chain)) > 0) {
		/* Of a packed ring no more can be out; of a split one the driver may say the same head again. */
		if (queue->is_packed)
			for (unsigned i = 0; i < out.count; i++)
				check(out.head[i] != chain->head);
		check(chain->head < queue->size);
		check(chain->out_count + chain->in_count > 0 &&
		      chain->out_count + chain->in_count <= VIRTIO_SEGMENTS_MAX);
		check(check_segments(chain->out, chain->out_count) == chain->out_length);
		check(check_segments(chain->in, chain->in_count) == chain->in_length);
		check(chain->out_length + chain->in_length <= UINT32_MAX);
		virtio_iov_read(chain->out, chain->out_count, served, buffer, sizeof(buffer));
		virtio_iov_write(chain->in, chain->in_count, served, buffer, sizeof(buffer));
		if (keep) {
			check(out.count < ARRAY_SIZE(out.head));
			out.head[out.count++] = chain->head;
			if (hand_back(queue, served * 7 + chain->segments[0].iov_len % 64) < 0)
				break;
		} else if (virtqueue_push(queue, chain->head, (uint32_t)chain->in_length) < 0) {
			break;
		}
		chain->in_count = virtio_iov_slice(chain->in, chain->in_count, 1, 64);
		check(check_segments(chain->in, chain->in_count) <= 64);
		/* A guest can keep a queue full forever; a device serves a share at a time. */
		if (++served == 2 * VIRTIO_QUEUE_SIZE_MAX)
			break;
	}
	check(ret >= 0 || queue->fault);
}

struct changer {
	bool stop;
	const uint8_t *data;
	size_t size;
};

/* A vCPU that writes to descriptors while they are read. */
static void *change(void *arg)
{
	struct changer *changer = arg;

	for (size_t i = 0; !__atomic_load_n(&changer->stop, __ATOMIC_RELAXED); i++) {
		uint8_t value = changer->data[i % changer->size];

		__atomic_fetch_xor(memory + (i * 7 + value) % 128, value, __ATOMIC_RELAXED);
		__atomic_fetch_xor(memory + TABLE + (i * 5 + value) % 128, value, __ATOMIC_RELAXED);
	}
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtio_chain chain;
	static struct virtio_dma dma;
	struct virtqueue queue = { .size_max = VIRTIO_QUEUE_SIZE_MAX,
				   .enabled = true,
				   .desc_iova = DESC,
				   .driver_iova = DRIVER,
				   .device_iova = DEVICE };
	struct changer changer = { 0 };
	pthread_t thread;
	uint64_t features;
	bool changing, keep;

	if (size < 2)
		return 0;
	if (!memory) {
		make_memory();
		check(!virtio_dma_map(&dma, BASE, HALF, memory));
		check(!virtio_dma_map(&dma, BASE + HALF, HALF, memory + HALF));
	}
	memset(memory, 0, SIZE);
	out.count = 0;
	features = (uint64_t)(data[0] & 3) << VIRTIO_RING_F_INDIRECT_DESC |
		   (uint64_t)(data[0] >> 2 & 1) << VIRTIO_F_RING_PACKED;
	/* Packed rings of any length, the short ones above all. */
	queue.size =
		(uint16_t)(data[0] & 4 && data[1] < 0x80 ? data[1] % 16 + 1 : 1u << (data[1] % 9));
	if (virtqueue_start(&queue, &dma, features) < 0)
		abort(); /* these rings are in order */
	changing = data[0] & 0x80;
	keep = data[0] & 0x40;
	data += 2;
	size -= 2;
	if (changing && size) {
		changer.data = data;
		changer.size = size;
		check(!pthread_create(&thread, NULL, change, &changer));
	} else {
		changing = false;
	}
	for (unsigned step = 0; step < 64 && size >= 3; step++) {
		size_t offset = data[0] | (size_t)data[1] << 8, length = data[2];

		data += 3;
		size -= 3;
		length = MIN(length, MIN(size, SIZE - offset));
		memcpy(memory + offset, data, length);
		data += length;
		size -= length;
		serve(&queue, &chain, keep);
	}
	if (changing) {
		__atomic_store_n(&changer.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
	}
	return 0;
}
