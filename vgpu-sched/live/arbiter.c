// SPDX-License-Identifier: Apache-2.0
/*
 * The arbiter's connections (arbiter.h): who may say what, and what of it is believed.
 *
 * A connection becomes a launcher's by CREATE or a worker's by REGISTER, once. Messages are copied out of the kernel and
 * judged there; what is no message, out of turn or out of range ends that connection, and whatever it had is over. A
 * launcher must be root or of the arbiter's own user. A worker shows a token.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter_private.h"

#define MESSAGES_A_TURN 16 /* of one connection before the others are heard */
#define DESCRIPTORS_MAX 2

/* ---- answers --------------------------------------------------------------------------------- */

static int answer(const struct client *client, const struct live_message *message, const int *fds,
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
	/* Who does not read its answers is not waited for. */
	return sendmsg(client->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int refuse(const struct client *client, uint32_t type, const struct error *e)
{
	struct live_message message = { .type = type, .version = LIVE_VERSION, .error = e->err };

	snprintf(message.text, sizeof(message.text), "%.159s", e->text);
	return answer(client, &message, NULL, 0);
}

/* A memfd of @size bytes that nobody can cut. -errno. */
static int page_file(const char *name, size_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		fd_close(&fd);
	return fd < 0 ? -ENOMEM : fd;
}

/* ---- GPUs and vGPUs -------------------------------------------------------------------------- */

static struct live_gpu *gpu_find(struct arbiter *arbiter, const char *name, struct error *e)
{
	struct sched_gpu_config config = arbiter->config;
	struct live_gpu *gpu;
	int err;

	for (unsigned i = 0; i < arbiter->gpu_count; i++)
		if (!strcmp(arbiter->gpus[i]->name, name))
			return arbiter->gpus[i];
	if (arbiter->gpu_count == ARBITER_GPUS_MAX) {
		error_set(e, ENOSPC, "too-many-gpus", NULL, "%u GPUs are the most",
			  ARBITER_GPUS_MAX);
		return NULL;
	}
	gpu = calloc(1, sizeof(*gpu));
	if (!gpu) {
		error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
		return NULL;
	}
	snprintf(gpu->name, sizeof(gpu->name), "%s", name);
	gpu->arbiter = arbiter;
	config.vgpus_max = ARBITER_VGPUS_MAX;
	err = sched_gpu_create(&config, &gpu->sched, e);
	if (!err) {
		err = sd_event_add_time(arbiter->event, &gpu->timer, CLOCK_MONOTONIC, UINT64_MAX, 1,
					turns_on_timer, gpu);
		if (err < 0)
			error_set(e, -err, "event-loop", NULL, "timer: %s", strerror(-err));
	}
	if (err < 0) {
		sched_gpu_destroy(gpu->sched);
		free(gpu);
		return NULL;
	}
	sd_event_source_set_enabled(gpu->timer, SD_EVENT_OFF);
	arbiter->gpus[arbiter->gpu_count++] = gpu;
	return gpu;
}

static void config_read(const struct live_message *message, struct sched_vgpu_config *config)
{
	config->policy = (enum sched_policy)message->policy;
	config->weight = message->weight;
	config->share_ppm = message->share_ppm;
	config->elastic_ppm = message->elastic_ppm;
	config->credit_max_ns = message->credit_max_ns;
	config->surplus_max_ns = message->surplus_max_ns;
}

static int vgpu_create(struct client *client, const struct live_message *message, struct error *e)
{
	struct arbiter *arbiter = client->arbiter;
	struct live_message reply = { .type = LIVE_CREATED, .version = LIVE_VERSION };
	struct live_vgpu *vgpu = calloc(1, sizeof(*vgpu));
	struct sched_account account = { 0 };
	int err;

	if (!vgpu)
		return error_set(e, ENOMEM, "no-memory", NULL, "out of memory");
	memcpy(vgpu->name, message->name, sizeof(vgpu->name) - 1);
	vgpu->memory_quota = message->memory_quota;
	vgpu->page_fd = -1;
	config_read(message, &vgpu->config);
	account.identity = vgpu->config.identity = arbiter->next_identity++;
	for (unsigned i = 0; i < SCHED_ENGINES; i++)
		account.engines[i].credit_ns =
			(int64_t)MIN(message->credit_ns, (uint64_t)INT64_MAX);
	vgpu->gpu = gpu_find(arbiter, message->gpu, e);
	if (!vgpu->gpu) {
		err = e && e->err ? -e->err : -EINVAL;
		goto failed;
	}
	if (getrandom(vgpu->token, sizeof(vgpu->token), 0) != sizeof(vgpu->token)) {
		err = error_set(e, EIO, "no-random", NULL, "getrandom: %s", strerror(errno));
		goto failed;
	}
	vgpu->page_fd = page_file("divvy-vgpu", sizeof(struct live_vgpu_page));
	if (vgpu->page_fd < 0) {
		err = error_set(e, -vgpu->page_fd, "no-memory", NULL, "memfd: %s",
				strerror(-vgpu->page_fd));
		goto failed;
	}
	err = sched_vgpu_join(vgpu->gpu->sched, monotonic_ns(), &vgpu->config,
			      vgpu->config.policy == SCHED_BURST ? &account : NULL, &vgpu->index,
			      e);
	if (err)
		goto failed;
	vgpu->gpu->vgpus[vgpu->index] = vgpu;
	vgpu->owner = client;
	client->vgpu = vgpu;
	memcpy(reply.token, vgpu->token, sizeof(reply.token));
	return answer(client, &reply, NULL, 0);
failed:
	fd_close(&vgpu->page_fd);
	free(vgpu);
	return err;
}

static int vgpu_change(struct client *client, const struct live_message *message, struct error *e)
{
	const struct live_message reply = { .type = LIVE_CREATED, .version = LIVE_VERSION };
	struct live_vgpu *vgpu = client->vgpu;
	struct sched_vgpu_config config = vgpu->config;
	int err;

	config_read(message, &config);
	err = sched_vgpu_change(vgpu->gpu->sched, monotonic_ns(), vgpu->index, &config, e);
	if (err)
		return err;
	vgpu->config = config;
	turns_changed(vgpu->gpu);
	return answer(client, &reply, NULL, 0);
}

static void vgpu_end(struct live_vgpu *vgpu)
{
	struct arbiter *arbiter = vgpu->gpu->arbiter;

	/* Its workers have lost it: no registration, no GPU. client_end() moves the last one to this place. */
	for (unsigned i = arbiter->client_count; i--;)
		if (arbiter->clients[i]->vgpu == vgpu && arbiter->clients[i] != vgpu->owner)
			client_end(arbiter->clients[i], NULL);
	sched_vgpu_leave(vgpu->gpu->sched, monotonic_ns(), vgpu->index, NULL);
	vgpu->gpu->vgpus[vgpu->index] = NULL;
	turns_changed(vgpu->gpu);
	fd_close(&vgpu->page_fd);
	free(vgpu);
}

/* ---- workers --------------------------------------------------------------------------------- */

/* All tokens are compared to their end: how long it takes says nothing. */
static struct live_vgpu *vgpu_of_token(struct arbiter *arbiter,
				       const uint8_t token[LIVE_TOKEN_SIZE])
{
	struct live_vgpu *found = NULL;

	for (unsigned g = 0; g < arbiter->gpu_count; g++)
		for (unsigned i = 0; i < ARBITER_VGPUS_MAX; i++) {
			struct live_vgpu *vgpu = arbiter->gpus[g]->vgpus[i];
			uint8_t different = 0;

			for (unsigned b = 0; vgpu && b < LIVE_TOKEN_SIZE; b++)
				different |= vgpu->token[b] ^ token[b];
			if (vgpu && !different)
				found = vgpu;
		}
	return found;
}

static int worker_register(struct client *client, const struct live_message *message,
			   struct error *e)
{
	struct live_message reply = { .type = LIVE_REGISTERED, .version = LIVE_VERSION };
	struct live_vgpu *vgpu = vgpu_of_token(client->arbiter, message->token);
	int fds[DESCRIPTORS_MAX], err;
	void *page;

	if (!vgpu)
		return error_set(e, EACCES, "no-such-vgpu", NULL, "no vGPU has that token");
	fds[0] = page_file("divvy-turns", sizeof(struct live_page));
	if (fds[0] < 0)
		return error_set(e, -fds[0], "no-memory", NULL, "memfd: %s", strerror(-fds[0]));
	fds[1] = vgpu->page_fd;
	page = mmap(NULL, sizeof(struct live_page), PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	if (page == MAP_FAILED) {
		err = error_set(e, errno, "no-memory", NULL, "mmap: %s", strerror(errno));
	} else {
		client->page = page;
		client->vgpu = vgpu;
		vgpu->workers++;
		reply.memory_quota = vgpu->memory_quota;
		memcpy(reply.name, vgpu->name, sizeof(reply.name));
		err = answer(client, &reply, fds, DESCRIPTORS_MAX);
	}
	fd_close(&fds[0]);
	return err;
}

/* ---- status ---------------------------------------------------------------------------------- */

static json_t *vgpu_status(const struct live_vgpu *vgpu)
{
	json_t *engines = json_object();

	for (unsigned e = 0; e < SCHED_ENGINES; e++) {
		struct sched_vgpu_stats stats = { 0 };

		sched_vgpu_stats(vgpu->gpu->sched, monotonic_ns(), vgpu->index,
				 (enum sched_engine)e, &stats);
		json_object_set_new(engines, sched_engine_name((enum sched_engine)e),
				    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "used_ns",
					      (json_int_t)stats.used_ns, "surcharge_ns",
					      (json_int_t)stats.surcharge_ns, "grants",
					      (json_int_t)stats.grants, "waiting",
					      (json_int_t)stats.pending, "overrun_ns",
					      (json_int_t)stats.overrun_ns, "debt_ns",
					      (json_int_t)stats.debt_ns, "throttled_ns",
					      (json_int_t)stats.throttled_ns, "credit_ns",
					      (json_int_t)stats.credit_ns));
	}
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:o}", "name", vgpu->name, "gpu",
			 vgpu->gpu->name, "policy", sched_policy_name(vgpu->config.policy),
			 "weight", (int)vgpu->config.weight, "workers", (int)vgpu->workers,
			 "memory_quota", (json_int_t)vgpu->memory_quota, "engines", engines);
}

static int status(struct client *client, struct error *e)
{
	const struct live_message reply = { .type = LIVE_STATUS, .version = LIVE_VERSION };
	json_t *vgpus = json_array(), *json;
	char *text;
	int fd = -1, err;

	for (unsigned g = 0; g < client->arbiter->gpu_count; g++)
		for (unsigned i = 0; i < ARBITER_VGPUS_MAX; i++)
			if (client->arbiter->gpus[g]->vgpus[i])
				json_array_append_new(
					vgpus, vgpu_status(client->arbiter->gpus[g]->vgpus[i]));
	json = json_pack("{s:I, s:i, s:o}", "now_ns", (json_int_t)monotonic_ns(), "connections",
			 (int)client->arbiter->client_count, "vgpus", vgpus);
	text = json ? json_dumps(json, 0) : NULL;
	json_decref(json);
	if (text)
		fd = memfd_create("divvy-status", MFD_CLOEXEC);
	err = fd < 0 ? -ENOMEM : pwrite_full(fd, text, strlen(text), 0);
	err = err ? error_set(e, ENOMEM, "no-memory", NULL, "no memory for an answer")
		  : answer(client, &reply, &fd, 1);
	fd_close(&fd);
	free(text);
	return err;
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
		err = status(client, &e);
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
		munmap(client->page, sizeof(*client->page));
		vgpu->workers--;
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
