// SPDX-License-Identifier: Apache-2.0
/*
 * divvy as a person runs it: an instance without a daemon, and instances of a daemon, started here with folders of its own. The freestanding guest is
 * the guest; a quarter of whatever Vulkan offers is its GPU.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "tests/unit/build_folder.h"

#define WAIT_MS 30000

struct fixture {
	char build[4096], folder[32], run[64];
	pid_t daemon;
};

/* Exit status of a shell's line, with $DIVVY, $FOLDER and $IMAGE; what it said, both ways, in @said. */
static int shell(struct fixture *f, char said[16384], const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int shell(struct fixture *f, char said[16384], const char *fmt, ...)
{
	char line[2048];
	va_list ap;
	FILE *out;
	size_t n;
	int status;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	out = popen(line, "r");
	assert_non_null(out);
	n = fread(said, 1, 16383, out);
	said[n] = '\0';
	status = pclose(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void expect(struct fixture *f, int status, const char *text, const char *words)
{
	char said[16384];
	const int got = shell(f, said, "timeout 120 $DIVVY %s 2>&1", words);

	if (got != status || !strstr(said, text))
		fail_msg("divvy %s: %d, not %d, or no \"%s\": %s", words, got, status, text, said);
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[2 * PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "we");
	if (!file) {
		fail_msg("%s: %s", path, strerror(errno));
		return;
	}
	fputs(text, file);
	fclose(file);
}

/* What the guest does. */
static void guest(struct fixture *f, const char *what)
{
	char text[4300], image[64];

	snprintf(text, sizeof(text),
		 "kernel %s/guest-drivers/testguest/testguest.elf\ncmdline %s\n", f->build, what);
	snprintf(image, sizeof(image), "%s/image", f->folder);
	write_file(image, "guest.conf", text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[5000], said[16384];

	if (!f)
		return -1;
	assert_true(build_folder(f->build, sizeof(f->build)));
	strcpy(f->folder, "/tmp/divvy-test-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(path, sizeof(path), "%s/divvy", f->build);
	setenv("DIVVY", path, 1);
	setenv("FOLDER", f->folder, 1);
	setenv("XDG_STATE_HOME", f->folder, 1);
	setenv("XDG_RUNTIME_DIR", f->folder, 1);
	setenv("DIVVY_API", "", 1);
	assert_int_equal(shell(f, said, "mkdir $FOLDER/image $FOLDER/types"), 0);
	snprintf(path, sizeof(path), "%s/types", f->folder);
	write_file(
		path, "t.yaml",
		"- {name: t1.quarter, vcpus: 1, memory_mib: 64, gpus: [{mode: shared, partition: 1/4, policy: fixed_share}]}\n"
		"- {name: t1.weight, vcpus: 1, memory_mib: 64, gpus: [{mode: shared, partition: 1/8, policy: weighted, weight: 100}]}\n");
	*state = f;
	return 0;
}

/* Processes that bear the mark of a node whose state is in our folder. */
static unsigned marked(const struct fixture *f, bool kill_them)
{
	char path[300], mark[64], environment[8192];
	const struct dirent *entry;
	DIR *dir = opendir("/proc");
	unsigned count = 0;

	assert_non_null(dir);
	snprintf(mark, sizeof(mark), "DIVVY_NODE=%s", f->folder);
	while ((entry = readdir(dir))) {
		ssize_t n;
		int fd;

		if (atoi(entry->d_name) <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/environ", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? 0 : read(fd, environment, sizeof(environment));
		fd_close(&fd);
		if (n > 0 && memmem(environment, (size_t)n, mark, strlen(mark))) {
			count++;
			if (kill_them)
				kill(atoi(entry->d_name), SIGKILL);
		}
	}
	closedir(dir);
	return count;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char said[16384];

	if (f->daemon > 0) {
		kill(f->daemon, SIGKILL);
		waitpid(f->daemon, NULL, 0);
	}
	for (unsigned i = 0; i < 100 && marked(f, true); i++)
		usleep(20000);
	if (shell(f, said, "rm -rf $FOLDER"))
		return -1;
	free(f);
	return 0;
}

static struct fixture *need(void **state)
{
	char said[16384];
	struct fixture *f = *state;

#ifdef __SANITIZE_ADDRESS__
	print_message(
		"skipped: a sanitizer is built into the layer, which the render server is not\n");
	skip();
#endif
	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	if (shell(f, said, "$DIVVY list gpus --json | grep -q vulkan")) {
		print_message("skipped: no GPU can be shared\n");
		skip();
	}
	return f;
}

static void expect_nothing_left(struct fixture *f)
{
	char said[16384];
	unsigned left = 1;

	for (unsigned waited = 0; waited < WAIT_MS && left; waited += 20) {
		left = marked(f, false);
		shell(f, said, "ls -d $FOLDER/divvy* 2>/dev/null");
		left += said[0] != '\0';
		usleep(20000);
	}
	if (left)
		fail_msg("left behind: %u processes, %s", marked(f, false), said);
}

#define RUN "run --type t1.quarter --types $FOLDER/types --image $FOLDER/image </dev/null"

/* ---- without a daemon ----------------------------------------------------------------------- */

static void an_instance_without_a_daemon_ends_with_its_guest(void **state)
{
	struct fixture *f = need(state);

	guest(f, "hello");
	expect(f, 0, "testguest: hello", RUN);
	expect_nothing_left(f);
}

static void what_is_wrong_is_said_and_nothing_is_left(void **state)
{
	struct fixture *f = need(state);
	char image[64];

	guest(f, "hello");
	expect(f, 1, "error[no-such-type]: there is no instance type t9",
	       "run --type t9 --types $FOLDER/types --image $FOLDER/image");
	expect(f, 2, "no name of an instance", RUN " --name ../x");
	expect(f, 1, "a weight means nothing to t1.quarter", RUN " --weight 5");
	expect(f, 2, "image /nonexistent", "run --type t1.quarter --image /nonexistent");
	expect(f, 1, "is no image: guest.conf: No such file",
	       "run --type t1.quarter --types $FOLDER/types --image $FOLDER");
	snprintf(image, sizeof(image), "%s/image", f->folder);
	write_file(image, "guest.conf", "kernel nothing\n");
	expect(f, 1, "kernel-missing", RUN);
	write_file(image, "guest.conf", "sandbox off\n");
	expect(f, 1, "no word that an image may say", RUN);
	expect_nothing_left(f);
}

/* Started in the background and ended by @number once its guest has spoken. */
static int run_and_end(struct fixture *f, int number)
{
	char out[64], text[4096];
	pid_t pid = fork();
	int status;

	snprintf(out, sizeof(out), "%s/out", f->folder);
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sh", "sh", "-c", "exec $DIVVY " RUN " >$FOLDER/out 2>&1", NULL);
		_exit(127);
	}
	for (unsigned waited = 0; waited < WAIT_MS; waited += 20) {
		if (file_read(AT_FDCWD, out, text, sizeof(text)) > 0 && strstr(text, "ready"))
			break;
		usleep(20000);
	}
	if (!strstr(text, "ready"))
		fail_msg("it said: %s", text);
	assert_true(marked(f, false) >= 5);
	kill(pid, number);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void who_ends_it_ends_all_of_it(void **state)
{
	struct fixture *f = need(state);

	guest(f, "irq");
	assert_int_equal(run_and_end(f, SIGTERM), 0);
	expect_nothing_left(f);
	/* Not even time for a last word: the guardian sees to it. */
	assert_int_equal(run_and_end(f, SIGKILL), 128 + SIGKILL);
	expect_nothing_left(f);
}

/* ---- with one --------------------------------------------------------------------------------- */

static void daemon_start(struct fixture *f)
{
	char program[5000], api[80];

	snprintf(program, sizeof(program), "%s/divvyd", f->build);
	snprintf(api, sizeof(api), "%s/r/api", f->folder);
	setenv("DIVVY_API", api, 1);
	setenv("DIVVYD", program, 1);
	f->daemon = fork();
	assert_true(f->daemon >= 0);
	if (!f->daemon) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sh", "sh", "-c",
		      "exec $DIVVYD --state $FOLDER/s --run $FOLDER/r --types $FOLDER/types --config $FOLDER/types/../c >$FOLDER/log 2>&1",
		      NULL);
		_exit(127);
	}
	for (unsigned waited = 0; waited < WAIT_MS && access(api, F_OK); waited += 20)
		usleep(20000);
}

static void instances_live_and_die_by_the_daemon(void **state)
{
	struct fixture *f = need(state);
	char said[16384];

	write_file(f->folder, "c", "placement: spread\n");
	guest(f, "irq");
	daemon_start(f);
	expect(f, 0, "no instances", "list instances");
	expect(f, 0, "t1.quarter", "types");
	expect(f, 0, "web: defined, t1.quarter",
	       "create web --type t1.quarter --image $FOLDER/image");
	expect(f, 1, "error[instance-exists]",
	       "create web --type t1.quarter --image $FOLDER/image --new");
	expect(f, 0, "web: running", "start web");
	expect(f, 0, "web: running", "start web");
	expect(f, 0, "\"state\": \"running\"", "show instance web --json");
	expect(f, 0, "running", "list instances");
	expect(f, 0, "25 %", "list gpus");
	expect(f, 0, "web/0", "top --once");
	expect(f, 1, "error[instance-running]", "delete web");
	/* What the guest said is there for who comes later; nothing is typed. */
	assert_int_equal(shell(f, said, "timeout 60 $DIVVY console web </dev/null | head -c 5"), 0);
	assert_non_null(strstr(said, "ready"));
	/* One at a time; who comes second learns who is first. */
	assert_int_equal(
		shell(f, said,
		      "$DIVVY console web </dev/null >$FOLDER/first & first=$!; "
		      "until grep -q ready $FOLDER/first; do sleep 0.1; done; "
		      "$DIVVY console web </dev/null 2>&1; status=$?; kill $first; exit $status"),
		1);
	assert_non_null(
		strstr(said, "error[console-in-use]: the console of web is in use by process "));
	expect(f, 0, "heavy: running",
	       "create heavy --type t1.weight --image $FOLDER/image --weight 300 --start");
	expect(f, 0, "heavy: running", "share heavy --weight 50");
	expect(f, 0, "\"weight\": 50", "show heavy --json");
	expect(f, 0, "w50", "top --once");
	expect(f, 0, "web: stopped", "stop web heavy --force");
	expect(f, 0, "web: deleted", "delete web heavy");
	expect(f, 1, "error[no-such-name]", "show web");
	expect(f, 1, "t1.quater; is it t1.quarter?", "show t1.quater");
	expect(f, 1, "error[no-such-type]: there is no instance type t1.quater; is it t1.quarter?",
	       "show type t1.quater");
	expect(f, 0, "deleted", "events --since 0 --no-follow");
	expect(f, 0, "bytes", "backup $FOLDER/b.db");
	expect(f, 1, "error[", "backup $FOLDER/b.db");
	expect(f, 0, "drained", "drain software-0");
	expect(f, 1, "drained", "run --type t1.quarter --image $FOLDER/image </dev/null");
	expect(f, 0, "software-0", "undrain software-0");
	expect(f, 1, "error[", "start nowhere");
}

static void a_transient_instance_of_the_daemon_has_its_console_here(void **state)
{
	struct fixture *f = need(state);
	char said[16384];

	write_file(f->folder, "c", "placement: pack\n");
	guest(f, "irq");
	daemon_start(f);
	/* Standard input's end is no end of the instance; the daemon goes on with it when we leave. */
	assert_int_equal(
		shell(f, said,
		      "timeout 60 $DIVVY run --name tmp --type t1.quarter --image $FOLDER/image </dev/null | head -c 5"),
		0);
	assert_non_null(strstr(said, "ready"));
	expect(f, 0, "running", "list instances");
	expect(f, 0, "", "stop tmp --force --no-wait");
	for (unsigned waited = 0; waited < WAIT_MS; waited += 100) {
		shell(f, said, "$DIVVY list instances");
		if (strstr(said, "no instances"))
			return;
		usleep(100000);
	}
	fail_msg("it is still there: %s", said);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_instance_without_a_daemon_ends_with_its_guest),
		TEST(what_is_wrong_is_said_and_nothing_is_left),
		TEST(who_ends_it_ends_all_of_it),
		TEST(instances_live_and_die_by_the_daemon),
		TEST(a_transient_instance_of_the_daemon_has_its_console_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
