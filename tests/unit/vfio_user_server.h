/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfio_user_server: offers any struct vfio_device to one vfio-user client, for tests.
 *
 * A well-behaved server as the specification has it: every request answered in order, guest memory
 * mapped by the descriptor that came with it, descriptors closed when the client is gone. A test makes
 * it lie with a hook, which sees each request first and may answer it itself. Device calls happen on the
 * server's thread only.
 */
#ifndef TESTS_VFIO_USER_SERVER_H
#define TESTS_VFIO_USER_SERVER_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vfio/user_client.h"

#define SERVER_TIMEOUT_MS 5000
#define SERVER_COMMANDS	  20

struct server {
	int fd;
	struct vfio_device *device; /* borrowed */
	/* What it says of itself. */
	unsigned fds_max;
	size_t transfer_max;
	/* Files of regions that can be mapped (borrowed, -1: none), and where the regions begin in them. */
	int region_fds[VFIO_PCI_NUM_REGIONS];
	uint64_t region_offsets[VFIO_PCI_NUM_REGIONS];
	/* Returns true when it has dealt with @message. */
	bool (*hook)(struct server *server, struct user_message *message);
	void *opaque; /* the hook's */

	/* What happened. */
	unsigned commands[SERVER_COMMANDS]; /* requests by number */
	unsigned most_fds;		    /* in one message */
	struct user_dma dma;		    /* what is mapped here */

	uint8_t *buffer;
	pthread_t thread;
};

static inline uint64_t server_deadline(void)
{
	return monotonic_ns() + SERVER_TIMEOUT_MS * UINT64_C(1000000);
}

/* A message with up to two parts of payload. */
static inline int server_send(struct server *server, const struct user_header *header,
			      const void *a, size_t a_size, const void *b, size_t b_size,
			      const int *fds, unsigned fd_count)
{
	struct user_header head = *header;
	struct iovec iov[3] = { { &head, sizeof(head) },
				{ (void *)(uintptr_t)a, a_size },
				{ (void *)(uintptr_t)b, b_size } };

	head.size = (uint32_t)(sizeof(head) + a_size + b_size);
	return user_socket_send(server->fd, iov, 3, fds, fd_count, server_deadline());
}

static inline int server_reply(struct server *server, const struct user_message *message,
			       const void *a, size_t a_size, const void *b, size_t b_size,
			       const int *fds, unsigned fd_count)
{
	const struct user_header header = { .id = message->header.id,
					    .command = message->header.command,
					    .flags = USER_TYPE_REPLY };

	return server_send(server, &header, a, a_size, b, b_size, fds, fd_count);
}

static inline int server_refuse(struct server *server, const struct user_message *message, int err)
{
	const struct user_header header = { .id = message->header.id,
					    .command = message->header.command,
					    .flags = USER_TYPE_REPLY | USER_FLAG_ERROR,
					    .error = (uint32_t)err };

	return server_send(server, &header, NULL, 0, NULL, 0, NULL, 0);
}

/* ---- one command each; they return 0 or the -errno to answer ------------------------------- */

static inline int server_version(struct server *server, const struct user_message *message)
{
	struct user_version version;
	char text[128];
	int length;

	if (message->payload_size < sizeof(version) || message->fd_count)
		return -EINVAL;
	memcpy(&version, message->payload, sizeof(version));
	if (version.major)
		return -EINVAL;
	length = snprintf(text, sizeof(text),
			  "{\"capabilities\":{\"max_msg_fds\":%u,\"max_data_xfer_size\":%zu}}",
			  server->fds_max, server->transfer_max);
	server_reply(server, message, &version, sizeof(version), text, (size_t)length + 1, NULL, 0);
	return 0;
}

static inline int server_info(struct server *server, const struct user_message *message)
{
	const struct user_device_info info = {
		.argsz = sizeof(info),
		.flags = server->device->flags,
		.num_regions = server->device->region_count,
		.num_irqs = server->device->irq_count,
	};

	if (message->payload_size != sizeof(info))
		return -EINVAL;
	server_reply(server, message, &info, sizeof(info), NULL, 0, NULL, 0);
	return 0;
}

static inline int server_region_info(struct server *server, const struct user_message *message)
{
	struct {
		struct vfio_region_info info;
		struct { /* struct vfio_region_info_cap_sparse_mmap */
			struct vfio_info_cap_header header;
			uint32_t nr_areas, reserved;
		} sparse;
		struct vfio_region_sparse_mmap_area areas[VFIO_SPARSE_AREAS_MAX];
	} reply = { 0 };
	struct vfio_region region;
	bool mappable;
	int err;

	if (message->payload_size != sizeof(reply.info))
		return -EINVAL;
	memcpy(&reply.info, message->payload, sizeof(reply.info));
	if (reply.info.index >= server->device->region_count)
		return -EINVAL;
	err = server->device->ops->get_region(server->device, reply.info.index, &region);
	if (err)
		return err;
	mappable = server->region_fds[reply.info.index] >= 0;
	reply.info.flags = region.flags & ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
	reply.info.size = region.size;
	reply.info.argsz = sizeof(reply.info);
	if (mappable) {
		reply.info.offset = server->region_offsets[reply.info.index];
		reply.info.flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
		reply.info.cap_offset = sizeof(reply.info);
		reply.sparse.header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
		reply.sparse.header.version = 1;
		reply.sparse.nr_areas = region.area_count;
		for (unsigned i = 0; i < region.area_count; i++)
			reply.areas[i] =
				(struct vfio_region_sparse_mmap_area){ region.areas[i].offset,
								       region.areas[i].size };
		reply.info.argsz = (uint32_t)(sizeof(reply.info) + sizeof(reply.sparse) +
					      region.area_count * sizeof(reply.areas[0]));
	}
	server_reply(server, message, &reply, reply.info.argsz, NULL, 0,
		     &server->region_fds[reply.info.index], mappable);
	return 0;
}

static inline int server_io_fds(struct server *server, const struct user_message *message)
{
	struct user_region_io_fds head;
	struct vfio_io_fd fds[VFIO_IO_FDS_MAX];
	struct user_io_fd subs[VFIO_IO_FDS_MAX] = { 0 };
	int out[VFIO_IO_FDS_MAX] = { 0 }, count;

	if (message->payload_size != sizeof(head))
		return -EINVAL;
	memcpy(&head, message->payload, sizeof(head));
	if (head.index >= server->device->region_count || !server->device->ops->get_io_fds)
		return -EINVAL;
	count = server->device->ops->get_io_fds(server->device, head.index, fds);
	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		out[i] = fds[i].fd;
		subs[i] = (struct user_io_fd){
			.offset = fds[i].offset,
			.size = fds[i].size,
			.fd_index = (uint32_t)i,
			.flags = fds[i].datamatch ? USER_IO_FD_FLAG_DATAMATCH : 0,
			.datamatch = fds[i].value,
		};
	}
	head.count = (uint32_t)count;
	head.argsz = (uint32_t)(sizeof(head) + (size_t)count * sizeof(subs[0]));
	server_reply(server, message, &head, sizeof(head), subs, (size_t)count * sizeof(subs[0]),
		     out, (unsigned)count);
	return 0;
}

static inline int server_irq_info(struct server *server, const struct user_message *message)
{
	struct vfio_irq_info info;
	struct vfio_irq irq;
	int err;

	if (message->payload_size != sizeof(info))
		return -EINVAL;
	memcpy(&info, message->payload, sizeof(info));
	if (info.index >= server->device->irq_count)
		return -EINVAL;
	err = server->device->ops->get_irq(server->device, info.index, &irq);
	if (err)
		return err;
	info.flags = irq.flags;
	info.count = irq.count;
	server_reply(server, message, &info, sizeof(info), NULL, 0, NULL, 0);
	return 0;
}

static inline int server_set_irqs(struct server *server, const struct user_message *message)
{
	struct vfio_irq_set set;
	int32_t *fds = NULL;
	const void *data = NULL;
	int err;

	if (message->payload_size < sizeof(set))
		return -EINVAL;
	memcpy(&set, message->payload, sizeof(set));
	if (set.argsz != message->payload_size || message->fd_count > server->fds_max ||
	    set.count > VFIO_PCI_VECTORS_MAX)
		return -EINVAL;
	if (set.flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		if (message->fd_count && message->fd_count != set.count)
			return -EINVAL;
		fds = malloc((set.count + 1) * sizeof(*fds));
		if (!fds)
			return -ENOMEM;
		for (uint32_t i = 0; i < set.count; i++)
			fds[i] = message->fd_count ? message->fds[i] : -1;
		data = fds;
	} else if (message->fd_count) {
		return -EINVAL;
	} else if (set.flags & VFIO_IRQ_SET_DATA_BOOL) {
		if (message->payload_size != sizeof(set) + set.count)
			return -EINVAL;
		data = message->payload + sizeof(set);
	}
	err = server->device->ops->set_irqs(server->device, set.flags, set.index, set.start,
					    set.count, data);
	free(fds);
	if (!err)
		server_reply(server, message, NULL, 0, NULL, 0, NULL, 0);
	return err;
}

static inline int server_access(struct server *server, struct user_message *message)
{
	struct vfio_device *device = server->device;
	bool write = message->header.command == USER_REGION_WRITE;
	struct user_region_access access;
	uint8_t *data = message->payload + sizeof(access);
	ssize_t ret;

	if (message->payload_size < sizeof(access))
		return -EINVAL;
	memcpy(&access, message->payload, sizeof(access));
	if (access.count > server->transfer_max ||
	    message->payload_size != sizeof(access) + (write ? access.count : 0))
		return -EINVAL;
	if (write)
		ret = device->ops->region_write(device, access.region, access.offset, data,
						access.count);
	else
		ret = device->ops->region_read(device, access.region, access.offset, data,
					       access.count);
	if (ret < 0)
		return (int)ret;
	access.count = (uint32_t)ret;
	server_reply(server, message, &access, sizeof(access), data, write ? 0 : access.count, NULL,
		     0);
	return 0;
}

static inline int server_dma_map(struct server *server, const struct user_message *message)
{
	struct vfio_device *device = server->device;
	struct user_dma_map map;
	void *hva;
	int err;

	if (message->payload_size != sizeof(map) || message->fd_count != 1)
		return -EINVAL;
	memcpy(&map, message->payload, sizeof(map));
	if (map.argsz != sizeof(map) || map.flags != (USER_DMA_MAP_READ | USER_DMA_MAP_WRITE))
		return -EINVAL;
	hva = mmap(NULL, map.size, PROT_READ | PROT_WRITE, MAP_SHARED, message->fds[0],
		   (off_t)map.offset);
	if (hva == MAP_FAILED)
		return -errno;
	err = user_dma_add(&server->dma, map.address, map.size, hva);
	if (!err && device->ops->dma_map)
		err = device->ops->dma_map(device, map.address, map.size, hva, message->fds[0],
					   map.offset);
	if (err) {
		user_dma_remove(&server->dma, map.address, map.size);
		munmap(hva, map.size);
		return err;
	}
	server_reply(server, message, NULL, 0, NULL, 0, NULL, 0);
	return 0;
}

static inline int server_forget(struct server *server, const struct user_dma_range *found)
{
	const struct user_dma_range range = *found;
	int err = 0;

	if (server->device->ops->dma_unmap)
		err = server->device->ops->dma_unmap(server->device, range.iova, range.size);
	user_dma_remove(&server->dma, range.iova, range.size);
	munmap(range.hva, range.size);
	return err;
}

static inline int server_dma_unmap(struct server *server, const struct user_message *message)
{
	struct user_dma_unmap unmap;

	if (message->payload_size != sizeof(unmap))
		return -EINVAL;
	memcpy(&unmap, message->payload, sizeof(unmap));
	for (unsigned i = 0; i < server->dma.count; i++) {
		const struct user_dma_range *range = &server->dma.ranges[i];
		int err;

		if (range->iova != unmap.address || range->size != unmap.size)
			continue;
		err = server_forget(server, range);
		if (!err)
			server_reply(server, message, &unmap, sizeof(unmap), NULL, 0, NULL, 0);
		return err;
	}
	return -ENOENT;
}

static inline int server_reset(struct server *server, const struct user_message *message)
{
	int err = server->device->ops->reset ? server->device->ops->reset(server->device) : -ENOTTY;

	if (!err)
		server_reply(server, message, NULL, 0, NULL, 0, NULL, 0);
	return err;
}

static inline int server_dispatch(struct server *server, struct user_message *message)
{
	switch (message->header.command) {
	case USER_VERSION:
		return server_version(server, message);
	case USER_DMA_MAP:
		return server_dma_map(server, message);
	case USER_DMA_UNMAP:
		return server_dma_unmap(server, message);
	case USER_DEVICE_GET_INFO:
		return server_info(server, message);
	case USER_DEVICE_GET_REGION_INFO:
		return server_region_info(server, message);
	case USER_DEVICE_GET_REGION_IO_FDS:
		return server_io_fds(server, message);
	case USER_DEVICE_GET_IRQ_INFO:
		return server_irq_info(server, message);
	case USER_DEVICE_SET_IRQS:
		return server_set_irqs(server, message);
	case USER_REGION_READ:
	case USER_REGION_WRITE:
		return server_access(server, message);
	case USER_DEVICE_RESET:
		return server_reset(server, message);
	default:
		return -EINVAL;
	}
}

/* ---- life ---------------------------------------------------------------------------------- */

static inline void server_init(struct server *server, struct vfio_device *device, int fd)
{
	memset(server, 0, sizeof(*server));
	server->fd = fd;
	server->device = device;
	server->fds_max = 8; /* libvfio-user's */
	server->transfer_max = USER_TRANSFER_MAX;
	for (unsigned i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
		server->region_fds[i] = -1;
	pthread_mutex_init(&server->dma.lock, NULL);
}

/* Serve until the client is gone; then everything of it is let go, the socket too. */
static inline void server_serve(struct server *server)
{
	struct user_message message = { .payload = malloc(USER_PAYLOAD_MAX) };

	server->buffer = message.payload;
	vfio_device_start(server->device, NULL);
	while (message.payload && !user_socket_receive(server->fd, &message, SERVER_TIMEOUT_MS)) {
		int err = 0;

		if (message.header.command < SERVER_COMMANDS)
			server->commands[message.header.command]++;
		server->most_fds = MAX(server->most_fds, message.fd_count);
		if (!server->hook || !server->hook(server, &message))
			err = server_dispatch(server, &message);
		user_message_drop(&message);
		if (err)
			server_refuse(server, &message, -err);
	}
	while (server->dma.count)
		server_forget(server, &server->dma.ranges[0]);
	if (server->device && server->device->ops->set_irqs &&
	    server->commands[USER_DEVICE_SET_IRQS])
		server->device->ops->set_irqs(server->device,
					      VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
					      VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL);
	free(message.payload);
	fd_close(&server->fd);
	pthread_mutex_destroy(&server->dma.lock);
}

static inline void *server_main(void *arg)
{
	server_serve(arg);
	return NULL;
}

/* After server_init(), with whatever else was set: on a thread of its own. */
static inline int server_start(struct server *server)
{
	return pthread_create(&server->thread, NULL, server_main, server);
}

/* Once the client has closed its end. */
static inline void server_join(struct server *server)
{
	pthread_join(server->thread, NULL);
}

#endif
