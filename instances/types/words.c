// SPDX-License-Identifier: Apache-2.0
/* The small things of reading types: numbers without rounding, the word that was meant, names, complaints with their place. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "instances/types/private.h"

int type_decimal(const char *text, unsigned digits, uint64_t *value)
{
	uint64_t sum = 0;
	unsigned places = 0;
	bool point = false, any = false;

	for (; *text; text++) {
		if (*text == '.' && !point) {
			point = true;
			continue;
		}
		if (*text < '0' || *text > '9')
			return -EINVAL;
		any = true;
		if (point && places == digits)
			continue;
		if (sum > (UINT64_MAX - 9) / 10)
			return -ERANGE;
		sum = sum * 10 + (uint64_t)(*text - '0');
		places += point;
	}
	for (; places < digits; places++) {
		if (sum > UINT64_MAX / 10)
			return -ERANGE;
		sum *= 10;
	}
	*value = sum;
	return any ? 0 : -EINVAL;
}

int type_share(const char *text, uint32_t *ppm)
{
	char copy[32], *slash;
	uint64_t value, divisor = 1;
	size_t length = strlen(text);
	unsigned digits = 6;

	if (!length || length >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, length + 1);
	slash = strchr(copy, '/');
	if (slash) {
		*slash = '\0';
		if (type_decimal(slash + 1, 0, &divisor) || !divisor || strchr(slash + 1, '.') ||
		    strchr(copy, '.'))
			return -EINVAL;
	} else if (copy[length - 1] == '%') {
		copy[length - 1] = '\0';
		digits = 4;
	}
	if (type_decimal(copy, digits, &value))
		return -EINVAL;
	value /= divisor;
	if (!value || value > SCHED_PPM)
		return -EINVAL;
	*ppm = (uint32_t)value;
	return 0;
}

/* ---- the word that was meant ----------------------------------------------------------------- */

#define WORD_MAX 41 /* as long as an instance's name may be */

static char folded(char c)
{
	return c == '-' || c == ' ' ? '_' : (char)tolower((unsigned char)c);
}

/* Edits between two words: a letter more, less, another, or two that changed places. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][WORD_MAX + 1];
	const unsigned n = (unsigned)strlen(a), m = (unsigned)strlen(b);
	unsigned *before = rows[0], *last = rows[1], *row = rows[2], *spare;

	for (unsigned j = 0; j <= m; j++)
		before[j] = last[j] = j;
	for (unsigned i = 1; i <= n; i++) {
		row[0] = i;
		for (unsigned j = 1; j <= m; j++) {
			const bool same = folded(a[i - 1]) == folded(b[j - 1]);

			row[j] = MIN(MIN(row[j - 1], last[j]) + 1, last[j - 1] + !same);
			if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
			    folded(a[i - 2]) == folded(b[j - 1]))
				row[j] = MIN(row[j], before[j - 2] + 1);
		}
		spare = before;
		before = last;
		last = row;
		row = spare;
	}
	return last[m];
}

const char *type_nearest(const char *word, const char *const *words, unsigned count)
{
	const char *best = NULL;
	unsigned least = UINT32_MAX;

	if (strlen(word) > WORD_MAX)
		return NULL;
	for (unsigned i = 0; i < count; i++) {
		const unsigned edits =
			strlen(words[i]) > WORD_MAX ? UINT32_MAX : distance(word, words[i]);

		if (edits < least) {
			least = edits;
			best = words[i];
		}
	}
	/* Half of the word has to be right. */
	return best && least <= MAX(1u, (unsigned)strlen(best) / 2) ? best : NULL;
}

char *type_is_it(const char *word, const char *const *words, unsigned count,
		 char text[TYPE_IS_IT_SIZE])
{
	const char *nearest = type_nearest(word, words, count);

	text[0] = '\0';
	if (nearest)
		snprintf(text, TYPE_IS_IT_SIZE, "; is it %s?", nearest);
	return text;
}

/* ---- names ------------------------------------------------------------------------------------ */

bool type_name_ok(const char *name)
{
	const size_t length = strlen(name);

	if (!length || length >= TYPE_NAME_SIZE)
		return false;
	for (const char *c = name; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
		      (c != name && (*c == '.' || *c == '-'))))
			return false;
	return true;
}

const char *type_mode_name(enum type_mode mode)
{
	return mode == TYPE_DEDICATED ? "dedicated" : "shared";
}

static const char *const providers[] = { "whole", "sriov", "mdev" };

const char *type_provider_name(enum type_provider provider)
{
	return provider < ARRAY_SIZE(providers) ? providers[provider] : "unknown";
}

int type_provider_parse(const char *text, enum type_provider *provider)
{
	for (unsigned i = 0; i < ARRAY_SIZE(providers); i++)
		if (!strcmp(text, providers[i])) {
			*provider = (enum type_provider)i;
			return 0;
		}
	return -EINVAL;
}

uint64_t type_gpu_vram_mib(const struct type_gpu *gpu, uint64_t total_mib)
{
	if (gpu->vram_mib)
		return gpu->vram_mib;
	return total_mib / SCHED_PPM * gpu->partition_ppm +
	       total_mib % SCHED_PPM * gpu->partition_ppm / SCHED_PPM;
}

bool type_is_dedicated(const struct instance_type *type)
{
	for (unsigned i = 0; i < type->gpu_count; i++)
		if (type->gpus[i].mode == TYPE_DEDICATED)
			return true;
	return false;
}

/* ---- complaints -------------------------------------------------------------------------------- */

size_t type_reader_enter(struct type_reader *reader, const char *key, size_t index)
{
	const size_t mark = strlen(reader->path);
	const char *dot = mark ? "." : "";

	if (key)
		text_append(reader->path, sizeof(reader->path), "%s%s", dot, key);
	else
		text_append(reader->path, sizeof(reader->path), "%s%zu", dot, index);
	return mark;
}

void type_reader_leave(struct type_reader *reader, size_t mark)
{
	reader->path[mark] = '\0';
}

void type_complain(struct type_reader *reader, const char *key, const char *code, const char *next,
		   const char *fmt, ...)
{
	char what[320], path[TYPE_PATH_SIZE], place[24] = "", text[600];
	const size_t mark = strlen(reader->path);
	unsigned line = 0;
	va_list ap;

	reader->failed = true;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (key[0])
		type_reader_enter(reader, key, 0);
	snprintf(path, sizeof(path), "%s", reader->path);
	type_reader_leave(reader, mark);
	if (reader->yaml)
		line = type_yaml_line(reader->yaml, path);
	if (line)
		snprintf(place, sizeof(place), ":%u", line);
	snprintf(text, sizeof(text), "%.120s%s: %s%s%s", reader->name, place, path,
		 path[0] ? ": " : "", what);
	/* Keys and values are somebody's bytes: they do not reach a terminal as they are. */
	text_printable(text);
	findings_add(reader->findings, FINDING_BLOCKER, code, NULL, next, "%s", text);
}
