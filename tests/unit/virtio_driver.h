/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_driver: plays the guest for tests of virtio devices, through the VFIO operations table.
 *
 * It finds the structures by their capabilities, negotiates, lays out rings in a buffer that is the
 * guest's memory, and waits for interrupts on eventfds. Nothing of a device's insides is used. Each
 * step asserts that it worked; tests that want it otherwise write the rings themselves.
 */
#ifndef TESTS_VIRTIO_DRIVER_H
#define TESTS_VIRTIO_DRIVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mdev/mdev.h"
#include "guest-drivers/testguest/ring_driver.h"

#define GUEST_BASE UINT64_C(0x100000)
#ifndef GUEST_SIZE
#define GUEST_SIZE (4 * MIB)
#endif
#define GUEST_QUEUES 4
#define GUEST_FEATURES                                                                \
	(UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | \
	 UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define GUEST_WAIT_MS 10000

struct guest_queue {
	struct ring_driver ring;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint64_t notify;
};

struct guest {
	struct vfio_device *device;
	uint8_t *memory;
	uint64_t allocated;
	uint64_t features;
	uint64_t cap[6];	       /* BAR offset by cfg_type */
	uint8_t window_id, window_bar; /* of shared memory; 0: none */
	uint64_t window_size;
	uint32_t multiplier;
	int vectors[GUEST_QUEUES + 1]; /* 0: config, i + 1: queue i */
	struct guest_queue queues[GUEST_QUEUES];
};

/* What every negotiation asks for besides. */
static uint64_t guest_more_features;

/* Setup and teardown of a group of cmocka whose tests run over packed rings. */
static inline int guest_use_packed_rings(void **state)
{
	guest_more_features |= UINT64_C(1) << VIRTIO_F_RING_PACKED;
	return 0;
}

static inline int guest_use_split_rings(void **state)
{
	guest_more_features &= ~(UINT64_C(1) << VIRTIO_F_RING_PACKED);
	return 0;
}

/* Run an array of tests over both kinds. Value: how many failed. */
#define guest_run_over_both_rings(tests)                                            \
	(cmocka_run_group_tests_name("split rings", tests, NULL, NULL) +            \
	 cmocka_run_group_tests_name("packed rings", tests, guest_use_packed_rings, \
				     guest_use_split_rings))

static inline unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static inline void *guest_ptr(struct guest *guest, uint64_t gpa)
{
	assert_true(gpa >= GUEST_BASE && gpa < GUEST_BASE + GUEST_SIZE);
	return guest->memory + (gpa - GUEST_BASE);
}

static inline uint64_t guest_alloc(struct guest *guest, uint64_t size)
{
	uint64_t gpa = GUEST_BASE + guest->allocated;

	guest->allocated += ALIGN_UP(size, 64);
	assert_true(guest->allocated <= GUEST_SIZE);
	return gpa;
}

static inline uint64_t bar_read(struct guest *guest, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	assert_int_equal(guest->device->ops->region_read(guest->device, 0, offset, &value, size),
			 size);
	return value;
}

static inline void bar_write(struct guest *guest, uint64_t offset, unsigned size, uint64_t value)
{
	assert_int_equal(guest->device->ops->region_write(guest->device, 0, offset, &value, size),
			 size);
}

static inline uint32_t config_read(struct guest *guest, uint64_t offset, unsigned size)
{
	uint32_t value = 0;

	assert_int_equal(guest->device->ops->region_read(
				 guest->device, VFIO_PCI_CONFIG_REGION_INDEX, offset, &value, size),
			 size);
	return value;
}

static inline void config_write(struct guest *guest, uint64_t offset, unsigned size, uint32_t value)
{
	assert_int_equal(guest->device->ops->region_write(
				 guest->device, VFIO_PCI_CONFIG_REGION_INDEX, offset, &value, size),
			 size);
}

static inline uint64_t common_read(struct guest *guest, unsigned offset, unsigned size)
{
	return bar_read(guest, guest->cap[VIRTIO_PCI_CAP_COMMON_CFG] + offset, size);
}

static inline void common_write(struct guest *guest, unsigned offset, unsigned size, uint64_t value)
{
	bar_write(guest, guest->cap[VIRTIO_PCI_CAP_COMMON_CFG] + offset, size, value);
}

static inline uint64_t device_config(struct guest *guest, unsigned offset, unsigned size)
{
	return bar_read(guest, guest->cap[VIRTIO_PCI_CAP_DEVICE_CFG] + offset, size);
}

static inline uint8_t guest_status(struct guest *guest)
{
	return (uint8_t)common_read(guest, VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void guest_set_status(struct guest *guest, uint8_t status)
{
	common_write(guest, VIRTIO_PCI_COMMON_STATUS, 1, status);
}

static inline uint64_t guest_device_features(struct guest *guest)
{
	uint64_t features;

	common_write(guest, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	features = common_read(guest, VIRTIO_PCI_COMMON_DF, 4);
	common_write(guest, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	return features | common_read(guest, VIRTIO_PCI_COMMON_DF, 4) << 32;
}

/* Find the structures (VIRTIO 1.2, 4.1.4), all in BAR 0 but for a window of shared memory. */
static inline void guest_find_capabilities(struct guest *guest)
{
	uint8_t at = (uint8_t)config_read(guest, PCI_CAPABILITY_LIST, 1);

	for (unsigned i = 0; at && i < 48; i++) {
		if (config_read(guest, at, 1) == PCI_CAP_ID_VNDR) {
			unsigned type = config_read(guest, at + 3u, 1);

			if (type == VIRTIO_PCI_CAP_SHARED_MEMORY_CFG) {
				assert_int_equal(config_read(guest, at + 2u, 1), 24);
				guest->window_bar = (uint8_t)config_read(guest, at + 4u, 1);
				guest->window_id = (uint8_t)config_read(guest, at + 5u, 1);
				guest->window_size = config_read(guest, at + 12u, 4) |
						     (uint64_t)config_read(guest, at + 20u, 4)
							     << 32;
				at = (uint8_t)config_read(guest, at + 1u, 1);
				continue;
			}
			assert_in_range(type, 1, 5);
			guest->cap[type] = type == VIRTIO_PCI_CAP_PCI_CFG
						   ? at
						   : config_read(guest, at + 8u, 4);
			if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
				guest->multiplier = config_read(guest, at + 16u, 4);
		}
		at = (uint8_t)config_read(guest, at + 1u, 1);
	}
}

/* Memory, interrupts and capabilities; the device is the guest's from here on. */
static inline void guest_open(struct guest *guest, struct vfio_device *device)
{
	struct vfio_irq irq;
	int fd;

	memset(guest, 0, sizeof(*guest));
	guest->device = device;
	fd = memfd_create("test-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, GUEST_SIZE), 0);
	guest->memory = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(guest->memory != MAP_FAILED);
	/* Two ranges that touch, as banks of memory may. */
	assert_int_equal(
		device->ops->dma_map(device, GUEST_BASE, GUEST_SIZE / 2, guest->memory, fd, 0), 0);
	assert_int_equal(device->ops->dma_map(device, GUEST_BASE + GUEST_SIZE / 2, GUEST_SIZE / 2,
					      guest->memory + GUEST_SIZE / 2, fd, GUEST_SIZE / 2),
			 0);
	close(fd);
	assert_int_equal(vfio_device_start(device, NULL), 0);
	for (unsigned i = 0; i <= GUEST_QUEUES; i++)
		guest->vectors[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(device->ops->get_irq(device, VFIO_PCI_MSIX_IRQ_INDEX, &irq), 0);
	assert_int_equal(device->ops->set_irqs(
				 device, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				 VFIO_PCI_MSIX_IRQ_INDEX, 0, irq.count, guest->vectors),
			 0);
	guest_find_capabilities(guest);
}

/* The guest goes; its device is somebody else's to close, and was. */
static inline void guest_leave(struct guest *guest)
{
	for (unsigned i = 0; i <= GUEST_QUEUES; i++)
		close(guest->vectors[i]);
	munmap(guest->memory, GUEST_SIZE);
}

/* Close the device and the guest around it. */
static inline void guest_close(struct guest *guest)
{
	guest->device->ops->close(guest->device);
	guest_leave(guest);
}

/* Reset, then up to FEATURES_OK with @features (VIRTIO 1.2, 3.1.1). Returns whether it stuck. */
static inline bool guest_negotiate(struct guest *guest, uint64_t features)
{
	guest_set_status(guest, 0);
	assert_int_equal(guest_status(guest), 0);
	guest->allocated = 0;
	features |= guest_more_features;
	memset(guest->queues, 0, sizeof(guest->queues));
	guest_set_status(guest, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	guest_set_status(guest, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		common_write(guest, VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		common_write(guest, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> (32 * i)));
	}
	guest_set_status(guest, guest_status(guest) | VIRTIO_CONFIG_S_FEATURES_OK);
	guest->features = features;
	common_write(guest, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	return guest_status(guest) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static inline void guest_setup_queue(struct guest *guest, unsigned index, uint16_t size)
{
	struct guest_queue *queue = &guest->queues[index];

	queue->desc_gpa = guest_alloc(guest, ring_desc_bytes(size));
	queue->avail_gpa = guest_alloc(guest, ring_driver_bytes(size));
	queue->used_gpa = guest_alloc(guest, ring_device_bytes(size));
	ring_begin(&queue->ring, guest->features & UINT64_C(1) << VIRTIO_F_RING_PACKED,
		   guest->features & UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX, size,
		   guest_ptr(guest, queue->desc_gpa), guest_ptr(guest, queue->avail_gpa),
		   guest_ptr(guest, queue->used_gpa));
	common_write(guest, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
	assert_true(common_read(guest, VIRTIO_PCI_COMMON_Q_SIZE, 2) >= size);
	common_write(guest, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
	common_write(guest, VIRTIO_PCI_COMMON_Q_MSIX, 2, index + 1);
	common_write(guest, VIRTIO_PCI_COMMON_Q_DESCLO, 4, (uint32_t)queue->desc_gpa);
	common_write(guest, VIRTIO_PCI_COMMON_Q_DESCHI, 4, queue->desc_gpa >> 32);
	common_write(guest, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, queue->avail_gpa);
	common_write(guest, VIRTIO_PCI_COMMON_Q_USEDLO, 8, queue->used_gpa);
	queue->notify = guest->cap[VIRTIO_PCI_CAP_NOTIFY_CFG] +
			common_read(guest, VIRTIO_PCI_COMMON_Q_NOFF, 2) * guest->multiplier;
	common_write(guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(common_read(guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static inline void guest_driver_ok(struct guest *guest)
{
	guest_set_status(guest, guest_status(guest) | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(guest_status(guest) & VIRTIO_CONFIG_S_DRIVER_OK);
}

/* From reset to running, @queues of 16 entries, with GUEST_FEATURES and @features. */
static inline void guest_start(struct guest *guest, unsigned queues, uint64_t features)
{
	assert_true(guest_negotiate(guest, GUEST_FEATURES | features));
	for (unsigned i = 0; i < queues; i++)
		guest_setup_queue(guest, i, 16);
	guest_driver_ok(guest);
	assert_false(guest_status(guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* Make the chain at @head of a split ring available. */
static inline void guest_publish(struct guest *guest, unsigned index, uint16_t head)
{
	ring_publish(&guest->queues[index].ring, head);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Lay out a chain in the next descriptors and make it available. Returns its head or ID. */
static inline uint16_t guest_add(struct guest *guest, unsigned index,
				 const struct guest_buffer *buffers, unsigned count)
{
	uint16_t head = ring_add(&guest->queues[index].ring, buffers, count);

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return head;
}

static inline void guest_kick(struct guest *guest, unsigned index)
{
	bar_write(guest, guest->queues[index].notify, 2, index);
}

static inline bool guest_wait_vector(struct guest *guest, unsigned vector, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = guest->vectors[vector], .events = POLLIN };
	eventfd_t count;

	return poll(&poll_fd, 1, timeout_ms) > 0 &&
	       eventfd_read(guest->vectors[vector], &count) == 0;
}

/*
 * The next used chain, waiting for the queue's interrupt. Returns false after @timeout_ms; true with
 * the chain's head or ID and the bytes written.
 */
static inline bool guest_next_used(struct guest *guest, unsigned index, int timeout_ms,
				   uint16_t *head, uint32_t *length)
{
	struct ring_driver *ring = &guest->queues[index].ring;
	const uint64_t end = monotonic_ns() + (uint64_t)timeout_ms * 1000000;
	uint16_t id = 0;
	uint32_t written = 0;

	for (;;) {
		int64_t left;

		/* Interrupt for the next one, asked for before looking. */
		ring_ask_interrupt(ring, 0);
		if (ring_take_used(ring, &id, &written)) {
			if (head)
				*head = id;
			if (length)
				*length = written;
			return true;
		}
		left = (int64_t)(end - monotonic_ns()) / 1000000;
		if (left <= 0 || !guest_wait_vector(guest, index + 1, (int)left))
			return false;
	}
}

/* Add, notify, wait: the whole way of one request. Returns the bytes written. */
static inline uint32_t guest_request(struct guest *guest, unsigned index,
				     const struct guest_buffer *buffers, unsigned count)
{
	uint16_t expected = guest_add(guest, index, buffers, count), head = 0xffff;
	uint32_t length = 0;

	guest_kick(guest, index);
	assert_true(guest_next_used(guest, index, GUEST_WAIT_MS, &head, &length));
	assert_int_equal(head, expected);
	return length;
}

/* Whether the device asks for a reset within the time a machine may take; with its interrupt. */
static inline bool guest_needs_reset(struct guest *guest)
{
	for (unsigned i = 0; i < GUEST_WAIT_MS / 2; i++) {
		if (guest_status(guest) & VIRTIO_CONFIG_S_NEEDS_RESET)
			return guest_wait_vector(guest, 0, GUEST_WAIT_MS);
		usleep(2000);
	}
	return false;
}

#endif
