// SPDX-License-Identifier: Apache-2.0
/*
 * A tunnel copies bytes between two sockets until one of them ends. What it holds is bounded: a socket is read when there is room for what the
 * other has not taken yet, so who reads slowly is written to slowly. It looks at no byte.
 *
 * A socket that says nothing more may still read (shutdown(2)), and is let; one that is closed is gone, and so is the tunnel when what it sent has
 * arrived. TLS has no such half: its end is the end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "instances/daemon/tunnel.h"

#define ROUNDS	  16 /* before others have their turn */
#define FINISH_US UINT64_C(10000000)

struct end {
	struct tunnel *tunnel;
	struct end *other;
	int fd;
	gnutls_session_t tls;
	bool tls_kept; /* GnuTLS holds a record that could not be sent */
	bool quiet;    /* nothing more comes from it */
	bool gone;     /* nor is anything taken */
	bool told;     /* that nothing more comes for it */
	sd_event_source *source;
	size_t at, size; /* of what it is to be given */
	char bytes[TUNNEL_BUFFER];
};

struct tunnel {
	struct end near, far;
	bool finishing, failed;
	sd_event_source *deadline;
	tunnel_ended *ended;
	void *opaque;
};

/* ---- one end ------------------------------------------------------------------------------------- */

static ssize_t end_receive(struct end *end, char *bytes, size_t size)
{
	ssize_t got;

	if (!end->tls) {
		got = recv(end->fd, bytes, size, MSG_DONTWAIT);
		return got < 0 ? -errno : got;
	}
	got = gnutls_record_recv(end->tls, bytes, size);
	if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED)
		return -EAGAIN;
	/* Whatever ends it, a new handshake too, which nobody needs. */
	return got < 0 ? -ECONNRESET : got;
}

static ssize_t end_send(struct end *end, const char *bytes, size_t size)
{
	ssize_t sent;

	if (!end->tls) {
		sent = send(end->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		return sent < 0 ? -errno : sent;
	}
	if (end->tls_kept) {
		sent = gnutls_record_send(end->tls, NULL, 0);
		if (sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED)
			return -EAGAIN;
		if (sent < 0)
			return -EPIPE;
		end->tls_kept = false;
	}
	if (!size)
		return 0;
	sent = gnutls_record_send(end->tls, bytes, size);
	if (sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED) {
		/* It has copied a record, which goes first next time. */
		end->tls_kept = true;
		return (ssize_t)MIN(size, gnutls_record_get_max_size(end->tls));
	}
	return sent < 0 ? -EPIPE : sent;
}

static bool end_empty(const struct end *end)
{
	return end->at == end->size && !end->tls_kept;
}

static size_t end_room(const struct end *end)
{
	return end->at ? sizeof(end->bytes) : sizeof(end->bytes) - end->size;
}

/* What it is to be given. Returns whether something moved. */
static bool end_flush(struct end *end)
{
	bool moved = false;
	ssize_t n;

	while (!end_empty(end) && !end->gone) {
		n = end_send(end, end->bytes + end->at, end->size - end->at);
		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n < 0) {
			end->gone = true;
			break;
		}
		end->at += (size_t)n;
		moved |= n > 0;
		if (end->tls_kept)
			break;
	}
	if (end->gone) {
		end->at = end->size = 0;
		end->tls_kept = false;
	}
	if (end->at == end->size)
		end->at = end->size = 0;
	return moved;
}

/* What it says, as far as there is room. Returns whether something moved. */
static bool end_fill(struct end *end)
{
	struct end *to = end->other;
	ssize_t n;

	if (end->fd < 0 || end->quiet || end->tunnel->finishing)
		return false;
	if (to->at) {
		memmove(to->bytes, to->bytes + to->at, to->size - to->at);
		to->size -= to->at;
		to->at = 0;
	}
	if (to->size == sizeof(to->bytes))
		return false;
	n = end_receive(end, to->bytes + to->size, sizeof(to->bytes) - to->size);
	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n > 0) {
		to->size += (size_t)n;
		return true;
	}
	end->quiet = true;
	if (n < 0 || end->tls)
		end->gone = true;
	return true;
}

/* ---- both ------------------------------------------------------------------------------------------ */

static void end_watch(struct end *end)
{
	const bool pending = end->tls && gnutls_record_check_pending(end->tls) > 0;
	const bool read = !end->quiet && !end->tunnel->finishing && end_room(end->other);
	uint32_t events = (read ? EPOLLIN : 0) | (end_empty(end) ? 0 : EPOLLOUT);

	if (!end->source)
		return;
	/* What GnuTLS has read already is no event of the socket: this comes at once. */
	if (read && pending)
		events |= EPOLLOUT;
	sd_event_source_set_io_events(end->source, events);
	/* Without events it still tells that it is gone, and then again and again. */
	sd_event_source_set_enabled(end->source, events || !end->gone ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* That nothing more comes for it. */
static void end_tell(struct end *end)
{
	if (end->told || end->gone || !end->other->quiet || !end_empty(end))
		return;
	end->told = true;
	if (end->tls)
		gnutls_bye(end->tls, GNUTLS_SHUT_WR);
	else if (end->fd >= 0)
		shutdown(end->fd, SHUT_WR);
}

static void move(struct tunnel *tunnel)
{
	bool moved = true;

	for (unsigned i = 0; i < ROUNDS && moved; i++) {
		moved = end_flush(&tunnel->near);
		moved |= end_flush(&tunnel->far);
		moved |= end_fill(&tunnel->near);
		moved |= end_fill(&tunnel->far);
	}
	end_flush(&tunnel->near);
	end_flush(&tunnel->far);
	end_tell(&tunnel->near);
	end_tell(&tunnel->far);
}

static bool is_done(const struct tunnel *tunnel)
{
	return tunnel->failed ||
	       (tunnel->finishing && end_empty(&tunnel->near) && end_empty(&tunnel->far));
}

static void pump(struct tunnel *tunnel)
{
	struct end *near = &tunnel->near, *far = &tunnel->far;
	tunnel_ended *ended = tunnel->ended;
	void *opaque = tunnel->opaque;

	move(tunnel);
	if ((near->quiet && far->quiet) || (near->gone && near->quiet) || (far->gone && far->quiet))
		tunnel_finish(tunnel);
	end_watch(near);
	end_watch(far);
	if (is_done(tunnel)) {
		tunnel_destroy(tunnel);
		ended(opaque);
	}
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct end *end = opaque;

	/* Closed, or broken: nothing is taken any more, but what it said is still there. */
	if (events & (EPOLLHUP | EPOLLERR))
		end->gone = true;
	pump(end->tunnel);
	return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct tunnel *tunnel = opaque;

	tunnel->failed = true;
	pump(tunnel);
	return 0;
}

void tunnel_finish(struct tunnel *tunnel)
{
	if (tunnel->finishing)
		return;
	tunnel->finishing = true;
	tunnel->near.quiet = tunnel->far.quiet = true;
	/* From the loop, not from within our caller: at the latest then. */
	sd_event_source_set_time_relative(tunnel->deadline, is_done(tunnel) ? 0 : FINISH_US);
	sd_event_source_set_enabled(tunnel->deadline, SD_EVENT_ONESHOT);
	end_watch(&tunnel->near);
	end_watch(&tunnel->far);
}

void tunnel_push(struct tunnel *tunnel, bool near, const void *bytes, size_t size)
{
	struct end *end = near ? &tunnel->near : &tunnel->far;

	size = MIN(size, sizeof(end->bytes) - end->size);
	if (!size)
		return;
	memcpy(end->bytes + end->size, bytes, size);
	end->size += size;
	end_watch(end);
}

int tunnel_create(sd_event *event, int near, gnutls_session_t tls, int far, int priority,
		  tunnel_ended *ended, void *opaque, struct tunnel **out)
{
	struct tunnel *tunnel = calloc(1, sizeof(*tunnel));
	int err;

	if (!tunnel)
		return -ENOMEM;
	tunnel->ended = ended;
	tunnel->opaque = opaque;
	tunnel->near =
		(struct end){ .tunnel = tunnel, .other = &tunnel->far, .fd = near, .tls = tls };
	tunnel->far = (struct end){ .tunnel = tunnel, .other = &tunnel->near, .fd = far };
	err = sd_event_add_io(event, &tunnel->near.source, near, EPOLLIN, on_io, &tunnel->near);
	if (err >= 0 && far >= 0)
		err = sd_event_add_io(event, &tunnel->far.source, far, EPOLLIN, on_io,
				      &tunnel->far);
	if (err >= 0)
		err = sd_event_add_time_relative(event, &tunnel->deadline, CLOCK_MONOTONIC,
						 FINISH_US, 0, on_deadline, tunnel);
	if (err >= 0)
		err = sd_event_source_set_enabled(tunnel->deadline, SD_EVENT_OFF);
	if (err >= 0)
		err = sd_event_source_set_priority(tunnel->near.source, priority);
	if (err >= 0 && far >= 0)
		err = sd_event_source_set_priority(tunnel->far.source, priority);
	if (err < 0) {
		tunnel_destroy(tunnel);
		return err;
	}
	/* GnuTLS may have read beyond the handshake. */
	end_watch(&tunnel->near);
	*out = tunnel;
	return 0;
}

void tunnel_destroy(struct tunnel *tunnel)
{
	if (!tunnel)
		return;
	/* What can go at once does. */
	move(tunnel);
	sd_event_source_disable_unref(tunnel->near.source);
	sd_event_source_disable_unref(tunnel->far.source);
	sd_event_source_disable_unref(tunnel->deadline);
	free(tunnel);
}
