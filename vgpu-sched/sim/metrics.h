/* SPDX-License-Identifier: Apache-2.0 */
/* What a run means, in the field's measures (docs/simulator.md defines each). Private to vgpu-sched/sim/. */
#ifndef VGPU_SCHED_SIM_METRICS_H
#define VGPU_SCHED_SIM_METRICS_H

#include "vgpu-sched/sim/run.h"

/* 100 ms, 1 s, 10 s, in windows of the run. */
#define METRICS_SPANS 3
extern const unsigned metrics_span_windows[METRICS_SPANS];

/*
 * Of the vGPUs of one GPU that share by weight (or, where fewer than two do, of those with a fixed share), over the windows in
 * which all of them had work all the time, from the last change of a promise on. x_i is what i got over what it was promised.
 */
struct metrics_fairness {
	unsigned members, windows;	  /* 0 windows: nothing to say */
	double jain_mean, jain_min;	  /* (sum x)^2 / (n sum x^2) */
	double min_max_mean, min_max_min; /* least x over greatest */
	double share_error_mean,
		share_error_max; /* |share in the group / promised share in it - 1| */
};

struct metrics_vgpu {
	double share;	      /* of the graphics engine, 0 to 1 */
	double slowdown;      /* mean time to done here over that alone; 0: not known */
	double progress;      /* jobs here over those alone */
	double frames_missed; /* 0 to 1; -1: draws no frames */
};

struct metrics {
	double utilisation[SIM_GPUS_MAX][SCHED_ENGINES];
	double idle_wanted
		[SIM_GPUS_MAX]; /* work-conservation loss: idle while work waited, all engines together */
	struct metrics_fairness fairness[SIM_GPUS_MAX][METRICS_SPANS];
	double stp, antt, unfairness; /* 0: not known */
	struct metrics_vgpu *vgpus;
};

/*
 * metrics_compute() - @alone: for each entry of the file, the result of one of its vGPUs running alone; NULL: none.
 * Returns 0 or -ENOMEM.
 */
int metrics_compute(const struct sim_scenario *scenario, const struct sim_result *result,
		    struct sim_result *const *alone, struct metrics *metrics);
void metrics_free(struct metrics *metrics);

#endif
