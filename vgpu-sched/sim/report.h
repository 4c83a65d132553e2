/* SPDX-License-Identifier: Apache-2.0 */
/* What a person or a program gets to see of runs. Private to vgpu-sched/sim/. */
#ifndef VGPU_SCHED_SIM_REPORT_H
#define VGPU_SCHED_SIM_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "vgpu-sched/sim/metrics.h"

/* One run, and the words for who decided in it: "as written", "equal_share", "reference-gvtg". */
struct report_run {
	char policy[40];
	struct sim_result *result;
	struct metrics metrics;
};

/* Everything of one run, as tables. */
void report_text(FILE *out, const struct sim_scenario *scenario, const struct report_run *run);
/* Several runs, a line each. */
void report_compare(FILE *out, const struct sim_scenario *scenario, const struct report_run *runs,
		    unsigned count);
/* The same as JSON: a new reference, or NULL when out of memory. The same run gives the same bytes. */
json_t *report_json(const struct sim_scenario *scenario, const struct report_run *runs,
		    unsigned count);
/* A line for each run, window of 100 ms, and vGPU. */
void report_csv(FILE *out, const struct sim_scenario *scenario, const struct report_run *runs,
		unsigned count);
/*
 * report_plot() - shares over time and times to done, drawn by gnuplot(1) into @path: .svg or .png.
 * Errors: "bad-value" (another ending), "no-gnuplot".
 */
int report_plot(const char *path, const struct sim_scenario *scenario,
		const struct report_run *runs, unsigned count, struct error *e);

#endif
