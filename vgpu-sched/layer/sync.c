// SPDX-License-Identifier: Apache-2.0
/*
 * Hooks of what can see whether something was done (layer.h): a program must not be able to tell a held submit from one that the
 * GPU has not come to yet. Waits beneath are cut into slices, so that a device that is lost while they wait is noticed.
 */
#include "vgpu-sched/layer/gate.h"

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
	VkResult result = gate_wait_issued(gate, gate_sequence(gate, queue), false, UINT64_MAX);

	return result ? result : gate_wait_done(queue);
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

/* The sequence of the held work that @fence goes with, or 0. */
static uint64_t fence_held(struct gate *gate, VkFence fence)
{
	uint64_t sequence = 0;

	if (!atomic_load(&gate->held))
		return 0;
	pthread_mutex_lock(&gate->lock);
	for (unsigned i = 0; i < gate->queue_count && !sequence; i++)
		for (const struct work *work = gate->queues[i].first; work; work = work->next)
			if (work->fence == fence) {
				sequence = work->sequence;
				break;
			}
	pthread_mutex_unlock(&gate->lock);
	return sequence;
}

void layer_DestroyFence(VkDevice handle, VkFence fence, const VkAllocationCallbacks *allocator)
{
	struct layer_device *device = layer_device_of(handle);
	uint64_t held = fence ? fence_held(device->gate, fence) : 0;

	/* Not allowed; the driver shall not meet it later all the same. */
	if (held)
		gate_wait_issued(device->gate, held, true, UINT64_MAX);
	device->next.DestroyFence(handle, fence, allocator);
}

VkResult layer_GetFenceStatus(VkDevice handle, VkFence fence)
{
	struct layer_device *device = layer_device_of(handle);

	if (atomic_load(&device->gate->lost))
		return VK_ERROR_DEVICE_LOST;
	if (fence_held(device->gate, fence))
		return VK_NOT_READY;
	return device->next.GetFenceStatus(handle, fence);
}

/* Some are held: whether one of the others is signalled. */
static VkResult any_signalled(struct layer_device *device, uint32_t count, const VkFence *fences)
{
	for (uint32_t i = 0; i < count; i++) {
		VkResult result = fence_held(device->gate, fences[i])
					  ? VK_NOT_READY
					  : device->next.GetFenceStatus(device->handle, fences[i]);

		if (result != VK_NOT_READY)
			return result;
	}
	return VK_NOT_READY;
}

static uint64_t first_held(struct gate *gate, uint32_t count, const VkFence *fences)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t held = fence_held(gate, fences[i]);

		if (held)
			return held;
	}
	return 0;
}

VkResult layer_WaitForFences(VkDevice handle, uint32_t count, const VkFence *fences, VkBool32 all,
			     uint64_t timeout)
{
	struct layer_device *device = layer_device_of(handle);
	const uint64_t until = until_of(timeout);

	for (;;) {
		const uint64_t held = first_held(device->gate, count, fences);
		VkResult result;

		if (atomic_load(&device->gate->lost))
			return VK_ERROR_DEVICE_LOST;
		if (!held) {
			result = device->next.WaitForFences(handle, count, fences, all,
							    left_of(until, SLICE_NS));
			if (result != VK_TIMEOUT)
				return result;
		} else {
			result = all || count == 1 ? VK_NOT_READY
						   : any_signalled(device, count, fences);
			if (result != VK_NOT_READY)
				return result;
			gate_wait_issued(device->gate, held, false,
					 MIN(until, until_of(all ? SLICE_NS : POLL_NS)));
		}
		if (!left_of(until, UINT64_MAX))
			return VK_TIMEOUT;
	}
}

/* A payload that is copied out must be one that comes to pass by itself (VUID-VkFenceGetFdInfoKHR-handleType-01454). */
VkResult layer_GetFenceFdKHR(VkDevice handle, const VkFenceGetFdInfoKHR *info, int *fd)
{
	struct layer_device *device = layer_device_of(handle);
	uint64_t held = fence_held(device->gate, info->fence);
	VkResult result =
		held ? gate_wait_issued(device->gate, held, true, UINT64_MAX) : VK_SUCCESS;

	return result ? VK_ERROR_OUT_OF_HOST_MEMORY : device->next.GetFenceFdKHR(handle, info, fd);
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

static bool remember(struct gate *gate, VkSemaphore semaphore, bool timeline)
{
	struct layer_semaphore *known;

	pthread_mutex_lock(&gate->lock);
	known = gate_semaphore(gate, semaphore, true);
	if (known && timeline)
		known->timeline = true;
	else if (known)
		known->exported = true;
	pthread_mutex_unlock(&gate->lock);
	return known;
}

VkResult layer_CreateSemaphore(VkDevice handle, const VkSemaphoreCreateInfo *info,
			       const VkAllocationCallbacks *allocator, VkSemaphore *semaphore)
{
	struct layer_device *device = layer_device_of(handle);
	VkResult result = device->next.CreateSemaphore(handle, info, allocator, semaphore);

	if (result || !is_timeline(info) || remember(device->gate, *semaphore, true))
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
		gate_semaphore_forget(device->gate, semaphore);
		pthread_mutex_unlock(&device->gate->lock);
	}
	device->next.DestroySemaphore(handle, semaphore, allocator);
}

VkResult layer_GetSemaphoreCounterValue(VkDevice handle, VkSemaphore semaphore, uint64_t *value)
{
	struct layer_device *device = layer_device_of(handle);

	return atomic_load(&device->gate->lost)
		       ? VK_ERROR_DEVICE_LOST
		       : device->next.GetSemaphoreCounterValue(handle, semaphore, value);
}

VkResult layer_WaitSemaphores(VkDevice handle, const VkSemaphoreWaitInfo *info, uint64_t timeout)
{
	struct layer_device *device = layer_device_of(handle);
	const uint64_t until = until_of(timeout);

	for (;;) {
		VkResult result;

		if (atomic_load(&device->gate->lost))
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

/*
 * SYNC_FD copies a payload whose signal must have been submitted (VUID-VkSemaphoreGetFdInfoKHR-handleType-03254); which work signals it
 * is not looked up, so all that is held is issued. An opaque one is shared from now on: each signal of it is issued before its submit
 * returns, since another process may then submit its wait.
 */
VkResult layer_GetSemaphoreFdKHR(VkDevice handle, const VkSemaphoreGetFdInfoKHR *info, int *fd)
{
	struct layer_device *device = layer_device_of(handle);
	struct gate *gate = device->gate;
	VkResult result;

	if (info->handleType != VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT &&
	    !remember(gate, info->semaphore, false))
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	result = gate_wait_issued(gate, gate_sequence(gate, NULL), true, UINT64_MAX);
	return result ? VK_ERROR_OUT_OF_HOST_MEMORY
		      : device->next.GetSemaphoreFdKHR(handle, info, fd);
}
