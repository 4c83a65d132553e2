// SPDX-License-Identifier: Apache-2.0
/*
 * divvy run: an instance with its console here, gone when it ends. The daemon's where there is one; else embedded.c makes one of its own.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "instances/cli/embedded.h"
#include "instances/cli/here.h"
#include "instances/cli/instances.h"

static const char *text(const json_t *json, const char *key)
{
	const char *value = json_string_value(json_object_get(json, key));

	return value ? value : "";
}

struct ending {
	const char *name;
	char why[512];
};

static int on_event(void *opaque, json_t *event)
{
	struct ending *ending = opaque;

	if (strcmp(text(event, "instance"), ending->name) != 0)
		return 0;
	if (!strcmp(text(event, "code"), "failed"))
		snprintf(ending->why, sizeof(ending->why), "%s", text(event, "text"));
	/* Another one of this name, before. */
	else if (!strcmp(text(event, "code"), "defined"))
		ending->why[0] = '\0';
	return 0;
}

/* One that has ended is gone, and only events say why. */
static void ended(struct cli *cli, const char *name, struct error *e)
{
	struct ending ending = { .name = name };
	struct error ignored = { 0 };

	if (api_stream(cli, "/events?since=0&follow=0", on_event, &ending, &ignored))
		ending.why[0] = '\0';
	error_set(e, ENOENT, "instance-ended", "divvy events --since 0 --no-follow",
		  "%s ended before it was seen running%s%s", name, ending.why[0] ? ": " : "",
		  ending.why);
}

/* Its console, as soon as it runs. */
static int with_daemon(struct cli *cli, json_t *body)
{
	struct api_request request = { .method = "POST", .path = "/run", .body = body };
	struct api_answer answer;
	struct error e = { 0 };
	char name[64];
	json_t *instance;
	int err;

	if (api_call(cli, &request, &answer, &e))
		return cli_fail(cli, &e);
	instance = json_incref(answer.json);
	api_answer_free(&answer);
	snprintf(name, sizeof(name), "%s", text(instance, "name"));
	err = instances_await(cli, name, true, &instance, &e);
	if (err == -ENOENT)
		ended(cli, name, &e);
	if (!err && cli->json)
		cli_json_print(cli, json_incref(instance));
	else if (!err && cli_value(cli, "detach"))
		fprintf(cli->out, "%s: %s (next: divvy console %s)\n", name,
			text(instance, "state"), name);
	if (!err && !cli_value(cli, "detach")) {
		err = cli_console_daemon(cli, name, &e);
		if (err == 0 && isatty(STDERR_FILENO))
			fprintf(stderr,
				"divvy console %s comes back to it, divvy stop %s ends it\n", name,
				name);
	}
	json_decref(instance);
	return err < 0 ? cli_fail(cli, &e) : CLI_OK;
}

int cli_run(struct cli *cli)
{
	const char *name = cli_value(cli, "name");
	const bool embedded = cli_value(cli, "embedded") || here_is_asked(cli);
	json_t *body = NULL;
	int status;

	if (name && !cli_name_ok(name))
		return cli_usage(
			cli, "%s is no name of an instance: a-z, 0-9 and -, 41 at most, not a path",
			name);
	if (embedded && cli_value(cli, "detach"))
		return cli_usage(
			cli,
			"without divvyd an instance ends with this program: it can't be detached");
	status = instances_definition(cli, &body);
	if (status)
		return status;
	if (name)
		json_object_set_new(body, "name", json_string(name));
	if (!embedded)
		return with_daemon(cli, body);
	status = embedded_run(cli, body);
	json_decref(body);
	return status;
}
