// SPDX-License-Identifier: Apache-2.0
/*
 * Streams of events: what is in the store since an event, then what happens, to each client what he may hear. What he has not read yet is bounded.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/daemon/http.h"

#define STREAM_MAX   (64 * KIB) /* of events that a client has not read yet */
#define STREAM_LAST  128	/* of that, room that events leave for the line that says so */
#define HEARTBEAT_US UINT64_C(15000000)
#define BATCH	     64 /* old events at a time */

struct stream {
	struct http *http;
	struct stream *next;
	struct MHD_Connection *connection;
	uint32_t uid;
	enum daemon_role role;
	bool suspended, follow, dropped;
	int64_t since; /* what was said last */
	bool catching; /* there are older ones in the store */
	char *text;    /* to be sent; malloc()ed */
	size_t size, sent;
};

static bool hears(const struct stream *stream, const struct store_event *event)
{
	/* A viewer and an admin hear all, a user of what is his and what is nobody's. */
	return stream->role != DAEMON_USER || !event->instance[0] || event->owner == stream->uid;
}

/* @room: of what is not sent yet, with it. False: it is not there, and nothing else has changed. */
static bool stream_text(struct stream *stream, const char *text, size_t room)
{
	const size_t size = strlen(text), left = stream->size - stream->sent;
	char *larger;

	if (left + size > room)
		return false;
	larger = malloc(left + size);
	if (!larger)
		return false;
	if (left)
		memcpy(larger, stream->text + stream->sent, left);
	memcpy(larger + left, text, size);
	free(stream->text);
	stream->text = larger;
	stream->size = left + size;
	stream->sent = 0;
	return true;
}

/* Who reads too slowly is told the last that he gets, and that this is the end. There is room for that whatever he has not read. */
static void stream_drop(struct stream *stream)
{
	char line[STREAM_LAST];

	snprintf(line, sizeof(line), "{\"dropped\":true,\"since\":%lld}\n",
		 (long long)stream->since);
	stream->dropped = true;
	stream_text(stream, line, STREAM_MAX);
}

static void stream_wake(struct stream *stream)
{
	if (!stream->suspended)
		return;
	stream->suspended = false;
	MHD_resume_connection(stream->connection);
	http_speak_soon(stream->http);
}

static void stream_event(struct stream *stream, const struct store_event *event)
{
	char *line;

	if (stream->dropped || event->id <= stream->since)
		return;
	if (hears(stream, event)) {
		line = event_line(event);
		if (line && stream_text(stream, line, STREAM_MAX - STREAM_LAST))
			stream->since = event->id;
		else
			stream_drop(stream);
		free(line);
	} else {
		stream->since = event->id;
	}
}

static int old_event(void *opaque, const struct store_event *event)
{
	struct stream *stream = opaque;

	stream_event(stream, event);
	return 0;
}

/* The next few from the store, until there are none: from then on they come by themselves. */
static void stream_catch_up(struct stream *stream)
{
	const int64_t before = stream->since;

	while (stream->catching && stream->sent == stream->size) {
		const int64_t was = stream->since;

		/* What cannot be read is not passed over. */
		if (store_events(stream->http->daemon->store, stream->since, BATCH, old_event,
				 stream, NULL) &&
		    !stream->dropped)
			stream_drop(stream);
		stream->catching = stream->since != was && !stream->dropped;
	}
	if (before == stream->since)
		stream->catching = false;
}

static ssize_t stream_read(void *opaque, uint64_t at, char *out, size_t room)
{
	struct stream *stream = opaque;
	size_t size;

	if (stream->sent == stream->size && stream->catching)
		stream_catch_up(stream);
	size = MIN(stream->size - stream->sent, room);
	if (size) {
		memcpy(out, stream->text + stream->sent, size);
		stream->sent += size;
		return (ssize_t)size;
	}
	if (stream->dropped || !stream->follow)
		return MHD_CONTENT_READER_END_OF_STREAM;
	stream->suspended = true;
	MHD_suspend_connection(stream->connection);
	return 0;
}

static void stream_free(void *opaque)
{
	struct stream *stream = opaque;

	for (struct stream **one = &stream->http->streams; *one; one = &(*one)->next)
		if (*one == stream) {
			*one = stream->next;
			break;
		}
	free(stream->text);
	free(stream);
}

void http_stream(struct http_request *request)
{
	struct http *http = request->daemon->http;
	struct stream *stream = calloc(1, sizeof(*stream));
	struct MHD_Response *response = NULL;

	if (stream) {
		stream->http = http;
		stream->connection = request->connection;
		stream->uid = request->uid;
		stream->role = request->role;
		stream->follow = !request->follow || strcmp(request->follow, "0") != 0;
		stream->catching = request->since != NULL;
		stream->since = request->since ? strtoll(request->since, NULL, 10) : 0;
		if (!request->since)
			stream->since = store_event_last(http->daemon->store);
		response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 * KIB,
							     stream_read, stream, stream_free);
	}
	if (!response) {
		free(stream);
		http_failed(request, &(struct error){ .err = ENOMEM,
						      .code = "no-memory",
						      .text = "no memory for a stream" });
		return;
	}
	stream->next = http->streams;
	http->streams = stream;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/jsonl");
	request->answered = true;
	request->status = 200;
	request->response = response;
}

void http_event(struct http *http, const struct store_event *event)
{
	for (struct stream *stream = http->streams; stream; stream = stream->next)
		/* Who is still behind finds it in the store. */
		if (!stream->catching) {
			stream_event(stream, event);
			stream_wake(stream);
		}
}

/* An empty line: so a client that has gone is noticed, and one that waits knows that we are there. */
static int on_heartbeat(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct http *http = opaque;

	for (struct stream *stream = http->streams; stream; stream = stream->next)
		if (stream->suspended && stream_text(stream, "\n", STREAM_MAX))
			stream_wake(stream);
	sd_event_source_set_time_relative(source, HEARTBEAT_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int http_events_begin(struct http *http)
{
	return sd_event_add_time_relative(http->daemon->event, &http->heartbeat, CLOCK_MONOTONIC,
					  HEARTBEAT_US, 0, on_heartbeat, http);
}

void http_events_end(struct http *http)
{
	sd_event_source_disable_unref(http->heartbeat);
	for (struct stream *stream = http->streams; stream; stream = stream->next) {
		stream->follow = false;
		if (stream->suspended) {
			stream->suspended = false;
			MHD_resume_connection(stream->connection);
		}
	}
}
