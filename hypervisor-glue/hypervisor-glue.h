/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor-glue: the VMM. The only room that knows KVM, and the one place where iommu, vfio and
 * mdev meet. Its public face is small: a description of a machine, and running it.
 */
#ifndef GLUE_HYPERVISOR_GLUE_H
#define GLUE_HYPERVISOR_GLUE_H

#include "base/base.h"
#include "base/sandbox.h"
#include "hypervisor-glue/topology.h"
#include "iommu/iommu.h"

#define MACHINE_DISKS_MAX   16
#define MACHINE_NETS_MAX    8
#define MACHINE_DEVICES_MAX 16
#define MACHINE_USERS_MAX   16
#define MACHINE_REACH_MAX   8
#define MACHINE_NODES_MAX   16
#define MACHINE_PORTS_MAX   8 /* for devices that come later */
#define MACHINE_CPUS_MAX    (TOPOLOGY_APIC_ID_MAX + 1)

struct machine_disk {
	char path[4096];
	bool readonly;
};

struct machine_net {
	char tap[16]; /* "" = user mode */
	uint8_t mac[6];
};

/* A device of the kernel's VFIO to assign, and how: a PCI function, or a mediated device. */
struct machine_device {
	struct pci_address address;
	char mdev[UUID_TEXT_SIZE]; /* its UUID; "": it is the function at @address */
	bool device_rom;	   /* show the device's own expansion ROM */
	char rom_path[4096];	   /* show this file's contents as one; "": no */
	bool in_p2p_clique;
	uint8_t p2p_clique; /* 0-15 */
};

/*
 * machine_device_parse() - "0000:01:00.0[,rom=off|device|PATH][,clique=0..15]" to a device; a mediated device's UUID in the address's place.
 * machine_device_name() - its address in full, or its UUID, as its struct vfio_device is called; in @text, or in @device.
 * @folder: relative paths are seen from it; "": from the current one
 * Returns 0 or -EINVAL ("bad-value").
 */
int machine_device_parse(const char *text, const char *folder, struct machine_device *device,
			 struct error *e);
const char *machine_device_name(const struct machine_device *device, char text[PCI_ADDRESS_LEN]);

/* A NUMA node of the guest. */
struct machine_node {
	struct cpu_list cpus; /* vCPUs */
	uint64_t memory;      /* bytes */
	int host_node;	      /* where its memory comes from and its vCPUs run; -1: anywhere */
};

/* A VM, as its command line or file describes it (docs/divvy-vmm.md lists the words). */
struct machine_config {
	char name[64];
	char kernel[4096], initrd[4096], cmdline[4096];
	unsigned cpus;
	struct cpu_topology topology; /* sockets 0: not said; machine_topology() */
	int pins[MACHINE_CPUS_MAX];   /* the host CPU of a vCPU; -1: any */
	uint64_t memory;	      /* bytes */
	uint64_t huge_page;	      /* 0: whatever the host's page cache has */
	bool populate;
	bool cpus_said, memory_said; /* by a word of their own */
	unsigned node_count;	     /* 0: one node, of everything */
	struct machine_node nodes[MACHINE_NODES_MAX];
	unsigned disk_count, net_count, device_count, user_count;
	struct machine_disk disks[MACHINE_DISKS_MAX];
	struct machine_net nets[MACHINE_NETS_MAX];
	struct machine_device devices[MACHINE_DEVICES_MAX];
	char users[MACHINE_USERS_MAX][108]; /* sockets of vfio-user servers; sockaddr_un's room */
	enum iommu_kind iommu;
	bool intx;		 /* offer INTx of assigned devices */
	bool p2p;		 /* assigned devices reach each other's BARs */
	bool rng;		 /* virtio-rng, on by default */
	uint32_t vsock_cid;	 /* 0: no vsock */
	bool virtio_console;	 /* the terminal is hvc0 instead of ttyS0 */
	char serial[4096];	 /* "stdio", "none", "file:PATH" or "socket:PATH" */
	bool no_reboot;		 /* a guest's reset ends the VM */
	char control[108];	 /* the control socket's path; "": none. sockaddr_un's room */
	int hotplug_ports;	 /* root ports for devices that come later; -1: not said */
	uint64_t hotplug_window; /* size of each one's 64-bit window */
	unsigned hotplug_path_count;
	char hotplug_paths[MACHINE_REACH_MAX][4096]; /* disks, or folders of them, to come later */
	bool sandbox;		  /* the process is confined before the guest runs; on by default */
	struct sandbox_user jail; /* another user, in an empty root */
	enum log_level log_level;
};

/* machine_config_init() - defaults: 1 vCPU, 512 MiB, serial on stdio, rng on, warnings logged. */
void machine_config_init(struct machine_config *config);
/*
 * machine_config_set() - one word and its value ("memory", "2G"), from the command line or a file.
 * @value: NULL or "" for a flag means yes; else yes or no
 * Errors: "unknown-key" (names the nearest known one), "bad-value".
 */
int machine_config_set(struct machine_config *config, const char *key, const char *value,
		       struct error *e);
/*
 * machine_config_file() - "word value" a line, '#' comments; relative paths are seen from the
 * file's folder. Errors: those of machine_config_set(), with file and line, and
 * "config-unreadable".
 */
int machine_config_file(struct machine_config *config, const char *path, struct error *e);

/* What the command line asks for. */
enum machine_action {
	MACHINE_RUN,
	MACHINE_CHECK,
	MACHINE_HELP,
	MACHINE_VERSION
};
/*
 * machine_config_args() - the command line, words in order, a --config file where it stands (later
 * words win; lists grow). Words that leave something open are completed by others (cpus by topology or
 * numa, memory by numa). Uses getopt_long(3): one thread.
 * Errors: those of the words, and "bad-value" when they contradict each other.
 */
int machine_config_args(struct machine_config *config, int argc, char **argv,
			enum machine_action *action, struct error *e);
/*
 * machine_config_validate() - what a machine needs is there: a kernel is named; kernel, initrd, disks
 * and ROM files can be read, sockets of vfio-user servers are there. Keeps nothing open and touches no device.
 * Errors: "no-kernel", "kernel-missing", "initrd-missing", "disk-missing", "rom-missing",
 * "no-vfio-user-socket", "bad-value".
 */
int machine_config_validate(const struct machine_config *config, struct error *e);
/* machine_hotplug_ports() - as said, or else a few when there is a socket to use them by. */
unsigned machine_hotplug_ports(const struct machine_config *config);
/* machine_topology() - as said, or else sockets of one-thread cores, one a node where they match. */
struct cpu_topology machine_topology(const struct machine_config *config);
/* machine_node_of() - the guest node of a vCPU; 0 without nodes. */
unsigned machine_node_of(const struct machine_config *config, unsigned vcpu);
/* machine_config_usage() - the words and what they mean, on standard output. */
void machine_config_usage(void);

/*
 * machine_run() - build the machine, run it until the guest powers off (a guest's reset builds it
 * again, with memory, DMA maps and devices kept), release everything. Blocking; SIGINT and SIGTERM
 * end it.
 * SIGUSR1 presses the power button.
 * Returns 0 when the guest powered off or the host asked, or -errno. The guest's terminal is as it
 * was in any case. With config->sandbox the process stays confined afterwards: it can end, and little
 * else (docs/sandbox.md).
 */
int machine_run(const struct machine_config *config, struct error *e);

#endif
