// SPDX-License-Identifier: Apache-2.0
/*
 * An instance's processes: none runs that was not written down, each is found again and can be ended, none is missed; its disks; questions to
 * its control sockets.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <cmocka.h>

#include "instances/launch/launch_private.h"
#include "tests/unit/resources.h"

static struct {
	char folder[64], bin[80], run[80], state[80], image[80];
	struct launch_places places;
	struct launch_instance instance;
} w;

/* The launcher's as well: it counts how often another user's environment is looked into, which can wait for him. */
static unsigned environments_of_others;

ssize_t read(int fd, void *bytes, size_t size)
{
	char link[64], path[128] = "";
	struct stat st;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof(path) - 1) > 0 && !strncmp(path, "/proc/", 6) &&
	    strstr(path, "/environ") && !fstat(fd, &st) && st.st_uid != geteuid())
		environments_of_others++;
	return syscall(SYS_read, fd, bytes, size);
}

static void write_file(const char *folder, const char *name, const char *text, mode_t mode)
{
	char path[200];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(path, mode), 0);
}

static void read_text(const char *path, char *text, size_t size)
{
	ssize_t n = file_read(AT_FDCWD, path, text, size);

	if (n < 0)
		snprintf(text, size, "(%s)", strerror((int)-n));
}

static bool there(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool there(const char *fmt, ...)
{
	char path[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	return !access(path, F_OK);
}

/* A VMM that says where it is and what it has, and then what its file says. */
static void vmm_is(const char *script)
{
	char text[1024];

	snprintf(text, sizeof(text), "#!/bin/sh\necho runs > %s/runs\n%s\n", w.folder, script);
	write_file(w.bin, "divvy-vmm", text, 0755);
}

static int setup(void **state)
{
	char path[200], self[4096];

	memset(&w, 0, sizeof(w));
	strcpy(w.folder, "/tmp/divvy-launch-XXXXXX");
	assert_non_null(mkdtemp(w.folder));
	snprintf(w.bin, sizeof(w.bin), "%s/bin", w.folder);
	snprintf(w.run, sizeof(w.run), "%s/run", w.folder);
	snprintf(w.state, sizeof(w.state), "%s/state", w.folder);
	snprintf(w.image, sizeof(w.image), "%s/image", w.folder);
	assert_int_equal(mkdir(w.bin, 0755) | mkdir(w.image, 0755), 0);
	assert_non_null(realpath("/proc/self/exe", self));
	snprintf(path, sizeof(path), "%s/divvyd", w.bin);
	assert_int_equal(symlink(self, path), 0);
	w.places = (struct launch_places){ .programs = w.bin, .run = w.run, .state = w.state };
	w.instance = (struct launch_instance){ .name = "a",
					       .uuid = "0a0b0c0d-test",
					       .image = w.image,
					       .vcpus = 1,
					       .memory_bytes = 64 * MIB,
					       .numa_node = -1 };
	write_file(w.image, "guest.conf", "kernel vmlinuz\n", 0644);
	assert_int_equal(launch_folders(&w.places, &w.instance, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	while (launch_sweep(&w.places, "a", w.instance.uuid))
		usleep(1000);
	snprintf(command, sizeof(command), "rm -rf %s", w.folder);
	return system(command);
}

static int accept_commit(void *opaque, const char *role, const struct launch_process *process,
			 struct error *e)
{
	assert_string_equal(role, "vmm");
	assert_true(process->pid > 0 && process->start_time);
	/* Not before it was written down. */
	usleep(50000);
	assert_false(there("%s/runs", w.folder));
	return 0;
}

static int refuse_commit(void *opaque, const char *role, const struct launch_process *process,
			 struct error *e)
{
	return error_set(e, ENOSPC, "store-full", NULL, "full");
}

static int die_commit(void *opaque, const char *role, const struct launch_process *process,
		      struct error *e)
{
	_exit(7);
}

static void wait_gone(const struct launch_process *process)
{
	struct launch_process again = *process;

	for (unsigned i = 0; i < 3000; i++) {
		waitpid(process->pid, NULL, WNOHANG);
		if (launch_find(&again))
			return;
		fd_close(&again.pidfd);
		usleep(10000);
	}
	fail_msg("it does not end");
}

static void wait_for(const char *name)
{
	for (unsigned i = 0; i < 3000 && !there("%s/%s", w.folder, name); i++)
		usleep(10000);
	assert_true(there("%s/%s", w.folder, name));
}

/* ---- processes -------------------------------------------------------------------------------------------- */

static void a_process_runs_once_it_is_written_down(void **state)
{
	const unsigned fds = count_fds();
	struct launch_process process, again;
	struct error e = { 0 };

	vmm_is("while [ ! -e $(dirname $(dirname $0))/go ]; do sleep 0.05; done; exit 5");
	if (launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, &e))
		fail_msg("%s", e.text);
	again = (struct launch_process){ .pid = process.pid, .start_time = process.start_time };
	assert_int_equal(launch_find(&again), 0);
	fd_close(&again.pidfd);
	again.start_time++;
	assert_int_equal(launch_find(&again), -ESRCH);
	wait_for("runs");
	assert_int_equal(launch_exit_status(&w.places, "a", "vmm"), -ENOENT);
	write_file(w.folder, "go", "", 0644);
	wait_gone(&process);
	assert_int_equal(launch_exit_status(&w.places, "a", "vmm"), 5);
	assert_int_equal(launch_kill(&process, SIGTERM), -ESRCH);
	fd_close(&process.pidfd);
	assert_int_equal(count_fds(), fds);
}

static void one_that_cannot_be_written_down_does_not_run(void **state)
{
	struct launch_process process;
	struct error e = { 0 };
	int status;
	pid_t child;

	vmm_is("sleep 100");
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, refuse_commit, NULL, &process, &e),
		-ENOSPC);
	assert_string_equal(e.code, "store-full");
	/* Nor does it when who was to write has died. */
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		launch_spawn_vmm(&w.places, &w.instance, die_commit, NULL, &process, &e);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WEXITSTATUS(status), 7);
	usleep(200000);
	assert_false(there("%s/runs", w.folder));
	assert_int_equal(launch_sweep(&w.places, "a", w.instance.uuid), 0);
}

static void a_program_that_is_not_there_is_said(void **state)
{
	struct launch_process process;
	struct error e = { 0 };
	char path[200];

	snprintf(path, sizeof(path), "%s/divvyd", w.bin);
	unlink(path);
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, &e),
		-ENOENT);
	assert_string_equal(e.code, "program-not-started");
	assert_true(!strncmp(e.next, "ls -l ", 6) && strstr(e.next, path));
}

static void it_has_little_of_what_the_caller_has(void **state)
{
	struct launch_process process;
	char text[4096], path[200];
	int secret = open("/dev/null", O_RDONLY); /* not close-on-exec, on purpose */

	setenv("SECRET", "1", 1);
	vmm_is("env > $(dirname $(dirname $0))/env; ls -l /proc/self/fd > $(dirname $(dirname $0))/fds; ulimit -c > "
	       "$(dirname $(dirname $0))/core");
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, NULL), 0);
	wait_gone(&process);
	fd_close(&process.pidfd);
	close(secret);
	unsetenv("SECRET");
	snprintf(path, sizeof(path), "%s/env", w.folder);
	read_text(path, text, sizeof(text));
	assert_null(strstr(text, "SECRET"));
	assert_non_null(strstr(text, "DIVVY_INSTANCE=0a0b0c0d-test"));
	snprintf(path, sizeof(path), "%s/fds", w.folder);
	read_text(path, text, sizeof(text));
	/* 0, 1, 2, and the folder that ls has open. */
	assert_null(strstr(text, " 4 -> "));
	snprintf(path, sizeof(path), "%s/core", w.folder);
	read_text(path, text, sizeof(text));
	assert_string_equal(text, "0");
}

static void signals_reach_it_through_its_keeper(void **state)
{
	struct launch_process process;

	vmm_is("trap 'exit 9' TERM; while :; do sleep 0.05; done");
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, NULL), 0);
	wait_for("runs");
	usleep(100000);
	assert_int_equal(launch_kill(&process, SIGTERM), 0);
	wait_gone(&process);
	assert_int_equal(launch_exit_status(&w.places, "a", "vmm"), 9);
	fd_close(&process.pidfd);
	/* One that does not listen. */
	vmm_is("trap '' TERM; echo deaf > $(dirname $(dirname $0))/deaf; while :; do sleep 0.05; done");
	{
		char path[200];

		snprintf(path, sizeof(path), "%s/runs", w.folder);
		unlink(path);
	}
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, NULL), 0);
	wait_for("deaf");
	assert_int_equal(launch_kill(&process, SIGTERM), 0);
	usleep(200000);
	assert_int_equal(launch_kill(&process, 0), 0);
	assert_int_equal(launch_kill(&process, SIGINT), 0);
	wait_gone(&process);
	assert_int_equal(launch_exit_status(&w.places, "a", "vmm"), 128 + SIGKILL);
	fd_close(&process.pidfd);
}

static void what_a_guest_makes_it_say_fills_no_disk(void **state)
{
	struct launch_process process;
	struct stat now, before;
	char path[200];
	size_t length;
	char *tail;

	vmm_is("yes 'a line that a guest caused, again and again' | head -c 8000000; echo the last words; exit 1");
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, NULL), 0);
	wait_gone(&process);
	fd_close(&process.pidfd);
	snprintf(path, sizeof(path), "%s/a/vmm.log", w.state);
	assert_int_equal(stat(path, &now), 0);
	snprintf(path, sizeof(path), "%s/a/vmm.log.1", w.state);
	assert_int_equal(stat(path, &before), 0);
	assert_true(now.st_size + before.st_size < (off_t)(3 * MIB));
	tail = launch_log_tail(&w.places, "a", 1000, &length);
	assert_non_null(tail);
	assert_non_null(memmem(tail, length, "the last words", 14));
	free(tail);
}

/* Killed from above, with children that detach themselves: all of it is found by its mark. */
static void no_process_is_missed(void **state)
{
	struct launch_process process;
	unsigned found = 0;

	vmm_is("setsid sleep 1000 & (sleep 1000 &) ; sleep 1000");
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, NULL), 0);
	wait_for("runs");
	usleep(300000);
	launch_kill(&process, SIGKILL);
	wait_gone(&process);
	fd_close(&process.pidfd);
	for (unsigned i = 0; i < 1000; i++) {
		const unsigned now = launch_sweep(&w.places, "a", w.instance.uuid);

		found += now;
		if (!now)
			break;
		usleep(2000);
	}
	assert_true(found >= 2);
	assert_int_equal(launch_sweep(&w.places, "a", w.instance.uuid), 0);
}

static bool known_none(void *opaque, const char *uuid)
{
	return false;
}

static bool known_all(void *opaque, const char *uuid)
{
	return true;
}

static void orphans_of_this_node_are_found_and_no_others(void **state)
{
	struct launch_places other = w.places;
	struct launch_process process;

	vmm_is("sleep 1000");
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, NULL), 0);
	wait_for("runs");
	other.state = "/another/node";
	assert_int_equal(launch_orphans(&other, known_none, NULL), 0);
	assert_int_equal(launch_orphans(&w.places, known_all, NULL), 0);
	assert_int_equal(launch_kill(&process, 0), 0);
	assert_true(launch_orphans(&w.places, known_none, NULL) > 0);
	wait_gone(&process);
	fd_close(&process.pidfd);
}

static void who_is_another_is_not_looked_into(void **state)
{
	pid_t child;

	if (geteuid())
		skip();
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		execl("/bin/sleep", "sleep", "600", (char *)NULL);
		_exit(1);
	}
	/* Until it is a sleep, and so another's to be looked into. */
	usleep(200000);
	environments_of_others = 0;
	assert_int_equal(launch_sweep(&w.places, "a", w.instance.uuid), 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_int_equal(environments_of_others, 0);
}

/* With a hierarchy of cgroup v2, which any kernel lets root mount, whatever controllers it has. */
static void a_cgroup_holds_all_of_an_instance(void **state)
{
	char mount_point[100], group[4096], path[4200], text[4096];
	struct launch_process process;

	snprintf(mount_point, sizeof(mount_point), "%s/cgroup", w.folder);
	assert_int_equal(mkdir(mount_point, 0755), 0);
	if (geteuid() || mount("none", mount_point, "cgroup2", 0, NULL) < 0)
		skip();
	snprintf(path, sizeof(path), "%s/divvy-test-%d", mount_point, getpid());
	assert_int_equal(mkdir(path, 0755), 0);
	w.places.cgroup = path;
	vmm_is("unset DIVVY_INSTANCE; exec sh -c 'env -i sleep 1000 & sleep 1000'");
	assert_int_equal(
		launch_spawn_vmm(&w.places, &w.instance, accept_commit, NULL, &process, NULL), 0);
	wait_for("runs");
	usleep(300000);
	group_path(&w.places, "a", w.instance.uuid, group);
	snprintf(text, sizeof(text), "%.4000s/cgroup.procs", group);
	{
		char pids[4096];

		read_text(text, pids, sizeof(pids));
		snprintf(text, sizeof(text), "%d", process.pid);
		assert_non_null(strstr(pids, text));
	}
	/* Whatever they call themselves. */
	for (unsigned i = 0; i < 2000 && launch_sweep(&w.places, "a", w.instance.uuid); i++) {
		waitpid(process.pid, NULL, WNOHANG);
		usleep(2000);
	}
	wait_gone(&process);
	fd_close(&process.pidfd);
	assert_false(there("%s", group));
	assert_int_equal(rmdir(path), 0);
	w.places.cgroup = NULL;
	assert_int_equal(umount(mount_point), 0);
}

/* ---- disks ---------------------------------------------------------------------------------------------------- */

static void an_image_is_cloned_and_never_written(void **state)
{
	char text[4096], path[200], expected[200];
	struct error e = { 0 };
	struct stat st;
	int fd;

	write_file(
		w.image, "guest.conf",
		"# comment\n\nkernel vmlinuz\r\n  initrd /boot/initrd\ncmdline root=/dev/vda1 quiet\ncpus 99\n"
		"memory 64G\ndisk root.img\ndisk shared.iso,readonly\nvfio 0000:01:00.0\nno-reboot\n",
		0644);
	write_file(w.image, "root.img", "as it was installed", 0444);
	snprintf(path, sizeof(path), "%s/root.img", w.image);
	assert_int_equal(truncate(path, 8 << 20), 0);
	w.instance.disk_count = 2;
	w.instance.disk_bytes[0] = 16 * MIB;
	w.instance.disk_bytes[1] = 4 * MIB;
	if (launch_disks(&w.places, &w.instance, NULL, &e))
		fail_msg("%s: %s", e.code, e.text);
	snprintf(path, sizeof(path), "%s/a/guest.conf", w.state);
	read_text(path, text, sizeof(text));
	snprintf(expected, sizeof(expected), "kernel %s/vmlinuz\n", w.image);
	assert_non_null(strstr(text, expected));
	assert_non_null(strstr(text, "initrd /boot/initrd\n"));
	assert_non_null(strstr(text, "cmdline root=/dev/vda1 quiet\n"));
	assert_non_null(strstr(text, "no-reboot"));
	snprintf(expected, sizeof(expected), "disk %s/a/disk0.img\n", w.state);
	assert_non_null(strstr(text, expected));
	snprintf(expected, sizeof(expected), "disk %s/shared.iso,readonly\n", w.image);
	assert_non_null(strstr(text, expected));
	snprintf(expected, sizeof(expected), "disk %s/a/disk1.img", w.state);
	assert_non_null(strstr(text, expected));
	/* What the type decides is not the image's to say. */
	assert_null(strstr(text, "cpus"));
	assert_null(strstr(text, "64G"));
	assert_null(strstr(text, "vfio"));
	snprintf(path, sizeof(path), "%s/a/disk0.img", w.state);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 16 << 20);
	/* Holes stay holes. */
	assert_true(st.st_blocks * 512 < 1 << 20);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(read(fd, text, 19), 19);
	assert_memory_equal(text, "as it was installed", 19);
	assert_int_equal(pwrite(fd, "AS", 2, 0), 2);
	close(fd);
	/* Again: what the guest wrote stays. */
	assert_int_equal(launch_disks(&w.places, &w.instance, NULL, &e), 0);
	read_text(path, text, 20);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, 2), 2);
	close(fd);
	assert_memory_equal(text, "AS", 2);
}

static void an_image_that_is_wrong_is_refused_and_leaves_nothing(void **state)
{
	static const char *const bad[] = { "kernel a\nsandbox off\n", "kernel a\njail uid=0\n",
					   "kernel a\ndisk missing.img\n", "kernel a\ndisk /dev\n",
					   "kernel a\nhotplug-path /\n" };
	struct error e = { 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		write_file(w.image, "guest.conf", bad[i], 0644);
		if (!launch_disks(&w.places, &w.instance, NULL, &e))
			fail_msg("taken: %s", bad[i]);
		assert_true(e.code && e.text[0]);
		assert_false(there("%s/a/disk0.img", w.state));
		assert_false(there("%s/a/disk0.img.new", w.state));
		assert_false(there("%s/a/guest.conf", w.state));
		assert_false(there("%s/a/guest.conf.new", w.state));
	}
}

/* A disk's size is its image's to say, and the image somebody's who may have it say anything: here more than there are numbers. */
static void sizes_that_wrap_are_the_most_that_there_is(void **state)
{
	static const char *const names[] = { "a.img", "b.img", "c.img" };
	char folder[] = "/dev/shm/divvy-test-XXXXXX", path[200];
	struct launch_room room;
	struct error e = { 0 };
	bool vast = true;

	if (!mkdtemp(folder)) {
		print_message("skipped: no /dev/shm\n");
		skip();
	}
	write_file(folder, "guest.conf", "kernel vmlinuz\ndisk a.img\ndisk b.img\ndisk c.img\n",
		   0644);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		write_file(folder, names[i], "", 0644);
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		vast &= !truncate(path, i < 2 ? INT64_MAX : 2);
	}
	w.instance.image = folder;
	if (launch_disks_measure(&w.places, &w.instance, &room, &e))
		fail_msg("%s", e.text);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/guest.conf", folder);
	unlink(path);
	rmdir(folder);
	if (!vast) {
		print_message("skipped: files have less\n");
		skip();
	}
	assert_true(room.size_bytes == UINT64_MAX);
}

static void a_disk_that_has_grown_since_it_was_measured_is_refused(void **state)
{
	struct launch_room room;
	struct error e = { 0 };
	char path[200];

	write_file(w.image, "guest.conf", "kernel vmlinuz\ndisk a.img\ndisk b.img\n", 0644);
	write_file(w.image, "a.img", "12345678", 0644);
	write_file(w.image, "b.img", "1234", 0644);
	assert_int_equal(launch_disks_measure(&w.places, &w.instance, &room, &e), 0);
	assert_int_equal(room.size_bytes, 12);
	w.instance.disks_measured = true;
	w.instance.disk_most_bytes = room.size_bytes;
	snprintf(path, sizeof(path), "%s/b.img", w.image);
	assert_int_equal(truncate(path, 5), 0);
	assert_int_equal(launch_disks(&w.places, &w.instance, NULL, &e), -ESTALE);
	assert_string_equal(e.code, "image");
	assert_string_equal(e.next, "divvy start a");
	assert_true(there("%s/a/disk0.img", w.state));
	assert_false(there("%s/a/disk1.img", w.state));
	/* Measured anew it is taken; and so is one of which nothing is to be made. */
	assert_int_equal(launch_disks_measure(&w.places, &w.instance, &room, &e), 0);
	assert_int_equal(room.size_bytes, 5);
	w.instance.disk_most_bytes = room.size_bytes;
	assert_int_equal(launch_disks(&w.places, &w.instance, NULL, &e), 0);
	w.instance.disk_most_bytes = 0;
	assert_int_equal(launch_disks(&w.places, &w.instance, NULL, &e), 0);
	/* One more than there were. */
	write_file(w.image, "guest.conf", "kernel vmlinuz\ndisk a.img\ndisk b.img\ndisk a.img\n",
		   0644);
	assert_int_equal(launch_disks(&w.places, &w.instance, NULL, &e), -ESTALE);
	assert_false(there("%s/a/disk2.img", w.state));
}

/* As one that was stored before paths were judged. */
static void an_image_whose_path_is_lines_is_refused(void **state)
{
	struct error e = { 0 };
	char folder[128];

	snprintf(folder, sizeof(folder), "%s/k\ndisk x", w.folder);
	assert_int_equal(mkdir(folder, 0755), 0);
	write_file(folder, "guest.conf", "kernel vmlinuz\n", 0644);
	w.instance.image = folder;
	assert_int_equal(launch_disks(&w.places, &w.instance, NULL, &e), -EINVAL);
	assert_string_equal(e.code, "image");
	assert_non_null(strstr(e.text, "k?disk x"));
	assert_false(there("%s/a/guest.conf", w.state));
}

static void folders_go_and_links_are_not_followed(void **state)
{
	char path[200], outside[200];

	snprintf(outside, sizeof(outside), "%s/outside", w.folder);
	assert_int_equal(mkdir(outside, 0755), 0);
	write_file(outside, "precious", "x", 0644);
	snprintf(path, sizeof(path), "%s/a/link", w.state);
	assert_int_equal(symlink(outside, path), 0);
	assert_int_equal(launch_folders_remove(&w.places, "a", false, NULL), 0);
	assert_false(there("%s/a", w.run));
	assert_true(there("%s/a", w.state));
	assert_int_equal(launch_folders_remove(&w.places, "a", true, NULL), 0);
	assert_false(there("%s/a", w.state));
	assert_true(there("%s/precious", outside));
	assert_int_equal(launch_folders_remove(&w.places, "a", true, NULL), 0);
}

/* ---- questions -------------------------------------------------------------------------------------------------- */

static struct {
	unsigned status, calls;
	size_t size;
	char body[64];
} heard;

static void on_answer(void *opaque, unsigned status, const char *body, size_t size)
{
	heard.status = status;
	heard.size = size;
	heard.calls++;
	snprintf(heard.body, sizeof(heard.body), "%.*s", (int)MIN(size, 60), body);
	sd_event_exit(opaque, 0);
}

#define BEFORE 50u /* turns of a loop that has something else to do, some milliseconds each */

static int on_before(sd_event_source *source, void *turns)
{
	usleep(2000);
	return ++*(unsigned *)turns < BEFORE ? 0
					     : sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

/* Somebody who says @text to whoever connects, and then nothing, or ends. @most: as launch_ask()'s */
static void ask_one_who_says(const char *text, size_t size, bool ends, size_t most)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct launch_request *request;
	sd_event_source *before;
	unsigned turns = 0;
	sd_event *event;
	pid_t child;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/ctl", w.folder);
	unlink(address.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		int one = accept(fd, NULL, NULL);
		char rest[1024];

		if (recv(one, rest, sizeof(rest), 0) <= 0)
			_exit(1);
		while (size) {
			ssize_t n = send(one, text, MIN(size, (size_t)1 << 20), MSG_NOSIGNAL);

			if (n <= 0)
				break;
			size -= (size_t)n;
		}
		if (!ends)
			while (recv(one, rest, sizeof(rest), 0) > 0)
				;
		_exit(0);
	}
	memset(&heard, 0, sizeof(heard));
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(launch_ask(event, address.sun_path, "GET", "/x", NULL, most,
				    ends ? 60000 : 1000, on_answer, event, &request),
			 0);
	assert_int_equal(heard.calls, 0);
	/* An answer that is there long since comes after what is before it in the loop. */
	assert_true(sd_event_add_defer(event, &before, on_before, &turns) >= 0);
	assert_true(sd_event_source_set_priority(before, LAUNCH_ASK_PRIORITY - 1) >= 0);
	assert_true(sd_event_source_set_enabled(before, SD_EVENT_ON) >= 0);
	sd_event_loop(event);
	assert_int_equal(heard.calls, 1);
	if (ends)
		assert_int_equal(turns, BEFORE);
	sd_event_source_unref(before);
	sd_event_unref(event);
	close(fd);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void a_peer_that_lies_or_stalls_is_not_waited_for(void **state)
{
	static const char good[] = "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello",
			  bad[] = "220 mail\r\n\r\n";
	const unsigned fds = count_fds();
	char *large = malloc(70 * MIB);

	ask_one_who_says(good, sizeof(good) - 1, true, LAUNCH_ANSWER_MAX);
	assert_int_equal(heard.status, 200);
	assert_string_equal(heard.body, "hello");
	ask_one_who_says(bad, sizeof(bad) - 1, true, LAUNCH_ANSWER_MAX);
	assert_int_equal(heard.status, 0);
	ask_one_who_says(good, 10, true, LAUNCH_ANSWER_MAX);
	assert_int_equal(heard.status, 0);
	ask_one_who_says(good, 10, false, LAUNCH_ANSWER_MAX);
	assert_int_equal(heard.status, 0);
	ask_one_who_says("", 0, false, LAUNCH_ANSWER_MAX);
	assert_int_equal(heard.status, 0);
	/* One without an end. */
	assert_non_null(large);
	memset(large, 'x', 70 * MIB);
	memcpy(large, good, sizeof(good) - 1);
	ask_one_who_says(large, 70 * MIB, false, LAUNCH_PICTURE_MAX);
	assert_int_equal(heard.status, 0);
	/* One that is a little longer than is taken, and would have been an answer. */
	ask_one_who_says(large, 100 * KIB, true, LAUNCH_ANSWER_MAX);
	assert_int_equal(heard.status, 0);
	ask_one_who_says(large, LAUNCH_ANSWER_MAX, true, LAUNCH_ANSWER_MAX);
	assert_int_equal(heard.status, 200);
	ask_one_who_says(large, 100 * KIB, true, LAUNCH_PICTURE_MAX);
	assert_int_equal(heard.status, 200);
	assert_int_equal(heard.size, 100 * KIB - (sizeof(good) - 1 - 5));
	free(large);
	assert_int_equal(count_fds(), fds);
}

/* Where the kernel copies nothing: from a tmpfs to whatever /tmp is on. */
static void an_image_on_another_file_system_is_cloned_too(void **state)
{
	char folder[] = "/dev/shm/divvy-test-XXXXXX", path[200], text[8];
	struct error e = { 0 };
	struct stat st;
	int fd;

	if (!mkdtemp(folder)) {
		print_message("skipped: no /dev/shm\n");
		skip();
	}
	write_file(folder, "guest.conf", "kernel vmlinuz\ndisk root.img\n", 0644);
	write_file(folder, "root.img", "begin", 0644);
	snprintf(path, sizeof(path), "%s/root.img", folder);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	/* A hole of 8 MiB, and more than one piece of data behind it. */
	assert_int_equal(ftruncate(fd, 9 << 20), 0);
	for (off_t at = 8 << 20; at < 9 << 20; at += 4096)
		assert_int_equal(pwrite(fd, "piece", 5, at), 5);
	close(fd);
	w.instance.image = folder;
	if (launch_disks(&w.places, &w.instance, NULL, &e))
		fail_msg("%s: %s", e.code, e.text);
	snprintf(path, sizeof(path), "%s/a/disk0.img", w.state);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 9 << 20);
	assert_true(st.st_blocks * 512 < 4 << 20);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, text, 5, 0), 5);
	assert_memory_equal(text, "begin", 5);
	assert_int_equal(pread(fd, text, 5, (9 << 20) - 4096), 5);
	assert_memory_equal(text, "piece", 5);
	close(fd);
	snprintf(path, sizeof(path), "%s/root.img", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/guest.conf", folder);
	unlink(path);
	rmdir(folder);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_process_runs_once_it_is_written_down),
		T(one_that_cannot_be_written_down_does_not_run),
		T(a_program_that_is_not_there_is_said),
		T(it_has_little_of_what_the_caller_has),
		T(signals_reach_it_through_its_keeper),
		T(what_a_guest_makes_it_say_fills_no_disk),
		T(no_process_is_missed),
		T(orphans_of_this_node_are_found_and_no_others),
		T(who_is_another_is_not_looked_into),
		T(a_cgroup_holds_all_of_an_instance),
		T(an_image_is_cloned_and_never_written),
		T(an_image_on_another_file_system_is_cloned_too),
		T(an_image_that_is_wrong_is_refused_and_leaves_nothing),
		T(sizes_that_wrap_are_the_most_that_there_is),
		T(a_disk_that_has_grown_since_it_was_measured_is_refused),
		T(an_image_whose_path_is_lines_is_refused),
		T(folders_go_and_links_are_not_followed),
		T(a_peer_that_lies_or_stalls_is_not_waited_for),
	};
	const char *slash = strrchr(argv[0], '/');

	if (!strcmp(slash ? slash + 1 : argv[0], "divvyd"))
		return launch_keep_main(argc - 1, argv + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
