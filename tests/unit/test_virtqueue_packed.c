// SPDX-License-Identifier: Apache-2.0
/*
 * Packed rings: what only they have: whose a descriptor is, IDs, event suppression, and what is malformed.
 * The rest is in test_virtqueue.c.
 */
#include "tests/unit/virtqueue_world.h"

static struct vring_packed_desc *ring, *table;

static int setup(void **state)
{
	open_world(PACKED | INDIRECT);
	ring = driver.ring;
	table = at(TABLE);
	return 0;
}

/* Descriptor @at for the device, in the first round of the ring. */
static void put(unsigned at_place, uint64_t gpa, uint32_t length, uint16_t id, unsigned flags)
{
	ring[at_place] = (struct vring_packed_desc){ gpa, length, id,
						     (uint16_t)(flags | RING_PACKED_AVAIL) };
}

/* ---- whose a descriptor is ------------------------------------------------------------------ */

static void only_flags_that_differ_in_the_right_way_make_it_available(void **state)
{
	/* The first round: what counts as available has AVAIL and not USED; in the next one the reverse. */
	static const struct {
		uint16_t flags;
		bool round[2];
	} cases[] = {
		{ 0, { false, false } },
		{ RING_PACKED_AVAIL, { true, false } },
		{ RING_PACKED_USED, { false, true } },
		{ RING_PACKED_AVAIL | RING_PACKED_USED, { false, false } },
	};

	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
			start_sized(PACKED, 1);
			for (unsigned before = 0; before < round; before++) {
				add_one(BUFFER, 16, true);
				virtqueue_push(&queue, pop(), 1);
			}
			ring[0] = (struct vring_packed_desc){ BUFFER, 16, 0, cases[i].flags };
			assert_int_equal(virtqueue_pop(&queue, chain), cases[i].round[round]);
		}
}

static void a_used_descriptor_says_whether_something_was_written(void **state)
{
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < ENTRIES; i++) {
			const unsigned used = round % 2 ? 0 : RING_PACKED_AVAIL | RING_PACKED_USED;
			uint16_t id = add_one(BUFFER, 16, true);

			virtqueue_push(&queue, pop(), i % 2);
			assert_int_equal(ring[i].flags, used | (i % 2 ? VRING_DESC_F_WRITE : 0));
			assert_int_equal(ring[i].id, id);
			assert_int_equal(ring[i].len, i % 2);
			expect_used(id, i % 2);
		}
}

static void one_descriptor_is_written_for_a_whole_chain(void **state)
{
	const struct guest_buffer buffers[] = { { BUFFER, 16, false },
						{ BUFFER + 64, 16, true },
						{ BUFFER + 128, 16, true } };
	struct vring_packed_desc before[ENTRIES];

	ring_add(&driver, buffers, 3);
	ring_add(&driver, buffers, 2);
	virtqueue_push(&queue, pop(), 1);
	memcpy(before, ring, sizeof(before));
	virtqueue_push(&queue, pop(), 2);
	/* Behind the three of the first. */
	assert_int_equal(ring[3].len, 2);
	memcpy(&before[3], &ring[3], sizeof(before[3]));
	assert_memory_equal(before, ring, sizeof(before));
}

static void ids_are_the_drivers_own(void **state)
{
	static const uint16_t ids[] = { 0xffff, 0, 0xffff, 0x8000 };
	uint16_t heads[ARRAY_SIZE(ids)];

	/* Any 16 bits, also twice at once: the device takes them for nothing but a name. */
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		put(i, BUFFER, 16, ids[i], VRING_DESC_F_WRITE);
		heads[i] = pop();
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(heads[i], heads[k]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		virtqueue_push(&queue, heads[i], 1);
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(ring[i].id, ids[i]);
}

static void the_id_is_that_of_the_last_descriptor(void **state)
{
	put(0, BUFFER, 16, 11, VRING_DESC_F_NEXT);
	put(1, BUFFER, 16, 12, VRING_DESC_F_NEXT);
	put(2, BUFFER, 16, 13, VRING_DESC_F_WRITE);
	virtqueue_push(&queue, pop(), 1);
	assert_int_equal(ring[0].id, 13);
}

static void rings_may_have_any_length(void **state)
{
	struct guest_buffer buffers[3];

	for (unsigned i = 0; i < 3; i++)
		buffers[i] = (struct guest_buffer){ BUFFER + i * 64, 16, true };
	for (uint16_t size = 1; size <= VIRTIO_QUEUE_SIZE_MAX; size++) {
		start_sized(PACKED, size);
		for (uint32_t i = 0; i < 3u * size; i++) {
			uint16_t id = ring_add(&driver, buffers, i % MIN(size, 3u) + 1);

			virtqueue_push(&queue, pop(), i);
			expect_used(id, i);
		}
	}
}

static void in_a_table_only_the_write_flag_counts(void **state)
{
	table[0] = (struct vring_packed_desc){ BUFFER, 4, 77, VRING_DESC_F_INDIRECT };
	table[1] =
		(struct vring_packed_desc){ BUFFER + 8, 4, 78,
					    (uint16_t)~(VRING_DESC_F_WRITE | VRING_DESC_F_NEXT) };
	table[2] = (struct vring_packed_desc){ BUFFER + 16, 4, 79, UINT16_MAX };
	/* And in what names it not even that. */
	put(0, TABLE, sizeof(table[0]) * 3, 5, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE);
	pop();
	assert_int_equal(chain->out_count, 2);
	assert_int_equal(chain->in_count, 1);
	virtqueue_push(&queue, chain->head, 4);
	assert_int_equal(ring[0].id, 5);
}

/* ---- event suppression ---------------------------------------------------------------------- */

/* Every place to begin at, length of chain and event there can be, against a count by hand. */
static void a_wanted_descriptor_interrupts_exactly_when_it_is_used(void **state)
{
	struct guest_buffer buffers[ENTRIES];
	unsigned interrupts = 0;

	for (unsigned i = 0; i < ENTRIES; i++)
		buffers[i] = (struct guest_buffer){ BUFFER + i * 64, 16, true };
	for (unsigned begin = 0; begin < 2 * ENTRIES; begin++)
		for (unsigned count = 1; count <= ENTRIES; count++)
			for (unsigned event = 0; event < 2 * ENTRIES; event++) {
				bool wanted = false;

				start_sized(PACKED | EVENT_IDX, ENTRIES);
				for (unsigned i = 0; i < begin; i++) {
					uint16_t id = ring_add(&driver, buffers, 1);

					virtqueue_push(&queue, pop(), 1);
					expect_used(id, 1);
				}
				ring_add(&driver, buffers, count);
				driver.driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
				driver.driver_event->off_wrap =
					(uint16_t)(event % ENTRIES |
						   (event < ENTRIES)
							   << VRING_PACKED_EVENT_F_WRAP_CTR);
				/* Two rounds further the counter is the same again. */
				for (unsigned i = begin; i < begin + count; i++)
					wanted |= i % (2 * ENTRIES) == event;
				assert_int_equal(virtqueue_push(&queue, pop(), 1), wanted);
				interrupts += wanted;
			}
	/* Each of 16 places is reached by 36 of the chains. */
	assert_int_equal(interrupts, 16 * 36);
}

static void flags_that_mean_nothing_hold_nothing_back(void **state)
{
	static const struct {
		uint16_t flags;
		bool event_idx, interrupts;
	} cases[] = {
		{ VRING_PACKED_EVENT_FLAG_ENABLE, false, true },
		{ VRING_PACKED_EVENT_FLAG_ENABLE, true, true },
		{ VRING_PACKED_EVENT_FLAG_DISABLE, false, false },
		{ VRING_PACKED_EVENT_FLAG_DISABLE, true, false },
		{ VRING_PACKED_EVENT_FLAG_DESC, false, true }, /* not negotiated */
		{ VRING_PACKED_EVENT_FLAG_DESC, true, false }, /* of the last place: not reached */
		{ 3, false, true },
		{ 3, true, true },
		{ 0xfffc, true, true }, /* reserved bits */
		{ 0xfffd, true, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		start_sized(PACKED | (cases[i].event_idx ? EVENT_IDX : 0), ENTRIES);
		add_one(BUFFER, 16, true);
		*driver.driver_event = (struct vring_packed_desc_event){
			.off_wrap = (ENTRIES - 1) | 1u << VRING_PACKED_EVENT_F_WRAP_CTR,
			.flags = cases[i].flags,
		};
		assert_int_equal(virtqueue_push(&queue, pop(), 1), cases[i].interrupts);
	}
}

/* An offset that no ring has is never reached, and is only that. */
static void events_beyond_the_ring_are_harmless(void **state)
{
	start_sized(PACKED | EVENT_IDX, ENTRIES);
	driver.driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
	for (unsigned off_wrap = 0; off_wrap <= UINT16_MAX; off_wrap++) {
		uint16_t id = add_one(BUFFER, 16, true);
		int ret;

		driver.driver_event->off_wrap = (uint16_t)off_wrap;
		ret = virtqueue_push(&queue, pop(), 1);
		assert_in_range(ret, 0, 1);
		if ((off_wrap & 0x7fff) >= 2 * ENTRIES)
			assert_int_equal(ret, 0);
		expect_used(id, 1);
	}
}

static void the_device_names_the_next_descriptor_that_it_waits_for(void **state)
{
	start_sized(PACKED | EVENT_IDX, ENTRIES);
	for (unsigned i = 0; i < 3 * ENTRIES; i++) {
		uint16_t id;

		assert_int_equal(virtqueue_pop(&queue, chain), 0);
		assert_int_equal(driver.device_event->flags, VRING_PACKED_EVENT_FLAG_DESC);
		assert_int_equal(driver.device_event->off_wrap,
				 i % ENTRIES | (i / ENTRIES % 2 ? 0u : 0x8000u));
		id = add_one(BUFFER, 16, true);
		pop();
		assert_int_equal(driver.device_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
		virtqueue_push(&queue, chain->head, 1);
		expect_used(id, 1);
	}
}

/* ---- malformed chains ----------------------------------------------------------------------- */

static void chain_without_an_end(void)
{
	for (unsigned i = 0; i < ENTRIES; i++)
		put(i, BUFFER, 16, 0, VRING_DESC_F_NEXT);
}

static void chain_into_what_is_not_available(void)
{
	put(0, BUFFER, 16, 0, VRING_DESC_F_NEXT);
	ring[1] = (struct vring_packed_desc){ BUFFER, 16, 0, 0 };
}

static void chain_into_what_is_used(void)
{
	put(0, BUFFER, 16, 0, VRING_DESC_F_NEXT);
	put(1, BUFFER, 16, 0, RING_PACKED_USED);
}

/* The next round's flags where this round's belong. */
static void chain_into_another_round(void)
{
	put(0, BUFFER, 16, 0, VRING_DESC_F_NEXT);
	ring[1] = (struct vring_packed_desc){ BUFFER, 16, 0, RING_PACKED_USED };
}

static void indirect_in_a_list(void)
{
	table[0] = (struct vring_packed_desc){ BUFFER, 16, 0, 0 };
	put(0, BUFFER, 16, 0, VRING_DESC_F_NEXT);
	put(1, TABLE, 16, 0, VRING_DESC_F_INDIRECT);
}

/* All of the ring is out, and yet the next is said to be available. */
static void more_than_there_can_be(void)
{
	for (unsigned i = 0; i < ENTRIES; i++)
		put(i, BUFFER, 16, 0, 0);
	for (unsigned i = 0; i < ENTRIES; i++)
		pop();
	ring[0].flags = RING_PACKED_USED;
}

/* Two are left, and the chain has three. */
static void longer_than_what_is_left(void)
{
	for (unsigned i = 0; i < ENTRIES - 2; i++) {
		put(i, BUFFER, 16, 0, 0);
		pop();
	}
	put(ENTRIES - 2, BUFFER, 16, 0, VRING_DESC_F_NEXT);
	put(ENTRIES - 1, BUFFER, 16, 0, VRING_DESC_F_NEXT);
	ring[0] = (struct vring_packed_desc){ BUFFER, 16, 0, RING_PACKED_USED };
}

static const struct malformed {
	void (*make)(void);
	const char *fault;
} malformed[] = {
	{ chain_without_an_end, "more descriptors than the queue is long" },
	{ chain_into_what_is_not_available, "a chain goes on where nothing is available" },
	{ chain_into_what_is_used, "a chain goes on where nothing is available" },
	{ chain_into_another_round, "a chain goes on where nothing is available" },
	{ indirect_in_a_list, "indirect descriptor where none may be" },
	{ more_than_there_can_be, "more descriptors than the queue is long" },
	{ longer_than_what_is_left, "more descriptors than the queue is long" },
};

static void refuses_malformed_chains_with_the_reason(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		memset(memory, 0, SIZE);
		start_sized(PACKED | INDIRECT, ENTRIES);
		malformed[i].make();
		expect_malformed(malformed[i].fault);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_flags_that_differ_in_the_right_way_make_it_available),
		TEST(a_used_descriptor_says_whether_something_was_written),
		TEST(one_descriptor_is_written_for_a_whole_chain),
		TEST(ids_are_the_drivers_own),
		TEST(the_id_is_that_of_the_last_descriptor),
		TEST(rings_may_have_any_length),
		TEST(in_a_table_only_the_write_flag_counts),
		TEST(a_wanted_descriptor_interrupts_exactly_when_it_is_used),
		TEST(flags_that_mean_nothing_hold_nothing_back),
		TEST(events_beyond_the_ring_are_harmless),
		TEST(the_device_names_the_next_descriptor_that_it_waits_for),
		TEST(refuses_malformed_chains_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
