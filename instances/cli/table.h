/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables for people: columns as wide as what is in them, cut where a terminal ends, blocks of lines where it is too narrow for any table.
 * Private to instances/ and its tests.
 */
#ifndef INSTANCES_CLI_TABLE_H
#define INSTANCES_CLI_TABLE_H

#include <stdio.h>

#include "base/base.h"

#define TABLE_COLUMNS_MAX 12
#define TABLE_WIDE	  UINT32_MAX /* no terminal: nothing is cut */

enum table_colour {
	TABLE_PLAIN,
	TABLE_GOOD,
	TABLE_WARN,
	TABLE_BAD,
	TABLE_DIM,
	TABLE_COLOURS
};

struct table_column {
	const char *title;
	bool right;	/* numbers */
	unsigned least; /* may be cut to so many columns; 0: never */
	bool below; /* of the last: a sentence, which stands below its row where it does not fit */
};

struct table;
/* table_create() - @columns, @count of them, are borrowed. NULL: out of memory. */
struct table *table_create(const struct table_column *columns, unsigned count);
void table_destroy(struct table *table); /* NULL is fine */
/*
 * table_cell() - the next cell, from left to right and row by row. Text is copied; control characters and what is no character of the locale
 * become '?'.
 */
void table_cell(struct table *table, enum table_colour colour, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* table_print() - all of it. @width: of the terminal, TABLE_WIDE: none; @colour: escapes are wanted. */
void table_print(const struct table *table, FILE *out, unsigned width, bool colour);

/* table_empty() - whether it has no rows. */
bool table_empty(const struct table *table);

/* table_width() - columns of the terminal that @out is, or $COLUMNS there; TABLE_WIDE where it is none. */
unsigned table_width(FILE *out);
/* table_colour() - whether @out is a terminal that has colours, and NO_COLOR (no-color.org) is not set. */
bool table_colour(FILE *out);
/* table_text_width() - columns that the text takes on a terminal. */
unsigned table_text_width(const char *text);
/* table_text_copy() - @text as table_cell() takes it, cut to @width columns ("…" stands for the rest). Returns @to. */
char *table_text_copy(char *to, size_t size, const char *text, unsigned width);
/*
 * table_text_wrap() - @text from column @at on, broken between words into lines of at most @width columns, all but the first from column @indent on.
 * A word that is longer stays whole. No newline at the end. Returns the column that comes next.
 */
unsigned table_text_wrap(FILE *out, const char *text, unsigned at, unsigned indent, unsigned width);

#endif
