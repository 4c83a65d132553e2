// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's clock: the time registers of an MC146818 (Motorola data sheet, 1984) at ports 0x70/0x71,
 * BCD, 24 hours, UTC. Without it, all-ones in register A looks to a kernel like an update that
 * never ends.
 *
 * The time is computed at each read. What the guest writes to the 128 bytes it reads back, except
 * in the time and status registers, which stay as they are.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hypervisor-glue/platform.h"

#define CLOCK_PORT     UINT16_C(0x70)
#define CLOCK_BYTES    128
#define INDEX_MASK     0x7f /* bit 7 masks NMI on a PC */
#define REG_SECONDS    0x00
#define REG_MINUTES    0x02
#define REG_HOURS      0x04
#define REG_WEEKDAY    0x06
#define REG_DAY	       0x07
#define REG_MONTH      0x08
#define REG_YEAR       0x09
#define REG_A	       0x0a
#define REG_B	       0x0b
#define REG_C	       0x0c
#define REG_D	       0x0d
#define REG_CENTURY    0x32
#define A_DIVIDER      0x26 /* 32768 Hz, 1024 Hz periodic rate; no update in progress */
#define B_24_HOURS     0x02
#define D_BATTERY_FINE 0x80

struct clock {
	struct vm *vm;
	pthread_mutex_t lock;
	uint8_t index;
	uint8_t bytes[CLOCK_BYTES];
};

static uint8_t bcd(int value)
{
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

/* The register's value when it is the clock's own, else false. */
static bool time_register(uint8_t index, uint8_t *value)
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	if (!gmtime_r(&now.tv_sec, &tm))
		return false;
	switch (index) {
	case REG_SECONDS:
		*value = bcd(tm.tm_sec);
		return true;
	case REG_MINUTES:
		*value = bcd(tm.tm_min);
		return true;
	case REG_HOURS:
		*value = bcd(tm.tm_hour);
		return true;
	case REG_WEEKDAY:
		*value = bcd(tm.tm_wday + 1);
		return true;
	case REG_DAY:
		*value = bcd(tm.tm_mday);
		return true;
	case REG_MONTH:
		*value = bcd(tm.tm_mon + 1);
		return true;
	case REG_YEAR:
		*value = bcd(tm.tm_year % 100);
		return true;
	case REG_CENTURY:
		*value = bcd(19 + tm.tm_year / 100);
		return true;
	case REG_A:
		*value = A_DIVIDER;
		return true;
	case REG_B:
		*value = B_24_HOURS;
		return true;
	case REG_C:
		*value = 0;
		return true;
	case REG_D:
		*value = D_BATTERY_FINE;
		return true;
	default:
		return false;
	}
}

static uint64_t clock_read(void *opaque, uint64_t offset, unsigned size)
{
	struct clock *clock = opaque;
	uint8_t value;

	if (size != 1 || offset != 1)
		return UINT64_MAX;
	pthread_mutex_lock(&clock->lock);
	if (!time_register(clock->index, &value))
		value = clock->bytes[clock->index];
	pthread_mutex_unlock(&clock->lock);
	return value;
}

static void clock_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct clock *clock = opaque;

	if (size != 1)
		return;
	pthread_mutex_lock(&clock->lock);
	if (offset == 0)
		clock->index = value & INDEX_MASK;
	else
		clock->bytes[clock->index] = (uint8_t)value;
	pthread_mutex_unlock(&clock->lock);
}

static const struct dispatch_handler clock_handler = { clock_read, clock_write };

int clock_create(struct vm *vm, struct clock **out, struct error *e)
{
	struct clock *clock = calloc(1, sizeof(*clock));
	int err;

	if (!clock)
		return error_set(e, ENOMEM, "no-memory", NULL, "clock: out of memory");
	clock->vm = vm;
	pthread_mutex_init(&clock->lock, NULL);
	err = dispatch_add(vm_ports(vm), CLOCK_PORT, 2, &clock_handler, clock);
	if (err) {
		error_set(e, -err, "clock", NULL, "clock: port 0x%x: %s", CLOCK_PORT,
			  strerror(-err));
		pthread_mutex_destroy(&clock->lock);
		free(clock);
		return err;
	}
	*out = clock;
	return 0;
}

void clock_destroy(struct clock *clock)
{
	if (!clock)
		return;
	dispatch_remove(vm_ports(clock->vm), CLOCK_PORT);
	dispatch_synchronize(vm_ports(clock->vm));
	pthread_mutex_destroy(&clock->lock);
	free(clock);
}
