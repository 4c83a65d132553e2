// SPDX-License-Identifier: Apache-2.0
/*
 * server: has the warden start and end virglrenderer's render server.
 *
 * The server forks a worker for each of the guest's contexts. All of them are in one process group, which is what is killed:
 * a worker does not end with its server. A server whose socket was closed ends its workers itself and then
 * exits, so that is tried first.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mdev/gpu/server.h"

#define KILL_TIMEOUT_MS	 2000
#define START_TIMEOUT_MS 20000

void render_server_init(struct render_server *server)
{
	*server = (struct render_server){
		.warden = { .pidfd = -1, .fd = -1 },
		.pidfd = -1,
		.messages_fd = -1,
	};
}

int render_server_open(struct render_server *server, const struct virtio_gpu_venus_config *config,
		       const char *path, const char *name, struct error *e)
{
	return warden_start(&server->warden, config, path, name, e);
}

void render_server_close(struct render_server *server)
{
	render_server_end(server, 0);
	warden_end(&server->warden);
}

/* ---- a start --------------------------------------------------------------------------------- */

/* Returns what was read, 0 at the end, or -errno. */
static ssize_t receive(int fd, struct msghdr *header)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	ssize_t got;
	int ret;

	do
		ret = poll(&poller, 1, START_TIMEOUT_MS);
	while (ret < 0 && errno == EINTR);
	if (ret <= 0)
		return ret ? -errno : -ETIMEDOUT;
	got = recvmsg(fd, header, MSG_CMSG_CLOEXEC);
	return got < 0 ? -errno : got;
}

/* The warden's answer. Returns 0 with all of @fds, or -errno. */
static int answer_receive(int fd, int fds[WARDEN_FDS])
{
	int err = 0;
	struct iovec iov = { .iov_base = &err, .iov_len = sizeof(err) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(WARDEN_FDS * sizeof(int))];
	} control;
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };
	const ssize_t got = receive(fd, &header);
	const struct cmsghdr *head = got > 0 ? CMSG_FIRSTHDR(&header) : NULL;

	if (got != sizeof(err))
		return got < 0 ? (int)got : -EPIPE;
	if (err)
		return err;
	if (!head || head->cmsg_type != SCM_RIGHTS ||
	    head->cmsg_len != CMSG_LEN(WARDEN_FDS * sizeof(int)))
		return -EPROTO;
	memcpy(fds, CMSG_DATA(head), WARDEN_FDS * sizeof(int));
	return 0;
}

/*
 * The child's report: who it is, by its credentials, as this process's PID namespace calls it; then nothing, when it became the server, or what it failed with.
 */
static int report_receive(struct render_server *server, int fd)
{
	struct warden_report report = { 0 };
	struct iovec iov = { .iov_base = &report, .iov_len = sizeof(report) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct ucred maker;

	for (;;) {
		struct msghdr header = { .msg_iov = &iov,
					 .msg_iovlen = 1,
					 .msg_control = &control,
					 .msg_controllen = sizeof(control) };
		const ssize_t got = receive(fd, &header);
		const struct cmsghdr *head = got > 0 ? CMSG_FIRSTHDR(&header) : NULL;

		if (got < 0)
			return (int)got;
		if (!got)
			return server->pid ? 0 : -ECHILD;
		if (got == sizeof(report)) {
			snprintf(server->why, sizeof(server->why), "%.*s",
				 (int)sizeof(report.text) - 1, report.text);
			return report.err < 0 ? report.err : -ECHILD;
		}
		if (head && head->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&maker, CMSG_DATA(head), sizeof(maker));
			server->pid = maker.pid;
		}
	}
}

int render_server_start(struct render_server *server)
{
	int fds[WARDEN_FDS] = { -1, -1, -1, -1 };
	int ret = -EPIPE;

	server->why[0] = '\0';
	if (send(server->warden.fd, &(char){ WARDEN_START }, 1, MSG_NOSIGNAL) == 1)
		ret = answer_receive(server->warden.fd, fds);
	if (ret == -EPIPE)
		strcpy(server->why, "its warden has ended");
	server->pidfd = fds[WARDEN_FD_PIDFD];
	server->messages_fd = fds[WARDEN_FD_MESSAGES];
	if (!ret)
		ret = report_receive(server, fds[WARDEN_FD_REPORT]);
	fd_close(&fds[WARDEN_FD_REPORT]);
	if (!ret)
		return fds[WARDEN_FD_SOCKET];
	fd_close(&fds[WARDEN_FD_SOCKET]);
	render_server_end(server, 0);
	return ret;
}

/* ---- its end --------------------------------------------------------------------------------- */

void render_server_kill(struct render_server *server)
{
	(void)!send(server->warden.fd, &(char){ WARDEN_KILL }, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool ended(const struct render_server *server, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = server->pidfd, .events = POLLIN };
	int ret;

	do
		ret = poll(&poll_fd, 1, timeout_ms);
	while (ret < 0 && errno == EINTR);
	return ret > 0;
}

void render_server_end(struct render_server *server, unsigned grace_ms)
{
	if (server->pidfd >= 0) {
		if (grace_ms)
			ended(server, (int)grace_ms);
		/* Also when it has ended: of a server that was killed workers may be left. */
		render_server_kill(server);
		if (!ended(server, KILL_TIMEOUT_MS))
			log_error("render server %d does not end", server->pid);
	}
	server->pid = 0;
	fd_close(&server->pidfd);
	fd_close(&server->messages_fd);
}
