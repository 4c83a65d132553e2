/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox: what a running process of the house may still do: nothing but what its table lists (hypervisor-glue/sandbox_table.c,
 * mdev/sandbox_table.c, mdev/gpu/render_table.c).
 *
 * Order: everything is opened by one thread; sandbox_close() takes privileges, paths and networks
 * from it; threads begin, each under the filter of its kind; sandbox_close_main() then filters the
 * first thread too, before the guest's first instruction. docs/sandbox.md is for operators and for who
 * adds an entry.
 */
#ifndef BASE_SANDBOX_H
#define BASE_SANDBOX_H

#include "base/base.h"

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

/* Another user, in an empty root (docs/sandbox.md). */
struct sandbox_user {
	bool wanted;
	uid_t uid;
	gid_t gid;
};
/* sandbox_user_parse() - "uid=N" or "uid=N,gid=N", numbers above 0: the jail has no file of names. Returns 0 or -EINVAL. */
int sandbox_user_parse(const char *text, struct sandbox_user *user);

/* A path that stays reachable, with everything beneath it. One that is not there is left out. */
struct sandbox_path {
	const char *path;
	bool write;   /* contents, and device ioctls; else it is only read */
	bool remove;  /* names in it, and nothing else */
	bool execute; /* read, and started as a program */
	bool code;    /* read, and mapped as a library's code */
	const struct sandbox_user
		*owner; /* a device, which in a jail is this user's own; NULL: as it is */
};

/* One entry of a table: @syscall is allowed to @kinds when (argument & mask) == value. */
struct sandbox_rule {
	unsigned kinds;
	int syscall;
	enum {
		RULE_ANY,
		RULE_ARGUMENT,
		RULE_OWN_PROCESS, /* argument 0 is our process ID */
		RULE_ERRNO, /* refused with errno @value, since a library goes another way then */
		RULE_KILL,  /* only who means harm calls it: the process is ended */
	} test;
	unsigned argument;
	uint64_t mask, value;
};

/* A program's. Kinds of threads are bits, by their place in @kinds; the first is the first thread's. */
#define SANDBOX_KINDS_MAX 24
struct sandbox_table {
	const char *program;	  /* as messages begin */
	const char *const *kinds; /* names of thread_create() */
	unsigned kind_count;
	const struct sandbox_rule *rules;
	unsigned rule_count;
	void (*last_words)(
		void); /* async-signal-safe, before a violation ends the process; NULL: none */
};

struct sandbox_options {
	const struct sandbox_table *table;
	/* What the first kind's filter has besides: kinds that begin below it, bits for what options ask for. */
	unsigned first_has;
	struct sandbox_user jail;
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
 * sandbox_close_main() - the calling thread gets the filter of the table's first kind. Threads that it starts later
 * inherit it, so it lists what they need as well. Returns 0 or -errno ("no-seccomp").
 */
int sandbox_close_main(struct error *e);

/* ---- its parts, for who confines another process, and for tests ------------------------------- */

/* sandbox_libraries_prepare() - what libraries open when they are first used is used now. */
void sandbox_libraries_prepare(void);
/*
 * sandbox_filters_make() - compile @table, which stays, with what any thread does besides (sandbox_threads.c); one in a process.
 * sandbox_filter_load() - put a kind's on this thread.
 */
int sandbox_filters_make(const struct sandbox_table *table, unsigned first_has, struct error *e);
int sandbox_filter_load(const char *kind);
/* sandbox_thread() - the threads' hook: the filter of @kind, or the process ends with a message. */
void sandbox_thread(const char *kind);

struct sock_fprog;
/*
 * sandbox_program_make() - the rules of @table for @kinds as one program, whose filter is malloc()ed into *program (freed first).
 * @otherwise: what becomes of other calls (seccomp_init(3))
 * Returns 0 or -errno.
 */
int sandbox_program_make(const struct sandbox_table *table, unsigned kinds, uint32_t otherwise,
			 struct sock_fprog *program);

/* sandbox_landlock() - no path but @paths, no TCP, no other process. Returns 0; or -errno. */
int sandbox_landlock(const struct sandbox_path *paths, unsigned count, struct error *e);

/*
 * sandbox_capabilities_bound() - none can be had by a later exec, where the caller may say so. sandbox_capabilities_clear() - none are left in the
 * other four sets. Return 0 or -errno.
 */
int sandbox_capabilities_bound(struct error *e);
int sandbox_capabilities_clear(struct error *e);

/* sandbox_jail() - an empty root, own namespaces, another user. @paths come along. */
int sandbox_jail(const struct sandbox_user *user, const struct sandbox_path *paths, unsigned count,
		 struct error *e);
/*
 * sandbox_root_change() - the root becomes an empty one with @paths in it, in the mount namespace that the caller has to itself already.
 * @proc: a mount that becomes /proc (fsmount(2)); -1: there is none.
 * sandbox_user_change() - become @user, with no other group. Both: 0 or -errno ("jail").
 */
int sandbox_root_change(const struct sandbox_path *paths, unsigned count, int proc,
			struct error *e);
int sandbox_user_change(const struct sandbox_user *user, struct error *e);

#endif
