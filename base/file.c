// SPDX-License-Identifier: Apache-2.0
/* File descriptors and small files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

ssize_t file_read(int dirfd, const char *path, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (len < size) {
		n = read(fd, buf + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			n = -errno;
			close(fd);
			return n;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	if (len == size)
		return -EFBIG;
	while (len && buf[len - 1] == '\n')
		len--;
	buf[len] = '\0';
	return (ssize_t)len;
}

int file_read_u64(int dirfd, const char *path, uint64_t *value)
{
	char buf[64] = "", *end;
	ssize_t n = file_read(dirfd, path, buf, sizeof(buf));

	if (n < 0)
		return (int)n;
	if (buf[0] < '0' || buf[0] > '9')
		return -EINVAL;
	errno = 0;
	*value = strtoull(buf, &end, 0);
	return errno || *end ? -EINVAL : 0;
}

int file_write(int dirfd, const char *path, const char *text)
{
	int err = 0;
	int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int pread_full(int fd, void *buf, size_t count, uint64_t offset)
{
	while (count) {
		ssize_t n = pread(fd, buf, count, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf = (char *)buf + n;
		count -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int pwrite_full(int fd, const void *buf, size_t count, uint64_t offset)
{
	while (count) {
		ssize_t n = pwrite(fd, buf, count, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf = (const char *)buf + n;
		count -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}
