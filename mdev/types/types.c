// SPDX-License-Identifier: Apache-2.0
/*
 * Shares of devices as a caller sees them, whoever gives them out: what can be made, what there is, make one,
 * take it away. The providers are in a table; nothing here knows one of them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <systemd/sd-id128.h>

#include "mdev/types/types.h"

static const struct mdev_provider *const providers[] = {
	&mdev_provider_vgpu,
	&mdev_provider_kernel,
	&mdev_provider_sriov,
};

/* ---- lists --------------------------------------------------------------------------------- */

/* Room for one more of @size bytes, or NULL. */
static void *grow(void *items, unsigned count, unsigned *room, size_t size)
{
	unsigned more = *room ? *room * 2 : 16;

	if (count < *room)
		return items;
	items = reallocarray(items, more, size);
	if (items)
		*room = more;
	return items;
}

struct mdev_type *mdev_type_add(struct mdev_types *types, const struct mdev_provider *provider,
				struct error *e)
{
	struct mdev_type *items;

	if (types->count == MDEV_TYPES_MAX) {
		error_set(e, E2BIG, "too-many", NULL, "more than %d types", MDEV_TYPES_MAX);
		return NULL;
	}
	items = grow(types->items, types->count, &types->room, sizeof(*items));
	if (!items) {
		error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
		return NULL;
	}
	types->items = items;
	items[types->count] = (struct mdev_type){ .provider = provider->name };
	return &items[types->count++];
}

struct mdev_instance *mdev_instance_add(struct mdev_instances *instances,
					const struct mdev_provider *provider, struct error *e)
{
	struct mdev_instance *items;

	if (instances->count == MDEV_INSTANCES_MAX) {
		error_set(e, E2BIG, "too-many", NULL, "more than %d instances", MDEV_INSTANCES_MAX);
		return NULL;
	}
	items = grow(instances->items, instances->count, &instances->room, sizeof(*items));
	if (!items) {
		error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
		return NULL;
	}
	instances->items = items;
	items[instances->count] = (struct mdev_instance){ .provider = provider->name };
	return &items[instances->count++];
}

void mdev_types_free(struct mdev_types *types)
{
	free(types->items);
	*types = (struct mdev_types){ 0 };
}

void mdev_instances_free(struct mdev_instances *instances)
{
	free(instances->items);
	*instances = (struct mdev_instances){ 0 };
}

int mdev_types(const struct mdev_host *host, struct mdev_types *types, struct error *e)
{
	int err = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(providers) && !err; i++)
		err = providers[i]->types(host, types, e);
	if (err)
		mdev_types_free(types);
	return err;
}

int mdev_instances(const struct mdev_host *host, struct mdev_instances *instances, struct error *e)
{
	int err = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(providers) && !err; i++)
		err = providers[i]->instances(host, instances, e);
	if (err)
		mdev_instances_free(instances);
	return err;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static char *dump(json_t *list)
{
	char *text = list ? json_dumps(list, JSON_INDENT(2)) : NULL, *line = NULL;

	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	json_decref(list);
	return line;
}

char *mdev_types_json(const struct mdev_types *types)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < types->count; i++) {
		const struct mdev_type *type = &types->items[i];
		json_t *parameters = json_object();

		for (unsigned j = 0; j < type->parameter_count; j++)
			json_object_set_new(parameters, type->parameters[j].name,
					    json_integer((json_int_t)type->parameters[j].value));
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:o}", "provider",
						type->provider, "parent", type->parent, "name",
						type->name, "description", type->description,
						"device_api", type->device_api, "available",
						(int)type->available, "parameters", parameters));
	}
	return dump(list);
}

char *mdev_instances_json(const struct mdev_instances *instances)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < instances->count; i++) {
		const struct mdev_instance *instance = &instances->items[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "provider",
						      instance->provider, "id", instance->id,
						      "parent", instance->parent, "type",
						      instance->type, "path", instance->path));
	}
	return dump(list);
}

/* ---- UUIDs --------------------------------------------------------------------------------- */

/* Version 4, random (RFC 9562, 5.4). */
static int uuid_make(char uuid[MDEV_UUID_LEN], struct error *e)
{
	sd_id128_t id;
	int err = sd_id128_randomize(&id);

	if (err < 0)
		return error_set(e, -err, "no-uuid", NULL, "getrandom: %s", strerror(-err));
	sd_id128_to_uuid_string(id, uuid);
	return 0;
}

/* ---- make and take away -------------------------------------------------------------------- */

static const struct mdev_provider *provider_of(const struct mdev_type *type)
{
	for (unsigned i = 0; i < ARRAY_SIZE(providers); i++)
		if (!strcmp(providers[i]->name, type->provider))
			return providers[i];
	return NULL;
}

static const struct mdev_type *type_find(const struct mdev_types *types,
					 const struct mdev_request *request, struct error *e)
{
	char known[512] = "";

	for (unsigned i = 0; i < types->count; i++) {
		const struct mdev_type *type = &types->items[i];

		if (strcmp(type->parent, request->parent) != 0)
			continue;
		if (!strcmp(type->name, request->type))
			return type;
		text_append(known, sizeof(known), "%s%s", *known ? ", " : "", type->name);
	}
	if (*known)
		error_set(e, ENOENT, "no-such-type", NULL, "%s has no type %s: it has %s",
			  request->parent, request->type, known);
	else
		error_set(e, ENOENT, "no-such-type", NULL, "nothing of %s can be shared",
			  request->parent);
	return NULL;
}

static int uuid_choose(const struct mdev_host *host, const char *asked, char uuid[MDEV_UUID_LEN],
		       struct error *e)
{
	struct mdev_instances instances = { 0 };
	int err;

	if (!asked)
		return uuid_make(uuid, e);
	if (!uuid_ok(asked))
		return error_set(e, EINVAL, "bad-uuid", "take uuidgen(1)'s",
				 "%.40s is no UUID in lower case", asked);
	strcpy(uuid, asked);
	err = mdev_instances(host, &instances, e);
	for (unsigned i = 0; i < instances.count && !err; i++)
		if (!strcmp(instances.items[i].id, uuid))
			err = error_set(e, EEXIST, "instance-exists", NULL,
					"%s is there: a %s of %s", uuid, instances.items[i].type,
					instances.items[i].parent);
	mdev_instances_free(&instances);
	return err;
}

static int create(const struct mdev_host *host, const struct mdev_request *request,
		  const struct mdev_type *type, struct mdev_instance *out, struct error *e)
{
	const struct mdev_provider *provider = provider_of(type);
	char uuid[MDEV_UUID_LEN] = "";
	int err;

	if (provider->counted && request->uuid)
		return error_set(e, EINVAL, "bad-uuid", NULL, "%s of %s has no UUID", type->name,
				 type->parent);
	if (provider->counted != (request->count > 0))
		return error_set(e, EINVAL, "bad-count", NULL,
				 provider->counted ? "%s of %s: how many are there to be?"
						   : "%s of %s is made one at a time",
				 type->name, type->parent);
	err = provider->counted ? 0 : uuid_choose(host, request->uuid, uuid, e);
	return err ? err : provider->create(host, type, uuid, request->count, out, e);
}

int mdev_create(const struct mdev_host *host, const struct mdev_request *request,
		struct mdev_instance *out, struct error *e)
{
	const struct mdev_type *type;
	struct mdev_types types = { 0 };
	int err = mdev_types(host, &types, e);

	if (err)
		return err;
	type = type_find(&types, request, e);
	err = type ? create(host, request, type, out, e) : -ENOENT;
	mdev_types_free(&types);
	return err;
}

int mdev_remove(const struct mdev_host *host, const char *id, struct error *e)
{
	for (unsigned i = 0; i < ARRAY_SIZE(providers); i++) {
		int err = providers[i]->remove(host, id, e);

		if (err != -ENOENT)
			return err;
	}
	return error_set(e, ENOENT, "no-such-instance", NULL, "there is no instance %.40s", id);
}

/* ---- sysfs --------------------------------------------------------------------------------- */

void mdev_sysfs_read(const struct mdev_host *host, const char *path, char *text, size_t size)
{
	char full[1024];

	snprintf(full, sizeof(full), "%s%s", host->root, path);
	if (file_read(AT_FDCWD, full, text, size) < 0)
		*text = '\0';
}

int mdev_sysfs_write(const struct mdev_host *host, const char *path, const char *text,
		     struct error *e)
{
	char full[1024];
	int err;

	snprintf(full, sizeof(full), "%s%s", host->root, path);
	err = file_write(AT_FDCWD, full, text);
	return err ? error_set(e, -err, "sysfs-refused", NULL, "%s: writing %.40s: %s", full, text,
			       strerror(-err))
		   : 0;
}

static int visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int mdev_each(const struct mdev_host *host, const char *path,
	      int (*found)(void *opaque, const char *name, struct error *e), void *opaque,
	      struct error *e)
{
	struct dirent **entries;
	char full[1024];
	int count, err = 0;

	snprintf(full, sizeof(full), "%s%s", host->root, path);
	count = scandir(full, &entries, visible, alphasort);
	if (count < 0 && errno == ENOENT)
		return 0;
	if (count < 0)
		return error_set(e, errno, "sysfs-unreadable", NULL, "%s: %s", full,
				 strerror(errno));
	for (int i = 0; i < count; i++) {
		if (!err)
			err = found(opaque, entries[i]->d_name, e);
		free(entries[i]);
	}
	free(entries);
	return err;
}
