/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Vulkan device as the live tests use one: instance, device, up to two queues, and a bag of what was made on it.
 *
 * Plain Vulkan 1.3 through the loader, so the programs run with any layer and without one. What is put into the bag is destroyed
 * by vk_close() in reverse order; a test that fails just returns, and its process ends.
 */
#ifndef TESTS_LIVE_VK_H
#define TESTS_LIVE_VK_H

#include <vulkan/vulkan.h>

#include "base/base.h"

#define VK_QUEUES_MAX 2
#define VK_BAG_MAX    512
/* How long anything may take before the test fails, in ns: a neighbour may have the GPU meanwhile. */
#define VK_PATIENCE_NS (30 * NSEC_PER_SEC)

enum vk_extension {
	VK_HAS_SWAPCHAIN = 1 << 0,
	VK_HAS_MEMORY_FD = 1 << 1,
	VK_HAS_SEMAPHORE_FD = 1 << 2,
	VK_HAS_FENCE_FD = 1 << 3,
	VK_HAS_MEMORY_BUDGET = 1 << 4,
};

struct vk {
	VkInstance instance;
	VkPhysicalDevice physical;
	VkDevice device;
	uint32_t family;
	VkQueueFlags queue_flags;
	uint32_t timestamp_bits;
	unsigned queue_count;
	VkQueue queues[VK_QUEUES_MAX];
	unsigned extensions;  /* enum vk_extension, enabled */
	bool headless;	      /* VK_EXT_headless_surface is there */
	bool submit2;	      /* feature synchronization2 */
	bool sparse;	      /* feature sparseBinding, and the queue can */
	uint64_t patience_ns; /* of vk_wait(); 0: VK_PATIENCE_NS */
	VkPhysicalDeviceProperties properties;
	VkPhysicalDeviceMemoryProperties memory;
	struct vk_bag_item {
		void (*destroy)(struct vk *vk, uint64_t handle);
		uint64_t handle;
	} bag[VK_BAG_MAX];
	unsigned bag_count;
};

/*
 * vk_result() - 0 for VK_SUCCESS, otherwise -EIO with "@call: VK_ERROR_..." in *e.
 * vk_result_name() - the name of the results that tests meet, or "another VkResult".
 */
int vk_result(VkResult result, const char *call, struct error *e);
const char *vk_result_name(VkResult result);

/* TRY() - return from the function when a call that gives 0 or -errno fails; VK_TRY() for VkResult. */
#define TRY(call)                   \
	do {                        \
		int e__ = call;     \
		if (e__)            \
			return e__; \
	} while (0)
#define VK_TRY(call, e) TRY(vk_result(call, #call, e))
/* EXPECT() - a condition without which the test has failed. */
#define EXPECT(condition, e, ...)                                                \
	do {                                                                     \
		if (!(condition))                                                \
			return error_set(e, EPROTO, "wrong", NULL, __VA_ARGS__); \
	} while (0)

/*
 * vk_open() - instance and device with compute and graphics, and what of the extensions above is offered.
 * @name: part of the device's name, case as it is; NULL: the first device
 *
 * Returns 0 or -errno (-ENODEV: no such device, with those that are there in *e); then nothing is left open.
 */
int vk_open(struct vk *vk, const char *name, struct error *e);
/* vk_close() - waits until the device is idle, empties the bag, closes everything. NULL handles are fine. */
void vk_close(struct vk *vk);
/* vk_empty_bag() - destroy what was put into it since it had @count items, newest first. The device must be idle. */
void vk_empty_bag(struct vk *vk, unsigned count);
/* vk_keep() - put something into the bag. Returns 0 or -ENOSPC, after destroying it. */
int vk_keep(struct vk *vk, void (*destroy)(struct vk *vk, uint64_t handle), uint64_t handle,
	    struct error *e);

/* All of these put what they make into the bag. Return 0 or -errno. */
int vk_fence(struct vk *vk, VkFence *fence, struct error *e);
/* @pnext: for VkSemaphoreCreateInfo, NULL for none. */
int vk_binary(struct vk *vk, const void *pnext, VkSemaphore *semaphore, struct error *e);
int vk_timeline(struct vk *vk, uint64_t value, VkSemaphore *semaphore, struct error *e);
int vk_command_pool(struct vk *vk, VkCommandPool *pool, struct error *e);
int vk_command_buffer(struct vk *vk, VkCommandPool pool, VkCommandBuffer *buffer, struct error *e);
int vk_shader(struct vk *vk, const uint32_t *code, size_t size, VkShaderModule *module,
	      struct error *e);
/* A buffer with memory of its own, mapped at *map unless @map is NULL; coherent, cached where there is such memory. */
int vk_buffer(struct vk *vk, VkDeviceSize size, VkBufferUsageFlags usage, VkBuffer *buffer,
	      void **map, struct error *e);
/* vk_memory() - device memory of a type that @type_bits allows with @flags, into the bag. */
int vk_memory(struct vk *vk, VkDeviceSize size, uint32_t type_bits, VkMemoryPropertyFlags flags,
	      const void *pnext, VkDeviceMemory *memory, struct error *e);
/* vk_memory_type() - index of a type, or -1. */
int vk_memory_type(const struct vk *vk, uint32_t type_bits, VkMemoryPropertyFlags flags);

/* One batch, as vkQueueSubmit takes it or vkQueueSubmit2. Values are of timelines; 0 for binary semaphores. */
#define VK_BATCH_SEMAPHORES 4
struct vk_batch {
	unsigned waits, commands, signals;
	VkSemaphore wait[VK_BATCH_SEMAPHORES], signal[VK_BATCH_SEMAPHORES];
	uint64_t wait_value[VK_BATCH_SEMAPHORES], signal_value[VK_BATCH_SEMAPHORES];
	VkCommandBuffer command[VK_BATCH_SEMAPHORES];
};
#define VK_BATCHES_MAX 8

/*
 * vk_submit() - submit batches by vkQueueSubmit2 (@two) or vkQueueSubmit.
 *
 * Everything that the call reads is overwritten when it has returned, since it is the caller's again: a layer that submits later
 * must have its own copy. Returns 0 or -errno.
 */
int vk_submit(VkQueue queue, bool two, const struct vk_batch *batches, unsigned count,
	      VkFence fence, struct error *e);
/* vk_wait() - for a fence, VK_PATIENCE_NS at most. */
int vk_wait(struct vk *vk, VkFence fence, struct error *e);

#endif
