// SPDX-License-Identifier: Apache-2.0
/* Texts of bounded length, built piece by piece; sizes and options as people write them; and what others wrote made fit to be shown. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

const char *option_abbreviated(char *const *argv, const char *name)
{
	const char *word = argv[optind - 1];
	size_t length;

	/* Its value is a word of its own. */
	if (optarg && optarg == word)
		word = argv[optind - 2];
	length = strcspn(word, "=");
	return length == strlen(name) + 2 && !strncmp(word + 2, name, length - 2) ? NULL : word;
}

int text_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "kmgtKMGT";
	const char *unit;
	unsigned shift = 0;
	uint64_t value;
	char *end;

	/* strtoull() takes blanks and a minus. */
	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)((unit - units) % 4 + 1);
	}
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = value << shift;
	return 0;
}

bool uuid_ok(const char *text)
{
	if (strlen(text) != UUID_TEXT_SIZE - 1)
		return false;
	for (unsigned i = 0; i < UUID_TEXT_SIZE - 1; i++) {
		const bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !strchr("0123456789abcdef", text[i]))
			return false;
	}
	return true;
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
