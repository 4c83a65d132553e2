// SPDX-License-Identifier: Apache-2.0
/*
 * venus_watch: notices the end of a render worker.
 *
 * virglrenderer keeps the socket to each worker to itself. It is a SOCK_SEQPACKET of a pair that the render server
 * made, which the kernel knows (SO_PEERCRED is who made the pair): so right after a context was made, the
 * one socket among our descriptors that the server made and that we do not know yet is its worker's. A copy of it is watched for
 * the other end's going away, and nothing else is done with it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdev/gpu/venus_private.h"

static bool is_of_server(const struct venus *venus, int fd)
{
	struct ucred maker;
	socklen_t size = sizeof(maker);
	int type;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &maker, &size) < 0 ||
	    maker.pid != venus->server.pid)
		return false;
	size = sizeof(type);
	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) && type == SOCK_SEQPACKET;
}

static bool is_known(const struct venus *venus, uint64_t inode)
{
	for (unsigned i = 0; i < VENUS_CONTEXTS_MAX; i++)
		if (venus->watches[i].context && venus->watches[i].inode == inode)
			return true;
	return false;
}

/* A copy of the one that is new, or -1. */
static int find_new(const struct venus *venus, uint64_t *inode)
{
	DIR *dir = venus->descriptors;
	const struct dirent *entry;
	int found = -1;

	if (!dir)
		return -1;
	rewinddir(dir);
	while (found < 0 && (entry = readdir(dir))) {
		int fd = atoi(entry->d_name);
		struct stat st;

		if (entry->d_name[0] == '.' || !is_of_server(venus, fd) || fstat(fd, &st) < 0 ||
		    is_known(venus, st.st_ino))
			continue;
		*inode = st.st_ino;
		found = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	}
	return found;
}

static int on_end(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct venus_watch *watch = userdata;
	struct venus *venus = watch->venus;
	const uint32_t context = watch->context;

	if (!(events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)))
		return 0;
	log_limited(LOG_LEVEL_WARN, "%s: the worker of context %u has ended", venus->name, context);
	venus_unwatch(venus, context);
	venus_context_lost(venus, context);
	return 0;
}

static void release(struct venus_watch *watch)
{
	watch->source = sd_event_source_disable_unref(watch->source);
	fd_close(&watch->fd);
	watch->context = 0;
}

void venus_watch(struct venus *venus, uint32_t context)
{
	struct venus_watch *watch = NULL;
	int ret = -1;

	for (unsigned i = 0; i < VENUS_CONTEXTS_MAX && !watch; i++)
		if (!venus->watches[i].context)
			watch = &venus->watches[i];
	if (!watch)
		return;
	watch->venus = venus;
	watch->fd = find_new(venus, &watch->inode);
	watch->context = context;
	if (watch->fd >= 0)
		ret = sd_event_add_io(venus->event, &watch->source, watch->fd, EPOLLRDHUP, on_end,
				      watch);
	if (ret >= 0)
		return;
	log_limited(LOG_LEVEL_WARN, "%s: the end of context %u's worker will be noticed late",
		    venus->name, context);
	release(watch);
}

void venus_unwatch(struct venus *venus, uint32_t context)
{
	for (unsigned i = 0; i < VENUS_CONTEXTS_MAX; i++)
		if (venus->watches[i].context == context)
			release(&venus->watches[i]);
}

void venus_unwatch_all(struct venus *venus)
{
	for (unsigned i = 0; i < VENUS_CONTEXTS_MAX; i++)
		if (venus->watches[i].context)
			release(&venus->watches[i]);
}
