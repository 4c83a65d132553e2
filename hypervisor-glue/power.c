// SPDX-License-Identifier: Apache-2.0
/*
 * Power and reset: the ACPI fixed hardware that the FADT names (ACPI 6.5, 4.8.3), the one
 * register of a keyboard controller that kernels reset a PC with, and the test device.
 *
 * The guest may write anything at any time from any vCPU: every access is a few instructions under
 * one mutex, and ends at most in vm_request_exit().
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/platform.h"

/* ACPI 6.5, tables 4.10 (status), 4.11 (enable), 4.12 (control). */
#define PM1_POWER_BUTTON    0x0100u
#define PM1_GLOBAL	    0x0020u
#define PM1_ENABLE_MASK	    (PM1_POWER_BUTTON | PM1_GLOBAL)
#define PM1_SCI_ENABLE	    0x0001u
#define PM1_SLEEP_ENABLE    0x2000u
#define PM1_SLEEP_TYPE(v)   (((v) >> 10) & 7)
#define PM1_CONTROL_MASK    0x1c00u /* SLP_TYP reads back */
#define SLEEP_TYPE_S5	    5	    /* as the DSDT's \_S5 says */
#define PM_TIMER_HZ	    UINT64_C(3579545)
#define KEYBOARD_DATA	    UINT16_C(0x60)
#define KEYBOARD_COMMAND    UINT16_C(0x64)
#define KEYBOARD_PULSE_MASK 0xf0u /* 0xf0-0xff: pulse output lines that are 0 in the low bits */
#define KEYBOARD_RESET_LINE 0x01u
#define TEST_DEVICE_SIZE    UINT64_C(0x1000)

struct power {
	struct vm *vm;
	uint64_t start_ns;
	pthread_mutex_t lock;
	uint16_t status, enable, control;
	bool sci;
};

static void sci_update(struct power *power)
{
	bool level = power->status & power->enable;

	if (level == power->sci)
		return;
	power->sci = level;
	vm_irq_line(power->vm, GSI_SCI, level);
}

/* The bits of a 32-bit register block that an access of @size at @offset touches. */
static uint32_t lanes(uint64_t offset, unsigned size)
{
	uint32_t mask = size >= 4 ? UINT32_MAX : (UINT32_C(1) << (8 * size)) - 1;

	return mask << (8 * offset);
}

static uint64_t event_read(void *opaque, uint64_t offset, unsigned size)
{
	struct power *power = opaque;
	uint32_t value;

	pthread_mutex_lock(&power->lock);
	value = power->status | (uint32_t)power->enable << 16;
	pthread_mutex_unlock(&power->lock);
	return (value & lanes(offset, size)) >> (8 * offset);
}

static void event_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = opaque;
	uint32_t mask = lanes(offset, size);
	uint32_t bits = ((uint32_t)value << (8 * offset)) & mask;

	pthread_mutex_lock(&power->lock);
	power->status &= (uint16_t)~bits; /* written ones clear */
	power->enable =
		(uint16_t)(((power->enable & ~(mask >> 16)) | (bits >> 16)) & PM1_ENABLE_MASK);
	sci_update(power);
	pthread_mutex_unlock(&power->lock);
}

static uint64_t control_read(void *opaque, uint64_t offset, unsigned size)
{
	struct power *power = opaque;
	uint32_t value;

	pthread_mutex_lock(&power->lock);
	/* No SMI_CMD in the FADT: the hardware is always in ACPI mode. */
	value = power->control | PM1_SCI_ENABLE;
	pthread_mutex_unlock(&power->lock);
	return (value & lanes(offset, size)) >> (8 * offset);
}

static void control_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = opaque;
	uint32_t mask = lanes(offset, size);
	uint32_t bits = ((uint32_t)value << (8 * offset)) & mask;
	unsigned type;

	pthread_mutex_lock(&power->lock);
	power->control = (uint16_t)(((power->control & ~mask) | bits) & PM1_CONTROL_MASK);
	type = PM1_SLEEP_TYPE(power->control);
	pthread_mutex_unlock(&power->lock);
	if (!(bits & PM1_SLEEP_ENABLE))
		return;
	if (type == SLEEP_TYPE_S5)
		vm_request_exit(power->vm, VM_EXIT_POWER_OFF, "ACPI S5");
	else
		log_limited(LOG_LEVEL_WARN,
			    "power: the guest asked for sleep type %u, which is not "
			    "offered",
			    type);
}

static uint64_t timer_read(void *opaque, uint64_t offset, unsigned size)
{
	struct power *power = opaque;
	uint64_t ns = monotonic_ns() - power->start_ns;
	uint64_t ticks =
		ns / NSEC_PER_SEC * PM_TIMER_HZ + ns % NSEC_PER_SEC * PM_TIMER_HZ / NSEC_PER_SEC;

	return ((uint32_t)ticks & lanes(offset, size)) >> (8 * offset);
}

static void timer_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	/* Read-only. */
}

/* Status with both buffers empty: all-ones would make a kernel wait for them to drain. */
static uint64_t keyboard_read(void *opaque, uint64_t offset, unsigned size)
{
	return 0;
}

static void keyboard_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = opaque;

	if ((value & KEYBOARD_PULSE_MASK) == KEYBOARD_PULSE_MASK && !(value & KEYBOARD_RESET_LINE))
		vm_request_exit(power->vm, VM_EXIT_RESET, "keyboard controller");
}

static void keyboard_data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	/* Nobody listens. */
}

static uint64_t test_read(void *opaque, uint64_t offset, unsigned size)
{
	uint64_t ns = monotonic_ns();

	if (offset == 0 && (size == 4 || size == 8))
		return size == 8 ? ns : (uint32_t)ns;
	if (offset == 4 && size == 4)
		return ns >> 32;
	return UINT64_MAX;
}

static void test_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = opaque;

	if (offset == 0 && size == 4)
		vm_request_exit(power->vm, VM_EXIT_POWER_OFF, "test device: %u", (uint32_t)value);
}

static const struct dispatch_handler event_handler = { event_read, event_write };
static const struct dispatch_handler control_handler = { control_read, control_write };
static const struct dispatch_handler timer_handler = { timer_read, timer_write };
static const struct dispatch_handler keyboard_handler = { keyboard_read, keyboard_write };
static const struct dispatch_handler keyboard_data_handler = { keyboard_read, keyboard_data_write };
static const struct dispatch_handler test_handler = { test_read, test_write };

static const struct power_region {
	bool is_port;
	uint64_t start, size;
	const struct dispatch_handler *handler;
} regions[] = {
	{ true, PORT_PM1_EVENT, 4, &event_handler },
	{ true, PORT_PM1_CONTROL, 2, &control_handler },
	{ true, PORT_PM_TIMER, 4, &timer_handler },
	{ true, KEYBOARD_DATA, 1, &keyboard_data_handler },
	{ true, KEYBOARD_COMMAND, 1, &keyboard_handler },
	{ false, LAYOUT_PLATFORM_START, TEST_DEVICE_SIZE, &test_handler },
};

static struct dispatch *region_dispatch(struct vm *vm, const struct power_region *region)
{
	return region->is_port ? vm_ports(vm) : vm_mmio(vm);
}

static void regions_remove(struct power *power, size_t count)
{
	while (count--)
		dispatch_remove(region_dispatch(power->vm, &regions[count]), regions[count].start);
	dispatch_synchronize(vm_ports(power->vm));
	dispatch_synchronize(vm_mmio(power->vm));
}

int power_create(struct vm *vm, struct power **out, struct error *e)
{
	struct power *power = calloc(1, sizeof(*power));
	size_t i;
	int err;

	if (!power)
		return error_set(e, ENOMEM, "no-memory", NULL, "power management: out of memory");
	power->vm = vm;
	power->start_ns = monotonic_ns();
	pthread_mutex_init(&power->lock, NULL);
	for (i = 0; i < ARRAY_SIZE(regions); i++) {
		err = dispatch_add(region_dispatch(vm, &regions[i]), regions[i].start,
				   regions[i].size, regions[i].handler, power);
		if (err)
			goto remove;
	}
	*out = power;
	return 0;

remove:
	error_set(e, -err, "power", NULL, "power management: %s 0x%llx: %s",
		  regions[i].is_port ? "port" : "address", (unsigned long long)regions[i].start,
		  strerror(-err));
	regions_remove(power, i);
	pthread_mutex_destroy(&power->lock);
	free(power);
	return err;
}

void power_destroy(struct power *power)
{
	if (!power)
		return;
	regions_remove(power, ARRAY_SIZE(regions));
	pthread_mutex_destroy(&power->lock);
	free(power);
}

void power_button(struct power *power)
{
	pthread_mutex_lock(&power->lock);
	power->status |= PM1_POWER_BUTTON;
	sci_update(power);
	pthread_mutex_unlock(&power->lock);
}
