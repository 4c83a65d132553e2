// SPDX-License-Identifier: Apache-2.0
/*
 * resource: the table of a vGPU's resources, and the guest memory behind them.
 *
 * Resources are found by the number the guest gave them. Backing is a list of guest addresses, never of
 * pointers: each use resolves what it needs through the table of guest memory, so that memory which went away is
 * an error of that use. Every count and sum is bounded (gpu.h); what goes beyond fails the request.
 */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "mdev/gpu/gpu.h"

static const struct gpu_format formats[] = {
	/* pixman names the bits of a 32-bit word from the top, virtio the bytes of memory. */
	{ VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, PIXMAN_a8r8g8b8 },
	{ VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, PIXMAN_x8r8g8b8 },
	{ VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, PIXMAN_b8g8r8a8 },
	{ VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, PIXMAN_b8g8r8x8 },
	{ VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, PIXMAN_a8b8g8r8 },
	{ VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, PIXMAN_r8g8b8x8 },
	{ VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, PIXMAN_r8g8b8a8 },
	{ VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, PIXMAN_x8b8g8r8 },
};

const struct gpu_format *gpu_format_find(uint32_t id)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (formats[i].id == id)
			return &formats[i];
	return NULL;
}

/* ---- the table ----------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
	const struct gpu_resource *one = a, *other = b;

	return (one->id > other->id) - (one->id < other->id);
}

struct gpu_resource *gpu_resource_find(struct gpu *gpu, uint32_t id)
{
	const struct gpu_resource key = { .id = id };
	void *found = tfind(&key, &gpu->resources, by_id);

	return found ? *(struct gpu_resource **)found : NULL;
}

struct gpu_resource *gpu_resource_add(struct gpu *gpu, struct gpu_request *request, uint32_t id,
				      enum gpu_kind kind)
{
	struct gpu_resource *resource;

	if (!id || gpu_resource_find(gpu, id)) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return NULL;
	}
	resource = gpu->resource_count < GPU_RESOURCES_MAX ? calloc(1, sizeof(*resource)) : NULL;
	if (resource) {
		resource->id = id;
		resource->kind = kind;
	}
	if (!resource || !tsearch(resource, &gpu->resources, by_id)) {
		free(resource);
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
		return NULL;
	}
	gpu->resource_count++;
	return resource;
}

void gpu_resource_free(struct gpu *gpu, struct gpu_resource *resource)
{
	for (unsigned i = 0; i < gpu->head_count; i++)
		if (resource->heads & 1u << i)
			gpu_head_off(gpu, i);
	if (resource->mapped)
		gpu_window_unmap(gpu, resource);
	if (resource->kind == GPU_KIND_HOST_BLOB)
		*(resource->is_shared ? &gpu->shared_used : &gpu->blobs_used) -= resource->size;
	gpu_backing_detach(gpu, &resource->backing);
	if (resource->image) {
		free(pixman_image_get_data(resource->image));
		pixman_image_unref(resource->image);
		gpu->pixels_used -= (uint64_t)resource->width * resource->height * 4;
	}
	tdelete(resource, &gpu->resources, by_id);
	gpu->resource_count--;
	free(resource);
}

void gpu_resources_free(struct gpu *gpu)
{
	/* The root of the tree is a pointer to its first member. */
	while (gpu->resources)
		gpu_resource_free(gpu, *(struct gpu_resource **)gpu->resources);
}

static void leave(const void *node, VISIT which, void *slot)
{
	if (which == postorder || which == leaf)
		(*(struct gpu_resource *const *)node)->contexts &=
			~(UINT64_C(1) << *(const unsigned *)slot);
}

void gpu_resources_leave(struct gpu *gpu, unsigned slot)
{
	twalk_r(gpu->resources, leave, &slot);
}

/* ---- backing ------------------------------------------------------------------------------- */

/* Every byte of it is guest memory. Returns the sum of the lengths; 0: something is not right. */
static uint64_t entries_judge(const struct gpu *gpu, const struct virtio_gpu_mem_entry *entries,
			      uint32_t count)
{
	struct iovec iov[VIRTIO_DMA_RANGES_MAX];
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		/* No more pieces than there are ranges, each of at most 2^32 - 1 bytes: sum holds. */
		if (!entries[i].length ||
		    virtio_dma_resolve(&gpu->dev.dma, entries[i].addr, entries[i].length, iov,
				       ARRAY_SIZE(iov)) < 0)
			return 0;
		sum += entries[i].length;
	}
	return sum;
}

bool gpu_backing_attach(struct gpu *gpu, struct gpu_request *request, struct gpu_backing *backing,
			uint32_t count)
{
	struct virtio_gpu_mem_entry *entries;
	uint64_t size;

	if (!count) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return false;
	}
	entries = count <= MIN(GPU_ENTRIES_MAX, GPU_ENTRIES_TOTAL - gpu->entries_used)
			  ? calloc(count, sizeof(*entries))
			  : NULL;
	if (!entries) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
		return false;
	}
	if (!gpu_request_trailing(request, 0, entries, count * sizeof(*entries)))
		size = 0;
	else
		size = entries_judge(gpu, entries, count);
	if (!size || size > GPU_BACKING_MAX - gpu->backing_used) {
		free(entries);
		gpu_fail(request, size ? VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY
				       : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return false;
	}
	*backing = (struct gpu_backing){ .count = count, .entries = entries, .size = size };
	gpu->entries_used += count;
	gpu->backing_used += size;
	return true;
}

void gpu_backing_detach(struct gpu *gpu, struct gpu_backing *backing)
{
	gpu->entries_used -= backing->count;
	gpu->backing_used -= backing->size;
	free(backing->entries);
	*backing = (struct gpu_backing){ 0 };
}

/* Move @walk to the entry that holds @offset. Returns false past the end. */
static bool walk_to(const struct gpu_backing *backing, struct gpu_walk *walk, uint64_t offset)
{
	while (walk->entry < backing->count &&
	       offset - walk->before >= backing->entries[walk->entry].length)
		walk->before += backing->entries[walk->entry++].length;
	return walk->entry < backing->count;
}

bool gpu_backing_read(const struct gpu *gpu, const struct gpu_backing *backing,
		      struct gpu_walk *walk, uint64_t offset, void *buffer, size_t size)
{
	struct iovec iov[VIRTIO_DMA_RANGES_MAX];
	uint8_t *to = buffer;

	while (size) {
		const struct virtio_gpu_mem_entry *entry;
		uint64_t skip, part;
		int pieces;

		if (!walk_to(backing, walk, offset))
			return false;
		entry = &backing->entries[walk->entry];
		skip = offset - walk->before;
		part = MIN(size, entry->length - skip);
		pieces = virtio_dma_resolve(&gpu->dev.dma, entry->addr + skip, part, iov,
					    ARRAY_SIZE(iov));
		if (pieces < 0)
			return false;
		virtio_iov_read(iov, (unsigned)pieces, 0, to, part);
		to += part;
		offset += part;
		size -= part;
	}
	return true;
}

uint8_t *gpu_backing_ptr(const struct gpu *gpu, const struct gpu_backing *backing, uint64_t offset,
			 uint64_t size)
{
	struct iovec iov[VIRTIO_DMA_RANGES_MAX];
	struct gpu_walk walk = { 0 };
	uint8_t *first = NULL, *next = NULL;

	while (size) {
		const struct virtio_gpu_mem_entry *entry;
		uint64_t skip, part;
		int pieces;

		if (!walk_to(backing, &walk, offset))
			return NULL;
		entry = &backing->entries[walk.entry];
		skip = offset - walk.before;
		part = MIN(size, entry->length - skip);
		pieces = virtio_dma_resolve(&gpu->dev.dma, entry->addr + skip, part, iov,
					    ARRAY_SIZE(iov));
		for (int i = 0; i < pieces; i++) {
			if (first && iov[i].iov_base != next)
				return NULL;
			if (!first)
				first = iov[i].iov_base;
			next = (uint8_t *)iov[i].iov_base + iov[i].iov_len;
		}
		if (pieces < 0)
			return NULL;
		offset += part;
		size -= part;
	}
	return first;
}
