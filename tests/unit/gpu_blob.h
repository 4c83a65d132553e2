/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_blob: requests of blobs and contexts, and a mapper that shows the window's memory in this process, at
 * once or later, after gpu_guest.h.
 */
#ifndef TESTS_GPU_BLOB_H
#define TESTS_GPU_BLOB_H

#include "tests/unit/gpu_guest.h"

#include <errno.h>
#include <pthread.h>

#define WINDOW_SIZE   (256 * MIB)
#define BLOB_FEATURES (GPU_FEATURES | FEATURE(VIRTIO_GPU_F_RESOURCE_BLOB))
#define VENUS_FEATURES \
	(BLOB_FEATURES | FEATURE(VIRTIO_GPU_F_VIRGL) | FEATURE(VIRTIO_GPU_F_CONTEXT_INIT))

/* ---- a mapper -------------------------------------------------------------------------------- */

#define LATER_MAX 64

static struct shower {
	uint8_t *window; /* WINDOW_SIZE of address space */
	unsigned maps, unmaps, wrong;
	int refuse;   /* -errno for every map, 0: none */
	bool is_late; /* answers are given by shower_answer() */
	struct {
		vfio_mapped done;
		void *token;
	} later[LATER_MAX];
	unsigned later_count;
	struct {
		uint64_t offset, size;
		bool is_atomic;
	} shown[1024];
	unsigned shown_count;
	pthread_mutex_t lock;
} shower = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int outcome(vfio_mapped done, void *token)
{
	if (!shower.is_late || !done)
		return 0;
	if (shower.later_count == LATER_MAX)
		return -ENOSPC;
	shower.later[shower.later_count].done = done;
	shower.later[shower.later_count++].token = token;
	return -EINPROGRESS;
}

static int show(void *opaque, const struct vfio_region_map *map, vfio_mapped done, void *token)
{
	void *at;
	int ret;

	pthread_mutex_lock(&shower.lock);
	shower.wrong += map->index != 2 || map->offset % 4096 || map->size % 4096 ||
			map->offset + map->size > WINDOW_SIZE;
	for (unsigned i = 0; i < shower.shown_count; i++)
		shower.wrong += map->offset < shower.shown[i].offset + shower.shown[i].size &&
				shower.shown[i].offset < map->offset + map->size;
	ret = shower.refuse;
	if (!ret) {
		at = mmap(shower.window + map->offset, map->size, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_FIXED, map->fd, (off_t)map->fd_offset);
		shower.wrong += at == MAP_FAILED;
		shower.shown[shower.shown_count].offset = map->offset;
		shower.shown[shower.shown_count].is_atomic = map->is_atomic;
		shower.shown[shower.shown_count++].size = map->size;
		shower.maps++;
		ret = outcome(done, token);
	}
	pthread_mutex_unlock(&shower.lock);
	return ret;
}

static int hide(void *opaque, uint32_t index, uint64_t offset, uint64_t size, vfio_mapped done,
		void *token)
{
	int ret = -ENOENT;

	pthread_mutex_lock(&shower.lock);
	for (unsigned i = 0; i < shower.shown_count; i++)
		if (shower.shown[i].offset == offset && shower.shown[i].size == size) {
			ret = outcome(done, token);
			if (ret && ret != -EINPROGRESS)
				break;
			mmap(shower.window + offset, size, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
			shower.shown[i] = shower.shown[--shower.shown_count];
			shower.unmaps++;
			break;
		}
	shower.wrong += ret == -ENOENT;
	pthread_mutex_unlock(&shower.lock);
	return ret;
}

static const struct vfio_mapper mapper = { .map = show, .unmap = hide };

/* Give the answers that are due. Returns how many. */
static inline unsigned shower_answer(int result)
{
	struct {
		vfio_mapped done;
		void *token;
	} due[LATER_MAX];
	unsigned count;

	pthread_mutex_lock(&shower.lock);
	count = shower.later_count;
	memcpy(due, shower.later, sizeof(due));
	shower.later_count = 0;
	pthread_mutex_unlock(&shower.lock);
	for (unsigned i = 0; i < count; i++)
		due[i].done(due[i].token, result);
	return count;
}

static inline unsigned shower_waiting(void)
{
	unsigned count;

	pthread_mutex_lock(&shower.lock);
	count = shower.later_count;
	pthread_mutex_unlock(&shower.lock);
	return count;
}

static inline void shower_open(void)
{
	pthread_mutex_t lock = shower.lock;

	shower = (struct shower){ .lock = lock };
	shower.window = mmap(NULL, WINDOW_SIZE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(shower.window != MAP_FAILED);
	guest.device->ops->set_mapper(guest.device, &mapper, NULL);
}

static inline void shower_close(void)
{
	guest.device->ops->set_mapper(guest.device, NULL, NULL);
	munmap(shower.window, WINDOW_SIZE);
	assert_int_equal(shower.wrong, 0);
}

/* ---- requests ------------------------------------------------------------------------------- */

/* The worker's memory of a number; 0: plain shared memory. */
static inline uint32_t create_numbered(uint32_t context, uint32_t id, uint64_t blob_id,
				       uint64_t size)
{
	struct virtio_gpu_resource_create_blob request = {
		.hdr = { .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, .ctx_id = context },
		.resource_id = id,
		.blob_mem = VIRTIO_GPU_BLOB_MEM_HOST3D,
		.blob_flags = VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE,
		.blob_id = blob_id,
		.size = size,
	};

	return ASK(request);
}

static inline uint32_t create_blob(uint32_t context, uint32_t id, uint32_t memory, uint64_t size,
				   const struct virtio_gpu_mem_entry *entries, uint32_t count)
{
	static uint8_t buffer[REQUEST_SIZE];
	struct virtio_gpu_resource_create_blob request = {
		.hdr = { .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, .ctx_id = context },
		.resource_id = id,
		.blob_mem = memory,
		.blob_flags = VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE,
		.nr_entries = count,
		.size = size,
	};

	memcpy(buffer, &request, sizeof(request));
	if (count)
		memcpy(buffer + sizeof(request), entries, count * sizeof(*entries));
	return gpu_ask(buffer, sizeof(request) + count * sizeof(*entries));
}

static inline uint32_t create_shared(uint32_t context, uint32_t id, uint64_t size)
{
	return create_blob(context, id, VIRTIO_GPU_BLOB_MEM_HOST3D, size, NULL, 0);
}

static inline uint32_t map_blob(uint32_t id, uint64_t offset)
{
	struct virtio_gpu_resource_map_blob request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB, .resource_id = id, .offset = offset
	};

	return ASK(request);
}

static inline uint32_t unmap_blob(uint32_t id)
{
	struct virtio_gpu_resource_unmap_blob request = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB, .resource_id = id
	};

	return ASK(request);
}

static inline uint32_t context_create(uint32_t id)
{
	struct virtio_gpu_ctx_create request = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = id },
		.nlen = 4,
		.context_init = VIRTIO_GPU_CAPSET_VENUS,
		.debug_name = "test",
	};

	return ASK(request);
}

static inline uint32_t context_destroy(uint32_t id)
{
	struct virtio_gpu_ctx_destroy request = { .hdr = { .type = VIRTIO_GPU_CMD_CTX_DESTROY,
							   .ctx_id = id } };

	return ASK(request);
}

static inline uint32_t context_resource(uint32_t command, uint32_t context, uint32_t id)
{
	struct virtio_gpu_ctx_resource request = { .hdr = { .type = command, .ctx_id = context },
						   .resource_id = id };

	return ASK(request);
}

static inline uint32_t submit(uint32_t context, const void *data, uint32_t size, uint32_t flags,
			      uint8_t ring, uint64_t fence)
{
	static uint8_t buffer[REQUEST_SIZE];
	struct virtio_gpu_cmd_submit request = {
		.hdr = { .type = VIRTIO_GPU_CMD_SUBMIT_3D,
			 .flags = flags,
			 .fence_id = fence,
			 .ctx_id = context,
			 .ring_idx = ring },
		.size = size,
	};

	memcpy(buffer, &request, sizeof(request));
	if (size)
		memcpy(buffer + sizeof(request), data, size);
	return gpu_ask(buffer, sizeof(request) + size);
}

#endif
