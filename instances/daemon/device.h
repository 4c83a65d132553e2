/* SPDX-License-Identifier: Apache-2.0 */
/* What device.c and device_release.c share: what is to be done with an instance's devices, and what sysfs says of a function. */
#ifndef INSTANCES_DAEMON_DEVICE_H
#define INSTANCES_DAEMON_DEVICE_H

#include "instances/daemon/private.h"

struct device_work {
	struct daemon *daemon;
	bool guest_had, had_this_boot;
	uint64_t memory_bytes;
	unsigned part_count;
	struct {
		bool unbind, judged; /* @judged: its reset is in the lease, with so many resets */
		unsigned resets;
		char before[48];
		struct launch_gpu gpu; /* its functions, or its UUID */
		char mdev_parent[PCI_ADDRESS_LEN], mdev_type[NODE_MDEV_SIZE];
	} parts[LAUNCH_GPUS_MAX];
};

/* device_work_make() - of the instance's dedicated parts, in order; *out is the caller's to free(). */
int device_work_make(struct instance *instance, struct device_work **out, struct error *e);
void device_sysfs(const struct daemon *daemon, const struct pci_address *address, const char *leaf,
		  char path[4200]);
bool device_there(const struct daemon *daemon, const struct pci_address *address);
/* "": none */
void device_driver(const struct daemon *daemon, const struct pci_address *address, char driver[64]);
/* "16.0 GT/s PCIe x16"; "" where it has no link */
void device_link(const struct daemon *daemon, const struct pci_address *address, char *text,
		 size_t size);

#endif
