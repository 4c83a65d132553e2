// SPDX-License-Identifier: Apache-2.0
/*
 * Instances as they are defined: the table of them, in order of name, each with its row in the store and the type as it was when it was
 * defined. What they do is start.c's and stop.c's.
 */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "instances/daemon/private.h"

#define TAP_NAME_MAX 10u /* "-tN" comes after it, and an interface's name has 15 */

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

static int type_read(const struct instance *instance, struct instance_type *type, struct error *e)
{
	struct findings *findings = calloc(1, sizeof(*findings));
	json_t *json = json_loads(instance->row.definition, 0, NULL);
	int err = findings && json ? type_from_json(json, instance->row.name, type, findings)
				   : -EINVAL;

	if (err)
		error_set(e, EINVAL, "bad-definition", NULL, "%s: %s", instance->row.name,
			  findings && findings->count ? findings->items[0].fact
						      : "its type cannot be read");
	json_decref(json);
	free(findings);
	return err;
}

static void texts_drop(struct instance *instance)
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

	if (type_read(instance, &instance->type, &e))
		log_error("%s", e.text);
}

int instance_add(struct daemon *daemon, struct store_instance *row, struct instance **out,
		 struct error *e)
{
	struct instance *instance = calloc(1, sizeof(*instance));
	bool found;
	unsigned at = place_of(daemon, row->name, &found);
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
	if (found || daemon->instance_count == INSTANCES_MAX)
		err = error_set(e, ENOSPC, "too-many-instances", "divvy delete NAME",
				"%u instances are the most", INSTANCES_MAX);
	if (!err)
		err = type_read(instance, &instance->type, e);
	if (err) {
		instance_free(instance);
		return err;
	}
	memmove(&daemon->instances[at + 1], &daemon->instances[at],
		(daemon->instance_count - at) * sizeof(daemon->instances[0]));
	daemon->instances[at] = instance;
	daemon->instance_count++;
	*out = instance;
	return 0;
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
	texts_drop(instance);
	sd_event_source_disable_unref(instance->restart_timer);
	for (unsigned i = 0; i < PROCESSES_MAX; i++)
		process_forget(&instance->processes[i]);
	free(instance->parts);
	free(instance->results);
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

static int uuid_make(char uuid[37])
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -EIO;
	b[6] = (b[6] & 0x0f) | 0x40; /* RFC 9562, 5.4 */
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(uuid, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
		 b[13], b[14], b[15]);
	return 0;
}

/* Of what was asked for and of what that means: 128 bits of SHA-256. */
static int digest_make(const char *request, const char *definition, char digest[33])
{
	gnutls_hash_hd_t hash;
	uint8_t sum[32];

	if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0)
		return -ENOMEM;
	gnutls_hash(hash, request, strlen(request) + 1);
	gnutls_hash(hash, definition, strlen(definition));
	gnutls_hash_deinit(hash, sum);
	for (unsigned i = 0; i < 16; i++)
		snprintf(digest + 2 * i, 3, "%02x", sum[i]);
	return 0;
}

/*
 * The first LAUNCH_UIDS of the pool that nobody has. Without a pool it is 0, the daemon's own; a pool that is used up is an error: who comes
 * too late does not run as root.
 */
static int uid_free(struct daemon *daemon, uint32_t *uid, struct error *e)
{
	const uint32_t first = daemon->config.uid_first,
		       places = daemon->config.uid_count / LAUNCH_UIDS;
	bool *taken;

	*uid = 0;
	if (geteuid() || !first || !daemon->config.uid_count)
		return 0;
	taken = calloc(MAX(places, 1u), sizeof(*taken));
	for (unsigned i = 0; taken && i < daemon->instance_count; i++) {
		const uint32_t one = daemon->instances[i]->row.uid;

		/* One of before uid_first was changed may lie across two places. */
		for (uint32_t user = one; one && user < one + LAUNCH_UIDS; user++)
			if (user >= first && (user - first) / LAUNCH_UIDS < places)
				taken[(user - first) / LAUNCH_UIDS] = true;
	}
	for (uint32_t i = 0; taken && i < places && !*uid; i++)
		*uid = taken[i] ? 0 : first + i * LAUNCH_UIDS;
	free(taken);
	return *uid ? 0
		    : error_set(e, ENOSPC, "no-user-left", "uid_count: in divvyd.yaml",
				"no users are left that an instance's processes could run as");
}

/* ---- defining ------------------------------------------------------------------------------------- */

static int no_weight(const struct instance_type *type, struct error *e)
{
	return error_set(e, EINVAL, "bad-request", "divvy show type NAME",
			 "a weight means nothing to %s: no GPU of it is weighted or burst",
			 type->name);
}

/* The type as it is now, with what the request says otherwise. */
static int definition_make(struct daemon *daemon, const char *own, const json_t *request,
			   struct instance_type *type, char **text, struct error *e)
{
	const char *name = json_string_value(json_object_get(request, "type"));
	const struct instance_type *found = type_catalogue_find(&daemon->types, name);
	const json_t *displays = json_object_get(request, "displays"),
		     *weight = json_object_get(request, "weight");
	json_t *json;

	if (!found)
		return error_set(e, ENOENT, "no-such-type", "divvy list types",
				 "there is no instance type %.60s", name);
	*type = *found;
	/* Cut to what an interface's name has room for, it would be another's as well, and so would its network. */
	for (unsigned i = 0; i < type->nic_count && strlen(own) > TAP_NAME_MAX; i++)
		if (type->nics[i] == TYPE_NIC_TAP)
			return error_set(
				e, EINVAL, "bad-name", NULL,
				"%s has a tap, which is called after the instance: its name has %u letters at most",
				type->name, TAP_NAME_MAX);
	if (displays)
		type_displays_set(type, displays);
	if (weight && !type_weight_set(type, (uint32_t)json_integer_value(weight)))
		return no_weight(type, e);
	json = type_json(type);
	*text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return *text ? 0 : error_set(e, ENOMEM, "no-memory", NULL, "no memory");
}

static enum store_restart restart_read(const json_t *request)
{
	const char *text = json_string_value(json_object_get(request, "restart"));

	return text && !strcmp(text, "always")	     ? STORE_RESTART_ALWAYS
	       : text && !strcmp(text, "on-failure") ? STORE_RESTART_ON_FAILURE
						     : STORE_RESTART_NEVER;
}

static int row_make(struct daemon *daemon, const char *name, const json_t *request, uint32_t owner,
		    bool transient, struct store_instance *row, struct instance_type *type,
		    struct error *e)
{
	int err = definition_make(daemon, name, request, type, &row->definition, e);

	if (err)
		return err;
	snprintf(row->name, sizeof(row->name), "%s", name);
	snprintf(row->type, sizeof(row->type), "%s", type->name);
	row->image = strdup(json_string_value(json_object_get(request, "image")));
	row->request = json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS);
	if (!row->image || !row->request)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory");
	row->owner = owner;
	row->transient = transient;
	row->restart = transient ? STORE_RESTART_NEVER : restart_read(request);
	row->exit_status = -1;
	row->created_ms = row->changed_ms = daemon_now_ms();
	err = digest_make(row->request, row->definition, row->digest);
	if (!err)
		err = uuid_make(row->uuid);
	return err ? error_set(e, -err, "no-memory", NULL, "%s", strerror(-err)) : 0;
}

/* What is new of @row goes into the instance; what it is now stays. */
static int redefine(struct instance *instance, struct store_instance *row,
		    const struct instance_type *type, struct error *e)
{
	struct store_instance old = instance->row, *now = &instance->row;
	int err;

	now->image = row->image;
	now->definition = row->definition;
	now->request = row->request;
	memcpy(now->type, row->type, sizeof(now->type));
	memcpy(now->digest, row->digest, sizeof(now->digest));
	now->restart = row->restart;
	err = instance_save(instance, e);
	if (err) {
		instance->row = old;
		return err;
	}
	texts_drop(instance);
	row->image = old.image;
	row->definition = old.definition;
	row->request = old.request;
	/* One that runs keeps what it was started as; its row says what it will be. */
	if (!instance_active(instance))
		instance->type = *type;
	return 0;
}

int instance_define(struct daemon *daemon, const char *name, const json_t *request, uint32_t owner,
		    bool transient, struct instance *existing, struct instance **out, bool *changed,
		    struct error *e)
{
	struct store_instance row = { 0 };
	struct instance_type type;
	int err = row_make(daemon, name, request, owner, transient, &row, &type, e);

	*changed = false;
	if (!err && existing) {
		*out = existing;
		if (strcmp(existing->row.digest, row.digest) != 0) {
			err = redefine(existing, &row, &type, e);
			*changed = !err;
		}
		store_instance_free(&row);
	} else if (!err) {
		err = uid_free(daemon, &row.uid, e);
		/* What a deletion could not remove of one of this name is not the new one's: its disks may be another user's. */
		if (!err)
			err = launch_folders_remove(&daemon->places, name, true, e);
		if (!err)
			err = store_instance_put(daemon->store, &row, e);
		if (!err)
			err = instance_add(daemon, &row, out, e);
		*changed = !err;
	}
	if (err) {
		store_instance_free(&row);
		return err;
	}
	if (*changed)
		event_instance(*out, "defined", "%s, image %s", (*out)->row.type,
			       (*out)->row.image);
	return 0;
}

int instance_weigh(struct instance *instance, uint32_t weight, struct error *e)
{
	struct instance_type type;
	struct store_instance row = { 0 };
	json_t *request, *json;
	/* As it is defined, which one that runs need not be yet. */
	int err = type_read(instance, &type, e);

	if (err)
		return err;
	request = json_loads(instance->row.request, 0, NULL);
	if (!type_weight_set(&type, weight)) {
		json_decref(request);
		return no_weight(&type, e);
	}
	json_object_set_new(request, "weight", json_integer(weight));
	json = type_json(&type);
	row.definition = json ? json_dumps(json, JSON_COMPACT) : NULL;
	row.request = json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS);
	row.image = strdup(instance->row.image);
	json_decref(json);
	json_decref(request);
	memcpy(row.type, instance->row.type, sizeof(row.type));
	row.restart = instance->row.restart;
	if (!row.definition || !row.request || !row.image ||
	    digest_make(row.request, row.definition, row.digest))
		err = error_set(e, ENOMEM, "no-memory", NULL, "no memory");
	if (!err && strcmp(row.digest, instance->row.digest) != 0)
		err = redefine(instance, &row, &type, e);
	if (!err)
		type_weight_set(&instance->type, weight);
	store_instance_free(&row);
	return err;
}

/* The folders go after the row, and the journal remembers until both are gone. */
int instance_delete(struct instance *instance, struct error *e)
{
	struct daemon *daemon = instance->daemon;
	int64_t change;
	int err = store_change_begin(daemon->store, "delete", instance->row.name, "", &change, e);

	if (!err)
		err = store_instance_delete(daemon->store, instance->row.name, e);
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

void instance_describe(const struct instance *instance, struct launch_instance *launch)
{
	*launch = (struct launch_instance){
		.image = instance->row.image,
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
		else
			describe_shared(instance, i, &launch->gpus[i]);
	}
	launch_take_type(launch, &instance->type);
}
