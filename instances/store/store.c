// SPDX-License-Identifier: Apache-2.0
/*
 * The store's file: opened by one process, judged before anything is written to it, copied while it is used. A new one is made beside its
 * name and then named, so that an empty file under that name is never a new store but a broken one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instances/store/store_private.h"

#define APPLICATION_ID 0x44767679 /* "Dvvy": PRAGMA application_id */
#define BUSY_MS	       5000

/* ---- statements -------------------------------------------------------------------------------- */

static int corrupt(struct store *store, const char *why, struct error *e)
{
	return error_set(e, EUCLEAN, "store-corrupt",
			 "keep the file, and put a copy made by `divvy backup` in its place",
			 "%s/state.db cannot be used, and is left as it is: %.400s", store->folder,
			 why);
}

int store_error(struct store *store, struct error *e)
{
	const char *text = sqlite3_errmsg(store->db);

	switch (sqlite3_errcode(store->db)) {
	case SQLITE_FULL:
		return error_set(e, ENOSPC, "store-full", "make room, then do it again",
				 "%s: the disk is full; nothing was changed", store->folder);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return corrupt(store, text, e);
	case SQLITE_CONSTRAINT:
		return error_set(e, EBUSY, "gpu-taken", "divvy list gpus", "%.400s", text);
	case SQLITE_READONLY:
		return error_set(e, EROFS, "store-failed", NULL, "%s: %.400s", store->folder, text);
	default:
		return error_set(e, EIO, "store-failed", NULL, "%s/state.db: %.400s", store->folder,
				 text);
	}
}

static int bind_all(sqlite3_stmt *statement, const char *types, va_list ap)
{
	int rc = SQLITE_OK;

	for (int i = 1; *types && rc == SQLITE_OK; i++, types++)
		rc = *types == 's' ? sqlite3_bind_text(statement, i, va_arg(ap, const char *), -1,
						       SQLITE_TRANSIENT)
				   : sqlite3_bind_int64(statement, i, va_arg(ap, int64_t));
	return rc;
}

int store_do(struct store *store, struct error *e, store_row *each, void *opaque, const char *sql,
	     const char *types, ...)
{
	sqlite3_stmt *statement;
	int rc, err = 0;
	va_list ap;

	rc = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
	if (rc != SQLITE_OK)
		return store_error(store, e);
	va_start(ap, types);
	rc = bind_all(statement, types, ap);
	va_end(ap);
	while (rc == SQLITE_OK && !err) {
		rc = sqlite3_step(statement);
		if (rc == SQLITE_ROW) {
			rc = SQLITE_OK;
			err = each ? each(opaque, statement) : 0;
		}
	}
	if (!err && rc != SQLITE_DONE)
		err = store_error(store, e);
	sqlite3_finalize(statement);
	return err;
}

void store_text(sqlite3_stmt *row, int column, char *text, size_t size)
{
	const unsigned char *value = sqlite3_column_text(row, column);

	snprintf(text, size, "%s", value ? (const char *)value : "");
}

int store_begin(struct store *store, struct error *e)
{
	return store_do(store, e, NULL, NULL, "BEGIN IMMEDIATE", "");
}

int store_commit(struct store *store, struct error *e)
{
	return store_do(store, e, NULL, NULL, "COMMIT", "");
}

void store_rollback(struct store *store)
{
	if (!sqlite3_get_autocommit(store->db))
		sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- opening ----------------------------------------------------------------------------------- */

/* A lock of the process's (fcntl), which no child of it has: one that outlives us keeps nobody out. */
int store_lock(const char *folder, struct error *e)
{
	struct flock want = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[4000];
	int fd, err;

	snprintf(path, sizeof(path), "%s/lock", folder);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set(e, errno, "store-failed", NULL, "%s: %s", path, strerror(errno));
	if (!fcntl(fd, F_SETLK, &want))
		return fd;
	err = errno;
	if (fcntl(fd, F_GETLK, &want) < 0 || want.l_type == F_UNLCK)
		want.l_pid = 0;
	fd_close(&fd);
	if (err != EACCES && err != EAGAIN)
		return error_set(e, err, "store-failed", NULL, "%s: %s", path, strerror(err));
	return error_set(e, EBUSY, "store-in-use", "systemctl status divvyd",
			 "%s is another's: process %d has it", folder, (int)want.l_pid);
}

static int one_number(void *number, sqlite3_stmt *row)
{
	*(int64_t *)number = sqlite3_column_int64(row, 0);
	return 0;
}

/* integrity_check says "ok", or what is wrong, a row each; foreign_key_check says nothing, or what. */
static int one_complaint(void *text, sqlite3_stmt *row)
{
	const char *said = (const char *)sqlite3_column_text(row, 0);

	if (said && strcmp(said, "ok") != 0 && !*(char *)text)
		snprintf(text, 256, "%s", said);
	return 0;
}

int store_check(struct store *store, struct error *e)
{
	char complaint[256] = "";
	int err = store_do(store, e, one_complaint, complaint, "PRAGMA integrity_check(4)", "");

	if (!err)
		err = store_do(store, e, one_complaint, complaint, "PRAGMA foreign_key_check", "");
	return err ? err : complaint[0] ? corrupt(store, complaint, e) : 0;
}

static int open_file(struct store *store, const char *path, int flags, struct error *e)
{
	if (sqlite3_open_v2(path, &store->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		return store->db ? store_error(store, e)
				 : error_set(e, ENOMEM, "no-memory", NULL, "no memory");
	sqlite3_busy_timeout(store->db, BUSY_MS);
	sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_extended_result_codes(store->db, 0);
	return 0;
}

static void close_file(struct store *store)
{
	sqlite3_close(store->db);
	store->db = NULL;
}

static int flush_folder(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* What is not whole yet has another name. */
static int make_new(struct store *store, const char *path, struct error *e)
{
	char new[4000], side[4016], sql[64];
	int err;

	snprintf(new, sizeof(new), "%s/state.db.new", store->folder);
	snprintf(side, sizeof(side), "%s-journal", new);
	unlink(new);
	unlink(side);
	err = open_file(store, new, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e);
	snprintf(sql, sizeof(sql), "PRAGMA application_id = %d", APPLICATION_ID);
	if (!err)
		err = store_do(store, e, NULL, NULL, sql, "");
	if (!err)
		err = store_begin(store, e);
	if (!err)
		err = store_schema(store, 0, e);
	if (!err)
		err = store_commit(store, e);
	close_file(store);
	if (!err && (chmod(new, 0600) < 0 || rename(new, path) < 0))
		err = error_set(e, errno, "store-failed", NULL, "%s: %s", path, strerror(errno));
	return err ? err : flush_folder(store->folder);
}

static int migrate(struct store *store, struct error *e)
{
	int64_t version = 0, application = 0;
	int err = store_do(store, e, one_number, &version, "PRAGMA user_version", "");

	if (!err)
		err = store_do(store, e, one_number, &application, "PRAGMA application_id", "");
	if (err)
		return err;
	if (application != APPLICATION_ID)
		return corrupt(store, "it is no store of divvyd's", e);
	if (version > STORE_VERSION)
		return error_set(e, ENOTSUP, "store-newer", "install the newer Divvy again",
				 "%s/state.db is of version %d, this program knows %d",
				 store->folder, (int)version, STORE_VERSION);
	err = store_check(store, e);
	if (err || version == STORE_VERSION)
		return err;
	err = store_begin(store, e);
	if (!err)
		err = store_schema(store, (int)version, e);
	if (!err)
		err = store_commit(store, e);
	if (err)
		store_rollback(store);
	return err;
}

static int open_store(struct store *store, struct error *e)
{
	char path[4000], side[4016];
	struct stat st, wal;
	int err = 0;

	if (mkdir(store->folder, 0700) < 0 && errno != EEXIST)
		return error_set(e, errno, "store-failed", NULL, "%s: %s", store->folder,
				 strerror(errno));
	store->lock_fd = store_lock(store->folder, e);
	if (store->lock_fd < 0)
		return store->lock_fd;
	snprintf(path, sizeof(path), "%s/state.db", store->folder);
	snprintf(side, sizeof(side), "%s-wal", path);
	if (lstat(path, &st) < 0) {
		if (errno != ENOENT)
			return error_set(e, errno, "store-failed", NULL, "%s: %s", path,
					 strerror(errno));
		if (!lstat(side, &wal))
			return corrupt(store, "its log is there, and it is not", e);
		err = make_new(store, path, e);
	} else if (!S_ISREG(st.st_mode) || !st.st_size) {
		return corrupt(store, "it is empty", e);
	}
	if (!err)
		err = open_file(store, path, SQLITE_OPEN_READWRITE, e);
	if (!err)
		err = migrate(store, e);
	if (!err)
		err = store_do(store, e, NULL, NULL, "PRAGMA journal_mode = WAL", "");
	/* FULL: what is committed has reached the disk. */
	if (!err)
		err = store_do(store, e, NULL, NULL, "PRAGMA synchronous = FULL", "");
	if (!err)
		err = store_do(store, e, NULL, NULL, "PRAGMA foreign_keys = ON", "");
	return err;
}

int store_open(const char *folder, struct store **out, struct error *e)
{
	struct store *store = calloc(1, sizeof(*store));
	int err;

	if (!store)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for the store");
	store->lock_fd = -1;
	store_keep(store, STORE_EVENTS_KEPT, STORE_LEASES_KEPT);
	if (strlen(folder) >= sizeof(store->folder)) {
		free(store);
		return error_set(e, ENAMETOOLONG, "store-failed", NULL, "a path too long");
	}
	strcpy(store->folder, folder);
	err = open_store(store, e);
	if (err) {
		store_close(store);
		return err;
	}
	*out = store;
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	sqlite3_close(store->db);
	fd_close(&store->lock_fd);
	free(store);
}

/* ---- copies ------------------------------------------------------------------------------------ */

static int flush_file(const char *path, uint64_t *bytes)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW), err = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0 || fstat(fd, &st) < 0)
		err = -errno;
	else if (bytes)
		*bytes = (uint64_t)st.st_size;
	close(fd);
	return err;
}

int store_backup(struct store *store, const char *path, uint64_t *bytes, struct error *e)
{
	char folder[4000], new[4010];
	const char *slash = strrchr(path, '/');
	struct error why = { 0 };
	int fd, err;

	if (strlen(path) >= sizeof(folder) || !slash)
		return error_set(e, EINVAL, "backup-failed", NULL, "not an absolute path");
	snprintf(folder, sizeof(folder), "%.*s", (int)MAX(slash - path, 1), path);
	snprintf(new, sizeof(new), "%s.XXXXXX", path);
	fd = mkostemp(new, O_CLOEXEC); /* 0600, and nobody else's */
	if (fd < 0) {
		err = errno;
		/* No file of that name was asked for; its folder lets nobody make one. */
		snprintf(new, sizeof(new), "ls -ld %.200s", folder);
		return error_set(e, err, "backup-failed", new, "%s: %s", path, strerror(err));
	}
	close(fd);
	/* VACUUM INTO takes an empty file as a new one. */
	err = store_do(store, &why, NULL, NULL, "VACUUM INTO ?", "s", new);
	if (err) {
		error_set(e, why.err, "backup-failed", "name a file with room for it", "%s: %.600s",
			  path, why.text);
		unlink(new);
		return err;
	}
	err = flush_file(new, bytes);
	/* Not rename(): what is there is somebody's copy. */
	if (!err && link(new, path) < 0)
		err = -errno;
	if (!err)
		err = flush_folder(folder);
	unlink(new);
	if (err == -EEXIST)
		return error_set(e, EEXIST, "backup-exists", "name a new file",
				 "%s is there already", path);
	return err ? error_set(e, -err, "backup-failed", NULL, "%s: %s", path, strerror(-err)) : 0;
}
