// SPDX-License-Identifier: Apache-2.0
/*
 * The terminal of a guest's console: raw while the guest owns it, as it was on every way out, and
 * the few escapes that are for the VMM and not for the guest.
 *
 * The saved state is global, since atexit() and signal handlers have no argument. It is set once
 * before threads exist.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "hypervisor-glue/platform.h"

#define ESCAPE 0x01 /* Ctrl-A */

static struct termios saved;
static volatile sig_atomic_t saved_fd = -1;

void terminal_restore(void)
{
	int fd = saved_fd;

	if (fd < 0)
		return;
	saved_fd = -1;
	tcsetattr(fd, TCSANOW, &saved); /* async-signal-safe (signal-safety(7)) */
}

/* SA_RESETHAND: the signal is the default's again, and ends the process as it would have. */
static void fatal_signal(int number)
{
	terminal_restore();
	raise(number);
}

static void handlers_install(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGQUIT };
	struct sigaction now;

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++) {
		const struct sigaction handler = {
			.sa_handler = fatal_signal,
			.sa_flags = (int)SA_RESETHAND,
		};

		/* Whoever has a handler already has a reason. */
		if (!sigaction(fatal[i], NULL, &now) && now.sa_handler == SIG_DFL)
			sigaction(fatal[i], &handler, NULL);
	}
}

int terminal_raw(int fd)
{
	static bool registered;
	struct termios raw;

	if (!isatty(fd))
		return -ENOTTY;
	/* In the background, reading or setting it would stop the whole process (SIGTTOU). */
	if (tcgetpgrp(fd) != getpgrp())
		return -EBUSY;
	if (tcgetattr(fd, &saved) < 0)
		return -errno;
	if (!registered) {
		atexit(terminal_restore);
		handlers_install();
		registered = true;
	}
	raw = saved;
	cfmakeraw(&raw);
	raw.c_oflag = saved.c_oflag;
	saved_fd = fd;
	if (tcsetattr(fd, TCSANOW, &raw) < 0) {
		saved_fd = -1;
		return -errno;
	}
	return 0;
}

size_t terminal_filter(struct terminal_escape *escape, uint8_t *bytes, size_t count,
		       enum terminal_command *command)
{
	size_t kept = 0;

	*command = TERMINAL_NONE;
	for (size_t i = 0; i < count; i++) {
		uint8_t byte = bytes[i];

		if (!escape->armed) {
			if (byte == ESCAPE)
				escape->armed = true;
			else
				bytes[kept++] = byte;
			continue;
		}
		escape->armed = false;
		if (byte == 'x')
			*command = TERMINAL_QUIT;
		else if (byte == 'p' && *command != TERMINAL_QUIT)
			*command = TERMINAL_POWER_BUTTON;
		else if (byte == 'a' || byte == ESCAPE)
			bytes[kept++] = ESCAPE;
		/* Any other byte after Ctrl-A was a slip and is dropped with it. */
	}
	return kept;
}
