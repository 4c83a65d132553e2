/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: virglrenderer's render server, started by the warden (warden.h) with an environment of its own, in a
 * process group of its own, confined, its messages in our log, and ended with all of its workers.
 */
#ifndef MDEV_GPU_SERVER_H
#define MDEV_GPU_SERVER_H

#include "mdev/gpu/warden.h"

struct render_server {
	struct warden warden;
	pid_t pid;	 /* as this process knows it; 0: none */
	int pidfd;	 /* readable when it has ended */
	int messages_fd; /* its standard output and error */
	char why[256];	 /* what a start failed with, beside its errno */
};

/* render_server_init() - no process yet. render_server_open() - with its warden; the process has one thread. Returns 0 or -errno as warden_start(). */
void render_server_init(struct render_server *server);
int render_server_open(struct render_server *server, const struct virtio_gpu_venus_config *config,
		       const char *path, const char *name, struct error *e);
/*
 * render_server_start() - Returns a connected socket (SOCK_SEQPACKET, the caller's) or -errno: what
 * kept it from being started, with server->why.
 */
int render_server_start(struct render_server *server);
/* render_server_kill() - the server and all of its workers; any thread. It is still to be ended. */
void render_server_kill(struct render_server *server);
/*
 * render_server_end() - wait for it, @grace_ms to end by itself (its socket is closed), then kill.
 * None: nothing happens.
 */
void render_server_end(struct render_server *server, unsigned grace_ms);
/* render_server_close() - its warden ends too. */
void render_server_close(struct render_server *server);

#endif
