/* SPDX-License-Identifier: Apache-2.0 */
/* A driver of virtio functions for the test guest, as small as can be (virtio.c). */
#ifndef TESTGUEST_VIRTIO_H
#define TESTGUEST_VIRTIO_H

#include "guest-drivers/testguest/testguest.h"
#include "guest-drivers/testguest/ring_driver.h"

#define VIRTIO_QUEUES	   2
#define VIRTIO_QUEUE_SIZE  16
#define VIRTIO_NEEDS_RESET 0x40

struct virtio_function {
	uint64_t bar;
	struct ring_driver queues[VIRTIO_QUEUES];
	uint32_t taken[VIRTIO_QUEUES]; /* interrupts of each that were waited for */
};

/* How many messages came: of the configuration, of each queue. */
extern volatile uint32_t virtio_config_interrupts, virtio_queue_interrupts[VIRTIO_QUEUES];

/* virtio_find() - the function of that device type, its BAR and messages set up. Returns 0: there is none. */
int virtio_find(struct virtio_function *function, uint32_t type);
/* virtio_start() - from reset to running with exactly @features. Returns 0: the device refuses them. */
int virtio_start(struct virtio_function *function, uint64_t features);
uint32_t virtio_status(const struct virtio_function *function);
/* virtio_request() - two buffers there and back, by the queue's interrupt. Returns the bytes written, or -1. */
int64_t virtio_request(struct virtio_function *function, unsigned queue, const void *out,
		       uint32_t out_size, void *in, uint32_t in_size);
/* virtio_notify() - if the device asked for it. */
void virtio_notify(struct virtio_function *function, unsigned queue);
/* virtio_wait() - until @count is no longer @before, for 50 seconds. Returns 0: it still is. */
int virtio_wait(volatile uint32_t *count, uint32_t before);

#endif
