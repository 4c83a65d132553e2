// SPDX-License-Identifier: Apache-2.0
/* What somebody asks for otherwise than the type has it: a copy of the type is changed, and is the instance's. */
#include "instances/types/types.h"

void type_displays_set(struct instance_type *type, const json_t *displays)
{
	json_t *one;
	size_t i;

	type->display_count = 0;
	json_array_foreach((json_t *)(uintptr_t)displays, i, one)
	{
		struct type_display *display = &type->displays[type->display_count];

		if (i == TYPE_DISPLAYS_MAX)
			break;
		display->width = (unsigned)json_integer_value(json_object_get(one, "width"));
		display->height = (unsigned)json_integer_value(json_object_get(one, "height"));
		type->display_count++;
	}
}

bool type_weight_set(struct instance_type *type, uint32_t weight)
{
	bool any = false;

	for (unsigned i = 0; i < type->gpu_count; i++) {
		struct type_gpu *gpu = &type->gpus[i];

		if (gpu->mode == TYPE_SHARED &&
		    (gpu->policy == SCHED_WEIGHTED || gpu->policy == SCHED_BURST)) {
			gpu->weight = weight;
			any = true;
		}
	}
	return any;
}
