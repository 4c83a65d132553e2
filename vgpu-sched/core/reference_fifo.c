// SPDX-License-Identifier: Apache-2.0
/*
 * Reference model, for comparison only: no scheduler. Submissions run in the order in which they
 * came, whoever sent them. What is withdrawn are a vGPU's oldest. With more than RUNS_EACH
 * changes of sender for each vGPU in the queue, further submissions join their sender's last ones.
 */
#include "vgpu-sched/core/core.h"

#define RUNS_EACH 64

static void fifo_layout(const struct sched_gpu_config *config, struct engine *engine,
			struct arena *arena)
{
	const uint32_t count = config->vgpus_max * RUNS_EACH;
	struct fifo_engine *fifo = &engine->fifo;

	fifo->runs = arena_take(arena, count, sizeof(struct fifo_run));
	fifo->oldest = fifo->newest = fifo->unused = NOBODY;
	fifo->unused_count = count;
	fifo->without = config->vgpus_max;
	for (uint32_t i = 0; i < count && fifo->runs; i++) {
		fifo->runs[i].next = fifo->unused;
		fifo->unused = i;
	}
}

static void append(struct engine *engine, uint32_t vgpu, uint64_t count)
{
	struct fifo_engine *fifo = &engine->fifo;
	struct fifo_seat *seat = &engine->seats[vgpu].fifo;
	uint32_t i = fifo->unused;

	/* One run is kept for each that has none. */
	if (seat->runs && fifo->unused_count == fifo->without) {
		uint32_t last = NOBODY;

		for (i = fifo->oldest; i != NOBODY; i = fifo->runs[i].next)
			if (fifo->runs[i].vgpu == vgpu)
				last = i;
		fifo->runs[last].count += count;
		return;
	}
	if (!seat->runs++)
		fifo->without--;
	fifo->unused_count--;
	fifo->unused = fifo->runs[i].next;
	fifo->runs[i] = (struct fifo_run){ .count = count, .vgpu = vgpu, .next = NOBODY };
	if (fifo->newest != NOBODY)
		fifo->runs[fifo->newest].next = i;
	else
		fifo->oldest = i;
	fifo->newest = i;
}

/* Takes @run, which comes after @before (NOBODY: the oldest), out of the queue. */
static void drop(struct engine *engine, uint32_t before, uint32_t run)
{
	struct fifo_engine *fifo = &engine->fifo;
	const uint32_t next = fifo->runs[run].next;

	if (!--engine->seats[fifo->runs[run].vgpu].fifo.runs)
		fifo->without++;
	if (before == NOBODY)
		fifo->oldest = next;
	else
		fifo->runs[before].next = next;
	if (fifo->newest == run)
		fifo->newest = before;
	fifo->runs[run].next = fifo->unused;
	fifo->unused = run;
	fifo->unused_count++;
}

static void fifo_leave(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	struct fifo_engine *fifo = &engine->fifo;
	uint32_t before = NOBODY, next;

	for (uint32_t i = fifo->oldest; i != NOBODY; i = next) {
		next = fifo->runs[i].next;
		if (fifo->runs[i].vgpu == vgpu)
			drop(engine, before, i);
		else
			before = i;
	}
	engine->seats[vgpu].fifo.withdrawn = 0;
}

static void fifo_arrived(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
			 uint64_t count, bool withdrawn)
{
	struct fifo_engine *fifo = &engine->fifo;

	if (withdrawn)
		engine->seats[vgpu].fifo.withdrawn += count;
	else if (fifo->newest != NOBODY && fifo->runs[fifo->newest].vgpu == vgpu)
		fifo->runs[fifo->newest].count += count;
	else
		append(engine, vgpu, count);
}

static uint32_t fifo_pick(struct sched_gpu *gpu, struct engine *engine, uint64_t *next_ns,
			  uint64_t *slice_ns)
{
	struct fifo_engine *fifo = &engine->fifo;

	while (fifo->oldest != NOBODY) {
		struct fifo_run *run = &fifo->runs[fifo->oldest];
		uint64_t *withdrawn = &engine->seats[run->vgpu].fifo.withdrawn;
		const uint64_t dropped = MIN(*withdrawn, run->count);

		*withdrawn -= dropped;
		run->count -= dropped;
		if (run->count)
			/* What follows one that is stuck waits for it: so do real queues. */
			return seat_wants(engine, run->vgpu) ? run->vgpu : NOBODY;
		drop(engine, NOBODY, fifo->oldest);
	}
	return NOBODY;
}

static void fifo_granted(struct sched_gpu *gpu, struct engine *engine, struct grant *grant)
{
	engine->fifo.runs[engine->fifo.oldest].count--;
}

const struct model reference_fifo = {
	.name = "reference-fifo",
	.layout = fifo_layout,
	.leave = fifo_leave,
	.arrived = fifo_arrived,
	.pick = fifo_pick,
	.granted = fifo_granted,
};
