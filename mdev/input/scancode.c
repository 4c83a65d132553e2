// SPDX-License-Identifier: Apache-2.0
/*
 * scancode: from RFB's QEMU Extended Key Event to Linux's key codes.
 *
 * There a key is its PC/XT make code, with 0x80 added where 0xe0 goes before it. Up to F10, F11 and F12 these codes without a prefix are
 * Linux's own, which came from them. The others are a table, after the column "XT KBD" of keymaps.csv of keycodemapdb
 * (gitlab.com/keycodemap/keycodemapdb), from which viewers have theirs too.
 */
#include <linux/input-event-codes.h>

#include "mdev/input/private.h"

#define E0(code) (0x80 | (code))

static const uint8_t others[256] = {
	[0x54] = KEY_SYSRQ, /* Alt with Print */
	[0x59] = KEY_KPEQUAL,
	[0x5b] = KEY_LINEFEED,
	[0x5c] = KEY_KPJPCOMMA,
	[0x5d] = KEY_F13,
	[0x5e] = KEY_F14,
	[0x5f] = KEY_F15,
	[0x55] = KEY_F16,
	[0x70] = KEY_KATAKANAHIRAGANA,
	[0x73] = KEY_RO,
	[0x76] = KEY_ZENKAKUHANKAKU,
	[0x77] = KEY_HIRAGANA,
	[0x78] = KEY_KATAKANA,
	[0x79] = KEY_HENKAN,
	[0x7b] = KEY_MUHENKAN,
	[0x7d] = KEY_YEN,
	[0x7e] = KEY_KPCOMMA,
	[E0(0x10)] = KEY_PREVIOUSSONG,
	[E0(0x19)] = KEY_NEXTSONG,
	[E0(0x1c)] = KEY_KPENTER,
	[E0(0x1d)] = KEY_RIGHTCTRL,
	[E0(0x1e)] = KEY_MENU,
	[E0(0x20)] = KEY_MUTE,
	[E0(0x21)] = KEY_CALC,
	[E0(0x22)] = KEY_PLAYPAUSE,
	[E0(0x24)] = KEY_STOPCD,
	[E0(0x2e)] = KEY_VOLUMEDOWN,
	[E0(0x30)] = KEY_VOLUMEUP,
	[E0(0x32)] = KEY_HOMEPAGE,
	[E0(0x35)] = KEY_KPSLASH,
	[E0(0x37)] = KEY_SYSRQ,
	[E0(0x38)] = KEY_RIGHTALT,
	[E0(0x46)] = KEY_PAUSE,
	[E0(0x47)] = KEY_HOME,
	[E0(0x48)] = KEY_UP,
	[E0(0x49)] = KEY_PAGEUP,
	[E0(0x4b)] = KEY_LEFT,
	[E0(0x4d)] = KEY_RIGHT,
	[E0(0x4e)] = KEY_KPPLUSMINUS,
	[E0(0x4f)] = KEY_END,
	[E0(0x50)] = KEY_DOWN,
	[E0(0x51)] = KEY_PAGEDOWN,
	[E0(0x52)] = KEY_INSERT,
	[E0(0x53)] = KEY_DELETE,
	[E0(0x5b)] = KEY_LEFTMETA,
	[E0(0x5c)] = KEY_RIGHTMETA,
	[E0(0x5d)] = KEY_COMPOSE,
	[E0(0x5e)] = KEY_POWER,
	[E0(0x5f)] = KEY_SLEEP,
	[E0(0x63)] = KEY_WAKEUP,
	[E0(0x66)] = KEY_BOOKMARKS,
	[E0(0x67)] = KEY_REFRESH,
	[E0(0x68)] = KEY_STOP,
	[E0(0x69)] = KEY_FORWARD,
	[E0(0x6a)] = KEY_BACK,
	[E0(0x6b)] = KEY_COMPUTER,
	[E0(0x6c)] = KEY_MAIL,
};

uint16_t input_scancode_key(uint32_t xt_scancode)
{
	if (xt_scancode >= ARRAY_SIZE(others))
		return 0;
	if (others[xt_scancode])
		return others[xt_scancode];
	if ((xt_scancode <= KEY_KPDOT) || (xt_scancode >= KEY_102ND && xt_scancode <= KEY_F12))
		return (uint16_t)xt_scancode;
	return 0;
}
