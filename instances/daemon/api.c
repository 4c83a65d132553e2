// SPDX-License-Identifier: Apache-2.0
/* What may be asked, by whom: a table of paths, each with the role that it takes. instances/openapi.yaml is the same for people. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/daemon/api.h"

void api_refuse(struct http_request *request, unsigned status, const char *code, const char *next,
		const char *fmt, const char *what)
{
	struct error e = { 0 };

	error_set(&e, EINVAL, code, next, fmt, what);
	http_error(request, status, &e);
}

void api_refuse_instance(struct http_request *request, unsigned status, const char *code,
			 const char *verb, const char *fmt, const char *name)
{
	char next[ERROR_NEXT_SIZE];

	api_refuse(request, status, code, error_next(verb, name, next), fmt, name);
}

bool api_may(const struct http_request *request, const struct instance *instance, bool change)
{
	if (request->role == DAEMON_ADMIN)
		return true;
	if (request->role == DAEMON_VIEWER)
		return !change;
	return request->role == DAEMON_USER && instance->row.owner == request->uid;
}

/* Of those that the asker may see: what is another's is not hinted at either. */
static void refuse_name(struct http_request *request, const char *name)
{
	const struct daemon *daemon = request->daemon;
	const char **names = calloc(MAX(daemon->instance_count, 1u), sizeof(*names));
	char text[160], is_it[TYPE_IS_IT_SIZE];
	unsigned count = 0;

	for (unsigned i = 0; names && i < daemon->instance_count; i++)
		if (api_may(request, daemon->instances[i], false))
			names[count++] = daemon->instances[i]->row.name;
	snprintf(text, sizeof(text), "%.60s%s", name, type_is_it(name, names, count, is_it));
	free(names);
	api_refuse(request, 404, "no-such-instance", "divvy list instances",
		   "there is no instance %s", text);
}

struct instance *api_find_instance(struct http_request *request, const char *name, bool change)
{
	struct instance *instance = instance_find(request->daemon, name);

	/* What is another's is not there for a user: names tell something, too. */
	if (!instance || !api_may(request, instance, false)) {
		refuse_name(request, name);
		return NULL;
	}
	if (change && !api_may(request, instance, true)) {
		api_refuse(request, 403, "not-allowed", NULL, "who only looks cannot change %.60s",
			   name);
		return NULL;
	}
	return instance;
}

void api_show_instance(struct http_request *request, struct instance *instance, unsigned status)
{
	free(request->tag);
	if (asprintf(&request->tag, "\"%s\"", instance->row.digest) < 0)
		request->tag = NULL;
	http_json(request, status, api_instance(instance));
}

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

bool api_check_match(struct http_request *request, const struct instance *instance)
{
	if (matches(request, instance))
		return true;
	if (instance)
		api_refuse_instance(request, 412, "digest-differs", "show instance",
				    "%.60s was changed by somebody else", instance->row.name);
	else
		api_refuse(request, 412, "digest-differs", "divvy list instances",
			   "the instance is not there%s", "");
	return false;
}

/* ---- how often -------------------------------------------------------------------------------------------------------- */

#define CHANGES_AT_ONCE 200u
#define CHANGES_S	5u
#define CHANGE_NS	(UINT64_C(1000000000) / CHANGES_S)

/*
 * Each change is written to the disk and told, and what is told is kept up to a number: so nobody but an admin makes as many as he likes. Opening
 * a console is told, too. (The generic cell rate algorithm: ITU-T I.371, annex A.)
 */
static bool may_change_now(struct http_request *request)
{
	struct changer *all = request->daemon->changers, *his = &all[0];
	const uint64_t now = monotonic_ns();

	if (request->role == DAEMON_ADMIN ||
	    (!strcmp(request->method, "GET") && !request->wants_tunnel))
		return true;
	/* Who is not among them gets the place of the one who has rested longest. */
	for (unsigned i = 0; i < CHANGERS_MAX && his->uid != request->uid; i++)
		if (all[i].uid == request->uid || all[i].rested_ns < his->rested_ns)
			his = &all[i];
	if (his->uid != request->uid || his->rested_ns < now)
		*his = (struct changer){ .uid = request->uid, .rested_ns = now };
	if (his->rested_ns - now > (CHANGES_AT_ONCE - 1) * CHANGE_NS)
		return false;
	his->rested_ns += CHANGE_NS;
	return true;
}

static void refuse_changes(struct http_request *request)
{
	struct error e = { 0 };

	error_set(&e, EUSERS, "too-many-changes", "sleep 1, and the same again",
		  "this user changes too much: %u times at once, then %u times a second",
		  CHANGES_AT_ONCE, CHANGES_S);
	http_failed(request, &e);
}

/* ---- the table --------------------------------------------------------------------------------------------------------- */

/* {}: whatever is there; {n}: an instance's name. */
static const struct route {
	const char *method, *path;
	enum daemon_role role;
	void (*handle)(struct http_request *request, const struct api_place *place);
} routes[] = {
	{ "GET", "node", DAEMON_VIEWER, api_node_get },
	{ "GET", "gpus", DAEMON_VIEWER, api_gpus_get },
	{ "GET", "gpus/{}", DAEMON_VIEWER, api_gpu_get },
	{ "GET", "gpus/{}/leases", DAEMON_ADMIN, api_leases_get },
	{ "POST", "gpus/{}/drain", DAEMON_ADMIN, api_gpu_do },
	{ "POST", "gpus/{}/undrain", DAEMON_ADMIN, api_gpu_do },
	{ "POST", "gpus/{}/bind", DAEMON_ADMIN, api_gpu_do },
	{ "POST", "gpus/{}/unbind", DAEMON_ADMIN, api_gpu_do },
	{ "POST", "gpus/{}/release", DAEMON_ADMIN, api_gpu_do },
	{ "GET", "types", DAEMON_VIEWER, api_types_get },
	{ "GET", "types/{}", DAEMON_VIEWER, api_type_get },
	{ "GET", "instances", DAEMON_VIEWER, api_instances_get },
	{ "GET", "instances/{n}", DAEMON_VIEWER, api_instance_get },
	{ "PUT", "instances/{n}", DAEMON_USER, api_instance_put },
	{ "DELETE", "instances/{n}", DAEMON_USER, api_instance_remove },
	{ "POST", "instances/{n}/start", DAEMON_USER, api_instance_begin },
	{ "POST", "instances/{n}/stop", DAEMON_USER, api_instance_halt },
	{ "POST", "instances/{n}/restart", DAEMON_USER, api_instance_again },
	{ "PATCH", "instances/{n}/share", DAEMON_USER, api_instance_share },
	/* What a guest says and shows is its owner's business, not every viewer's. */
	{ "GET", "instances/{n}/log", DAEMON_USER, api_instance_log },
	{ "GET", "instances/{n}/screenshot/{}", DAEMON_USER, api_instance_screen },
	{ "GET", "instances/{n}/console", DAEMON_USER, api_instance_console },
	{ "GET", "instances/{n}/displays/{}", DAEMON_USER, api_instance_display },
	{ "POST", "run", DAEMON_USER, api_instance_run },
	{ "GET", "vgpus", DAEMON_VIEWER, api_vgpus_get },
	{ "GET", "events", DAEMON_VIEWER, api_events_get },
	{ "GET", "metrics", DAEMON_VIEWER, api_metrics_get },
	{ "GET", "openapi.json", DAEMON_VIEWER, api_openapi_get },
	{ "POST", "backup", DAEMON_ADMIN, api_backup_post },
};

/* Whether @path is of @pattern; what it leaves open goes into @place, the last word too where it is a verb. */
static bool route_matches(const char *pattern, const char *path, struct api_place *place)
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
	struct api_place place;
	const char *path = request->path;

	if (request->unknown) {
		api_refuse(request, 403, "unknown-certificate", "certificates: in divvyd.yaml",
			   "this certificate's name is nobody's here%s", "");
		return;
	}
	if (request->role == DAEMON_NOBODY) {
		api_refuse(request, 401, "no-role", "roles: in divvyd.yaml",
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
			api_refuse(request, 403, "not-allowed", NULL,
				   "this user's role does not allow %s", there->path);
			return;
		}
		if (strstr(there->path, "{n}") && !instance_name_ok(place.name)) {
			api_refuse(request, 400, "bad-name", NULL,
				   "%.60s is no instance's name: a-z, 0-9 and -, 41 at most",
				   place.name);
			return;
		}
		if (may_change_now(request))
			there->handle(request, &place);
		else
			refuse_changes(request);
		return;
	}
	if (there)
		api_refuse(request, 405, "wrong-method", "GET /api/v1/openapi.json",
			   "%.20s is not done there", request->method);
	else
		api_refuse(request, 404, "no-such-resource", "GET /api/v1/openapi.json",
			   "there is nothing at %.100s", request->path);
}
