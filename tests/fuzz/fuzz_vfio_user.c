// SPDX-License-Identifier: Apache-2.0
/*
 * A vfio-user server that says anything: the client opens, is used and is closed, and whatever came, it
 * kept no descriptor, told of no area outside its region and waited no longer than its limit.
 *
 * Input: one step for each request of the client's. The low three bits of its first byte say how it is
 * answered: properly (0 to 2), with a byte changed, with a payload of the input's, with raw bytes, after
 * a request of the server's own, or with descriptors. When the input ends the server hangs up.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "vfio/user_client.h"

#define TIMEOUT_MS 20u
#define BAR_SIZE   UINT64_C(0x10000)
#define DMA_BASE   UINT64_C(0x100000)
#define DMA_SIZE   UINT64_C(0x2000)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int bar_fd, guest_fd, doorbell;
static uint8_t *guest;

static void check(bool good)
{
	if (!good)
		abort();
}

/* ---- the server ---------------------------------------------------------------------------- */

struct input {
	const uint8_t *data;
	size_t size;
	int fd;
};

static uint8_t take(struct input *in)
{
	if (!in->size)
		return 0;
	in->size--;
	return *in->data++;
}

static size_t take_bytes(struct input *in, uint8_t *to, size_t most)
{
	size_t count = take(in);

	count = MIN(count, MIN(most, in->size));
	memcpy(to, in->data, count);
	in->data += count;
	in->size -= count;
	return count;
}

static void send_bytes(const struct input *in, const void *bytes, size_t size, unsigned fd_count)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, size };
	int fds[USER_FDS_MAX] = { 0 };

	for (unsigned i = 0; i < fd_count; i++)
		fds[i] = i & 1 ? doorbell : bar_fd;
	user_socket_send(in->fd, &iov, 1, fds, fd_count,
			 monotonic_ns() + TIMEOUT_MS * UINT64_C(1000000));
}

/* What a good server would answer to @request, behind its header. Returns how long it is. */
static size_t good_payload(const uint8_t *request, uint16_t command, uint8_t *out, unsigned *fds)
{
	static const char version[] =
		"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":3,\"divvy_region_map\":1}}";
	struct user_region_access access;
	uint32_t index;

	memcpy(&index, request + 8, sizeof(index));
	memcpy(&access, request, sizeof(access));
	switch (command) {
	case USER_VERSION:
		memcpy(out, version, sizeof(version));
		return sizeof(version);
	case USER_DEVICE_GET_INFO: {
		const struct user_device_info info = {
			16, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET, 9, 5
		};

		memcpy(out, &info, sizeof(info));
		return sizeof(info);
	}
	case USER_DEVICE_GET_REGION_INFO: {
		const struct {
			struct vfio_region_info info;
			struct vfio_info_cap_header cap;
			uint32_t areas, reserved;
			struct vfio_region_sparse_mmap_area area;
		} reply = {
			.info = { .argsz = sizeof(reply),
				  .index = index,
				  .size = index == 0   ? BAR_SIZE
					  : index == 7 ? 4096
						       : 0,
				  .flags = index == 0 ? 15 : 3,
				  .cap_offset = sizeof(reply.info) },
			.cap = { VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0 },
			.areas = 1,
			.area = { 0x1000, 0x1000 },
		};

		*fds = index == 0;
		memcpy(out, &reply, sizeof(reply));
		return sizeof(reply);
	}
	case USER_DEVICE_GET_REGION_IO_FDS: {
		const struct user_region_io_fds head = { 56, 0, index, 1 };
		const struct user_io_fd sub = { .offset = 16, .size = 4, .fd_index = 1 };

		*fds = 2;
		memcpy(out, &head, sizeof(head));
		memcpy(out + sizeof(head), &sub, sizeof(sub));
		return sizeof(head) + sizeof(sub);
	}
	case USER_DEVICE_GET_IRQ_INFO: {
		const struct vfio_irq_info info = { 16, VFIO_IRQ_INFO_EVENTFD, index, 5 };

		memcpy(out, &info, sizeof(info));
		return sizeof(info);
	}
	case USER_REGION_READ:
		memcpy(out, &access, sizeof(access));
		memset(out + sizeof(access), 0x5a, MIN(access.count, 4096u));
		return sizeof(access) + MIN(access.count, 4096u);
	case USER_REGION_WRITE:
		memcpy(out, &access, sizeof(access));
		return sizeof(access);
	case USER_DMA_UNMAP:
		memcpy(out, request, sizeof(struct user_dma_unmap));
		return sizeof(struct user_dma_unmap);
	default:
		return 0;
	}
}

/* The extension of ours: a map or an unmap, well-formed but for what the input changes. */
static void ask_map(struct input *in, bool to_map)
{
	struct {
		struct user_header header;
		struct user_region_map map;
	} bytes = { .header = { .command = to_map ? USER_DIVVY_REGION_MAP : USER_DIVVY_REGION_UNMAP,
				.size = sizeof(bytes) },
		    .map = { .argsz = sizeof(bytes.map) } };
	const uint8_t how = take(in);

	bytes.map.region = how & 3;
	bytes.map.offset = take(in) * UINT64_C(0x1000);
	bytes.map.size = take(in) * UINT64_C(0x1000);
	bytes.map.file_offset = to_map ? (how >> 4) * UINT64_C(0x1000) : 0;
	if (how & 4)
		take_bytes(in, (uint8_t *)&bytes.map, sizeof(bytes.map));
	send_bytes(in, &bytes, sizeof(bytes), to_map ? 1 : how >> 3 & 1);
}

static void ask(struct input *in)
{
	static const uint64_t bases[] = { DMA_BASE, DMA_BASE + DMA_SIZE - 4, 0, UINT64_MAX };
	struct {
		struct user_header header;
		struct user_dma_access access;
		uint8_t data[256];
	} bytes = { 0 };
	size_t size;

	bytes.header.id = take(in);
	bytes.header.command = take(in);
	if (bytes.header.command >= 0xf0) {
		ask_map(in, bytes.header.command & 1);
		return;
	}
	bytes.header.command %= 16;
	bytes.header.flags = take(in) & USER_FLAG_NO_REPLY;
	bytes.access.address = bases[take(in) % 4] + take(in);
	bytes.access.count = take(in);
	size = take_bytes(in, bytes.data, sizeof(bytes.data));
	bytes.header.size = (uint32_t)(offsetof(typeof(bytes), data) + size);
	send_bytes(in, &bytes, bytes.header.size, 0);
}

static void change(struct input *in, uint8_t *bytes, size_t size)
{
	size_t at = take(in) % size;

	bytes[at] ^= take(in);
}

static void answer(struct input *in, const struct user_header *header, const uint8_t *request)
{
	union {
		struct user_header header;
		uint8_t bytes[sizeof(struct user_header) + 8192];
	} out = { .header = *header };
	uint8_t how = take(in), *payload = out.bytes + sizeof(out.header);
	unsigned fds = 0;
	size_t size;

	out.header.flags = USER_TYPE_REPLY;
	size = sizeof(out.header) + good_payload(request, header->command, payload, &fds);
	if ((how & 7) == 4)
		size = sizeof(out.header) + take_bytes(in, payload, 256);
	out.header.size = (uint32_t)size;
	switch (how & 7) {
	case 3:
		for (unsigned i = 0; i < 1u + (how >> 6); i++)
			change(in, out.bytes, size);
		break;
	case 5:
		size = take_bytes(in, out.bytes, sizeof(out.bytes));
		break;
	case 6:
		ask(in);
		break;
	case 7:
		fds = take(in) % (USER_FDS_MAX + 1);
		break;
	}
	if (how & 8 && size > 1) {
		send_bytes(in, out.bytes, size / 2, fds);
		send_bytes(in, out.bytes + size / 2, size - size / 2, how & 16 ? fds : 0);
	} else if (size) {
		send_bytes(in, out.bytes, size, fds);
	}
}

static void *server_main(void *arg)
{
	struct user_message message = { .payload = malloc(USER_PAYLOAD_MAX) };
	const struct timeval limit = { .tv_usec = TIMEOUT_MS * 2000 };
	struct input *in = arg;

	check(message.payload);
	memset(message.payload, 0, 64);
	setsockopt(in->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	while (in->size && !user_socket_receive(in->fd, &message, TIMEOUT_MS)) {
		user_message_drop(&message);
		/* An answer to what we asked needs none. */
		if ((message.header.flags & USER_FLAG_TYPE) == USER_TYPE_COMMAND)
			answer(in, &message.header, message.payload);
	}
	shutdown(in->fd, SHUT_RDWR);
	free(message.payload);
	return NULL;
}

/* ---- the client ---------------------------------------------------------------------------- */

/* What is passed on lies in the region and is in the file: the last byte can be touched. */
static int on_map(void *opaque, const struct vfio_region_map *map, vfio_mapped done, void *token)
{
	struct vfio_device *device = opaque;
	struct vfio_region region;
	volatile uint8_t *at;

	check(!device->ops->get_region(device, map->index, &region));
	check(map->size && map->offset < region.size && map->size <= region.size - map->offset);
	at = mmap(NULL, map->size, PROT_READ, MAP_SHARED, map->fd, (off_t)map->fd_offset);
	if (at == MAP_FAILED)
		return -errno;
	(void)at[map->size - 1];
	munmap((void *)(uintptr_t)at, map->size);
	return 0;
}

static int on_unmap(void *opaque, uint32_t index, uint64_t offset, uint64_t size, vfio_mapped done,
		    void *token)
{
	return -ENOENT;
}

static const struct vfio_mapper mapper = { .map = on_map, .unmap = on_unmap };

static void use(struct vfio_device *device)
{
	const struct vfio_device_ops *ops = device->ops;
	static uint8_t bytes[4096];
	struct vfio_io_fd io_fds[VFIO_IO_FDS_MAX];
	int32_t fds[6] = { doorbell, doorbell, -1, doorbell, doorbell, doorbell };
	struct vfio_irq irq;

	check(device->region_count <= USER_REGIONS_MAX && device->irq_count <= USER_IRQS_MAX);
	ops->set_mapper(device, &mapper, device);
	for (uint32_t i = 0; i < device->region_count; i++) {
		struct vfio_region region;
		int count;

		check(!ops->get_region(device, i, &region));
		check(region.area_count <= VFIO_SPARSE_AREAS_MAX);
		for (unsigned j = 0; j < region.area_count; j++) {
			const struct vfio_area *area = &region.areas[j];
			void *at;

			check(area->size && area->offset < region.size &&
			      area->size <= region.size - area->offset);
			if (area->size > BAR_SIZE)
				continue;
			at = mmap(NULL, BAR_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			check(at != MAP_FAILED);
			/* Within the file, since the client has looked at its size. */
			if (!ops->region_mmap(device, i, area->offset, area->size, at) &&
			    region.flags & VFIO_REGION_INFO_FLAG_READ)
				memcpy(bytes, at, MIN(area->size, sizeof(bytes)));
			munmap(at, BAR_SIZE);
		}
		count = ops->get_io_fds(device, i, io_fds);
		check(count >= 0 && count <= VFIO_IO_FDS_MAX);
		for (int j = 0; j < count; j++)
			check(io_fds[j].offset < region.size && fcntl(io_fds[j].fd, F_GETFD) >= 0);
	}
	for (uint32_t i = 0; i < device->irq_count; i++)
		check(!ops->get_irq(device, i, &irq) && irq.count <= VFIO_PCI_VECTORS_MAX);
	ops->dma_map(device, DMA_BASE, DMA_SIZE, guest, guest_fd, 0);
	ops->set_irqs(device, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		      VFIO_PCI_MSIX_IRQ_INDEX, 0, 5, fds);
	ops->region_write(device, 0, 0x20, bytes, 4);
	ops->region_read(device, 0, 0x20, bytes, 8);
	ops->region_read(device, VFIO_PCI_CONFIG_REGION_INDEX, 0, bytes, 256);
	ops->reset(device);
	ops->dma_unmap(device, DMA_BASE, DMA_SIZE);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	bar_fd = memfd_create("bar", MFD_CLOEXEC);
	guest_fd = memfd_create("guest", MFD_CLOEXEC);
	doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(!ftruncate(bar_fd, (off_t)BAR_SIZE) && !ftruncate(guest_fd, (off_t)DMA_SIZE));
	guest = mmap(NULL, DMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, guest_fd, 0);
	check(guest != MAP_FAILED);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .size = size };
	struct vfio_device *device;
	int pair[2], lowest = dup(0), after;
	pthread_t thread;

	check(lowest >= 0);
	close(lowest);
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	in.fd = pair[1];
	check(!pthread_create(&thread, NULL, server_main, &in));
	if (!vfio_user_attach(pair[0], "fuzz", TIMEOUT_MS, &device, NULL)) {
		check(!vfio_device_start(device, NULL));
		use(device);
		vfio_device_close(device);
	}
	pthread_join(thread, NULL);
	close(pair[1]);
	/* Several kept would show here too: the lowest that is free is the first that leaked. */
	after = dup(0);
	check(after == lowest);
	close(after);
	return 0;
}
