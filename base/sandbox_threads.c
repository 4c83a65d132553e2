// SPDX-License-Identifier: Apache-2.0
/* What any thread of a C program of the house does, and so may, whatever its kind and whoever's table that is in (sandbox_filter.c). */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox_table.h"

#define ANY UINT32_MAX

const struct sandbox_rule sandbox_thread_rules[] = {
	/* malloc, stacks of threads, guest memory, BARs, blobs. Nothing that could be executed. */
	{ ANY, SYS_brk },
	{ ANY, SYS_mmap, WITHOUT(2, PROT_EXEC) },
	{ ANY, SYS_mprotect, WITHOUT(2, PROT_EXEC) },
	{ ANY, SYS_mremap },
	{ ANY, SYS_munmap },
	{ ANY, SYS_madvise },
	/* mutexes, conditions, joining */
	{ ANY, SYS_futex },
	/* eventfds; the log; pipes */
	{ ANY, SYS_read },
	{ ANY, SYS_write },
	{ ANY, SYS_close },
	{ ANY, SYS_poll },
	/* where the clock is not in the vDSO, as on an emulated host */
	{ ANY, SYS_clock_gettime },
	/* nanosleep(3): retries and back-pressure */
	{ ANY, SYS_clock_nanosleep },
	/* what the kernel continues a wait with after the process was stopped and continued */
	{ ANY, SYS_restart_syscall },
	{ ANY, SYS_sched_yield },
	/* the kick of vCPUs, pthread_kill(3), pthread_cancel(3), abort(3); our process only */
	{ ANY, SYS_tgkill, OWN_PROCESS },
	{ ANY, SYS_getpid },
	{ ANY, SYS_gettid },
	{ ANY, SYS_rt_sigprocmask },
	{ ANY, SYS_rt_sigreturn },
	/* abort(3). The handler that tells of violations stays as it is. */
	{ ANY, SYS_rt_sigaction, EQUALS(0, SIGABRT) },
	/* the C library's last words: "stack smashing detected" */
	{ ANY, SYS_writev, EQUALS(0, STDERR_FILENO) },
	{ ANY, SYS_exit },
	{ ANY, SYS_exit_group },
	/* a thread's name in /proc */
	{ ANY, SYS_prctl, EQUALS(0, PR_SET_NAME) },
};
const unsigned sandbox_thread_rule_count = ARRAY_SIZE(sandbox_thread_rules);
