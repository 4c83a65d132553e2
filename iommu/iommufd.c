// SPDX-License-Identifier: Apache-2.0
/*
 * iommufd: one I/O address space (IOAS) that devices are bound and attached to one by one, by their
 * own character devices (Documentation/userspace-api/iommufd.rst, include/uapi/linux/iommufd.h).
 *
 * Unlike a type1 container it lives from open to close: maps can be made before a device is attached
 * and stay when the last one leaves. It maps memory only: a BAR is EFAULT up to Linux 6.12 and later.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "iommu/private.h"

#define KERNEL_RANGES_MAX 64

/* Since Linux 6.13 (include/uapi/linux/iommufd.h), which is newer than the headers we build with. */
#ifndef IOMMU_IOAS_MAP_FILE
struct iommu_ioas_map_file {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__s32 fd;
	__aligned_u64 start;
	__aligned_u64 length;
	__aligned_u64 iova;
};
#define IOMMU_IOAS_MAP_FILE _IO(IOMMUFD_TYPE, 0x8f)
#endif

struct iommufd_space {
	struct iommu_space space;
	int fd;
	uint32_t ioas;
	bool no_map_file; /* the kernel said so */
};

static struct iommufd_space *iommufd(struct iommu_space *space)
{
	return container_of(space, struct iommufd_space, space);
}

static uint32_t map_flags(unsigned prot)
{
	return IOMMU_IOAS_MAP_FIXED_IOVA | (prot & IOMMU_PROT_READ ? IOMMU_IOAS_MAP_READABLE : 0) |
	       (prot & IOMMU_PROT_WRITE ? IOMMU_IOAS_MAP_WRITEABLE : 0);
}

static int iommufd_map(struct iommu_space *space, uint64_t iova, uint64_t size, void *vaddr,
		       unsigned prot)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = map_flags(prot),
		.ioas_id = iommufd(space)->ioas,
		.user_va = (uintptr_t)vaddr,
		.length = size,
		.iova = iova,
	};

	if (ioctl(iommufd(space)->fd, IOMMU_IOAS_MAP, &map))
		return -errno;
	space->maps++;
	return 0;
}

/*
 * By the file: whole large pages are pinned at once, and the pins are the file's, so that they could
 * outlive this process's address space.
 */
static int iommufd_map_file(struct iommu_space *space, uint64_t iova, uint64_t size, int fd,
			    uint64_t offset, unsigned prot)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = map_flags(prot),
		.ioas_id = iommufd(space)->ioas,
		.fd = fd,
		.start = offset,
		.length = size,
		.iova = iova,
	};

	if (iommufd(space)->no_map_file)
		return -ENOTTY;
	if (ioctl(iommufd(space)->fd, IOMMU_IOAS_MAP_FILE, &map)) {
		iommufd(space)->no_map_file = errno == ENOTTY;
		return -errno;
	}
	space->maps++;
	return 0;
}

static int iommufd_unmap(struct iommu_space *space, uint64_t iova, uint64_t size)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = iommufd(space)->ioas,
		.iova = iova,
		.length = size,
	};

	if (ioctl(iommufd(space)->fd, IOMMU_IOAS_UNMAP, &unmap))
		return -errno;
	if (unmap.length != size)
		return -EIO;
	space->maps--;
	return 0;
}

static int bind_error(struct error *e, int err)
{
	if (err == EPERM)
		return attach_no_remapping(e, "VFIO_DEVICE_BIND_IOMMUFD");
	if (err == EBUSY)
		return error_set(
			e, EBUSY, "group-not-viable", "divvy precheck names who is in the way",
			"the kernel does not hand the device out: a member of its group is driven "
			"by the host, or used by another process (VFIO_DEVICE_BIND_IOMMUFD: "
			"EBUSY)");
	return error_set(
		e, err, "attach-failed", NULL, "VFIO_DEVICE_BIND_IOMMUFD: %s%s", strerror(err),
		err == EINVAL ? " (bound already, or the IOMMU does not keep caches coherent)"
			      : "");
}

static int iommufd_attach(struct iommu_space *space, int vfio_fd, struct error *e)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = iommufd(space)->fd,
	};
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = iommufd(space)->ioas,
	};

	if (ioctl(vfio_fd, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return bind_error(e, errno);
	/* The bond itself ends when the caller closes the device. */
	if (ioctl(vfio_fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		return error_set(e, errno, "attach-failed", NULL,
				 "the device cannot join the address space "
				 "(VFIO_DEVICE_ATTACH_IOMMUFD_PT: %s)%s",
				 strerror(errno),
				 errno == EADDRINUSE
					 ? ": guest memory lies in a region reserved for the device"
					 : "");
	return 0;
}

static void iommufd_detach(struct iommu_space *space, int vfio_fd)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	if (ioctl(vfio_fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach))
		log_error("iommu iommufd: VFIO_DEVICE_DETACH_IOMMUFD_PT: %s", strerror(errno));
}

static int iommufd_ranges(struct iommu_space *space, struct iommu_range *ranges, unsigned max)
{
	struct iommu_iova_range kernel[KERNEL_RANGES_MAX];
	struct iommu_ioas_iova_ranges get = {
		.size = sizeof(get),
		.ioas_id = iommufd(space)->ioas,
		.num_iovas = KERNEL_RANGES_MAX,
		.allowed_iovas = (uintptr_t)kernel,
	};
	unsigned count;

	/* EMSGSIZE: there are more; those that fit were filled in, in order of address. */
	if (ioctl(iommufd(space)->fd, IOMMU_IOAS_IOVA_RANGES, &get) && errno != EMSGSIZE)
		return -errno;
	count = MIN(MIN(get.num_iovas, (uint32_t)KERNEL_RANGES_MAX), max);
	for (unsigned i = 0; i < count; i++)
		ranges[i] = (struct iommu_range){ kernel[i].start, kernel[i].last };
	return (int)count;
}

static void iommufd_destroy(struct iommu_space *space)
{
	/* The IOAS and what it pins go with the descriptor, once no device is attached. */
	fd_close(&iommufd(space)->fd);
	free(iommufd(space));
}

static const struct iommu_space_ops iommufd_ops = {
	.name = "iommufd",
	.kind = IOMMU_IOMMUFD,
	.map = iommufd_map,
	.map_file = iommufd_map_file,
	.unmap = iommufd_unmap,
	.attach = iommufd_attach,
	.detach = iommufd_detach,
	.ranges = iommufd_ranges,
	.destroy = iommufd_destroy,
};

int iommu_iommufd_open(const char *root, struct iommu_space **out, struct error *e)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommufd_space *space;
	char path[PATH_MAX];
	int fd, err;

	snprintf(path, sizeof(path), "%s/dev/iommu", root);
	fd = open(path, O_RDWR | O_CLOEXEC);
	err = errno;
	if (fd < 0 && (err == ENOENT || err == ENODEV || err == ENXIO))
		return error_set(e, err, "no-iommufd",
				 "modprobe iommufd, or let Divvy use type1 (--iommu type1)",
				 "this kernel offers no iommufd: %s: %s", path, strerror(err));
	if (fd < 0)
		return error_set(e, err, err == EACCES ? "permission-denied" : "iommufd-unusable",
				 err == EACCES ? "run as root" : NULL, "%s cannot be opened: %s",
				 path, strerror(err));
	if (ioctl(fd, IOMMU_IOAS_ALLOC, &alloc)) {
		err = error_set(e, errno, "iommufd-unusable", NULL,
				"%s does not give an address space (IOMMU_IOAS_ALLOC: %s)", path,
				strerror(errno));
		goto failed;
	}
	space = calloc(1, sizeof(*space));
	if (!space) {
		err = error_set(e, ENOMEM, "out-of-memory", NULL, "no memory");
		goto failed;
	}
	space->space.ops = &iommufd_ops;
	pthread_mutex_init(&space->space.vfio_lock, NULL);
	space->fd = fd;
	space->ioas = alloc.out_ioas_id;
	*out = &space->space;
	return 0;
failed:
	fd_close(&fd);
	return err;
}
