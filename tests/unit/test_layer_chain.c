// SPDX-License-Identifier: Apache-2.0
/*
 * What a program asks of a device, with what the layer needs besides (vgpu-sched/layer/chain.c). What the program gives lies in memory
 * that cannot be written to.
 */
#include <sys/mman.h>

#include "tests/unit/layer_world.h"
#include "vgpu-sched/layer/chain.h"

#define ROOM	4096
#define UNKNOWN ((VkStructureType)0x7ffffff0)

static struct world w;
static struct layer_instance *instance;
static char *room; /* of what the program gives */
static size_t used;

/* The test is linked with --wrap=calloc. */
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
static unsigned fail_at; /* 1: the next call */

void *__wrap_calloc(size_t count, size_t size)
{
	if (fail_at && !--fail_at)
		return NULL;
	return __real_calloc(count, size);
}

static int open_world(void **state)
{
	world_open(&w, 0);
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	instance = layer_instance_of(w.physical);
	assert_non_null(instance);
	room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(room != MAP_FAILED);
	used = 0;
	return 0;
}

static int close_world(void **state)
{
	munmap(room, ROOM);
	world_close(&w);
	return 0;
}

/* A copy of @data in the program's memory. */
static void *put(const void *data, size_t size)
{
	void *at = room + used;

	assert_true(used + size <= ROOM);
	memcpy(at, data, size);
	used += ALIGN_UP(size, 16);
	return at;
}

static bool is_programs(const void *at)
{
	return (const char *)at >= room && (const char *)at < room + ROOM;
}

/* @structure goes in front of the chain at @head. */
static const void *chain_put(const void *head, const void *structure, size_t size)
{
	VkBaseInStructure *at = put(structure, size);

	at->pNext = head;
	return at;
}
#define PUT(head, ...) ((head) = chain_put(head, &(__VA_ARGS__), sizeof(__VA_ARGS__)))

static VkResult build_info(const VkDeviceCreateInfo *info, struct device_chain *chain)
{
	VkResult result;

	assert_int_equal(mprotect(room, ROOM, PROT_READ), 0);
	result = device_chain_build(instance, w.physical, info, chain);
	assert_int_equal(mprotect(room, ROOM, PROT_READ | PROT_WRITE), 0);
	return result;
}

static VkResult build(const void *head, struct device_chain *chain)
{
	return build_info(&(VkDeviceCreateInfo){ .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
						 .pNext = head },
			  chain);
}

static const void *find(const void *head, VkStructureType type)
{
	const void *found = NULL;

	for (const VkBaseInStructure *at = head; at; at = at->pNext)
		if (at->sType == type) {
			/* None may be in a chain twice. */
			assert_null(found);
			found = at;
		}
	return found;
}

/* ---- features -------------------------------------------------------------------------------------- */

enum single_state {
	ABSENT,
	OFF,
	ON,
	STATES
};

static const void *single_put(const void *head, VkStructureType type, enum single_state state)
{
	return state == ABSENT
		       ? head
		       : PUT(head, (VkPhysicalDeviceTimelineSemaphoreFeatures){
					   .sType = type, .timelineSemaphore = state == ON });
}

/* On, in one structure and no other; in the one where the program has it. */
static void expect_feature(const void *head, const void *given, VkStructureType wide_type,
			   const VkBool32 *in_wide, VkStructureType single_type)
{
	const VkPhysicalDeviceTimelineSemaphoreFeatures *single = find(head, single_type);

	assert_true((in_wide != NULL) != (single != NULL));
	assert_int_equal(find(given, wide_type) != NULL, in_wide != NULL);
	assert_true(in_wide ? *in_wide : single->timelineSemaphore);
}

static void expect_features(const void *head, const void *given)
{
	const VkPhysicalDeviceVulkan12Features *of_12 =
		find(head, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES);
	const VkPhysicalDeviceVulkan13Features *of_13 =
		find(head, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES);

	expect_feature(head, given, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
		       of_12 ? &of_12->timelineSemaphore : NULL,
		       VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES);
	expect_feature(head, given, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
		       of_12 ? &of_12->hostQueryReset : NULL,
		       VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_HOST_QUERY_RESET_FEATURES);
	expect_feature(head, given, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
		       of_13 ? &of_13->synchronization2 : NULL,
		       VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES);
	/* What the program has in them stays. */
	assert_true(!of_12 || (of_12->bufferDeviceAddress && !of_12->drawIndirectCount));
	assert_true(!of_13 || (of_13->dynamicRendering && !of_13->maintenance4));
}

/*
 * Timeline semaphores (and resets) are absent, off, on, in a structure of their own or in one for 1.2; so is synchronization2 in one
 * for 1.3: 13 * 5 chains, each the other way round, too.
 */
static const void *combination(unsigned of_12, unsigned of_13, bool backwards)
{
	const VkPhysicalDeviceFeatures2 all = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .features.logicOp = VK_TRUE
	};
	const void *head = NULL;

	used = 0;
	PUT(head, all);
	for (unsigned i = 0; i < 2; i++) {
		if ((i == 0) == backwards && of_12 < 9) {
			head = single_put(
				head, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
				of_12 % STATES);
			head = single_put(
				head, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_HOST_QUERY_RESET_FEATURES,
				of_12 / STATES);
		} else if ((i == 0) == backwards) {
			PUT(head,
			    (VkPhysicalDeviceVulkan12Features){
				    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
				    .bufferDeviceAddress = VK_TRUE,
				    .timelineSemaphore = (of_12 - 9) & 1,
				    .hostQueryReset = (of_12 - 9) >> 1 });
		} else if (of_13 < STATES) {
			head = single_put(
				head, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES,
				of_13);
		} else {
			PUT(head,
			    (VkPhysicalDeviceVulkan13Features){
				    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
				    .dynamicRendering = VK_TRUE,
				    .synchronization2 = of_13 == STATES });
		}
	}
	/* In front, and so copied with what follows. */
	return PUT(head, (VkPhysicalDevice16BitStorageFeatures){
				 .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
				 .storageBuffer16BitAccess = VK_TRUE });
}

static void features_are_set_where_the_program_has_them(void **state)
{
	unsigned untouched = 0;

	for (unsigned i = 0; i < 13 * 5 * 2; i++) {
		const void *head = combination(i / 2 % 13, i / 26, i & 1);
		const VkPhysicalDevice16BitStorageFeatures *other;
		struct device_chain chain;

		assert_int_equal(build(head, &chain), VK_SUCCESS);
		expect_features(chain.info.pNext, head);
		other = find(chain.info.pNext,
			     VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
		assert_true(other && other->storageBuffer16BitAccess);
		assert_true(chain.host_query_reset);
		/* The chain's end is the program's own, if nothing behind it changes. */
		assert_true(is_programs(
			find(chain.info.pNext, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2)));
		untouched += chain.info.pNext == head;
		device_chain_free(&chain);
		assert_null(chain.memory);
	}
	/* All on already: in 2 ways for 1.2, in 2 for 1.3, each in 2 orders. */
	assert_int_equal(untouched, 2 * 2 * 2);
}

static void nothing_given_is_all_added(void **state)
{
	const VkPhysicalDeviceFeatures plain = { .logicOp = VK_TRUE };
	const VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
					  .flags = 0,
					  .pEnabledFeatures = &plain };
	struct device_chain chain;

	assert_int_equal(build_info(&info, &chain), VK_SUCCESS);
	expect_features(chain.info.pNext, NULL);
	assert_ptr_equal(chain.info.pEnabledFeatures, &plain);
	device_chain_free(&chain);
}

static void the_loaders_structures_are_copied_with_the_rest(void **state)
{
	VkLayerDeviceLink link = { 0 };
	const VkLayerDeviceCreateInfo *loader;
	const void *head = NULL;
	struct device_chain chain;

	PUT(head, (VkPhysicalDeviceVulkan13Features){
			  .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
			  .dynamicRendering = VK_TRUE });
	PUT(head, (VkLayerDeviceCreateInfo){ .sType = VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO,
					     .function = VK_LAYER_LINK_INFO,
					     .u.pLayerInfo = &link });
	assert_int_equal(build(head, &chain), VK_SUCCESS);
	expect_features(chain.info.pNext, head);
	loader = find(chain.info.pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
	assert_ptr_equal(loader->u.pLayerInfo, &link);
	assert_int_equal(loader->function, VK_LAYER_LINK_INFO);
	assert_false(is_programs(loader));
	device_chain_free(&chain);
}

static void what_is_unknown_is_in_the_way_only_before_what_changes(void **state)
{
	const struct {
		VkStructureType sType;
		const void *next;
		uint64_t secret[40];
	} unknown = { .sType = UNKNOWN, .secret = { 42 } };
	const VkPhysicalDeviceVulkan13Features off = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
		.dynamicRendering = VK_TRUE,
	};
	struct device_chain chain;
	const void *head = NULL;

	PUT(head, off);
	PUT(head, unknown);
	assert_int_equal(build(head, &chain), VK_ERROR_FEATURE_NOT_PRESENT);
	assert_null(chain.memory);
	/* Behind it: gone by, at its own place. */
	head = NULL;
	PUT(head, unknown);
	PUT(head, off);
	assert_int_equal(build(head, &chain), VK_SUCCESS);
	expect_features(chain.info.pNext, head);
	assert_true(is_programs(find(chain.info.pNext, UNKNOWN)));
	device_chain_free(&chain);
	/* Nothing changes: what is added comes before everything. */
	head = NULL;
	PUT(head, unknown);
	assert_int_equal(build(head, &chain), VK_SUCCESS);
	assert_true(is_programs(find(chain.info.pNext, UNKNOWN)));
	device_chain_free(&chain);
}

static void a_device_that_cannot_take_turns_is_refused(void **state)
{
	struct fake_gpu *gpu = &fake.gpus[0];
	struct device_chain chain;

	gpu->api_version = VK_MAKE_API_VERSION(0, 1, 2, 300);
	assert_int_equal(build(NULL, &chain), VK_ERROR_FEATURE_NOT_PRESENT);
	gpu->api_version = VK_API_VERSION_1_3;
	gpu->timeline_semaphore = false;
	assert_int_equal(build(NULL, &chain), VK_ERROR_FEATURE_NOT_PRESENT);
	gpu->timeline_semaphore = true;
	gpu->synchronization2 = false;
	assert_int_equal(build(NULL, &chain), VK_ERROR_FEATURE_NOT_PRESENT);
	assert_int_equal(world_device(&w), VK_ERROR_FEATURE_NOT_PRESENT);
	assert_int_equal(fake_calls("vkCreateDevice"), 0);
}

static void resets_from_the_host_are_asked_for_only_where_they_are(void **state)
{
	const void *head = NULL;
	struct device_chain chain;

	fake.gpus[0].host_query_reset = false;
	PUT(head, (VkPhysicalDeviceVulkan12Features){
			  .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES });
	assert_int_equal(build(head, &chain), VK_SUCCESS);
	assert_false(chain.host_query_reset);
	assert_false(
		((const VkPhysicalDeviceVulkan12Features *)find(
			 chain.info.pNext, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES))
			->hostQueryReset);
	device_chain_free(&chain);
	assert_int_equal(build(NULL, &chain), VK_SUCCESS);
	assert_null(find(chain.info.pNext,
			 VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_HOST_QUERY_RESET_FEATURES));
	device_chain_free(&chain);
}

/* ---- calibrated timestamps --------------------------------------------------------------------------- */

static const char KHR[] = VK_KHR_CALIBRATED_TIMESTAMPS_EXTENSION_NAME;
static const char EXT[] = VK_EXT_CALIBRATED_TIMESTAMPS_EXTENSION_NAME;

static void clocks_are_compared_where_the_device_can(void **state)
{
	static const struct {
		const char *has[2], *wants, *added;
		uint32_t domains; /* of DEVICE, MONOTONIC */
		bool calibrated;
	} cases[] = {
		{ { KHR, EXT }, NULL, KHR, 2, true }, { { EXT }, NULL, EXT, 2, true },
		{ { KHR }, KHR, NULL, 2, true },      { { KHR, EXT }, EXT, NULL, 2, true },
		{ { KHR }, NULL, NULL, 1, false },    { { KHR }, KHR, NULL, 1, false },
		{ { NULL }, NULL, NULL, 2, false },
	};
	static const char other[] = VK_KHR_SWAPCHAIN_EXTENSION_NAME;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *wanted[] = { other, cases[i].wants };
		const uint32_t count = cases[i].wants ? 2 : 1;
		const VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
						  .enabledExtensionCount = count,
						  .ppEnabledExtensionNames = wanted };
		struct device_chain chain;

		fake.gpus[0].extensions[0] = other;
		fake.gpus[0].extensions[1] = cases[i].has[0];
		fake.gpus[0].extensions[2] = cases[i].has[1];
		fake.gpus[0].extensions[3] = NULL;
		fake.gpus[0].domain_count = cases[i].domains;
		assert_int_equal(build_info(&info, &chain), VK_SUCCESS);
		assert_int_equal(chain.calibrated, cases[i].calibrated);
		assert_int_equal(chain.info.enabledExtensionCount,
				 count + (cases[i].added != NULL));
		assert_string_equal(chain.info.ppEnabledExtensionNames[0], other);
		if (cases[i].added)
			assert_string_equal(chain.info.ppEnabledExtensionNames[count],
					    cases[i].added);
		else
			assert_ptr_equal(chain.info.ppEnabledExtensionNames, wanted);
		device_chain_free(&chain);
	}
}

/* ---- priorities ---------------------------------------------------------------------------------------- */

static VkResult build_queues(const void *const *heads, uint32_t count, struct device_chain *chain)
{
	static const float priority = 1;
	VkDeviceQueueCreateInfo queues[4] = { 0 };

	for (uint32_t i = 0; i < count; i++)
		queues[i] = (VkDeviceQueueCreateInfo){
			.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
			.pNext = heads[i],
			.queueFamilyIndex = i,
			.queueCount = 1,
			.pQueuePriorities = &priority
		};
	return build_info(&(VkDeviceCreateInfo){ .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
						 .queueCreateInfoCount = count,
						 .pQueueCreateInfos =
							 put(queues, count * sizeof(queues[0])) },
			  chain);
}

static void no_priority_is_above_medium(void **state)
{
	static const VkQueueGlobalPriority asked[] = { VK_QUEUE_GLOBAL_PRIORITY_LOW,
						       VK_QUEUE_GLOBAL_PRIORITY_REALTIME,
						       VK_QUEUE_GLOBAL_PRIORITY_MEDIUM,
						       VK_QUEUE_GLOBAL_PRIORITY_HIGH };
	const void *heads[4] = { 0 };
	struct device_chain chain;

	for (unsigned i = 0; i < 4; i++) {
		PUT(heads[i],
		    (VkDeviceQueueGlobalPriorityCreateInfo){
			    .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO,
			    .globalPriority = asked[i] });
		PUT(heads[i],
		    (VkDeviceQueueShaderCoreControlCreateInfoARM){
			    .sType =
				    VK_STRUCTURE_TYPE_DEVICE_QUEUE_SHADER_CORE_CONTROL_CREATE_INFO_ARM,
			    .shaderCoreCount = i });
	}
	assert_int_equal(build_queues(heads, 4, &chain), VK_SUCCESS);
	for (unsigned i = 0; i < 4; i++) {
		const void *head = chain.info.pQueueCreateInfos[i].pNext;
		const VkDeviceQueueGlobalPriorityCreateInfo *priority =
			find(head, VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO);
		const VkDeviceQueueShaderCoreControlCreateInfoARM *cores = find(
			head, VK_STRUCTURE_TYPE_DEVICE_QUEUE_SHADER_CORE_CONTROL_CREATE_INFO_ARM);

		assert_int_equal(priority->globalPriority,
				 MIN(asked[i], VK_QUEUE_GLOBAL_PRIORITY_MEDIUM));
		assert_int_equal(is_programs(priority),
				 asked[i] <= VK_QUEUE_GLOBAL_PRIORITY_MEDIUM);
		assert_int_equal(cores->shaderCoreCount, i);
		assert_int_equal(chain.info.pQueueCreateInfos[i].queueFamilyIndex, i);
	}
	device_chain_free(&chain);
	/* Nothing is above it: nothing is copied. */
	heads[1] = heads[2];
	assert_int_equal(build_queues(heads, 3, &chain), VK_SUCCESS);
	assert_true(is_programs(chain.info.pQueueCreateInfos));
	device_chain_free(&chain);
}

static void a_priority_behind_what_is_unknown_is_refused(void **state)
{
	const VkDeviceQueueGlobalPriorityCreateInfo high = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO,
		.globalPriority = VK_QUEUE_GLOBAL_PRIORITY_HIGH,
	};
	struct device_chain chain;
	const void *head = NULL;

	PUT(head, high);
	PUT(head, (VkBaseInStructure){ .sType = UNKNOWN });
	assert_int_equal(build_queues(&head, 1, &chain), VK_ERROR_NOT_PERMITTED);
	assert_null(chain.memory);
}

static void without_memory_nothing_is_left(void **state)
{
	const void *head = NULL;
	struct device_chain chain;
	VkResult result = VK_ERROR_OUT_OF_HOST_MEMORY;
	unsigned failures = 0;

	PUT(head, (VkDeviceQueueGlobalPriorityCreateInfo){
			  .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO,
			  .globalPriority = VK_QUEUE_GLOBAL_PRIORITY_HIGH });
	while (result) {
		used = ALIGN_UP(sizeof(VkDeviceQueueGlobalPriorityCreateInfo), 16);
		fail_at = failures + 1;
		result = build_queues(&head, 1, &chain);
		if (!result)
			break;
		assert_int_equal(result, VK_ERROR_OUT_OF_HOST_MEMORY);
		assert_null(chain.memory);
		failures++;
	}
	fail_at = 0;
	/* Three features, two lists of extensions, queues, a priority. */
	assert_int_equal(failures, 7);
	device_chain_free(&chain);
}

/* ---- the whole way --------------------------------------------------------------------------------------- */

static bool seen;

static void on_create_device(const VkDeviceCreateInfo *info)
{
	expect_features(info->pNext, NULL);
	assert_int_equal(info->enabledExtensionCount, 1);
	seen = true;
}

static void what_reaches_the_driver_is_what_was_built(void **state)
{
	seen = false;
	fake.on_create_device = on_create_device;
	assert_int_equal(world_device(&w), VK_SUCCESS);
	assert_true(seen);
	fake.on_create_device = NULL;
	world_device_close(&w);
	/* A device that the driver refuses leaves nothing. */
	fake_fail("vkCreateDevice", 1, VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(world_device(&w), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(world_device(&w), VK_SUCCESS);
}

int main(void)
{
#define WORLD(t) cmocka_unit_test_setup_teardown(t, open_world, close_world)
	const struct CMUnitTest tests[] = {
		WORLD(features_are_set_where_the_program_has_them),
		WORLD(nothing_given_is_all_added),
		WORLD(the_loaders_structures_are_copied_with_the_rest),
		WORLD(what_is_unknown_is_in_the_way_only_before_what_changes),
		WORLD(a_device_that_cannot_take_turns_is_refused),
		WORLD(resets_from_the_host_are_asked_for_only_where_they_are),
		WORLD(clocks_are_compared_where_the_device_can),
		WORLD(no_priority_is_above_medium),
		WORLD(a_priority_behind_what_is_unknown_is_refused),
		WORLD(without_memory_nothing_is_left),
		WORLD(what_reaches_the_driver_is_what_was_built),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
