// SPDX-License-Identifier: Apache-2.0
/* Instances, what they have of which GPU, and their processes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/store/store_private.h"

const char *store_state_name(enum store_state state)
{
	static const char *const names[STORE_STATES] = { "defined",  "starting", "running",
							 "stopping", "stopped",	 "failed" };

	return state < STORE_STATES ? names[state] : "?";
}

void store_instance_free(struct store_instance *instance)
{
	free(instance->image);
	free(instance->definition);
	free(instance->request);
	free(instance->placement);
	free(instance->error_text);
	free(instance->error_next);
	instance->image = instance->definition = instance->request = instance->placement = NULL;
	instance->error_text = instance->error_next = NULL;
}

int store_instance_put(struct store *store, const struct store_instance *i, struct error *e)
{
	return store_do(
		store, e, NULL, NULL,
		"INSERT INTO instances (name, uuid, type, image, definition, request, digest, owner, uid, transient,"
		" desired, state, restart, error_code, error_text, error_next, created_ms, changed_ms, started_ms,"
		" restarts, exit_status, placement) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22)"
		" ON CONFLICT (name) DO UPDATE SET uuid=?2, type=?3, image=?4, definition=?5, request=?6, digest=?7, owner=?8,"
		" uid=?9, transient=?10, desired=?11, state=?12, restart=?13, error_code=?14, error_text=?15, error_next=?16,"
		" created_ms=?17, changed_ms=?18, started_ms=?19, restarts=?20, exit_status=?21, placement=?22",
		"sssssssiiiiiisssiiiiis", i->name, i->uuid, i->type, i->image, i->definition,
		i->request, i->digest, (int64_t)i->owner, (int64_t)i->uid, (int64_t)i->transient,
		(int64_t)i->desired, (int64_t)i->state, (int64_t)i->restart, i->error_code,
		i->error_text, i->error_next, i->created_ms, i->changed_ms, i->started_ms,
		(int64_t)i->restarts, (int64_t)i->exit_status, i->placement);
}

int store_instance_delete(struct store *store, const char *name, struct error *e)
{
	return store_do(store, e, NULL, NULL, "DELETE FROM instances WHERE name = ?", "s", name);
}

/* ---- rows -------------------------------------------------------------------------------------- */

/* A callback and what it wants, behind a row's. */
struct reader {
	union {
		int (*instance)(void *opaque, struct store_instance *instance);
		int (*reservation)(void *opaque, const struct store_reservation *reservation);
		int (*process)(void *opaque, const struct store_process *process);
		int (*uid)(void *opaque, uint32_t uid);
	} each;
	void *opaque;
};

static char *copy(sqlite3_stmt *row, int column, bool *failed)
{
	const char *text = (const char *)sqlite3_column_text(row, column);
	char *own;

	if (!text)
		return NULL;
	own = strdup(text);
	*failed |= !own;
	return own;
}

static int instance_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;
	struct store_instance i = { 0 };
	bool failed = false;
	int err;

	store_text(row, 0, i.name, sizeof(i.name));
	store_text(row, 1, i.uuid, sizeof(i.uuid));
	store_text(row, 2, i.type, sizeof(i.type));
	i.image = copy(row, 3, &failed);
	i.definition = copy(row, 4, &failed);
	i.request = copy(row, 5, &failed);
	store_text(row, 6, i.digest, sizeof(i.digest));
	i.owner = (uint32_t)sqlite3_column_int64(row, 7);
	i.uid = (uint32_t)sqlite3_column_int64(row, 8);
	i.transient = sqlite3_column_int(row, 9);
	i.desired = sqlite3_column_int(row, 10);
	i.state = (enum store_state)MIN((unsigned)sqlite3_column_int(row, 11), STORE_FAILED);
	i.restart = (enum store_restart)MIN((unsigned)sqlite3_column_int(row, 12),
					    STORE_RESTART_ALWAYS);
	store_text(row, 13, i.error_code, sizeof(i.error_code));
	i.error_text = copy(row, 14, &failed);
	i.error_next = copy(row, 15, &failed);
	i.created_ms = sqlite3_column_int64(row, 16);
	i.changed_ms = sqlite3_column_int64(row, 17);
	i.started_ms = sqlite3_column_int64(row, 18);
	i.restarts = (uint32_t)sqlite3_column_int64(row, 19);
	i.exit_status = sqlite3_column_int(row, 20);
	i.placement = copy(row, 21, &failed);
	err = failed ? -ENOMEM : reader->each.instance(reader->opaque, &i);
	store_instance_free(&i);
	return err;
}

int store_instances(struct store *store, int (*each)(void *opaque, struct store_instance *instance),
		    void *opaque, struct error *e)
{
	struct reader reader = { .each.instance = each, .opaque = opaque };

	return store_do(
		store, e, instance_row, &reader,
		"SELECT name, uuid, type, image, definition, request, digest, owner, uid, transient, desired, state,"
		" restart, error_code, error_text, error_next, created_ms, changed_ms, started_ms, restarts, exit_status, placement"
		" FROM instances ORDER BY name",
		"");
}

static int uid_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;

	return reader->each.uid(reader->opaque, (uint32_t)sqlite3_column_int64(row, 0));
}

int store_uids(struct store *store, int (*each)(void *opaque, uint32_t uid), void *opaque,
	       struct error *e)
{
	struct reader reader = { .each.uid = each, .opaque = opaque };

	return store_do(store, e, uid_row, &reader, "SELECT uid FROM instances WHERE uid != 0", "");
}

/* ---- reservations ------------------------------------------------------------------------------- */

int store_reservation_add(struct store *store, const struct store_reservation *r, struct error *e)
{
	return store_do(
		store, e, NULL, NULL,
		"INSERT INTO reservations (instance, idx, gpu, dedicated, share_ppm, vram_bytes, functions,"
		" arbiter_gpu, provider, parent, mdev) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
		"sisiiisssss", r->instance, (int64_t)r->index, r->gpu, (int64_t)r->dedicated,
		(int64_t)r->share_ppm, (int64_t)r->vram_bytes, r->functions, r->arbiter_gpu,
		r->provider, r->parent, r->mdev);
}

int store_reservations_drop(struct store *store, const char *instance, struct error *e)
{
	return store_do(store, e, NULL, NULL, "DELETE FROM reservations WHERE instance = ?", "s",
			instance);
}

static int reservation_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;
	struct store_reservation r = { 0 };

	store_text(row, 0, r.instance, sizeof(r.instance));
	r.index = (unsigned)sqlite3_column_int(row, 1);
	store_text(row, 2, r.gpu, sizeof(r.gpu));
	r.dedicated = sqlite3_column_int(row, 3);
	r.share_ppm = (uint32_t)sqlite3_column_int64(row, 4);
	r.vram_bytes = (uint64_t)sqlite3_column_int64(row, 5);
	store_text(row, 6, r.functions, sizeof(r.functions));
	store_text(row, 7, r.arbiter_gpu, sizeof(r.arbiter_gpu));
	store_text(row, 8, r.provider, sizeof(r.provider));
	store_text(row, 9, r.parent, sizeof(r.parent));
	store_text(row, 10, r.mdev, sizeof(r.mdev));
	return reader->each.reservation(reader->opaque, &r);
}

int store_reservations(struct store *store,
		       int (*each)(void *opaque, const struct store_reservation *reservation),
		       void *opaque, struct error *e)
{
	struct reader reader = { .each.reservation = each, .opaque = opaque };

	return store_do(
		store, e, reservation_row, &reader,
		"SELECT instance, idx, gpu, dedicated, share_ppm, vram_bytes, functions, arbiter_gpu,"
		" provider, parent, mdev FROM reservations ORDER BY instance, idx",
		"");
}

/* ---- processes ---------------------------------------------------------------------------------- */

int store_process_put(struct store *store, const struct store_process *p, struct error *e)
{
	return store_do(
		store, e, NULL, NULL,
		"INSERT OR REPLACE INTO processes (instance, role, pid, start_time, boot, uid) VALUES (?,?,?,?,?,?)",
		"ssiisi", p->instance, p->role, (int64_t)p->pid, (int64_t)p->start_time, p->boot,
		(int64_t)p->uid);
}

int store_process_drop(struct store *store, const char *instance, const char *role, struct error *e)
{
	return store_do(store, e, NULL, NULL,
			"DELETE FROM processes WHERE instance = ?1 AND (?2 IS NULL OR role = ?2)",
			"ss", instance, role);
}

static int process_row(void *opaque, sqlite3_stmt *row)
{
	struct reader *reader = opaque;
	struct store_process p = { 0 };

	store_text(row, 0, p.instance, sizeof(p.instance));
	store_text(row, 1, p.role, sizeof(p.role));
	p.pid = sqlite3_column_int(row, 2);
	p.start_time = (uint64_t)sqlite3_column_int64(row, 3);
	store_text(row, 4, p.boot, sizeof(p.boot));
	p.uid = (uint32_t)sqlite3_column_int64(row, 5);
	return reader->each.process(reader->opaque, &p);
}

int store_processes(struct store *store,
		    int (*each)(void *opaque, const struct store_process *process), void *opaque,
		    struct error *e)
{
	struct reader reader = { .each.process = each, .opaque = opaque };

	return store_do(store, e, process_row, &reader,
			"SELECT instance, role, pid, start_time, boot, uid FROM processes"
			" ORDER BY instance, role",
			"");
}
