// SPDX-License-Identifier: Apache-2.0
/*
 * Which host CPUs each vCPU may run on: the one it is pinned to, else those of the host node that its
 * memory comes from, else any. Never more than this process may use itself (taskset, cpusets).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hypervisor-glue/machine_private.h"

static int pin_one(const struct machine_config *config, unsigned vcpu,
		   const struct cpu_list *allowed, struct cpu_list *list, struct error *e)
{
	unsigned cpu = (unsigned)config->pins[vcpu];
	char text[256];

	if (!cpu_list_has(allowed, cpu))
		return error_set(e, EINVAL, "cpu-not-allowed",
				 "pin to one of those, or start with another taskset or cpuset",
				 "vCPU %u cannot be pinned to host CPU %u: this process may use %s",
				 vcpu, cpu, cpu_list_format(allowed, text, sizeof(text)));
	for (unsigned i = 0; i < vcpu; i++)
		if (config->pins[i] == (int)cpu)
			log_warn("vCPUs %u and %u share host CPU %u", i, vcpu, cpu);
	memset(list, 0, sizeof(*list));
	cpu_list_add(list, cpu);
	return 0;
}

/* To the CPUs of host node @node; a node of memory alone has none and binds nothing. */
static int bind_to_node(const char *root, unsigned vcpu, unsigned node,
			const struct cpu_list *allowed, struct cpu_list *list, struct error *e)
{
	struct cpu_list cpus;
	int err = cpu_list_node(root, node, &cpus);
	char of_node[256], ours[256];

	if (err)
		return error_set(e, -err, "no-host-node", "numactl --hardware lists them",
				 "numa: host node %u: %s", node,
				 err == -ENOENT ? "there is no such node" : strerror(-err));
	if (!cpu_list_count(&cpus))
		return 0;
	cpu_list_format(&cpus, of_node, sizeof(of_node));
	cpu_list_and(&cpus, allowed);
	if (!cpu_list_count(&cpus))
		return error_set(e, EINVAL, "cpu-not-allowed",
				 "start with another taskset or cpuset, or leave host-node out",
				 "vCPU %u belongs to host node %u with CPUs %s: this process may "
				 "use %s",
				 vcpu, node, of_node, cpu_list_format(allowed, ours, sizeof(ours)));
	*list = cpus;
	return 0;
}

int machine_cpus_affinity(const struct machine_config *config, const char *root,
			  const struct cpu_list *allowed, struct cpu_list **out, struct error *e)
{
	bool bound = false;
	int err = 0;

	*out = NULL;
	for (unsigned i = 0; i < config->cpus; i++)
		bound |= config->pins[i] >= 0;
	for (unsigned i = 0; i < config->node_count; i++)
		bound |= config->nodes[i].host_node >= 0;
	if (!bound)
		return 0;
	*out = calloc(config->cpus, sizeof(**out));
	if (!*out)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory for CPU sets");
	for (unsigned i = 0; i < config->cpus && !err; i++) {
		int node = config->node_count ? config->nodes[machine_node_of(config, i)].host_node
					      : -1;

		(*out)[i] = *allowed;
		if (config->pins[i] >= 0)
			err = pin_one(config, i, allowed, &(*out)[i], e);
		else if (node >= 0)
			err = bind_to_node(root, i, (unsigned)node, allowed, &(*out)[i], e);
	}
	if (err) {
		free(*out);
		*out = NULL;
	}
	return err;
}

int machine_cpus_acquire(struct machine *machine, struct error *e)
{
	struct cpu_list allowed;
	int err = cpu_list_allowed(&allowed);

	if (err)
		return error_set(e, -err, "no-affinity", NULL, "sched_getaffinity: %s",
				 strerror(-err));
	return machine_cpus_affinity(machine->config, "", &allowed, &machine->affinity, e);
}

const struct cpu_list *machine_affinity(const struct machine *machine, unsigned vcpu)
{
	return machine->affinity ? &machine->affinity[vcpu] : NULL;
}
