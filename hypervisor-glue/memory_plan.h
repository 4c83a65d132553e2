/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_plan: which addresses a guest's RAM gets, node by node, around what devices cannot reach.
 */
#ifndef GLUE_MEMORY_PLAN_H
#define GLUE_MEMORY_PLAN_H

#include "base/base.h"
#include "iommu/iommu.h"

#define MEMORY_PIECES_MAX 40
#define MEMORY_HOLES_MAX  20 /* with the pieces: no more than there are banks */

struct memory_piece {
	uint64_t gpa, size;
	unsigned node;
};

struct memory_plan {
	unsigned piece_count, hole_count;
	struct memory_piece pieces[MEMORY_PIECES_MAX]; /* ascending */
	struct iommu_range holes[MEMORY_HOLES_MAX];    /* between pieces: never RAM, never a BAR */
};

/*
 * memory_plan_make() - place @sizes of @nodes nodes one after the other: from 0 up to the 32-bit window,
 * then from 4 GiB on, leaving out @reserved (any order, overlaps allowed).
 * @align: power of two; pieces begin after a hole and end before one at a multiple of it
 *
 * Pure. Returns 0, or -EADDRNOTAVAIL ("memory-reserved": where the guest's boot needs RAM), -ENOSPC
 * ("too-many-banks").
 */
int memory_plan_make(const uint64_t *sizes, unsigned nodes, uint64_t align,
		     const struct iommu_range *reserved, unsigned reserved_count,
		     struct memory_plan *plan, struct error *e);

#endif
