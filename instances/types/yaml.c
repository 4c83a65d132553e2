// SPDX-License-Identifier: Apache-2.0
/*
 * YAML of a type file -> JSON, with the line of every value.
 *
 * Read event by event (libyaml), so that what is hostile ends where it begins: an alias is refused when it is met, not when it has been
 * expanded; nesting stops at a depth that no type has; a key that comes twice is a mistake, not a choice. libcyaml, which the
 * simulator's scenarios are read with, stops at the first mistake; a person who writes a type wants all of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "instances/types/private.h"

struct reading {
	yaml_parser_t parser;
	struct type_yaml *yaml;
	struct type_reader reader; /* path and complaints */
	unsigned depth, nodes;
	bool failed; /* said */
};

static json_t *read_value(struct reading *r, yaml_event_t *event);

static void refuse(struct reading *r, const yaml_event_t *event, const char *what)
{
	if (!r->failed)
		findings_add(r->reader.findings, FINDING_BLOCKER, "type-yaml", NULL, NULL,
			     "%s:%zu: %s", r->reader.name, event->start_mark.line + 1, what);
	r->failed = true;
}

/* What libyaml does not take. */
static void refuse_syntax(struct reading *r)
{
	const yaml_parser_t *p = &r->parser;
	const size_t line = p->error == YAML_READER_ERROR ? p->mark.line : p->problem_mark.line;

	if (!r->failed)
		findings_add(r->reader.findings, FINDING_BLOCKER, "type-yaml", NULL, NULL,
			     "%s:%zu: %s%s%s", r->reader.name, line + 1,
			     p->problem ? p->problem : "not YAML", p->context ? ", " : "",
			     p->context ? p->context : "");
	r->failed = true;
}

/* The next event; false when there is none that may be looked at. */
static bool next(struct reading *r, yaml_event_t *event)
{
	if (r->failed)
		return false;
	if (!yaml_parser_parse(&r->parser, event)) {
		refuse_syntax(r);
		return false;
	}
	return true;
}

static bool remember_line(struct reading *r, const yaml_event_t *event)
{
	struct type_yaml *yaml = r->yaml;
	struct type_line *lines;

	if (yaml->line_count == yaml->line_room) {
		unsigned room = yaml->line_room ? yaml->line_room * 2 : 64;

		lines = reallocarray(yaml->lines, room, sizeof(*lines));
		if (!lines) {
			refuse(r, event, "out of memory");
			return false;
		}
		yaml->lines = lines;
		yaml->line_room = room;
	}
	lines = &yaml->lines[yaml->line_count++];
	snprintf(lines->path, sizeof(lines->path), "%s", r->reader.path);
	lines->line = (unsigned)event->start_mark.line + 1;
	return true;
}

/* A plain whole number that fits, "true", "false", or text. NULL: out of memory. */
static json_t *scalar(const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	const size_t length = event->data.scalar.length;
	const bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	const size_t digits = strspn(text, "0123456789");
	char *end;

	/* A leading zero is octal to some and decimal to others: it stays text, and is no number. */
	if (plain && digits == length && length && (length == 1 || text[0] != '0')) {
		errno = 0;
		long long value = strtoll(text, &end, 10);

		if (!errno && !*end)
			return json_integer(value);
	}
	if (plain && !strcmp(text, "true"))
		return json_true();
	if (plain && !strcmp(text, "false"))
		return json_false();
	if (plain && (!length || !strcmp(text, "~") || !strcmp(text, "null")))
		return json_null();
	return json_stringn(text, length);
}

static json_t *read_scalar(struct reading *r, yaml_event_t *event)
{
	json_t *json = NULL;

	if (memchr(event->data.scalar.value, '\0', event->data.scalar.length))
		refuse(r, event, "a NUL has no place in a type");
	else if (!(json = scalar(event)))
		refuse(r, event, "out of memory");
	return json;
}

static json_t *read_sequence(struct reading *r)
{
	json_t *list = json_array(), *item;
	yaml_event_t event;

	for (size_t i = 0; next(r, &event); i++) {
		size_t mark;

		if (event.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&event);
			return list;
		}
		mark = type_reader_enter(&r->reader, NULL, i);
		item = read_value(r, &event);
		type_reader_leave(&r->reader, mark);
		yaml_event_delete(&event);
		if (item && json_array_append_new(list, item))
			break;
	}
	json_decref(list);
	return NULL;
}

/* One key and its value. False: the end, or a failure. */
static bool read_pair(struct reading *r, json_t *object, yaml_event_t *event)
{
	char key[TYPE_PATH_SIZE];
	yaml_event_t value;
	json_t *json;
	size_t mark;

	if (event->type != YAML_SCALAR_EVENT || event->data.scalar.anchor ||
	    event->data.scalar.tag) {
		refuse(r, event, "a key is a plain word");
		return false;
	}
	if (event->data.scalar.length >= sizeof(key) ||
	    memchr(event->data.scalar.value, '\0', event->data.scalar.length)) {
		refuse(r, event, "no key of a type is like that");
		return false;
	}
	snprintf(key, sizeof(key), "%s", (char *)event->data.scalar.value);
	if (json_object_get(object, key)) {
		type_complain(&r->reader, key, "type-key-twice", NULL,
			      "is there twice (again in line %zu)", event->start_mark.line + 1);
		r->failed = true;
		return false;
	}
	mark = type_reader_enter(&r->reader, key, 0);
	/* The key's line is the better one for a value that begins below it. */
	if (remember_line(r, event) && next(r, &value)) {
		json = read_value(r, &value);
		yaml_event_delete(&value);
		if (json && json_object_set_new(object, key, json))
			refuse(r, event, "out of memory");
	}
	type_reader_leave(&r->reader, mark);
	return !r->failed;
}

static json_t *read_mapping(struct reading *r)
{
	json_t *object = json_object();
	yaml_event_t event;
	bool more = object;

	while (more && next(r, &event)) {
		const bool end = event.type == YAML_MAPPING_END_EVENT;

		more = !end && read_pair(r, object, &event);
		yaml_event_delete(&event);
		if (end)
			return object;
	}
	json_decref(object);
	return NULL;
}

static json_t *read_value(struct reading *r, yaml_event_t *event)
{
	const bool scalar_event = event->type == YAML_SCALAR_EVENT;
	const bool list = event->type == YAML_SEQUENCE_START_EVENT;
	const bool anchor = scalar_event ? event->data.scalar.anchor
			    : list	 ? event->data.sequence_start.anchor
					 : event->data.mapping_start.anchor;
	json_t *json = NULL;

	if (event->type == YAML_ALIAS_EVENT || (event->type != YAML_ALIAS_EVENT && anchor)) {
		refuse(r, event, "anchors and aliases are not taken: write it out");
		return NULL;
	}
	if (scalar_event ? event->data.scalar.tag != NULL
	    : list	 ? event->data.sequence_start.tag != NULL
			 : event->data.mapping_start.tag != NULL) {
		refuse(r, event, "tags are not taken");
		return NULL;
	}
	if (++r->nodes > TYPE_YAML_NODES) {
		refuse(r, event, "more values than a file of types has");
		return NULL;
	}
	if (!remember_line(r, event))
		return NULL;
	if (scalar_event)
		return read_scalar(r, event);
	if (r->depth == TYPE_YAML_DEPTH) {
		refuse(r, event, "nested deeper than a type is");
		return NULL;
	}
	r->depth++;
	json = list ? read_sequence(r) : read_mapping(r);
	r->depth--;
	return json;
}

/* The stream: one document, which has something in it. */
static json_t *read_stream(struct reading *r)
{
	json_t *json = NULL;
	yaml_event_t event;
	bool more = true;

	while (more && next(r, &event)) {
		switch (event.type) {
		case YAML_STREAM_END_EVENT:
			more = false;
			break;
		case YAML_DOCUMENT_START_EVENT:
			if (json)
				refuse(r, &event,
				       "a second document: write a list of types instead");
			break;
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_END_EVENT:
		case YAML_NO_EVENT:
			break;
		case YAML_ALIAS_EVENT:
		case YAML_SCALAR_EVENT:
		case YAML_SEQUENCE_START_EVENT:
		case YAML_SEQUENCE_END_EVENT:
		case YAML_MAPPING_START_EVENT:
		case YAML_MAPPING_END_EVENT:
			json = read_value(r, &event);
			break;
		}
		yaml_event_delete(&event);
	}
	if (!r->failed && json)
		return json;
	json_decref(json);
	return NULL;
}

int type_yaml_read(const char *text, size_t size, const char *name, struct type_yaml *yaml,
		   struct findings *findings)
{
	struct reading r = { .yaml = yaml,
			     .reader = { .name = name, .yaml = yaml, .findings = findings } };

	if (!yaml_parser_initialize(&r.parser)) {
		findings_add(findings, FINDING_BLOCKER, "type-yaml", NULL, NULL,
			     "%s: out of memory", name);
		return -EINVAL;
	}
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml->json = read_stream(&r);
	yaml_parser_delete(&r.parser);
	if (!yaml->json && !r.failed)
		findings_add(findings, FINDING_BLOCKER, "type-yaml", NULL, NULL,
			     "%s: there is nothing in it", name);
	return yaml->json ? 0 : -EINVAL;
}

void type_yaml_free(struct type_yaml *yaml)
{
	json_decref(yaml->json);
	free(yaml->lines);
	*yaml = (struct type_yaml){ 0 };
}

unsigned type_yaml_line(const struct type_yaml *yaml, const char *path)
{
	char around[TYPE_PATH_SIZE], *dot;

	snprintf(around, sizeof(around), "%s", path);
	for (;;) {
		for (unsigned i = 0; i < yaml->line_count; i++)
			if (!strcmp(yaml->lines[i].path, around))
				return yaml->lines[i].line;
		dot = strrchr(around, '.');
		if (!dot)
			return yaml->line_count ? yaml->lines[0].line : 0;
		*dot = '\0';
	}
}
