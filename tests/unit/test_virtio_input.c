// SPDX-License-Identifier: Apache-2.0
/* A seat's devices, driven end to end: viewers at one side, a guest's driver at the other. */
#include "tests/unit/input_guest.h"

static struct input_seat *seat;
static struct input_guest keyboard, pointer, touch;
static unsigned fds_before;
static int first; /* viewers */

static int setup(void **state)
{
	const struct input_config config = { .name = "desk1" };

	fds_before = count_fds();
	assert_int_equal(input_seat_create(&config, &seat, NULL), 0);
	input_guest_open(&keyboard, seat, INPUT_KEYBOARD);
	input_guest_open(&pointer, seat, INPUT_POINTER);
	input_guest_open(&touch, seat, INPUT_TOUCH);
	return 0;
}

static int teardown(void **state)
{
	input_seat_destroy(seat);
	guest_leave(&keyboard.guest);
	guest_leave(&pointer.guest);
	guest_leave(&touch.guest);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void a_key_is_pressed_and_released(void **state)
{
	input_guest_read(&keyboard);
	input_seat_key(seat, &first, 'a', 0, true);
	input_guest_expect_key(&keyboard, KEY_A, 1);
	input_seat_key(seat, &first, 'a', 0, false);
	input_guest_expect_key(&keyboard, KEY_A, 0);
	/* The right Control key. */
	input_seat_key(seat, &first, 0xffe4, 0x9d, true);
	input_guest_expect_key(&keyboard, KEY_RIGHTCTRL, 1);
	input_seat_key(seat, &first, 0xffe4, 0x9d, false);
	input_guest_expect_key(&keyboard, KEY_RIGHTCTRL, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_key_is_pressed_and_released),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
