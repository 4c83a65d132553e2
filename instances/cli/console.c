// SPDX-License-Identifier: Apache-2.0
/*
 * divvy console: this terminal becomes the guest's. Everything typed goes there, Ctrl-C too, but Ctrl-], which leaves. The terminal is as
 * it was on every way out: signals are read from a descriptor, so that none ends the process between.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "instances/cli/instances.h"

#define ESCAPE 0x1d /* Ctrl-] */
#define CHUNK  4096

int cli_console_connect(const char *path, const char *name, struct error *e)
{
	char next[ERROR_NEXT_SIZE];
	int fd;

	if (!path[0])
		return error_set(e, ENOENT, "no-console", error_next("start", name, next),
				 "%s has no console: it does not run", name);
	fd = unix_connect(path, SOCK_STREAM);
	if (fd == -ENAMETOOLONG)
		return error_set(e, ENAMETOOLONG, "no-console", NULL, "%s: too long", path);
	if (fd < 0)
		return error_set(e, -fd, "no-console",
				 fd == -EACCES ? NULL : error_next("show instance", name, next),
				 "the console of %s at %s: %s", name, path, strerror(-fd));
	return fd;
}

static bool write_all(int fd, const char *bytes, size_t count)
{
	while (count) {
		const ssize_t n = write(fd, bytes, count);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		if (n > 0) {
			bytes += n;
			count -= (size_t)n;
		} else if (errno == EAGAIN) {
			struct pollfd wait = { .fd = fd, .events = POLLOUT };

			poll(&wait, 1, -1);
		}
	}
	return true;
}

/* What was typed, up to the escape. False: the person leaves. */
static bool typed(int console, bool terminal, bool *open)
{
	char bytes[CHUNK];
	const ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
	const char *escape = n > 0 && terminal ? memchr(bytes, ESCAPE, (size_t)n) : NULL;
	size_t count = escape ? (size_t)(escape - bytes) : (size_t)MAX(n, 0);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n <= 0) {
		/* The end of what is typed is not the end of what is read. */
		*open = false;
		shutdown(console, SHUT_WR);
		return !terminal;
	}
	return write_all(console, bytes, count) && !escape;
}

/* Somebody else has it: hypervisor-glue/console_socket.c says so in one piece, and lets go. */
static bool in_use(const char *bytes, size_t count, const char *name, struct error *e)
{
	static const char says[] = "divvy-vmm: the console is in use by ";

	if (count < strlen(says) || memcmp(bytes, says, strlen(says)) != 0)
		return false;
	error_set(e, EBUSY, "console-in-use", NULL, "the console of %s is in use by %.*s", name,
		  (int)strcspn(bytes + strlen(says), "\r\n"), bytes + strlen(says));
	return true;
}

static int pump(int console, int signals, bool terminal, const char *name, struct error *e)
{
	struct signalfd_siginfo info;
	bool open = true, first = true;
	char bytes[CHUNK + 1];

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = console, .events = POLLIN },
			{ .fd = signals, .events = POLLIN },
			{ .fd = open ? STDIN_FILENO : -1, .events = POLLIN },
			{ .fd = STDOUT_FILENO }, /* a pipe that nobody reads any more */
		};
		ssize_t n;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents) {
			/* Taken, or it would be the end of us once it is let through. */
			(void)!read(signals, &info, sizeof(info));
			return 0;
		}
		if (fds[0].revents) {
			n = read(console, bytes, CHUNK);
			if (n <= 0)
				return 1;
			bytes[n] = '\0';
			if (first && in_use(bytes, (size_t)n, name, e))
				return -EBUSY;
			first = false;
			if (!write_all(STDOUT_FILENO, bytes, (size_t)n))
				return 0;
		}
		if (fds[3].revents)
			return 0;
		if (fds[2].revents && !typed(console, terminal, &open))
			return 0;
	}
}

int cli_console_attach(int console, const char *name, struct error *e)
{
	const bool terminal = isatty(STDIN_FILENO);
	struct termios before, raw;
	sigset_t stops, mask;
	int signals, result;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGHUP);
	sigaddset(&stops, SIGQUIT);
	sigprocmask(SIG_BLOCK, &stops, &mask);
	signal(SIGPIPE, SIG_IGN);
	signals = signalfd(-1, &stops, SFD_CLOEXEC);
	if (signals < 0 || (terminal && tcgetattr(STDIN_FILENO, &before) < 0)) {
		result = error_set(e, errno, "no-console", NULL, "console: %s", strerror(errno));
		goto out;
	}
	if (terminal) {
		fprintf(stderr, "the console of %s; Ctrl-] leaves it\n", name);
		raw = before;
		cfmakeraw(&raw);
		raw.c_oflag = before.c_oflag;
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	result = pump(console, signals, terminal, name, e);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
		if (result >= 0)
			fprintf(stderr, "\n%s\n",
				result == 1 ? "the console has ended"
					    : "left the console; the instance goes on");
	}
out:
	fd_close(&signals);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	return result;
}

/* ---- through the daemon ------------------------------------------------------------------------------ */

struct bridge {
	struct api_tunnel *tunnel;
	int fd;
};

static void *bridge_run(void *opaque)
{
	struct bridge *bridge = opaque;

	api_tunnel_pump(bridge->tunnel, bridge->fd);
	/* So the console hears that it has ended. */
	fd_close(&bridge->fd);
	return NULL;
}

int cli_console_daemon(struct cli *cli, const char *name, struct error *e)
{
	struct bridge bridge = { .fd = -1 };
	char resource[API_PATH_SIZE];
	sigset_t all, before;
	pthread_t thread;
	int pair[2] = { -1, -1 }, err;

	err = api_tunnel_open(cli, api_path(resource, "/instances/", name, "/console"),
			      &bridge.tunnel, e);
	if (err)
		return err;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		err = error_set(e, errno, "no-console", NULL, "console: %s", strerror(errno));
		goto out;
	}
	bridge.fd = pair[1];
	/* Signals are for who has the terminal. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&thread, NULL, bridge_run, &bridge);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err) {
		fd_close(&bridge.fd);
		err = error_set(e, err, "no-console", NULL, "console: %s", strerror(err));
		goto out;
	}
	err = cli_console_attach(pair[0], name, e);
	fd_close(&pair[0]);
	pthread_join(thread, NULL);
out:
	fd_close(&pair[0]);
	api_tunnel_close(bridge.tunnel);
	return err;
}

int cli_console(struct cli *cli)
{
	const char *name = cli->words[0];
	struct error e = { 0 };

	if (!cli_name_ok(name))
		return cli_usage(cli, "%s is no name of an instance", name);
	return cli_console_daemon(cli, name, &e) < 0 ? cli_fail(cli, &e) : CLI_OK;
}
