// SPDX-License-Identifier: Apache-2.0
/*
 * Who is connected, and how many places he has. Everybody may connect, since it is the role of a user that decides. So one user's connections are
 * counted, and one who has too many is told so and let go, whoever else waits.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "instances/daemon/http.h"

#define CONNECTIONS_USER 24 /* of one user; root and the daemon's own have the rest, too */
#define OVER_USER	 8 /* of one user's over TLS, further ones that are told that they are too many */
#define LARGE_USER	 4 /* answers of one user that may have 64 MiB */

struct peer *peer_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

void peers_on_connection(void *opaque, struct MHD_Connection *connection, void **context,
			 enum MHD_ConnectionNotificationCode code)
{
	struct http *http = opaque;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct peer *peer = *context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (peer) {
			peer->fd = -1;
			peer->used = peer->remote != NULL;
		}
		return;
	}
	for (unsigned i = 0; i < CONNECTIONS_MAX && info; i++)
		if (http->peers[i].used && http->peers[i].fd == info->connect_fd)
			*context = &http->peers[i];
}

void peer_remote_ended(struct peer *peer)
{
	peer->remote = NULL;
	peer->used = peer->fd >= 0;
}

bool http_large(struct http_request *request)
{
	struct http *http = request->daemon->http;
	struct peer *own = peer_of(request->connection);
	unsigned his = 0;

	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		his += http->peers[i].used && http->peers[i].uid == request->uid &&
		       http->peers[i].large;
	if (!own || his >= LARGE_USER)
		return false;
	own->large = true;
	return true;
}

/* Some places are never others'. */
static bool is_crowded(const struct http *http)
{
	unsigned all = 0;

	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		all += http->peers[i].used;
	return all >= CONNECTIONS_MAX - CONNECTIONS_USER;
}

/* How many @who has: that are served, or (@over) that are only told that he has too many. */
static unsigned count_his(const struct http *http, const struct peer *who, bool over)
{
	unsigned his = 0;

	/* One person may be many users (subuid(5)). */
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		const struct peer *one = &http->peers[i];

		his += one->used && one->over == over &&
		       (who->role == DAEMON_NOBODY ? one->role == DAEMON_NOBODY
						   : one->uid == who->uid);
	}
	return his;
}

struct peer *peer_add(struct http *http, int fd, uint32_t uid, enum daemon_role role,
		      struct remote *remote, bool must)
{
	/* Addresses are counted by us (http_remote.c), not by libmicrohttpd. */
	struct sockaddr_un nobody = { .sun_family = AF_UNIX };
	struct peer who = { .used = true, .fd = fd, .uid = uid, .role = role, .remote = remote };
	struct peer *peer = NULL;

	if (uid != 0 && uid != geteuid()) {
		if (is_crowded(http))
			return NULL;
		who.over = count_his(http, &who, false) >= CONNECTIONS_USER;
	}
	if (who.over && (!must || count_his(http, &who, true) >= OVER_USER))
		return NULL;
	for (unsigned i = 0; i < CONNECTIONS_MAX && !peer; i++)
		if (!http->peers[i].used)
			peer = &http->peers[i];
	if (!peer)
		return NULL;
	*peer = who;
	if (MHD_add_connection(http->mhd, fd, (struct sockaddr *)&nobody,
			       sizeof(nobody.sun_family)) != MHD_YES) {
		/* It has closed it. */
		peer->fd = -1;
		peer->used = remote != NULL;
	}
	return peer;
}

void peers_judge(struct http *http)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct peer *peer = &http->peers[i];
		struct ucred user;
		socklen_t size = sizeof(user);

		if (!peer->used || peer->remote || peer->fd < 0)
			continue;
		if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERCRED, &user, &size) < 0 ||
		    config_role(&http->daemon->config, peer->fd, &user) != peer->role)
			shutdown(peer->fd, SHUT_RDWR);
	}
}

/* ---- the UNIX socket -------------------------------------------------------------------------------- */

static void turn_away(int fd)
{
	static const char text[] =
		"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n"
		"Content-Length: 95\r\nConnection: close\r\n\r\n"
		"{\"error\":{\"code\":\"too-many-connections\",\"text\":\"this user has too many connections\",\"next\":\"\"}}\n";

	if (send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug("turned away: %s", strerror(errno));
	close(fd);
}

int peers_on_listening(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct http *http = opaque;
	struct ucred user;
	int one = unix_listener_accept(fd, "API", &user);

	if (one < 0)
		return 0;
	if (!peer_add(http, one, user.uid, config_role(&http->daemon->config, one, &user), NULL,
		      false)) {
		turn_away(one);
		return 0;
	}
	return http_speak(http);
}
