// SPDX-License-Identifier: Apache-2.0
/*
 * The arbiter's connections (arbiter.h): who may say what, and what of it is believed.
 *
 * A connection becomes a launcher's by CREATE or a worker's by REGISTER, once. Messages are copied out of the kernel and
 * judged there; what is no message, out of turn or out of range ends that connection, and whatever it had is over. A
 * launcher must be root or of the arbiter's own user. A worker shows a token.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter_private.h"

#define MESSAGES_A_TURN 16 /* of one connection before the others are heard */

/* ---- answers --------------------------------------------------------------------------------- */

int client_answer(const struct client *client, const struct live_message *message, const int *fds,
		  unsigned count)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(*message) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
	} control = { 0 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count) {
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
	}
	return sendmsg(client->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int refuse(const struct client *client, uint32_t type, const struct error *e)
{
	struct live_message message = { .type = type, .version = LIVE_VERSION, .error = e->err };

	snprintf(message.text, sizeof(message.text), "%.159s", e->text);
	snprintf(message.code, sizeof(message.code), "%.31s", e->code ? e->code : "");
	return client_answer(client, &message, NULL, 0);
}

/* ---- messages -------------------------------------------------------------------------------- */

static bool is_text(const char text[LIVE_NAME_SIZE])
{
	const size_t length = strnlen(text, LIVE_NAME_SIZE);

	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] > '~' ||
		    strchr("\"\\,", text[i]))
			return false;
	return length && length < LIVE_NAME_SIZE;
}

/* Returns why the connection is to end, or NULL. */
static const char *handle(struct client *client, const struct live_message *message)
{
	const bool launcher = client->uid == 0 || client->uid == geteuid();
	const bool owns = client->vgpu && !client->page, works = client->page;
	const enum sched_engine engine = (enum sched_engine)message->engine;
	struct error e = { 0 };
	int err = 0;

	if (message->version != LIVE_VERSION)
		return "another version";
	if (message->engine >= SCHED_ENGINES)
		return "no such engine";
	switch (message->type) {
	case LIVE_CREATE:
		if (!launcher || owns || works)
			return "may not create a vGPU";
		if (!is_text(message->gpu) || !is_text(message->name))
			return "a name that is none";
		err = vgpu_create(client, message, &e);
		if (err && e.err)
			err = refuse(client, LIVE_CREATED, &e);
		break;
	case LIVE_CHANGE:
		if (!launcher || !owns)
			return "may not change a vGPU";
		err = vgpu_change(client, message, &e);
		if (err && e.err)
			err = refuse(client, LIVE_CREATED, &e);
		break;
	case LIVE_STATUS:
		if (!launcher || works)
			return "may not ask for the status";
		err = status_answer(client, &e);
		if (err && e.err)
			err = refuse(client, LIVE_STATUS, &e);
		break;
	case LIVE_REGISTER:
		if (owns || works)
			return "registers twice";
		err = worker_register(client, message, &e);
		if (err && e.err)
			err = refuse(client, LIVE_REGISTERED, &e);
		break;
	case LIVE_WANT:
		if (!works)
			return "wants a turn without a vGPU";
		turns_want(client, engine);
		break;
	case LIVE_RELEASE:
		if (!works)
			return "gives back what it has not";
		turns_release(client, engine, message->used_ns, message->again);
		break;
	case LIVE_FORCED:
		if (!works)
			return "forces work without a vGPU";
		turns_forced(client, engine, message->used_ns);
		break;
	default:
		return "an unknown message";
	}
	return err ? "an answer that it does not take" : NULL;
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct client *client = opaque;

	for (unsigned i = 0; i < MESSAGES_A_TURN; i++) {
		struct live_message message;
		const char *why;
		/* No room for descriptors: the kernel drops what is sent along. */
		ssize_t size = recv(fd, &message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);

		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (size != sizeof(message)) {
			client_end(client, size > 0 ? "a message of another size" : NULL);
			return 0;
		}
		why = handle(client, &message);
		if (why) {
			client_end(client, why);
			return 0;
		}
	}
	return 0;
}

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
	for (unsigned i = 0; i < arbiter->client_count; i++)
		if (arbiter->clients[i] == client) {
			arbiter->clients[i] = arbiter->clients[--arbiter->client_count];
			break;
		}
	if (vgpu && client == vgpu->owner)
		vgpu_end(vgpu);
	else if (vgpu)
		turns_changed(vgpu->gpu);
	fd_close(&client->fd);
	free(client);
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct arbiter *arbiter = opaque;
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);
	struct client *client;
	int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (connection < 0)
		return 0;
	client = arbiter->client_count < ARBITER_CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
	if (!client || getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
	    sd_event_add_io(arbiter->event, &client->source, connection, EPOLLIN, on_client,
			    client) < 0) {
		log_limited(LOG_LEVEL_WARN, "arbiter: no more connections are taken");
		free(client);
		close(connection);
		return 0;
	}
	client->arbiter = arbiter;
	client->fd = connection;
	client->pid = peer.pid;
	client->uid = peer.uid;
	arbiter->clients[arbiter->client_count++] = client;
	return 0;
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
		if (err < 0)
			error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err));
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
	for (unsigned i = 0; i < arbiter->gpu_count; i++) {
		sd_event_source_disable_unref(arbiter->gpus[i]->timer);
		sched_gpu_destroy(arbiter->gpus[i]->sched);
		free(arbiter->gpus[i]);
	}
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
