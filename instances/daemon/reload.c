// SPDX-License-Identifier: Apache-2.0
/*
 * What is read at the start and may be read again: divvyd.yaml, the certificates that it names, instance types. All of it is good, or nothing
 * changes. Instances and who is connected go on; who has another role now, or came over TLS, where certificates may have been taken back, is let go.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/daemon/http.h"

struct reading {
	struct config config;
	struct type_catalogue types;
	struct http_tls *tls; /* NULL: no TCP */
};

int types_read(const struct daemon_options *options, struct type_catalogue *types,
	       struct findings *findings)
{
	char *copy, *save = NULL;

	if (!options->types)
		return type_catalogue_load(options->root ? options->root : "", types, findings);
	copy = strdup(options->types);
	if (!copy)
		return -ENOMEM;
	for (char *one = strtok_r(copy, ":", &save); one; one = strtok_r(NULL, ":", &save))
		type_catalogue_add_folder(types, one, findings);
	free(copy);
	return 0;
}

/* Unlike at the start, one that is wrong is an error: whoever changed it is there to be told. */
static int types_judge(const struct daemon_options *options, struct type_catalogue *types,
		       struct error *e)
{
	struct findings *findings = calloc(1, sizeof(*findings));
	int err = findings ? types_read(options, types, findings) : -ENOMEM;

	if (err)
		error_set(e, -err, "no-memory", NULL, "types: %s", strerror(-err));
	for (unsigned i = 0; findings && i < findings->count && !err; i++)
		if (findings->items[i].level == FINDING_BLOCKER)
			err = error_set(e, EINVAL, findings->items[i].code, "divvy types check",
					"%s", findings->items[i].fact);
	if (!err && !types->count)
		err = error_set(e, ENOENT, "no-types", "divvy types check",
				"there are no instance types");
	free(findings);
	return err;
}

static void reading_free(struct reading *reading)
{
	config_free(&reading->config);
	type_catalogue_free(&reading->types);
	http_tls_destroy(reading->tls);
	free(reading);
}

static int reading_make(const struct daemon_options *options, struct reading **out, struct error *e)
{
	struct reading *reading = calloc(1, sizeof(*reading));
	int err;

	if (!reading)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory to read anything");
	err = config_read(options->config ? options->config : CONFIG_FILE, options->config != NULL,
			  &reading->config, e);
	if (!err)
		err = types_judge(options, &reading->types, e);
	if (!err && reading->config.listen)
		err = http_tls_create(&reading->config, &reading->tls, e);
	if (err) {
		reading_free(reading);
		return err;
	}
	*out = reading;
	return 0;
}

int daemon_check(const struct daemon_options *options, struct error *e)
{
	struct reading *reading;
	int err = reading_make(options, &reading, e);

	if (!err)
		reading_free(reading);
	return err;
}

static bool is_same(const char *one, const char *other)
{
	return one && other ? !strcmp(one, other) : one == other;
}

int daemon_reload(struct daemon *daemon, struct error *e)
{
	struct reading *reading;
	struct config config;
	struct type_catalogue types;
	struct error why = { 0 };
	int err = reading_make(&daemon->options, &reading, e);

	if (err)
		return err;
	if (!is_same(daemon->config.listen, reading->config.listen)) {
		char *listen = reading->config.listen;

		reading->config.listen = daemon->config.listen;
		daemon->config.listen = listen;
		log_warn("listen: another place waits for a restart; all else is taken");
	}
	config = daemon->config;
	types = daemon->types;
	daemon->config = reading->config;
	daemon->types = reading->types;
	reading->config = config;
	reading->types = types;
	/* Where listen: has just gone there are none to read: the old ones hold as long as its place does. */
	if (reading->tls && daemon->config.listen)
		reading->tls = http_tls_change(daemon->http, reading->tls);
	config_apply(daemon);
	peers_judge(daemon->http);
	/* Without memory for another one the old ledger, with its limits, goes on. */
	if (daemon_account(daemon, &why))
		log_error("placement: %s", why.text);
	reading_free(reading);
	event_other(daemon, "daemon", "reloaded", "%u types", daemon->types.count);
	return 0;
}
