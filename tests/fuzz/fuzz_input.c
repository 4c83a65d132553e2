// SPDX-License-Identifier: Apache-2.0
/*
 * Viewers and a guest against a seat: keys, pointers and fingers in any order and any number, heads that change, viewers that come and go;
 * a guest that reads, does not read, starts anew, writes nonsense into rings and configuration, and takes its memory away.
 *
 * Checked beside the sanitizers: guest memory lies between pages that fault; a guest whose rings were left alone, and that reads in
 * the end, believes nothing to be down when all viewers are gone; no descriptor is left.
 *
 * Input: which seat (bit 0: a device a head, bits 1-2: the layout), then steps: an opcode and its operands; what is missing reads as
 * zero. Seats live as long as the process: their devices are reset after each input.
 */
#include <linux/input.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mdev/input/private.h"
#include "mdev/mdev.h"
#include "tests/fuzz/input.h"

#define BASE	   UINT64_C(0x100000)
#define SIZE	   UINT64_C(0x4000)
#define PAGE	   0x1000u
#define STEPS_MAX  512
#define QUEUE_SIZE 16u
#define QUEUE_STEP 0x1000u /* rings of a queue: descriptors, available, used a quarter each */
#define BUFFERS	   (2 * QUEUE_STEP)
#define VIEWERS	   40 /* more than a seat takes */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A device and the guest in front of it. */
struct port {
	struct vfio_device *device;
	uint8_t *memory;
	int memory_fd;
	uint16_t added, seen;
	bool is_sane; /* runs, by rings that nobody wrote into */
	/* What a guest believes that reads them. */
	uint8_t down[KEY_CNT];
	unsigned slot;
	bool fingers[INPUT_FINGERS_MAX];
};

#define PORTS_MAX 5
static struct seat {
	struct input_seat *seat;
	unsigned count;
	struct port ports[PORTS_MAX];
} seats[4];
static char viewers[VIEWERS];

#define check(good) check_at(good, __LINE__)
static void check_at(bool good, int line)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_input.c:%d: it does not hold\n", line);
	abort();
}

/* ---- the guest ---------------------------------------------------------------------------------------- */

static void map(struct port *port)
{
	port->device->ops->dma_map(port->device, BASE, SIZE, port->memory, port->memory_fd, 0);
}

static void port_make(struct port *port, struct vfio_device *device)
{
	uint8_t *area = mmap(NULL, SIZE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	port->device = device;
	port->memory_fd = memfd_create("guest", MFD_CLOEXEC);
	check(area != MAP_FAILED && port->memory_fd >= 0 &&
	      !ftruncate(port->memory_fd, (off_t)SIZE));
	port->memory = area + PAGE;
	check(mmap(port->memory, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		   port->memory_fd, 0) == port->memory);
	check(!vfio_device_start(device, NULL));
	map(port);
}

static void bar_write(struct port *port, uint64_t offset, unsigned size, uint64_t value)
{
	port->device->ops->region_write(port->device, VIRTIO_BAR, offset, &value, size);
}

static uint64_t bar_read(struct port *port, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	port->device->ops->region_read(port->device, VIRTIO_BAR, offset, &value, size);
	return value;
}

/* Back to before a driver came. */
static void stop(struct port *port)
{
	check(!port->device->ops->reset(port->device));
	check(!bar_read(port, VIRTIO_PCI_COMMON_STATUS, 1));
	map(port);
	port->added = port->seen = 0;
	port->is_sane = false;
	memset(port->down, 0, sizeof(port->down));
	memset(port->fingers, 0, sizeof(port->fingers));
	port->slot = 0;
}

static void start(struct port *port, uint32_t features)
{
	stop(port);
	memset(port->memory, 0, SIZE);
	bar_write(port, VIRTIO_PCI_COMMON_STATUS, 1, 1);
	bar_write(port, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	bar_write(port, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	bar_write(port, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	/* No event index: interrupts are of no use to it. */
	bar_write(port, VIRTIO_PCI_COMMON_GF, 4,
		  features & bar_read(port, VIRTIO_PCI_COMMON_DF, 4) &
			  1u << VIRTIO_RING_F_INDIRECT_DESC);
	bar_write(port, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	bar_write(port, VIRTIO_PCI_COMMON_GF, 4, 1); /* VIRTIO_F_VERSION_1 */
	bar_write(port, VIRTIO_PCI_COMMON_STATUS, 1, 11);
	for (unsigned i = 0; i < 2; i++) {
		const uint64_t ring = BASE + i * QUEUE_STEP;

		bar_write(port, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		bar_write(port, VIRTIO_PCI_COMMON_Q_SIZE, 2, QUEUE_SIZE);
		bar_write(port, VIRTIO_PCI_COMMON_Q_DESCLO, 8, ring);
		bar_write(port, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, ring + QUEUE_STEP / 4);
		bar_write(port, VIRTIO_PCI_COMMON_Q_USEDLO, 8, ring + QUEUE_STEP / 2);
		bar_write(port, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	bar_write(port, VIRTIO_PCI_COMMON_STATUS, 1, 15);
	port->is_sane = true;
}

/* Until the worker has done what it was notified of. */
static void settle(struct port *port)
{
	struct vfio_io_fd fds[VFIO_IO_FDS_MAX];
	const int count = port->device->ops->get_io_fds(port->device, VIRTIO_BAR, fds);

	/* However long it takes: a worker that hangs is libFuzzer's to find. */
	for (;;) {
		bool waiting = false;

		for (int i = 0; i < count; i++) {
			struct pollfd poller = { .fd = fds[i].fd, .events = POLLIN };

			waiting |= poll(&poller, 1, 0) > 0;
		}
		if (waiting) {
			sched_yield();
			continue;
		}
		/* The call comes after the handler that runs; which may have been cut short by it. */
		port->device->ops->set_irqs(port->device,
					    VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
					    VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL);
		for (int i = 0; i < count; i++) {
			struct pollfd poller = { .fd = fds[i].fd, .events = POLLIN };

			waiting |= poll(&poller, 1, 0) > 0;
		}
		if (!waiting)
			return;
	}
}

static void kick(struct port *port, unsigned queue)
{
	bar_write(port, VIRTIO_BAR_NOTIFY + queue * VIRTIO_NOTIFY_MULTIPLIER, 2, 0);
}

/* One more buffer for an event, if there is room. */
static void post(struct port *port)
{
	struct vring_avail *avail = (void *)(port->memory + QUEUE_STEP / 4);
	const uint16_t at = port->added % QUEUE_SIZE;
	const struct vring_desc desc = { BASE + BUFFERS + at * sizeof(struct virtio_input_event),
					 sizeof(struct virtio_input_event), VRING_DESC_F_WRITE, 0 };

	if ((uint16_t)(port->added - port->seen) >= QUEUE_SIZE)
		return;
	memcpy(port->memory + at * sizeof(desc), &desc, sizeof(desc));
	avail->ring[at] = at;
	__atomic_store_n(&avail->idx, ++port->added, __ATOMIC_RELEASE);
}

static void note(struct port *port, const struct virtio_input_event *event)
{
	check(event->type <= EV_ABS);
	if (event->type == EV_KEY) {
		check(event->code > 0 && event->code < KEY_CNT && event->value <= 1);
		port->down[event->code] = (uint8_t)event->value;
	} else if (event->type == EV_ABS && event->code == ABS_MT_SLOT) {
		check(event->value < INPUT_FINGERS_MAX);
		port->slot = event->value;
	} else if (event->type == EV_ABS && event->code == ABS_MT_TRACKING_ID) {
		check(event->value == UINT32_MAX || event->value <= UINT16_MAX);
		port->fingers[port->slot] = event->value != UINT32_MAX;
	} else if (event->type == EV_ABS) {
		check(event->value <= INPUT_ABS_MAX);
	}
}

/* Returns how many events there were. */
static unsigned read_events(struct port *port)
{
	const struct vring_used *used = (const void *)(port->memory + QUEUE_STEP / 2);
	unsigned count = 0;

	while (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) != port->seen) {
		const struct vring_used_elem element = used->ring[port->seen++ % QUEUE_SIZE];
		struct virtio_input_event event;

		check(element.id < QUEUE_SIZE && element.len == sizeof(event));
		memcpy(&event, port->memory + BUFFERS + element.id * sizeof(event), sizeof(event));
		note(port, &event);
		count++;
	}
	return count;
}

/* What a settle() does not see is a worker that has just begun again: so, until nothing waits. */
static void read_all(struct port *port)
{
	unsigned waiting, count;

	do {
		for (unsigned i = 0; i < QUEUE_SIZE; i++)
			post(port);
		kick(port, 0);
		waiting = input_device_waiting((struct input_device *)port->device);
		settle(port);
		count = read_events(port);
	} while (count || waiting);
}

static void led(struct port *port, uint16_t code, bool on)
{
	const struct virtio_input_event event = { EV_LED, code, on };
	const uint64_t at = BUFFERS + QUEUE_SIZE * sizeof(event);
	const struct vring_desc desc = { BASE + at, sizeof(event), 0, 0 };
	struct vring_avail *avail = (void *)(port->memory + QUEUE_STEP + QUEUE_STEP / 4);

	memcpy(port->memory + at, &event, sizeof(event));
	memcpy(port->memory + QUEUE_STEP, &desc, sizeof(desc));
	avail->ring[avail->idx % QUEUE_SIZE] = 0;
	__atomic_store_n(&avail->idx, avail->idx + 1, __ATOMIC_RELEASE);
	kick(port, 1);
	settle(port);
}

/* ---- steps ----------------------------------------------------------------------------------------------- */

static void viewer_step(struct input_seat *seat, struct input *in, uint8_t opcode)
{
	const char *viewer = &viewers[take(in, 1) % VIEWERS];
	const unsigned count = opcode & 0x80 ? (unsigned)take(in, 1) * 8 + 1 : 1;
	uint32_t keysym, scancode;
	uint8_t head, finger;
	uint16_t x, y, width, height, buttons;

	switch (opcode & 3) {
	case 0:
		keysym = (uint32_t)take(in, opcode & 0x40 ? 4 : 1);
		keysym |= opcode & 0x20 ? 0xff00u : 0;
		scancode = opcode & 0x10 ? (uint32_t)take(in, opcode & 0x40 ? 4 : 1) : 0;
		/* Many: as fast as somebody can. */
		for (unsigned i = 0; i < count; i++)
			input_seat_key(seat, viewer, keysym + (i >> 1) % 16, scancode,
				       opcode & 8 ? i % 2 : !(i % 2));
		break;
	case 1:
		head = (uint8_t)take(in, 1) % 6;
		x = (uint16_t)take(in, 2), y = (uint16_t)take(in, 2);
		width = (uint16_t)take(in, 2), height = (uint16_t)take(in, 2);
		buttons = (uint16_t)take(in, 2);
		for (unsigned i = 0; i < count; i++)
			input_seat_pointer(seat, viewer, head, (int16_t)(x + i), (int16_t)y, width,
					   height, opcode & 0x40 && i % 2 ? 0 : buttons);
		break;
	case 2:
		head = (uint8_t)take(in, 1) % 6;
		finger = (uint8_t)take(in, 1);
		x = (uint16_t)take(in, 2), y = (uint16_t)take(in, 2);
		for (unsigned i = 0; i < count; i++)
			input_seat_touch(seat, viewer, head, finger + i % 12, (int16_t)x,
					 (int16_t)y, 1280, 800,
					 opcode & 0x40 ? i % 2 : !(opcode & 0x10));
		break;
	default:
		input_seat_viewer_gone(seat, viewer);
		break;
	}
}

static void guest_step(struct port *port, struct input *in, uint8_t opcode)
{
	uint64_t offset;
	unsigned length;

	switch (opcode & 7) {
	case 0:
		start(port, (uint32_t)take(in, 4));
		break;
	case 1: /* a few buffers */
		if (!port->is_sane)
			break;
		for (unsigned i = (unsigned)take(in, 1) % QUEUE_SIZE + 1; i > 0; i--)
			post(port);
		kick(port, 0);
		if (opcode & 8)
			settle(port);
		read_events(port);
		break;
	case 2:
		if (port->is_sane)
			led(port, (uint16_t)take(in, 1), opcode & 8);
		break;
	case 3: /* anything, anywhere: from here on it is on its own */
		port->is_sane = false;
		offset = take(in, 2) % SIZE;
		length = (unsigned)take(in, 1);
		length = (unsigned)MIN(length, MIN(in->left, SIZE - offset));
		memcpy(port->memory + offset, in->at, length);
		in->at += length;
		in->left -= length;
		break;
	case 4:
		port->is_sane = false;
		bar_write(port, take(in, 2) % VIRTIO_BAR_SIZE, 1u << (opcode >> 4 & 3),
			  take(in, 8));
		break;
	case 5: /* the configuration */
		bar_write(port, VIRTIO_BAR_DEVICE, 2, take(in, 2));
		for (unsigned i = 0; i < sizeof(struct virtio_input_config); i += 8)
			bar_read(port, VIRTIO_BAR_DEVICE + i, 8);
		check(bar_read(port, VIRTIO_BAR_DEVICE + 2, 1) <= 128);
		break;
	case 6:
		port->is_sane = false;
		if (opcode & 8)
			map(port);
		else
			port->device->ops->dma_unmap(port->device, BASE, SIZE);
		break;
	default:
		kick(port, opcode >> 3 & 1);
		settle(port);
		break;
	}
}

static void step(struct seat *seat, struct input *in)
{
	const uint8_t opcode = (uint8_t)take(in, 1);

	if (opcode & 4)
		guest_step(&seat->ports[take(in, 1) % seat->count], in,
			   opcode >> 3 | (uint8_t)(opcode << 5));
	else if ((opcode & 0x1b) == 0x1b)
		input_seat_head(seat->seat, (unsigned)take(in, 1) % 6, (uint32_t)take(in, 2),
				(uint32_t)take(in, 2));
	else
		viewer_step(seat->seat, in, opcode);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const layouts[] = { "us", "de", "fr", "us:dvorak" };

	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned i = 0; i < ARRAY_SIZE(seats); i++) {
		const struct input_config config = { .layout = layouts[i],
						     .per_head = i % 2 ? 2 : 0,
						     .pace = NSEC_PER_SEC };
		struct seat *seat = &seats[i];

		check(!input_seat_create(&config, &seat->seat, NULL));
		for (unsigned kind = 0; kind < INPUT_KINDS; kind++) {
			for (unsigned head = 0; head < INPUT_HEADS_MAX; head++) {
				struct vfio_device *device =
					input_seat_device(seat->seat, kind, head);

				if (device)
					port_make(&seat->ports[seat->count++], device);
			}
		}
	}
	return 0;
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	const int fds = lowest_free_fd();
	struct seat *seat;

	if (size < 2)
		return 0;
	seat = &seats[take(&in, 1) % ARRAY_SIZE(seats)];
	for (unsigned i = 0; i < seat->count; i++)
		start(&seat->ports[i], 0);
	for (unsigned i = 0; i < STEPS_MAX && in.left; i++)
		step(seat, &in);

	for (unsigned i = 0; i < VIEWERS; i++)
		input_seat_viewer_gone(seat->seat, &viewers[i]);
	for (unsigned i = 0; i < INPUT_HEADS_MAX; i++)
		input_seat_head(seat->seat, i, 0, 0);
	for (unsigned i = 0; i < seat->count; i++) {
		struct port *port = &seat->ports[i];

		if (port->is_sane) {
			read_all(port);
			for (unsigned code = 0; code < KEY_CNT; code++)
				check(!port->down[code]);
			for (unsigned finger = 0; finger < INPUT_FINGERS_MAX; finger++)
				check(!port->fingers[finger]);
		}
		stop(port);
	}
	check(lowest_free_fd() == fds);
	return 0;
}
