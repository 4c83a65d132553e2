// SPDX-License-Identifier: Apache-2.0
/* Runs as JSON and CSV. Times are in nanoseconds and say so in their names. */
#include "vgpu-sched/sim/report.h"

static json_t *histogram_object(const struct histogram *histogram)
{
	return json_pack("{s:I, s:f, s:I, s:I, s:I, s:I}", "count", (json_int_t)histogram->count,
			 "mean_ns", histogram_mean(histogram), "p50_ns",
			 (json_int_t)histogram_quantile(histogram, 0.5), "p99_ns",
			 (json_int_t)histogram_quantile(histogram, 0.99), "p999_ns",
			 (json_int_t)histogram_quantile(histogram, 0.999), "max_ns",
			 (json_int_t)histogram->max);
}

static json_t *vgpu_object(const struct sim_scenario *scenario, const struct report_run *run,
			   unsigned v)
{
	const struct sim_vgpu_result *vgpu = &run->result->vgpus[v];
	const struct metrics_vgpu *metrics = &run->metrics.vgpus[v];
	const struct sched_vgpu_stats *stats = &vgpu->stats[SCHED_ENGINE_GRAPHICS];
	json_t *object = json_pack(
		"{s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "name",
		scenario->vgpus[v].name, "gpu", scenario->gpus[scenario->vgpus[v].gpu].name,
		"policy", sched_policy_name(vgpu->policy), "weight", (json_int_t)vgpu->weight,
		"share_promised", vgpu->share_promised, "share", metrics->share, "slowdown",
		metrics->slowdown, "progress", metrics->progress, "lag_over_bound", vgpu->lag,
		"jobs", (json_int_t)vgpu->jobs, "frames", (json_int_t)vgpu->frames, "frames_missed",
		(json_int_t)vgpu->missed, "dropped", (json_int_t)vgpu->dropped);
	json_t *used = json_object();

	for (unsigned e = 0; e < SCHED_ENGINES && used; e++)
		json_object_set_new(used, sched_engine_name((enum sched_engine)e),
				    json_integer((json_int_t)vgpu->used_ns[e]));
	json_object_set_new(object, "used_ns", used);
	json_object_set_new(object, "latency", histogram_object(&vgpu->latency));
	json_object_set_new(object, "gate_wait", histogram_object(&vgpu->wait));
	json_object_set_new(
		object, "account",
		json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "grants", (json_int_t)stats->grants,
			  "overrun_ns", (json_int_t)stats->overrun_ns, "surcharge_ns",
			  (json_int_t)stats->surcharge_ns, "debt_ns", (json_int_t)stats->debt_ns,
			  "throttled_ns", (json_int_t)stats->throttled_ns, "credit_ns",
			  (json_int_t)stats->credit_ns));
	return object;
}

static json_t *fairness_object(const struct metrics_fairness *fair)
{
	return json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "vgpus", (int)fair->members,
			 "windows", (int)fair->windows, "jain_mean", fair->jain_mean, "jain_min",
			 fair->jain_min, "min_max_mean", fair->min_max_mean, "min_max_min",
			 fair->min_max_min, "share_error_mean", fair->share_error_mean,
			 "share_error_max", fair->share_error_max);
}

static json_t *gpu_object(const struct sim_scenario *scenario, const struct report_run *run,
			  unsigned g)
{
	static const char *const spans[METRICS_SPANS] = { "100ms", "1s", "10s" };
	json_t *object = json_pack("{s:s, s:f, s:I}", "name", scenario->gpus[g].name,
				   "idle_while_work_waited", run->metrics.idle_wanted[g],
				   "switches", (json_int_t)run->result->gpus[g].switches);
	json_t *busy = json_object(), *fairness = json_object();

	for (unsigned e = 0; e < SCHED_ENGINES && busy; e++)
		json_object_set_new(busy, sched_engine_name((enum sched_engine)e),
				    json_real(run->metrics.utilisation[g][e]));
	for (unsigned i = 0; i < METRICS_SPANS && fairness; i++)
		if (run->metrics.fairness[g][i].windows)
			json_object_set_new(fairness, spans[i],
					    fairness_object(&run->metrics.fairness[g][i]));
	json_object_set_new(object, "utilisation", busy);
	json_object_set_new(object, "fairness", fairness);
	return object;
}

json_t *report_json(const struct sim_scenario *scenario, const struct report_run *runs,
		    unsigned count)
{
	json_t *root = json_pack("{s:s, s:I, s:I, s:I}", "scenario", scenario->name, "seed",
				 (json_int_t)scenario->seed, "duration_ns",
				 (json_int_t)scenario->duration_ns, "warmup_ns",
				 (json_int_t)scenario->warmup_ns);
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++) {
		json_t *vgpus = json_array(), *gpus = json_array();

		for (unsigned v = 0; v < runs[i].result->vgpu_count; v++)
			json_array_append_new(vgpus, vgpu_object(scenario, &runs[i], v));
		for (unsigned g = 0; g < runs[i].result->gpu_count; g++)
			json_array_append_new(gpus, gpu_object(scenario, &runs[i], g));
		json_array_append_new(
			list,
			json_pack("{s:s, s:I, s:f, s:f, s:f, s:o, s:o}", "policy", runs[i].policy,
				  "decisions", (json_int_t)runs[i].result->decisions, "stp",
				  runs[i].metrics.stp, "antt", runs[i].metrics.antt, "unfairness",
				  runs[i].metrics.unfairness, "gpus", gpus, "vgpus", vgpus));
	}
	json_object_set_new(root, "runs", list);
	return root;
}

void report_csv(FILE *out, const struct sim_scenario *scenario, const struct report_run *runs,
		unsigned count)
{
	fprintf(out, "policy,window_start_ns,window_ns,vgpu,used_ns,backlog_ns\n");
	for (unsigned i = 0; i < count; i++)
		for (unsigned w = 0; w < runs[i].result->window_count; w++)
			for (unsigned v = 0; v < runs[i].result->vgpu_count; v++) {
				const struct sim_window *window =
					&runs[i].result->vgpus[v].windows[w];

				fprintf(out, "%s,%llu,%llu,\"%s\",%u,%u\n", runs[i].policy,
					(unsigned long long)(scenario->warmup_ns +
							     w * SIM_WINDOW_NS),
					(unsigned long long)SIM_WINDOW_NS, scenario->vgpus[v].name,
					window->used_ns, window->backlog_ns);
			}
}
