// SPDX-License-Identifier: Apache-2.0
/* Which physical GPU a program is to run on: what Vulkan offers, and what was asked for (launch_private.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/live/gpu_name.h"
#include "vgpu-sched/live/launch_private.h"

/* What would put layers between this process and the drivers; ours would want a vGPU before there is one. */
static const char *const layer_variables[] = { "VK_LOADER_LAYERS_DISABLE", "VK_LOADER_LAYERS_ALLOW",
					       "VK_LOADER_LAYERS_ENABLE", "VK_INSTANCE_LAYERS" };

static int failed(VkResult result, const char *call, struct error *e)
{
	const bool none =
		result == VK_ERROR_INCOMPATIBLE_DRIVER || result == VK_ERROR_INITIALIZATION_FAILED;

	return error_set(
		e, none ? ENODEV : EIO, "no-vulkan-device",
		none ? "apt install mesa-vulkan-drivers, which renders on the CPU where there is no GPU; vulkaninfo --summary"
		     : "vulkaninfo --summary",
		"Vulkan offers no device: %s: %s (VkResult %d)", call,
		none ? "no driver was found" : "failed", result);
}

static void describe(VkPhysicalDevice device, const VkPhysicalDeviceProperties *properties,
		     struct vulkan_gpu *gpu)
{
	VkPhysicalDeviceMemoryProperties memory;

	vkGetPhysicalDeviceMemoryProperties(device, &memory);
	snprintf(gpu->device, sizeof(gpu->device), "%s", properties->deviceName);
	gpu->cpu = properties->deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
	for (uint32_t i = 0; i < memory.memoryHeapCount; i++)
		if (memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
			gpu->memory += memory.memoryHeaps[i].size;
}

static int enumerate(VkInstance instance, struct vulkan_gpu *gpus, struct error *e)
{
	const struct vulkan_gpu_calls calls = { vkEnumerateDeviceExtensionProperties,
						vkGetPhysicalDeviceProperties,
						vkGetPhysicalDeviceProperties2 };
	VkPhysicalDevice devices[VULKAN_GPUS_MAX];
	uint32_t count = VULKAN_GPUS_MAX;
	VkResult result = vkEnumeratePhysicalDevices(instance, &count, devices);

	if (result < 0)
		return failed(result, "vkEnumeratePhysicalDevices", e);
	for (uint32_t i = 0; i < count; i++) {
		VkPhysicalDeviceProperties properties;

		gpus[i] = (struct vulkan_gpu){ 0 };
		vkGetPhysicalDeviceProperties(devices[i], &properties);
		describe(devices[i], &properties, &gpus[i]);
		if (vulkan_gpu_name(&calls, devices[i], gpus[i].name))
			return error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
	}
	if (!count)
		return failed(VK_ERROR_INCOMPATIBLE_DRIVER, "vkEnumeratePhysicalDevices", e);
	return (int)count;
}

int launch_gpu_list(struct vulkan_gpu gpus[VULKAN_GPUS_MAX], struct error *e)
{
	const VkApplicationInfo application = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.pApplicationName = "divvy",
		.apiVersion = VK_API_VERSION_1_1,
	};
	const VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &application,
	};
	char *saved[ARRAY_SIZE(layer_variables)];
	VkInstance instance;
	VkResult result;
	int count;

	for (size_t i = 0; i < ARRAY_SIZE(saved); i++) {
		const char *value = getenv(layer_variables[i]);

		saved[i] = value ? strdup(value) : NULL;
		unsetenv(layer_variables[i]);
	}
	setenv("VK_LOADER_LAYERS_DISABLE", "~all~", 1);
	result = vkCreateInstance(&info, NULL, &instance);
	if (result == VK_SUCCESS) {
		count = enumerate(instance, gpus, e);
		vkDestroyInstance(instance, NULL);
	} else {
		count = failed(result, "vkCreateInstance", e);
	}
	unsetenv("VK_LOADER_LAYERS_DISABLE");
	for (size_t i = 0; i < ARRAY_SIZE(saved); i++) {
		if (saved[i])
			setenv(layer_variables[i], saved[i], 1);
		free(saved[i]);
	}
	return count;
}

static bool is_wanted(const struct vulkan_gpu *gpu, const char *wanted, bool cpus)
{
	if (wanted)
		return !strcmp(gpu->name, wanted) || strstr(gpu->device, wanted);
	return cpus || !gpu->cpu;
}

const struct vulkan_gpu *launch_gpu_choose(const struct vulkan_gpu *gpus, unsigned count,
					   const char *wanted, struct error *e)
{
	const struct vulkan_gpu *found = NULL;
	char list[512] = "";
	bool several = false, cpus = true;

	for (unsigned i = 0; i < count; i++) {
		/* A name is one GPU's; a part of what it calls itself may be another's too. */
		if (wanted && !strcmp(gpus[i].name, wanted))
			return &gpus[i];
		cpus = cpus && gpus[i].cpu;
	}
	for (unsigned i = 0; i < count; i++) {
		if (!is_wanted(&gpus[i], wanted, cpus))
			continue;
		if (found && strcmp(found->name, gpus[i].name) != 0)
			several = true;
		found = found ? found : &gpus[i];
	}
	if (found && !several)
		return found;
	for (unsigned i = 0; i < count; i++)
		if (!found || is_wanted(&gpus[i], wanted, cpus))
			text_append(list, sizeof(list), "%s%s (%s)", list[0] ? ", " : "",
				    gpus[i].name, gpus[i].device);
	if (found)
		error_set(e, EINVAL, "which-gpu", "divvy run-native --gpu NAME ...",
			  "there is more than one GPU%s%s: %s", wanted ? " that is called " : "",
			  wanted ? wanted : "", list);
	else
		error_set(e, ENODEV, "no-such-gpu", "divvy run-native --gpu NAME ...",
			  "no GPU is called %s; there is %s", wanted ? wanted : "anything", list);
	return NULL;
}
