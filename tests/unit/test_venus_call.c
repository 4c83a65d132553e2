// SPDX-License-Identifier: Apache-2.0
/*
 * What a render worker gives as a blob's memory, and whether it is taken: files that could become shorter, are too
 * short, are no memory; opaque ones whose place in their file must be said. virglrenderer's functions are this test's.
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
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

#include "mdev/gpu/venus_private.h"

#define SIZE 16384u

static int blob_fd = -1;
static uint32_t blob_type;

int virgl_renderer_resource_export_blob(uint32_t resource, uint32_t *type, int *fd)
{
	if (blob_fd < 0)
		return -EINVAL;
	*type = blob_type;
	*fd = fcntl(blob_fd, F_DUPFD_CLOEXEC, 0);
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

/* What Mesa's drivers on the CPU begin such a file with. */
static void header(uint64_t size, uint64_t offset)
{
	const uint64_t words[2] = { size, offset };

	assert_int_equal(pwrite_full(blob_fd, words, sizeof(words), 0), 0);
}

static void opaque_memory_is_found_in_its_file(void **state)
{
	memory(MFD_ALLOW_SEALING, SIZE + 12288);
	header(SIZE + 8192, 8192);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), 0);
	assert_int_equal(call.fd_offset, 8192);
	fd_close(&call.fd);
	/* Not where a page begins: it cannot be mapped. */
	header(SIZE + 64, 64);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EOPNOTSUPP);
	/* So far into the file that it ends too early. */
	header(SIZE + 16384, 16384);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EPERM);
}

static void opaque_memory_of_no_known_kind_is_refused(void **state)
{
	memory(MFD_ALLOW_SEALING, SIZE + 4096);
	/* No header, one of a smaller blob, numbers that wrap, memory on top of the header. */
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EXDEV);
	header(SIZE, 4096);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EXDEV);
	header(UINT64_MAX, UINT64_MAX - SIZE);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EXDEV);
	header(SIZE, UINT64_MAX - 4095);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EXDEV);
	header(SIZE, 0);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EXDEV);
	fd_close(&blob_fd);
	/* Shorter than a header, or nothing that has a beginning. */
	memory(MFD_ALLOW_SEALING, 8);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EOPNOTSUPP);
	fd_close(&blob_fd);
	blob_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(export(VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE), -EOPNOTSUPP);
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
		CALL_TEST(opaque_memory_of_no_known_kind_is_refused),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
