// SPDX-License-Identifier: Apache-2.0
/*
 * Opening a kernel VFIO device: from a PCI address to a device file that is attached to an address
 * space, by the group (type1) or by the device's own character device (iommufd).
 *
 * What can be in the way is asked in the order in which a person would want to hear of it, and the
 * error names the fact. Closing runs the other way round: the device's file goes before its group
 * leaves the container, since the kernel refuses that while a device is open.
 *
 * A group can be opened once at a time in the whole system, so the space keeps the groups it has
 * open: the second device of a group takes a reference.
 *
 * Several threads may open devices in one space, since the kernel resets a device as it is opened and
 * takes 100 ms and more for it. What they share is the space's groups, under its vfio_lock; the slow
 * call (VFIO_GROUP_GET_DEVICE_FD, VFIO_DEVICE_BIND_IOMMUFD) is made without it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vfio/device.h"
#include "vfio/holders.h"

struct vfio_group {
	struct vfio_group *next; /* in the space's list */
	struct iommu_space *space;
	unsigned id;
	unsigned references;
	int fd;
};

/* Who has it, when the kernel says that somebody does; nothing of ours may be open by then. */
static int refuse_in_use(const struct vfio_kernel_device *kernel, const unsigned *group,
			 const char *node, struct error *e)
{
	struct vfio_holders holders = { 0 };

	if (!kernel->is_mdev &&
	    vfio_holders_find(kernel->root, &kernel->address, 1, group, &holders) == 0 &&
	    holders.count)
		return vfio_holders_refuse(&holders, e);
	return error_set(e, EBUSY, "device-in-use", "find who has it: fuser -v /dev/vfio/*",
			 "%s: %s is in use, by a process that could not be found%s",
			 kernel->device.name, node,
			 holders.unreadable ? " (some belong to other users)" : "");
}

static int open_node(const struct vfio_kernel_device *kernel, const unsigned *group,
		     const char *node, struct error *e)
{
	char path[VFIO_PATH_MAX], next[sizeof(e->next)];
	const char *bdf = kernel->device.name;
	int err, fd;

	fd = open(vfio_sysfs_path(path, kernel->root, "%s", node), O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	err = errno;
	switch (err) {
	case EBUSY:
		return refuse_in_use(kernel, group, node, e);
	case EACCES:
	case EPERM:
		snprintf(next, sizeof(next), "run as root, or: setfacl -m u:%u:rw %s",
			 (unsigned)geteuid(), node);
		return error_set(e, err, "permission-denied", next, "%s: cannot open %s: %s", bdf,
				 node, strerror(err));
	case ENOENT:
		return error_set(e, err, "no-vfio", "modprobe vfio-pci", "%s: there is no %s", bdf,
				 node);
	default:
		return error_set(e, err, "no-vfio", NULL, "%s: cannot open %s: %s", bdf, node,
				 strerror(err));
	}
}

/* An address space does not know whose file it was given: say so in front of what it says. */
static int attach_failed(const char *bdf, int err, struct error *e)
{
	char text[sizeof(e->text)];

	if (e) {
		memcpy(text, e->text, sizeof(text));
		snprintf(e->text, sizeof(e->text), "%s: %.700s", bdf, text);
	}
	return err;
}

/* ---- groups of a space -------------------------------------------------------------------- */

static void group_put(struct vfio_group *group)
{
	struct iommu_space *space = group->space;
	struct vfio_group **link = &space->vfio_groups;

	pthread_mutex_lock(&space->vfio_lock);
	if (--group->references == 0) {
		while (*link != group)
			link = &(*link)->next;
		*link = group->next;
		space->ops->detach(space, group->fd);
		fd_close(&group->fd);
		free(group);
	}
	pthread_mutex_unlock(&space->vfio_lock);
}

static int group_get_locked(const struct vfio_kernel_device *kernel, unsigned id,
			    struct vfio_group **out, struct error *e)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct iommu_space *space = kernel->space;
	const char *bdf = kernel->device.name;
	char node[64], next[96];
	struct vfio_group *group;
	int err;

	for (group = space->vfio_groups; group; group = group->next) {
		if (group->id == id) {
			group->references++;
			*out = group;
			return 0;
		}
	}
	snprintf(node, sizeof(node), "/dev/vfio/%u", id);
	group = calloc(1, sizeof(*group));
	if (!group)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "%s: no memory", bdf);
	group->space = space;
	group->id = id;
	group->references = 1;
	group->fd = open_node(kernel, &id, node, e);
	if (group->fd < 0) {
		err = group->fd;
		goto free_group;
	}
	if (ioctl(group->fd, VFIO_GROUP_GET_STATUS, &status)) {
		err = error_set(e, errno, "bad-device", NULL, "%s: %s: VFIO_GROUP_GET_STATUS: %s",
				bdf, node, strerror(errno));
		goto close_group;
	}
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		snprintf(next, sizeof(next), "divvy precheck %s", bdf);
		err = error_set(e, EBUSY, "group-not-viable", next,
				"%s: the kernel says that isolation group %u is not viable: a "
				"member is used by a host driver or by another VFIO user",
				bdf, id);
		goto close_group;
	}
	err = space->ops->attach(space, group->fd, e);
	if (err) {
		attach_failed(bdf, err, e);
		goto close_group;
	}
	group->next = space->vfio_groups;
	space->vfio_groups = group;
	*out = group;
	return 0;

close_group:
	fd_close(&group->fd);
free_group:
	free(group);
	return err;
}

bool vfio_group_find(const struct iommu_space *space, unsigned id, int *fd, unsigned *devices)
{
	for (const struct vfio_group *group = space->vfio_groups; group; group = group->next) {
		if (group->id != id)
			continue;
		*fd = group->fd;
		*devices = group->references;
		return true;
	}
	return false;
}

static int group_get(const struct vfio_kernel_device *kernel, unsigned id, struct vfio_group **out,
		     struct error *e)
{
	int err;

	pthread_mutex_lock(&kernel->space->vfio_lock);
	err = group_get_locked(kernel, id, out, e);
	pthread_mutex_unlock(&kernel->space->vfio_lock);
	return err;
}

/* ---- the two ways in ---------------------------------------------------------------------- */

static int open_by_group(struct vfio_kernel_device *kernel, unsigned id, struct error *e)
{
	const char *bdf = kernel->device.name;
	int err;

	err = group_get(kernel, id, &kernel->group, e);
	if (err)
		return err;
	kernel->fd = ioctl(kernel->group->fd, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (kernel->fd >= 0)
		return 0;
	err = errno;
	if (err == EPERM || err == EACCES)
		return error_set(e, err, "permission-denied", NULL,
				 "%s: VFIO_GROUP_GET_DEVICE_FD: %s", bdf, strerror(err));
	return error_set(e, err, err == EBUSY ? "device-in-use" : "bad-device", NULL,
			 "%s: VFIO_GROUP_GET_DEVICE_FD of group %u: %s", bdf, id, strerror(err));
}

static int open_by_cdev(struct vfio_kernel_device *kernel, struct error *e)
{
	char name[32], node[64], path[VFIO_PATH_MAX];
	int err;

	if (kernel->is_mdev)
		vfio_sysfs_mdev(path, kernel->root, kernel->device.name, "vfio-dev");
	else
		vfio_sysfs_pci(path, kernel->root, &kernel->address, "vfio-dev");
	if (vfio_sysfs_cdev(path, name, sizeof(name)))
		return error_set(e, ENODEV, "no-iommufd", "use the type1 backend",
				 "%s: the kernel made no character device for it (no vfio-dev "
				 "folder in sysfs: built without CONFIG_VFIO_DEVICE_CDEV?)",
				 kernel->device.name);
	snprintf(node, sizeof(node), "/dev/vfio/devices/%s", name);
	kernel->fd = open_node(kernel, NULL, node, e);
	if (kernel->fd < 0)
		return kernel->fd;
	err = kernel->space->ops->attach(kernel->space, kernel->fd, e);
	if (!err) {
		kernel->attached = true;
		return 0;
	}
	/*
	 * A cdev opens for anybody; binding it to an iommufd is what only one can do, and another
	 * owner shows as EBUSY (by its group) or EINVAL (by its cdev). Then the owner is the fact
	 * worth telling, unless there is none.
	 */
	if ((err == -EBUSY || err == -EINVAL) && !kernel->is_mdev) {
		struct vfio_holders holders;
		char group[16];
		unsigned id;

		fd_close(&kernel->fd);
		if (vfio_sysfs_link_name(kernel->root, &kernel->address, "iommu_group", group,
					 sizeof(group)) == 0 &&
		    sscanf(group, "%u", &id) == 1 &&
		    vfio_holders_find(kernel->root, &kernel->address, 1, &id, &holders) == 0 &&
		    holders.count)
			return vfio_holders_refuse(&holders, e);
	}
	return attach_failed(kernel->device.name, err, e);
}

/* Linux 5.15 and later; the first that works is used, so a list is told whole. */
static void read_reset_methods(struct vfio_kernel_device *kernel)
{
	char path[VFIO_PATH_MAX];

	vfio_sysfs_pci(path, kernel->root, &kernel->address, "reset_method");
	if (file_read(-1, path, kernel->reset_methods, sizeof(kernel->reset_methods)) <= 0)
		strcpy(kernel->reset_methods, "method unknown");
}

/* Everything that can be known before anything is opened. */
static int check_openable(const char *root, const struct pci_address *address, unsigned *group_id,
			  struct error *e)
{
	char bdf[PCI_ADDRESS_LEN], driver[VFIO_DRIVER_LEN], next[64];
	struct iommu_group *group;
	int err;

	*group_id = 0;
	pci_address_format(address, bdf);
	err = vfio_sysfs_exists(root, address, e);
	if (err)
		return err;
	if (vfio_sysfs_is_bridge(root, address))
		return error_set(e, EINVAL, "is-a-bridge", "divvy list devices",
				 "%s is a PCI-to-PCI bridge (class 0604): bridges stay with the "
				 "host, assign what is behind it",
				 bdf);
	vfio_sysfs_link_name(root, address, "driver", driver, sizeof(driver));
	snprintf(next, sizeof(next), "divvy bind %s", bdf);
	if (!vfio_sysfs_driver_is_vfio(driver))
		return error_set(e, ENODEV, "not-bound-to-vfio", next,
				 "%s is %s%s, not to vfio-pci", bdf,
				 driver[0] ? "bound to the driver " : "bound to no driver", driver);
	group = malloc(sizeof(*group));
	if (!group)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "%s: no memory", bdf);
	err = iommu_group_load(root, address, group, e);
	if (!err)
		err = iommu_group_check_viable(group, address, e);
	*group_id = group->id;
	free(group);
	return err;
}

/* What a mediated device's folder says, before it is opened. */
static int check_mdev(const char *root, const char *uuid, unsigned *group_id, struct error *e)
{
	char path[VFIO_PATH_MAX], driver[VFIO_DRIVER_LEN], group[16];

	if (!uuid_ok(uuid) || access(vfio_sysfs_mdev(path, root, uuid, ""), F_OK))
		return error_set(e, ENOENT, "no-such-device", "ls /sys/bus/mdev/devices",
				 "there is no mediated device %.40s", uuid);
	vfio_sysfs_link_at(vfio_sysfs_mdev(path, root, uuid, "driver"), driver, sizeof(driver));
	if (!driver[0])
		return error_set(e, ENODEV, "not-bound-to-vfio", NULL,
				 "%s is bound to no driver: its parent's is the one it needs",
				 uuid);
	if (vfio_sysfs_link_at(vfio_sysfs_mdev(path, root, uuid, "iommu_group"), group,
			       sizeof(group)) ||
	    sscanf(group, "%u", group_id) != 1)
		return error_set(e, ENODEV, "no-iommu-group", NULL, "%s: VFIO made no group for it",
				 uuid);
	return 0;
}

/* @kernel: as far as it is known without the device's file; released on failure */
static int open_device(struct vfio_kernel_device *kernel, unsigned group_id,
		       struct vfio_device **out, struct error *e)
{
	const uint64_t start = monotonic_ns();
	int err;

	if (kernel->space->ops->kind == IOMMU_IOMMUFD)
		err = open_by_cdev(kernel, e);
	else
		err = open_by_group(kernel, group_id, e);
	if (!err)
		err = vfio_kernel_device_query(kernel, e);
	if (err) {
		vfio_kernel_device_release(kernel);
		return err;
	}
	if (kernel->is_mdev) {
		strcpy(kernel->reset_methods, "its driver's");
	} else {
		read_reset_methods(kernel);
		vfio_link_check(kernel, "it was opened");
	}
	log_info("%s: opened by its %s in group %u, %u regions, in %.1f ms", kernel->device.name,
		 kernel->group ? "group" : "character device", group_id,
		 kernel->device.region_count, (double)(monotonic_ns() - start) / 1e6);
	*out = &kernel->device;
	return 0;
}

static struct vfio_kernel_device *kernel_device(const char *root, struct iommu_space *space,
						struct error *e)
{
	struct vfio_kernel_device *kernel = calloc(1, sizeof(*kernel));
	char *copy = strdup(root);

	if (!kernel || !copy) {
		free(kernel);
		free(copy);
		error_set(e, ENOMEM, "out-of-memory", NULL, "no memory for a device");
		return NULL;
	}
	kernel->fd = -1;
	kernel->space = space;
	kernel->root = copy;
	kernel->device.ops = &vfio_kernel_ops;
	return kernel;
}

int vfio_device_open(const char *root, const struct pci_address *address, struct iommu_space *space,
		     struct vfio_device **out, struct error *e)
{
	struct vfio_kernel_device *kernel;
	unsigned group_id;
	int err;

	err = check_openable(root, address, &group_id, e);
	if (err)
		return err;
	kernel = kernel_device(root, space, e);
	if (!kernel)
		return -ENOMEM;
	kernel->address = *address;
	pci_address_format(address, kernel->device.name);
	/* Opening resets the function, so what the link was is asked before. */
	kernel->link = vfio_link_sysfs(root, address);
	return open_device(kernel, group_id, out, e);
}

int vfio_mdev_open(const char *root, const char *uuid, struct iommu_space *space,
		   struct vfio_device **out, struct error *e)
{
	struct vfio_kernel_device *kernel;
	unsigned group_id;
	int err;

	err = check_mdev(root, uuid, &group_id, e);
	if (err)
		return err;
	kernel = kernel_device(root, space, e);
	if (!kernel)
		return -ENOMEM;
	kernel->is_mdev = true;
	strcpy(kernel->device.name, uuid);
	return open_device(kernel, group_id, out, e);
}

void vfio_kernel_device_release(struct vfio_kernel_device *kernel)
{
	if (kernel->attached)
		kernel->space->ops->detach(kernel->space, kernel->fd);
	fd_close(&kernel->fd);
	if (kernel->group)
		group_put(kernel->group);
	free(kernel->root);
	free(kernel);
}

int vfio_device_file(const struct vfio_device *device)
{
	const struct vfio_kernel_device *kernel;

	if (device->ops != &vfio_kernel_ops)
		return -1;
	kernel = container_of(device, struct vfio_kernel_device, device);
	return kernel->group ? kernel->group->fd : kernel->fd;
}
