// SPDX-License-Identifier: Apache-2.0
/*
 * What a viewer sends: from its first byte (RFB, a browser's HTTP, VeNCrypt, passwords) or from where it is let in (formats,
 * encodings, requests, input, sizes), in pieces, with or without taking what it is sent. The server's thread is played here, so that
 * an input means the same each time; nobody is at the device's other side but its worker.
 *
 * Byte 0: bits 0-1 no, a short or a long password; 2 TCP, in clear; 3 let in already; 4 does not read; 5-6 a WebSocket already, all
 * heads. Byte 1: how many bytes come at once.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mdev/vnc/private.h"

#define TURNS_MAX 4096

static struct vnc_server *server;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct virtio_gpu_config gpu = { .head_count = 2,
					       .heads = { { 640, 480 }, { 800, 600 } } };
	struct vnc_config config = { .head_count = 2, .heads = { { 640, 480 }, { 800, 600 } } };
	char folder[] = "/tmp/divvy-fuzz-XXXXXX", head[64], desktop[64];
	struct vfio_device *device;

	if (!mkdtemp(folder) || virtio_gpu_create(&gpu, &device, NULL) ||
	    vfio_device_start(device, NULL))
		abort();
	snprintf(head, sizeof(head), "%s/head", folder);
	snprintf(desktop, sizeof(desktop), "%s/desktop", folder);
	config.places[0] = head;
	config.desktop = desktop;
	if (vnc_server_create(device, &config, &server, NULL))
		abort();
	/* Nobody connects; the names are in the way of the next run. */
	unlink(head);
	unlink(desktop);
	rmdir(folder);
	return 0;
}

static void drain(int fd)
{
	char waste[65536];

	while (recv(fd, waste, sizeof(waste), MSG_DONTWAIT) > 0)
		;
}

/* Something to encode: flat at the left, noise at the right. */
static void paint(struct vnc_screen *screen)
{
	for (uint32_t i = 0; screen->pixels && i < screen->width * screen->height; i++)
		screen->pixels[i] = i % screen->width < screen->width / 2
					    ? i / screen->width / 40 * 0x224466
					    : i * 2654435761u;
}

/* A turn of the thread (server.c). Returns whether the viewer is still there. */
static bool turn(struct vnc_viewer *viewer, struct vnc_screen *screen)
{
	/* Far enough for what waits for a viewer to speak, not for a timeout. */
	const uint64_t now = monotonic_ns() + 400 * 1000000ul;
	const bool was_in = viewer->rfb;
	int err = vnc_viewer_serve(viewer, now);

	if (!err && !was_in && viewer->rfb)
		paint(screen);
	vnc_screens_gather(server);
	vnc_screens_pull(server, now);
	if (!err)
		err = vnc_viewer_update(viewer, now);
	if (err)
		vnc_viewer_drop(viewer);
	return !err;
}

static struct vnc_viewer *the_viewer(void)
{
	struct vnc_viewer *found = NULL;

	FOR_EACH_VIEWER(server, viewer)
	found = viewer;
	return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const passwords[] = { "", "short", "a long password", "short" };
	static const char in[] = "RFB 003.008\n\1\1";
	struct vnc_screen *screen;
	struct vnc_viewer *viewer;
	bool alive = true, reads;
	int pair[2];
	size_t piece;

	if (size < 2)
		return 0;
	piece = data[1] ? data[1] * (size_t)data[1] : 65536;
	reads = !(data[0] & 16);
	screen = &server->screens[data[0] & 64 ? VNC_DESKTOP : 0];
	strcpy(server->password, data[0] & 8 ? "" : passwords[data[0] & 3]);
	server->has_password = server->password[0];
	screen->tcp = data[0] & 4 && server->has_password && vnc_password_short(server);
	server->plaintext = screen->tcp;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		abort();
	vnc_viewer_accept(screen, pair[1], "local", monotonic_ns());
	viewer = the_viewer();
	if (!viewer)
		abort();
	if (data[0] & 8) {
		alive = turn(viewer, screen) &&
			send(pair[0], in, sizeof(in) - 1, MSG_NOSIGNAL) > 0 && turn(viewer, screen);
		viewer->channel.web = alive && data[0] & 32;
		drain(pair[0]);
	}
	data += 2;
	size -= 2;
	for (unsigned i = 0; i < TURNS_MAX && alive && size; i++) {
		ssize_t sent = send(pair[0], data, MIN(piece, size), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			data += sent;
			size -= (size_t)sent;
		}
		alive = turn(viewer, screen);
		if (reads)
			drain(pair[0]);
	}
	/* What it asked for is made to its end; one that does not read stays where it is. */
	for (unsigned i = 0; i < 64 && alive && (viewer->is_sending || viewer->again); i++) {
		alive = turn(viewer, screen);
		if (reads)
			drain(pair[0]);
	}
	if (alive)
		vnc_viewer_drop(viewer);
	close(pair[0]);
	if (server->let_in || screen->pixels || the_viewer())
		abort();
	return 0;
}
