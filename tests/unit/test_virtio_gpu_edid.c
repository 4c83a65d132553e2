// SPDX-License-Identifier: Apache-2.0
/*
 * What the vGPU's monitors say of themselves, read by a decoder that was written from the standards and not
 * from mdev/gpu/edid.c; and pictures of heads, compared pixel by pixel after a PNG reader had them.
 */
#include "tests/unit/gpu_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>

/* ---- a decoder ------------------------------------------------------------------------------ */

struct mode {
	uint64_t clock_hz;
	unsigned width, height, h_total, v_total, h_front, h_sync, v_front, v_sync;
	unsigned width_mm, height_mm;
	bool h_positive, v_positive, preferred;
};

static void decode_detailed(const uint8_t d[18], struct mode *mode)
{
	mode->clock_hz = (d[0] | d[1] << 8) * UINT64_C(10000);
	mode->width = d[2] + ((d[4] & 0xf0) << 4);
	mode->h_total = mode->width + d[3] + ((d[4] & 0x0f) << 8);
	mode->height = d[5] + ((d[7] & 0xf0) << 4);
	mode->v_total = mode->height + d[6] + ((d[7] & 0x0f) << 8);
	mode->h_front = d[8] + ((d[11] & 0xc0) << 2);
	mode->h_sync = d[9] + ((d[11] & 0x30) << 4);
	mode->v_front = (d[10] >> 4) + ((d[11] & 0x0c) << 2);
	mode->v_sync = (d[10] & 15) + ((d[11] & 0x03) << 4);
	mode->width_mm = d[12] + ((d[14] & 0xf0) << 4);
	mode->height_mm = d[13] + ((d[14] & 0x0f) << 8);
	assert_int_equal(d[15], 0);
	assert_int_equal(d[16], 0);
	assert_int_equal(d[17] & 0x98, 0x18); /* progressive, digital separate sync */
	mode->h_positive = d[17] & 2;
	mode->v_positive = d[17] & 4;
}

static unsigned word(const uint8_t *at)
{
	return at[0] | (unsigned)at[1] << 8;
}

/* DisplayID 1.3 in an EDID extension: the first type I timing. */
static void decode_displayid(const uint8_t block[128], struct mode *mode)
{
	const uint8_t *section = block + 1, *data = section + 4, *t = NULL;
	uint8_t sum = 0;

	assert_int_equal(block[0], 0x70);
	assert_int_equal(section[0], 0x13);
	for (unsigned i = 0; i < section[1] + 5u; i++)
		sum = (uint8_t)(sum + section[i]);
	assert_int_equal(sum, 0);
	/* Of the blocks, each with its tag and length, the one with timings. */
	while (data < section + 4 + section[1]) {
		if (data[0] == 0x03)
			t = data + 3;
		data += 3 + data[2];
	}
	assert_ptr_equal(data, section + 4 + section[1]);
	assert_non_null(t);
	assert_int_equal(t[-1], 20);
	mode->clock_hz = (uint64_t)((t[0] | t[1] << 8 | t[2] << 16) + 1) * 10000;
	mode->preferred = t[3] & 0x80;
	mode->width = word(t + 4) + 1;
	mode->h_total = mode->width + word(t + 6) + 1;
	mode->h_front = (word(t + 8) & 0x7fff) + 1;
	mode->h_positive = t[9] & 0x80;
	mode->h_sync = word(t + 10) + 1;
	mode->height = word(t + 12) + 1;
	mode->v_total = mode->height + word(t + 14) + 1;
	mode->v_front = (word(t + 16) & 0x7fff) + 1;
	mode->v_positive = t[17] & 0x80;
	mode->v_sync = word(t + 18) + 1;
}

static void judge_block(const uint8_t *block)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 128; i++)
		sum = (uint8_t)(sum + block[i]);
	assert_int_equal(sum, 0);
}

static void judge_base(const uint8_t *edid, const char *name, uint32_t serial)
{
	static const uint8_t header[8] = { 0, 255, 255, 255, 255, 255, 255, 0 };
	const unsigned maker = (unsigned)edid[8] << 8 | edid[9];
	char text[14] = { 0 };

	judge_block(edid);
	assert_memory_equal(edid, header, 8);
	assert_int_equal(maker >> 10 & 31, 'D' - '@');
	assert_int_equal(maker >> 5 & 31, 'V' - '@');
	assert_int_equal(maker & 31, 'Y' - '@');
	assert_int_equal(word(edid + 12) | word(edid + 14) << 16, serial);
	assert_int_equal(edid[18], 1);
	assert_int_equal(edid[19], 4);
	assert_true(edid[20] & 0x80);
	/* The second descriptor is the range limits, the third a name, the fourth a serial number. */
	assert_memory_equal(edid + 72, "\0\0\0\xfd", 4);
	assert_memory_equal(edid + 90, "\0\0\0\xfc", 4);
	assert_memory_equal(edid + 108, "\0\0\0\xff", 4);
	memcpy(text, edid + 95, 13);
	*strchrnul(text, '\n') = '\0';
	assert_string_equal(text, name);
}

/* The mode is between the limits that the block gives. */
static void judge_limits(const uint8_t *edid, const struct mode *mode)
{
	const uint8_t *d = edid + 72;
	const uint64_t line_hz = mode->clock_hz / mode->h_total;
	const uint64_t frame_mhz = mode->clock_hz * 1000 / mode->h_total / mode->v_total;

	assert_int_equal(d[4], 0);
	assert_in_range(frame_mhz, d[5] * 1000u, d[6] * 1000u);
	assert_in_range(line_hz, d[7] * 1000u, d[8] * 1000u);
	assert_true(mode->clock_hz <= d[9] * UINT64_C(10000000));
	assert_int_equal(d[10], 1);
}

/* ---- modes --------------------------------------------------------------------------------- */

static uint32_t edid_of(unsigned head, uint8_t edid[256])
{
	struct virtio_gpu_cmd_get_edid request = { .hdr.type = VIRTIO_GPU_CMD_GET_EDID,
						   .scanout = head };
	const struct virtio_gpu_resp_edid *answer = guest_ptr(&guest, response_gpa);

	assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_EDID);
	memcpy(edid, answer->edid, 256);
	for (unsigned i = answer->size; i < sizeof(answer->edid); i++)
		assert_int_equal(answer->edid[i], 0);
	return answer->size;
}

/* Reduced blanking as the CVT generator of VESA computes it; 0: not looked up. */
static const struct {
	uint32_t width, height;
	uint32_t clock_khz, h_total, v_total;
} modes[] = {
	{ 640, 480, 0, 0, 0 },
	{ 1024, 768, 56000, 1184, 790 },
	{ 1280, 800, 71000, 1440, 823 },
	{ 1280, 1024, 91000, 1440, 1054 },
	{ 1600, 1200, 130250, 1760, 1235 },
	{ 1680, 1050, 119000, 1840, 1080 },
	{ 1920, 1080, 138500, 2080, 1111 },
	{ 1920, 1200, 154000, 2080, 1235 },
	{ 2560, 1440, 241500, 2720, 1481 },
	{ 2560, 1600, 268500, 2720, 1646 },
	{ 3840, 2160, 533000, 4000, 2222 },
	{ 4095, 2160, 0, 0, 0 },
	{ 4096, 2160, 567250, 4256, 2222 },
	{ 4096, 600, 0, 0, 0 },
	{ 640, 2160, 0, 0, 0 },
	{ 801, 607, 0, 0, 0 },
};

static void every_mode_is_in_its_edid(void **state)
{
	struct virtio_gpu_config config = { .name = "twelve-bytes",
					    .head_count = 1,
					    .heads = { { 640, 480 } } };
	uint8_t edid[256];

	gpu_open(&config);
	gpu_boot(GPU_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		const struct virtio_gpu_mode set = { modes[i].width, modes[i].height };
		const bool extended = set.width > 4095;
		struct mode mode = { 0 }, first = { 0 };
		uint64_t refresh_mhz;

		assert_int_equal(virtio_gpu_head_set(guest.device, 0, &set), 0);
		assert_int_equal(edid_of(0, edid), extended ? 256 : 128);
		judge_base(edid, "twelve-bytes", 1);
		assert_int_equal(edid[126], extended);
		decode_detailed(edid + 54, &first);
		mode = first;
		if (extended) {
			/* The base block has a mode for readers that know no extension. */
			assert_int_equal(first.width, 1920);
			assert_true(first.height <= set.height);
			assert_true(first.height <= 1080);
			judge_block(edid + 128);
			decode_displayid(edid + 128, &mode);
			assert_true(mode.preferred);
		} else {
			assert_true(edid[24] & 2);
		}
		assert_int_equal(mode.width, set.width);
		assert_int_equal(mode.height, set.height);
		assert_true(mode.h_positive);
		assert_false(mode.v_positive);
		assert_true(mode.h_front + mode.h_sync < mode.h_total - mode.width);
		assert_true(mode.v_front + mode.v_sync < mode.v_total - mode.height);
		refresh_mhz = mode.clock_hz * 1000 / mode.h_total / mode.v_total;
		assert_in_range(refresh_mhz, 59000, 60000);
		/* 460 microseconds of vertical blanking (CVT). */
		assert_true((uint64_t)(mode.v_total - mode.height) * mode.h_total * 1000000 >=
			    455 * mode.clock_hz);
		judge_limits(edid, &mode);
		if (modes[i].clock_khz) {
			assert_int_equal(mode.h_total, modes[i].h_total);
			assert_int_equal(mode.v_total, modes[i].v_total);
			assert_in_range(mode.clock_hz / 1000, modes[i].clock_khz,
					modes[i].clock_khz + 250);
		}
		/* 96 dots an inch, in millimetres and in whole centimetres. */
		assert_in_range(first.width_mm, set.width * 25 / 96, set.width * 26 / 96 + 1);
		assert_in_range(edid[22], first.height_mm / 10, first.height_mm / 10 + 1);
	}
	gpu_teardown(state);
}

static void each_head_has_its_own(void **state)
{
	const struct virtio_gpu_config config = {
		.head_count = 4,
		.heads = { { 1920, 1080 }, { 0, 0 }, { 4096, 2160 }, { 800, 600 } },
	};
	uint8_t edid[256];

	gpu_open(&config);
	gpu_boot(GPU_FEATURES);
	assert_int_equal(edid_of(0, edid), 128);
	judge_base(edid, "vgpu", 1);
	assert_int_equal(edid_of(1, edid), 0);
	assert_int_equal(edid_of(2, edid), 256);
	judge_base(edid, "vgpu", 3);
	assert_int_equal(edid_of(3, edid), 128);
	judge_base(edid, "vgpu", 4);
	/* Of the well-known modes only those that fit: 640x480 and 800x600. */
	assert_int_equal(edid[35], 0x21);
	assert_int_equal(edid[36], 0);
	for (unsigned i = 38; i < 54; i++)
		assert_int_equal(edid[i], 1);
	gpu_teardown(state);
}

/* ---- pictures ------------------------------------------------------------------------------- */

/* The picture in @fd, from its beginning. Returns width * height pixels, 0xRRGGBB. */
static uint32_t *read_png(int fd, uint32_t *width, uint32_t *height)
{
	png_image png = { .version = PNG_IMAGE_VERSION };
	FILE *file = fdopen(dup(fd), "rb");
	uint8_t *bytes;
	uint32_t *pixels;

	assert_non_null(file);
	rewind(file);
	assert_int_equal(png_image_begin_read_from_stdio(&png, file), 1);
	assert_int_equal(png.format, PNG_FORMAT_RGB);
	*width = png.width;
	*height = png.height;
	bytes = malloc(PNG_IMAGE_SIZE(png));
	pixels = malloc(sizeof(*pixels) * png.width * png.height);
	assert_non_null(bytes);
	assert_non_null(pixels);
	assert_int_equal(png_image_finish_read(&png, NULL, bytes, 0, NULL), 1);
	for (size_t i = 0; i < (size_t)png.width * png.height; i++)
		pixels[i] = (uint32_t)bytes[3 * i] << 16 | (uint32_t)bytes[3 * i + 1] << 8 |
			    bytes[3 * i + 2];
	free(bytes);
	fclose(file);
	return pixels;
}

static void a_screenshot_has_every_pixel_and_the_cursor(void **state)
{
	const struct virtio_gpu_config config = { .head_count = 1, .heads = { { 640, 480 } } };
	const uint32_t width = 640, height = 480, size = width * height * 4;
	const struct virtio_gpu_mem_entry entry = memory_entry(0, size);
	struct virtio_gpu_mem_entry cursor_entry;
	struct virtio_gpu_update_cursor cursor = {
		.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR,
		.pos = { .x = 600, .y = 10 },
		.resource_id = 2,
		.hot_x = 5,
		.hot_y = 20, /* over the top edge, and the right one */
	};
	uint32_t *pixels, *memory, *pointer, w, h;
	int fd = memfd_create("shot", MFD_CLOEXEC);

	assert_true(fd >= 0);
	gpu_open(&config);
	gpu_boot(GPU_FEATURES);
	assert_int_equal(virtio_gpu_screenshot(guest.device, 0, fd), -ENODATA);
	fill_memory(9);
	memory = guest_ptr(&guest, memory_gpa);
	assert_int_equal(create_2d(1, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, width, height),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(1, &(struct virtio_gpu_mem_entry){ memory_gpa, size, 0 }, 1),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(entry.length, size);
	assert_int_equal(transfer(1, 0, (struct virtio_gpu_rect){ 0, 0, width, height }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(set_scanout(0, 1, (struct virtio_gpu_rect){ 0, 0, width, height }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(virtio_gpu_screenshot(guest.device, 0, fd), 0);
	pixels = read_png(fd, &w, &h);
	assert_int_equal(w, width);
	assert_int_equal(h, height);
	for (uint32_t i = 0; i < width * height; i++)
		assert_int_equal(pixels[i], memory[i] & 0xffffff);
	free(pixels);

	/* A cursor: opaque on its left half, not there on its right half. */
	cursor_entry = memory_entry(size, 64 * 64 * 4);
	pointer = memory + size / 4;
	for (uint32_t i = 0; i < 64 * 64; i++)
		pointer[i] = i % 64 < 32 ? 0xff000000 | i * 77 : 0;
	assert_int_equal(create_2d(2, VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 64, 64),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(2, &cursor_entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(transfer(2, 0, (struct virtio_gpu_rect){ 0, 0, 64, 64 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	memcpy(guest_ptr(&guest, request_gpa), &cursor, sizeof(cursor));
	gpu_post(CURSOR, request_gpa, sizeof(cursor), 24);
	guest_kick(&guest, CURSOR);
	assert_true(guest_next_used(&guest, CURSOR, GUEST_WAIT_MS, NULL, NULL));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(virtio_gpu_screenshot(guest.device, 0, fd), 0);
	pixels = read_png(fd, &w, &h);
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++) {
			/* The picture begins at 595, -10. */
			bool under = x >= 595 && x < 595 + 32 && y < 54;
			uint32_t want =
				under ? pointer[(y + 10) * 64 + x - 595] : memory[y * width + x];

			assert_int_equal(pixels[y * width + x], want & 0xffffff);
		}
	free(pixels);
	gpu_teardown(state);
	close(fd);
}

static void a_screenshot_that_cannot_be_written_says_so(void **state)
{
	const struct virtio_gpu_config config = { .head_count = 1, .heads = { { 640, 480 } } };
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	assert_true(full >= 0);
	gpu_open(&config);
	gpu_boot(GPU_FEATURES);
	assert_int_equal(create_2d(1, 1, 640, 480), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(set_scanout(0, 1, (struct virtio_gpu_rect){ 0, 0, 640, 480 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(virtio_gpu_screenshot(guest.device, 0, full), -ENOSPC);
	assert_int_equal(virtio_gpu_screenshot(guest.device, 0, -1), -EBADF);
	assert_int_equal(virtio_gpu_screenshot(guest.device, 1, full), -ENOENT);
	gpu_teardown(state);
	close(full);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mode_is_in_its_edid),
		cmocka_unit_test(each_head_has_its_own),
		cmocka_unit_test(a_screenshot_has_every_pixel_and_the_cursor),
		cmocka_unit_test(a_screenshot_that_cannot_be_written_says_so),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
