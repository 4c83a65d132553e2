// SPDX-License-Identifier: Apache-2.0
/* The driver that is made up (fake_vulkan.h): semaphores, fences, queries, command buffers. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "tests/unit/fake_sync.h"

struct semaphore {
	bool timeline;
	uint64_t value;	   /* 0 or 1 of a binary one */
	uint64_t promised; /* what it will be when all is done that was submitted */
	unsigned pending;
};

struct fence {
	bool signalled;
	unsigned pending;
};

struct query_pool {
	uint32_t count;
	struct {
		uint64_t value;
		bool reset, available;
	} queries[];
};

#define WRITES_MAX 4
struct commands {
	const void *dispatch;
	struct commands *next; /* of its pool */
	bool recording, recorded;
	VkCommandBufferUsageFlags flags;
	unsigned pending;
	uint64_t ns;
	unsigned write_count;
	struct {
		struct query_pool *pool;
		uint32_t query;
	} writes[WRITES_MAX];
};

struct command_pool {
	struct commands *first;
};

#define SEMAPHORE(handle) ((struct semaphore *)(handle))
#define FENCE(handle)	  ((struct fence *)(handle))
#define COMMANDS(handle)  ((struct commands *)(handle))

/* ---- semaphores ---------------------------------------------------------------------------------- */

static VkResult VKAPI_CALL CreateSemaphore(VkDevice device, const VkSemaphoreCreateInfo *info,
					   const VkAllocationCallbacks *allocator, VkSemaphore *out)
{
	const VkSemaphoreTypeCreateInfo *type = info->pNext;
	struct semaphore *semaphore;

	ENTER("vkCreateSemaphore");
	while (type && type->sType != VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO)
		type = type->pNext;
	semaphore = fake_object(sizeof(*semaphore));
	semaphore->timeline = type && type->semaphoreType == VK_SEMAPHORE_TYPE_TIMELINE;
	semaphore->value = semaphore->promised = semaphore->timeline ? type->initialValue : 0;
	*out = (VkSemaphore)semaphore;
	LEAVE(VK_SUCCESS);
}

static void VKAPI_CALL DestroySemaphore(VkDevice device, VkSemaphore handle,
					const VkAllocationCallbacks *allocator)
{
	pthread_mutex_lock(&fake_lock);
	if (handle && SEMAPHORE(handle)->pending && !fake_lost)
		fake_complain("vkDestroySemaphore: in use");
	fake_object_free(SEMAPHORE(handle));
	pthread_mutex_unlock(&fake_lock);
}

void fake_semaphore_wait_submitted(const VkSemaphoreSubmitInfo *info)
{
	struct semaphore *semaphore = SEMAPHORE(info->semaphore);

	semaphore->pending++;
	if (semaphore->timeline)
		return;
	if (!semaphore->promised)
		fake_complain("a binary semaphore is waited for before its signal was submitted");
	semaphore->promised = 0;
}

void fake_semaphore_signal_submitted(const VkSemaphoreSubmitInfo *info)
{
	struct semaphore *semaphore = SEMAPHORE(info->semaphore);

	semaphore->pending++;
	if (semaphore->timeline) {
		semaphore->promised = MAX(semaphore->promised, info->value);
		return;
	}
	if (semaphore->promised)
		fake_complain("a binary semaphore is signalled twice");
	semaphore->promised = 1;
}

bool fake_semaphore_is_signalled(const VkSemaphoreSubmitInfo *info)
{
	const struct semaphore *semaphore = SEMAPHORE(info->semaphore);

	return semaphore->value >= (semaphore->timeline ? info->value : 1);
}

void fake_semaphore_waited(const VkSemaphoreSubmitInfo *info)
{
	struct semaphore *semaphore = SEMAPHORE(info->semaphore);

	semaphore->pending--;
	if (!semaphore->timeline)
		semaphore->value = 0;
}

void fake_semaphore_signal(const VkSemaphoreSubmitInfo *info)
{
	struct semaphore *semaphore = SEMAPHORE(info->semaphore);

	semaphore->pending--;
	if (semaphore->timeline && info->value <= semaphore->value)
		fake_complain("a timeline that runs backwards: %llu after %llu",
			      (unsigned long long)info->value,
			      (unsigned long long)semaphore->value);
	semaphore->value = semaphore->timeline ? info->value : 1;
}

uint64_t fake_semaphore_value(VkSemaphore semaphore)
{
	uint64_t value;

	pthread_mutex_lock(&fake_lock);
	value = SEMAPHORE(semaphore)->value;
	pthread_mutex_unlock(&fake_lock);
	return value;
}

static VkResult VKAPI_CALL GetSemaphoreCounterValue(VkDevice device, VkSemaphore semaphore,
						    uint64_t *value)
{
	ENTER("vkGetSemaphoreCounterValue");
	if (!SEMAPHORE(semaphore)->timeline)
		fake_complain("vkGetSemaphoreCounterValue: binary");
	*value = SEMAPHORE(semaphore)->value;
	LEAVE(fake_lost ? VK_ERROR_DEVICE_LOST : VK_SUCCESS);
}

static VkResult VKAPI_CALL SignalSemaphore(VkDevice device, const VkSemaphoreSignalInfo *info)
{
	struct semaphore *semaphore = SEMAPHORE(info->semaphore);

	ENTER("vkSignalSemaphore");
	if (!semaphore->timeline || info->value <= semaphore->value)
		fake_complain("vkSignalSemaphore: binary, or backwards");
	semaphore->value = info->value;
	semaphore->promised = MAX(semaphore->promised, info->value);
	pthread_cond_broadcast(&fake_changed);
	LEAVE(fake_lost ? VK_ERROR_DEVICE_LOST : VK_SUCCESS);
}

/* Vulkan's way: nanoseconds from now, UINT64_MAX for ever. */
static uint64_t until(uint64_t timeout_ns)
{
	return monotonic_ns() + MIN(timeout_ns, 20 * NSEC_PER_SEC);
}

static VkResult VKAPI_CALL WaitSemaphores(VkDevice device, const VkSemaphoreWaitInfo *info,
					  uint64_t timeout_ns)
{
	const uint64_t end = until(timeout_ns);

	ENTER("vkWaitSemaphores");
	for (;;) {
		uint32_t reached = 0;

		if (fake_lost)
			LEAVE(VK_ERROR_DEVICE_LOST);
		for (uint32_t i = 0; i < info->semaphoreCount; i++)
			reached += SEMAPHORE(info->pSemaphores[i])->value >= info->pValues[i];
		if (reached == info->semaphoreCount ||
		    (reached && info->flags & VK_SEMAPHORE_WAIT_ANY_BIT))
			LEAVE(VK_SUCCESS);
		if (!timeout_ns || !fake_wait(end))
			LEAVE(VK_TIMEOUT);
	}
}

/* A payload that is copied out (SYNC_FD) is one whose signal was submitted. */
static VkResult export_fd(int *fd)
{
	*fd = eventfd(1, EFD_CLOEXEC);
	return *fd < 0 ? VK_ERROR_TOO_MANY_OBJECTS : VK_SUCCESS;
}

static VkResult VKAPI_CALL GetSemaphoreFdKHR(VkDevice device, const VkSemaphoreGetFdInfoKHR *info,
					     int *fd)
{
	struct semaphore *semaphore = SEMAPHORE(info->semaphore);

	ENTER("vkGetSemaphoreFdKHR");
	if (info->handleType == VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT) {
		if (!semaphore->promised)
			fake_complain("vkGetSemaphoreFdKHR: no signal was submitted");
		semaphore->promised = 0;
	}
	LEAVE(export_fd(fd));
}

/* ---- fences ------------------------------------------------------------------------------------------ */

static VkResult VKAPI_CALL CreateFence(VkDevice device, const VkFenceCreateInfo *info,
				       const VkAllocationCallbacks *allocator, VkFence *out)
{
	struct fence *fence;

	ENTER("vkCreateFence");
	fence = fake_object(sizeof(*fence));
	fence->signalled = info->flags & VK_FENCE_CREATE_SIGNALED_BIT;
	*out = (VkFence)fence;
	LEAVE(VK_SUCCESS);
}

static void VKAPI_CALL DestroyFence(VkDevice device, VkFence fence,
				    const VkAllocationCallbacks *allocator)
{
	pthread_mutex_lock(&fake_lock);
	if (fence && FENCE(fence)->pending && !fake_lost)
		fake_complain("vkDestroyFence: in use");
	fake_object_free(FENCE(fence));
	pthread_mutex_unlock(&fake_lock);
}

void fake_fence_submitted(VkFence fence)
{
	if (!fence)
		return;
	if (FENCE(fence)->signalled || FENCE(fence)->pending)
		fake_complain("a fence is submitted that was not reset, or is in use");
	FENCE(fence)->pending++;
}

void fake_fence_signal(VkFence fence)
{
	if (!fence)
		return;
	FENCE(fence)->pending--;
	FENCE(fence)->signalled = true;
}

static VkResult VKAPI_CALL ResetFences(VkDevice device, uint32_t count, const VkFence *fences)
{
	ENTER("vkResetFences");
	for (uint32_t i = 0; i < count; i++) {
		if (FENCE(fences[i])->pending)
			fake_complain("vkResetFences: in use");
		FENCE(fences[i])->signalled = false;
	}
	LEAVE(VK_SUCCESS);
}

static VkResult VKAPI_CALL GetFenceStatus(VkDevice device, VkFence fence)
{
	ENTER("vkGetFenceStatus");
	LEAVE(fake_lost			? VK_ERROR_DEVICE_LOST
	      : FENCE(fence)->signalled ? VK_SUCCESS
					: VK_NOT_READY);
}

static VkResult VKAPI_CALL WaitForFences(VkDevice device, uint32_t count, const VkFence *fences,
					 VkBool32 all, uint64_t timeout_ns)
{
	const uint64_t end = until(timeout_ns);

	ENTER("vkWaitForFences");
	for (;;) {
		uint32_t signalled = 0;

		if (fake_lost)
			LEAVE(VK_ERROR_DEVICE_LOST);
		for (uint32_t i = 0; i < count; i++)
			signalled += FENCE(fences[i])->signalled;
		if (signalled == count || (signalled && !all))
			LEAVE(VK_SUCCESS);
		if (!timeout_ns || !fake_wait(end))
			LEAVE(VK_TIMEOUT);
	}
}

static VkResult VKAPI_CALL GetFenceFdKHR(VkDevice device, const VkFenceGetFdInfoKHR *info, int *fd)
{
	ENTER("vkGetFenceFdKHR");
	if (!FENCE(info->fence)->signalled && !FENCE(info->fence)->pending)
		fake_complain("vkGetFenceFdKHR: nothing was submitted");
	LEAVE(export_fd(fd));
}

/* ---- queries ------------------------------------------------------------------------------------------- */

static uint64_t ticks(const struct fake_gpu *gpu)
{
	if (fake.manual_clock)
		return fake.ticks;
	return fake.ticks + (uint64_t)((double)monotonic_ns() / (double)gpu->timestamp_period);
}

static VkResult VKAPI_CALL CreateQueryPool(VkDevice device, const VkQueryPoolCreateInfo *info,
					   const VkAllocationCallbacks *allocator, VkQueryPool *out)
{
	struct query_pool *pool;

	ENTER("vkCreateQueryPool");
	pool = fake_object(sizeof(*pool) + info->queryCount * sizeof(pool->queries[0]));
	pool->count = info->queryCount;
	*out = (VkQueryPool)pool;
	LEAVE(VK_SUCCESS);
}

static void VKAPI_CALL DestroyQueryPool(VkDevice device, VkQueryPool pool,
					const VkAllocationCallbacks *allocator)
{
	pthread_mutex_lock(&fake_lock);
	fake_object_free(pool);
	pthread_mutex_unlock(&fake_lock);
}

static void VKAPI_CALL ResetQueryPool(VkDevice device, VkQueryPool handle, uint32_t first,
				      uint32_t count)
{
	struct query_pool *pool = (struct query_pool *)handle;

	pthread_mutex_lock(&fake_lock);
	if (first + count > pool->count)
		fake_complain("vkResetQueryPool: beyond its end");
	for (uint32_t i = first; i < MIN(first + count, pool->count); i++) {
		pool->queries[i].reset = true;
		pool->queries[i].available = false;
	}
	pthread_mutex_unlock(&fake_lock);
}

/* 64-bit results, one after the other; with their availability if that is asked for. */
static VkResult VKAPI_CALL GetQueryPoolResults(VkDevice device, VkQueryPool handle, uint32_t first,
					       uint32_t count, size_t size, void *data,
					       VkDeviceSize stride, VkQueryResultFlags flags)
{
	struct query_pool *pool = (struct query_pool *)handle;
	VkResult result = VK_SUCCESS;

	ENTER("vkGetQueryPoolResults");
	if (!(flags & VK_QUERY_RESULT_64_BIT) || flags & VK_QUERY_RESULT_WAIT_BIT ||
	    first + count > pool->count || count * stride > size)
		fake_complain("vkGetQueryPoolResults: not as this driver has it");
	for (uint32_t i = 0; i < count; i++) {
		uint64_t *at = (uint64_t *)((char *)data + i * stride);
		const bool available = pool->queries[first + i].available;

		if (available)
			at[0] = pool->queries[first + i].value;
		else
			result = VK_NOT_READY;
		if (flags & VK_QUERY_RESULT_WITH_AVAILABILITY_BIT)
			at[1] = available;
	}
	LEAVE(fake_lost ? VK_ERROR_DEVICE_LOST : result);
}

static VkResult VKAPI_CALL GetCalibratedTimestampsKHR(VkDevice device, uint32_t count,
						      const VkCalibratedTimestampInfoKHR *infos,
						      uint64_t *times, uint64_t *deviation)
{
	const struct fake_gpu *gpu = ((struct fake_device *)device)->gpu;

	ENTER("vkGetCalibratedTimestampsKHR");
	for (uint32_t i = 0; i < count; i++)
		times[i] = infos[i].timeDomain == VK_TIME_DOMAIN_DEVICE_KHR ? ticks(gpu)
			   : fake.monotonic_ns				    ? fake.monotonic_ns
									    : monotonic_ns();
	*deviation = 1000;
	LEAVE(VK_SUCCESS);
}

/* ---- command buffers ------------------------------------------------------------------------------------- */

static VkResult VKAPI_CALL CreateCommandPool(VkDevice device, const VkCommandPoolCreateInfo *info,
					     const VkAllocationCallbacks *allocator,
					     VkCommandPool *out)
{
	ENTER("vkCreateCommandPool");
	*out = (VkCommandPool)fake_object(sizeof(struct command_pool));
	LEAVE(VK_SUCCESS);
}

static void VKAPI_CALL DestroyCommandPool(VkDevice device, VkCommandPool handle,
					  const VkAllocationCallbacks *allocator)
{
	struct command_pool *pool = (struct command_pool *)handle;

	if (!pool)
		return;
	pthread_mutex_lock(&fake_lock);
	while (pool->first) {
		struct commands *commands = pool->first;

		if (commands->pending && !fake_lost)
			fake_complain("vkDestroyCommandPool: a command buffer is in use");
		pool->first = commands->next;
		fake_object_free(commands);
	}
	fake_object_free(pool);
	pthread_mutex_unlock(&fake_lock);
}

static VkResult VKAPI_CALL AllocateCommandBuffers(VkDevice device,
						  const VkCommandBufferAllocateInfo *info,
						  VkCommandBuffer *out)
{
	struct command_pool *pool = (struct command_pool *)info->commandPool;

	ENTER("vkAllocateCommandBuffers");
	for (uint32_t i = 0; i < info->commandBufferCount; i++) {
		struct commands *commands = fake_object(sizeof(*commands));

		commands->dispatch = FAKE_UNDRESSED;
		commands->next = pool->first;
		pool->first = commands;
		out[i] = (VkCommandBuffer)commands;
	}
	LEAVE(VK_SUCCESS);
}

static VkResult VKAPI_CALL BeginCommandBuffer(VkCommandBuffer handle,
					      const VkCommandBufferBeginInfo *info)
{
	struct commands *commands = COMMANDS(handle);

	ENTER("vkBeginCommandBuffer");
	if (commands->pending)
		fake_complain("vkBeginCommandBuffer: in use");
	if (commands->dispatch == FAKE_UNDRESSED)
		fake_complain("vkBeginCommandBuffer: without the loader's pointer");
	commands->recording = true;
	commands->recorded = false;
	commands->flags = info->flags;
	commands->write_count = 0;
	LEAVE(VK_SUCCESS);
}

static VkResult VKAPI_CALL EndCommandBuffer(VkCommandBuffer handle)
{
	ENTER("vkEndCommandBuffer");
	COMMANDS(handle)->recorded = COMMANDS(handle)->recording;
	COMMANDS(handle)->recording = false;
	LEAVE(VK_SUCCESS);
}

static void VKAPI_CALL CmdWriteTimestamp2(VkCommandBuffer handle, VkPipelineStageFlags2 stage,
					  VkQueryPool pool, uint32_t query)
{
	struct commands *commands = COMMANDS(handle);

	pthread_mutex_lock(&fake_lock);
	if (!commands->recording || commands->write_count == WRITES_MAX ||
	    query >= ((struct query_pool *)pool)->count) {
		fake_complain("vkCmdWriteTimestamp2: not recording, too many, or no such query");
	} else {
		commands->writes[commands->write_count].pool = (struct query_pool *)pool;
		commands->writes[commands->write_count++].query = query;
	}
	pthread_mutex_unlock(&fake_lock);
}

void fake_commands_take(VkCommandBuffer commands, uint64_t ns)
{
	pthread_mutex_lock(&fake_lock);
	COMMANDS(commands)->ns = ns;
	pthread_mutex_unlock(&fake_lock);
}

uint64_t fake_commands_ns(VkCommandBuffer commands)
{
	return COMMANDS(commands)->ns;
}

void fake_commands_pending(VkCommandBuffer handle, int change)
{
	struct commands *commands = COMMANDS(handle);

	if (change > 0 && !commands->recorded)
		fake_complain("a command buffer is submitted that was not recorded");
	if (change > 0 && commands->pending &&
	    !(commands->flags & VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT))
		fake_complain("a command buffer is submitted while it is in use");
	commands->pending += (unsigned)change;
	if (change < 0 && commands->flags & VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT)
		commands->recorded = false;
}

void fake_commands_run(VkCommandBuffer handle, const struct fake_gpu *gpu, uint32_t family)
{
	const struct commands *commands = COMMANDS(handle);
	const uint32_t bits = gpu->families[family].timestamp_bits;

	for (unsigned i = 0; i < commands->write_count; i++) {
		struct query_pool *pool = commands->writes[i].pool;
		const uint32_t query = commands->writes[i].query;

		if (!bits)
			fake_complain("a timestamp on a queue that has none");
		if (!pool->queries[query].reset)
			fake_complain("query %u was not reset", query);
		pool->queries[query].value =
			bits < 64 ? ticks(gpu) & ((UINT64_C(1) << bits) - 1) : ticks(gpu);
		pool->queries[query].available = true;
		pool->queries[query].reset = false;
	}
}

/* ---- by name --------------------------------------------------------------------------------------------- */

#define NAMED(function_) { "vk" #function_, (PFN_vkVoidFunction)function_ },
PFN_vkVoidFunction fake_sync_function(const char *name)
{
	static const struct {
		const char *name;
		PFN_vkVoidFunction function;
	} functions[] = {
		NAMED(CreateSemaphore) NAMED(DestroySemaphore) NAMED(
			GetSemaphoreCounterValue) NAMED(SignalSemaphore) NAMED(WaitSemaphores)
			NAMED(GetSemaphoreFdKHR) NAMED(CreateFence) NAMED(DestroyFence) NAMED(
				ResetFences) NAMED(GetFenceStatus) NAMED(WaitForFences)
				NAMED(GetFenceFdKHR) NAMED(CreateQueryPool) NAMED(DestroyQueryPool)
					NAMED(ResetQueryPool) NAMED(GetQueryPoolResults) NAMED(
						GetCalibratedTimestampsKHR) NAMED(CreateCommandPool)
						NAMED(DestroyCommandPool)
							NAMED(AllocateCommandBuffers)
								NAMED(BeginCommandBuffer) NAMED(
									EndCommandBuffer)
									NAMED(CmdWriteTimestamp2)
	};

	for (unsigned i = 0; i < ARRAY_SIZE(functions); i++)
		if (!strcmp(functions[i].name, name))
			return functions[i].function;
	/* The one function that an extension's older name is asked for. */
	if (!strcmp(name, "vkGetCalibratedTimestampsEXT"))
		return (PFN_vkVoidFunction)GetCalibratedTimestampsKHR;
	return NULL;
}
