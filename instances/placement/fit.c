// SPDX-License-Identifier: Apache-2.0
/*
 * Whether something fits, and the words when it does not: one rule, one if. The rules of a GPU are in the order of how near a miss
 * is, so that the reason that helps most can be told first.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "instances/placement/private.h"

static bool waits(enum sched_policy policy)
{
	return policy == SCHED_WEIGHTED || policy == SCHED_EQUAL_SHARE;
}

struct placement_gpu_sum placement_gpu_sum(const struct placement_ledger *ledger, unsigned index,
					   const struct placement_part *before,
					   unsigned before_count)
{
	const struct placement_taken *taken = &ledger->gpus[index];
	struct placement_gpu_sum sum = {
		.users = taken->users,
		.heads = taken->heads,
		.waiters = taken->waiters,
		.users_max = ledger->limits.users_max,
		.time_ppm = taken->time_ppm,
		.vram_mib = taken->vram_mib,
		.slices = taken->slices,
		.whole = taken->whole,
	};

	for (unsigned i = 1; i < MIN(sum.users_max, TYPE_USERS_MAX + 1); i++)
		if (taken->wishes[i])
			sum.users_max = i;
	for (unsigned i = 0; i < before_count; i++) {
		const bool device = before[i].mode == TYPE_DEDICATED,
			   slice = device && before[i].provider != TYPE_WHOLE;

		if (strcmp(before[i].gpu, ledger->node->gpus[index].id) != 0) {
			const int other = slice ? placement_gpu_index(ledger, before[i].gpu) : -1;

			sum.slices += other >= 0 && ledger->physical[other] == (int)index;
			continue;
		}
		if (device) {
			sum.whole |= before[i].provider != TYPE_MDEV;
			sum.slices += before[i].provider == TYPE_MDEV;
			continue;
		}
		sum.users++;
		sum.heads += before[i].heads;
		sum.waiters += waits(before[i].policy);
		sum.time_ppm += before[i].time_ppm;
		sum.vram_mib += before[i].vram_mib;
		if (before[i].users_max)
			sum.users_max = MIN(sum.users_max, before[i].users_max);
	}
	return sum;
}

bool placement_selected(const struct placement_ledger *ledger, unsigned index,
			const struct type_gpu *wanted)
{
	const int physical = ledger->physical[index];
	const bool slice = wanted->mode == TYPE_DEDICATED && wanted->provider != TYPE_WHOLE;

	return node_gpu_matches(&ledger->node->gpus[index], wanted->selector) ||
	       (slice && physical >= 0 &&
		node_gpu_matches(&ledger->node->gpus[physical], wanted->selector));
}

int placement_mdevs_left(const struct placement_ledger *ledger, unsigned index, const char *name,
			 const struct placement_part *before, unsigned before_count)
{
	const struct node_gpu *gpu = &ledger->node->gpus[index];
	const struct node_mdev_type *type = node_mdev_type_find(gpu, name);
	uint64_t taken;

	if (!type)
		return -1;
	taken = ledger->gpus[index].mdevs[type - gpu->mdev_types];
	for (unsigned i = 0; i < before_count; i++)
		taken += before[i].provider == TYPE_MDEV && !strcmp(before[i].gpu, gpu->id) &&
			 !strcmp(before[i].mdev_type, type->id);
	return taken < type->available ? (int)(type->available - taken) : 0;
}

/* @amount / 10^@digits, without zeros at its end. */
static const char *decimal(uint64_t amount, unsigned digits, char text[32])
{
	uint64_t unit = 1;
	size_t length;

	for (unsigned i = 0; i < digits; i++)
		unit *= 10;
	if (amount % unit == 0) {
		snprintf(text, 32, "%" PRIu64, amount / unit);
		return text;
	}
	length = (size_t)snprintf(text, 32, "%" PRIu64 ".%0*" PRIu64, amount / unit, (int)digits,
				  amount % unit);
	while (text[length - 1] == '0')
		text[--length] = '\0';
	return text;
}

static const char *is_or_are(const char *amount)
{
	return strcmp(amount, "1") ? "are" : "is";
}

/* ---- a GPU ------------------------------------------------------------------------------------------- */

struct fitting {
	const struct placement_ledger *ledger;
	const struct node_gpu *gpu;
	enum placement_closed closed;
	const char *selector;
	const struct placement_part *part, *before;
	unsigned index, before_count;
	struct placement_gpu_sum sum, physical; /* @physical: of the GPU that it is a part of */
	struct placement_refusal *refusal;
};

/* False, with words: "GPU-1 (NVIDIA H100): ..." */
static bool refuse(struct fitting *f, unsigned nearness, const char *code, const char *meaning,
		   const char *next, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
static bool refuse(struct fitting *f, unsigned nearness, const char *code, const char *meaning,
		   const char *next, const char *fmt, ...)
{
	struct placement_refusal *refusal = f->refusal;
	char what[192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	refusal->nearness = nearness;
	refusal->code = code;
	refusal->meaning = meaning;
	snprintf(refusal->next, sizeof(refusal->next), "%s", next ? next : "");
	snprintf(refusal->fact, sizeof(refusal->fact), "%.60s: %s", f->gpu->id, what);
	return false;
}

static bool asked_by_name(const struct fitting *f)
{
	return !f->selector || f->selector[0];
}

/* Neither it nor what it is a part of is set aside. */
static bool is_open(struct fitting *f)
{
	const int physical = f->ledger->physical[f->index];
	const struct node_gpu *gpus = f->ledger->node->gpus, *closed = f->gpu;
	enum placement_closed why = f->closed;
	const char *of = "it is";
	char next[96];

	if (why == PLACEMENT_OPEN && physical >= 0) {
		why = f->ledger->closed[physical];
		closed = &gpus[physical];
		of = "the GPU that it is a part of is";
	}
	snprintf(next, sizeof(next), "divvy undrain %.70s", closed->id);
	if (why == PLACEMENT_DRAINED)
		return refuse(f, 2, "gpu-drained", "nothing new goes to it", next,
			      "%s being drained", of);
	snprintf(next, sizeof(next), "divvy show %.70s", closed->id);
	if (why == PLACEMENT_QUARANTINED)
		return refuse(f, 2, "gpu-quarantined", "it failed, and waits for somebody to look",
			      next, "%s in quarantine", of);
	return true;
}

/* Nobody has it whole, nor runs vGPUs on it; nor, of a virtual function, on what it is a part of. */
static bool is_free(struct fitting *f)
{
	if (f->sum.whole)
		return refuse(f, 3, "gpu-taken", "an instance has all of it",
			      "divvy list instances", "it is handed out whole");
	if (f->sum.users)
		return refuse(f, 3, "gpu-shared", "what serves vGPUs can't be handed out whole",
			      "divvy list instances", "it serves %u vGPU%s", f->sum.users,
			      f->sum.users == 1 ? "" : "s");
	if (f->physical.whole)
		return refuse(f, 3, "gpu-taken", "an instance has all of that",
			      "divvy list instances",
			      "the GPU that it is a part of is handed out whole");
	if (f->physical.users)
		return refuse(f, 3, "gpu-shared", "vGPUs are promised parts of all of a GPU's time",
			      "divvy list instances",
			      "the GPU that it is a part of serves %u vGPU%s", f->physical.users,
			      f->physical.users == 1 ? "" : "s");
	return true;
}

static bool is_uncut(struct fitting *f)
{
	if (!f->sum.slices)
		return true;
	return refuse(f, 3, "gpu-sliced", "a GPU is handed out whole, in slices, or by its time",
		      "divvy list instances",
		      "%u virtual function%s or mediated device%s of it %s with instances",
		      f->sum.slices, f->sum.slices == 1 ? "" : "s", f->sum.slices == 1 ? "" : "s",
		      f->sum.slices == 1 ? "is" : "are");
}

/* A function of the hardware's, behind an IOMMU that keeps it where it belongs. */
static bool is_assignable(struct fitting *f)
{
	const struct placement_limits *limits = &f->ledger->limits;
	char next[96], bdf[PCI_ADDRESS_LEN];

	if (!f->gpu->has_address)
		return refuse(f, 0, "gpu-not-assignable", "only PCI functions are handed out whole",
			      NULL, "it is no PCI function");
	if (!f->gpu->assignable) {
		snprintf(next, sizeof(next), "divvy precheck %s",
			 pci_address_format(&f->gpu->address, bdf));
		return refuse(f, 1, "gpu-not-assignable", "it can't be handed out whole", next,
			      "%.180s", f->gpu->not_assignable);
	}
	if (!f->gpu->isolated && !limits->allow_unisolated)
		return refuse(
			f, 1, "gpu-unisolated",
			"groups prove nothing between tenants while pcie_acs_override is there",
			"take pcie_acs_override off the kernel command line, or allow_unisolated",
			"isolation is assumed, not the hardware's");
	if (!f->ledger->node->interrupt_remapping && !limits->allow_unisolated)
		return refuse(f, 1, "no-interrupt-remapping",
			      "a device could raise any interrupt of the host",
			      "switch on interrupt remapping in the firmware setup",
			      "interrupts are not remapped on this machine");
	return true;
}

static bool whole_fits(struct fitting *f)
{
	if (f->gpu->is_virtual_function)
		return refuse(f, 0, "gpu-virtual-function",
			      "it is a part of a GPU, not a whole one",
			      "provider: sriov in the type", "it is a virtual function");
	if (f->gpu->boot_vga && !asked_by_name(f))
		return refuse(f, 0, "gpu-console", "the host would lose its screen",
			      "name it in the type's selector", "the host's console is on it");
	return is_assignable(f) && is_open(f) && is_free(f) && is_uncut(f);
}

static bool virtual_function_fits(struct fitting *f)
{
	char next[96], bdf[PCI_ADDRESS_LEN];

	if (f->gpu->is_virtual_function)
		return is_assignable(f) && is_open(f) && is_free(f) && is_uncut(f);
	/* One that has some is not in the way: they answer for themselves. */
	for (unsigned i = 0; i < f->ledger->node->gpu_count; i++)
		if (f->ledger->physical[i] == (int)f->index)
			return false;
	if (f->gpu->sriov_now)
		return refuse(f, 1, "gpu-no-virtual-functions",
			      "only displays and accelerators are looked at", "divvy list devices",
			      "its %u virtual functions are no GPUs by their class",
			      f->gpu->sriov_now);
	snprintf(next, sizeof(next), "echo N > /sys/bus/pci/devices/%s/sriov_numvfs",
		 pci_address_format(&f->gpu->address, bdf));
	if (f->gpu->sriov_total)
		return refuse(f, 2, "gpu-no-virtual-functions",
			      "who administers the machine makes them, by the GPU's driver", next,
			      "none of its %u virtual functions are there", f->gpu->sriov_total);
	return refuse(f, 0, "gpu-no-virtual-functions", "not every GPU and driver has them", NULL,
		      "it has no SR-IOV");
}

/* What its isolation is worth is its driver's affair: no IOMMU group tells anything about it. */
static bool mdev_fits(struct fitting *f)
{
	const struct node_gpu *gpu = f->gpu;
	const char *type = f->part->mdev_type;
	const int left =
		placement_mdevs_left(f->ledger, f->index, type, f->before, f->before_count);
	char known[96] = "", next[128];

	if (!gpu->mdev_type_count)
		return refuse(f, 0, "gpu-no-mdev", "its driver makes them, or does not",
			      "ls /sys/class/mdev_bus",
			      "it offers no mediated devices (driver %.40s)",
			      gpu->driver[0] ? gpu->driver : "none");
	for (unsigned i = 0; left < 0 && i < gpu->mdev_type_count; i++)
		text_append(known, sizeof(known), "%s%s", i ? ", " : "", gpu->mdev_types[i].id);
	snprintf(next, sizeof(next), "divvy show %.70s", gpu->id);
	if (left < 0)
		return refuse(f, 1, "gpu-no-mdev", "types are the driver's", next,
			      "it offers no %.40s, but %.90s", type, known);
	if (!is_open(f) || !is_free(f))
		return false;
	if (!left)
		return refuse(f, 4, "gpu-mdev-short",
			      "so many the driver makes, beside the others that are there",
			      "divvy list instances", "no more %.60s can be made of it", type);
	return true;
}

/* Time that is promised, and what is left of it for those without a promise. */
static bool time_fits(struct fitting *f)
{
	const struct placement_part *part = f->part;
	const uint32_t left_min = f->ledger->limits.left_min_ppm;
	const uint64_t time = f->sum.time_ppm + part->time_ppm;
	const bool somebody_waits = f->sum.waiters || waits(part->policy);
	char a[32], b[32];

	if (time > SCHED_PPM)
		return refuse(f, 6, "gpu-time-short", "what is promised has to be kept",
			      "divvy list instances",
			      "%s %% of its time is promised, %s %% is asked for",
			      decimal(f->sum.time_ppm, 4, a), decimal(part->time_ppm, 4, b));
	if (somebody_waits && time > SCHED_PPM - MIN(left_min, SCHED_PPM))
		return refuse(f, 6, "gpu-time-left-short",
			      "vGPUs without a promise of time live on what the others leave",
			      "divvy list instances",
			      "%s %% of its time would be promised, and %s %% is to be left to "
			      "weighted and equal_share vGPUs",
			      decimal(time, 4, a), decimal(left_min, 4, b));
	return true;
}

static bool share_fits(struct fitting *f)
{
	const struct placement_part *part = f->part;
	const uint64_t total = f->gpu->vram_mib;
	char left[32], wanted[32];
	unsigned users_max = f->sum.users_max;

	if (part->users_max)
		users_max = MIN(users_max, part->users_max);
	if (!(f->gpu->providers & NODE_VULKAN) && f->gpu->vulkan_name[0])
		return refuse(
			f, 1, "gpu-not-shareable",
			"what renders for a guest opens render nodes of /dev/dri only",
			"divvy run-native shares it among the host's own programs",
			"driver %.40s: no render node of /dev/dri by which a guest's renderer could use it",
			f->gpu->driver[0] ? f->gpu->driver : "none");
	if (!(f->gpu->providers & NODE_VULKAN))
		return refuse(f, 1, "gpu-not-shareable",
			      "vGPUs run on a GPU that has a Vulkan driver on the host",
			      "vulkaninfo --summary", "no Vulkan driver has it (driver %.40s)",
			      f->gpu->driver[0] ? f->gpu->driver : "none");
	if (f->gpu->software && f->ledger->hardware_shares && !asked_by_name(f))
		return refuse(f, 0, "gpu-software", "there are GPUs of hardware",
			      "name it in the type's selector", "it renders on the CPU");
	if (!is_open(f))
		return false;
	if (f->sum.whole)
		return refuse(f, 3, "gpu-taken", "an instance has all of it",
			      "divvy list instances", "it is handed out whole");
	if (!is_uncut(f))
		return false;
	if (f->sum.users >= users_max)
		return refuse(f, 4, "gpu-users-full", "so many are allowed on it",
			      "divvy list instances", "it has %u of %u vGPUs", f->sum.users,
			      users_max);
	if (f->sum.heads + part->heads > f->ledger->limits.heads_max)
		return refuse(f, 5, "gpu-heads-full", "so many displays are allowed on it",
			      "divvy list instances", "it has %u of %u displays, %u %s asked for",
			      f->sum.heads, f->ledger->limits.heads_max, part->heads,
			      part->heads == 1 ? "is" : "are");
	if (!time_fits(f))
		return false;
	if (!total || !part->vram_mib)
		return refuse(f, 7, "gpu-memory-unknown", "a part of nothing can't be given", NULL,
			      total ? "a part below a MiB is none"
				    : "how much memory it has is not known");
	decimal(total - MIN(f->sum.vram_mib, total), 0, left);
	decimal(part->vram_mib, 0, wanted);
	if (f->sum.vram_mib > total || part->vram_mib > total - f->sum.vram_mib)
		return refuse(f, 7, "gpu-memory-short", "memory is not shared out twice",
			      "divvy list instances",
			      "%s of its %" PRIu64 " MiB of memory %s free, %s %s asked for", left,
			      total, is_or_are(left), wanted, is_or_are(wanted));
	return true;
}

bool placement_part_fits(const struct placement_ledger *ledger, unsigned index,
			 const char *selector, const struct placement_part *part,
			 const struct placement_part *before, unsigned before_count,
			 struct placement_refusal *refusal)
{
	struct fitting f = {
		.ledger = ledger,
		.gpu = &ledger->node->gpus[index],
		.closed = ledger->closed[index],
		.selector = selector,
		.index = index,
		.part = part,
		.before = before,
		.before_count = before_count,
		.sum = placement_gpu_sum(ledger, index, before, before_count),
		.refusal = refusal,
	};

	if (ledger->physical[index] >= 0)
		f.physical = placement_gpu_sum(ledger, (unsigned)ledger->physical[index], before,
					       before_count);
	if (part->mode == TYPE_SHARED)
		return share_fits(&f);
	return part->provider == TYPE_SRIOV  ? virtual_function_fits(&f)
	       : part->provider == TYPE_MDEV ? mdev_fits(&f)
					     : whole_fits(&f);
}

void placement_refusal_add(const struct placement_refusal *refusal, struct findings *findings)
{
	findings_add(findings, FINDING_BLOCKER, refusal->code, refusal->meaning, refusal->next,
		     "%s", refusal->fact);
}

/* ---- the machine ----------------------------------------------------------------------------------------- */

static bool short_of(struct findings *findings, const char *code, const char *what, int numa,
		     uint64_t taken, uint64_t wanted, uint64_t total, const char *next)
{
	const unsigned digits = !strcmp(code, "cpus-short") ? 3 : 0;
	char where[32] = "", texts[3][32];

	if (taken <= total && wanted <= total - taken)
		return false;
	if (!findings)
		return true;
	if (numa >= 0)
		snprintf(where, sizeof(where), " of NUMA node %d", numa);
	decimal(total - MIN(taken, total), digits, texts[0]);
	decimal(total, digits, texts[1]);
	decimal(wanted, digits, texts[2]);
	findings_add(findings, FINDING_BLOCKER, code, "what is sold has to be there", next,
		     "%s of %s %s%s %s free, %s %s asked for", texts[0], texts[1], what, where,
		     is_or_are(texts[0]), texts[2], is_or_are(texts[2]));
	return true;
}

/* @numa: the node's number, or -1 for the machine */
static bool amounts_fit(const struct placement_amounts *taken,
			const struct placement_amounts *total,
			const struct placement_amounts *wanted, int numa, struct findings *findings)
{
	bool fits = true;

	fits &= !short_of(findings, "cpus-short", "CPUs", numa, taken->cpu_milli, wanted->cpu_milli,
			  total->cpu_milli, "divvy list instances");
	fits &= !short_of(findings, "memory-short", "MiB of memory", numa, taken->memory_mib,
			  wanted->memory_mib, total->memory_mib, "divvy list instances");
	fits &= !short_of(findings, "huge-pages-short", "pages of 2 MiB", numa, taken->huge_2m,
			  wanted->huge_2m, total->huge_2m,
			  "echo N > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
	fits &= !short_of(findings, "huge-pages-short", "pages of 1 GiB", numa, taken->huge_1g,
			  wanted->huge_1g, total->huge_1g,
			  "boot with hugepagesz=1G hugepages=N on the kernel command line");
	return fits;
}

bool placement_machine_fits(const struct placement_ledger *ledger,
			    const struct placement *placement, struct findings *findings)
{
	const struct placement_amounts wanted = placement_amounts_of(placement);
	const int numa = placement_numa_index(ledger, placement->numa_node);
	bool fits =
		amounts_fit(&ledger->state.machine, &ledger->machine_total, &wanted, -1, findings);

	if (numa >= 0)
		fits &= amounts_fit(&ledger->state.numa[numa], &ledger->numa_total[numa], &wanted,
				    placement->numa_node, findings);
	return fits;
}
