// SPDX-License-Identifier: Apache-2.0
/* Runs of the simulator: the measures are right where they can be known beforehand, and the same seed gives the same run. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vgpu-sched/sim/agenda.h"
#include "vgpu-sched/sim/random.h"
#include "vgpu-sched/sim/report.h"

#define HEAD "name: t\nduration: 11s\nwarmup: 1s\ngpus: [{name: g}]\nvgpus:\n"

struct outcome {
	struct sim_scenario *scenario;
	struct report_run run;
};

static void run_it(struct outcome *outcome, const char *text, enum sched_model model, int policy)
{
	const struct sim_run_options options = { .model = model, .policy = policy, .alone = -1 };
	struct error e = { 0 };

	*outcome = (struct outcome){ .run.policy = "test" };
	if (sim_scenario_parse(text, strlen(text), "t.yaml", &outcome->scenario, &e) ||
	    sim_run(outcome->scenario, &options, &outcome->run.result, &e))
		fail_msg("%s", e.text);
	assert_int_equal(metrics_compute(outcome->scenario, outcome->run.result, NULL,
					 &outcome->run.metrics),
			 0);
}

static void done(struct outcome *outcome)
{
	metrics_free(&outcome->run.metrics);
	sim_result_free(outcome->run.result);
	sim_scenario_free(outcome->scenario);
}

static void one_vgpu_that_never_stops_has_the_whole_gpu(void **state)
{
	struct outcome o;

	run_it(&o, HEAD "  - {name: a, policy: weighted, workloads: [{kind: closed, job: 2ms}]}\n",
	       SCHED_MODEL_DIVVY, -1);
	assert_true(fabs(o.run.metrics.vgpus[0].share - 1) < 1e-9);
	assert_true(fabs(o.run.metrics.utilisation[0][SCHED_ENGINE_GRAPHICS] - 1) < 1e-9);
	assert_int_equal(o.run.result->vgpus[0].jobs, 5000);
	assert_int_equal(histogram_quantile(&o.run.result->vgpus[0].latency, 0.5) / 100000, 20);
	done(&o);
}

static void weights_decide_shares_and_job_lengths_do_not(void **state)
{
	struct outcome o;

	run_it(&o,
	       HEAD
	       "  - {name: a, policy: weighted, weight: 1, workloads: [{kind: closed, job: 10ms}]}\n"
	       "  - {name: b, policy: weighted, weight: 3, workloads: [{kind: closed, job: 1ms}]}\n",
	       SCHED_MODEL_DIVVY, -1);
	assert_true(fabs(o.run.metrics.vgpus[0].share - 0.25) < 0.005);
	assert_true(fabs(o.run.metrics.vgpus[1].share - 0.75) < 0.005);
	assert_int_equal(o.run.metrics.fairness[0][2].windows, 1);
	assert_true(o.run.metrics.fairness[0][2].jain_mean > 0.9999);
	/* The bound holds for every pair at every moment. */
	assert_true(o.run.result->vgpus[0].lag > 0 && o.run.result->vgpus[0].lag <= 1);
	done(&o);
}

static void without_a_scheduler_long_jobs_win(void **state)
{
	struct outcome o;

	run_it(&o,
	       HEAD
	       "  - {name: a, policy: weighted, weight: 1, workloads: [{kind: closed, job: 10ms}]}\n"
	       "  - {name: b, policy: weighted, weight: 3, workloads: [{kind: closed, job: 1ms}]}\n",
	       SCHED_MODEL_REFERENCE_FIFO, -1);
	assert_true(o.run.metrics.vgpus[0].share > 0.9);
	assert_true(o.run.metrics.fairness[0][1].jain_mean < 0.8);
	done(&o);
}

static void a_fixed_share_leaves_the_rest_unused(void **state)
{
	struct outcome o;

	run_it(&o,
	       HEAD
	       "  - {name: a, policy: fixed_share, share: 0.25, workloads: [{kind: closed, job: 1ms}]}\n",
	       SCHED_MODEL_DIVVY, -1);
	assert_true(fabs(o.run.metrics.vgpus[0].share - 0.25) < 0.0026);
	assert_true(o.run.metrics.idle_wanted[0] > 0.7);
	done(&o);
}

/* A job of 30 ms can't be in time for 60 frames a second; of 5 ms it can. */
static void frames_that_are_late_or_not_drawn_are_missed(void **state)
{
	struct outcome o;

	run_it(&o,
	       HEAD
	       "  - {name: a, policy: weighted, workloads: [{kind: frames, rate: 50, job: 30ms}]}\n",
	       SCHED_MODEL_DIVVY, -1);
	assert_true(o.run.metrics.vgpus[0].frames_missed > 0.99);
	assert_true(o.run.result->vgpus[0].frames >= 499 && o.run.result->vgpus[0].frames <= 501);
	done(&o);
	run_it(&o,
	       HEAD
	       "  - {name: a, policy: weighted, workloads: [{kind: frames, rate: 50, job: 5ms}]}\n",
	       SCHED_MODEL_DIVVY, -1);
	assert_true(o.run.metrics.vgpus[0].frames_missed == 0);
	assert_true(fabs(o.run.metrics.vgpus[0].share - 0.25) < 0.002);
	done(&o);
}

static void training_steps_use_the_copy_engine_too(void **state)
{
	struct outcome o;

	run_it(&o,
	       HEAD
	       "  - {name: a, policy: weighted, workloads: [{kind: steps, copy: 2ms, job: 6ms, think: 2ms}]}\n",
	       SCHED_MODEL_DIVVY, -1);
	assert_true(fabs(o.run.metrics.utilisation[0][SCHED_ENGINE_COPY] - 0.2) < 0.002);
	assert_true(fabs(o.run.metrics.utilisation[0][SCHED_ENGINE_GRAPHICS] - 0.6) < 0.002);
	done(&o);
}

static void who_leaves_stops_and_who_joins_later_starts_later(void **state)
{
	struct outcome o;

	run_it(&o,
	       HEAD
	       "  - {name: a, policy: weighted, leave: 6s, workloads: [{kind: closed, job: 1ms}]}\n"
	       "  - {name: b, policy: weighted, join: 6s, workloads: [{kind: closed, job: 1ms}]}\n",
	       SCHED_MODEL_DIVVY, -1);
	assert_true(fabs(o.run.metrics.vgpus[0].share - 0.5) < 0.001);
	assert_true(fabs(o.run.metrics.vgpus[1].share - 0.5) < 0.001);
	done(&o);
}

static void a_change_of_weight_takes_effect_while_it_runs(void **state)
{
	struct outcome o;

	run_it(&o,
	       HEAD "  - {name: a, policy: weighted, workloads: [{kind: closed, job: 1ms}]}\n"
		    "  - {name: b, policy: weighted, workloads: [{kind: closed, job: 1ms}]}\n"
		    "changes:\n  - {at: 6s, vgpu: b, weight: 300}\n",
	       SCHED_MODEL_DIVVY, -1);
	/* 5 s at a half, 5 s at three quarters */
	assert_true(fabs(o.run.metrics.vgpus[1].share - 0.625) < 0.005);
	/* Fairness is judged from the change on. */
	assert_int_equal(o.run.metrics.fairness[0][1].windows, 5);
	assert_true(o.run.metrics.fairness[0][1].jain_mean > 0.9999);
	done(&o);
}

static void a_trace_is_replayed(void **state)
{
	static const char csv[] =
		"when_ns,vgpu,engine,waited_ns,ran_ns\n5000000000,x,graphics,0,4000000\n"
		"7000000000,x,graphics,0,6000000\n";
	char path[] = "/tmp/divvy-trace-XXXXXX", text[512];
	struct outcome o;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(pwrite_full(fd, csv, strlen(csv), 0), 0);
	snprintf(
		text, sizeof(text),
		HEAD
		"  - {name: a, policy: weighted, workloads: [{kind: trace, trace: %s, start: 2s}]}\n",
		path);
	run_it(&o, text, SCHED_MODEL_DIVVY, -1);
	assert_int_equal(o.run.result->vgpus[0].jobs, 2);
	assert_int_equal(o.run.result->vgpus[0].used_ns[SCHED_ENGINE_GRAPHICS], 10000000);
	/* The first arrives at 2 s, the second 2 s later: windows of 100 ms from 1 s on. */
	assert_int_equal(o.run.result->vgpus[0].windows[10].used_ns, 4000000);
	assert_int_equal(o.run.result->vgpus[0].windows[30].used_ns, 6000000);
	done(&o);
	close(fd);
	unlink(path);
}

static char *json_of(unsigned seed)
{
	char text[1024], *out;
	struct outcome o;
	json_t *json;

	snprintf(
		text, sizeof(text),
		"name: t\nseed: %u\nduration: 5s\ngpus: [{name: g, switch: 50us}]\nvgpus:\n"
		"  - {name: a, count: 3, policy: weighted, workloads: [{kind: open, rate: 200, job: exponential 1ms}]}\n"
		"  - {name: b, policy: burst, share: 0.1, workloads: [{kind: bursts, on: 1s, off: 1s, job: pareto 1ms 1.2 50ms}]}\n",
		seed);
	run_it(&o, text, SCHED_MODEL_DIVVY, -1);
	json = report_json(o.scenario, &o.run, 1);
	out = json_dumps(json, 0);
	json_decref(json);
	done(&o);
	return out;
}

static void the_same_seed_gives_the_same_run_and_another_does_not(void **state)
{
	char *a = json_of(5), *b = json_of(5), *c = json_of(6);

	assert_string_equal(a, b);
	assert_string_not_equal(a, c);
	free(a);
	free(b);
	free(c);
}

static void quantiles_are_within_a_sixtyfourth(void **state)
{
	static struct histogram histogram;

	for (uint64_t i = 1; i <= 100000; i++)
		histogram_add(&histogram, i * 1000);
	for (unsigned i = 1; i < 1000; i++) {
		double exact = i * 100000.0,
		       found = (double)histogram_quantile(&histogram, i / 1000.0);

		assert_true(found >= exact - 1000 && found <= exact * (1 + 1.0 / 64) + 1000);
	}
	assert_int_equal(histogram_quantile(&histogram, 1), 100000000);
}

static void events_come_in_order_of_time_then_of_adding(void **state)
{
	struct agenda agenda = { 0 };
	struct agenda_item item, last = { 0 };
	struct sim_random random;

	sim_random_seed(&random, 1, 1);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(agenda_add(&agenda, sim_random_below(&random, 100), 0, i, 0), 0);
	for (unsigned i = 0; i < 5000; i++) {
		assert_true(agenda_next(&agenda, &item));
		assert_true(!i || item.at_ns > last.at_ns ||
			    (item.at_ns == last.at_ns && item.a > last.a));
		last = item;
	}
	assert_false(agenda_next(&agenda, &item));
	agenda_free(&agenda);
}

static void lengths_have_the_mean_that_was_asked_for(void **state)
{
	static const struct {
		const char *text;
		double mean;
	} cases[] = { { "3ms", 3e6 },
		      { "uniform 1ms 5ms", 3e6 },
		      { "exponential 3ms", 3e6 },
		      { "pareto 1ms 3 1h", 1.5e6 },
		      { "lognormal 2ms 0.5 1h", 2e6 * 1.1331 } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sim_length length;
		struct sim_random random;
		double sum = 0;

		assert_int_equal(sim_length_parse(cases[i].text, &length), 0);
		sim_random_seed(&random, 3, i);
		for (unsigned n = 0; n < 200000; n++)
			sum += (double)sim_random_length(&random, &length);
		assert_true(fabs(sum / 200000 / cases[i].mean - 1) < 0.02);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_vgpu_that_never_stops_has_the_whole_gpu),
		cmocka_unit_test(weights_decide_shares_and_job_lengths_do_not),
		cmocka_unit_test(without_a_scheduler_long_jobs_win),
		cmocka_unit_test(a_fixed_share_leaves_the_rest_unused),
		cmocka_unit_test(frames_that_are_late_or_not_drawn_are_missed),
		cmocka_unit_test(training_steps_use_the_copy_engine_too),
		cmocka_unit_test(who_leaves_stops_and_who_joins_later_starts_later),
		cmocka_unit_test(a_change_of_weight_takes_effect_while_it_runs),
		cmocka_unit_test(a_trace_is_replayed),
		cmocka_unit_test(the_same_seed_gives_the_same_run_and_another_does_not),
		cmocka_unit_test(quantiles_are_within_a_sixtyfourth),
		cmocka_unit_test(events_come_in_order_of_time_then_of_adding),
		cmocka_unit_test(lengths_have_the_mean_that_was_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
