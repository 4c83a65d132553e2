// SPDX-License-Identifier: Apache-2.0
/*
 * A served device's memory, shown in the client's region: what the device asks of its mapper becomes
 * requests to the client (USER_DIVVY_REGION_MAP and _UNMAP, docs/mdev.md), and their answers the outcome.
 *
 * The device's threads put requests into a table and wake the loop, which sends them in the order they came
 * and finds the answers by message ID. What the device asks while it serves a message of the client's
 * is sent before the reply to that message: so when a client has the reply to a reset, it has been
 * told what is not shown any more. No more than SERVER_REQUESTS_MAX are under way.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mdev/server/server.h"

#define ERRNO_MAX 4095 /* the kernel's, include/linux/err.h */

/* ---- the device's side: any thread ---------------------------------------------------------- */

/* @fd is taken over. */
static int enqueue(struct mdev_server *server, uint16_t command, const struct user_region_map *map,
		   int fd, vfio_mapped done, void *token)
{
	struct server_request *request = NULL;
	int err = 0;

	pthread_mutex_lock(&server->lock);
	for (unsigned i = 0; i < SERVER_REQUESTS_MAX && !request; i++)
		if (!server->requests[i].used)
			request = &server->requests[i];
	if (!server->takes_requests)
		err = -ENOTCONN;
	else if (!request)
		err = -ENOSPC;
	else
		*request = (struct server_request){
			.used = true,
			.command = command,
			.map = *map,
			.fd = fd,
			.done = done,
			.token = token,
			.sequence = server->sequence++,
			.deadline_ns = monotonic_ns() + server->timeout_ms * UINT64_C(1000000),
		};
	pthread_mutex_unlock(&server->lock);
	if (err) {
		fd_close(&fd);
		return err;
	}
	eventfd_write(server->wake_fd, 1);
	return done ? -EINPROGRESS : 0;
}

int server_place_check(const struct mdev_server *server, uint32_t index, uint64_t offset,
		       uint64_t size)
{
	const uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	const struct vfio_region *region;

	if (index >= MIN(server->region_count, (uint32_t)VFIO_PCI_ROM_REGION_INDEX))
		return -EINVAL;
	region = &server->regions[index].region;
	if (!size || (offset | size) & (page_size - 1))
		return -EINVAL;
	return offset < region->size && size <= region->size - offset ? 0 : -EINVAL;
}

static int map(void *opaque, const struct vfio_region_map *asked, vfio_mapped done, void *token)
{
	struct mdev_server *server = opaque;
	const struct user_region_map wire = {
		.argsz = sizeof(wire),
		.region = asked->index,
		.offset = asked->offset,
		.size = asked->size,
		.file_offset = asked->fd_offset,
	};
	int err = server_place_check(server, asked->index, asked->offset, asked->size), fd;

	/* It cannot be known at once. */
	if (!err && !done)
		err = -EINVAL;
	if (err)
		return err;
	fd = fcntl(asked->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	return enqueue(server, USER_DIVVY_REGION_MAP, &wire, fd, done, token);
}

static int unmap(void *opaque, uint32_t index, uint64_t offset, uint64_t size, vfio_mapped done,
		 void *token)
{
	struct mdev_server *server = opaque;
	const struct user_region_map wire = {
		.argsz = sizeof(wire), .region = index, .offset = offset, .size = size
	};
	int err = server_place_check(server, index, offset, size);

	return err ? err : enqueue(server, USER_DIVVY_REGION_UNMAP, &wire, -1, done, token);
}

static const struct vfio_mapper mapper = { .map = map, .unmap = unmap };

/* ---- the loop's side ------------------------------------------------------------------------ */

void server_map_begin(struct mdev_server *server)
{
	pthread_mutex_lock(&server->lock);
	server->takes_requests = true;
	pthread_mutex_unlock(&server->lock);
	server->device->ops->set_mapper(server->device, &mapper, server);
}

void server_map_end(struct mdev_server *server)
{
	if (!server->takes_requests)
		return;
	pthread_mutex_lock(&server->lock);
	server->takes_requests = false;
	pthread_mutex_unlock(&server->lock);
	server->device->ops->set_mapper(server->device, NULL, NULL);
	/* From here on nobody else looks at the table. */
	for (unsigned i = 0; i < SERVER_REQUESTS_MAX; i++) {
		struct server_request request = server->requests[i];

		server->requests[i] = (struct server_request){ .fd = -1 };
		if (!request.used)
			continue;
		fd_close(&request.fd);
		if (request.done)
			request.done(request.token, -ECONNRESET);
	}
}

static struct server_request *find_sent(struct mdev_server *server, uint16_t id)
{
	for (unsigned i = 0; i < SERVER_REQUESTS_MAX; i++)
		if (server->requests[i].used && server->requests[i].sent &&
		    server->requests[i].id == id)
			return &server->requests[i];
	return NULL;
}

bool server_map_next(struct mdev_server *server)
{
	struct server_output *out = &server->out;
	struct server_request *oldest = NULL;

	pthread_mutex_lock(&server->lock);
	for (unsigned i = 0; i < SERVER_REQUESTS_MAX; i++) {
		struct server_request *request = &server->requests[i];

		if (request->used && !request->sent &&
		    (!oldest || request->sequence < oldest->sequence))
			oldest = request;
	}
	if (oldest) {
		do
			oldest->id = server->next_id++;
		while (find_sent(server, oldest->id));
		oldest->sent = true;
		server->request_wire.header = (struct user_header){
			.id = oldest->id,
			.command = oldest->command,
			.size = sizeof(server->request_wire),
			.flags = USER_TYPE_COMMAND,
		};
		server->request_wire.map = oldest->map;
		out->owned_fd = oldest->fd;
		out->fds[0] = oldest->fd;
		out->fd_count = oldest->fd >= 0;
		oldest->fd = -1;
		out->iov = (struct iovec){ &server->request_wire, sizeof(server->request_wire) };
		out->at = &out->iov;
		out->count = 1;
	}
	pthread_mutex_unlock(&server->lock);
	return oldest;
}

const char *server_map_reply(struct mdev_server *server, const struct user_message *message)
{
	const struct user_header *header = &message->header;
	struct server_request request = { .used = false }, *found;
	int result = 0;

	if (message->payload_size || message->fd_count)
		return "the client's answer has what does not belong there";
	pthread_mutex_lock(&server->lock);
	found = find_sent(server, header->id);
	if (found && found->command == header->command) {
		request = *found;
		*found = (struct server_request){ .fd = -1 };
	}
	pthread_mutex_unlock(&server->lock);
	if (!request.used)
		return "the client answered what nobody asked";
	if (header->flags & USER_FLAG_ERROR)
		result = header->error && header->error <= ERRNO_MAX ? -(int)header->error : -EIO;
	if (request.done)
		request.done(request.token, result);
	else if (result)
		log_limited(LOG_LEVEL_WARN, "%s: the client did not do a map: %s",
			    server->device->name, strerror(-result));
	return NULL;
}

uint64_t server_map_deadline(struct mdev_server *server)
{
	uint64_t earliest = 0;

	pthread_mutex_lock(&server->lock);
	for (unsigned i = 0; i < SERVER_REQUESTS_MAX; i++) {
		const struct server_request *request = &server->requests[i];

		if (request->used && (!earliest || request->deadline_ns < earliest))
			earliest = request->deadline_ns;
	}
	pthread_mutex_unlock(&server->lock);
	return earliest;
}
