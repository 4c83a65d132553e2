// SPDX-License-Identifier: Apache-2.0
/* What takes long while an instance starts or stops is told of, shown on a terminal, and can be given up; disks have room, or are refused. */
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include <cmocka.h>

#include "tests/unit/build_folder.h"
#include "tests/unit/daemon_world.h"

#define USER	  65534u /* by the world's divvyd.yaml */
#define PIECE	  65536	 /* of a copy between two file systems (launch/disk.c) */
#define PAGE	  4096u
#define SLOW_DISK (16 * MIB)

/*
 * The daemon that is tested is this program: its clones wait before each piece, as long as WORLD_PIECE_US says, and their file systems are two.
 */
ssize_t copy_file_range(int in, off_t *off_in, int out, off_t *off_out, size_t length,
			unsigned flags)
{
	const char *us = getenv("WORLD_PIECE_US");

	if (us)
		usleep((unsigned)atoi(us));
	errno = EXDEV;
	return -1;
}

/* ---- worlds ----------------------------------------------------------------------------------------- */

/* An image on another file system, so that nobody shares its blocks. */
static char far_image[64];

static int setup(void **state)
{
	static struct world world;
	char path[128];
	int fd;

	unsetenv("WORLD_PIECE_US");
	strcpy(far_image, "/dev/shm/divvy-image-XXXXXX");
	if (!mkdtemp(far_image))
		return -1;
	snprintf(path, sizeof(path), "%s/guest.conf", far_image);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "kernel vmlinuz\ndisk disk.img\n", 29), 29);
	close(fd);
	snprintf(path, sizeof(path), "%s/disk.img", far_image);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	for (unsigned i = 0; i < SLOW_DISK / PAGE; i++)
		assert_int_equal(pwrite(fd, &i, sizeof(i), (off_t)i * PAGE), sizeof(i));
	/* A hole is not copied, and does not count. */
	assert_int_equal(ftruncate(fd, 3 * SLOW_DISK), 0);
	close(fd);
	world_create(&world);
	assert_int_equal(chmod(world.folder, 0755), 0);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	char path[128];

	world_check_violations(*state);
	world_destroy(*state);
	snprintf(path, sizeof(path), "%s/guest.conf", far_image);
	unlink(path);
	snprintf(path, sizeof(path), "%s/disk.img", far_image);
	unlink(path);
	return rmdir(far_image);
}

static void define_far(const struct world *w, const char *name)
{
	char resource[64], body[200];

	snprintf(resource, sizeof(resource), "instances/%s", name);
	snprintf(body, sizeof(body), "{\"type\":\"plain\",\"image\":\"%s\"}", far_image);
	world_expect(w, "PUT", resource, body, 201u);
}

/* Its progress, once it is of @what and @done at least; the caller's. */
static json_t *await_progress(const struct world *w, const char *name, const char *what,
			      json_int_t done)
{
	for (unsigned i = 0; i < WORLD_WAIT_MS / 5; i++) {
		json_t *body = world_instance(w, name),
		       *progress = json_incref(json_object_get(body, "progress"));
		const char *now = json_string_value(json_object_get(progress, "what"));
		const bool there = now && !strcmp(now, what) &&
				   json_integer_value(json_object_get(progress, "done")) >= done;

		json_decref(body);
		if (there)
			return progress;
		json_decref(progress);
		usleep(5000);
	}
	fail_msg("no progress of %s: %s", what, json_dumps(world_instance(w, name), JSON_COMPACT));
	return NULL;
}

static json_int_t figure(const json_t *progress, const char *key)
{
	return json_integer_value(json_object_get(progress, key));
}

static unsigned files_of(const struct world *w, const char *name, const char *what)
{
	char path[200];
	unsigned count = 0;
	struct dirent *one;
	DIR *folder;

	snprintf(path, sizeof(path), "%s/state/instances/%s", w->folder, name);
	folder = opendir(path);
	while (folder && (one = readdir(folder)))
		count += strstr(one->d_name, what) != NULL;
	if (folder)
		closedir(folder);
	return count;
}

static const char *failed_code(const struct world *w, const char *name)
{
	static char code[64];
	json_t *body;

	world_await(w, name, "failed");
	body = world_instance(w, name);
	snprintf(code, sizeof(code), "%s",
		 json_string_value(json_object_get(json_object_get(body, "error"), "code")));
	json_decref(body);
	return code;
}

/* ---- progress --------------------------------------------------------------------------------------- */

static void a_clone_is_told_of_and_given_up_and_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct stat st;
	json_t *progress;
	char path[200];
	unsigned number;
	int fd;

	setenv("WORLD_PIECE_US", "10000", 1);
	assert_true(world_start(w, NULL));
	define_far(w, "a");
	world_do(w, "a", "start", NULL, 202);
	progress = await_progress(w, "a", "disks", PIECE);
	assert_string_equal(json_string_value(json_object_get(progress, "unit")), "bytes");
	assert_int_equal(figure(progress, "total"), SLOW_DISK);
	assert_in_range(figure(progress, "done"), PIECE, SLOW_DISK);
	json_decref(progress);
	/* Half a disk has no name. */
	assert_int_equal(files_of(w, "a", "disk"), 0);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	assert_int_equal(files_of(w, "a", "disk"), 0);
	assert_int_equal(files_of(w, "a", ".new"), 0);
	/* Nor does one of a daemon that dies; the next begins anew. */
	world_do(w, "a", "start", NULL, 202);
	json_decref(await_progress(w, "a", "disks", PIECE));
	world_kill(w);
	usleep(100000);
	assert_int_equal(files_of(w, "a", "disk"), 0);
	unsetenv("WORLD_PIECE_US");
	assert_true(world_start(w, NULL));
	world_await(w, "a", "running");
	snprintf(path, sizeof(path), "%s/state/instances/a/disk0.img", w->folder);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 3 * SLOW_DISK);
	assert_true((uint64_t)st.st_blocks * 512 < 2 * SLOW_DISK);
	assert_int_equal(pread(fd, &number, 4, SLOW_DISK - PAGE), 4);
	assert_int_equal(number, SLOW_DISK / PAGE - 1);
	close(fd);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	world_stop(w);
	world_check_empty(w);
}

static void events_tell_of_a_clone_at_a_bounded_rate(void **state)
{
	struct world *w = *state;
	unsigned count = 0;
	char text[65536], *line, *save = NULL;
	int fd;

	/* 256 pieces: thirteen seconds and more. */
	setenv("WORLD_PIECE_US", "51000", 1);
	assert_true(world_start(w, NULL));
	define_far(w, "a");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	fd = http_connect(w->api);
	assert_true(fd >= 0);
	strcpy(text,
	       "GET /api/v1/events?since=0&follow=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	assert_int_equal(http_receive(fd, text, sizeof(text)), 200);
	close(fd);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (!strstr(line, "\"progress\""))
			continue;
		assert_non_null(strstr(line, "disks: "));
		assert_non_null(strstr(line, " of 16 MiB"));
		count++;
	}
	/* One each ten seconds, however long it took. */
	assert_true(count >= 1);
}

static void memory_and_resets_are_told_of(void **state)
{
	struct world *w = *state;
	char slow[200], path[300], byte;
	json_t *progress;
	int fd;

	assert_true(world_start(w, NULL));
	world_write(w, "slow-memory", "");
	world_define(w, "a", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	progress = await_progress(w, "a", "memory", 32 * MIB);
	assert_string_equal(json_string_value(json_object_get(progress, "unit")), "bytes");
	assert_int_equal(figure(progress, "total"), 64 * MIB);
	assert_true(figure(progress, "done") < (json_int_t)(48 * MIB));
	json_decref(progress);
	snprintf(slow, sizeof(slow), "%s/slow-memory", w->folder);
	assert_int_equal(unlink(slow), 0);
	world_await(w, "a", "running");

	/* A device that takes its time: a FIFO that nobody reads yet. */
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/reset", w->fs.root, WORLD_GPU_B);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	progress = await_progress(w, "a", "reset", 1);
	assert_string_equal(json_string_value(json_object_get(progress, "unit")), "functions");
	assert_int_equal(figure(progress, "done"), 1);
	assert_int_equal(figure(progress, "total"), 2);
	json_decref(progress);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, &byte, 1), 1);
	close(fd);
	world_await(w, "a", "stopped");
}

/* What a terminal sees, and the exit status. */
static int on_terminal(const char *program, const char *const *words, char *seen, size_t size)
{
	size_t length = 0;
	int fd, status;
	pid_t child = forkpty(&fd, NULL, NULL, NULL);
	ssize_t n;

	assert_true(child >= 0);
	if (!child) {
		execv(program, (char *const *)(uintptr_t)words);
		_exit(127);
	}
	/* Its end reads as an error (pty(7)). */
	while (length < size - 1 && (n = read(fd, seen + length, size - 1 - length)) > 0)
		length += (size_t)n;
	seen[length] = '\0';
	close(fd);
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_terminal_shows_one_line_and_a_file_none(void **state)
{
	struct world *w = *state;
	char build[PATH_MAX], program[PATH_MAX + 8], seen[65536], command[PATH_MAX + 300];
	const char *const start[] = { "divvy", "--api", w->api, "start", "a", NULL };
	const char *const json[] = { "divvy", "--api",	w->api,	   "restart",
				     "b",     "--json", "--force", NULL };
	const char *end;

	setenv("WORLD_PIECE_US", "8000", 1);
	assert_true(world_start(w, NULL));
	assert_true(build_folder(build, sizeof(build)));
	snprintf(program, sizeof(program), "%s/divvy", build);
	define_far(w, "a");
	define_far(w, "b");
	assert_int_equal(on_terminal(program, start, seen, sizeof(seen)), 0);
	assert_non_null(strstr(seen, "\r\033[Ka: starting (disks "));
	assert_non_null(strstr(seen, " of 16 MiB, "));
	assert_non_null(strstr(seen, " MiB/s)"));
	/* It is gone in the end. */
	end = strstr(seen, "\r\033[Ka: running, plain");
	assert_non_null(end);
	assert_null(strstr(end, "disks"));
	/* Nothing of it with --json, nor in a file. */
	assert_int_equal(on_terminal(program, json, seen, sizeof(seen)), 0);
	assert_null(strchr(seen, '\033'));
	assert_null(strstr(seen, "disks "));
	world_expect(w, "POST", "instances/a/stop", "{\"force\":true}", 202u);
	world_await(w, "a", "stopped");
	snprintf(command, sizeof(command), "%s --api %s start a > %s/out 2>&1", program, w->api,
		 w->folder);
	assert_int_equal(system(command), 0);
	snprintf(command, sizeof(command), "%s/out", w->folder);
	assert_true(file_read(AT_FDCWD, command, seen, sizeof(seen)) > 0);
	assert_string_equal(seen, "a: running, plain");
}

/* ---- room ------------------------------------------------------------------------------------------- */

/* A type of the world's with one disk of @mib. */
static void type_make(const struct world *w, const char *name, uint64_t mib)
{
	char file[64], text[300];

	snprintf(file, sizeof(file), "types/%s.yaml", name);
	snprintf(text, sizeof(text),
		 "- name: %s\n  vcpus: 1\n  memory_mib: 64\n  disks: [ { size_mib: %llu } ]\n"
		 "  gpus: [ { mode: shared, policy: best_effort, vram_mib: 64 } ]\n",
		 name, (unsigned long long)mib);
	world_write(w, file, text);
}

static void configure(const struct world *w, const char *more)
{
	char text[400];

	snprintf(text, sizeof(text), "images: [ %s/images ]\nroles: { \"%u\": user }\n%s",
		 w->folder, USER, more);
	world_write(w, "divvyd.yaml", text);
}

static void a_disk_is_promised_whole_or_refused(void **state)
{
	struct world *w = *state;
	struct statvfs fs;
	json_t *body;
	const char *said;
	uint64_t mib;

	assert_int_equal(statvfs(w->folder, &fs), 0);
	mib = (uint64_t)fs.f_bavail * fs.f_frsize / MIB * 6 / 10;
	if (mib > 8 * MIB) { /* 8 TiB: more than a file may have everywhere */
		print_message("skipped: too much room\n");
		skip();
	}
	type_make(w, "vast", mib);
	assert_true(world_start(w, NULL));
	world_define(w, "a", "vast", "");
	world_define(w, "b", "vast", "");
	/* At once: the first is promised what the second does not get. */
	world_do(w, "a", "start", NULL, 202);
	world_do(w, "b", "start", NULL, 202);
	assert_string_equal(failed_code(w, "b"), "disk-space-short");
	world_await(w, "a", "running");
	body = world_instance(w, "b");
	said = json_string_value(json_object_get(json_object_get(body, "error"), "text"));
	assert_non_null(strstr(said, "MiB are left"));
	assert_non_null(strstr(said, "promised"));
	json_decref(body);
	assert_int_equal(files_of(w, "b", "disk"), 0);
	/* A stopped one's disk is there still. */
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	world_do(w, "b", "start", NULL, 202);
	assert_string_equal(failed_code(w, "b"), "disk-space-short");
	/* And has room when it starts again. */
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	world_expect(w, "DELETE", "instances/a", NULL, 204u);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "b", "running");
}

/* Together they are longer than a number: of which nothing is left but their sum's end. */
static void disks_that_wrap_have_no_room(void **state)
{
	struct world *w = *state;
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/disk.img", far_image);
	if (truncate(path, INT64_MAX) < 0) {
		print_message("skipped: %s\n", strerror(errno));
		skip();
	}
	snprintf(path, sizeof(path), "%s/guest.conf", far_image);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs("kernel vmlinuz\ndisk disk.img\ndisk disk.img\ndisk guest.conf\n", file);
	fclose(file);
	assert_true(world_start(w, NULL));
	define_far(w, "a");
	world_do(w, "a", "start", NULL, 202);
	assert_string_equal(failed_code(w, "a"), "disk-space-short");
}

/* Of its own it takes nothing more: what others were promised meanwhile, or had before there were promises, does not keep it down. */
static void one_whose_disks_are_there_starts_on_a_full_disk(void **state)
{
	struct world *w = *state;
	struct statvfs fs;
	char path[200];

	assert_int_equal(statvfs(w->folder, &fs), 0);
	type_make(w, "small", 1);
	assert_true(world_start(w, NULL));
	for (const char *name = "ab"; *name; name++) {
		const char one[2] = { *name, '\0' };

		world_define(w, one, "small", "");
		world_do(w, one, "start", NULL, 202);
		world_await(w, one, "running");
	}
	world_do(w, "b", "stop", "{\"force\":true}", 202);
	world_await(w, "b", "stopped");
	snprintf(path, sizeof(path), "%s/state/instances/a/disk0.img", w->folder);
	if (truncate(path, (off_t)(fs.f_bavail * fs.f_frsize + GIB)) < 0) {
		print_message("skipped: %s\n", strerror(errno));
		skip();
	}
	world_define(w, "c", "small", "");
	world_do(w, "c", "start", NULL, 202);
	assert_string_equal(failed_code(w, "c"), "disk-space-short");
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "b", "running");
}

/* One that goes when it ends leaves its reason. */
static void divvy_run_says_why_there_is_no_room(void **state)
{
	struct world *w = *state;
	char build[PATH_MAX], command[PATH_MAX + 400], said[4096];
	struct statvfs fs;

	assert_int_equal(statvfs(w->folder, &fs), 0);
	type_make(w, "vast", (uint64_t)fs.f_bavail * fs.f_frsize / MIB * 2);
	assert_true(world_start(w, NULL));
	assert_true(build_folder(build, sizeof(build)));
	snprintf(
		command, sizeof(command),
		"%s/divvy --api %s run --type vast --image %s/images/a --name a --detach > %s/out 2>&1",
		build, w->api, w->folder, w->folder);
	assert_int_equal(WEXITSTATUS(system(command)), 1);
	snprintf(command, sizeof(command), "%s/out", w->folder);
	assert_true(file_read(AT_FDCWD, command, said, sizeof(said)) > 0);
	assert_non_null(strstr(said, "a: its disks take "));
	world_expect(w, "GET", "instances/a", NULL, 404u);
}

static void thin_disks_are_promised_what_is_in_them(void **state)
{
	struct world *w = *state;
	struct statvfs fs;
	uint64_t mib;

	assert_int_equal(statvfs(w->folder, &fs), 0);
	mib = (uint64_t)fs.f_bavail * fs.f_frsize / MIB * 6 / 10;
	if (mib > 8 * MIB) {
		print_message("skipped: too much room\n");
		skip();
	}
	type_make(w, "vast", mib);
	configure(w, "thin_disks: true\n");
	assert_true(world_start(w, NULL));
	world_define(w, "a", "vast", "");
	world_define(w, "b", "vast", "");
	world_do(w, "a", "start", NULL, 202);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "a", "running");
	world_await(w, "b", "running");
}

/* As USER: a status, or 0. */
static unsigned ask_as_user(const struct world *w, const char *method, const char *resource,
			    const char *body)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		if (setgid(USER) < 0 || setuid(USER) < 0)
			_exit(0);
		_exit((int)(world_ask(w, method, resource, body, NULL) - 200));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? 200 + (unsigned)WEXITSTATUS(status) : 0;
}

static void one_user_does_not_fill_the_disk(void **state)
{
	struct world *w = *state;
	char body[200];

	type_make(w, "big", 40);
	configure(w, "disk_mib_per_user: 100\n");
	assert_true(world_start(w, NULL));
	snprintf(body, sizeof(body), "{\"type\":\"big\",\"image\":\"%s/images/a\"}", w->folder);
	for (unsigned i = 0; i < 3; i++) {
		char name[8], resource[64];

		snprintf(name, sizeof(name), "u%u", i);
		snprintf(resource, sizeof(resource), "instances/%s", name);
		assert_int_equal(ask_as_user(w, "PUT", resource, body), 201);
		text_append(resource, sizeof(resource), "/start");
		assert_int_equal(ask_as_user(w, "POST", resource, NULL), 202);
		if (i < 2)
			world_await(w, name, "running");
		else
			assert_string_equal(failed_code(w, name), "too-much-disk");
	}
	/* What is stopped counts still; what is deleted does not. */
	world_do(w, "u0", "stop", "{\"force\":true}", 202);
	world_await(w, "u0", "stopped");
	world_do(w, "u2", "start", NULL, 202);
	assert_string_equal(failed_code(w, "u2"), "too-much-disk");
	assert_int_equal(ask_as_user(w, "DELETE", "instances/u0", NULL), 204);
	world_do(w, "u2", "start", NULL, 202);
	world_await(w, "u2", "running");
	/* Root's are no user's. */
	for (unsigned i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "r%u", i);
		world_define(w, name, "big", "");
		world_do(w, name, "start", NULL, 202);
		world_await(w, name, "running");
	}
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_clone_is_told_of_and_given_up_and_leaves_nothing),
		T(events_tell_of_a_clone_at_a_bounded_rate),
		T(memory_and_resets_are_told_of),
		T(a_terminal_shows_one_line_and_a_file_none),
		T(a_disk_is_promised_whole_or_refused),
		T(disks_that_wrap_have_no_room),
		T(one_whose_disks_are_there_starts_on_a_full_disk),
		T(divvy_run_says_why_there_is_no_room),
		T(thin_disks_are_promised_what_is_in_them),
		T(one_user_does_not_fill_the_disk),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
