/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for the Vulkan layer: a real arbiter with a vGPU, the layer, a driver that is made up (fake_vulkan.h) beneath it, and above it
 * what loader and program do. A test:
 *
 *	world_open(&w, quota);			the arbiter, and a vGPU of GPU "gpu0" in the environment
 *	fake.gpus[0]... = ...;
 *	assert_int_equal(world_instance(&w), VK_SUCCESS);
 *	assert_int_equal(world_device(&w), VK_SUCCESS);
 *	w.d.QueueSubmit2(w.queue, ...)		all calls go through the layer, as the loader finds them
 *	world_close(&w);			and nothing is left: objects, descriptors, complaints
 */
#ifndef TESTS_UNIT_LAYER_WORLD_H
#define TESTS_UNIT_LAYER_WORLD_H

#include "tests/unit/arbiter_fixture.h"
#include "tests/unit/fake_vulkan.h"

#define WORLD_INSTANCE_CALLS(X)                    \
	X(DestroyInstance)                         \
	X(EnumeratePhysicalDevices)                \
	X(EnumeratePhysicalDeviceGroups)           \
	X(EnumerateDeviceExtensionProperties)      \
	X(GetPhysicalDeviceMemoryProperties)       \
	X(GetPhysicalDeviceMemoryProperties2)      \
	X(GetPhysicalDeviceQueueFamilyProperties2) \
	X(CreateDevice)

#define WORLD_DEVICE_CALLS(X)                    \
	X(DestroyDevice)                         \
	X(GetDeviceQueue)                        \
	X(QueueSubmit)                           \
	X(QueueSubmit2)                          \
	X(QueueBindSparse)                       \
	X(QueuePresentKHR)                       \
	X(QueueWaitIdle)                         \
	X(DeviceWaitIdle)                        \
	X(QueueBeginDebugUtilsLabelEXT)          \
	X(QueueEndDebugUtilsLabelEXT)            \
	X(QueueInsertDebugUtilsLabelEXT)         \
	X(QueueSetPerformanceConfigurationINTEL) \
	X(QueueNotifyOutOfBandNV)                \
	X(CreateFence)                           \
	X(DestroyFence)                          \
	X(ResetFences)                           \
	X(GetFenceStatus)                        \
	X(WaitForFences)                         \
	X(GetFenceFdKHR)                         \
	X(CreateSemaphore)                       \
	X(DestroySemaphore)                      \
	X(GetSemaphoreCounterValue)              \
	X(WaitSemaphores)                        \
	X(SignalSemaphore)                       \
	X(GetSemaphoreFdKHR)                     \
	X(CreateCommandPool)                     \
	X(DestroyCommandPool)                    \
	X(AllocateCommandBuffers)                \
	X(BeginCommandBuffer)                    \
	X(EndCommandBuffer)                      \
	X(AllocateMemory)                        \
	X(FreeMemory)

struct world {
	struct fixture arbiter;
	struct tenant tenant;
	PFN_vkGetInstanceProcAddr get_instance_proc;
	PFN_vkGetDeviceProcAddr get_device_proc;
	VkInstance instance;
	VkPhysicalDevice physical; /* the first that is shown */
	VkDevice device;
	VkQueue queue, second, copy; /* family 0: two, family 1: one; dressed by the loader */
	VkCommandPool pool;
#define WORLD_POINTER(name) PFN_vk##name name;
	struct {
		WORLD_INSTANCE_CALLS(WORLD_POINTER)
	} i;
	struct {
		WORLD_DEVICE_CALLS(WORLD_POINTER)
	} d;
#undef WORLD_POINTER
};

VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface);

/* The environment names @tenant's vGPU from now on. */
static inline void world_be(struct world *w, const struct tenant *tenant)
{
	char text[2 * LIVE_TOKEN_SIZE + 1];

	for (unsigned i = 0; i < LIVE_TOKEN_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", tenant->token[i]);
	setenv(LAYER_ENV_SOCKET, w->arbiter.path, 1);
	setenv(LAYER_ENV_TOKEN, text, 1);
}

/* @quota: bytes of device memory; 0: none */
static inline void world_open(struct world *w, uint64_t quota)
{
	struct error e = { 0 };

	*w = (struct world){ 0 };
	w->arbiter.config.slice_ns = 2 * MS;
	w->arbiter.config.hold_max_ns = 60 * NSEC_PER_SEC; /* a neighbour may keep its turn */
	start(&w->arbiter);
	if (try_create(&w->arbiter,
		       &(struct live_message){
			       .policy = SCHED_WEIGHTED, .weight = 100, .memory_quota = quota },
		       &w->tenant, &e))
		fail_msg("%s", e.text);
	world_be(w, &w->tenant);
	fake_reset();
}

/* Another vGPU on the same GPU: whoever it makes turns with. Its owner is the caller's to close. */
static inline void world_neighbour(struct world *w, struct tenant *tenant)
{
	create(&w->arbiter, SCHED_WEIGHTED, 100, 0, tenant);
}

static inline VkResult VKAPI_CALL world_dress(VkDevice device, void *object)
{
	*(const void **)object = *(const void **)device;
	return VK_SUCCESS;
}

static inline VkResult world_instance_with(struct world *w, const VkApplicationInfo *application)
{
	VkNegotiateLayerInterface interface = { .sType = LAYER_NEGOTIATE_INTERFACE_STRUCT,
						.loaderLayerInterfaceVersion = 2 };
	VkLayerInstanceLink link = { .pfnNextGetInstanceProcAddr = fake_GetInstanceProcAddr };
	VkLayerInstanceCreateInfo chain = { .sType = VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO,
					    .function = VK_LAYER_LINK_INFO,
					    .u.pLayerInfo = &link };
	const VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
					    .pNext = &chain,
					    .pApplicationInfo = application };
	PFN_vkCreateInstance create_instance;
	uint32_t count = 1;
	VkResult result = vkNegotiateLoaderLayerInterfaceVersion(&interface);

	if (result)
		return result;
	w->get_instance_proc = interface.pfnGetInstanceProcAddr;
	w->get_device_proc = interface.pfnGetDeviceProcAddr;
	create_instance =
		(PFN_vkCreateInstance)w->get_instance_proc(VK_NULL_HANDLE, "vkCreateInstance");
	result = create_instance(&info, NULL, &w->instance);
	if (result) {
		w->instance = NULL;
		return result;
	}
#define WORLD_LOAD(name) w->i.name = (PFN_vk##name)w->get_instance_proc(w->instance, "vk" #name);
	WORLD_INSTANCE_CALLS(WORLD_LOAD)
#undef WORLD_LOAD
	w->i.EnumeratePhysicalDevices(w->instance, &count, &w->physical);
	return VK_SUCCESS;
}

static inline VkResult world_instance(struct world *w)
{
	return world_instance_with(w, NULL);
}

/* @info: what the program asks for; the loader's structures come before its pNext */
static inline VkResult world_device_with(struct world *w, const VkDeviceCreateInfo *info)
{
	VkLayerDeviceLink link = { .pfnNextGetInstanceProcAddr = fake_GetInstanceProcAddr,
				   .pfnNextGetDeviceProcAddr = fake_GetDeviceProcAddr };
	VkLayerDeviceCreateInfo dress = { .sType = VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO,
					  .pNext = info->pNext,
					  .function = VK_LOADER_DATA_CALLBACK,
					  .u.pfnSetDeviceLoaderData = world_dress };
	VkLayerDeviceCreateInfo chain = { .sType = VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO,
					  .pNext = &dress,
					  .function = VK_LAYER_LINK_INFO,
					  .u.pLayerInfo = &link };
	VkDeviceCreateInfo whole = *info;
	VkResult result;

	whole.pNext = &chain;
	result = w->i.CreateDevice(w->physical, &whole, NULL, &w->device);
	if (result) {
		w->device = NULL;
		return result;
	}
#define WORLD_LOAD(name) w->d.name = (PFN_vk##name)w->get_device_proc(w->device, "vk" #name);
	WORLD_DEVICE_CALLS(WORLD_LOAD)
#undef WORLD_LOAD
	return VK_SUCCESS;
}

static inline VkQueue world_queue(struct world *w, uint32_t family, uint32_t index)
{
	VkQueue queue = NULL;

	w->d.GetDeviceQueue(w->device, family, index, &queue);
	assert_non_null(queue);
	world_dress(w->device, queue);
	return queue;
}

/* A device with all queues of the default GPU, and a command pool. */
static inline VkResult world_device(struct world *w)
{
	static const float priorities[2] = { 1, 1 };
	const VkDeviceQueueCreateInfo queues[] = {
		{ .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		  .queueFamilyIndex = 0,
		  .queueCount = 2,
		  .pQueuePriorities = priorities },
		{ .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		  .queueFamilyIndex = 1,
		  .queueCount = 1,
		  .pQueuePriorities = priorities },
	};
	const VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
					  .queueCreateInfoCount = 2,
					  .pQueueCreateInfos = queues };
	const VkCommandPoolCreateInfo pool = { .sType =
						       VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO };
	VkResult result = world_device_with(w, &info);

	if (result)
		return result;
	w->queue = world_queue(w, 0, 0);
	w->second = world_queue(w, 0, 1);
	w->copy = world_queue(w, 1, 0);
	return w->d.CreateCommandPool(w->device, &pool, NULL, &w->pool);
}

/* A recorded command buffer that takes @ns on the GPU. It goes with the device. */
static inline VkCommandBuffer world_commands(struct world *w, uint64_t ns)
{
	const VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandPool = w->pool,
		.commandBufferCount = 1
	};
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
	};
	VkCommandBuffer commands = NULL;

	assert_int_equal(w->d.AllocateCommandBuffers(w->device, &info, &commands), VK_SUCCESS);
	world_dress(w->device, commands);
	assert_int_equal(w->d.BeginCommandBuffer(commands, &begin), VK_SUCCESS);
	assert_int_equal(w->d.EndCommandBuffer(commands), VK_SUCCESS);
	fake_commands_take(commands, ns);
	return commands;
}

static inline void world_device_close(struct world *w)
{
	if (!w->device)
		return;
	w->d.DestroyCommandPool(w->device, w->pool, NULL);
	w->d.DestroyDevice(w->device, NULL);
	w->pool = VK_NULL_HANDLE;
	w->device = NULL;
}

static inline void world_close(struct world *w)
{
	world_device_close(w);
	if (w->instance)
		w->i.DestroyInstance(w->instance, NULL);
	close(w->tenant.owner);
	stop(&w->arbiter);
	assert_no_complaints();
	assert_int_equal(fake_objects(), 0);
	unsetenv(LAYER_ENV_SOCKET);
	unsetenv(LAYER_ENV_TOKEN);
}

#endif
