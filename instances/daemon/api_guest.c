// SPDX-License-Identifier: Apache-2.0
/* What is asked of an instance that runs: its log, another weight, what its screens show, its console and its displays themselves. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "instances/daemon/api.h"
#include "vgpu-sched/vgpu-sched.h"

#define LOG_SHOWN (64 * KIB)
#define SCREEN_MS 10000
#define WEIGH_MS  15000

void api_instance_log(struct http_request *request, const struct api_place *place)
{
	struct instance *instance = api_find_instance(request, place->name, false);
	size_t size = 0;
	char *text;

	if (!instance)
		return;
	text = launch_log_tail(&request->daemon->places, place->name, LOG_SHOWN, &size);
	for (size_t i = 0; text && i < size; i++)
		if ((unsigned char)text[i] > '~' ||
		    ((unsigned char)text[i] < ' ' && text[i] != '\n'))
			text[i] = '?';
	http_bytes(request, 200, "text/plain", text ? text : strdup(""), size);
}

/* ---- another weight ------------------------------------------------------------------------------------------ */

struct weigh {
	struct http_request *request;
	const char *socket;
	char instance[STORE_NAME_SIZE], uuid[37];
	uint32_t weight;
	unsigned count;
	char names[LAUNCH_GPUS_MAX][48];
};

static int weigh_work(void *opaque, void *result, struct error *e)
{
	const struct weigh *weigh = opaque;
	int err = 0;

	for (unsigned i = 0; i < weigh->count && !err; i++)
		err = arbiter_reweigh(weigh->socket, weigh->names[i], weigh->weight, e);
	return err;
}

/* It is written down already, and holds from the next start. */
static void weigh_failed(struct http_request *request, const struct error *why)
{
	struct error e = *why;

	text_append(e.text, sizeof(e.text),
		    "; its definition has the weight now, what runs may not have it");
	http_failed(request, &e);
}

static void weigh_done(void *opaque, int err, const void *result, const struct error *why)
{
	struct weigh *weigh = opaque;
	struct instance *instance = instance_find(weigh->request->daemon, weigh->instance);
	struct error e = { 0 };

	if (err) {
		weigh_failed(weigh->request, why);
	} else if (!instance || strcmp(instance->row.uuid, weigh->uuid) != 0) {
		/* Meanwhile the name may have become another's. */
		error_set(&e, ENOENT, "no-such-instance", "divvy list instances", "%s is gone",
			  weigh->instance);
		http_failed(weigh->request, &e);
	} else {
		api_show_instance(weigh->request, instance, 200);
	}
	free(weigh);
}

/* Its vGPUs that have a weight, as the arbiter calls them. */
static void weigh_whom(const struct instance *instance, struct weigh *weigh)
{
	for (unsigned i = 0; i < instance->part_count && instance->row.state == STORE_RUNNING;
	     i++) {
		const unsigned entry = instance->placement.parts[i].entry;

		if (entry >= instance->type.gpu_count || instance->parts[i].dedicated)
			continue;
		if (instance->type.gpus[entry].policy == SCHED_WEIGHTED ||
		    instance->type.gpus[entry].policy == SCHED_BURST)
			launch_vgpu_name(instance->row.name, i, weigh->names[weigh->count++]);
	}
}

void api_instance_share(struct http_request *request, const struct api_place *place)
{
	struct instance *instance = api_find_instance(request, place->name, true);
	struct weigh *weigh;
	struct error e = { 0 };
	struct job *job;
	uint32_t weight;
	json_t *json;
	int err;

	if (!instance || !api_check_match(request, instance))
		return;
	json = api_body_read(request, API_SHARE);
	if (!json)
		return;
	weight = (uint32_t)json_integer_value(json_object_get(json, "weight"));
	json_decref(json);
	/* A vGPU of it may be made with the old weight at this moment, and not be known to the arbiter yet. */
	if (instance->row.state == STORE_STARTING) {
		api_refuse_instance(request, 409, "instance-starting", "show instance",
				    "%.60s is starting: its weight can be changed once it runs",
				    instance->row.name);
		return;
	}
	weigh = calloc(1, sizeof(*weigh));
	if (!weigh) {
		http_failed(request, &(struct error){ .err = ENOMEM, .code = "no-memory" });
		return;
	}
	*weigh = (struct weigh){ .request = request,
				 .socket = request->daemon->arbiter_socket,
				 .weight = weight };
	memcpy(weigh->instance, instance->row.name, sizeof(weigh->instance));
	memcpy(weigh->uuid, instance->row.uuid, sizeof(weigh->uuid));
	weigh_whom(instance, weigh);
	/* Written down first: a change that was refused for a full store is not in effect. */
	err = instance_weigh(instance, weight, &e);
	if (err) {
		free(weigh);
		http_failed(request, &e);
		return;
	}
	/* Nothing of it runs: it is a matter of its definition alone. */
	if (!weigh->count) {
		weigh_done(weigh, 0, NULL, NULL);
		return;
	}
	err = job_run(request->daemon, weigh_work, weigh, WEIGH_MS, weigh_done, weigh, &job, &e);
	if (err) {
		free(weigh);
		weigh_failed(request, &e);
		return;
	}
	job_tell(job);
}

/* ---- screenshots ------------------------------------------------------------------------------------------------ */

static void on_screen(void *opaque, unsigned status, const char *body, size_t size)
{
	struct http_request *request = opaque;
	char *copy;

	if (status == 404) {
		api_refuse(request, 404, "no-such-head", NULL, "there is no such head%s", "");
		return;
	}
	/* It is the vGPU that says so: a picture is at least a PNG's beginning. */
	if (status != 200 || size < 8 || memcmp(body, "\x89PNG\r\n\x1a\n", 8) != 0) {
		api_refuse(request, 409, "no-screenshot", NULL, "its vGPU shows nothing now%s", "");
		return;
	}
	copy = malloc(size);
	if (copy)
		memcpy(copy, body, size);
	if (copy)
		http_bytes(request, 200, "image/png", copy, size);
	else
		http_failed(request, &(struct error){ .err = ENOMEM, .code = "no-memory" });
}

/* Heads are counted over its vGPUs; only the first has those of the type, further ones have one each. */
void api_instance_screen(struct http_request *request, const struct api_place *place)
{
	struct instance *instance = api_find_instance(request, place->name, false);
	struct launch_instance *launch;
	struct launch_request *asked;
	char path[108], file[32], url[64], *end;
	unsigned long head = strtoul(place->what, &end, 10);
	int index = -1;

	if (!instance)
		return;
	launch = *end || place->what[0] < '0' || place->what[0] > '9' ? NULL
								      : calloc(1, sizeof(*launch));
	if (launch) {
		instance_describe(instance, launch);
		for (unsigned i = 0; i < launch->gpu_count && index < 0; i++) {
			const unsigned long heads =
				launch->gpus[i].dedicated ? 0 : MAX(launch->gpus[i].head_count, 1u);

			if (head < heads)
				index = (int)i;
			else
				head -= heads;
		}
		free(launch);
	}
	if (index < 0 || instance->row.state != STORE_RUNNING) {
		api_refuse_instance(request,
				    index < 0 && instance->row.state == STORE_RUNNING ? 404 : 409,
				    "no-such-head", "show instance", "%.60s shows no such head now",
				    instance->row.name);
		return;
	}
	/* It is the vGPU that says how large, and the client how long: both may be somebody's who wants our memory. */
	if (!http_large(request)) {
		api_refuse(request, 429, "too-many-screenshots", NULL,
			   "this user waits for four already%s", "");
		return;
	}
	snprintf(file, sizeof(file), "gpu%d.ctl", index);
	launch_path(&request->daemon->places, instance->row.name, file, path);
	snprintf(url, sizeof(url), "/api/v1/vgpu.screenshot/%lu", head);
	if (launch_ask(request->daemon->event, path, "GET", url, NULL, LAUNCH_PICTURE_MAX,
		       SCREEN_MS, on_screen, request, &asked))
		api_refuse(request, 409, "no-screenshot", NULL, "its vGPU does not answer%s", "");
}

/* ---- console and displays ----------------------------------------------------------------------------------------- */

/* @what: "console", or a display's number for people. */
static void tunnel_open(struct http_request *request, struct instance *instance, const char *path,
			const char *code, const char *what)
{
	int fd;

	if (!request->wants_tunnel) {
		char next[ERROR_NEXT_SIZE];

		error_next(strcmp(code, "console-opened") ? "vnc" : "console", instance->row.name,
			   next);
		api_refuse(request, 426, "upgrade-required", next,
			   "%.60s is had by Connection: Upgrade, Upgrade: tcp", what);
		return;
	}
	/* The folder of sockets is root's: no instance can put another one there. */
	fd = unix_connect(path, SOCK_STREAM | SOCK_NONBLOCK);
	if (fd < 0) {
		api_refuse_instance(request, 409, "not-running", "show instance",
				    "%.60s has none now: it does not run, or too many look",
				    instance->row.name);
		return;
	}
	event_instance(instance, code, "%s, by user %u", what, request->uid);
	http_tunnel(request, fd);
}

void api_instance_console(struct http_request *request, const struct api_place *place)
{
	struct instance *instance = api_find_instance(request, place->name, true);
	char path[108];

	if (!instance)
		return;
	launch_path(&request->daemon->places, instance->row.name, "console", path);
	tunnel_open(request, instance, path, "console-opened", "the console");
}

void api_instance_display(struct http_request *request, const struct api_place *place)
{
	struct instance *instance = api_find_instance(request, place->name, true);
	char path[108], what[32], *end;
	unsigned long head = strtoul(place->what, &end, 10);

	if (!instance)
		return;
	if (*end || place->what[0] < '0' || place->what[0] > '9' ||
	    head >= instance->type.display_count) {
		api_refuse_instance(request, 404, "no-such-head", "show instance",
				    "%.60s has no such display", instance->row.name);
		return;
	}
	/* While it has no vGPU there is no socket. */
	launch_viewer_path(&request->daemon->places, instance->row.name, (unsigned)head, path);
	snprintf(what, sizeof(what), "display %lu", head);
	tunnel_open(request, instance, path, "display-opened", what);
}
