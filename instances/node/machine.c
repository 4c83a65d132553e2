// SPDX-License-Identifier: Apache-2.0
/* The machine around its GPUs: CPUs, memory, huge pages, NUMA nodes, and what isolation is worth. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/node/private.h"
#include "iommu/iommu.h"

/* "MemTotal:  16315668 kB", in a node's file after "Node 0 ". */
static uint64_t mem_total_mib(const char *path)
{
	char text[8192];
	const char *at;

	if (file_read(-1, path, text, sizeof(text)) < 0)
		return 0;
	at = strstr(text, "MemTotal:");
	return at ? strtoull(at + strlen("MemTotal:"), NULL, 10) / 1024 : 0;
}

static struct node_huge_pages huge_pages(const char *root, const char *folder, const char *size)
{
	char path[NODE_PATH_MAX];
	struct node_huge_pages pages;

	pages.total =
		node_number(node_path(path, root, "%s/hugepages-%s/nr_hugepages", folder, size), 0);
	pages.free = node_number(
		node_path(path, root, "%s/hugepages-%s/free_hugepages", folder, size), 0);
	return pages;
}

static void read_cpus(const char *root, struct node *node)
{
	char path[NODE_PATH_MAX], text[4096];

	if (!node_text(node_path(path, root, "/sys/devices/system/cpu/online"), text,
		       sizeof(text)) ||
	    cpu_list_parse(text, &node->cpus)) {
		memset(&node->cpus, 0, sizeof(node->cpus));
		if (!root[0] && cpu_list_allowed(&node->cpus))
			memset(&node->cpus, 0, sizeof(node->cpus));
	}
	node->cpu_count = cpu_list_count(&node->cpus);
}

static void read_numa(const char *root, struct node *node)
{
	char path[NODE_PATH_MAX], text[1024], folder[96];
	struct cpu_list online = { 0 }; /* a list of nodes is written as one of CPUs is */

	if (!node_text(node_path(path, root, "/sys/devices/system/node/online"), text,
		       sizeof(text)) ||
	    cpu_list_parse(text, &online))
		return;
	for (unsigned id = 0; id < CPU_LIST_MAX && node->numa_count < NODE_NUMA_MAX; id++) {
		struct node_numa *numa = &node->numa[node->numa_count];

		if (!cpu_list_has(&online, id))
			continue;
		*numa = (struct node_numa){ .id = id };
		if (cpu_list_node(root, id, &numa->cpus))
			memset(&numa->cpus, 0, sizeof(numa->cpus));
		numa->cpu_count = cpu_list_count(&numa->cpus);
		numa->memory_mib = mem_total_mib(
			node_path(path, root, "/sys/devices/system/node/node%u/meminfo", id));
		snprintf(folder, sizeof(folder), "/sys/devices/system/node/node%u/hugepages", id);
		numa->huge_2m = huge_pages(root, folder, "2048kB");
		numa->huge_1g = huge_pages(root, folder, "1048576kB");
		node->numa_count++;
	}
}

/* iommu/ reads what it takes to tell; its findings are told apart by their codes. */
static void read_isolation(const char *root, struct node *node)
{
	const struct pci_address any = { 0 };
	struct findings *findings = calloc(1, sizeof(*findings));

	node->interrupt_remapping = true;
	if (!findings)
		return;
	iommu_precheck(root, &any, findings);
	for (unsigned i = 0; i < findings->count; i++) {
		const char *code = findings->items[i].code;

		node->iommu |= !strcmp(code, "iommu-present");
		node->acs_override |= !strcmp(code, "acs-override");
		if (!strcmp(code, "no-interrupt-remapping"))
			node->interrupt_remapping = false;
	}
	free(findings);
}

void node_machine_read(const char *root, struct node *node)
{
	char path[NODE_PATH_MAX];

	read_cpus(root, node);
	node->memory_mib = mem_total_mib(node_path(path, root, "/proc/meminfo"));
	node->huge_2m = huge_pages(root, "/sys/kernel/mm/hugepages", "2048kB");
	node->huge_1g = huge_pages(root, "/sys/kernel/mm/hugepages", "1048576kB");
	read_numa(root, node);
	read_isolation(root, node);
}
