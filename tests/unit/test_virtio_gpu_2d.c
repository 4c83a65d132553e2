// SPDX-License-Identifier: Apache-2.0
/*
 * The vGPU's 2D half, driven end to end by a guest's driver: requests and their answers, resources and
 * what is behind them, heads, every error and every border.
 */
#include "tests/unit/gpu_guest.h"

#include <errno.h>

#define WIDTH  320u
#define HEIGHT 200u
#define ALL    ((struct virtio_gpu_rect){ 0, 0, WIDTH, HEIGHT })

static int setup(void **state)
{
	const struct virtio_gpu_config config = { .head_count = 2,
						  .heads = { { 1920, 1080 }, { 1280, 1024 } } };

	gpu_open(&config);
	gpu_boot(GPU_FEATURES);
	assert_int_equal(virtio_gpu_display_add(guest.device, &observer, &seen), 0);
	return 0;
}

static int teardown(void **state)
{
	virtio_gpu_display_remove(guest.device, &observer, &seen);
	return gpu_teardown(state);
}

static void is_a_display_controller_with_two_queues(void **state)
{
	assert_int_equal(config_read(&guest, PCI_VENDOR_ID, 2), 0x1af4);
	assert_int_equal(config_read(&guest, PCI_DEVICE_ID, 2), 0x1050);
	assert_int_equal(config_read(&guest, PCI_CLASS_REVISION, 4) >> 8, 0x038000);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	assert_int_equal(device_config(&guest, 0, 4), 0);
	assert_int_equal(device_config(&guest, 8, 4), 2);
	assert_int_equal(device_config(&guest, 12, 4), 0);
	assert_int_equal(guest.window_size, 0);
}

static void a_config_that_cannot_be_is_refused(void **state)
{
	static const struct virtio_gpu_config bad[] = {
		{ .head_count = 0 },
		{ .head_count = 5, .heads = { { 640, 480 } } },
		{ .head_count = 1, .heads = { { 4097, 2160 } } },
		{ .head_count = 1, .heads = { { 4096, 2161 } } },
		{ .head_count = 1, .heads = { { 639, 480 } } },
		{ .head_count = 1, .heads = { { 640, 479 } } },
		{ .head_count = 1, .heads = { { 640, 480 } }, .name = "" },
		{ .head_count = 1, .heads = { { 640, 480 } }, .name = "thirteen-long" },
		{ .head_count = 1, .heads = { { 640, 480 } }, .window_size = 3 * MIB },
		{ .head_count = 1, .heads = { { 640, 480 } }, .window_size = 512 * KIB },
	};
	struct vfio_device *device = NULL;
	struct error e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&e, 0, sizeof(e));
		assert_int_equal(virtio_gpu_create(&bad[i], &device, &e), -EINVAL);
		assert_string_equal(e.code, "bad-config");
		assert_null(device);
	}
}

static void the_window_is_a_bar_of_its_own(void **state)
{
	const struct virtio_gpu_config config = { .head_count = 1,
						  .heads = { { 640, 480 } },
						  .window_size = 8 * GIB };
	struct vfio_region region;
	uint64_t value = 0;

	gpu_open(&config);
	assert_int_equal(guest.window_id, VIRTIO_GPU_SHM_ID_HOST_VISIBLE);
	assert_int_equal(guest.window_bar, 2);
	assert_int_equal(guest.window_size, 8 * GIB);
	assert_int_equal(guest.device->ops->get_region(guest.device, 2, &region), 0);
	assert_int_equal(region.size, 8 * GIB);
	assert_int_equal(region.area_count, 0);
	/* 64-bit, prefetchable; bits that are the size's cannot be written. */
	assert_int_equal(config_read(&guest, PCI_BASE_ADDRESS_2, 4) & 15, 0xc);
	config_write(&guest, PCI_BASE_ADDRESS_2, 4, 0xffffffff);
	config_write(&guest, PCI_BASE_ADDRESS_3, 4, 0xffffffff);
	assert_int_equal(config_read(&guest, PCI_BASE_ADDRESS_2, 4), 0xc);
	assert_int_equal(config_read(&guest, PCI_BASE_ADDRESS_3, 4), 0xfffffffe);
	/* Nothing is there: nobody maps anything. */
	assert_int_equal(guest.device->ops->region_write(guest.device, 2, 64, &value, 8), 8);
	assert_int_equal(guest.device->ops->region_read(guest.device, 2, 64, &value, 8), 8);
	assert_int_equal(value, UINT64_MAX);
	assert_int_equal(guest.device->ops->region_read(guest.device, 2, 8 * GIB, &value, 8),
			 -EINVAL);
	gpu_teardown(state);
}

static void display_info_says_the_modes(void **state)
{
	const struct virtio_gpu_ctrl_hdr request = { .type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO };
	const struct virtio_gpu_resp_display_info *info = guest_ptr(&guest, response_gpa);

	assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_int_equal(info->pmodes[0].enabled, 1);
	assert_int_equal(info->pmodes[0].r.width, 1920);
	assert_int_equal(info->pmodes[0].r.height, 1080);
	assert_int_equal(info->pmodes[1].enabled, 1);
	assert_int_equal(info->pmodes[1].r.x, 1920);
	assert_int_equal(info->pmodes[1].r.width, 1280);
	for (unsigned i = 2; i < VIRTIO_GPU_MAX_SCANOUTS; i++)
		assert_int_equal(info->pmodes[i].enabled, 0);
}

/* ---- pixels -------------------------------------------------------------------------------- */

static struct expected {
	uint32_t width, height;
	const uint8_t *pixels; /* bytes in memory */
	uint32_t stride;
	uint8_t at[3]; /* of R, G, B in four bytes */
} expected;

static int compare(void *opaque, pixman_image_t *image)
{
	const struct expected *want = opaque;
	int wrong = 0;

	assert_int_equal(pixman_image_get_width(image), want->width);
	assert_int_equal(pixman_image_get_height(image), want->height);
	for (uint32_t y = 0; y < want->height; y++)
		for (uint32_t x = 0; x < want->width; x++) {
			const uint8_t *bytes = want->pixels + (size_t)y * want->stride + x * 4;
			uint32_t pixel = pixel_at(image, x, y);

			wrong += (pixel >> 16 & 0xff) != bytes[want->at[0]] ||
				 (pixel >> 8 & 0xff) != bytes[want->at[1]] ||
				 (pixel & 0xff) != bytes[want->at[2]];
		}
	return wrong;
}

static void pixels_of_every_format_arrive_from_scattered_memory(void **state)
{
	static const struct {
		uint32_t format;
		uint8_t at[3];
	} formats[] = {
		{ VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, { 2, 1, 0 } },
		{ VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, { 2, 1, 0 } },
		{ VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, { 1, 2, 3 } },
		{ VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, { 1, 2, 3 } },
		{ VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, { 0, 1, 2 } },
		{ VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, { 3, 2, 1 } },
		{ VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, { 3, 2, 1 } },
		{ VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, { 0, 1, 2 } },
	};
	static uint8_t image[WIDTH * HEIGHT * 4];
	/* The image lies in memory in pieces, backwards, one of them across the two ranges of memory. */
	const uint32_t piece[] = { 4, 1000, 100001, 4096, 999 };
	struct virtio_gpu_mem_entry entries[6];

	for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
		uint64_t place = MEMORY_SIZE, left = sizeof(image), done = 0;

		fill_memory((uint32_t)f);
		for (unsigned i = 0; i < ARRAY_SIZE(entries); i++) {
			uint32_t length = (uint32_t)(i < ARRAY_SIZE(piece) ? piece[i] : left);

			place -= length + 24;
			entries[i] = memory_entry(place, length);
			memcpy(image + done, guest_ptr(&guest, memory_gpa + place), length);
			done += length;
			left -= length;
		}
		assert_int_equal(create_2d(7, formats[f].format, WIDTH, HEIGHT),
				 VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(attach(7, entries, ARRAY_SIZE(entries)),
				 VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(transfer(7, 0, ALL), VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(set_scanout(0, 7, ALL), VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(flush(7, ALL), VIRTIO_GPU_RESP_OK_NODATA);
		expected = (struct expected){ WIDTH,
					      HEIGHT,
					      image,
					      WIDTH * 4,
					      { formats[f].at[0], formats[f].at[1],
						formats[f].at[2] } };
		assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare, &expected), 0);
		assert_int_equal(unref(7), VIRTIO_GPU_RESP_OK_NODATA);
	}
}

static void a_part_is_transferred_to_its_place(void **state)
{
	static uint8_t image[WIDTH * HEIGHT * 4];
	const struct virtio_gpu_mem_entry entry = memory_entry(0, sizeof(image));
	const struct virtio_gpu_rect part = { 17, 33, 100, 50 };
	const uint8_t *memory = guest_ptr(&guest, memory_gpa);
	uint64_t offset = (part.y * WIDTH + part.x) * 4;

	fill_memory(1);
	assert_int_equal(create_2d(1, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, WIDTH, HEIGHT),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(1, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(set_scanout(0, 1, ALL), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(transfer(1, offset, part), VIRTIO_GPU_RESP_OK_NODATA);
	/* The rest is black, not what the heap held. */
	for (uint32_t y = part.y; y < part.y + part.height; y++)
		memcpy(image + (y * WIDTH + part.x) * 4, memory + (y * WIDTH + part.x) * 4,
		       part.width * 4);
	expected = (struct expected){ WIDTH, HEIGHT, image, WIDTH * 4, { 2, 1, 0 } };
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare, &expected), 0);
}

/* ---- heads --------------------------------------------------------------------------------- */

static void make_shown(uint32_t id, unsigned head)
{
	const struct virtio_gpu_mem_entry entry = memory_entry(0, WIDTH * HEIGHT * 4);

	assert_int_equal(create_2d(id, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, WIDTH, HEIGHT),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(id, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(transfer(id, 0, ALL), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(set_scanout(head, id, ALL), VIRTIO_GPU_RESP_OK_NODATA);
}

static void observers_hear_of_sizes_and_damage(void **state)
{
	const uint32_t *memory = guest_ptr(&guest, memory_gpa);
	const struct virtio_gpu_rect window = { 20, 10, 200, 100 };

	fill_memory(2);
	make_shown(1, 0);
	assert_int_equal(seen.sizes, 1);
	assert_int_equal(seen.width[0], WIDTH);
	assert_int_equal(seen.height[0], HEIGHT);
	assert_int_equal(seen.damages, 1);
	assert_int_equal(flush(1, (struct virtio_gpu_rect){ 5, 6, 7, 8 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(seen.damages, 2);
	assert_memory_equal(&seen.damage[0], &((struct virtio_gpu_rectangle){ 5, 6, 7, 8 }), 16);
	assert_int_equal(seen.corner, memory[6 * WIDTH + 5] & 0xffffff);
	/* The second head shows a part of the same resource: damage is cut to it. */
	assert_int_equal(set_scanout(1, 1, window), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(seen.width[1], 200);
	seen.damages = 0;
	assert_int_equal(flush(1, (struct virtio_gpu_rect){ 10, 5, 15, 25 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(seen.damages, 2);
	assert_memory_equal(&seen.damage[1], &((struct virtio_gpu_rectangle){ 0, 0, 5, 20 }), 16);
	assert_int_equal(flush(1, (struct virtio_gpu_rect){ 0, 0, 20, 10 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(seen.damages, 3);
	/* Off: by 0, and by the end of its resource. */
	seen.sizes = 0;
	assert_int_equal(set_scanout(0, 0, (struct virtio_gpu_rect){ 0 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(seen.sizes, 1);
	assert_int_equal(seen.width[0], 0);
	assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(seen.sizes, 2);
	assert_int_equal(seen.width[1], 0);
	assert_int_equal(virtio_gpu_head_look(guest.device, 0, compare, NULL), -ENODATA);
	assert_int_equal(virtio_gpu_head_look(guest.device, 2, compare, NULL), -ENOENT);
}

static void an_observer_that_comes_late_is_told_what_is_shown(void **state)
{
	struct seen late[VIRTIO_GPU_DISPLAYS_MAX] = { 0 };

	make_shown(1, 1);
	for (unsigned i = 0; i < VIRTIO_GPU_DISPLAYS_MAX - 1; i++) {
		assert_int_equal(virtio_gpu_display_add(guest.device, &observer, &late[i]), 0);
		assert_int_equal(late[i].sizes, 1);
		assert_int_equal(late[i].width[1], WIDTH);
		assert_int_equal(late[i].damages, 1);
	}
	assert_int_equal(virtio_gpu_display_add(guest.device, &observer, &late[3]), -ENOSPC);
	for (unsigned i = 0; i < VIRTIO_GPU_DISPLAYS_MAX - 1; i++)
		virtio_gpu_display_remove(guest.device, &observer, &late[i]);
	assert_int_equal(flush(1, ALL), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(late[0].damages, 1);
}

static void a_monitor_that_changes_is_an_event_for_the_driver(void **state)
{
	const struct virtio_gpu_ctrl_hdr request = { .type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO };
	const struct virtio_gpu_resp_display_info *info = guest_ptr(&guest, response_gpa);
	const uint64_t config = guest.cap[VIRTIO_PCI_CAP_DEVICE_CFG];
	uint64_t generation = common_read(&guest, VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	assert_int_equal(
		virtio_gpu_head_set(guest.device, 0, &(struct virtio_gpu_mode){ 1920, 1080 }), 0);
	assert_false(guest_wait_vector(&guest, 0, 20));
	assert_int_equal(
		virtio_gpu_head_set(guest.device, 0, &(struct virtio_gpu_mode){ 2560, 1440 }), 0);
	assert_true(guest_wait_vector(&guest, 0, GUEST_WAIT_MS));
	assert_int_not_equal(common_read(&guest, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	assert_int_equal(device_config(&guest, 0, 4), VIRTIO_GPU_EVENT_DISPLAY);
	assert_int_equal(virtio_gpu_head_set(guest.device, 1, &(struct virtio_gpu_mode){ 0, 0 }),
			 0);
	assert_true(guest_wait_vector(&guest, 0, GUEST_WAIT_MS));
	bar_write(&guest, config + 4, 4, VIRTIO_GPU_EVENT_DISPLAY);
	assert_int_equal(device_config(&guest, 0, 4), 0);
	assert_int_equal(device_config(&guest, 4, 4), 0);
	assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_int_equal(info->pmodes[0].r.width, 2560);
	assert_int_equal(info->pmodes[1].enabled, 0);
	assert_int_equal(
		virtio_gpu_head_set(guest.device, 0, &(struct virtio_gpu_mode){ 5000, 1440 }),
		-EINVAL);
	assert_int_equal(
		virtio_gpu_head_set(guest.device, 2, &(struct virtio_gpu_mode){ 640, 480 }),
		-ENOENT);
}

/* ---- errors and borders --------------------------------------------------------------------- */

static void every_command_refuses_what_is_not_there(void **state)
{
	const struct virtio_gpu_mem_entry entry = memory_entry(0, 4096);
	struct virtio_gpu_cmd_get_edid edid = { .hdr.type = VIRTIO_GPU_CMD_GET_EDID, .scanout = 2 };
	struct virtio_gpu_resource_assign_uuid uuid = { .hdr.type =
								VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID,
							.resource_id = 9 };

	assert_int_equal(unref(9), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(set_scanout(0, 9, ALL), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(set_scanout(2, 0, ALL), VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	assert_int_equal(set_scanout(UINT32_MAX, 0, ALL), VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	assert_int_equal(flush(9, ALL), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(transfer(9, 0, ALL), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(attach(9, &entry, 1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(detach(9), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	ASK_ERR(edid, INVALID_SCANOUT_ID);
	ASK_ERR(uuid, INVALID_RESOURCE_ID);
	assert_int_equal(create_2d(0, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, 8, 8),
			 VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(create_2d(1, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, 8, 8),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_2d(1, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, 8, 8),
			 VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(detach(1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(attach(1, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(1, &entry, 1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(detach(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(transfer(1, 0, (struct virtio_gpu_rect){ 0, 0, 1, 1 }),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
}

static void a_resource_has_a_size_and_a_format_that_can_be(void **state)
{
	static const struct {
		uint32_t format, width, height, answer;
	} cases[] = {
		{ 0, 8, 8, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ 5, 8, 8, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ UINT32_MAX, 8, 8, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ 1, 0, 8, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ 1, 8, 0, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ 1, 16384, 1, VIRTIO_GPU_RESP_OK_NODATA },
		{ 1, 1, 16384, VIRTIO_GPU_RESP_OK_NODATA },
		{ 1, 16385, 1, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ 1, 1, 16385, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ 1, UINT32_MAX, UINT32_MAX, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ 1, 0x10001, 0x10000, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER },
		{ 1, 16384, 16384, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY }, /* 1 GiB */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(create_2d(1, cases[i].format, cases[i].width, cases[i].height),
				 cases[i].answer);
		if (cases[i].answer == VIRTIO_GPU_RESP_OK_NODATA)
			assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
		else
			assert_int_equal(unref(1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	}
}

static void rectangles_are_judged_at_every_border(void **state)
{
	static const struct {
		struct virtio_gpu_rect rect;
		bool good;
	} cases[] = {
		{ { 0, 0, WIDTH, HEIGHT }, true },
		{ { WIDTH - 1, HEIGHT - 1, 1, 1 }, true },
		{ { 0, 0, 0, HEIGHT }, false },
		{ { 0, 0, WIDTH, 0 }, false },
		{ { 0, 0, WIDTH + 1, HEIGHT }, false },
		{ { 0, 0, WIDTH, HEIGHT + 1 }, false },
		{ { 1, 0, WIDTH, HEIGHT }, false },
		{ { 0, 1, WIDTH, HEIGHT }, false },
		{ { WIDTH, 0, 1, 1 }, false },
		{ { 0, HEIGHT, 1, 1 }, false },
		{ { UINT32_MAX, 0, 1, 1 }, false },
		{ { 0, UINT32_MAX, 1, 1 }, false },
		{ { UINT32_MAX, 0, 2, 1 }, false }, /* sums wrap to 1 */
		{ { 0, UINT32_MAX, 1, 2 }, false },
		{ { 1, 0, UINT32_MAX, 1 }, false },
		{ { 0, 1, 1, UINT32_MAX }, false },
		{ { 0x80000000, 0x80000000, 0x80000000, 0x80000000 }, false },
		{ { 0, 0, UINT32_MAX, UINT32_MAX }, false },
	};

	make_shown(1, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const uint32_t answer = cases[i].good ? VIRTIO_GPU_RESP_OK_NODATA
						      : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;

		assert_int_equal(flush(1, cases[i].rect), answer);
		assert_int_equal(set_scanout(1, 1, cases[i].rect), answer);
		assert_int_equal(transfer(1, 0, cases[i].rect), answer);
	}
	/* A head is at most 4096 pixels in each direction. */
	assert_int_equal(create_2d(2, 1, 4097, 4), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(set_scanout(1, 2, (struct virtio_gpu_rect){ 0, 0, 4097, 4 }),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(set_scanout(1, 2, (struct virtio_gpu_rect){ 1, 0, 4096, 4 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
}

static void offsets_of_transfers_end_with_the_backing(void **state)
{
	const uint64_t size = WIDTH * HEIGHT * 4;
	static const struct virtio_gpu_rect last = { WIDTH - 2, HEIGHT - 1, 2, 1 };
	static const struct virtio_gpu_rect two_rows = { 0, 0, 1, 2 };
	const struct {
		uint64_t offset;
		struct virtio_gpu_rect rect;
		bool good;
	} cases[] = {
		{ size - 8, last, true },
		{ size - 7, last, false },
		{ size, last, false },
		{ UINT64_MAX, last, false },
		{ UINT64_MAX - 7, last, false },
		{ size - WIDTH * 4 - 4, two_rows, true },
		{ size - WIDTH * 4, two_rows, false },
		{ 1, ALL, false },
	};

	make_shown(1, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(transfer(1, cases[i].offset, cases[i].rect),
				 cases[i].good ? VIRTIO_GPU_RESP_OK_NODATA
					       : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
}

static void backing_must_be_guest_memory(void **state)
{
	const uint64_t end = GUEST_BASE + GUEST_SIZE;
	const struct {
		uint64_t addr;
		uint32_t length;
		bool good;
	} cases[] = {
		{ GUEST_BASE, 4096, true },
		{ end - 4096, 4096, true },
		{ GUEST_BASE, (uint32_t)GUEST_SIZE, true },
		{ GUEST_BASE, (uint32_t)GUEST_SIZE + 1, false },
		{ end - 4096, 4097, false },
		{ end, 1, false },
		{ GUEST_BASE - 1, 2, false },
		{ GUEST_BASE, 0, false },
		{ 0, 4096, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX - 4095, 8192, false },
		{ GUEST_BASE, UINT32_MAX, false },
	};
	struct virtio_gpu_mem_entry entries[2] = { memory_entry(0, 4096) };
	struct virtio_gpu_resource_attach_backing none = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, .resource_id = 1
	};

	assert_int_equal(create_2d(1, 1, 8, 8), VIRTIO_GPU_RESP_OK_NODATA);
	ASK_ERR(none, INVALID_PARAMETER);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		entries[1].addr = cases[i].addr;
		entries[1].length = cases[i].length;
		if (cases[i].good) {
			assert_int_equal(attach(1, entries, 2), VIRTIO_GPU_RESP_OK_NODATA);
			assert_int_equal(detach(1), VIRTIO_GPU_RESP_OK_NODATA);
		} else {
			assert_int_equal(attach(1, entries, 2),
					 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		}
	}
}

static void memory_that_goes_away_costs_transfers_only(void **state)
{
	struct vfio_device *device = guest.device;
	const uint64_t half = GUEST_SIZE / 2;
	struct virtio_gpu_mem_entry entry = { .addr = GUEST_BASE + GUEST_SIZE - 256 * KIB,
					      .length = WIDTH * HEIGHT * 4 };

	/* Rings and requests are in the first half, by the order in which they were laid out. */
	assert_true(response_gpa + RESPONSE_SIZE < GUEST_BASE + half);
	assert_int_equal(create_2d(1, 1, WIDTH, HEIGHT), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(1, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(set_scanout(0, 1, ALL), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(transfer(1, 0, ALL), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(device->ops->dma_unmap(device, GUEST_BASE + half, half), 0);
	assert_int_equal(transfer(1, 0, ALL), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(flush(1, ALL), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(
		device->ops->dma_map(device, GUEST_BASE + half, half, guest.memory + half, -1, 0),
		0);
	assert_int_equal(transfer(1, 0, ALL), VIRTIO_GPU_RESP_OK_NODATA);
}

/* ---- bounds -------------------------------------------------------------------------------- */

static void resources_are_bounded(void **state)
{
	uint32_t id = 1;

	while (create_2d(id, 1, 1, 1) == VIRTIO_GPU_RESP_OK_NODATA)
		id++;
	assert_int_equal(id - 1, 8192);
	assert_int_equal(create_2d(id, 1, 1, 1), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(unref(77), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_2d(id, 1, 1, 1), VIRTIO_GPU_RESP_OK_NODATA);
}

static void pixels_of_the_host_are_bounded(void **state)
{
	/* 64 MiB each. */
	for (uint32_t id = 1; id <= 8; id++)
		assert_int_equal(create_2d(id, 1, 4096, 4096), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_2d(9, 1, 1, 1), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(unref(9), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(unref(3), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_2d(9, 1, 4096, 4096), VIRTIO_GPU_RESP_OK_NODATA);
}

static void backing_is_bounded(void **state)
{
	static struct virtio_gpu_mem_entry entries[8192];
	struct virtio_gpu_resource_attach_backing many = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
		.resource_id = 1,
		.nr_entries = 262145,
	};
	struct guest_buffer buffers[2] = { { request_gpa, 0, false },
					   { response_gpa, RESPONSE_SIZE, true } };
	struct virtio_gpu_ctrl_hdr *answer = guest_ptr(&guest, response_gpa);

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		entries[i] = (struct virtio_gpu_mem_entry){ .addr = GUEST_BASE, .length = 2 * MIB };
	for (uint32_t id = 1; id <= 3; id++)
		assert_int_equal(create_2d(id, 1, 8, 8), VIRTIO_GPU_RESP_OK_NODATA);
	/* 16 GiB in all. */
	assert_int_equal(attach(1, entries, 8191), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(2, entries, 2), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(attach(2, entries, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(3, entries, 1), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(detach(1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(3, entries, 1), VIRTIO_GPU_RESP_OK_NODATA);
	/* More entries than one resource may have: the whole of guest memory lies behind the request. */
	memcpy(guest_ptr(&guest, request_gpa), &many, sizeof(many));
	buffers[0].length = sizeof(many);
	{
		struct guest_buffer chain[4] = { buffers[0],
						 { GUEST_BASE, 3 * MIB, false },
						 { GUEST_BASE, 1 * MIB + 16, false },
						 buffers[1] };

		guest_request(&guest, CONTROL, chain, 4);
	}
	assert_int_equal(answer->type, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
}

/* ---- the edge ------------------------------------------------------------------------------ */

static void requests_of_a_wrong_length_are_answered(void **state)
{
	struct virtio_gpu_ctrl_hdr *answer = guest_ptr(&guest, response_gpa);
	struct {
		struct virtio_gpu_resource_create_2d request;
		uint8_t more[64];
	} buffer = { .request = { .hdr = { .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
					   .flags = VIRTIO_GPU_FLAG_FENCE,
					   .fence_id = 77,
					   .ctx_id = 5 },
				  .resource_id = 1,
				  .format = 1,
				  .width = 8,
				  .height = 8 } };
	struct virtio_gpu_ctrl_hdr unknown = { .type = 0x01ff }, flags = { .flags = 4 },
				   cursor = { .type = VIRTIO_GPU_CMD_MOVE_CURSOR };

	for (size_t size = 24; size < sizeof(buffer); size++) {
		assert_int_equal(gpu_ask(&buffer, size),
				 size == sizeof(buffer.request)
					 ? VIRTIO_GPU_RESP_OK_NODATA
					 : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		if (size == sizeof(buffer.request))
			assert_int_equal(unref(1), VIRTIO_GPU_RESP_OK_NODATA);
	}
	ASK_ERR(unknown, UNSPEC);
	unknown.type = 0;
	ASK_ERR(unknown, UNSPEC);
	unknown.type = UINT32_MAX;
	ASK_ERR(unknown, UNSPEC);
	ASK_ERR(cursor, UNSPEC); /* the other queue's */
	flags.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO;
	ASK_ERR(flags, INVALID_PARAMETER);
	/* Not even a header. */
	for (uint32_t size = 1; size < 24; size++) {
		struct guest_buffer buffers[2] = { { request_gpa, size, false },
						   { response_gpa, 64, true } };

		assert_int_equal(guest_request(&guest, CONTROL, buffers, 2), 24);
		assert_int_equal(answer->type, VIRTIO_GPU_RESP_ERR_UNSPEC);
	}
	assert_false(guest_status(&guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void an_answer_without_room_is_no_answer(void **state)
{
	struct virtio_gpu_ctrl_hdr request = { .type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO };
	struct virtio_gpu_ctrl_hdr *answer = guest_ptr(&guest, response_gpa);
	const uint32_t whole = sizeof(struct virtio_gpu_resp_display_info);

	for (uint32_t room = 0; room <= whole; room += room < 24 ? 1 : whole - 24) {
		uint16_t head, sent;
		uint32_t length;

		memcpy(guest_ptr(&guest, request_gpa), &request, sizeof(request));
		sent = gpu_post(CONTROL, request_gpa, sizeof(request), room);
		guest_kick(&guest, CONTROL);
		assert_true(guest_next_used(&guest, CONTROL, GUEST_WAIT_MS, &head, &length));
		assert_int_equal(head, sent);
		assert_int_equal(length, room < 24 ? 0 : room < whole ? 24 : whole);
		if (room >= 24)
			assert_int_equal(answer->type, room < whole
							       ? VIRTIO_GPU_RESP_ERR_UNSPEC
							       : VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	}
}

static void fences_and_rings_come_back(void **state)
{
	struct virtio_gpu_ctrl_hdr request = {
		.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO,
		.flags = VIRTIO_GPU_FLAG_FENCE,
		.fence_id = UINT64_C(0x123456789abcdef0),
		.ctx_id = 9,
		.ring_idx = 3,
	};

	/* gpu_ask() compares. */
	assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	/* Rings come with contexts, which were not negotiated. */
	request.flags |= VIRTIO_GPU_FLAG_INFO_RING_IDX;
	ASK_ERR(request, INVALID_PARAMETER);
	request.type = 0xffff;
	ASK_ERR(request, UNSPEC);
}

static void what_was_not_negotiated_is_not_there(void **state)
{
	struct virtio_gpu_cmd_get_edid edid = { .hdr.type = VIRTIO_GPU_CMD_GET_EDID };
	struct virtio_gpu_resource_assign_uuid uuid = { .hdr.type =
								VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID,
							.resource_id = 1 };

	gpu_boot(0);
	assert_int_equal(create_2d(1, 1, 8, 8), VIRTIO_GPU_RESP_OK_NODATA);
	ASK_ERR(edid, UNSPEC);
	ASK_ERR(uuid, UNSPEC);
}

static void a_uuid_is_random_and_stays(void **state)
{
	struct virtio_gpu_resource_assign_uuid request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID, .resource_id = 1
	};
	const struct virtio_gpu_resp_resource_uuid *answer = guest_ptr(&guest, response_gpa);
	uint8_t first[16], second[16];

	for (uint32_t id = 1; id <= 2; id++)
		assert_int_equal(create_2d(id, 1, 8, 8), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_RESOURCE_UUID);
	memcpy(first, answer->uuid, 16);
	assert_int_equal(first[6] >> 4, 4);
	assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_RESOURCE_UUID);
	assert_memory_equal(first, answer->uuid, 16);
	request.resource_id = 2;
	assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_RESOURCE_UUID);
	memcpy(second, answer->uuid, 16);
	assert_memory_not_equal(first, second, 16);
}

static void a_malformed_ring_needs_a_reset_and_nothing_more(void **state)
{
	const struct guest_buffer nowhere = { UINT64_MAX, 24, false };

	make_shown(1, 0);
	guest_add(&guest, CONTROL, &nowhere, 1);
	guest_kick(&guest, CONTROL);
	assert_true(guest_needs_reset(&guest));
	/* What is shown stays until then. */
	assert_int_equal(seen.width[0], WIDTH);
	gpu_boot(GPU_FEATURES);
	assert_int_equal(seen.width[0], 0);
	make_shown(1, 0);
}

static void a_reset_in_the_middle_of_work_leaves_nothing(void **state)
{
	struct virtio_gpu_resource_create_2d create = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
		.format = 1,
		.width = 4096,
		.height = 4096,
	};

	for (unsigned round = 0; round < 20; round++) {
		/* Eight of 64 MiB are all there can be: the ones before must be gone. */
		for (uint32_t i = 0; i < 4; i++) {
			create.resource_id = i + 1;
			memcpy(guest_ptr(&guest, request_gpa + i * 64), &create, sizeof(create));
			gpu_post(CONTROL, request_gpa + i * 64, sizeof(create), 24);
		}
		guest_kick(&guest, CONTROL);
		if (round % 3 == 0)
			usleep(200 * round);
		guest_set_status(&guest, 0);
		assert_int_equal(guest_status(&guest), 0);
		gpu_boot(GPU_FEATURES);
		for (uint32_t id = 1; id <= 8; id++)
			assert_int_equal(create_2d(id, 1, 4096, 4096), VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(set_scanout(1, 8, (struct virtio_gpu_rect){ 0, 0, 640, 480 }),
				 VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(guest.device->ops->reset(guest.device), 0);
		assert_int_equal(seen.width[1], 0);
		gpu_boot(GPU_FEATURES);
	}
}

static void reading_answers_config_in_parts(void **state)
{
	assert_int_equal(device_config(&guest, 8, 1), 2);
	assert_int_equal(device_config(&guest, 10, 2), 0);
	assert_int_equal(device_config(&guest, 8, 2), 2);
}

/* ---- cursor -------------------------------------------------------------------------------- */

static uint32_t cursor_ask(const struct virtio_gpu_update_cursor *request)
{
	const struct virtio_gpu_ctrl_hdr *answer = guest_ptr(&guest, response_gpa);

	memcpy(guest_ptr(&guest, request_gpa), request, sizeof(*request));
	gpu_post(CURSOR, request_gpa, sizeof(*request), 24);
	guest_kick(&guest, CURSOR);
	assert_true(guest_next_used(&guest, CURSOR, GUEST_WAIT_MS, NULL, NULL));
	return answer->type;
}

static void the_cursor_is_shown_moved_and_hidden(void **state)
{
	const struct virtio_gpu_mem_entry entry = memory_entry(0, 64 * 64 * 4);
	struct virtio_gpu_update_cursor request = {
		.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR,
		.pos = { .scanout_id = 1, .x = 100, .y = (uint32_t)-5 },
		.resource_id = 1,
		.hot_x = 3,
		.hot_y = 63,
	};
	uint16_t sent, head;
	uint32_t length;

	fill_memory(3);
	assert_int_equal(create_2d(1, VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 64, 64),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(1, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(transfer(1, 0, (struct virtio_gpu_rect){ 0, 0, 64, 64 }),
			 VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_OK_NODATA);
	assert_true(seen.cursor.visible);
	assert_false(seen.moved);
	assert_int_equal(seen.cursor.x, 100);
	assert_int_equal(seen.cursor.y, -5);
	assert_int_equal(seen.cursor.hot_y, 63);
	assert_memory_equal(seen.cursor_pixels, guest_ptr(&guest, memory_gpa), 64 * 64 * 4);
	/* Drivers give no room for an answer here. */
	request.hdr.type = VIRTIO_GPU_CMD_MOVE_CURSOR;
	request.pos.x = 7;
	memcpy(guest_ptr(&guest, request_gpa), &request, sizeof(request));
	sent = gpu_post(CURSOR, request_gpa, sizeof(request), 0);
	guest_kick(&guest, CURSOR);
	assert_true(guest_next_used(&guest, CURSOR, GUEST_WAIT_MS, &head, &length));
	assert_int_equal(head, sent);
	assert_int_equal(length, 0);
	assert_true(seen.moved);
	assert_int_equal(seen.cursor.x, 7);
	request.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR;
	request.resource_id = 0;
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_OK_NODATA);
	assert_false(seen.cursor.visible);
}

static void a_cursor_that_is_none_is_refused(void **state)
{
	struct virtio_gpu_update_cursor good = {
		.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR, .resource_id = 1, .hot_x = 63, .hot_y = 63
	};
	struct virtio_gpu_update_cursor request = good;

	assert_int_equal(create_2d(1, 1, 64, 64), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(create_2d(2, 1, 64, 65), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(cursor_ask(&good), VIRTIO_GPU_RESP_OK_NODATA);
	request.pos.scanout_id = 2;
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	request.hdr.type = VIRTIO_GPU_CMD_MOVE_CURSOR;
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	request = good;
	request.resource_id = 2;
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	request.resource_id = 3;
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	request = good;
	request.hot_x = 64;
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	request = good;
	request.hot_y = UINT32_MAX;
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	request = good;
	request.hdr.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO;
	assert_int_equal(cursor_ask(&request), VIRTIO_GPU_RESP_ERR_UNSPEC);
}

#define GPU_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		GPU_TEST(is_a_display_controller_with_two_queues),
		cmocka_unit_test(a_config_that_cannot_be_is_refused),
		cmocka_unit_test(the_window_is_a_bar_of_its_own),
		GPU_TEST(display_info_says_the_modes),
		GPU_TEST(pixels_of_every_format_arrive_from_scattered_memory),
		GPU_TEST(a_part_is_transferred_to_its_place),
		GPU_TEST(observers_hear_of_sizes_and_damage),
		GPU_TEST(an_observer_that_comes_late_is_told_what_is_shown),
		GPU_TEST(a_monitor_that_changes_is_an_event_for_the_driver),
		GPU_TEST(every_command_refuses_what_is_not_there),
		GPU_TEST(a_resource_has_a_size_and_a_format_that_can_be),
		GPU_TEST(rectangles_are_judged_at_every_border),
		GPU_TEST(offsets_of_transfers_end_with_the_backing),
		GPU_TEST(backing_must_be_guest_memory),
		GPU_TEST(memory_that_goes_away_costs_transfers_only),
		GPU_TEST(resources_are_bounded),
		GPU_TEST(pixels_of_the_host_are_bounded),
		GPU_TEST(backing_is_bounded),
		GPU_TEST(requests_of_a_wrong_length_are_answered),
		GPU_TEST(an_answer_without_room_is_no_answer),
		GPU_TEST(fences_and_rings_come_back),
		GPU_TEST(what_was_not_negotiated_is_not_there),
		GPU_TEST(a_uuid_is_random_and_stays),
		GPU_TEST(a_malformed_ring_needs_a_reset_and_nothing_more),
		GPU_TEST(a_reset_in_the_middle_of_work_leaves_nothing),
		GPU_TEST(reading_answers_config_in_parts),
		GPU_TEST(the_cursor_is_shown_moved_and_hidden),
		GPU_TEST(a_cursor_that_is_none_is_refused),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return guest_run_over_both_rings(tests);
}
