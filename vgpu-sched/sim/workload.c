// SPDX-License-Identifier: Apache-2.0
/*
 * Who submits when: each kind of workload answers three questions (what happens when its vGPU joins, when its time
 * comes, and when a job of its is done) with new arrivals.
 */
#include "vgpu-sched/sim/run_private.h"

static const struct sim_workload *spec_of(const struct run *run, unsigned v, unsigned w)
{
	return &run->vgpus[v].spec->workloads[w];
}

static int arrive_at(struct run *run, unsigned v, unsigned w, uint64_t at_ns)
{
	if (at_ns >= spec_of(run, v, w)->stop_ns)
		return 0;
	return agenda_add(&run->agenda, at_ns, RUN_ARRIVE, v, w);
}

static int submit(struct run *run, unsigned v, unsigned w, const struct sim_length *length,
		  enum sched_engine engine)
{
	struct run_workload *state = &run->vgpus[v].workloads[w];
	const struct run_job job = {
		.submitted_ns = run->now_ns,
		.length_ns = sim_random_length(&state->random, length),
		.workload = w,
	};

	return run_submit(run, v, &job, engine);
}

/* bursts: the next moment from @at_ns on that lies in an "on" part. */
static uint64_t burst_time(const struct sim_workload *spec, const struct run_workload *state,
			   uint64_t at_ns)
{
	uint64_t cycle = spec->on_ns + spec->off_ns;
	uint64_t into = (at_ns - spec->start_ns + state->phase_ns) % cycle;

	return into < spec->on_ns ? at_ns : at_ns + cycle - into;
}

int workload_join(struct run *run, unsigned v)
{
	struct run_vgpu *vgpu = &run->vgpus[v];
	int err = 0;

	for (unsigned w = 0; w < vgpu->spec->workload_count && !err; w++) {
		const struct sim_workload *spec = spec_of(run, v, w);
		struct run_workload *state = &vgpu->workloads[w];
		uint64_t from = MAX(run->now_ns, spec->start_ns);
		unsigned first =
			spec->kind == SIM_CLOSED || spec->kind == SIM_BURSTS ? spec->in_flight : 1;

		sim_random_seed(&state->random, run->scenario->seed,
				(uint64_t)v * SIM_WORKLOADS_MAX + w);
		state->copying = true;
		state->trace_base_ns = from;
		if (spec->kind == SIM_OPEN)
			from += sim_random_exponential(&state->random, 1e9 / spec->rate);
		/* What repeats does not begin everywhere at once. */
		if (spec->kind == SIM_FRAMES)
			from += sim_random_below(&state->random, (uint64_t)(1e9 / spec->rate));
		if (spec->kind == SIM_BURSTS) {
			state->phase_ns =
				sim_random_below(&state->random, spec->on_ns + spec->off_ns);
			from = burst_time(spec, state, from);
		}
		while (first-- && !err)
			err = arrive_at(run, v, w, from);
	}
	return err;
}

static int frame(struct run *run, unsigned v, unsigned w)
{
	struct run_workload *state = &run->vgpus[v].workloads[w];
	struct sim_vgpu_result *result = &run->result->vgpus[v];
	const struct sim_workload *spec = spec_of(run, v, w);
	const bool counts = run->now_ns >= run->scenario->warmup_ns;
	int err = arrive_at(run, v, w, run->now_ns + (uint64_t)(1e9 / spec->rate));

	result->frames += counts;
	if (state->frame_out) { /* the one before is late: this one is not drawn */
		result->missed += counts;
		return err;
	}
	state->frame_out = true;
	return err ? err : submit(run, v, w, &spec->job, spec->engine);
}

static int from_trace(struct run *run, unsigned v, unsigned w)
{
	struct run_workload *state = &run->vgpus[v].workloads[w];
	const struct sim_workload *spec = spec_of(run, v, w);
	int err = 0;

	while (state->trace_at < spec->trace_count && !err) {
		const struct sim_trace_job *job = &spec->trace[state->trace_at];
		const struct run_job now = { run->now_ns, MAX(job->length_ns, 1), w };

		if (state->trace_base_ns + job->at_ns > run->now_ns)
			return arrive_at(run, v, w, state->trace_base_ns + job->at_ns);
		state->trace_at++;
		err = run_submit(run, v, &now, job->engine);
	}
	return err;
}

int workload_arrive(struct run *run, unsigned v, unsigned w)
{
	struct run_workload *state = &run->vgpus[v].workloads[w];
	const struct sim_workload *spec = spec_of(run, v, w);
	int err = 0;

	if (!run->vgpus[v].joined || run->vgpus[v].leaving)
		return 0;
	switch (spec->kind) {
	case SIM_OPEN:
		err = arrive_at(
			run, v, w,
			run->now_ns +
				MAX(sim_random_exponential(&state->random, 1e9 / spec->rate), 1));
		break;
	case SIM_FRAMES:
		return frame(run, v, w);
	case SIM_TRACE:
		return from_trace(run, v, w);
	case SIM_STEPS:
		if (state->copying && spec->copy.a_ns)
			return submit(run, v, w, &spec->copy, SCHED_ENGINE_COPY);
		state->copying = false;
		break;
	case SIM_CLOSED:
	case SIM_BURSTS:
		break;
	}
	return err ? err : submit(run, v, w, &spec->job, spec->engine);
}

int workload_done(struct run *run, unsigned v, const struct run_job *job)
{
	const unsigned w = job->workload;
	struct run_workload *state = &run->vgpus[v].workloads[w];
	const struct sim_workload *spec = spec_of(run, v, w);
	uint64_t next;

	switch (spec->kind) {
	case SIM_OPEN:
	case SIM_TRACE:
		return 0;
	case SIM_FRAMES:
		state->frame_out = false;
		if (job->submitted_ns >= run->scenario->warmup_ns)
			run->result->vgpus[v].missed +=
				run->now_ns - job->submitted_ns > spec->deadline_ns;
		return 0;
	case SIM_STEPS:
		if (state->copying) {
			state->copying = false;
			return submit(run, v, w, &spec->job, spec->engine);
		}
		state->copying = true;
		break;
	case SIM_CLOSED:
	case SIM_BURSTS:
		break;
	}
	next = run->now_ns + sim_random_length(&state->random, &spec->think);
	if (spec->kind == SIM_BURSTS)
		next = burst_time(spec, state, next);
	/* At once is not an event later: under the same grant it may go on. */
	if (next == run->now_ns && next < spec->stop_ns)
		return workload_arrive(run, v, w);
	return arrive_at(run, v, w, next);
}
