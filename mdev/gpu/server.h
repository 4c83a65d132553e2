/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: virglrenderer's render server as a process of ours: started with an environment of its own, in a
 * process group of its own, its messages in our log, and ended with all of its workers.
 */
#ifndef MDEV_GPU_SERVER_H
#define MDEV_GPU_SERVER_H

#include <pthread.h>
#include <sys/types.h>

struct render_server {
	pthread_mutex_t lock; /* of pid, which another thread may kill */
	pid_t pid;	      /* and process group; 0: none */
	int pidfd;	      /* readable when it has ended */
	int messages_fd;      /* its standard output and error */
};

void render_server_init(struct render_server *server);
/*
 * render_server_start() - Returns a connected socket (SOCK_SEQPACKET, the caller's) or -errno: what
 * kept it from being started. The child is bound to the calling thread: it is killed when that ends.
 */
int render_server_start(struct render_server *server, const char *path, char *const *environment);
/* render_server_kill() - the server and all of its workers; any thread. It is still to be ended. */
void render_server_kill(struct render_server *server);
/*
 * render_server_end() - wait for it, @grace_ms to end by itself (its socket is closed), then kill; reap.
 * None: nothing happens.
 */
void render_server_end(struct render_server *server, unsigned grace_ms);

#endif
