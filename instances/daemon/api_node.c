// SPDX-License-Identifier: Apache-2.0
/* The node: its GPUs, the types it offers, events, metrics, a copy of the store. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generated_openapi.h"
#include "instances/daemon/api.h"

void api_node_get(struct http_request *request, const struct api_place *place)
{
	http_json(request, 200, api_node(request->daemon, request));
}

void api_gpus_get(struct http_request *request, const struct api_place *place)
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
	struct error e = { 0 };

	if (!gpu) {
		gpu_no_such(request->daemon, id, &e);
		http_failed(request, &e);
	}
	return gpu;
}

void api_gpu_get(struct http_request *request, const struct api_place *place)
{
	const struct node_gpu *gpu = the_gpu(request, place->name);

	if (gpu)
		http_json(request, 200, api_gpu(request->daemon, request, gpu));
}

void api_gpu_do(struct http_request *request, const struct api_place *place)
{
	gpu_do(request->daemon, request, place->name, place->what);
}

static int lease_append(void *opaque, const struct store_lease *lease)
{
	json_array_append_new(opaque, api_lease(lease));
	return 0;
}

void api_leases_get(struct http_request *request, const struct api_place *place)
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

void api_types_get(struct http_request *request, const struct api_place *place)
{
	struct daemon *daemon = request->daemon;
	json_t *list = json_array();

	for (unsigned i = 0; i < daemon->types.count; i++)
		json_array_append_new(list, api_type(daemon, &daemon->types.items[i]));
	http_json(request, 200, json_pack("{s:o}", "types", list));
}

void api_type_get(struct http_request *request, const struct api_place *place)
{
	const struct type_catalogue *types = &request->daemon->types;
	const struct instance_type *type = type_catalogue_find(types, place->name);
	char text[160], is_it[TYPE_IS_IT_SIZE];

	if (type) {
		http_json(request, 200, api_type(request->daemon, type));
		return;
	}
	snprintf(text, sizeof(text), "%.60s%s", place->name,
		 type_catalogue_is_it(types, place->name, is_it));
	api_refuse(request, 404, "no-such-type", "divvy list types", "there is no instance type %s",
		   text);
}

void api_vgpus_get(struct http_request *request, const struct api_place *place)
{
	http_json(request, 200, api_vgpus(request->daemon, request));
}

void api_events_get(struct http_request *request, const struct api_place *place)
{
	if ((request->since && strspn(request->since, "0123456789") != strlen(request->since)) ||
	    (request->since && (!request->since[0] || strlen(request->since) > 18))) {
		api_refuse(request, 400, "bad-value", "divvy events --help",
			   "since must be an event's id%s", "");
		return;
	}
	if (request->follow && strcmp(request->follow, "0") && strcmp(request->follow, "1")) {
		api_refuse(request, 400, "bad-value", "divvy events --help",
			   "follow must be 0 or 1%s", "");
		return;
	}
	http_stream(request);
}

void api_metrics_get(struct http_request *request, const struct api_place *place)
{
	size_t size;
	char *text = metrics_text(request, &size);

	if (text)
		http_bytes(request, 200, "text/plain; version=0.0.4", text, size);
	else
		http_failed(request, &(struct error){ .err = ENOMEM, .code = "no-memory" });
}

void api_openapi_get(struct http_request *request, const struct api_place *place)
{
	http_bytes(request, 200, "application/json", strdup((const char *)openapi_json),
		   strlen((const char *)openapi_json));
}

void api_backup_post(struct http_request *request, const struct api_place *place)
{
	json_t *json = api_body_read(request, API_BACKUP);
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
