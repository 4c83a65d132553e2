/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox: what a running VMM may still do: nothing but what a table lists (sandbox_table.c).
 *
 * Order: everything is opened by one thread; sandbox_close() takes privileges, paths and networks
 * from it; threads begin, each under the filter of its kind; sandbox_close_main() then filters the
 * first thread too, before the guest's first instruction. docs/sandbox.md is for operators and for who
 * adds an entry.
 */
#ifndef GLUE_SANDBOX_H
#define GLUE_SANDBOX_H

#include "hypervisor-glue/hypervisor-glue.h"

/* A sanitizer is built in: paths and system calls stay open, since it needs them to report. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANDBOX_SANITIZED 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define SANDBOX_SANITIZED 1
#endif
#ifndef SANDBOX_SANITIZED
#define SANDBOX_SANITIZED 0
#endif

/* A path that stays reachable, with everything beneath it. One that is not there is left out. */
struct sandbox_path {
	const char *path;
	bool write;  /* contents, and device ioctls; else it is only read */
	bool remove; /* names in it, and nothing else */
};

struct sandbox_options {
	struct machine_jail jail;
	bool control, console, hotplug;	  /* what the first thread does beside waiting */
	uint64_t locked;		  /* bytes that may have to be locked for DMA later */
	const struct sandbox_path *paths; /* NULL: none */
	unsigned path_count;
};

/*
 * sandbox_close() - confine the process for good: resource limits, the jail, no capability, no new
 * privileges, no path (Landlock); filters are made, and every thread that begins from now on by
 * thread_create() gets the one of its kind. Call it with one thread, everything open.
 *
 * Returns 0 or -errno: "sandbox-threads" (another thread exists already), "no-seccomp", "jail",
 * "sandbox". After an error the process is of no more use.
 */
int sandbox_close(const struct sandbox_options *options, struct error *e);

/*
 * sandbox_close_main() - the calling thread gets the filter "main". Threads that it starts later
 * inherit it, so it lists what they need as well. Returns 0 or -errno ("no-seccomp").
 */
int sandbox_close_main(struct error *e);

/* ---- private to sandbox*.c, and to tests/unit/test_sandbox.c ------------------------------- */

/* Kinds of threads, as bits; names are those of thread_create(). */
enum sandbox_kind {
	KIND_MAIN = 1 << 0,
	KIND_VCPU = 1 << 1,
	KIND_SERIAL = 1 << 2,
	KIND_RCU = 1 << 3,
	KIND_BLK = 1 << 4,
	KIND_NET = 1 << 5,
	KIND_CONSOLE = 1 << 6,
	KIND_RNG = 1 << 7,
	KIND_VSOCK = 1 << 8,
	KIND_USER = 1 << 9, /* reader of a vfio-user connection */
	KIND_RESET = 1 << 10,
};
#define SANDBOX_KINDS 11
/* What the first thread does besides, when an option asks for it. */
#define ROLE_CONTROL (1 << SANDBOX_KINDS)
#define ROLE_HOTPLUG (2 << SANDBOX_KINDS)
#define ROLE_CONSOLE (4 << SANDBOX_KINDS)
/* Begun by the first thread after its own filter, which therefore holds theirs. */
#define KINDS_BELOW_MAIN    (KIND_VCPU | KIND_SERIAL | KIND_RCU | KIND_RESET)
#define KINDS_BELOW_HOTPLUG (KIND_BLK | KIND_USER)
extern const char *const sandbox_kind_names[SANDBOX_KINDS];

/* One entry of the table: @syscall is allowed to @kinds when (argument & mask) == value. */
struct sandbox_rule {
	unsigned kinds;
	int syscall;
	enum {
		RULE_ANY,
		RULE_ARGUMENT,
		RULE_OWN_PROCESS, /* argument 0 is our process ID */
		RULE_ERRNO, /* refused with errno @value, since a library goes another way then */
	} test;
	unsigned argument;
	uint64_t mask, value;
};
extern const struct sandbox_rule sandbox_rules[];
extern const unsigned sandbox_rule_count;

/*
 * sandbox_filters_make() - compile the table; @roles are those of the first thread.
 * sandbox_filter_load() - put a kind's on this thread.
 */
int sandbox_filters_make(unsigned roles, struct error *e);
int sandbox_filter_load(const char *kind);
/* sandbox_thread() - the threads' hook: the filter of @kind, or the process ends with a message. */
void sandbox_thread(const char *kind);

/* sandbox_landlock() - no path but @paths, no TCP, no other process. Returns 0; or -errno. */
int sandbox_landlock(const struct sandbox_path *paths, unsigned count, struct error *e);

/* sandbox_jail() - an empty root, own namespaces, another user. @paths come along. */
int sandbox_jail(const struct machine_jail *jail, const struct sandbox_path *paths, unsigned count,
		 struct error *e);

#endif
