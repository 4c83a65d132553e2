/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A unit of work for a queue: one batch of a submit, one sparse bind, or a fence alone; copied, so that its caller's memory is
 * no longer needed. Private to vgpu-sched/layer/.
 *
 * Every submit becomes a VkSubmitInfo2. It has room for what the meter adds: a command buffer before and one after, a signal.
 */
#ifndef VGPU_SCHED_LAYER_WORK_H
#define VGPU_SCHED_LAYER_WORK_H

#include "vgpu-sched/layer/layer.h"

enum work_kind {
	WORK_SUBMIT, /* @submit */
	WORK_SPARSE, /* @bind */
	WORK_FENCE,  /* neither: @fence alone, which covers all before it */
};

struct held_signal;

struct work {
	struct work *next;
	uint64_t sequence;		  /* order of arrival in the device */
	size_t size;			  /* bytes, with what it points to */
	struct held_signal *held_signals; /* held.c: one for each signal */
	bool needed;			  /* held.c: may go without a turn */
	bool followed;			  /* held.c: and so may what it depends on */
	bool issuing;			  /* what is beneath is being called with it */
	enum work_kind kind;
	bool uncopied; /* a structure in its pNext chain is unknown and still the caller's */
	VkFence fence; /* or VK_NULL_HANDLE */
	union {
		struct {
			VkSubmitInfo2 submit;
			VkCommandBufferSubmitInfo
				*commands;		/* submit's; [-1] and one more are free */
			VkSemaphoreSubmitInfo *signals; /* submit's; one more is free */
		};
		VkBindSparseInfo bind;
	};
};

/*
 * work_of_submit(), work_of_submit2(), work_of_bind() - one batch as work.
 * @memory: aligned for any type; NULL: only say how much is needed
 * @room: bytes of it
 *
 * The copy lies in @memory from its start. Returns the bytes needed; nothing is written when that is more than @room.
 */
size_t work_of_submit(void *memory, size_t room, const VkSubmitInfo *batch);
size_t work_of_submit2(void *memory, size_t room, const VkSubmitInfo2 *batch);
size_t work_of_bind(void *memory, size_t room, const VkBindSparseInfo *bind);

/* work_signal_count() - how many semaphores it signals. */
uint32_t work_signal_count(const struct work *work);

/* work_runs() - whether it uses the GPU's engines, so that it needs a turn. */
bool work_runs(const struct work *work);

/*
 * work_waits(), work_signals() - its semaphores.
 * Each calls @each with a semaphore and its value (0 for binary ones) until that returns false. Return false then.
 */
bool work_waits(const struct work *work, bool (*each)(void *opaque, VkSemaphore, uint64_t value),
		void *opaque);
bool work_signals(const struct work *work, bool (*each)(void *opaque, VkSemaphore, uint64_t value),
		  void *opaque);

#endif
