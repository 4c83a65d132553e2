/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vfio-user server on a thread of its own, for its tests: over any device, or over a made-up one that keeps
 * what it was told; and a client that says whatever a test wants, byte by byte.
 *
 * After virtio_driver.h or cmocka.h, which define what a test needs.
 */
#ifndef TESTS_SERVER_BENCH_H
#define TESTS_SERVER_BENCH_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-event.h>

#include "mdev/mdev.h"
#include "mdev/server/server.h"
#include "tests/unit/fake_vfio_device.h"

#define BENCH_TIMEOUT_MS 10000u /* of the test's own waits; a loaded machine keeps it */

/* ---- a device that keeps what it was told ---------------------------------------------------- */

struct bench_device {
	struct fake_device fake;			  /* first */
	struct vfio_region_map ranges[SERVER_RANGES_MAX]; /* offset: IOVA */
	unsigned range_count, maps, unmaps;		  /* of guest memory */
	bool keeps;					  /* dma_unmap() fails */
	const struct vfio_mapper *mapper;		  /* atomic */
	void *mapper_opaque;
	unsigned mappers; /* how often one was set */
};

static inline struct bench_device *bench_of(struct vfio_device *device)
{
	return container_of(fake_of(device), struct bench_device, fake);
}

static inline int bench_dma_map(struct vfio_device *device, uint64_t iova, uint64_t size, void *hva,
				int fd, uint64_t fd_offset)
{
	struct bench_device *bench = bench_of(device);

	if (fake_fails(&bench->fake))
		return -ENOMEM;
	bench->ranges[bench->range_count++] = (struct vfio_region_map){
		.offset = iova, .size = size, .fd = -1, .fd_offset = (uintptr_t)hva
	};
	bench->maps++;
	return 0;
}

static inline int bench_dma_unmap(struct vfio_device *device, uint64_t iova, uint64_t size)
{
	struct bench_device *bench = bench_of(device);

	if (bench->keeps)
		return -EBUSY;
	for (unsigned i = 0; i < bench->range_count; i++) {
		if (bench->ranges[i].offset != iova || bench->ranges[i].size != size)
			continue;
		bench->ranges[i] = bench->ranges[--bench->range_count];
		bench->unmaps++;
		return 0;
	}
	return -ENOENT;
}

static inline int bench_region_file(struct vfio_device *device, uint32_t index, uint64_t *offset)
{
	struct fake_device *fake = fake_of(device);

	*offset = 0;
	return index < VFIO_PCI_PLACES && fake->memory[index] ? fake->memory[index] : -ENODEV;
}

static inline void bench_set_mapper(struct vfio_device *device, const struct vfio_mapper *mapper,
				    void *opaque)
{
	struct bench_device *bench = bench_of(device);

	bench->mapper_opaque = opaque;
	bench->mappers += mapper != NULL;
	__atomic_store_n(&bench->mapper, mapper, __ATOMIC_RELEASE);
}

static const struct vfio_device_ops bench_ops = {
	.get_region = fake_get_region,
	.region_read = fake_region_read,
	.region_write = fake_region_write,
	.region_mmap = fake_region_mmap,
	.get_irq = fake_get_irq,
	.set_irqs = fake_set_irqs,
	.reset = fake_reset,
	.dma_map = bench_dma_map,
	.dma_unmap = bench_dma_unmap,
	.get_io_fds = fake_get_io_fds,
	.region_file = bench_region_file,
	.set_mapper = bench_set_mapper,
};

/*
 * BAR 0: 64 KiB with two pages that may be mapped; BAR 2: a window of 1 MiB; 20 MSI-X vectors; one
 * doorbell at 0x3000 of BAR 0.
 */
static inline void bench_device_init(struct bench_device *bench)
{
	struct fake_device *fake = &bench->fake;

	memset(bench, 0, sizeof(*bench));
	fake_init(fake, 0x56781234, 0x088000, 4096);
	fake->device.ops = &bench_ops;
	snprintf(fake->device.name, sizeof(fake->device.name), "made-up");
	fake_bar(fake, 0, 64 * KIB, 0);
	assert_int_equal(fcntl(fake->memory[0], F_ADD_SEALS, F_SEAL_SHRINK), 0);
	fake->regions[0].area_count = 2;
	fake->regions[0].areas[0] = (struct vfio_area){ 0x1000, 0x1000 };
	fake->regions[0].areas[1] = (struct vfio_area){ 0x8000, 0x1000 };
	fake_bar(fake, 2, MIB, 0);
	fake->regions[2].flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
	fake->regions[2].area_count = 0;
	fake->regions[VFIO_PCI_CONFIG_REGION_INDEX].flags =
		VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	fake->irqs[VFIO_PCI_MSIX_IRQ_INDEX] =
		(struct vfio_irq){ .count = 20, .flags = VFIO_IRQ_INFO_EVENTFD };
	fake->irqs[VFIO_PCI_INTX_IRQ_INDEX] =
		(struct vfio_irq){ .count = 1,
				   .flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE };
	fake->io_fds[0] = (struct vfio_io_fd){ .offset = 0x3000,
					       .size = 4,
					       .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
					       .datamatch = true,
					       .value = 7 };
	fake->io_fd_count = 1;
}

static inline void bench_device_release(struct bench_device *bench)
{
	close(bench->fake.io_fds[0].fd);
	fake_release(&bench->fake);
}

/* ---- the server's thread --------------------------------------------------------------------- */

struct bench {
	struct vfio_device *device;
	struct mdev_server *server;
	sd_event *event;
	int stop_fd, attach_fd; /* a descriptor to attach, -1: none */
	pthread_t thread;
	char path[64];
};

static inline int bench_on_stop(sd_event_source *source, int fd, uint32_t revents, void *opaque)
{
	struct bench *bench = opaque;
	eventfd_t count;

	eventfd_read(fd, &count);
	if (bench->attach_fd < 0)
		return sd_event_exit(bench->event, 0);
	mdev_server_attach(bench->server, bench->attach_fd, NULL);
	__atomic_store_n(&bench->attach_fd, -1, __ATOMIC_RELEASE);
	return 0;
}

static inline void *bench_main(void *arg)
{
	struct bench *bench = arg;

	sd_event_loop(bench->event);
	mdev_server_destroy(bench->server);
	return NULL;
}

/* @timeout_ms: the server's, 0 for its own */
static inline void bench_start(struct bench *bench, struct vfio_device *device, unsigned timeout_ms)
{
	static unsigned number;
	struct mdev_server_options options = { .path = bench->path, .timeout_ms = timeout_ms };
	struct error e = { 0 };

	memset(bench, 0, sizeof(*bench));
	snprintf(bench->path, sizeof(bench->path), "/tmp/divvy-server-%d-%u.sock", (int)getpid(),
		 number++);
	bench->device = device;
	bench->attach_fd = -1;
	bench->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(sd_event_new(&bench->event) >= 0);
	assert_true(sd_event_add_io(bench->event, NULL, bench->stop_fd, POLLIN, bench_on_stop,
				    bench) >= 0);
	if (mdev_server_create(bench->event, device, &options, &bench->server, &e))
		fail_msg("%s: %s", e.code, e.text);
	assert_int_equal(pthread_create(&bench->thread, NULL, bench_main, bench), 0);
}

static inline void bench_stop(struct bench *bench)
{
	eventfd_write(bench->stop_fd, 1);
	pthread_join(bench->thread, NULL);
	sd_event_unref(bench->event);
	close(bench->stop_fd);
	assert_int_equal(access(bench->path, F_OK), -1);
}

/* ---- a client that says anything ------------------------------------------------------------- */

#define RAW_ENDED (-9999) /* the server closed the connection */

struct raw {
	int fd;
	uint16_t id;
	struct user_message reply;
	uint8_t buffer[USER_PAYLOAD_MAX];
};

static inline uint64_t raw_deadline(void)
{
	return monotonic_ns() + BENCH_TIMEOUT_MS * UINT64_C(1000000);
}

static inline void raw_send(struct raw *raw, const void *bytes, size_t size, const int *fds,
			    unsigned fd_count)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, size };

	user_socket_send(raw->fd, &iov, 1, fds, fd_count, raw_deadline());
}

/* One message; a header that lies about the size may be given as @header. */
static inline void raw_request(struct raw *raw, uint16_t command, uint32_t flags,
			       const void *payload, size_t size, const int *fds, unsigned fd_count)
{
	struct user_header header = { .id = ++raw->id,
				      .command = command,
				      .size = (uint32_t)(sizeof(header) + size),
				      .flags = flags };
	struct iovec iov[2] = { { &header, sizeof(header) }, { (void *)(uintptr_t)payload, size } };

	user_socket_send(raw->fd, iov, 2, fds, fd_count, raw_deadline());
}

/* The next message; RAW_ENDED when there will be none. */
static inline int raw_receive(struct raw *raw)
{
	user_message_drop(&raw->reply);
	raw->reply.payload = raw->buffer;
	if (user_socket_wait(raw->fd, raw_deadline()))
		return -ETIMEDOUT;
	return user_socket_receive(raw->fd, &raw->reply, BENCH_TIMEOUT_MS) ? RAW_ENDED : 0;
}

/* Ask and be answered: 0, the server's -errno, or RAW_ENDED. What came is in raw->reply. */
static inline int raw_call(struct raw *raw, uint16_t command, const void *payload, size_t size,
			   const int *fds, unsigned fd_count)
{
	int err;

	raw_request(raw, command, USER_TYPE_COMMAND, payload, size, fds, fd_count);
	err = raw_receive(raw);
	if (err)
		return err;
	assert_int_equal(raw->reply.header.id, raw->id);
	assert_int_equal(raw->reply.header.command, command);
	assert_int_equal(raw->reply.header.flags & USER_FLAG_TYPE, USER_TYPE_REPLY);
	if (!(raw->reply.header.flags & USER_FLAG_ERROR))
		return 0;
	assert_int_equal(raw->reply.payload_size, 0);
	assert_int_equal(raw->reply.fd_count, 0);
	return -(int)raw->reply.header.error;
}

#define RAW_VERSION(raw, json) raw_version(raw, 0, 1, json, sizeof(json))

/* @json: with its NUL; NULL, 0: none */
static inline int raw_version(struct raw *raw, uint16_t major, uint16_t minor, const char *json,
			      size_t size)
{
	uint8_t bytes[8192] = { 0 };
	const struct user_version version = { major, minor };

	memcpy(bytes, &version, sizeof(version));
	if (size)
		memcpy(bytes + sizeof(version), json, size);
	return raw_call(raw, USER_VERSION, bytes, sizeof(version) + size, NULL, 0);
}

/* Connected, and nothing said yet. */
static inline void raw_connect(struct raw *raw, const struct bench *bench)
{
	struct error e = { 0 };

	memset(&raw->reply, 0, sizeof(raw->reply));
	raw->id = 0x100;
	raw->fd = user_socket_connect(bench->path, BENCH_TIMEOUT_MS, &e);
	if (raw->fd < 0)
		fail_msg("%s", e.text);
}

/* A client of QEMU's words, and of the extension. */
#define RAW_CAPABILITIES                                                                         \
	"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"pgsizes\":4096," \
	"\"max_dma_maps\":65535,\"divvy_region_map\":1}}"

static inline void raw_open(struct raw *raw, const struct bench *bench)
{
	raw_connect(raw, bench);
	assert_int_equal(RAW_VERSION(raw, RAW_CAPABILITIES), 0);
}

static inline void raw_close(struct raw *raw)
{
	user_message_drop(&raw->reply);
	close(raw->fd);
	raw->fd = -1;
}

/* Whether the server has hung up, with nothing more said. */
static inline bool raw_ended(struct raw *raw)
{
	return raw_receive(raw) == RAW_ENDED;
}

/* A sealed memfd of @size bytes; @seals 0: it can be sealed, and is not. */
static inline int bench_memory(uint64_t size, unsigned seals)
{
	int fd = memfd_create("bench-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

#define BENCH_WAIT(condition)                                             \
	do {                                                              \
		for (unsigned w__ = 0; w__ < 5000 && !(condition); w__++) \
			usleep(2000);                                     \
		assert_true(condition);                                   \
	} while (0)

#endif
