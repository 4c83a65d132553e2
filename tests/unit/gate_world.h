/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the layer's gate are written in: the world of layer_world.h with a neighbour, another vGPU on the same GPU, that takes the
 * turn and keeps it. That is how submits come to be held.
 */
#ifndef TESTS_UNIT_GATE_WORLD_H
#define TESTS_UNIT_GATE_WORLD_H

#include "tests/unit/layer_world.h"

#include "vgpu-sched/layer/gate.h"

#define S NSEC_PER_SEC

static struct world w;
static struct tenant neighbour;
static struct live_worker worker; /* the neighbour's */

static inline int begin(void **state)
{
	world_open(&w, 0);
	world_neighbour(&w, &neighbour);
	assert_int_equal(live_worker_open(w.arbiter.path, neighbour.token, &worker, NULL), 0);
	return 0;
}

static inline int begin_with_device(void **state)
{
	begin(state);
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(world_device(&w), VK_SUCCESS);
	return 0;
}

static inline int begin_automatic(void **state)
{
	begin(state);
	fake.automatic = true;
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(world_device(&w), VK_SUCCESS);
	return 0;
}

static inline int end(void **state)
{
	live_worker_close(&worker);
	close(neighbour.owner);
	world_close(&w);
	return 0;
}

/* ---- what the tests are written in --------------------------------------------------------------- */

static inline void neighbour_runs(void)
{
	uint64_t slice_ns;

	assert_int_equal(live_worker_turn(&worker, SCHED_ENGINE_GRAPHICS, 5 * S, &slice_ns), 0);
}

static inline void neighbour_ends(void)
{
	assert_int_equal(live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, false), 0);
}

static inline VkFence fence(void)
{
	const VkFenceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
	VkFence made;

	assert_int_equal(w.d.CreateFence(w.device, &info, NULL, &made), VK_SUCCESS);
	return made;
}

static inline VkSemaphore semaphore(VkSemaphoreType kind)
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

static inline VkSemaphoreSubmitInfo point(VkSemaphore handle, uint64_t value)
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

static inline VkResult submit(VkQueue queue, const struct batch *batch, VkFence signalled)
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

static inline VkResult run(VkQueue queue, VkCommandBuffer commands, VkFence signalled)
{
	return submit(queue, &(struct batch){ .commands = commands }, signalled);
}

/* The program's command buffer in the middle of the layer's two. */
static inline void assert_batch_is(unsigned index, VkCommandBuffer commands)
{
	const struct fake_batch *batch = fake_batch(index);

	assert_int_equal(batch->command_count, 3);
	assert_ptr_equal(batch->commands[1], commands);
}

static inline VkResult wait_one(VkFence which, uint64_t timeout)
{
	return w.d.WaitForFences(w.device, 1, &which, VK_TRUE, timeout);
}

/* The batch is done, on the made-up GPU. */
static inline void run_until(VkFence done)
{
	for (int i = 0; i < 5000 && w.d.GetFenceStatus(w.device, done) != VK_SUCCESS; i++) {
		fake_run(1);
		usleep(1000);
	}
	assert_int_equal(w.d.GetFenceStatus(w.device, done), VK_SUCCESS);
}

static inline void destroy_fences(VkFence *fences, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		w.d.DestroyFence(w.device, fences[i], NULL);
}

/* A number of the vGPU's graphics engine, as the arbiter has it. */
static inline uint64_t charged(const char *key)
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

struct idle {
	pthread_t thread;
	VkResult result;
	_Atomic bool back;
	bool device;
};

static inline void *idle_main(void *opaque)
{
	struct idle *idle = opaque;

	idle->result = idle->device ? w.d.DeviceWaitIdle(w.device) : w.d.QueueWaitIdle(w.queue);
	atomic_store(&idle->back, true);
	return NULL;
}

/* ---- meanwhile ------------------------------------------------------------------------------------------ */

static struct meanwhile {
	pthread_t thread;
	unsigned batches, after_ms;
} meanwhile;

/* The made-up GPU does so many batches while the test is held in a call. */
static inline void *run_main(void *opaque)
{
	unsigned left = meanwhile.batches;

	for (int i = 0; i < 5000 && left; i++) {
		left -= fake_run(1);
		usleep(1000);
	}
	return NULL;
}

static inline void fake_run_soon(unsigned batches)
{
	meanwhile.batches = batches;
	pthread_create(&meanwhile.thread, NULL, run_main, NULL);
}

static inline void fake_run_done(void)
{
	pthread_join(meanwhile.thread, NULL);
}

static inline void *end_main(void *opaque)
{
	usleep(meanwhile.after_ms * 1000);
	live_worker_release(&worker, SCHED_ENGINE_GRAPHICS, false);
	return NULL;
}

static inline void neighbour_ends_soon(unsigned after_ms)
{
	meanwhile.after_ms = after_ms;
	pthread_create(&meanwhile.thread, NULL, end_main, NULL);
}

static inline void neighbour_ends_done(void)
{
	pthread_join(meanwhile.thread, NULL);
}

static inline void assert_held_for_250_ms(uint64_t since)
{
	assert_in_range((monotonic_ns() - since) / MS, 200, 2000);
}

#define TEST(name, begin) cmocka_unit_test_setup_teardown(name, begin, end)

#endif
