// SPDX-License-Identifier: Apache-2.0
/*
 * Closing a process in, in the order that works: what libraries would open later is opened now, limits
 * while they may be raised, the jail while it may be entered, then capabilities go, then paths, and
 * at last system calls, a thread at a time.
 *
 * With a sanitizer built in, Landlock and filters are left out: it opens /proc, starts threads and
 * traces itself when it has found something.
 */
#include <cap-ng.h>
#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "base/sandbox.h"

#define LOCKED_SLACK (64 * MIB) /* rings and the like beside guest memory */

/*
 * Whether a thread runs a program, not the kernel's code on our behalf: vhost's and io_uring's show
 * among ours; one that was joined may still be on its way out (include/linux/sched.h: PF_IO_WORKER,
 * PF_USER_WORKER, PF_EXITING; proc_pid_stat(5), field 9).
 */
static bool thread_is_ours(int task, const char *id)
{
	unsigned flags = 0;
	char path[300], text[512];
	const char *after_name;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/stat", id);
	length = file_read(task, path, text, sizeof(text));
	if (length < 0)
		return length != -ESRCH && length != -ENOENT;
	after_name = strrchr(text, ')');
	if (!after_name || sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
		return true;
	return !(flags & (0x10 | 0x4000 | 0x4));
}

/* A thread from before would keep what it has. */
static int threads_check(struct error *e)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;
	unsigned count = 0;

	/* Without /proc nothing can be said, and nothing has gone wrong. */
	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.' && thread_is_ours(dirfd(dir), entry->d_name);
	if (dir)
		closedir(dir);
	if (count > 1)
		return error_set(e, EBUSY, "sandbox-threads", "--sandbox off",
				 "sandbox: %u threads run before it is closed: they would stay "
				 "unconfined",
				 count);
	return 0;
}

/* What libraries open when they are first used. */
void sandbox_libraries_prepare(void)
{
	sd_id128_t boot;
	void *frame;

	(void)sd_id128_get_boot(&boot); /* timers of sd-event: /proc/sys/kernel/random/boot_id */
	tzset();			/* gmtime_r(3), of the clock: /etc/localtime */
	backtrace(&frame, 1);		/* pthread_cancel(3), of the serial port: libgcc_s.so.1 */
	/* A second arena, trimmed: /proc/sys/vm/overcommit_memory. */
	mallopt(M_ARENA_MAX, 1);
}

static int limits_set(uint64_t locked, struct error *e)
{
	/* A dump would hold the guest's memory. */
	const struct rlimit none = { 0 };
	struct rlimit limit;

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return error_set(e, errno, "sandbox", NULL, "sandbox: RLIMIT_CORE: %s",
				 strerror(errno));
	/* CAP_IPC_LOCK goes, after which the limit counts. Who may not raise it lives with what it is. */
	locked += LOCKED_SLACK;
	if (!getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur < locked) {
		limit.rlim_cur = locked;
		limit.rlim_max = MAX(limit.rlim_max, locked);
		if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0)
			log_debug("sandbox: RLIMIT_MEMLOCK stays: %s", strerror(errno));
	}
	return 0;
}

static int capabilities_clear(capng_select_t sets, struct error *e)
{
	int ret;

	capng_clear(sets);
	ret = capng_apply(sets);
	return ret < 0 ? error_set(e, EPERM, "sandbox", NULL,
				   "sandbox: capabilities cannot be dropped (libcap-ng: %d)", ret)
		       : 0;
}

/*
 * What could be had by a later exec: needs CAP_SETPCAP, which the jail takes. Who has not got it has
 * nothing that the set could bound.
 */
int sandbox_capabilities_bound(struct error *e)
{
	if (capng_get_caps_process() < 0)
		return error_set(e, EINVAL, "sandbox", NULL,
				 "sandbox: capabilities cannot be read");
	if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
		return 0;
	return capabilities_clear(CAPNG_SELECT_BOUNDS, e);
}

/* Effective, permitted, inheritable; and with them the ambient ones. */
int sandbox_capabilities_clear(struct error *e)
{
	return capabilities_clear(CAPNG_SELECT_CAPS, e);
}

void sandbox_thread(const char *kind)
{
	int err = sandbox_filter_load(kind);

	if (!err)
		return;
	/* Worked before for others: no memory, or a kind that has no entries. Never unconfined. */
	log_error("sandbox: thread %s gets no filter: %s", kind, strerror(-err));
	_exit(EXIT_FAILURE);
}

int sandbox_close(const struct sandbox_options *options, struct error *e)
{
	int err = threads_check(e);

	if (err)
		return err;
	sandbox_libraries_prepare();
	err = limits_set(options->locked, e);
	if (!err && !SANDBOX_SANITIZED)
		err = sandbox_filters_make(options->table, options->first_has, e);
	if (!err)
		err = sandbox_capabilities_bound(e);
	if (!err && options->jail.wanted)
		err = sandbox_jail(&options->jail, options->paths, options->path_count, e);
	if (!err)
		err = sandbox_capabilities_clear(e);
	if (!err && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		err = error_set(e, errno, "sandbox", NULL, "sandbox: PR_SET_NO_NEW_PRIVS: %s",
				strerror(errno));
	if (err)
		return err;
	if (SANDBOX_SANITIZED) {
		log_info("sandbox: a sanitizer is built in: paths and system calls stay open");
		return 0;
	}
	/* Neither a dump to a pipe nor another process of the same user sees into this one. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set(e, errno, "sandbox", NULL, "sandbox: PR_SET_DUMPABLE: %s",
				 strerror(errno));
	err = sandbox_landlock(options->paths, options->path_count, e);
	if (!err)
		thread_set_hook(sandbox_thread);
	return err;
}

int sandbox_close_main(struct error *e)
{
	int err = SANDBOX_SANITIZED ? 0 : sandbox_filter_load("main");

	return err ? error_set(e, -err, "no-seccomp", NULL,
			       "sandbox: the first thread gets no filter: %s", strerror(-err))
		   : 0;
}
