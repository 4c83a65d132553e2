// SPDX-License-Identifier: Apache-2.0
/*
 * APIC IDs out of a topology: one field of bits for the thread, one for the core, the rest for the socket
 * (SDM vol. 3A, 9.9.3; APM vol. 2, 16.12.1). Numbers that are no powers of two leave gaps between IDs.
 */
#include "hypervisor-glue/topology.h"

static unsigned bits_for(unsigned count)
{
	unsigned bits = 0;

	while (bits < 31 && (1u << bits) < count)
		bits++;
	return bits;
}

unsigned cpu_topology_count(const struct cpu_topology *topology)
{
	return topology->sockets * topology->cores * topology->threads;
}

unsigned cpu_topology_core_shift(const struct cpu_topology *topology)
{
	return bits_for(topology->threads);
}

unsigned cpu_topology_socket_shift(const struct cpu_topology *topology)
{
	return bits_for(topology->threads) + bits_for(topology->cores);
}

struct cpu_place cpu_topology_place(const struct cpu_topology *topology, unsigned vcpu)
{
	struct cpu_place place = {
		.thread = vcpu % topology->threads,
		.core = vcpu / topology->threads % topology->cores,
		.socket = vcpu / topology->threads / topology->cores,
	};

	place.apic_id = place.socket << cpu_topology_socket_shift(topology) |
			place.core << cpu_topology_core_shift(topology) | place.thread;
	return place;
}
