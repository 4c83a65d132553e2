/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process's end of the connection to the arbiter: what launchers and the Vulkan layer use. Private to vgpu-sched/.
 */
#ifndef VGPU_SCHED_LIVE_CLIENT_H
#define VGPU_SCHED_LIVE_CLIENT_H

#include "vgpu-sched/live/protocol.h"

/*
 * live_connect() - to the arbiter that listens on @path. Waits up to 2 s for one that is busy. Returns the descriptor, or -errno: "no-arbiter".
 */
int live_connect(const char *path, struct error *e);

/* live_token_read() - 32 hexadecimal digits. Returns 0 or -EINVAL. */
int live_token_read(const char *text, uint8_t token[LIVE_TOKEN_SIZE]);

/*
 * live_receive() - an answer, as recvmsg(2) has it, and the descriptors along with it, which are the caller's; @fds: -1 each. The kernel
 * drops those that there is no room for. Waits as the socket does.
 */
ssize_t live_receive(int fd, struct live_message *reply, int fds[LIVE_DESCRIPTORS_MAX]);
/*
 * live_call() - a launcher's message and its answer. @fds: of the answer, up to 2, the caller's; NULL: none are wanted.
 * Waits up to 10 s. Returns 0, or -errno with the arbiter's words.
 */
int live_call(int fd, const struct live_message *message, struct live_message *reply, int *fds,
	      struct error *e);

/*
 * A process that works as a vGPU. The layer's loop, in one thread:
 *
 *	seen = live_worker_wake_count(w);	before it looks at anything that can wake it
 *	if (live_worker_has_turn(w, e, &slice)) submit, live_worker_used() as it learns what was used, until live_worker_may_go_on()
 *		says no, or nothing waits any more: live_worker_release()
 *	else live_worker_want(w, e)
 *	live_worker_sleep(w, seen, at most LIVE_LOOK_NS while it wants or has a turn), live_worker_connected(w)
 *
 * Who has a turn, is alone and has nothing to do may keep it: the next submission then needs no system call. It is woken as soon as
 * somebody else waits; live_worker_alone() is false from then on, and it is to give the turn back at once.
 *
 * One thread at a time for each worker, but where it says "any thread".
 */
struct live_worker {
	int fd;
	struct live_page *page;
	struct live_vgpu_page *vgpu;
	uint64_t memory_quota; /* bytes, of all processes of the vGPU; 0: none */
	char gpu[LIVE_NAME_SIZE]; /* the physical GPU that the turns are on (gpu_name.h); submissions to others have none */
	char name[LIVE_NAME_SIZE];	   /* of the vGPU, for people */
	uint64_t wanted_ns[SCHED_ENGINES]; /* when a turn was asked for last; 0: not waiting */
};

/* A futex does not hear of an arbiter that was killed: look at live_worker_connected() so often. */
#define LIVE_LOOK_NS (50 * UINT64_C(1000000))

/* live_worker_open() - register as the vGPU of @token. Waits up to 10 s. On failure nothing is open. */
int live_worker_open(const char *path, const uint8_t token[LIVE_TOKEN_SIZE],
		     struct live_worker *worker, struct error *e);
void live_worker_close(struct live_worker *worker);
/*
 * live_worker_connected() - 0, or -EPIPE: the arbiter or the vGPU is gone, and with it the right to submit. One system call. Any thread.
 */
int live_worker_connected(const struct live_worker *worker);

/*
 * live_worker_turn() - wait up to @timeout_ns for the turn on @engine. Having it already costs no system call.
 * @slice_ns: how long the worker may go on submitting
 * Returns 0, -ETIMEDOUT, or -EPIPE.
 */
int live_worker_turn(struct live_worker *worker, enum sched_engine engine, uint64_t timeout_ns,
		     uint64_t *slice_ns);
/*
 * live_worker_want() - a turn on @engine is wanted. Costs nothing while one is had or waited for; call it again whenever there is still none, for
 * it is said anew every LIVE_LOOK_NS. Does not wait for the turn. Returns 0 or -EPIPE.
 */
int live_worker_want(struct live_worker *worker, enum sched_engine engine);
/* live_worker_has_turn() - without a system call. @slice_ns: as above, set only with the turn. */
bool live_worker_has_turn(struct live_worker *worker, enum sched_engine engine, uint64_t *slice_ns);
/* live_worker_may_go_on() - it has the turn, and is within the slice or nobody else waits. Any thread. */
bool live_worker_may_go_on(const struct live_worker *worker, enum sched_engine engine,
			   uint64_t used_ns);
/* live_worker_alone() - it has the turn, and may keep it even though it does nothing. Any thread. */
bool live_worker_alone(const struct live_worker *worker, enum sched_engine engine);
/* live_worker_used() - @ns of GPU time were used; charged when the turn ends or somebody comes. Any thread. */
void live_worker_used(struct live_worker *worker, enum sched_engine engine, uint64_t ns);
/*
 * live_worker_release() - the turn ends, or what was wanted is no longer; @again: another one is wanted. Not before the work has ended on
 * the GPU: time told later goes onto the next turn. Returns 0 or -EPIPE.
 */
int live_worker_release(struct live_worker *worker, enum sched_engine engine, bool again);
/*
 * live_worker_forced() - work of @ns of GPU time had to be submitted without a turn. It is charged whole, as debt. For time that
 * was told here live_worker_used() is not called. Any thread. Returns 0 or -EPIPE.
 */
int live_worker_forced(struct live_worker *worker, enum sched_engine engine, uint64_t ns);

/*
 * live_worker_may_force() - whether the vGPU, with all its processes, has something left of its allowance for work without a turn: 5 % of
 * the time, of which up to 500 ms are saved up. live_worker_spend() takes @ns from it. Any thread.
 */
bool live_worker_may_force(const struct live_worker *worker);
void live_worker_spend(struct live_worker *worker, uint64_t ns);

/* live_worker_wake_count() - to be read before looking whether there is anything to do. Any thread. */
uint32_t live_worker_wake_count(const struct live_worker *worker);
/*
 * live_worker_sleep() - until there is something to look at, if nothing has come since @seen was read: a turn, somebody who waits, the vGPU's end,
 * live_worker_wake(). May wake for nothing. Returns 0, or -ETIMEDOUT after @timeout_ns. Any thread.
 */
int live_worker_sleep(struct live_worker *worker, uint32_t seen, uint64_t timeout_ns);
/* live_worker_wake() - for the process's own threads: whoever sleeps looks. Any thread. */
void live_worker_wake(struct live_worker *worker);

/*
 * live_worker_memory_take() - @bytes of device memory are about to be allocated. Returns 0, or -ENOMEM, with nothing counted: the
 * vGPU's processes together would be above the quota. Any thread.
 */
int live_worker_memory_take(struct live_worker *worker, uint64_t bytes);
/* live_worker_memory_give() - @bytes that were taken are free. A process that ends gives all it has. Any thread. */
void live_worker_memory_give(struct live_worker *worker, uint64_t bytes);
/* live_worker_memory_used() - bytes, of all processes of the vGPU. Any thread. */
uint64_t live_worker_memory_used(const struct live_worker *worker);

#endif
