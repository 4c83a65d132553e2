// SPDX-License-Identifier: Apache-2.0
/*
 * divvy vnc: a place on this machine where VNC viewers connect, each of which is led to an instance's display through the daemon: RFB passes
 * as it is. A process a viewer, so that one that stalls holds nobody up.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/cli/instances.h"

#define VIEWERS_MAX 8 /* as many as a display takes (docs/displays.md) */

struct place {
	struct unix_listener listener; /* without a name: a port */
	char text[160];		       /* for people */
};

/* ---- the place ------------------------------------------------------------------------------------ */

/* Nobody asks for a password here, so other machines may not ask either. */
static bool is_loopback(const char *where)
{
	return !strncmp(where, "127.", 4) || !strncmp(where, "[::1]:", 6);
}

static int place_open(const struct cli *cli, const char *name, unsigned head, struct place *place,
		      struct error *e)
{
	const char *where = cli_value(cli, "listen"), *own = getenv("XDG_RUNTIME_DIR");
	char path[108], next[ERROR_NEXT_SIZE];
	int err;

	place->listener = (struct unix_listener){ .fd = -1, .folder_fd = -1 };
	if (where && strchr(where, ':') && where[0] != '/') {
		if (!is_loopback(where))
			return error_set(e, EPERM, "vnc-insecure",
					 error_next("vnc --listen 127.0.0.1:5900", name, next),
					 "%s: whoever reaches it would see the display", where);
		err = tcp_listener_open(where, &place->listener.fd);
		if (err)
			return error_set(e, -err, "vnc-place", NULL, "%s: %s", where,
					 err == -EINVAL ? "no numeric ADDRESS:PORT"
							: strerror(-err));
		snprintf(place->text, sizeof(place->text), "%.*s:%u",
			 (int)MIN((size_t)(strrchr(where, ':') - where), 100), where,
			 tcp_listener_port(place->listener.fd));
		return 0;
	}
	if (!where && (!own || own[0] != '/'))
		return error_set(e, EINVAL, "vnc-place",
				 error_next("vnc --listen ./divvy.vnc", name, next),
				 "$XDG_RUNTIME_DIR is not set: where to?");
	if ((size_t)(where ? snprintf(path, sizeof(path), "%s", where)
			   : snprintf(path, sizeof(path), "%s/divvy-%s-%u.vnc", own, name, head)) >=
	    sizeof(path))
		return error_set(e, ENAMETOOLONG, "vnc-place",
				 error_next("vnc --listen ./divvy.vnc", name, next),
				 "a socket's name has 107 bytes at most");
	err = unix_listener_open(path, &place->listener, e);
	snprintf(place->text, sizeof(place->text), "%s", path);
	return err;
}

/* ---- viewers ----------------------------------------------------------------------------------------- */

static int serve(struct cli *cli, const char *resource, int viewer)
{
	struct api_tunnel *tunnel;
	struct error e = { 0 };

	if (api_tunnel_open(cli, resource, &tunnel, &e))
		return cli_fail(cli, &e);
	api_tunnel_pump(tunnel, viewer);
	api_tunnel_close(tunnel);
	return CLI_OK;
}

static void viewer_come(struct cli *cli, const struct place *place, const char *resource,
			const sigset_t *mask, unsigned *viewers)
{
	const pid_t parent = getpid();
	int viewer = listener_accept(place->listener.fd, "vnc");
	pid_t child;

	if (viewer < 0)
		return;
	child = *viewers < VIEWERS_MAX ? fork() : -1;
	if (!child) {
		/* With who started it, at the latest. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigprocmask(SIG_SETMASK, mask, NULL);
		_exit(getppid() == parent ? serve(cli, resource, viewer) : CLI_FAILED);
	}
	*viewers += child > 0;
	fd_close(&viewer);
}

static int run(struct cli *cli, const struct place *place, const char *resource, struct error *e)
{
	struct signalfd_siginfo info;
	sigset_t set, mask;
	unsigned viewers = 0;
	int signals, err = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &mask);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		err = error_set(e, errno, "vnc-place", NULL, "signals: %s", strerror(errno));
	while (!err) {
		struct pollfd p[] = { { .fd = signals, .events = POLLIN },
				      { .fd = place->listener.fd, .events = POLLIN } };

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR) {
			err = error_set(e, errno, "vnc-place", NULL, "%s", strerror(errno));
		} else if (p[0].revents) {
			if (read(signals, &info, sizeof(info)) == sizeof(info) &&
			    info.ssi_signo != SIGCHLD)
				break;
			while (waitpid(-1, NULL, WNOHANG) > 0)
				viewers--;
		} else if (p[1].revents) {
			viewer_come(cli, place, resource, &mask, &viewers);
		}
	}
	fd_close(&signals);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	return err;
}

/* That it runs, and has such a display: said before a viewer finds out. */
static int check(struct cli *cli, const char *name, uint64_t head, struct error *e)
{
	char resource[API_PATH_SIZE], next[ERROR_NEXT_SIZE];
	json_t *instance = api_get(cli, api_path(resource, "/instances/", name, ""), e);
	const char *state = json_string_value(json_object_get(instance, "state"));
	int err = instance ? 0 : -e->err;

	if (!err && (!state || strcmp(state, "running") != 0))
		err = error_set(e, EBUSY, "not-running", error_next("start", name, next),
				"%s does not run", name);
	else if (!err && head >= json_array_size(json_object_get(instance, "viewers")))
		err = error_set(e, ENOENT, "no-such-head", error_next("show instance", name, next),
				"%s has no display %llu", name, (unsigned long long)head);
	json_decref(instance);
	return err;
}

int cli_vnc(struct cli *cli)
{
	const char *name = cli->words[0], *number = cli_value(cli, "head");
	char resource[API_PATH_SIZE], rest[32];
	struct place place;
	struct error e = { 0 };
	uint64_t head = 0;
	int err;

	if (!cli_name_ok(name))
		return cli_usage(cli, "%s is no name of an instance", name);
	if (number && cli_number(number, 0, 63, &head))
		return cli_usage(cli, "--head %s is no number of a display", number);
	err = check(cli, name, head, &e);
	if (err)
		return cli_fail(cli, &e);
	err = place_open(cli, name, (unsigned)head, &place, &e);
	if (!err) {
		snprintf(rest, sizeof(rest), "/displays/%u", (unsigned)head);
		api_path(resource, "/instances/", name, rest);
		signal(SIGPIPE, SIG_IGN);
		fprintf(cli->out, "display %u of %s is at %s; Ctrl-C ends it\n", (unsigned)head,
			name, place.text);
		fflush(cli->out);
		err = run(cli, &place, resource, &e);
	}
	unix_listener_close(&place.listener);
	return err ? cli_fail(cli, &e) : CLI_OK;
}
