// SPDX-License-Identifier: Apache-2.0
/*
 * `divvy arbiter` shares GPUs between those who register with it; `divvy vgpus` shows what each has and owes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli/cli.h"
#include "instances/cli/table.h"
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

/* "weighted 300", "fixed_share" */
static void policy_text(json_t *vgpu, char *text, size_t size)
{
	const char *policy = json_string_value(json_object_get(vgpu, "policy"));

	snprintf(text, size, "%s", policy ? policy : "");
	if (!strcmp(text, "weighted") || !strcmp(text, "burst"))
		text_append(text, size, " %lld",
			    json_integer_value(json_object_get(vgpu, "weight")));
}

static void vgpus_table(FILE *out, json_t *status)
{
	static const struct table_column columns[] = {
		{ .title = "vGPU", .least = 6 },       { .title = "GPU", .least = 6 },
		{ .title = "policy", .least = 6 },     { .title = "workers", .right = true },
		{ .title = "used s", .right = true },  { .title = "wait s", .right = true },
		{ .title = "debt ms", .right = true }, { .title = "credits", .right = true },
		{ .title = "MiB", .right = true },
	};
	struct table *table = table_create(columns, ARRAY_SIZE(columns));
	char memory[48], policy[64];
	json_t *vgpu;
	size_t i;

	json_array_foreach(json_object_get(status, "vgpus"), i, vgpu)
	{
		json_t *engine = json_object_get(json_object_get(vgpu, "engines"), "graphics");

		memory_text(vgpu, memory, sizeof(memory));
		policy_text(vgpu, policy, sizeof(policy));
		table_cell(table, TABLE_PLAIN, "%s",
			   json_string_value(json_object_get(vgpu, "name")));
		table_cell(table, TABLE_PLAIN, "%s",
			   json_string_value(json_object_get(vgpu, "gpu")));
		table_cell(table, TABLE_PLAIN, "%s", policy);
		table_cell(table, TABLE_PLAIN, "%lld",
			   json_integer_value(json_object_get(vgpu, "workers")));
		table_cell(table, TABLE_PLAIN, "%.3f", seconds(engine, "used_ns"));
		table_cell(table, TABLE_PLAIN, "%.3f", seconds(engine, "throttled_ns"));
		table_cell(table, TABLE_PLAIN, "%.1f", 1e3 * seconds(engine, "debt_ns"));
		table_cell(table, TABLE_PLAIN, "%.2f", seconds(engine, "credit_ns") / 60);
		table_cell(table, TABLE_PLAIN, "%s", memory);
	}
	if (table_empty(table))
		fputs("no vGPUs (next: divvy run-native --help)\n", out);
	else
		table_print(table, out, table_width(out), table_colour(out));
	table_destroy(table);
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
		vgpus_table(cli->out, parsed);
		json_decref(parsed);
	}
	return CLI_OK;
}
