// SPDX-License-Identifier: Apache-2.0
/* Tables that fit the terminal (table.h). Widths are columns of the screen, not bytes: wcwidth(3) knows them in the caller's locale. */
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "instances/cli/table.h"

#define GAP	 2 /* between columns */
#define INDENT	 4 /* of what stands below its row */
#define CELL_MAX 512
#define EMPTY	 "-"

static const char *const escapes[TABLE_COLOURS] = {
	[TABLE_GOOD] = "\033[32m",
	[TABLE_WARN] = "\033[33m",
	[TABLE_BAD] = "\033[31m",
	[TABLE_DIM] = "\033[2m",
};

struct cell {
	enum table_colour colour;
	char *text;
};

struct table {
	const struct table_column *columns;
	unsigned column_count;
	size_t count, room;
	struct cell *cells;
	bool failed; /* out of memory: said when it is printed */
};

/* ---- characters ------------------------------------------------------------------------------- */

/* One character of @text: how many bytes, and how many columns; 0 columns for what must not reach a terminal. */
static size_t character(const char *text, int *columns)
{
	mbstate_t state = { 0 };
	wchar_t wide;
	size_t n = mbrtowc(&wide, text, MB_CUR_MAX, &state);

	*columns = 0;
	if (n == (size_t)-1 || n == (size_t)-2 || !n)
		return 1;
	*columns = MAX(wcwidth(wide), 0);
	return n;
}

unsigned table_text_width(const char *text)
{
	unsigned width = 0;
	int columns;

	while (*text) {
		text += character(text, &columns);
		width += columns ? (unsigned)columns : 1;
	}
	return width;
}

/* What stands for the end of a text that was cut: one column. */
static const char *ellipsis(void)
{
	return strcmp(nl_langinfo(CODESET), "UTF-8") ? "~" : "…";
}

char *table_text_copy(char *to, size_t size, const char *text, unsigned width)
{
	const bool cut = table_text_width(text) > width;
	unsigned used = 0;
	size_t at = 0;
	int columns;

	while (*text) {
		size_t n = character(text, &columns);
		const unsigned wide = columns ? (unsigned)columns : 1;

		if (used + wide + cut > width || at + n + 4 >= size)
			break;
		if (columns)
			memcpy(to + at, text, n);
		else
			to[at] = '?';
		at += columns ? n : 1;
		used += wide;
		text += n;
	}
	to[at] = '\0';
	if (cut && width)
		strcpy(to + at, ellipsis());
	return to;
}

unsigned table_text_wrap(FILE *out, const char *text, unsigned at, unsigned indent, unsigned width)
{
	bool first = true;

	while (*text) {
		const size_t blanks = strspn(text, " "), length = strcspn(text + blanks, " ");
		char word[1024];
		unsigned wide;

		snprintf(word, sizeof(word), "%.*s", (int)length, text + blanks);
		wide = table_text_width(word);
		if (!first && at + blanks + wide > width) {
			fprintf(out, "\n%*s", (int)indent, "");
			at = indent;
		} else {
			fprintf(out, "%*s", (int)blanks, "");
			at += (unsigned)blanks;
		}
		fprintf(out, "%.*s", (int)length, text + blanks);
		at += wide;
		text += blanks + length;
		first = false;
	}
	return at;
}

unsigned table_width(FILE *out)
{
	const char *said = getenv("COLUMNS");
	const int fd = fileno(out);
	struct winsize size;

	if (fd < 0 || !isatty(fd))
		return TABLE_WIDE;
	if (said && atoi(said) > 0)
		return (unsigned)atoi(said);
	if (ioctl(fd, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return 80;
	return size.ws_col;
}

bool table_colour(FILE *out)
{
	const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");
	const int fd = fileno(out);

	return fd >= 0 && isatty(fd) && !(no && no[0]) && terminal && strcmp(terminal, "dumb") != 0;
}

/* ---- the table -------------------------------------------------------------------------------- */

struct table *table_create(const struct table_column *columns, unsigned count)
{
	struct table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->columns = columns;
	table->column_count = MIN(count, TABLE_COLUMNS_MAX);
	return table;
}

void table_destroy(struct table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i].text);
	free(table->cells);
	free(table);
}

void table_cell(struct table *table, enum table_colour colour, const char *fmt, ...)
{
	char text[CELL_MAX], shown[CELL_MAX + 8];
	struct cell *grown;
	va_list ap;

	if (!table)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (table->count == table->room) {
		grown = reallocarray(table->cells, table->room ? table->room * 2 : 64,
				     sizeof(*grown));
		table->failed |= !grown;
		if (!grown)
			return;
		table->room = table->room ? table->room * 2 : 64;
		table->cells = grown;
	}
	table_text_copy(shown, sizeof(shown), text, TABLE_WIDE - 1);
	table->cells[table->count].colour = colour;
	table->cells[table->count].text = strdup(shown[0] ? shown : EMPTY);
	table->failed |= !table->cells[table->count].text;
	table->count += table->cells[table->count].text != NULL;
}

static void cell_print(const struct table_column *column, const char *text, unsigned width,
		       bool last, const char *escape, FILE *out)
{
	char shown[CELL_MAX + 8];
	unsigned used;

	table_text_copy(shown, sizeof(shown), text, width);
	used = table_text_width(shown);
	if (column->right)
		fprintf(out, "%*s", (int)(width - MIN(used, width)), "");
	fprintf(out, "%s%s%s", escape ? escape : "", shown, escape ? "\033[0m" : "");
	if (!last)
		fprintf(out, "%*s", (int)((column->right ? 0 : width - MIN(used, width)) + GAP),
			"");
	else
		fputc('\n', out);
}

/* The first @count columns as wide as what is in them; cut, the widest first, until the line fits. Returns whether it does. */
static bool widths_fit(const struct table *table, unsigned count,
		       unsigned widths[TABLE_COLUMNS_MAX], unsigned limit)
{
	unsigned total = (count - 1) * GAP;

	for (unsigned c = 0; c < table->column_count; c++)
		widths[c] = table_text_width(table->columns[c].title);
	for (size_t i = 0; i < table->count; i++) {
		const unsigned c = (unsigned)(i % table->column_count);

		widths[c] = MAX(widths[c], table_text_width(table->cells[i].text));
	}
	for (unsigned c = 0; c < count; c++)
		total += widths[c];
	if (table->columns[count - 1].below && total > limit)
		return false;
	while (total > limit) {
		unsigned *widest = NULL;

		for (unsigned c = 0; c < count; c++)
			if (table->columns[c].least && widths[c] > table->columns[c].least &&
			    (!widest || widths[c] > *widest))
				widest = &widths[c];
		if (!widest)
			return false;
		(*widest)--;
		total--;
	}
	return true;
}

/* Each row as lines of "title  value". */
static void blocks_print(const struct table *table, FILE *out, unsigned width, bool colour)
{
	unsigned titles = 0;

	for (unsigned c = 0; c < table->column_count; c++)
		titles = MAX(titles, table_text_width(table->columns[c].title));
	for (size_t i = 0; i < table->count; i++) {
		const struct table_column *column = &table->columns[i % table->column_count];
		const struct table_column left = { .title = column->title };
		const unsigned room = width > titles + 1 ? width - titles - 1 : 1;
		const struct cell *cell = &table->cells[i];

		if (i && i % table->column_count == 0)
			fputc('\n', out);
		fprintf(out, "%-*s ", (int)MIN(titles, width), column->title);
		cell_print(&left, cell->text, room, true, colour ? escapes[cell->colour] : NULL,
			   out);
	}
}

static void below_print(const char *text, FILE *out, unsigned width)
{
	fprintf(out, "%*s", INDENT, "");
	table_text_wrap(out, text, INDENT, INDENT, width);
	fputc('\n', out);
}

bool table_empty(const struct table *table)
{
	return table && !table->count && !table->failed;
}

void table_print(const struct table *table, FILE *out, unsigned width, bool colour)
{
	unsigned widths[TABLE_COLUMNS_MAX], count;

	if (!table || table->failed || !table->column_count) {
		fputs("divvy: error[no-memory]: no memory for a table\n", stderr);
		return;
	}
	count = table->column_count;
	if (!widths_fit(table, count, widths, width) &&
	    !(table->columns[count - 1].below && --count &&
	      widths_fit(table, count, widths, width))) {
		blocks_print(table, out, width, colour);
		return;
	}
	for (unsigned c = 0; c < count; c++)
		cell_print(&table->columns[c], table->columns[c].title, widths[c], c == count - 1,
			   colour ? "\033[1m" : NULL, out);
	for (size_t i = 0; i < table->count; i++) {
		const unsigned c = (unsigned)(i % table->column_count);

		if (c < count)
			cell_print(&table->columns[c], table->cells[i].text, widths[c],
				   c == count - 1, colour ? escapes[table->cells[i].colour] : NULL,
				   out);
		else if (strcmp(table->cells[i].text, EMPTY) != 0)
			below_print(table->cells[i].text, out, width);
	}
}
