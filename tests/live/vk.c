// SPDX-License-Identifier: Apache-2.0
/*
 * Instance, device and bag of the live tests (vk.h). Extensions are taken when they are offered, and tests that need one that
 * is not there say so and are left out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/live/vk.h"

#define NAMES_MAX 512

static const struct {
	VkResult result;
	const char *name;
} result_names[] = {
	{ VK_SUCCESS, "VK_SUCCESS" },
	{ VK_NOT_READY, "VK_NOT_READY" },
	{ VK_TIMEOUT, "VK_TIMEOUT" },
	{ VK_INCOMPLETE, "VK_INCOMPLETE" },
	{ VK_SUBOPTIMAL_KHR, "VK_SUBOPTIMAL_KHR" },
	{ VK_ERROR_OUT_OF_HOST_MEMORY, "VK_ERROR_OUT_OF_HOST_MEMORY" },
	{ VK_ERROR_OUT_OF_DEVICE_MEMORY, "VK_ERROR_OUT_OF_DEVICE_MEMORY" },
	{ VK_ERROR_INITIALIZATION_FAILED, "VK_ERROR_INITIALIZATION_FAILED" },
	{ VK_ERROR_DEVICE_LOST, "VK_ERROR_DEVICE_LOST" },
	{ VK_ERROR_MEMORY_MAP_FAILED, "VK_ERROR_MEMORY_MAP_FAILED" },
	{ VK_ERROR_LAYER_NOT_PRESENT, "VK_ERROR_LAYER_NOT_PRESENT" },
	{ VK_ERROR_EXTENSION_NOT_PRESENT, "VK_ERROR_EXTENSION_NOT_PRESENT" },
	{ VK_ERROR_FEATURE_NOT_PRESENT, "VK_ERROR_FEATURE_NOT_PRESENT" },
	{ VK_ERROR_INCOMPATIBLE_DRIVER, "VK_ERROR_INCOMPATIBLE_DRIVER" },
	{ VK_ERROR_TOO_MANY_OBJECTS, "VK_ERROR_TOO_MANY_OBJECTS" },
	{ VK_ERROR_INVALID_EXTERNAL_HANDLE, "VK_ERROR_INVALID_EXTERNAL_HANDLE" },
	{ VK_ERROR_NOT_PERMITTED_KHR, "VK_ERROR_NOT_PERMITTED" },
};

const char *vk_result_name(VkResult result)
{
	for (size_t i = 0; i < ARRAY_SIZE(result_names); i++)
		if (result_names[i].result == result)
			return result_names[i].name;
	return "another VkResult";
}

int vk_result(VkResult result, const char *call, struct error *e)
{
	int length = (int)strcspn(call, "(");

	if (result == VK_SUCCESS)
		return 0;
	return error_set(e, EIO, "vulkan", NULL, "%.*s: %s (%d)", length, call,
			 vk_result_name(result), (int)result);
}

static bool offered(const VkExtensionProperties *list, uint32_t count, const char *name)
{
	for (uint32_t i = 0; i < count; i++)
		if (!strcmp(list[i].extensionName, name))
			return true;
	return false;
}

static int create_instance(struct vk *vk, struct error *e)
{
	static VkExtensionProperties list[NAMES_MAX];
	static const char *const headless[] = { VK_KHR_SURFACE_EXTENSION_NAME,
						VK_EXT_HEADLESS_SURFACE_EXTENSION_NAME };
	const VkApplicationInfo application = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
						.pApplicationName = "vkload",
						.apiVersion = VK_API_VERSION_1_3 };
	VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
				      .pApplicationInfo = &application };
	uint32_t count = NAMES_MAX;

	if (vkEnumerateInstanceExtensionProperties(NULL, &count, list) < 0)
		count = 0;
	vk->headless = offered(list, count, headless[0]) && offered(list, count, headless[1]);
	if (vk->headless) {
		info.enabledExtensionCount = ARRAY_SIZE(headless);
		info.ppEnabledExtensionNames = headless;
	}
	VK_TRY(vkCreateInstance(&info, NULL, &vk->instance), e);
	return 0;
}

static int choose_device(struct vk *vk, const char *name, struct error *e)
{
	VkPhysicalDevice devices[16];
	uint32_t count = ARRAY_SIZE(devices);
	char names[512] = "";
	VkResult result = vkEnumeratePhysicalDevices(vk->instance, &count, devices);

	if (result != VK_INCOMPLETE)
		VK_TRY(result, e);
	for (uint32_t i = 0; i < count; i++) {
		vkGetPhysicalDeviceProperties(devices[i], &vk->properties);
		text_append(names, sizeof(names), "%s\"%s\"", i ? ", " : "",
			    vk->properties.deviceName);
		if (name && !strstr(vk->properties.deviceName, name))
			continue;
		if (vk->properties.apiVersion < VK_API_VERSION_1_3)
			continue;
		vk->physical = devices[i];
		vkGetPhysicalDeviceMemoryProperties(vk->physical, &vk->memory);
		return 0;
	}
	return error_set(e, ENODEV, "no-device", NULL,
			 "no Vulkan 1.3 device with \"%s\" in its name; there are: %s",
			 name ? name : "", names);
}

static int choose_family(struct vk *vk, struct error *e)
{
	VkQueueFamilyProperties families[16];
	uint32_t count = ARRAY_SIZE(families);
	const VkQueueFlags needed = VK_QUEUE_COMPUTE_BIT | VK_QUEUE_GRAPHICS_BIT;

	vkGetPhysicalDeviceQueueFamilyProperties(vk->physical, &count, families);
	for (uint32_t i = 0; i < count; i++) {
		if ((families[i].queueFlags & needed) != needed)
			continue;
		vk->family = i;
		vk->queue_flags = families[i].queueFlags;
		vk->timestamp_bits = families[i].timestampValidBits;
		vk->queue_count = MIN(families[i].queueCount, VK_QUEUES_MAX);
		return 0;
	}
	return error_set(e, ENODEV, "no-queue", NULL,
			 "\"%s\" has no queue for compute and graphics", vk->properties.deviceName);
}

static const struct {
	const char *name;
	unsigned bit;
} wanted[] = {
	{ VK_KHR_SWAPCHAIN_EXTENSION_NAME, VK_HAS_SWAPCHAIN },
	{ VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME, VK_HAS_MEMORY_FD },
	{ VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME, VK_HAS_SEMAPHORE_FD },
	{ VK_KHR_EXTERNAL_FENCE_FD_EXTENSION_NAME, VK_HAS_FENCE_FD },
	{ VK_EXT_MEMORY_BUDGET_EXTENSION_NAME, VK_HAS_MEMORY_BUDGET },
};

static int create_device(struct vk *vk, struct error *e)
{
	static VkExtensionProperties list[NAMES_MAX];
	static const float priorities[VK_QUEUES_MAX] = { 1, 1 };
	VkPhysicalDeviceVulkan13Features has13 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES
	};
	VkPhysicalDeviceFeatures2 has = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
					  .pNext = &has13 };
	VkPhysicalDeviceVulkan13Features use13 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES
	};
	VkPhysicalDeviceVulkan12Features use12 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
		.pNext = &use13,
		.timelineSemaphore = VK_TRUE,
		.hostQueryReset = VK_TRUE,
	};
	VkPhysicalDeviceFeatures use = { 0 };
	const VkDeviceQueueCreateInfo queue = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
						.queueFamilyIndex = vk->family,
						.queueCount = vk->queue_count,
						.pQueuePriorities = priorities };
	const char *names[ARRAY_SIZE(wanted)];
	VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
				    .pNext = &use12,
				    .queueCreateInfoCount = 1,
				    .pQueueCreateInfos = &queue,
				    .ppEnabledExtensionNames = names,
				    .pEnabledFeatures = &use };
	uint32_t count = NAMES_MAX;

	if (vkEnumerateDeviceExtensionProperties(vk->physical, NULL, &count, list) < 0)
		count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (!offered(list, count, wanted[i].name) ||
		    (wanted[i].bit == VK_HAS_SWAPCHAIN && !vk->headless))
			continue;
		names[info.enabledExtensionCount++] = wanted[i].name;
		vk->extensions |= wanted[i].bit;
	}
	vkGetPhysicalDeviceFeatures2(vk->physical, &has);
	vk->submit2 = has13.synchronization2;
	vk->sparse = has.features.sparseBinding && vk->queue_flags & VK_QUEUE_SPARSE_BINDING_BIT;
	use13.synchronization2 = has13.synchronization2;
	use13.dynamicRendering = has13.dynamicRendering;
	use.sparseBinding = vk->sparse;
	VK_TRY(vkCreateDevice(vk->physical, &info, NULL, &vk->device), e);
	for (unsigned i = 0; i < vk->queue_count; i++)
		vkGetDeviceQueue(vk->device, vk->family, i, &vk->queues[i]);
	return 0;
}

int vk_open(struct vk *vk, const char *name, struct error *e)
{
	int err;

	memset(vk, 0, sizeof(*vk));
	err = create_instance(vk, e);
	if (!err)
		err = choose_device(vk, name, e);
	if (!err)
		err = choose_family(vk, e);
	if (!err)
		err = create_device(vk, e);
	if (err)
		vk_close(vk);
	return err;
}

void vk_empty_bag(struct vk *vk, unsigned count)
{
	while (vk->bag_count > count) {
		struct vk_bag_item *item = &vk->bag[--vk->bag_count];

		item->destroy(vk, item->handle);
	}
}

void vk_close(struct vk *vk)
{
	if (vk->device)
		vkDeviceWaitIdle(vk->device);
	vk_empty_bag(vk, 0);
	if (vk->device)
		vkDestroyDevice(vk->device, NULL);
	if (vk->instance)
		vkDestroyInstance(vk->instance, NULL);
	memset(vk, 0, sizeof(*vk));
}

int vk_keep(struct vk *vk, void (*destroy)(struct vk *vk, uint64_t handle), uint64_t handle,
	    struct error *e)
{
	if (vk->bag_count == VK_BAG_MAX) {
		destroy(vk, handle);
		return error_set(e, ENOSPC, "bag", NULL, "more than %d Vulkan objects", VK_BAG_MAX);
	}
	vk->bag[vk->bag_count++] = (struct vk_bag_item){ destroy, handle };
	return 0;
}

int vk_memory_type(const struct vk *vk, uint32_t type_bits, VkMemoryPropertyFlags flags)
{
	for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++)
		if (type_bits & (1u << i) &&
		    (vk->memory.memoryTypes[i].propertyFlags & flags) == flags)
			return (int)i;
	return -1;
}
