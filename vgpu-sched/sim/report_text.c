// SPDX-License-Identifier: Apache-2.0
/* Runs as tables for a terminal of 120 columns. */
#include <string.h>

#include "vgpu-sched/sim/report.h"

/* "1.23 ms": three digits that count, in the unit that suits. */
static const char *duration(char text[16], double ns)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = { { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 } };
	unsigned i = 0;

	while (i < ARRAY_SIZE(units) - 1 && ns < units[i].ns)
		i++;
	snprintf(text, 16, "%.3g %s",
		 ns / units[i].ns < 999.5 ? ns / units[i].ns : (double)(long)(ns / units[i].ns),
		 units[i].name);
	return text;
}

static const char *percent(char text[16], double value, bool known)
{
	if (known)
		snprintf(text, 16, "%.2f %%", 100 * value);
	else
		strcpy(text, "-");
	return text;
}

static const char *ratio(char text[16], double value)
{
	if (value > 0)
		snprintf(text, 16, "%.3f", value);
	else
		strcpy(text, "-");
	return text;
}

static double quantile(const struct histogram *histogram, double q)
{
	return (double)histogram_quantile(histogram, q);
}

static void vgpu_lines(FILE *out, const struct sim_scenario *scenario, const struct report_run *run)
{
	char a[16], b[16], c[16], d[16], f[16], g[16], h[16], i[16];

	fprintf(out, "%-16s %-11s %9s %9s %8s %9s %9s %9s %9s %9s %9s\n", "vGPU", "policy",
		"promised", "got", "jobs/s", "p50", "p99", "p99.9", "wait p99", "missed",
		"slowdown");
	for (unsigned v = 0; v < run->result->vgpu_count; v++) {
		const struct sim_vgpu_result *vgpu = &run->result->vgpus[v];
		const struct metrics_vgpu *metrics = &run->metrics.vgpus[v];

		fprintf(out, "%-16.16s %-11s %9s %9s %8.1f %9s %9s %9s %9s %9s %9s\n",
			scenario->vgpus[v].name, sched_policy_name(vgpu->policy),
			percent(a, vgpu->share_promised, vgpu->share_promised > 0),
			percent(b, metrics->share, true),
			(double)vgpu->jobs * 1e9 / (double)run->result->span_ns,
			duration(c, quantile(&vgpu->latency, 0.5)),
			duration(d, quantile(&vgpu->latency, 0.99)),
			duration(f, quantile(&vgpu->latency, 0.999)),
			duration(g, quantile(&vgpu->wait, 0.99)),
			percent(h, metrics->frames_missed, metrics->frames_missed >= 0),
			ratio(i, metrics->slowdown));
	}
}

static void account_lines(FILE *out, const struct sim_scenario *scenario,
			  const struct report_run *run)
{
	char a[16], b[16], c[16], d[16], f[16], g[16];

	fprintf(out, "\n%-16s %12s %12s %12s %12s %12s %10s %9s\n", "vGPU", "used", "overrun",
		"debt at end", "throttled", "credits", "lag/bound", "dropped");
	for (unsigned v = 0; v < run->result->vgpu_count; v++) {
		const struct sim_vgpu_result *vgpu = &run->result->vgpus[v];
		const struct sched_vgpu_stats *stats = &vgpu->stats[SCHED_ENGINE_GRAPHICS];

		snprintf(f, sizeof(f), "%.4f", (double)stats->credit_ns / (double)SCHED_CREDIT_NS);
		fprintf(out, "%-16.16s %12s %12s %12s %12s %12s %10s %9llu\n",
			scenario->vgpus[v].name,
			duration(a, (double)vgpu->used_ns[SCHED_ENGINE_GRAPHICS]),
			duration(b, (double)stats->overrun_ns), duration(c, (double)stats->debt_ns),
			duration(d, (double)stats->throttled_ns),
			vgpu->policy == SCHED_BURST ? f : "-", ratio(g, vgpu->lag),
			(unsigned long long)vgpu->dropped);
	}
}

static void gpu_lines(FILE *out, const struct sim_scenario *scenario, const struct report_run *run)
{
	static const char *const spans[METRICS_SPANS] = { "100 ms", "1 s", "10 s" };
	char a[16], b[16], c[16], d[16];

	for (unsigned g = 0; g < run->result->gpu_count; g++) {
		const double *busy = run->metrics.utilisation[g];

		fprintf(out,
			"\n%s: busy: graphics %s, copy %s, video %s; idle while work waited %s; %llu changes of vGPU\n",
			scenario->gpus[g].name, percent(a, busy[0], true),
			percent(b, busy[1], true), percent(c, busy[2], true),
			percent(d, run->metrics.idle_wanted[g], true),
			(unsigned long long)run->result->gpus[g].switches);
		for (unsigned i = 0; i < METRICS_SPANS; i++) {
			const struct metrics_fairness *fair = &run->metrics.fairness[g][i];

			if (!fair->windows)
				continue;
			fprintf(out,
				"  over %6s (%u windows, %u vGPUs busy): Jain %.5f, worst %.5f; min/max %.3f, worst %.3f; "
				"share error %s, worst %s\n",
				spans[i], fair->windows, fair->members, fair->jain_mean,
				fair->jain_min, fair->min_max_mean, fair->min_max_min,
				percent(a, fair->share_error_mean, true),
				percent(b, fair->share_error_max, true));
		}
	}
	if (run->metrics.antt > 0)
		fprintf(out,
			"STP %.3f of %u, ANTT %.3f, unfairness (greatest slowdown over least) %.3f\n",
			run->metrics.stp, run->result->vgpu_count, run->metrics.antt,
			run->metrics.unfairness);
}

void report_text(FILE *out, const struct sim_scenario *scenario, const struct report_run *run)
{
	fprintf(out, "%s: %.4g s after %.4g s of warm-up, seed %llu; who decides: %s\n\n",
		scenario->name, (double)run->result->span_ns / 1e9,
		(double)scenario->warmup_ns / 1e9, (unsigned long long)scenario->seed, run->policy);
	vgpu_lines(out, scenario, run);
	account_lines(out, scenario, run);
	gpu_lines(out, scenario, run);
}

/* The worst of all GPUs in the field's usual window, 1 s. */
static const struct metrics_fairness *worst(const struct report_run *run)
{
	const struct metrics_fairness *found = NULL;

	for (unsigned g = 0; g < run->result->gpu_count; g++) {
		const struct metrics_fairness *fair = &run->metrics.fairness[g][1];

		if (fair->windows && (!found || fair->jain_mean < found->jain_mean))
			found = fair;
	}
	return found;
}

void report_compare(FILE *out, const struct sim_scenario *scenario, const struct report_run *runs,
		    unsigned count)
{
	char a[16], b[16], c[16], d[16], f[16], g[16];

	fprintf(out, "\n%s, side by side\n%-32s %8s %10s %9s %9s %9s %8s %8s %10s  %s\n",
		scenario->name, "who decides", "busy", "share err", "Jain 1 s", "min/max", "missed",
		"STP", "ANTT", "unfairness", "worst p99 (whose)");
	for (unsigned i = 0; i < count; i++) {
		const struct report_run *run = &runs[i];
		const struct metrics_fairness *fair = worst(run);
		double busy = 0, missed = -1, p99 = -1;
		unsigned whose = 0;

		for (unsigned gpu = 0; gpu < run->result->gpu_count; gpu++)
			busy += run->metrics.utilisation[gpu][SCHED_ENGINE_GRAPHICS] /
				run->result->gpu_count;
		for (unsigned v = 0; v < run->result->vgpu_count; v++) {
			double value = quantile(&run->result->vgpus[v].latency, 0.99);

			missed = MAX(missed, run->metrics.vgpus[v].frames_missed);
			if (value > p99) {
				p99 = value;
				whose = v;
			}
		}
		fprintf(out, "%-32s %8s %10s %9s %9s %9s %8.3f %8.3f %10.3f  %s (%s)\n",
			run->policy, percent(a, busy, true),
			percent(b, fair ? fair->share_error_mean : 0, fair != NULL),
			ratio(c, fair ? fair->jain_mean : 0),
			ratio(d, fair ? fair->min_max_mean : 0), percent(f, missed, missed >= 0),
			run->metrics.stp, run->metrics.antt, run->metrics.unfairness,
			duration(g, p99), scenario->vgpus[whose].name);
	}
}
