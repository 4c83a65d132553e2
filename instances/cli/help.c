// SPDX-License-Identifier: Apache-2.0
/* What the table of verbs says, for people: all verbs, or one with its options and examples. */
#include <stdlib.h>
#include <string.h>

#include "instances/cli/cli.h"
#include "instances/cli/table.h"

#define COLUMN_MAX 26

/* @text from column @indent on, in lines of at most @width; the first goes on where the caller left it. */
static void wrap(FILE *out, const char *text, unsigned indent, unsigned width)
{
	table_text_wrap(out, text, indent, indent, MAX(width, indent + 10));
	fputc('\n', out);
}

/* "  LEFT    right", where right begins at @column, or on a line of its own. */
static void pair(FILE *out, const char *left, const char *right, unsigned column, unsigned width)
{
	fprintf(out, "  %s", left);
	/* A narrow terminal has no room for two columns. */
	if (width < column + 30) {
		fprintf(out, "\n%*s", 6, "");
		wrap(out, right, 6, width);
		return;
	}
	if (strlen(left) + 4 > column)
		fprintf(out, "\n%*s", (int)column, "");
	else
		fprintf(out, "%*s", (int)(column - 2 - strlen(left)), "");
	wrap(out, right, column, width);
}

void cli_help_all(FILE *out)
{
	const unsigned width = MIN(table_width(out), 100u);

	fputs("usage: divvy VERB [WORD...] [--option...]\n\n"
	      "GPU instances on this machine: whole GPUs by passthrough, or shares of one.\n\n"
	      "  divvy list types\n"
	      "      what could be had\n"
	      "  divvy run --type s1.quarter --image /srv/images/debian\n"
	      "      a quarter of a GPU, and a shell\n",
	      out);
	for (unsigned group = 0; group < CLI_GROUPS; group++) {
		fprintf(out, "\n%s\n", cli_group_titles[group]);
		for (unsigned i = 0; i < cli_verb_count; i++) {
			const struct cli_verb *verb = &cli_verbs[i];

			if (verb->group == group && !(verb->flags & CLI_HIDDEN))
				pair(out, verb->name, verb->help, 16, width);
		}
	}
	fputc('\n', out);
	wrap(out,
	     "divvy VERB --help explains one, with examples; most take --json. man divvy has all of it.",
	     0, width);
}

static void option_left(const struct cli_option *option, char *text, size_t size)
{
	if (!option->value)
		snprintf(text, size, "--%s", option->name);
	else if (option->value[0] == '[')
		snprintf(text, size, "--%s[=%s", option->name, option->value + 1);
	else
		snprintf(text, size, "--%s %s", option->name, option->value);
}

void cli_help_verb(const struct cli_verb *verb, FILE *out)
{
	const unsigned width = MIN(table_width(out), 100u);
	const struct cli_option *option;
	char left[96];

	fprintf(out, "usage: divvy %s%s%s [--option...]\n\n", verb->name,
		verb->arguments[0] ? " " : "", verb->arguments);
	wrap(out, verb->help, 0, width);
	if (verb->text) {
		fputc('\n', out);
		wrap(out, verb->text, 0, width);
	}
	fputc('\n', out);
	for (unsigned i = 0; (option = cli_verb_options(verb, i)); i++) {
		option_left(option, left, sizeof(left));
		pair(out, left, option->help, COLUMN_MAX, width);
	}
	for (const struct cli_example *example = verb->examples; example && example->command;
	     example++) {
		fprintf(out, "%s  divvy %s\n", example == verb->examples ? "\nexamples:\n" : "",
			example->command);
		if (example->means[0]) {
			fputs("      ", out);
			wrap(out, example->means, 6, width);
		}
	}
}

int cli_version(struct cli *cli)
{
	fputs("divvy " DIVVY_VERSION "\n", cli->out);
	return CLI_OK;
}

int cli_help(struct cli *cli)
{
	const struct cli_verb *verb;
	unsigned used;

	if (!cli->count) {
		cli_help_all(cli->out);
		return CLI_OK;
	}
	verb = cli_verb_match(cli->count, cli->words, &used);
	if (!verb)
		return cli_usage(cli, "there is no verb %s", cli->words[0]);
	cli_help_verb(verb, cli->out);
	return CLI_OK;
}

/* ---- divvy(1), in scdoc(5)'s words ---------------------------------------------------------------- */

/* Whatever scdoc takes for markup is marked as text. */
static void escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("\\*_`#[]<>~", *text))
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void manual_verb(FILE *out, const struct cli_verb *verb)
{
	const struct cli_option *option;

	/* a heading has no markup */
	fprintf(out, "## divvy %s %s\n\n", verb->name, verb->arguments);
	escaped(out, verb->help);
	fputs(".\n\n", out);
	if (verb->text) {
		escaped(out, verb->text);
		fputs("\n\n", out);
	}
	for (unsigned i = 0; (option = cli_verb_options(verb, i)); i++) {
		char left[96];

		if (!strcmp(option->name, "help"))
			continue;
		option_left(option, left, sizeof(left));
		fputc('*', out);
		escaped(out, left);
		fputs("*\n\t", out);
		escaped(out, option->help);
		fputs("\n\n", out);
	}
	for (const struct cli_example *example = verb->examples; example && example->command;
	     example++)
		fprintf(out, "%sdivvy %s\n%s", example == verb->examples ? "```\n" : "",
			example->command, example[1].command ? "" : "```\n\n");
}

int cli_manual(struct cli *cli)
{
	FILE *out = cli->out;

	fputs("divvy(1) \"Divvy " DIVVY_VERSION
	      "\" \"Divvy\"\n\n# NAME\n\ndivvy - GPU instances on this machine\n\n"
	      "# SYNOPSIS\n\n*divvy* _verb_ [_word_...] [_--option_...]\n\n# DESCRIPTION\n\n"
	      "Divvy gives GPUs to virtual machines on Linux/KVM. A dedicated instance owns a whole GPU by passthrough; a shared one owns a "
	      "share of a GPU's time and memory, which a scheduler enforces. *divvy* speaks with the node's daemon, divvyd(8), over a UNIX "
	      "socket. What needs no daemon works without one.\n\nOptions may stand anywhere. Sizes are 512M, 4G, 1T: powers of 1024.\n\n",
	      out);
	for (unsigned group = 0; group < CLI_GROUPS; group++) {
		fputs("# ", out);
		for (const char *c = cli_group_titles[group]; *c; c++)
			fputc(*c >= 'a' && *c <= 'z' ? *c - 32 : *c, out);
		fputs("\n\n", out);
		for (unsigned i = 0; i < cli_verb_count; i++)
			if (cli_verbs[i].group == group && !(cli_verbs[i].flags & CLI_HIDDEN))
				manual_verb(out, &cli_verbs[i]);
	}
	fputs("# EXIT STATUS\n\n*0*\n\tyes\n\n*1*\n\tno: an error was printed, as *divvy: error[*_code_*]:* _text_ *(next:* _command_*)*, "
	      "or a check found what stands in the way\n\n*2*\n\tthe command line says nothing\n\n"
	      "# ENVIRONMENT\n\n*DIVVY\\_API*\n\tthe daemon's socket, or https://_HOST_:_PORT_, where --api is not said\n\n"
	      "*DIVVY\\_CERT*, *DIVVY\\_KEY*, *DIVVY\\_CACERT*\n\tfiles in PEM, where --cert, --key, --cacert are not said\n\n"
	      "*NO\\_COLOR*\n\tno colour, on a terminal too\n\n*COLUMNS*\n\twidth of tables on a terminal, instead of its own\n\n"
	      "# FILES\n\n_/run/divvy/api_\n\tthe daemon's socket\n\n_/etc/divvy/types.d/\\*.yaml_\n\tinstance types, divvy-types(5)\n\n"
	      "# SEE ALSO\n\ndivvyd(8), divvy-vmm(1), divvy-vgpu(1), divvy-types(5)\n",
	      out);
	return CLI_OK;
}
