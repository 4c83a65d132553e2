// SPDX-License-Identifier: Apache-2.0
/* Texts of bounded length, built piece by piece. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

void text_append(char *text, size_t size, const char *fmt, ...)
{
	size_t len = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + len, size - len, fmt, ap);
	va_end(ap);
}
