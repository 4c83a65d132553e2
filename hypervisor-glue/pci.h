/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci: the guest's PCI Express: host bridge with ECAM and ports 0xcf8/0xcfc, root ports, windows in
 * which BARs are placed, and the one path that turns a `struct vfio_device` into a function.
 *
 *   bus 0:  00.0 host bridge | software devices (virtio) as integrated endpoints | root ports
 *   bus 1..: one assigned slot behind each root port
 */
#ifndef GLUE_PCI_H
#define GLUE_PCI_H

#include "hypervisor-glue/memory_plan.h"
#include "hypervisor-glue/topology.h"
#include "hypervisor-glue/vm.h"
#include "vfio/vfio.h"

struct pci_host;

struct pci_window {
	uint64_t start, size;
};

/*
 * pci_host_create() - registers ECAM and the configuration ports 0xcf8-0xcff with @vm; the reset
 * port 0xcf9 lies among them and is answered here (vm_request_exit(VM_EXIT_RESET)).
 * @memory: banks are where they are: the 64-bit window lies above them
 * @iova: ranges that assigned devices can address (may be NULL, 0): windows are clipped to them
 */
int pci_host_create(struct vm *vm, struct guest_memory *memory, const struct iommu_range *iova,
		    unsigned iova_count, struct pci_host **out, struct error *e);
void pci_host_destroy(struct pci_host *host);
/*
 * pci_host_share_bars() - BARs of kernel devices added from now on are banks of guest memory while they
 * decode, so that address spaces that follow it map them (peer-to-peer DMA).
 */
void pci_host_share_bars(struct pci_host *host);

/*
 * pci_host_add() - make @device a function of the guest. @behind_root_port: behind a port of its
 * own (assigned devices), else on bus 0. Before pci_host_place().
 * Borrowed: the device must outlive the host.
 */
int pci_host_add(struct pci_host *host, struct vfio_device *device, bool behind_root_port,
		 const struct vfio_pci_options *options, struct error *e);

/*
 * pci_host_place() - number the buses, size the windows from the devices, give every BAR its address
 * (largest first, naturally aligned, congruent modulo 1 GiB for large ones), program the root ports.
 * -ENOSPC ("bar-window-full") says what was needed and what there is.
 */
int pci_host_place(struct pci_host *host, struct error *e);

/* ---- hot-plug: the thread that made the host ----------------------------------------------- */

/*
 * pci_host_hotplug() - there will be @ports root ports, those of devices that are added counted in, and
 * all of them take devices while the guest runs (PCIe native hot-plug). Before pci_host_place().
 * @window64: size of each port's 64-bit window, a multiple of 1 MiB
 */
int pci_host_hotplug(struct pci_host *host, unsigned ports, uint64_t window64, struct error *e);
/*
 * pci_host_plug() - put @device (borrowed) into an empty slot and tell the guest. vCPUs may run.
 * Returns 0, -ENOSPC ("no-free-port", "bar-window-full"), or what pci_host_add() returns.
 */
int pci_host_plug(struct pci_host *host, struct vfio_device *device,
		  const struct vfio_pci_options *options, struct vfio_pci **out, struct error *e);
/*
 * pci_host_unplug_ask() - press the button of @device's slot: the guest is to give it up. What sits in
 * the slot with it goes with it (pci_host_same_slot()). Once pci_host_unplug_ready(), which
 * pci_host_hotplug_fd() announces, pci_host_unplug() takes it away.
 * Returns 0, or -EBUSY ("not-removable": it sits in no hot-plug slot).
 */
int pci_host_unplug_ask(struct pci_host *host, const struct vfio_device *device, struct error *e);
bool pci_host_unplug_ready(struct pci_host *host, const struct vfio_device *device);
/* pci_host_unplug_forget() - it stays: a guest that gives the slot up later only switches it off. */
void pci_host_unplug_forget(struct pci_host *host, const struct vfio_device *device);
/* pci_host_hotplug_fd() - an eventfd (borrowed), readable when a guest gave a slot up; -1: none. */
int pci_host_hotplug_fd(const struct pci_host *host);
/*
 * pci_host_unplug() - empty the slot of @device, given up or not; vCPUs may run. The functions are gone
 * on return, the devices may be closed. Waits for accesses under way. Returns 0 or -EBUSY.
 */
int pci_host_unplug(struct pci_host *host, const struct vfio_device *device, struct error *e);
bool pci_host_same_slot(const struct pci_host *host, const struct vfio_device *a,
			const struct vfio_device *b);
/* pci_host_ports() - how many root ports there are, and how many hot-plug slots are empty. */
unsigned pci_host_ports(const struct pci_host *host, unsigned *empty);
/* pci_host_removable() - whether it sits in a hot-plug slot. */
bool pci_host_removable(const struct pci_host *host, const struct vfio_device *device);
/* pci_host_address() - where the guest finds @device; false when it has no such place. */
bool pci_host_address(const struct pci_host *host, const struct vfio_device *device,
		      struct pci_address *address);

/* pci_host_reset() - all functions and ports to power-on state (guest reboot). */
int pci_host_reset(struct pci_host *host, struct error *e);

/* For ACPI: where the windows ended up, and how INTx pins are routed. */
struct pci_window pci_host_window32(const struct pci_host *host);
struct pci_window pci_host_window64(const struct pci_host *host); /* size 0: none */
unsigned pci_host_last_bus(const struct pci_host *host);

/*
 * The functions in order, for the event loop (error and request fds) and for logs; NULL where one was
 * taken away.
 */
unsigned pci_host_function_count(const struct pci_host *host);
struct vfio_pci *pci_host_function(const struct pci_host *host, unsigned index);
const char *pci_host_function_name(const struct pci_host *host, unsigned index);
/* pci_host_traps() - how many accesses to its BARs left the guest so far. */
uint64_t pci_host_traps(const struct pci_host *host, unsigned index);

/* ---- ACPI -------------------------------------------------------------------------------- */

struct acpi_numa {
	unsigned nodes;
	uint8_t node_of_vcpu[TOPOLOGY_APIC_ID_MAX + 1];
	const struct memory_plan *memory;
	uint8_t distances[16][16]; /* 10: to itself */
};

struct acpi_input {
	struct cpu_topology topology;
	const struct acpi_numa *numa; /* NULL: one node, and no table says so */
	struct pci_window window32, window64;
	unsigned last_bus;
	bool hotplug; /* root ports take devices while the guest runs */
};
/*
 * acpi_build() - RSDP, XSDT, FADT, FACS, MADT, MCFG, SRAT, SLIT, DSDT (ACPI 6.5) into @buffer, which the guest
 * sees at @gpa.
 * Returns the length, or -ENOSPC. The RSDP is at the start. Pure: no I/O, testable with iasl.
 */
ssize_t acpi_build(const struct acpi_input *input, void *buffer, size_t size, uint64_t gpa);

#endif
