// SPDX-License-Identifier: Apache-2.0
/* The other end of a listening UNIX socket with a name. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/base.h"

int unix_connect(const char *path, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, err;

	/* A name too long is none, and none would be anybody's in the abstract name space (unix(7)). */
	if (!path[0] || strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		return fd;
	err = -errno;
	fd_close(&fd);
	return err;
}
