// SPDX-License-Identifier: Apache-2.0
/* Fences and idle waits: when they say that work is done, it is; when they must time out, they do. */
#include <errno.h>
#include <time.h>

#include "tests/live/job.h"
#include "tests/live/vkload.h"

#define GROUPS	   8
#define ITERATIONS 20000

struct world {
	struct job_kind kind;
	struct job job;
	VkFence fence;
};

static int set_up(struct vk *vk, struct world *world, struct error *e)
{
	TRY(job_kind_create(vk, 16, &world->kind, e));
	TRY(job_create(&world->kind, GROUPS, ITERATIONS, &world->job, e));
	return vk_fence(vk, &world->fence, e);
}

static int submit_some(struct vk *vk, struct job *job, unsigned count, struct error *e)
{
	const struct vk_batch batch = { .commands = 1, .command = { job->command } };

	for (unsigned i = 0; i < count; i++)
		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &batch, 1, NULL, e));
	return 0;
}

static int queue_is_idle_when_it_says_so(struct vk *vk, struct error *e)
{
	struct world world;

	TRY(set_up(vk, &world, e));
	for (unsigned round = 1; round <= 5; round++) {
		TRY(submit_some(vk, &world.job, 6, e));
		VK_TRY(vkQueueWaitIdle(vk->queues[0]), e);
		TRY(job_check(&world.job, 6 * round, e));
	}
	return 0;
}

static int device_is_idle_when_it_says_so(struct vk *vk, struct error *e)
{
	struct world world;

	TRY(set_up(vk, &world, e));
	for (unsigned round = 1; round <= 5; round++) {
		TRY(submit_some(vk, &world.job, 6, e));
		VK_TRY(vkDeviceWaitIdle(vk->device), e);
		TRY(job_check(&world.job, 6 * round, e));
	}
	return 0;
}

static int fence_is_polled(struct vk *vk, struct error *e)
{
	const struct timespec pause = { .tv_nsec = 200000 };
	struct world world;

	TRY(set_up(vk, &world, e));
	for (unsigned round = 1; round <= 20; round++) {
		const struct vk_batch batch = { .commands = 1, .command = { world.job.command } };
		const uint64_t end = monotonic_ns() + VK_PATIENCE_NS;
		VkResult status;

		TRY(vk_submit(vk->queues[0], vk->submit2 && round % 2, &batch, 1, world.fence, e));
		do {
			status = vkGetFenceStatus(vk->device, world.fence);
			nanosleep(&pause, NULL);
		} while (status == VK_NOT_READY && monotonic_ns() < end);
		VK_TRY(status, e);
		TRY(job_check(&world.job, round, e));
		VK_TRY(vkResetFences(vk->device, 1, &world.fence), e);
		EXPECT(vkGetFenceStatus(vk->device, world.fence) == VK_NOT_READY, e,
		       "a fence that was reset is done");
	}
	return 0;
}

/* Two fences, the second behind a semaphore that the host has not signalled yet. */
static int fences_any_all_and_time_outs(struct vk *vk, struct error *e)
{
	struct world world;
	VkSemaphore gate;
	VkFence fences[2];
	struct vk_batch batches[2] = { 0 };
	const VkSemaphoreSignalInfo open = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					     .value = 1 };
	VkSemaphoreSignalInfo signal = open;
	uint64_t start;

	TRY(set_up(vk, &world, e));
	TRY(vk_timeline(vk, 0, &gate, e));
	TRY(vk_fence(vk, &fences[0], e));
	TRY(vk_fence(vk, &fences[1], e));
	for (unsigned i = 0; i < 2; i++) {
		batches[i].commands = 1;
		batches[i].command[0] = world.job.command;
	}
	batches[1].waits = 1;
	batches[1].wait[0] = gate;
	batches[1].wait_value[0] = 1;
	EXPECT(vkWaitForFences(vk->device, 2, fences, VK_FALSE, 0) == VK_TIMEOUT, e,
	       "a wait for fences that nobody submitted did not time out");
	for (unsigned i = 0; i < 2; i++)
		TRY(vk_submit(vk->queues[0], vk->submit2, &batches[i], 1, fences[i], e));
	VK_TRY(vkWaitForFences(vk->device, 2, fences, VK_FALSE, VK_PATIENCE_NS), e);
	EXPECT(vkGetFenceStatus(vk->device, fences[0]) == VK_SUCCESS, e,
	       "the wait for any is over, but the first fence is not done");
	TRY(job_check(&world.job, 1, e));
	EXPECT(vkWaitForFences(vk->device, 2, fences, VK_TRUE, 0) == VK_TIMEOUT, e,
	       "a wait for both that may take no time did not time out");
	start = monotonic_ns();
	EXPECT(vkWaitForFences(vk->device, 2, fences, VK_TRUE, 40000000) == VK_TIMEOUT, e,
	       "a wait for both did not time out");
	EXPECT(monotonic_ns() - start >= 39000000, e, "a time-out of 40 ms came after %.1f ms",
	       (double)(monotonic_ns() - start) / 1e6);
	signal.semaphore = gate;
	VK_TRY(vkSignalSemaphore(vk->device, &signal), e);
	VK_TRY(vkWaitForFences(vk->device, 2, fences, VK_TRUE, VK_PATIENCE_NS), e);
	return job_check(&world.job, 2, e);
}

/* Semaphore, fence and command pool are destroyed as soon as a fence says that they may be. */
static int objects_go_when_their_fence_is_done(struct vk *vk, struct error *e)
{
	struct job_kind kind;
	unsigned kept;
	struct job job;

	TRY(job_kind_create(vk, 1, &kind, e));
	TRY(job_create(&kind, GROUPS, 2000, &job, e));
	kept = vk->bag_count;
	for (unsigned i = 0; i < 100; i++) {
		struct vk_batch batches[2] = { 0 };
		VkFence fence;

		TRY(vk_fence(vk, &fence, e));
		TRY(vk_binary(vk, NULL, &batches[0].signal[0], e));
		batches[0].signals = batches[1].waits = 1;
		batches[1].wait[0] = batches[0].signal[0];
		batches[0].commands = batches[1].commands = 1;
		batches[0].command[0] = batches[1].command[0] = job.unordered;
		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, batches, 2, fence, e));
		TRY(vk_wait(vk, fence, e));
		vk_empty_bag(vk, kept);
		TRY(job_record(&kind, &job, job.buffer, e));
	}
	return job_check(&job, 200, e);
}

/* The program's own timestamps: forwards, and between what the host measures around them. */
static int timestamps_are_the_programs(struct vk *vk, struct error *e)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
	};
	const VkQueryPoolCreateInfo info = { .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
					     .queryType = VK_QUERY_TYPE_TIMESTAMP,
					     .queryCount = 2 };
	VkCommandBuffer before, after;
	struct vk_batch batch;
	struct world world;
	uint64_t ticks[2], start, host_ns;
	VkQueryPool pool;
	double gpu_ns;

	if (!vk->timestamp_bits)
		return error_set(e, ENOTSUP, "left-out", NULL, "the queue has no timestamps");
	TRY(set_up(vk, &world, e));
	VK_TRY(vkCreateQueryPool(vk->device, &info, NULL, &pool), e);
	TRY(vk_command_buffer(vk, world.kind.pool, &before, e));
	TRY(vk_command_buffer(vk, world.kind.pool, &after, e));
	VK_TRY(vkBeginCommandBuffer(before, &begin), e);
	vkCmdResetQueryPool(before, pool, 0, 2);
	vkCmdWriteTimestamp(before, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, pool, 0);
	VK_TRY(vkEndCommandBuffer(before), e);
	VK_TRY(vkBeginCommandBuffer(after, &begin), e);
	vkCmdWriteTimestamp(after, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, pool, 1);
	VK_TRY(vkEndCommandBuffer(after), e);
	batch = (struct vk_batch){ .commands = 3, .command = { before, world.job.command, after } };
	start = monotonic_ns();
	TRY(vk_submit(vk->queues[0], false, &batch, 1, world.fence, e));
	TRY(vk_wait(vk, world.fence, e));
	host_ns = monotonic_ns() - start;
	VK_TRY(vkGetQueryPoolResults(vk->device, pool, 0, 2, sizeof(ticks), ticks, sizeof(ticks[0]),
				     VK_QUERY_RESULT_64_BIT),
	       e);
	gpu_ns = (double)(ticks[1] - ticks[0]) * (double)vk->properties.limits.timestampPeriod;
	vkDestroyQueryPool(vk->device, pool, NULL);
	EXPECT(ticks[1] >= ticks[0], e, "the second timestamp is before the first");
	EXPECT(gpu_ns <= 1.05 * (double)host_ns + 1e5, e,
	       "%.3f ms between timestamps, %.3f ms in all", gpu_ns / 1e6, (double)host_ns / 1e6);
	return job_check(&world.job, 1, e);
}

const struct live_test fence_tests[] = {
	{ "queue-is-idle-when-it-says-so", queue_is_idle_when_it_says_so },
	{ "device-is-idle-when-it-says-so", device_is_idle_when_it_says_so },
	{ "fence-is-polled", fence_is_polled },
	{ "fences-any-all-and-time-outs", fences_any_all_and_time_outs },
	{ "objects-go-when-their-fence-is-done", objects_go_when_their_fence_is_done },
	{ "timestamps-are-the-programs", timestamps_are_the_programs },
	{ 0 },
};
