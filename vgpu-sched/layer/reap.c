// SPDX-License-Identifier: Apache-2.0
/*
 * What came of it (gate.h): a queue's reaper waits for its batches to complete and books what they took: under the turn, or,
 * where they had none, as forced.
 */
#include "vgpu-sched/layer/gate.h"

#define SLICE_NS \
	(100 *   \
	 UINT64_C(1000000))  /* of a wait beneath: then it is looked whether the device is lost */
#define PARK_NS NSEC_PER_SEC /* nothing in flight for so long: sleep until something is */
#define END_NS	(5 * NSEC_PER_SEC) /* a device that is destroyed does not wait longer */

/* Returns whether somebody has to look; the gate's lock is held. */
static bool account(struct gate *gate, struct layer_queue *queue, const struct measured *done)
{
	struct live_worker *worker = &gate->device->worker;
	struct turn *turn = &gate->turns[queue->engine];
	const uint64_t used_ns = intervals_add(&turn->busy, done->begin_ns, done->end_ns);

	if (done->forced) {
		live_worker_spend(worker, used_ns);
		turn->forced_ns += used_ns;
		turn->forced--;
		return true;
	}
	turn->progress_ns = monotonic_ns();
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
static bool reap(struct layer_queue *queue)
{
	struct gate *gate = queue->device->gate;
	bool look = false, tell = false, forced;
	struct measured done;
	int found;

	pthread_mutex_lock(&gate->lock);
	while ((found = meter_reap(queue->device, &queue->meter, &gate->clock, &done)) > 0) {
		gate_was_used();
		look |= account(gate, queue, &done);
		tell |= done.forced;
	}
	look |= atomic_load(&gate->held);
	if (look && !tell && !atomic_load(&gate->lost) && !gate_next(gate, &forced)) {
		gate_turns(gate);
		look = false;
	}
	pthread_mutex_unlock(&gate->lock);
	if (look)
		live_worker_wake(&gate->device->worker);
	return found >= 0;
}

/*
 * The value that the queue reaches next, waited for even while nothing is in flight, so that a submit need not wake anybody; after
 * a while of nothing the reaper sleeps. 0: that was all.
 */
static uint64_t next_end(struct layer_queue *queue, uint64_t *busy_ns)
{
	struct gate *gate = queue->device->gate;
	const struct meter *meter = &queue->meter;
	uint64_t value;

	pthread_mutex_lock(&gate->lock);
	while (meter->issued == meter->done && !atomic_load(&gate->stop) &&
	       monotonic_ns() - *busy_ns > PARK_NS) {
		queue->parked = true;
		pthread_cond_wait(&queue->reap, &gate->lock);
		queue->parked = false;
	}
	if (meter->issued != meter->done)
		*busy_ns = monotonic_ns();
	value = meter->done + 1;
	if (atomic_load(&gate->stop) && (meter->issued == meter->done || atomic_load(&gate->stuck)))
		value = 0;
	pthread_mutex_unlock(&gate->lock);
	return value;
}

static void *reaper_main(void *opaque)
{
	struct layer_queue *queue = opaque;
	struct layer_device *device = queue->device;
	uint64_t busy_ns = monotonic_ns(), value;

	while ((value = next_end(queue, &busy_ns))) {
		const VkSemaphoreWaitInfo wait = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
						   .semaphoreCount = 1,
						   .pSemaphores = &queue->meter.timeline,
						   .pValues = &value };

		if (device->next.WaitSemaphores(device->handle, &wait, SLICE_NS) < 0 ||
		    !reap(queue)) {
			gate_lose(device->gate, "the GPU is lost", true);
			break;
		}
	}
	return NULL;
}

VkResult gate_reaper_start(struct layer_queue *queue)
{
	struct layer_device *device = queue->device;
	struct meter meter;
	VkResult result =
		atomic_load(&device->gate->stop)
			? VK_ERROR_DEVICE_LOST
			: meter_create(device, queue->timestamp_bits, queue->family, &meter);

	if (result)
		return result;
	pthread_mutex_lock(&device->gate->lock);
	queue->meter = meter;
	pthread_mutex_unlock(&device->gate->lock);
	pthread_cond_init(&queue->reap, NULL);
	if (thread_create(&queue->reaper, "divvy-reaper", reaper_main, queue)) {
		pthread_cond_destroy(&queue->reap);
		meter_destroy(device, &queue->meter);
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	}
	queue->metered = true;
	return VK_SUCCESS;
}

void gate_reaper_stop(struct layer_queue *queue)
{
	struct layer_device *device = queue->device;
	/* One more than it will reach: it waits for that, unless it sleeps. */
	const VkSemaphoreSignalInfo signal = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					       .semaphore = queue->meter.timeline,
					       .value = queue->meter.issued + 1 };

	if (!atomic_load(&device->gate->driver_lost) && !atomic_load(&device->gate->stuck))
		device->next.SignalSemaphore(device->handle, &signal);
	pthread_mutex_lock(&device->gate->lock);
	pthread_cond_signal(&queue->reap);
	pthread_mutex_unlock(&device->gate->lock);
	pthread_join(queue->reaper, NULL);
	pthread_cond_destroy(&queue->reap);
	if (!atomic_load(&device->gate->stuck))
		meter_destroy(device, &queue->meter);
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
		if (!atomic_load(&gate->stop)) {
			if (gate_is_dead(gate))
				return VK_ERROR_DEVICE_LOST;
			continue;
		}
		stop_ns = MIN(stop_ns, monotonic_ns() + END_NS);
		if (monotonic_ns() >= stop_ns) {
			atomic_store(&gate->stuck, true);
			gate_lose(gate, "what was issued does not end", false);
			return VK_ERROR_DEVICE_LOST;
		}
	}
}
