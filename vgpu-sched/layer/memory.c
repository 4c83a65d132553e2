// SPDX-License-Identifier: Apache-2.0
/*
 * The vGPU's quota of device memory (memory.h): counted before it is allocated, and given back when it is freed, when what is
 * beneath refuses it, or when the device goes. What a process had when it died, the arbiter gives back.
 *
 * Only memory types of device-local heaps count. Imports do not: whoever made that memory has paid for it. What a driver allocates by
 * itself (pipelines, pools of commands and queries) is not seen here.
 */
#include <search.h>
#include <stdlib.h>

#include "vgpu-sched/layer/memory.h"

/* What the smallest allocation costs: drivers give whole pages. Without it a million bytes, one at a time, would be 4 GiB. */
#define GRAIN (4 * KIB)

struct memory {
	struct layer_device *device;
	uint32_t counted_types; /* a bit for each */
	pthread_mutex_t lock;	/* of: */
	void *allocations;	/* tree (tsearch(3)) of struct allocation */
};

struct allocation {
	VkDeviceMemory handle;
	uint64_t size;
};

static int by_handle(const void *a, const void *b)
{
	const VkDeviceMemory left = ((const struct allocation *)a)->handle;
	const VkDeviceMemory right = ((const struct allocation *)b)->handle;

	return left < right ? -1 : left > right;
}

struct memory *memory_create(struct layer_device *device)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	VkPhysicalDeviceMemoryProperties real;

	if (!memory)
		return NULL;
	memory->device = device;
	pthread_mutex_init(&memory->lock, NULL);
	device->instance->next.GetPhysicalDeviceMemoryProperties(device->physical, &real);
	for (uint32_t i = 0; i < real.memoryTypeCount; i++)
		if (real.memoryHeaps[real.memoryTypes[i].heapIndex].flags &
		    VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
			memory->counted_types |= UINT32_C(1) << i;
	return memory;
}

static void give_back(struct memory *memory, struct allocation *allocation)
{
	live_worker_memory_give(&memory->device->worker, allocation->size);
	free(allocation);
}

void memory_destroy(struct memory *memory)
{
	if (!memory)
		return;
	while (memory->allocations) {
		struct allocation *allocation = *(struct allocation **)memory->allocations;

		tdelete(allocation, &memory->allocations, by_handle);
		give_back(memory, allocation);
	}
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}

/* A structure that says so with no type of handle is none: Vulkan has it ignored. */
static bool is_import(const VkMemoryAllocateInfo *info)
{
	for (const VkBaseInStructure *at = info->pNext; at; at = at->pNext) {
		const VkImportMemoryFdInfoKHR *fd = (const void *)at;
		const VkImportMemoryHostPointerInfoEXT *host = (const void *)at;

		if (at->sType == VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR && fd->handleType)
			return true;
		if (at->sType == VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT &&
		    host->handleType)
			return true;
	}
	return false;
}

static bool is_counted(const struct memory *memory, const VkMemoryAllocateInfo *info)
{
	return info->memoryTypeIndex < VK_MAX_MEMORY_TYPES &&
	       memory->counted_types >> info->memoryTypeIndex & 1 && !is_import(info);
}

static bool remember(struct memory *memory, struct allocation *allocation)
{
	bool found;

	pthread_mutex_lock(&memory->lock);
	found = tsearch(allocation, &memory->allocations, by_handle);
	pthread_mutex_unlock(&memory->lock);
	return found;
}

/* Room is taken first, so that two threads cannot both have the last of it. */
static VkResult allocate(struct memory *memory, const VkMemoryAllocateInfo *info,
			 const VkAllocationCallbacks *allocator, VkDeviceMemory *handle)
{
	struct layer_device *device = memory->device;
	struct allocation *allocation;
	VkResult result;

	if (info->allocationSize > UINT64_MAX - GRAIN)
		return VK_ERROR_OUT_OF_DEVICE_MEMORY;
	allocation = calloc(1, sizeof(*allocation));
	if (!allocation)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	allocation->size = ALIGN_UP(info->allocationSize, GRAIN);
	/* Without an arbiter nobody counts what other processes have: there is none for anybody. */
	if (live_worker_connected(&device->worker) ||
	    live_worker_memory_take(&device->worker, allocation->size)) {
		free(allocation);
		return VK_ERROR_OUT_OF_DEVICE_MEMORY;
	}
	result = device->next.AllocateMemory(device->handle, info, allocator, handle);
	if (result) {
		give_back(memory, allocation);
		return result;
	}
	allocation->handle = *handle;
	if (remember(memory, allocation))
		return VK_SUCCESS;
	device->next.FreeMemory(device->handle, *handle, allocator);
	give_back(memory, allocation);
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

VkResult layer_AllocateMemory(VkDevice handle, const VkMemoryAllocateInfo *info,
			      const VkAllocationCallbacks *allocator, VkDeviceMemory *out)
{
	struct layer_device *device = layer_device_of(handle);

	if (is_counted(device->memory, info))
		return allocate(device->memory, info, allocator, out);
	return device->next.AllocateMemory(handle, info, allocator, out);
}

void layer_FreeMemory(VkDevice handle, VkDeviceMemory freed, const VkAllocationCallbacks *allocator)
{
	struct layer_device *device = layer_device_of(handle);
	struct memory *memory = device->memory;
	struct allocation *allocation = NULL, **found;

	/* Forgotten first: once it is freed another thread may get the same handle. */
	pthread_mutex_lock(&memory->lock);
	found = tfind(&(struct allocation){ .handle = freed }, &memory->allocations, by_handle);
	if (found) {
		allocation = *found;
		tdelete(allocation, &memory->allocations, by_handle);
	}
	pthread_mutex_unlock(&memory->lock);
	device->next.FreeMemory(handle, freed, allocator);
	if (allocation)
		give_back(memory, allocation);
}
