// SPDX-License-Identifier: Apache-2.0
/* The command line as a person meets it: its words, its help, its tables; and what is near a word that there is not. */
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "instances/cli/cli.h"
#include "instances/cli/progress.h"
#include "instances/cli/table.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/terminal.h"

/* Runs `divvy LINE`, split at blanks; what it printed and what it complained, for free(). */
static int divvy(const char *line, char **printed, char **complained)
{
	char words[512], *argv[32] = { (char[]){ "divvy" } }, *rest = NULL,
			 path[] = "/tmp/divvy-test-XXXXXX";
	int argc = 1, status, saved = dup(STDERR_FILENO), fd = mkstemp(path);
	size_t size;
	FILE *out = open_memstream(printed, &size);

	assert_non_null(out);
	assert_true(fd >= 0 && saved >= 0);
	unlink(path);
	snprintf(words, sizeof(words), "%s", line);
	for (char *word = strtok_r(words, " ", &rest); word && argc < 31;
	     word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	dup2(fd, STDERR_FILENO);
	status = cli_main(argc, argv, out);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	fclose(out);
	*complained = calloc(1, 16384);
	assert_non_null(*complained);
	assert_true(pread(fd, *complained, 16383, 0) >= 0);
	close(saved);
	close(fd);
	return status;
}

static void expect(const char *line, int status, const char *in_output, const char *in_errors)
{
	char *printed, *complained;
	const int got = divvy(line, &printed, &complained);

	if (got != status)
		fail_msg("divvy %s: %d, not %d: %s", line, got, status, complained);
	if (in_output && !strstr(printed, in_output))
		fail_msg("divvy %s: no \"%s\" in \"%s\"", line, in_output, printed);
	if (in_errors && !strstr(complained, in_errors))
		fail_msg("divvy %s: no \"%s\" in \"%s\"", line, in_errors, complained);
	free(printed);
	free(complained);
}

/* A program of the build with a redirection, as a shell runs it; its exit status. */
static int shell(const char *words)
{
	char self[4096], command[5000];
	int n;

	assert_true(build_folder(self, sizeof(self)));
	snprintf(command, sizeof(command), "%s/%s", self, words);
	n = system(command);
	return WIFEXITED(n) ? WEXITSTATUS(n) : -1;
}

static void every_verb_explains_itself_with_examples(void **state)
{
	char line[80], *printed, *complained;
	const struct cli_option *option;

	for (unsigned i = 0; i < cli_verb_count; i++) {
		const struct cli_verb *verb = &cli_verbs[i];

		if (verb->flags & CLI_HIDDEN)
			continue;
		assert_non_null(verb->help);
		snprintf(line, sizeof(line), "%s --help", verb->name);
		assert_int_equal(divvy(line, &printed, &complained), CLI_OK);
		assert_non_null(strstr(printed, verb->name));
		if (strcmp(verb->name, "help") != 0)
			assert_non_null(strstr(printed, "examples:"));
		for (unsigned k = 0; (option = cli_verb_options(verb, k)); k++) {
			snprintf(line, sizeof(line), "--%s", option->name);
			if (!strstr(printed, line))
				fail_msg("%s: no %s in its help", verb->name, line);
		}
		free(printed);
		free(complained);
		expect("--help", CLI_OK, verb->name, NULL);
	}
	expect("help types check", CLI_OK, "usage: divvy types check", NULL);
}

static void what_is_explained_fits_a_terminal(void **state)
{
	int status;
	char *said;

	for (unsigned i = 0; i < cli_verb_count; i++) {
		char verb[32],
			*argv[] = { (char[]){ "divvy" }, (char[]){ "help" }, verb, NULL, NULL };
		char *second;

		if (cli_verbs[i].flags & CLI_HIDDEN)
			continue;
		snprintf(verb, sizeof(verb), "%s", cli_verbs[i].name);
		second = strchr(verb, ' ');
		if (second)
			*second++ = '\0';
		argv[3] = second;
		said = on_terminal("80", second ? 4 : 3, argv, &status);
		assert_int_equal(status, CLI_OK);
		expect_narrow(said, 80);
		free(said);
	}
	said = on_terminal("80", 2, (char *[]){ (char[]){ "divvy" }, (char[]){ "help" }, NULL },
			   &status);
	expect_narrow(said, 80);
	free(said);
	assert_int_equal(shell("divvy-vmm --help | grep -qE '.{81}'"), 1);
	assert_int_equal(shell("divvy-vgpu --help | grep -qE '.{81}'"), 1);
	assert_int_equal(shell("divvyd --help | grep -qE '.{81}'"), 1);
}

/* Every example is a command line that there is: its verb, and options that the verb has. */
static void examples_are_true(void **state)
{
	for (unsigned i = 0; i < cli_verb_count; i++)
		for (const struct cli_example *e = cli_verbs[i].examples; e && e->command; e++) {
			char words[256], *argv[32] = { NULL }, *rest = NULL;
			unsigned count = 0, used;

			snprintf(words, sizeof(words), "%s", e->command);
			for (char *w = strtok_r(words, " ", &rest); w && count < 32;
			     w = strtok_r(NULL, " ", &rest))
				argv[count++] = w;
			if (cli_verb_match(count, argv, &used) != &cli_verbs[i])
				fail_msg("\"%s\" is no example of %s", e->command,
					 cli_verbs[i].name);
			for (unsigned w = used; w < count; w++) {
				const struct cli_option *option;
				unsigned k = 0;

				if (argv[w][0] == '|' || !strcmp(argv[w], "--"))
					break;
				if (strncmp(argv[w], "--", 2) != 0)
					continue;
				while ((option = cli_verb_options(&cli_verbs[i], k++)))
					if (!strncmp(option->name, argv[w] + 2,
						     strcspn(argv[w] + 2, "=")))
						break;
				if (!option)
					fail_msg("\"%s\": no option %s", e->command, argv[w]);
			}
		}
}

static void a_word_near_one_that_there_is_is_told(void **state)
{
	expect("lits gpus", CLI_USAGE, NULL, "list?");
	expect("strat web", CLI_USAGE, NULL, "start?");
	expect("tpyes", CLI_USAGE, NULL, "types?");
	expect("list gpus --jsno", CLI_USAGE, NULL, "--json?");
	expect("xyzzy", CLI_USAGE, NULL, "there is no verb xyzzy (next: divvy --help)");
	expect("", CLI_USAGE, NULL, "usage: divvy VERB");
}

static void an_option_is_said_whole(void **state)
{
	expect("list gpus --roo /nonexistent", CLI_USAGE, NULL, "unknown option --roo; --root?");
	expect("list gpus --roo=/nonexistent", CLI_USAGE, NULL, "--root?");
	expect("--jso list gpus --root /nonexistent", CLI_USAGE, NULL, "unknown option --jso");
	assert_int_equal(shell("divvyd --log-lev info 2>&1 | grep -q 'unknown option --log-lev'"),
			 0);
	assert_int_equal(shell("divvy-vgpu --sock x 2>&1 | grep -q 'unknown option --sock '"), 0);
	assert_int_equal(shell("divvy-vmm --kern x 2>&1 | grep -q 'unknown word \"kern'"), 0);
}

static void one_of_a_kind_is_as_good_as_many(void **state)
{
	expect("list gpu --root /nonexistent --json", CLI_OK, "\"gpus\": []", NULL);
	expect("list type --root /nonexistent", CLI_OK, "s1.quarter", NULL);
	expect("list gpuss --root /nonexistent", CLI_USAGE, NULL, "list what?");
	expect("list gp --root /nonexistent", CLI_USAGE, NULL, "list what?");
}

static void it_says_which_version_it_is(void **state)
{
	expect("version", CLI_OK, "divvy " DIVVY_VERSION, NULL);
	expect("--version", CLI_OK, "divvy " DIVVY_VERSION, NULL);
	expect("--help", CLI_OK, "--version", NULL);
	assert_int_equal(shell("divvyd --help | grep -q -e --version"), 0);
}

static void a_name_near_one_that_there_is_is_told(void **state)
{
	expect("show s1.quater --root /nonexistent", CLI_FAILED, NULL,
	       "no GPU or type here is called s1.quater, and divvyd is not running; is it s1.quarter?");
	expect("show s1.nothing-of-the-kind --root /nonexistent", CLI_FAILED, NULL,
	       "is not running (next: divvy list gpus");
}

static void options_stand_anywhere(void **state)
{
	expect("--root /nonexistent list gpus --json", CLI_OK, "\"gpus\": []", NULL);
	expect("list --json gpus --root=/nonexistent", CLI_OK, "\"gpus\": []", NULL);
	expect("--root", CLI_USAGE, NULL, "usage");
	expect("list gpus --root", CLI_USAGE, NULL, "a value is missing after --root");
}

static void names_that_are_paths_are_refused_before_anybody_is_asked(void **state)
{
	expect("start ../../etc", CLI_USAGE, NULL, "no name of an instance");
	expect("create a/b --type x --image /tmp", CLI_USAGE, NULL, "no name of an instance");
	expect("delete web Web", CLI_USAGE, NULL, "Web is no name");
	expect("console -x", CLI_USAGE, NULL, "unknown option");
	expect("stop -- -x", CLI_USAGE, NULL, "no name of an instance");
	expect("screenshot a%2fb", CLI_USAGE, NULL, "no name of an instance");
	expect("run --type x --image /tmp --name ..", CLI_USAGE, NULL, "no name of an instance");
}

static void a_bad_value_says_which_ones_are_good(void **state)
{
	expect("create web --type t --image /tmp --restart sometimes", CLI_USAGE, NULL,
	       "--restart sometimes: never, on-failure or always (next: divvy create --help)");
	expect("create web --type t --image /tmp --display 10x10", CLI_USAGE, NULL,
	       "not a display: 10x10 (640x480 to 4096x2160)");
	expect("create web --type t --image /tmp --display 1920x1080x", CLI_USAGE, NULL,
	       "not a display");
	expect("run --type ../t --image /tmp", CLI_USAGE, NULL, "../t is no name of a type");
	expect("sim /nonexistent", CLI_FAILED, NULL,
	       "error[scenario-unreadable]: /nonexistent: No such file or directory (next: divvy sim --list)");
	expect("sim vgpu-sched/scenarios/office-25.yaml --policy lottery", CLI_FAILED, NULL,
	       "(next: divvy sim --help)");
	expect("run-native --weight 0 -- true", CLI_NOT_RUN, NULL,
	       "(next: divvy run-native --help)");
	expect("vnc web --head 99", CLI_USAGE, NULL, "(next: divvy vnc --help)");
}

static void without_a_daemon_it_says_so_and_what_to_do(void **state)
{
	expect("list instances --api /nonexistent/api", CLI_FAILED, NULL,
	       "error[no-daemon]: divvyd is not running at /nonexistent/api (next: ");
	expect("show web --api /nonexistent/api --json", CLI_FAILED, "\"code\": \"no-daemon\"",
	       NULL);
	expect("events --api /nonexistent/api", CLI_FAILED, NULL, "error[no-daemon]");
	expect("top --api /nonexistent/api", CLI_FAILED, NULL, "error[no-daemon]");
	expect("list gpus --api /nonexistent/api", CLI_FAILED, NULL,
	       "error[no-daemon]: divvyd is not running at /nonexistent/api (next: ls -l /nonexistent/api)");
	expect("list gpus --api http://x", CLI_FAILED, NULL,
	       "error[bad-value]: --api http://x: it takes the path of the daemon's socket, or https://HOST:PORT (next: divvy list --help)");
	expect("console web --api http://x", CLI_FAILED, NULL, "error[bad-value]: --api");
	expect("vgpus --socket /nonexistent/arbiter", CLI_FAILED, NULL,
	       "(next: divvy arbiter --socket /nonexistent/arbiter; or divvy run-native --embedded)");
	if (access("/run/divvy/api", F_OK) && access("/run/divvy/arbiter", F_OK)) {
		unsetenv("XDG_RUNTIME_DIR");
		expect("top --once", CLI_FAILED, NULL,
		       "error[no-arbiter]: divvyd is not running at /run/divvy/api, and /run/divvy/arbiter: no arbiter");
		expect("top --once", CLI_FAILED, NULL,
		       "(next: systemctl start divvyd; or divvy arbiter)");
	}
}

static void types_are_checked_with_their_lines(void **state)
{
	char path[] = "/tmp/divvy-test-XXXXXX", line[80];
	static const char text[] = "- name: x1.small\n  vcpus: 2\n  memroy_mib: 512\n  gpus: []\n";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	snprintf(line, sizeof(line), "types check %s", path);
	expect(line, CLI_FAILED, "memory_mib", NULL);
	snprintf(line, sizeof(line), "types check --json %s", path);
	expect(line, CLI_FAILED, "\"good\": false", NULL);
	unlink(path);
	expect("types check --root /nonexistent", CLI_OK, "types are good", NULL);
}

/* ---- tables --------------------------------------------------------------------------------- */

static const struct table_column columns[] = {
	{ .title = "name", .least = 6 },
	{ .title = "n", .right = true },
	{ .title = "what", .least = 4 },
};

/* Printed so wide; for free(). */
static char *printed_table(unsigned width, bool colour)
{
	struct table *table = table_create(columns, ARRAY_SIZE(columns));
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	table_cell(table, TABLE_GOOD, "%s", "short");
	table_cell(table, TABLE_PLAIN, "%d", 7);
	table_cell(table, TABLE_PLAIN, "%s", "a text that is longer than all the others");
	table_cell(table, TABLE_BAD, "%s", "größer-日本");
	table_cell(table, TABLE_PLAIN, "%d", 12345);
	table_cell(table, TABLE_PLAIN, "%s", "\033[2J\x01");
	table_print(table, out, width, colour);
	table_destroy(table);
	fclose(out);
	return text;
}

static void a_table_is_as_wide_as_what_is_in_it(void **state)
{
	char *text = printed_table(TABLE_WIDE, false);

	assert_string_equal(text, "name             n  what\n"
				  "short            7  a text that is longer than all the others\n"
				  "größer-日本  12345  ?[2J?\n");
	free(text);
}

static void a_table_fits_the_terminal_whatever_its_width(void **state)
{
	for (unsigned width = 1; width < 100; width++) {
		char *text = printed_table(width, false), *rest = NULL;

		/* Titles of blocks stay whole. */
		for (char *line = strtok_r(text, "\n", &rest); line;
		     line = strtok_r(NULL, "\n", &rest))
			if (table_text_width(line) > MAX(width, 6u))
				fail_msg("%u columns at %u: %s", table_text_width(line), width,
					 line);
		free(text);
	}
}

static void a_narrow_table_cuts_and_a_very_narrow_one_is_blocks(void **state)
{
	char *text = printed_table(30, false);

	assert_string_equal(text, "name            n  what\n"
				  "short           7  a text tha…\n"
				  "größer-日…  12345  ?[2J?\n");
	free(text);
	text = printed_table(16, false);
	assert_string_equal(text, "name short\nn    7\nwhat a text tha…\n\n"
				  "name größer-日本\nn    12345\nwhat ?[2J?\n");
	free(text);
}

static void a_sentence_that_does_not_fit_stands_below_its_row(void **state)
{
	static const struct table_column with[] = {
		{ .title = "name" },
		{ .title = "why", .least = 4, .below = true },
	};
	static const char *const said[] = {
		"name  why\na     there is no room for it\nb     -\n",
		"name\na\n    there is no\n    room for it\nb\n",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(said); i++) {
		struct table *table = table_create(with, ARRAY_SIZE(with));
		char *text;
		size_t size;
		FILE *out = open_memstream(&text, &size);

		assert_non_null(out);
		table_cell(table, TABLE_PLAIN, "a");
		table_cell(table, TABLE_PLAIN, "there is no room for it");
		table_cell(table, TABLE_PLAIN, "b");
		table_cell(table, TABLE_PLAIN, "%s", "");
		table_print(table, out, i ? 16 : 29, false);
		table_destroy(table);
		fclose(out);
		assert_string_equal(text, said[i]);
		free(text);
	}
}

static void colour_is_asked_for(void **state)
{
	char *text = printed_table(TABLE_WIDE, true), *plain = printed_table(TABLE_WIDE, false);

	assert_non_null(strstr(text, "\033[32mshort\033[0m"));
	assert_null(strstr(plain, "\033"));
	free(text);
	free(plain);
	/* A file has none, and no width. */
	assert_false(table_colour(stdin));
}

/* ---- stdout -------------------------------------------------------------------------------------- */

static void an_output_that_is_full_or_closed_is_an_error(void **state)
{
	assert_int_equal(shell("divvy --help >/dev/null"), CLI_OK);
	assert_int_equal(shell("divvy --help >/dev/full 2>/dev/null"), CLI_FAILED);
	assert_int_equal(shell("divvy list gpus --root /nonexistent --json >/dev/full 2>/dev/null"),
			 CLI_FAILED);
	assert_int_equal(shell("divvy --help >&- 2>/dev/null"), CLI_FAILED);
	/* Nobody to complain to. */
	assert_int_equal(shell("divvy --help >&- 2>&-"), CLI_FAILED);
	assert_int_equal(shell("divvy --version <&- >/dev/null"), CLI_OK);
}

static int group_setup(void **state)
{
	unsetenv("DIVVY_API");
	return setlocale(LC_CTYPE, "C.UTF-8") ? 0 : -1;
}

static void progress_is_a_part_an_amount_and_a_rate(void **state)
{
	struct progress_line line = { 0 };
	const uint64_t t = 7 * NSEC_PER_SEC;
	char text[128];

	assert_string_equal(progress_text(&line, "disks", "bytes", 0, 3000 * MIB, t, text),
			    "disks 0 %, 0 of 3000 MiB");
	/* Too early to say how fast. */
	assert_string_equal(progress_text(&line, "disks", "bytes", 300 * MIB, 3000 * MIB,
					  t + NSEC_PER_SEC / 4, text),
			    "disks 10 %, 300 of 3000 MiB");
	assert_string_equal(progress_text(&line, "disks", "bytes", 2999 * MIB, 3000 * MIB,
					  t + 10 * NSEC_PER_SEC, text),
			    "disks 99 %, 2999 of 3000 MiB, 300 MiB/s");
	/* Something else begins: its rate is its own. */
	assert_string_equal(
		progress_text(&line, "memory", "bytes", 0, 64 * GIB, t + 20 * NSEC_PER_SEC, text),
		"memory 0 %, 0.0 of 64.0 GiB");
	assert_string_equal(progress_text(&line, "memory", "bytes", 48 * GIB, 64 * GIB,
					  t + 68 * NSEC_PER_SEC, text),
			    "memory 75 %, 48.0 of 64.0 GiB, 1024 MiB/s");
	assert_string_equal(progress_text(&line, "reset", "functions", 1, 2, t, text),
			    "reset 1 of 2 functions");
	assert_string_equal(progress_text(&line, "disks", "bytes", 0, 0, t, text),
			    "disks 100 %, 0 of 0 MiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(progress_is_a_part_an_amount_and_a_rate),
		cmocka_unit_test(every_verb_explains_itself_with_examples),
		cmocka_unit_test(what_is_explained_fits_a_terminal),
		cmocka_unit_test(examples_are_true),
		cmocka_unit_test(a_word_near_one_that_there_is_is_told),
		cmocka_unit_test(an_option_is_said_whole),
		cmocka_unit_test(one_of_a_kind_is_as_good_as_many),
		cmocka_unit_test(it_says_which_version_it_is),
		cmocka_unit_test(a_name_near_one_that_there_is_is_told),
		cmocka_unit_test(options_stand_anywhere),
		cmocka_unit_test(names_that_are_paths_are_refused_before_anybody_is_asked),
		cmocka_unit_test(a_bad_value_says_which_ones_are_good),
		cmocka_unit_test(without_a_daemon_it_says_so_and_what_to_do),
		cmocka_unit_test(types_are_checked_with_their_lines),
		cmocka_unit_test(a_table_is_as_wide_as_what_is_in_it),
		cmocka_unit_test(a_table_fits_the_terminal_whatever_its_width),
		cmocka_unit_test(a_narrow_table_cuts_and_a_very_narrow_one_is_blocks),
		cmocka_unit_test(a_sentence_that_does_not_fit_stands_below_its_row),
		cmocka_unit_test(colour_is_asked_for),
		cmocka_unit_test(an_output_that_is_full_or_closed_is_an_error),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
