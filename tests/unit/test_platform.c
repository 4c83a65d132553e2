// SPDX-License-Identifier: Apache-2.0
/* The devices of the platform, through the VM's own dispatch tables as a vCPU reaches them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/platform.h"
#include "tests/unit/confined.h"

#define CLOCK_INDEX 0x70
#define CLOCK_DATA  0x71
#define KEYBOARD    0x64

struct fixture {
	struct vm *vm;
	struct power *power;
	struct clock *clock;
	struct serial *serial;
	int pipe[2];
};

static unsigned open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static int setup(void **state)
{
	struct fixture *f;

	*state = NULL;
	if (access("/dev/kvm", R_OK | W_OK))
		return 0;
	f = calloc(1, sizeof(*f));
	if (!f || pipe2(f->pipe, O_CLOEXEC) || vm_create(&f->vm, NULL) ||
	    power_create(f->vm, &f->power, NULL) || clock_create(f->vm, &f->clock, NULL) ||
	    serial_create(f->vm, f->pipe[1], &f->serial, NULL))
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (!f)
		return 0;
	serial_destroy(f->serial);
	clock_destroy(f->clock);
	power_destroy(f->power);
	vm_destroy(f->vm);
	close(f->pipe[0]);
	close(f->pipe[1]);
	free(f);
	return 0;
}

static struct fixture *need(void **state)
{
	if (!*state) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	return *state;
}

static uint32_t in(struct fixture *f, uint16_t port, unsigned size)
{
	return (uint32_t)dispatch_read(vm_ports(f->vm), port, size);
}

static void out(struct fixture *f, uint16_t port, unsigned size, uint32_t value)
{
	dispatch_write(vm_ports(f->vm), port, size, value);
}

static bool ending(struct fixture *f)
{
	struct pollfd wait = { .fd = vm_exit_fd(f->vm), .events = POLLIN };

	return poll(&wait, 1, 0) == 1;
}

static void expect_end(struct fixture *f, enum vm_exit why, const char *words)
{
	char reason[256];

	assert_true(ending(f));
	assert_int_equal(vm_join(f->vm, reason), why);
	assert_non_null(strstr(reason, words));
}

static void power_button_sets_a_status_that_writing_one_clears(void **state)
{
	struct fixture *f = need(state);

	out(f, PORT_PM1_EVENT + 2, 2, 0xffff);
	assert_int_equal(in(f, PORT_PM1_EVENT + 2, 2), 0x120);
	assert_int_equal(in(f, PORT_PM1_EVENT, 2), 0);
	power_button(f->power);
	assert_int_equal(in(f, PORT_PM1_EVENT, 2), 0x100);
	out(f, PORT_PM1_EVENT, 2, 0x00ff);
	assert_int_equal(in(f, PORT_PM1_EVENT, 4), 0x01200100);
	out(f, PORT_PM1_EVENT + 1, 1, 0x01); /* the byte with its bit */
	assert_int_equal(in(f, PORT_PM1_EVENT, 2), 0);
	assert_int_equal(in(f, PORT_PM1_EVENT + 2, 2), 0x120);
	assert_false(ending(f));
}

static void sleep_type_5_powers_off_and_no_other(void **state)
{
	struct fixture *f = need(state);

	assert_int_equal(in(f, PORT_PM1_CONTROL, 2), 1); /* always in ACPI mode */
	out(f, PORT_PM1_CONTROL, 2, 5 << 10);
	assert_int_equal(in(f, PORT_PM1_CONTROL, 2), 5 << 10 | 1);
	assert_false(ending(f));
	out(f, PORT_PM1_CONTROL, 2, 1 << 13 | 3 << 10);
	assert_false(ending(f));
	out(f, PORT_PM1_CONTROL, 2, 1 << 13 | 5 << 10);
	expect_end(f, VM_EXIT_POWER_OFF, "S5");
}

static void pm_timer_runs_at_its_frequency(void **state)
{
	struct fixture *f = need(state);
	uint64_t start = monotonic_ns(), ns;
	uint32_t first = in(f, PORT_PM_TIMER, 4), ticks;

	usleep(50000);
	ticks = in(f, PORT_PM_TIMER, 4) - first;
	ns = monotonic_ns() - start;
	/* It counted no longer than we did, and at least what was slept. */
	assert_true(ticks >= 3579545 / 20 - 4);
	assert_true(ticks <= ns * 3579545 / NSEC_PER_SEC + 4);
	out(f, PORT_PM_TIMER, 4, 0);
	assert_true(in(f, PORT_PM_TIMER, 4) - first >= ticks);
}

static void keyboard_controller_is_idle_and_resets(void **state)
{
	struct fixture *f = need(state);

	assert_int_equal(in(f, KEYBOARD, 1), 0);
	out(f, KEYBOARD, 1, 0xd1);
	out(f, KEYBOARD, 1, 0xff);
	assert_false(ending(f));
	out(f, KEYBOARD, 1, 0xfe);
	expect_end(f, VM_EXIT_RESET, "keyboard");
}

static void test_device_tells_time_and_ends_with_its_number(void **state)
{
	struct fixture *f = need(state);
	uint64_t before = monotonic_ns();
	uint64_t now = dispatch_read(vm_mmio(f->vm), LAYOUT_PLATFORM_START, 8);

	assert_true(now >= before && now <= monotonic_ns());
	assert_int_equal(dispatch_read(vm_mmio(f->vm), LAYOUT_PLATFORM_START + 4, 4), now >> 32);
	assert_int_equal(dispatch_read(vm_mmio(f->vm), LAYOUT_PLATFORM_START + 8, 4), UINT32_MAX);
	dispatch_write(vm_mmio(f->vm), LAYOUT_PLATFORM_START + 4, 4, 1);
	dispatch_write(vm_mmio(f->vm), LAYOUT_PLATFORM_START, 1, 1);
	assert_false(ending(f));
	dispatch_write(vm_mmio(f->vm), LAYOUT_PLATFORM_START, 4, 42);
	expect_end(f, VM_EXIT_POWER_OFF, "test device: 42");
}

static unsigned clock_register(struct fixture *f, uint8_t index)
{
	out(f, CLOCK_INDEX, 1, index);
	return in(f, CLOCK_DATA, 1);
}

static int decimal(unsigned bcd)
{
	return (int)((bcd >> 4) * 10 + (bcd & 15));
}

static void clock_tells_the_hosts_time(void **state)
{
	struct fixture *f = need(state);
	time_t before = time(NULL), guest;
	struct tm tm = {
		.tm_sec = decimal(clock_register(f, 0)),
		.tm_min = decimal(clock_register(f, 2)),
		.tm_hour = decimal(clock_register(f, 4)),
		.tm_mday = decimal(clock_register(f, 7)),
		.tm_mon = decimal(clock_register(f, 8)) - 1,
		.tm_year = decimal(clock_register(f, 9)) + 100,
	};

	guest = timegm(&tm);
	/* A minute may have ended between two registers. */
	assert_true(llabs((long long)(guest - before)) <= 61);
	assert_int_equal(clock_register(f, 0x0a) & 0x80, 0);
	assert_int_equal(clock_register(f, 0x8d), 0x80); /* the index's bit 7 is the NMI mask */
	out(f, CLOCK_INDEX, 1, 0x40);
	out(f, CLOCK_DATA, 1, 0x5a);
	assert_int_equal(clock_register(f, 0x40), 0x5a);
}

static void serial_output_reaches_its_file(void **state)
{
	struct fixture *f = need(state);
	char text[6] = { 0 };

	for (const char *c = "hello"; *c; c++)
		out(f, PORT_SERIAL, 1, (uint8_t)*c);
	assert_int_equal(read(f->pipe[0], text, 5) > 0, 1);
	assert_int_equal(text[0], 'h');
}

/* Whether the guest may send within @ms: the port's thread empties its queue beside us. */
static bool transmitter_ready(struct fixture *f, unsigned ms)
{
	for (unsigned i = 0; i <= ms; i++) {
		if (in(f, PORT_SERIAL + 5, 1) & 0x20)
			return true;
		usleep(1000);
	}
	return false;
}

static void serial_output_never_waits_for_its_reader(void **state)
{
	struct fixture *f = need(state);
	uint64_t start = monotonic_ns(), sent = 0, got = 0;
	static uint8_t bytes[4096];

	/* The pipe takes up to 64 KiB and the queue as much; then the transmitter stays busy. */
	while (sent < MIB && transmitter_ready(f, 200)) {
		out(f, PORT_SERIAL, 1, (uint8_t)sent);
		sent++;
	}
	assert_true(sent > 64 * KIB && sent < 256 * KIB);
	out(f, PORT_SERIAL, 1, 'x'); /* lost, but nobody waited */
	assert_true(monotonic_ns() - start < 20 * NSEC_PER_SEC);
	while (got < sent) {
		ssize_t n = read(f->pipe[0], bytes, sizeof(bytes));

		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(bytes[i], (uint8_t)(got + (uint64_t)i));
		got += (uint64_t)n;
	}
	assert_int_equal(got, sent);
	assert_true(transmitter_ready(f, 2000));
}

static void serial_port_is_destroyed_though_nobody_reads(void **state)
{
	struct fixture *f = need(state);
	uint64_t start;

	while (transmitter_ready(f, 200))
		out(f, PORT_SERIAL, 1, 'x');
	start = monotonic_ns();
	serial_destroy(f->serial);
	f->serial = NULL;
	assert_true(monotonic_ns() - start < 5 * NSEC_PER_SEC);
	assert_int_equal(in(f, PORT_SERIAL, 1), 0xff);
}

static void serial_input_waits_for_room_and_tells_of_it(void **state)
{
	struct fixture *f = need(state);
	struct pollfd room = { .fd = serial_room_fd(f->serial), .events = POLLIN };

	out(f, PORT_SERIAL + 2, 1, 1); /* FIFO on */
	assert_int_equal(serial_input(f->serial, "0123456789", 10), 10);
	assert_int_equal(poll(&room, 1, 0), 0);
	assert_int_equal(serial_input(f->serial, "0123456789", 10), 6);
	assert_int_equal(poll(&room, 1, 0), 0);
	assert_int_equal(in(f, PORT_SERIAL, 1), '0');
	assert_int_equal(poll(&room, 1, 0), 1);
	assert_int_equal(serial_input(f->serial, "ab", 2), 1);
}

static void creation_and_destruction_leave_no_descriptors(void **state)
{
	struct fixture *f;
	unsigned before;

	need(state);
	teardown(state);
	before = open_fds();
	assert_int_equal(setup(state), 0);
	f = *state;
	/* The ports are taken: a second of each is refused, and gives back what it took. */
	{
		unsigned with_one = open_fds();
		struct serial *serial;
		struct power *power;
		struct clock *clock;

		assert_int_equal(serial_create(f->vm, 1, &serial, NULL), -EEXIST);
		assert_int_equal(power_create(f->vm, &power, NULL), -EEXIST);
		assert_int_equal(clock_create(f->vm, &clock, NULL), -EEXIST);
		assert_int_equal(open_fds(), with_one);
	}
	teardown(state);
	*state = NULL;
	assert_int_equal(open_fds(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(power_button_sets_a_status_that_writing_one_clears),
		TEST(sleep_type_5_powers_off_and_no_other),
		TEST(pm_timer_runs_at_its_frequency),
		TEST(keyboard_controller_is_idle_and_resets),
		TEST(test_device_tells_time_and_ends_with_its_number),
		TEST(clock_tells_the_hosts_time),
		TEST(serial_output_reaches_its_file),
		TEST(serial_output_never_waits_for_its_reader),
		TEST(serial_port_is_destroyed_though_nobody_reads),
		TEST(serial_input_waits_for_room_and_tells_of_it),
		TEST(creation_and_destruction_leave_no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
