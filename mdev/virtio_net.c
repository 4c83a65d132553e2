// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_net: a network interface (VIRTIO 1.2, 5.1) with one pair of queues.
 *
 * Frames go to a tap interface (net_tap.c) or to a user-mode network in a child process
 * (net_user.c). Nothing is read from there unless the guest has a buffer for it, and a frame that
 * the way out cannot take yet stays in the transmit queue. No mergeable buffers, no control queue.
 */
#include <endian.h>
#include <errno.h>
/* The ABI's name for its config is that of our public header. */
#define virtio_net_config virtio_net_config_space
#include <linux/virtio_net.h>
#undef virtio_net_config
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "mdev/virtio_net.h"

#define RECEIVE_QUEUE  0
#define TRANSMIT_QUEUE 1
#define FRAMES_A_TURN  64
#define CONFIG_SIZE    offsetof(struct virtio_net_config_space, speed)

static struct net *net_of(struct virtio_device *dev)
{
	return container_of(dev, struct net, dev);
}

void net_watch(struct net *net)
{
	virtio_source_watch(&net->source, (net->receiving ? EPOLLIN : 0u) |
						  (net->transmit_blocked ? EPOLLOUT : 0u));
}

void net_link_down(struct net *net)
{
	net->receiving = net->transmit_blocked = false;
	virtio_source_remove(&net->source);
	if (__atomic_fetch_and(&net->status, (uint16_t)~VIRTIO_NET_S_LINK_UP, __ATOMIC_RELEASE) &
	    VIRTIO_NET_S_LINK_UP)
		virtio_config_changed(&net->dev);
}

static bool link_is_up(const struct net *net)
{
	return __atomic_load_n(&net->status, __ATOMIC_ACQUIRE) & VIRTIO_NET_S_LINK_UP;
}

static void receive(struct net *net)
{
	struct virtio_device *dev = &net->dev;

	for (unsigned turn = 0; turn < FRAMES_A_TURN && link_is_up(net); turn++) {
		struct virtio_chain *chain = virtio_queue_pop(dev, RECEIVE_QUEUE);
		ssize_t got;

		if (!chain) {
			/* No room in the guest: frames wait outside until it notifies. */
			net->receiving = false;
			net_watch(net);
			return;
		}
		if (chain->in_length < NET_HEADER_SIZE + NET_FRAME_MIN) {
			virtio_device_broken(dev, RECEIVE_QUEUE,
					     "a receive buffer that is too small");
			return;
		}
		got = net->backend->receive(net, chain);
		if (got <= 0) {
			virtio_queue_rewind(dev, RECEIVE_QUEUE);
			if (got < 0)
				net_link_down(net);
			return;
		}
		virtio_queue_push(dev, RECEIVE_QUEUE, chain, (uint32_t)got);
	}
	/* There may be more, and not always where epoll sees it. */
	virtio_queue_again(dev, RECEIVE_QUEUE);
}

static int64_t transmit(struct virtio_device *dev, struct virtio_chain *chain)
{
	struct net *net = net_of(dev);
	int ret;

	if (chain->out_length < NET_HEADER_SIZE) {
		virtio_device_broken(dev, TRANSMIT_QUEUE, "a frame without its header");
		return -EBADMSG;
	}
	if (!link_is_up(net))
		return 0;
	ret = net->backend->transmit(net, chain);
	if (ret == -EAGAIN) {
		net->transmit_blocked = true;
		net_watch(net);
	}
	return ret;
}

static void on_source(struct virtio_device *dev, uint32_t epoll_events)
{
	struct net *net = net_of(dev);

	if (net->transmit_blocked && epoll_events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
		net->transmit_blocked = net->backend->flush && net->backend->flush(net) == -EAGAIN;
		net_watch(net);
		if (!net->transmit_blocked)
			virtio_queue_service(dev, TRANSMIT_QUEUE, transmit);
	}
	if (epoll_events & (EPOLLIN | EPOLLHUP | EPOLLERR) && net->receiving)
		receive(net);
}

static void queue_notify(struct virtio_device *dev, unsigned index)
{
	struct net *net = net_of(dev);

	if (index == TRANSMIT_QUEUE) {
		if (!net->transmit_blocked)
			virtio_queue_service(dev, index, transmit);
		return;
	}
	if (!link_is_up(net))
		return;
	if (!net->receiving) {
		net->receiving = true;
		net_watch(net);
	}
	receive(net);
}

static void start(struct virtio_device *dev)
{
	struct net *net = net_of(dev);

	if (net->backend->start)
		net->backend->start(net);
}

static void reset(struct virtio_device *dev)
{
	struct net *net = net_of(dev);

	net->receiving = net->transmit_blocked = false;
	net_watch(net);
}

static void config_read(struct virtio_device *dev, void *config)
{
	struct net *net = net_of(dev);
	struct virtio_net_config_space space = {
		.status = htole16(__atomic_load_n(&net->status, __ATOMIC_ACQUIRE)),
		.max_virtqueue_pairs = htole16(1),
	};

	memcpy(space.mac, net->mac, sizeof(space.mac));
	memcpy(config, &space, CONFIG_SIZE);
}

static void destroy(struct virtio_device *dev)
{
	struct net *net = net_of(dev);

	virtio_source_remove(&net->source);
	net->backend->close(net);
}

static const struct virtio_device_ops net_ops = {
	.thread_kind = "virtio-net",
	.device_id = VIRTIO_ID_NET,
	.class_code = 0x020000,
	.queue_count = 2,
	.config_size = CONFIG_SIZE,
	.config_read = config_read,
	.start = start,
	.queue_notify = queue_notify,
	.reset = reset,
	.destroy = destroy,
};

int virtio_net_create(const struct virtio_net_config *config, struct vfio_device **out,
		      struct error *e)
{
	static const uint8_t none[6];
	uint64_t features = UINT64_C(1) << VIRTIO_NET_F_MAC | UINT64_C(1) << VIRTIO_NET_F_STATUS;
	struct net *net = calloc(1, sizeof(*net));
	char name[64];
	int ret;

	if (!net)
		return error_set(e, ENOMEM, "device-failed", NULL, "virtio-net: out of memory");
	net->fd = -1;
	net->status = VIRTIO_NET_S_LINK_UP;
	memcpy(net->mac, config->mac, sizeof(net->mac));
	if (!memcmp(net->mac, none, sizeof(none))) {
		/* Bit 1 of the first byte: locally administered. */
		const uint8_t made[6] = {
			0x02, 'd', 'v', 0, (uint8_t)(config->index >> 8), (uint8_t)config->index
		};

		memcpy(net->mac, made, sizeof(made));
	}
	snprintf(name, sizeof(name), "virtio-net(%.32s)", config->tap ? config->tap : "user");
	ret = config->tap ? net_tap_open(net, config->tap, &features, e) : net_user_open(net, e);
	if (ret) {
		free(net);
		return ret;
	}
	ret = virtio_device_init(&net->dev, &net_ops, features, name, e);
	if (ret) {
		net->backend->close(net);
		free(net);
		return ret;
	}
	ret = virtio_source_add(&net->dev, &net->source, net->fd, 0, on_source);
	if (ret < 0)
		ret = error_set(e, -ret, "device-failed", NULL, "%s: cannot be watched: %s", name,
				strerror(-ret));
	else if (net->user)
		ret = net_user_watch(net, e);
	else
		ret = 0;
	if (ret) {
		virtio_device_close(&net->dev);
		return ret;
	}
	*out = &net->dev.vfio;
	return 0;
}
