// SPDX-License-Identifier: Apache-2.0
/* Findings, as every verb prints them. */
#include "instances/cli.h"

static const struct {
	const char *text, *json;
} levels[] = {
	[FINDING_OK] = { "OK", "ok" },
	[FINDING_NOTE] = { "NOTE", "note" },
	[FINDING_BLOCKER] = { "BLOCKER", "blocker" },
};

void cli_findings_print(const struct findings *f, FILE *out)
{
	for (unsigned i = 0; i < f->count; i++) {
		const struct finding *item = &f->items[i];

		fprintf(out, "%-8s %s", levels[item->level].text, item->fact);
		if (item->meaning[0])
			fprintf(out, " - %s", item->meaning);
		if (item->next[0])
			fprintf(out, " (next: %s)", item->next);
		fputc('\n', out);
	}
}

json_t *cli_findings_json(const struct findings *f)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < f->count; i++) {
		const struct finding *item = &f->items[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:s, s:s}", "level",
						      levels[item->level].json, "code", item->code,
						      "fact", cli_json_text(item->fact), "meaning",
						      item->meaning, "next", item->next));
	}
	return list;
}
