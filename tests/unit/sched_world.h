/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_world: a GPU for tests of the scheduler, in virtual time. One engine runs what was granted,
 * in order and one at a time (or all at once: `parallel`), vGPUs submit jobs as their load says, and
 * everything that happened is kept, so that a property can be checked over every interval after.
 *
 * A job may wait (`stall_ns`) before it runs: it holds its grant meanwhile, as one does that waits
 * for a semaphore. Others pass it.
 */
#ifndef TESTS_UNIT_SCHED_WORLD_H
#define TESTS_UNIT_SCHED_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "vgpu-sched/vgpu-sched.h"

#define MS		    UINT64_C(1000000)
#define US		    UINT64_C(1000)
#define WORLD_VGPUS	    64
#define WORLD_IN_FLIGHT_MAX 4096

struct world_random {
	uint64_t state;
};

/* splitmix64 (Steele, Lea, Flood 2014): every seed is a good one. */
static inline uint64_t random_next(struct world_random *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* In @from to @to, both included. */
static inline uint64_t random_in(struct world_random *r, uint64_t from, uint64_t to)
{
	return from + random_next(r) % (to - from + 1);
}

/*
 * What a vGPU does: keeps @outstanding submissions in the queue or running (closed loop), each of
 * length_min to length_max, submitting the next think_ns after one ends. Active in [begin, end).
 */
struct world_load {
	uint64_t length_min_ns, length_max_ns, think_min_ns, think_max_ns, stall_ns;
	unsigned outstanding;
	uint64_t begin_ns, end_ns;
	uint64_t lie_ns; /* told besides what was used */
	/* Periods of work and of silence, in turn; 0: always at work. */
	uint64_t awake_ns, asleep_ns;
};

enum world_event_kind {
	WORLD_CHARGED, /* @ns: used, charged_ns with surcharge */
	WORLD_BACKLOGGED,
	WORLD_IDLE,
	WORLD_GRANTED /* @ns: how long the vGPU had waited for it */
};

struct world_event {
	uint64_t at_ns, ns, charged_ns, begin_ns, granted_ns;
	uint32_t vgpu;
	enum world_event_kind kind;
};

struct world_job {
	uint64_t grant, granted_ns, runs_from_ns, length_ns, ends_ns, began_ns;
	uint32_t vgpu;
	bool running;
};

struct world_vgpu {
	bool there;
	struct world_load load;
	uint64_t backlogged_since_ns; /* of its work, with any grant out not counted */
	uint64_t head_since_ns;
	uint64_t used_ns, grants, waited_max_ns;
	uint64_t longest_ns; /* charged or about to be: L */
	uint64_t submit_at[16];
	unsigned submit_count;
	uint64_t queued;
};

struct world {
	struct sched_gpu *gpu;
	struct world_random random;
	uint64_t now_ns, asked_next_ns;
	bool parallel;
	struct world_vgpu vgpus[WORLD_VGPUS];
	struct world_job jobs[WORLD_IN_FLIGHT_MAX];
	unsigned jobs_count;
	bool engine_busy;
	uint64_t busy_ns, lost_ns; /* idle though somebody had work that waited */
	struct world_event *events;
	size_t events_count, events_room, events_max; /* stops the world; 0: no limit */
	uint64_t hash;				      /* over all decisions */
	/* Called after each decision; may change the world. */
	void (*hook)(struct world *world, void *arg);
	void *hook_arg;
};

static inline void world_note(struct world *w, struct world_event event)
{
	if (w->events_count == w->events_room) {
		w->events_room = w->events_room ? 2 * w->events_room : 4096;
		w->events = realloc(w->events, w->events_room * sizeof(*w->events));
		assert_non_null(w->events);
	}
	w->events[w->events_count++] = event;
}

static inline struct world *world_open(const struct sched_gpu_config *config, uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	struct error e;

	assert_non_null(w);
	if (sched_gpu_create(config, &w->gpu, &e))
		fail_msg("%s", e.text);
	w->random.state = seed;
	w->asked_next_ns = SCHED_NEVER;
	return w;
}

static inline void world_close(struct world *w)
{
	sched_gpu_destroy(w->gpu);
	free(w->events);
	free(w);
}

static inline unsigned world_join(struct world *w, const struct sched_vgpu_config *config,
				  const struct world_load *load)
{
	struct error e = { 0 };
	unsigned vgpu;

	if (sched_vgpu_join(w->gpu, w->now_ns, config, NULL, &vgpu, &e))
		fail_msg("%s", e.text);
	assert_true(vgpu < WORLD_VGPUS);

	struct world_vgpu *v = &w->vgpus[vgpu];
	const struct world_vgpu before = *v;

	*v = (struct world_vgpu){ .there = true, .load = *load };
	v->used_ns = before.used_ns;
	v->longest_ns = before.longest_ns;
	v->submit_count = MIN(load->outstanding, 16u);
	for (unsigned i = 0; i < v->submit_count; i++)
		v->submit_at[i] = MAX(w->now_ns, load->begin_ns);
	return vgpu;
}

static inline unsigned world_add(struct world *w, uint64_t identity, enum sched_policy policy,
				 uint32_t weight_or_ppm, const struct world_load *load)
{
	struct sched_vgpu_config config = { .identity = identity, .policy = policy };

	if (policy == SCHED_WEIGHTED)
		config.weight = weight_or_ppm;
	else
		config.share_ppm = weight_or_ppm;
	return world_join(w, &config, load);
}

/* The vGPU goes, as its process would: what it has on the GPU is lost and charged by the core. */
static inline void world_leave(struct world *w, unsigned vgpu, struct sched_account *account)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < w->jobs_count; i++) {
		struct world_job *job = &w->jobs[i];

		if (job->vgpu != vgpu) {
			w->jobs[kept++] = *job;
			continue;
		}
		if (job->running && !w->parallel)
			w->engine_busy = false;
	}
	w->jobs_count = kept;
	assert_int_equal(sched_vgpu_leave(w->gpu, w->now_ns, vgpu, account), 0);
	w->vgpus[vgpu].there = false;
	w->vgpus[vgpu].submit_count = 0;
	w->vgpus[vgpu].queued = 0;
}

static inline void world_mix(struct world *w, uint64_t value)
{
	w->hash = (w->hash ^ value) * UINT64_C(0x100000001b3);
	w->hash ^= w->hash >> 29;
}

static inline void world_start_jobs(struct world *w)
{
	for (unsigned i = 0; i < w->jobs_count; i++) {
		struct world_job *job = &w->jobs[i];

		if (job->running || job->runs_from_ns > w->now_ns)
			continue;
		if (!w->parallel && w->engine_busy)
			return;
		job->running = true;
		job->began_ns = w->now_ns;
		job->ends_ns = w->now_ns + job->length_ns;
		w->engine_busy = true;
	}
}

static inline void world_end_job(struct world *w, unsigned index)
{
	const struct world_job job = w->jobs[index];
	struct world_vgpu *v = &w->vgpus[job.vgpu];
	struct sched_charge charge;

	w->jobs_count--;
	memmove(&w->jobs[index], &w->jobs[index + 1], (w->jobs_count - index) * sizeof(w->jobs[0]));
	if (!w->parallel)
		w->engine_busy = false;
	assert_int_equal(sched_complete(w->gpu, w->now_ns, job.grant,
					job.length_ns + v->load.lie_ns, &charge),
			 0);
	assert_int_equal(charge.vgpu, job.vgpu);
	v->used_ns += job.length_ns;
	w->busy_ns += job.length_ns;
	v->longest_ns = MAX(v->longest_ns, charge.used_ns + charge.surcharge_ns);
	world_note(w, (struct world_event){ .at_ns = w->now_ns,
					    .begin_ns = job.began_ns,
					    .granted_ns = job.granted_ns,
					    .ns = job.length_ns,
					    .charged_ns = charge.used_ns + charge.surcharge_ns,
					    .vgpu = job.vgpu,
					    .kind = WORLD_CHARGED });
	if (v->submit_count < 16)
		v->submit_at[v->submit_count++] =
			w->now_ns + random_in(&w->random, v->load.think_min_ns,
					      MAX(v->load.think_min_ns, v->load.think_max_ns));
	world_mix(w, charge.surcharge_ns ^ charge.debt_ns << 1);
}

/* When the load lets a submission that is due at @at_ns go. */
static inline uint64_t world_awake(const struct world_load *load, uint64_t at_ns)
{
	const uint64_t cycle_ns = load->awake_ns + load->asleep_ns;

	if (!load->asleep_ns || at_ns % cycle_ns < load->awake_ns)
		return at_ns;
	return (at_ns / cycle_ns + 1) * cycle_ns;
}

static inline void world_submit_due(struct world *w, unsigned vgpu)
{
	struct world_vgpu *v = &w->vgpus[vgpu];
	unsigned kept = 0;

	for (unsigned i = 0; i < v->submit_count; i++) {
		if (world_awake(&v->load, v->submit_at[i]) > w->now_ns ||
		    (v->load.end_ns && w->now_ns >= v->load.end_ns)) {
			v->submit_at[kept++] = v->submit_at[i];
			continue;
		}
		assert_int_equal(sched_submit(w->gpu, w->now_ns, vgpu, SCHED_ENGINE_GRAPHICS, 1),
				 0);
		if (!v->queued++) {
			v->head_since_ns = w->now_ns;
			world_note(w, (struct world_event){ .at_ns = w->now_ns,
							    .vgpu = vgpu,
							    .kind = WORLD_BACKLOGGED });
		}
	}
	v->submit_count = kept;
}

static inline void world_ask(struct world *w)
{
	for (;;) {
		const struct sched_decision d =
			sched_pick(w->gpu, w->now_ns, SCHED_ENGINE_GRAPHICS);

		if (!d.granted) {
			assert_true(d.next_ns > w->now_ns);
			w->asked_next_ns = d.next_ns;
			return;
		}
		struct world_vgpu *v = &w->vgpus[d.vgpu];
		const struct world_load *load = &v->load;

		assert_true(d.vgpu < WORLD_VGPUS && v->there && v->queued);
		assert_true(w->jobs_count < WORLD_IN_FLIGHT_MAX);
		world_mix(w, d.vgpu ^ w->now_ns << 6);
		w->jobs[w->jobs_count++] = (struct world_job){
			.grant = d.grant,
			.granted_ns = w->now_ns,
			.vgpu = d.vgpu,
			.runs_from_ns = w->now_ns + load->stall_ns,
			.length_ns = random_in(&w->random, load->length_min_ns,
					       MAX(load->length_min_ns, load->length_max_ns)),
		};
		v->longest_ns = MAX(v->longest_ns, MAX(w->jobs[w->jobs_count - 1].length_ns,
						       sched_gpu_config(w->gpu)->overhead_ns));
		v->grants++;
		v->waited_max_ns = MAX(v->waited_max_ns, w->now_ns - v->head_since_ns);
		world_note(w, (struct world_event){ .at_ns = w->now_ns,
						    .ns = w->now_ns - v->head_since_ns,
						    .vgpu = d.vgpu,
						    .kind = WORLD_GRANTED });
		v->head_since_ns = w->now_ns;
		if (!--v->queued)
			world_note(w, (struct world_event){ .at_ns = w->now_ns,
							    .vgpu = d.vgpu,
							    .kind = WORLD_IDLE });
	}
}

/* All that is due now. */
static inline void world_settle(struct world *w)
{
	for (unsigned i = 0; i < w->jobs_count;)
		if (w->jobs[i].running && w->jobs[i].ends_ns <= w->now_ns)
			world_end_job(w, i);
		else
			i++;
	for (unsigned i = 0; i < WORLD_VGPUS; i++)
		if (w->vgpus[i].there)
			world_submit_due(w, i);
	if (w->hook)
		w->hook(w, w->hook_arg);
	world_ask(w);
	world_start_jobs(w);
}

static inline uint64_t world_next_ns(const struct world *w)
{
	uint64_t next_ns = w->asked_next_ns;

	for (unsigned i = 0; i < w->jobs_count; i++)
		if (w->jobs[i].running)
			next_ns = MIN(next_ns, w->jobs[i].ends_ns);
		else if (w->jobs[i].runs_from_ns > w->now_ns)
			next_ns = MIN(next_ns, w->jobs[i].runs_from_ns);
	for (unsigned i = 0; i < WORLD_VGPUS; i++) {
		const struct world_vgpu *v = &w->vgpus[i];

		for (unsigned k = 0; k < v->submit_count; k++) {
			const uint64_t at_ns = world_awake(&v->load, v->submit_at[k]);

			if (at_ns > w->now_ns && (!v->load.end_ns || at_ns < v->load.end_ns))
				next_ns = MIN(next_ns, at_ns);
		}
	}
	return next_ns;
}

/* Runs until @until_ns, or until enough has happened. */
static inline void world_run(struct world *w, uint64_t until_ns)
{
	world_settle(w);
	while (w->now_ns < until_ns && (!w->events_max || w->events_count < w->events_max)) {
		const uint64_t next_ns = MIN(until_ns, world_next_ns(w));
		bool waits = false;

		for (unsigned i = 0; i < WORLD_VGPUS; i++)
			waits |= w->vgpus[i].queued;
		if (waits && !w->jobs_count)
			w->lost_ns += next_ns - w->now_ns;
		w->now_ns = next_ns;
		world_settle(w);
	}
}

/* Part of @ns that the vGPU has used. */
static inline double world_share(const struct world *w, unsigned vgpu, uint64_t ns)
{
	return (double)w->vgpus[vgpu].used_ns / (double)ns;
}

#endif
