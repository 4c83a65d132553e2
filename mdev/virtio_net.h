/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_net: what the network device and its two ways to the outside share. Private to mdev/.
 */
#ifndef MDEV_VIRTIO_NET_H
#define MDEV_VIRTIO_NET_H

#include "mdev/mdev.h"
#include "mdev/virtio.h"

/* Before every frame in a virtqueue: struct virtio_net_hdr_v1 (VIRTIO 1.2, 5.1.6). */
#define NET_HEADER_SIZE 12
#define NET_FRAME_MIN	14 /* an Ethernet header */
#define NET_FRAME_MAX	65535

struct net;

/* All on the worker. */
struct net_backend {
	/* DRIVER_OK: the features are final. */
	void (*start)(struct net *net);
	/*
	 * Put one frame, with its header, into @chain. Returns the bytes written; 0 when there is
	 * no frame now; -errno when the way out is gone.
	 */
	ssize_t (*receive)(struct net *net, struct virtio_chain *chain);
	/* Returns 0 when the frame was sent or dropped, -EAGAIN to be offered it again. */
	int (*transmit)(struct net *net, struct virtio_chain *chain);
	/* The way out takes more: send what transmit() kept. -EAGAIN: not all; NULL: keeps nothing. */
	int (*flush)(struct net *net);
	/* Release what open acquired. */
	void (*close)(struct net *net);
};

struct net {
	struct virtio_device dev; /* first */
	const struct net_backend *backend;
	uint8_t mac[6];
	uint16_t status; /* VIRTIO_NET_S_*, atomic */
	int fd;		 /* tap or socket */
	struct virtio_source source;
	bool receiving, transmit_blocked; /* what the source watches for */
	struct net_user *user;
};

/* Open a way out: net->fd, net->backend. Return 0 or -errno with *e filled, nothing acquired. */
int net_tap_open(struct net *net, const char *name, uint64_t *features, struct error *e);
int net_user_open(struct net *net, struct error *e);
/* After virtio_device_init(): what net_user needs to watch besides net->fd. */
int net_user_watch(struct net *net, struct error *e);

/* net_link_down() - the way out is gone; the guest is told (VIRTIO_NET_F_STATUS). Worker. */
void net_link_down(struct net *net);
/* net_watch() - watch net->fd for what `receiving` and `transmit_blocked` say. */
void net_watch(struct net *net);

#endif
