// SPDX-License-Identifier: Apache-2.0
/*
 * Typed by keysym at one side, read by libxkbcommon at the other, as a guest with that layout does: every keysym that a layout can make
 * comes out as itself, whatever the viewer holds and the guest has locked, and in the end nothing is held.
 */
#include <xkbcommon/xkbcommon-keysyms.h>
#include <xkbcommon/xkbcommon.h>

#include "tests/unit/input_guest.h"

static struct input_seat *seat;
static struct input_guest keyboard;
static struct xkb_context *context;
static struct xkb_keymap *keymap;
static struct xkb_state *guest_state;
static unsigned fds_before;
static int viewer;

static void open_layout(const char *text, const char *layout, const char *variant)
{
	const struct input_config config = { .layout = text, .pace = NSEC_PER_SEC };
	const struct xkb_rule_names names = { .rules = "evdev",
					      .model = "pc105",
					      .layout = layout,
					      .variant = variant,
					      .options = "" };

	fds_before = count_fds();
	assert_int_equal(input_seat_create(&config, &seat, NULL), 0);
	input_guest_open(&keyboard, seat, INPUT_KEYBOARD, 0);
	input_guest_read(&keyboard);
	context = xkb_context_new(XKB_CONTEXT_NO_ENVIRONMENT_NAMES);
	assert_non_null(context);
	keymap = xkb_keymap_new_from_names(context, &names, XKB_KEYMAP_COMPILE_NO_FLAGS);
	assert_non_null(keymap);
	guest_state = xkb_state_new(keymap);
	assert_non_null(guest_state);
}

static void close_layout(void)
{
	xkb_state_unref(guest_state);
	xkb_keymap_unref(keymap);
	xkb_context_unref(context);
	input_seat_destroy(seat);
	guest_leave(&keyboard.guest);
	assert_int_equal(count_fds(), fds_before);
}

/* Whether a guest's application gets a character, or a keypad's key, of it. */
static bool writes(xkb_keysym_t keysym)
{
	return xkb_keysym_to_utf32(keysym) >= 0x20 && xkb_keysym_to_utf32(keysym) != 0x7f;
}

/*
 * What the guest reads, up to the release of a key that nothing else follows for the moment: F24, typed as a mark. Returns how many keys that
 * write went down, and the last one's keysym.
 */
static unsigned read_typed(xkb_keysym_t *last)
{
	unsigned count = 0;

	input_seat_key(seat, &viewer, 0, 0x5d, true); /* F13: a mark */
	input_seat_key(seat, &viewer, 0, 0x5d, false);
	for (;;) {
		struct virtio_input_event event;
		xkb_keysym_t keysym;

		assert_true(input_guest_next(&keyboard, &event, GUEST_WAIT_MS));
		if (event.type != EV_KEY)
			continue;
		if (event.code == KEY_F13) {
			if (event.value)
				continue;
			input_guest_expect_frame_end(&keyboard);
			return count;
		}
		keysym = xkb_state_key_get_one_sym(guest_state, event.code + 8u);
		if (event.value &&
		    (writes(keysym) ||
		     (keysym >= XKB_KEY_dead_grave && keysym <= XKB_KEY_dead_hamza) ||
		     (keysym >= XKB_KEY_KP_Home && keysym <= XKB_KEY_KP_Delete))) {
			count++;
			*last = keysym;
		}
		xkb_state_update_key(guest_state, event.code + 8u,
				     event.value ? XKB_KEY_DOWN : XKB_KEY_UP);
	}
}

static void key(xkb_keysym_t keysym, bool down)
{
	input_seat_key(seat, &viewer, keysym, 0, down);
}

static void expect_typed(xkb_keysym_t keysym, const char *how)
{
	xkb_keysym_t got = 0;
	unsigned count;
	char names[2][64];

	key(keysym, true);
	key(keysym, false);
	count = read_typed(&got);
	xkb_keysym_get_name(keysym, names[0], sizeof(names[0]));
	xkb_keysym_get_name(got, names[1], sizeof(names[1]));
	/* A digit of the number pad that Num Lock would be needed for comes from the row of digits. */
	if (got != keysym && keysym >= XKB_KEY_KP_Space && keysym <= XKB_KEY_KP_9 &&
	    xkb_keysym_to_utf32(got) == xkb_keysym_to_utf32(keysym))
		return;
	if (count != 1 || got != keysym)
		fail_msg("%s %s: the guest got %u characters, the last one %s", names[0], how,
			 count, names[1]);
}

/* Levels that the layout's keys get to: some have four and no key for the upper two. */
static unsigned levels_reached(void)
{
	for (xkb_keycode_t code = 9; code < 8 + 195; code++) {
		const xkb_keysym_t *keysyms;

		if (code != 92 &&
		    xkb_keymap_key_get_syms_by_level(keymap, code, 0, 0, &keysyms) == 1 &&
		    keysyms[0] == XKB_KEY_ISO_Level3_Shift)
			return 4;
	}
	return 2;
}

/* Each keysym of the layout's first four levels. */
static unsigned expect_all(const char *how)
{
	const unsigned reached = levels_reached();
	unsigned count = 0;

	for (xkb_keycode_t code = 9; code < 8 + 248; code++) {
		xkb_level_index_t levels;

		if (code == 92 || (code >= 203 && code <= 207))
			continue;
		levels = MIN(xkb_keymap_num_levels_for_key(keymap, code, 0), reached);
		for (xkb_level_index_t level = 0; level < levels; level++) {
			const xkb_keysym_t *keysyms;

			if (xkb_keymap_key_get_syms_by_level(keymap, code, 0, level, &keysyms) !=
				    1 ||
			    !writes(keysyms[0]))
				continue;
			expect_typed(keysyms[0], how);
			count++;
		}
	}
	return count;
}

static void tap(uint16_t code)
{
	xkb_state_update_key(guest_state, code + 8u, XKB_KEY_DOWN);
	xkb_state_update_key(guest_state, code + 8u, XKB_KEY_UP);
}

static void type_layout(const char *text, const char *layout, const char *variant)
{
	xkb_keysym_t none;
	unsigned count;

	open_layout(text, layout, variant);
	count = expect_all("alone");
	assert_true(count > 90);
	key(XKB_KEY_Shift_L, true);
	assert_int_equal(expect_all("with Shift held"), count);
	key(XKB_KEY_Shift_L, false);
	key(XKB_KEY_Shift_R, true);
	key(XKB_KEY_ISO_Level3_Shift, true);
	assert_int_equal(expect_all("with the right Shift and AltGr held"), count);
	key(XKB_KEY_Shift_R, false);
	key(XKB_KEY_ISO_Level3_Shift, false);
	read_typed(&none);
	/* The guest's Caps Lock, then Num Lock too: both are on there, and it says so. */
	tap(KEY_CAPSLOCK);
	input_guest_led(&keyboard, LED_CAPSL, true);
	expect_typed('a', "with Caps Lock");
	expect_typed('A', "with Caps Lock");
	expect_typed('1', "with Caps Lock");
	tap(KEY_NUMLOCK);
	input_guest_led(&keyboard, LED_NUML, true);
	expect_typed('z', "with both locks");
	expect_typed(XKB_KEY_KP_7, "with both locks");
	expect_typed(XKB_KEY_KP_Home, "with both locks");
	/* Nothing is held. */
	assert_int_equal(xkb_state_serialize_mods(guest_state, XKB_STATE_MODS_DEPRESSED), 0);
	print_message("%s: %u characters\n", text, count);
	close_layout();
}

static void us(void **state)
{
	type_layout("us", "us", "");
}

static void de(void **state)
{
	type_layout("de", "de", "");
}

static void de_nodeadkeys(void **state)
{
	type_layout("de:nodeadkeys", "de", "nodeadkeys");
}

static void fr(void **state)
{
	type_layout("fr", "fr", "");
}

static void dvorak(void **state)
{
	type_layout("us:dvorak", "us", "dvorak");
}

static void pl_and_gb(void **state)
{
	type_layout("pl", "pl", "");
	type_layout("gb", "gb", "");
}

static void keys_that_write_nothing_are_pressed_with_what_is_held(void **state)
{
	open_layout("de", "de", "");
	/* Shift with Tab, as most viewers send it; Control with Alt and Delete. */
	key(XKB_KEY_Shift_L, true);
	input_guest_expect_key(&keyboard, KEY_LEFTSHIFT, 1);
	key(XKB_KEY_ISO_Left_Tab, true);
	input_guest_expect_key(&keyboard, KEY_TAB, 1);
	key(XKB_KEY_ISO_Left_Tab, false);
	input_guest_expect_key(&keyboard, KEY_TAB, 0);
	key(XKB_KEY_Tab, true);
	input_guest_expect_key(&keyboard, KEY_TAB, 1);
	key(XKB_KEY_Tab, false);
	input_guest_expect_key(&keyboard, KEY_TAB, 0);
	key(XKB_KEY_Alt_L, true);
	input_guest_expect_key(&keyboard, KEY_LEFTALT, 1);
	key(XKB_KEY_Alt_L, false);
	input_guest_expect_key(&keyboard, KEY_LEFTALT, 0);
	key(XKB_KEY_Shift_L, false);
	input_guest_expect_key(&keyboard, KEY_LEFTSHIFT, 0);
	/* This layout calls that key AltGr. */
	key(XKB_KEY_Alt_R, true);
	input_guest_expect_key(&keyboard, KEY_RIGHTALT, 1);
	key(XKB_KEY_Alt_R, false);
	input_guest_expect_key(&keyboard, KEY_RIGHTALT, 0);
	key(XKB_KEY_F24, true);
	input_guest_expect_key(&keyboard, KEY_F24, 1);
	key(XKB_KEY_F24, false);
	input_guest_expect_key(&keyboard, KEY_F24, 0);
	key(XKB_KEY_KP_Enter, true);
	input_guest_expect_key(&keyboard, KEY_KPENTER, 1);
	key(XKB_KEY_KP_Enter, false);
	input_guest_expect_key(&keyboard, KEY_KPENTER, 0);
	close_layout();
}

static void a_key_stays_down_whatever_its_release_is_called(void **state)
{
	open_layout("us", "us", "");
	key(XKB_KEY_Shift_L, true);
	input_guest_expect_key(&keyboard, KEY_LEFTSHIFT, 1);
	key('A', true);
	input_guest_expect_key(&keyboard, KEY_A, 1);
	key(XKB_KEY_Shift_L, false);
	input_guest_expect_key(&keyboard, KEY_LEFTSHIFT, 0);
	key('a', false);
	input_guest_expect_key(&keyboard, KEY_A, 0);
	close_layout();
}

static void what_the_layout_has_not_is_dropped(void **state)
{
	open_layout("us", "us", "");
	key(XKB_KEY_Cyrillic_ya, true);
	key(XKB_KEY_Cyrillic_ya, false);
	key(0x01000000 | 0x1f600, true);
	key(0, true);
	key(0xffffffff, true);
	/* By its number in Unicode it is the same letter. */
	key(0x01000000 | 'x', true);
	input_guest_expect_key(&keyboard, KEY_X, 1);
	close_layout();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(us),
		cmocka_unit_test(de),
		cmocka_unit_test(de_nodeadkeys),
		cmocka_unit_test(fr),
		cmocka_unit_test(dvorak),
		cmocka_unit_test(pl_and_gb),
		cmocka_unit_test(keys_that_write_nothing_are_pressed_with_what_is_held),
		cmocka_unit_test(a_key_stays_down_whatever_its_release_is_called),
		cmocka_unit_test(what_the_layout_has_not_is_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
