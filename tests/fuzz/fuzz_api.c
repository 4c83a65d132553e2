// SPDX-License-Identifier: Apache-2.0
/*
 * Requests from strangers, into the API without its socket: whatever the method, path, headers and body, they are answered, by a status that
 * fits who asks; a daemon whose machine has no GPU can start nothing, but defines, changes and deletes.
 *
 * Input: a byte of role and headers, then METHOD SP PATH, a line each: If-Match, since; the rest is the body.
 */
#include <microhttpd.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/daemon/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct daemon *node;
static sd_event *event;

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void begin(void)
{
	static char folder[] = "/tmp/divvy-fuzz-XXXXXX", state[64], run[64], types[64], path[96];
	static const char text[] =
		"- name: small\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
		"    - { mode: shared, policy: weighted, weight: 100, partition: 0.01 }\n";
	static const struct node_vulkan none = { 0 };
	const struct daemon_options options = { .root = folder,
						.state = state,
						.run = run,
						.types = types,
						.programs = folder,
						.vulkan = &none };
	struct error e = { 0 };
	FILE *file;

	must(mkdtemp(folder) != NULL);
	snprintf(state, sizeof(state), "%s/state", folder);
	snprintf(run, sizeof(run), "%s/run", folder);
	snprintf(types, sizeof(types), "%s/types", folder);
	snprintf(path, sizeof(path), "mkdir %s", types);
	must(!system(path));
	snprintf(path, sizeof(path), "%s/types.yaml", types);
	file = fopen(path, "w");
	if (!file)
		abort();
	fputs(text, file);
	fclose(file);
	log_set_level(LOG_LEVEL_ERROR);
	must(sd_event_new(&event) >= 0);
	if (daemon_create(&options, event, &node, &e)) {
		error_print(&e, "fuzz_api");
		abort();
	}
	/* Nothing here is meant to survive: the disk need not be waited for. */
	must(!store_begin(node->store, &e));
}

/* Up to the next newline, NUL-terminated; what is there after it. */
static char *line(char **at)
{
	char *begin = *at, *end = strchr(begin, '\n');

	if (end)
		*end = '\0';
	*at = end ? end + 1 : begin + strlen(begin);
	return begin;
}

static void one(char *text, size_t size)
{
	struct http_request request = { .daemon = node };
	const uint8_t flags = (uint8_t)text[0];
	char *at = text + 1, *method = line(&at), *path = strchr(method, ' '), *match = line(&at),
	     *since = line(&at);
	static char slash[] = "/";

	if (path)
		*path++ = '\0';
	request.method = method;
	request.path = path ? path : slash;
	request.role = (enum daemon_role)(flags & 3);
	request.uid = flags & 4 ? 1000 : 0;
	request.if_match = match[0] ? match : NULL;
	request.if_none_match = flags & 8 ? "*" : NULL;
	request.since = since[0] ? since : NULL;
	request.follow = flags & 16 ? "0" : NULL;
	request.body = at;
	request.size = size - (size_t)(at - text);
	/* Each input is as after a long rest. */
	memset(node->changers, 0, sizeof(node->changers));
	api_handle(&request);
	/* Without a GPU nothing has to be waited for. */
	must(request.answered);
	must(request.status >= 200 && request.status < 600);
	must(request.role != DAEMON_NOBODY || request.status == 401);
	must(request.role != DAEMON_VIEWER || !strcmp(method, "GET") || request.status >= 400);
	if (request.response)
		MHD_destroy_response(request.response);
	free(request.tag);
}

static void check(void)
{
	for (unsigned i = 0; i < node->instance_count; i++) {
		const struct instance *instance = node->instances[i];

		must(instance_name_ok(instance->row.name));
		must(!i || strcmp(node->instances[i - 1]->row.name, instance->row.name) < 0);
		must(!instance_active(instance) && !instance->part_count);
		must(instance->row.image[0] == '/');
	}
	/* Never so many that a table of them would be what is tested. */
	while (node->instance_count > 32) {
		struct error e = { 0 };

		must(!instance_delete(node->instances[0], &e));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (!node)
		begin();
	if (size < 4 || size > 4096)
		return 0;
	text = malloc(size + 1);
	must(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	one(text, size);
	free(text);
	check();
	sd_event_run(event, 0);
	return 0;
}
