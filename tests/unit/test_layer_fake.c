// SPDX-License-Identifier: Apache-2.0
/* The driver that is made up (fake_vulkan.h): that it does what it is told, and complains of what it must not be told. */
#include "tests/unit/layer_world.h"

static struct world w;

static int open_world(void **state)
{
	world_open(&w, 0);
	return 0;
}

static int close_world(void **state)
{
	world_close(&w);
	return 0;
}

/* Past the layer. */
#define DRIVER(name) ((PFN_vk##name)fake_GetDeviceProcAddr(w.device, "vk" #name))

static void begin(void)
{
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(world_device(&w), VK_SUCCESS);
}

static VkSemaphore semaphore(bool timeline)
{
	const VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = timeline ? VK_SEMAPHORE_TYPE_TIMELINE : VK_SEMAPHORE_TYPE_BINARY,
	};
	const VkSemaphoreCreateInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
					     .pNext = &type };
	VkSemaphore made;

	assert_int_equal(DRIVER(CreateSemaphore)(w.device, &info, NULL, &made), VK_SUCCESS);
	return made;
}

static VkFence fence(void)
{
	const VkFenceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
	VkFence made;

	assert_int_equal(DRIVER(CreateFence)(w.device, &info, NULL, &made), VK_SUCCESS);
	return made;
}

struct batch {
	VkCommandBuffer commands;
	VkSemaphore wait, signal;
	uint64_t wait_value, signal_value;
};

static VkResult submit(VkQueue queue, const struct batch *batch, VkFence signalled)
{
	const VkCommandBufferSubmitInfo commands = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
		.commandBuffer = batch->commands
	};
	const VkSemaphoreSubmitInfo wait = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
					     .semaphore = batch->wait,
					     .value = batch->wait_value };
	const VkSemaphoreSubmitInfo signal = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
					       .semaphore = batch->signal,
					       .value = batch->signal_value };
	const VkSubmitInfo2 info = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
		.waitSemaphoreInfoCount = batch->wait != VK_NULL_HANDLE,
		.pWaitSemaphoreInfos = &wait,
		.commandBufferInfoCount = batch->commands != NULL,
		.pCommandBufferInfos = &commands,
		.signalSemaphoreInfoCount = batch->signal != VK_NULL_HANDLE,
		.pSignalSemaphoreInfos = &signal,
	};

	return DRIVER(QueueSubmit2)(queue, 1, &info, signalled);
}

/* A complaint that has these words was what the test wanted. */
static void expect_complaint(const char *words)
{
	if (!strstr(fake_complaints(), words))
		fail_msg("\"%s\" is not in \"%s\"", words, fake_complaints());
	fake_forgive();
}

static void a_queue_goes_in_order_and_waits_for_another(void **state)
{
	VkSemaphore timeline, binary;
	VkFence done;

	begin();
	timeline = semaphore(true);
	binary = semaphore(false);
	done = fence();
	submit(w.queue, &(struct batch){ .wait = timeline, .wait_value = 5, .signal = binary },
	       VK_NULL_HANDLE);
	submit(w.queue, &(struct batch){ 0 }, done);
	assert_int_equal(fake_run(9), 0);
	submit(w.second, &(struct batch){ .signal = timeline, .signal_value = 7 }, VK_NULL_HANDLE);
	submit(w.copy, &(struct batch){ .wait = binary }, VK_NULL_HANDLE);
	assert_int_equal(fake_batch_count(), 4);
	assert_int_equal(fake_batch(2)->queue, 1);
	assert_int_equal(fake_batch(3)->family, 1);
	/* The third, then what it lets go. */
	assert_int_equal(fake_run(2), 2);
	assert_int_equal(fake_semaphore_value(timeline), 7);
	assert_true(fake_batch(0)->ended_ns && fake_batch(2)->ended_ns);
	assert_int_equal(fake_batch(1)->ended_ns, 0);
	assert_int_equal(DRIVER(GetFenceStatus)(w.device, done), VK_NOT_READY);
	assert_int_equal(fake_run(9), 2);
	assert_int_equal(DRIVER(GetFenceStatus)(w.device, done), VK_SUCCESS);
	assert_int_equal(DRIVER(DeviceWaitIdle)(w.device), VK_SUCCESS);
	DRIVER(DestroyFence)(w.device, done, NULL);
	DRIVER(DestroySemaphore)(w.device, timeline, NULL);
	DRIVER(DestroySemaphore)(w.device, binary, NULL);
}

static void timestamps_are_cut_to_the_familys_bits(void **state)
{
	static const unsigned bits[] = { 32, 36, 64 };
	const VkQueryPoolCreateInfo info = { .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
					     .queryType = VK_QUERY_TYPE_TIMESTAMP,
					     .queryCount = 2 };
	const VkCommandBufferBeginInfo again = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
	};

	fake.manual_clock = true;
	fake.gpus[0].timestamp_period = 2;
	begin();
	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
		VkCommandBuffer commands = world_commands(&w, 100);
		VkQueryPool pool;
		uint64_t got[2];

		fake.gpus[0].families[0].timestamp_bits = bits[i];
		fake.ticks = UINT64_C(0x123456fffffffff0);
		DRIVER(CreateQueryPool)(w.device, &info, NULL, &pool);
		DRIVER(ResetQueryPool)(w.device, pool, 0, 2);
		DRIVER(BeginCommandBuffer)(commands, &again);
		DRIVER(CmdWriteTimestamp2)(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, pool, 0);
		DRIVER(EndCommandBuffer)(commands);
		submit(w.queue, &(struct batch){ .commands = commands }, VK_NULL_HANDLE);
		assert_int_equal(DRIVER(GetQueryPoolResults)(w.device, pool, 0, 1, sizeof(got), got,
							     8, VK_QUERY_RESULT_64_BIT),
				 VK_NOT_READY);
		assert_int_equal(fake_run(1), 1);
		assert_int_equal(DRIVER(GetQueryPoolResults)(w.device, pool, 0, 1, sizeof(got), got,
							     8, VK_QUERY_RESULT_64_BIT),
				 VK_SUCCESS);
		/* 100 ns are 50 ticks; 32 and 36 bits have wrapped. */
		assert_int_equal(got[0], bits[i] == 64 ? UINT64_C(0x1234570000000022) : 0x22);
		DRIVER(DestroyQueryPool)(w.device, pool, NULL);
	}
}

static void queues_with_threads_run_beside_each_other(void **state)
{
	VkFence fences[2];
	uint64_t begin_ns;

	fake.automatic = true;
	begin();
	fences[0] = fence();
	fences[1] = fence();
	begin_ns = monotonic_ns();
	submit(w.queue, &(struct batch){ .commands = world_commands(&w, 200 * MS) }, fences[0]);
	submit(w.second, &(struct batch){ .commands = world_commands(&w, 200 * MS) }, fences[1]);
	assert_int_equal(DRIVER(WaitForFences)(w.device, 2, fences, VK_TRUE, 10 * MS), VK_TIMEOUT);
	assert_int_equal(DRIVER(WaitForFences)(w.device, 2, fences, VK_TRUE, UINT64_MAX),
			 VK_SUCCESS);
	assert_true(monotonic_ns() - begin_ns >= 200 * MS);
	assert_true(fake_batch(1)->begun_ns < fake_batch(0)->ended_ns);
	DRIVER(DestroyFence)(w.device, fences[0], NULL);
	DRIVER(DestroyFence)(w.device, fences[1], NULL);
}

static void a_lost_device_tells_whoever_waits(void **state)
{
	VkFence f;
	uint64_t value;
	VkSemaphore s;

	begin();
	f = fence();
	s = semaphore(true);
	fake_fail("vkQueueSubmit2", 2, VK_ERROR_DEVICE_LOST);
	assert_int_equal(submit(w.queue, &(struct batch){ 0 }, f), VK_SUCCESS);
	assert_int_equal(DRIVER(GetFenceStatus)(w.device, f), VK_NOT_READY);
	assert_int_equal(submit(w.queue, &(struct batch){ 0 }, VK_NULL_HANDLE),
			 VK_ERROR_DEVICE_LOST);
	assert_int_equal(fake_calls("vkQueueSubmit2"), 2);
	assert_int_equal(fake_batch_count(), 1);
	assert_int_equal(DRIVER(WaitForFences)(w.device, 1, &f, VK_TRUE, UINT64_MAX),
			 VK_ERROR_DEVICE_LOST);
	assert_int_equal(DRIVER(GetSemaphoreCounterValue)(w.device, s, &value),
			 VK_ERROR_DEVICE_LOST);
	assert_int_equal(DRIVER(QueueWaitIdle)(w.queue), VK_ERROR_DEVICE_LOST);
	DRIVER(DestroyFence)(w.device, f, NULL);
	DRIVER(DestroySemaphore)(w.device, s, NULL);
}

static void *wait_main(void *queue)
{
	DRIVER(QueueWaitIdle)(queue);
	return NULL;
}

static void what_may_not_be_is_complained_of(void **state)
{
	VkSemaphore binary, timeline;
	VkCommandBuffer commands;
	VkFence f;

	begin();
	binary = semaphore(false);
	timeline = semaphore(true);
	commands = world_commands(&w, 0);
	f = fence();
	submit(w.queue, &(struct batch){ .wait = binary }, VK_NULL_HANDLE);
	expect_complaint("before its signal was submitted");
	submit(w.second, &(struct batch){ .signal = binary }, VK_NULL_HANDLE);
	fake_run(2);
	submit(w.queue, &(struct batch){ .signal = timeline, .signal_value = 3 }, VK_NULL_HANDLE);
	submit(w.queue, &(struct batch){ .signal = timeline, .signal_value = 2 }, VK_NULL_HANDLE);
	fake_run(2);
	expect_complaint("backwards");
	submit(w.queue, &(struct batch){ .commands = commands }, f);
	submit(w.second, &(struct batch){ .commands = commands }, VK_NULL_HANDLE);
	expect_complaint("while it is in use");
	submit(w.queue, &(struct batch){ 0 }, f);
	expect_complaint("not reset");
	DRIVER(ResetFences)(w.device, 1, &f);
	expect_complaint("in use");
	fake_run(9);
	DRIVER(DestroyFence)(w.device, f, NULL);
	DRIVER(DestroySemaphore)(w.device, binary, NULL);
	DRIVER(DestroySemaphore)(w.device, timeline, NULL);
	*(const void **)w.queue = NULL;
	submit(w.queue, &(struct batch){ 0 }, VK_NULL_HANDLE);
	expect_complaint("without the loader's pointer");
	world_dress(w.device, w.queue);
	fake_run(1);
}

static void two_threads_in_one_queue_are_seen(void **state)
{
	pthread_t thread;

	begin();
	/* The first waits for what never runs; the second comes beside it. */
	submit(w.queue, &(struct batch){ 0 }, VK_NULL_HANDLE);
	assert_int_equal(pthread_create(&thread, NULL, wait_main, w.queue), 0);
	while (!fake_calls("vkQueueWaitIdle"))
		work_for(MS);
	submit(w.queue, &(struct batch){ 0 }, VK_NULL_HANDLE);
	fake_run(2);
	pthread_join(thread, NULL);
	expect_complaint("two threads");
}

int main(void)
{
#define WORLD(t) cmocka_unit_test_setup_teardown(t, open_world, close_world)
	const struct CMUnitTest tests[] = {
		WORLD(a_queue_goes_in_order_and_waits_for_another),
		WORLD(timestamps_are_cut_to_the_familys_bits),
		WORLD(queues_with_threads_run_beside_each_other),
		WORLD(a_lost_device_tells_whoever_waits),
		WORLD(what_may_not_be_is_complained_of),
		WORLD(two_threads_in_one_queue_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
