// SPDX-License-Identifier: Apache-2.0
/*
 * keymap: from what a viewer typed (a keysym) back to the key that types it in the guest, by libxkbcommon.
 *
 * A virtual keyboard of the guest's layout is made once, and every key is asked what it means under each combination of modifiers and
 * locks: a table of keysyms, which is then searched backwards. So whatever X's layouts can say about levels and locks is right
 * by construction. Keymaps come from xkb-data (/usr/share/X11/xkb).
 */
#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>
#include <xkbcommon/xkbcommon-keysyms.h>
#include <xkbcommon/xkbcommon.h>

#include "mdev/input/private.h"

#define XKB_OFFSET 8 /* X counts keys from there */
/* Keys beyond are on few keyboards, and a guest's console does not know them: only where there is no other. */
#define PLAIN_LAST KEY_F12

struct input_keymap {
	uint16_t shift, level3, caps, num;
	uint32_t keysyms[INPUT_MODIFIERS][INPUT_KEYS];
};

/* What X's keycodes have for the sake of keymaps and no keyboard has. */
static bool is_made_up(uint16_t code)
{
	return code == 84 || (code >= 195 && code <= 199);
}

/* ---- making the table ------------------------------------------------------------------------------ */

static uint16_t key_of(const struct input_keymap *keymap, uint32_t keysym)
{
	for (uint16_t code = 1; code < INPUT_KEYS; code++)
		if (keymap->keysyms[0][code] == keysym)
			return code;
	return 0;
}

static void press(struct xkb_state *state, uint16_t code, bool lock)
{
	xkb_state_update_key(state, code + XKB_OFFSET, XKB_KEY_DOWN);
	if (lock)
		xkb_state_update_key(state, code + XKB_OFFSET, XKB_KEY_UP);
}

/* What each key means with @modifiers; nothing, where the layout has no key for one of them. */
static int read_combination(struct input_keymap *keymap, struct xkb_keymap *xkb, unsigned modifiers)
{
	const struct {
		unsigned bit;
		uint16_t code;
		bool lock;
	} keys[] = {
		{ INPUT_SHIFT, keymap->shift, false },
		{ INPUT_LEVEL3, keymap->level3, false },
		{ INPUT_CAPS, keymap->caps, true },
		{ INPUT_NUM, keymap->num, true },
	};
	struct xkb_state *state = xkb_state_new(xkb);
	bool is_there = true;

	if (!state)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!(modifiers & keys[i].bit))
			continue;
		if (keys[i].code)
			press(state, keys[i].code, keys[i].lock);
		else
			is_there = false;
	}
	for (uint16_t code = 1; is_there && code < INPUT_KEYS; code++)
		if (!is_made_up(code))
			keymap->keysyms[modifiers][code] =
				xkb_state_key_get_one_sym(state, code + XKB_OFFSET);
	xkb_state_unref(state);
	return 0;
}

static int fill(struct input_keymap *keymap, struct xkb_keymap *xkb)
{
	int ret = read_combination(keymap, xkb, 0);

	keymap->shift = key_of(keymap, XKB_KEY_Shift_L);
	keymap->level3 = key_of(keymap, XKB_KEY_ISO_Level3_Shift);
	keymap->caps = key_of(keymap, XKB_KEY_Caps_Lock);
	keymap->num = key_of(keymap, XKB_KEY_Num_Lock);
	for (unsigned modifiers = 1; modifiers < INPUT_MODIFIERS && !ret; modifiers++)
		ret = read_combination(keymap, xkb, modifiers);
	return ret;
}

/* "us:dvorak" into its parts, which are words of X's own alphabet: rule files are found by them. */
static bool split(const char *text, char layout[32], char variant[64])
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	size_t length = strspn(text, letters), rest;

	if (!length || length >= 32)
		return false;
	memcpy(layout, text, length);
	layout[length] = '\0';
	variant[0] = '\0';
	if (!text[length])
		return true;
	if (text[length] != ':')
		return false;
	text += length + 1;
	rest = strspn(text, letters);
	if (!rest || rest >= 64 || text[rest])
		return false;
	memcpy(variant, text, rest + 1);
	return true;
}

int input_keymap_create(const char *layout, struct input_keymap **out, struct error *e)
{
	char name[32], variant[64];
	const struct xkb_rule_names names = { .rules = "evdev",
					      .model = "pc105",
					      .layout = name,
					      .variant = variant,
					      .options = "" };
	struct xkb_context *context;
	struct xkb_keymap *xkb = NULL;
	struct input_keymap *keymap;
	int ret = -ENOMEM;

	if (!split(layout, name, variant))
		return error_set(e, EINVAL, "bad-layout", "give it as \"de\" or \"us:dvorak\"",
				 "not a keyboard layout: \"%.64s\"", layout);
	keymap = calloc(1, sizeof(*keymap));
	context = xkb_context_new(XKB_CONTEXT_NO_ENVIRONMENT_NAMES);
	if (context) {
		xkb_context_set_log_level(context, XKB_LOG_LEVEL_CRITICAL);
		xkb = xkb_keymap_new_from_names(context, &names, XKB_KEYMAP_COMPILE_NO_FLAGS);
	}
	if (keymap && xkb)
		ret = fill(keymap, xkb);
	else if (keymap)
		ret = -ENOENT;
	xkb_keymap_unref(xkb);
	xkb_context_unref(context);
	if (ret) {
		free(keymap);
		if (ret == -ENOENT)
			return error_set(e, ENOENT, "bad-layout",
					 "ls /usr/share/X11/xkb/symbols (package xkb-data)",
					 "there is no keyboard layout \"%s\"", layout);
		return error_set(e, -ret, "device-failed", NULL, "keyboard layout: out of memory");
	}
	*out = keymap;
	return 0;
}

void input_keymap_destroy(struct input_keymap *keymap)
{
	free(keymap);
}

uint16_t input_keymap_level3(const struct input_keymap *keymap)
{
	return keymap->level3;
}

/* ---- searching it -------------------------------------------------------------------------------------- */

/* Modifier keys as other keyboards call them, where the layout has another name on that key. */
static const struct {
	uint32_t keysym;
	uint16_t code;
} aliases[] = {
	{ XKB_KEY_Alt_R, KEY_RIGHTALT },       { XKB_KEY_ISO_Level3_Shift, KEY_RIGHTALT },
	{ XKB_KEY_Mode_switch, KEY_RIGHTALT }, { XKB_KEY_Meta_L, KEY_LEFTALT },
	{ XKB_KEY_Meta_R, KEY_RIGHTALT },      { XKB_KEY_Hyper_L, KEY_LEFTMETA },
	{ XKB_KEY_Hyper_R, KEY_RIGHTMETA },    { XKB_KEY_Super_L, KEY_LEFTMETA },
	{ XKB_KEY_Super_R, KEY_RIGHTMETA },    { XKB_KEY_Control_R, KEY_RIGHTCTRL },
	{ XKB_KEY_Shift_R, KEY_RIGHTSHIFT },   { XKB_KEY_Sys_Req, KEY_SYSRQ },
	{ XKB_KEY_Print, KEY_SYSRQ },	       { XKB_KEY_Break, KEY_PAUSE },
};

/* Whether it is text, or a key of the number pad, which Num Lock gives another meaning. */
static bool writes(uint32_t keysym)
{
	const uint32_t character = xkb_keysym_to_utf32(keysym);

	return (character >= 0x20 && character != 0x7f) ||
	       (keysym >= XKB_KEY_KP_Home && keysym <= XKB_KEY_KP_Delete) ||
	       (keysym >= XKB_KEY_dead_grave && keysym <= XKB_KEY_dead_hamza);
}

static struct input_stroke search(const struct input_keymap *keymap, uint32_t keysym, unsigned now)
{
	const unsigned locks = now & (INPUT_CAPS | INPUT_NUM);
	struct input_stroke best = { 0 };
	unsigned best_cost = ~0u;

	for (unsigned held = 0; held <= (INPUT_SHIFT | INPUT_LEVEL3); held++) {
		for (uint16_t code = 1; code < INPUT_KEYS; code++) {
			const unsigned cost = (unsigned)__builtin_popcount(
						      held ^ (now & (INPUT_SHIFT | INPUT_LEVEL3))) +
					      (code > PLAIN_LAST ? 8 : 0);

			if (keymap->keysyms[held | locks][code] == keysym && cost < best_cost) {
				best = (struct input_stroke){ code, held };
				best_cost = cost;
			}
		}
	}
	return best;
}

struct input_stroke input_keymap_find(const struct input_keymap *keymap, uint32_t keysym,
				      unsigned now)
{
	struct input_stroke stroke = { 0 };

	if (keysym)
		stroke = search(keymap, keysym, now);
	/* The same character has a keysym of its own and one by its number in Unicode. */
	if (keysym && !stroke.code && xkb_keysym_to_utf32(keysym))
		stroke = search(keymap, xkb_utf32_to_keysym(xkb_keysym_to_utf32(keysym)), now);
	for (size_t i = 0; i < ARRAY_SIZE(aliases) && !stroke.code; i++)
		if (aliases[i].keysym == keysym)
			stroke.code = aliases[i].code;
	/* X's keymaps give them other names. */
	if (!stroke.code && keysym >= XKB_KEY_F13 && keysym <= XKB_KEY_F24)
		stroke.code = (uint16_t)(KEY_F13 + (keysym - XKB_KEY_F13));
	if (!writes(keysym))
		stroke.modifiers = now & (INPUT_SHIFT | INPUT_LEVEL3);
	return stroke;
}
