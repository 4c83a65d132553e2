// SPDX-License-Identifier: Apache-2.0
/* What is held (held.h). Handles are found in search(3)'s trees, each by the 64 bits that its entry begins with. */
#include <search.h>
#include <stdlib.h>

#include "vgpu-sched/layer/held.h"

#define NEED_PASSES \
	16 /* of dependencies that run against the order of submission; deeper ones wait for a turn */

struct held_signal {
	struct held_signal *next;
	struct work *work;
};

struct held_fence {
	VkFence handle;
	struct layer_queue *queue;
	uint64_t sequence;
};

static int by_handle(const void *a, const void *b)
{
	const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

_Static_assert(sizeof(VkSemaphore) == sizeof(uint64_t) && sizeof(VkFence) == sizeof(uint64_t),
	       "handles are 64 bits");

/* ---- semaphores ---------------------------------------------------------------------------------- */

struct layer_semaphore *held_semaphore(struct gate *gate, VkSemaphore handle, bool add)
{
	const struct layer_semaphore key = { .handle = handle };
	struct layer_semaphore *fresh, **found = tfind(&key, &gate->semaphores, by_handle);

	if (found)
		return *found;
	fresh = add ? calloc(1, sizeof(*fresh)) : NULL;
	if (!fresh)
		return NULL;
	fresh->handle = handle;
	fresh->last = &fresh->first;
	if (tsearch(fresh, &gate->semaphores, by_handle))
		return fresh;
	free(fresh);
	return NULL;
}

void held_semaphore_forget(struct gate *gate, VkSemaphore handle)
{
	struct layer_semaphore *known = held_semaphore(gate, handle, false);

	if (!known)
		return;
	tdelete(known, &gate->semaphores, by_handle);
	free(known);
}

bool held_signals(struct gate *gate, VkSemaphore handle, uint64_t sequence)
{
	struct layer_semaphore *known = held_semaphore(gate, handle, false);

	return known && known->first && known->first->work->sequence < sequence;
}

/* ---- lists --------------------------------------------------------------------------------------- */

struct adding {
	struct gate *gate;
	struct work *work;
	unsigned count;
};

static bool signal_add(void *opaque, VkSemaphore handle, uint64_t value)
{
	struct adding *adding = opaque;
	struct held_signal *signal = &adding->work->held_signals[adding->count];
	struct layer_semaphore *known = held_semaphore(adding->gate, handle, true);

	if (!known)
		return false;
	signal->next = NULL;
	signal->work = adding->work;
	*known->last = signal;
	known->last = &signal->next;
	known->needed = false;
	adding->count++;
	return true;
}

static bool signal_remove(void *opaque, VkSemaphore handle, uint64_t value)
{
	struct adding *removing = opaque;
	struct layer_semaphore *known = held_semaphore(removing->gate, handle, false);
	struct held_signal **at;

	if (!removing->count) /* it was not added that far */
		return false;
	removing->count--;
	if (!known) /* the program destroyed it */
		return true;
	for (at = &known->first; *at && (*at)->work != removing->work; at = &(*at)->next)
		;
	if (*at) {
		*at = (*at)->next;
		if (!*at)
			known->last = at;
	}
	if (!known->first && !known->timeline && !known->shared)
		held_semaphore_forget(removing->gate, handle);
	return true;
}

static void signals_remove(struct gate *gate, struct work *work, unsigned count)
{
	struct adding removing = { .gate = gate, .work = work, .count = count };

	work_signals(work, signal_remove, &removing);
	free(work->held_signals);
	work->held_signals = NULL;
}

static VkResult signals_add(struct gate *gate, struct work *work)
{
	struct adding adding = { .gate = gate, .work = work };
	const uint32_t count = work_signal_count(work);

	work->held_signals = count ? calloc(count, sizeof(*work->held_signals)) : NULL;
	if (count && !work->held_signals)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	if (work_signals(work, signal_add, &adding))
		return VK_SUCCESS;
	signals_remove(gate, work, adding.count);
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

static VkResult fence_add(struct gate *gate, struct layer_queue *queue, const struct work *work)
{
	struct held_fence *fence;

	if (!work->fence)
		return VK_SUCCESS;
	fence = calloc(1, sizeof(*fence));
	if (!fence)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	*fence = (struct held_fence){ .handle = work->fence,
				      .queue = queue,
				      .sequence = work->sequence };
	/* One that is pending already is not allowed; the earlier one stays. */
	if (tsearch(fence, &gate->fences, by_handle) &&
	    *(struct held_fence **)tfind(fence, &gate->fences, by_handle) == fence)
		return VK_SUCCESS;
	free(fence);
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

static void fence_remove(struct gate *gate, const struct work *work)
{
	const struct held_fence key = { .handle = work->fence };
	struct held_fence **found = tfind(&key, &gate->fences, by_handle), *fence;

	if (!found || (*found)->sequence != work->sequence)
		return;
	fence = *found;
	tdelete(&key, &gate->fences, by_handle);
	free(fence);
}

uint64_t held_fence(struct gate *gate, VkFence handle, struct layer_queue **queue)
{
	const struct held_fence key = { .handle = handle };
	struct held_fence **found = tfind(&key, &gate->fences, by_handle);

	if (!found)
		return 0;
	*queue = (*found)->queue;
	return (*found)->sequence;
}

VkResult held_add(struct gate *gate, struct layer_queue *queue, struct work *work)
{
	VkResult result = fence_add(gate, queue, work);

	if (result)
		return result;
	result = signals_add(gate, work);
	if (result) {
		fence_remove(gate, work);
		return result;
	}
	work->next = NULL;
	*queue->last = work;
	queue->last = &work->next;
	atomic_fetch_add(&gate->held_bytes, work->size);
	atomic_fetch_add(&gate->held, 1);
	return VK_SUCCESS;
}

struct work *held_remove(struct gate *gate, struct layer_queue *queue)
{
	struct work *work = queue->first;

	queue->first = work->next;
	if (!queue->first)
		queue->last = &queue->first;
	signals_remove(gate, work, UINT32_MAX);
	fence_remove(gate, work);
	atomic_fetch_sub(&gate->held_bytes, work->size);
	atomic_fetch_sub(&gate->held, 1);
	return work;
}

void held_destroy(struct gate *gate)
{
	for (unsigned i = 0; i < gate->queue_count; i++)
		while (gate->queues[i].first)
			free(held_remove(gate, &gate->queues[i]));
	tdestroy(gate->semaphores, free);
	tdestroy(gate->fences, free);
	gate->semaphores = gate->fences = NULL;
}

/* ---- what may go without a turn ------------------------------------------------------------------------- */

struct needing {
	struct gate *gate;
	uint64_t sequence; /* of who waits */
	bool more;
};

static bool signals_needed(void *opaque, VkSemaphore handle, uint64_t value)
{
	struct needing *needing = opaque;
	struct layer_semaphore *known = held_semaphore(needing->gate, handle, false);

	if (!known || known->needed)
		return true;
	/* A timeline's signal may be submitted after its wait, a binary one's not. */
	for (struct held_signal *signal = known->first;
	     signal && (known->timeline || signal->work->sequence < needing->sequence);
	     signal = signal->next) {
		needing->more |= !signal->work->needed;
		signal->work->needed = true;
	}
	known->needed = known->timeline;
	return true;
}

/* All before the last needed one of a queue, and who signals what they wait for. */
static bool needed_by_queue(struct gate *gate, struct layer_queue *queue)
{
	struct needing needing = { .gate = gate };
	struct work *last = NULL;

	for (struct work *work = queue->first; work; work = work->next)
		if (work->needed)
			last = work;
	for (struct work *work = last ? queue->first : NULL; work; work = work->next) {
		if (!work->followed) {
			work->needed = work->followed = true;
			needing.sequence = work->sequence;
			work_waits(work, signals_needed, &needing);
		}
		if (work == last)
			break;
	}
	return needing.more;
}

static void follow(struct gate *gate)
{
	bool more = true;

	for (unsigned pass = 0; pass < NEED_PASSES && more; pass++) {
		more = false;
		for (unsigned i = 0; i < gate->queue_count; i++)
			more |= needed_by_queue(gate, &gate->queues[i]);
	}
}

void held_need(struct gate *gate, struct layer_queue *queue, uint64_t sequence)
{
	for (struct work *work = queue->first; work && work->sequence <= sequence;
	     work = work->next)
		work->needed = true;
	follow(gate);
}

void held_need_signals(struct gate *gate, VkSemaphore semaphore, uint64_t sequence)
{
	struct needing needing = { .gate = gate, .sequence = sequence };

	signals_needed(&needing, semaphore, 0);
	follow(gate);
}
