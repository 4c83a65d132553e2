// SPDX-License-Identifier: Apache-2.0
/*
 * Who may call what in divvy-vgpu, and what needs it, as hypervisor-glue/sandbox_table.c for the VMM. A system call that is in no entry for a
 * thread's kind ends the process with a message (base/sandbox_filter.c); docs/sandbox.md says how to add one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox_table.h"
#include "mdev/jail.h"

enum {
	KIND_MAIN = 1 << 0, /* the vfio-user servers, the control socket */
	KIND_GPU = 1 << 1,
	KIND_VENUS = 1 << 2, /* virglrenderer's client side, and its threads */
	KIND_INPUT = 1 << 3,
	KIND_VNC = 1 << 4,
	ROLE_CONTROL = 1 << 5,
};
#define KINDS	5
#define ALL	(KIND_MAIN | KIND_GPU | KIND_VENUS | KIND_INPUT | KIND_VNC)
#define WORKERS (KIND_GPU | KIND_INPUT)

static const char *const kind_names[KINDS] = { "main", "virtio-gpu", "venus", "virtio-input",
					       "vnc" };

static const struct sandbox_rule rules[] = {
	/* What any thread may besides is base/sandbox_threads.c's. */

	/* -- event loops: sd-event of each -- */

	{ ALL, SYS_epoll_wait },
	{ ALL, SYS_epoll_pwait },
	{ ALL, SYS_epoll_pwait2 },
	{ ALL, SYS_epoll_ctl },
	{ ALL, SYS_timerfd_create },
	{ ALL, SYS_timerfd_settime },
	/* seeds of systemd's hash tables */
	{ ALL, SYS_getrandom },

	/* -- vfio-user: messages, guest memory and eventfds that come along, and what is shown in return -- */

	{ KIND_MAIN, SYS_accept4 },
	{ ALL, SYS_sendmsg },
	{ ALL, SYS_recvmsg },
	{ KIND_MAIN, SYS_shutdown },
	/* files are judged before they are mapped: mdev/server/server_dma.c, mdev/gpu/venus_call.c */
	{ ALL, SYS_fstat },
	{ ALL, SYS_newfstatat },
	{ ALL, SYS_fstatfs },
	{ ALL, SYS_lseek },
	{ ALL, SYS_fcntl, EQUALS(1, F_GET_SEALS) },
	{ ALL, SYS_fcntl, EQUALS(1, F_ADD_SEALS) },
	{ ALL, SYS_fcntl, EQUALS(1, F_DUPFD_CLOEXEC) },
	{ ALL, SYS_fcntl, EQUALS(1, F_GETFL) },
	{ ALL, SYS_fcntl, EQUALS(1, F_SETFL) },
	/* whether an eventfd is one: mdev/server/server_irq.c */
	{ KIND_MAIN, SYS_readlink },
	{ KIND_MAIN, SYS_readlinkat },
	{ KIND_MAIN, SYS_eventfd2 },
	/* signals that end it are let go, at its end */
	{ KIND_MAIN, SYS_signalfd4 },

	/* -- threads begin in the first one, and virglrenderer's in its own -- */

	{ KIND_MAIN | KIND_VENUS, SYS_clone, EQUALS(0, CLONE_PTHREAD) },
	{ KIND_MAIN | KIND_VENUS, SYS_clone3, REFUSED(ENOSYS) },
	{ KIND_MAIN | KIND_VENUS, SYS_set_robust_list },
	{ KIND_MAIN | KIND_VENUS, SYS_rseq },
	{ KIND_MAIN | KIND_VENUS, SYS_sched_getaffinity }, /* pthread_getattr_np(3) */
	{ KIND_MAIN, SYS_seccomp, EQUALS(0, SECCOMP_SET_MODE_FILTER) },
	{ KIND_MAIN, SYS_rt_sigaction, EQUALS(0, SIGNAL_CANCEL) },
	{ KIND_MAIN, SYS_rt_sigaction, EQUALS(0, SIGNAL_SETXID) },

	/* -- virglrenderer: shared memory with its workers, their sockets; the render server's start, by the warden -- */

	{ KIND_VENUS, SYS_memfd_create },
	{ KIND_VENUS, SYS_ftruncate },
	{ KIND_VENUS, SYS_socketpair, EQUALS(0, AF_UNIX) },
	{ KIND_VENUS, SYS_eventfd2 },
	{ KIND_VENUS, SYS_sendto },
	{ KIND_VENUS | KIND_GPU, SYS_sendto }, /* "kill", to the warden */
	{ KIND_VENUS, SYS_recvfrom },
	{ KIND_VENUS, SYS_getsockopt }, /* whose a socket is: venus_watch.c */
	{ KIND_VENUS, SYS_getdents64 }, /* our descriptors, by a folder that is open */
	{ KIND_VENUS, SYS_pread64 },	/* where a blob begins in its file */
	{ KIND_VENUS, SYS_fcntl, EQUALS(1, F_GETFD) },
	{ KIND_VENUS, SYS_fcntl, EQUALS(1, F_SETFD) },
	{ KIND_VENUS, SYS_shutdown },

	/* -- viewers: mdev/vnc/, GnuTLS; libvncserver looks at a socket pair once for each of them -- */

	{ KIND_VNC, SYS_accept4 },
	{ KIND_VNC, SYS_recvfrom },
	{ KIND_VNC, SYS_sendto },
	{ KIND_VNC, SYS_setsockopt, EQUALS(1, IPPROTO_TCP) },
	{ KIND_VNC, SYS_setsockopt, EQUALS(1, SOL_SOCKET) },
	{ KIND_VNC, SYS_socketpair, EQUALS(0, AF_UNIX) },
	{ KIND_VNC, SYS_getpeername },
	{ KIND_VNC, SYS_dup3 }, /* the number that libvncserver holds a viewer by: encoder.c */

	/* -- the end: the warden's is waited for, sockets' names go with them; Landlock says where -- */

	{ KIND_MAIN, SYS_wait4 },
	{ KIND_MAIN, SYS_pidfd_send_signal },
	{ KIND_MAIN, SYS_unlinkat },
	{ KIND_MAIN, SYS_unlink },
	{ KIND_MAIN, SYS_sendto },

	/* -- the control socket (--control): libmicrohttpd in the first thread's loop; pictures are made in memory -- */

	{ ROLE_CONTROL, SYS_getsockopt },
	{ ROLE_CONTROL, SYS_fcntl, EQUALS(1, F_GETFD) },
	{ ROLE_CONTROL, SYS_fcntl, EQUALS(1, F_SETFD) },
	{ ROLE_CONTROL, SYS_setsockopt, EQUALS(1, IPPROTO_TCP) },
	{ ROLE_CONTROL, SYS_recvfrom },
	{ ROLE_CONTROL, SYS_memfd_create },
	{ ROLE_CONTROL, SYS_pread64 },
};

const struct sandbox_table vgpu_sandbox = {
	.program = "divvy-vgpu",
	.kinds = kind_names,
	.kind_count = KINDS,
	.rules = rules,
	.rule_count = ARRAY_SIZE(rules),
};

unsigned vgpu_sandbox_first(bool control)
{
	return control ? ROLE_CONTROL : 0;
}
