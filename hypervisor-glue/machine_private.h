/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's two lifetimes. `struct machine` is what a reset of the guest leaves alone:
 * memory, its DMA maps, opened devices, the terminal. A session is one life of the guest, from
 * its first instruction to power-off or reset: the KVM VM, the PCI host, the platform.
 */
#ifndef GLUE_MACHINE_PRIVATE_H
#define GLUE_MACHINE_PRIVATE_H

#include "hypervisor-glue/boot.h"
#include "hypervisor-glue/console.h"
#include "hypervisor-glue/console_socket.h"
#include "hypervisor-glue/device_memory.h"
#include "hypervisor-glue/hypervisor-glue.h"
#include "hypervisor-glue/memory_plan.h"
#include "hypervisor-glue/pci.h"
#include "hypervisor-glue/vm.h"
#include "vfio/vfio.h"

#define MACHINE_SOFTWARE_MAX                                                            \
	(MACHINE_DISKS_MAX + MACHINE_NETS_MAX + MACHINE_USERS_MAX + MACHINE_PORTS_MAX + \
	 3) /* console, rng, vsock */
#define MACHINE_RANGES_MAX 32

/* A device that no IOMMU stands in front of: ours, or that of a vfio-user server. */
struct machine_software {
	struct vfio_device *device;
	bool behind_root_port;
	struct device_memory memory;
};

/* A kernel device behind the IOMMU, and what was asked for. */
struct machine_assigned {
	struct vfio_device *device;
	struct vfio_rom *rom; /* NULL: the guest sees none */
	struct machine_device wanted;
};

struct machine {
	const struct machine_config *config;
	int kvm_fd;
	struct boot_source boot;
	struct boot_files boot_files;
	struct memory_plan plan; /* where its RAM is */
	struct acpi_numa numa;	 /* what the guest is told of its nodes */
	struct guest_memory *memory;
	struct memory_population *population; /* going on; NULL: there is none */
	struct iommu_space *space;	      /* NULL: no device is assigned */
	bool following;			      /* @space maps @memory */
	bool devices_fresh;		      /* reset, and no guest has had them since */
	struct iommu_range ranges[MACHINE_RANGES_MAX];
	unsigned range_count;
	unsigned device_count, software_count;
	struct machine_assigned devices[MACHINE_DEVICES_MAX];
	struct machine_software *software[MACHINE_SOFTWARE_MAX];
	int serial_fd;		 /* -1: no serial port */
	bool serial_owned;	 /* a file of ours */
	int console_pipe[2];	 /* to the virtio console: read end, write end */
	struct console *console; /* the terminal; NULL: the guest has none */
	struct console_socket
		*console_socket;	/* instead of standard input and output; NULL: none */
	struct control_socket *control; /* NULL: none */
	struct cpu_list *affinity;	/* of each vCPU; NULL: any CPU */
	unsigned port_count;		/* root ports of the first life, spare ones and all */
	uint64_t start_ns;		/* CLOCK_MONOTONIC */
	unsigned long resets;		/* of the guest */
};

/* What ended a session. */
struct session_end {
	enum vm_exit why;
	bool device_failed; /* an assigned device reported an error */
	char reason[256];
};

/*
 * session_run() - build a VM around @machine, run it to its end, take it down.
 * Returns 0 with @end filled, or -errno when it could not be started.
 */
int session_run(struct machine *machine, struct session_end *end, struct error *e);

/* machine_space_open() - the address space of assigned devices, of the kind that was asked for. */
int machine_space_open(struct machine *machine, struct error *e);
/*
 * machine_ranges_load() - what the devices in the address space can address; guest RAM must be within.
 * Errors: "memory-reserved".
 */
int machine_ranges_load(struct machine *machine, struct error *e);
/*
 * machine_software_add() - keep @device and tell it of guest memory. @device is taken over, on failure too.
 * machine_software_remove() - give the index-th back.
 */
int machine_software_add(struct machine *machine, struct vfio_device *device, bool behind_root_port,
			 struct error *e);
void machine_software_remove(struct machine *machine, unsigned index);
/*
 * machine_assigned_remove() - give the index-th back: the address space goes with its last device.
 */
void machine_assigned_remove(struct machine *machine, unsigned index);

/*
 * machine_assigned_open() - open the device that @wanted describes in the machine's address space, and
 * read its ROM. On failure nothing is left open.
 */
int machine_assigned_open(struct machine *machine, const struct machine_device *wanted,
			  struct machine_assigned *out, struct error *e);
void machine_assigned_close(struct machine_assigned *assigned);
/*
 * machine_devices_open() - the address space and all assigned devices in it, reset, with guest memory mapped
 * for them. What it got before a failure is the machine's to release.
 */
int machine_devices_open(struct machine *machine, struct error *e);
/* machine_devices_reset() - all assigned devices, while no guest runs. */
int machine_devices_reset(struct machine *machine, struct error *e);
/* machine_device_options() - how the function of @assigned is shown to the guest. */
struct vfio_pci_options machine_device_options(const struct machine *machine,
					       const struct machine_assigned *assigned);

/*
 * machine_reserved() - the addresses that RAM should leave out, as sysfs tells of the devices' groups.
 * @root: prefix of /sys; @amd: the host keeps the HyperTransport range
 * Returns how many, up to @max.
 */
unsigned machine_reserved(const struct machine_config *config, const char *root, bool amd,
			  struct iommu_range *ranges, unsigned max);
/* machine_memory_create() - plan, nodes and banks, and the population of these begun when it is wanted. */
int machine_memory_create(struct machine *machine, struct error *e);
/* machine_memory_ready() - wait for the population; @give_up: end it. */
int machine_memory_ready(struct machine *machine, bool give_up, struct error *e);
/* machine_memory_check() - RAM where the IOMMU cannot map would be RAM that a device cannot reach. */
int machine_memory_check(const struct machine *machine, struct error *e);
/*
 * machine_numa() - the guest's nodes for ACPI; distances are the host's, where both are bound to it.
 * @root: prefix of /sys
 */
void machine_numa(const struct machine_config *config, const struct memory_plan *plan,
		  const char *root, struct acpi_numa *numa);

/*
 * machine_cpus_affinity() - where each vCPU may run, by pins and host nodes.
 * @root: prefix of /sys
 * @allowed: what this process may use
 * @out: config->cpus sets, the caller's; NULL when nothing is bound
 * Errors: "cpu-not-allowed", "no-host-node".
 */
int machine_cpus_affinity(const struct machine_config *config, const char *root,
			  const struct cpu_list *allowed, struct cpu_list **out, struct error *e);
int machine_cpus_acquire(struct machine *machine, struct error *e);
const struct cpu_list *machine_affinity(const struct machine *machine, unsigned vcpu);

/* machine_phase() - log what a phase took since @since, and start the next. */
void machine_phase(uint64_t *since, const char *phase);

#endif
