/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_file: the file or block device behind a virtio disk: reads, writes, flushes and allocation
 * changes. What has to wait for the medium waits in an io_uring(7), many at once; what need not, and
 * everything where the kernel refuses a ring, is one system call each. Private to mdev/ (and to its tests and benchmarks).
 *
 * One thread at a time. What a request points at must stay until it is done or blk_file_drain() has
 * returned: the kernel reads and writes it meanwhile.
 *
 * System calls of the thread that uses it: io_uring_enter(2), preadv2(2) and pwritev2(2) with a ring;
 * without one, or when it is given up, also fdatasync(2) and fallocate(2). The ring itself is made, and
 * restricted to these four operations on this one file, by blk_file_ring().
 */
#ifndef MDEV_BLK_FILE_H
#define MDEV_BLK_FILE_H

#include <liburing.h>
#include <sys/uio.h>

#include "base/base.h"

enum blk_file_op {
	BLK_FILE_READ,
	BLK_FILE_WRITE,
	BLK_FILE_FLUSH,
	BLK_FILE_ALLOCATE
};

struct blk_file_request {
	enum blk_file_op op;
	bool durable; /* write, allocate: on the medium before it is done */
	int mode;     /* allocate: of fallocate(2) */
	uint64_t offset;
	uint64_t length;   /* allocate */
	struct iovec *iov; /* read, write; used up */
	unsigned iov_count;
	int error; /* when done: 0, an errno, or ENODATA: the file ends before the request does */
};

struct blk_file {
	int fd;
	void (*done)(struct blk_file *file, struct blk_file_request *request);
	bool has_ring, ring_used;
	bool cannot_tell[BLK_FILE_WRITE + 1]; /* by op: whether a transfer has to wait */
	struct io_uring ring;
	unsigned in_flight; /* given to the ring and not done */
};

/*
 * blk_file_ring() - make the ring for up to @depth requests in flight. file->fd is set and not
 * O_NONBLOCK (io_uring would fail what has to wait). Returns 0 or -errno, and then every request is
 * made by system calls. blk_file_ring_close() needs nothing in flight.
 */
int blk_file_ring(struct blk_file *file, unsigned depth);
void blk_file_ring_close(struct blk_file *file);

/*
 * blk_file_start() - begin @request; file->done() is called when it is done, maybe before this returns.
 * A ring takes it at the next blk_file_submit(). At most the ring's depth of them at once.
 */
void blk_file_start(struct blk_file *file, struct blk_file_request *request);
/* blk_file_submit() - hand over what was started, and call done() of all that is done by now. */
void blk_file_submit(struct blk_file *file);
/* blk_file_drain() - wait for every request that was started; their done() is called. */
void blk_file_drain(struct blk_file *file);

#endif
