// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_device: life of a virtio device: its worker thread, the status register, and the queue
 * calls that device types are written with.
 *
 * Relies on virtqueue.c to judge rings and on virtio_pci.c for registers. Promises that handlers run
 * on the worker only, one at a time; that a driver cannot start queues without having accepted
 * features; and that a reset returns after the last handler has.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mdev/virtio.h"

/* Bits a driver may set (2.1). */
#define STATUS_DRIVER_BITS                                                                    \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

/* ---- the worker ---------------------------------------------------------------------------- */

static int on_call(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct virtio_device *dev = userdata;
	void (*run)(struct virtio_device *, void *);
	void *arg;
	eventfd_t count;

	eventfd_read(fd, &count);
	pthread_mutex_lock(&dev->call_lock);
	run = dev->call_run;
	arg = dev->call_arg;
	pthread_mutex_unlock(&dev->call_lock);
	if (!run)
		return 0;
	run(dev, arg);
	pthread_mutex_lock(&dev->call_lock);
	dev->call_run = NULL;
	__atomic_store_n(&dev->call_pending, false, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&dev->call_done);
	pthread_mutex_unlock(&dev->call_lock);
	return 0;
}

void virtio_worker_call(struct virtio_device *dev,
			void (*run)(struct virtio_device *dev, void *arg), void *arg)
{
	pthread_mutex_lock(&dev->call_lock);
	if (dev->has_worker) {
		dev->call_run = run;
		dev->call_arg = arg;
		__atomic_store_n(&dev->call_pending, true, __ATOMIC_RELAXED);
		eventfd_write(dev->call_fd, 1);
		while (dev->call_run && dev->has_worker)
			pthread_cond_wait(&dev->call_done, &dev->call_lock);
		if (!dev->call_run)
			run = NULL;
		dev->call_run = NULL;
	}
	/* No worker yet, or not any more: nobody to race with. */
	if (run)
		run(dev, arg);
	pthread_mutex_unlock(&dev->call_lock);
}

static void *worker_main(void *arg)
{
	struct virtio_device *dev = arg;
	int ret;

	ret = sd_event_loop(dev->event);
	if (ret < 0)
		log_error("%s: event loop ended: %s", dev->vfio.name, strerror(-ret));
	pthread_mutex_lock(&dev->call_lock);
	dev->has_worker = false;
	pthread_cond_broadcast(&dev->call_done);
	pthread_mutex_unlock(&dev->call_lock);
	return NULL;
}

static void run_exit(struct virtio_device *dev, void *arg)
{
	sd_event_exit(dev->event, 0);
}

static int on_source(sd_event_source *event_source, int fd, uint32_t revents, void *userdata)
{
	struct virtio_source *source = userdata;

	source->handler(source->dev, revents);
	return 0;
}

int virtio_source_add(struct virtio_device *dev, struct virtio_source *source, int fd,
		      uint32_t epoll_events, virtio_source_handler handler)
{
	int ret;

	source->dev = dev;
	source->handler = handler;
	ret = sd_event_add_io(dev->event, &source->source, fd, epoll_events, on_source, source);
	if (ret < 0) {
		source->source = NULL;
		return ret;
	}
	if (!epoll_events)
		virtio_source_watch(source, 0);
	return 0;
}

void virtio_source_watch(struct virtio_source *source, uint32_t epoll_events)
{
	if (!source->source)
		return;
	/* A source that waits for nothing is switched off, or a hang-up would spin the loop. */
	if (epoll_events)
		sd_event_source_set_io_events(source->source, epoll_events);
	sd_event_source_set_enabled(source->source, epoll_events ? SD_EVENT_ON : SD_EVENT_OFF);
}

void virtio_source_remove(struct virtio_source *source)
{
	source->source = sd_event_source_disable_unref(source->source);
}

/* ---- queues -------------------------------------------------------------------------------- */

static void interrupt(struct virtio_device *dev, uint16_t vector, uint8_t isr)
{
	if (vector == VIRTIO_MSI_NO_VECTOR) {
		/* A driver that polls (4.1.4.5). There is no INTx to raise. */
		__atomic_fetch_or(&dev->isr, isr, __ATOMIC_RELEASE);
		return;
	}
	if (vector < VIRTIO_VECTORS_MAX && dev->vector_fds[vector] >= 0)
		eventfd_write(dev->vector_fds[vector], 1);
}

void virtio_config_changed(struct virtio_device *dev)
{
	__atomic_fetch_add(&dev->config_generation, 1, __ATOMIC_RELEASE);
	if (__atomic_load_n(&dev->status, __ATOMIC_ACQUIRE) & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(dev, __atomic_load_n(&dev->config_vector, __ATOMIC_RELAXED),
			  VIRTIO_PCI_ISR_CONFIG | 1);
}

void virtio_device_broken(struct virtio_device *dev, unsigned queue, const char *why)
{
	if (!dev->running)
		return;
	log_limited(LOG_LEVEL_WARN, "%s: queue %u: %s; the device needs a reset", dev->vfio.name,
		    queue, why);
	dev->running = false;
	__atomic_fetch_or(&dev->status, VIRTIO_CONFIG_S_NEEDS_RESET, __ATOMIC_RELEASE);
	virtio_config_changed(dev);
}

bool virtio_queue_pop_into(struct virtio_device *dev, unsigned index, struct virtio_chain *chain)
{
	struct virtqueue *queue = &dev->queues[index];
	int ret;

	if (!dev->running || !queue->running)
		return false;
	ret = virtqueue_pop(queue, chain);
	if (ret < 0)
		virtio_device_broken(dev, index, queue->fault);
	return ret > 0;
}

struct virtio_chain *virtio_queue_pop(struct virtio_device *dev, unsigned index)
{
	return virtio_queue_pop_into(dev, index, dev->chain) ? dev->chain : NULL;
}

void virtio_queue_push_head(struct virtio_device *dev, unsigned index, uint16_t head,
			    uint32_t length)
{
	struct virtqueue *queue = &dev->queues[index];
	int ret;

	if (!dev->running || !queue->running)
		return;
	ret = virtqueue_push(queue, head, length);
	if (ret < 0)
		virtio_device_broken(dev, index, queue->fault);
	else if (ret > 0)
		interrupt(dev, __atomic_load_n(&dev->queue_vector[index], __ATOMIC_RELAXED), 1);
}

void virtio_queue_push(struct virtio_device *dev, unsigned index, struct virtio_chain *chain,
		       uint32_t length)
{
	virtio_queue_push_head(dev, index, chain->head, length);
}

void virtio_queue_rewind(struct virtio_device *dev, unsigned index)
{
	virtqueue_rewind(&dev->queues[index]);
}

void virtio_queue_again(struct virtio_device *dev, unsigned index)
{
	eventfd_write(dev->kick_fds[index], 1);
}

void virtio_queue_service(struct virtio_device *dev, unsigned index,
			  int64_t (*serve)(struct virtio_device *dev, struct virtio_chain *chain))
{
	for (unsigned turn = 0; turn < VIRTIO_QUEUE_SIZE_MAX; turn++) {
		struct virtio_chain *chain;
		int64_t written;

		if (__atomic_load_n(&dev->call_pending, __ATOMIC_RELAXED))
			break;
		chain = virtio_queue_pop(dev, index);
		if (!chain)
			return;
		written = serve(dev, chain);
		if (written < 0) {
			virtio_queue_rewind(dev, index);
			return;
		}
		virtio_queue_push(dev, index, chain, (uint32_t)written);
	}
	virtio_queue_again(dev, index);
}

static int on_kick(sd_event_source *event_source, int fd, uint32_t revents, void *userdata)
{
	struct virtio_source *source = userdata;
	struct virtio_device *dev = source->dev;
	unsigned index = (unsigned)(source - dev->kicks);
	eventfd_t count;

	eventfd_read(fd, &count);
	if (dev->running && dev->queues[index].running)
		dev->ops->queue_notify(dev, index);
	return 0;
}

/* ---- status -------------------------------------------------------------------------------- */

static void run_start(struct virtio_device *dev, void *arg)
{
	dev->running = true;
	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		struct virtqueue *queue = &dev->queues[i];

		if (!queue->enabled)
			continue;
		if (virtqueue_start(queue, &dev->dma, dev->driver_features) < 0) {
			virtio_device_broken(dev, i, queue->fault);
			return;
		}
	}
	if (dev->ops->start)
		dev->ops->start(dev);
	/* Buffers made available before DRIVER_OK may have been notified of in vain. */
	for (unsigned i = 0; i < dev->ops->queue_count; i++)
		if (dev->queues[i].running)
			virtio_queue_again(dev, i);
}

static void run_reset(struct virtio_device *dev, void *arg)
{
	const bool was_started =
		__atomic_load_n(&dev->status, __ATOMIC_RELAXED) & VIRTIO_CONFIG_S_DRIVER_OK;
	eventfd_t count;

	dev->running = false;
	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		virtqueue_reset(&dev->queues[i]);
		eventfd_read(dev->kick_fds[i], &count);
		__atomic_store_n(&dev->queue_vector[i], VIRTIO_MSI_NO_VECTOR, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&dev->config_vector, VIRTIO_MSI_NO_VECTOR, __ATOMIC_RELAXED);
	__atomic_store_n(&dev->isr, 0, __ATOMIC_RELAXED);
	if (was_started && dev->ops->reset)
		dev->ops->reset(dev);
	dev->driver_features = 0;
	__atomic_store_n(&dev->status, 0, __ATOMIC_RELEASE);
}

void virtio_device_reset_locked(struct virtio_device *dev)
{
	virtio_worker_call(dev, run_reset, NULL);
	dev->device_feature_select = dev->driver_feature_select = 0;
	dev->queue_select = 0;
}

static bool features_acceptable(const struct virtio_device *dev)
{
	const uint64_t features = dev->driver_features;

	if (features & ~dev->device_features) {
		log_limited(LOG_LEVEL_WARN,
			    "%s: the driver accepted features that are not offered: %#llx",
			    dev->vfio.name, (unsigned long long)(features & ~dev->device_features));
		return false;
	}
	/* 6.1: legacy drivers are not served. */
	if (!(features & (UINT64_C(1) << VIRTIO_F_VERSION_1))) {
		log_limited(LOG_LEVEL_WARN, "%s: the driver is not VIRTIO 1.0 or later",
			    dev->vfio.name);
		return false;
	}
	return true;
}

void virtio_status_write(struct virtio_device *dev, uint8_t value)
{
	const uint8_t old = __atomic_load_n(&dev->status, __ATOMIC_ACQUIRE);
	uint8_t added = value & STATUS_DRIVER_BITS & (uint8_t)~old;

	if (!value) {
		virtio_device_reset_locked(dev);
		return;
	}
	/* 2.1.1: the driver must not clear a bit; only a reset does. */
	if (old & STATUS_DRIVER_BITS & ~value) {
		log_limited(LOG_LEVEL_WARN, "%s: status %#x after %#x clears bits: ignored",
			    dev->vfio.name, value, old);
		return;
	}
	/* 3.1.1: each step needs those before it. */
	if ((added & VIRTIO_CONFIG_S_DRIVER) && !(value & VIRTIO_CONFIG_S_ACKNOWLEDGE))
		added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER;
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    (!((old | added) & VIRTIO_CONFIG_S_DRIVER) || !features_acceptable(dev)))
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	if ((added & VIRTIO_CONFIG_S_DRIVER_OK) && !((old | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	__atomic_fetch_or(&dev->status, added, __ATOMIC_RELEASE);
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_worker_call(dev, run_start, NULL);
}

/* ---- life ---------------------------------------------------------------------------------- */

static int init_loop(struct virtio_device *dev)
{
	int ret = sd_event_new(&dev->event);

	if (ret < 0)
		return ret;
	dev->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->call_fd < 0)
		return -errno;
	ret = sd_event_add_io(dev->event, &dev->call_source, dev->call_fd, EPOLLIN, on_call, dev);
	if (ret < 0)
		return ret;
	/* Somebody waits: before any queue. */
	sd_event_source_set_priority(dev->call_source, SD_EVENT_PRIORITY_IMPORTANT);
	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		struct virtio_source *kick = &dev->kicks[i];

		dev->kick_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (dev->kick_fds[i] < 0)
			return -errno;
		kick->dev = dev;
		if (dev->ops->outside_queues & 1u << i)
			continue;
		ret = sd_event_add_io(dev->event, &kick->source, dev->kick_fds[i], EPOLLIN, on_kick,
				      kick);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static void release(struct virtio_device *dev)
{
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		virtio_source_remove(&dev->kicks[i]);
		fd_close(&dev->kick_fds[i]);
	}
	sd_event_source_disable_unref(dev->call_source);
	fd_close(&dev->call_fd);
	for (unsigned i = 0; i < VIRTIO_VECTORS_MAX; i++)
		fd_close(&dev->vector_fds[i]);
	sd_event_unref(dev->event);
	pthread_cond_destroy(&dev->call_done);
	pthread_mutex_destroy(&dev->call_lock);
	pthread_mutex_destroy(&dev->lock);
	free(dev->chain);
}

int virtio_device_init(struct virtio_device *dev, const struct virtio_device_ops *ops,
		       uint64_t features, const char *name, struct error *e)
{
	int ret;

	dev->ops = ops;
	dev->device_features = features | UINT64_C(1) << VIRTIO_F_VERSION_1 |
			       UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX |
			       UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC;
	/* Who serves a queue outside reads its ring, and vhost knows split ones only. */
	if (!ops->outside_queues)
		dev->device_features |= UINT64_C(1) << VIRTIO_F_RING_PACKED;
	snprintf(dev->vfio.name, sizeof(dev->vfio.name), "%s", name);
	dev->call_fd = -1;
	memset(dev->kick_fds, 0xff, sizeof(dev->kick_fds));
	memset(dev->vector_fds, 0xff, sizeof(dev->vector_fds));
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->call_lock, NULL);
	pthread_cond_init(&dev->call_done, NULL);
	for (unsigned i = 0; i < ops->queue_count; i++) {
		dev->queues[i].size_max = VIRTIO_QUEUE_SIZE_MAX;
		virtqueue_reset(&dev->queues[i]);
		dev->queue_vector[i] = VIRTIO_MSI_NO_VECTOR;
	}
	dev->config_vector = VIRTIO_MSI_NO_VECTOR;
	dev->chain = calloc(1, sizeof(*dev->chain));
	ret = dev->chain ? init_loop(dev) : -ENOMEM;
	if (ret < 0) {
		release(dev);
		return error_set(e, -ret, "device-failed", NULL,
				 "%s: cannot make its event loop: %s", name, strerror(-ret));
	}
	virtio_pci_init(dev);
	return 0;
}

int virtio_device_start(struct vfio_device *device, struct error *e)
{
	struct virtio_device *dev = container_of(device, struct virtio_device, vfio);
	int ret;

	if (dev->ops->begin) {
		ret = dev->ops->begin(dev, e);
		if (ret)
			return ret;
	}
	dev->has_worker = true;
	ret = thread_create(&dev->thread, dev->ops->thread_kind, worker_main, dev);
	if (ret) {
		dev->has_worker = false;
		dev->thread = 0; /* whatever pthread_create() left there is no thread to join */
		return error_set(e, -ret, "device-failed", NULL, "%s: cannot start its thread: %s",
				 dev->vfio.name, strerror(-ret));
	}
	return 0;
}

void virtio_device_close(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->lock);
	virtio_device_reset_locked(dev);
	virtio_worker_call(dev, run_exit, NULL);
	pthread_mutex_unlock(&dev->lock);
	if (dev->thread)
		pthread_join(dev->thread, NULL);
	if (dev->ops->destroy)
		dev->ops->destroy(dev);
	release(dev);
	free(dev);
}
