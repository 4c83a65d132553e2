// SPDX-License-Identifier: Apache-2.0
/*
 * net_tap: a guest's network by way of a tap interface of the host.
 *
 * The kernel's frames carry the same header as virtio's (IFF_VNET_HDR), so a frame moves with one
 * system call between the interface and guest memory, and checksum and segmentation work that the
 * guest left undone is passed on. Follows Documentation/networking/tuntap.rst.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#define virtio_net_config virtio_net_config_space
#include <linux/virtio_net.h>
#undef virtio_net_config
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mdev/virtio_net.h"

static void start(struct net *net)
{
	unsigned offload = virtio_device_has(&net->dev, VIRTIO_NET_F_GUEST_CSUM) ? TUN_F_CSUM : 0;

	/* What the guest takes unfinished; without it the kernel finishes every frame. */
	if (ioctl(net->fd, TUNSETOFFLOAD, (unsigned long)offload) < 0)
		log_limited(LOG_LEVEL_WARN, "%s: offloads cannot be set: %s", net->dev.vfio.name,
			    strerror(errno));
}

static ssize_t receive(struct net *net, struct virtio_chain *chain)
{
	const uint16_t num_buffers = htole16(1);
	ssize_t got;

	do
		got = readv(net->fd, chain->in, (int)chain->in_count);
	while (got < 0 && errno == EINTR);
	if (got < 0) {
		/* The interface is down: it may come up again. */
		if (errno == EAGAIN || errno == EIO)
			return 0;
		log_error("%s: read: %s", net->dev.vfio.name, strerror(errno));
		return -errno;
	}
	/* The kernel fills the older, shorter header; this field is ours. */
	virtio_iov_write(chain->in, chain->in_count,
			 offsetof(struct virtio_net_hdr_v1, num_buffers), &num_buffers,
			 sizeof(num_buffers));
	return got;
}

static int transmit(struct net *net, struct virtio_chain *chain)
{
	ssize_t done;

	do
		done = writev(net->fd, chain->out, (int)chain->out_count);
	while (done < 0 && errno == EINTR);
	if (done < 0 && errno == EAGAIN)
		return -EAGAIN;
	/* A frame or header the kernel refuses is dropped, like one that no wire would carry. */
	if (done < 0)
		log_limited(LOG_LEVEL_DEBUG, "%s: a frame is dropped: %s", net->dev.vfio.name,
			    strerror(errno));
	return 0;
}

static void close_tap(struct net *net)
{
	fd_close(&net->fd);
}

static const struct net_backend tap_backend = {
	.start = start,
	.receive = receive,
	.transmit = transmit,
	.close = close_tap,
};

int net_tap_open(struct net *net, const char *name, uint64_t *features, struct error *e)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header_size = NET_HEADER_SIZE, err;
	const char *step;

	if (!name[0] || strlen(name) >= sizeof(request.ifr_name))
		return error_set(e, EINVAL, "no-tap", NULL,
				 "tap %s: not a name of an interface (1 to %zu characters)", name,
				 sizeof(request.ifr_name) - 1);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	step = "/dev/net/tun";
	net->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (net->fd < 0)
		goto fail;
	step = "attaching to the interface";
	if (ioctl(net->fd, TUNSETIFF, &request) < 0)
		goto fail;
	step = "setting the header's size";
	if (ioctl(net->fd, TUNSETVNETHDRSZ, &header_size) < 0)
		goto fail;
	*features |= UINT64_C(1) << VIRTIO_NET_F_CSUM | UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM |
		     UINT64_C(1) << VIRTIO_NET_F_HOST_TSO4 | UINT64_C(1) << VIRTIO_NET_F_HOST_TSO6;
	net->backend = &tap_backend;
	return 0;

fail:
	err = errno;
	fd_close(&net->fd);
	return error_set(e, err, "no-tap", "ip tuntap add NAME mode tap user USER vnet_hdr",
			 "tap %s: %s: %s", name, step, strerror(err));
}
