/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of H100s and simple types, for the tests of placement. */
#ifndef TESTS_UNIT_PLACEMENT_WORLD_H
#define TESTS_UNIT_PLACEMENT_WORLD_H

#include <stdlib.h>
#include <string.h>

#include "instances/placement/private.h"

/* @gpus of them, two behind each switch, over @numa nodes. */
static struct node *make_node(unsigned gpus, unsigned numa)
{
	struct node *node = calloc(1, sizeof(*node));

	assert_non_null(node);
	node->cpu_count = 64;
	node->memory_mib = UINT64_C(512) * 1024;
	node->interrupt_remapping = true;
	node->numa_count = numa;
	for (unsigned i = 0; i < numa; i++) {
		node->numa[i] = (struct node_numa){ .id = i,
						    .cpu_count = 64 / numa,
						    .memory_mib = node->memory_mib / numa };
	}
	node->gpu_count = gpus;
	node->gpus = calloc(gpus + 1, sizeof(*node->gpus));
	assert_non_null(node->gpus);
	for (unsigned i = 0; i < gpus; i++) {
		struct node_gpu *gpu = &node->gpus[i];

		snprintf(gpu->id, sizeof(gpu->id), "pci-0000:%02x:00.0", i + 1);
		snprintf(gpu->name, sizeof(gpu->name), "NVIDIA Corporation GH100 [H100 SXM5 80GB]");
		gpu->address = (struct pci_address){ .bus = (uint8_t)(i + 1) };
		gpu->has_address = true;
		gpu->vendor = 0x10de;
		gpu->device = 0x2330;
		gpu->assignable = gpu->isolated = true;
		gpu->numa_node = numa ? (int)(i * numa / gpus) : -1;
		gpu->vram_mib = 81559;
		gpu->providers = NODE_WHOLE | NODE_VULKAN;
		/* Two behind each switch. */
		gpu->upstream_count = 2;
		gpu->upstream[0] = (struct pci_address){ .bus = (uint8_t)(0x80 + i) };
		gpu->upstream[1] = (struct pci_address){ .device = (uint8_t)(i / 2 + 1) };
	}
	return node;
}

/* One vGPU of that part. */
static struct instance_type shared_type(uint32_t ppm, enum sched_policy policy)
{
	struct instance_type type = { .name = "t", .vcpus = 2, .memory_mib = 1024, .gpu_count = 1 };

	type.gpus[0] = (struct type_gpu){
		.mode = TYPE_SHARED, .count = 1, .policy = policy, .partition_ppm = ppm
	};
	if (policy == SCHED_FIXED_SHARE || policy == SCHED_BURST)
		type.gpus[0].time_ppm = ppm;
	return type;
}

/* @count whole GPUs. */
static struct instance_type whole_type(unsigned count)
{
	struct instance_type type = { .name = "d", .vcpus = 2, .memory_mib = 1024, .gpu_count = 1 };

	type.gpus[0] = (struct type_gpu){ .mode = TYPE_DEDICATED, .count = count };
	return type;
}

/* @count whole GPUs or virtual functions, or a mediated device of the type "m-0" or, by its driver's name, "Profile 1". */
static inline struct instance_type device_type(enum type_provider provider, unsigned count)
{
	struct instance_type type = whole_type(provider == TYPE_MDEV ? 1 : count);

	type.gpus[0].provider = provider;
	if (provider == TYPE_MDEV)
		strcpy(type.gpus[0].mdev_type, count % 2 ? "m-0" : "profile 1");
	return type;
}

#endif
