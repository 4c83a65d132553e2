// SPDX-License-Identifier: Apache-2.0
/*
 * `divvy sim`: the scheduler on a GPU that does not exist. Options of its own, since it touches no machine.
 */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/cli.h"
#include "vgpu-sched/vgpu-sched.h"

static const char usage_text[] =
	"usage: divvy sim SCENARIO [--policy NAME | --compare[=NAME,NAME...]] [--seed N] [--duration SECONDS]\n"
	"                          [--json[=FILE]] [--csv FILE] [--plot FILE.svg|.png] [--timeline FILE]\n"
	"       divvy sim --list\n"
	"\n"
	"  SCENARIO     a YAML file, or the name of one that comes with Divvy\n"
	"  --policy     as-written, best_effort, equal_share, fixed_share, weighted, burst for every vGPU, or a model of\n"
	"               another scheduler: reference-fifo, reference-nvidia-best-effort, reference-nvidia-equal,\n"
	"               reference-nvidia-fixed, reference-gvtg, reference-xen-credit\n"
	"  --compare    the same scenario under several, side by side\n"
	"  --plot       shares over time and times to done (needs gnuplot)\n"
	"  --timeline   who ran when, for ui.perfetto.dev or chrome://tracing\n"
	"  --verbose    how many decisions a second were made\n";

enum {
	OPTION_POLICY = 256,
	OPTION_COMPARE,
	OPTION_SEED,
	OPTION_DURATION,
	OPTION_JSON,
	OPTION_CSV,
	OPTION_PLOT,
	OPTION_TIMELINE,
	OPTION_LIST,
	OPTION_VERBOSE,
	OPTION_HELP
};

static const struct option option_table[] = {
	{ "policy", required_argument, NULL, OPTION_POLICY },
	{ "compare", optional_argument, NULL, OPTION_COMPARE },
	{ "seed", required_argument, NULL, OPTION_SEED },
	{ "duration", required_argument, NULL, OPTION_DURATION },
	{ "json", optional_argument, NULL, OPTION_JSON },
	{ "csv", required_argument, NULL, OPTION_CSV },
	{ "plot", required_argument, NULL, OPTION_PLOT },
	{ "timeline", required_argument, NULL, OPTION_TIMELINE },
	{ "list", no_argument, NULL, OPTION_LIST },
	{ "verbose", no_argument, NULL, OPTION_VERBOSE },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static int usage(const char *problem, const char *word)
{
	fprintf(stderr, "divvy: sim: %s%s\n%s", problem, word, usage_text);
	return CLI_USAGE;
}

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
static int list_ready(FILE *out)
{
	char folder[PATH_MAX], pattern[PATH_MAX + 16], line[256];
	glob_t found;

	if (!ready_folder(folder))
		return usage("no scenarios came with this program", "");
	snprintf(pattern, sizeof(pattern), "%s/*.yaml", folder);
	if (glob(pattern, 0, NULL, &found))
		return usage("no scenarios in ", folder);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *file = fopen(found.gl_pathv[i], "re");
		char *name = strrchr(found.gl_pathv[i], '/') + 1;

		line[0] = '\0';
		if (file && !fgets(line, sizeof(line), file))
			line[0] = '\0';
		if (file)
			fclose(file);
		fprintf(out, "%-22.*s %s", (int)(strlen(name) - strlen(".yaml")), name,
			line[0] == '#' ? line + strspn(line, "# ") : "\n");
	}
	globfree(&found);
	return CLI_OK;
}

static int number(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return text[0] < '0' || text[0] > '9' || *end || errno || !*value ? -EINVAL : 0;
}

/* Returns -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct sim_options *options, bool *list, FILE *out)
{
	uint64_t seconds;
	int option;

	opterr = 0;
	optind = 0;
	while ((option = getopt_long(argc, argv, ":", option_table, NULL)) != -1) {
		switch (option) {
		case OPTION_POLICY:
			options->policies = optarg;
			break;
		case OPTION_COMPARE:
			options->policies = optarg ? optarg : SIM_COMPARE_ALL;
			break;
		case OPTION_SEED:
			if (number(optarg, &options->seed))
				return usage("not a seed: ", optarg);
			break;
		case OPTION_DURATION:
			if (number(optarg, &seconds) || seconds > 24 * 3600)
				return usage("not a time in seconds, up to a day: ", optarg);
			options->duration_ns = seconds * NSEC_PER_SEC;
			break;
		case OPTION_JSON:
			options->json = optarg;
			options->json_only |= !optarg;
			break;
		case OPTION_CSV:
			options->csv = optarg;
			break;
		case OPTION_PLOT:
			options->plot = optarg;
			break;
		case OPTION_TIMELINE:
			options->timeline = optarg;
			break;
		case OPTION_LIST:
			*list = true;
			break;
		case OPTION_VERBOSE:
			log_set_level(LOG_LEVEL_INFO);
			break;
		case OPTION_HELP:
			fputs(usage_text, out);
			return CLI_OK;
		case ':':
			return usage("a value is missing after ", argv[optind - 1]);
		default:
			return usage("unknown option ", argv[optind - 1]);
		}
	}
	return -1;
}

int cli_sim(int argc, char **argv, FILE *out)
{
	struct sim_options options = { 0 };
	char folder[PATH_MAX], path[PATH_MAX + 256];
	struct error e = { 0 };
	bool list = false;
	int status;

	log_set_level(LOG_LEVEL_WARN);
	status = parse(argc, argv, &options, &list, out);
	if (status >= 0)
		return status;
	if (list)
		return list_ready(out);
	if (argc - optind != 1)
		return usage("one scenario is needed", "");
	options.scenario = argv[optind];
	if (access(options.scenario, F_OK) && !strchr(options.scenario, '/') &&
	    ready_folder(folder) &&
	    snprintf(path, sizeof(path), "%s/%s.yaml", folder, options.scenario) <
		    (int)sizeof(path) &&
	    !access(path, F_OK))
		options.scenario = path;
	/* gnuplot may end before it has heard everything; it is asked how it ended. */
	signal(SIGPIPE, SIG_IGN);
	if (sim_command(&options, out, &e))
		return cli_fail(&(struct cli_options){ .json = options.json_only, .out = out }, &e);
	return CLI_OK;
}
