// SPDX-License-Identifier: Apache-2.0
/*
 * Who may call what, and what needs it. A system call that is in no entry for a thread's kind ends
 * the process with a message (sandbox_filter.c); docs/sandbox.md says how to add one.
 *
 * The filters of vCPUs, the serial port's writer and liburcu's thread stand below the first thread's,
 * so that KIND_MAIN need not be named where one of those is.
 */
#include <linux/fs.h>
#include <linux/iommufd.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/vfio.h>
#include <linux/vhost.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/sandbox_table.h"
#include "hypervisor-glue/platform.h"
#include "hypervisor-glue/sandbox.h"

/* Linux 6.14, include/uapi/linux/iommufd.h; Debian 13's headers are older. */
#ifndef IOMMU_IOAS_MAP_FILE
#define IOMMU_IOAS_MAP_FILE _IO(IOMMUFD_TYPE, 0x8f)
#endif

#define ALL	((1u << SANDBOX_KINDS) - 1)
#define WORKERS (KIND_BLK | KIND_NET | KIND_CONSOLE | KIND_RNG | KIND_VSOCK)
/* Any of them may work on a device register's behalf, or raise and move interrupts. */
#define DEVICES (KIND_VCPU | WORKERS | KIND_USER)

static const char *const kind_names[SANDBOX_KINDS] = {
	"main",		  "vcpu",	"serial",	"rcu",	     "virtio-blk", "virtio-net",
	"virtio-console", "virtio-rng", "virtio-vsock", "vfio-user", "reset",
};

static const struct sandbox_rule rules[] = {
	/* -- any thread, besides what every program's may (base/sandbox_threads.c) -- */

	/* dispatch: the grace period of liburcu's memb flavour, and its wait for readers */
	{ ALL, SYS_membarrier },
	/* terminal_restore(), also when a signal ends the process in any thread */
	IOCTL(ALL, TCGETS),
	IOCTL(ALL, TCSETS),

	/* -- threads begin and end, in the first one and those below it -- */

	{ KIND_MAIN, SYS_clone, EQUALS(0, CLONE_PTHREAD) },
	/* its flags are in memory, where no filter sees them; glibc takes clone() then */
	{ KIND_MAIN, SYS_clone3, REFUSED(ENOSYS) },
	/* glibc in a new thread, before it is told its kind */
	{ KIND_MAIN, SYS_set_robust_list },
	{ KIND_MAIN, SYS_rseq },
	{ KIND_MAIN, SYS_seccomp, EQUALS(0, SECCOMP_SET_MODE_FILTER) },
	/* vCPUs are put on their host CPUs: vm.c */
	{ KIND_MAIN, SYS_sched_setaffinity },
	/* handlers: of the vCPUs' kick, once a session; of glibc's own signals, once each */
	{ KIND_MAIN, SYS_rt_sigaction, EQUALS(0, SIGNAL_KICK) },
	{ KIND_MAIN, SYS_rt_sigaction, EQUALS(0, SIGNAL_CANCEL) },
	{ KIND_MAIN, SYS_rt_sigaction, EQUALS(0, SIGNAL_SETXID) },

	/* -- event loops: sd-event of the first thread and of each virtio worker -- */

	{ KIND_MAIN | WORKERS, SYS_epoll_wait },
	{ KIND_MAIN | WORKERS, SYS_epoll_pwait },
	{ KIND_MAIN | WORKERS, SYS_epoll_pwait2 },
	{ KIND_MAIN | WORKERS, SYS_epoll_ctl },
	/* a session makes and unmakes its loop */
	{ KIND_MAIN, SYS_epoll_create1 },
	{ KIND_MAIN, SYS_signalfd4 },
	{ KIND_MAIN, SYS_timerfd_create },
	{ KIND_MAIN, SYS_timerfd_settime },

	/* -- a guest's life: KVM, on descriptors that are open -- */

	IOCTL(KIND_VCPU, KVM_RUN),
	/* where a vCPU was when it was stopped, or met what it cannot go on from */
	IOCTL(KIND_VCPU, KVM_GET_REGS),
	IOCTL(KIND_VCPU, KVM_GET_MP_STATE),
	/* the serial port's and the power button's lines */
	IOCTL(KIND_VCPU | KIND_SERIAL, KVM_IRQ_LINE),
	/* the guest moves a BAR or masks a vector, a served device shows memory: slots, routes, eventfds */
	IOCTL(KIND_VCPU | KIND_USER, KVM_SET_USER_MEMORY_REGION),
	IOCTL(KIND_VCPU, KVM_SET_GSI_ROUTING),
	IOCTL(KIND_VCPU, KVM_IRQFD),
	IOCTL(KIND_VCPU, KVM_IOEVENTFD),
	IOCTL(KIND_VCPU, KVM_SIGNAL_MSI),
	/* a session begins: vm.c, cpuid.c, vcpu.c, vm_vfio.c in this order */
	IOCTL(KIND_MAIN, KVM_CHECK_EXTENSION),
	IOCTL(KIND_MAIN, KVM_GET_VCPU_MMAP_SIZE),
	IOCTL(KIND_MAIN, KVM_GET_SUPPORTED_CPUID),
	IOCTL(KIND_MAIN, KVM_CREATE_VM),
	IOCTL(KIND_MAIN, KVM_SET_IDENTITY_MAP_ADDR),
	IOCTL(KIND_MAIN, KVM_SET_TSS_ADDR),
	IOCTL(KIND_MAIN, KVM_CREATE_IRQCHIP),
	IOCTL(KIND_MAIN, KVM_CREATE_PIT2),
	IOCTL(KIND_MAIN, KVM_CREATE_VCPU),
	IOCTL(KIND_MAIN, KVM_SET_CPUID2),
	IOCTL(KIND_MAIN, KVM_SET_MSRS),
	IOCTL(KIND_MAIN, KVM_GET_LAPIC),
	IOCTL(KIND_MAIN, KVM_SET_LAPIC),
	IOCTL(KIND_MAIN, KVM_GET_SREGS),
	IOCTL(KIND_MAIN, KVM_SET_SREGS),
	IOCTL(KIND_MAIN, KVM_SET_REGS),
	IOCTL(KIND_MAIN, KVM_CREATE_DEVICE),
	IOCTL(KIND_MAIN, KVM_SET_DEVICE_ATTR),
	/* the kernel and the initrd are read again, from their descriptors; a served device's blobs */
	{ KIND_MAIN | KIND_USER, SYS_fstat },
	{ KIND_MAIN | KIND_USER, SYS_newfstatat },

	/* -- devices, by whoever the guest's access or the session comes from -- */

	/* interrupts: INTx and, at a session's begin, vectors */
	{ KIND_VCPU, SYS_eventfd2 },
	/* registers and config space of a kernel device; kernel and initrd */
	{ KIND_VCPU | KIND_RESET, SYS_pread64 },
	{ KIND_VCPU, SYS_pwrite64 },
	IOCTL(KIND_VCPU, VFIO_DEVICE_SET_IRQS),
	IOCTL(KIND_VCPU | KIND_RESET, VFIO_DEVICE_RESET),
	/* of a slot, while no guest runs: vfio/hot_reset.c */
	IOCTL(KIND_MAIN, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO),
	IOCTL(KIND_MAIN, VFIO_DEVICE_PCI_HOT_RESET),
	/* DMA maps: the machine's end; a BAR that moves */
	IOCTL(KIND_VCPU, VFIO_IOMMU_MAP_DMA),
	IOCTL(KIND_VCPU, VFIO_IOMMU_UNMAP_DMA),
	IOCTL(KIND_VCPU, IOMMU_IOAS_MAP),
	IOCTL(KIND_VCPU, IOMMU_IOAS_UNMAP),
	/* why a map was refused: iommu/space.c */
	{ KIND_VCPU, SYS_capget },
	{ KIND_VCPU, SYS_prlimit64, NULL_POINTER(2) },
	/* the machine's end gives devices back */
	IOCTL(KIND_MAIN, VFIO_GROUP_UNSET_CONTAINER),
	IOCTL(KIND_MAIN, VFIO_DEVICE_DETACH_IOMMUFD_PT),
	/* virtio: vectors are duplicated into the device */
	{ DEVICES, SYS_fcntl, EQUALS(1, F_DUPFD_CLOEXEC) },
	/* vfio-user: messages to and from the server; passt's socket; the console's */
	{ DEVICES, SYS_sendmsg },
	{ DEVICES, SYS_recvmsg },
	{ KIND_VCPU | KIND_USER, SYS_shutdown },
	/* what kind of file a served device wants shown: vfio/user_map.c */
	{ KIND_USER, SYS_fstatfs },

	/* -- the control socket (--control): libmicrohttpd in the first thread's loop; the console's socket -- */

	{ ROLE_CONTROL | ROLE_CONSOLE, SYS_accept4 },
	/* who speaks: SO_PEERCRED */
	{ ROLE_CONTROL | ROLE_CONSOLE, SYS_getsockopt },
	{ ROLE_CONTROL, SYS_fcntl, EQUALS(1, F_GETFL) },
	{ ROLE_CONTROL, SYS_fcntl, EQUALS(1, F_SETFL) },
	{ ROLE_CONTROL, SYS_fcntl, EQUALS(1, F_GETFD) },
	{ ROLE_CONTROL, SYS_fcntl, EQUALS(1, F_SETFD) },
	/* libmicrohttpd tries TCP's options in vain */
	{ ROLE_CONTROL, SYS_setsockopt, EQUALS(1, IPPROTO_TCP) },
	{ ROLE_CONTROL, SYS_recvfrom },
	{ ROLE_CONTROL | ROLE_CONSOLE, SYS_sendto },
	/* its name goes with it; Landlock says where */
	{ ROLE_CONTROL | ROLE_CONSOLE, SYS_unlinkat },
	/* a guest that is paused sees no lost time: vm_pause.c */
	IOCTL(KIND_VCPU, KVM_KVMCLOCK_CTRL),

	/* -- devices that are added while the guest runs (--hotplug-ports); Landlock says which paths -- */

	{ ROLE_HOTPLUG, SYS_openat },
	{ ROLE_HOTPLUG, SYS_access },
	{ ROLE_HOTPLUG, SYS_faccessat2 },
	{ ROLE_HOTPLUG, SYS_readlink },
	{ ROLE_HOTPLUG, SYS_readlinkat },
	{ ROLE_HOTPLUG, SYS_getdents64 },
	{ ROLE_HOTPLUG, SYS_fcntl, EQUALS(1, F_GETFL) }, /* fdopendir(3) */
	/* kernel devices and their address space: vfio/device_open.c, iommu/ */
	IOCTL(ROLE_HOTPLUG, VFIO_GET_API_VERSION),
	IOCTL(ROLE_HOTPLUG, VFIO_CHECK_EXTENSION),
	IOCTL(ROLE_HOTPLUG, VFIO_SET_IOMMU),
	IOCTL(ROLE_HOTPLUG, VFIO_IOMMU_GET_INFO),
	IOCTL(ROLE_HOTPLUG, VFIO_GROUP_GET_STATUS),
	IOCTL(ROLE_HOTPLUG, VFIO_GROUP_SET_CONTAINER),
	IOCTL(ROLE_HOTPLUG, VFIO_GROUP_GET_DEVICE_FD),
	IOCTL(ROLE_HOTPLUG, VFIO_DEVICE_GET_INFO),
	IOCTL(ROLE_HOTPLUG, VFIO_DEVICE_GET_REGION_INFO),
	IOCTL(ROLE_HOTPLUG, VFIO_DEVICE_GET_IRQ_INFO),
	IOCTL(ROLE_HOTPLUG, VFIO_DEVICE_BIND_IOMMUFD),
	IOCTL(ROLE_HOTPLUG, VFIO_DEVICE_ATTACH_IOMMUFD_PT),
	IOCTL(ROLE_HOTPLUG, IOMMU_IOAS_ALLOC),
	IOCTL(ROLE_HOTPLUG, IOMMU_IOAS_MAP_FILE),
	IOCTL(ROLE_HOTPLUG, IOMMU_IOAS_IOVA_RANGES),
	/* disks: their size, their lock; no ring, which could not be made narrow for sure */
	IOCTL(ROLE_HOTPLUG, BLKGETSIZE64),
	{ ROLE_HOTPLUG, SYS_fcntl, EQUALS(1, F_OFD_SETLK) },
	{ ROLE_HOTPLUG, SYS_io_uring_setup, REFUSED(EPERM) },
	/* vfio-user servers */
	{ ROLE_HOTPLUG, SYS_socket, EQUALS(0, AF_UNIX) },
	{ ROLE_HOTPLUG, SYS_connect },
	{ ROLE_HOTPLUG, SYS_setsockopt },
	{ ROLE_HOTPLUG, SYS_fstatfs },

	/* -- virtio workers -- */

	/* disks: mdev/blk_file.c. A ring was made narrow before: its file and four operations only. */
	{ KIND_BLK, SYS_io_uring_enter },
	{ KIND_MAIN, SYS_io_uring_register, EQUALS(1, IORING_UNREGISTER_FILES) },
	{ KIND_BLK, SYS_preadv2 },
	{ KIND_BLK, SYS_pwritev2 },
	{ KIND_BLK, SYS_fdatasync },
	{ KIND_BLK, SYS_fallocate },
	/* tap: frames with their header */
	{ KIND_NET | KIND_CONSOLE, SYS_readv },
	{ KIND_NET | KIND_CONSOLE, SYS_writev },
	/* tap: what the guest takes unfinished */
	IOCTL(KIND_NET, TUNSETOFFLOAD),
	/* passt: frames on its socket; its end is heard by the worker, or waited for by the first thread */
	{ KIND_NET, SYS_recvfrom },
	{ KIND_NET, SYS_sendto },
	{ KIND_NET | KIND_MAIN, SYS_waitid },
	{ KIND_MAIN, SYS_pidfd_send_signal },
	/* vsock: rings and memory are handed to the kernel, and taken back: mdev/virtio_vsock.c */
	IOCTL(KIND_VSOCK, VHOST_SET_FEATURES),
	IOCTL(KIND_VSOCK, VHOST_SET_MEM_TABLE),
	IOCTL(KIND_VSOCK, VHOST_SET_VRING_NUM),
	IOCTL(KIND_VSOCK, VHOST_SET_VRING_BASE),
	IOCTL(KIND_VSOCK, VHOST_GET_VRING_BASE),
	IOCTL(KIND_VSOCK, VHOST_SET_VRING_ADDR),
	IOCTL(KIND_VSOCK, VHOST_SET_VRING_ERR),
	IOCTL(KIND_VSOCK, VHOST_SET_VRING_CALL),
	IOCTL(KIND_VSOCK, VHOST_SET_VRING_KICK),
	IOCTL(KIND_VSOCK, VHOST_VSOCK_SET_RUNNING),
	/* entropy for the guest; seeds of systemd's hash tables (sd_event_add_signal()) */
	{ KIND_RNG | KIND_MAIN, SYS_getrandom },
};

const struct sandbox_table machine_sandbox = {
	.program = "divvy-vmm",
	.kinds = kind_names,
	.kind_count = SANDBOX_KINDS,
	.rules = rules,
	.rule_count = ARRAY_SIZE(rules),
	.last_words = terminal_restore,
};

unsigned machine_sandbox_first(unsigned roles)
{
	return KINDS_BELOW_MAIN | roles | (roles & ROLE_HOTPLUG ? KINDS_BELOW_HOTPLUG : 0);
}
