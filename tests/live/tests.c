// SPDX-License-Identifier: Apache-2.0
/*
 * `vkload test`: what Vulkan promises about submissions, each promise a test by name. Every test has a process of its own with a
 * device of its own and a time limit, so that one which hangs or dies costs one line.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/live/vkload.h"

static const struct live_test *const groups[] = { order_tests, wait_tests,   fence_tests,
						  share_tests, device_tests, frame_tests };

enum outcome {
	PASSED,
	FAILED,
	LEFT_OUT,
	OUTCOMES
};

static bool chosen(const struct load_options *options, const struct live_test *test)
{
	char **names = options->names;

	if (!names[0])
		return !test->only_by_name;
	for (; *names; names++)
		if (!strcmp(*names, test->name))
			return true;
	return false;
}

static enum outcome run_here(const struct load_options *options, const struct live_test *test)
{
	static struct vk vk;
	struct error e = { 0 };
	int err = vk_open(&vk, options->device, &e);

	if (!err)
		err = test->run(&vk, &e);
	if (!err || err == -ENOTSUP)
		vk_close(&vk);
	if (err)
		printf("%s %s: %s\n", err == -ENOTSUP ? "SKIP" : "FAIL", test->name, e.text);
	else
		printf("PASS %s\n", test->name);
	fflush(stdout);
	return err == -ENOTSUP ? LEFT_OUT : err ? FAILED : PASSED;
}

/* Its exit status, or -1 when it was not done in time and was ended. */
static int wait_for(pid_t pid, double limit_s)
{
	const uint64_t end = monotonic_ns() + (uint64_t)(limit_s * 1e9);
	const struct timespec pause = { .tv_nsec = 2000000 };
	int status;

	while (monotonic_ns() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		nanosleep(&pause, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

static enum outcome run_apart(const struct load_options *options, const struct live_test *test)
{
	pid_t pid = fork();
	int status;

	if (pid < 0) {
		printf("FAIL %s: fork: %s\n", test->name, strerror(errno));
		return FAILED;
	}
	/* Without exit handlers: after a failure the device may never be idle again. */
	if (!pid)
		_exit(run_here(options, test));
	status = wait_for(pid, options->limit_s);
	if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) < OUTCOMES)
		return (enum outcome)WEXITSTATUS(status);
	if (status >= 0 && WIFSIGNALED(status))
		printf("FAIL %s: it ended by signal %d\n", test->name, WTERMSIG(status));
	else if (status >= 0)
		printf("FAIL %s: exit status %d\n", test->name, WEXITSTATUS(status));
	else
		printf("FAIL %s: not done after %.0f s\n", test->name, options->limit_s);
	fflush(stdout);
	return FAILED;
}

int tests_run(const struct load_options *options, struct error *e)
{
	int count[OUTCOMES] = { 0 };

	for (size_t g = 0; g < ARRAY_SIZE(groups); g++)
		for (const struct live_test *test = groups[g]; test->name; test++) {
			if (!chosen(options, test))
				continue;
			if (options->list)
				puts(test->name);
			else
				count[(options->in_process ? run_here : run_apart)(options,
										   test)]++;
		}
	if (options->list)
		return 0;
	print_json(json_pack("{s:s, s:i, s:i, s:i}", "mode", "test", "passed", count[PASSED],
			     "failed", count[FAILED], "left_out", count[LEFT_OUT]));
	if (count[FAILED])
		return error_set(e, EPROTO, "tests", NULL, "%d of the tests failed", count[FAILED]);
	return count[PASSED] + count[LEFT_OUT]
		       ? 0
		       : error_set(e, ENOENT, "tests", NULL, "no test has such a name");
}
