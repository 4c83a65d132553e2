// SPDX-License-Identifier: Apache-2.0
/*
 * vtest_preload: lets Mesa's vtest client map memory that does not begin at the beginning of its file.
 *
 * The vtest protocol hands over a file and nothing else; the client maps it from 0. The vGPU's window has memory that begins
 * later (opaque memory has a header of its driver's). The bridge (gpu_vtest.h) says where by the position of the
 * file, and this adds it.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))

VISIBLE void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	off_t start = 0;

	if (fd >= 0 && flags & MAP_SHARED && !offset && fcntl(fd, F_GET_SEALS) >= 0)
		start = lseek(fd, 0, SEEK_CUR);
	return (void *)syscall(SYS_mmap, at, size, protection, flags, fd,
			       start > 0 ? start : offset);
}

VISIBLE void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	return mmap(at, size, protection, flags, fd, offset);
}
