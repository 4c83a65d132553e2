/* SPDX-License-Identifier: Apache-2.0 */
/* Which physical device a vGPU has, and what is said of it. Private to vgpu-sched/layer/. */
#ifndef VGPU_SCHED_LAYER_PHYSICAL_H
#define VGPU_SCHED_LAYER_PHYSICAL_H

#include "vgpu-sched/layer/layer.h"

/*
 * physical_check() - whether a device may be made as @info asks: on the vGPU's GPU, and in a group with no other.
 * @worker: the new device's; the arbiter has just said which GPU it is
 *
 * Returns VK_SUCCESS, or VK_ERROR_INITIALIZATION_FAILED with a line on stderr, or VK_ERROR_OUT_OF_HOST_MEMORY. Any thread.
 */
VkResult physical_check(struct layer_instance *instance, const struct live_worker *worker,
			VkPhysicalDevice physical, const VkDeviceCreateInfo *info);

#endif
