// SPDX-License-Identifier: Apache-2.0
/* Completion: what `divvy __complete` says, and that each of three shells makes words of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "tests/unit/build_folder.h"

static char build[4096]; /* where the programs are */
static char script[] = "/tmp/divvy-test-XXXXXX";

/* What a command printed; the caller's. */
static char *run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *run(const char *fmt, ...)
{
	char command[16384], *text = calloc(1, 65536);
	FILE *out;
	va_list ap;
	size_t n;

	assert_non_null(text);
	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	out = popen(command, "r");
	assert_non_null(out);
	n = fread(text, 1, 65535, out);
	text[n] = '\0';
	pclose(out);
	return text;
}

static void expect(char *text, const char *what, const char *with, const char *without)
{
	if (with && !strstr(text, with))
		fail_msg("%s: no \"%s\" in \"%s\"", what, with, text);
	if (without && strstr(text, without))
		fail_msg("%s: \"%s\" in \"%s\"", what, without, text);
	free(text);
}

static void complete(const char *words, const char *with, const char *without)
{
	expect(run("%s/divvy __complete -- %s", build, words), words, with, without);
}

static void candidates_follow_the_table_of_verbs(void **state)
{
	complete("''", "list\t", "__");
	complete("li", "list\t", "start");
	complete("types ''", "check\t", NULL);
	complete("list ''", "instances\n", NULL);
	complete("list g", "gpus\n", "types");
	complete("list gpus --js", "--json\t", "--api");
	complete("list gpus --api ''", ":file\n", NULL);
	complete("create web --image ''", ":folder\n", NULL);
	complete("create web --type s1.", "s1.quarter", "w1.");
	complete("create web --type=s1.q", "s1.quarter", "s1.half");
	complete("create web --restart on", "on-failure", "never");
	complete("completion ''", "zsh\n", NULL);
	complete("help sc", "screenshot\t", NULL);
	/* A program's words are its own. */
	complete("run-native -- vkcube --js", NULL, "--json");
	complete("run-native --share 25% --", "--weight\t", NULL);
	/* No daemon, no names, and no complaint. */
	complete("start ''", NULL, "\n");
	complete("frobnicate ''", NULL, "\n");
}

static bool have(const char *shell)
{
	char command[64];

	snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", shell);
	if (!system(command))
		return true;
	print_message("skipped: no %s\n", shell);
	skip();
	return false;
}

/* The words that bash would offer for a line. */
static char *bash(const char *line)
{
	return run(
		"bash --norc -c 'PATH=%s:$PATH; source <(divvy completion bash); compopt() { :; }; COMP_LINE=\"%s\"; "
		"COMP_POINT=${#COMP_LINE}; _divvy; printf \"%%s\\n\" \"${COMPREPLY[@]}\"'",
		build, line);
}

static void bash_completes(void **state)
{
	have("bash");
	expect(bash("divvy scr"), "divvy scr", "screenshot\n", "start");
	expect(bash("divvy list "), "divvy list ", "gpus\n", NULL);
	expect(bash("divvy create web --type s1.q"), "a type", "s1.quarter\n", "s1.half");
	expect(bash("divvy types check /et"), "a file", "/etc\n", NULL);
	expect(run("%s/divvy completion bash | bash -n 2>&1", build), "syntax", NULL, "error");
}

static void fish_completes(void **state)
{
	have("fish");
	expect(run("fish -N -c 'set -x PATH %s $PATH; source %s; complete -C \"divvy scr\"' 2>&1",
		   build, script),
	       "divvy scr", "screenshot\t", "start");
	expect(run("fish -N -c 'set -x PATH %s $PATH; source %s; complete -C \"divvy create web --type s1.q\"' 2>&1",
		   build, script),
	       "a type", "s1.quarter", "s1.half");
	expect(run("fish -N -c 'set -x PATH %s $PATH; source %s; complete -C \"divvy types check /et\"' 2>&1",
		   build, script),
	       "a file", "/etc/", NULL);
}

/* zsh completes in its line editor only: on a terminal of its own, and we look at what stands there. */
static char *zsh(const char *typed)
{
	static const char text[] =
		"zmodload zsh/zpty\n"
		"zpty z 'TERM=dumb zsh -f -i'\n"
		"zpty -w z 'autoload -Uz compinit; compinit -u -D; source <(divvy completion zsh); PROMPT='\n"
		"zpty -w z 'echo rea\"\"dy'; zpty -r z REPLY '*ready*'\n"
		"zpty -n -w z \"$1\"$'\\t\\C-a: \\n'\n" /* a command that does nothing */
		"zpty -w z 'echo do\"\"ne'; zpty -r z REPLY '*done*'; print -r -- $REPLY; zpty -d z\n";
	char path[] = "/tmp/divvy-test-XXXXXX", *said;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	said = run("PATH=%s:$PATH timeout 60 zsh -f %s '%s' 2>&1", build, path, typed);
	unlink(path);
	return said;
}

static void zsh_completes(void **state)
{
	have("zsh");
	expect(zsh("divvy scre"), "divvy scre", "divvy screenshot", NULL);
	expect(zsh("divvy create web --type s1.q"), "a type", "--type s1.quarter", NULL);
}

static int group_setup(void **state)
{
	char command[5000];
	int fd = mkstemp(script);

	if (fd < 0 || !build_folder(build, sizeof(build)))
		return -1;
	close(fd);
	unsetenv("DIVVY_API");
	snprintf(command, sizeof(command), "%s/divvy completion fish >%s", build, script);
	return system(command);
}

static int group_teardown(void **state)
{
	return unlink(script);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(candidates_follow_the_table_of_verbs),
		cmocka_unit_test(bash_completes),
		cmocka_unit_test(fish_completes),
		cmocka_unit_test(zsh_completes),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
