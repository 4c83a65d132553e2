/* SPDX-License-Identifier: Apache-2.0 */
/* A run as Perfetto and chrome://tracing show it (Trace Event Format, JSON). Private to vgpu-sched/sim/. */
#ifndef VGPU_SCHED_SIM_TIMELINE_H
#define VGPU_SCHED_SIM_TIMELINE_H

#include <stdio.h>

#include "vgpu-sched/sim/scenario.h"

#define TIMELINE_EVENTS_MAX 1000000u

struct sim_timeline {
	FILE *file; /* borrowed */
	const struct sim_scenario *scenario;
	uint64_t events;
};

struct timeline_run {
	unsigned gpu, vgpu;
	enum sched_engine engine;
	uint64_t submitted_ns, start_ns, end_ns;
};

void timeline_begin(struct sim_timeline *timeline);
/* One job: it waited, and it ran. After TIMELINE_EVENTS_MAX nothing more is written. */
void timeline_add(struct sim_timeline *timeline, const struct timeline_run *run);
void timeline_end(struct sim_timeline *timeline);

#endif
