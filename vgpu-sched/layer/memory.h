/* SPDX-License-Identifier: Apache-2.0 */
/* The vGPU's quota of device memory. Private to vgpu-sched/layer/. */
#ifndef VGPU_SCHED_LAYER_MEMORY_H
#define VGPU_SCHED_LAYER_MEMORY_H

#include "vgpu-sched/layer/layer.h"

/* memory_create() - for a device; NULL: out of memory. memory_destroy() gives back what was never freed. */
struct memory *memory_create(struct layer_device *device);
void memory_destroy(struct memory *memory);

#endif
