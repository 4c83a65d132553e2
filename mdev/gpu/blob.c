// SPDX-License-Identifier: Apache-2.0
/*
 * blob: resources that are memory and nothing more (VIRTIO 1.2, 5.7.6.8, RESOURCE_BLOB): the guest's own pages,
 * or memory of the host that a render worker made, which the guest sees through the window.
 *
 * A blob of guest memory is ours alone: virglrenderer could not pass it to its worker, and is not told. The guest half of a
 * HOST3D_GUEST blob likewise. Memory of the host is never read here but where a head shows it.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

#include "mdev/gpu/gpu.h"

#define BLOB_FLAGS                                                                \
	(VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE | VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE | \
	 VIRTIO_GPU_BLOB_FLAG_USE_CROSS_DEVICE)

static enum virtio_gpu_ctrl_type answer_of(int ret)
{
	switch (ret) {
	case 0:
		return VIRTIO_GPU_RESP_OK_NODATA;
	case -EINVAL:
	case -EEXIST:
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	case -ENOMEM:
	case -ENOSPC:
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	default:
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
}

/* ---- creation ------------------------------------------------------------------------------ */

static void create_guest_blob(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_resource_create_blob *body = &request->body.create_blob;
	struct gpu_resource *resource =
		gpu_resource_add(gpu, request, body->resource_id, GPU_KIND_GUEST_BLOB);

	if (!resource)
		return;
	resource->size = body->size;
	if (!gpu_backing_attach(gpu, request, &resource->backing, body->nr_entries)) {
		gpu_resource_free(gpu, resource);
	} else if (resource->backing.size < body->size) {
		gpu_resource_free(gpu, resource);
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	}
}

/* The slot of the context that the header names, if its worker lives. */
static bool working_context(const struct gpu *gpu, struct gpu_request *request)
{
	const uint32_t id = request->body.hdr.ctx_id;

	for (unsigned i = 0; id && i < GPU_CONTEXTS_MAX; i++)
		if (gpu->contexts[i].id == id) {
			request->context = i;
			if (gpu->contexts[i].lost)
				gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
			return !gpu->contexts[i].lost;
		}
	gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	return false;
}

static void create_host_blob(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_resource_create_blob *body = &request->body.create_blob;
	/* Number 0 is the worker's plain shared memory, which no quota of the GPU's covers. */
	const bool is_shared = !body->blob_id;
	struct gpu_resource *resource;

	if (!working_context(gpu, request))
		return;
	if (body->size % GPU_PAGE) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	/*
	 * Memory of the GPU's that the guest made a blob of is ours to count: the worker may have freed it, and its quota does not know of it then. What
	 * a guest maps lies in the window; as much again it may hold and not map.
	 */
	if (is_shared ? body->size > GPU_SHARED_MAX - gpu->shared_used
		      : body->size > 2 * gpu->dev.window_size - gpu->blobs_used) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
		return;
	}
	resource = gpu_resource_add(gpu, request, body->resource_id, GPU_KIND_HOST_BLOB);
	if (!resource)
		return;
	resource->size = body->size;
	resource->mappable = body->blob_flags & VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE;
	resource->is_shared = is_shared;
	*(is_shared ? &gpu->shared_used : &gpu->blobs_used) += body->size;
	if (body->nr_entries &&
	    !gpu_backing_attach(gpu, request, &resource->backing, body->nr_entries)) {
		gpu_resource_free(gpu, resource);
		return;
	}
	if (body->nr_entries && resource->backing.size < body->size) {
		gpu_resource_free(gpu, resource);
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	request->resource = resource;
	gpu->call = (struct venus_call){
		.op = VENUS_BLOB_CREATE,
		.context = body->hdr.ctx_id,
		.resource = body->resource_id,
		.blob_id = body->blob_id,
		.size = body->size,
		.flags = body->blob_flags,
	};
	gpu_call_begin(gpu, request);
}

void gpu_create_blob(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_resource_create_blob *body = &request->body.create_blob;
	const bool has_guest = body->blob_mem != VIRTIO_GPU_BLOB_MEM_HOST3D;

	if (body->blob_mem < VIRTIO_GPU_BLOB_MEM_GUEST ||
	    body->blob_mem > VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST ||
	    body->blob_flags & ~(uint32_t)BLOB_FLAGS || !body->size || body->size > GPU_BLOB_MAX ||
	    has_guest != (body->nr_entries != 0)) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	if (body->blob_mem == VIRTIO_GPU_BLOB_MEM_GUEST)
		create_guest_blob(gpu, request);
	else
		create_host_blob(gpu, request);
}

void gpu_create_blob_resume(struct gpu *gpu, struct gpu_request *request)
{
	struct gpu_resource *resource = request->resource;

	if (gpu->call.ret) {
		gpu_resource_free(gpu, resource);
		gpu_fail(request, answer_of(gpu->call.ret == -EINVAL ? -EIO : gpu->call.ret));
		return;
	}
	resource->fd_type = gpu->call.fd_type;
	/* Made by a context, it is attached to it. */
	if (!gpu->contexts[request->context].lost)
		resource->contexts = UINT64_C(1) << request->context;
}

/* ---- the window ----------------------------------------------------------------------------- */

/* The host's blob that a request names. */
static struct gpu_resource *host_blob(struct gpu *gpu, struct gpu_request *request, uint32_t id)
{
	struct gpu_resource *resource = gpu_resource_find(gpu, id);

	if (resource && resource->kind == GPU_KIND_HOST_BLOB)
		return resource;
	gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	return NULL;
}

/*
 * Three waits: until nothing is under way, so that the place is free in truth; for the file; for the mapper.
 */
void gpu_map_blob(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_resource_map_blob *body = &request->body.map_blob;
	struct gpu_resource *resource = host_blob(gpu, request, body->resource_id);
	int ret;

	if (!resource)
		return;
	ret = resource->mappable && !resource->mapped
		      ? gpu_window_place(gpu, resource, body->offset)
		      : -EINVAL;
	if (ret) {
		gpu_fail(request, answer_of(ret));
		return;
	}
	request->resource = resource;
	request->step = 0;
	request->wait = GPU_WAIT_WINDOW;
}

static void map_export(struct gpu *gpu, struct gpu_request *request)
{
	gpu->call = (struct venus_call){ .op = VENUS_EXPORT,
					 .fd = -1,
					 .resource = request->resource->id,
					 .size = request->resource->size };
	gpu_call_begin(gpu, request);
}

static int map_show(struct gpu *gpu, struct gpu_request *request)
{
	struct venus_call *call = &gpu->call;
	int ret = call->ret;

	if (ret)
		return ret;
	ret = gpu_window_map(gpu, request->resource, call->fd, call->fd_offset);
	fd_close(&call->fd);
	return ret;
}

void gpu_map_blob_resume(struct gpu *gpu, struct gpu_request *request)
{
	int ret;

	if (request->step == 0) {
		request->step = 1;
		map_export(gpu, request);
		return;
	}
	if (request->step == 1) {
		request->step = 2;
		ret = map_show(gpu, request);
		if (ret == -EINPROGRESS) {
			request->wait = GPU_WAIT_WINDOW;
			return;
		}
	} else {
		ret = gpu->window.map_result;
		if (ret && request->resource->mapped)
			gpu_window_forget(gpu, request->resource);
		/* The mapper was replaced meanwhile. */
		if (!ret && !request->resource->mapped)
			ret = -ENOTCONN;
	}
	if (ret) {
		gpu_fail(request, answer_of(ret));
		return;
	}
	request->response.map_info.map_info = gpu->call.caching;
	request->response.map_info.padding = 0;
	gpu_answer(request, VIRTIO_GPU_RESP_OK_MAP_INFO, sizeof(request->response.map_info));
}

void gpu_unmap_blob(struct gpu *gpu, struct gpu_request *request)
{
	struct gpu_resource *resource =
		host_blob(gpu, request, request->body.unmap_blob.resource_id);

	if (!resource)
		return;
	if (!resource->mapped) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	gpu_window_unmap(gpu, resource);
	request->wait = GPU_WAIT_WINDOW;
}

void gpu_unmap_blob_resume(struct gpu *gpu, struct gpu_request *request)
{
}

/* ---- the end ------------------------------------------------------------------------------- */

void gpu_unref(struct gpu *gpu, struct gpu_request *request)
{
	struct gpu_resource *resource = gpu_resource_find(gpu, request->body.unref.resource_id);

	if (!resource) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	if (resource->kind == GPU_KIND_HOST_BLOB) {
		gpu->call = (struct venus_call){ .op = VENUS_UNREF, .resource = resource->id };
		gpu_resource_free(gpu, resource);
		gpu_call_begin(gpu, request);
		return;
	}
	gpu_resource_free(gpu, resource);
}

void gpu_unref_resume(struct gpu *gpu, struct gpu_request *request)
{
	/* It is gone, also where virglrenderer had lost it before. */
}

/* ---- heads --------------------------------------------------------------------------------- */

/* Where the pixels end in the blob; 0: the numbers cannot be. */
static uint64_t pixels_end(const struct virtio_gpu_set_scanout_blob *body)
{
	const uint32_t stride = body->strides[0], offset = body->offsets[0];

	if (!gpu_rect_inside(&body->r, body->width, body->height) || body->width > GPU_SIDE_MAX ||
	    body->height > GPU_SIDE_MAX || body->r.width > GPU_HEAD_SIDE_MAX ||
	    body->r.height > GPU_HEAD_SIDE_MAX)
		return 0;
	/* pixman's rows are words. */
	if (stride % 4 || offset % 4 || stride < body->width * 4 || stride > GPU_SIDE_MAX * 16)
		return 0;
	return offset + (uint64_t)(body->height - 1) * stride + body->width * 4;
}

static void show(struct gpu *gpu, struct gpu_request *request, struct gpu_resource *resource,
		 void *map, uint64_t map_size, uint32_t map_skip)
{
	const struct virtio_gpu_set_scanout_blob *body = &request->body.set_scanout_blob;
	const struct gpu_head shown = {
		.resource = resource,
		.rect = body->r,
		.format = gpu_format_find(body->format),
		.stride = body->strides[0],
		.offset = body->offsets[0],
		.map = map,
		.map_size = map_size,
		.map_skip = map_skip,
	};

	gpu_head_show(gpu, body->scanout_id, &shown);
}

void gpu_set_scanout_blob(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_set_scanout_blob *body = &request->body.set_scanout_blob;
	struct gpu_resource *resource;
	uint64_t end;

	if (body->scanout_id >= gpu->head_count) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
		return;
	}
	if (!body->resource_id) {
		gpu_head_off(gpu, body->scanout_id);
		return;
	}
	resource = gpu_resource_find(gpu, body->resource_id);
	if (!resource || resource->kind == GPU_KIND_2D) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	end = pixels_end(body);
	if (!end || end > resource->size || !gpu_format_find(body->format)) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	if (resource->kind == GPU_KIND_GUEST_BLOB) {
		show(gpu, request, resource, NULL, 0, 0);
		return;
	}
	request->resource = resource;
	gpu->call = (struct venus_call){
		.op = VENUS_EXPORT, .fd = -1, .resource = resource->id, .size = end
	};
	gpu_call_begin(gpu, request);
}

/* A host's blob: its pages from the one with the first pixel on, to be read. */
void gpu_set_scanout_blob_resume(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_set_scanout_blob *body = &request->body.set_scanout_blob;
	struct venus_call *call = &gpu->call;
	uint64_t first, start, size;
	void *map;

	if (call->ret) {
		gpu_call_resume(gpu, request);
		return;
	}
	first = call->fd_offset + body->offsets[0];
	start = first - first % GPU_PAGE;
	size = call->fd_offset + pixels_end(body) - start;
	map = mmap(NULL, size, PROT_READ, MAP_SHARED, call->fd, (off_t)start);
	fd_close(&call->fd);
	if (map == MAP_FAILED) {
		gpu_fail(request, answer_of(-errno));
		return;
	}
	show(gpu, request, request->resource, map, size, (uint32_t)(first - start));
}
