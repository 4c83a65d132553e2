// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's mediated devices (Documentation/driver-api/vfio-mediated-device.rst): types that a parent's driver
 * offers in mdev_supported_types, made and taken away by writing UUIDs.
 *
 * Whatever a name in sysfs is, it is copied with a bound and never becomes part of a path that is written
 * to, except as it was listed.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mdev/types/types.h"

#define CLASS	"/sys/class/mdev_bus"
#define DEVICES "/sys/bus/mdev/devices"

struct walk {
	const struct mdev_host *host;
	struct mdev_types *types;
	struct mdev_instances *instances;
	const char *parent;
};

static unsigned number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	return *text >= '0' && *text <= '9' && !*end && value < 1000000 ? (unsigned)value : 0;
}

static int found_type(void *opaque, const char *name, struct error *e)
{
	const struct walk *walk = opaque;
	struct mdev_type *type;
	char path[512], text[32];

	/* A name longer than any driver's is none that could be asked for. */
	if (strlen(name) >= sizeof(type->name) || strlen(walk->parent) >= sizeof(type->parent))
		return 0;
	type = mdev_type_add(walk->types, &mdev_provider_kernel, e);
	if (!type)
		return -ENOMEM;
	strcpy(type->parent, walk->parent);
	strcpy(type->name, name);
#define READ(file, to)                                                                         \
	(snprintf(path, sizeof(path), CLASS "/%s/mdev_supported_types/%s/" file, walk->parent, \
		  name),                                                                       \
	 mdev_sysfs_read(walk->host, path, (to), sizeof(to)))
	READ("description", type->description);
	if (!*type->description)
		READ("name", type->description);
	READ("device_api", type->device_api);
	READ("available_instances", text);
	type->available = number(text);
	for (char *c = type->description; *c; c++)
		if (*c == '\n')
			*c = ' ';
	return 0;
}

static int found_parent(void *opaque, const char *name, struct error *e)
{
	struct walk *walk = opaque;
	char path[512];

	walk->parent = name;
	snprintf(path, sizeof(path), CLASS "/%s/mdev_supported_types", name);
	return mdev_each(walk->host, path, found_type, walk, e);
}

static int types(const struct mdev_host *host, struct mdev_types *list, struct error *e)
{
	struct walk walk = { .host = host, .types = list };

	return mdev_each(host, CLASS, found_parent, &walk, e);
}

/* The last component of the link at @path, "" when it is none. */
static void link_name(const struct mdev_host *host, const char *path, char *name, size_t size)
{
	char full[1024], target[1024];
	ssize_t n;

	snprintf(full, sizeof(full), "%s%s", host->root, path);
	n = readlink(full, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = '\0';
	snprintf(name, size, "%s", n < 0 ? "" : basename(target));
}

static void describe(const struct mdev_host *host, const char *uuid, struct mdev_instance *out)
{
	char path[512], target[1024], full[1024];
	ssize_t n;

	strcpy(out->id, uuid);
	snprintf(out->path, sizeof(out->path), DEVICES "/%s", uuid);
	snprintf(path, sizeof(path), DEVICES "/%s/mdev_type", uuid);
	link_name(host, path, out->type, sizeof(out->type));
	/* The device's folder is in its parent's. */
	snprintf(full, sizeof(full), "%s" DEVICES "/%s", host->root, uuid);
	n = readlink(full, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = '\0';
	if (n > 0)
		snprintf(out->parent, sizeof(out->parent), "%s", basename(dirname(target)));
}

static int found_instance(void *opaque, const char *name, struct error *e)
{
	const struct walk *walk = opaque;
	struct mdev_instance *instance;

	if (!uuid_ok(name))
		return 0;
	instance = mdev_instance_add(walk->instances, &mdev_provider_kernel, e);
	if (!instance)
		return -ENOMEM;
	describe(walk->host, name, instance);
	return 0;
}

static int instances(const struct mdev_host *host, struct mdev_instances *list, struct error *e)
{
	struct walk walk = { .host = host, .instances = list };

	return mdev_each(host, DEVICES, found_instance, &walk, e);
}

static int create(const struct mdev_host *host, const struct mdev_type *type, const char *uuid,
		  unsigned count, struct mdev_instance *out, struct error *e)
{
	char path[512];
	int err;

	if (!type->available)
		return error_set(e, ENOSPC, "none-available", "remove another instance first",
				 "%s has no %s left", type->parent, type->name);
	snprintf(path, sizeof(path), CLASS "/%s/mdev_supported_types/%s/create", type->parent,
		 type->name);
	err = mdev_sysfs_write(host, path, uuid, e);
	if (err)
		return err;
	*out = (struct mdev_instance){ .provider = mdev_provider_kernel.name };
	strcpy(out->id, uuid);
	strcpy(out->parent, type->parent);
	strcpy(out->type, type->name);
	snprintf(out->path, sizeof(out->path), DEVICES "/%s", uuid);
	return 0;
}

static int remove_one(const struct mdev_host *host, const char *id, struct error *e)
{
	char path[512], full[1024];

	if (!uuid_ok(id))
		return -ENOENT;
	snprintf(path, sizeof(path), DEVICES "/%s/remove", id);
	snprintf(full, sizeof(full), "%s%s", host->root, path);
	if (access(full, F_OK) < 0)
		return -ENOENT;
	return mdev_sysfs_write(host, path, "1", e);
}

const struct mdev_provider mdev_provider_kernel = {
	.name = "mdev",
	.types = types,
	.instances = instances,
	.create = create,
	.remove = remove_one,
};
