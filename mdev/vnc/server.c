// SPDX-License-Identifier: Apache-2.0
/*
 * server: the thread and its loop. Each turn: take what viewers say, take over what the worker has noted, have copied what is new
 * where somebody waits for it, give each viewer the next piece of its update; then sleep until there is something of it again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mdev/vnc/private.h"

#define POLLS_MAX (1 + VNC_PLACES_MAX + VNC_VIEWERS_TOTAL)
#define NEVER	  UINT64_MAX

/* ---- the loop ----------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return MIN(a, b);
}

/* When there is something to do though nothing happens. */
static uint64_t next_time(const struct vnc_server *server)
{
	uint64_t time = server->damaged ? server->pull_after_ns : NEVER;

	if (server->size_waits)
		time = earlier(time, server->size_after_ns);

	FOR_EACH_VIEWER(server, viewer)
	{
		if (viewer->again)
			return 0;
		if (viewer->stage != VNC_NORMAL)
			time = earlier(time, viewer->deadline_ns);
		if (viewer->stage == VNC_SNIFF || viewer->stage == VNC_REFUSED)
			time = earlier(time, viewer->until_ns);
		if (!vnc_channel_idle(&viewer->channel))
			time = earlier(time, viewer->channel.moved_ns + server->stall_ns + 1);
		if (viewer->asked_until_ns)
			time = earlier(time, viewer->asked_until_ns);
	}
	for (unsigned i = 0; i < server->head_count; i++)
		if (server->heads[i].is_wanted)
			time = earlier(time, server->heads[i].mode_after_ns);
	return time;
}

static int sleep_ms(uint64_t time, uint64_t now)
{
	if (time == NEVER)
		return -1;
	/* Up, lest it be awake too early and turn in circles. */
	return time <= now ? 0 : (int)MIN((time - now + 999999) / 1000000, 60000ul);
}

static void wait_for_something(struct vnc_server *server)
{
	struct pollfd polls[POLLS_MAX] = { { .fd = server->wake_fd, .events = POLLIN } };
	uint64_t now = monotonic_ns(), time = next_time(server);
	unsigned count = 1;

	for (unsigned i = 0; i < VNC_PLACES_MAX; i++) {
		const struct vnc_screen *screen = &server->screens[i];

		if (screen->listener.fd < 0)
			continue;
		if (screen->accept_after_ns > now)
			time = earlier(time, screen->accept_after_ns);
		else
			polls[count++] = (struct pollfd){ screen->listener.fd, POLLIN, 0 };
	}
	FOR_EACH_VIEWER(server, viewer)
	polls[count++] =
		(struct pollfd){ viewer->channel.fd, vnc_channel_events(&viewer->channel), 0 };
	if (poll(polls, count, sleep_ms(time, now)) < 0 && errno != EINTR)
		log_limited(LOG_LEVEL_ERROR, "vnc: poll: %s", strerror(errno));
}

static bool woken_to_stop(struct vnc_server *server)
{
	uint64_t count;
	bool stop;

	if (read(server->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_limited(LOG_LEVEL_WARN, "vnc: wake: %s", strerror(errno));
	pthread_mutex_lock(&server->shared.lock);
	server->shared.woken = false;
	server->shared.stats.wakeups++;
	stop = server->shared.stop;
	pthread_mutex_unlock(&server->shared.lock);
	return stop;
}

static void accept_one(struct vnc_screen *screen, uint64_t now)
{
	struct sockaddr_storage address = { 0 };
	socklen_t size = sizeof(address);
	char peer[INET6_ADDRSTRLEN] = "local";
	int fd;

	if (screen->listener.fd < 0 || now < screen->accept_after_ns)
		return;
	fd = accept4(screen->listener.fd, (struct sockaddr *)&address, &size,
		     SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* Out of descriptors, it stays readable: later then, and no busy loop. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_limited(LOG_LEVEL_WARN, "vnc: accept: %s", strerror(errno));
			screen->accept_after_ns = now + NSEC_PER_SEC / 10;
		}
		return;
	}
	/* TLS costs more here than there: those who connect again and again do not get all of the thread. */
	screen->accept_after_ns = now + VNC_ACCEPT_NS;
	if (address.ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)&address)->sin_addr, peer,
			  sizeof(peer));
	else if (address.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)&address)->sin6_addr, peer,
			  sizeof(peer));
	vnc_viewer_accept(screen, fd, peer, now);
}

/* Modes that viewers asked for; a guest gets the last one of a quick row. */
static void change_modes(struct vnc_server *server, uint64_t now)
{
	for (unsigned i = 0; i < server->head_count; i++) {
		struct vnc_head *head = &server->heads[i];
		int err;

		if (!head->is_wanted || now < head->mode_after_ns)
			continue;
		head->is_wanted = false;
		head->mode_after_ns = now + VNC_MODE_NS;
		err = virtio_gpu_head_set(server->device, i, &head->wanted);
		if (err)
			log_limited(LOG_LEVEL_WARN, "vnc: head %u: %s", i, strerror(-err));
	}
}

static void count_viewers(struct vnc_server *server)
{
	unsigned count = 0;

	FOR_EACH_VIEWER(server, viewer)
	count++;
	pthread_mutex_lock(&server->shared.lock);
	server->shared.stats.viewers = server->let_in;
	server->shared.stats.handshakes = count - server->let_in;
	pthread_mutex_unlock(&server->shared.lock);
}

/* -EPIPE is an end like any other. */
static void drop(struct vnc_viewer *viewer, int err)
{
	if (err != -EPIPE && err != -ECONNRESET && err != -EACCES)
		log_limited(LOG_LEVEL_WARN, "vnc: viewer %u (%s) is dropped: %s", viewer->number,
			    viewer->peer, strerror(-err));
	vnc_viewer_drop(viewer);
}

static void turn(struct vnc_server *server)
{
	const uint64_t now = monotonic_ns();
	int err;

	for (unsigned i = 0; i < VNC_PLACES_MAX; i++)
		accept_one(&server->screens[i], now);
	FOR_EACH_VIEWER(server, viewer)
	if ((err = vnc_viewer_serve(viewer, now)))
		drop(viewer, err);
	change_modes(server, now);
	vnc_screens_gather(server);
	vnc_screens_pull(server, now);
	FOR_EACH_VIEWER(server, viewer)
	if ((err = vnc_viewer_update(viewer, now)))
		drop(viewer, err);
	count_viewers(server);
}

static void *run(void *opaque)
{
	struct vnc_server *server = opaque;

	while (!woken_to_stop(server)) {
		turn(server);
		wait_for_something(server);
	}
	FOR_EACH_VIEWER(server, viewer)
	vnc_viewer_drop(viewer);
	return NULL;
}

/* ---- life --------------------------------------------------------------------------------------- */

static int screen_init(struct vnc_server *server, unsigned index, const char *where,
		       struct error *e)
{
	struct vnc_screen *screen = &server->screens[index];

	if (!where)
		return 0;
	screen->first = index == VNC_DESKTOP ? 0 : index;
	screen->count = index == VNC_DESKTOP ? server->head_count : 1;
	if (index == VNC_DESKTOP || server->head_count == 1)
		snprintf(screen->title, sizeof(screen->title), "%s", server->name);
	else
		snprintf(screen->title, sizeof(screen->title), "%s, head %u", server->name, index);
	if (vnc_encoder_screen(screen))
		return error_set(e, ENOMEM, "no-memory", NULL, "vnc: out of memory");
	return vnc_place_open(screen, where, e);
}

static int open_all(struct vnc_server *server, const struct vnc_config *config, struct error *e)
{
	int err = 0;

	if (config->password_file)
		err = vnc_password_read(server, config->password_file, e);
	if (!err && config->tls)
		err = vnc_tls_read(server, config->tls, e);
	if (!err)
		err = vnc_encoder_open(server, e);
	server->wake_fd = err ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!err && server->wake_fd < 0)
		err = error_set(e, errno, "no-memory", NULL, "vnc: eventfd: %s", strerror(errno));
	for (unsigned i = 0; i < server->head_count && !err; i++)
		err = screen_init(server, i, config->places[i], e);
	return err ? err : screen_init(server, VNC_DESKTOP, config->desktop, e);
}

static uint64_t ms_to_ns(unsigned ms, unsigned otherwise)
{
	return (ms ? ms : otherwise) * UINT64_C(1000000);
}

int vnc_server_create(struct vfio_device *device, const struct vnc_config *config,
		      struct vnc_server **out, struct error *e)
{
	struct vnc_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return error_set(e, ENOMEM, "no-memory", NULL, "vnc: out of memory");
	server->device = device;
	server->seat = config->seat;
	server->head_count = config->head_count;
	server->plaintext = config->plaintext;
	server->stall_ns = ms_to_ns(config->stall_ms, VNC_STALL_MS);
	server->handshake_ns = ms_to_ns(config->handshake_ms, VNC_HANDSHAKE_MS);
	server->sniff_ns = ms_to_ns(config->sniff_ms, VNC_SNIFF_MS);
	server->wake_fd = server->scratch_fd = server->work_fd = -1;
	snprintf(server->name, sizeof(server->name), "%s", config->name ? config->name : "vgpu");
	pthread_mutex_init(&server->shared.lock, NULL);
	for (unsigned i = 0; i < VNC_PLACES_MAX; i++) {
		server->screens[i].server = server;
		server->screens[i].index = i;
		server->screens[i].listener = (struct unix_listener){ .fd = -1, .folder_fd = -1 };
	}
	for (unsigned i = 0; i < server->head_count; i++) {
		server->fallback[i].width = MAX(config->heads[i].width, VIRTIO_GPU_WIDTH_MIN);
		server->fallback[i].height = MAX(config->heads[i].height, VIRTIO_GPU_HEIGHT_MIN);
	}
	err = open_all(server, config, e);
	if (err) {
		vnc_server_destroy(server);
		return err;
	}
	*out = server;
	return 0;
}

int vnc_server_start(struct vnc_server *server, struct error *e)
{
	int err = thread_create(&server->thread, "vnc", run, server);

	if (err)
		return error_set(e, -err, "no-thread", NULL, "vnc: %s", strerror(-err));
	server->running = true;
	return 0;
}

void vnc_server_destroy(struct vnc_server *server)
{
	const uint64_t one = 1;

	if (!server)
		return;
	if (server->running) {
		pthread_mutex_lock(&server->shared.lock);
		server->shared.stop = true;
		if (write(server->wake_fd, &one, sizeof(one)) < 0)
			log_error("vnc: wake: %s", strerror(errno));
		pthread_mutex_unlock(&server->shared.lock);
		pthread_join(server->thread, NULL);
	}
	for (unsigned i = 0; i < VNC_PLACES_MAX; i++) {
		vnc_place_close(&server->screens[i]);
		vnc_encoder_screen_free(&server->screens[i]);
	}
	vnc_encoder_close(server);
	fd_close(&server->wake_fd);
	if (server->priority)
		gnutls_priority_deinit(server->priority);
	if (server->credentials)
		gnutls_certificate_free_credentials(server->credentials);
	pthread_mutex_destroy(&server->shared.lock);
	gnutls_memset(server->password, 0, sizeof(server->password));
	free(server);
}

/* ---- questions ---------------------------------------------------------------------------------- */

unsigned vnc_server_port(const struct vnc_server *server, unsigned head)
{
	return server->screens[head].port;
}

void vnc_server_stats(struct vnc_server *server, struct vnc_stats *stats)
{
	pthread_mutex_lock(&server->shared.lock);
	*stats = server->shared.stats;
	pthread_mutex_unlock(&server->shared.lock);
}
