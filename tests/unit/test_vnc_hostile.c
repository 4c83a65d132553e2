// SPDX-License-Identifier: Apache-2.0
/*
 * Viewers that stall, flood, lie and go in the middle of a frame. What counts each time: the guest goes on, another viewer sees
 * what it draws, and nothing is left when they are gone.
 */
#include <dirent.h>

#include "tests/unit/vnc_guest.h"

static struct viewer witness;
static uint32_t seed;

/* The guest draws, and an ordinary viewer sees it. */
static void all_is_well(void)
{
	draw_all(1, WIDTH, HEIGHT, ++seed);
	viewer_until(&witness, viewer_shows(&witness, picture(), WIDTH, HEIGHT));
}

static int setup_impatient(void **state)
{
	vnc_open(&(struct vnc_config){ .stall_ms = 300, .handshake_ms = 5000 });
	return 0;
}

static int setup_witness(void **state)
{
	setup(state);
	show(0, 1, WIDTH, HEIGHT);
	viewer_make(&witness, "zrle");
	assert_true(viewer_join(&witness, head0, 0));
	all_is_well();
	return 0;
}

static int teardown_witness(void **state)
{
	viewer_leave(&witness);
	return teardown(state);
}

static unsigned count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* 0 under a sanitizer, which keeps what was freed. */
static size_t resident_kib(void)
{
	char line[128];
	size_t kib = 0;
	FILE *status = fopen("/proc/self/status", "re");

	assert_non_null(status);
	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "VmRSS: %zu", &kib) == 1)
			break;
	fclose(status);
#ifdef __SANITIZE_ADDRESS__
	kib = 0;
#endif
	return kib;
}

/* ---- slow --------------------------------------------------------------------------------------- */

static void one_that_does_not_read_holds_nobody(void **state)
{
	const uint64_t before = stats().sent_pixels;
	int stalled = raw_join(head0);
	uint64_t sent;

	/* Asks for one frame after the other, and takes none of them. */
	for (unsigned i = 0; i < 100; i++)
		assert_true(raw_request(stalled, true));
	for (unsigned i = 0; i < 20; i++)
		all_is_well();
	sent = stats().sent_pixels - before;
	/* What it was sent is what the kernel took, and the band on top; never a hundred frames. */
	assert_in_range(sent, 20ul * WIDTH * HEIGHT, 30ul * WIDTH * HEIGHT);
	close(stalled);
	wait_for_viewers(1);
	all_is_well();
}

static void one_that_goes_in_the_middle_of_a_frame_is_gone(void **state)
{
	for (unsigned i = 0; i < 30; i++) {
		uint8_t some[1000];
		int fd = raw_join(head0);

		assert_true(raw_request(fd, true));
		if (i % 3)
			assert_true(raw_get(fd, some, i % 3 == 1 ? 4 : sizeof(some)));
		close(fd);
	}
	wait_for_viewers(1);
	all_is_well();
}

static void those_who_say_nothing_lock_nobody_out(void **state)
{
	int fds[3 * VNC_HANDSHAKES_MAX];
	struct viewer viewer;

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = raw_connect(head0, 0);
	viewer_make(&viewer, "raw");
	assert_true(viewer_join(&viewer, head0, 0));
	viewer_leave(&viewer);
	/* The oldest ones were hung up on. */
	assert_true(raw_ended(fds[0]));
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	all_is_well();
}

/* A message byte by byte is a message. */
static void a_message_may_come_in_pieces(void **state)
{
	const uint8_t request[10] = { 3, 0, 0, 0, 0, 0, 0, 1, 0, 1 };
	uint8_t answer[4 + 12 + 4];
	int fd = raw_join(head0);

	for (unsigned i = 0; i < sizeof(request); i++) {
		assert_true(raw_put(fd, &request[i], 1));
		if (i % 4 == 0)
			all_is_well();
	}
	assert_true(raw_get(fd, answer, sizeof(answer)));
	assert_int_equal(answer[3], 1);
	close(fd);
}

static void one_that_stalls_for_long_is_dropped(void **state)
{
	int stalled, silent;

	show(0, 1, 640, 480);
	stalled = raw_join(head0);
	assert_true(raw_request(stalled, true));
	for (unsigned i = 0; i < VIEWER_WAIT_MS && !stats().updates; i++)
		usleep(1000);
	assert_int_equal(stats().updates, 1);
	wait_for_viewers(0);
	silent = raw_connect(head0, 0);
	assert_true(raw_ended(silent));
	close(stalled);
	close(silent);
}

/* ---- many --------------------------------------------------------------------------------------- */

static void floods_of_messages_leave_room_for_others(void **state)
{
	static const uint8_t format[20] = {
		0, 0, 0, 0, 16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0
	};
	static const uint8_t encodings[12] = { 2, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 7 };
	static const uint8_t key[8] = { 4, 1, 0, 0, 0, 0, 0, 'a' },
			     pointer[6] = { 5, 1, 0, 9, 0, 9 };
	static const uint8_t request[10] = { 3, 0, 0, 0, 0, 0, 1, 0, 1, 0 };
	static const struct {
		const uint8_t *message;
		size_t size;
	} floods[] = {
		{ format, 20 }, { encodings, 12 }, { key, 8 }, { pointer, 6 }, { request, 10 }
	};
	static uint8_t many[64 * KIB];

	for (unsigned i = 0; i < ARRAY_SIZE(floods); i++) {
		const size_t size = floods[i].size;
		int fd = raw_join(head0);
		size_t sent = 0;

		for (size_t at = 0; at + size <= sizeof(many); at += size)
			memcpy(many + at, floods[i].message, size);
		for (unsigned k = 0; k < 50; k++) {
			ssize_t done = send(fd, many, sizeof(many) / size * size,
					    MSG_DONTWAIT | MSG_NOSIGNAL);

			sent += done > 0 ? (size_t)done : 0;
			if (done > 0 && (size_t)done % size)
				break; /* it would not be a message's border any more */
			if (k % 10 == 0)
				all_is_well();
		}
		assert_true(sent > 0);
		all_is_well();
		close(fd);
	}
	wait_for_viewers(1);
}

static void fifty_viewers_leave_nothing(void **state)
{
	unsigned fds, threads;
	size_t kib;

	for (unsigned round = 0; round < 2; round++) {
		/* The first round is for what libraries keep. */
		fds = count_fds();
		threads = count_threads();
		kib = resident_kib();
		for (unsigned i = 0; i < 50; i++) {
			struct viewer viewer;

			viewer_make(&viewer, i % 2 ? "tight" : "zrle");
			assert_true(viewer_join(&viewer, i % 3 ? head0 : desktop, 0));
			if (i % 5)
				viewer_until(&viewer, viewer.updates > 0);
			viewer_leave(&viewer);
		}
		wait_for_viewers(1);
	}
	all_is_well();
	assert_int_equal(count_fds(), fds);
	assert_int_equal(count_threads(), threads);
	/* Less than one viewer's buffers. */
	assert_in_range(resident_kib(), 0, kib + 1024);
}

/* ---- wrong -------------------------------------------------------------------------------------- */

static void lies_end_the_connection(void **state)
{
	static const struct {
		const char *what;
		uint8_t bytes[32];
		size_t size;
	} lies[] = {
		{ "no such message", { 77 }, 1 },
		{ "continuous updates, not offered", { 150, 1 }, 10 },
		{ "file transfer", { 7, 1 }, 12 },
		{ "a scale", { 8, 2, 0, 0 }, 4 },
		{ "text chat", { 11, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff }, 8 },
		{ "a desktop size, not offered", { 251, 0, 4, 0, 3, 0, 0, 0 }, 8 },
		{ "an extended key, not offered", { 255, 0, 0, 1 }, 12 },
		{ "QEMU's audio", { 255, 1, 0, 0 }, 4 },
		{ "65535 encodings", { 2, 0, 0xff, 0xff }, 4 },
		{ "a clipboard of 4 GiB", { 6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff }, 8 },
		{ "24 bits a pixel",
		  { 0, 0, 0, 0, 24, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0 },
		  20 },
		{ "no bits a pixel",
		  { 0, 0, 0, 0, 0, 0, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0 },
		  20 },
		{ "a colour map",
		  { 0, 0, 0, 0, 8, 8, 0, 0, 0, 255, 0, 255, 0, 255, 16, 8, 0 },
		  20 },
		{ "no red", { 0, 0, 0, 0, 32, 24, 0, 1, 0, 0, 0, 255, 0, 255, 16, 8, 0 }, 20 },
		{ "a maximum that is no mask",
		  { 0, 0, 0, 0, 32, 24, 0, 1, 0, 200, 0, 255, 0, 255, 16, 8, 0 },
		  20 },
		{ "a shift beyond",
		  { 0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 255, 8, 0 },
		  20 },
		{ "a colour that does not fit",
		  { 0, 0, 0, 0, 16, 16, 0, 1, 0, 255, 0, 63, 0, 31, 11, 5, 0 },
		  20 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		int fd = raw_join(head0);

		assert_true(raw_put(fd, lies[i].bytes, lies[i].size));
		if (!raw_ended(fd))
			fail_msg("%s is taken", lies[i].what);
		close(fd);
		all_is_well();
	}
}

static void lies_before_it_is_let_in_end_it_too(void **state)
{
	static const struct {
		const char *what, *bytes;
		size_t size;
	} lies[] = {
		{ "no version", "XXX 003.008\n", 12 },
		{ "another protocol", "RFB 004.000\n", 12 },
		{ "no such security", "RFB 003.008\n\2", 13 },
		{ "none at all", "RFB 003.008\n\0", 13 },
		{ "TLS where there is none", "\x16\3\1\0\5\1\0\0\1\0", 10 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		int fd = raw_connect(head0, 0);

		assert_true(raw_put(fd, lies[i].bytes, lies[i].size));
		if (!raw_ended(fd))
			fail_msg("%s is taken", lies[i].what);
		close(fd);
	}
	all_is_well();
}

/* Whatever the sizes: nothing is sent that is not on the screen. */
static void requests_beyond_the_screen_are_cut(void **state)
{
	static const uint8_t requests[][10] = {
		{ 3, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		{ 3, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
		{ 3, 0, 0x01, 0x3f, 0, 0xc7, 0xff, 0xff, 0xff, 0xff },
	};
	uint8_t answer[4 + 12 + 4];
	int fd = raw_join(head0);

	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
		assert_true(raw_put(fd, requests[i], sizeof(requests[i])));
	assert_true(raw_get(fd, answer, sizeof(answer)));
	assert_memory_equal(answer, "\0\0\0\1\1\x3f\0\xc7\0\1\0\1", 12);
	close(fd);
	all_is_well();
}

/* A size changes while a viewer has half of a frame that it was promised. */
static void a_frame_that_was_promised_ends_though_the_screen_is_another(void **state)
{
	const uint32_t all = 640 * 480 * 4;
	uint8_t header[16], *pixels = malloc(all);
	int fd, small = 4096;

	assert_non_null(pixels);
	show(0, 2, 640, 480);
	draw_all(2, 640, 480, 1);
	fd = raw_join(head0);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_true(raw_request(fd, true));
	assert_true(raw_get(fd, header, sizeof(header)));
	assert_int_equal(set_scanout(0, 1, (struct virtio_gpu_rect){ 0, 0, WIDTH, HEIGHT }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	all_is_well();
	/* The rest of it comes, rectangle by rectangle. */
	for (unsigned rects = header[3], first = 1; rects; rects--, first = 0) {
		uint32_t size;

		if (!first)
			assert_true(raw_get(fd, header + 4, 12));
		size = ((uint32_t)header[8] << 8 | header[9]) *
		       ((uint32_t)header[10] << 8 | header[11]) * 4;
		assert_in_range(size, 4, all);
		assert_int_equal(header[15], 0);
		assert_true(raw_get(fd, pixels, size));
	}
	assert_true(raw_request(fd, true));
	assert_true(raw_get(fd, header, sizeof(header)));
	assert_int_equal(header[3], 1);
	assert_memory_equal(header + 4, "\0\0\0\0\1\x40\0\xc8", 8);
	free(pixels);
	close(fd);
}

#define HOSTILE_TEST(name) cmocka_unit_test_setup_teardown(name, setup_witness, teardown_witness)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOSTILE_TEST(one_that_does_not_read_holds_nobody),
		HOSTILE_TEST(one_that_goes_in_the_middle_of_a_frame_is_gone),
		HOSTILE_TEST(those_who_say_nothing_lock_nobody_out),
		HOSTILE_TEST(a_message_may_come_in_pieces),
		cmocka_unit_test_setup_teardown(one_that_stalls_for_long_is_dropped,
						setup_impatient, teardown),
		HOSTILE_TEST(floods_of_messages_leave_room_for_others),
		HOSTILE_TEST(fifty_viewers_leave_nothing),
		HOSTILE_TEST(lies_end_the_connection),
		HOSTILE_TEST(lies_before_it_is_let_in_end_it_too),
		HOSTILE_TEST(requests_beyond_the_screen_are_cut),
		HOSTILE_TEST(a_frame_that_was_promised_ends_though_the_screen_is_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
