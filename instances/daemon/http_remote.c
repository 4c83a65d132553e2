// SPDX-License-Identifier: Apache-2.0
/*
 * TCP with TLS, before HTTP: who connects shakes hands in the daemon's loop, and is nobody until that is done; of such there are few, fewer from
 * one address, and none for long. Then a tunnel takes the words out of TLS to a socket pair, at whose other end libmicrohttpd serves them as it
 * does those of the UNIX socket. (Its own TLS is not used: under epoll it runs in circles while a handshake waits, and an upgraded connection
 * does not learn that its peer has gone: 1.0.1, MHD_connection_handle_read(), process_urh().)
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "instances/daemon/http.h"
#include "instances/daemon/tunnel.h"

#define PENDING_MAX	32
#define PENDING_ADDRESS 8
#define PENDING_US	(HTTP_IDLE_S * UINT64_C(1000000))
#define SILENT_S	60 /* who does not even acknowledge */

struct remote {
	struct http *http;
	struct remote *next;
	int fd, inner; /* our end of the pair */
	uint8_t address[16];
	gnutls_session_t tls;
	sd_event_source *source, *deadline;
	sd_event_source *expiry; /* of his certificate */
	struct tunnel *tunnel;	 /* NULL: it shakes hands */
	struct peer *peer;
};

static void remote_free(struct remote *remote)
{
	struct http *http = remote->http;

	for (struct remote **one = &http->remotes; *one; one = &(*one)->next)
		if (*one == remote) {
			*one = remote->next;
			break;
		}
	tunnel_destroy(remote->tunnel);
	sd_event_source_disable_unref(remote->source);
	sd_event_source_disable_unref(remote->deadline);
	sd_event_source_disable_unref(remote->expiry);
	if (remote->peer)
		peer_remote_ended(remote->peer);
	if (remote->tls)
		gnutls_deinit(remote->tls);
	fd_close(&remote->inner);
	fd_close(&remote->fd);
	free(remote);
}

/* ---- the handshake ------------------------------------------------------------------------------ */

static void on_ended(void *opaque)
{
	struct remote *remote = opaque;

	remote->tunnel = NULL;
	remote_free(remote);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *opaque)
{
	remote_free(opaque);
	return 0;
}

/* It is known who it is. False: there is no place for him. */
static bool begin_http(struct remote *remote)
{
	struct http *http = remote->http;
	const struct config_certificate *user = NULL;
	char name[128] = "";
	int pair[2];

	if (http_tls_name(remote->tls, name, sizeof(name)))
		user = config_certificate(&http->daemon->config, name);
	if (!user)
		log_limited(LOG_LEVEL_INFO, "API: the certificate of \"%s\" is nobody's here",
			    text_printable(name));
	/* Not longer than he may be trusted, by the clock that says so, whatever it jumps. */
	if (sd_event_add_time(http->daemon->event, &remote->expiry, CLOCK_REALTIME,
			      http_tls_end_us(remote->tls), 0, on_deadline, remote) < 0)
		return false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return false;
	remote->inner = pair[0];
	/* A descriptor is in a loop once. */
	remote->source = sd_event_source_disable_unref(remote->source);
	if (tunnel_create(http->daemon->event, remote->fd, remote->tls, pair[0], HTTP_PRIORITY,
			  on_ended, remote, &remote->tunnel) < 0) {
		close(pair[1]);
		return false;
	}
	remote->peer = peer_add(http, pair[1], user ? user->uid : UINT32_MAX,
				user ? user->role : DAEMON_NOBODY, remote, true);
	if (!remote->peer) {
		close(pair[1]);
		return false;
	}
	remote->peer->unknown = !user;
	/* Who is only told that he has too many does not stay. */
	if (!remote->peer->over)
		remote->deadline = sd_event_source_disable_unref(remote->deadline);
	else
		sd_event_source_set_time_relative(remote->deadline, PENDING_US);
	http_speak_soon(http);
	return true;
}

static int on_handshake(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct remote *remote = opaque;
	const int err = gnutls_handshake(remote->tls);

	if (err == GNUTLS_E_AGAIN || err == GNUTLS_E_INTERRUPTED) {
		return sd_event_source_set_io_events(
			source, gnutls_record_get_direction(remote->tls) ? EPOLLOUT : EPOLLIN);
	}
	if (err < 0 && !gnutls_error_is_fatal(err))
		return 0;
	if (err < 0) {
		if (err != GNUTLS_E_CERTIFICATE_ERROR) /* it said why */
			log_limited(LOG_LEVEL_INFO, "API: a handshake failed: %s",
				    gnutls_strerror(err));
		gnutls_alert_send_appropriate(remote->tls, err);
	}
	if (err < 0 || !begin_http(remote))
		remote_free(remote);
	return 0;
}

/* ---- who comes -------------------------------------------------------------------------------------- */

/* A network of IPv6 is one address: who has one has all of them (RFC 6177). */
static void address_of(int fd, uint8_t address[16])
{
	struct sockaddr_storage from = { 0 };
	socklen_t size = sizeof(from);

	if (getpeername(fd, (struct sockaddr *)&from, &size) < 0)
		return;
	if (from.ss_family == AF_INET6) {
		const struct in6_addr *six = &((const struct sockaddr_in6 *)&from)->sin6_addr;

		memcpy(address, six, IN6_IS_ADDR_V4MAPPED(six) ? 16 : 8);
	} else {
		memcpy(address, &((const struct sockaddr_in *)&from)->sin_addr, 4);
	}
}

static bool may_shake(const struct http *http, const uint8_t address[16])
{
	unsigned all = 0, from_there = 0;

	for (const struct remote *one = http->remotes; one; one = one->next) {
		all += !one->tunnel;
		from_there += !one->tunnel && !memcmp(one->address, address, 16);
	}
	return all < PENDING_MAX && from_there < PENDING_ADDRESS;
}

/* Whoever is gone without a word does not keep his place. */
static void keep_alive(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, SILENT_S / 2 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, SILENT_S / 6 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 3 },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, SILENT_S * 1000 },
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			       sizeof(int)) < 0)
			log_limited(LOG_LEVEL_WARN, "API: TCP: %s", strerror(errno));
}

static int on_listening(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct http *http = opaque;
	sd_event *event = http->daemon->event;
	struct remote *remote;
	int one = listener_accept(fd, "API");
	uint8_t address[16] = { 0 };

	if (one < 0)
		return 0;
	address_of(one, address);
	remote = may_shake(http, address) ? calloc(1, sizeof(*remote)) : NULL;
	if (!remote) {
		close(one);
		return 0;
	}
	keep_alive(one);
	*remote = (struct remote){ .http = http, .next = http->remotes, .fd = one, .inner = -1 };
	memcpy(remote->address, address, sizeof(address));
	http->remotes = remote;
	remote->tls = http_tls_open(http->tls, one);
	if (!remote->tls ||
	    sd_event_add_io(event, &remote->source, one, EPOLLIN, on_handshake, remote) < 0 ||
	    sd_event_source_set_priority(remote->source, HTTP_PRIORITY) < 0 ||
	    sd_event_add_time_relative(event, &remote->deadline, CLOCK_MONOTONIC, PENDING_US, 0,
				       on_deadline, remote) < 0)
		remote_free(remote);
	return 0;
}

int remote_begin(struct http *http, struct error *e)
{
	const char *where = http->daemon->config.listen;
	int err = http_tls_create(&http->daemon->config, &http->tls, e);

	if (err)
		return err;
	err = tcp_listener_open(where, &http->remote_fd);
	if (err)
		return error_set(e, -err, "api-listen", "listen: in divvyd.yaml", "%s: %s", where,
				 err == -EINVAL ? "no numeric ADDRESS:PORT" : strerror(-err));
	err = sd_event_add_io(http->daemon->event, &http->remote_listening, http->remote_fd,
			      EPOLLIN, on_listening, http);
	if (err >= 0)
		err = sd_event_source_set_priority(http->remote_listening, HTTP_PRIORITY);
	if (err < 0)
		return error_set(e, -err, "api-listen", NULL, "API: event loop: %s",
				 strerror(-err));
	log_info("the API is at %s, port %u, too", where, tcp_listener_port(http->remote_fd));
	return 0;
}

struct http_tls *http_tls_change(struct http *http, struct http_tls *tls)
{
	struct http_tls *old = http->tls;

	while (http->remotes)
		remote_free(http->remotes);
	http->tls = tls;
	return old;
}

void remote_end(struct http *http)
{
	sd_event_source_disable_unref(http->remote_listening);
	while (http->remotes)
		remote_free(http->remotes);
	fd_close(&http->remote_fd);
	http_tls_destroy(http->tls);
}
