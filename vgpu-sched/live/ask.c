// SPDX-License-Identifier: Apache-2.0
/* Questions to an arbiter and orders, by who may: what the vGPUs have, another weight. Waiting and not. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vgpu-sched/live/client.h"

#define STATUS_MAX ((off_t)(16 * MIB))

static int status_read(int fd, char **json, struct error *e)
{
	struct stat st;
	int err;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > STATUS_MAX)
		return error_set(e, EPROTO, "no-arbiter", NULL, "the arbiter gives no status");
	*json = calloc(1, (size_t)st.st_size + 1);
	err = *json ? pread_full(fd, *json, (size_t)st.st_size, 0) : -ENOMEM;
	if (err) {
		free(*json);
		*json = NULL;
		error_set(e, -err, "no-memory", NULL, "status: %s", strerror(-err));
	}
	return err;
}

int arbiter_status(const char *socket, char **json, struct error *e)
{
	const struct live_message message = { .type = LIVE_STATUS, .version = LIVE_VERSION };
	int fd = live_connect(socket ? socket : ARBITER_SOCKET, e), fds[2] = { -1, -1 }, err;
	struct live_message reply;

	if (fd < 0)
		return fd;
	err = live_call(fd, &message, &reply, fds, e);
	if (!err)
		err = status_read(fds[0], json, e);
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	fd_close(&fd);
	return err;
}

int arbiter_ask(const char *path, struct error *e)
{
	const struct live_message message = { .type = LIVE_STATUS, .version = LIVE_VERSION };
	int fd, err;

	if (!path)
		path = ARBITER_SOCKET;
	fd = unix_connect(path, SOCK_SEQPACKET | SOCK_NONBLOCK);
	if (fd == -ENAMETOOLONG)
		return error_set(e, ENAMETOOLONG, "no-arbiter", NULL, "%s: too long", path);
	if (fd >= 0 && send(fd, &message, sizeof(message), MSG_NOSIGNAL) == sizeof(message))
		return fd;
	err = fd < 0 ? -fd : errno;
	fd_close(&fd);
	return error_set(e, err, "no-arbiter", NULL, "%s: no arbiter answers: %s", path,
			 strerror(err));
}

int arbiter_answer(int fd, char **json, struct error *e)
{
	struct live_message reply = { 0 };
	int fds[LIVE_DESCRIPTORS_MAX] = { -1, -1 }, err;
	const ssize_t size = live_receive(fd, &reply, fds);

	if (size != sizeof(reply) || reply.version != LIVE_VERSION || reply.type != LIVE_STATUS ||
	    reply.error)
		err = error_set(e, EPROTO, "no-arbiter", NULL, "the arbiter gives no status");
	else
		err = status_read(fds[0], json, e);
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	return err;
}

int arbiter_reweigh(const char *socket, const char *name, uint32_t weight, struct error *e)
{
	struct live_message message = { .type = LIVE_CHANGE,
					.version = LIVE_VERSION,
					.weight = weight },
			    reply;
	int fd, err;

	if (!name[0] || strlen(name) >= sizeof(message.name))
		return error_set(e, ENOENT, "no-such-vgpu", NULL, "no vGPU is called that");
	strcpy(message.name, name);
	fd = live_connect(socket ? socket : ARBITER_SOCKET, e);
	if (fd < 0)
		return fd;
	err = live_call(fd, &message, &reply, NULL, e);
	fd_close(&fd);
	return err;
}
