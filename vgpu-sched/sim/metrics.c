// SPDX-License-Identifier: Apache-2.0
/* What a run means (metrics.h). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "vgpu-sched/sim/metrics.h"

const unsigned metrics_span_windows[METRICS_SPANS] = { 1, 10, 100 };

/* Who is compared on GPU @g: their indexes in @members. */
static unsigned group_of(const struct sim_scenario *scenario, const struct sim_result *result,
			 unsigned g, unsigned *members)
{
	unsigned count = 0;

	for (unsigned i = 0; i < result->vgpu_count; i++)
		if (scenario->vgpus[i].gpu == g && sim_by_weight(result->vgpus[i].policy))
			members[count++] = i;
	if (count >= 2)
		return count;
	count = 0;
	for (unsigned i = 0; i < result->vgpu_count; i++)
		if (scenario->vgpus[i].gpu == g && result->vgpus[i].policy == SCHED_FIXED_SHARE)
			members[count++] = i;
	return count >= 2 ? count : 0;
}

static bool window_counts(const struct sim_result *result, const unsigned *members, unsigned count,
			  unsigned first, unsigned span, double *used)
{
	for (unsigned m = 0; m < count; m++) {
		const struct sim_window *windows = &result->vgpus[members[m]].windows[first];

		used[m] = 0;
		for (unsigned i = 0; i < span; i++) {
			if (windows[i].backlog_ns != SIM_WINDOW_NS)
				return false;
			used[m] += windows[i].used_ns;
		}
	}
	return true;
}

static void fairness(const struct sim_result *result, const unsigned *members, unsigned count,
		     unsigned span, double *used, struct metrics_fairness *out)
{
	double promised_all = 0;

	*out = (struct metrics_fairness){ .members = count, .jain_min = 1, .min_max_min = 1 };
	for (unsigned m = 0; m < count; m++)
		promised_all += result->vgpus[members[m]].share_promised;
	for (unsigned first = result->settled_window; count && first + span <= result->window_count;
	     first += span) {
		double sum = 0, squares = 0, least = INFINITY, most = 0, error = 0, used_all = 0,
		       jain, min_max;

		if (!window_counts(result, members, count, first, span, used))
			continue;
		for (unsigned m = 0; m < count; m++) {
			double x = used[m] / result->vgpus[members[m]].share_promised;

			sum += x;
			squares += x * x;
			least = fmin(least, x);
			most = fmax(most, x);
			used_all += used[m];
		}
		if (!(most > 0))
			continue;
		for (unsigned m = 0; m < count; m++)
			error = fmax(error, fabs(used[m] / used_all /
							 (result->vgpus[members[m]].share_promised /
							  promised_all) -
						 1));
		jain = sum * sum / (count * squares);
		min_max = least / most;
		out->windows++;
		out->jain_mean += jain;
		out->min_max_mean += min_max;
		out->share_error_mean += error;
		out->jain_min = fmin(out->jain_min, jain);
		out->min_max_min = fmin(out->min_max_min, min_max);
		out->share_error_max = fmax(out->share_error_max, error);
	}
	if (out->windows) {
		out->jain_mean /= out->windows;
		out->min_max_mean /= out->windows;
		out->share_error_mean /= out->windows;
	}
}

static void slowdowns(const struct sim_scenario *scenario, const struct sim_result *result,
		      struct sim_result *const *alone, struct metrics *metrics)
{
	double least = INFINITY, most = 0, sum = 0;
	unsigned count = 0;

	for (unsigned i = 0; i < result->vgpu_count; i++) {
		const unsigned definition = scenario->vgpus[i].definition;
		const struct sim_vgpu_result *own, *here = &result->vgpus[i];

		if (!alone[definition])
			continue;
		/* Of each entry its first vGPU was run alone. */
		own = NULL;
		for (unsigned j = 0; j < result->vgpu_count && !own; j++)
			if (scenario->vgpus[j].definition == definition)
				own = &alone[definition]->vgpus[j];
		if (!own->jobs || !here->jobs || !(histogram_mean(&own->latency) > 0))
			continue;
		metrics->vgpus[i].slowdown =
			histogram_mean(&here->latency) / histogram_mean(&own->latency);
		metrics->vgpus[i].progress = (double)here->jobs / (double)own->jobs;
		metrics->stp += metrics->vgpus[i].progress;
		sum += metrics->vgpus[i].slowdown;
		least = fmin(least, metrics->vgpus[i].slowdown);
		most = fmax(most, metrics->vgpus[i].slowdown);
		count++;
	}
	if (count) {
		metrics->antt = sum / count;
		metrics->unfairness = most / least;
	}
}

int metrics_compute(const struct sim_scenario *scenario, const struct sim_result *result,
		    struct sim_result *const *alone, struct metrics *metrics)
{
	unsigned *members = calloc(result->vgpu_count, sizeof(*members));
	double *used = calloc(result->vgpu_count, sizeof(*used));
	const double span = (double)result->span_ns;

	*metrics = (struct metrics){ .vgpus = calloc(result->vgpu_count, sizeof(*metrics->vgpus)) };
	if (!members || !used || !metrics->vgpus) {
		free(members);
		free(used);
		metrics_free(metrics);
		return -ENOMEM;
	}
	for (unsigned g = 0; g < result->gpu_count; g++) {
		unsigned count = group_of(scenario, result, g, members);

		for (unsigned i = 0; i < METRICS_SPANS; i++)
			fairness(result, members, count, metrics_span_windows[i], used,
				 &metrics->fairness[g][i]);
		for (unsigned e = 0; e < SCHED_ENGINES; e++) {
			metrics->utilisation[g][e] = (double)result->gpus[g].busy_ns[e] / span;
			metrics->idle_wanted[g] += (double)result->gpus[g].idle_wanted_ns[e] / span;
		}
	}
	for (unsigned i = 0; i < result->vgpu_count; i++) {
		const struct sim_vgpu_result *vgpu = &result->vgpus[i];

		metrics->vgpus[i].share = (double)vgpu->used_ns[SCHED_ENGINE_GRAPHICS] / span;
		metrics->vgpus[i].frames_missed =
			vgpu->frames ? (double)vgpu->missed / (double)vgpu->frames : -1;
	}
	if (alone)
		slowdowns(scenario, result, alone, metrics);
	free(used);
	free(members);
	return 0;
}

void metrics_free(struct metrics *metrics)
{
	free(metrics->vgpus);
	metrics->vgpus = NULL;
}
