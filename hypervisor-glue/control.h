/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: commands to a running VM over a UNIX socket, HTTP/1.1 with JSON. docs/control.md has the
 * resources.
 *
 *   base           the socket, who may speak, how much and how long; libmicrohttpd for HTTP
 *   control_api.c  a request to an operation and its result to a reply (pure but for the operation)
 *   control_vm.c   the operations, on a session
 *
 * It lives as long as the machine, and is heard while a session's event loop runs. In between, what
 * comes waits in the socket. The event loop's thread does all of it; the guest waits for nothing here.
 */
#ifndef GLUE_CONTROL_H
#define GLUE_CONTROL_H

#include <jansson.h>
#include <systemd/sd-event.h>

#include "hypervisor-glue/hypervisor-glue.h"

enum control_command {
	CONTROL_PAUSE,
	CONTROL_RESUME,
	CONTROL_POWER_BUTTON,
	CONTROL_SHUTDOWN,
	CONTROL_RESET
};

enum control_device_kind {
	CONTROL_DEVICE_VFIO, /* @text: as --vfio */
	CONTROL_DEVICE_USER, /* @text: path of a socket */
	CONTROL_DEVICE_DISK  /* @text: path */
};
struct control_device {
	enum control_device_kind kind;
	const char *text;
	bool readonly;
};

/*
 * What requests end in. json_t results are new references; NULL: out of memory. Errors are -errno with
 * *e filled, whose errno becomes the HTTP status (control_api.c has the table).
 */
struct control_ops {
	json_t *(*info)(void *opaque);
	json_t *(*counters)(void *opaque);
	int (*command)(void *opaque, enum control_command command, struct error *e);
	/* @device: out, what was added, as in info */
	int (*add)(void *opaque, const struct control_device *wanted, json_t **device,
		   struct error *e);
	/* @device: out, as in info, while the guest has not given it up; NULL: it is gone */
	int (*remove)(void *opaque, const char *id, unsigned seconds, bool force, json_t **device,
		      struct error *e);
};

/* Operations on a session; @opaque is the struct session. */
extern const struct control_ops control_vm_ops;

struct control_target {
	const struct control_ops *ops;
	void *opaque;
};
/* control_vm_answer() - what a control socket asks, of a struct control_target. */
control_answer control_vm_answer;

#endif
