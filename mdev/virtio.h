/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio: what the files of mdev/ share: guest memory as the device sees it, virtqueues, and
 * the device that the PCI transport shows to a driver. Private to mdev/ (and to its tests).
 *
 * Threads. A device has one worker thread with one sd-event loop. Rings, guest memory and everything
 * a `virtio_device_ops` handler touches belong to the worker; handlers run there, one at a time.
 * Register accesses come from vCPU threads and are serialised by `lock`. What a register write
 * changes for the worker (start, reset, memory, vectors) is run *by* the worker between two handlers
 * (virtio_worker_call()), while the caller waits: so a handler that is running is always waited for,
 * and no pointer into guest memory outlives the handler that asked for it. A device type whose requests
 * do outlast it has drain(), which the worker runs before memory goes.
 *
 * Follows VIRTIO 1.2; sections are named where they matter.
 */
#ifndef MDEV_VIRTIO_H
#define MDEV_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <sys/uio.h>
#include <systemd/sd-event.h>

#include "base/base.h"
#include "vfio/vfio.h"

/* ---- guest memory (virtio_dma.c) ---------------------------------------------------------- */

#define VIRTIO_DMA_RANGES_MAX 64

struct virtio_dma_range {
	uint64_t iova, size;
	uint8_t *hva;
};

/* What the guest may be read and written at: the dma_map()ed ranges, in order of address. */
struct virtio_dma {
	unsigned count;
	unsigned generation; /* changes with every map and unmap */
	struct virtio_dma_range ranges[VIRTIO_DMA_RANGES_MAX];
};

/*
 * virtio_dma_map(), virtio_dma_unmap() - worker thread only. Returns 0; -EINVAL (empty, wraps
 * around, or @hva and @iova differ in their low 12 bits), -EEXIST (overlaps), -ENOSPC (table full).
 * Unmapping takes exactly a range that was mapped, else -ENOENT.
 */
int virtio_dma_map(struct virtio_dma *dma, uint64_t iova, uint64_t size, void *hva);
int virtio_dma_unmap(struct virtio_dma *dma, uint64_t iova, uint64_t size);

/* virtio_dma_ptr() - @length (> 0) bytes at @iova within one range, or NULL. */
void *virtio_dma_ptr(const struct virtio_dma *dma, uint64_t iova, uint64_t length);

/*
 * virtio_dma_resolve() - the pieces of host memory behind [iova, iova + length), which may cross
 * from one range into the next. Returns how many of @iov were filled, -EFAULT when a byte is not
 * mapped, -E2BIG when @max do not suffice.
 */
int virtio_dma_resolve(const struct virtio_dma *dma, uint64_t iova, uint64_t length,
		       struct iovec *iov, unsigned max);

/* ---- virtqueues (virtqueue.c; VIRTIO 1.2, 2.6 to 2.8) -------------------------------------- */

#define VIRTIO_QUEUES_MAX     8
#define VIRTIO_QUEUE_SIZE_MAX 256
/* A chain has at most as many descriptors as the queue; some may cross memory ranges. */
#define VIRTIO_SEGMENTS_MAX (VIRTIO_QUEUE_SIZE_MAX + VIRTIO_DMA_RANGES_MAX)

/*
 * One validated descriptor chain: host memory that the device may read (out) and then write (in).
 * The pointers are good until the handler returns; in a device type with drain(), until it is called.
 */
struct virtio_chain {
	uint16_t head; /* what virtqueue_push() knows it by; below the queue's size */
	unsigned out_count, in_count;
	uint64_t out_length, in_length; /* bytes; together at most 2^32 - 1 */
	struct iovec *out, *in;		/* into segments[] */
	struct iovec segments[VIRTIO_SEGMENTS_MAX];
};

/* How far the device is in a split ring (2.7). */
struct virtqueue_split {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t last_avail, used_index, signalled_index;
};

/* How far it is in a packed ring (2.8): places, and the wrap counters of the rounds that they are in. */
struct virtqueue_packed {
	struct vring_packed_desc *desc;
	struct vring_packed_desc_event *driver_event, *device_event;
	uint16_t avail_at, used_at;
	bool avail_wrap, used_wrap;
	bool quiet;	 /* the driver was told not to notify */
	uint16_t held;	 /* descriptors of the chains that are out */
	uint16_t popped; /* the last one */
	uint16_t idle_count;
	/* Chains that are out, by their head; the heads of none, the last used on top. */
	struct {
		uint16_t id, count; /* the driver's ID; descriptors */
	} chains[VIRTIO_QUEUE_SIZE_MAX];
	uint16_t idle[VIRTIO_QUEUE_SIZE_MAX];
};

struct virtqueue {
	/* As the driver set it up; fixed while the queue runs. */
	uint16_t size, size_max;
	bool enabled;
	uint64_t desc_iova, driver_iova, device_iova;

	/* Of the worker while it runs. */
	bool running, is_packed, event_idx, indirect;
	bool mapped;	     /* the ring's pointers are good */
	unsigned generation; /* of dma, when they were made */
	const struct virtio_dma *dma;
	const char *fault; /* why the last call returned -EBADMSG; static storage */
	union {
		struct virtqueue_split split;
		struct virtqueue_packed packed;
	};
};

/*
 * virtqueue_start() - the driver said DRIVER_OK: begin at place 0 of a ring of the kind that @features
 * say. Returns 0, or -EBADMSG with queue->fault when the size is not within size_max or no power of two
 * (split rings), an address is not aligned as 2.7 or 2.8.10.1 demands, or a part of the ring is not inside
 * one range of guest memory.
 */
int virtqueue_start(struct virtqueue *queue, const struct virtio_dma *dma, uint64_t features);
/* virtqueue_reset() - back to before the driver came; size_max stays. */
void virtqueue_reset(struct virtqueue *queue);

/*
 * virtqueue_pop() - copy and validate the next available chain. This is the one edge where what a
 * guest wrote into a ring becomes numbers and pointers of ours: each descriptor is copied once, then
 * judged. Returns 1; 0 when there is none, and then the driver will notify of the next one;
 * -EBADMSG (see queue->fault) when the ring is malformed, after which only virtqueue_reset() helps.
 */
int virtqueue_pop(struct virtqueue *queue, struct virtio_chain *chain);
/*
 * virtqueue_rewind() - the chain popped last was not used after all and is popped again later; others
 * may have been pushed meanwhile.
 */
void virtqueue_rewind(struct virtqueue *queue);
/*
 * virtqueue_push() - @length bytes were written to the chain of @head; hand it back.
 * Chains may be handed back in any order. Returns 1 when the driver wants an interrupt, 0 when not, -EBADMSG when the ring is gone.
 */
int virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t length);

/* virtio_iov_copy_out() - up to @count bytes from @iov, @skip bytes in. Returns how many. */
size_t virtio_iov_read(const struct iovec *iov, unsigned iov_count, size_t skip, void *buffer,
		       size_t count);
size_t virtio_iov_write(const struct iovec *iov, unsigned iov_count, size_t skip,
			const void *buffer, size_t count);
/* virtio_iov_slice() - cut @iov in place to [skip, skip + count). Returns the new iov_count. */
unsigned virtio_iov_slice(struct iovec *iov, unsigned iov_count, size_t skip, size_t count);

/* ---- the device (virtio_device.c) ---------------------------------------------------------- */

#define VIRTIO_CONFIG_SIZE_MAX 256
#define VIRTIO_VECTORS_MAX     (VIRTIO_QUEUES_MAX + 1)

struct virtio_device;

struct virtio_device_ops {
	const char *thread_kind; /* of its worker: thread_create() */
	uint16_t device_id;	 /* VIRTIO_ID_*, 5 */
	uint32_t class_code;	 /* PCI, 24 bits */
	unsigned queue_count;
	uint32_t
		outside_queues; /* bit N: queue N is served elsewhere (vhost), its doorbell not read */
	uint32_t config_size; /* device configuration, bytes */
	/* Register accesses: any thread, under dev->lock. The whole config; a field of it. */
	void (*config_read)(struct virtio_device *dev, void *config);
	void (*config_write)(struct virtio_device *dev, uint32_t offset, const void *data,
			     size_t count);
	/*
	 * Threads of the device type's own, on the caller's thread, just before the worker begins. Returns 0
	 * or -errno. What it started ends in destroy(), which also runs without it. NULL: it has none.
	 */
	int (*begin)(struct virtio_device *dev, struct error *e);
	/* All below on the worker. DRIVER_OK was written; queues run; dev->driver_features is final. */
	void (*start)(struct virtio_device *dev);
	/* The driver notified queue @index, or may have: also called once after start. */
	void (*queue_notify)(struct virtio_device *dev, unsigned index);
	/* The driver went away: forget its requests. Nothing of its memory is used when this returns. */
	void (*reset)(struct virtio_device *dev);
	/*
	 * For device types whose requests outlast their handler: guest memory is about to change; nothing
	 * of it is used when this returns. NULL: none does.
	 */
	void (*drain)(struct virtio_device *dev);
	/* Guest memory has changed (dev->dma); which eventfds interrupt has. Both may be NULL. */
	void (*memory_changed)(struct virtio_device *dev);
	void (*vectors_changed)(struct virtio_device *dev);
	/*
	 * Who shows the window; NULL: nobody. Any thread, without the lock; the one before is not
	 * called any more when this returns. For devices with a window.
	 */
	void (*set_mapper)(struct virtio_device *dev, const struct vfio_mapper *mapper,
			   void *opaque);
	/* The device closes; the worker has ended. Frees what the device acquired, not @dev. */
	void (*destroy)(struct virtio_device *dev);
};

/* A file descriptor of the host in the worker's loop. */
typedef void (*virtio_source_handler)(struct virtio_device *dev, uint32_t epoll_events);

struct virtio_source {
	struct virtio_device *dev;
	virtio_source_handler handler;
	sd_event_source *source;
};

struct virtio_device {
	struct vfio_device vfio; /* first: a virtio device is a VFIO device */
	const struct virtio_device_ops *ops;
	uint64_t device_features; /* offered */
	/*
	 * A window of shared memory (4.1.4.7), a BAR of its own: set before virtio_device_init(). What
	 * is in it is shown by the device's mapper; an access that is trapped finds nothing.
	 */
	uint64_t window_size; /* power of two; 0: none */
	uint8_t window_id;

	/* Register state, under lock. */
	pthread_mutex_t lock;
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint8_t config_space[256], config_mask[256]; /* PCI; mask: guest-writable bits */
	uint8_t pci_cfg_cap;			     /* where the access window's capability is */
	uint8_t config_init[256];

	/* Shared by vCPUs and worker: atomics only. */
	uint8_t status, isr, config_generation;
	uint16_t config_vector, queue_vector[VIRTIO_QUEUES_MAX];

	/* The worker's. */
	struct virtqueue queues[VIRTIO_QUEUES_MAX];
	struct virtio_chain *chain; /* of the handler that runs now */
	struct virtio_dma dma;
	int vector_fds[VIRTIO_VECTORS_MAX];
	bool running; /* DRIVER_OK and not broken */

	/* The loop. */
	sd_event *event;
	pthread_t thread;
	int kick_fds[VIRTIO_QUEUES_MAX];
	struct virtio_source kicks[VIRTIO_QUEUES_MAX];
	int call_fd;
	sd_event_source *call_source;
	pthread_mutex_t call_lock;
	pthread_cond_t call_done;
	bool has_worker;   /* under call_lock */
	bool call_pending; /* atomic: a handler that takes long should return soon */
	void (*call_run)(struct virtio_device *dev, void *arg);
	void *call_arg;
};

/*
 * virtio_device_init() - a device without a worker yet; @features are those of the device type, the
 * transport adds its own. @dev is zeroed memory that the caller allocated with calloc(); it belongs
 * to the device once this returns 0, and is released by virtio_device_close().
 */
int virtio_device_init(struct virtio_device *dev, const struct virtio_device_ops *ops,
		       uint64_t features, const char *name, struct error *e);
/*
 * virtio_device_start() - start the worker: the operations table's start(). Sources must have been
 * added. Before, the worker's part is done by whoever calls, and doorbells wait.
 */
int virtio_device_start(struct vfio_device *device, struct error *e);
/* virtio_device_close() - end the worker, then destroy() and free; also before start. */
void virtio_device_close(struct virtio_device *dev);

/*
 * virtio_source_add() - watch @fd (borrowed) for @epoll_events. Returns 0 or -errno (-EPERM: a
 * regular file, which is always ready). virtio_source_watch() changes the events, 0: none; worker.
 */
int virtio_source_add(struct virtio_device *dev, struct virtio_source *source, int fd,
		      uint32_t epoll_events, virtio_source_handler handler);
void virtio_source_watch(struct virtio_source *source, uint32_t epoll_events);
void virtio_source_remove(struct virtio_source *source);

/* virtio_worker_call() - run @run on the worker and wait. Caller holds dev->lock. */
void virtio_worker_call(struct virtio_device *dev,
			void (*run)(struct virtio_device *dev, void *arg), void *arg);

/*
 * For handlers. virtio_queue_pop() gives the next chain or NULL (none, or the device is not
 * running); a malformed ring ends the device there. virtio_queue_push() hands it back and
 * interrupts as the driver asked.
 */
struct virtio_chain *virtio_queue_pop(struct virtio_device *dev, unsigned index);
/* virtio_queue_pop_into() - the same into a chain of the device type's own. Returns false for none. */
bool virtio_queue_pop_into(struct virtio_device *dev, unsigned index, struct virtio_chain *chain);
void virtio_queue_push(struct virtio_device *dev, unsigned index, struct virtio_chain *chain,
		       uint32_t length);
/* virtio_queue_push_head() - the same for a chain of which only @head was kept. */
void virtio_queue_push_head(struct virtio_device *dev, unsigned index, uint16_t head,
			    uint32_t length);
void virtio_queue_rewind(struct virtio_device *dev, unsigned index);
/* virtio_queue_again() - come back to this queue after other events had their turn. */
void virtio_queue_again(struct virtio_device *dev, unsigned index);
/*
 * virtio_queue_service() - serve chains of a queue until there are none, a turn's share is done, or
 * somebody waits for the worker. @serve returns the bytes it wrote, or -errno to keep the chain for
 * later (nothing is popped until the queue is notified or virtio_queue_again()).
 */
void virtio_queue_service(struct virtio_device *dev, unsigned index,
			  int64_t (*serve)(struct virtio_device *dev, struct virtio_chain *chain));
/* virtio_device_broken() - DEVICE_NEEDS_RESET (2.1.2): @why is logged, queues stop. Worker. */
void virtio_device_broken(struct virtio_device *dev, unsigned queue, const char *why);
/* virtio_config_changed() - a new configuration generation and its interrupt. Worker. */
void virtio_config_changed(struct virtio_device *dev);

/* The status register (2.1, 3.1.1), under dev->lock. */
void virtio_status_write(struct virtio_device *dev, uint8_t value);
void virtio_device_reset_locked(struct virtio_device *dev);
/* virtio_device_has() - whether the driver accepted a feature. */
static inline bool virtio_device_has(const struct virtio_device *dev, unsigned feature)
{
	return dev->driver_features & (UINT64_C(1) << feature);
}

/* ---- the PCI transport (virtio_pci.c, 4.1) ------------------------------------------------- */

/* BAR 0, 64-bit memory; structures a page apart, so that a hypervisor can trap each alone. */
#define VIRTIO_BAR		 0
#define VIRTIO_BAR_SIZE		 0x8000
#define VIRTIO_BAR_COMMON	 0x0000
#define VIRTIO_BAR_ISR		 0x1000
#define VIRTIO_BAR_DEVICE	 0x2000
#define VIRTIO_BAR_NOTIFY	 0x3000
#define VIRTIO_BAR_MSIX_TABLE	 0x4000 /* emulated by whoever made a PCI function of this */
#define VIRTIO_BAR_MSIX_PBA	 0x5000
#define VIRTIO_NOTIFY_MULTIPLIER 4
/* The window of shared memory, where a device has one: 64-bit, prefetchable. */
#define VIRTIO_BAR_WINDOW 2

/* virtio_pci_init() - config space, capabilities and the operations table of @dev. */
void virtio_pci_init(struct virtio_device *dev);

#endif
