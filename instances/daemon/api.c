// SPDX-License-Identifier: Apache-2.0
/*
 * What may be asked, by whom: a table of paths, each with the role that it takes; bodies judged key by key before anything is done
 * with them. instances/openapi.yaml is the same for people.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generated_openapi.h"
#include "instances/daemon/private.h"
#include "vgpu-sched/vgpu-sched.h"

#define LOG_SHOWN  (64 * KIB)
#define SCREEN_MS  10000
#define WEIGH_MS   15000
#define STOP_S	   30
#define STOP_S_MAX 3600
#define LEASES_MAX 200

/* The parts of a path that a row leaves open. */
struct place {
	char name[128], what[128];
};

static void refuse(struct http_request *request, unsigned status, const char *code,
		   const char *next, const char *fmt, const char *what)
{
	struct error e = { 0 };

	error_set(&e, EINVAL, code, next, fmt, what);
	http_error(request, status, &e);
}

bool api_may(const struct http_request *request, const struct instance *instance, bool change)
{
	if (request->role == DAEMON_ADMIN)
		return true;
	if (request->role == DAEMON_VIEWER)
		return !change;
	return request->role == DAEMON_USER && instance->row.owner == request->uid;
}

/* To be seen or changed by who asks; else NULL, and answered. */
static struct instance *the_instance(struct http_request *request, const char *name, bool change)
{
	struct instance *instance = instance_find(request->daemon, name);

	/* What is another's is not there for a user: names tell something, too. */
	if (!instance || !api_may(request, instance, false)) {
		refuse(request, 404, "no-such-instance", "divvy list instances",
		       "there is no instance %.60s", name);
		return NULL;
	}
	if (change && !api_may(request, instance, true)) {
		refuse(request, 403, "not-allowed", NULL, "who only looks cannot change %.60s",
		       name);
		return NULL;
	}
	return instance;
}

static void show(struct http_request *request, struct instance *instance, unsigned status)
{
	free(request->tag);
	if (asprintf(&request->tag, "\"%s\"", instance->row.digest) < 0)
		request->tag = NULL;
	http_json(request, status, api_instance(instance));
}

/* ---- bodies -------------------------------------------------------------------------------------------- */

struct key {
	const char *name;
	int (*check)(const json_t *value);
	const char *must;
	bool needed;
};

/* An object with these keys and no others; NULL, and answered. An empty body is {} where nothing is needed. */
static json_t *body_read(struct http_request *request, const struct key *keys, unsigned count)
{
	json_t *json = request->size ? json_loadb(request->body, request->size,
						  JSON_REJECT_DUPLICATES, NULL)
				     : json_object();
	const char *name;
	json_t *value;

	if (!json_is_object(json)) {
		json_decref(json);
		refuse(request, 400, "bad-json", NULL, "the body is no JSON object%s", "");
		return NULL;
	}
	json_object_foreach(json, name, value)
	{
		unsigned i = 0;

		while (i < count && strcmp(keys[i].name, name) != 0)
			i++;
		if (i == count) {
			refuse(request, 400, "unknown-key", "GET /api/v1/openapi.json",
			       "%.60s is no key of this request", name);
			json_decref(json);
			return NULL;
		}
		if (!keys[i].check(value)) {
			struct error e = { 0 };

			error_set(&e, EINVAL, "bad-value", "GET /api/v1/openapi.json",
				  "%s must be %s", keys[i].name, keys[i].must);
			http_error(request, 400, &e);
			json_decref(json);
			return NULL;
		}
	}
	for (unsigned i = 0; i < count; i++)
		if (keys[i].needed && !json_object_get(json, keys[i].name)) {
			refuse(request, 400, "missing-key", "GET /api/v1/openapi.json",
			       "%s is missing", keys[i].name);
			json_decref(json);
			return NULL;
		}
	return json;
}

/* One line of printable ASCII. */
static int is_text(const json_t *value)
{
	const char *text = json_string_value(value);

	if (!text || strlen(text) != json_string_length(value))
		return 0;
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
			return 0;
	return text[0] && strlen(text) <= 1000;
}

static int is_path(const json_t *value)
{
	return is_text(value) && json_string_value(value)[0] == '/';
}

static int is_type(const json_t *value)
{
	return is_text(value) && type_name_ok(json_string_value(value));
}

static int is_name(const json_t *value)
{
	return is_text(value) && instance_name_ok(json_string_value(value));
}

static int is_restart(const json_t *value)
{
	const char *text = json_string_value(value);

	return text &&
	       (!strcmp(text, "never") || !strcmp(text, "on-failure") || !strcmp(text, "always"));
}

static int is_within(const json_t *value, json_int_t least, json_int_t most)
{
	return json_is_integer(value) && json_integer_value(value) >= least &&
	       json_integer_value(value) <= most;
}

static int is_weight(const json_t *value)
{
	return is_within(value, 1, SCHED_WEIGHT_MAX);
}

static int is_timeout(const json_t *value)
{
	return is_within(value, 0, STOP_S_MAX);
}

static int is_bool(const json_t *value)
{
	return json_is_boolean(value);
}

static int is_displays(const json_t *value)
{
	json_t *one;
	size_t i;

	if (!json_is_array(value) || json_array_size(value) > TYPE_DISPLAYS_MAX)
		return 0;
	json_array_foreach((json_t *)(uintptr_t)value, i, one)
	{
		if (json_object_size(one) != 2 ||
		    !is_within(json_object_get(one, "width"), 640, TYPE_DISPLAY_WIDTH) ||
		    !is_within(json_object_get(one, "height"), 480, TYPE_DISPLAY_HEIGHT))
			return 0;
	}
	return 1;
}

#define DEFINITION_KEYS                                                                        \
	{ "type", is_type, "the name of an instance type", true },                             \
		{ "image", is_path, "the absolute path of a folder", true },                   \
		{ "displays", is_displays, "up to 4 of {width, height}, 640x480 to 4096x2160", \
		  false },                                                                     \
	{                                                                                      \
		"weight", is_weight, "a whole number from 1 to 1000000", false                 \
	}

static const struct key define_keys[] = {
	DEFINITION_KEYS,
	{ "restart", is_restart, "never, on-failure or always", false },
};
static const struct key run_keys[] = {
	DEFINITION_KEYS,
	{ "name", is_name, "a-z, 0-9 and -, 41 at most", false },
};
static const struct key stop_keys[] = {
	{ "force", is_bool, "true or false", false },
	{ "timeout", is_timeout, "seconds, up to 3600", false },
};
static const struct key share_keys[] = {
	{ "weight", is_weight, "a whole number from 1 to 1000000", true },
};
static const struct key backup_keys[] = {
	{ "path", is_path, "an absolute path", true },
};

/* ---- instances ------------------------------------------------------------------------------------------- */

/* If-Match against lost updates (RFC 9110, 13.1.1): its digest, in quotes or not, or any. */
static bool matches(const struct http_request *request, const struct instance *instance)
{
	const char *tag = request->if_match;
	size_t length;

	if (!tag)
		return true;
	if (!strcmp(tag, "*"))
		return instance != NULL;
	length = strlen(tag);
	if (length >= 2 && tag[0] == '"' && tag[length - 1] == '"') {
		tag++;
		length -= 2;
	}
	return instance && length == strlen(instance->row.digest) &&
	       !memcmp(tag, instance->row.digest, length);
}

static bool check_match(struct http_request *request, const struct instance *instance)
{
	if (matches(request, instance))
		return true;
	refuse(request, 412, "digest-differs", "divvy show instance NAME",
	       instance ? "%.60s was changed by somebody else" : "%.60s is not there",
	       instance ? instance->row.name : "the instance");
	return false;
}

/*
 * Who is no admin takes images from where an admin puts them: the daemon reads them as root. What is remembered is the path behind all
 * links, since a link may lead elsewhere by the time it is read.
 */
static bool image_allowed(struct http_request *request, json_t *json)
{
	const struct config *config = &request->daemon->config;
	const char *image = json_string_value(json_object_get(json, "image"));
	char real[PATH_MAX];

	if (request->role == DAEMON_ADMIN)
		return true;
	if (realpath(image, real))
		for (unsigned i = 0; i < config->image_count; i++) {
			size_t length = strlen(config->images[i]);

			if (strncmp(real, config->images[i], length) != 0 || real[length] != '/')
				continue;
			json_object_set_new(json, "image", json_string(real));
			return json_is_string(json_object_get(json, "image"));
		}
	refuse(request, 403, "image-not-allowed", "images: in divvyd.yaml",
	       "%.200s is in no folder that users may take images from", image);
	return false;
}

static bool within_quota(struct http_request *request)
{
	const struct daemon *daemon = request->daemon;
	unsigned his = 0;

	if (request->role == DAEMON_ADMIN)
		return true;
	for (unsigned i = 0; i < daemon->instance_count; i++)
		his += daemon->instances[i]->row.owner == request->uid;
	if (his < daemon->config.instances_per_user)
		return true;
	refuse(request, 409, "too-many-instances", "divvy delete NAME",
	       "this user has as many instances as one may have%s", "");
	return false;
}

static void instance_put(struct http_request *request, const struct place *place)
{
	struct instance *existing = instance_find(request->daemon, place->name), *instance;
	struct error e = { 0 };
	bool changed;
	json_t *json;

	if (existing && !api_may(request, existing, true)) {
		refuse(request, 403, "not-allowed", NULL, "%.60s is another's", place->name);
		return;
	}
	if (existing && request->if_none_match && !strcmp(request->if_none_match, "*")) {
		refuse(request, 412, "instance-exists", NULL, "%.60s is there already",
		       place->name);
		return;
	}
	if (!check_match(request, existing))
		return;
	json = body_read(request, define_keys, ARRAY_SIZE(define_keys));
	if (!json)
		return;
	if (image_allowed(request, json) && (existing || within_quota(request))) {
		if (instance_define(request->daemon, place->name, json, request->uid, false,
				    existing, &instance, &changed, &e))
			http_failed(request, &e);
		else
			show(request, instance, existing ? 200 : 201);
	}
	json_decref(json);
}

static void instance_get(struct http_request *request, const struct place *place)
{
	struct instance *instance = the_instance(request, place->name, false);

	if (instance)
		show(request, instance, 200);
}

static void instance_remove(struct http_request *request, const struct place *place)
{
	struct instance *instance = the_instance(request, place->name, true);
	struct error e = { 0 };

	if (!instance || !check_match(request, instance))
		return;
	if (instance_active(instance)) {
		refuse(request, 409, "instance-running", "divvy stop NAME", "%.60s runs",
		       place->name);
		return;
	}
	if (instance_delete(instance, &e))
		http_failed(request, &e);
	else
		http_json(request, 204, NULL);
}

static void instances_get(struct http_request *request, const struct place *place)
{
	struct daemon *daemon = request->daemon;
	json_t *list = json_array();

	for (unsigned i = 0; i < daemon->instance_count; i++)
		if (api_may(request, daemon->instances[i], false))
			json_array_append_new(list, api_instance(daemon->instances[i]));
	http_json(request, 200, json_pack("{s:o}", "instances", list));
}

static void instance_begin(struct http_request *request, const struct place *place)
{
	struct instance *instance = the_instance(request, place->name, true);
	struct error e = { 0 };
	bool runs;

	if (!instance)
		return;
	runs = instance->row.state == STORE_RUNNING || instance->row.state == STORE_STARTING;
	if (instance_start(instance, &e))
		http_failed(request, &e);
	else
		show(request, instance, runs ? 200 : 202);
}

static void stop_or_restart(struct http_request *request, const struct place *place, bool restart)
{
	struct instance *instance = the_instance(request, place->name, true);
	json_t *json, *timeout;
	struct error e = { 0 };
	bool active;
	int err;

	if (!instance)
		return;
	json = body_read(request, stop_keys, ARRAY_SIZE(stop_keys));
	if (!json)
		return;
	timeout = json_object_get(json, "timeout");
	active = instance_active(instance);
	if (restart && !active)
		err = instance_start(instance, &e);
	else
		err = instance_stop(instance, json_is_true(json_object_get(json, "force")),
				    timeout ? (unsigned)json_integer_value(timeout) : STOP_S,
				    restart, &e);
	json_decref(json);
	if (err)
		http_failed(request, &e);
	else
		show(request, instance, active || restart ? 202 : 200);
}

static void instance_halt(struct http_request *request, const struct place *place)
{
	stop_or_restart(request, place, false);
}

static void instance_again(struct http_request *request, const struct place *place)
{
	stop_or_restart(request, place, true);
}

static void name_make(struct daemon *daemon, const char *type, char name[STORE_NAME_SIZE])
{
	char base[32];
	unsigned n = 1;

	/* A type's name may hold dots; an instance's may not. */
	snprintf(base, sizeof(base), "%.30s", type);
	for (char *p = base; *p; p++)
		*p = *p == '.' ? '-' : *p;
	do
		snprintf(name, STORE_NAME_SIZE, "%s-%u", base, n++);
	while (instance_find(daemon, name));
}

static void instance_run(struct http_request *request, const struct place *place)
{
	struct daemon *daemon = request->daemon;
	json_t *json = body_read(request, run_keys, ARRAY_SIZE(run_keys));
	const char *wanted = json_string_value(json_object_get(json, "name"));
	struct instance *instance;
	char name[STORE_NAME_SIZE];
	struct error e = { 0 };
	bool changed;

	if (!json)
		return;
	if (wanted)
		snprintf(name, sizeof(name), "%s", wanted);
	else
		name_make(daemon, json_string_value(json_object_get(json, "type")), name);
	json_object_del(json, "name");
	if (instance_find(daemon, name))
		refuse(request, 409, "instance-exists", NULL, "%.60s is there already", name);
	else if (image_allowed(request, json) && within_quota(request)) {
		if (instance_define(daemon, name, json, request->uid, true, NULL, &instance,
				    &changed, &e)) {
			http_failed(request, &e);
		} else if (instance_start(instance, &e)) {
			struct error ignored = { 0 };

			if (instance_delete(instance, &ignored))
				log_warn("%s: %s", name, ignored.text);
			http_failed(request, &e);
		} else {
			show(request, instance, 202);
		}
	}
	json_decref(json);
}

static void instance_log(struct http_request *request, const struct place *place)
{
	struct instance *instance = the_instance(request, place->name, false);
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

static void weigh_done(void *opaque, int err, const void *result, const struct error *why)
{
	struct weigh *weigh = opaque;
	struct daemon *daemon = weigh->request->daemon;
	struct instance *instance = instance_find(daemon, weigh->instance);
	struct error e = { 0 };

	/* Meanwhile the name may have become another's. */
	if (!err && (!instance || strcmp(instance->row.uuid, weigh->uuid) != 0))
		err = error_set(&e, ENOENT, "no-such-instance", NULL, "%s is gone",
				weigh->instance);
	else if (!err)
		err = instance_weigh(instance, weigh->weight, &e);
	else
		e = *why;
	if (err)
		http_failed(weigh->request, &e);
	else
		show(weigh->request, instance, 200);
	free(weigh);
}

static void instance_share(struct http_request *request, const struct place *place)
{
	struct instance *instance = the_instance(request, place->name, true);
	struct weigh *weigh;
	struct error e = { 0 };
	struct job *job;
	uint32_t weight;
	json_t *json;
	int err = 0;

	if (!instance || !check_match(request, instance))
		return;
	json = body_read(request, share_keys, ARRAY_SIZE(share_keys));
	if (!json)
		return;
	weight = (uint32_t)json_integer_value(json_object_get(json, "weight"));
	json_decref(json);
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
	for (unsigned i = 0; i < instance->part_count && instance->row.state == STORE_RUNNING;
	     i++) {
		const unsigned entry = instance->placement.parts[i].entry;

		if (entry >= instance->type.gpu_count || instance->parts[i].dedicated)
			continue;
		if (instance->type.gpus[entry].policy == SCHED_WEIGHTED ||
		    instance->type.gpus[entry].policy == SCHED_BURST)
			launch_vgpu_name(instance->row.name, i, weigh->names[weigh->count++]);
	}
	/* Nothing of it runs: it is a matter of its definition alone. */
	if (!weigh->count) {
		weigh_done(weigh, 0, NULL, NULL);
		return;
	}
	err = job_run(request->daemon, weigh_work, weigh, WEIGH_MS, weigh_done, weigh, &job, &e);
	if (err) {
		free(weigh);
		http_failed(request, &e);
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
		refuse(request, 404, "no-such-head", NULL, "there is no such head%s", "");
		return;
	}
	/* It is the vGPU that says so: a picture is at least a PNG's beginning. */
	if (status != 200 || size < 8 || memcmp(body, "\x89PNG\r\n\x1a\n", 8) != 0) {
		refuse(request, 409, "no-screenshot", NULL, "its vGPU shows nothing now%s", "");
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
static void instance_screen(struct http_request *request, const struct place *place)
{
	struct instance *instance = the_instance(request, place->name, false);
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
		refuse(request, index < 0 && instance->row.state == STORE_RUNNING ? 404 : 409,
		       "no-such-head", "divvy show instance NAME", "%.60s shows no such head now",
		       instance->row.name);
		return;
	}
	/* It is the vGPU that says how large, and the client how long: both may be somebody's who wants our memory. */
	if (!http_large(request)) {
		refuse(request, 429, "too-many-screenshots", NULL,
		       "this user waits for four already%s", "");
		return;
	}
	snprintf(file, sizeof(file), "gpu%d.ctl", index);
	launch_path(&request->daemon->places, instance->row.name, file, path);
	snprintf(url, sizeof(url), "/api/v1/vgpu.screenshot/%lu", head);
	if (launch_ask(request->daemon->event, path, "GET", url, NULL, SCREEN_MS, on_screen,
		       request, &asked))
		refuse(request, 409, "no-screenshot", NULL, "its vGPU does not answer%s", "");
}

/* ---- the rest ------------------------------------------------------------------------------------------------------ */

static void node_get(struct http_request *request, const struct place *place)
{
	http_json(request, 200, api_node(request->daemon, request));
}

static void gpus_get(struct http_request *request, const struct place *place)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < request->daemon->node->gpu_count; i++)
		json_array_append_new(
			list, api_gpu(request->daemon, request, &request->daemon->node->gpus[i]));
	http_json(request, 200, json_pack("{s:o}", "gpus", list));
}

static const struct node_gpu *the_gpu(struct http_request *request, const char *id)
{
	const struct node_gpu *gpu = node_gpu_find(request->daemon->node, id);

	if (!gpu)
		refuse(request, 404, "no-such-gpu", "divvy list gpus", "there is no GPU %.80s", id);
	return gpu;
}

static void gpu_get(struct http_request *request, const struct place *place)
{
	const struct node_gpu *gpu = the_gpu(request, place->name);

	if (gpu)
		http_json(request, 200, api_gpu(request->daemon, request, gpu));
}

static void gpu_do(struct http_request *request, const struct place *place)
{
	device_do(request->daemon, request, place->name, place->what);
}

static int lease_append(void *opaque, const struct store_lease *lease)
{
	json_array_append_new(opaque, api_lease(lease));
	return 0;
}

static void leases_get(struct http_request *request, const struct place *place)
{
	const struct node_gpu *gpu = the_gpu(request, place->name);
	json_t *list;
	struct error e = { 0 };

	if (!gpu)
		return;
	list = json_array();
	if (store_leases(request->daemon->store, gpu->id, false, lease_append, list, &e)) {
		json_decref(list);
		http_failed(request, &e);
		return;
	}
	http_json(request, 200, json_pack("{s:o}", "leases", list));
}

static void types_get(struct http_request *request, const struct place *place)
{
	struct daemon *daemon = request->daemon;
	json_t *list = json_array();

	for (unsigned i = 0; i < daemon->types.count; i++)
		json_array_append_new(list, api_type(daemon, &daemon->types.items[i]));
	http_json(request, 200, json_pack("{s:o}", "types", list));
}

static void type_get(struct http_request *request, const struct place *place)
{
	const struct instance_type *type =
		type_catalogue_find(&request->daemon->types, place->name);

	if (type)
		http_json(request, 200, api_type(request->daemon, type));
	else
		refuse(request, 404, "no-such-type", "divvy list types",
		       "there is no instance type %.60s", place->name);
}

static void vgpus_get(struct http_request *request, const struct place *place)
{
	http_json(request, 200, api_vgpus(request->daemon, request));
}

static void events_get(struct http_request *request, const struct place *place)
{
	if ((request->since && strspn(request->since, "0123456789") != strlen(request->since)) ||
	    (request->since && (!request->since[0] || strlen(request->since) > 18))) {
		refuse(request, 400, "bad-value", NULL, "since must be an event's id%s", "");
		return;
	}
	if (request->follow && strcmp(request->follow, "0") && strcmp(request->follow, "1")) {
		refuse(request, 400, "bad-value", NULL, "follow must be 0 or 1%s", "");
		return;
	}
	http_stream(request);
}

static void metrics_get(struct http_request *request, const struct place *place)
{
	size_t size;
	char *text = metrics_text(request, &size);

	if (text)
		http_bytes(request, 200, "text/plain; version=0.0.4", text, size);
	else
		http_failed(request, &(struct error){ .err = ENOMEM, .code = "no-memory" });
}

static void openapi_get(struct http_request *request, const struct place *place)
{
	http_bytes(request, 200, "application/json", strdup((const char *)openapi_json),
		   strlen((const char *)openapi_json));
}

static void backup_post(struct http_request *request, const struct place *place)
{
	json_t *json = body_read(request, backup_keys, ARRAY_SIZE(backup_keys));
	const char *path = json_string_value(json_object_get(json, "path"));
	struct error e = { 0 };
	uint64_t bytes = 0;

	if (!json)
		return;
	if (store_backup(request->daemon->store, path, &bytes, &e))
		http_failed(request, &e);
	else
		http_json(request, 200,
			  json_pack("{s:s, s:I}", "path", path, "bytes", (json_int_t)bytes));
	json_decref(json);
}

/* ---- the table --------------------------------------------------------------------------------------------------------- */

/* {}: whatever is there; {n}: an instance's name. */
static const struct route {
	const char *method, *path;
	enum daemon_role role;
	void (*handle)(struct http_request *request, const struct place *place);
} routes[] = {
	{ "GET", "node", DAEMON_VIEWER, node_get },
	{ "GET", "gpus", DAEMON_VIEWER, gpus_get },
	{ "GET", "gpus/{}", DAEMON_VIEWER, gpu_get },
	{ "GET", "gpus/{}/leases", DAEMON_ADMIN, leases_get },
	{ "POST", "gpus/{}/drain", DAEMON_ADMIN, gpu_do },
	{ "POST", "gpus/{}/undrain", DAEMON_ADMIN, gpu_do },
	{ "POST", "gpus/{}/bind", DAEMON_ADMIN, gpu_do },
	{ "POST", "gpus/{}/unbind", DAEMON_ADMIN, gpu_do },
	{ "POST", "gpus/{}/release", DAEMON_ADMIN, gpu_do },
	{ "GET", "types", DAEMON_VIEWER, types_get },
	{ "GET", "types/{}", DAEMON_VIEWER, type_get },
	{ "GET", "instances", DAEMON_VIEWER, instances_get },
	{ "GET", "instances/{n}", DAEMON_VIEWER, instance_get },
	{ "PUT", "instances/{n}", DAEMON_USER, instance_put },
	{ "DELETE", "instances/{n}", DAEMON_USER, instance_remove },
	{ "POST", "instances/{n}/start", DAEMON_USER, instance_begin },
	{ "POST", "instances/{n}/stop", DAEMON_USER, instance_halt },
	{ "POST", "instances/{n}/restart", DAEMON_USER, instance_again },
	{ "PATCH", "instances/{n}/share", DAEMON_USER, instance_share },
	/* What a guest says and shows is its owner's business, not every viewer's. */
	{ "GET", "instances/{n}/log", DAEMON_USER, instance_log },
	{ "GET", "instances/{n}/screenshot/{}", DAEMON_USER, instance_screen },
	{ "POST", "run", DAEMON_USER, instance_run },
	{ "GET", "vgpus", DAEMON_VIEWER, vgpus_get },
	{ "GET", "events", DAEMON_VIEWER, events_get },
	{ "GET", "metrics", DAEMON_VIEWER, metrics_get },
	{ "GET", "openapi.json", DAEMON_VIEWER, openapi_get },
	{ "POST", "backup", DAEMON_ADMIN, backup_post },
};

/* Whether @path is of @pattern; what it leaves open goes into @place, the last word too where it is a verb. */
static bool route_matches(const char *pattern, const char *path, struct place *place)
{
	char *open[2] = { place->name, place->what };
	unsigned count = 0;

	place->name[0] = place->what[0] = '\0';
	for (;;) {
		size_t wanted = strcspn(pattern, "/"), there = strcspn(path, "/");

		if (pattern[0] == '{') {
			if (!there || there >= sizeof(place->name) || count == 2)
				return false;
			snprintf(open[count++], sizeof(place->name), "%.*s", (int)there, path);
		} else if (wanted != there || memcmp(pattern, path, there) != 0) {
			return false;
		}
		if (!pattern[wanted] || !path[there]) {
			if (count == 1 && !pattern[wanted] && wanted && pattern[0] != '{')
				snprintf(place->what, sizeof(place->what), "%s", pattern);
			return !pattern[wanted] && !path[there];
		}
		pattern += wanted + 1;
		path += there + 1;
	}
}

void api_handle(struct http_request *request)
{
	static const char prefix[] = "/api/v1/";
	const struct route *there = NULL;
	struct place place;
	const char *path = request->path;

	if (request->role == DAEMON_NOBODY) {
		refuse(request, 401, "no-role", "roles: in divvyd.yaml",
		       "this user has no role here%s", "");
		return;
	}
	path = strncmp(path, prefix, sizeof(prefix) - 1) ? "" : path + sizeof(prefix) - 1;
	/* Where Prometheus looks by itself. */
	if (!strcmp(request->path, "/metrics"))
		path = "metrics";
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!route_matches(routes[i].path, path, &place))
			continue;
		there = &routes[i];
		if (strcmp(there->method, request->method) != 0)
			continue;
		if (request->role < there->role) {
			refuse(request, 403, "not-allowed", NULL,
			       "this user's role does not allow %s", there->path);
			return;
		}
		if (strstr(there->path, "{n}") && !instance_name_ok(place.name)) {
			refuse(request, 400, "bad-name", NULL,
			       "%.60s is no instance's name: a-z, 0-9 and -, 41 at most",
			       place.name);
			return;
		}
		there->handle(request, &place);
		return;
	}
	if (there)
		refuse(request, 405, "wrong-method", "GET /api/v1/openapi.json",
		       "%.20s is not done there", request->method);
	else
		refuse(request, 404, "no-such-resource", "GET /api/v1/openapi.json",
		       "there is nothing at %.100s", request->path);
}
