/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu: what the files of the vGPU share (VIRTIO 1.2, 5.7). Private to mdev/gpu/ and its tests.
 *
 * Everything here belongs to the device's worker (mdev/virtio.h says what that is). A request is copied from its
 * chain once, judged once in command.c, and then handed on as numbers. No pointer into
 * guest memory outlives a handler: backing is kept as guest addresses and resolved at each use; a
 * request that must wait for virglrenderer is put back into its queue and popped again when its answer is
 * there; one that waits for a fence has its answer in guest memory already, and only its head is kept.
 */
#ifndef MDEV_GPU_GPU_H
#define MDEV_GPU_GPU_H

#include <endian.h>
/* The ABI's name for its config is that of our public header. */
#define virtio_gpu_config virtio_gpu_config_space
#include <linux/virtio_gpu.h>
#undef virtio_gpu_config
#include <pixman.h>
#include <sys/queue.h>

#include "mdev/mdev.h"
#include "mdev/virtio.h"

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the ABI's structures are used as they are");

#define GPU_CONTROL_QUEUE 0
#define GPU_CURSOR_QUEUE  1

/* Bounds of one vGPU; docs/vgpu.md has them as a table. What goes beyond is answered with an error. */
#define GPU_RESOURCES_MAX 8192
#define GPU_PIXELS_MAX	  (512 * MIB)  /* host memory of 2D resources and of copies of heads */
#define GPU_SIDE_MAX	  16384	       /* of a 2D resource, pixels */
#define GPU_HEAD_SIDE_MAX 4096	       /* of what a head shows, pixels */
#define GPU_ENTRIES_MAX	  262144       /* backing entries of one resource */
#define GPU_ENTRIES_TOTAL 1048576      /* and of all */
#define GPU_BACKING_MAX	  (16 * GIB)   /* guest memory that is attached */
#define GPU_BLOB_MAX	  (1024 * GIB) /* of one blob */
#define GPU_SHARED_MAX	  (1 * GIB)    /* host memory of shared-memory blobs (blob_id 0) */
#define GPU_CONTEXTS_MAX  64
#define GPU_FENCES_MAX	  VIRTIO_QUEUE_SIZE_MAX
#define GPU_SUBMIT_MAX	  (64 * KIB) /* one datagram to the render worker */
#define GPU_RINGS_MAX	  64	     /* ring_idx, as in virglrenderer */

#define GPU_PAGE 4096u

/* ---- resources (resource.c) ---------------------------------------------------------------- */

struct gpu_format {
	uint32_t id; /* VIRTIO_GPU_FORMAT_*: bytes in the order of memory */
	pixman_format_code_t pixman;
};
/* gpu_format_find() - all of them have 4 bytes a pixel. NULL: none of ours. */
const struct gpu_format *gpu_format_find(uint32_t id);

/* Guest memory of a resource, as guest addresses. */
struct gpu_backing {
	unsigned count;
	struct virtio_gpu_mem_entry *entries;
	uint64_t size;
};

enum gpu_kind {
	GPU_KIND_2D,
	GPU_KIND_GUEST_BLOB,
	GPU_KIND_HOST_BLOB, /* virglrenderer has it too, under the same number */
};

struct gpu_resource {
	uint32_t id;
	enum gpu_kind kind;
	struct gpu_backing backing; /* count 0: none */
	unsigned heads;		    /* bit N: head N shows it */
	bool has_uuid;
	uint8_t uuid[16];
	/* 2D */
	uint32_t width, height;
	const struct gpu_format *format;
	pixman_image_t *image; /* with its pixels */
	/* blobs */
	uint64_t size;
	bool mappable, is_shared; /* is_shared: blob_id 0 */
	uint32_t fd_type;	  /* VIRGL_RENDERER_BLOB_FD_TYPE_* */
	bool mapped;
	uint64_t window_offset;
	uint64_t contexts; /* bit N: context slot N has it, as far as virglrenderer knows */
};

struct gpu_head {
	struct virtio_gpu_mode mode;   /* what is plugged in */
	struct gpu_resource *resource; /* what is shown; NULL: off */
	struct virtio_gpu_rect rect;   /* of the resource's pixels */
	/* SET_SCANOUT_BLOB: where the pixels are. */
	const struct gpu_format *format;
	uint32_t stride, offset;
	void *map; /* HOST_BLOB: its pages, from map_start on */
	uint64_t map_size;
	uint32_t map_skip;
	/* The head's pixels; NULL until somebody looks. */
	pixman_image_t *view;
	uint64_t copy_size; /* of the view's own pixels, where they are a copy */
	struct virtio_gpu_cursor_image cursor;
	uint32_t cursor_pixels[VIRTIO_GPU_CURSOR_SIZE * VIRTIO_GPU_CURSOR_SIZE];
};

struct gpu_context {
	uint32_t id; /* 0: free */
	bool lost;   /* its render worker is gone */
};

/* ---- requests (command.c) ------------------------------------------------------------------- */

union gpu_command_body {
	struct virtio_gpu_ctrl_hdr hdr;
	struct virtio_gpu_resource_create_2d create_2d;
	struct virtio_gpu_resource_unref unref;
	struct virtio_gpu_set_scanout set_scanout;
	struct virtio_gpu_resource_flush flush;
	struct virtio_gpu_transfer_to_host_2d transfer;
	struct virtio_gpu_resource_attach_backing attach_backing;
	struct virtio_gpu_resource_detach_backing detach_backing;
	struct virtio_gpu_cmd_get_edid get_edid;
	struct virtio_gpu_update_cursor cursor;
	struct virtio_gpu_resource_assign_uuid assign_uuid;
	struct virtio_gpu_resource_create_blob create_blob;
	struct virtio_gpu_set_scanout_blob set_scanout_blob;
	struct virtio_gpu_resource_map_blob map_blob;
	struct virtio_gpu_resource_unmap_blob unmap_blob;
	struct virtio_gpu_get_capset_info get_capset_info;
	struct virtio_gpu_get_capset get_capset;
	struct virtio_gpu_ctx_create ctx_create;
	struct virtio_gpu_ctx_destroy ctx_destroy;
	struct virtio_gpu_ctx_resource ctx_resource;
	struct virtio_gpu_cmd_submit submit;
};

union gpu_response {
	struct virtio_gpu_ctrl_hdr hdr;
	struct virtio_gpu_resp_display_info display_info;
	struct virtio_gpu_resp_edid edid;
	struct virtio_gpu_resp_resource_uuid uuid;
	struct virtio_gpu_resp_map_info map_info;
	struct virtio_gpu_resp_capset_info capset_info;
};

struct gpu_command;

struct gpu_request {
	const struct gpu_command *command; /* NULL: not even a header */
	union gpu_command_body body;	   /* copied; sizes judged */
	/* What follows the body, still in the chain: for gpu_request_trailing(), during run() only. */
	struct virtio_chain *chain;
	size_t body_size, trailing_size;
	unsigned context;	       /* slot, where the command needs one */
	struct gpu_resource *resource; /* between run() and finish() of a command that keeps one */
	union gpu_response
		response; /* its hdr.type is the answer; the rest is filled in at the end */
	size_t response_size;
	bool calling; /* waits for gpu->call */
};

/* gpu_fail() - the answer is an error. */
static inline void gpu_fail(struct gpu_request *request, enum virtio_gpu_ctrl_type error)
{
	request->response.hdr.type = error;
	request->response_size = sizeof(request->response.hdr);
}

/* gpu_answer() - the answer is @type, @size bytes with its header. */
static inline void gpu_answer(struct gpu_request *request, enum virtio_gpu_ctrl_type type,
			      size_t size)
{
	request->response.hdr.type = type;
	request->response_size = size;
}

/* A fenced request that was done, and whose answer lies in guest memory already. */
struct gpu_fence {
	TAILQ_ENTRY(gpu_fence) link;
	uint64_t id; /* ours; as virglrenderer knows it */
	uint64_t timeline;
	uint32_t context; /* id; 0: none */
	uint16_t head;
	uint32_t length;
	bool done;
};
TAILQ_HEAD(gpu_fences, gpu_fence);

struct gpu {
	struct virtio_device dev; /* first */
	char name[13];
	unsigned head_count;
	struct gpu_head heads[VIRTIO_GPU_HEADS_MAX];
	uint32_t events; /* VIRTIO_GPU_EVENT_*, atomic: vCPUs clear it */
	bool offers_venus;
	bool capset_on; /* atomic: what num_capsets says */

	void *resources; /* tsearch(3) by id */
	unsigned resource_count;
	void *mapped; /* tsearch(3) by place in the window */
	uint64_t pixels_used, backing_used, shared_used;
	unsigned entries_used;
	struct gpu_context contexts[GPU_CONTEXTS_MAX];

	struct gpu_request request; /* the control queue's, one at a time */
	struct gpu_request cursor_request;
	uint8_t submit[GPU_SUBMIT_MAX] __attribute__((aligned(8)));

	struct gpu_fence fences[GPU_FENCES_MAX];
	struct gpu_fences fences_idle, fences_waiting; /* waiting: in the order of their requests */
	unsigned fence_count;
	uint64_t fence_next;

	const struct virtio_gpu_window_ops *window;
	void *window_opaque;
	struct gpu_display {
		const struct virtio_gpu_display_ops *ops;
		void *opaque;
	} displays[VIRTIO_GPU_DISPLAYS_MAX];
};

static inline struct gpu *gpu_of(struct virtio_device *dev)
{
	return container_of(dev, struct gpu, dev);
}

/* ---- command.c: the edge -------------------------------------------------------------------- */

/* gpu_queue_notify() - serve a queue. */
void gpu_queue_notify(struct virtio_device *dev, unsigned index);
/* gpu_request_trailing() - copy what follows the body. During run() only. Returns false for too little. */
bool gpu_request_trailing(struct gpu_request *request, size_t skip, void *buffer, size_t size);

/* ---- fence.c -------------------------------------------------------------------------------- */

void gpu_fences_init(struct gpu *gpu);
/*
 * gpu_fence_add() - hold back the answer of the chain @head, which is written.
 * @timeline: requests of one are answered in their order
 * @done: nothing but those before it are to be waited for
 */
void gpu_fence_add(struct gpu *gpu, uint64_t id, uint64_t timeline, uint32_t context, uint16_t head,
		   uint32_t length, bool done);
/* gpu_fence_retire() - what virglrenderer was told of as @id is done. Unknown ones are ignored. */
void gpu_fence_retire(struct gpu *gpu, uint64_t id);
/* gpu_fences_retire_context() - nothing of this context will ever be done any more. */
void gpu_fences_retire_context(struct gpu *gpu, uint32_t context);
/* gpu_fences_drop() - the driver went away. */
void gpu_fences_drop(struct gpu *gpu);

/* ---- resource.c ----------------------------------------------------------------------------- */

struct gpu_resource *gpu_resource_find(struct gpu *gpu, uint32_t id);
/*
 * gpu_resource_add() - a new one of @id, which must be free and not 0; freed with gpu_resource_free().
 * NULL: the request has been failed.
 */
struct gpu_resource *gpu_resource_add(struct gpu *gpu, struct gpu_request *request, uint32_t id,
				      enum gpu_kind kind);
/* gpu_resource_free() - off the heads, out of the window, and gone. virglrenderer is not told. */
void gpu_resource_free(struct gpu *gpu, struct gpu_resource *resource);
void gpu_resources_free(struct gpu *gpu);
/* gpu_backing_attach() - @count entries follow the body. Returns false when the request was failed. */
bool gpu_backing_attach(struct gpu *gpu, struct gpu_request *request, struct gpu_backing *backing,
			uint32_t count);
void gpu_backing_detach(struct gpu *gpu, struct gpu_backing *backing);

/* Where a walk through backing is; zeroed at its beginning. Only forward. */
struct gpu_walk {
	unsigned entry;
	uint64_t before; /* bytes in the entries before */
};
/*
 * gpu_backing_read() - @size bytes from @offset on. Returns false when they are not in guest memory
 * (any more).
 */
bool gpu_backing_read(const struct gpu *gpu, const struct gpu_backing *backing,
		      struct gpu_walk *walk, uint64_t offset, void *buffer, size_t size);
/* gpu_backing_ptr() - the same without a copy: NULL where they are not in one piece. */
uint8_t *gpu_backing_ptr(const struct gpu *gpu, const struct gpu_backing *backing, uint64_t offset,
			 uint64_t size);

/* ---- heads (head.c, display.c, edid.c) ------------------------------------------------------ */

/* gpu_rect_inside() - not empty, and within @width x @height. */
static inline bool gpu_rect_inside(const struct virtio_gpu_rect *rect, uint32_t width,
				   uint32_t height)
{
	return rect->width && rect->height && rect->width <= width && rect->height <= height &&
	       rect->x <= width - rect->width && rect->y <= height - rect->height;
}

/* gpu_head_off() - show nothing; tells the observers. */
void gpu_head_off(struct gpu *gpu, unsigned head);
/* gpu_head_view() - its pixels, up to date; NULL when it is off or they are out of reach. */
pixman_image_t *gpu_head_view(struct gpu *gpu, unsigned head);
/* gpu_head_forget() - guest memory changes: no view may point there. */
void gpu_heads_forget(struct gpu *gpu);
/* gpu_heads_flush() - @rect of @resource's pixels is new. */
void gpu_heads_flush(struct gpu *gpu, struct gpu_resource *resource,
		     const struct virtio_gpu_rect *rect);
/* gpu_head_show() - @shown's resource, place and format from now on; takes over its map. */
void gpu_head_show(struct gpu *gpu, unsigned head, const struct gpu_head *shown);

/* gpu_mode_good() - a mode that a head can be given: off, or within the bounds of the public header. */
bool gpu_mode_good(const struct virtio_gpu_mode *mode);

/* gpu_head_look_cursor() - virtio_gpu_head_look(), with the cursor. */
int gpu_head_look_cursor(struct vfio_device *device, unsigned head,
			 int (*look)(void *opaque, pixman_image_t *image,
				     const struct virtio_gpu_cursor_image *cursor),
			 void *opaque);

void gpu_display_size(struct gpu *gpu, unsigned head);
void gpu_display_damage(struct gpu *gpu, unsigned head, const struct virtio_gpu_rectangle *damage);
void gpu_display_cursor(struct gpu *gpu, unsigned head, bool moved);

#define GPU_EDID_SIZE 256
/*
 * gpu_edid_make() - what a monitor of this mode says of itself (VESA E-EDID 1.4, with a DisplayID 1.3
 * extension where the mode does not fit the base block). Returns its length, 128 or 256.
 * @serial: to tell the heads apart
 */
size_t gpu_edid_make(const struct virtio_gpu_mode *mode, const char *name, uint32_t serial,
		     uint8_t edid[GPU_EDID_SIZE]);

/* ---- handlers of commands; finish functions run when gpu->call was made --------------------- */

typedef void (*gpu_handler)(struct gpu *gpu, struct gpu_request *request);

void gpu_get_display_info(struct gpu *gpu, struct gpu_request *request);
void gpu_get_edid(struct gpu *gpu, struct gpu_request *request);
void gpu_create_2d(struct gpu *gpu, struct gpu_request *request);
void gpu_unref(struct gpu *gpu, struct gpu_request *request);
void gpu_unref_finish(struct gpu *gpu, struct gpu_request *request);
void gpu_set_scanout(struct gpu *gpu, struct gpu_request *request);
void gpu_flush(struct gpu *gpu, struct gpu_request *request);
void gpu_transfer_to_host_2d(struct gpu *gpu, struct gpu_request *request);
void gpu_attach_backing(struct gpu *gpu, struct gpu_request *request);
void gpu_detach_backing(struct gpu *gpu, struct gpu_request *request);
void gpu_assign_uuid(struct gpu *gpu, struct gpu_request *request);
void gpu_update_cursor(struct gpu *gpu, struct gpu_request *request);
void gpu_move_cursor(struct gpu *gpu, struct gpu_request *request);

#endif
