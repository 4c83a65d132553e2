/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: commands to a running VM over a UNIX socket, HTTP/1.1 with JSON. docs/control.md has the
 * resources.
 *
 *   control.c      the socket, who may speak, how much and how long; libmicrohttpd for HTTP
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

struct control;

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

/*
 * control_create() - a socket at @path that its owner and root may use, mode 0600. A socket that
 * nobody listens on any more is replaced; anything else that is there is not.
 * Errors: "control-in-use", "control-path", "control-failed".
 */
int control_create(const char *path, struct control **out, struct error *e);
/* control_destroy() - close all connections and remove the socket. NULL is fine. */
void control_destroy(struct control *control);
/* control_attach() - answer requests with @ops from the loop @event, until control_detach(). */
int control_attach(struct control *control, sd_event *event, const struct control_ops *ops,
		   void *opaque, struct error *e);
void control_detach(struct control *control);

/* ---- control_api.c -------------------------------------------------------------------------- */

#define CONTROL_BODY_MAX (16 * KIB)

struct control_reply {
	unsigned status;   /* HTTP */
	const char *allow; /* methods, with 405 */
	json_t *body;	   /* NULL: none; the caller's */
};

/*
 * control_answer() - do what is asked for and say what came of it.
 * @body: @size bytes of JSON, at most CONTROL_BODY_MAX; not NUL-terminated
 */
struct control_reply control_answer(const struct control_ops *ops, void *opaque, const char *method,
				    const char *path, const char *body, size_t size);
/* control_refuse() - a reply of @status with {code, text, next} of @e. */
struct control_reply control_refuse(unsigned status, const struct error *e);

/* ---- for tests ------------------------------------------------------------------------------ */

/* control_adopt() - speak HTTP on the connected socket @fd, which is taken over. Attached only. */
void control_adopt(struct control *control, int fd);
/* control_open() - control_create() without a socket of its own. */
int control_open(struct control **out, struct error *e);

#endif
