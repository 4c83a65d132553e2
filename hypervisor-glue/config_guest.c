// SPDX-License-Identifier: Apache-2.0
/*
 * The words about a guest's processors and memory: how many, how they sit in sockets and NUMA nodes,
 * which host CPUs they run on. Each word is judged where it is set; whether they agree is judged at
 * the end, when the ones that were left out follow from the others.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hypervisor-glue/config_private.h"

/* A decimal number that ends at @end's character or at the end of the text. */
static bool parse_number(const char *text, unsigned long max, unsigned long *value)
{
	char *end;

	errno = 0;
	*value = strtoul(text, &end, 10);
	return isdigit((unsigned char)text[0]) && !*end && !errno && *value <= max;
}

int config_set_cpus(struct machine_config *config, const struct setting *setting, struct error *e)
{
	unsigned long value;

	if (!parse_number(setting->value, MACHINE_CPUS_MAX, &value) || !value)
		return config_bad_value(setting, "a number from 1 to 255", e);
	config->cpus = (unsigned)value;
	config->cpus_said = true;
	return 0;
}

/* The next of a list's parts, cut out in place; NULL at the end. */
static char *next_part(char **rest)
{
	char *part = *rest, *comma;

	if (!part)
		return NULL;
	comma = strchr(part, ',');
	if (comma)
		*comma++ = '\0';
	*rest = comma;
	return part;
}

int config_set_topology(struct machine_config *config, const struct setting *setting,
			struct error *e)
{
	static const char expected[] = "such as sockets=1,cores=4,threads=2";
	static const char *const names[] = { "sockets=", "cores=", "threads=" };
	unsigned long values[ARRAY_SIZE(names)] = { 0 };
	char text[64], *rest = text, *part;

	if (strlen(setting->value) >= sizeof(text))
		return config_bad_value(setting, expected, e);
	strcpy(text, setting->value);
	while ((part = next_part(&rest))) {
		size_t i = 0;

		while (i < ARRAY_SIZE(names) && strncmp(part, names[i], strlen(names[i])))
			i++;
		if (i == ARRAY_SIZE(names) || values[i] ||
		    !parse_number(part + strlen(names[i]), MACHINE_CPUS_MAX, &values[i]) ||
		    !values[i])
			return config_bad_value(setting, expected, e);
	}
	config->topology = (struct cpu_topology){
		.sockets = values[0] ? (unsigned)values[0] : 1,
		.cores = values[1] ? (unsigned)values[1] : 1,
		.threads = values[2] ? (unsigned)values[2] : 1,
	};
	if (cpu_topology_count(&config->topology) > MACHINE_CPUS_MAX)
		return config_bad_value(setting, "of at most 255 vCPUs", e);
	return 0;
}

/* "3" or "0-3" */
static bool parse_range(char *text, unsigned long max, unsigned long *first, unsigned long *last)
{
	char *dash = strchr(text, '-');

	if (dash)
		*dash++ = '\0';
	return parse_number(text, max, first) && parse_number(dash ? dash : text, max, last) &&
	       *first <= *last;
}

int config_set_pin(struct machine_config *config, const struct setting *setting, struct error *e)
{
	static const char expected[] = "vCPUs and their host CPUs, such as 0=2,1=3 or 0-3=8-11";
	char *text = strdup(setting->value), *rest = text, *part;
	int err = text ? 0 : error_set(e, ENOMEM, "out-of-memory", NULL, "no memory");

	while (!err && (part = next_part(&rest))) {
		unsigned long vcpu, vcpu_last, cpu, cpu_last;
		char *equals = strchr(part, '=');

		if (equals)
			*equals++ = '\0';
		if (!equals || !parse_range(part, MACHINE_CPUS_MAX - 1, &vcpu, &vcpu_last) ||
		    !parse_range(equals, CPU_LIST_MAX - 1, &cpu, &cpu_last) ||
		    vcpu_last - vcpu != cpu_last - cpu) {
			err = config_bad_value(setting, expected, e);
			break;
		}
		for (; vcpu <= vcpu_last && !err; vcpu++, cpu++) {
			if (config->pins[vcpu] >= 0)
				err = error_set(e, EEXIST, "bad-value", NULL,
						"%s: vCPU %lu is named twice", setting->word, vcpu);
			config->pins[vcpu] = (int)cpu;
		}
	}
	free(text);
	return err;
}

bool config_parse_size(const char *text, uint64_t *size)
{
	uint64_t value;

	if (text_size(text, &value) || isdigit((unsigned char)text[strlen(text) - 1]) ||
	    value % MIB || value > CONFIG_MEMORY_MAX)
		return false;
	*size = value;
	return true;
}

int config_set_memory(struct machine_config *config, const struct setting *setting, struct error *e)
{
	uint64_t size;

	if (!config_parse_size(setting->value, &size) || size < CONFIG_MEMORY_MIN)
		return config_bad_value(setting, "a size such as 512M or 2G, from 16M to 16T", e);
	config->memory = size;
	config->memory_said = true;
	return 0;
}

/* One part of a node's description; a list of CPUs goes on over commas: "cpus=0-3,8,memory=1G". */
static bool node_part(struct machine_node *node, const char *part, char *cpus, size_t size)
{
	unsigned long number;

	if (isdigit((unsigned char)part[0]) && cpus[0]) {
		text_append(cpus, size, ",%s", part);
		return true;
	}
	if (!strncmp(part, "cpus=", 5) && !cpus[0]) {
		text_append(cpus, size, "%s", part + 5);
		return cpus[0] != '\0';
	}
	if (!strncmp(part, "memory=", 7) && !node->memory)
		return config_parse_size(part + 7, &node->memory) && node->memory;
	if (!strncmp(part, "host-node=", 10) && node->host_node < 0 &&
	    parse_number(part + 10, 1023, &number)) {
		node->host_node = (int)number;
		return true;
	}
	return false;
}

int config_set_numa(struct machine_config *config, const struct setting *setting, struct error *e)
{
	static const char expected[] = "such as cpus=0-3,memory=4G,host-node=0";
	struct machine_node node = { .host_node = -1 };
	char text[2048], cpus[2048] = "", *rest = text, *part;

	if (config->node_count == MACHINE_NODES_MAX)
		return error_set(e, ENOSPC, "bad-value", NULL, "%s: %u nodes are the most",
				 setting->word, MACHINE_NODES_MAX);
	if (strlen(setting->value) >= sizeof(text))
		return config_bad_value(setting, expected, e);
	strcpy(text, setting->value);
	while ((part = next_part(&rest)))
		if (!node_part(&node, part, cpus, sizeof(cpus)))
			return config_bad_value(setting, expected, e);
	if (!node.memory || !cpus[0] || cpu_list_parse(cpus, &node.cpus))
		return config_bad_value(setting, expected, e);
	config->nodes[config->node_count++] = node;
	return 0;
}

int config_set_huge_pages(struct machine_config *config, const struct setting *setting,
			  struct error *e)
{
	if (!strcasecmp(setting->value, "2M"))
		config->huge_page = 2 * MIB;
	else if (!strcasecmp(setting->value, "1G"))
		config->huge_page = GIB;
	else
		return config_bad_value(setting, "2M or 1G", e);
	return 0;
}

/* ---- all of them together -------------------------------------------------------------------- */

unsigned machine_node_of(const struct machine_config *config, unsigned vcpu)
{
	for (unsigned i = 0; i < config->node_count; i++)
		if (cpu_list_has(&config->nodes[i].cpus, vcpu))
			return i;
	return 0;
}

/* A socket shares a last-level cache: what is in two nodes is not one socket. */
static bool sockets_within_nodes(const struct machine_config *config, unsigned per_socket)
{
	for (unsigned i = 0; i < config->cpus; i++)
		if (machine_node_of(config, i) != machine_node_of(config, i - i % per_socket))
			return false;
	return true;
}

struct cpu_topology machine_topology(const struct machine_config *config)
{
	unsigned cores = config->cpus;

	if (config->topology.sockets)
		return config->topology;
	/* As few sockets as the nodes allow. */
	while (config->cpus % cores || !sockets_within_nodes(config, cores))
		cores--;
	return (struct cpu_topology){ config->cpus / cores, cores, 1 };
}

/* Every vCPU in one node, and no others. */
static int check_nodes(const struct machine_config *config, struct error *e)
{
	for (unsigned cpu = 0; cpu < CPU_LIST_MAX; cpu++) {
		unsigned nodes = 0;

		for (unsigned i = 0; i < config->node_count; i++)
			nodes += cpu_list_has(&config->nodes[i].cpus, cpu);
		if (cpu < config->cpus ? nodes == 1 : nodes == 0)
			continue;
		return error_set(e, EINVAL, "bad-value", NULL,
				 cpu >= config->cpus ? "numa: there is no vCPU %u: --cpus is %u"
				 : nodes	     ? "numa: vCPU %u of %u is in two nodes"
						     : "numa: vCPU %u of %u is in no node",
				 cpu, config->cpus);
	}
	return 0;
}

static int check_huge_pages(const struct machine_config *config, struct error *e)
{
	uint64_t odd = config->huge_page ? config->memory % config->huge_page : 0;

	for (unsigned i = 0; i < config->node_count && config->huge_page && !odd; i++)
		odd = config->nodes[i].memory % config->huge_page;
	if (odd)
		return error_set(e, EINVAL, "bad-value", NULL,
				 "huge-pages: memory, of each node too, must be made of whole "
				 "pages of %llu MiB",
				 (unsigned long long)(config->huge_page / MIB));
	return 0;
}

int config_settle_guest(struct machine_config *config, struct error *e)
{
	unsigned cpus = 0, sockets = config->topology.sockets;
	struct cpu_topology topology;
	uint64_t memory = 0;
	int err;

	for (unsigned i = 0; i < config->node_count; i++) {
		cpus += cpu_list_count(&config->nodes[i].cpus);
		memory += config->nodes[i].memory;
	}
	if (!config->cpus_said && (sockets || cpus))
		config->cpus = sockets ? cpu_topology_count(&config->topology) : cpus;
	if (!config->memory_said && memory)
		config->memory = memory;
	if (!config->cpus || config->cpus > MACHINE_CPUS_MAX)
		return error_set(e, EINVAL, "bad-value", NULL, "cpus: %u is not from 1 to %u",
				 config->cpus, MACHINE_CPUS_MAX);
	if (sockets && cpu_topology_count(&config->topology) != config->cpus)
		return error_set(e, EINVAL, "bad-value", NULL,
				 "topology: %u sockets x %u cores x %u threads are %u vCPUs, "
				 "--cpus is %u",
				 sockets, config->topology.cores, config->topology.threads,
				 cpu_topology_count(&config->topology), config->cpus);
	if (config->node_count) {
		err = check_nodes(config, e);
		if (err)
			return err;
		if (memory != config->memory || memory < CONFIG_MEMORY_MIN ||
		    memory > CONFIG_MEMORY_MAX)
			return error_set(e, EINVAL, "bad-value", "leave --memory out",
					 "numa: the nodes have %llu MiB, --memory is %llu MiB, "
					 "16 MiB to 16 TiB are possible",
					 (unsigned long long)(memory / MIB),
					 (unsigned long long)(config->memory / MIB));
	}
	topology = machine_topology(config);
	if (!sockets_within_nodes(config, topology.cores * topology.threads))
		return error_set(e, EINVAL, "bad-value",
				 "leave --topology out, or let each node be whole sockets",
				 "topology: a socket of %u vCPUs lies in two NUMA nodes",
				 topology.cores * topology.threads);
	if (cpu_topology_place(&topology, config->cpus - 1).apic_id > TOPOLOGY_APIC_ID_MAX)
		return error_set(e, EINVAL, "bad-value", "let cores and threads be powers of two",
				 "topology: the last vCPU would have APIC ID %u, and %u is the "
				 "highest that interrupts reach",
				 cpu_topology_place(&topology, config->cpus - 1).apic_id,
				 TOPOLOGY_APIC_ID_MAX);
	for (unsigned i = config->cpus; i < MACHINE_CPUS_MAX; i++)
		if (config->pins[i] >= 0)
			return error_set(e, EINVAL, "bad-value", NULL,
					 "pin: there is no vCPU %u: --cpus is %u", i, config->cpus);
	return check_huge_pages(config, e);
}
