// SPDX-License-Identifier: Apache-2.0
/*
 * `divvyd keep`: the process above one of an instance's. It writes down how that one ended, for whoever wants to know later, when its
 * starter may be gone; and keeps its log short, since what a guest makes a process say may be without end.
 *
 * SIGTERM, SIGHUP, SIGUSR1 are handed on. SIGINT kills the process: whoever sends it learns by our end that it is gone. Killed
 * itself, it takes the process along, unless that one has become another user.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/launch/launch_private.h"

#define LOG_BYTES_MAX (1 * MIB) /* and as much again of what was before */

struct keeper {
	const char *log, *exit;
	int log_fd, said, signals; /* @said: what the process says */
	uint64_t log_size;
	pid_t pid;
};

static void log_turn(struct keeper *keeper)
{
	char old[4200];
	int fd;

	snprintf(old, sizeof(old), "%s.1", keeper->log);
	if (rename(keeper->log, old) < 0)
		return;
	fd = open(keeper->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	dup2(fd, 1);
	dup2(fd, 2);
	close(keeper->log_fd);
	keeper->log_fd = fd;
	keeper->log_size = 0;
}

/* Whether there may be more. A full disk loses lines, and nothing else. */
static bool log_more(struct keeper *keeper)
{
	char text[16384];
	ssize_t size = read(keeper->said, text, sizeof(text));

	if (size <= 0)
		return size < 0 && (errno == EINTR || errno == EAGAIN);
	if (write(keeper->log_fd, text, (size_t)size) > 0)
		keeper->log_size += (uint64_t)size;
	if (keeper->log_size > LOG_BYTES_MAX)
		log_turn(keeper);
	return true;
}

/* Whole or not there. */
static void exit_write(const struct keeper *keeper, int status)
{
	char new[4200], text[16];
	int fd;

	snprintf(new, sizeof(new), "%s.new", keeper->exit);
	snprintf(text, sizeof(text), "%d\n", status);
	fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) == (ssize_t)strlen(text))
		rename(new, keeper->exit);
	close(fd);
}

static int start(struct keeper *keeper, char **argv)
{
	const pid_t parent = getpid();
	int said[2];

	if (pipe2(said, O_CLOEXEC) < 0)
		return -errno;
	keeper->pid = fork();
	if (keeper->pid < 0)
		return -errno;
	if (!keeper->pid) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(126);
		if (dup2(said[1], 1) < 0 || dup2(said[1], 2) < 0)
			_exit(126);
		execv(argv[0], argv);
		fprintf(stderr, "divvyd: %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	fd_close(&said[1]);
	keeper->said = said[0];
	fcntl(keeper->said, F_SETFL, O_NONBLOCK);
	return 0;
}

/* Its exit status once it has ended, else -1. */
static int ended(const struct keeper *keeper)
{
	int status;

	if (waitpid(keeper->pid, &status, WNOHANG) != keeper->pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void signals_take(const struct keeper *keeper)
{
	struct signalfd_siginfo info;

	while (read(keeper->signals, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			kill(keeper->pid, info.ssi_signo == SIGINT ? SIGKILL : (int)info.ssi_signo);
}

static int watch(struct keeper *keeper)
{
	struct pollfd pollers[] = { { .fd = keeper->signals, .events = POLLIN },
				    { .fd = keeper->said, .events = POLLIN } };
	int status;

	while ((status = ended(keeper)) < 0) {
		if (poll(pollers, ARRAY_SIZE(pollers), -1) < 0 && errno != EINTR)
			continue;
		if (pollers[0].revents)
			signals_take(keeper);
		if (pollers[1].revents && !log_more(keeper))
			pollers[1].fd = -1;
	}
	/* The last words, which may be why; of those that it left behind nothing is waited for. */
	for (unsigned i = 0; i < 64 && pollers[1].fd >= 0; i++) {
		if (poll(&pollers[1], 1, 0) <= 0 || !log_more(keeper))
			break;
	}
	return status;
}

int launch_keep_main(int argc, char **argv)
{
	static const struct option table[] = {
		{ "log", required_argument, NULL, 'l' },
		{ "exit", required_argument, NULL, 'e' },
		{ 0 },
	};
	struct keeper keeper = { .log_fd = -1, .said = -1, .signals = -1 };
	struct stat st;
	sigset_t set;
	int option, status;

	while ((option = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		if (option == 'l')
			keeper.log = optarg;
		else if (option == 'e')
			keeper.exit = optarg;
		else
			return 2;
	}
	if (!keeper.log || !keeper.exit || optind >= argc)
		return 2;
	unlink(keeper.exit);
	keeper.log_fd =
		open(keeper.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (keeper.log_fd < 0 || fstat(keeper.log_fd, &st) < 0) {
		fprintf(stderr, "divvyd: %s: %s\n", keeper.log, strerror(errno));
		return 1;
	}
	keeper.log_size = (uint64_t)st.st_size;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	keeper.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (keeper.signals < 0 || start(&keeper, argv + optind))
		return 1;
	status = watch(&keeper);
	exit_write(&keeper, status);
	return status;
}

/* ---- what it left -------------------------------------------------------------------------------- */

int launch_exit_status(const struct launch_places *places, const char *name, const char *role)
{
	char path[4200];
	uint64_t status;
	int err;

	snprintf(path, sizeof(path), "%s/%s/%s.exit", places->state, name, role);
	err = file_read_u64(AT_FDCWD, path, &status);
	return err ? err : status > 255 ? -EINVAL : (int)status;
}

char *launch_log_tail(const struct launch_places *places, const char *name, size_t size,
		      size_t *length)
{
	char path[4200], *text;
	struct stat st;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/vmm.log", places->state, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return NULL;
	text = fstat(fd, &st) < 0 ? NULL : malloc(size + 1);
	if (text) {
		n = pread(fd, text, size, st.st_size > (off_t)size ? st.st_size - (off_t)size : 0);
		*length = n < 0 ? 0 : (size_t)n;
	}
	close(fd);
	return text;
}
