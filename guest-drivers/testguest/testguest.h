/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the test guest share: the machine's addresses and the ways to reach them. */
#ifndef TESTGUEST_H
#define TESTGUEST_H

#include <stdint.h>

#define TEST_DEVICE 0xf0000000u
#define IOAPIC	    0xfec00000u
#define LAPIC	    0xfee00000u
#define PORT_RESET  0xcf9

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

/* number() - the value of "key=" on the command line, decimal or 0x; @otherwise: it is not there. */
uint64_t number(const char *cmdline, const char *key, uint64_t otherwise);
/* start_processors() - all others run @run, once each. */
void start_processors(void (*run)(void));
/* enter_ring3() - from here on in ring 3, on the same stack; @rflags: 0x202 with interrupts, 2 without. */
void enter_ring3(uint64_t rflags);
/* do_chaos() - the mode of that name (chaos.c). */
uint32_t do_chaos(const char *cmdline);

#endif
