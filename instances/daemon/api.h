/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the API (api*.c) share: each has the handlers of some paths, api.c the table of all. */
#ifndef INSTANCES_DAEMON_API_H
#define INSTANCES_DAEMON_API_H

#include "instances/daemon/private.h"

/* The parts of a path that a row leaves open. */
struct api_place {
	char name[128], what[128];
};

/* Each ends in an answer, or keeps the request for one. */
typedef void api_handler(struct http_request *request, const struct api_place *place);

/* api_instances.c */
api_handler api_instances_get, api_instance_get, api_instance_put, api_instance_remove,
	api_instance_begin, api_instance_halt, api_instance_again, api_instance_run;
/* api_guest.c */
api_handler api_instance_log, api_instance_share, api_instance_screen, api_instance_console,
	api_instance_display;
/* api_node.c */
api_handler api_node_get, api_gpus_get, api_gpu_get, api_gpu_do, api_leases_get, api_types_get,
	api_type_get, api_vgpus_get, api_events_get, api_metrics_get, api_openapi_get,
	api_backup_post;

/* api_refuse() - an error's answer; @fmt has one %s, @what. */
void api_refuse(struct http_request *request, unsigned status, const char *code, const char *next,
		const char *fmt, const char *what);
/* api_refuse_instance() - of an instance: what to do next is divvy @verb @name. */
void api_refuse_instance(struct http_request *request, unsigned status, const char *code,
			 const char *verb, const char *fmt, const char *name);
/* api_find_instance() - to be seen (@change: and changed) by who asks; else NULL, and answered. */
struct instance *api_find_instance(struct http_request *request, const char *name, bool change);
/* api_check_match() - what If-Match says holds; else answered. @instance: NULL where there is none. */
bool api_check_match(struct http_request *request, const struct instance *instance);
/* api_show_instance() - it, with its digest as ETag. */
void api_show_instance(struct http_request *request, struct instance *instance, unsigned status);

#define API_TEXT_MAX 1000
/* api_text_ok() - one line of printable ASCII, of so many letters at most, as all texts of requests are. */
bool api_text_ok(const char *text);

/* Kinds of bodies. */
enum api_body {
	API_DEFINE,
	API_RUN,
	API_STOP,
	API_RESTART,
	API_SHARE,
	API_BACKUP
};
/* api_body_read() - an object with its kind's keys and no others; NULL, and answered. An empty body is {} where nothing is needed. */
json_t *api_body_read(struct http_request *request, enum api_body body);

#endif
