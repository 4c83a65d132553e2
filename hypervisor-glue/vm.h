/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm: one KVM virtual machine: memory slots, interrupt routes, eventfds, vCPU threads.
 *
 * The only files that issue KVM ioctls are vm*.c and vcpu.c. Follows Documentation/virt/kvm/api.rst.
 */
#ifndef GLUE_VM_H
#define GLUE_VM_H

#include "base/base.h"
#include "hypervisor-glue/dispatch.h"
#include "hypervisor-glue/topology.h"
#include "iommu/iommu.h"

struct vm;

enum vm_exit {
	VM_EXIT_POWER_OFF, /* the guest asked (ACPI S5, or the test device) */
	VM_EXIT_RESET,	   /* the guest asked (0xcf9, keyboard controller, triple fault) */
	VM_EXIT_STOPPED,   /* the host asked: signal, device error or device request */
	VM_EXIT_ERROR,	   /* a vCPU met what it cannot go on from */
};

/*
 * vm_create() - /dev/kvm, VM, in-kernel irqchip (PIC, I/O APIC, local APICs), PIT.
 * Errors: "no-kvm" (missing or no permission: which, and the next command), "kvm-too-old" (names
 * the capability), -errno.
 */
int vm_create(struct vm **out, struct error *e);
/*
 * vm_open_kvm() - open @path ("/dev/kvm") and check API and capabilities. Returns the fd or -errno.
 * vm_create_on() - vm_create() over such a descriptor, which is borrowed until vm_destroy().
 */
int vm_open_kvm(const char *path, struct error *e);
int vm_create_on(int kvm_fd, struct vm **out, struct error *e);
void vm_destroy(struct vm *vm);

struct dispatch *vm_mmio(struct vm *vm);
struct dispatch *vm_ports(struct vm *vm);

/* ---- memory ------------------------------------------------------------------------------ */

/*
 * vm_follow() - RAM banks of @memory become memory slots, now and later. Once. Borrowed: @memory must
 * outlive the VM; vm_destroy() lets go of it.
 */
int vm_follow(struct vm *vm, struct guest_memory *memory, struct error *e);

/*
 * vm_slot_add(), vm_slot_remove() - map host memory (a BAR's areas) into the guest. Any thread.
 * Return 0 or -errno (-ENOSPC: no slot left).
 */
int vm_slot_add(struct vm *vm, uint64_t gpa, uint64_t size, void *hva);
int vm_slot_remove(struct vm *vm, uint64_t gpa);

/* ---- interrupts -------------------------------------------------------------------------- */

/*
 * GSIs 0-15 are pins of the PIC, GSIs 0-23 pins of the I/O APIC, each of the same number, but for GSI 0,
 * the timer, which is the I/O APIC's pin 2 (the MADT overrides it so), and GSI 2, which is none.
 *
 * Message routes: GSIs are allocated in runs; a change of routes is local until vm_routes_commit(),
 * one KVM_SET_GSI_ROUTING (none when nothing changed). Any thread; serialised inside. A GSI that is
 * allocated and has no message yet may have an irqfd: its signals are dropped. vm_gsi_free() takes
 * effect at the next commit; remove the irqfds first.
 */
int vm_gsi_alloc(struct vm *vm, unsigned count); /* first GSI or -ENOSPC */
void vm_gsi_free(struct vm *vm, unsigned first, unsigned count);
void vm_route_msi(struct vm *vm, unsigned gsi, uint64_t address, uint32_t data);
int vm_routes_commit(struct vm *vm);

/*
 * vm_irqfd_add() - eventfd @fd raises @gsi; @resample_fd (-1: edge) is signalled at EOI, after KVM has
 * lowered the line. Both are borrowed: KVM keeps references of its own until vm_irqfd_remove().
 */
int vm_irqfd_add(struct vm *vm, unsigned gsi, int fd, int resample_fd);
int vm_irqfd_remove(struct vm *vm, unsigned gsi, int fd);
/* vm_irq_line() - set the level of an ISA or PCI line. Any thread. */
int vm_irq_line(struct vm *vm, unsigned gsi, bool level);
/* vm_signal_msi() - one message at once, for tests and devices without an eventfd. */
int vm_signal_msi(struct vm *vm, uint64_t address, uint32_t data);

/* vm_ioeventfd() - a guest write signals @fd without leaving the kernel. @size 0: any. */
int vm_ioeventfd_add(struct vm *vm, bool is_port, uint64_t address, unsigned size, int fd,
		     bool datamatch, uint64_t value);
int vm_ioeventfd_remove(struct vm *vm, bool is_port, uint64_t address, unsigned size, int fd,
			bool datamatch, uint64_t value);

/* ---- assigned devices -------------------------------------------------------------------- */

/*
 * vm_add_vfio_file() - tell KVM of a VFIO group or device file (vfio_device_file()) that this VM
 * uses. KVM keeps it until vm_remove_vfio_file() or vm_destroy(): one of them comes before the file goes.
 * Returns 0 or -errno.
 */
int vm_add_vfio_file(struct vm *vm, int fd, struct error *e);
/* vm_remove_vfio_file() - KVM lets go of it; once nobody of the VM uses it. Fine when it has none such. */
void vm_remove_vfio_file(struct vm *vm, int fd);

/* ---- vCPUs ------------------------------------------------------------------------------- */

/* Where vCPU 0 starts; the others wait for INIT/SIPI. */
struct vm_entry {
	bool long_mode; /* 64-bit with identity page tables at cr3 (Linux boot), else 32-bit (PVH) */
	uint64_t rip, rsp, rsi, rbx, cr3;
};

/*
 * vm_set_topology() - how the vCPUs sit in sockets and cores; before vm_add_vcpus(). Without it they
 * are cores of one socket.
 */
int vm_set_topology(struct vm *vm, const struct cpu_topology *topology, struct error *e);
/*
 * vm_add_vcpus() - create @count vCPUs with CPUID set (before SREGS); once. "bad-vcpu-count" when there
 * are more than KVM gives (KVM_CAP_MAX_VCPUS, KVM_CAP_MAX_VCPU_ID), when the topology is not of
 * @count, or when an APIC ID is above TOPOLOGY_APIC_ID_MAX.
 */
int vm_add_vcpus(struct vm *vm, unsigned count, struct error *e);
/*
 * vm_set_affinity() - the host CPUs that the thread of a vCPU may run on; after vm_add_vcpus(), before
 * vm_start(). @cpus is borrowed until the VM is destroyed; NULL: any.
 */
void vm_set_affinity(struct vm *vm, unsigned vcpu, const struct cpu_list *cpus);
/*
 * vm_set_entry() - state of vCPU 0 at its first instruction. After vm_follow() and vm_add_vcpus(): the
 * boot GDT (LAYOUT_BOOT_GDT) and, for long mode, page tables of the first 4 GiB (six pages at cr3, 0:
 * LAYOUT_PAGE_TABLES) are written into guest RAM. Selectors are those of Linux's 64-bit protocol.
 */
int vm_set_entry(struct vm *vm, const struct vm_entry *entry, struct error *e);
/* vm_physical_bits() - guest physical address width as told by CPUID 0x80000008. */
unsigned vm_physical_bits(struct vm *vm);

/*
 * vm_start() - start the vCPU threads, which block every signal but SIGRTMIN. The process's handler of
 * SIGRTMIN is taken: it interrupts KVM_RUN. On failure no vCPU runs, not one that was started.
 */
int vm_start(struct vm *vm, struct error *e);
/*
 * vm_request_exit() - first caller wins; any thread, also a vCPU's. All vCPUs leave the guest.
 * vm_exit_fd() is an eventfd that becomes readable then. vm_join() waits for the threads and says why;
 * one thread joins.
 */
void vm_request_exit(struct vm *vm, enum vm_exit why, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int vm_exit_fd(struct vm *vm);
enum vm_exit vm_join(struct vm *vm, char reason[256]);

/*
 * vm_pause() - every vCPU leaves the guest and stays out until vm_resume(); what vm_request_exit() asks
 * for comes first. Waits for those that are in the middle of an access, @timeout_ms at most. Devices
 * are not stopped by this: they finish what they were given.
 * vm_resume() - back into the guest, whose kvmclock is told that it was stopped (KVM_KVMCLOCK_CTRL), so
 * that no watchdog in it takes the pause for a lockup. Time has gone on meanwhile.
 * One thread calls both. Return 0, -EALREADY, or -ETIMEDOUT (then none is held).
 */
int vm_pause(struct vm *vm, unsigned timeout_ms);
int vm_resume(struct vm *vm);
bool vm_is_paused(struct vm *vm);

/* Exits to us by kind since start, summed over vCPUs. HLT stays in the kernel as a rule. */
struct vm_counters {
	uint64_t mmio, port, halt, other;
};
void vm_counters(struct vm *vm, struct vm_counters *counters);

#endif
