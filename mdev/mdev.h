/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mdev: devices made of software that answer VFIO's operations table.
 *
 * Here so far: the virtio 1.2 transport over PCI, the small devices of a VM's own process (block, net,
 * console, rng, vsock), and the vfio-user server that offers any device to another process. The
 * transport is what the vGPU will stand on. Knows nothing of KVM:
 * notifications arrive by eventfd (get_io_fds()), interrupts leave by eventfd (set_irqs()), guest
 * memory comes by dma_map().
 *
 * Follows the OASIS Virtual I/O Device (VIRTIO) specification, version 1.2.
 */
#ifndef MDEV_MDEV_H
#define MDEV_MDEV_H

#include "base/base.h"
#include "vfio/vfio.h"

/*
 * Every device: created closed to the guest (status 0), one thread of its own for its queues,
 * which begins with vfio_device_start() and ends with close(). What a guest writes into rings or config is
 * copied once and validated once; a malformed ring sets DEVICE_NEEDS_RESET and stops the device.
 * Errors of the host (a failing disk) are answered in the protocol and logged.
 */

struct virtio_blk_config {
	const char *path; /* raw file or block device */
	bool readonly;
	bool synchronous; /* one request at a time, even where the kernel has io_uring */
};
/* Returns 0 or -errno: "disk-missing", "disk-readonly", "disk-not-a-disk", "disk-locked". */
int virtio_blk_create(const struct virtio_blk_config *config, struct vfio_device **out,
		      struct error *e);

struct virtio_net_config {
	const char *tap; /* name of an existing or creatable tap interface; NULL: user mode */
	uint8_t mac[6];	 /* all zero: a locally administered one is made from @index */
	unsigned index;
};
/*
 * User mode runs passt(1) as a child over a socket pair: no privilege needed; it ends with the
 * device. Returns 0 or -errno: "no-tap", "no-passt".
 */
int virtio_net_create(const struct virtio_net_config *config, struct vfio_device **out,
		      struct error *e);

/*
 * virtio_console_create() - a console on two file descriptors (borrowed; may be the same).
 * @in_fd: -1 for none
 */
int virtio_console_create(int in_fd, int out_fd, struct vfio_device **out, struct error *e);

/*
 * virtio_vsock_create() - sockets between guest and host, served by the host's kernel: after
 * DRIVER_OK no thread of ours is in the way.
 * @cid: the guest's address, 3 to 0xfffffffe, taken from here until close()
 * @path: NULL for /dev/vhost-vsock
 * Returns 0 or -errno: "no-vhost-vsock" (module or permission), "cid-taken", "bad-cid".
 */
int virtio_vsock_create(uint32_t cid, const char *path, struct vfio_device **out, struct error *e);

/* virtio_rng_create() - entropy from getrandom(2). */
int virtio_rng_create(struct vfio_device **out, struct error *e);

/* ---- the vfio-user server ------------------------------------------------------------------ */

struct sd_event;
struct mdev_server;

struct mdev_server_options {
	/* A socket made here, of mode 0600, and removed in the end; NULL: only mdev_server_attach(). */
	const char *path;
	unsigned timeout_ms; /* that a client may take over what it began; 0: 5000 */
};

/*
 * mdev_server_create() - offer @device to one vfio-user client at a time (docs/mdev.md). All happens in the
 * thread that runs @event, of which a reference is kept; device calls too.
 * @device: borrowed; must outlive the server. Who made it starts its threads (vfio_device_start()).
 * It is reset whenever a client goes.
 *
 * Returns 0 or -errno: "server-socket" (path too long, taken, not allowed), "bad-device", "no-memory".
 */
int mdev_server_create(struct sd_event *event, struct vfio_device *device,
		       const struct mdev_server_options *options, struct mdev_server **out,
		       struct error *e);
/*
 * mdev_server_attach() - serve the client at the other end of @fd, a connected stream socket (taken over,
 * on failure too). Returns 0 or -EBUSY ("device-in-use").
 */
int mdev_server_attach(struct mdev_server *server, int fd, struct error *e);
/* mdev_server_attached() - whether a client is there. The loop's thread. */
bool mdev_server_attached(const struct mdev_server *server);
/* mdev_server_destroy() - drop the client, remove the socket. The loop's thread, not from an event. NULL is fine. */
void mdev_server_destroy(struct mdev_server *server);

#endif
