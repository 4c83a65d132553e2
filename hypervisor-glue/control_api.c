// SPDX-License-Identifier: Apache-2.0
/*
 * The resources of the control socket: which path takes which method, what JSON it takes and gives.
 * Bytes come from whoever may open the socket and are judged here once; nothing here knows sockets or
 * the machine.
 */
#include <errno.h>
#include <string.h>

#include "hypervisor-glue/control.h"

#define SECONDS_DEFAULT 30 /* what a guest has to give up a device: Linux takes about seven */
#define SECONDS_MAX	600

struct request {
	const struct control_ops *ops;
	void *opaque;
	json_t *body; /* NULL: none was sent */
};

/* ---- replies --------------------------------------------------------------------------------- */

static struct control_reply answered(unsigned status, json_t *body)
{
	struct error e = { 0 };

	if (body)
		return (struct control_reply){ .status = status, .body = body };
	error_set(&e, ENOMEM, "no-memory", NULL, "no memory for an answer");
	return control_refuse(500, &e);
}

static struct control_reply malformed(const char *what)
{
	struct error e = { 0 };

	error_set(&e, EINVAL, "bad-request", "docs/control.md has the resources", "%s", what);
	return control_refuse(400, &e);
}

/* ---- resources ------------------------------------------------------------------------------- */

static struct control_reply vm_info(const struct request *request)
{
	return answered(200, request->ops->info(request->opaque));
}

static struct control_reply vm_counters(const struct request *request)
{
	return answered(200, request->ops->counters(request->opaque));
}

static struct control_reply command(const struct request *request, enum control_command command)
{
	struct error e = { 0 };

	if (request->body && json_object_size(request->body))
		return malformed("this command takes no values");
	if (request->ops->command(request->opaque, command, &e))
		return control_failed(&e);
	return (struct control_reply){ .status = 204 };
}

static struct control_reply vm_pause(const struct request *request)
{
	return command(request, CONTROL_PAUSE);
}

static struct control_reply vm_resume(const struct request *request)
{
	return command(request, CONTROL_RESUME);
}

static struct control_reply vm_power_button(const struct request *request)
{
	return command(request, CONTROL_POWER_BUTTON);
}

static struct control_reply vm_shutdown(const struct request *request)
{
	return command(request, CONTROL_SHUTDOWN);
}

static struct control_reply vm_reset(const struct request *request)
{
	return command(request, CONTROL_RESET);
}

static struct control_reply add(const struct request *request, enum control_device_kind kind,
				const char *format, const char *key)
{
	struct control_device device = { .kind = kind };
	json_error_t why = { .text = "a JSON object is needed" };
	struct error e = { 0 };
	json_t *added = NULL;
	int readonly = 0;

	if (!request->body || json_unpack_ex(request->body, &why, 0, format, key, &device.text,
					     "readonly", &readonly))
		return malformed(why.text);
	device.readonly = readonly;
	if (request->ops->add(request->opaque, &device, &added, &e))
		return control_failed(&e);
	return answered(200, added);
}

static struct control_reply vm_add_device(const struct request *request)
{
	return add(request, CONTROL_DEVICE_VFIO, "{s:s !}", "device");
}

static struct control_reply vm_add_user_device(const struct request *request)
{
	return add(request, CONTROL_DEVICE_USER, "{s:s !}", "socket");
}

static struct control_reply vm_add_disk(const struct request *request)
{
	return add(request, CONTROL_DEVICE_DISK, "{s:s, s?b !}", "path");
}

static struct control_reply vm_remove_device(const struct request *request)
{
	json_error_t why = { .text = "a JSON object is needed" };
	json_int_t seconds = SECONDS_DEFAULT;
	struct error e = { 0 };
	json_t *leaving = NULL;
	const char *id;
	int force = 0;

	if (!request->body || json_unpack_ex(request->body, &why, 0, "{s:s, s?b, s?I !}", "id", &id,
					     "force", &force, "timeout_s", &seconds))
		return malformed(why.text);
	if (seconds < 1 || seconds > SECONDS_MAX)
		return malformed("timeout_s is 1 to 600");
	if (request->ops->remove(request->opaque, id, (unsigned)seconds, force, &leaving, &e))
		return control_failed(&e);
	if (leaving)
		return answered(202, leaving);
	return (struct control_reply){ .status = 204 };
}

static const struct resource {
	const char *method, *path;
	struct control_reply (*answer)(const struct request *request);
} resources[] = {
	{ "GET", "/api/v1/vm.info", vm_info },
	{ "GET", "/api/v1/vm.counters", vm_counters },
	{ "PUT", "/api/v1/vm.pause", vm_pause },
	{ "PUT", "/api/v1/vm.resume", vm_resume },
	{ "PUT", "/api/v1/vm.power-button", vm_power_button },
	{ "PUT", "/api/v1/vm.shutdown", vm_shutdown },
	{ "PUT", "/api/v1/vm.reset", vm_reset },
	{ "PUT", "/api/v1/vm.add-device", vm_add_device },
	{ "PUT", "/api/v1/vm.add-user-device", vm_add_user_device },
	{ "PUT", "/api/v1/vm.add-disk", vm_add_disk },
	{ "PUT", "/api/v1/vm.remove-device", vm_remove_device },
};

static struct control_reply answer(const struct resource *resource, struct request *request,
				   const char *body, size_t size)
{
	struct control_reply reply;
	json_error_t why;

	if (size) {
		request->body = json_loadb(body, size, JSON_REJECT_DUPLICATES, &why);
		if (!request->body)
			return malformed(why.text);
		if (!json_is_object(request->body)) {
			json_decref(request->body);
			return malformed("the body is no JSON object");
		}
	}
	reply = resource->answer(request);
	json_decref(request->body);
	return reply;
}

struct control_reply control_vm_answer(void *opaque, const char *method, const char *path,
				       const char *body, size_t size)
{
	const struct control_target *target = opaque;
	struct request request = { target->ops, target->opaque, NULL };
	struct control_reply reply;
	struct error e = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(resources); i++) {
		const struct resource *resource = &resources[i];

		if (strcmp(path, resource->path))
			continue;
		if (!strcmp(method, resource->method))
			return answer(resource, &request, body, size);
		error_set(&e, EINVAL, "bad-method", NULL, "%s takes %s", resource->path,
			  resource->method);
		reply = control_refuse(405, &e);
		reply.allow = resource->method;
		return reply;
	}
	error_set(&e, ENOENT, "no-such-resource", "docs/control.md has the resources",
		  "there is no such resource");
	return control_refuse(404, &e);
}
