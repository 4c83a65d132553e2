/* SPDX-License-Identifier: Apache-2.0 */
/* What verbs about an instance share. Private to instances/cli/. */
#ifndef INSTANCES_CLI_INSTANCES_H
#define INSTANCES_CLI_INSTANCES_H

#include "instances/cli/api.h"

/* instances_definition() - the API's Definition, of --type, --image and so on; the caller's. Returns 0 or CLI_USAGE. */
int instances_definition(const struct cli *cli, json_t **out);
/*
 * instances_await() - look until the instance runs, or is stopped, with progress on a terminal's stderr.
 * @instance: replaced by what was last seen
 * Returns 0 or -errno: why it failed.
 */
int instances_await(struct cli *cli, const char *name, bool running, json_t **instance,
		    struct error *e);
/*
 * cli_console_attach() - the terminal, or standard input and output, and the console of @name at the connected socket @console, which stays the
 * caller's, until somebody leaves. The terminal is as it was when this returns, or when a signal ends the process.
 * Returns 0 when the person left (Ctrl-], or a signal), 1 when the other end did, or -errno: "no-console", "console-in-use".
 * cli_console_connect() - to the socket at @path, without a daemon. Returns it or -errno: "no-console".
 * cli_console_daemon() - as cli_console_attach(), through the daemon; its errors, too.
 */
int cli_console_attach(int console, const char *name, struct error *e);
int cli_console_connect(const char *path, const char *name, struct error *e);
int cli_console_daemon(struct cli *cli, const char *name, struct error *e);

#endif
