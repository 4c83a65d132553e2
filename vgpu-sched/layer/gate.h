/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of a device: what is submitted waits here for the vGPU's turn, in order, and its callers do not. Private to
 * vgpu-sched/layer/.
 *
 * A submit whose queue holds nothing back, and that may run now, is issued at once by its caller (no copy that is kept, no system
 * call to the arbiter). Everything else is held (held.h), and the gate's issuer issues it when its turn has come. A reaper for each
 * queue that is used sees what was issued complete, and books what it took. (One thread for all would have to wait for any of
 * several semaphores, and where timelines are emulated Mesa does that by looking again and again.)
 *
 * Locks, in order: a queue's (who has it may call what is beneath with that queue), then the gate's (everything else; nobody who
 * has it waits for anything).
 *
 * gate.c: the rules of who may go. issue.c: callers and issuer. reap.c: what came of it. lose.c: a device that is lost.
 */
#ifndef VGPU_SCHED_LAYER_GATE_H
#define VGPU_SCHED_LAYER_GATE_H

#include "vgpu-sched/layer/chain.h"
#include "vgpu-sched/layer/measure.h"
#include "vgpu-sched/layer/work.h"

/* Beyond the first of each a submit is held for up to LAYER_HOLD_MAX_NS; beyond the second it is refused. */
#define GATE_HELD_SOFT	     1024 /* works */
#define GATE_HELD_MAX	     4096
#define GATE_HELD_BYTES_SOFT (16 * MIB)
#define GATE_HELD_BYTES_MAX  (64 * MIB)
#define GATE_WORK_BYTES_MAX  (1 * MIB)

struct layer_queue {
	VkQueue handle;
	struct layer_device *device;
	uint32_t family;
	unsigned timestamp_bits; /* 0: by the CPU's clock */
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
	uint64_t progress_ns;  /* when one was last issued or done */
	unsigned
		forced; /* batches in flight without one: one at a time, so that the allowance is kept */
	uint64_t forced_ns; /* used without one, and not told yet */
	struct intervals busy;
};

struct gate {
	struct gate *next; /* of those that exit() ends */
	bool ended;	   /* its threads have */
	struct layer_device *device;
	pthread_mutex_t lock;
	pthread_cond_t progress; /* something was issued, dropped, or the device is dead */
	pthread_t issuer;
	/*
	 * Lost: nothing is issued any more. Dead: and nothing that was issued runs any more, so that the program may be told and
	 * destroy what it used.
	 */
	_Atomic bool lost, dead, stop;
	_Atomic bool
		driver_lost; /* what is beneath has lost it: nothing more is heard from there */
	_Atomic bool stuck;  /* what was issued does not end: what it was given stays */
	uint64_t lost_ns;
	_Atomic unsigned held; /* works in lists */
	_Atomic size_t held_bytes;
	uint64_t sequence; /* of the youngest work */
	struct turn turns[SCHED_ENGINES];
	struct device_clock clock;
	void *semaphores, *fences; /* held.c */
	unsigned queue_count;
	struct layer_queue queues[LAYER_QUEUES_MAX];
};

/*
 * gate_create() - for a device that has just been made, with the queues that it was made with.
 * Returns VK_SUCCESS or VK_ERROR_*; *out is NULL then, and nothing is left.
 */
VkResult gate_create(struct layer_device *device, const struct device_chain *chain,
		     struct gate **out);
/* gate_destroy() - drops what is held, waits for what was issued (not for ever), ends the threads. NULL is fine. */
void gate_destroy(struct gate *gate);
/* gate_was_used() - a batch has been through: whatever is beneath has made itself by now is torn down, at exit(), behind the threads here. Any thread. */
void gate_was_used(void);

/* gate_queue() - NULL: not one of the device's. */
struct layer_queue *gate_queue(struct gate *gate, VkQueue handle);

/* ---- gate.c: who may go. Under the gate's lock. ---------------------------------------------------- */

/*
 * gate_may_go() - whether @work, the first of its queue's list or about to be, may be issued now.
 * @sequence: its own, or that which it would have
 * @forced: without a turn
 */
bool gate_may_go(struct gate *gate, const struct layer_queue *queue, const struct work *work,
		 uint64_t sequence, bool *forced);
/* gate_ready() - whether all that @work waits for has been issued: what it then still waits for comes to pass by itself. */
bool gate_ready(struct gate *gate, const struct work *work, uint64_t sequence);
/* gate_next() - the queue of the oldest held work that may go, or NULL. */
struct layer_queue *gate_next(struct gate *gate, bool *forced);
/* gate_turns() - ask for turns and give them back, as what is held and in flight demands, once gate_next() says NULL. */
void gate_turns(struct gate *gate);
/* gate_turns_end() - give back all that there is. */
void gate_turns_end(struct gate *gate);

/* ---- issue.c -------------------------------------------------------------------------------------- */

/*
 * gate_make_room() - wait while much is held, at most LAYER_HOLD_MAX_NS.
 * @count: works that are to come
 * No lock is held. Returns VK_SUCCESS, or VK_ERROR_OUT_OF_HOST_MEMORY: there is no room for so many.
 */
VkResult gate_make_room(struct gate *gate, uint32_t count);
/*
 * gate_submit() - issue the work in @queue->scratch, or hold it; the scratch is gone then.
 * @stay: the caller has to gate_wait_issued() so far, with force, before it returns; 0: it need not
 *
 * The queue's lock is held. Returns VK_SUCCESS: it was issued, or will be; else nothing happened.
 */
VkResult gate_submit(struct layer_queue *queue, uint64_t *stay);
/*
 * gate_wait_issued() - until nothing of @queue up to @sequence is held, because it was issued, or the device is lost.
 * @force: after LAYER_HOLD_MAX_NS it may go without a turn, as far as the vGPU's allowance goes; it is charged as debt
 * @until_ns: CLOCK_MONOTONIC
 *
 * No lock is held. Returns VK_SUCCESS, or VK_TIMEOUT.
 */
VkResult gate_wait_issued(struct layer_queue *queue, uint64_t sequence, bool force,
			  uint64_t until_ns);
/* gate_wait_signals() - until no held work signals any of @semaphores; as gate_wait_issued() with force. */
void gate_wait_signals(struct gate *gate, uint32_t count, const VkSemaphore *semaphores);
/* gate_wait_any() - until something is issued, at most until @until_ns. No lock is held. */
void gate_wait_any(struct gate *gate, uint64_t until_ns);
/* gate_last_held() - the sequence of the youngest work of @queue that is held; 0: nothing is. No lock is held. */
uint64_t gate_last_held(struct layer_queue *queue);
void *gate_issuer(void *gate);

/* ---- reap.c --------------------------------------------------------------------------------------- */

/*
 * gate_reaper_start() - from the first submit on a queue is measured. Its lock is held. Nothing is left when it fails.
 * gate_reaper_stop() - all that was issued is done, or the device is lost. No lock is held.
 */
VkResult gate_reaper_start(struct layer_queue *queue);
void gate_reaper_stop(struct layer_queue *queue);
/* gate_wait_done() - until all batches that were issued on @queue are done. VK_SUCCESS or an error. No lock is held. */
VkResult gate_wait_done(struct layer_queue *queue);

/* ---- lose.c --------------------------------------------------------------------------------------- */

/*
 * gate_lose() - from now on the device is lost.
 * @why: for people
 * @driver: what is beneath says so
 * Any thread, with or without locks.
 */
void gate_lose(struct gate *gate, const char *why, bool driver);
/* gate_bury() - drop what is held, and find out whether what was issued has ended. The issuer, once the device is lost; no lock is held. */
void gate_bury(struct gate *gate);
/* gate_is_dead() - what every hook that can says to the program: VK_ERROR_DEVICE_LOST. */
bool gate_is_dead(const struct gate *gate);
/* gate_wait_dead() - the program is to be told next. No lock is held. Returns VK_ERROR_DEVICE_LOST. */
VkResult gate_wait_dead(struct gate *gate);

/* The condition that @progress is, with a time-out of CLOCK_MONOTONIC; the gate's lock is held. */
void gate_wait_progress(struct gate *gate, uint64_t until_ns);

#endif
