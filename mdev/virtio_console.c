// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_console: one console port (VIRTIO 1.2, 5.3) on two file descriptors.
 *
 * Neither side is let run over the other: input is read only when the guest has given a buffer for
 * it, and a chain that the output cannot take now stays in the queue until it can. The descriptors
 * belong to the caller and their flags are left alone (a terminal's are shared with the shell), so
 * a terminal or pipe is opened a second time for non-blocking use and a socket is written with
 * MSG_DONTWAIT. A regular file never makes a writer wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdev/mdev.h"
#include "mdev/virtio.h"

#define RECEIVE_QUEUE  0
#define TRANSMIT_QUEUE 1
/* What one write takes at most when all we have is poll(2) to say that it will not block. */
#define CAREFUL_WRITE 256

struct console {
	struct virtio_device dev; /* first */
	struct console_end {
		int fd; /* ours: dup'ed or opened again */
		bool is_socket, may_block;
		bool always_ready; /* a regular file, which epoll does not take */
		struct virtio_source source;
	} in, out;
	uint64_t sent; /* bytes already out of the chain at the head of the transmit queue */
};

static struct console *console_of(struct virtio_device *dev)
{
	return container_of(dev, struct console, dev);
}

/* An end over the caller's @fd that can be used without blocking. Returns 0 or -errno. */
static int end_open(struct console_end *end, int fd, int access)
{
	char path[32];
	struct stat st;

	end->fd = -1;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	end->is_socket = S_ISSOCK(st.st_mode);
	if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		end->fd = open(path, access | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	}
	if (end->fd < 0) {
		end->may_block = !S_ISREG(st.st_mode) && !end->is_socket;
		end->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	}
	return end->fd < 0 ? -errno : 0;
}

static bool ready(const struct console_end *end, short events)
{
	struct pollfd poll_fd = { .fd = end->fd, .events = events };

	return !end->may_block || poll(&poll_fd, 1, 0) > 0;
}

/* ---- input --------------------------------------------------------------------------------- */

static ssize_t end_read(const struct console_end *end, struct virtio_chain *chain)
{
	struct msghdr message = { .msg_iov = chain->in, .msg_iovlen = chain->in_count };

	if (!ready(end, POLLIN)) {
		errno = EAGAIN;
		return -1;
	}
	return end->is_socket ? recvmsg(end->fd, &message, MSG_DONTWAIT)
			      : readv(end->fd, chain->in, (int)chain->in_count);
}

static void receive(struct virtio_device *dev, uint32_t epoll_events)
{
	struct console *console = console_of(dev);
	struct virtio_chain *chain = virtio_queue_pop(dev, RECEIVE_QUEUE);
	ssize_t got;

	if (!chain) {
		/* No room in the guest: leave it to whoever writes to us until there is. */
		virtio_source_watch(&console->in.source, 0);
		return;
	}
	if (!chain->in_length) {
		virtio_device_broken(dev, RECEIVE_QUEUE, "a receive buffer that is not writable");
		return;
	}
	got = end_read(&console->in, chain);
	if (got > 0) {
		virtio_queue_push(dev, RECEIVE_QUEUE, chain, (uint32_t)got);
		if (console->in.always_ready)
			virtio_queue_again(dev, RECEIVE_QUEUE);
		return;
	}
	virtio_queue_rewind(dev, RECEIVE_QUEUE);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* End of input, or an end that is gone. */
	virtio_source_remove(&console->in.source);
	console->in.always_ready = false;
}

/* ---- output -------------------------------------------------------------------------------- */

static ssize_t end_write(const struct console_end *end, struct iovec *iov, unsigned count)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = count };

	if (end->is_socket)
		return sendmsg(end->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (!end->may_block)
		return writev(end->fd, iov, (int)count);
	if (!ready(end, POLLOUT)) {
		errno = EAGAIN;
		return -1;
	}
	return write(end->fd, iov[0].iov_base, MIN(iov[0].iov_len, CAREFUL_WRITE));
}

/* Returns 0, or -EAGAIN to be called with this chain again once the output takes more. */
static int64_t transmit(struct virtio_device *dev, struct virtio_chain *chain)
{
	struct console *console = console_of(dev);
	unsigned count = virtio_iov_slice(chain->out, chain->out_count, console->sent, SIZE_MAX);

	while (count && console->out.fd >= 0) {
		ssize_t done = end_write(&console->out, chain->out, count);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN) {
			virtio_source_watch(&console->out.source, EPOLLOUT);
			return -EAGAIN;
		}
		if (done < 0) {
			log_limited(LOG_LEVEL_WARN, "%s: output is lost: %s", dev->vfio.name,
				    strerror(errno));
			break;
		}
		console->sent += (uint64_t)done;
		count = virtio_iov_slice(chain->out, count, (size_t)done, SIZE_MAX);
	}
	console->sent = 0;
	return 0;
}

static void output_ready(struct virtio_device *dev, uint32_t epoll_events)
{
	virtio_source_watch(&console_of(dev)->out.source, 0);
	virtio_queue_service(dev, TRANSMIT_QUEUE, transmit);
}

static void queue_notify(struct virtio_device *dev, unsigned index)
{
	struct console *console = console_of(dev);

	if (index == TRANSMIT_QUEUE)
		virtio_queue_service(dev, index, transmit);
	else if (console->in.always_ready)
		receive(dev, EPOLLIN);
	else
		virtio_source_watch(&console->in.source, EPOLLIN);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void reset(struct virtio_device *dev)
{
	struct console *console = console_of(dev);

	virtio_source_watch(&console->in.source, 0);
	virtio_source_watch(&console->out.source, 0);
	console->sent = 0;
}

static void end_close(struct console_end *end)
{
	virtio_source_remove(&end->source);
	fd_close(&end->fd);
}

static void destroy(struct virtio_device *dev)
{
	end_close(&console_of(dev)->in);
	end_close(&console_of(dev)->out);
}

static const struct virtio_device_ops console_ops = {
	.thread_kind = "virtio-console",
	.device_id = VIRTIO_ID_CONSOLE,
	.class_code = 0x078000,
	.queue_count = 2,
	.queue_notify = queue_notify,
	.reset = reset,
	.destroy = destroy,
};

static int end_watch(struct console *console, struct console_end *end, const char *what,
		     virtio_source_handler handler, struct error *e)
{
	int ret;

	if (end->fd < 0)
		return 0;
	/* Watched from the first time on that there is something to do. */
	ret = virtio_source_add(&console->dev, &end->source, end->fd, 0, handler);
	if (ret == -EPERM) {
		end->always_ready = true;
		return 0;
	}
	if (ret < 0)
		return error_set(e, -ret, "console-failed", NULL,
				 "virtio-console: cannot watch its %s: %s", what, strerror(-ret));
	return 0;
}

int virtio_console_create(int in_fd, int out_fd, struct vfio_device **out, struct error *e)
{
	struct console *console = calloc(1, sizeof(*console));
	int ret;

	if (!console)
		return error_set(e, ENOMEM, "device-failed", NULL, "virtio-console: out of memory");
	console->in.fd = console->out.fd = -1;
	ret = end_open(&console->in, in_fd, O_RDONLY);
	if (!ret)
		ret = end_open(&console->out, out_fd, O_WRONLY);
	if (ret) {
		error_set(e, -ret, "console-failed", NULL,
			  "virtio-console: cannot use its file descriptors: %s", strerror(-ret));
		goto fail;
	}
	ret = virtio_device_init(&console->dev, &console_ops, 0, "virtio-console", e);
	if (ret)
		goto fail;
	ret = end_watch(console, &console->in, "input", receive, e);
	if (!ret)
		ret = end_watch(console, &console->out, "output", output_ready, e);
	if (ret) {
		virtio_device_close(&console->dev);
		return ret;
	}
	*out = &console->dev.vfio;
	return 0;

fail:
	fd_close(&console->in.fd);
	fd_close(&console->out.fd);
	free(console);
	return ret;
}
