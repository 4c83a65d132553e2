// SPDX-License-Identifier: Apache-2.0
/*
 * Completion: the shells' scripts are a few lines and ask `divvy __complete WORD...`, whose last word is the one that is being typed. It
 * prints candidates, one a line, a tab and what it is behind; or ":file" or ":folder" alone, where the shell knows better.
 */
#include <string.h>

#include "instances/cli/api.h"
#include "instances/cli/here.h"

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* A name from outside becomes part of a command line: it is shown only if a shell takes it for a word. */
static bool plain(const char *name)
{
	for (const char *c = name; *c; c++)
		if (!(*c >= '0' && *c <= '9') && !(*c >= 'a' && *c <= 'z') &&
		    !(*c >= 'A' && *c <= 'Z') && !strchr("-._:/@+,", *c))
			return false;
	return name[0];
}

static void candidate(const struct cli *cli, const char *typed, const char *name, const char *means)
{
	if (!begins(name, typed) || !plain(name))
		return;
	fputs(name, cli->out);
	if (means && means[0])
		fprintf(cli->out, "\t%s", means);
	fputc('\n', cli->out);
}

/* Names of the daemon's list, or of this machine's. Nothing there is nothing to complete. */
static void names(struct cli *cli, const char *list, const char *key, const char *about,
		  const char *typed)
{
	struct error e;
	char path[64];
	json_t *json, *item;
	size_t i;

	snprintf(path, sizeof(path), "/%s", list);
	json = !here_is_asked(cli)	? api_get(cli, path, &e)
	       : !strcmp(list, "gpus")	? here_gpus(cli, &e)
	       : !strcmp(list, "types") ? here_types(cli, &e)
					: NULL;
	json_array_foreach(json_object_get(json, list), i, item)
	{
		const char *name = json_string_value(json_object_get(item, key));
		const char *means = json_string_value(json_object_get(item, about));

		if (name)
			candidate(cli, typed, name, means && plain(means) ? means : NULL);
	}
	json_decref(json);
}

static void verbs(const struct cli *cli, const char *typed)
{
	for (unsigned i = 0; i < cli_verb_count; i++)
		if (!(cli_verbs[i].flags & CLI_HIDDEN) && !strchr(cli_verbs[i].name, ' '))
			candidate(cli, typed, cli_verbs[i].name, cli_verbs[i].help);
}

/* @how: a word of cli.h, or the words themselves. */
static void values(struct cli *cli, const char *how, const char *typed)
{
	char word[64];

	for (; how && *how; how += strspn(how, " ")) {
		const size_t length = strcspn(how, " ");

		snprintf(word, sizeof(word), "%.*s", (int)length, how);
		how += length;
		if (!strcmp(word, CLI_INSTANCE))
			names(cli, "instances", "name", "state", typed);
		else if (!strcmp(word, CLI_TYPE))
			names(cli, "types", "name", "", typed);
		else if (!strcmp(word, CLI_GPU)) {
			names(cli, "gpus", "pci_address", "id", typed);
			names(cli, "gpus", "id", "state", typed);
		} else if (!strcmp(word, CLI_VERB))
			verbs(cli, typed);
		else if (!strcmp(word, CLI_FILE) || !strcmp(word, CLI_FOLDER))
			fprintf(cli->out, "%s\n", word);
		else
			candidate(cli, typed, word, NULL);
	}
}

static const struct cli_option *option_of(const struct cli_verb *verb, const char *word)
{
	const size_t length = strcspn(word + 2, "=");
	const struct cli_option *option;

	for (unsigned i = 0; (option = cli_verb_options(verb, i)); i++)
		if (strlen(option->name) == length && !strncmp(option->name, word + 2, length))
			return option;
	return NULL;
}

static void options(const struct cli *cli, const struct cli_verb *verb, const char *typed)
{
	const struct cli_option *option;
	char dashed[64];

	for (unsigned i = 0; (option = cli_verb_options(verb, i)); i++) {
		snprintf(dashed, sizeof(dashed), "--%s", option->name);
		candidate(cli, typed, dashed, option->help);
	}
}

/* The second words of verbs of two: "types check". */
static void second_words(const struct cli *cli, const char *first, const char *typed)
{
	const size_t length = strlen(first);

	for (unsigned i = 0; i < cli_verb_count; i++)
		if (!strncmp(cli_verbs[i].name, first, length) && cli_verbs[i].name[length] == ' ')
			candidate(cli, typed, cli_verbs[i].name + length + 1, cli_verbs[i].help);
}

int cli_complete(struct cli *cli)
{
	const char *typed = cli->count ? cli->words[cli->count - 1] : "", *before;
	const struct cli_option *option;
	const struct cli_verb *verb;
	unsigned used;

	if (cli->count < 2) {
		verbs(cli, typed);
		return CLI_OK;
	}
	verb = cli_verb_match(cli->count - 1, cli->words, &used);
	if (!verb)
		return CLI_OK;
	for (unsigned i = used; i + 1 < cli->count; i++) {
		const char *word = cli->words[i];

		/* What was typed so far says where names are to be had. */
		if (i + 2 < cli->count && !strcmp(word, "--api"))
			cli->api = cli->words[i + 1];
		if (i + 2 < cli->count && !strcmp(word, "--root"))
			cli->root = cli->words[i + 1];
		/* A program and its words are the program's. */
		option =
			begins(cli->words[i - 1], "--") ? option_of(verb, cli->words[i - 1]) : NULL;
		if (verb->flags & CLI_REST && word[0] != '-' && !(option && option->value))
			used = cli->count;
	}
	before = cli->words[cli->count - 2];
	option = begins(before, "--") && cli->count - 1 > used ? option_of(verb, before) : NULL;
	if (option && option->value && option->value[0] != '[' && !strchr(before, '='))
		values(cli, option->complete, typed);
	else if (begins(typed, "--") && strchr(typed, '=') && (option = option_of(verb, typed)))
		values(cli, option->complete, strchr(typed, '=') + 1);
	else if (begins(typed, "-") && used <= cli->count - 1)
		options(cli, verb, typed);
	else {
		if (used == 1 && cli->count == 2)
			second_words(cli, cli->words[0], typed);
		values(cli, verb->complete, typed);
	}
	return CLI_OK;
}

static const char bash[] =
	"# Completion of divvy(1) for bash: divvy completion bash\n"
	"_divvy() {\n"
	"\tlocal line=${COMP_LINE:0:COMP_POINT} words cur prefix candidates candidate IFS=$' \\t\\n'\n"
	"\tread -ra words <<<\"$line\"\n"
	"\t[[ $line != *[[:space:]] ]] || words+=(\"\")\n"
	"\tcur=${words[-1]}\n"
	"\tcandidates=$(\"${words[0]}\" __complete -- \"${words[@]:1}\" 2>/dev/null)\n"
	"\tcase $candidates in\n"
	"\t:file*) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"${cur##*=}\"); return ;;\n"
	"\t:folder*) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"${cur##*=}\"); return ;;\n"
	"\tesac\n"
	"\t# readline takes the word from its last : or = on, where those break words\n"
	"\tprefix=\n"
	"\t[[ $COMP_WORDBREAKS != *:* || $cur != *:* ]] || prefix=${cur%\"${cur##*:}\"}\n"
	"\tCOMPREPLY=()\n"
	"\twhile IFS=$'\\t' read -r candidate _; do\n"
	"\t\t[[ -z $candidate ]] || COMPREPLY+=(\"${candidate#\"$prefix\"}\")\n"
	"\tdone <<<\"$candidates\"\n"
	"}\n"
	"complete -F _divvy divvy\n";

static const char zsh[] =
	"#compdef divvy\n"
	"# Completion of divvy(1) for zsh: divvy completion zsh\n"
	"_divvy() {\n"
	"\tlocal -a lines described\n"
	"\tlocal line name\n"
	"\tlines=(\"${(@f)$(\"${words[1]}\" __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
	"\tcase $lines[1] in\n"
	"\t:file) _files; return ;;\n"
	"\t:folder) _files -/; return ;;\n"
	"\tesac\n"
	"\tcompset -P '--*='\n"
	"\tfor line in $lines; do\n"
	"\t\tname=${line%%$'\\t'*}\n"
	"\t\tdescribed+=(\"${name//:/\\\\:}${${line#$name}/$'\\t'/:}\")\n"
	"\tdone\n"
	"\t_describe -V divvy described\n"
	"}\n"
	"if [[ $funcstack[1] == _divvy ]]; then _divvy \"$@\"; else compdef _divvy divvy; fi\n";

static const char fish[] =
	"# Completion of divvy(1) for fish: divvy completion fish\n"
	"function __divvy_complete\n"
	"\tset -l words (commandline -opc) (commandline -ct)\n"
	"\tset -l lines ($words[1] __complete -- $words[2..] 2>/dev/null)\n"
	"\tset -l typed (string replace -r '^--[^=]*=' '' -- (commandline -ct))\n"
	"\tset -l option (string match -r '^--[^=]*=' -- (commandline -ct))\n"
	"\tswitch \"$lines[1]\"\n"
	"\t\tcase :file\n"
	"\t\t\t__fish_complete_path $typed | string replace -r '^' -- \"$option\"\n"
	"\t\tcase :folder\n"
	"\t\t\t__fish_complete_directories $typed | string replace -r '^' -- \"$option\"\n"
	"\t\tcase '*'\n"
	"\t\t\tprintf '%s\\n' $lines | string replace -r '^' -- \"$option\"\n"
	"\tend\n"
	"end\n"
	"complete -c divvy -f -k -a '(__divvy_complete)'\n";

int cli_completion(struct cli *cli)
{
	static const struct {
		const char *shell, *script;
	} scripts[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };

	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++)
		if (!strcmp(cli->words[0], scripts[i].shell)) {
			fputs(scripts[i].script, cli->out);
			return CLI_OK;
		}
	return cli_usage(cli, "completion for which shell? bash, zsh or fish");
}
