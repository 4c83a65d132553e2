// SPDX-License-Identifier: Apache-2.0
/* Instances as they are defined, started and stopped by whom they belong to. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/daemon/api.h"

#define STOP_S 30

/* Whether @path, as text, is of something in @folder, and does not lead up again. */
static bool is_below(const char *path, const char *folder)
{
	size_t length = strlen(folder);

	while (length > 1 && folder[length - 1] == '/')
		length--;
	if (strncmp(path, folder, length) != 0 || path[length] != '/')
		return false;
	for (const char *p = path; (p = strstr(p, "/..")); p += 3)
		if (p[3] == '/' || !p[3])
			return false;
	return true;
}

static bool is_below_images(const struct config *config, const char *path, bool as_written)
{
	for (unsigned i = 0; i < config->image_count; i++)
		if (is_below(path, config->images[i]) ||
		    (as_written && is_below(path, config->images_written[i])))
			return true;
	return false;
}

/*
 * Who is no admin takes images from where an admin puts them: the daemon reads them as root. What is remembered is the path behind all
 * links, since a link may lead elsewhere by the time it is read; it is judged as what he wrote was. Only what is text of a path there is looked up
 * at all: another may be on a file system that lets root wait.
 */
static bool image_allowed(struct http_request *request, json_t *json)
{
	const struct config *config = &request->daemon->config;
	const char *image = json_string_value(json_object_get(json, "image"));
	char real[PATH_MAX];

	if (request->role == DAEMON_ADMIN)
		return true;
	if (!is_below_images(config, image, true) || !realpath(image, real) ||
	    !is_below_images(config, real, false)) {
		api_refuse(request, 403, "image-not-allowed", "images: in divvyd.yaml",
			   "%.200s is in no folder that users may take images from", image);
		return false;
	}
	if (!api_text_ok(real)) {
		api_refuse(
			request, 403, "image-not-allowed", "mv FOLDER ANOTHER-NAME",
			"%.200s leads to a path that is not one line of printable ASCII, of 1000 letters at most",
			image);
		return false;
	}
	if (json_object_set_new(json, "image", json_string(real)) == 0)
		return true;
	http_failed(request, &(struct error){ .err = ENOMEM,
					      .code = "no-memory",
					      .text = "no memory for its image's path" });
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
	api_refuse(request, 409, "too-many-instances", "divvy list instances",
		   "this user has as many instances as one may have%s", "");
	return false;
}

void api_instance_put(struct http_request *request, const struct api_place *place)
{
	struct instance *existing = instance_find(request->daemon, place->name), *instance;
	struct error e = { 0 };
	bool changed;
	json_t *json;

	if (existing && !api_may(request, existing, true)) {
		api_refuse(request, 403, "not-allowed", NULL, "%.60s is another's", place->name);
		return;
	}
	if (existing && request->if_none_match && !strcmp(request->if_none_match, "*")) {
		api_refuse_instance(request, 412, "instance-exists", "show instance",
				    "%.60s is there already", place->name);
		return;
	}
	if (!api_check_match(request, existing))
		return;
	json = api_body_read(request, API_DEFINE);
	if (!json)
		return;
	if (image_allowed(request, json) && (existing || within_quota(request))) {
		if (instance_define(request->daemon, place->name, json, request->uid, false,
				    existing, &instance, &changed, &e))
			http_failed(request, &e);
		else
			api_show_instance(request, instance, existing ? 200 : 201);
	}
	json_decref(json);
}

void api_instance_get(struct http_request *request, const struct api_place *place)
{
	struct instance *instance = api_find_instance(request, place->name, false);

	if (instance)
		api_show_instance(request, instance, 200);
}

void api_instance_remove(struct http_request *request, const struct api_place *place)
{
	struct instance *instance = api_find_instance(request, place->name, true);
	struct error e = { 0 };

	if (!instance || !api_check_match(request, instance))
		return;
	if (instance_active(instance)) {
		api_refuse_instance(request, 409, "instance-running", "stop", "%.60s runs",
				    place->name);
		return;
	}
	if (instance_delete(instance, &e))
		http_failed(request, &e);
	else
		http_json(request, 204, NULL);
}

void api_instances_get(struct http_request *request, const struct api_place *place)
{
	struct daemon *daemon = request->daemon;
	json_t *list = json_array();

	for (unsigned i = 0; i < daemon->instance_count; i++)
		if (api_may(request, daemon->instances[i], false))
			json_array_append_new(list, api_instance(daemon->instances[i]));
	http_json(request, 200, json_pack("{s:o}", "instances", list));
}

void api_instance_begin(struct http_request *request, const struct api_place *place)
{
	struct instance *instance = api_find_instance(request, place->name, true);
	struct error e = { 0 };
	bool runs;

	if (!instance)
		return;
	runs = instance->row.state == STORE_RUNNING || instance->row.state == STORE_STARTING;
	if (instance_start(instance, &e))
		http_failed(request, &e);
	else
		api_show_instance(request, instance, runs ? 200 : 202);
}

static void stop_or_restart(struct http_request *request, const struct api_place *place,
			    bool restart)
{
	struct instance *instance = api_find_instance(request, place->name, true);
	enum stop_then then = restart ? STOP_RESTARTS : STOP_STAYS;
	json_t *json, *timeout;
	struct error e = { 0 };
	bool active;
	int err;

	if (!instance)
		return;
	json = api_body_read(request, restart ? API_RESTART : API_STOP);
	if (!json)
		return;
	timeout = json_object_get(json, "timeout");
	if (json_is_true(json_object_get(json, "resume")))
		then = STOP_RESUMES;
	active = instance_active(instance);
	if (restart && !active)
		err = instance_start(instance, &e);
	else
		err = instance_stop(instance, json_is_true(json_object_get(json, "force")),
				    timeout ? (unsigned)json_integer_value(timeout) : STOP_S, then,
				    &e);
	json_decref(json);
	if (err)
		http_failed(request, &e);
	else
		api_show_instance(request, instance, active || restart ? 202 : 200);
}

void api_instance_halt(struct http_request *request, const struct api_place *place)
{
	stop_or_restart(request, place, false);
}

void api_instance_again(struct http_request *request, const struct api_place *place)
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

void api_instance_run(struct http_request *request, const struct api_place *place)
{
	struct daemon *daemon = request->daemon;
	json_t *json = api_body_read(request, API_RUN);
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
		api_refuse_instance(request, 409, "instance-exists", "show instance",
				    "%.60s is there already", name);
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
			api_show_instance(request, instance, 202);
		}
	}
	json_decref(json);
}
