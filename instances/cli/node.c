// SPDX-License-Identifier: Apache-2.0
/* divvy drain, undrain, release, leases, events, backup: the node and its GPUs, by the daemon. bind and unbind, too, where one runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "instances/building.h"
#include "instances/cli/api.h"
#include "instances/cli/node.h"
#include "instances/cli/table.h"

static const char *text(const json_t *json, const char *key)
{
	const char *value = json_string_value(json_object_get(json, key));

	return value ? value : "";
}

/* ---- GPUs -------------------------------------------------------------------------------------- */

int node_gpu_post(struct cli *cli, const char *gpu, const char *what)
{
	struct api_request request = { .method = "POST", .timeout_s = 300 };
	struct api_answer answer;
	char path[API_PATH_SIZE], rest[32];
	struct error e = { 0 };

	snprintf(rest, sizeof(rest), "/%s", what);
	request.path = api_path(path, "/gpus/", gpu, rest);
	if (api_call(cli, &request, &answer, &e))
		return cli_fail(cli, &e);
	if (cli->json)
		cli_json_print(cli, json_incref(answer.json));
	else
		fprintf(cli->out, "%s: %s%s, driver %s\n", text(answer.json, "id"),
			text(answer.json, "state"),
			json_is_true(json_object_get(answer.json, "drained")) ? ", drained" : "",
			text(answer.json, "driver")[0] ? text(answer.json, "driver") : "none");
	api_answer_free(&answer);
	return CLI_OK;
}

int cli_gpu_do(struct cli *cli)
{
	return node_gpu_post(cli, cli->words[0], cli->verb->name);
}

int cli_leases(struct cli *cli)
{
	static const struct table_column columns[] = {
		{ .title = "from", .least = 10 },
		{ .title = "to", .least = 10 },
		{ .title = "instance", .least = 8 },
		{ .title = "resets", .right = true },
		{ .title = "link before", .least = 8 },
		{ .title = "link after", .least = 8 },
		{ .title = "how it came back", .least = 12, .below = true },
	};
	struct table *table;
	char path[API_PATH_SIZE];
	struct error e = { 0 };
	json_t *json, *lease;
	size_t i;

	json = api_get(cli, api_path(path, "/gpus/", cli->words[0], "/leases"), &e);
	if (!json)
		return cli_fail(cli, &e);
	if (cli->json) {
		cli_json_print(cli, json);
		return CLI_OK;
	}
	table = table_create(columns, ARRAY_SIZE(columns));
	json_array_foreach(json_object_get(json, "leases"), i, lease)
	{
		table_cell(table, TABLE_PLAIN, "%s", text(lease, "begun_at"));
		table_cell(table, TABLE_PLAIN, "%s", text(lease, "ended_at"));
		table_cell(table, TABLE_PLAIN, "%s", text(lease, "instance"));
		table_cell(table, TABLE_PLAIN, "%lld",
			   (long long)json_integer_value(json_object_get(lease, "resets")));
		table_cell(table, TABLE_PLAIN, "%s", text(lease, "link_before"));
		table_cell(table, TABLE_PLAIN, "%s", text(lease, "link_after"));
		table_cell(table, TABLE_PLAIN, "%s", text(lease, "verdict"));
	}
	table_print(table, cli->out, table_width(cli->out), table_colour(cli->out));
	table_destroy(table);
	json_decref(json);
	return CLI_OK;
}

/* ---- events -------------------------------------------------------------------------------------- */

struct following {
	struct cli *cli;
	json_int_t last; /* id */
	bool dropped;
	char day[11];	    /* of the last that was shown */
	unsigned widths[2]; /* as wide as what came so far */
};

/* An API's time as it is here: "2026-11-27", "14:03:22". */
static void local_time(const char *at, char day[11], char clock[32])
{
	struct tm tm = { 0 };
	time_t seconds;

	day[0] = '\0';
	snprintf(clock, 32, "%s", at);
	if (!strptime(at, "%Y-%m-%dT%H:%M:%S", &tm))
		return;
	seconds = timegm(&tm);
	if (!localtime_r(&seconds, &tm))
		return;
	strftime(day, 11, "%Y-%m-%d", &tm);
	strftime(clock, 32, "%H:%M:%S", &tm);
}

/* Nobody knows what comes: columns grow. What it was is broken between words, behind them if there is room. */
static void show_event(struct following *f, const json_t *event)
{
	FILE *out = f->cli->out;
	const unsigned width = table_width(out);
	const char *cells[] = { text(event, "gpu")[0]	     ? text(event, "gpu")
				: text(event, "instance")[0] ? text(event, "instance")
							     : text(event, "kind"),
				text(event, "code") };
	char day[11], clock[32], id[24], shown[256], line[2048];
	unsigned at;

	snprintf(id, sizeof(id), "%lld",
		 (long long)json_integer_value(json_object_get(event, "id")));
	local_time(text(event, "at"), day, clock);
	if (day[0] && strcmp(day, f->day) != 0)
		fprintf(out, "%s\n", day);
	if (day[0])
		memcpy(f->day, day, sizeof(day));
	at = (unsigned)fprintf(out, "%4s  %s", id, clock);
	for (unsigned i = 0; i < ARRAY_SIZE(cells); i++) {
		const bool last = i + 1 == ARRAY_SIZE(cells) && !text(event, "text")[0];

		table_text_copy(shown, sizeof(shown), cells[i],
				width == TABLE_WIDE ? width - 1 : 20);
		f->widths[i] = MAX(f->widths[i], table_text_width(shown));
		at += (unsigned)fprintf(out, "  %-*s", last ? 0 : (int)f->widths[i], shown);
	}
	if (text(event, "text")[0])
		at += (unsigned)fprintf(out, "  ");
	table_text_copy(line, sizeof(line), text(event, "text"), TABLE_WIDE - 1);
	table_text_wrap(out, line, at, at + 24 <= width ? at : 4, width);
	fputc('\n', out);
}

static int on_event(void *opaque, json_t *event)
{
	struct following *f = opaque;

	if (json_is_true(json_object_get(event, "dropped"))) {
		f->dropped = true;
		return 1;
	}
	f->last = MAX(f->last, json_integer_value(json_object_get(event, "id")));
	if (f->cli->json) {
		json_dumpf(event, f->cli->out, JSON_COMPACT | JSON_READABLE);
		fputc('\n', f->cli->out);
	} else {
		show_event(f, event);
	}
	/* A pipe that nobody reads any more ends it. */
	return fflush(f->cli->out) ? 1 : 0;
}

int cli_events(struct cli *cli)
{
	const char *since = cli_value(cli, "since");
	struct following f = { .cli = cli, .widths = { 8, 8 } };
	char path[API_PATH_SIZE];
	struct error e = { 0 };
	uint64_t number = 0;

	if (since && cli_number(since, 0, INT64_MAX, &number))
		return cli_usage(cli, "not a number of an event: %s", since);
	f.last = (json_int_t)number;
	do {
		/* One who was too slow comes back where he was. */
		snprintf(path, sizeof(path), "/events?follow=%d", !cli_value(cli, "no-follow"));
		if (since || f.dropped)
			text_append(path, sizeof(path), "&since=%lld", (long long)f.last);
		f.dropped = false;
		if (api_stream(cli, path, on_event, &f, &e))
			return cli_fail(cli, &e);
	} while (f.dropped);
	return CLI_OK;
}

/* ---- backup ------------------------------------------------------------------------------------- */

int cli_backup(struct cli *cli)
{
	struct api_request request = { .method = "POST", .path = "/backup", .timeout_s = 600 };
	struct api_answer answer;
	struct error e = { 0 };
	char folder[4096] = "", path[8192];

	/* Seen from here, and not from where the daemon is. */
	if (cli->words[0][0] != '/' && !getcwd(folder, sizeof(folder)))
		return cli_usage(cli, "the current folder has no name: say a whole path");
	snprintf(path, sizeof(path), "%s%s%s", folder, folder[0] ? "/" : "", cli->words[0]);
	request.body = json_pack("{s:s}", "path", path);
	if (!request.body)
		return cli_usage(cli, "the path of the backup is no UTF-8");
	if (api_call(cli, &request, &answer, &e))
		return cli_fail(cli, &e);
	if (cli->json)
		cli_json_print(cli, json_incref(answer.json));
	else
		fprintf(cli->out, "%s: %lld bytes\n", text(answer.json, "path"),
			(long long)json_integer_value(json_object_get(answer.json, "bytes")));
	api_answer_free(&answer);
	return CLI_OK;
}
