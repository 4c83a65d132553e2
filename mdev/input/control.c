// SPDX-License-Identifier: Apache-2.0
/*
 * What a vGPU's control socket can type and point (docs/input.md): a viewer without a picture, for scripts and tests.
 *
 *	PUT /api/v1/vgpu.keys     {"keys": ["Control_L", "Alt_L", "Delete"]}: pressed in this order, released the other way round
 *	PUT /api/v1/vgpu.text     {"text": "root\n"}
 *	PUT /api/v1/vgpu.pointer  {"head": 0, "x": 100, "y": 100, "width": 1280, "height": 800, "buttons": 1}
 *	PUT /api/v1/vgpu.touch    {"head": 0, "finger": 0, "x": 100, "y": 100, "width": 1280, "height": 800, "down": true}
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <xkbcommon/xkbcommon.h>
#include <xkbcommon/xkbcommon-keysyms.h>

#include "mdev/input/private.h"

#define KEYS_MAX 16
/* All of it waits at once, if need be: each with another level's modifiers, and a line's end. */
#define TEXT_MAX 64

static struct control_reply refuse(unsigned status, int err, const char *code, const char *text)
{
	struct error e = { 0 };

	error_set(&e, err, code, "docs/input.md has the resources", "%s", text);
	return control_refuse(status, &e);
}

static const struct control_reply done = { .status = 204 };

/* One of those who hold something at @seat. */
static const void *as_viewer(struct input_seat *seat)
{
	return seat;
}

static struct control_reply keys(struct input_seat *seat, json_t *body)
{
	const json_t *names = json_object_get(body, "keys");
	const size_t count = json_array_size(names);
	uint32_t keysyms[KEYS_MAX];

	if (json_object_size(body) != 1 || !count || count > KEYS_MAX)
		return refuse(400, EINVAL, "bad-request",
			      "the body is not {\"keys\": [NAME, ...]}, of 1 to 16 keys");
	for (size_t i = 0; i < count; i++) {
		const char *name = json_string_value(json_array_get(names, i));

		keysyms[i] =
			name ? xkb_keysym_from_name(name, XKB_KEYSYM_NO_FLAGS) : XKB_KEY_NoSymbol;
		if (keysyms[i] == XKB_KEY_NoSymbol)
			return refuse(400, EINVAL, "bad-key",
				      "a key that X11 has no keysym of that name for");
	}
	for (size_t i = 0; i < count; i++)
		input_seat_key(seat, as_viewer(seat), keysyms[i], 0, true);
	for (size_t i = count; i > 0; i--)
		input_seat_key(seat, as_viewer(seat), keysyms[i - 1], 0, false);
	return done;
}

/* The character at *text as a keysym, and *text behind it. jansson has judged it to be UTF-8. */
static uint32_t next_keysym(const char **text)
{
	const uint8_t *at = (const uint8_t *)*text;
	uint32_t character = *at++;
	unsigned more = character >= 0xf0 ? 3 : character >= 0xe0 ? 2 : character >= 0xc0 ? 1 : 0;

	if (more)
		character &= 0x3fu >> more;
	for (; more && *at; more--)
		character = character << 6 | (*at++ & 0x3f);
	*text = (const char *)at;
	return character == '\n' ? XKB_KEY_Return : xkb_utf32_to_keysym(character);
}

static struct control_reply text(struct input_seat *seat, json_t *body)
{
	const char *characters = json_string_value(json_object_get(body, "text"));
	unsigned count = 0;

	for (const char *at = characters; at && *at && count <= TEXT_MAX; count++)
		next_keysym(&at);
	if (json_object_size(body) != 1 || !count || count > TEXT_MAX)
		return refuse(400, EINVAL, "bad-request",
			      "the body is not {\"text\": \"...\"}, of 1 to 64 characters");
	if (input_seat_waiting(seat))
		return refuse(409, EAGAIN, "not-read",
			      "the guest has not read what was typed before");
	while (*characters) {
		const uint32_t keysym = next_keysym(&characters);

		input_seat_key(seat, as_viewer(seat), keysym, 0, true);
		input_seat_key(seat, as_viewer(seat), keysym, 0, false);
	}
	return done;
}

static bool is_place(json_int_t head, json_int_t x, json_int_t y, json_int_t width,
		     json_int_t height)
{
	return head >= 0 && head < INPUT_HEADS_MAX && width > 0 && width <= USHRT_MAX &&
	       height > 0 && height <= USHRT_MAX && x >= 0 && x < width && y >= 0 && y < height;
}

static struct control_reply pointer(struct input_seat *seat, json_t *body)
{
	json_int_t head, x, y, width, height, buttons;

	if (json_unpack(body, "{s:I, s:I, s:I, s:I, s:I, s:I !}", "head", &head, "x", &x, "y", &y,
			"width", &width, "height", &height, "buttons", &buttons) ||
	    !is_place(head, x, y, width, height) || buttons < 0 || buttons > 0x1ff)
		return refuse(
			400, EINVAL, "bad-request",
			"the body is not {\"head\": N, \"x\": N, \"y\": N, \"width\": N, \"height\": N, \"buttons\": N}, inside of the head");
	input_seat_pointer(seat, as_viewer(seat), (unsigned)head, (int)x, (int)y, (unsigned)width,
			   (unsigned)height, (unsigned)buttons);
	return done;
}

static struct control_reply touch(struct input_seat *seat, json_t *body)
{
	json_int_t head, finger, x, y, width, height;
	int down;

	if (json_unpack(body, "{s:I, s:I, s:I, s:I, s:I, s:I, s:b !}", "head", &head, "finger",
			&finger, "x", &x, "y", &y, "width", &width, "height", &height, "down",
			&down) ||
	    !is_place(head, x, y, width, height) || finger < 0 || finger > USHRT_MAX)
		return refuse(
			400, EINVAL, "bad-request",
			"the body is not {\"head\": N, \"finger\": N, \"x\": N, \"y\": N, \"width\": N, \"height\": N, \"down\": BOOLEAN}, "
			"inside of the head");
	input_seat_touch(seat, as_viewer(seat), (unsigned)head, (unsigned)finger, (int)x, (int)y,
			 (unsigned)width, (unsigned)height, down);
	return done;
}

static const struct {
	const char *name;
	struct control_reply (*run)(struct input_seat *seat, json_t *body);
} resources[] = {
	{ "keys", keys },
	{ "text", text },
	{ "pointer", pointer },
	{ "touch", touch },
};

bool input_control_answer(struct input_seat *seat, const char *method, const char *resource,
			  const char *body, size_t size, struct control_reply *reply)
{
	for (size_t i = 0; i < ARRAY_SIZE(resources); i++) {
		json_t *json;

		if (strcmp(resource, resources[i].name) != 0)
			continue;
		if (strcmp(method, "PUT") != 0) {
			*reply = refuse(405, EINVAL, "bad-method",
					"that is not how it is asked for");
			reply->allow = "PUT";
			return true;
		}
		if (!seat) {
			*reply = refuse(404, ENOENT, "no-input",
					"this vGPU has no keyboard and no pointer (--input)");
			return true;
		}
		json = json_loadb(body, size, JSON_REJECT_DUPLICATES, NULL);
		*reply = json_is_object(json)
				 ? resources[i].run(seat, json)
				 : refuse(400, EINVAL, "bad-request", "the body is no JSON object");
		json_decref(json);
		return true;
	}
	return false;
}
