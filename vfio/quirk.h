/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What single kinds of device need besides, each in a file of its own (quirk_NAME.c) behind three
 * functions; the rest of vfio/ never tests a device id. A new one is a file, a line here and a line
 * in quirk.c.
 */
#ifndef VFIO_QUIRK_H
#define VFIO_QUIRK_H

#include "vfio/pci_internal.h"

struct vfio_quirk {
	const char *name; /* for the log */
	/*
	 * Whether @pci (its snapshot and BARs are known) needs it: 1, 0,
	 * or -errno with *e filled where an option asks for what this function cannot have.
	 */
	int (*probe)(const struct vfio_pci *pci, const struct vfio_pci_options *options,
		     struct error *e);
	/* Config space and BARs are virtualised, the guest does not run yet. 0 or -errno with *e. */
	int (*init)(struct vfio_pci *pci, const struct vfio_pci_options *options, struct error *e);
	/* Before anything else of the function goes; NULL: nothing to take down. */
	void (*deinit)(struct vfio_pci *pci);
};

extern const struct vfio_quirk vfio_quirk_nvidia_p2p;

/* pci_quirks_init() - whatever of the table @pci needs. 0, or the first refusal. */
int pci_quirks_init(struct vfio_pci *pci, const struct vfio_pci_options *options, struct error *e);
void pci_quirks_fini(struct vfio_pci *pci);

#endif
