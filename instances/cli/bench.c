// SPDX-License-Identifier: Apache-2.0
/*
 * divvy bench: what the node's own work takes on this machine. Nothing is changed by it, so it may be run beside instances. What GPUs' users
 * get is another matter, and another program (tests/bench).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli/api.h"
#include "instances/cli/here.h"
#include "instances/cli/table.h"
#include "instances/placement/placement.h"

#define ROUNDS	 200
#define TURNS	 200000u
#define SLICE_NS UINT64_C(2000000)
#define FITS_MAX 1000

enum {
	MEDIAN = ROUNDS / 2, /* of times in order */
	P99 = ROUNDS * 99 / 100
};

/* One piece of work; times it in nanoseconds. Not 0: it can't be done here. */
struct bench {
	struct cli *cli;
	struct node *node;
	struct type_catalogue types;
	struct placement_ledger *ledger;
};

static int inventory(struct bench *b)
{
	const struct node_options options = { .root = b->cli->root };
	struct node *node;
	int err = node_read(&options, &node, NULL);

	if (!err)
		node_free(node);
	return err;
}

/* How many more of every type fit: what divvy types asks. */
static int placement(struct bench *b)
{
	for (unsigned i = 0; i < b->types.count; i++)
		placement_fits_count(b->ledger, &b->types.items[i], FITS_MAX, NULL);
	return b->types.count ? 0 : -ENOENT;
}

static int listing(struct bench *b)
{
	struct error e;
	json_t *json = api_get(b->cli, "/instances", &e);

	json_decref(json);
	return json ? 0 : -EIO;
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Sixteen vGPUs that always have work: turns a second of the scheduler's core. */
static double turns_a_second(struct error *e)
{
	const struct sched_gpu_config config = { .vgpus_max = 16, .depth = 1 };
	struct sched_gpu *gpu;
	uint64_t now = 0, since;
	unsigned vgpu;
	double seconds;

	if (sched_gpu_create(&config, &gpu, e))
		return 0;
	for (unsigned i = 0; i < 16; i++) {
		const struct sched_vgpu_config one = { .identity = i + 1,
						       .policy = SCHED_WEIGHTED,
						       .weight = 100 + i };

		if (sched_vgpu_join(gpu, now, &one, NULL, &vgpu, e) ||
		    sched_submit(gpu, now, vgpu, SCHED_ENGINE_GRAPHICS, TURNS))
			return 0;
	}
	since = monotonic_ns();
	for (unsigned i = 0; i < TURNS; i++) {
		const struct sched_decision turn = sched_pick(gpu, now, SCHED_ENGINE_GRAPHICS);

		if (!turn.granted)
			break;
		now += SLICE_NS;
		sched_complete(gpu, now, turn.grant, SLICE_NS, NULL);
	}
	seconds = (double)(monotonic_ns() - since) / 1e9;
	sched_gpu_destroy(gpu);
	return TURNS / seconds;
}

/* A row: median and 99th percentile of ROUNDS, in milliseconds. */
static void measure(struct bench *b, const char *name, int (*work)(struct bench *b), json_t *list)
{
	uint64_t times[ROUNDS];
	double median, p99;

	for (unsigned i = 0; i < ROUNDS; i++) {
		const uint64_t since = monotonic_ns();

		if (work(b))
			return;
		times[i] = monotonic_ns() - since;
	}
	qsort(times, ROUNDS, sizeof(*times), compare);
	median = (double)times[MEDIAN];
	p99 = (double)times[P99];
	json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:s}", "name", name, "median",
					      median / 1e6, "p99", p99 / 1e6, "unit", "ms"));
}

static void print(const struct cli *cli, const json_t *list)
{
	static const struct table_column columns[] = {
		{ .title = "what" },
		{ .title = "median", .right = true },
		{ .title = "p99", .right = true },
		{ .title = "" },
	};
	struct table *table = table_create(columns, ARRAY_SIZE(columns));
	json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, row)
	{
		const json_t *p99 = json_object_get(row, "p99");

		table_cell(table, TABLE_PLAIN, "%s",
			   json_string_value(json_object_get(row, "name")));
		table_cell(table, TABLE_PLAIN, "%.4g",
			   json_number_value(json_object_get(row, "median")));
		if (json_is_null(p99))
			table_cell(table, TABLE_PLAIN, "%s", "-");
		else
			table_cell(table, TABLE_PLAIN, "%.4g", json_number_value(p99));
		table_cell(table, TABLE_PLAIN, "%s",
			   json_string_value(json_object_get(row, "unit")));
	}
	table_print(table, cli->out, table_width(cli->out), table_colour(cli->out));
	table_destroy(table);
}

int cli_bench(struct cli *cli)
{
	const struct node_options options = { .root = cli->root };
	struct bench b = { .cli = cli };
	struct placement_limits limits;
	struct findings findings = { 0 };
	struct error e = { 0 };
	json_t *list = json_array();
	double turns;
	int err = node_read(&options, &b.node, &e);

	if (!err) {
		placement_limits_default(b.node, &limits);
		err = placement_ledger_create(b.node, &limits, &b.ledger, &e);
	}
	if (!err && type_catalogue_load(cli->root, &b.types, &findings))
		err = error_set(&e, ENOMEM, "no-memory", NULL, "no memory for the types");
	if (!err) {
		measure(&b, "inventory: the machine read", inventory, list);
		measure(&b, "placement: how many of every type fit", placement, list);
		turns = turns_a_second(&e);
		json_array_append_new(list, json_pack("{s:s, s:f, s:n, s:s}", "name",
						      "scheduling: turns of 16 vGPUs", "median",
						      turns / 1e6, "p99", "unit", "million/s"));
		if (!here_is_asked(cli))
			measure(&b, "API: instances listed", listing, list);
	}
	placement_ledger_destroy(b.ledger);
	type_catalogue_free(&b.types);
	node_free(b.node);
	if (err) {
		json_decref(list);
		return cli_fail(cli, &e);
	}
	if (cli->json) {
		cli_json_print(cli, json_pack("{s:o}", "results", list));
		return CLI_OK;
	}
	print(cli, list);
	json_decref(list);
	return CLI_OK;
}
