// SPDX-License-Identifier: Apache-2.0
/*
 * screenshot: what a head shows, as a PNG file.
 *
 * The pixels are taken on the device's worker (one copy, with the cursor laid over it) and compressed on the
 * caller's thread, so that a slow disk or a large picture never holds the guest.
 */
#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <unistd.h>

#include "mdev/gpu/gpu.h"

struct shot {
	int width, height;
	uint32_t *pixels; /* PIXMAN_x8r8g8b8 */
};

static int take(void *opaque, pixman_image_t *image, const struct virtio_gpu_cursor_image *cursor)
{
	struct shot *shot = opaque;
	pixman_image_t *copy, *pointer;

	shot->width = pixman_image_get_width(image);
	shot->height = pixman_image_get_height(image);
	shot->pixels = calloc((size_t)shot->width * (size_t)shot->height, sizeof(*shot->pixels));
	copy = shot->pixels ? pixman_image_create_bits(PIXMAN_x8r8g8b8, shot->width, shot->height,
						       shot->pixels, shot->width * 4)
			    : NULL;
	if (!copy)
		return -ENOMEM;
	pixman_image_composite32(PIXMAN_OP_SRC, image, NULL, copy, 0, 0, 0, 0, 0, 0, shot->width,
				 shot->height);
	if (cursor->visible) {
		pointer = pixman_image_create_bits(
			PIXMAN_a8r8g8b8, VIRTIO_GPU_CURSOR_SIZE, VIRTIO_GPU_CURSOR_SIZE,
			(uint32_t *)(uintptr_t)cursor->pixels, VIRTIO_GPU_CURSOR_SIZE * 4);
		if (pointer) {
			pixman_image_composite32(PIXMAN_OP_OVER, pointer, NULL, copy, 0, 0, 0, 0,
						 cursor->x - (int32_t)cursor->hot_x,
						 cursor->y - (int32_t)cursor->hot_y,
						 VIRTIO_GPU_CURSOR_SIZE, VIRTIO_GPU_CURSOR_SIZE);
			pixman_image_unref(pointer);
		}
	}
	pixman_image_unref(copy);
	return 0;
}

struct sink {
	int fd, err;
};

static void put(png_structp png, png_bytep data, size_t size)
{
	struct sink *sink = png_get_io_ptr(png);

	while (size) {
		ssize_t done = write(sink->fd, data, size);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			sink->err = done < 0 ? -errno : -EIO;
			png_error(png, "write failed");
		}
		data += done;
		size -= (size_t)done;
	}
}

static void no_flush(png_structp png)
{
}

static void quiet(png_structp png, png_const_charp text)
{
	log_debug("PNG: %s", text);
}

static void fail(png_structp png, png_const_charp text)
{
	log_debug("PNG: %s", text);
	png_longjmp(png, 1);
}

static int encode(const struct shot *shot, struct sink *sink)
{
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, fail, quiet);
	png_infop info = png ? png_create_info_struct(png) : NULL;

	if (!info) {
		png_destroy_write_struct(&png, NULL);
		return -ENOMEM;
	}
	if (setjmp(png_jmpbuf(png))) {
		png_destroy_write_struct(&png, &info);
		return sink->err ? sink->err : -ENOMEM;
	}
	png_set_write_fn(png, sink, put, no_flush);
	png_set_IHDR(png, info, (png_uint_32)shot->width, (png_uint_32)shot->height, 8,
		     PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
		     PNG_FILTER_TYPE_DEFAULT);
	png_write_info(png, info);
	/* Words of memory are B, G, R, unused. */
	png_set_bgr(png);
	png_set_filler(png, 0, PNG_FILLER_AFTER);
	for (int y = 0; y < shot->height; y++)
		png_write_row(png,
			      (png_const_bytep)(shot->pixels + (size_t)y * (size_t)shot->width));
	png_write_end(png, info);
	png_destroy_write_struct(&png, &info);
	return 0;
}

int virtio_gpu_screenshot(struct vfio_device *device, unsigned head, int fd)
{
	struct shot shot = { 0 };
	struct sink sink = { .fd = fd };
	int ret = gpu_head_look_cursor(device, head, take, &shot);

	if (!ret)
		ret = encode(&shot, &sink);
	free(shot.pixels);
	return ret;
}
