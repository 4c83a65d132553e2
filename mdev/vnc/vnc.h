/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc: the heads of a vGPU, shown to viewers over RFB (RFC 6143 and the extensions that today's viewers use); docs/displays.md.
 *
 * Threads: one, "vnc", from vnc_server_start() to vnc_server_destroy(); it sleeps while nobody looks. Everything that needs a
 * path (sockets, keys, the password) is opened by vnc_server_create(), before a sandbox closes.
 */
#ifndef MDEV_VNC_VNC_H
#define MDEV_VNC_VNC_H

#include "base/base.h"
#include "mdev/mdev.h"

#define VNC_VIEWERS_MAX	   8 /* of one place, once they are let in */
#define VNC_HANDSHAKES_MAX 8 /* of a server: more, and the oldest that is not let in yet goes */
#define VNC_PLACES_MAX	   (VIRTIO_GPU_HEADS_MAX + 1)

struct input_seat;
struct vnc_server;

struct vnc_config {
	const char *name; /* of the vGPU, as viewers show it; NULL: "vgpu" */
	unsigned head_count;
	/* What viewers see while a guest shows nothing has this size; 0 x 0: the smallest. */
	struct virtio_gpu_mode heads[VIRTIO_GPU_HEADS_MAX];
	/*
	 * Where each head is served, and where all of them side by side: the path of a UNIX socket (made here, mode 0600,
	 * removed in the end) or "tcp:ADDRESS:PORT", an IPv6 address in brackets. NULL: nowhere.
	 */
	const char *places[VIRTIO_GPU_HEADS_MAX];
	const char *desktop;
	/* A folder with server-cert.pem and server-key.pem. NULL: none; then there is no TCP but with @plaintext. */
	const char *tls;
	/* A file whose first line it is. NULL: none; then there is no TCP. */
	const char *password_file;
	bool plaintext;		 /* TCP without TLS, with all that means */
	struct input_seat *seat; /* borrowed, outlives the server; NULL: viewers only look */
	/* Of a viewer that takes nothing of what waits for it; until one is let in; that a browser has to speak first. 0: 20000, 10000, 250. */
	unsigned stall_ms, handshake_ms, sniff_ms;
};

/*
 * vnc_server_create() - open all that is needed. Nobody is answered before vnc_server_start().
 * @device: of virtio_gpu_create(), borrowed, outlives the server
 * @config: copied
 *
 * Several servers of one process are created one after the other, before any of them has a viewer: libvncserver's lists are
 * made anew by each. Returns 0 or -errno: "vnc-place", "vnc-in-use" (TCP), "vnc-insecure", "vnc-tls", "vnc-password",
 * "no-memory", and unix_listener_open()'s.
 */
int vnc_server_create(struct vfio_device *device, const struct vnc_config *config,
		      struct vnc_server **out, struct error *e);
/* vnc_server_start() - begin to answer. Returns 0 or -errno ("no-thread"). */
int vnc_server_start(struct vnc_server *server, struct error *e);
/* vnc_server_destroy() - drop every viewer, remove the sockets. Before the device is closed. NULL is fine. */
void vnc_server_destroy(struct vnc_server *server);

/* vnc_server_port() - the TCP port of @head's place, or of the desktop's (VIRTIO_GPU_HEADS_MAX): "tcp:ADDRESS:0" takes any. */
unsigned vnc_server_port(const struct vnc_server *server, unsigned head);

struct vnc_stats {
	unsigned viewers, handshakes;
	uint64_t pulled_pixels; /* copied from heads, since the start */
	uint64_t sent_pixels;	/* encoded for viewers */
	uint64_t sent_bytes;	/* handed to the kernel, for all of them */
	uint64_t updates;	/* that were begun */
	uint64_t wakeups;	/* of the thread */
};
/* vnc_server_stats() - any thread. */
void vnc_server_stats(struct vnc_server *server, struct vnc_stats *stats);

#endif
