// SPDX-License-Identifier: Apache-2.0
/* Objects of the live tests' device, and submitting to it (vk.h). */
#include <errno.h>
#include <string.h>

#include "tests/live/vk.h"

/* Handles that are not dispatchable are pointers here (64-bit), numbers elsewhere. */
#define HANDLE(x)    ((uint64_t)(uintptr_t)(x))
#define OBJECT(T, h) ((T)(uintptr_t)(h))

#define DESTROYER(name, T, call)                           \
	static void name(struct vk *vk, uint64_t handle)   \
	{                                                  \
		call(vk->device, OBJECT(T, handle), NULL); \
	}
DESTROYER(destroy_fence, VkFence, vkDestroyFence)
DESTROYER(destroy_semaphore, VkSemaphore, vkDestroySemaphore)
DESTROYER(destroy_pool, VkCommandPool, vkDestroyCommandPool)
DESTROYER(destroy_shader, VkShaderModule, vkDestroyShaderModule)
DESTROYER(destroy_buffer, VkBuffer, vkDestroyBuffer)
DESTROYER(destroy_memory, VkDeviceMemory, vkFreeMemory)

int vk_fence(struct vk *vk, VkFence *fence, struct error *e)
{
	const VkFenceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };

	VK_TRY(vkCreateFence(vk->device, &info, NULL, fence), e);
	return vk_keep(vk, destroy_fence, HANDLE(*fence), e);
}

int vk_binary(struct vk *vk, const void *pnext, VkSemaphore *semaphore, struct error *e)
{
	const VkSemaphoreCreateInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
					     .pNext = pnext };

	VK_TRY(vkCreateSemaphore(vk->device, &info, NULL, semaphore), e);
	return vk_keep(vk, destroy_semaphore, HANDLE(*semaphore), e);
}

int vk_timeline(struct vk *vk, uint64_t value, VkSemaphore *semaphore, struct error *e)
{
	const VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
		.initialValue = value,
	};

	return vk_binary(vk, &type, semaphore, e);
}

int vk_command_pool(struct vk *vk, VkCommandPool *pool, struct error *e)
{
	const VkCommandPoolCreateInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
					       .queueFamilyIndex = vk->family };

	VK_TRY(vkCreateCommandPool(vk->device, &info, NULL, pool), e);
	return vk_keep(vk, destroy_pool, HANDLE(*pool), e);
}

int vk_command_buffer(struct vk *vk, VkCommandPool pool, VkCommandBuffer *buffer, struct error *e)
{
	const VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandPool = pool,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = 1,
	};

	VK_TRY(vkAllocateCommandBuffers(vk->device, &info, buffer), e);
	return 0;
}

int vk_shader(struct vk *vk, const uint32_t *code, size_t size, VkShaderModule *module,
	      struct error *e)
{
	const VkShaderModuleCreateInfo info = { .sType =
							VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
						.codeSize = size,
						.pCode = code };

	VK_TRY(vkCreateShaderModule(vk->device, &info, NULL, module), e);
	return vk_keep(vk, destroy_shader, HANDLE(*module), e);
}

int vk_memory(struct vk *vk, VkDeviceSize size, uint32_t type_bits, VkMemoryPropertyFlags flags,
	      const void *pnext, VkDeviceMemory *memory, struct error *e)
{
	int type = vk_memory_type(vk, type_bits, flags | VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
	VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
				      .pNext = pnext,
				      .allocationSize = size };

	if (type < 0)
		type = vk_memory_type(vk, type_bits, flags);
	if (type < 0)
		return error_set(e, ENOTSUP, "memory-type", NULL, "no memory type of 0x%x has 0x%x",
				 type_bits, flags);
	info.memoryTypeIndex = (uint32_t)type;
	VK_TRY(vkAllocateMemory(vk->device, &info, NULL, memory), e);
	return vk_keep(vk, destroy_memory, HANDLE(*memory), e);
}

int vk_buffer(struct vk *vk, VkDeviceSize size, VkBufferUsageFlags usage, VkBuffer *buffer,
	      void **map, struct error *e)
{
	const VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
					  .size = size,
					  .usage = usage };
	VkMemoryRequirements needs;
	VkDeviceMemory memory;

	VK_TRY(vkCreateBuffer(vk->device, &info, NULL, buffer), e);
	TRY(vk_keep(vk, destroy_buffer, HANDLE(*buffer), e));
	vkGetBufferMemoryRequirements(vk->device, *buffer, &needs);
	TRY(vk_memory(vk, needs.size, needs.memoryTypeBits,
		      map ? VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
				      VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
			  : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
		      NULL, &memory, e));
	VK_TRY(vkBindBufferMemory(vk->device, *buffer, memory, 0), e);
	if (map)
		VK_TRY(vkMapMemory(vk->device, memory, 0, VK_WHOLE_SIZE, 0, map), e);
	return 0;
}

/* What vkQueueSubmit reads for one batch. */
struct one {
	VkTimelineSemaphoreSubmitInfo timeline;
	VkPipelineStageFlags stages[VK_BATCH_SEMAPHORES];
	struct vk_batch batch;
};

static VkResult submit_one(VkQueue queue, const struct vk_batch *batches, unsigned count,
			   VkFence fence)
{
	VkSubmitInfo infos[VK_BATCHES_MAX];
	struct one parts[VK_BATCHES_MAX];
	VkResult result;

	for (unsigned i = 0; i < count; i++) {
		struct one *one = &parts[i];

		one->batch = batches[i];
		for (unsigned j = 0; j < VK_BATCH_SEMAPHORES; j++)
			one->stages[j] = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
		one->timeline = (VkTimelineSemaphoreSubmitInfo){
			.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
			.waitSemaphoreValueCount = one->batch.waits,
			.pWaitSemaphoreValues = one->batch.wait_value,
			.signalSemaphoreValueCount = one->batch.signals,
			.pSignalSemaphoreValues = one->batch.signal_value,
		};
		infos[i] = (VkSubmitInfo){
			.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
			.pNext = one->batch.waits || one->batch.signals ? &one->timeline : NULL,
			.waitSemaphoreCount = one->batch.waits,
			.pWaitSemaphores = one->batch.wait,
			.pWaitDstStageMask = one->stages,
			.commandBufferCount = one->batch.commands,
			.pCommandBuffers = one->batch.command,
			.signalSemaphoreCount = one->batch.signals,
			.pSignalSemaphores = one->batch.signal,
		};
	}
	result = vkQueueSubmit(queue, count, count ? infos : NULL, fence);
	explicit_bzero(infos, sizeof(infos));
	explicit_bzero(parts, sizeof(parts));
	return result;
}

/* What vkQueueSubmit2 reads for one batch. */
struct two {
	VkSemaphoreSubmitInfo waits[VK_BATCH_SEMAPHORES], signals[VK_BATCH_SEMAPHORES];
	VkCommandBufferSubmitInfo commands[VK_BATCH_SEMAPHORES];
};

static VkSemaphoreSubmitInfo semaphore_info(VkSemaphore semaphore, uint64_t value)
{
	return (VkSemaphoreSubmitInfo){ .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
					.semaphore = semaphore,
					.value = value,
					.stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT };
}

static VkResult submit_two(VkQueue queue, const struct vk_batch *batches, unsigned count,
			   VkFence fence)
{
	VkSubmitInfo2 infos[VK_BATCHES_MAX];
	struct two parts[VK_BATCHES_MAX];
	VkResult result;

	for (unsigned i = 0; i < count; i++) {
		const struct vk_batch *batch = &batches[i];
		struct two *two = &parts[i];

		for (unsigned j = 0; j < batch->waits; j++)
			two->waits[j] = semaphore_info(batch->wait[j], batch->wait_value[j]);
		for (unsigned j = 0; j < batch->signals; j++)
			two->signals[j] = semaphore_info(batch->signal[j], batch->signal_value[j]);
		for (unsigned j = 0; j < batch->commands; j++)
			two->commands[j] = (VkCommandBufferSubmitInfo){
				.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
				.commandBuffer = batch->command[j],
			};
		infos[i] = (VkSubmitInfo2){
			.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
			.waitSemaphoreInfoCount = batch->waits,
			.pWaitSemaphoreInfos = two->waits,
			.commandBufferInfoCount = batch->commands,
			.pCommandBufferInfos = two->commands,
			.signalSemaphoreInfoCount = batch->signals,
			.pSignalSemaphoreInfos = two->signals,
		};
	}
	result = vkQueueSubmit2(queue, count, count ? infos : NULL, fence);
	explicit_bzero(infos, sizeof(infos));
	explicit_bzero(parts, sizeof(parts));
	return result;
}

int vk_submit(VkQueue queue, bool two, const struct vk_batch *batches, unsigned count,
	      VkFence fence, struct error *e)
{
	if (count > VK_BATCHES_MAX)
		return error_set(e, EINVAL, "batches", NULL, "more than %d batches",
				 VK_BATCHES_MAX);
	return vk_result((two ? submit_two : submit_one)(queue, batches, count, fence),
			 two ? "vkQueueSubmit2" : "vkQueueSubmit", e);
}

int vk_wait(struct vk *vk, VkFence fence, struct error *e)
{
	VK_TRY(vkWaitForFences(vk->device, 1, &fence, VK_TRUE,
			       vk->patience_ns ? vk->patience_ns : VK_PATIENCE_NS),
	       e);
	return 0;
}
