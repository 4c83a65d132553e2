// SPDX-License-Identifier: Apache-2.0
/*
 * What leaves the device: memory, semaphores and fences as file descriptors, and what comes in by another way than a command
 * buffer: sparse binding.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "tests/live/job.h"
#include "tests/live/vkload.h"

#define GROUPS	     8
#define ITERATIONS   20000
#define HANDLE(x)    ((uint64_t)(uintptr_t)(x))
#define OBJECT(T, h) ((T)(uintptr_t)(h))

/* FUNCTION() - an entry point of an extension, or the test's end. */
#define FUNCTION(vk, name)                                                      \
	PFN_##name name = (PFN_##name)vkGetDeviceProcAddr((vk)->device, #name); \
	if (!name)                                                              \
	return error_set(e, EPROTO, "wrong", NULL, "the extension is there, " #name " is not")

struct world {
	struct job_kind kind;
	struct job job;
	VkFence fence;
};

static int set_up(struct vk *vk, struct world *world, struct error *e)
{
	TRY(job_kind_create(vk, 4, &world->kind, e));
	TRY(job_create(&world->kind, GROUPS, ITERATIONS, &world->job, e));
	return vk_fence(vk, &world->fence, e);
}

static void destroy_buffer(struct vk *vk, uint64_t handle)
{
	vkDestroyBuffer(vk->device, OBJECT(VkBuffer, handle), NULL);
}

/* A buffer for lanes without memory yet. */
static int bare_buffer(struct vk *vk, const void *pnext, VkBufferCreateFlags flags,
		       VkDeviceSize size, VkBuffer *buffer, VkMemoryRequirements *needs,
		       struct error *e)
{
	const VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
					  .pNext = pnext,
					  .flags = flags,
					  .size = size,
					  .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
						   VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
						   VK_BUFFER_USAGE_TRANSFER_DST_BIT };

	VK_TRY(vkCreateBuffer(vk->device, &info, NULL, buffer), e);
	TRY(vk_keep(vk, destroy_buffer, HANDLE(*buffer), e));
	vkGetBufferMemoryRequirements(vk->device, *buffer, needs);
	return 0;
}

#define SHARED_TYPE VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT

/* Allocated on this device, or imported from @fd if it is >= 0, which is then the driver's. Mapped as lanes. */
static int shared_lanes(struct vk *vk, const struct job *like, int fd, VkBuffer *buffer,
			VkDeviceMemory *memory, uint32_t **lanes, struct error *e)
{
	const VkExternalMemoryBufferCreateInfo external = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
		.handleTypes = SHARED_TYPE
	};
	const VkExportMemoryAllocateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO, .handleTypes = SHARED_TYPE
	};
	const VkImportMemoryFdInfoKHR import = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
		.handleType = SHARED_TYPE,
		.fd = fd
	};
	VkMemoryRequirements needs;
	void *map;

	TRY(bare_buffer(vk, &external, 0, like->count * sizeof(*like->lanes), buffer, &needs, e));
	TRY(vk_memory(vk, needs.size, needs.memoryTypeBits,
		      VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
		      fd < 0 ? (const void *)&export : (const void *)&import, memory, e));
	VK_TRY(vkBindBufferMemory(vk->device, *buffer, *memory, 0), e);
	VK_TRY(vkMapMemory(vk->device, *memory, 0, VK_WHOLE_SIZE, 0, &map), e);
	*lanes = map;
	return 0;
}

/* Memory of one device, imported by another: what one computes the other goes on with. */
static int memory_is_shared_between_devices(struct vk *vk, struct error *e)
{
	static struct vk other;
	struct world here, there;
	VkDeviceMemory memory, imported;
	VkBuffer buffer, same;
	VkMemoryGetFdInfoKHR get = { .sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
				     .handleType = SHARED_TYPE };
	int fd = -1;

	if (!(vk->extensions & VK_HAS_MEMORY_FD))
		return error_set(e, ENOTSUP, "left-out", NULL, "no VK_KHR_external_memory_fd");
	FUNCTION(vk, vkGetMemoryFdKHR);
	TRY(set_up(vk, &here, e));
	TRY(vk_open(&other, vk->properties.deviceName, e));
	TRY(set_up(&other, &there, e));
	TRY(shared_lanes(vk, &here.job, -1, &buffer, &memory, &here.job.lanes, e));
	get.memory = memory;
	VK_TRY(vkGetMemoryFdKHR(vk->device, &get, &fd), e);
	TRY(shared_lanes(&other, &there.job, fd, &same, &imported, &there.job.lanes, e));
	TRY(job_record(&here.kind, &here.job, buffer, e));
	TRY(job_record(&there.kind, &there.job, same, e));
	job_prepare(&here.job, 77);
	there.job.seed = 77;
	TRY(job_run(&here.job, vk->queues[0], here.fence, NULL, e));
	TRY(job_check(&there.job, 1, e));
	TRY(job_run(&there.job, other.queues[0], there.fence, NULL, e));
	TRY(job_check(&here.job, 2, e));
	vk_close(&other);
	return 0;
}

static bool can_export(struct vk *vk, VkExternalSemaphoreHandleTypeFlagBits type)
{
	const VkPhysicalDeviceExternalSemaphoreInfo info = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_SEMAPHORE_INFO,
		.handleType = type
	};
	const VkExternalSemaphoreFeatureFlags both = VK_EXTERNAL_SEMAPHORE_FEATURE_EXPORTABLE_BIT |
						     VK_EXTERNAL_SEMAPHORE_FEATURE_IMPORTABLE_BIT;
	VkExternalSemaphoreProperties properties = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_SEMAPHORE_PROPERTIES
	};

	vkGetPhysicalDeviceExternalSemaphoreProperties(vk->physical, &info, &properties);
	return (properties.externalSemaphoreFeatures & both) == both;
}

/* Work signals a semaphore, which travels as a descriptor; the other half of the work waits for what was imported. */
static int semaphore_travels(struct vk *vk, VkExternalSemaphoreHandleTypeFlagBits type,
			     struct error *e)
{
	const VkExportSemaphoreCreateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_SEMAPHORE_CREATE_INFO, .handleTypes = type
	};
	const bool sync_fd = type == VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT;
	VkSemaphoreGetFdInfoKHR get = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_GET_FD_INFO_KHR,
					.handleType = type };
	VkImportSemaphoreFdInfoKHR import = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_SEMAPHORE_FD_INFO_KHR,
		.flags = sync_fd ? VK_SEMAPHORE_IMPORT_TEMPORARY_BIT : 0,
		.handleType = type,
	};
	struct vk_batch first = { .commands = 1, .signals = 1 };
	struct vk_batch second = { .commands = 1, .waits = 1 };
	struct world world;

	if (!(vk->extensions & VK_HAS_SEMAPHORE_FD) || !can_export(vk, type))
		return error_set(e, ENOTSUP, "left-out", NULL,
				 "no VK_KHR_external_semaphore_fd with handles of this type");
	FUNCTION(vk, vkGetSemaphoreFdKHR);
	FUNCTION(vk, vkImportSemaphoreFdKHR);
	TRY(set_up(vk, &world, e));
	TRY(vk_binary(vk, &export, &first.signal[0], e));
	TRY(vk_binary(vk, NULL, &second.wait[0], e));
	first.command[0] = second.command[0] = world.job.unordered;
	get.semaphore = first.signal[0];
	import.semaphore = second.wait[0];
	for (unsigned i = 0; i < 5; i++) {
		/* A SYNC_FD is the signal that was submitted last; the others are the semaphore itself. */
		if (!sync_fd && !i) {
			VK_TRY(vkGetSemaphoreFdKHR(vk->device, &get, &import.fd), e);
			VK_TRY(vkImportSemaphoreFdKHR(vk->device, &import), e);
		}
		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &first, 1, NULL, e));
		if (sync_fd) {
			VK_TRY(vkGetSemaphoreFdKHR(vk->device, &get, &import.fd), e);
			VK_TRY(vkImportSemaphoreFdKHR(vk->device, &import), e);
		}
		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &second, 1, world.fence, e));
		TRY(vk_wait(vk, world.fence, e));
		VK_TRY(vkResetFences(vk->device, 1, &world.fence), e);
		TRY(job_check(&world.job, 2 * (i + 1), e));
	}
	return 0;
}

static int semaphore_travels_opaque(struct vk *vk, struct error *e)
{
	return semaphore_travels(vk, VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT, e);
}

static int semaphore_travels_sync_fd(struct vk *vk, struct error *e)
{
	return semaphore_travels(vk, VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT, e);
}

static bool fence_type(struct vk *vk, VkExternalFenceHandleTypeFlagBits type)
{
	const VkPhysicalDeviceExternalFenceInfo info = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_FENCE_INFO, .handleType = type
	};
	VkExternalFenceProperties properties = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_FENCE_PROPERTIES
	};

	if (!(vk->extensions & VK_HAS_FENCE_FD))
		return false;
	vkGetPhysicalDeviceExternalFenceProperties(vk->physical, &info, &properties);
	return properties.externalFenceFeatures & VK_EXTERNAL_FENCE_FEATURE_EXPORTABLE_BIT;
}

static int exportable_fence(struct vk *vk, VkExternalFenceHandleTypeFlagBits type, VkFence *fence,
			    struct error *e)
{
	const VkExportFenceCreateInfo export = { .sType =
							 VK_STRUCTURE_TYPE_EXPORT_FENCE_CREATE_INFO,
						 .handleTypes = type };
	const VkFenceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO,
					 .pNext = &export };

	VK_TRY(vkCreateFence(vk->device, &info, NULL, fence), e);
	return 0;
}

/* As a SYNC_FD a fence can be polled; it is done when the work is. */
static int fence_is_polled_as_sync_fd(struct vk *vk, struct error *e)
{
	VkFenceGetFdInfoKHR get = { .sType = VK_STRUCTURE_TYPE_FENCE_GET_FD_INFO_KHR,
				    .handleType = VK_EXTERNAL_FENCE_HANDLE_TYPE_SYNC_FD_BIT };
	struct world world;
	VkFence fence;

	if (!fence_type(vk, get.handleType))
		return error_set(e, ENOTSUP, "left-out", NULL, "no fences as SYNC_FD");
	FUNCTION(vk, vkGetFenceFdKHR);
	TRY(set_up(vk, &world, e));
	TRY(exportable_fence(vk, get.handleType, &fence, e));
	for (unsigned i = 0; i < 5; i++) {
		const struct vk_batch batch = { .commands = 1, .command = { world.job.command } };
		struct pollfd wait = { .events = POLLIN, .fd = -1 };
		int ready;

		TRY(vk_submit(vk->queues[0], false, &batch, 1, fence, e));
		get.fence = fence;
		VK_TRY(vkGetFenceFdKHR(vk->device, &get, &wait.fd), e);
		/* -1 stands for a fence that is done already. */
		ready = wait.fd < 0 ? 1 : poll(&wait, 1, (int)(VK_PATIENCE_NS / 1000000));
		if (wait.fd >= 0)
			close(wait.fd);
		EXPECT(ready == 1, e, "the descriptor of the fence is never ready");
		TRY(job_check(&world.job, i + 1, e));
	}
	vkDestroyFence(vk->device, fence, NULL);
	return 0;
}

/* As an opaque descriptor it is the same fence, under another handle. */
static int fence_travels_opaque(struct vk *vk, struct error *e)
{
	VkFenceGetFdInfoKHR get = { .sType = VK_STRUCTURE_TYPE_FENCE_GET_FD_INFO_KHR,
				    .handleType = VK_EXTERNAL_FENCE_HANDLE_TYPE_OPAQUE_FD_BIT };
	VkImportFenceFdInfoKHR import = { .sType = VK_STRUCTURE_TYPE_IMPORT_FENCE_FD_INFO_KHR,
					  .handleType = get.handleType };
	struct world world;
	struct vk_batch batch = { .commands = 1 };

	if (!fence_type(vk, get.handleType))
		return error_set(e, ENOTSUP, "left-out", NULL, "no fences as opaque descriptors");
	FUNCTION(vk, vkGetFenceFdKHR);
	FUNCTION(vk, vkImportFenceFdKHR);
	TRY(set_up(vk, &world, e));
	TRY(exportable_fence(vk, get.handleType, &get.fence, e));
	VK_TRY(vkGetFenceFdKHR(vk->device, &get, &import.fd), e);
	import.fence = world.fence;
	VK_TRY(vkImportFenceFdKHR(vk->device, &import), e);
	batch.command[0] = world.job.command;
	TRY(vk_submit(vk->queues[0], false, &batch, 1, get.fence, e));
	TRY(vk_wait(vk, world.fence, e));
	vkDestroyFence(vk->device, get.fence, NULL);
	return job_check(&world.job, 1, e);
}

static void barrier(VkCommandBuffer command, VkPipelineStageFlags from, VkAccessFlags wrote,
		    VkPipelineStageFlags to, VkAccessFlags access)
{
	const VkMemoryBarrier memory = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
					 .srcAccessMask = wrote,
					 .dstAccessMask = access };

	vkCmdPipelineBarrier(command, from, to, 0, 1, &memory, 0, NULL, 0, NULL);
}

/* Lanes from one buffer to the other, behind all work before it and before all that follows. */
static int copy_record(struct job_kind *kind, VkBuffer from, VkBuffer to, VkDeviceSize size,
		       VkCommandBuffer *command, struct error *e)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
	};
	const VkBufferCopy region = { .size = size };

	TRY(vk_command_buffer(kind->vk, kind->pool, command, e));
	VK_TRY(vkBeginCommandBuffer(*command, &begin), e);
	barrier(*command, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
		VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_READ_BIT);
	vkCmdCopyBuffer(*command, from, to, 1, &region);
	barrier(*command, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
		VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_HOST_BIT,
		VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_HOST_READ_BIT);
	VK_TRY(vkEndCommandBuffer(*command), e);
	return 0;
}

/*
 * A buffer without memory gets it by vkQueueBindSparse, between a semaphore waited for and one signalled. Such memory need
 * not be one that can be mapped (NVIDIA's is not): the lanes get there and back by copies.
 */
static int memory_is_bound_by_the_queue(struct vk *vk, struct error *e)
{
	VkSparseMemoryBind bind = { 0 };
	VkSparseBufferMemoryBindInfo buffer_bind = { .bindCount = 1, .pBinds = &bind };
	VkBindSparseInfo info = { .sType = VK_STRUCTURE_TYPE_BIND_SPARSE_INFO,
				  .waitSemaphoreCount = 1,
				  .bufferBindCount = 1,
				  .pBufferBinds = &buffer_bind,
				  .signalSemaphoreCount = 1 };
	VkSemaphore before, bound;
	VkMemoryRequirements needs;
	VkDeviceMemory memory;
	VkDeviceSize size;
	struct vk_batch first = { .commands = 1, .signals = 1 };
	struct vk_batch second = { .commands = 3, .waits = 1 };
	struct world world;
	struct job other;
	VkBuffer buffer;

	if (!vk->sparse)
		return error_set(e, ENOTSUP, "left-out", NULL, "no sparse binding");
	TRY(set_up(vk, &world, e));
	TRY(job_create(&world.kind, GROUPS, ITERATIONS, &other, e));
	size = other.count * sizeof(*other.lanes);
	TRY(bare_buffer(vk, NULL, VK_BUFFER_CREATE_SPARSE_BINDING_BIT, size, &buffer, &needs, e));
	bind.size = ALIGN_UP(needs.size, needs.alignment);
	TRY(vk_memory(vk, bind.size, needs.memoryTypeBits, 0, NULL, &memory, e));
	job_prepare(&other, 9);
	TRY(job_record(&world.kind, &other, buffer, e));
	TRY(copy_record(&world.kind, other.buffer, buffer, size, &second.command[0], e));
	second.command[1] = other.command;
	TRY(copy_record(&world.kind, buffer, other.buffer, size, &second.command[2], e));
	TRY(vk_binary(vk, NULL, &before, e));
	TRY(vk_binary(vk, NULL, &bound, e));
	first.command[0] = world.job.command;
	first.signal[0] = before;
	second.wait[0] = bound;
	bind.memory = memory;
	buffer_bind.buffer = buffer;
	info.pWaitSemaphores = &before;
	info.pSignalSemaphores = &bound;
	TRY(vk_submit(vk->queues[0], false, &first, 1, NULL, e));
	VK_TRY(vkQueueBindSparse(vk->queues[0], 1, &info, NULL), e);
	/* The call is over: what it read may change. */
	bind.size = 0;
	buffer_bind.bindCount = 0;
	before = bound = NULL;
	TRY(vk_submit(vk->queues[0], vk->submit2, &second, 1, world.fence, e));
	TRY(vk_wait(vk, world.fence, e));
	TRY(job_check(&world.job, 1, e));
	return job_check(&other, 1, e);
}

const struct live_test share_tests[] = {
	{ "memory-is-shared-between-devices", memory_is_shared_between_devices },
	{ "semaphore-travels-opaque", semaphore_travels_opaque },
	{ "semaphore-travels-sync-fd", semaphore_travels_sync_fd },
	{ "fence-is-polled-as-sync-fd", fence_is_polled_as_sync_fd },
	{ "fence-travels-opaque", fence_travels_opaque },
	{ "memory-is-bound-by-the-queue", memory_is_bound_by_the_queue },
	{ 0 },
};
