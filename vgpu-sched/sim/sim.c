// SPDX-License-Identifier: Apache-2.0
/*
 * `divvy sim`: one scenario under one policy or several, and everything that is to be seen of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/sim/report.h"
#include "vgpu-sched/sim/timeline.h"

#define RUNS_MAX 16

struct command {
	const struct sim_options *options;
	struct sim_scenario *scenario;
	struct sim_result **alone; /* by definition */
	unsigned definitions, run_count;
	struct report_run runs[RUNS_MAX];
};

static int out_of_memory(struct error *e)
{
	return error_set(e, ENOMEM, "no-memory", NULL, "the simulator is out of memory");
}

static int policy_find(const char *word, struct sim_run_options *run, struct error *e)
{
	*run = (struct sim_run_options){ .model = SCHED_MODEL_DIVVY, .policy = -1, .alone = -1 };
	if (!strcmp(word, "as-written"))
		return 0;
	run->policy = sim_policy_parse(word);
	if (run->policy >= 0)
		return 0;
	run->policy = -1;
	for (unsigned i = 0; i < SCHED_MODELS; i++)
		if (!strcmp(word, sched_model_name((enum sched_model)i))) {
			run->model = (enum sched_model)i;
			return 0;
		}
	return error_set(
		e, EINVAL, "bad-value", "divvy sim --help",
		"policy: \"%.64s\" is none of as-written, best_effort, equal_share, fixed_share, weighted, burst, reference-...",
		word);
}

/* What each entry of the file does with a GPU of its own: the measure for slowdowns. */
static int run_alone(struct command *command, struct error *e)
{
	const struct sim_scenario *scenario = command->scenario;
	int err = 0;

	for (unsigned i = 0; i < scenario->vgpu_count; i++)
		command->definitions = MAX(command->definitions, scenario->vgpus[i].definition + 1);
	command->alone = calloc(command->definitions, sizeof(struct sim_result *));
	if (!command->alone)
		return out_of_memory(e);
	for (unsigned i = 0; i < scenario->vgpu_count && !err; i++) {
		const struct sim_run_options run = {
			.model = SCHED_MODEL_DIVVY,
			.policy = -1,
			.alone = (int)i,
		};

		if (!command->alone[scenario->vgpus[i].definition])
			err = sim_run(scenario, &run,
				      &command->alone[scenario->vgpus[i].definition], e);
	}
	return err;
}

static int file_open(const char *path, FILE **file, struct error *e)
{
	*file = fopen(path, "we");
	return *file ? 0 : error_set(e, errno, "output", NULL, "%s: %s", path, strerror(errno));
}

static int file_close(FILE *file, const char *path, struct error *e)
{
	int failed = ferror(file);

	if (fclose(file) || failed)
		return error_set(e, EIO, "output", NULL, "%s: it could not be written whole", path);
	return 0;
}

static int run_one(struct command *command, const char *word, struct error *e)
{
	struct report_run *run = &command->runs[command->run_count];
	struct sim_timeline timeline = { .scenario = command->scenario };
	const char *path = command->run_count ? NULL : command->options->timeline;
	struct sim_run_options options;
	int err = policy_find(word, &options, e);

	if (!err && path)
		err = file_open(path, &timeline.file, e);
	if (err)
		return err;
	if (path) {
		options.timeline = &timeline;
		timeline_begin(&timeline);
	}
	err = sim_run(command->scenario, &options, &run->result, e);
	if (path) {
		int close_err;

		timeline_end(&timeline);
		close_err = file_close(timeline.file, path, err ? NULL : e);
		err = err ? err : close_err;
	}
	if (err)
		return err;
	snprintf(run->policy, sizeof(run->policy), "%s", word);
	command->run_count++;
	err = metrics_compute(command->scenario, run->result, command->alone, &run->metrics);
	if (err)
		return out_of_memory(e);
	log_info("sim: %s: %llu decisions, %.2f s: %.2f million a second", word,
		 (unsigned long long)run->result->decisions, run->result->seconds,
		 (double)run->result->decisions / 1e6 / MAX(run->result->seconds, 1e-9));
	return 0;
}

static int run_all(struct command *command, struct error *e)
{
	char copy[512], *rest = copy, *word;
	const char *words = command->options->policies ? command->options->policies : "as-written";
	struct sim_run_options unused;
	int err = 0;

	if (strlen(words) >= sizeof(copy))
		return error_set(e, EINVAL, "bad-value", "divvy sim --help", "policy: too many");
	/* All words before the first run. */
	strcpy(copy, words);
	for (unsigned count = 0; !err && (word = strsep(&rest, ",")); count++)
		err = count == RUNS_MAX ? error_set(e, EINVAL, "bad-value", "divvy sim --help",
						    "policy: more than %u", RUNS_MAX)
					: policy_find(word, &unused, e);
	if (!err)
		err = run_alone(command, e);
	strcpy(copy, words);
	rest = copy;
	while (!err && (word = strsep(&rest, ",")))
		err = run_one(command, word, e);
	return err;
}

static int write_json(const struct command *command, FILE *file)
{
	json_t *json = report_json(command->scenario, command->runs, command->run_count);
	int ret = json ? json_dumpf(json, file, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : -1;

	fputc('\n', file);
	json_decref(json);
	return ret;
}

static int write_files(const struct command *command, struct error *e)
{
	const struct sim_options *options = command->options;
	FILE *file;
	int err = 0;

	if (options->json) {
		err = file_open(options->json, &file, e);
		if (err)
			return err;
		if (write_json(command, file))
			err = out_of_memory(e);
		err = file_close(file, options->json, err ? NULL : e) ? -EIO : err;
	}
	if (!err && options->csv) {
		err = file_open(options->csv, &file, e);
		if (err)
			return err;
		report_csv(file, command->scenario, command->runs, command->run_count);
		err = file_close(file, options->csv, e);
	}
	if (!err && options->plot)
		err = report_plot(options->plot, command->scenario, command->runs,
				  command->run_count, e);
	return err;
}

int sim_command(const struct sim_options *options, FILE *out, struct error *e)
{
	struct command command = { .options = options };
	int err = sim_scenario_load(options->scenario, &command.scenario, e);

	if (!err && options->seed)
		command.scenario->seed = options->seed;
	if (!err && options->duration_ns) {
		if (options->duration_ns <= command.scenario->warmup_ns)
			err = error_set(e, EINVAL, "bad-value", "divvy sim --help",
					"duration: not longer than the warm-up");
		command.scenario->duration_ns = options->duration_ns;
	}
	if (!err)
		err = run_all(&command, e);
	if (!err && options->json_only) {
		if (write_json(&command, out))
			err = out_of_memory(e);
	} else if (!err) {
		report_text(out, command.scenario, &command.runs[0]);
		if (command.run_count > 1)
			report_compare(out, command.scenario, command.runs, command.run_count);
	}
	if (!err)
		err = write_files(&command, e);
	for (unsigned i = 0; i < command.run_count; i++) {
		metrics_free(&command.runs[i].metrics);
		sim_result_free(command.runs[i].result);
	}
	for (unsigned i = 0; i < command.definitions && command.alone; i++)
		sim_result_free(command.alone[i]);
	free(command.alone);
	sim_scenario_free(command.scenario);
	return err;
}
