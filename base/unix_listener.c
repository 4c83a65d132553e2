// SPDX-License-Identifier: Apache-2.0
/*
 * A listening UNIX socket with a name in the file system: made so that there is no moment at which others could
 * connect, and its name removed again by a process that may no longer look at paths.
 *
 * After the start this needs: accept4, getsockopt (SO_PEERCRED), unlinkat of the socket's name in a folder that is held open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"

#define BACKLOG 8

/* Whether a socket is left from somebody who is gone. Not ours, or in use: *e says so. */
static bool is_stale(const struct sockaddr_un *address, int fd, struct error *e)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st) < 0) {
		error_set(e, errno, "socket-path", NULL, "%s: %s", path, strerror(errno));
		return false;
	}
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid()) {
		error_set(e, EEXIST, "socket-path", "choose another path",
			  "%s is there and is no socket of this user", path);
		return false;
	}
	if (!connect(fd, (const struct sockaddr *)address, sizeof(*address)) ||
	    errno != ECONNREFUSED) {
		error_set(e, EADDRINUSE, "socket-in-use", "choose another path",
			  "%s: somebody listens there", path);
		return false;
	}
	return true;
}

int unix_listener_open(const char *path, struct unix_listener *listener, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct sockaddr *any = (const struct sockaddr *)&address;
	const char *slash = strrchr(path, '/');
	char folder[sizeof(address.sun_path)] = ".";
	int probe, err;

	_Static_assert(sizeof(listener->name) == sizeof(address.sun_path), "a name is a path");
	*listener = (struct unix_listener){ .fd = -1, .folder_fd = -1 };
	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(e, ENAMETOOLONG, "socket-path", NULL, "%s: too long", path);
	strcpy(address.sun_path, path);
	if (slash)
		snprintf(folder, sizeof(folder), "%.*s", (int)MAX(slash - path, 1), path);
	listener->folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The socket's mode becomes its name's (unix(7)), so that there is no moment of another. */
	if (listener->folder_fd < 0 || listener->fd < 0 || probe < 0 ||
	    fchmod(listener->fd, 0600) < 0) {
		err = error_set(e, errno, "socket-path", NULL, "%s: %s", path, strerror(errno));
		goto fail;
	}
	if (bind(listener->fd, any, sizeof(address)) < 0) {
		err = -errno;
		if (err == -EADDRINUSE && !is_stale(&address, probe, e)) {
			err = e ? -e->err : err;
			goto fail;
		}
		if (err == -EADDRINUSE &&
		    (unlink(path) < 0 || bind(listener->fd, any, sizeof(address)) < 0))
			err = -errno;
		else if (err == -EADDRINUSE)
			err = 0;
		if (err) {
			error_set(e, -err, "socket-path", NULL, "%s: %s", path, strerror(-err));
			goto fail;
		}
	}
	strcpy(listener->name, slash ? slash + 1 : path);
	if (listen(listener->fd, BACKLOG) < 0) {
		err = error_set(e, errno, "socket-path", NULL, "%s: %s", path, strerror(errno));
		goto fail;
	}
	fd_close(&probe);
	return 0;

fail:
	fd_close(&probe);
	unix_listener_close(listener);
	return err;
}

int listener_accept(int fd, const char *what)
{
	int one = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	/* Out of descriptors, it stays readable: later then, and no busy loop. */
	if (one < 0 &&
	    (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
		log_limited(LOG_LEVEL_WARN, "%s: %s", what, strerror(errno));
		usleep(10000);
	}
	return one;
}

int unix_listener_accept(int fd, const char *what, struct ucred *peer)
{
	socklen_t size = sizeof(*peer);
	int one = listener_accept(fd, what);

	if (one >= 0 && getsockopt(one, SOL_SOCKET, SO_PEERCRED, peer, &size) < 0)
		fd_close(&one);
	return one;
}

void unix_listener_close(struct unix_listener *listener)
{
	/* First, so that a new one may take the name as soon as the socket is closed. A process that has shut itself in may not: who made the folder does. */
	if (listener->name[0] && unlinkat(listener->folder_fd, listener->name, 0) < 0 &&
	    errno != EACCES && errno != EPERM && errno != EROFS)
		log_warn("socket %s: %s", listener->name, strerror(errno));
	listener->name[0] = '\0';
	fd_close(&listener->fd);
	fd_close(&listener->folder_fd);
}
