/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_guest: what tests of the vGPU send as a guest, on top of virtio_driver.h: requests with their
 * answers, resources with memory behind them, and an observer that counts.
 */
#ifndef TESTS_GPU_GUEST_H
#define TESTS_GPU_GUEST_H

#include "tests/unit/virtio_driver.h"
#ifndef GPU_UNCONFINED
#define CONFINED_VGPU
#include "tests/unit/confined.h"
#endif

#define virtio_gpu_config virtio_gpu_config_space
#include <linux/virtio_gpu.h>
#undef virtio_gpu_config
#include <pixman.h>

#define CONTROL	      0
#define CURSOR	      1
#define FEATURE(bit)  (UINT64_C(1) << (bit))
#define GPU_FEATURES  (FEATURE(VIRTIO_GPU_F_EDID) | FEATURE(VIRTIO_GPU_F_RESOURCE_UUID))
#define REQUEST_SIZE  (512 * KIB)
#define RESPONSE_SIZE 2048

static struct guest guest;
static unsigned fds_before;
static uint64_t request_gpa, response_gpa, memory_gpa; /* memory: 2 MiB of pixels */
#ifndef MEMORY_SIZE
#define MEMORY_SIZE (2 * MIB)
#endif

/* ---- an observer ---------------------------------------------------------------------------- */

static struct seen {
	unsigned sizes, damages, cursors;
	uint32_t width[VIRTIO_GPU_HEADS_MAX], height[VIRTIO_GPU_HEADS_MAX];
	struct virtio_gpu_rectangle damage[VIRTIO_GPU_HEADS_MAX]; /* the last */
	uint32_t corner; /* the damage's first pixel, as x8r8g8b8 */
	struct virtio_gpu_cursor_image cursor;
	uint32_t cursor_pixels[VIRTIO_GPU_CURSOR_SIZE * VIRTIO_GPU_CURSOR_SIZE];
	bool moved;
} seen;

static uint32_t pixel_at(pixman_image_t *image, uint32_t x, uint32_t y)
{
	uint32_t pixel = 0;
	pixman_image_t *one = pixman_image_create_bits(PIXMAN_a8r8g8b8, 1, 1, &pixel, 4);

	assert_non_null(one);
	pixman_image_composite32(PIXMAN_OP_SRC, image, NULL, one, (int32_t)x, (int32_t)y, 0, 0, 0,
				 0, 1, 1);
	pixman_image_unref(one);
	return pixel;
}

static void on_size(void *opaque, unsigned head, uint32_t width, uint32_t height)
{
	struct seen *to = opaque;

	to->sizes++;
	to->width[head] = width;
	to->height[head] = height;
}

static void on_damage(void *opaque, unsigned head, pixman_image_t *image,
		      const struct virtio_gpu_rectangle *damage)
{
	struct seen *to = opaque;

	to->damages++;
	to->damage[head] = *damage;
	to->corner = pixel_at(image, damage->x, damage->y) & 0xffffff;
}

static void on_cursor(void *opaque, unsigned head, const struct virtio_gpu_cursor_image *cursor,
		      bool moved)
{
	struct seen *to = opaque;

	to->cursors++;
	to->cursor = *cursor;
	memcpy(to->cursor_pixels, cursor->pixels, sizeof(to->cursor_pixels));
	to->moved = moved;
}

static const struct virtio_gpu_display_ops observer = {
	.size = on_size,
	.damage = on_damage,
	.cursor = on_cursor,
};

/* ---- life ---------------------------------------------------------------------------------- */

static inline void gpu_boot(uint64_t features)
{
	guest_start(&guest, 2, features);
	request_gpa = guest_alloc(&guest, REQUEST_SIZE);
	response_gpa = guest_alloc(&guest, RESPONSE_SIZE);
	memory_gpa = ALIGN_UP(guest_alloc(&guest, MEMORY_SIZE + 4096), 4096);
}

static inline struct vfio_device *gpu_create(const struct virtio_gpu_config *config)
{
	struct vfio_device *device = NULL;
	struct error e = { 0 };

	if (virtio_gpu_create(config, &device, &e))
		fail_msg("%s: %s", e.code, e.text);
	return device;
}

static inline void gpu_open(const struct virtio_gpu_config *config)
{
	fds_before = count_fds();
	memset(&seen, 0, sizeof(seen));
	guest_open(&guest, gpu_create(config));
}

static inline int gpu_teardown(void **state)
{
	guest_close(&guest);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

/* ---- requests ------------------------------------------------------------------------------- */

/* Put a request, @size bytes, into the queue with room for @room bytes of answer. */
static inline uint16_t gpu_post(unsigned queue, uint64_t gpa, size_t size, uint32_t room)
{
	struct guest_buffer buffers[2] = { { gpa, (uint32_t)size, false },
					   { response_gpa, room, true } };

	memset(guest_ptr(&guest, response_gpa), 0xee, RESPONSE_SIZE);
	return guest_add(&guest, queue, buffers, room ? 2 : 1);
}

/* The whole way. Returns the type of the answer; the answer itself is in guest memory. */
static inline uint32_t gpu_ask(const void *request, size_t size)
{
	const struct virtio_gpu_ctrl_hdr *sent = request, *answer = guest_ptr(&guest, response_gpa);
	uint16_t head, expected;
	uint32_t length;

	memcpy(guest_ptr(&guest, request_gpa), request, size);
	expected = gpu_post(CONTROL, request_gpa, size, RESPONSE_SIZE);
	guest_kick(&guest, CONTROL);
	assert_true(guest_next_used(&guest, CONTROL, GUEST_WAIT_MS, &head, &length));
	assert_int_equal(head, expected);
	assert_true(length >= sizeof(*answer));
	if (answer->type >= VIRTIO_GPU_RESP_ERR_UNSPEC)
		assert_int_equal(length, sizeof(*answer));
	/* Whatever the answer: fence, context and ring are the request's. */
	assert_int_equal(answer->flags, sent->flags & 3);
	assert_int_equal(answer->fence_id,
			 sent->flags & VIRTIO_GPU_FLAG_FENCE ? sent->fence_id : 0);
	assert_int_equal(answer->ctx_id, sent->ctx_id);
	assert_int_equal(answer->ring_idx,
			 sent->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX ? sent->ring_idx : 0);
	return answer->type;
}
#define ASK(request)		gpu_ask(&(request), sizeof(request))
#define ASK_OK(request)		assert_int_equal(ASK(request), VIRTIO_GPU_RESP_OK_NODATA)
#define ASK_ERR(request, error) assert_int_equal(ASK(request), VIRTIO_GPU_RESP_ERR_##error)

static inline uint32_t create_2d(uint32_t id, uint32_t format, uint32_t width, uint32_t height)
{
	struct virtio_gpu_resource_create_2d request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
		.resource_id = id,
		.format = format,
		.width = width,
		.height = height,
	};

	return ASK(request);
}

static inline uint32_t unref(uint32_t id)
{
	struct virtio_gpu_resource_unref request = { .hdr.type = VIRTIO_GPU_CMD_RESOURCE_UNREF,
						     .resource_id = id };

	return ASK(request);
}

static inline uint32_t set_scanout(uint32_t head, uint32_t id, struct virtio_gpu_rect rect)
{
	struct virtio_gpu_set_scanout request = {
		.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT,
		.r = rect,
		.scanout_id = head,
		.resource_id = id,
	};

	return ASK(request);
}

static inline uint32_t flush(uint32_t id, struct virtio_gpu_rect rect)
{
	struct virtio_gpu_resource_flush request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH,
		.r = rect,
		.resource_id = id,
	};

	return ASK(request);
}

static inline uint32_t transfer(uint32_t id, uint64_t offset, struct virtio_gpu_rect rect)
{
	struct virtio_gpu_transfer_to_host_2d request = {
		.hdr.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
		.r = rect,
		.offset = offset,
		.resource_id = id,
	};

	return ASK(request);
}

static inline uint32_t attach(uint32_t id, const struct virtio_gpu_mem_entry *entries,
			      uint32_t count)
{
	static uint8_t buffer[REQUEST_SIZE];
	struct virtio_gpu_resource_attach_backing request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
		.resource_id = id,
		.nr_entries = count,
	};

	assert_true(sizeof(request) + count * sizeof(*entries) <= sizeof(buffer));
	memcpy(buffer, &request, sizeof(request));
	memcpy(buffer + sizeof(request), entries, count * sizeof(*entries));
	return gpu_ask(buffer, sizeof(request) + count * sizeof(*entries));
}

static inline uint32_t detach(uint32_t id)
{
	struct virtio_gpu_resource_detach_backing request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, .resource_id = id
	};

	return ASK(request);
}

/* The guest's memory for pixels, whole or from @skip on. */
static inline struct virtio_gpu_mem_entry memory_entry(uint64_t skip, uint32_t length)
{
	return (struct virtio_gpu_mem_entry){ .addr = memory_gpa + skip, .length = length };
}

static inline void fill_memory(uint32_t seed)
{
	uint32_t *pixels = guest_ptr(&guest, memory_gpa);

	for (uint32_t i = 0; i < MEMORY_SIZE / 4; i++)
		pixels[i] = (i * 2654435761u) ^ seed;
}

#endif
