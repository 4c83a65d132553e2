// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_vsock: sockets between the guest and the host (VIRTIO 1.2, 5.10), served by the host's
 * kernel (vhost_vsock).
 *
 * The transport is ours as for every device; the two data queues are the kernel's from DRIVER_OK to
 * reset: their doorbell eventfds are its kicks, and what it calls is the eventfd of the queue's MSI-X
 * vector, so that no thread of ours is between the guest and the socket, and a masked vector stays
 * pending in its eventfd as with any device. The event queue has nothing to tell: its buffers stay with us.
 *
 * The kernel reads the rings itself and bounds every address by the memory table it is given. While
 * guest memory changes it is stopped, so that it uses nothing that was taken back; then it
 * goes on where it was. The ABI is linux/vhost.h; drivers/vhost/vsock.c is the other side.
 *
 * System calls of the worker besides the loop's: ioctl(2) on the one descriptor of vhost.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "mdev/mdev.h"
#include "mdev/virtio.h"

#define VHOST_QUEUES 2 /* receive, transmit; then events */
#define QUEUE_COUNT  3

struct vsock {
	struct virtio_device dev; /* first */
	int vhost_fd;
	uint64_t cid;

	/* The worker's. */
	bool serving;		     /* the kernel has the queues */
	uint16_t base[VHOST_QUEUES]; /* where it goes on in the available rings */
	int error_fd;		     /* it met a ring that it cannot read */
	int poll_fd; /* called for queues without a vector: drivers that poll the ISR */
	struct virtio_source error_source, poll_source;
};

static struct vsock *vsock_of(struct virtio_device *dev)
{
	return container_of(dev, struct vsock, dev);
}

static int vhost(struct vsock *vsock, unsigned long request, const void *arg)
{
	return ioctl(vsock->vhost_fd, request, arg) < 0 ? -errno : 0;
}

/* ---- the kernel's part --------------------------------------------------------------------- */

static int give_memory(struct vsock *vsock)
{
	const struct virtio_dma *dma = &vsock->dev.dma;
	uint64_t storage[(sizeof(struct vhost_memory) +
			  VIRTIO_DMA_RANGES_MAX * sizeof(struct vhost_memory_region)) /
			 sizeof(uint64_t)] = { 0 };
	struct vhost_memory *memory = (struct vhost_memory *)storage;

	memory->nregions = dma->count;
	for (unsigned i = 0; i < dma->count; i++)
		memory->regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = dma->ranges[i].iova,
			.memory_size = dma->ranges[i].size,
			.userspace_addr = (uintptr_t)dma->ranges[i].hva,
		};
	return vhost(vsock, VHOST_SET_MEM_TABLE, memory);
}

/* Interrupts of queue @i go to the eventfd of its vector, which changes with the driver's MSI-X. */
static int give_call(struct vsock *vsock, unsigned i)
{
	const struct virtio_device *dev = &vsock->dev;
	const uint16_t vector = __atomic_load_n(&dev->queue_vector[i], __ATOMIC_RELAXED);
	struct vhost_vring_file file = { .index = i, .fd = vsock->poll_fd };

	if (vector < VIRTIO_VECTORS_MAX && dev->vector_fds[vector] >= 0)
		file.fd = dev->vector_fds[vector];
	return vhost(vsock, VHOST_SET_VRING_CALL, &file);
}

static int give_ring(struct vsock *vsock, unsigned i)
{
	const struct virtqueue *queue = &vsock->dev.queues[i];
	const struct vhost_vring_state size = { .index = i, .num = queue->size };
	const struct vhost_vring_state base = { .index = i, .num = vsock->base[i] };
	const struct vhost_vring_addr address = {
		.index = i,
		.desc_user_addr = (uintptr_t)queue->split.desc,
		.avail_user_addr = (uintptr_t)queue->split.avail,
		.used_user_addr = (uintptr_t)queue->split.used,
	};
	const struct vhost_vring_file kick = { .index = i, .fd = vsock->dev.kick_fds[i] };
	const struct vhost_vring_file error = { .index = i, .fd = vsock->error_fd };
	int ret = vhost(vsock, VHOST_SET_VRING_NUM, &size);

	if (!ret)
		ret = vhost(vsock, VHOST_SET_VRING_BASE, &base);
	if (!ret)
		ret = vhost(vsock, VHOST_SET_VRING_ADDR, &address);
	if (!ret)
		ret = vhost(vsock, VHOST_SET_VRING_ERR, &error);
	if (!ret)
		ret = give_call(vsock, i);
	if (!ret)
		ret = vhost(vsock, VHOST_SET_VRING_KICK, &kick);
	return ret;
}

static int set_running(struct vsock *vsock, int running)
{
	return vhost(vsock, VHOST_VSOCK_SET_RUNNING, &running);
}

/* When this returns the kernel uses neither rings nor buffers. */
static void suspend(struct virtio_device *dev)
{
	struct vsock *vsock = vsock_of(dev);
	int ret;

	if (!vsock->serving)
		return;
	vsock->serving = false;
	ret = set_running(vsock, 0);
	for (unsigned i = 0; i < VHOST_QUEUES && !ret; i++) {
		struct vhost_vring_state base = { .index = i };

		ret = vhost(vsock, VHOST_GET_VRING_BASE, &base);
		vsock->base[i] = (uint16_t)base.num;
	}
	if (ret)
		log_error("%s: vhost does not stop: %s", dev->vfio.name, strerror(-ret));
}

/* The rings are good by virtqueue_start()'s rules, or the device is broken. */
static void serve(struct vsock *vsock)
{
	struct virtio_device *dev = &vsock->dev;
	int ret;

	if (!dev->running || !dev->queues[0].running || !dev->queues[1].running)
		return;
	ret = vhost(vsock, VHOST_SET_FEATURES, &dev->driver_features);
	if (!ret)
		ret = give_memory(vsock);
	for (unsigned i = 0; i < VHOST_QUEUES && !ret; i++)
		ret = give_ring(vsock, i);
	if (!ret)
		ret = set_running(vsock, 1);
	if (ret) {
		log_limited(LOG_LEVEL_ERROR, "%s: vhost does not take the queues: %s",
			    dev->vfio.name, strerror(-ret));
		virtio_device_broken(dev, 0, "the host's kernel refuses the queue");
		return;
	}
	vsock->serving = true;
	for (unsigned i = 0; i < VHOST_QUEUES; i++)
		virtio_queue_again(dev, i); /* what was notified of meanwhile */
}

/* ---- the device's -------------------------------------------------------------------------- */

static void start(struct virtio_device *dev)
{
	struct vsock *vsock = vsock_of(dev);

	memset(vsock->base, 0, sizeof(vsock->base));
	serve(vsock);
}

static void memory_changed(struct virtio_device *dev)
{
	struct vsock *vsock = vsock_of(dev);

	suspend(dev);
	for (unsigned i = 0; i < VHOST_QUEUES && dev->running; i++)
		if (dev->queues[i].running &&
		    virtqueue_start(&dev->queues[i], &dev->dma, dev->driver_features) < 0)
			virtio_device_broken(dev, i, dev->queues[i].fault);
	serve(vsock);
}

static void vectors_changed(struct virtio_device *dev)
{
	struct vsock *vsock = vsock_of(dev);
	int ret = 0;

	for (unsigned i = 0; i < VHOST_QUEUES && vsock->serving && !ret; i++)
		ret = give_call(vsock, i);
	if (ret)
		log_limited(LOG_LEVEL_ERROR, "%s: vhost does not take an interrupt: %s",
			    dev->vfio.name, strerror(-ret));
}

static void on_ring_error(struct virtio_device *dev, uint32_t epoll_events)
{
	eventfd_t count;

	eventfd_read(vsock_of(dev)->error_fd, &count);
	suspend(dev);
	virtio_device_broken(dev, 0, "the host's kernel cannot read the ring");
}

static void on_call_without_vector(struct virtio_device *dev, uint32_t epoll_events)
{
	eventfd_t count;

	eventfd_read(vsock_of(dev)->poll_fd, &count);
	__atomic_fetch_or(&dev->isr, 1, __ATOMIC_RELEASE);
}

/* Buffers for events: there is none to tell of. */
static void queue_notify(struct virtio_device *dev, unsigned index)
{
}

static void config_read(struct virtio_device *dev, void *config)
{
	const struct virtio_vsock_config space = { .guest_cid = htole64(vsock_of(dev)->cid) };

	memcpy(config, &space, sizeof(space));
}

static void destroy(struct virtio_device *dev)
{
	struct vsock *vsock = vsock_of(dev);

	virtio_source_remove(&vsock->error_source);
	virtio_source_remove(&vsock->poll_source);
	fd_close(&vsock->vhost_fd);
	fd_close(&vsock->error_fd);
	fd_close(&vsock->poll_fd);
}

static const struct virtio_device_ops vsock_ops = {
	.thread_kind = "virtio-vsock",
	.device_id = VIRTIO_ID_VSOCK,
	.class_code = 0x078000,
	.queue_count = QUEUE_COUNT,
	.outside_queues = (1u << VHOST_QUEUES) - 1,
	.config_size = sizeof(struct virtio_vsock_config),
	.config_read = config_read,
	.start = start,
	.queue_notify = queue_notify,
	.reset = suspend,
	.memory_changed = memory_changed,
	.vectors_changed = vectors_changed,
	.destroy = destroy,
};

/* ---- making one ---------------------------------------------------------------------------- */

static int open_vhost(struct vsock *vsock, const char *path, struct error *e)
{
	vsock->vhost_fd = open(path, O_RDWR | O_CLOEXEC);
	if (vsock->vhost_fd >= 0)
		return 0;
	if (errno == EACCES || errno == EPERM)
		return error_set(e, errno, "no-vhost-vsock",
				 "add the user to the group of that file (kvm, as a rule)",
				 "vsock: %s: %s", path, strerror(errno));
	return error_set(e, errno, "no-vhost-vsock", "modprobe vhost_vsock",
			 "vsock: %s: %s: the host's kernel has no vhost_vsock", path,
			 strerror(errno));
}

static int take_cid(struct vsock *vsock, struct error *e)
{
	int ret = vhost(vsock, VHOST_VSOCK_SET_GUEST_CID, &vsock->cid);

	if (ret == -EADDRINUSE)
		return error_set(e, EADDRINUSE, "cid-taken", "choose another with --vsock",
				 "vsock: CID %llu is another virtual machine's",
				 (unsigned long long)vsock->cid);
	if (ret)
		return error_set(e, -ret, "bad-cid", "choose one from 3 to 4294967294",
				 "vsock: CID %llu: %s", (unsigned long long)vsock->cid,
				 strerror(-ret));
	return 0;
}

/* What the kernel must know, since our transport offers it, and what it may. */
static int features_of(struct vsock *vsock, uint64_t *features, struct error *e)
{
	const uint64_t needed = UINT64_C(1) << VIRTIO_F_VERSION_1 |
				UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX |
				UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC;
	uint64_t known = 0;
	int ret = vhost(vsock, VHOST_SET_OWNER, NULL);

	if (!ret)
		ret = vhost(vsock, VHOST_GET_FEATURES, &known);
	if (ret)
		return error_set(e, -ret, "device-failed", NULL, "vsock: vhost: %s",
				 strerror(-ret));
	if (needed & ~known)
		return error_set(e, EOPNOTSUPP, "device-failed", NULL,
				 "vsock: this kernel's vhost lacks features %#llx",
				 (unsigned long long)(needed & ~known));
	*features = known & UINT64_C(1) << VIRTIO_VSOCK_F_SEQPACKET;
	return 0;
}

static int watch(struct vsock *vsock, int *fd, struct virtio_source *source,
		 virtio_source_handler handler)
{
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -errno : virtio_source_add(&vsock->dev, source, *fd, EPOLLIN, handler);
}

int virtio_vsock_create(uint32_t cid, const char *path, struct vfio_device **out, struct error *e)
{
	struct vsock *vsock = calloc(1, sizeof(*vsock));
	uint64_t features = 0;
	char name[64];
	int ret;

	if (!vsock)
		return error_set(e, ENOMEM, "device-failed", NULL, "virtio-vsock: out of memory");
	vsock->vhost_fd = vsock->error_fd = vsock->poll_fd = -1;
	vsock->cid = cid;
	ret = open_vhost(vsock, path ? path : "/dev/vhost-vsock", e);
	if (!ret)
		ret = features_of(vsock, &features, e);
	if (!ret)
		ret = take_cid(vsock, e);
	if (ret)
		goto fail;
	snprintf(name, sizeof(name), "virtio-vsock(%u)", cid);
	ret = virtio_device_init(&vsock->dev, &vsock_ops, features, name, e);
	if (ret)
		goto fail;
	ret = watch(vsock, &vsock->error_fd, &vsock->error_source, on_ring_error);
	if (!ret)
		ret = watch(vsock, &vsock->poll_fd, &vsock->poll_source, on_call_without_vector);
	if (ret) {
		virtio_device_close(&vsock->dev);
		return error_set(e, -ret, "device-failed", NULL, "virtio-vsock: %s",
				 strerror(-ret));
	}
	*out = &vsock->dev.vfio;
	return 0;

fail:
	fd_close(&vsock->vhost_fd);
	free(vsock);
	return ret;
}
