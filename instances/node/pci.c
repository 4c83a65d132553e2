// SPDX-License-Identifier: Apache-2.0
/*
 * The GPUs among the PCI functions, and what sysfs says of each (Documentation/ABI/testing/sysfs-bus-pci): its slot, its place in the
 * machine, its link, its memory, and what could be made of it.
 *
 * A GPU is a display controller (class 03) or a processing accelerator (1200). Nothing here opens a device or wakes a sleeping one by
 * itself; iommu/ reads config space of bridges for ACS.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/node/private.h"
#include "iommu/iommu.h"

#define CLASS_DISPLAY	  0x03
#define CLASS_ACCELERATOR 0x1200

/* include/linux/ioport.h, as the "resource" file shows them. */
#define RESOURCE_MEMORY	  0x200
#define RESOURCE_PREFETCH 0x2000

struct node_gpu *node_gpu_add(struct node *node)
{
	struct node_gpu *gpus;

	if (node->gpu_count == NODE_GPUS_MAX) {
		node->truncated = true;
		return NULL;
	}
	gpus = reallocarray(node->gpus, node->gpu_count + 1, sizeof(*gpus));
	if (!gpus)
		return NULL;
	node->gpus = gpus;
	gpus += node->gpu_count++;
	memset(gpus, 0, sizeof(*gpus));
	gpus->group = -1;
	gpus->numa_node = -1;
	return gpus;
}

static bool is_gpu(uint32_t class_code)
{
	return class_code >> 16 == CLASS_DISPLAY || class_code >> 8 == CLASS_ACCELERATOR;
}

static uint32_t read_id(const char *root, const struct pci_address *address, const char *leaf,
			uint32_t mask)
{
	char path[NODE_PATH_MAX];

	return (uint32_t)node_number(node_pci_path(path, root, address, leaf), 0) & mask;
}

static bool function_read(const char *root, const struct pci_address *address,
			  struct node_function *function)
{
	char path[NODE_PATH_MAX];

	*function = (struct node_function){ .address = *address };
	if (!node_exists(node_pci_path(path, root, address, "")))
		return false;
	function->vendor = (uint16_t)read_id(root, address, "vendor", 0xffff);
	function->device = (uint16_t)read_id(root, address, "device", 0xffff);
	function->class_code = read_id(root, address, "class", 0xffffff);
	node_link_name(node_pci_path(path, root, address, "driver"), function->driver,
		       sizeof(function->driver));
	return true;
}

/* All functions of the slot that are no virtual ones; a virtual function is alone. */
static void read_slot(const char *root, struct node_gpu *gpu)
{
	struct pci_address address = gpu->address;
	char path[NODE_PATH_MAX];

	for (unsigned i = 0; i < NODE_FUNCTIONS_MAX; i++) {
		struct node_function *function = &gpu->functions[gpu->function_count];

		address.function = (uint8_t)i;
		if (i != gpu->address.function &&
		    (gpu->is_virtual_function ||
		     node_exists(node_pci_path(path, root, &address, "physfn"))))
			continue;
		gpu->function_count += function_read(root, &address, function);
	}
}

/* "0x... 0x... 0x..." a line: first address, last address, flags. */
static void read_bars(const char *root, struct node_gpu *gpu, uint64_t *largest)
{
	char path[NODE_PATH_MAX], text[4096], *line, *rest = text;

	*largest = 0;
	if (file_read(-1, node_pci_path(path, root, &gpu->address, "resource"), text,
		      sizeof(text)) < 0)
		return;
	for (unsigned i = 0; i < NODE_BARS && (line = strsep(&rest, "\n")); i++) {
		uint64_t start, last, flags;

		if (sscanf(line, "%" SCNx64 " %" SCNx64 " %" SCNx64, &start, &last, &flags) != 3 ||
		    last <= start)
			continue;
		gpu->bars[i] = last - start + 1;
		if ((flags & RESOURCE_MEMORY) && (flags & RESOURCE_PREFETCH))
			*largest = MAX(*largest, gpu->bars[i]);
	}
}

static void read_memory(const char *root, struct node_gpu *gpu)
{
	char path[NODE_PATH_MAX];
	uint64_t bytes, largest;

	read_bars(root, gpu, &largest);
	bytes = node_number(node_pci_path(path, root, &gpu->address, "mem_info_vram_total"), 0);
	if (bytes >= MIB) {
		gpu->vram_mib = bytes / MIB;
		gpu->vram_source = NODE_VRAM_DRIVER;
	} else if (largest >= 64 * MIB) {
		/* Less is no window on a GPU's memory. */
		gpu->vram_mib = largest / MIB;
		gpu->vram_source = NODE_VRAM_BAR;
	}
}

/* "16.0 GT/s PCIe", "Unknown" */
static unsigned read_speed(const char *root, const struct node_gpu *gpu, const char *leaf)
{
	char path[NODE_PATH_MAX], text[32];
	unsigned whole, tenth;

	if (!node_text(node_pci_path(path, root, &gpu->address, leaf), text, sizeof(text)) ||
	    sscanf(text, "%3u.%1u GT/s", &whole, &tenth) != 2)
		return 0;
	return whole * 1000 + tenth * 100;
}

static unsigned read_width(const char *root, const struct node_gpu *gpu, const char *leaf)
{
	char path[NODE_PATH_MAX];
	uint64_t lanes = node_number(node_pci_path(path, root, &gpu->address, leaf), 0);

	return lanes <= 32 ? (unsigned)lanes : 0; /* 255: no link */
}

static void read_link(const char *root, struct node_gpu *gpu)
{
	gpu->link.mts = read_speed(root, gpu, "current_link_speed");
	gpu->link.width = read_width(root, gpu, "current_link_width");
	gpu->link.max_mts = read_speed(root, gpu, "max_link_speed");
	gpu->link.max_width = read_width(root, gpu, "max_link_width");
}

/* The folders above a device's own are the bridges it is behind. */
static void read_upstream(const char *root, struct node_gpu *gpu)
{
	char link[NODE_PATH_MAX], path[PATH_MAX], *slash;

	if (!realpath(node_pci_path(link, root, &gpu->address, ""), path))
		return;
	while (gpu->upstream_count < NODE_UPSTREAM_MAX && (slash = strrchr(path, '/'))) {
		*slash = '\0';
		slash = strrchr(path, '/');
		if (!slash || strlen(slash + 1) != PCI_ADDRESS_LEN - 1 ||
		    pci_address_parse(slash + 1, &gpu->upstream[gpu->upstream_count]))
			break;
		gpu->upstream_count++;
	}
}

static void found_drm(void *opaque, const char *name)
{
	struct node_gpu *gpu = opaque;

	if (!strncmp(name, "card", 4) && !strchr(name, '-') && !gpu->card[0])
		snprintf(gpu->card, sizeof(gpu->card), "%.20s", name);
	if (!strncmp(name, "renderD", 7) && !gpu->render[0])
		snprintf(gpu->render, sizeof(gpu->render), "%.20s", name);
}

static void read_rest(const char *root, struct node_gpu *gpu)
{
	char path[NODE_PATH_MAX], text[4096];

	/* "-1" is no number here: not known */
	gpu->numa_node = (int)(int64_t)node_number(
		node_pci_path(path, root, &gpu->address, "numa_node"), UINT64_MAX);
	if (gpu->numa_node < -1 || gpu->numa_node >= CPU_LIST_MAX)
		gpu->numa_node = -1;
	if (node_text(node_pci_path(path, root, &gpu->address, "local_cpulist"), text,
		      sizeof(text)) &&
	    cpu_list_parse(text, &gpu->local_cpus))
		memset(&gpu->local_cpus, 0, sizeof(gpu->local_cpus));
	node_text(node_pci_path(path, root, &gpu->address, "reset_method"), gpu->reset_methods,
		  sizeof(gpu->reset_methods));
	node_text(node_pci_path(path, root, &gpu->address, "power_state"), gpu->power_state,
		  sizeof(gpu->power_state));
	gpu->boot_vga = node_number(node_pci_path(path, root, &gpu->address, "boot_vga"), 0) == 1;
	node_names(node_pci_path(path, root, &gpu->address, "drm"), 64, found_drm, gpu);
	gpu->sriov_total = (unsigned)MIN(
		node_number(node_pci_path(path, root, &gpu->address, "sriov_totalvfs"), 0), 65535u);
	gpu->sriov_now = (unsigned)MIN(
		node_number(node_pci_path(path, root, &gpu->address, "sriov_numvfs"), 0), 65535u);
}

/* ---- could it be handed out whole ----------------------------------------------------------------- */

static bool in_slot(const struct node_gpu *gpu, const struct pci_address *address)
{
	for (unsigned i = 0; i < gpu->function_count; i++)
		if (pci_address_equal(&gpu->functions[i].address, address))
			return true;
	return false;
}

/* What will not go away by binding its slot; "" when there is nothing. */
static void judge(struct node_gpu *gpu, const struct iommu_group *group)
{
	char bdf[PCI_ADDRESS_LEN];

	for (unsigned i = 0; i < group->member_count; i++) {
		const struct iommu_group_member *member = &group->members[i];

		if (member->is_bridge || in_slot(gpu, &member->address))
			continue;
		snprintf(gpu->not_assignable, sizeof(gpu->not_assignable),
			 "IOMMU group %u has %s%s%.20s%s too, and goes as one", group->id,
			 pci_address_format(&member->address, bdf),
			 member->driver[0] ? " (driver " : "", member->driver,
			 member->driver[0] ? ")" : "");
		return;
	}
	for (unsigned i = 0; i < group->reserved_count; i++)
		if (!strcmp(group->reserved[i].type, "direct")) {
			snprintf(
				gpu->not_assignable, sizeof(gpu->not_assignable),
				"the firmware keeps memory for it (a direct reserved region of IOMMU group %u)",
				group->id);
			return;
		}
	if (gpu->sriov_now)
		snprintf(gpu->not_assignable, sizeof(gpu->not_assignable),
			 "%u virtual functions of it are there", gpu->sriov_now);
	else if (gpu->mdev_now)
		snprintf(gpu->not_assignable, sizeof(gpu->not_assignable),
			 "%u mediated device%s of it %s there", gpu->mdev_now,
			 gpu->mdev_now == 1 ? "" : "s", gpu->mdev_now == 1 ? "is" : "are");
}

/* A guest that had the physical function could reach into what its virtual ones do. */
static void judge_physical(const char *root, struct node_gpu *gpu)
{
	char path[NODE_PATH_MAX], driver[64], bdf[PCI_ADDRESS_LEN];

	node_link_name(node_pci_path(path, root, &gpu->physical_function, "driver"), driver,
		       sizeof(driver));
	if (strstr(driver, "vfio"))
		snprintf(gpu->not_assignable, sizeof(gpu->not_assignable),
			 "its physical function %s is with %.40s, for a guest",
			 pci_address_format(&gpu->physical_function, bdf), driver);
}

static void read_group(const char *root, bool acs_override, struct node_gpu *gpu)
{
	struct iommu_group group;
	struct error e = { 0 };

	if (iommu_group_load(root, &gpu->address, &group, &e)) {
		snprintf(gpu->why_not, sizeof(gpu->why_not), "%.500s", e.text);
		snprintf(gpu->not_assignable, sizeof(gpu->not_assignable), "%.250s", e.text);
		return;
	}
	gpu->group = (int)group.id;
	gpu->viable = !iommu_group_check_viable(&group, &gpu->address, &e);
	if (!gpu->viable)
		snprintf(gpu->why_not, sizeof(gpu->why_not), "%.500s", e.text);
	judge(gpu, &group);
	if (gpu->is_virtual_function)
		judge_physical(root, gpu);
	gpu->assignable = !gpu->not_assignable[0];
	gpu->isolated = gpu->assignable && !acs_override;
}

void node_gpu_read(const char *root, const struct node *node, struct node_gpu *gpu)
{
	char path[NODE_PATH_MAX], physical[64];
	struct node_function function;

	gpu->has_address = true;
	function_read(root, &gpu->address, &function);
	gpu->vendor = function.vendor;
	gpu->device = function.device;
	gpu->class_code = function.class_code;
	memcpy(gpu->driver, function.driver, sizeof(gpu->driver));
	gpu->subsystem_vendor = (uint16_t)read_id(root, &gpu->address, "subsystem_vendor", 0xffff);
	gpu->subsystem_device = (uint16_t)read_id(root, &gpu->address, "subsystem_device", 0xffff);
	node_link_name(node_pci_path(path, root, &gpu->address, "physfn"), physical,
		       sizeof(physical));
	gpu->is_virtual_function =
		physical[0] && !pci_address_parse(physical, &gpu->physical_function);
	read_slot(root, gpu);
	read_memory(root, gpu);
	read_link(root, gpu);
	read_upstream(root, gpu);
	read_rest(root, gpu);
	node_mdev_types_read(root, node, gpu);
	read_group(root, node->acs_override, gpu);
	gpu->providers = (gpu->assignable ? NODE_WHOLE : 0) | (gpu->sriov_total ? NODE_SRIOV : 0) |
			 (gpu->mdev_type_count ? NODE_MDEV : 0);
}

/* ---- all of them ------------------------------------------------------------------------------------ */

struct walk {
	const char *root;
	struct node *node;
	struct node_pci_names *names;
	bool failed;
};

/* A second display function of a slot, as some old cards have, is the same GPU: slots are handed out whole. */
static bool is_second(const struct walk *walk, const struct pci_address *address)
{
	char path[NODE_PATH_MAX];

	if (node_exists(node_pci_path(path, walk->root, address, "physfn")))
		return false;
	for (unsigned i = 0; i < walk->node->gpu_count; i++) {
		const struct node_gpu *gpu = &walk->node->gpus[i];

		if (!gpu->is_virtual_function && gpu->address.domain == address->domain &&
		    gpu->address.bus == address->bus && gpu->address.device == address->device)
			return true;
	}
	return false;
}

static void found_function(void *opaque, const char *name)
{
	struct walk *walk = opaque;
	struct pci_address address;
	char bdf[PCI_ADDRESS_LEN];
	struct node_gpu *gpu;

	if (walk->failed || pci_address_parse(name, &address) ||
	    strcmp(pci_address_format(&address, bdf), name) != 0 ||
	    !is_gpu(read_id(walk->root, &address, "class", 0xffffff)) || is_second(walk, &address))
		return;
	gpu = node_gpu_add(walk->node);
	if (!gpu) {
		walk->failed = !walk->node->truncated;
		return;
	}
	gpu->address = address;
	node_gpu_read(walk->root, walk->node, gpu);
	node_pci_name(walk->names, gpu->vendor, gpu->device, gpu->name, sizeof(gpu->name));
	node_pci_class_name(walk->names, gpu->class_code, gpu->class_name, sizeof(gpu->class_name));
	node_serial_read(walk->root, gpu);
}

int node_pci_read(const char *root, struct node *node)
{
	struct walk walk = { .root = root, .node = node, .names = node_pci_names_open() };
	char path[NODE_PATH_MAX];

	walk.failed = node_mdevs_read(root, node) != 0;
	/* Names in order are addresses in order: all have one form. */
	node_names(node_path(path, root, "/sys/bus/pci/devices"), 65536, found_function, &walk);
	node_pci_names_close(walk.names);
	return walk.failed ? -ENOMEM : 0;
}
