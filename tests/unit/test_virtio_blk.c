// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-blk, driven end to end by a guest's driver over an image file: everything both ways, by
 * io_uring and by system calls (test_blk_file.c has the faults of each).
 */
#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#define virtio_blk_config virtio_blk_config_space
#include <linux/virtio_blk.h>
#undef virtio_blk_config

#define SECTORS	     2048u
#define FEATURE(bit) (UINT64_C(1) << (bit))

static struct guest guest;
static unsigned fds_before;
static char path[64];
static bool synchronous;
/* Where the parts of a request lie in the guest. */
static uint64_t header_gpa, data_gpa, status_gpa;

static void make_image(uint64_t size)
{
	int fd;

	snprintf(path, sizeof(path), "/tmp/test-virtio-blk-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static struct vfio_device *create(bool readonly)
{
	const struct virtio_blk_config config = { .path = path,
						  .readonly = readonly,
						  .synchronous = synchronous };
	struct vfio_device *device = NULL;
	struct error e = { 0 };
	int ret = virtio_blk_create(&config, &device, &e);

	if (ret)
		fail_msg("%s: %s", e.code, e.text);
	return device;
}

static void boot(uint64_t features)
{
	guest_start(&guest, 1, features);
	header_gpa = guest_alloc(&guest, sizeof(struct virtio_blk_outhdr));
	status_gpa = guest_alloc(&guest, 1);
	data_gpa = guest_alloc(&guest, 64 * KIB);
}

static int setup_with(bool readonly)
{
	fds_before = count_fds();
	make_image(SECTORS * 512);
	guest_open(&guest, create(readonly));
	boot(FEATURE(VIRTIO_BLK_F_FLUSH) | (readonly ? FEATURE(VIRTIO_BLK_F_RO) : 0));
	return 0;
}

static int setup(void **state)
{
	return setup_with(false);
}

static int setup_readonly(void **state)
{
	return setup_with(true);
}

static int teardown(void **state)
{
	guest_close(&guest);
	unlink(path);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

/* One request; @to_device: whether the data goes there. Returns the status byte. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t length, bool to_device,
		       uint32_t *written)
{
	struct virtio_blk_outhdr *header = guest_ptr(&guest, header_gpa);
	uint8_t *status = guest_ptr(&guest, status_gpa);
	struct guest_buffer buffers[3] = { { header_gpa, sizeof(*header), false } };
	unsigned count = 1;
	uint32_t used;

	*header = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	*status = 0xff;
	if (length)
		buffers[count++] = (struct guest_buffer){ data_gpa, length, !to_device };
	buffers[count++] = (struct guest_buffer){ status_gpa, 1, true };
	used = guest_request(&guest, 0, buffers, count);
	if (written)
		*written = used;
	return *status;
}

static void image_bytes(uint64_t offset, void *buffer, size_t count)
{
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread_full(fd, buffer, count, offset), 0);
	close(fd);
}

static void says_its_capacity(void **state)
{
	assert_int_equal(device_config(&guest, 0, 8), SECTORS);
	assert_int_equal(
		device_config(&guest, offsetof(struct virtio_blk_config_space, blk_size), 4), 512);
}

static void written_sectors_are_in_the_image_and_read_back(void **state)
{
	uint8_t *data = guest_ptr(&guest, data_gpa), image[4096], expected[4096];
	uint32_t written;

	for (unsigned i = 0; i < sizeof(expected); i++)
		expected[i] = (uint8_t)(i * 7 + i / 256);
	memcpy(data, expected, sizeof(expected));
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 100, 4096, true, &written), VIRTIO_BLK_S_OK);
	assert_int_equal(written, 1);
	image_bytes(100 * 512, image, sizeof(image));
	assert_memory_equal(image, expected, sizeof(image));
	memset(data, 0, 4096);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, 4096, false, &written), VIRTIO_BLK_S_OK);
	assert_int_equal(written, 4097);
	assert_memory_equal(data, expected, sizeof(expected));
}

static void the_framing_of_a_request_does_not_matter(void **state)
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_OUT, .sector = 7 };
	uint8_t *at = guest_ptr(&guest, data_gpa), image[512];
	/* Header in three parts, the last of them with the data. */
	struct guest_buffer buffers[] = {
		{ data_gpa, 3, false },
		{ data_gpa + 100, 9, false },
		{ data_gpa + 200, 4 + 512, false },
		{ status_gpa, 1, true },
	};

	memcpy(at, &header, 3);
	memcpy(at + 100, (uint8_t *)&header + 3, 9);
	memcpy(at + 200, (uint8_t *)&header + 12, 4);
	memset(at + 204, 0xa7, 512);
	guest_request(&guest, 0, buffers, 4);
	assert_int_equal(*(uint8_t *)guest_ptr(&guest, status_gpa), VIRTIO_BLK_S_OK);
	image_bytes(7 * 512, image, sizeof(image));
	for (unsigned i = 0; i < sizeof(image); i++)
		assert_int_equal(image[i], 0xa7);
	/* Data and status in one buffer. */
	header.type = VIRTIO_BLK_T_IN;
	memcpy(guest_ptr(&guest, header_gpa), &header, sizeof(header));
	buffers[0] = (struct guest_buffer){ header_gpa, sizeof(header), false };
	buffers[1] = (struct guest_buffer){ data_gpa, 513, true };
	memset(at, 0xff, 1024);
	assert_int_equal(guest_request(&guest, 0, buffers, 2), 513);
	assert_int_equal(at[0], 0xa7);
	assert_int_equal(at[511], 0xa7);
	assert_int_equal(at[512], VIRTIO_BLK_S_OK);
}

static void the_last_sector_is_in_and_the_next_is_out(void **state)
{
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS - 1, 512, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS, 512, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS - 1, 1024, false, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, SECTORS, 512, true, NULL), VIRTIO_BLK_S_IOERR);
	/* 2^55: the offset in bytes would wrap to 0. */
	assert_int_equal(request(VIRTIO_BLK_T_OUT, UINT64_C(1) << 55, 512, true, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, UINT64_MAX, 512, true, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 100, false, NULL), VIRTIO_BLK_S_IOERR);
}

static void flush_and_write_through_succeed(void **state)
{
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	boot(0); /* a driver without flush */
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, 512, true, NULL), VIRTIO_BLK_S_OK);
	boot(FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE));
	assert_int_equal(device_config(&guest, offsetof(struct virtio_blk_config_space, wce), 1),
			 1);
	bar_write(&guest,
		  guest.cap[VIRTIO_PCI_CAP_DEVICE_CFG] +
			  offsetof(struct virtio_blk_config_space, wce),
		  1, 0);
	assert_int_equal(device_config(&guest, offsetof(struct virtio_blk_config_space, wce), 1),
			 0);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, 512, true, NULL), VIRTIO_BLK_S_OK);
}

static void the_id_is_the_image_name(void **state)
{
	char id[VIRTIO_BLK_ID_BYTES + 1] = "", expected[VIRTIO_BLK_ID_BYTES + 1] = "";
	uint32_t written;

	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES, false, &written),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(written, VIRTIO_BLK_ID_BYTES + 1);
	memcpy(id, guest_ptr(&guest, data_gpa), VIRTIO_BLK_ID_BYTES);
	memcpy(expected, strrchr(path, '/') + 1, VIRTIO_BLK_ID_BYTES);
	assert_string_equal(id, expected);
}

static void unknown_requests_are_unsupported(void **state)
{
	assert_int_equal(request(0x77, 0, 512, false, NULL), VIRTIO_BLK_S_UNSUPP);
}

static void zeroes_and_discards_ranges(void **state)
{
	struct virtio_blk_discard_write_zeroes *segment = guest_ptr(&guest, data_gpa);
	uint8_t image[1024];
	uint8_t status;

	memset(segment, 0x11, 1024);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 8, 1024, true, NULL), VIRTIO_BLK_S_OK);
	*segment = (struct virtio_blk_discard_write_zeroes){ .sector = 8, .num_sectors = 1 };
	status = request(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(*segment), true, NULL);
	if (status == VIRTIO_BLK_S_UNSUPP)
		skip(); /* the file system of /tmp cannot */
	assert_int_equal(status, VIRTIO_BLK_S_OK);
	image_bytes(8 * 512, image, sizeof(image));
	assert_int_equal(image[0], 0);
	assert_int_equal(image[511], 0);
	assert_int_equal(image[512], 0x11);
	segment->sector = 9;
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, sizeof(*segment), true, NULL),
			 VIRTIO_BLK_S_OK);
	segment->sector = SECTORS;
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, sizeof(*segment), true, NULL),
			 VIRTIO_BLK_S_IOERR);
	segment->sector = 0;
	segment->flags = 1;
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, sizeof(*segment), true, NULL),
			 VIRTIO_BLK_S_UNSUPP);
}

static void a_request_without_status_needs_a_reset(void **state)
{
	struct guest_buffer buffer = { header_gpa, 16, false };

	guest_add(&guest, 0, &buffer, 1);
	guest_kick(&guest, 0);
	assert_true(guest_needs_reset(&guest));
	boot(0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
}

static void an_image_that_shrinks_gives_an_error_not_a_crash(void **state)
{
	assert_int_equal(truncate(path, 512), 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, 512, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
}

static void reset_with_requests_in_flight_leaves_a_working_disk(void **state)
{
	for (unsigned round = 0; round < 30; round++) {
		struct virtio_blk_outhdr *header = guest_ptr(&guest, header_gpa);
		struct guest_buffer buffers[3] = { { header_gpa, sizeof(*header), false },
						   { data_gpa, 64 * KIB, true },
						   { status_gpa, 1, true } };

		*header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN };
		for (unsigned i = 0; i < 5; i++)
			guest_add(&guest, 0, buffers, 3);
		guest_kick(&guest, 0);
		guest_set_status(&guest, 0);
		memset(guest.memory, 0, GUEST_SIZE);
		boot(FEATURE(VIRTIO_BLK_F_FLUSH));
		assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
	}
}

static void a_readonly_disk_reads_and_never_writes(void **state)
{
	struct virtio_blk_discard_write_zeroes *segment = guest_ptr(&guest, data_gpa);
	uint8_t image[512];

	assert_true(guest_device_features(&guest) & FEATURE(VIRTIO_BLK_F_RO));
	assert_false(guest_device_features(&guest) & FEATURE(VIRTIO_BLK_F_DISCARD));
	memset(segment, 0x33, 512);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, 512, true, NULL), VIRTIO_BLK_S_IOERR);
	image_bytes(0, image, sizeof(image));
	assert_int_equal(image[0], 0);
	*segment = (struct virtio_blk_discard_write_zeroes){ .sector = 0, .num_sectors = 1 };
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(*segment), true, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
}

/* ---- many at once -------------------------------------------------------------------------- */

#define MANY 24u /* requests at once, three descriptors each */

static unsigned slots[RING_SIZE_MAX]; /* by head */

/* Request @slot of @type over its own data and status; not notified of. */
static void add_request(unsigned slot, uint32_t type, uint64_t sector, uint32_t length)
{
	struct virtio_blk_outhdr *header =
		(struct virtio_blk_outhdr *)guest_ptr(&guest, data_gpa) + slot;
	const uint64_t at = data_gpa + 4096 + slot * 2048;
	const struct guest_buffer buffers[3] = {
		{ data_gpa + slot * sizeof(*header), sizeof(*header), false },
		{ at, length, type == VIRTIO_BLK_T_IN },
		{ at + 2047, 1, true },
	};

	*header = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	*(uint8_t *)guest_ptr(&guest, at + 2047) = 0xff;
	slots[guest_add(&guest, 0, buffers, 3)] = slot;
}

static uint8_t *request_data(unsigned slot)
{
	return guest_ptr(&guest, data_gpa + 4096 + slot * 2048);
}

static uint8_t request_status(unsigned slot)
{
	return __atomic_load_n(request_data(slot) + 2047, __ATOMIC_ACQUIRE);
}

static void boot_many(void)
{
	assert_true(guest_negotiate(&guest, GUEST_FEATURES | FEATURE(VIRTIO_BLK_F_FLUSH)));
	guest_setup_queue(&guest, 0, 128);
	guest_driver_ok(&guest);
	data_gpa = guest_alloc(&guest, 4096 + MANY * 2048);
}

/* Each once, in whatever order, and all well. */
static void await_many(unsigned count)
{
	uint32_t seen = 0;

	for (unsigned i = 0; i < count; i++) {
		uint16_t head = 0;

		assert_true(guest_next_used(&guest, 0, GUEST_WAIT_MS, &head, NULL));
		assert_in_range(head, 0, RING_SIZE_MAX - 1);
		assert_false(seen & 1u << slots[head]);
		seen |= 1u << slots[head];
		assert_int_equal(request_status(slots[head]), VIRTIO_BLK_S_OK);
	}
	assert_false(guest_next_used(&guest, 0, 0, NULL, NULL));
}

static void many_requests_at_once_are_each_answered_once(void **state)
{
	boot_many();
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned slot = 0; slot < MANY; slot++) {
			memset(request_data(slot), (int)(round + slot), 1024);
			add_request(slot, VIRTIO_BLK_T_OUT, (slot * 7 + round) % 100 * 2, 1024);
		}
		guest_kick(&guest, 0);
		await_many(MANY);
		for (unsigned slot = 0; slot < MANY; slot++) {
			memset(request_data(slot), 0xee, 1024);
			add_request(slot, VIRTIO_BLK_T_IN, (slot * 7 + round) % 100 * 2, 1024);
			if (slot % 5 == 0)
				guest_kick(&guest, 0);
		}
		guest_kick(&guest, 0);
		await_many(MANY);
		for (unsigned slot = 0; slot < MANY; slot++)
			for (unsigned i = 0; i < 1024; i++)
				assert_int_equal(request_data(slot)[i], (uint8_t)(round + slot));
	}
}

/*
 * The kernel's answers can be held back: then requests are in flight for as long as a test likes.
 * (Symbols of a program come before those of libraries.)
 */
static bool answers_held;

unsigned io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count)
{
	static unsigned (*real)(struct io_uring *, struct io_uring_cqe **, unsigned);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "io_uring_peek_batch_cqe");
	return __atomic_load_n(&answers_held, __ATOMIC_ACQUIRE) ? 0 : real(ring, cqes, count);
}

/* Then nothing is answered at once either. */
ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	if (__atomic_load_n(&answers_held, __ATOMIC_ACQUIRE) && flags & RWF_NOWAIT) {
		errno = EAGAIN;
		return -1;
	}
	return syscall(SYS_preadv2, fd, iov, count, offset, 0, flags);
}

static void hold_two_reads(void)
{
	boot_many();
	__atomic_store_n(&answers_held, true, __ATOMIC_RELEASE);
	for (unsigned slot = 0; slot < 2; slot++)
		add_request(slot, VIRTIO_BLK_T_IN, slot, 512);
	guest_kick(&guest, 0);
	assert_false(guest_next_used(&guest, 0, 50, NULL, NULL));
}

static void *take_memory_back(void *done)
{
	assert_int_equal(guest.device->ops->dma_unmap(guest.device, GUEST_BASE, GUEST_SIZE / 2), 0);
	__atomic_store_n((bool *)done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *reset_device(void *done)
{
	guest_set_status(&guest, 0);
	__atomic_store_n((bool *)done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void assert_waits_for_what_is_in_flight(void *(*act)(void *done))
{
	bool done = false;
	pthread_t thread;

	hold_two_reads();
	assert_int_equal(pthread_create(&thread, NULL, act, &done), 0);
	usleep(50000);
	assert_false(__atomic_load_n(&done, __ATOMIC_ACQUIRE));
	assert_int_equal(request_status(0), 0xff);
	__atomic_store_n(&answers_held, false, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	/* The last that was written to the guest's memory; nothing is later. */
	assert_int_equal(request_status(0), VIRTIO_BLK_S_OK);
	assert_int_equal(request_status(1), VIRTIO_BLK_S_OK);
}

static void memory_is_taken_back_when_nothing_in_flight_uses_it(void **state)
{
	assert_waits_for_what_is_in_flight(take_memory_back);
	assert_int_equal(guest.device->ops->dma_map(guest.device, GUEST_BASE, GUEST_SIZE / 2,
						    guest.memory, -1, 0),
			 0);
	await_many(2); /* they were answered before */
}

static void a_reset_waits_and_answers_nothing(void **state)
{
	assert_waits_for_what_is_in_flight(reset_device);
	assert_false(ring_has_used(&guest.queues[0].ring));
	boot(0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
}

/* ---- a host in trouble --------------------------------------------------------------------- */

static int on_a_full_disk(void)
{
	char folder[] = "/tmp/test-virtio-blk-full-XXXXXX";
	unsigned written = 0;
	uint8_t status;
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    !mkdtemp(folder) || mount("tmpfs", folder, "tmpfs", 0, "size=64k") < 0)
		return 77;
	snprintf(path, sizeof(path), "%s/disk", folder);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, SECTORS * 512), 0);
	close(fd);
	guest_open(&guest, create(false));
	boot(FEATURE(VIRTIO_BLK_F_FLUSH));
	do
		status = request(VIRTIO_BLK_T_OUT, written * 40, 20 * KIB, true, NULL);
	while (status == VIRTIO_BLK_S_OK && ++written < 50);
	assert_int_equal(status, VIRTIO_BLK_S_IOERR);
	assert_in_range(written, 1, 3);
	/* What is there is still good, and space that was given back can be used. */
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 20 * KIB, false, NULL), VIRTIO_BLK_S_OK);
	*(struct virtio_blk_discard_write_zeroes *)guest_ptr(&guest, data_gpa) =
		(struct virtio_blk_discard_write_zeroes){ .num_sectors = 120 };
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0,
				 sizeof(struct virtio_blk_discard_write_zeroes), true, NULL),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, 20 * KIB, true, NULL), VIRTIO_BLK_S_OK);
	guest_close(&guest);
	umount(folder);
	rmdir(folder);
	return 0;
}

/* What io_uring_setup(2) is told under many container runtimes. */
static void forbid_io_uring(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(filter), filter };

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static int without_io_uring(void)
{
	char said[1024] = "";
	int pipes[2];

	forbid_io_uring();
	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	log_set_level(LOG_LEVEL_WARN);
	make_image(SECTORS * 512);
	guest_open(&guest, create(false));
	boot(FEATURE(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, 512, true, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 1, 512, false, NULL), VIRTIO_BLK_S_OK);
	guest_close(&guest);
	unlink(path);
	close(pipes[1]);
	close(STDERR_FILENO);
	if (!synchronous) {
		assert_true(read(pipes[0], said, sizeof(said) - 1) > 0);
		assert_non_null(strstr(said, "no io_uring (Operation not permitted)"));
		assert_non_null(strstr(said, path));
	}
	return 0;
}

/* In a process of its own, since it changes what it cannot change back. */
static void in_a_child(int (*test)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid)
		_exit(test());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("needs a mount namespace of its own\n");
		skip();
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_full_disk_is_an_error_in_the_protocol(void **state)
{
	in_a_child(on_a_full_disk);
}

static void works_where_io_uring_is_forbidden_and_says_so(void **state)
{
	in_a_child(without_io_uring);
}

/* ---- opening ------------------------------------------------------------------------------- */

static void expect_refusal(const char *which, bool readonly, const char *code)
{
	const struct virtio_blk_config config = { .path = which, .readonly = readonly };
	struct vfio_device *device = NULL;
	struct error e = { 0 };
	unsigned before = count_fds();

	assert_true(virtio_blk_create(&config, &device, &e) < 0);
	assert_string_equal(e.code, code);
	assert_non_null(strstr(e.text, which));
	assert_int_equal(count_fds(), before);
}

static void refuses_what_is_no_disk_with_the_reason(void **state)
{
	expect_refusal("/tmp/test-virtio-blk-is-not-there", false, "disk-missing");
	expect_refusal("/tmp", true, "disk-not-a-disk");
	expect_refusal("/dev/null", false, "disk-not-a-disk");
	make_image(0);
	expect_refusal(path, false, "disk-not-a-disk");
	assert_int_equal(truncate(path, 700), 0);
	expect_refusal(path, false, "disk-not-a-disk");
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refusal(path, true, "disk-not-a-disk");
	unlink(path);
}

static void refuses_a_second_user_of_a_writable_disk(void **state)
{
	struct vfio_device *first, *second;

	make_image(512);
	first = create(false);
	expect_refusal(path, false, "disk-locked");
	expect_refusal(path, true, "disk-locked");
	first->ops->close(first);
	first = create(true);
	second = create(true); /* readers may share */
	expect_refusal(path, false, "disk-locked");
	first->ops->close(first);
	second->ops->close(second);
	first = create(false);
	first->ops->close(first);
	unlink(path);
}

static void refuses_to_write_where_it_may_not(void **state)
{
	const uid_t uid = geteuid();

	expect_refusal("/proc/version", true, "disk-not-a-disk");
	make_image(512);
	assert_int_equal(chmod(path, 0444), 0);
	/* Root may write anything: be nobody for a moment. */
	assert_int_equal(uid ? 0 : seteuid(65534), 0);
	expect_refusal(path, false, "disk-readonly");
	assert_int_equal(seteuid(uid), 0);
	unlink(path);
}

/* A loop device over the image; -1 where this machine gives none. */
static int attach_loop(char loop[32])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), backing, fd = -1, number;

	if (control < 0)
		return -1;
	backing = open(path, O_RDWR | O_CLOEXEC);
	number = ioctl(control, LOOP_CTL_GET_FREE);
	if (number >= 0) {
		snprintf(loop, 32, "/dev/loop%d", number);
		fd = open(loop, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_SET_FD, backing) < 0)
			fd_close(&fd);
	}
	close(control);
	close(backing);
	return fd;
}

static void works_over_a_block_device(void **state)
{
	struct virtio_blk_config config;
	struct vfio_device *device;
	uint8_t image[512];
	char loop[32];
	int fd;

	make_image(SECTORS * 512);
	fd = attach_loop(loop);
	if (fd < 0) {
		print_message("no loop device here: %s\n", strerror(errno));
		unlink(path);
		skip();
	}
	config = (struct virtio_blk_config){ .path = loop, .synchronous = synchronous };
	assert_int_equal(virtio_blk_create(&config, &device, NULL), 0);
	guest_open(&guest, device);
	boot(FEATURE(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(device_config(&guest, 0, 8), SECTORS);
	memset(guest_ptr(&guest, data_gpa), 0x6e, 512);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 5, 512, true, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	image_bytes(5 * 512, image, sizeof(image));
	assert_int_equal(image[0], 0x6e);
	assert_int_equal(image[511], 0x6e);
	expect_refusal(loop, false, "disk-locked");
	guest_close(&guest);
	assert_int_equal(ioctl(fd, LOOP_CLR_FD), 0);
	close(fd);
	unlink(path);
}

/* A mount claims its block device as O_EXCL does. */
static void a_disk_that_the_host_uses_is_refused_for_writing(void **state)
{
	struct virtio_blk_config config = { .readonly = true };
	struct vfio_device *device;
	char loop[32];
	int fd, claim;

	make_image(SECTORS * 512);
	fd = attach_loop(loop);
	if (fd < 0) {
		print_message("no loop device here: %s\n", strerror(errno));
		unlink(path);
		skip();
	}
	claim = open(loop, O_RDONLY | O_EXCL | O_CLOEXEC);
	assert_true(claim >= 0);
	expect_refusal(loop, false, "disk-locked");
	config.path = loop;
	assert_int_equal(virtio_blk_create(&config, &device, NULL), 0);
	vfio_device_close(device);
	close(claim);
	assert_int_equal(ioctl(fd, LOOP_CLR_FD), 0);
	close(fd);
	unlink(path);
}

static bool have_io_uring(void)
{
	struct io_uring ring;
	int ret = io_uring_queue_init(1, &ring, 0);

	if (ret < 0)
		print_message("no io_uring here, so nothing is in flight: %s\n", strerror(-ret));
	else
		io_uring_queue_exit(&ring);
	return ret >= 0;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(says_its_capacity),
		TEST(written_sectors_are_in_the_image_and_read_back),
		TEST(the_framing_of_a_request_does_not_matter),
		TEST(the_last_sector_is_in_and_the_next_is_out),
		TEST(flush_and_write_through_succeed),
		TEST(the_id_is_the_image_name),
		TEST(unknown_requests_are_unsupported),
		TEST(zeroes_and_discards_ranges),
		TEST(a_request_without_status_needs_a_reset),
		TEST(an_image_that_shrinks_gives_an_error_not_a_crash),
		TEST(reset_with_requests_in_flight_leaves_a_working_disk),
		TEST(many_requests_at_once_are_each_answered_once),
		cmocka_unit_test(a_full_disk_is_an_error_in_the_protocol),
		cmocka_unit_test(works_where_io_uring_is_forbidden_and_says_so),
		cmocka_unit_test_setup_teardown(a_readonly_disk_reads_and_never_writes,
						setup_readonly, teardown),
		cmocka_unit_test(refuses_what_is_no_disk_with_the_reason),
		cmocka_unit_test(refuses_a_second_user_of_a_writable_disk),
		cmocka_unit_test(refuses_to_write_where_it_may_not),
		cmocka_unit_test(works_over_a_block_device),
		cmocka_unit_test(a_disk_that_the_host_uses_is_refused_for_writing),
	};

	const struct CMUnitTest in_flight[] = {
		TEST(memory_is_taken_back_when_nothing_in_flight_uses_it),
		TEST(a_reset_waits_and_answers_nothing),
	};
	int failed = cmocka_run_group_tests_name("by io_uring", tests, NULL, NULL);

	if (have_io_uring())
		failed += cmocka_run_group_tests_name("in flight", in_flight, NULL, NULL);
	failed += cmocka_run_group_tests_name("packed rings", tests, guest_use_packed_rings,
					      guest_use_split_rings);
	if (have_io_uring())
		failed +=
			cmocka_run_group_tests_name("in flight, packed rings", in_flight,
						    guest_use_packed_rings, guest_use_split_rings);

	synchronous = true;
	return failed + cmocka_run_group_tests_name("by system calls", tests, NULL, NULL);
}
