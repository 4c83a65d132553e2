// SPDX-License-Identifier: Apache-2.0
/*
 * Through the gate (gate.h): callers issue at once where they may; the issuer issues what was held, the oldest first of those
 * that may go.
 *
 * Only the issuer takes works off the lists.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/layer/gate.h"

#define POLL_NS (1 * UINT64_C(1000000)) /* something waits for a semaphore of another process */

static bool signal_issued(void *gate, VkSemaphore semaphore, uint64_t value)
{
	struct layer_semaphore *known = gate_semaphore(gate, semaphore, false);

	if (known && known->timeline)
		known->issued = MAX(known->issued, value);
	return true;
}

/* Before it is issued, under the gate's lock. */
static void book(struct gate *gate, struct layer_queue *queue, struct work *work, bool forced)
{
	work_signals(work, signal_issued, gate);
	if (work->kind != WORK_SUBMIT)
		return;
	if (work_runs(work) && !forced) {
		gate->turns[queue->engine].in_flight++;
		gate->turns[queue->engine].predicted_ns += queue->meter.expected_ns;
	}
	meter_add(&queue->meter, work, forced);
	if (queue->parked)
		pthread_cond_signal(&queue->reap);
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

/* The gate's lock is held, let go while what is beneath is called, and held again. */
static VkResult issue(struct gate *gate, struct layer_queue *queue, struct work *work, bool forced)
{
	const bool runs = work_runs(work);
	const uint64_t expected_ns = queue->meter.expected_ns;
	VkResult result;

	book(gate, queue, work, forced);
	pthread_mutex_unlock(&gate->lock);
	result = call(queue, work);
	pthread_mutex_lock(&gate->lock);
	if (result && work->kind == WORK_SUBMIT) {
		meter_remove(&queue->meter);
		if (runs && !forced) {
			gate->turns[queue->engine].in_flight--;
			gate->turns[queue->engine].predicted_ns -= expected_ns;
		}
	}
	return result;
}

/* Whether @work may go through now; the gate's lock is held. @forced: without a turn. */
static bool may_go(struct gate *gate, const struct layer_queue *queue, const struct work *work,
		   uint64_t sequence, bool *forced)
{
	*forced = false;
	if (work->kind == WORK_SUBMIT && meter_full(&queue->meter))
		return false;
	if (sequence <= gate->forced_sequence) {
		*forced = work_runs(work) &&
			  !gate_may_run(gate, queue->engine, queue->meter.expected_ns);
		return true;
	}
	return gate_ready(gate, work, sequence) &&
	       (!work_runs(work) || gate_may_run(gate, queue->engine, queue->meter.expected_ns));
}

/* ---- callers --------------------------------------------------------------------------------------- */

static bool is_not_exported(void *gate, VkSemaphore semaphore, uint64_t value)
{
	const struct layer_semaphore *known = gate_semaphore(gate, semaphore, false);

	return !known || known->timeline || !known->exported;
}

static bool is_full(struct gate *gate)
{
	return atomic_load(&gate->held) >= GATE_HELD_MAX ||
	       atomic_load(&gate->held_bytes) >= GATE_HELD_BYTES_MAX;
}

/* The gate's lock is held. */
static void wait_for_progress(struct gate *gate, uint64_t until_ns)
{
	pthread_cond_timedwait(&gate->progress, &gate->lock,
			       &(struct timespec){ (time_t)(until_ns / NSEC_PER_SEC),
						   (long)(until_ns % NSEC_PER_SEC) });
}

static void force(struct gate *gate, uint64_t sequence)
{
	gate->forced_sequence = MAX(gate->forced_sequence, sequence);
	live_worker_wake(&gate->device->worker);
}

VkResult gate_make_room(struct gate *gate)
{
	uint64_t force_ns;

	if (!is_full(gate))
		return VK_SUCCESS;
	force_ns = monotonic_ns() + LAYER_HOLD_MAX_NS;
	pthread_mutex_lock(&gate->lock);
	while (is_full(gate) && !atomic_load(&gate->lost)) {
		uint64_t now = monotonic_ns();

		if (now >= force_ns) {
			force(gate, gate->sequence);
			force_ns = UINT64_MAX;
		}
		wait_for_progress(gate, MIN(now + LIVE_LOOK_NS, force_ns));
	}
	pthread_mutex_unlock(&gate->lock);
	return atomic_load(&gate->lost) ? VK_ERROR_DEVICE_LOST : VK_SUCCESS;
}

/* The gate's lock is held. */
static void hold(struct gate *gate, struct layer_queue *queue, uint64_t *stay)
{
	struct work *work = queue->scratch;

	queue->scratch = NULL;
	queue->scratch_size = 0;
	work->sequence = ++gate->sequence;
	work->next = NULL;
	*queue->last = work;
	queue->last = &work->next;
	atomic_fetch_add(&gate->held_bytes, work->size);
	atomic_fetch_add(&gate->held, 1);
	/* What it points to is the caller's; others may only wait for what is issued. */
	if (work->uncopied || !work_signals(work, is_not_exported, gate))
		*stay = work->sequence;
	live_worker_wake(&gate->device->worker);
}

VkResult gate_submit(struct layer_queue *queue, uint64_t *stay)
{
	struct gate *gate = queue->device->gate;
	VkResult result = VK_SUCCESS;
	bool forced;

	*stay = 0;
	pthread_mutex_lock(&gate->lock);
	if (atomic_load(&gate->lost)) {
		result = VK_ERROR_DEVICE_LOST;
	} else if (!queue->first &&
		   may_go(gate, queue, queue->scratch, gate->sequence + 1, &forced)) {
		gate->sequence++;
		result = issue(gate, queue, queue->scratch, forced);
	} else {
		hold(gate, queue, stay);
	}
	pthread_mutex_unlock(&gate->lock);
	return result;
}

uint64_t gate_sequence(struct gate *gate, const struct layer_queue *queue)
{
	uint64_t sequence = 0;

	if (!atomic_load(&gate->held))
		return 0;
	pthread_mutex_lock(&gate->lock);
	if (!queue)
		sequence = gate->sequence;
	else if (queue->first)
		sequence = container_of(queue->last, struct work, next)->sequence;
	pthread_mutex_unlock(&gate->lock);
	return sequence;
}

/* The gate's lock is held. */
static bool is_held(const struct gate *gate, uint64_t sequence)
{
	for (unsigned i = 0; i < gate->queue_count; i++)
		if (gate->queues[i].first && gate->queues[i].first->sequence <= sequence)
			return true;
	return false;
}

VkResult gate_wait_issued(struct gate *gate, uint64_t sequence, bool forces, uint64_t until_ns)
{
	uint64_t force_ns = forces ? monotonic_ns() + LAYER_HOLD_MAX_NS : UINT64_MAX;
	VkResult result = VK_SUCCESS;

	pthread_mutex_lock(&gate->lock);
	while (!atomic_load(&gate->lost) && is_held(gate, sequence)) {
		uint64_t now = monotonic_ns();

		if (now >= until_ns) {
			result = VK_TIMEOUT;
			break;
		}
		if (now >= force_ns) {
			force(gate, sequence);
			force_ns = UINT64_MAX;
		}
		wait_for_progress(gate, MIN(MIN(until_ns, force_ns), now + LIVE_LOOK_NS));
	}
	pthread_mutex_unlock(&gate->lock);
	return atomic_load(&gate->lost) ? VK_ERROR_DEVICE_LOST : result;
}

/* ---- the issuer -------------------------------------------------------------------------------------- */

struct layer_queue *gate_next(struct gate *gate, bool *forced)
{
	struct layer_queue *found = NULL;

	for (unsigned i = 0; i < gate->queue_count; i++) {
		struct layer_queue *queue = &gate->queues[i];
		bool without;

		if (queue->first && (!found || queue->first->sequence < found->first->sequence) &&
		    may_go(gate, queue, queue->first, queue->first->sequence, &without)) {
			found = queue;
			*forced = without;
		}
	}
	return found;
}

/* The queue's lock is held, and the gate's. It counts as held until what is beneath has it. */
static void issue_first(struct gate *gate, struct layer_queue *queue, bool forced)
{
	struct work *work = queue->first;
	VkResult result = issue(gate, queue, work, forced);

	queue->first = work->next;
	if (!queue->first)
		queue->last = &queue->first;
	atomic_fetch_sub(&gate->held_bytes, work->size);
	atomic_fetch_sub(&gate->held, 1);
	free(work);
	/* Its caller was told long ago that all was well. */
	if (result)
		gate_lose(gate, "a submit that had waited for its turn failed");
	pthread_cond_broadcast(&gate->progress);
}

static void issue_all(struct gate *gate)
{
	struct layer_queue *queue;
	bool forced;

	while (!atomic_load(&gate->lost) && (queue = gate_next(gate, &forced))) {
		pthread_mutex_unlock(&gate->lock);
		pthread_mutex_lock(&queue->lock);
		pthread_mutex_lock(&gate->lock);
		/* The turn may have gone meanwhile. */
		if (may_go(gate, queue, queue->first, queue->first->sequence, &forced))
			issue_first(gate, queue, forced);
		pthread_mutex_unlock(&queue->lock);
	}
}

/* Something is held for a semaphore that this process may never hear of: it is looked at. */
static bool has_unready(struct gate *gate)
{
	for (unsigned i = 0; i < gate->queue_count; i++) {
		const struct work *head = gate->queues[i].first;

		if (head && !gate_ready(gate, head, head->sequence))
			return true;
	}
	return false;
}

void *gate_issuer(void *opaque)
{
	struct gate *gate = opaque;
	struct live_worker *worker = &gate->device->worker;

	while (!atomic_load(&gate->stop)) {
		const uint32_t seen = live_worker_wake_count(worker);
		uint64_t sleep_ns;

		pthread_mutex_lock(&gate->lock);
		if (!atomic_load(&gate->lost)) {
			issue_all(gate);
			gate_turns(gate);
		}
		sleep_ns = has_unready(gate) ? POLL_NS : LIVE_LOOK_NS;
		pthread_mutex_unlock(&gate->lock);
		if (live_worker_sleep(worker, seen, sleep_ns) == -ETIMEDOUT &&
		    sleep_ns == LIVE_LOOK_NS && live_worker_connected(worker))
			gate_lose(gate, "the arbiter is gone");
	}
	return NULL;
}
