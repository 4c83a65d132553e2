// SPDX-License-Identifier: Apache-2.0
/* Requests and their answers, at once or later. HTTP is libmicrohttpd's, in the daemon's loop and thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instances/building.h"
#include "instances/daemon/http.h"

#define CONNECTION_MEMORY (32 * KIB)

/* ---- answers ------------------------------------------------------------------------------------------ */

static int timer_set(struct http *http)
{
	int64_t ms = MHD_get_timeout64s(http->mhd);

	if (ms < 0)
		return sd_event_source_set_enabled(http->timer, SD_EVENT_OFF);
	sd_event_source_set_time_relative(http->timer, (uint64_t)ms * 1000);
	return sd_event_source_set_enabled(http->timer, SD_EVENT_ONESHOT);
}

int http_speak(struct http *http)
{
	MHD_run(http->mhd);
	return timer_set(http);
}

static int on_soon(sd_event_source *source, uint64_t usec, void *opaque)
{
	return http_speak(opaque);
}

void http_speak_soon(struct http *http)
{
	sd_event_source_set_time_relative(http->timer, 0);
	sd_event_source_set_enabled(http->timer, SD_EVENT_ONESHOT);
}

static void waiting_drop(struct http_request *request)
{
	struct http *http = request->daemon->http;

	for (struct http_request **one = &http->waiting; *one; one = &(*one)->next)
		if (*one == request) {
			*one = request->next;
			return;
		}
}

static void respond(struct http_request *request, unsigned status, const char *type, char *bytes,
		    size_t size)
{
	struct MHD_Response *response;

	if (request->answered) {
		free(bytes);
		return;
	}
	request->answered = true;
	request->status = status;
	response = MHD_create_response_from_buffer(size, bytes, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(bytes);
	} else {
		if (bytes)
			MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
		if (request->tag)
			MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, request->tag);
		/* RFC 9110, 15.5.22 */
		if (status == MHD_HTTP_UPGRADE_REQUIRED)
			MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, HTTP_UPGRADE);
		if (request->last)
			MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	}
	request->response = response;
	if (request->suspended) {
		waiting_drop(request);
		request->suspended = false;
		MHD_resume_connection(request->connection);
		http_speak_soon(request->daemon->http);
	}
}

void http_bytes(struct http_request *request, unsigned status, const char *type, char *bytes,
		size_t size)
{
	respond(request, status, type, bytes, size);
}

void http_json(struct http_request *request, unsigned status, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_READABLE) : NULL;

	json_decref(json);
	if (!json && status != 204) {
		http_failed(request, &(struct error){ .err = ENOMEM,
						      .code = "no-memory",
						      .text = "no memory for the answer" });
		return;
	}
	respond(request, status, "application/json", text, text ? strlen(text) : 0);
}

void http_error(struct http_request *request, unsigned status, const struct error *e)
{
	const char *code = e->code ? e->code : "failed";
	/* Texts may hold bytes of a request or a path: json_pack() refuses what is not UTF-8. */
	json_t *json = json_pack("{s:{s:s, s:s, s:s}}", "error", "code", code, "text", e->text,
				 "next", e->next);

	if (!json)
		json = json_pack("{s:{s:s, s:s, s:s}}", "error", "code", code, "text",
				 "(the reason cannot be shown)", "next", "");
	if (json) {
		http_json(request, status, json);
		return;
	}
	respond(request, 500, "text/plain", NULL, 0);
}

static const struct {
	int err;
	unsigned status;
} statuses[] = {
	{ EINVAL, 400 },    { ENAMETOOLONG, 400 }, { EACCES, 403 },  { EPERM, 403 },
	{ ENOENT, 404 },    { ENODEV, 404 },	   { EBUSY, 409 },   { EEXIST, 409 },
	{ ENOTSUP, 409 },   { ESTALE, 412 },	   { E2BIG, 413 },   { EUSERS, 429 },
	{ ETIMEDOUT, 504 }, { EROFS, 503 },	   { EUCLEAN, 503 }, { EAGAIN, 503 },
};

void http_failed(struct http_request *request, const struct error *e)
{
	unsigned status = 500;

	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (e->err == statuses[i].err)
			status = statuses[i].status;
	/* No room on the disk is the daemon's trouble, no room on the GPUs the caller's. */
	if (e->err == ENOSPC)
		status = e->code && !strcmp(e->code, "store-full") ? 503 : 409;
	http_error(request, status, e);
}

/* ---- one request ---------------------------------------------------------------------------------------- */

struct body {
	struct http_request request;
	char text[HTTP_BODY_MAX + 1];
};

static enum MHD_Result answer_queue(struct http_request *request, struct MHD_Connection *connection)
{
	enum MHD_Result result;

	if (!request->response)
		return MHD_NO;
	result = MHD_queue_response(connection, request->status, request->response);
	MHD_destroy_response(request->response);
	request->response = NULL;
	return result;
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static void request_fill(struct http_request *request, struct MHD_Connection *connection,
			 const char *method, const char *path)
{
	const struct peer *peer = peer_of(connection);

	request->method = method;
	request->path = path;
	request->connection = connection;
	request->uid = peer ? peer->uid : UINT32_MAX;
	request->role = peer ? peer->role : DAEMON_NOBODY;
	request->unknown = peer && peer->unknown;
	request->if_match = header(connection, MHD_HTTP_HEADER_IF_MATCH);
	request->if_none_match = header(connection, MHD_HTTP_HEADER_IF_NONE_MATCH);
	request->wants_tunnel = http_upgrade_wanted(header(connection, MHD_HTTP_HEADER_CONNECTION),
						    header(connection, MHD_HTTP_HEADER_UPGRADE));
	request->since = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "since");
	request->follow = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "follow");
}

/* What is refused whatever it asks for. */
static bool refused(struct http_request *request, const struct peer *peer)
{
	struct error e = { 0 };

	if (request->too_large) {
		error_set(&e, E2BIG, "too-large", NULL, "a request has %u KiB at most",
			  (unsigned)(HTTP_BODY_MAX / KIB));
	} else if (peer && peer->over) {
		error_set(&e, EUSERS, "too-many-connections", NULL,
			  "this user has too many connections");
		request->last = true;
	} else if (header(request->connection, MHD_HTTP_HEADER_ORIGIN)) {
		/* A browser says so when a page asks; one that has a certificate would show it for any page (RFC 6454, 7.3). */
		error_set(&e, EPERM, "not-from-pages", NULL, "web pages may not ask");
	}
	if (e.err)
		http_failed(request, &e);
	return e.err != 0;
}

static enum MHD_Result on_request(void *opaque, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *size, void **context)
{
	struct http *http = opaque;
	struct body *body = *context;
	struct http_request *request = body ? &body->request : NULL;
	const struct peer *peer = peer_of(connection);

	if (!body) { /* the headers are there */
		body = calloc(1, sizeof(*body));
		if (body)
			body->request.daemon = http->daemon;
		*context = body;
		return body ? MHD_YES : MHD_NO;
	}
	if (*size) {
		if (*size > HTTP_BODY_MAX - request->size)
			request->too_large = true;
		else
			memcpy(body->text + request->size, data, *size);
		request->size += request->too_large ? 0 : *size;
		*size = 0;
		return MHD_YES;
	}
	if (request->answered) /* later, once resumed */
		return answer_queue(request, connection);
	request->body = body->text;
	request_fill(request, connection, method, url);
	if (!refused(request, peer))
		api_handle(request);
	if (request->answered)
		return answer_queue(request, connection);
	/* The answer comes later. What the request points to is libmicrohttpd's, and stays. */
	request->suspended = true;
	request->next = http->waiting;
	http->waiting = request;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

static void on_completed(void *opaque, struct MHD_Connection *connection, void **context,
			 enum MHD_RequestTerminationCode why)
{
	struct body *body = *context;
	struct peer *peer = peer_of(connection);

	if (!body)
		return;
	if (peer)
		peer->large = false;
	if (body->request.response)
		MHD_destroy_response(body->request.response);
	http_upgrade_free(body->request.upgrade);
	free(body->request.tag);
	free(body);
	*context = NULL;
}

/* ---- life --------------------------------------------------------------------------------------------------- */

static int on_speaking(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	return http_speak(opaque);
}

static int attach(struct http *http, struct error *e)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	sd_event *event = http->daemon->event;
	int err = info ? 0 : -ENOSYS;

	if (err >= 0)
		err = sd_event_add_io(event, &http->speaking, info->epoll_fd, EPOLLIN, on_speaking,
				      http);
	if (err >= 0)
		err = sd_event_add_time_relative(event, &http->timer, CLOCK_MONOTONIC, 0, 0,
						 on_soon, http);
	if (err >= 0)
		err = http_events_begin(http);
	if (err >= 0)
		err = sd_event_add_io(event, &http->listening, http->listener.fd, EPOLLIN,
				      peers_on_listening, http);
	/* In turns: who connects without end keeps nobody from being answered, nor does who asks without end from connecting. */
	if (err >= 0)
		err = sd_event_source_set_priority(http->listening, HTTP_PRIORITY);
	if (err >= 0)
		err = sd_event_source_set_priority(http->speaking, HTTP_PRIORITY);
	/* It is at once while libmicrohttpd has more to do, which is without end where somebody asks so. */
	if (err >= 0)
		err = sd_event_source_set_priority(http->timer, HTTP_PRIORITY);
	return err < 0 ? error_set(e, -err, "api-socket", NULL, "API: event loop: %s",
				   strerror(-err))
		       : 0;
}

int http_create(struct daemon *daemon, const char *path, struct http **out, struct error *e)
{
	struct http *http = calloc(1, sizeof(*http));
	int err;

	if (!http)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for the API");
	http->daemon = daemon;
	http->listener = (struct unix_listener){ .fd = -1, .folder_fd = -1 };
	http->remote_fd = -1;
	http->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET |
					     MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE,
				     0, NULL, NULL, on_request, http, MHD_OPTION_CONNECTION_LIMIT,
				     (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				     HTTP_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				     (size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_COMPLETED,
				     on_completed, http, MHD_OPTION_NOTIFY_CONNECTION,
				     peers_on_connection, http, MHD_OPTION_END);
	err = http->mhd ? 0 : error_set(e, EIO, "api-socket", NULL, "libmicrohttpd does not start");
	if (!err)
		err = unix_listener_open(path, &http->listener, e);
	/* Everybody may ask, and who is to be turned away is to leave room for who does not wait. */
	if (!err && listen(http->listener.fd, CONNECTIONS_MAX) < 0)
		err = error_set(e, errno, "api-socket", NULL, "%s: %s", path, strerror(errno));
	/* Who may do what is a matter of roles. */
	if (!err && chmod(path, 0666) < 0)
		err = error_set(e, errno, "api-socket", NULL, "%s: %s", path, strerror(errno));
	if (!err)
		err = attach(http, e);
	if (!err && daemon->config.listen)
		err = remote_begin(http, e);
	if (err) {
		http_destroy(http);
		return err;
	}
	*out = http;
	return 0;
}

void http_destroy(struct http *http)
{
	if (!http)
		return;
	sd_event_source_disable_unref(http->listening);
	sd_event_source_disable_unref(http->speaking);
	sd_event_source_disable_unref(http->timer);
	/* Nothing may be suspended when libmicrohttpd ends. */
	while (http->waiting)
		http_failed(http->waiting, &(struct error){ .err = EAGAIN,
							    .code = "ending",
							    .text = "the daemon ends" });
	http_events_end(http);
	http_upgrades_end(http);
	if (http->mhd) {
		MHD_run(http->mhd);
		MHD_stop_daemon(http->mhd);
	}
	/* With what libmicrohttpd has said last. */
	remote_end(http);
	unix_listener_close(&http->listener);
	free(http);
}
