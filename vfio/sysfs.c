// SPDX-License-Identifier: Apache-2.0
/* What this folder reads of a PCI function in sysfs; the paths are in one place, here. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vfio/sysfs.h"

const char *vfio_sysfs_path(char path[VFIO_PATH_MAX], const char *root, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	path_below(path, VFIO_PATH_MAX, root, fmt, ap);
	va_end(ap);
	return path;
}

const char *vfio_sysfs_pci(char path[VFIO_PATH_MAX], const char *root,
			   const struct pci_address *address, const char *leaf)
{
	char bdf[PCI_ADDRESS_LEN];

	return vfio_sysfs_path(path, root, "/sys/bus/pci/devices/%s%s%s",
			       pci_address_format(address, bdf), leaf[0] ? "/" : "", leaf);
}

const char *vfio_sysfs_mdev(char path[VFIO_PATH_MAX], const char *root, const char *uuid,
			    const char *leaf)
{
	return vfio_sysfs_path(path, root, "/sys/bus/mdev/devices/%s%s%s", uuid, leaf[0] ? "/" : "",
			       leaf);
}

int vfio_sysfs_exists(const char *root, const struct pci_address *address, struct error *e)
{
	char path[VFIO_PATH_MAX], bdf[PCI_ADDRESS_LEN];

	if (access(vfio_sysfs_pci(path, root, address, ""), F_OK) == 0)
		return 0;
	return error_set(e, ENOENT, "no-such-device", "divvy list devices",
			 "there is no PCI function %s (%s: %s)", pci_address_format(address, bdf),
			 path, strerror(errno));
}

int vfio_sysfs_link_name(const char *root, const struct pci_address *address, const char *leaf,
			 char *name, size_t size)
{
	char path[VFIO_PATH_MAX];

	return vfio_sysfs_link_at(vfio_sysfs_pci(path, root, address, leaf), name, size);
}

int vfio_sysfs_link_at(const char *path, char *name, size_t size)
{
	char target[VFIO_PATH_MAX];
	const char *base;
	ssize_t n;

	name[0] = '\0';
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	base = strrchr(target, '/');
	base = base ? base + 1 : target;
	if (!base[0] || strlen(base) >= size)
		return -ENAMETOOLONG;
	snprintf(name, size, "%s", base);
	return 0;
}

bool vfio_sysfs_driver_is_vfio(const char *driver)
{
	return strstr(driver, "vfio") != NULL;
}

bool vfio_sysfs_is_bridge(const char *root, const struct pci_address *address)
{
	char path[VFIO_PATH_MAX];
	uint64_t class_code;

	return file_read_u64(-1, vfio_sysfs_pci(path, root, address, "class"), &class_code) == 0 &&
	       class_code >> 8 == 0x0604;
}

int vfio_sysfs_cdev(const char *path, char *name, size_t size)
{
	struct dirent *entry;
	int err = -ENOENT;
	DIR *dir;

	dir = opendir(path);
	if (!dir)
		return -errno;
	while (err == -ENOENT && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "vfio", 4) != 0 || strlen(entry->d_name) >= size)
			continue;
		snprintf(name, size, "%s", entry->d_name);
		err = 0;
	}
	closedir(dir);
	return err;
}
