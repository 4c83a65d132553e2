// SPDX-License-Identifier: Apache-2.0
/* The vGPU's quota of device memory, and what programs are told of it (vgpu-sched/layer/memory.c, physical.c). */
#include "tests/unit/layer_world.h"

#define QUOTA (64 * MIB)
#define LOCAL 0 /* memory types of the GPU that is made up */
#define HOST  1

static struct world w;

static int open_world(void **state)
{
	world_open(&w, QUOTA);
	return 0;
}

static int close_world(void **state)
{
	world_close(&w);
	return 0;
}

static void begin(void)
{
	assert_int_equal(world_instance(&w), VK_SUCCESS);
	assert_int_equal(world_device(&w), VK_SUCCESS);
}

static VkResult allocate_with(uint32_t type, uint64_t size, const void *chain, VkDeviceMemory *out)
{
	const VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
					    .pNext = chain,
					    .allocationSize = size,
					    .memoryTypeIndex = type };

	return w.d.AllocateMemory(w.device, &info, NULL, out);
}

static VkResult allocate(uint32_t type, uint64_t size, VkDeviceMemory *out)
{
	return allocate_with(type, size, NULL, out);
}

static void release(VkDeviceMemory memory)
{
	w.d.FreeMemory(w.device, memory, NULL);
}

static VkPhysicalDeviceMemoryBudgetPropertiesEXT budget(VkPhysicalDeviceMemoryProperties *heaps)
{
	VkPhysicalDeviceMemoryBudgetPropertiesEXT b = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT
	};
	VkPhysicalDeviceMemoryProperties2 all = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &b
	};

	w.i.GetPhysicalDeviceMemoryProperties2(w.physical, &all);
	if (heaps)
		*heaps = all.memoryProperties;
	return b;
}

static uint64_t left(uint32_t heap)
{
	const VkPhysicalDeviceMemoryBudgetPropertiesEXT b = budget(NULL);

	return b.heapBudget[heap] - b.heapUsage[heap];
}

/* ---- the quota ----------------------------------------------------------------------------------- */

static void the_quota_holds_to_the_page(void **state)
{
	VkDeviceMemory a, b, c;

	begin();
	assert_int_equal(allocate(LOCAL, QUOTA + 1, &a), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(allocate(LOCAL, UINT64_MAX, &a), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(fake_calls("vkAllocateMemory"), 0);
	assert_int_equal(allocate(LOCAL, QUOTA, &a), VK_SUCCESS);
	assert_int_equal(allocate(LOCAL, 1, &b), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(left(0), 0);
	release(a);
	assert_int_equal(left(0), QUOTA);
	assert_int_equal(allocate(LOCAL, QUOTA - 4096, &a), VK_SUCCESS);
	/* Every type of that heap counts. */
	assert_int_equal(allocate(2, 4097, &b), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(allocate(2, 1, &b), VK_SUCCESS);
	assert_int_equal(allocate(LOCAL, 1, &c), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	release(b);
	release(a);
	release(VK_NULL_HANDLE);
	assert_int_equal(fake_allocated(0), 0);
}

static void host_memory_is_not_counted(void **state)
{
	VkDeviceMemory host, local;

	begin();
	assert_int_equal(allocate(HOST, 4 * QUOTA, &host), VK_SUCCESS);
	assert_int_equal(allocate(LOCAL, QUOTA, &local), VK_SUCCESS);
	release(host);
	release(local);
	assert_int_equal(left(0), QUOTA);
}

static void an_import_is_not_counted_but_only_a_real_one(void **state)
{
	VkImportMemoryFdInfoKHR fd = { .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
				       .handleType =
					       VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT };
	VkImportMemoryHostPointerInfoEXT host = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT
	};
	const VkMemoryDedicatedAllocateInfo dedicated = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO, .pNext = &fd
	};
	VkDeviceMemory memory[3];

	begin();
	assert_int_equal(allocate(LOCAL, QUOTA, &memory[0]), VK_SUCCESS);
	assert_int_equal(allocate_with(LOCAL, QUOTA, &dedicated, &memory[1]), VK_SUCCESS);
	assert_int_equal(allocate_with(LOCAL, QUOTA, &host, &memory[2]), VK_SUCCESS);
	release(memory[2]);
	release(memory[1]);
	assert_int_equal(left(0), 0);
	/* Vulkan ignores a structure whose handleType is 0, and so would be a quota that believed it. */
	fd.handleType = 0;
	host.handleType = 0;
	assert_int_equal(allocate_with(LOCAL, 4096, &dedicated, &memory[1]),
			 VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(allocate_with(LOCAL, 4096, &host, &memory[1]),
			 VK_ERROR_OUT_OF_DEVICE_MEMORY);
	release(memory[0]);
	assert_int_equal(left(0), QUOTA);
}

static void what_the_driver_refuses_is_given_back(void **state)
{
	VkDeviceMemory memory;

	begin();
	fake_fail("vkAllocateMemory", 1, VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(allocate(LOCAL, QUOTA, &memory), VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(left(0), QUOTA);
	assert_int_equal(allocate(LOCAL, QUOTA, &memory), VK_SUCCESS);
	release(memory);
}

static void what_was_never_freed_goes_with_the_device(void **state)
{
	VkDeviceMemory memory[3];

	begin();
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(allocate(LOCAL, QUOTA / 4, &memory[i]), VK_SUCCESS);
	/* The driver's part is this test's. */
	for (unsigned i = 0; i < 3; i++)
		((PFN_vkFreeMemory)fake_GetDeviceProcAddr(w.device, "vkFreeMemory"))(
			w.device, memory[i], NULL);
	assert_int_equal(left(0), QUOTA / 4);
	world_device_close(&w);
	assert_int_equal(left(0), QUOTA);
}

#define THREADS 8
#define ROUNDS	200
static void *allocate_and_free(void *opaque)
{
	unsigned *refused = opaque;
	VkDeviceMemory memory[4];

	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned count = 0;

		while (count < 4 && !allocate(LOCAL, QUOTA / 16, &memory[count]))
			count++;
		*refused += count < 4;
		/* Never more than there is, whoever asks. */
		if (fake_allocated(0) > QUOTA)
			abort();
		while (count)
			release(memory[--count]);
	}
	return NULL;
}

static void threads_share_the_quota_and_lose_nothing_of_it(void **state)
{
	pthread_t threads[THREADS];
	unsigned refused[THREADS] = { 0 };

	begin();
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, allocate_and_free, &refused[i]),
				 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(left(0), QUOTA);
	assert_int_equal(fake_allocated(0), 0);
}

static void a_process_that_is_killed_gives_its_memory_back(void **state)
{
	VkDeviceMemory memory;
	uint64_t until;
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	/* The child makes everything of its own; of the parent's only the environment is used. */
	pid = fork();
	if (!pid) {
		if (world_instance(&w) || world_device(&w) || allocate(LOCAL, QUOTA / 2, &memory) ||
		    write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	assert_true(pid > 0);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	begin();
	/* Of the vGPU, so of all its processes. */
	assert_int_equal(left(0), QUOTA / 2);
	assert_int_equal(allocate(LOCAL, QUOTA, &memory), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	until = monotonic_ns() + 5 * NSEC_PER_SEC;
	while (left(0) != QUOTA && monotonic_ns() < until)
		work_for(5 * MS);
	assert_int_equal(allocate(LOCAL, QUOTA, &memory), VK_SUCCESS);
	release(memory);
}

static void without_an_arbiter_there_is_no_memory(void **state)
{
	const int fds = w.arbiter.fds_before;
	VkDeviceMemory memory, host;
	uint32_t count = 0;

	begin();
	assert_int_equal(allocate(LOCAL, 4096, &memory), VK_SUCCESS);
	/* What is open here is counted when the world closes. */
	eventfd_write(w.arbiter.stop, 1);
	pthread_join(w.arbiter.thread, NULL);
	assert_int_equal(allocate(LOCAL, 4096, &host), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(allocate(HOST, 4096, &host), VK_SUCCESS);
	assert_int_equal(w.i.EnumeratePhysicalDevices(w.instance, &count, NULL),
			 VK_ERROR_INITIALIZATION_FAILED);
	release(memory);
	release(host);
	world_device_close(&w);
	assert_int_equal(world_device(&w), VK_ERROR_INITIALIZATION_FAILED);
	assert_int_equal(pthread_create(&w.arbiter.thread, NULL, arbiter_main, &w.arbiter), 0);
	w.arbiter.fds_before = fds;
}

/* ---- what is told of it ---------------------------------------------------------------------------- */

static void heaps_are_as_large_as_the_quota_in_every_query(void **state)
{
	VkPhysicalDeviceMemoryProperties one, two;

	begin();
	w.i.GetPhysicalDeviceMemoryProperties(w.physical, &one);
	budget(&two);
	assert_memory_equal(&one, &two, sizeof(one));
	assert_int_equal(one.memoryHeapCount, 2);
	assert_int_equal(one.memoryHeaps[0].size, QUOTA);
	assert_int_equal(one.memoryHeaps[1].size, 16 * GIB);
	/* By the older name that a loader may ask for, too. */
	assert_ptr_equal(w.get_instance_proc(w.instance, "vkGetPhysicalDeviceMemoryProperties2KHR"),
			 (PFN_vkVoidFunction)layer_GetPhysicalDeviceMemoryProperties2);
}

static void a_quota_above_the_heap_shows_the_heap(void **state)
{
	VkPhysicalDeviceMemoryProperties heaps;

	fake.gpus[0].memory.memoryHeaps[0].size = QUOTA / 2;
	begin();
	w.i.GetPhysicalDeviceMemoryProperties(w.physical, &heaps);
	assert_int_equal(heaps.memoryHeaps[0].size, QUOTA / 2);
	assert_int_equal(left(0), QUOTA / 2);
}

static void the_budget_stands_and_usage_tells_what_is_left(void **state)
{
	VkPhysicalDeviceMemoryBudgetPropertiesEXT b;
	VkDeviceMemory memory;

	begin();
	b = budget(NULL);
	assert_int_equal(b.heapBudget[0], QUOTA);
	assert_int_equal(b.heapUsage[0], 0);
	assert_int_equal(b.heapBudget[1], 16 * GIB);
	assert_int_equal(allocate(LOCAL, QUOTA / 4, &memory), VK_SUCCESS);
	b = budget(NULL);
	assert_int_equal(b.heapBudget[0], QUOTA);
	assert_int_equal(b.heapUsage[0], QUOTA / 4);
	release(memory);
	/* The GPU itself is nearly full: that is less than what is left of the quota. */
	fake.gpus[0].usage[0] = 8 * GIB - MIB;
	b = budget(NULL);
	assert_int_equal(b.heapBudget[0], QUOTA);
	assert_int_equal(b.heapBudget[0] - b.heapUsage[0], MIB);
	/* Over-full, and a driver that has next to nothing for this process. */
	fake.gpus[0].usage[0] = 9 * GIB;
	assert_int_equal(left(0), 0);
	fake.gpus[0].budget[0] = 1;
	b = budget(NULL);
	assert_int_equal(b.heapBudget[0], 1);
	assert_int_equal(b.heapUsage[0], 1);
}

static void a_driver_without_budgets_has_none_here_either(void **state)
{
	fake.gpus[0].extensions[1] = VK_KHR_SWAPCHAIN_EXTENSION_NAME;
	begin();
	assert_int_equal(budget(NULL).heapBudget[0], 0);
}

static void several_local_heaps_have_one_quota(void **state)
{
	VkPhysicalDeviceMemoryProperties *memory = &fake.gpus[0].memory;
	VkDeviceMemory a, b;

	memory->memoryHeapCount = 3;
	memory->memoryHeaps[2] = (VkMemoryHeap){ 16 * MIB, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT };
	memory->memoryTypes[2].heapIndex = 2;
	begin();
	assert_int_equal(left(0), QUOTA);
	assert_int_equal(left(2), 16 * MIB);
	assert_int_equal(allocate(LOCAL, QUOTA - 4 * MIB, &a), VK_SUCCESS);
	assert_int_equal(left(0), 4 * MIB);
	assert_int_equal(left(2), 4 * MIB);
	assert_int_equal(allocate(2, 8 * MIB, &b), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	assert_int_equal(allocate(2, 4 * MIB, &b), VK_SUCCESS);
	release(a);
	release(b);
}

/* As integrated GPUs have it, and the CPU as one. */
static void one_heap_for_everything_counts_everything(void **state)
{
	VkPhysicalDeviceMemoryProperties *memory = &fake.gpus[0].memory;
	VkDeviceMemory a, b;

	memory->memoryHeapCount = memory->memoryTypeCount = 1;
	memory->memoryTypes[0] = memory->memoryTypes[2];
	begin();
	assert_int_equal(left(0), QUOTA);
	assert_int_equal(allocate(0, QUOTA, &a), VK_SUCCESS);
	assert_int_equal(allocate(0, 1, &b), VK_ERROR_OUT_OF_DEVICE_MEMORY);
	release(a);
}

static void no_quota_changes_nothing(void **state)
{
	VkPhysicalDeviceMemoryProperties heaps;
	struct error e = { 0 };
	struct tenant tenant;
	VkDeviceMemory memory;

	assert_int_equal(
		try_create(&w.arbiter,
			   &(struct live_message){ .policy = SCHED_WEIGHTED, .weight = 100 },
			   &tenant, &e),
		0);
	world_be(&w, &tenant);
	begin();
	budget(&heaps);
	assert_memory_equal(&heaps, &fake.gpus[0].memory, sizeof(heaps));
	assert_int_equal(left(0), 8 * GIB);
	assert_int_equal(allocate(LOCAL, 8 * GIB, &memory), VK_SUCCESS);
	assert_int_equal(left(0), 0);
	release(memory);
	close(tenant.owner);
}

int main(void)
{
#define WORLD(t) cmocka_unit_test_setup_teardown(t, open_world, close_world)
	const struct CMUnitTest tests[] = {
		WORLD(the_quota_holds_to_the_page),
		WORLD(host_memory_is_not_counted),
		WORLD(an_import_is_not_counted_but_only_a_real_one),
		WORLD(what_the_driver_refuses_is_given_back),
		WORLD(what_was_never_freed_goes_with_the_device),
		WORLD(threads_share_the_quota_and_lose_nothing_of_it),
		WORLD(a_process_that_is_killed_gives_its_memory_back),
		WORLD(without_an_arbiter_there_is_no_memory),
		WORLD(heaps_are_as_large_as_the_quota_in_every_query),
		WORLD(a_quota_above_the_heap_shows_the_heap),
		WORLD(the_budget_stands_and_usage_tells_what_is_left),
		WORLD(a_driver_without_budgets_has_none_here_either),
		WORLD(several_local_heaps_have_one_quota),
		WORLD(one_heap_for_everything_counts_everything),
		WORLD(no_quota_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
