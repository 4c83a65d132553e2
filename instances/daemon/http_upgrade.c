// SPDX-License-Identifier: Apache-2.0
/*
 * A request that becomes a connection to something else (RFC 9110, 7.8): after 101 Switching Protocols what the client says goes to a socket of an
 * instance, and back, through a tunnel. The protocol is called tcp, as Docker's API calls it: bytes, and nothing about them.
 *
 * The connection stays its user's, counted as any other. It ends when the client or the instance does, or the daemon.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "instances/daemon/http.h"
#include "instances/daemon/tunnel.h"

struct upgrade {
	struct http *http;
	struct upgrade *next;
	int fd;					  /* the instance's */
	struct MHD_UpgradeResponseHandle *handle; /* NULL: 101 is not sent yet, or it has ended */
	struct tunnel *tunnel;
};

bool http_upgrade_wanted(const char *connection, const char *upgrade)
{
	const char *token = connection ? connection : "";
	bool said = false;

	/* A list of tokens (RFC 9110, 7.6.1). */
	while (*token && !said) {
		token += strspn(token, " \t,");
		said = !strncasecmp(token, "upgrade", 7) && strspn(token + 7, " \t,") >= !!token[7];
		token += strcspn(token, ",");
	}
	return said && upgrade && !strcasecmp(upgrade, HTTP_UPGRADE);
}

/* The connection is libmicrohttpd's again, which closes it. */
static void let_go(struct upgrade *upgrade)
{
	tunnel_destroy(upgrade->tunnel);
	upgrade->tunnel = NULL;
	fd_close(&upgrade->fd);
	if (upgrade->handle)
		MHD_upgrade_action(upgrade->handle, MHD_UPGRADE_ACTION_CLOSE);
	upgrade->handle = NULL;
}

static void on_ended(void *opaque)
{
	struct upgrade *upgrade = opaque;

	upgrade->tunnel = NULL;
	let_go(upgrade);
	http_speak_soon(upgrade->http);
}

static void on_upgraded(void *opaque, struct MHD_Connection *connection, void *context,
			const char *early, size_t early_size, int fd,
			struct MHD_UpgradeResponseHandle *handle)
{
	struct upgrade *upgrade = opaque;

	upgrade->handle = handle;
	/* More than that, before it could know that it may: it is nobody's protocol. */
	if (early_size > TUNNEL_BUFFER ||
	    tunnel_create(upgrade->http->daemon->event, fd, NULL, upgrade->fd, HTTP_PRIORITY,
			  on_ended, upgrade, &upgrade->tunnel) < 0) {
		let_go(upgrade);
		http_speak_soon(upgrade->http);
		return;
	}
	tunnel_push(upgrade->tunnel, false, early, early_size);
}

void http_tunnel(struct http_request *request, int fd)
{
	struct http *http = request->daemon->http;
	struct upgrade *upgrade = calloc(1, sizeof(*upgrade));
	struct MHD_Response *response =
		upgrade ? MHD_create_response_for_upgrade(on_upgraded, upgrade) : NULL;

	if (!response ||
	    MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, HTTP_UPGRADE) != MHD_YES) {
		if (response)
			MHD_destroy_response(response);
		free(upgrade);
		fd_close(&fd);
		http_failed(request, &(struct error){ .err = ENOMEM,
						      .code = "no-memory",
						      .text = "no memory for a tunnel" });
		return;
	}
	*upgrade = (struct upgrade){ .http = http, .next = http->upgrades, .fd = fd };
	http->upgrades = upgrade;
	request->upgrade = upgrade;
	request->answered = true;
	request->status = MHD_HTTP_SWITCHING_PROTOCOLS;
	request->response = response;
}

void http_upgrade_free(struct upgrade *upgrade)
{
	if (!upgrade)
		return;
	for (struct upgrade **one = &upgrade->http->upgrades; *one; one = &(*one)->next)
		if (*one == upgrade) {
			*one = upgrade->next;
			break;
		}
	/* libmicrohttpd has let go of it, or never got there. */
	upgrade->handle = NULL;
	let_go(upgrade);
	free(upgrade);
}

void http_upgrades_end(struct http *http)
{
	for (struct upgrade *upgrade = http->upgrades; upgrade; upgrade = upgrade->next)
		let_go(upgrade);
}
