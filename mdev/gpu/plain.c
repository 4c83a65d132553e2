// SPDX-License-Identifier: Apache-2.0
/*
 * plain: the commands of the 2D device (VIRTIO 1.2, 5.7.6.8) but for those that change what a head shows
 * (head.c): display information, resources with pixels of the host, their backing, transfers.
 *
 * All arithmetic is in 64 bits over 32-bit operands that were bounded before, so nothing here can wrap.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "mdev/gpu/gpu.h"

void gpu_get_display_info(struct gpu *gpu, struct gpu_request *request)
{
	struct virtio_gpu_resp_display_info *info = &request->response.display_info;
	uint32_t x = 0;

	memset(info, 0, sizeof(*info));
	for (unsigned i = 0; i < gpu->head_count; i++) {
		const struct virtio_gpu_mode *mode = &gpu->heads[i].mode;

		info->pmodes[i].enabled = mode->width != 0;
		/* Side by side, which is what a guest without a wish of its own takes. */
		info->pmodes[i].r = (struct virtio_gpu_rect){ .x = x,
							      .width = mode->width,
							      .height = mode->height };
		x += mode->width;
	}
	gpu_answer(request, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, sizeof(*info));
}

void gpu_get_edid(struct gpu *gpu, struct gpu_request *request)
{
	struct virtio_gpu_resp_edid *answer = &request->response.edid;
	const uint32_t head = request->body.get_edid.scanout;

	if (head >= gpu->head_count) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
		return;
	}
	memset(answer, 0, sizeof(*answer));
	/* Where nothing is plugged in there is nobody to ask: size 0. */
	if (gpu->heads[head].mode.width)
		answer->size = (uint32_t)gpu_edid_make(&gpu->heads[head].mode, gpu->name, head + 1,
						       answer->edid);
	gpu_answer(request, VIRTIO_GPU_RESP_OK_EDID, sizeof(*answer));
}

void gpu_create_2d(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_resource_create_2d *body = &request->body.create_2d;
	const struct gpu_format *format = gpu_format_find(body->format);
	struct gpu_resource *resource;
	uint32_t *pixels;
	uint64_t size;

	if (!format || !body->width || !body->height || body->width > GPU_SIDE_MAX ||
	    body->height > GPU_SIDE_MAX) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	resource = gpu_resource_add(gpu, request, body->resource_id, GPU_KIND_2D);
	if (!resource)
		return;
	size = (uint64_t)body->width * body->height * 4;
	/* Black, not what the heap held before. */
	pixels = size <= GPU_PIXELS_MAX - gpu->pixels_used ? calloc(1, size) : NULL;
	if (pixels)
		resource->image =
			pixman_image_create_bits(format->pixman, (int)body->width,
						 (int)body->height, pixels, (int)body->width * 4);
	if (!resource->image) {
		free(pixels);
		gpu_resource_free(gpu, resource);
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
		return;
	}
	resource->format = format;
	resource->width = body->width;
	resource->height = body->height;
	gpu->pixels_used += size;
}

void gpu_transfer_to_host_2d(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_transfer_to_host_2d *body = &request->body.transfer;
	const struct virtio_gpu_rect *rect = &body->r;
	struct gpu_resource *resource = gpu_resource_find(gpu, body->resource_id);
	struct gpu_walk walk = { 0 };
	uint64_t stride, span;
	uint8_t *pixels;

	if (!resource) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	/* Linux's driver asks this of every picture that it drew itself, though a blob's pixels are here already. */
	if (resource->kind != GPU_KIND_2D)
		return;
	stride = resource->width * 4ul;
	span = (uint64_t)(rect->height - 1) * stride + rect->width * 4ul;
	if (!gpu_rect_inside(rect, resource->width, resource->height) ||
	    span > resource->backing.size || body->offset > resource->backing.size - span) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	pixels = (uint8_t *)pixman_image_get_data(resource->image) + rect->y * stride +
		 rect->x * 4ul;
	for (uint32_t row = 0; row < rect->height; row++)
		if (!gpu_backing_read(gpu, &resource->backing, &walk, body->offset + row * stride,
				      pixels + row * stride, rect->width * 4ul)) {
			gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
			return;
		}
}

void gpu_attach_backing(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_resource_attach_backing *body = &request->body.attach_backing;
	struct gpu_resource *resource = gpu_resource_find(gpu, body->resource_id);

	if (!resource || resource->kind != GPU_KIND_2D) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	/* What a second one would mean is not said. */
	if (resource->backing.count)
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
	else
		gpu_backing_attach(gpu, request, &resource->backing, body->nr_entries);
}

void gpu_detach_backing(struct gpu *gpu, struct gpu_request *request)
{
	struct gpu_resource *resource =
		gpu_resource_find(gpu, request->body.detach_backing.resource_id);

	if (!resource)
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	/* A blob's memory is the blob. */
	else if (resource->kind != GPU_KIND_2D || !resource->backing.count)
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
	else
		gpu_backing_detach(gpu, &resource->backing);
}

void gpu_assign_uuid(struct gpu *gpu, struct gpu_request *request)
{
	struct gpu_resource *resource =
		gpu_resource_find(gpu, request->body.assign_uuid.resource_id);

	if (!resource) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	if (!resource->has_uuid) {
		if (getrandom(resource->uuid, sizeof(resource->uuid), GRND_NONBLOCK) !=
		    sizeof(resource->uuid)) {
			gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
			return;
		}
		/* RFC 4122, 4.4: version 4, variant 1. */
		resource->uuid[6] = (resource->uuid[6] & 0x0f) | 0x40;
		resource->uuid[8] = (resource->uuid[8] & 0x3f) | 0x80;
		resource->has_uuid = true;
	}
	memcpy(request->response.uuid.uuid, resource->uuid, sizeof(resource->uuid));
	gpu_answer(request, VIRTIO_GPU_RESP_OK_RESOURCE_UUID, sizeof(request->response.uuid));
}
