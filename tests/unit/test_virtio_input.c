// SPDX-License-Identifier: Apache-2.0
/* A seat's devices, driven end to end: viewers at one side, a guest's driver at the other. */
#include "tests/unit/input_guest.h"

#define XK_Shift_L   0xffe1
#define XK_Control_R 0xffe4

static struct input_seat *seat;
static struct input_guest keyboard, pointer, touch;
static unsigned fds_before;
static int first, second; /* viewers */

static void open_seat(const struct input_config *config)
{
	fds_before = count_fds();
	assert_int_equal(input_seat_create(config, &seat, NULL), 0);
	input_guest_open(&keyboard, seat, INPUT_KEYBOARD, 0);
	input_guest_open(&pointer, seat, INPUT_POINTER, 0);
	input_guest_open(&touch, seat, INPUT_TOUCH, 0);
}

static int setup(void **state)
{
	open_seat(&(struct input_config){ .name = "desk1" });
	return 0;
}

static struct input_guest *another; /* that a test has besides */

static int teardown(void **state)
{
	input_seat_destroy(seat);
	if (another)
		guest_leave(&another->guest);
	another = NULL;
	guest_leave(&keyboard.guest);
	guest_leave(&pointer.guest);
	guest_leave(&touch.guest);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

/* ---- what they say of themselves ------------------------------------------------------------------ */

/* Bytes of the configuration with this selected, as Linux's driver reads them. */
static unsigned describe(struct input_guest *input, uint8_t select, uint8_t subsel, void *data)
{
	struct guest *guest = &input->guest;
	unsigned size;

	bar_write(guest, guest->cap[VIRTIO_PCI_CAP_DEVICE_CFG], 1, select);
	bar_write(guest, guest->cap[VIRTIO_PCI_CAP_DEVICE_CFG] + 1, 1, subsel);
	size = (unsigned)device_config(guest, offsetof(struct virtio_input_config, size), 1);
	assert_in_range(size, 0, 128);
	memset(data, 0, 129);
	for (unsigned i = 0; i < size; i++)
		((uint8_t *)data)[i] = (uint8_t)device_config(
			guest, offsetof(struct virtio_input_config, u) + i, 1);
	return size;
}

static bool has_bit(struct input_guest *input, uint8_t type, unsigned code)
{
	uint8_t bits[129];
	unsigned size = describe(input, VIRTIO_INPUT_CFG_EV_BITS, type, bits);

	return code / 8 < size && bits[code / 8] & 1u << code % 8;
}

static void each_says_what_it_is(void **state)
{
	uint8_t data[129];
	struct virtio_input_devids ids;
	struct virtio_input_absinfo info;

	assert_int_equal(config_read(&keyboard.guest, 0, 4), 0x10521af4);
	assert_int_equal(config_read(&keyboard.guest, PCI_CLASS_REVISION, 4) >> 8, 0x090000);
	assert_int_equal(config_read(&pointer.guest, PCI_CLASS_REVISION, 4) >> 8, 0x090200);
	describe(&keyboard, VIRTIO_INPUT_CFG_ID_NAME, 0, data);
	assert_string_equal((char *)data, "Divvy Keyboard");
	describe(&pointer, VIRTIO_INPUT_CFG_ID_NAME, 0, data);
	assert_string_equal((char *)data, "Divvy Pointer");
	describe(&touch, VIRTIO_INPUT_CFG_ID_NAME, 0, data);
	assert_string_equal((char *)data, "Divvy Touch Screen");
	describe(&touch, VIRTIO_INPUT_CFG_ID_SERIAL, 0, data);
	assert_string_equal((char *)data, "desk1");
	assert_int_equal(describe(&touch, VIRTIO_INPUT_CFG_ID_DEVIDS, 0, data), sizeof(ids));
	memcpy(&ids, data, sizeof(ids));
	assert_int_equal(ids.bustype, BUS_VIRTUAL);
	assert_int_equal(ids.vendor, 0x1af4);

	/* udev: a keyboard has the first 31 keys; a mouse that is absolute; a touch screen. */
	for (unsigned code = KEY_ESC; code <= KEY_COMPOSE; code++)
		assert_true(has_bit(&keyboard, EV_KEY, code));
	assert_false(has_bit(&keyboard, EV_KEY, 0));
	assert_true(has_bit(&keyboard, EV_LED, LED_CAPSL));
	assert_true(has_bit(&keyboard, EV_REP, REP_DELAY));
	assert_false(has_bit(&keyboard, EV_ABS, ABS_X));
	/* And no joystick: exactly these event types, axes and buttons. */
	assert_true(has_bit(&pointer, EV_KEY, BTN_LEFT) && has_bit(&pointer, EV_KEY, BTN_RIGHT) &&
		    has_bit(&pointer, EV_KEY, BTN_MIDDLE) && has_bit(&pointer, EV_MSC, MSC_SCAN));
	for (unsigned code = 0; code < KEY_CNT; code++)
		assert_true(!has_bit(&pointer, EV_KEY, code) ||
			    (code >= BTN_LEFT && code <= BTN_MIDDLE));
	assert_false(has_bit(&pointer, EV_KEY, BTN_TOUCH) || has_bit(&pointer, EV_KEY, KEY_A));
	assert_true(has_bit(&pointer, EV_ABS, ABS_X) && has_bit(&pointer, EV_ABS, ABS_Y));
	assert_true(has_bit(&pointer, EV_REL, REL_WHEEL) && has_bit(&pointer, EV_REL, REL_HWHEEL));
	assert_int_equal(describe(&pointer, VIRTIO_INPUT_CFG_PROP_BITS, 0, data), 0);
	assert_true(has_bit(&touch, EV_KEY, BTN_TOUCH) && has_bit(&touch, EV_ABS, ABS_MT_SLOT));
	assert_int_equal(describe(&touch, VIRTIO_INPUT_CFG_PROP_BITS, 0, data), 1);
	assert_int_equal(data[0], 1u << INPUT_PROP_DIRECT);
	assert_int_equal(describe(&touch, VIRTIO_INPUT_CFG_ABS_INFO, ABS_MT_SLOT, data),
			 sizeof(info));
	memcpy(&info, data, sizeof(info));
	assert_int_equal(info.max, INPUT_FINGERS_MAX - 1);
	describe(&pointer, VIRTIO_INPUT_CFG_ABS_INFO, ABS_Y, data);
	memcpy(&info, data, sizeof(info));
	assert_int_equal(info.min, 0);
	assert_int_equal(info.max, 32767);
}

static void what_there_is_not_has_no_size(void **state)
{
	uint8_t data[129];

	for (unsigned select = 0; select < 256; select++) {
		for (unsigned subsel = 0; subsel < 256; subsel += 15) {
			const bool known = (select >= 1 && select <= 3 && !subsel) ||
					   (select >= 0x10 && select <= 0x12);

			if (!known)
				assert_int_equal(
					describe(&pointer, (uint8_t)select, (uint8_t)subsel, data),
					0);
		}
	}
	assert_int_equal(describe(&pointer, VIRTIO_INPUT_CFG_ABS_INFO, ABS_MT_SLOT, data), 0);
	/* The rest of the configuration is not the driver's. */
	bar_write(&pointer.guest, pointer.guest.cap[VIRTIO_PCI_CAP_DEVICE_CFG] + 2, 1, 77);
	assert_int_equal(device_config(&pointer.guest, 2, 1), 0);
}

/* ---- keys ------------------------------------------------------------------------------------------ */

static void a_key_is_pressed_and_released(void **state)
{
	input_guest_read(&keyboard);
	input_seat_key(seat, &first, 'a', 0, true);
	input_guest_expect_key(&keyboard, KEY_A, 1);
	/* Guests repeat by themselves: a viewer's repetition is none of a press. */
	input_seat_key(seat, &first, 'a', 0, true);
	input_seat_key(seat, &first, 'a', 0, false);
	input_guest_expect_key(&keyboard, KEY_A, 0);
	/* A key's place on the keyboard goes before what it means. */
	input_seat_key(seat, &first, 'a', 0x9d, true);
	input_guest_expect_key(&keyboard, KEY_RIGHTCTRL, 1);
	input_seat_key(seat, &first, XK_Control_R, 0x9d, false);
	input_guest_expect_key(&keyboard, KEY_RIGHTCTRL, 0);
}

static void a_key_that_two_hold_is_released_by_the_last(void **state)
{
	input_guest_read(&keyboard);
	input_seat_key(seat, &first, 0, 0x1e, true);
	input_guest_expect_key(&keyboard, KEY_A, 1);
	input_seat_key(seat, &second, 'a', 0, true);
	input_seat_key(seat, &first, 0, 0x1e, false);
	/* A release by somebody who does not hold it is none. */
	input_seat_key(seat, &first, 0, 0x1e, false);
	input_seat_key(seat, &first, 'b', 0, true);
	input_guest_expect_key(&keyboard, KEY_B, 1);
	input_seat_viewer_gone(seat, &second);
	input_guest_expect_key(&keyboard, KEY_A, 0);
	input_seat_viewer_gone(seat, &first);
	input_guest_expect_key(&keyboard, KEY_B, 0);
	input_seat_viewer_gone(seat, &first);
}

static void what_a_viewer_holds_ends_with_it(void **state)
{
	const uint16_t codes[] = { KEY_A, KEY_LEFTSHIFT, KEY_LEFTALT };

	input_guest_read(&keyboard);
	input_guest_read(&pointer);
	input_guest_read(&touch);
	input_seat_key(seat, &first, 0, 0x2a, true);
	input_seat_key(seat, &first, 0, 0x38, true);
	input_seat_key(seat, &first, 0, 0x1e, true);
	input_seat_pointer(seat, &first, 0, 0, 0, 100, 100, 1 | 4);
	input_seat_touch(seat, &first, 0, 7, 0, 0, 100, 100, true);
	for (unsigned i = 0; i < 6; i++)
		assert_true(input_guest_next(&keyboard, &(struct virtio_input_event){ 0 },
					     GUEST_WAIT_MS));
	for (unsigned i = 0; i < 5; i++)
		assert_true(input_guest_next(&pointer, &(struct virtio_input_event){ 0 },
					     GUEST_WAIT_MS));
	for (unsigned i = 0; i < 6; i++)
		assert_true(
			input_guest_next(&touch, &(struct virtio_input_event){ 0 }, GUEST_WAIT_MS));
	input_seat_viewer_gone(seat, &first);
	for (unsigned i = 0; i < 3; i++) {
		struct virtio_input_event event;
		bool found = false;

		assert_true(input_guest_next(&keyboard, &event, GUEST_WAIT_MS));
		for (unsigned j = 0; j < 3; j++)
			found |= event.type == EV_KEY && event.code == codes[j] && !event.value;
		assert_true(found);
		input_guest_expect_frame_end(&keyboard);
	}
	input_guest_expect(&pointer, EV_KEY, BTN_LEFT, 0);
	input_guest_expect(&pointer, EV_KEY, BTN_RIGHT, 0);
	input_guest_expect_frame_end(&pointer);
	input_guest_expect(&touch, EV_ABS, ABS_MT_SLOT, 0);
	input_guest_expect(&touch, EV_ABS, ABS_MT_TRACKING_ID, -1);
	input_guest_expect(&touch, EV_KEY, BTN_TOUCH, 0);
	input_guest_expect_frame_end(&touch);
}

static void leds_are_the_guests(void **state)
{
	assert_int_equal(input_seat_leds(seat), 0);
	input_guest_led(&keyboard, LED_CAPSL, true);
	assert_int_equal(input_seat_leds(seat), 4);
	input_guest_led(&keyboard, LED_NUML, true);
	input_guest_led(&keyboard, LED_SCROLLL, true);
	input_guest_led(&keyboard, LED_CAPSL, false);
	assert_int_equal(input_seat_leds(seat), 3);
	/* There is no such thing here. */
	input_guest_led(&keyboard, LED_MAIL, true);
	assert_int_equal(input_seat_leds(seat), 3);
	/* Another guest's are off. */
	input_guest_start(&keyboard);
	assert_int_equal(input_seat_leds(seat), 0);
}

static void more_viewers_than_there_is_room_for_are_not_heard(void **state)
{
	static char viewers[INPUT_VIEWERS_MAX + 1];

	input_guest_read(&keyboard);
	for (unsigned i = 0; i <= INPUT_VIEWERS_MAX; i++)
		input_seat_key(seat, &viewers[i], 'x', 0, i == INPUT_VIEWERS_MAX);
	input_seat_key(seat, &viewers[0], 'y', 0, true);
	input_guest_expect_key(&keyboard, KEY_Y, 1);
	/* One goes, one may come. */
	input_seat_viewer_gone(seat, &viewers[1]);
	input_seat_key(seat, &viewers[INPUT_VIEWERS_MAX], 'x', 0, true);
	input_guest_expect_key(&keyboard, KEY_X, 1);
}

/* More than a reader in the guest keeps is not given to it at once, and nothing is lost. */
static void a_text_that_is_typed_at_once_arrives_whole(void **state)
{
	struct virtio_input_event event;

	for (unsigned i = 0; i < 50; i++) {
		input_seat_key(seat, &first, 'a' + i % 3, 0, true);
		input_seat_key(seat, &first, 'a' + i % 3, 0, false);
	}
	assert_int_equal(input_seat_waiting(seat), 200);
	input_guest_read(&keyboard);
	for (unsigned i = 0; i < 200; i++) {
		assert_true(input_guest_next(&keyboard, &event, GUEST_WAIT_MS));
		assert_int_equal(event.type, i % 2 ? EV_SYN : EV_KEY);
	}
	assert_int_equal(input_seat_waiting(seat), 0);
}

/* ---- pointer --------------------------------------------------------------------------------------- */

/* What the guest makes of it: libinput's and X's scaling to a desktop. */
static unsigned pixel(unsigned value, unsigned size)
{
	return (unsigned)((uint64_t)value * size / 32768);
}

static void expect_at(struct input_guest *input, unsigned x, unsigned y, unsigned width,
		      unsigned height)
{
	struct virtio_input_event event;

	assert_true(input_guest_next(input, &event, GUEST_WAIT_MS));
	assert_int_equal(event.type, EV_ABS);
	assert_int_equal(event.code, ABS_X);
	assert_int_equal(pixel(event.value, width), x);
	assert_true(input_guest_next(input, &event, GUEST_WAIT_MS));
	assert_int_equal(event.code, ABS_Y);
	assert_int_equal(pixel(event.value, height), y);
}

static void the_pointer_is_where_the_viewer_points(void **state)
{
	input_guest_read(&pointer);
	/* Nobody said what heads there are: the viewer's is all. */
	for (int x = 0; x < 1280; x += 127) {
		input_seat_pointer(seat, &first, 0, x, 799, 1280, 800, 0);
		expect_at(&pointer, (unsigned)x, 799, 1280, 800);
		input_guest_expect_frame_end(&pointer);
	}
	/* The second of two heads lies right of the first; the desktop is as high as the highest. */
	input_seat_head(seat, 0, 1280, 800);
	input_seat_head(seat, 1, 1024, 768);
	for (int x = 0; x < 1024; x += 33) {
		input_seat_pointer(seat, &first, 1, x, x / 2, 1024, 768, 0);
		expect_at(&pointer, 1280 + (unsigned)x, (unsigned)x / 2, 2304, 800);
		input_guest_expect_frame_end(&pointer);
	}
	/* A viewer that shows it at half its size; one that points beyond. */
	input_seat_pointer(seat, &first, 1, 256, 192, 512, 384, 0);
	expect_at(&pointer, 1280 + 513, 385, 2304, 800);
	input_guest_expect_frame_end(&pointer);
	input_seat_pointer(seat, &first, 1, 5000, -3, 1024, 768, 0);
	expect_at(&pointer, 2303, 0, 2304, 800);
	input_guest_expect_frame_end(&pointer);
	/* The first one is unplugged. */
	input_seat_head(seat, 0, 0, 0);
	input_seat_pointer(seat, &first, 1, 1023, 767, 1024, 768, 0);
	expect_at(&pointer, 1023, 767, 1024, 768);
	input_guest_expect_frame_end(&pointer);
	/* No head, no size. */
	input_seat_pointer(seat, &first, 4, 0, 0, 10, 10, 0);
	input_seat_pointer(seat, &first, 0, 0, 0, 0, 10, 0);
	assert_false(input_guest_next(&pointer, &(struct virtio_input_event){ 0 }, 30));
}

static void four_of_the_largest_heads_have_every_pixel(void **state)
{
	input_guest_read(&pointer);
	for (unsigned head = 0; head < 4; head++)
		input_seat_head(seat, head, 4096, 2160);
	for (unsigned head = 0; head < 4; head++) {
		for (int x = 0; x < 4096; x += 273) {
			input_seat_pointer(seat, &first, head, x, x / 2, 4096, 2160, 0);
			expect_at(&pointer, head * 4096 + (unsigned)x, (unsigned)x / 2, 16384,
				  2160);
			input_guest_expect_frame_end(&pointer);
		}
	}
}

static void buttons_and_wheels(void **state)
{
	static const struct {
		unsigned bit;
		uint16_t type, code;
		int value;
	} all[] = {
		{ 0, EV_KEY, BTN_LEFT, 1 },   { 1, EV_KEY, BTN_MIDDLE, 1 },
		{ 2, EV_KEY, BTN_RIGHT, 1 },  { 3, EV_REL, REL_WHEEL, 1 },
		{ 4, EV_REL, REL_WHEEL, -1 }, { 5, EV_REL, REL_HWHEEL, -1 },
		{ 6, EV_REL, REL_HWHEEL, 1 },

	};

	input_guest_read(&pointer);
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		input_seat_pointer(seat, &first, 0, 1, 1, 10, 10, 1u << all[i].bit);
		expect_at(&pointer, 1, 1, 10, 10);
		input_guest_expect(&pointer, all[i].type, all[i].code, all[i].value);
		input_guest_expect_frame_end(&pointer);
		input_seat_pointer(seat, &first, 0, 1, 1, 10, 10, 0);
		expect_at(&pointer, 1, 1, 10, 10);
		if (all[i].type == EV_KEY)
			input_guest_expect(&pointer, EV_KEY, all[i].code, 0);
		input_guest_expect_frame_end(&pointer);
	}
	input_guest_read(&keyboard);
	for (unsigned bit = 7; bit <= 8; bit++) {
		for (unsigned down = 1; down <= 1; down--) {
			input_seat_pointer(seat, &first, 0, 1, 1, 10, 10, down << bit);
			input_guest_expect_key(&keyboard, bit == 7 ? KEY_BACK : KEY_FORWARD,
					       (int)down);
			expect_at(&pointer, 1, 1, 10, 10);
			input_guest_expect_frame_end(&pointer);
		}
	}
	/* Two hold one. */
	input_seat_pointer(seat, &first, 0, 1, 1, 10, 10, 1);
	expect_at(&pointer, 1, 1, 10, 10);
	input_guest_expect(&pointer, EV_KEY, BTN_LEFT, 1);
	input_guest_expect_frame_end(&pointer);
	input_seat_pointer(seat, &second, 0, 2, 2, 10, 10, 1);
	expect_at(&pointer, 2, 2, 10, 10);
	input_guest_expect_frame_end(&pointer);
	input_seat_pointer(seat, &first, 0, 1, 1, 10, 10, 0);
	expect_at(&pointer, 1, 1, 10, 10);
	input_guest_expect_frame_end(&pointer);
	input_seat_viewer_gone(seat, &second);
	input_guest_expect(&pointer, EV_KEY, BTN_LEFT, 0);
	input_guest_expect_frame_end(&pointer);
}

/* ---- touch ------------------------------------------------------------------------------------------ */

static void expect_finger(struct input_guest *input, int slot, int tracking_id, int button)
{
	input_guest_expect(input, EV_ABS, ABS_MT_SLOT, slot);
	input_guest_expect(input, EV_ABS, ABS_MT_TRACKING_ID, tracking_id);
	if (tracking_id >= 0) {
		input_guest_expect(input, EV_ABS, ABS_MT_POSITION_X, 16384);
		input_guest_expect(input, EV_ABS, ABS_MT_POSITION_Y, 16384);
	}
	if (button >= 0)
		input_guest_expect(input, EV_KEY, BTN_TOUCH, button);
	input_guest_expect_frame_end(input);
}

static void put_finger(const void *viewer, unsigned number, bool down)
{
	input_seat_touch(seat, viewer, 0, number, 0, 0, 1, 1, down);
}

static void fingers_have_slots(void **state)
{
	input_guest_read(&touch);
	put_finger(&first, 0, true);
	expect_finger(&touch, 0, 0, 1);
	/* The same number of another viewer is another finger. */
	put_finger(&second, 0, true);
	expect_finger(&touch, 1, 1, -1);
	put_finger(&first, 0, false);
	expect_finger(&touch, 0, -1, -1);
	/* Lifted is lifted. */
	put_finger(&first, 0, false);
	put_finger(&second, 0, false);
	expect_finger(&touch, 1, -1, 0);
	/* A move. */
	put_finger(&first, 9, true);
	expect_finger(&touch, 0, 2, 1);
	input_seat_touch(seat, &first, 0, 9, 1, 0, 2, 1, true);
	input_guest_expect(&touch, EV_ABS, ABS_MT_SLOT, 0);
	input_guest_expect(&touch, EV_ABS, ABS_MT_POSITION_X, 24576);
	input_guest_expect(&touch, EV_ABS, ABS_MT_POSITION_Y, 16384);
	input_guest_expect_frame_end(&touch);
	/* Ten at once; there is no eleventh. */
	for (unsigned i = 10; i < 19; i++) {
		put_finger(&first, i, true);
		expect_finger(&touch, (int)i - 9, (int)i - 7, -1);
	}
	put_finger(&first, 19, true);
	put_finger(&first, 10, false);
	expect_finger(&touch, 1, -1, -1);
	put_finger(&second, 19, true);
	expect_finger(&touch, 1, 12, -1);
}

/* ---- one device a head -------------------------------------------------------------------------------- */

static void each_head_can_have_its_own(void **state)
{
	struct input_guest other;
	uint8_t data[129];

	open_seat(&(struct input_config){ .per_head = 2 });
	assert_null(input_seat_device(seat, INPUT_KEYBOARD, 1));
	assert_null(input_seat_device(seat, INPUT_POINTER, 2));
	assert_null(input_seat_device(seat, INPUT_TOUCH, 9));
	input_guest_open(&other, seat, INPUT_POINTER, 1);
	describe(&pointer, VIRTIO_INPUT_CFG_ID_NAME, 0, data);
	assert_string_equal((char *)data, "Divvy Pointer 1");
	describe(&other, VIRTIO_INPUT_CFG_ID_NAME, 0, data);
	assert_string_equal((char *)data, "Divvy Pointer 2");
	input_guest_read(&pointer);
	input_guest_read(&other);
	input_guest_read(&touch);
	input_seat_head(seat, 0, 1280, 800);
	input_seat_head(seat, 1, 1024, 768);
	input_seat_pointer(seat, &first, 1, 1000, 700, 1024, 768, 1);
	expect_at(&other, 1000, 700, 1024, 768);
	input_guest_expect(&other, EV_KEY, BTN_LEFT, 1);
	input_guest_expect_frame_end(&other);
	/* A button goes up where it went down. */
	input_seat_pointer(seat, &first, 0, 1000, 700, 1280, 800, 0);
	expect_at(&pointer, 1000, 700, 1280, 800);
	input_guest_expect_frame_end(&pointer);
	input_guest_expect(&other, EV_KEY, BTN_LEFT, 0);
	input_guest_expect_frame_end(&other);
	/* A finger that gets to another screen is lifted from the one before. */
	input_seat_head(seat, 0, 0, 0);
	input_seat_touch(seat, &first, 0, 0, 0, 0, 1, 1, true);
	expect_finger(&touch, 0, 0, 1);
	input_seat_touch(seat, &first, 1, 0, 0, 0, 1, 1, true);
	expect_finger(&touch, 0, -1, 0);
	/* There is none for that head. */
	input_seat_pointer(seat, &first, 3, 0, 0, 10, 10, 1);
	input_seat_touch(seat, &first, 3, 0, 0, 0, 10, 10, true);
	another = &other;
	teardown(NULL);
}

/* ---- guests that do not do as they should ----------------------------------------------------------------- */

static void without_a_driver_nothing_waits(void **state)
{
	guest_set_status(&keyboard.guest, 0);
	input_seat_key(seat, &first, 'a', 0, true);
	input_guest_start(&keyboard);
	input_guest_read(&keyboard);
	input_seat_key(seat, &first, 'b', 0, true);
	input_guest_expect_key(&keyboard, KEY_B, 1);
	/* A reset ends what was on its way. */
	input_guest_start(&keyboard);
	input_seat_key(seat, &first, 'c', 0, true);
	input_guest_start(&keyboard);
	input_guest_read(&keyboard);
	input_seat_key(seat, &first, 'd', 0, true);
	input_guest_expect_key(&keyboard, KEY_D, 1);
}

static void a_guest_that_does_not_read_has_no_key_stuck(void **state)
{
	struct virtio_input_event event;
	unsigned down = 0, events = 0;

	/* It reads one key going down, and Shift, and no more. */
	for (unsigned i = 0; i < 4; i++)
		input_guest_post(&keyboard, i);
	guest_kick(&keyboard.guest, INPUT_EVENTS);
	input_seat_key(seat, &first, 'q', 0, true);
	input_seat_key(seat, &first, XK_Shift_L, 0, true);
	for (unsigned i = 0; i < 4; i++)
		assert_true(
			guest_next_used(&keyboard.guest, INPUT_EVENTS, GUEST_WAIT_MS, NULL, NULL));
	/* Many more than wait at most, and with an end that nobody sees coming. */
	for (unsigned i = 0; i < 5000; i++)
		input_seat_key(seat, &second, 'a' + i / 2 % 10, 0, i % 2 == 0);
	input_seat_viewer_gone(seat, &first);
	input_seat_viewer_gone(seat, &second);
	/* Now it reads. */
	input_guest_read(&keyboard);
	input_guest_expect(&keyboard, EV_KEY, KEY_Q, 0);
	input_guest_expect(&keyboard, EV_KEY, KEY_LEFTSHIFT, 0);
	input_guest_expect_frame_end(&keyboard);
	while (input_guest_next(&keyboard, &event, 200)) {
		events++;
		if (event.type == EV_KEY)
			down += event.value ? 1 : -1u;
	}
	/* Whole frames; what went down and up again while nobody looked may be lost, and these two were up already. */
	assert_in_range(events, 2, 1024);
	assert_true(down == 0 || down == -1u || down == -2u);
}

static void where_the_pointer_was_meanwhile_does_not_matter(void **state)
{
	for (unsigned i = 0; i < 100000; i++)
		input_seat_pointer(seat, &first, 0, (int)(i % 1000), 5, 1000, 1000, 0);
	input_seat_pointer(seat, &first, 0, 7, 7, 1000, 1000, 1);
	for (unsigned i = 0; i < 1000; i++)
		input_seat_pointer(seat, &first, 0, (int)i, 9, 1000, 1000, 1);
	input_guest_read(&pointer);
	expect_at(&pointer, 999, 5, 1000, 1000);
	input_guest_expect_frame_end(&pointer);
	expect_at(&pointer, 7, 7, 1000, 1000);
	input_guest_expect(&pointer, EV_KEY, BTN_LEFT, 1);
	input_guest_expect_frame_end(&pointer);
	expect_at(&pointer, 999, 9, 1000, 1000);
	input_guest_expect_frame_end(&pointer);
	assert_false(input_guest_next(&pointer, &(struct virtio_input_event){ 0 }, 30));
}

static void fingers_of_a_guest_that_does_not_read_are_lifted(void **state)
{
	for (unsigned i = 0; i < 6; i++)
		input_guest_post(&touch, i);
	guest_kick(&touch.guest, INPUT_EVENTS);
	put_finger(&first, 3, true);
	for (unsigned i = 0; i < 6; i++)
		assert_true(guest_next_used(&touch.guest, INPUT_EVENTS, GUEST_WAIT_MS, NULL, NULL));
	for (unsigned i = 0; i < 1000; i++)
		put_finger(&second, 0, i % 2 == 0);
	input_guest_read(&touch);
	input_guest_expect(&touch, EV_KEY, BTN_TOUCH, 0);
	input_guest_expect(&touch, EV_ABS, ABS_MT_SLOT, 0);
	input_guest_expect(&touch, EV_ABS, ABS_MT_TRACKING_ID, -1);
	input_guest_expect_frame_end(&touch);
}

static void a_buffer_without_room_needs_a_reset(void **state)
{
	struct guest_buffer small = { keyboard.buffers, sizeof(struct virtio_input_event) - 1,
				      true };
	struct guest_buffer other_way = { keyboard.buffers, sizeof(struct virtio_input_event),
					  false };

	guest_add(&keyboard.guest, INPUT_EVENTS, &small, 1);
	guest_kick(&keyboard.guest, INPUT_EVENTS);
	input_seat_key(seat, &first, 'a', 0, true);
	assert_true(guest_needs_reset(&keyboard.guest));
	input_guest_start(&keyboard);
	guest_add(&keyboard.guest, INPUT_EVENTS, &other_way, 1);
	guest_kick(&keyboard.guest, INPUT_EVENTS);
	input_seat_key(seat, &first, 'b', 0, true);
	assert_true(guest_needs_reset(&keyboard.guest));
	/* And it goes on. */
	for (unsigned i = 0; i < 3000; i++)
		input_seat_key(seat, &first, 'z', 0, i % 2 == 0);
	input_guest_start(&keyboard);
	input_guest_read(&keyboard);
	input_seat_key(seat, &first, 'c', 0, true);
	input_guest_expect_key(&keyboard, KEY_C, 1);
}

static void a_status_that_is_none_needs_a_reset(void **state)
{
	struct guest_buffer buffer = { keyboard.status, sizeof(struct virtio_input_event) - 1,
				       false };

	guest_add(&keyboard.guest, INPUT_STATUS, &buffer, 1);
	guest_kick(&keyboard.guest, INPUT_STATUS);
	assert_true(guest_needs_reset(&keyboard.guest));
}

static void a_ring_that_is_none_needs_a_reset(void **state)
{
	const struct guest_buffer nowhere = { UINT64_MAX, 8, true };

	guest_add(&keyboard.guest, INPUT_EVENTS, &nowhere, 1);
	input_seat_key(seat, &first, 'a', 0, true);
	assert_true(guest_needs_reset(&keyboard.guest));
}

/* ---- creation ------------------------------------------------------------------------------------------------ */

static void a_layout_that_there_is_not_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "xx", "de:xx", "de:", ":de", "../../etc", "de(nodeadkeys)", "de:nodeadkeys:x"
	};
	const unsigned before = count_fds();

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct input_config config = { .layout = bad[i] };
		struct error e = { 0 };

		seat = NULL;
		assert_true(input_seat_create(&config, &seat, &e) < 0);
		assert_null(seat);
		assert_string_equal(e.code, "bad-layout");
	}
	input_seat_destroy(NULL);
	assert_int_equal(count_fds(), before);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(each_says_what_it_is),
		TEST(what_there_is_not_has_no_size),
		TEST(a_key_is_pressed_and_released),
		TEST(a_key_that_two_hold_is_released_by_the_last),
		TEST(what_a_viewer_holds_ends_with_it),
		TEST(leds_are_the_guests),
		TEST(more_viewers_than_there_is_room_for_are_not_heard),
		TEST(a_text_that_is_typed_at_once_arrives_whole),
		TEST(the_pointer_is_where_the_viewer_points),
		TEST(four_of_the_largest_heads_have_every_pixel),
		TEST(buttons_and_wheels),
		TEST(fingers_have_slots),
		cmocka_unit_test(each_head_can_have_its_own),
		TEST(without_a_driver_nothing_waits),
		TEST(a_guest_that_does_not_read_has_no_key_stuck),
		TEST(where_the_pointer_was_meanwhile_does_not_matter),
		TEST(fingers_of_a_guest_that_does_not_read_are_lifted),
		TEST(a_buffer_without_room_needs_a_reset),
		TEST(a_status_that_is_none_needs_a_reset),
		TEST(a_ring_that_is_none_needs_a_reset),
		cmocka_unit_test(a_layout_that_there_is_not_is_refused),
	};

	return guest_run_over_both_rings(tests);
}
