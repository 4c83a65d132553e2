// SPDX-License-Identifier: Apache-2.0
/*
 * A vfio-user server's device behind the operations table: each operation is a message or a few.
 *
 * Limits that the server named when the connection was made are kept here: how much a message may
 * carry, and how many descriptors.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vfio/device.h"
#include "vfio/user_client.h"

static struct user_device *to_user(struct vfio_device *device)
{
	return container_of(device, struct user_device, device);
}

/* ---- regions ------------------------------------------------------------------------------- */

static int user_get_region(struct vfio_device *device, uint32_t index, struct vfio_region *region)
{
	if (index >= device->region_count)
		return -EINVAL;
	*region = to_user(device)->regions[index].region;
	return 0;
}

static bool access_ok(struct vfio_device *device, uint32_t index, uint64_t offset, size_t count,
		      uint32_t flag)
{
	const struct vfio_region *region;

	if (index >= device->region_count)
		return false;
	region = &to_user(device)->regions[index].region;
	return region->flags & flag && vfio_region_range_ok(region->size, offset, count);
}

/* The reply of an access begins with the request's own words. */
static int access_check(struct user_client *client, const struct user_region_access *asked,
			const struct user_region_access *reply, size_t size, size_t expected)
{
	if (size != expected || memcmp(asked, reply, sizeof(*asked)) != 0)
		return user_client_broken(client, "the server answered an access with another one");
	return 0;
}

struct read_reply {
	struct user_region_access access;
	uint8_t data[];
};

static int read_part(struct user_client *client, struct user_region_access *access,
		     struct read_reply *reply, void *to)
{
	struct user_call call = {
		.command = USER_REGION_READ,
		.payload = { { access, sizeof(*access) } },
		.reply = reply,
		.reply_room = sizeof(*reply) + access->count,
	};
	int err = user_client_call(client, &call);

	if (!err)
		err = access_check(client, access, &reply->access, call.reply_size,
				   call.reply_room);
	if (!err)
		memcpy(to, reply->data, access->count);
	return err;
}

/* Most accesses are of a register: these need no allocation. */
#define READ_INLINE 64

static ssize_t user_region_read(struct vfio_device *device, uint32_t index, uint64_t offset,
				void *buf, size_t count)
{
	struct user_client *client = &to_user(device)->client;
	union {
		struct read_reply reply;
		uint8_t bytes[sizeof(struct read_reply) + READ_INLINE];
	} small;
	struct read_reply *reply = &small.reply;
	size_t done = 0, most = client->transfer_max;
	int err = 0;

	if (!access_ok(device, index, offset, count, VFIO_REGION_INFO_FLAG_READ))
		return -EINVAL;
	if (MIN(count, most) > READ_INLINE) {
		reply = malloc(sizeof(*reply) + MIN(count, most));
		if (!reply)
			return -ENOMEM;
	}
	while (done < count && !err) {
		struct user_region_access access = {
			.offset = offset + done,
			.region = index,
			.count = (uint32_t)MIN(count - done, most),
		};

		err = read_part(client, &access, reply, (uint8_t *)buf + done);
		done += access.count;
	}
	if (reply != &small.reply)
		free(reply);
	return err ? err : (ssize_t)count;
}

static ssize_t user_region_write(struct vfio_device *device, uint32_t index, uint64_t offset,
				 const void *buf, size_t count)
{
	struct user_client *client = &to_user(device)->client;
	size_t done = 0;

	if (!access_ok(device, index, offset, count, VFIO_REGION_INFO_FLAG_WRITE))
		return -EINVAL;
	while (done < count) {
		struct user_region_access reply, access = {
			.offset = offset + done,
			.region = index,
			.count = (uint32_t)MIN(count - done, client->transfer_max),
		};
		struct user_call call = {
			.command = USER_REGION_WRITE,
			.payload = { { &access, sizeof(access) },
				     { (uint8_t *)(uintptr_t)buf + done, access.count } },
			.reply = &reply,
			.reply_room = sizeof(reply),
		};
		int err = user_client_call(client, &call);

		if (!err)
			err = access_check(client, &access, &reply, call.reply_size, sizeof(reply));
		if (err)
			return err;
		done += access.count;
	}
	return (ssize_t)count;
}

static int user_region_mmap(struct vfio_device *device, uint32_t index, uint64_t offset,
			    uint64_t size, void *at)
{
	const struct user_region *kept;
	int prot = 0;

	if (index >= device->region_count)
		return -EINVAL;
	kept = &to_user(device)->regions[index];
	if (kept->fd < 0 || !vfio_region_mappable(&kept->region, offset, size))
		return -EINVAL;
	if (kept->region.flags & VFIO_REGION_INFO_FLAG_READ)
		prot |= PROT_READ;
	if (kept->region.flags & VFIO_REGION_INFO_FLAG_WRITE)
		prot |= PROT_WRITE;
	if (mmap(at, size, prot, MAP_SHARED | MAP_FIXED, kept->fd,
		 (off_t)(kept->fd_offset + offset)) == MAP_FAILED)
		return -errno;
	return 0;
}

static int user_get_io_fds(struct vfio_device *device, uint32_t index, struct vfio_io_fd *fds)
{
	const struct user_region *kept;

	if (index >= device->region_count)
		return -EINVAL;
	kept = &to_user(device)->regions[index];
	if (kept->io_fd_count)
		memcpy(fds, kept->io_fds, kept->io_fd_count * sizeof(*fds));
	return (int)kept->io_fd_count;
}

static int user_region_file(struct vfio_device *device, uint32_t index, uint64_t *offset)
{
	const struct user_region *kept;

	if (index >= device->region_count)
		return -EINVAL;
	kept = &to_user(device)->regions[index];
	if (kept->fd < 0)
		return -ENODEV;
	*offset = kept->fd_offset;
	return kept->fd;
}

static void user_set_mapper(struct vfio_device *device, const struct vfio_mapper *mapper,
			    void *opaque)
{
	struct user_map *map = &to_user(device)->map;

	pthread_mutex_lock(&map->lock);
	map->mapper = mapper;
	map->opaque = opaque;
	pthread_mutex_unlock(&map->lock);
}

/* ---- interrupts ---------------------------------------------------------------------------- */

static int user_get_irq(struct vfio_device *device, uint32_t index, struct vfio_irq *irq)
{
	if (index >= device->irq_count)
		return -EINVAL;
	*irq = to_user(device)->irqs[index];
	return 0;
}

/* One VFIO_USER_DEVICE_SET_IRQS: @set as it stands, with flags or eventfds besides. */
static int set_irqs_send(struct user_device *user, struct vfio_irq_set *set, const void *bools,
			 const int32_t *fds, unsigned fd_count)
{
	size_t extra = bools ? set->count : 0;
	struct user_call call = {
		.command = USER_DEVICE_SET_IRQS,
		.payload = { { set, sizeof(*set) }, { (void *)(uintptr_t)bools, extra } },
		.fds = fds,
		.fd_count = fd_count,
	};

	set->argsz = (uint32_t)(sizeof(*set) + extra);
	return user_client_call(&user->client, &call);
}

/*
 * Eventfds in batches that the server takes. There is no -1 on the wire: "If no file descriptors are
 * provided, this de-assigns", so runs with and without descriptors go by themselves. Where one fails,
 * those before it are taken back.
 */
static int set_irqs_eventfds(struct user_device *user, const struct vfio_irq_set *whole,
			     const int32_t *fds)
{
	struct vfio_irq_set part = *whole;
	uint32_t done = 0;
	int err = 0;

	/* All at once or not at all: who asked can do with fewer. */
	if (user->irqs[whole->index].flags & VFIO_IRQ_INFO_NORESIZE &&
	    whole->count > user->client.fds_max)
		return -ENOSPC;
	while (done < whole->count) {
		bool present = fds[done] >= 0;
		uint32_t end = done + 1;

		while (end < whole->count && (fds[end] >= 0) == present &&
		       !(present && end - done == user->client.fds_max))
			end++;
		part.start = whole->start + done;
		part.count = end - done;
		err = set_irqs_send(user, &part, NULL, fds + done, present ? part.count : 0);
		if (err)
			break;
		done = end;
	}
	if (err && done) {
		part.start = whole->start;
		part.count = done;
		set_irqs_send(user, &part, NULL, NULL, 0);
	}
	return err;
}

static int user_set_irqs(struct vfio_device *device, uint32_t flags, uint32_t index, uint32_t start,
			 uint32_t count, const void *data)
{
	struct user_device *user = to_user(device);
	union vfio_irq_set_buffer buf;
	ssize_t size;

	if (index >= device->irq_count)
		return -EINVAL;
	size = vfio_irq_set_build(&buf, user->irqs[index].count, flags, index, start, count, data);
	if (size < 0)
		return (int)size;
	if (flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return set_irqs_eventfds(user, &buf.set, data);
	return set_irqs_send(user, &buf.set, flags & VFIO_IRQ_SET_DATA_BOOL ? data : NULL, NULL, 0);
}

/* ---- guest memory, reset ------------------------------------------------------------------- */

/* Told to ourselves before the server: it may use the range before its reply is here. */
static int user_dma_map(struct vfio_device *device, uint64_t iova, uint64_t size, void *hva, int fd,
			uint64_t fd_offset)
{
	struct user_client *client = &to_user(device)->client;
	struct user_dma_map map = {
		.argsz = sizeof(map),
		.flags = USER_DMA_MAP_READ | USER_DMA_MAP_WRITE,
		.offset = fd >= 0 ? fd_offset : 0,
		.address = iova,
		.size = size,
	};
	struct user_call call = {
		.command = USER_DMA_MAP,
		.payload = { { &map, sizeof(map) } },
		.fds = &fd,
		.fd_count = fd >= 0,
	};
	int err = user_dma_add(&client->dma, iova, size, hva);

	if (err)
		return err;
	err = user_client_call(client, &call);
	if (err)
		user_dma_remove(&client->dma, iova, size);
	return err;
}

/* The server has let go when it replies; we let go whatever it replies. */
static int user_dma_unmap(struct vfio_device *device, uint64_t iova, uint64_t size)
{
	struct user_client *client = &to_user(device)->client;
	struct user_dma_unmap unmap = { .argsz = sizeof(unmap), .address = iova, .size = size };
	struct user_dma_unmap reply;
	struct user_call call = {
		.command = USER_DMA_UNMAP,
		.payload = { { &unmap, sizeof(unmap) } },
		.reply = &reply,
		.reply_room = sizeof(reply),
	};
	int err = user_client_call(client, &call), gone;

	if (!err &&
	    (call.reply_size != sizeof(reply) || reply.address != iova || reply.size != size))
		err = user_client_broken(client, "the server unmapped something else");
	gone = user_dma_remove(&client->dma, iova, size);
	return err ? err : gone;
}

static int user_reset(struct vfio_device *device)
{
	struct user_call call = { .command = USER_DEVICE_RESET };

	if (!(device->flags & VFIO_DEVICE_FLAGS_RESET))
		return -ENOTTY;
	return user_client_call(&to_user(device)->client, &call);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void regions_release(struct user_device *user)
{
	for (unsigned i = 0; i < USER_REGIONS_MAX; i++) {
		struct user_region *kept = &user->regions[i];

		fd_close(&kept->fd);
		for (unsigned j = 0; j < kept->raw_fd_count; j++)
			fd_close(&kept->raw_fds[j]);
		free(kept->raw_fds);
		free(kept->io_fds);
	}
}

static int user_start(struct vfio_device *device, struct error *e)
{
	return user_client_start(&to_user(device)->client, e);
}

static void user_close(struct vfio_device *device)
{
	struct user_device *user = to_user(device);

	user_client_close(&user->client);
	regions_release(user);
	pthread_mutex_destroy(&user->map.lock);
	free(user);
}

static const struct vfio_device_ops user_ops = {
	.get_region = user_get_region,
	.region_read = user_region_read,
	.region_write = user_region_write,
	.region_mmap = user_region_mmap,
	.get_irq = user_get_irq,
	.set_irqs = user_set_irqs,
	.reset = user_reset,
	.dma_map = user_dma_map,
	.dma_unmap = user_dma_unmap,
	.get_io_fds = user_get_io_fds,
	.region_file = user_region_file,
	.set_mapper = user_set_mapper,
	.start = user_start,
	.close = user_close,
};

int vfio_user_attach(int fd, const char *name, unsigned timeout_ms, struct vfio_device **out,
		     struct error *e)
{
	struct user_device *user = calloc(1, sizeof(*user));
	int err;

	if (!user) {
		fd_close(&fd);
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", name);
	}
	user->device.ops = &user_ops;
	snprintf(user->device.name, sizeof(user->device.name), "%s", name);
	snprintf(user->client.name, sizeof(user->client.name), "%s", name);
	for (unsigned i = 0; i < USER_REGIONS_MAX; i++)
		user->regions[i].fd = -1;
	pthread_mutex_init(&user->map.lock, NULL);
	err = user_client_open(&user->client, fd, timeout_ms, e);
	if (err) {
		pthread_mutex_destroy(&user->map.lock);
		free(user);
		return err;
	}
	err = user_device_query(user, e);
	if (err) {
		user_close(&user->device);
		return err;
	}
	*out = &user->device;
	return 0;
}

int vfio_user_open_fd(int fd, const char *name, struct vfio_device **out, struct error *e)
{
	return vfio_user_attach(fd, name, USER_TIMEOUT_MS, out, e);
}

int vfio_user_open(const char *path, struct vfio_device **out, struct error *e)
{
	const char *slash = strrchr(path, '/');
	char name[64];
	int fd = user_socket_connect(path, USER_TIMEOUT_MS, e);

	if (fd < 0)
		return fd;
	snprintf(name, sizeof(name), "vfio-user:%.50s", slash ? slash + 1 : path);
	return vfio_user_open_fd(fd, name, out, e);
}
