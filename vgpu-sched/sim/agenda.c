// SPDX-License-Identifier: Apache-2.0
/* What will happen when (agenda.h). */
#include <errno.h>
#include <stdlib.h>

#include "vgpu-sched/sim/agenda.h"

static bool before(const struct agenda_item *a, const struct agenda_item *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

int agenda_add(struct agenda *agenda, uint64_t at_ns, unsigned kind, unsigned a, unsigned b)
{
	const struct agenda_item item = { at_ns, agenda->order++, kind, a, b };
	unsigned i;

	if (agenda->count == agenda->room) {
		unsigned room = agenda->room ? 2 * agenda->room : 256;
		struct agenda_item *items = realloc(agenda->items, room * sizeof(*items));

		if (!items)
			return -ENOMEM;
		agenda->items = items;
		agenda->room = room;
	}
	for (i = agenda->count++; i && before(&item, &agenda->items[(i - 1) / 2]); i = (i - 1) / 2)
		agenda->items[i] = agenda->items[(i - 1) / 2];
	agenda->items[i] = item;
	return 0;
}

bool agenda_next(struct agenda *agenda, struct agenda_item *item)
{
	struct agenda_item last;
	unsigned i = 0, child;

	if (!agenda->count)
		return false;
	*item = agenda->items[0];
	last = agenda->items[--agenda->count];
	while ((child = 2 * i + 1) < agenda->count) {
		if (child + 1 < agenda->count &&
		    before(&agenda->items[child + 1], &agenda->items[child]))
			child++;
		if (!before(&agenda->items[child], &last))
			break;
		agenda->items[i] = agenda->items[child];
		i = child;
	}
	agenda->items[i] = last;
	return true;
}

void agenda_free(struct agenda *agenda)
{
	free(agenda->items);
	*agenda = (struct agenda){ 0 };
}
