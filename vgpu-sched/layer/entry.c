// SPDX-License-Identifier: Apache-2.0
/*
 * What the loader finds (layer.h): the one exported function, and the tables by which it looks hooks up. Follows the Vulkan loader's
 * "Loader and Layer Interface", version 2.
 *
 * Objects are found by the loader's dispatch pointer, without a lock: a table that only ever gets and loses single entries.
 */
#include <stdatomic.h>
#include <string.h>

#include "vgpu-sched/layer/layer.h"

#define LAYER_EXPORT __attribute__((visibility("default")))

/* ---- objects ----------------------------------------------------------------------------------- */

static struct {
	_Atomic(const void *) key;
	_Atomic(void *) object;
} objects[2 * LAYER_OBJECTS_MAX];

static const void *key_of(const void *handle)
{
	return *(const void *const *)handle;
}

static void *object_of(const void *handle)
{
	const void *key = key_of(handle);

	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
		const void *seen = atomic_load_explicit(&objects[i].key, memory_order_acquire);

		if (seen == key)
			return atomic_load_explicit(&objects[i].object, memory_order_relaxed);
	}
	return NULL;
}

bool layer_object_add(const void *handle, void *object)
{
	static const char taken;

	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
		const void *none = NULL;

		/* Taken first, so that nobody finds the key before the object is there. */
		if (atomic_compare_exchange_strong(&objects[i].key, &none, &taken)) {
			atomic_store(&objects[i].object, object);
			atomic_store_explicit(&objects[i].key, key_of(handle),
					      memory_order_release);
			return true;
		}
	}
	return false;
}

void layer_object_remove(const void *handle)
{
	const void *key = key_of(handle);

	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++)
		if (atomic_load(&objects[i].key) == key)
			atomic_store(&objects[i].key, NULL);
}

struct layer_instance *layer_instance_of(const void *handle)
{
	return object_of(handle);
}

struct layer_device *layer_device_of(const void *handle)
{
	return object_of(handle);
}

/* ---- hooks ------------------------------------------------------------------------------------- */

struct hook {
	const char *name, *alias;
	PFN_vkVoidFunction function;
};

#define HOOK(function_, alias_) \
	{ "vk" #function_, "vk" #alias_, (PFN_vkVoidFunction)layer_##function_ },
static const struct hook physical_hooks[] = { LAYER_PHYSICAL_HOOKS(HOOK) };
static const struct hook global_hooks[] = { LAYER_GLOBAL_HOOKS(HOOK) HOOK(GetInstanceProcAddr,
									  GetInstanceProcAddr) };
static const struct hook instance_hooks[] = { LAYER_INSTANCE_HOOKS(HOOK) };
static const struct hook device_hooks[] = { LAYER_DEVICE_HOOKS(HOOK)
						    HOOK(GetDeviceProcAddr, GetDeviceProcAddr) };

static PFN_vkVoidFunction find(const struct hook *hooks, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(hooks[i].name, name) || !strcmp(hooks[i].alias, name))
			return hooks[i].function;
	return NULL;
}

static PFN_vkVoidFunction find_any(const char *name)
{
	PFN_vkVoidFunction function = find(instance_hooks, ARRAY_SIZE(instance_hooks), name);

	if (!function)
		function = find(physical_hooks, ARRAY_SIZE(physical_hooks), name);
	return function ? function : find(device_hooks, ARRAY_SIZE(device_hooks), name);
}

/* What is beneath decides whether there is such a function; ours comes before it. */
PFN_vkVoidFunction layer_GetInstanceProcAddr(VkInstance instance, const char *name)
{
	PFN_vkVoidFunction hook = find(global_hooks, ARRAY_SIZE(global_hooks), name), next;
	struct layer_instance *found;

	/* The loader asks for vkCreateInstance with an instance that it has not made yet. */
	if (hook || !instance)
		return hook;
	hook = find_any(name);
	found = layer_instance_of(instance);
	if (!found)
		return NULL;
	next = found->next.GetInstanceProcAddr(instance, name);
	return next && hook ? hook : next;
}

PFN_vkVoidFunction layer_GetDeviceProcAddr(VkDevice device, const char *name)
{
	PFN_vkVoidFunction hook = find(device_hooks, ARRAY_SIZE(device_hooks), name), next;
	struct layer_device *found = layer_device_of(device);

	if (!found)
		return NULL;
	next = found->next.GetDeviceProcAddr(device, name);
	return next && hook ? hook : next;
}

static PFN_vkVoidFunction VKAPI_CALL physical_device_proc(VkInstance instance, const char *name)
{
	PFN_vkVoidFunction hook = find(physical_hooks, ARRAY_SIZE(physical_hooks), name),
			   next = NULL;
	struct layer_instance *found = layer_instance_of(instance);

	if (found && found->next.GetPhysicalDeviceProcAddr)
		next = found->next.GetPhysicalDeviceProcAddr(instance, name);
	return next && hook ? hook : next;
}

/* ---- what every layer answers about itself ------------------------------------------------------- */

static VkResult one_layer(uint32_t *count, VkLayerProperties *properties)
{
	const uint32_t room = *count;

	*count = 1;
	if (!properties)
		return VK_SUCCESS;
	if (!room) {
		*count = 0;
		return VK_INCOMPLETE;
	}
	*properties = (VkLayerProperties){ .layerName = LAYER_NAME,
					   .specVersion = VK_API_VERSION_1_4,
					   .implementationVersion = 1,
					   .description = "Divvy: turns and memory of a vGPU" };
	return VK_SUCCESS;
}

VkResult layer_EnumerateInstanceLayerProperties(uint32_t *count, VkLayerProperties *properties)
{
	return one_layer(count, properties);
}

VkResult layer_EnumerateDeviceLayerProperties(VkPhysicalDevice physical, uint32_t *count,
					      VkLayerProperties *properties)
{
	return one_layer(count, properties);
}

VkResult layer_EnumerateInstanceExtensionProperties(const char *layer, uint32_t *count,
						    VkExtensionProperties *properties)
{
	if (!layer || strcmp(layer, LAYER_NAME))
		return VK_ERROR_LAYER_NOT_PRESENT;
	*count = 0;
	return VK_SUCCESS;
}

VkResult layer_EnumerateDeviceExtensionProperties(VkPhysicalDevice physical, const char *layer,
						  uint32_t *count,
						  VkExtensionProperties *properties)
{
	struct layer_instance *instance = layer_instance_of(physical);

	if (layer && !strcmp(layer, LAYER_NAME)) {
		*count = 0;
		return VK_SUCCESS;
	}
	return instance->next.EnumerateDeviceExtensionProperties(physical, layer, count,
								 properties);
}

VKAPI_ATTR VkResult VKAPI_CALL LAYER_EXPORT
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface);
VKAPI_ATTR VkResult VKAPI_CALL LAYER_EXPORT
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface)
{
	if (interface->sType != LAYER_NEGOTIATE_INTERFACE_STRUCT ||
	    interface->loaderLayerInterfaceVersion < 2)
		return VK_ERROR_INITIALIZATION_FAILED;
	interface->loaderLayerInterfaceVersion = 2;
	interface->pfnGetInstanceProcAddr = layer_GetInstanceProcAddr;
	interface->pfnGetDeviceProcAddr = layer_GetDeviceProcAddr;
	interface->pfnGetPhysicalDeviceProcAddr = physical_device_proc;
	return VK_SUCCESS;
}
