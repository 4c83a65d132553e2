// SPDX-License-Identifier: Apache-2.0
/*
 * Whether a group may be given away, and if not, who is in the way and what joined them.
 *
 * The rule is the kernel's (Documentation/driver-api/vfio.rst, "groups are the unit of ownership"):
 * a group is handed out as a whole, so nothing in it may be driven by the host at the same time.
 * Bridges are exempt: their driver does no DMA of its own.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "iommu/private.h"

/*
 * Drivers that leave DMA alone (driver_managed_dma in the kernel): VFIO's own and its variants, which
 * are named by convention ("mlx5_vfio_pci", "nvgrace-gpu-vfio-pci"), and the one that does nothing.
 */
static bool driver_leaves_dma(const char *driver)
{
	return !driver[0] || strstr(driver, "vfio-pci") || strstr(driver, "vfio_pci") ||
	       !strcmp(driver, "pci-stub");
}

static bool same_slot(const struct pci_address *a, const struct pci_address *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

/* A port that may join what is below it: the kernel asks ACS of these (not of upstream ports). */
static bool port_needs_acs(uint8_t type)
{
	return type == IOMMU_PORT_ROOT || type == IOMMU_PORT_DOWNSTREAM;
}

void group_explain(const struct iommu_group *group, const struct pci_address *device, char *text,
		   size_t size)
{
	const struct iommu_upstream *unreadable = NULL;
	char name[PCI_ADDRESS_LEN];
	unsigned endpoints = 0, functions = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < group->member_count; i++) {
		endpoints += !group->members[i].is_bridge;
		functions += same_slot(&group->members[i].address, device);
	}
	if (group->member_count < 2)
		return;
	/* Nearest first: the first thing that joins is the reason. */
	if (functions == endpoints && endpoints > 1) {
		text_append(text, size,
			    "they are functions of one device without ACS between them");
		return;
	}
	for (unsigned i = 0; i < group->upstream_count; i++) {
		const struct iommu_upstream *up = &group->upstream[i];

		pci_address_format(&up->address, name);
		if (up->port_type == IOMMU_PORT_TO_PCI ||
		    up->port_type == IOMMU_PORT_CONVENTIONAL ||
		    up->port_type == IOMMU_PORT_FROM_PCI) {
			text_append(
				text, size,
				"they are behind %s, a bridge to conventional PCI, where requests do not "
				"say which device they come from",
				name);
			return;
		}
		if (!up->config_readable && !unreadable)
			unreadable = up;
		if (!up->config_readable || !port_needs_acs(up->port_type))
			continue;
		if (!up->has_acs) {
			text_append(text, size, "port %s above them has no ACS", name);
			return;
		}
		if (~up->acs_control & ACS_ISOLATION & up->acs_capability) {
			text_append(
				text, size,
				"port %s above them has ACS but not switched on (control 0x%04x of 0x%04x)",
				name, up->acs_control, up->acs_capability);
			return;
		}
	}
	if (unreadable)
		text_append(text, size, "whether port %s above them has ACS needs root to be read",
			    pci_address_format(&unreadable->address, name));
	else if (!group->upstream_count)
		text_append(
			text, size,
			"they are integrated in the chipset, with no port between them that could have "
			"ACS");
}

int iommu_group_check_viable(const struct iommu_group *group, const struct pci_address *device,
			     struct error *e)
{
	char name[PCI_ADDRESS_LEN], other[PCI_ADDRESS_LEN], list[384] = "", why[256], next[64];
	unsigned in_the_way = 0, companions = 0;

	pci_address_format(device, name);
	for (unsigned i = 0; i < group->member_count; i++) {
		const struct iommu_group_member *member = &group->members[i];

		if (member->is_bridge || driver_leaves_dma(member->driver))
			continue;
		companions += !pci_address_equal(&member->address, device);
		/* Eight of the longest names fit; what is more is counted. */
		if (in_the_way++ < 8)
			text_append(list, sizeof(list), "%s%s (driver %.20s)",
				    in_the_way > 1 ? ", " : "",
				    pci_address_format(&member->address, other), member->driver);
	}
	if (!in_the_way)
		return 0;
	if (in_the_way > 8)
		text_append(list, sizeof(list), " and %u more", in_the_way - 8);
	group_explain(group, device, why, sizeof(why));
	snprintf(next, sizeof(next), "divvy bind %s", name);
	return error_set(
		e, EBUSY, "group-not-viable", next,
		"%s: IOMMU group %u is not viable: still driven by the host: %s%s%s%s", name,
		group->id, list, companions && why[0] ? "; they share the group because " : "",
		companions ? why : "", companions && why[0] ? "; a group moves as one" : "");
}
