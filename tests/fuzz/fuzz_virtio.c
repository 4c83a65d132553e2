// SPDX-License-Identifier: Apache-2.0
/*
 * A guest against whole virtio devices: common and device configuration, the window in config space,
 * notifications, rings with requests of the device's kind, interrupts taken away and given, memory
 * unmapped and mapped, resets, and guest memory that changes while it is read.
 *
 * Checked beside the sanitizers: guest memory lies between pages that fault, a read-only disk stays as it
 * was and none grows, a reset leaves status 0, and no descriptor is left.
 *
 * Input: which device (bits 0-2) and whether memory changes by itself (bit 7), then steps: an opcode and
 * its operands; what is missing reads as zero. Devices live as long as the process: they are reset
 * after each input.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
/* The ABI's name for its config is that of our public header. */
#define virtio_blk_config virtio_blk_config_space
#include <linux/virtio_blk.h>
#undef virtio_blk_config
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdev/mdev.h"
#include "mdev/virtio.h"
#include "tests/fuzz/input.h"

#define BASE	   UINT64_C(0x100000)
#define SIZE	   UINT64_C(0x10000)
#define HALF	   (SIZE / 2)
#define PAGE	   0x1000u
#define DISK_SIZE  (64 * KIB)
#define STEPS_MAX  256
#define QUEUE_SIZE 16u
#define QUEUE_STEP 0x1000u /* rings of a queue: descriptors, available, used a quarter each */
#define SPIN_MAX   2000

enum kind {
	DISK,
	DISK_READONLY,
	RNG,
	CONSOLE,
	NET,
	KINDS
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vfio_device *devices[KINDS];
static uint8_t *memory;
static int memory_fd, doorbell, console_in, disks[2];
static uint16_t added[VIRTIO_QUEUES_MAX]; /* chains; packed rings: descriptors */
static bool packed;

static void check(bool good)
{
	if (!good)
		abort();
}

/* ---- the machine around the devices --------------------------------------------------------- */

static void make_memory(void)
{
	uint8_t *area = mmap(NULL, SIZE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memory_fd = memfd_create("guest", MFD_CLOEXEC);
	check(area != MAP_FAILED && memory_fd >= 0 && !ftruncate(memory_fd, (off_t)SIZE));
	memory = area + PAGE;
	check(mmap(memory, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory_fd, 0) ==
	      memory);
}

static struct vfio_device *make_disk(bool readonly)
{
	struct virtio_blk_config config = { .readonly = readonly };
	struct vfio_device *device;
	char path[32];
	int fd = memfd_create("disk", MFD_CLOEXEC);

	check(fd >= 0 && !ftruncate(fd, DISK_SIZE));
	disks[readonly] = fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	config.path = path;
	check(!virtio_blk_create(&config, &device, NULL));
	return device;
}

static struct vfio_device *make_console(void)
{
	struct vfio_device *device;
	int in[2], out = open("/dev/null", O_WRONLY | O_CLOEXEC);

	check(out >= 0 && !pipe2(in, O_CLOEXEC | O_NONBLOCK));
	check(!virtio_console_create(in[0], out, &device, NULL));
	console_in = in[1];
	return device;
}

/* A tap in a network namespace of this process; NULL where there is none to be had. */
static struct vfio_device *make_net(void)
{
	const struct virtio_net_config config = { .tap = "divvyfuzz0" };
	struct ifreq request = { .ifr_name = "divvyfuzz0", .ifr_flags = IFF_UP };
	struct vfio_device *device;
	int fd;

	if (unshare(CLONE_NEWNET) || virtio_net_create(&config, &device, NULL))
		return NULL;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	check(fd >= 0 && !ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
	return device;
}

static void map_half(struct vfio_device *device, unsigned half)
{
	device->ops->dma_map(device, BASE + half * HALF, HALF, memory + half * HALF, memory_fd,
			     half * HALF);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	log_set_level(LOG_LEVEL_ERROR);
	make_memory();
	doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(doorbell >= 0);
	devices[NET] = make_net();
	devices[DISK] = make_disk(false);
	devices[DISK_READONLY] = make_disk(true);
	check(!virtio_rng_create(&devices[RNG], NULL));
	devices[CONSOLE] = make_console();
	for (unsigned i = 0; i < KINDS; i++)
		check(!devices[i] || !vfio_device_start(devices[i], NULL));
	if (!devices[NET]) {
		log_error("no tap here: network devices are not fuzzed");
		devices[NET] = devices[RNG];
	}
	for (unsigned i = 0; i < KINDS; i++)
		for (unsigned half = 0; half < 2; half++)
			map_half(devices[i], half);
	return 0;
}

struct changer {
	bool stop;
	const uint8_t *data;
	size_t size;
};

/* A vCPU that writes to rings and requests while they are read. */
static void *change(void *arg)
{
	struct changer *changer = arg;

	for (size_t i = 0; !__atomic_load_n(&changer->stop, __ATOMIC_RELAXED); i++) {
		uint8_t value = changer->data[i % changer->size];

		__atomic_fetch_xor(memory + (i * 7 + value) % (2 * QUEUE_STEP), value,
				   __ATOMIC_RELAXED);
		__atomic_fetch_xor(memory + HALF + (i * 5 + value) % 512, value, __ATOMIC_RELAXED);
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

/* ---- what a driver does --------------------------------------------------------------------- */

static void bar_write(struct vfio_device *device, uint64_t offset, unsigned size, uint64_t value)
{
	device->ops->region_write(device, VIRTIO_BAR, offset, &value, size);
}

static uint64_t bar_read(struct vfio_device *device, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	device->ops->region_read(device, VIRTIO_BAR, offset, &value, size);
	return value;
}

/* Until the worker has taken what it was notified of, within reason, and has nothing in hand. */
static void settle(struct vfio_device *device)
{
	struct vfio_io_fd fds[VFIO_IO_FDS_MAX];
	int count = device->ops->get_io_fds(device, VIRTIO_BAR, fds);

	for (unsigned spin = 0; spin < SPIN_MAX; spin++) {
		bool waiting = false;

		for (int i = 0; i < count; i++) {
			struct pollfd poller = { .fd = fds[i].fd, .events = POLLIN };

			waiting |= poll(&poller, 1, 0) > 0;
		}
		if (!waiting)
			break;
		sched_yield();
	}
	device->ops->set_irqs(device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
			      VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL);
}

static uint64_t ring(unsigned queue)
{
	return BASE + queue % 4 * QUEUE_STEP;
}

/* From reset to running, as 3.1.1 has it, with what the input says in between. */
static void start(struct vfio_device *device, struct input *in)
{
	uint32_t features = (uint32_t)take(in, 4);
	unsigned queues = (unsigned)bar_read(device, VIRTIO_PCI_COMMON_NUMQ, 2);
	uint8_t last = (uint8_t)take(in, 1);

	packed = last & 0x20;
	bar_write(device, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	bar_write(device, VIRTIO_PCI_COMMON_STATUS, 1, 1);
	bar_write(device, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	bar_write(device, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	if (!(last & 1))
		features &= (uint32_t)bar_read(device, VIRTIO_PCI_COMMON_DF, 4);
	bar_write(device, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	bar_write(device, VIRTIO_PCI_COMMON_GF, 4, features);
	bar_write(device, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	bar_write(device, VIRTIO_PCI_COMMON_GF, 4,
		  UINT32_C(1) << (VIRTIO_F_VERSION_1 - 32) |
			  (uint32_t)packed << (VIRTIO_F_RING_PACKED - 32));
	bar_write(device, VIRTIO_PCI_COMMON_STATUS, 1, 11);
	bar_write(device, VIRTIO_PCI_COMMON_MSIX, 2, last >> 1 & 3);
	for (unsigned i = 0; i < queues; i++) {
		added[i] = 0;
		bar_write(device, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		bar_write(device, VIRTIO_PCI_COMMON_Q_SIZE, 2, QUEUE_SIZE);
		bar_write(device, VIRTIO_PCI_COMMON_Q_MSIX, 2, last >> 3 & 3);
		bar_write(device, VIRTIO_PCI_COMMON_Q_DESCLO, 8, ring(i));
		bar_write(device, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, ring(i) + QUEUE_STEP / 4);
		bar_write(device, VIRTIO_PCI_COMMON_Q_USEDLO, 8, ring(i) + QUEUE_STEP / 2);
		bar_write(device, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	bar_write(device, VIRTIO_PCI_COMMON_STATUS, 1, 15);
}

/* The flags that make descriptor @place, counted on from the start, available. */
static uint16_t packed_flags(unsigned place)
{
	return (uint16_t)(1u << (place / QUEUE_SIZE % 2 ? VRING_PACKED_DESC_F_USED
							: VRING_PACKED_DESC_F_AVAIL));
}

/* A chain of up to four descriptors, the last one a byte for a disk's status where asked for. */
static void publish(struct input *in, unsigned queue)
{
	uint8_t shape = (uint8_t)take(in, 1);
	unsigned count = (shape & 3) + 1;
	uint64_t rings = ring(queue) - BASE;
	struct vring_desc *table = (void *)(memory + rings);
	struct vring_avail *avail = (void *)(memory + rings + QUEUE_STEP / 4);
	uint16_t *chains = &added[queue % VIRTIO_QUEUES_MAX];
	unsigned head = (packed ? *chains : *chains * 4u) % QUEUE_SIZE;

	for (unsigned i = 0; i < count; i++) {
		bool last = i + 1 == count;
		struct vring_desc desc = {
			.addr = BASE + take(in, 2),
			.len = i == 0 && shape & 4 ? sizeof(struct virtio_blk_outhdr)
			       : last && shape & 8 ? 1
						   : (uint32_t)take(in, 2),
			.flags = (uint16_t)((last ? 0 : VRING_DESC_F_NEXT) |
					    (shape >> (4 + MIN(i, 3u)) & 1 ? VRING_DESC_F_WRITE
									   : 0)),
			.next = (uint16_t)((head + i + 1) % QUEUE_SIZE),
		};

		if (packed) {
			/* The ID where a split one has its flags, the flags behind it. */
			desc.next = desc.flags | packed_flags(*chains + i);
			desc.flags = (uint16_t)(head + i);
		}
		memcpy(&table[(head + i) % QUEUE_SIZE], &desc, sizeof(desc));
	}
	if (packed) {
		*chains = (uint16_t)(*chains + count);
		return;
	}
	avail->ring[(*chains)++ % QUEUE_SIZE] = (uint16_t)head;
	__atomic_store_n(&avail->idx, *chains, __ATOMIC_RELEASE);
}

/* The header of a disk's request, where the chain above may have its first descriptor. */
static void put_request(struct input *in)
{
	struct virtio_blk_outhdr header = {
		.type = (uint32_t)take(in, 1),
		.sector = take(in, 1),
	};
	uint64_t at = take(in, 2) % (SIZE - 64);
	uint8_t bytes[16];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i < 12 ? take(in, 1) : 0);
	memcpy(memory + at, &header, sizeof(header));
	memcpy(memory + at + sizeof(header), bytes, sizeof(bytes));
}

static void set_irqs(struct vfio_device *device, struct input *in)
{
	static const uint32_t kinds[] = { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
					  VFIO_IRQ_SET_DATA_BOOL, 0 };
	static const uint32_t actions[] = { VFIO_IRQ_SET_ACTION_TRIGGER,
					    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_MASK,
					    VFIO_IRQ_SET_ACTION_TRIGGER };
	uint8_t how = (uint8_t)take(in, 1), start = (uint8_t)take(in, 1),
		count = (uint8_t)take(in, 1);
	int32_t fds[UINT8_MAX + 1];

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = how >> (i % 4) & 0x10 ? -1 : doorbell;
	device->ops->set_irqs(device, kinds[how & 3] | actions[how >> 2 & 3],
			      how & 0x80 ? (uint32_t)take(in, 1) : VFIO_PCI_MSIX_IRQ_INDEX,
			      start & 0x80 ? 0xfffffff0u + start : start, count, fds);
}

static void step(struct vfio_device *device, struct input *in)
{
	uint8_t opcode = (uint8_t)take(in, 1);
	unsigned bytes = 1u << (opcode >> 4 & 3), length;
	uint64_t offset, value = 0;

	switch (opcode & 15) {
	case 0: /* anywhere in the BAR, and beyond it */
		offset = take(in, 2);
		bar_write(device, offset, bytes, take(in, bytes));
		break;
	case 1:
		bar_read(device, take(in, 2), bytes);
		break;
	case 2: /* config space, with the access window */
		offset = take(in, 1);
		value = take(in, MIN(bytes, 4u));
		device->ops->region_write(device, VFIO_PCI_CONFIG_REGION_INDEX, offset, &value,
					  MIN(bytes, 4u));
		break;
	case 3:
		device->ops->region_read(device, VFIO_PCI_CONFIG_REGION_INDEX, take(in, 1), &value,
					 MIN(bytes, 4u));
		break;
	case 4:
		offset = take(in, 2);
		length = (unsigned)take(in, 1);
		length = (unsigned)MIN(length, MIN(in->left, SIZE - offset));
		memcpy(memory + offset, in->at, length);
		in->at += length;
		in->left -= length;
		break;
	case 5:
		bar_write(device,
			  VIRTIO_BAR_NOTIFY + take(in, 1) % 4 * (uint64_t)VIRTIO_NOTIFY_MULTIPLIER,
			  bytes, 0);
		settle(device);
		break;
	case 6: /* the common configuration */
		offset = take(in, 1) % 64;
		bar_write(device, VIRTIO_BAR_COMMON + offset, bytes, take(in, bytes));
		break;
	case 7: /* the device's configuration */
		offset = VIRTIO_BAR_DEVICE + take(in, 1);
		if (opcode & 0x80)
			bar_read(device, offset, bytes);
		else
			bar_write(device, offset, bytes, take(in, bytes));
		break;
	case 8:
		start(device, in);
		break;
	case 9:
	case 10:
		publish(in, opcode >> 4 & 3);
		if (opcode & 0x80)
			break;
		bar_write(device,
			  VIRTIO_BAR_NOTIFY +
				  (opcode >> 4 & 3) * (uint64_t)VIRTIO_NOTIFY_MULTIPLIER,
			  2, 0);
		settle(device);
		break;
	case 11:
		put_request(in);
		break;
	case 12:
		set_irqs(device, in);
		break;
	case 13:
		if (opcode & 0x20)
			map_half(device, opcode >> 4 & 1);
		else
			device->ops->dma_unmap(device, BASE + (opcode >> 4 & 1) * HALF, HALF);
		break;
	case 14:
		check(write(console_in, "typed\n", 6) == 6 || errno == EAGAIN);
		settle(device);
		break;
	default:
		device->ops->reset(device);
		break;
	}
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void check_disks(void)
{
	static const uint8_t zeroes[DISK_SIZE];
	static uint8_t bytes[DISK_SIZE];
	struct stat st;

	for (unsigned i = 0; i < ARRAY_SIZE(disks); i++)
		check(!fstat(disks[i], &st) && st.st_size == DISK_SIZE);
	check(pread(disks[1], bytes, sizeof(bytes), 0) == sizeof(bytes) &&
	      !memcmp(bytes, zeroes, sizeof(bytes)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct changer changer = { .data = data, .size = size };
	struct vfio_device *device;
	int fds = lowest_free_fd();
	pthread_t thread;
	uint8_t choice;
	bool changing;

	if (size < 2)
		return 0;
	choice = (uint8_t)take(&in, 1);
	device = devices[(choice & 7) % KINDS];
	changing = choice & 0x80;
	memset(memory, 0, SIZE);
	memset(added, 0, sizeof(added));
	packed = false;
	if (changing)
		check(!pthread_create(&thread, NULL, change, &changer));
	for (unsigned i = 0; i < STEPS_MAX && in.left; i++)
		step(device, &in);
	if (changing) {
		__atomic_store_n(&changer.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
	}

	check(!device->ops->reset(device));
	check(!bar_read(device, VIRTIO_PCI_COMMON_STATUS, 1));
	device->ops->set_irqs(device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
			      VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL);
	/* Whatever was unmapped comes back; what is there already is refused. */
	for (unsigned half = 0; half < 2; half++)
		map_half(device, half);
	check(lowest_free_fd() == fds);
	if (choice % 8 % KINDS <= DISK_READONLY)
		check_disks();
	return 0;
}
