// SPDX-License-Identifier: Apache-2.0
/* The name of a physical GPU, from what Vulkan says of it (gpu_name.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/live/gpu_name.h"

/* 1 when the device offers @extension, 0 when not, or -ENOMEM. */
static int offers(const struct vulkan_gpu_calls *calls, VkPhysicalDevice device,
		  const char *extension)
{
	VkExtensionProperties *list;
	uint32_t count = 0;
	VkResult result;
	int found = 0;

	result = calls->extensions(device, NULL, &count, NULL);
	if (result == VK_ERROR_OUT_OF_HOST_MEMORY)
		return -ENOMEM;
	if (result != VK_SUCCESS || !count)
		return 0;
	list = calloc(count, sizeof(*list));
	if (!list)
		return -ENOMEM;
	result = calls->extensions(device, NULL, &count, list);
	if (result == VK_ERROR_OUT_OF_HOST_MEMORY)
		found = -ENOMEM;
	for (uint32_t i = 0; result >= 0 && i < count && !found; i++)
		found = !strncmp(list[i].extensionName, extension, VK_MAX_EXTENSION_NAME_SIZE);
	free(list);
	return found;
}

static bool is_kept(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

int vulkan_gpu_name(const struct vulkan_gpu_calls *calls, VkPhysicalDevice device,
		    char name[LIVE_NAME_SIZE])
{
	VkPhysicalDevicePCIBusInfoPropertiesEXT pci = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT,
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
		.pNext = &pci,
	};
	int has_address = 0;

	memset(name, 0, LIVE_NAME_SIZE);
	if (calls->properties2)
		has_address = offers(calls, device, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME);
	if (has_address < 0)
		return has_address;
	if (has_address) {
		calls->properties2(device, &properties);
		snprintf(name, LIVE_NAME_SIZE, "%04x:%02x:%02x.%x", pci.pciDomain, pci.pciBus,
			 pci.pciDevice, pci.pciFunction);
		return 0;
	}
	calls->properties(device, &properties.properties);
	for (unsigned i = 0; i < LIVE_NAME_SIZE - 1 && properties.properties.deviceName[i]; i++)
		name[i] = is_kept(properties.properties.deviceName[i])
				  ? properties.properties.deviceName[i]
				  : '_';
	/* No name at all is none that a message may carry. */
	if (!name[0])
		strcpy(name, "unnamed");
	return 0;
}
