// SPDX-License-Identifier: Apache-2.0
/*
 * net_user: a guest's network with no privilege, by way of passt(1).
 *
 * passt runs as a child over a socket pair and turns the guest's frames into sockets of the host.
 * On the stream each frame follows its length, 32 bits, big endian (passt(1), "qemu socket"). The
 * child's messages become log lines. It is ready when it writes its process id. It is killed and reaped when the device closes; should this
 * process die first, passt sees the end of the socket. When passt ends on its own, that is
 * reported and the guest's link goes down.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
/* The ABI's name for its config is that of our public header. */
#define virtio_net_config virtio_net_config_space
#include <linux/virtio_net.h>
#undef virtio_net_config
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mdev/virtio_net.h"

#define LENGTH_SIZE	 sizeof(uint32_t)
#define START_TIMEOUT_MS 10000
#define END_TIMEOUT_MS	 2000

struct net_user {
	pid_t pid;
	int pidfd;
	int messages_fd; /* its standard error */
	struct virtio_source death, messages;
	char message[160]; /* the last line it wrote */
	/* From passt: bytes read and not yet given to the guest. */
	size_t received, taken;
	uint8_t receive_buffer[2 * (LENGTH_SIZE + NET_FRAME_MAX)];
	/* To passt: the rest of a frame of which the socket took only a part. */
	size_t unsent, unsent_at;
	uint8_t unsent_buffer[LENGTH_SIZE + NET_FRAME_MAX];
	struct iovec iov[VIRTIO_SEGMENTS_MAX + 1];
};

/* ---- frames -------------------------------------------------------------------------------- */

static ssize_t fill(struct net *net)
{
	struct net_user *user = net->user;
	ssize_t got;

	memmove(user->receive_buffer, user->receive_buffer + user->taken,
		user->received - user->taken);
	user->received -= user->taken;
	user->taken = 0;
	do
		got = recv(net->fd, user->receive_buffer + user->received,
			   sizeof(user->receive_buffer) - user->received, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (!got)
		return -EPIPE;
	user->received += (size_t)got;
	return got;
}

static ssize_t receive(struct net *net, struct virtio_chain *chain)
{
	struct net_user *user = net->user;
	struct virtio_net_hdr_v1 header = { .num_buffers = 1 };
	bool filled = false;

	static_assert(sizeof(header) == NET_HEADER_SIZE, "the header of virtio 1.x");
	for (;;) {
		const size_t there = user->received - user->taken;
		const uint8_t *at = user->receive_buffer + user->taken;
		uint32_t length = 0;
		ssize_t got;

		if (there >= LENGTH_SIZE) {
			memcpy(&length, at, sizeof(length));
			length = ntohl(length);
			if (length > NET_FRAME_MAX) {
				log_error("%s: passt sent a frame of %u bytes", net->dev.vfio.name,
					  length);
				return -EPROTO;
			}
		}
		if (there >= LENGTH_SIZE && there >= LENGTH_SIZE + length) {
			user->taken += LENGTH_SIZE + length;
			if (length < NET_FRAME_MIN || length > chain->in_length - NET_HEADER_SIZE)
				continue; /* nothing the guest has room for: dropped */
			virtio_iov_write(chain->in, chain->in_count, 0, &header, sizeof(header));
			virtio_iov_write(chain->in, chain->in_count, sizeof(header),
					 at + LENGTH_SIZE, length);
			return (ssize_t)(NET_HEADER_SIZE + length);
		}
		if (filled)
			return 0; /* a part of a frame: the rest will make the socket readable */
		got = fill(net);
		if (got <= 0)
			return got;
		filled = true;
	}
}

/* Send what a frame before left over. Returns 0 or -errno. */
static int flush_unsent(struct net *net)
{
	struct net_user *user = net->user;

	while (user->unsent) {
		ssize_t done = send(net->fd, user->unsent_buffer + user->unsent_at, user->unsent,
				    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		user->unsent -= (size_t)done;
		user->unsent_at += (size_t)done;
	}
	return 0;
}

static int transmit(struct net *net, struct virtio_chain *chain)
{
	struct net_user *user = net->user;
	const uint64_t length = chain->out_length - NET_HEADER_SIZE;
	const size_t total = LENGTH_SIZE + (size_t)length;
	struct msghdr message = { .msg_iov = user->iov };
	uint32_t prefix = htonl((uint32_t)length);
	unsigned count;
	ssize_t done;
	int ret;

	/* passt closes the connection over a frame that is none. */
	if (length < NET_FRAME_MIN || length > NET_FRAME_MAX)
		return 0;
	ret = flush_unsent(net);
	if (ret)
		return ret == -EAGAIN ? ret : 0; /* its end is told by its process */
	count = virtio_iov_slice(chain->out, chain->out_count, NET_HEADER_SIZE, SIZE_MAX);
	user->iov[0] = (struct iovec){ .iov_base = &prefix, .iov_len = sizeof(prefix) };
	memcpy(&user->iov[1], chain->out, count * sizeof(user->iov[0]));
	message.msg_iovlen = count + 1;
	do
		done = sendmsg(net->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	if (done < 0)
		return errno == EAGAIN ? -EAGAIN : 0;
	if ((size_t)done < total) {
		/* The stream must not lose its framing: keep what is left, exactly once. */
		user->unsent_at = 0;
		user->unsent = virtio_iov_read(user->iov, count + 1, (size_t)done,
					       user->unsent_buffer, total - (size_t)done);
		net->transmit_blocked = true;
		net_watch(net);
	}
	return 0;
}

/* ---- the child ----------------------------------------------------------------------------- */

/* Log what passt wrote; the last line is kept. Returns false at the end of it. */
static bool read_messages(struct net_user *user)
{
	char text[512], *line, *rest = text;
	ssize_t got = read(user->messages_fd, text, sizeof(text) - 1);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (got <= 0)
		return false;
	text[got] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		if (!*line)
			continue;
		log_limited(LOG_LEVEL_INFO, "passt: %s", line);
		snprintf(user->message, sizeof(user->message), "%.*s",
			 (int)sizeof(user->message) - 1, line);
	}
	return true;
}

static void on_messages(struct virtio_device *dev, uint32_t epoll_events)
{
	struct net_user *user = container_of(dev, struct net, dev)->user;

	if (!read_messages(user))
		virtio_source_remove(&user->messages);
}

static void on_death(struct virtio_device *dev, uint32_t epoll_events)
{
	struct net *net = container_of(dev, struct net, dev);
	struct net_user *user = net->user;
	siginfo_t info = { 0 };

	/* What it said last explains it best. */
	read_messages(user);
	if (waitid(P_PIDFD, (id_t)user->pidfd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
		return;
	user->pid = -1;
	virtio_source_remove(&user->death);
	log_error("%s: passt ended (%s %d): the network is down%s%s", dev->vfio.name,
		  info.si_code == CLD_EXITED ? "exit status" : "signal", info.si_status,
		  user->message[0] ? ": " : "", user->message);
	net_link_down(net);
}

/* In the child between fork and exec: only what is safe there. */
static void exec_passt(int socket, int ready, int messages, int failure, pid_t parent)
{
	static const char *const arguments[] = {
		"passt",
		"--foreground",
		"--quiet",
		"--one-off",
		"--fd",
		"3",
		/* The guest's receive buffers are for frames of this size. */
		"--mtu",
		"1500",
		/* Written once it serves. It closes every descriptor but the first three and 3. */
		"--pid",
		"/proc/self/fd/1",
		NULL,
	};
	sigset_t none;
	int err, null;

	/* Above the numbers they shall have, so that none is overwritten by another. */
	socket = fcntl(socket, F_DUPFD_CLOEXEC, 10);
	ready = fcntl(ready, F_DUPFD_CLOEXEC, 10);
	messages = fcntl(messages, F_DUPFD_CLOEXEC, 10);
	failure = fcntl(failure, F_DUPFD_CLOEXEC, 10);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (socket < 0 || ready < 0 || messages < 0 || failure < 0 || null < 0 ||
	    dup2(null, 0) < 0 || dup2(ready, 1) < 0 || dup2(messages, 2) < 0 || dup2(socket, 3) < 0)
		goto fail;
	/* Nothing else of ours, whatever its flags (the failure pipe closes by itself). */
	if (close_range(4, UINT32_MAX, CLOSE_RANGE_CLOEXEC) < 0)
		goto fail;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Until passt changes its user; after that, the end of the socket ends it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	execvp(arguments[0], (char *const *)(uintptr_t)arguments);
fail:
	err = errno;
	if (write(failure, &err, sizeof(err)) < 0)
		_exit(126);
	_exit(127);
}

static void end_child(struct net_user *user)
{
	struct pollfd ended = { .fd = user->pidfd, .events = POLLIN };
	siginfo_t info;
	int ret;

	if (user->pidfd < 0)
		kill(user->pid, SIGKILL); /* not far enough to have been confined */
	else
		pidfd_send_signal(user->pidfd, SIGKILL, NULL, 0);
	do
		ret = user->pidfd < 0 ? 1 : poll(&ended, 1, END_TIMEOUT_MS);
	while (ret < 0 && errno == EINTR);
	if (ret <= 0)
		log_error("passt: process %d does not end", user->pid);
	while (ret > 0 && waitid(P_PID, (id_t)user->pid, &info, WEXITED) < 0 && errno == EINTR)
		;
}

static void close_user(struct net *net)
{
	struct net_user *user = net->user;

	virtio_source_remove(&user->death);
	virtio_source_remove(&user->messages);
	/* That ends it. The signal is for one that hangs, and not always allowed: it has a user of its own. */
	fd_close(&net->fd);
	if (user->pid > 0)
		end_child(user);
	fd_close(&user->pidfd);
	fd_close(&user->messages_fd);
	free(user);
	net->user = NULL;
}

static const struct net_backend user_backend = {
	.receive = receive,
	.transmit = transmit,
	.flush = flush_unsent,
	.close = close_user,
};

int net_user_watch(struct net *net, struct error *e)
{
	struct net_user *user = net->user;
	int ret = virtio_source_add(&net->dev, &user->death, user->pidfd, EPOLLIN, on_death);

	if (ret >= 0)
		ret = virtio_source_add(&net->dev, &user->messages, user->messages_fd, EPOLLIN,
					on_messages);
	if (ret < 0)
		return error_set(e, -ret, "no-passt", NULL, "passt: cannot be watched: %s",
				 strerror(-ret));
	return 0;
}

/*
 * Wait for the child to serve. @failure: errno of a failed exec arrives there, or its end; @ready: the
 * process id, or its end when passt gives up. Returns 0 or -errno.
 */
static int wait_ready(struct net_user *user, int failure, int ready)
{
	struct pollfd poll_fd = { .fd = ready, .events = POLLIN };
	char text[16];
	int err = 0, ret;
	ssize_t got;

	do
		got = read(failure, &err, sizeof(err));
	while (got < 0 && errno == EINTR);
	if (got == sizeof(err))
		return -err;
	do
		ret = poll(&poll_fd, 1, START_TIMEOUT_MS);
	while (ret < 0 && errno == EINTR);
	if (ret == 0)
		return -ETIMEDOUT;
	got = read(ready, text, sizeof(text));
	read_messages(user);
	if (got > 0) {
		user->message[0] = '\0'; /* said at start: no reason for a later end */
		return 0;
	}
	return -ECHILD;
}

int net_user_open(struct net *net, struct error *e)
{
	struct net_user *user = calloc(1, sizeof(*user));
	int sockets[2] = { -1, -1 }, messages[2] = { -1, -1 };
	int failure[2] = { -1, -1 }, ready[2] = { -1, -1 };
	const pid_t parent = getpid();
	int ret = 0;

	if (!user)
		return error_set(e, ENOMEM, "no-passt", NULL, "passt: out of memory");
	user->pid = user->pidfd = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0 ||
	    pipe2(messages, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(failure, O_CLOEXEC) < 0 ||
	    pipe2(ready, O_CLOEXEC) < 0)
		ret = -errno;
	net->user = user;
	net->fd = sockets[0];
	user->messages_fd = messages[0];
	if (!ret) {
		user->pid = fork();
		if (user->pid == 0)
			exec_passt(sockets[1], ready[1], messages[1], failure[1], parent);
		if (user->pid < 0)
			ret = -errno;
	}
	/* The child's ends: only so is its end seen. */
	fd_close(&sockets[1]);
	fd_close(&messages[1]);
	fd_close(&failure[1]);
	fd_close(&ready[1]);
	if (!ret)
		ret = wait_ready(user, failure[0], ready[0]);
	fd_close(&failure[0]);
	fd_close(&ready[0]);
	if (!ret) {
		user->pidfd = pidfd_open(user->pid, 0);
		if (user->pidfd < 0)
			ret = -errno;
	}
	if (ret) {
		error_set(e, -ret, "no-passt",
			  ret == -ENOENT ? "apt install passt, or give a tap interface"
					 : "passt --foreground, or give a tap interface",
			  "user-mode network: passt cannot be started: %s",
			  user->message[0] ? user->message : strerror(-ret));
		close_user(net);
		return ret;
	}
	net->backend = &user_backend;
	return 0;
}
