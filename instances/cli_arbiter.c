// SPDX-License-Identifier: Apache-2.0
/*
 * `divvy arbiter` shares GPUs between those who register with it; `divvy vgpus` shows what each has and owes.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli.h"
#include "vgpu-sched/vgpu-sched.h"

static const char usage_text[] =
	"usage: divvy arbiter [--socket PATH] [--slice MS] [--linger US] [--hog SECONDS] [--trace FILE]\n"
	"       divvy vgpus [--socket PATH] [--json]\n"
	"\n"
	"  --socket     where it listens (" ARBITER_SOCKET ")\n"
	"  --slice      how long a vGPU goes on once it is its turn (2)\n"
	"  --linger     how long the GPU waits for the next submission of one whose turn it still is (300; 0: not at all)\n"
	"  --hog        a turn that keeps others waiting so long ends its process (10; 0: never)\n"
	"  --trace      a CSV line for each turn; `divvy sim` reads it as a workload\n";

enum {
	OPTION_SOCKET = 256,
	OPTION_SLICE,
	OPTION_LINGER,
	OPTION_HOG,
	OPTION_TRACE,
	OPTION_JSON,
	OPTION_HELP
};

static const struct option option_table[] = {
	{ "socket", required_argument, NULL, OPTION_SOCKET },
	{ "slice", required_argument, NULL, OPTION_SLICE },
	{ "linger", required_argument, NULL, OPTION_LINGER },
	{ "hog", required_argument, NULL, OPTION_HOG },
	{ "trace", required_argument, NULL, OPTION_TRACE },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static int usage(const char *problem, const char *word)
{
	fprintf(stderr, "divvy: %s%s\n%s", problem, word, usage_text);
	return CLI_USAGE;
}

static int milliseconds(const char *text, double unit_ms, double max_ms, uint64_t *ns)
{
	char *end;
	double value = strtod(text, &end) * unit_ms;

	if (text[0] < '0' || text[0] > '9' || *end || !(value >= 0 && value <= max_ms))
		return -EINVAL;
	*ns = (uint64_t)(value * 1e6);
	return 0;
}

/* Returns -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct arbiter_options *options, bool *json, FILE *out)
{
	int option;

	opterr = 0;
	optind = 0;
	while ((option = getopt_long(argc, argv, ":", option_table, NULL)) != -1) {
		switch (option) {
		case OPTION_SOCKET:
			options->socket = optarg;
			break;
		case OPTION_SLICE:
			if (milliseconds(optarg, 1, 1000, &options->slice_ns) || !options->slice_ns)
				return usage("not a time in milliseconds, up to 1000: ", optarg);
			break;
		case OPTION_LINGER:
			if (milliseconds(optarg, 1e-3, 100, &options->linger_ns))
				return usage("not a time in microseconds, up to 100000: ", optarg);
			break;
		case OPTION_HOG:
			if (milliseconds(optarg, 1000, 3600e3, &options->hog_ns))
				return usage("not a time in seconds, up to 3600: ", optarg);
			break;
		case OPTION_TRACE:
			options->trace = optarg;
			break;
		case OPTION_JSON:
			*json = true;
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
	return argc - optind ? usage("a word too many: ", argv[optind]) : -1;
}

int cli_arbiter(int argc, char **argv, FILE *out)
{
	struct arbiter_options options = { .hog_ns = 10 * NSEC_PER_SEC,
					   .linger_ns = ARBITER_LINGER_NS };
	struct error e = { 0 };
	bool json = false;
	int status = parse(argc, argv, &options, &json, out);

	if (status >= 0)
		return status;
	return arbiter_serve(&options, &e) ? cli_fail(&(struct cli_options){ .out = out }, &e)
					   : CLI_OK;
}

static double seconds(json_t *engine, const char *key)
{
	return (double)json_integer_value(json_object_get(engine, key)) / 1e9;
}

/* "12/2048": used, and the quota where there is one. */
static void memory_text(json_t *vgpu, char *text, size_t size)
{
	const json_int_t quota = json_integer_value(json_object_get(vgpu, "memory_quota"));

	snprintf(text, size, "%lld",
		 json_integer_value(json_object_get(vgpu, "memory_used")) / (json_int_t)MIB);
	if (quota)
		text_append(text, size, "/%lld", quota / (json_int_t)MIB);
}

static void table(FILE *out, json_t *status)
{
	char memory[48];
	json_t *vgpu;
	size_t i;

	fprintf(out, "%-20s %-16s %-12s %7s %8s %10s %10s %10s %10s %12s\n", "vGPU", "GPU",
		"policy", "weight", "workers", "used s", "throttled", "debt ms", "credits",
		"memory MiB");
	json_array_foreach(json_object_get(status, "vgpus"), i, vgpu)
	{
		json_t *engine = json_object_get(json_object_get(vgpu, "engines"), "graphics");

		memory_text(vgpu, memory, sizeof(memory));
		fprintf(out, "%-20.20s %-16.16s %-12s %7d %8d %10.3f %10.3f %10.3f %10.4f %12s\n",
			json_string_value(json_object_get(vgpu, "name")),
			json_string_value(json_object_get(vgpu, "gpu")),
			json_string_value(json_object_get(vgpu, "policy")),
			(int)json_integer_value(json_object_get(vgpu, "weight")),
			(int)json_integer_value(json_object_get(vgpu, "workers")),
			seconds(engine, "used_ns"), seconds(engine, "throttled_ns"),
			1e3 * seconds(engine, "debt_ns"), seconds(engine, "credit_ns") / 60,
			memory);
	}
}

int cli_vgpus(int argc, char **argv, FILE *out)
{
	struct arbiter_options options = { 0 };
	struct error e = { 0 };
	char *text = NULL;
	bool json = false;
	json_t *parsed;
	int status = parse(argc, argv, &options, &json, out);

	if (status >= 0)
		return status;
	if (arbiter_status(options.socket, &text, &e))
		return cli_fail(&(struct cli_options){ .json = json, .out = out }, &e);
	parsed = json_loads(text, 0, NULL);
	if (json && parsed) {
		json_dumpf(parsed, out, JSON_INDENT(2));
		fputc('\n', out);
	} else if (parsed) {
		table(out, parsed);
	}
	status = parsed ? CLI_OK : CLI_FAILED;
	json_decref(parsed);
	free(text);
	return status;
}
