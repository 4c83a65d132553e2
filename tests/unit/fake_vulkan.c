// SPDX-License-Identifier: Apache-2.0
/* The driver that is made up (fake_vulkan.h): instances, physical devices, memory, and failures on demand. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/fake_private.h"

struct fake_vulkan fake;
pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t fake_changed = PTHREAD_COND_INITIALIZER;
bool fake_lost;
unsigned fake_object_count;

#define CALLS_MAX 96
static struct {
	const char *name;
	unsigned count, fail_at;
	VkResult result;
} calls[CALLS_MAX];
static char complaint[256];
static uint64_t allocated[VK_MAX_MEMORY_HEAPS];

/* ---- failures and complaints ------------------------------------------------------------------- */

void fake_complain(const char *fmt, ...)
{
	va_list args;

	if (complaint[0])
		return;
	va_start(args, fmt);
	vsnprintf(complaint, sizeof(complaint), fmt, args);
	va_end(args);
}

const char *fake_complaints(void)
{
	static char copy[sizeof(complaint)];

	pthread_mutex_lock(&fake_lock);
	memcpy(copy, complaint, sizeof(copy));
	pthread_mutex_unlock(&fake_lock);
	return copy;
}

void fake_forgive(void)
{
	pthread_mutex_lock(&fake_lock);
	complaint[0] = '\0';
	pthread_mutex_unlock(&fake_lock);
}

static unsigned call_index(const char *function)
{
	unsigned i;

	for (i = 0; i < CALLS_MAX - 1 && calls[i].name; i++)
		if (!strcmp(calls[i].name, function))
			return i;
	calls[i].name = function;
	return i;
}

VkResult fake_enter(const char *function)
{
	const unsigned i = call_index(function);

	if (++calls[i].count != calls[i].fail_at)
		return VK_SUCCESS;
	if (calls[i].result == VK_ERROR_DEVICE_LOST) {
		fake_lost = true;
		pthread_cond_broadcast(&fake_changed);
	}
	return calls[i].result;
}

void fake_fail(const char *function, unsigned nth, VkResult result)
{
	unsigned i;

	pthread_mutex_lock(&fake_lock);
	i = call_index(function);
	calls[i].fail_at = calls[i].count + nth;
	calls[i].result = result;
	pthread_mutex_unlock(&fake_lock);
}

unsigned fake_calls(const char *function)
{
	unsigned count;

	pthread_mutex_lock(&fake_lock);
	count = calls[call_index(function)].count;
	pthread_mutex_unlock(&fake_lock);
	return count;
}

void fake_lose(void)
{
	pthread_mutex_lock(&fake_lock);
	fake_lost = true;
	pthread_cond_broadcast(&fake_changed);
	pthread_mutex_unlock(&fake_lock);
}

bool fake_wait(uint64_t until_ns)
{
	const struct timespec until = { (time_t)(until_ns / NSEC_PER_SEC),
					(long)(until_ns % NSEC_PER_SEC) };

	return !pthread_cond_clockwait(&fake_changed, &fake_lock, CLOCK_MONOTONIC, &until);
}

void *fake_object(size_t size)
{
	void *object = calloc(1, size);

	if (!object)
		abort();
	fake_object_count++;
	return object;
}

void fake_object_free(void *object)
{
	if (object)
		fake_object_count--;
	free(object);
}

unsigned fake_objects(void)
{
	unsigned count;

	pthread_mutex_lock(&fake_lock);
	count = fake_object_count;
	pthread_mutex_unlock(&fake_lock);
	return count;
}

uint64_t fake_allocated(uint32_t heap)
{
	uint64_t bytes;

	pthread_mutex_lock(&fake_lock);
	bytes = allocated[heap];
	pthread_mutex_unlock(&fake_lock);
	return bytes;
}

/* ---- a GPU like others ------------------------------------------------------------------------- */

struct fake_gpu fake_gpu_default(void)
{
	return (struct fake_gpu){
		.name = "gpu0",
		.api_version = VK_API_VERSION_1_3,
		.timestamp_period = 1,
		.timeline_semaphore = true,
		.synchronization2 = true,
		.host_query_reset = true,
		.extensions = { VK_KHR_CALIBRATED_TIMESTAMPS_EXTENSION_NAME,
				VK_EXT_MEMORY_BUDGET_EXTENSION_NAME,
				VK_KHR_GLOBAL_PRIORITY_EXTENSION_NAME,
				VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME },
		.memory = { .memoryHeapCount = 2,
			    .memoryHeaps = { { 8 * GIB, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT },
					     { 16 * GIB, 0 } },
			    .memoryTypeCount = 3,
			    .memoryTypes = { { VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0 },
					     { VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
						       VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
					       1 },
					     { VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT |
						       VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
						       VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
					       0 } } },
		.families = { { VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT |
					VK_QUEUE_TRANSFER_BIT | VK_QUEUE_SPARSE_BINDING_BIT,
				2, 64 },
			      { VK_QUEUE_TRANSFER_BIT, 1, 0 } },
		.family_count = 2,
		.priorities = { VK_QUEUE_GLOBAL_PRIORITY_LOW, VK_QUEUE_GLOBAL_PRIORITY_MEDIUM,
				VK_QUEUE_GLOBAL_PRIORITY_HIGH, VK_QUEUE_GLOBAL_PRIORITY_REALTIME },
		.priority_count = 4,
		.domains = { VK_TIME_DOMAIN_DEVICE_KHR, VK_TIME_DOMAIN_CLOCK_MONOTONIC_KHR },
		.domain_count = 2,
	};
}

void fake_reset(void)
{
	fake_queues_reset();
	memset(calls, 0, sizeof(calls));
	memset(allocated, 0, sizeof(allocated));
	complaint[0] = '\0';
	fake_lost = false;
	fake_object_count = 0;
	fake = (struct fake_vulkan){ .gpus = { fake_gpu_default() }, .gpu_count = 1 };
}

static bool has_extension(const struct fake_gpu *gpu, const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(gpu->extensions) && gpu->extensions[i]; i++)
		if (!strcmp(gpu->extensions[i], name))
			return true;
	return false;
}

static const struct fake_gpu *gpu_of(VkPhysicalDevice physical)
{
	return ((const struct fake_physical *)physical)->gpu;
}

/* ---- instances --------------------------------------------------------------------------------- */

static VkResult VKAPI_CALL CreateInstance(const VkInstanceCreateInfo *info,
					  const VkAllocationCallbacks *allocator, VkInstance *out)
{
	struct fake_instance *instance;

	if (fake.on_create_instance)
		fake.on_create_instance(info);
	ENTER("vkCreateInstance");
	instance = fake_object(sizeof(*instance));
	instance->dispatch = &instance->physical;
	for (uint32_t i = 0; i < fake.gpu_count; i++)
		instance->physical[i] = (struct fake_physical){ instance->dispatch, &fake.gpus[i] };
	*out = (VkInstance)instance;
	LEAVE(VK_SUCCESS);
}

static void VKAPI_CALL DestroyInstance(VkInstance instance, const VkAllocationCallbacks *allocator)
{
	pthread_mutex_lock(&fake_lock);
	fake_object_free(instance);
	pthread_mutex_unlock(&fake_lock);
}

static VkResult VKAPI_CALL EnumeratePhysicalDevices(VkInstance handle, uint32_t *count,
						    VkPhysicalDevice *devices)
{
	struct fake_instance *instance = (struct fake_instance *)handle;
	const uint32_t room = *count;

	ENTER("vkEnumeratePhysicalDevices");
	*count = devices ? MIN(room, fake.gpu_count) : fake.gpu_count;
	for (uint32_t i = 0; devices && i < *count; i++)
		devices[i] = (VkPhysicalDevice)&instance->physical[i];
	LEAVE(devices && room < fake.gpu_count ? VK_INCOMPLETE : VK_SUCCESS);
}

static VkResult VKAPI_CALL EnumeratePhysicalDeviceGroups(VkInstance handle, uint32_t *count,
							 VkPhysicalDeviceGroupProperties *groups)
{
	struct fake_instance *instance = (struct fake_instance *)handle;
	VkPhysicalDeviceGroupProperties all[FAKE_GPUS_MAX] = { 0 };
	const uint32_t room = *count;
	uint32_t there = 0, numbers[FAKE_GPUS_MAX];

	ENTER("vkEnumeratePhysicalDeviceGroups");
	for (uint32_t i = 0; i < fake.gpu_count; i++) {
		uint32_t j = 0;

		while (j < there && numbers[j] != fake.gpus[i].group)
			j++;
		if (j == there)
			numbers[there++] = fake.gpus[i].group;
		all[j].physicalDevices[all[j].physicalDeviceCount++] =
			(VkPhysicalDevice)&instance->physical[i];
	}
	*count = groups ? MIN(room, there) : there;
	for (uint32_t i = 0; groups && i < *count; i++) {
		if (groups[i].sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_GROUP_PROPERTIES)
			fake_complain("VkPhysicalDeviceGroupProperties without its sType");
		groups[i].physicalDeviceCount = all[i].physicalDeviceCount;
		memcpy(groups[i].physicalDevices, all[i].physicalDevices,
		       sizeof(all[i].physicalDevices));
		groups[i].subsetAllocation = VK_FALSE;
	}
	LEAVE(groups && room < there ? VK_INCOMPLETE : VK_SUCCESS);
}

/* ---- physical devices -------------------------------------------------------------------------- */

static VkResult VKAPI_CALL EnumerateDeviceExtensionProperties(VkPhysicalDevice physical,
							      const char *layer, uint32_t *count,
							      VkExtensionProperties *list)
{
	const struct fake_gpu *gpu = gpu_of(physical);
	const uint32_t room = *count;
	uint32_t there = 0;

	ENTER("vkEnumerateDeviceExtensionProperties");
	while (there < ARRAY_SIZE(gpu->extensions) && gpu->extensions[there])
		there++;
	*count = there;
	for (uint32_t i = 0; list && i < MIN(room, there); i++) {
		list[i] = (VkExtensionProperties){ .specVersion = 1 };
		strncpy(list[i].extensionName, gpu->extensions[i],
			sizeof(list[i].extensionName) - 1);
	}
	if (list)
		*count = MIN(room, there);
	LEAVE(list && room < there ? VK_INCOMPLETE : VK_SUCCESS);
}

static void VKAPI_CALL GetPhysicalDeviceProperties(VkPhysicalDevice physical,
						   VkPhysicalDeviceProperties *properties)
{
	const struct fake_gpu *gpu = gpu_of(physical);

	*properties = (VkPhysicalDeviceProperties){ .apiVersion = gpu->api_version };
	properties->limits.timestampPeriod = gpu->timestamp_period;
	snprintf(properties->deviceName, sizeof(properties->deviceName), "%s", gpu->name);
}

static void VKAPI_CALL GetPhysicalDeviceProperties2(VkPhysicalDevice physical,
						    VkPhysicalDeviceProperties2 *properties)
{
	const struct fake_gpu *gpu = gpu_of(physical);

	GetPhysicalDeviceProperties(physical, &properties->properties);
	for (VkBaseOutStructure *at = properties->pNext; at; at = at->pNext)
		if (at->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT &&
		    gpu->pci) {
			VkPhysicalDevicePCIBusInfoPropertiesEXT *pci = (void *)at;

			pci->pciDomain = gpu->pci->pciDomain;
			pci->pciBus = gpu->pci->pciBus;
			pci->pciDevice = gpu->pci->pciDevice;
			pci->pciFunction = gpu->pci->pciFunction;
		}
}

static void VKAPI_CALL GetPhysicalDeviceFeatures2(VkPhysicalDevice physical,
						  VkPhysicalDeviceFeatures2 *all)
{
	const struct fake_gpu *gpu = gpu_of(physical);

	for (VkBaseOutStructure *at = all->pNext; at; at = at->pNext) {
		VkPhysicalDeviceVulkan12Features *of_12 = (void *)at;
		VkPhysicalDeviceVulkan13Features *of_13 = (void *)at;

		if (at->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES) {
			of_12->timelineSemaphore = gpu->timeline_semaphore;
			of_12->hostQueryReset = gpu->host_query_reset;
		} else if (at->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES) {
			of_13->synchronization2 = gpu->synchronization2;
		}
	}
}

static void VKAPI_CALL GetPhysicalDeviceMemoryProperties(VkPhysicalDevice physical,
							 VkPhysicalDeviceMemoryProperties *memory)
{
	*memory = gpu_of(physical)->memory;
}

static void VKAPI_CALL GetPhysicalDeviceMemoryProperties2(VkPhysicalDevice physical,
							  VkPhysicalDeviceMemoryProperties2 *memory)
{
	const struct fake_gpu *gpu = gpu_of(physical);

	memory->memoryProperties = gpu->memory;
	if (!has_extension(gpu, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME))
		return;
	for (VkBaseOutStructure *at = memory->pNext; at; at = at->pNext) {
		VkPhysicalDeviceMemoryBudgetPropertiesEXT *b = (void *)at;

		if (at->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT)
			continue;
		memset(b->heapBudget, 0, sizeof(b->heapBudget));
		memset(b->heapUsage, 0, sizeof(b->heapUsage));
		for (uint32_t i = 0; i < gpu->memory.memoryHeapCount; i++) {
			b->heapBudget[i] =
				gpu->budget[i] ? gpu->budget[i] : gpu->memory.memoryHeaps[i].size;
			b->heapUsage[i] = gpu->usage[i] + fake_allocated(i);
		}
	}
}

static void VKAPI_CALL GetPhysicalDeviceQueueFamilyProperties(VkPhysicalDevice physical,
							      uint32_t *count,
							      VkQueueFamilyProperties *families)
{
	const struct fake_gpu *gpu = gpu_of(physical);

	*count = families ? MIN(*count, gpu->family_count) : gpu->family_count;
	for (uint32_t i = 0; families && i < *count; i++)
		families[i] = (VkQueueFamilyProperties){
			.queueFlags = gpu->families[i].flags,
			.queueCount = gpu->families[i].queues,
			.timestampValidBits = gpu->families[i].timestamp_bits,
		};
}

static void VKAPI_CALL GetPhysicalDeviceQueueFamilyProperties2(VkPhysicalDevice physical,
							       uint32_t *count,
							       VkQueueFamilyProperties2 *families)
{
	const struct fake_gpu *gpu = gpu_of(physical);
	VkQueueFamilyProperties plain[FAKE_FAMILIES_MAX];

	GetPhysicalDeviceQueueFamilyProperties(physical, count, families ? plain : NULL);
	for (uint32_t i = 0; families && i < *count; i++) {
		families[i].queueFamilyProperties = plain[i];
		for (VkBaseOutStructure *at = families[i].pNext; at; at = at->pNext) {
			VkQueueFamilyGlobalPriorityProperties *p = (void *)at;

			if (at->sType !=
				    VK_STRUCTURE_TYPE_QUEUE_FAMILY_GLOBAL_PRIORITY_PROPERTIES ||
			    !has_extension(gpu, VK_KHR_GLOBAL_PRIORITY_EXTENSION_NAME))
				continue;
			p->priorityCount = gpu->priority_count;
			memcpy(p->priorities, gpu->priorities, sizeof(gpu->priorities));
		}
	}
}

static VkResult VKAPI_CALL GetPhysicalDeviceCalibrateableTimeDomainsKHR(VkPhysicalDevice physical,
									uint32_t *count,
									VkTimeDomainKHR *domains)
{
	const struct fake_gpu *gpu = gpu_of(physical);
	const uint32_t room = *count;

	ENTER("vkGetPhysicalDeviceCalibrateableTimeDomainsKHR");
	*count = domains ? MIN(room, gpu->domain_count) : gpu->domain_count;
	for (uint32_t i = 0; domains && i < *count; i++)
		domains[i] = gpu->domains[i];
	LEAVE(domains && room < gpu->domain_count ? VK_INCOMPLETE : VK_SUCCESS);
}

/* ---- devices and memory ------------------------------------------------------------------------ */

static VkResult VKAPI_CALL CreateDevice(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
					const VkAllocationCallbacks *allocator, VkDevice *out)
{
	struct fake_device *device;

	if (fake.on_create_device)
		fake.on_create_device(info);
	ENTER("vkCreateDevice");
	for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
		if (!has_extension(gpu_of(physical), info->ppEnabledExtensionNames[i]))
			LEAVE(VK_ERROR_EXTENSION_NOT_PRESENT);
	device = fake_object(sizeof(*device));
	device->dispatch = &device->gpu;
	device->gpu = gpu_of(physical);
	fake_queues_create(device, info);
	*out = (VkDevice)device;
	LEAVE(VK_SUCCESS);
}

static void VKAPI_CALL DestroyDevice(VkDevice handle, const VkAllocationCallbacks *allocator)
{
	struct fake_device *device = (struct fake_device *)handle;

	fake_queues_destroy(device);
	pthread_mutex_lock(&fake_lock);
	fake_object_free(device);
	pthread_mutex_unlock(&fake_lock);
}

struct fake_memory {
	uint64_t size;
	uint32_t heap;
	bool import;
};

static VkResult VKAPI_CALL AllocateMemory(VkDevice handle, const VkMemoryAllocateInfo *info,
					  const VkAllocationCallbacks *allocator,
					  VkDeviceMemory *out)
{
	const struct fake_gpu *gpu = ((struct fake_device *)handle)->gpu;
	const uint32_t heap = gpu->memory.memoryTypes[info->memoryTypeIndex].heapIndex;
	const VkImportMemoryFdInfoKHR *import = info->pNext;
	struct fake_memory *memory;

	ENTER("vkAllocateMemory");
	while (import && import->sType != VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR &&
	       import->sType != VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT)
		import = import->pNext;
	if (!(import && import->handleType) &&
	    info->allocationSize > gpu->memory.memoryHeaps[heap].size - allocated[heap])
		LEAVE(VK_ERROR_OUT_OF_DEVICE_MEMORY);
	memory = fake_object(sizeof(*memory));
	*memory = (struct fake_memory){ info->allocationSize, heap, import && import->handleType };
	if (!memory->import)
		allocated[heap] += memory->size;
	*out = (VkDeviceMemory)memory;
	LEAVE(VK_SUCCESS);
}

static void VKAPI_CALL FreeMemory(VkDevice device, VkDeviceMemory handle,
				  const VkAllocationCallbacks *allocator)
{
	struct fake_memory *memory = (struct fake_memory *)handle;

	if (!memory)
		return;
	pthread_mutex_lock(&fake_lock);
	if (!memory->import)
		allocated[memory->heap] -= memory->size;
	fake_object_free(memory);
	pthread_mutex_unlock(&fake_lock);
}

/* ---- by name ----------------------------------------------------------------------------------- */

#define NAMED(function_) { "vk" #function_, (PFN_vkVoidFunction)function_ },
static const struct {
	const char *name;
	PFN_vkVoidFunction function;
} functions[] = {
	NAMED(CreateInstance) NAMED(DestroyInstance) NAMED(EnumeratePhysicalDevices) NAMED(
		EnumeratePhysicalDeviceGroups) NAMED(EnumerateDeviceExtensionProperties)
		NAMED(GetPhysicalDeviceProperties) NAMED(GetPhysicalDeviceProperties2) NAMED(
			GetPhysicalDeviceFeatures2) NAMED(GetPhysicalDeviceMemoryProperties)
			NAMED(GetPhysicalDeviceMemoryProperties2)
				NAMED(GetPhysicalDeviceQueueFamilyProperties) NAMED(
					GetPhysicalDeviceQueueFamilyProperties2) NAMED(CreateDevice)
					NAMED(DestroyDevice) NAMED(AllocateMemory) NAMED(
						FreeMemory){
						"vkGetDeviceProcAddr",
						(PFN_vkVoidFunction)fake_GetDeviceProcAddr },
	{ "vkGetInstanceProcAddr", (PFN_vkVoidFunction)fake_GetInstanceProcAddr },
};

/* Under the name of the extension that the first GPU has, and no other: it ends the process, as the loader does. */
static void VKAPI_CALL no_such_extension(void)
{
	abort();
}

PFN_vkVoidFunction fake_GetInstanceProcAddr(VkInstance instance, const char *name)
{
	static const char domains[] = "vkGetPhysicalDeviceCalibrateableTimeDomains";
	const char *extension = VK_KHR_CALIBRATED_TIMESTAMPS_EXTENSION_NAME;

	for (unsigned i = 0; i < ARRAY_SIZE(functions); i++) {
		const size_t length = strlen(functions[i].name);

		/* By its older name, too. */
		if (!strncmp(functions[i].name, name, length) &&
		    (!name[length] || !strcmp(name + length, "KHR")))
			return functions[i].function;
	}
	if (strncmp(name, domains, strlen(domains)))
		return fake_queue_function(name);
	if (strcmp(name + strlen(domains), "KHR"))
		extension = VK_EXT_CALIBRATED_TIMESTAMPS_EXTENSION_NAME;
	return has_extension(&fake.gpus[0], extension)
		       ? (PFN_vkVoidFunction)GetPhysicalDeviceCalibrateableTimeDomainsKHR
		       : no_such_extension;
}

PFN_vkVoidFunction fake_GetDeviceProcAddr(VkDevice device, const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(functions); i++)
		if (!strcmp(functions[i].name, name))
			return functions[i].function;
	return fake_queue_function(name);
}
