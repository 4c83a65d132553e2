// SPDX-License-Identifier: Apache-2.0
/*
 * Typed bytes: read, freed of escapes, handed on. One small buffer; while it is not empty nothing
 * is read from a file or pipe, so that a guest that does not listen holds back who writes there. A
 * terminal is always read: its escapes are the way out when a guest hangs, and raw mode leaves no
 * other. What a person types beyond the buffer is lost then.
 *
 * All of it runs in the event loop's thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "hypervisor-glue/console.h"

#define BUFFER_SIZE 256

struct console {
	int fd;
	bool raw, ended;
	struct terminal_escape escape;
	size_t start, count; /* what waits in the buffer */
	uint8_t buffer[BUFFER_SIZE];

	/* one life of the guest */
	struct console_target target;
	console_command command;
	void *opaque;
	sd_event_source *input, *room;
};

int console_create(int fd, struct console **out, struct error *e)
{
	struct console *console = calloc(1, sizeof(*console));
	int err;

	if (!console)
		return error_set(e, ENOMEM, "no-memory", NULL, "console: out of memory");
	console->fd = fd;
	err = terminal_raw(fd);
	console->raw = !err;
	/* Another process group's terminal: reading would stop us (SIGTTIN). */
	console->ended = err == -EBUSY;
	if (err && err != -ENOTTY && err != -EBUSY)
		log_warn("console: the terminal stays as it is: %s", strerror(-err));
	*out = console;
	return 0;
}

void console_destroy(struct console *console)
{
	if (!console)
		return;
	if (console->raw)
		terminal_restore();
	free(console);
}

static void buffer_flush(struct console *console)
{
	size_t n = console_target_give(&console->target, console->buffer + console->start,
				       console->count);

	console->start += n;
	console->count -= n;
	if (console->input)
		sd_event_source_set_enabled(console->input,
					    console->ended || (console->count && !console->raw)
						    ? SD_EVENT_OFF
						    : SD_EVENT_ON);
	if (console->room)
		sd_event_source_set_enabled(console->room,
					    console->count ? SD_EVENT_ON : SD_EVENT_OFF);
}

static void input_read(struct console *console)
{
	enum terminal_command command;
	uint8_t typed[BUFFER_SIZE];
	ssize_t n = read(console->fd, typed, sizeof(typed));
	size_t kept;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		console->ended = true;
		n = 0;
	}
	kept = terminal_filter(&console->escape, typed, (size_t)n, &command);
	memmove(console->buffer, console->buffer + console->start, console->count);
	console->start = 0;
	kept = MIN(kept, sizeof(console->buffer) - console->count);
	memcpy(console->buffer + console->count, typed, kept);
	console->count += kept;
	buffer_flush(console);
	if (command != TERMINAL_NONE)
		console->command(console->opaque, command);
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	input_read(opaque);
	return 0;
}

/* A regular file cannot be polled; it is always ready. */
static int on_turn(sd_event_source *source, void *opaque)
{
	input_read(opaque);
	return 0;
}

static int on_room(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct console *console = opaque;

	console_target_room(&console->target, fd);
	buffer_flush(console);
	return 0;
}

int console_attach(struct console *console, sd_event *event, const struct console_target *target,
		   console_command command, void *opaque, struct error *e)
{
	int err = 0;

	console->target = *target;
	console->command = command;
	console->opaque = opaque;
	if (!console->ended) {
		err = sd_event_add_io(event, &console->input, console->fd, EPOLLIN, on_input,
				      console);
		if (err == -EPERM)
			err = sd_event_add_defer(event, &console->input, on_turn, console);
	}
	if (err >= 0)
		err = console_target_watch(target, event, &console->room, on_room, console);
	if (err < 0) {
		console_detach(console);
		return error_set(e, -err, "console", NULL, "console: event loop: %s",
				 strerror(-err));
	}
	/* What an earlier life of the guest did not read is for this one. */
	buffer_flush(console);
	return 0;
}

void console_detach(struct console *console)
{
	console->input = sd_event_source_disable_unref(console->input);
	console->room = sd_event_source_disable_unref(console->room);
	console->target = (struct console_target){ .pipe_fd = -1 };
}
