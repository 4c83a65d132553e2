/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who uses a PCI function right now. Private to vfio/.
 *
 * Unbinding a driver whose device is in use can block forever in the kernel, so this is asked
 * before. What counts: an open file of any of the function's device nodes, a mounted or swapped-on
 * or stacked block device, a network interface that is up.
 */
#ifndef VFIO_HOLDERS_H
#define VFIO_HOLDERS_H

#include "vfio/sysfs.h"

#define VFIO_HOLDERS_MAX 16

struct vfio_holder {
	struct pci_address address; /* the function that is held */
	int pid;		    /* 0: not a process */
	char what[192];		    /* "process 812 (Xorg) has /dev/dri/card0 open" */
	char next[128];		    /* "stop process 812" */
};

struct vfio_holders {
	unsigned count;	     /* kept in items */
	unsigned unreadable; /* processes whose files this user may not see */
	struct vfio_holder items[VFIO_HOLDERS_MAX];
};

/*
 * vfio_holders_find() - who uses any of @count functions.
 * @root: prefix of /sys, /proc, /dev
 * @group: isolation group whose VFIO group node counts too; NULL: it does not
 *
 * What cannot be read counts as not held, except in @unreadable. Returns 0 or -ENOMEM.
 */
int vfio_holders_find(const char *root, const struct pci_address *addresses, unsigned count,
		      const unsigned *group, struct vfio_holders *holders);

/*
 * vfio_holders_refuse() - error "device-in-use" (-EBUSY) that names the first holder and says how
 * many more there are. Returns 0 when there is none.
 */
int vfio_holders_refuse(const struct vfio_holders *holders, struct error *e);

#endif
