// SPDX-License-Identifier: Apache-2.0
/* Split rings: what only they have. The rest is in test_virtqueue.c. */
#include "tests/unit/virtqueue_world.h"

static struct vring_desc *desc, *table;

static int setup(void **state)
{
	open_world(INDIRECT);
	desc = driver.desc;
	table = at(TABLE);
	return 0;
}

static void publish(uint16_t head)
{
	ring_publish(&driver, head);
}

static void descriptors_are_linked_by_number(void **state)
{
	desc[3] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 5 };
	desc[5] = (struct vring_desc){ BUFFER + 64, 32, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 0 };
	desc[0] = (struct vring_desc){ BUFFER + 128, 1, VRING_DESC_F_WRITE, 7 };
	publish(3);
	assert_int_equal(pop(), 3);
	assert_int_equal(chain->out_count, 1);
	assert_int_equal(chain->in_count, 2);
	assert_ptr_equal(chain->in[1].iov_base, at(BUFFER + 128));
}

static void follows_direct_descriptors_into_an_indirect_table(void **state)
{
	table[0] = (struct vring_desc){ BUFFER + 8, 4, VRING_DESC_F_WRITE, 0 };
	desc[0] = (struct vring_desc){ BUFFER, 4, VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ TABLE, sizeof(table[0]), VRING_DESC_F_INDIRECT, 0 };
	publish(0);
	pop();
	assert_int_equal(chain->out_count + chain->in_count, 2);
}

static void push_writes_the_used_ring(void **state)
{
	desc[2] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_WRITE, 0 };
	publish(2);
	assert_int_equal(virtqueue_push(&queue, pop(), 11), 1);
	assert_int_equal(driver.used->idx, 1);
	assert_int_equal(driver.used->ring[0].id, 2);
	assert_int_equal(driver.used->ring[0].len, 11);
}

static void refuses_lengths_that_are_no_power_of_two(void **state)
{
	struct virtqueue bad = queue;

	bad.size = 3;
	assert_int_equal(virtqueue_start(&bad, &dma, 0), -EBADMSG);
	assert_string_equal(bad.fault, "queue size is not a power of two");
}

/* ---- malformed chains ----------------------------------------------------------------------- */

static void far_ahead(void)
{
	driver.avail->idx = ENTRIES + 1;
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

static void indirect_nested(void)
{
	table[0] = (struct vring_desc){ TABLE + 64, 16, VRING_DESC_F_INDIRECT, 0 };
	ring_add_indirect(&driver, TABLE, 1);
}

static void indirect_loop(void)
{
	table[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 0 };
	ring_add_indirect(&driver, TABLE, 4);
}

static void indirect_next_out_of_range(void)
{
	table[0] = (struct vring_desc){ BUFFER, 16, VRING_DESC_F_NEXT, 2 };
	ring_add_indirect(&driver, TABLE, 2);
}

static const struct malformed {
	void (*make)(void);
	const char *fault;
} malformed[] = {
	{ far_ahead, "available index is further ahead than the queue is long" },
	{ head_out_of_range, "descriptor index out of range" },
	{ next_out_of_range, "descriptor index out of range" },
	{ loop, "descriptor chain is longer than its table: a loop" },
	{ indirect_nested, "indirect descriptor where none may be" },
	{ indirect_loop, "descriptor chain is longer than its table: a loop" },
	{ indirect_next_out_of_range, "descriptor index out of range" },
};

static void refuses_malformed_chains_with_the_reason(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		memset(memory, 0, SIZE);
		start_sized(INDIRECT, ENTRIES);
		malformed[i].make();
		expect_malformed(malformed[i].fault);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(descriptors_are_linked_by_number),
		TEST(follows_direct_descriptors_into_an_indirect_table),
		TEST(push_writes_the_used_ring),
		TEST(refuses_lengths_that_are_no_power_of_two),
		TEST(refuses_malformed_chains_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
