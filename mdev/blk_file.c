// SPDX-License-Identifier: Apache-2.0
/*
 * blk_file: a disk's requests to its file (blk_file.h).
 *
 * A request is one or more steps: what a short read or write left over, and the flush behind an
 * allocation that must be durable. A step is one entry of the ring or one system call, and its result
 * is judged by the same function. A flush covers the writes that were done when it was started,
 * which is all that VIRTIO asks (1.2, 5.2.6.2): what is still in flight has not been answered.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mdev/blk_file.h"
#include "mdev/virtio.h"

#define FIXED_FILE 0
#define REAP_BATCH 16

static int write_flags(const struct blk_file_request *request)
{
	return request->durable ? RWF_DSYNC : 0;
}

/* @result: what the kernel answered to a step. Returns whether the request is done. */
static bool step_is_last(struct blk_file_request *request, ssize_t result)
{
	if (result == -EINTR)
		return false;
	if (result < 0) {
		request->error = (int)-result;
		return true;
	}
	switch (request->op) {
	case BLK_FILE_READ:
	case BLK_FILE_WRITE:
		if (!result) {
			request->error = ENODATA;
			return true;
		}
		request->offset += (uint64_t)result;
		request->iov_count = virtio_iov_slice(request->iov, request->iov_count,
						      (size_t)result, SIZE_MAX);
		return !request->iov_count;
	case BLK_FILE_ALLOCATE:
		if (!request->durable)
			return true;
		request->op = BLK_FILE_FLUSH;
		return false;
	case BLK_FILE_FLUSH:
		break;
	}
	return true;
}

/* ---- by system calls ----------------------------------------------------------------------- */

/* @flags: RWF_NOWAIT, or 0. */
static ssize_t step_call(const struct blk_file *file, const struct blk_file_request *request,
			 int flags)
{
	ssize_t ret = -1;

	switch (request->op) {
	case BLK_FILE_READ:
		ret = preadv2(file->fd, request->iov, (int)request->iov_count,
			      (off_t)request->offset, flags);
		break;
	case BLK_FILE_WRITE:
		ret = pwritev2(file->fd, request->iov, (int)request->iov_count,
			       (off_t)request->offset, flags | write_flags(request));
		break;
	case BLK_FILE_FLUSH:
		ret = fdatasync(file->fd);
		break;
	case BLK_FILE_ALLOCATE:
		ret = fallocate(file->fd, request->mode, (off_t)request->offset,
				(off_t)request->length);
		break;
	}
	return ret < 0 ? -errno : ret;
}

static void run_by_calls(struct blk_file *file, struct blk_file_request *request)
{
	while (!step_is_last(request, step_call(file, request, 0)))
		;
	file->done(file, request);
}

/* ---- by the ring --------------------------------------------------------------------------- */

static void step_queue(struct blk_file *file, struct blk_file_request *request)
{
	/* There are as many entries as requests, and a request has one at a time. */
	struct io_uring_sqe *sqe = file->ring_used ? io_uring_get_sqe(&file->ring) : NULL;

	if (!sqe) {
		file->in_flight--;
		run_by_calls(file, request);
		return;
	}
	switch (request->op) {
	case BLK_FILE_READ:
		io_uring_prep_readv(sqe, FIXED_FILE, request->iov, request->iov_count,
				    request->offset);
		break;
	case BLK_FILE_WRITE:
		io_uring_prep_writev2(sqe, FIXED_FILE, request->iov, request->iov_count,
				      request->offset, write_flags(request));
		break;
	case BLK_FILE_FLUSH:
		io_uring_prep_fsync(sqe, FIXED_FILE, IORING_FSYNC_DATASYNC);
		break;
	case BLK_FILE_ALLOCATE:
		io_uring_prep_fallocate(sqe, FIXED_FILE, request->mode, request->offset,
					request->length);
		break;
	}
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, request);
}

static void reap(struct blk_file *file)
{
	struct io_uring_cqe *cqes[REAP_BATCH];
	unsigned count;

	while ((count = io_uring_peek_batch_cqe(&file->ring, cqes, REAP_BATCH))) {
		for (unsigned i = 0; i < count; i++) {
			struct blk_file_request *request = io_uring_cqe_get_data(cqes[i]);

			if (!step_is_last(request, cqes[i]->res)) {
				step_queue(file, request);
				continue;
			}
			file->in_flight--;
			file->done(file, request);
		}
		io_uring_cq_advance(&file->ring, count);
	}
}

static void wait_for_one(struct blk_file *file)
{
	struct io_uring_cqe *cqe;
	int ret = io_uring_wait_cqe(&file->ring, &cqe);

	/* There is no way on but to wait; no busy one, should the kernel refuse even that. */
	if (ret < 0 && ret != -EINTR)
		usleep(1000);
}

/*
 * The kernel takes no more, which happens when it is out of memory. What it took is waited for; what it did not,
 * and everything from here on, is made by system calls.
 */
static void ring_give_up(struct blk_file *file, int err)
{
	const struct io_uring_sq *sq = &file->ring.sq;
	const unsigned taken = io_uring_smp_load_acquire(sq->khead), end = sq->sqe_tail;

	log_warn("io_uring: no request is taken any more: %s; from here on one system call each",
		 strerror(err));
	file->ring_used = false;
	file->in_flight -= end - taken;
	for (unsigned i = taken; i != end; i++)
		run_by_calls(file, (void *)(uintptr_t)sq->sqes[i & sq->ring_mask].user_data);
	while (file->in_flight) {
		wait_for_one(file);
		reap(file);
	}
}

/*
 * What need not wait is made by a call at once: for the page cache that costs half of a ring entry, and less where
 * io_uring would hand it to a thread of the kernel (writes to most file systems, and all of tmpfs). -EAGAIN: it has to wait.
 * Where the file system cannot tell, a transfer that is not durable is taken for one that need not.
 */
static ssize_t step_at_once(struct blk_file *file, const struct blk_file_request *request)
{
	ssize_t result;

	if (request->op > BLK_FILE_WRITE || request->durable)
		return -EAGAIN;
	if (!file->cannot_tell[request->op]) {
		result = step_call(file, request, RWF_NOWAIT);
		if (result != -EOPNOTSUPP)
			return result;
		file->cannot_tell[request->op] = true;
	}
	return step_call(file, request, 0);
}

int blk_file_ring(struct blk_file *file, unsigned depth)
{
	struct io_uring_restriction only[] = {
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE },
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE },
		{ .opcode = IORING_RESTRICTION_REGISTER_OP,
		  .register_op = IORING_UNREGISTER_FILES },
	};
	int ret = io_uring_queue_init(depth, &file->ring,
				      IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL |
					      IORING_SETUP_COOP_TASKRUN);

	if (ret < 0)
		return ret;
	ret = io_uring_register_files(&file->ring, &file->fd, 1);
	/* seccomp(2) does not see what goes through a ring, so that the ring itself must be narrow. */
	if (ret >= 0)
		ret = io_uring_register_restrictions(&file->ring, only, ARRAY_SIZE(only));
	if (ret >= 0)
		ret = io_uring_enable_rings(&file->ring);
	if (ret < 0) {
		io_uring_queue_exit(&file->ring);
		return ret;
	}
	file->has_ring = file->ring_used = true;
	return 0;
}

void blk_file_ring_close(struct blk_file *file)
{
	if (file->has_ring) {
		/* The ring goes some time after it is closed; its hold on the file, with locks, must not. */
		io_uring_unregister_files(&file->ring);
		io_uring_queue_exit(&file->ring);
	}
	file->has_ring = file->ring_used = false;
}

/* ---- both ---------------------------------------------------------------------------------- */

void blk_file_start(struct blk_file *file, struct blk_file_request *request)
{
	ssize_t result;

	request->error = 0;
	if (request->op <= BLK_FILE_WRITE && !request->iov_count) {
		file->done(file, request);
		return;
	}
	if (!file->ring_used) {
		run_by_calls(file, request);
		return;
	}
	result = step_at_once(file, request);
	if (result != -EAGAIN && step_is_last(request, result)) {
		file->done(file, request);
		return;
	}
	file->in_flight++;
	step_queue(file, request);
}

void blk_file_submit(struct blk_file *file)
{
	int ret;

	/* What is reaped may have a next step, which is to be handed over too. */
	do {
		if (file->ring_used && io_uring_sq_ready(&file->ring)) {
			ret = io_uring_submit(&file->ring);
			if (ret <= 0 && ret != -EINTR)
				ring_give_up(file, ret ? -ret : EAGAIN);
		}
		if (file->in_flight)
			reap(file);
	} while (file->ring_used && io_uring_sq_ready(&file->ring));
}

void blk_file_drain(struct blk_file *file)
{
	blk_file_submit(file);
	while (file->in_flight) {
		wait_for_one(file);
		blk_file_submit(file);
	}
}
