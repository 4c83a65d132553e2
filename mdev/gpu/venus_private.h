/* SPDX-License-Identifier: Apache-2.0 */
/* venus_private: what venus.c, which has the thread, and the files of what runs in it share. */
#ifndef MDEV_GPU_VENUS_PRIVATE_H
#define MDEV_GPU_VENUS_PRIVATE_H

#include <dirent.h>
#include <pthread.h>
#include <systemd/sd-event.h>

#include "mdev/gpu/server.h"
#include "mdev/gpu/venus.h"

#define VENUS_CONTEXTS_MAX 64
#define VENUS_RETIRED_MAX  512 /* twice what the device has waiting */

/* What the worker wants of the thread. */
enum venus_order {
	VENUS_IDLE,
	VENUS_CALL,
	VENUS_RESET,
	VENUS_EXIT,
};

/* A render worker's socket, of which virglrenderer has the original. */
struct venus_watch {
	struct venus *venus;
	uint32_t context; /* 0: free */
	int fd;
	uint64_t inode;
	sd_event_source *source;
};

struct venus {
	char name[64];
	char *path;
	uint8_t capset[VENUS_CAPSET_MAX];
	uint32_t capset_version, capset_size;

	/* Under lock. */
	pthread_mutex_t lock;
	pthread_cond_t idle; /* order became VENUS_IDLE */
	enum venus_order order;
	struct venus_call *call;
	bool call_done, server_lost, has_ended, is_stuck;
	int start_result;
	unsigned retired_count, lost_count;
	uint64_t retired[VENUS_RETIRED_MAX];
	uint32_t lost[VENUS_NEWS_MAX];
	int call_fd, wake_fd;

	/* The worker's. */
	bool is_used; /* since the last reset */
	bool has_thread;
	pthread_t thread;

	/* The thread's. */
	sd_event *event;
	sd_event_source *call_source, *death, *messages;
	bool running; /* virglrenderer is */
	bool is_lost; /* its server died; until reset; atomic, for the worker looks */
	struct render_server server;
	int server_fd; /* on its way to virglrenderer */
	unsigned tokens;
	uint64_t token_ns;
	DIR *descriptors; /* /proc/self/fd, open since before the process was closed in; NULL: there is none */
	struct venus_watch watches[VENUS_CONTEXTS_MAX];
};

/* venus_make() - make one call: venus_call.c. */
void venus_make(struct venus *venus, struct venus_call *call);
/* venus_context_lost() - its worker is gone. */
void venus_context_lost(struct venus *venus, uint32_t context);

/*
 * venus_watch() - notice when the worker of @context, which was just made, ends. Where its socket is not found that
 * is noticed only when a command cannot be sent to it. venus_watch.c.
 */
void venus_watch(struct venus *venus, uint32_t context);
void venus_unwatch(struct venus *venus, uint32_t context);
void venus_unwatch_all(struct venus *venus);

#endif
