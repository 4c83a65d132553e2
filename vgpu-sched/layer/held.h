/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is held: a list for each queue, and whom it is that others ask about: fences and the semaphores it signals. Private to
 * vgpu-sched/layer/. Everything here under the gate's lock.
 */
#ifndef VGPU_SCHED_LAYER_HELD_H
#define VGPU_SCHED_LAYER_HELD_H

#include "vgpu-sched/layer/gate.h"

/* What has to be known of a semaphore: a timeline, a shared one, one that a held work signals. */
struct layer_semaphore {
	VkSemaphore handle; /* first: what it is found by */
	bool timeline;
	bool shared; /* with another process or device: each signal is issued before its submit returns */
	uint64_t issued; /* timeline: what it will reach by what was issued */
	struct held_signal *first,
		**last; /* held works that signal it, in the order of submission */
	bool needed;	/* timeline: all these may go without a turn */
};

/* held_semaphore() - what is known of @handle, or NULL. @add: make it known; NULL then is out of memory. */
struct layer_semaphore *held_semaphore(struct gate *gate, VkSemaphore handle, bool add);
void held_semaphore_forget(struct gate *gate, VkSemaphore handle);

/*
 * held_add() - @work, with its sequence, becomes the last of @queue's list. VK_ERROR_OUT_OF_HOST_MEMORY: it does not.
 * held_remove() - the first of @queue's list leaves it; it is the caller's.
 */
VkResult held_add(struct gate *gate, struct layer_queue *queue, struct work *work);
struct work *held_remove(struct gate *gate, struct layer_queue *queue);

/* held_fence() - the sequence of the held work that @fence goes with, and its queue; 0: none. */
uint64_t held_fence(struct gate *gate, VkFence fence, struct layer_queue **queue);
/* held_signals() - whether a held work before @sequence signals @handle. */
bool held_signals(struct gate *gate, VkSemaphore handle, uint64_t sequence);

/*
 * held_need() - a caller has waited long enough for the works of @queue up to @sequence, or for those that signal @semaphore: they, and what
 * they depend on, may go without a turn.
 */
void held_need(struct gate *gate, struct layer_queue *queue, uint64_t sequence);
void held_need_signals(struct gate *gate, VkSemaphore semaphore, uint64_t sequence);

void held_destroy(struct gate *gate); /* drops all */

#endif
