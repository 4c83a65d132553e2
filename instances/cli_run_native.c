// SPDX-License-Identifier: Apache-2.0
/* `divvy run-native` runs a Vulkan program as a vGPU of its own, on the host, without a virtual machine. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli.h"
#include "vgpu-sched/vgpu-sched.h"

static const char usage_text[] =
	"usage: divvy run-native [OPTIONS] -- PROGRAM [WORD...]\n"
	"\n"
	"  --share 25%        a fixed share of the GPU's time; with --credits, the baseline\n"
	"  --elastic 10%      so much more while others leave it\n"
	"  --weight N         a part of what is left of shares, beside others' weights (100)\n"
	"  --credits M        earn credits at the share, spend them beside others, save up to M (a credit is the GPU for a minute)\n"
	"  --surplus M        and go so far below none\n"
	"  --balance M        begin with so many (none)\n"
	"  --policy P         best_effort, equal_share, fixed_share, weighted, burst; else what the others imply, or equal_share\n"
	"  --memory-quota 2G  the most device memory; K, M, G, T are powers of 1024\n"
	"  --gpu NAME         its name (0000:01:00.0), or a part of what Vulkan calls it\n"
	"  --name NAME        of the vGPU, for people (the program's)\n"
	"  --socket PATH      the arbiter's (" ARBITER_SOCKET ")\n"
	"  --embedded         an arbiter for this program alone: a share against nobody, but it holds\n"
	"  --layers DIR       where the Vulkan layer's manifest is (beside divvy)\n"
	"  --json             a last line of JSON on stdout once the program has ended\n"
	"\n"
	"Its exit status is the program's, 128 + n for signal n, or 125 where it was not run.\n";

enum {
	OPTION_SHARE = 256,
	OPTION_ELASTIC,
	OPTION_WEIGHT,
	OPTION_CREDITS,
	OPTION_SURPLUS,
	OPTION_BALANCE,
	OPTION_POLICY,
	OPTION_QUOTA,
	OPTION_GPU,
	OPTION_NAME,
	OPTION_SOCKET,
	OPTION_EMBEDDED,
	OPTION_LAYERS,
	OPTION_JSON,
	OPTION_HELP
};

static const struct option option_table[] = {
	{ "share", required_argument, NULL, OPTION_SHARE },
	{ "elastic", required_argument, NULL, OPTION_ELASTIC },
	{ "weight", required_argument, NULL, OPTION_WEIGHT },
	{ "credits", required_argument, NULL, OPTION_CREDITS },
	{ "surplus", required_argument, NULL, OPTION_SURPLUS },
	{ "balance", required_argument, NULL, OPTION_BALANCE },
	{ "policy", required_argument, NULL, OPTION_POLICY },
	{ "memory-quota", required_argument, NULL, OPTION_QUOTA },
	{ "gpu", required_argument, NULL, OPTION_GPU },
	{ "name", required_argument, NULL, OPTION_NAME },
	{ "socket", required_argument, NULL, OPTION_SOCKET },
	{ "embedded", no_argument, NULL, OPTION_EMBEDDED },
	{ "layers", required_argument, NULL, OPTION_LAYERS },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

/* What of the words may be said under a policy, and which must. */
static const struct {
	bool share, elastic, weight, credits; /* may */
	bool needs_share;
} meanings[SCHED_POLICIES] = {
	[SCHED_FIXED_SHARE] = { .share = true, .elastic = true, .needs_share = true },
	[SCHED_WEIGHTED] = { .weight = true },
	[SCHED_BURST] = { .share = true, .weight = true, .credits = true, .needs_share = true },
};

struct words {
	struct launch_options launch;
	bool json, policy, share, elastic, weight, credits, surplus, balance;
};

static int usage(const char *problem, const char *word)
{
	fprintf(stderr, "divvy: %s%s\n%s", problem, word, usage_text);
	return CLI_USAGE;
}

/* A number of at most @max, with an optional ending. */
static int number(const char *text, const char *ending, double max, double *value)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	*value = strtod(text, &end);
	if (*end && strcmp(end, ending) != 0)
		return -EINVAL;
	return isfinite(*value) && *value <= max ? 0 : -ERANGE;
}

static int percent(const char *text, uint32_t *ppm, struct error *e)
{
	double value;

	if (number(text, "%", 1e9, &value))
		return error_set(e, EINVAL, "bad-value", "--share 25%",
				 "%s is no part of a GPU in percent", text);
	if (value > 100)
		return error_set(e, EINVAL, "share-above-whole", "--share 100% at most",
				 "%s: there is no more than 100 %% of a GPU", text);
	*ppm = (uint32_t)lround(value * SCHED_PPM / 100);
	if (!*ppm)
		return error_set(e, EINVAL, "bad-value", "--share 25%",
				 "%s: a share below 0.0001 %% is none", text);
	return 0;
}

static int credits(const char *text, uint64_t *ns, struct error *e)
{
	double value;

	if (number(text, "", 1e6, &value))
		return error_set(e, EINVAL, "bad-value", NULL,
				 "%s is no number of credits, up to 1000000", text);
	*ns = (uint64_t)(value * (double)SCHED_CREDIT_NS);
	return 0;
}

static int weight(const char *text, uint32_t *out, struct error *e)
{
	double value;

	if (number(text, "", SCHED_WEIGHT_MAX, &value) || value < 1 || value != floor(value))
		return error_set(e, EINVAL, "bad-value", NULL, "%s is no weight from 1 to %u", text,
				 SCHED_WEIGHT_MAX);
	*out = (uint32_t)value;
	return 0;
}

static int policy(const char *text, enum sched_policy *out, struct error *e)
{
	char name[32];

	snprintf(name, sizeof(name), "%s", text);
	for (char *p = name; *p; p++)
		*p = *p == '-' ? '_' : *p;
	for (unsigned i = 0; i < SCHED_POLICIES; i++)
		if (!strcmp(name, sched_policy_name((enum sched_policy)i))) {
			*out = (enum sched_policy)i;
			return 0;
		}
	return error_set(
		e, EINVAL, "bad-value", "divvy run-native --help",
		"there is no policy %s (best_effort, equal_share, fixed_share, weighted, burst)",
		text);
}

/* One option. Returns 0, -errno with words, or 1 for one that is none. */
static int take(int option, struct words *words, struct error *e)
{
	struct sched_vgpu_config *config = &words->launch.config;

	switch (option) {
	case OPTION_SHARE:
		words->share = true;
		return percent(optarg, &config->share_ppm, e);
	case OPTION_ELASTIC:
		words->elastic = true;
		return percent(optarg, &config->elastic_ppm, e);
	case OPTION_WEIGHT:
		words->weight = true;
		return weight(optarg, &config->weight, e);
	case OPTION_CREDITS:
		words->credits = true;
		return credits(optarg, &config->credit_max_ns, e);
	case OPTION_SURPLUS:
		words->surplus = true;
		return credits(optarg, &config->surplus_max_ns, e);
	case OPTION_BALANCE:
		words->balance = true;
		return credits(optarg, &words->launch.credit_ns, e);
	case OPTION_POLICY:
		words->policy = true;
		return policy(optarg, &config->policy, e);
	case OPTION_QUOTA:
		if (cli_size(optarg, &words->launch.memory_quota) || !words->launch.memory_quota)
			return error_set(e, EINVAL, "bad-value", NULL,
					 "%s is no size of memory (2G, 512M)", optarg);
		return 0;
	case OPTION_GPU:
		words->launch.gpu = optarg;
		return 0;
	case OPTION_NAME:
		words->launch.name = optarg;
		return 0;
	case OPTION_SOCKET:
		words->launch.socket = optarg;
		return 0;
	case OPTION_EMBEDDED:
		words->launch.embedded = true;
		return 0;
	case OPTION_LAYERS:
		words->launch.layers = optarg;
		return 0;
	case OPTION_JSON:
		words->json = true;
		return 0;
	default:
		return 1;
	}
}

/* Words that mean nothing together are not passed over. */
static int check(struct words *words, struct error *e)
{
	struct sched_vgpu_config *config = &words->launch.config;
	const struct {
		bool said, may;
		const char *word;
	} said[] = {
		{ words->share, meanings[config->policy].share, "--share" },
		{ words->elastic, meanings[config->policy].elastic, "--elastic" },
		{ words->weight, meanings[config->policy].weight, "--weight" },
		{ words->credits, meanings[config->policy].credits, "--credits" },
		{ words->surplus, meanings[config->policy].credits, "--surplus" },
		{ words->balance, meanings[config->policy].credits, "--balance" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(said); i++)
		if (said[i].said && !said[i].may)
			return error_set(e, EINVAL, "bad-value", "divvy run-native --help",
					 "%s means nothing under the policy %s", said[i].word,
					 sched_policy_name(config->policy));
	if (meanings[config->policy].needs_share && !words->share)
		return error_set(e, EINVAL, "bad-value", "--share 25%",
				 "the policy %s needs a share", sched_policy_name(config->policy));
	if (words->launch.embedded && words->launch.socket)
		return error_set(e, EINVAL, "bad-value", NULL,
				 "--embedded has an arbiter of its own: it takes no --socket");
	return 0;
}

/* Returns -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct words *words, FILE *out, struct error *e)
{
	struct sched_vgpu_config *config = &words->launch.config;
	int option, err;

	opterr = 0;
	optind = 0;
	/* '+': the program's own options are its own, with or without "--". */
	while ((option = getopt_long(argc, argv, "+:", option_table, NULL)) != -1) {
		if (option == OPTION_HELP) {
			fputs(usage_text, out);
			return CLI_OK;
		}
		if (option == ':')
			return usage("a value is missing after ", argv[optind - 1]);
		err = take(option, words, e);
		if (err > 0)
			return usage("unknown option ", argv[optind - 1]);
		if (err)
			return CLI_NOT_RUN;
	}
	if (optind == argc)
		return usage("which program?", "");
	words->launch.argv = argv + optind;
	if (!words->policy)
		config->policy = words->credits || words->surplus ? SCHED_BURST
				 : words->share || words->elastic ? SCHED_FIXED_SHARE
				 : words->weight		  ? SCHED_WEIGHTED
								  : SCHED_EQUAL_SHARE;
	return check(words, e) ? CLI_NOT_RUN : -1;
}

static void report(const struct words *words, const struct launch_result *result, FILE *out)
{
	json_t *json;

	if (!result->workers && !result->arbiter_lost)
		fprintf(stderr,
			"divvy: warning[never-registered]: %s never registered: its GPU work, if any, was not under the "
			"share (next: VK_LOADER_DEBUG=layer divvy run-native ...)\n",
			words->launch.argv[0]);
	if (!words->json)
		return;
	json = json_pack("{s:o, s:o, s:i, s:I, s:b, s:b}", "gpu", cli_json_text(result->gpu),
			 "vgpu", cli_json_text(result->name), "status", result->status,
			 "registered", (json_int_t)result->workers, "under_share",
			 result->workers && !result->arbiter_lost, "arbiter_lost",
			 result->arbiter_lost);
	if (json) {
		json_dumpf(json, out, 0);
		fputc('\n', out);
		json_decref(json);
	}
}

int cli_run_native(int argc, char **argv, FILE *out)
{
	struct words words = { 0 };
	struct launch_result result;
	struct error e = { 0 };
	int status = parse(argc, argv, &words, out, &e);

	if (status >= 0 && status != CLI_NOT_RUN)
		return status;
	if (status == CLI_NOT_RUN || launch_program(&words.launch, &result, &e)) {
		cli_fail(&(struct cli_options){ .json = words.json, .out = out }, &e);
		return CLI_NOT_RUN;
	}
	report(&words, &result, out);
	return result.status;
}
