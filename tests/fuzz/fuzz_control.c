// SPDX-License-Identifier: Apache-2.0
/*
 * Whoever may open the control socket, with bad intentions. Both ways in:
 *   even first byte: the rest is one request for the resources: method, path and body, cut at NULs
 *   odd first byte:  the rest is bytes on a connection, sent in pieces; pieces that are cut at a byte
 *                    0xff close it, and the next comes on another
 *
 * Checked beside the sanitizers: every answer has a status that HTTP knows, an error has its code and
 * text, operations are only reached with what they may be given, and at the end no connection is left.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hypervisor-glue/control.h"

#define PIECE 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* ---- operations: they say no now and then ---------------------------------------------------- */

static unsigned calls;

static int result(struct error *e)
{
	static const int errs[] = { 0, EBUSY, 0, ENOENT, 0, EIO };
	int err = errs[calls++ % ARRAY_SIZE(errs)];

	return err ? error_set(e, err, "fuzz", "next", "text \xff that is no UTF-8") : 0;
}

static json_t *fuzz_info(void *opaque)
{
	return calls++ % 8 ? json_pack("{s:s}", "name", "fuzz") : NULL;
}

static int fuzz_command(void *opaque, enum control_command command, struct error *e)
{
	must(command <= CONTROL_RESET);
	return result(e);
}

static int fuzz_add(void *opaque, const struct control_device *wanted, json_t **device,
		    struct error *e)
{
	struct machine_device parsed;
	int err = result(e);

	must(wanted->kind <= CONTROL_DEVICE_DISK && wanted->text);
	if (wanted->kind == CONTROL_DEVICE_VFIO &&
	    machine_device_parse(wanted->text, "", &parsed, e))
		return -EINVAL;
	if (!err)
		*device = json_pack("{s:s}", "id", wanted->text);
	return err;
}

static int fuzz_remove(void *opaque, const char *id, unsigned seconds, bool force, json_t **device,
		       struct error *e)
{
	int err = result(e);

	must(id && seconds >= 1 && seconds <= 600);
	if (!err && !force)
		*device = json_pack("{s:s}", "id", id);
	return err;
}

static const struct control_ops fuzz_ops = {
	fuzz_info, fuzz_info, fuzz_command, fuzz_add, fuzz_remove,
};

static struct control_target target = { &fuzz_ops, NULL };

/* ---- one request ----------------------------------------------------------------------------- */

/* What is up to the next NUL, or to the end. */
static const char *part(char **at, char *end)
{
	char *start = *at, *nul = memchr(start, '\0', (size_t)(end - start));

	*at = nul ? nul + 1 : end;
	return start;
}

static void one_request(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *at = text, *end = text + size;
	struct control_reply reply;
	const char *method, *path;

	must(text);
	memcpy(text, data, size);
	text[size] = '\0';
	method = part(&at, end);
	path = part(&at, end);
	reply = control_vm_answer(&target, method, path, at,
				  MIN((size_t)(end - at), (size_t)CONTROL_BODY_MAX));
	must(reply.status >= 200 && reply.status < 600);
	must((reply.status == 405) == !!reply.allow);
	if (reply.status >= 400) {
		must(json_string_value(json_object_get(reply.body, "code")));
		must(json_string_value(json_object_get(reply.body, "text")));
	}
	json_decref(reply.body);
	free(text);
}

/* ---- bytes on connections -------------------------------------------------------------------- */

static void drain(sd_event *event, int fd)
{
	char answer[4096];

	for (unsigned i = 0; i < 64 && sd_event_run(event, 0) > 0; i++)
		;
	while (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) > 0)
		;
}

static void connections(const uint8_t *data, size_t size)
{
	static struct control_socket *control;
	static sd_event *event;
	int pair[2] = { -1, -1 };

	if (!control) {
		must(!control_socket_open(&control, NULL));
		must(sd_event_new(&event) >= 0);
		must(!control_socket_attach(control, event, control_vm_answer, &target, NULL));
	}
	while (size) {
		const uint8_t *cut;
		size_t length = MIN(size, (size_t)PIECE);

		if (pair[0] < 0) {
			must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
					 pair));
			control_socket_adopt(control, pair[1]);
		}
		cut = memchr(data, 0xff, length);
		if (cut)
			length = (size_t)(cut - data);
		/* Refused once the other end has had enough. */
		(void)!send(pair[0], data, length, MSG_NOSIGNAL);
		drain(event, pair[0]);
		data += length + !!cut;
		size -= length + !!cut;
		if (cut || !size) {
			close(pair[0]);
			pair[0] = -1;
			drain(event, -1);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	log_set_level(LOG_LEVEL_ERROR);
	calls = 0;
	if (!size)
		return 0;
	if (data[0] & 1)
		connections(data + 1, size - 1);
	else
		one_request(data + 1, size - 1);
	return 0;
}
