// SPDX-License-Identifier: Apache-2.0
/*
 * `divvy sim`: the scheduler on a GPU that does not exist. Options of its own, since it touches no machine.
 */
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/cli/cli.h"
#include "vgpu-sched/vgpu-sched.h"

/* Beside the program: PREFIX/share/divvy/scenarios where it is installed, vgpu-sched/scenarios where it was built. */
static bool ready_folder(char folder[PATH_MAX])
{
	static const char *const places[] = { "../share/divvy/scenarios",
					      "../../vgpu-sched/scenarios" };
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (length < 0)
		return false;
	self[length] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return false;
	*slash = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		if (snprintf(folder, PATH_MAX, "%s/%s", self, places[i]) < PATH_MAX &&
		    !access(folder, X_OK))
			return true;
	return false;
}

/* The first line of a scenario is a comment that says what it shows. */
static int list_ready(const struct cli *cli)
{
	char folder[PATH_MAX], pattern[PATH_MAX + 16], line[256];
	glob_t found;

	if (!ready_folder(folder))
		return cli_usage(cli, "no scenarios came with this program");
	snprintf(pattern, sizeof(pattern), "%s/*.yaml", folder);
	if (glob(pattern, 0, NULL, &found))
		return cli_usage(cli, "no scenarios in %s", folder);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *file = fopen(found.gl_pathv[i], "re");
		char *name = strrchr(found.gl_pathv[i], '/') + 1;

		line[0] = '\0';
		if (file && !fgets(line, sizeof(line), file))
			line[0] = '\0';
		if (file)
			fclose(file);
		fprintf(cli->out, "%-22.*s %s", (int)(strlen(name) - strlen(".yaml")), name,
			line[0] == '#' ? line + strspn(line, "# ") : "\n");
	}
	globfree(&found);
	return CLI_OK;
}

/* Returns 0, or CLI_USAGE. */
static int take(const struct cli *cli, struct sim_options *options)
{
	const char *compare = cli_value(cli, "compare"), *seed = cli_value(cli, "seed"),
		   *duration = cli_value(cli, "duration"), *json = cli_value(cli, "json");
	uint64_t seconds;

	options->policies = cli_value(cli, "policy");
	if (compare)
		options->policies = compare[0] ? compare : SIM_COMPARE_ALL;
	if (seed && cli_number(seed, 1, UINT64_MAX, &options->seed))
		return cli_usage(cli, "not a seed: %s", seed);
	if (duration && cli_number(duration, 1, UINT64_C(24) * 3600, &seconds))
		return cli_usage(cli, "not a time in seconds, up to a day: %s", duration);
	if (duration)
		options->duration_ns = seconds * NSEC_PER_SEC;
	options->json = json && json[0] ? json : NULL;
	options->json_only = json && !json[0];
	options->csv = cli_value(cli, "csv");
	options->plot = cli_value(cli, "plot");
	options->timeline = cli_value(cli, "timeline");
	return 0;
}

int cli_sim(struct cli *cli)
{
	struct sim_options options = { 0 };
	char folder[PATH_MAX], path[PATH_MAX + 256];
	struct error e = { 0 };

	log_set_level(cli_value(cli, "verbose") ? LOG_LEVEL_INFO : LOG_LEVEL_WARN);
	if (take(cli, &options))
		return CLI_USAGE;
	if (cli_value(cli, "list"))
		return list_ready(cli);
	if (!cli->count)
		return cli_usage(cli, "one scenario is needed");
	options.scenario = cli->words[0];
	if (access(options.scenario, F_OK) && !strchr(options.scenario, '/') &&
	    ready_folder(folder) &&
	    snprintf(path, sizeof(path), "%s/%s.yaml", folder, options.scenario) <
		    (int)sizeof(path) &&
	    !access(path, F_OK))
		options.scenario = path;
	/* gnuplot may end before it has heard everything; it is asked how it ended. */
	signal(SIGPIPE, SIG_IGN);
	cli->json = options.json_only;
	return sim_command(&options, cli->out, &e) ? cli_fail(cli, &e) : CLI_OK;
}
