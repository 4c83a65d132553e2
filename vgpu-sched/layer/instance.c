// SPDX-License-Identifier: Apache-2.0
/*
 * Instances (layer.h): made only for a vGPU that the arbiter knows.
 *
 * Vulkan 1.3 is asked for whatever the program asks: the layer itself uses timeline semaphores and vkQueueSubmit2 beneath.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/layer/layer.h"

#define NEEDS_VERSION VK_API_VERSION_1_3

/* ---- the vGPU ---------------------------------------------------------------------------------- */

int layer_register(struct live_worker *worker)
{
	/* A program with more rights than its caller takes no vGPU from the caller's environment. */
	const char *path = secure_getenv(LAYER_ENV_SOCKET);
	const char *text = secure_getenv(LAYER_ENV_TOKEN);
	uint8_t token[LIVE_TOKEN_SIZE];
	struct error e = { 0 };
	int err;

	if (!path || !text || live_token_read(text, token))
		err = error_set(&e, EACCES, "no-vgpu", "divvy run-native --share 25% -- PROGRAM",
				"%s and %s do not name a vGPU: no Vulkan for this program",
				LAYER_ENV_SOCKET, LAYER_ENV_TOKEN);
	else
		err = live_worker_open(path, token, worker, &e);
	if (err)
		error_print(&e, LAYER_NAME);
	return err;
}

/* ---- instances --------------------------------------------------------------------------------- */

static VkLayerInstanceCreateInfo *link_of(const VkInstanceCreateInfo *info)
{
	for (const VkLayerInstanceCreateInfo *at = info->pNext; at; at = at->pNext)
		if (at->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO &&
		    at->function == VK_LAYER_LINK_INFO)
			return (VkLayerInstanceCreateInfo *)(uintptr_t)at;
	return NULL;
}

static void load(struct layer_instance *instance)
{
	PFN_vkGetInstanceProcAddr get = instance->next.GetInstanceProcAddr;

#define LOAD(name, alias)                                                      \
	instance->next.name = (PFN_vk##name)get(instance->handle, "vk" #name); \
	if (!instance->next.name)                                              \
		instance->next.name = (PFN_vk##name)get(instance->handle, "vk" #alias);
	LAYER_INSTANCE_NEXT(LOAD)
#undef LOAD
}

static VkResult create_next(const VkInstanceCreateInfo *info, VkLayerInstanceCreateInfo *link,
			    const VkAllocationCallbacks *allocator, VkInstance *instance)
{
	const VkLayerInstanceLink *beneath = link->u.pLayerInfo;
	PFN_vkCreateInstance create =
		(PFN_vkCreateInstance)beneath->pfnNextGetInstanceProcAddr(NULL, "vkCreateInstance");
	VkApplicationInfo application = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO };
	VkInstanceCreateInfo ours = *info;

	if (!create)
		return VK_ERROR_INITIALIZATION_FAILED;
	if (info->pApplicationInfo)
		application = *info->pApplicationInfo;
	application.apiVersion = MAX(application.apiVersion, NEEDS_VERSION);
	ours.pApplicationInfo = &application;
	link->u.pLayerInfo = beneath->pNext;
	return create(&ours, allocator, instance);
}

VkResult layer_CreateInstance(const VkInstanceCreateInfo *info,
			      const VkAllocationCallbacks *allocator, VkInstance *handle)
{
	VkLayerInstanceCreateInfo *link = link_of(info);
	struct layer_instance *instance;
	VkResult result;

	if (!link || !link->u.pLayerInfo)
		return VK_ERROR_INITIALIZATION_FAILED;
	instance = calloc(1, sizeof(*instance));
	if (!instance)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	if (layer_register(&instance->worker)) {
		free(instance);
		return VK_ERROR_INITIALIZATION_FAILED;
	}
	instance->next.GetInstanceProcAddr = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
	instance->next.GetPhysicalDeviceProcAddr =
		link->u.pLayerInfo->pfnNextGetPhysicalDeviceProcAddr;
	result = create_next(info, link, allocator, handle);
	if (!result) {
		instance->handle = *handle;
		load(instance);
		if (layer_object_add(*handle, instance))
			return VK_SUCCESS;
		instance->next.DestroyInstance(*handle, allocator);
		result = VK_ERROR_TOO_MANY_OBJECTS;
	}
	live_worker_close(&instance->worker);
	free(instance);
	return result;
}

void layer_DestroyInstance(VkInstance handle, const VkAllocationCallbacks *allocator)
{
	struct layer_instance *instance = handle ? layer_instance_of(handle) : NULL;

	if (!instance)
		return;
	layer_object_remove(handle);
	instance->next.DestroyInstance(handle, allocator);
	live_worker_close(&instance->worker);
	free(instance);
}
