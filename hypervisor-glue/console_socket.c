// SPDX-License-Identifier: Apache-2.0
/*
 * A guest's console for whoever comes and goes (console_socket.h).
 *
 * What the guest says comes by a pipe, which is emptied into a ring whether somebody listens or not: the guest
 * is never held by a reader. The ring's last 64 KiB are what a peer gets first; one that falls further behind is
 * told how much it missed. What it types waits in a small buffer until the guest takes it, and the peer with it.
 *
 * All of it runs in the event loop's thread, on descriptors that are open; it needs accept4, getsockopt
 * (SO_PEERCRED), send, read, close, epoll_ctl.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hypervisor-glue/console_socket.h"

#define INPUT_MAX 256

struct console_socket {
	struct unix_listener listener;
	int pipe[2];   /* what the guest says: read end, write end */
	uint64_t head; /* bytes ever said; the ring holds the last of them */
	uint8_t ring[CONSOLE_HISTORY];

	int peer; /* -1: nobody */
	struct ucred who;
	bool deaf;	     /* it will type no more */
	uint64_t sent;	     /* up to where in what was said */
	char note[80];	     /* for the peer, before that */
	size_t note_sent;    /* bytes of it */
	size_t start, count; /* what it typed and the guest did not take yet */
	uint8_t typed[INPUT_MAX];

	/* one life of the guest */
	sd_event *event; /* NULL: not attached */
	struct console_target target;
	sd_event_source *listening, *said, *speaking, *room;
};

/* ---- the peer ------------------------------------------------------------------------------- */

static void peer_leave(struct console_socket *console)
{
	console->speaking = sd_event_source_disable_unref(console->speaking);
	fd_close(&console->peer);
}

static bool peer_owed(const struct console_socket *console)
{
	return console->note[console->note_sent] || console->sent < console->head;
}

static void peer_arm(struct console_socket *console)
{
	if (console->speaking)
		sd_event_source_set_io_events(
			console->speaking,
			(console->deaf || console->count ? 0u : (uint32_t)EPOLLIN) |
				(peer_owed(console) ? (uint32_t)EPOLLOUT : 0u));
	if (console->room)
		sd_event_source_set_enabled(console->room,
					    console->count ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* False when the socket takes no more, now or ever; the peer is gone then. */
static bool peer_send(struct console_socket *console, const void *bytes, size_t size, size_t *n)
{
	const ssize_t sent = send(console->peer, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);

	*n = sent > 0 ? (size_t)sent : 0;
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		peer_leave(console);
	return sent > 0;
}

/* That a peer fell behind is said before what it gets next, once: the number is right when it is sent. */
static bool peer_note(struct console_socket *console)
{
	const uint64_t missed = console->head - console->sent - CONSOLE_HISTORY;

	snprintf(console->note, sizeof(console->note),
		 "\r\n[divvy-vmm: %llu bytes were not read in time]\r\n",
		 (unsigned long long)missed);
	if (!peer_send(console, console->note, strlen(console->note), &console->note_sent)) {
		console->note[0] = '\0';
		return false;
	}
	console->sent += missed;
	return true;
}

/* As much as the socket takes of what the peer is owed. */
static void peer_flush(struct console_socket *console)
{
	bool more = true;
	size_t n;

	while (more && console->peer >= 0 && peer_owed(console)) {
		const char *note = console->note + console->note_sent;
		const size_t at = console->sent % CONSOLE_HISTORY;

		if (*note) {
			more = peer_send(console, note, strlen(note), &n);
			console->note_sent += n;
		} else if (console->head - console->sent > CONSOLE_HISTORY) {
			more = peer_note(console);
		} else {
			more = peer_send(console, console->ring + at,
					 MIN(console->head - console->sent, CONSOLE_HISTORY - at),
					 &n);
			console->sent += n;
		}
	}
	peer_arm(console);
}

/* What was typed, as far as the guest takes it; what nobody will ever read is gone. */
static void guest_give(struct console_socket *console)
{
	const size_t taken = console_target_give(&console->target, console->typed + console->start,
						 console->count);

	console->start += taken;
	console->count -= taken;
	peer_arm(console);
}

static int on_peer(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct console_socket *console = opaque;
	ssize_t n;

	if (events & EPOLLIN && !console->count) {
		n = read(fd, console->typed, sizeof(console->typed));
		if (n > 0) {
			console->start = 0;
			console->count = (size_t)n;
			guest_give(console);
		} else if (!n) {
			/* Half of a connection may be closed: `echo poweroff | socat - ...` still reads. */
			console->deaf = true;
		} else if (errno != EAGAIN && errno != EINTR) {
			peer_leave(console);
			return 0;
		}
	}
	if (events & (EPOLLHUP | EPOLLERR))
		peer_leave(console);
	else
		peer_flush(console);
	return 0;
}

static int peer_watch(struct console_socket *console)
{
	return sd_event_add_io(console->event, &console->speaking, console->peer,
			       EPOLLIN | EPOLLOUT, on_peer, console);
}

/* Whether the peer hung up, though the loop has not come to that yet. */
static bool peer_gone(const struct console_socket *console)
{
	struct pollfd p = { .fd = console->peer };

	return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR);
}

static int on_listening(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct console_socket *console = opaque;
	struct ucred who;
	char text[96];
	int one = unix_listener_accept(fd, "console socket", &who);

	if (one < 0)
		return 0;
	if (console->peer >= 0 && peer_gone(console))
		peer_leave(console);
	if (console->peer >= 0) {
		snprintf(text, sizeof(text),
			 "divvy-vmm: the console is in use by process %d of user %u\r\n",
			 console->who.pid, console->who.uid);
		(void)!send(one, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
		close(one);
		return 0;
	}
	console->who = who;
	console->peer = one;
	console->deaf = false;
	memset(console->note, 0, sizeof(console->note));
	console->note_sent = 0;
	console->sent = console->head - MIN(console->head, CONSOLE_HISTORY);
	if (peer_watch(console) < 0)
		peer_leave(console);
	else
		peer_flush(console);
	return 0;
}

/* ---- the guest ------------------------------------------------------------------------------ */

/* One piece of what the guest said; false when there is none now. */
static bool pipe_read(struct console_socket *console)
{
	const size_t at = console->head % CONSOLE_HISTORY;
	const ssize_t n = read(console->pipe[0], console->ring + at, CONSOLE_HISTORY - at);

	if (n > 0)
		console->head += (size_t)n;
	return n > 0;
}

static int on_said(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct console_socket *console = opaque;

	/* A piece a turn of the loop: a guest that never stops talking has the loop not for itself. */
	if (pipe_read(console))
		peer_flush(console);
	return 0;
}

static int on_room(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct console_socket *console = opaque;

	console_target_room(&console->target, fd);
	guest_give(console);
	return 0;
}

/* ---- life ----------------------------------------------------------------------------------- */

int console_socket_create(const char *path, struct console_socket **out, struct error *e)
{
	struct console_socket *console = calloc(1, sizeof(*console));
	int err;

	if (!console)
		return error_set(e, ENOMEM, "no-memory", NULL, "console socket: out of memory");
	console->peer = console->pipe[0] = console->pipe[1] = -1;
	console->target.pipe_fd = -1;
	err = unix_listener_open(path, &console->listener, e);
	/* The write end may wait: who writes are threads that do nothing else. */
	if (!err && (pipe2(console->pipe, O_CLOEXEC) < 0 ||
		     fcntl(console->pipe[0], F_SETFL, O_NONBLOCK) < 0))
		err = error_set(e, errno, "console", NULL, "console socket: pipe: %s",
				strerror(errno));
	if (err) {
		console_socket_destroy(console);
		return err;
	}
	*out = console;
	return 0;
}

void console_socket_destroy(struct console_socket *console)
{
	if (!console)
		return;
	/* Last words: what is in the pipe, to who takes it at once. */
	for (unsigned i = 0; console->pipe[0] >= 0 && i < 4 && pipe_read(console); i++)
		peer_flush(console);
	fd_close(&console->peer);
	unix_listener_close(&console->listener);
	fd_close(&console->pipe[0]);
	fd_close(&console->pipe[1]);
	free(console);
}

int console_socket_output(const struct console_socket *console)
{
	return console->pipe[1];
}

int console_socket_attach(struct console_socket *console, sd_event *event,
			  const struct console_target *target, struct error *e)
{
	int err;

	console->event = event;
	console->target = *target;
	err = sd_event_add_io(event, &console->listening, console->listener.fd, EPOLLIN,
			      on_listening, console);
	if (err >= 0)
		err = sd_event_add_io(event, &console->said, console->pipe[0], EPOLLIN, on_said,
				      console);
	if (err >= 0)
		err = console_target_watch(target, event, &console->room, on_room, console);
	if (err >= 0 && console->peer >= 0)
		err = peer_watch(console);
	if (err < 0) {
		console_socket_detach(console);
		return error_set(e, -err, "console", NULL, "console socket: event loop: %s",
				 strerror(-err));
	}
	/* What an earlier life of the guest did not read is for this one. */
	guest_give(console);
	return 0;
}

void console_socket_detach(struct console_socket *console)
{
	console->listening = sd_event_source_disable_unref(console->listening);
	console->said = sd_event_source_disable_unref(console->said);
	console->speaking = sd_event_source_disable_unref(console->speaking);
	console->room = sd_event_source_disable_unref(console->room);
	console->target = (struct console_target){ .pipe_fd = -1 };
	console->event = NULL;
	/* Room for what the serial port has left to write. */
	for (unsigned i = 0; i < 4 && pipe_read(console); i++)
		peer_flush(console);
}
