// SPDX-License-Identifier: Apache-2.0
/*
 * Reference model, for comparison only: Intel GVT-g (Linux drivers/gpu/drm/i915/gvt/sched_policy.c).
 * A tick each millisecond chooses, out of the vGPUs with work and time left, the one that was chosen
 * longest ago; the switch waits until what runs has ended. Each 100 ms every vGPU gets its weight's
 * part of 100 ms; each tenth time what was left or owed is forgotten. Time counts while scheduled,
 * whether used or not. The original schedules all engines at once, this one each alone.
 */
#include "vgpu-sched/core/core.h"

#define TICK_NS	      1000000u
#define BALANCE_TICKS 100u
#define STAGES	      10u
#define BALANCE_NS    ((int64_t)TICK_NS * BALANCE_TICKS)

static void no_layout(const struct sched_gpu_config *config, struct engine *engine,
		      struct arena *arena)
{
	engine->gvtg.current = engine->gvtg.chosen = NOBODY;
}

static void balance(struct sched_gpu *gpu, struct engine *engine, bool forget)
{
	int64_t weights = 0;

	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++)
		if (gpu->clients[i].presence == PLACE_TAKEN)
			weights += gpu->clients[i].config.weight;
	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++) {
		struct gvtg_seat *seat = &engine->seats[i].gvtg;

		if (gpu->clients[i].presence != PLACE_TAKEN)
			continue;
		if (forget) {
			seat->allocated_ns = BALANCE_NS * gpu->clients[i].config.weight / weights;
			seat->left_ns = 0;
		}
		seat->left_ns += seat->allocated_ns;
	}
}

static void switch_over(struct gvtg_engine *state, struct engine *engine, uint64_t now_ns)
{
	if (state->running)
		return;
	if (state->current != NOBODY)
		engine->seats[state->current].gvtg.left_ns -=
			(int64_t)(now_ns - state->scheduled_in_ns);
	state->scheduled_in_ns = now_ns;
	state->current = state->chosen;
	state->switching = false;
}

static void tick(struct sched_gpu *gpu, struct engine *engine, uint64_t now_ns)
{
	struct gvtg_engine *state = &engine->gvtg;
	uint32_t best = NOBODY;

	if (!(state->ticks % BALANCE_TICKS))
		balance(gpu, engine, !(state->ticks / BALANCE_TICKS % STAGES));
	state->ticks++;
	if (!state->switching) {
		for (uint32_t i = 0; i < gpu->config.vgpus_max; i++) {
			const struct gvtg_seat *seat = &engine->seats[i].gvtg;

			if (seat->busy && seat->left_ns > 0 &&
			    (best == NOBODY ||
			     seat->last_turn < engine->seats[best].gvtg.last_turn))
				best = i;
		}
		if (best != NOBODY)
			engine->seats[best].gvtg.last_turn = ++state->turns;
		state->chosen = best;
		state->switching = true;
	}
	switch_over(state, engine, now_ns);
}

/* All ticks until now. */
static void catch_up(struct sched_gpu *gpu, struct engine *engine)
{
	const uint64_t second_ns = (uint64_t)TICK_NS * BALANCE_TICKS * STAGES;
	struct gvtg_engine *state = &engine->gvtg;

	if (!state->began) {
		state->began = true;
		state->next_tick_ns = gpu->now_ns;
	}
	/* After each whole second all is as after the first: of a long silence the rest is skipped. */
	if (gpu->now_ns > state->next_tick_ns + 3 * second_ns) {
		const uint64_t skipped_ns =
			((gpu->now_ns - state->next_tick_ns) / second_ns - 2) * second_ns;

		state->next_tick_ns += skipped_ns;
		state->ticks += skipped_ns / TICK_NS;
	}
	while (state->next_tick_ns <= gpu->now_ns) {
		tick(gpu, engine, state->next_tick_ns);
		state->next_tick_ns += TICK_NS;
	}
}

static void gvtg_update(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	/* Ticks before now saw the state before. */
	catch_up(gpu, engine);
	engine->seats[vgpu].gvtg.busy = seat_wants(engine, vgpu) || engine->seats[vgpu].in_flight;
}

static void gvtg_leave(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	struct gvtg_engine *state = &engine->gvtg;

	if (state->current == vgpu)
		state->current = NOBODY;
	if (state->chosen == vgpu)
		state->chosen = NOBODY;
	engine->seats[vgpu].gvtg.busy = false;
}

static uint32_t gvtg_pick(struct sched_gpu *gpu, struct engine *engine, uint64_t *next_ns,
			  uint64_t *slice_ns)
{
	struct gvtg_engine *state = &engine->gvtg;

	catch_up(gpu, engine);
	if (state->switching)
		switch_over(state, engine, gpu->now_ns);
	*next_ns = state->next_tick_ns;
	*slice_ns = TICK_NS;
	if (state->switching || state->current == NOBODY || !seat_wants(engine, state->current))
		return NOBODY;
	return state->current;
}

static void gvtg_granted(struct sched_gpu *gpu, struct engine *engine, struct grant *grant)
{
	engine->gvtg.running++;
}

static void gvtg_charge(struct sched_gpu *gpu, struct engine *engine, struct grant *grant,
			const struct sched_charge *charge)
{
	catch_up(gpu, engine);
	engine->gvtg.running--;
	if (engine->gvtg.switching)
		switch_over(&engine->gvtg, engine, gpu->now_ns);
	gvtg_update(gpu, engine, grant->vgpu);
}

const struct model reference_gvtg = {
	.name = "reference-gvtg",
	.layout = no_layout,
	.leave = gvtg_leave,
	.update = gvtg_update,
	.pick = gvtg_pick,
	.granted = gvtg_granted,
	.charge = gvtg_charge,
};
