/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `divvy` command line: a table of verbs, one function each. Private to instances/ and its
 * tests.
 */
#ifndef INSTANCES_CLI_H
#define INSTANCES_CLI_H

#include <jansson.h>
#include <stdio.h>

#include "base/base.h"

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1, /* an error was printed, or the check found blockers */
	CLI_USAGE = 2,
};

/* What every verb takes; unknown options end in usage before a verb runs. */
struct cli_options {
	const char *root;      /* "" for the real machine */
	const char *state_dir; /* NULL: the default */
	bool json;
	uint64_t memory_size; /* 0: not given */
	unsigned timeout_ms;  /* 0: the default */
	FILE *out;
};

/* cli_main() - all of the program; writes to @out and stderr. Returns the exit status. */
int cli_main(int argc, char **argv, FILE *out);

/* cli_fail() - print an error as text or, with --json, as {"error": {...}} too. Returns CLI_FAILED. */
int cli_fail(const struct cli_options *options, const struct error *e);

/* cli_json_text() - a JSON string; bytes that are not ASCII become '?', so that it always is one. */
json_t *cli_json_text(const char *text);

/* cli_findings_print(), cli_findings_json() - a list of findings, a line or an object each. */
void cli_findings_print(const struct findings *f, FILE *out);
json_t *cli_findings_json(const struct findings *f);

/* cli_size() - "512M", "4G", "1048576"; K, M, G, T are powers of 1024. 0 or -EINVAL. */
int cli_size(const char *text, uint64_t *size);

int cli_precheck(const struct cli_options *options, const struct pci_address *address);
int cli_bind(const struct cli_options *options, const struct pci_address *address);
int cli_unbind(const struct cli_options *options, const struct pci_address *address);
/* cli_sim() - `divvy sim`: @argv[0] is the verb, options of its own follow. Returns the exit status. */
int cli_sim(int argc, char **argv, FILE *out);
/* cli_arbiter(), cli_vgpus() - `divvy arbiter` and `divvy vgpus`, likewise. */
int cli_arbiter(int argc, char **argv, FILE *out);
int cli_vgpus(int argc, char **argv, FILE *out);
/* cli_run_native() - `divvy run-native`, likewise. Returns the program's status, or CLI_NOT_RUN. */
#define CLI_NOT_RUN 125
int cli_run_native(int argc, char **argv, FILE *out);
int cli_list_devices(const struct cli_options *options);
int cli_list_gpus(const struct cli_options *options);
/* cli_types() - `divvy types` and `divvy types check`, likewise with options of its own. */
int cli_types(int argc, char **argv, FILE *out);

#endif
