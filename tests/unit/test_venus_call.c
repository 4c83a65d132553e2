// SPDX-License-Identifier: Apache-2.0
/*
 * What a render worker gives as a blob's memory, and whether it is taken: files that could become shorter, are too
 * short, are no memory; opaque ones whose place in their file must be found. virglrenderer's functions are this test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

#include "mdev/gpu/venus_private.h"

#define SIZE 16384u

static int blob_fd = -1;
static uint32_t blob_type;
static void *blob_map; /* what the driver maps of an opaque one */
static unsigned maps;

int virgl_renderer_resource_export_blob(uint32_t resource, uint32_t *type, int *fd)
{
	if (blob_fd < 0)
		return -EINVAL;
	*type = blob_type;
	*fd = fcntl(blob_fd, F_DUPFD_CLOEXEC, 0);
	return 0;
}

int virgl_renderer_resource_map(uint32_t resource, void **map, uint64_t *size)
{
	if (!blob_map)
		return -EINVAL;
	*map = blob_map;
	*size = SIZE;
	maps++;
	return 0;
}

int virgl_renderer_resource_unmap(uint32_t resource)
{
	maps--;
	return 0;
}

int virgl_renderer_resource_get_map_info(uint32_t resource, uint32_t *info)
{
	*info = 0xf3;
	return 0;
}

static struct venus venus = { .name = "test" };
static struct venus_call call;

/* Export SIZE bytes of what blob_fd is. Returns the call's result. */
static int export(uint32_t type)
{
	blob_type = type;
	call = (struct venus_call){ .op = VENUS_EXPORT, .fd = -1, .resource = 1, .size = SIZE };
	venus_make(&venus, &call);
	if (call.ret)
		assert_int_equal(call.fd, -1);
	assert_int_equal(maps, 0);
	return call.ret;
}

static void memory(unsigned flags, off_t size)
{
	blob_fd = memfd_create("blob", MFD_CLOEXEC | flags);
	assert_true(blob_fd >= 0);
	assert_int_equal(ftruncate(blob_fd, size), 0);
}

static int teardown(void **state)
{
	fd_close(&call.fd);
	fd_close(&blob_fd);
	blob_map = NULL;
	return 0;
}

static void a_memfd_is_sealed_before_it_is_shown(void **state)
{
	memory(MFD_ALLOW_SEALING, SIZE);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_SHM), 0);
	assert_int_equal(call.fd_offset, 0);
	assert_int_equal(call.caching, 3);
	assert_true(fcntl(blob_fd, F_GET_SEALS) & F_SEAL_SHRINK);
	assert_int_equal(ftruncate(blob_fd, SIZE - 4096), -1);
	/* Again: it has its seal. */
	fd_close(&call.fd);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF), 0);
}

static void a_memfd_that_cannot_be_sealed_is_refused(void **state)
{
	memory(0, SIZE);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_SHM), -EPERM);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF), -EPERM);
}

static void what_is_too_short_is_refused(void **state)
{
	memory(MFD_ALLOW_SEALING, SIZE - 4096);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_SHM), -EPERM);
	/* Whose last page is there is long enough: drivers round a blob up to pages, and not their files. */
	assert_int_equal(ftruncate(blob_fd, SIZE - 4095), 0);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_SHM), 0);
}

static void a_plain_file_is_no_memory(void **state)
{
	char path[] = "/var/tmp/test-venus-XXXXXX";

	blob_fd = mkstemp(path);
	assert_true(blob_fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(blob_fd, SIZE), 0);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF), -EPERM);
	fd_close(&blob_fd);
	blob_fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF), -EPERM);
	fd_close(&blob_fd);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF), -EOPNOTSUPP);
}

static void opaque_memory_is_found_in_its_file(void **state)
{
	uint8_t *map;

	memory(MFD_ALLOW_SEALING, SIZE + 12288);
	map = mmap(NULL, SIZE + 4096, PROT_READ | PROT_WRITE, MAP_SHARED, blob_fd, 4096);
	assert_true(map != MAP_FAILED);
	/* The driver's own header lies before: where it says that the memory is, at 8192 of the file. */
	blob_map = map + 4096;
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), 0);
	assert_int_equal(call.fd_offset, 8192);
	fd_close(&call.fd);
	/* Not where a page begins: it cannot be mapped. */
	blob_map = map + 64;
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EOPNOTSUPP);
	munmap(map, SIZE + 4096);
	/* So far into the file that it ends too early. */
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, blob_fd, 16384);
	blob_map = map;
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EPERM);
	munmap(map, SIZE);
}

static void opaque_memory_of_another_file_is_refused(void **state)
{
	int other = memfd_create("other", MFD_CLOEXEC);

	memory(MFD_ALLOW_SEALING, SIZE);
	assert_int_equal(ftruncate(other, SIZE), 0);
	blob_map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, other, 0);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EXDEV);
	munmap(blob_map, SIZE);
	blob_map = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EXDEV);
	munmap(blob_map, SIZE);
	blob_map = NULL;
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EIO);
	close(other);
}

#define CALL_TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		CALL_TEST(a_memfd_is_sealed_before_it_is_shown),
		CALL_TEST(a_memfd_that_cannot_be_sealed_is_refused),
		CALL_TEST(what_is_too_short_is_refused),
		CALL_TEST(a_plain_file_is_no_memory),
		CALL_TEST(opaque_memory_is_found_in_its_file),
		CALL_TEST(opaque_memory_of_another_file_is_refused),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
