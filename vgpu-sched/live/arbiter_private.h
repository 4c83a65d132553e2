/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the arbiter share: arbiter.c (the socket, connections), messages.c, vgpus.c, turns.c (grants), status.c. */
#ifndef VGPU_SCHED_LIVE_ARBITER_PRIVATE_H
#define VGPU_SCHED_LIVE_ARBITER_PRIVATE_H

#include "vgpu-sched/live/arbiter.h"
#include "vgpu-sched/live/protocol.h"

struct live_gpu {
	char name[LIVE_NAME_SIZE];
	struct sched_gpu *sched;
	struct arbiter *arbiter;
	sd_event_source *timer;
	unsigned waiting[SCHED_ENGINES];	    /* workers that want and have no grant */
	struct live_vgpu *vgpus[ARBITER_VGPUS_MAX]; /* by the core's index */
};

struct live_vgpu {
	char name[LIVE_NAME_SIZE];
	uint8_t token[LIVE_TOKEN_SIZE];
	struct live_gpu *gpu;
	struct client *owner;
	struct sched_vgpu_config config;
	unsigned index; /* in the core */
	unsigned waiting[SCHED_ENGINES];
	unsigned workers, askers;
	uint64_t workers_ever;
	uint64_t words, words_ns; /* messages that it may still send, as of when */
	uint64_t memory_quota;
	uint64_t waited_ns[SCHED_ENGINES]; /* for turns that were had, of all its workers */
	int page_fd;
	struct live_vgpu_page *page;
};

struct client {
	struct arbiter *arbiter;
	sd_event_source *source;
	int fd;
	int pidfd; /* who connected, even once its pid is another's; -1: not known */
	pid_t pid;
	uid_t uid;
	uint64_t since;		/* how-manieth connection */
	bool paused;		/* its vGPU has said too much: it is heard again by the timer */
	struct live_vgpu *vgpu; /* a worker's, or the one that a launcher owns */
	struct live_page *page; /* worker */
	bool asks;		/* neither: who asks which processes are workers of @vgpu */
	struct {
		bool wants;
		bool alone; /* what its page said last: the page itself is the client's to write */
		uint64_t since_ns, grant, granted_ns, slice_ns;
	} engines[SCHED_ENGINES];
};

struct arbiter {
	sd_event *event;
	sd_event_source *source;
	int fd;
	char path[108];
	struct sched_gpu_config config;
	uint64_t hog_ns;
	FILE *trace;
	uint64_t next_identity, connections;
	unsigned client_count, gpu_count;
	sd_event_source
		*resume; /* for those who are paused, and a listener that ran out of descriptors */
	struct client *clients[ARBITER_CLIENTS_MAX]; /* the first client_count */
	struct live_gpu *gpus[ARBITER_GPUS_MAX];
};

/* ---- turns.c: grants. All in the loop's thread. ------------------------------------------------ */

/* turns_want() - @client has work on @engine. Wanting twice is once. */
void turns_want(struct client *client, enum sched_engine engine);
/* turns_release() - its grant ends, if it has one; @again: and it has more work. */
void turns_release(struct client *client, enum sched_engine engine, uint64_t used_ns, bool again);
/* turns_drop() - a worker is gone: what it had and wanted is over. */
void turns_drop(struct client *client);
/* turns_changed() - of @gpu something else changed: ask the core again on every engine. */
void turns_changed(struct live_gpu *gpu);
/* turns_forced() - @client had work of @used_ns run without a grant. */
void turns_forced(struct client *client, enum sched_engine engine, uint64_t used_ns);
int turns_on_timer(sd_event_source *source, uint64_t usec, void *gpu);

/* turns_wake() - whoever sleeps on @client's page looks at it. */
void turns_wake(struct client *client);

/* ---- vgpus.c. What fails says so in @e; 0 and an empty @e with a negative return: the client took no answer. -------- */

int vgpu_create(struct client *client, const struct live_message *message, struct error *e);
int vgpu_change(struct client *client, const struct live_message *message, struct error *e);
/* Another weight for the vGPU with that name, whoever owns it. */
int vgpu_reweigh(struct client *client, const struct live_message *message, struct error *e);
/* Every worker of it is ended first. */
void vgpu_end(struct live_vgpu *vgpu);
int worker_register(struct client *client, const struct live_message *message, struct error *e);
/* worker_ask() - @pidfd stays the caller's; -1: none came along. asker_end(): it is gone. watch.c */
int worker_ask(struct client *client, const struct live_message *message, int pidfd,
	       struct error *e);
void asker_end(struct client *client);
/* vgpu_of_token() - or NULL. */
struct live_vgpu *vgpu_of_token(struct arbiter *arbiter, const uint8_t token[LIVE_TOKEN_SIZE]);
/* gpu_free() - with no vGPU on it. NULL is fine. */
void gpu_free(struct live_gpu *gpu);
/* What the worker had of the vGPU's memory is given back; its page goes. */
void worker_end(struct client *client);

/* status.c: the answer to STATUS. */
int status_answer(struct client *client, struct error *e);

/* messages.c: what @client says, up to MESSAGES_A_TURN of it. */
int client_on_message(sd_event_source *source, int fd, uint32_t events, void *client);

/*
 * messages.c: @message and @count descriptors, at most LIVE_DESCRIPTORS_MAX, which stay the caller's. Who does not read its answers is not
 * waited for. Returns 0 or -errno.
 */
int client_answer(const struct client *client, const struct live_message *message, const int *fds,
		  unsigned count);
/* arbiter.c: who is paused is heard again: at once, or soon. */
void arbiter_resume(struct arbiter *arbiter);
void arbiter_resume_later(struct arbiter *arbiter);
/* arbiter.c: ends a connection and, if it owns one, its vGPU. Not from within a loop over clients. */
void client_end(struct client *client, const char *why);

#endif
