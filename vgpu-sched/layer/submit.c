// SPDX-License-Identifier: Apache-2.0
/*
 * Hooks of what reaches a queue (layer.h). A submit of many batches goes through the gate batch by batch, which the
 * specification allows (Vulkan 1.4, 7.2: batches are in the order in which they are given; the fence goes with the last).
 * Batches are never cut.
 *
 * Sparse binds and submits without command buffers need no turn, but stay in order with what does. What waits for a present, or looks
 * into a queue, finds all before it issued.
 */
#include <stdlib.h>

#include "vgpu-sched/layer/gate.h"

#define SCRATCH_STEP 1024

/* NULL: no such queue. */
static struct layer_queue *queue_of(VkQueue handle)
{
	struct layer_device *device = layer_device_of(handle);

	return device ? gate_queue(device->gate, handle) : NULL;
}

static VkResult scratch_of(struct layer_queue *queue, size_t size)
{
	/* It may become a held work, so it is not kept much too large. */
	if (queue->scratch_size >= size && queue->scratch_size <= 4 * size + 4 * SCRATCH_STEP)
		return VK_SUCCESS;
	free(queue->scratch);
	queue->scratch_size = ALIGN_UP(size, SCRATCH_STEP);
	queue->scratch = malloc(queue->scratch_size);
	if (queue->scratch)
		return VK_SUCCESS;
	queue->scratch_size = 0;
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

typedef size_t make_work(void *memory, size_t room, const void *from);

static size_t make_submit(void *memory, size_t room, const void *from)
{
	return work_of_submit(memory, room, from);
}

static size_t make_submit2(void *memory, size_t room, const void *from)
{
	return work_of_submit2(memory, room, from);
}

static size_t make_bind(void *memory, size_t room, const void *from)
{
	return work_of_bind(memory, room, from);
}

static size_t make_fence(void *memory, size_t room, const void *from)
{
	if (memory && room >= sizeof(struct work))
		*(struct work *)memory =
			(struct work){ .kind = WORK_FENCE, .size = sizeof(struct work) };
	return sizeof(struct work);
}

static VkResult through(struct layer_queue *queue, make_work *make, const void *from, VkFence fence)
{
	struct gate *gate = queue->device->gate;
	const size_t size = make(NULL, 0, from);
	uint64_t stay = 0;
	VkResult result;

	if (size > GATE_WORK_BYTES_MAX)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	pthread_mutex_lock(&queue->lock);
	result = queue->metered ? VK_SUCCESS : gate_reaper_start(queue);
	if (!result)
		result = scratch_of(queue, size);
	if (!result) {
		make(queue->scratch, queue->scratch_size, from);
		queue->scratch->size = queue->scratch_size;
		queue->scratch->fence = fence;
		result = gate_submit(queue, &stay);
	}
	pthread_mutex_unlock(&queue->lock);
	if (result == VK_ERROR_DEVICE_LOST && !atomic_load(&gate->lost) &&
	    !atomic_load(&gate->stop))
		gate_lose(gate, "the GPU is lost", true);
	else if (stay)
		gate_wait_issued(queue, stay, true, UINT64_MAX);
	return result;
}

static VkResult all_through(VkQueue handle, make_work *make, const void *items, size_t size,
			    uint32_t count, VkFence fence)
{
	struct layer_queue *queue = queue_of(handle);
	VkResult result;

	if (!queue)
		return VK_ERROR_DEVICE_LOST;
	result = gate_make_room(queue->device->gate, MAX(count, 1u));
	if (result)
		return result;
	if (!count)
		result = through(queue, make_fence, NULL, fence);
	for (uint32_t i = 0; i < count && !result; i++) {
		result = through(queue, make, (const char *)items + i * size,
				 i + 1 == count ? fence : VK_NULL_HANDLE);
		if (result && i) {
			gate_lose(queue->device->gate, "a submit failed when half of it was done",
				  false);
			result = VK_ERROR_DEVICE_LOST;
		}
	}
	return result == VK_ERROR_DEVICE_LOST ? gate_wait_dead(queue->device->gate) : result;
}

VkResult layer_QueueSubmit(VkQueue queue, uint32_t count, const VkSubmitInfo *batches,
			   VkFence fence)
{
	return all_through(queue, make_submit, batches, sizeof(*batches), count, fence);
}

VkResult layer_QueueSubmit2(VkQueue queue, uint32_t count, const VkSubmitInfo2 *batches,
			    VkFence fence)
{
	return all_through(queue, make_submit2, batches, sizeof(*batches), count, fence);
}

VkResult layer_QueueBindSparse(VkQueue queue, uint32_t count, const VkBindSparseInfo *binds,
			       VkFence fence)
{
	return all_through(queue, make_bind, binds, sizeof(*binds), count, fence);
}

/*
 * A present waits for binary semaphores whose signals must have been submitted (Vulkan 1.4, 7.4.1): these are issued first, after
 * LAYER_HOLD_MAX_NS without a turn where the vGPU's allowance has room.
 */
VkResult layer_QueuePresentKHR(VkQueue handle, const VkPresentInfoKHR *info)
{
	struct layer_queue *queue = queue_of(handle);
	VkResult result;

	if (!queue)
		return VK_ERROR_DEVICE_LOST;
	gate_wait_signals(queue->device->gate, info->waitSemaphoreCount, info->pWaitSemaphores);
	if (atomic_load(&queue->device->gate->lost))
		return gate_wait_dead(queue->device->gate);
	pthread_mutex_lock(&queue->lock);
	result = queue->device->next.QueuePresentKHR(handle, info);
	pthread_mutex_unlock(&queue->lock);
	return result;
}

/* The rest only has to keep off the queue while the issuer uses it. */
#define WITH_QUEUE(handle, queue, call)                       \
	do {                                                  \
		struct layer_queue *queue = queue_of(handle); \
		if (!queue)                                   \
			break;                                \
		pthread_mutex_lock(&queue->lock);             \
		call;                                         \
		pthread_mutex_unlock(&queue->lock);           \
	} while (0)

void layer_QueueBeginDebugUtilsLabelEXT(VkQueue handle, const VkDebugUtilsLabelEXT *label)
{
	WITH_QUEUE(handle, queue, queue->device->next.QueueBeginDebugUtilsLabelEXT(handle, label));
}

void layer_QueueEndDebugUtilsLabelEXT(VkQueue handle)
{
	WITH_QUEUE(handle, queue, queue->device->next.QueueEndDebugUtilsLabelEXT(handle));
}

void layer_QueueInsertDebugUtilsLabelEXT(VkQueue handle, const VkDebugUtilsLabelEXT *label)
{
	WITH_QUEUE(handle, queue, queue->device->next.QueueInsertDebugUtilsLabelEXT(handle, label));
}

VkResult layer_QueueSetPerformanceConfigurationINTEL(VkQueue handle,
						     VkPerformanceConfigurationINTEL configuration)
{
	VkResult result = VK_ERROR_DEVICE_LOST;

	WITH_QUEUE(handle, queue,
		   result = queue->device->next.QueueSetPerformanceConfigurationINTEL(
			   handle, configuration));
	return result;
}

void layer_QueueNotifyOutOfBandNV(VkQueue handle, const VkOutOfBandQueueTypeInfoNV *info)
{
	WITH_QUEUE(handle, queue, queue->device->next.QueueNotifyOutOfBandNV(handle, info));
}
