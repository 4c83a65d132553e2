// SPDX-License-Identifier: Apache-2.0
/*
 * `divvy arbiter` shares GPUs between those who register with it; `divvy vgpus` shows what each has and owes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli/cli.h"
#include "vgpu-sched/vgpu-sched.h"

static int milliseconds(const char *text, double unit_ms, double max_ms, uint64_t *ns)
{
	char *end;
	double value = strtod(text, &end) * unit_ms;

	if (text[0] < '0' || text[0] > '9' || *end || !(value >= 0 && value <= max_ms))
		return -EINVAL;
	*ns = (uint64_t)(value * 1e6);
	return 0;
}

int cli_arbiter(struct cli *cli)
{
	struct arbiter_options options = {
		.socket = cli_value(cli, "socket"),
		.trace = cli_value(cli, "trace"),
		.hog_ns = 10 * NSEC_PER_SEC,
		.linger_ns = ARBITER_LINGER_NS,
	};
	const char *slice = cli_value(cli, "slice"), *linger = cli_value(cli, "linger"),
		   *hog = cli_value(cli, "hog");
	struct error e = { 0 };

	if (slice && (milliseconds(slice, 1, 1000, &options.slice_ns) || !options.slice_ns))
		return cli_usage(cli, "not a time in milliseconds, up to 1000: %s", slice);
	if (linger && milliseconds(linger, 1e-3, 100, &options.linger_ns))
		return cli_usage(cli, "not a time in microseconds, up to 100000: %s", linger);
	if (hog && milliseconds(hog, 1000, 3600e3, &options.hog_ns))
		return cli_usage(cli, "not a time in seconds, up to 3600: %s", hog);
	return arbiter_serve(&options, &e) ? cli_fail(cli, &e) : CLI_OK;
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

int cli_vgpus(struct cli *cli)
{
	struct error e = { 0 };
	char *text = NULL;
	json_t *parsed;

	if (arbiter_status(cli_value(cli, "socket"), &text, &e))
		return cli_fail(cli, &e);
	parsed = json_loads(text, 0, NULL);
	free(text);
	if (!parsed) {
		error_set(&e, EPROTO, "arbiter-answer", NULL, "what the arbiter said is no JSON");
		return cli_fail(cli, &e);
	}
	if (cli->json) {
		cli_json_print(cli, parsed);
	} else {
		table(cli->out, parsed);
		json_decref(parsed);
	}
	return CLI_OK;
}
