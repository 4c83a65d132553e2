// SPDX-License-Identifier: Apache-2.0
/* Where RAM is put: below and above the 32-bit window, node by node, around what is reserved. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/memory_plan.h"

#define TIB (UINT64_C(1) << 40)

static struct memory_plan plan;
static struct error err;

/* AMD's HyperTransport range, and the window of interrupt messages, as sysfs lists them. */
static const struct iommu_range amd[] = {
	{ 0xfd00000000, 0xffffffffff },
	{ 0xfee00000, 0xfeefffff },
	{ 0xfd00000000, 0xffffffffff },
};

static void place(const uint64_t *sizes, unsigned nodes, const struct iommu_range *reserved,
		  unsigned count)
{
	if (memory_plan_make(sizes, nodes, 2 * MIB, reserved, count, &plan, &err))
		fail_msg("%s", err.text);
}

static void piece_is(unsigned index, uint64_t gpa, uint64_t size, unsigned node)
{
	assert_true(index < plan.piece_count);
	assert_int_equal(plan.pieces[index].gpa, gpa);
	assert_int_equal(plan.pieces[index].size, size);
	assert_int_equal(plan.pieces[index].node, node);
}

static void ram_leaves_the_32_bit_window_out(void **state)
{
	uint64_t size = 512 * MIB;

	place(&size, 1, NULL, 0);
	assert_int_equal(plan.piece_count, 1);
	piece_is(0, 0, 512 * MIB, 0);
	size = 3 * GIB;
	place(&size, 1, NULL, 0);
	assert_int_equal(plan.piece_count, 1);
	size = 5 * GIB;
	place(&size, 1, NULL, 0);
	assert_int_equal(plan.piece_count, 2);
	piece_is(0, 0, 3 * GIB, 0);
	piece_is(1, 4 * GIB, 2 * GIB, 0);
}

static void nodes_follow_each_other(void **state)
{
	const uint64_t sizes[] = { 2 * GIB, 4 * GIB, GIB };

	place(sizes, 3, NULL, 0);
	assert_int_equal(plan.piece_count, 4);
	piece_is(0, 0, 2 * GIB, 0);
	piece_is(1, 2 * GIB, GIB, 1);
	piece_is(2, 4 * GIB, 3 * GIB, 1);
	piece_is(3, 7 * GIB, GIB, 2);
}

static void ram_goes_around_amds_hole_below_1_tib(void **state)
{
	const uint64_t sizes[] = { TIB, TIB };

	place(sizes, 2, amd, ARRAY_SIZE(amd));
	assert_int_equal(plan.piece_count, 4);
	piece_is(0, 0, 3 * GIB, 0);
	piece_is(1, 4 * GIB, 1008 * GIB, 0);
	piece_is(2, TIB, 13 * GIB, 0);
	piece_is(3, TIB + 13 * GIB, TIB, 1);
	/* Once, and not the one that lies in the window. */
	assert_int_equal(plan.hole_count, 1);
	assert_int_equal(plan.holes[0].start, 0xfd00000000);
	assert_int_equal(plan.holes[0].last, 0xffffffffff);
}

static void a_guest_below_the_hole_does_not_hear_of_it(void **state)
{
	uint64_t size = 1011 * GIB;

	place(&size, 1, amd, ARRAY_SIZE(amd));
	assert_int_equal(plan.piece_count, 2);
	piece_is(1, 4 * GIB, 1008 * GIB, 0);
	assert_int_equal(plan.hole_count, 0);
}

static void holes_are_left_at_the_alignment(void **state)
{
	static const struct iommu_range odd[] = {
		{ 0x7b801234, 0x7b9fffff }, /* within low RAM */
		{ 5 * GIB + 4096, 5 * GIB + 8191 },
		{ 5 * GIB + 3 * MIB, 5 * GIB + 3 * MIB }, /* nothing of 2 MiB fits between these */
	};
	uint64_t size = 4 * GIB;

	place(&size, 1, odd, ARRAY_SIZE(odd));
	assert_int_equal(plan.piece_count, 4);
	piece_is(0, 0, 0x7b800000, 0);
	piece_is(1, 0x7ba00000, 0xc0000000 - 0x7ba00000, 0);
	piece_is(2, 4 * GIB, GIB, 0);
	assert_int_equal(plan.pieces[3].gpa, 5 * GIB + 4 * MIB);
	assert_int_equal(plan.hole_count, 3);
	assert_int_equal(plan.holes[0].start, 0x7b801000);
	assert_int_equal(plan.holes[2].last, 5 * GIB + 3 * MIB + 4095);

	assert_int_equal(memory_plan_make(&size, 1, GIB, odd, ARRAY_SIZE(odd), &plan, &err), 0);
	piece_is(0, 0, GIB, 0);
	piece_is(1, 2 * GIB, GIB, 0);
	piece_is(2, 4 * GIB, GIB, 0);
	piece_is(3, 6 * GIB, GIB, 0);
}

static void a_hole_where_the_guest_boots_is_refused(void **state)
{
	static const struct iommu_range isa = { 0, 0xfffff };
	uint64_t size = GIB;

	assert_int_equal(memory_plan_make(&size, 1, 2 * MIB, &isa, 1, &plan, &err), -EADDRNOTAVAIL);
	assert_string_equal(err.code, "memory-reserved");
	assert_non_null(strstr(err.text, "0x0-0xfffff"));
}

static void a_hole_up_to_the_end_leaves_no_room(void **state)
{
	static const struct iommu_range rest = { 8 * GIB, UINT64_MAX };
	uint64_t size = 8 * GIB;

	assert_int_equal(memory_plan_make(&size, 1, 2 * MIB, &rest, 1, &plan, &err), -E2BIG);
	assert_string_equal(err.code, "memory-too-large");
	size = 7 * GIB;
	place(&size, 1, &rest, 1);
}

static void any_holes_and_nodes_are_placed_soundly(void **state)
{
	srand(1);
	for (unsigned round = 0; round < 3000; round++) {
		struct iommu_range holes[6];
		uint64_t sizes[4], total = 0, placed = 0, align = rand() % 2 ? 2 * MIB : GIB;
		unsigned hole_count = (unsigned)rand() % 7, nodes = 1 + (unsigned)rand() % 4;

		for (unsigned i = 0; i < hole_count; i++) {
			holes[i].start = 16 * MIB + (uint64_t)rand() % (12 * GIB);
			holes[i].last = holes[i].start + (uint64_t)rand() % (3 * GIB);
		}
		for (unsigned i = 0; i < nodes; i++)
			total += sizes[i] = (1 + (uint64_t)rand() % 8) * align;
		assert_int_equal(
			memory_plan_make(sizes, nodes, align, holes, hole_count, &plan, &err), 0);
		for (unsigned i = 0; i < plan.piece_count; i++) {
			const struct memory_piece *p = &plan.pieces[i];
			uint64_t last = p->gpa + p->size - 1;

			assert_true(p->size && !((p->gpa | p->size) & (align - 1)));
			assert_true(last < LAYOUT_RAM_LOW_END || p->gpa >= LAYOUT_RAM_HIGH_START);
			for (unsigned j = 0; j < hole_count; j++)
				assert_true(last < holes[j].start || p->gpa > holes[j].last);
			for (unsigned j = 0; j < plan.hole_count; j++)
				assert_true(last < plan.holes[j].start ||
					    p->gpa > plan.holes[j].last);
			if (i)
				assert_true(p->gpa >= p[-1].gpa + p[-1].size &&
					    p->node >= p[-1].node);
			placed += p->size;
		}
		assert_int_equal(placed, total);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ram_leaves_the_32_bit_window_out),
		cmocka_unit_test(nodes_follow_each_other),
		cmocka_unit_test(ram_goes_around_amds_hole_below_1_tib),
		cmocka_unit_test(a_guest_below_the_hole_does_not_hear_of_it),
		cmocka_unit_test(holes_are_left_at_the_alignment),
		cmocka_unit_test(a_hole_where_the_guest_boots_is_refused),
		cmocka_unit_test(a_hole_up_to_the_end_leaves_no_room),
		cmocka_unit_test(any_holes_and_nodes_are_placed_soundly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
