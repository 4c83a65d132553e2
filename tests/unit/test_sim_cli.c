// SPDX-License-Identifier: Apache-2.0
/* `divvy sim` as a person calls it, over the scenarios that come with Divvy; each shows what its page says. Run from the top. */
#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "instances/cli/cli.h"

#define SCENARIOS "vgpu-sched/scenarios/"

/* Runs `divvy sim WORD...`; its output in @text, for free(). */
static int sim_words(char **text, unsigned count, const char *const *words)
{
	char *argv[16] = { (char[]){ "divvy" }, (char[]){ "sim" } };
	size_t size;
	FILE *out = open_memstream(text, &size);
	int argc = 2, status;

	assert_true(count < ARRAY_SIZE(argv) - 2);
	for (unsigned i = 0; i < count; i++)
		argv[argc++] = strdup(words[i]);
	status = cli_main(argc, argv, out);
	fclose(out);
	while (argc > 2)
		free(argv[--argc]);
	return status;
}
#define sim(text, ...)                                                                \
	sim_words(text, ARRAY_SIZE(((const char *const[]){ "", ##__VA_ARGS__ })) - 1, \
		  (const char *const[]){ "", ##__VA_ARGS__ } + 1)

static json_t *run_of(json_t *report, const char *policy)
{
	json_t *run;
	size_t i;

	json_array_foreach(json_object_get(report, "runs"), i,
			   run) if (!strcmp(json_string_value(json_object_get(run, "policy")),
					    policy)) return run;
	fail_msg("no run of %s", policy);
	return NULL;
}

static double value(json_t *run, const char *vgpu, const char *key)
{
	json_t *item;
	size_t i;

	json_array_foreach(
		json_object_get(run, "vgpus"), i,
		item) if (!strcmp(json_string_value(json_object_get(item, "name")),
				  vgpu)) return json_number_value(json_object_get(item, key));
	fail_msg("no vGPU %s", vgpu);
	return 0;
}

static json_t *report(const char *scenario, const char *compare)
{
	json_t *json;
	char *text;

	assert_int_equal(sim(&text, scenario, compare, "--json"), CLI_OK);
	json = json_loads(text, 0, NULL);
	free(text);
	assert_non_null(json);
	return json;
}

static void every_ready_scenario_runs_and_says_what_it_shows(void **state)
{
	glob_t found;

	assert_int_equal(glob(SCENARIOS "*.yaml", 0, NULL, &found), 0);
	assert_true(found.gl_pathc >= 5);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char *text, first[4] = "";
		FILE *file = fopen(found.gl_pathv[i], "r");

		assert_true(file && fgets(first, sizeof(first), file));
		fclose(file);
		assert_memory_equal(first, "# ", 2);
		assert_int_equal(sim(&text, found.gl_pathv[i]), CLI_OK);
		assert_non_null(strstr(text, "promised"));
		free(text);
	}
	globfree(&found);
}

static void shares_follow_weights_whatever_the_job_lengths(void **state)
{
	static const char *const names[] = { "one", "two", "four", "eight" };
	json_t *json = report(SCENARIOS "weights-1-2-4-8.yaml", "--compare=as-written");

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_true(
			fabs(value(run_of(json, "as-written"), names[i], "share") * 15 / (1 << i) -
			     1) < 0.03);
	json_decref(json);
}

static void a_light_desktop_beside_hogs_keeps_its_frames(void **state)
{
	json_t *json =
		report(SCENARIOS "noisy-neighbour.yaml", "--compare=as-written,reference-fifo");
	json_t *ours = run_of(json, "as-written"), *fifo = run_of(json, "reference-fifo");

	assert_true(value(ours, "desktop", "frames_missed") <
		    0.02 * value(ours, "desktop", "frames"));
	assert_true(value(fifo, "desktop", "frames_missed") >
		    0.9 * value(fifo, "desktop", "frames"));
	json_decref(json);
}

static void sold_shares_are_kept_among_four_classes(void **state)
{
	json_t *json = report(SCENARIOS "four-classes.yaml", "--policy=as-written");

	assert_true(fabs(value(run_of(json, "as-written"), "fixed-1", "share") - 0.15) < 0.005);
	json_decref(json);
}

static void files_are_written_and_can_be_read(void **state)
{
	char folder[] = "/tmp/divvy-sim-XXXXXX", json_path[64], csv_path[64], timeline_path[64],
	     line[256], *text;
	unsigned lines = 0;
	json_t *json;
	FILE *csv;

	assert_non_null(mkdtemp(folder));
	snprintf(json_path, sizeof(json_path), "--json=%s/a.json", folder);
	snprintf(csv_path, sizeof(csv_path), "%s/a.csv", folder);
	snprintf(timeline_path, sizeof(timeline_path), "%s/t.json", folder);
	assert_int_equal(sim(&text, SCENARIOS "weights-1-2-4-8.yaml", "--duration", "3", json_path,
			     "--csv", csv_path, "--timeline", timeline_path),
			 CLI_OK);
	free(text);
	json = json_load_file(json_path + strlen("--json="), 0, NULL);
	assert_non_null(json);
	json_decref(json);
	json = json_load_file(timeline_path, 0, NULL);
	assert_true(json_array_size(json_object_get(json, "traceEvents")) > 500);
	json_decref(json);
	csv = fopen(csv_path, "r");
	if (!csv)
		fail_msg("no %s", csv_path);
	while (fgets(line, sizeof(line), csv))
		lines++;
	fclose(csv);
	/* 2 s of windows, 4 vGPUs, and the head */
	assert_int_equal(lines, 20 * 4 + 1);
	unlink(json_path + strlen("--json="));
	unlink(csv_path);
	unlink(timeline_path);
	assert_int_equal(rmdir(folder), 0);
}

static void what_cannot_be_done_is_refused(void **state)
{
	char *text;

	assert_int_equal(sim(&text), CLI_USAGE);
	free(text);
	assert_int_equal(sim(&text, "--florb"), CLI_USAGE);
	free(text);
	assert_int_equal(sim(&text, "/nonexistent.yaml"), CLI_FAILED);
	free(text);
	assert_int_equal(sim(&text, SCENARIOS "office-25.yaml", "--policy", "lottery"), CLI_FAILED);
	free(text);
	assert_int_equal(sim(&text, SCENARIOS "office-25.yaml", "--csv", "/nonexistent/x.csv"),
			 CLI_FAILED);
	free(text);
	assert_int_equal(sim(&text, SCENARIOS "office-25.yaml", "--plot", "/tmp/x.gif"),
			 CLI_FAILED);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_ready_scenario_runs_and_says_what_it_shows),
		cmocka_unit_test(shares_follow_weights_whatever_the_job_lengths),
		cmocka_unit_test(a_light_desktop_beside_hogs_keeps_its_frames),
		cmocka_unit_test(sold_shares_are_kept_among_four_classes),
		cmocka_unit_test(files_are_written_and_can_be_read),
		cmocka_unit_test(what_cannot_be_done_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
