// SPDX-License-Identifier: Apache-2.0
/*
 * What a program is shown of physical devices: the vGPU's GPU and no other, with heaps as large as the quota (physical.h).
 *
 * Heaps that are not device-local are shown as they are. A device-local heap is the quota's size where it is larger, and its budget
 * is as VK_EXT_memory_budget has it: not zero, not above the heap's size. That what is left to the process comes out as budget - usage,
 * the budget stays and usage is raised: programs take a budget that shrinks under them for a reason to wait until it
 * grows, and some then wait for ever. So "usage" has what the vGPU's other processes use, too. Several device-local heaps
 * each show the whole quota: it is one, and whichever heap takes of it leaves less in all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/layer/physical.h"
#include "vgpu-sched/live/gpu_name.h"

/* ---- memory ------------------------------------------------------------------------------------ */

static bool is_limited(const struct layer_instance *instance, const VkMemoryHeap *heap)
{
	return instance->worker.memory_quota && heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;
}

static void heaps_limit(const struct layer_instance *instance,
			VkPhysicalDeviceMemoryProperties *properties)
{
	for (uint32_t i = 0; i < properties->memoryHeapCount; i++) {
		VkMemoryHeap *heap = &properties->memoryHeaps[i];

		if (is_limited(instance, heap))
			heap->size = MIN(heap->size, instance->worker.memory_quota);
	}
}

/* @heap as it is shown; *budget and *usage as the driver has them. */
static void budget_limit(const struct layer_instance *instance, const VkMemoryHeap *heap,
			 VkDeviceSize *budget, VkDeviceSize *usage)
{
	const uint64_t quota = instance->worker.memory_quota;
	const uint64_t used = live_worker_memory_used(&instance->worker);
	uint64_t left = *budget > *usage ? *budget - *usage : 0;

	left = MIN(left, quota > used ? quota - used : 0);
	*budget = MAX(MIN(*budget, heap->size), 1);
	*usage = *budget - MIN(left, *budget);
}

void layer_GetPhysicalDeviceMemoryProperties(VkPhysicalDevice physical,
					     VkPhysicalDeviceMemoryProperties *properties)
{
	struct layer_instance *instance = layer_instance_of(physical);

	instance->next.GetPhysicalDeviceMemoryProperties(physical, properties);
	heaps_limit(instance, properties);
}

static void *chained(const void *head, VkStructureType type)
{
	for (const VkBaseInStructure *at = head; at; at = at->pNext)
		if (at->sType == type)
			return (void *)(uintptr_t)at;
	return NULL;
}

void layer_GetPhysicalDeviceMemoryProperties2(VkPhysicalDevice physical,
					      VkPhysicalDeviceMemoryProperties2 *properties)
{
	struct layer_instance *instance = layer_instance_of(physical);
	VkPhysicalDeviceMemoryProperties *shown = &properties->memoryProperties;
	VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = chained(
		properties->pNext, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT);

	/* A driver that does not know the structure leaves it alone. */
	if (budget)
		memset(budget->heapBudget, 0, sizeof(budget->heapBudget));
	instance->next.GetPhysicalDeviceMemoryProperties2(physical, properties);
	heaps_limit(instance, shown);
	for (uint32_t i = 0; budget && i < shown->memoryHeapCount; i++)
		if (is_limited(instance, &shown->memoryHeaps[i]) && budget->heapBudget[i])
			budget_limit(instance, &shown->memoryHeaps[i], &budget->heapBudget[i],
				     &budget->heapUsage[i]);
}

/* ---- priorities -------------------------------------------------------------------------------- */

static void priorities_limit(VkQueueFamilyGlobalPriorityProperties *properties)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < MIN(properties->priorityCount, VK_MAX_GLOBAL_PRIORITY_SIZE); i++)
		if (properties->priorities[i] <= VK_QUEUE_GLOBAL_PRIORITY_MEDIUM)
			properties->priorities[kept++] = properties->priorities[i];
	/* What chain.c makes of a higher one. */
	if (!kept && properties->priorityCount)
		properties->priorities[kept++] = VK_QUEUE_GLOBAL_PRIORITY_MEDIUM;
	properties->priorityCount = kept;
}

void layer_GetPhysicalDeviceQueueFamilyProperties2(VkPhysicalDevice physical, uint32_t *count,
						   VkQueueFamilyProperties2 *properties)
{
	struct layer_instance *instance = layer_instance_of(physical);

	for (uint32_t i = 0; properties && i < *count; i++) {
		VkQueueFamilyGlobalPriorityProperties *priorities =
			chained(properties[i].pNext,
				VK_STRUCTURE_TYPE_QUEUE_FAMILY_GLOBAL_PRIORITY_PROPERTIES);

		/* As above. */
		if (priorities)
			priorities->priorityCount = 0;
	}
	instance->next.GetPhysicalDeviceQueueFamilyProperties2(physical, count, properties);
	for (uint32_t i = 0; properties && i < *count; i++) {
		VkQueueFamilyGlobalPriorityProperties *priorities =
			chained(properties[i].pNext,
				VK_STRUCTURE_TYPE_QUEUE_FAMILY_GLOBAL_PRIORITY_PROPERTIES);

		if (priorities)
			priorities_limit(priorities);
	}
}

/* ---- which there are --------------------------------------------------------------------------- */

/* 1, 0 or -ENOMEM. */
static int is_gpu(struct layer_instance *instance, const struct live_worker *worker,
		  VkPhysicalDevice physical)
{
	const struct vulkan_gpu_calls calls = {
		.extensions = instance->next.EnumerateDeviceExtensionProperties,
		.properties = instance->next.GetPhysicalDeviceProperties,
		.properties2 = instance->next.GetPhysicalDeviceProperties2,
	};
	char name[LIVE_NAME_SIZE];
	int err = vulkan_gpu_name(&calls, physical, name);

	return err ? err : !strncmp(name, worker->gpu, sizeof(name));
}

/* Vulkan's way to return a list of @there entries: how many were written to *@count, and whether that is all. */
static VkResult list_end(uint32_t *count, uint32_t there)
{
	const bool fits = *count >= there;

	*count = MIN(*count, there);
	return fits ? VK_SUCCESS : VK_INCOMPLETE;
}

/* Drops from @devices what is not ours. Returns how many are left, or -ENOMEM. */
static int devices_keep(struct layer_instance *instance, VkPhysicalDevice *devices, uint32_t count)
{
	int kept = 0;

	for (uint32_t i = 0; i < count; i++) {
		int is = is_gpu(instance, &instance->worker, devices[i]);

		if (is < 0)
			return is;
		if (is)
			devices[kept++] = devices[i];
	}
	for (uint32_t i = (uint32_t)kept; i < count; i++)
		devices[i] = VK_NULL_HANDLE;
	return kept;
}

/* All that are beneath and ours. *@list is the caller's. */
static VkResult devices_list(struct layer_instance *instance, VkPhysicalDevice **list,
			     uint32_t *count)
{
	PFN_vkEnumeratePhysicalDevices enumerate = instance->next.EnumeratePhysicalDevices;
	uint32_t all = 0;
	VkResult result = enumerate(instance->handle, &all, NULL);
	int kept;

	*list = calloc(MAX(all, 1), sizeof(**list));
	if (!*list)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	if (result >= 0 && all)
		result = enumerate(instance->handle, &all, *list);
	kept = result < 0 ? 0 : devices_keep(instance, *list, all);
	if (kept < 0)
		result = VK_ERROR_OUT_OF_HOST_MEMORY;
	if (result < 0)
		free(*list);
	*count = (uint32_t)kept;
	/* One that came in between is for the next time: not VK_INCOMPLETE. */
	return MIN(result, VK_SUCCESS);
}

VkResult layer_EnumeratePhysicalDevices(VkInstance handle, uint32_t *count,
					VkPhysicalDevice *devices)
{
	struct layer_instance *instance = layer_instance_of(handle);
	VkPhysicalDevice *list;
	uint32_t there;
	VkResult result;

	if (live_worker_connected(&instance->worker))
		return VK_ERROR_INITIALIZATION_FAILED;
	result = devices_list(instance, &list, &there);
	if (result)
		return result;
	if (devices) {
		result = list_end(count, there);
		for (uint32_t i = 0; i < *count; i++)
			devices[i] = list[i];
	} else {
		*count = there;
	}
	free(list);
	return result;
}

/* Groups of what is ours: another GPU is dropped from its group, and a group of others altogether. */
static VkResult groups_list(struct layer_instance *instance, VkPhysicalDeviceGroupProperties **list,
			    uint32_t *count)
{
	PFN_vkEnumeratePhysicalDeviceGroups enumerate =
		instance->next.EnumeratePhysicalDeviceGroups;
	uint32_t all = 0;
	VkResult result = enumerate(instance->handle, &all, NULL);

	*count = 0;
	*list = calloc(MAX(all, 1), sizeof(**list));
	if (!*list)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	for (uint32_t i = 0; i < all; i++)
		(*list)[i].sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_GROUP_PROPERTIES;
	if (result >= 0 && all)
		result = enumerate(instance->handle, &all, *list);
	for (uint32_t i = 0; i < all && result >= 0; i++) {
		VkPhysicalDeviceGroupProperties *group = &(*list)[i];
		int kept = devices_keep(instance, group->physicalDevices,
					MIN(group->physicalDeviceCount, VK_MAX_DEVICE_GROUP_SIZE));

		if (kept < 0)
			result = VK_ERROR_OUT_OF_HOST_MEMORY;
		group->physicalDeviceCount = (uint32_t)kept;
		if (kept > 0)
			(*list)[(*count)++] = *group;
	}
	if (result < 0)
		free(*list);
	return MIN(result, VK_SUCCESS);
}

VkResult layer_EnumeratePhysicalDeviceGroups(VkInstance handle, uint32_t *count,
					     VkPhysicalDeviceGroupProperties *groups)
{
	struct layer_instance *instance = layer_instance_of(handle);
	VkPhysicalDeviceGroupProperties *list;
	uint32_t there;
	VkResult result;

	if (live_worker_connected(&instance->worker))
		return VK_ERROR_INITIALIZATION_FAILED;
	result = groups_list(instance, &list, &there);
	if (result)
		return result;
	if (groups) {
		result = list_end(count, there);
		for (uint32_t i = 0; i < *count; i++) {
			void *next = groups[i].pNext;

			groups[i] = list[i];
			groups[i].pNext = next;
		}
	} else {
		*count = there;
	}
	free(list);
	return result;
}

VkResult physical_check(struct layer_instance *instance, const struct live_worker *worker,
			VkPhysicalDevice physical, const VkDeviceCreateInfo *info)
{
	const VkDeviceGroupDeviceCreateInfo *group =
		chained(info->pNext, VK_STRUCTURE_TYPE_DEVICE_GROUP_DEVICE_CREATE_INFO);
	int is = is_gpu(instance, worker, physical);
	struct error e;

	for (uint32_t i = 0; group && i < group->physicalDeviceCount && is > 0; i++)
		is = is_gpu(instance, worker, group->pPhysicalDevices[i]);
	if (is > 0)
		return VK_SUCCESS;
	if (is < 0)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	error_set(&e, EACCES, "wrong-gpu", NULL, "the vGPU is of GPU %s: no device on another one",
		  worker->gpu);
	error_print(&e, LAYER_NAME);
	return VK_ERROR_INITIALIZATION_FAILED;
}
