// SPDX-License-Identifier: Apache-2.0
/*
 * The arbiter's socket and its connections (arbiter.h). A connection becomes a launcher's by CREATE or a worker's by REGISTER, once (messages.c). What
 * it costs the arbiter is bounded, whoever it is: places, descriptors, time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter_private.h"

#define SILENT_OF_USER_MAX 32
#define SILENT_MAX	   128
#define RESUME_US	   5000
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* ---- connections ----------------------------------------------------------------------------- */

void client_end(struct client *client, const char *why)
{
	struct arbiter *arbiter = client->arbiter;
	struct live_vgpu *vgpu = client->vgpu;

	if (why)
		log_limited(LOG_LEVEL_WARN, "arbiter: process %d, user %u: %s: its connection ends",
			    client->pid, client->uid, why);
	sd_event_source_disable_unref(client->source);
	if (client->page) {
		turns_drop(client);
		worker_end(client);
	}
	if (client->asks)
		asker_end(client);
	for (unsigned i = 0; i < arbiter->client_count; i++)
		if (arbiter->clients[i] == client) {
			arbiter->clients[i] = arbiter->clients[--arbiter->client_count];
			break;
		}
	if (vgpu && client == vgpu->owner)
		vgpu_end(vgpu);
	else if (vgpu)
		turns_changed(vgpu->gpu);
	fd_close(&client->pidfd);
	fd_close(&client->fd);
	free(client);
}

/*
 * Connections that have not said yet what they are cost nothing to make. Beyond a few of one user, or many of all, the one that has been silent for
 * longest ends: who registers does so at once.
 */
static void make_room(struct arbiter *arbiter, uid_t uid)
{
	struct client *oldest = NULL, *oldest_of_uid = NULL;
	unsigned all = 0, of_uid = 0;

	for (unsigned i = 0; i < arbiter->client_count; i++) {
		struct client *client = arbiter->clients[i];

		if (client->vgpu)
			continue;
		all++;
		if (!oldest || client->since < oldest->since)
			oldest = client;
		if (client->uid != uid)
			continue;
		of_uid++;
		if (!oldest_of_uid || client->since < oldest_of_uid->since)
			oldest_of_uid = client;
	}
	if (of_uid >= SILENT_OF_USER_MAX)
		client_end(oldest_of_uid, "too many connections that say nothing");
	else if (all >= SILENT_MAX)
		client_end(oldest, "too many connections that say nothing");
}

/* The process that connected, by a descriptor that stays its own when its number is given to another. */
static int process_of(int connection, pid_t pid)
{
	int pidfd = -1;
	socklen_t size = sizeof(pidfd);

	if (!getsockopt(connection, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size))
		return pidfd;
	/* Before Linux 6.5. */
	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct arbiter *arbiter = opaque;
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);
	struct client *client = NULL;
	int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (connection < 0) {
		/* Out of descriptors or memory: not asked again before something may have changed. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			log_limited(LOG_LEVEL_WARN, "arbiter: accept: %s", strerror(errno));
			sd_event_source_set_enabled(source, SD_EVENT_OFF);
			arbiter_resume_later(arbiter);
		}
		return 0;
	}
	if (!getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
		make_room(arbiter, peer.uid);
		if (arbiter->client_count < ARBITER_CLIENTS_MAX)
			client = calloc(1, sizeof(*client));
	}
	if (!client || sd_event_add_io(arbiter->event, &client->source, connection, EPOLLIN,
				       client_on_message, client) < 0) {
		log_limited(LOG_LEVEL_WARN, "arbiter: no more connections are taken");
		free(client);
		close(connection);
		return 0;
	}
	client->arbiter = arbiter;
	client->fd = connection;
	client->pid = peer.pid;
	client->uid = peer.uid;
	client->pidfd = process_of(connection, peer.pid);
	client->since = arbiter->connections++;
	arbiter->clients[arbiter->client_count++] = client;
	return 0;
}

void arbiter_resume(struct arbiter *arbiter)
{
	for (unsigned i = 0; i < arbiter->client_count; i++)
		if (arbiter->clients[i]->paused) {
			arbiter->clients[i]->paused = false;
			sd_event_source_set_enabled(arbiter->clients[i]->source, SD_EVENT_ON);
		}
	sd_event_source_set_enabled(arbiter->source, SD_EVENT_ON);
}

static int on_resume(sd_event_source *source, uint64_t usec, void *arbiter)
{
	arbiter_resume(arbiter);
	return 0;
}

void arbiter_resume_later(struct arbiter *arbiter)
{
	int enabled;

	if (sd_event_source_get_enabled(arbiter->resume, &enabled) > 0)
		return;
	sd_event_source_set_time(arbiter->resume, monotonic_ns() / 1000 + RESUME_US);
	sd_event_source_set_enabled(arbiter->resume, SD_EVENT_ONESHOT);
}

/* ---- the socket ------------------------------------------------------------------------------ */

static int socket_failed(struct error *e, const char *path, const char *what)
{
	return error_set(e, errno, "arbiter-socket", NULL, "%s: %s: %s", path, what,
			 strerror(errno));
}

static int listen_on(struct arbiter *arbiter, const char *path, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(e, ENAMETOOLONG, "arbiter-socket", NULL,
				 "%s: longer than %zu bytes", path, sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	arbiter->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (arbiter->fd < 0)
		return socket_failed(e, path, "socket");
	/* What a dead arbiter left may go; a living one's, or another kind of file, may not. */
	if (!lstat(path, &st)) {
		if (!S_ISSOCK(st.st_mode)) {
			errno = EEXIST;
			return socket_failed(e, path, "is no socket");
		}
		if (!connect(arbiter->fd, (struct sockaddr *)&address, sizeof(address)) ||
		    errno != ECONNREFUSED) {
			errno = EADDRINUSE;
			return socket_failed(e, path, "an arbiter listens there");
		}
		unlink(path);
	}
	/* The socket's mode becomes its name's (unix(7)), so that there is no moment of another. */
	if (fchmod(arbiter->fd, 0600) < 0 ||
	    bind(arbiter->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return socket_failed(e, path, "bind");
	strcpy(arbiter->path, path);
	if (listen(arbiter->fd, 128) < 0)
		return socket_failed(e, path, "listen");
	return 0;
}

int arbiter_create(sd_event *event, const char *path, const struct sched_gpu_config *config,
		   uint64_t hog_ns, FILE *trace, struct arbiter **out, struct error *e)
{
	struct arbiter *arbiter = calloc(1, sizeof(*arbiter));
	int err;

	if (!arbiter)
		return error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
	arbiter->event = sd_event_ref(event);
	arbiter->config = *config;
	arbiter->hog_ns = hog_ns;
	arbiter->trace = trace;
	arbiter->next_identity = 1;
	err = listen_on(arbiter, path, e);
	if (!err) {
		err = sd_event_add_io(event, &arbiter->source, arbiter->fd, EPOLLIN, on_connection,
				      arbiter);
		if (err >= 0)
			err = sd_event_add_time(event, &arbiter->resume, CLOCK_MONOTONIC,
						UINT64_MAX, 1, on_resume, arbiter);
		if (err < 0)
			error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err));
		else
			sd_event_source_set_enabled(arbiter->resume, SD_EVENT_OFF);
	}
	if (err < 0) {
		arbiter_destroy(arbiter);
		return err;
	}
	if (trace)
		fputs("when_ns,vgpu,engine,waited_ns,target_ns,ran_ns,overrun_ns,debt_ns\n", trace);
	*out = arbiter;
	return 0;
}

void arbiter_destroy(struct arbiter *arbiter)
{
	if (!arbiter)
		return;
	while (arbiter->client_count)
		client_end(arbiter->clients[arbiter->client_count - 1], NULL);
	for (unsigned i = 0; i < arbiter->gpu_count; i++)
		gpu_free(arbiter->gpus[i]);
	sd_event_source_disable_unref(arbiter->resume);
	sd_event_source_disable_unref(arbiter->source);
	fd_close(&arbiter->fd);
	if (arbiter->path[0])
		unlink(arbiter->path);
	sd_event_unref(arbiter->event);
	free(arbiter);
}

unsigned arbiter_clients(const struct arbiter *arbiter)
{
	return arbiter->client_count;
}
