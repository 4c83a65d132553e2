// SPDX-License-Identifier: Apache-2.0
/* Texts of bounded length, built piece by piece, and what others wrote made fit to be shown. */
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

char *text_printable(char *text)
{
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
			*c = '?';
	return text;
}

const char *path_below(char *path, size_t size, const char *root, const char *fmt, va_list ap)
{
	int length = snprintf(path, size, "%s", root ? root : ""), n = -1;

	if (length >= 0 && (size_t)length < size)
		n = vsnprintf(path + length, size - (size_t)length, fmt, ap);
	if (n < 0 || (size_t)n >= size - (size_t)length)
		path[0] = '\0';
	return path;
}
