/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of a scenario: the scheduler's core decides, a made-up GPU obeys. Private to vgpu-sched/sim/.
 */
#ifndef VGPU_SCHED_SIM_RUN_H
#define VGPU_SCHED_SIM_RUN_H

#include "vgpu-sched/sim/histogram.h"
#include "vgpu-sched/sim/scenario.h"

#define SIM_WINDOW_NS (100 * UINT64_C(1000000))
/* Of all vGPUs together: 160 MB. */
#define SIM_WINDOWS_MAX (20u << 20)
/* Pairs are compared at each charge of one of them, up to so many vGPUs. */
#define SIM_LAG_VGPUS_MAX 64

struct sim_timeline;

struct sim_run_options {
	enum sched_model model;
	int policy; /* every vGPU gets this one, with an equal part where it takes one; -1: as written */
	int alone;		       /* only this vGPU, with nothing to hold it back; -1: all */
	struct sim_timeline *timeline; /* NULL: none */
};

struct sim_window {
	uint32_t used_ns, backlog_ns; /* on the graphics engine: ran; had work waiting or running */
};

/* From the warm-up's end to the scenario's, but for @stats: from its beginning. */
struct sim_vgpu_result {
	uint64_t used_ns[SCHED_ENGINES];
	uint64_t jobs;		  /* done */
	uint64_t frames, missed;  /* frames that were due, and were late or not drawn at all */
	uint64_t dropped;	  /* arrivals beyond what a queue holds */
	uint64_t longest_ns;	  /* charge of one grant */
	struct histogram latency; /* submitted to done */
	struct histogram wait;	  /* submitted to running */
	struct sched_vgpu_stats stats[SCHED_ENGINES];
	struct sim_window *windows; /* of SIM_WINDOW_NS, from the warm-up's end on */
	double lag; /* greatest |C_i/w_i - C_j/w_j| to any j while both were backlogged, over its bound */
	double share_promised; /* of the graphics engine while all are backlogged; 0: nothing */
	uint32_t weight;       /* at the end */
	enum sched_policy policy;
};

struct sim_gpu_result {
	uint64_t busy_ns[SCHED_ENGINES];
	uint64_t idle_wanted_ns[SCHED_ENGINES]; /* idle while somebody's work waited */
	uint64_t switches;
};

struct sim_result {
	uint64_t span_ns; /* what was measured */
	unsigned window_count;
	unsigned settled_window; /* the first after which no promise changed */
	uint64_t decisions;	 /* answers of sched_pick() */
	double seconds;		 /* that the run took */
	unsigned vgpu_count, gpu_count;
	struct sim_vgpu_result *vgpus;
	struct sim_gpu_result gpus[SIM_GPUS_MAX];
};

/* sim_by_weight() - whether vGPUs of @policy divide time among themselves by weight, and can be compared so. */
static inline bool sim_by_weight(enum sched_policy policy)
{
	return policy == SCHED_WEIGHTED || policy == SCHED_EQUAL_SHARE;
}

/* sim_run() - errors: "scenario-too-long", "no-memory", those of the core ("shares over a whole GPU"...). */
int sim_run(const struct sim_scenario *scenario, const struct sim_run_options *options,
	    struct sim_result **out, struct error *e);
void sim_result_free(struct sim_result *result);

#endif
