/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Vulkan driver that is made up: what is beneath the layer in its unit tests. layer_world.h is what is above it: the program, the
 * loader, the arbiter.
 *
 * It has the GPUs that @fake describes, which a test changes before it makes an instance. What is submitted is recorded
 * (fake_batch()), and done when the test says so: by fake_run(), or by a thread for each queue (@automatic). Each queue does its
 * batches in order, and each only when what it waits for is signalled; queues run beside each other.
 *
 *	fake_reset();				one GPU, as fake_gpu_default() has it
 *	fake.gpus[0].families[0].timestamp_bits = 36;
 *	...make instance, device; submit...
 *	assert_int_equal(fake_batch_count(), 3);
 *	fake_run(1);				the first is done: fence, semaphores, timestamps
 *	assert_no_complaints();			fake_complaints() == "", or the words of the first
 *
 * Time on the GPU: a command buffer takes @fake_commands_take() nanoseconds (0 unless told). These are slept, and timestamps are
 * CLOCK_MONOTONIC divided by the GPU's period, plus @fake.ticks; or, with @manual_clock, timestamps are @fake.ticks, which the time taken
 * is added to at once. They are cut to the queue family's timestamp_bits.
 *
 * What a caller must not do makes a complaint, not a failure: a queue in two threads at once, objects destroyed in use, binary
 * semaphores waited for before their signal was submitted, timelines that run backwards, fences and queries used again without a
 * reset, command buffers pending twice, handles that lack the loader's pointer.
 *
 * Thread-safe, like a driver; fields of @fake are read under no lock, so a test writes them while nothing runs.
 */
#ifndef TESTS_UNIT_FAKE_VULKAN_H
#define TESTS_UNIT_FAKE_VULKAN_H

#include "vgpu-sched/layer/layer.h"

#define FAKE_GPUS_MAX	    4
#define FAKE_FAMILIES_MAX   4
#define FAKE_BATCHES_MAX    8192 /* of one test */
#define FAKE_SEMAPHORES_MAX 8	 /* of one batch, each way */
#define FAKE_COMMANDS_MAX   16	 /* of one batch */

struct fake_family {
	VkQueueFlags flags;
	uint32_t queues, timestamp_bits;
};

struct fake_gpu {
	const char *name;
	const VkPhysicalDevicePCIBusInfoPropertiesEXT *pci; /* NULL: not on PCI */
	uint32_t api_version;
	float timestamp_period; /* ns for a tick */
	bool timeline_semaphore, synchronization2, host_query_reset;
	const char *extensions[12]; /* up to the first NULL */
	VkPhysicalDeviceMemoryProperties memory;
	/* With VK_EXT_memory_budget; 0: the heap's size. Usage: of others, what is allocated here comes on top. */
	VkDeviceSize budget[VK_MAX_MEMORY_HEAPS], usage[VK_MAX_MEMORY_HEAPS];
	struct fake_family families[FAKE_FAMILIES_MAX];
	uint32_t family_count;
	VkQueueGlobalPriority priorities[4];
	uint32_t priority_count;
	VkTimeDomainKHR domains[4];
	uint32_t domain_count;
	uint32_t group; /* GPUs with the same number are one device group */
};

extern struct fake_vulkan {
	struct fake_gpu gpus[FAKE_GPUS_MAX];
	uint32_t gpu_count;
	bool automatic;	   /* set before the device is made: queues run by themselves */
	bool manual_clock; /* see above */
	uint64_t ticks;
	uint64_t monotonic_ns; /* what calibrated timestamps say; 0: the real time */
	/* Called with what reaches the driver, which is gone afterwards; NULL: not. */
	void (*on_create_instance)(const VkInstanceCreateInfo *info);
	void (*on_create_device)(const VkDeviceCreateInfo *info);
} fake;

/* fake_reset() - everything as at the start. No instance may exist. */
void fake_reset(void);
struct fake_gpu fake_gpu_default(void);

/* The driver's entry, as the loader hands it to a layer. */
PFN_vkVoidFunction VKAPI_CALL fake_GetInstanceProcAddr(VkInstance instance, const char *name);
PFN_vkVoidFunction VKAPI_CALL fake_GetDeviceProcAddr(VkDevice device, const char *name);

/* ---- failures ---------------------------------------------------------------------------------- */

/*
 * fake_fail() - the @nth call (1: the next) of @function ("vkAllocateMemory", the name that is not an alias) from now on
 * returns @result and does nothing else. VK_ERROR_DEVICE_LOST loses the device, too. One for each function.
 */
void fake_fail(const char *function, unsigned nth, VkResult result);
/* fake_calls() - how often @function was called. */
unsigned fake_calls(const char *function);
/* fake_lose() - the device is lost: whoever waits is told. */
void fake_lose(void);
/* fake_complaints() - the first, or "". fake_forgive() forgets it. */
const char *fake_complaints(void);
void fake_forgive(void);
#define assert_no_complaints() assert_string_equal(fake_complaints(), "")
/* fake_objects() - how many of all kinds exist: 0 when all was destroyed. */
unsigned fake_objects(void);
/* fake_allocated() - bytes of device memory of @heap, over all GPUs. */
uint64_t fake_allocated(uint32_t heap);

/* ---- queues ------------------------------------------------------------------------------------ */

enum fake_kind {
	FAKE_SUBMIT,
	FAKE_SPARSE,
	FAKE_PRESENT,
	FAKE_FENCE, /* a submit or sparse bind of no batches */
	FAKE_OTHER, /* labels and the like: @call says which */
};

/* One batch as it reached the driver. */
struct fake_batch {
	enum fake_kind kind;
	const char *call;
	uint32_t family, queue;
	VkSubmitFlags flags;
	VkStructureType chained; /* of the first structure in pNext, 0 for none */
	pthread_t thread;	 /* who submitted it */
	uint32_t wait_count, signal_count, command_count;
	VkSemaphoreSubmitInfo waits[FAKE_SEMAPHORES_MAX], signals[FAKE_SEMAPHORES_MAX];
	VkCommandBuffer commands[FAKE_COMMANDS_MAX];
	VkFence fence;				   /* on the last batch of its submit */
	uint64_t submitted_ns, begun_ns, ended_ns; /* CLOCK_MONOTONIC; 0: not yet */
};

/* fake_batch_count(), fake_batch() - in the order in which they reached the driver. A batch does not move, nor go before fake_reset(). */
unsigned fake_batch_count(void);
const struct fake_batch *fake_batch(unsigned index);
/* fake_wait_batches() - until there are @count; false after 10 s. */
bool fake_wait_batches(unsigned count);
/*
 * fake_run() - do up to @count batches, always the oldest that can be done. Not with @automatic.
 * Returns how many were.
 */
unsigned fake_run(unsigned count);
/* fake_commands_take() - how long @commands take on the GPU. */
void fake_commands_take(VkCommandBuffer commands, uint64_t ns);
/* fake_semaphore_value() - of a timeline, or 0 or 1; without a call that counts. */
uint64_t fake_semaphore_value(VkSemaphore semaphore);

#endif
