// SPDX-License-Identifier: Apache-2.0
/* What requests may say: bodies judged key by key before anything is done with them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "instances/daemon/api.h"
#include "vgpu-sched/vgpu-sched.h"

#define STOP_S_MAX 3600

struct key {
	const char *name;
	int (*check)(const json_t *value);
	const char *must;
	bool needed;
};

bool api_text_ok(const char *text)
{
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
			return false;
	return text[0] && strlen(text) <= API_TEXT_MAX;
}

static int is_text(const json_t *value)
{
	const char *text = json_string_value(value);

	return text && strlen(text) == json_string_length(value) && api_text_ok(text);
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
/* A restart takes all but the last. */
static const struct key stop_keys[] = {
	{ "force", is_bool, "true or false", false },
	{ "timeout", is_timeout, "seconds, up to 3600", false },
	{ "resume", is_bool, "true or false", false },
};
static const struct key share_keys[] = {
	{ "weight", is_weight, "a whole number from 1 to 1000000", true },
};
static const struct key backup_keys[] = {
	{ "path", is_path, "an absolute path", true },
};

static const struct {
	const struct key *keys;
	unsigned count;
} bodies[] = {
	[API_DEFINE] = { define_keys, ARRAY_SIZE(define_keys) },
	[API_RUN] = { run_keys, ARRAY_SIZE(run_keys) },
	[API_STOP] = { stop_keys, ARRAY_SIZE(stop_keys) },
	[API_RESTART] = { stop_keys, ARRAY_SIZE(stop_keys) - 1 },
	[API_SHARE] = { share_keys, ARRAY_SIZE(share_keys) },
	[API_BACKUP] = { backup_keys, ARRAY_SIZE(backup_keys) },
};

json_t *api_body_read(struct http_request *request, enum api_body body)
{
	const struct key *keys = bodies[body].keys;
	const unsigned count = bodies[body].count;
	json_t *json = request->size ? json_loadb(request->body, request->size,
						  JSON_REJECT_DUPLICATES, NULL)
				     : json_object();
	const char *name;
	json_t *value;

	if (!json_is_object(json)) {
		json_decref(json);
		api_refuse(request, 400, "bad-json", NULL, "the body is no JSON object%s", "");
		return NULL;
	}
	json_object_foreach(json, name, value)
	{
		unsigned i = 0;

		while (i < count && strcmp(keys[i].name, name) != 0)
			i++;
		if (i == count) {
			api_refuse(request, 400, "unknown-key", "GET /api/v1/openapi.json",
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
			api_refuse(request, 400, "missing-key", "GET /api/v1/openapi.json",
				   "%s is missing", keys[i].name);
			json_decref(json);
			return NULL;
		}
	return json;
}
