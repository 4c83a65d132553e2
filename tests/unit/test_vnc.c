// SPDX-License-Identifier: Apache-2.0
/* A vGPU's heads, looked at by libvncclient: a guest's driver at one side, viewers at the other. */
#include "mdev/input/input.h"
#include "tests/unit/input_guest.h"
#include "tests/unit/vnc_guest.h"

/* ---- pixels ------------------------------------------------------------------------------------- */

static void every_encoding_shows_what_the_guest_does(void **state)
{
	static const char *const encodings[] = { "raw", "hextile", "zrle", "tight", "ultra corre" };

	show(0, 1, WIDTH, HEIGHT);
	for (unsigned i = 0; i < ARRAY_SIZE(encodings); i++) {
		struct viewer viewer;

		draw_all(1, WIDTH, HEIGHT, i);
		viewer_make(&viewer, encodings[i]);
		assert_true(viewer_join(&viewer, head0, 0));
		assert_string_equal(viewer.client->desktopName, "desk, head 0");
		viewer_until(&viewer, viewer_shows(&viewer, picture(), WIDTH, HEIGHT));
		draw_all(1, WIDTH, HEIGHT, i + 1000);
		viewer_until(&viewer, viewer_shows(&viewer, picture(), WIDTH, HEIGHT));
		viewer_leave(&viewer);
	}
}

static void a_viewer_gets_the_pixel_format_that_it_asks_for(void **state)
{
	struct viewer viewer;
	const uint32_t *pixels = picture();

	show(0, 1, WIDTH, HEIGHT);
	draw_all(1, WIDTH, HEIGHT, 7);
	viewer_make(&viewer, "zrle");
	viewer.client->format.bitsPerPixel = 16;
	viewer.client->format.depth = 16;
	viewer.client->format.redMax = 31;
	viewer.client->format.greenMax = 63;
	viewer.client->format.blueMax = 31;
	viewer.client->format.redShift = 11;
	viewer.client->format.greenShift = 5;
	assert_true(viewer_join(&viewer, head0, 0));
	viewer_until(&viewer, viewer.pixels >= WIDTH * HEIGHT);
	for (unsigned i = 0; i < WIDTH * HEIGHT; i++) {
		const unsigned seen_ = ((uint16_t *)(void *)viewer.client->frameBuffer)[i];
		const uint32_t red = pixels[i] >> 16 & 0xff, green = pixels[i] >> 8 & 0xff;

		assert_int_equal(seen_ >> 11, (red * 31 + 127) / 255);
		assert_int_equal(seen_ >> 5 & 63, (green * 63 + 127) / 255);
	}
	viewer_leave(&viewer);
}

/* Counted on both sides: what is copied from the head, and what a viewer gets. */
static void only_what_is_new_is_copied_and_sent(void **state)
{
	static const char *const encodings[] = { "raw", "tight", "zrle", "hextile" };
	const struct virtio_gpu_rect small = { 30, 40, 17, 9 };

	show(0, 1, WIDTH, HEIGHT);
	draw_all(1, WIDTH, HEIGHT, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(encodings); i++) {
		struct vnc_stats before, after;
		struct viewer viewer;

		viewer_make(&viewer, encodings[i]);
		assert_true(viewer_join(&viewer, head0, 0));
		viewer_until(&viewer, viewer_shows(&viewer, picture(), WIDTH, HEIGHT));
		assert_int_equal(viewer.pixels, WIDTH * HEIGHT);
		before = stats();
		viewer.pixels = 0;
		((uint32_t *)guest_ptr(&guest, memory_gpa))[40 * WIDTH + 30] ^= 0xffffff;
		draw(1, WIDTH, small);
		viewer_until(&viewer, viewer_shows(&viewer, picture(), WIDTH, HEIGHT));
		after = stats();
		assert_int_equal(viewer.pixels, small.width * small.height);
		assert_int_equal(viewer.last_x, small.x);
		assert_int_equal(viewer.last_y, small.y);
		assert_int_equal(after.pulled_pixels - before.pulled_pixels,
				 small.width * small.height);
		assert_int_equal(after.sent_pixels - before.sent_pixels,
				 small.width * small.height);
		viewer_leave(&viewer);
		wait_for_viewers(0);
	}
}

static void nothing_happens_while_nobody_looks(void **state)
{
	struct vnc_stats before;
	struct viewer viewer;

	show(0, 1, WIDTH, HEIGHT);
	viewer_make(&viewer, "raw");
	assert_true(viewer_join(&viewer, head0, 0));
	viewer_leave(&viewer);
	wait_for_viewers(0);
	before = stats();
	for (unsigned i = 0; i < 100; i++)
		draw_all(1, WIDTH, HEIGHT, i);
	assert_int_equal(stats().pulled_pixels, before.pulled_pixels);
	/* It may still be turning over after the last one. */
	assert_in_range(stats().wakeups - before.wakeups, 0, 10);
}

static void several_viewers_see_the_same(void **state)
{
	struct viewer viewers[VNC_VIEWERS_MAX], late;

	show(0, 1, WIDTH, HEIGHT);
	for (unsigned i = 0; i < VNC_VIEWERS_MAX; i++) {
		viewer_make(&viewers[i], i % 2 ? "tight" : "zrle");
		assert_true(viewer_join(&viewers[i], head0, 0));
	}
	viewer_make(&late, "raw");
	assert_false(viewer_join(&late, head0, 0)); /* one too many */
	draw_all(1, WIDTH, HEIGHT, 3);
	for (unsigned i = 0; i < VNC_VIEWERS_MAX; i++)
		viewer_until(&viewers[i], viewer_shows(&viewers[i], picture(), WIDTH, HEIGHT));
	for (unsigned i = 0; i < VNC_VIEWERS_MAX; i++)
		viewer_leave(&viewers[i]);
}

/* ---- all heads ---------------------------------------------------------------------------------- */

static void all_heads_lie_side_by_side(void **state)
{
	const struct virtio_gpu_rect all = { 0, 0, WIDTH, HEIGHT };
	struct viewer viewer, single;
	uint32_t *left = calloc(WIDTH * HEIGHT, 4);

	assert_non_null(left);
	show(0, 1, WIDTH, HEIGHT);
	draw_all(1, WIDTH, HEIGHT, 5);
	memcpy(left, picture(), WIDTH * HEIGHT * 4);
	show(1, 2, 100, 300);
	draw_all(2, 100, 300, 6);
	viewer_make(&viewer, "tight");
	assert_true(viewer_join(&viewer, desktop, 0));
	assert_string_equal(viewer.client->desktopName, "desk");
	assert_int_equal(viewer.client->width, WIDTH + 100);
	assert_int_equal(viewer.client->height, 300);
	viewer_until(&viewer, viewer_shows_at(&viewer, left, 0, WIDTH, HEIGHT) &&
				      viewer_shows_at(&viewer, picture(), WIDTH, 100, 300));
	assert_int_equal(viewer_pixel(&viewer, 5, HEIGHT + 5), 0); /* below the lower one */
	/* A head alone at the same time. */
	viewer_make(&single, "raw");
	assert_true(viewer_join(&single, head0, 0));
	fill_memory(7);
	draw(1, WIDTH, all);
	viewer_until(&single, viewer_shows(&single, picture(), WIDTH, HEIGHT));
	viewer_until(&viewer, viewer_shows_at(&viewer, picture(), 0, WIDTH, HEIGHT));
	/* The first goes off: the second is alone at the left. */
	assert_int_equal(set_scanout(0, 0, (struct virtio_gpu_rect){ 0 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	draw_all(2, 100, 300, 8);
	viewer_until(&viewer, viewer_shows(&viewer, picture(), 100, 300));
	viewer_leave(&viewer);
	viewer_leave(&single);
	free(left);
}

/* ---- sizes -------------------------------------------------------------------------------------- */

/* The next update of a viewer of bytes: its one rectangle. */
static void expect_rect(int fd, uint16_t width, uint16_t height)
{
	const uint8_t rect[12] = { 0,
				   0,
				   0,
				   0,
				   (uint8_t)(width >> 8),
				   (uint8_t)width,
				   (uint8_t)(height >> 8),
				   (uint8_t)height };
	uint8_t header[16], *pixels = malloc(4ul * width * height);

	assert_non_null(pixels);
	assert_true(raw_get(fd, header, sizeof(header)));
	assert_int_equal(header[3], 1);
	assert_memory_equal(header + 4, rect, sizeof(rect));
	assert_true(raw_get(fd, pixels, 4ul * width * height));
	free(pixels);
}

static void the_guests_mode_is_told(void **state)
{
	struct viewer follows;
	int stays;

	show(0, 1, WIDTH, HEIGHT);
	draw_all(1, WIDTH, HEIGHT, 1);
	viewer_make(&follows, "raw");
	assert_true(viewer_join(&follows, head0, 0));
	viewer_until(&follows, viewer_shows(&follows, picture(), WIDTH, HEIGHT));
	stays = raw_join(head0);
	assert_true(raw_request(stays, true));
	expect_rect(stays, WIDTH, HEIGHT);
	show(0, 2, 640, 480);
	draw_all(2, 640, 480, 2);
	viewer_until(&follows, viewer_shows(&follows, picture(), 640, 480));
	/* Who cannot follow sees what fits, however much it asks for. */
	assert_true(raw_request(stays, true));
	expect_rect(stays, WIDTH, HEIGHT);
	show(0, 3, 64, 64);
	draw_all(3, 64, 64, 3);
	viewer_until(&follows, viewer_shows(&follows, picture(), 64, 64));
	assert_true(raw_request(stays, true));
	expect_rect(stays, 64, 64);
	viewer_leave(&follows);
	close(stays);
}

/* The mode that the guest is offered for a head. */
static struct virtio_gpu_display_one offered(unsigned head)
{
	const struct virtio_gpu_ctrl_hdr request = { .type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO };
	const struct virtio_gpu_resp_display_info *info = guest_ptr(&guest, response_gpa);

	assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	return info->pmodes[head];
}

static void a_viewer_asks_for_another_mode(void **state)
{
	struct viewer viewer, other;

	show(0, 1, WIDTH, HEIGHT);
	viewer_make(&viewer, "raw");
	assert_true(viewer_join(&viewer, head0, 0));
	viewer_make(&other, "raw");
	assert_true(viewer_join(&other, head0, 0));
	viewer_until(&viewer, viewer.client->screen.width);
	assert_true(SendExtDesktopSize(viewer.client, 720, 500));
	for (unsigned i = 0; i < VIEWER_WAIT_MS && offered(0).r.width != 720; i++)
		usleep(1000);
	assert_int_equal(offered(0).r.width, 720);
	assert_int_equal(offered(0).r.height, 500);
	assert_int_equal(offered(1).r.width, 640);
	/* The guest follows. */
	show(0, 2, 720, 500);
	draw_all(2, 720, 500, 9);
	viewer_until(&viewer, viewer_shows(&viewer, picture(), 720, 500));
	viewer_until(&other, viewer_shows(&other, picture(), 720, 500));
	/* Neither too small nor too large a one; the viewer is told, and goes on. */
	assert_true(SendExtDesktopSize(viewer.client, 100, 100));
	viewer_until(&viewer, !viewer.client->requestedResize);
	assert_true(SendExtDesktopSize(viewer.client, 5000, 3000));
	viewer_until(&viewer, !viewer.client->requestedResize);
	assert_int_equal(offered(0).r.width, 720);
	/* One that the guest does not follow: the viewer waits a while, and goes on. */
	assert_true(SendExtDesktopSize(viewer.client, 800, 600));
	viewer_until(&viewer, !viewer.client->requestedResize);
	assert_int_equal(viewer.client->width, 720);
	viewer_leave(&viewer);
	viewer_leave(&other);
}

/* A layout of several screens, as viewers with several monitors send it. */
static void heads_of_a_desktop_are_resized_one_by_one(void **state)
{
	uint8_t message[8 + 2 * 16] = { 251, 0, 0x06, 0x40, 0x02, 0x58, 2, 0 };
	uint8_t encodings[8] = { 2, 0, 0, 1, 0xff, 0xff, 0xfe, 0xcc }; /* -308 */
	uint8_t *one = message + 8, *two = message + 24;
	int fd;

	show(0, 1, 64, 64);
	show(1, 2, 64, 64);
	fd = raw_join(desktop);
	assert_true(raw_put(fd, encodings, sizeof(encodings)));
	one[3] = 1; /* its number */
	one[8] = 0x03;
	one[9] = 0x20; /* 800 x 600 */
	one[10] = 0x02;
	one[11] = 0x58;
	memcpy(two, one, 16);
	two[3] = 2;
	two[9] = 0x40; /* 832 */
	assert_true(raw_put(fd, message, sizeof(message)));
	for (unsigned i = 0; i < VIEWER_WAIT_MS && offered(1).r.width != 832; i++)
		usleep(1000);
	assert_int_equal(offered(0).r.width, 800);
	assert_int_equal(offered(1).r.width, 832);
	close(fd);
}

/* ---- cursor ------------------------------------------------------------------------------------- */

static uint32_t cursor_ask(struct virtio_gpu_update_cursor request)
{
	const struct virtio_gpu_ctrl_hdr *answer = guest_ptr(&guest, response_gpa);

	memcpy(guest_ptr(&guest, request_gpa), &request, sizeof(request));
	gpu_post(CURSOR, request_gpa, sizeof(request), 24);
	guest_kick(&guest, CURSOR);
	assert_true(guest_next_used(&guest, CURSOR, GUEST_WAIT_MS, NULL, NULL));
	return answer->type;
}

#define CURSOR_AT(X, Y, ID)                                                         \
	((struct virtio_gpu_update_cursor){                                         \
		.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR,                           \
		.pos = { .scanout_id = 0, .x = (uint32_t)(X), .y = (uint32_t)(Y) }, \
		.resource_id = (ID),                                                \
		.hot_x = 3,                                                         \
		.hot_y = 4 })

/* A red cursor with a transparent border of 16 pixels. */
static void make_cursor(uint32_t id)
{
	struct virtio_gpu_mem_entry entry = memory_entry(0, 64 * 64 * 4);
	uint32_t *pixels = guest_ptr(&guest, memory_gpa);

	for (int y = 0; y < 64; y++)
		for (int x = 0; x < 64; x++)
			pixels[y * 64 + x] =
				x < 16 || x >= 48 || y < 16 || y >= 48 ? 0 : 0xffff0000;
	assert_int_equal(create_2d(id, VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 64, 64),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(id, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	draw(id, 64, (struct virtio_gpu_rect){ 0, 0, 64, 64 });
}

static void the_cursor_is_a_viewers_to_draw(void **state)
{
	struct virtio_gpu_update_cursor move = CURSOR_AT(100, 50, 0);
	const uint8_t encodings[8] = { 2, 0, 0, 1, 0xff, 0xff, 0xff, 0x11 }; /* -239 */
	const uint8_t request[10] = { 3, 0, 0, 0, 0, 0, 0, 1, 0, 1 };
	struct viewer viewer;
	uint8_t answer[16];
	int fd;

	show(0, 1, WIDTH, HEIGHT);
	make_cursor(9);
	assert_int_equal(cursor_ask(CURSOR_AT(20, 30, 9)), VIRTIO_GPU_RESP_OK_NODATA);
	viewer_make(&viewer, "raw");
	assert_true(viewer_join(&viewer, head0, 0));
	viewer_until(&viewer, viewer.cursors);
	assert_int_equal(viewer.cursor_w, 64);
	assert_int_equal(viewer.cursor_hot_x, 3);
	assert_int_equal(viewer.cursor_hot_y, 4);
	for (int i = 0; i < 64 * 64; i++) {
		const bool inside = i % 64 >= 16 && i % 64 < 48 && i / 64 >= 16 && i / 64 < 48;
		const uint32_t *pixels = (const uint32_t *)(const void *)viewer.client->rcSource;

		assert_int_equal(viewer.client->rcMask[i], inside);
		if (inside)
			assert_int_equal(pixels[i] & 0xffffff, 0xff0000);
	}
	viewer_until(&viewer, viewer.positions);
	assert_int_equal(viewer.position_x, 20);
	move.hdr.type = VIRTIO_GPU_CMD_MOVE_CURSOR;
	cursor_ask(move);
	viewer_until(&viewer, viewer.position_x == 100 && viewer.position_y == 50);
	assert_int_equal(viewer.cursors, 1); /* it kept its shape */
	viewer_leave(&viewer);
	/* It goes: an empty one, of which libvncclient does not tell. */
	assert_int_equal(cursor_ask(CURSOR_AT(100, 50, 0)), VIRTIO_GPU_RESP_OK_NODATA);
	fd = raw_join(head0);
	assert_true(raw_put(fd, encodings, sizeof(encodings)));
	assert_true(raw_put(fd, request, sizeof(request)));
	assert_true(raw_get(fd, answer, sizeof(answer)));
	assert_memory_equal(answer, "\0\0\0\2\0\0\0\0\0\0\0\0\xff\xff\xff\x11", sizeof(answer));
	close(fd);
}

static void a_viewer_that_cannot_draw_it_sees_it_in_the_picture(void **state)
{
	struct virtio_gpu_update_cursor move = CURSOR_AT(150, 100, 0);
	struct viewer viewer;

	show(0, 1, WIDTH, HEIGHT);
	make_cursor(9);
	viewer_make(&viewer, "tight");
	viewer.client->appData.useRemoteCursor = FALSE;
	assert_true(viewer_join(&viewer, head0, 0));
	assert_int_equal(cursor_ask(CURSOR_AT(20, 30, 9)), VIRTIO_GPU_RESP_OK_NODATA);
	viewer_until(&viewer, viewer_pixel(&viewer, 20 - 3 + 20, 30 - 4 + 20) == 0xff0000);
	assert_int_equal(viewer_pixel(&viewer, 20 - 3 + 4, 30 - 4 + 4), 0); /* transparent */
	move.hdr.type = VIRTIO_GPU_CMD_MOVE_CURSOR;
	cursor_ask(move);
	viewer_until(&viewer, viewer_pixel(&viewer, 150 - 3 + 20, 100 - 4 + 20) == 0xff0000);
	viewer_until(&viewer, viewer_pixel(&viewer, 20 - 3 + 20, 30 - 4 + 20) == 0);
	viewer_leave(&viewer);
}

/* ---- input -------------------------------------------------------------------------------------- */

static struct input_seat *seat;
static struct input_guest keyboard, pointer;

static int setup_seat(void **state)
{
	unsigned before = count_fds();

	assert_int_equal(input_seat_create(&(struct input_config){ .name = "desk" }, &seat, NULL),
			 0);
	input_guest_open(&keyboard, seat, INPUT_KEYBOARD, 0);
	input_guest_open(&pointer, seat, INPUT_POINTER, 0);
	input_guest_read(&keyboard);
	input_guest_read(&pointer);
	vnc_open(&(struct vnc_config){ .seat = seat });
	fds_before = before;
	input_seat_follow(seat, guest.device);
	return 0;
}

static int teardown_seat(void **state)
{
	vnc_server_destroy(server);
	server = NULL;
	input_seat_unfollow(seat, guest.device);
	input_seat_destroy(seat);
	guest_leave(&keyboard.guest);
	guest_leave(&pointer.guest);
	return teardown(state);
}

static void keys_and_pointer_reach_the_guest(void **state)
{
	struct virtio_input_event event;
	struct viewer viewer;

	show(0, 1, WIDTH, HEIGHT);
	viewer_make(&viewer, "raw");
	assert_true(viewer_join(&viewer, head0, 0));
	viewer_until(&viewer, viewer.updates > 1);
	SendKeyEvent(viewer.client, 'a', TRUE);
	input_guest_expect_key(&keyboard, KEY_A, 1);
	SendKeyEvent(viewer.client, 'a', FALSE);
	input_guest_expect_key(&keyboard, KEY_A, 0);
	/* By the scancode, whatever the symbol; the server has offered it. */
	viewer_until(&viewer, SupportsClient2Server(viewer.client, rfbQemuEvent));
	assert_true(SendExtendedKeyEvent(viewer.client, 'y', 0x2c, TRUE));
	input_guest_expect_key(&keyboard, KEY_Z, 1);
	assert_true(SendPointerEvent(viewer.client, WIDTH / 2, HEIGHT / 2, 1));
	do
		assert_true(input_guest_next(&pointer, &event, GUEST_WAIT_MS));
	while (event.type != EV_KEY || event.code != BTN_LEFT);
	assert_int_equal(event.value, 1);
	/* It goes with a key and a button down: both come up. */
	viewer_leave(&viewer);
	input_guest_expect_key(&keyboard, KEY_Z, 0);
	do
		assert_true(input_guest_next(&pointer, &event, GUEST_WAIT_MS));
	while (event.type != EV_KEY || event.code != BTN_LEFT);
	assert_int_equal(event.value, 0);
}

static void a_ninth_button_comes_in_a_byte_of_its_own(void **state)
{
	const uint8_t encodings[8] = { 2, 0, 0, 1, 0xff, 0xff, 0xfe, 0xc4 }; /* -316 */
	const uint8_t message[7] = { 5, 0x80, 0, 10, 0, 10, 2 };
	int fd;

	show(0, 1, WIDTH, HEIGHT);
	fd = raw_join(head0);
	assert_true(raw_put(fd, encodings, sizeof(encodings)));
	assert_true(raw_put(fd, message, sizeof(message)));
	input_guest_expect_key(&keyboard, KEY_FORWARD, 1);
	close(fd);
	input_guest_expect_key(&keyboard, KEY_FORWARD, 0);
}

#define VNC_TEST(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SEAT_TEST(name) cmocka_unit_test_setup_teardown(name, setup_seat, teardown_seat)

int main(void)
{
	const struct CMUnitTest tests[] = {
		VNC_TEST(every_encoding_shows_what_the_guest_does),
		VNC_TEST(a_viewer_gets_the_pixel_format_that_it_asks_for),
		VNC_TEST(only_what_is_new_is_copied_and_sent),
		VNC_TEST(nothing_happens_while_nobody_looks),
		VNC_TEST(several_viewers_see_the_same),
		VNC_TEST(all_heads_lie_side_by_side),
		VNC_TEST(the_guests_mode_is_told),
		VNC_TEST(a_viewer_asks_for_another_mode),
		VNC_TEST(heads_of_a_desktop_are_resized_one_by_one),
		VNC_TEST(the_cursor_is_a_viewers_to_draw),
		VNC_TEST(a_viewer_that_cannot_draw_it_sees_it_in_the_picture),
		SEAT_TEST(keys_and_pointer_reach_the_guest),
		SEAT_TEST(a_ninth_button_comes_in_a_byte_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
