/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of instances/types/ share with each other and with their tests. */
#ifndef INSTANCES_TYPES_PRIVATE_H
#define INSTANCES_TYPES_PRIVATE_H

#include "instances/types/types.h"

#define TYPE_PATH_SIZE 96

/* The value that @path leads to ("0.gpus.1.partition": keys and indexes with dots) begins on @line. */
struct type_line {
	char path[TYPE_PATH_SIZE];
	unsigned line;
};

struct type_yaml {
	json_t *json; /* whole numbers and booleans as such; every other scalar is text */
	unsigned line_count, line_room;
	struct type_line *lines;
};

/*
 * type_yaml_read() - one document of YAML. Anchors, aliases, tags, a second document, a key that is there twice, nesting beyond
 * what a type has and more than TYPE_YAML_NODES values are refused, each with its line.
 * @yaml: zeroed; type_yaml_free() in any case
 * Returns 0, or -EINVAL with a blocker.
 */
#define TYPE_YAML_DEPTH 6
#define TYPE_YAML_NODES 8192
int type_yaml_read(const char *text, size_t size, const char *name, struct type_yaml *yaml,
		   struct findings *findings);
void type_yaml_free(struct type_yaml *yaml);
/* type_yaml_line() - of @path, or of what is nearest around it; 0: none. */
unsigned type_yaml_line(const struct type_yaml *yaml, const char *path);

/* ---- reading and complaining ------------------------------------------------------------------ */

/* Where in which file something is read; complaints begin with it. */
struct type_reader {
	const char *name;	      /* the file */
	const struct type_yaml *yaml; /* NULL: it has no lines */
	struct findings *findings;
	char path[TYPE_PATH_SIZE]; /* of the mapping that is read now; "": the top */
	bool failed;
};

/* type_complain() - a blocker about @key of what is read now ("": that as a whole). @next: NULL for none */
void type_complain(struct type_reader *reader, const char *key, const char *code, const char *next,
		   const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* type_reader_enter() - into @key, or into item @index where @key is NULL. Returns what type_reader_leave() goes back to. */
size_t type_reader_enter(struct type_reader *reader, const char *key, size_t index);
void type_reader_leave(struct type_reader *reader, size_t mark);

/* type_read() - one type. Whatever is wrong is complained of; *type is good when reader->failed is still false. */
void type_read(struct type_reader *reader, const json_t *json, struct instance_type *type);
/* type_check() - what belongs together; type_check_gpu(): in one entry of gpus. */
void type_check_gpu(struct type_reader *reader, const struct type_gpu *gpu);
void type_check(struct type_reader *reader, const struct instance_type *type);

/*
 * type_decimal() - "0.25" -> 250000 with @digits 6: a decimal number without sign or exponent, in units of 10^-@digits, further digits
 * cut off. 0 or -EINVAL, -ERANGE.
 */
int type_decimal(const char *text, unsigned digits, uint64_t *value);
/* type_share() - "0.25", "25%" or "1/4" in parts of a million, rounded down. 0 or -EINVAL. */
int type_share(const char *text, uint32_t *ppm);

#endif
