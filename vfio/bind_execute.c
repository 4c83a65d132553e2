// SPDX-License-Identifier: Apache-2.0
/*
 * Writing a plan into sysfs in a child process with a time limit. A driver that waits for its last
 * user never returns from unbind; the child takes that risk, so that whoever asked gets an answer.
 *
 * The child writes where it is into a page shared with the parent before each step, and holds no
 * file of the parent's but the lock of the group: when it is stuck in the kernel for good, it takes
 * nothing else with it. It ends with its parent, at the next step; who has the lock after it sees
 * how far it came.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vfio/bind.h"

/* How long a killed child has to go away before it counts as stuck in the kernel. */
#define REAP_MS 1000

struct progress {
	_Atomic unsigned step; /* being written, or failed, or all done */
	_Atomic int err;       /* -errno of that step */
};

static int write_step(const char *root, const struct bind_step *step)
{
	char path[VFIO_PATH_MAX];

	return file_write(-1, vfio_sysfs_path(path, root, "%s", step->path), step->text);
}

/*
 * Waits until @pid ends, at most @timeout_ms. Returns its wait status or -ETIMEDOUT; without a
 * pidfd (which cannot fail for a child of ours, but for want of files) it waits by looking.
 */
static int wait_for(pid_t pid, unsigned timeout_ms)
{
	uint64_t end = monotonic_ns() + timeout_ms * UINT64_C(1000000);
	int fd = pidfd_open(pid, 0);
	int status = 0, result = -ETIMEDOUT;

	for (;;) {
		uint64_t now = monotonic_ns();
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid) {
			result = status;
			break;
		}
		if (got < 0 && errno != EINTR) {
			result = -errno;
			break;
		}
		if (now >= end)
			break;
		poll(&poll_fd, fd >= 0 ? 1 : 0,
		     fd >= 0 ? (int)MIN((end - now) / 1000000 + 1, UINT64_C(60000)) : 10);
	}
	fd_close(&fd);
	return result;
}

/* Kill, and give it a moment. Returns whether it is gone. */
static bool kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	return wait_for(pid, REAP_MS) != -ETIMEDOUT;
}

/* Only calls that are safe after fork() of a program with threads. */
static _Noreturn void child_main(const struct bind_io *io, const char *root,
				 const struct bind_plan *plan, int lock_fd, pid_t parent,
				 struct progress *progress)
{
	int null = open("/dev/null", O_RDWR);
	int err = 0;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	/* Nothing of 3 and above is used but the lock. */
	if (lock_fd >= 0 && lock_fd != 3)
		dup2(lock_fd, 3);
	close_range(lock_fd >= 0 ? 4 : 3, ~0u, 0);
	for (unsigned i = 0; i < plan->count && !err; i++) {
		atomic_store(&progress->step, i);
		err = io->write(root, &plan->steps[i]);
		atomic_store(&progress->err, err);
	}
	if (!err)
		atomic_store(&progress->step, plan->count);
	_exit(0);
}

static int step_failed(const struct bind_step *step, int err, struct error *e)
{
	char bdf[PCI_ADDRESS_LEN], text[sizeof(step->text)];

	snprintf(text, sizeof(text), "%s", step->text);
	text[strcspn(text, "\n")] = '\0';
	pci_address_format(&step->address, bdf);
	if (err == -EACCES || err == -EPERM || err == -EROFS)
		return error_set(e, -err, "permission-denied", "run as root",
				 "%s: cannot write \"%s\" to %s: %s", bdf, text, step->path,
				 strerror(-err));
	return error_set(e, -err, "bind-failed", "dmesg | tail", "%s: writing \"%s\" to %s: %s",
			 bdf, text, step->path, strerror(-err));
}

int vfio_bind_execute(const struct bind_io *io, const char *root, const struct bind_plan *plan,
		      unsigned timeout_ms, int lock_fd, struct error *e)
{
	const pid_t parent = getpid();
	struct progress *progress;
	const struct bind_step *step;
	char bdf[PCI_ADDRESS_LEN];
	unsigned at;
	int status, err;
	pid_t pid;

	if (!plan->count)
		return 0;
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (progress == MAP_FAILED)
		return error_set(e, errno, "out-of-memory", NULL, "no memory to bind with: %s",
				 strerror(errno));
	pid = fork();
	if (pid < 0) {
		err = error_set(e, errno, "bind-failed", NULL, "cannot start a process: %s",
				strerror(errno));
		goto unmap;
	}
	if (pid == 0)
		child_main(io, root, plan, lock_fd, parent, progress);
	status = wait_for(pid, timeout_ms);
	if (status == -ETIMEDOUT) {
		bool gone;

		at = MIN(atomic_load(&progress->step), plan->count - 1);
		gone = kill_child(pid);
		step = &plan->steps[at];
		pci_address_format(&step->address, bdf);
		err = error_set(e, ETIMEDOUT, "bind-timeout", "dmesg | tail",
				"%s: the kernel did not return within %u ms from the write to "
				"%s%s",
				bdf, timeout_ms, step->path,
				gone ? ""
				     : "; the process that wrote is stuck in the kernel and stays "
				       "behind");
		goto unmap;
	}
	at = atomic_load(&progress->step);
	err = atomic_load(&progress->err);
	if (at < plan->count)
		err = step_failed(&plan->steps[at], err ? err : -EINTR, e);
	else
		err = 0;
unmap:
	munmap(progress, sizeof(*progress));
	return err;
}

/* modprobe(8) for the machine's own kernel; a made-up root has no kernel to load into. */
static int load_vfio_pci(const char *root, unsigned timeout_ms)
{
	static char name[] = "modprobe", module[] = "vfio-pci";
	static char environment[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	static const char *const paths[] = { "/usr/sbin/modprobe", "/sbin/modprobe" };
	char *argv[] = { name, module, NULL }, *envp[] = { environment, NULL };
	int err = ENOENT, status;
	pid_t pid;

	if (root[0])
		return -ENOENT;
	for (unsigned i = 0; i < ARRAY_SIZE(paths) && err == ENOENT; i++)
		err = posix_spawn(&pid, paths[i], NULL, NULL, argv, envp);
	if (err)
		return -err;
	status = wait_for(pid, timeout_ms);
	if (status == -ETIMEDOUT)
		kill_child(pid);
	if (status < 0)
		return status;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENODEV;
}

const struct bind_io vfio_bind_io = { .write = write_step, .load_driver = load_vfio_pci };
