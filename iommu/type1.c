// SPDX-License-Identifier: Apache-2.0
/*
 * The type1 container: one address space shared by the groups attached to it (Documentation/
 * driver-api/vfio.rst, include/uapi/linux/vfio.h).
 *
 * The kernel makes the address space when the first group joins and drops it, with all maps, when the
 * last one leaves; in between every map holds its pages pinned.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "iommu/private.h"

#define INFO_SIZE_MAX (64 * KIB) /* more than any kernel returns; a bound for what it says */

struct type1_space {
	struct iommu_space space;
	int container;
	unsigned groups; /* attached */
};

static struct type1_space *type1(struct iommu_space *space)
{
	return container_of(space, struct type1_space, space);
}

static int type1_map(struct iommu_space *space, uint64_t iova, uint64_t size, void *vaddr,
		     unsigned prot)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = (prot & IOMMU_PROT_READ ? VFIO_DMA_MAP_FLAG_READ : 0) |
			 (prot & IOMMU_PROT_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0),
		.vaddr = (uintptr_t)vaddr,
		.iova = iova,
		.size = size,
	};

	if (!type1(space)->groups)
		return -ENODEV;
	if (ioctl(type1(space)->container, VFIO_IOMMU_MAP_DMA, &map))
		return -errno;
	space->maps++;
	return 0;
}

static int type1_unmap(struct iommu_space *space, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	/* The kernel dropped every map with the last group. */
	if (!type1(space)->groups)
		return 0;
	if (ioctl(type1(space)->container, VFIO_IOMMU_UNMAP_DMA, &unmap))
		return -errno;
	if (unmap.size != size)
		return -EIO;
	space->maps--;
	return 0;
}

static int type1_attach(struct iommu_space *space, int vfio_fd, struct error *e)
{
	struct type1_space *t = type1(space);
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int err;

	if (ioctl(vfio_fd, VFIO_GROUP_GET_STATUS, &status))
		return error_set(e, errno, "not-a-vfio-group", NULL,
				 "the descriptor is not a VFIO group: %s", strerror(errno));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return error_set(
			e, EBUSY, "group-not-viable", "divvy precheck names who is in the way",
			"the kernel says that the group is not viable: a member of it is still "
			"driven by the host");
	if (ioctl(vfio_fd, VFIO_GROUP_SET_CONTAINER, &t->container)) {
		err = errno;
		/* After the first, a group joins the address space here. */
		if (err == EPERM && t->groups)
			return attach_no_remapping(e, "VFIO_GROUP_SET_CONTAINER");
		if (err == EBUSY || err == EINVAL)
			return error_set(
				e, EBUSY, "device-in-use", NULL,
				"the group is attached to an address space already, or a member "
				"of it is driven by the host (VFIO_GROUP_SET_CONTAINER: %s)",
				strerror(err));
		return error_set(e, err, "attach-failed", NULL, "VFIO_GROUP_SET_CONTAINER: %s",
				 strerror(err));
	}
	if (!t->groups && ioctl(t->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) {
		err = errno;
		ioctl(vfio_fd, VFIO_GROUP_UNSET_CONTAINER);
		if (err == EPERM)
			return attach_no_remapping(e, "VFIO_SET_IOMMU");
		return error_set(e, err, "attach-failed", NULL,
				 "VFIO_SET_IOMMU(VFIO_TYPE1v2_IOMMU): %s%s", strerror(err),
				 err == EINVAL
					 ? " (a firmware-reserved region may forbid it: divvy "
					   "precheck)"
					 : "");
	}
	t->groups++;
	return 0;
}

static void type1_detach(struct iommu_space *space, int vfio_fd)
{
	struct type1_space *t = type1(space);

	if (!t->groups)
		return;
	if (ioctl(vfio_fd, VFIO_GROUP_UNSET_CONTAINER)) {
		log_error("iommu type1: VFIO_GROUP_UNSET_CONTAINER: %s", strerror(errno));
		return;
	}
	if (--t->groups)
		return;
	if (space->maps)
		log_warn("iommu type1: the last group left with %lu map%s, dropped by the kernel",
			 space->maps, space->maps == 1 ? "" : "s");
	space->maps = 0;
}

int type1_parse_ranges(const void *info, size_t size, struct iommu_range *ranges, unsigned max)
{
	const char *bytes = info;
	struct vfio_iommu_type1_info head;
	size_t offset;

	if (size < sizeof(head))
		return -ENODATA;
	memcpy(&head, bytes, sizeof(head));
	if (!(head.flags & VFIO_IOMMU_INFO_CAPS))
		return -ENODATA;
	offset = head.cap_offset;
	/* A capability takes at least its header: no chain has more steps. */
	for (size_t step = 0; step < size / sizeof(struct vfio_info_cap_header); step++) {
		struct vfio_iommu_type1_info_cap_iova_range cap;

		if (!offset)
			return -ENODATA;
		if (offset > size || size - offset < sizeof(cap.header))
			return -EINVAL;
		memcpy(&cap.header, bytes + offset, sizeof(cap.header));
		if (cap.header.id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			offset = cap.header.next;
			continue;
		}
		if (size - offset < sizeof(cap))
			return -EINVAL;
		memcpy(&cap, bytes + offset, sizeof(cap));
		offset += sizeof(cap);
		if ((size - offset) / sizeof(struct vfio_iova_range) < cap.nr_iovas)
			return -EINVAL;
		max = MIN(max, cap.nr_iovas);
		for (unsigned i = 0; i < max; i++, offset += sizeof(struct vfio_iova_range)) {
			struct vfio_iova_range range;

			memcpy(&range, bytes + offset, sizeof(range));
			ranges[i] = (struct iommu_range){ range.start, range.end };
		}
		return (int)max;
	}
	return -EINVAL;
}

static int type1_ranges(struct iommu_space *space, struct iommu_range *ranges, unsigned max)
{
	struct vfio_iommu_type1_info head = { .argsz = sizeof(head) }, *info;
	size_t size;
	int err;

	if (!type1(space)->groups)
		return -ENODEV;
	if (ioctl(type1(space)->container, VFIO_IOMMU_GET_INFO, &head))
		return -errno;
	if (head.argsz > INFO_SIZE_MAX)
		return -E2BIG;
	size = MAX(head.argsz, sizeof(head));
	info = calloc(1, size);
	if (!info)
		return -ENOMEM;
	info->argsz = (uint32_t)size;
	err = ioctl(type1(space)->container, VFIO_IOMMU_GET_INFO, info) ? -errno : 0;
	if (!err)
		err = type1_parse_ranges(info, size, ranges, max);
	free(info);
	return err;
}

static void type1_destroy(struct iommu_space *space)
{
	fd_close(&type1(space)->container);
	free(type1(space));
}

static const struct iommu_space_ops type1_ops = {
	.name = "type1",
	.kind = IOMMU_TYPE1,
	.map = type1_map,
	.unmap = type1_unmap,
	.attach = type1_attach,
	.detach = type1_detach,
	.ranges = type1_ranges,
	.destroy = type1_destroy,
};

int iommu_type1_open(const char *root, struct iommu_space **out, struct error *e)
{
	struct type1_space *t;
	char path[PATH_MAX];
	int container, err, version;

	snprintf(path, sizeof(path), "%s/dev/vfio/vfio", root);
	container = open(path, O_RDWR | O_CLOEXEC);
	err = errno;
	if (container < 0 && (err == ENOENT || err == ENODEV || err == ENXIO))
		return error_set(e, err, "no-vfio", "modprobe vfio-pci",
				 "VFIO is not there: %s: %s", path, strerror(err));
	if (container < 0)
		return error_set(e, err, err == EACCES ? "permission-denied" : "vfio-unusable",
				 err == EACCES ? "run as root" : NULL, "%s cannot be opened: %s",
				 path, strerror(err));
	version = ioctl(container, VFIO_GET_API_VERSION);
	if (version != VFIO_API_VERSION) {
		err = error_set(e, ENOTSUP, "vfio-unusable", NULL,
				"%s does not answer as VFIO (API version %d, wanted %d)", path,
				version, VFIO_API_VERSION);
		goto failed;
	}
	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0) {
		err = error_set(e, ENOTSUP, "no-vfio", "modprobe vfio_iommu_type1",
				"the kernel's VFIO has no type1v2 IOMMU backend");
		goto failed;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		err = error_set(e, ENOMEM, "out-of-memory", NULL, "no memory");
		goto failed;
	}
	t->space.ops = &type1_ops;
	pthread_mutex_init(&t->space.vfio_lock, NULL);
	t->container = container;
	*out = &t->space;
	return 0;
failed:
	fd_close(&container);
	return err;
}
