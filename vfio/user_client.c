// SPDX-License-Identifier: Apache-2.0
/*
 * One connection to a vfio-user server: requests that wait for the reply with their message ID, the
 * server's own requests answered between them, and what ends it.
 *
 * Promises: a call returns within its time limit, whatever the server does; at most one message is
 * in memory at a time, of a size known beforehand; a connection that ended stays ended.
 *
 * A call's storage is its caller's. The reader touches it only with the lock held and while it is on
 * the list of pending ones, and its caller takes it off the list before returning.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <jansson.h>

#include "vfio/user_client.h"

#define ERRNO_MAX 4095 /* the kernel's, include/linux/err.h */

/* ---- death --------------------------------------------------------------------------------- */

/* Lock held. Wakes whoever waits, the reader by the end of its stream. */
static void die_locked(struct user_client *client, int err, const char *what)
{
	if (client->dead)
		return;
	__atomic_store_n(&client->dead, err, __ATOMIC_RELEASE);
	if (!client->closing)
		log_error("%s: %s; the device is gone", client->name, what);
	shutdown(client->fd, SHUT_RDWR);
	pthread_cond_broadcast(&client->changed);
}

static void die(struct user_client *client, int err, const char *what)
{
	pthread_mutex_lock(&client->lock);
	die_locked(client, err, what);
	pthread_mutex_unlock(&client->lock);
}

bool user_client_dead(const struct user_client *client)
{
	return __atomic_load_n(&client->dead, __ATOMIC_ACQUIRE);
}

int user_client_broken(struct user_client *client, const char *what)
{
	die(client, EPROTO, what);
	return -EPROTO;
}

static const char *receive_failure(int err)
{
	switch (-err) {
	case ECONNRESET:
	case EPIPE:
		return "the server closed the connection";
	case EPROTO:
		return "the server sent a malformed message";
	case ETIMEDOUT:
		return "the server stopped in the middle of a message";
	default:
		return strerror(-err);
	}
}

/* ---- sending ------------------------------------------------------------------------------- */

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NSEC_PER_SEC),
				  .tv_nsec = (long)(ns % NSEC_PER_SEC) };
}

static uint64_t deadline(const struct user_client *client)
{
	return monotonic_ns() + client->timeout_ms * UINT64_C(1000000);
}

/* One whole message. A failure leaves half of one behind, perhaps, and so ends the connection. */
static int send_message(struct user_client *client, struct iovec *iov, unsigned iov_count,
			const int *fds, unsigned fd_count, uint64_t deadline_ns)
{
	const struct timespec until = to_timespec(deadline_ns);
	int err = pthread_mutex_clocklock(&client->send_lock, CLOCK_MONOTONIC, &until);

	if (err) {
		die(client, err, "the server does not read what is sent to it");
		return -err;
	}
	err = -ECONNRESET;
	if (!user_client_dead(client))
		err = user_socket_send(client->fd, iov, iov_count, fds, fd_count, deadline_ns);
	pthread_mutex_unlock(&client->send_lock);
	if (err)
		die(client, -err,
		    err == -ETIMEDOUT ? "the server does not read what is sent to it"
				      : receive_failure(err));
	return err;
}

/* ---- calls --------------------------------------------------------------------------------- */

static struct user_call *find_pending(struct user_client *client, uint16_t id)
{
	struct user_call *call = client->pending;

	while (call && call->id != id)
		call = call->next;
	return call;
}

/* Lock held. IDs of calls under way are not given twice; there are fewer threads than IDs. */
static void call_enter(struct user_client *client, struct user_call *call)
{
	do
		call->id = client->next_id++;
	while (find_pending(client, call->id));
	call->done = false;
	call->reply_size = 0;
	call->reply_fd_count = 0;
	call->next = client->pending;
	client->pending = call;
}

static void call_leave(struct user_client *client, struct user_call *call)
{
	struct user_call **at = &client->pending;

	while (*at && *at != call)
		at = &(*at)->next;
	if (*at)
		*at = call->next;
}

static void read_reply(struct user_client *client, const struct user_call *call,
		       uint64_t deadline_ns);

int user_client_call(struct user_client *client, struct user_call *call)
{
	const uint64_t deadline_ns = deadline(client);
	const struct timespec until = to_timespec(deadline_ns);
	struct user_header header = { .command = call->command, .flags = USER_TYPE_COMMAND };
	struct iovec iov[3] = { { &header, sizeof(header) }, call->payload[0], call->payload[1] };
	int ret;

	pthread_mutex_lock(&client->lock);
	if (client->dead) {
		pthread_mutex_unlock(&client->lock);
		return -ENODEV;
	}
	call_enter(client, call);
	pthread_mutex_unlock(&client->lock);

	header.id = call->id;
	header.size = (uint32_t)(sizeof(header) + iov[1].iov_len + iov[2].iov_len);
	send_message(client, iov, ARRAY_SIZE(iov), call->fds, call->fd_count, deadline_ns);
	if (!client->has_reader)
		read_reply(client, call, deadline_ns);

	pthread_mutex_lock(&client->lock);
	while (!call->done && !client->dead)
		if (pthread_cond_timedwait(&client->changed, &client->lock, &until) == ETIMEDOUT &&
		    !call->done)
			die_locked(client, ETIMEDOUT, "the server does not answer");
	call_leave(client, call);
	ret = call->done ? call->result : -client->dead;
	pthread_mutex_unlock(&client->lock);
	return ret;
}

/* ---- what the reader finds ----------------------------------------------------------------- */

static int reply_result(const struct user_header *header)
{
	if (!(header->flags & USER_FLAG_ERROR))
		return 0;
	return header->error && header->error <= ERRNO_MAX ? -(int)header->error : -EIO;
}

/* Hand a reply to the call that waits for it. Returns what is wrong with it, or NULL. */
static const char *take_reply(struct user_client *client, struct user_message *message)
{
	struct user_call *call;
	const char *wrong = NULL;

	pthread_mutex_lock(&client->lock);
	call = find_pending(client, message->header.id);
	if (!call || call->done)
		wrong = "the server answered what nobody asked";
	else if (call->command != message->header.command)
		wrong = "the server answered with another command";
	else if (message->payload_size > call->reply_room)
		wrong = "the server's answer is too long";
	else if (message->fd_count > call->reply_fds_room)
		wrong = "the server sent file descriptors where none belong";
	if (!wrong) {
		if (message->payload_size)
			memcpy(call->reply, message->payload, message->payload_size);
		call->reply_size = message->payload_size;
		for (unsigned i = 0; i < message->fd_count; i++)
			call->reply_fds[i] = message->fds[i];
		call->reply_fd_count = message->fd_count;
		message->fd_count = 0;
		call->result = reply_result(&message->header);
		call->done = true;
		pthread_cond_broadcast(&client->changed);
	}
	pthread_mutex_unlock(&client->lock);
	return wrong;
}

static int answer(struct user_client *client, const struct user_header *request, int err,
		  void *payload, size_t size)
{
	struct user_header header = {
		.id = request->id,
		.command = request->command,
		.size = (uint32_t)sizeof(header),
		.flags = USER_TYPE_REPLY,
	};
	struct iovec iov[2] = { { &header, sizeof(header) }, { payload, size } };

	if (request->flags & USER_FLAG_NO_REPLY)
		return 0;
	if (err) {
		header.flags |= USER_FLAG_ERROR;
		header.error = (uint32_t)-err;
		iov[1].iov_len = 0;
	}
	header.size += (uint32_t)iov[1].iov_len;
	return send_message(client, iov, ARRAY_SIZE(iov), NULL, 0, deadline(client));
}

/*
 * VFIO_USER_DMA_READ and VFIO_USER_DMA_WRITE. The buffer holds the request and then the reply: what is
 * read from the guest lands behind the request's own 16 bytes, which the reply begins with.
 */
static const char *serve_dma(struct user_client *client, struct user_message *message)
{
	bool to_guest = message->header.command == USER_DMA_WRITE;
	struct user_dma_access access;
	size_t data;
	int err;

	if (message->payload_size < sizeof(access))
		return "the server's DMA request is too short";
	memcpy(&access, message->payload, sizeof(access));
	data = message->payload_size - sizeof(access);
	if (access.count > USER_TRANSFER_MAX)
		return "the server asks for more of guest memory than was agreed";
	if (data != (to_guest ? access.count : 0))
		return "the server's DMA request has another size than it says";
	err = user_dma_copy(&client->dma, access.address, message->payload + sizeof(access),
			    (size_t)access.count, to_guest);
	if (err)
		log_limited(LOG_LEVEL_WARN, "%s: the server reaches for 0x%llx + 0x%llx: no memory",
			    client->name, (unsigned long long)access.address,
			    (unsigned long long)access.count);
	answer(client, &message->header, err, message->payload,
	       sizeof(access) + (to_guest ? 0 : (size_t)access.count));
	return NULL;
}

/* Returns what is wrong with it, or NULL. */
static const char *serve(struct user_client *client, struct user_message *message)
{
	const uint16_t command = message->header.command;
	const char *wrong;
	int result;

	if (command == USER_DMA_READ || command == USER_DMA_WRITE)
		return message->fd_count ? "the server sent file descriptors where none belong"
					 : serve_dma(client, message);
	if (client->region_map &&
	    (command == USER_DIVVY_REGION_MAP || command == USER_DIVVY_REGION_UNMAP)) {
		wrong = user_map_serve(client, message, &result);
		if (!wrong)
			answer(client, &message->header, result, NULL, 0);
		return wrong;
	}
	/* Later versions may have more for the client; a server copes with a refusal. */
	log_limited(LOG_LEVEL_WARN, "%s: the server's command %u is not known", client->name,
		    command);
	answer(client, &message->header, -EOPNOTSUPP, NULL, 0);
	return NULL;
}

static void read_message(struct user_client *client)
{
	struct user_message message = { .payload = client->buffer };
	int err = user_socket_receive(client->fd, &message, client->timeout_ms);
	const char *wrong;

	if (err) {
		die(client, -err, receive_failure(err));
		return;
	}
	if ((message.header.flags & USER_FLAG_TYPE) == USER_TYPE_REPLY)
		wrong = take_reply(client, &message);
	else
		wrong = serve(client, &message);
	user_message_drop(&message);
	if (wrong)
		user_client_broken(client, wrong);
}

static void *reader_main(void *arg)
{
	struct user_client *client = arg;

	while (!user_client_dead(client))
		read_message(client);
	return NULL;
}

/* Without a reader the caller reads, until its reply is there. */
static void read_reply(struct user_client *client, const struct user_call *call,
		       uint64_t deadline_ns)
{
	while (!call->done && !user_client_dead(client)) {
		int err = user_socket_wait(client->fd, deadline_ns);

		if (err)
			die(client, -err, "the server does not answer");
		else
			read_message(client);
	}
}

/* ---- version ------------------------------------------------------------------------------- */

/* A number of "capabilities", or @fallback where it is not named. False: no number, or below 1. */
static bool capability(const json_t *capabilities, const char *name, json_int_t fallback,
		       json_int_t most, json_int_t *value)
{
	const json_t *item = json_object_get(capabilities, name);

	*value = fallback;
	if (item) {
		if (!json_is_integer(item) || json_integer_value(item) < 1)
			return false;
		*value = json_integer_value(item);
	}
	*value = MIN(*value, most);
	return true;
}

static bool capabilities_read(struct user_client *client, const char *text, size_t size)
{
	json_int_t fds = USER_DEFAULT_FDS, transfer = USER_DEFAULT_TRANSFER, map = 0;
	json_t *root, *capabilities;
	bool good;

	if (size) {
		/* "including terminating NUL" */
		if (text[size - 1])
			return false;
		root = json_loadb(text, size - 1, 0, NULL);
		if (!json_is_object(root)) {
			json_decref(root);
			return false;
		}
		capabilities = json_object_get(root, "capabilities");
		good = !capabilities || json_is_object(capabilities);
		good = good && capability(capabilities, "max_msg_fds", fds, USER_FDS_MAX, &fds);
		good = good && capability(capabilities, "max_data_xfer_size", transfer,
					  USER_TRANSFER_MAX, &transfer);
		good = good && capability(capabilities, USER_DIVVY_REGION_MAP_CAPABILITY, map,
					  INT32_MAX, &map);
		json_decref(root);
		if (!good)
			return false;
	}
	client->fds_max = (unsigned)fds;
	client->transfer_max = (size_t)transfer;
	client->region_map = map == USER_DIVVY_REGION_MAP_VERSION;
	return true;
}

static int negotiate(struct user_client *client, struct error *e)
{
	struct user_version proposed = { USER_VERSION_MAJOR, USER_VERSION_MINOR }, agreed;
	uint8_t reply[sizeof(agreed) + USER_VERSION_MAX];
	char text[160];
	int length = snprintf(text, sizeof(text),
			      "{\"capabilities\":{\"max_msg_fds\":%u,\"max_data_xfer_size\":%u,"
			      "\"" USER_DIVVY_REGION_MAP_CAPABILITY "\":%d}}",
			      USER_FDS_MAX, USER_TRANSFER_MAX, USER_DIVVY_REGION_MAP_VERSION);
	struct user_call call = {
		.command = USER_VERSION,
		.payload = { { &proposed, sizeof(proposed) }, { text, (size_t)length + 1 } },
		.reply = reply,
		.reply_room = sizeof(reply),
	};
	int err = user_client_call(client, &call);

	if (err)
		return error_set(e, -err, "vfio-user-version", NULL,
				 "%s: the server does not agree on a version of the protocol: %s",
				 client->name, strerror(-err));
	if (call.reply_size < sizeof(agreed))
		return error_set(e, EPROTO, "vfio-user-version", NULL,
				 "%s: the server's version is %zu bytes long", client->name,
				 call.reply_size);
	memcpy(&agreed, reply, sizeof(agreed));
	if (agreed.major != USER_VERSION_MAJOR || agreed.minor > USER_VERSION_MINOR)
		return error_set(e, EPROTO, "vfio-user-version", NULL,
				 "%s: the server speaks version %u.%u, we %u.0 to %u.%u",
				 client->name, agreed.major, agreed.minor, USER_VERSION_MAJOR,
				 USER_VERSION_MAJOR, USER_VERSION_MINOR);
	if (!capabilities_read(client, (const char *)reply + sizeof(agreed),
			       call.reply_size - sizeof(agreed)))
		return error_set(e, EPROTO, "vfio-user-version", NULL,
				 "%s: the server's capabilities cannot be read", client->name);
	log_debug("%s: version %u.%u, %u descriptors and %zu bytes a message", client->name,
		  agreed.major, agreed.minor, client->fds_max, client->transfer_max);
	return 0;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void locks_init(struct user_client *client)
{
	pthread_condattr_t clock;

	pthread_mutex_init(&client->send_lock, NULL);
	pthread_mutex_init(&client->lock, NULL);
	pthread_mutex_init(&client->dma.lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&client->changed, &clock);
	pthread_condattr_destroy(&clock);
}

static void release(struct user_client *client)
{
	fd_close(&client->fd);
	free(client->buffer);
	pthread_cond_destroy(&client->changed);
	pthread_mutex_destroy(&client->dma.lock);
	pthread_mutex_destroy(&client->lock);
	pthread_mutex_destroy(&client->send_lock);
}

int user_client_open(struct user_client *client, int fd, unsigned timeout_ms, struct error *e)
{
	int err;

	client->fd = fd;
	client->timeout_ms = timeout_ms;
	locks_init(client);
	client->buffer = malloc(USER_PAYLOAD_MAX);
	if (!client->buffer) {
		release(client);
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", client->name);
	}
	err = negotiate(client, e);
	if (err)
		user_client_close(client);
	return err;
}

int user_client_start(struct user_client *client, struct error *e)
{
	int err = thread_create(&client->reader, "vfio-user", reader_main, client);

	if (err)
		return error_set(e, -err, "no-thread", NULL, "%s: cannot start its thread: %s",
				 client->name, strerror(-err));
	client->has_reader = true;
	return 0;
}

void user_client_close(struct user_client *client)
{
	pthread_mutex_lock(&client->lock);
	client->closing = true;
	die_locked(client, ESHUTDOWN, "");
	pthread_mutex_unlock(&client->lock);
	if (client->has_reader)
		pthread_join(client->reader, NULL);
	release(client);
}
