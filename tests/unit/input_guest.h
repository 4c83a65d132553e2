/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input_guest: a guest's driver in front of one device of a seat: buffers for events, and the events that came.
 */
#ifndef TESTS_INPUT_GUEST_H
#define TESTS_INPUT_GUEST_H

#include <linux/input.h>
#include <linux/virtio_input.h>

#include "mdev/input/input.h"
#include "tests/unit/virtio_driver.h"
#define CONFINED_VGPU
#include "tests/unit/confined.h"

#define INPUT_EVENTS  0
#define INPUT_STATUS  1
#define INPUT_BUFFERS 16

struct input_guest {
	struct guest guest;
	uint64_t buffers, status;
	unsigned posted[RING_SIZE_MAX]; /* which buffer, by head */
};

static inline void input_guest_post(struct input_guest *input, unsigned index)
{
	struct guest_buffer buffer = { input->buffers + index * sizeof(struct virtio_input_event),
				       sizeof(struct virtio_input_event), true };

	input->posted[guest_add(&input->guest, INPUT_EVENTS, &buffer, 1)] = index;
}

/* From reset to running, without a buffer for events yet. */
static inline void input_guest_start(struct input_guest *input)
{
	guest_start(&input->guest, 2, 0);
	input->buffers =
		guest_alloc(&input->guest, INPUT_BUFFERS * sizeof(struct virtio_input_event));
	input->status = guest_alloc(&input->guest, sizeof(struct virtio_input_event));
}

/* It reads: a buffer in each place of the ring. */
static inline void input_guest_read(struct input_guest *input)
{
	for (unsigned i = 0; i < INPUT_BUFFERS; i++)
		input_guest_post(input, i);
	guest_kick(&input->guest, INPUT_EVENTS);
}

static inline void input_guest_open(struct input_guest *input, struct input_seat *seat,
				    enum input_kind kind, unsigned head)
{
	guest_open(&input->guest, input_seat_device(seat, kind, head));
	input_guest_start(input);
}

/* The next event, its buffer given back. False: none within @timeout_ms. */
static inline bool input_guest_next(struct input_guest *input, struct virtio_input_event *event,
				    int timeout_ms)
{
	uint32_t length;
	uint16_t head;

	if (!guest_next_used(&input->guest, INPUT_EVENTS, timeout_ms, &head, &length))
		return false;
	assert_int_equal(length, sizeof(*event));
	memcpy(event,
	       guest_ptr(&input->guest,
			 input->buffers + input->posted[head] * sizeof(struct virtio_input_event)),
	       sizeof(*event));
	input_guest_post(input, input->posted[head]);
	guest_kick(&input->guest, INPUT_EVENTS);
	return true;
}

static inline void input_guest_expect(struct input_guest *input, uint16_t type, uint16_t code,
				      int value)
{
	struct virtio_input_event event;

	assert_true(input_guest_next(input, &event, GUEST_WAIT_MS));
	if (event.type != type || event.code != code || (int)event.value != value)
		fail_msg("event %u %u %d instead of %u %u %d", event.type, event.code,
			 (int)event.value, type, code, value);
}

#define input_guest_expect_frame_end(input) input_guest_expect(input, EV_SYN, SYN_REPORT, 0)

/* A key's frame. */
static inline void input_guest_expect_key(struct input_guest *input, uint16_t code, int value)
{
	input_guest_expect(input, EV_KEY, code, value);
	input_guest_expect_frame_end(input);
}

/* An LED of the guest's, by the status queue. */
static inline void input_guest_led(struct input_guest *input, uint16_t led, bool on)
{
	const struct virtio_input_event event = { EV_LED, led, on };
	struct guest_buffer buffer = { input->status, sizeof(event), false };

	memcpy(guest_ptr(&input->guest, input->status), &event, sizeof(event));
	guest_request(&input->guest, INPUT_STATUS, &buffer, 1);
}

#endif
