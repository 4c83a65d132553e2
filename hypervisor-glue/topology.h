/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topology: how the guest's processors sit in sockets and cores, and the APIC ID that follows from
 * it. CPUID and the ACPI tables are made of the same numbers. Pure.
 */
#ifndef GLUE_TOPOLOGY_H
#define GLUE_TOPOLOGY_H

#include <stdint.h>

/*
 * 255 is the broadcast address of an 8-bit APIC ID, and the destination of an I/O APIC's pin has 8
 * bits: an interrupt could not be sent to a higher one (docs/divvy-vmm.md, "Processors").
 */
#define TOPOLOGY_APIC_ID_MAX 254

/* vCPUs are numbered thread by thread, core by core, socket by socket. */
struct cpu_topology {
	unsigned sockets, cores, threads; /* of the machine, of a socket, of a core */
};

struct cpu_place {
	unsigned socket, core, thread; /* core within its socket, thread within its core */
	uint32_t apic_id;
};

unsigned cpu_topology_count(const struct cpu_topology *topology);
/* The bits of an APIC ID that number the threads of a core; of a socket. */
unsigned cpu_topology_core_shift(const struct cpu_topology *topology);
unsigned cpu_topology_socket_shift(const struct cpu_topology *topology);
struct cpu_place cpu_topology_place(const struct cpu_topology *topology, unsigned vcpu);

#endif
