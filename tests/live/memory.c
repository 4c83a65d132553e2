// SPDX-License-Identifier: Apache-2.0
/*
 * `vkload memory`: what heaps the three queries report, and how much can be allocated until the driver, or a layer, refuses. The
 * memory is not touched, so that a heap larger than what the machine has free does no harm.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "tests/live/vkload.h"

struct filled {
	VkDeviceMemory *chunks;
	uint64_t count, bytes;
	VkResult refused; /* VK_SUCCESS: the limit was reached first */
};

static json_t *heaps(struct vk *vk, bool *agree)
{
	VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT
	};
	VkPhysicalDeviceMemoryProperties2 two = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
		.pNext = vk->extensions & VK_HAS_MEMORY_BUDGET ? &budget : NULL,
	};
	PFN_vkGetPhysicalDeviceMemoryProperties2 alias =
		(PFN_vkGetPhysicalDeviceMemoryProperties2)vkGetInstanceProcAddr(
			vk->instance, "vkGetPhysicalDeviceMemoryProperties2KHR");
	VkPhysicalDeviceMemoryProperties2 khr = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2
	};
	VkPhysicalDeviceMemoryProperties one;
	json_t *list = json_array();

	vkGetPhysicalDeviceMemoryProperties(vk->physical, &one);
	vkGetPhysicalDeviceMemoryProperties2(vk->physical, &two);
	if (alias)
		alias(vk->physical, &khr);
	else
		khr = two;
	*agree = one.memoryHeapCount == two.memoryProperties.memoryHeapCount;
	for (uint32_t i = 0; i < one.memoryHeapCount; i++) {
		const VkMemoryHeap *heap = &two.memoryProperties.memoryHeaps[i];
		json_t *item;

		*agree = *agree && one.memoryHeaps[i].size == heap->size &&
			 khr.memoryProperties.memoryHeaps[i].size == heap->size;
		item = json_pack("{s:I, s:b}", "size", (json_int_t)heap->size, "device_local",
				 heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT ? 1 : 0);
		if (vk->extensions & VK_HAS_MEMORY_BUDGET) {
			json_object_set_new(item, "budget",
					    json_integer((json_int_t)budget.heapBudget[i]));
			json_object_set_new(item, "usage",
					    json_integer((json_int_t)budget.heapUsage[i]));
		}
		json_array_append_new(list, item);
	}
	return list;
}

static int fill(struct vk *vk, const struct load_options *options, struct filled *filled,
		struct error *e)
{
	const uint64_t chunk = options->chunk_mib * MIB, most = options->limit_mib * MIB;
	const VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.allocationSize = chunk,
		.memoryTypeIndex = (uint32_t)MAX(
			vk_memory_type(vk, UINT32_MAX, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT), 0),
	};

	filled->chunks = calloc(most / chunk + 1, sizeof(VkDeviceMemory));
	if (!filled->chunks)
		return error_set(e, ENOMEM, "memory", NULL, "no memory for the list");
	while (filled->bytes + chunk <= most) {
		filled->refused =
			vkAllocateMemory(vk->device, &info, NULL, &filled->chunks[filled->count]);
		if (filled->refused)
			break;
		filled->count++;
		filled->bytes += chunk;
	}
	return 0;
}

static void empty(struct vk *vk, struct filled *filled)
{
	for (uint64_t i = 0; i < filled->count; i++)
		vkFreeMemory(vk->device, filled->chunks[i], NULL);
	free(filled->chunks);
	*filled = (struct filled){ 0 };
}

/* What was given back can be had again, once. */
static bool refill(struct vk *vk, const struct load_options *options, struct filled *filled)
{
	const VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.allocationSize = options->chunk_mib * MIB,
		.memoryTypeIndex = (uint32_t)MAX(
			vk_memory_type(vk, UINT32_MAX, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT), 0),
	};

	if (!filled->count)
		return false;
	filled->count--;
	vkFreeMemory(vk->device, filled->chunks[filled->count], NULL);
	if (vkAllocateMemory(vk->device, &info, NULL, &filled->chunks[filled->count]))
		return false;
	filled->count++;
	return true;
}

static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
	stop = 1;
}

static void hold(double seconds)
{
	const struct sigaction action = { .sa_handler = on_signal };
	const struct timespec time = { .tv_sec = (time_t)seconds };

	sigaction(SIGTERM, &action, NULL);
	if (seconds > 0 && !stop)
		nanosleep(&time, NULL);
}

static int report(struct vk *vk, const struct load_options *options, struct error *e)
{
	bool agree_before, agree_after;
	struct filled filled = { 0 };
	json_t *before, *result;
	int err;

	before = heaps(vk, &agree_before);
	err = options->fill ? fill(vk, options, &filled, e) : 0;
	result = json_pack("{s:s, s:s, s:I, s:I, s:s, s:o, s:o}", "mode", "memory", "device",
			   vk->properties.deviceName, "granted_bytes", (json_int_t)filled.bytes,
			   "chunks", (json_int_t)filled.count, "refused",
			   vk_result_name(filled.refused), "heaps", before, "heaps_filled",
			   heaps(vk, &agree_after));
	json_object_set_new(result, "heaps_agree", json_boolean(agree_before && agree_after));
	if (options->fill)
		json_object_set_new(result, "refilled",
				    json_boolean(!err && refill(vk, options, &filled)));
	print_json(result);
	hold(options->hold_s);
	empty(vk, &filled);
	return err;
}

/* As a program that does not believe it: until it is refused, everything given back, and again. */
static int refill_for(struct vk *vk, const struct load_options *options, struct error *e)
{
	const uint64_t end = monotonic_ns() + (uint64_t)(options->seconds * 1e9);
	uint64_t rounds = 0, refused = 0, most = 0;
	const struct sigaction action = { .sa_handler = on_signal };
	struct filled filled = { 0 };

	sigaction(SIGTERM, &action, NULL);
	while (!stop && monotonic_ns() < end) {
		TRY(fill(vk, options, &filled, e));
		rounds++;
		refused += filled.refused == VK_ERROR_OUT_OF_DEVICE_MEMORY;
		most = MAX(most, filled.bytes);
		empty(vk, &filled);
	}
	print_json(json_pack("{s:s, s:I, s:I, s:I}", "mode", "memory", "rounds", (json_int_t)rounds,
			     "refused_rounds", (json_int_t)refused, "most_bytes",
			     (json_int_t)most));
	return 0;
}

int memory_run(const struct load_options *options, struct error *e)
{
	static struct vk vk;
	int err;

	TRY(vk_open(&vk, options->device, e));
	err = options->fill && options->seconds > 0 ? refill_for(&vk, options, e)
						    : report(&vk, options, e);
	vk_close(&vk);
	return err;
}
