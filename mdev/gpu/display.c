// SPDX-License-Identifier: Apache-2.0
/*
 * display: those who look at the heads, and the calls of the public header that concern them.
 *
 * Observers are told on the worker, in the order in which things happened; everything that is asked from
 * outside is run there too, so that nobody sees half a change.
 */
#include <errno.h>

#include "mdev/gpu/gpu.h"

#define FOR_EACH_DISPLAY(gpu, display)                                       \
	for (struct gpu_display *display = (gpu)->displays;                  \
	     display < (gpu)->displays + VIRTIO_GPU_DISPLAYS_MAX; display++) \
		if (display->ops)

void gpu_display_size(struct gpu *gpu, unsigned head)
{
	const struct virtio_gpu_rect *rect = &gpu->heads[head].rect;

	FOR_EACH_DISPLAY(gpu, display)
	if (display->ops->size)
		display->ops->size(display->opaque, head, rect->width, rect->height);
}

void gpu_display_damage(struct gpu *gpu, unsigned head, const struct virtio_gpu_rectangle *damage)
{
	pixman_image_t *view = NULL;

	FOR_EACH_DISPLAY(gpu, display)
	{
		if (!display->ops->damage)
			continue;
		if (!view)
			view = gpu_head_view(gpu, head);
		if (view)
			display->ops->damage(display->opaque, head, view, damage);
	}
}

void gpu_display_cursor(struct gpu *gpu, unsigned head, bool moved)
{
	FOR_EACH_DISPLAY(gpu, display)
	if (display->ops->cursor)
		display->ops->cursor(display->opaque, head, &gpu->heads[head].cursor, moved);
}

/* ---- from outside ---------------------------------------------------------------------------- */

/* Run @run on the worker, from a thread that is not it. */
static void ask(struct gpu *gpu, void (*run)(struct virtio_device *dev, void *arg), void *arg)
{
	pthread_mutex_lock(&gpu->dev.lock);
	virtio_worker_call(&gpu->dev, run, arg);
	pthread_mutex_unlock(&gpu->dev.lock);
}

static struct gpu *gpu_from(struct vfio_device *device)
{
	return gpu_of(container_of(device, struct virtio_device, vfio));
}

struct display_call {
	struct gpu_display display;
	int ret;
};

static void run_add(struct virtio_device *dev, void *arg)
{
	struct gpu *gpu = gpu_of(dev);
	struct display_call *call = arg;
	struct gpu_display *place = NULL;

	for (unsigned i = 0; i < VIRTIO_GPU_DISPLAYS_MAX && !place; i++)
		if (!gpu->displays[i].ops)
			place = &gpu->displays[i];
	call->ret = place ? 0 : -ENOSPC;
	if (!place)
		return;
	*place = call->display;
	for (unsigned i = 0; i < gpu->head_count; i++) {
		const struct virtio_gpu_rect *rect = &gpu->heads[i].rect;
		const struct virtio_gpu_rectangle all = { 0, 0, rect->width, rect->height };
		pixman_image_t *view = gpu_head_view(gpu, i);

		if (!gpu->heads[i].resource)
			continue;
		if (place->ops->size)
			place->ops->size(place->opaque, i, rect->width, rect->height);
		if (place->ops->damage && view)
			place->ops->damage(place->opaque, i, view, &all);
		if (place->ops->cursor)
			place->ops->cursor(place->opaque, i, &gpu->heads[i].cursor, false);
	}
}

int virtio_gpu_display_add(struct vfio_device *device, const struct virtio_gpu_display_ops *ops,
			   void *opaque)
{
	struct display_call call = { .display = { .ops = ops, .opaque = opaque } };

	ask(gpu_from(device), run_add, &call);
	return call.ret;
}

static void run_remove(struct virtio_device *dev, void *arg)
{
	const struct gpu_display *gone = arg;

	FOR_EACH_DISPLAY(gpu_of(dev), display)
	if (display->ops == gone->ops && display->opaque == gone->opaque)
		*display = (struct gpu_display){ 0 };
}

void virtio_gpu_display_remove(struct vfio_device *device, const struct virtio_gpu_display_ops *ops,
			       void *opaque)
{
	struct gpu_display gone = { .ops = ops, .opaque = opaque };

	ask(gpu_from(device), run_remove, &gone);
}

struct look_call {
	unsigned head;
	int (*look)(void *opaque, pixman_image_t *image);
	int (*look_cursor)(void *opaque, pixman_image_t *image,
			   const struct virtio_gpu_cursor_image *cursor);
	void *opaque;
	int ret;
};

static void run_look(struct virtio_device *dev, void *arg)
{
	struct gpu *gpu = gpu_of(dev);
	struct look_call *call = arg;
	pixman_image_t *view;

	if (call->head >= gpu->head_count) {
		call->ret = -ENOENT;
		return;
	}
	view = gpu_head_view(gpu, call->head);
	if (!view)
		call->ret = -ENODATA;
	else if (call->look)
		call->ret = call->look(call->opaque, view);
	else
		call->ret = call->look_cursor(call->opaque, view, &gpu->heads[call->head].cursor);
}

int virtio_gpu_head_look(struct vfio_device *device, unsigned head,
			 int (*look)(void *opaque, pixman_image_t *image), void *opaque)
{
	struct look_call call = { .head = head, .look = look, .opaque = opaque };

	ask(gpu_from(device), run_look, &call);
	return call.ret;
}

int gpu_head_look_cursor(struct vfio_device *device, unsigned head,
			 int (*look)(void *opaque, pixman_image_t *image,
				     const struct virtio_gpu_cursor_image *cursor),
			 void *opaque)
{
	struct look_call call = { .head = head, .look_cursor = look, .opaque = opaque };

	ask(gpu_from(device), run_look, &call);
	return call.ret;
}

/* ---- monitors ------------------------------------------------------------------------------ */

struct mode_call {
	unsigned head;
	struct virtio_gpu_mode mode;
};

static void run_mode(struct virtio_device *dev, void *arg)
{
	struct gpu *gpu = gpu_of(dev);
	const struct mode_call *call = arg;
	struct virtio_gpu_mode *mode = &gpu->heads[call->head].mode;

	if (mode->width == call->mode.width && mode->height == call->mode.height)
		return;
	*mode = call->mode;
	/* 5.7.5: the driver asks for display info and EDIDs again. */
	__atomic_fetch_or(&gpu->events, VIRTIO_GPU_EVENT_DISPLAY, __ATOMIC_RELEASE);
	virtio_config_changed(dev);
}

int virtio_gpu_head_set(struct vfio_device *device, unsigned head,
			const struct virtio_gpu_mode *mode)
{
	struct gpu *gpu = gpu_from(device);
	struct mode_call call = { .head = head, .mode = *mode };

	if (head >= gpu->head_count)
		return -ENOENT;
	if (!gpu_mode_good(mode))
		return -EINVAL;
	ask(gpu, run_mode, &call);
	return 0;
}

static void run_mode_get(struct virtio_device *dev, void *arg)
{
	struct mode_call *call = arg;

	call->mode = gpu_of(dev)->heads[call->head].mode;
}

int virtio_gpu_head_mode(struct vfio_device *device, unsigned head, struct virtio_gpu_mode *mode)
{
	struct gpu *gpu = gpu_from(device);
	struct mode_call call = { .head = head };

	if (head >= gpu->head_count)
		return -ENOENT;
	ask(gpu, run_mode_get, &call);
	*mode = call.mode;
	return 0;
}
