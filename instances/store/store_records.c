// SPDX-License-Identifier: Apache-2.0
/* What is written down about changes, GPUs, leases, credits and events. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "instances/store/store_private.h"

#define JOURNAL_MAX  10000 /* ended changes that are kept */
#define LEASES_SHOWN 200
#define EVENTS_STEP  100
#define DAY_MS	     (INT64_C(24) * 60 * 60 * 1000)
#define PRUNED_MAX   500 /* rows at a time: some milliseconds */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct reader {
	union {
		int (*change)(void *opaque, const struct store_change *change);
		int (*gpu)(void *opaque, const struct store_gpu *gpu);
		int (*lease)(void *opaque, const struct store_lease *lease);
		int (*credit)(void *opaque, const struct store_credit *credit);
		int (*event)(void *opaque, const struct store_event *event);
	} each;
	void *opaque;
};

void store_keep(struct store *store, unsigned events, unsigned leases)
{
	store->events_kept = events;
	store->leases_kept = leases;
}

/* ---- journal ----------------------------------------------------------------------------------- */

int store_change_begin(struct store *store, const char *what, const char *instance, const char *gpu,
		       int64_t *id, struct error *e)
{
	int err = store_do(store, e, NULL, NULL,
			   "INSERT INTO journal (what, instance, gpu, begun_ms) VALUES (?,?,?,?)",
			   "sssi", what, instance, gpu, now_ms());

	*id = err ? 0 : sqlite3_last_insert_rowid(store->db);
	return err;
}

int store_change_end(struct store *store, int64_t id, const char *outcome, struct error *e)
{
	int err = store_do(store, e, NULL, NULL,
			   "UPDATE journal SET ended_ms = ?, outcome = ? WHERE id = ?", "isi",
			   now_ms(), outcome, id);

	return err ? err
		   : store_do(store, e, NULL, NULL,
			      "DELETE FROM journal WHERE id <= ? AND ended_ms IS NOT NULL", "i",
			      id - JOURNAL_MAX);
}

static int change_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;
	struct store_change change = { .id = sqlite3_column_int64(row, 0) };

	store_text(row, 1, change.what, sizeof(change.what));
	store_text(row, 2, change.instance, sizeof(change.instance));
	store_text(row, 3, change.gpu, sizeof(change.gpu));
	change.begun_ms = sqlite3_column_int64(row, 4);
	return reader->each.change(reader->opaque, &change);
}

int store_changes_open(struct store *store,
		       int (*each)(void *opaque, const struct store_change *change), void *opaque,
		       struct error *e)
{
	struct reader reader = { .each.change = each, .opaque = opaque };

	return store_do(store, e, change_row, &reader,
			"SELECT id, what, instance, gpu, begun_ms FROM journal"
			" WHERE ended_ms IS NULL ORDER BY id",
			"");
}

/* ---- GPUs -------------------------------------------------------------------------------------- */

int store_gpu_put(struct store *store, const struct store_gpu *gpu, struct error *e)
{
	return store_do(
		store, e, NULL, NULL,
		"INSERT OR REPLACE INTO gpus (id, drained, quarantine_code, quarantine_text, since_ms, resets)"
		" VALUES (?,?,?,?,?,?)",
		"sissii", gpu->id, (int64_t)gpu->drained, gpu->quarantine_code,
		gpu->quarantine_text, gpu->since_ms, (int64_t)gpu->resets);
}

static int gpu_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;
	struct store_gpu gpu = { 0 };

	store_text(row, 0, gpu.id, sizeof(gpu.id));
	gpu.drained = sqlite3_column_int(row, 1);
	store_text(row, 2, gpu.quarantine_code, sizeof(gpu.quarantine_code));
	store_text(row, 3, gpu.quarantine_text, sizeof(gpu.quarantine_text));
	gpu.since_ms = sqlite3_column_int64(row, 4);
	gpu.resets = (uint64_t)sqlite3_column_int64(row, 5);
	return reader->each.gpu(reader->opaque, &gpu);
}

int store_gpus(struct store *store, int (*each)(void *opaque, const struct store_gpu *gpu),
	       void *opaque, struct error *e)
{
	struct reader reader = { .each.gpu = each, .opaque = opaque };

	return store_do(
		store, e, gpu_row, &reader,
		"SELECT id, drained, quarantine_code, quarantine_text, since_ms, resets FROM gpus ORDER BY id",
		"");
}

/* ---- leases ------------------------------------------------------------------------------------- */

int store_lease_begin(struct store *store, const struct store_lease *lease, struct error *e)
{
	return store_do(
		store, e, NULL, NULL,
		"INSERT INTO leases (gpu, instance, uuid, owner, begun_ms, ended_ms, resets, bound, link_before, link_after,"
		" verdict) SELECT ?1,?2,?3,?4,?5,0,?6,?7,?8,'','' WHERE NOT EXISTS"
		" (SELECT 1 FROM leases WHERE gpu = ?1 AND uuid = ?3 AND ended_ms = 0)",
		"sssiiiis", lease->gpu, lease->instance, lease->uuid, (int64_t)lease->owner,
		lease->begun_ms, (int64_t)lease->resets, (int64_t)lease->bound, lease->link_before);
}

int store_lease_note(struct store *store, const struct store_lease *lease, struct error *e)
{
	return store_do(store, e, NULL, NULL,
			"UPDATE leases SET resets = ?, link_after = ?, verdict = ?"
			" WHERE gpu = ? AND ended_ms = 0",
			"isss", (int64_t)lease->resets, lease->link_after, lease->verdict,
			lease->gpu);
}

int store_lease_end(struct store *store, const struct store_lease *lease, struct error *e)
{
	int err = store_do(store, e, NULL, NULL,
			   "UPDATE leases SET ended_ms = max(?, 1), resets = ?, link_after = ?,"
			   " verdict = ? WHERE gpu = ? AND ended_ms = 0",
			   "iisss", lease->ended_ms, (int64_t)lease->resets, lease->link_after,
			   lease->verdict, lease->gpu);

	return err ? err
		   : store_do(store, e, NULL, NULL,
			      "DELETE FROM leases WHERE id IN (SELECT id FROM leases"
			      " WHERE id <= (SELECT max(id) FROM leases) - ? AND ended_ms != 0"
			      " ORDER BY id LIMIT ?)",
			      "ii", (int64_t)store->leases_kept, (int64_t)PRUNED_MAX);
}

static int lease_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;
	struct store_lease lease = { 0 };

	store_text(row, 0, lease.gpu, sizeof(lease.gpu));
	store_text(row, 1, lease.instance, sizeof(lease.instance));
	store_text(row, 2, lease.uuid, sizeof(lease.uuid));
	lease.owner = (uint32_t)sqlite3_column_int64(row, 3);
	lease.begun_ms = sqlite3_column_int64(row, 4);
	lease.ended_ms = sqlite3_column_int64(row, 5);
	lease.resets = (uint32_t)sqlite3_column_int64(row, 6);
	lease.bound = sqlite3_column_int(row, 7);
	store_text(row, 8, lease.link_before, sizeof(lease.link_before));
	store_text(row, 9, lease.link_after, sizeof(lease.link_after));
	store_text(row, 10, lease.verdict, sizeof(lease.verdict));
	return reader->each.lease(reader->opaque, &lease);
}

int store_leases(struct store *store, const char *gpu, bool open,
		 int (*each)(void *opaque, const struct store_lease *lease), void *opaque,
		 struct error *e)
{
	struct reader reader = { .each.lease = each, .opaque = opaque };

	return store_do(
		store, e, lease_row, &reader,
		"SELECT gpu, instance, uuid, owner, begun_ms, ended_ms, resets, bound, link_before, link_after, verdict"
		" FROM leases WHERE (?1 IS NULL OR gpu = ?1) AND (NOT ?2 OR ended_ms = 0) ORDER BY id DESC LIMIT ?3",
		"sii", gpu, (int64_t)open, (int64_t)(open ? -1 : LEASES_SHOWN));
}

/* ---- credits ------------------------------------------------------------------------------------- */

int store_credit_put(struct store *store, const struct store_credit *credit, struct error *e)
{
	return store_do(
		store, e, NULL, NULL,
		"INSERT OR REPLACE INTO credits (instance, idx, balance_ns, usage_ns, charged_ns, seen_ns) VALUES (?,?,?,?,?,?)",
		"siiiii", credit->instance, (int64_t)credit->index, credit->balance_ns,
		(int64_t)credit->usage_ns, (int64_t)credit->charged_ns, (int64_t)credit->seen_ns);
}

static int credit_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;
	struct store_credit credit = { 0 };

	store_text(row, 0, credit.instance, sizeof(credit.instance));
	credit.index = (unsigned)sqlite3_column_int(row, 1);
	credit.balance_ns = sqlite3_column_int64(row, 2);
	credit.usage_ns = (uint64_t)sqlite3_column_int64(row, 3);
	credit.charged_ns = (uint64_t)sqlite3_column_int64(row, 4);
	credit.seen_ns = (uint64_t)sqlite3_column_int64(row, 5);
	return reader->each.credit(reader->opaque, &credit);
}

int store_credits(struct store *store, int (*each)(void *opaque, const struct store_credit *credit),
		  void *opaque, struct error *e)
{
	struct reader reader = { .each.credit = each, .opaque = opaque };

	return store_do(
		store, e, credit_row, &reader,
		"SELECT instance, idx, balance_ns, usage_ns, charged_ns, seen_ns FROM credits ORDER BY instance, idx",
		"");
}

static int one_number(void *number, sqlite3_stmt *row)
{
	*(int64_t *)number = sqlite3_column_int64(row, 0);
	return 0;
}

int store_launch(struct store *store, uint32_t owner, int64_t now, unsigned limit, bool *given,
		 struct error *e)
{
	int64_t before = 0;
	int err = store_do(store, e, NULL, NULL, "DELETE FROM launches WHERE at_ms <= ?", "i",
			   now - DAY_MS);

	*given = false;
	if (!err)
		err = store_do(store, e, NULL, NULL,
			       "UPDATE launches SET at_ms = ?1 WHERE at_ms > ?1", "i", now);
	if (!err)
		err = store_do(store, e, one_number, &before,
			       "SELECT count(*) FROM launches WHERE owner = ?", "i",
			       (int64_t)owner);
	if (err || before >= limit)
		return err;
	*given = true;
	return store_do(store, e, NULL, NULL, "INSERT INTO launches (owner, at_ms) VALUES (?,?)",
			"ii", (int64_t)owner, now);
}

/* ---- events --------------------------------------------------------------------------------------- */

int store_event_add(struct store *store, struct store_event *event, struct error *e)
{
	int err;

	event->at_ms = now_ms();
	err = store_do(
		store, e, NULL, NULL,
		"INSERT INTO events (at_ms, kind, code, instance, gpu, owner, text) VALUES (?,?,?,?,?,?,?)",
		"issssis", event->at_ms, event->kind, event->code, event->instance, event->gpu,
		(int64_t)event->owner, event->text);
	if (err)
		return err;
	event->id = sqlite3_last_insert_rowid(store->db);
	/* Each is a write to the disk: not one more for each. */
	if (event->id % EVENTS_STEP)
		return 0;
	return store_do(store, e, NULL, NULL,
			"DELETE FROM events WHERE id IN"
			" (SELECT id FROM events WHERE id <= ? ORDER BY id LIMIT ?)",
			"ii", event->id - (int64_t)store->events_kept, (int64_t)PRUNED_MAX);
}

int64_t store_event_last(struct store *store)
{
	int64_t id = 0;

	store_do(store, NULL, one_number, &id,
		 "SELECT seq FROM sqlite_sequence WHERE name = 'events'", "");
	return id;
}

static int event_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;
	struct store_event event = { .id = sqlite3_column_int64(row, 0),
				     .at_ms = sqlite3_column_int64(row, 1) };

	store_text(row, 2, event.kind, sizeof(event.kind));
	store_text(row, 3, event.code, sizeof(event.code));
	store_text(row, 4, event.instance, sizeof(event.instance));
	store_text(row, 5, event.gpu, sizeof(event.gpu));
	event.owner = (uint32_t)sqlite3_column_int64(row, 6);
	store_text(row, 7, event.text, sizeof(event.text));
	return reader->each.event(reader->opaque, &event);
}

int store_events(struct store *store, int64_t since, unsigned limit,
		 int (*each)(void *opaque, const struct store_event *event), void *opaque,
		 struct error *e)
{
	struct reader reader = { .each.event = each, .opaque = opaque };

	return store_do(
		store, e, event_row, &reader,
		"SELECT id, at_ms, kind, code, instance, gpu, owner, text FROM events WHERE id > ? ORDER BY id LIMIT ?",
		"ii", since, (int64_t)limit);
}
