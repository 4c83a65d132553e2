// SPDX-License-Identifier: Apache-2.0
/*
 * Through the gate (gate.h): callers issue at once where they may; the issuer issues what was held, the oldest first of those
 * that may go.
 *
 * Only the issuer takes works off the lists.
 */
#include <stdlib.h>

#include "vgpu-sched/layer/held.h"

#define POLL_NS (1 * UINT64_C(1000000)) /* something waits for a semaphore of another process */

/* Nothing is issued any more. */
static bool ends(const struct gate *gate)
{
	return atomic_load(&gate->lost) || atomic_load(&gate->stop);
}

static VkResult call(struct layer_queue *queue, const struct work *work)
{
	const struct device_next *next = &queue->device->next;

	switch (work->kind) {
	case WORK_SPARSE:
		return next->QueueBindSparse(queue->handle, 1, &work->bind, work->fence);
	case WORK_SUBMIT:
		return next->QueueSubmit2(queue->handle, 1, &work->submit, work->fence);
	default:
		return next->QueueSubmit2(queue->handle, 0, NULL, work->fence);
	}
}

static bool signal_issued(void *gate, VkSemaphore semaphore, uint64_t value)
{
	struct layer_semaphore *known = held_semaphore(gate, semaphore, false);

	if (known && known->timeline)
		known->issued = MAX(known->issued, value);
	return true;
}

/* What runs is measured, and counts under the turn if it has one. */
static void book(struct gate *gate, struct layer_queue *queue, struct work *work, bool forced)
{
	struct turn *turn = &gate->turns[queue->engine];

	if (forced) {
		turn->forced++;
	} else {
		turn->progress_ns = monotonic_ns();
		turn->predicted_ns += queue->meter.expected_ns;
		turn->in_flight++;
	}
	meter_add(&queue->meter, work, forced);
	if (queue->parked)
		pthread_cond_signal(&queue->reap);
}

static void unbook(struct gate *gate, struct layer_queue *queue, uint64_t expected_ns, bool forced)
{
	struct turn *turn = &gate->turns[queue->engine];

	meter_remove(&queue->meter);
	if (forced) {
		turn->forced--;
		return;
	}
	turn->predicted_ns -= expected_ns;
	turn->in_flight--;
}

/* The gate's lock is held, let go while what is beneath is called, and held again. */
static VkResult issue(struct gate *gate, struct layer_queue *queue, struct work *work, bool forced)
{
	const bool runs = work_runs(work);
	const uint64_t expected_ns = queue->meter.expected_ns;
	VkResult result;

	if (runs)
		book(gate, queue, work, forced);
	work->issuing = true;
	pthread_mutex_unlock(&gate->lock);
	result = call(queue, work);
	pthread_mutex_lock(&gate->lock);
	if (!result)
		work_signals(work, signal_issued, gate);
	else if (runs)
		unbook(gate, queue, expected_ns, forced);
	return result;
}

/* ---- callers --------------------------------------------------------------------------------------- */

static bool is_full(const struct gate *gate)
{
	return atomic_load(&gate->held) >= GATE_HELD_SOFT ||
	       atomic_load(&gate->held_bytes) >= GATE_HELD_BYTES_SOFT;
}

/* Some of what is held waits for its turn only. Where all waits for semaphores, it may be this caller who is to signal them. */
static bool moves(struct gate *gate)
{
	for (unsigned i = 0; i < gate->queue_count; i++) {
		const struct work *head = gate->queues[i].first;

		if (head && gate_ready(gate, head, head->sequence))
			return true;
	}
	return false;
}

VkResult gate_make_room(struct gate *gate, uint32_t count)
{
	if (is_full(gate)) {
		const uint64_t until = monotonic_ns() + LAYER_HOLD_MAX_NS;

		pthread_mutex_lock(&gate->lock);
		while (is_full(gate) && moves(gate) && !atomic_load(&gate->lost) &&
		       monotonic_ns() < until)
			gate_wait_progress(gate, until);
		pthread_mutex_unlock(&gate->lock);
	}
	return count > GATE_HELD_MAX || atomic_load(&gate->held) > GATE_HELD_MAX - count ||
			       atomic_load(&gate->held_bytes) > GATE_HELD_BYTES_MAX
		       ? VK_ERROR_OUT_OF_HOST_MEMORY
		       : VK_SUCCESS;
}

static bool is_not_shared(void *gate, VkSemaphore semaphore, uint64_t value)
{
	const struct layer_semaphore *known = held_semaphore(gate, semaphore, false);

	return !known || known->timeline || !known->shared;
}

/* The gate's lock is held. */
static VkResult hold(struct gate *gate, struct layer_queue *queue, uint64_t *stay)
{
	struct work *work = queue->scratch;
	VkResult result;

	work->sequence = ++gate->sequence;
	result = held_add(gate, queue, work);
	if (result)
		return result;
	queue->scratch = NULL;
	queue->scratch_size = 0;
	/* What it points to is the caller's; others may only wait for what is issued. */
	if (work->uncopied || !work_signals(work, is_not_shared, gate))
		*stay = work->sequence;
	live_worker_wake(&gate->device->worker);
	return VK_SUCCESS;
}

VkResult gate_submit(struct layer_queue *queue, uint64_t *stay)
{
	struct gate *gate = queue->device->gate;
	VkResult result = VK_SUCCESS;
	bool forced;

	*stay = 0;
	pthread_mutex_lock(&gate->lock);
	if (ends(gate)) {
		result = VK_ERROR_DEVICE_LOST;
	} else if (!queue->first &&
		   gate_may_go(gate, queue, queue->scratch, gate->sequence + 1, &forced)) {
		gate->sequence++;
		result = issue(gate, queue, queue->scratch, forced);
		/* It may be what something held waits for. */
		if (atomic_load(&gate->held))
			live_worker_wake(&gate->device->worker);
	} else {
		result = hold(gate, queue, stay);
	}
	pthread_mutex_unlock(&gate->lock);
	return result;
}

uint64_t gate_last_held(struct layer_queue *queue)
{
	struct gate *gate = queue->device->gate;
	uint64_t sequence = 0;

	if (!atomic_load(&gate->held))
		return 0;
	pthread_mutex_lock(&gate->lock);
	if (queue->first)
		sequence = container_of(queue->last, struct work, next)->sequence;
	pthread_mutex_unlock(&gate->lock);
	return sequence;
}

VkResult gate_wait_issued(struct layer_queue *queue, uint64_t sequence, bool force,
			  uint64_t until_ns)
{
	struct gate *gate = queue->device->gate;
	uint64_t force_ns = force ? monotonic_ns() + LAYER_HOLD_MAX_NS : UINT64_MAX;
	VkResult result = VK_SUCCESS;

	pthread_mutex_lock(&gate->lock);
	while (queue->first && queue->first->sequence <= sequence) {
		const uint64_t now = monotonic_ns();

		if (now >= until_ns) {
			result = VK_TIMEOUT;
			break;
		}
		if (now >= force_ns) {
			force_ns = UINT64_MAX;
			held_need(gate, queue, sequence);
			live_worker_wake(&gate->device->worker);
		}
		gate_wait_progress(gate, MIN(MIN(until_ns, force_ns), now + LIVE_LOOK_NS));
	}
	pthread_mutex_unlock(&gate->lock);
	return result;
}

static bool any_signalled_by_held(struct gate *gate, uint32_t count, const VkSemaphore *semaphores,
				  uint64_t sequence)
{
	for (uint32_t i = 0; i < count; i++)
		if (held_signals(gate, semaphores[i], sequence))
			return true;
	return false;
}

void gate_wait_signals(struct gate *gate, uint32_t count, const VkSemaphore *semaphores)
{
	uint64_t force_ns = monotonic_ns() + LAYER_HOLD_MAX_NS, sequence;

	if (!atomic_load(&gate->held))
		return;
	pthread_mutex_lock(&gate->lock);
	sequence = gate->sequence + 1;
	while (any_signalled_by_held(gate, count, semaphores, sequence)) {
		const uint64_t now = monotonic_ns();

		if (now >= force_ns) {
			force_ns = UINT64_MAX;
			for (uint32_t i = 0; i < count; i++)
				held_need_signals(gate, semaphores[i], sequence);
			live_worker_wake(&gate->device->worker);
		}
		gate_wait_progress(gate, MIN(force_ns, now + LIVE_LOOK_NS));
	}
	pthread_mutex_unlock(&gate->lock);
}

void gate_wait_any(struct gate *gate, uint64_t until_ns)
{
	pthread_mutex_lock(&gate->lock);
	gate_wait_progress(gate, until_ns);
	pthread_mutex_unlock(&gate->lock);
}

/* ---- the issuer -------------------------------------------------------------------------------------- */

/* The queue's lock is held, and the gate's. It counts as held until what is beneath has it. */
static void issue_first(struct gate *gate, struct layer_queue *queue, bool forced)
{
	VkResult result = issue(gate, queue, queue->first, forced);

	free(held_remove(gate, queue));
	/* Its caller was told long ago that all was well. */
	if (result)
		gate_lose(gate, "a submit that had waited for its turn failed",
			  result == VK_ERROR_DEVICE_LOST);
	pthread_cond_broadcast(&gate->progress);
}

static void issue_all(struct gate *gate)
{
	struct layer_queue *queue;
	bool forced;

	while (!ends(gate) && (queue = gate_next(gate, &forced))) {
		pthread_mutex_unlock(&gate->lock);
		pthread_mutex_lock(&queue->lock);
		pthread_mutex_lock(&gate->lock);
		/* The turn may have gone meanwhile, and the device. */
		if (!ends(gate) &&
		    gate_may_go(gate, queue, queue->first, queue->first->sequence, &forced))
			issue_first(gate, queue, forced);
		pthread_mutex_unlock(&queue->lock);
	}
}

/* Something is held for a semaphore that this process may never hear of, or for a standstill to end: it is looked at. */
static bool has_to_look(struct gate *gate)
{
	for (unsigned i = 0; i < gate->queue_count; i++) {
		const struct work *head = gate->queues[i].first;

		if (head && (head->needed || !gate_ready(gate, head, head->sequence)))
			return true;
	}
	return false;
}

/* What was forced is told without the lock: the arbiter may take its time. */
static void tell_forced(struct gate *gate)
{
	uint64_t forced_ns[SCHED_ENGINES];

	pthread_mutex_lock(&gate->lock);
	for (unsigned i = 0; i < SCHED_ENGINES; i++) {
		forced_ns[i] = gate->turns[i].forced_ns;
		gate->turns[i].forced_ns = 0;
	}
	pthread_mutex_unlock(&gate->lock);
	for (unsigned i = 0; i < SCHED_ENGINES; i++)
		if (forced_ns[i] &&
		    live_worker_forced(&gate->device->worker, (enum sched_engine)i, forced_ns[i]))
			gate_lose(gate, "the arbiter is gone", false);
}

void *gate_issuer(void *opaque)
{
	struct gate *gate = opaque;
	struct live_worker *worker = &gate->device->worker;
	uint64_t looked_ns = monotonic_ns();

	while (!atomic_load(&gate->stop)) {
		const uint32_t seen = live_worker_wake_count(worker);
		uint64_t sleep_ns = LIVE_LOOK_NS;

		if (monotonic_ns() - looked_ns >= LIVE_LOOK_NS) {
			looked_ns = monotonic_ns();
			if (live_worker_connected(worker))
				gate_lose(gate, "the arbiter is gone", false);
		}
		if (atomic_load(&gate->lost)) {
			gate_bury(gate);
		} else {
			tell_forced(gate);
			pthread_mutex_lock(&gate->lock);
			issue_all(gate);
			gate_turns(gate);
			if (has_to_look(gate))
				sleep_ns = POLL_NS;
			pthread_mutex_unlock(&gate->lock);
		}
		live_worker_sleep(worker, seen, sleep_ns);
	}
	tell_forced(gate);
	return NULL;
}
