// SPDX-License-Identifier: Apache-2.0
/*
 * Placing RAM. A device reaches guest memory at the guest's own addresses, so an address that its IOMMU
 * keeps for something else (firmware's memory, AMD's HyperTransport range below 1 TiB) must not be
 * RAM: the guest's driver would hand it to the device, and the transfer would go elsewhere.
 */
#include <errno.h>
#include <string.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/memory_plan.h"

#define PAGE	  UINT64_C(4096)
#define BOOT_END  (16 * MIB)	      /* boot data, ACPI tables, and the start of a kernel */
#define RAM_LIMIT (UINT64_C(1) << 52) /* no processor addresses more */

/* What is in the way at or above @from, or NULL: the lowest. */
static const struct iommu_range *next_hole(const struct iommu_range *reserved, unsigned count,
					   uint64_t from)
{
	const struct iommu_range *lowest = NULL;

	for (unsigned i = 0; i < count; i++)
		if (reserved[i].start <= reserved[i].last && reserved[i].last >= from &&
		    (!lowest || reserved[i].start < lowest->start))
			lowest = &reserved[i];
	return lowest;
}

static int keep_hole(struct memory_plan *plan, const struct iommu_range *hole, struct error *e)
{
	struct iommu_range range = { ALIGN_DOWN(hole->start, PAGE), hole->last | (PAGE - 1) };
	struct iommu_range *last = plan->hole_count ? &plan->holes[plan->hole_count - 1] : NULL;

	if (last && range.start <= last->last) {
		last->last = MAX(last->last, range.last);
		return 0;
	}
	if (plan->hole_count == MEMORY_HOLES_MAX)
		return error_set(e, ENOSPC, "too-many-banks", NULL,
				 "guest memory: more than %d reserved regions are in its way",
				 MEMORY_HOLES_MAX);
	plan->holes[plan->hole_count++] = range;
	return 0;
}

static int add_piece(struct memory_plan *plan, uint64_t gpa, uint64_t size, unsigned node,
		     struct error *e)
{
	struct memory_piece *last = plan->piece_count ? &plan->pieces[plan->piece_count - 1] : NULL;

	if (last && last->node == node && last->gpa + last->size == gpa) {
		last->size += size;
		return 0;
	}
	if (plan->piece_count == MEMORY_PIECES_MAX)
		return error_set(e, ENOSPC, "too-many-banks", NULL,
				 "guest memory falls into more than %d pieces", MEMORY_PIECES_MAX);
	plan->pieces[plan->piece_count++] = (struct memory_piece){ gpa, size, node };
	return 0;
}

/*
 * Moves *@at to where RAM may be and says how much of the @wanted there is. Each round passes a hole or
 * the window, so it ends.
 */
static int find_room(uint64_t *at, uint64_t wanted, uint64_t align,
		     const struct iommu_range *reserved, unsigned count, struct memory_plan *plan,
		     uint64_t *room, struct error *e)
{
	for (;;) {
		uint64_t end = *at < LAYOUT_RAM_LOW_END ? LAYOUT_RAM_LOW_END : RAM_LIMIT;
		const struct iommu_range *hole;
		int err;

		if (*at >= LAYOUT_RAM_LOW_END && *at < LAYOUT_RAM_HIGH_START)
			*at = LAYOUT_RAM_HIGH_START;
		if (*at >= RAM_LIMIT)
			return error_set(e, E2BIG, "memory-too-large", "lower --memory",
					 "guest memory does not fit below 2^52");
		hole = next_hole(reserved, count, *at);
		if (!hole || hole->start >= end) {
			*room = MIN(end - *at, wanted);
			return 0;
		}
		if (hole->start > *at && hole->start - *at >= wanted) {
			*room = wanted;
			return 0;
		}
		if (hole->start < BOOT_END)
			return error_set(e, EADDRNOTAVAIL, "memory-reserved",
					 "leave the device with that reserved region out; "
					 "divvy precheck names it",
					 "a device reserves 0x%llx-0x%llx for itself, where the "
					 "guest must have RAM to boot",
					 (unsigned long long)hole->start,
					 (unsigned long long)hole->last);
		err = keep_hole(plan, hole, e);
		if (err)
			return err;
		if (hole->start > *at && ALIGN_DOWN(hole->start, align) > *at) {
			*room = ALIGN_DOWN(hole->start, align) - *at;
			return 0;
		}
		if (hole->last >= RAM_LIMIT - 1)
			*at = RAM_LIMIT;
		else
			*at = ALIGN_UP(hole->last + 1, align);
	}
}

int memory_plan_make(const uint64_t *sizes, unsigned nodes, uint64_t align,
		     const struct iommu_range *reserved, unsigned reserved_count,
		     struct memory_plan *plan, struct error *e)
{
	uint64_t at = 0;

	memset(plan, 0, sizeof(*plan));
	for (unsigned node = 0; node < nodes; node++) {
		for (uint64_t left = sizes[node], room = 0; left; left -= room, at += room) {
			int err = find_room(&at, left, align, reserved, reserved_count, plan, &room,
					    e);

			if (err)
				return err;
			err = add_piece(plan, at, room, node, e);
			if (err)
				return err;
		}
	}
	return 0;
}
