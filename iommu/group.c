// SPDX-License-Identifier: Apache-2.0
/*
 * Reading an isolation group: its members, its type, its reserved regions, and the bridges between
 * a device and the root, from sysfs (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
 *
 * Everything read is taken as untrusted text: bounded, converted once, and left out when it makes
 * no sense. What the facts mean is in viable.c and precheck.c.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iommu/private.h"

static int open_folder(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* The last component of a link's target. Returns 0 or -errno. */
static int read_link_name(int dirfd, const char *path, char *name, size_t size)
{
	char target[PATH_MAX], *base;
	ssize_t n = readlinkat(dirfd, path, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	base = strrchr(target, '/');
	base = base ? base + 1 : target;
	if (strlen(base) >= size)
		return -ENAMETOOLONG;
	memcpy(name, base, strlen(base) + 1);
	return 0;
}

/* Only the full form that the kernel writes: "0000:01:00.0". */
static bool parse_device_name(const char *name, struct pci_address *address)
{
	char full[PCI_ADDRESS_LEN];

	return !pci_address_parse(name, address) &&
	       !strcmp(pci_address_format(address, full), name);
}

static uint32_t read_id(int fd, const char *attribute, uint32_t mask)
{
	uint64_t value;

	return file_read_u64(fd, attribute, &value) ? 0 : (uint32_t)value & mask;
}

static bool read_is_bridge(int fd, uint32_t class_code)
{
	uint8_t type = 0;
	int config = openat(fd, "config", O_RDONLY | O_CLOEXEC);

	if (config >= 0) {
		if (pread_full(config, &type, 1, 0x0e))
			type = 0;
		close(config);
	}
	return class_code >> 8 == 0x0604 || (type & 0x7f) == 1;
}

static void read_member(int devices, const char *name, struct iommu_group_member *member)
{
	int fd = open_folder(devices, name);

	if (fd < 0)
		return;
	member->vendor = (uint16_t)read_id(fd, "vendor", 0xffff);
	member->device = (uint16_t)read_id(fd, "device", 0xffff);
	member->class_code = read_id(fd, "class", 0xffffff);
	member->is_bridge = read_is_bridge(fd, member->class_code);
	if (read_link_name(fd, "driver", member->driver, sizeof(member->driver)))
		member->driver[0] = '\0';
	close(fd);
}

static int compare_members(const void *left, const void *right)
{
	const struct iommu_group_member *a = left, *b = right;
	char x[PCI_ADDRESS_LEN], y[PCI_ADDRESS_LEN];

	return strcmp(pci_address_format(&a->address, x), pci_address_format(&b->address, y));
}

static int read_members(int folder, struct iommu_group *group, const char *name, struct error *e)
{
	int fd = open_folder(folder, "devices"), err = 0;
	struct dirent *entry;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		err = fd < 0 ? fd : -errno;
		fd_close(&fd);
		return error_set(e, -err, "group-unreadable", NULL,
				 "%s: the members of IOMMU group %u cannot be read: %s", name,
				 group->id, strerror(-err));
	}
	while (!err && (entry = readdir(dir))) {
		struct iommu_group_member member = { 0 };

		if (!parse_device_name(entry->d_name, &member.address))
			continue;
		if (group->member_count == IOMMU_GROUP_MEMBERS_MAX) {
			err = error_set(
				e, E2BIG, "group-too-large", NULL,
				"%s: IOMMU group %u has more than %d members, too many to be "
				"moved as one",
				name, group->id, IOMMU_GROUP_MEMBERS_MAX);
			break;
		}
		read_member(fd, entry->d_name, &member);
		group->members[group->member_count++] = member;
	}
	closedir(dir);
	qsort(group->members, group->member_count, sizeof(group->members[0]), compare_members);
	return err;
}

/* One region a line: first address, last address, type. Lines that are not that are left out. */
static void read_reserved(int folder, struct iommu_group *group)
{
	char text[16384], *line, *rest = text;

	if (file_read(folder, "reserved_regions", text, sizeof(text)) < 0)
		return;
	while ((line = strsep(&rest, "\n")) && group->reserved_count < IOMMU_GROUP_RESERVED_MAX) {
		struct iommu_reserved_region *region = &group->reserved[group->reserved_count];
		char *end;

		errno = 0;
		region->start = strtoull(line, &end, 16);
		if (errno || end == line || *end != ' ')
			continue;
		line = end;
		region->last = strtoull(line, &end, 16);
		if (errno || end == line || *end != ' ' || region->last < region->start)
			continue;
		snprintf(region->type, sizeof(region->type), "%.23s", end + 1);
		region->type[strcspn(region->type, " \t")] = '\0';
		group->reserved_count++;
	}
}

static void read_bridge(const char *path, struct iommu_upstream *upstream)
{
	uint8_t config[4096];
	size_t size = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		while (size < sizeof(config) &&
		       (n = read(fd, config + size, sizeof(config) - size)) > 0)
			size += (size_t)n;
		close(fd);
	}
	config_parse_bridge(config, size, upstream);
}

/* The folders above a device's own are the bridges it is behind, up to the host bridge's. */
static void read_upstream(const char *link, struct iommu_group *group)
{
	char path[PATH_MAX], config[PATH_MAX + 8], *slash;

	if (!realpath(link, path))
		return;
	while (group->upstream_count < IOMMU_GROUP_UPSTREAM_MAX && (slash = strrchr(path, '/'))) {
		struct iommu_upstream *upstream = &group->upstream[group->upstream_count];

		*slash = '\0';
		slash = strrchr(path, '/');
		if (!slash || !parse_device_name(slash + 1, &upstream->address))
			break;
		snprintf(config, sizeof(config), "%s/config", path);
		read_bridge(config, upstream);
		group->upstream_count++;
	}
	if (group->upstream_count < IOMMU_GROUP_UPSTREAM_MAX)
		memset(&group->upstream[group->upstream_count], 0, sizeof(group->upstream[0]));
}

static int parse_group_id(const char *text, unsigned *id)
{
	unsigned long value;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || value > INT_MAX)
		return -EINVAL;
	*id = (unsigned)value;
	return 0;
}

static int no_group(struct error *e, const char *name, const char *fact)
{
	char next[64];

	snprintf(next, sizeof(next), "divvy precheck %s", name);
	return error_set(
		e, ENODEV, "no-iommu-group", next,
		"%s: the device has no IOMMU group (%s): the IOMMU is off or does not cover "
		"it",
		name, fact);
}

int iommu_group_load(const char *root, const struct pci_address *device, struct iommu_group *group,
		     struct error *e)
{
	char name[PCI_ADDRESS_LEN], path[PATH_MAX], text[64];
	int fd = -1, folder = -1, err;
	bool is_member = false;

	memset(group, 0, sizeof(*group));
	pci_address_format(device, name);
	if (snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s", root, name) >=
	    (int)sizeof(path))
		return error_set(e, ENAMETOOLONG, "no-such-device", NULL,
				 "%s: root path is too long", name);
	fd = open_folder(AT_FDCWD, path);
	if (fd == -ENOENT)
		return error_set(e, ENOENT, "no-such-device", "lspci -D",
				 "%s: there is no such PCI device (%s does not exist)", name, path);
	if (fd < 0)
		return error_set(e, -fd, "device-unreadable", NULL, "%s: %s cannot be read: %s",
				 name, path, strerror(-fd));

	err = read_link_name(fd, "iommu_group", text, sizeof(text));
	if (!err)
		err = parse_group_id(text, &group->id);
	if (err) {
		err = no_group(e, name, "there is no iommu_group link in sysfs");
		goto out;
	}
	folder = open_folder(fd, "iommu_group");
	if (folder < 0) {
		err = no_group(e, name, "its iommu_group link leads nowhere");
		goto out;
	}
	/* VFIO's mode without an IOMMU makes groups of its own, which isolate nothing. */
	if (file_read(folder, "name", text, sizeof(text)) > 0 && !strcmp(text, "vfio-noiommu")) {
		err = no_group(e, name, "its group is VFIO's own, named vfio-noiommu");
		goto out;
	}
	if (file_read(folder, "type", group->type, sizeof(group->type)) < 0)
		group->type[0] = '\0';
	err = read_members(folder, group, name, e);
	if (err)
		goto out;
	for (unsigned i = 0; i < group->member_count; i++)
		is_member |= pci_address_equal(&group->members[i].address, device);
	if (!is_member) {
		err = error_set(e, ESTALE, "group-changed", NULL,
				"%s: IOMMU group %u does not list the device: it is being removed",
				name, group->id);
		goto out;
	}
	read_reserved(folder, group);
	read_upstream(path, group);
out:
	fd_close(&folder);
	fd_close(&fd);
	if (err)
		memset(group, 0, sizeof(*group));
	return err;
}
