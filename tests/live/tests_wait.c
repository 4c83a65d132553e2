// SPDX-License-Identifier: Apache-2.0
/* Timeline semaphores: waited for before they are signalled, by the host, by another queue; and work that waits holds up no caller. */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "tests/live/job.h"
#include "tests/live/vkload.h"

#define GROUPS	   8
#define ITERATIONS 20000

struct world {
	struct job_kind kind;
	struct job job;
	VkFence fence;
	VkSemaphore timeline;
};

static int set_up(struct vk *vk, struct world *world, struct error *e)
{
	TRY(job_kind_create(vk, 16, &world->kind, e));
	TRY(job_create(&world->kind, GROUPS, ITERATIONS, &world->job, e));
	TRY(vk_fence(vk, &world->fence, e));
	return vk_timeline(vk, 0, &world->timeline, e);
}

static void sleep_ms(unsigned ms)
{
	const struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

static int signal_value(struct vk *vk, VkSemaphore semaphore, uint64_t value, struct error *e)
{
	const VkSemaphoreSignalInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					     .semaphore = semaphore,
					     .value = value };

	VK_TRY(vkSignalSemaphore(vk->device, &info), e);
	return 0;
}

static VkResult wait_value(struct vk *vk, VkSemaphore semaphore, uint64_t value, uint64_t ns)
{
	const VkSemaphoreWaitInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
					   .semaphoreCount = 1,
					   .pSemaphores = &semaphore,
					   .pValues = &value };

	return vkWaitSemaphores(vk->device, &info, ns);
}

static int counter(struct vk *vk, VkSemaphore semaphore, uint64_t *value, struct error *e)
{
	VK_TRY(vkGetSemaphoreCounterValue(vk->device, semaphore, value), e);
	return 0;
}

/* The submission returns at once, and the work begins when the host signals, not before. */
static int work_waits_for_the_host(struct vk *vk, struct error *e)
{
	struct world world;

	TRY(set_up(vk, &world, e));
	for (unsigned i = 0; i < 4; i++) {
		const struct vk_batch batch = { .waits = 1,
						.wait = { world.timeline },
						.wait_value = { 5 * (i + 1) },
						.commands = 1,
						.command = { world.job.command } };

		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &batch, 1, world.fence, e));
		sleep_ms(30);
		EXPECT(vkGetFenceStatus(vk->device, world.fence) == VK_NOT_READY, e,
		       "the fence is done before the semaphore was signalled");
		TRY(job_check(&world.job, i, e));
		TRY(signal_value(vk, world.timeline, 5 * (i + 1), e));
		TRY(vk_wait(vk, world.fence, e));
		VK_TRY(vkResetFences(vk->device, 1, &world.fence), e);
		TRY(job_check(&world.job, i + 1, e));
	}
	return 0;
}

/* Longer than any turn is kept for who does nothing with it (250 ms). */
static int work_waits_long_for_the_host(struct vk *vk, struct error *e)
{
	struct vk_batch batch = {
		.waits = 1, .wait_value = { 1 }, .commands = 1, .signals = 1, .signal_value = { 2 }
	};
	struct world world;

	TRY(set_up(vk, &world, e));
	batch.wait[0] = batch.signal[0] = world.timeline;
	batch.command[0] = world.job.command;
	TRY(vk_submit(vk->queues[0], false, &batch, 1, world.fence, e));
	sleep_ms(1200);
	EXPECT(vkGetFenceStatus(vk->device, world.fence) == VK_NOT_READY, e,
	       "the fence is done before the semaphore was signalled");
	TRY(signal_value(vk, world.timeline, 1, e));
	VK_TRY(wait_value(vk, world.timeline, 2, VK_PATIENCE_NS), e);
	TRY(vk_wait(vk, world.fence, e));
	return job_check(&world.job, 1, e);
}

/* More behind work that waits than any queue of a layer's may hold; the caller signals when it has submitted it all. */
static int thousands_wait_for_the_host(struct vk *vk, struct error *e)
{
	const unsigned count = 3000;
	struct vk_batch batch = { .waits = 1, .wait_value = { 1 }, .commands = 1 };
	struct world world;

	TRY(set_up(vk, &world, e));
	world.job.iterations = 50;
	TRY(job_record(&world.kind, &world.job, world.job.buffer, e));
	batch.wait[0] = world.timeline;
	batch.command[0] = world.job.command;
	for (unsigned i = 0; i < count; i++) {
		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &batch, 1,
			      i + 1 == count ? world.fence : NULL, e));
		batch.waits = 0;
	}
	EXPECT(vkGetFenceStatus(vk->device, world.fence) == VK_NOT_READY, e,
	       "the fence is done before the semaphore was signalled");
	TRY(job_check(&world.job, 0, e));
	TRY(signal_value(vk, world.timeline, 1, e));
	TRY(vk_wait(vk, world.fence, e));
	return job_check(&world.job, count, e);
}

struct later {
	struct vk *vk;
	VkSemaphore semaphore;
	uint64_t value;
	struct error e;
};

static void *signal_later(void *arg)
{
	struct later *later = arg;

	sleep_ms(60);
	signal_value(later->vk, later->semaphore, later->value, &later->e);
	return NULL;
}

/* The host sleeps in vkWaitSemaphores for work that waits for another thread of the host. */
static int host_waits_for_work_that_waits(struct vk *vk, struct error *e)
{
	struct world world;
	struct later later;
	struct vk_batch batch = {
		.waits = 1, .wait_value = { 1 }, .commands = 1, .signals = 1, .signal_value = { 2 }
	};
	pthread_t thread;
	VkResult result;

	TRY(set_up(vk, &world, e));
	batch.wait[0] = batch.signal[0] = world.timeline;
	batch.command[0] = world.job.command;
	TRY(vk_submit(vk->queues[0], false, &batch, 1, NULL, e));
	later = (struct later){ .vk = vk, .semaphore = world.timeline, .value = 1 };
	if (thread_create(&thread, "later", signal_later, &later))
		return error_set(e, EAGAIN, "thread", NULL, "no thread");
	result = wait_value(vk, world.timeline, 2, VK_PATIENCE_NS);
	pthread_join(thread, NULL);
	VK_TRY(result, e);
	return job_check(&world.job, 1, e);
}

/* On one queue, a value that the next submission signals; only another queue can wait for it before. */
static int queue_waits_before_another_signals(struct vk *vk, struct error *e)
{
	struct vk_batch first = {
		.waits = 1, .wait_value = { 1 }, .commands = 1, .signals = 1, .signal_value = { 2 }
	};
	struct vk_batch second = { .commands = 1, .signals = 1, .signal_value = { 1 } };
	struct world world;

	if (vk->queue_count < 2)
		return error_set(e, ENOTSUP, "left-out", NULL, "one queue only");
	TRY(set_up(vk, &world, e));
	first.wait[0] = first.signal[0] = second.signal[0] = world.timeline;
	first.command[0] = second.command[0] = world.job.unordered;
	TRY(vk_submit(vk->queues[0], false, &first, 1, world.fence, e));
	sleep_ms(30);
	EXPECT(vkGetFenceStatus(vk->device, world.fence) == VK_NOT_READY, e,
	       "the fence is done before the other queue signalled");
	TRY(vk_submit(vk->queues[1], false, &second, 1, NULL, e));
	TRY(vk_wait(vk, world.fence, e));
	VK_TRY(vkQueueWaitIdle(vk->queues[1]), e);
	return job_check(&world.job, 2, e);
}

/* Another device of the same process goes on, and waits for nothing, while one waits for the host. */
static int another_device_goes_on(struct vk *vk, struct error *e)
{
	static struct vk other;
	struct world here, there;
	struct vk_batch batch = { .waits = 1, .wait_value = { 1 }, .commands = 1 };

	TRY(set_up(vk, &here, e));
	TRY(vk_open(&other, vk->properties.deviceName, e));
	TRY(set_up(&other, &there, e));
	batch.wait[0] = here.timeline;
	batch.command[0] = here.job.command;
	TRY(vk_submit(vk->queues[0], false, &batch, 1, here.fence, e));
	for (unsigned i = 0; i < 5; i++)
		TRY(job_run(&there.job, other.queues[0], there.fence, NULL, e));
	TRY(job_check(&there.job, 5, e));
	TRY(signal_value(vk, here.timeline, 1, e));
	TRY(vk_wait(vk, here.fence, e));
	vk_close(&other);
	return job_check(&here.job, 1, e);
}

/* vkWaitSemaphores: any, all, time-outs; and what the counter says meanwhile. */
static int host_waits_for_any_and_all(struct vk *vk, struct error *e)
{
	struct world world;
	VkSemaphore never, both[2];
	const uint64_t values[2] = { 1, 1 };
	VkSemaphoreWaitInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
				     .semaphoreCount = 2,
				     .pSemaphores = both,
				     .pValues = values };
	struct vk_batch batch = { .commands = 1, .signals = 1, .signal_value = { 1 } };
	uint64_t start, value;

	TRY(set_up(vk, &world, e));
	TRY(vk_timeline(vk, 0, &never, e));
	batch.command[0] = world.job.command;
	batch.signal[0] = both[1] = world.timeline;
	both[0] = never;
	EXPECT(vkWaitSemaphores(vk->device, &info, 0) == VK_TIMEOUT, e,
	       "a wait for what nobody signals did not time out");
	TRY(vk_submit(vk->queues[0], false, &batch, 1, NULL, e));
	info.flags = VK_SEMAPHORE_WAIT_ANY_BIT;
	VK_TRY(vkWaitSemaphores(vk->device, &info, VK_PATIENCE_NS), e);
	TRY(counter(vk, world.timeline, &value, e));
	EXPECT(value == 1, e, "the counter is %llu after its wait, not 1",
	       (unsigned long long)value);
	TRY(job_check(&world.job, 1, e));
	info.flags = 0;
	start = monotonic_ns();
	EXPECT(vkWaitSemaphores(vk->device, &info, 40000000) == VK_TIMEOUT, e,
	       "a wait for both did not time out");
	EXPECT(monotonic_ns() - start >= 39000000, e, "a time-out of 40 ms came after %.1f ms",
	       (double)(monotonic_ns() - start) / 1e6);
	TRY(signal_value(vk, never, 7, e));
	VK_TRY(vkWaitSemaphores(vk->device, &info, VK_PATIENCE_NS), e);
	return 0;
}

/* The counter only rises, reaches every value, and work is done when it says so. */
static int counter_is_polled(struct vk *vk, struct error *e)
{
	const uint64_t end = monotonic_ns() + VK_PATIENCE_NS;
	uint64_t value = 0, last = 0;
	struct world world;

	TRY(set_up(vk, &world, e));
	for (unsigned i = 0; i < 20; i++) {
		const struct vk_batch batch = { .commands = 1,
						.command = { world.job.command },
						.signals = 1,
						.signal = { world.timeline },
						.signal_value = { i + 1 } };

		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &batch, 1, NULL, e));
	}
	while (value < 20 && monotonic_ns() < end) {
		TRY(counter(vk, world.timeline, &value, e));
		EXPECT(value >= last && value <= 20, e, "the counter went from %llu to %llu",
		       (unsigned long long)last, (unsigned long long)value);
		last = value;
		sleep_ms(1);
	}
	EXPECT(value == 20, e, "the counter stays at %llu", (unsigned long long)value);
	return job_check(&world.job, 20, e);
}

const struct live_test wait_tests[] = {
	{ "work-waits-for-the-host", work_waits_for_the_host },
	{ "work-waits-long-for-the-host", work_waits_long_for_the_host },
	{ "thousands-wait-for-the-host", thousands_wait_for_the_host },
	{ "host-waits-for-work-that-waits", host_waits_for_work_that_waits },
	{ "queue-waits-before-another-signals", queue_waits_before_another_signals },
	{ "another-device-goes-on", another_device_goes_on },
	{ "host-waits-for-any-and-all", host_waits_for_any_and_all },
	{ "counter-is-polled", counter_is_polled },
	{ 0 },
};
