// SPDX-License-Identifier: Apache-2.0
/*
 * The real programs: `divvy run-native` with an arbiter of its own, and `divvy-vgpu` under it. What cannot be is one line with a code and what to do;
 * what can be runs, closed in, as who it was told to be, and leaves nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/sandbox.h"
#include "tests/unit/build_folder.h"

#define WORDS_MAX 32
#define NOBODY	  54321
#define CPU_GPU	  "/usr/share/vulkan/icd.d/lvp_icd.json"

static char build[PATH_MAX], folder[64], said[32768];

/* Starts "divvy run-native WORDS -- divvy-vgpu --socket ... OPTIONS"; what both say comes to *from. */
static pid_t start(const char *words, const char *options, const char *driver, bool as_nobody,
		   int *from)
{
	char line[4 * PATH_MAX], *argv[WORDS_MAX + 1] = { NULL }, *save = NULL;
	int ends[2];
	unsigned count = 0;
	pid_t pid;

	snprintf(line, sizeof(line),
		 "%s/divvy run-native --embedded %s -- %s/divvy-vgpu --socket %s/sock %s", build,
		 words, build, folder, options);
	for (char *word = strtok_r(line, " ", &save); word && count < WORDS_MAX;
	     word = strtok_r(NULL, " ", &save))
		argv[count++] = word;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		setenv("VK_DRIVER_FILES", driver, 1);
		unsetenv("XDG_RUNTIME_DIR");
		if (as_nobody && (setgid(NOBODY) || setuid(NOBODY)))
			_exit(9);
		execv(argv[0], argv);
		_exit(127);
	}
	close(ends[1]);
	*from = ends[0];
	return pid;
}

static void listen_to(int from, const char *until)
{
	size_t length = 0;
	ssize_t got = 1;

	said[0] = '\0';
	while (got > 0 && !(until && strstr(said, until))) {
		struct pollfd poller = { .fd = from, .events = POLLIN };

		/* Long enough for any machine. */
		if (poll(&poller, 1, 100000) != 1)
			fail_msg("it says nothing more after: %s", said);
		got = read(from, said + length, sizeof(said) - 1 - length);
		length += (size_t)MAX(got, 0);
		said[length] = '\0';
	}
}

/* It does not start: @code, and in the same line @next. */
static void expect_refusal_of(const char *words, const char *options, const char *driver,
			      bool as_nobody, const char *code, const char *next)
{
	char wanted[64], *line, *end;
	int from, status;
	pid_t pid = start(words, options, driver, as_nobody, &from);

	listen_to(from, NULL);
	close(from);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	snprintf(wanted, sizeof(wanted), "error[%s]", code);
	line = strstr(said, wanted);
	if (!line || !WIFEXITED(status) || !WEXITSTATUS(status))
		fail_msg("%s %s: status %#x: %s", words, options, status, said);
	/* The one line that tells of an error. */
	assert_null(strstr(line + 1, "error["));
	end = strchr(line, '\n');
	assert_non_null(end);
	*end = '\0';
	if (!strstr(line, "(next: ") || !strstr(line, next))
		fail_msg("%s", line);
}

static void expect_refusal(const char *words, const char *options, const char *code,
			   const char *next)
{
	expect_refusal_of(words, options, CPU_GPU, false, code, next);
}

static void what_cannot_be_is_one_line_with_a_code_and_what_to_do(void **state)
{
	expect_refusal("--policy turbo", "", "bad-value", "divvy run-native --help");
	expect_refusal("--memory-quota 900000G", "", "quota-too-large", "--memory-quota");
	expect_refusal("--gpu nvidia", "", "no-such-gpu", "--gpu NAME");
	expect_refusal_of("", "", "/nonexistent.json", false, "no-vulkan-device",
			  "mesa-vulkan-drivers");
	expect_refusal("", "--heads ,", "usage", "--help");
	expect_refusal("", "--heads 640x480,640x480,640x480,640x480,640x480", "usage", "--help");
	expect_refusal("", "--heads 9x9", "bad-config", "640x480 to 4096x2160");
	expect_refusal("", "--window 3M", "bad-config", "a power of two");
	expect_refusal("", "--nonsense", "usage", "--help");
	expect_refusal("", "--jail uid=0", "usage", "--help");
	expect_refusal("", "--jail uid=4242", "bad-config", "--render-jail");
	expect_refusal("", "--register-within 0", "usage", "--help");
	expect_refusal("", "--render-server /nonexistent/server", "no-render-server",
		       "virgl-server");
	expect_refusal("", "--render-node /nonexistent/node", "gpu-node", "--render-node");
	expect_refusal("", "--render-node /etc/passwd", "no-gpu-node", "/dev/dri");
}

static void who_has_no_right_is_told_which(void **state)
{
	char node[80], option[112];

	if (geteuid()) {
		print_message("skipped: it takes root to become nobody\n");
		skip();
	}
	snprintf(node, sizeof(node), "%s/node", folder);
	snprintf(option, sizeof(option), "--render-node %s", node);
	/* As a GPU's is for who is not of its group. */
	assert_int_equal(mknod(node, S_IFCHR | 0600, makedev(1, 3)), 0);
	expect_refusal_of("", option, CPU_GPU, true, "gpu-node", "usermod -aG render");
	unlink(node);
	expect_refusal_of("", "--jail uid=4242 --render-jail uid=4343", CPU_GPU, true,
			  "render-jail", "root");
}

/* ---- what runs --------------------------------------------------------------------------------- */

/* The number after @name in /proc/PID/status. */
static unsigned long long status_of(pid_t pid, const char *name, int base)
{
	char path[64], text[4096], *at;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	length = file_read(AT_FDCWD, path, text, sizeof(text));
	assert_true(length > 0);
	at = strstr(text, name);
	assert_non_null(at);
	return strtoull(at + strlen(name), NULL, base);
}

/* A child of @parent that is called so. */
static pid_t child_of(pid_t parent, const char *name)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	pid_t found = 0;

	assert_non_null(dir);
	while (!found && (entry = readdir(dir))) {
		char path[64], text[512], comm[64];
		const char *close_at;
		pid_t its_parent;

		snprintf(path, sizeof(path), "/proc/%.20s/stat", entry->d_name);
		if (atoi(entry->d_name) <= 0 || file_read(AT_FDCWD, path, text, sizeof(text)) < 0)
			continue;
		close_at = strrchr(text, ')');
		if (!close_at || sscanf(close_at, ") %*c %d", &its_parent) != 1 ||
		    its_parent != parent)
			continue;
		snprintf(comm, sizeof(comm), "%.*s", (int)(close_at - strchr(text, '(') - 1),
			 strchr(text, '(') + 1);
		if (!strcmp(comm, name))
			found = atoi(entry->d_name);
	}
	closedir(dir);
	return found;
}

static void expect_closed(pid_t pid, unsigned user, bool filtered)
{
	assert_int_equal(status_of(pid, "Uid:", 10), user);
	assert_int_equal(status_of(pid, "CapEff:", 16), 0);
	assert_int_equal(status_of(pid, "CapPrm:", 16), 0);
	assert_int_equal(status_of(pid, "NoNewPrivs:", 10), 1);
	if (filtered)
		assert_int_equal(status_of(pid, "Seccomp:", 10), 2);
}

static bool same_network(pid_t a, pid_t b)
{
	struct stat first, second;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", a);
	assert_int_equal(stat(path, &first), 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", b);
	assert_int_equal(stat(path, &second), 0);
	return first.st_ino == second.st_ino;
}

static void run_closed_in(const char *options, unsigned user, unsigned render_user)
{
	char path[128];
	pid_t vgpu = 0, warden = 0, server = 0, pid;
	int from, status;
	struct stat st;

	pid = start("", options, CPU_GPU, false, &from);
	/* Where the only GPU is the CPU, that is said. */
	listen_to(from, "renders on the CPU");
	snprintf(path, sizeof(path), "%s/sock", folder);
	for (unsigned i = 0; i < 20000 && !server; i++) {
		usleep(5000);
		vgpu = child_of(pid, "divvy-vgpu");
		warden = vgpu ? child_of(vgpu, "divvy-warden") : 0;
		server = warden ? child_of(warden, "virgl_render_se") : 0;
	}
	assert_true(server > 0);
	/* The filter of the first thread is the last step. */
	for (unsigned i = 0; i < 20000 && !SANDBOX_SANITIZED && !status_of(vgpu, "Seccomp:", 10);
	     i++)
		usleep(5000);
	assert_int_equal(stat(path, &st), 0);
	expect_closed(vgpu, user, !SANDBOX_SANITIZED);
	expect_closed(warden, render_user, false);
	expect_closed(server, render_user, true);
	assert_false(same_network(server, pid));
	assert_int_equal(same_network(vgpu, pid), user == geteuid());
	kill(vgpu, SIGTERM);
	listen_to(from, NULL);
	close(from);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status)
		fail_msg("status %#x: %s", status, said);
	/* Nobody is left. */
	assert_int_equal(kill(server, 0), -1);
	assert_int_equal(kill(warden, 0), -1);
	if (user == geteuid())
		assert_int_equal(stat(path, &st), -1);
	unlink(path);
}

static void it_runs_closed_in(void **state)
{
	run_closed_in("", geteuid(), geteuid());
}

static void in_its_jail_it_is_two_users(void **state)
{
	if (geteuid() || SANDBOX_SANITIZED) {
		print_message(
			"skipped: it takes root to become others, and no sanitizer to live in an empty root\n");
		skip();
	}
	run_closed_in("--jail uid=54321 --render-jail uid=54322", 54321, 54322);
}

static int make_folder(void **state)
{
	strcpy(folder, "/tmp/test-vgpu-XXXXXX");
	return !mkdtemp(folder) || chmod(folder, 0777);
}

static int remove_folder(void **state)
{
	return rmdir(folder);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_cannot_be_is_one_line_with_a_code_and_what_to_do),
		cmocka_unit_test(who_has_no_right_is_told_which),
		cmocka_unit_test(it_runs_closed_in),
		cmocka_unit_test(in_its_jail_it_is_two_users),
	};

	if (!build_folder(build, sizeof(build)))
		return 1;
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
