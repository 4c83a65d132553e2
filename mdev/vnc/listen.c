// SPDX-License-Identifier: Apache-2.0
/*
 * listen: what a server opens before anybody may connect: its sockets, its key, its password.
 *
 * A UNIX socket is its owner's alone (mode 0600, from its first moment on; who may chmod it may let others in). TCP is anybody's,
 * so there is none without a password, and no password goes over it without TLS, unless that is asked for by name.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mdev/vnc/private.h"

#define BACKLOG 64

static int unix_open(struct vnc_screen *screen, const char *path, struct error *e)
{
	int err = unix_listener_open(path, &screen->listener, e);

	/* More may wait than at most sockets: a viewer that finds no place gives up at once. */
	if (!err && listen(screen->listener.fd, BACKLOG) < 0)
		err = error_set(e, errno, "vnc-place", NULL, "%s: %s", path, strerror(errno));
	return err;
}

/* "ADDRESS:PORT" or "[ADDRESS]:PORT", cut in place. */
static bool address_cut(char *text, char **address, char **port)
{
	*address = text;
	*port = strrchr(text, ':');
	if (!*port)
		return false;
	*(*port)++ = 0;
	if (**address != '[')
		return !strchr(*address, ':');
	++*address;
	if ((*address)[0] == 0 || (*address)[strlen(*address) - 1] != ']')
		return false;
	(*address)[strlen(*address) - 1] = 0;
	return true;
}

static int tcp_open(struct vnc_screen *screen, const char *where, struct error *e)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };
	const struct vnc_server *server = screen->server;
	struct sockaddr_storage bound = { 0 };
	socklen_t size = sizeof(bound);
	struct addrinfo *found = NULL;
	char text[64], *address, *port;
	const int one = 1;
	int err;

	if (!server->has_password)
		return error_set(e, EPERM, "vnc-insecure", "--vnc-password FILE",
				 "tcp:%s: anybody can reach TCP, and there is no password", where);
	if (!server->has_tls && !server->plaintext)
		return error_set(
			e, EPERM, "vnc-insecure", "--vnc-tls FOLDER; or a UNIX socket, with ssh -L",
			"tcp:%s: without TLS (server-cert.pem, server-key.pem) all can be read on the way",
			where);
	if (!server->has_tls && !vnc_password_short(server))
		return error_set(e, EINVAL, "vnc-password", "--vnc-tls FOLDER",
				 "tcp:%s: without TLS a password has at most %u bytes", where,
				 VNC_DES_LENGTH);
	snprintf(text, sizeof(text), "%s", where);
	if (strlen(where) >= sizeof(text) || !address_cut(text, &address, &port) || !*address ||
	    getaddrinfo(address, port, &hints, &found))
		return error_set(e, EINVAL, "vnc-place", "tcp:127.0.0.1:5900, tcp:[::1]:5900",
				 "tcp:%s: not a numeric ADDRESS:PORT", where);
	screen->listener.fd =
		socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	err = screen->listener.fd < 0 ? -errno : 0;
	if (!err &&
	    (setsockopt(screen->listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	     bind(screen->listener.fd, found->ai_addr, found->ai_addrlen) < 0 ||
	     listen(screen->listener.fd, BACKLOG) < 0 ||
	     getsockname(screen->listener.fd, (struct sockaddr *)&bound, &size) < 0))
		err = -errno;
	freeaddrinfo(found);
	if (err)
		return error_set(e, -err, err == -EADDRINUSE ? "vnc-in-use" : "vnc-place", NULL,
				 "tcp:%s: %s", where, strerror(-err));
	screen->port =
		ntohs(bound.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&bound)->sin6_port
						  : ((const struct sockaddr_in *)&bound)->sin_port);
	screen->tcp = true;
	return 0;
}

int vnc_place_open(struct vnc_screen *screen, const char *where, struct error *e)
{
	if (!*where)
		return error_set(e, EINVAL, "vnc-place", NULL, "a place for viewers has no name");
	if (strncmp(where, "tcp:", 4))
		return unix_open(screen, where, e);
	return tcp_open(screen, where + 4, e);
}

void vnc_place_close(struct vnc_screen *screen)
{
	unix_listener_close(&screen->listener);
}

int vnc_password_read(struct vnc_server *server, const char *path, struct error *e)
{
	char text[VNC_PASSWORD_MAX + 2];
	ssize_t size = file_read(AT_FDCWD, path, text, sizeof(text));
	int err = 0;

	if (size >= 0)
		text[strcspn(text, "\r\n")] = 0;
	if (size < 0)
		err = error_set(e, (int)-size, "vnc-password", NULL, "%s: %s", path,
				strerror((int)-size));
	else if (!*text || strlen(text) > VNC_PASSWORD_MAX)
		err = error_set(e, EINVAL, "vnc-password", NULL,
				"%s: the first line is the password, 1 to %u bytes", path,
				VNC_PASSWORD_MAX);
	else
		memcpy(server->password, text, strlen(text) + 1);
	server->has_password = !err;
	gnutls_memset(text, 0, sizeof(text));
	return err;
}

int vnc_tls_read(struct vnc_server *server, const char *folder, struct error *e)
{
	char cert[512], key[512];
	int err;

	if ((size_t)snprintf(cert, sizeof(cert), "%s/server-cert.pem", folder) >= sizeof(cert))
		return error_set(e, ENAMETOOLONG, "vnc-tls", NULL, "%s: too long", folder);
	snprintf(key, sizeof(key), "%s/server-key.pem", folder);
	err = gnutls_certificate_allocate_credentials(&server->credentials);
	if (!err)
		err = gnutls_certificate_set_x509_key_file(server->credentials, cert, key,
							   GNUTLS_X509_FMT_PEM);
	if (err >= 0)
		err = gnutls_priority_init(&server->priority,
					   "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
	if (err < 0)
		return error_set(e, EINVAL, "vnc-tls", "docs/displays.md says how to make them",
				 "%s, %s: %s", cert, key, gnutls_strerror(err));
	server->has_tls = true;
	return 0;
}
