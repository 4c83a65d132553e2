// SPDX-License-Identifier: Apache-2.0
/*
 * blk_file, with a kernel that misbehaves: short transfers, errors, a ring that takes nothing more.
 *
 * The calls it makes are answered here first (symbols of a program come before those of libraries):
 * a fault that is armed strikes once, everything else goes on to the kernel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mdev/blk_file.h"
#include "tests/unit/resources.h"

#define SIZE  (64 * 1024u)
#define DEPTH 8u

/* ---- the kernel's answers ------------------------------------------------------------------ */

static struct {
	unsigned strikes;   /* the next so many transfers */
	int error;	    /* fail with it */
	unsigned shortened; /* or stop after so many bytes */
	bool refuse_submit; /* nothing is taken */
	bool at_once;	    /* what need not wait is told so; else everything has to wait */
	unsigned calls, submits, flushes, durable;
} fault;

static bool strikes(void)
{
	if (!fault.strikes)
		return false;
	fault.strikes--;
	return true;
}

static ssize_t transfer_call(long number, int fd, const struct iovec *iov, int count, off_t offset,
			     int flags)
{
	if (flags & RWF_NOWAIT && !fault.at_once) {
		errno = EAGAIN;
		return -1;
	}
	fault.calls++;
	fault.durable += (flags & RWF_DSYNC) != 0;
	if (strikes()) {
		struct iovec part = { iov[0].iov_base, fault.shortened };

		if (fault.error) {
			errno = fault.error;
			return -1;
		}
		return syscall(number, fd, &part, 1, offset, 0, flags);
	}
	return syscall(number, fd, iov, count, offset, 0, flags);
}

ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	return transfer_call(SYS_preadv2, fd, iov, count, offset, flags);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	return transfer_call(SYS_pwritev2, fd, iov, count, offset, flags);
}

int fdatasync(int fd)
{
	fault.flushes++;
	if (strikes()) {
		errno = fault.error;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	if (strikes()) {
		errno = fault.error;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

/* A short transfer is made of the entry itself, so that the kernel really does less. */
int io_uring_submit(struct io_uring *ring)
{
	static int (*real)(struct io_uring *);
	static struct iovec parts[DEPTH];
	const struct io_uring_sq *sq = &ring->sq;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "io_uring_submit");
	if (fault.refuse_submit)
		return -EAGAIN;
	fault.submits++;
	for (unsigned i = *sq->khead; i != sq->sqe_tail; i++) {
		struct io_uring_sqe *sqe = &sq->sqes[i & sq->ring_mask];
		const bool transfer =
			sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV;

		fault.flushes += sqe->opcode == IORING_OP_FSYNC;
		fault.durable += transfer && (unsigned)sqe->rw_flags & RWF_DSYNC;
		if (!transfer || fault.error || !strikes())
			continue;
		parts[i % DEPTH] = *(struct iovec *)(uintptr_t)sqe->addr;
		parts[i % DEPTH].iov_len = fault.shortened;
		sqe->addr = (uintptr_t)&parts[i % DEPTH];
		sqe->len = 1;
	}
	return real(ring);
}

/* An error is written over the kernel's answer. */
unsigned io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count)
{
	static unsigned (*real)(struct io_uring *, struct io_uring_cqe **, unsigned);
	unsigned found;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "io_uring_peek_batch_cqe");
	found = real(ring, cqes, count);
	for (unsigned i = 0; fault.error && i < found; i++)
		if (strikes())
			cqes[i]->res = -fault.error;
	return found;
}

/* ---- a file and its requests --------------------------------------------------------------- */

static struct blk_file file;
static uint8_t data[DEPTH][SIZE];
static struct iovec iovs[DEPTH][3];
static struct blk_file_request requests[DEPTH];
static unsigned done_count, fds_before;
static bool use_ring;

static void done(struct blk_file *which, struct blk_file_request *request)
{
	assert_ptr_equal(which, &file);
	assert_in_range(request - requests, 0, DEPTH - 1);
	done_count++;
}

static int setup(void **state)
{
	char path[] = "/tmp/test-blk-file-XXXXXX";
	int ret;

	fds_before = count_fds();
	memset(&fault, 0, sizeof(fault));
	done_count = 0;
	file = (struct blk_file){ .fd = mkstemp(path), .done = done };
	if (file.fd < 0 || ftruncate(file.fd, SIZE) < 0)
		return -1;
	unlink(path);
	ret = use_ring ? blk_file_ring(&file, DEPTH) : 0;
	if (ret < 0)
		print_message("no io_uring here: %s\n", strerror(-ret));
	return 0;
}

static int teardown(void **state)
{
	blk_file_ring_close(&file);
	close(file.fd);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void need_ring(void)
{
	if (use_ring && !file.has_ring)
		skip();
}

/* A request over three pieces of memory. */
static struct blk_file_request *prepare(unsigned i, enum blk_file_op op, uint64_t offset,
					size_t length)
{
	iovs[i][0] = (struct iovec){ data[i], length / 4 };
	iovs[i][1] = (struct iovec){ data[i] + length / 4, length / 4 };
	iovs[i][2] = (struct iovec){ data[i] + length / 2, length / 2 };
	requests[i] = (struct blk_file_request){
		.op = op, .offset = offset, .iov = iovs[i], .iov_count = 3
	};
	return &requests[i];
}

static void run_two(enum blk_file_op op, bool durable)
{
	done_count = 0;
	for (unsigned i = 0; i < 2; i++) {
		prepare(i, op, i * 8192, 8192)->durable = durable;
		blk_file_start(&file, &requests[i]);
	}
	blk_file_drain(&file);
	assert_int_equal(done_count, 2);
	assert_int_equal(file.in_flight, 0);
}

static void fill_two(void)
{
	for (unsigned i = 0; i < 2 * 8192; i++)
		data[i / 8192][i % 8192] = (uint8_t)(i * 31 + i / 256);
}

static void assert_file_has_both(void)
{
	uint8_t back[2][8192];

	assert_int_equal(pread(file.fd, back, sizeof(back), 0), sizeof(back));
	for (unsigned i = 0; i < 2 * 8192; i++)
		assert_int_equal(back[i / 8192][i % 8192], (uint8_t)(i * 31 + i / 256));
}

/* ---- what may go wrong --------------------------------------------------------------------- */

static void short_transfers_are_continued(void **state)
{
	need_ring();
	fill_two();
	fault.strikes = 4;
	fault.shortened = 1500;
	run_two(BLK_FILE_WRITE, false);
	assert_int_equal(fault.strikes, 0);
	assert_int_equal(requests[0].error | requests[1].error, 0);
	assert_file_has_both();

	memset(data, 0, sizeof(data));
	fault.strikes = 5;
	fault.shortened = 7;
	run_two(BLK_FILE_READ, false);
	assert_int_equal(fault.strikes, 0);
	assert_int_equal(requests[0].error | requests[1].error, 0);
	for (unsigned i = 0; i < 2 * 8192; i++)
		assert_int_equal(data[i / 8192][i % 8192], (uint8_t)(i * 31 + i / 256));
}

static void an_error_ends_one_request_and_only_that(void **state)
{
	static const int errors[] = { EIO, ENOSPC, EDQUOT };

	need_ring();
	for (size_t e = 0; e < ARRAY_SIZE(errors); e++)
		for (unsigned op = BLK_FILE_READ; op <= BLK_FILE_WRITE; op++) {
			fault.error = errors[e];
			fault.strikes = 1;
			run_two(op, false);
			assert_int_equal(requests[0].error + requests[1].error, errors[e]);
			assert_int_equal(requests[0].error * requests[1].error, 0);
		}
}

static void an_error_of_a_flush_is_told(void **state)
{
	need_ring();
	fault.error = EIO;
	fault.strikes = 1;
	requests[0] = (struct blk_file_request){ .op = BLK_FILE_FLUSH };
	blk_file_start(&file, &requests[0]);
	blk_file_drain(&file);
	assert_int_equal(done_count, 1);
	assert_int_equal(requests[0].error, EIO);
}

static void an_interrupted_transfer_is_made_again(void **state)
{
	need_ring();
	fill_two();
	fault.error = EINTR;
	fault.strikes = 3;
	run_two(BLK_FILE_WRITE, false);
	assert_int_equal(fault.strikes, 0);
	assert_int_equal(requests[0].error | requests[1].error, 0);
	assert_file_has_both();
}

static void the_end_of_the_file_is_no_success(void **state)
{
	need_ring();
	assert_int_equal(ftruncate(file.fd, 8192 + 100), 0);
	run_two(BLK_FILE_READ, false);
	assert_int_equal(requests[0].error, 0);
	assert_int_equal(requests[1].error, ENODATA);
	/* Alone too. */
	blk_file_start(&file, prepare(0, BLK_FILE_READ, 8192, 4096));
	blk_file_drain(&file);
	assert_int_equal(requests[0].error, ENODATA);
}

static void durable_writes_are_synchronous_and_others_not(void **state)
{
	need_ring();
	run_two(BLK_FILE_WRITE, false);
	assert_int_equal(fault.durable, 0);
	run_two(BLK_FILE_WRITE, true);
	assert_int_equal(fault.durable, 2);
	/* Alone too. */
	prepare(0, BLK_FILE_WRITE, 0, 4096)->durable = true;
	blk_file_start(&file, &requests[0]);
	blk_file_drain(&file);
	assert_int_equal(fault.durable, 3);
}

static void a_durable_hole_is_flushed_behind(void **state)
{
	need_ring();
	for (unsigned durable = 0; durable < 2; durable++) {
		requests[0] = (struct blk_file_request){
			.op = BLK_FILE_ALLOCATE,
			.mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
			.length = 4096,
			.durable = durable,
		};
		blk_file_start(&file, &requests[0]);
		blk_file_drain(&file);
		if (requests[0].error == EOPNOTSUPP)
			skip(); /* the file system of /tmp cannot */
		assert_int_equal(requests[0].error, 0);
		assert_int_equal(fault.flushes, durable);
	}
	assert_int_equal(done_count, 2);
}

/* ---- the ring ------------------------------------------------------------------------------ */

static void what_need_not_wait_costs_no_ring_entry(void **state)
{
	need_ring();
	fill_two();
	fault.at_once = true;
	run_two(BLK_FILE_WRITE, false);
	memset(data, 0, sizeof(data));
	run_two(BLK_FILE_READ, false);
	assert_int_equal(data[1][5], (uint8_t)((8192 + 5) * 31 + (8192 + 5) / 256));
	assert_int_equal(fault.submits, 0);
	/* What must be on the medium waits, and what comes short waits for the rest. */
	run_two(BLK_FILE_WRITE, true);
	assert_int_equal(fault.submits, 1);
	fault.strikes = 1;
	fault.shortened = 100;
	run_two(BLK_FILE_READ, false);
	assert_int_equal(requests[0].error | requests[1].error, 0);
	assert_int_equal(fault.submits, 2);
}

static void a_ring_that_takes_nothing_more_is_given_up(void **state)
{
	need_ring();
	fill_two();
	fault.refuse_submit = true;
	run_two(BLK_FILE_WRITE, false);
	assert_int_equal(requests[0].error | requests[1].error, 0);
	assert_file_has_both();
	assert_false(file.ring_used);
	fault.calls = 0;
	run_two(BLK_FILE_READ, false);
	assert_int_equal(fault.calls, 2);
	assert_int_equal(requests[0].error | requests[1].error, 0);
}

/* In flight: reads of a pipe, which are done when somebody writes into it. */
static void *drain_thread(void *returned)
{
	blk_file_drain(&file);
	__atomic_store_n((bool *)returned, true, __ATOMIC_RELEASE);
	return NULL;
}

static void drain_waits_for_what_is_in_flight(void **state)
{
	bool returned = false;
	pthread_t thread;
	int pipes[2];

	need_ring();
	blk_file_ring_close(&file);
	assert_int_equal(pipe(pipes), 0);
	close(file.fd);
	file.fd = pipes[0];
	assert_int_equal(blk_file_ring(&file, DEPTH), 0);
	for (unsigned i = 0; i < 2; i++)
		blk_file_start(&file, prepare(i, BLK_FILE_READ, 0, 64));
	blk_file_submit(&file);
	assert_int_equal(file.in_flight, 2);
	assert_int_equal(pthread_create(&thread, NULL, drain_thread, &returned), 0);
	usleep(50000);
	assert_false(__atomic_load_n(&returned, __ATOMIC_ACQUIRE));
	assert_int_equal(write(pipes[1], data[5], 128), 128);
	pthread_join(thread, NULL);
	assert_int_equal(done_count, 2);
	close(pipes[1]);
}

/* The ring must not be a way around a seccomp filter. */
static int through_ring(void (*prepare_entry)(struct io_uring_sqe *))
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&file.ring);
	struct io_uring_cqe *cqe;
	int result;

	assert_non_null(sqe);
	prepare_entry(sqe);
	assert_int_equal(io_uring_submit(&file.ring), 1);
	assert_int_equal(io_uring_wait_cqe(&file.ring, &cqe), 0);
	result = cqe->res;
	io_uring_cqe_seen(&file.ring, cqe);
	return result;
}

static void entry_open(struct io_uring_sqe *sqe)
{
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
}

static void entry_other_file(struct io_uring_sqe *sqe)
{
	io_uring_prep_readv(sqe, STDIN_FILENO, iovs[0], 1, 0);
}

static void entry_own_file(struct io_uring_sqe *sqe)
{
	prepare(0, BLK_FILE_READ, 0, 64);
	io_uring_prep_readv(sqe, 0, iovs[0], 1, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

static void the_ring_can_do_nothing_but_disk_requests(void **state)
{
	need_ring();
	assert_int_equal(through_ring(entry_own_file), 16);
	assert_int_equal(through_ring(entry_open), -EACCES);
	assert_int_equal(through_ring(entry_other_file), -EACCES);
	assert_int_equal(io_uring_register_eventfd(&file.ring, 0), -EACCES);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest both[] = {
		TEST(short_transfers_are_continued),
		TEST(an_error_ends_one_request_and_only_that),
		TEST(an_error_of_a_flush_is_told),
		TEST(an_interrupted_transfer_is_made_again),
		TEST(the_end_of_the_file_is_no_success),
		TEST(durable_writes_are_synchronous_and_others_not),
		TEST(a_durable_hole_is_flushed_behind),
	};
	const struct CMUnitTest ring[] = {
		TEST(what_need_not_wait_costs_no_ring_entry),
		TEST(a_ring_that_takes_nothing_more_is_given_up),
		TEST(drain_waits_for_what_is_in_flight),
		TEST(the_ring_can_do_nothing_but_disk_requests),
	};
	int failed;

	log_set_level(LOG_LEVEL_ERROR);
	failed = cmocka_run_group_tests_name("by calls", both, NULL, NULL);
	use_ring = true;
	failed += cmocka_run_group_tests_name("by io_uring", both, NULL, NULL);
	failed += cmocka_run_group_tests_name("io_uring alone", ring, NULL, NULL);
	return failed;
}
