// SPDX-License-Identifier: Apache-2.0
/*
 * Recordings (scenario.h): the lines that a live arbiter writes for its turns, read back as arrivals and lengths.
 * The first line names the columns, in any order; columns nobody needs here are skipped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/sim/scenario.h"

#define COLUMNS_MAX 32
#define JOBS_MAX    (4u << 20)
#define FIELD_MAX   64

enum column {
	WHEN,
	VGPU,
	ENGINE,
	WAITED,
	RAN,
	USED_COLUMNS
};

static const char *const column_names[USED_COLUMNS] = { "when_ns", "vgpu", "engine", "waited_ns",
							"ran_ns" };

struct reader {
	const char *at, *end, *name;
	unsigned line;
	struct error *e;
};

/* The next field of this line, cut to its room. Returns false at the line's end. */
static bool next_field(struct reader *reader, char field[FIELD_MAX], bool *too_long)
{
	size_t length = 0;

	if (reader->at == reader->end || *reader->at == '\n')
		return false;
	for (; reader->at < reader->end && *reader->at != ',' && *reader->at != '\n'; reader->at++)
		if (*reader->at != '\r') {
			if (length < FIELD_MAX - 1)
				field[length++] = *reader->at;
			else
				*too_long = true;
		}
	field[length] = '\0';
	if (reader->at < reader->end && *reader->at == ',')
		reader->at++;
	return true;
}

static int bad(const struct reader *reader, const char *what)
{
	return error_set(reader->e, EINVAL, "bad-trace", NULL, "%s:%u: %s", reader->name,
			 reader->line, what);
}

static int read_header(struct reader *reader, int columns[USED_COLUMNS])
{
	char field[FIELD_MAX];
	bool too_long = false;
	int index = 0;

	memset(columns, -1, USED_COLUMNS * sizeof(*columns));
	while (next_field(reader, field, &too_long)) {
		if (too_long || index == COLUMNS_MAX)
			return bad(reader, "too many or too long names of columns");
		for (unsigned i = 0; i < USED_COLUMNS; i++)
			if (!strcmp(field, column_names[i]))
				columns[i] = index;
		index++;
	}
	for (unsigned i = 0; i < USED_COLUMNS; i++)
		if (columns[i] < 0)
			return error_set(reader->e, EINVAL, "bad-trace", NULL, "%s:1: no column %s",
					 reader->name, column_names[i]);
	return 0;
}

static int number(const struct reader *reader, const char *field, const char *column,
		  uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(field, &end, 10);
	if (field[0] < '0' || field[0] > '9' || *end || errno || *value > UINT64_MAX / 4)
		return error_set(reader->e, EINVAL, "bad-trace", NULL,
				 "%s:%u: %s: \"%.40s\" is not a number of ns", reader->name,
				 reader->line, column, field);
	return 0;
}

static int read_row(struct reader *reader, const int columns[USED_COLUMNS],
		    struct sim_trace_job *job, char vgpu[FIELD_MAX])
{
	char field[FIELD_MAX], engine[FIELD_MAX] = "";
	uint64_t when = 0, waited = 0;
	bool too_long = false;
	int index = 0, seen = 0, err = 0;

	for (; next_field(reader, field, &too_long) && !err; index++) {
		if (too_long)
			return bad(reader, "a field of more than 63 bytes");
		if (index == columns[WHEN])
			err = number(reader, field, "when_ns", &when);
		else if (index == columns[WAITED])
			err = number(reader, field, "waited_ns", &waited);
		else if (index == columns[RAN])
			err = number(reader, field, "ran_ns", &job->length_ns);
		else if (index == columns[VGPU])
			strcpy(vgpu, field);
		else if (index == columns[ENGINE])
			strcpy(engine, field);
		else
			continue;
		seen++;
	}
	if (err)
		return err;
	if (seen != USED_COLUMNS)
		return bad(reader, "the line is cut");
	job->engine = SCHED_ENGINES;
	for (unsigned i = 0; i < SCHED_ENGINES; i++)
		if (!strcmp(engine, sched_engine_name((enum sched_engine)i)))
			job->engine = (enum sched_engine)i;
	if (job->engine == SCHED_ENGINES)
		return bad(reader, "engine is none of graphics, copy, video");
	if (waited > when)
		return bad(reader, "it waited since before the beginning");
	if (job->length_ns > SIM_DURATION_MAX)
		return bad(reader, "ran_ns: more than a day");
	job->at_ns = when - waited;
	return 0;
}

static int job_order(const void *a, const void *b)
{
	const struct sim_trace_job *x = a, *y = b;

	return x->at_ns < y->at_ns ? -1 : x->at_ns > y->at_ns;
}

int sim_trace_parse(const char *text, size_t size, const char *name, const char *vgpu,
		    struct sim_trace_job **jobs, unsigned *count, struct error *e)
{
	struct reader reader = { .at = text, .end = text + size, .name = name, .line = 1, .e = e };
	unsigned room = 0, used = 0;
	struct sim_trace_job *list = NULL, *more;
	int columns[USED_COLUMNS], err;

	err = read_header(&reader, columns);
	while (!err && reader.at < reader.end) {
		struct sim_trace_job job = { 0 };
		char who[FIELD_MAX] = "";

		reader.at++; /* the end of the line before */
		reader.line++;
		if (reader.at == reader.end || *reader.at == '\n')
			continue;
		err = read_row(&reader, columns, &job, who);
		if (err || (vgpu[0] && strcmp(vgpu, who)))
			continue;
		if (used == JOBS_MAX) {
			err = bad(&reader, "more than 4 million turns");
			continue;
		}
		if (used == room) {
			room = room ? 2 * room : 256;
			more = realloc(list, room * sizeof(*list));
			if (!more) {
				err = error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory",
						name);
				continue;
			}
			list = more;
		}
		list[used++] = job;
	}
	if (!err && !used)
		err = error_set(e, EINVAL, "bad-trace", NULL, "%s: no turn of vGPU \"%s\"", name,
				vgpu);
	if (err) {
		free(list);
		return err;
	}
	qsort(list, used, sizeof(*list), job_order);
	/* It begins with its first arrival. */
	for (unsigned i = used; i--;)
		list[i].at_ns -= list[0].at_ns;
	*jobs = list;
	*count = used;
	return 0;
}
