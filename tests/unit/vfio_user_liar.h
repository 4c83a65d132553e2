/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfio_user_liar: what a vfio-user server should never say, one lie a function, for the server's hook.
 *
 * Each is told in the place of one answer. What a lie must lead to is in the tables of
 * test_vfio_user.c.
 */
#ifndef TESTS_VFIO_USER_LIAR_H
#define TESTS_VFIO_USER_LIAR_H

#include <poll.h>

#include "tests/unit/vfio_user_server.h"

struct lie {
	const char *name;
	uint16_t command; /* in the place of this one's answer */
	void (*tell)(struct server *server, const struct user_message *message);
	int err; /* what the call it hits returns */
};

static inline bool lie_hook(struct server *server, struct user_message *message)
{
	const struct lie *lie = server->opaque;

	if (message->header.command != lie->command)
		return false;
	lie->tell(server, message);
	return true;
}

/* Bytes as they are, with @fds. */
static inline void lie_send(struct server *server, const void *bytes, size_t size, const int *fds,
			    unsigned fd_count)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, size };

	user_socket_send(server->fd, &iov, 1, fds, fd_count, server_deadline());
}

/* A header that says @header's size, whatever follows. */
static inline struct user_header lie_header(const struct user_message *message, uint32_t size)
{
	return (struct user_header){ .id = message->header.id,
				     .command = message->header.command,
				     .size = size,
				     .flags = USER_TYPE_REPLY };
}

/* Swallow what comes until the client hangs up. */
static inline void lie_wait(struct server *server)
{
	struct pollfd poller = { .fd = server->fd, .events = POLLIN };
	char bytes[4096];

	while (poll(&poller, 1, SERVER_WAIT_MS) > 0 &&
	       recv(server->fd, bytes, sizeof(bytes), 0) > 0)
		;
}

/* ---- headers ------------------------------------------------------------------------------- */

static inline void lie_id(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header));

	header.id ^= 0x5555;
	lie_send(server, &header, sizeof(header), NULL, 0);
}

static inline void lie_command(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header));

	header.command ^= 1;
	lie_send(server, &header, sizeof(header), NULL, 0);
}

static inline void lie_flags(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header));

	header.flags |= 0x40;
	lie_send(server, &header, sizeof(header), NULL, 0);
}

static inline void lie_type(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header));

	header.flags = 2;
	lie_send(server, &header, sizeof(header), NULL, 0);
}

static inline void lie_reply_no_reply(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header));

	header.flags |= USER_FLAG_NO_REPLY;
	lie_send(server, &header, sizeof(header), NULL, 0);
}

static inline void lie_command_error(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header));

	header.flags = USER_TYPE_COMMAND | USER_FLAG_ERROR;
	lie_send(server, &header, sizeof(header), NULL, 0);
}

static inline void lie_size_small(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header) - 1);

	lie_send(server, &header, sizeof(header), NULL, 0);
}

static inline void lie_size_huge(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, UINT32_MAX);

	lie_send(server, &header, sizeof(header), NULL, 0);
}

static inline void lie_error_payload(struct server *server, const struct user_message *message)
{
	struct {
		struct user_header header;
		uint64_t more;
	} bytes = { .header = lie_header(message, sizeof(bytes)) };

	bytes.header.flags |= USER_FLAG_ERROR;
	lie_send(server, &bytes, sizeof(bytes), NULL, 0);
}

/* Nothing but a header, where an answer has more. */
static inline void lie_empty(struct server *server, const struct user_message *message)
{
	server_reply(server, message, NULL, 0, NULL, 0, NULL, 0);
}

static inline void lie_long(struct server *server, const struct user_message *message)
{
	static const uint8_t zeroes[8192];

	server_reply(server, message, zeroes, sizeof(zeroes), NULL, 0, NULL, 0);
}

static inline void lie_twice(struct server *server, const struct user_message *message)
{
	server_reply(server, message, NULL, 0, NULL, 0, NULL, 0);
	server_reply(server, message, NULL, 0, NULL, 0, NULL, 0);
}

/* ---- descriptors --------------------------------------------------------------------------- */

static inline void lie_fds(struct server *server, const struct user_message *message,
			   unsigned count, const void *data, size_t payload)
{
	struct user_header header = lie_header(message, (uint32_t)(sizeof(header) + payload));
	struct iovec iov[2] = { { &header, sizeof(header) }, { (void *)(uintptr_t)data, payload } };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(128 * sizeof(int))];
	} control = { 0 };
	struct msghdr head = { .msg_iov = iov,
			       .msg_iovlen = 2,
			       .msg_control = control.bytes,
			       .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&head);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	for (unsigned i = 0; i < count; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &server->fd, sizeof(int));
	sendmsg(server->fd, &head, MSG_NOSIGNAL);
}

static inline void lie_one_fd(struct server *server, const struct user_message *message)
{
	lie_fds(server, message, 1, NULL, 0);
}

static inline void lie_many_fds(struct server *server, const struct user_message *message)
{
	lie_fds(server, message, 100, NULL, 0);
}

/* More than fit, in two parts of one message. */
static inline void lie_fds_in_parts(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header) + 2);
	int fds[USER_FDS_MAX];

	for (unsigned i = 0; i < USER_FDS_MAX; i++)
		fds[i] = server->fd;
	lie_send(server, &header, sizeof(header), fds, 40);
	lie_send(server, "a", 1, fds, 40);
	lie_send(server, "b", 1, NULL, 0);
}

static inline void lie_error_fd(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header));

	header.flags |= USER_FLAG_ERROR;
	lie_send(server, &header, sizeof(header), &server->fd, 1);
}

/* ---- death and silence --------------------------------------------------------------------- */

static inline void lie_die(struct server *server, const struct user_message *message)
{
	shutdown(server->fd, SHUT_RDWR);
}

static inline void lie_die_midway(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, 100);

	lie_send(server, &header, sizeof(header) / 2, &server->fd, 1);
	shutdown(server->fd, SHUT_RDWR);
}

static inline void lie_die_in_payload(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, sizeof(header) + 4);

	lie_send(server, &header, sizeof(header), &server->fd, 1);
	shutdown(server->fd, SHUT_RDWR);
}

static inline void lie_hang(struct server *server, const struct user_message *message)
{
	lie_wait(server);
}

static inline void lie_hang_midway(struct server *server, const struct user_message *message)
{
	struct user_header header = lie_header(message, 100);

	lie_send(server, &header, sizeof(header), &server->fd, 1);
	lie_send(server, "abc", 3, NULL, 0);
	lie_wait(server);
}

/* Answers, and then begins a message that it does not end. */
static inline void lie_hang_later(struct server *server, const struct user_message *message)
{
	server_reply(server, message, NULL, 0, NULL, 0, NULL, 0);
	lie_send(server, "abc", 3, &server->fd, 1);
	lie_wait(server);
}

/* Asks for guest memory for ever, and never answers. */
static inline void lie_busy(struct server *server, const struct user_message *message)
{
	struct pollfd poller = { .fd = server->fd, .events = POLLIN };
	const struct user_header header = { .id = 1, .command = 99 };
	char bytes[4096];

	while (!server_send(server, &header, NULL, 0, NULL, 0, NULL, 0) &&
	       poll(&poller, 1, 1) >= 0 &&
	       (!(poller.revents & POLLIN) || recv(server->fd, bytes, sizeof(bytes), 0) > 0))
		;
}

/* ---- requests of the server's own ---------------------------------------------------------- */

static inline void lie_dma(struct server *server, uint16_t command, uint64_t count, size_t data,
			   unsigned fds)
{
	static const uint8_t zeroes[64];
	const struct user_header header = { .id = 7, .command = command };
	const struct user_dma_access access = { .address = 0, .count = count };

	server_send(server, &header, &access, sizeof(access), zeroes, data, &server->fd, fds);
	lie_wait(server);
}

static inline void lie_dma_huge(struct server *server, const struct user_message *message)
{
	lie_dma(server, USER_DMA_READ, UINT64_MAX, 0, 0);
}

static inline void lie_dma_read_data(struct server *server, const struct user_message *message)
{
	lie_dma(server, USER_DMA_READ, 8, 8, 0);
}

static inline void lie_dma_write_short(struct server *server, const struct user_message *message)
{
	lie_dma(server, USER_DMA_WRITE, 32, 16, 0);
}

static inline void lie_dma_fd(struct server *server, const struct user_message *message)
{
	lie_dma(server, USER_DMA_READ, 8, 0, 1);
}

static inline void lie_dma_short(struct server *server, const struct user_message *message)
{
	const struct user_header header = { .id = 7, .command = USER_DMA_WRITE };

	server_send(server, &header, "1234", 4, NULL, 0, NULL, 0);
	lie_wait(server);
}

/* A request for a map of @size bytes of payload, with @fds descriptors. */
static inline void lie_map(struct server *server, uint16_t command, struct user_region_map map,
			   size_t size, unsigned count)
{
	const struct user_header header = { .id = 7, .command = command };
	const int fds[2] = { server->fd, server->fd };

	server_send(server, &header, &map, size, NULL, 0, fds, count);
	lie_wait(server);
}

#define LIE_MAP { .argsz = sizeof(struct user_region_map), .size = 4096 }

static inline void lie_map_short(struct server *server, const struct user_message *message)
{
	lie_map(server, USER_DIVVY_REGION_MAP, (struct user_region_map)LIE_MAP, 39, 1);
}

static inline void lie_map_no_fd(struct server *server, const struct user_message *message)
{
	lie_map(server, USER_DIVVY_REGION_MAP, (struct user_region_map)LIE_MAP, 40, 0);
}

static inline void lie_map_two_fds(struct server *server, const struct user_message *message)
{
	lie_map(server, USER_DIVVY_REGION_MAP, (struct user_region_map)LIE_MAP, 40, 2);
}

static inline void lie_unmap_fd(struct server *server, const struct user_message *message)
{
	lie_map(server, USER_DIVVY_REGION_UNMAP, (struct user_region_map)LIE_MAP, 40, 1);
}

static inline void lie_map_argsz(struct server *server, const struct user_message *message)
{
	struct user_region_map map = LIE_MAP;

	map.argsz++;
	lie_map(server, USER_DIVVY_REGION_MAP, map, 40, 1);
}

static inline void lie_map_flags(struct server *server, const struct user_message *message)
{
	struct user_region_map map = LIE_MAP;

	map.flags = 1;
	lie_map(server, USER_DIVVY_REGION_MAP, map, 40, 1);
}

static inline void lie_map_reserved(struct server *server, const struct user_message *message)
{
	struct user_region_map map = LIE_MAP;

	map.reserved = 1;
	lie_map(server, USER_DIVVY_REGION_UNMAP, map, 40, 0);
}

static inline void lie_unmap_offset(struct server *server, const struct user_message *message)
{
	struct user_region_map map = LIE_MAP;

	map.file_offset = 4096;
	lie_map(server, USER_DIVVY_REGION_UNMAP, map, 40, 0);
}

/* ---- answers that are of something else ---------------------------------------------------- */

static inline void lie_access_offset(struct server *server, const struct user_message *message)
{
	struct user_region_access access;

	memcpy(&access, message->payload, sizeof(access));
	access.offset++;
	server_reply(server, message, &access, sizeof(access), "1234", 4, NULL, 0);
}

static inline void lie_access_count(struct server *server, const struct user_message *message)
{
	struct user_region_access access;

	memcpy(&access, message->payload, sizeof(access));
	access.count = 3;
	server_reply(server, message, &access, sizeof(access), "123", 3, NULL, 0);
}

static inline void lie_write_count(struct server *server, const struct user_message *message)
{
	struct user_region_access access;

	memcpy(&access, message->payload, sizeof(access));
	access.count = UINT32_MAX;
	server_reply(server, message, &access, sizeof(access), NULL, 0, NULL, 0);
}

static inline void lie_unmap(struct server *server, const struct user_message *message)
{
	struct user_dma_unmap unmap;

	memcpy(&unmap, message->payload, sizeof(unmap));
	unmap.size++;
	server_reply(server, message, &unmap, sizeof(unmap), NULL, 0, NULL, 0);
}

static inline void lie_unmap_address(struct server *server, const struct user_message *message)
{
	struct user_dma_unmap unmap;

	memcpy(&unmap, message->payload, sizeof(unmap));
	unmap.address++;
	server_reply(server, message, &unmap, sizeof(unmap), NULL, 0, NULL, 0);
}

static inline void lie_irq_index(struct server *server, const struct user_message *message)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = 77 };

	server_reply(server, message, &info, sizeof(info), NULL, 0, NULL, 0);
}

static inline void lie_info(struct server *server, const struct user_message *message,
			    uint32_t flags, uint32_t regions)
{
	const struct user_device_info info = { sizeof(info), flags, regions, 5 };

	server_reply(server, message, &info, sizeof(info), NULL, 0, NULL, 0);
}

static inline void lie_not_pci(struct server *server, const struct user_message *message)
{
	lie_info(server, message, VFIO_DEVICE_FLAGS_CCW, 9);
}

static inline void lie_no_config(struct server *server, const struct user_message *message)
{
	lie_info(server, message, VFIO_DEVICE_FLAGS_PCI, 7);
}

/* A region info with @flags and, behind it, a sparse area that begins at @offset. */
static inline void lie_region(struct server *server, const struct user_message *message,
			      struct vfio_region_info info, uint32_t areas, uint64_t offset,
			      unsigned fds)
{
	struct {
		struct vfio_region_info info;
		struct {
			struct vfio_info_cap_header header;
			uint32_t nr_areas, reserved;
		} sparse;
		struct vfio_region_sparse_mmap_area area;
	} reply = {
		.info = info,
		.sparse = { { VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0 }, areas, 0 },
		.area = { offset, 0x1000 },
	};

	memcpy(&reply.info.index, message->payload + offsetof(struct vfio_region_info, index), 4);
	if (!reply.info.argsz)
		reply.info.argsz = sizeof(reply);
	server_reply(server, message, &reply, sizeof(reply), NULL, 0, &server->fd, fds);
}

#define LIE_SPARSE \
	(VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS)

static inline void lie_region_index(struct server *server, const struct user_message *message)
{
	const struct vfio_region_info info = { .argsz = sizeof(info), .index = 8 };

	server_reply(server, message, &info, sizeof(info), NULL, 0, NULL, 0);
}

static inline void lie_region_chain(struct server *server, const struct user_message *message)
{
	lie_region(
		server, message,
		(struct vfio_region_info){ .flags = LIE_SPARSE, .size = 0x2000, .cap_offset = 4 },
		1, 0, 1);
}

static inline void lie_region_areas(struct server *server, const struct user_message *message)
{
	lie_region(
		server, message,
		(struct vfio_region_info){ .flags = LIE_SPARSE, .size = 0x2000, .cap_offset = 32 },
		UINT32_MAX, 0, 1);
}

static inline void lie_region_outside(struct server *server, const struct user_message *message)
{
	lie_region(
		server, message,
		(struct vfio_region_info){ .flags = LIE_SPARSE, .size = 0x2000, .cap_offset = 32 },
		1, 0x1001, 1);
}

static inline void lie_region_endless(struct server *server, const struct user_message *message)
{
	lie_region(server, message,
		   (struct vfio_region_info){ .flags = VFIO_REGION_INFO_FLAG_READ,
					      .size = 0x2000,
					      .offset = INT64_MAX },
		   1, 0, 0);
}

static inline void lie_region_fd(struct server *server, const struct user_message *message)
{
	lie_region(server, message,
		   (struct vfio_region_info){ .flags = VFIO_REGION_INFO_FLAG_READ, .size = 0x2000 },
		   1, 0, 1);
}

static inline void lie_region_fds(struct server *server, const struct user_message *message)
{
	const struct vfio_region_info info = { 0 };

	lie_fds(server, message, 2, &info, sizeof(info));
}

static inline void lie_io_fd(struct server *server, const struct user_message *message,
			     struct user_io_fd sub, uint32_t count, unsigned fds)
{
	struct user_region_io_fds head = { .count = count };

	memcpy(&head.index, message->payload + offsetof(struct user_region_io_fds, index), 4);
	head.argsz = sizeof(head) + sizeof(sub);
	server_reply(server, message, &head, sizeof(head), &sub, sizeof(sub), &server->fd, fds);
}

/* More descriptors than there may be, of which the good answer uses one. */
static inline void lie_io_fd_many(struct server *server, const struct user_message *message)
{
	const struct {
		struct user_region_io_fds head;
		struct user_io_fd sub;
	} reply = { { sizeof(reply), 0, 0, 1 }, { .size = 4 } };

	lie_fds(server, message, 100, &reply, sizeof(reply));
}

static inline void lie_io_fd_index(struct server *server, const struct user_message *message)
{
	lie_io_fd(server, message, (struct user_io_fd){ .fd_index = 1 }, 1, 1);
}

static inline void lie_io_fd_offset(struct server *server, const struct user_message *message)
{
	lie_io_fd(server, message, (struct user_io_fd){ .offset = UINT64_MAX, .size = 4 }, 1, 1);
}

static inline void lie_io_fd_size(struct server *server, const struct user_message *message)
{
	lie_io_fd(server, message, (struct user_io_fd){ .size = 3 }, 1, 1);
}

static inline void lie_io_fd_flags(struct server *server, const struct user_message *message)
{
	lie_io_fd(server, message, (struct user_io_fd){ .flags = 0x100 }, 1, 1);
}

static inline void lie_io_fd_count(struct server *server, const struct user_message *message)
{
	lie_io_fd(server, message, (struct user_io_fd){ 0 }, UINT32_MAX, 1);
}

#endif
