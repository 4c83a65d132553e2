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
};

struct gpu_command {
	uint16_t type, size;
	uint8_t queue;
	enum trailing trailing;
	uint32_t features; /* bits that must have been accepted */
	gpu_handler run;
};

#define FEATURE(name) (UINT32_C(1) << VIRTIO_GPU_F_##name)
#define BODY(member)  sizeof(((union gpu_command_body *)0)->member)

static const struct gpu_command commands[] = {
	{ VIRTIO_GPU_CMD_GET_DISPLAY_INFO, BODY(hdr), GPU_CONTROL_QUEUE, NOTHING, 0,
	  gpu_get_display_info },
	{ VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, BODY(create_2d), GPU_CONTROL_QUEUE, NOTHING, 0,
	  gpu_create_2d },
	{ VIRTIO_GPU_CMD_RESOURCE_UNREF, BODY(unref), GPU_CONTROL_QUEUE, NOTHING, 0, gpu_unref },
	{ VIRTIO_GPU_CMD_SET_SCANOUT, BODY(set_scanout), GPU_CONTROL_QUEUE, NOTHING, 0,
	  gpu_set_scanout },
	{ VIRTIO_GPU_CMD_RESOURCE_FLUSH, BODY(flush), GPU_CONTROL_QUEUE, NOTHING, 0, gpu_flush },
	{ VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, BODY(transfer), GPU_CONTROL_QUEUE, NOTHING, 0,
	  gpu_transfer_to_host_2d },
	{ VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, BODY(attach_backing), GPU_CONTROL_QUEUE, ENTRIES,
	  0, gpu_attach_backing },
	{ VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, BODY(detach_backing), GPU_CONTROL_QUEUE, NOTHING,
	  0, gpu_detach_backing },
	{ VIRTIO_GPU_CMD_GET_EDID, BODY(get_edid), GPU_CONTROL_QUEUE, NOTHING, FEATURE(EDID),
	  gpu_get_edid },
	{ VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID, BODY(assign_uuid), GPU_CONTROL_QUEUE, NOTHING,
	  FEATURE(RESOURCE_UUID), gpu_assign_uuid },
	{ VIRTIO_GPU_CMD_UPDATE_CURSOR, BODY(cursor), GPU_CURSOR_QUEUE, NOTHING, 0,
	  gpu_update_cursor },
	{ VIRTIO_GPU_CMD_MOVE_CURSOR, BODY(cursor), GPU_CURSOR_QUEUE, NOTHING, 0, gpu_move_cursor },
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

/* Take a request from its chain. What is wrong with it is its answer. */
static void receive(struct gpu *gpu, struct gpu_request *request, unsigned queue,
		    struct virtio_chain *chain)
{
	const struct gpu_command *command;
	struct virtio_gpu_ctrl_hdr *hdr = &request->body.hdr;

	request->command = NULL;
	request->calling = false;
	request->resource = NULL;
	request->chain = chain;
	gpu_answer(request, VIRTIO_GPU_RESP_OK_NODATA, sizeof(request->response.hdr));
	memset(hdr, 0, sizeof(*hdr));
	if (virtio_iov_read(chain->out, chain->out_count, 0, hdr, sizeof(*hdr)) < sizeof(*hdr)) {
		memset(hdr, 0, sizeof(*hdr));
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
		return;
	}
	command = find(gpu, queue, hdr->type);
	if (!command) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_UNSPEC);
		return;
	}
	request->body_size = command->size;
	/* The header is copied already, and is not looked at a second time. */
	if (virtio_iov_read(chain->out, chain->out_count, sizeof(*hdr), hdr + 1,
			    command->size - sizeof(*hdr)) < command->size - sizeof(*hdr) ||
	    chain->out_length - command->size != trailing_said(request) || !flags_good(gpu, hdr)) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		return;
	}
	request->trailing_size = chain->out_length - command->size;
	if (hdr->flags & VIRTIO_GPU_FLAG_FENCE && gpu->fence_count == GPU_FENCES_MAX) {
		gpu_fail(request, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
		return;
	}
	request->command = command;
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
		    struct virtio_chain *chain, bool done)
{
	const struct virtio_gpu_ctrl_hdr *hdr = &request->body.hdr;
	struct virtio_gpu_ctrl_hdr *answer = &request->response.hdr;
	size_t written;

	*answer = (struct virtio_gpu_ctrl_hdr){
		.type = answer->type,
		.flags = hdr->flags & (VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX),
		.fence_id = hdr->flags & VIRTIO_GPU_FLAG_FENCE ? hdr->fence_id : 0,
		.ctx_id = hdr->ctx_id,
		.ring_idx = hdr->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX ? hdr->ring_idx : 0,
	};
	if (answer->type < VIRTIO_GPU_RESP_ERR_UNSPEC &&
	    request->response_size > chain->in_length && queue == GPU_CONTROL_QUEUE) {
		/* No room for it: not done as far as the driver can see. */
		answer->type = VIRTIO_GPU_RESP_ERR_UNSPEC;
		request->response_size = sizeof(*answer);
	}
	written = chain->in_length < sizeof(*answer)
			  ? 0
			  : virtio_iov_write(chain->in, chain->in_count, 0, &request->response,
					     request->response_size);
	/* A fence of a request that was refused for want of places has none either. */
	if (queue == GPU_CONTROL_QUEUE && hdr->flags & VIRTIO_GPU_FLAG_FENCE &&
	    gpu->fence_count < GPU_FENCES_MAX)
		gpu_fence_add(gpu, 0, timeline_of(hdr), 0, chain->head, (uint32_t)written, done);
	else
		virtio_queue_push(&gpu->dev, queue, chain, (uint32_t)written);
}

static void serve(struct gpu *gpu, struct gpu_request *request, unsigned queue,
		  struct virtio_chain *chain)
{
	receive(gpu, request, queue, chain);
	if (request->command)
		request->command->run(gpu, request);
	request->chain = NULL;
	respond(gpu, request, queue, chain, true);
}

void gpu_queue_notify(struct virtio_device *dev, unsigned index)
{
	struct gpu *gpu = gpu_of(dev);
	struct gpu_request *request =
		index == GPU_CONTROL_QUEUE ? &gpu->request : &gpu->cursor_request;

	for (unsigned turn = 0; turn < VIRTIO_QUEUE_SIZE_MAX; turn++) {
		struct virtio_chain *chain;

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
