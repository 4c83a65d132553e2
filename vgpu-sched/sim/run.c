// SPDX-License-Identifier: Apache-2.0
/*
 * One run of a scenario (run.h): events in order of time. Workloads submit jobs to their vGPU's queue; the core says whose
 * turn it is; an engine executes what was granted, one job after the other, and is never interrupted.
 *
 *   arrival -> queue of (vGPU, engine) -> sched_pick() grants -> engine's list -> runs -> sched_complete() charges
 *
 * Under one grant a vGPU goes on with what is in its queue until the slice is used up, as a client of the live arbiter does.
 * Who generates jobs when is in workload.c; what it all meant, in metrics.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/sim/run_private.h"

#define SHARE_PPM(x) ((uint32_t)((x) * SCHED_PPM + 0.5))

static int out_of_memory(struct error *e)
{
	return error_set(e, ENOMEM, "no-memory", NULL, "the simulator is out of memory");
}

/* ---- windows and backlog --------------------------------------------------------------------- */

/* Adds [from, to) to a member of the windows it falls into. */
static void windows_add(struct run *run, unsigned v, uint64_t from, uint64_t to, bool used)
{
	const uint64_t warmup = run->scenario->warmup_ns, end = warmup + run->result->span_ns;
	struct sim_window *windows = run->result->vgpus[v].windows;

	from = MAX(from, warmup);
	to = MIN(to, end);
	while (from < to) {
		uint64_t index = (from - warmup) / SIM_WINDOW_NS;
		uint64_t until = MIN(to, warmup + (index + 1) * SIM_WINDOW_NS);

		if (index >= run->result->window_count)
			return; /* the rest is no whole window */
		if (used)
			windows[index].used_ns += (uint32_t)(until - from);
		else
			windows[index].backlog_ns += (uint32_t)(until - from);
		from = until;
	}
}

static double normalised(const struct run *run, unsigned v)
{
	return run->vgpus[v].charged_ns / (double)run->vgpus[v].config.weight;
}

/* Only those who share by weight are to be compared. */
static bool comparable(const struct run *run, unsigned a, unsigned b)
{
	const struct run_vgpu *x = &run->vgpus[a], *y = &run->vgpus[b];

	return run->pairs && a != b && x->spec->gpu == y->spec->gpu && x->backlogged &&
	       y->backlogged && sim_by_weight(x->config.policy) && sim_by_weight(y->config.policy);
}

static struct run_pair *pair_of(const struct run *run, unsigned a, unsigned b)
{
	return &run->pairs[MIN(a, b) * run->result->vgpu_count + MAX(a, b)];
}

void run_pairs_begin(struct run *run, unsigned v)
{
	for (unsigned other = 0; run->pairs && other < run->result->vgpu_count; other++)
		if (comparable(run, v, other)) {
			double difference =
				normalised(run, MIN(v, other)) - normalised(run, MAX(v, other));

			*pair_of(run, v, other) = (struct run_pair){ difference, difference };
		}
}

/* After a charge to @v: how far apart are it and the others by now? */
static void pairs_charge(struct run *run, unsigned v)
{
	struct sim_vgpu_result *result = run->result->vgpus;
	const unsigned depth = run->scenario->gpus[run->vgpus[v].spec->gpu].depth;

	for (unsigned other = 0; run->pairs && other < run->result->vgpu_count; other++) {
		double difference, lag, bound;
		struct run_pair *pair;

		if (!comparable(run, v, other))
			continue;
		pair = pair_of(run, v, other);
		difference = normalised(run, MIN(v, other)) - normalised(run, MAX(v, other));
		pair->least = MIN(pair->least, difference);
		pair->most = MAX(pair->most, difference);
		bound = (depth + 1) *
			((double)result[v].longest_ns / run->vgpus[v].config.weight +
			 (double)result[other].longest_ns / run->vgpus[other].config.weight);
		lag = bound > 0 ? (pair->most - pair->least) / bound : 0;
		result[v].lag = MAX(result[v].lag, lag);
		result[other].lag = MAX(result[other].lag, lag);
	}
}

static void backlog_update(struct run *run, unsigned v)
{
	struct run_vgpu *vgpu = &run->vgpus[v];
	const struct run_queue *queue = &vgpu->queues[SCHED_ENGINE_GRAPHICS];
	bool backlogged = queue->count || queue->running;

	if (backlogged == vgpu->backlogged)
		return;
	if (!backlogged)
		windows_add(run, v, vgpu->backlogged_since_ns, run->now_ns, false);
	vgpu->backlogged = backlogged;
	vgpu->backlogged_since_ns = run->now_ns;
	if (backlogged)
		run_pairs_begin(run, v);
}

/* ---- engines --------------------------------------------------------------------------------- */

static struct run_engine *engine_of(struct run *run, unsigned g, enum sched_engine e)
{
	return &run->gpus[g].engines[e];
}

/* Before anything changes on an engine: what was it until now? */
static void engine_account(struct run *run, unsigned g, enum sched_engine e)
{
	struct run_engine *engine = engine_of(run, g, e);
	const uint64_t from = MAX(engine->accounted_ns, run->scenario->warmup_ns);

	if (run->now_ns > from) {
		if (engine->count)
			run->result->gpus[g].busy_ns[e] += run->now_ns - from;
		else if (engine->waiting)
			run->result->gpus[g].idle_wanted_ns[e] += run->now_ns - from;
	}
	engine->accounted_ns = run->now_ns;
}

static int job_begin(struct run *run, unsigned g, enum sched_engine e)
{
	struct run_engine *engine = engine_of(run, g, e);
	struct run_grant *grant = &engine->grants[engine->first];
	uint64_t begin = run->now_ns;

	if (engine->last_vgpu != grant->vgpu) {
		begin += run->scenario->gpus[g].switch_ns;
		run->result->gpus[g].switches++;
	}
	engine->last_vgpu = grant->vgpu;
	grant->job_begin_ns = begin;
	if (grant->job.submitted_ns >= run->scenario->warmup_ns)
		histogram_add(&run->result->vgpus[grant->vgpu].wait,
			      begin - grant->job.submitted_ns);
	return agenda_add(&run->agenda, begin + grant->job.length_ns, RUN_DONE, g, e);
}

static struct run_job queue_take(struct run *run, unsigned v, enum sched_engine e)
{
	struct run_queue *queue = &run->vgpus[v].queues[e];
	struct run_job job = queue->jobs[queue->first];

	queue->first = (queue->first + 1) % queue->room;
	queue->count--;
	engine_of(run, run->vgpus[v].spec->gpu, e)->waiting--;
	return job;
}

/* Everything that may be granted is; and if it is a matter of time, when to ask again. */
static int dispatch(struct run *run, unsigned g, enum sched_engine e)
{
	struct run_engine *engine = engine_of(run, g, e);
	struct sched_decision decision;
	int err = 0;

	engine_account(run, g, e);
	for (;;) {
		struct run_grant *grant;
		unsigned v;

		decision = sched_pick(run->gpus[g].sched, run->now_ns, e);
		run->result->decisions++;
		if (!decision.granted)
			break;
		v = run->gpus[g].vgpus[decision.vgpu];
		grant = &engine->grants[(engine->first + engine->count) % SCHED_DEPTH_MAX];
		*grant = (struct run_grant){
			.id = decision.grant,
			.vgpu = v,
			.slice_ns = decision.slice_ns,
			.job = queue_take(run, v, e),
		};
		run->vgpus[v].queues[e].running++;
		if (!engine->count++)
			err = job_begin(run, g, e);
		if (err)
			return err;
	}
	if (decision.next_ns != SCHED_NEVER && decision.next_ns != engine->wake_ns) {
		engine->wake_ns = decision.next_ns;
		err = agenda_add(&run->agenda, decision.next_ns, RUN_WAKE, g, e);
	}
	return err;
}

int run_submit(struct run *run, unsigned v, const struct run_job *job, enum sched_engine e)
{
	struct run_vgpu *vgpu = &run->vgpus[v];
	struct run_queue *queue = &vgpu->queues[e];
	int err;

	if (queue->count == RUN_QUEUE_MAX) {
		run->result->vgpus[v].dropped++;
		return 0;
	}
	if (queue->count == queue->room) {
		unsigned room = queue->room ? 2 * queue->room : 16;
		struct run_job *jobs = malloc(room * sizeof(*jobs));

		if (!jobs)
			return -ENOMEM;
		for (unsigned i = 0; i < queue->count; i++)
			jobs[i] = queue->jobs[(queue->first + i) % queue->room];
		free(queue->jobs);
		queue->jobs = jobs;
		queue->first = 0;
		queue->room = room;
	}
	engine_account(run, vgpu->spec->gpu, e);
	queue->jobs[(queue->first + queue->count++) % queue->room] = *job;
	engine_of(run, vgpu->spec->gpu, e)->waiting++;
	err = sched_submit(run->gpus[vgpu->spec->gpu].sched, run->now_ns, vgpu->index, e, 1);
	backlog_update(run, v);
	run->gpus[vgpu->spec->gpu].dirty |= 1u << e;
	return err;
}

static int vgpu_leave(struct run *run, unsigned v)
{
	struct run_vgpu *vgpu = &run->vgpus[v];
	struct run_gpu *gpu = &run->gpus[vgpu->spec->gpu];

	for (unsigned e = 0; e < SCHED_ENGINES; e++)
		if (vgpu->queues[e].running)
			return 0; /* when that is done */
	for (unsigned e = 0; e < SCHED_ENGINES; e++)
		sched_vgpu_stats(gpu->sched, run->now_ns, vgpu->index, (enum sched_engine)e,
				 &run->result->vgpus[v].stats[e]);
	vgpu->joined = false;
	return sched_vgpu_leave(gpu->sched, run->now_ns, vgpu->index, NULL);
}

static int on_leave(struct run *run, unsigned v)
{
	struct run_vgpu *vgpu = &run->vgpus[v];

	vgpu->leaving = true;
	for (unsigned e = 0; e < SCHED_ENGINES; e++) {
		struct run_queue *queue = &vgpu->queues[e];

		engine_account(run, vgpu->spec->gpu, (enum sched_engine)e);
		sched_withdraw(run->gpus[vgpu->spec->gpu].sched, run->now_ns, vgpu->index,
			       (enum sched_engine)e, queue->count);
		engine_of(run, vgpu->spec->gpu, (enum sched_engine)e)->waiting -= queue->count;
		queue->count = 0;
		run->gpus[vgpu->spec->gpu].dirty |= 1u << e;
	}
	backlog_update(run, v);
	return vgpu_leave(run, v);
}

/* The job at the head of an engine is through. */
static int on_done(struct run *run, unsigned g, enum sched_engine e)
{
	struct run_engine *engine = engine_of(run, g, e);
	struct run_grant *grant = &engine->grants[engine->first];
	struct run_vgpu *vgpu = &run->vgpus[grant->vgpu];
	struct sim_vgpu_result *result = &run->result->vgpus[grant->vgpu];
	const struct run_job job = grant->job;
	const unsigned v = grant->vgpu;
	struct sched_charge charge;
	int err;

	engine_account(run, g, e);
	grant->used_ns += job.length_ns;
	if (e == SCHED_ENGINE_GRAPHICS)
		windows_add(run, v, grant->job_begin_ns, run->now_ns, true);
	if (run->now_ns > run->scenario->warmup_ns)
		result->used_ns[e] += MIN(job.length_ns, run->now_ns - run->scenario->warmup_ns);
	if (job.submitted_ns >= run->scenario->warmup_ns) {
		histogram_add(&result->latency, run->now_ns - job.submitted_ns);
		result->jobs++;
	}
	if (run->options->timeline)
		timeline_add(run->options->timeline,
			     &(struct timeline_run){ g, v, e, job.submitted_ns, grant->job_begin_ns,
						     run->now_ns });
	err = vgpu->leaving ? 0 : workload_done(run, v, &job);
	if (err)
		return err;

	if (run->batches && grant->used_ns < grant->slice_ns && vgpu->queues[e].count) {
		sched_withdraw(run->gpus[g].sched, run->now_ns, vgpu->index, e, 1);
		grant->job = queue_take(run, v, e);
		return job_begin(run, g, e);
	}
	err = sched_complete(run->gpus[g].sched, run->now_ns, grant->id, grant->used_ns, &charge);
	if (err)
		return err;
	if (e == SCHED_ENGINE_GRAPHICS) {
		vgpu->charged_ns += (double)(charge.used_ns + charge.surcharge_ns);
		result->longest_ns = MAX(result->longest_ns, charge.used_ns + charge.surcharge_ns);
		pairs_charge(run, v);
	}
	engine->first = (engine->first + 1) % SCHED_DEPTH_MAX;
	engine->count--;
	vgpu->queues[e].running--;
	backlog_update(run, v);
	run->gpus[g].dirty |= 1u << e;
	if (engine->count)
		err = job_begin(run, g, e);
	if (!err && vgpu->leaving && vgpu->joined)
		err = vgpu_leave(run, v);
	return err;
}

/* ---- vGPUs that come and change -------------------------------------------------------------- */

/* What @vgpu is promised in this run: as written, or all the same. */
static void promise(const struct run *run, const struct sim_vgpu *spec,
		    struct sched_vgpu_config *config)
{
	const int policy = run->options->alone >= 0 ? SCHED_BEST_EFFORT : run->options->policy;
	double share = spec->share, credits = spec->credits_max;
	uint32_t share_ppm = SHARE_PPM(share);
	unsigned peers = 0;

	for (unsigned i = 0; i < run->scenario->vgpu_count; i++)
		peers += run->scenario->vgpus[i].gpu == spec->gpu;
	if (policy >= 0) {
		share = 1.0 / peers;
		share_ppm = SCHED_PPM / peers; /* all of them fit */
		credits = share * 60;
	}
	config->policy = policy >= 0 ? (enum sched_policy)policy : spec->policy;
	config->weight = config->policy == SCHED_EQUAL_SHARE ? SCHED_WEIGHT_NORMAL : spec->weight;
	config->share_ppm = config->elastic_ppm = 0;
	config->credit_max_ns = config->surplus_max_ns = 0;
	if (config->policy == SCHED_FIXED_SHARE) {
		config->share_ppm = share_ppm;
		config->elastic_ppm = spec->cap > share ? SHARE_PPM(spec->cap - share) : 0;
	} else if (config->policy == SCHED_BURST) {
		config->share_ppm = share_ppm;
		config->credit_max_ns = (uint64_t)(credits * (double)SCHED_CREDIT_NS);
		config->surplus_max_ns = (uint64_t)(spec->surplus_max * (double)SCHED_CREDIT_NS);
	}
}

static int on_join(struct run *run, unsigned v, struct error *e)
{
	struct run_vgpu *vgpu = &run->vgpus[v];
	struct sched_account account = { .identity = vgpu->config.identity };
	int err;

	promise(run, vgpu->spec, &vgpu->config);
	for (unsigned i = 0; i < SCHED_ENGINES; i++)
		account.engines[i].credit_ns =
			(int64_t)(vgpu->spec->credits * (double)SCHED_CREDIT_NS);
	err = sched_vgpu_join(run->gpus[vgpu->spec->gpu].sched, run->now_ns, &vgpu->config,
			      vgpu->config.policy == SCHED_BURST ? &account : NULL, &vgpu->index,
			      e);
	if (err)
		return err;
	vgpu->joined = true;
	run->gpus[vgpu->spec->gpu].vgpus[vgpu->index] = v;
	return workload_join(run, v);
}

static int on_change(struct run *run, const struct sim_change *change, struct error *e)
{
	struct run_vgpu *vgpu = &run->vgpus[change->vgpu];
	struct sched_vgpu_config config;
	int err;

	if (change->policy >= 0)
		vgpu->spec->policy = (enum sched_policy)change->policy;
	if (change->weight >= 0)
		vgpu->spec->weight = (uint32_t)change->weight;
	if (change->share >= 0)
		vgpu->spec->share = change->share;
	if (!vgpu->joined || vgpu->leaving)
		return 0;
	config = vgpu->config;
	promise(run, vgpu->spec, &config);
	err = sched_vgpu_change(run->gpus[vgpu->spec->gpu].sched, run->now_ns, vgpu->index, &config,
				e);
	if (err)
		return err;
	vgpu->config = config;
	run_pairs_begin(run, change->vgpu);
	if (run->now_ns > run->scenario->warmup_ns)
		run->result->settled_window =
			(unsigned)((run->now_ns - run->scenario->warmup_ns + SIM_WINDOW_NS - 1) /
				   SIM_WINDOW_NS);
	run->gpus[vgpu->spec->gpu].dirty = (1u << SCHED_ENGINES) - 1;
	return 0;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int step(struct run *run, const struct agenda_item *item, struct error *e)
{
	const enum sched_engine engine = (enum sched_engine)item->b;

	switch ((enum run_event)item->kind) {
	case RUN_ARRIVE:
		return workload_arrive(run, item->a, item->b);
	case RUN_DONE:
		return on_done(run, item->a, engine);
	case RUN_WAKE:
		if (engine_of(run, item->a, engine)->wake_ns == item->at_ns) {
			engine_of(run, item->a, engine)->wake_ns = SCHED_NEVER;
			run->gpus[item->a].dirty |= 1u << engine;
		}
		return 0;
	case RUN_JOIN:
		return on_join(run, item->a, e);
	case RUN_LEAVE:
		return on_leave(run, item->a);
	case RUN_CHANGE:
		return on_change(run, &run->scenario->changes[item->a], e);
	}
	return 0;
}

static int loop(struct run *run, struct error *e)
{
	struct agenda_item item;
	int err = 0;

	while (!err && agenda_next(&run->agenda, &item) &&
	       item.at_ns <= run->scenario->duration_ns) {
		run->now_ns = item.at_ns;
		err = step(run, &item, e);
		for (unsigned g = 0; g < run->scenario->gpu_count && !err; g++)
			for (unsigned i = 0; i < SCHED_ENGINES && !err; i++)
				if (run->gpus[g].dirty & 1u << i) {
					run->gpus[g].dirty &= ~(1u << i);
					err = dispatch(run, g, (enum sched_engine)i);
				}
	}
	run->now_ns = run->scenario->duration_ns;
	return err;
}

static int begin(struct run *run, struct error *e)
{
	const struct sim_scenario *scenario = run->scenario;
	int err = 0;

	for (unsigned g = 0; g < scenario->gpu_count && !err; g++) {
		const struct sched_gpu_config config = {
			.model = run->options->model,
			.vgpus_max = scenario->vgpu_count,
			.depth = scenario->gpus[g].depth,
			.slice_ns = scenario->gpus[g].slice_ns,
			.period_ns = scenario->gpus[g].period_ns,
			.idle_gap_ns = scenario->gpus[g].idle_gap_ns,
			.linger_ns = scenario->gpus[g].linger_ns,
		};

		err = sched_gpu_create(&config, &run->gpus[g].sched, e);
		run->gpus[g].vgpus = calloc(scenario->vgpu_count, sizeof(*run->gpus[g].vgpus));
		if (!run->gpus[g].vgpus)
			return -ENOMEM;
		for (unsigned i = 0; i < SCHED_ENGINES; i++) {
			run->gpus[g].engines[i].last_vgpu = UINT32_MAX;
			run->gpus[g].engines[i].wake_ns = SCHED_NEVER;
		}
	}
	for (unsigned i = 0; i < scenario->vgpu_count && !err; i++) {
		run->specs[i] = scenario->vgpus[i];
		run->vgpus[i].spec = &run->specs[i];
		run->vgpus[i].config.identity = i + 1;
		if (run->options->alone >= 0 && run->options->alone != (int)i)
			continue;
		err = agenda_add(&run->agenda, scenario->vgpus[i].join_ns, RUN_JOIN, i, 0);
		if (!err && scenario->vgpus[i].leave_ns < scenario->duration_ns)
			err = agenda_add(&run->agenda, scenario->vgpus[i].leave_ns, RUN_LEAVE, i,
					 0);
	}
	for (unsigned i = 0; i < scenario->change_count && run->options->alone < 0 && !err; i++)
		err = agenda_add(&run->agenda, scenario->changes[i].at_ns, RUN_CHANGE, i, 0);
	return err;
}

/* What was still going on at the end counts up to there. */
static void finish(struct run *run)
{
	for (unsigned g = 0; g < run->scenario->gpu_count; g++)
		for (unsigned i = 0; i < SCHED_ENGINES; i++) {
			struct run_engine *engine = engine_of(run, g, (enum sched_engine)i);
			const struct run_grant *grant = &engine->grants[engine->first];
			uint64_t from = MAX(grant->job_begin_ns, run->scenario->warmup_ns);

			engine_account(run, g, (enum sched_engine)i);
			if (!engine->count || run->now_ns <= from)
				continue;
			run->result->vgpus[grant->vgpu].used_ns[i] += run->now_ns - from;
			if (i == SCHED_ENGINE_GRAPHICS)
				windows_add(run, grant->vgpu, from, run->now_ns, true);
		}
	for (unsigned v = 0; v < run->result->vgpu_count; v++) {
		struct run_vgpu *vgpu = &run->vgpus[v];
		struct sim_vgpu_result *result = &run->result->vgpus[v];

		if (vgpu->backlogged)
			windows_add(run, v, vgpu->backlogged_since_ns, run->now_ns, false);
		for (unsigned i = 0; i < SCHED_ENGINES && vgpu->joined; i++)
			sched_vgpu_stats(run->gpus[vgpu->spec->gpu].sched, run->now_ns, vgpu->index,
					 (enum sched_engine)i, &result->stats[i]);
		result->weight = vgpu->config.weight;
		result->policy = vgpu->config.policy;
	}
	run_promises(run);
}

static void run_free(struct run *run)
{
	for (unsigned v = 0; v < run->scenario->vgpu_count && run->vgpus; v++)
		for (unsigned i = 0; i < SCHED_ENGINES; i++)
			free(run->vgpus[v].queues[i].jobs);
	for (unsigned g = 0; g < run->scenario->gpu_count; g++) {
		sched_gpu_destroy(run->gpus[g].sched);
		free(run->gpus[g].vgpus);
	}
	agenda_free(&run->agenda);
	free(run->pairs);
	free(run->specs);
	free(run->vgpus);
}

static int result_create(const struct sim_scenario *scenario, struct sim_result **out,
			 struct error *e)
{
	const uint64_t span = scenario->duration_ns - scenario->warmup_ns,
		       windows = span / SIM_WINDOW_NS;
	struct sim_result *result;

	if (windows * scenario->vgpu_count > SIM_WINDOWS_MAX)
		return error_set(e, E2BIG, "scenario-too-long",
				 "shorten its duration, or give it fewer vGPUs",
				 "%s: %u vGPUs for %llu s are more windows than are kept (%u)",
				 scenario->name, scenario->vgpu_count,
				 (unsigned long long)(span / NSEC_PER_SEC), SIM_WINDOWS_MAX);
	result = calloc(1, sizeof(*result));
	if (!result)
		return out_of_memory(e);
	*out = result;
	result->span_ns = span;
	result->window_count = (unsigned)windows;
	result->gpu_count = scenario->gpu_count;
	result->vgpus = calloc(scenario->vgpu_count, sizeof(*result->vgpus));
	if (!result->vgpus)
		return out_of_memory(e);
	result->vgpu_count = scenario->vgpu_count;
	for (unsigned i = 0; i < result->vgpu_count; i++) {
		result->vgpus[i].windows = calloc(windows + 1, sizeof(struct sim_window));
		if (!result->vgpus[i].windows)
			return out_of_memory(e);
	}
	return 0;
}

int sim_run(const struct sim_scenario *scenario, const struct sim_run_options *options,
	    struct sim_result **out, struct error *e)
{
	struct run run = {
		.scenario = scenario,
		.options = options,
		/* It hands out submissions as they came, one by one. */
		.batches = options->model != SCHED_MODEL_REFERENCE_FIFO,
	};
	const unsigned count = scenario->vgpu_count;
	uint64_t since = monotonic_ns();
	struct error inner = { 0 };
	int err;

	*out = NULL;
	err = result_create(scenario, out, e);
	if (err)
		goto failed;
	run.result = *out;
	run.vgpus = calloc(count, sizeof(*run.vgpus));
	run.specs = calloc(count, sizeof(*run.specs));
	if (count <= SIM_LAG_VGPUS_MAX)
		run.pairs = calloc((size_t)count * count, sizeof(*run.pairs));
	err = !run.vgpus || !run.specs || (count <= SIM_LAG_VGPUS_MAX && !run.pairs)
		      ? -ENOMEM
		      : begin(&run, &inner);
	if (!err)
		err = loop(&run, &inner);
	if (!err)
		finish(&run);
	run_free(&run);
	if (!err) {
		(*out)->seconds = (double)(monotonic_ns() - since) / 1e9;
		return 0;
	}
	if (e && inner.code)
		*e = inner;
	else if (err == -ENOMEM)
		out_of_memory(e);
	else
		error_set(e, -err, "simulator", NULL, "%s: the scheduler refused a call: %s",
			  scenario->name, strerror(-err));
failed:
	sim_result_free(*out);
	*out = NULL;
	return err;
}

void sim_result_free(struct sim_result *result)
{
	if (!result)
		return;
	for (unsigned i = 0; i < result->vgpu_count; i++)
		free(result->vgpus[i].windows);
	free(result->vgpus);
	free(result);
}
