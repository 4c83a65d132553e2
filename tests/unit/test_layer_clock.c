// SPDX-License-Identifier: Apache-2.0
/* The layer's arithmetic of time: a counter of few bits on the CPU's clock, and intervals that are counted once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vgpu-sched/layer/clock.h"

static void what_is_covered_already_is_not_counted_again(void **state)
{
	struct intervals i = { 0 };

	assert_int_equal(intervals_add(&i, 100, 200), 100);
	assert_int_equal(intervals_add(&i, 100, 200), 0);
	assert_int_equal(intervals_add(&i, 150, 250), 50);
	assert_int_equal(intervals_add(&i, 50, 120), 50);
	assert_int_equal(intervals_add(&i, 300, 400), 100);
	assert_int_equal(intervals_add(&i, 0, 500), 50 + 50 + 100);
	assert_int_equal(i.count, 1);
	assert_int_equal(intervals_add(&i, 500, 500), 0);
	assert_int_equal(intervals_add(&i, 600, 500), 0);
}

/* The one that ends first begins last: the longer one still counts what the shorter one left. */
static void an_interval_around_an_earlier_one_counts_its_rest(void **state)
{
	struct intervals i = { 0 };

	assert_int_equal(intervals_add(&i, 50, 80), 30);
	assert_int_equal(intervals_add(&i, 0, 100), 70);
}

static void random_intervals_add_up_to_their_union(void **state)
{
	enum {
		SPAN = 2000
	};
	unsigned seed = 7;

	for (int round = 0; round < 200; round++) {
		struct intervals intervals = { 0 };
		bool covered[SPAN] = { 0 };
		uint64_t sum = 0, truth = 0;

		for (int n = 0; n < 50; n++) {
			const unsigned begin = (unsigned)rand_r(&seed) % SPAN;
			const unsigned length = (unsigned)rand_r(&seed) % 60;
			const unsigned end = MIN(begin + length, SPAN);

			sum += intervals_add(&intervals, begin, end);
			for (unsigned t = begin; t < end; t++)
				covered[t] = true;
		}
		for (unsigned t = 0; t < SPAN; t++)
			truth += covered[t];
		assert_int_equal(sum, truth);
	}
}

static void many_gaps_forget_the_oldest_and_stay_bounded(void **state)
{
	struct intervals i = { 0 };

	for (uint64_t n = 0; n < 10 * INTERVALS_MAX; n++)
		assert_int_equal(intervals_add(&i, 100 * n, 100 * n + 10), 10);
	assert_int_equal(i.count, INTERVALS_MAX);
	/* The youngest are still known. */
	assert_int_equal(intervals_add(&i, 100 * (10 * INTERVALS_MAX - 1),
				       100 * (10 * INTERVALS_MAX - 1) + 10),
			 0);
}

static void a_counter_of_32_bits_wraps_between_the_anchor_and_now(void **state)
{
	const struct device_clock clock = {
		.period_ns = 2.0, .anchored = true, .ticks = 0xfffffff0, .at_ns = 1000000
	};

	assert_int_equal(clock_ns(&clock, 0xfffffff0, 32), 1000000);
	assert_int_equal(clock_ns(&clock, 0x10, 32), 1000000 + 2 * 0x20);
	assert_int_equal(clock_ns(&clock, 0xffffffe0, 32), 1000000 - 2 * 0x10);
	/* Bits above those that count are noise. */
	assert_int_equal(clock_ns(&clock, UINT64_C(0xabcd00000010), 32), 1000000 + 2 * 0x20);
}

static void every_width_of_the_counter_gives_the_same_answer(void **state)
{
	for (unsigned bits = 20; bits <= 64; bits++) {
		const uint64_t mask = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
		const uint64_t anchor = UINT64_MAX - 5;
		const struct device_clock clock = {
			.period_ns = 1.0, .anchored = true, .ticks = anchor & mask, .at_ns = 5000000
		};

		for (uint64_t after = 0; after < 1000; after += 37) {
			assert_int_equal(clock_ns(&clock, (anchor + after) & mask, bits),
					 5000000 + after);
			assert_int_equal(clock_ns(&clock, (anchor - after) & mask, bits),
					 5000000 - after);
		}
	}
}

/* Without calibration: nothing ended after it was seen, and the anchor is renewed so that drift does not add up. */
static void the_end_of_a_batch_anchors_the_clock(void **state)
{
	struct device_clock clock = { .period_ns = 1.0 };

	clock_update(NULL, &clock, 500, 64, 10000);
	assert_int_equal(clock_ns(&clock, 500, 64), 10000);
	/* Seen late: the anchor stays. */
	clock_update(NULL, &clock, 600, 64, 19000);
	assert_int_equal(clock_ns(&clock, 600, 64), 10100);
	/* Seen earlier than it should have ended: the anchor was late. */
	clock_update(NULL, &clock, 30500, 64, 39000);
	assert_int_equal(clock_ns(&clock, 30500, 64), 39000);
	clock_update(NULL, &clock, UINT64_C(2000000000), 64, UINT64_C(2000500000));
	assert_int_equal(clock_ns(&clock, UINT64_C(2000000000), 64), UINT64_C(2000500000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_covered_already_is_not_counted_again),
		cmocka_unit_test(an_interval_around_an_earlier_one_counts_its_rest),
		cmocka_unit_test(random_intervals_add_up_to_their_union),
		cmocka_unit_test(many_gaps_forget_the_oldest_and_stay_bounded),
		cmocka_unit_test(a_counter_of_32_bits_wraps_between_the_anchor_and_now),
		cmocka_unit_test(every_width_of_the_counter_gives_the_same_answer),
		cmocka_unit_test(the_end_of_a_batch_anchors_the_clock),
	};

	return cmocka_run_group_tests_name("layer_clock", tests, NULL, NULL);
}
