/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this folder reads of a PCI function in sysfs. Private to vfio/.
 *
 * Every path starts at @root ("" for the real machine, a folder in tests) and lies in @path of
 * VFIO_PATH_MAX bytes; one that does not fit becomes the empty path, which no open accepts.
 */
#ifndef VFIO_SYSFS_H
#define VFIO_SYSFS_H

#include "base/base.h"

#define VFIO_PATH_MAX	512
#define VFIO_DRIVER_LEN 64

/* vfio_sysfs_path() - ROOT followed by what @fmt makes. Returns @path. */
const char *vfio_sysfs_path(char path[VFIO_PATH_MAX], const char *root, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* vfio_sysfs_pci() - ROOT/sys/bus/pci/devices/BDF/LEAF. Returns @path. */
const char *vfio_sysfs_pci(char path[VFIO_PATH_MAX], const char *root,
			   const struct pci_address *address, const char *leaf);

/* vfio_sysfs_mdev() - ROOT/sys/bus/mdev/devices/UUID/LEAF. Returns @path. */
const char *vfio_sysfs_mdev(char path[VFIO_PATH_MAX], const char *root, const char *uuid,
			    const char *leaf);

/*
 * vfio_sysfs_exists() - whether the function is there; error "no-such-device" where it is not.
 * Returns 0 or -ENOENT.
 */
int vfio_sysfs_exists(const char *root, const struct pci_address *address, struct error *e);

/*
 * vfio_sysfs_link_name() - last component of what the link @leaf of the function points to (a
 * driver's name, a group's number). "" when there is no such link or it does not fit.
 * Returns 0 or -errno.
 */
int vfio_sysfs_link_name(const char *root, const struct pci_address *address, const char *leaf,
			 char *name, size_t size);

/* vfio_sysfs_link_at() - the same of the link @path. */
int vfio_sysfs_link_at(const char *path, char *name, size_t size);

/* vfio_sysfs_driver_is_vfio() - vfio-pci or a variant of it (nvgrace-gpu-vfio-pci, mlx5_vfio_pci). */
bool vfio_sysfs_driver_is_vfio(const char *driver);

/* vfio_sysfs_is_bridge() - class 0604, PCI-to-PCI bridge. */
bool vfio_sysfs_is_bridge(const char *root, const struct pci_address *address);

/* vfio_sysfs_cdev() - "vfioN", the only entry of a device's folder "vfio-dev", which is @path. Returns 0 or -errno. */
int vfio_sysfs_cdev(const char *path, char *name, size_t size);

#endif
