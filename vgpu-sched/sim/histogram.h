/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times counted by size: constant memory however many there are, and every quantile within 1/64 of its value (buckets
 * grow with what they hold, as in HdrHistogram). Private to vgpu-sched/sim/.
 */
#ifndef VGPU_SCHED_SIM_HISTOGRAM_H
#define VGPU_SCHED_SIM_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6 /* 64 buckets between a power of two and the next */
#define HISTOGRAM_BUCKETS  ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t count, max, counts[HISTOGRAM_BUCKETS];
	double sum;
};

void histogram_add(struct histogram *histogram, uint64_t value);
/* histogram_quantile() - the smallest value that at least @q (0 to 1) of all are at or below, rounded up to its bucket's end. */
uint64_t histogram_quantile(const struct histogram *histogram, double q);
double histogram_mean(const struct histogram *histogram);

#endif
