// SPDX-License-Identifier: Apache-2.0
/*
 * A device offered to one vfio-user client at a time: its socket, the clients that come and go, the loop.
 *
 * A client that goes, by itself or because it broke the protocol or a time limit, leaves nothing: requests
 * under way fail, the device is reset, its eventfds and its memory are let go. Then the next one may
 * come. One that comes while another is there is turned away at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "mdev/server/server.h"

/* ---- a client's end ------------------------------------------------------------------------ */

static void detach(struct mdev_server *server)
{
	struct vfio_device *device = server->device;

	if (server->fd < 0)
		return;
	server->client_source = sd_event_source_disable_unref(server->client_source);
	sd_event_source_set_enabled(server->timer, SD_EVENT_OFF);
	server_map_end(server);
	server_trap_end(server);
	/* A device that works for nobody touches no memory. */
	if (device->ops->reset && server->agreed)
		device->ops->reset(device);
	server_irq_release(server);
	server_dma_release(server);
	/* What came of a message that did not end, and what was not sent. */
	user_message_drop(&server->in.message);
	fd_close(&server->out.owned_fd);
	fd_close(&server->fd);
	server->in.got = 0;
	server->out.count = 0;
	server->reply_size = 0;
	server->in_deadline_ns = server->out_deadline_ns = 0;
	server->agreed = server->region_map = false;
}

static void drop(struct mdev_server *server, enum log_level level, const char *why)
{
	log_limited(level, "%s: %s; it is disconnected", server->device->name, why);
	detach(server);
}

static const char *receive_failure(int err)
{
	switch (-err) {
	case ECONNRESET:
	case EPIPE:
		return "the client closed the connection";
	case EPROTO:
		return "the client sent a malformed message";
	default:
		return strerror(-err);
	}
}

/* ---- sending ------------------------------------------------------------------------------- */

/* What goes out next: requests before the reply to what the device made them in. False: nothing. */
static bool next_output(struct mdev_server *server)
{
	struct server_output *out = &server->out;

	out->owned_fd = -1;
	if (server_map_next(server))
		return true;
	if (!server->reply_size)
		return false;
	out->iov = (struct iovec){ server->out_buffer, server->reply_size };
	out->at = &out->iov;
	out->count = 1;
	memcpy(out->fds, server->reply_fds, server->reply_fd_count * sizeof(out->fds[0]));
	out->fd_count = server->reply_fd_count;
	server->reply_size = 0;
	return true;
}

/* Send what there is. Returns 0 when nothing is left, -EAGAIN when the client must read first, -errno. */
static int pump(struct mdev_server *server)
{
	struct server_output *out = &server->out;
	int err = 0;

	while (!err && (out->count || next_output(server))) {
		err = user_socket_send_some(server->fd, &out->at, &out->count, out->fds,
					    &out->fd_count);
		if (!err)
			fd_close(&out->owned_fd);
	}
	if (err == -EAGAIN && !server->out_deadline_ns)
		server->out_deadline_ns = monotonic_ns() + server->timeout_ms * UINT64_C(1000000);
	if (!err)
		server->out_deadline_ns = 0;
	return err;
}

/* ---- time ---------------------------------------------------------------------------------- */

static void timer_update(struct mdev_server *server)
{
	const uint64_t ends[] = { server->in_deadline_ns, server->out_deadline_ns,
				  server_map_deadline(server) };
	uint64_t earliest = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
		if (ends[i] && (!earliest || ends[i] < earliest))
			earliest = ends[i];
	if (earliest)
		sd_event_source_set_time(server->timer, earliest / 1000 + 1);
	sd_event_source_set_enabled(server->timer, earliest ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct mdev_server *server = opaque;
	const uint64_t now = monotonic_ns(), asked = server_map_deadline(server);

	if (server->in_deadline_ns && now >= server->in_deadline_ns)
		drop(server, LOG_LEVEL_WARN, "the client stopped in the middle of a message");
	else if (server->out_deadline_ns && now >= server->out_deadline_ns)
		drop(server, LOG_LEVEL_WARN, "the client does not read what is sent to it");
	else if (asked && now >= asked)
		drop(server, LOG_LEVEL_WARN, "the client does not answer");
	else
		timer_update(server);
	return 0;
}

/* ---- the loop ------------------------------------------------------------------------------ */

/* After every event of a client: send, then listen for the one thing that can go on. */
static void settle(struct mdev_server *server)
{
	int err = pump(server);

	if (err && err != -EAGAIN) {
		drop(server, LOG_LEVEL_INFO, receive_failure(err));
		return;
	}
	sd_event_source_set_io_events(server->client_source,
				      (err ? EPOLLOUT : EPOLLIN) | EPOLLRDHUP);
	timer_update(server);
}

/* One message, if it is whole. Returns whether there may be another. */
static bool take_message(struct mdev_server *server)
{
	int ret = user_socket_receive_some(server->fd, &server->in);
	const char *wrong;

	if (ret < 0) {
		drop(server, ret == -ECONNRESET ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
		     receive_failure(ret));
		return false;
	}
	if (!ret && !server->in.got)
		server->in_deadline_ns = 0;
	else if (!ret && !server->in_deadline_ns)
		server->in_deadline_ns = monotonic_ns() + server->timeout_ms * UINT64_C(1000000);
	if (!ret)
		return false;
	server->in_deadline_ns = 0;
	wrong = server_handle(server, &server->in.message);
	user_message_drop(&server->in.message);
	if (wrong)
		drop(server, LOG_LEVEL_WARN, wrong);
	return !wrong;
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *opaque)
{
	struct mdev_server *server = opaque;
	int err = 0;

	/* Who does not hear answers any more has nothing to ask. */
	if (revents & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
		drop(server, LOG_LEVEL_INFO, "the client closed the connection");
		return 0;
	}
	err = pump(server);
	for (unsigned i = 0; i < SERVER_TURN && !err && take_message(server); i++)
		err = pump(server);
	if (server->fd >= 0)
		settle(server);
	return 0;
}

/* The device asked something of the client. */
static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *opaque)
{
	struct mdev_server *server = opaque;
	eventfd_t count;

	eventfd_read(fd, &count);
	if (server->fd >= 0)
		settle(server);
	return 0;
}

int mdev_server_attach(struct mdev_server *server, int fd, struct error *e)
{
	const char *name = server->device->name;
	int err = 0, flags = fcntl(fd, F_GETFL);

	if (server->fd >= 0) {
		fd_close(&fd);
		return error_set(e, EBUSY, "device-in-use", "end the VM that has it",
				 "%s: another client has the device", name);
	}
	/* The loop may be woken for nothing. */
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		err = -errno;
	if (!err)
		err = sd_event_add_io(server->event, &server->client_source, fd,
				      EPOLLIN | EPOLLRDHUP, on_client, server);
	if (err < 0) {
		fd_close(&fd);
		return error_set(e, -err, "event-loop", NULL, "%s: a client cannot be served: %s",
				 name, strerror(-err));
	}
	/* Before the listener: who left is gone when the next one is let in. */
	sd_event_source_set_priority(server->client_source, SD_EVENT_PRIORITY_IMPORTANT);
	server->fd = fd;
	server->client_fds_max = USER_DEFAULT_FDS;
	return 0;
}

bool mdev_server_attached(const struct mdev_server *server)
{
	return server->fd >= 0;
}

static int on_listener(sd_event_source *source, int listener, uint32_t revents, void *opaque)
{
	struct mdev_server *server = opaque;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct error e = { 0 };

	if (fd < 0) {
		/* A client that left again, or no descriptor: it is asked again when one comes. */
		log_limited(LOG_LEVEL_WARN, "%s: accept: %s", server->device->name,
			    strerror(errno));
		return 0;
	}
	if (mdev_server_attach(server, fd, &e))
		log_limited(LOG_LEVEL_WARN, "%s", e.text);
	else
		log_limited(LOG_LEVEL_INFO, "%s: a client came", server->device->name);
	return 0;
}

/* ---- what the device is -------------------------------------------------------------------- */

/* A region's file goes to the client, which must not be able to cut it off under the device's feet. */
static bool file_fits(int fd, uint64_t offset, const struct vfio_region *region)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 || !region->area_count)
		return false;
	for (unsigned i = 0; i < region->area_count; i++) {
		const struct vfio_area *area = &region->areas[i];

		if (offset > (uint64_t)st.st_size ||
		    area->offset + area->size > (uint64_t)st.st_size - offset)
			return false;
	}
	return true;
}

static int look_at_region(struct mdev_server *server, uint32_t index)
{
	struct server_region *kept = &server->regions[index];
	struct vfio_device *device = server->device;
	int err = device->ops->get_region(device, index, &kept->region);

	kept->fd = -1;
	if (err || !(kept->region.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return err;
	if (device->ops->region_file)
		kept->fd = device->ops->region_file(device, index, &kept->fd_offset);
	if (kept->fd >= 0 && file_fits(kept->fd, kept->fd_offset, &kept->region))
		return 0;
	log_warn("%s: region %u is not offered to be mapped: it has no sealed file of its size",
		 device->name, index);
	kept->fd = -1;
	kept->region.flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
	kept->region.area_count = 0;
	return 0;
}

static int look_at_device(struct mdev_server *server, struct error *e)
{
	struct vfio_device *device = server->device;
	int err = 0;

	server->region_count = MIN(device->region_count, (uint32_t)SERVER_REGIONS_MAX);
	server->irq_count = MIN(device->irq_count, (uint32_t)SERVER_IRQS_MAX);
	for (uint32_t i = 0; i < server->region_count && !err; i++)
		err = look_at_region(server, i);
	for (uint32_t i = 0; i < server->irq_count && !err; i++) {
		err = device->ops->get_irq(device, i, &server->irqs[i]);
		server->irqs[i].count = MIN(server->irqs[i].count, (uint32_t)VFIO_PCI_VECTORS_MAX);
	}
	return err ? error_set(e, -err, "bad-device", NULL, "%s: it cannot be offered: %s",
			       device->name, strerror(-err))
		   : 0;
}

/* ---- the socket ---------------------------------------------------------------------------- */

static int listen_at(struct mdev_server *server, const char *path, struct error *e)
{
	int err = unix_listener_open(path, &server->listener, e);

	if (err)
		return err;
	err = sd_event_add_io(server->event, &server->listener_source, server->listener.fd, EPOLLIN,
			      on_listener, server);
	return err < 0 ? error_set(e, -err, "event-loop", NULL, "%s: %s", path, strerror(-err)) : 0;
}

/* ---- life ---------------------------------------------------------------------------------- */

static int loop_sources(struct mdev_server *server, struct error *e)
{
	int err;

	server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = server->wake_fd < 0 ? -errno
				  : sd_event_add_io(server->event, &server->wake_source,
						    server->wake_fd, EPOLLIN, on_wake, server);
	if (err >= 0)
		err = sd_event_add_time(server->event, &server->timer, CLOCK_MONOTONIC, UINT64_MAX,
					1000, on_timer, server);
	if (err < 0)
		return error_set(e, -err, "event-loop", NULL, "%s: no event loop: %s",
				 server->device->name, strerror(-err));
	sd_event_source_set_enabled(server->timer, SD_EVENT_OFF);
	return 0;
}

int mdev_server_create(struct sd_event *event, struct vfio_device *device,
		       const struct mdev_server_options *options, struct mdev_server **out,
		       struct error *e)
{
	struct mdev_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	server->event = sd_event_ref(event);
	server->device = device;
	server->timeout_ms = options->timeout_ms ? options->timeout_ms : SERVER_TIMEOUT_MS;
	server->fd = server->wake_fd = server->out.owned_fd = -1;
	server->listener = (struct unix_listener){ .fd = -1, .folder_fd = -1 };
	for (unsigned i = 0; i < SERVER_REQUESTS_MAX; i++)
		server->requests[i].fd = -1;
	pthread_mutex_init(&server->lock, NULL);
	server->in_buffer = malloc(USER_PAYLOAD_MAX);
	server->out_buffer = malloc(sizeof(struct user_header) + USER_PAYLOAD_MAX);
	server->in.message.payload = server->in_buffer;
	if (!server->in_buffer || !server->out_buffer)
		err = error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	else
		err = look_at_device(server, e);
	if (!err)
		err = loop_sources(server, e);
	if (!err && options->path)
		err = listen_at(server, options->path, e);
	if (err) {
		mdev_server_destroy(server);
		return err;
	}
	*out = server;
	return 0;
}

void mdev_server_destroy(struct mdev_server *server)
{
	if (!server)
		return;
	detach(server);
	sd_event_source_disable_unref(server->listener_source);
	sd_event_source_disable_unref(server->wake_source);
	sd_event_source_disable_unref(server->timer);
	unix_listener_close(&server->listener);
	fd_close(&server->wake_fd);
	sd_event_unref(server->event);
	pthread_mutex_destroy(&server->lock);
	free(server->in_buffer);
	free(server->out_buffer);
	free(server);
}
