/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vfio-user server (mdev/server) for tests of the client: on a thread of the test's, over one end of a
 * socket pair, and with a hook by which a test makes it lie.
 *
 * The hook sees each message before server_handle() does and may answer it itself, with server_reply() and
 * its like below, straight into the socket. It gets there by the linker: a test that includes this is
 * linked with --wrap=server_handle (build.mk). Device calls happen on the server's thread only.
 */
#ifndef TESTS_VFIO_USER_SERVER_H
#define TESTS_VFIO_USER_SERVER_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vfio/user_client.h"

/* What answers in the server's own words, and what a test answers, have the same name for the reader. */
#define server_reply server_stage_reply
#include "mdev/server/server.h"
#undef server_reply

#define SERVER_COMMANDS 20

struct server {
	int fd;			    /* the server's; for hooks */
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
	unsigned range_count;		    /* what is mapped here */

	uint8_t *buffer; /* of USER_PAYLOAD_MAX, for what hooks receive */
	const struct vfio_device_ops *device_ops;
	struct vfio_device_ops ops;
	pthread_t thread;
};

/* Whose messages and files they are: one at a time. */
static struct server *server_now;

/* ---- for hooks ----------------------------------------------------------------------------- */

#define SERVER_WAIT_MS 5000

static inline uint64_t server_deadline(void)
{
	return monotonic_ns() + SERVER_WAIT_MS * UINT64_C(1000000);
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

/* ---- between the socket and the server ------------------------------------------------------ */

const char *__real_server_handle(struct mdev_server *mdev, const struct user_message *message);
const char *__wrap_server_handle(struct mdev_server *mdev, const struct user_message *message);

/* The numbers that the test wants said, in the place of ours. */
static inline void server_reword_version(struct server *server, struct mdev_server *mdev)
{
	const size_t head = sizeof(struct user_header) + sizeof(struct user_version);
	char *text = (char *)mdev->out_buffer + head;
	uint32_t size;

	if (mdev->reply_size <= head)
		return;
	mdev->reply_size =
		head + 1 +
		(size_t)sprintf(text,
				"{\"capabilities\":{\"max_msg_fds\":%u,\"max_data_xfer_size\":%zu,"
				"\"" USER_DIVVY_REGION_MAP_CAPABILITY "\":1}}",
				server->fds_max, server->transfer_max);
	size = (uint32_t)mdev->reply_size;
	memcpy(mdev->out_buffer + offsetof(struct user_header, size), &size, sizeof(size));
}

const char *__wrap_server_handle(struct mdev_server *mdev, const struct user_message *message)
{
	struct server *server = server_now;
	struct user_message seen = *message;
	const char *wrong;

	if (message->header.command < SERVER_COMMANDS)
		server->commands[message->header.command]++;
	server->most_fds = MAX(server->most_fds, message->fd_count);
	if (server->hook && server->hook(server, &seen)) {
		/* Whatever it said: the client goes on from there. */
		mdev->agreed |= message->header.command == USER_VERSION;
		return NULL;
	}
	wrong = __real_server_handle(mdev, message);
	if (!wrong && message->header.command == USER_VERSION)
		server_reword_version(server, mdev);
	server->range_count = mdev->range_count;
	return wrong;
}

/* ---- life ---------------------------------------------------------------------------------- */

static inline int server_region_file(struct vfio_device *device, uint32_t index, uint64_t *offset)
{
	const int fd = server_now->region_fds[index];

	*offset = server_now->region_offsets[index];
	if (fd >= 0)
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	return fd;
}

/* @fd: taken over when it is served */
static inline void server_init(struct server *server, struct vfio_device *device, int fd)
{
	memset(server, 0, sizeof(*server));
	server->fd = fd;
	server->device = device;
	server->fds_max = 8; /* libvfio-user's */
	server->transfer_max = USER_TRANSFER_MAX;
	for (unsigned i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
		server->region_fds[i] = -1;
}

/* Serve until the client is gone; then everything of it is let go, the socket too. */
static inline void server_serve(struct server *server)
{
	const struct mdev_server_options options = { .timeout_ms = SERVER_WAIT_MS };
	struct vfio_device *device = server->device;
	struct mdev_server *mdev = NULL;
	sd_event *event = NULL;

	server_now = server;
	server->buffer = malloc(USER_PAYLOAD_MAX);
	server->device_ops = device->ops;
	server->ops = *device->ops;
	server->ops.region_file = server_region_file;
	device->ops = &server->ops;
	if (server->buffer && !vfio_device_start(device, NULL) && sd_event_new(&event) >= 0 &&
	    !mdev_server_create(event, device, &options, &mdev, NULL) &&
	    !mdev_server_attach(mdev, server->fd, NULL))
		while (mdev_server_attached(mdev) && sd_event_run(event, UINT64_MAX) >= 0)
			;
	mdev_server_destroy(mdev);
	sd_event_unref(event);
	device->ops = server->device_ops;
	server->range_count = 0;
	free(server->buffer);
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
