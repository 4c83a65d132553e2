// SPDX-License-Identifier: Apache-2.0
/*
 * The command line of `divvy`: words in, one verb out. Exit status 0 is yes, 1 is no (with the reason printed), 2 is a command line that
 * says nothing. Options may stand anywhere, also before the verb; getopt_long(3) is told of those that the verb has.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli/cli.h"

static const struct cli_option common[] = {
	{ "json", NULL, "print JSON", NULL },
	{ "api", "PATH", "the daemon's socket (/run/divvy/api), or https://HOST:PORT", CLI_FILE },
	{ "cert", "FILE", "who you are there: a certificate ($DIVVY_CERT)", CLI_FILE },
	{ "key", "FILE", "its private key ($DIVVY_KEY)", CLI_FILE },
	{ "cacert", "FILE", "who vouches for the node ($DIVVY_CACERT; the system's CAs)",
	  CLI_FILE },
	{ "root", "DIR", "read /sys, /proc and /etc beneath this folder (tests)", CLI_FOLDER },
	{ "help", NULL, "what this is, with examples", NULL },
};

static bool has_common(const struct cli_verb *verb, unsigned index)
{
	static const unsigned flags[] = { CLI_JSON, CLI_API,  CLI_API, CLI_API,
					  CLI_API,  CLI_ROOT, ~0u };

	return verb->flags & flags[index] || flags[index] == ~0u;
}

const struct cli_option *cli_verb_options(const struct cli_verb *verb, unsigned index)
{
	unsigned count = 0;

	while (verb->options && verb->options[count].name)
		if (count++ == index)
			return &verb->options[index];
	for (unsigned i = 0; i < ARRAY_SIZE(common); i++)
		if (has_common(verb, i) && count++ == index)
			return &common[i];
	return NULL;
}

const char *cli_value(const struct cli *cli, const char *name)
{
	for (unsigned i = cli->given_count; i; i--)
		if (!strcmp(cli->given[i - 1].name, name))
			return cli->given[i - 1].value;
	return NULL;
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	struct error e = { .code = "usage" };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e.text, sizeof(e.text), fmt, ap);
	va_end(ap);
	snprintf(e.next, sizeof(e.next), "divvy %s%s--help", cli->verb ? cli->verb->name : "",
		 cli->verb ? " " : "");
	cli_error_print(&e);
	return CLI_USAGE;
}

/* ---- what was likely meant --------------------------------------------------------------------- */

#define WORD_MAX 31

/* Damerau's distance (optimal string alignment) of two words; those longer than WORD_MAX are far from all. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[WORD_MAX + 1][WORD_MAX + 1];
	const size_t la = strlen(a), lb = strlen(b);

	if (la > WORD_MAX || lb > WORD_MAX)
		return WORD_MAX;
	for (size_t i = 0; i <= la; i++)
		for (size_t j = 0; j <= lb; j++) {
			unsigned least;

			if (!i || !j) {
				rows[i][j] = (unsigned)(i + j);
				continue;
			}
			least = MIN(rows[i - 1][j], rows[i][j - 1]) + 1;
			least = MIN(least, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				least = MIN(least, rows[i - 2][j - 2] + 1);
			rows[i][j] = least;
		}
	return rows[la][lb];
}

const char *cli_nearest(const char *word, unsigned count,
			const char *(*word_of)(unsigned index, const void *opaque),
			const void *opaque)
{
	unsigned least = strlen(word) > 3 ? 3 : 2;
	const char *nearest = NULL;

	for (unsigned i = 0; i < count; i++) {
		const char *one = word_of(i, opaque);
		const unsigned far = distance(word, one);

		if (far < least) {
			least = far;
			nearest = one;
		}
	}
	return nearest;
}

static const char *verb_word(unsigned index, const void *opaque)
{
	return cli_verbs[index].flags & CLI_HIDDEN ? "" : cli_verbs[index].name;
}

static const char *option_word(unsigned index, const void *opaque)
{
	return cli_verb_options(opaque, index)->name;
}

static int unknown_verb(const struct cli *cli, const char *word)
{
	const char *nearest = cli_nearest(word, cli_verb_count, verb_word, NULL);

	if (nearest)
		return cli_usage(cli, "there is no verb %s; %s?", word, nearest);
	return cli_usage(cli, "there is no verb %s", word);
}

static int unknown_option(const struct cli *cli, const char *word)
{
	const char *name = word + strspn(word, "-"), *nearest;
	char plain[WORD_MAX + 1];
	unsigned count = 0;

	snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(name, "="), name);
	while (cli_verb_options(cli->verb, count))
		count++;
	nearest = cli_nearest(plain, count, option_word, cli->verb);
	if (nearest)
		return cli_usage(cli, "unknown option %s; --%s?", word, nearest);
	return cli_usage(cli, "unknown option %s", word);
}

/* ---- one verb ------------------------------------------------------------------------------------ */

const struct cli_verb *cli_verb_match(unsigned count, char *const *words, unsigned *used)
{
	const struct cli_verb *found = NULL;

	*used = 0;
	for (unsigned i = 0; i < cli_verb_count; i++) {
		const char *name = cli_verbs[i].name, *blank = strchr(name, ' ');
		const size_t first = blank ? (size_t)(blank - name) : strlen(name);
		const unsigned words_of = blank ? 2 : 1;

		if (count < words_of || words_of <= *used || strlen(words[0]) != first ||
		    strncmp(words[0], name, first) != 0 || (blank && strcmp(words[1], blank + 1)))
			continue;
		found = &cli_verbs[i];
		*used = words_of;
	}
	return found;
}

/* Whether some verb's option @word takes its value from the next word. */
static bool takes_value(const char *word)
{
	const struct cli_option *option;

	if (strncmp(word, "--", 2) != 0 || strchr(word, '='))
		return false;
	for (unsigned i = 0; i < cli_verb_count; i++)
		for (unsigned k = 0; (option = cli_verb_options(&cli_verbs[i], k)); k++)
			if (!strcmp(option->name, word + 2))
				return option->value && option->value[0] != '[';
	return false;
}

/* The verb goes first, with what stood before it behind: argv[1] is the verb then. Returns NULL when there is none. */
static const struct cli_verb *verb_first(int argc, char **argv, unsigned *used)
{
	const struct cli_verb *verb;
	char *before[CLI_GIVEN_MAX];
	int at = 1;

	while (at < argc && argv[at][0] == '-')
		at += takes_value(argv[at]) ? 2 : 1;
	if (at >= argc || at > CLI_GIVEN_MAX)
		return NULL;
	verb = cli_verb_match((unsigned)(argc - at), argv + at, used);
	if (!verb)
		return NULL;
	memcpy(before, argv + 1, (size_t)(at - 1) * sizeof(*before));
	memmove(argv + 1, argv + at, *used * sizeof(*before));
	memcpy(argv + 1 + *used, before, (size_t)(at - 1) * sizeof(*before));
	return verb;
}

/* Returns -1 to go on, or the exit status. @argv[0] is the verb's last word. */
static int parse(struct cli *cli, int argc, char **argv)
{
	struct option table[CLI_GIVEN_MAX] = { 0 };
	const struct cli_option *option;
	unsigned count = 0;
	const char *word;
	int got;

	for (; (option = cli_verb_options(cli->verb, count)); count++) {
		table[count].name = option->name;
		table[count].val = 256 + (int)count;
		table[count].has_arg = !option->value		 ? no_argument
				       : option->value[0] == '[' ? optional_argument
								 : required_argument;
	}
	opterr = 0;
	optind = 0; /* glibc: start over, since tests call this more than once */
	while ((got = getopt_long(argc, argv, cli->verb->flags & CLI_REST ? "+:" : ":", table,
				  NULL)) != -1) {
		if (got == ':')
			return cli_usage(cli, "a value is missing after %s", argv[optind - 1]);
		if (got < 256)
			return unknown_option(cli, argv[optind - 1]);
		option = cli_verb_options(cli->verb, (unsigned)got - 256);
		word = option_abbreviated(argv, option->name);
		if (word)
			return cli_usage(cli, "unknown option %s; --%s?", word, option->name);
		if (cli->given_count == CLI_GIVEN_MAX)
			return cli_usage(cli, "too many options");
		cli->given[cli->given_count].name = option->name;
		cli->given[cli->given_count++].value = optarg ? optarg : "";
	}
	if (cli_value(cli, "help")) {
		cli_help_verb(cli->verb, cli->out);
		return CLI_OK;
	}
	cli->json = cli_value(cli, "json");
	cli->api = cli_value(cli, "api");
	cli->root = cli_value(cli, "root") ? cli_value(cli, "root") : "";
	cli->words = argv + optind;
	cli->count = (unsigned)(argc - optind);
	if (cli->count < cli->verb->min)
		return cli_usage(cli, "%s needs %s", cli->verb->name, cli->verb->arguments);
	if (cli->count > cli->verb->max)
		return cli_usage(cli, "a word too many: %s", cli->words[cli->verb->max]);
	return -1;
}

int cli_main(int argc, char **argv, FILE *out)
{
	struct cli cli = { .out = out, .root = "" };
	unsigned used;
	int status;

	if (argc > 1 && !strcmp(argv[1], "--version")) {
		cli.verb = cli_verb_match(1, (char *[]){ (char[]){ "version" } }, &used);
		return cli.verb->run(&cli);
	}
	cli.verb = verb_first(argc, argv, &used);
	if (!cli.verb) {
		for (int i = 1; i < argc; i++) {
			if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
				cli_help_all(out);
				return CLI_OK;
			}
			if (takes_value(argv[i]))
				i++;
			else if (argv[i][0] != '-')
				return unknown_verb(&cli, argv[i]);
		}
		cli_help_all(stderr);
		return CLI_USAGE;
	}
	status = parse(&cli, argc - (int)used, argv + used);
	return status >= 0 ? status : cli.verb->run(&cli);
}
