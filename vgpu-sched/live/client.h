/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process's end of the connection to the arbiter: what launchers and the Vulkan layer use. Private to vgpu-sched/.
 */
#ifndef VGPU_SCHED_LIVE_CLIENT_H
#define VGPU_SCHED_LIVE_CLIENT_H

#include "vgpu-sched/live/protocol.h"

/*
 * live_connect() - to the arbiter that listens on @path. Returns the descriptor, or -errno: "no-arbiter".
 */
int live_connect(const char *path, struct error *e);

/*
 * live_call() - a launcher's message and its answer. @fds: of the answer, up to 2, the caller's; NULL: none are wanted.
 * Waits up to 10 s. Returns 0, or -errno with the arbiter's words.
 */
int live_call(int fd, const struct live_message *message, struct live_message *reply, int *fds,
	      struct error *e);

struct live_worker {
	int fd;
	struct live_page *page;
	struct live_vgpu_page *vgpu;
	uint64_t memory_quota;
	bool wants[SCHED_ENGINES];
};

/*
 * live_worker_open() - register as the vGPU of @token. On failure nothing is open.
 * live_worker_*: one thread at a time for each worker, but live_worker_used().
 */
int live_worker_open(const char *path, const uint8_t token[LIVE_TOKEN_SIZE],
		     struct live_worker *worker, struct error *e);
void live_worker_close(struct live_worker *worker);

/*
 * live_worker_turn() - wait up to @timeout_ns for the turn on @engine. Having it already costs no system call.
 * @slice_ns: how long the worker may go on submitting
 * Returns 0, -ETIMEDOUT, or -EPIPE: the arbiter is gone, and with it the right to submit.
 */
int live_worker_turn(struct live_worker *worker, enum sched_engine engine, uint64_t timeout_ns,
		     uint64_t *slice_ns);
/* live_worker_has_turn() - and may go on: within the slice, or nobody else waits. */
bool live_worker_may_go_on(const struct live_worker *worker, enum sched_engine engine,
			   uint64_t used_ns);
/* live_worker_used() - @ns of GPU time were used. Any thread. */
void live_worker_used(struct live_worker *worker, enum sched_engine engine, uint64_t ns);
/* live_worker_release() - the turn ends; @again: and another one is wanted. Returns 0 or -EPIPE. */
int live_worker_release(struct live_worker *worker, enum sched_engine engine, bool again);

#endif
