// SPDX-License-Identifier: Apache-2.0
/*
 * A control socket (base.h): who may connect, how much and for how long, and HTTP in the event loop.
 *
 * libmicrohttpd runs without a thread of its own: its epoll descriptor is one more source of the loop,
 * and a timer stands for its timeouts. Connections are accepted here, since it cannot ask who the peer
 * is: only the uid of this process and root may speak. All is bounded: connections (the oldest
 * goes when there are too many, so that idle ones lock nobody out), headers, bodies, the time a
 * connection may be idle.
 *
 * After the start this needs: accept4, getsockopt (SO_PEERCRED), setsockopt (libmicrohttpd tries TCP's
 * options in vain), recv, send and sendmsg, shutdown, close, epoll_ctl and epoll_wait, and at the end
 * unlinkat of the socket's name in a folder that is held open.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/base.h"

#define CONNECTIONS_MAX	  8
#define CONNECTION_MEMORY (32 * KIB) /* request line, headers, and what is read at once */
#define IDLE_SECONDS	  10u

struct connection {
	int fd; /* libmicrohttpd's; -1: free */
	uint64_t since_ns;
};

struct control_socket {
	struct unix_listener listener; /* fd -1: none */
	uid_t owner;
	struct MHD_Daemon *daemon;
	struct connection connections[CONNECTIONS_MAX];

	/* While attached. */
	control_answer *answer;
	void *opaque;
	sd_event_source *listening, *speaking, *timer;
};

/* ---- refusals -------------------------------------------------------------------------------- */

/* What an operation's errno is in HTTP; the rest is 500. */
static const struct {
	int err;
	unsigned status;
} statuses[] = {
	{ EINVAL, 400 },	{ ENAMETOOLONG, 400 }, { EACCES, 403 },	 { EPERM, 403 },
	{ ENOENT, 404 },	{ ENODEV, 404 },       { EBUSY, 409 },	 { EEXIST, 409 },
	{ EALREADY, 409 },	{ ENOSPC, 409 },       { ENOTSUP, 409 }, { ECANCELED, 409 },
	{ EADDRNOTAVAIL, 409 }, { ETIMEDOUT, 504 },
};

struct control_reply control_refuse(unsigned status, const struct error *e)
{
	struct control_reply reply = { .status = status };

	/* Texts may hold bytes of a request or a path: json_pack() refuses what is not UTF-8. */
	reply.body = json_pack("{s:s, s:s, s:s}", "code", e->code ? e->code : "failed", "text",
			       e->text, "next", e->next);
	if (!reply.body)
		reply.body = json_pack("{s:s, s:s, s:s}", "code", e->code ? e->code : "failed",
				       "text", "(the reason cannot be shown)", "next", "");
	return reply;
}

struct control_reply control_failed(const struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (e->err == statuses[i].err)
			return control_refuse(statuses[i].status, e);
	return control_refuse(500, e);
}

/* ---- one request ----------------------------------------------------------------------------- */

struct request {
	bool too_large;
	size_t size;
	char body[CONTROL_BODY_MAX];
};

static enum MHD_Result reply_queue(struct MHD_Connection *connection, struct control_reply reply)
{
	const char *type = reply.type ? reply.type : "application/json";
	struct MHD_Response *response;
	enum MHD_Result result;

	if (reply.body) {
		reply.bytes = json_dumps(reply.body, JSON_INDENT(2));
		reply.size = reply.bytes ? strlen(reply.bytes) : 0;
		json_decref(reply.body);
	}
	response = MHD_create_response_from_buffer(reply.size, reply.bytes, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(reply.bytes);
		return MHD_NO;
	}
	if (reply.bytes)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (reply.allow)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, reply.allow);
	result = MHD_queue_response(connection, reply.status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result on_request(void *opaque, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *size, void **context)
{
	struct request *request = *context;
	struct control_socket *control = opaque;
	struct error e = { 0 };

	if (!request) { /* the headers are there */
		*context = calloc(1, sizeof(*request));
		return *context ? MHD_YES : MHD_NO;
	}
	if (*size) {
		if (*size > sizeof(request->body) - request->size)
			request->too_large = true;
		if (!request->too_large) {
			memcpy(request->body + request->size, data, *size);
			request->size += *size;
		}
		*size = 0;
		return MHD_YES;
	}
	if (request->too_large) {
		error_set(&e, EINVAL, "too-large", NULL, "a request has %u KiB at most",
			  (unsigned)(CONTROL_BODY_MAX / KIB));
		return reply_queue(connection, control_refuse(413, &e));
	}
	return reply_queue(connection, control->answer(control->opaque, method, url, request->body,
						       request->size));
}

static void on_completed(void *opaque, struct MHD_Connection *connection, void **context,
			 enum MHD_RequestTerminationCode why)
{
	free(*context);
	*context = NULL;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void on_connection(void *opaque, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct control_socket *control = opaque;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	for (unsigned i = 0; i < CONNECTIONS_MAX && info; i++) {
		struct connection *one = &control->connections[i];

		if (code == MHD_CONNECTION_NOTIFY_STARTED && one->fd < 0) {
			*one = (struct connection){ info->connect_fd, monotonic_ns() };
			return;
		}
		if (code == MHD_CONNECTION_NOTIFY_CLOSED && one->fd == info->connect_fd)
			one->fd = -1;
	}
}

static struct connection *connection_oldest(struct control_socket *control)
{
	struct connection *oldest = &control->connections[0];

	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		if (control->connections[i].fd < 0)
			return NULL; /* there is room */
		if (control->connections[i].since_ns < oldest->since_ns)
			oldest = &control->connections[i];
	}
	return oldest;
}

static int timer_set(struct control_socket *control)
{
	int64_t ms = MHD_get_timeout64s(control->daemon);

	if (ms < 0)
		return sd_event_source_set_enabled(control->timer, SD_EVENT_OFF);
	sd_event_source_set_time_relative(control->timer, (uint64_t)ms * 1000);
	return sd_event_source_set_enabled(control->timer, SD_EVENT_ONESHOT);
}

static int speak(struct control_socket *control)
{
	MHD_run(control->daemon);
	return timer_set(control);
}

void control_socket_adopt(struct control_socket *control, int fd)
{
	struct sockaddr_un nobody = { .sun_family = AF_UNIX };
	struct connection *oldest = connection_oldest(control);

	if (oldest) {
		shutdown(oldest->fd, SHUT_RDWR);
		speak(control);
	}
	/* Refused, it is closed. */
	MHD_add_connection(control->daemon, fd, (struct sockaddr *)&nobody,
			   sizeof(nobody.sun_family));
	speak(control);
}

static int on_speaking(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	return speak(opaque);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *opaque)
{
	return speak(opaque);
}

static int on_listening(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct control_socket *control = opaque;
	struct ucred peer;
	int one = unix_listener_accept(fd, "control socket", &peer);

	if (one < 0)
		return 0;
	if (peer.uid != 0 && peer.uid != control->owner) {
		log_limited(LOG_LEVEL_WARN, "control socket: a connection of uid %u is refused",
			    peer.uid);
		close(one);
		return 0;
	}
	control_socket_adopt(control, one);
	return 0;
}

int control_socket_attach(struct control_socket *control, sd_event *event, control_answer *answer,
			  void *opaque, struct error *e)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(control->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int err = info ? 0 : -ENOSYS;

	control->answer = answer;
	control->opaque = opaque;
	if (err >= 0)
		err = sd_event_add_io(event, &control->speaking, info->epoll_fd, EPOLLIN,
				      on_speaking, control);
	if (err >= 0)
		err = sd_event_add_time_relative(event, &control->timer, CLOCK_MONOTONIC, 0, 0,
						 on_timer, control);
	if (err >= 0 && control->listener.fd >= 0)
		err = sd_event_add_io(event, &control->listening, control->listener.fd, EPOLLIN,
				      on_listening, control);
	if (err >= 0)
		return 0;
	control_socket_detach(control);
	return error_set(e, -err, "control-failed", NULL, "control socket: event loop: %s",
			 strerror(-err));
}

void control_socket_detach(struct control_socket *control)
{
	control->listening = sd_event_source_disable_unref(control->listening);
	control->speaking = sd_event_source_disable_unref(control->speaking);
	control->timer = sd_event_source_disable_unref(control->timer);
}

/* ---- life ------------------------------------------------------------------------------------ */

int control_socket_open(struct control_socket **out, struct error *e)
{
	struct control_socket *control = calloc(1, sizeof(*control));

	if (!control)
		return error_set(e, ENOMEM, "no-memory", NULL, "control socket: out of memory");
	control->listener = (struct unix_listener){ .fd = -1, .folder_fd = -1 };
	json_object_seed(0); /* from /dev/urandom, while it can be opened */
	control->owner = geteuid();
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		control->connections[i].fd = -1;
	control->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, control,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_COMPLETED, on_completed, control,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, control, MHD_OPTION_END);
	if (!control->daemon) {
		free(control);
		return error_set(e, EIO, "control-failed", NULL,
				 "control socket: libmicrohttpd does not start");
	}
	*out = control;
	return 0;
}

int control_socket_create(const char *path, struct control_socket **out, struct error *e)
{
	int err = control_socket_open(out, e);

	if (err)
		return err;
	err = unix_listener_open(path, &(*out)->listener, e);
	if (err) {
		control_socket_destroy(*out);
		*out = NULL;
	}
	return err;
}

void control_socket_destroy(struct control_socket *control)
{
	if (!control)
		return;
	unix_listener_close(&control->listener);
	MHD_stop_daemon(control->daemon);
	free(control);
}
