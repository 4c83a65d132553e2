/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_internal: what vm.c, vm_irq.c, vm_memory.c, vcpu.c and cpuid.c share. Private to this folder,
 * and to tests/unit/test_vm.c.
 */
#ifndef GLUE_VM_INTERNAL_H
#define GLUE_VM_INTERNAL_H

#include <linux/kvm.h>
#include <pthread.h>

#include "hypervisor-glue/topology.h"
#include "hypervisor-glue/vm.h"

/* A bank of RAM or an area of a BAR each; a fixed number, since a guest moves BARs. */
#define VM_SLOTS_MAX 1024
/* KVM_MAX_IRQ_ROUTES of every x86 kernel; fewer when KVM_CAP_IRQ_ROUTING says so. */
#define VM_GSI_MAX   4096
#define VM_VCPUS_MAX (TOPOLOGY_APIC_ID_MAX + 1)
/* PIC pins 0-15 and I/O APIC pins 0-23. */
#define VM_IRQCHIP_ROUTES 40
#define VM_IOAPIC_PINS	  24

/* KVM_GET_SUPPORTED_CPUID fills a list of this form; ours has room to add topology leaves. */
#define VM_CPUID_MAX 256
struct vm_cpuid {
	uint32_t nent, padding; /* as struct kvm_cpuid2 */
	struct kvm_cpuid_entry2 entries[VM_CPUID_MAX];
};

/* The counters of one vCPU: written by its thread alone, read by any. A cache line of their own. */
struct vcpu {
	struct vm *vm;
	unsigned index;
	uint32_t apic_id;		 /* also KVM's number of it */
	const struct cpu_list *affinity; /* where its thread may run; NULL: anywhere */
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool created; /* the thread is still to be joined */
	bool alive;   /* under vm->exit_lock: the thread has not left its loop */
	struct vm_counters counters __attribute__((aligned(64)));
} __attribute__((aligned(64)));

struct vm_slot {
	bool used;
	uint64_t gpa, size;
};

enum gsi_state {
	GSI_FREE,
	GSI_ALLOCATED,
	GSI_ROUTED
};

struct vm_route {
	enum gsi_state state;
	uint64_t address;
	uint32_t data;
};

struct vm {
	int kvm_fd, fd;
	bool kvm_owned;
	int vfio_fd; /* KVM's VFIO device, -1 until there is one */
	size_t run_size;
	struct dispatch *mmio, *ports;
	struct vm_cpuid cpuid; /* what KVM supports, before it is made one vCPU's */
	bool tsc_deadline;

	pthread_mutex_t slot_lock;
	struct vm_slot slots[VM_SLOTS_MAX];
	unsigned slot_count; /* how many of them this kernel has */
	struct guest_memory *memory;
	struct memory_listener listener;

	pthread_mutex_t route_lock;
	struct vm_route routes[VM_GSI_MAX];
	unsigned gsi_count;
	bool routes_changed;
	struct kvm_irq_routing *routing; /* built here at every commit, allocated once */

	struct cpu_topology topology;
	struct vcpu *vcpus;
	unsigned vcpu_count;
	bool started;

	pthread_mutex_t exit_lock;
	bool exit_requested; /* set under exit_lock, read by vCPUs without it */
	int exit_fd;
	enum vm_exit exit_why;
	char exit_reason[256];

	/* Under exit_lock too. */
	bool pause_requested;	/* read by vCPUs without it */
	unsigned parked;	/* vCPUs that are held */
	pthread_cond_t parking; /* either changed, or an exit was requested */
};

/* vm_capability() - KVM_CHECK_EXTENSION on @fd: 0 or less is "no". */
int vm_capability(int fd, long capability);

/* vm_irq_init() - the routing table with the irqchip's own routes; vm_irq_release() undoes it. */
int vm_irq_init(struct vm *vm, struct error *e);
void vm_irq_release(struct vm *vm);

/* vm_pause.c */
void vm_pause_init(struct vm *vm);
void vm_pause_release(struct vm *vm);
/* vcpu_park() - the vCPU's thread waits here while the VM is paused and no exit was requested. */
void vcpu_park(struct vcpu *vcpu);
/* vcpu_settle() - KVM_RUN was interrupted: it may run again unless somebody still wants it out. */
void vcpu_settle(struct vcpu *vcpu);

/* vm_memory_release() - stop following guest memory. */
void vm_memory_release(struct vm *vm);

/* cpuid_load() - KVM_GET_SUPPORTED_CPUID into @cpuid. */
int cpuid_load(int kvm_fd, struct vm_cpuid *cpuid, struct error *e);
/*
 * cpuid_for_vcpu() - @supported as vCPU @index of @topology is to see it: its APIC ID and where it
 * sits, TSC deadline where @tsc_deadline. Pure.
 */
void cpuid_for_vcpu(const struct vm_cpuid *supported, const struct cpu_topology *topology,
		    unsigned index, bool tsc_deadline, struct vm_cpuid *out);
/* cpuid_physical_bits() - the width of a guest-physical address. Pure. */
unsigned cpuid_physical_bits(const struct vm_cpuid *cpuid);

/* vcpu_create(), vcpu_destroy() - fd, kvm_run mapping, CPUID, MSRs, local interrupt pins. */
int vcpu_create(struct vm *vm, struct vcpu *vcpu, unsigned index, struct error *e);
void vcpu_destroy(struct vcpu *vcpu);
/* vcpu_thread() - runs the guest until an exit is requested; @arg is the struct vcpu. */
void *vcpu_thread(void *arg);
/* vcpu_kick_prepare() - process-wide: the kick signal interrupts KVM_RUN and does nothing else. */
int vcpu_kick_prepare(void);
int vcpu_kick_signal(void);
/* vcpu_kick() - make @vcpu leave the guest for good. Under exit_lock, and only while it is alive. */
void vcpu_kick(struct vcpu *vcpu);

#endif
