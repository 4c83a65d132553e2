/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a physical GPU is named between the launcher, the arbiter and the layer: both sides ask Vulkan, and come to the same
 * name. Private to vgpu-sched/.
 */
#ifndef VGPU_SCHED_LIVE_GPU_NAME_H
#define VGPU_SCHED_LIVE_GPU_NAME_H

#include <vulkan/vulkan_core.h>

#include "vgpu-sched/live/protocol.h"

/* The calls it takes to find the name: the loader's in a program, those of the next layer in a layer. */
struct vulkan_gpu_calls {
	PFN_vkEnumerateDeviceExtensionProperties extensions;
	PFN_vkGetPhysicalDeviceProperties properties;
	/*
	 * Of core 1.1 or of VK_KHR_get_physical_device_properties2. NULL: the PCI address cannot be asked for. An instance
	 * for Vulkan 1.0 has it only with that extension, so a layer that must find the address enables it.
	 */
	PFN_vkGetPhysicalDeviceProperties2 properties2;
};

/*
 * vulkan_gpu_name() - the PCI address as "0000:01:00.0" where the device offers VK_EXT_pci_bus_info; otherwise its deviceName, with
 * '_' for every byte that is not of [A-Za-z0-9._-], cut to LIVE_NAME_SIZE - 1 bytes.
 *
 * Two devices without an address can have the same name. Returns 0, or -ENOMEM with an empty name: guessing another one
 * would make it another GPU. Any thread.
 */
int vulkan_gpu_name(const struct vulkan_gpu_calls *calls, VkPhysicalDevice device,
		    char name[LIVE_NAME_SIZE]);

#endif
