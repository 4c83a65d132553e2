/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of iommu/ share with each other and with their tests, and with nobody else.
 */
#ifndef IOMMU_PRIVATE_H
#define IOMMU_PRIVATE_H

#include "iommu/iommu.h"

/*
 * PCI Express Base 6.0, 7.7.11.2: what makes a port keep its devices apart. Peers are then
 * redirected up to the IOMMU and nobody can pass for somebody else.
 */
#define ACS_SOURCE_VALIDATION	0x0001
#define ACS_REQUEST_REDIRECT	0x0004
#define ACS_COMPLETION_REDIRECT 0x0008
#define ACS_UPSTREAM_FORWARDING 0x0010
#define ACS_ISOLATION                                                             \
	(ACS_SOURCE_VALIDATION | ACS_REQUEST_REDIRECT | ACS_COMPLETION_REDIRECT | \
	 ACS_UPSTREAM_FORWARDING)

/*
 * config_parse_bridge() - fill has_acs, acs_*, config_readable and port_type of @upstream from
 * @size bytes of config space. Any bytes are fine: nothing outside them is read and every chain ends.
 */
void config_parse_bridge(const uint8_t *config, size_t size, struct iommu_upstream *upstream);

/*
 * group_explain() - why the members of @group share it: the port or bridge that joins them, in
 * words, for the end of a sentence. Empty for a group of one.
 */
void group_explain(const struct iommu_group *group, const struct pci_address *device, char *text,
		   size_t size);

/*
 * type1_parse_ranges() - the IOVA ranges in what VFIO_IOMMU_GET_INFO returned (@size bytes,
 * starting with struct vfio_iommu_type1_info). Bounded whatever the bytes say.
 * Returns how many (up to @max), -ENODATA without the capability, -EINVAL for a broken chain.
 */
int type1_parse_ranges(const void *info, size_t size, struct iommu_range *ranges, unsigned max);

/*
 * ram_check() - whether the host has what @bank needs beside the banks that are there: MemAvailable,
 * reserved huge pages, memory of its node. 0 or -errno with *e filled.
 * ram_open() - the memory file, mapped at bank->hva; ram_close() gives both back.
 */
int ram_check(const struct guest_memory *memory, const struct memory_bank *bank, struct error *e);
int ram_open(struct memory_bank *bank, struct error *e);
void ram_close(struct memory_bank *bank);

/*
 * huge_pages_check() - whether @size bytes of pages of @huge_page are free (on @host_node, when it is not
 * -1). @root: prefix of /sys. Errors: "huge-pages-short", "no-huge-pages".
 * node_memory_check() - whether @host_node has @size bytes left. Errors: "node-memory-short",
 * "no-host-node".
 */
int huge_pages_check(const char *root, uint64_t huge_page, uint64_t size, int host_node,
		     struct error *e);
int node_memory_check(const char *root, uint64_t size, int host_node, struct error *e);

/* Backends. 0 or -errno with *e filled. */
int iommu_type1_open(const char *root, struct iommu_space **out, struct error *e);
int iommu_iommufd_open(const char *root, struct iommu_space **out, struct error *e);

/* One text for what both backends can meet: no permission to attach without interrupt remapping. */
int attach_no_remapping(struct error *e, const char *call);

#endif
