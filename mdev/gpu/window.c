// SPDX-License-Identifier: Apache-2.0
/*
 * window: the guest's view of host memory (VIRTIO_GPU_SHM_ID_HOST_VISIBLE), shown by whoever is this
 * device's mapper (struct vfio_mapper): the hypervisor's glue, or a vfio-user client at the other end of a socket.
 *
 * The mapper may answer later, and takes a bounded number of requests at a time; the worker waits for
 * none. What is to be unmapped goes through a queue, because a reset can take more out of the window than the mapper takes
 * at once. A new map is asked for only when nothing is under way: so it cannot overtake the unmap of
 * what was there before.
 */
#include <errno.h>
#include <search.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mdev/gpu/gpu.h"

#define AT_ONCE 32 /* unmaps under way */

/* Two resources that overlap in the window are the same to the tree: it holds none that do. */
static int by_place(const void *a, const void *b)
{
	const struct gpu_resource *one = a, *other = b;

	if (one->window_offset + one->size <= other->window_offset)
		return -1;
	return other->window_offset + other->size <= one->window_offset;
}

bool gpu_window_idle(const struct gpu *gpu)
{
	return !gpu->window.pending && !gpu->window.sent && !gpu->window.mapping;
}

/* ---- answers of the mapper: any thread ------------------------------------------------------ */

static void on_unmapped(void *token, int result)
{
	struct gpu *gpu = token;

	/* A mapper that is gone, or never had it: not shown either way. */
	__atomic_fetch_add(&gpu->window.unmapped, 1, __ATOMIC_RELEASE);
	eventfd_write(gpu->window.wake_fd, 1);
}

static void on_mapped(void *token, int result)
{
	struct gpu *gpu = token;

	gpu->window.result = result;
	__atomic_store_n(&gpu->window.mapped, true, __ATOMIC_RELEASE);
	eventfd_write(gpu->window.wake_fd, 1);
}

/* ---- unmapping ------------------------------------------------------------------------------ */

/* Send what waits, as much as the mapper takes. */
static void pump(struct gpu *gpu)
{
	struct gpu_window *window = &gpu->window;

	while (window->pending && window->sent < AT_ONCE) {
		const struct gpu_place *place = &window->places[window->first];
		int ret = -ENOTCONN;

		if (window->mapper)
			ret = window->mapper->unmap(window->opaque, VIRTIO_BAR_WINDOW,
						    place->offset, place->size, on_unmapped, gpu);
		/* Full with what is under way: its answers bring us back. */
		if (ret == -ENOSPC && window->sent)
			return;
		if (ret == -EINPROGRESS)
			window->sent++;
		else if (ret && ret != -ENOTCONN && ret != -ENOENT)
			log_limited(LOG_LEVEL_WARN, "%s: a blob stays in the window: %s",
				    gpu->dev.vfio.name, strerror(-ret));
		window->first = (window->first + 1) % ARRAY_SIZE(window->places);
		window->pending--;
	}
}

static void queue_unmap(struct gpu *gpu, uint64_t offset, uint64_t size)
{
	struct gpu_window *window = &gpu->window;

	/* There is a place for each that can be mapped: gpu_window_map(). */
	window->places[(window->first + window->pending++) % ARRAY_SIZE(window->places)] =
		(struct gpu_place){ offset, size };
	pump(gpu);
}

void gpu_window_unmap(struct gpu *gpu, struct gpu_resource *resource)
{
	tdelete(resource, &gpu->window.shown, by_place);
	gpu->window.shown_count--;
	resource->mapped = false;
	queue_unmap(gpu, resource->window_offset, resource->size);
}

/* ---- mapping -------------------------------------------------------------------------------- */

int gpu_window_place(struct gpu *gpu, struct gpu_resource *resource, uint64_t offset)
{
	struct gpu_window *window = &gpu->window;

	if (offset % GPU_PAGE || resource->size > gpu->dev.window_size ||
	    offset > gpu->dev.window_size - resource->size)
		return -EINVAL;
	if (!window->mapper)
		return -ENOTCONN;
	if (window->shown_count == GPU_MAPPED_MAX)
		return -ENOSPC;
	resource->window_offset = offset;
	return tfind(resource, &window->shown, by_place) ? -EEXIST : 0;
}

int gpu_window_map(struct gpu *gpu, struct gpu_resource *resource, int fd, uint64_t fd_offset)
{
	struct gpu_window *window = &gpu->window;
	const struct vfio_region_map map = {
		.index = VIRTIO_BAR_WINDOW,
		.offset = resource->window_offset,
		.size = resource->size,
		.fd = fd,
		.fd_offset = fd_offset,
		/* Rings lie in shared memory; what programs allocate never does. */
		.is_atomic = resource->is_shared,
	};
	int ret;

	if (!window->mapper)
		return -ENOTCONN;
	if (!tsearch(resource, &window->shown, by_place))
		return -ENOMEM;
	window->shown_count++;
	resource->mapped = true;
	/* Its answer may come before this returns. */
	window->mapping = true;
	__atomic_store_n(&window->mapped, false, __ATOMIC_RELAXED);
	ret = window->mapper->map(window->opaque, &map, on_mapped, gpu);
	if (ret == -EINPROGRESS)
		return ret;
	window->mapping = false;
	if (ret)
		gpu_window_forget(gpu, resource);
	return ret;
}

void gpu_window_forget(struct gpu *gpu, struct gpu_resource *resource)
{
	tdelete(resource, &gpu->window.shown, by_place);
	gpu->window.shown_count--;
	resource->mapped = false;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void on_wake(struct virtio_device *dev, uint32_t epoll_events)
{
	struct gpu *gpu = gpu_of(dev);
	struct gpu_window *window = &gpu->window;
	eventfd_t count;

	eventfd_read(window->wake_fd, &count);
	window->sent -= __atomic_exchange_n(&window->unmapped, 0, __ATOMIC_ACQUIRE);
	if (window->mapping && __atomic_exchange_n(&window->mapped, false, __ATOMIC_ACQUIRE)) {
		window->mapping = false;
		window->map_result = window->result;
	}
	pump(gpu);
	gpu_request_go_on(gpu);
}

struct mapper_call {
	const struct vfio_mapper *mapper;
	void *opaque;
};

static void run_set_mapper(struct virtio_device *dev, void *arg)
{
	struct gpu *gpu = gpu_of(dev);
	struct gpu_window *window = &gpu->window;
	const struct mapper_call *call = arg;

	/* What the one before showed went with it. */
	while (window->shown)
		gpu_window_forget(gpu, *(struct gpu_resource **)window->shown);
	window->pending = 0;
	window->mapper = call->mapper;
	window->opaque = call->opaque;
	gpu_request_go_on(gpu);
}

void gpu_window_set_mapper(struct virtio_device *dev, const struct vfio_mapper *mapper,
			   void *opaque)
{
	struct mapper_call call = { mapper, opaque };

	pthread_mutex_lock(&dev->lock);
	virtio_worker_call(dev, run_set_mapper, &call);
	__atomic_store_n(&gpu_of(dev)->is_shown, mapper != NULL, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&dev->lock);
}

int gpu_window_init(struct gpu *gpu, struct error *e)
{
	int ret;

	gpu->window.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = gpu->window.wake_fd < 0 ? -errno
				      : virtio_source_add(&gpu->dev, &gpu->window.source,
							  gpu->window.wake_fd, EPOLLIN, on_wake);
	if (ret < 0)
		return error_set(e, -ret, "device-failed", NULL, "%s: cannot watch its window: %s",
				 gpu->dev.vfio.name, strerror(-ret));
	return 0;
}

void gpu_window_destroy(struct gpu *gpu)
{
	virtio_source_remove(&gpu->window.source);
	fd_close(&gpu->window.wake_fd);
}
