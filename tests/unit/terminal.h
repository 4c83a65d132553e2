/* SPDX-License-Identifier: Apache-2.0 */
/* divvy on a terminal: a pseudo-terminal for its output and its errors, so many columns wide. After cmocka.h. */
#ifndef TESTS_UNIT_TERMINAL_H
#define TESTS_UNIT_TERMINAL_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/cli/cli.h"
#include "instances/cli/table.h"

/* What it says there, for free(); without colours. @status: how it ended. */
static inline char *on_terminal(const char *columns, int argc, char **argv, int *status)
{
	const size_t room = 65536;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;
	char *said = calloc(1, room);
	size_t size = 0, kept = 0;
	pid_t child;
	ssize_t n;

	assert_non_null(said);
	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	assert_true(slave >= 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		dup2(slave, STDOUT_FILENO);
		dup2(slave, STDERR_FILENO);
		setenv("COLUMNS", columns, 1);
		setenv("NO_COLOR", "1", 1);
		argc = cli_main(argc, argv, stdout);
		fflush(stdout);
		_exit(argc);
	}
	close(slave);
	/* Nobody has the other end any more: EIO. */
	while (size < room - 1 && (n = read(master, said + size, room - 1 - size)) > 0)
		size += (size_t)n;
	close(master);
	assert_int_equal(waitpid(child, status, 0), child);
	*status = WIFEXITED(*status) ? WEXITSTATUS(*status) : 128;
	for (size_t i = 0; i < size; i++)
		if (said[i] != '\r')
			said[kept++] = said[i];
	said[kept] = '\0';
	return said;
}

/* No line of it is wider. */
static inline void expect_narrow(const char *said, unsigned width)
{
	char *copy = strdup(said), *rest = NULL;

	assert_non_null(copy);
	for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		if (table_text_width(line) > width)
			fail_msg("%u columns, not %u: %s", table_text_width(line), width, line);
	free(copy);
}

#endif
