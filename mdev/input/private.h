/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of mdev/input/ share. */
#ifndef MDEV_INPUT_PRIVATE_H
#define MDEV_INPUT_PRIVATE_H

#include <linux/virtio_input.h>

#include "mdev/input/input.h"
#include "mdev/virtio.h"

#define INPUT_ABS_MAX 32767 /* of every axis; the least is 0 */
/* Keys that X and Wayland know: their key codes are these plus 8, in one byte. */
#define INPUT_KEYS 248

/* ---- describe.c: what a device says of itself ---------------------------------------------------- */

/* Of which head a device is, or of all. */
#define INPUT_ALL_HEADS (~0u)

/* input_describe() - the configuration (5.8.4) as the driver finds it with this selected. */
void input_describe(enum input_kind kind, unsigned head, const char *serial, uint8_t select,
		    uint8_t subsel, struct virtio_input_config *config);

/* ---- device.c: one virtio-input device ------------------------------------------------------------- */

struct input_event_plain {
	uint16_t type, code;
	int32_t value;
};

struct input_device;

/* @pace: events a second that go to the guest, but for a burst; 0: as they come */
int input_device_create(enum input_kind kind, unsigned head, const char *serial, unsigned pace,
			struct input_device **out, struct error *e);
struct vfio_device *input_device_vfio(struct input_device *input);
/*
 * input_device_send() - one frame, to which the SYN_REPORT is added. Where the guest is not there it is dropped; where it does not
 * read, what waits is dropped instead and everything that it was told is down is released.
 * @motion: frames with the same number that is not 0 only say where something is now: the last one waiting is replaced
 */
void input_device_send(struct input_device *input, const struct input_event_plain *events,
		       unsigned count, unsigned motion);
/* input_device_waiting() - events that the guest has not taken yet. Any thread. */
unsigned input_device_waiting(struct input_device *input);
/* input_device_leds() - bits 1 << LED_*. Any thread. */
unsigned input_device_leds(const struct input_device *input);

/* ---- desktop.c: where things are -------------------------------------------------------------------- */

struct input_desktop {
	bool is_per_head;
	struct {
		uint32_t width, height;
	} heads[INPUT_HEADS_MAX];
};

/* A position as axes have it, and the device (a head's, or the first) that it is for. */
struct input_place {
	unsigned device;
	int32_t x, y;
};

/* A position as a viewer has it. */
struct input_point {
	unsigned head;
	int x, y;
	unsigned width, height;
};

/* input_desktop_place() - false: nowhere. */
bool input_desktop_place(const struct input_desktop *desktop, const struct input_point *point,
			 struct input_place *out);

/* ---- keymap.c: a layout, the other way round --------------------------------------------------------- */

/* Modifiers that decide what a key means, as bits. Locks are the guest's. */
enum {
	INPUT_SHIFT = 1,
	INPUT_LEVEL3 = 2, /* AltGr, in most layouts */
	INPUT_CAPS = 4,
	INPUT_NUM = 8,
	INPUT_MODIFIERS = 16 /* combinations of them */
};

struct input_keymap;

/* A key to press and which of INPUT_SHIFT and INPUT_LEVEL3 to hold meanwhile. @code 0: there is none. */
struct input_stroke {
	uint16_t code;
	unsigned modifiers;
};

/* input_keymap_create() - "de", "us:dvorak". Returns 0 or -errno ("bad-layout", "device-failed"). */
int input_keymap_create(const char *layout, struct input_keymap **out, struct error *e);
void input_keymap_destroy(struct input_keymap *keymap);
/*
 * input_keymap_find() - how @keysym is made while the modifiers are @now: with as few changes as possible to those that are held.
 * Of keys that write nothing (Tab, Home, Alt) only the key is looked for: what is held with them is meant.
 */
struct input_stroke input_keymap_find(const struct input_keymap *keymap, uint32_t keysym,
				      unsigned now);
/* input_keymap_level3() - the key that is held for INPUT_LEVEL3; 0: none. */
uint16_t input_keymap_level3(const struct input_keymap *keymap);

/* ---- scancode.c --------------------------------------------------------------------------------------- */

/* input_scancode_key() - Linux's key code, or 0 where there is no such key. */
uint16_t input_scancode_key(uint32_t xt_scancode);

#endif
