// SPDX-License-Identifier: Apache-2.0
/*
 * What a vfio-user server's device is: its regions, with the files to map them by and the eventfds that
 * take writes, and its interrupts. Asked once, when the device is opened, so that accessors of any
 * thread only look at what no longer changes.
 *
 * Every number is the server's word. One that contradicts the request, the region or the message it
 * came in ends the connection; what is only unusual (an extra region, a file that is no memory) is
 * left out, and its accesses go by messages.
 */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "vfio/device.h"
#include "vfio/user_client.h"

/* ---- mapping ------------------------------------------------------------------------------- */

/* A region that says it can be mapped, and cannot by us: every access is a message. */
static void map_none(struct user_device *user, uint32_t index, const char *why)
{
	struct user_region *kept = &user->regions[index];

	log_warn("%s: region %u is not mapped: %s", user->device.name, index, why);
	kept->region.flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
	kept->region.area_count = 0;
	fd_close(&kept->fd);
}

/*
 * Only memory is mapped: behind a file of another kind (FUSE, a network's) somebody may let a vCPU wait
 * for ever for a page. And all of it must be there, or the guest would touch what is not.
 */
static const char *map_refusal(const struct user_region *kept)
{
	struct statfs fs;
	struct stat st;

	if (kept->fd < 0)
		return "no file came with it";
	if (fstatfs(kept->fd, &fs) < 0 || fstat(kept->fd, &st) < 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode) || (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC))
		return "its file is not memory";
	for (unsigned i = 0; i < kept->region.area_count; i++) {
		const struct vfio_area *area = &kept->region.areas[i];

		/* Offset and size were found to be within INT64_MAX. */
		if (kept->fd_offset + area->offset + area->size > (uint64_t)st.st_size)
			return "its file is too short";
	}
	return NULL;
}

/* ---- regions ------------------------------------------------------------------------------- */

static int query_region(struct user_device *user, uint32_t index)
{
	struct user_region *kept = &user->regions[index];
	struct vfio_region_info info = { .argsz = USER_REGION_MAX, .index = index };
	uint64_t reply[USER_REGION_MAX / sizeof(uint64_t)];
	struct user_call call = {
		.command = USER_DEVICE_GET_REGION_INFO,
		.payload = { { &info, sizeof(info) } },
		.reply = reply,
		.reply_room = sizeof(reply),
		.reply_fds = &kept->fd,
		.reply_fds_room = 1,
	};
	const char *refusal;
	int err = user_client_call(&user->client, &call);

	/* As the kernel's devices: an index that is refused is a region of no size. */
	if (err)
		return err == -EINVAL && !user_client_dead(&user->client) ? 0 : err;
	if (call.reply_size < sizeof(info))
		return user_client_broken(&user->client, "the server's region info is too short");
	memcpy(&info, reply, sizeof(info));
	if (info.index != index || info.argsz < sizeof(info))
		return user_client_broken(&user->client,
					  "the server's region info is of something else");
	err = vfio_region_parse(reply, call.reply_size, &kept->region);
	if (err && err != -E2BIG)
		return user_client_broken(&user->client,
					  "the server's region info contradicts itself");
	if (info.offset > INT64_MAX || info.size > INT64_MAX - info.offset)
		return user_client_broken(&user->client,
					  "the server's region is larger than any file");
	if (call.reply_fd_count && !(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return user_client_broken(&user->client, "a file came with an unmappable region");
	kept->fd_offset = info.offset;
	if (!(kept->region.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return 0;
	/* Capabilities that do not fit are not there, and without them all of it looks mappable. */
	if (err || info.argsz > call.reply_size)
		refusal = "what it says of itself is too long";
	else
		refusal = map_refusal(kept);
	if (refusal)
		map_none(user, index, refusal);
	return 0;
}

/* ---- eventfds for writes ------------------------------------------------------------------- */

/* One sub-region: taken, left out (0 with @taken false), or nonsense. */
static int take_io_fd(const struct user_region *kept, const struct user_io_fd *sub,
		      struct vfio_io_fd *out, bool *taken)
{
	const uint32_t known =
		USER_IO_FD_FLAG_DATAMATCH | USER_IO_FD_FLAG_PIO | USER_IO_FD_FLAG_VIRTIO_NOTIFY;
	bool size_ok = sub->size == 0 || sub->size == 1 || sub->size == 2 || sub->size == 4 ||
		       sub->size == 8;

	*taken = false;
	if (sub->offset >= kept->region.size || sub->size > kept->region.size - sub->offset)
		return -EPROTO;
	/* ioregionfd and whatever else: those writes come to us and go by messages. */
	if (sub->type != USER_IO_FD_IOEVENTFD)
		return 0;
	if (sub->fd_index >= kept->raw_fd_count || sub->flags & ~known || !size_ok)
		return -EPROTO;
	*out = (struct vfio_io_fd){
		.offset = sub->offset,
		.size = (uint32_t)sub->size,
		.fd = kept->raw_fds[sub->fd_index],
		.datamatch = sub->flags & USER_IO_FD_FLAG_DATAMATCH,
		.value = sub->datamatch,
	};
	/* KVM compares as many bytes as were written: with no size there is nothing to compare. */
	*taken = out->size || !out->datamatch;
	return 0;
}

static int take_io_fds(struct user_device *user, struct user_region *kept, const uint8_t *subs,
		       uint32_t count, size_t stride)
{
	for (uint32_t i = 0; i < count; i++) {
		struct user_io_fd sub;
		bool taken;

		memcpy(&sub, subs + i * stride, sizeof(sub));
		if (take_io_fd(kept, &sub, &kept->io_fds[kept->io_fd_count], &taken))
			return user_client_broken(
				&user->client, "the server's region IO fds contradict themselves");
		if (taken)
			kept->io_fd_count++;
	}
	return 0;
}

static int query_io_fds(struct user_device *user, uint32_t index)
{
	struct user_region *kept = &user->regions[index];
	struct user_region_io_fds head = { .index = index };
	uint8_t reply[sizeof(head) + VFIO_IO_FDS_MAX * sizeof(struct user_io_fd)];
	int fds[USER_FDS_MAX];
	struct user_call call = {
		.command = USER_DEVICE_GET_REGION_IO_FDS,
		.payload = { { &head, sizeof(head) } },
		.reply = reply,
		.reply_room = sizeof(reply),
		.reply_fds = fds,
		.reply_fds_room = USER_FDS_MAX,
	};
	size_t subs, stride;
	int err;

	head.argsz = sizeof(reply);
	err = user_client_call(&user->client, &call);
	/* It is optional: a server that has none may refuse. */
	if (err)
		return user_client_dead(&user->client) ? err : 0;
	kept->io_fds = calloc(VFIO_IO_FDS_MAX, sizeof(*kept->io_fds));
	kept->raw_fds = calloc(USER_FDS_MAX, sizeof(*kept->raw_fds));
	if (!kept->io_fds || !kept->raw_fds) {
		for (unsigned i = 0; i < call.reply_fd_count; i++)
			fd_close(&fds[i]);
		return -ENOMEM;
	}
	memcpy(kept->raw_fds, fds, call.reply_fd_count * sizeof(fds[0]));
	kept->raw_fd_count = call.reply_fd_count;
	if (call.reply_size < sizeof(head))
		return user_client_broken(&user->client,
					  "the server's region IO fds are too short");
	memcpy(&head, reply, sizeof(head));
	if (head.index != index || head.flags)
		return user_client_broken(&user->client,
					  "the server's region IO fds are of something else");
	subs = call.reply_size - sizeof(head);
	if (!head.count || head.argsz > sizeof(reply)) {
		if (head.count)
			log_warn("%s: region %u: %u eventfds for writes are too many: none is used",
				 user->device.name, index, head.count);
		return 0;
	}
	/* "40 bytes for both IO FD types, but this is not to be relied on" */
	stride = subs / head.count;
	if (stride < sizeof(struct user_io_fd) || stride * head.count != subs)
		return user_client_broken(
			&user->client,
			"the server's region IO fds have another size than they say");
	return take_io_fds(user, kept, reply + sizeof(head), head.count, stride);
}

/* ---- interrupts ---------------------------------------------------------------------------- */

static int query_irq(struct user_device *user, uint32_t index)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index }, reply;
	struct user_call call = {
		.command = USER_DEVICE_GET_IRQ_INFO,
		.payload = { { &info, sizeof(info) } },
		.reply = &reply,
		.reply_room = sizeof(reply),
	};
	int err = user_client_call(&user->client, &call);

	if (err)
		return err == -EINVAL && !user_client_dead(&user->client) ? 0 : err;
	if (call.reply_size != sizeof(reply) || reply.index != index)
		return user_client_broken(&user->client,
					  "the server's interrupt info is of something else");
	user->irqs[index] = (struct vfio_irq){
		.count = MIN(reply.count, (uint32_t)VFIO_IRQ_SET_MAX),
		.flags = reply.flags,
	};
	return 0;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static int query_info(struct user_device *user, struct error *e)
{
	struct user_device_info info = { .argsz = sizeof(info) }, reply;
	struct vfio_device *device = &user->device;
	struct user_call call = {
		.command = USER_DEVICE_GET_INFO,
		.payload = { { &info, sizeof(info) } },
		.reply = &reply,
		.reply_room = sizeof(reply),
	};
	int err = user_client_call(&user->client, &call);

	if (!err && call.reply_size != sizeof(reply))
		err = user_client_broken(&user->client, "the server's device info is too short");
	if (err)
		return error_set(e, -err, "bad-device", NULL, "%s: device info: %s", device->name,
				 strerror(-err));
	if (!(reply.flags & VFIO_DEVICE_FLAGS_PCI) ||
	    reply.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX)
		return error_set(
			e, ENODEV, "bad-device", NULL,
			"%s: the server's device is no PCI function (flags 0x%x, %u regions)",
			device->name, reply.flags, reply.num_regions);
	device->flags = reply.flags & (VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
	device->region_count = MIN(reply.num_regions, (uint32_t)USER_REGIONS_MAX);
	device->irq_count = MIN(reply.num_irqs, (uint32_t)USER_IRQS_MAX);
	return 0;
}

int user_device_query(struct user_device *user, struct error *e)
{
	struct vfio_device *device = &user->device;
	int err = query_info(user, e);

	if (err)
		return err;
	for (uint32_t i = 0; i < device->region_count; i++) {
		err = query_region(user, i);
		if (!err && i < VFIO_PCI_ROM_REGION_INDEX && user->regions[i].region.size)
			err = query_io_fds(user, i);
		if (err)
			return error_set(e, -err, "bad-device", NULL, "%s: region %u: %s",
					 device->name, i, strerror(-err));
	}
	for (uint32_t i = 0; i < device->irq_count; i++) {
		err = query_irq(user, i);
		if (err)
			return error_set(e, -err, "bad-device", NULL, "%s: interrupt index %u: %s",
					 device->name, i, strerror(-err));
	}
	return 0;
}
