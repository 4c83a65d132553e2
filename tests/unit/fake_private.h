/* SPDX-License-Identifier: Apache-2.0 */
/* What fake_vulkan.c and fake_queue.c share. */
#ifndef TESTS_UNIT_FAKE_PRIVATE_H
#define TESTS_UNIT_FAKE_PRIVATE_H

#include "tests/unit/fake_vulkan.h"

/* What drivers put where the loader's pointer goes, until the loader has put it there. */
#define FAKE_UNDRESSED ((const void *)(uintptr_t)0x01CDC0DE)

struct fake_physical {
	const void *dispatch; /* first, for the loader */
	const struct fake_gpu *gpu;
};

struct fake_instance {
	const void *dispatch;
	struct fake_physical physical[FAKE_GPUS_MAX];
};

struct fake_device;
struct fake_queue {
	const void *dispatch;
	struct fake_device *device;
	uint32_t family, index;
	struct fake_batch *pending[FAKE_BATCHES_MAX]; /* a ring */
	unsigned head, tail;
	_Atomic bool in_use;
	bool running; /* the head is being done */
	bool has_thread;
	pthread_t thread;
};

struct fake_device {
	const void *dispatch;
	const struct fake_gpu *gpu;
	bool stop;
	unsigned queue_count;
	struct fake_queue *queues;
};

/* One lock for everything, and one condition for every change. */
extern pthread_mutex_t fake_lock;
extern pthread_cond_t fake_changed;
extern bool fake_lost;
extern unsigned fake_object_count;

/* fake_complain() - the first is kept. With the lock. */
void fake_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* fake_enter() - a call of @function: counted. Returns what it is to return, or VK_SUCCESS. With the lock. */
VkResult fake_enter(const char *function);
/* fake_wait() - on fake_changed until @until_ns. With the lock. False: time is up. */
bool fake_wait(uint64_t until_ns);
/* fake_object() - zeroed memory for an object, counted; fake_object_free() undoes it. With the lock. */
void *fake_object(size_t size);
void fake_object_free(void *object);
/*
 * fake_queue.c: queues of a device that is made (with the lock) or destroyed (without), and of a new test; a device's
 * function by its name, or NULL.
 */
void fake_queues_create(struct fake_device *device, const VkDeviceCreateInfo *info);
void fake_queues_destroy(struct fake_device *device);
void fake_queues_reset(void);
PFN_vkVoidFunction fake_queue_function(const char *name);

/* VKAPI functions that return a VkResult begin with this. */
#define ENTER(name)                                       \
	do {                                              \
		VkResult failed__;                        \
                                                          \
		pthread_mutex_lock(&fake_lock);           \
		failed__ = fake_enter(name);              \
		if (failed__) {                           \
			pthread_mutex_unlock(&fake_lock); \
			return failed__;                  \
		}                                         \
	} while (0)
#define LEAVE(result)                             \
	do {                                      \
		VkResult result__ = (result);     \
                                                  \
		pthread_mutex_unlock(&fake_lock); \
		return result__;                  \
	} while (0)

#endif
