// SPDX-License-Identifier: Apache-2.0
/*
 * command: the edge between a guest's requests and the vGPU (VIRTIO 1.2, 5.7.6).
 *
 * A table says of each command how long it is, what may follow it, what must have been negotiated and
 * whether it needs a context. Here a request is copied from its chain, once, and judged against its row;
 * handlers see numbers that cannot change any more, of a size that is right, and judge what they mean.
 * Every request gets an answer with its own fence, context and ring, whatever it is; a guest can break
 * its device with a malformed ring only (virtqueue.c), never with a request.
 */
#include <string.h>

#include "mdev/gpu/gpu.h"

enum trailing {
	NOTHING,
	ENTRIES, /* as many struct virtio_gpu_mem_entry as the body says */
	BYTES,	 /* as many bytes */
};

/* What it is said to be of: a context in the header. */
enum context_need {
	ANY,	 /* not looked at */
	NEEDED,	 /* one that there is */
	WORKING, /* whose worker lives */
};

struct gpu_command {
	uint16_t type, size;
	uint8_t queue, trailing, context;
	uint8_t features; /* bits that must have been accepted: VIRTIO_GPU_F_* are small */
	gpu_handler run;
	gpu_handler resume; /* NULL: it never waits */
};

#define FEATURE(name) (1u << VIRTIO_GPU_F_##name)
#define ROW(name, body, queue, trailing, context, features, run, resume) \
	{ VIRTIO_GPU_CMD_##name,                                         \
	  sizeof(((union gpu_command_body *)0)->body),                   \
	  (queue),                                                       \
	  (trailing),                                                    \
	  (context),                                                     \
	  (features),                                                    \
	  (run),                                                         \
	  (resume) }
#define PLAIN(name, body, features, run) \
	ROW(name, body, GPU_CONTROL_QUEUE, NOTHING, ANY, features, run, NULL)
#define CURSOR(name, run) ROW(name, cursor, GPU_CURSOR_QUEUE, NOTHING, ANY, 0, run, NULL)
#define WAITS(name, body, trailing, context, features, run, resume) \
	ROW(name, body, GPU_CONTROL_QUEUE, trailing, context, FEATURE(features), run, resume)

static const struct gpu_command commands[] = {
	PLAIN(GET_DISPLAY_INFO, hdr, 0, gpu_get_display_info),
	PLAIN(RESOURCE_CREATE_2D, create_2d, 0, gpu_create_2d),
	ROW(RESOURCE_UNREF, unref, GPU_CONTROL_QUEUE, NOTHING, ANY, 0, gpu_unref, gpu_unref_resume),
	PLAIN(SET_SCANOUT, set_scanout, 0, gpu_set_scanout),
	PLAIN(RESOURCE_FLUSH, flush, 0, gpu_flush),
	PLAIN(TRANSFER_TO_HOST_2D, transfer, 0, gpu_transfer_to_host_2d),
	ROW(RESOURCE_ATTACH_BACKING, attach_backing, GPU_CONTROL_QUEUE, ENTRIES, ANY, 0,
	    gpu_attach_backing, NULL),
	PLAIN(RESOURCE_DETACH_BACKING, detach_backing, 0, gpu_detach_backing),
	PLAIN(GET_EDID, get_edid, FEATURE(EDID), gpu_get_edid),
	PLAIN(RESOURCE_ASSIGN_UUID, assign_uuid, FEATURE(RESOURCE_UUID), gpu_assign_uuid),

	WAITS(RESOURCE_CREATE_BLOB, create_blob, ENTRIES, ANY, RESOURCE_BLOB, gpu_create_blob,
	      gpu_create_blob_resume),
	WAITS(SET_SCANOUT_BLOB, set_scanout_blob, NOTHING, ANY, RESOURCE_BLOB, gpu_set_scanout_blob,
	      gpu_set_scanout_blob_resume),
	WAITS(RESOURCE_MAP_BLOB, map_blob, NOTHING, ANY, RESOURCE_BLOB, gpu_map_blob,
	      gpu_map_blob_resume),
	WAITS(RESOURCE_UNMAP_BLOB, unmap_blob, NOTHING, ANY, RESOURCE_BLOB, gpu_unmap_blob,
	      gpu_unmap_blob_resume),

	PLAIN(GET_CAPSET_INFO, get_capset_info, FEATURE(VIRGL), gpu_get_capset_info),
	PLAIN(GET_CAPSET, get_capset, FEATURE(VIRGL), gpu_get_capset),
	WAITS(CTX_CREATE, ctx_create, NOTHING, ANY, CONTEXT_INIT, gpu_ctx_create,
	      gpu_ctx_create_resume),
	WAITS(CTX_DESTROY, ctx_destroy, NOTHING, NEEDED, CONTEXT_INIT, gpu_ctx_destroy,
	      gpu_ctx_destroy_resume),
	WAITS(CTX_ATTACH_RESOURCE, ctx_resource, NOTHING, NEEDED, CONTEXT_INIT, gpu_ctx_attach,
	      gpu_call_resume),
	WAITS(CTX_DETACH_RESOURCE, ctx_resource, NOTHING, NEEDED, CONTEXT_INIT, gpu_ctx_detach,
	      gpu_call_resume),
	WAITS(SUBMIT_3D, submit, BYTES, WORKING, CONTEXT_INIT, gpu_submit, gpu_call_resume),

	CURSOR(UPDATE_CURSOR, gpu_update_cursor),
	CURSOR(MOVE_CURSOR, gpu_move_cursor),
};

static const struct gpu_command *find(const struct gpu *gpu, unsigned queue, uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].type == type && commands[i].queue == queue &&
		    (gpu->dev.driver_features & commands[i].features) == commands[i].features)
			return &commands[i];
	return NULL;
}

/* ---- in ------------------------------------------------------------------------------------ */

/* What the body says that follows it. */
static uint64_t trailing_said(const struct gpu_request *request)
{
	const union gpu_command_body *body = &request->body;

	switch (request->body.hdr.type) {
	case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
		return body->attach_backing.nr_entries *
		       (uint64_t)sizeof(struct virtio_gpu_mem_entry);
	case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB:
		return body->create_blob.nr_entries * (uint64_t)sizeof(struct virtio_gpu_mem_entry);
	case VIRTIO_GPU_CMD_SUBMIT_3D:
		return body->submit.size;
	default:
		return 0;
	}
}

static bool flags_good(const struct gpu *gpu, const struct virtio_gpu_ctrl_hdr *hdr)
{
	/* Rings come with contexts (5.7.6.7). */
	if (hdr->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX &&
	    (!virtio_device_has(&gpu->dev, VIRTIO_GPU_F_CONTEXT_INIT) ||
	     hdr->ring_idx >= GPU_RINGS_MAX))
		return false;
	return !(hdr->flags & ~(uint32_t)(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX));
}

/* The context that the header names. Returns the error to answer, 0: none. */
static enum virtio_gpu_ctrl_type find_context(const struct gpu *gpu, struct gpu_request *request,
					      enum context_need need)
{
	const uint32_t id = request->body.hdr.ctx_id;

	if (need == ANY)
		return VIRTIO_GPU_UNDEFINED;
	for (unsigned i = 0; id && i < GPU_CONTEXTS_MAX; i++)
		if (gpu->contexts[i].id == id) {
			request->context = i;
			return need == WORKING && gpu->contexts[i].lost ? VIRTIO_GPU_RESP_ERR_UNSPEC
									: VIRTIO_GPU_UNDEFINED;
		}
	return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
}

/* Copy a request from its chain and judge it. Returns the error to answer, 0: none. */
static enum virtio_gpu_ctrl_type receive(struct gpu *gpu, struct gpu_request *request,
					 unsigned queue)
{
	struct virtio_gpu_ctrl_hdr *hdr = &request->body.hdr;
	const struct virtio_chain *chain = request->chain;
	const struct gpu_command *command;
	size_t rest;

	memset(hdr, 0, sizeof(*hdr));
	if (chain->out_length < sizeof(*hdr))
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	virtio_iov_read(chain->out, chain->out_count, 0, hdr, sizeof(*hdr));
	command = find(gpu, queue, hdr->type);
	if (!command)
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	/* The header is copied already, and is not looked at a second time. */
	rest = command->size - sizeof(*hdr);
	if (virtio_iov_read(chain->out, chain->out_count, sizeof(*hdr), hdr + 1, rest) < rest ||
	    !flags_good(gpu, hdr))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	request->body_size = command->size;
	request->trailing_size = chain->out_length - command->size;
	if (request->trailing_size != (command->trailing == NOTHING ? 0 : trailing_said(request)))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	request->command = command;
	return find_context(gpu, request, command->context);
}

bool gpu_request_trailing(struct gpu_request *request, size_t skip, void *buffer, size_t size)
{
	return virtio_iov_read(request->chain->out, request->chain->out_count,
			       request->body_size + skip, buffer, size) == size;
}

/* ---- out ----------------------------------------------------------------------------------- */

/* Requests of one timeline are answered in their order. */
static uint64_t timeline_of(const struct virtio_gpu_ctrl_hdr *hdr)
{
	return hdr->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX
		       ? UINT64_C(1) << 40 | (uint64_t)hdr->ctx_id << 8 | hdr->ring_idx
		       : 0;
}

/* Write the answer, and hand the chain back or leave that to its fence. */
static void respond(struct gpu *gpu, struct gpu_request *request, unsigned queue,
		    struct virtio_chain *chain)
{
	const struct virtio_gpu_ctrl_hdr *hdr = &request->body.hdr;
	struct virtio_gpu_ctrl_hdr *answer = &request->response.hdr;
	const bool has_ring = hdr->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX;
	size_t written = 0;

	if (answer->type < VIRTIO_GPU_RESP_ERR_UNSPEC && queue == GPU_CONTROL_QUEUE &&
	    request->response_size > chain->in_length)
		/* No room for it: not done as far as the driver can see. */
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
	*answer = (struct virtio_gpu_ctrl_hdr){
		.type = answer->type,
		.flags = hdr->flags & (VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX),
		.fence_id = hdr->flags & VIRTIO_GPU_FLAG_FENCE ? hdr->fence_id : 0,
		.ctx_id = hdr->ctx_id,
		.ring_idx = has_ring ? hdr->ring_idx : 0,
	};
	if (chain->in_length >= sizeof(*answer))
		written = virtio_iov_write(chain->in, chain->in_count, 0, &request->response,
					   request->response_size);
	if (request->fence)
		gpu_fence_answer(gpu, request->fence, chain->head, (uint32_t)written,
				 !request->fenced);
	else
		virtio_queue_push(&gpu->dev, queue, chain, (uint32_t)written);
	request->fence = NULL;
}

/* Let a request go on while what it waits for is there. Returns whether it is carried out. */
static bool carry_on(struct gpu *gpu, struct gpu_request *request)
{
	while (request->wait) {
		if (!(request->wait == GPU_WAIT_CALL ? gpu->call_done : gpu_window_idle(gpu)))
			return false;
		request->wait = GPU_WAIT_NOT;
		request->command->resume(gpu, request);
	}
	return true;
}

static void serve(struct gpu *gpu, struct gpu_request *request, unsigned queue,
		  struct virtio_chain *chain)
{
	const struct virtio_gpu_ctrl_hdr *hdr = &request->body.hdr;
	enum virtio_gpu_ctrl_type error;

	request->command = NULL;
	request->chain = chain;
	request->resource = NULL;
	request->wait = GPU_WAIT_NOT;
	request->fence = NULL;
	request->fenced = false;
	gpu_answer(request, VIRTIO_GPU_RESP_OK_NODATA, sizeof(request->response.hdr));
	error = receive(gpu, request, queue);
	if (hdr->flags & VIRTIO_GPU_FLAG_FENCE && queue == GPU_CONTROL_QUEUE) {
		if (gpu->fence_count < GPU_FENCES_MAX)
			request->fence = gpu_fence_begin(gpu, timeline_of(hdr), hdr->ctx_id);
		else if (!error)
			error = VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	}
	if (error)
		gpu_fail(request, error);
	else
		request->command->run(gpu, request);
	request->chain = NULL;
	/* Nothing may point into guest memory while it waits: it is popped again for its answer. */
	if (carry_on(gpu, request))
		respond(gpu, request, queue, chain);
	else
		virtio_queue_rewind(&gpu->dev, queue);
}

/* ---- requests that wait --------------------------------------------------------------------- */

void gpu_call_begin(struct gpu *gpu, struct gpu_request *request)
{
	struct venus_call *call = &gpu->call;

	call->fence = request->fence && call->op == VENUS_SUBMIT;
	if (call->fence) {
		call->fence_id = request->fence->id;
		call->ring = request->body.hdr.flags & VIRTIO_GPU_FLAG_INFO_RING_IDX
				     ? request->body.hdr.ring_idx
				     : 0;
	}
	request->wait = GPU_WAIT_CALL;
	gpu->call_done = false;
	gpu_call_watch(gpu, true);
	venus_post(gpu->venus, call);
}

void gpu_request_go_on(struct gpu *gpu)
{
	struct gpu_request *request = &gpu->request;
	struct virtio_chain *chain;

	if (!request->wait || !carry_on(gpu, request))
		return;
	chain = virtio_queue_pop(&gpu->dev, GPU_CONTROL_QUEUE);
	if (!chain)
		return;
	respond(gpu, request, GPU_CONTROL_QUEUE, chain);
	virtio_queue_again(&gpu->dev, GPU_CONTROL_QUEUE);
}

void gpu_queue_notify(struct virtio_device *dev, unsigned index)
{
	struct gpu *gpu = gpu_of(dev);
	struct gpu_request *request =
		index == GPU_CONTROL_QUEUE ? &gpu->request : &gpu->cursor_request;

	for (unsigned turn = 0; turn < VIRTIO_QUEUE_SIZE_MAX; turn++) {
		struct virtio_chain *chain;

		/* Requests are carried out one after the other; the one that waits goes on by itself. */
		if (request->wait)
			return;
		/* Somebody waits for the worker. */
		if (__atomic_load_n(&dev->call_pending, __ATOMIC_RELAXED))
			break;
		chain = virtio_queue_pop(dev, index);
		if (!chain)
			return;
		serve(gpu, request, index, chain);
	}
	virtio_queue_again(dev, index);
}
