// SPDX-License-Identifier: Apache-2.0
/*
 * A device that is lost (gate.h): because the driver says so, because the arbiter is gone, or because a submit failed whose caller
 * had been told that all was well.
 *
 * In the last two what was issued still runs, and a program that is told of the loss may destroy what it uses. So it is told only
 * when that has ended, or does not end.
 */
#include <stdlib.h>

#include "vgpu-sched/layer/held.h"

#define END_NS (5 * NSEC_PER_SEC)

void gate_lose(struct gate *gate, const char *why, bool driver)
{
	if (driver)
		atomic_store(&gate->driver_lost, true);
	if (atomic_exchange(&gate->lost, true))
		return;
	log_error(LAYER_NAME ": %s: the device is lost to this program", why);
	pthread_cond_broadcast(&gate->progress);
	live_worker_wake(&gate->device->worker);
}

static bool in_flight(const struct gate *gate)
{
	for (unsigned i = 0; i < gate->queue_count; i++)
		if (gate->queues[i].meter.issued != gate->queues[i].meter.done)
			return true;
	return false;
}

void gate_bury(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	for (unsigned i = 0; i < gate->queue_count; i++)
		while (gate->queues[i].first)
			free(held_remove(gate, &gate->queues[i]));
	if (!gate->lost_ns)
		gate->lost_ns = monotonic_ns();
	if (atomic_load(&gate->driver_lost) || !in_flight(gate)) {
		atomic_store(&gate->dead, true);
	} else if (monotonic_ns() - gate->lost_ns > END_NS) {
		atomic_store(&gate->stuck, true);
		atomic_store(&gate->dead, true);
	}
	if (atomic_load(&gate->dead))
		gate_turns_end(gate);
	pthread_cond_broadcast(&gate->progress);
	pthread_mutex_unlock(&gate->lock);
}

bool gate_is_dead(const struct gate *gate)
{
	return atomic_load(&gate->dead);
}

VkResult gate_wait_dead(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	while (!atomic_load(&gate->dead) && !atomic_load(&gate->stop))
		gate_wait_progress(gate, monotonic_ns() + LIVE_LOOK_NS);
	pthread_mutex_unlock(&gate->lock);
	return VK_ERROR_DEVICE_LOST;
}

void gate_wait_progress(struct gate *gate, uint64_t until_ns)
{
	pthread_cond_timedwait(&gate->progress, &gate->lock,
			       &(struct timespec){ (time_t)(until_ns / NSEC_PER_SEC),
						   (long)(until_ns % NSEC_PER_SEC) });
}
