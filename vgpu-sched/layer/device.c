// SPDX-License-Identifier: Apache-2.0
/*
 * Devices (layer.h): each is a worker of the vGPU, with a gate in front of its queues.
 */
#include <stdlib.h>

#include "vgpu-sched/layer/chain.h"
#include "vgpu-sched/layer/gate.h"
#include "vgpu-sched/layer/memory.h"
#include "vgpu-sched/layer/physical.h"

static VkLayerDeviceCreateInfo *link_of(const VkDeviceCreateInfo *info, VkLayerFunction function)
{
	for (const VkLayerDeviceCreateInfo *at = info->pNext; at; at = at->pNext)
		if (at->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO &&
		    at->function == function)
			return (VkLayerDeviceCreateInfo *)(uintptr_t)at;
	return NULL;
}

static void load(struct layer_device *device)
{
	PFN_vkGetDeviceProcAddr get = device->next.GetDeviceProcAddr;

#define LOAD(name, alias)                                                  \
	device->next.name = (PFN_vk##name)get(device->handle, "vk" #name); \
	if (!device->next.name)                                            \
		device->next.name = (PFN_vk##name)get(device->handle, "vk" #alias);
	LAYER_DEVICE_NEXT(LOAD)
#undef LOAD
}

/* Undoes what was done, last first. */
static void device_free(struct layer_device *device, const VkAllocationCallbacks *allocator)
{
	gate_destroy(device->gate);
	memory_destroy(device->memory);
	if (device->handle)
		device->next.DestroyDevice(device->handle, allocator);
	live_worker_close(&device->worker);
	free(device);
}

VkResult layer_CreateDevice(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
			    const VkAllocationCallbacks *allocator, VkDevice *handle)
{
	struct layer_instance *instance = layer_instance_of(physical);
	VkLayerDeviceCreateInfo *link = link_of(info, VK_LAYER_LINK_INFO);
	VkLayerDeviceCreateInfo *callback = link_of(info, VK_LOADER_DATA_CALLBACK);
	PFN_vkCreateDevice create;
	struct layer_device *device;
	struct device_chain chain;
	VkResult result;

	if (!instance || !link || !link->u.pLayerInfo || !callback)
		return VK_ERROR_INITIALIZATION_FAILED;
	create = (PFN_vkCreateDevice)link->u.pLayerInfo->pfnNextGetInstanceProcAddr(
		instance->handle, "vkCreateDevice");
	device = calloc(1, sizeof(*device));
	if (!create || !device) {
		free(device);
		return device ? VK_ERROR_INITIALIZATION_FAILED : VK_ERROR_OUT_OF_HOST_MEMORY;
	}
	device->instance = instance;
	device->physical = physical;
	device->set_loader_data = callback->u.pfnSetDeviceLoaderData;
	device->next.GetDeviceProcAddr = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
	device->worker.fd = -1;
	if (layer_register(&device->worker)) {
		free(device);
		return VK_ERROR_INITIALIZATION_FAILED;
	}
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	result = physical_check(instance, &device->worker, physical, info);
	if (!result)
		result = device_chain_build(instance, physical, info, &chain);
	if (!result) {
		result = create(physical, &chain.info, allocator, handle);
		if (!result) {
			device->handle = *handle;
			load(device);
			device->memory = memory_create(device);
			result = device->memory ? gate_create(device, &chain, &device->gate)
						: VK_ERROR_OUT_OF_HOST_MEMORY;
		}
		device_chain_free(&chain);
	}
	if (!result && !layer_object_add(*handle, device))
		result = VK_ERROR_TOO_MANY_OBJECTS;
	if (result)
		device_free(device, allocator);
	return result;
}

void layer_DestroyDevice(VkDevice handle, const VkAllocationCallbacks *allocator)
{
	struct layer_device *device = handle ? layer_device_of(handle) : NULL;

	if (!device)
		return;
	layer_object_remove(handle);
	device_free(device, allocator);
}
