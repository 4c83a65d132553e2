// SPDX-License-Identifier: Apache-2.0
/*
 * The vfio-user client against servers that keep to the protocol: a virtio disk of ours, driven by a
 * guest's driver through the socket, and a made-up device. test_vfio_user_lies.c has the others.
 */
#include "tests/unit/confined.h"
#include "tests/unit/virtio_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/un.h>
#define virtio_blk_config virtio_blk_config_space
#include <linux/virtio_blk.h>
#undef virtio_blk_config

#include "tests/unit/fake_vfio_device.h"
#include "tests/unit/vfio_user_server.h"

#define SET_EVENTFD (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

static unsigned fds_before;
static struct server server;
static struct fake_device fake;
static struct vfio_device *client;

/* ---- a disk behind a socket ---------------------------------------------------------------- */

static struct guest guest;
static struct vfio_device *disk;
static char image[64], path[80];
static int listener;

static void *accept_and_serve(void *arg)
{
	server.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	server_serve(&server);
	return NULL;
}

static int disk_setup(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct virtio_blk_config config = { .path = image };
	struct error e = { 0 };
	int fd;

	fds_before = count_fds();
	snprintf(image, sizeof(image), "/tmp/test-vfio-user-XXXXXX");
	fd = mkstemp(image);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB), 0);
	close(fd);
	assert_int_equal(virtio_blk_create(&config, &disk, NULL), 0);

	snprintf(path, sizeof(path), "%s.sock", image);
	strcpy(address.sun_path, path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	server_init(&server, disk, -1);
	server.fds_max = 1;
	assert_int_equal(pthread_create(&server.thread, NULL, accept_and_serve, NULL), 0);
	if (vfio_user_open(path, &client, &e))
		fail_msg("%s: %s", e.code, e.text);
	guest_open(&guest, client);
	return 0;
}

static int disk_teardown(void **state)
{
	guest_close(&guest);
	server_join(&server);
	disk->ops->close(disk);
	close(listener);
	unlink(path);
	unlink(image);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static uint64_t header_gpa, status_gpa, data_gpa;

static void boot(void)
{
	guest_start(&guest, 1, 0);
	header_gpa = guest_alloc(&guest, sizeof(struct virtio_blk_outhdr));
	status_gpa = guest_alloc(&guest, 1);
	data_gpa = guest_alloc(&guest, 4096);
}

static void disk_request(uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr *header = guest_ptr(&guest, header_gpa);
	uint8_t *status = guest_ptr(&guest, status_gpa);
	struct guest_buffer buffers[3] = { { header_gpa, sizeof(*header), false },
					   { data_gpa, 4096, type == VIRTIO_BLK_T_IN },
					   { status_gpa, 1, true } };

	*header = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	*status = 0xff;
	guest_request(&guest, 0, buffers, 3);
	assert_int_equal(*status, VIRTIO_BLK_S_OK);
}

static void write_and_read_back(uint8_t value)
{
	uint8_t *data = guest_ptr(&guest, data_gpa), bytes[4096];
	int fd = open(image, O_RDONLY);

	memset(data, value, 4096);
	disk_request(VIRTIO_BLK_T_OUT, 16);
	assert_int_equal(pread_full(fd, bytes, sizeof(bytes), 16 * 512), 0);
	close(fd);
	assert_memory_equal(bytes, data, sizeof(bytes));
	memset(data, 0, 4096);
	disk_request(VIRTIO_BLK_T_IN, 16);
	assert_memory_equal(bytes, data, sizeof(bytes));
}

static void a_served_disk_is_written_and_read_through_the_socket(void **state)
{
	boot();
	assert_int_equal(device_config(&guest, 0, 8), MIB / 512);
	write_and_read_back(0x5a);
	/* Two vectors to a server that takes one descriptor a message. */
	assert_int_equal(server.most_fds, 1);
	assert_int_equal(server.commands[USER_DEVICE_SET_IRQS], 2);
	assert_int_equal(server.commands[USER_DMA_MAP], 2);
}

static void the_servers_eventfds_ring_its_doorbells(void **state)
{
	struct virtio_blk_outhdr *header;
	struct vfio_io_fd fds[1 + VFIO_IO_FDS_MAX];
	struct guest_buffer buffers[3];
	unsigned writes;

	boot();
	assert_int_equal(client->ops->get_io_fds(client, 0, fds), 1);
	assert_int_equal(fds[0].offset, guest.queues[0].notify);
	assert_int_equal(client->ops->get_io_fds(client, 1, fds + 1), 0);
	header = guest_ptr(&guest, header_gpa);
	*header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN };
	buffers[0] = (struct guest_buffer){ header_gpa, sizeof(*header), false };
	buffers[1] = (struct guest_buffer){ data_gpa, 4096, true };
	buffers[2] = (struct guest_buffer){ status_gpa, 1, true };
	guest_add(&guest, 0, buffers, 3);
	writes = server.commands[USER_REGION_WRITE];
	eventfd_write(fds[0].fd, 1);
	assert_true(guest_next_used(&guest, 0, GUEST_WAIT_MS, NULL, NULL));
	assert_int_equal(*(uint8_t *)guest_ptr(&guest, status_gpa), VIRTIO_BLK_S_OK);
	assert_int_equal(server.commands[USER_REGION_WRITE], writes);
}

static void a_served_disk_works_again_after_its_reset(void **state)
{
	boot();
	write_and_read_back(1);
	assert_int_equal(vfio_device_reset(client, NULL), 0);
	assert_int_equal(guest_status(&guest), 0);
	boot();
	write_and_read_back(2);
}

static void memory_that_is_taken_back_is_unmapped_by_the_server(void **state)
{
	const uint64_t half = GUEST_SIZE / 2;

	assert_int_equal(client->ops->dma_unmap(client, GUEST_BASE, half), 0);
	assert_int_equal(server.range_count, 1);
	assert_int_equal(client->ops->dma_unmap(client, GUEST_BASE, half), -ENOENT);
	/* The server refuses what overlaps; then we have not got it either. */
	assert_int_equal(
		client->ops->dma_map(client, GUEST_BASE + half - 4096, 8192, guest.memory, -1, 0),
		-EEXIST);
	assert_int_equal(client->ops->dma_unmap(client, GUEST_BASE + half, half), 0);
	assert_int_equal(server.range_count, 0);
}

/* ---- a made-up device ---------------------------------------------------------------------- */

/* BAR 0: 64 KiB of which two pages are mapped directly; 20 MSI-X vectors. */
static void fake_setup(void)
{
	fds_before = count_fds();
	fake_init(&fake, 0x56781234, 0x088000, 4096);
	fake_bar(&fake, 0, 64 * KIB, 0);
	fake.regions[0].area_count = 2;
	fake.regions[0].areas[0] = (struct vfio_area){ 0x1000, 0x1000 };
	fake.regions[0].areas[1] = (struct vfio_area){ 0x8000, 0x1000 };
	fake.regions[VFIO_PCI_CONFIG_REGION_INDEX].flags =
		VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	fake.irqs[VFIO_PCI_MSIX_IRQ_INDEX] =
		(struct vfio_irq){ .count = 20, .flags = VFIO_IRQ_INFO_EVENTFD };
	server_init(&server, &fake.device, -1);
	server.region_fds[0] = fake.memory[0];
}

static void fake_connect(void)
{
	struct error e = { 0 };
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	server.fd = pair[1];
	assert_int_equal(server_start(&server), 0);
	if (vfio_user_attach(pair[0], "test", 5000, &client, &e) || vfio_device_start(client, &e))
		fail_msg("%s: %s", e.code, e.text);
}

static int setup(void **state)
{
	fake_setup();
	return 0;
}

static void disconnect(void)
{
	vfio_device_close(client);
	server_join(&server);
	client = NULL;
}

static int teardown(void **state)
{
	if (client)
		disconnect();
	fake_release(&fake);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void the_device_is_what_the_server_says(void **state)
{
	struct vfio_region region;
	struct vfio_irq irq;

	fake_connect();
	assert_string_equal(client->name, "test");
	assert_int_equal(client->flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
	assert_int_equal(client->region_count, VFIO_PCI_NUM_REGIONS);
	assert_int_equal(client->irq_count, FAKE_IRQS);
	assert_int_equal(client->ops->get_region(client, 0, &region), 0);
	assert_int_equal(region.size, 64 * KIB);
	assert_int_equal(region.flags, fake.regions[0].flags);
	assert_int_equal(region.area_count, 2);
	assert_memory_equal(region.areas, fake.regions[0].areas, 2 * sizeof(region.areas[0]));
	assert_int_equal(client->ops->get_region(client, 1, &region), 0);
	assert_int_equal(region.size, 0);
	assert_int_equal(client->ops->get_region(client, 9, &region), -EINVAL);
	assert_int_equal(client->ops->get_irq(client, VFIO_PCI_MSIX_IRQ_INDEX, &irq), 0);
	assert_int_equal(irq.count, 20);
	assert_int_equal(irq.flags, VFIO_IRQ_INFO_EVENTFD);
	assert_int_equal(vfio_device_file(client), -1);
}

static void registers_are_read_and_written(void **state)
{
	uint32_t value = 0x11223344, got = 0;

	fake_connect();
	assert_int_equal(client->ops->region_write(client, 0, 0x24, &value, 4), 4);
	assert_int_equal(client->ops->region_read(client, 0, 0x24, &got, 4), 4);
	assert_int_equal(got, value);
	assert_int_equal(client->ops->region_read(client, VFIO_PCI_CONFIG_REGION_INDEX, 0, &got, 4),
			 4);
	assert_int_equal(got, 0x56781234);
	/* What is outside is not asked for. */
	fake.bar_reads = 0;
	assert_int_equal(client->ops->region_read(client, 0, 64 * KIB - 2, &got, 4), -EINVAL);
	assert_int_equal(client->ops->region_read(client, 0, UINT64_MAX, &got, 4), -EINVAL);
	assert_int_equal(client->ops->region_read(client, 0, 0, &got, 0), -EINVAL);
	assert_int_equal(client->ops->region_write(client, 1, 0, &got, 4), -EINVAL);
	assert_int_equal(client->ops->region_write(client, 99, 0, &got, 4), -EINVAL);
	assert_int_equal(fake.bar_reads, 0);
}

static void long_accesses_go_in_parts_that_the_server_takes(void **state)
{
	uint8_t bytes[1000], got[1000] = { 0 };

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 13);
	server.transfer_max = 300;
	fake_connect();
	assert_int_equal(client->ops->region_write(client, 0, 0x100, bytes, 1000), 1000);
	assert_int_equal(client->ops->region_read(client, 0, 0x100, got, 1000), 1000);
	assert_memory_equal(got, bytes, 1000);
	assert_int_equal(server.commands[USER_REGION_WRITE], 4);
	assert_int_equal(server.commands[USER_REGION_READ], 4);
}

static void what_the_server_refuses_is_an_errno_and_no_end(void **state)
{
	uint32_t got;

	fake_connect();
	fake.reset_result = -EBUSY;
	assert_int_equal(client->ops->reset(client), -EBUSY);
	fake.fail_at = fake.calls + 1;
	assert_int_equal(client->ops->region_read(client, 0, 0, &got, 4), -EIO);
	assert_int_equal(client->ops->region_read(client, 0, 0, &got, 4), 4);
}

static bool refuse_without_a_number(struct server *s, struct user_message *message)
{
	if (message->header.command != USER_DEVICE_RESET)
		return false;
	server_refuse(s, message, fake.resets++ ? 100000 : 0);
	return true;
}

static void a_refusal_without_a_proper_errno_is_an_input_output_error(void **state)
{
	server.hook = refuse_without_a_number;
	fake_connect();
	assert_int_equal(client->ops->reset(client), -EIO);
	assert_int_equal(client->ops->reset(client), -EIO);
	assert_int_equal(client->ops->region_read(client, 0, 0, &(uint32_t){ 0 }, 4), 4);
}

static void a_device_without_reset_says_so(void **state)
{
	fake.device.flags = VFIO_DEVICE_FLAGS_PCI;
	fake_connect();
	assert_int_equal(client->ops->reset(client), -ENOTTY);
	assert_int_equal(server.commands[USER_DEVICE_RESET], 0);
}

/* ---- mapping ------------------------------------------------------------------------------- */

static uint8_t *map(uint64_t offset, uint64_t size, int *err)
{
	uint8_t *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(at != MAP_FAILED);
	*err = client->ops->region_mmap(client, 0, offset, size, at);
	return at;
}

static void a_mapped_area_is_the_servers_memory(void **state)
{
	uint8_t *at;
	int err;

	fake_connect();
	at = map(0x8000, 0x1000, &err);
	assert_int_equal(err, 0);
	at[5] = 0x77;
	assert_int_equal(pread(fake.memory[0], &err, 1, 0x8005), 1);
	assert_int_equal(err, 0x77);
	munmap(at, 0x1000);
}

static void an_area_is_found_where_the_region_begins_in_its_file(void **state)
{
	uint8_t *at;
	int err;

	assert_int_equal(ftruncate(fake.memory[0], 128 * KIB), 0);
	server.region_offsets[0] = 64 * KIB;
	fake_connect();
	at = map(0x1000, 0x1000, &err);
	assert_int_equal(err, 0);
	at[0] = 0x66;
	assert_int_equal(pread(fake.memory[0], &err, 1, 64 * KIB + 0x1000), 1);
	assert_int_equal(err, 0x66);
	munmap(at, 0x1000);
}

static void what_is_outside_the_areas_is_not_mapped(void **state)
{
	uint8_t *at;
	int err;

	fake_connect();
	at = map(0x2000, 0x1000, &err);
	assert_int_equal(err, -EINVAL);
	munmap(at, 0x1000);
	at = map(0x1000, 0x2000, &err);
	assert_int_equal(err, -EINVAL);
	munmap(at, 0x2000);
}

/* A server that hands out any file for the region. */
static int any_file;

static bool hand_out_any_file(struct server *s, struct user_message *message)
{
	struct vfio_region_info info;

	if (message->header.command != USER_DEVICE_GET_REGION_INFO)
		return false;
	memcpy(&info, message->payload, sizeof(info));
	if (info.index)
		return false;
	info = (struct vfio_region_info){ .argsz = sizeof(info),
					  .flags = VFIO_REGION_INFO_FLAG_READ |
						   VFIO_REGION_INFO_FLAG_WRITE |
						   VFIO_REGION_INFO_FLAG_MMAP,
					  .size = 64 * KIB };
	server_reply(s, message, &info, sizeof(info), NULL, 0, &any_file, 1);
	return true;
}

/* Connect with @fd for the region; it must work by messages, and not be mappable. */
static void expect_unmapped(int fd)
{
	struct vfio_region region;
	uint32_t got;

	any_file = fd;
	server.hook = hand_out_any_file;
	fake_connect();
	assert_int_equal(client->ops->get_region(client, 0, &region), 0);
	assert_int_equal(region.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
	assert_int_equal(region.area_count, 0);
	assert_int_equal(client->ops->region_mmap(client, 0, 0x1000, 0x1000, NULL), -EINVAL);
	assert_int_equal(client->ops->region_read(client, 0, 0x1000, &got, 4), 4);
	disconnect();
	server_init(&server, &fake.device, -1);
}

static void a_region_whose_file_is_not_enough_memory_goes_by_messages(void **state)
{
	int fd = memfd_create("short", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 0x8fff), 0);
	expect_unmapped(fd);
	close(fd);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	expect_unmapped(fd);
	close(fd);
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	expect_unmapped(fd);
	close(fd);
}

/* ---- interrupts ---------------------------------------------------------------------------- */

/* What SET_IRQS messages came, in order. */
static struct {
	unsigned count, refuse_at;
	struct {
		uint32_t flags, start, count;
		unsigned fds;
	} seen[16];
} irq_log;

static bool log_set_irqs(struct server *s, struct user_message *message)
{
	struct vfio_irq_set set;

	if (message->header.command != USER_DEVICE_SET_IRQS)
		return false;
	memcpy(&set, message->payload, sizeof(set));
	irq_log.seen[irq_log.count].flags = set.flags;
	irq_log.seen[irq_log.count].start = set.start;
	irq_log.seen[irq_log.count].count = set.count;
	irq_log.seen[irq_log.count].fds = message->fd_count;
	if (++irq_log.count == irq_log.refuse_at)
		server_refuse(s, message, ENOSPC);
	else
		server_reply(s, message, NULL, 0, NULL, 0, NULL, 0);
	return true;
}

static void expect_set(unsigned at, uint32_t start, uint32_t count, unsigned fds)
{
	assert_int_equal(irq_log.seen[at].flags, SET_EVENTFD);
	assert_int_equal(irq_log.seen[at].start, start);
	assert_int_equal(irq_log.seen[at].count, count);
	assert_int_equal(irq_log.seen[at].fds, fds);
}

static void irqs_connect(int32_t *fds, unsigned count)
{
	memset(&irq_log, 0, sizeof(irq_log));
	server.hook = log_set_irqs;
	server.fds_max = 8;
	fake_connect();
	fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (unsigned i = 1; i < count; i++)
		fds[i] = fds[0];
}

static void eventfds_go_in_batches_and_holes_by_themselves(void **state)
{
	int32_t fds[20];
	int one;

	irqs_connect(fds, 20);
	one = fds[0];
	fds[3] = fds[4] = -1;
	assert_int_equal(
		client->ops->set_irqs(client, SET_EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, 0, 20, fds), 0);
	assert_int_equal(irq_log.count, 4);
	expect_set(0, 0, 3, 3);
	expect_set(1, 3, 2, 0);
	expect_set(2, 5, 8, 8);
	expect_set(3, 13, 7, 7);
	close(one);
}

static void a_batch_that_is_refused_takes_back_those_before(void **state)
{
	int32_t fds[20];

	irqs_connect(fds, 20);
	irq_log.refuse_at = 3;
	assert_int_equal(
		client->ops->set_irqs(client, SET_EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, 0, 20, fds),
		-ENOSPC);
	assert_int_equal(irq_log.count, 4);
	expect_set(3, 0, 16, 0);
	close(fds[0]);
}

static void interrupts_that_cannot_be_resized_are_not_set_in_parts(void **state)
{
	int32_t fds[20];

	fake.irqs[VFIO_PCI_MSIX_IRQ_INDEX].flags |= VFIO_IRQ_INFO_NORESIZE;
	irqs_connect(fds, 20);
	assert_int_equal(
		client->ops->set_irqs(client, SET_EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, 0, 9, fds),
		-ENOSPC);
	assert_int_equal(irq_log.count, 0);
	assert_int_equal(
		client->ops->set_irqs(client, SET_EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, 0, 8, fds), 0);
	expect_set(0, 0, 8, 8);
	close(fds[0]);
}

static void interrupts_are_switched_off_and_what_is_not_there_is_refused(void **state)
{
	int32_t fds[20];

	irqs_connect(fds, 20);
	assert_int_equal(client->ops->set_irqs(client,
					       VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
					       VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL),
			 0);
	assert_int_equal(irq_log.count, 1);
	assert_int_equal(irq_log.seen[0].count, 0);
	assert_int_equal(
		client->ops->set_irqs(client, SET_EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, 1, 20, fds),
		-EINVAL);
	assert_int_equal(
		client->ops->set_irqs(client, SET_EVENTFD, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, fds),
		-EINVAL);
	assert_int_equal(client->ops->set_irqs(client, SET_EVENTFD, 99, 0, 1, fds), -EINVAL);
	assert_int_equal(irq_log.count, 1);
	close(fds[0]);
}

/* ---- what the server asks ------------------------------------------------------------------ */

#define DMA_BASE UINT64_C(0x100000)

/* One request of the server's own and its answer, while it serves DEVICE_RESET. */
static struct ask {
	uint16_t command;
	uint32_t flags;
	uint64_t address, count;
	uint8_t data[64]; /* to the guest, then from it */
	uint32_t answer_flags, answer_error;
	size_t answer_size;
	bool after; /* ask when DEVICE_RESET has been answered */
} ask;

static bool ask_hook(struct server *s, struct user_message *message)
{
	const struct user_header header = { .id = 0x1234,
					    .command = ask.command,
					    .flags = ask.flags };
	const struct user_dma_access access = { ask.address, ask.count };
	struct user_message reset, reply;

	if (message->header.command != USER_DEVICE_RESET || !ask.command)
		return false;
	reset = *message;
	if (ask.after)
		server_reply(s, &reset, NULL, 0, NULL, 0, NULL, 0);
	server_send(s, &header, &access, sizeof(access), ask.data,
		    ask.command == USER_DMA_WRITE ? ask.count : 0, NULL, 0);
	if (!(ask.flags & USER_FLAG_NO_REPLY)) {
		reply.payload = s->buffer;
		if (user_socket_receive(s->fd, &reply, SERVER_TIMEOUT_MS) ||
		    reply.header.id != 0x1234 || reply.header.command != ask.command)
			return true;
		ask.answer_flags = reply.header.flags;
		ask.answer_error = reply.header.error;
		ask.answer_size = reply.payload_size;
		if (reply.payload_size > sizeof(access))
			memcpy(ask.data, reply.payload + sizeof(access),
			       MIN(reply.payload_size - sizeof(access), sizeof(ask.data)));
	}
	__atomic_store_n(&ask.command, 0, __ATOMIC_RELEASE);
	if (!ask.after)
		server_reply(s, &reset, NULL, 0, NULL, 0, NULL, 0);
	return true;
}

static uint8_t *ask_memory;

/* Two pages of guest memory in two ranges that touch. */
static void ask_connect(void)
{
	int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	server.hook = ask_hook;
	memset(&ask, 0, sizeof(ask));
	fake_connect();
	assert_int_equal(ftruncate(fd, 8192), 0);
	ask_memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_int_equal(client->ops->dma_map(client, DMA_BASE, 4096, ask_memory, fd, 0), 0);
	assert_int_equal(
		client->ops->dma_map(client, DMA_BASE + 4096, 4096, ask_memory + 4096, fd, 4096),
		0);
	close(fd);
}

static void ask_now(struct ask question)
{
	ask = question;
	assert_int_equal(client->ops->reset(client), 0);
	/* What is asked when its reset is over is over when the hook says so. */
	for (unsigned i = 0; i < 5000 && __atomic_load_n(&ask.command, __ATOMIC_ACQUIRE); i++)
		usleep(1000);
	assert_int_equal(ask.command, 0);
	assert_int_equal(client->ops->reset(client), 0);
}

static void the_server_reads_and_writes_guest_memory_while_it_is_asked(void **state)
{
	ask_connect();
	ask_now((struct ask){ .command = USER_DMA_WRITE,
			      .address = DMA_BASE + 4090,
			      .count = 12,
			      .data = "hello, guest" });
	assert_int_equal(ask.answer_flags, USER_TYPE_REPLY);
	assert_int_equal(ask.answer_size, 16);
	assert_memory_equal(ask_memory + 4090, "hello, guest", 12);
	memcpy(ask_memory + 4090, "hello, world", 12);
	ask_now((struct ask){ .command = USER_DMA_READ, .address = DMA_BASE + 4090, .count = 12 });
	assert_int_equal(ask.answer_flags, USER_TYPE_REPLY);
	assert_int_equal(ask.answer_size, 16 + 12);
	assert_memory_equal(ask.data, "hello, world", 12);
	munmap(ask_memory, 8192);
}

static void the_server_reads_guest_memory_while_nobody_asks_it(void **state)
{
	ask_connect();
	memcpy(ask_memory, "idle", 4);
	ask_now((struct ask){
		.command = USER_DMA_READ, .address = DMA_BASE, .count = 4, .after = true });
	assert_int_equal(ask.answer_size, 16 + 4);
	assert_memory_equal(ask.data, "idle", 4);
	munmap(ask_memory, 8192);
}

static void an_answer_that_is_not_wanted_is_not_sent(void **state)
{
	ask_connect();
	ask_now((struct ask){ .command = USER_DMA_WRITE,
			      .flags = USER_FLAG_NO_REPLY,
			      .address = DMA_BASE,
			      .count = 3,
			      .data = "abc" });
	assert_memory_equal(ask_memory, "abc", 3);
	munmap(ask_memory, 8192);
}

static void expect_refused(uint64_t address, uint64_t count)
{
	ask_now((struct ask){ .command = USER_DMA_READ, .address = address, .count = count });
	assert_int_equal(ask.answer_flags, USER_TYPE_REPLY | USER_FLAG_ERROR);
	assert_int_equal(ask.answer_error, EFAULT);
	assert_int_equal(ask.answer_size, 0);
}

static void what_is_no_guest_memory_is_refused_and_nothing_written(void **state)
{
	ask_connect();
	expect_refused(DMA_BASE - 1, 2);
	expect_refused(DMA_BASE + 8191, 2);
	expect_refused(0, 8);
	expect_refused(UINT64_MAX, 8);
	ask_now((struct ask){ .command = USER_DMA_WRITE,
			      .address = DMA_BASE + 8190,
			      .count = 4,
			      .data = "xxxx" });
	assert_int_equal(ask.answer_error, EFAULT);
	assert_int_equal(ask_memory[8190], 0);
	assert_int_equal(client->ops->dma_unmap(client, DMA_BASE, 4096), 0);
	expect_refused(DMA_BASE, 4);
	expect_refused(DMA_BASE + 4095, 4);
	munmap(ask_memory, 8192);
}

static void a_command_that_is_not_known_is_answered_with_an_error(void **state)
{
	ask_connect();
	ask_now((struct ask){ .command = 99 });
	assert_int_equal(ask.answer_flags, USER_TYPE_REPLY | USER_FLAG_ERROR);
	assert_int_equal(ask.answer_error, EOPNOTSUPP);
	munmap(ask_memory, 8192);
}

/* ---- memory that the server wants shown ------------------------------------------------------ */

/* One USER_DIVVY_REGION_MAP or _UNMAP and its answer, while the server serves DEVICE_RESET. */
static struct {
	struct user_region_map map;
	int fd; /* -1: an unmap */
	uint32_t flags, error;
} wish;
static unsigned wishes; /* that came to the mapper */

static bool wish_hook(struct server *s, struct user_message *message)
{
	const struct user_header header = { .id = 0x4321,
					    .command = wish.fd < 0 ? USER_DIVVY_REGION_UNMAP
								   : USER_DIVVY_REGION_MAP };
	struct user_message reset = *message, reply = { .payload = s->buffer };

	if (message->header.command != USER_DEVICE_RESET)
		return false;
	server_send(s, &header, &wish.map, sizeof(wish.map), NULL, 0, &wish.fd, wish.fd >= 0);
	if (!user_socket_receive(s->fd, &reply, SERVER_WAIT_MS) && reply.header.id == header.id &&
	    reply.header.command == header.command && !reply.payload_size) {
		wish.flags = reply.header.flags;
		wish.error = reply.header.error;
	}
	server_reply(s, &reset, NULL, 0, NULL, 0, NULL, 0);
	return true;
}

static int take_map(void *opaque, const struct vfio_region_map *map, vfio_mapped done, void *token)
{
	wishes++;
	return map->offset == 0x5000 ? -ENOSPC : 0;
}

static int take_unmap(void *opaque, uint32_t index, uint64_t offset, uint64_t size,
		      vfio_mapped done, void *token)
{
	wishes++;
	return -ENOENT;
}

static const struct vfio_mapper wish_mapper = { .map = take_map, .unmap = take_unmap };

static int wish_for(uint32_t region, uint64_t offset, uint64_t size, uint64_t file_offset, int fd)
{
	wish.map = (struct user_region_map){ .argsz = sizeof(wish.map),
					     .region = region,
					     .offset = offset,
					     .size = size,
					     .file_offset = file_offset };
	wish.fd = fd;
	wish.flags = ~0u;
	assert_int_equal(client->ops->reset(client), 0);
	assert_int_equal(wish.flags & ~(uint32_t)USER_FLAG_ERROR, USER_TYPE_REPLY);
	return -(int)wish.error;
}

static void what_is_shown_lies_in_a_bar_and_in_its_file(void **state)
{
	int fd = memfd_create("blob", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 8 * KIB), 0);
	server.hook = wish_hook;
	fake_connect();
	client->ops->set_mapper(client, &wish_mapper, NULL);
	wishes = 0;
	/* BAR 0 has 64 KiB; the others nothing; the ROM and config space are no BARs. */
	assert_int_equal(wish_for(0, 64 * KIB, 4096, 0, fd), -EINVAL);
	assert_int_equal(wish_for(0, 60 * KIB, 8192, 0, fd), -EINVAL);
	assert_int_equal(wish_for(0, 4096, UINT64_MAX - 4095, 0, fd), -EINVAL);
	assert_int_equal(wish_for(0, UINT64_MAX - 4095, 4096, 0, fd), -EINVAL);
	assert_int_equal(wish_for(1, 0, 4096, 0, fd), -EINVAL);
	assert_int_equal(wish_for(VFIO_PCI_ROM_REGION_INDEX, 0, 4096, 0, fd), -EINVAL);
	assert_int_equal(wish_for(VFIO_PCI_CONFIG_REGION_INDEX, 0, 4096, 0, fd), -EINVAL);
	assert_int_equal(wish_for(UINT32_MAX, 0, 4096, 0, fd), -EINVAL);
	assert_int_equal(wish_for(0, 0, 0, 0, fd), -EINVAL);
	assert_int_equal(wish_for(0, 1, 4096, 0, fd), -EINVAL);
	assert_int_equal(wish_for(0, 0, 4095, 0, fd), -EINVAL);
	assert_int_equal(wish_for(0, 0, 4096, 1, fd), -EINVAL);
	assert_int_equal(wish_for(0, 0, 12 * KIB, 0, fd), -EFBIG);
	assert_int_equal(wish_for(0, 0, 4096, 8 * KIB, fd), -EFBIG);
	assert_int_equal(wish_for(0, 64 * KIB, 4096, 0, -1), -EINVAL);
	assert_int_equal(wishes, 0);
	/* What the mapper says is the answer. */
	assert_int_equal(wish_for(0, 0x3000, 8192, 0, fd), 0);
	assert_int_equal(wish_for(0, 0x5000, 4096, 4096, fd), -ENOSPC);
	assert_int_equal(wish_for(0, 0x3000, 8192, 0, -1), -ENOENT);
	assert_int_equal(wishes, 3);
	close(fd);
}

/* ---- threads ------------------------------------------------------------------------------- */

#define THREADS 4
#define ROUNDS	300

static void *access_own_register(void *arg)
{
	const uint64_t offset = 0x3000 + (uintptr_t)arg * 8;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		uint64_t value = i << 8 | (uintptr_t)arg, got = 0;

		if (client->ops->region_write(client, 0, offset, &value, 8) != 8 ||
		    client->ops->region_read(client, 0, offset, &got, 8) != 8 || got != value)
			return (void *)1;
	}
	return NULL;
}

static void several_threads_each_get_their_own_answers(void **state)
{
	pthread_t threads[THREADS];

	fake_connect();
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, access_own_register, (void *)i),
				 0);
	for (unsigned i = 0; i < THREADS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		assert_null(result);
	}
}

/* Two requests answered in the other order. */
static struct user_message kept_message;
static uint8_t kept_payload[64];
static unsigned held;

static bool swap_hook(struct server *s, struct user_message *message)
{
	struct user_region_access access;
	uint64_t value;

	if (message->header.command != USER_REGION_READ)
		return false;
	if (!held++) {
		kept_message = *message;
		memcpy(kept_payload, message->payload, sizeof(access));
		return true;
	}
	memcpy(&access, message->payload, sizeof(access));
	value = access.offset;
	server_reply(s, message, &access, sizeof(access), &value, 8, NULL, 0);
	memcpy(&access, kept_payload, sizeof(access));
	value = access.offset;
	server_reply(s, &kept_message, &access, sizeof(access), &value, 8, NULL, 0);
	return true;
}

static void *read_offset(void *arg)
{
	uint64_t got = 0;

	client->ops->region_read(client, 0, (uintptr_t)arg, &got, 8);
	return (void *)(uintptr_t)got;
}

static void answers_find_their_requests_by_message_id(void **state)
{
	pthread_t threads[2];
	void *result;

	held = 0;
	server.hook = swap_hook;
	fake_connect();
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, read_offset, (void *)(0x100 + i * 8));
	for (uintptr_t i = 0; i < 2; i++) {
		pthread_join(threads[i], &result);
		assert_int_equal((uintptr_t)result, 0x100 + i * 8);
	}
}

/* ---- connecting ---------------------------------------------------------------------------- */

static void expect_no_server(const char *where, int err)
{
	struct vfio_device *device = NULL;
	struct error e = { 0 };

	assert_int_equal(vfio_user_open(where, &device, &e), err);
	assert_string_equal(e.code, "no-vfio-user-socket");
	assert_null(device);
}

static void a_socket_that_is_not_there_is_named(void **state)
{
	char long_path[200];

	expect_no_server("/tmp/test-vfio-user-is-not-there", -ENOENT);
	expect_no_server("/dev/null", -ECONNREFUSED);
	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	expect_no_server(long_path, -ENAMETOOLONG);
}

int main(void)
{
#define DISK(f) cmocka_unit_test_setup_teardown(f, disk_setup, disk_teardown)
#define FAKE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		DISK(a_served_disk_is_written_and_read_through_the_socket),
		DISK(the_servers_eventfds_ring_its_doorbells),
		DISK(a_served_disk_works_again_after_its_reset),
		DISK(memory_that_is_taken_back_is_unmapped_by_the_server),
		FAKE(the_device_is_what_the_server_says),
		FAKE(registers_are_read_and_written),
		FAKE(long_accesses_go_in_parts_that_the_server_takes),
		FAKE(what_the_server_refuses_is_an_errno_and_no_end),
		FAKE(a_refusal_without_a_proper_errno_is_an_input_output_error),
		FAKE(a_device_without_reset_says_so),
		FAKE(a_mapped_area_is_the_servers_memory),
		FAKE(an_area_is_found_where_the_region_begins_in_its_file),
		FAKE(what_is_outside_the_areas_is_not_mapped),
		FAKE(a_region_whose_file_is_not_enough_memory_goes_by_messages),
		FAKE(eventfds_go_in_batches_and_holes_by_themselves),
		FAKE(a_batch_that_is_refused_takes_back_those_before),
		FAKE(interrupts_that_cannot_be_resized_are_not_set_in_parts),
		FAKE(interrupts_are_switched_off_and_what_is_not_there_is_refused),
		FAKE(the_server_reads_and_writes_guest_memory_while_it_is_asked),
		FAKE(the_server_reads_guest_memory_while_nobody_asks_it),
		FAKE(an_answer_that_is_not_wanted_is_not_sent),
		FAKE(what_is_no_guest_memory_is_refused_and_nothing_written),
		FAKE(a_command_that_is_not_known_is_answered_with_an_error),
		FAKE(what_is_shown_lies_in_a_bar_and_in_its_file),
		FAKE(several_threads_each_get_their_own_answers),
		FAKE(answers_find_their_requests_by_message_id),
		FAKE(a_socket_that_is_not_there_is_named),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
