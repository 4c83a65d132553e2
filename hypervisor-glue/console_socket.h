/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console_socket: a guest's console on a UNIX socket (`serial socket:PATH`). It is kept across resets of the
 * guest, with who is connected and what the guest said before.
 */
#ifndef GLUE_CONSOLE_SOCKET_H
#define GLUE_CONSOLE_SOCKET_H

#include "hypervisor-glue/console.h"

/* What the guest said last is shown to who connects, so many bytes of it. */
#define CONSOLE_HISTORY (64 * KIB)

struct console_socket;

/*
 * console_socket_create() - listen at @path (unix_listener_open(), whose errors these are).
 * console_socket_destroy() - what was said and fits is sent, all is closed, the name is removed. NULL is fine.
 * console_socket_output() - where the guest's output is to be written; borrowed. It is read whoever is
 * connected, while attached.
 */
int console_socket_create(const char *path, struct console_socket **out, struct error *e);
void console_socket_destroy(struct console_socket *console);
int console_socket_output(const struct console_socket *console);

/*
 * console_socket_attach() - serve from the loop @event until console_socket_detach(). One peer at a time
 * reads and writes: another is told which process has the console, and let go.
 */
int console_socket_attach(struct console_socket *console, sd_event *event,
			  const struct console_target *target, struct error *e);
void console_socket_detach(struct console_socket *console);

#endif
