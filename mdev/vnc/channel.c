// SPDX-License-Identifier: Apache-2.0
/*
 * channel: bytes from and to one viewer, through TLS and WebSocket where it wants them. Nothing waits, and all is bounded: input
 * by the longest message, output by what one band of pixels becomes, since a viewer gets the next only when the last has gone out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mdev/vnc/private.h"

#define OUT_KEPT (64 * KIB) /* of room, while there is nothing in it */

void vnc_channel_init(struct vnc_channel *channel, int fd)
{
	*channel = (struct vnc_channel){ .fd = fd, .moved_ns = monotonic_ns() };
}

void vnc_channel_close(struct vnc_channel *channel)
{
	/* Without a goodbye: it might wait, and RFB has ends of its own. */
	if (channel->tls)
		gnutls_deinit(channel->tls);
	free(channel->out);
	fd_close(&channel->fd);
	channel->tls = NULL;
	channel->out = NULL;
}

/* ---- beneath ------------------------------------------------------------------------------------ */

static int error_of(int tls)
{
	if (tls == GNUTLS_E_AGAIN || tls == GNUTLS_E_INTERRUPTED)
		return -EAGAIN;
	return tls == GNUTLS_E_PREMATURE_TERMINATION ? -EPIPE : -EPROTO;
}

static ssize_t lower_read(struct vnc_channel *channel, void *data, size_t size)
{
	ssize_t got;

	if (channel->tls) {
		got = gnutls_record_recv(channel->tls, data, size);
		if (got < 0)
			return error_of((int)got);
	} else {
		got = recv(channel->fd, data, size, MSG_DONTWAIT);
		if (got < 0)
			return errno == EINTR ? -EAGAIN : -errno;
	}
	return got ? got : -EPIPE;
}

/* Returns how many bytes were taken, or -errno. */
static ssize_t lower_write(struct vnc_channel *channel, const void *data, size_t size)
{
	ssize_t sent;

	if (!channel->tls) {
		sent = send(channel->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0)
			return errno == EINTR ? -EAGAIN : -errno;
		return sent;
	}
	/* GnuTLS has copied a record that it could not send: it is taken, and goes first next time. */
	if (channel->tls_kept) {
		sent = gnutls_record_send(channel->tls, NULL, 0);
		if (sent < 0)
			return error_of((int)sent);
		channel->tls_kept = 0;
	}
	sent = gnutls_record_send(channel->tls, data, size);
	if (sent < 0 && error_of((int)sent) == -EAGAIN) {
		channel->tls_kept = MIN(size, gnutls_record_get_max_size(channel->tls));
		return (ssize_t)channel->tls_kept;
	}
	return sent < 0 ? error_of((int)sent) : sent;
}

/* ---- out ---------------------------------------------------------------------------------------- */

bool vnc_channel_idle(const struct vnc_channel *channel)
{
	return channel->out_at == channel->out_size && !channel->tls_kept;
}

/* As much as goes. Returns how much, or -errno. */
static ssize_t push(struct vnc_channel *channel, const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at < size) {
		ssize_t sent = lower_write(channel, data + at, size - at);

		if (sent == -EAGAIN)
			break;
		if (sent < 0)
			return sent;
		at += (size_t)sent;
		channel->sent += (size_t)sent;
		channel->moved_ns = monotonic_ns();
		if (channel->tls_kept)
			break;
	}
	return (ssize_t)at;
}

int vnc_channel_flush(struct vnc_channel *channel)
{
	ssize_t sent;

	if (vnc_channel_idle(channel))
		return 0;
	if (channel->out_at == channel->out_size) {
		sent = gnutls_record_send(channel->tls, NULL, 0);
		if (sent < 0)
			return error_of((int)sent) == -EAGAIN ? 0 : error_of((int)sent);
		channel->tls_kept = 0;
		channel->moved_ns = monotonic_ns();
		return 0;
	}
	sent = push(channel, channel->out + channel->out_at, channel->out_size - channel->out_at);
	if (sent < 0)
		return (int)sent;
	channel->out_at += (size_t)sent;
	if (channel->out_at == channel->out_size) {
		channel->out_at = channel->out_size = 0;
		if (channel->out_room > OUT_KEPT) {
			free(channel->out);
			channel->out = NULL;
			channel->out_room = 0;
		}
	}
	return 0;
}

static int keep(struct vnc_channel *channel, const uint8_t *data, size_t size)
{
	uint8_t *out;

	if (!size)
		return 0;
	if (channel->out_size + size > channel->out_room) {
		out = realloc(channel->out, channel->out_size + size);
		if (!out)
			return -ENOMEM;
		channel->out = out;
		channel->out_room = channel->out_size + size;
	}
	memcpy(channel->out + channel->out_size, data, size);
	channel->out_size += size;
	return 0;
}

static int write_lower(struct vnc_channel *channel, const uint8_t *data, size_t size)
{
	ssize_t sent = 0;

	if (vnc_channel_idle(channel)) {
		/* It stalls from the moment on that something waits. */
		channel->moved_ns = monotonic_ns();
		sent = push(channel, data, size);
	}
	return sent < 0 ? (int)sent : keep(channel, data + sent, size - (size_t)sent);
}

int vnc_channel_write(struct vnc_channel *channel, const void *data, size_t size)
{
	uint8_t header[10] = { 0 };
	size_t length;
	int err = 0;

	if (channel->web && size) {
		length = vnc_web_header(header, 2, size);
		err = write_lower(channel, header, length);
	}
	return err ? err : write_lower(channel, data, size);
}

/* ---- in ----------------------------------------------------------------------------------------- */

int vnc_channel_read(struct vnc_channel *channel)
{
	uint8_t data[VNC_IN_SIZE];
	int err = 0;

	while (!err && channel->in_size < sizeof(channel->in)) {
		const size_t room = sizeof(channel->in) - channel->in_size;
		ssize_t got = lower_read(
			channel, channel->web ? data : channel->in + channel->in_size, room);

		if (got == -EAGAIN)
			return 0;
		if (got < 0)
			return (int)got;
		if (channel->web)
			err = vnc_web_unwrap(channel, data, (size_t)got);
		else
			channel->in_size += (size_t)got;
		/* A record more may wait inside; what comes meanwhile is for the next time. */
		if (!channel->tls || !gnutls_record_check_pending(channel->tls))
			break;
	}
	return err;
}

void vnc_channel_take(struct vnc_channel *channel, size_t size)
{
	memmove(channel->in, channel->in + size, channel->in_size - size);
	channel->in_size -= size;
}

bool vnc_channel_holds(const struct vnc_channel *channel)
{
	return channel->tls && channel->in_size < sizeof(channel->in) &&
	       gnutls_record_check_pending(channel->tls);
}

short vnc_channel_events(const struct vnc_channel *channel)
{
	short events = 0;

	if (channel->in_size < sizeof(channel->in))
		events |= POLLIN;
	if (!vnc_channel_idle(channel) ||
	    (channel->greeting && gnutls_record_get_direction(channel->tls)))
		events |= POLLOUT;
	return events;
}

/* ---- TLS ---------------------------------------------------------------------------------------- */

int vnc_channel_secure(struct vnc_channel *channel, gnutls_certificate_credentials_t credentials,
		       gnutls_priority_t priority)
{
	/* Nothing that came before it in clear may count as having come through it. */
	if (channel->in_size || channel->tls)
		return -EPROTO;
	if (gnutls_init(&channel->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
					       GNUTLS_NO_TICKETS) < 0) {
		channel->tls = NULL;
		return -ENOMEM;
	}
	if (gnutls_priority_set(channel->tls, priority) < 0 ||
	    gnutls_credentials_set(channel->tls, GNUTLS_CRD_CERTIFICATE, credentials) < 0)
		return -ENOMEM;
	gnutls_transport_set_int(channel->tls, channel->fd);
	channel->greeting = true;
	return 0;
}

int vnc_channel_greet(struct vnc_channel *channel)
{
	int err = gnutls_handshake(channel->tls);

	channel->greeting = err < 0;
	if (!err)
		return 0;
	return gnutls_error_is_fatal(err) ? -EPROTO : -EAGAIN;
}
