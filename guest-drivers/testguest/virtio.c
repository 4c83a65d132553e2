// SPDX-License-Identifier: Apache-2.0
/*
 * virtio: finds a virtio function behind PCI Express, and drives it as a driver does (VIRTIO 1.2, 3.1.1 and 4.1),
 * with rings of either kind (guest-drivers/testguest/ring_driver.h) and messages of its own for each queue. It knows where
 * our devices have their registers and does not look for them; Linux does that.
 */
#include "guest-drivers/testguest/virtio.h"

#define ECAM	    0xe0000000u
#define BUSES	    8
#define BAR	    0xd0000000u
#define MESSAGE	    0xfee00000u	   /* to the first processor */
#define VECTOR	    0x50	   /* configuration; then the queues */
#define WAIT_NS	    50000000000ull /* less than who looks from outside waits */
#define CAP_MSIX    0x11
#define RINGS	    0x2000000u /* a page a part */
#define PCI_COMMAND 0x04
#define PCI_BAR0    0x10
#define PCI_CAPS    0x34

/* Registers of the common structure (4.1.4.3). */
#define DRIVER_FEATURE_SELECT 8
#define DRIVER_FEATURE	      12
#define CONFIG_VECTOR	      16
#define STATUS		      20
#define QUEUE_SELECT	      22
#define QUEUE_SIZE	      24
#define QUEUE_VECTOR	      26
#define QUEUE_ENABLE	      28
#define QUEUE_DESC	      32 /* then the driver's part, then the device's */
#define STATUS_DRIVER	      3
#define STATUS_FEATURES_OK    8
#define STATUS_DRIVER_OK      4

volatile uint32_t virtio_config_interrupts, virtio_queue_interrupts[VIRTIO_QUEUES];

struct interrupt_frame;

__attribute__((interrupt)) static void on_config(struct interrupt_frame *frame)
{
	virtio_config_interrupts++;
	end_of_interrupt();
}

__attribute__((interrupt)) static void on_queue0(struct interrupt_frame *frame)
{
	virtio_queue_interrupts[0]++;
	end_of_interrupt();
}

__attribute__((interrupt)) static void on_queue1(struct interrupt_frame *frame)
{
	virtio_queue_interrupts[1]++;
	end_of_interrupt();
}

/* ---- the function --------------------------------------------------------------------------- */

static uint32_t find_config(uint32_t type)
{
	for (uint32_t bus = 0; bus < BUSES; bus++)
		for (uint32_t device = 0; device < (bus ? 1 : 32); device++) {
			uint32_t config = ECAM + (bus << 20 | device << 15);

			if (read32(config) == ((0x1040 + type) << 16 | 0x1af4))
				return config;
		}
	return 0;
}

int virtio_find(struct virtio_function *function, uint32_t type)
{
	uint32_t config = find_config(type), at;

	if (!config)
		return 0;
	function->bar = BAR;
	write32(config + PCI_BAR0, BAR);
	write32(config + PCI_BAR0 + 4, 0);
	write_sized(config + PCI_COMMAND, 2, 0x6);
	set_gate(VECTOR, (uint64_t)on_config);
	set_gate(VECTOR + 1, (uint64_t)on_queue0);
	set_gate(VECTOR + 2, (uint64_t)on_queue1);
	for (uint32_t i = 0; i <= VIRTIO_QUEUES; i++) {
		write_sized(BAR + VIRTIO_MSIX_TABLE + i * 16, 8, MESSAGE);
		write32(BAR + VIRTIO_MSIX_TABLE + i * 16 + 8, VECTOR + i);
		write32(BAR + VIRTIO_MSIX_TABLE + i * 16 + 12, 0);
	}
	at = read_sized(config + PCI_CAPS, 1);
	while (at && read_sized(config + at, 1) != CAP_MSIX)
		at = read_sized(config + at + 1, 1);
	if (!at)
		return 0;
	write_sized(config + at + 2, 2, 0x8000);
	return 1;
}

uint32_t virtio_status(const struct virtio_function *function)
{
	return (uint32_t)read_sized(function->bar + STATUS, 1);
}

static void start_queue(struct virtio_function *function, unsigned queue, uint64_t features)
{
	const uint64_t common = function->bar + VIRTIO_COMMON, parts = RINGS + queue * 0x3000;

	ring_begin(&function->queues[queue], features >> 34 & 1,
		   features >> VIRTIO_RING_F_EVENT_IDX & 1, VIRTIO_QUEUE_SIZE, (void *)parts,
		   (void *)(parts + 0x1000), (void *)(parts + 0x2000));
	write_sized(common + QUEUE_SELECT, 2, queue);
	write_sized(common + QUEUE_SIZE, 2, VIRTIO_QUEUE_SIZE);
	write_sized(common + QUEUE_VECTOR, 2, queue + 1);
	for (unsigned part = 0; part < 3; part++)
		write_sized(common + QUEUE_DESC + part * 8, 8, parts + part * 0x1000);
	write_sized(common + QUEUE_ENABLE, 2, 1);
	function->taken[queue] = virtio_queue_interrupts[queue];
}

int virtio_start(struct virtio_function *function, uint64_t features)
{
	const uint64_t common = function->bar + VIRTIO_COMMON;

	write_sized(common + STATUS, 1, 0);
	if (virtio_status(function))
		return 0;
	write_sized(common + STATUS, 1, STATUS_DRIVER);
	for (unsigned half = 0; half < 2; half++) {
		write32(common + DRIVER_FEATURE_SELECT, half);
		write32(common + DRIVER_FEATURE, (uint32_t)(features >> 32 * half));
	}
	write_sized(common + STATUS, 1, STATUS_DRIVER | STATUS_FEATURES_OK);
	if (!(virtio_status(function) & STATUS_FEATURES_OK))
		return 0;
	write_sized(common + CONFIG_VECTOR, 2, 0);
	for (unsigned queue = 0; queue < VIRTIO_QUEUES; queue++)
		start_queue(function, queue, features);
	write_sized(common + STATUS, 1, STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	return virtio_status(function) == (STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

/* ---- requests ------------------------------------------------------------------------------- */

int virtio_wait(volatile uint32_t *count, uint32_t before)
{
	/* The test device tells the time. */
	const uint64_t end = read_sized(TEST_DEVICE, 8) + WAIT_NS;

	while (*count == before) {
		for (unsigned i = 0; i < 1000 && *count == before; i++)
			__asm__ volatile("pause");
		if (read_sized(TEST_DEVICE, 8) > end)
			return 0;
	}
	return 1;
}

void virtio_notify(struct virtio_function *function, unsigned queue)
{
	if (ring_wants_kick(&function->queues[queue]))
		write_sized(function->bar + VIRTIO_NOTIFY + queue * 4, 2, queue);
}

int64_t virtio_request(struct virtio_function *function, unsigned queue, const void *out,
		       uint32_t out_size, void *in, uint32_t in_size)
{
	const struct guest_buffer buffers[2] = { { (uint64_t)out, out_size, false },
						 { (uint64_t)in, in_size, true } };
	struct ring_driver *ring = &function->queues[queue];
	uint32_t length = 0;
	uint16_t sent, id = 0;

	/* Each chain that is used is one message, no more and no less. */
	ring_ask_interrupt(ring, 0);
	sent = ring_add(ring, buffers, in_size ? 2 : 1);
	virtio_notify(function, queue);
	if (!virtio_wait(&virtio_queue_interrupts[queue], function->taken[queue]) ||
	    virtio_queue_interrupts[queue] != ++function->taken[queue] ||
	    !ring_take_used(ring, &id, &length) || id != sent)
		return -1;
	return length;
}

/* ---- what the compiler calls ------------------------------------------------------------------ */

void *memcpy(void *to, const void *from, size_t count)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
	return to;
}

void *memset(void *to, int value, size_t count)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
	return to;
}
