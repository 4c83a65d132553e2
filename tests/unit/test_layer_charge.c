// SPDX-License-Identifier: Apache-2.0
/* What of a program's work the gate has charged to its vGPU. */
#include "tests/unit/gate_world.h"

/* ---- what is charged ---------------------------------------------------------------------------------- */

static void run_each_and_give_back(VkQueue queue, unsigned count, uint64_t ns)
{
	VkFence done[16];

	for (unsigned i = 0; i < count; i++) {
		done[i] = fence();
		assert_int_equal(run(queue, world_commands(&w, ns), done[i]), VK_SUCCESS);
		run_until(done[i]);
	}
	usleep(20000);
	neighbour_runs(); /* so that all is settled */
	neighbour_ends();
	destroy_fences(done, count);
}

static void what_ran_is_charged(void **state)
{
	run_each_and_give_back(w.queue, 10, 5 * MS);
	assert_in_range(charged("used_ns") / MS, 50, 90);
}

/* A program that was alone for a while and ends has not used that while. */
static void what_was_used_is_charged_not_what_was_had(void **state)
{
	VkFence done = fence();

	assert_int_equal(run(w.queue, world_commands(&w, 10 * MS), done), VK_SUCCESS);
	run_until(done);
	usleep(700000);
	destroy_fences(&done, 1);
	world_device_close(&w);
	for (int i = 0; i < 100 && charged("used_ns") < 10 * MS; i++)
		usleep(10000);
	assert_in_range(charged("used_ns") / MS, 10, 200);
}

static void begin_with_bits(unsigned bits)
{
	fake.gpus[0].families[0].timestamp_bits = bits;
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(world_device(&w), VK_SUCCESS);
}

/* 24 bits of nanoseconds wrap every 17 ms. */
static void a_counter_that_wraps_charges_the_same(void **state)
{
	begin_with_bits(24);
	run_each_and_give_back(w.queue, 12, 4 * MS);
	assert_in_range(charged("used_ns") / MS, 48, 90);
}

static void without_timestamps_the_cpus_clock_does(void **state)
{
	begin_with_bits(0);
	run_each_and_give_back(w.queue, 10, 5 * MS);
	assert_in_range(charged("used_ns") / MS, 50, 300);
	/* Nothing of ours is in the batch. */
	assert_int_equal(fake_batch(0)->command_count, 1);
}

static void without_calibration_the_ends_anchor_the_clock(void **state)
{
	fake.gpus[0].domain_count = 0;
	begin_with_bits(36);
	run_each_and_give_back(w.queue, 10, 5 * MS);
	assert_in_range(charged("used_ns") / MS, 45, 90);
}

/* Two queues at once, 60 ms each at the same time: the union, not 120. */
static void queues_that_run_at_once_are_charged_once(void **state)
{
	VkFence done[2] = { fence(), fence() };

	assert_int_equal(run(w.queue, world_commands(&w, 0), done[0]), VK_SUCCESS);
	assert_int_equal(wait_one(done[0], 5 * S), VK_SUCCESS);
	assert_int_equal(w.d.ResetFences(w.device, 1, done), VK_SUCCESS);
	assert_int_equal(run(w.queue, world_commands(&w, 60 * MS), done[0]), VK_SUCCESS);
	assert_int_equal(run(w.second, world_commands(&w, 60 * MS), done[1]), VK_SUCCESS);
	assert_int_equal(w.d.WaitForFences(w.device, 2, done, VK_TRUE, 5 * S), VK_SUCCESS);
	usleep(20000);
	neighbour_runs();
	neighbour_ends();
	assert_in_range(charged("used_ns") / MS, 60, 100);
	destroy_fences(done, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_used_is_charged_not_what_was_had, begin_automatic),
		TEST(what_ran_is_charged, begin_automatic),
		TEST(a_counter_that_wraps_charges_the_same, begin),
		TEST(without_timestamps_the_cpus_clock_does, begin),
		TEST(without_calibration_the_ends_anchor_the_clock, begin),
		TEST(queues_that_run_at_once_are_charged_once, begin_automatic),
	};

	return cmocka_run_group_tests_name("layer_charge", tests, NULL, NULL);
}
