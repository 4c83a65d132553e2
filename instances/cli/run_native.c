// SPDX-License-Identifier: Apache-2.0
/* `divvy run-native` runs a Vulkan program as a vGPU of its own, on the host, without a virtual machine. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli/cli.h"
#include "vgpu-sched/vgpu-sched.h"

/* What of the words may be said under a policy, and which must. */
static const struct {
	bool share, elastic, weight, credits; /* may */
	bool needs_share;
} meanings[SCHED_POLICIES] = {
	[SCHED_FIXED_SHARE] = { .share = true, .elastic = true, .needs_share = true },
	[SCHED_WEIGHTED] = { .weight = true },
	[SCHED_BURST] = { .share = true, .weight = true, .credits = true, .needs_share = true },
};

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
		return error_set(e, EINVAL, "bad-value", "divvy run-native --help",
				 "%s is no number of credits, up to 1000000", text);
	*ns = (uint64_t)(value * (double)SCHED_CREDIT_NS);
	return 0;
}

static int weight(const char *text, uint32_t *out, struct error *e)
{
	double value;

	if (number(text, "", SCHED_WEIGHT_MAX, &value) || value < 1 || value != floor(value))
		return error_set(e, EINVAL, "bad-value", "divvy run-native --help",
				 "%s is no weight from 1 to %u", text, SCHED_WEIGHT_MAX);
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

/* The options as they were said. Returns 0 or -errno with words. */
static int take(const struct cli *cli, struct launch_options *launch, struct error *e)
{
	struct sched_vgpu_config *config = &launch->config;
	const char *said;
	int err = 0;

	launch->gpu = cli_value(cli, "gpu");
	launch->name = cli_value(cli, "name");
	launch->socket = cli_value(cli, "socket");
	launch->embedded = cli_value(cli, "embedded");
	launch->layers = cli_value(cli, "layers");
	launch->argv = cli->words;
	if ((said = cli_value(cli, "share")))
		err = percent(said, &config->share_ppm, e);
	if (!err && (said = cli_value(cli, "elastic")))
		err = percent(said, &config->elastic_ppm, e);
	if (!err && (said = cli_value(cli, "weight")))
		err = weight(said, &config->weight, e);
	if (!err && (said = cli_value(cli, "credits")))
		err = credits(said, &config->credit_max_ns, e);
	if (!err && (said = cli_value(cli, "surplus")))
		err = credits(said, &config->surplus_max_ns, e);
	if (!err && (said = cli_value(cli, "balance")))
		err = credits(said, &launch->credit_ns, e);
	if (!err && (said = cli_value(cli, "memory-quota")) &&
	    (text_size(said, &launch->memory_quota) || !launch->memory_quota))
		err = error_set(e, EINVAL, "bad-value", "divvy run-native --help",
				"%s is no size of memory (2G, 512M)", said);
	if (err)
		return err;
	if ((said = cli_value(cli, "policy")))
		return policy(said, &config->policy, e);
	config->policy =
		cli_value(cli, "credits") || cli_value(cli, "surplus") || cli_value(cli, "balance")
			? SCHED_BURST
		: cli_value(cli, "share") || cli_value(cli, "elastic") ? SCHED_FIXED_SHARE
		: cli_value(cli, "weight")			       ? SCHED_WEIGHTED
								       : SCHED_EQUAL_SHARE;
	return 0;
}

/* Words that mean nothing together are not passed over. */
static int check(const struct cli *cli, const struct launch_options *launch, struct error *e)
{
	const struct sched_vgpu_config *config = &launch->config;
	const struct {
		const char *word;
		bool may;
	} said[] = {
		{ "share", meanings[config->policy].share },
		{ "elastic", meanings[config->policy].elastic },
		{ "weight", meanings[config->policy].weight },
		{ "credits", meanings[config->policy].credits },
		{ "surplus", meanings[config->policy].credits },
		{ "balance", meanings[config->policy].credits },
	};

	for (size_t i = 0; i < ARRAY_SIZE(said); i++)
		if (cli_value(cli, said[i].word) && !said[i].may)
			return error_set(e, EINVAL, "bad-value", "divvy run-native --help",
					 "--%s means nothing under the policy %s", said[i].word,
					 sched_policy_name(config->policy));
	if (meanings[config->policy].needs_share && !launch->config.share_ppm)
		return error_set(e, EINVAL, "bad-value", "--share 25%",
				 "the policy %s needs a share", sched_policy_name(config->policy));
	if (launch->embedded && launch->socket)
		return error_set(e, EINVAL, "bad-value", "divvy run-native --help",
				 "--embedded has an arbiter of its own: it takes no --socket");
	return 0;
}

static void report(const struct cli *cli, const struct launch_result *result)
{
	json_t *json;

	if (!result->workers && !result->arbiter_lost)
		fprintf(stderr,
			"divvy: warning[never-registered]: %s never registered: its GPU work, if any, was not under the "
			"share (next: VK_LOADER_DEBUG=layer divvy run-native ...)\n",
			cli->words[0]);
	if (!cli->json)
		return;
	json = json_pack("{s:o, s:o, s:i, s:I, s:b, s:b}", "gpu", cli_json_text(result->gpu),
			 "vgpu", cli_json_text(result->name), "status", result->status,
			 "registered", (json_int_t)result->workers, "under_share",
			 result->workers && !result->arbiter_lost, "arbiter_lost",
			 result->arbiter_lost);
	if (json) {
		json_dumpf(json, cli->out, 0);
		fputc('\n', cli->out);
		json_decref(json);
	}
}

int cli_run_native(struct cli *cli)
{
	struct launch_options launch = { 0 };
	struct launch_result result;
	struct error e = { 0 };
	int err = take(cli, &launch, &e);

	if (!err)
		err = check(cli, &launch, &e);
	if (!err)
		err = launch_program(&launch, &result, &e);
	if (err) {
		cli_fail(cli, &e);
		return CLI_NOT_RUN;
	}
	report(cli, &result);
	return result.status;
}
