/* SPDX-License-Identifier: Apache-2.0 */
/* What `vkload` can do; each mode is a file. docs/live.md has every option. */
#ifndef TESTS_LIVE_VKLOAD_H
#define TESTS_LIVE_VKLOAD_H

#include <jansson.h>
#include <signal.h>

#include "tests/live/vk.h"

#define IN_FLIGHT_MAX 64

struct load_options {
	const char *device;  /* part of its name; NULL: the first */
	double job_ms;	     /* length of a job, calibrated ... */
	uint32_t iterations; /* ... unless this is given */
	uint32_t groups;     /* work groups of a job */
	double seconds, every_ms;
	uint64_t jobs, start_ns;
	unsigned in_flight;
	bool submit2;
	double abandon_s, abandon_exit_s; /* end the process in the middle of it, after so long */
	const char *log, *save;
	uint32_t chunk_mib, limit_mib;
	double hold_s;
	double patience_s; /* load: so long one job may take, with what it waits; 0: VK_PATIENCE_NS */
	bool fill;	   /* memory: allocate until refused */
	bool wait_line; /* load: print "ready" and wait for a line on standard input before starting */
	uint32_t frames, width, height;
	double limit_s;
	bool in_process;
	bool list;
	char **names; /* tests, up to a NULL */
};

/* Each prints its result as one line of JSON. Returns 0 or -errno. */
int load_run(const struct load_options *options, struct error *e);    /* load.c */
int memory_run(const struct load_options *options, struct error *e);  /* memory.c */
int frame_run(const struct load_options *options, struct error *e);   /* frame.c */
int tests_run(const struct load_options *options, struct error *e);   /* tests.c */
int measure_run(const struct load_options *options, struct error *e); /* measure.c */

/* print_json() - one line on standard output at once; takes the reference. */
void print_json(json_t *object);

/* waits_json() - least, median, percentiles and most of @count waits, which are sorted, in milliseconds; a new reference */
json_t *waits_json(uint64_t *ns, uint64_t count);

/* sleep_until() - until @ns of CLOCK_MONOTONIC; a signal ends it early where *@stop says so */
void sleep_until(uint64_t ns, const volatile sig_atomic_t *stop);

/*
 * A test of behaviour: it opens no device, and leaves nothing but what vk_close() takes away. Returns 0, -ENOTSUP where the
 * device does not offer what it needs, or another -errno; all but 0 with the reason in *e.
 */
struct live_test {
	const char *name;
	int (*run)(struct vk *vk, struct error *e);
	bool only_by_name; /* not one of "all" */
};
/* NULL-terminated by name; tests_*.c */
extern const struct live_test order_tests[], wait_tests[], fence_tests[], share_tests[],
	device_tests[], frame_tests[];

#endif
