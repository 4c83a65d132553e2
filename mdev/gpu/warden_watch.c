// SPDX-License-Identifier: Apache-2.0
/*
 * Registered or dead: what uses the GPU is registered with the arbiter as this vGPU, or it is ended.
 *
 * "Uses" is what the kernel says of a process: a device open or mapped that is none of the C library's; or, for a GPU that is the CPU, a driver that has compiled
 * something or has memory. Who has neither needs no turn. Who has is asked of by the arbiter again and again: one that registered and closed its connection has lost
 * the GPU too. An arbiter that is gone, or does not answer, knows nobody.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mdev/gpu/warden_private.h"
#include "vgpu-sched/vgpu-sched.h"

#define MAJOR_MEMORY 1 /* null, zero, urandom: Documentation/admin-guide/devices.txt */

/* ---- what a process uses --------------------------------------------------------------------- */

/* What cannot be looked at, and has not ended, is taken for the worst. */
static bool is_hidden(void)
{
	return errno != ENOENT && errno != ESRCH;
}

static bool has_device_open(int process)
{
	int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool found = false;
	struct stat st;

	if (!dir) {
		found = is_hidden();
		fd_close(&fd);
		return found;
	}
	while (!found && (entry = readdir(dir)))
		found = entry->d_name[0] != '.' && !fstatat(fd, entry->d_name, &st, 0) &&
			S_ISCHR(st.st_mode) && major(st.st_rdev) != MAJOR_MEMORY;
	closedir(dir);
	return found;
}

/*
 * The render server loads the drivers before it forks, so that a library which is mapped says little. One that works on the CPU has code that it compiled,
 * which is no file's, and memory that is not virglrenderer's; one for a device has that.
 */
struct mapped {
	bool device, driver, code, memory;
};

static bool begins_with(const char *text, const char *begin)
{
	return !strncmp(text, begin, strlen(begin));
}

/* A line of /proc/PID/maps (proc_pid_maps(5)). */
static void line_read(const struct warden_self *self, const char *line, struct mapped *mapped)
{
	const char *path = strchr(line, '/'), *rights = strchr(line, ' '), *name;

	if (!path) {
		/* "[vdso]" and the like are the kernel's. */
		mapped->code |=
			rights && rights[1] == 'r' && rights[3] == 'x' && !strchr(line, '[');
		return;
	}
	if (begins_with(path, "/memfd:")) {
		mapped->memory |= !begins_with(path, "/memfd:proxy-ctx") &&
				  !begins_with(path, "/memfd:vkr-shmem");
		return;
	}
	if (begins_with(path, "/dev/")) {
		mapped->device |=
			!begins_with(path, "/dev/shm/") && !begins_with(path, "/dev/zero");
		return;
	}
	name = strrchr(path, '/') + 1;
	for (unsigned i = 0; i < self->view.driver_count; i++) {
		const size_t length = strlen(self->view.drivers[i]);

		/* Whatever version follows. */
		mapped->driver |= !strncmp(name, self->view.drivers[i], length) &&
				  (!name[length] || strchr("\n. ", name[length]));
	}
}

static bool has_gpu_mapped(const struct warden_self *self, int process)
{
	int fd = openat(process, "maps", O_RDONLY | O_CLOEXEC);
	FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
	struct mapped mapped = { 0 };
	char line[4352];

	if (!maps) {
		const bool hidden = is_hidden();

		fd_close(&fd);
		return hidden;
	}
	while (fgets(line, sizeof(line), maps))
		line_read(self, line, &mapped);
	fclose(maps);
	return mapped.device || (mapped.driver && (mapped.code || mapped.memory));
}

/* Its process group and its start, from proc_pid_stat(5), fields 5 and 22; 0 or -errno. */
static int process_facts(int process, pid_t *group, uint64_t *start)
{
	unsigned long long began;
	char text[512], state;
	const char *after_name;
	ssize_t length = file_read(process, "stat", text, sizeof(text));

	if (length < 0)
		return (int)length;
	after_name = strrchr(text, ')');
	if (!after_name ||
	    sscanf(after_name,
		   ") %c %*d %d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   &state, group, &began) != 3 ||
	    state == 'Z')
		return -ESRCH;
	*start = began;
	return 0;
}

/* ---- suspects -------------------------------------------------------------------------------- */

static struct warden_suspect *suspect_find(struct warden_self *self, pid_t pid)
{
	for (unsigned i = 0; i < WARDEN_SUSPECTS; i++)
		if (self->suspects[i].pid == pid)
			return &self->suspects[i];
	return NULL;
}

static bool is_registered(struct warden_self *self, pid_t pid, bool *answers)
{
	int pidfd, known;

	/* One that does not answer is asked once a look, since this process has others to listen to. */
	if (!*answers || self->watch_fd < 0)
		return false;
	pidfd = pidfd_open(pid, 0);
	/* It has ended. */
	if (pidfd < 0)
		return true;
	known = vgpu_watch_ask(self->watch_fd, pidfd, ++self->serial);
	close(pidfd);
	if (known == -EAGAIN) {
		*answers = false;
	} else if (known < 0) {
		log_error(
			"%s: the arbiter, or the vGPU there, is gone (%s): who uses the GPU now is ended after "
			"%u ms",
			self->name, strerror(-known), self->register_ms);
		fd_close(&self->watch_fd);
	}
	return known > 0;
}

static void judge(struct warden_self *self, pid_t pid, uint64_t start, bool harmless)
{
	struct warden_suspect *suspect = suspect_find(self, pid);
	const uint64_t now = monotonic_ns();

	if (harmless) {
		if (suspect)
			suspect->pid = 0;
		return;
	}
	if (!suspect || suspect->start != start) {
		if (!suspect)
			suspect = suspect_find(self, 0);
		/* More processes than a vGPU has contexts, by far, and all of them suspect. */
		if (!suspect) {
			log_limited(LOG_LEVEL_WARN, "%s: too many render processes: all are ended",
				    self->name);
			kill(-self->pid, SIGKILL);
			return;
		}
		*suspect = (struct warden_suspect){ .pid = pid, .start = start, .since_ns = now };
	}
	suspect->seen = self->looks;
	if (now - suspect->since_ns < self->register_ms * UINT64_C(1000000))
		return;
	log_limited(
		LOG_LEVEL_WARN,
		"%s: render process %d uses the GPU and has not been registered with the arbiter for %u ms: "
		"it is ended",
		self->name, pid, self->register_ms);
	kill(pid, SIGKILL);
	suspect->pid = 0;
}

static void look_at(struct warden_self *self, int process, pid_t pid, bool *answers)
{
	uint64_t start;
	pid_t group;

	if (process_facts(process, &group, &start) || group != self->pid)
		return;
	judge(self, pid, start,
	      (!has_device_open(process) && !has_gpu_mapped(self, process)) ||
		      is_registered(self, pid, answers));
}

void warden_watch(struct warden_self *self)
{
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool answers = true;

	self->looks++;
	if (!dir) {
		log_limited(LOG_LEVEL_ERROR, "%s: /proc cannot be read: render processes are ended",
			    self->name);
		kill(-self->pid, SIGKILL);
		fd_close(&fd);
		return;
	}
	while ((entry = readdir(dir))) {
		const pid_t pid = atoi(entry->d_name);
		int process;

		if (pid <= 0)
			continue;
		process = openat(fd, entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (process < 0)
			continue;
		look_at(self, process, pid, &answers);
		close(process);
	}
	closedir(dir);
	/* Those that have ended by themselves. */
	for (unsigned n = 0; n < WARDEN_SUSPECTS; n++)
		if (self->suspects[n].pid && self->suspects[n].seen != self->looks)
			self->suspects[n].pid = 0;
}
