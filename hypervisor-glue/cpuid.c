// SPDX-License-Identifier: Apache-2.0
/*
 * cpuid: what a vCPU tells the guest of itself.
 *
 * Starts from what KVM can offer (KVM_GET_SUPPORTED_CPUID) and replaces what is one vCPU's own or
 * speaks of the host's topology by the guest's (topology.h): a socket shares the caches of level 3,
 * the threads of a core the others. Leaves are those of Intel's SDM vol. 2A (CPUID) and AMD's APM
 * vol. 3, appendix E.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hypervisor-glue/vm_internal.h"

#define CPUID_1_ECX_MONITOR	 (1u << 3)
#define CPUID_1_ECX_VMX		 (1u << 5)
#define CPUID_1_ECX_SMX		 (1u << 6)
#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)
#define CPUID_1_ECX_HYPERVISOR	 (1u << 31)
#define CPUID_1_EDX_HTT		 (1u << 28)
#define CPUID_AMD_ECX_CMP_LEGACY (1u << 1)
#define CPUID_AMD_ECX_SVM	 (1u << 2)

#define TOPOLOGY_THREADS 1u
#define TOPOLOGY_CORES	 2u

/* What one vCPU is made of. */
struct shape {
	const struct cpu_topology *topology;
	struct cpu_place place;
	unsigned core_shift, socket_shift;
	bool tsc_deadline, amd;
};

int cpuid_load(int kvm_fd, struct vm_cpuid *cpuid, struct error *e)
{
	_Static_assert(offsetof(struct vm_cpuid, entries) == offsetof(struct kvm_cpuid2, entries),
		       "struct vm_cpuid is what KVM fills");

	cpuid->nent = VM_CPUID_MAX - 16; /* room for topology leaves */
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_GET_SUPPORTED_CPUID: %s",
				 strerror(errno));
	return 0;
}

static const struct kvm_cpuid_entry2 *find(const struct vm_cpuid *cpuid, uint32_t function)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	return NULL;
}

unsigned cpuid_physical_bits(const struct vm_cpuid *cpuid)
{
	const struct kvm_cpuid_entry2 *leaf = find(cpuid, 0x80000008);
	unsigned bits, guest_bits;

	if (!leaf)
		return 36; /* SDM: what a processor with PAE and without the leaf has */
	bits = leaf->eax & 0xff;
	/* GuestPhysAddrSize: nested paging may reach less far than the processor. */
	guest_bits = leaf->eax >> 16 & 0xff;
	if (guest_bits >= 32 && guest_bits < bits)
		bits = guest_bits;
	return bits < 36 ? 36 : bits > 52 ? 52 : bits;
}

/* Leaves 0xb and 0x1f share their form; the host's levels are dropped and these put in their place. */
static void add_topology(struct vm_cpuid *out, uint32_t function, const struct shape *shape)
{
	const struct cpu_topology *t = shape->topology;
	const uint32_t id = shape->place.apic_id;
	const uint32_t levels[3][4] = {
		/* EAX: APIC ID bits below the next level, EBX: threads at this level, ECX, EDX */
		{ shape->core_shift, t->threads, TOPOLOGY_THREADS << 8 | 0, id },
		{ shape->socket_shift, t->cores * t->threads, TOPOLOGY_CORES << 8 | 1, id },
		{ 0, 0, 2, id },
	};

	for (unsigned i = 0; i < 3 && out->nent < VM_CPUID_MAX; i++)
		out->entries[out->nent++] = (struct kvm_cpuid_entry2){
			.function = function,
			.index = i,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = levels[i][0],
			.ebx = levels[i][1],
			.ecx = levels[i][2],
			.edx = levels[i][3],
		};
}

/* How many APIC IDs share a cache: those of a socket at level 3, of a core below. */
static uint32_t cache_sharing(uint32_t eax, const struct shape *shape)
{
	unsigned type = eax & 0x1f, level = eax >> 5 & 7;
	uint32_t sharers = 1u << (level >= 3 ? shape->socket_shift : shape->core_shift);

	if (type == 0)
		return eax;
	return (eax & ~(0xfffu << 14)) | (sharers - 1) << 14;
}

static void adjust(struct kvm_cpuid_entry2 *leaf, const struct shape *shape)
{
	const struct cpu_topology *t = shape->topology;
	const struct cpu_place *place = &shape->place;
	unsigned threads = t->cores * t->threads; /* of a socket */

	switch (leaf->function) {
	case 0x1:
		leaf->ebx = (leaf->ebx & 0xffff) | MIN(1u << shape->socket_shift, 255u) << 16 |
			    place->apic_id << 24;
		/* MWAIT would keep the host's processor; it needs an offer that we do not make. */
		leaf->ecx &= ~(CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_MONITOR);
		/*
		 * Without the bit KVM refuses VMXON (SVM: EFER.SVME), and its nested half, the part of
		 * it that had the gravest holes, is out of a guest's reach.
		 */
		leaf->ecx &= ~(CPUID_1_ECX_VMX | CPUID_1_ECX_SMX);
		leaf->ecx |= CPUID_1_ECX_HYPERVISOR;
		if (shape->tsc_deadline)
			leaf->ecx |= CPUID_1_ECX_TSC_DEADLINE;
		leaf->edx &= ~CPUID_1_EDX_HTT;
		if (threads > 1)
			leaf->edx |= CPUID_1_EDX_HTT;
		break;
	case 0x4:
		leaf->eax = cache_sharing(leaf->eax, shape) & ~(0x3fu << 26);
		if (leaf->eax & 0x1f)
			leaf->eax |= (MIN(1u << (shape->socket_shift - shape->core_shift), 64u) - 1)
				     << 26;
		break;
	case 0x80000001:
		/* Tells AMD cores from threads in leaf 1's count; on Intel the bit is reserved. */
		leaf->ecx &= ~(CPUID_AMD_ECX_CMP_LEGACY | CPUID_AMD_ECX_SVM);
		if (shape->amd && threads > 1)
			leaf->ecx |= CPUID_AMD_ECX_CMP_LEGACY;
		break;
	case 0x80000008: /* AMD: threads of a socket - 1, and the APIC ID bits that number them */
		leaf->ecx = (leaf->ecx & ~0xf0ffu) | shape->socket_shift << 12 | (threads - 1);
		break;
	case 0x8000000a: /* what SVM can */
		leaf->eax = leaf->ebx = leaf->ecx = leaf->edx = 0;
		break;
	case 0x8000001d:
		leaf->eax = cache_sharing(leaf->eax, shape);
		break;
	case 0x8000001e: /* AMD: extended APIC ID; threads of a core - 1, core; nodes - 1, node */
		leaf->eax = place->apic_id;
		leaf->ebx = (t->threads - 1) << 8 | place->core;
		leaf->ecx = place->socket;
		break;
	}
}

static bool is_amd(const struct kvm_cpuid_entry2 *vendor)
{
	/* "AuthenticAMD" and "HygonGenuine" by the middle four letters, in EDX */
	return vendor && (vendor->edx == 0x69746e65 || vendor->edx == 0x6e65476e);
}

/* The host's own topology, which has no business in the guest. */
static bool is_host_topology(uint32_t function)
{
	return function == 0xb || function == 0x1f || function == 0x80000026;
}

void cpuid_for_vcpu(const struct vm_cpuid *supported, const struct cpu_topology *topology,
		    unsigned index, bool tsc_deadline, struct vm_cpuid *out)
{
	const struct kvm_cpuid_entry2 *vendor = find(supported, 0);
	const struct shape shape = {
		.topology = topology,
		.place = cpu_topology_place(topology, index),
		.core_shift = cpu_topology_core_shift(topology),
		.socket_shift = cpu_topology_socket_shift(topology),
		.tsc_deadline = tsc_deadline,
		.amd = is_amd(vendor),
	};

	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < supported->nent && i < VM_CPUID_MAX; i++) {
		if (is_host_topology(supported->entries[i].function))
			continue;
		out->entries[out->nent] = supported->entries[i];
		adjust(&out->entries[out->nent++], &shape);
	}
	if (vendor && vendor->eax >= 0xb)
		add_topology(out, 0xb, &shape);
	if (find(supported, 0x1f))
		add_topology(out, 0x1f, &shape);
}
