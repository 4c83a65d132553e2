// SPDX-License-Identifier: Apache-2.0
/*
 * What the render server and its workers may ask the kernel for: what virglrenderer's render server, the Vulkan loader and Mesa's drivers in
 * general need. It is on before the server's first instruction, and workers inherit it.
 *
 * What is not listed fails with ENOSYS, so that a library which only tries something new goes another way; what nobody but an attacker
 * tries ends its process. Which files may be opened is Landlock's and the mount view's to say (render_view.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/sandbox_table.h"
#include "mdev/gpu/warden_private.h"

#define R 1

/* The letter of an ioctl request (asm-generic/ioctl.h). */
#define IOCTLS_OF(letter)              \
	{                              \
		R,                     \
		SYS_ioctl,             \
		.test = RULE_ARGUMENT, \
		.argument = 1,         \
		.mask = 0xff00,        \
		.value = (letter) << 8 \
	}

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define CLONE_NEW_ANY                                                                             \
	((uint64_t)(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
		    CLONE_NEWPID | CLONE_NEWNET) |                                                \
	 CLONE_PTRACE)

static const struct sandbox_rule rules[] = {
	/* -- memory: heaps, stacks, drivers' code, compiled shaders -- */
	{ R, SYS_brk },
	{ R, SYS_mmap },
	{ R, SYS_mprotect },
	{ R, SYS_mremap },
	{ R, SYS_munmap },
	{ R, SYS_madvise },
	{ R, SYS_msync },
	{ R, SYS_mincore },    /* libunwind */
	{ R, SYS_membarrier }, /* the C library's and LLVM's */
	{ R,
	  SYS_memfd_create }, /* memory that is shared: virglrenderer's rings, lavapipe's, the layer's */
	{ R, SYS_ftruncate },
	{ R, SYS_fallocate },

	/* -- threads, and the worker processes that the server forks -- */
	/* not clone3(2), whose flags are in memory, where no filter sees them: glibc takes this then */
	{ R, SYS_clone, WITHOUT(0, CLONE_NEW_ANY) },
	{ R, SYS_set_robust_list },
	{ R, SYS_rseq },
	{ R, SYS_set_tid_address },
	{ R, SYS_futex },
	{ R, SYS_exit },
	{ R, SYS_exit_group },
	{ R, SYS_wait4 }, /* the server of its workers */
	{ R, SYS_waitid },
	/* the server ends a worker; abort(3), pthread_kill(3). Whom it reaches: own user, namespace and Landlock */
	{ R, SYS_kill },
	{ R, SYS_tgkill },
	/* Mesa's queues of threads: where and how eagerly they run, never better than others */
	{ R, SYS_sched_getaffinity },
	{ R, SYS_sched_setaffinity },
	{ R, SYS_sched_yield },
	{ R, SYS_sched_getparam },
	{ R, SYS_sched_getscheduler },
	{ R, SYS_sched_setscheduler, EQUALS(1, SCHED_OTHER) },
	{ R, SYS_sched_setscheduler, EQUALS(1, SCHED_BATCH) },
	{ R, SYS_sched_setscheduler, EQUALS(1, SCHED_IDLE) },
	{ R, SYS_sched_get_priority_max },
	{ R, SYS_sched_get_priority_min },
	{ R, SYS_getcpu },
	{ R, SYS_getpriority },
	/* u_thread_setname(), PR_SET_VMA of the C library and Mesa, the server's end with its parent's */
	{ R, SYS_prctl, EQUALS(0, PR_SET_NAME) },
	{ R, SYS_prctl, EQUALS(0, PR_GET_NAME) },
	{ R, SYS_prctl, EQUALS(0, 0x53564d41 /* PR_SET_VMA */) },
	{ R, SYS_prctl, EQUALS(0, PR_SET_PDEATHSIG) },
	{ R, SYS_prctl, EQUALS(0, PR_GET_DUMPABLE) },
	{ R, SYS_prctl, EQUALS(0, PR_CAPBSET_READ) },
	{ R, SYS_arch_prctl }, /* thread-local storage: the dynamic linker */

	/* -- time -- */
	{ R, SYS_clock_gettime },
	{ R, SYS_clock_getres },
	{ R, SYS_clock_nanosleep },
	{ R, SYS_nanosleep },
	{ R, SYS_gettimeofday },
	{ R, SYS_time },
	{ R, SYS_times },
	{ R, SYS_timerfd_create },
	{ R, SYS_timerfd_settime },
	{ R, SYS_timerfd_gettime },
	{ R, SYS_restart_syscall },

	/* -- signals of its own -- */
	{ R, SYS_rt_sigaction },
	{ R, SYS_rt_sigprocmask },
	{ R, SYS_rt_sigreturn },
	{ R, SYS_rt_sigtimedwait },
	{ R, SYS_sigaltstack },
	{ R, SYS_signalfd4 }, /* the server hears of its workers' ends */

	/* -- who and where it is -- */
	{ R, SYS_getpid },
	{ R, SYS_gettid },
	{ R, SYS_getppid },
	{ R, SYS_getuid },
	{ R, SYS_geteuid },
	{ R, SYS_getgid },
	{ R, SYS_getegid },
	{ R, SYS_getresuid },
	{ R, SYS_getresgid },
	{ R, SYS_getpgrp },
	{ R, SYS_uname },
	{ R, SYS_sysinfo },
	{ R, SYS_getrusage },
	{ R, SYS_getrandom },
	{ R, SYS_getcwd },
	{ R, SYS_prlimit64, NULL_POINTER(2) }, /* limits are read, never set */
	{ R, SYS_getrlimit },

	/* -- files and descriptors -- */
	/* the server itself is started with this on; Landlock lets nothing else be started */
	{ R, SYS_execve },
	{ R, SYS_open },
	{ R, SYS_openat },
	{ R, SYS_close },
	{ R, SYS_close_range },
	{ R, SYS_read },
	{ R, SYS_readv },
	{ R, SYS_pread64 },
	{ R, SYS_preadv },
	{ R, SYS_write },
	{ R, SYS_writev },
	{ R, SYS_pwrite64 },
	{ R, SYS_lseek },
	{ R, SYS_fstat },
	{ R, SYS_newfstatat },
	{ R, SYS_stat },
	{ R, SYS_lstat },
	{ R, SYS_statx },
	{ R, SYS_statfs },
	{ R, SYS_fstatfs },
	{ R, SYS_access },
	{ R, SYS_faccessat },
	{ R, SYS_faccessat2 },
	{ R, SYS_readlink }, /* the loader: manifests; libdrm: which device a node is */
	{ R, SYS_readlinkat },
	{ R, SYS_getdents64 },
	{ R, SYS_fadvise64 },
	{ R, SYS_dup },
	{ R, SYS_dup2 },
	{ R, SYS_dup3 },
	{ R, SYS_fcntl },
	{ R, SYS_pipe2 },
	{ R, SYS_eventfd2 },
	{ R, SYS_epoll_create1 },
	{ R, SYS_epoll_ctl },
	{ R, SYS_epoll_wait },
	{ R, SYS_epoll_pwait },
	{ R, SYS_poll },
	{ R, SYS_ppoll },
	{ R, SYS_select },
	{ R, SYS_pselect6 },
	/* Mesa: whether two descriptors are one file (os_same_file_description()) */
	{ R, SYS_kcmp, EQUALS(2, KCMP_FILE) },

	/* -- the GPU: DRM, its fences and buffers; nothing else's requests, a terminal's least of all -- */
	IOCTLS_OF('d'), /* DRM (drm.h) */
	IOCTLS_OF('>'), /* sync files (sync_file.h) */
	IOCTLS_OF('b'), /* dma-bufs (dma-buf.h) */
	IOCTLS_OF('u'), /* udmabuf (udmabuf.h) */

	/* -- sockets: the pairs it was made with, and the arbiter's -- */
	{ R, SYS_socket, EQUALS(0, AF_UNIX) },
	{ R, SYS_socketpair, EQUALS(0, AF_UNIX) },
	{ R, SYS_connect },
	{ R, SYS_sendmsg },
	{ R, SYS_sendto },
	{ R, SYS_recvmsg },
	{ R, SYS_recvfrom },
	{ R, SYS_getsockopt },
	{ R, SYS_setsockopt, EQUALS(1, SOL_SOCKET) },
	{ R, SYS_shutdown },

	/* -- what no driver calls: whoever does has been taken over -- */
	{ R, SYS_ptrace, HOSTILE },
	{ R, SYS_process_vm_readv, HOSTILE },
	{ R, SYS_process_vm_writev, HOSTILE },
	{ R, SYS_process_madvise, HOSTILE },
	{ R, SYS_pidfd_getfd, HOSTILE },
	{ R, SYS_mount, HOSTILE },
	{ R, SYS_umount2, HOSTILE },
	{ R, SYS_pivot_root, HOSTILE },
	{ R, SYS_chroot, HOSTILE },
	{ R, SYS_fsopen, HOSTILE },
	{ R, SYS_open_tree, HOSTILE },
	{ R, SYS_move_mount, HOSTILE },
	{ R, SYS_mount_setattr, HOSTILE },
	{ R, SYS_unshare, HOSTILE },
	{ R, SYS_setns, HOSTILE },
	{ R, SYS_bpf, HOSTILE },
	{ R, SYS_perf_event_open, HOSTILE },
	{ R, SYS_userfaultfd, HOSTILE },
	{ R, SYS_keyctl, HOSTILE },
	{ R, SYS_add_key, HOSTILE },
	{ R, SYS_request_key, HOSTILE },
	{ R, SYS_kexec_load, HOSTILE },
	{ R, SYS_kexec_file_load, HOSTILE },
	{ R, SYS_init_module, HOSTILE },
	{ R, SYS_finit_module, HOSTILE },
	{ R, SYS_delete_module, HOSTILE },
	{ R, SYS_setuid, HOSTILE },
	{ R, SYS_setgid, HOSTILE },
	{ R, SYS_setresuid, HOSTILE },
	{ R, SYS_setresgid, HOSTILE },
	{ R, SYS_setgroups, HOSTILE },
	{ R, SYS_capset, HOSTILE },
	{ R, SYS_reboot, HOSTILE },
	{ R, SYS_swapon, HOSTILE },
	{ R, SYS_open_by_handle_at, HOSTILE },
	{ R, SYS_name_to_handle_at, HOSTILE },
	{ R, SYS_fanotify_init, HOSTILE },
};

static const struct sandbox_table render_table = {
	.program = "render server",
	.rules = rules,
	.rule_count = ARRAY_SIZE(rules),
};

int render_filter_make(struct sock_fprog *program)
{
	return sandbox_program_make(&render_table, R, SCMP_ACT_ERRNO(ENOSYS), program);
}
