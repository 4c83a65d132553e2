/* SPDX-License-Identifier: Apache-2.0 */
/* What tables of the sandbox are written with (base/sandbox.h). */
#ifndef BASE_SANDBOX_TABLE_H
#define BASE_SANDBOX_TABLE_H

#include <sched.h>

#include "base/sandbox.h"

#define EQUALS(n, v)	      .test = RULE_ARGUMENT, .argument = (n), .mask = UINT32_MAX, .value = (v)
#define WITHOUT(n, v)	      .test = RULE_ARGUMENT, .argument = (n), .mask = (v), .value = 0
#define NULL_POINTER(n)	      .test = RULE_ARGUMENT, .argument = (n), .mask = UINT64_MAX, .value = 0
#define OWN_PROCESS	      .test = RULE_OWN_PROCESS
#define REFUSED(err)	      .test = RULE_ERRNO, .value = (err)
#define HOSTILE		      .test = RULE_KILL
#define IOCTL(kinds, request) { (kinds), SYS_ioctl, EQUALS(1, (request)) }

/* What any thread of a kind may, besides its table (sandbox_threads.c). */
extern const struct sandbox_rule sandbox_thread_rules[];
extern const unsigned sandbox_thread_rule_count;

/*
 * SIGRTMIN, which is no constant (vcpu_kick_signal()), and glibc's SIGCANCEL and SIGSETXID
 * (sysdeps/unix/sysv/linux/internal-signals.h), for pthread_cancel(3) and the first pthread_create(3).
 */
#define SIGNAL_CANCEL 32
#define SIGNAL_SETXID 33
#define SIGNAL_KICK   34

/* What pthread_create(3) asks for (glibc, sysdeps/unix/sysv/linux/createthread.c). */
#define CLONE_PTHREAD                                                                       \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

#endif
