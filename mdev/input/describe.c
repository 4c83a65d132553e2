// SPDX-License-Identifier: Apache-2.0
/*
 * describe: what the three devices say of themselves (VIRTIO 1.2, 5.8.4), as tables.
 *
 * They are made so that guests find out alone what each is: udev calls the first a keyboard since it has the keys of one, the second
 * a mouse since it has absolute axes with mouse buttons and touches nothing, the third a touch screen since it is direct.
 */
#include <endian.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>

#include "mdev/input/private.h"

#define VENDOR 0x1af4 /* virtio's; products are counted from 1 */

struct answer {
	uint8_t select, subsel, size;
	const void *data;
};
#define BITS(subsel, ...)                                                                   \
	{                                                                                   \
		VIRTIO_INPUT_CFG_EV_BITS, subsel, sizeof((const uint8_t[]){ __VA_ARGS__ }), \
			(const uint8_t[])                                                   \
		{                                                                           \
			__VA_ARGS__                                                         \
		}                                                                           \
	}
#define BYTE(bit) [(bit) / 8]
#define BIT(bit)  (1u << (bit) % 8)

static const struct virtio_input_absinfo position = { .max = INPUT_ABS_MAX };
static const struct virtio_input_absinfo slots = { .max = INPUT_FINGERS_MAX - 1 };
static const struct virtio_input_absinfo fingers = { .max = 65535 };

#define AXIS(axis, info) { VIRTIO_INPUT_CFG_ABS_INFO, axis, sizeof(info), &(info) }

static const struct answer keyboard[] = {
	BITS(EV_KEY, [0] = 0xfe, [1 ... INPUT_KEYS / 8 - 1] = 0xff),
	BITS(EV_LED, BIT(LED_NUML) | BIT(LED_CAPSL) | BIT(LED_SCROLLL)),
	/* The guest repeats: no viewer's delay is in it. */
	BITS(EV_REP, BIT(REP_DELAY) | BIT(REP_PERIOD)),
};

static const struct answer pointer[] = {
	/* No more than these: an absolute device with others is a joystick to Linux, without EV_MSC too (drivers/input/joydev.c). */
	BITS(EV_KEY, BYTE(BTN_LEFT) = BIT(BTN_LEFT) | BIT(BTN_RIGHT) | BIT(BTN_MIDDLE)),
	BITS(EV_MSC, BIT(MSC_SCAN)),
	BITS(EV_REL, BYTE(REL_HWHEEL) = BIT(REL_HWHEEL), BYTE(REL_WHEEL) = BIT(REL_WHEEL)),
	BITS(EV_ABS, BIT(ABS_X) | BIT(ABS_Y)),
	AXIS(ABS_X, position),
	AXIS(ABS_Y, position),
};

static const struct answer touch[] = {
	{ VIRTIO_INPUT_CFG_PROP_BITS, 0, 1, (const uint8_t[]){ BIT(INPUT_PROP_DIRECT) } },
	BITS(EV_KEY, BYTE(BTN_TOUCH) = BIT(BTN_TOUCH)),
	BITS(EV_ABS, BYTE(ABS_MT_SLOT) = BIT(ABS_MT_SLOT),
	     BYTE(ABS_MT_POSITION_X) = BIT(ABS_MT_POSITION_X) | BIT(ABS_MT_POSITION_Y),
	     BYTE(ABS_MT_TRACKING_ID) = BIT(ABS_MT_TRACKING_ID)),
	AXIS(ABS_MT_SLOT, slots),
	AXIS(ABS_MT_POSITION_X, position),
	AXIS(ABS_MT_POSITION_Y, position),
	AXIS(ABS_MT_TRACKING_ID, fingers),
};

static const struct {
	const char *name, *title;
	const struct answer *answers;
	unsigned count;
} kinds[INPUT_KINDS] = {
	[INPUT_KEYBOARD] = { "keyboard", "Divvy Keyboard", keyboard, ARRAY_SIZE(keyboard) },
	[INPUT_POINTER] = { "pointer", "Divvy Pointer", pointer, ARRAY_SIZE(pointer) },
	[INPUT_TOUCH] = { "touch", "Divvy Touch Screen", touch, ARRAY_SIZE(touch) },
};

const char *input_kind_name(enum input_kind kind)
{
	return kinds[kind].name;
}

static void put(struct virtio_input_config *config, const void *data, size_t size)
{
	config->size = (uint8_t)MIN(size, sizeof(config->u));
	memcpy(&config->u, data, config->size);
}

void input_describe(enum input_kind kind, unsigned head, const char *serial, uint8_t select,
		    uint8_t subsel, struct virtio_input_config *config)
{
	const struct virtio_input_devids ids = {
		.bustype = htole16(BUS_VIRTUAL),
		.vendor = htole16(VENDOR),
		.product = htole16((uint16_t)(kind + 1)),
		.version = htole16(1),
	};

	char title[32];

	/* As Linux counts its outputs: the first one is Virtual-1. */
	if (head == INPUT_ALL_HEADS)
		snprintf(title, sizeof(title), "%s", kinds[kind].title);
	else
		snprintf(title, sizeof(title), "%s %u", kinds[kind].title, head + 1);
	/* 5.8.4: what there is not has size 0. */
	*config = (struct virtio_input_config){ .select = select, .subsel = subsel };
	if (select == VIRTIO_INPUT_CFG_ID_NAME && !subsel)
		put(config, title, strlen(title));
	else if (select == VIRTIO_INPUT_CFG_ID_SERIAL && !subsel)
		put(config, serial, strlen(serial));
	else if (select == VIRTIO_INPUT_CFG_ID_DEVIDS && !subsel)
		put(config, &ids, sizeof(ids));
	for (unsigned i = 0; i < kinds[kind].count; i++) {
		const struct answer *answer = &kinds[kind].answers[i];

		if (answer->select == select && answer->subsel == subsel)
			put(config, answer->data, answer->size);
	}
}
