// SPDX-License-Identifier: Apache-2.0
/*
 * A question to a process's control socket, without waiting for it: what it answers comes by the event loop, or its time is over. The peer
 * serves a guest and is believed nothing but its status and so many bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "instances/launch/launch.h"

#define HEAD_MAX  (16 * KIB)
#define READ_STEP (64 * KIB)

struct launch_request {
	int fd;
	sd_event_source *io, *timer;
	launch_answered *done;
	void *opaque;
	char *send, *text; /* what is still to be sent; what came */
	size_t send_size, sent, size, room, most;
};

void launch_ask_cancel(struct launch_request *request)
{
	if (!request)
		return;
	sd_event_source_disable_unref(request->io);
	sd_event_source_disable_unref(request->timer);
	fd_close(&request->fd);
	free(request->send);
	free(request->text);
	free(request);
}

static void finish(struct launch_request *request, bool whole)
{
	unsigned status = 0;
	char *body = NULL;
	size_t size = 0;

	if (whole && request->size) {
		request->text[request->size] = '\0';
		body = memmem(request->text, MIN(request->size, HEAD_MAX), "\r\n\r\n", 4);
		if (!body || sscanf(request->text, "HTTP/1.1 %3u", &status) != 1)
			status = 0;
		else
			size = request->size - (size_t)(body + 4 - request->text);
	}
	/* The source and the timer are off before anybody else hears of it. */
	sd_event_source_set_enabled(request->io, SD_EVENT_OFF);
	sd_event_source_set_enabled(request->timer, SD_EVENT_OFF);
	request->done(request->opaque, status, status ? body + 4 : "", size);
	launch_ask_cancel(request);
}

/* Whether there is room for one byte more than READ_STEP. */
static bool grow(struct launch_request *request)
{
	char *larger;

	if (request->room - request->size > READ_STEP)
		return true;
	request->room = request->size + 2 * READ_STEP + request->size / 2;
	larger = realloc(request->text, request->room);
	if (larger)
		request->text = larger;
	return larger != NULL;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct launch_request *request = opaque;
	ssize_t n;

	while (request->sent < request->send_size) {
		n = send(fd, request->send + request->sent, request->send_size - request->sent,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0) {
			finish(request, false);
			return 0;
		}
		request->sent += (size_t)n;
		if (request->sent == request->send_size)
			sd_event_source_set_io_events(source, EPOLLIN);
	}
	for (unsigned i = 0; i < 16; i++) {
		if (!grow(request)) {
			finish(request, false);
			return 0;
		}
		n = recv(fd, request->text + request->size, READ_STEP, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0) {
			finish(request, !n);
			return 0;
		}
		request->size += (size_t)n;
		if (request->size > request->most) {
			finish(request, false);
			return 0;
		}
	}
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *opaque)
{
	finish(opaque, false);
	return 0;
}

int launch_ask(struct sd_event *event, const char *path, const char *method, const char *url,
	       const char *body, size_t most, unsigned timeout_ms, launch_answered *done,
	       void *opaque, struct launch_request **out)
{
	struct launch_request *request = calloc(1, sizeof(*request));
	int err, n;

	if (!request)
		return -ENOMEM;
	request->most = most;
	request->done = done;
	request->opaque = opaque;
	request->fd = unix_connect(path, SOCK_STREAM | SOCK_NONBLOCK);
	err = MIN(request->fd, 0);
	if (!err) {
		n = asprintf(
			&request->send,
			"%s %s HTTP/1.1\r\nHost: divvy\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
			method, url, body ? strlen(body) : 0, body ? body : "");
		if (n < 0) {
			request->send = NULL;
			err = -ENOMEM;
		} else {
			request->send_size = (size_t)n;
		}
	}
	if (!err)
		err = MIN(sd_event_add_io(event, &request->io, request->fd, EPOLLIN | EPOLLOUT,
					  on_io, request),
			  0);
	if (!err)
		err = MIN(sd_event_source_set_priority(request->io, LAUNCH_ASK_PRIORITY), 0);
	if (!err)
		err = MIN(sd_event_add_time_relative(event, &request->timer, CLOCK_MONOTONIC,
						     (uint64_t)timeout_ms * 1000, 0, on_timer,
						     request),
			  0);
	if (err) {
		launch_ask_cancel(request);
		return err;
	}
	*out = request;
	return 0;
}
