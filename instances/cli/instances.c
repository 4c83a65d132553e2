// SPDX-License-Identifier: Apache-2.0
/*
 * divvy create, start, stop, restart, delete, share, screenshot, log: what is done to an instance by the daemon. What it answers at once is only
 * that it was written down; unless --no-wait is said we look until the instance is where it was to go.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "instances/cli/instances.h"
#include "instances/cli/progress.h"
#include "instances/types/types.h"

#define LOOK_EVERY_MS 200
#define WAIT_S	      3600

static const char *text(const json_t *json, const char *key)
{
	const char *value = json_string_value(json_object_get(json, key));

	return value ? value : "";
}

static bool name_check(const struct cli *cli, const char *name)
{
	if (cli_name_ok(name))
		return true;
	cli_usage(cli, "%s is no name of an instance: a-z, 0-9 and -, 41 at most, not a path",
		  name);
	return false;
}

/* ---- definitions ----------------------------------------------------------------------------------- */

static int take_display(const struct cli *cli, const char *value, json_t *displays)
{
	unsigned width, height;
	char end;

	if (sscanf(value, "%ux%u%c", &width, &height, &end) != 2 || width < 640 || height < 480 ||
	    width > TYPE_DISPLAY_WIDTH || height > TYPE_DISPLAY_HEIGHT)
		return cli_usage(cli, "not a display: %s (640x480 to %ux%u)", value,
				 TYPE_DISPLAY_WIDTH, TYPE_DISPLAY_HEIGHT);
	if (json_array_size(displays) == TYPE_DISPLAYS_MAX)
		return cli_usage(cli, "too many displays: %u at most", TYPE_DISPLAYS_MAX);
	json_array_append_new(displays,
			      json_pack("{s:i, s:i}", "width", (int)width, "height", (int)height));
	return 0;
}

/* Better now than at its first start. One that we may not read the daemon may. */
static int image_check(const struct cli *cli, const char *path)
{
	struct error e = { 0 };
	char file[PATH_MAX + 16];

	snprintf(file, sizeof(file), "%s/guest.conf", path);
	if (!access(file, F_OK) || errno == EACCES)
		return CLI_OK;
	error_set(&e, errno, "image", "tools/guest-image make, or docs/guests.md",
		  "%s is no image: guest.conf: %s", path, strerror(errno));
	return cli_fail(cli, &e);
}

int instances_definition(const struct cli *cli, json_t **out)
{
	const char *type = cli_value(cli, "type"), *image = cli_value(cli, "image"),
		   *weight = cli_value(cli, "weight"), *restart = cli_value(cli, "restart");
	json_t *body, *displays = json_array();
	char *path = NULL;
	uint64_t number;
	int status = 0;

	if (!type || !image)
		status = cli_usage(cli, "%s needs --type and --image", cli->verb->name);
	for (unsigned i = 0; !status && i < cli->given_count; i++)
		if (!strcmp(cli->given[i].name, "display"))
			status = take_display(cli, cli->given[i].value, displays);
	if (!status && weight && cli_number(weight, 1, 1000000, &number))
		status = cli_usage(cli, "not a weight from 1 to 1000000: %s", weight);
	if (!status && type && !type_name_ok(type))
		status = cli_usage(cli, "%s is no name of a type (divvy list types)", type);
	if (!status && restart && strcmp(restart, "never") != 0 &&
	    strcmp(restart, "on-failure") != 0 && strcmp(restart, "always") != 0)
		status = cli_usage(cli, "--restart %s: never, on-failure or always", restart);
	if (!status && image) {
		/* The daemon has another current folder. */
		path = realpath(image, NULL);
		if (!path)
			status = cli_usage(cli, "image %s: %s", image, strerror(errno));
		else
			status = image_check(cli, path);
	}
	if (status) {
		json_decref(displays);
		free(path);
		return status;
	}
	body = json_pack("{s:s, s:s}", "type", type, "image", path);
	free(path);
	if (json_array_size(displays))
		json_object_set(body, "displays", displays);
	json_decref(displays);
	if (weight)
		json_object_set_new(body, "weight", json_integer((json_int_t)number));
	if (restart)
		json_object_set_new(body, "restart", json_string(restart));
	*out = body;
	return 0;
}

/* ---- waiting --------------------------------------------------------------------------------------- */

static void progress(const struct cli *cli, const char *name, const json_t *instance,
		     struct progress_line *line)
{
	const json_t *json = json_object_get(instance, "progress");
	char buffer[128];

	progress_show(
		cli, name, text(instance, "state"),
		json_is_object(json)
			? progress_text(
				  line, text(json, "what"), text(json, "unit"),
				  (uint64_t)json_integer_value(json_object_get(json, "done")),
				  (uint64_t)json_integer_value(json_object_get(json, "total")),
				  monotonic_ns(), buffer)
			: text(instance, "step"));
}

int instances_await(struct cli *cli, const char *name, bool running, json_t **instance,
		    struct error *e)
{
	const struct timespec pause = { .tv_nsec = LOOK_EVERY_MS * 1000000L };
	struct progress_line line = { 0 };
	char path[API_PATH_SIZE], next[ERROR_NEXT_SIZE];
	int err = 0;

	api_path(path, "/instances/", name, "");
	for (unsigned i = 0; i < WAIT_S * 1000 / LOOK_EVERY_MS && !err; i++) {
		const char *state;

		json_decref(*instance);
		*instance = api_get(cli, path, e);
		state = text(*instance, "state");
		if (!*instance) {
			err = -(e->err ? e->err : EIO);
		} else if (!strcmp(state, "failed")) {
			const json_t *error = json_object_get(*instance, "error");

			snprintf(cli->code, sizeof(cli->code), "%s", text(error, "code"));
			err = error_set(e, EIO, cli->code[0] ? cli->code : "instance-failed",
					text(error, "next")[0] ? text(error, "next")
							       : error_next("log", name, next),
					"%s failed: %s", name, text(error, "text"));
		} else if (!strcmp(state, running ? "running" : "stopped") ||
			   (!running && !strcmp(state, "defined"))) {
			progress_end(cli);
			return 0;
		} else {
			progress(cli, name, *instance, &line);
			nanosleep(&pause, NULL);
		}
	}
	progress_end(cli);
	return err ? err
		   : error_set(e, ETIMEDOUT, "still-going", error_next("show instance", name, next),
			       "%s is not there after an hour", name);
}

/* ---- one change -------------------------------------------------------------------------------------- */

static void say(const struct cli *cli, json_t *instance)
{
	if (cli->json) {
		cli_json_print(cli, json_incref(instance));
		return;
	}
	fprintf(cli->out, "%s: %s", text(instance, "name"), text(instance, "state"));
	if (text(instance, "step")[0])
		fprintf(cli->out, " (%s)", text(instance, "step"));
	fprintf(cli->out, ", %s\n", text(instance, "type"));
}

/* One of divvy run's is forgotten as it ends, which is what was asked for. */
static void say_gone(const struct cli *cli, const char *name)
{
	if (cli->json)
		cli_json_print(cli, json_pack("{s:s, s:b}", "name", name, "deleted", 1));
	else
		fprintf(cli->out, "%s: stopped, and gone: it was transient\n", name);
}

/* POST what is wanted of one instance. NULL: the failure was said. */
static json_t *ask(struct cli *cli, const char *name, const char *what, json_t *body)
{
	struct api_request request = { .method = "POST", .body = body };
	struct api_answer answer;
	struct error e = { 0 };
	char path[API_PATH_SIZE];
	json_t *instance;

	request.path = api_path(path, "/instances/", name, what);
	if (api_call(cli, &request, &answer, &e)) {
		cli_fail(cli, &e);
		return NULL;
	}
	instance = json_incref(answer.json);
	api_answer_free(&answer);
	return instance;
}

/* Wait for where it goes, and say so. @instance: as it was answered, taken over. */
static int settle(struct cli *cli, const char *name, json_t *instance, bool running)
{
	const bool transient = json_is_true(json_object_get(instance, "transient"));
	struct error e = { 0 };
	int status = CLI_OK, err;

	/* One that had failed before is at rest, too. */
	if (cli_value(cli, "no-wait") || (!running && !strcmp(text(instance, "state"), "failed")))
		err = 0;
	else
		err = instances_await(cli, name, running, &instance, &e);
	if (err == -ENOENT && transient && !running)
		say_gone(cli, name);
	else if (err)
		status = cli_fail(cli, &e);
	else
		say(cli, instance);
	json_decref(instance);
	return status;
}

/* --force, --timeout, and of stop --resume. False: usage was said. */
static bool stop_body(const struct cli *cli, json_t **body)
{
	const char *timeout = cli_value(cli, "timeout");
	uint64_t seconds = 30;

	if (timeout && cli_number(timeout, 0, 3600, &seconds)) {
		cli_usage(cli, "not a time in seconds, up to 3600: %s", timeout);
		return false;
	}
	*body = json_pack("{s:b, s:I}", "force", cli_value(cli, "force") != NULL, "timeout",
			  (json_int_t)seconds);
	if (cli_value(cli, "resume"))
		json_object_set_new(*body, "resume", json_true());
	return true;
}

/* The same of all @names: all are asked, and then each is waited for. @body may be NULL, and is taken over. The worst status of all. */
static int each(struct cli *cli, const json_t *names, const char *what, json_t *body, bool running)
{
	json_t *asked = json_array(), *one;
	int worst = asked ? CLI_OK : CLI_FAILED;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)names, i, one)
	{
		json_t *instance = ask(cli, json_string_value(one), what, json_incref(body));

		if (!instance)
			worst = CLI_FAILED;
		else
			json_array_append_new(asked, instance);
	}
	json_array_foreach(asked, i, one)
	{
		const int status = settle(cli, text(one, "name"), json_incref(one), running);

		worst = MAX(worst, status);
	}
	json_decref(asked);
	json_decref(body);
	return worst;
}

static int each_named(struct cli *cli, const char *what, json_t *body, bool running)
{
	json_t *names = json_array();
	int status = names ? CLI_OK : CLI_FAILED;

	for (unsigned i = 0; i < cli->count && status == CLI_OK; i++) {
		if (name_check(cli, cli->words[i]))
			json_array_append_new(names, json_string(cli->words[i]));
		else
			status = CLI_USAGE;
	}
	if (status == CLI_OK)
		status = each(cli, names, what, body, running);
	else
		json_decref(body);
	json_decref(names);
	return status;
}

int cli_start(struct cli *cli)
{
	return each_named(cli, "/start", NULL, true);
}

/* Whoever runs, or is to run again in a moment. */
static int stop_all(struct cli *cli, json_t *body)
{
	struct error e = { 0 };
	json_t *list = api_get(cli, "/instances", &e), *names = json_array(), *one;
	int status = list && names ? CLI_OK : cli_fail(cli, &e);
	size_t i;

	json_array_foreach(json_object_get(list, "instances"), i, one)
	{
		const char *state = text(one, "state");

		if (!strcmp(text(one, "desired"), "running") || !strcmp(state, "running") ||
		    !strcmp(state, "starting") || !strcmp(state, "stopping"))
			json_array_append(names, json_object_get(one, "name"));
	}
	if (status == CLI_OK)
		status = each(cli, names, "/stop", body, false);
	else
		json_decref(body);
	json_decref(names);
	json_decref(list);
	return status;
}

int cli_stop(struct cli *cli)
{
	const bool all = cli_value(cli, "all");
	json_t *body;

	if (all == (cli->count > 0))
		return cli_usage(cli, all ? "--all, or names" : "stop needs a NAME, or --all");
	if (!stop_body(cli, &body))
		return CLI_USAGE;
	return all ? stop_all(cli, body) : each_named(cli, "/stop", body, false);
}

int cli_restart(struct cli *cli)
{
	json_t *body;

	return stop_body(cli, &body) ? each_named(cli, "/restart", body, true) : CLI_USAGE;
}

int cli_create(struct cli *cli)
{
	const char *name = cli->words[0], *digest = cli_value(cli, "digest");
	struct api_request request = { .method = "PUT" };
	struct api_answer answer;
	char path[API_PATH_SIZE], header[128] = "";
	struct error e = { 0 };
	json_t *instance;
	int status;

	if (!name_check(cli, name))
		return CLI_USAGE;
	status = instances_definition(cli, &request.body);
	if (status)
		return status;
	request.path = api_path(path, "/instances/", name, "");
	if (digest)
		snprintf(header, sizeof(header), "If-Match: %.100s", digest);
	else if (cli_value(cli, "new"))
		snprintf(header, sizeof(header), "If-None-Match: *");
	if (digest || cli_value(cli, "new"))
		request.header = header;
	if (header[strcspn(header, "\r\n")]) {
		json_decref(request.body);
		return cli_usage(cli, "a digest has one line");
	}
	if (api_call(cli, &request, &answer, &e))
		return cli_fail(cli, &e);
	if (!cli_value(cli, "start"))
		say(cli, answer.json);
	api_answer_free(&answer);
	if (!cli_value(cli, "start"))
		return CLI_OK;
	instance = ask(cli, name, "/start", NULL);
	return instance ? settle(cli, name, instance, true) : CLI_FAILED;
}

int cli_delete(struct cli *cli)
{
	int worst = CLI_OK;

	for (unsigned i = 0; i < cli->count; i++)
		if (!name_check(cli, cli->words[i]))
			return CLI_USAGE;
	for (unsigned i = 0; i < cli->count; i++) {
		struct api_request request = { .method = "DELETE" };
		struct api_answer answer;
		char path[API_PATH_SIZE];
		struct error e = { 0 };

		request.path = api_path(path, "/instances/", cli->words[i], "");
		if (api_call(cli, &request, &answer, &e)) {
			worst = cli_fail(cli, &e);
			continue;
		}
		api_answer_free(&answer);
		if (cli->json)
			cli_json_print(
				cli, json_pack("{s:s, s:b}", "name", cli->words[i], "deleted", 1));
		else
			fprintf(cli->out, "%s: deleted\n", cli->words[i]);
	}
	return worst;
}

int cli_share(struct cli *cli)
{
	const char *weight = cli_value(cli, "weight");
	struct api_request request = { .method = "PATCH" };
	struct api_answer answer;
	char path[API_PATH_SIZE];
	struct error e = { 0 };
	uint64_t number;

	if (!name_check(cli, cli->words[0]))
		return CLI_USAGE;
	if (!weight || cli_number(weight, 1, 1000000, &number))
		return cli_usage(cli, "share needs --weight, from 1 to 1000000");
	request.body = json_pack("{s:I}", "weight", (json_int_t)number);
	request.path = api_path(path, "/instances/", cli->words[0], "/share");
	if (api_call(cli, &request, &answer, &e))
		return cli_fail(cli, &e);
	say(cli, answer.json);
	api_answer_free(&answer);
	return CLI_OK;
}

/* ---- what it shows and said ---------------------------------------------------------------------------- */

/* Written beside and then named, so that a full disk leaves what was there. */
static int file_put(const char *path, const char *bytes, size_t size, struct error *e)
{
	char beside[4096];
	int fd, err = 0;

	if (snprintf(beside, sizeof(beside), "%s.XXXXXX", path) >= (int)sizeof(beside))
		return error_set(e, ENAMETOOLONG, "output", NULL, "%s: too long", path);
	fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0)
		return error_set(e, errno, "output", NULL, "%s: %s", path, strerror(errno));
	err = pwrite_full(fd, bytes, size, 0);
	if (!err && rename(beside, path) < 0)
		err = -errno;
	close(fd);
	if (!err)
		return 0;
	unlink(beside);
	return error_set(e, -err, "output", NULL, "%s: %s", path, strerror(-err));
}

int cli_screenshot(struct cli *cli)
{
	const char *head = cli_value(cli, "head"), *output = cli_value(cli, "output");
	struct api_request request = { 0 };
	struct api_answer answer;
	char path[API_PATH_SIZE], rest[64], file[64];
	struct error e = { 0 };
	uint64_t number = 0;
	int err = 0;

	if (!name_check(cli, cli->words[0]))
		return CLI_USAGE;
	if (head && cli_number(head, 0, 63, &number))
		return cli_usage(cli, "not a head: %s", head);
	snprintf(rest, sizeof(rest), "/screenshot/%u", (unsigned)number);
	snprintf(file, sizeof(file), "%.41s.png", cli->words[0]);
	request.path = api_path(path, "/instances/", cli->words[0], rest);
	if (api_call(cli, &request, &answer, &e))
		return cli_fail(cli, &e);
	if (output && !strcmp(output, "-")) {
		fwrite(answer.bytes, 1, answer.size, cli->out);
	} else {
		err = file_put(output ? output : file, answer.bytes, answer.size, &e);
		if (!err && cli->json)
			cli_json_print(cli, json_pack("{s:s, s:I}", "path", output ? output : file,
						      "bytes", (json_int_t)answer.size));
		else if (!err)
			fprintf(cli->out, "%s: %zu bytes\n", output ? output : file, answer.size);
	}
	api_answer_free(&answer);
	return err ? cli_fail(cli, &e) : CLI_OK;
}

int cli_log(struct cli *cli)
{
	struct api_request request = { 0 };
	struct api_answer answer;
	char path[API_PATH_SIZE];
	struct error e = { 0 };

	if (!name_check(cli, cli->words[0]))
		return CLI_USAGE;
	request.path = api_path(path, "/instances/", cli->words[0], "/log");
	if (api_call(cli, &request, &answer, &e))
		return cli_fail(cli, &e);
	/* A guest's text may be in it: nothing of it moves a terminal's cursor. */
	for (size_t i = 0; i < answer.size; i++) {
		const unsigned char c = (unsigned char)answer.bytes[i];

		if (c != '\n' && c != '\t' && (c < ' ' || c >= 0x7f))
			answer.bytes[i] = '?';
	}
	if (cli->json)
		cli_json_print(cli, json_pack("{s:s%}", "log", answer.bytes ? answer.bytes : "",
					      answer.size));
	else
		fwrite(answer.bytes, 1, answer.size, cli->out);
	api_answer_free(&answer);
	return CLI_OK;
}
