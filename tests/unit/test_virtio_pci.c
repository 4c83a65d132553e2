// SPDX-License-Identifier: Apache-2.0
/* The PCI transport: config space, negotiation, reset, interrupts, memory; over virtio-rng. */
#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

static struct guest guest;
static unsigned fds_before;

static int setup(void **state)
{
	struct vfio_device *device;

	fds_before = count_fds();
	assert_int_equal(virtio_rng_create(&device, NULL), 0);
	guest_open(&guest, device);
	return 0;
}

static int teardown(void **state)
{
	guest_close(&guest);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void config_space_names_a_modern_device(void **state)
{
	assert_int_equal(config_read(&guest, PCI_VENDOR_ID, 2), 0x1af4);
	assert_int_equal(config_read(&guest, PCI_DEVICE_ID, 2), 0x1044);
	assert_true(config_read(&guest, PCI_REVISION_ID, 1) >= 1);
	assert_true(config_read(&guest, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	assert_int_equal(config_read(&guest, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(config_read(&guest, PCI_BASE_ADDRESS_0, 4) & 0xf,
			 PCI_BASE_ADDRESS_MEM_TYPE_64);
	assert_true(config_read(&guest, PCI_SUBSYSTEM_ID, 2) >= 0x40);
}

static void capabilities_do_not_overlap_and_end(void **state)
{
	uint8_t at = (uint8_t)config_read(&guest, PCI_CAPABILITY_LIST, 1), seen[256] = { 0 };
	bool msix = false;

	assert_true(at >= 0x40);
	while (at) {
		uint8_t id = (uint8_t)config_read(&guest, at, 1);
		unsigned size = id == PCI_CAP_ID_MSIX ? 12 : config_read(&guest, at + 2u, 1);

		assert_true(at % 4 == 0 && at + size <= 256);
		for (unsigned i = at; i < at + size; i++)
			assert_int_equal(seen[i]++, 0);
		if (id == PCI_CAP_ID_MSIX) {
			struct vfio_irq irq;

			msix = true;
			assert_int_equal(guest.device->ops->get_irq(guest.device,
								    VFIO_PCI_MSIX_IRQ_INDEX, &irq),
					 0);
			assert_int_equal((config_read(&guest, at + 2u, 2) & PCI_MSIX_FLAGS_QSIZE) +
						 1,
					 irq.count);
		}
		at = (uint8_t)config_read(&guest, at + 1u, 1);
	}
	assert_true(msix);
}

static void bar_registers_can_be_sized(void **state)
{
	struct vfio_region region;

	assert_int_equal(guest.device->ops->get_region(guest.device, 0, &region), 0);
	config_write(&guest, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	config_write(&guest, PCI_BASE_ADDRESS_1, 4, 0xffffffff);
	assert_int_equal(config_read(&guest, PCI_BASE_ADDRESS_0, 4),
			 (uint32_t)~(region.size - 1) | PCI_BASE_ADDRESS_MEM_TYPE_64);
	assert_int_equal(config_read(&guest, PCI_BASE_ADDRESS_1, 4), 0xffffffff);
	config_write(&guest, PCI_VENDOR_ID, 2, 0x1234);
	assert_int_equal(config_read(&guest, PCI_VENDOR_ID, 2), 0x1af4);
}

static void the_config_window_reaches_the_bar(void **state)
{
	unsigned cap = (unsigned)guest.cap[VIRTIO_PCI_CAP_PCI_CFG];

	config_write(&guest, cap + 4, 1, 0);
	config_write(&guest, cap + 8, 4,
		     (uint32_t)guest.cap[VIRTIO_PCI_CAP_COMMON_CFG] + VIRTIO_PCI_COMMON_STATUS);
	config_write(&guest, cap + 12, 4, 1);
	config_write(&guest, cap + 16, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(guest_status(&guest), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	guest_set_status(&guest, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	assert_int_equal(config_read(&guest, cap + 16, 1),
			 VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	/* What it cannot do, it does not. */
	config_write(&guest, cap + 4, 1, 1);
	config_write(&guest, cap + 16, 1, 0);
	config_write(&guest, cap + 4, 1, 0);
	config_write(&guest, cap + 12, 4, 3);
	config_write(&guest, cap + 16, 1, 0);
	config_write(&guest, cap + 12, 4, 1);
	config_write(&guest, cap + 8, 4, 0xffffffff);
	config_write(&guest, cap + 16, 1, 0);
	assert_int_equal(guest_status(&guest),
			 VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
}

static void features_that_are_not_offered_are_refused(void **state)
{
	assert_true(guest_device_features(&guest) & UINT64_C(1) << VIRTIO_F_VERSION_1);
	assert_false(guest_negotiate(&guest, GUEST_FEATURES | UINT64_C(1) << 40));
	assert_false(guest_negotiate(&guest, GUEST_FEATURES | 1));
	/* A legacy driver. */
	assert_false(guest_negotiate(&guest, 0));
	assert_true(guest_negotiate(&guest, GUEST_FEATURES));
}

static void features_are_fixed_once_accepted(void **state)
{
	assert_true(guest_negotiate(&guest, GUEST_FEATURES));
	common_write(&guest, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	common_write(&guest, VIRTIO_PCI_COMMON_GF, 4, 0xffffffff);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_GF, 4), (uint32_t)GUEST_FEATURES);
}

static void status_steps_cannot_be_skipped_or_undone(void **state)
{
	guest_set_status(&guest, VIRTIO_CONFIG_S_DRIVER);
	assert_int_equal(guest_status(&guest), 0);
	guest_set_status(&guest, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					 VIRTIO_CONFIG_S_DRIVER_OK);
	assert_false(guest_status(&guest) & VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(guest_negotiate(&guest, GUEST_FEATURES));
	guest_set_status(&guest, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_true(guest_status(&guest) & VIRTIO_CONFIG_S_FEATURES_OK);
	guest_set_status(&guest, guest_status(&guest) | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_false(guest_status(&guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
	guest_set_status(&guest, guest_status(&guest) | VIRTIO_CONFIG_S_FAILED);
	assert_true(guest_status(&guest) & VIRTIO_CONFIG_S_FAILED);
}

static void queue_registers_are_fixed_once_enabled(void **state)
{
	assert_true(guest_negotiate(&guest, GUEST_FEATURES));
	guest_setup_queue(&guest, 0, 16);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_DESCLO, 8),
			 guest.queues[0].desc_gpa);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void a_queue_that_is_not_there_has_size_zero(void **state)
{
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0xffff);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
}

static void wrong_queue_sizes_and_vectors_are_not_taken(void **state)
{
	uint64_t size;

	common_write(&guest, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	size = common_read(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2, 0);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2, 3);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2, size * 2);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2), size);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
}

static void packed_rings_are_offered_and_may_have_any_length(void **state)
{
	struct guest_buffer buffer;

	assert_true(guest_device_features(&guest) & UINT64_C(1) << VIRTIO_F_RING_PACKED);
	assert_true(guest_negotiate(&guest, GUEST_FEATURES | UINT64_C(1) << VIRTIO_F_RING_PACKED));
	guest_setup_queue(&guest, 0, 3);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_SIZE, 2), 3);
	guest_driver_ok(&guest);
	buffer = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(guest_request(&guest, 0, &buffer, 1), 64);
}

static void a_ring_outside_memory_needs_a_reset(void **state)
{
	assert_true(guest_negotiate(&guest, GUEST_FEATURES));
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_DESCLO, 8, GUEST_BASE + GUEST_SIZE);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, GUEST_BASE);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_USEDLO, 8, GUEST_BASE);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	guest_set_status(&guest, guest_status(&guest) | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(guest_needs_reset(&guest));
}

static void a_malformed_chain_needs_a_reset_and_a_reset_helps(void **state)
{
	struct guest_buffer bad = { GUEST_BASE + GUEST_SIZE, 64, true }, good;

	guest_start(&guest, 1, 0);
	guest_add(&guest, 0, &bad, 1);
	guest_kick(&guest, 0);
	assert_true(guest_needs_reset(&guest));
	/* It does nothing more until then. */
	good = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
	guest_add(&guest, 0, &good, 1);
	guest_kick(&guest, 0);
	assert_false(guest_next_used(&guest, 0, 50, NULL, NULL));

	guest_start(&guest, 1, 0);
	good.gpa = guest_alloc(&guest, 64);
	assert_int_equal(guest_request(&guest, 0, &good, 1), 64);
}

static void buffers_from_before_driver_ok_are_served_after_it(void **state)
{
	struct guest_buffer buffer;

	assert_true(guest_negotiate(&guest, GUEST_FEATURES));
	guest_setup_queue(&guest, 0, 16);
	buffer = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
	guest_add(&guest, 0, &buffer, 1);
	guest_kick(&guest, 0);
	usleep(20000);
	assert_false(ring_has_used(&guest.queues[0].ring));
	guest_driver_ok(&guest);
	assert_true(guest_next_used(&guest, 0, GUEST_WAIT_MS, NULL, NULL));
}

static void the_eventfd_of_a_queue_notifies(void **state)
{
	struct vfio_io_fd fds[VFIO_IO_FDS_MAX];
	struct guest_buffer buffer;

	assert_int_equal(guest.device->ops->get_io_fds(guest.device, 0, fds), 1);
	guest_start(&guest, 1, 0);
	assert_int_equal(fds[0].offset, guest.queues[0].notify);
	buffer = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
	guest_add(&guest, 0, &buffer, 1);
	eventfd_write(fds[0].fd, 1);
	assert_true(guest_next_used(&guest, 0, GUEST_WAIT_MS, NULL, NULL));
}

static void a_driver_that_polls_finds_the_isr_bit_once(void **state)
{
	struct guest_buffer buffer;

	assert_true(guest_negotiate(&guest, GUEST_FEATURES));
	guest_setup_queue(&guest, 0, 16);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_MSIX, 2, VIRTIO_MSI_NO_VECTOR);
	guest_driver_ok(&guest);
	buffer = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
	guest_add(&guest, 0, &buffer, 1);
	guest_kick(&guest, 0);
	for (unsigned i = 0; i < GUEST_WAIT_MS && !ring_has_used(&guest.queues[0].ring); i++)
		usleep(1000);
	/* The bit follows the ring's index within moments. */
	for (unsigned i = 0; i < 1000; i++) {
		if (bar_read(&guest, guest.cap[VIRTIO_PCI_CAP_ISR_CFG], 1) == 1)
			break;
		assert_int_not_equal(i, 999);
		usleep(1000);
	}
	assert_int_equal(bar_read(&guest, guest.cap[VIRTIO_PCI_CAP_ISR_CFG], 1), 0);
}

static void vectors_can_be_taken_back_and_fired(void **state)
{
	const uint32_t trigger = VFIO_IRQ_SET_ACTION_TRIGGER;
	struct vfio_device *device = guest.device;
	const uint8_t bools[2] = { 0, 1 };
	struct guest_buffer buffer;
	unsigned before = count_fds();

	assert_int_equal(device->ops->set_irqs(device, VFIO_IRQ_SET_DATA_NONE | trigger,
					       VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL),
			 0);
	assert_true(guest_wait_vector(&guest, 0, 0));
	assert_int_equal(device->ops->set_irqs(device, VFIO_IRQ_SET_DATA_BOOL | trigger,
					       VFIO_PCI_MSIX_IRQ_INDEX, 0, 2, bools),
			 0);
	assert_false(guest_wait_vector(&guest, 0, 0));
	assert_true(guest_wait_vector(&guest, 1, 0));
	assert_int_equal(device->ops->set_irqs(device, VFIO_IRQ_SET_DATA_NONE | trigger,
					       VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL),
			 0);
	assert_int_equal(count_fds(), before - 2);
	guest_start(&guest, 1, 0);
	buffer = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
	guest_add(&guest, 0, &buffer, 1);
	guest_kick(&guest, 0);
	assert_false(guest_wait_vector(&guest, 1, 50));
}

static void wrong_interrupt_requests_are_refused(void **state)
{
	struct vfio_device *device = guest.device;
	const uint32_t trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	int32_t fds[2] = { guest.vectors[0], 9999 };
	unsigned before = count_fds();

#define SET(flags, index, start, count, data) \
	device->ops->set_irqs(device, flags, index, start, count, data)
	assert_int_equal(SET(trigger, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, fds), -EINVAL);
	assert_int_equal(SET(trigger, VFIO_PCI_MSIX_IRQ_INDEX, 2, 1, fds), -EINVAL);
	assert_int_equal(SET(trigger, VFIO_PCI_MSIX_IRQ_INDEX, 1, UINT32_MAX, fds), -EINVAL);
	assert_int_equal(SET(trigger, VFIO_PCI_MSIX_IRQ_INDEX, 0, 2, fds), -EBADF);
	assert_int_equal(SET(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK,
			     VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL),
			 -ENOTTY);
#undef SET
	assert_int_equal(count_fds(), before);
}

static void accesses_outside_a_region_are_refused(void **state)
{
	struct vfio_device *device = guest.device;
	struct vfio_region region;
	uint8_t bytes[64];

	assert_int_equal(device->ops->get_region(device, 0, &region), 0);
	assert_int_equal(device->ops->region_read(device, 0, region.size, bytes, 4), -EINVAL);
	assert_int_equal(device->ops->region_read(device, 0, region.size - 2, bytes, 4), 2);
	assert_int_equal(device->ops->region_write(device, 0, UINT64_MAX, bytes, 4), -EINVAL);
	assert_int_equal(device->ops->region_read(device, 1, 0, bytes, 4), -EINVAL);
	assert_int_equal(device->ops->region_read(device, 99, 0, bytes, 4), -EINVAL);
	/* Odd widths and places inside do no harm. */
	for (uint64_t at = 0; at < region.size; at += 7) {
		memset(bytes, 0, sizeof(bytes));
		device->ops->region_write(device, 0, at, bytes, at % 64 + 1);
		device->ops->region_read(device, 0, at, bytes, at % 64 + 1);
	}
}

static void unmapped_memory_is_not_touched_again(void **state)
{
	struct vfio_device *device = guest.device;
	struct guest_buffer buffer;

	guest_start(&guest, 1, 0);
	buffer = (struct guest_buffer){ GUEST_BASE + GUEST_SIZE / 2, 64, true };
	assert_int_equal(guest_request(&guest, 0, &buffer, 1), 64);
	assert_int_equal(device->ops->dma_unmap(device, buffer.gpa, GUEST_SIZE / 2), 0);
	assert_int_equal(mprotect(guest.memory + GUEST_SIZE / 2, GUEST_SIZE / 2, PROT_NONE), 0);
	guest_add(&guest, 0, &buffer, 1);
	guest_kick(&guest, 0);
	assert_true(guest_needs_reset(&guest));
}

static void vfio_reset_brings_back_power_on(void **state)
{
	config_write(&guest, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	guest_start(&guest, 1, 0);
	assert_int_equal(guest.device->ops->reset(guest.device), 0);
	assert_int_equal(guest_status(&guest), 0);
	assert_int_equal(config_read(&guest, PCI_COMMAND, 2), 0);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	assert_int_equal(common_read(&guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
}

static void *keep_kicking(void *arg)
{
	struct vfio_io_fd fds[VFIO_IO_FDS_MAX];
	bool *stop = arg;

	guest.device->ops->get_io_fds(guest.device, 0, fds);
	while (!__atomic_load_n(stop, __ATOMIC_RELAXED))
		eventfd_write(fds[0].fd, 1);
	return NULL;
}

/* After a reset nothing is written to what were rings and buffers, however busy the queue was. */
static void reset_waits_for_requests_in_flight(void **state)
{
	pthread_t thread;
	bool stop = false;

	assert_int_equal(pthread_create(&thread, NULL, keep_kicking, &stop), 0);
	for (unsigned round = 0; round < 50; round++) {
		struct guest_buffer buffer;

		guest_start(&guest, 1, 0);
		buffer = (struct guest_buffer){ guest_alloc(&guest, 64 * KIB), 64 * KIB, true };
		for (unsigned i = 0; i < 16; i++)
			guest_add(&guest, 0, &buffer, 1);
		guest_kick(&guest, 0);
		if (round % 2)
			usleep(200);
		guest_set_status(&guest, 0);
		/* If anything still wrote, it would fault here. */
		assert_int_equal(mprotect(guest.memory, GUEST_SIZE, PROT_READ), 0);
		usleep(500);
		assert_int_equal(mprotect(guest.memory, GUEST_SIZE, PROT_READ | PROT_WRITE), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

static void *read_registers(void *arg)
{
	bool *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		guest_status(&guest);
		config_read(&guest, PCI_VENDOR_ID, 4);
	}
	return NULL;
}

static void several_vcpus_may_touch_registers_at_once(void **state)
{
	pthread_t threads[2];
	bool stop = false;

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_registers, &stop), 0);
	for (unsigned round = 0; round < 50; round++) {
		struct guest_buffer buffer;

		guest_start(&guest, 1, 0);
		buffer = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
		assert_int_equal(guest_request(&guest, 0, &buffer, 1), 64);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* ---- as a function of a guest's bus: the MSI-X table is vfio_pci's, the rest is ours --------- */

static struct {
	uint64_t gpa, address;
	int eventfd;
	unsigned io_fds;
} host;

static void on_bar(void *opaque, unsigned bar, bool enabled, uint64_t gpa, uint64_t size,
		   bool is_io)
{
	host.gpa = enabled ? gpa : 0;
}

static int on_msi(void *opaque, unsigned first, unsigned count,
		  const struct vfio_pci_vector *vectors, const int *eventfds)
{
	for (unsigned i = 0; i < count; i++) {
		if (first + i != 1 || vectors[i].masked)
			continue;
		host.address = vectors[i].address;
		host.eventfd = eventfds[i];
	}
	return 0;
}

static void on_msi_release(void *opaque)
{
}

static int on_intx(void *opaque, int trigger, int resample)
{
	return 0;
}

static void a_pci_function_made_of_it_interrupts_by_its_msix_table(void **state)
{
	static const struct vfio_pci_host_ops ops = { .bar_update = on_bar,
						      .msi_update = on_msi,
						      .msi_release = on_msi_release,
						      .intx_update = on_intx };
	const struct vfio_pci_options options = { .intx = true };
	struct pollfd poll_fd = { .events = POLLIN };
	struct guest_buffer buffer;
	struct vfio_pci *pci;
	uint8_t msix = 0;

	assert_int_equal(vfio_pci_create(guest.device, &options, &ops, NULL, &pci, NULL), 0);
	assert_false(vfio_pci_has_intx(pci));
	assert_int_equal(vfio_pci_bar(pci, 0)->size, 0x8000);
	assert_true(vfio_pci_bar(pci, 0)->is_64);
	assert_int_equal(vfio_pci_bar(pci, 0)->io_fd_count, 1);
	vfio_pci_set_bar(pci, 0, 0x80000000);
	vfio_pci_config_write(pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(host.gpa, 0x80000000);
	for (uint8_t at = (uint8_t)vfio_pci_config_read(pci, PCI_CAPABILITY_LIST, 1); at;
	     at = (uint8_t)vfio_pci_config_read(pci, at + 1, 1))
		if (vfio_pci_config_read(pci, at, 1) == PCI_CAP_ID_MSIX)
			msix = at;
	assert_int_not_equal(msix, 0);
	assert_int_equal(vfio_pci_config_read(pci, msix + PCI_MSIX_TABLE, 4), 0x4000);
	vfio_pci_bar_write(pci, 0, 0x4000 + 16, 4, 0xfee00000);
	vfio_pci_bar_write(pci, 0, 0x4000 + 20, 4, 0);
	vfio_pci_bar_write(pci, 0, 0x4000 + 24, 4, 0x41);
	vfio_pci_bar_write(pci, 0, 0x4000 + 28, 4, 0);
	host.eventfd = -1;
	vfio_pci_config_write(pci, msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vfio_pci_bar_write(pci, 0, 0x4000 + 28, 4, 1);
	vfio_pci_bar_write(pci, 0, 0x4000 + 28, 4, 0);
	assert_int_equal(host.address, 0xfee00000);
	assert_true(host.eventfd >= 0);

	guest_start(&guest, 1, 0);
	buffer = (struct guest_buffer){ guest_alloc(&guest, 64), 64, true };
	guest_add(&guest, 0, &buffer, 1);
	vfio_pci_bar_write(pci, 0, guest.queues[0].notify, 2, 0);
	poll_fd.fd = host.eventfd;
	assert_int_equal(poll(&poll_fd, 1, GUEST_WAIT_MS), 1);
	assert_true(ring_has_used(&guest.queues[0].ring));
	vfio_pci_destroy(pci);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(config_space_names_a_modern_device),
		TEST(capabilities_do_not_overlap_and_end),
		TEST(bar_registers_can_be_sized),
		TEST(the_config_window_reaches_the_bar),
		TEST(features_that_are_not_offered_are_refused),
		TEST(features_are_fixed_once_accepted),
		TEST(status_steps_cannot_be_skipped_or_undone),
		TEST(queue_registers_are_fixed_once_enabled),
		TEST(a_queue_that_is_not_there_has_size_zero),
		TEST(wrong_queue_sizes_and_vectors_are_not_taken),
		TEST(packed_rings_are_offered_and_may_have_any_length),
		TEST(a_ring_outside_memory_needs_a_reset),
		TEST(a_malformed_chain_needs_a_reset_and_a_reset_helps),
		TEST(buffers_from_before_driver_ok_are_served_after_it),
		TEST(the_eventfd_of_a_queue_notifies),
		TEST(a_driver_that_polls_finds_the_isr_bit_once),
		TEST(vectors_can_be_taken_back_and_fired),
		TEST(wrong_interrupt_requests_are_refused),
		TEST(accesses_outside_a_region_are_refused),
		TEST(unmapped_memory_is_not_touched_again),
		TEST(vfio_reset_brings_back_power_on),
		TEST(reset_waits_for_requests_in_flight),
		TEST(several_vcpus_may_touch_registers_at_once),
		TEST(a_pci_function_made_of_it_interrupts_by_its_msix_table),
	};

	return guest_run_over_both_rings(tests);
}
