// SPDX-License-Identifier: Apache-2.0
/*
 * What a config space says of itself: the capability list, BAR types, where MSI-X lies, which pages
 * of a BAR may be mapped.
 *
 * Pure functions over an array: no device, no allocation, no logging. The array comes from a device
 * and is not believed: every walk is bounded, every length checked against the array, and what does
 * not fit is left out or refused in words. PCI Local Bus 3.0, 6.2.5, 6.7, 6.8; PCIe 6.0, 7.5.
 */
#include <stdlib.h>
#include <string.h>

#include "vfio/pci_internal.h"

#define PCI_CAPABILITY_FIRST 0x40
#define PCI_IO_BAR_MAX	     (64 * KIB)
#define PCI_MEM32_BAR_MAX    (2 * GIB)
#define PCI_MEM64_BAR_MAX    (UINT64_C(1) << 52)

/* PCIe capabilities: without link registers (integrated, version 1), with them, version 2. */
#define PCI_EXP_V1_INTEGRATED_SIZE 0x0c
#define PCI_EXP_V1_SIZE		   0x14
#define PCI_EXP_V2_SIZE		   0x3c

static unsigned pcie_size(const uint8_t *config, unsigned at)
{
	uint16_t flags = pci_get16(config, at + PCI_EXP_FLAGS);

	if ((flags & PCI_EXP_FLAGS_VERS) >= 2)
		return PCI_EXP_V2_SIZE;
	return (flags & PCI_EXP_FLAGS_TYPE) >> 4 == PCI_EXP_TYPE_RC_END ? PCI_EXP_V1_INTEGRATED_SIZE
									: PCI_EXP_V1_SIZE;
}

static unsigned msi_size(const uint8_t *config, unsigned at)
{
	uint16_t flags = pci_get16(config, at + PCI_MSI_FLAGS);
	bool is_64 = flags & PCI_MSI_FLAGS_64BIT;

	if (flags & PCI_MSI_FLAGS_MASKBIT)
		return is_64 ? 24 : 20;
	return is_64 ? 14 : 10;
}

/* Bytes of a capability, 0 for one that is not on the allow-list. @at + 4 <= 256. */
static unsigned capability_size(const uint8_t *config, unsigned at, bool vendor)
{
	switch (config[at + PCI_CAP_LIST_ID]) {
	case PCI_CAP_ID_PM:
		return PCI_PM_SIZEOF;
	case PCI_CAP_ID_MSI:
		return msi_size(config, at);
	case PCI_CAP_ID_MSIX:
		return PCI_CAP_MSIX_SIZEOF;
	case PCI_CAP_ID_EXP:
		return pcie_size(config, at);
	case PCI_CAP_ID_VNDR:
		/* The length is the capability's own; 3 bytes are its header. */
		return vendor ? MAX(config[at + PCI_CAP_FLAGS], 3) : 0;
	default:
		return 0;
	}
}

/* Where the one instance of a capability is kept; NULL for ids that may repeat. */
static const struct pci_capability **only_one(struct pci_capabilities *caps, uint8_t id)
{
	switch (id) {
	case PCI_CAP_ID_PM:
		return &caps->pm;
	case PCI_CAP_ID_MSI:
		return &caps->msi;
	case PCI_CAP_ID_MSIX:
		return &caps->msix;
	case PCI_CAP_ID_EXP:
		return &caps->pcie;
	default:
		return NULL;
	}
}

static void capability_take(struct pci_capabilities *caps, uint8_t *claimed, uint8_t id,
			    unsigned at, unsigned size)
{
	const struct pci_capability **only = only_one(caps, id);
	struct pci_capability *item = &caps->items[caps->count];

	/* It must end within the config space. */
	if (at + size > PCI_CONFIG_SNAPSHOT_SIZE)
		goto drop;
	/* A function has at most one of each but the vendor's. */
	if (only && *only)
		goto drop;
	/* No register belongs to two capabilities: their permissions would mix. */
	for (unsigned i = at; i < at + size; i++)
		if (claimed[i])
			goto drop;

	memset(claimed + at, 1, size);
	*item = (struct pci_capability){ .id = id, .offset = (uint8_t)at, .size = (uint8_t)size };
	if (only)
		*only = item;
	caps->count++;
	return;
drop:
	caps->dropped++;
}

void pci_capabilities_parse(const uint8_t *config, bool vendor, struct pci_capabilities *caps)
{
	uint8_t claimed[PCI_CONFIG_SNAPSHOT_SIZE] = { 0 },
		visited[PCI_CONFIG_SNAPSHOT_SIZE] = { 0 };
	unsigned at;

	*caps = (struct pci_capabilities){ 0 };
	if (!(pci_get16(config, PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return;

	at = config[PCI_CAPABILITY_LIST] & ~3u;
	while (at) {
		unsigned size;

		/* The header's registers are no capability. */
		if (at < PCI_CAPABILITY_FIRST) {
			caps->broken = "a pointer into the header";
			return;
		}
		/* A list that comes back to where it was never ends. */
		if (visited[at]) {
			caps->broken = "a loop";
			return;
		}
		visited[at] = 1;
		size = capability_size(config, at, vendor);
		if (size)
			capability_take(caps, claimed, config[at + PCI_CAP_LIST_ID], at, size);
		at = config[at + PCI_CAP_LIST_NEXT] & ~3u;
	}
}

bool pci_capability_room(const uint8_t *config, const struct pci_capabilities *caps, unsigned at,
			 unsigned size)
{
	unsigned head = pci_get16(config, PCI_STATUS) & PCI_STATUS_CAP_LIST
				? config[PCI_CAPABILITY_LIST] & ~3u
				: 0;

	if (at < PCI_CAPABILITY_FIRST || at + size > PCI_CONFIG_SNAPSHOT_SIZE)
		return false;
	for (unsigned i = 0; i < caps->count; i++) {
		const struct pci_capability *cap = &caps->items[i];

		if (at < (unsigned)cap->offset + cap->size && cap->offset < at + size)
			return false;
	}
	/* One that is not shown: only where it begins is known. */
	for (unsigned step = 0; step < PCI_CAPABILITIES_MAX && head >= PCI_CAPABILITY_FIRST;
	     step++) {
		if (head >= at && head < at + size)
			return false;
		head = config[head + PCI_CAP_LIST_NEXT] & ~3u;
	}
	return true;
}

static uint64_t round_up_power_of_two(uint64_t value)
{
	return value <= 1 ? 1 : UINT64_C(1) << (64 - __builtin_clzll(value - 1));
}

uint64_t pci_bar_type_parse(uint32_t reg, unsigned index, uint64_t size, struct pci_bar_type *type,
			    const char **why)
{
	*type = (struct pci_bar_type){ 0 };
	if (reg & PCI_BASE_ADDRESS_SPACE_IO) {
		type->is_io = true;
		if (size > PCI_IO_BAR_MAX) {
			*why = "an I/O BAR larger than the port space";
			return 0;
		}
		return round_up_power_of_two(MAX(size, UINT64_C(4)));
	}

	type->prefetchable = reg & PCI_BASE_ADDRESS_MEM_PREFETCH;
	switch (reg & PCI_BASE_ADDRESS_MEM_TYPE_MASK) {
	case PCI_BASE_ADDRESS_MEM_TYPE_64:
		type->is_64 = true;
		if (index == VFIO_PCI_BARS - 1) {
			*why = "a 64-bit BAR without a second register";
			return 0;
		}
		if (size > PCI_MEM64_BAR_MAX) {
			*why = "a BAR larger than any physical address space";
			return 0;
		}
		break;
	case PCI_BASE_ADDRESS_MEM_TYPE_32:
	case PCI_BASE_ADDRESS_MEM_TYPE_1M:
		if (size > PCI_MEM32_BAR_MAX) {
			*why = "a 32-bit BAR larger than 2 GiB";
			return 0;
		}
		break;
	default:
		*why = "a BAR of the reserved type 3";
		return 0;
	}
	return round_up_power_of_two(MAX(size, UINT64_C(16)));
}

void pci_msix_place_parse(const uint8_t *config, const struct pci_capability *cap,
			  struct pci_msix_place *place)
{
	uint32_t table = pci_get32(config, cap->offset + PCI_MSIX_TABLE);
	uint32_t pba = pci_get32(config, cap->offset + PCI_MSIX_PBA);

	place->count =
		(pci_get16(config, cap->offset + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u;
	place->table_bar = table & PCI_MSIX_TABLE_BIR;
	place->table_offset = table & PCI_MSIX_TABLE_OFFSET;
	place->table_size = (uint64_t)place->count * PCI_MSIX_ENTRY_SIZE;
	place->pba_bar = pba & PCI_MSIX_PBA_BIR;
	place->pba_offset = pba & PCI_MSIX_PBA_OFFSET;
	/* A bit a vector, in whole quadwords (PCIe 6.0, 7.7.2.6). */
	place->pba_size = ALIGN_UP((uint64_t)place->count, 64) / 8;
}

static int area_compare(const void *a, const void *b)
{
	const struct vfio_area *left = a, *right = b;

	return left->offset < right->offset ? -1 : left->offset > right->offset;
}

unsigned pci_areas_carve(const struct vfio_region *region, const struct vfio_area *holes,
			 unsigned hole_count, uint64_t page_size, struct vfio_area *areas,
			 unsigned max)
{
	struct vfio_area sorted[VFIO_SPARSE_AREAS_MAX];
	unsigned sorted_count = MIN(region->area_count, (unsigned)VFIO_SPARSE_AREAS_MAX);
	uint64_t taken = 0; /* everything below is decided */
	unsigned count = 0;

	if (!(region->flags & VFIO_REGION_INFO_FLAG_MMAP))
		return 0;
	memcpy(sorted, region->areas, sorted_count * sizeof(sorted[0]));
	qsort(sorted, sorted_count, sizeof(sorted[0]), area_compare);

	for (unsigned i = 0; i < sorted_count; i++) {
		uint64_t start, end;

		/* An area lies within its region. */
		if (sorted[i].offset >= region->size ||
		    sorted[i].size > region->size - sorted[i].offset)
			continue;
		start = MAX(ALIGN_UP(sorted[i].offset, page_size), taken);
		end = ALIGN_DOWN(sorted[i].offset + sorted[i].size, page_size);

		while (start < end) {
			uint64_t stop = end, next = end;

			/* The nearest page from here on that a hole touches, and the end of it. */
			for (unsigned h = 0; h < hole_count; h++) {
				uint64_t from = ALIGN_DOWN(holes[h].offset, page_size);
				uint64_t to = ALIGN_UP(holes[h].offset + holes[h].size, page_size);

				if (to > start && MAX(from, start) < stop) {
					stop = MAX(from, start);
					next = to;
				}
			}
			if (stop > start && count < max)
				areas[count++] = (struct vfio_area){ start, stop - start };
			start = next;
		}
		taken = MAX(taken, end);
	}
	return count;
}
