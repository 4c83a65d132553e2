// SPDX-License-Identifier: Apache-2.0
/*
 * The start: what the store says is held against what is there. An instance whose processes are all there is taken back as it is; one that
 * lacks some is taken down, its devices looked at, and started anew where it shall run. Of what nobody knows, nothing stays.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/daemon/private.h"

/* ---- reading ----------------------------------------------------------------------------------------- */

static int take_instance(void *opaque, struct store_instance *row)
{
	struct daemon *daemon = opaque;
	struct instance *instance;
	struct error e = { 0 };
	char name[STORE_NAME_SIZE];
	int err;

	memcpy(name, row->name, sizeof(name));
	err = instance_new(daemon, row, &instance, &e);
	if (!err)
		instance_insert(instance);
	else
		log_error("instance %s is left out: %s", name, e.text);
	/* More than there is room for never ran. */
	return err == -ENOSPC ? 0 : err;
}

static int take_reservation(void *opaque, const struct store_reservation *row)
{
	struct instance *instance = instance_find(opaque, row->instance);
	struct store_reservation *parts;

	if (!instance || instance->part_count == LAUNCH_GPUS_MAX)
		return 0;
	parts = reallocarray(instance->parts, instance->part_count + 1, sizeof(*parts));
	if (!parts)
		return -ENOMEM;
	instance->parts = parts;
	parts[instance->part_count++] = *row;
	return 0;
}

static int take_process(void *opaque, const struct store_process *row)
{
	struct daemon *daemon = opaque;
	struct instance *instance = row->instance[0] ? instance_find(daemon, row->instance) : NULL;
	struct process *process = instance ? instance_process(instance, "") : &daemon->arbiter;
	struct launch_process found = { .pid = row->pid, .start_time = row->start_time };

	/* Whether it still runs or not: its row goes with the instance's last. */
	if (instance && !strcmp(row->role, "vmm")) {
		instance->guest_had = true;
		instance->had_this_boot = !strcmp(row->boot, daemon->boot);
	}
	if ((row->instance[0] && !instance) || !process || strcmp(row->boot, daemon->boot) != 0 ||
	    launch_find(&found))
		return 0;
	process->process = found;
	memcpy(process->role, row->role, sizeof(process->role));
	process->adopted = true;
	if (process_watch(daemon, process))
		process_forget(process);
	return 0;
}

static int take_gpu(void *opaque, const struct store_gpu *row)
{
	struct gpu *gpu = gpu_find(opaque, row->id, true);

	if (gpu)
		gpu->row = *row;
	return 0;
}

static int take_credit(void *opaque, const struct store_credit *row)
{
	struct instance *instance = instance_find(opaque, row->instance);
	struct credit *credit;

	if (!instance || row->index >= LAUNCH_GPUS_MAX)
		return 0;
	credit = &instance->credits[row->index];
	credit->known = true;
	credit->balance_ns = row->balance_ns;
	credit->usage_ns = row->usage_ns;
	credit->charged_ns = row->charged_ns;
	credit->seen_ns = row->seen_ns;
	return 0;
}

/* ---- what was under way ------------------------------------------------------------------------------------ */

struct changes {
	struct daemon *daemon;
	unsigned count;
	struct store_change *items;
};

static int take_change(void *opaque, const struct store_change *row)
{
	struct changes *changes = opaque;
	struct instance *instance =
		row->instance[0] ? instance_find(changes->daemon, row->instance) : NULL;
	struct store_change *items;

	if (instance && instance_active(instance) && strcmp(row->what, "delete") != 0) {
		instance->change = row->id;
		return 0;
	}
	items = reallocarray(changes->items, changes->count + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	changes->items = items;
	items[changes->count++] = *row;
	return 0;
}

static void change_settle(struct daemon *daemon, const struct store_change *change)
{
	struct error e = { 0 };
	const char *outcome = "undone";

	if (!strcmp(change->what, "delete")) {
		/* An instance of that name was made since: the folders are its. */
		if (!instance_find(daemon, change->instance)) {
			if (launch_folders_remove(&daemon->places, change->instance, true, &e)) {
				log_warn("%s: %s", change->instance, e.text);
				return;
			}
			outcome = "done";
		}
	} else if (change->gpu[0]) {
		/* Binding is undone or done by its own record; who asked may ask again. */
		event_gpu(daemon, change->gpu, "step", "%s was cut off: do it again", change->what);
	}
	store_change_end(daemon->store, change->id, outcome, NULL);
}

/* ---- instances ------------------------------------------------------------------------------------------------ */

/* Every process that it should have. */
static bool whole(struct instance *instance)
{
	char role[16];

	if (!instance_process(instance, "vmm"))
		return false;
	for (unsigned i = 0; i < instance->part_count; i++) {
		snprintf(role, sizeof(role), "gpu%u", i);
		if (!instance->parts[i].dedicated && !instance_process(instance, role))
			return false;
	}
	return true;
}

static void placement_take_back(struct instance *instance)
{
	json_t *json =
		instance->row.placement ? json_loads(instance->row.placement, 0, NULL) : NULL;

	if (json && !placement_from_json(json, &instance->placement))
		instance->placed = true;
	else if (instance->row.placement)
		log_error("%s: where it is placed cannot be read", instance->row.name);
	definition_kept(instance, json);
	json_decref(json);
}

static bool needs_arbiter(const struct instance *instance)
{
	for (unsigned i = 0; i < instance->part_count; i++)
		if (!instance->parts[i].dedicated)
			return true;
	return false;
}

static void settle_active(struct instance *instance)
{
	struct daemon *daemon = instance->daemon;
	const bool lost = needs_arbiter(instance) && !daemon->arbiter.role[0];
	struct error e = { 0 };
	char next[ERROR_NEXT_SIZE];

	if (instance->row.state == STORE_STOPPING) {
		instance->final = instance->row.error_code[0] ? STORE_FAILED : STORE_STOPPED;
		/* It was to go on: by its policy, or since it was to be started anew. */
		instance->restart_after =
			instance->row.desired && !instance_wants_restart(instance);
		instance->step = STEP_END;
		stop_continue(instance, STEP_END);
		return;
	}
	/* Nobody knows what it is: it goes, and its devices with it by what its reservations say. */
	if (instance->unreadable && instance_type_read(instance, &instance->type, &e)) {
		instance_end(instance, STORE_FAILED, &e);
		return;
	}
	if (whole(instance) && !lost) {
		credits_begin(instance);
		if (instance->row.state == STORE_RUNNING) {
			instance->running_ns = monotonic_ns();
			event_instance(instance, "adopted", "%s", "");
		} else {
			/* Its VMM may be on the way still. */
			start_continue(instance, STEP_VMM);
		}
		return;
	}
	if (instance->row.state == STORE_STARTING) {
		/* Cut off in the middle: from the beginning again. */
		instance->restart_after = instance->row.desired;
		instance_end(instance, STORE_STOPPED, NULL);
		return;
	}
	error_set(&e, EIO, lost ? "arbiter-lost" : "process-lost",
		  error_next("log", instance->row.name, next),
		  "%s ended while nobody was there to see it",
		  lost ? "the arbiter" : "a process of it");
	if (!lost && launch_exit_status(&daemon->places, instance->row.name, "vmm") == 0)
		instance_end(instance, STORE_STOPPED, NULL);
	else
		instance_end(instance, STORE_FAILED, &e);
}

static bool known(void *opaque, const char *uuid)
{
	struct daemon *daemon = opaque;

	if (!strcmp(uuid, "arbiter"))
		return daemon->arbiter.role[0];
	for (unsigned i = 0; i < daemon->instance_count; i++)
		if (!strcmp(daemon->instances[i]->row.uuid, uuid))
			return instance_active(daemon->instances[i]);
	return false;
}

static void settle_instances(struct daemon *daemon)
{
	/* What ends at once goes out of the table: from the back. */
	for (unsigned i = daemon->instance_count; i--;) {
		struct instance *instance = daemon->instances[i];

		if (instance_active(instance)) {
			settle_active(instance);
		} else if (instance->row.transient) {
			struct error e = { 0 };

			if (instance_delete(instance, &e))
				log_warn("%s: %s", instance->row.name, e.text);
		} else if (instance->row.desired) {
			instance->final = instance->row.state;
			instance_restart_later(instance);
		}
	}
}

int reconcile(struct daemon *daemon, struct error *e)
{
	struct changes changes = { .daemon = daemon };
	struct store *store = daemon->store;
	unsigned orphans;
	int err = store_instances(store, take_instance, daemon, e);

	if (!err)
		err = store_reservations(store, take_reservation, daemon, e);
	if (!err)
		err = store_gpus(store, take_gpu, daemon, e);
	if (!err)
		err = store_credits(store, take_credit, daemon, e);
	if (!err)
		err = store_processes(store, take_process, daemon, e);
	if (!err)
		err = store_changes_open(store, take_change, &changes, e);
	for (unsigned i = 0; i < daemon->instance_count && !err; i++)
		if (instance_active(daemon->instances[i]))
			placement_take_back(daemon->instances[i]);
	if (!err)
		err = daemon_account(daemon, e);
	if (err) {
		free(changes.items);
		return err;
	}
	orphans = launch_orphans(&daemon->places, known, daemon);
	if (orphans)
		event_other(daemon, "daemon", "orphans", "%u processes of no instance were ended",
			    orphans);
	for (unsigned i = 0; i < changes.count; i++)
		change_settle(daemon, &changes.items[i]);
	free(changes.items);
	device_orphans(daemon);
	settle_instances(daemon);
	return 0;
}
