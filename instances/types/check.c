// SPDX-License-Identifier: Apache-2.0
/* What single keys cannot say: what belongs together in a type, and what no GPU could keep. */
#include <inttypes.h>
#include <string.h>

#include "instances/types/private.h"

void type_check_gpu(struct type_reader *r, const struct type_gpu *gpu)
{
	if (gpu->mode != TYPE_SHARED) {
		if (gpu->provider == TYPE_MDEV && !gpu->mdev_type[0])
			type_complain(r, "", "type-mdev", "mdev_type: nvidia-558",
				      "a mediated device of which type? (mdev_type)");
		if (gpu->provider == TYPE_MDEV && gpu->count > 1)
			type_complain(r, "count", "type-count", "write an entry for each",
				      "%u: a mediated device is made of one GPU", gpu->count);
		return;
	}
	if (gpu->count > 1)
		type_complain(r, "count", "type-count", "write an entry for each",
			      "%u: a vGPU is a part of one GPU", gpu->count);
	if (gpu->policy == SCHED_FIXED_SHARE && !gpu->time_ppm)
		type_complain(r, "", "type-share", "partition: 0.25",
			      "fixed_share needs a part of the GPU (partition)");
	if (gpu->policy == SCHED_BURST && !gpu->time_ppm)
		type_complain(r, "", "type-baseline", "credits: {baseline: 0.1}",
			      "burst needs a baseline at which it earns credits");
	if (!gpu->vram_mib && !gpu->partition_ppm)
		type_complain(
			r, "", "type-memory", "partition: 0.25, or vram_mib: 4096",
			"how much of the GPU's memory is it to have? (vram_mib, or partition)");
	if (gpu->time_ppm + gpu->elastic_ppm > SCHED_PPM)
		type_complain(r, "elastic", "type-share", NULL,
			      "with the partition it is more than one whole GPU");
	if (gpu->credit_initial_ns > gpu->credit_max_ns)
		type_complain(r, "credits.initial", "type-credits", NULL,
			      "more credits than are ever saved up (max)");
}

/* Entries of one selector may find one GPU only: together they must fit it. */
static void check_sums(struct type_reader *r, const struct instance_type *type)
{
	for (unsigned i = 0; i < type->gpu_count; i++) {
		uint64_t time = 0, memory = 0;
		bool first = true;

		for (unsigned j = 0; j < type->gpu_count; j++) {
			if (type->gpus[j].mode != TYPE_SHARED ||
			    strcmp(type->gpus[i].selector, type->gpus[j].selector) != 0)
				continue;
			first = first && j >= i;
			time += type->gpus[j].time_ppm;
			memory += type->gpus[j].vram_mib ? 0 : type->gpus[j].partition_ppm;
		}
		if (!first || type->gpus[i].mode != TYPE_SHARED)
			continue;
		if (time > SCHED_PPM)
			type_complain(r, "", "type-sum", NULL,
				      "its shares and baselines add up to %" PRIu64 ".%06" PRIu64
				      ", over one whole GPU",
				      time / SCHED_PPM, time % SCHED_PPM);
		else if (memory > SCHED_PPM)
			type_complain(r, "", "type-sum", NULL,
				      "its partitions add up to %" PRIu64 ".%06" PRIu64
				      " of a GPU's memory",
				      memory / SCHED_PPM, memory % SCHED_PPM);
	}
}

void type_check(struct type_reader *r, const struct instance_type *type)
{
	const size_t top = type_reader_enter(r, "gpus", 0);
	unsigned gpus = 0, shared = 0;

	for (unsigned i = 0; i < type->gpu_count; i++) {
		shared += type->gpus[i].mode == TYPE_SHARED;
		gpus += type->gpus[i].count;
	}
	if (gpus > TYPE_GPU_COUNT_MAX)
		type_complain(r, "", "type-count", NULL, "%u GPUs in all; there can be %d", gpus,
			      TYPE_GPU_COUNT_MAX);
	check_sums(r, type);
	type_reader_leave(r, top);
	if (!type->gpu_count && !r->failed)
		type_complain(r, "gpus", "type-key", NULL, "a type without any GPU");
	if (type->display_count && !shared)
		type_complain(r, "displays", "type-key", NULL,
			      "are the heads of a vGPU; a whole GPU brings its own");
	if (type->huge_page && type->memory_mib % (type->huge_page / MIB))
		type_complain(r, "memory_mib", "type-value", NULL,
			      "%" PRIu64 " MiB are no whole number of pages of %" PRIu64 " MiB",
			      type->memory_mib, type->huge_page / MIB);
}
