// SPDX-License-Identifier: Apache-2.0
/*
 * virtio_pci: the virtio PCI transport (VIRTIO 1.2, 4.1) as a VFIO device.
 *
 * Written once for every device type: a config space with the vendor capabilities, one BAR with the
 * common, ISR, device and notification structures, an eventfd a queue for notifications and one a
 * vector for interrupts. The MSI-X table and PBA have their place in the BAR but are emulated by
 * whoever makes a PCI function of this device (vfio_pci_create()). There is no INTx and no legacy
 * interface. Accesses may come from any thread; they are serialised here.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mdev/virtio.h"

#define PCI_VENDOR_VIRTIO      0x1af4
#define PCI_DEVICE_VIRTIO_BASE 0x1040 /* 4.1.2: plus the device type */

static struct virtio_device *device_of(struct vfio_device *vfio)
{
	return container_of(vfio, struct virtio_device, vfio);
}

static void put16(uint8_t *at, uint16_t value)
{
	value = htole16(value);
	memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

/* ---- common configuration (4.1.4.3) -------------------------------------------------------- */

/* The selected queue, or NULL when there is none of that number. */
static struct virtqueue *selected(struct virtio_device *dev)
{
	return dev->queue_select < dev->ops->queue_count ? &dev->queues[dev->queue_select] : NULL;
}

/* Queue registers belong to the driver until it enables the queue (4.1.4.3.2). */
static struct virtqueue *configurable(struct virtio_device *dev)
{
	struct virtqueue *queue = selected(dev);

	return queue && !queue->enabled ? queue : NULL;
}

static uint64_t device_feature_read(struct virtio_device *dev)
{
	return dev->device_feature_select < 2
		       ? (uint32_t)(dev->device_features >> (32 * dev->device_feature_select))
		       : 0;
}

static uint64_t driver_feature_read(struct virtio_device *dev)
{
	return dev->driver_feature_select < 2
		       ? (uint32_t)(dev->driver_features >> (32 * dev->driver_feature_select))
		       : 0;
}

static void driver_feature_write(struct virtio_device *dev, uint64_t value)
{
	const unsigned shift = 32 * dev->driver_feature_select;

	/* Fixed once FEATURES_OK is set (3.1.1, step 6). */
	if (dev->driver_feature_select > 1 ||
	    __atomic_load_n(&dev->status, __ATOMIC_RELAXED) & VIRTIO_CONFIG_S_FEATURES_OK)
		return;
	dev->driver_features &= ~(UINT64_C(0xffffffff) << shift);
	dev->driver_features |= value << shift;
}

static uint16_t checked_vector(const struct virtio_device *dev, uint64_t vector)
{
	return vector <= dev->ops->queue_count ? (uint16_t)vector : VIRTIO_MSI_NO_VECTOR;
}

#define REGISTER_READ(name, expression)                        \
	static uint64_t name##_read(struct virtio_device *dev) \
	{                                                      \
		return expression;                             \
	}
#define REGISTER_WRITE(name, statement)                                     \
	static void name##_write(struct virtio_device *dev, uint64_t value) \
	{                                                                   \
		statement;                                                  \
	}

REGISTER_READ(device_feature_select, dev->device_feature_select)
REGISTER_WRITE(device_feature_select, dev->device_feature_select = (uint32_t)value)
REGISTER_READ(driver_feature_select, dev->driver_feature_select)
REGISTER_WRITE(driver_feature_select, dev->driver_feature_select = (uint32_t)value)
REGISTER_READ(config_vector, __atomic_load_n(&dev->config_vector, __ATOMIC_RELAXED))
REGISTER_WRITE(config_vector,
	       __atomic_store_n(&dev->config_vector, checked_vector(dev, value), __ATOMIC_RELAXED))
REGISTER_READ(queue_count, dev->ops->queue_count)
REGISTER_READ(status, __atomic_load_n(&dev->status, __ATOMIC_ACQUIRE))
REGISTER_WRITE(status, virtio_status_write(dev, (uint8_t)value))
REGISTER_READ(generation, __atomic_load_n(&dev->config_generation, __ATOMIC_ACQUIRE))
REGISTER_READ(queue_select, dev->queue_select)
REGISTER_WRITE(queue_select, dev->queue_select = (uint16_t)value)
REGISTER_READ(queue_size, selected(dev) ? selected(dev)->size : 0)
REGISTER_READ(queue_vector, selected(dev) ? __atomic_load_n(&dev->queue_vector[dev->queue_select],
							    __ATOMIC_RELAXED)
					  : VIRTIO_MSI_NO_VECTOR)
REGISTER_READ(queue_enable, selected(dev) ? selected(dev)->enabled : 0)
REGISTER_READ(queue_notify_off, selected(dev) ? dev->queue_select : 0)
REGISTER_READ(queue_desc, selected(dev) ? selected(dev)->desc_iova : 0)
REGISTER_READ(queue_driver, selected(dev) ? selected(dev)->driver_iova : 0)
REGISTER_READ(queue_device, selected(dev) ? selected(dev)->device_iova : 0)

static void queue_size_write(struct virtio_device *dev, uint64_t value)
{
	struct virtqueue *queue = configurable(dev);

	/* Not above what is offered, and a power of two but for packed rings (4.1.4.3.2); else the old stays. */
	if (queue && value && value <= queue->size_max &&
	    (virtio_device_has(dev, VIRTIO_F_RING_PACKED) || !(value & (value - 1))))
		queue->size = (uint16_t)value;
}

static void run_vectors_changed(struct virtio_device *dev, void *arg)
{
	dev->ops->vectors_changed(dev);
}

static void queue_vector_write(struct virtio_device *dev, uint64_t value)
{
	if (!selected(dev))
		return;
	__atomic_store_n(&dev->queue_vector[dev->queue_select], checked_vector(dev, value),
			 __ATOMIC_RELAXED);
	if (dev->ops->vectors_changed)
		virtio_worker_call(dev, run_vectors_changed, NULL);
}

static void queue_enable_write(struct virtio_device *dev, uint64_t value)
{
	struct virtqueue *queue = configurable(dev);
	const uint8_t status = __atomic_load_n(&dev->status, __ATOMIC_RELAXED);

	/* After feature negotiation, before DRIVER_OK (3.1.1, step 7); never taken back but by reset. */
	if (queue && value == 1 && status & VIRTIO_CONFIG_S_FEATURES_OK &&
	    !(status & VIRTIO_CONFIG_S_DRIVER_OK))
		queue->enabled = true;
}

static void queue_desc_write(struct virtio_device *dev, uint64_t value)
{
	if (configurable(dev))
		configurable(dev)->desc_iova = value;
}

static void queue_driver_write(struct virtio_device *dev, uint64_t value)
{
	if (configurable(dev))
		configurable(dev)->driver_iova = value;
}

static void queue_device_write(struct virtio_device *dev, uint64_t value)
{
	if (configurable(dev))
		configurable(dev)->device_iova = value;
}

static const struct common_register {
	uint8_t offset, size;
	uint64_t (*read)(struct virtio_device *dev);
	void (*write)(struct virtio_device *dev, uint64_t value); /* NULL: read-only */
} common_registers[] = {
	{ VIRTIO_PCI_COMMON_DFSELECT, 4, device_feature_select_read, device_feature_select_write },
	{ VIRTIO_PCI_COMMON_DF, 4, device_feature_read, NULL },
	{ VIRTIO_PCI_COMMON_GFSELECT, 4, driver_feature_select_read, driver_feature_select_write },
	{ VIRTIO_PCI_COMMON_GF, 4, driver_feature_read, driver_feature_write },
	{ VIRTIO_PCI_COMMON_MSIX, 2, config_vector_read, config_vector_write },
	{ VIRTIO_PCI_COMMON_NUMQ, 2, queue_count_read, NULL },
	{ VIRTIO_PCI_COMMON_STATUS, 1, status_read, status_write },
	{ VIRTIO_PCI_COMMON_CFGGENERATION, 1, generation_read, NULL },
	{ VIRTIO_PCI_COMMON_Q_SELECT, 2, queue_select_read, queue_select_write },
	{ VIRTIO_PCI_COMMON_Q_SIZE, 2, queue_size_read, queue_size_write },
	{ VIRTIO_PCI_COMMON_Q_MSIX, 2, queue_vector_read, queue_vector_write },
	{ VIRTIO_PCI_COMMON_Q_ENABLE, 2, queue_enable_read, queue_enable_write },
	{ VIRTIO_PCI_COMMON_Q_NOFF, 2, queue_notify_off_read, NULL },
	{ VIRTIO_PCI_COMMON_Q_DESCLO, 8, queue_desc_read, queue_desc_write },
	{ VIRTIO_PCI_COMMON_Q_AVAILLO, 8, queue_driver_read, queue_driver_write },
	{ VIRTIO_PCI_COMMON_Q_USEDLO, 8, queue_device_read, queue_device_write },
};
#define COMMON_SIZE 56 /* struct virtio_pci_common_cfg */

static void common_read(struct virtio_device *dev, uint64_t offset, uint8_t *buf, size_t count)
{
	uint8_t image[COMMON_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(common_registers); i++) {
		uint64_t value = htole64(common_registers[i].read(dev));

		memcpy(image + common_registers[i].offset, &value, common_registers[i].size);
	}
	memcpy(buf, image + offset, count);
}

/* Fields are written in their natural width, 64-bit ones also in halves (4.1.3.1). */
static void common_write(struct virtio_device *dev, uint64_t offset, const uint8_t *buf,
			 size_t count)
{
	for (size_t i = 0; i < ARRAY_SIZE(common_registers); i++) {
		const struct common_register *reg = &common_registers[i];
		const uint64_t skip = offset - reg->offset;
		uint64_t value = 0;

		if (offset < reg->offset || skip >= reg->size || !reg->write)
			continue;
		if (!(skip == 0 && count == reg->size) &&
		    !(reg->size == 8 && count == 4 && skip % 4 == 0))
			break;
		if (count < reg->size)
			value = htole64(reg->read(dev));
		memcpy((uint8_t *)&value + skip, buf, count);
		reg->write(dev, le64toh(value));
		return;
	}
	log_limited(LOG_LEVEL_DEBUG, "%s: write of %zu bytes at %#llx of the common structure",
		    dev->vfio.name, count, (unsigned long long)offset);
}

/* ---- the BAR ------------------------------------------------------------------------------- */

static void bar_read(struct virtio_device *dev, uint64_t offset, uint8_t *buf, size_t count)
{
	memset(buf, 0, count);
	if (offset + count <= VIRTIO_BAR_COMMON + COMMON_SIZE) {
		common_read(dev, offset, buf, count);
	} else if (offset == VIRTIO_BAR_ISR) {
		buf[0] = __atomic_exchange_n(&dev->isr, 0, __ATOMIC_ACQ_REL);
	} else if (offset >= VIRTIO_BAR_DEVICE &&
		   offset + count <= VIRTIO_BAR_DEVICE + dev->ops->config_size) {
		uint8_t config[VIRTIO_CONFIG_SIZE_MAX] = { 0 };

		dev->ops->config_read(dev, config);
		memcpy(buf, config + (offset - VIRTIO_BAR_DEVICE), count);
	}
}

static void bar_write(struct virtio_device *dev, uint64_t offset, const uint8_t *buf, size_t count)
{
	if (offset + count <= VIRTIO_BAR_COMMON + COMMON_SIZE) {
		common_write(dev, offset, buf, count);
	} else if (offset >= VIRTIO_BAR_DEVICE &&
		   offset + count <= VIRTIO_BAR_DEVICE + dev->ops->config_size) {
		if (dev->ops->config_write)
			dev->ops->config_write(dev, (uint32_t)(offset - VIRTIO_BAR_DEVICE), buf,
					       count);
	} else if (offset >= VIRTIO_BAR_NOTIFY && offset < VIRTIO_BAR_MSIX_TABLE &&
		   offset % VIRTIO_NOTIFY_MULTIPLIER == 0) {
		uint64_t queue = (offset - VIRTIO_BAR_NOTIFY) / VIRTIO_NOTIFY_MULTIPLIER;

		if (queue < dev->ops->queue_count)
			eventfd_write(dev->kick_fds[queue], 1);
	}
}

/* ---- config space -------------------------------------------------------------------------- */

/*
 * The access window (4.1.4.9): the driver names BAR, offset and length, then reads or writes the
 * data field. @window is set to the data field's place when it names an access that can be made.
 */
static bool window_access(const struct virtio_device *dev, uint64_t offset, size_t count,
			  uint64_t *bar_offset, uint32_t *length)
{
	const uint8_t *cap = dev->config_space + dev->pci_cfg_cap;
	const uint64_t data = dev->pci_cfg_cap + sizeof(struct virtio_pci_cap);

	if (offset >= data + 4 || offset + count <= data)
		return false;
	*bar_offset = get32(cap + offsetof(struct virtio_pci_cap, offset));
	*length = get32(cap + offsetof(struct virtio_pci_cap, length));
	return cap[offsetof(struct virtio_pci_cap, bar)] == VIRTIO_BAR &&
	       (*length == 1 || *length == 2 || *length == 4) && *bar_offset % *length == 0 &&
	       *bar_offset + *length <= VIRTIO_BAR_SIZE;
}

static void config_read(struct virtio_device *dev, uint64_t offset, uint8_t *buf, size_t count)
{
	uint8_t *data = dev->config_space + dev->pci_cfg_cap + sizeof(struct virtio_pci_cap);
	uint64_t bar_offset;
	uint32_t length;

	if (window_access(dev, offset, count, &bar_offset, &length)) {
		memset(data, 0, 4);
		bar_read(dev, bar_offset, data, length);
	}
	memcpy(buf, dev->config_space + offset, count);
}

static void config_write(struct virtio_device *dev, uint64_t offset, const uint8_t *buf,
			 size_t count)
{
	const uint8_t *data = dev->config_space + dev->pci_cfg_cap + sizeof(struct virtio_pci_cap);
	uint64_t bar_offset;
	uint32_t length;

	for (size_t i = 0; i < count; i++) {
		const uint8_t mask = dev->config_mask[offset + i];
		uint8_t *at = &dev->config_space[offset + i];

		*at = (uint8_t)((*at & ~mask) | (buf[i] & mask));
	}
	if (window_access(dev, offset, count, &bar_offset, &length))
		bar_write(dev, bar_offset, data, length);
}

/* ---- VFIO's table -------------------------------------------------------------------------- */

static int get_region(struct vfio_device *vfio, uint32_t index, struct vfio_region *region)
{
	if (index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	memset(region, 0, sizeof(*region));
	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		region->size = sizeof(((struct virtio_device *)0)->config_space);
	else if (index == VIRTIO_BAR)
		region->size = VIRTIO_BAR_SIZE;
	else if (index == VIRTIO_BAR_WINDOW)
		region->size = device_of(vfio)->window_size;
	if (region->size)
		region->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	return 0;
}

/* How much of an access lies in region @index: -EINVAL when none does. */
static ssize_t clip(const struct virtio_device *dev, uint32_t index, uint64_t offset, size_t count)
{
	uint64_t size = 0;

	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		size = sizeof(dev->config_space);
	else if (index == VIRTIO_BAR)
		size = VIRTIO_BAR_SIZE;
	else if (index == VIRTIO_BAR_WINDOW)
		size = dev->window_size;
	return offset < size ? (ssize_t)MIN(count, size - offset) : -EINVAL;
}

static ssize_t region_read(struct vfio_device *vfio, uint32_t index, uint64_t offset, void *buf,
			   size_t count)
{
	struct virtio_device *dev = device_of(vfio);
	ssize_t ret = clip(dev, index, offset, count);

	if (ret <= 0)
		return ret;
	if (index == VIRTIO_BAR_WINDOW) {
		/* What is mapped there does not come here; the rest is no memory. */
		memset(buf, 0xff, (size_t)ret);
		return ret;
	}
	pthread_mutex_lock(&dev->lock);
	if (index == VIRTIO_BAR)
		bar_read(dev, offset, buf, (size_t)ret);
	else
		config_read(dev, offset, buf, (size_t)ret);
	pthread_mutex_unlock(&dev->lock);
	return ret;
}

static ssize_t region_write(struct vfio_device *vfio, uint32_t index, uint64_t offset,
			    const void *buf, size_t count)
{
	struct virtio_device *dev = device_of(vfio);
	ssize_t ret = clip(dev, index, offset, count);

	if (ret <= 0 || index == VIRTIO_BAR_WINDOW)
		return ret;
	pthread_mutex_lock(&dev->lock);
	if (index == VIRTIO_BAR)
		bar_write(dev, offset, buf, (size_t)ret);
	else
		config_write(dev, offset, buf, (size_t)ret);
	pthread_mutex_unlock(&dev->lock);
	return ret;
}

static int get_irq(struct vfio_device *vfio, uint32_t index, struct vfio_irq *irq)
{
	if (index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	memset(irq, 0, sizeof(*irq));
	if (index == VFIO_PCI_MSIX_IRQ_INDEX) {
		irq->count = device_of(vfio)->ops->queue_count + 1;
		irq->flags = VFIO_IRQ_INFO_EVENTFD;
	}
	return 0;
}

struct set_irqs_call {
	uint32_t flags, start, count;
	const void *data;
	int fds[VIRTIO_VECTORS_MAX]; /* dup'ed; the worker takes them and leaves the old ones */
};

static void run_set_irqs(struct virtio_device *dev, void *arg)
{
	struct set_irqs_call *call = arg;

	for (uint32_t i = 0; i < call->count; i++) {
		int *slot = &dev->vector_fds[call->start + i], old = *slot;

		if (call->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
			*slot = call->fds[i];
			call->fds[i] = old;
		} else if (old >= 0 && (call->flags & VFIO_IRQ_SET_DATA_NONE ||
					((const uint8_t *)call->data)[i])) {
			eventfd_write(old, 1);
		}
	}
	if (dev->ops->vectors_changed)
		dev->ops->vectors_changed(dev);
}

static int set_irqs(struct vfio_device *vfio, uint32_t flags, uint32_t index, uint32_t start,
		    uint32_t count, const void *data)
{
	struct virtio_device *dev = device_of(vfio);
	struct set_irqs_call call = {
		.flags = flags, .start = start, .count = count, .data = data
	};
	const uint32_t vectors = dev->ops->queue_count + 1;
	const uint32_t kind = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	int ret = 0;

	if (index != VFIO_PCI_MSIX_IRQ_INDEX || start >= vectors || count > vectors - start)
		return -EINVAL;
	/* There is no mask below MSI-X's own, which is not emulated here. */
	if ((flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) != VFIO_IRQ_SET_ACTION_TRIGGER)
		return -ENOTTY;
	if (kind != VFIO_IRQ_SET_DATA_NONE && kind != VFIO_IRQ_SET_DATA_BOOL &&
	    kind != VFIO_IRQ_SET_DATA_EVENTFD)
		return -EINVAL;
	if (kind != VFIO_IRQ_SET_DATA_NONE && (!count || !data))
		return -EINVAL;
	memset(call.fds, 0xff, sizeof(call.fds));
	if (kind == VFIO_IRQ_SET_DATA_NONE && !count) {
		/* All off. */
		call.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
		call.start = 0;
		call.count = vectors;
	} else if (kind == VFIO_IRQ_SET_DATA_EVENTFD) {
		for (uint32_t i = 0; i < count && !ret; i++) {
			int fd = ((const int32_t *)data)[i];

			if (fd < 0)
				continue;
			call.fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
			if (call.fds[i] < 0)
				ret = -errno;
		}
	}
	if (!ret) {
		pthread_mutex_lock(&dev->lock);
		virtio_worker_call(dev, run_set_irqs, &call);
		pthread_mutex_unlock(&dev->lock);
	}
	for (unsigned i = 0; i < VIRTIO_VECTORS_MAX; i++)
		fd_close(&call.fds[i]);
	return ret;
}

struct dma_call {
	uint64_t iova, size;
	void *hva; /* NULL: unmap */
	int ret;
};

static void run_dma(struct virtio_device *dev, void *arg)
{
	struct dma_call *call = arg;

	if (!call->hva && dev->ops->drain)
		dev->ops->drain(dev);
	call->ret = call->hva ? virtio_dma_map(&dev->dma, call->iova, call->size, call->hva)
			      : virtio_dma_unmap(&dev->dma, call->iova, call->size);
	if (dev->ops->memory_changed)
		dev->ops->memory_changed(dev);
}

static int change_dma(struct vfio_device *vfio, uint64_t iova, uint64_t size, void *hva)
{
	struct virtio_device *dev = device_of(vfio);
	struct dma_call call = { .iova = iova, .size = size, .hva = hva };

	pthread_mutex_lock(&dev->lock);
	virtio_worker_call(dev, run_dma, &call);
	pthread_mutex_unlock(&dev->lock);
	return call.ret;
}

static int dma_map(struct vfio_device *vfio, uint64_t iova, uint64_t size, void *hva, int fd,
		   uint64_t fd_offset)
{
	return hva ? change_dma(vfio, iova, size, hva) : -EINVAL;
}

static int dma_unmap(struct vfio_device *vfio, uint64_t iova, uint64_t size)
{
	return change_dma(vfio, iova, size, NULL);
}

static int get_io_fds(struct vfio_device *vfio, uint32_t index, struct vfio_io_fd *fds)
{
	struct virtio_device *dev = device_of(vfio);

	if (index != VIRTIO_BAR)
		return 0;
	for (unsigned i = 0; i < dev->ops->queue_count; i++)
		fds[i] = (struct vfio_io_fd){
			.offset = VIRTIO_BAR_NOTIFY + i * VIRTIO_NOTIFY_MULTIPLIER,
			.size = 0, /* an address says it all, whatever is written there */
			.fd = dev->kick_fds[i],
		};
	return (int)dev->ops->queue_count;
}

static int reset(struct vfio_device *vfio)
{
	struct virtio_device *dev = device_of(vfio);

	pthread_mutex_lock(&dev->lock);
	virtio_device_reset_locked(dev);
	memcpy(dev->config_space, dev->config_init, sizeof(dev->config_space));
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

static void close_device(struct vfio_device *vfio)
{
	virtio_device_close(device_of(vfio));
}

static void set_mapper(struct vfio_device *vfio, const struct vfio_mapper *mapper, void *opaque)
{
	struct virtio_device *dev = device_of(vfio);

	dev->ops->set_mapper(dev, mapper, opaque);
}

#define COMMON_OPS                                                                          \
	.get_region = get_region, .region_read = region_read, .region_write = region_write, \
	.get_irq = get_irq, .set_irqs = set_irqs, .reset = reset, .dma_map = dma_map,       \
	.dma_unmap = dma_unmap, .get_io_fds = get_io_fds, .start = virtio_device_start,     \
	.close = close_device

static const struct vfio_device_ops virtio_pci_ops = { COMMON_OPS };
/* A device without a window never asks for a mapper, and says so. */
static const struct vfio_device_ops virtio_pci_window_ops = { COMMON_OPS,
							      .set_mapper = set_mapper };

/* ---- making the config space --------------------------------------------------------------- */

/* Append a vendor capability of @size bytes; returns where it is. */
static uint8_t add_capability(struct virtio_device *dev, uint8_t *last, uint8_t id, uint8_t size)
{
	/* Each begins where the one before ended, four bytes aligned. */
	uint8_t at = *last ? (uint8_t)ALIGN_UP(*last + dev->config_space[*last + 2], 4) : 0x40;

	dev->config_space[*last ? *last + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST] = at;
	dev->config_space[at + PCI_CAP_LIST_ID] = id;
	dev->config_space[at + 2] = size; /* cap_len; MSI-X's own field there is set after it */
	*last = at;
	return at;
}

static uint8_t add_virtio_capability(struct virtio_device *dev, uint8_t *last, uint8_t type,
				     uint8_t size, uint32_t offset, uint32_t length)
{
	uint8_t at = add_capability(dev, last, PCI_CAP_ID_VNDR, size);
	uint8_t *cap = dev->config_space + at;

	cap[offsetof(struct virtio_pci_cap, cfg_type)] = type;
	cap[offsetof(struct virtio_pci_cap, bar)] = VIRTIO_BAR;
	put32(cap + offsetof(struct virtio_pci_cap, offset), offset);
	put32(cap + offsetof(struct virtio_pci_cap, length), length);
	return at;
}

/* 4.1.4.7: where the window of shared memory is, with 64-bit numbers. */
static void add_window(struct virtio_device *dev, uint8_t *last)
{
	uint8_t *config = dev->config_space, *mask = dev->config_mask, *cap;
	uint8_t at = add_virtio_capability(dev, last, VIRTIO_PCI_CAP_SHARED_MEMORY_CFG,
					   sizeof(struct virtio_pci_cap64), 0,
					   (uint32_t)dev->window_size);

	cap = config + at;
	cap[offsetof(struct virtio_pci_cap, bar)] = VIRTIO_BAR_WINDOW;
	cap[offsetof(struct virtio_pci_cap, id)] = dev->window_id;
	put32(cap + offsetof(struct virtio_pci_cap64, length_hi),
	      (uint32_t)(dev->window_size >> 32));
	put32(config + PCI_BASE_ADDRESS_2,
	      PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH);
	put32(mask + PCI_BASE_ADDRESS_2, (uint32_t)~(dev->window_size - 1) & 0xfffffff0);
	put32(mask + PCI_BASE_ADDRESS_3, (uint32_t)(~(dev->window_size - 1) >> 32));
}

void virtio_pci_init(struct virtio_device *dev)
{
	uint8_t *config = dev->config_space, *mask = dev->config_mask;
	uint8_t last = 0, at;

	dev->vfio.ops = dev->window_size ? &virtio_pci_window_ops : &virtio_pci_ops;
	dev->vfio.region_count = VFIO_PCI_NUM_REGIONS;
	dev->vfio.irq_count = VFIO_PCI_NUM_IRQS;
	dev->vfio.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;

	put16(config + PCI_VENDOR_ID, PCI_VENDOR_VIRTIO);
	put16(config + PCI_DEVICE_ID, (uint16_t)(PCI_DEVICE_VIRTIO_BASE + dev->ops->device_id));
	put16(config + PCI_STATUS, PCI_STATUS_CAP_LIST);
	put32(config + PCI_CLASS_REVISION, dev->ops->class_code << 8 | 1); /* 4.1.2.1 */
	put32(config + PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_MEM_TYPE_64);
	put16(config + PCI_SUBSYSTEM_VENDOR_ID, PCI_VENDOR_VIRTIO);
	put16(config + PCI_SUBSYSTEM_ID, 0x40); /* 4.1.2.1: at least 0x40, not transitional */
	put16(mask + PCI_COMMAND,
	      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	mask[PCI_CACHE_LINE_SIZE] = 0xff;
	mask[PCI_INTERRUPT_LINE] = 0xff;
	put32(mask + PCI_BASE_ADDRESS_0, (uint32_t)~(VIRTIO_BAR_SIZE - 1));
	put32(mask + PCI_BASE_ADDRESS_1, 0xffffffff);

	add_virtio_capability(dev, &last, VIRTIO_PCI_CAP_COMMON_CFG, sizeof(struct virtio_pci_cap),
			      VIRTIO_BAR_COMMON, COMMON_SIZE);
	add_virtio_capability(dev, &last, VIRTIO_PCI_CAP_ISR_CFG, sizeof(struct virtio_pci_cap),
			      VIRTIO_BAR_ISR, 1);
	if (dev->ops->config_size)
		add_virtio_capability(dev, &last, VIRTIO_PCI_CAP_DEVICE_CFG,
				      sizeof(struct virtio_pci_cap), VIRTIO_BAR_DEVICE,
				      dev->ops->config_size);
	at = add_virtio_capability(dev, &last, VIRTIO_PCI_CAP_NOTIFY_CFG,
				   sizeof(struct virtio_pci_notify_cap), VIRTIO_BAR_NOTIFY,
				   dev->ops->queue_count * VIRTIO_NOTIFY_MULTIPLIER);
	put32(config + at + offsetof(struct virtio_pci_notify_cap, notify_off_multiplier),
	      VIRTIO_NOTIFY_MULTIPLIER);
	at = add_virtio_capability(dev, &last, VIRTIO_PCI_CAP_PCI_CFG,
				   sizeof(struct virtio_pci_cfg_cap), 0, 0);
	dev->pci_cfg_cap = at;
	mask[at + offsetof(struct virtio_pci_cap, bar)] = 0xff;
	put32(mask + at + offsetof(struct virtio_pci_cap, offset), 0xffffffff);
	put32(mask + at + offsetof(struct virtio_pci_cap, length), 0xffffffff);
	put32(mask + at + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data), 0xffffffff);

	if (dev->window_size)
		add_window(dev, &last);
	at = add_capability(dev, &last, PCI_CAP_ID_MSIX, 0);
	put16(config + at + PCI_MSIX_FLAGS, (uint16_t)dev->ops->queue_count); /* N - 1 vectors */
	put32(config + at + PCI_MSIX_TABLE, VIRTIO_BAR_MSIX_TABLE | VIRTIO_BAR);
	put32(config + at + PCI_MSIX_PBA, VIRTIO_BAR_MSIX_PBA | VIRTIO_BAR);
	put16(mask + at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	memcpy(dev->config_init, config, sizeof(dev->config_init));
}
