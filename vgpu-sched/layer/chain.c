// SPDX-License-Identifier: Apache-2.0
/*
 * What a program asks of a device, with what the layer needs besides (chain.h).
 *
 * A chain is copied up to the last structure that must change, and no further; what comes after it is the program's own. So the
 * sizes of those before it must be known: chain_sizes.inc has them, made from Vulkan's registry at build time. An allocation each:
 * this happens once in a device's life.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/layer/chain.h"

/* ---- copies ------------------------------------------------------------------------------------ */

struct piece {
	struct piece *next;
	max_align_t data[];
};

static void *piece_add(struct device_chain *chain, size_t size)
{
	struct piece *piece = calloc(1, sizeof(*piece) + size);

	if (!piece)
		return NULL;
	piece->next = chain->memory;
	chain->memory = piece;
	return piece->data;
}

static void *piece_copy(struct device_chain *chain, const void *data, size_t size)
{
	void *copy = piece_add(chain, size);

	return copy ? memcpy(copy, data, size) : NULL;
}

void device_chain_free(struct device_chain *chain)
{
	for (struct piece *piece = chain->memory, *next; piece; piece = next) {
		next = piece->next;
		free(piece);
	}
	chain->memory = NULL;
}

static size_t size_of(VkStructureType type)
{
	/* Types beyond the enumeration come from newer programs, and from the loader. */
	switch ((uint32_t)type) {
	case VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO:
		return sizeof(VkLayerDeviceCreateInfo);
#include "chain_sizes.inc"
	default:
		return 0;
	}
}

static VkResult refuse(VkResult result, const char *code, const char *text, uint64_t value)
{
	struct error e;

	error_set(&e, ENOTSUP, code, NULL, text, value);
	error_print(&e, LAYER_NAME);
	return result;
}

/*
 * The chain at *@head up to @last (of it) becomes a copy. Returns VK_SUCCESS, VK_ERROR_OUT_OF_HOST_MEMORY, or @unknown where a
 * structure before @last is of unknown size.
 */
static VkResult copy_up_to(struct device_chain *chain, const void **head, const void *last,
			   VkResult unknown)
{
	const void **link = head, *at = NULL;

	while (at != last) {
		VkBaseOutStructure *copy;
		size_t size;

		at = *link;
		size = size_of(((const VkBaseInStructure *)at)->sType);
		if (!size)
			return refuse(
				unknown, "unknown-structure",
				"vkCreateDevice: pNext has a structure of unknown type %" PRIu64
				" before one that must be changed: no device",
				((const VkBaseInStructure *)at)->sType);
		copy = piece_copy(chain, at, size);
		if (!copy)
			return VK_ERROR_OUT_OF_HOST_MEMORY;
		*link = copy;
		link = (const void **)&copy->pNext;
	}
	return VK_SUCCESS;
}

/* ---- features ---------------------------------------------------------------------------------- */

/* A structure with one feature, whatever it is called. */
struct single {
	VkStructureType sType;
	void *pNext;
	VkBool32 on;
};

/* Each is a field of a structure with many, or the only one of a structure of its own; never may both be in a chain. */
static const struct feature {
	VkStructureType wide, single;
	size_t in_wide;
	bool needed;
} features[] = {
	{ VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
	  VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
	  offsetof(VkPhysicalDeviceVulkan12Features, timelineSemaphore), true },
	{ VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
	  VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_HOST_QUERY_RESET_FEATURES,
	  offsetof(VkPhysicalDeviceVulkan12Features, hostQueryReset), false },
	{ VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
	  VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES,
	  offsetof(VkPhysicalDeviceVulkan13Features, synchronization2), true },
};
_Static_assert(sizeof(struct single) == sizeof(VkPhysicalDeviceTimelineSemaphoreFeatures) &&
		       sizeof(struct single) == sizeof(VkPhysicalDeviceHostQueryResetFeatures) &&
		       sizeof(struct single) == sizeof(VkPhysicalDeviceSynchronization2Features),
	       "structures with one feature look alike");

/* Where @structure has it, or NULL. */
static VkBool32 *switch_in(const struct feature *feature, const void *structure)
{
	const VkStructureType type = ((const VkBaseInStructure *)structure)->sType;

	if (type == feature->single)
		return &((struct single *)(uintptr_t)structure)->on;
	if (type == feature->wide)
		return (VkBool32 *)((uintptr_t)structure + feature->in_wide);
	return NULL;
}

/* Which of them the device has; false: not what the layer cannot do without. */
static bool device_has(struct layer_instance *instance, VkPhysicalDevice physical,
		       bool has[ARRAY_SIZE(features)])
{
	VkPhysicalDeviceVulkan13Features of_13 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES
	};
	VkPhysicalDeviceVulkan12Features of_12 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &of_13
	};
	VkPhysicalDeviceFeatures2 all = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
					  .pNext = &of_12 };
	VkPhysicalDeviceProperties properties;

	instance->next.GetPhysicalDeviceProperties(physical, &properties);
	if (properties.apiVersion < VK_API_VERSION_1_3 ||
	    !instance->next.GetPhysicalDeviceFeatures2)
		return false;
	instance->next.GetPhysicalDeviceFeatures2(physical, &all);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		const VkBool32 *on = switch_in(&features[i], &of_12);

		if (!on)
			on = switch_in(&features[i], &of_13);
		has[i] = *on;
		if (features[i].needed && !has[i])
			return false;
	}
	return true;
}

static VkResult features_set(struct device_chain *chain, const bool has[ARRAY_SIZE(features)])
{
	bool there[ARRAY_SIZE(features)] = { false };
	const void *last = NULL;
	VkResult result = VK_SUCCESS;

	for (const VkBaseInStructure *at = chain->info.pNext; at; at = at->pNext)
		for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
			const VkBool32 *on = has[i] ? switch_in(&features[i], at) : NULL;

			there[i] = there[i] || on;
			if (on && !*on)
				last = at;
		}
	if (last)
		result = copy_up_to(chain, &chain->info.pNext, last, VK_ERROR_FEATURE_NOT_PRESENT);
	if (result)
		return result;
	for (const VkBaseInStructure *at = chain->info.pNext; at; at = at->pNext)
		for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
			VkBool32 *on = has[i] ? switch_in(&features[i], at) : NULL;

			/* What is not on was copied. */
			if (on && !*on)
				*on = VK_TRUE;
		}
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		struct single *own = NULL;

		if (!has[i] || there[i])
			continue;
		own = piece_add(chain, sizeof(*own));
		if (!own)
			return VK_ERROR_OUT_OF_HOST_MEMORY;
		*own = (struct single){ .sType = features[i].single,
					.pNext = (void *)(uintptr_t)chain->info.pNext,
					.on = VK_TRUE };
		chain->info.pNext = own;
	}
	return VK_SUCCESS;
}

/* ---- calibrated timestamps --------------------------------------------------------------------- */

static const struct {
	const char *extension, *domains;
} calibrations[] = {
	{ VK_KHR_CALIBRATED_TIMESTAMPS_EXTENSION_NAME,
	  "vkGetPhysicalDeviceCalibrateableTimeDomainsKHR" },
	{ VK_EXT_CALIBRATED_TIMESTAMPS_EXTENSION_NAME,
	  "vkGetPhysicalDeviceCalibrateableTimeDomainsEXT" },
};

/* By the extension's own name: a loader's function under the other one may end the process. */
static bool has_clocks(struct layer_instance *instance, VkPhysicalDevice physical,
		       const char *function)
{
	PFN_vkGetPhysicalDeviceCalibrateableTimeDomainsKHR ask =
		(PFN_vkGetPhysicalDeviceCalibrateableTimeDomainsKHR)
			instance->next.GetInstanceProcAddr(instance->handle, function);
	VkTimeDomainKHR domains[16];
	uint32_t count = ARRAY_SIZE(domains);
	bool device = false, monotonic = false;

	if (!ask || ask(physical, &count, domains) < 0)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		device = device || domains[i] == VK_TIME_DOMAIN_DEVICE_KHR;
		monotonic = monotonic || domains[i] == VK_TIME_DOMAIN_CLOCK_MONOTONIC_KHR;
	}
	return device && monotonic;
}

static bool listed(const VkExtensionProperties *list, uint32_t count, const char *name)
{
	for (uint32_t i = 0; i < count; i++)
		if (!strncmp(list[i].extensionName, name, VK_MAX_EXTENSION_NAME_SIZE))
			return true;
	return false;
}

static bool enabled(const VkDeviceCreateInfo *info, const char *name)
{
	for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
		if (!strcmp(info->ppEnabledExtensionNames[i], name))
			return true;
	return false;
}

static VkResult extension_add(struct device_chain *chain, const char *name)
{
	const uint32_t count = chain->info.enabledExtensionCount;
	const char **names = piece_add(chain, (count + 1) * sizeof(*names));

	if (!names)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	for (uint32_t i = 0; i < count; i++)
		names[i] = chain->info.ppEnabledExtensionNames[i];
	names[count] = name;
	chain->info.ppEnabledExtensionNames = names;
	chain->info.enabledExtensionCount = count + 1;
	return VK_SUCCESS;
}

/* Whichever the program enables, or else the first that the device has. */
static VkResult calibration_choose(struct layer_instance *instance, VkPhysicalDevice physical,
				   struct device_chain *chain, const VkExtensionProperties *list,
				   uint32_t count)
{
	size_t i, first = ARRAY_SIZE(calibrations);

	for (i = 0; i < ARRAY_SIZE(calibrations); i++) {
		if (enabled(&chain->info, calibrations[i].extension))
			break;
		if (first == ARRAY_SIZE(calibrations) &&
		    listed(list, count, calibrations[i].extension))
			first = i;
	}
	if (i < ARRAY_SIZE(calibrations)) {
		chain->calibrated = has_clocks(instance, physical, calibrations[i].domains);
		return VK_SUCCESS;
	}
	if (first == ARRAY_SIZE(calibrations) ||
	    !has_clocks(instance, physical, calibrations[first].domains))
		return VK_SUCCESS;
	chain->calibrated = true;
	return extension_add(chain, calibrations[first].extension);
}

static VkResult calibration_set(struct layer_instance *instance, VkPhysicalDevice physical,
				struct device_chain *chain)
{
	PFN_vkEnumerateDeviceExtensionProperties ask =
		instance->next.EnumerateDeviceExtensionProperties;
	VkExtensionProperties *list = NULL;
	uint32_t count = 0;
	VkResult result = ask(physical, NULL, &count, NULL);

	if (result >= 0 && count) {
		list = calloc(count, sizeof(*list));
		if (!list)
			return VK_ERROR_OUT_OF_HOST_MEMORY;
		result = ask(physical, NULL, &count, list);
	}
	if (result >= 0)
		result = calibration_choose(instance, physical, chain, list, count);
	free(list);
	return MIN(result, VK_SUCCESS);
}

/* ---- priorities -------------------------------------------------------------------------------- */

static const VkDeviceQueueGlobalPriorityCreateInfo *too_high(const void *head)
{
	for (const VkBaseInStructure *at = head; at; at = at->pNext) {
		const VkDeviceQueueGlobalPriorityCreateInfo *priority = (const void *)at;

		if (at->sType == VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO &&
		    priority->globalPriority > VK_QUEUE_GLOBAL_PRIORITY_MEDIUM)
			return priority;
	}
	return NULL;
}

static VkResult priorities_clamp(struct device_chain *chain)
{
	const uint32_t count = chain->info.queueCreateInfoCount;
	VkDeviceQueueCreateInfo *queues = NULL;
	VkResult result = VK_SUCCESS;

	for (uint32_t i = 0; i < count && !result; i++) {
		const void *high = too_high(chain->info.pQueueCreateInfos[i].pNext);

		if (!high)
			continue;
		if (!queues)
			queues = piece_copy(chain, chain->info.pQueueCreateInfos,
					    count * sizeof(*queues));
		if (!queues)
			return VK_ERROR_OUT_OF_HOST_MEMORY;
		chain->info.pQueueCreateInfos = queues;
		result = copy_up_to(chain, &queues[i].pNext, high, VK_ERROR_NOT_PERMITTED);
		if (!result)
			((VkDeviceQueueGlobalPriorityCreateInfo *)(uintptr_t)too_high(
				 queues[i].pNext))
				->globalPriority = VK_QUEUE_GLOBAL_PRIORITY_MEDIUM;
	}
	return result;
}

VkResult device_chain_build(struct layer_instance *instance, VkPhysicalDevice physical,
			    const VkDeviceCreateInfo *info, struct device_chain *chain)
{
	bool has[ARRAY_SIZE(features)] = { false };
	VkResult result;

	*chain = (struct device_chain){ .info = *info };
	if (!device_has(instance, physical, has))
		return refuse(VK_ERROR_FEATURE_NOT_PRESENT, "device-too-old",
			      "the device has no Vulkan 1.3 with timelineSemaphore and "
			      "synchronization2, which a vGPU's turns need",
			      0);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].single ==
		    VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_HOST_QUERY_RESET_FEATURES)
			chain->host_query_reset = has[i];
	result = features_set(chain, has);
	if (!result)
		result = calibration_set(instance, physical, chain);
	if (!result)
		result = priorities_clamp(chain);
	if (result)
		device_chain_free(chain);
	return result;
}
