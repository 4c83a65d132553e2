// SPDX-License-Identifier: Apache-2.0
/* What an instance has by its type, as its processes are told. */
#include <stdio.h>
#include <string.h>

#include "instances/launch/launch.h"
#include "instances/types/types.h"

_Static_assert(LAUNCH_HEADS_MAX >= TYPE_DISPLAYS_MAX, "all of a type's heads");

void launch_take_share(struct launch_gpu *gpu, const struct type_gpu *type)
{
	snprintf(gpu->policy, sizeof(gpu->policy), "%s", sched_policy_name(type->policy));
	gpu->share_ppm = type->time_ppm;
	gpu->elastic_ppm = type->elastic_ppm;
	gpu->weight = type->weight;
	gpu->credit_max_ns = type->credit_max_ns;
	gpu->surplus_max_ns = type->surplus_max_ns;
	gpu->credit_ns = type->credit_initial_ns;
}

static void take_heads(struct launch_instance *instance, const struct instance_type *type)
{
	struct launch_gpu *first = NULL;

	for (unsigned i = 0; i < instance->gpu_count && !first; i++)
		if (!instance->gpus[i].dedicated)
			first = &instance->gpus[i];
	for (unsigned i = 0; first && i < type->display_count; i++) {
		first->heads[i].width = type->displays[i].width;
		first->heads[i].height = type->displays[i].height;
		first->head_count = i + 1;
	}
}

void launch_take_type(struct launch_instance *instance, const struct instance_type *type)
{
	instance->vcpus = type->vcpus;
	instance->memory_bytes = type->memory_mib * MIB;
	if (type->huge_page)
		strcpy(instance->huge_pages, type->huge_page == GIB ? "1G" : "2M");
	take_heads(instance, type);
	instance->disk_count = type->disk_count;
	for (unsigned i = 0; i < type->disk_count; i++)
		instance->disk_bytes[i] = type->disks[i].size_mib * MIB;
	instance->nic_count = type->nic_count;
	for (unsigned i = 0; i < type->nic_count; i++)
		if (type->nics[i] == TYPE_NIC_USER)
			strcpy(instance->nics[i], "user");
		else
			snprintf(instance->nics[i], sizeof(instance->nics[i]), "tap=%.10s-t%u",
				 instance->name, i);
}
