// SPDX-License-Identifier: Apache-2.0
/* Findings: facts that were read, what they mean, what to do next. */
#include <stdarg.h>
#include <stdio.h>

#include "base/base.h"

void findings_add(struct findings *f, enum finding_level level, const char *code,
		  const char *meaning, const char *next, const char *fact_fmt, ...)
{
	struct finding *item = NULL;
	va_list ap;

	if (f->count < FINDINGS_MAX) {
		item = &f->items[f->count++];
	} else if (level == FINDING_BLOCKER) {
		for (unsigned i = FINDINGS_MAX; i-- > 0 && !item;)
			if (f->items[i].level != FINDING_BLOCKER)
				item = &f->items[i];
	}
	if (!item)
		return;
	item->level = level;
	item->code = code;
	snprintf(item->meaning, sizeof(item->meaning), "%s", meaning ? meaning : "");
	snprintf(item->next, sizeof(item->next), "%s", next ? next : "");
	va_start(ap, fact_fmt);
	vsnprintf(item->fact, sizeof(item->fact), fact_fmt, ap);
	va_end(ap);
}

unsigned findings_blockers(const struct findings *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->count; i++)
		n += f->items[i].level == FINDING_BLOCKER;
	return n;
}
