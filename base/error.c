// SPDX-License-Identifier: Apache-2.0
/* Errors: filled once where the facts are known, printed in one place. */
#include <stdarg.h>
#include <stdio.h>

#include "base/base.h"

int error_set(struct error *e, int err, const char *code, const char *next, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return -err;
	e->err = err;
	e->code = code;
	snprintf(e->next, sizeof(e->next), "%s", next ? next : "");
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return -err;
}

char *error_next(const char *verb, const char *name, char next[ERROR_NEXT_SIZE])
{
	snprintf(next, ERROR_NEXT_SIZE, "divvy %s %.60s", verb, name);
	return next;
}

void error_print(const struct error *e, const char *program)
{
	char prefix[8];

	log_prefix(LOG_LEVEL_ERROR, prefix, sizeof(prefix));
	fprintf(stderr, "%s%s: error[%s]: %s", prefix, program, e->code ? e->code : "internal",
		e->text);
	if (e->next[0])
		fprintf(stderr, " (next: %s)", e->next);
	fputc('\n', stderr);
}
