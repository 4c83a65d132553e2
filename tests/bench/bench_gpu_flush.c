// SPDX-License-Identifier: Apache-2.0
/*
 * What a frame of the guest's own drawing costs the vGPU: 4096 x 2160, transferred whole from guest memory and flushed, as Linux
 * does it at each page flip, from the first request in the queue to the answer of the second: without anybody who looks, with an
 * observer that is there and takes no pixels, and with one that copies what has changed, as a viewer's server does. The resource is
 * a 2D one, a blob of guest memory as it comes, or one that is scattered, so that what is shown must be put together.
 *
 *   bench_gpu_flush
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define GUEST_SIZE (UINT64_C(96) << 20)

#include "tests/bench/bench.h"
#include "tests/unit/gpu_blob.h"

#define WIDTH	  4096u
#define HEIGHT	  2160u
#define FRAME	  (WIDTH * HEIGHT * 4u)
#define RUNS	  9u
#define FRAMES	  12u
#define PIECE	  (64u * 1024)
#define FORMAT	  VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM
#define PLAIN	  1
#define BLOB	  2
#define SCATTERED 3

static const struct virtio_gpu_rect whole = { .width = WIDTH, .height = HEIGHT };
static uint64_t frame_gpa;
static uint32_t *viewer;

/* A viewer's server has a copy of its own, which it brings up to date. */
static void copy_damage(void *opaque, unsigned head, pixman_image_t *image,
			const struct virtio_gpu_rectangle *damage)
{
	const int from = pixman_image_get_stride(image);

	for (uint32_t y = damage->y; y < damage->y + damage->height; y++)
		memcpy(viewer + (size_t)y * WIDTH + damage->x,
		       (uint8_t *)pixman_image_get_data(image) + (size_t)y * (size_t)from +
			       4 * damage->x,
		       4 * (size_t)damage->width);
}

/* Any call may be left out, so this one hears of sizes and of nothing else. */
static const struct virtio_gpu_display_ops hears = { 0 };
static const struct virtio_gpu_display_ops copies = { .damage = copy_damage };

static void frame(uint32_t id)
{
	/* A blob's transfer is answered and does nothing; Linux asks for it nevertheless. */
	assert_int_equal(transfer(id, 0, whole), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(flush(id, whole), VIRTIO_GPU_RESP_OK_NODATA);
}

static void frames(const char *name, uint32_t id, const struct virtio_gpu_display_ops *ops)
{
	double values[RUNS];

	if (ops)
		assert_int_equal(virtio_gpu_display_add(guest.device, ops, NULL), 0);
	frame(id);
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t began = monotonic_ns();

		for (unsigned i = 0; i < FRAMES; i++)
			frame(id);
		values[run] = (double)(monotonic_ns() - began) / FRAMES / 1e6;
	}
	if (ops)
		virtio_gpu_display_remove(guest.device, ops, NULL);
	bench_result(name, "ms", values, RUNS);
}

static void three_ways(const char *what, uint32_t id)
{
	char name[96];

	snprintf(name, sizeof(name), "%s, nobody looks", what);
	frames(name, id, NULL);
	snprintf(name, sizeof(name), "%s, an observer takes no pixels", what);
	frames(name, id, &hears);
	snprintf(name, sizeof(name), "%s, an observer copies it", what);
	frames(name, id, &copies);
}

static void show_blob(uint32_t id, const struct virtio_gpu_mem_entry *entries, uint32_t count)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
		.r = whole,
		.resource_id = id,
		.width = WIDTH,
		.height = HEIGHT,
		.format = FORMAT,
		.strides = { WIDTH * 4 },
	};

	assert_int_equal(create_blob(0, id, VIRTIO_GPU_BLOB_MEM_GUEST, FRAME, entries, count),
			 VIRTIO_GPU_RESP_OK_NODATA);
	ASK_OK(request);
}

static void all(void **state)
{
	static const struct virtio_gpu_config config = { .head_count = 1,
							 .heads = { { WIDTH, HEIGHT } } };
	static struct virtio_gpu_mem_entry pieces[FRAME / PIECE];
	struct virtio_gpu_mem_entry entry = { .length = FRAME };

	gpu_open(&config);
	gpu_boot(BLOB_FEATURES);
	frame_gpa = ALIGN_UP(guest_alloc(&guest, FRAME + 4096), 4096);
	entry.addr = frame_gpa;
	memset(guest_ptr(&guest, frame_gpa), 0x55, FRAME);
	viewer = malloc(FRAME);
	assert_non_null(viewer);

	assert_int_equal(create_2d(PLAIN, FORMAT, WIDTH, HEIGHT), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(PLAIN, &entry, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(set_scanout(0, PLAIN, whole), VIRTIO_GPU_RESP_OK_NODATA);
	three_ways("2D", PLAIN);

	show_blob(BLOB, &entry, 1);
	three_ways("blob", BLOB);

	for (uint32_t i = 0; i < ARRAY_SIZE(pieces); i++)
		pieces[i] = (struct virtio_gpu_mem_entry){
			.addr = frame_gpa + (ARRAY_SIZE(pieces) - 1 - i) * (uint64_t)PIECE,
			.length = PIECE,
		};
	show_blob(SCATTERED, pieces, ARRAY_SIZE(pieces));
	three_ways("blob in pieces of 64 KiB", SCATTERED);
	free(viewer);
	gpu_teardown(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all) };

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
