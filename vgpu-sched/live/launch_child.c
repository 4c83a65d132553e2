// SPDX-License-Identifier: Apache-2.0
/*
 * The program itself: a child that cannot outlive the launcher, since its vGPU cannot (launch_private.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vgpu-sched/live/launch_private.h"

/* Handed on to the program, which decides what they mean. */
static const int handed_on[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < ARRAY_SIZE(handed_on); i++)
		sigaddset(set, handed_on[i]);
}

void launch_signals(bool block)
{
	sigset_t set;

	signal_set(&set);
	pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* In the child. Does not return. */
static void run(char **argv, pid_t parent, int failure, int (*prepare)(void *), void *opaque)
{
	int err = 0;

	/* Killed with the launcher, be it before this line. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		err = errno;
	if (getppid() != parent)
		_exit(1);
	if (!err && prepare)
		err = -prepare(opaque);
	if (!err) {
		launch_signals(false);
		execvp(argv[0], argv);
		err = errno;
	}
	if (write(failure, &err, sizeof(err)) < 0)
		_exit(126);
	_exit(127);
}

int launch_child_start(struct launch_child *child, char **argv, int (*prepare)(void *opaque),
		       void *opaque, struct error *e)
{
	const pid_t parent = getpid();
	int failure[2], why = 0;
	char next[256];
	ssize_t size;
	sigset_t set;

	*child = (struct launch_child){ .signals = -1, .pidfd = -1 };
	if (pipe2(failure, O_CLOEXEC) < 0)
		return error_set(e, errno, "program-not-started", NULL, "pipe: %s",
				 strerror(errno));
	signal_set(&set);
	child->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	child->pid = child->signals < 0 ? -1 : fork();
	if (!child->pid)
		run(argv, parent, failure[1], prepare, opaque);
	child->pidfd = child->pid < 0 ? -1 : pidfd_open(child->pid, 0);
	why = child->pidfd < 0 ? errno : 0;
	fd_close(&failure[1]);
	if (!why) {
		do
			size = read(failure[0], &why, sizeof(why));
		while (size < 0 && errno == EINTR);
		/* The program's start closes the pipe. */
		if (size != sizeof(why))
			why = 0;
	}
	fd_close(&failure[0]);
	if (!why)
		return 0;
	launch_child_end(child);
	/* Without a slash it was looked for in $PATH. */
	snprintf(next, sizeof(next), "%s %.200s", strchr(argv[0], '/') ? "ls -l" : "type -a",
		 argv[0]);
	return error_set(e, why, "program-not-started",
			 why == ENOENT || why == EACCES ? next : NULL, "%s: %s", argv[0],
			 strerror(why));
}

/* Whether the child has ended. */
static bool reap(struct launch_child *child)
{
	int status;

	if (child->ended || child->pid <= 0)
		return true;
	if (waitpid(child->pid, &status, WNOHANG) != child->pid)
		return false;
	child->ended = true;
	child->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return true;
}

static void hand_on(struct launch_child *child)
{
	struct signalfd_siginfo info;

	while (read(child->signals, &info, sizeof(info)) == sizeof(info))
		/* What a terminal sends, it sends to the program as well. */
		if (info.ssi_code != SI_KERNEL)
			kill(child->pid, (int)info.ssi_signo);
}

int launch_child_wait(struct launch_child *child, int fd)
{
	struct pollfd pollers[3] = { { .fd = child->signals, .events = POLLIN },
				     { .fd = fd, .events = POLLIN },
				     { .fd = child->pidfd, .events = POLLIN } };

	while (!reap(child)) {
		if (poll(pollers, ARRAY_SIZE(pollers), -1) < 0 && errno != EINTR)
			return -errno;
		if (pollers[0].revents)
			hand_on(child);
		if (pollers[1].revents)
			return reap(child) ? 0 : 1;
	}
	return 0;
}

void launch_child_end(struct launch_child *child)
{
	if (child->pid > 0 && !child->ended) {
		kill(child->pid, SIGKILL);
		waitpid(child->pid, NULL, 0);
		child->ended = true;
	}
	fd_close(&child->pidfd);
	fd_close(&child->signals);
}
