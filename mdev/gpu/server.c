// SPDX-License-Identifier: Apache-2.0
/*
 * server: starts and ends virglrenderer's render server.
 *
 * The server forks a worker for each of the guest's contexts. All of them are in one process group, which is what is killed:
 * a worker does not end with its server. A server whose socket was closed ends its workers itself and then
 * exits, so that is tried first.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "mdev/gpu/server.h"

#define KILL_TIMEOUT_MS 2000

void render_server_init(struct render_server *server)
{
	*server = (struct render_server){ .pidfd = -1, .messages_fd = -1 };
	pthread_mutex_init(&server->lock, NULL);
}

/* In the child between fork and exec: only what is safe there. */
static void exec_server(const char *path, char *const *environment, int socket, int messages,
			int failure, pid_t parent)
{
	static const char *const arguments[] = { "virgl_render_server", "--socket-fd", "3", NULL };
	sigset_t none;
	int err, null;

	/* Above the numbers they shall have, so that none is overwritten by another. */
	socket = fcntl(socket, F_DUPFD_CLOEXEC, 10);
	messages = fcntl(messages, F_DUPFD_CLOEXEC, 10);
	failure = fcntl(failure, F_DUPFD_CLOEXEC, 10);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (socket < 0 || messages < 0 || failure < 0 || null < 0 || dup2(null, 0) < 0 ||
	    dup2(messages, 1) < 0 || dup2(messages, 2) < 0 || dup2(socket, 3) < 0)
		goto fail;
	/* Nothing else of ours, whatever its flags (the failure pipe closes by itself). */
	if (close_range(4, UINT32_MAX, CLOSE_RANGE_CLOEXEC) < 0 || setpgid(0, 0) < 0)
		goto fail;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	execve(path, (char *const *)(uintptr_t)arguments, environment);
fail:
	err = errno;
	if (write(failure, &err, sizeof(err)) < 0)
		_exit(126);
	_exit(127);
}

/* What the child failed with before it became the server; 0: it did. */
static int child_failure(int fd)
{
	int err = 0;
	ssize_t got;

	do
		got = read(fd, &err, sizeof(err));
	while (got < 0 && errno == EINTR);
	return got == sizeof(err) ? -err : 0;
}

int render_server_start(struct render_server *server, const char *path, char *const *environment)
{
	int sockets[2] = { -1, -1 }, messages[2] = { -1, -1 }, failure[2] = { -1, -1 };
	const pid_t parent = getpid();
	pid_t pid = 0;
	int ret = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0 ||
	    pipe2(messages, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(failure, O_CLOEXEC) < 0)
		ret = -errno;
	if (!ret) {
		pid = fork();
		if (pid == 0)
			exec_server(path, environment, sockets[1], messages[1], failure[1], parent);
		if (pid < 0)
			ret = -errno;
	}
	/* The child's ends: only so is its end seen. */
	fd_close(&sockets[1]);
	fd_close(&messages[1]);
	fd_close(&failure[1]);
	server->messages_fd = messages[0];
	if (!ret) {
		pthread_mutex_lock(&server->lock);
		server->pid = pid;
		pthread_mutex_unlock(&server->lock);
		ret = child_failure(failure[0]);
	}
	fd_close(&failure[0]);
	if (!ret) {
		server->pidfd = pidfd_open(pid, 0);
		if (server->pidfd < 0)
			ret = -errno;
	}
	if (ret) {
		fd_close(&sockets[0]);
		render_server_end(server, 0);
		return ret;
	}
	return sockets[0];
}

void render_server_kill(struct render_server *server)
{
	pthread_mutex_lock(&server->lock);
	/* Not reaped, so the number is still its own. A child that has not come so far has no group yet. */
	if (server->pid > 0 && kill(-server->pid, SIGKILL) < 0)
		kill(server->pid, SIGKILL);
	pthread_mutex_unlock(&server->lock);
}

static bool ended(const struct render_server *server, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = server->pidfd, .events = POLLIN };
	int ret;

	if (server->pidfd < 0)
		return false;
	do
		ret = poll(&poll_fd, 1, timeout_ms);
	while (ret < 0 && errno == EINTR);
	return ret > 0;
}

void render_server_end(struct render_server *server, unsigned grace_ms)
{
	siginfo_t info = { 0 };

	if (server->pid > 0) {
		if (grace_ms)
			ended(server, (int)grace_ms);
		/* Also when it has ended: of a server that was killed workers may be left. */
		render_server_kill(server);
		if (server->pidfd >= 0 && !ended(server, KILL_TIMEOUT_MS))
			log_error("render server %d does not end", server->pid);
		else
			while (waitid(P_PID, (id_t)server->pid, &info, WEXITED) < 0 &&
			       errno == EINTR)
				;
		/* Workers, where this process is the one to whom orphans come. */
		while (!waitid(P_PGID, (id_t)server->pid, &info, WEXITED | WNOHANG) && info.si_pid)
			info.si_pid = 0;
		pthread_mutex_lock(&server->lock);
		server->pid = 0;
		pthread_mutex_unlock(&server->lock);
	}
	fd_close(&server->pidfd);
	fd_close(&server->messages_fd);
}
