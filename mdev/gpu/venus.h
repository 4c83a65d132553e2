/* SPDX-License-Identifier: Apache-2.0 */
/*
 * venus: virglrenderer and its render server, behind a thread of their own. Private to mdev/gpu/.
 *
 * virglrenderer has one instance in a process, no lock around it, and calls that wait for a render worker which
 * a guest may hold up for as long as it likes. So all of it runs in one thread, and the device's worker
 * posts one call at a time and is told when it is done. What happens by itself (a fence retires, a render
 * worker or the server ends) is news that comes the same way.
 */
#ifndef MDEV_GPU_VENUS_H
#define MDEV_GPU_VENUS_H

#include "mdev/mdev.h"

#define VENUS_CAPSET	 4 /* VIRTIO_GPU_CAPSET_VENUS */
#define VENUS_CAPSET_MAX 512
#define VENUS_NAME_MAX	 64
#define VENUS_NEWS_MAX	 64

enum venus_op {
	VENUS_CONTEXT_CREATE, /* context, name */
	VENUS_CONTEXT_DESTROY,
	VENUS_ATTACH, /* context, resource */
	VENUS_DETACH,
	VENUS_SUBMIT,	   /* context, data, size: a multiple of 4, data aligned to 8 */
	VENUS_BLOB_CREATE, /* context, resource, blob_id, size, flags: fd_type */
	VENUS_EXPORT,	   /* resource, size: fd (the caller's), fd_offset, caching */
	VENUS_UNREF,	   /* resource */
};

struct venus_call {
	enum venus_op op;
	uint32_t context, resource, flags;
	uint64_t blob_id, size;
	const void *data; /* belongs to the call until it is done */
	char name[VENUS_NAME_MAX];
	/* After what is asked: fence_id is news once all of the context's ring so far is done. */
	bool fence;
	uint32_t ring;
	uint64_t fence_id;

	int ret; /* 0 or -errno */
	uint32_t fd_type, caching;
	int fd;
	uint64_t fd_offset;
};

/* What happened since it was last asked. */
struct venus_news {
	bool done; /* the call that was posted: its results are in it */
	unsigned retired_count, lost_count;
	uint64_t retired[VENUS_NEWS_MAX]; /* fence_id */
	uint32_t lost[VENUS_NEWS_MAX];	  /* contexts whose worker is gone */
	bool server_lost;		  /* and so are all contexts, until venus_reset() */
	bool more;			  /* ask again */
};

struct venus;

/*
 * venus_create() - no thread and no render server yet, but the warden that will start it (warden.h): the process has one thread. @config is copied.
 * Returns 0 or -errno: "venus-taken" (this process has one), "no-memory", "render-jail", "no-gpu-node".
 */
int venus_create(const struct virtio_gpu_venus_config *config, const char *name, struct venus **out,
		 struct error *e);
/* venus_wake_fd() - an eventfd, readable when there is news. Borrowed. */
int venus_wake_fd(const struct venus *venus);
/*
 * venus_start() - start the thread and the render server. Returns 0 or -errno: "no-render-server" (why it could
 * not be started).
 */
int venus_start(struct venus *venus, struct error *e);
/* venus_destroy() - end both. NULL is fine. */
void venus_destroy(struct venus *venus);

/* venus_capset() - what the guest is told of Venus; good as long as @venus. NULL before venus_start(). */
const void *venus_capset(const struct venus *venus, uint32_t *version, uint32_t *size);

/* All below: the device's worker. */

/* venus_post() - have @call made. One at a time; it must stay until its news. */
void venus_post(struct venus *venus, struct venus_call *call);
void venus_news(struct venus *venus, struct venus_news *news);
/*
 * venus_kill() - the call under way takes too long: end the server and all of its workers, which ends the call.
 */
void venus_kill(struct venus *venus);
/*
 * venus_reset() - forget every context, resource, fence and call. The server is started anew when it is
 * needed, at a bounded rate. Waits at most a few seconds, for a call that does not end by itself.
 */
void venus_reset(struct venus *venus);

#endif
