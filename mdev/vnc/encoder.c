// SPDX-License-Identifier: Apache-2.0
/*
 * encoder: libvncserver's part: pixels of a screen, in a viewer's pixel format and encoding.
 *
 * Of the library we use the encoders, the translation of pixels and the cursor, not its sockets: those wait (up to 20 s for half a
 * message, in the one loop of all viewers), use select(2), which writes beyond its sets where a descriptor is above 1023 (a guest's
 * blobs are descriptors), and keep the kinds of authentication in one list of the process. So its "socket" is a file in memory,
 * mapped here, that is emptied after each band; and it meets no byte of a viewer's, only a format, a list and rectangles that
 * were judged (message.c). What it makes of a band has a limit, the file's size, which is sealed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdev/vnc/private.h"

/* Of no use to anybody but who looks for an error in it: what fails is logged where a viewer is dropped. */
static void on_words(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	text[strcspn(text, "\r\n")] = 0;
	log_debug("libvncserver: %s", text);
}

/* ---- life --------------------------------------------------------------------------------------- */

int vnc_encoder_open(struct vnc_server *server, struct error *e)
{
	unsigned char warm[16] = { 0 };
	void *map;

	rfbLog = rfbErr = on_words;
	/* What libgcrypt opens at first use is open then. */
	rfbEncryptBytes(warm, server->password);
	server->scratch_fd = memfd_create("divvy-vnc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (server->scratch_fd < 0 || ftruncate(server->scratch_fd, VNC_SCRATCH_SIZE) < 0 ||
	    fcntl(server->scratch_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_set(e, errno, "no-memory", NULL, "vnc: memory for frames: %s",
				 strerror(errno));
	map = mmap(NULL, VNC_SCRATCH_SIZE, PROT_READ, MAP_SHARED, server->scratch_fd, 0);
	if (map == MAP_FAILED)
		return error_set(e, errno, "no-memory", NULL, "vnc: memory for frames: %s",
				 strerror(errno));
	server->scratch = map;
	/* The number under which the library knows its socket: kept, since later ones may be too high for it. */
	server->work_fd = fcntl(server->scratch_fd, F_DUPFD_CLOEXEC, 0);
	if (server->work_fd < 0 || server->work_fd >= FD_SETSIZE)
		return error_set(e, EMFILE, "no-memory", "close what this process inherits",
				 "vnc: %u descriptors are open already", FD_SETSIZE);
	return 0;
}

void vnc_encoder_close(struct vnc_server *server)
{
	if (server->scratch)
		munmap(server->scratch, VNC_SCRATCH_SIZE);
	server->scratch = NULL;
	fd_close(&server->scratch_fd);
	fd_close(&server->work_fd);
}

int vnc_encoder_screen(struct vnc_screen *screen)
{
	rfbScreenInfoPtr rfb = rfbGetScreen(NULL, NULL, 4, 4, 8, 3, 4);

	if (!rfb)
		return -ENOMEM;
	/* Words of PIXMAN_x8r8g8b8. */
	rfb->serverFormat.depth = 24;
	rfb->serverFormat.redShift = 16;
	rfb->serverFormat.greenShift = 8;
	rfb->serverFormat.blueShift = 0;
	rfb->cursor = NULL;
	rfb->screenData = screen;
	screen->rfb = rfb;
	return 0;
}

void vnc_encoder_screen_free(struct vnc_screen *screen)
{
	if (!screen->rfb)
		return;
	screen->rfb->cursor = NULL;
	rfbScreenCleanup(screen->rfb);
	screen->rfb = NULL;
}

void vnc_encoder_resized(struct vnc_screen *screen)
{
	screen->rfb->width = (int)screen->width;
	screen->rfb->height = (int)screen->height;
	screen->rfb->paddedWidthInBytes = (int)screen->width * 4;
	screen->rfb->sizeInBytes = (int)(screen->width * screen->height * 4);
	screen->rfb->frameBuffer = (char *)screen->pixels;
}

/* The library's cursors have a colour and a bit; the guest's have alpha, with colours multiplied by it. */
void vnc_encoder_cursor_set(struct vnc_screen *screen)
{
	const struct vnc_cursor *cursor = &screen->cursor;

	memset(screen->rich_mask, 0, sizeof(screen->rich_mask));
	for (size_t i = 0; i < ARRAY_SIZE(cursor->pixels); i++) {
		const uint32_t pixel = cursor->pixels[i], alpha = pixel >> 24;
		uint32_t colour = 0;

		if (alpha >= 128)
			screen->rich_mask[i / 8] |= (uint8_t)(0x80 >> i % 8);
		for (unsigned shift = 0; shift < 24 && alpha; shift += 8)
			colour |= MIN((pixel >> shift & 0xff) * 255 / alpha, 255u) << shift;
		screen->rich_pixels[i] = colour;
	}
	screen->rich = (rfbCursor){
		.mask = screen->rich_mask,
		.richSource = (unsigned char *)screen->rich_pixels,
		.width = VIRTIO_GPU_CURSOR_SIZE,
		.height = VIRTIO_GPU_CURSOR_SIZE,
		.xhot = (unsigned short)cursor->hot_x,
		.yhot = (unsigned short)cursor->hot_y,
	};
	screen->rfb->cursor = cursor->visible ? &screen->rich : NULL;
}

/*
 * The library has closed the number (after an error). It may be another thread's by now, so there is a new one. None below
 * FD_SETSIZE: then nothing more is encoded.
 */
static void work_again(struct vnc_server *server)
{
	server->work_fd = fcntl(server->scratch_fd, F_DUPFD_CLOEXEC, 0);
	if (server->work_fd < FD_SETSIZE)
		return;
	fd_close(&server->work_fd);
	log_error("vnc: %u descriptors are open: no pictures any more", FD_SETSIZE);
}

static bool is_same(int fd, int other)
{
	struct stat a, b;

	return !fstat(fd, &a) && !fstat(other, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* A connection of its own, for the moment in which the library looks at who connects. */
int vnc_encoder_attach(struct vnc_viewer *viewer)
{
	struct vnc_server *server = viewer->server;
	int pair[2], err = 0;

	if (server->work_fd < 0)
		return -EMFILE;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	/* "RFB " is what it looks for, lest this be HTTP or TLS. */
	if (send(pair[0], "RFB ", 4, MSG_NOSIGNAL) != 4 ||
	    dup3(pair[1], server->work_fd, O_CLOEXEC) < 0)
		err = -errno;
	if (!err) {
		viewer->rfb = rfbNewClient(viewer->screen->rfb, server->work_fd);
		if (viewer->rfb)
			viewer->rfb->sock = RFB_INVALID_SOCKET;
		else if (!is_same(server->work_fd, pair[1]))
			work_again(server);
	}
	if (server->work_fd >= 0 && is_same(server->work_fd, pair[1]) &&
	    dup3(server->scratch_fd, server->work_fd, O_CLOEXEC) < 0)
		err = -errno;
	close(pair[0]);
	close(pair[1]);
	if (err || !viewer->rfb) {
		vnc_encoder_detach(viewer);
		return err ? err : -ENOMEM;
	}
	viewer->rfb->state = RFB_NORMAL;
	viewer->rfb->preferredEncoding = rfbEncodingRaw;
	viewer->rfb->turboQualityLevel = -1;
	viewer->rfb->readyForSetColourMapEntries = TRUE;
	return 0;
}

void vnc_encoder_detach(struct vnc_viewer *viewer)
{
	if (!viewer->rfb)
		return;
	/* Not its to close. */
	viewer->rfb->sock = RFB_INVALID_SOCKET;
	rfbClientConnectionGone(viewer->rfb);
	viewer->rfb = NULL;
}

/* ---- what the viewer takes ---------------------------------------------------------------------- */

int vnc_encoder_format(struct vnc_viewer *viewer, const rfbPixelFormat *format)
{
	viewer->rfb->format = *format;
	if (!rfbSetTranslateFunction(viewer->rfb))
		return -EPROTO;
	/* What it has is of the old format, and so is its cursor. */
	viewer->tell_cursor = viewer->shows_cursor;
	return 0;
}

/* What qualities of Tight's JPEG mean (TigerVNC's and libvncserver's tables). */
static const struct {
	int quality, subsampling;
} jpeg[10] = {
	{ 15, 1 }, { 29, 1 }, { 41, 1 }, { 42, 2 }, { 62, 2 },
	{ 77, 2 }, { 79, 0 }, { 86, 0 }, { 92, 0 }, { 100, 0 },
};

static void encoding(struct vnc_viewer *viewer, int32_t number)
{
	rfbClientPtr rfb = viewer->rfb;

	switch (number) {
	case rfbEncodingRaw:
	case rfbEncodingHextile:
	case rfbEncodingTight:
	case rfbEncodingZRLE:
		/* The first is the one it likes best. */
		if (rfb->preferredEncoding == -1)
			rfb->preferredEncoding = number;
		break;
	case (int32_t)rfbEncodingLastRect:
		rfb->enableLastRectEncoding = TRUE;
		break;
	case (int32_t)rfbEncodingNewFBSize:
		viewer->resizes = true;
		break;
	case (int32_t)rfbEncodingExtDesktopSize:
		viewer->resizes_extended = true;
		break;
	case (int32_t)rfbEncodingRichCursor:
		viewer->shows_cursor = true;
		break;
	case (int32_t)rfbEncodingPointerPos:
		viewer->follows_cursor = true;
		break;
	case (int32_t)rfbEncodingQemuExtendedKeyEvent:
		viewer->extended_keys = true;
		break;
	case -316: /* ExtendedMouseButtons */
		viewer->extended_buttons = true;
		break;
	default:
		if (number >= (int32_t)rfbEncodingCompressLevel0 &&
		    number <= (int32_t)rfbEncodingCompressLevel9) {
			rfb->tightCompressLevel = number - (int32_t)rfbEncodingCompressLevel0;
			rfb->zlibCompressLevel = (uint32_t)rfb->tightCompressLevel;
		} else if (number >= (int32_t)rfbEncodingQualityLevel0 &&
			   number <= (int32_t)rfbEncodingQualityLevel9) {
			rfb->tightQualityLevel = number - (int32_t)rfbEncodingQualityLevel0;
			rfb->turboQualityLevel = jpeg[rfb->tightQualityLevel].quality;
			rfb->turboSubsampLevel = jpeg[rfb->tightQualityLevel].subsampling;
		}
	}
}

void vnc_encoder_encodings(struct vnc_viewer *viewer, const uint8_t *encodings, unsigned count)
{
	rfbClientPtr rfb = viewer->rfb;

	rfb->preferredEncoding = -1;
	rfb->enableLastRectEncoding = FALSE;
	rfb->tightQualityLevel = rfb->turboQualityLevel = -1;
	rfb->tightCompressLevel = TIGHT_DEFAULT_COMPRESSION;
	rfb->turboSubsampLevel = TURBO_DEFAULT_SUBSAMP;
	viewer->resizes = viewer->resizes_extended = false;
	viewer->shows_cursor = viewer->follows_cursor = false;
	viewer->extended_keys = viewer->extended_buttons = false;
	for (unsigned i = 0; i < count; i++)
		encoding(viewer, (int32_t)vnc_get32(encodings + 4ul * i));
	if (rfb->preferredEncoding == -1)
		rfb->preferredEncoding = rfbEncodingRaw;
	rfb->useRichCursorEncoding = rfb->enableCursorShapeUpdates = viewer->shows_cursor;
	viewer->follows_cursor &= viewer->shows_cursor;
}

/* Of a rectangle in raw encoding. */
static void put_header(uint8_t header[12], int32_t x, int32_t y, int32_t width, int32_t height)
{
	header = vnc_put16(vnc_put16(header, (uint32_t)x), (uint32_t)y);
	header = vnc_put16(vnc_put16(header, (uint32_t)width), (uint32_t)height);
	vnc_put32(header, rfbEncodingRaw);
}

/* ---- work --------------------------------------------------------------------------------------- */

static int work_begin(struct vnc_viewer *viewer)
{
	const struct vnc_server *server = viewer->server;

	viewer->rfb->sock = server->work_fd;
	viewer->rfb->ublen = 0;
	return server->work_fd >= 0 && !lseek(server->scratch_fd, 0, SEEK_SET) ? 0 : -EMFILE;
}

/* What the library has written goes out. */
static int work_end(struct vnc_viewer *viewer, bool good)
{
	struct vnc_server *server = viewer->server;
	off_t size;

	if (good && viewer->rfb->ublen)
		good = rfbSendUpdateBuf(viewer->rfb);
	if (viewer->rfb->sock == RFB_INVALID_SOCKET)
		work_again(server);
	viewer->rfb->sock = RFB_INVALID_SOCKET;
	if (!good)
		return -EIO;
	size = lseek(server->scratch_fd, 0, SEEK_CUR);
	return size > 0 ? vnc_channel_write(&viewer->channel, server->scratch, (size_t)size) : 0;
}

static bool encode(rfbClientPtr rfb, int32_t x, int32_t y, int32_t width, int32_t height)
{
	switch (rfb->preferredEncoding) {
	case rfbEncodingHextile:
		return rfbSendRectEncodingHextile(rfb, x, y, width, height);
	case rfbEncodingTight:
		return rfbSendRectEncodingTight(rfb, x, y, width, height);
	case rfbEncodingZRLE:
		return rfbSendRectEncodingZRLE(rfb, x, y, width, height);
	default:
		return rfbSendRectEncodingRaw(rfb, x, y, width, height);
	}
}

bool vnc_encoder_is_plain(const struct vnc_viewer *viewer)
{
	return viewer->rfb->preferredEncoding == rfbEncodingRaw &&
	       viewer->rfb->translateFn == rfbTranslateNone;
}

/* The screen's own words are what the viewer wants: from the shadow into the socket. */
static int send_plain(struct vnc_viewer *viewer, int32_t x, int32_t y, int32_t width,
		      int32_t height)
{
	const struct vnc_screen *screen = viewer->screen;
	const uint32_t *pixels = screen->pixels + (size_t)y * screen->width + (size_t)x;
	const bool whole = (uint32_t)width == screen->width;
	const size_t size = (whole ? (size_t)height : 1) * (size_t)width * 4;
	uint8_t header[12];
	int err;

	put_header(header, x, y, width, height);
	err = vnc_channel_write(&viewer->channel, header, sizeof(header));
	for (int32_t row = 0; row < (whole ? 1 : height) && !err; row++)
		err = vnc_channel_write(&viewer->channel, pixels + (size_t)row * screen->width,
					size);
	return err;
}

/* The cursor, in the screen's pixels, for the time of one band. */
struct painted {
	pixman_image_t *under, *cursor;
	int32_t x, y;
};

static void paint(struct vnc_screen *screen, struct painted *painted)
{
	const int32_t side = VIRTIO_GPU_CURSOR_SIZE;

	painted->x = screen->cursor.x - (int32_t)screen->cursor.hot_x;
	painted->y = screen->cursor.y - (int32_t)screen->cursor.hot_y;
	painted->under = pixman_image_create_bits(PIXMAN_x8r8g8b8, side, side, NULL, 0);
	painted->cursor = pixman_image_create_bits(PIXMAN_a8r8g8b8, side, side,
						   screen->cursor.pixels, side * 4);
	if (!painted->under || !painted->cursor)
		return;
	pixman_image_composite32(PIXMAN_OP_SRC, screen->image, NULL, painted->under, painted->x,
				 painted->y, 0, 0, 0, 0, side, side);
	pixman_image_composite32(PIXMAN_OP_OVER, painted->cursor, NULL, screen->image, 0, 0, 0, 0,
				 painted->x, painted->y, side, side);
}

static void unpaint(struct vnc_screen *screen, struct painted *painted)
{
	const int32_t side = VIRTIO_GPU_CURSOR_SIZE;

	if (painted->under && painted->cursor)
		pixman_image_composite32(PIXMAN_OP_SRC, painted->under, NULL, screen->image, 0, 0,
					 0, 0, painted->x, painted->y, side, side);
	if (painted->under)
		pixman_image_unref(painted->under);
	if (painted->cursor)
		pixman_image_unref(painted->cursor);
}

static int send_encoded(struct vnc_viewer *viewer, int32_t x, int32_t y, int32_t width,
			int32_t height)
{
	int err = work_begin(viewer);

	return err ? err : work_end(viewer, encode(viewer->rfb, x, y, width, height));
}

int vnc_encoder_band(struct vnc_viewer *viewer, int32_t x, int32_t y, int32_t width, int32_t height)
{
	struct vnc_screen *screen = viewer->screen;
	const bool with_cursor = !viewer->shows_cursor && screen->cursor.visible;
	struct painted painted = { 0 };
	int err;

	if (with_cursor)
		paint(screen, &painted);
	err = (vnc_encoder_is_plain(viewer) ? send_plain : send_encoded)(viewer, x, y, width,
									 height);
	if (with_cursor)
		unpaint(screen, &painted);
	return err;
}

int vnc_encoder_cursor(struct vnc_viewer *viewer)
{
	int err = work_begin(viewer);

	return err ? err : work_end(viewer, rfbSendCursorShape(viewer->rfb));
}

int vnc_encoder_void(struct vnc_viewer *viewer, int32_t x, int32_t y, int32_t width, int32_t height)
{
	const size_t size = (size_t)width * (size_t)height * viewer->rfb->format.bitsPerPixel / 8;
	uint8_t header[12], *nothing = calloc(1, size);
	int err;

	put_header(header, x, y, width, height);
	err = nothing ? vnc_channel_write(&viewer->channel, header, sizeof(header)) : -ENOMEM;
	if (!err)
		err = vnc_channel_write(&viewer->channel, nothing, size);
	free(nothing);
	return err;
}
