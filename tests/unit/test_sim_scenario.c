// SPDX-License-Identifier: Apache-2.0
/* Scenario and trace files: what is right is read as written; what is wrong is named with its line and key. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vgpu-sched/sim/scenario.h"

#define HEAD \
	"name: t\nduration: 10s\nwarmup: 1s\nseed: 9\ngpus:\n  - name: g\n    depth: 2\nvgpus:\n"
#define ONE \
	"  - name: a\n    policy: weighted\n    weight: 3\n    workloads:\n      - kind: closed\n        job: 2ms\n"

static int parse(const char *text, struct sim_scenario **scenario, struct error *e)
{
	return sim_scenario_parse(text, strlen(text), "t.yaml", scenario, e);
}

static void a_scenario_is_read_as_written(void **state)
{
	static const char text[] = HEAD ONE
		"  - name: b\n    count: 3\n    policy: burst\n    share: 0.2\n    credits: {initial: 0.5, max: 2}\n"
		"    join: 2s\n    workloads:\n      - kind: frames\n        rate: 60\n        job: uniform 1ms 5ms\n"
		"        engine: video\nchanges:\n  - at: 5s\n    vgpu: b-2\n    share: 0.1\n";
	struct sim_scenario *scenario;
	struct error e = { 0 };

	assert_int_equal(parse(text, &scenario, &e), 0);
	assert_string_equal(scenario->name, "t");
	assert_true(scenario->duration_ns == 10 * NSEC_PER_SEC &&
		    scenario->warmup_ns == NSEC_PER_SEC);
	assert_int_equal(scenario->seed, 9);
	assert_int_equal(scenario->gpus[0].depth, 2);
	assert_int_equal(scenario->vgpu_count, 4);
	assert_int_equal(scenario->vgpus[0].weight, 3);
	assert_int_equal(scenario->vgpus[0].workloads[0].job.a_ns, 2000000);
	assert_string_equal(scenario->vgpus[2].name, "b-2");
	assert_int_equal(scenario->vgpus[2].definition, 1);
	assert_int_equal(scenario->vgpus[2].policy, SCHED_BURST);
	assert_true(scenario->vgpus[2].credits == 0.5 && scenario->vgpus[2].credits_max == 2);
	assert_true(scenario->vgpus[2].join_ns == 2 * NSEC_PER_SEC);
	assert_int_equal(scenario->vgpus[2].workloads[0].engine, SCHED_ENGINE_VIDEO);
	assert_int_equal(scenario->vgpus[2].workloads[0].job.shape, SIM_UNIFORM);
	assert_int_equal(scenario->vgpus[2].workloads[0].deadline_ns, 16666666);
	assert_int_equal(scenario->change_count, 1);
	assert_int_equal(scenario->changes[0].vgpu, 2);
	assert_int_equal(scenario->changes[0].weight, -1);
	sim_scenario_free(scenario);
}

static void what_is_wrong_is_named_with_its_line_and_key(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "t.yaml" },
		{ "name: t\n", "t.yaml:" },
		{ HEAD ONE "colour: red\n", "t.yaml:15: " },
		{ HEAD "  - name: a\n    polcy: weighted\n", "t.yaml:10: " },
		{ "name: t\nduration: ten\ngpus: [{name: g}]\nvgpus:\n" ONE,
		  "t.yaml:2: duration: \"ten\" is not a time" },
		{ "name: t\nduration: -5s\ngpus: [{name: g}]\nvgpus:\n" ONE,
		  "t.yaml:2: duration: " },
		{ "name: t\nduration: 0s\ngpus: [{name: g}]\nvgpus:\n" ONE,
		  "t.yaml:2: duration: it lasts no time" },
		{ "name: t\nduration: 900h\ngpus: [{name: g}]\nvgpus:\n" ONE,
		  "t.yaml:2: duration: " },
		{ "name: t\nduration: 1s\nwarmup: 1s\ngpus: [{name: g}]\nvgpus:\n" ONE,
		  "t.yaml:3: warmup: " },
		{ "name: t\nduration: 1s\ngpus: [{name: g, depth: 0}]\nvgpus:\n" ONE,
		  "t.yaml:3: gpus.0.depth: 0 is not" },
		{ "name: t\nduration: 1s\ngpus:\n  - name: g\n  - name: g\nvgpus:\n" ONE,
		  "t.yaml:5: gpus.1.name: \"g\" is there twice" },
		{ HEAD
		  "  - name: a\n    policy: generous\n    workloads: [{kind: closed, job: 1ms}]\n",
		  "t.yaml:10: " },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    weight: 0\n    workloads: [{kind: closed, job: 1ms}]\n",
		  "t.yaml:11: vgpus.0.weight: 0 is not from 1" },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    weight: -4\n    workloads: [{kind: closed, job: 1ms}]\n",
		  "t.yaml:11: " },
		{ HEAD
		  "  - name: a\n    policy: fixed_share\n    share: 1.5\n    workloads: [{kind: closed, job: 1ms}]\n",
		  "t.yaml:11: vgpus.0.share: 1.5 is not from" },
		{ HEAD
		  "  - name: a\n    policy: fixed_share\n    workloads: [{kind: closed, job: 1ms}]\n",
		  "t.yaml:9: vgpus.0: needs a share" },
		{ HEAD
		  "  - name: a\n    count: 3\n    policy: fixed_share\n    share: 0.4\n    workloads: [{kind: closed, job: 1ms}]\n",
		  "add up to 1.2, over one whole GPU" },
		{ HEAD
		  "  - name: a\n    policy: equal_share\n    weight: 2\n    workloads: [{kind: closed, job: 1ms}]\n",
		  "t.yaml:11: vgpus.0.weight: means nothing but for weighted" },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    gpu: h\n    workloads: [{kind: closed, job: 1ms}]\n",
		  "t.yaml:11: vgpus.0.gpu: no GPU is named \"h\"" },
		{ HEAD ONE ONE, "vgpus.1.name: \"a\" is there twice" },
		{ HEAD "  - name: a\n    policy: weighted\n    workloads:\n      - kind: closed\n",
		  "t.yaml:12: vgpus.0.workloads.0: a job's length is missing" },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    workloads:\n      - kind: open\n        job: 1ms\n",
		  "t.yaml:12: vgpus.0.workloads.0: needs a rate" },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    workloads:\n      - kind: closed\n        job: 1ms\n        rate: 5\n",
		  "t.yaml:14: vgpus.0.workloads.0.rate: means nothing but" },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    workloads:\n      - kind: closed\n        job: about 1ms\n",
		  "t.yaml:13: vgpus.0.workloads.0.job: \"about 1ms\" is not a length" },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    workloads:\n      - kind: closed\n        job: uniform 5ms 1ms\n",
		  "t.yaml:13: " },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    workloads:\n      - kind: closed\n        job: 1ms\n        in_flight: 100000\n",
		  "t.yaml:14: " },
		{ HEAD
		  "  - name: a\n    policy: weighted\n    workloads:\n      - kind: trace\n        trace: /nonexistent\n",
		  "t.yaml:13: vgpus.0.workloads.0.trace: /nonexistent: No such file" },
		{ HEAD ONE "changes:\n  - at: 5s\n    vgpu: z\n    weight: 2\n",
		  "t.yaml:17: changes.0.vgpu: no vGPU is named \"z\"" },
		{ HEAD ONE "changes:\n  - at: 5s\n    vgpu: a\n    policy: fixed_share\n",
		  "changes.0: needs a share" },
		{ HEAD ONE
		  "changes:\n  - {at: 5s, vgpu: a, weight: 2}\n  - {at: 4s, vgpu: a, weight: 1}\n",
		  "changes.1.at: changes are listed in order" },
		{ "name: t\nduration: [1s\n", "t.yaml:" },
		{ "a: &x [1,2]\nb: *x\n", "t.yaml:" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sim_scenario *scenario = (void *)1;
		struct error e = { 0 };

		assert_int_not_equal(parse(cases[i].text, &scenario, &e), 0);
		assert_null(scenario);
		if (!strstr(e.text, cases[i].says))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, cases[i].says);
	}
}

/* Every beginning of a good file is either refused in words or good itself. */
static void a_cut_scenario_is_refused_in_words(void **state)
{
	static const char text[] = HEAD ONE;

	for (size_t size = 0; size < strlen(text); size++) {
		struct sim_scenario *scenario = NULL;
		struct error e = { 0 };

		if (sim_scenario_parse(text, size, "t.yaml", &scenario, &e))
			assert_memory_equal(e.text, "t.yaml", 6);
		sim_scenario_free(scenario);
	}
}

static void times_and_lengths_are_what_people_write(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = { { "2ms", 2000000 },
		     { "16.7 ms", 16700000 },
		     { "1min", 60 * NSEC_PER_SEC },
		     { "0", 0 },
		     { "3ns", 3 } };
	static const char *const bad[] = { "",	     "ms",    "2",     "-2ms", "2 parsecs",
					   "0x10ms", "inf s", "1e3ms", "25h",  "1.2.3s" };
	struct sim_length length;
	uint64_t ns;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(sim_duration_parse(good[i].text, &ns), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(sim_duration_parse(bad[i], &ns), -EINVAL);
	assert_int_equal(sim_length_parse("pareto 1ms 1.5 50ms", &length), 0);
	assert_true(length.shape == SIM_PARETO && length.parameter == 1.5 &&
		    length.b_ns == 50000000);
	assert_int_equal(sim_length_parse("pareto 1ms 1.5", &length), -EINVAL);
	assert_int_equal(sim_length_parse("lognormal 1ms nan 5ms", &length), -EINVAL);
	assert_int_equal(sim_length_parse("exponential 1ms 2ms", &length), -EINVAL);
}

static void a_trace_gives_arrivals_and_lengths_of_one_vgpu(void **state)
{
	static const char text[] =
		"vgpu,when_ns,engine,waited_ns,target_ns,ran_ns\n"
		"a,5000,graphics,1000,9,300\nb,5500,copy,0,9,50\r\na,4500,video,2500,9,70\n\n";
	struct sim_trace_job *jobs;
	struct error e = { 0 };
	unsigned count;

	assert_int_equal(sim_trace_parse(text, strlen(text), "t.csv", "a", &jobs, &count, &e), 0);
	assert_int_equal(count, 2);
	/* In order of arrival, the first at 0. */
	assert_true(jobs[0].at_ns == 0 && jobs[0].length_ns == 70 &&
		    jobs[0].engine == SCHED_ENGINE_VIDEO);
	assert_true(jobs[1].at_ns == 2000 && jobs[1].length_ns == 300 &&
		    jobs[1].engine == SCHED_ENGINE_GRAPHICS);
	free(jobs);
}

static void a_wrong_trace_is_named_with_its_line(void **state)
{
#define COLUMNS "when_ns,vgpu,engine,waited_ns,ran_ns\n"
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "t.csv:1: no column when_ns" },
		{ "when_ns,vgpu\n", "t.csv:1: no column engine" },
		{ COLUMNS, "no turn" },
		{ COLUMNS "1,a,graphics,0,5\n2,a,graphics,0\n", "t.csv:3: the line is cut" },
		{ COLUMNS "1,a,graphics,0,-5\n", "t.csv:2: ran_ns: \"-5\" is not" },
		{ COLUMNS "x,a,graphics,0,5\n", "t.csv:2: when_ns: \"x\"" },
		{ COLUMNS "1,a,quantum,0,5\n", "t.csv:2: engine" },
		{ COLUMNS "1,a,graphics,2,5\n", "t.csv:2: it waited since before" },
		{ COLUMNS "1,a,graphics,0,99999999999999999\n",
		  "t.csv:2: ran_ns: more than a day" },
		{ COLUMNS "1,a,graphics,0,99999999999999999999999\n", "t.csv:2: ran_ns" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sim_trace_job *jobs;
		struct error e = { 0 };
		unsigned count;

		assert_int_not_equal(sim_trace_parse(cases[i].text, strlen(cases[i].text), "t.csv",
						     "", &jobs, &count, &e),
				     0);
		if (!strstr(e.text, cases[i].says))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, cases[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_scenario_is_read_as_written),
		cmocka_unit_test(what_is_wrong_is_named_with_its_line_and_key),
		cmocka_unit_test(a_cut_scenario_is_refused_in_words),
		cmocka_unit_test(times_and_lengths_are_what_people_write),
		cmocka_unit_test(a_trace_gives_arrivals_and_lengths_of_one_vgpu),
		cmocka_unit_test(a_wrong_trace_is_named_with_its_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
