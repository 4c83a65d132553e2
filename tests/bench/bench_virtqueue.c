// SPDX-License-Identifier: Apache-2.0
/*
 * What one chain costs the device's side of a virtqueue, without any I/O: popped with every check, pushed
 * back. The driver's part (making a chain available) is in it: one store and an index.
 */
#include <string.h>
#include <sys/mman.h>

#include "mdev/virtio.h"
#include "tests/bench/bench.h"

#define RUNS   7u
#define CHAINS 400000u
#define QUEUE  256u
#define BASE   UINT64_C(0x100000)
#define SIZE   (4 * MIB)

static uint8_t *memory;
static struct virtio_dma dma;
static struct virtqueue queue;
static struct virtio_chain chain;

static struct vring_desc *desc_at(uint64_t iova)
{
	return (struct vring_desc *)(memory + (iova - BASE));
}

/* @length descriptors from @table on, each 512 bytes, the last one for writing. */
static void lay_out(struct vring_desc *table, unsigned first, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		table[first + i] = (struct vring_desc){
			.addr = BASE + 2 * MIB + i * 4096,
			.len = 512,
			.flags = (uint16_t)((i + 1 < length ? VRING_DESC_F_NEXT : 0) |
					    (i + 1 == length ? VRING_DESC_F_WRITE : 0)),
			.next = (uint16_t)(first + i + 1),
		};
}

static void chains(unsigned length, bool indirect)
{
	const uint64_t table = BASE + MIB;
	struct vring_avail *avail;
	double values[RUNS];
	char name[96];

	memset(memory, 0, SIZE);
	queue = (struct virtqueue){ .size = QUEUE,
				    .size_max = QUEUE,
				    .desc_iova = BASE,
				    .driver_iova = BASE + 8192,
				    .device_iova = BASE + 16384 };
	if (virtqueue_start(&queue, &dma,
			    UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX |
				    UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC))
		exit(1);
	avail = (struct vring_avail *)(memory + 8192);
	if (indirect) {
		lay_out(desc_at(table), 0, length);
		desc_at(BASE)[0] =
			(struct vring_desc){ table, (uint32_t)(length * sizeof(struct vring_desc)),
					     VRING_DESC_F_INDIRECT, 0 };
	} else {
		lay_out(desc_at(BASE), 0, length);
	}
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t began = monotonic_ns();

		for (unsigned i = 0; i < CHAINS; i++) {
			__atomic_store_n(&avail->idx, (uint16_t)(avail->idx + 1), __ATOMIC_RELEASE);
			if (virtqueue_pop(&queue, &chain) != 1 ||
			    virtqueue_push(&queue, chain.head, 512) < 0)
				exit(1);
		}
		values[run] = (double)(monotonic_ns() - began) / CHAINS;
	}
	snprintf(name, sizeof(name), "virtqueue, a chain of %u %sdescriptor%s popped and pushed",
		 length, indirect ? "indirect " : "", length == 1 ? "" : "s");
	bench_result(name, "ns", values, RUNS);
}

int main(void)
{
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || virtio_dma_map(&dma, BASE, SIZE, memory))
		return 1;
	chains(1, false);
	chains(3, false);
	chains(16, false);
	chains(64, false);
	chains(16, true);
	return 0;
}
