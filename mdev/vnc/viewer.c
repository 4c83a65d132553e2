// SPDX-License-Identifier: Apache-2.0
/*
 * viewer: one connection, from accept to its end, and the updates that it gets.
 *
 * An update answers a viewer's request with the parts of the screen that are new to it. It is made band by band, each when the
 * one before has gone out, from what the screen shows at that moment: a viewer that is slow gets fewer frames and holds no more
 * memory than one band takes, and no viewer keeps the thread longer than a band takes to encode.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mdev/input/input.h"
#include "mdev/vnc/private.h"

#define STEPS_MAX	 4096 /* messages of a turn: what fits in its buffer, and more of a clipboard */
#define BANDS_MAX	 4 /* of a turn */
#define LAST_RECT	 0xffff
#define ENCODING_LAST	 (-224)
#define ENCODING_SIZE	 (-223)
#define ENCODING_EXTSIZE (-308)
#define ENCODING_POINTER (-232)
#define ENCODING_KEYS	 (-258)
#define ENCODING_BUTTONS (-316)

/* ---- life --------------------------------------------------------------------------------------- */

/* A peer that is gone without a word is noticed within two minutes. */
static void set_options(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 60 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 15 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 4 },
		/* What waits in the kernel is old by the time that it goes out. */
		{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, 256 * 1024 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			       sizeof(options[i].value)) < 0)
			log_debug("vnc: socket option: %s", strerror(errno));
}

void vnc_viewer_accept(struct vnc_screen *screen, int fd, const char *peer, uint64_t now)
{
	struct vnc_server *server = screen->server;
	struct vnc_viewer **place = NULL, *oldest = NULL, *viewer;
	unsigned handshakes = 0;

	FOR_EACH_VIEWER(server, other)
	{
		if (other->rfb)
			continue;
		handshakes++;
		if (!oldest || other->deadline_ns < oldest->deadline_ns)
			oldest = other;
	}
	/* Those who connect and say nothing lock nobody out. */
	if (handshakes >= VNC_HANDSHAKES_MAX)
		vnc_viewer_drop(oldest);
	for (unsigned i = 0; i < VNC_VIEWERS_TOTAL && !place; i++)
		if (!server->viewers[i])
			place = &server->viewers[i];
	viewer = place ? calloc(1, sizeof(*viewer)) : NULL;
	if (!viewer) {
		close(fd);
		return;
	}
	if (screen->tcp)
		set_options(fd);
	viewer->server = server;
	viewer->screen = screen;
	viewer->number = ++server->viewer_next;
	snprintf(viewer->peer, sizeof(viewer->peer), "%s", peer);
	viewer->until_ns = now + server->sniff_ns;
	viewer->deadline_ns = now + server->handshake_ns;
	vnc_channel_init(&viewer->channel, fd);
	pixman_region32_init(&viewer->requested);
	pixman_region32_init(&viewer->dirty);
	pixman_region32_init(&viewer->sending);
	*place = viewer;
}

void vnc_viewer_drop(struct vnc_viewer *viewer)
{
	struct vnc_server *server = viewer->server;

	for (unsigned i = 0; i < VNC_VIEWERS_TOTAL; i++)
		if (server->viewers[i] == viewer)
			server->viewers[i] = NULL;
	if (viewer->rfb) {
		log_limited(LOG_LEVEL_INFO, "vnc: viewer %u is gone", viewer->number);
		if (server->seat)
			input_seat_viewer_gone(server->seat, viewer);
		vnc_encoder_detach(viewer);
		vnc_screen_close(viewer->screen);
	}
	pthread_mutex_lock(&server->shared.lock);
	server->shared.stats.sent_bytes += viewer->channel.sent;
	pthread_mutex_unlock(&server->shared.lock);
	vnc_channel_close(&viewer->channel);
	pixman_region32_fini(&viewer->requested);
	pixman_region32_fini(&viewer->dirty);
	pixman_region32_fini(&viewer->sending);
	free(viewer);
}

int vnc_viewer_let_in(struct vnc_viewer *viewer)
{
	struct vnc_screen *screen = viewer->screen;
	int err = screen->viewers < VNC_VIEWERS_MAX ? vnc_screen_open(screen) : -EBUSY;

	if (err)
		return err;
	err = vnc_encoder_attach(viewer);
	if (err) {
		vnc_screen_close(screen);
		return err;
	}
	viewer->width = screen->width;
	viewer->height = screen->height;
	viewer->generation = screen->generation;
	log_limited(LOG_LEVEL_INFO, "vnc: viewer %u (%s) looks at %s%s", viewer->number,
		    viewer->peer, screen->title, viewer->channel.tls ? ", over TLS" : "");
	return 0;
}

/* ---- what it says ------------------------------------------------------------------------------- */

int vnc_viewer_serve(struct vnc_viewer *viewer, uint64_t now)
{
	struct vnc_channel *channel = &viewer->channel;
	int err = 0, done = 1;

	viewer->heavy = viewer->again = false;
	if (viewer->stage != VNC_NORMAL && now >= viewer->deadline_ns)
		return -ETIMEDOUT;
	if (viewer->stage != VNC_SNIFF && viewer->stage != VNC_GREET && viewer->stage != VNC_SECURE)
		err = vnc_channel_read(channel);
	for (unsigned i = 0; i < STEPS_MAX && done > 0; i++)
		done = viewer->stage == VNC_NORMAL ? vnc_message_step(viewer, now)
						   : vnc_handshake_step(viewer, now);
	/* What it had to say before it went is heard. */
	if (done < 0 || err)
		return done < 0 ? done : err;
	viewer->again |= done > 0 || vnc_channel_holds(channel);
	err = vnc_channel_flush(channel);
	if (!err && !vnc_channel_idle(channel) &&
	    now > channel->moved_ns + viewer->server->stall_ns)
		err = -ETIMEDOUT;
	return err;
}

/* ---- what it gets ------------------------------------------------------------------------------- */

bool vnc_viewer_wants(const struct vnc_viewer *viewer)
{
	return viewer->stage == VNC_NORMAL && !viewer->is_sending &&
	       vnc_channel_idle(&viewer->channel) && pixman_region32_not_empty(&viewer->requested);
}

void vnc_viewer_damage(struct vnc_viewer *viewer, int32_t x, int32_t y, uint32_t width,
		       uint32_t height)
{
	pixman_region32_t *dirty = &viewer->dirty;
	pixman_box32_t all = { 0, 0, (int32_t)viewer->width, (int32_t)viewer->height };

	if (x < 0) {
		width -= MIN(width, (uint32_t)-x);
		x = 0;
	}
	if (y < 0) {
		height -= MIN(height, (uint32_t)-y);
		y = 0;
	}
	if (!width || !height)
		return;
	if (pixman_region32_union_rect(dirty, dirty, x, y, width, height)) {
		if (pixman_region32_n_rects(dirty) <= VNC_RECTS_MAX)
			return;
		all = *pixman_region32_extents(dirty);
	}
	pixman_region32_fini(dirty);
	pixman_region32_init_with_extents(dirty, &all);
}

static uint8_t *put_rect(uint8_t *at, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
			 int32_t encoding)
{
	at = vnc_put16(vnc_put16(at, x), y);
	at = vnc_put16(vnc_put16(at, width), height);
	return vnc_put32(at, (uint32_t)encoding);
}

static uint8_t *put_update(uint8_t *at, unsigned count)
{
	at[0] = 0;
	at[1] = 0;
	return vnc_put16(at + 2, count);
}

/* The screen's size, in an update of its own, which needs no request: viewers that asked for another wait for it. */
static int tell_size(struct vnc_viewer *viewer)
{
	const struct vnc_screen *screen = viewer->screen;
	const struct vnc_head *heads = viewer->server->heads;
	uint8_t message[4 + 12 + 4 + 16 * VIRTIO_GPU_HEADS_MAX] = { 0 }, *at, *count;
	const bool changed = viewer->width != screen->width || viewer->height != screen->height;

	viewer->tell_size = false;
	viewer->width = screen->width;
	viewer->height = screen->height;
	pixman_region32_clear(&viewer->requested);
	at = put_update(message, 1);
	if (!viewer->resizes_extended) {
		at = put_rect(at, 0, 0, screen->width, screen->height, ENCODING_SIZE);
	} else {
		at = put_rect(at, viewer->size_reason, viewer->size_status, screen->width,
			      screen->height, ENCODING_EXTSIZE);
		count = at;
		at += 4;
		for (unsigned i = 0; i < screen->count; i++) {
			const unsigned head = screen->first + i;

			if (!heads[head].width)
				continue;
			at = vnc_put32(at, head + 1);
			at = vnc_put16(vnc_put16(at, screen->left[i]), 0);
			at = vnc_put16(vnc_put16(at, heads[head].width), heads[head].height);
			at = vnc_put32(at, 0);
			++*count;
		}
		/* Off: as if there were one; a layout without screens is none. */
		if (!*count) {
			*count = 1;
			at = vnc_put32(vnc_put32(at, screen->first + 1), 0);
			at = vnc_put16(vnc_put16(at, screen->width), screen->height);
			at = vnc_put32(at, 0);
		}
	}
	if (changed)
		vnc_viewer_damage(viewer, 0, 0, viewer->width, viewer->height);
	return vnc_channel_write(&viewer->channel, message, (size_t)(at - message));
}

/* The next band of what is being sent. Returns false at the end. */
static bool next_band(struct vnc_viewer *viewer, pixman_box32_t *band)
{
	const bool plain = vnc_encoder_is_plain(viewer);
	const bool narrow =
		viewer->rfb->preferredEncoding == rfbEncodingTight && !viewer->open_ended;
	const int32_t pixels = narrow ? VNC_BAND_PIXELS_1 : VNC_BAND_PIXELS;
	int count;
	const pixman_box32_t *boxes = pixman_region32_rectangles(&viewer->sending, &count), *box;
	int32_t width, rows;

	if (viewer->at_box >= count)
		return false;
	box = &boxes[viewer->at_box];
	band->x1 = box->x1 + viewer->at_x;
	band->y1 = box->y1 + viewer->at_y;
	width = plain ? box->x2 - box->x1 : MIN(box->x2 - box->x1, VNC_BAND_WIDTH);
	/* ZRLE's tiles are 64 rows high. */
	rows = MIN(pixels / width, 4096);
	rows = rows > 64 ? rows & ~63 : rows;
	band->x2 = MIN(band->x1 + width, box->x2);
	band->y2 = MIN(band->y1 + rows, box->y2);
	viewer->at_x += width;
	if (band->x2 == box->x2) {
		viewer->at_x = 0;
		viewer->at_y += rows;
	}
	if (band->x2 == box->x2 && band->y2 == box->y2) {
		viewer->at_y = 0;
		viewer->at_box++;
	}
	return true;
}

static unsigned count_bands(struct vnc_viewer *viewer)
{
	pixman_box32_t band;
	unsigned count = 0;

	while (next_band(viewer, &band))
		count++;
	viewer->at_box = 0;
	return count;
}

/* What is requested, new, and within the viewer's and the screen's borders goes into sending. */
static int choose(struct vnc_viewer *viewer)
{
	const struct vnc_screen *screen = viewer->screen;
	pixman_region32_t *sending = &viewer->sending;
	bool good = pixman_region32_intersect(sending, &viewer->requested, &viewer->dirty) &&
		    pixman_region32_intersect_rect(sending, sending, 0, 0,
						   MIN(screen->width, viewer->width),
						   MIN(screen->height, viewer->height)) &&
		    pixman_region32_subtract(&viewer->dirty, &viewer->dirty, sending);

	return good ? 0 : -ENOMEM;
}

static int begin(struct vnc_viewer *viewer)
{
	const struct vnc_screen *screen = viewer->screen;
	const bool position = viewer->tell_position && viewer->follows_cursor;
	uint8_t message[4 + 3 * 12], *at = message + 4;
	unsigned count = 0;
	int err;

	err = choose(viewer);
	if (err)
		return err;
	if (!pixman_region32_not_empty(&viewer->sending) && !viewer->tell_cursor && !position &&
	    !viewer->tell_keys && !viewer->tell_buttons)
		return 0;
	viewer->open_ended = viewer->rfb->enableLastRectEncoding;
	viewer->at_box = 0;
	viewer->at_x = viewer->at_y = 0;
	viewer->generation = screen->generation;
	pixman_region32_clear(&viewer->requested);
	if (viewer->tell_keys) {
		at = put_rect(at, 0, 0, 0, 0, ENCODING_KEYS);
		count++;
	}
	if (viewer->tell_buttons) {
		at = put_rect(at, 0, 0, 0, 0, ENCODING_BUTTONS);
		count++;
	}
	if (position) {
		at = put_rect(at, (uint32_t)MAX(screen->cursor.x, 0),
			      (uint32_t)MAX(screen->cursor.y, 0), 0, 0, ENCODING_POINTER);
		count++;
	}
	count += viewer->tell_cursor + count_bands(viewer);
	put_update(message, viewer->open_ended ? LAST_RECT : count);
	err = vnc_channel_write(&viewer->channel, message, (size_t)(at - message));
	if (!err && viewer->tell_cursor)
		err = vnc_encoder_cursor(viewer);
	viewer->tell_keys = viewer->tell_buttons = viewer->tell_position = viewer->tell_cursor =
		false;
	viewer->is_sending = true;
	pthread_mutex_lock(&viewer->server->shared.lock);
	viewer->server->shared.stats.updates++;
	pthread_mutex_unlock(&viewer->server->shared.lock);
	return err;
}

/* Go on with the update under way, as far as it goes without waiting. */
static int go_on(struct vnc_viewer *viewer)
{
	struct vnc_shared *shared = &viewer->server->shared;
	const bool stale = viewer->generation != viewer->screen->generation;
	uint8_t last[12];
	pixman_box32_t band;
	int err = 0;

	for (unsigned i = 0; i < BANDS_MAX && !err && vnc_channel_idle(&viewer->channel); i++) {
		/* The screen has another size by now: what was promised is void, the rest comes with the new size. */
		if ((stale && viewer->open_ended) || !next_band(viewer, &band)) {
			viewer->is_sending = false;
			put_rect(last, 0, 0, 0, 0, ENCODING_LAST);
			err = viewer->open_ended
				      ? vnc_channel_write(&viewer->channel, last, sizeof(last))
				      : 0;
			/* A size, a request, a message may have waited for it. */
			viewer->again = true;
			break;
		}
		pthread_mutex_lock(&shared->lock);
		shared->stats.sent_pixels +=
			(uint64_t)(band.x2 - band.x1) * (uint64_t)(band.y2 - band.y1);
		pthread_mutex_unlock(&shared->lock);
		err = (stale ? vnc_encoder_void : vnc_encoder_band)(
			viewer, band.x1, band.y1, band.x2 - band.x1, band.y2 - band.y1);
	}
	viewer->again |= viewer->is_sending && vnc_channel_idle(&viewer->channel);
	return err;
}

int vnc_viewer_update(struct vnc_viewer *viewer, uint64_t now)
{
	int err = 0;

	if (viewer->stage != VNC_NORMAL)
		return 0;
	if (viewer->asked_until_ns && now >= viewer->asked_until_ns) {
		/* Forwarded, says status 4; the guest has not followed, and may yet. */
		viewer->asked_until_ns = 0;
		viewer->tell_size = true;
		viewer->size_reason = 1;
		viewer->size_status = 4;
	}
	/* Who cannot follow goes on with what of the screen lies within its own borders. */
	viewer->tell_size &= viewer->resizes || viewer->resizes_extended;
	if (viewer->tell_size && !viewer->is_sending && vnc_channel_idle(&viewer->channel))
		err = tell_size(viewer);
	if (!err && vnc_viewer_wants(viewer))
		err = begin(viewer);
	if (!err && viewer->is_sending)
		err = go_on(viewer);
	return err;
}
