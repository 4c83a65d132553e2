/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warden: the process that starts render servers, so that the vGPU's own process may be closed in. It is forked while there is one thread and
 * everything is still allowed, puts itself into the render side's namespaces, root and user, and is told "start" and "kill" over a
 * socket. What it starts is confined before its first instruction (docs/sandbox.md, "The render side"), and watched (warden_watch.c). Private to mdev/gpu/.
 */
#ifndef MDEV_GPU_WARDEN_H
#define MDEV_GPU_WARDEN_H

#include "mdev/mdev.h"

struct warden {
	pid_t pid; /* 0: none */
	int pidfd;
	int fd; /* what it is told; it ends, with all it started, when this is closed */
};

/* What it is told: one byte, which is answered for WARDEN_START. */
#define WARDEN_START 'S'
#define WARDEN_KILL  'K'

/* The answer to WARDEN_START, with WARDEN_FDS descriptors where @err is 0. */
enum {
	WARDEN_FD_SOCKET,   /* of the render server's protocol */
	WARDEN_FD_MESSAGES, /* its standard output and error */
	WARDEN_FD_PIDFD,
	WARDEN_FD_REPORT, /* first a byte of the child's, with its credentials; a struct warden_report where it fails; its start closes it */
	WARDEN_FDS
};
struct warden_report {
	int32_t err; /* -errno */
	char text[252];
};

/*
 * warden_start() - the process must have one thread. @config, @name: used before it returns.
 * Returns 0 or -errno: "render-jail" (what it could not be given).
 */
int warden_start(struct warden *warden, const struct virtio_gpu_venus_config *config,
		 const char *server, const char *name, struct error *e);
/* warden_end() - it and everything it started end. None: nothing happens. */
void warden_end(struct warden *warden);

#endif
