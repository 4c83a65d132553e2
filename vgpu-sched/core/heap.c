// SPDX-License-Identifier: Apache-2.0
#include "vgpu-sched/core/heap.h"

static bool before(const struct heap_entry *a, const struct heap_entry *b)
{
	return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static void put(struct heap *heap, uint32_t place, struct heap_entry entry)
{
	heap->entries[place] = entry;
	heap->places[entry.id] = place + 1;
}

/* @entry goes to @place or wherever above or below it belongs; @place is free. */
static void settle(struct heap *heap, uint32_t place, struct heap_entry entry)
{
	while (place) {
		uint32_t up = (place - 1) / 2;

		if (!before(&entry, &heap->entries[up]))
			break;
		put(heap, place, heap->entries[up]);
		place = up;
	}
	for (;;) {
		uint32_t down = 2 * place + 1;

		if (down >= heap->count)
			break;
		if (down + 1 < heap->count &&
		    before(&heap->entries[down + 1], &heap->entries[down]))
			down++;
		if (!before(&heap->entries[down], &entry))
			break;
		put(heap, place, heap->entries[down]);
		place = down;
	}
	put(heap, place, entry);
}

void heap_set(struct heap *heap, uint32_t id, vtime key)
{
	uint32_t place = heap_has(heap, id) ? heap->places[id] - 1 : heap->count++;

	settle(heap, place, (struct heap_entry){ .key = key, .order = ++heap->order, .id = id });
}

void heap_remove(struct heap *heap, uint32_t id)
{
	if (!heap_has(heap, id))
		return;
	uint32_t place = heap->places[id] - 1;

	heap->places[id] = 0;
	heap->count--;
	if (place != heap->count)
		settle(heap, place, heap->entries[heap->count]);
}
