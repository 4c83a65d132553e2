/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `divvy` command line: one table of verbs (verbs.c), from which parsing, help, the manual page and completion come, and a function
 * for each verb. Private to instances/ and its tests.
 */
#ifndef INSTANCES_CLI_CLI_H
#define INSTANCES_CLI_CLI_H

#include <jansson.h>
#include <stdio.h>

#include "base/base.h"

#ifndef DIVVY_VERSION
#define DIVVY_VERSION "0.1"
#endif

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1, /* an error was printed, or the check found blockers */
	CLI_USAGE = 2,
	CLI_NOT_RUN = 125, /* run-native: the program was not run; its status otherwise */
};

#define CLI_GIVEN_MAX 64

/* What completes a word: one of these, or the words themselves with blanks between. */
#define CLI_FILE     ":file"
#define CLI_FOLDER   ":folder"
#define CLI_INSTANCE ":instance"
#define CLI_TYPE     ":type"
#define CLI_GPU	     ":gpu"
#define CLI_VERB     ":verb"

struct cli_option {
	const char *name;
	const char
		*value; /* "SIZE"; "[FILE]": may be left out, said as --name=FILE; NULL: a flag */
	const char *help;
	const char *complete; /* of the value; NULL: nothing can be said */
};

struct cli_example {
	const char *command, *means; /* without "divvy " */
};

/* Options that many verbs have. */
enum {
	CLI_JSON = 1,
	CLI_API = 2,	/* --api: where the daemon is */
	CLI_ROOT = 4,	/* --root: another machine's /sys, for tests */
	CLI_REST = 8,	/* a program follows, whose options are its own */
	CLI_HIDDEN = 16 /* not in help */
};

enum cli_group {
	CLI_LOOK,
	CLI_INSTANCES,
	CLI_GPUS,
	CLI_SHARING,
	CLI_NODE,
	CLI_GROUPS
};

struct cli;
struct cli_verb {
	const char *name;      /* "types check": two words are fine */
	const char *arguments; /* for people: "NAME", "[FILE...]"; "": none */
	unsigned min, max;     /* of them */
	const char *complete;  /* of each; NULL: nothing can be said */
	enum cli_group group;
	unsigned flags;
	const char *help;		    /* one line */
	const char *text;		    /* the rest, for who asks; NULL: none */
	const struct cli_option *options;   /* its own, up to one without a name; NULL: none */
	const struct cli_example *examples; /* up to one without a command */
	int (*run)(struct cli *cli);	    /* returns the exit status */
};

/* One command line, parsed. */
struct cli {
	FILE *out;
	const struct cli_verb *verb;
	bool json;
	const char *root; /* "": the real machine */
	const char *api;  /* NULL: the default places */
	unsigned count;
	char **words; /* arguments; with CLI_REST the program, NULL at the end */
	unsigned given_count;
	struct {
		const char *name, *value; /* "" for a flag */
	} given[CLI_GIVEN_MAX];
	unsigned patience_s; /* how long the daemon may take to answer; 0: a minute */
	char code[64];	     /* an error's, that came from the daemon */
};

/* ---- verbs.c, parse.c, help.c, manual.c, complete.c ------------------------------------------------- */

extern const struct cli_verb cli_verbs[];
extern const unsigned cli_verb_count;
extern const char *const cli_group_titles[CLI_GROUPS];
/* cli_verb_options() - the @index-th option of a verb, its own and then the common ones; NULL behind the last. */
const struct cli_option *cli_verb_options(const struct cli_verb *verb, unsigned index);
/* cli_verb_match() - the verb that @count words begin with, how many of them it is in *used; NULL. */
const struct cli_verb *cli_verb_match(unsigned count, char *const *words, unsigned *used);

/* cli_main() - all of the program; writes to @out and stderr. Returns the exit status. */
int cli_main(int argc, char **argv, FILE *out);

/* cli_value() - what was said last of an option without its dashes; "" for a flag, NULL: nothing. */
const char *cli_value(const struct cli *cli, const char *name);
/* cli_usage() - the command line says nothing: one line of what and where to look. Returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* cli_nearest() - of @count words the one that @word was likely meant to be; NULL. @word_of gives them. */
const char *cli_nearest(const char *word, unsigned count,
			const char *(*word_of)(unsigned index, const void *opaque),
			const void *opaque);

void cli_help_all(FILE *out);
void cli_help_verb(const struct cli_verb *verb, FILE *out);
int cli_help(struct cli *cli);
int cli_version(struct cli *cli);
int cli_manual(struct cli *cli);
int cli_complete(struct cli *cli);
int cli_completion(struct cli *cli);

/* ---- what verbs share ------------------------------------------------------------------------------ */

/* cli_error_print() - as error_print(); on a terminal broken between words. */
void cli_error_print(const struct error *e);
/*
 * cli_text_print() - @text, " (next: NEXT)" and the end of the line; on a terminal broken between words, from column @at on, and from
 * @indent on in further lines. What is next stays in one line if it can.
 */
void cli_text_print(FILE *out, const char *text, const char *next, unsigned at, unsigned indent);
/* cli_fail() - print an error as text or, with --json, as {"error": {...}} too. Returns CLI_FAILED. */
int cli_fail(const struct cli *cli, const struct error *e);
/* cli_json_text() - a JSON string; bytes that are not ASCII become '?', so that it always is one. */
json_t *cli_json_text(const char *text);
/* cli_json_print() - @json, which is let go, on the output. */
void cli_json_print(const struct cli *cli, json_t *json);
/* cli_findings_print() - a line each; cli_findings_json() - as the API shows them. */
void cli_findings_print(const struct cli *cli, const struct findings *f);
json_t *cli_findings_json(const struct findings *f);
/* cli_number() - a decimal number from @min to @max. 0 or -EINVAL. */
int cli_number(const char *text, uint64_t min, uint64_t max, uint64_t *value);
/* cli_name_ok() - whether @name may be an instance's (and so never is a path). */
bool cli_name_ok(const char *name);

/* ---- verbs ------------------------------------------------------------------------------------------- */

int cli_list(struct cli *cli);
int cli_devices(struct cli *cli); /* list devices */
int cli_show(struct cli *cli);
int cli_types(struct cli *cli);
int cli_types_check(struct cli *cli);
int cli_precheck(struct cli *cli);
int cli_events(struct cli *cli);
int cli_top(struct cli *cli);

int cli_create(struct cli *cli);
int cli_start(struct cli *cli);
int cli_stop(struct cli *cli);
int cli_restart(struct cli *cli);
int cli_delete(struct cli *cli);
int cli_run(struct cli *cli);
int cli_console(struct cli *cli);
int cli_vnc(struct cli *cli);
int cli_screenshot(struct cli *cli);
int cli_log(struct cli *cli);
int cli_share(struct cli *cli);

int cli_bind(struct cli *cli);
int cli_unbind(struct cli *cli);
int cli_gpu_do(struct cli *cli); /* drain, undrain, release */
int cli_leases(struct cli *cli);

int cli_arbiter(struct cli *cli);
int cli_vgpus(struct cli *cli);
int cli_run_native(struct cli *cli);
int cli_sim(struct cli *cli);
int cli_bench(struct cli *cli);
int cli_backup(struct cli *cli);

#endif
