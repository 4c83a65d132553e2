/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gives shares of devices out, private to mdev/types: one table each, and lists that they fill.
 *
 *   types.c    the public calls over all of them; lists, JSON, UUIDs
 *   vgpu.c     our own vGPUs: a folder each under ROOT/run/divvy/vgpu
 *   kernel.c   mediated devices of the kernel: mdev_supported_types
 *   sriov.c    virtual functions: sriov_numvfs
 */
#ifndef MDEV_TYPES_H
#define MDEV_TYPES_H

#include "mdev/mdev.h"

struct mdev_provider {
	const char *name;
	int (*types)(const struct mdev_host *host, struct mdev_types *types, struct error *e);
	int (*instances)(const struct mdev_host *host, struct mdev_instances *instances,
			 struct error *e);
	/* @type: one of types() with something available; @uuid: good and free, "" where asked for a count. */
	int (*create)(const struct mdev_host *host, const struct mdev_type *type, const char *uuid,
		      unsigned count, struct mdev_instance *out, struct error *e);
	/* -ENOENT without *e: not one of ours. */
	int (*remove)(const struct mdev_host *host, const char *id, struct error *e);
	bool counted; /* created by count, not by UUID */
};

extern const struct mdev_provider mdev_provider_vgpu, mdev_provider_kernel, mdev_provider_sriov;

/* mdev_type_add(), mdev_instance_add() - one more at the end, zeroed; NULL with *e filled when that fails. */
struct mdev_type *mdev_type_add(struct mdev_types *types, const struct mdev_provider *provider,
				struct error *e);
struct mdev_instance *mdev_instance_add(struct mdev_instances *instances,
					const struct mdev_provider *provider, struct error *e);

/* mdev_sysfs_read() - a line of a file below ROOT; "" when it is not there. */
void mdev_sysfs_read(const struct mdev_host *host, const char *path, char *text, size_t size);
/* mdev_sysfs_write() - what the kernel refuses is "sysfs-refused", with the file and its reason. */
int mdev_sysfs_write(const struct mdev_host *host, const char *path, const char *text,
		     struct error *e);
/*
 * mdev_each() - call @found for the entries of a folder below ROOT, in order of name; one that is not there has
 * none. Stops at the first that returns not 0. Returns that, or -errno with *e filled.
 */
int mdev_each(const struct mdev_host *host, const char *path,
	      int (*found)(void *opaque, const char *name, struct error *e), void *opaque,
	      struct error *e);

#endif
