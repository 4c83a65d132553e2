/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap: a binary heap of indices with a key each, every index in it at most once, its place known:
 * insert, change and remove are O(log n), the least is at hand. Equal keys come out in the order in
 * which they were last set. The caller gives the memory.
 */
#ifndef VGPU_SCHED_CORE_HEAP_H
#define VGPU_SCHED_CORE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

/* Virtual time: service in 2^-20 ns, divided by a weight. Wide enough never to wrap. */
__extension__ typedef unsigned __int128 vtime;

struct heap_entry {
	vtime key;
	uint64_t order;
	uint32_t id;
};

struct heap {
	struct heap_entry *entries; /* room for as many as there are indices */
	uint32_t *places; /* by index: its place in entries, plus one; 0: not in the heap */
	uint64_t order;
	uint32_t count;
};

static inline bool heap_has(const struct heap *heap, uint32_t id)
{
	return heap->places[id] != 0;
}

/* heap_set() - insert @id, or give it another key. */
void heap_set(struct heap *heap, uint32_t id, vtime key);
/* heap_remove() - nothing happens when it is not there. */
void heap_remove(struct heap *heap, uint32_t id);

#endif
