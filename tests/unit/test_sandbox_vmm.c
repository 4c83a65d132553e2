// SPDX-License-Identifier: Apache-2.0
/*
 * A running divvy-vmm as /proc shows it: what each of its threads may do, and what it holds. The
 * freestanding guest runs in it on the host's own /dev/kvm, with every kind of device that needs no
 * IOMMU, one of them served by a vfio-user server.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/sandbox.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/http_client.h"

#define READY_MS 20000
#define END_MS	 20000

struct fixture {
	char build[4096]; /* where the programs are */
	char folder[32];
	char serial[64], disk[64], said[64], socket[64];
	char jail[32]; /* "": none */
	char control[80], later[80], elsewhere[80], console[80];
	const char *guest;
	bool with_control, with_console;
	pid_t server, vmm;
};

static void make_disk(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)MIB), 0);
	/* Whoever the VMM is. */
	assert_int_equal(fchmod(fd, 0666), 0);
	close(fd);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	assert_true(build_folder(f->build, sizeof(f->build)));
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->serial, sizeof(f->serial), "%s/serial", f->folder);
	snprintf(f->disk, sizeof(f->disk), "%s/disk", f->folder);
	snprintf(f->said, sizeof(f->said), "%s/stderr", f->folder);
	snprintf(f->socket, sizeof(f->socket), "%s/socket", f->folder);
	snprintf(f->control, sizeof(f->control), "%s/control", f->folder);
	snprintf(f->console, sizeof(f->console), "%s/console", f->folder);
	snprintf(f->later, sizeof(f->later), "%s/later", f->folder);
	snprintf(f->elsewhere, sizeof(f->elsewhere), "%s/elsewhere", f->folder);
	make_disk(f->disk);
	make_disk(f->later);
	make_disk(f->elsewhere);
	*state = f;
	return 0;
}

static void end(pid_t *pid, int number)
{
	if (*pid <= 0)
		return;
	kill(*pid, number);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];

	end(&f->vmm, SIGKILL);
	end(&f->server, SIGKILL);
	snprintf(command, sizeof(command), "rm -r %s", f->folder);
	if (system(command))
		return -1;
	free(f);
	return 0;
}

static struct fixture *need(void **state)
{
	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	if (SANDBOX_SANITIZED) {
		print_message("skipped: a sanitizer is built in, which the filters would end\n");
		skip();
	}
	return *state;
}

static void say(const struct fixture *f)
{
	char text[8192] = "";

	file_read(AT_FDCWD, f->said, text, sizeof(text));
	print_message("%s\n", text);
}

/* Until @path is there and holds @text. */
static void await_text(const struct fixture *f, const char *path, const char *text)
{
	char now[4096];

	for (unsigned waited = 0; waited < READY_MS; waited += 20) {
		if (file_read(AT_FDCWD, path, now, sizeof(now)) >= 0 && strstr(now, text))
			return;
		usleep(20000);
	}
	say(f);
	fail_msg("%s does not say \"%s\" in time", path, text);
}

static pid_t spawn(const struct fixture *f, const char *const *arguments, const char *out)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO) < 0 ||
	    dup2(open("/dev/null", O_RDWR), STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0 || dup2(open("/", O_RDONLY), 77) < 0)
		_exit(126);
	/* 77 is a careless caller's: a way to every path. */
	execv(arguments[0], (char *const *)(uintptr_t)arguments);
	_exit(127);
}

static void start_server(struct fixture *f)
{
	char program[5000], out[80];
	const char *arguments[] = { program, f->socket, "rng", NULL };

	snprintf(program, sizeof(program), "%s/tests/rig/vfio_user_server", f->build);
	snprintf(out, sizeof(out), "%s/server", f->folder);
	f->server = spawn(f, arguments, out);
	await_text(f, out, "listening");
}

static void start_vmm(struct fixture *f)
{
	char program[5000], kernel[5000], serial[100];
	const char *arguments[] = {
		program,
		"--kernel",
		kernel,
		"--cmdline",
		f->guest,
		"--memory",
		"64M",
		"--cpus",
		"2",
		"--disk",
		f->disk,
		"--net",
		"user",
		"--console",
		"virtio",
		"--serial",
		serial,
		"--vfio-user",
		f->socket,
		/* those that a test has */
		NULL,
		NULL,
		NULL,
		NULL,
		NULL,
		NULL,
		NULL,
	};
	size_t count = 0;

	while (arguments[count])
		count++;
	if (f->jail[0]) {
		arguments[count++] = "--jail";
		arguments[count++] = f->jail;
	}
	if (f->with_control) {
		arguments[count++] = "--control";
		arguments[count++] = f->control;
		arguments[count++] = "--hotplug-path";
		arguments[count++] = f->later;
	}
	start_server(f);
	snprintf(program, sizeof(program), "%s/divvy-vmm", f->build);
	snprintf(kernel, sizeof(kernel), "%s/guest-drivers/testguest/testguest.elf", f->build);
	snprintf(serial, sizeof(serial), "%s:%s", f->with_console ? "socket" : "file",
		 f->with_console ? f->console : f->serial);
	f->vmm = spawn(f, arguments, f->said);
}

/* The signal is obeyed in time, and nothing was missing on the way out either. */
static void stop_vmm(struct fixture *f)
{
	char text[8192] = "";
	int status = 0;

	assert_int_equal(kill(f->vmm, SIGTERM), 0);
	for (unsigned waited = 0; waited < END_MS && !waitpid(f->vmm, &status, WNOHANG);
	     waited += 20)
		usleep(20000);
	file_read(AT_FDCWD, f->said, text, sizeof(text));
	if (!WIFEXITED(status) || WEXITSTATUS(status) || strstr(text, "error")) {
		say(f);
		fail_msg("status 0x%x", status);
	}
	f->vmm = 0;
}

/* ---- /proc ---------------------------------------------------------------------------------- */

/* Calls @each with the path of every entry of /proc/PID/FOLDER; returns how many. */
static unsigned for_each(const struct fixture *f, const char *folder,
			 void (*each)(const char *path, void *opaque), void *opaque)
{
	char path[64], entry_path[400];
	const struct dirent *entry;
	unsigned count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/%s", f->vmm, folder);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(entry_path, sizeof(entry_path), "%s/%s", path, entry->d_name);
		each(entry_path, opaque);
		count++;
	}
	closedir(dir);
	return count;
}

static void expect_line(const char *status, const char *line)
{
	if (!strstr(status, line))
		fail_msg("no \"%s\" in:\n%s", line, status);
}

static void check_thread(const char *path, void *opaque)
{
	char status_path[440], status[4096], *names = opaque, name[64] = "";

	snprintf(status_path, sizeof(status_path), "%s/status", path);
	assert_true(file_read(AT_FDCWD, status_path, status, sizeof(status)) > 0);
	expect_line(status, "CapInh:\t0000000000000000\n");
	expect_line(status, "CapPrm:\t0000000000000000\n");
	expect_line(status, "CapEff:\t0000000000000000\n");
	expect_line(status, "CapAmb:\t0000000000000000\n");
	if (!geteuid())
		expect_line(status, "CapBnd:\t0000000000000000\n");
	expect_line(status, "NoNewPrivs:\t1\n");
	expect_line(status, "Seccomp:\t2\n");
	assert_int_equal(sscanf(status, "Name:\t%63s", name), 1);
	text_append(names, 1024, "[%s]", name);
}

static void check_fd(const char *path, void *opaque)
{
	static const char *const expected[] = {
		"/dev/null",
		"/dev/kvm",
		"pipe:",
		"socket:",
		"anon_inode:[eventfd]",
		"anon_inode:[eventpoll]",
		"anon_inode:[pidfd]",
		"anon_inode:[signalfd]",
		"anon_inode:[io_uring]",
		"anon_inode:kvm-vm",
		"anon_inode:kvm-vcpu",
		"/memfd:divvy-guest-ram",
	};
	const struct fixture *f = opaque;
	char target[4096] = "";
	size_t length = strlen(f->build);

	if (readlink(path, target, sizeof(target) - 1) < 0)
		return; /* closed meanwhile */
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		if (!strncmp(target, expected[i], strlen(expected[i])))
			return;
	if (!strcmp(target, f->disk) || !strcmp(target, f->serial) || !strcmp(target, f->said) ||
	    (!strncmp(target, f->build, length) && strstr(target, "testguest.elf")))
		return;
	fail_msg("%s is %s", path, target);
}

/* All of @threads by name; those that have only just begun bear their parent's for a moment. */
static void check_threads(const struct fixture *f, const char *const *threads, size_t count)
{
	char names[1024], name[32];
	size_t found = 0;

	for (unsigned waited = 0; waited < READY_MS && found < count; waited += 20) {
		names[0] = '\0';
		for_each(f, "task", check_thread, names);
		for (found = 0; found < count; found++) {
			snprintf(name, sizeof(name), "[%s]", threads[found]);
			if (!strstr(names, name))
				break;
		}
		usleep(20000);
	}
	if (found < count)
		fail_msg("no thread %s among %s", threads[found], names);
}

static void every_thread_is_confined_and_every_descriptor_expected(void **state)
{
	static const char *const threads[] = { "divvy-vmm",  "vcpu0",	   "vcpu1",
					       "serial",     "rcu",	   "virtio-blk",
					       "virtio-net", "virtio-rng", "virtio-console",
					       "vfio-user" };
	struct fixture *f = need(state);

	f->guest = "irq";
	start_vmm(f);
	await_text(f, f->serial, "ready");
	check_threads(f, threads, ARRAY_SIZE(threads));
	assert_true(for_each(f, "fd", check_fd, f) > 10);
	stop_vmm(f);
}

static void a_guest_resets_again_and_again_with_nothing_missing(void **state)
{
	struct fixture *f = need(state);

	f->guest = "reset";
	start_vmm(f);
	await_text(f, f->said, "further messages of this kind are dropped"); /* 16 lives */
	stop_vmm(f);
}

static void check_empty(const char *path, void *opaque)
{
	fail_msg("the jail holds %s", path);
}

/* Whether /proc/PID/ns/@name is this process's own. */
static bool same_namespace(const struct fixture *f, const char *name)
{
	char path[64];
	struct stat theirs, ours;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", f->vmm, name);
	assert_int_equal(stat(path, &theirs), 0);
	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	assert_int_equal(stat(path, &ours), 0);
	return theirs.st_ino == ours.st_ino;
}

static void a_jailed_vmm_is_another_user_in_an_empty_root(void **state)
{
	static const char *const namespaces[] = { "mnt", "net", "ipc", "uts" };
	struct fixture *f = need(state);
	char path[64], status[4096], names[1024] = "";

	if (geteuid()) {
		print_message("skipped: a jail needs root\n");
		skip();
	}
	strcpy(f->jail, "uid=54321,gid=54322");
	f->guest = "irq";
	start_vmm(f);
	await_text(f, f->serial, "ready");
	snprintf(path, sizeof(path), "/proc/%d/status", f->vmm);
	assert_true(file_read(AT_FDCWD, path, status, sizeof(status)) > 0);
	expect_line(status, "Uid:\t54321\t54321\t54321\t54321\n");
	expect_line(status, "Gid:\t54322\t54322\t54322\t54322\n");
	expect_line(status, "Groups:\t \n");
	for_each(f, "task", check_thread, names);
	for_each(f, "root", check_empty, NULL);
	for_each(f, "cwd", check_empty, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++)
		if (same_namespace(f, namespaces[i]))
			fail_msg("the %s namespace is ours", namespaces[i]);
	for_each(f, "fd", check_fd, f);
	stop_vmm(f);
}

/* Until the VMM listens. */
static void await_control(const struct fixture *f)
{
	for (unsigned waited = 0; waited < READY_MS && access(f->control, F_OK); waited += 20)
		usleep(20000);
}

static void expect_answer(const struct fixture *f, const char *method, const char *what,
			  const char *body, unsigned status, const char *code)
{
	char resource[64];
	json_t *answer;
	unsigned got;

	snprintf(resource, sizeof(resource), "/api/v1/vm.%s", what);
	got = http(f->control, method, resource, body, &answer);
	if (got != status) {
		say(f);
		fail_msg("%s %s: %u, not %u: %s", what, body ? body : "", got, status,
			 answer ? json_string_value(json_object_get(answer, "text")) : "");
	}
	if (code)
		http_expect_code(answer, code);
	else
		json_decref(answer);
}

static void commands_are_obeyed_and_devices_come_and_go(struct fixture *f)
{
	char body[200];

	f->with_control = true;
	f->guest = "irq";
	start_vmm(f);
	await_text(f, f->serial, "ready");
	await_control(f);
	for (unsigned i = 0; i < 2; i++) {
		expect_answer(f, "GET", "info", NULL, 200, NULL);
		expect_answer(f, "GET", "counters", NULL, 200, NULL);
		expect_answer(f, "PUT", "pause", NULL, 204, NULL);
		expect_answer(f, "PUT", "resume", NULL, 204, NULL);
		expect_answer(f, "PUT", "power-button", NULL, 204, NULL);
		/* Not there, or no VFIO at all: it is said, and not died of. */
		expect_answer(f, "PUT", "add-device", "{\"device\": \"0000:fe:1f.7\"}", 404, NULL);
		snprintf(body, sizeof(body), "{\"path\": \"%s\"}", f->elsewhere);
		/* A jail does not show it; Landlock refuses it. */
		expect_answer(f, "PUT", "add-disk", body, f->jail[0] ? 404 : 403,
			      f->jail[0] ? "disk-missing" : "disk-readonly");
		snprintf(body, sizeof(body), "{\"path\": \"%s\"}", f->later);
		expect_answer(f, "PUT", "add-disk", body, 200, NULL);
		expect_answer(f, "PUT", "remove-device",
			      "{\"id\": \"virtio-blk(later)\", \"force\": true}", 204, NULL);
		expect_answer(f, "PUT", "reset", NULL, 204, NULL);
		await_text(f, f->said, "reset");
		usleep(300000);
	}
	stop_vmm(f);
}

/* Until "@text" came from the console @fd, which is waited for. */
static void await_said(const struct fixture *f, int fd, const char *text)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char said[4096] = "";
	size_t length = 0;

	while (!strstr(said, text)) {
		ssize_t n = poll(&p, 1, READY_MS) == 1
				    ? read(fd, said + length, sizeof(said) - 1 - length)
				    : 0;

		if (n <= 0) {
			say(f);
			fail_msg("the console said \"%s\", not \"%s\"", said, text);
		}
		length += (size_t)n;
		said[length] = '\0';
	}
}

/* It is there for one at a time, over resets, and its name goes with it. */
static void the_console_waits_at_its_socket(struct fixture *f)
{
	char who[64], byte;
	int fd, second;

	f->with_console = f->with_control = true;
	f->guest = "irq";
	start_vmm(f);
	for (unsigned waited = 0; waited < READY_MS && access(f->console, F_OK); waited += 20)
		usleep(20000);
	fd = http_connect(f->console);
	assert_true(fd >= 0);
	await_said(f, fd, "ready");
	second = http_connect(f->console);
	assert_true(second >= 0);
	snprintf(who, sizeof(who), "in use by process %d of user %u", getpid(), getuid());
	await_said(f, second, who);
	close(second);
	assert_int_equal(write(fd, "typed\r", 6), 6);
	expect_answer(f, "PUT", "reset", NULL, 204, NULL);
	await_said(f, fd, "ready");
	close(fd);
	/* Whoever comes later hears what was said before. */
	fd = http_connect(f->console);
	await_said(f, fd, "ready");
	stop_vmm(f);
	while (read(fd, &byte, 1) > 0)
		;
	close(fd);
	/* The folder is not a jailed VMM's. */
	assert_int_equal(access(f->console, F_OK), f->jail[0] ? 0 : -1);
}

static void a_confined_vmm_serves_its_console(void **state)
{
	the_console_waits_at_its_socket(need(state));
}

static void a_jailed_vmm_serves_its_console(void **state)
{
	struct fixture *f = need(state);

	if (geteuid()) {
		print_message("skipped: a jail needs root\n");
		skip();
	}
	strcpy(f->jail, "uid=54321,gid=54322");
	the_console_waits_at_its_socket(f);
}

static void a_confined_vmm_obeys_its_control_socket(void **state)
{
	struct fixture *f = need(state);

	commands_are_obeyed_and_devices_come_and_go(f);
	assert_int_equal(access(f->control, F_OK), -1); /* its name went with it */
}

static void a_jailed_vmm_obeys_its_control_socket(void **state)
{
	struct fixture *f = need(state);

	if (geteuid()) {
		print_message("skipped: a jail needs root\n");
		skip();
	}
	strcpy(f->jail, "uid=54321");
	commands_are_obeyed_and_devices_come_and_go(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_thread_is_confined_and_every_descriptor_expected),
		TEST(a_guest_resets_again_and_again_with_nothing_missing),
		TEST(a_jailed_vmm_is_another_user_in_an_empty_root),
		TEST(a_confined_vmm_obeys_its_control_socket),
		TEST(a_confined_vmm_serves_its_console),
		TEST(a_jailed_vmm_serves_its_console),
		TEST(a_jailed_vmm_obeys_its_control_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
