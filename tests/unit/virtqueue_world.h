/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtqueue_world: one virtqueue between a driver (ring_driver.h) and the device's side of it, in 256 KiB of
 * guest memory made of two ranges that touch: a buffer may cross from one into the other, a ring may not.
 */
#ifndef TESTS_VIRTQUEUE_WORLD_H
#define TESTS_VIRTQUEUE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mdev/virtio.h"
#include "guest-drivers/testguest/ring_driver.h"

#define BASE	UINT64_C(0x40000000)
#define SIZE	(256 * KIB)
#define DESC	BASE
#define DRIVER	(BASE + 0x1000)
#define DEVICE	(BASE + 0x2000)
#define TABLE	(BASE + 0x3000)
#define BUFFER	(BASE + 0x10000)
#define ENTRIES 8

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define PACKED	  (UINT64_C(1) << VIRTIO_F_RING_PACKED)

static uint8_t *memory;
static struct virtio_dma dma;
static struct virtqueue queue;
static struct virtio_chain *chain;
static struct ring_driver driver;

static inline void *at(uint64_t gpa)
{
	return memory + (gpa - BASE);
}

/* A queue of @entries that both sides begin with. */
static inline void start_sized(uint64_t features, uint16_t entries)
{
	queue = (struct virtqueue){ .size_max = VIRTIO_QUEUE_SIZE_MAX,
				    .size = entries,
				    .enabled = true,
				    .desc_iova = DESC,
				    .driver_iova = DRIVER,
				    .device_iova = DEVICE };
	ring_begin(&driver, features & PACKED, features & EVENT_IDX, entries, at(DESC), at(DRIVER),
		   at(DEVICE));
	assert_int_equal(virtqueue_start(&queue, &dma, features), 0);
}

static inline int open_world(uint64_t features)
{
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	chain = calloc(1, sizeof(*chain));
	assert_non_null(chain);
	memset(&dma, 0, sizeof(dma));
	assert_int_equal(virtio_dma_map(&dma, BASE, SIZE / 2, memory), 0);
	assert_int_equal(virtio_dma_map(&dma, BASE + SIZE / 2, SIZE / 2, memory + SIZE / 2), 0);
	start_sized(features, ENTRIES);
	return 0;
}

static inline int teardown(void **state)
{
	munmap(memory, SIZE);
	free(chain);
	return 0;
}

/* One buffer as a chain; with flags of the test's own besides. */
static inline uint16_t add_one(uint64_t gpa, uint32_t length, bool writable)
{
	const struct guest_buffer buffer = { gpa, length, writable };

	return ring_add(&driver, &buffer, 1);
}

static inline uint16_t add_flagged(uint64_t gpa, uint32_t length, uint16_t flags)
{
	const struct guest_buffer buffer = { gpa, length, false };

	return driver.packed ? ring_add_packed(&driver, &buffer, 1, flags)
			     : ring_add_split(&driver, &buffer, 1, flags);
}

/* The next chain, which there is. Returns its head on the device's side. */
static inline uint16_t pop(void)
{
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	assert_in_range(chain->head, 0, queue.size - 1);
	return chain->head;
}

static inline void expect_malformed(const char *fault)
{
	assert_int_equal(virtqueue_pop(&queue, chain), -EBADMSG);
	assert_string_equal(queue.fault, fault);
}

/* The next used chain is @id's, with @length. */
static inline void expect_used(uint16_t id, uint32_t length)
{
	uint16_t found = 0xffff;
	uint32_t written = 0;

	assert_true(ring_take_used(&driver, &found, &written));
	assert_int_equal(found, id);
	assert_int_equal(written, length);
}

#endif
