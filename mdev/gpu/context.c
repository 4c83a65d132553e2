// SPDX-License-Identifier: Apache-2.0
/*
 * context: contexts and their commands (VIRTIO 1.2, 5.7.6.9, and CONTEXT_INIT), of which there is one kind: Venus.
 *
 * What reaches virglrenderer is judged here before: it takes our word for sizes, numbers and types, and parts of it
 * end the process over what it does not expect. A context whose render worker is gone stays the guest's until it
 * destroys it, and answers with errors; fences that it owed are done.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <virgl/virglrenderer.h>

#include "mdev/gpu/gpu.h"

/*
 * What a call may take. A render worker that compiles or waits for the GPU does that on other threads; one that
 * does not answer for this long never will, and the whole guest's display waits for it.
 */
#define CALL_LIMIT_US (20 * UINT64_C(1000000))
#define CALL_SLACK_US UINT64_C(100000)

/* ---- capability sets ------------------------------------------------------------------------ */

uint32_t gpu_num_capsets(const struct gpu *gpu)
{
	uint32_t version, size;

	/* Without somebody who shows the window no context could work. */
	return gpu->venus && __atomic_load_n(&gpu->is_shown, __ATOMIC_ACQUIRE) &&
	       venus_capset(gpu->venus, &version, &size);
}

void gpu_get_capset_info(struct gpu *gpu, struct gpu_request *request)
{
	struct virtio_gpu_resp_capset_info *info = &request->response.capset_info;

	if (request->body.get_capset_info.capset_index >= gpu_num_capsets(gpu)) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	info->capset_id = VIRTIO_GPU_CAPSET_VENUS;
	venus_capset(gpu->venus, &info->capset_max_version, &info->capset_max_size);
	info->padding = 0;
	gpu_answer(request, VIRTIO_GPU_RESP_OK_CAPSET_INFO, sizeof(*info));
}

void gpu_get_capset(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_get_capset *body = &request->body.get_capset;
	uint32_t version, size;
	const void *capset;

	if (!gpu_num_capsets(gpu) || body->capset_id != VIRTIO_GPU_CAPSET_VENUS) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	capset = venus_capset(gpu->venus, &version, &size);
	if (body->capset_version > version) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	memcpy(request->response.capset.data, capset, size);
	gpu_answer(request, VIRTIO_GPU_RESP_OK_CAPSET, sizeof(request->response.hdr) + size);
}

/* ---- contexts ------------------------------------------------------------------------------ */

void gpu_call_resume(struct gpu *gpu, struct gpu_request *request)
{
	if (gpu->call.ret)
		gpu_fail(request, gpu->call.ret == -ENOMEM ? VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY
							   : VIRTIO_GPU_RESP_ERR_UNSPEC);
	else
		request->fenced = gpu->call.fence;
}

void gpu_ctx_create(struct gpu *gpu, struct gpu_request *request)
{
	const struct virtio_gpu_ctx_create *body = &request->body.ctx_create;
	const uint32_t id = body->hdr.ctx_id;
	struct gpu_context *place = NULL;

	for (unsigned i = 0; i < GPU_CONTEXTS_MAX; i++) {
		/* Free places have 0, which is nobody's number. */
		if (!id || gpu->contexts[i].id == id) {
			gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
			return;
		}
		if (!gpu->contexts[i].id && !place) {
			place = &gpu->contexts[i];
			request->context = i;
		}
	}
	/* virgl's contexts are not offered. */
	if ((body->context_init && body->context_init != VIRTIO_GPU_CAPSET_VENUS) ||
	    !gpu_num_capsets(gpu) || body->nlen > sizeof(body->debug_name)) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	if (!place) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
		return;
	}
	/*
	 * Linux makes one without a kind for every client that only draws by itself, and attaches what it shows to it: it
	 * is there, and does nothing, like one whose worker is gone.
	 */
	if (!body->context_init) {
		*place = (struct gpu_context){ .id = id, .lost = true };
		return;
	}
	gpu->call = (struct venus_call){ .op = VENUS_CONTEXT_CREATE, .context = id };
	memcpy(gpu->call.name, body->debug_name, MIN(body->nlen, sizeof(gpu->call.name) - 1));
	/* Its news may come before the answer. */
	*place = (struct gpu_context){ .id = id };
	gpu_call_begin(gpu, request);
}

void gpu_ctx_create_resume(struct gpu *gpu, struct gpu_request *request)
{
	gpu_call_resume(gpu, request);
	if (gpu->call.ret)
		gpu->contexts[request->context] = (struct gpu_context){ 0 };
}

void gpu_ctx_destroy(struct gpu *gpu, struct gpu_request *request)
{
	if (gpu->contexts[request->context].lost) {
		/* virglrenderer has forgotten it already. */
		gpu->call.ret = 0;
		gpu_ctx_destroy_resume(gpu, request);
		return;
	}
	gpu->call = (struct venus_call){ .op = VENUS_CONTEXT_DESTROY,
					 .context = request->body.hdr.ctx_id };
	gpu_call_begin(gpu, request);
}

void gpu_ctx_destroy_resume(struct gpu *gpu, struct gpu_request *request)
{
	gpu->contexts[request->context] = (struct gpu_context){ 0 };
	gpu_resources_leave(gpu, request->context);
	/* Fences that it took along are done: nobody else will say so. */
	gpu_fences_retire_context(gpu, request->body.hdr.ctx_id);
}

/*
 * virglrenderer passes on what can be passed on: dma-bufs. It has a resource attached to the context that made it,
 * and ends the process when another kind is attached to a context for which it is new.
 */
void gpu_ctx_attach(struct gpu *gpu, struct gpu_request *request)
{
	struct gpu_resource *resource =
		gpu_resource_find(gpu, request->body.ctx_resource.resource_id);
	const uint64_t bit = UINT64_C(1) << request->context;

	if (!resource) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	/* Resources that only we know need no word to anybody. */
	if (resource->kind != GPU_KIND_HOST_BLOB || resource->contexts & bit)
		return;
	if (gpu->contexts[request->context].lost ||
	    resource->fd_type != VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
		return;
	}
	resource->contexts |= bit;
	gpu->call = (struct venus_call){ .op = VENUS_ATTACH,
					 .context = request->body.hdr.ctx_id,
					 .resource = resource->id };
	gpu_call_begin(gpu, request);
}

void gpu_ctx_detach(struct gpu *gpu, struct gpu_request *request)
{
	struct gpu_resource *resource =
		gpu_resource_find(gpu, request->body.ctx_resource.resource_id);
	const uint64_t bit = UINT64_C(1) << request->context;

	if (!resource) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
		return;
	}
	if (!(resource->contexts & bit))
		return;
	resource->contexts &= ~bit;
	if (gpu->contexts[request->context].lost)
		return;
	gpu->call = (struct venus_call){ .op = VENUS_DETACH,
					 .context = request->body.hdr.ctx_id,
					 .resource = resource->id };
	gpu_call_begin(gpu, request);
}

void gpu_submit(struct gpu *gpu, struct gpu_request *request)
{
	const uint32_t size = request->body.submit.size;

	/* Words of 32 bits (5.7.6.9), in one datagram. */
	if (size % 4) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	if (size > sizeof(gpu->submit)) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
		return;
	}
	gpu_request_trailing(request, 0, gpu->submit, size);
	gpu->call = (struct venus_call){ .op = VENUS_SUBMIT,
					 .context = request->body.hdr.ctx_id,
					 .data = gpu->submit,
					 .size = size };
	gpu_call_begin(gpu, request);
}

/* ---- news ---------------------------------------------------------------------------------- */

static void lose(struct gpu *gpu, struct gpu_context *context)
{
	context->lost = true;
	gpu_resources_leave(gpu, (unsigned)(context - gpu->contexts));
	gpu_fences_retire_context(gpu, context->id);
}

static void on_news(struct virtio_device *dev, uint32_t epoll_events)
{
	struct gpu *gpu = gpu_of(dev);
	struct venus_news news;

	do {
		venus_news(gpu->venus, &news);
		for (unsigned i = 0; i < news.retired_count; i++)
			gpu_fence_retire(gpu, news.retired[i]);
		for (unsigned i = 0; i < GPU_CONTEXTS_MAX; i++) {
			bool gone = news.server_lost;

			for (unsigned n = 0; n < news.lost_count; n++)
				gone |= news.lost[n] == gpu->contexts[i].id;
			if (gpu->contexts[i].id && gone)
				lose(gpu, &gpu->contexts[i]);
		}
		if (news.done) {
			gpu->call_done = true;
			gpu_call_watch(gpu, false);
			gpu_request_go_on(gpu);
		}
	} while (news.more);
}

static int on_call_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct gpu *gpu = userdata;

	log_error("%s: its render server does not answer and is ended", gpu->dev.vfio.name);
	venus_kill(gpu->venus);
	return 0;
}

void gpu_call_watch(struct gpu *gpu, bool under_way)
{
	if (under_way)
		sd_event_source_set_time_relative(gpu->call_timer, gpu->call_limit_us);
	sd_event_source_set_enabled(gpu->call_timer, under_way ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* ---- life ---------------------------------------------------------------------------------- */

int gpu_venus_init(struct gpu *gpu, const struct virtio_gpu_config *config, struct error *e)
{
	int ret;

	if (!config->venus)
		return 0;
	gpu->call_limit_us = CALL_LIMIT_US;
	ret = venus_create(config->venus, gpu->dev.vfio.name, &gpu->venus, e);
	if (ret)
		return ret;
	ret = sd_event_add_time_relative(gpu->dev.event, &gpu->call_timer, CLOCK_MONOTONIC,
					 CALL_LIMIT_US, CALL_SLACK_US, on_call_limit, gpu);
	if (ret >= 0)
		ret = virtio_source_add(&gpu->dev, &gpu->venus_source, venus_wake_fd(gpu->venus),
					EPOLLIN, on_news);
	if (ret < 0)
		return error_set(e, -ret, "device-failed", NULL,
				 "%s: cannot watch its renderer: %s", gpu->dev.vfio.name,
				 strerror(-ret));
	/* What sd-event reads of the machine with the first timer of a loop is read now: the worker may open nothing. */
	sd_event_run(gpu->dev.event, 0);
	sd_event_source_set_enabled(gpu->call_timer, SD_EVENT_OFF);
	return 0;
}

void gpu_venus_begin(struct gpu *gpu)
{
	struct error e = { 0 };

	if (!gpu->venus || !venus_start(gpu->venus, &e))
		return;
	log_error("%s: error[%s]: no Vulkan for its guest: %s (next: %s)", gpu->dev.vfio.name,
		  e.code, e.text, e.next);
	gpu->dev.device_features &=
		~(UINT64_C(1) << VIRTIO_GPU_F_VIRGL | UINT64_C(1) << VIRTIO_GPU_F_CONTEXT_INIT);
}

void gpu_venus_reset(struct gpu *gpu)
{
	memset(gpu->contexts, 0, sizeof(gpu->contexts));
	if (!gpu->venus)
		return;
	gpu_call_watch(gpu, false);
	venus_reset(gpu->venus);
}

void gpu_venus_destroy(struct gpu *gpu)
{
	virtio_source_remove(&gpu->venus_source);
	gpu->call_timer = sd_event_source_disable_unref(gpu->call_timer);
	venus_destroy(gpu->venus);
	gpu->venus = NULL;
}
