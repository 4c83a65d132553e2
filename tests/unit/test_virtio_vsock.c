// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock over a small vhost of the test's own: ioctl(2) is answered here (symbols of a program
 * come before those of libraries). It judges what the device tells it, as the kernel would, and
 * serves the queues when a test says so. The kernel's own vhost_vsock is in the rig's case "vsock".
 */
#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_vsock.h>
#include <sys/syscall.h>

#define FEATURES \
	(GUEST_FEATURES | UINT64_C(1) << VIRTIO_VSOCK_F_SEQPACKET | UINT64_C(1) << VHOST_F_LOG_ALL)

struct ring {
	unsigned num;
	uint16_t base; /* the next available chain */
	struct vhost_vring_addr address;
	int kick, call, error;
};

static struct {
	bool owned, running;
	uint64_t features, offered, cid, taken_cid;
	unsigned region_count, starts;
	struct vhost_memory_region regions[4];
	struct ring rings[2];
	int fail_request; /* _IOC_NR of a request that fails with EFAULT */
} kernel;

static struct guest guest;
static unsigned fds_before;

/* ---- the kernel's side --------------------------------------------------------------------- */

static int fails(int error)
{
	errno = error;
	return -1;
}

static int vhost_ring(unsigned long request, void *arg)
{
	const struct vhost_vring_state *state = arg;
	const struct vhost_vring_file *file = arg;
	struct ring *ring = &kernel.rings[state->index];

	if (state->index > 1)
		return fails(ENOBUFS);
	switch (request) {
	case VHOST_SET_VRING_NUM:
		if (kernel.running)
			return fails(EBUSY);
		ring->num = state->num;
		return 0;
	case VHOST_SET_VRING_BASE:
		if (kernel.running)
			return fails(EBUSY);
		ring->base = (uint16_t)state->num;
		return 0;
	case VHOST_GET_VRING_BASE:
		((struct vhost_vring_state *)arg)->num = ring->base;
		return 0;
	case VHOST_SET_VRING_ADDR:
		ring->address = *(const struct vhost_vring_addr *)arg;
		return 0;
	case VHOST_SET_VRING_KICK:
		ring->kick = file->fd;
		return 0;
	case VHOST_SET_VRING_CALL:
		ring->call = file->fd;
		return 0;
	case VHOST_SET_VRING_ERR:
		ring->error = file->fd;
		return 0;
	default:
		return fails(ENOTTY);
	}
}

static int vhost_ioctl(unsigned long request, void *arg)
{
	const struct vhost_memory *memory = arg;

	if ((int)_IOC_NR(request) == kernel.fail_request)
		return fails(EFAULT);
	switch (request) {
	case VHOST_SET_OWNER:
		kernel.owned = true;
		return 0;
	case VHOST_GET_FEATURES:
		*(uint64_t *)arg = kernel.offered;
		return 0;
	case VHOST_VSOCK_SET_GUEST_CID:
		kernel.cid = *(uint64_t *)arg;
		if (kernel.cid <= 2)
			return fails(EINVAL);
		return kernel.cid == kernel.taken_cid ? fails(EADDRINUSE) : 0;
	case VHOST_SET_FEATURES:
		kernel.features = *(uint64_t *)arg;
		return kernel.features & ~kernel.offered ? fails(EOPNOTSUPP) : 0;
	case VHOST_SET_MEM_TABLE:
		if (memory->nregions > 4)
			return fails(E2BIG);
		kernel.region_count = memory->nregions;
		memcpy(kernel.regions, memory->regions,
		       memory->nregions * sizeof(kernel.regions[0]));
		return 0;
	case VHOST_VSOCK_SET_RUNNING:
		kernel.running = *(int *)arg;
		kernel.starts += kernel.running;
		return kernel.owned ? 0 : fails(EPERM);
	default:
		return vhost_ring(request, arg);
	}
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (_IOC_TYPE(request) == VHOST_VIRTIO)
		return vhost_ioctl(request, arg);
	return (int)syscall(SYS_ioctl, fd, request, arg);
}

/* A guest address through the table, as the kernel translates it. */
static void *translate(uint64_t gpa)
{
	for (unsigned i = 0; i < kernel.region_count; i++)
		if (gpa >= kernel.regions[i].guest_phys_addr &&
		    gpa - kernel.regions[i].guest_phys_addr < kernel.regions[i].memory_size)
			return (void *)(uintptr_t)(kernel.regions[i].userspace_addr + gpa -
						   kernel.regions[i].guest_phys_addr);
	return NULL;
}

/* Waits for the doorbell, then takes one chain of a single descriptor and gives it back. */
static void vhost_serve_one(unsigned index, const char *write, char *read_back)
{
	struct ring *ring = &kernel.rings[index];
	struct vring_desc *table = (void *)(uintptr_t)ring->address.desc_user_addr;
	struct vring_avail *avail = (void *)(uintptr_t)ring->address.avail_user_addr;
	struct vring_used *used = (void *)(uintptr_t)ring->address.used_user_addr;
	struct pollfd kick = { .fd = ring->kick, .events = POLLIN };
	struct vring_desc desc;
	eventfd_t count;

	assert_true(kernel.running);
	assert_int_equal(poll(&kick, 1, GUEST_WAIT_MS), 1);
	assert_int_equal(eventfd_read(ring->kick, &count), 0);
	assert_int_not_equal(avail->idx, ring->base);
	desc = table[avail->ring[ring->base % ring->num]];
	assert_non_null(translate(desc.addr));
	if (write)
		strcpy(translate(desc.addr), write);
	if (read_back)
		strcpy(read_back, translate(desc.addr));
	used->ring[used->idx % ring->num] =
		(struct vring_used_elem){ avail->ring[ring->base % ring->num], 64 };
	ring->base++;
	__atomic_store_n(&used->idx, used->idx + 1, __ATOMIC_RELEASE);
	eventfd_write(ring->call, 1);
}

/* ---- the guest's side ---------------------------------------------------------------------- */

static struct vfio_device *create(uint32_t cid)
{
	struct vfio_device *device = NULL;
	struct error e = { 0 };

	if (virtio_vsock_create(cid, "/dev/null", &device, &e))
		fail_msg("%s: %s", e.code, e.text);
	return device;
}

static int setup(void **state)
{
	fds_before = count_fds();
	memset(&kernel, 0, sizeof(kernel));
	kernel.fail_request = -1;
	kernel.offered = FEATURES;
	guest_open(&guest, create(42));
	return 0;
}

static int teardown(void **state)
{
	guest_close(&guest);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

/* A buffer for the kernel to fill, or one with @text for it to read. */
static uint64_t add_buffer(unsigned queue, const char *text)
{
	struct guest_buffer buffer = { guest_alloc(&guest, 64), 64, !text };

	memset(guest_ptr(&guest, buffer.gpa), 0, 64);
	if (text)
		strcpy(guest_ptr(&guest, buffer.gpa), text);
	guest_add(&guest, queue, &buffer, 1);
	guest_kick(&guest, queue);
	return buffer.gpa;
}

static void both_directions_work(void)
{
	uint64_t gpa = add_buffer(0, NULL);
	char sent[64];

	vhost_serve_one(0, "from the host", NULL);
	assert_true(guest_next_used(&guest, 0, GUEST_WAIT_MS, NULL, NULL));
	assert_string_equal(guest_ptr(&guest, gpa), "from the host");
	add_buffer(1, "from the guest");
	vhost_serve_one(1, NULL, sent);
	assert_true(guest_next_used(&guest, 1, GUEST_WAIT_MS, NULL, NULL));
	assert_string_equal(sent, "from the guest");
}

/* ---- what is promised ---------------------------------------------------------------------- */

static void the_guest_reads_its_cid(void **state)
{
	assert_int_equal(kernel.cid, 42);
	assert_int_equal(device_config(&guest, 0, 8), 42);
	assert_int_equal(config_read(&guest, PCI_DEVICE_ID, 2), 0x1053);
}

static void seqpacket_is_offered_when_the_kernel_has_it_and_nothing_of_vhosts_own(void **state)
{
	assert_true(guest_device_features(&guest) & UINT64_C(1) << VIRTIO_VSOCK_F_SEQPACKET);
	assert_false(guest_device_features(&guest) & UINT64_C(1) << VHOST_F_LOG_ALL);
	/* The kernel's rings are split ones. */
	assert_false(guest_device_features(&guest) & UINT64_C(1) << VIRTIO_F_RING_PACKED);
}

static void the_kernel_gets_memory_rings_doorbells_and_vectors(void **state)
{
	assert_false(kernel.running);
	guest_start(&guest, 3, UINT64_C(1) << VIRTIO_VSOCK_F_SEQPACKET);
	assert_true(kernel.running);
	assert_int_equal(kernel.features, GUEST_FEATURES | UINT64_C(1) << VIRTIO_VSOCK_F_SEQPACKET);
	assert_int_equal(kernel.region_count, 2);
	assert_ptr_equal(translate(GUEST_BASE + GUEST_SIZE - 1), guest.memory + GUEST_SIZE - 1);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(kernel.rings[i].num, 16);
		assert_int_equal(kernel.rings[i].base, 0);
		assert_int_equal(kernel.rings[i].address.desc_user_addr,
				 (uintptr_t)guest.queues[i].ring.desc);
		assert_int_equal(kernel.rings[i].address.used_user_addr,
				 (uintptr_t)guest.queues[i].ring.used);
	}
	both_directions_work();
}

static void a_reset_stops_the_kernel_and_the_next_start_begins_anew(void **state)
{
	for (unsigned round = 0; round < 3; round++) {
		guest_start(&guest, 3, 0);
		assert_int_equal(kernel.rings[0].base, 0);
		both_directions_work();
		assert_int_equal(kernel.rings[0].base, 1);
		guest_set_status(&guest, 0);
		assert_false(kernel.running);
	}
	assert_int_equal(kernel.starts, 3);
}

static void the_kernel_never_runs_with_memory_that_was_taken_back(void **state)
{
	struct vfio_device *device = guest.device;
	const uint64_t upper = GUEST_BASE + GUEST_SIZE / 2;

	guest_start(&guest, 3, 0);
	both_directions_work();
	/* Not where the rings are: it goes on where it was, with less memory. */
	assert_int_equal(device->ops->dma_unmap(device, upper, GUEST_SIZE / 2), 0);
	assert_true(kernel.running);
	assert_int_equal(kernel.starts, 2);
	assert_null(translate(upper));
	assert_int_equal(kernel.rings[0].base, 1);
	both_directions_work();
	assert_int_equal(device->ops->dma_map(device, upper, GUEST_SIZE / 2,
					      guest.memory + GUEST_SIZE / 2, -1, 0),
			 0);
	assert_non_null(translate(upper));
	both_directions_work();
	/* Under the rings: it stays stopped, and the driver is told. */
	assert_int_equal(device->ops->dma_unmap(device, GUEST_BASE, GUEST_SIZE / 2), 0);
	assert_false(kernel.running);
	assert_true(guest_needs_reset(&guest));
	assert_int_equal(
		device->ops->dma_map(device, GUEST_BASE, GUEST_SIZE / 2, guest.memory, -1, 0), 0);
	assert_false(kernel.running);
	guest_start(&guest, 3, 0);
	both_directions_work();
}

static void interrupts_follow_the_vector_wherever_it_goes(void **state)
{
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t count;

	guest_start(&guest, 3, 0);
	/* Another eventfd for the vector of queue 1, as when the guest moves it. */
	assert_int_equal(
		guest.device->ops->set_irqs(guest.device,
					    VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
					    VFIO_PCI_MSIX_IRQ_INDEX, 2, 1, &other),
		0);
	eventfd_write(kernel.rings[1].call, 1);
	assert_int_equal(eventfd_read(other, &count), 0);
	/* Another vector for the queue. */
	common_write(&guest, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	common_write(&guest, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
	eventfd_write(kernel.rings[1].call, 1);
	assert_true(guest_wait_vector(&guest, 0, GUEST_WAIT_MS));
	/* None: the driver polls. */
	common_write(&guest, VIRTIO_PCI_COMMON_Q_MSIX, 2, VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(bar_read(&guest, guest.cap[VIRTIO_PCI_CAP_ISR_CFG], 1), 0);
	eventfd_write(kernel.rings[1].call, 1);
	for (unsigned i = 0; i < GUEST_WAIT_MS; i++) {
		if (bar_read(&guest, guest.cap[VIRTIO_PCI_CAP_ISR_CFG], 1) == 1)
			break;
		assert_int_not_equal(i, GUEST_WAIT_MS - 1);
		usleep(1000);
	}
	close(other);
}

static void a_ring_that_the_kernel_cannot_read_needs_a_reset(void **state)
{
	guest_start(&guest, 3, 0);
	eventfd_write(kernel.rings[1].error, 1);
	assert_true(guest_needs_reset(&guest));
	assert_false(kernel.running);
	guest_start(&guest, 3, 0);
	both_directions_work();
}

static void queues_that_the_kernel_refuses_need_a_reset(void **state)
{
	static const unsigned long requests[] = {
		VHOST_SET_FEATURES,   VHOST_SET_MEM_TABLE,  VHOST_SET_VRING_NUM,
		VHOST_SET_VRING_ADDR, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL,
	};

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		kernel.fail_request = _IOC_NR(requests[i]);
		assert_true(guest_negotiate(&guest, GUEST_FEATURES));
		for (unsigned q = 0; q < 3; q++)
			guest_setup_queue(&guest, q, 16);
		guest_driver_ok(&guest);
		assert_true(guest_needs_reset(&guest));
		assert_false(kernel.running);
		kernel.fail_request = -1;
	}
	guest_start(&guest, 3, 0);
	both_directions_work();
}

static void a_driver_with_one_queue_starts_nothing(void **state)
{
	guest_start(&guest, 1, 0);
	assert_false(kernel.running);
	guest_kick(&guest, 0);
	assert_false(guest_next_used(&guest, 0, 20, NULL, NULL));
}

/* ---- making one ---------------------------------------------------------------------------- */

static void expect_refusal(uint32_t cid, const char *path, const char *code, const char *says)
{
	struct vfio_device *device = NULL;
	struct error e = { 0 };
	unsigned before = count_fds();

	assert_true(virtio_vsock_create(cid, path, &device, &e) < 0);
	assert_string_equal(e.code, code);
	if (!strstr(e.text, says) && !strstr(e.next, says))
		fail_msg("\"%s\" (%s) does not say \"%s\"", e.text, e.next, says);
	assert_int_equal(count_fds(), before);
}

static void refusals_say_what_to_do(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	kernel.fail_request = -1;
	kernel.offered = FEATURES;
	kernel.taken_cid = 7;
	expect_refusal(7, "/dev/null", "cid-taken", "CID 7");
	expect_refusal(2, "/dev/null", "bad-cid", "CID 2");
	expect_refusal(5, "/dev/vhost-vsock-is-not-there", "no-vhost-vsock",
		       "modprobe vhost_vsock");
	kernel.offered &= ~(UINT64_C(1) << VIRTIO_F_VERSION_1);
	expect_refusal(5, "/dev/null", "device-failed", "0x100000000");
	kernel.fail_request = _IOC_NR(VHOST_SET_OWNER);
	expect_refusal(5, "/dev/null", "device-failed", "vhost");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_guest_reads_its_cid),
		TEST(seqpacket_is_offered_when_the_kernel_has_it_and_nothing_of_vhosts_own),
		TEST(the_kernel_gets_memory_rings_doorbells_and_vectors),
		TEST(a_reset_stops_the_kernel_and_the_next_start_begins_anew),
		TEST(the_kernel_never_runs_with_memory_that_was_taken_back),
		TEST(interrupts_follow_the_vector_wherever_it_goes),
		TEST(a_ring_that_the_kernel_cannot_read_needs_a_reset),
		TEST(queues_that_the_kernel_refuses_need_a_reset),
		TEST(a_driver_with_one_queue_starts_nothing),
		cmocka_unit_test(refusals_say_what_to_do),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
