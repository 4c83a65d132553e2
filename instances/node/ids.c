// SPDX-License-Identifier: Apache-2.0
/*
 * The IDs that GPUs were given, in a file, so that a GPU keeps its own over restarts of whoever reads the inventory, too: while an
 * instance has it, no driver tells its number, and under another ID it would look free. What is lost with the file is no more than that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/node/private.h"

#define FILE_BYTES (256 * KIB) /* of NODE_GPUS_MAX entries, and room */

static bool id_ok(const char *id)
{
	const size_t length = strlen(id);

	return length && length < NODE_ID_SIZE &&
	       strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._:") ==
		       length;
}

static bool one_from(const json_t *json, struct node_known *known)
{
	const char *id = json_string_value(json_object_get(json, "id"));
	const char *address = json_string_value(json_object_get(json, "address"));
	const char *vendor = json_string_value(json_object_get(json, "vendor"));
	const char *device = json_string_value(json_object_get(json, "device"));

	if (!id || !id_ok(id) || !address || pci_address_parse(address, &known->address) ||
	    !vendor || !device)
		return false;
	snprintf(known->id, sizeof(known->id), "%s", id);
	known->vendor = (uint16_t)strtoul(vendor, NULL, 16);
	known->device = (uint16_t)strtoul(device, NULL, 16);
	return true;
}

int node_ids_load(const char *path, struct node_ids *ids, struct error *e)
{
	char *text = malloc(FILE_BYTES);
	ssize_t size = text ? file_read(AT_FDCWD, path, text, FILE_BYTES) : -ENOMEM;
	json_t *json = NULL;
	const json_t *list;

	*ids = (struct node_ids){ 0 };
	if (size >= 0)
		json = json_loads(text, 0, NULL);
	free(text);
	if (size == -ENOENT)
		return 0;
	list = json_object_get(json, "gpus");
	for (size_t i = 0; i < json_array_size(list) && ids->count < NODE_GPUS_MAX; i++)
		ids->count += one_from(json_array_get(list, i), &ids->items[ids->count]);
	if (!json)
		return error_set(
			e, size < 0 ? (int)-size : EINVAL, "gpu-ids-unreadable",
			"move the file away: GPUs get new IDs where no driver tells theirs",
			"%s: %s", path, size < 0 ? strerror((int)-size) : "not JSON");
	json_decref(json);
	return 0;
}

static json_t *ids_json(const struct node_ids *ids)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < ids->count; i++) {
		const struct node_known *known = &ids->items[i];
		char bdf[PCI_ADDRESS_LEN], vendor[8], device[8];

		snprintf(vendor, sizeof(vendor), "%04x", known->vendor);
		snprintf(device, sizeof(device), "%04x", known->device);
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:s}", "id", known->id, "address",
						pci_address_format(&known->address, bdf), "vendor",
						vendor, "device", device));
	}
	return json_pack("{s:o}", "gpus", list);
}

/* All of @text, on the disk. Returns 0 or an errno. */
static int write_all(int fd, const char *text)
{
	int err = -pwrite_full(fd, text, strlen(text), 0);

	return err ? err : fsync(fd) ? errno : 0;
}

int node_ids_save(const char *path, const struct node_ids *ids, struct error *e)
{
	json_t *json = ids_json(ids);
	char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	char beside[NODE_PATH_MAX];
	int fd = -1, err = text ? 0 : ENOMEM;

	json_decref(json);
	if (!err && snprintf(beside, sizeof(beside), "%s.new", path) >= (int)sizeof(beside))
		err = ENAMETOOLONG;
	if (!err) {
		fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
		err = fd < 0 ? errno : write_all(fd, text);
	}
	fd_close(&fd);
	if (!err && rename(beside, path))
		err = errno;
	free(text);
	return err ? error_set(e, err, "gpu-ids-unwritten", NULL, "%s: %s", path, strerror(err))
		   : 0;
}

/* The entry of that ID, or of what was at that address before; NULL: none. */
static struct node_known *entry_of(struct node_ids *ids, const struct node_gpu *gpu)
{
	for (unsigned i = 0; i < ids->count; i++)
		if (!strcmp(ids->items[i].id, gpu->id))
			return &ids->items[i];
	for (unsigned i = 0; i < ids->count; i++)
		if (pci_address_equal(&ids->items[i].address, &gpu->address))
			return &ids->items[i];
	if (ids->count == NODE_GPUS_MAX)
		return NULL;
	memset(&ids->items[ids->count], 0, sizeof(ids->items[0]));
	return &ids->items[ids->count++];
}

bool node_ids_learn(struct node_ids *ids, const struct node *node)
{
	bool changed = false;

	for (unsigned i = 0; i < node->gpu_count; i++) {
		const struct node_gpu *gpu = &node->gpus[i];
		struct node_known *known = gpu->has_address ? entry_of(ids, gpu) : NULL;

		if (!known || (!strcmp(known->id, gpu->id) &&
			       pci_address_equal(&known->address, &gpu->address) &&
			       known->vendor == gpu->vendor && known->device == gpu->device))
			continue;
		snprintf(known->id, sizeof(known->id), "%s", gpu->id);
		known->address = gpu->address;
		known->vendor = gpu->vendor;
		known->device = gpu->device;
		changed = true;
	}
	return changed;
}
