/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON object with many keys, made one after the other: it is there whole or not at all. */
#ifndef INSTANCES_BUILDING_H
#define INSTANCES_BUILDING_H

#include <jansson.h>
#include <stdbool.h>

/* For json_dumps(), where people and programs read it: 0.2 and not 0.20000000000000001. A double has 15 digits that survive. */
#define JSON_READABLE JSON_REAL_PRECISION(15)

/* Begins with { .object = json_object() }. json_object_set_new() of NULL fails; so does the whole, then. */
struct building {
	json_t *object;
	bool failed;
};

static inline void put(struct building *b, const char *key, json_t *value)
{
	b->failed |= json_object_set_new(b->object, key, value) != 0;
}

/* done() - the object, which is the caller's; NULL: out of memory. */
static inline json_t *done(struct building *b)
{
	if (!b->failed)
		return b->object;
	json_decref(b->object);
	return NULL;
}

#endif
