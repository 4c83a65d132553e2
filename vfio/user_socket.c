// SPDX-License-Identifier: Apache-2.0
/*
 * Whole vfio-user messages over a UNIX stream socket, with the descriptors that go along.
 *
 * Nothing here blocks but poll(2), and that only until a deadline, so that a peer that stops in the
 * middle of a message holds nobody up; user_socket_send_some() and user_socket_receive_some() do not
 * block at all. A message's size is judged before a byte of it is stored; what a peer sends in
 * descriptors is in the message or closed.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "vfio/user_socket.h"

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

int user_socket_send_some(int fd, struct iovec **iov, unsigned *iov_count, const int *fds,
			  unsigned *fd_count)
{
	union control control;

	while (*iov_count) {
		struct msghdr message = { .msg_iov = *iov, .msg_iovlen = *iov_count };
		ssize_t sent;

		if (*fd_count)
			control_fill(&message, &control, fds, *fd_count);
		sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		/* The descriptors went with the first bytes. */
		*fd_count = 0;
		while (*iov_count && (size_t)sent >= (*iov)->iov_len) {
			sent -= (ssize_t)(*iov)->iov_len;
			(*iov)++;
			(*iov_count)--;
		}
		if (*iov_count) {
			(*iov)->iov_base = (char *)(*iov)->iov_base + sent;
			(*iov)->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

int user_socket_send(int fd, struct iovec *iov, unsigned iov_count, const int *fds,
		     unsigned fd_count, uint64_t deadline_ns)
{
	int err;

	if (fd_count > USER_FDS_MAX)
		return -E2BIG;
	for (;;) {
		err = user_socket_send_some(fd, &iov, &iov_count, fds, &fd_count);
		if (err != -EAGAIN)
			return err;
		err = wait_for(fd, POLLOUT, deadline_ns);
		if (err)
			return err;
	}
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

/* Where the next bytes of a message go, and how many are missing there. */
static struct iovec next_part(struct user_receiver *receiver)
{
	struct user_message *message = &receiver->message;
	const size_t head = sizeof(message->header), got = receiver->got;

	if (got < head)
		return (struct iovec){ (char *)&message->header + got, head - got };
	return (struct iovec){ message->payload + (got - head),
			       message->payload_size - (got - head) };
}

/* One recvmsg(2), and what it completed is judged. Returns 0, -EAGAIN or another -errno. */
static int receive_part(int fd, struct user_receiver *receiver)
{
	struct user_message *message = &receiver->message;
	struct iovec iov = next_part(receiver);
	union control control;
	struct msghdr head = { .msg_iov = &iov,
			       .msg_iovlen = 1,
			       .msg_control = control.bytes,
			       .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int err;

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	err = control_take(&head, message);
	if (err)
		return err;
	if (!n)
		return -ECONNRESET;
	receiver->got += (size_t)n;
	if (receiver->got != sizeof(message->header))
		return 0;
	message->payload_size = 0;
	err = header_check(&message->header);
	if (!err)
		message->payload_size = message->header.size - sizeof(message->header);
	return err;
}

int user_socket_receive_some(int fd, struct user_receiver *receiver)
{
	struct user_message *message = &receiver->message;
	int err = 0;

	if (!receiver->got)
		message->fd_count = 0;
	while (!err && (receiver->got < sizeof(message->header) ||
			receiver->got < sizeof(message->header) + message->payload_size))
		err = receive_part(fd, receiver);
	if (err == -EAGAIN)
		return 0;
	if (!err && message->header.flags & USER_FLAG_ERROR && message->fd_count)
		err = -EPROTO;
	if (err)
		user_message_drop(message);
	receiver->got = 0;
	return err ? err : 1;
}

int user_socket_receive(int fd, struct user_message *message, unsigned timeout_ms)
{
	struct user_receiver receiver = { .message.payload = message->payload };
	uint64_t deadline_ns = NO_DEADLINE;

	message->fd_count = 0;
	for (;;) {
		int ret = user_socket_receive_some(fd, &receiver);

		if (!ret && receiver.got && deadline_ns == NO_DEADLINE)
			deadline_ns = monotonic_ns() + timeout_ms * UINT64_C(1000000);
		if (!ret)
			ret = wait_for(fd, POLLIN, deadline_ns);
		else if (ret > 0)
			*message = receiver.message;
		if (ret < 0)
			user_message_drop(&receiver.message);
		if (ret)
			return ret < 0 ? ret : 0;
	}
}
