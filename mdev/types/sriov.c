// SPDX-License-Identifier: Apache-2.0
/*
 * Virtual functions of a PCI function (PCI Express 6.0, 9; Documentation/PCI/pci-iov-howto.rst): all of one parent
 * come and go together, by a number written to sriov_numvfs.
 *
 * They are PCI functions like others and take the way of assigned devices (docs/assignment.md).
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mdev/types/types.h"

#define DEVICES "/sys/bus/pci/devices"
#define TYPE	"sriov-vf"

struct walk {
	const struct mdev_host *host;
	struct mdev_types *types;
	struct mdev_instances *instances;
};

/* A number of @address's folder; 0 when there is none. PCIe 6.0, 9.3.3.5: they are of 16 bits. */
static unsigned read_number(const struct mdev_host *host, const char *address, const char *file)
{
	char path[256], text[32], *end;
	unsigned long value;

	snprintf(path, sizeof(path), DEVICES "/%s/%s", address, file);
	mdev_sysfs_read(host, path, text, sizeof(text));
	value = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && value <= 0xffff ? (unsigned)value : 0;
}

static bool is_address(const char *name)
{
	struct pci_address address;
	char text[PCI_ADDRESS_LEN];

	return !pci_address_parse(name, &address) &&
	       !strcmp(pci_address_format(&address, text), name);
}

static int found_parent(void *opaque, const char *name, struct error *e)
{
	const struct walk *walk = opaque;
	unsigned total, now;
	struct mdev_type *type;

	if (!is_address(name))
		return 0;
	total = read_number(walk->host, name, "sriov_totalvfs");
	if (!total)
		return 0;
	now = read_number(walk->host, name, "sriov_numvfs");
	type = mdev_type_add(walk->types, &mdev_provider_sriov, e);
	if (!type)
		return -ENOMEM;
	strcpy(type->parent, name);
	strcpy(type->name, TYPE);
	strcpy(type->device_api, "vfio-pci");
	snprintf(type->description, sizeof(type->description),
		 "virtual functions, at most %u at once%s", total,
		 now ? "; their number cannot change while there are some" : "");
	type->available = now ? 0 : total;
	type->parameters[0] = (struct mdev_parameter){ "functions", now };
	type->parameters[1] = (struct mdev_parameter){ "functions_max", total };
	type->parameter_count = 2;
	return 0;
}

static int types(const struct mdev_host *host, struct mdev_types *list, struct error *e)
{
	struct walk walk = { .host = host, .types = list };

	return mdev_each(host, DEVICES, found_parent, &walk, e);
}

/* Whose virtual function it is: physfn leads there. */
static int found_function(void *opaque, const char *name, struct error *e)
{
	const struct walk *walk = opaque;
	char full[1024], target[1024];
	struct mdev_instance *instance;
	ssize_t n;

	if (!is_address(name))
		return 0;
	snprintf(full, sizeof(full), "%s" DEVICES "/%s/physfn", walk->host->root, name);
	n = readlink(full, target, sizeof(target) - 1);
	if (n <= 0)
		return 0;
	target[n] = '\0';
	instance = mdev_instance_add(walk->instances, &mdev_provider_sriov, e);
	if (!instance)
		return -ENOMEM;
	strcpy(instance->id, name);
	strcpy(instance->type, TYPE);
	snprintf(instance->parent, sizeof(instance->parent), "%s", basename(target));
	snprintf(instance->path, sizeof(instance->path), DEVICES "/%s", name);
	return 0;
}

static int instances(const struct mdev_host *host, struct mdev_instances *list, struct error *e)
{
	struct walk walk = { .host = host, .instances = list };

	return mdev_each(host, DEVICES, found_function, &walk, e);
}

static int create(const struct mdev_host *host, const struct mdev_type *type, const char *uuid,
		  unsigned count, struct mdev_instance *out, struct error *e)
{
	const unsigned now = (unsigned)type->parameters[0].value;
	char path[256], text[16], full[1024], target[1024];
	ssize_t n;
	int err;

	/* "Device or resource busy": the kernel goes from none to some and back. */
	if (now)
		return error_set(e, EBUSY, "none-available", "take them away first",
				 "%s has %u virtual functions: their number cannot change while "
				 "there are some",
				 type->parent, now);
	if (count > type->available)
		return error_set(e, ENOSPC, "bad-count", NULL,
				 "%s can have %u virtual functions, not %u", type->parent,
				 type->available, count);
	snprintf(path, sizeof(path), DEVICES "/%s/sriov_numvfs", type->parent);
	snprintf(text, sizeof(text), "%u", count);
	err = mdev_sysfs_write(host, path, text, e);
	if (err)
		return err;
	*out = (struct mdev_instance){ .provider = mdev_provider_sriov.name };
	strcpy(out->parent, type->parent);
	strcpy(out->type, type->name);
	snprintf(full, sizeof(full), "%s" DEVICES "/%s/virtfn0", host->root, type->parent);
	n = readlink(full, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = '\0';
	/* Some drivers take their time; then the list shows it later. */
	if (n > 0 && is_address(basename(target))) {
		strcpy(out->id, basename(target));
		snprintf(out->path, sizeof(out->path), DEVICES "/%s", out->id);
	}
	return 0;
}

static int remove_all(const struct mdev_host *host, const char *id, struct error *e)
{
	char path[256];

	if (!is_address(id) || !read_number(host, id, "sriov_numvfs"))
		return -ENOENT;
	snprintf(path, sizeof(path), DEVICES "/%s/sriov_numvfs", id);
	return mdev_sysfs_write(host, path, "0", e);
}

const struct mdev_provider mdev_provider_sriov = {
	.name = "sriov",
	.types = types,
	.instances = instances,
	.create = create,
	.remove = remove_all,
	.counted = true,
};
