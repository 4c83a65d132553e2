// SPDX-License-Identifier: Apache-2.0
/*
 * vkload: a plain Vulkan program that loads a GPU, tests what submissions promise, fills memory, draws. It knows nothing of
 * Divvy: the same binary runs under its layer, under others and natively, and its results are compared.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/live/vkload.h"

static const char usage_text[] =
	"usage: vkload load [--job MS | --iterations N] [--groups N] [--seconds S | --jobs N]\n"
	"                   [--in-flight K | --every MS] [--submit2] [--start NS] [--wait-line]\n"
	"                   [--patience S] [--log FILE] [--abandon S | --abandon-exit S]\n"
	"       vkload test [--list] [--limit S] [--in-process] [NAME...]\n"
	"       vkload memory [--fill] [--chunk MIB] [--most MIB] [--seconds S] [--hold S]\n"
	"       vkload frame [--frames N] [--width N] [--height N] [--every MS] [--save FILE]\n"
	"       vkload measure [--chunk MIB]\n"
	"all:   --device NAME   the first device with NAME in its name\n";

enum option_kind {
	OPTION_TEXT,
	OPTION_NUMBER,
	OPTION_U32,
	OPTION_U64,
	OPTION_UNSIGNED,
	OPTION_FLAG
};

#define FIELD(kind, field) kind, offsetof(struct load_options, field)
static const struct {
	const char *name;
	enum option_kind kind;
	size_t offset;
	double least, most;
} fields[] = {
	{ "device", FIELD(OPTION_TEXT, device) },
	{ "job", FIELD(OPTION_NUMBER, job_ms), 0.001, 60000 },
	{ "iterations", FIELD(OPTION_U32, iterations), 1, 4e9 },
	{ "groups", FIELD(OPTION_U32, groups), 1, 65535 },
	{ "seconds", FIELD(OPTION_NUMBER, seconds), 0, 1e6 },
	{ "jobs", FIELD(OPTION_U64, jobs), 1, 1e9 },
	{ "in-flight", FIELD(OPTION_UNSIGNED, in_flight), 1, IN_FLIGHT_MAX },
	{ "every", FIELD(OPTION_NUMBER, every_ms), 0.01, 1e6 },
	{ "submit2", FIELD(OPTION_FLAG, submit2) },
	{ "start", FIELD(OPTION_U64, start_ns), 0, 9e18 },
	{ "wait-line", FIELD(OPTION_FLAG, wait_line) },
	{ "patience", FIELD(OPTION_NUMBER, patience_s), 0.001, 1e6 },
	{ "log", FIELD(OPTION_TEXT, log) },
	{ "abandon", FIELD(OPTION_NUMBER, abandon_s), 0.001, 1e6 },
	{ "abandon-exit", FIELD(OPTION_NUMBER, abandon_exit_s), 0.001, 1e6 },
	{ "list", FIELD(OPTION_FLAG, list) },
	{ "limit", FIELD(OPTION_NUMBER, limit_s), 1, 1e6 },
	{ "in-process", FIELD(OPTION_FLAG, in_process) },
	{ "fill", FIELD(OPTION_FLAG, fill) },
	{ "chunk", FIELD(OPTION_U32, chunk_mib), 1, 1 << 20 },
	{ "most", FIELD(OPTION_U32, limit_mib), 1, 1 << 30 },
	{ "hold", FIELD(OPTION_NUMBER, hold_s), 0, 1e6 },
	{ "frames", FIELD(OPTION_U32, frames), 1, 1e9 },
	{ "width", FIELD(OPTION_U32, width), 1, 16384 },
	{ "save", FIELD(OPTION_TEXT, save) },
	{ "height", FIELD(OPTION_U32, height), 1, 16384 },
};

static const struct {
	const char *name;
	int (*run)(const struct load_options *options, struct error *e);
} modes[] = {
	{ "load", load_run },	{ "test", tests_run },	    { "memory", memory_run },
	{ "frame", frame_run }, { "measure", measure_run },
};

void print_json(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	fflush(stdout);
	json_decref(object);
}

static int by_length(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

json_t *waits_json(uint64_t *ns, uint64_t count)
{
	qsort(ns, count, sizeof(*ns), by_length);
#define RANK(percent) (double)(count ? ns[MIN(count - 1, count * (percent) / 100)] : 0) / 1e6
	return json_pack("{s:f, s:f, s:f, s:f, s:f}", "min", RANK(0), "p50", RANK(50), "p95",
			 RANK(95), "p99", RANK(99), "max", RANK(100));
#undef RANK
}

void sleep_until(uint64_t ns, const volatile sig_atomic_t *stop)
{
	const struct timespec at = { .tv_sec = (time_t)(ns / NSEC_PER_SEC),
				     .tv_nsec = (long)(ns % NSEC_PER_SEC) };

	while (!*stop && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static int set_field(struct load_options *options, size_t i, const char *text)
{
	void *field = (char *)options + fields[i].offset;
	double value = 0;
	char *end;

	if (fields[i].kind == OPTION_TEXT) {
		*(const char **)field = text;
		return 0;
	}
	if (fields[i].kind == OPTION_FLAG) {
		*(bool *)field = true;
		return 0;
	}
	value = strtod(text, &end);
	if (end == text || *end || !(value >= fields[i].least && value <= fields[i].most))
		return -EINVAL;
	switch (fields[i].kind) {
	case OPTION_NUMBER:
		*(double *)field = value;
		break;
	case OPTION_U64:
		*(uint64_t *)field = strtoull(text, NULL, 10); /* a double has 53 bits */
		break;
	default:
		*(uint32_t *)field = (uint32_t)value;
	}
	return 0;
}

static int usage(const char *problem, const char *word)
{
	fprintf(stderr, "vkload: %s%s\n%s", problem, word, usage_text);
	return 2;
}

static int parse(int argc, char **argv, struct load_options *options)
{
	struct option table[ARRAY_SIZE(fields) + 1] = { { 0 } };
	int index;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		table[i].name = fields[i].name;
		table[i].has_arg = fields[i].kind == OPTION_FLAG ? no_argument : required_argument;
		table[i].val = (int)i;
	}
	opterr = 0;
	for (;;) {
		index = getopt_long(argc, argv, ":", table, NULL);
		if (index == -1)
			break;
		if (index == ':' || index == '?')
			return usage("not understood: ", argv[optind - 1]);
		if (set_field(options, (size_t)index, optarg))
			return usage("out of range: ", argv[optind - 1]);
	}
	options->names = &argv[optind];
	return 0;
}

int main(int argc, char **argv)
{
	struct load_options options = { .job_ms = 5,
					.groups = 64,
					.in_flight = 2,
					.chunk_mib = 16,
					.limit_mib = 4096,
					.frames = 1,
					.width = 320,
					.height = 240,
					.limit_s = 90 };
	struct error e = { 0 };

	if (argc < 2)
		return usage("what to do?", "");
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		int status;

		if (strcmp(argv[1], modes[i].name))
			continue;
		status = parse(argc - 1, argv + 1, &options);
		if (status)
			return status;
		if (modes[i].run(&options, &e)) {
			error_print(&e, "vkload");
			return 1;
		}
		return 0;
	}
	return usage("unknown: ", argv[1]);
}
