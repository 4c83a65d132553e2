// SPDX-License-Identifier: Apache-2.0
/*
 * cpuid: what a vCPU tells the guest of itself.
 *
 * Starts from what KVM can offer (KVM_GET_SUPPORTED_CPUID) and replaces what is one vCPU's own or
 * speaks of the host's topology: the guest sees one package with as many cores as it has vCPUs, one
 * thread each. Leaves are those of Intel's SDM vol. 2A (CPUID) and AMD's APM vol. 3, appendix E.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hypervisor-glue/vm_internal.h"

#define CPUID_1_ECX_MONITOR	 (1u << 3)
#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)
#define CPUID_1_ECX_HYPERVISOR	 (1u << 31)
#define CPUID_1_EDX_HTT		 (1u << 28)
#define CPUID_AMD_ECX_CMP_LEGACY (1u << 1)

#define TOPOLOGY_THREADS 1u
#define TOPOLOGY_CORES	 2u

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

/* How many APIC ID bits number @count cores. */
static unsigned core_bits(unsigned count)
{
	unsigned bits = 0;

	while ((1u << bits) < count)
		bits++;
	return bits;
}

/* Leaves 0xb and 0x1f share their form; the host's levels are dropped and these put in their place. */
static void add_topology(struct vm_cpuid *out, uint32_t function, unsigned index, unsigned count)
{
	const uint32_t levels[3][4] = {
		/* EAX: APIC ID bits below the next level, EBX: threads at this level, ECX, EDX */
		{ 0, 1, TOPOLOGY_THREADS << 8 | 0, index },
		{ core_bits(count), count, TOPOLOGY_CORES << 8 | 1, index },
		{ 0, 0, 2, index },
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

/* A cache of level 3 is everybody's, the others are one core's. */
static uint32_t cache_sharing(uint32_t eax, unsigned count)
{
	unsigned type = eax & 0x1f, level = eax >> 5 & 7;
	unsigned sharers = level >= 3 ? (1u << core_bits(count)) : 1;

	if (type == 0)
		return eax;
	return (eax & ~(0xfffu << 14)) | (sharers - 1) << 14;
}

static void adjust(struct kvm_cpuid_entry2 *leaf, unsigned index, unsigned count, bool tsc_deadline)
{
	switch (leaf->function) {
	case 0x1:
		leaf->ebx = (leaf->ebx & 0xffff) | (1u << core_bits(count)) << 16 | index << 24;
		/* MWAIT would keep the host's processor; it needs an offer that we do not make. */
		leaf->ecx &= ~(CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_MONITOR);
		leaf->ecx |= CPUID_1_ECX_HYPERVISOR;
		if (tsc_deadline)
			leaf->ecx |= CPUID_1_ECX_TSC_DEADLINE;
		leaf->edx &= ~CPUID_1_EDX_HTT;
		if (count > 1)
			leaf->edx |= CPUID_1_EDX_HTT;
		break;
	case 0x4:
		leaf->eax = cache_sharing(leaf->eax, count);
		leaf->eax &= ~(0x3fu << 26);
		if (leaf->eax & 0x1f)
			leaf->eax |= (MIN(1u << core_bits(count), 64u) - 1) << 26;
		break;
	case 0x80000001:
		leaf->ecx &= ~CPUID_AMD_ECX_CMP_LEGACY;
		break;
	case 0x80000008:
		leaf->ecx = (leaf->ecx & ~0xf0ffu) | core_bits(count) << 12 | (count - 1);
		break;
	case 0x8000001d:
		leaf->eax = cache_sharing(leaf->eax, count);
		break;
	case 0x8000001e: /* AMD: extended APIC ID; core, threads of a core - 1; node */
		leaf->eax = index;
		leaf->ebx = index;
		leaf->ecx = 0;
		break;
	}
}

static bool is_amd(const struct kvm_cpuid_entry2 *vendor)
{
	/* "AuthenticAMD" and "HygonGenuine" by the middle four letters, in EDX */
	return vendor && (vendor->edx == 0x69746e65 || vendor->edx == 0x6e65476e);
}

void cpuid_for_vcpu(const struct vm_cpuid *supported, unsigned index, unsigned count,
		    bool tsc_deadline, struct vm_cpuid *out)
{
	const struct kvm_cpuid_entry2 *vendor = find(supported, 0);
	bool amd = is_amd(vendor);
	bool had_1f = false;

	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < supported->nent && i < VM_CPUID_MAX; i++) {
		const struct kvm_cpuid_entry2 *in = &supported->entries[i];
		struct kvm_cpuid_entry2 *leaf = &out->entries[out->nent];

		if (in->function == 0xb || in->function == 0x1f) {
			had_1f |= in->function == 0x1f;
			continue;
		}
		*leaf = *in;
		adjust(leaf, index, count, tsc_deadline);
		/* Tells AMD cores from threads in leaf 1's count; on Intel the bit is reserved. */
		if (amd && count > 1 && in->function == 0x80000001)
			leaf->ecx |= CPUID_AMD_ECX_CMP_LEGACY;
		out->nent++;
	}
	if (vendor && vendor->eax >= 0xb)
		add_topology(out, 0xb, index, count);
	if (had_1f)
		add_topology(out, 0x1f, index, count);
}
