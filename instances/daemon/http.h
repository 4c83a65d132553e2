/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of HTTP (http*.c) share. */
#ifndef INSTANCES_DAEMON_HTTP_H
#define INSTANCES_DAEMON_HTTP_H

#include "instances/daemon/private.h"

#define CONNECTIONS_MAX 128

struct MHD_Daemon;
struct stream;

struct peer {
	int fd; /* -1: free */
	uint32_t uid;
	enum daemon_role role; /* nobody: all such together have one user's places */
	bool large;	       /* a large answer is made or sent */
};

struct http {
	struct daemon *daemon;
	struct unix_listener listener;
	struct MHD_Daemon *mhd;
	sd_event_source *listening, *speaking, *timer, *heartbeat;
	struct peer peers[CONNECTIONS_MAX];
	struct stream *streams;
	struct http_request *waiting; /* whose answer comes later */
};

/* http_speak_soon() - something was resumed: libmicrohttpd looks at it in the loop's next turn, not from within our caller. */
void http_speak_soon(struct http *http);
/* http_events_begin() - the heartbeat. Returns 0 or -errno. */
int http_events_begin(struct http *http);
/* http_events_end() - streams end with what was not read yet. */
void http_events_end(struct http *http);

#endif
