// SPDX-License-Identifier: Apache-2.0
/*
 * Reference model, for comparison only: Xen's credit scheduler (xen/common/sched_credit.c) with one
 * processor, whose "processor" is the engine: credits of 30 ms by weight each 30 ms to those that
 * were seen running, UNDER before OVER, BOOST for who wakes with credit, a time slice of 30 ms. Below
 * -30 ms debt is forgotten. Work here is not preemptible, so a boost waits for what runs. Credits are
 * kept as nanoseconds.
 */
#include "vgpu-sched/core/core.h"

#define TICK_NS	  10000000
#define SLICE_NS  30000000
#define ACCT_TICK 3

enum {
	BOOST,
	UNDER,
	OVER
};

static void xen_layout(const struct sched_gpu_config *config, struct engine *engine,
		       struct arena *arena)
{
	engine->xen.holder = NOBODY;
}

static void xen_join(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
		     const struct sched_account *account)
{
	engine->seats[vgpu].xen.priority = UNDER;
}

static void accounting(struct sched_gpu *gpu, struct engine *engine)
{
	struct xen_engine *state = &engine->xen;
	const int64_t owed_ns = state->balance_ns < 0 ? -state->balance_ns : 0;
	int64_t weights = 0;

	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++)
		if (engine->seats[i].xen.active)
			weights += gpu->clients[i].config.weight;
	state->balance_ns = 0;
	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++) {
		struct xen_seat *seat = &engine->seats[i].xen;

		if (!seat->active)
			continue;
		seat->credit_ns += (SLICE_NS + owed_ns) * gpu->clients[i].config.weight / weights;
		seat->priority = seat->credit_ns < 0 ? OVER : UNDER;
		if (seat->credit_ns < -SLICE_NS)
			seat->credit_ns = -SLICE_NS;
		if (seat->credit_ns > SLICE_NS) {
			seat->active = false;
			seat->credit_ns /= 2;
		}
		state->balance_ns += seat->credit_ns;
	}
}

static void catch_up(struct sched_gpu *gpu, struct engine *engine)
{
	struct xen_engine *state = &engine->xen;

	if (!state->began) {
		state->began = true;
		state->next_tick_ns = gpu->now_ns + TICK_NS;
	}
	/* After a hundred accountings without anybody running nothing changes any more. */
	if (gpu->now_ns > state->next_tick_ns + 4 * NSEC_PER_SEC)
		state->next_tick_ns +=
			((gpu->now_ns - state->next_tick_ns) / (NSEC_PER_SEC * 3) - 1) *
			(NSEC_PER_SEC * 3);
	for (; state->next_tick_ns <= gpu->now_ns; state->next_tick_ns += TICK_NS) {
		if (state->running && state->holder != NOBODY) {
			struct xen_seat *seat = &engine->seats[state->holder].xen;

			if (seat->priority == BOOST)
				seat->priority = UNDER;
			seat->active = true;
		}
		if (++state->ticks % ACCT_TICK == 0)
			accounting(gpu, engine);
	}
}

static void xen_update(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	struct xen_seat *seat = &engine->seats[vgpu].xen;
	const bool wants = seat_wants(engine, vgpu);

	catch_up(gpu, engine);
	if (wants && !seat->queued) {
		if (!engine->seats[vgpu].in_flight && seat->priority == UNDER)
			seat->priority = BOOST;
		seat->order = ++engine->xen.order;
	}
	seat->queued = wants;
}

static void xen_leave(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	if (engine->xen.holder == vgpu)
		engine->xen.holder = NOBODY;
	engine->seats[vgpu].xen.active = false;
}

static bool comes_before(const struct xen_seat *a, const struct xen_seat *b)
{
	return a->priority != b->priority ? a->priority < b->priority : a->order < b->order;
}

static uint32_t xen_pick(struct sched_gpu *gpu, struct engine *engine, uint64_t *next_ns,
			 uint64_t *slice_ns)
{
	struct xen_engine *state = &engine->xen;
	uint32_t best = NOBODY;

	catch_up(gpu, engine);
	/* Who had its slice goes behind its equals. */
	if (state->holder != NOBODY && gpu->now_ns - state->since_ns >= SLICE_NS) {
		engine->seats[state->holder].xen.order = ++state->order;
		state->holder = NOBODY;
	}
	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++)
		if (seat_wants(engine, i) &&
		    (best == NOBODY ||
		     comes_before(&engine->seats[i].xen, &engine->seats[best].xen)))
			best = i;
	if (best == NOBODY)
		return NOBODY;
	if (state->holder != NOBODY && seat_wants(engine, state->holder) &&
	    engine->seats[state->holder].xen.priority <= engine->seats[best].xen.priority)
		best = state->holder;
	if (best != state->holder) {
		/* Preempted by priority: back into the queue behind its equals. */
		if (state->holder != NOBODY)
			engine->seats[state->holder].xen.order = ++state->order;
		state->holder = best;
		state->since_ns = gpu->now_ns;
	}
	*slice_ns = SLICE_NS - (gpu->now_ns - state->since_ns);
	return best;
}

static void xen_granted(struct sched_gpu *gpu, struct engine *engine, struct grant *grant)
{
	engine->xen.running++;
	engine->seats[grant->vgpu].xen.queued = seat_wants(engine, grant->vgpu);
}

static void xen_charge(struct sched_gpu *gpu, struct engine *engine, struct grant *grant,
		       const struct sched_charge *charge)
{
	catch_up(gpu, engine);
	engine->xen.running--;
	engine->seats[grant->vgpu].xen.credit_ns -= (int64_t)charge->used_ns;
}

const struct model reference_xen_credit = {
	.name = "reference-xen-credit",
	.layout = xen_layout,
	.join = xen_join,
	.leave = xen_leave,
	.update = xen_update,
	.pick = xen_pick,
	.granted = xen_granted,
	.charge = xen_charge,
};
