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

/* pci_host_reset() - all functions and ports to power-on state (guest reboot). */
int pci_host_reset(struct pci_host *host, struct error *e);

/* For ACPI: where the windows ended up, and how INTx pins are routed. */
struct pci_window pci_host_window32(const struct pci_host *host);
struct pci_window pci_host_window64(const struct pci_host *host); /* size 0: none */
unsigned pci_host_last_bus(const struct pci_host *host);

/* The functions in order, for the event loop (error and request fds) and for logs. */
unsigned pci_host_function_count(const struct pci_host *host);
struct vfio_pci *pci_host_function(const struct pci_host *host, unsigned index);
const char *pci_host_function_name(const struct pci_host *host, unsigned index);

/* ---- ACPI -------------------------------------------------------------------------------- */

struct acpi_input {
	struct cpu_topology topology;
	struct pci_window window32, window64;
	unsigned last_bus;
};
/*
 * acpi_build() - RSDP, XSDT, FADT, FACS, MADT, MCFG, DSDT (ACPI 6.5) into @buffer, which the guest
 * sees at @gpa.
 * Returns the length, or -ENOSPC. The RSDP is at the start. Pure: no I/O, testable with iasl.
 */
ssize_t acpi_build(const struct acpi_input *input, void *buffer, size_t size, uint64_t gpa);

#endif
