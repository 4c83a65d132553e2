// SPDX-License-Identifier: Apache-2.0
/*
 * What came of it (gate.h): the reaper waits for batches to complete and books what they took: under the turn, or, where they had
 * none, as forced.
 */
#include "vgpu-sched/layer/gate.h"

#define SLICE_NS \
	(100 *   \
	 UINT64_C(1000000))  /* of a wait beneath: then it is looked whether the device is lost */
#define PARK_NS NSEC_PER_SEC /* nothing in flight for so long: sleep until something is */
#define END_NS	(5 * NSEC_PER_SEC) /* a device that is destroyed does not wait longer */

/* Returns whether the issuer has to look; the gate's lock is held. */
static bool account(struct gate *gate, struct layer_queue *queue, const struct measured *done)
{
	struct live_worker *worker = &gate->device->worker;
	struct turn *turn = &gate->turns[queue->engine];
	uint64_t used_ns;

	if (!done->runs)
		return false;
	used_ns = intervals_add(&turn->busy, done->begin_ns, done->end_ns);
	if (done->forced) {
		live_worker_forced(worker, queue->engine, used_ns);
		return false;
	}
	turn->in_flight--;
	turn->predicted_ns -= done->expected_ns;
	turn->used_ns += used_ns;
	live_worker_used(worker, queue->engine, used_ns);
	return !live_worker_alone(worker, queue->engine);
}

/*
 * Whose turn is over gives it back from here: the GPU stands idle until the next one has it, and waking the issuer for it would make
 * that longer. False: what is beneath has lost the device.
 */
static bool reap(struct gate *gate)
{
	bool look = false, alive = true, forced;

	pthread_mutex_lock(&gate->lock);
	for (unsigned i = 0; i < gate->queue_count; i++) {
		struct layer_queue *queue = &gate->queues[i];
		struct measured done;
		int found = 0;

		while (queue->metered &&
		       (found = meter_reap(gate->device, &queue->meter, &gate->clock, &done)) > 0)
			look |= account(gate, queue, &done);
		alive &= found >= 0;
	}
	look |= atomic_load(&gate->held);
	if (look && !gate_next(gate, &forced)) {
		gate_turns(gate);
		look = false;
	}
	pthread_mutex_unlock(&gate->lock);
	if (look)
		live_worker_wake(&gate->device->worker);
	return alive;
}

void gate_kick(struct gate *gate)
{
	const VkSemaphoreSignalInfo signal = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					       .semaphore = gate->kick,
					       .value = ++gate->kicks };

	gate->device->next.SignalSemaphore(gate->device->handle, &signal);
	pthread_cond_signal(&gate->reap);
}

struct ends {
	uint32_t count;
	bool in_flight;
	VkSemaphore semaphores[LAYER_QUEUES_MAX + 1];
	uint64_t values[LAYER_QUEUES_MAX + 1]; /* that they reach next */
};

/* The gate's lock is held. */
static void ends_look(const struct gate *gate, struct ends *ends)
{
	ends->semaphores[0] = gate->kick;
	ends->values[0] = gate->kicks + 1;
	ends->count = 1;
	ends->in_flight = false;
	for (unsigned i = 0; i < gate->queue_count; i++) {
		const struct meter *meter = &gate->queues[i].meter;

		if (!gate->queues[i].metered)
			continue;
		ends->semaphores[ends->count] = meter->timeline;
		ends->values[ends->count++] = meter->done + 1;
		ends->in_flight |= meter->issued != meter->done;
	}
}

/* What to wait for; sleeps while nothing was in flight for a while. False: that was all. */
static bool next_ends(struct gate *gate, struct ends *ends, uint64_t *busy_ns)
{
	bool more;

	pthread_mutex_lock(&gate->lock);
	ends_look(gate, ends);
	while (!ends->in_flight && !atomic_load(&gate->stop) &&
	       monotonic_ns() - *busy_ns > PARK_NS) {
		gate->parked = true;
		pthread_cond_wait(&gate->reap, &gate->lock);
		gate->parked = false;
		ends_look(gate, ends);
	}
	if (ends->in_flight)
		*busy_ns = monotonic_ns();
	more = !atomic_load(&gate->stop) || (ends->in_flight && !atomic_load(&gate->lost));
	pthread_mutex_unlock(&gate->lock);
	return more;
}

void *gate_reaper(void *opaque)
{
	struct gate *gate = opaque;
	struct layer_device *device = gate->device;
	uint64_t busy_ns = 0;
	struct ends ends;

	while (next_ends(gate, &ends, &busy_ns)) {
		const VkSemaphoreWaitInfo wait = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
						   .flags = VK_SEMAPHORE_WAIT_ANY_BIT,
						   .semaphoreCount = ends.count,
						   .pSemaphores = ends.semaphores,
						   .pValues = ends.values };

		if (device->next.WaitSemaphores(device->handle, &wait, SLICE_NS) < 0 ||
		    !reap(gate)) {
			gate_lose(gate, "the GPU is lost");
			break;
		}
	}
	return NULL;
}

VkResult gate_wait_done(struct layer_queue *queue)
{
	struct gate *gate = queue->device->gate;
	struct layer_device *device = queue->device;
	uint64_t value, stop_ns = UINT64_MAX;
	VkSemaphoreWaitInfo wait = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
				     .semaphoreCount = 1,
				     .pSemaphores = &queue->meter.timeline,
				     .pValues = &value };

	pthread_mutex_lock(&gate->lock);
	value = queue->meter.issued;
	pthread_mutex_unlock(&gate->lock);
	if (!value) /* never used */
		return VK_SUCCESS;
	for (;;) {
		VkResult result = device->next.WaitSemaphores(device->handle, &wait, SLICE_NS);

		if (result != VK_TIMEOUT)
			return result;
		if (atomic_load(&gate->lost))
			return VK_ERROR_DEVICE_LOST;
		if (atomic_load(&gate->stop)) {
			stop_ns = MIN(stop_ns, monotonic_ns() + END_NS);
			if (monotonic_ns() > stop_ns) {
				atomic_store(&gate->stuck, true);
				gate_lose(gate, "what was issued does not end");
			}
		}
	}
}
