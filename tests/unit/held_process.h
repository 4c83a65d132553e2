/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that a kill does not end yet, as when a driver has it in the kernel: it is let stop on its way out (ptrace(2), PTRACE_EVENT_EXIT), with
 * all that it has open, until the test lets it go. After cmocka.h.
 */
#ifndef TESTS_UNIT_HELD_PROCESS_H
#define TESTS_UNIT_HELD_PROCESS_H

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child of @parent, which has one at most; it is waited for. */
static inline pid_t held_find(pid_t parent)
{
	for (unsigned i = 0; i < 6000; i++) {
		DIR *folder = opendir("/proc");
		struct dirent *one;
		pid_t found = 0;

		while (folder && (one = readdir(folder)) && !found) {
			char path[300], text[512] = "";
			int of = 0;
			FILE *file;

			snprintf(path, sizeof(path), "/proc/%s/stat", one->d_name);
			file = atoi(one->d_name) > 0 ? fopen(path, "re") : NULL;
			if (!file)
				continue;
			if (fgets(text, sizeof(text), file) && strrchr(text, ')') &&
			    sscanf(strrchr(text, ')') + 1, " %*c %d", &of) == 1 && of == parent)
				found = atoi(one->d_name);
			fclose(file);
		}
		if (folder)
			closedir(folder);
		if (found)
			return found;
		usleep(10000);
	}
	fail_msg("process %d has no child", parent);
	return 0;
}

static inline void held_take(pid_t pid)
{
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, (void *)PTRACE_O_TRACEEXIT), 0);
}

/* It was killed. */
static inline void held_await(pid_t pid)
{
	pid_t changed = 0;
	int status = 0;

	for (unsigned i = 0; i < 2000 && !changed; i++) {
		usleep(10000);
		changed = waitpid(pid, &status, __WALL | WNOHANG);
	}
	assert_int_equal(changed, pid);
	assert_int_equal(status >> 8, SIGTRAP | PTRACE_EVENT_EXIT << 8);
}

static inline void held_let_go(pid_t pid)
{
	assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
}

#endif
