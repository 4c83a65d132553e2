// SPDX-License-Identifier: Apache-2.0
/*
 * What connections say (protocol.h): who may say what, and what of it is believed. A message is copied out of the kernel and judged there; what is no
 * message, out of turn or out of range ends that connection, and whatever it had is over.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vgpu-sched/live/arbiter_private.h"

#define MESSAGES_A_TURN 16	       /* of one connection before the others are heard */
#define WORD_NS		50000	       /* a vGPU's workers send so many messages: one each 50 us */
#define WORDS_MAX	UINT64_C(2000) /* and so many at once */

/* ---- answers --------------------------------------------------------------------------------- */

int client_answer(const struct client *client, const struct live_message *message, const int *fds,
		  unsigned count)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(*message) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(LIVE_DESCRIPTORS_MAX * sizeof(int))];
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
static const char *handle(struct client *client, const struct live_message *message, int descriptor)
{
	const bool launcher = client->uid == 0 || client->uid == geteuid();
	const bool works = client->page, asks = client->asks;
	const bool owns = client->vgpu && !works && !asks;
	const enum sched_engine engine = (enum sched_engine)message->engine;
	struct error e = { 0 };
	int err = 0;

	if (message->version != LIVE_VERSION)
		return "another version";
	if (message->engine >= SCHED_ENGINES)
		return "no such engine";
	switch (message->type) {
	case LIVE_CREATE:
		if (!launcher || client->vgpu)
			return "may not create a vGPU";
		if (!is_text(message->gpu) || !is_text(message->name))
			return "a name that is none";
		err = vgpu_create(client, message, &e);
		if (err && e.err)
			err = refuse(client, LIVE_CREATED, &e);
		break;
	case LIVE_CHANGE:
		if (!launcher || works || asks || (!owns && !is_text(message->name)))
			return "may not change a vGPU";
		err = owns ? vgpu_change(client, message, &e) : vgpu_reweigh(client, message, &e);
		if (err && e.err)
			err = refuse(client, LIVE_CREATED, &e);
		break;
	case LIVE_STATUS:
		if (!launcher || works || asks)
			return "may not ask for the status";
		err = status_answer(client, &e);
		if (err && e.err)
			err = refuse(client, LIVE_STATUS, &e);
		break;
	case LIVE_REGISTER:
		if (client->vgpu)
			return "registers twice";
		err = worker_register(client, message, &e);
		if (err && e.err) {
			refuse(client, LIVE_REGISTERED, &e);
			return "is not let in";
		}
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
	case LIVE_ASK:
		if (owns || works)
			return "may not ask for workers";
		err = worker_ask(client, message, descriptor, &e);
		if (err && e.err) {
			refuse(client, LIVE_ANSWER, &e);
			return "is not let in";
		}
		break;
	default:
		return "an unknown message";
	}
	return err ? "an answer that it does not take" : NULL;
}

/*
 * A vGPU says a message or two a turn: more than that is a flood, and would take the arbiter's time from others. All its workers together are
 * heard so often, and wait for the rest.
 */
static bool may_speak(struct live_vgpu *vgpu)
{
	const uint64_t now = monotonic_ns(), earned = (now - vgpu->words_ns) / WORD_NS;

	if (earned) {
		vgpu->words = MIN(vgpu->words + MIN(earned, WORDS_MAX), WORDS_MAX);
		vgpu->words_ns = now;
	}
	if (!vgpu->words)
		return false;
	vgpu->words--;
	return true;
}

/*
 * One message, and one descriptor that came along with it, or -1: the kernel drops more than there is room for. Returns what recvmsg(2) does, with the
 * message's true size.
 */
static ssize_t receive(int fd, struct live_message *message, int *descriptor)
{
	struct iovec iov = { .iov_base = message, .iov_len = sizeof(*message) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = CMSG_LEN(sizeof(int)) };
	const ssize_t size = recvmsg(fd, &header, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *head = size < 0 ? NULL : CMSG_FIRSTHDR(&header);

	*descriptor = -1;
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(descriptor, CMSG_DATA(head), sizeof(int));
	return size;
}

int client_on_message(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct client *client = opaque;

	for (unsigned i = 0; i < MESSAGES_A_TURN; i++) {
		struct live_message message;
		int descriptor;
		const char *why;
		ssize_t size;

		if ((client->page || client->asks) && !may_speak(client->vgpu)) {
			client->paused = true;
			sd_event_source_set_enabled(source, SD_EVENT_OFF);
			arbiter_resume_later(client->arbiter);
			return 0;
		}
		size = receive(fd, &message, &descriptor);
		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (size != sizeof(message)) {
			fd_close(&descriptor);
			client_end(client, size > 0 ? "a message of another size" : NULL);
			return 0;
		}
		why = handle(client, &message, descriptor);
		fd_close(&descriptor);
		if (why) {
			client_end(client, why);
			return 0;
		}
	}
	return 0;
}
