// SPDX-License-Identifier: Apache-2.0
/*
 * A disk of an instance's: a clone of an image's, or an empty one. It shares its blocks where the file system can (FICLONE), else it is copied a
 * piece at a time, holes staying holes. A piece is on its way to the disk before the next but one begins: what is told of a clone has been done,
 * and nobody else's fsync(2) waits for gigabytes. Until it is whole it has no name, so that one that is given up leaves nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instances/launch/launch_private.h"

#define PIECE	   (16 * MIB)
#define COPY_BYTES 65536

int launch_file_failed(struct error *e, int err, const char *path)
{
	return error_set(e, err, err == ENOSPC ? "disk-full" : "image", NULL, "%.600s: %s", path,
			 strerror(err));
}

/* ---- copying ---------------------------------------------------------------------------------------- */

static void progressed(struct launch_progress *progress, uint64_t bytes)
{
	if (!progress)
		return;
	__atomic_fetch_add(&progress->done_bytes, bytes, __ATOMIC_RELAXED);
	if (progress->step)
		progress->step(progress->opaque);
}

/*
 * Some of @size bytes at @at; by ourselves where the kernel does not: between file systems of two kinds (copy_file_range(2)). How many, or
 * -errno.
 */
static ssize_t copy_piece(int from, int to, off_t at, size_t size)
{
	off_t there = at, here = at;
	char bytes[COPY_BYTES];
	ssize_t n = copy_file_range(from, &here, to, &there, size, 0);
	int err;

	if (n >= 0 || (errno != EXDEV && errno != EOPNOTSUPP))
		return n < 0 ? -errno : n;
	n = pread(from, bytes, MIN(size, sizeof(bytes)), at);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	err = pwrite_full(to, bytes, (size_t)n, (uint64_t)at);
	return err ? err : n;
}

/* What lies before *@begun is waited for, and what was written since is begun. Its errors are fsync(2)'s to tell. */
static void flush(int fd, off_t *begun, off_t at)
{
	if ((uint64_t)(at - *begun) < PIECE)
		return;
	if (*begun)
		sync_file_range(fd, 0, *begun,
				SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
					SYNC_FILE_RANGE_WAIT_AFTER);
	sync_file_range(fd, *begun, at - *begun, SYNC_FILE_RANGE_WRITE);
	*begun = at;
}

/* The next data of a file behind *end, from *at to *end. 1: there is some below @size; 0: none; -errno. */
static int data_next(int fd, off_t size, off_t *at, off_t *end)
{
	*at = lseek(fd, *end, SEEK_DATA);
	if (*at < 0)
		return errno == ENXIO ? 0 : -errno;
	if (*at >= size)
		return 0;
	/* It may have grown since. */
	*end = MIN(lseek(fd, *at, SEEK_HOLE), size);
	return *end < 0 ? -errno : 1;
}

static int copy_data(int from, int to, off_t size, struct launch_progress *progress)
{
	off_t at, hole = 0, begun = 0;
	int more;

	if (ftruncate(to, size) < 0)
		return -errno;
	while ((more = data_next(from, size, &at, &hole)) > 0) {
		while (at < hole) {
			const ssize_t n =
				copy_piece(from, to, at, MIN((size_t)(hole - at), (size_t)PIECE));

			if (n < 0 && n != -EINTR)
				return (int)n;
			if (!n)
				return -EIO; /* it was cut while we read */
			at += MAX(n, 0);
			flush(to, &begun, at);
			progressed(progress, (uint64_t)MAX(n, 0));
		}
	}
	return more;
}

/* What copy_data() will have copied. */
static int data_count(int fd, off_t size, uint64_t *bytes)
{
	off_t at, hole = 0;
	int more;

	*bytes = 0;
	while ((more = data_next(fd, size, &at, &hole)) > 0)
		*bytes += (uint64_t)(hole - at);
	return more;
}

/* ---- disks ------------------------------------------------------------------------------------------ */

static int source_open(const char *path, int *fd, struct stat *st, struct error *e)
{
	/* Neither waiting for a FIFO's other end, nor taking a terminal. */
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (*fd < 0 || fstat(*fd, st) < 0)
		return launch_file_failed(e, errno, path);
	if (!S_ISREG(st->st_mode))
		return error_set(e, EINVAL, "image", "disk ...,readonly in its guest.conf",
				 "%s is no file: it cannot be cloned", path);
	return 0;
}

int disk_measure(const char *from, uint64_t bytes, struct launch_room *room, struct error *e)
{
	struct stat st = { 0 };
	uint64_t data = 0;
	int fd = -1, err = from[0] ? source_open(from, &fd, &st, e) : 0;

	if (!err && from[0]) {
		err = data_count(fd, st.st_size, &data);
		if (err)
			err = launch_file_failed(e, -err, from);
	}
	fd_close(&fd);
	room->size_bytes = add_saturated(room->size_bytes, MAX(bytes, (uint64_t)st.st_size));
	room->data_bytes = add_saturated(room->data_bytes, data);
	return err;
}

/* @new: its name until it is whole, where the file system has none without a name; else "". */
static int target_open(const char *to, char new[4200], int *fd)
{
	snprintf(new, 4200, "%s", to);
	*strrchr(new, '/') = '\0';
	*fd = open(new, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	new[0] = '\0';
	if (*fd >= 0 || errno != EOPNOTSUPP)
		return *fd < 0 ? -errno : 0;
	snprintf(new, 4200, "%.4190s.new", to);
	/* A file of its own: who made one before may be on its way out, and still write to it. */
	unlink(new);
	*fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return *fd < 0 ? -errno : 0;
}

static int target_name(const char *to, const char *new, int fd)
{
	char link[40];

	if (new[0])
		return rename(new, to) < 0 ? -errno : 0;
	/* open(2), O_TMPFILE: without CAP_DAC_READ_SEARCH. */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, link, AT_FDCWD, to, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int fill(int from, int to, const struct stat *st, uint64_t bytes,
		struct launch_progress *progress)
{
	uint64_t data;
	int err = 0;

	if (from >= 0 && ioctl(to, FICLONE, from) < 0)
		err = copy_data(from, to, st->st_size, progress);
	else if (from >= 0 && !data_count(from, st->st_size, &data))
		progressed(progress, data);
	/* Also where more was shared than there was a moment ago. */
	if (!err && ftruncate(to, (off_t)MAX(bytes, (uint64_t)st->st_size)) < 0)
		err = -errno;
	return !err && fsync(to) < 0 ? -errno : err;
}

int disk_make(const char *from, const char *to, uint64_t bytes, uint64_t *left,
	      struct launch_progress *progress, struct error *e)
{
	char new[4200] = "";
	struct stat st = { 0 };
	int source = -1, fd = -1, err = from[0] ? source_open(from, &source, &st, e) : 0;

	if (err)
		goto out;
	if (MAX(bytes, (uint64_t)st.st_size) > *left) {
		err = error_set(e, ESTALE, "image", NULL,
				"%.600s: it has grown since it was measured", from[0] ? from : to);
		goto out;
	}
	*left -= MAX(bytes, (uint64_t)st.st_size);
	err = target_open(to, new, &fd);
	if (!err)
		err = fill(source, fd, &st, bytes, progress);
	if (!err)
		err = target_name(to, new, fd);
	if (err) {
		if (new[0])
			unlink(new);
		err = launch_file_failed(e, -err, to);
	}
out:
	fd_close(&source);
	fd_close(&fd);
	return err;
}
