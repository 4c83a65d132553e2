/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the warden share: warden.c, warden_exec.c (a child becomes the server), warden_watch.c, render_view.c, render_table.c. */
#ifndef MDEV_GPU_WARDEN_PRIVATE_H
#define MDEV_GPU_WARDEN_PRIVATE_H

#include <linux/filter.h>

#include "base/sandbox.h"
#include "mdev/gpu/warden.h"

#define VIEW_PATHS_MAX	 96
#define VIEW_DRIVERS_MAX 32

/* What the render side sees of the file system, and what a driver's library is called. */
struct render_view {
	struct sandbox_path paths[VIEW_PATHS_MAX]; /* each path is owned */
	unsigned count;
	char *drivers[VIEW_DRIVERS_MAX]; /* as /proc/PID/maps ends with them */
	unsigned driver_count;
};

/* render_view_make() - Returns 0 or -errno ("render-jail", "no-memory"). Freed in any case by render_view_free(). */
int render_view_make(struct render_view *view, const struct virtio_gpu_venus_config *config,
		     const char *server, struct error *e);
void render_view_free(struct render_view *view);

/* render_filter_make() - the filter of the render side; its memory is the caller's. Returns 0 or -errno. */
int render_filter_make(struct sock_fprog *program);

/* A process that uses the GPU and of which the arbiter does not know. */
struct warden_suspect {
	pid_t pid; /* 0: free */
	uint64_t
		start; /* of the process, in clock ticks: the number is not somebody else's by now */
	uint64_t since_ns;
	uint64_t seen; /* in which look */
};

#define WARDEN_SUSPECTS 512

struct warden_self {
	char name[64];
	const char *server; /* path */
	char *const *environment;
	bool confined, own_user;
	struct render_view view;
	struct sock_fprog filter;
	pid_t pid; /* and process group, of the render server; 0: none */
	int fd, signals;

	int watch_fd;	      /* -1: none, or the arbiter is gone */
	unsigned register_ms; /* 0: nobody is asked */
	uint64_t serial, looks;
	struct warden_suspect suspects[WARDEN_SUSPECTS];
};

/* warden_exec() - in a child: becomes the render server, or reports why not. Does not return. @report: fds as in warden_exec.c */
void warden_exec(const struct warden_self *self, int socket, int messages, int report)
	__attribute__((noreturn));

/* warden_watch() - look at each process of the server's: who uses the GPU unregistered for too long is ended. */
void warden_watch(struct warden_self *self);

#endif
