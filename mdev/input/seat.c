// SPDX-License-Identifier: Apache-2.0
/*
 * seat: several viewers, one keyboard, one pointer, one touch screen.
 *
 * What a viewer holds is noted for each, and how many hold a key or button for the seat: the guest hears of the first that presses
 * and of the last that lets go, or goes away. One lock is over it, held for the time that it takes to note a few events.
 */
#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdev/input/private.h"
#include "mdev/mdev.h"

#define KEY_EVENTS_A_SECOND 1000
#define BUTTONS		    3
#define WHEEL_FIRST	    3
#define WHEEL_LAST	    6

/* What coalesces with what: input_device_send(). */
enum {
	MOTION_POINTER = 1,
	MOTION_FINGER /* and up, one a finger */
};

struct viewer {
	const void *name; /* NULL: free */
	unsigned buttons;
	/* By key code: whether it is held, and for which keysym, if it was one. */
	bool held[INPUT_KEYS];
	uint32_t keysym[INPUT_KEYS];
};

struct finger {
	const void *viewer; /* NULL: free */
	unsigned number, device;
};

struct input_seat {
	char name[64];
	/* By head, or the first for all. */
	struct input_device *devices[INPUT_KINDS][INPUT_HEADS_MAX];
	struct input_keymap *keymap;

	pthread_mutex_t lock; /* all below */
	struct viewer viewers[INPUT_VIEWERS_MAX];
	unsigned key_holders[INPUT_KEYS], button_holders[BUTTONS];
	unsigned button_devices[BUTTONS]; /* on which one it was pressed */
	struct finger fingers[INPUT_FINGERS_MAX];
	uint16_t tracking_id;
	struct input_desktop desktop;
};

/* A frame that is put together. */
struct frame {
	unsigned count;
	struct input_event_plain events[16];
};

static void add(struct frame *frame, uint16_t type, uint16_t code, int32_t value)
{
	if (frame->count < ARRAY_SIZE(frame->events))
		frame->events[frame->count++] = (struct input_event_plain){ type, code, value };
}

static void send(struct input_seat *seat, enum input_kind kind, unsigned device,
		 const struct frame *frame, unsigned motion)
{
	input_device_send(seat->devices[kind][device], frame->events, frame->count, motion);
}

/* ---- viewers ------------------------------------------------------------------------------------ */

static struct viewer *viewer_find(struct input_seat *seat, const void *name)
{
	for (unsigned i = 0; i < INPUT_VIEWERS_MAX; i++)
		if (seat->viewers[i].name == name)
			return &seat->viewers[i];
	return NULL;
}

/* NULL: there are too many. */
static struct viewer *viewer_get(struct input_seat *seat, const void *name)
{
	struct viewer *viewer = name ? viewer_find(seat, name) : NULL;

	if (!viewer && name) {
		viewer = viewer_find(seat, NULL);
		if (viewer)
			*viewer = (struct viewer){ .name = name };
		else
			log_limited(LOG_LEVEL_WARN,
				    "%s: more than %u viewers: the input of one is dropped",
				    seat->name, INPUT_VIEWERS_MAX);
	}
	return viewer;
}

/* ---- keys --------------------------------------------------------------------------------------- */

static void key_event(struct input_seat *seat, uint16_t code, bool down)
{
	struct frame frame = { 0 };

	add(&frame, EV_KEY, code, down);
	send(seat, INPUT_KEYBOARD, 0, &frame, 0);
}

static void key_press(struct input_seat *seat, struct viewer *viewer, uint16_t code,
		      uint32_t keysym)
{
	if (viewer->held[code])
		return;
	viewer->held[code] = true;
	viewer->keysym[code] = keysym;
	if (!seat->key_holders[code]++)
		key_event(seat, code, true);
}

static void key_release(struct input_seat *seat, struct viewer *viewer, uint16_t code)
{
	if (!viewer->held[code])
		return;
	viewer->held[code] = false;
	viewer->keysym[code] = 0;
	if (!--seat->key_holders[code])
		key_event(seat, code, false);
}

static unsigned leds(const struct input_seat *seat)
{
	return input_device_leds(seat->devices[INPUT_KEYBOARD][0]);
}

/* Which modifiers the guest has, as far as it was told and tells. */
static unsigned modifiers_now(const struct input_seat *seat)
{
	const uint16_t level3 = input_keymap_level3(seat->keymap);
	unsigned now = 0;

	if (seat->key_holders[KEY_LEFTSHIFT] || seat->key_holders[KEY_RIGHTSHIFT])
		now |= INPUT_SHIFT;
	if (level3 && seat->key_holders[level3])
		now |= INPUT_LEVEL3;
	if (leds(seat) & 1u << LED_CAPSL)
		now |= INPUT_CAPS;
	if (leds(seat) & 1u << LED_NUML)
		now |= INPUT_NUM;
	return now;
}

/* Let go of (or take back) what is held of a modifier that is in the way; or hold one that is not (and let go). */
static void modifier_bend(struct input_seat *seat, const uint16_t *keys, unsigned count,
			  bool is_wanted, bool back)
{
	if (is_wanted) {
		key_event(seat, keys[0], !back);
		return;
	}
	for (unsigned i = 0; i < count; i++)
		if (seat->key_holders[keys[i]])
			key_event(seat, keys[i], back);
}

static void modifiers_bend(struct input_seat *seat, unsigned now, unsigned wanted, bool back)
{
	const uint16_t shifts[] = { KEY_LEFTSHIFT, KEY_RIGHTSHIFT };
	const uint16_t level3 = input_keymap_level3(seat->keymap);

	if ((now ^ wanted) & INPUT_SHIFT)
		modifier_bend(seat, shifts, ARRAY_SIZE(shifts), wanted & INPUT_SHIFT, back);
	if ((now ^ wanted) & INPUT_LEVEL3)
		modifier_bend(seat, &level3, 1, wanted & INPUT_LEVEL3, back);
}

/*
 * A key with modifiers that nobody holds, or without some that are held: it goes down and up at once, since what it would repeat as
 * is another character.
 */
static void key_tap(struct input_seat *seat, const struct input_stroke *stroke, unsigned now)
{
	modifiers_bend(seat, now, stroke->modifiers, false);
	if (seat->key_holders[stroke->code])
		key_event(seat, stroke->code, false);
	key_event(seat, stroke->code, true);
	key_event(seat, stroke->code, false);
	modifiers_bend(seat, now, stroke->modifiers, true);
}

static void keysym_down(struct input_seat *seat, struct viewer *viewer, uint32_t keysym)
{
	const unsigned now = modifiers_now(seat);
	struct input_stroke stroke;

	for (uint16_t code = 1; code < INPUT_KEYS; code++)
		if (viewer->keysym[code] == keysym)
			return;
	stroke = input_keymap_find(seat->keymap, keysym, now);
	if (!stroke.code)
		/* Which one is not for a log: it may be of a password. */
		log_limited(LOG_LEVEL_INFO,
			    "%s: a character that no key of the layout makes is dropped (--layout)",
			    seat->name);
	else if (stroke.modifiers == (now & (INPUT_SHIFT | INPUT_LEVEL3)))
		key_press(seat, viewer, stroke.code, keysym);
	else
		key_tap(seat, &stroke, now);
}

static void keysym_up(struct input_seat *seat, struct viewer *viewer, uint32_t keysym)
{
	struct input_stroke stroke;

	for (uint16_t code = 1; code < INPUT_KEYS; code++) {
		if (viewer->keysym[code] == keysym) {
			key_release(seat, viewer, code);
			return;
		}
	}
	/* "A" went down, then Shift up, and now it is "a" that goes up. */
	stroke = input_keymap_find(seat->keymap, keysym, modifiers_now(seat));
	if (stroke.code && viewer->keysym[stroke.code])
		key_release(seat, viewer, stroke.code);
}

void input_seat_key(struct input_seat *seat, const void *name, uint32_t keysym,
		    uint32_t xt_scancode, bool down)
{
	const uint16_t code = input_scancode_key(xt_scancode);
	struct viewer *viewer;

	pthread_mutex_lock(&seat->lock);
	viewer = viewer_get(seat, name);
	if (viewer && code && down)
		key_press(seat, viewer, code, 0);
	else if (viewer && code)
		key_release(seat, viewer, code);
	else if (viewer && keysym && down)
		keysym_down(seat, viewer, keysym);
	else if (viewer && keysym)
		keysym_up(seat, viewer, keysym);
	pthread_mutex_unlock(&seat->lock);
}

/* ---- pointer ------------------------------------------------------------------------------------- */

void input_seat_head(struct input_seat *seat, unsigned head, uint32_t width, uint32_t height)
{
	if (head >= INPUT_HEADS_MAX)
		return;
	pthread_mutex_lock(&seat->lock);
	seat->desktop.heads[head].width = width;
	seat->desktop.heads[head].height = height;
	pthread_mutex_unlock(&seat->lock);
}

static const struct {
	unsigned bit; /* RFB's */
	uint16_t code;
} buttons_of[BUTTONS] = {
	{ 0, BTN_LEFT },
	{ 1, BTN_MIDDLE },
	{ 2, BTN_RIGHT },
};

/* Back and forward are keys, as on keyboards that have them: see describe.c. */
static const struct {
	unsigned bit;
	uint16_t code;
} button_keys[] = {
	{ 7, KEY_BACK },
	{ 8, KEY_FORWARD },
};

static const struct {
	uint16_t code;
	int32_t step;
} wheels_of[WHEEL_LAST - WHEEL_FIRST + 1] = {
	{ REL_WHEEL, 1 },
	{ REL_WHEEL, -1 },
	{ REL_HWHEEL, -1 },
	{ REL_HWHEEL, 1 },
};

/* @frames: by device; @device: where what goes down goes down. What goes up goes up where it went down. */
static void buttons_change(struct input_seat *seat, struct viewer *viewer, unsigned buttons,
			   unsigned device, struct frame *frames)
{
	const unsigned went_down = buttons & ~viewer->buttons, went_up = viewer->buttons & ~buttons;

	for (unsigned i = 0; i < BUTTONS; i++) {
		const unsigned bit = 1u << buttons_of[i].bit;

		if (went_down & bit && !seat->button_holders[i]++) {
			seat->button_devices[i] = device;
			add(&frames[device], EV_KEY, buttons_of[i].code, 1);
		} else if (went_up & bit && !--seat->button_holders[i]) {
			add(&frames[seat->button_devices[i]], EV_KEY, buttons_of[i].code, 0);
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(button_keys); i++) {
		if (went_down & 1u << button_keys[i].bit)
			key_press(seat, viewer, button_keys[i].code, 0);
		else if (went_up & 1u << button_keys[i].bit)
			key_release(seat, viewer, button_keys[i].code);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(wheels_of); i++)
		if (went_down & 1u << (WHEEL_FIRST + i))
			add(&frames[device], EV_REL, wheels_of[i].code, wheels_of[i].step);
	viewer->buttons = buttons;
}

void input_seat_pointer(struct input_seat *seat, const void *name, unsigned head, int x, int y,
			unsigned width, unsigned height, unsigned buttons)
{
	const struct input_point point = { head, x, y, width, height };
	struct frame frames[INPUT_HEADS_MAX] = { 0 };
	struct input_place at;
	struct viewer *viewer;

	pthread_mutex_lock(&seat->lock);
	viewer = viewer_get(seat, name);
	if (viewer && input_desktop_place(&seat->desktop, &point, &at) &&
	    seat->devices[INPUT_POINTER][at.device]) {
		add(&frames[at.device], EV_ABS, ABS_X, at.x);
		add(&frames[at.device], EV_ABS, ABS_Y, at.y);
		buttons_change(seat, viewer, buttons, at.device, frames);
		for (unsigned i = 0; i < INPUT_HEADS_MAX; i++)
			if (frames[i].count)
				send(seat, INPUT_POINTER, i, &frames[i],
				     frames[i].count == 2 ? MOTION_POINTER : 0);
	}
	pthread_mutex_unlock(&seat->lock);
}

/* ---- touch --------------------------------------------------------------------------------------- */

static struct finger *finger_find(struct input_seat *seat, const void *viewer, unsigned number)
{
	for (unsigned i = 0; i < INPUT_FINGERS_MAX; i++)
		if (seat->fingers[i].viewer == viewer &&
		    (!viewer || seat->fingers[i].number == number))
			return &seat->fingers[i];
	return NULL;
}

static unsigned fingers_down(const struct input_seat *seat, unsigned device)
{
	unsigned count = 0;

	for (unsigned i = 0; i < INPUT_FINGERS_MAX; i++)
		count += seat->fingers[i].viewer && seat->fingers[i].device == device;
	return count;
}

static void finger_lift(struct input_seat *seat, struct finger *finger)
{
	struct frame frame = { 0 };

	finger->viewer = NULL;
	add(&frame, EV_ABS, ABS_MT_SLOT, (int32_t)(finger - seat->fingers));
	add(&frame, EV_ABS, ABS_MT_TRACKING_ID, -1);
	if (!fingers_down(seat, finger->device))
		add(&frame, EV_KEY, BTN_TOUCH, 0);
	send(seat, INPUT_TOUCH, finger->device, &frame, 0);
}

static void finger_put(struct input_seat *seat, struct finger *finger, const void *viewer,
		       unsigned number, const struct input_place *at)
{
	const int32_t slot = (int32_t)(finger - seat->fingers);
	const bool is_new = !finger->viewer;
	struct frame frame = { 0 };

	add(&frame, EV_ABS, ABS_MT_SLOT, slot);
	if (is_new)
		add(&frame, EV_ABS, ABS_MT_TRACKING_ID, seat->tracking_id++);
	add(&frame, EV_ABS, ABS_MT_POSITION_X, at->x);
	add(&frame, EV_ABS, ABS_MT_POSITION_Y, at->y);
	if (is_new && !fingers_down(seat, at->device))
		add(&frame, EV_KEY, BTN_TOUCH, 1);
	*finger = (struct finger){ viewer, number, at->device };
	send(seat, INPUT_TOUCH, at->device, &frame, is_new ? 0 : MOTION_FINGER + (unsigned)slot);
}

void input_seat_touch(struct input_seat *seat, const void *name, unsigned head, unsigned number,
		      int x, int y, unsigned width, unsigned height, bool down)
{
	const struct input_point point = { head, x, y, width, height };
	struct input_place at;
	struct finger *finger;
	bool is_there;

	if (!name)
		return;
	pthread_mutex_lock(&seat->lock);
	is_there = input_desktop_place(&seat->desktop, &point, &at) &&
		   seat->devices[INPUT_TOUCH][at.device];
	finger = finger_find(seat, name, number);
	/* On another screen it is another finger. */
	if (finger && (!down || (is_there && at.device != finger->device))) {
		finger_lift(seat, finger);
		finger = NULL;
	}
	if (!finger && down)
		finger = finger_find(seat, NULL, 0);
	if (finger && down && is_there)
		finger_put(seat, finger, name, number, &at);
	pthread_mutex_unlock(&seat->lock);
}

/* ---- life ------------------------------------------------------------------------------------------ */

void input_seat_viewer_gone(struct input_seat *seat, const void *name)
{
	struct frame frames[INPUT_HEADS_MAX] = { 0 };
	struct viewer *viewer;

	if (!name)
		return;
	pthread_mutex_lock(&seat->lock);
	viewer = viewer_find(seat, name);
	if (viewer) {
		for (uint16_t code = 1; code < INPUT_KEYS; code++)
			key_release(seat, viewer, code);
		buttons_change(seat, viewer, 0, 0, frames);
		for (unsigned i = 0; i < INPUT_HEADS_MAX; i++)
			if (frames[i].count)
				send(seat, INPUT_POINTER, i, &frames[i], 0);
		viewer->name = NULL;
	}
	for (unsigned i = 0; i < INPUT_FINGERS_MAX; i++)
		if (seat->fingers[i].viewer == name)
			finger_lift(seat, &seat->fingers[i]);
	pthread_mutex_unlock(&seat->lock);
}

unsigned input_seat_leds(const struct input_seat *seat)
{
	const unsigned bits = leds(seat);

	return (bits & 1u << LED_SCROLLL ? 1u : 0) | (bits & 1u << LED_NUML ? 2u : 0) |
	       (bits & 1u << LED_CAPSL ? 4u : 0);
}

struct vfio_device *input_seat_device(struct input_seat *seat, enum input_kind kind, unsigned head)
{
	struct input_device *input = head < INPUT_HEADS_MAX ? seat->devices[kind][head] : NULL;

	return input ? input_device_vfio(input) : NULL;
}

bool input_seat_is_per_head(const struct input_seat *seat)
{
	return seat->desktop.is_per_head;
}

unsigned input_seat_waiting(struct input_seat *seat)
{
	return input_device_waiting(seat->devices[INPUT_KEYBOARD][0]);
}

static void head_size(void *opaque, unsigned head, uint32_t width, uint32_t height)
{
	input_seat_head(opaque, head, width, height);
}

static const struct virtio_gpu_display_ops follow_ops = { .size = head_size };

int input_seat_follow(struct input_seat *seat, struct vfio_device *gpu)
{
	return virtio_gpu_display_add(gpu, &follow_ops, seat);
}

void input_seat_unfollow(struct input_seat *seat, struct vfio_device *gpu)
{
	virtio_gpu_display_remove(gpu, &follow_ops, seat);
}

static int devices_make(struct input_seat *seat, unsigned per_head, unsigned pace, struct error *e)
{
	int ret = 0;

	for (unsigned kind = 0; kind < INPUT_KINDS; kind++) {
		const bool is_one = kind == INPUT_KEYBOARD || !per_head;

		for (unsigned i = 0; i < (is_one ? 1 : per_head) && !ret; i++)
			ret = input_device_create(kind, is_one ? INPUT_ALL_HEADS : i, seat->name,
						  kind == INPUT_KEYBOARD ? pace : 0,
						  &seat->devices[kind][i], e);
	}
	return ret;
}

int input_seat_create(const struct input_config *config, struct input_seat **out, struct error *e)
{
	struct input_seat *seat = calloc(1, sizeof(*seat));
	int ret;

	if (!seat)
		return error_set(e, ENOMEM, "device-failed", NULL, "input: out of memory");
	pthread_mutex_init(&seat->lock, NULL);
	snprintf(seat->name, sizeof(seat->name), "%s", config->name ? config->name : "vgpu");
	seat->desktop.is_per_head = config->per_head;
	ret = input_keymap_create(config->layout ? config->layout : "us", &seat->keymap, e);
	if (!ret)
		ret = devices_make(seat, MIN(config->per_head, INPUT_HEADS_MAX),
				   config->pace ? config->pace : KEY_EVENTS_A_SECOND, e);
	if (ret) {
		input_seat_destroy(seat);
		return ret;
	}
	*out = seat;
	return 0;
}

void input_seat_destroy(struct input_seat *seat)
{
	if (!seat)
		return;
	for (unsigned kind = 0; kind < INPUT_KINDS; kind++)
		for (unsigned i = 0; i < INPUT_HEADS_MAX; i++)
			if (seat->devices[kind][i])
				vfio_device_close(input_device_vfio(seat->devices[kind][i]));
	input_keymap_destroy(seat->keymap);
	pthread_mutex_destroy(&seat->lock);
	free(seat);
}
