/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program asks of a device, with what the layer needs besides. Private to vgpu-sched/layer/.
 *
 * The program's structures are never written to: they may lie in read-only memory.
 */
#ifndef VGPU_SCHED_LAYER_CHAIN_H
#define VGPU_SCHED_LAYER_CHAIN_H

#include "vgpu-sched/layer/layer.h"

struct device_chain {
	VkDeviceCreateInfo info; /* for what is beneath */
	bool host_query_reset;	 /* enabled; without it nothing is measured by timestamps */
	bool calibrated;	 /* VK_KHR_ or VK_EXT_calibrated_timestamps is enabled */
	void *memory;		 /* what @info points to and the program does not own */
};

/*
 * device_chain_build() - @info as the program gave it, and besides: timelineSemaphore and synchronization2 (a device without
 * them is refused), hostQueryReset and calibrated timestamps where the device has them, no global priority above MEDIUM.
 * @info: outlives @chain, which points into it
 *
 * Returns VK_SUCCESS; or VK_ERROR_FEATURE_NOT_PRESENT, VK_ERROR_NOT_PERMITTED (VkDeviceQueueGlobalPriorityCreateInfo),
 * VK_ERROR_OUT_OF_HOST_MEMORY, with a line on stderr.
 */
VkResult device_chain_build(struct layer_instance *instance, VkPhysicalDevice physical,
			    const VkDeviceCreateInfo *info, struct device_chain *chain);
void device_chain_free(struct device_chain *chain);

#endif
