/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's clock on the CPU's. Private to vgpu-sched/layer/.
 *
 * With VK_KHR_calibrated_timestamps the two are read together once a second. Without, the end of a batch anchors them: it cannot be
 * later than when it was seen.
 */
#ifndef VGPU_SCHED_LAYER_CLOCK_H
#define VGPU_SCHED_LAYER_CLOCK_H

#include "vgpu-sched/layer/layer.h"

struct device_clock {
	double period_ns; /* of a tick */
	bool calibrated;  /* the device can be asked */
	bool anchored;
	uint64_t ticks, at_ns; /* the same moment on both */
};

/* clock_create() - @calibrated: the device may be asked. */
void clock_create(struct layer_device *device, bool calibrated, struct device_clock *clock);

/*
 * clock_update() - anchor it anew, if it is time to.
 * @end_ticks: a timestamp that was written before @seen_ns
 * @bits: how many bits of it count, 1 to 64
 */
void clock_update(struct layer_device *device, struct device_clock *clock, uint64_t end_ticks,
		  unsigned bits, uint64_t seen_ns);

/* clock_ns() - when a timestamp was written, within half a turn of the counter of the anchor. */
uint64_t clock_ns(const struct device_clock *clock, uint64_t ticks, unsigned bits);

/* clock_between_ns() - from one timestamp to a later one, within one turn of the counter. */
uint64_t clock_between_ns(const struct device_clock *clock, uint64_t begin, uint64_t end,
			  unsigned bits);

/*
 * Intervals that were counted already, so that the union of those of several queues is counted once. Exact while they are not more than
 * INTERVALS_MAX apart pieces; then the oldest gap counts as covered.
 */
#define INTERVALS_MAX 64
struct intervals {
	unsigned count;
	struct {
		uint64_t begin_ns, end_ns;
	} items[INTERVALS_MAX]; /* apart, in order of time */
};

/* intervals_add() - Returns how much of it was not covered before. */
uint64_t intervals_add(struct intervals *intervals, uint64_t begin_ns, uint64_t end_ns);

#endif
