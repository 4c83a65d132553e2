// SPDX-License-Identifier: Apache-2.0
/*
 * A child of the warden becomes the render server: a standard environment, limits, paths, system calls, in the order that works, and then the program.
 * There is no moment at which something of virglrenderer's or a driver's runs and is not confined.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mdev/gpu/warden_private.h"

static void fail(int report, const char *step, const char *text) __attribute__((noreturn));
static void fail(int report, const char *step, const char *text)
{
	struct warden_report words = { .err = -errno };

	snprintf(words.text, sizeof(words.text), "%s%s%s", step, text ? ": " : "",
		 text ? text : "");
	(void)!send(report, &words, sizeof(words), MSG_NOSIGNAL);
	_exit(127);
}

static int limit(int which, rlim_t most)
{
	struct rlimit limit;

	if (getrlimit((__rlimit_resource_t)which, &limit) < 0)
		return -errno;
	limit.rlim_max = MIN(limit.rlim_max, most);
	limit.rlim_cur = limit.rlim_max;
	return setrlimit((__rlimit_resource_t)which, &limit) < 0 ? -errno : 0;
}

/*
 * Descriptors: one a piece of memory that a context shares, and a device may have 4096. Processes and threads count for a user,
 * so only of one that is the render side's own. Address space has no limit: drivers reserve much more than they use.
 */
static int limits_set(const struct warden_self *self)
{
	if (limit(RLIMIT_CORE, 0) || limit(RLIMIT_NOFILE, 16384) || limit(RLIMIT_RTPRIO, 0) ||
	    limit(RLIMIT_MSGQUEUE, 0))
		return -1;
	return self->own_user ? limit(RLIMIT_NPROC, 8192) : 0;
}

void warden_exec(const struct warden_self *self, int socket, int messages, int report)
{
	static const char *const arguments[] = { "virgl_render_server", "--socket-fd", "3", NULL };
	struct error e = { 0 };
	sigset_t none;
	int null;

	/* Who this is, for the other side: its credentials come along (SO_PASSCRED). */
	if (send(report, "", 1, MSG_NOSIGNAL) != 1)
		_exit(126);
	/* Above the numbers they shall have, so that none is overwritten by another. */
	socket = fcntl(socket, F_DUPFD_CLOEXEC, 10);
	messages = fcntl(messages, F_DUPFD_CLOEXEC, 10);
	report = fcntl(report, F_DUPFD_CLOEXEC, 10);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (report < 0)
		_exit(126);
	if (socket < 0 || messages < 0 || null < 0 || dup2(null, 0) < 0 || dup2(messages, 1) < 0 ||
	    dup2(messages, 2) < 0 || dup2(socket, 3) < 0)
		fail(report, "its descriptors", NULL);
	/* Nothing else of ours, whatever its flags (the report closes by itself). */
	if (close_range(4, UINT32_MAX, CLOSE_RANGE_CLOEXEC) < 0 || setpgid(0, 0) < 0)
		fail(report, "its descriptors", NULL);
	umask(077);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || limits_set(self) < 0)
		fail(report, "its limits", NULL);
	if (self->confined) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			fail(report, "PR_SET_NO_NEW_PRIVS", NULL);
		if (sandbox_landlock(self->view.paths, self->view.count, &e)) {
			errno = e.err;
			fail(report, e.text, NULL);
		}
		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &self->filter))
			fail(report, "its filter of system calls", NULL);
	}
	execve(self->server, (char *const *)(uintptr_t)arguments, self->environment);
	fail(report, self->server, NULL);
}
