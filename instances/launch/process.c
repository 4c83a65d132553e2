// SPDX-License-Identifier: Apache-2.0
/*
 * One process: spawned so that it is written down before it runs, and found again by its pid and start time, which together are never
 * another's within one boot.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/launch/launch_private.h"

#define ENVIRONMENT_READ 8192
#define FILES_MAX	 4096
#define LOG_MAX		 ((off_t)MIB)

/* What of our own surroundings a process sees, where it is set: which Vulkan driver there is to be used. */
static const char *const handed_on[] = { "VK_DRIVER_FILES", "VK_ICD_FILENAMES" };

int launch_boot_id(char id[37])
{
	char text[64];
	ssize_t size = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text));

	if (size >= 0)
		snprintf(id, 37, "%.36s", text);
	return size < 0 ? (int)size : 0;
}

/* ---- finding ----------------------------------------------------------------------------------- */

/* Field 22 of /proc/PID/stat (proc_pid_stat(5)); -ESRCH also for one that has ended and waits to be reaped. */
static int start_time(int32_t pid, uint64_t *ticks)
{
	char path[64], stat[1024];
	unsigned long long start;
	const char *end;
	ssize_t size;
	char state;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	size = file_read(AT_FDCWD, path, stat, sizeof(stat));
	/* The name before may hold anything, ')' too. */
	end = size > 0 ? strrchr(stat, ')') : NULL;
	if (!end ||
	    sscanf(end + 1,
		   " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   &state, &start) != 2 ||
	    state == 'Z' || state == 'X')
		return -ESRCH;
	*ticks = start;
	return 0;
}

int launch_find(struct launch_process *process)
{
	uint64_t ticks;

	process->pidfd = -1;
	if (process->pid <= 0 || start_time(process->pid, &ticks) || ticks != process->start_time)
		return -ESRCH;
	process->pidfd = pidfd_open(process->pid, 0);
	/* Once it is held, it is still the same one. */
	if (process->pidfd < 0 || start_time(process->pid, &ticks) ||
	    ticks != process->start_time) {
		fd_close(&process->pidfd);
		return -ESRCH;
	}
	return 0;
}

int launch_kill(const struct launch_process *process, int signal)
{
	if (process->pidfd < 0)
		return -ESRCH;
	return pidfd_send_signal(process->pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

/* ---- spawning ---------------------------------------------------------------------------------- */

static void environment_make(const struct surroundings *surroundings, char **list, unsigned room)
{
	unsigned count = 0;

	/* First, so that who looks for them need not read all. */
	if (asprintf(&list[count++], "DIVVY_INSTANCE=%s", surroundings->instance) < 0 ||
	    asprintf(&list[count++], "DIVVY_NODE=%s", surroundings->node) < 0)
		_exit(126);
	list[count++] = strdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	list[count++] = strdup("HOME=/dev/null");
	list[count++] = strdup("LANG=C.UTF-8");
	for (unsigned i = 0; i < ARRAY_SIZE(handed_on) && count < room - 1; i++) {
		const char *value = getenv(handed_on[i]);

		if (value && asprintf(&list[count++], "%s=%s", handed_on[i], value) < 0)
			_exit(126);
	}
	list[count] = NULL;
}

static int join_group(const char *group)
{
	char path[4200];

	if (!group[0])
		return 0;
	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	return file_write(AT_FDCWD, path, "0");
}

static void limits_set(void)
{
	const struct rlimit none = { 0, 0 };
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit files;

	setrlimit(RLIMIT_CORE, &none);
	/* Guest memory is pinned for an assigned device; only root may raise it, others have what they have. */
	setrlimit(RLIMIT_MEMLOCK, &all);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_max = MIN(files.rlim_max, (rlim_t)FILES_MAX);
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* The child. It does not return. */
static void become(const struct command *command, const struct surroundings *surroundings, int go,
		   int failure)
{
	char *list[8 + ARRAY_SIZE(handed_on)];
	sigset_t none;
	char yes;
	int err = 0, in, out, last;
	struct stat st;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	/* What the caller listens on and speaks with is not held while we wait, nor later. */
	last = MAX(go, failure);
	for (int fd = 3; fd < last; fd++)
		if (fd != go && fd != failure)
			close(fd);
	close_range((unsigned)last + 1, ~0U, 0);
	/* Not written down, it does not run: neither refused, nor when who was to write has died. */
	if (read(go, &yes, 1) != 1)
		_exit(0);
	in = open("/dev/null", O_RDWR);
	out = open(surroundings->output, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
	/* It only grows while it is written to by one who says little. */
	if (out >= 0 && !fstat(out, &st) && st.st_size > LOG_MAX && ftruncate(out, 0) < 0)
		err = errno;
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		err = errno;
	if (!err)
		err = -join_group(surroundings->group);
	environment_make(surroundings, list, ARRAY_SIZE(list));
	limits_set();
	umask(077);
	if (!err && chdir("/") < 0)
		err = errno;
	if (!err) {
		/* The pipe for failures closes itself, and so does the other. */
		close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
		execve(command->words[0], command->words, list);
		err = errno;
	}
	if (write(failure, &err, sizeof(err)) < 0)
		_exit(126);
	_exit(127);
}

static int told(int failure)
{
	int why = 0;
	ssize_t size;

	do
		size = read(failure, &why, sizeof(why));
	while (size < 0 && errno == EINTR);
	return size == sizeof(why) ? why : 0;
}

int process_spawn(const struct command *command, const struct surroundings *surroundings,
		  const char *role, launch_commit *commit, void *opaque,
		  struct launch_process *process, struct error *e)
{
	int go[2] = { -1, -1 }, failure[2] = { -1, -1 }, err;
	char next[256];
	pid_t pid = -1;

	*process = (struct launch_process){ .pidfd = -1 };
	if (command->failed)
		return error_set(e, E2BIG, "program-not-started", NULL, "%s: too many words",
				 command->words[0] ? command->words[0] : role);
	if (pipe2(go, O_CLOEXEC) < 0 || pipe2(failure, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		err = errno;
		goto fail;
	}
	if (!pid) {
		close(go[1]);
		become(command, surroundings, go[0], failure[1]);
	}
	fd_close(&go[0]);
	fd_close(&failure[1]);
	process->pid = pid;
	process->pidfd = pidfd_open(pid, 0);
	if (process->pidfd < 0 || start_time(pid, &process->start_time)) {
		err = errno ? errno : ESRCH;
		goto fail;
	}
	err = commit(opaque, role, process, e);
	if (err) {
		fd_close(&go[1]);
		fd_close(&failure[0]);
		fd_close(&process->pidfd);
		waitid(P_PID, (id_t)pid, NULL, WEXITED);
		return err;
	}
	err = write(go[1], "y", 1) == 1 ? 0 : errno;
	fd_close(&go[1]);
	if (!err)
		err = told(failure[0]);
	if (!err) {
		fd_close(&failure[0]);
		return 0;
	}
fail:
	fd_close(&go[0]);
	fd_close(&go[1]);
	fd_close(&failure[0]);
	fd_close(&failure[1]);
	fd_close(&process->pidfd);
	if (pid > 0)
		waitid(P_PID, (id_t)pid, NULL, WEXITED);
	snprintf(next, sizeof(next), "ls -l %.200s", command->words[0]);
	return error_set(e, err, "program-not-started",
			 err == ENOENT || err == EACCES ? next : NULL, "%s: %s", command->words[0],
			 strerror(err));
}

/* ---- memory ------------------------------------------------------------------------------------ */

uint64_t launch_memory_bytes(const struct launch_process *process)
{
	static const char *const lines[] = { "\nRssShmem:", "\nHugetlbPages:" };
	char path[64], text[8192], *end;
	uint64_t kib = 0;
	unsigned long child;

	/* The keeper has one child. */
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", process->pid, process->pid);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	child = strtoul(text, &end, 10);
	snprintf(path, sizeof(path), "/proc/%lu/status", child);
	if (end == text || file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *line = strstr(text, lines[i]);

		kib += line ? strtoull(line + strlen(lines[i]), NULL, 10) : 0;
	}
	return kib * KIB;
}

/* ---- sweeping ---------------------------------------------------------------------------------- */

/* The value of "NAME=" among @size bytes of NUL-terminated variables; NULL. */
static const char *variable(const char *environment, size_t size, const char *name)
{
	const size_t length = strlen(name);

	for (const char *one = environment; one < environment + size; one += strlen(one) + 1)
		if (!strncmp(one, name, length))
			return one + length;
	return NULL;
}

/* SIGKILL for what runs with our marks and @uuid, or, without one, for an instance that is not known. */
static unsigned sweep(const struct launch_places *places, const char *uuid,
		      bool (*known)(void *opaque, const char *uuid), void *opaque)
{
	DIR *folder = opendir("/proc");
	unsigned count = 0;
	struct dirent *one;

	while (folder && (one = readdir(folder))) {
		struct launch_process process = { .pid = atoi(one->d_name), .pidfd = -1 };
		char environment[ENVIRONMENT_READ], path[64];
		const char *node, *instance;
		struct stat st = { 0 };
		ssize_t size;
		int fd;

		if (process.pid <= 0 || process.pid == getpid() ||
		    start_time(process.pid, &process.start_time))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/environ", process.pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		/*
		 * Anybody may give his own process our marks, and nobody is to be kept from ending by such; nor do we wait for the lock on
		 * another's memory, which reading takes and he can hold. What is jailed is nobody's to look into, and so shown as root's
		 * (proc_pid(5)).
		 */
		size = fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid()
			       ? -1
			       : read(fd, environment, sizeof(environment) - 1);
		fd_close(&fd);
		if (size <= 0)
			continue;
		environment[size] = '\0';
		node = variable(environment, (size_t)size, "DIVVY_NODE=");
		instance = variable(environment, (size_t)size, "DIVVY_INSTANCE=");
		if (!node || !instance || strcmp(node, places->state) != 0 ||
		    (uuid && strcmp(instance, uuid) != 0) || (known && known(opaque, instance)))
			continue;
		if (!launch_find(&process)) {
			count++;
			launch_kill(&process, SIGKILL);
			fd_close(&process.pidfd);
			/* Ours, it is not to stay behind as a zombie. */
			waitpid(process.pid, NULL, WNOHANG);
		}
	}
	if (folder)
		closedir(folder);
	return count;
}

unsigned launch_sweep(const struct launch_places *places, const char *name, const char *uuid)
{
	char path[4096];
	unsigned count = 0;

	group_path(places, name, uuid, path);
	if (path[0])
		count = group_kill(path);
	return count + sweep(places, uuid, NULL, NULL);
}

unsigned launch_orphans(const struct launch_places *places,
			bool (*known)(void *opaque, const char *uuid), void *opaque)
{
	DIR *folder = places->cgroup ? opendir(places->cgroup) : NULL;
	unsigned count = 0;
	struct dirent *one;

	while (folder && (one = readdir(folder))) {
		const char *at = strrchr(one->d_name, '@');
		char path[4096];

		if (!at || known(opaque, at + 1))
			continue;
		snprintf(path, sizeof(path), "%.3000s/%s", places->cgroup, one->d_name);
		count += group_kill(path);
	}
	if (folder)
		closedir(folder);
	return count + sweep(places, NULL, known, opaque);
}
