/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress: one line on a terminal that says how far something is, and is gone at the end; nothing where standard error is no terminal, and nothing
 * with --json. Private to instances/cli/ and its tests.
 */
#ifndef INSTANCES_CLI_PROGRESS_H
#define INSTANCES_CLI_PROGRESS_H

#include "instances/cli/cli.h"

struct progress_line { /* zeroes at first */
	char what[16];
	uint64_t since_ns, since; /* when it was first seen, and how far it was */
};

/*
 * progress_text() - "disks 42 %, 1228 of 2969 MiB, 310 MiB/s", at @now_ns. @unit: "bytes", or what else is counted: "reset 1 of 2 functions".
 * Returns @text.
 */
char *progress_text(struct progress_line *line, const char *what, const char *unit, uint64_t done,
		    uint64_t total, uint64_t now_ns, char text[128]);
/* progress_show() - "NAME: STATE (TEXT)", instead of what was shown before; @text may be empty. progress_end() - the line is empty again. */
void progress_show(const struct cli *cli, const char *name, const char *state, const char *text);
void progress_end(const struct cli *cli);

#endif
