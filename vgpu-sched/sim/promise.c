// SPDX-License-Identifier: Apache-2.0
/*
 * What each vGPU was promised of the graphics engine while all of its GPU are busy: guaranteed shares first, the rest by
 * weight, and to best effort nothing. A burst vGPU is counted with its baseline; what its credits bring comes on top.
 */
#include "vgpu-sched/sim/run_private.h"

void run_promises(struct run *run)
{
	double guaranteed[SIM_GPUS_MAX] = { 0 }, weights[SIM_GPUS_MAX] = { 0 };

	for (unsigned v = 0; v < run->result->vgpu_count; v++) {
		const struct run_vgpu *vgpu = &run->vgpus[v];

		guaranteed[vgpu->spec->gpu] += (double)vgpu->config.share_ppm / SCHED_PPM;
		if (sim_by_weight(vgpu->config.policy))
			weights[vgpu->spec->gpu] += vgpu->config.weight;
	}
	for (unsigned v = 0; v < run->result->vgpu_count; v++) {
		const struct run_vgpu *vgpu = &run->vgpus[v];
		const unsigned g = vgpu->spec->gpu;

		run->result->vgpus[v].share_promised =
			sim_by_weight(vgpu->config.policy)
				? MAX(1 - guaranteed[g], 0) * vgpu->config.weight / weights[g]
				: (double)vgpu->config.share_ppm / SCHED_PPM;
	}
}
