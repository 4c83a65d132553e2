// SPDX-License-Identifier: Apache-2.0
/* Who gets Vulkan at all, and which physical devices it sees (vgpu-sched/layer/instance.c, physical.c). */
#include "tests/unit/layer_world.h"

static struct world w;

static int open_world(void **state)
{
	world_open(&w, 0);
	return 0;
}

static int close_world(void **state)
{
	world_close(&w);
	return 0;
}

/* ---- who --------------------------------------------------------------------------------------------- */

static void without_a_token_there_is_no_vulkan(void **state)
{
	static const char *const wrong[] = { "",
					     "x",
					     "0123456789abcdef0123456789abcde",
					     "0123456789abcdef0123456789abcdeg",
					     "0123456789abcdef0123456789abcdef0",
					     "0123456789ABCDEF0123456789ABCDEF",
					     "0123456789abcdef0123456789abcdef" };

	unsetenv(LAYER_ENV_TOKEN);
	assert_int_equal(world_instance(&w), VK_ERROR_INITIALIZATION_FAILED);
	/* Not a token, and at last one that is nobody's. */
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		setenv(LAYER_ENV_TOKEN, wrong[i], 1);
		assert_int_equal(world_instance(&w), VK_ERROR_INITIALIZATION_FAILED);
	}
	world_be(&w, &w.tenant);
	unsetenv(LAYER_ENV_SOCKET);
	assert_int_equal(world_instance(&w), VK_ERROR_INITIALIZATION_FAILED);
	setenv(LAYER_ENV_SOCKET, "/nonexistent/arbiter", 1);
	assert_int_equal(world_instance(&w), VK_ERROR_INITIALIZATION_FAILED);
	/* What is beneath was never asked. */
	assert_int_equal(fake_calls("vkCreateInstance"), 0);
	world_be(&w, &w.tenant);
	assert_int_equal(world_instance(&w), VK_SUCCESS);
}

static void a_device_needs_a_token_of_its_own(void **state)
{
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	unsetenv(LAYER_ENV_TOKEN);
	assert_int_equal(world_device(&w), VK_ERROR_INITIALIZATION_FAILED);
	assert_int_equal(fake_calls("vkCreateDevice"), 0);
}

static void a_vgpu_that_is_gone_makes_no_device(void **state)
{
	struct tenant other;

	world_neighbour(&w, &other);
	world_be(&w, &other);
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	close(other.owner);
	work_for(50 * MS);
	assert_int_equal(world_device(&w), VK_ERROR_INITIALIZATION_FAILED);
	assert_int_equal(fake_calls("vkCreateDevice"), 0);
}

static void an_instance_that_fails_beneath_leaves_nothing(void **state)
{
	fake_fail("vkCreateInstance", 1, VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(world_instance(&w), VK_ERROR_OUT_OF_HOST_MEMORY);
}

static uint32_t asked_version;

static void on_create_instance(const VkInstanceCreateInfo *info)
{
	asked_version = info->pApplicationInfo->apiVersion;
	assert_true(!info->pApplicationInfo->pApplicationName ||
		    !strcmp(info->pApplicationInfo->pApplicationName, "program"));
}

static void vulkan_1_3_is_asked_for_whatever_the_program_wants(void **state)
{
	const VkApplicationInfo old = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
					.pApplicationName = "program",
					.apiVersion = VK_API_VERSION_1_1 };
	const VkApplicationInfo new = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
					.apiVersion = VK_API_VERSION_1_4 };

	fake.on_create_instance = on_create_instance;
	assert_int_equal(world_instance_with(&w, &old), VK_SUCCESS);
	assert_int_equal(asked_version, VK_API_VERSION_1_3);
	w.i.DestroyInstance(w.instance, NULL);
	assert_int_equal(world_instance_with(&w, &new), VK_SUCCESS);
	assert_int_equal(asked_version, VK_API_VERSION_1_4);
	w.i.DestroyInstance(w.instance, NULL);
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(asked_version, VK_API_VERSION_1_3);
}

/* The loader asks its topmost layer for vkCreateInstance with a handle of its own that no layer knows. */
static void what_makes_instances_is_found_before_there_is_one(void **state)
{
	static const void *const half_made[] = { &w };
	const VkInstance unknown = (VkInstance)(uintptr_t)half_made;

	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_ptr_equal(w.get_instance_proc(unknown, "vkCreateInstance"),
			 (PFN_vkVoidFunction)layer_CreateInstance);
	assert_ptr_equal(w.get_instance_proc(NULL, "vkCreateInstance"),
			 (PFN_vkVoidFunction)layer_CreateInstance);
	assert_null(w.get_instance_proc(unknown, "vkDestroyInstance"));
	assert_null(w.get_instance_proc(NULL, "vkDestroyInstance"));
	assert_null(w.get_instance_proc(w.instance, "vkNoSuchThing"));
}

/* ---- which ------------------------------------------------------------------------------------------- */

/* Ours is the second of four, and its twin the last. */
static void four_gpus(void)
{
	static const char *const names[] = { "another", "gpu0", "a third", "gpu0" };

	fake.gpu_count = 4;
	for (unsigned i = 0; i < 4; i++) {
		fake.gpus[i] = fake_gpu_default();
		fake.gpus[i].name = names[i];
		fake.gpus[i].group = i / 2;
	}
}

static VkPhysicalDevice beneath(unsigned index)
{
	VkPhysicalDevice all[4];
	uint32_t count = 4;

	((PFN_vkEnumeratePhysicalDevices)fake_GetInstanceProcAddr(
		w.instance, "vkEnumeratePhysicalDevices"))(w.instance, &count, all);
	return all[index];
}

static void only_the_vgpus_gpu_is_shown(void **state)
{
	VkPhysicalDevice list[4] = { 0 };
	uint32_t count = 99;

	four_gpus();
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, NULL), VK_SUCCESS);
	assert_int_equal(count, 2);
	count = 4;
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, list), VK_SUCCESS);
	assert_int_equal(count, 2);
	assert_ptr_equal(list[0], beneath(1));
	assert_ptr_equal(list[1], beneath(3));
	assert_null(list[2]);
	memset(list, 0, sizeof(list));
	count = 1;
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, list), VK_INCOMPLETE);
	assert_int_equal(count, 1);
	assert_null(list[1]);
	count = 0;
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, list), VK_INCOMPLETE);
	assert_int_equal(count, 0);
	fake_fail("vkEnumeratePhysicalDevices", 2, VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, list),
			 VK_ERROR_OUT_OF_HOST_MEMORY);
	fake_fail("vkEnumerateDeviceExtensionProperties", 2, VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, list),
			 VK_ERROR_OUT_OF_HOST_MEMORY);
}

static void a_gpu_that_is_not_there_is_none(void **state)
{
	uint32_t count = 99;

	fake.gpus[0].name = "another";
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, NULL), VK_SUCCESS);
	assert_int_equal(count, 0);
	count = 99;
	assert_int_equal(w.i.EnumeratePhysicalDeviceGroups(w.instance, &count, NULL), VK_SUCCESS);
	assert_int_equal(count, 0);
}

static void groups_have_no_gpu_but_ours(void **state)
{
	VkPhysicalDeviceGroupProperties list[4];
	VkBaseOutStructure mine = { .sType = VK_STRUCTURE_TYPE_MAX_ENUM };
	uint32_t count = 99;

	four_gpus();
	fake.gpus[3].name = "not ours";
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	for (unsigned i = 0; i < 4; i++)
		list[i] = (VkPhysicalDeviceGroupProperties){
			.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_GROUP_PROPERTIES, .pNext = &mine
		};
	assert_int_equal(w.i.EnumeratePhysicalDeviceGroups(w.instance, &count, NULL), VK_SUCCESS);
	assert_int_equal(count, 1);
	count = 4;
	assert_int_equal(w.i.EnumeratePhysicalDeviceGroups(w.instance, &count, list), VK_SUCCESS);
	assert_int_equal(count, 1);
	assert_int_equal(list[0].physicalDeviceCount, 1);
	assert_ptr_equal(list[0].physicalDevices[0], beneath(1));
	assert_null(list[0].physicalDevices[1]);
	assert_ptr_equal(list[0].pNext, &mine);
	count = 0;
	assert_int_equal(w.i.EnumeratePhysicalDeviceGroups(w.instance, &count, list),
			 VK_INCOMPLETE);
	assert_int_equal(count, 0);
	/* By the older name, too. */
	assert_ptr_equal(w.get_instance_proc(w.instance, "vkEnumeratePhysicalDeviceGroupsKHR"),
			 (PFN_vkVoidFunction)layer_EnumeratePhysicalDeviceGroups);
}

static void no_device_is_made_on_another_gpu(void **state)
{
	static const float priority = 1;
	const VkDeviceQueueCreateInfo queue = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
						.queueCount = 1,
						.pQueuePriorities = &priority };
	VkPhysicalDevice both[2];
	const VkDeviceGroupDeviceCreateInfo group = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_GROUP_DEVICE_CREATE_INFO,
		.physicalDeviceCount = 2,
		.pPhysicalDevices = both
	};
	VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
				    .queueCreateInfoCount = 1,
				    .pQueueCreateInfos = &queue };

	four_gpus();
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	both[0] = w.physical;
	both[1] = beneath(0);
	w.physical = beneath(0);
	assert_int_equal(world_device_with(&w, &info), VK_ERROR_INITIALIZATION_FAILED);
	/* Nor by way of a group. */
	w.physical = both[0];
	info.pNext = &group;
	assert_int_equal(world_device_with(&w, &info), VK_ERROR_INITIALIZATION_FAILED);
	assert_int_equal(fake_calls("vkCreateDevice"), 0);
	both[1] = beneath(3);
	assert_int_equal(world_device_with(&w, &info), VK_SUCCESS);
}

/* The environment may name another vGPU by now, on another GPU: the device's own registration decides. */
static void a_device_is_of_the_gpu_of_its_own_vgpu(void **state)
{
	four_gpus();
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	fake.gpus[1].name = "renamed";
	assert_int_equal(world_device(&w), VK_ERROR_INITIALIZATION_FAILED);
}

static void a_pci_address_is_compared_where_there_is_one(void **state)
{
	static const VkPhysicalDevicePCIBusInfoPropertiesEXT pci = { .pciBus = 3 };
	uint32_t count = 0;

	/* "gpu0" by name, but the vGPU's GPU is known by its address, which is another. */
	fake.gpus[0].pci = &pci;
	fake.gpus[0].extensions[0] = VK_EXT_PCI_BUS_INFO_EXTENSION_NAME;
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, NULL), VK_SUCCESS);
	assert_int_equal(count, 0);
}

/* ---- priorities ----------------------------------------------------------------------------------------- */

static void no_priority_above_medium_is_offered(void **state)
{
	VkQueueFamilyGlobalPriorityProperties priorities[2] = {
		{ .sType = VK_STRUCTURE_TYPE_QUEUE_FAMILY_GLOBAL_PRIORITY_PROPERTIES },
		{ .sType = VK_STRUCTURE_TYPE_QUEUE_FAMILY_GLOBAL_PRIORITY_PROPERTIES }
	};
	VkQueueFamilyProperties2 families[2] = {
		{ .sType = VK_STRUCTURE_TYPE_QUEUE_FAMILY_PROPERTIES_2, .pNext = &priorities[0] },
		{ .sType = VK_STRUCTURE_TYPE_QUEUE_FAMILY_PROPERTIES_2, .pNext = &priorities[1] }
	};
	uint32_t count = 0;

	assert_int_equal(world_instance(&w), VK_SUCCESS);
	w.i.GetPhysicalDeviceQueueFamilyProperties2(w.physical, &count, NULL);
	assert_int_equal(count, 2);
	w.i.GetPhysicalDeviceQueueFamilyProperties2(w.physical, &count, families);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(priorities[i].priorityCount, 2);
		assert_int_equal(priorities[i].priorities[0], VK_QUEUE_GLOBAL_PRIORITY_LOW);
		assert_int_equal(priorities[i].priorities[1], VK_QUEUE_GLOBAL_PRIORITY_MEDIUM);
	}
	/* What only has higher ones has the one that they become. */
	fake.gpus[0].priorities[0] = VK_QUEUE_GLOBAL_PRIORITY_HIGH;
	fake.gpus[0].priority_count = 1;
	w.i.GetPhysicalDeviceQueueFamilyProperties2(w.physical, &count, families);
	assert_int_equal(priorities[0].priorityCount, 1);
	assert_int_equal(priorities[0].priorities[0], VK_QUEUE_GLOBAL_PRIORITY_MEDIUM);
	/* A driver that does not know the structure offers none. */
	fake.gpus[0].extensions[2] = VK_KHR_SWAPCHAIN_EXTENSION_NAME;
	priorities[0].priorityCount = 77;
	w.i.GetPhysicalDeviceQueueFamilyProperties2(w.physical, &count, families);
	assert_int_equal(priorities[0].priorityCount, 0);
}

int main(void)
{
#define WORLD(t) cmocka_unit_test_setup_teardown(t, open_world, close_world)
	const struct CMUnitTest tests[] = {
		WORLD(without_a_token_there_is_no_vulkan),
		WORLD(a_device_needs_a_token_of_its_own),
		WORLD(a_vgpu_that_is_gone_makes_no_device),
		WORLD(an_instance_that_fails_beneath_leaves_nothing),
		WORLD(vulkan_1_3_is_asked_for_whatever_the_program_wants),
		WORLD(what_makes_instances_is_found_before_there_is_one),
		WORLD(only_the_vgpus_gpu_is_shown),
		WORLD(a_gpu_that_is_not_there_is_none),
		WORLD(groups_have_no_gpu_but_ours),
		WORLD(no_device_is_made_on_another_gpu),
		WORLD(a_device_is_of_the_gpu_of_its_own_vgpu),
		WORLD(a_pci_address_is_compared_where_there_is_one),
		WORLD(no_priority_above_medium_is_offered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
