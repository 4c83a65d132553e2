/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole vfio-user messages over a UNIX stream socket, for the client here and for the server in mdev/:
 * waiting until a deadline, or taking what there is.
 */
#ifndef VFIO_USER_SOCKET_H
#define VFIO_USER_SOCKET_H

#include <sys/uio.h>

#include "base/base.h"
#include "vfio/user_protocol.h"

/* user_socket_connect() - a stream socket to @path, or -errno: "no-vfio-user-socket". */
int user_socket_connect(const char *path, unsigned timeout_ms, struct error *e);

/*
 * user_socket_send() - all of @iov, with @fds (borrowed) on the first byte. @iov is used up.
 * Returns 0 or -errno; -ETIMEDOUT at @deadline_ns (CLOCK_MONOTONIC). After an error the stream may
 * hold half a message and is of no more use.
 */
int user_socket_send(int fd, struct iovec *iov, unsigned iov_count, const int *fds,
		     unsigned fd_count, uint64_t deadline_ns);
/*
 * user_socket_send_some() - the same without waiting: *iov and *iov_count are moved past what went, and
 * *fd_count is 0 once the descriptors did. Returns 0 when all went, -EAGAIN when the rest must wait, or
 * another -errno.
 */
int user_socket_send_some(int fd, struct iovec **iov, unsigned *iov_count, const int *fds,
			  unsigned *fd_count);

/* user_socket_wait() - until there is something to read. Returns 0, -ETIMEDOUT at @deadline_ns, -errno. */
int user_socket_wait(int fd, uint64_t deadline_ns);

struct user_message {
	struct user_header header;
	uint8_t *payload; /* the receiver's buffer of USER_PAYLOAD_MAX bytes */
	size_t payload_size;
	unsigned fd_count;
	int fds[USER_FDS_MAX]; /* the receiver's to close */
};
/*
 * user_socket_receive() - one message. Waits without limit for its first byte, then @timeout_ms for
 * the rest.
 * Returns 0; -ECONNRESET at the end of the stream; -EPROTO for a size, flag or number of descriptors
 * that cannot be, -ETIMEDOUT, or another -errno. On error @message holds no descriptors.
 */
int user_socket_receive(int fd, struct user_message *message, unsigned timeout_ms);

/* A message that comes in parts. Zeroed, with message.payload set. */
struct user_receiver {
	struct user_message message;
	size_t got; /* bytes of it that are here; 0: it has not begun */
};
/*
 * user_socket_receive_some() - what there is of one message, without waiting.
 * Returns 1 when it is whole (the next call begins another), 0 when more must come, or -errno as above.
 */
int user_socket_receive_some(int fd, struct user_receiver *receiver);

/* user_message_drop() - close what descriptors @message still holds. */
void user_message_drop(struct user_message *message);

#endif
