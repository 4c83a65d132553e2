// SPDX-License-Identifier: Apache-2.0
/* The driver that is made up (fake_vulkan.h): queues, and what happens on them. fake_sync.c has the objects. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/fake_sync.h"

#define WAIT_LIMIT_NS (20 * NSEC_PER_SEC) /* a test that waits longer hangs */

static struct fake_batch *batches[FAKE_BATCHES_MAX];
static unsigned batch_count;
static struct fake_device *last_device; /* whose queues fake_run() runs */

void fake_queues_reset(void)
{
	for (unsigned i = 0; i < batch_count; i++)
		free(batches[i]);
	batch_count = 0;
	last_device = NULL;
}

/* ---- doing batches ------------------------------------------------------------------------------- */

static struct fake_queue *queue_of_batch(const struct fake_device *device,
					 const struct fake_batch *batch)
{
	for (unsigned i = 0; i < device->queue_count; i++)
		if (device->queues[i].family == batch->family &&
		    device->queues[i].index == batch->queue)
			return &device->queues[i];
	return NULL;
}

static struct fake_batch *head_of(struct fake_queue *queue)
{
	return queue->head == queue->tail || queue->running
		       ? NULL
		       : queue->pending[queue->head % FAKE_BATCHES_MAX];
}

static bool can_run(const struct fake_batch *batch)
{
	for (uint32_t i = 0; i < batch->wait_count; i++)
		if (!fake_semaphore_is_signalled(&batch->waits[i]))
			return false;
	return true;
}

/* With the lock, which it lets go of while time is slept. */
static void take_time(uint64_t ns, const struct fake_gpu *gpu)
{
	const struct timespec t = { (time_t)(ns / NSEC_PER_SEC), (long)(ns % NSEC_PER_SEC) };

	if (!ns)
		return;
	if (fake.manual_clock) {
		fake.ticks += (uint64_t)((double)ns / (double)gpu->timestamp_period);
		return;
	}
	pthread_mutex_unlock(&fake_lock);
	nanosleep(&t, NULL);
	pthread_mutex_lock(&fake_lock);
}

static void run_head(struct fake_queue *queue)
{
	struct fake_batch *batch = head_of(queue);
	const struct fake_gpu *gpu = queue->device->gpu;

	queue->running = true;
	batch->begun_ns = monotonic_ns();
	for (uint32_t i = 0; i < batch->wait_count; i++)
		fake_semaphore_waited(&batch->waits[i]);
	for (uint32_t i = 0; i < batch->command_count; i++) {
		take_time(fake_commands_ns(batch->commands[i]), gpu);
		fake_commands_run(batch->commands[i], gpu, queue->family);
	}
	batch->ended_ns = monotonic_ns();
	for (uint32_t i = 0; i < batch->command_count; i++)
		fake_commands_pending(batch->commands[i], -1);
	for (uint32_t i = 0; i < batch->signal_count; i++)
		fake_semaphore_signal(&batch->signals[i]);
	fake_fence_signal(batch->fence);
	queue->running = false;
	queue->head++;
	pthread_cond_broadcast(&fake_changed);
}

static struct fake_queue *oldest(struct fake_device *device)
{
	for (unsigned i = 0; i < batch_count; i++) {
		struct fake_queue *queue =
			batches[i]->begun_ns ? NULL : queue_of_batch(device, batches[i]);

		if (queue && head_of(queue) == batches[i] && can_run(batches[i]))
			return queue;
	}
	return NULL;
}

unsigned fake_run(unsigned count)
{
	struct fake_queue *queue;
	unsigned done = 0;

	pthread_mutex_lock(&fake_lock);
	while (done < count && !fake_lost && last_device && (queue = oldest(last_device))) {
		run_head(queue);
		done++;
	}
	pthread_mutex_unlock(&fake_lock);
	return done;
}

static void *queue_main(void *opaque)
{
	struct fake_queue *queue = opaque;

	pthread_mutex_lock(&fake_lock);
	while (!queue->device->stop) {
		struct fake_batch *batch = fake_lost ? NULL : head_of(queue);

		if (batch && can_run(batch))
			run_head(queue);
		else
			pthread_cond_wait(&fake_changed, &fake_lock);
	}
	pthread_mutex_unlock(&fake_lock);
	return NULL;
}

/* ---- what was recorded ----------------------------------------------------------------------------- */

unsigned fake_batch_count(void)
{
	unsigned count;

	pthread_mutex_lock(&fake_lock);
	count = batch_count;
	pthread_mutex_unlock(&fake_lock);
	return count;
}

const struct fake_batch *fake_batch(unsigned index)
{
	const struct fake_batch *batch;

	pthread_mutex_lock(&fake_lock);
	batch = index < batch_count ? batches[index] : NULL;
	pthread_mutex_unlock(&fake_lock);
	return batch;
}

bool fake_wait_batches(unsigned count)
{
	const uint64_t until = monotonic_ns() + 10 * NSEC_PER_SEC;
	bool there;

	pthread_mutex_lock(&fake_lock);
	while (batch_count < count && fake_wait(until))
		;
	there = batch_count >= count;
	pthread_mutex_unlock(&fake_lock);
	return there;
}

/* ---- queues ---------------------------------------------------------------------------------------- */

void fake_queues_create(struct fake_device *device, const VkDeviceCreateInfo *info)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < info->queueCreateInfoCount; i++)
		count += info->pQueueCreateInfos[i].queueCount;
	device->queues = fake_object(count * sizeof(*device->queues));
	for (uint32_t i = 0; i < info->queueCreateInfoCount; i++)
		for (uint32_t j = 0; j < info->pQueueCreateInfos[i].queueCount; j++) {
			struct fake_queue *queue = &device->queues[device->queue_count++];

			queue->dispatch = FAKE_UNDRESSED;
			queue->device = device;
			queue->family = info->pQueueCreateInfos[i].queueFamilyIndex;
			queue->index = j;
			queue->has_thread = fake.automatic && !pthread_create(&queue->thread, NULL,
									      queue_main, queue);
		}
	last_device = device;
}

void fake_queues_destroy(struct fake_device *device)
{
	pthread_mutex_lock(&fake_lock);
	device->stop = true;
	pthread_cond_broadcast(&fake_changed);
	for (unsigned i = 0; i < device->queue_count && !fake_lost; i++)
		if (device->queues[i].head != device->queues[i].tail)
			fake_complain("vkDestroyDevice: a queue has something to do");
	pthread_mutex_unlock(&fake_lock);
	for (unsigned i = 0; i < device->queue_count; i++)
		if (device->queues[i].has_thread)
			pthread_join(device->queues[i].thread, NULL);
	pthread_mutex_lock(&fake_lock);
	fake_object_free(device->queues);
	if (last_device == device)
		last_device = NULL;
	pthread_mutex_unlock(&fake_lock);
}

static void VKAPI_CALL GetDeviceQueue2(VkDevice handle, const VkDeviceQueueInfo2 *info,
				       VkQueue *out)
{
	struct fake_device *device = (struct fake_device *)handle;

	*out = NULL;
	for (unsigned i = 0; i < device->queue_count; i++)
		if (device->queues[i].family == info->queueFamilyIndex &&
		    device->queues[i].index == info->queueIndex)
			*out = (VkQueue)&device->queues[i];
}

static void VKAPI_CALL GetDeviceQueue(VkDevice device, uint32_t family, uint32_t index,
				      VkQueue *out)
{
	GetDeviceQueue2(device,
			&(VkDeviceQueueInfo2){ .queueFamilyIndex = family, .queueIndex = index },
			out);
}

/* Who calls with a queue has it for himself. */
static void queue_begin(struct fake_queue *queue, const char *call)
{
	pthread_mutex_lock(&fake_lock);
	if (queue->dispatch != queue->device->dispatch)
		fake_complain("%s: a queue without the loader's pointer", call);
	pthread_mutex_unlock(&fake_lock);
	if (atomic_exchange(&queue->in_use, true)) {
		pthread_mutex_lock(&fake_lock);
		fake_complain("%s: two threads use one queue at once", call);
		pthread_mutex_unlock(&fake_lock);
	}
}

static VkResult queue_end(struct fake_queue *queue, VkResult result)
{
	pthread_mutex_unlock(&fake_lock);
	/* Wide enough to be met by another thread that does not keep to it. */
	sched_yield();
	atomic_store(&queue->in_use, false);
	return result;
}

static struct fake_batch *batch_add(struct fake_queue *queue, enum fake_kind kind, const char *call,
				    const void *chain)
{
	struct fake_batch *batch = calloc(1, sizeof(*batch));

	if (!batch || batch_count == FAKE_BATCHES_MAX)
		abort();
	batch->kind = kind;
	batch->call = call;
	batch->family = queue->family;
	batch->queue = queue->index;
	batch->chained = chain ? ((const VkBaseInStructure *)chain)->sType : 0;
	batch->thread = pthread_self();
	batch->submitted_ns = monotonic_ns();
	batches[batch_count++] = batch;
	queue->pending[queue->tail++ % FAKE_BATCHES_MAX] = batch;
	return batch;
}

static void batch_wait(struct fake_batch *batch, const VkSemaphoreSubmitInfo *info)
{
	if (batch->wait_count == FAKE_SEMAPHORES_MAX)
		abort();
	batch->waits[batch->wait_count++] = *info;
	fake_semaphore_wait_submitted(info);
}

static void batch_signal(struct fake_batch *batch, const VkSemaphoreSubmitInfo *info)
{
	if (batch->signal_count == FAKE_SEMAPHORES_MAX)
		abort();
	batch->signals[batch->signal_count++] = *info;
	fake_semaphore_signal_submitted(info);
}

/* The last batch of a submit has its fence; a submit without batches is one that has nothing else. */
static void submit_end(struct fake_queue *queue, struct fake_batch *last, const char *call,
		       VkFence fence)
{
	if (!last && fence)
		last = batch_add(queue, FAKE_FENCE, call, NULL);
	if (last)
		last->fence = fence;
	fake_fence_submitted(fence);
	pthread_cond_broadcast(&fake_changed);
}

static VkResult VKAPI_CALL QueueSubmit2(VkQueue handle, uint32_t count,
					const VkSubmitInfo2 *submits, VkFence fence)
{
	struct fake_queue *queue = (struct fake_queue *)handle;
	struct fake_batch *batch = NULL;
	VkResult result;

	queue_begin(queue, "vkQueueSubmit2");
	pthread_mutex_lock(&fake_lock);
	result = fake_enter("vkQueueSubmit2");
	if (!result && fake_lost)
		result = VK_ERROR_DEVICE_LOST;
	if (result)
		return queue_end(queue, result);
	for (uint32_t i = 0; i < count; i++) {
		const VkSubmitInfo2 *info = &submits[i];

		if (info->sType != VK_STRUCTURE_TYPE_SUBMIT_INFO_2)
			fake_complain("vkQueueSubmit2: sType %d", (int)info->sType);
		batch = batch_add(queue, FAKE_SUBMIT, "vkQueueSubmit2", info->pNext);
		batch->flags = info->flags;
		if (info->commandBufferInfoCount > FAKE_COMMANDS_MAX)
			abort();
		for (uint32_t j = 0; j < info->waitSemaphoreInfoCount; j++)
			batch_wait(batch, &info->pWaitSemaphoreInfos[j]);
		for (uint32_t j = 0; j < info->commandBufferInfoCount; j++) {
			batch->commands[batch->command_count++] =
				info->pCommandBufferInfos[j].commandBuffer;
			fake_commands_pending(info->pCommandBufferInfos[j].commandBuffer, 1);
		}
		for (uint32_t j = 0; j < info->signalSemaphoreInfoCount; j++)
			batch_signal(batch, &info->pSignalSemaphoreInfos[j]);
	}
	submit_end(queue, batch, "vkQueueSubmit2", fence);
	return queue_end(queue, VK_SUCCESS);
}

/* The layer passes these on as vkQueueSubmit2, but a program asks whether there is one. */
static VkResult VKAPI_CALL QueueSubmit(VkQueue handle, uint32_t count, const VkSubmitInfo *submits,
				       VkFence fence)
{
	queue_begin((struct fake_queue *)handle, "vkQueueSubmit");
	pthread_mutex_lock(&fake_lock);
	fake_complain("vkQueueSubmit reached the driver");
	return queue_end((struct fake_queue *)handle, VK_ERROR_UNKNOWN);
}

static VkResult VKAPI_CALL QueueBindSparse(VkQueue handle, uint32_t count,
					   const VkBindSparseInfo *binds, VkFence fence)
{
	struct fake_queue *queue = (struct fake_queue *)handle;
	struct fake_batch *batch = NULL;
	VkResult result;

	queue_begin(queue, "vkQueueBindSparse");
	pthread_mutex_lock(&fake_lock);
	result = fake_enter("vkQueueBindSparse");
	if (!result && fake_lost)
		result = VK_ERROR_DEVICE_LOST;
	for (uint32_t i = 0; i < count && !result; i++) {
		const VkTimelineSemaphoreSubmitInfo *values = binds[i].pNext;

		while (values && values->sType != VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO)
			values = values->pNext;
		batch = batch_add(queue, FAKE_SPARSE, "vkQueueBindSparse", binds[i].pNext);
		for (uint32_t j = 0; j < binds[i].waitSemaphoreCount; j++) {
			VkSemaphoreSubmitInfo wait = { .semaphore = binds[i].pWaitSemaphores[j] };

			if (values && j < values->waitSemaphoreValueCount)
				wait.value = values->pWaitSemaphoreValues[j];
			batch_wait(batch, &wait);
		}
		for (uint32_t j = 0; j < binds[i].signalSemaphoreCount; j++) {
			VkSemaphoreSubmitInfo signal = { .semaphore =
								 binds[i].pSignalSemaphores[j] };

			if (values && j < values->signalSemaphoreValueCount)
				signal.value = values->pSignalSemaphoreValues[j];
			batch_signal(batch, &signal);
		}
	}
	if (!result)
		submit_end(queue, batch, "vkQueueBindSparse", fence);
	return queue_end(queue, result);
}

static VkResult VKAPI_CALL QueuePresentKHR(VkQueue handle, const VkPresentInfoKHR *info)
{
	struct fake_queue *queue = (struct fake_queue *)handle;
	VkResult result;

	queue_begin(queue, "vkQueuePresentKHR");
	pthread_mutex_lock(&fake_lock);
	result = fake_enter("vkQueuePresentKHR");
	if (!result && fake_lost)
		result = VK_ERROR_DEVICE_LOST;
	if (!result) {
		struct fake_batch *batch =
			batch_add(queue, FAKE_PRESENT, "vkQueuePresentKHR", info->pNext);

		for (uint32_t i = 0; i < info->waitSemaphoreCount; i++) {
			const VkSemaphoreSubmitInfo wait = { .semaphore =
								     info->pWaitSemaphores[i] };

			batch_wait(batch, &wait);
		}
		pthread_cond_broadcast(&fake_changed);
	}
	return queue_end(queue, result);
}

static VkResult other(VkQueue handle, const char *call)
{
	struct fake_queue *queue = (struct fake_queue *)handle;
	VkResult result;

	queue_begin(queue, call);
	pthread_mutex_lock(&fake_lock);
	result = fake_enter(call);
	if (!result)
		batch_add(queue, FAKE_OTHER, call, NULL);
	pthread_cond_broadcast(&fake_changed);
	return queue_end(queue, result);
}

static void VKAPI_CALL QueueBeginDebugUtilsLabelEXT(VkQueue queue,
						    const VkDebugUtilsLabelEXT *label)
{
	other(queue, "vkQueueBeginDebugUtilsLabelEXT");
}

static void VKAPI_CALL QueueEndDebugUtilsLabelEXT(VkQueue queue)
{
	other(queue, "vkQueueEndDebugUtilsLabelEXT");
}

static void VKAPI_CALL QueueInsertDebugUtilsLabelEXT(VkQueue queue,
						     const VkDebugUtilsLabelEXT *label)
{
	other(queue, "vkQueueInsertDebugUtilsLabelEXT");
}

static VkResult VKAPI_CALL
QueueSetPerformanceConfigurationINTEL(VkQueue queue, VkPerformanceConfigurationINTEL configuration)
{
	return other(queue, "vkQueueSetPerformanceConfigurationINTEL");
}

static void VKAPI_CALL QueueNotifyOutOfBandNV(VkQueue queue, const VkOutOfBandQueueTypeInfoNV *info)
{
	other(queue, "vkQueueNotifyOutOfBandNV");
}

static VkResult wait_idle(struct fake_queue *queue, const char *call)
{
	const uint64_t until = monotonic_ns() + WAIT_LIMIT_NS;
	VkResult result;

	queue_begin(queue, call);
	pthread_mutex_lock(&fake_lock);
	result = fake_enter(call);
	while (!result && !fake_lost && queue->head != queue->tail)
		if (!fake_wait(until)) {
			fake_complain("%s: waited for too long", call);
			break;
		}
	return queue_end(queue, result ? result : fake_lost ? VK_ERROR_DEVICE_LOST : VK_SUCCESS);
}

static VkResult VKAPI_CALL QueueWaitIdle(VkQueue queue)
{
	return wait_idle((struct fake_queue *)queue, "vkQueueWaitIdle");
}

static VkResult VKAPI_CALL DeviceWaitIdle(VkDevice handle)
{
	struct fake_device *device = (struct fake_device *)handle;
	VkResult result = VK_SUCCESS;

	for (unsigned i = 0; i < device->queue_count && !result; i++)
		result = wait_idle(&device->queues[i], "vkDeviceWaitIdle");
	return result;
}

#define NAMED(function_) { "vk" #function_, (PFN_vkVoidFunction)function_ },
PFN_vkVoidFunction fake_queue_function(const char *name)
{
	static const struct {
		const char *name;
		PFN_vkVoidFunction function;
	} functions[] = {
		NAMED(GetDeviceQueue) NAMED(GetDeviceQueue2) NAMED(QueueSubmit) NAMED(QueueSubmit2)
			NAMED(QueueBindSparse) NAMED(QueuePresentKHR) NAMED(QueueWaitIdle)
				NAMED(DeviceWaitIdle) NAMED(QueueBeginDebugUtilsLabelEXT)
					NAMED(QueueEndDebugUtilsLabelEXT)
						NAMED(QueueInsertDebugUtilsLabelEXT)
							NAMED(QueueSetPerformanceConfigurationINTEL)
								NAMED(QueueNotifyOutOfBandNV)
	};

	for (unsigned i = 0; i < ARRAY_SIZE(functions); i++)
		if (!strcmp(functions[i].name, name))
			return functions[i].function;
	return fake_sync_function(name);
}
