// SPDX-License-Identifier: Apache-2.0
/*
 * The gate (gate.h): how it comes and goes, and the rules of who may go through it.
 *
 * A batch is ready when all that it waits for has been issued. Until then it does not ask for a turn: a turn held for what cannot
 * run is time that nobody has. Within a turn batches are issued while what was measured and what is expected of those in flight
 * stays within the slice; one that is expected to go beyond is issued only when it is the turn's first, and what it takes too long
 * is debt. While nobody else waits, two are in flight whatever they take, so that the GPU does not stand still between them.
 */
#include <stdlib.h>

#include "vgpu-sched/layer/held.h"

#define IN_FLIGHT_ALONE	 2
#define IN_FLIGHT_OTHERS 4  /* while others wait: what was expected to be short may not be */
#define IN_FLIGHT_MAX	 16 /* of one engine */
/* Nothing ends for so long: what is in flight may wait for what is held, by an event or in the program's own thread. */
#define STANDSTILL_NS (250 * UINT64_C(1000000))

/* ---- who is ready ---------------------------------------------------------------------------------- */

struct readiness {
	struct gate *gate;
	uint64_t sequence;
};

static bool is_issued(void *opaque, VkSemaphore semaphore, uint64_t value)
{
	struct readiness *r = opaque;
	struct layer_device *device = r->gate->device;
	struct layer_semaphore *known = held_semaphore(r->gate, semaphore, false);
	uint64_t now;

	/* A binary one's signal is submitted before its wait (Vulkan 1.4, 7.4.1), so it is here or was issued. */
	if (!known || !known->timeline)
		return !held_signals(r->gate, semaphore, r->sequence);
	if (value <= known->issued)
		return true;
	if (device->next.GetSemaphoreCounterValue(device->handle, semaphore, &now))
		return true; /* what is beneath has lost the device, and will say so */
	known->issued = MAX(known->issued, now);
	return value <= now;
}

bool gate_ready(struct gate *gate, const struct work *work, uint64_t sequence)
{
	struct readiness r = { .gate = gate, .sequence = sequence };

	return work_waits(work, is_issued, &r);
}

/* ---- turns --------------------------------------------------------------------------------------- */

/* The turn as it is now: another grant begins at nothing. Returns its slice, or 0: there is none. */
static uint64_t turn_look(struct gate *gate, enum sched_engine engine)
{
	struct live_page *page = gate->device->worker.page;
	struct turn *turn = &gate->turns[engine];
	const uint64_t grant = atomic_load(&page->grants[engine].id);

	if (grant && grant != turn->grant) {
		turn->grant = grant;
		turn->used_ns = 0;
	}
	return grant ? MAX(atomic_load(&page->grants[engine].slice_ns), UINT64_C(1)) : 0;
}

/*
 * Whether what is in flight stands still and may wait for what another queue holds. Not for what comes behind it on its own queue, which
 * cannot be: a long batch would draw the next one after it.
 */
static bool stands_still(const struct turn *turn, const struct layer_queue *queue)
{
	return turn->in_flight < IN_FLIGHT_ALONE && queue->meter.issued == queue->meter.done &&
	       monotonic_ns() - turn->progress_ns > STANDSTILL_NS;
}

/* The vGPU has the turn on the queue's engine, and room in it for one more batch. */
static bool may_run(struct gate *gate, const struct layer_queue *queue)
{
	const struct turn *turn = &gate->turns[queue->engine];
	const uint64_t slice_ns = turn_look(gate, queue->engine);
	const uint64_t expected_ns = queue->meter.expected_ns;
	const bool alone = live_worker_alone(&gate->device->worker, queue->engine);

	if (!slice_ns || turn->in_flight >= IN_FLIGHT_MAX)
		return false;
	if (!turn->in_flight)
		return alone || !turn->used_ns || turn->used_ns + expected_ns <= slice_ns;
	if (stands_still(turn, queue))
		return true;
	if (alone)
		return turn->in_flight < IN_FLIGHT_ALONE ||
		       (turn->predicted_ns && turn->predicted_ns + expected_ns <= slice_ns);
	return turn->in_flight < IN_FLIGHT_OTHERS && turn->predicted_ns &&
	       turn->used_ns + turn->predicted_ns + expected_ns <= slice_ns;
}

bool gate_may_go(struct gate *gate, const struct layer_queue *queue, const struct work *work,
		 uint64_t sequence, bool *forced)
{
	*forced = false;
	if (!gate_ready(gate, work, sequence))
		return false;
	if (!work_runs(work))
		return true;
	if (meter_full(&queue->meter))
		return false;
	if (may_run(gate, queue))
		return true;
	*forced = work->needed && !gate->turns[queue->engine].forced &&
		  live_worker_may_force(&gate->device->worker);
	return *forced;
}

struct layer_queue *gate_next(struct gate *gate, bool *forced)
{
	struct layer_queue *found = NULL;

	for (unsigned i = 0; i < gate->queue_count; i++) {
		struct layer_queue *queue = &gate->queues[i];
		bool without;

		if (queue->first && !queue->first->issuing &&
		    (!found || queue->first->sequence < found->first->sequence) &&
		    gate_may_go(gate, queue, queue->first, queue->first->sequence, &without)) {
			found = queue;
			*forced = without;
		}
	}
	return found;
}

static bool engine_waits(struct gate *gate, enum sched_engine engine)
{
	for (unsigned i = 0; i < gate->queue_count; i++) {
		const struct layer_queue *queue = &gate->queues[i];
		const struct work *head = queue->first;

		if (head && !head->issuing && queue->engine == engine && work_runs(head) &&
		    !meter_full(&queue->meter) && gate_ready(gate, head, head->sequence))
			return true;
	}
	return false;
}

void gate_turns(struct gate *gate)
{
	struct live_worker *worker = &gate->device->worker;

	for (unsigned i = 0; i < SCHED_ENGINES; i++) {
		const enum sched_engine engine = (enum sched_engine)i;
		const struct turn *turn = &gate->turns[i];
		const bool waits = engine_waits(gate, engine);
		int err = 0;

		if (!turn_look(gate, engine)) {
			if (waits)
				err = live_worker_want(worker, engine);
		} else if (!turn->in_flight && !live_worker_alone(worker, engine)) {
			/* What could have been issued under it was, before this was asked. */
			err = live_worker_release(worker, engine, waits);
		}
		if (err)
			gate_lose(gate, "the arbiter is gone", false);
	}
}

void gate_turns_end(struct gate *gate)
{
	for (unsigned i = 0; i < SCHED_ENGINES; i++)
		if (gate->turns[i].grant || gate->turns[i].in_flight)
			live_worker_release(&gate->device->worker, (enum sched_engine)i, false);
}

/* ---- it comes and goes --------------------------------------------------------------------------- */

static enum sched_engine engine_of(VkQueueFlags flags)
{
	if (flags & (VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT))
		return SCHED_ENGINE_GRAPHICS;
	if (flags & (VK_QUEUE_VIDEO_DECODE_BIT_KHR | VK_QUEUE_VIDEO_ENCODE_BIT_KHR |
		     VK_QUEUE_OPTICAL_FLOW_BIT_NV))
		return SCHED_ENGINE_VIDEO;
	return SCHED_ENGINE_COPY;
}

static VkResult queue_add(struct gate *gate, const VkDeviceQueueCreateInfo *info, uint32_t index,
			  const VkQueueFamilyProperties *family, bool timestamps)
{
	struct layer_device *device = gate->device;
	const VkDeviceQueueInfo2 which = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_INFO_2,
					   .flags = info->flags,
					   .queueFamilyIndex = info->queueFamilyIndex,
					   .queueIndex = index };
	struct layer_queue *queue = &gate->queues[gate->queue_count];

	if (gate->queue_count == LAYER_QUEUES_MAX)
		return VK_ERROR_TOO_MANY_OBJECTS;
	if (info->flags)
		device->next.GetDeviceQueue2(device->handle, &which, &queue->handle);
	else
		device->next.GetDeviceQueue(device->handle, info->queueFamilyIndex, index,
					    &queue->handle);
	if (!queue->handle)
		return VK_ERROR_INITIALIZATION_FAILED;
	queue->device = device;
	queue->family = info->queueFamilyIndex;
	queue->engine = engine_of(family->queueFlags);
	queue->timestamp_bits = timestamps ? MIN(family->timestampValidBits, 64u) : 0;
	queue->last = &queue->first;
	pthread_mutex_init(&queue->lock, NULL);
	gate->queue_count++;
	return device->set_loader_data(device->handle, queue->handle);
}

static VkResult queues_add(struct gate *gate, const struct device_chain *chain)
{
	const VkDeviceCreateInfo *info = &chain->info;
	struct layer_device *device = gate->device;
	VkQueueFamilyProperties families[LAYER_QUEUES_MAX];
	uint32_t count = ARRAY_SIZE(families);
	VkResult result = VK_SUCCESS;

	device->instance->next.GetPhysicalDeviceQueueFamilyProperties(device->physical, &count,
								      families);
	for (uint32_t i = 0; i < info->queueCreateInfoCount && !result; i++) {
		const VkDeviceQueueCreateInfo *queues = &info->pQueueCreateInfos[i];

		if (queues->queueFamilyIndex >= count)
			return VK_ERROR_INITIALIZATION_FAILED;
		for (uint32_t j = 0; j < queues->queueCount && !result; j++)
			result = queue_add(gate, queues, j, &families[queues->queueFamilyIndex],
					   chain->host_query_reset);
	}
	return result;
}

static void gate_free(struct gate *gate)
{
	held_destroy(gate);
	for (unsigned i = 0; i < gate->queue_count; i++) {
		free(gate->queues[i].scratch);
		pthread_mutex_destroy(&gate->queues[i].lock);
	}
	pthread_cond_destroy(&gate->progress);
	pthread_mutex_destroy(&gate->lock);
	free(gate);
}

static void condition_create(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
}

/*
 * A process that calls exit() with devices left: what is beneath is torn down by the handlers of those that were loaded before, and
 * until then the threads here must have ended. Handlers run in the reverse order of their registration. This one is registered when
 * there is a device, and once more when a batch has been through: what is beneath makes some of its parts, and their handlers, when
 * they are used first.
 */
static pthread_mutex_t gates_lock = PTHREAD_MUTEX_INITIALIZER;
static struct gate *gates;

/* @exiting: what was issued is not waited for, and what it uses stays. */
static void threads_end(struct gate *gate, bool exiting)
{
	if (gate->ended)
		return;
	gate->ended = true;
	if (exiting)
		atomic_store(&gate->stuck, true);
	atomic_store(&gate->stop, true);
	live_worker_wake(&gate->device->worker);
	pthread_join(gate->issuer, NULL);
	for (unsigned i = 0; i < gate->queue_count; i++) {
		struct layer_queue *queue = &gate->queues[i];

		if (!queue->metered)
			continue;
		if (!exiting) /* what was issued still uses what is to be destroyed */
			gate_wait_done(queue);
		gate_reaper_stop(queue);
	}
	/* What was used is told; a turn that is only dropped would be taken for used to its end. */
	gate_turns_end(gate);
}

static void at_exit(void)
{
	pthread_mutex_lock(&gates_lock);
	for (struct gate *gate = gates; gate; gate = gate->next)
		threads_end(gate, true);
	pthread_mutex_unlock(&gates_lock);
}

static void at_exit_register(void)
{
	atexit(at_exit);
}

void gate_was_used(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, at_exit_register);
}

static void gates_add(struct gate *gate)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, at_exit_register);
	pthread_mutex_lock(&gates_lock);
	gate->next = gates;
	gates = gate;
	pthread_mutex_unlock(&gates_lock);
}

/* Ends its threads, unless exit() has. */
static void gates_remove(struct gate *gate)
{
	pthread_mutex_lock(&gates_lock);
	for (struct gate **at = &gates; *at; at = &(*at)->next)
		if (*at == gate) {
			*at = gate->next;
			break;
		}
	pthread_mutex_unlock(&gates_lock);
	threads_end(gate, false);
}

VkResult gate_create(struct layer_device *device, const struct device_chain *chain,
		     struct gate **out)
{
	struct gate *gate = calloc(1, sizeof(*gate));
	VkResult result;

	*out = NULL;
	if (!gate)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	gate->device = device;
	pthread_mutex_init(&gate->lock, NULL);
	condition_create(&gate->progress);
	clock_create(device, chain->calibrated, &gate->clock);
	result = queues_add(gate, chain);
	if (!result && thread_create(&gate->issuer, "divvy-issuer", gate_issuer, gate))
		result = VK_ERROR_OUT_OF_HOST_MEMORY;
	if (result) {
		gate_free(gate);
		return result;
	}
	gates_add(gate);
	*out = gate;
	return VK_SUCCESS;
}

void gate_destroy(struct gate *gate)
{
	if (!gate)
		return;
	gates_remove(gate);
	gate_free(gate);
}

struct layer_queue *gate_queue(struct gate *gate, VkQueue handle)
{
	for (unsigned i = 0; i < gate->queue_count; i++)
		if (gate->queues[i].handle == handle)
			return &gate->queues[i];
	return NULL;
}
