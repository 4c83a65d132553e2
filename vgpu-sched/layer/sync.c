// SPDX-License-Identifier: Apache-2.0
/*
 * Hooks of what can see whether something was done (layer.h): a program must not be able to tell a held submit from one that the
 * GPU has not come to yet. Waits beneath are cut into slices, so that a device that is lost while they wait is noticed.
 */
#include "vgpu-sched/layer/held.h"

#define SLICE_NS (100 * UINT64_C(1000000))
#define POLL_NS	 (1 * UINT64_C(1000000))

static uint64_t until_of(uint64_t timeout_ns)
{
	const uint64_t now = monotonic_ns();

	return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

static uint64_t left_of(uint64_t until_ns, uint64_t most_ns)
{
	const uint64_t now = monotonic_ns();

	return now >= until_ns ? 0 : MIN(until_ns - now, most_ns);
}

/* ---- idle ---------------------------------------------------------------------------------------- */

static VkResult wait_queue(struct layer_queue *queue)
{
	struct gate *gate = queue->device->gate;
	VkResult result;

	gate_wait_issued(queue, gate_last_held(queue), false, UINT64_MAX);
	result = gate_wait_done(queue);
	return atomic_load(&gate->lost) ? gate_wait_dead(gate) : result;
}

/* What the queue does besides batches (binds, presents) is done soon after. */
VkResult layer_QueueWaitIdle(VkQueue handle)
{
	struct layer_device *device = layer_device_of(handle);
	struct layer_queue *queue = gate_queue(device->gate, handle);
	VkResult result;

	if (!queue)
		return VK_ERROR_DEVICE_LOST;
	result = wait_queue(queue);
	if (result)
		return result;
	pthread_mutex_lock(&queue->lock);
	result = device->next.QueueWaitIdle(handle);
	pthread_mutex_unlock(&queue->lock);
	return result;
}

VkResult layer_DeviceWaitIdle(VkDevice handle)
{
	struct layer_device *device = layer_device_of(handle);
	struct gate *gate = device->gate;
	VkResult result = VK_SUCCESS;

	for (unsigned i = 0; i < gate->queue_count && !result; i++)
		result = wait_queue(&gate->queues[i]);
	if (result)
		return result;
	for (unsigned i = 0; i < gate->queue_count; i++)
		pthread_mutex_lock(&gate->queues[i].lock);
	result = device->next.DeviceWaitIdle(handle);
	for (unsigned i = gate->queue_count; i--;)
		pthread_mutex_unlock(&gate->queues[i].lock);
	return result;
}

/* ---- fences -------------------------------------------------------------------------------------- */

/* The sequence of the held work that @fence goes with, and its queue; or 0. */
static uint64_t fence_held(struct gate *gate, VkFence fence, struct layer_queue **queue)
{
	uint64_t sequence;

	if (!atomic_load(&gate->held))
		return 0;
	pthread_mutex_lock(&gate->lock);
	sequence = held_fence(gate, fence, queue);
	pthread_mutex_unlock(&gate->lock);
	return sequence;
}

/* With force: what its caller is about to do must find it issued. */
static void fence_issue(struct gate *gate, VkFence fence)
{
	struct layer_queue *queue;
	const uint64_t held = fence_held(gate, fence, &queue);

	if (held)
		gate_wait_issued(queue, held, true, UINT64_MAX);
}

void layer_DestroyFence(VkDevice handle, VkFence fence, const VkAllocationCallbacks *allocator)
{
	struct layer_device *device = layer_device_of(handle);

	/* Not allowed while it is pending; the driver shall not meet it later all the same. */
	fence_issue(device->gate, fence);
	device->next.DestroyFence(handle, fence, allocator);
}

VkResult layer_GetFenceStatus(VkDevice handle, VkFence fence)
{
	struct layer_device *device = layer_device_of(handle);
	struct layer_queue *queue;

	if (gate_is_dead(device->gate))
		return VK_ERROR_DEVICE_LOST;
	if (fence_held(device->gate, fence, &queue))
		return VK_NOT_READY;
	return device->next.GetFenceStatus(handle, fence);
}

/* Some are held: whether one of the others is signalled. */
static VkResult any_signalled(struct layer_device *device, uint32_t count, const VkFence *fences)
{
	for (uint32_t i = 0; i < count; i++) {
		VkResult result = layer_GetFenceStatus(device->handle, fences[i]);

		if (result != VK_NOT_READY)
			return result;
	}
	return VK_NOT_READY;
}

static uint64_t first_held(struct gate *gate, uint32_t count, const VkFence *fences,
			   struct layer_queue **queue)
{
	uint64_t held = 0;

	for (uint32_t i = 0; i < count && !held && atomic_load(&gate->held); i++)
		held = fence_held(gate, fences[i], queue);
	return held;
}

VkResult layer_WaitForFences(VkDevice handle, uint32_t count, const VkFence *fences, VkBool32 all,
			     uint64_t timeout)
{
	struct layer_device *device = layer_device_of(handle);
	const uint64_t until = until_of(timeout);

	for (;;) {
		struct layer_queue *queue;
		const uint64_t held = first_held(device->gate, count, fences, &queue);
		VkResult result;

		if (gate_is_dead(device->gate))
			return VK_ERROR_DEVICE_LOST;
		if (!held) {
			result = device->next.WaitForFences(handle, count, fences, all,
							    left_of(until, SLICE_NS));
			if (result != VK_TIMEOUT)
				return result;
		} else if (all || count == 1) {
			gate_wait_issued(queue, held, false, MIN(until, until_of(SLICE_NS)));
		} else {
			result = any_signalled(device, count, fences);
			if (result != VK_NOT_READY)
				return result;
			gate_wait_any(device->gate, MIN(until, until_of(POLL_NS)));
		}
		if (!left_of(until, UINT64_MAX))
			return VK_TIMEOUT;
	}
}

/* A payload that is copied out must be one that comes to pass by itself (VUID-VkFenceGetFdInfoKHR-handleType-01454). */
VkResult layer_GetFenceFdKHR(VkDevice handle, const VkFenceGetFdInfoKHR *info, int *fd)
{
	struct layer_device *device = layer_device_of(handle);

	fence_issue(device->gate, info->fence);
	return device->next.GetFenceFdKHR(handle, info, fd);
}

/* ---- queries --------------------------------------------------------------------------------------- */

/*
 * A wait beneath for the queries of what is held would run into the driver's own time-outs, or not wait at all: they are looked at
 * until they are there.
 */
VkResult layer_GetQueryPoolResults(VkDevice handle, VkQueryPool pool, uint32_t first,
				   uint32_t count, size_t size, void *data, VkDeviceSize stride,
				   VkQueryResultFlags flags)
{
	const VkQueryResultFlags look = flags & ~(VkQueryResultFlags)(VK_QUERY_RESULT_WAIT_BIT |
								      VK_QUERY_RESULT_PARTIAL_BIT);
	struct layer_device *device = layer_device_of(handle);
	struct gate *gate = device->gate;
	VkResult result;

	if (!(flags & VK_QUERY_RESULT_WAIT_BIT) || !atomic_load(&gate->held))
		return device->next.GetQueryPoolResults(handle, pool, first, count, size, data,
							stride, flags);
	for (;;) {
		if (gate_is_dead(gate))
			return VK_ERROR_DEVICE_LOST;
		result = device->next.GetQueryPoolResults(handle, pool, first, count, size, data,
							  stride, look);
		if (result != VK_NOT_READY)
			return result;
		gate_wait_any(gate, until_of(POLL_NS));
	}
}

/* ---- semaphores ------------------------------------------------------------------------------------ */

static bool is_timeline(const VkSemaphoreCreateInfo *info)
{
	for (const VkBaseInStructure *at = info->pNext; at; at = at->pNext)
		if (at->sType == VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO)
			return ((const VkSemaphoreTypeCreateInfo *)at)->semaphoreType ==
			       VK_SEMAPHORE_TYPE_TIMELINE;
	return false;
}

static bool remember_timeline(struct gate *gate, VkSemaphore semaphore)
{
	struct layer_semaphore *known;

	pthread_mutex_lock(&gate->lock);
	known = held_semaphore(gate, semaphore, true);
	if (known)
		known->timeline = true;
	pthread_mutex_unlock(&gate->lock);
	return known;
}

/*
 * Somebody else has it too: another process may submit its wait as soon as this one's submit has returned. @imported: it stands where
 * the other's does.
 */
static bool remember_shared(struct gate *gate, VkSemaphore semaphore, bool imported)
{
	struct layer_semaphore *known;

	pthread_mutex_lock(&gate->lock);
	known = held_semaphore(gate, semaphore, true);
	if (known) {
		known->shared = true;
		if (imported)
			known->issued = 0;
	}
	pthread_mutex_unlock(&gate->lock);
	return known;
}

VkResult layer_CreateSemaphore(VkDevice handle, const VkSemaphoreCreateInfo *info,
			       const VkAllocationCallbacks *allocator, VkSemaphore *semaphore)
{
	struct layer_device *device = layer_device_of(handle);
	VkResult result = device->next.CreateSemaphore(handle, info, allocator, semaphore);

	if (result || !is_timeline(info) || remember_timeline(device->gate, *semaphore))
		return result;
	device->next.DestroySemaphore(handle, *semaphore, allocator);
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

void layer_DestroySemaphore(VkDevice handle, VkSemaphore semaphore,
			    const VkAllocationCallbacks *allocator)
{
	struct layer_device *device = layer_device_of(handle);

	if (semaphore) {
		pthread_mutex_lock(&device->gate->lock);
		held_semaphore_forget(device->gate, semaphore);
		pthread_mutex_unlock(&device->gate->lock);
	}
	device->next.DestroySemaphore(handle, semaphore, allocator);
}

VkResult layer_GetSemaphoreCounterValue(VkDevice handle, VkSemaphore semaphore, uint64_t *value)
{
	struct layer_device *device = layer_device_of(handle);

	return gate_is_dead(device->gate)
		       ? VK_ERROR_DEVICE_LOST
		       : device->next.GetSemaphoreCounterValue(handle, semaphore, value);
}

VkResult layer_WaitSemaphores(VkDevice handle, const VkSemaphoreWaitInfo *info, uint64_t timeout)
{
	struct layer_device *device = layer_device_of(handle);
	const uint64_t until = until_of(timeout);

	for (;;) {
		VkResult result;

		if (gate_is_dead(device->gate))
			return VK_ERROR_DEVICE_LOST;
		result = device->next.WaitSemaphores(handle, info, left_of(until, SLICE_NS));
		if (result != VK_TIMEOUT || !left_of(until, UINT64_MAX))
			return result;
	}
}

/* Something that is held may be ready now. */
VkResult layer_SignalSemaphore(VkDevice handle, const VkSemaphoreSignalInfo *info)
{
	struct layer_device *device = layer_device_of(handle);
	VkResult result = device->next.SignalSemaphore(handle, info);

	if (!result && atomic_load(&device->gate->held))
		live_worker_wake(&device->worker);
	return result;
}

static bool is_copied(VkExternalSemaphoreHandleTypeFlagBits type)
{
	return type == VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT;
}

/*
 * SYNC_FD copies a payload whose signal, and all that it depends on, must have been submitted (VUID-VkSemaphoreGetFdInfoKHR-handleType-
 * 03254); an opaque binary one's wait may be submitted elsewhere as soon as this returns.
 */
VkResult layer_GetSemaphoreFdKHR(VkDevice handle, const VkSemaphoreGetFdInfoKHR *info, int *fd)
{
	struct layer_device *device = layer_device_of(handle);
	struct gate *gate = device->gate;
	struct layer_semaphore *known;
	bool timeline;

	if (!is_copied(info->handleType) && !remember_shared(gate, info->semaphore, false))
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	pthread_mutex_lock(&gate->lock);
	known = held_semaphore(gate, info->semaphore, false);
	timeline = known && known->timeline;
	pthread_mutex_unlock(&gate->lock);
	if (!timeline)
		gate_wait_signals(gate, 1, &info->semaphore);
	return device->next.GetSemaphoreFdKHR(handle, info, fd);
}

VkResult layer_ImportSemaphoreFdKHR(VkDevice handle, const VkImportSemaphoreFdInfoKHR *info)
{
	struct layer_device *device = layer_device_of(handle);

	if (!is_copied(info->handleType) && !remember_shared(device->gate, info->semaphore, true))
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	return device->next.ImportSemaphoreFdKHR(handle, info);
}
