/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon: the life of a node's instances. What people want of them is in the store, what is there is on the machine, and the daemon's work is
 * to make the second like the first, one committed step at a time, so that it can be killed at any of them. docs/divvyd.md tells how.
 *
 * One thread, one event loop. What may take long runs in a child with a time limit (job.c). instances/openapi.yaml is what others see of it.
 */
#ifndef INSTANCES_DAEMON_DAEMON_H
#define INSTANCES_DAEMON_DAEMON_H

#include "base/base.h"

struct daemon;
struct node_vulkan;
struct sd_event;

enum daemon_role {
	DAEMON_NOBODY,
	DAEMON_VIEWER,
	DAEMON_USER,
	DAEMON_ADMIN
};

/* Strings are borrowed and live as long as the daemon. NULL: what the words in parentheses say. */
struct daemon_options {
	const char *root;   /* prefix of /sys, /proc and /dev for the inventory ("") */
	const char *config; /* (/etc/divvy/divvyd.yaml; it may be missing unless it was named) */
	const char *
		types; /* folders with types, ':' between them (shipped ones, /etc/divvy/types.d) */
	const char *state;    /* (/var/lib/divvy; a user: $XDG_STATE_HOME/divvy) */
	const char *run;      /* (/run/divvy; a user: $XDG_RUNTIME_DIR/divvy) */
	const char *programs; /* (where this program is) */
	const char *layers;   /* (divvy finds it) */
	/* What Vulkan says of GPUs; NULL: it is asked, in a child that is killed if it hangs. */
	const struct node_vulkan *vulkan;
};

/*
 * daemon_create() - open the store, read types and machine, take running instances back, listen.
 * @event: the loop, borrowed; its thread does everything
 * Returns 0 or -errno: what store_open() says, "bad-config", "no-types", "api-socket".
 */
int daemon_create(const struct daemon_options *options, struct sd_event *event, struct daemon **out,
		  struct error *e);
/* daemon_check() - whether it would start as far as files say: configuration, certificates, types. "bad-config", "bad-tls", a type's complaint. */
int daemon_check(const struct daemon_options *options, struct error *e);
/* daemon_reload() - read them again; unless all is good nothing changes. But listen:, which waits for the next start. */
int daemon_reload(struct daemon *daemon, struct error *e);
/* daemon_destroy() - instances go on. NULL is fine. */
void daemon_destroy(struct daemon *daemon);
/* daemon_api_path() - of the socket. */
const char *daemon_api_path(const struct daemon *daemon);

/*
 * daemon_run() - daemon_create(), its loop until SIGINT or SIGTERM, daemon_destroy(); SIGHUP is daemon_reload(). systemd is told of each.
 * Returns 0 or -errno.
 */
int daemon_run(const struct daemon_options *options, struct error *e);
/* daemon_main() - the program `divvyd`. Returns the exit status. */
int daemon_main(int argc, char **argv);

#endif
