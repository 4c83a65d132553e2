// SPDX-License-Identifier: Apache-2.0
/* The name of a GPU, from devices that are made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vgpu-sched/live/gpu_name.h"

static struct {
	const char *name;
	VkPhysicalDevicePCIBusInfoPropertiesEXT pci;
	bool has_pci;
	VkResult result;
} made_up;

static VKAPI_ATTR VkResult VKAPI_CALL extensions(VkPhysicalDevice device, const char *layer,
						 uint32_t *count, VkExtensionProperties *list)
{
	static const char *const names[] = { "VK_KHR_swapchain", "VK_EXT_pci_bus_info_not",
					     VK_EXT_PCI_BUS_INFO_EXTENSION_NAME };
	const uint32_t there = made_up.has_pci ? 3 : 2;

	assert_null(layer);
	if (made_up.result)
		return made_up.result;
	for (uint32_t i = 0; list && i < there; i++)
		strcpy(list[i].extensionName, names[i]);
	*count = there;
	return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL properties(VkPhysicalDevice device, VkPhysicalDeviceProperties *p)
{
	strcpy(p->deviceName, made_up.name);
}

static VKAPI_ATTR void VKAPI_CALL properties2(VkPhysicalDevice device,
					      VkPhysicalDeviceProperties2 *p)
{
	VkPhysicalDevicePCIBusInfoPropertiesEXT *pci = p->pNext;

	properties(device, &p->properties);
	assert_int_equal(pci->sType, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT);
	pci->pciDomain = made_up.pci.pciDomain;
	pci->pciBus = made_up.pci.pciBus;
	pci->pciDevice = made_up.pci.pciDevice;
	pci->pciFunction = made_up.pci.pciFunction;
}

static const struct vulkan_gpu_calls calls = { extensions, properties, properties2 };

static void a_pci_address_is_the_name_where_the_device_says_it(void **state)
{
	char name[LIVE_NAME_SIZE];

	made_up.name = "A GPU";
	made_up.result = VK_SUCCESS;
	made_up.has_pci = true;
	made_up.pci = (VkPhysicalDevicePCIBusInfoPropertiesEXT){
		.pciDomain = 0x10000, .pciBus = 0xc1, .pciDevice = 0x1f, .pciFunction = 7
	};
	assert_int_equal(vulkan_gpu_name(&calls, NULL, name), 0);
	assert_string_equal(name, "10000:c1:1f.7");
	made_up.pci = (VkPhysicalDevicePCIBusInfoPropertiesEXT){ .pciBus = 1 };
	assert_int_equal(vulkan_gpu_name(&calls, NULL, name), 0);
	assert_string_equal(name, "0000:01:00.0");
}

static void another_device_goes_by_its_own_name_made_plain(void **state)
{
	const struct vulkan_gpu_calls old = { extensions, properties, NULL };
	char name[LIVE_NAME_SIZE];

	made_up.name = "llvmpipe (LLVM 19.1.7, 256 bits)";
	made_up.has_pci = false;
	assert_int_equal(vulkan_gpu_name(&calls, NULL, name), 0);
	assert_string_equal(name, "llvmpipe__LLVM_19.1.7__256_bits_");
	made_up.name = "\"\xc3\xa4\n,0123456789012345678901234567890123456789012345678901234567890";
	assert_int_equal(vulkan_gpu_name(&calls, NULL, name), 0);
	assert_string_equal(name, "_____012345678901234567890123456789012345678901");
	assert_int_equal(strlen(name), LIVE_NAME_SIZE - 1);
	made_up.name = "";
	assert_int_equal(vulkan_gpu_name(&calls, NULL, name), 0);
	assert_string_equal(name, "unnamed");
	/* An instance that cannot be asked for the address. */
	made_up.has_pci = true;
	made_up.name = "A GPU";
	assert_int_equal(vulkan_gpu_name(&old, NULL, name), 0);
	assert_string_equal(name, "A_GPU");
}

static void no_name_is_guessed_without_memory(void **state)
{
	char name[LIVE_NAME_SIZE] = "x";

	made_up.result = VK_ERROR_OUT_OF_HOST_MEMORY;
	assert_true(vulkan_gpu_name(&calls, NULL, name) < 0);
	assert_string_equal(name, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pci_address_is_the_name_where_the_device_says_it),
		cmocka_unit_test(another_device_goes_by_its_own_name_made_plain),
		cmocka_unit_test(no_name_is_guessed_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
