// SPDX-License-Identifier: Apache-2.0
/*
 * Virtqueues and the table of guest memory: what an honest driver gets whatever its rings are, and what a hostile
 * one meets. Every test runs over split and over packed rings; what only one of them has is in
 * test_virtqueue_split.c and test_virtqueue_packed.c.
 */
#include "tests/unit/virtqueue_world.h"

static uint64_t kind; /* PACKED or nothing */

static int setup(void **state)
{
	return open_world(kind | INDIRECT);
}

static void start(uint64_t features)
{
	start_sized(kind | features, ENTRIES);
}

/* ---- chains -------------------------------------------------------------------------------- */

static void pops_nothing_from_an_empty_ring(void **state)
{
	assert_int_equal(virtqueue_pop(&queue, chain), 0);
	assert_false(ring_has_used(&driver));
}

static void pops_a_chain_with_its_memory(void **state)
{
	const struct guest_buffer buffers[] = { { BUFFER, 16, false },
						{ BUFFER + 64, 32, true },
						{ BUFFER + 128, 1, true } };

	ring_add(&driver, buffers, 3);
	pop();
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
	add_one(BASE + SIZE / 2 - 10, 30, false);
	pop();
	assert_int_equal(chain->out_count, 2);
	assert_int_equal(chain->out[0].iov_len, 10);
	assert_int_equal(chain->out[1].iov_len, 20);
}

static void follows_an_indirect_table_even_unaligned(void **state)
{
	const struct guest_buffer buffers[] = { { BUFFER, 4, false }, { BUFFER + 8, 4, true } };

	ring_lay_table(&driver, at(TABLE + 1), buffers, 2);
	ring_add_indirect(&driver, TABLE + 1, 2);
	pop();
	assert_int_equal(chain->out_count, 1);
	assert_int_equal(chain->in_count, 1);
	assert_ptr_equal(chain->in[0].iov_base, at(BUFFER + 8));
}

static void a_used_chain_comes_back_with_its_length(void **state)
{
	uint16_t id = add_one(BUFFER, 16, true);

	assert_int_equal(virtqueue_push(&queue, pop(), 11), 1);
	expect_used(id, 11);
	assert_false(ring_has_used(&driver));
}

/* Chains of one to three descriptors, three times round the ring. */
static void chains_come_back_in_any_order(void **state)
{
	static const uint8_t orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 }, { 2, 0, 1 } };
	struct guest_buffer buffers[3];

	for (unsigned i = 0; i < 3; i++)
		buffers[i] = (struct guest_buffer){ BUFFER + i * 64, 16, true };
	for (unsigned round = 0; round < 12; round++) {
		const uint8_t *order = orders[round % ARRAY_SIZE(orders)];
		uint16_t ids[3], heads[3];

		for (unsigned i = 0; i < 3; i++)
			ids[i] = ring_add(&driver, buffers, (round + i) % 3 + 1);
		for (unsigned i = 0; i < 3; i++)
			heads[i] = pop();
		assert_int_equal(virtqueue_pop(&queue, chain), 0);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(virtqueue_push(&queue, heads[order[i]], order[i] + 1u), 1);
		for (unsigned i = 0; i < 3; i++)
			expect_used(ids[order[i]], order[i] + 1u);
	}
}

static void a_chain_that_is_put_back_is_popped_again(void **state)
{
	const struct guest_buffer buffers[] = { { BUFFER, 16, false },
						{ BUFFER + 64, 16, true },
						{ BUFFER + 128, 16, true } };

	/* Everywhere in the ring, its end too; while one before it is out, and is handed back meanwhile. */
	for (unsigned round = 0; round < 3 * ENTRIES; round++) {
		uint16_t first = add_one(BUFFER + 512, 8, true), id;
		uint16_t out = pop();

		id = ring_add(&driver, buffers, 3);
		for (unsigned i = 0; i < 3; i++) {
			pop();
			assert_int_equal(chain->out_count, 1);
			assert_int_equal(chain->in_count, 2);
			if (i == 1)
				assert_int_equal(virtqueue_push(&queue, out, 8), 1);
			virtqueue_rewind(&queue);
		}
		expect_used(first, 8);
		assert_int_equal(virtqueue_push(&queue, pop(), 5), 1);
		expect_used(id, 5);
		assert_int_equal(virtqueue_pop(&queue, chain), 0);
	}
}

/* What the driver writes into descriptors that it gave away is not looked at again. */
static void a_chain_that_is_out_is_what_it_was(void **state)
{
	const struct guest_buffer buffers[] = { { BUFFER, 16, true }, { BUFFER + 64, 16, true } };
	uint16_t ids[2], heads[2];

	for (unsigned i = 0; i < 2; i++) {
		ids[i] = ring_add(&driver, buffers, 2);
		heads[i] = pop();
	}
	memset(at(DESC), 0xff, ring_desc_bytes(ENTRIES));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(virtqueue_push(&queue, heads[i], 7), 1);
		expect_used(ids[i], 7);
	}
}

static void nothing_is_out_after_a_reset(void **state)
{
	struct guest_buffer buffers[ENTRIES];
	uint16_t id;

	for (unsigned i = 0; i < ENTRIES; i++)
		buffers[i] = (struct guest_buffer){ BUFFER + i * 64, 16, true };
	for (unsigned round = 0; round < 3; round++) {
		/* All of the ring is out, nothing of it comes back. */
		ring_add(&driver, buffers, 5);
		pop();
		ring_add(&driver, buffers, 3);
		pop();
		virtqueue_reset(&queue);
		assert_false(queue.running);
		assert_int_equal(queue.size, VIRTIO_QUEUE_SIZE_MAX);
		start(0);
		id = ring_add(&driver, buffers, ENTRIES);
		virtqueue_push(&queue, pop(), 1);
		expect_used(id, 1);
	}
}

/* 70000 chains: past the end of a 16-bit index, and a packed ring's counters many times round. */
static void goes_round_and_round(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 8, 256 };
	struct guest_buffer buffers[3];

	for (unsigned i = 0; i < 3; i++)
		buffers[i] = (struct guest_buffer){ BUFFER + i * 64, 16, true };
	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
		start_sized(kind, sizes[s]);
		for (uint32_t i = 0; i < 70000; i++) {
			uint16_t id =
				ring_add(&driver, buffers, i % MIN((unsigned)sizes[s], 3u) + 1);

			assert_int_equal(virtqueue_push(&queue, pop(), i), 1);
			expect_used(id, i);
		}
		assert_int_equal(virtqueue_pop(&queue, chain), 0);
	}
}

/*
 * A model: chains of random lengths are added while there is room, popped, put back and pushed in random
 * order. Each comes out as it went in, in its order, and comes back once.
 */
static void a_driver_and_a_device_that_do_as_they_like_agree(void **state)
{
	struct {
		uint16_t id, head;
		unsigned count;
		uint16_t first; /* split: its first descriptor, counted on */
	} all[64];
	unsigned added = 0, out = 0; /* all[0 .. out): popped; [out .. added): not yet */
	unsigned seed = 1, used = 0, pops = 0, rewinds = 0;

	start_sized(kind, 32);
	for (unsigned step = 0; step < 400000; step++) {
		unsigned what, count, taken = 0;

		seed = seed * 1664525 + 1013904223;
		what = seed >> 16 & 7;
		count = (seed >> 20) % 5 + 1;
		/* Split descriptors are used in turn: those of the oldest chain are not overwritten. */
		for (unsigned i = 0; i < added; i++)
			taken = driver.packed ? taken + all[i].count
					      : MAX(taken, (unsigned)(uint16_t)(driver.next_desc -
										all[i].first));
		if (what < 3 && added < ARRAY_SIZE(all) && taken + count <= 32) {
			struct guest_buffer buffers[5];

			for (unsigned i = 0; i < count; i++)
				buffers[i] = (struct guest_buffer){ BUFFER + i * 64, count, true };
			all[added].first = driver.next_desc;
			all[added].count = count;
			all[added++].id = ring_add(&driver, buffers, count);
		} else if (what < 5) {
			assert_int_equal(virtqueue_pop(&queue, chain), out < added);
			if (out == added)
				continue;
			assert_int_equal(chain->in_count, all[out].count);
			assert_int_equal(chain->in_length, all[out].count * all[out].count);
			all[out++].head = chain->head;
			pops++;
			if (seed >> 24 & 1) {
				virtqueue_rewind(&queue);
				out--;
				rewinds++;
			}
		} else if (out) {
			unsigned which = (seed >> 24) % out;

			assert_int_equal(virtqueue_push(&queue, all[which].head, step), 1);
			expect_used(all[which].id, step);
			memmove(&all[which], &all[which + 1], (added - which - 1) * sizeof(all[0]));
			added--;
			out--;
			used++;
		}
	}
	assert_in_range(used, 10000, UINT32_MAX);
	assert_in_range(rewinds, 10000, pops);
}

/* ---- notifications and interrupts ----------------------------------------------------------- */

static void without_event_idx_each_side_can_hold_the_other_back(void **state)
{
	/* Nobody has looked yet: the driver notifies. */
	add_one(BUFFER, 16, true);
	assert_true(ring_wants_kick(&driver));
	ring_refuse_interrupts(&driver);
	pop();
	/* Who is at work anyway need not be told. */
	add_one(BUFFER, 16, true);
	assert_false(ring_wants_kick(&driver));
	assert_int_equal(virtqueue_push(&queue, chain->head, 0), 0);
	pop();
	assert_int_equal(virtqueue_pop(&queue, chain), 0);
	add_one(BUFFER, 16, true);
	assert_true(ring_wants_kick(&driver));
	ring_ask_interrupt(&driver, 0);
	assert_int_equal(virtqueue_push(&queue, pop(), 0), 1);
}

static void event_idx_interrupts_once_the_driver_is_reached(void **state)
{
	for (unsigned wanted = 0; wanted < 6; wanted++) {
		start(EVENT_IDX);
		/* From everywhere in the ring. */
		for (unsigned round = 0; round < 20; round++) {
			uint16_t heads[6];

			for (unsigned i = 0; i < 6; i++)
				add_one(BUFFER, 16, true);
			for (unsigned i = 0; i < 6; i++)
				heads[i] = pop();
			ring_ask_interrupt(&driver, (uint16_t)wanted);
			for (unsigned i = 0; i < 6; i++)
				assert_int_equal(virtqueue_push(&queue, heads[i], 1), i == wanted);
			while (ring_has_used(&driver)) {
				uint16_t id;
				uint32_t length;

				ring_take_used(&driver, &id, &length);
			}
		}
	}
}

static void event_idx_asks_for_one_notification(void **state)
{
	start(EVENT_IDX);
	for (unsigned round = 0; round < 40; round++) {
		uint16_t id;
		uint32_t length;

		assert_int_equal(virtqueue_pop(&queue, chain), 0);
		add_one(BUFFER, 16, true);
		assert_true(ring_wants_kick(&driver));
		add_one(BUFFER, 16, true);
		assert_false(ring_wants_kick(&driver));
		virtqueue_push(&queue, pop(), 0);
		add_one(BUFFER, 16, true);
		assert_false(ring_wants_kick(&driver));
		for (unsigned i = 0; i < 2; i++)
			virtqueue_push(&queue, pop(), 0);
		while (ring_take_used(&driver, &id, &length))
			;
	}
}

/* ---- guest memory that changes --------------------------------------------------------------- */

static void memory_that_went_away_makes_the_ring_malformed(void **state)
{
	add_one(BUFFER, 16, true);
	pop();
	assert_int_equal(virtio_dma_unmap(&dma, BASE, SIZE / 2), 0);
	expect_malformed("a ring is not in guest memory");
	assert_int_equal(virtqueue_push(&queue, chain->head, 0), -EBADMSG);
}

static void memory_that_is_elsewhere_is_found_again(void **state)
{
	uint8_t *elsewhere =
		mmap(NULL, SIZE / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint16_t out, id = add_one(BUFFER, 16, true), next;

	assert_true(elsewhere != MAP_FAILED);
	out = pop();
	next = add_one(BUFFER + 64, 16, true);
	memcpy(elsewhere, memory, SIZE / 2);
	assert_int_equal(virtio_dma_unmap(&dma, BASE, SIZE / 2), 0);
	assert_int_equal(virtio_dma_map(&dma, BASE, SIZE / 2, elsewhere), 0);
	memset(memory, 0xff, SIZE / 2);
	virtqueue_push(&queue, out, 3);
	pop();
	assert_ptr_equal(chain->in[0].iov_base, elsewhere + (BUFFER + 64 - BASE));
	virtqueue_push(&queue, chain->head, 4);
	memcpy(memory, elsewhere, SIZE / 2); /* where the driver of this test looks */
	expect_used(id, 3);
	expect_used(next, 4);
	munmap(elsewhere, SIZE / 2);
}

/* ---- malformed chains: a table, one broken rule a line ------------------------------------- */

static void address_not_mapped(void)
{
	add_one(BASE - 1, 16, false);
}

static void end_not_mapped(void)
{
	add_one(BASE + SIZE - 16, 17, false);
}

static void address_wraps(void)
{
	add_one(UINT64_MAX - 7, 16, false);
}

static void zero_length(void)
{
	add_one(BUFFER, 0, false);
}

static void readable_after_writable(void)
{
	const struct guest_buffer buffers[] = { { BUFFER, 16, true }, { BUFFER, 16, false } };

	ring_add(&driver, buffers, 2);
}

static void a_later_one_not_mapped(void)
{
	const struct guest_buffer buffers[] = { { BUFFER, 16, false }, { BASE - 16, 16, true } };

	ring_add(&driver, buffers, 2);
}

static void indirect_empty(void)
{
	add_flagged(TABLE, 0, VRING_DESC_F_INDIRECT);
}

static void indirect_odd_length(void)
{
	add_flagged(TABLE, 24, VRING_DESC_F_INDIRECT);
}

static void indirect_huge(void)
{
	add_flagged(TABLE, 16 * (VIRTIO_QUEUE_SIZE_MAX + 1), VRING_DESC_F_INDIRECT);
}

static void indirect_not_mapped(void)
{
	add_flagged(BASE + SIZE, 16, VRING_DESC_F_INDIRECT);
}

static void indirect_with_next(void)
{
	add_flagged(TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT);
}

static void indirect_of(const struct guest_buffer *buffers, unsigned count)
{
	ring_lay_table(&driver, at(TABLE), buffers, count);
	ring_add_indirect(&driver, TABLE, count);
}

static void indirect_address_not_mapped(void)
{
	indirect_of((struct guest_buffer[]){ { BUFFER, 4, false }, { BASE - 4, 4, true } }, 2);
}

static void indirect_zero_length(void)
{
	indirect_of((struct guest_buffer[]){ { BUFFER, 4, false }, { BUFFER, 0, true } }, 2);
}

static void indirect_readable_after_writable(void)
{
	indirect_of((struct guest_buffer[]){ { BUFFER, 4, true }, { BUFFER, 4, false } }, 2);
}

static const struct malformed {
	void (*make)(void);
	const char *fault;
} malformed[] = {
	{ address_not_mapped, "buffer is not in guest memory" },
	{ end_not_mapped, "buffer is not in guest memory" },
	{ address_wraps, "buffer is not in guest memory" },
	{ zero_length, "descriptor of length zero" },
	{ readable_after_writable, "readable descriptor after a writable one" },
	{ a_later_one_not_mapped, "buffer is not in guest memory" },
	{ indirect_empty, "indirect table of a wrong length" },
	{ indirect_odd_length, "indirect table of a wrong length" },
	{ indirect_huge, "indirect table of a wrong length" },
	{ indirect_not_mapped, "indirect table is not in guest memory" },
	{ indirect_with_next, "indirect descriptor with a next one" },
	{ indirect_address_not_mapped, "buffer is not in guest memory" },
	{ indirect_zero_length, "descriptor of length zero" },
	{ indirect_readable_after_writable, "readable descriptor after a writable one" },
};

static void refuses_malformed_chains_with_the_reason(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		memset(memory, 0, SIZE);
		start(INDIRECT);
		malformed[i].make();
		expect_malformed(malformed[i].fault);
	}
}

static void refuses_indirect_that_was_not_negotiated(void **state)
{
	start(0);
	indirect_of((struct guest_buffer[]){ { BUFFER, 16, false } }, 1);
	expect_malformed("indirect descriptor where none may be");
}

static void refuses_a_chain_longer_than_4_gib(void **state)
{
	/* The same memory often: address space is cheap, the sum is what counts. */
	const struct guest_buffer buffers[] = { { 4 * GIB, (uint32_t)(2 * GIB), false },
						{ 4 * GIB, (uint32_t)(2 * GIB), false } };
	uint64_t big = 3 * GIB;
	void *hva = mmap(NULL, big, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(hva != MAP_FAILED);
	assert_int_equal(virtio_dma_map(&dma, 4 * GIB, big, hva), 0);
	ring_add(&driver, buffers, 2);
	expect_malformed("chain longer than 4 GiB");
	munmap(hva, big);
}

static void refuses_rings_it_cannot_use(void **state)
{
	const struct virtqueue good = queue;
	struct virtqueue bad;

#define REFUSED(field, value)                                                  \
	do {                                                                   \
		bad = good;                                                    \
		bad.field = (value);                                           \
		assert_int_equal(virtqueue_start(&bad, &dma, kind), -EBADMSG); \
		assert_non_null(bad.fault);                                    \
	} while (0)
	REFUSED(size, 0);
	REFUSED(size, 512);
	REFUSED(size, VIRTIO_QUEUE_SIZE_MAX + 1);
	REFUSED(desc_iova, DESC + 8);
	REFUSED(driver_iova, DRIVER + 1);
	REFUSED(device_iova, DEVICE + 2);
	REFUSED(desc_iova, BASE - 0x1000);
	REFUSED(desc_iova, BASE + SIZE - 16);
	REFUSED(driver_iova, BASE + SIZE);
	REFUSED(device_iova, BASE + SIZE);
	REFUSED(device_iova, UINT64_MAX - 3);
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
		TEST(follows_an_indirect_table_even_unaligned),
		TEST(a_used_chain_comes_back_with_its_length),
		TEST(chains_come_back_in_any_order),
		TEST(a_chain_that_is_put_back_is_popped_again),
		TEST(a_chain_that_is_out_is_what_it_was),
		TEST(nothing_is_out_after_a_reset),
		TEST(goes_round_and_round),
		TEST(a_driver_and_a_device_that_do_as_they_like_agree),
		TEST(without_event_idx_each_side_can_hold_the_other_back),
		TEST(event_idx_interrupts_once_the_driver_is_reached),
		TEST(event_idx_asks_for_one_notification),
		TEST(memory_that_went_away_makes_the_ring_malformed),
		TEST(memory_that_is_elsewhere_is_found_again),
		TEST(refuses_malformed_chains_with_the_reason),
		TEST(refuses_indirect_that_was_not_negotiated),
		TEST(refuses_a_chain_longer_than_4_gib),
		TEST(refuses_rings_it_cannot_use),
	};
	const struct CMUnitTest guest_memory[] = {
		TEST(maps_are_checked),
		TEST(the_table_of_ranges_is_bounded_and_stays_sorted),
		TEST(vectors_are_copied_and_cut_across_their_parts),
	};
	int failed = cmocka_run_group_tests_name("split rings", tests, NULL, NULL);

	kind = PACKED;
	failed += cmocka_run_group_tests_name("packed rings", tests, NULL, NULL);
	return failed + cmocka_run_group_tests_name("guest memory", guest_memory, NULL, NULL);
}
