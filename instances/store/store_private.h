/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the store share: statements in one call. Private to instances/store/. */
#ifndef INSTANCES_STORE_STORE_PRIVATE_H
#define INSTANCES_STORE_STORE_PRIVATE_H

#include <sqlite3.h>

#include "instances/store/store.h"

struct store {
	sqlite3 *db;
	int lock_fd;
	unsigned events_kept, leases_kept;
	char folder[3900];
};

/* store_error() - *e from what SQLite said last. Returns -errno. */
int store_error(struct store *store, struct error *e);
/*
 * store_do() - a statement with its values: @types has a letter for each, s: const char * (NULL is NULL), i: int64_t. @each is called with
 * every row; not 0, it ends them and is what is returned.
 */
typedef int store_row(void *opaque, sqlite3_stmt *row);
int store_do(struct store *store, struct error *e, store_row *each, void *opaque, const char *sql,
	     const char *types, ...);
/* store_text() - a column into @text, cut; NULL is "". */
void store_text(sqlite3_stmt *row, int column, char *text, size_t size);
/* store_schema() - of STORE_VERSION, from @version on (0: nothing is there). Within a transaction. */
int store_schema(struct store *store, int version, struct error *e);

#endif
