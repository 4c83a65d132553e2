// SPDX-License-Identifier: Apache-2.0
/*
 * A running divvy-vmm, closed in as it always is, and commands through its control socket. The
 * freestanding guest in it sleeps on the host's own /dev/kvm and drives no slot, so that devices leave
 * by force; a stock guest that gives them up is in the rig.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "hypervisor-glue/sandbox.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/http_client.h"

#define API	"/api/v1/vm."
#define WAIT_MS 20000
#define SLEEPS	"irq count=1000000 vector=64"
#define USER_ID "vfio-user:device"

struct fixture {
	char build[4096]; /* where the programs are */
	char folder[32];
	char control[64], socket[64], serial[64], said[64], disk[64];
	pid_t vmm, server;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	assert_true(build_folder(f->build, sizeof(f->build)));
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->control, sizeof(f->control), "%s/control", f->folder);
	snprintf(f->socket, sizeof(f->socket), "%s/device", f->folder);
	snprintf(f->serial, sizeof(f->serial), "%s/serial", f->folder);
	snprintf(f->said, sizeof(f->said), "%s/stderr", f->folder);
	snprintf(f->disk, sizeof(f->disk), "%s/disk", f->folder);
	*state = f;
	return 0;
}

static void end(pid_t *pid)
{
	if (*pid <= 0)
		return;
	kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];

	end(&f->vmm);
	end(&f->server);
	snprintf(command, sizeof(command), "rm -r %s", f->folder);
	if (system(command))
		return -1;
	free(f);
	return 0;
}

static void say_and_fail(const struct fixture *f, const char *what)
{
	char text[8192] = "";

	file_read(AT_FDCWD, f->said, text, sizeof(text));
	fail_msg("%s: %s", what, text);
}

static pid_t spawn(char *const *arguments, const char *out)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), STDERR_FILENO) < 0 ||
	    dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		_exit(126);
	execv(arguments[0], arguments);
	_exit(127);
}

static void await_text(const struct fixture *f, const char *path, const char *text, unsigned count)
{
	char now[4096];

	for (unsigned waited = 0; waited < WAIT_MS; waited += 10) {
		unsigned found = 0;

		if (file_read(AT_FDCWD, path, now, sizeof(now)) >= 0)
			for (const char *at = now; (at = strstr(at, text)); at++)
				found++;
		if (found >= count)
			return;
		usleep(10000);
	}
	say_and_fail(f, text);
}

static struct fixture *start(void **state, const char *guest, const char *extra)
{
	struct fixture *f = *state;
	char program[5000], kernel[5000], serial[80], server[5000], out[80];
	char *arguments[] = {
		program,
		(char[]){ "--kernel" },
		kernel,
		(char[]){ "--cmdline" },
		(char *)(uintptr_t)guest,
		(char[]){ "--memory" },
		(char[]){ "64M" },
		(char[]){ "--control" },
		f->control,
		(char[]){ "--serial" },
		serial,
		(char *)(uintptr_t)extra,
		NULL,
	};
	char *offered[] = { server, f->socket, (char[]){ "rng" }, NULL };

	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	snprintf(server, sizeof(server), "%s/tests/rig/vfio_user_server", f->build);
	snprintf(out, sizeof(out), "%s/server", f->folder);
	f->server = spawn(offered, out);
	await_text(f, out, "listening", 1);
	snprintf(program, sizeof(program), "%s/divvy-vmm", f->build);
	snprintf(kernel, sizeof(kernel), "%s/guest-drivers/testguest/testguest.elf", f->build);
	snprintf(serial, sizeof(serial), "file:%s", f->serial);
	f->vmm = spawn(arguments, f->said);
	await_text(f, f->serial, "ready", 1);
	return f;
}

/* Ends by itself with 0, without a word of error, and takes the socket's name along. */
static void expect_end(struct fixture *f)
{
	char text[8192] = "";
	struct stat st;
	int status = 1;

	for (unsigned waited = 0; waited < WAIT_MS && !waitpid(f->vmm, &status, WNOHANG);
	     waited += 10)
		usleep(10000);
	file_read(AT_FDCWD, f->said, text, sizeof(text));
	if (!WIFEXITED(status) || WEXITSTATUS(status) || strstr(text, "error"))
		fail_msg("status 0x%x: %s", status, text);
	f->vmm = 0;
	assert_int_equal(lstat(f->control, &st), -1);
}

static unsigned command(const struct fixture *f, const char *name, const char *body)
{
	char resource[64];
	json_t *answer;
	unsigned status;

	snprintf(resource, sizeof(resource), API "%s", name);
	status = http(f->control, "PUT", resource, body, &answer);
	if (!status)
		say_and_fail(f, name);
	json_decref(answer);
	return status;
}

/* What info says of a device's @key; "" when there is no such device. */
static void device_fact(const struct fixture *f, const char *id, const char *key, char fact[64])
{
	json_t *body, *device;
	size_t index;

	fact[0] = '\0';
	assert_int_equal(http(f->control, "GET", API "info", NULL, &body), 200);
	json_array_foreach(
		json_object_get(body, "devices"), index,
		device) if (!strcmp(json_string_value(json_object_get(device, "id")), id))
		snprintf(fact, 64, "%s", json_string_value(json_object_get(device, key)));
	json_decref(body);
}

static void expect_device(const struct fixture *f, const char *id, const char *key,
			  const char *expected)
{
	char fact[64];

	device_fact(f, id, key, fact);
	assert_string_equal(fact, expected);
}

static unsigned entries_now(const struct fixture *f, const char *folder)
{
	char path[64];
	unsigned count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/%s", f->vmm, folder);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Once the connection of the last request is gone. */
static unsigned entries(const struct fixture *f, const char *folder)
{
	unsigned least = entries_now(f, folder);

	for (unsigned i = 0; i < 20; i++) {
		usleep(10000);
		least = MIN(least, entries_now(f, folder));
	}
	return least;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void facts_are_told_and_the_vm_ends_when_it_is_told_to(void **state)
{
	struct fixture *f = start(state, SLEEPS, NULL);
	json_t *body, *exits;
	struct stat st;

	assert_int_equal(lstat(f->control, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(http(f->control, "GET", API "info", NULL, &body), 200);
	assert_string_equal(json_string_value(json_object_get(body, "name")), "vm");
	assert_string_equal(json_string_value(json_object_get(body, "state")), "running");
	assert_int_equal(json_integer_value(json_object_get(body, "memory_bytes")), 64 * MIB);
	assert_int_equal(json_integer_value(json_object_get(body, "pid")), f->vmm);
	json_decref(body);
	expect_device(f, "virtio-rng", "guest_address", "0000:00:01.0");
	assert_int_equal(http(f->control, "GET", API "counters", NULL, &body), 200);
	exits = json_object_get(body, "exits");
	assert_true(json_integer_value(json_object_get(exits, "port")) > 0);
	assert_int_equal(json_integer_value(json_object_get(body, "resets")), 0);
	json_decref(body);
	assert_int_equal(command(f, "shutdown", NULL), 204);
	expect_end(f);
}

static void pause_and_resume_fit_the_state(void **state)
{
	struct fixture *f = start(state, SLEEPS, NULL);
	json_t *body;

	assert_int_equal(command(f, "resume", NULL), 409);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(command(f, "pause", NULL), 204);
		assert_int_equal(http(f->control, "PUT", API "pause", NULL, &body), 409);
		http_expect_code(body, "wrong-state");
		assert_int_equal(command(f, "power-button", NULL), 409);
		assert_int_equal(command(f, "resume", NULL), 204);
	}
	assert_int_equal(command(f, "power-button", NULL), 204);
	assert_int_equal(command(f, "pause", NULL), 204);
	assert_int_equal(command(f, "shutdown", NULL), 204);
	expect_end(f);
}

static void devices_come_and_go_and_leave_nothing(void **state)
{
	struct fixture *f = start(state, SLEEPS, NULL);
	char add[128];
	unsigned fds = 0, threads = 0;

	snprintf(add, sizeof(add), "{\"socket\": \"%s\"}", f->socket);
	for (unsigned round = 0; round < 20; round++) {
		assert_int_equal(command(f, "add-user-device", add), 200);
		expect_device(f, USER_ID, "kind", "vfio-user");
		expect_device(f, USER_ID, "guest_address", "0000:01:00.0");
		assert_int_equal(
			command(f, "remove-device", "{\"id\": \"" USER_ID "\", \"force\": true}"),
			204);
		expect_device(f, USER_ID, "kind", "");
		if (round == 1) {
			fds = entries(f, "fd");
			threads = entries(f, "task");
		}
	}
	assert_int_equal(entries(f, "fd"), fds);
	assert_int_equal(entries(f, "task"), threads);
	assert_int_equal(command(f, "remove-device", "{\"id\": \"" USER_ID "\"}"), 404);
	assert_int_equal(command(f, "remove-device", "{\"id\": \"virtio-rng\"}"), 409);
	assert_int_equal(command(f, "shutdown", NULL), 204);
	expect_end(f);
}

static void a_guest_that_does_not_answer_keeps_its_device_for_a_time(void **state)
{
	struct fixture *f = start(state, SLEEPS, NULL);
	char add[128], now[64];

	snprintf(add, sizeof(add), "{\"socket\": \"%s\"}", f->socket);
	assert_int_equal(command(f, "add-user-device", add), 200);
	/* Nobody gave its slot power, so nobody is to be asked. */
	assert_int_equal(command(f, "remove-device", "{\"id\": \"" USER_ID "\"}"), 204);

	/* One that is there from a life's start has power. */
	assert_int_equal(command(f, "add-user-device", add), 200);
	assert_int_equal(command(f, "reset", NULL), 204);
	await_text(f, f->serial, "ready", 2);
	assert_int_equal(command(f, "remove-device", "{\"id\": \"" USER_ID "\", \"timeout_s\": 1}"),
			 202);
	expect_device(f, USER_ID, "state", "leaving");
	assert_int_equal(command(f, "remove-device", "{\"id\": \"" USER_ID "\"}"), 409);
	for (unsigned waited = 0; waited < WAIT_MS; waited += 10) {
		device_fact(f, USER_ID, "state", now);
		if (!strcmp(now, "present"))
			break;
		usleep(10000);
	}
	assert_string_equal(now, "present");

	/* Asked and then reset: it is gone in the next life. */
	assert_int_equal(command(f, "remove-device", "{\"id\": \"" USER_ID "\"}"), 202);
	assert_int_equal(command(f, "reset", NULL), 204);
	await_text(f, f->serial, "ready", 3);
	expect_device(f, USER_ID, "state", "");
	assert_int_equal(command(f, "shutdown", NULL), 204);
	expect_end(f);
}

static void what_cannot_be_added_says_why(void **state)
{
	struct fixture *f = start(state, SLEEPS, NULL);
	unsigned fds = entries(f, "fd");
	char add[256];
	json_t *body;
	FILE *disk;

	assert_int_equal(http(f->control, "PUT", API "add-device", "{\"device\": \"x\"}", &body),
			 400);
	http_expect_code(body, "bad-value");
	/* Where there is no VFIO, no address space can be opened; else there is no such device. */
	assert_true(command(f, "add-device", "{\"device\": \"00ff:ff:1f.7\"}") >= 400);
	assert_int_equal(
		http(f->control, "PUT", API "add-user-device", "{\"socket\": \"/none\"}", &body),
		404);
	http_expect_code(body, "no-vfio-user-socket");
	disk = fopen(f->disk, "w");
	assert_non_null(disk);
	assert_int_equal(ftruncate(fileno(disk), (off_t)MIB), 0);
	fclose(disk);
	snprintf(add, sizeof(add), "{\"path\": \"%s\"}", f->disk);
	assert_true(command(f, "add-disk", add) >= 400 || SANDBOX_SANITIZED); /* paths are closed */
	if (!SANDBOX_SANITIZED)
		assert_int_equal(entries(f, "fd"), fds);
	assert_int_equal(command(f, "shutdown", NULL), 204);
	expect_end(f);
}

static void a_disk_can_be_added_where_paths_are_open(void **state)
{
	struct fixture *f = start(state, SLEEPS, "--sandbox=off");
	char add[256];
	FILE *disk = fopen(f->disk, "w");

	assert_non_null(disk);
	assert_int_equal(ftruncate(fileno(disk), (off_t)MIB), 0);
	fclose(disk);
	snprintf(add, sizeof(add), "{\"path\": \"%s\", \"readonly\": true}", f->disk);
	assert_int_equal(command(f, "add-disk", add), 200);
	expect_device(f, "virtio-blk(disk)", "guest_address", "0000:01:00.0");
	assert_int_equal(command(f, "add-disk", add), 409);
	assert_int_equal(
		command(f, "remove-device", "{\"id\": \"virtio-blk(disk)\", \"force\": true}"),
		204);
	assert_int_equal(command(f, "shutdown", NULL), 204);
	expect_end(f);
}

static void ports_are_as_many_as_asked_for(void **state)
{
	struct fixture *f = start(state, SLEEPS, "--hotplug-ports=0");
	char add[128];
	json_t *body;

	snprintf(add, sizeof(add), "{\"socket\": \"%s\"}", f->socket);
	assert_int_equal(http(f->control, "PUT", API "add-user-device", add, &body), 409);
	http_expect_code(body, "no-free-port");
	assert_int_equal(command(f, "shutdown", NULL), 204);
	expect_end(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(facts_are_told_and_the_vm_ends_when_it_is_told_to),
		TEST(pause_and_resume_fit_the_state),
		TEST(devices_come_and_go_and_leave_nothing),
		TEST(a_guest_that_does_not_answer_keeps_its_device_for_a_time),
		TEST(what_cannot_be_added_says_why),
		TEST(a_disk_can_be_added_where_paths_are_open),
		TEST(ports_are_as_many_as_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
