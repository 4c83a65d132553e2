// SPDX-License-Identifier: Apache-2.0
/*
 * Mediated devices of GPUs as the kernel shows them (Documentation/driver-api/vfio-mediated-device.rst): the types that a GPU's driver
 * offers, and the devices that are there. A device's folder lies in its parent's, which is how it is known whose it is.
 *
 * Only types of the API "vfio-pci" are looked at: others (vfio-ccw, vfio-ap) are no PCI functions for a guest.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "instances/node/private.h"

#define TYPES_LOOKED_AT 1024

struct walk {
	const char *root;
	struct node *node;
	struct node_gpu *gpu;
	bool failed;
};

/* The function whose folder the device's own is in. */
static bool parent_of(const char *root, const char *uuid, struct pci_address *parent)
{
	char link[NODE_PATH_MAX], path[PATH_MAX], *slash;

	if (!realpath(node_path(link, root, "/sys/bus/mdev/devices/%s", uuid), path))
		return false;
	slash = strrchr(path, '/');
	if (!slash)
		return false;
	*slash = '\0';
	slash = strrchr(path, '/');
	return slash && strlen(slash + 1) == PCI_ADDRESS_LEN - 1 &&
	       !pci_address_parse(slash + 1, parent);
}

static void found_device(void *opaque, const char *name)
{
	struct walk *walk = opaque;
	struct node *node = walk->node;
	struct node_mdev mdev = { 0 }, *mdevs;

	if (walk->failed || !uuid_ok(name) || !parent_of(walk->root, name, &mdev.parent))
		return;
	mdevs = reallocarray(node->mdevs, node->mdev_count + 1, sizeof(*mdevs));
	if (!mdevs) {
		walk->failed = true;
		return;
	}
	memcpy(mdev.uuid, name, sizeof(mdev.uuid));
	mdevs[node->mdev_count++] = mdev;
	node->mdevs = mdevs;
}

int node_mdevs_read(const char *root, struct node *node)
{
	struct walk walk = { .root = root, .node = node };
	char path[NODE_PATH_MAX];

	node_names(node_path(path, root, "/sys/bus/mdev/devices"), NODE_MDEVS_MAX, found_device,
		   &walk);
	return walk.failed ? -ENOMEM : 0;
}

static void found_type(void *opaque, const char *name)
{
	struct walk *walk = opaque;
	struct node_gpu *gpu = walk->gpu;
	struct node_mdev_type *type = &gpu->mdev_types[gpu->mdev_type_count];
	char leaf[96 + NODE_MDEV_SIZE], path[NODE_PATH_MAX], text[32];

	/* What is longer than any driver's is none that could be asked for. */
	if (gpu->mdev_type_count == NODE_MDEV_TYPES || strlen(name) >= sizeof(type->id))
		return;
	snprintf(leaf, sizeof(leaf), "mdev_supported_types/%s/device_api", name);
	if (!node_text(node_pci_path(path, walk->root, &gpu->address, leaf), text, sizeof(text)) ||
	    strcmp(text, "vfio-pci") != 0)
		return;
	*type = (struct node_mdev_type){ 0 };
	snprintf(type->id, sizeof(type->id), "%s", name);
	text_printable(type->id);
	snprintf(leaf, sizeof(leaf), "mdev_supported_types/%s/name", name);
	node_text(node_pci_path(path, walk->root, &gpu->address, leaf), type->name,
		  sizeof(type->name));
	snprintf(leaf, sizeof(leaf), "mdev_supported_types/%s/available_instances", name);
	type->available = (unsigned)MIN(
		node_number(node_pci_path(path, walk->root, &gpu->address, leaf), 0), 65535u);
	gpu->mdev_type_count++;
}

void node_mdev_types_read(const char *root, const struct node *node, struct node_gpu *gpu)
{
	struct walk walk = { .root = root, .gpu = gpu };
	char path[NODE_PATH_MAX];

	node_names(node_pci_path(path, root, &gpu->address, "mdev_supported_types"),
		   TYPES_LOOKED_AT, found_type, &walk);
	for (unsigned i = 0; i < node->mdev_count; i++)
		gpu->mdev_now += pci_address_equal(&node->mdevs[i].parent, &gpu->address);
}
