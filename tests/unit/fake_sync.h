/* SPDX-License-Identifier: Apache-2.0 */
/* Semaphores, fences, queries and command buffers of the driver that is made up, as its queues see them. With the lock. */
#ifndef TESTS_UNIT_FAKE_SYNC_H
#define TESTS_UNIT_FAKE_SYNC_H

#include "tests/unit/fake_private.h"

/* When a batch is submitted. */
void fake_semaphore_wait_submitted(const VkSemaphoreSubmitInfo *info);
void fake_semaphore_signal_submitted(const VkSemaphoreSubmitInfo *info);
void fake_fence_submitted(VkFence fence);
/* When it is done. */
bool fake_semaphore_is_signalled(const VkSemaphoreSubmitInfo *info);
void fake_semaphore_waited(const VkSemaphoreSubmitInfo *info);
void fake_semaphore_signal(const VkSemaphoreSubmitInfo *info);
void fake_fence_signal(VkFence fence);
/* @change: 1 when submitted, -1 when done */
void fake_commands_pending(VkCommandBuffer commands, int change);
uint64_t fake_commands_ns(VkCommandBuffer commands);
void fake_commands_run(VkCommandBuffer commands, const struct fake_gpu *gpu, uint32_t family);
PFN_vkVoidFunction fake_sync_function(const char *name);

#endif
