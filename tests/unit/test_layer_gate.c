// SPDX-License-Identifier: Apache-2.0
/*
 * The gate (vgpu-sched/layer/gate.h) between a program and a driver that is made up: order, turns, waits, loss, and what is
 * charged. A neighbour that keeps the turn is how submits come to be held.
 */
#include "tests/unit/layer_world.h"

#include "vgpu-sched/layer/gate.h"

#define S NSEC_PER_SEC

static struct world w;
static struct tenant neighbour;
static struct live_worker worker; /* the neighbour's */

static int begin(void **state)
{
	world_open(&w, 0);
	world_neighbour(&w, &neighbour);
	assert_int_equal(live_worker_open(w.arbiter.path, neighbour.token, &worker, NULL), 0);
	return 0;
}

static int begin_with_device(void **state)
{
	begin(state);
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(world_device(&w), VK_SUCCESS);
	return 0;
}

static int begin_automatic(void **state)
{
	begin(state);
	fake.automatic = true;
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(world_device(&w), VK_SUCCESS);
	return 0;
}

static int end(void **state)
{
	live_worker_close(&worker);
	close(neighbour.owner);
	world_close(&w);
	return 0;
}

/* ---- what the tests are written in --------------------------------------------------------------- */

static void neighbour_runs(void)
{
	uint64_t slice_ns;

	assert_int_equal(live_worker_turn(&worker, SCHED_ENGINE_GRAPHICS, 5 * S, &slice_ns), 0);
}

static void neighbour_ends(void)
{
	assert_int_equal(live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, false), 0);
}

static VkFence fence(void)
{
	const VkFenceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
	VkFence made;

	assert_int_equal(w.d.CreateFence(w.device, &info, NULL, &made), VK_SUCCESS);
	return made;
}

static VkSemaphore semaphore(VkSemaphoreType kind)
{
	const VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO, .semaphoreType = kind
	};
	const VkSemaphoreCreateInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
					     .pNext = &type };
	VkSemaphore made;

	assert_int_equal(w.d.CreateSemaphore(w.device, &info, NULL, &made), VK_SUCCESS);
	return made;
}

static VkSemaphoreSubmitInfo point(VkSemaphore handle, uint64_t value)
{
	return (VkSemaphoreSubmitInfo){ .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
					.semaphore = handle,
					.value = value,
					.stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT };
}

struct batch {
	VkCommandBuffer commands;
	VkSemaphore wait, signal;
	uint64_t wait_value, signal_value;
	const void *chain;
};

static VkResult submit(VkQueue queue, const struct batch *batch, VkFence signalled)
{
	const VkCommandBufferSubmitInfo commands = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
		.commandBuffer = batch->commands
	};
	const VkSemaphoreSubmitInfo wait = point(batch->wait, batch->wait_value);
	const VkSemaphoreSubmitInfo signal = point(batch->signal, batch->signal_value);
	const VkSubmitInfo2 info = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
		.pNext = batch->chain,
		.waitSemaphoreInfoCount = batch->wait != VK_NULL_HANDLE,
		.pWaitSemaphoreInfos = &wait,
		.commandBufferInfoCount = batch->commands != NULL,
		.pCommandBufferInfos = &commands,
		.signalSemaphoreInfoCount = batch->signal != VK_NULL_HANDLE,
		.pSignalSemaphoreInfos = &signal,
	};

	return w.d.QueueSubmit2(queue, 1, &info, signalled);
}

static VkResult run(VkQueue queue, VkCommandBuffer commands, VkFence signalled)
{
	return submit(queue, &(struct batch){ .commands = commands }, signalled);
}

/* The program's command buffer in the middle of the layer's two. */
static void assert_batch_is(unsigned index, VkCommandBuffer commands)
{
	const struct fake_batch *batch = fake_batch(index);

	assert_int_equal(batch->command_count, 3);
	assert_ptr_equal(batch->commands[1], commands);
}

static VkResult wait_one(VkFence which, uint64_t timeout)
{
	return w.d.WaitForFences(w.device, 1, &which, VK_TRUE, timeout);
}

/* The batch is done, on the made-up GPU. */
static void run_until(VkFence done)
{
	for (int i = 0; i < 5000 && w.d.GetFenceStatus(w.device, done) != VK_SUCCESS; i++) {
		fake_run(1);
		usleep(1000);
	}
	assert_int_equal(w.d.GetFenceStatus(w.device, done), VK_SUCCESS);
}

static void destroy_fences(VkFence *fences, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		w.d.DestroyFence(w.device, fences[i], NULL);
}

/* A number of the vGPU's graphics engine, as the arbiter has it. */
static uint64_t charged(const char *key)
{
	char *text = NULL;
	uint64_t value = 0;
	json_t *status, *vgpu;
	size_t i;

	assert_int_equal(arbiter_status(w.arbiter.path, &text, NULL), 0);
	status = json_loads(text, 0, NULL);
	free(text);
	json_array_foreach(json_object_get(status, "vgpus"), i, vgpu)
	{
		json_t *engine = json_object_get(json_object_get(vgpu, "engines"), "graphics");

		if (i == 0) /* the world's, which came first */
			value = (uint64_t)json_integer_value(json_object_get(engine, key));
	}
	json_decref(status);
	return value;
}

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

struct idle {
	pthread_t thread;
	VkResult result;
	_Atomic bool back;
	bool device;
};

static void *idle_main(void *opaque)
{
	struct idle *idle = opaque;

	idle->result = idle->device ? w.d.DeviceWaitIdle(w.device) : w.d.QueueWaitIdle(w.queue);
	atomic_store(&idle->back, true);
	return NULL;
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

/* ---- meanwhile ------------------------------------------------------------------------------------------ */

static struct meanwhile {
	pthread_t thread;
	unsigned batches, after_ms;
} meanwhile;

/* The made-up GPU does so many batches while the test is held in a call. */
static void *run_main(void *opaque)
{
	unsigned left = meanwhile.batches;

	for (int i = 0; i < 5000 && left; i++) {
		left -= fake_run(1);
		usleep(1000);
	}
	return NULL;
}

static void fake_run_soon(unsigned batches)
{
	meanwhile.batches = batches;
	pthread_create(&meanwhile.thread, NULL, run_main, NULL);
}

static void fake_run_done(void)
{
	pthread_join(meanwhile.thread, NULL);
}

static void *end_main(void *opaque)
{
	usleep(meanwhile.after_ms * 1000);
	live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, false);
	return NULL;
}

static void neighbour_ends_soon(unsigned after_ms)
{
	meanwhile.after_ms = after_ms;
	pthread_create(&meanwhile.thread, NULL, end_main, NULL);
}

static void neighbour_ends_done(void)
{
	pthread_join(meanwhile.thread, NULL);
}

/* ---- where callers are held ------------------------------------------------------------------------- */

static void assert_held_for_250_ms(uint64_t since)
{
	assert_in_range((monotonic_ns() - since) / MS, 200, 2000);
}

static void a_present_finds_its_semaphores_signal_issued_without_a_turn(void **state)
{
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	const VkPresentInfoKHR present = { .sType = VK_STRUCTURE_TYPE_PRESENT_INFO_KHR,
					   .waitSemaphoreCount = 1,
					   .pWaitSemaphores = &binary };
	VkFence done = fence();
	uint64_t before;

	neighbour_runs();
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = world_commands(&w, 20 * MS), .signal = binary },
		       done),
		VK_SUCCESS);
	before = monotonic_ns();
	assert_int_equal(w.d.QueuePresentKHR(w.queue, &present), VK_SUCCESS);
	assert_held_for_250_ms(before);
	assert_int_equal(fake_batch_count(), 2);
	assert_int_equal(fake_batch(1)->kind, FAKE_PRESENT);
	run_until(done);
	fake_run(1);
	/* It had no turn, and pays all the same. */
	for (int i = 0; i < 200 && charged("used_ns") < 20 * MS; i++)
		usleep(10000);
	assert_in_range(charged("used_ns") / MS, 20, 60);
	neighbour_ends();
	destroy_fences(&done, 1);
	w.d.DestroySemaphore(w.device, binary, NULL);
}

static void an_unknown_structure_holds_its_caller(void **state)
{
	const VkBaseInStructure unknown = { .sType = (VkStructureType)0x7ffffff0 };
	VkFence done = fence();
	uint64_t before = monotonic_ns();

	neighbour_runs();
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = world_commands(&w, 0), .chain = &unknown },
		       done),
		VK_SUCCESS);
	assert_held_for_250_ms(before);
	assert_int_equal(fake_batch_count(), 1);
	assert_int_equal(fake_batch(0)->chained, unknown.sType);
	run_until(done);
	neighbour_ends();
	destroy_fences(&done, 1);
}

static void an_exported_semaphore_is_signalled_by_what_is_issued(void **state)
{
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	VkSemaphoreGetFdInfoKHR get = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_GET_FD_INFO_KHR,
					.semaphore = binary,
					.handleType =
						VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT };
	VkFence done = fence();
	uint64_t before;
	int fd = -1;

	neighbour_runs();
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = world_commands(&w, 0), .signal = binary },
		       done),
		VK_SUCCESS);
	before = monotonic_ns();
	assert_int_equal(w.d.GetSemaphoreFdKHR(w.device, &get, &fd), VK_SUCCESS);
	fd_close(&fd);
	assert_held_for_250_ms(before);
	assert_int_equal(fake_batch_count(), 1);
	run_until(done);
	neighbour_ends();
	destroy_fences(&done, 1);
	w.d.DestroySemaphore(w.device, binary, NULL);
}

/* A program that submits without end is slowed down, and what it has submitted keeps its place. */
static void who_has_much_held_is_slowed_down(void **state)
{
	VkCommandBuffer commands[8];
	uint64_t before;

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		commands[i] = world_commands(&w, 0);
	neighbour_runs();
	before = monotonic_ns();
	for (unsigned i = 0; i < GATE_HELD_SOFT; i++)
		assert_int_equal(run(w.queue, commands[i % 8], VK_NULL_HANDLE), VK_SUCCESS);
	before = monotonic_ns();
	assert_int_equal(run(w.queue, commands[0], VK_NULL_HANDLE), VK_SUCCESS);
	assert_held_for_250_ms(before);
	assert_int_equal(fake_batch_count(), 0);
	neighbour_ends();
	for (int i = 0; i < 5000 && fake_batch_count() < GATE_HELD_SOFT + 1; i++) {
		fake_run(100);
		usleep(1000);
	}
	assert_int_equal(fake_batch_count(), GATE_HELD_SOFT + 1);
	fake_run(GATE_HELD_SOFT);
	/* Command buffers pended more than once, which no valid program does. */
	fake_forgive();
}

/* It is the same thread that will signal what they wait for. */
static void who_holds_back_its_own_work_is_not_slowed_down(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	const VkSemaphoreSignalInfo signal = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					       .semaphore = line,
					       .value = 1 };
	const struct batch waits = { .wait = line, .wait_value = 1 };
	VkFence last = fence();
	uint64_t before = monotonic_ns();

	for (unsigned i = 0; i < GATE_HELD_SOFT + 100; i++)
		assert_int_equal(submit(w.queue, &waits, VK_NULL_HANDLE), VK_SUCCESS);
	assert_int_equal(submit(w.queue, &waits, last), VK_SUCCESS);
	/* 101 of them would have taken 25 s. */
	assert_true(monotonic_ns() - before < 10 * S);
	assert_int_equal(w.d.SignalSemaphore(w.device, &signal), VK_SUCCESS);
	for (int i = 0; i < 5000 && w.d.GetFenceStatus(w.device, last) != VK_SUCCESS; i++) {
		fake_run(100);
		usleep(1000);
	}
	assert_int_equal(w.d.GetFenceStatus(w.device, last), VK_SUCCESS);
	destroy_fences(&last, 1);
	w.d.DestroySemaphore(w.device, line, NULL);
}

static void more_than_there_is_room_for_is_refused_whole(void **state)
{
	VkCommandBuffer commands = world_commands(&w, 0);
	const VkCommandBufferSubmitInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO, .commandBuffer = commands
	};
	VkSubmitInfo2 *batches = calloc(GATE_HELD_MAX + 1, sizeof(*batches));

	assert_non_null(batches);
	for (unsigned i = 0; i <= GATE_HELD_MAX; i++)
		batches[i] = (VkSubmitInfo2){ .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
					      .commandBufferInfoCount = 1,
					      .pCommandBufferInfos = &info };
	assert_int_equal(w.d.QueueSubmit2(w.queue, GATE_HELD_MAX + 1, batches, VK_NULL_HANDLE),
			 VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(fake_batch_count(), 0);
	free(batches);
}

/* What others depend on goes with it; what nobody needs stays. */
static void only_what_is_needed_goes_without_a_turn(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	const VkPresentInfoKHR present = { .sType = VK_STRUCTURE_TYPE_PRESENT_INFO_KHR,
					   .waitSemaphoreCount = 1,
					   .pWaitSemaphores = &binary };
	VkCommandBuffer unrelated = world_commands(&w, 0), first = world_commands(&w, 0);
	VkCommandBuffer second = world_commands(&w, 0);
	VkFence last = fence();

	neighbour_runs();
	/* Presented is what the second queue draws when the first has computed, submitted the other way round. */
	assert_int_equal(submit(w.second,
				&(struct batch){ .commands = second,
						 .wait = line,
						 .wait_value = 1,
						 .signal = binary },
				VK_NULL_HANDLE),
			 VK_SUCCESS);
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = first, .signal = line, .signal_value = 1 },
		       VK_NULL_HANDLE),
		VK_SUCCESS);
	assert_int_equal(run(w.queue, unrelated, last), VK_SUCCESS);
	fake_run_soon(2);
	assert_int_equal(w.d.QueuePresentKHR(w.queue, &present), VK_SUCCESS);
	assert_batch_is(0, first);
	assert_batch_is(1, second);
	assert_int_equal(fake_batch(2)->kind, FAKE_PRESENT);
	usleep(300000);
	assert_int_equal(fake_batch_count(), 3);
	fake_run_done();
	neighbour_ends();
	run_until(last);
	destroy_fences(&last, 1);
	w.d.DestroySemaphore(w.device, binary, NULL);
	w.d.DestroySemaphore(w.device, line, NULL);
}

/* Who presents all the time does not get the GPU that way: 5 % of it, half a second saved up. */
static void the_allowance_without_a_turn_ends(void **state)
{
	const VkBaseInStructure unknown = { .sType = (VkStructureType)0x7ffffff0 };
	VkCommandBuffer commands = world_commands(&w, 600 * MS);
	VkFence done[2] = { fence(), fence() };
	uint64_t before;

	neighbour_runs();
	fake_run_soon(1);
	assert_int_equal(submit(w.queue, &(struct batch){ .commands = commands, .chain = &unknown },
				done[0]),
			 VK_SUCCESS);
	fake_run_done();
	for (int i = 0; i < 500 && charged("forced_ns") < 600 * MS; i++)
		usleep(10000);
	assert_true(charged("forced_ns") >= 600 * MS);
	/* The next one waits for its turn. */
	before = monotonic_ns();
	neighbour_ends_soon(1500);
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = world_commands(&w, 0), .chain = &unknown },
		       done[1]),
		VK_SUCCESS);
	assert_true(monotonic_ns() - before > 1200 * MS);
	neighbour_ends_done();
	run_until(done[1]);
	destroy_fences(done, 2);
}

/* ---- loss ---------------------------------------------------------------------------------------- */

static void assert_lost(VkFence pending)
{
	const VkSemaphoreWaitInfo none = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO };

	for (int i = 0; i < 500 && w.d.GetFenceStatus(w.device, pending) != VK_ERROR_DEVICE_LOST;
	     i++)
		usleep(10000);
	assert_int_equal(w.d.GetFenceStatus(w.device, pending), VK_ERROR_DEVICE_LOST);
	assert_int_equal(wait_one(pending, UINT64_MAX), VK_ERROR_DEVICE_LOST);
	assert_int_equal(w.d.WaitSemaphores(w.device, &none, UINT64_MAX), VK_ERROR_DEVICE_LOST);
	assert_int_equal(w.d.QueueWaitIdle(w.queue), VK_ERROR_DEVICE_LOST);
	assert_int_equal(w.d.DeviceWaitIdle(w.device), VK_ERROR_DEVICE_LOST);
	assert_int_equal(submit(w.queue, &(struct batch){ 0 }, VK_NULL_HANDLE),
			 VK_ERROR_DEVICE_LOST);
}

static void a_late_failure_is_the_device_lost(void **state)
{
	VkFence held = fence(), behind = fence();

	neighbour_runs();
	assert_int_equal(run(w.queue, world_commands(&w, 0), held), VK_SUCCESS);
	assert_int_equal(run(w.second, world_commands(&w, 0), behind), VK_SUCCESS);
	fake_fail("vkQueueSubmit2", 1, VK_ERROR_OUT_OF_DEVICE_MEMORY);
	neighbour_ends();
	assert_lost(held);
	assert_lost(behind);
	destroy_fences((VkFence[]){ held, behind }, 2);
}

static void a_failure_at_once_is_only_that_submits(void **state)
{
	VkFence first = fence(), done = fence();

	/* The turn comes; from here on the caller issues. */
	assert_int_equal(run(w.queue, world_commands(&w, 0), first), VK_SUCCESS);
	run_until(first);
	fake_fail("vkQueueSubmit2", 1, VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_SUCCESS);
	run_until(done);
	destroy_fences((VkFence[]){ first, done }, 2);
}

static void a_lost_gpu_ends_waits_that_are_under_way(void **state)
{
	struct idle idle = { .device = true };
	VkFence done = fence();

	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_SUCCESS);
	assert_true(fake_wait_batches(1));
	pthread_create(&idle.thread, NULL, idle_main, &idle);
	usleep(20000);
	fake_lose();
	pthread_join(idle.thread, NULL);
	assert_int_equal(idle.result, VK_ERROR_DEVICE_LOST);
	assert_lost(done);
	destroy_fences(&done, 1);
}

static void without_the_vgpu_there_is_no_device(void **state)
{
	VkFence held = fence();

	neighbour_runs();
	assert_int_equal(run(w.queue, world_commands(&w, 0), held), VK_SUCCESS);
	close(w.tenant.owner);
	w.tenant.owner = -1;
	assert_lost(held);
	assert_int_equal(fake_batch_count(), 0);
	neighbour_ends();
	destroy_fences(&held, 1);
}

static void a_device_that_goes_drops_what_it_holds(void **state)
{
	neighbour_runs();
	for (int i = 0; i < 20; i++)
		assert_int_equal(run(w.queue, world_commands(&w, 0), VK_NULL_HANDLE), VK_SUCCESS);
	world_device_close(&w);
	assert_int_equal(fake_batch_count(), 0);
	neighbour_ends();
}

/* One queue waits for the host, which waits for the other queue. */
static void an_idle_queue_is_idle_whatever_another_waits_for(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	const VkSemaphoreSignalInfo signal = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					       .semaphore = line,
					       .value = 1 };
	VkFence waits = fence(), runs = fence();

	assert_int_equal(submit(w.second,
				&(struct batch){ .commands = world_commands(&w, 0),
						 .wait = line,
						 .wait_value = 1 },
				waits),
			 VK_SUCCESS);
	assert_int_equal(run(w.queue, world_commands(&w, 0), runs), VK_SUCCESS);
	fake_run_soon(1);
	assert_int_equal(w.d.QueueWaitIdle(w.queue), VK_SUCCESS);
	fake_run_done();
	assert_int_equal(w.d.GetFenceStatus(w.device, runs), VK_SUCCESS);
	assert_int_equal(w.d.SignalSemaphore(w.device, &signal), VK_SUCCESS);
	run_until(waits);
	destroy_fences((VkFence[]){ waits, runs }, 2);
	w.d.DestroySemaphore(w.device, line, NULL);
}

/* Only then may it destroy what that uses. */
static void what_is_in_flight_has_ended_when_the_program_hears_of_the_loss(void **state)
{
	VkFence done = fence();

	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_SUCCESS);
	assert_true(fake_wait_batches(1));
	close(w.tenant.owner);
	w.tenant.owner = -1;
	usleep(300000);
	assert_int_equal(w.d.GetFenceStatus(w.device, done), VK_NOT_READY);
	assert_int_equal(fake_run(1), 1);
	assert_lost(done);
	destroy_fences(&done, 1);
}

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

#define TEST(name, begin) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_submit_without_a_turn_returns_at_once_and_goes_when_it_comes,
		     begin_with_device),
		TEST(who_is_alone_submits_in_its_own_thread_and_asks_once, begin_with_device),
		TEST(an_idle_turn_is_given_back_when_somebody_comes, begin_with_device),
		TEST(a_turn_ends_when_its_slice_is_used_up, begin_with_device),
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
		TEST(a_present_finds_its_semaphores_signal_issued_without_a_turn,
		     begin_with_device),
		TEST(an_unknown_structure_holds_its_caller, begin_with_device),
		TEST(an_exported_semaphore_is_signalled_by_what_is_issued, begin_with_device),
		TEST(who_has_much_held_is_slowed_down, begin_with_device),
		TEST(who_holds_back_its_own_work_is_not_slowed_down, begin_with_device),
		TEST(more_than_there_is_room_for_is_refused_whole, begin_with_device),
		TEST(only_what_is_needed_goes_without_a_turn, begin_with_device),
		TEST(the_allowance_without_a_turn_ends, begin_with_device),
		TEST(an_idle_queue_is_idle_whatever_another_waits_for, begin_with_device),
		TEST(what_is_in_flight_has_ended_when_the_program_hears_of_the_loss,
		     begin_with_device),
		TEST(what_was_used_is_charged_not_what_was_had, begin_automatic),
		TEST(a_late_failure_is_the_device_lost, begin_with_device),
		TEST(a_failure_at_once_is_only_that_submits, begin_with_device),
		TEST(a_lost_gpu_ends_waits_that_are_under_way, begin_with_device),
		TEST(without_the_vgpu_there_is_no_device, begin_with_device),
		TEST(a_device_that_goes_drops_what_it_holds, begin_with_device),
		TEST(what_ran_is_charged, begin_automatic),
		TEST(a_counter_that_wraps_charges_the_same, begin),
		TEST(without_timestamps_the_cpus_clock_does, begin),
		TEST(without_calibration_the_ends_anchor_the_clock, begin),
		TEST(queues_that_run_at_once_are_charged_once, begin_automatic),
		TEST(threads_queues_and_a_neighbour_at_once, begin_automatic),
	};

	return cmocka_run_group_tests_name("layer_gate", tests, NULL, NULL);
}
