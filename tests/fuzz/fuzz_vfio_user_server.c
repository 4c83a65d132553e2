// SPDX-License-Identifier: Apache-2.0
/*
 * A vfio-user client that says anything: the server sends it away or serves it, and whatever came, the device was
 * only asked what it may be asked, every range it was told of can be touched, and nothing is left
 * when the client is gone.
 *
 * Input: steps of a byte that says what is sent and how (a good message of a command, one with bytes of the
 * input over it, raw bytes; whole or in two parts; with up to three descriptors of a palette), or that the
 * device asks for a map, or that the last such request is answered. The loop runs between them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mdev/server/server.h"

#define BAR_SIZE    UINT64_C(0x10000)
#define MEMORY_SIZE UINT64_C(0x10000)
#define VECTORS	    6

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

/* ---- the device ---------------------------------------------------------------------------- */

static struct {
	struct vfio_device device;
	int bar_fd;
	uint8_t *bar;
	struct server_range ranges[SERVER_RANGES_MAX];
	unsigned count;
	bool armed[VFIO_PCI_NUM_IRQS];
	const struct vfio_mapper *mapper;
	void *mapper_opaque;
	unsigned under_way;
} made_up;

static int get_region(struct vfio_device *device, uint32_t index, struct vfio_region *region)
{
	check(index < VFIO_PCI_NUM_REGIONS);
	memset(region, 0, sizeof(*region));
	if (index == 0)
		*region = (struct vfio_region){ .size = BAR_SIZE,
						.flags = VFIO_REGION_INFO_FLAG_READ |
							 VFIO_REGION_INFO_FLAG_WRITE |
							 VFIO_REGION_INFO_FLAG_MMAP,
						.area_count = 1,
						.areas[0] = { 0x1000, 0x2000 } };
	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		*region = (struct vfio_region){ .size = 256, .flags = VFIO_REGION_INFO_FLAG_READ };
	return 0;
}

static uint64_t region_size(uint32_t index)
{
	return index == 0 ? BAR_SIZE : index == VFIO_PCI_CONFIG_REGION_INDEX ? 256 : 0;
}

static ssize_t region_read(struct vfio_device *device, uint32_t index, uint64_t offset, void *buf,
			   size_t count)
{
	check(offset < region_size(index) && count && count <= region_size(index) - offset);
	memcpy(buf, made_up.bar + offset, count);
	return (ssize_t)count;
}

static ssize_t region_write(struct vfio_device *device, uint32_t index, uint64_t offset,
			    const void *buf, size_t count)
{
	check(!index && offset < BAR_SIZE && count && count <= BAR_SIZE - offset);
	memcpy(made_up.bar + offset, buf, count);
	return (ssize_t)count;
}

static int get_irq(struct vfio_device *device, uint32_t index, struct vfio_irq *irq)
{
	check(index < VFIO_PCI_NUM_IRQS);
	*irq = (struct vfio_irq){ 0 };
	if (index == VFIO_PCI_MSIX_IRQ_INDEX)
		*irq = (struct vfio_irq){ VECTORS, VFIO_IRQ_INFO_EVENTFD };
	if (index == VFIO_PCI_INTX_IRQ_INDEX)
		*irq = (struct vfio_irq){ 1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE };
	return 0;
}

static int set_irqs(struct vfio_device *device, uint32_t flags, uint32_t index, uint32_t start,
		    uint32_t count, const void *data)
{
	const uint8_t *bools = data;
	const int32_t *fds = data;
	struct vfio_irq irq;

	get_irq(device, index, &irq);
	check(start <= irq.count && count <= irq.count - start);
	check(!(flags & VFIO_IRQ_SET_DATA_NONE) == (data != NULL));
	for (uint32_t i = 0; i < count && data; i++) {
		/* All bytes are there, and a descriptor can be signalled without waiting. */
		if (flags & VFIO_IRQ_SET_DATA_BOOL)
			made_up.bar[0] = bools[i];
		else if (fds[i] >= 0)
			check(!eventfd_write(fds[i], 1) || errno == EAGAIN);
	}
	made_up.armed[index] = flags & VFIO_IRQ_SET_DATA_EVENTFD && count && fds[0] >= 0;
	return 0;
}

static int reset(struct vfio_device *device)
{
	if (made_up.mapper)
		made_up.mapper->unmap(made_up.mapper_opaque, 0, 0, 4096, NULL, NULL);
	return 0;
}

static int dma_map(struct vfio_device *device, uint64_t iova, uint64_t size, void *hva, int fd,
		   uint64_t fd_offset)
{
	check(made_up.count < SERVER_RANGES_MAX && size && hva);
	/* The first byte and the last: a file that is shorter would end this. */
	((volatile uint8_t *)hva)[0] ^= 1;
	((volatile uint8_t *)hva)[size - 1] ^= 1;
	made_up.ranges[made_up.count++] = (struct server_range){ iova, size, hva };
	return 0;
}

static int dma_unmap(struct vfio_device *device, uint64_t iova, uint64_t size)
{
	for (unsigned i = 0; i < made_up.count; i++) {
		const struct server_range *range = &made_up.ranges[i];

		if (range->iova != iova || range->size != size)
			continue;
		((volatile uint8_t *)range->hva)[size - 1] ^= 1;
		made_up.ranges[i] = made_up.ranges[--made_up.count];
		return 0;
	}
	check(false);
	return -ENOENT;
}

static int get_io_fds(struct vfio_device *device, uint32_t index, struct vfio_io_fd *fds)
{
	fds[0] = (struct vfio_io_fd){ .offset = 0x20, .size = 4, .fd = made_up.bar_fd };
	return index == 0;
}

static int region_file(struct vfio_device *device, uint32_t index, uint64_t *offset)
{
	*offset = 0;
	return index ? -ENODEV : made_up.bar_fd;
}

static void set_mapper(struct vfio_device *device, const struct vfio_mapper *mapper, void *opaque)
{
	made_up.mapper = mapper;
	made_up.mapper_opaque = opaque;
}

static const struct vfio_device_ops ops = {
	.get_region = get_region,
	.region_read = region_read,
	.region_write = region_write,
	.get_irq = get_irq,
	.set_irqs = set_irqs,
	.reset = reset,
	.dma_map = dma_map,
	.dma_unmap = dma_unmap,
	.get_io_fds = get_io_fds,
	.region_file = region_file,
	.set_mapper = set_mapper,
};

static void on_mapped(void *token, int result)
{
	check(made_up.under_way && result <= 0 && result >= -4095);
	made_up.under_way--;
}

static void device_asks(uint64_t offset, uint64_t size)
{
	const struct vfio_region_map map = {
		.offset = offset, .size = size, .fd = made_up.bar_fd, .is_atomic = offset / 4096 % 2
	};
	int err;

	if (!made_up.mapper)
		return;
	err = made_up.mapper->map(made_up.mapper_opaque, &map, on_mapped, NULL);
	/* At once where the client has no such requests: then the server shows it by messages. */
	check(err <= 0);
	made_up.under_way += err == -EINPROGRESS;
}

/* ---- the client ---------------------------------------------------------------------------- */

struct input {
	const uint8_t *data;
	size_t size;
	int fd;
	uint16_t request_id, request_command; /* of the server's last request */
	struct user_receiver receiver;
};

static int palette[8];

static uint8_t take(struct input *in)
{
	if (!in->size)
		return 0;
	in->size--;
	return *in->data++;
}

static size_t take_bytes(struct input *in, void *to, size_t most)
{
	size_t count = take(in);

	count = MIN(count, MIN(most, in->size));
	memcpy(to, in->data, count);
	in->data += count;
	in->size -= count;
	return count;
}

/* A message of @command that is good, mostly; @variant changes what is worth changing. */
static size_t good_payload(uint16_t command, uint8_t variant, uint8_t *out)
{
	static const char json[] =
		"\0\0\1\0{\"capabilities\":{\"max_msg_fds\":8,\"divvy_region_map\":1}}";
	const struct user_dma_map map = { 32, 1 + variant % 3, (variant & 4) << 10,
					  0x100000 + variant * 0x1000ull,
					  0x1000ull << (variant & 3) };
	const struct user_dma_unmap unmap = { 24, variant == 255 ? 2 : 0,
					      variant == 255 ? 0 : map.address,
					      variant == 255 ? 0 : map.size };
	const struct user_device_info info = { .argsz = 16 };
	const struct vfio_region_info region = { .argsz = variant & 16 ? 32u : 4096u,
						 .index = variant & 15 };
	const struct user_region_io_fds io_fds = { .argsz = 4096, .index = variant };
	const struct vfio_irq_info irq = { .argsz = 16, .index = variant };
	const struct vfio_irq_set set = { .argsz = 20,
					  .flags = 1u << (variant & 1 ? 2 : 0) | 1u << 5,
					  .index = 2,
					  .start = variant >> 6,
					  .count = variant >> 2 & 3 };
	const struct user_region_access access = { variant * 16ull, variant & 1 ? 0 : 7, 8 };
	const struct {
		const void *bytes;
		size_t size;
	} table[] = {
		[USER_VERSION] = { json, sizeof(json) },
		[USER_DMA_MAP] = { &map, sizeof(map) },
		[USER_DMA_UNMAP] = { &unmap, sizeof(unmap) },
		[USER_DEVICE_GET_INFO] = { &info, sizeof(info) },
		[USER_DEVICE_GET_REGION_INFO] = { &region, sizeof(region) },
		[USER_DEVICE_GET_REGION_IO_FDS] = { &io_fds, sizeof(io_fds) },
		[USER_DEVICE_GET_IRQ_INFO] = { &irq, sizeof(irq) },
		[USER_DEVICE_SET_IRQS] = { &set, sizeof(set) },
		[USER_REGION_READ] = { &access, sizeof(access) },
		[USER_REGION_WRITE] = { &access, sizeof(access) },
		[USER_DEVICE_RESET] = { NULL, 0 },
	};

	if (command >= ARRAY_SIZE(table) || !table[command].size)
		return 0;
	memcpy(out, table[command].bytes, table[command].size);
	return table[command].size + (command == USER_REGION_WRITE ? 8 : 0);
}

static void send_bytes(const struct input *in, const void *bytes, size_t size, const int *fds,
		       unsigned fd_count)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, size }, *at = &iov;
	unsigned count = 1;

	user_socket_send_some(in->fd, &at, &count, fds, &fd_count);
}

/* What the server said is read and dropped; its requests are remembered. Returns whether there was something. */
static bool drain(struct input *in)
{
	const struct user_header *header = &in->receiver.message.header;
	const size_t before = in->receiver.got;
	bool some = false;

	while (user_socket_receive_some(in->fd, &in->receiver) > 0) {
		some = true;
		if ((header->flags & USER_FLAG_TYPE) == USER_TYPE_COMMAND) {
			in->request_id = header->id;
			in->request_command = header->command;
		}
		user_message_drop(&in->receiver.message);
	}
	return some || in->receiver.got != before;
}

static void step(struct input *in)
{
	struct {
		struct user_header header;
		uint8_t payload[512];
	} message = { 0 };
	const uint8_t what = take(in), how = take(in), variant = take(in);
	int fds[3] = { palette[variant & 7], palette[variant >> 3 & 7], palette[how >> 5] };
	unsigned fd_count = how >> 2 & 3;
	size_t size;

	if (what == 0xff) {
		device_asks(variant * 0x1000ull, 0x1000ull << (how & 3));
		return;
	}
	message.header.command = what & 15;
	if (what & 0x40) {
		message.header.command = in->request_command;
		message.header.id = in->request_id;
		message.header.flags = USER_TYPE_REPLY;
		if (what & 1)
			message.header.flags |= USER_FLAG_ERROR;
		message.header.error = variant;
	}
	size = what & 0x40 ? 0 : good_payload(message.header.command, variant, message.payload);
	if (message.header.command == USER_DMA_MAP ||
	    message.header.command == USER_DEVICE_SET_IRQS)
		fd_count = MAX(fd_count, 1u);
	if (what & 0x20) {
		const size_t end = take_bytes(in, message.payload + (variant & 31), 256);

		size = MAX(size, end + (variant & 31));
	}
	message.header.size = (uint32_t)(sizeof(message.header) + size);
	if (what & 0x80)
		take_bytes(in, &message.header, sizeof(message.header));
	size += sizeof(message.header);
	if (how & 1) {
		send_bytes(in, &message, size / 2, fds, fd_count);
		send_bytes(in, (uint8_t *)&message + size / 2, size - size / 2, fds, how & 2);
	} else {
		send_bytes(in, &message, size, fds, fd_count);
	}
}

/* ---- one input ----------------------------------------------------------------------------- */

static sd_event *event;

static void run_loop(void)
{
	for (unsigned i = 0; i < 64 && sd_event_run(event, 0) > 0; i++)
		;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int pipes[2];

	log_set_level(LOG_LEVEL_ERROR);
	made_up.device =
		(struct vfio_device){ .ops = &ops,
				      .name = "fuzz",
				      .region_count = VFIO_PCI_NUM_REGIONS,
				      .irq_count = VFIO_PCI_NUM_IRQS,
				      .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET };
	made_up.bar_fd = memfd_create("bar", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	check(!ftruncate(made_up.bar_fd, (off_t)BAR_SIZE));
	check(!fcntl(made_up.bar_fd, F_ADD_SEALS, F_SEAL_SHRINK));
	made_up.bar = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, made_up.bar_fd, 0);
	check(made_up.bar != MAP_FAILED);
	palette[0] = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	palette[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	palette[2] = memfd_create("cannot be sealed", MFD_CLOEXEC);
	palette[3] = memfd_create("short", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	palette[4] = open("/dev/null", O_RDWR | O_CLOEXEC);
	check(!pipe2(pipes, O_CLOEXEC | O_NONBLOCK));
	palette[5] = pipes[1];
	palette[6] = palette[0];
	palette[7] = palette[1];
	check(!ftruncate(palette[0], (off_t)MEMORY_SIZE) && !ftruncate(palette[2], 4096) &&
	      !ftruncate(palette[3], 100));
	check(sd_event_new(&event) >= 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct mdev_server_options options = { .timeout_ms = 60000 };
	static uint8_t payload[USER_PAYLOAD_MAX];
	struct input in = { .data = data, .size = size, .receiver.message.payload = payload };
	struct mdev_server *server;
	int pair[2], lowest = dup(0), after;

	check(lowest >= 0);
	close(lowest);
	check(!mdev_server_create(event, &made_up.device, &options, &server, NULL));
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	in.fd = pair[0];
	check(!mdev_server_attach(server, pair[1], NULL));
	while (in.size && mdev_server_attached(server)) {
		step(&in);
		/* Answers may be more than a socket holds. */
		do
			run_loop();
		while (drain(&in));
	}
	user_message_drop(&in.receiver.message);
	close(pair[0]);
	run_loop();
	check(!mdev_server_attached(server));
	check(!made_up.count && !made_up.mapper && !made_up.under_way);
	for (unsigned i = 0; i < VFIO_PCI_NUM_IRQS; i++)
		check(!made_up.armed[i]);
	mdev_server_destroy(server);
	after = dup(0);
	check(after == lowest);
	close(after);
	return 0;
}
