// SPDX-License-Identifier: Apache-2.0
/* Split rings and the table of guest memory: what an honest driver gets, what a hostile one meets. */
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

#define BASE	UINT64_C(0x40000000)
#define SIZE	(256 * KIB)
#define DESC	BASE
#define AVAIL	(BASE + 0x1000)
#define USED	(BASE + 0x2000)
#define TABLE	(BASE + 0x3000)
#define BUFFER	(BASE + 0x10000)
#define ENTRIES 8

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

static uint8_t *memory;
static struct virtio_dma dma;
static struct virtqueue queue;
static struct virtio_chain *chain;
static struct vring_desc *desc, *table;
static struct vring_avail *avail;
static struct vring_used *used;

static void *at(uint64_t gpa)
{
	return memory + (gpa - BASE);
}

static void start(uint64_t features)
{
	queue = (struct virtqueue){ .size_max = VIRTIO_QUEUE_SIZE_MAX,
				    .size = ENTRIES,
				    .enabled = true,
				    .desc_iova = DESC,
				    .driver_iova = AVAIL,
				    .device_iova = USED };
	assert_int_equal(virtqueue_start(&queue, &dma, features), 0);
}

static int setup(void **state)
{
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	chain = calloc(1, sizeof(*chain));
	memset(&dma, 0, sizeof(dma));
	/* Two ranges that touch: a buffer may cross, a ring may not. */
	assert_int_equal(virtio_dma_map(&dma, BASE, SIZE / 2, memory), 0);
	assert_int_equal(virtio_dma_map(&dma, BASE + SIZE / 2, SIZE / 2, memory + SIZE / 2), 0);
	desc = at(DESC);
	avail = at(AVAIL);
	used = at(USED);
	table = at(TABLE);
	start(INDIRECT);
	return 0;
}

static int teardown(void **state)
{
	munmap(memory, SIZE);
	free(chain);
	return 0;
}

static void publish(uint16_t head)
{
	avail->ring[avail->idx % ENTRIES] = head;
	avail->idx++;
}

static void pops_nothing_from_an_empty_ring(void **state)
{
	assert_int_equal(virtqueue_pop(&queue, chain), 0);
}

static void pops_a_chain_with_its_memory(void **state)
{
	desc[3] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 5 };
	desc[5] = (struct vring_desc){ BUFFER + 64, 32, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 0 };
	desc[0] = (struct vring_desc){ BUFFER + 128, 1, VRING_DESC_F_WRITE, 7 };
	publish(3);
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	assert_int_equal(chain->head, 3);
	assert_int_equal(chain->out_count, 1);
	assert_int_equal(chain->in_count, 2);
	assert_int_equal(chain->out_length, 16);
	assert_int_equal(chain->in_length, 33);
	assert_ptr_equal(chain->out[0].iov_base, at(BUFFER));
	assert_ptr_equal(chain->in[0].iov_base, at(BUFFER + 64));
	assert_ptr_equal(chain->in[1].iov_base, at(BUFFER + 128));
	assert_int_equal(virtqueue_pop(&queue, chain), 0);
}

static void splits_a_buffer_across_ranges(void **state)
{
	desc[0] = (struct vring_desc){ BASE + SIZE / 2 - 10, 30, 0, 0 };
	publish(0);
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	assert_int_equal(chain->out_count, 2);
	assert_int_equal(chain->out[0].iov_len, 10);
	assert_int_equal(chain->out[1].iov_len, 20);
}

static void rewinding_pops_the_same_chain_again(void **state)
{
	desc[2] = (struct vring_desc){ BUFFER, 16, 0, 0 };
	publish(2);
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	virtqueue_rewind(&queue);
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	assert_int_equal(chain->head, 2);
}

static void follows_an_indirect_table_even_unaligned(void **state)
{
	struct vring_desc entries[2] = { { BUFFER, 4, VRING_DESC_F_NEXT, 1 },
					 { BUFFER + 8, 4, VRING_DESC_F_WRITE, 0 } };

	memcpy((uint8_t *)table + 1, entries, sizeof(entries));
	desc[0] = (struct vring_desc){ TABLE + 1, sizeof(entries), VRING_DESC_F_INDIRECT, 0 };
	publish(0);
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	assert_int_equal(chain->out_count, 1);
	assert_int_equal(chain->in_count, 1);
}

static void follows_direct_descriptors_into_an_indirect_table(void **state)
{
	table[0] = (struct vring_desc){ BUFFER + 8, 4, VRING_DESC_F_WRITE, 0 };
	desc[0] = (struct vring_desc){ BUFFER, 4, VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ TABLE, sizeof(table[0]), VRING_DESC_F_INDIRECT, 0 };
	publish(0);
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	assert_int_equal(chain->out_count + chain->in_count, 2);
}

static void push_writes_the_used_ring(void **state)
{
	desc[2] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_WRITE, 0 };
	publish(2);
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	assert_int_equal(virtqueue_push(&queue, chain->head, 11), 1);
	assert_int_equal(used->idx, 1);
	assert_int_equal(used->ring[0].id, 2);
	assert_int_equal(used->ring[0].len, 11);
}

static void without_event_idx_flags_hold_back_interrupts_and_notifications(void **state)
{
	desc[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_WRITE, 0 };
	avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	publish(0);
	assert_int_equal(virtqueue_pop(&queue, chain), 1);
	assert_int_equal(used->flags, VRING_USED_F_NO_NOTIFY);
	assert_int_equal(virtqueue_push(&queue, 0, 0), 0);
	assert_int_equal(virtqueue_pop(&queue, chain), 0);
	assert_int_equal(used->flags, 0);
}

static void event_idx_interrupts_once_the_driver_is_reached(void **state)
{
	uint16_t *used_event = &avail->ring[ENTRIES];
	uint16_t *avail_event = (uint16_t *)&used->ring[ENTRIES];
	int interrupts = 0;

	start(EVENT_IDX);
	desc[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_WRITE, 0 };
	*used_event = 2; /* tell me when the third is used */
	for (unsigned i = 0; i < 6; i++)
		publish(0);
	for (unsigned i = 0; i < 6; i++) {
		int wants;

		assert_int_equal(virtqueue_pop(&queue, chain), 1);
		wants = virtqueue_push(&queue, 0, 0);
		assert_int_equal(wants, i == 2);
		interrupts += wants;
	}
	assert_int_equal(interrupts, 1);
	assert_int_equal(virtqueue_pop(&queue, chain), 0);
	assert_int_equal(*avail_event, 6);
}

static void indexes_wrap_around_at_65536(void **state)
{
	desc[1] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_WRITE, 0 };
	for (unsigned i = 0; i < 70000; i++) {
		publish(1);
		assert_int_equal(virtqueue_pop(&queue, chain), 1);
		assert_int_equal(virtqueue_push(&queue, chain->head, i), 1);
		assert_int_equal(used->idx, (uint16_t)(i + 1));
		assert_int_equal(used->ring[i % ENTRIES].len, i);
	}
	assert_int_equal(virtqueue_pop(&queue, chain), 0);
}

static void memory_that_went_away_makes_the_ring_malformed(void **state)
{
	publish(0);
	assert_int_equal(virtio_dma_unmap(&dma, BASE, SIZE / 2), 0);
	assert_int_equal(virtqueue_pop(&queue, chain), -EBADMSG);
	assert_int_equal(virtqueue_push(&queue, 0, 0), -EBADMSG);
}

/* ---- malformed chains: a table, one broken rule a line ------------------------------------- */

static void far_ahead(void)
{
	avail->idx = ENTRIES + 1;
}

static void head_out_of_range(void)
{
	publish(ENTRIES);
}

static void next_out_of_range(void)
{
	desc[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 0xffff };
	publish(0);
}

static void loop(void)
{
	desc[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 0 };
	publish(0);
}

static void address_not_mapped(void)
{
	desc[0] = (struct vring_desc){ BASE - 1, 16, 0, 0 };
	publish(0);
}

static void end_not_mapped(void)
{
	desc[0] = (struct vring_desc){ BASE + SIZE - 16, 17, 0, 0 };
	publish(0);
}

static void address_wraps(void)
{
	desc[0] = (struct vring_desc){ UINT64_MAX - 7, 16, 0, 0 };
	publish(0);
}

static void zero_length(void)
{
	desc[0] = (struct vring_desc){ BUFFER, 0, 0, 0 };
	publish(0);
}

static void readable_after_writable(void)
{
	desc[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1 };
	desc[1] = (struct vring_desc){ BUFFER, 16, 0, 0 };
	publish(0);
}

static void indirect_of(uint64_t gpa, uint32_t length, uint16_t more_flags)
{
	desc[0] = (struct vring_desc){ gpa, length, VRING_DESC_F_INDIRECT | more_flags, 0 };
	publish(0);
}

static void indirect_empty(void)
{
	indirect_of(TABLE, 0, 0);
}

static void indirect_odd_length(void)
{
	indirect_of(TABLE, 24, 0);
}

static void indirect_huge(void)
{
	indirect_of(TABLE, 16 * (VIRTIO_QUEUE_SIZE_MAX + 1), 0);
}

static void indirect_not_mapped(void)
{
	indirect_of(BASE + SIZE, 16, 0);
}

static void indirect_with_next(void)
{
	indirect_of(TABLE, 16, VRING_DESC_F_NEXT);
}

static void indirect_nested(void)
{
	table[0] = (struct vring_desc){ TABLE + 64, 16, VRING_DESC_F_INDIRECT, 0 };
	indirect_of(TABLE, 16, 0);
}

static void indirect_loop(void)
{
	table[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 0 };
	indirect_of(TABLE, 64, 0);
}

static void indirect_next_out_of_range(void)
{
	table[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 2 };
	indirect_of(TABLE, 32, 0);
}

static const struct malformed {
	void (*make)(void);
	const char *fault;
} malformed[] = {
	{ far_ahead, "available index is further ahead than the queue is long" },
	{ head_out_of_range, "descriptor index out of range" },
	{ next_out_of_range, "descriptor index out of range" },
	{ loop, "descriptor chain is longer than its table: a loop" },
	{ address_not_mapped, "buffer is not in guest memory" },
	{ end_not_mapped, "buffer is not in guest memory" },
	{ address_wraps, "buffer is not in guest memory" },
	{ zero_length, "descriptor of length zero" },
	{ readable_after_writable, "readable descriptor after a writable one" },
	{ indirect_empty, "indirect table of a wrong length" },
	{ indirect_odd_length, "indirect table of a wrong length" },
	{ indirect_huge, "indirect table of a wrong length" },
	{ indirect_not_mapped, "indirect table is not in guest memory" },
	{ indirect_with_next, "indirect descriptor with a next one" },
	{ indirect_nested, "indirect descriptor where none may be" },
	{ indirect_loop, "descriptor chain is longer than its table: a loop" },
	{ indirect_next_out_of_range, "descriptor index out of range" },
};

static void refuses_malformed_chains_with_the_reason(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		memset(memory, 0, SIZE);
		start(INDIRECT);
		malformed[i].make();
		assert_int_equal(virtqueue_pop(&queue, chain), -EBADMSG);
		assert_string_equal(queue.fault, malformed[i].fault);
	}
}

static void refuses_indirect_that_was_not_negotiated(void **state)
{
	start(0);
	table[0] = (struct vring_desc){ BUFFER, 16, 0, 0 };
	indirect_of(TABLE, 16, 0);
	assert_int_equal(virtqueue_pop(&queue, chain), -EBADMSG);
	assert_string_equal(queue.fault, "indirect descriptor where none may be");
}

static void refuses_a_chain_longer_than_4_gib(void **state)
{
	/* The same memory often: address space is cheap, the sum is what counts. */
	uint64_t big = 3 * GIB;
	void *hva = mmap(NULL, big, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(hva != MAP_FAILED);
	assert_int_equal(virtio_dma_map(&dma, 4 * GIB, big, hva), 0);
	desc[0] = (struct vring_desc){ 4 * GIB, (uint32_t)(2 * GIB), VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ 4 * GIB, (uint32_t)(2 * GIB), 0, 0 };
	publish(0);
	assert_int_equal(virtqueue_pop(&queue, chain), -EBADMSG);
	assert_string_equal(queue.fault, "chain longer than 4 GiB");
	munmap(hva, big);
}

static void refuses_rings_it_cannot_use(void **state)
{
	const struct virtqueue good = queue;
	struct virtqueue bad;

#define REFUSED(field, value)                                               \
	do {                                                                \
		bad = good;                                                 \
		bad.field = (value);                                        \
		assert_int_equal(virtqueue_start(&bad, &dma, 0), -EBADMSG); \
		assert_non_null(bad.fault);                                 \
	} while (0)
	REFUSED(size, 0);
	REFUSED(size, 3);
	REFUSED(size, 512);
	REFUSED(desc_iova, DESC + 8);
	REFUSED(driver_iova, AVAIL + 1);
	REFUSED(device_iova, USED + 2);
	REFUSED(desc_iova, BASE - 0x1000);
	REFUSED(device_iova, BASE + SIZE - 16);
	/* Across two ranges: not one piece of host memory. */
	REFUSED(desc_iova, BASE + SIZE / 2 - 16);
#undef REFUSED
}

/* ---- guest memory -------------------------------------------------------------------------- */

static void maps_are_checked(void **state)
{
	assert_int_equal(virtio_dma_map(&dma, BASE + SIZE, 0, memory), -EINVAL);
	assert_int_equal(virtio_dma_map(&dma, UINT64_MAX - 0xfff, 0x2000, memory), -EINVAL);
	assert_int_equal(virtio_dma_map(&dma, BASE + SIZE + 1, 0x1000, memory), -EINVAL);
	assert_int_equal(virtio_dma_map(&dma, BASE - 0x1000, 0x2000, memory), -EEXIST);
	assert_int_equal(virtio_dma_map(&dma, BASE + 0x1000, 0x1000, memory), -EEXIST);
	assert_int_equal(virtio_dma_map(&dma, BASE - 0x1000, SIZE * 2, memory), -EEXIST);
	assert_int_equal(virtio_dma_unmap(&dma, BASE, SIZE), -ENOENT);
	assert_int_equal(virtio_dma_unmap(&dma, BASE, SIZE / 2), 0);
	assert_int_equal(virtio_dma_unmap(&dma, BASE, SIZE / 2), -ENOENT);
	assert_null(virtio_dma_ptr(&dma, BASE, 1));
	assert_ptr_equal(virtio_dma_ptr(&dma, BASE + SIZE / 2, 1), memory + SIZE / 2);
}

static void the_table_of_ranges_is_bounded_and_stays_sorted(void **state)
{
	struct virtio_dma many = { 0 };

	/* From the top down, so that each goes before the others. */
	for (unsigned i = VIRTIO_DMA_RANGES_MAX; i-- > 0;)
		assert_int_equal(virtio_dma_map(&many, BASE + i * 0x2000, 0x1000,
						memory + (i % 16) * 0x1000),
				 0);
	assert_int_equal(virtio_dma_map(&many, 0x1000, 0x1000, memory), -ENOSPC);
	for (unsigned i = 0; i < VIRTIO_DMA_RANGES_MAX; i++) {
		assert_ptr_equal(virtio_dma_ptr(&many, BASE + i * 0x2000 + 0xfff, 1),
				 memory + (i % 16) * 0x1000 + 0xfff);
		assert_null(virtio_dma_ptr(&many, BASE + i * 0x2000 + 0x1000, 1));
	}
}

static void vectors_are_copied_and_cut_across_their_parts(void **state)
{
	char a[] = "abc", b[] = "defg", out[8] = "";
	struct iovec iov[3] = { { a, 3 }, { b, 4 }, { out, 0 } };

	assert_int_equal(virtio_iov_read(iov, 3, 2, out, 3), 3);
	assert_memory_equal(out, "cde", 3);
	assert_int_equal(virtio_iov_read(iov, 3, 5, out, 8), 2);
	assert_int_equal(virtio_iov_write(iov, 3, 1, "XYZ", 3), 3);
	assert_string_equal(a, "aXY");
	assert_string_equal(b, "Zefg");
	assert_int_equal(virtio_iov_slice(iov, 3, 2, 2), 2);
	assert_int_equal(iov[0].iov_len, 1);
	assert_int_equal(iov[1].iov_len, 1);
	assert_ptr_equal(iov[1].iov_base, b);
	assert_int_equal(virtio_iov_slice(iov, 2, 2, 5), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(pops_nothing_from_an_empty_ring),
		TEST(pops_a_chain_with_its_memory),
		TEST(splits_a_buffer_across_ranges),
		TEST(rewinding_pops_the_same_chain_again),
		TEST(follows_an_indirect_table_even_unaligned),
		TEST(follows_direct_descriptors_into_an_indirect_table),
		TEST(push_writes_the_used_ring),
		TEST(without_event_idx_flags_hold_back_interrupts_and_notifications),
		TEST(event_idx_interrupts_once_the_driver_is_reached),
		TEST(indexes_wrap_around_at_65536),
		TEST(memory_that_went_away_makes_the_ring_malformed),
		TEST(refuses_malformed_chains_with_the_reason),
		TEST(refuses_indirect_that_was_not_negotiated),
		TEST(refuses_a_chain_longer_than_4_gib),
		TEST(refuses_rings_it_cannot_use),
		TEST(maps_are_checked),
		TEST(the_table_of_ranges_is_bounded_and_stays_sorted),
		TEST(vectors_are_copied_and_cut_across_their_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
