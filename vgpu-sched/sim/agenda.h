/* SPDX-License-Identifier: Apache-2.0 */
/* What will happen when: the simulator's queue of events, in order of time, then of their adding. Private to vgpu-sched/sim/. */
#ifndef VGPU_SCHED_SIM_AGENDA_H
#define VGPU_SCHED_SIM_AGENDA_H

#include "base/base.h"

struct agenda_item {
	uint64_t at_ns, order;
	unsigned kind, a, b;
};

struct agenda {
	struct agenda_item *items; /* a binary heap */
	unsigned count, room;
	uint64_t order;
};

/* agenda_add() - returns 0 or -ENOMEM. */
int agenda_add(struct agenda *agenda, uint64_t at_ns, unsigned kind, unsigned a, unsigned b);
/* agenda_next() - takes the first; false when there is none. */
bool agenda_next(struct agenda *agenda, struct agenda_item *item);
void agenda_free(struct agenda *agenda);

#endif
