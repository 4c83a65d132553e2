// SPDX-License-Identifier: Apache-2.0
/*
 * Instances: the table of them, in order of name, each with its row in the store and the type as it was when it was defined (define.c). What
 * they do is start.c's and stop.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/daemon/private.h"

static const char *const steps[STEPS] = {
	[STEP_NONE] = "",
	[STEP_BIND] = "bind",
	[STEP_DISKS] = "disks",
	[STEP_ARBITER] = "arbiter",
	[STEP_VGPU] = "vgpu",
	[STEP_VMM] = "vmm",
	[STEP_POWER] = "power-button",
	[STEP_END] = "end",
	[STEP_GPUS] = "end",
	[STEP_SWEEP] = "end",
	[STEP_RESET] = "reset",
	[STEP_DONE] = "end",
};

const char *step_name(enum step step)
{
	return steps[step];
}

bool instance_name_ok(const char *name)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return length && length <= 41 && !name[length] && name[0] != '-';
}

bool instance_active(const struct instance *instance)
{
	return instance->row.state == STORE_STARTING || instance->row.state == STORE_RUNNING ||
	       instance->row.state == STORE_STOPPING;
}

/* ---- the table ----------------------------------------------------------------------------------- */

/* Where @name is, or would be. */
static unsigned place_of(const struct daemon *daemon, const char *name, bool *found)
{
	unsigned low = 0, high = daemon->instance_count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		int order = strcmp(daemon->instances[middle]->row.name, name);

		if (!order) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*found = false;
	return low;
}

struct instance *instance_find(struct daemon *daemon, const char *name)
{
	bool found;
	unsigned at = place_of(daemon, name, &found);

	return found ? daemon->instances[at] : NULL;
}

int definition_read(const json_t *json, const char *name, const char *next,
		    struct instance_type *type, struct error *e)
{
	struct findings *findings = calloc(1, sizeof(*findings));
	int err = findings && json ? type_from_json(json, name, type, findings) : -EINVAL;

	if (err)
		*type = (struct instance_type){ 0 };
	if (err && findings && findings->count)
		error_set(e, EINVAL, "bad-definition", next, "%s", findings->items[0].fact);
	else if (err)
		error_set(e, EINVAL, "bad-definition", next, "%s: its definition is no JSON", name);
	free(findings);
	return err;
}

int instance_type_read(const struct instance *instance, struct instance_type *type, struct error *e)
{
	const char *name = instance->row.name;
	json_t *json = json_loads(instance->row.definition, 0, NULL);
	struct error why = { 0 };
	char next[ERROR_NEXT_SIZE];
	int err = definition_read(json, name, NULL, type, &why);

	json_decref(json);
	if (!err)
		return 0;
	/* It is the row that is wrong, not what was asked for now. */
	return error_set(e, ENOTSUP, "bad-definition", error_next("delete", name, next),
			 "%.500s: a newer Divvy's, or damaged; create it once more, or delete it",
			 why.text);
}

void instance_texts_drop(struct instance *instance)
{
	json_decref(instance->wanted);
	json_decref(instance->definition);
	instance->wanted = instance->definition = NULL;
}

void instance_texts(struct instance *instance)
{
	if (!instance->wanted)
		instance->wanted = json_loads(instance->row.request, 0, NULL);
	if (!instance->definition)
		instance->definition = json_loads(instance->row.definition, 0, NULL);
}

void instance_reload(struct instance *instance)
{
	struct error e = { 0 };

	free(instance->image);
	instance->image = NULL;
	instance->unreadable = instance_type_read(instance, &instance->type, &e) != 0;
	if (!instance->unreadable || instance_active(instance))
		return;
	log_error("%s", e.text);
	instance->row.state = STORE_FAILED;
	instance_error(instance, &e);
}

int instance_new(struct daemon *daemon, struct store_instance *row, struct instance **out,
		 struct error *e)
{
	struct instance *instance = calloc(1, sizeof(*instance));
	bool found;
	int err = 0;

	if (!instance) {
		store_instance_free(row);
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for an instance");
	}
	instance->row = *row;
	*row = (struct store_instance){ 0 };
	instance->daemon = daemon;
	for (unsigned i = 0; i < PROCESSES_MAX; i++) {
		instance->processes[i].instance = instance;
		instance->processes[i].process.pidfd = -1;
	}
	place_of(daemon, instance->row.name, &found);
	if (found || daemon->instance_count == INSTANCES_MAX)
		err = error_set(e, ENOSPC, "too-many-instances", "divvy list instances",
				"%u instances are the most", INSTANCES_MAX);
	if (err) {
		instance_free(instance);
		return err;
	}
	instance_reload(instance);
	*out = instance;
	return 0;
}

void instance_insert(struct instance *instance)
{
	struct daemon *daemon = instance->daemon;
	bool found;
	unsigned at = place_of(daemon, instance->row.name, &found);

	memmove(&daemon->instances[at + 1], &daemon->instances[at],
		(daemon->instance_count - at) * sizeof(daemon->instances[0]));
	daemon->instances[at] = instance;
	daemon->instance_count++;
}

void instance_quiet(struct instance *instance)
{
	instance->timer = sd_event_source_disable_unref(instance->timer);
	launch_ask_cancel(instance->request);
	instance->request = NULL;
	job_cancel(instance->job);
	instance->job = NULL;
	memset(&instance->making, 0, sizeof(instance->making));
}

void instance_free(struct instance *instance)
{
	instance_quiet(instance);
	instance_texts_drop(instance);
	sd_event_source_disable_unref(instance->restart_timer);
	for (unsigned i = 0; i < PROCESSES_MAX; i++)
		process_forget(&instance->processes[i]);
	free(instance->parts);
	free(instance->results);
	free(instance->image);
	store_instance_free(&instance->row);
	free(instance);
}

static int on_burial(sd_event_source *source, void *opaque)
{
	struct daemon *daemon = opaque;

	while (daemon->dead) {
		struct instance *next = daemon->dead->next_dead;

		instance_free(daemon->dead);
		daemon->dead = next;
	}
	return 0;
}

/* Whoever called us may still have it in hand. */
void instance_forget(struct instance *instance)
{
	struct daemon *daemon = instance->daemon;
	bool found;
	unsigned at = place_of(daemon, instance->row.name, &found);

	if (found && daemon->instances[at] == instance) {
		daemon->instance_count--;
		memmove(&daemon->instances[at], &daemon->instances[at + 1],
			(daemon->instance_count - at) * sizeof(daemon->instances[0]));
	}
	instance->dead = true;
	instance->next_dead = daemon->dead;
	daemon->dead = instance;
	if (!daemon->burial)
		sd_event_add_defer(daemon->event, &daemon->burial, on_burial, daemon);
	sd_event_source_set_enabled(daemon->burial, SD_EVENT_ONESHOT);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

int instance_save(struct instance *instance, struct error *e)
{
	instance->row.changed_ms = daemon_now_ms();
	return store_instance_put(instance->daemon->store, &instance->row, e);
}

void instance_error(struct instance *instance, const struct error *e)
{
	struct store_instance *row = &instance->row;

	free(row->error_text);
	free(row->error_next);
	row->error_text = row->error_next = NULL;
	row->error_code[0] = '\0';
	if (!e)
		return;
	snprintf(row->error_code, sizeof(row->error_code), "%s", e->code ? e->code : "failed");
	row->error_text = strdup(e->text);
	row->error_next = strdup(e->next);
}

/* The row goes and the journal tells of its folders, or neither: a deletion that was refused is none. */
static int delete_commit(struct instance *instance, int64_t *change, struct error *e)
{
	struct store *store = instance->daemon->store;
	int err = store_begin(store, e);

	if (!err)
		err = store_change_begin(store, "delete", instance->row.name, "", change, e);
	if (!err)
		err = store_instance_delete(store, instance->row.name, e);
	if (!err)
		err = store_commit(store, e);
	if (err)
		store_rollback(store);
	return err;
}

/* The folders go after the row, and the journal remembers until they are gone. */
int instance_delete(struct instance *instance, struct error *e)
{
	struct daemon *daemon = instance->daemon;
	int64_t change;
	int err = delete_commit(instance, &change, e);

	if (err)
		return err;
	event_instance(instance, "deleted", "%s", "");
	instance_quiet(instance);
	instance->restart_timer = sd_event_source_disable_unref(instance->restart_timer);
	instance_forget(instance);
	err = launch_folders_remove(&daemon->places, instance->row.name, true, e);
	if (err) {
		log_warn("%s: %s", instance->row.name, e ? e->text : "its folders stay");
		return 0;
	}
	store_change_end(daemon->store, change, "done", NULL);
	return 0;
}

/* ---- as it is to run ------------------------------------------------------------------------------- */

static void describe_shared(const struct instance *instance, unsigned index, struct launch_gpu *gpu)
{
	const struct placement_part *part = &instance->placement.parts[index];
	const struct type_gpu *type = &instance->type.gpus[part->entry];
	const struct credit *credit = &instance->credits[index];

	snprintf(gpu->gpu, sizeof(gpu->gpu), "%s", instance->parts[index].arbiter_gpu);
	launch_take_share(gpu, type);
	if (credit->known)
		gpu->credit_ns = credit->balance_ns > 0 ? (uint64_t)credit->balance_ns : 0;
	gpu->vram_bytes = instance->parts[index].vram_bytes;
}

static void describe_functions(const char *text, struct launch_gpu *gpu)
{
	char copy[sizeof(((struct store_reservation *)NULL)->functions)], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *one = strtok_r(copy, " ", &save); one && gpu->function_count < 8;
	     one = strtok_r(NULL, " ", &save))
		if (!pci_address_parse(one, &gpu->functions[gpu->function_count]))
			gpu->function_count++;
}

void instance_mdev_uuid(const struct instance *instance, unsigned index, char uuid[37])
{
	const unsigned last = (unsigned)strtoul(instance->row.uuid + 34, NULL, 16);

	/* RFC 9562: of version 4 (4.2) becomes version 8 (5.8), whose contents are ours. */
	snprintf(uuid, 37, "%.14s8%.19s%02x", instance->row.uuid, instance->row.uuid + 15,
		 (last + index) & 0xff);
}

bool instance_mdev_is(const struct instance *instance, const char *uuid)
{
	char one[37];

	for (unsigned i = 0; i < LAUNCH_GPUS_MAX; i++) {
		instance_mdev_uuid(instance, i, one);
		if (strncmp(one, uuid, 34) != 0)
			return false;
		if (!strcmp(one, uuid))
			return true;
	}
	return false;
}

void instance_describe(const struct instance *instance, struct launch_instance *launch)
{
	*launch = (struct launch_instance){
		.image = instance->image ? instance->image : instance->row.image,
		.numa_node = instance->placed ? instance->placement.numa_node : -1,
		.uid = instance->row.uid,
		.gpu_count = instance->part_count,
	};
	memcpy(launch->name, instance->row.name, sizeof(launch->name));
	memcpy(launch->uuid, instance->row.uuid, sizeof(launch->uuid));
	for (unsigned i = 0; i < launch->gpu_count; i++) {
		launch->gpus[i].dedicated = instance->parts[i].dedicated;
		if (launch->gpus[i].dedicated)
			describe_functions(instance->parts[i].functions, &launch->gpus[i]);
		if (launch->gpus[i].dedicated)
			memcpy(launch->gpus[i].mdev, instance->parts[i].mdev,
			       sizeof(launch->gpus[i].mdev));
		else
			describe_shared(instance, i, &launch->gpus[i]);
	}
	launch_take_type(launch, &instance->type);
}
