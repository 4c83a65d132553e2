// SPDX-License-Identifier: Apache-2.0
/*
 * message: what a viewer that was let in says (RFC 6143, 7.5, and three extensions). The edge: each message is taken when it is
 * whole, judged here once, and becomes a request for pixels, an input event or another mode; no byte of it goes on as it came.
 * What was not offered, or makes no sense, ends the connection.
 *
 * Two messages cost something, a pixel format (tables) and a list of encodings: of those a viewer has one a turn.
 */
#include <errno.h>
#include <string.h>

#include "mdev/input/input.h"
#include "mdev/vnc/private.h"

enum {
	SET_PIXEL_FORMAT = 0,
	SET_ENCODINGS = 2,
	UPDATE_REQUEST = 3,
	KEY_EVENT = 4,
	POINTER_EVENT = 5,
	CUT_TEXT = 6,
	SET_DESKTOP_SIZE = 251,
	QEMU = 255,
	QEMU_KEY = 0,

	LAYOUT_INVALID = 3, /* ExtendedDesktopSize: "invalid screen layout" */
};

static int set_pixel_format(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now)
{
	rfbPixelFormat format = {
		.bitsPerPixel = in[4],
		.depth = in[5],
		.bigEndian = in[6] != 0,
		.trueColour = in[7] != 0,
		.redMax = (uint16_t)vnc_get16(in + 8),
		.greenMax = (uint16_t)vnc_get16(in + 10),
		.blueMax = (uint16_t)vnc_get16(in + 12),
		.redShift = in[14],
		.greenShift = in[15],
		.blueShift = in[16],
	};
	const unsigned max[] = { format.redMax, format.greenMax, format.blueMax };
	const unsigned shift[] = { format.redShift, format.greenShift, format.blueShift };

	if (format.bitsPerPixel != 8 && format.bitsPerPixel != 16 && format.bitsPerPixel != 32)
		return -EPROTO;
	if (!format.trueColour || !format.depth || format.depth > format.bitsPerPixel)
		return -EPROTO;
	for (unsigned i = 0; i < ARRAY_SIZE(max); i++)
		/* 2 to the N less 1, and within the pixel. */
		if (!max[i] || max[i] & (max[i] + 1) || shift[i] >= format.bitsPerPixel ||
		    (uint64_t)max[i] << shift[i] >> format.bitsPerPixel)
			return -EPROTO;
	return vnc_encoder_format(viewer, &format);
}

static int set_encodings(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now)
{
	const bool keys = viewer->extended_keys, buttons = viewer->extended_buttons;

	vnc_encoder_encodings(viewer, in + 4, vnc_get16(in + 2));
	viewer->tell_keys = viewer->extended_keys && !keys;
	viewer->tell_buttons = viewer->extended_buttons && !buttons;
	viewer->tell_cursor = viewer->shows_cursor;
	viewer->tell_position = viewer->follows_cursor && viewer->screen->cursor.visible;
	/* It is drawn now, or is not any more. */
	vnc_viewer_damage(viewer, 0, 0, viewer->width, viewer->height);
	return 0;
}

static int update_request(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now)
{
	const uint32_t x = vnc_get16(in + 2), y = vnc_get16(in + 4), width = vnc_get16(in + 6),
		       height = vnc_get16(in + 8);

	if (!pixman_region32_union_rect(&viewer->requested, &viewer->requested, (int)x, (int)y,
					width, height))
		return -ENOMEM;
	/* Requests need not be remembered one by one. */
	if (pixman_region32_n_rects(&viewer->requested) > VNC_RECTS_MAX) {
		const pixman_box32_t all = *pixman_region32_extents(&viewer->requested);

		pixman_region32_fini(&viewer->requested);
		pixman_region32_init_with_extents(&viewer->requested, &all);
	}
	if (in[1])
		return 0;
	vnc_viewer_damage(viewer, (int32_t)x, (int32_t)y, width, height);
	/* rfbproto, ExtendedDesktopSize: with a full update it comes again; so viewers learn that it is there. */
	if (viewer->resizes_extended && !viewer->asked_until_ns) {
		viewer->tell_size = true;
		viewer->size_reason = viewer->size_status = 0;
	}
	return 0;
}

static int key_event(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now)
{
	if (viewer->server->seat)
		input_seat_key(viewer->server->seat, viewer, vnc_get32(in + 4), 0, in[1] != 0);
	return 0;
}

static int qemu_key(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now)
{
	if (viewer->server->seat)
		input_seat_key(viewer->server->seat, viewer, vnc_get32(in + 4), vnc_get32(in + 8),
			       vnc_get16(in + 2) != 0);
	return 0;
}

static int pointer_event(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now)
{
	const struct vnc_server *server = viewer->server;
	unsigned buttons = in[1], head;
	uint32_t x = vnc_get16(in + 2), width, height;

	/* ExtendedMouseButtons: bit 7 says that there is a byte more. */
	if (viewer->extended_buttons && buttons & 0x80)
		buttons = (buttons & 0x7f) | (unsigned)(in[6] & 3) << 7;
	viewer->pointed_ns = now;
	head = vnc_screen_head(viewer->screen, &x);
	width = server->heads[head].width;
	height = server->heads[head].height;
	if (server->seat && width && height)
		input_seat_pointer(server->seat, viewer, head, (int)x, (int)vnc_get16(in + 4),
				   width, height, buttons);
	return 0;
}

static int cut_text(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now)
{
	viewer->skip = vnc_get32(in + 4);
	return viewer->skip > VNC_CLIPBOARD_MAX ? -EMSGSIZE : 0;
}

static bool mode_good(uint32_t width, uint32_t height)
{
	return width >= VIRTIO_GPU_WIDTH_MIN && width <= VIRTIO_GPU_WIDTH_MAX &&
	       height >= VIRTIO_GPU_HEIGHT_MIN && height <= VIRTIO_GPU_HEIGHT_MAX;
}

static void want(struct vnc_head *head, uint32_t width, uint32_t height)
{
	head->wanted = (struct virtio_gpu_mode){ width, height };
	head->is_wanted = true;
}

/* Which head a viewer means by its screen @id, as it was told (viewer.c), or the one that there is. */
static bool head_of(const struct vnc_screen *screen, uint32_t id, unsigned count, unsigned *head)
{
	*head = id - 1;
	if (count == 1 && screen->count == 1)
		*head = screen->first;
	return *head >= screen->first && *head < screen->first + screen->count;
}

static int set_desktop_size(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now)
{
	const struct vnc_screen *screen = viewer->screen;
	const unsigned count = in[6];
	struct vnc_head *heads = viewer->server->heads;
	unsigned head, seen = 0;
	bool good = count > 0;

	if (!viewer->resizes_extended)
		return -EPROTO;
	/* One screen is the whole desktop, whatever a viewer says of it besides. */
	for (unsigned i = 0; i < count && good; i++) {
		const uint8_t *one = in + 8 + 16ul * i;

		/* A head on which the guest shows nothing is not a viewer's to plug in. */
		good = head_of(screen, vnc_get32(one), count, &head) && !(seen & 1u << head) &&
		       heads[head].width &&
		       (count == 1 ? mode_good(vnc_get16(in + 2), vnc_get16(in + 4))
				   : mode_good(vnc_get16(one + 8), vnc_get16(one + 10)));
		seen |= 1u << (head % VIRTIO_GPU_HEADS_MAX);
	}
	for (unsigned i = 0; i < count && good; i++) {
		const uint8_t *one = in + 8 + 16ul * i, *size = count == 1 ? in + 2 : one + 8;

		head_of(screen, vnc_get32(one), count, &head);
		want(&heads[head], vnc_get16(size), vnc_get16(size + 2));
	}
	if (!good) {
		viewer->tell_size = true;
		viewer->size_reason = 1;
		viewer->size_status = LAYOUT_INVALID;
		return 0;
	}
	/* The answer is the guest's new mode, if there is one. */
	viewer->asked_until_ns = now + VNC_RESIZE_NS;
	viewer->screen->asked = true;
	return 0;
}

/* How long each is, where the first bytes are at @in; 0: that takes more of them. */
static size_t length_fixed(const struct vnc_viewer *viewer, const uint8_t *in, size_t size,
			   size_t fixed)
{
	return fixed;
}

static size_t length_encodings(const struct vnc_viewer *viewer, const uint8_t *in, size_t size,
			       size_t fixed)
{
	if (size < fixed)
		return 0;
	return vnc_get16(in + 2) > VNC_ENCODINGS_MAX ? SIZE_MAX : fixed + 4ul * vnc_get16(in + 2);
}

static size_t length_pointer(const struct vnc_viewer *viewer, const uint8_t *in, size_t size,
			     size_t fixed)
{
	if (size < fixed)
		return 0;
	return viewer->extended_buttons && in[1] & 0x80 ? fixed + 1 : fixed;
}

static size_t length_desktop(const struct vnc_viewer *viewer, const uint8_t *in, size_t size,
			     size_t fixed)
{
	if (size < fixed)
		return 0;
	return in[6] > VNC_SCREENS_MAX ? SIZE_MAX : fixed + 16ul * in[6];
}

static size_t length_qemu(const struct vnc_viewer *viewer, const uint8_t *in, size_t size,
			  size_t fixed)
{
	if (size < 2)
		return 0;
	return viewer->extended_keys && in[1] == QEMU_KEY ? fixed : SIZE_MAX;
}

static const struct message {
	uint8_t type;
	bool heavy;
	size_t fixed;
	size_t (*length)(const struct vnc_viewer *viewer, const uint8_t *in, size_t size,
			 size_t fixed);
	int (*run)(struct vnc_viewer *viewer, const uint8_t *in, uint64_t now);
} messages[] = {
	{ SET_PIXEL_FORMAT, true, 20, length_fixed, set_pixel_format },
	{ SET_ENCODINGS, true, 4, length_encodings, set_encodings },
	{ UPDATE_REQUEST, false, 10, length_fixed, update_request },
	{ KEY_EVENT, false, 8, length_fixed, key_event },
	{ POINTER_EVENT, false, 6, length_pointer, pointer_event },
	{ CUT_TEXT, false, 8, length_fixed, cut_text },
	{ SET_DESKTOP_SIZE, false, 8, length_desktop, set_desktop_size },
	{ QEMU, false, 12, length_qemu, qemu_key },
};

static const struct message *find(uint8_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		if (messages[i].type == type)
			return &messages[i];
	return NULL;
}

int vnc_message_step(struct vnc_viewer *viewer, uint64_t now)
{
	struct vnc_channel *channel = &viewer->channel;
	const struct message *message;
	size_t length;
	int err;

	if (viewer->skip) {
		const uint32_t part = (uint32_t)MIN(channel->in_size, (size_t)viewer->skip);

		vnc_channel_take(channel, part);
		viewer->skip -= part;
		return part ? 1 : 0;
	}
	if (!channel->in_size)
		return 0;
	message = find(channel->in[0]);
	length = message ? message->length(viewer, channel->in, channel->in_size, message->fixed)
			 : SIZE_MAX;
	if (length > sizeof(channel->in)) {
		log_limited(LOG_LEVEL_WARN, "vnc: viewer %u: message %u, which it should not send",
			    viewer->number, channel->in[0]);
		return -EPROTO;
	}
	if (!length || channel->in_size < length)
		return 0;
	/* An update is of one format and encoding: another waits for its end. */
	if (message->heavy && (viewer->heavy || viewer->is_sending)) {
		viewer->again |= !viewer->is_sending;
		return 0;
	}
	viewer->heavy |= message->heavy;
	err = message->run(viewer, channel->in, now);
	vnc_channel_take(channel, length);
	return err ? err : 1;
}
