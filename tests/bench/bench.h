/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: how a benchmark says what it measured: one JSON object a line on standard output, which
 * tests/bench/run puts into tables. Values of several runs become median, minimum and maximum here,
 * so that nobody reads a single run. Nothing passes or fails on a number.
 */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

#define BENCH_RUNS_MAX 64

static inline int bench_compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static inline double bench_median(double *values, unsigned count)
{
	qsort(values, count, sizeof(values[0]), bench_compare);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* @values are sorted on return. */
static inline void bench_result(const char *name, const char *unit, double *values, unsigned count)
{
	double median = bench_median(values, count);

	printf("{\"name\": \"%s\", \"unit\": \"%s\", \"median\": %.4g, \"min\": %.4g, \"max\": "
	       "%.4g, \"runs\": %u}\n",
	       name, unit, median, values[0], values[count - 1], count);
	fflush(stdout);
}

/* A measurement that is left out here, and why. */
static inline void bench_skip(const char *name, const char *why)
{
	printf("{\"name\": \"%s\", \"skipped\": \"%s\"}\n", name, why);
	fflush(stdout);
}

#endif
