// SPDX-License-Identifier: Apache-2.0
/*
 * vcpu: one virtual processor: its state at the first instruction and its loop.
 *
 * Each vCPU has a thread that runs the guest and answers its exits from the dispatch tables. No lock
 * is taken on that path. The loop ends when an exit is requested, and requests one itself for what
 * it cannot go on from; nothing that a guest does ends the process.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/vm_internal.h"

/* Control and model-specific registers: Intel SDM vol. 3A sections 2.5 and 11.11, vol. 4. */
#define CR0_PE		  (1u << 0)
#define CR0_ET		  (1u << 4)
#define CR0_PG		  (1u << 31)
#define CR4_PAE		  (1u << 5)
#define EFER_LME	  (1u << 8)
#define EFER_LMA	  (1u << 10)
#define MSR_MISC_ENABLE	  0x1a0
#define MISC_FAST_STRING  1u
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLE	  (1u << 11)
#define MTRR_WRITE_BACK	  6u
#define APIC_LVT_LINT0	  0x350
#define APIC_LVT_LINT1	  0x360
#define APIC_MODE_NMI	  (4u << 8)
#define APIC_MODE_EXTINT  (7u << 8)
#define APIC_MODE_MASK	  (7u << 8)
#define APIC_MASKED	  (1u << 16)

/* The boot GDT. Linux wants 0x10 and 0x18 (boot.rst, 64-bit protocol); PVH does not say. */
#define SELECTOR_CODE32 0x08
#define SELECTOR_CODE64 0x10
#define SELECTOR_DATA	0x18
#define SELECTOR_TSS	0x20

/* How often in a row KVM_RUN may fail on a page that is not there, one millisecond apart. */
#define FAULT_RETRIES 1000

/* ---- creation ---------------------------------------------------------------------------- */

static int set_msrs(struct vcpu *vcpu, struct error *e)
{
	/*
	 * Fixed-range MTRRs stay off: they are zero, uncached, and KVM heeds them for a VM whose
	 * devices do DMA without snooping.
	 */
	static const struct kvm_msr_entry wanted[] = {
		{ .index = MSR_MISC_ENABLE, .data = MISC_FAST_STRING },
		{ .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_WRITE_BACK },
	};
	struct {
		uint32_t nmsrs, pad; /* as struct kvm_msrs */
		struct kvm_msr_entry entries[ARRAY_SIZE(wanted)];
	} msrs = { .nmsrs = ARRAY_SIZE(wanted) };
	int done;

	memcpy(msrs.entries, wanted, sizeof(wanted));
	done = ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);
	if (done == (int)ARRAY_SIZE(wanted))
		return 0;
	return error_set(e, done < 0 ? errno : EINVAL, "kvm-failed", NULL,
			 "vCPU %u: KVM_SET_MSRS stopped at MSR 0x%x", vcpu->index,
			 wanted[done < 0 ? 0 : done].index);
}

/* The PC's virtual wire: the PIC comes in at LINT0 of the first processor, NMI at LINT1 of all. */
static int set_local_pins(struct vcpu *vcpu, struct error *e)
{
	struct kvm_lapic_state lapic;
	uint32_t lvt;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0)
		goto fail;
	if (vcpu->index == 0) {
		memcpy(&lvt, lapic.regs + APIC_LVT_LINT0, sizeof(lvt));
		lvt = (lvt & ~(APIC_MODE_MASK | APIC_MASKED)) | APIC_MODE_EXTINT;
		memcpy(lapic.regs + APIC_LVT_LINT0, &lvt, sizeof(lvt));
	}
	memcpy(&lvt, lapic.regs + APIC_LVT_LINT1, sizeof(lvt));
	lvt = (lvt & ~(APIC_MODE_MASK | APIC_MASKED)) | APIC_MODE_NMI;
	memcpy(lapic.regs + APIC_LVT_LINT1, &lvt, sizeof(lvt));
	if (ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic) < 0)
		goto fail;
	return 0;
fail:
	return error_set(e, errno, "kvm-failed", NULL, "vCPU %u: local APIC: %s", vcpu->index,
			 strerror(errno));
}

int vcpu_create(struct vm *vm, struct vcpu *vcpu, unsigned index, struct error *e)
{
	struct vm_cpuid cpuid;
	int ret;

	*vcpu = (struct vcpu){ .vm = vm, .index = index, .fd = -1, .run = NULL };
	vcpu->apic_id = cpu_topology_place(&vm->topology, index).apic_id;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)vcpu->apic_id);
	if (vcpu->fd < 0)
		return error_set(e, errno, "kvm-failed", NULL, "vCPU %u: KVM_CREATE_VCPU: %s",
				 index, strerror(errno));
	vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		ret = error_set(e, errno, "kvm-failed", NULL, "vCPU %u: mmap of kvm_run: %s", index,
				strerror(errno));
		goto fail;
	}
	/* Before any register: KVM checks CR4 and EFER against it. */
	cpuid_for_vcpu(&vm->cpuid, &vm->topology, index, vm->tsc_deadline, &cpuid);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, &cpuid) < 0) {
		ret = error_set(e, errno, "kvm-failed", NULL, "vCPU %u: KVM_SET_CPUID2: %s", index,
				strerror(errno));
		goto fail;
	}
	ret = set_msrs(vcpu, e);
	if (ret == 0)
		ret = set_local_pins(vcpu, e);
	if (ret < 0)
		goto fail;
	return 0;
fail:
	vcpu_destroy(vcpu);
	return ret;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->vm->run_size);
	vcpu->run = NULL;
	fd_close(&vcpu->fd);
}

/* ---- first instruction ------------------------------------------------------------------- */

static struct kvm_segment code_segment(bool long_mode)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = long_mode ? SELECTOR_CODE64 : SELECTOR_CODE32,
		.type = 0xb, /* execute, read, accessed */
		.present = 1,
		.db = !long_mode,
		.s = 1,
		.l = long_mode,
		.g = 1,
	};
}

static struct kvm_segment data_segment(void)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = SELECTOR_DATA,
		.type = 0x3, /* read, write, accessed */
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
}

static struct kvm_segment task_segment(void)
{
	return (struct kvm_segment){
		.limit = 0x67,
		.selector = SELECTOR_TSS,
		.type = 0xb, /* busy TSS */
		.present = 1,
	};
}

/* SDM vol. 3A, 3.4.5 */
static uint64_t descriptor(const struct kvm_segment *s)
{
	uint64_t limit = s->g ? s->limit >> 12 : s->limit;
	uint64_t flags = s->type | s->s << 4 | s->dpl << 5 | s->present << 7 | s->l << 13 |
			 s->db << 14 | s->g << 15;

	return (limit & 0xffff) | (s->base & 0xffffff) << 16 | flags << 40 |
	       (limit & 0xf0000) << 32 | (s->base >> 24) << 56;
}

static int write_gdt(struct guest_memory *memory, uint16_t *limit)
{
	const struct kvm_segment code32 = code_segment(false), code64 = code_segment(true);
	const struct kvm_segment data = data_segment(), task = task_segment();
	const uint64_t gdt[] = {
		0, descriptor(&code32), descriptor(&code64), descriptor(&data), descriptor(&task),
		0,
	};
	void *at = guest_memory_ptr(memory, LAYOUT_BOOT_GDT, sizeof(gdt));

	if (!at)
		return -EFAULT;
	memcpy(at, gdt, sizeof(gdt));
	*limit = sizeof(gdt) - 1;
	return 0;
}

/* PML4, PDPT, four PDs: 4 GiB of 2 MiB pages, writable. 1 GiB pages are not everywhere. */
static int write_page_tables(struct guest_memory *memory, uint64_t gpa)
{
	const uint64_t present_write = 3, large = 1u << 7;
	uint64_t *tables = NULL;

	if ((gpa & 0xfff) == 0)
		tables = guest_memory_ptr(memory, gpa, UINT64_C(6) * 4096);
	if (!tables)
		return -EFAULT;
	memset(tables, 0, (size_t)6 * 4096);
	tables[0] = (gpa + 4096) | present_write;
	for (unsigned i = 0; i < 4; i++)
		tables[512 + i] = (gpa + (2 + i) * UINT64_C(4096)) | present_write;
	for (unsigned i = 0; i < 4 * 512; i++)
		tables[1024 + i] = i * (2 * MIB) | present_write | large;
	return 0;
}

int vm_set_entry(struct vm *vm, const struct vm_entry *entry, struct error *e)
{
	uint64_t cr3 = entry->cr3 ? entry->cr3 : LAYOUT_PAGE_TABLES;
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rsp = entry->rsp,
		.rsi = entry->rsi,
		.rbx = entry->rbx,
		.rflags = 2, /* the bit that is always set */
	};
	struct kvm_sregs sregs;
	int ret;

	if (vm->vcpu_count == 0 || !vm->memory || vm->started)
		return error_set(e, EINVAL, "vm-not-ready", NULL,
				 "an entry needs vCPUs and memory, and a VM that does not run yet");
	if (ioctl(vm->vcpus[0].fd, KVM_GET_SREGS, &sregs) < 0)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_GET_SREGS: %s",
				 strerror(errno));

	ret = write_gdt(vm->memory, &sregs.gdt.limit);
	if (ret == 0 && entry->long_mode)
		ret = write_page_tables(vm->memory, cr3);
	if (ret < 0)
		return error_set(
			e, -ret, "memory-too-small", NULL,
			"no guest RAM for the boot GDT at 0x%llx and page tables at 0x%llx",
			(unsigned long long)LAYOUT_BOOT_GDT, (unsigned long long)cr3);

	sregs.gdt.base = LAYOUT_BOOT_GDT;
	sregs.idt.base = 0; /* none: an exception before the guest has its own is a triple fault */
	sregs.idt.limit = 0;
	sregs.cs = code_segment(entry->long_mode);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data_segment();
	sregs.tr = task_segment();
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (entry->long_mode) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = cr3;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	if (ioctl(vm->vcpus[0].fd, KVM_SET_SREGS, &sregs) < 0)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_SET_SREGS: %s",
				 strerror(errno));
	if (ioctl(vm->vcpus[0].fd, KVM_SET_REGS, &regs) < 0)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_SET_REGS: %s", strerror(errno));
	return 0;
}

/* ---- the kick ---------------------------------------------------------------------------- */

static void kick_handler(int signal)
{
	/* Being delivered is all: KVM_RUN returns -EINTR. */
	(void)signal;
}

int vcpu_kick_signal(void)
{
	return SIGRTMIN;
}

int vcpu_kick_prepare(void)
{
	/* KVM_RUN is interrupted all the same; what an access is in the middle of goes on. */
	struct sigaction action = { .sa_handler = kick_handler, .sa_flags = SA_RESTART };

	sigemptyset(&action.sa_mask);
	return sigaction(vcpu_kick_signal(), &action, NULL) < 0 ? -errno : 0;
}

void vcpu_kick(struct vcpu *vcpu)
{
	/*
	 * A thread that has looked for an exit and not entered KVM_RUN yet finds it there, one that
	 * is inside is interrupted by the signal. Cleared by vcpu_settle(), under the same lock.
	 */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
	if (vcpu->alive)
		pthread_kill(vcpu->thread, vcpu_kick_signal());
}

/* ---- the loop ---------------------------------------------------------------------------- */

/* One writer: no locked instruction is needed. */
static void count(uint64_t *counter)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* The largest piece of @length bytes that a handler takes: 8, 4, 2 or 1. */
static unsigned piece(unsigned length)
{
	return length >= 8 ? 8 : length >= 4 ? 4 : length >= 2 ? 2 : 1;
}

/* KVM cuts an access at a page's end, so that pieces of 3, 5, 6 or 7 bytes come here too. */
static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct dispatch *mmio = vcpu->vm->mmio;
	unsigned length = MIN(run->mmio.len, (unsigned)sizeof(run->mmio.data));

	for (unsigned done = 0, size; done < length; done += size) {
		uint64_t address = run->mmio.phys_addr + done, value = 0;

		size = piece(length - done);
		if (run->mmio.is_write) {
			memcpy(&value, run->mmio.data + done, size);
			dispatch_write(mmio, address, size, value);
		} else {
			value = dispatch_read(mmio, address, size);
			memcpy(run->mmio.data + done, &value, size);
		}
	}
}

/* One exit may carry many accesses to one port: REP INS and REP OUTS. */
static void handle_port(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct dispatch *ports = vcpu->vm->ports;
	unsigned size = run->io.size;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, size);
			dispatch_write(ports, run->io.port, size, value);
		} else {
			value = dispatch_read(ports, run->io.port, size);
			memcpy(data, &value, size);
		}
	}
}

static void stop(struct vcpu *vcpu, const char *what)
{
	struct kvm_regs regs = { 0 };

	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0)
		log_debug("vcpu %u: KVM_GET_REGS: %s", vcpu->index, strerror(errno));
	vm_request_exit(vcpu->vm, VM_EXIT_ERROR, "vCPU %u: %s at RIP 0x%llx", vcpu->index, what,
			(unsigned long long)regs.rip);
}

static void stop_internal_error(struct vcpu *vcpu)
{
	static const char *const names[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that KVM cannot emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "an exception while one was delivered",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "an exit while an event was delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] =
			"an exit reason that KVM does not know",
	};
	const struct kvm_run *run = vcpu->run;
	uint32_t suberror = run->internal.suberror;
	const char *name = suberror < ARRAY_SIZE(names) && names[suberror] ? names[suberror] : "?";
	char text[192];
	int n;

	n = snprintf(text, sizeof(text), "KVM internal error, suberror %u (%s)", suberror, name);
	if (suberror == KVM_INTERNAL_ERROR_EMULATION && run->emulation_failure.ndata >= 4 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		unsigned size = MIN(run->emulation_failure.insn_size, 15);

		n += snprintf(text + n, sizeof(text) - (size_t)n, ", bytes");
		for (unsigned i = 0; i < size; i++)
			n += snprintf(text + n, sizeof(text) - (size_t)n, " %02x",
				      run->emulation_failure.insn_bytes[i]);
	}
	stop(vcpu, text);
}

static void handle_system_event(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_request_exit(vm, VM_EXIT_POWER_OFF, "the guest powered off");
		break;
	case KVM_SYSTEM_EVENT_RESET:
		vm_request_exit(vm, VM_EXIT_RESET, "the guest reset itself");
		break;
	default:
		vm_request_exit(vm, VM_EXIT_ERROR, "vCPU %u: system event %u", vcpu->index,
				vcpu->run->system_event.type);
	}
}

static void handle_exit(struct vcpu *vcpu)
{
	char text[96];

	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_MMIO:
		count(&vcpu->counters.mmio);
		handle_mmio(vcpu);
		return;
	case KVM_EXIT_IO:
		count(&vcpu->counters.port);
		handle_port(vcpu);
		return;
	case KVM_EXIT_HLT:
		count(&vcpu->counters.halt);
		return;
	}

	count(&vcpu->counters.other);
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return;
	case KVM_EXIT_SHUTDOWN:
		vm_request_exit(vcpu->vm, VM_EXIT_RESET, "vCPU %u: triple fault", vcpu->index);
		return;
	case KVM_EXIT_SYSTEM_EVENT:
		handle_system_event(vcpu);
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		stop_internal_error(vcpu);
		return;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(text, sizeof(text), "the processor refuses to enter the guest (0x%llx)",
			 (unsigned long long)vcpu->run->fail_entry.hardware_entry_failure_reason);
		stop(vcpu, text);
		return;
	default:
		snprintf(text, sizeof(text), "unexpected KVM exit %u", vcpu->run->exit_reason);
		stop(vcpu, text);
	}
}

/*
 * A page of the guest has nothing behind it: a BAR mapping that vanished while it was used. Whoever
 * took it away removes the slot in a moment, after which the access is a trapped one. So wait, but
 * not for ever.
 */
static void handle_fault(struct vcpu *vcpu, unsigned attempt)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	char text[96];

	if (attempt < FAULT_RETRIES) {
		nanosleep(&pause, NULL);
		return;
	}
	if (vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		snprintf(text, sizeof(text), "guest memory at 0x%llx has nothing behind it",
			 (unsigned long long)vcpu->run->memory_fault.gpa);
	else
		snprintf(text, sizeof(text), "guest memory has nothing behind it");
	stop(vcpu, text);
}

/* Where it was when it was stopped: what a guest that hangs is asked first. */
static void log_position(struct vcpu *vcpu)
{
	struct kvm_regs regs;
	struct kvm_mp_state state;

	if (!ioctl(vcpu->fd, KVM_GET_REGS, &regs) && !ioctl(vcpu->fd, KVM_GET_MP_STATE, &state))
		log_debug("vCPU %u: RIP 0x%llx, RFLAGS 0x%llx, %s; %llu mmio, %llu port exits",
			  vcpu->index, (unsigned long long)regs.rip,
			  (unsigned long long)regs.rflags,
			  state.mp_state == KVM_MP_STATE_HALTED	    ? "halted"
			  : state.mp_state == KVM_MP_STATE_RUNNABLE ? "running"
								    : "waiting to be started",
			  (unsigned long long)vcpu->counters.mmio,
			  (unsigned long long)vcpu->counters.port);
}

void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	struct vm *vm = vcpu->vm;
	unsigned faults = 0;
	sigset_t kick;
	char text[96];

	/* The one signal it takes; one that came before it could is sticky (vcpu_kick()). */
	sigemptyset(&kick);
	sigaddset(&kick, vcpu_kick_signal());
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	snprintf(text, sizeof(text), "vcpu%u", vcpu->index);
	pthread_setname_np(pthread_self(), text);
	dispatch_thread_enter();
	while (!__atomic_load_n(&vm->exit_requested, __ATOMIC_ACQUIRE)) {
		if (__atomic_load_n(&vm->pause_requested, __ATOMIC_ACQUIRE))
			vcpu_park(vcpu);
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			faults = 0;
			handle_exit(vcpu);
			continue;
		}
		switch (errno) {
		case EINTR:
			vcpu_settle(vcpu);
			break;
		case EAGAIN: /* a vCPU that has had INIT or SIPI while it waited for one */
			break;
		case EFAULT:
			count(&vcpu->counters.other);
			handle_fault(vcpu, faults++);
			break;
		default:
			snprintf(text, sizeof(text), "KVM_RUN: %s", strerror(errno));
			stop(vcpu, text);
		}
	}
	dispatch_thread_leave();
	log_position(vcpu);

	pthread_mutex_lock(&vm->exit_lock);
	vcpu->alive = false;
	pthread_mutex_unlock(&vm->exit_lock);
	return NULL;
}
