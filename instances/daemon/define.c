// SPDX-License-Identifier: Apache-2.0
/*
 * What an instance is to be: the type as it is now and what was asked for otherwise, with a digest of both by which one who changes it knows
 * that nobody else has. One that runs keeps what it was started as: that is written down with its place, and goes with it.
 */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "instances/daemon/private.h"

#define TAP_NAME_MAX 10u /* "-tN" comes after it, and an interface's name has 15 */

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

struct pool {
	uint32_t first, places;
	bool *taken;
};

static int user_taken(void *opaque, uint32_t uid)
{
	const struct pool *pool = opaque;

	/* One of before uid_first was changed may lie across two places. */
	for (uint32_t user = uid; user && user < uid + LAUNCH_UIDS; user++)
		if (user >= pool->first && (user - pool->first) / LAUNCH_UIDS < pool->places)
			pool->taken[(user - pool->first) / LAUNCH_UIDS] = true;
	return 0;
}

int instance_user(struct daemon *daemon, uint32_t *uid, struct error *e)
{
	const struct config *config = &daemon->config;
	struct pool pool = { .first = config->uid_first,
			     .places = config->uid_count / LAUNCH_UIDS };
	int err;

	*uid = 0;
	if (geteuid() || !config->uid_first || !config->uid_count)
		return 0;
	pool.taken = calloc(MAX(pool.places, 1u), sizeof(*pool.taken));
	if (!pool.taken)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for its user");
	for (unsigned i = 0; i < daemon->instance_count; i++)
		user_taken(&pool, daemon->instances[i]->row.uid);
	/* It is the store that refuses one twice, also of rows that the table had no room for. */
	err = store_uids(daemon->store, user_taken, &pool, e);
	for (uint32_t i = 0; i < pool.places && !err && !*uid; i++)
		*uid = pool.taken[i] ? 0 : pool.first + i * LAUNCH_UIDS;
	free(pool.taken);
	if (err || *uid)
		return err;
	return error_set(e, ENOSPC, "no-user-left", "uid_count: in divvyd.yaml",
			 "no users are left that an instance's processes could run as");
}

static int no_weight(const struct instance_type *type, struct error *e)
{
	char next[ERROR_NEXT_SIZE];

	return error_set(e, EINVAL, "bad-request", error_next("show type", type->name, next),
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
	char next[ERROR_NEXT_SIZE], is_it[TYPE_IS_IT_SIZE];
	json_t *json;
	int err;

	if (!found)
		return error_set(e, ENOENT, "no-such-type", "divvy list types",
				 "there is no instance type %.60s%s", name,
				 type_catalogue_is_it(&daemon->types, name, is_it));
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
	/* What was asked for may not go with the type: whoever reads the row is to find nothing wrong with it. */
	err = *text ? definition_read(json, own, error_next("show type", type->name, next), type, e)
		    : error_set(e, ENOMEM, "no-memory", NULL, "no memory");
	json_decref(json);
	return err;
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
	sd_id128_t id;

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
		err = MIN(sd_id128_randomize(&id), 0);
	if (!err)
		sd_id128_to_uuid_string(id, row->uuid);
	return err ? error_set(e, -err, "no-memory", NULL, "%s", strerror(-err)) : 0;
}

/* What is new of @row goes into the instance; what it is now stays. */
static int redefine(struct instance *instance, struct store_instance *row,
		    const struct instance_type *type, struct error *e)
{
	struct store_instance old = instance->row, *now = &instance->row;
	const bool mended = instance->unreadable && !instance_active(instance);
	int err;

	now->image = row->image;
	now->definition = row->definition;
	now->request = row->request;
	memcpy(now->type, row->type, sizeof(now->type));
	memcpy(now->digest, row->digest, sizeof(now->digest));
	now->restart = row->restart;
	if (mended) {
		now->state = now->started_ms ? STORE_STOPPED : STORE_DEFINED;
		now->error_text = now->error_next = NULL;
		now->error_code[0] = '\0';
	}
	err = instance_save(instance, e);
	if (err) {
		instance->row = old;
		return err;
	}
	instance_texts_drop(instance);
	row->image = old.image;
	row->definition = old.definition;
	row->request = old.request;
	if (mended) {
		row->error_text = old.error_text;
		row->error_next = old.error_next;
		instance->unreadable = false;
	}
	/* One that runs keeps what it was started as; its row says what it will be. */
	if (!instance_active(instance))
		instance->type = *type;
	return 0;
}

/* What may be wrong is looked at before it is written down: what was refused is not there. */
static int define_new(struct daemon *daemon, struct store_instance *row, struct instance **out,
		      struct error *e)
{
	struct instance *instance;
	int err = instance_new(daemon, row, &instance, e);

	if (err)
		return err;
	err = instance_user(daemon, &instance->row.uid, e);
	/* What a deletion could not remove of one of this name is not the new one's: its disks may be another user's. */
	if (!err)
		err = launch_folders_remove(&daemon->places, instance->row.name, true, e);
	if (!err)
		err = store_instance_put(daemon->store, &instance->row, e);
	if (err) {
		instance_free(instance);
		return err;
	}
	instance_insert(instance);
	*out = instance;
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
		if (existing->unreadable || strcmp(existing->row.digest, row.digest) != 0) {
			err = redefine(existing, &row, &type, e);
			*changed = !err;
		}
	} else if (!err) {
		err = define_new(daemon, &row, out, e);
		*changed = !err;
	}
	store_instance_free(&row);
	if (*changed)
		event_instance(*out, "defined", "%s, image %s", (*out)->row.type,
			       (*out)->row.image);
	return err;
}

int instance_weigh(struct instance *instance, uint32_t weight, struct error *e)
{
	struct instance_type type;
	struct store_instance row = { 0 };
	json_t *request, *json;
	/* As it is defined, which one that runs need not be yet. */
	int err = instance_type_read(instance, &type, e);

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

/* ---- what it was started as ------------------------------------------------------------------------ */

int definition_keep(struct instance *instance, json_t *placement)
{
	free(instance->image);
	instance->image = strdup(instance->row.image);
	if (!instance->image ||
	    json_object_set_new(placement, "image", json_string(instance->image)) ||
	    json_object_set_new(placement, "definition", type_json(&instance->type)))
		return -ENOMEM;
	return 0;
}

void definition_kept(struct instance *instance, const json_t *placement)
{
	const char *image = json_string_value(json_object_get(placement, "image"));
	const json_t *definition = json_object_get(placement, "definition");
	struct instance_type type;
	struct error e = { 0 };

	/* Of an older Divvy's there is neither: then it is as its row says. */
	if (image) {
		free(instance->image);
		instance->image = strdup(image);
	}
	if (!definition)
		return;
	if (definition_read(definition, instance->row.name, NULL, &type, &e)) {
		log_error("%s", e.text);
		return;
	}
	instance->type = type;
	instance->unreadable = false;
}
