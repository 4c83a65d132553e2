// SPDX-License-Identifier: Apache-2.0
/*
 * listen: what a server opens before anybody may connect: its sockets, its key, its password.
 *
 * A UNIX socket is its owner's alone (mode 0600, from its first moment on; who may chmod it may let others in). TCP is anybody's,
 * so there is none without a password, and no password goes over it without TLS, unless that is asked for by name.
 */
#include <errno.h>
#include <fcntl.h>
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

static int tcp_open(struct vnc_screen *screen, const char *where, struct error *e)
{
	const struct vnc_server *server = screen->server;
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
	err = tcp_listener_open(where, &screen->listener.fd);
	if (err == -EINVAL)
		return error_set(e, EINVAL, "vnc-place", "tcp:127.0.0.1:5900, tcp:[::1]:5900",
				 "tcp:%s: not a numeric ADDRESS:PORT", where);
	if (err)
		return error_set(e, -err, err == -EADDRINUSE ? "vnc-in-use" : "vnc-place", NULL,
				 "tcp:%s: %s", where, strerror(-err));
	screen->port = tcp_listener_port(screen->listener.fd);
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
