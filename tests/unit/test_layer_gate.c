// SPDX-License-Identifier: Apache-2.0
/* The gate between a program and a driver that is made up: turns, order, timelines, waits, and many at once. */
#include "tests/unit/gate_world.h"

/* ---- turns --------------------------------------------------------------------------------------- */

static void a_submit_without_a_turn_returns_at_once_and_goes_when_it_comes(void **state)
{
	VkCommandBuffer commands = world_commands(&w, 0);
	VkFence done = fence();
	uint64_t before;

	neighbour_runs();
	before = monotonic_ns();
	assert_int_equal(run(w.queue, commands, done), VK_SUCCESS);
	assert_true(monotonic_ns() - before < 200 * MS);
	usleep(50000);
	assert_int_equal(fake_batch_count(), 0);
	assert_int_equal(w.d.GetFenceStatus(w.device, done), VK_NOT_READY);
	assert_int_equal(wait_one(done, 20 * MS), VK_TIMEOUT);
	assert_int_equal(wait_one(done, 0), VK_TIMEOUT);
	neighbour_ends();
	assert_true(fake_wait_batches(1));
	assert_batch_is(0, commands);
	assert_false(pthread_equal(fake_batch(0)->thread, pthread_self()));
	assert_ptr_equal(fake_batch(0)->fence, done);
	assert_int_equal(w.d.GetFenceStatus(w.device, done), VK_NOT_READY);
	assert_int_equal(fake_run(1), 1);
	assert_int_equal(wait_one(done, 5 * S), VK_SUCCESS);
	w.d.DestroyFence(w.device, done, NULL);
}

static void who_is_alone_submits_in_its_own_thread_and_asks_once(void **state)
{
	VkCommandBuffer commands[20];
	VkFence done[20];

	for (int i = 0; i < 20; i++) {
		commands[i] = world_commands(&w, 0);
		done[i] = fence();
		assert_int_equal(run(w.queue, commands[i], done[i]), VK_SUCCESS);
		run_until(done[i]);
	}
	assert_int_equal(fake_batch_count(), 20);
	for (unsigned i = 1; i < 20; i++)
		assert_true(pthread_equal(fake_batch(i)->thread, pthread_self()));
	/* The turn is still the first one. */
	assert_true(charged("grants") <= 1);
	destroy_fences(done, 20);
}

static void an_idle_turn_is_given_back_when_somebody_comes(void **state)
{
	VkFence done = fence();
	uint64_t before;

	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_SUCCESS);
	run_until(done);
	before = monotonic_ns();
	neighbour_runs();
	assert_true(monotonic_ns() - before < 2 * S);
	neighbour_ends();
	w.d.DestroyFence(w.device, done, NULL);
}

static void a_turn_ends_when_its_slice_is_used_up(void **state)
{
	VkCommandBuffer commands[8];
	VkFence done[8];

	for (int i = 0; i < 8; i++) {
		commands[i] = world_commands(&w, 5 * MS); /* longer than a slice */
		done[i] = fence();
	}
	neighbour_runs();
	for (int i = 0; i < 8; i++)
		assert_int_equal(run(w.queue, commands[i], done[i]), VK_SUCCESS);
	for (int i = 0; i < 500 && !charged("waiting"); i++)
		usleep(10000);
	/* The neighbour wants again while it gives back: one of ours, then its turn. */
	assert_int_equal(live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, true), 0);
	assert_true(fake_wait_batches(1));
	usleep(20000);
	assert_int_equal(fake_batch_count(), 1);
	fake_run(1);
	neighbour_runs();
	usleep(20000);
	assert_int_equal(fake_batch_count(), 1);
	neighbour_ends();
	run_until(done[7]);
	for (unsigned i = 0; i < 8; i++)
		assert_batch_is(i, commands[i]);
	destroy_fences(done, 8);
}

/* Others wait, and one batch takes long: the next of its queue does not come behind it; one of another queue may be what it waits for. */
static void a_long_batch_draws_no_other_after_it(void **state)
{
	VkFence done[3] = { fence(), fence(), fence() };

	assert_int_equal(run(w.queue, world_commands(&w, 5 * MS), done[0]), VK_SUCCESS);
	assert_true(fake_wait_batches(1));
	assert_int_equal(live_worker_want(&worker, SCHED_ENGINE_GRAPHICS), 0);
	for (int i = 0; i < 500 && live_worker_alone(&layer_device_of(w.device)->worker,
						     SCHED_ENGINE_GRAPHICS);
	     i++)
		usleep(10000);
	assert_int_equal(run(w.queue, world_commands(&w, 5 * MS), done[1]), VK_SUCCESS);
	usleep(500000);
	assert_int_equal(fake_batch_count(), 1);
	assert_int_equal(run(w.second, world_commands(&w, 5 * MS), done[2]), VK_SUCCESS);
	assert_true(fake_wait_batches(2));
	usleep(500000);
	assert_int_equal(fake_batch_count(), 2);
	fake_run(2);
	neighbour_runs();
	neighbour_ends();
	run_until(done[1]);
	destroy_fences(done, 3);
}

static void at_most_two_are_in_flight_of_one_who_is_alone(void **state)
{
	VkFence done[6];

	for (int i = 0; i < 6; i++) {
		done[i] = fence();
		assert_int_equal(run(w.queue, world_commands(&w, 3 * MS), done[i]), VK_SUCCESS);
	}
	assert_true(fake_wait_batches(1));
	usleep(50000);
	assert_in_range(fake_batch_count(), 1, 2);
	fake_run(1);
	run_until(done[5]);
	assert_int_equal(fake_batch_count(), 6);
	destroy_fences(done, 6);
}

/* ---- order --------------------------------------------------------------------------------------- */

static void held_submits_of_a_queue_go_in_their_order(void **state)
{
	VkCommandBuffer commands[50];
	VkFence done[50];

	neighbour_runs();
	for (int i = 0; i < 50; i++) {
		commands[i] = world_commands(&w, 0);
		done[i] = fence();
		assert_int_equal(run(w.queue, commands[i], done[i]), VK_SUCCESS);
	}
	neighbour_ends();
	run_until(done[49]);
	for (unsigned i = 0; i < 50; i++) {
		assert_batch_is(i, commands[i]);
		assert_int_equal(w.d.GetFenceStatus(w.device, done[i]), VK_SUCCESS);
	}
	destroy_fences(done, 50);
}

static void a_fence_alone_stays_behind_the_work_before_it(void **state)
{
	VkFence work = fence(), alone = fence();

	neighbour_runs();
	assert_int_equal(run(w.queue, world_commands(&w, 0), work), VK_SUCCESS);
	assert_int_equal(w.d.QueueSubmit(w.queue, 0, NULL, alone), VK_SUCCESS);
	usleep(20000);
	assert_int_equal(fake_batch_count(), 0);
	assert_int_equal(w.d.GetFenceStatus(w.device, alone), VK_NOT_READY);
	neighbour_ends();
	assert_true(fake_wait_batches(2));
	assert_int_equal(fake_batch(0)->kind, FAKE_SUBMIT);
	assert_int_equal(fake_batch(1)->kind, FAKE_FENCE);
	run_until(alone);
	assert_int_equal(w.d.GetFenceStatus(w.device, work), VK_SUCCESS);
	destroy_fences((VkFence[]){ work, alone }, 2);
}

/* Without command buffers nothing of the GPU is used: no turn, not even while the neighbour has it. */
static void what_runs_nothing_needs_no_turn(void **state)
{
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	VkFence done = fence();
	const VkBindSparseInfo bind = { .sType = VK_STRUCTURE_TYPE_BIND_SPARSE_INFO,
					.waitSemaphoreCount = 1,
					.pWaitSemaphores = &binary };

	neighbour_runs();
	assert_int_equal(submit(w.queue, &(struct batch){ .signal = binary }, VK_NULL_HANDLE),
			 VK_SUCCESS);
	assert_int_equal(w.d.QueueBindSparse(w.second, 1, &bind, done), VK_SUCCESS);
	assert_int_equal(fake_batch_count(), 2);
	run_until(done);
	neighbour_ends();
	destroy_fences(&done, 1);
	w.d.DestroySemaphore(w.device, binary, NULL);
}

/* The wait comes to the driver after its signal, though its own queue holds nothing. The made-up driver complains otherwise. */
static void a_binary_wait_is_never_issued_before_its_signal(void **state)
{
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	VkCommandBuffer first = world_commands(&w, 0), second = world_commands(&w, 0);
	VkFence done = fence(), empty = fence();

	neighbour_runs();
	assert_int_equal(submit(w.queue, &(struct batch){ .commands = first, .signal = binary },
				VK_NULL_HANDLE),
			 VK_SUCCESS);
	/* Runs nothing, and still has to wait for the one that does. */
	assert_int_equal(submit(w.second, &(struct batch){ .wait = binary }, empty), VK_SUCCESS);
	assert_int_equal(submit(w.second, &(struct batch){ .commands = second }, done), VK_SUCCESS);
	usleep(20000);
	assert_int_equal(fake_batch_count(), 0);
	neighbour_ends();
	run_until(done);
	assert_batch_is(0, first);
	destroy_fences((VkFence[]){ done, empty }, 2);
	w.d.DestroySemaphore(w.device, binary, NULL);
}

static void a_submit_of_many_batches_goes_batch_by_batch_with_the_fence_last(void **state)
{
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	VkCommandBuffer commands[] = { world_commands(&w, 0), world_commands(&w, 0),
				       world_commands(&w, 0) };
	const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
	const VkSubmitInfo batches[] = {
		{ .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		  .commandBufferCount = 1,
		  .pCommandBuffers = &commands[0],
		  .signalSemaphoreCount = 1,
		  .pSignalSemaphores = &binary },
		{ .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		  .waitSemaphoreCount = 1,
		  .pWaitSemaphores = &binary,
		  .pWaitDstStageMask = &stage,
		  .commandBufferCount = 1,
		  .pCommandBuffers = &commands[1] },
		{ .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		  .commandBufferCount = 1,
		  .pCommandBuffers = &commands[2] },
	};
	VkFence done = fence();

	neighbour_runs();
	assert_int_equal(w.d.QueueSubmit(w.queue, 3, batches, done), VK_SUCCESS);
	neighbour_ends();
	run_until(done);
	assert_int_equal(fake_batch_count(), 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_batch_is(i, commands[i]);
		assert_ptr_equal(fake_batch(i)->fence, i == 2 ? done : VK_NULL_HANDLE);
	}
	assert_int_equal(fake_batch(1)->waits[0].stageMask, VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT);
	destroy_fences(&done, 1);
	w.d.DestroySemaphore(w.device, binary, NULL);
}

static void the_caller_may_reuse_its_memory_at_once(void **state)
{
	VkCommandBuffer commands = world_commands(&w, 0);
	VkCommandBufferSubmitInfo *info = calloc(1, sizeof(*info));
	VkSubmitInfo2 *batch = calloc(1, sizeof(*batch));
	VkFence done = fence();

	assert_non_null(info);
	assert_non_null(batch);
	info->sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO;
	info->commandBuffer = commands;
	batch->sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2;
	batch->commandBufferInfoCount = 1;
	batch->pCommandBufferInfos = info;
	neighbour_runs();
	assert_int_equal(w.d.QueueSubmit2(w.queue, 1, batch, done), VK_SUCCESS);
	memset(info, 0xff, sizeof(*info));
	memset(batch, 0xff, sizeof(*batch));
	free(info);
	free(batch);
	neighbour_ends();
	run_until(done);
	assert_batch_is(0, commands);
	destroy_fences(&done, 1);
}

/* ---- timelines ------------------------------------------------------------------------------------- */

/* A batch whose wait nobody has submitted a signal for holds no turn. */
static void a_wait_before_its_signal_keeps_nobody_from_the_gpu(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	VkCommandBuffer commands = world_commands(&w, 0);
	const VkSemaphoreSignalInfo signal = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					       .semaphore = line,
					       .value = 3 };
	VkFence done = fence();

	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = commands, .wait = line, .wait_value = 3 },
		       done),
		VK_SUCCESS);
	usleep(20000);
	assert_int_equal(fake_batch_count(), 0);
	for (int i = 0; i < 3; i++) {
		neighbour_runs();
		neighbour_ends();
	}
	assert_int_equal(charged("grants"), 0);
	assert_int_equal(w.d.GetFenceStatus(w.device, done), VK_NOT_READY);
	assert_int_equal(w.d.SignalSemaphore(w.device, &signal), VK_SUCCESS);
	assert_true(fake_wait_batches(1));
	run_until(done);
	destroy_fences(&done, 1);
	w.d.DestroySemaphore(w.device, line, NULL);
}

/* The later queue signals what the earlier one waits for. */
static void a_queue_waits_for_what_another_one_submits_later(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	VkCommandBuffer waits = world_commands(&w, 0), signals = world_commands(&w, 0);
	VkFence done = fence();

	neighbour_runs();
	assert_int_equal(submit(w.queue,
				&(struct batch){ .commands = waits, .wait = line, .wait_value = 1 },
				done),
			 VK_SUCCESS);
	assert_int_equal(
		submit(w.second,
		       &(struct batch){ .commands = signals, .signal = line, .signal_value = 1 },
		       VK_NULL_HANDLE),
		VK_SUCCESS);
	neighbour_ends();
	run_until(done);
	assert_batch_is(0, signals);
	assert_batch_is(1, waits);
	destroy_fences(&done, 1);
	w.d.DestroySemaphore(w.device, line, NULL);
}

/* What was issued will come: the batch that waits for it need not wait here too. */
static void a_wait_for_what_is_in_flight_is_left_to_the_gpu(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	VkFence first = fence(), second = fence();

	assert_int_equal(submit(w.queue,
				&(struct batch){ .commands = world_commands(&w, 0),
						 .signal = line,
						 .signal_value = 1 },
				first),
			 VK_SUCCESS);
	assert_int_equal(submit(w.second,
				&(struct batch){ .commands = world_commands(&w, 0),
						 .wait = line,
						 .wait_value = 1 },
				second),
			 VK_SUCCESS);
	assert_true(fake_wait_batches(2)); /* none has been run */
	run_until(second);
	destroy_fences((VkFence[]){ first, second }, 2);
	w.d.DestroySemaphore(w.device, line, NULL);
}
/* ---- waits --------------------------------------------------------------------------------------- */

static void a_wait_for_any_sees_the_one_that_is_not_held(void **state)
{
	VkFence held = fence(), free_one = fence();
	VkFence both[] = { held, free_one };

	neighbour_runs();
	assert_int_equal(run(w.queue, world_commands(&w, 0), held), VK_SUCCESS);
	assert_int_equal(w.d.WaitForFences(w.device, 2, both, VK_FALSE, 10 * MS), VK_TIMEOUT);
	assert_int_equal(submit(w.second, &(struct batch){ 0 }, free_one), VK_SUCCESS);
	assert_int_equal(fake_run(1), 1);
	assert_int_equal(w.d.WaitForFences(w.device, 2, both, VK_FALSE, 5 * S), VK_SUCCESS);
	assert_int_equal(w.d.WaitForFences(w.device, 2, both, VK_TRUE, 10 * MS), VK_TIMEOUT);
	neighbour_ends();
	run_until(held);
	assert_int_equal(w.d.WaitForFences(w.device, 2, both, VK_TRUE, UINT64_MAX), VK_SUCCESS);
	destroy_fences(both, 2);
}

static void idle_is_only_what_was_issued_and_done(void **state)
{
	for (int device = 0; device < 2; device++) {
		struct idle idle = { .device = device };
		VkFence done = fence();

		neighbour_runs();
		assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_SUCCESS);
		pthread_create(&idle.thread, NULL, idle_main, &idle);
		usleep(30000);
		assert_false(atomic_load(&idle.back)); /* held */
		neighbour_ends();
		assert_true(fake_wait_batches((unsigned)device + 1));
		usleep(30000);
		assert_false(atomic_load(&idle.back)); /* in flight */
		assert_int_equal(fake_run(1), 1);
		pthread_join(idle.thread, NULL);
		assert_int_equal(idle.result, VK_SUCCESS);
		assert_int_equal(w.d.GetFenceStatus(w.device, done), VK_SUCCESS);
		w.d.DestroyFence(w.device, done, NULL);
	}
}

/* ---- many at once ------------------------------------------------------------------------------------- */

struct storm {
	pthread_t thread;
	VkQueue queue;
	pthread_mutex_t *lock;
	unsigned seed, rounds;
	VkCommandBuffer commands[4];
};

/* Each of the four command buffers pends at most once; its fence says when it may again. */
static void *storm_main(void *opaque)
{
	struct storm *storm = opaque;
	VkFence fences[4];
	bool pending[4] = { false };

	for (int i = 0; i < 4; i++)
		fences[i] = fence();
	for (unsigned i = 0; i < storm->rounds; i++) {
		unsigned slot = (unsigned)rand_r(&storm->seed) % 4;

		if (pending[slot]) {
			assert_int_equal(wait_one(fences[slot], 20 * S), VK_SUCCESS);
			assert_int_equal(w.d.ResetFences(w.device, 1, &fences[slot]), VK_SUCCESS);
		}
		pthread_mutex_lock(storm->lock);
		assert_int_equal(run(storm->queue, storm->commands[slot], fences[slot]),
				 VK_SUCCESS);
		pthread_mutex_unlock(storm->lock);
		pending[slot] = true;
	}
	for (int i = 0; i < 4; i++)
		if (pending[i])
			assert_int_equal(wait_one(fences[i], 20 * S), VK_SUCCESS);
	destroy_fences(fences, 4);
	return NULL;
}

static void threads_queues_and_a_neighbour_at_once(void **state)
{
	static pthread_mutex_t locks[2] = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER };
	struct storm storms[6];
	uint64_t slice_ns;

	for (unsigned i = 0; i < 6; i++) {
		storms[i] = (struct storm){ .queue = i % 2 ? w.second : w.queue,
					    .lock = &locks[i % 2],
					    .seed = i,
					    .rounds = 60 };
		for (int j = 0; j < 4; j++)
			storms[i].commands[j] = world_commands(&w, 200000);
	}
	for (unsigned i = 0; i < 6; i++)
		pthread_create(&storms[i].thread, NULL, storm_main, &storms[i]);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(
			live_worker_turn(&worker, SCHED_ENGINE_GRAPHICS, 20 * S, &slice_ns), 0);
		usleep(1000);
		assert_int_equal(live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, false), 0);
	}
	for (unsigned i = 0; i < 6; i++)
		pthread_join(storms[i].thread, NULL);
	assert_int_equal(w.d.DeviceWaitIdle(w.device), VK_SUCCESS);
	assert_int_equal(fake_batch_count(), 6 * 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_submit_without_a_turn_returns_at_once_and_goes_when_it_comes,
		     begin_with_device),
		TEST(who_is_alone_submits_in_its_own_thread_and_asks_once, begin_with_device),
		TEST(an_idle_turn_is_given_back_when_somebody_comes, begin_with_device),
		TEST(a_turn_ends_when_its_slice_is_used_up, begin_with_device),
		TEST(a_long_batch_draws_no_other_after_it, begin_with_device),
		TEST(at_most_two_are_in_flight_of_one_who_is_alone, begin_with_device),
		TEST(held_submits_of_a_queue_go_in_their_order, begin_with_device),
		TEST(a_fence_alone_stays_behind_the_work_before_it, begin_with_device),
		TEST(what_runs_nothing_needs_no_turn, begin_with_device),
		TEST(a_binary_wait_is_never_issued_before_its_signal, begin_with_device),
		TEST(a_submit_of_many_batches_goes_batch_by_batch_with_the_fence_last,
		     begin_with_device),
		TEST(the_caller_may_reuse_its_memory_at_once, begin_with_device),
		TEST(a_wait_before_its_signal_keeps_nobody_from_the_gpu, begin_with_device),
		TEST(a_queue_waits_for_what_another_one_submits_later, begin_with_device),
		TEST(a_wait_for_what_is_in_flight_is_left_to_the_gpu, begin_with_device),
		TEST(a_wait_for_any_sees_the_one_that_is_not_held, begin_with_device),
		TEST(idle_is_only_what_was_issued_and_done, begin_with_device),
		TEST(threads_queues_and_a_neighbour_at_once, begin_automatic),
	};

	return cmocka_run_group_tests_name("layer_gate", tests, NULL, NULL);
}
