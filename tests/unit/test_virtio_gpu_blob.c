// SPDX-License-Identifier: Apache-2.0
/*
 * Blobs of guest memory, shown by heads where they lie; and what a vGPU without Venus says to everything else
 * that is new with blobs and contexts.
 */
#include "tests/unit/gpu_blob.h"

#define WIDTH  160u
#define HEIGHT 100u
#define STRIDE 704u /* more than WIDTH * 4 */
#define OFFSET 4096u

static int setup(void **state)
{
	const struct virtio_gpu_config config = { .head_count = 2,
						  .heads = { { 1920, 1080 }, { 1280, 1024 } },
						  .window_size = WINDOW_SIZE };

	gpu_open(&config);
	gpu_boot(BLOB_FEATURES);
	return 0;
}

static uint32_t create_guest(uint32_t id, uint64_t size, const struct virtio_gpu_mem_entry *entries,
			     uint32_t count)
{
	return create_blob(0, id, VIRTIO_GPU_BLOB_MEM_GUEST, size, entries, count);
}

static const struct virtio_gpu_set_scanout_blob shown = {
	.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
	.r = { 0, 0, WIDTH, HEIGHT },
	.resource_id = 1,
	.width = WIDTH,
	.height = HEIGHT,
	.format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
	.strides = { STRIDE },
	.offsets = { OFFSET },
};

/* ---- pixels -------------------------------------------------------------------------------- */

struct look {
	const uint8_t *pixels;
	uint32_t x, y, width, height;
	const void *data; /* where the image's pixels are */
};

static int compare(void *opaque, pixman_image_t *image)
{
	struct look *look = opaque;
	int wrong = 0;

	look->data = pixman_image_get_data(image);
	assert_int_equal(pixman_image_get_width(image), look->width);
	assert_int_equal(pixman_image_get_height(image), look->height);
	for (uint32_t y = 0; y < look->height; y++)
		for (uint32_t x = 0; x < look->width; x++) {
			uint32_t want;

			memcpy(&want, look->pixels + (look->y + y) * STRIDE + (look->x + x) * 4, 4);
			wrong += (pixel_at(image, x, y) & 0xffffff) != (want & 0xffffff);
		}
	return wrong;
}

static void memory_in_one_piece_is_shown_in_place(void **state)
{
	const struct virtio_gpu_mem_entry entries[] = { memory_entry(0, 64 * KIB),
							memory_entry(64 * KIB, 64 * KIB) };
	uint8_t *pixels = (uint8_t *)guest_ptr(&guest, memory_gpa) + OFFSET;
	struct virtio_gpu_set_scanout_blob part = shown;
	struct look look = { .pixels = pixels, .width = WIDTH, .height = HEIGHT };

	fill_memory(5);
	assert_int_equal(create_guest(1, 128 * KIB, entries, 2), VIRTIO_GPU_RESP_OK_NODATA);
	ASK_OK(shown);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare, &look), 0);
	assert_ptr_equal(look.data, pixels);
	/* What the guest draws is there without a word. */
	memset(pixels + 7 * STRIDE, 0x5a, 100);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare, &look), 0);
	part.scanout_id = 1;
	part.r = (struct virtio_gpu_rect){ 40, 30, 20, 10 };
	ASK_OK(part);
	look = (struct look){ .pixels = pixels, .x = 40, .y = 30, .width = 20, .height = 10 };
	assert_int_equal(virtio_gpu_head_look(guest.device, 1, compare, &look), 0);
	assert_ptr_equal(look.data, pixels + 30 * STRIDE + 160);
}

static void scattered_memory_is_copied_with_its_damage(void **state)
{
	/* The same pixels in pages that lie backwards. */
	struct virtio_gpu_mem_entry entries[20];
	uint8_t *memory = guest_ptr(&guest, memory_gpa),
		*pixels = calloc(ARRAY_SIZE(entries), 4096);
	struct look look = { .pixels = pixels + OFFSET, .width = WIDTH, .height = HEIGHT };

	assert_non_null(pixels);
	fill_memory(6);
	for (unsigned i = 0; i < ARRAY_SIZE(entries); i++) {
		entries[i] = memory_entry((ARRAY_SIZE(entries) - 1 - i) * 4096, 4096);
		memcpy(pixels + i * 4096, memory + (ARRAY_SIZE(entries) - 1 - i) * 4096, 4096);
	}
	assert_int_equal(create_guest(1, ARRAY_SIZE(entries) * 4096, entries, ARRAY_SIZE(entries)),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(virtio_gpu_display_add(guest.device, &observer, &seen), 0);
	ASK_OK(shown);
	assert_int_equal(seen.damages, 1);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare, &look), 0);
	/* All pixels change; a flush of rows 50 to 59 makes these new, and no others. */
	for (unsigned i = 0; i < ARRAY_SIZE(entries) * 4096; i++)
		memory[i] ^= 0xff;
	assert_int_equal(flush(1, (struct virtio_gpu_rect){ 3, 50, 9, 10 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_memory_equal(&seen.damage[0], &((struct virtio_gpu_rectangle){ 3, 50, 9, 10 }), 16);
	for (unsigned i = 0; i < 10 * STRIDE; i++)
		pixels[OFFSET + 50 * STRIDE + i] ^= 0xff;
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare, &look), 0);
	/* A flush beyond the head is cut; of a part that is not there, nothing. */
	assert_int_equal(flush(1, (struct virtio_gpu_rect){ 0, 0, UINT32_MAX, UINT32_MAX }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_memory_equal(&seen.damage[0],
			    &((struct virtio_gpu_rectangle){ 0, 0, WIDTH, HEIGHT }), 16);
	seen.damages = 0;
	assert_int_equal(flush(1, (struct virtio_gpu_rect){ WIDTH, 0, 5, 5 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(seen.damages, 0);
	virtio_gpu_display_remove(guest.device, &observer, &seen);
	free(pixels);
}

static void a_blob_in_memory_that_goes_shows_nothing_of_it(void **state)
{
	struct vfio_device *device = guest.device;
	const uint64_t half = GUEST_SIZE / 2;
	const struct virtio_gpu_mem_entry entry = { .addr = GUEST_BASE + GUEST_SIZE - 128 * KIB,
						    .length = 128 * KIB };
	struct look look = { .pixels = guest.memory + GUEST_SIZE - 128 * KIB + OFFSET,
			     .width = WIDTH,
			     .height = HEIGHT };

	assert_int_equal(create_guest(1, 128 * KIB, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	ASK_OK(shown);
	assert_int_equal(virtio_gpu_head_look(device, 0, compare, &look), 0);
	assert_int_equal(device->ops->dma_unmap(device, GUEST_BASE + half, half), 0);
	assert_int_equal(virtio_gpu_head_look(device, 0, compare, &look), -ENODATA);
	assert_int_equal(flush(1, shown.r), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(
		device->ops->dma_map(device, GUEST_BASE + half, half, guest.memory + half, -1, 0),
		0);
	assert_int_equal(virtio_gpu_head_look(device, 0, compare, &look), 0);
}

/* ---- borders ------------------------------------------------------------------------------- */

static void the_layout_of_pixels_is_judged_at_every_border(void **state)
{
	/* The last pixel ends exactly with the blob. */
	const uint32_t size = OFFSET + (HEIGHT - 1) * STRIDE + WIDTH * 4;
	const struct virtio_gpu_mem_entry entry = memory_entry(0, size);
	static const struct {
		uint32_t stride, offset, width, height;
		struct virtio_gpu_rect r;
		bool good;
	} cases[] = {
		{ STRIDE, OFFSET, WIDTH, HEIGHT, { 0, 0, WIDTH, HEIGHT }, true },
		{ STRIDE, OFFSET + 4, WIDTH, HEIGHT, { 0, 0, WIDTH, HEIGHT }, false },
		{ STRIDE + 4, OFFSET, WIDTH, HEIGHT, { 0, 0, WIDTH, HEIGHT }, false },
		{ STRIDE, OFFSET, WIDTH + 1, HEIGHT, { 0, 0, WIDTH, HEIGHT }, false },
		{ STRIDE, OFFSET, WIDTH, HEIGHT + 1, { 0, 0, WIDTH, HEIGHT }, false },
		{ WIDTH * 4, OFFSET, WIDTH, HEIGHT, { 0, 0, WIDTH, HEIGHT }, true },
		{ WIDTH * 4 - 4, OFFSET, WIDTH, HEIGHT, { 0, 0, WIDTH, HEIGHT }, false },
		{ STRIDE + 2, 0, WIDTH, HEIGHT, { 0, 0, WIDTH, HEIGHT }, false },
		{ STRIDE, 2, WIDTH, HEIGHT, { 0, 0, WIDTH, HEIGHT }, false },
		{ STRIDE, OFFSET, WIDTH, HEIGHT, { 1, 0, WIDTH, HEIGHT }, false },
		{ STRIDE, OFFSET, WIDTH, HEIGHT, { 0, 0, 0, HEIGHT }, false },
		{ STRIDE, OFFSET, 0, 0, { 0, 0, 0, 0 }, false },
		{ STRIDE, OFFSET, WIDTH, HEIGHT, { UINT32_MAX, 0, 2, 1 }, false },
		{ 0, 0, 1, 1, { 0, 0, 1, 1 }, false },
		{ 4, size - 4, 1, 1, { 0, 0, 1, 1 }, true },
		{ 4, size, 1, 1, { 0, 0, 1, 1 }, false },
		{ 4, UINT32_MAX - 3, 1, 1, { 0, 0, 1, 1 }, false },
		{ UINT32_MAX - 3, 0, 1, 2, { 0, 0, 1, 2 }, false },
		/* 2^30 pixels a row are 0 bytes in 32 bits. */
		{ 0, 0, 0x40000000, 1, { 0, 0, 1, 1 }, false },
		{ 0x10000, 0, 0x40000001, 1, { 0, 0, 1, 1 }, false },
		{ 0x10000, 0, 1, 0x10001, { 0, 0, 1, 1 }, false },
	};

	assert_int_equal(create_guest(1, size, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct virtio_gpu_set_scanout_blob request = shown;

		request.r = cases[i].r;
		request.width = cases[i].width;
		request.height = cases[i].height;
		request.strides[0] = cases[i].stride;
		request.offsets[0] = cases[i].offset;
		assert_int_equal(ASK(request), cases[i].good
						       ? VIRTIO_GPU_RESP_OK_NODATA
						       : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	}
}

static void a_head_shows_blobs_that_there_are(void **state)
{
	const struct virtio_gpu_mem_entry entry = memory_entry(0, 128 * KIB);
	struct virtio_gpu_set_scanout_blob request = shown;

	ASK_ERR(request, INVALID_RESOURCE_ID);
	assert_int_equal(create_2d(1, 1, WIDTH, HEIGHT), VIRTIO_GPU_RESP_OK_NODATA);
	ASK_ERR(request, INVALID_RESOURCE_ID);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_guest(1, 128 * KIB, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	request.scanout_id = 2;
	ASK_ERR(request, INVALID_SCANOUT_ID);
	request = shown;
	request.format = 5;
	ASK_ERR(request, INVALID_PARAMETER);
	ASK_OK(shown);
	/* What is for resources with pixels of their own. */
	assert_int_equal(set_scanout(0, 1, shown.r), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(attach(1, &entry, 1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(detach(1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	/* Linux's driver asks for this nevertheless. */
	assert_int_equal(transfer(1, 0, shown.r), VIRTIO_GPU_RESP_OK_NODATA);
	request = shown;
	request.resource_id = 0;
	ASK_OK(request);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, NULL, NULL), -ENODATA);
	ASK_OK(shown);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, NULL, NULL), -ENODATA);
}

static void a_blob_is_made_of_what_can_be(void **state)
{
	const struct virtio_gpu_mem_entry entry = memory_entry(0, 8192);
	struct virtio_gpu_resource_create_blob request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,
		.resource_id = 1,
		.blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST,
		.size = 4096,
	};

	ASK_ERR(request, INVALID_PARAMETER); /* no entries */
	request.blob_mem = 0;
	ASK_ERR(request, INVALID_PARAMETER);
	request.blob_mem = 4;
	ASK_ERR(request, INVALID_PARAMETER);
	request.blob_mem = VIRTIO_GPU_BLOB_MEM_HOST3D;
	ASK_ERR(request, INVALID_CONTEXT_ID);
	request.hdr.ctx_id = 1;
	ASK_ERR(request, INVALID_CONTEXT_ID);
	request.blob_flags = 8;
	ASK_ERR(request, INVALID_PARAMETER);
	request.nr_entries = 1;
	ASK_ERR(request, INVALID_PARAMETER); /* which are not there */
	assert_int_equal(create_guest(1, 0, &entry, 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create_guest(1, 8193, &entry, 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create_guest(1, UINT64_MAX, &entry, 1),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create_guest(0, 8192, &entry, 1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(create_guest(1, 8192, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_guest(1, 8192, &entry, 1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	/* Guest memory is not shown in the window: the guest has it. */
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(unmap_blob(1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static void a_cursor_may_be_a_blob(void **state)
{
	const struct virtio_gpu_mem_entry good = memory_entry(0, 64 * 64 * 4),
					  small = memory_entry(0, 64 * 64 * 4 - 1);
	struct virtio_gpu_update_cursor request = { .hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR,
						    .resource_id = 1 };
	const struct virtio_gpu_ctrl_hdr *answer = guest_ptr(&guest, response_gpa);

	fill_memory(8);
	assert_int_equal(virtio_gpu_display_add(guest.device, &observer, &seen), 0);
	assert_int_equal(create_guest(1, good.length, &good, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_guest(2, small.length, &small, 1), VIRTIO_GPU_RESP_OK_NODATA);
	for (uint32_t id = 1; id <= 2; id++) {
		request.resource_id = id;
		memcpy(guest_ptr(&guest, request_gpa), &request, sizeof(request));
		gpu_post(CURSOR, request_gpa, sizeof(request), 24);
		guest_kick(&guest, CURSOR);
		assert_true(guest_next_used(&guest, CURSOR, GUEST_WAIT_MS, NULL, NULL));
		assert_int_equal(answer->type, id == 1 ? VIRTIO_GPU_RESP_OK_NODATA
						       : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	}
	assert_int_equal(seen.cursors, 1);
	assert_memory_equal(seen.cursor_pixels, guest_ptr(&guest, memory_gpa), good.length);
	virtio_gpu_display_remove(guest.device, &observer, &seen);
}

/* ---- without Venus -------------------------------------------------------------------------- */

static void without_venus_there_are_no_contexts(void **state)
{
	struct virtio_gpu_get_capset_info info = { .hdr.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO };
	struct virtio_gpu_get_capset capset = { .hdr.type = VIRTIO_GPU_CMD_GET_CAPSET,
						.capset_id = VIRTIO_GPU_CAPSET_VENUS };

	shower_open();
	assert_false(guest_device_features(&guest) & FEATURE(VIRTIO_GPU_F_VIRGL));
	assert_false(guest_device_features(&guest) & FEATURE(VIRTIO_GPU_F_CONTEXT_INIT));
	assert_int_equal(device_config(&guest, 12, 4), 0);
	ASK_ERR(info, UNSPEC);
	ASK_ERR(capset, UNSPEC);
	assert_int_equal(context_create(1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(submit(1, "word", 4, 0, 0, 0), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_false(guest_negotiate(&guest, GUEST_FEATURES | VENUS_FEATURES));
	shower_close();
}

static void blobs_come_with_their_feature(void **state)
{
	const struct virtio_gpu_mem_entry entry = memory_entry(0, 8192);

	gpu_boot(GPU_FEATURES);
	assert_int_equal(create_guest(1, 8192, &entry, 1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	ASK_ERR(shown, UNSPEC);
	assert_int_equal(map_blob(1, 0), VIRTIO_GPU_RESP_ERR_UNSPEC);
}

#define GPU_TEST(name) cmocka_unit_test_setup_teardown(name, setup, gpu_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		GPU_TEST(memory_in_one_piece_is_shown_in_place),
		GPU_TEST(scattered_memory_is_copied_with_its_damage),
		GPU_TEST(a_blob_in_memory_that_goes_shows_nothing_of_it),
		GPU_TEST(the_layout_of_pixels_is_judged_at_every_border),
		GPU_TEST(a_head_shows_blobs_that_there_are),
		GPU_TEST(a_blob_is_made_of_what_can_be),
		GPU_TEST(a_cursor_may_be_a_blob),
		GPU_TEST(without_venus_there_are_no_contexts),
		GPU_TEST(blobs_come_with_their_feature),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
