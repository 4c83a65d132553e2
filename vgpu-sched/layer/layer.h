/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VK_LAYER_DIVVY_vgpu: what makes a Vulkan program keep to its vGPU's turns and memory. Private to vgpu-sched/layer/.
 *
 * The layer sits between the loader and the driver. What it must see it hooks (entry.c has the list), the rest goes by. Each
 * VkInstance and each VkDevice is registered with the arbiter as a worker of the vGPU whose token is in the environment, or it
 * is not made at all.
 *
 * "next" is what comes beneath: the driver, or another layer. docs/layer.md tells the whole.
 */
#ifndef VGPU_SCHED_LAYER_LAYER_H
#define VGPU_SCHED_LAYER_LAYER_H

#define VK_NO_PROTOTYPES
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#include "vgpu-sched/live/client.h"

#define LAYER_NAME	  "VK_LAYER_DIVVY_vgpu"
#define LAYER_ENV_SOCKET  "DIVVY_VGPU_SOCKET"
#define LAYER_ENV_TOKEN	  "DIVVY_VGPU_TOKEN"	    /* 32 hexadecimal digits */
#define LAYER_OBJECTS_MAX 256			    /* instances, and devices, of one process */
#define LAYER_QUEUES_MAX  128			    /* of one device */
#define LAYER_HOLD_MAX_NS (250 * UINT64_C(1000000)) /* no caller is held longer at once */

/*
 * Functions of what is beneath, as X(name) or X(name, alias): the alias is asked for where the name is not there.
 */
#define LAYER_INSTANCE_NEXT(X)                                                                 \
	X(DestroyInstance, DestroyInstance)                                                    \
	X(EnumeratePhysicalDevices, EnumeratePhysicalDevices)                                  \
	X(EnumeratePhysicalDeviceGroups, EnumeratePhysicalDeviceGroupsKHR)                     \
	X(EnumerateDeviceExtensionProperties, EnumerateDeviceExtensionProperties)              \
	X(GetPhysicalDeviceProperties, GetPhysicalDeviceProperties)                            \
	X(GetPhysicalDeviceProperties2, GetPhysicalDeviceProperties2KHR)                       \
	X(GetPhysicalDeviceFeatures2, GetPhysicalDeviceFeatures2KHR)                           \
	X(GetPhysicalDeviceMemoryProperties, GetPhysicalDeviceMemoryProperties)                \
	X(GetPhysicalDeviceMemoryProperties2, GetPhysicalDeviceMemoryProperties2KHR)           \
	X(GetPhysicalDeviceQueueFamilyProperties, GetPhysicalDeviceQueueFamilyProperties)      \
	X(GetPhysicalDeviceQueueFamilyProperties2, GetPhysicalDeviceQueueFamilyProperties2KHR) \
	X(GetPhysicalDeviceCalibrateableTimeDomainsKHR,                                        \
	  GetPhysicalDeviceCalibrateableTimeDomainsEXT)

#define LAYER_DEVICE_NEXT(X)                                                            \
	X(DestroyDevice, DestroyDevice)                                                 \
	X(GetDeviceQueue, GetDeviceQueue)                                               \
	X(GetDeviceQueue2, GetDeviceQueue2)                                             \
	X(QueueSubmit2, QueueSubmit2KHR)                                                \
	X(QueueBindSparse, QueueBindSparse)                                             \
	X(QueuePresentKHR, QueuePresentKHR)                                             \
	X(QueueWaitIdle, QueueWaitIdle)                                                 \
	X(DeviceWaitIdle, DeviceWaitIdle)                                               \
	X(QueueBeginDebugUtilsLabelEXT, QueueBeginDebugUtilsLabelEXT)                   \
	X(QueueEndDebugUtilsLabelEXT, QueueEndDebugUtilsLabelEXT)                       \
	X(QueueInsertDebugUtilsLabelEXT, QueueInsertDebugUtilsLabelEXT)                 \
	X(QueueSetPerformanceConfigurationINTEL, QueueSetPerformanceConfigurationINTEL) \
	X(QueueNotifyOutOfBandNV, QueueNotifyOutOfBandNV)                               \
	X(CreateFence, CreateFence)                                                     \
	X(DestroyFence, DestroyFence)                                                   \
	X(ResetFences, ResetFences)                                                     \
	X(GetFenceStatus, GetFenceStatus)                                               \
	X(WaitForFences, WaitForFences)                                                 \
	X(GetFenceFdKHR, GetFenceFdKHR)                                                 \
	X(CreateSemaphore, CreateSemaphore)                                             \
	X(DestroySemaphore, DestroySemaphore)                                           \
	X(GetSemaphoreCounterValue, GetSemaphoreCounterValueKHR)                        \
	X(WaitSemaphores, WaitSemaphoresKHR)                                            \
	X(SignalSemaphore, SignalSemaphoreKHR)                                          \
	X(GetSemaphoreFdKHR, GetSemaphoreFdKHR)                                         \
	X(ImportSemaphoreFdKHR, ImportSemaphoreFdKHR)                                   \
	X(CreateQueryPool, CreateQueryPool)                                             \
	X(DestroyQueryPool, DestroyQueryPool)                                           \
	X(ResetQueryPool, ResetQueryPoolEXT)                                            \
	X(GetQueryPoolResults, GetQueryPoolResults)                                     \
	X(CreateCommandPool, CreateCommandPool)                                         \
	X(DestroyCommandPool, DestroyCommandPool)                                       \
	X(AllocateCommandBuffers, AllocateCommandBuffers)                               \
	X(BeginCommandBuffer, BeginCommandBuffer)                                       \
	X(EndCommandBuffer, EndCommandBuffer)                                           \
	X(CmdWriteTimestamp2, CmdWriteTimestamp2KHR)                                    \
	X(GetCalibratedTimestampsKHR, GetCalibratedTimestampsEXT)                       \
	X(AllocateMemory, AllocateMemory)                                               \
	X(FreeMemory, FreeMemory)

#define LAYER_POINTER(name, alias) PFN_vk##name name;
struct instance_next {
	PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
	PFN_vkVoidFunction (*GetPhysicalDeviceProcAddr)(VkInstance, const char *); /* may be NULL */
	LAYER_INSTANCE_NEXT(LAYER_POINTER)
};
struct device_next {
	PFN_vkGetDeviceProcAddr GetDeviceProcAddr;
	LAYER_DEVICE_NEXT(LAYER_POINTER)
};
#undef LAYER_POINTER

struct layer_instance {
	VkInstance handle;
	struct instance_next next;
	struct live_worker worker; /* takes no turns: whose vGPU this is, and what memory it has */
};

struct layer_device {
	VkDevice handle;
	VkPhysicalDevice physical;
	struct layer_instance *instance;
	struct device_next next;
	PFN_vkSetDeviceLoaderData set_loader_data;
	struct live_worker worker;
	struct gate *gate;     /* turns: gate.h */
	struct memory *memory; /* quota: memory.c */
};

/*
 * layer_instance_of(), layer_device_of() - whose dispatchable @handle is (an instance's, physical device's; a device's,
 * queue's, command buffer's): by the loader's dispatch pointer, which its first word is. NULL: none of ours. Any thread.
 */
struct layer_instance *layer_instance_of(const void *handle);
struct layer_device *layer_device_of(const void *handle);

/*
 * What is hooked, as X(name, alias); each is layer_NAME() with the prototype of vkNAME(). entry.c answers the loader with them.
 * Physical devices' functions are looked up by instance, too.
 */
#define LAYER_PHYSICAL_HOOKS(X)                                                                \
	X(GetPhysicalDeviceMemoryProperties, GetPhysicalDeviceMemoryProperties)                \
	X(GetPhysicalDeviceMemoryProperties2, GetPhysicalDeviceMemoryProperties2KHR)           \
	X(GetPhysicalDeviceQueueFamilyProperties2, GetPhysicalDeviceQueueFamilyProperties2KHR) \
	X(EnumerateDeviceExtensionProperties, EnumerateDeviceExtensionProperties)              \
	X(EnumerateDeviceLayerProperties, EnumerateDeviceLayerProperties)                      \
	X(CreateDevice, CreateDevice)

/* Without an instance. */
#define LAYER_GLOBAL_HOOKS(X)                                                         \
	X(EnumerateInstanceExtensionProperties, EnumerateInstanceExtensionProperties) \
	X(EnumerateInstanceLayerProperties, EnumerateInstanceLayerProperties)         \
	X(CreateInstance, CreateInstance)

#define LAYER_INSTANCE_HOOKS(X)                               \
	X(DestroyInstance, DestroyInstance)                   \
	X(EnumeratePhysicalDevices, EnumeratePhysicalDevices) \
	X(EnumeratePhysicalDeviceGroups, EnumeratePhysicalDeviceGroupsKHR)

#define LAYER_DEVICE_HOOKS(X)                                                           \
	X(DestroyDevice, DestroyDevice)                                                 \
	/* submit.c */                                                                  \
	X(QueueSubmit, QueueSubmit)                                                     \
	X(QueueSubmit2, QueueSubmit2KHR)                                                \
	X(QueueBindSparse, QueueBindSparse)                                             \
	X(QueuePresentKHR, QueuePresentKHR)                                             \
	X(QueueBeginDebugUtilsLabelEXT, QueueBeginDebugUtilsLabelEXT)                   \
	X(QueueEndDebugUtilsLabelEXT, QueueEndDebugUtilsLabelEXT)                       \
	X(QueueInsertDebugUtilsLabelEXT, QueueInsertDebugUtilsLabelEXT)                 \
	X(QueueSetPerformanceConfigurationINTEL, QueueSetPerformanceConfigurationINTEL) \
	X(QueueNotifyOutOfBandNV, QueueNotifyOutOfBandNV)                               \
	/* sync.c */                                                                    \
	X(QueueWaitIdle, QueueWaitIdle)                                                 \
	X(DeviceWaitIdle, DeviceWaitIdle)                                               \
	X(DestroyFence, DestroyFence)                                                   \
	X(GetFenceStatus, GetFenceStatus)                                               \
	X(WaitForFences, WaitForFences)                                                 \
	X(GetFenceFdKHR, GetFenceFdKHR)                                                 \
	X(CreateSemaphore, CreateSemaphore)                                             \
	X(DestroySemaphore, DestroySemaphore)                                           \
	X(GetSemaphoreCounterValue, GetSemaphoreCounterValueKHR)                        \
	X(WaitSemaphores, WaitSemaphoresKHR)                                            \
	X(SignalSemaphore, SignalSemaphoreKHR)                                          \
	X(GetSemaphoreFdKHR, GetSemaphoreFdKHR)                                         \
	X(ImportSemaphoreFdKHR, ImportSemaphoreFdKHR)                                   \
	X(GetQueryPoolResults, GetQueryPoolResults)                                     \
	/* memory.c */                                                                  \
	X(AllocateMemory, AllocateMemory)                                               \
	X(FreeMemory, FreeMemory)

#define LAYER_PROTOTYPE(name, alias) __typeof__(*(PFN_vk##name)NULL) layer_##name;
LAYER_PHYSICAL_HOOKS(LAYER_PROTOTYPE)
LAYER_GLOBAL_HOOKS(LAYER_PROTOTYPE)
LAYER_INSTANCE_HOOKS(LAYER_PROTOTYPE)
LAYER_DEVICE_HOOKS(LAYER_PROTOTYPE)
#undef LAYER_PROTOTYPE
__typeof__(*(PFN_vkGetInstanceProcAddr)NULL) layer_GetInstanceProcAddr;
__typeof__(*(PFN_vkGetDeviceProcAddr)NULL) layer_GetDeviceProcAddr;

/*
 * layer_register() - (instance.c) a worker of the vGPU that the environment names.
 * On failure nothing is open, and a line on stderr says why. Returns 0 or -errno.
 */
int layer_register(struct live_worker *worker);

/*
 * layer_object_add(), layer_object_remove() - (entry.c) @object is what layer_*_of() finds by @handle's dispatch pointer.
 * Returns false when there are LAYER_OBJECTS_MAX already.
 */
bool layer_object_add(const void *handle, void *object);
void layer_object_remove(const void *handle);

#endif
