// SPDX-License-Identifier: Apache-2.0
/*
 * head: what each head shows, and its cursor.
 *
 * A head shows a rectangle of a resource. Its pixels are seen through a pixman image, the view, made when
 * somebody looks and gone when what it stands on changes. The view lies on the resource's own pixels
 * wherever these are in one piece: a 2D resource's always, a blob of guest memory's when its pages
 * happen to follow each other in our address space, a host blob's mapping. A blob that is scattered is
 * copied, and with each flush the part that is new; nothing is copied while nobody looks.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mdev/gpu/gpu.h"

static void forget_view(struct gpu *gpu, struct gpu_head *head)
{
	if (!head->view)
		return;
	if (head->copy_size)
		free(pixman_image_get_data(head->view));
	gpu->pixels_used -= head->copy_size;
	head->copy_size = 0;
	pixman_image_unref(head->view);
	head->view = NULL;
}

void gpu_heads_forget(struct gpu *gpu)
{
	for (unsigned i = 0; i < gpu->head_count; i++)
		if (gpu->heads[i].resource && gpu->heads[i].resource->kind == GPU_KIND_GUEST_BLOB)
			forget_view(gpu, &gpu->heads[i]);
}

/* Off, without telling. */
static void clear(struct gpu *gpu, unsigned index)
{
	struct gpu_head *head = &gpu->heads[index];

	forget_view(gpu, head);
	if (head->map)
		munmap(head->map, head->map_size);
	head->map = NULL;
	if (head->resource)
		head->resource->heads &= ~(1u << index);
	head->resource = NULL;
	head->rect = (struct virtio_gpu_rect){ 0 };
}

void gpu_head_off(struct gpu *gpu, unsigned index)
{
	if (!gpu->heads[index].resource)
		return;
	clear(gpu, index);
	gpu_display_size(gpu, index);
}

void gpu_head_show(struct gpu *gpu, unsigned index, const struct gpu_head *shown)
{
	struct gpu_head *head = &gpu->heads[index];
	const struct virtio_gpu_rect old = head->rect;
	const struct virtio_gpu_rectangle all = { 0, 0, shown->rect.width, shown->rect.height };

	clear(gpu, index);
	head->resource = shown->resource;
	head->resource->heads |= 1u << index;
	head->rect = shown->rect;
	head->format = shown->format;
	head->stride = shown->stride;
	head->offset = shown->offset;
	head->map = shown->map;
	head->map_size = shown->map_size;
	head->map_skip = shown->map_skip;
	if (old.width != head->rect.width || old.height != head->rect.height)
		gpu_display_size(gpu, index);
	gpu_display_damage(gpu, index, &all);
}

/* ---- the view ------------------------------------------------------------------------------ */

/* Rows [@y, @y + @height) of a scattered blob's copy, whole. Returns false when memory is gone. */
static bool copy_rows(struct gpu *gpu, struct gpu_head *head, uint32_t *pixels, uint32_t y,
		      uint32_t height)
{
	const struct virtio_gpu_rect *rect = &head->rect;
	const uint64_t start = head->offset + (uint64_t)rect->y * head->stride + rect->x * 4ul;
	struct gpu_walk walk = { 0 };

	for (uint32_t row = y; row < y + height; row++)
		if (!gpu_backing_read(gpu, &head->resource->backing, &walk,
				      start + (uint64_t)row * head->stride,
				      pixels + (size_t)row * rect->width, rect->width * 4ul))
			return false;
	return true;
}

static pixman_image_t *copy_blob(struct gpu *gpu, struct gpu_head *head)
{
	const uint64_t size = (uint64_t)head->rect.width * head->rect.height * 4;
	uint32_t *pixels = size <= GPU_PIXELS_MAX - gpu->pixels_used ? malloc(size) : NULL;
	pixman_image_t *image = NULL;

	if (pixels && copy_rows(gpu, head, pixels, 0, head->rect.height))
		image = pixman_image_create_bits(head->format->pixman, (int)head->rect.width,
						 (int)head->rect.height, pixels,
						 (int)head->rect.width * 4);
	if (!image) {
		free(pixels);
		return NULL;
	}
	head->copy_size = size;
	gpu->pixels_used += size;
	return image;
}

/* Where the first pixel is and how far the rows are apart, or NULL when they are not in one piece. */
static uint8_t *in_place(struct gpu *gpu, const struct gpu_head *head, uint32_t *stride)
{
	const struct gpu_resource *resource = head->resource;
	const struct virtio_gpu_rect *rect = &head->rect;
	uint64_t skip;
	uint8_t *at;

	if (resource->kind == GPU_KIND_2D) {
		*stride = resource->width * 4;
		return (uint8_t *)pixman_image_get_data(resource->image) +
		       (uint64_t)rect->y * *stride + rect->x * 4ul;
	}
	*stride = head->stride;
	skip = (uint64_t)rect->y * head->stride + rect->x * 4ul;
	if (resource->kind == GPU_KIND_HOST_BLOB)
		return (uint8_t *)head->map + head->map_skip + skip;
	at = gpu_backing_ptr(gpu, &resource->backing, head->offset + skip,
			     (uint64_t)(rect->height - 1) * head->stride + rect->width * 4ul);
	/* pixman reads words. */
	return (uintptr_t)at % 4 ? NULL : at;
}

pixman_image_t *gpu_head_view(struct gpu *gpu, unsigned index)
{
	struct gpu_head *head = &gpu->heads[index];
	uint32_t stride;
	uint8_t *at;

	if (!head->resource || head->view)
		return head->view;
	at = in_place(gpu, head, &stride);
	if (at)
		head->view = pixman_image_create_bits(head->format->pixman, (int)head->rect.width,
						      (int)head->rect.height,
						      (uint32_t *)(void *)at, (int)stride);
	else
		head->view = copy_blob(gpu, head);
	return head->view;
}

/* At pixels, that is: who follows sizes alone needs no copy. */
static bool anybody_looks(const struct gpu *gpu)
{
	for (unsigned i = 0; i < VIRTIO_GPU_DISPLAYS_MAX; i++)
		if (gpu->displays[i].ops && gpu->displays[i].ops->damage)
			return true;
	return false;
}

void gpu_heads_flush(struct gpu *gpu, struct gpu_resource *resource,
		     const struct virtio_gpu_rect *rect)
{
	for (unsigned i = 0; i < gpu->head_count; i++) {
		struct gpu_head *head = &gpu->heads[i];
		const uint64_t left = MAX(rect->x, head->rect.x), top = MAX(rect->y, head->rect.y);
		const uint64_t right = MIN((uint64_t)rect->x + rect->width,
					   (uint64_t)head->rect.x + head->rect.width);
		const uint64_t bottom = MIN((uint64_t)rect->y + rect->height,
					    (uint64_t)head->rect.y + head->rect.height);
		struct virtio_gpu_rectangle damage;

		if (!(resource->heads & 1u << i) || left >= right || top >= bottom)
			continue;
		damage.x = (uint32_t)(left - head->rect.x);
		damage.y = (uint32_t)(top - head->rect.y);
		damage.width = (uint32_t)(right - left);
		damage.height = (uint32_t)(bottom - top);
		if (head->copy_size && !anybody_looks(gpu))
			forget_view(gpu, head);
		else if (head->copy_size && !copy_rows(gpu, head, pixman_image_get_data(head->view),
						       damage.y, damage.height))
			continue;
		gpu_display_damage(gpu, i, &damage);
	}
}

/* ---- commands ------------------------------------------------------------------------------ */

void gpu_set_scanout(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_set_scanout *body = &request->body.set_scanout;
	struct gpu_head shown = { .rect = body->r };

	if (body->scanout_id >= gpu->head_count) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
		return;
	}
	if (!body->resource_id) {
		gpu_head_off(gpu, body->scanout_id);
		return;
	}
	shown.resource = gpu_resource_find(gpu, body->resource_id);
	if (!shown.resource || shown.resource->kind != GPU_KIND_2D) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	if (!gpu_rect_inside(&body->r, shown.resource->width, shown.resource->height) ||
	    body->r.width > GPU_HEAD_SIDE_MAX || body->r.height > GPU_HEAD_SIDE_MAX) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	shown.format = shown.resource->format;
	gpu_head_show(gpu, body->scanout_id, &shown);
}

void gpu_flush(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_resource_flush *body = &request->body.flush;
	struct gpu_resource *resource = gpu_resource_find(gpu, body->resource_id);

	if (!resource) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	/* A blob has no size in pixels but where it is shown: there the rectangle is clipped. */
	if (resource->kind == GPU_KIND_2D &&
	    !gpu_rect_inside(&body->r, resource->width, resource->height)) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	gpu_heads_flush(gpu, resource, &body->r);
}

/* ---- cursor -------------------------------------------------------------------------------- */

/* Copy the pixels of a cursor. Returns the error to answer, 0: none. */
static enum virtio_gpu_ctrl_type cursor_pixels(struct gpu *gpu, struct gpu_head *head,
					       const struct gpu_resource *resource)
{
	const unsigned side = VIRTIO_GPU_CURSOR_SIZE;
	struct gpu_walk walk = { 0 };
	pixman_image_t *to;

	/* What a blob holds is not said anywhere; drivers mean B8G8R8A8. */
	if (resource->kind == GPU_KIND_GUEST_BLOB)
		return gpu_backing_read(gpu, &resource->backing, &walk, 0, head->cursor_pixels,
					sizeof(head->cursor_pixels))
			       ? VIRTIO_GPU_UNDEFINED
			       : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	if (resource->kind != GPU_KIND_2D || resource->width != side || resource->height != side)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	to = pixman_image_create_bits(PIXMAN_a8r8g8b8, (int)side, (int)side, head->cursor_pixels,
				      (int)side * 4);
	if (!to)
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	pixman_image_composite32(PIXMAN_OP_SRC, resource->image, NULL, to, 0, 0, 0, 0, 0, 0,
				 (int32_t)side, (int32_t)side);
	pixman_image_unref(to);
	return VIRTIO_GPU_UNDEFINED;
}

static struct gpu_head *cursor_head(struct gpu *gpu, struct gpu_request *request)
{
	const uint32_t index = request->body.cursor.pos.scanout_id;

	if (index < gpu->head_count)
		return &gpu->heads[index];
	gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	return NULL;
}

void gpu_update_cursor(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_update_cursor *body = &request->body.cursor;
	struct gpu_head *head = cursor_head(gpu, request);
	const struct gpu_resource *resource;
	enum virtio_gpu_ctrl_type error;

	if (!head)
		return;
	if (body->resource_id) {
		resource = gpu_resource_find(gpu, body->resource_id);
		if (!resource) {
			gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
			return;
		}
		error = body->hot_x < VIRTIO_GPU_CURSOR_SIZE && body->hot_y < VIRTIO_GPU_CURSOR_SIZE
				? cursor_pixels(gpu, head, resource)
				: VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
		if (error) {
			gpu_fail(request, error);
			return;
		}
	}
	head->cursor = (struct virtio_gpu_cursor_image){
		.visible = body->resource_id,
		/* Signed in truth: half a cursor may hang over the edge. */
		.x = (int32_t)body->pos.x,
		.y = (int32_t)body->pos.y,
		.hot_x = body->resource_id ? body->hot_x : 0,
		.hot_y = body->resource_id ? body->hot_y : 0,
		.pixels = head->cursor_pixels,
	};
	gpu_display_cursor(gpu, body->pos.scanout_id, false);
}

void gpu_move_cursor(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_update_cursor *body = &request->body.cursor;
	struct gpu_head *head = cursor_head(gpu, request);

	if (!head)
		return;
	head->cursor.x = (int32_t)body->pos.x;
	head->cursor.y = (int32_t)body->pos.y;
	gpu_display_cursor(gpu, body->pos.scanout_id, true);
}
