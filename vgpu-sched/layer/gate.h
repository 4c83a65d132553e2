/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of a device: what is submitted waits here for the vGPU's turn, in order, and its callers do not. Private to
 * vgpu-sched/layer/.
 *
 * A submit whose queue holds nothing back, and that may run now, is issued at once by its caller (no copy that is kept, no system
 * call to the arbiter). Everything else is copied into its queue's list, and the gate's issuer issues it when its turn has come. A
 * reaper for each queue that is used sees what was issued complete, and books what it took. (One thread for all would have to
 * wait for any of several semaphores, and where timelines are emulated Mesa does that by looking again and again.)
 *
 * Locks, in order: a queue's (who has it may call what is beneath with that queue), then the gate's (everything else; nobody who
 * has it waits for anything).
 *
 * gate.c: the rules of who may go. issue.c: issuer and callers. reap.c: what came of it.
 */
#ifndef VGPU_SCHED_LAYER_GATE_H
#define VGPU_SCHED_LAYER_GATE_H

#include "vgpu-sched/layer/chain.h"
#include "vgpu-sched/layer/measure.h"
#include "vgpu-sched/layer/work.h"

#define GATE_HELD_MAX	    1024 /* works; beyond, callers wait for room */
#define GATE_HELD_BYTES_MAX (64 * MIB)

struct layer_queue {
	VkQueue handle;
	struct layer_device *device;
	uint32_t family;
	enum sched_engine engine;
	pthread_mutex_t lock;
	struct work *scratch; /* under the queue's lock: where a work is made */
	size_t scratch_size;
	/* Under the gate's lock: */
	bool metered; /* from its first submit on: there is a meter and a reaper */
	struct meter meter;
	pthread_t reaper;
	pthread_cond_t reap; /* something is in flight, while the reaper is parked */
	bool parked;
	struct work *first, **last; /* held, in the order of submission */
};

/* The vGPU's turn on an engine, as far as this device is concerned. */
struct turn {
	uint64_t grant;	       /* whose use @used_ns is */
	uint64_t used_ns;      /* measured */
	uint64_t predicted_ns; /* in flight, as expected */
	unsigned in_flight;    /* batches issued under a turn */
	struct intervals busy;
};

struct gate {
	struct layer_device *device;
	bool timestamps;
	pthread_mutex_t lock;
	pthread_cond_t progress; /* something was issued, or the device is lost */
	pthread_t issuer;
	_Atomic bool lost, stop;
	_Atomic bool
		stuck; /* lost because what was issued did not end: it may still use what it was given */
	_Atomic unsigned held; /* works in lists */
	_Atomic size_t held_bytes;
	uint64_t sequence;	  /* of the youngest work */
	uint64_t forced_sequence; /* up to here without a turn: a caller was held long enough */
	struct turn turns[SCHED_ENGINES];
	struct device_clock clock;
	void *semaphores; /* struct layer_semaphore, by handle */
	unsigned queue_count;
	struct layer_queue queues[LAYER_QUEUES_MAX];
};

/* What has to be known of a semaphore. Binary ones are here from when they are exported only. */
struct layer_semaphore {
	VkSemaphore handle;
	bool timeline, exported;
	uint64_t issued; /* timeline: what it will reach by what was issued */
};

/*
 * gate_create() - for a device that has just been made, with the queues that it was made with.
 * Returns VK_SUCCESS or VK_ERROR_*; *out is NULL then, and nothing is left.
 */
VkResult gate_create(struct layer_device *device, const struct device_chain *chain,
		     struct gate **out);
/* gate_destroy() - drops what is held, waits for what was issued (not for ever), ends the threads. NULL is fine. */
void gate_destroy(struct gate *gate);

/* gate_queue() - NULL: not one of the device's. */
struct layer_queue *gate_queue(struct gate *gate, VkQueue handle);

/* gate_lose() - from now on the device is lost to the program. @why: for people. Any thread, with or without locks. */
void gate_lose(struct gate *gate, const char *why);

/* ---- gate.c: who may go. Under the gate's lock. ---------------------------------------------------- */

/* gate_semaphore() - what is known of @handle, or NULL. @add: make it known; NULL then is out of memory. */
struct layer_semaphore *gate_semaphore(struct gate *gate, VkSemaphore handle, bool add);
void gate_semaphore_forget(struct gate *gate, VkSemaphore handle);

/*
 * gate_ready() - whether all that @work waits for has been issued: what it then still waits for comes to pass by itself.
 * @sequence: its own, or that which it would have
 */
bool gate_ready(struct gate *gate, const struct work *work, uint64_t sequence);
/* gate_may_run() - the vGPU has the turn on @engine, and room in it for one more batch that takes @expected_ns. */
bool gate_may_run(struct gate *gate, enum sched_engine engine, uint64_t expected_ns);
/* gate_turns() - ask for turns and give them back, as what is held and in flight demands, once gate_next() says NULL. */
void gate_turns(struct gate *gate);

/* ---- issue.c -------------------------------------------------------------------------------------- */

/*
 * gate_make_room() - wait while too much is held, at most LAYER_HOLD_MAX_NS before what is held goes without a turn.
 * No lock is held. Returns VK_SUCCESS or VK_ERROR_DEVICE_LOST.
 */
VkResult gate_make_room(struct gate *gate);
/*
 * gate_submit() - issue the work in @queue->scratch, or hold it; the scratch is gone then.
 * @stay: the caller has to gate_wait_issued() so far, with force, before it returns; 0: it need not
 *
 * The queue's lock is held. Returns VK_SUCCESS: it was issued, or will be; else nothing happened.
 */
VkResult gate_submit(struct layer_queue *queue, uint64_t *stay);
/*
 * gate_wait_issued() - until nothing up to @sequence is held.
 * @force: after LAYER_HOLD_MAX_NS without a turn; what it uses then is charged as debt
 * @until_ns: CLOCK_MONOTONIC
 *
 * No lock is held. Returns VK_SUCCESS, VK_TIMEOUT or VK_ERROR_DEVICE_LOST.
 */
VkResult gate_wait_issued(struct gate *gate, uint64_t sequence, bool force, uint64_t until_ns);
/* gate_sequence() - of the youngest work of @queue that is held; 0: nothing is. NULL: of all queues. No lock is held. */
uint64_t gate_sequence(struct gate *gate, const struct layer_queue *queue);
/* gate_next() - the queue of the oldest held work that may go, or NULL; @forced: without a turn. The gate's lock is held. */
struct layer_queue *gate_next(struct gate *gate, bool *forced);
void *gate_issuer(void *gate);

/* ---- reap.c --------------------------------------------------------------------------------------- */

/*
 * gate_reaper_start() - from the first submit on a queue is measured. Its lock is held. Nothing is left when it fails.
 * gate_reaper_stop() - all that was issued is done, or the device is lost. No lock is held.
 */
VkResult gate_reaper_start(struct layer_queue *queue);
void gate_reaper_stop(struct layer_queue *queue);
/* gate_wait_done() - until all that was issued on @queue is done. VK_SUCCESS or VK_ERROR_DEVICE_LOST. No lock is held. */
VkResult gate_wait_done(struct layer_queue *queue);

#endif
