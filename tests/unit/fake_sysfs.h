/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A made-up /sys, /proc and /dev in a temporary folder, for tests of what reads them.
 *
 * The shape is the kernel's: /sys/bus/pci/devices/BDF is a link into /sys/devices/pciDDDD:BB/...,
 * bridges are the parent folders of what is behind them, iommu_group and driver are links, and a
 * group's devices folder links back. A test gives the folder (fs.root) where the code under test
 * takes a root. Everything is gone after fake_sysfs_destroy(). A helper that fails ends the test
 * program, since nothing after it would mean anything.
 *
 *	struct fake_sysfs fs;
 *	uint8_t port[4096];
 *
 *	fake_sysfs_create(&fs);
 *	fake_config_bridge(port, 0x8086, 0x1234);
 *	fake_config_add_acs(port, 0x100, 0x1f, 0x1d);
 *	fake_sysfs_add_pci(&fs, &(struct fake_pci){ .bdf = "0000:00:01.0", .class_code = 0x060400,
 *			   .group = 1, .config = port, .config_size = sizeof(port) });
 *	fake_sysfs_add_pci(&fs, &(struct fake_pci){ .bdf = "0000:01:00.0", .class_code = 0x030000,
 *			   .group = 2, .parent = "0000:00:01.0", .driver = "nouveau" });
 *	fake_sysfs_group_type(&fs, 2, "DMA-FQ");
 */
#ifndef TESTS_UNIT_FAKE_SYSFS_H
#define TESTS_UNIT_FAKE_SYSFS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAKE_UNUSED __attribute__((unused))

struct fake_sysfs {
	char root[64]; /* "/tmp/divvy-sysfs-XXXXXX" */
};

/* One function. Strings may be NULL; group -1 (or no IOMMU) means no iommu_group link. */
struct fake_pci {
	const char *bdf;
	uint16_t vendor, device; /* 0: 0x1234, 0x11e8 */
	uint32_t class_code;	 /* 24 bits */
	const char *driver;	 /* NULL: not bound */
	int group;
	const char *parent; /* bridge it is behind, added before; NULL: on the root bus */
	const void *config; /* bytes of the config file; NULL: 64 bytes made from the above */
	size_t config_size;
};

static FAKE_UNUSED void fake_die(const char *what, const char *path)
{
	fprintf(stderr, "fake_sysfs: %s %s: %s\n", what, path, strerror(errno));
	exit(99);
}

static FAKE_UNUSED void fake_path(const struct fake_sysfs *fs, char out[PATH_MAX], const char *path)
{
	if (snprintf(out, PATH_MAX, "%s/%s", fs->root, path[0] == '/' ? path + 1 : path) >=
	    PATH_MAX) {
		errno = ENAMETOOLONG;
		fake_die("path", path);
	}
}

/* Every folder on the way to the last component of @path (a full path). */
static FAKE_UNUSED void fake_make_parents(const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = copy + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(copy, 0755) && errno != EEXIST)
			fake_die("mkdir", copy);
		*p = '/';
	}
}

static FAKE_UNUSED void fake_sysfs_folder(const struct fake_sysfs *fs, const char *path)
{
	char full[PATH_MAX];

	fake_path(fs, full, path);
	fake_make_parents(full);
	if (mkdir(full, 0755) && errno != EEXIST)
		fake_die("mkdir", full);
}

/* A file of any bytes, its folders made; one that is there is replaced. */
static FAKE_UNUSED void fake_sysfs_write_bytes(const struct fake_sysfs *fs, const char *path,
					       const void *bytes, size_t size)
{
	char full[PATH_MAX];
	int fd;

	fake_path(fs, full, path);
	fake_make_parents(full);
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
		fake_die("write", full);
	close(fd);
}

static FAKE_UNUSED __attribute__((format(printf, 3, 4))) void
fake_sysfs_write(const struct fake_sysfs *fs, const char *path, const char *fmt, ...)
{
	char text[16384];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)sizeof(text)) {
		errno = EFBIG;
		fake_die("text", path);
	}
	fake_sysfs_write_bytes(fs, path, text, (size_t)n);
}

/* What a file holds now, without its trailing newline; "" when it is not there. */
static FAKE_UNUSED const char *fake_sysfs_read(const struct fake_sysfs *fs, const char *path,
					       char *buf, size_t size)
{
	char full[PATH_MAX];
	ssize_t n = -1;
	int fd;

	fake_path(fs, full, path);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, buf, size - 1);
		close(fd);
	}
	buf[n < 0 ? 0 : n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

/* A link at @path to @target, both from the fake root; written relative, as the kernel does. */
static FAKE_UNUSED void fake_sysfs_link(const struct fake_sysfs *fs, const char *path,
					const char *target)
{
	char full[PATH_MAX], relative[PATH_MAX] = "";
	size_t len = 0;

	fake_path(fs, full, path);
	fake_make_parents(full);
	for (const char *p = path[0] == '/' ? path + 1 : path; (p = strchr(p, '/')); p++)
		len += (size_t)snprintf(relative + len, sizeof(relative) - len, "../");
	snprintf(relative + len, sizeof(relative) - len, "%s",
		 target[0] == '/' ? target + 1 : target);
	unlink(full);
	if (symlink(relative, full))
		fake_die("symlink", full);
}

static FAKE_UNUSED void fake_sysfs_remove(const struct fake_sysfs *fs, const char *path)
{
	char full[PATH_MAX];

	fake_path(fs, full, path);
	if (unlink(full) && rmdir(full))
		fake_die("remove", full);
}

static FAKE_UNUSED void fake_sysfs_create(struct fake_sysfs *fs)
{
	snprintf(fs->root, sizeof(fs->root), "/tmp/divvy-sysfs-XXXXXX");
	if (!mkdtemp(fs->root))
		fake_die("mkdtemp", fs->root);
	fake_sysfs_folder(fs, "sys/bus/pci/devices");
	fake_sysfs_folder(fs, "sys/bus/pci/drivers");
	fake_sysfs_write(fs, "sys/bus/pci/drivers_probe", "%s", "");
	fake_sysfs_folder(fs, "sys/kernel/iommu_groups");
	fake_sysfs_folder(fs, "sys/class/iommu");
	fake_sysfs_folder(fs, "sys/module");
	fake_sysfs_write(fs, "proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet\n");
	fake_sysfs_folder(fs, "dev");
}

static FAKE_UNUSED int fake_remove_one(const char *path, const struct stat *st, int kind,
				       struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static FAKE_UNUSED void fake_sysfs_destroy(struct fake_sysfs *fs)
{
	if (fs->root[0])
		nftw(fs->root, fake_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	fs->root[0] = '\0';
}

/* ---- bytes of config space --------------------------------------------------------------- */

static FAKE_UNUSED void fake_put16(uint8_t *config, unsigned offset, unsigned value)
{
	config[offset] = (uint8_t)value;
	config[offset + 1] = (uint8_t)(value >> 8);
}

static FAKE_UNUSED void fake_put32(uint8_t *config, unsigned offset, uint32_t value)
{
	fake_put16(config, offset, value & 0xffff);
	fake_put16(config, offset + 2, value >> 16);
}

/* 4096 bytes of a function of header type 0 with a PCI Express capability at 0x40 (endpoint). */
static FAKE_UNUSED void fake_config_endpoint(uint8_t config[4096], uint16_t vendor, uint16_t device,
					     uint32_t class_code)
{
	memset(config, 0, 4096);
	fake_put16(config, 0x00, vendor);
	fake_put16(config, 0x02, device);
	fake_put16(config, 0x06, 0x10); /* status: capability list */
	config[0x09] = (uint8_t)class_code;
	config[0x0a] = (uint8_t)(class_code >> 8);
	config[0x0b] = (uint8_t)(class_code >> 16);
	config[0x34] = 0x40;
	config[0x40] = 0x10;		/* PCI Express */
	fake_put16(config, 0x42, 0x02); /* version 2, endpoint */
}

/* The same of a root port: header type 1, device/port type 4. */
static FAKE_UNUSED void fake_config_bridge(uint8_t config[4096], uint16_t vendor, uint16_t device)
{
	fake_config_endpoint(config, vendor, device, 0x060400);
	config[0x0e] = 1;
	fake_put16(config, 0x42, 0x42);
}

/*
 * Append an extended capability at @offset (>= 0x100, in ascending order; the first at 0x100): the
 * one before is made to point to it.
 */
static FAKE_UNUSED void fake_config_add_extended(uint8_t config[4096], unsigned offset, unsigned id)
{
	unsigned last = 0x100;

	if (offset > 0x100) {
		unsigned next;

		while ((next = (unsigned)(config[last + 2] >> 4 | config[last + 3] << 4)))
			last = next;
		config[last + 2] = (uint8_t)((config[last + 2] & 0x0f) | (offset & 0xf) << 4);
		config[last + 3] = (uint8_t)(offset >> 4);
	}
	fake_put32(config, offset, id | 1u << 16);
}

/* ACS: capability bits and control bits (PCIe 6.0, 7.7.11; V=1 B=2 R=4 C=8 U=0x10). */
static FAKE_UNUSED void fake_config_add_acs(uint8_t config[4096], unsigned offset,
					    unsigned capability, unsigned control)
{
	fake_config_add_extended(config, offset, 0x0d);
	fake_put16(config, offset + 4, capability);
	fake_put16(config, offset + 6, control);
}

/* ---- devices, drivers, groups ------------------------------------------------------------ */

/* A driver that is loaded: its folder with bind and unbind. */
static FAKE_UNUSED void fake_sysfs_add_driver(const struct fake_sysfs *fs, const char *driver)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "sys/bus/pci/drivers/%s/bind", driver);
	fake_sysfs_write(fs, path, "%s", "");
	snprintf(path, sizeof(path), "sys/bus/pci/drivers/%s/unbind", driver);
	fake_sysfs_write(fs, path, "%s", "");
}

/* The device's own folder, "sys/devices/pci0000:00/.../BDF", by its link. */
static FAKE_UNUSED void fake_sysfs_device_path(const struct fake_sysfs *fs, const char *bdf,
					       char out[PATH_MAX])
{
	char link[PATH_MAX], target[PATH_MAX];
	ssize_t n;

	snprintf(target, sizeof(target), "sys/bus/pci/devices/%s", bdf);
	fake_path(fs, link, target);
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		fake_die("no such device", link);
	target[n] = '\0';
	/* "../../../../sys/devices/..." */
	snprintf(out, PATH_MAX, "%s", strstr(target, "sys/devices/"));
}

/* Write one attribute of a device: fake_sysfs_device_write(&fs, BDF, "reset_method", "flr\n"). */
static FAKE_UNUSED __attribute__((format(printf, 4, 5))) void
fake_sysfs_device_write(const struct fake_sysfs *fs, const char *bdf, const char *attribute,
			const char *fmt, ...)
{
	char folder[PATH_MAX], path[PATH_MAX + 64], text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fake_sysfs_device_path(fs, bdf, folder);
	snprintf(path, sizeof(path), "%s/%s", folder, attribute);
	fake_sysfs_write(fs, path, "%s", text);
}

/* What the kernel does when @driver takes (or, NULL, when nothing has) the device. */
static FAKE_UNUSED void fake_sysfs_set_driver(const struct fake_sysfs *fs, const char *bdf,
					      const char *driver)
{
	char folder[PATH_MAX], path[PATH_MAX + 64], target[PATH_MAX], full[PATH_MAX], old[PATH_MAX];
	ssize_t n;

	fake_sysfs_device_path(fs, bdf, folder);
	snprintf(path, sizeof(path), "%s/driver", folder);
	fake_path(fs, full, path);
	n = readlink(full, old, sizeof(old) - 1);
	if (n > 0) {
		old[n] = '\0';
		unlink(full);
		snprintf(target, sizeof(target), "sys/bus/pci/drivers/%.64s/%s",
			 strrchr(old, '/') + 1, bdf);
		fake_path(fs, full, target);
		unlink(full);
	}
	if (!driver)
		return;
	fake_sysfs_add_driver(fs, driver);
	snprintf(target, sizeof(target), "sys/bus/pci/drivers/%s", driver);
	fake_sysfs_link(fs, path, target);
	snprintf(target, sizeof(target), "sys/bus/pci/drivers/%s/%s", driver, bdf);
	fake_sysfs_link(fs, target, folder);
}

/* sys/kernel/iommu_groups/N exists, with type and no reserved regions unless said otherwise. */
static FAKE_UNUSED void fake_sysfs_group_type(const struct fake_sysfs *fs, int group,
					      const char *type)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%d/type", group);
	fake_sysfs_write(fs, path, "%s\n", type);
}

/* @lines as the kernel writes them: "0x00000000fee00000 0x00000000feefffff msi\n". */
static FAKE_UNUSED void fake_sysfs_group_reserved(const struct fake_sysfs *fs, int group,
						  const char *lines)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%d/reserved_regions", group);
	fake_sysfs_write(fs, path, "%s", lines);
}

/* An IOMMU: an entry of /sys/class/iommu ("dmar0", "ivhd0"). */
static FAKE_UNUSED void fake_sysfs_add_iommu(const struct fake_sysfs *fs, const char *name)
{
	char path[PATH_MAX], target[PATH_MAX];

	snprintf(target, sizeof(target), "sys/devices/virtual/iommu/%s", name);
	fake_sysfs_folder(fs, target);
	snprintf(path, sizeof(path), "sys/class/iommu/%s", name);
	fake_sysfs_link(fs, path, target);
}

static FAKE_UNUSED void fake_sysfs_cmdline(const struct fake_sysfs *fs, const char *cmdline)
{
	fake_sysfs_write(fs, "proc/cmdline", "%s\n", cmdline);
}

static FAKE_UNUSED void fake_sysfs_add_pci(const struct fake_sysfs *fs, const struct fake_pci *pci)
{
	uint16_t vendor = pci->vendor ? pci->vendor : 0x1234;
	uint16_t device = pci->device ? pci->device : 0x11e8;
	char folder[PATH_MAX], path[PATH_MAX + 64], target[PATH_MAX];
	uint8_t config[4096];

	if (pci->parent) {
		fake_sysfs_device_path(fs, pci->parent, target);
		snprintf(folder, sizeof(folder), "%.3900s/%s", target, pci->bdf);
	} else {
		/* The host bridge's folder is named after domain and root bus. */
		snprintf(folder, sizeof(folder), "sys/devices/pci%.7s/%s", pci->bdf, pci->bdf);
	}
	fake_sysfs_folder(fs, folder);
	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s", pci->bdf);
	fake_sysfs_link(fs, path, folder);

	fake_sysfs_device_write(fs, pci->bdf, "vendor", "0x%04x\n", vendor);
	fake_sysfs_device_write(fs, pci->bdf, "device", "0x%04x\n", device);
	fake_sysfs_device_write(fs, pci->bdf, "class", "0x%06x\n", pci->class_code & 0xffffffu);
	fake_sysfs_device_write(fs, pci->bdf, "driver_override", "(null)\n");
	snprintf(path, sizeof(path), "%s/config", folder);
	if (pci->config) {
		fake_sysfs_write_bytes(fs, path, pci->config, pci->config_size);
	} else {
		fake_config_endpoint(config, vendor, device, pci->class_code);
		if (pci->class_code >> 8 == 0x0604)
			config[0x0e] = 1;
		fake_sysfs_write_bytes(fs, path, config, 64);
	}
	fake_sysfs_set_driver(fs, pci->bdf, pci->driver);
	if (pci->group < 0)
		return;
	snprintf(target, sizeof(target), "sys/kernel/iommu_groups/%d", pci->group);
	snprintf(path, sizeof(path), "%s/iommu_group", folder);
	fake_sysfs_link(fs, path, target);
	snprintf(path, sizeof(path), "%s/devices/%s", target, pci->bdf);
	fake_sysfs_link(fs, path, folder);
	snprintf(path, sizeof(path), "%s/type", target);
	fake_path(fs, target, path);
	if (access(target, F_OK))
		fake_sysfs_group_type(fs, pci->group, "DMA-FQ");
	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%d/reserved_regions", pci->group);
	fake_path(fs, target, path);
	if (access(target, F_OK))
		fake_sysfs_group_reserved(fs, pci->group,
					  "0x00000000fee00000 0x00000000feefffff msi\n");
}

#endif
