// SPDX-License-Identifier: Apache-2.0
/*
 * Reference model, for comparison only: NVIDIA vGPU's time slicing, as far as it is public. Best
 * effort goes round the vGPUs that have work. Equal share goes round the vGPUs that are there, fixed
 * share round a fixed number of slots; a turn whose owner has nothing to do, or that has no owner, passes
 * unused (our reading of "strict round robin"; nothing public says otherwise). With the adaptive
 * correction a turn is shorter by accrued overshoot / averaging factor, which that turn pays off
 * (nvrm_registry.h of open-gpu-kernel-modules: RmPVMRL, "ARR").
 */
#include "vgpu-sched/core/core.h"

/* Whose turns pass even when nobody uses them. */
static bool is_in_round(const struct sched_gpu *gpu, const struct engine *engine, uint32_t vgpu)
{
	switch (gpu->config.model) {
	case SCHED_MODEL_REFERENCE_NVIDIA_FIXED:
		return vgpu < gpu->config.slots;
	case SCHED_MODEL_REFERENCE_NVIDIA_EQUAL:
		return gpu->clients[vgpu].presence == PLACE_TAKEN;
	default:
		return seat_wants(engine, vgpu);
	}
}

static bool is_strict(const struct sched_gpu *gpu)
{
	return gpu->config.model != SCHED_MODEL_REFERENCE_NVIDIA_BEST_EFFORT;
}

/* The next one's turn, from @begin_ns. Returns whether there is a next one. */
static bool pass_on(struct sched_gpu *gpu, struct engine *engine, uint64_t begin_ns)
{
	struct nvidia_engine *state = &engine->nvidia;
	uint64_t slice_ns = gpu->config.slice_ns;
	uint32_t next = state->holder;

	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++) {
		next = (next + 1) % gpu->config.vgpus_max;
		if (is_in_round(gpu, engine, next))
			break;
	}
	if (!is_in_round(gpu, engine, next))
		return false;
	if (is_strict(gpu)) {
		uint64_t *overshoot = &engine->seats[next].nvidia.overshoot_ns;
		const uint64_t correction =
			MIN(*overshoot / gpu->config.averaging_factor, slice_ns);

		*overshoot -= correction;
		slice_ns -= correction;
	}
	state->holder = next;
	state->turn_ends_ns = begin_ns + slice_ns;
	return true;
}

static uint32_t nvidia_pick(struct sched_gpu *gpu, struct engine *engine, uint64_t *next_ns,
			    uint64_t *slice_ns)
{
	struct nvidia_engine *state = &engine->nvidia;
	const uint64_t now_ns = gpu->now_ns;

	if (!state->began) {
		state->began = true;
		state->holder = gpu->config.vgpus_max - 1;
		state->turn_ends_ns = now_ns;
	}
	if (!state->running) {
		/* Rounds that nobody used and nobody looked at: whole seconds of them are skipped. */
		if (now_ns > state->turn_ends_ns)
			state->turn_ends_ns +=
				(now_ns - state->turn_ends_ns) / NSEC_PER_SEC * NSEC_PER_SEC;
		if (is_strict(gpu)) {
			while (state->turn_ends_ns <= now_ns)
				if (!pass_on(gpu, engine, state->turn_ends_ns))
					return NOBODY;
		} else if (state->turn_ends_ns <= now_ns || !seat_wants(engine, state->holder)) {
			if (!pass_on(gpu, engine, now_ns))
				return NOBODY;
		}
	}
	if (now_ns >= state->turn_ends_ns)
		return NOBODY; /* until what runs has ended */
	*slice_ns = state->turn_ends_ns - now_ns;
	if (seat_wants(engine, state->holder))
		return state->holder;
	*next_ns = state->turn_ends_ns;
	return NOBODY;
}

static void nvidia_granted(struct sched_gpu *gpu, struct engine *engine, struct grant *grant)
{
	engine->nvidia.running++;
}

static void nvidia_charge(struct sched_gpu *gpu, struct engine *engine, struct grant *grant,
			  const struct sched_charge *charge)
{
	struct nvidia_engine *state = &engine->nvidia;

	if (--state->running || gpu->now_ns <= state->turn_ends_ns)
		return;
	engine->seats[state->holder].nvidia.overshoot_ns += gpu->now_ns - state->turn_ends_ns;
	state->turn_ends_ns = gpu->now_ns;
}

#define NVIDIA(which)                              \
	{                                          \
		.name = "reference-nvidia-" which, \
		.layout = no_layout,               \
		.pick = nvidia_pick,               \
		.granted = nvidia_granted,         \
		.charge = nvidia_charge,           \
	}

static void no_layout(const struct sched_gpu_config *config, struct engine *engine,
		      struct arena *arena)
{
}

const struct model reference_nvidia_best_effort = NVIDIA("best-effort");
const struct model reference_nvidia_equal = NVIDIA("equal");
const struct model reference_nvidia_fixed = NVIDIA("fixed");
