/* SPDX-License-Identifier: Apache-2.0 */
/* What run.c, workload.c and promise.c share of a run, and nobody else. */
#ifndef VGPU_SCHED_SIM_RUN_PRIVATE_H
#define VGPU_SCHED_SIM_RUN_PRIVATE_H

#include "vgpu-sched/sim/agenda.h"
#include "vgpu-sched/sim/random.h"
#include "vgpu-sched/sim/run.h"
#include "vgpu-sched/sim/timeline.h"

#define RUN_QUEUE_MAX 65536u /* jobs of one vGPU on one engine; more are dropped and counted */

enum run_event {
	RUN_ARRIVE, /* vGPU, workload */
	RUN_DONE,   /* GPU, engine */
	RUN_WAKE,   /* GPU, engine */
	RUN_JOIN,   /* vGPU */
	RUN_LEAVE,  /* vGPU */
	RUN_CHANGE, /* index into the scenario's changes */
};

struct run_job {
	uint64_t submitted_ns, length_ns;
	unsigned workload;
};

/* What waits of one vGPU on one engine: a ring. */
struct run_queue {
	struct run_job *jobs;
	unsigned first, count, room;
	unsigned running; /* granted */
};

struct run_workload {
	struct sim_random random;
	bool copying;	/* steps: the copy comes first */
	bool frame_out; /* frames: one is being drawn */
	unsigned trace_at;
	uint64_t trace_base_ns;
	uint64_t phase_ns; /* bursts: how far into its cycle it begins */
};

struct run_vgpu {
	struct sim_vgpu *spec; /* this run's own copy, which changes */
	unsigned index;	       /* in the core */
	bool joined, leaving, backlogged;
	uint64_t backlogged_since_ns;
	double charged_ns; /* on the graphics engine */
	struct sched_vgpu_config config;
	struct run_queue queues[SCHED_ENGINES];
	struct run_workload workloads[SIM_WORKLOADS_MAX];
};

struct run_grant {
	uint64_t id, slice_ns, used_ns, job_begin_ns;
	unsigned vgpu;
	struct run_job job;
};

struct run_engine {
	struct run_grant grants
		[SCHED_DEPTH_MAX]; /* a ring: what was granted, in order; the first one runs */
	unsigned first, count;
	uint64_t waiting; /* jobs in queues */
	unsigned last_vgpu;
	uint64_t accounted_ns, wake_ns;
};

struct run_gpu {
	struct sched_gpu *sched;
	unsigned *vgpus; /* from the core's index to the scenario's */
	unsigned dirty;	 /* engines to ask about, a bit each */
	struct run_engine engines[SCHED_ENGINES];
};

/* C_i/w_i - C_j/w_j since both are backlogged */
struct run_pair {
	double least, most;
};

struct run {
	const struct sim_scenario *scenario;
	const struct sim_run_options *options;
	struct sim_result *result;
	bool batches;
	uint64_t now_ns;
	struct agenda agenda;
	struct run_vgpu *vgpus;
	struct sim_vgpu *specs;
	struct run_pair *pairs; /* NULL: too many vGPUs */
	struct run_gpu gpus[SIM_GPUS_MAX];
};

/* run_submit() - a job joins its vGPU's queue on @engine. Returns 0 or -errno. */
int run_submit(struct run *run, unsigned v, const struct run_job *job, enum sched_engine engine);
/* run_pairs_begin() - the comparison of @v with others starts anew. */
void run_pairs_begin(struct run *run, unsigned v);
/* run_promises() - what each was promised at the end (promise.c). */
void run_promises(struct run *run);

/* workload.c: who submits when. All return 0 or -errno. */
int workload_join(struct run *run, unsigned v);
int workload_arrive(struct run *run, unsigned v, unsigned w);
int workload_done(struct run *run, unsigned v, const struct run_job *job);

#endif
