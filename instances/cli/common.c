// SPDX-License-Identifier: Apache-2.0
/* What verbs share: numbers, names, JSON and errors as they are printed. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/building.h"
#include "instances/cli/cli.h"
#include "instances/cli/table.h"

int cli_number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return !isdigit((unsigned char)text[0]) || *end || errno || *value < min || *value > max
		       ? -EINVAL
		       : 0;
}

bool cli_name_ok(const char *name)
{
	const size_t length = strlen(name);

	return length && length <= 41 && name[0] != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

json_t *cli_json_text(const char *text)
{
	char copy[sizeof(((struct error *)0)->text)];

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	return json_string(copy);
}

void cli_json_print(const struct cli *cli, json_t *json)
{
	if (!json)
		return;
	json_dumpf(json, cli->out, JSON_INDENT(2) | JSON_READABLE);
	fputc('\n', cli->out);
	json_decref(json);
}

void cli_text_print(FILE *out, const char *text, const char *next, unsigned at, unsigned indent)
{
	const unsigned width = table_width(out);
	char then[sizeof(((struct error *)0)->next) + 16] = "";

	if (next[0])
		snprintf(then, sizeof(then), "(next: %s)", next);
	at = table_text_wrap(out, text, at, indent, width);
	if (then[0] && width != TABLE_WIDE && at + 1 + table_text_width(then) > width) {
		fprintf(out, "\n%*s", (int)indent, "");
		at = indent;
	} else if (then[0]) {
		fputc(' ', out);
		at++;
	}
	table_text_wrap(out, then, at, indent, width);
	fputc('\n', out);
}

void cli_error_print(const struct error *e)
{
	char text[sizeof(e->text) + 128];

	if (table_width(stderr) == TABLE_WIDE) {
		error_print(e, "divvy");
		return;
	}
	snprintf(text, sizeof(text), "divvy: error[%s]: %s", e->code ? e->code : "internal",
		 e->text);
	cli_text_print(stderr, text, e->next, 0, 2);
}

int cli_fail(const struct cli *cli, const struct error *e)
{
	cli_error_print(e);
	if (cli->json)
		cli_json_print(cli,
			       json_pack("{s:{s:s, s:o, s:o}}", "error", "code",
					 e->code ? e->code : "internal", "text",
					 cli_json_text(e->text), "next", cli_json_text(e->next)));
	return CLI_FAILED;
}

static const char *level_name(enum finding_level level, bool loud)
{
	switch (level) {
	case FINDING_OK:
		return loud ? "OK" : "ok";
	case FINDING_NOTE:
		return loud ? "NOTE" : "note";
	case FINDING_BLOCKER:
		break;
	}
	return loud ? "BLOCKER" : "blocker";
}

void cli_findings_print(const struct cli *cli, const struct findings *f)
{
	char text[sizeof(((struct finding *)0)->fact) + sizeof(((struct finding *)0)->meaning) + 8];

	for (unsigned i = 0; i < f->count; i++) {
		const struct finding *item = &f->items[i];

		snprintf(text, sizeof(text), "%s%s%s", item->fact, item->meaning[0] ? " - " : "",
			 item->meaning);
		fprintf(cli->out, "%-8s ", level_name(item->level, true));
		cli_text_print(cli->out, text, item->next, 9, 9);
	}
}

json_t *cli_findings_json(const struct findings *f)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < f->count; i++) {
		const struct finding *item = &f->items[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:o}", "level",
						      level_name(item->level, false), "code",
						      item->code, "fact", cli_json_text(item->fact),
						      "meaning", cli_json_text(item->meaning),
						      "next", cli_json_text(item->next)));
	}
	return list;
}
