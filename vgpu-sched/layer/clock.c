// SPDX-License-Identifier: Apache-2.0
/* The device's clock on the CPU's, and time that is counted once (clock.h). Arithmetic only, but for one call beneath. */
#include <math.h>
#include <string.h>

#include "vgpu-sched/layer/clock.h"

#define ANEW_NS NSEC_PER_SEC

void clock_create(struct layer_device *device, bool calibrated, struct device_clock *clock)
{
	VkPhysicalDeviceProperties properties;

	device->instance->next.GetPhysicalDeviceProperties(device->physical, &properties);
	*clock = (struct device_clock){ .period_ns = (double)properties.limits.timestampPeriod,
					.calibrated = calibrated };
}

static bool ask(struct layer_device *device, struct device_clock *clock)
{
	static const VkCalibratedTimestampInfoKHR infos[] = {
		{ .sType = VK_STRUCTURE_TYPE_CALIBRATED_TIMESTAMP_INFO_KHR,
		  .timeDomain = VK_TIME_DOMAIN_DEVICE_KHR },
		{ .sType = VK_STRUCTURE_TYPE_CALIBRATED_TIMESTAMP_INFO_KHR,
		  .timeDomain = VK_TIME_DOMAIN_CLOCK_MONOTONIC_KHR },
	};
	uint64_t times[ARRAY_SIZE(infos)], deviation;

	if (!clock->calibrated ||
	    device->next.GetCalibratedTimestampsKHR(device->handle, ARRAY_SIZE(infos), infos, times,
						    &deviation) < 0)
		return false;
	clock->ticks = times[0];
	clock->at_ns = times[1];
	return true;
}

/* How long an anchor serves: it drifts, and the counter must not go half round meanwhile. */
static uint64_t good_for_ns(const struct device_clock *clock, unsigned bits)
{
	const double turn_ns = ldexp(clock->period_ns, (int)bits);

	return turn_ns / 4 < (double)ANEW_NS ? (uint64_t)(turn_ns / 4) : ANEW_NS;
}

void clock_update(struct layer_device *device, struct device_clock *clock, uint64_t end_ticks,
		  unsigned bits, uint64_t seen_ns)
{
	const bool fresh = clock->anchored && seen_ns - clock->at_ns < good_for_ns(clock, bits);

	/* Nothing ends after it was seen. */
	if (fresh && clock_ns(clock, end_ticks, bits) <= seen_ns)
		return;
	if (!ask(device, clock)) {
		clock->ticks = end_ticks;
		clock->at_ns = seen_ns;
	}
	clock->anchored = true;
}

uint64_t clock_ns(const struct device_clock *clock, uint64_t ticks, unsigned bits)
{
	const uint64_t after = sched_ticks(clock->ticks, ticks, bits);
	const uint64_t before = sched_ticks(ticks, clock->ticks, bits);

	/* Whichever way round the counter is shorter. */
	if (after <= before)
		return clock->at_ns + (uint64_t)((double)after * clock->period_ns);
	return clock->at_ns - MIN(clock->at_ns, (uint64_t)((double)before * clock->period_ns));
}

uint64_t clock_between_ns(const struct device_clock *clock, uint64_t begin, uint64_t end,
			  unsigned bits)
{
	return (uint64_t)((double)sched_ticks(begin, end, bits) * clock->period_ns);
}

uint64_t intervals_add(struct intervals *intervals, uint64_t begin_ns, uint64_t end_ns)
{
	unsigned first = 0, last;
	uint64_t fresh;

	if (end_ns <= begin_ns)
		return 0;
	fresh = end_ns - begin_ns;
	if (intervals->count == INTERVALS_MAX) { /* the oldest gap is taken for covered */
		intervals->items[1].begin_ns = intervals->items[0].begin_ns;
		intervals->count--;
		memmove(&intervals->items[0], &intervals->items[1],
			intervals->count * sizeof(intervals->items[0]));
	}
	/* What it touches, items first to last - 1, becomes one with it. */
	while (first < intervals->count && intervals->items[first].end_ns < begin_ns)
		first++;
	for (last = first; last < intervals->count && intervals->items[last].begin_ns <= end_ns;
	     last++) {
		const uint64_t from = MAX(begin_ns, intervals->items[last].begin_ns);
		const uint64_t to = MIN(end_ns, intervals->items[last].end_ns);

		fresh -= to > from ? to - from : 0;
	}
	if (last > first) {
		begin_ns = MIN(begin_ns, intervals->items[first].begin_ns);
		end_ns = MAX(end_ns, intervals->items[last - 1].end_ns);
	}
	memmove(&intervals->items[first + 1], &intervals->items[last],
		(intervals->count - last) * sizeof(intervals->items[0]));
	intervals->count = intervals->count + 1 - (last - first);
	intervals->items[first].begin_ns = begin_ns;
	intervals->items[first].end_ns = end_ns;
	return fresh;
}
