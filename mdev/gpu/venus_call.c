// SPDX-License-Identifier: Apache-2.0
/*
 * venus_call: the calls into virglrenderer, one function each, and how a blob's memory becomes a file to map.
 *
 * A render worker is not trusted: what it gives as a blob's memory is mapped into the guest, and by KVM, so it
 * must be there for as long as somebody maps it. It is taken when it is a dma-buf, or a memfd that is
 * sealed against shrinking (which is done here when it was not), and at least as long as the blob.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <virgl/virglrenderer.h>

#include "mdev/gpu/venus_private.h"

/* It says 0, or an errno with either sign, or -1. */
static int errno_of(int ret)
{
	if (!ret)
		return 0;
	return ret == ENOMEM || ret == -ENOMEM ? -ENOMEM : -EIO;
}

/* ---- the memory of blobs -------------------------------------------------------------------- */

/* Whether the pages of [0, @size) of @fd are there and will stay: the last one is there as a whole. */
static bool file_stays(int fd, uint64_t size)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	off_t end = lseek(fd, 0, SEEK_END);
	struct statfs fs;
	int seals;

	if (end < 0 || ALIGN_UP((uint64_t)end, page) < size || fstatfs(fd, &fs) < 0)
		return false;
	if (fs.f_type == DMA_BUF_MAGIC)
		return true;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return false;
	if (seals & F_SEAL_SHRINK)
		return true;
	/* It may have become shorter while nobody held it to its length. */
	return !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) && lseek(fd, 0, SEEK_END) >= end;
}

/*
 * An opaque descriptor means something to the driver that made it. Mesa's drivers on the CPU are the ones that give a file which anybody could
 * map: what begins it says where the memory is (Mesa, src/util/os_memory_fd.c, struct memory_header: size, offset, a UUID). What a worker
 * writes there is no more than a number, which is judged with the file's length like all others. Having the driver map it would take a driver in this process.
 */
static int opaque_offset(int fd, uint64_t size, uint64_t *offset)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t header[2];
	int err = pread_full(fd, header, sizeof(header), 0);

	if (err)
		return -EOPNOTSUPP;
	if (header[1] < sizeof(header) || header[1] > UINT64_MAX / 2 || header[0] < header[1] ||
	    header[0] > UINT64_MAX / 2 || ALIGN_UP(header[0] - header[1], page) < size)
		return -EXDEV;
	*offset = header[1];
	return 0;
}

static int export(struct venus *venus, struct venus_call *call)
{
	uint32_t type = 0, caching = 0;
	uint64_t offset = 0;
	int fd = -1, ret;

	if (virgl_renderer_resource_export_blob(call->resource, &type, &fd))
		return -EOPNOTSUPP;
	ret = type == VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE ? opaque_offset(fd, call->size, &offset)
							 : 0;
	if (!ret && !file_stays(fd, offset + call->size))
		ret = -EPERM;
	if (!ret && offset % (uint64_t)sysconf(_SC_PAGESIZE))
		ret = -EOPNOTSUPP;
	if (ret) {
		log_limited(LOG_LEVEL_WARN, "%s: a blob cannot be mapped: %s", venus->name,
			    ret == -EPERM ? "it is too short, or may become so" : strerror(-ret));
		fd_close(&fd);
		return ret;
	}
	virgl_renderer_resource_get_map_info(call->resource, &caching);
	call->caching = caching & VIRGL_RENDERER_MAP_CACHE_MASK;
	call->fd_type = type;
	call->fd = fd;
	call->fd_offset = offset;
	return 0;
}

/* ---- calls --------------------------------------------------------------------------------- */

static int context_create(struct venus *venus, struct venus_call *call)
{
	const size_t length = strnlen(call->name, sizeof(call->name) - 1);
	int ret = virgl_renderer_context_create_with_flags(call->context, VENUS_CAPSET,
							   (uint32_t)length, call->name);

	/* It says ENOMEM of whatever went wrong. */
	if (ret)
		return -EIO;
	venus_watch(venus, call->context);
	return 0;
}

static int context_destroy(struct venus *venus, struct venus_call *call)
{
	venus_unwatch(venus, call->context);
	virgl_renderer_context_destroy(call->context);
	return 0;
}

static int attach(struct venus *venus, struct venus_call *call)
{
	virgl_renderer_ctx_attach_resource((int)call->context, (int)call->resource);
	return 0;
}

static int detach(struct venus *venus, struct venus_call *call)
{
	virgl_renderer_ctx_detach_resource((int)call->context, (int)call->resource);
	return 0;
}

static int submit(struct venus *venus, struct venus_call *call)
{
	/* It never writes there. */
	return errno_of(virgl_renderer_submit_cmd((void *)(uintptr_t)call->data, (int)call->context,
						  (int)(call->size / 4)));
}

static int blob_create(struct venus *venus, struct venus_call *call)
{
	/* The guest half of a HOST3D_GUEST blob would only be ignored there: it stays with the device. */
	const struct virgl_renderer_resource_create_blob_args args = {
		.res_handle = call->resource,
		.ctx_id = call->context,
		.blob_mem = VIRGL_RENDERER_BLOB_MEM_HOST3D,
		.blob_flags = call->flags,
		.blob_id = call->blob_id,
		.size = call->size,
	};
	int fd = -1, ret = virgl_renderer_resource_create_blob(&args);

	if (ret)
		return errno_of(ret);
	call->fd_type = 0;
	if (!virgl_renderer_resource_export_blob(call->resource, &call->fd_type, &fd))
		fd_close(&fd);
	return 0;
}

static int unref(struct venus *venus, struct venus_call *call)
{
	virgl_renderer_resource_unref(call->resource);
	return 0;
}

static int (*const makers[])(struct venus *venus, struct venus_call *call) = {
	[VENUS_CONTEXT_CREATE] = context_create,
	[VENUS_CONTEXT_DESTROY] = context_destroy,
	[VENUS_ATTACH] = attach,
	[VENUS_DETACH] = detach,
	[VENUS_SUBMIT] = submit,
	[VENUS_BLOB_CREATE] = blob_create,
	[VENUS_EXPORT] = export,
	[VENUS_UNREF] = unref,
};

void venus_make(struct venus *venus, struct venus_call *call)
{
	call->ret = makers[call->op](venus, call);
	if (!call->ret && call->fence)
		call->ret = errno_of(virgl_renderer_context_create_fence(
			call->context, 0, call->ring, call->fence_id));
}
