/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long what was issued really ran. Private to vgpu-sched/layer/.
 *
 * Each batch with command buffers (others do not run) gets two of the layer's own around them, which write timestamps, and signals a timeline semaphore
 * of its queue. Both timestamps are written once all before them is done (ALL_COMMANDS), so that waiting for semaphores
 * or for the queue's earlier work is not counted. A queue family that has no timestamps, a device that cannot reset queries from
 * the host, and protected batches are measured by the CPU's clock: from the issue, or the end of what was before, to when
 * the end was seen.
 */
#ifndef VGPU_SCHED_LAYER_MEASURE_H
#define VGPU_SCHED_LAYER_MEASURE_H

#include "vgpu-sched/layer/clock.h"
#include "vgpu-sched/layer/work.h"

#define METER_SLOTS 64 /* batches in flight on one queue */

struct meter {
	VkSemaphore timeline; /* counts batches that are done */
	VkQueryPool queries;  /* VK_NULL_HANDLE: by the CPU's clock */
	VkCommandPool pool;
	VkCommandBuffer begins[METER_SLOTS], ends[METER_SLOTS];
	unsigned timestamp_bits;
	uint64_t issued,
		done;	  /* batches; those between are in flight, in slot number % METER_SLOTS */
	uint64_t seen;	  /* what @timeline stood at */
	uint64_t done_ns; /* when the last one's end was seen */
	uint64_t expected_ns; /* how long the next one will take: the last ones' mean */
	struct {
		uint64_t issued_ns, expected_ns;
		bool timestamps, forced;
	} slots[METER_SLOTS];
};

/* A batch that is done. */
struct measured {
	bool forced; /* as it was issued */
	uint64_t expected_ns;
	uint64_t begin_ns, end_ns; /* CLOCK_MONOTONIC */
};

/*
 * meter_create() - for one queue of @family.
 * @timestamp_bits: of the family's timestamps; 0: the CPU's clock measures
 * Nothing is left when it fails.
 */
VkResult meter_create(struct layer_device *device, unsigned timestamp_bits, uint32_t family,
		      struct meter *meter);
/* What it issued is done, or the device is lost. */
void meter_destroy(struct layer_device *device, struct meter *meter);

/* meter_full() - no further batch may be issued before one is done. */
bool meter_full(const struct meter *meter);

/*
 * meter_add() - take a slot for @work, which runs and is about to be issued, and add to it what measures it.
 * Not when meter_full(). If issuing it fails, meter_remove() takes the youngest back.
 * Under the gate's lock: meter_add(), meter_remove(), meter_reap().
 */
void meter_add(struct meter *meter, struct work *work, bool forced);
void meter_remove(struct meter *meter);

/*
 * meter_reap() - the oldest batch, if it is done.
 * Returns 1 with *out filled, 0, or a negative VkResult (VK_ERROR_DEVICE_LOST).
 */
int meter_reap(struct layer_device *device, struct meter *meter, struct device_clock *clock,
	       struct measured *out);

#endif
