// SPDX-License-Identifier: Apache-2.0
/*
 * The machine's memory: placed around what its devices cannot reach, taken from the host nodes that
 * were asked for, and told to the guest.
 *
 * What a device cannot reach is asked of sysfs before the device is opened, so that the slow parts,
 * populating memory and opening devices, can run beside each other; the address space has the last
 * word (machine_memory_check()).
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hypervisor-glue/machine_private.h"

#define RESERVED_MAX  256
#define LOCAL_NODE    10 /* ACPI 6.5, 5.2.17 */
#define REMOTE_NODE   20
#define HUGE_PAGE_MIN (2 * MIB)

/* drivers/iommu/amd/amd_iommu_types.h: HT_RANGE_START and HT_RANGE_END */
static const struct iommu_range hypertransport = { 0xfd00000000, 0xffffffffff };

/* ---- what devices cannot reach ---------------------------------------------------------------- */

static bool is_amd_host(void)
{
	unsigned eax, ebx, ecx, edx;

	/* "AuthenticAMD", "HygonGenuine": by the letters in EDX */
	return __get_cpuid(0, &eax, &ebx, &ecx, &edx) && (edx == 0x69746e65 || edx == 0x6e65476e);
}

unsigned machine_reserved(const struct machine_config *config, const char *root, bool amd,
			  struct iommu_range *ranges, unsigned max)
{
	struct iommu_group *group = malloc(sizeof(*group));
	unsigned count = 0;

	/* Of a device that is plugged in later, too. */
	if (amd && count < max)
		ranges[count++] = hypertransport;
	for (unsigned i = 0; group && i < config->device_count; i++) {
		/* What is wrong with a device is said when it is opened. */
		if (config->devices[i].mdev[0] ||
		    iommu_group_load(root, &config->devices[i].address, group, NULL))
			continue;
		for (unsigned j = 0; j < group->reserved_count && count < max; j++) {
			const struct iommu_reserved_region *region = &group->reserved[j];

			/* Firmware's own use of it ends when the device is taken over. */
			if (!strcmp(region->type, "direct-relaxable"))
				continue;
			ranges[count++] = (struct iommu_range){ region->start, region->last };
		}
	}
	free(group);
	return count;
}

static int plan_make(struct machine *machine, struct error *e)
{
	const struct machine_config *config = machine->config;
	uint64_t sizes[MACHINE_NODES_MAX] = { config->memory };
	struct iommu_range reserved[RESERVED_MAX];
	unsigned count = machine_reserved(config, "", is_amd_host(), reserved, RESERVED_MAX);

	for (unsigned i = 0; i < config->node_count; i++)
		sizes[i] = config->nodes[i].memory;
	return memory_plan_make(sizes, MAX(config->node_count, 1u),
				MAX(config->huge_page, HUGE_PAGE_MIN), reserved, count,
				&machine->plan, e);
}

/* ---- what the guest is told ---------------------------------------------------------------------- */

/* The number at @index of a node's distances, in the order of the nodes that are online. */
static unsigned host_distance(const char *root, int from, int to)
{
	char path[512], text[4096], *at = text;
	struct cpu_list online; /* of nodes: the same form */
	unsigned index = 0;

	snprintf(path, sizeof(path), "%s/sys/devices/system/node/online", root);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) < 0 || cpu_list_parse(text, &online) ||
	    !cpu_list_has(&online, (unsigned)to))
		return REMOTE_NODE;
	for (unsigned node = 0; node < (unsigned)to; node++)
		index += cpu_list_has(&online, node);
	snprintf(path, sizeof(path), "%s/sys/devices/system/node/node%d/distance", root, from);
	if (file_read(AT_FDCWD, path, text, sizeof(text)) < 0)
		return REMOTE_NODE;
	for (unsigned i = 0;; i++) {
		char *end;
		unsigned long distance = strtoul(at, &end, 10);

		if (end == at)
			return REMOTE_NODE;
		if (i == index)
			return (unsigned)MIN(distance, 254ul);
		at = end;
	}
}

void machine_numa(const struct machine_config *config, const struct memory_plan *plan,
		  const char *root, struct acpi_numa *numa)
{
	*numa = (struct acpi_numa){ .nodes = config->node_count, .memory = plan };
	for (unsigned i = 0; i < config->cpus && i < ARRAY_SIZE(numa->node_of_vcpu); i++)
		numa->node_of_vcpu[i] = (uint8_t)machine_node_of(config, i);
	for (unsigned i = 0; i < config->node_count; i++)
		for (unsigned j = 0; j < config->node_count; j++) {
			int from = config->nodes[i].host_node, to = config->nodes[j].host_node;
			unsigned distance = REMOTE_NODE;

			if (from >= 0 && to >= 0)
				distance = host_distance(root, from, to);
			/* Two nodes of the guest may be one of the host; only a node itself is 10. */
			numa->distances[i][j] =
				(uint8_t)(i == j ? LOCAL_NODE : MAX(distance, LOCAL_NODE + 1u));
		}
}

/* ---- banks ------------------------------------------------------------------------------------- */

int machine_memory_create(struct machine *machine, struct error *e)
{
	const struct machine_config *config = machine->config;
	int err = guest_memory_create(&machine->memory, e);

	if (!err)
		err = plan_make(machine, e);
	/* Once: a guest that resets itself finds its nodes as they were. */
	if (!err)
		machine_numa(config, &machine->plan, "", &machine->numa);
	for (unsigned i = 0; i < machine->plan.hole_count && !err; i++) {
		const struct iommu_range *hole = &machine->plan.holes[i];

		err = guest_memory_add_reserved(machine->memory, hole->start,
						hole->last - hole->start + 1, e);
	}
	for (unsigned i = 0; i < machine->plan.piece_count && !err; i++) {
		const struct memory_piece *piece = &machine->plan.pieces[i];
		const struct memory_backing backing = {
			.huge_page = config->huge_page,
			.host_node = config->node_count ? config->nodes[piece->node].host_node : -1,
		};

		err = guest_memory_add_ram_on(machine->memory, piece->gpa, piece->size, &backing,
					      e);
	}
	/* Reserved pages are there for it, and a map for DMA would take the others one by one. */
	if (!err && (config->populate || config->huge_page || config->device_count))
		err = guest_memory_populate(machine->memory, &machine->population, e);
	return err;
}

int machine_memory_ready(struct machine *machine, bool give_up, struct error *e)
{
	struct memory_population *population = machine->population;

	machine->population = NULL;
	return memory_population_finish(population, give_up, e);
}

int machine_memory_check(const struct machine *machine, struct error *e)
{
	const struct memory_bank *bank;

	for (unsigned i = 0; (bank = guest_memory_bank(machine->memory, i)); i++) {
		uint64_t last = bank->gpa + bank->size - 1, usable = 0;
		bool fits = false;

		for (unsigned j = 0; j < machine->range_count && !fits; j++) {
			const struct iommu_range *range = &machine->ranges[j];

			fits = range->start <= bank->gpa && range->last >= last;
			if (range->start <= bank->gpa && range->last >= bank->gpa)
				usable = range->last - bank->gpa + 1;
		}
		if (!fits)
			return error_set(e, EADDRNOTAVAIL, "memory-reserved",
					 "lower --memory, or leave the device with that reserved "
					 "region out",
					 "guest RAM 0x%llx-0x%llx: the assigned devices can "
					 "address only 0x%llx bytes from its start on (a reserved "
					 "region, or the IOMMU's width)",
					 (unsigned long long)bank->gpa, (unsigned long long)last,
					 (unsigned long long)usable);
	}
	return 0;
}
