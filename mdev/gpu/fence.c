// SPDX-License-Identifier: Apache-2.0
/*
 * fence: answers that are held back until what they stand for is done (VIRTIO 1.2, 5.7.6.7, FLAG_FENCE).
 *
 * A fenced request has been carried out or handed to virglrenderer, and its answer lies in guest memory;
 * only handing back its chain is left. Drivers take the answer of a fence for that of every
 * earlier fence on the same timeline, so one timeline's answers leave in the order of their requests:
 * one that is done waits for those before it. Timelines do not wait for each other.
 *
 * There is a fixed number of places. When none is free a fenced request is refused before it is carried out
 * (command.c).
 */
#include <string.h>

#include "mdev/gpu/gpu.h"

void gpu_fences_init(struct gpu *gpu)
{
	TAILQ_INIT(&gpu->fences_idle);
	TAILQ_INIT(&gpu->fences_waiting);
	for (unsigned i = 0; i < GPU_FENCES_MAX; i++)
		TAILQ_INSERT_TAIL(&gpu->fences_idle, &gpu->fences[i], link);
}

static void release(struct gpu *gpu, struct gpu_fence *fence)
{
	TAILQ_REMOVE(&gpu->fences_waiting, fence, link);
	TAILQ_INSERT_HEAD(&gpu->fences_idle, fence, link);
	gpu->fence_count--;
}

static bool is_first(const struct gpu *gpu, const struct gpu_fence *fence)
{
	const struct gpu_fence *before;

	TAILQ_FOREACH(before, &gpu->fences_waiting, link)
	if (before->timeline == fence->timeline)
		return before == fence;
	return true;
}

/* Hand back what is done and has nothing of its timeline before it. */
static void settle(struct gpu *gpu)
{
	struct gpu_fence *fence = TAILQ_FIRST(&gpu->fences_waiting), *next;

	while (fence) {
		next = TAILQ_NEXT(fence, link);
		if (fence->answered && fence->done && is_first(gpu, fence)) {
			virtio_queue_push_head(&gpu->dev, GPU_CONTROL_QUEUE, fence->head,
					       fence->length);
			release(gpu, fence);
		}
		fence = next;
	}
}

struct gpu_fence *gpu_fence_begin(struct gpu *gpu, uint64_t timeline, uint32_t context)
{
	struct gpu_fence *fence = TAILQ_FIRST(&gpu->fences_idle);

	TAILQ_REMOVE(&gpu->fences_idle, fence, link);
	TAILQ_INSERT_TAIL(&gpu->fences_waiting, fence, link);
	gpu->fence_count++;
	fence->id = ++gpu->fence_next;
	fence->timeline = timeline;
	fence->context = context;
	fence->answered = fence->done = false;
	return fence;
}

void gpu_fence_answer(struct gpu *gpu, struct gpu_fence *fence, uint16_t head, uint32_t length,
		      bool done)
{
	fence->answered = true;
	fence->done |= done;
	fence->head = head;
	fence->length = length;
	settle(gpu);
}

void gpu_fence_retire(struct gpu *gpu, uint64_t id)
{
	struct gpu_fence *fence;

	for (fence = TAILQ_FIRST(&gpu->fences_waiting); fence; fence = TAILQ_NEXT(fence, link))
		if (fence->id == id && !fence->done) {
			fence->done = true;
			settle(gpu);
			return;
		}
}

void gpu_fences_retire_context(struct gpu *gpu, uint32_t context)
{
	struct gpu_fence *fence;

	for (fence = TAILQ_FIRST(&gpu->fences_waiting); fence; fence = TAILQ_NEXT(fence, link))
		fence->done |= fence->context == context;
	settle(gpu);
}

void gpu_fences_drop(struct gpu *gpu)
{
	while (!TAILQ_EMPTY(&gpu->fences_waiting))
		release(gpu, TAILQ_FIRST(&gpu->fences_waiting));
}
