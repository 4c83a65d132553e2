// SPDX-License-Identifier: Apache-2.0
/*
 * "Is this process one of the vGPU's workers?": asked by who holds the token and starts its processes, about a process that he shows by a descriptor, so that
 * no number is taken for another's. Both ends: the arbiter's answer, and the question (vgpu-sched.h).
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter_private.h"
#include "vgpu-sched/live/client.h"

#define ASKERS_MAX 4 /* of a vGPU: they take places of the arbiter's */
#define ANSWER_MS  100
#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446 /* linux/magic.h, Linux 6.9 */
#endif

/* ---- the arbiter's ----------------------------------------------------------------------------- */

/* Each process has a file of its own there (Linux 6.9); before, all had the same. */
static bool is_process(int fd, struct stat *st)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == PID_FS_MAGIC && !fstat(fd, st);
}

static bool works_as(const struct live_vgpu *vgpu, const struct stat *process)
{
	const struct arbiter *arbiter = vgpu->gpu->arbiter;

	for (unsigned i = 0; i < arbiter->client_count; i++) {
		const struct client *client = arbiter->clients[i];
		struct stat st;

		if (client->vgpu == vgpu && client->page && client->pidfd >= 0 &&
		    is_process(client->pidfd, &st) && st.st_dev == process->st_dev &&
		    st.st_ino == process->st_ino)
			return true;
	}
	return false;
}

int worker_ask(struct client *client, const struct live_message *message, int pidfd,
	       struct error *e)
{
	struct live_message reply = {
		.type = LIVE_ANSWER,
		.version = LIVE_VERSION,
		.used_ns = message->used_ns,
	};
	struct live_vgpu *vgpu = client->vgpu;
	struct stat process;

	if (!vgpu) {
		vgpu = vgpu_of_token(client->arbiter, message->token);
		if (!vgpu)
			return error_set(e, EACCES, "no-such-vgpu", NULL, "no vGPU has that token");
		if (vgpu->askers == ASKERS_MAX)
			return error_set(e, EUSERS, "too-many-workers", NULL,
					 "%s has %u who ask for its workers, and may have no more",
					 vgpu->name, ASKERS_MAX);
		client->vgpu = vgpu;
		client->asks = true;
		vgpu->askers++;
	}
	if (pidfd >= 0 && is_process(pidfd, &process))
		reply.workers = works_as(vgpu, &process);
	else if (pidfd >= 0)
		reply.error = EOPNOTSUPP;
	memcpy(reply.gpu, vgpu->gpu->name, sizeof(reply.gpu));
	memcpy(reply.name, vgpu->name, sizeof(reply.name));
	return client_answer(client, &reply, NULL, 0);
}

void asker_end(struct client *client)
{
	client->vgpu->askers--;
	client->asks = false;
}

/* ---- who asks ------------------------------------------------------------------------------------ */

int vgpu_watch_open(const char *socket, const char *token, char gpu[VGPU_GPU_NAME_SIZE],
		    struct error *e)
{
	struct live_message message = { .type = LIVE_ASK, .version = LIVE_VERSION }, reply;
	int fd, err;

	if (live_token_read(token, message.token))
		return error_set(e, EACCES, "no-vgpu", "divvy run-native --share 25% -- PROGRAM",
				 "DIVVY_VGPU_TOKEN is no token of 32 hexadecimal digits");
	fd = live_connect(socket, e);
	if (fd < 0)
		return fd;
	err = live_call(fd, &message, &reply, NULL, e);
	if (err) {
		fd_close(&fd);
		return err;
	}
	snprintf(gpu, VGPU_GPU_NAME_SIZE, "%.*s", LIVE_NAME_SIZE - 1, reply.gpu);
	return fd;
}

static int ask(int fd, int pidfd, uint64_t serial)
{
	struct live_message message = { .type = LIVE_ASK,
					.version = LIVE_VERSION,
					.used_ns = serial };
	struct iovec iov = { .iov_base = &message, .iov_len = sizeof(message) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	const struct msghdr header = { .msg_iov = &iov,
				       .msg_iovlen = 1,
				       .msg_control = &control,
				       .msg_controllen = sizeof(control) };

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &pidfd, sizeof(int));
	return sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int vgpu_watch_ask(int fd, int pidfd, uint64_t serial)
{
	const uint64_t until = monotonic_ns() + ANSWER_MS * UINT64_C(1000000);
	int err = ask(fd, pidfd, serial);
	uint64_t now;

	while (!err && (now = monotonic_ns()) < until) {
		struct pollfd poller = { .fd = fd, .events = POLLIN };
		struct live_message reply;
		ssize_t size;

		if (poll(&poller, 1, (int)((until - now) / 1000000) + 1) < 0 && errno != EINTR)
			return -errno;
		/* No room for descriptors: none are sent. */
		size = recv(fd, &reply, sizeof(reply), MSG_DONTWAIT);
		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (size != sizeof(reply))
			return size < 0 ? -errno : -EPIPE;
		/* Others answer a question that was given up. */
		if (reply.type == LIVE_ANSWER && reply.used_ns == serial)
			return reply.error ? -EOPNOTSUPP : reply.workers != 0;
	}
	return err ? err : -EAGAIN;
}
