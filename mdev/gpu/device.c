// SPDX-License-Identifier: Apache-2.0
/*
 * device: the vGPU as a virtio device (VIRTIO 1.2, 5.7): its configuration, what it offers, its life.
 *
 * Two queues, control and cursor, both served by the device's one worker (mdev/virtio.h), which is never a
 * vCPU's thread. What the files of this folder are for is in docs/vgpu.md.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdev/gpu/gpu.h"

#define QUEUES	   2
#define WINDOW_MIN MIB
#define WINDOW_MAX (1024 * GIB)

bool gpu_mode_good(const struct virtio_gpu_mode *mode)
{
	if (!mode->width && !mode->height)
		return true;
	return mode->width >= VIRTIO_GPU_WIDTH_MIN && mode->width <= VIRTIO_GPU_WIDTH_MAX &&
	       mode->height >= VIRTIO_GPU_HEIGHT_MIN && mode->height <= VIRTIO_GPU_HEIGHT_MAX;
}

/* ---- configuration (5.7.4) ------------------------------------------------------------------ */

static void config_read(struct virtio_device *dev, void *config)
{
	const struct gpu *gpu = gpu_of(dev);
	const struct virtio_gpu_config_space space = {
		.events_read = __atomic_load_n(&gpu->events, __ATOMIC_ACQUIRE),
		.num_scanouts = gpu->head_count,
		.num_capsets = gpu_num_capsets(gpu),
	};

	memcpy(config, &space, sizeof(space));
}

static void config_write(struct virtio_device *dev, uint32_t offset, const void *data, size_t count)
{
	struct gpu *gpu = gpu_of(dev);
	uint32_t clear;

	if (offset != offsetof(struct virtio_gpu_config_space, events_clear) ||
	    count != sizeof(clear))
		return;
	memcpy(&clear, data, sizeof(clear));
	__atomic_fetch_and(&gpu->events, ~clear, __ATOMIC_RELEASE);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void reset(struct virtio_device *dev)
{
	struct gpu *gpu = gpu_of(dev);

	/* What it waited for comes in vain. */
	gpu->request.wait = GPU_WAIT_NOT;
	gpu_fences_drop(gpu);
	gpu_resources_free(gpu);
	gpu_venus_reset(gpu);
	if (gpu->call.op == VENUS_EXPORT)
		fd_close(&gpu->call.fd);
	for (unsigned i = 0; i < gpu->head_count; i++) {
		gpu->heads[i].cursor =
			(struct virtio_gpu_cursor_image){ .pixels = gpu->heads[i].cursor_pixels };
		gpu_display_cursor(gpu, i, false);
	}
	__atomic_store_n(&gpu->events, 0, __ATOMIC_RELEASE);
}

static void memory_changed(struct virtio_device *dev)
{
	gpu_heads_forget(gpu_of(dev));
}

static int begin(struct virtio_device *dev, struct error *e)
{
	gpu_venus_begin(gpu_of(dev));
	return 0;
}

static void destroy(struct virtio_device *dev)
{
	struct gpu *gpu = gpu_of(dev);

	/* No driver, no resource: its end was a reset. */
	gpu_venus_destroy(gpu);
	gpu_window_destroy(gpu);
}

static const struct virtio_device_ops gpu_ops = {
	.thread_kind = "virtio-gpu",
	.device_id = VIRTIO_ID_GPU,
	.class_code = 0x038000, /* a display controller, but no VGA */
	.queue_count = QUEUES,
	.config_size = sizeof(struct virtio_gpu_config_space),
	.config_read = config_read,
	.config_write = config_write,
	.begin = begin,
	.queue_notify = gpu_queue_notify,
	.reset = reset,
	.memory_changed = memory_changed,
	.set_mapper = gpu_window_set_mapper,
	.destroy = destroy,
};

static int judge(const struct virtio_gpu_config *config, struct error *e)
{
	const char *name = config->name ? config->name : "vgpu";

	if (strnlen(name, 13) > 12 || !*name)
		return error_set(e, EINVAL, "bad-config", "give a name of 1 to 12 bytes",
				 "vGPU: its name is empty or too long");
	if (!config->head_count || config->head_count > VIRTIO_GPU_HEADS_MAX)
		return error_set(e, EINVAL, "bad-config", NULL, "vGPU %s: %u heads; 1 to %u can be",
				 name, config->head_count, VIRTIO_GPU_HEADS_MAX);
	if (config->window_size &&
	    (config->window_size & (config->window_size - 1) || config->window_size < WINDOW_MIN ||
	     config->window_size > WINDOW_MAX))
		return error_set(e, EINVAL, "bad-config", "give a power of two, 1 MiB to 1 TiB",
				 "vGPU %s: a window of %llu bytes", name,
				 (unsigned long long)config->window_size);
	if (config->venus && !config->window_size)
		return error_set(e, EINVAL, "bad-config", "give it a window, say of 4 GiB",
				 "vGPU %s: Vulkan needs a window for the host's memory", name);
	for (unsigned i = 0; i < config->head_count; i++)
		if (!gpu_mode_good(&config->heads[i]))
			return error_set(
				e, EINVAL, "bad-config", "give a head from 640x480 to 4096x2160",
				"vGPU %s: head %u of %u x %u; from %u x %u to %u x %u can be", name,
				i, config->heads[i].width, config->heads[i].height,
				VIRTIO_GPU_WIDTH_MIN, VIRTIO_GPU_HEIGHT_MIN, VIRTIO_GPU_WIDTH_MAX,
				VIRTIO_GPU_HEIGHT_MAX);
	return 0;
}

int virtio_gpu_create(const struct virtio_gpu_config *config, struct vfio_device **out,
		      struct error *e)
{
	uint64_t features = UINT64_C(1) << VIRTIO_GPU_F_RESOURCE_BLOB |
			    UINT64_C(1) << VIRTIO_GPU_F_EDID |
			    UINT64_C(1) << VIRTIO_GPU_F_RESOURCE_UUID;
	struct gpu *gpu;
	char name[64];
	int ret = judge(config, e);

	if (ret)
		return ret;
	gpu = calloc(1, sizeof(*gpu));
	if (!gpu)
		return error_set(e, ENOMEM, "device-failed", NULL, "vGPU: out of memory");
	snprintf(gpu->name, sizeof(gpu->name), "%s", config->name ? config->name : "vgpu");
	gpu->head_count = config->head_count;
	for (unsigned i = 0; i < config->head_count; i++) {
		gpu->heads[i].mode = config->heads[i];
		gpu->heads[i].cursor.pixels = gpu->heads[i].cursor_pixels;
	}
	gpu_fences_init(gpu);
	gpu->dev.window_size = config->window_size;
	gpu->dev.window_id = VIRTIO_GPU_SHM_ID_HOST_VISIBLE;
	snprintf(name, sizeof(name), "virtio-gpu(%s)", gpu->name);
	gpu->window.wake_fd = -1;
	gpu->call.fd = -1;
	/* Drivers take "virgl" for "3D commands"; which kind is said by the capability sets. */
	if (config->venus)
		features |= UINT64_C(1) << VIRTIO_GPU_F_VIRGL |
			    UINT64_C(1) << VIRTIO_GPU_F_CONTEXT_INIT;
	ret = virtio_device_init(&gpu->dev, &gpu_ops, features, name, e);
	if (ret) {
		free(gpu);
		return ret;
	}
	ret = gpu_window_init(gpu, e);
	if (!ret)
		ret = gpu_venus_init(gpu, config, e);
	if (ret) {
		virtio_device_close(&gpu->dev);
		return ret;
	}
	*out = &gpu->dev.vfio;
	return 0;
}
