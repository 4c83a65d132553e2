// SPDX-License-Identifier: Apache-2.0
/* What happened: a line in the log, a row in the store, a line to everybody who listens. An event that cannot be kept is sent all the same. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/building.h"
#include "instances/daemon/private.h"

char *event_line(const struct store_event *event)
{
	json_t *json = json_pack(
		"{s:I, s:o, s:s, s:s?, s:s?, s:s, s:s}", "id", (json_int_t)event->id, "at",
		api_time(event->at_ms), "kind", event->kind, "instance",
		event->instance[0] ? event->instance : NULL, "gpu",
		event->gpu[0] ? event->gpu : NULL, "code", event->code, "text", event->text);
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_READABLE) : NULL, *line = NULL;

	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	json_decref(json);
	return line;
}

/* Somebody should look. */
static bool is_bad(const char *code)
{
	return !strcmp(code, "failed") || !strcmp(code, "quarantined");
}

static void tell(struct daemon *daemon, struct store_event *event)
{
	struct error e = { 0 };

	/* It may hold bytes of a guest's, a device's or a path: JSON is UTF-8, and this is ASCII. */
	text_printable(event->text);
	log_write(is_bad(event->code) ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "%s%s%s%s%s %s%s%s",
		  event->kind, event->instance[0] ? " " : "", event->instance,
		  event->gpu[0] ? " " : "", event->gpu, event->code, event->text[0] ? ": " : "",
		  event->text);
	if (store_event_add(daemon->store, event, &e)) {
		log_limited(LOG_LEVEL_WARN, "an event is not kept: %s", e.text);
		event->at_ms = daemon_now_ms();
		event->id = 0;
	}
	if (daemon->http && event->id)
		http_event(daemon->http, event);
}

void event_instance(struct instance *instance, const char *code, const char *fmt, ...)
{
	struct store_event event = { .kind = "instance", .owner = instance->row.owner };
	va_list ap;

	snprintf(event.code, sizeof(event.code), "%s", code);
	snprintf(event.instance, sizeof(event.instance), "%s", instance->row.name);
	va_start(ap, fmt);
	vsnprintf(event.text, sizeof(event.text), fmt, ap);
	va_end(ap);
	tell(instance->daemon, &event);
}

void event_gpu(struct daemon *daemon, const char *gpu, const char *code, const char *fmt, ...)
{
	struct store_event event = { .kind = "gpu" };
	va_list ap;

	snprintf(event.code, sizeof(event.code), "%s", code);
	snprintf(event.gpu, sizeof(event.gpu), "%s", gpu);
	va_start(ap, fmt);
	vsnprintf(event.text, sizeof(event.text), fmt, ap);
	va_end(ap);
	tell(daemon, &event);
}

void event_lease(struct instance *instance, const char *gpu, const char *code)
{
	struct store_event event = { .kind = "gpu", .owner = instance->row.owner };

	snprintf(event.code, sizeof(event.code), "%s", code);
	snprintf(event.gpu, sizeof(event.gpu), "%s", gpu);
	snprintf(event.instance, sizeof(event.instance), "%s", instance->row.name);
	snprintf(event.text, sizeof(event.text), "%s", instance->row.name);
	tell(instance->daemon, &event);
}

void event_other(struct daemon *daemon, const char *kind, const char *code, const char *fmt, ...)
{
	struct store_event event = { 0 };
	va_list ap;

	snprintf(event.kind, sizeof(event.kind), "%s", kind);
	snprintf(event.code, sizeof(event.code), "%s", code);
	va_start(ap, fmt);
	vsnprintf(event.text, sizeof(event.text), fmt, ap);
	va_end(ap);
	tell(daemon, &event);
}
