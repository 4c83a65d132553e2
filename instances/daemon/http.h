/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of HTTP (http*.c) share. */
#ifndef INSTANCES_DAEMON_HTTP_H
#define INSTANCES_DAEMON_HTTP_H

#include <gnutls/gnutls.h>
#include <microhttpd.h>

#include "instances/daemon/private.h"

#define CONNECTIONS_MAX 128
#define HTTP_IDLE_S	10u
/*
 * In sd-event's order: processes that end; then all that may go on without end, in turns, so that none of it keeps anything else from its
 * own: who connects, handshakes, requests, tunnels, what is asked of instances' programs.
 */
#define HTTP_PRIORITY LAUNCH_ASK_PRIORITY

struct stream;
struct upgrade;
struct http_tls;
struct remote;

/* Who is at the other end of a connection, and what is counted of it. */
struct peer {
	bool used;
	int fd; /* libmicrohttpd's; -1: it has let go of it */
	uint32_t uid;
	enum daemon_role role; /* nobody: all such together have one user's places */
	bool large;	       /* a large answer is made or sent */
	/* Over TLS: */
	struct remote *remote; /* what is before it; NULL: nothing (any more) */
	bool unknown;	       /* his certificate is good, and its name nobody's here: no role */
	bool over;	       /* he has too many: that is all he is told */
};

struct http {
	struct daemon *daemon;
	struct unix_listener listener;
	struct MHD_Daemon *mhd;
	sd_event_source *listening, *speaking, *timer, *heartbeat;
	struct peer peers[CONNECTIONS_MAX];
	struct stream *streams;
	struct upgrade *upgrades;
	struct http_request *waiting; /* whose answer comes later */
	/* TCP; without it -1 and NULL. */
	int remote_fd;
	sd_event_source *remote_listening;
	struct http_tls *tls;
	struct remote *remotes;
};

/* http_speak() - libmicrohttpd looks at what has come. */
int http_speak(struct http *http);
/* http_speak_soon() - something was resumed: libmicrohttpd looks at it in the loop's next turn, not from within our caller. */
void http_speak_soon(struct http *http);

/* ---- http_peers.c ---------------------------------------------------------------------------- */

/* peer_of() - NULL: of none of ours. */
struct peer *peer_of(struct MHD_Connection *connection);
/*
 * peer_add() - somebody's connection, @fd, goes to libmicrohttpd, which closes it. @remote: what is before it; NULL: nothing.
 * @must: although he has too many, if there is any place at all: he is told so
 * Returns his place; NULL: there is none, and @fd is the caller's.
 */
struct peer *peer_add(struct http *http, int fd, uint32_t uid, enum daemon_role role,
		      struct remote *remote, bool must);
/* peer_remote_ended() - what was before him is gone. */
void peer_remote_ended(struct peer *peer);
/* For sd-event: somebody connects at the UNIX socket. */
int peers_on_listening(sd_event_source *source, int fd, uint32_t events, void *http);
/* peers_judge() - roles have changed: who has another one now is let go. Those over TLS are http_tls_change()'s. */
void peers_judge(struct http *http);
/* For libmicrohttpd: a connection begins or ends. */
void peers_on_connection(void *http, struct MHD_Connection *connection, void **context,
			 enum MHD_ConnectionNotificationCode code);

/* ---- http_remote.c ------------------------------------------------------------------------------- */

/* remote_begin() - TCP, as divvyd.yaml says. remote_end(): all are let go; also without it. */
int remote_begin(struct http *http, struct error *e);
void remote_end(struct http *http);
/* http_tls_change() - to other certificates; everybody who came by the old ones is let go. Returns those, the caller's. */
struct http_tls *http_tls_change(struct http *http, struct http_tls *tls);

/* ---- http_tls.c ---------------------------------------------------------------------------------- */

/* http_tls_create() - read what divvyd.yaml names. "bad-tls" with the file. http_tls_destroy(): NULL is fine. */
int http_tls_create(const struct config *config, struct http_tls **out, struct error *e);
void http_tls_destroy(struct http_tls *tls);
/* http_tls_open() - a server's session on @fd, in whose handshake a certificate is wanted and judged. NULL: no memory. */
gnutls_session_t http_tls_open(struct http_tls *tls, int fd);
/* http_tls_name() - the certificate's common name, of a handshake that is done. False: it has none, or more than one. */
bool http_tls_name(gnutls_session_t session, char *name, size_t size);
/* http_tls_end_us() - when the first of its certificates is over, in microseconds of CLOCK_REALTIME; 0: that cannot be said. */
uint64_t http_tls_end_us(gnutls_session_t session);

/* ---- http_upgrade.c ------------------------------------------------------------------------------ */

#define HTTP_UPGRADE "tcp"

/* http_upgrade_wanted() - whether a request's Connection and Upgrade (NULL: none) ask for it. */
bool http_upgrade_wanted(const char *connection, const char *upgrade);
/* http_upgrade_free() - the request is over. NULL is fine. */
void http_upgrade_free(struct upgrade *upgrade);
/* http_upgrades_end() - all let go of their connections, before libmicrohttpd ends. */
void http_upgrades_end(struct http *http);

/* ---- http_events.c ------------------------------------------------------------------------------- */

/* http_events_begin() - the heartbeat. Returns 0 or -errno. */
int http_events_begin(struct http *http);
/* http_events_end() - streams end with what was not read yet. */
void http_events_end(struct http *http);

#endif
