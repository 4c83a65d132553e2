/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the test guest share: the machine's addresses and the ways to reach them. */
#ifndef TESTGUEST_H
#define TESTGUEST_H

#include <stdint.h>

#define TEST_DEVICE 0xf0000000u
#define IOAPIC	    0xfec00000u
#define LAPIC	    0xfee00000u
#define LAPIC_EOI   0xb0
#define PORT_RESET  0xcf9

/* The BAR of a virtio device (mdev/virtio.h). */
#define VIRTIO_COMMON	  0x0000
#define VIRTIO_ISR	  0x1000
#define VIRTIO_DEVICE	  0x2000
#define VIRTIO_NOTIFY	  0x3000
#define VIRTIO_MSIX_TABLE 0x4000
#define VIRTIO_MSIX_PBA	  0x5000
#define VIRTIO_BAR_SIZE	  0x8000

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void write32(uint64_t address, uint32_t value)
{
	__asm__ volatile("movl %1, %0" : "=m"(*(volatile uint32_t *)address) : "r"(value));
}

static inline uint32_t read32(uint64_t address)
{
	uint32_t value;

	__asm__ volatile("movl %1, %0" : "=r"(value) : "m"(*(volatile uint32_t *)address));
	return value;
}

static inline uint64_t read_sized(uint64_t address, uint64_t size)
{
	uint64_t value = 0;

	switch (size) {
	case 1:
		__asm__ volatile("movb %1, %b0" : "+r"(value) : "m"(*(volatile uint8_t *)address));
		break;
	case 2:
		__asm__ volatile("movw %1, %w0" : "+r"(value) : "m"(*(volatile uint16_t *)address));
		break;
	case 4:
		value = read32(address);
		break;
	case 8:
		__asm__ volatile("movq %1, %0" : "=r"(value) : "m"(*(volatile uint64_t *)address));
		break;
	}
	return value;
}

static inline void write_sized(uint64_t address, uint64_t size, uint64_t value)
{
	switch (size) {
	case 1:
		__asm__ volatile("movb %b1, %0" : "=m"(*(volatile uint8_t *)address) : "r"(value));
		break;
	case 2:
		__asm__ volatile("movw %w1, %0" : "=m"(*(volatile uint16_t *)address) : "r"(value));
		break;
	case 4:
		write32(address, (uint32_t)value);
		break;
	case 8:
		__asm__ volatile("movq %1, %0" : "=m"(*(volatile uint64_t *)address) : "r"(value));
		break;
	}
}

/* print() - on the serial port. */
void print(const char *text);
/* set_gate() - interrupt vector @vector goes to @to; enable_interrupts() - the local APIC takes messages. */
void set_gate(unsigned vector, uint64_t to);
void enable_interrupts(void);
/* end_of_interrupt() - for handlers. */
static inline void end_of_interrupt(void)
{
	write32(LAPIC + LAPIC_EOI, 0);
}
/* number() - the value of "key=" on the command line, decimal or 0x; @otherwise: it is not there. */
uint64_t number(const char *cmdline, const char *key, uint64_t otherwise);
/* start_processors() - all others run @run, once each. */
void start_processors(void (*run)(void));
/*
 * enter_ring3() - from here on in ring 3, on the same stack, with the serial port; @rflags: 0x202 with interrupts,
 * 2 without.
 */
void enter_ring3(uint64_t rflags);
/* do_chaos(), do_gpu() - the modes of that name (chaos.c, gpu.c). */
uint32_t do_chaos(const char *cmdline);
uint32_t do_gpu(const char *cmdline);

#endif
