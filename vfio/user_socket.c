// SPDX-License-Identifier: Apache-2.0
/*
 * Whole vfio-user messages over a UNIX stream socket, with the descriptors that go along.
 *
 * Nothing here blocks but poll(2), and that only until a deadline, so that a peer that stops in the
 * middle of a message holds nobody up. A message's size is judged before a byte of it is stored; what
 * a peer sends in descriptors is in the message or closed.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "vfio/user_client.h"

#define NO_DEADLINE UINT64_MAX

int user_socket_connect(const char *path, unsigned timeout_ms, struct error *e)
{
	const struct timeval limit = { .tv_sec = timeout_ms / 1000,
				       .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000 };
	const struct timeval none = { 0 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(e, ENAMETOOLONG, "no-vfio-user-socket", "choose a shorter path",
				 "%s: a socket's path has at most %zu bytes", path,
				 sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(e, errno, "no-vfio-user-socket", NULL, "%s: socket: %s", path,
				 strerror(errno));
	/* connect(2) waits where the server does not accept; its limit is the one for sending. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none)) < 0) {
		err = errno == EAGAIN ? ETIMEDOUT : errno;
		fd_close(&fd);
		return error_set(e, err, "no-vfio-user-socket",
				 "start the device's server before the VM", "%s: %s", path,
				 strerror(err));
	}
	return fd;
}

/* Wait for @events. @deadline_ns is a time of CLOCK_MONOTONIC or NO_DEADLINE. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd poller = { .fd = fd, .events = events };

	for (;;) {
		int timeout = -1, ret;

		if (deadline_ns != NO_DEADLINE) {
			uint64_t now = monotonic_ns();

			if (now >= deadline_ns)
				return -ETIMEDOUT;
			/* Rounded up, or the last millisecond would spin. */
			timeout = (int)MIN((deadline_ns - now) / 1000000 + 1, (uint64_t)INT_MAX);
		}
		ret = poll(&poller, 1, timeout);
		if (ret > 0)
			return 0;
		if (ret < 0 && errno != EINTR)
			return -errno;
	}
}

int user_socket_wait(int fd, uint64_t deadline_ns)
{
	return wait_for(fd, POLLIN, deadline_ns);
}

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(USER_FDS_MAX * sizeof(int))];
};

static void control_fill(struct msghdr *message, union control *control, const int *fds,
			 unsigned count)
{
	struct cmsghdr *head;

	memset(control, 0, sizeof(*control));
	message->msg_control = control->bytes;
	message->msg_controllen = CMSG_SPACE(count * sizeof(int));
	head = CMSG_FIRSTHDR(message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(head), fds, count * sizeof(int));
}

int user_socket_send(int fd, struct iovec *iov, unsigned iov_count, const int *fds,
		     unsigned fd_count, uint64_t deadline_ns)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = iov_count };
	union control control;

	if (fd_count > USER_FDS_MAX)
		return -E2BIG;
	if (fd_count)
		control_fill(&message, &control, fds, fd_count);
	while (message.msg_iovlen) {
		ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		int err;

		if (sent < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				return -errno;
			err = wait_for(fd, POLLOUT, deadline_ns);
			if (err)
				return err;
			continue;
		}
		/* The descriptors went with the first bytes. */
		message.msg_control = NULL;
		message.msg_controllen = 0;
		while (message.msg_iovlen && (size_t)sent >= message.msg_iov->iov_len) {
			sent -= (ssize_t)message.msg_iov->iov_len;
			message.msg_iov++;
			message.msg_iovlen--;
		}
		if (message.msg_iovlen) {
			message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
			message.msg_iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

void user_message_drop(struct user_message *message)
{
	for (unsigned i = 0; i < message->fd_count; i++)
		fd_close(&message->fds[i]);
	message->fd_count = 0;
}

/* Take over what descriptors came with one recvmsg(2); more than fit are closed. */
static int control_take(struct msghdr *head, struct user_message *message)
{
	int ret = head->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (message->fd_count < USER_FDS_MAX) {
				message->fds[message->fd_count++] = fd;
			} else {
				fd_close(&fd);
				ret = -EPROTO;
			}
		}
	}
	return ret;
}

/* @size bytes of the message. With NO_DEADLINE it begins here, and the first byte sets the deadline. */
static int receive_all(int fd, struct user_message *message, void *buf, size_t size,
		       uint64_t *deadline_ns, unsigned timeout_ms)
{
	size_t got = 0;
	int err;

	while (got < size) {
		union control control;
		struct iovec iov = { .iov_base = (char *)buf + got, .iov_len = size - got };
		struct msghdr head = { .msg_iov = &iov,
				       .msg_iovlen = 1,
				       .msg_control = control.bytes,
				       .msg_controllen = sizeof(control.bytes) };
		ssize_t n = recvmsg(fd, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				return -errno;
			err = wait_for(fd, POLLIN, *deadline_ns);
			if (err)
				return err;
			continue;
		}
		err = control_take(&head, message);
		if (err)
			return err;
		if (!n)
			return -ECONNRESET;
		if (*deadline_ns == NO_DEADLINE)
			*deadline_ns = monotonic_ns() + timeout_ms * UINT64_C(1000000);
		got += (size_t)n;
	}
	return 0;
}

/* What every header promises, whatever the command. */
static int header_check(const struct user_header *header)
{
	uint32_t known = USER_FLAG_TYPE | USER_FLAG_NO_REPLY | USER_FLAG_ERROR;
	uint32_t type = header->flags & USER_FLAG_TYPE;

	if (header->size < sizeof(*header) || header->size - sizeof(*header) > USER_PAYLOAD_MAX)
		return -EPROTO;
	if (header->flags & ~known)
		return -EPROTO;
	if (type != USER_TYPE_COMMAND && type != USER_TYPE_REPLY)
		return -EPROTO;
	/* A command has not failed yet, and nobody answers an answer. */
	if (header->flags & (type == USER_TYPE_COMMAND ? USER_FLAG_ERROR : USER_FLAG_NO_REPLY))
		return -EPROTO;
	/* "If an error occurs, the reply message must only include the reply header." */
	if (header->flags & USER_FLAG_ERROR && header->size != sizeof(*header))
		return -EPROTO;
	return 0;
}

int user_socket_receive(int fd, struct user_message *message, unsigned timeout_ms)
{
	uint64_t deadline_ns = NO_DEADLINE;
	int err;

	message->fd_count = 0;
	err = receive_all(fd, message, &message->header, sizeof(message->header), &deadline_ns,
			  timeout_ms);
	if (!err)
		err = header_check(&message->header);
	if (!err) {
		message->payload_size = message->header.size - sizeof(message->header);
		err = receive_all(fd, message, message->payload, message->payload_size,
				  &deadline_ns, timeout_ms);
	}
	if (!err && message->header.flags & USER_FLAG_ERROR && message->fd_count)
		err = -EPROTO;
	if (err)
		user_message_drop(message);
	return err;
}
