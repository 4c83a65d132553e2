// SPDX-License-Identifier: Apache-2.0
/* The inventory: what sysfs says, and over it what Vulkan says; looking things up in it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "instances/node/private.h"

static bool on_vfio(const struct node_gpu *gpu)
{
	return strstr(gpu->driver, "vfio") != NULL;
}

/*
 * Whether what renders for a guest can be given the GPU: it opens render nodes of /dev/dri and nothing else (docs/sandbox.md). NVIDIA's own
 * driver has nodes and requests of its own, with render nodes beside them or without.
 */
static bool has_node(const struct node_gpu *gpu)
{
	return !gpu->has_address || (gpu->render[0] && strcmp(gpu->driver, "nvidia") != 0);
}

static void serve_vgpus(struct node_gpu *gpu, const struct node_vulkan_gpu *vulkan)
{
	strcpy(gpu->vulkan_name, vulkan->name);
	strcpy(gpu->vulkan_device, vulkan->device);
	gpu->vulkan_mib = vulkan->memory_mib;
	if (has_node(gpu))
		gpu->providers |= NODE_VULKAN;
	if (gpu->vram_source != NODE_VRAM_DRIVER && vulkan->memory_mib) {
		gpu->vram_mib = vulkan->memory_mib;
		gpu->vram_source = NODE_VRAM_VULKAN;
	}
}

static struct node_gpu *by_address(const struct node *node, const char *text)
{
	struct pci_address address;

	if (pci_address_parse(text, &address))
		return NULL;
	for (unsigned i = 0; i < node->gpu_count; i++)
		if (node->gpus[i].has_address &&
		    pci_address_equal(&node->gpus[i].address, &address))
			return &node->gpus[i];
	return NULL;
}

/* One that is no PCI function here: it renders on the CPU, or its address is not to be had. */
static struct node_gpu *add_other(struct node *node, const struct node_vulkan_gpu *vulkan)
{
	struct node_gpu *gpu = node_gpu_add(node);
	unsigned before = 0;

	if (!gpu)
		return NULL;
	for (unsigned i = 0; i + 1 < node->gpu_count; i++)
		before += node->gpus[i].software;
	gpu->software = vulkan->cpu;
	if (gpu->software)
		snprintf(gpu->id, sizeof(gpu->id), "software-%u", before);
	else
		snprintf(gpu->id, sizeof(gpu->id), "vulkan-%s", vulkan->name);
	snprintf(gpu->name, sizeof(gpu->name), "%s", vulkan->device);
	snprintf(gpu->class_name, sizeof(gpu->class_name), "%s",
		 gpu->software ? "GPU on the CPU" : "GPU");
	return gpu;
}

static int add_vulkan(struct node *node, const struct node_vulkan *vulkan)
{
	for (unsigned i = 0; vulkan && i < vulkan->count; i++) {
		struct node_gpu *gpu = by_address(node, vulkan->gpus[i].name);
		bool twice = false;

		/* Two drivers for one GPU are one GPU; the launcher takes the first, too. */
		for (unsigned j = 0; j < i; j++)
			twice |= !strcmp(vulkan->gpus[j].name, vulkan->gpus[i].name);
		if (twice || (gpu && on_vfio(gpu)))
			continue;
		if (!gpu && !(gpu = add_other(node, &vulkan->gpus[i]))) {
			if (node->truncated)
				continue;
			return -ENOMEM;
		}
		serve_vgpus(gpu, &vulkan->gpus[i]);
	}
	return 0;
}

int node_read(const struct node_options *options, struct node **out, struct error *e)
{
	struct node *node = calloc(1, sizeof(*node));
	int err = node ? 0 : -ENOMEM;

	if (!err) {
		node_machine_read(options->root, node);
		err = node_pci_read(options->root, node);
	}
	if (!err)
		err = add_vulkan(node, options->vulkan);
	if (err) {
		node_free(node);
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for the inventory");
	}
	node_identify(node, options->known, options->known_count);
	*out = node;
	return 0;
}

void node_free(struct node *node)
{
	if (!node)
		return;
	free(node->gpus);
	free(node->mdevs);
	free(node);
}

const struct node_gpu *node_gpu_find(const struct node *node, const char *id)
{
	for (unsigned i = 0; i < node->gpu_count; i++)
		if (!strcmp(node->gpus[i].id, id))
			return &node->gpus[i];
	return by_address(node, strncmp(id, "pci-", 4) ? id : id + 4);
}

/* "10de:2330": neither more nor less than two times four digits. */
static bool is_vendor_device(const char *text)
{
	static const char digits[] = "0123456789abcdefABCDEF";

	return strlen(text) == 9 && text[4] == ':' && strspn(text, digits) == 4 &&
	       strspn(text + 5, digits) == 4;
}

bool node_gpu_matches(const struct node_gpu *gpu, const char *selector)
{
	struct pci_address address;

	if (!selector[0])
		return true;
	if (!strcmp(selector, "software"))
		return gpu->software;
	if (!strcmp(selector, gpu->id))
		return true;
	if (!pci_address_parse(strncmp(selector, "pci-", 4) ? selector : selector + 4, &address))
		return gpu->has_address && pci_address_equal(&address, &gpu->address);
	if (is_vendor_device(selector))
		return gpu->has_address && strtoul(selector, NULL, 16) == gpu->vendor &&
		       strtoul(selector + 5, NULL, 16) == gpu->device;
	return strcasestr(gpu->name, selector) || strcasestr(gpu->vulkan_device, selector);
}

const struct node_gpu *node_gpu_physical(const struct node *node, const struct node_gpu *gpu)
{
	for (unsigned i = 0; gpu->is_virtual_function && i < node->gpu_count; i++)
		if (node->gpus[i].has_address &&
		    pci_address_equal(&node->gpus[i].address, &gpu->physical_function))
			return &node->gpus[i];
	return NULL;
}

const struct node_mdev_type *node_mdev_type_find(const struct node_gpu *gpu, const char *name)
{
	for (unsigned i = 0; i < gpu->mdev_type_count; i++)
		if (!strcmp(gpu->mdev_types[i].id, name) ||
		    (name[0] && !strcasecmp(gpu->mdev_types[i].name, name)))
			return &gpu->mdev_types[i];
	return NULL;
}

bool node_equal(const struct node *a, const struct node *b)
{
	json_t *left = node_json(a), *right = node_json(b);
	const bool equal = left && right && json_equal(left, right);

	json_decref(left);
	json_decref(right);
	return equal;
}
