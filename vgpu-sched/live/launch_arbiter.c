// SPDX-License-Identifier: Apache-2.0
/* An arbiter for one program: a child of the launcher's with a socket nobody else can reach (launch_private.h). */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vgpu-sched/live/client.h"
#include "vgpu-sched/live/launch_private.h"

#define START_NS (10 * NSEC_PER_SEC)
#define LOOK_NS	 2000000

/* Its folder is its own to remove: the launcher may be killed. */
static void serve(const struct launch_arbiter *arbiter, pid_t parent)
{
	const struct arbiter_options options = { .socket = arbiter->socket,
						 .linger_ns = ARBITER_LINGER_NS,
						 .hog_ns = 10 * NSEC_PER_SEC };
	struct error e = { 0 };
	int err;

	/* Not in the terminal's foreground: what is typed there ends the program first, and then this. */
	setpgid(0, 0);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(1);
	err = arbiter_serve(&options, &e);
	if (err)
		error_print(&e, "divvy");
	rmdir(arbiter->folder);
	_exit(err ? 1 : 0);
}

int launch_arbiter_start(struct launch_arbiter *arbiter, struct error *e)
{
	const struct timespec look = { .tv_nsec = LOOK_NS };
	const uint64_t until = monotonic_ns() + START_NS;
	const char *place = getenv("XDG_RUNTIME_DIR");
	const pid_t parent = getpid();
	struct error ignored;

	*arbiter = (struct launch_arbiter){ 0 };
	if (!place || place[0] != '/' || strlen(place) > 32 || access(place, W_OK))
		place = "/tmp";
	snprintf(arbiter->folder, sizeof(arbiter->folder), "%s/divvy-XXXXXX", place);
	if (!mkdtemp(arbiter->folder))
		return error_set(e, errno, "no-arbiter", NULL, "%s: %s", arbiter->folder,
				 strerror(errno));
	snprintf(arbiter->socket, sizeof(arbiter->socket), "%s/arbiter", arbiter->folder);
	arbiter->pid = fork();
	if (!arbiter->pid)
		serve(arbiter, parent);
	while (arbiter->pid > 0 && monotonic_ns() < until) {
		int fd = live_connect(arbiter->socket, &ignored);

		if (fd >= 0) {
			fd_close(&fd);
			return 0;
		}
		if (waitpid(arbiter->pid, NULL, WNOHANG) == arbiter->pid) {
			arbiter->pid = 0;
			break;
		}
		nanosleep(&look, NULL);
	}
	launch_arbiter_end(arbiter);
	return error_set(e, EIO, "no-arbiter", NULL, "%s: an arbiter of its own does not start",
			 arbiter->socket);
}

void launch_arbiter_end(struct launch_arbiter *arbiter)
{
	if (arbiter->pid > 0) {
		kill(arbiter->pid, SIGTERM);
		waitpid(arbiter->pid, NULL, 0);
	}
	arbiter->pid = 0;
	if (arbiter->folder[0]) {
		unlink(arbiter->socket);
		rmdir(arbiter->folder);
	}
}
