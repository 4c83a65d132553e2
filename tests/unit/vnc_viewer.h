/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc_viewer: viewers for tests of mdev/vnc: libvncclient's, which is somebody else's reading of the protocol, and one that writes
 * bytes, for what no viewer would say. After gpu_guest.h.
 */
#ifndef TESTS_VNC_VIEWER_H
#define TESTS_VNC_VIEWER_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <rfb/rfbclient.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/sandbox.h"
#include "mdev/vnc/vnc.h"

#if SANDBOX_SANITIZED
#include <sanitizer/lsan_interface.h>
#else
#define __lsan_disable()
#define __lsan_enable()
#endif

#define VIEWER_WAIT_MS 20000

struct viewer {
	rfbClient *client;
	unsigned updates, rects, cursors, positions, resizes;
	uint64_t pixels; /* of all rectangles */
	int last_x, last_y, last_w, last_h;
	int cursor_w, cursor_h, cursor_hot_x, cursor_hot_y, position_x, position_y;
	const char *password, *ca;
};

static inline struct viewer *viewer_of(rfbClient *client)
{
	return rfbClientGetClientData(client, (void *)"viewer");
}

static inline void viewer_on_rect(rfbClient *client, int x, int y, int w, int h)
{
	struct viewer *viewer = viewer_of(client);

	viewer->rects++;
	viewer->pixels += (uint64_t)w * (uint64_t)h;
	viewer->last_x = x;
	viewer->last_y = y;
	viewer->last_w = w;
	viewer->last_h = h;
}

static inline void viewer_on_update(rfbClient *client)
{
	viewer_of(client)->updates++;
}

static inline void viewer_on_cursor(rfbClient *client, int hot_x, int hot_y, int width, int height,
				    int bytes)
{
	struct viewer *viewer = viewer_of(client);

	viewer->cursors++;
	viewer->cursor_w = width;
	viewer->cursor_h = height;
	viewer->cursor_hot_x = hot_x;
	viewer->cursor_hot_y = hot_y;
}

static inline rfbBool viewer_on_position(rfbClient *client, int x, int y)
{
	struct viewer *viewer = viewer_of(client);

	viewer->positions++;
	viewer->position_x = x;
	viewer->position_y = y;
	return TRUE;
}

static inline rfbBool viewer_on_resize(rfbClient *client)
{
	viewer_of(client)->resizes++;
	free(client->frameBuffer);
	client->frameBuffer = calloc((size_t)client->width * (size_t)client->height, 4);
	return client->frameBuffer != NULL;
}

static inline char *viewer_on_password(rfbClient *client)
{
	return strdup(viewer_of(client)->password ? viewer_of(client)->password : "");
}

static inline rfbCredential *viewer_on_credential(rfbClient *client, int type)
{
	struct viewer *viewer = viewer_of(client);
	rfbCredential *credential = calloc(1, sizeof(*credential));

	assert_non_null(credential);
	if (type == rfbCredentialTypeUser) {
		credential->userCredential.username = strdup("anybody");
		credential->userCredential.password =
			strdup(viewer->password ? viewer->password : "");
	} else {
		credential->x509Credential.x509CACertFile = viewer->ca ? strdup(viewer->ca) : NULL;
		credential->x509Credential.x509CrlVerifyMode = rfbX509CrlVerifyNone;
	}
	return credential;
}

static inline void viewer_silent(const char *format, ...)
{
}

/* A client that is not connected yet: its encodings and credentials may be set. */
static inline void viewer_make(struct viewer *viewer, const char *encodings)
{
	rfbClient *client = rfbGetClient(8, 3, 4);

	if (!getenv("VNC_CLIENT_LOG"))
		rfbClientLog = rfbClientErr = viewer_silent;
	assert_non_null(client);
	*viewer = (struct viewer){ .client = client };
	rfbClientSetClientData(client, (void *)"viewer", viewer);
	client->GotFrameBufferUpdate = viewer_on_rect;
	client->FinishedFrameBufferUpdate = viewer_on_update;
	client->GotCursorShape = viewer_on_cursor;
	client->HandleCursorPos = viewer_on_position;
	client->MallocFrameBuffer = viewer_on_resize;
	client->GetPassword = viewer_on_password;
	client->GetCredential = viewer_on_credential;
	client->canHandleNewFBSize = TRUE;
	client->format.redShift = 16;
	client->format.greenShift = 8;
	client->format.blueShift = 0;
	client->appData.encodingsString = encodings;
	client->appData.enableJPEG = FALSE;
	client->appData.useRemoteCursor = TRUE;
	client->connectTimeout = 10;
	client->readTimeout = 20;
}

/* Connect to a path, or to a port of 127.0.0.1. On failure the client is gone. libvncclient does not give back its certificates. */
static inline bool viewer_join(struct viewer *viewer, const char *path, unsigned port)
{
	rfbClient *client = viewer->client;
	bool joined;

	free(client->serverHost);
	client->serverHost = strdup(path ? path : "127.0.0.1");
	client->serverPort = (int)port;
	__lsan_disable();
	joined = rfbInitClient(client, NULL, NULL);
	__lsan_enable();
	if (!joined)
		viewer->client = NULL;
	return joined;
}

static inline void viewer_leave(struct viewer *viewer)
{
	if (!viewer->client)
		return;
	free(viewer->client->frameBuffer);
	rfbClientCleanup(viewer->client);
	viewer->client = NULL;
}

/* One message, if one comes in time. Returns false when the connection is over. */
static inline bool viewer_step(struct viewer *viewer, unsigned ms)
{
	int ready = WaitForMessage(viewer->client, ms * 1000);

	return ready >= 0 && (!ready || HandleRFBServerMessage(viewer->client));
}

/* Messages until @until; fails after a long while, or when the server hangs up. */
#define viewer_until(viewer, until)                                                         \
	do {                                                                                \
		const uint64_t end__ = monotonic_ns() + VIEWER_WAIT_MS * UINT64_C(1000000); \
		while (!(until)) {                                                          \
			if (!viewer_step(viewer, 20))                                       \
				fail_msg("the server hung up before %s", #until);           \
			if (monotonic_ns() > end__)                                         \
				fail_msg("not in %d ms: %s", VIEWER_WAIT_MS, #until);       \
		}                                                                           \
	} while (0)

static inline uint32_t viewer_pixel(const struct viewer *viewer, int x, int y)
{
	const uint32_t *pixels = (const uint32_t *)(const void *)viewer->client->frameBuffer;

	return pixels[y * viewer->client->width + x] & 0xffffff;
}

/* Whether it shows @width x @height pixels of @pixels at @left. */
static inline bool viewer_shows_at(const struct viewer *viewer, const uint32_t *pixels, int left,
				   int width, int height)
{
	if (left + width > viewer->client->width || height > viewer->client->height)
		return false;
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++)
			if (viewer_pixel(viewer, left + x, y) != (pixels[y * width + x] & 0xffffff))
				return false;
	return true;
}

static inline bool viewer_shows(const struct viewer *viewer, const uint32_t *pixels, int width,
				int height)
{
	return viewer->client->width == width && viewer->client->height == height &&
	       viewer_shows_at(viewer, pixels, 0, width, height);
}

/* ---- bytes -------------------------------------------------------------------------------------- */

static inline int raw_connect(const char *path, unsigned port)
{
	const struct timeval patience = { VIEWER_WAIT_MS / 1000, 0 };
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct sockaddr_in remote = { .sin_family = AF_INET,
				      .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (path)
		snprintf(local.sun_path, sizeof(local.sun_path), "%s", path);
	assert_int_equal(
		connect(fd,
			path ? (const struct sockaddr *)&local : (const struct sockaddr *)&remote,
			path ? sizeof(local) : sizeof(remote)),
		0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static inline bool raw_get(int fd, void *data, size_t size)
{
	return recv(fd, data, size, MSG_WAITALL) == (ssize_t)size;
}

static inline bool raw_put(int fd, const void *data, size_t size)
{
	return send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Whether the server hangs up, whatever it says before. */
static inline bool raw_ended(int fd)
{
	char waste[4096];
	ssize_t got;

	do
		got = recv(fd, waste, sizeof(waste), 0);
	while (got > 0);
	return !got || errno == ECONNRESET;
}

/* From connect to ServerInit at a place without a password. */
static inline int raw_join(const char *path)
{
	uint8_t data[256];
	int fd = raw_connect(path, 0);

	assert_true(raw_get(fd, data, 12));
	assert_memory_equal(data, "RFB 003.008\n", 12);
	assert_true(raw_put(fd, "RFB 003.008\n", 12));
	assert_true(raw_get(fd, data, 2));
	assert_int_equal(data[0], 1);
	assert_int_equal(data[1], 1);
	assert_true(raw_put(fd, "\1", 1));
	assert_true(raw_get(fd, data, 4));
	assert_true(raw_put(fd, "\1", 1));
	assert_true(raw_get(fd, data, 24));
	assert_true(raw_get(fd, data + 24, data[23]));
	return fd;
}

/* Ask for all of it, or for what is new. */
static inline bool raw_request(int fd, bool all)
{
	const uint8_t request[10] = { 3, !all, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff };

	return raw_put(fd, request, sizeof(request));
}

#endif
