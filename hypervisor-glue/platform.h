/* SPDX-License-Identifier: Apache-2.0 */
/*
 * platform: the few devices that are not PCI: 16550 serial port, ACPI power management registers,
 * reset ports, keyboard-controller reset, clock, and a test device for freestanding guests; and the
 * terminal that a guest's console is on.
 */
#ifndef GLUE_PLATFORM_H
#define GLUE_PLATFORM_H

#include "hypervisor-glue/vm.h"

struct serial;
/*
 * serial_create() - 16550A at PORT_SERIAL, GSI_SERIAL. Output goes through a bounded queue to
 * @out_fd (borrowed), written by a thread of the port's own: a vCPU never waits for it; when the
 * queue is full the guest sees a busy transmitter.
 * serial_destroy(): writes what is queued, for half a second at most. After vm_join().
 * serial_input(): bytes for the guest, from the event loop; returns how many were taken. When not
 * all were, serial_room_fd() (an eventfd, borrowed) becomes readable once there is room again.
 */
int serial_create(struct vm *vm, int out_fd, struct serial **out, struct error *e);
void serial_destroy(struct serial *serial);
size_t serial_input(struct serial *serial, const void *bytes, size_t count);
int serial_room_fd(const struct serial *serial);

struct power;
/*
 * power_create() - PM1 event and control blocks, PM timer (32 bits), keyboard controller (status
 * 0; command 0xfe resets), and the test device at LAYOUT_PLATFORM_START (a 32-bit write of V ends
 * the VM with power-off and the note "test device: V"; reads give monotonic nanoseconds, 64 bits
 * at 0 or its halves at 0 and 4). The reset port 0xcf9 lies among the PCI host's ports.
 */
int power_create(struct vm *vm, struct power **out, struct error *e);
void power_destroy(struct power *power);
/* power_button() - press it: PM1 status bit and SCI. Any thread. */
void power_button(struct power *power);

struct clock;
/*
 * clock_create() - the date and time of an MC146818 at ports 0x70 and 0x71, following the host's
 * CLOCK_REALTIME in UTC; no alarm, no periodic interrupt.
 */
int clock_create(struct vm *vm, struct clock **out, struct error *e);
void clock_destroy(struct clock *clock);

/*
 * terminal_raw() - put the terminal @fd in raw mode while a guest owns it (output processing
 * stays on, so that log lines stay readable). It is restored by terminal_restore(), on exit() and
 * on a fatal signal. Returns 0, -ENOTTY when @fd is no terminal, -EBUSY when it is another
 * process group's, or -errno.
 */
int terminal_raw(int fd);
void terminal_restore(void);

/* What a person typed besides bytes for the guest. */
enum terminal_command {
	TERMINAL_NONE,
	TERMINAL_QUIT,
	TERMINAL_POWER_BUTTON
};
struct terminal_escape {
	bool armed; /* Ctrl-A was the last byte */
};
/*
 * terminal_filter() - takes the escapes out of @count typed @bytes, in place: Ctrl-A x ends the VM,
 * Ctrl-A p presses its power button, Ctrl-A a (or Ctrl-A twice) is one Ctrl-A.
 * @command: the last command met, TERMINAL_QUIT before all
 *
 * Returns how many bytes are left for the guest.
 */
size_t terminal_filter(struct terminal_escape *escape, uint8_t *bytes, size_t count,
		       enum terminal_command *command);

#endif
