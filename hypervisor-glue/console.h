/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console: what is typed, on its way to the guest. It is kept across resets of the guest; each
 * life of the guest has its own event loop and its own place where the bytes go.
 */
#ifndef GLUE_CONSOLE_H
#define GLUE_CONSOLE_H

#include <systemd/sd-event.h>

#include "hypervisor-glue/platform.h"

struct console;

/* Where bytes go: the serial port, a pipe (non-blocking, for hvc0), or nowhere. */
struct console_target {
	struct serial *serial; /* NULL: none */
	int pipe_fd;	       /* -1: none */
};

/* console_target_give() - how many of @count bytes the target took; what nobody will ever read counts as taken. */
size_t console_target_give(const struct console_target *target, const uint8_t *bytes, size_t count);
/*
 * console_target_watch() - call @on_room, in the loop @event, when the target has room again; *source stays NULL where it is nowhere. The
 * serial port's descriptor is an eventfd, which console_target_room() empties. Returns 0 or more, or -errno.
 */
int console_target_watch(const struct console_target *target, sd_event *event,
			 sd_event_source **source, sd_event_io_handler_t on_room, void *opaque);
void console_target_room(const struct console_target *target, int fd);

/* What a person asks of the VM; called from the event loop. */
typedef void (*console_command)(void *opaque, enum terminal_command command);

/* console_create() - @fd (borrowed) becomes raw when it is a terminal of ours. */
int console_create(int fd, struct console **out, struct error *e);
/* console_destroy() - the terminal is as it was. NULL is fine. */
void console_destroy(struct console *console);

/*
 * console_attach() - read from the loop @event until console_detach(). What the target cannot
 * take is kept, and reading stops, until it has room. An end of input ends the reading, not the
 * guest.
 */
int console_attach(struct console *console, sd_event *event, const struct console_target *target,
		   console_command command, void *opaque, struct error *e);
void console_detach(struct console *console);

#endif
