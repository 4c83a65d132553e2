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

#include "mdev/gpu/venus.h"
#include "mdev/gpu/venus.h"
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
#define GPU_MAPPED_MAX	  512	       /* blobs in the window, and unmaps that wait */
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
	struct {
		struct virtio_gpu_ctrl_hdr hdr;
		uint8_t data[VENUS_CAPSET_MAX];
	} capset;
};

struct gpu_command;

/* What a request waits for. Its chain is back in the queue meanwhile. */
enum gpu_wait {
	GPU_WAIT_NOT,
	GPU_WAIT_CALL,	 /* gpu->call */
	GPU_WAIT_WINDOW, /* nothing of the window is under way any more */
};

struct gpu_request {
	const struct gpu_command *command; /* NULL: not even a header */
	union gpu_command_body body;	   /* copied; sizes judged */
	/* What follows the body, still in the chain: for gpu_request_trailing(), during run() only. */
	struct virtio_chain *chain;
	size_t body_size, trailing_size;
	unsigned context;	       /* slot, where the command needs one */
	struct gpu_resource *resource; /* from run() to resume() of a command that waits */
	/* Its hdr.type is the answer; the rest of the header is filled in at the end. */
	union gpu_response response;
	size_t response_size;
	unsigned step;		 /* of one that waits more than once */
	enum gpu_wait wait;	 /* after run(): for what, before resume() */
	struct gpu_fence *fence; /* NULL: none was asked for */
	bool fenced;		 /* virglrenderer will say when it is done */
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

/* A fenced request; once answered, its answer lies in guest memory and only its chain is kept back. */
struct gpu_fence {
	TAILQ_ENTRY(gpu_fence) link;
	uint64_t id; /* ours; as virglrenderer knows it */
	uint64_t timeline;
	uint32_t context; /* id, 0: none */
	bool answered, done;
	uint16_t head;
	uint32_t length;
};
TAILQ_HEAD(gpu_fences, gpu_fence);

struct gpu_place {
	uint64_t offset, size;
};

/* window.c */
struct gpu_window {
	const struct vfio_mapper *mapper; /* NULL: nobody shows it */
	void *opaque;
	void *shown; /* tsearch(3) by place: resources */
	unsigned shown_count;
	/* To be unmapped, in order: a ring; sent: asked for and not answered. */
	struct gpu_place places[GPU_MAPPED_MAX];
	unsigned first, pending, sent;
	bool mapping; /* one map is under way */
	int map_result;
	/* From the mapper's threads. */
	unsigned unmapped;
	bool mapped;
	int result, wake_fd;
	struct virtio_source source;
};

struct gpu {
	struct virtio_device dev; /* first */
	char name[13];
	unsigned head_count;
	struct gpu_head heads[VIRTIO_GPU_HEADS_MAX];
	uint32_t events; /* VIRTIO_GPU_EVENT_*, atomic: vCPUs clear it */
	bool is_shown;	 /* atomic: somebody shows the window */

	void *resources; /* tsearch(3) by id */
	unsigned resource_count;
	uint64_t pixels_used, backing_used, shared_used, blobs_used;
	unsigned entries_used;
	struct gpu_context contexts[GPU_CONTEXTS_MAX];

	struct gpu_request request; /* the control queue's, one at a time */
	struct gpu_request cursor_request;
	uint8_t submit[GPU_SUBMIT_MAX] __attribute__((aligned(8)));

	struct gpu_fence fences[GPU_FENCES_MAX];
	struct gpu_fences fences_idle, fences_waiting; /* waiting: in the order of their requests */
	unsigned fence_count;
	uint64_t fence_next;

	struct gpu_window window;
	struct gpu_display {
		const struct virtio_gpu_display_ops *ops;
		void *opaque;
	} displays[VIRTIO_GPU_DISPLAYS_MAX];

	struct venus *venus;	/* NULL: none */
	struct venus_call call; /* of gpu->request */
	bool call_done;
	struct virtio_source venus_source;
	sd_event_source *call_timer;
	uint64_t call_limit_us;
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

/* gpu_call_begin() - gpu->call is filled: have it made, and resume() the request then. */
void gpu_call_begin(struct gpu *gpu, struct gpu_request *request);
/* gpu_request_go_on() - something that the control queue's request may wait for has happened. */
void gpu_request_go_on(struct gpu *gpu);

/* ---- fence.c -------------------------------------------------------------------------------- */

void gpu_fences_init(struct gpu *gpu);
/*
 * gpu_fence_begin() - a place for a request that asks for a fence; there must be one.
 * @timeline: requests of one are answered in their order
 * @context: that it is of, 0: none
 */
struct gpu_fence *gpu_fence_begin(struct gpu *gpu, uint64_t timeline, uint32_t context);
/*
 * gpu_fence_answer() - the answer of the chain @head is written: hand it back in its turn.
 * @done: nothing but those before it are to be waited for
 */
void gpu_fence_answer(struct gpu *gpu, struct gpu_fence *fence, uint16_t head, uint32_t length,
		      bool done);
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
/* gpu_resources_leave() - the context in @slot has none of them any more. */
void gpu_resources_leave(struct gpu *gpu, unsigned slot);
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

/* ---- window.c -------------------------------------------------------------------------------- */

int gpu_window_init(struct gpu *gpu, struct error *e);
void gpu_window_destroy(struct gpu *gpu);
void gpu_window_set_mapper(struct virtio_device *dev, const struct vfio_mapper *mapper,
			   void *opaque);
/* gpu_window_idle() - the mapper has done all it was asked for. */
bool gpu_window_idle(const struct gpu *gpu);
/*
 * gpu_window_place() - whether the whole blob can be shown at @offset, which it then has. Returns 0, -EINVAL (not
 * in the window, not whole pages), -EEXIST (something is there), -ENOSPC (too many), -ENOTCONN.
 */
int gpu_window_place(struct gpu *gpu, struct gpu_resource *resource, uint64_t offset);
/*
 * gpu_window_map() - show it there. The window is idle. Returns 0, -EINPROGRESS (until idle again, with the outcome in
 * window.map_result) or -errno.
 */
int gpu_window_map(struct gpu *gpu, struct gpu_resource *resource, int fd, uint64_t fd_offset);
/* gpu_window_unmap() - now or soon; gpu_window_forget() - it is not shown, as we know. */
void gpu_window_unmap(struct gpu *gpu, struct gpu_resource *resource);
void gpu_window_forget(struct gpu *gpu, struct gpu_resource *resource);

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

/* ---- context.c: what becomes of virglrenderer's news ------------------------------------------ */

int gpu_venus_init(struct gpu *gpu, const struct virtio_gpu_config *config, struct error *e);
/* gpu_venus_begin() - start it; features that need it go when it cannot be. */
void gpu_venus_begin(struct gpu *gpu);
void gpu_venus_reset(struct gpu *gpu);
void gpu_venus_destroy(struct gpu *gpu);
/* gpu_call_watch() - a call begins, or has ended: one that takes too long ends the server. */
void gpu_call_watch(struct gpu *gpu, bool under_way);
/* gpu_num_capsets() - any thread. */
uint32_t gpu_num_capsets(const struct gpu *gpu);

/* ---- handlers of commands; _resume functions run when what was waited for has come ----------- */

typedef void (*gpu_handler)(struct gpu *gpu, struct gpu_request *request);

void gpu_get_display_info(struct gpu *gpu, struct gpu_request *request);
void gpu_get_edid(struct gpu *gpu, struct gpu_request *request);
void gpu_create_2d(struct gpu *gpu, struct gpu_request *request);
void gpu_unref(struct gpu *gpu, struct gpu_request *request);
void gpu_unref_resume(struct gpu *gpu, struct gpu_request *request);
void gpu_set_scanout(struct gpu *gpu, struct gpu_request *request);
void gpu_flush(struct gpu *gpu, struct gpu_request *request);
void gpu_transfer_to_host_2d(struct gpu *gpu, struct gpu_request *request);
void gpu_attach_backing(struct gpu *gpu, struct gpu_request *request);
void gpu_detach_backing(struct gpu *gpu, struct gpu_request *request);
void gpu_assign_uuid(struct gpu *gpu, struct gpu_request *request);
void gpu_update_cursor(struct gpu *gpu, struct gpu_request *request);
void gpu_move_cursor(struct gpu *gpu, struct gpu_request *request);

void gpu_create_blob(struct gpu *gpu, struct gpu_request *request);
void gpu_create_blob_resume(struct gpu *gpu, struct gpu_request *request);
void gpu_set_scanout_blob(struct gpu *gpu, struct gpu_request *request);
void gpu_set_scanout_blob_resume(struct gpu *gpu, struct gpu_request *request);
void gpu_map_blob(struct gpu *gpu, struct gpu_request *request);
void gpu_map_blob_resume(struct gpu *gpu, struct gpu_request *request);
void gpu_unmap_blob(struct gpu *gpu, struct gpu_request *request);
void gpu_unmap_blob_resume(struct gpu *gpu, struct gpu_request *request);

void gpu_get_capset_info(struct gpu *gpu, struct gpu_request *request);
void gpu_get_capset(struct gpu *gpu, struct gpu_request *request);
void gpu_ctx_create(struct gpu *gpu, struct gpu_request *request);
void gpu_ctx_create_resume(struct gpu *gpu, struct gpu_request *request);
void gpu_ctx_destroy(struct gpu *gpu, struct gpu_request *request);
void gpu_ctx_destroy_resume(struct gpu *gpu, struct gpu_request *request);
void gpu_ctx_attach(struct gpu *gpu, struct gpu_request *request);
void gpu_ctx_detach(struct gpu *gpu, struct gpu_request *request);
void gpu_submit(struct gpu *gpu, struct gpu_request *request);
/* gpu_call_resume() - the answer is how the call went. */
void gpu_call_resume(struct gpu *gpu, struct gpu_request *request);

#endif
