// SPDX-License-Identifier: Apache-2.0
/*
 * Placement: which address every BAR gets, which windows the root ports and the host bridge forward.
 *
 * A type-1 header has a 16-bit I/O window in steps of 4 KiB, a 32-bit memory window, and a 64-bit
 * prefetchable one, both in steps of 1 MiB (PCIe 6.0, 7.5.1.3). So there are three kinds of room:
 *   I/O     0xc000-0xffff
 *   MEM32   below 4 GiB: 32-bit BARs, and what is 64-bit but not prefetchable behind a port
 *   MEM64   above RAM: 64-bit BARs (behind a port only prefetchable ones)
 * For each kind the BARs behind a port are packed into that port's window, then windows and bus 0's
 * BARs into the host bridge's. The whole is laid out from zero and put where it fits: above RAM,
 * below the guest's physical width, inside one range that the IOMMU can address, so that a BAR may
 * be mapped for peer-to-peer. Pure: no I/O but the log.
 */
#include <errno.h>
#include <stdlib.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci_internal.h"

#define IO_END		UINT64_C(0x10000)
#define BRIDGE_IO_STEP	UINT64_C(0x1000)
#define BRIDGE_MEM_STEP MIB
#define BAR_PAGE	UINT64_C(0x1000)    /* no two memory BARs share a page of the guest */
#define BAR_SIZE_MAX	(UINT64_C(1) << 48) /* and so no sum of sizes wraps */
#define MEM64_ALIGN	GIB
#define NOT_PLACED	UINT64_MAX
#define SLOT_BARS_MAX	(PCI_FUNCTIONS_MAX * VFIO_PCI_PLACES)

struct item {
	uint64_t size, align; /* align: power of two */
	uint64_t base;	      /* out, relative to the packing's start; NOT_PLACED */
	uint64_t *out;	      /* where the address goes in the end */
};

static int compare_alignment(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->align != y->align)
		return x->align > y->align ? -1 : 1;
	if (x->size != y->size)
		return x->size > y->size ? -1 : 1;
	/* Equal ones stay in order: places depend on the devices alone, not on qsort. */
	return x->out < y->out ? -1 : x->out > y->out;
}

static bool overlaps(const struct item *a, uint64_t base, uint64_t size)
{
	return base < a->base + a->size && a->base < base + size;
}

/*
 * Most aligned first, each at the lowest free place below @limit. The lowest place is at zero or
 * right after an earlier one, so those are all that need trying. Returns the extent.
 */
static uint64_t pack(struct item *items, unsigned count, uint64_t limit)
{
	uint64_t extent = 0;

	qsort(items, count, sizeof(*items), compare_alignment);
	for (unsigned i = 0; i < count; i++) {
		uint64_t best = NOT_PLACED;

		for (unsigned after = 0; after <= i; after++) {
			uint64_t base = 0;
			bool is_free = true;

			if (after < i && items[after].base == NOT_PLACED)
				continue;
			if (after < i)
				base = ALIGN_UP(items[after].base + items[after].size,
						items[i].align);
			if (base >= best || base + items[i].size > limit)
				continue;
			for (unsigned j = 0; j < i && is_free; j++)
				is_free = items[j].base == NOT_PLACED ||
					  !overlaps(&items[j], base, items[i].size);
			if (is_free)
				best = base;
		}
		items[i].base = best;
		if (best != NOT_PLACED)
			extent = MAX(extent, best + items[i].size);
	}
	return extent;
}

static enum pci_window_kind bar_kind(const struct pci_placed_bar *bar, bool behind_port)
{
	if (bar->is_io)
		return PCI_WINDOW_IO;
	if (bar->is_64 && (bar->prefetchable || !behind_port))
		return PCI_WINDOW_MEM64;
	return PCI_WINDOW_MEM32;
}

/* The BARs of one kind in a slot as items, smallest size of a memory BAR a page. */
static unsigned slot_items(struct pci_placed_slot *slot, enum pci_window_kind kind,
			   struct item *items)
{
	unsigned count = 0;

	for (unsigned i = 0; i < slot->bar_count; i++) {
		struct pci_placed_bar *bar = &slot->bars[i];
		uint64_t size;

		if (!bar->size || bar_kind(bar, slot->behind_port) != kind)
			continue;
		size = kind == PCI_WINDOW_IO ? bar->size : MAX(bar->size, BAR_PAGE);
		items[count++] = (struct item){ size, size, 0, &bar->base };
	}
	return count;
}

static uint64_t power_of_two_below(uint64_t size)
{
	return UINT64_C(1) << (63 - __builtin_clzll(size));
}

/* A port's window of one kind as one item; its BARs get addresses relative to the window. */
static bool port_item(struct pci_placed_slot *slot, enum pci_window_kind kind, struct item *item)
{
	uint64_t step = kind == PCI_WINDOW_IO ? BRIDGE_IO_STEP : BRIDGE_MEM_STEP;
	struct pci_window *window = &slot->windows[kind];
	struct item inner[SLOT_BARS_MAX];
	unsigned count = slot_items(slot, kind, inner);
	uint64_t reserve = slot->reserve[kind], align = step;

	*window = (struct pci_window){ 0, 0 };
	if (!count && !reserve)
		return false;
	window->size = ALIGN_UP(MAX(pack(inner, count, NOT_PLACED), reserve), step);
	for (unsigned i = 0; i < count; i++)
		*inner[i].out = inner[i].base;
	/* After the sort the first is the most aligned. */
	if (count)
		align = MAX(align, inner[0].align);
	/* So that the largest BAR for which there is room fits where it is put. */
	if (reserve)
		align = MAX(align, power_of_two_below(reserve));
	*item = (struct item){ window->size, align, 0, &window->start };
	return true;
}

/* Port windows know their place now: move what is behind them, or close what found no room. */
static void settle_port(struct pci_placed_slot *slot, enum pci_window_kind kind)
{
	struct pci_window *window = &slot->windows[kind];
	bool placed = window->start != NOT_PLACED;

	for (unsigned i = 0; i < slot->bar_count; i++) {
		struct pci_placed_bar *bar = &slot->bars[i];

		if (!bar->size || bar_kind(bar, true) != kind)
			continue;
		bar->base = placed ? bar->base + window->start : 0;
	}
	if (!placed)
		*window = (struct pci_window){ 0, 0 };
}

/*
 * The lowest place for @size bytes at @align within [low, end) and one IOVA range.
 * @gap: out, from that place to the end of the range
 * @largest: out, the most that any range could have taken
 */
static bool find_gap(const struct pci_placement *placement, uint64_t low, uint64_t end,
		     uint64_t size, uint64_t align, struct pci_window *gap, uint64_t *largest)
{
	static const struct iommu_range everything = { 0, UINT64_MAX };
	const struct iommu_range *ranges = placement->iova_count ? placement->iova : &everything;
	unsigned count = placement->iova_count ? placement->iova_count : 1;
	bool found = false;

	*largest = 0;
	for (unsigned i = 0; i < count; i++) {
		uint64_t start = MAX(low, ranges[i].start);
		uint64_t last = MIN(end - 1, ranges[i].last);
		uint64_t room;

		if (start > last || start > UINT64_MAX - align)
			continue;
		start = ALIGN_UP(start, align);
		if (start > last)
			continue;
		room = last - start + 1;
		*largest = MAX(*largest, room);
		if (room < size || (found && start > gap->start))
			continue;
		*gap = (struct pci_window){ start, room };
		found = true;
	}
	return found;
}

static int find_mem32(struct pci_placement *placement, uint64_t size, uint64_t align,
		      struct error *e)
{
	uint64_t largest;

	if (find_gap(placement, LAYOUT_MMIO32_START, LAYOUT_MMIO32_END, MAX(size, BAR_PAGE), align,
		     &placement->window32, &largest))
		return 0;
	if (!size) { /* nobody's DMA goes where no BAR is */
		placement->window32.start = LAYOUT_MMIO32_START;
		placement->window32.size = LAYOUT_MMIO32_END - LAYOUT_MMIO32_START;
		return 0;
	}
	return error_set(e, ENOSPC, "bar-window-full", "assign fewer devices to this VM",
			 "32-bit BARs do not fit below 4 GiB: %llu MiB needed, %llu MiB available "
			 "(0x%llx-0x%llx, clipped to what the IOMMU can address)",
			 (unsigned long long)(ALIGN_UP(size, MIB) / MIB),
			 (unsigned long long)(largest / MIB),
			 (unsigned long long)LAYOUT_MMIO32_START,
			 (unsigned long long)LAYOUT_MMIO32_END - 1);
}

static int find_mem64(struct pci_placement *placement, uint64_t size, uint64_t align,
		      struct error *e)
{
	unsigned bits = MIN(placement->physical_bits, 63u);
	uint64_t low = MAX(placement->ram_end, LAYOUT_RAM_HIGH_START), end = UINT64_C(1) << bits;
	struct pci_window gap;
	uint64_t largest = 0;

	placement->window64 = (struct pci_window){ 0, 0 };
	if (!size)
		return 0;
	size = ALIGN_UP(size, BRIDGE_MEM_STEP);
	if (end > low &&
	    find_gap(placement, low, end, size, MAX(align, MEM64_ALIGN), &gap, &largest)) {
		placement->window64.start = gap.start;
		placement->window64.size = MIN(ALIGN_UP(size, MEM64_ALIGN), gap.size);
		return 0;
	}
	return error_set(
		e, ENOSPC, "bar-window-full",
		"assign fewer devices or less memory to this VM, or use a host with a wider "
		"IOMMU",
		"64-bit BARs do not fit above RAM: %llu MiB needed in one piece aligned to "
		"%llu MiB, at most %llu MiB available (from 0x%llx, %u physical address bits, "
		"clipped to what the IOMMU can address)",
		(unsigned long long)(size / MIB),
		(unsigned long long)(MAX(align, MEM64_ALIGN) / MIB),
		(unsigned long long)(largest / MIB), (unsigned long long)low,
		placement->physical_bits);
}

static int place_kind(struct pci_placement *placement, enum pci_window_kind kind,
		      struct item *items, struct error *e)
{
	uint64_t limit = kind == PCI_WINDOW_IO ? IO_END - PORT_PCI_IO_START : NOT_PLACED;
	uint64_t start, extent;
	unsigned count = 0, left_out = 0;
	int ret = 0;

	for (unsigned i = 0; i < placement->slot_count; i++) {
		struct pci_placed_slot *slot = &placement->slots[i];

		if (!slot->behind_port)
			count += slot_items(slot, kind, &items[count]);
		else if (port_item(slot, kind, &items[count]))
			count++;
	}
	extent = pack(items, count, limit);

	if (kind == PCI_WINDOW_MEM32)
		ret = find_mem32(placement, extent, count ? items[0].align : BAR_PAGE, e);
	else if (kind == PCI_WINDOW_MEM64)
		ret = find_mem64(placement, extent, count ? items[0].align : BAR_PAGE, e);
	if (ret)
		return ret;

	start = kind == PCI_WINDOW_IO	   ? PORT_PCI_IO_START
		: kind == PCI_WINDOW_MEM32 ? placement->window32.start
					   : placement->window64.start;
	for (unsigned i = 0; i < count; i++) {
		bool placed = items[i].base != NOT_PLACED;

		*items[i].out = placed ? start + items[i].base : NOT_PLACED;
		left_out += !placed;
	}
	for (unsigned i = 0; i < placement->slot_count; i++) {
		struct pci_placed_slot *slot = &placement->slots[i];

		if (slot->behind_port)
			settle_port(slot, kind);
		for (unsigned j = 0; j < slot->bar_count; j++)
			if (slot->bars[j].base == NOT_PLACED)
				slot->bars[j].base = 0;
	}
	if (left_out)
		log_limited(
			LOG_LEVEL_WARN,
			"%u I/O BARs or bridge windows have no room in 0x%x-0xffff and are left "
			"without an address (PCI Express functions work without)",
			left_out, PORT_PCI_IO_START);
	return 0;
}

static int bars_check(struct pci_placed_slot *slot, struct error *e)
{
	for (unsigned i = 0; i < slot->bar_count; i++) {
		if (slot->bars[i].size > BAR_SIZE_MAX)
			return error_set(e, ENOSPC, "bar-window-full", NULL,
					 "a BAR of %llu TiB is larger than any window",
					 (unsigned long long)(slot->bars[i].size >> 40));
		slot->bars[i].base = 0;
	}
	return 0;
}

int pci_windows_place(struct pci_placement *placement, struct error *e)
{
	struct item *items;
	size_t room = 1;
	int ret = 0;

	for (unsigned i = 0; i < placement->slot_count; i++) {
		struct pci_placed_slot *slot = &placement->slots[i];

		room += slot->bar_count + 1; /* a window that nothing is in yet */
		ret = bars_check(slot, e);
		if (ret)
			return ret;
	}
	items = calloc(room, sizeof(*items));
	if (!items)
		return error_set(e, ENOMEM, "no-memory", NULL, "placing BARs: out of memory");

	for (unsigned kind = 0; kind < PCI_WINDOW_KINDS && !ret; kind++)
		ret = place_kind(placement, (enum pci_window_kind)kind, items, e);
	free(items);
	return ret;
}

/* ---- one more slot, in the windows that a port has ------------------------------------------- */

int pci_windows_fit(struct pci_placed_slot *slot, struct error *e)
{
	int ret = bars_check(slot, e);

	if (ret)
		return ret;
	for (unsigned kind = 0; kind < PCI_WINDOW_KINDS; kind++) {
		const struct pci_window *window = &slot->windows[kind];
		struct item items[SLOT_BARS_MAX];
		unsigned count = slot_items(slot, (enum pci_window_kind)kind, items);
		uint64_t extent = pack(items, count, NOT_PLACED);
		bool fits = extent <= window->size &&
			    (!count || !(window->start & (items[0].align - 1)));

		if (!fits && kind != PCI_WINDOW_IO)
			return error_set(e, ENOSPC, "bar-window-full",
					 kind == PCI_WINDOW_MEM64
						 ? "start the VM with a larger --hotplug-window"
						 : "start the VM with the device",
					 "%s BARs of %llu MiB do not fit into the port's window of "
					 "%llu MiB",
					 kind == PCI_WINDOW_MEM64 ? "64-bit" : "32-bit",
					 (unsigned long long)(ALIGN_UP(extent, MIB) / MIB),
					 (unsigned long long)(window->size / MIB));
		for (unsigned i = 0; i < count; i++)
			*items[i].out = fits ? window->start + items[i].base : 0;
	}
	return 0;
}
