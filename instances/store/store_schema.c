// SPDX-License-Identifier: Apache-2.0
/*
 * The store's tables, one step a version. What may never be, the tables themselves refuse: a GPU whole and shared, whole twice, in slices
 * and otherwise too, sold beyond one, leased twice.
 */
#include "instances/store/store_private.h"

static const char *const steps[STORE_VERSION] = {
	/* 1 */
	"CREATE TABLE instances ("
	" name TEXT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, type TEXT NOT NULL, image TEXT NOT NULL,"
	" definition TEXT NOT NULL, request TEXT NOT NULL, placement TEXT, digest TEXT NOT NULL, owner INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, transient INTEGER NOT NULL, desired INTEGER NOT NULL, state INTEGER NOT NULL,"
	" restart INTEGER NOT NULL, error_code TEXT NOT NULL, error_text TEXT, error_next TEXT,"
	" created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL,"
	" restarts INTEGER NOT NULL, exit_status INTEGER NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX instance_uid ON instances (uid) WHERE uid != 0;"

	"CREATE TABLE reservations ("
	" instance TEXT NOT NULL REFERENCES instances (name) ON DELETE CASCADE, idx INTEGER NOT NULL,"
	" gpu TEXT NOT NULL, dedicated INTEGER NOT NULL, share_ppm INTEGER NOT NULL, vram_bytes INTEGER NOT NULL,"
	" functions TEXT NOT NULL, arbiter_gpu TEXT NOT NULL,"
	" PRIMARY KEY (instance, idx)) STRICT;"
	"CREATE INDEX reservation_gpu ON reservations (gpu);"
	"CREATE TRIGGER reservation_whole BEFORE INSERT ON reservations"
	" WHEN EXISTS (SELECT 1 FROM reservations WHERE gpu = NEW.gpu AND (dedicated OR NEW.dedicated))"
	" BEGIN SELECT RAISE (ABORT, 'the GPU is another''s, whole or in part'); END;"
	"CREATE TRIGGER reservation_sum BEFORE INSERT ON reservations"
	" WHEN NEW.share_ppm + (SELECT coalesce(sum(share_ppm), 0) FROM reservations WHERE gpu = NEW.gpu) > 1000000"
	" BEGIN SELECT RAISE (ABORT, 'more of the GPU would be promised than there is'); END;"

	"CREATE TABLE processes ("
	" instance TEXT NOT NULL, role TEXT NOT NULL, pid INTEGER NOT NULL, start_time INTEGER NOT NULL,"
	" boot TEXT NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (instance, role)) STRICT;"

	"CREATE TABLE journal ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, instance TEXT NOT NULL, gpu TEXT NOT NULL,"
	" begun_ms INTEGER NOT NULL, ended_ms INTEGER, outcome TEXT) STRICT;"
	"CREATE INDEX journal_open ON journal (id) WHERE ended_ms IS NULL;"

	"CREATE TABLE gpus ("
	" id TEXT PRIMARY KEY, drained INTEGER NOT NULL, quarantine_code TEXT NOT NULL,"
	" quarantine_text TEXT NOT NULL, since_ms INTEGER NOT NULL, resets INTEGER NOT NULL) STRICT;"

	"CREATE TABLE leases ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT, gpu TEXT NOT NULL, instance TEXT NOT NULL, uuid TEXT NOT NULL,"
	" owner INTEGER NOT NULL, begun_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL, resets INTEGER NOT NULL,"
	" bound INTEGER NOT NULL, link_before TEXT NOT NULL, link_after TEXT NOT NULL, verdict TEXT NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX lease_open ON leases (gpu) WHERE ended_ms = 0;"

	"CREATE TABLE credits ("
	" instance TEXT NOT NULL REFERENCES instances (name) ON DELETE CASCADE, idx INTEGER NOT NULL,"
	" balance_ns INTEGER NOT NULL, usage_ns INTEGER NOT NULL, charged_ns INTEGER NOT NULL,"
	" PRIMARY KEY (instance, idx)) STRICT;"

	"CREATE TABLE events ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, code TEXT NOT NULL,"
	" instance TEXT NOT NULL, gpu TEXT NOT NULL, owner INTEGER NOT NULL, text TEXT NOT NULL) STRICT;",

	/* 2 */
	"CREATE TABLE launches (owner INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT;",

	/* 3: slices of GPUs. Mediated devices share a GPU with each other and with nothing else; of virtual functions each is one. */
	"DROP TRIGGER reservation_whole;"
	"ALTER TABLE reservations ADD COLUMN provider TEXT NOT NULL DEFAULT 'vulkan'"
	" CHECK (provider IN ('whole', 'sriov', 'mdev', 'vulkan'));"
	"UPDATE reservations SET provider = 'whole' WHERE dedicated;"
	"ALTER TABLE reservations ADD COLUMN parent TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE reservations ADD COLUMN mdev TEXT NOT NULL DEFAULT '';"
	"CREATE UNIQUE INDEX reservation_mdev ON reservations (mdev) WHERE mdev != '';"
	"CREATE INDEX reservation_parent ON reservations (parent) WHERE parent != '';"
	"CREATE TRIGGER reservation_one BEFORE INSERT ON reservations"
	" WHEN EXISTS (SELECT 1 FROM reservations WHERE gpu = NEW.gpu"
	"  AND NOT (provider = NEW.provider AND provider IN ('mdev', 'vulkan')))"
	" OR EXISTS (SELECT 1 FROM reservations WHERE parent = NEW.gpu AND NEW.provider IN ('whole', 'vulkan'))"
	" OR (NEW.parent != '' AND EXISTS (SELECT 1 FROM reservations WHERE gpu = NEW.parent"
	"  AND provider IN ('whole', 'vulkan')))"
	" OR NEW.dedicated != (NEW.provider != 'vulkan')"
	" BEGIN SELECT RAISE (ABORT, 'the GPU is another''s, whole or in part'); END;",

	/* 4: how much of its use was counted already, of a vGPU that is still there. */
	"ALTER TABLE credits ADD COLUMN seen_ns INTEGER NOT NULL DEFAULT 0;",
};

int store_schema(struct store *store, int version, struct error *e)
{
	char sql[48];

	for (int i = version; i < STORE_VERSION; i++)
		if (sqlite3_exec(store->db, steps[i], NULL, NULL, NULL) != SQLITE_OK)
			return store_error(store, e);
	sqlite3_snprintf(sizeof(sql), sql, "PRAGMA user_version = %d", STORE_VERSION);
	return store_do(store, e, NULL, NULL, sql, "");
}
