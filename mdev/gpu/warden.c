// SPDX-License-Identifier: Apache-2.0
/*
 * The warden (warden.h): how it comes to be, and its loop.
 *
 * As root, or where the caller may make user namespaces, it is the first process of a PID namespace, so that all it started ends with
 * it, however it ends; with no network, and with a root of its own that has what the view lists (render_view.c). Where neither may be had, it says so,
 * and Landlock and the filter of system calls, which anybody may have, confine what it starts.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mdev/gpu/warden_private.h"

#define NAMESPACES     (CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
#define LOOK_MS	       250
#define KILL_TRIES     200
#define KILL_TRY_US    10000
#define READY_MS       10000
#define END_TIMEOUT_MS 2000

/* ---- children -------------------------------------------------------------------------------- */

static void server_kill(const struct warden_self *self)
{
	/* Not reaped, so the number is still its own. A child that has not come so far has no group yet. */
	if (self->pid > 0 && kill(-self->pid, SIGKILL) < 0)
		kill(self->pid, SIGKILL);
}

/* Who has ended. Of a server that has, workers may be left, until they are ended too. */
static void reap(struct warden_self *self)
{
	siginfo_t info = { 0 };

	if (self->pid > 0 && !waitid(P_PID, (id_t)self->pid, &info, WEXITED | WNOHANG | WNOWAIT) &&
	    info.si_pid) {
		server_kill(self);
		waitpid(self->pid, NULL, 0);
		self->pid = 0;
	}
	/* While the server lives its workers are its own; without it they come here. */
	while (!self->pid && waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* The one before is gone. Returns 0 or -errno. */
static int server_clear(struct warden_self *self)
{
	for (unsigned i = 0; self->pid && i < KILL_TRIES; i++) {
		server_kill(self);
		reap(self);
		if (self->pid)
			usleep(KILL_TRY_US);
	}
	return self->pid ? -EBUSY : 0;
}

/* ---- a start --------------------------------------------------------------------------------- */

static int answer(int fd, int err, const int *fds)
{
	struct iovec iov = { .iov_base = &err, .iov_len = sizeof(err) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(WARDEN_FDS * sizeof(int))];
	} control = { 0 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (!err) {
		header.msg_control = &control;
		header.msg_controllen = sizeof(control.room);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(WARDEN_FDS * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, WARDEN_FDS * sizeof(int));
	}
	return sendmsg(fd, &header, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int start(struct warden_self *self, int fds[WARDEN_FDS])
{
	int sockets[2] = { -1, -1 }, messages[2] = { -1, -1 }, report[2] = { -1, -1 };
	const int on = 1;
	int err = server_clear(self);

	if (!err && (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0 ||
		     pipe2(messages, O_CLOEXEC | O_NONBLOCK) < 0 ||
		     socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0 ||
		     setsockopt(report[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0))
		err = -errno;
	if (!err) {
		self->pid = fork();
		if (!self->pid)
			warden_exec(self, sockets[1], messages[1], report[1]);
		if (self->pid < 0) {
			err = -errno;
			self->pid = 0;
		}
	}
	/* The child's ends: only so is its end seen. */
	fd_close(&sockets[1]);
	fd_close(&messages[1]);
	fd_close(&report[1]);
	fds[WARDEN_FD_SOCKET] = sockets[0];
	fds[WARDEN_FD_MESSAGES] = messages[0];
	fds[WARDEN_FD_REPORT] = report[0];
	fds[WARDEN_FD_PIDFD] = err ? -1 : pidfd_open(self->pid, 0);
	if (!err && fds[WARDEN_FD_PIDFD] < 0)
		err = -errno;
	return err;
}

static void on_start(struct warden_self *self)
{
	int fds[WARDEN_FDS] = { -1, -1, -1, -1 };
	int err = start(self, fds);

	/* Who cannot be told has nobody who would speak to it. */
	if (answer(self->fd, err, fds) || err)
		server_kill(self);
	for (unsigned i = 0; i < WARDEN_FDS; i++)
		fd_close(&fds[i]);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void loop(struct warden_self *self)
{
	struct pollfd pollers[] = { { .fd = self->fd, .events = POLLIN },
				    { .fd = self->signals, .events = POLLIN } };
	uint64_t looked_ns = 0;

	for (;;) {
		const bool watches = self->register_ms && self->pid;
		struct signalfd_siginfo info;
		char word;

		if (poll(pollers, ARRAY_SIZE(pollers), watches ? LOOK_MS : -1) < 0 &&
		    errno != EINTR)
			return;
		if (pollers[1].revents) {
			while (read(self->signals, &info, sizeof(info)) == sizeof(info))
				;
			reap(self);
		}
		if (pollers[0].revents) {
			if (recv(self->fd, &word, 1, 0) != 1)
				return;
			if (word == WARDEN_START)
				on_start(self);
			else if (word == WARDEN_KILL)
				server_kill(self);
		}
		/* Not kept from it by somebody who says "kill" without end. */
		if (watches && monotonic_ns() - looked_ns >= LOOK_MS * UINT64_C(1000000)) {
			warden_watch(self);
			looked_ns = monotonic_ns();
		}
	}
}

/* ---- where it lives -------------------------------------------------------------------------- */

/* In a new user namespace: there is one user, who is who it was outside. */
static int users_map(uid_t uid, gid_t gid, struct error *e)
{
	char text[64];
	int err = file_write(AT_FDCWD, "/proc/self/setgroups", "deny");

	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	if (!err || err == -ENOENT)
		err = file_write(AT_FDCWD, "/proc/self/uid_map", text);
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	if (!err)
		err = file_write(AT_FDCWD, "/proc/self/gid_map", text);
	return err ? error_set(e, -err, "render-jail", NULL, "render jail: user namespace: %s",
			       strerror(-err))
		   : 0;
}

/*
 * A /proc of this PID namespace, with processes and nothing else, for the warden to look into: what it starts is kept out by Landlock. Where it
 * cannot be had nobody can be watched. -errno
 */
static int proc_make(void)
{
	int config = fsopen("proc", FSOPEN_CLOEXEC), fd = -1;

	if (config < 0)
		return -errno;
	if (!fsconfig(config, FSCONFIG_SET_STRING, "subset", "pid", 0) &&
	    !fsconfig(config, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = fsmount(config, FSMOUNT_CLOEXEC,
			     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				     MOUNT_ATTR_NOEXEC);
	if (fd < 0)
		fd = -errno;
	close(config);
	return fd;
}

static int root_make(struct warden_self *self, struct error *e)
{
	int proc = proc_make(), err;

	if (proc < 0 && self->register_ms)
		return error_set(e, -proc, "render-jail", NULL,
				 "render jail: no /proc to watch render processes with: %s",
				 strerror(-proc));
	err = sandbox_root_change(self->view.paths, self->view.count, proc, e);
	fd_close(&proc);
	return err;
}

static int live_in(struct warden_self *self, const struct virtio_gpu_venus_config *config,
		   unsigned namespaces, struct error *e)
{
	int err = sandbox_capabilities_bound(e);

	if (!err && namespaces & CLONE_NEWNS)
		err = root_make(self, e);
	if (!err && config->user.wanted)
		err = sandbox_user_change(&config->user, e);
	if (!err)
		err = sandbox_capabilities_clear(e);
	if (!err && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		err = error_set(e, errno, "render-jail", NULL, "PR_SET_NO_NEW_PRIVS: %s",
				strerror(errno));
	if (!err) {
		err = render_filter_make(&self->filter);
		if (err)
			error_set(e, -err, "no-seccomp",
				  "boot a kernel with CONFIG_SECCOMP_FILTER, or --sandbox off",
				  "render jail: the filter of system calls: %s", strerror(-err));
	}
	/* Not for those to look into whom it starts, who are the same user. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return err;
}

/* ---- its beginning and end -------------------------------------------------------------------- */

struct ready {
	int32_t err;
	char code[32], text[512], next[192];
};

static void say_ready(int fd, const struct error *e)
{
	struct ready ready = { .err = e->err };

	snprintf(ready.code, sizeof(ready.code), "%s", e->code ? e->code : "");
	snprintf(ready.text, sizeof(ready.text), "%.511s", e->text);
	snprintf(ready.next, sizeof(ready.next), "%.191s", e->next);
	(void)!send(fd, &ready, sizeof(ready), MSG_NOSIGNAL);
}

/* Does not return. @outside: who it was outside of its user namespace, where it has one */
static void warden_main(struct warden_self *self, const struct virtio_gpu_venus_config *config,
			unsigned namespaces, uid_t uid, gid_t gid)
{
	struct error e = { 0 };
	sigset_t set;
	int err = 0;

	/* What it keeps has the lowest numbers there are; nothing else of the vGPU's stays open. */
	self->fd = fcntl(self->fd, F_DUPFD, 10);
	if (self->watch_fd >= 0)
		self->watch_fd = fcntl(self->watch_fd, F_DUPFD, 10);
	if (self->fd < 0 || dup3(self->fd, 3, O_CLOEXEC) < 0 ||
	    (self->register_ms && dup3(self->watch_fd, 4, O_CLOEXEC) < 0))
		_exit(1);
	self->fd = 3;
	self->watch_fd = self->register_ms ? 4 : -1;
	close_range(self->register_ms ? 5 : 4, UINT32_MAX, 0);
	prctl(PR_SET_NAME, "divvy-warden");
	signal(SIGINT, SIG_IGN); /* a terminal's: the vGPU ends in its way, and this with it */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGCHLD, SIG_DFL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (namespaces & CLONE_NEWUSER)
		err = users_map(uid, gid, &e);
	if (!err && self->confined)
		err = live_in(self, config, namespaces, &e);
	/* A change of user forgets it. Its socket's end ends it as well. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	self->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (!err && self->signals < 0)
		err = error_set(&e, errno, "render-jail", NULL, "signalfd: %s", strerror(errno));
	say_ready(self->fd, &e);
	if (!err)
		loop(self);
	server_kill(self);
	_exit(0);
}

/* As fork(2), with namespaces; one thread, so that nothing of the C library's is in disorder. */
static pid_t fork_into(unsigned namespaces)
{
	return (pid_t)syscall(SYS_clone, (unsigned long)(namespaces | SIGCHLD), NULL, NULL, NULL,
			      NULL);
}

/* As much as the caller may have. Returns the child's number in the parent, 0 in the child, -errno. */
static pid_t warden_fork(const struct warden_self *self, bool wants_user, unsigned *namespaces)
{
	pid_t pid;

	*namespaces = self->confined ? NAMESPACES : 0;
	pid = fork_into(*namespaces);
	if (pid < 0 && errno == EPERM && !wants_user) {
		*namespaces |= CLONE_NEWUSER;
		pid = fork_into(*namespaces);
	}
	if (pid < 0 && !wants_user) {
		log_warn(
			"%s: its render processes get no namespaces (%s): Landlock and the filter of "
			"system calls alone confine them",
			self->name, strerror(errno));
		*namespaces = 0;
		pid = fork_into(0);
	}
	return pid < 0 ? -errno : pid;
}

static int wait_ready(struct warden *warden, struct error *e)
{
	struct pollfd poller = { .fd = warden->fd, .events = POLLIN };
	struct ready ready = { 0 };
	int ret;

	do
		ret = poll(&poller, 1, READY_MS);
	while (ret < 0 && errno == EINTR);
	if (ret <= 0 || recv(warden->fd, &ready, sizeof(ready), 0) != sizeof(ready))
		return error_set(e, ECHILD, "render-jail", NULL,
				 "render jail: its warden does not start");
	if (!ready.err)
		return 0;
	ready.text[sizeof(ready.text) - 1] = ready.next[sizeof(ready.next) - 1] = '\0';
	return error_set(e, ready.err,
			 !strcmp(ready.code, "no-seccomp") ? "no-seccomp" : "render-jail",
			 ready.next, "%s", ready.text);
}

int warden_start(struct warden *warden, const struct virtio_gpu_venus_config *config,
		 const char *server, const char *name, struct error *e)
{
	struct warden_self *self = calloc(1, sizeof(*self));
	const uid_t uid = geteuid();
	const gid_t gid = getegid();
	int sockets[2] = { -1, -1 }, err = 0;
	unsigned namespaces;

	*warden = (struct warden){ .pidfd = -1, .fd = -1 };
	if (!self)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", name);
	snprintf(self->name, sizeof(self->name), "%s", name);
	self->server = server;
	self->environment = (char *const *)(uintptr_t)config->environment;
	self->confined = !config->unconfined;
	self->own_user = config->user.wanted;
	self->register_ms = config->register_ms;
	self->watch_fd = config->register_ms ? config->watch_fd : -1;
	err = render_view_make(&self->view, config, server, e);
	if (!err && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		err = error_set(e, errno, "render-jail", NULL, "%s: socketpair: %s", name,
				strerror(errno));
	if (!err) {
		self->fd = sockets[1];
		warden->pid = warden_fork(self, config->user.wanted, &namespaces);
		if (!warden->pid)
			warden_main(self, config, namespaces, uid, gid);
		if (warden->pid < 0) {
			err = error_set(
				e, -warden->pid, "render-jail",
				warden->pid == -EPERM
					? "start it as root, or leave --jail and --render-jail out"
					: NULL,
				"%s: its warden: %s", name, strerror(-warden->pid));
			warden->pid = 0;
		}
	}
	fd_close(&sockets[1]);
	warden->fd = sockets[0];
	if (!err) {
		warden->pidfd = pidfd_open(warden->pid, 0);
		err = wait_ready(warden, e);
	}
	if (err)
		warden_end(warden);
	render_view_free(&self->view);
	free(self);
	return err;
}

void warden_end(struct warden *warden)
{
	struct pollfd poller = { .fd = warden->pidfd, .events = POLLIN };

	fd_close(&warden->fd);
	if (warden->pid > 0) {
		if (warden->pidfd >= 0 && poll(&poller, 1, END_TIMEOUT_MS) <= 0)
			pidfd_send_signal(warden->pidfd, SIGKILL, NULL, 0);
		/* Another user's may be beyond our signals, but not its end: it has nobody left who speaks to it. */
		if (poll(&poller, 1, END_TIMEOUT_MS) > 0)
			waitpid(warden->pid, NULL, 0);
		else
			log_error("the warden, process %d, does not end", warden->pid);
	}
	warden->pid = 0;
	fd_close(&warden->pidfd);
}
