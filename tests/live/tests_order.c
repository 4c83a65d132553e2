// SPDX-License-Identifier: Apache-2.0
/*
 * Order: what was submitted runs once, in the order that queue and semaphores give. A job that runs again steps on from where it
 * is, so its lanes tell how often it ran.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/live/job.h"
#include "tests/live/vkload.h"

#define GROUPS	   8
#define ITERATIONS 20000

struct world {
	struct vk *vk;
	struct job_kind kind;
	struct job job;
	VkFence fence;
};

static int set_up(struct vk *vk, struct world *world, struct error *e)
{
	world->vk = vk;
	TRY(job_kind_create(vk, 16, &world->kind, e));
	TRY(job_create(&world->kind, GROUPS, ITERATIONS, &world->job, e));
	return vk_fence(vk, &world->fence, e);
}

/* The same job in each of several batches of one call; binary semaphores are all that orders them. */
static int batches_in_one_call(struct vk *vk, bool two, struct error *e)
{
	struct vk_batch batches[VK_BATCHES_MAX] = { 0 };
	struct world world;

	TRY(set_up(vk, &world, e));
	for (unsigned i = 0; i < VK_BATCHES_MAX; i++) {
		struct vk_batch *batch = &batches[i];

		batch->commands = 1;
		batch->command[0] = world.job.unordered;
		if (i) {
			batch->waits = 1;
			batch->wait[0] = batches[i - 1].signal[0];
		}
		if (i + 1 < VK_BATCHES_MAX) {
			batch->signals = 1;
			TRY(vk_binary(vk, NULL, &batch->signal[0], e));
		}
	}
	TRY(vk_submit(vk->queues[0], two, batches, VK_BATCHES_MAX, world.fence, e));
	TRY(vk_wait(vk, world.fence, e));
	return job_check(&world.job, VK_BATCHES_MAX, e);
}

static int batches_by_semaphores_submit(struct vk *vk, struct error *e)
{
	return batches_in_one_call(vk, false, e);
}

static int batches_by_semaphores_submit2(struct vk *vk, struct error *e)
{
	if (!vk->submit2)
		return error_set(e, ENOTSUP, "left-out", NULL, "no synchronization2");
	return batches_in_one_call(vk, true, e);
}

/* Far more submissions than anybody keeps in flight, none of them waited for but the last. */
static int many_in_a_row(struct vk *vk, struct error *e)
{
	struct world world;

	TRY(set_up(vk, &world, e));
	world.job.iterations = 100;
	TRY(job_record(&world.kind, &world.job, world.job.buffer, e));
	for (unsigned i = 0; i < 500; i++) {
		const struct vk_batch batch = { .commands = 1, .command = { world.job.command } };

		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &batch, 1,
			      i == 499 ? world.fence : NULL, e));
	}
	TRY(vk_wait(vk, world.fence, e));
	return job_check(&world.job, 500, e);
}

/* Several command buffers in a batch, several batches in a call, all of the same job. */
static int command_buffers_in_a_batch(struct vk *vk, struct error *e)
{
	struct vk_batch batches[3] = { 0 };
	struct world world;

	TRY(set_up(vk, &world, e));
	for (unsigned i = 0; i < ARRAY_SIZE(batches); i++) {
		batches[i].commands = VK_BATCH_SEMAPHORES;
		for (unsigned j = 0; j < VK_BATCH_SEMAPHORES; j++)
			batches[i].command[j] = world.job.command;
	}
	for (unsigned two = 0; two < (vk->submit2 ? 2u : 1u); two++) {
		TRY(vk_submit(vk->queues[0], two, batches, ARRAY_SIZE(batches), world.fence, e));
		TRY(vk_wait(vk, world.fence, e));
		VK_TRY(vkResetFences(vk->device, 1, &world.fence), e);
		TRY(job_check(&world.job, (two + 1) * ARRAY_SIZE(batches) * VK_BATCH_SEMAPHORES,
			      e));
	}
	return 0;
}

/* An empty submission's fence is behind all that was submitted before it. */
static int empty_submission_is_behind_work(struct vk *vk, struct error *e)
{
	const struct vk_batch empty = { 0 };
	struct world world;

	TRY(set_up(vk, &world, e));
	for (unsigned i = 0; i < 4; i++) {
		const struct vk_batch batch = { .commands = 1, .command = { world.job.command } };
		const bool two = vk->submit2 && i % 2;

		TRY(vk_submit(vk->queues[0], two, &batch, 1, NULL, e));
		/* Without a batch at all, and with one that holds nothing. */
		TRY(vk_submit(vk->queues[0], two, &empty, i / 2, world.fence, e));
		TRY(vk_wait(vk, world.fence, e));
		VK_TRY(vkResetFences(vk->device, 1, &world.fence), e);
		TRY(job_check(&world.job, i + 1, e));
	}
	return 0;
}

/* Nothing but signals and waits, of both kinds, between two submissions of work. */
static int semaphores_without_work(struct vk *vk, struct error *e)
{
	struct vk_batch batches[4] = { 0 };
	VkSemaphore binary, timeline;
	struct world world;

	TRY(set_up(vk, &world, e));
	TRY(vk_binary(vk, NULL, &binary, e));
	TRY(vk_timeline(vk, 0, &timeline, e));
	batches[0] = (struct vk_batch){ .commands = 1,
					.command = { world.job.unordered },
					.signals = 1,
					.signal = { binary } };
	batches[1] = (struct vk_batch){ .waits = 1,
					.wait = { binary },
					.signals = 1,
					.signal = { timeline },
					.signal_value = { 3 } };
	batches[2] = (struct vk_batch){ .waits = 1,
					.wait = { timeline },
					.wait_value = { 3 },
					.signals = 2,
					.signal = { timeline, binary },
					.signal_value = { 5, 0 } };
	batches[3] = (struct vk_batch){ .waits = 2,
					.wait = { binary, timeline },
					.wait_value = { 0, 4 },
					.commands = 1,
					.command = { world.job.unordered } };
	for (unsigned i = 0; i < ARRAY_SIZE(batches); i++)
		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &batches[i], 1,
			      i == 3 ? world.fence : NULL, e));
	TRY(vk_wait(vk, world.fence, e));
	return job_check(&world.job, 2, e);
}

#define THREADS	      8
#define THREAD_ROUNDS 25

struct worker {
	struct vk *vk;
	pthread_mutex_t *lock;
	struct job job;
	VkFence fence;
	unsigned index;
	int err;
	struct error e;
};

static int work(struct worker *worker)
{
	const struct vk_batch batch = { .commands = 1, .command = { worker->job.command } };
	struct vk *vk = worker->vk;

	for (unsigned i = 0; i < THREAD_ROUNDS; i++) {
		int err;

		job_prepare(&worker->job, worker->index * 1000 + i);
		pthread_mutex_lock(worker->lock);
		err = vk_submit(vk->queues[0], vk->submit2 && i % 2, &batch, 1, worker->fence,
				&worker->e);
		pthread_mutex_unlock(worker->lock);
		TRY(err);
		TRY(vk_wait(vk, worker->fence, &worker->e));
		TRY(vk_result(vkResetFences(vk->device, 1, &worker->fence), "vkResetFences",
			      &worker->e));
		TRY(job_check(&worker->job, 1, &worker->e));
	}
	return 0;
}

static void *work_thread(void *arg)
{
	struct worker *worker = arg;

	worker->err = work(worker);
	return NULL;
}

/* A queue used by many threads in turn, each of which waits for its own fences. */
static int threads_share_a_queue(struct vk *vk, struct error *e)
{
	static struct worker workers[THREADS];
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_t threads[THREADS];
	struct job_kind kind;
	int err = 0;

	TRY(job_kind_create(vk, THREADS, &kind, e));
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .vk = vk, .lock = &lock, .index = i };
		TRY(job_create(&kind, GROUPS, ITERATIONS / 10, &workers[i].job, e));
		TRY(vk_fence(vk, &workers[i].fence, e));
	}
	for (unsigned i = 0; i < THREADS; i++)
		if (thread_create(&threads[i], "worker", work_thread, &workers[i]))
			return error_set(e, EAGAIN, "thread", NULL, "no thread");
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < THREADS; i++)
		if (workers[i].err) {
			*e = workers[i].e;
			err = workers[i].err;
		}
	return err;
}

/* What one queue does waits for what another does, back and forth. */
static int queues_wait_for_each_other(struct vk *vk, struct error *e)
{
	VkSemaphore timeline;
	struct world world;

	if (vk->queue_count < 2)
		return error_set(e, ENOTSUP, "left-out", NULL, "one queue only");
	TRY(set_up(vk, &world, e));
	TRY(vk_timeline(vk, 0, &timeline, e));
	for (unsigned i = 0; i < 20; i++) {
		const struct vk_batch batch = { .waits = 1,
						.wait = { timeline },
						.wait_value = { i },
						.commands = 1,
						.command = { world.job.unordered },
						.signals = 1,
						.signal = { timeline },
						.signal_value = { i + 1 } };

		TRY(vk_submit(vk->queues[i % 2], vk->submit2 && i % 3 == 0, &batch, 1,
			      i == 19 ? world.fence : NULL, e));
	}
	TRY(vk_wait(vk, world.fence, e));
	return job_check(&world.job, 20, e);
}

const struct live_test order_tests[] = {
	{ "batches-by-semaphores-submit", batches_by_semaphores_submit },
	{ "batches-by-semaphores-submit2", batches_by_semaphores_submit2 },
	{ "many-in-a-row", many_in_a_row },
	{ "command-buffers-in-a-batch", command_buffers_in_a_batch },
	{ "empty-submission-is-behind-work", empty_submission_is_behind_work },
	{ "semaphores-without-work", semaphores_without_work },
	{ "threads-share-a-queue", threads_share_a_queue },
	{ "queues-wait-for-each-other", queues_wait_for_each_other },
	{ 0 },
};
