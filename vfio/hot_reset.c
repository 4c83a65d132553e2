// SPDX-License-Identifier: Apache-2.0
/*
 * Hot reset: a reset of a whole slot or bus, for devices that cannot be reset alone. The kernel does it for
 * whoever owns every function that it affects; this file asks which those are, whether they are all
 * ours and idle, and says whose they are where they are not.
 *
 * Ownership is shown in two ways (include/uapi/linux/vfio.h, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and
 * VFIO_DEVICE_PCI_HOT_RESET): devices that were opened by groups hand over the descriptors of all
 * groups affected; for cdevs the kernel looks at the iommufd and is handed none. "Idle" is what it does not
 * know: a function that this process has open, but that is not among those to be reset, is in use.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vfio/device.h"

#define AFFECTED_MAX 1024 /* more than there are on four buses */
#define ASK_MAX	     4	  /* times, should devices come meanwhile */

static struct vfio_kernel_device *find_open(struct vfio_device *const *devices, unsigned count,
					    const struct pci_address *address)
{
	for (unsigned i = 0; i < count; i++) {
		struct vfio_kernel_device *kernel;

		if (devices[i]->ops != &vfio_kernel_ops)
			continue;
		kernel = container_of(devices[i], struct vfio_kernel_device, device);
		if (!kernel->is_mdev && pci_address_equal(&kernel->address, address))
			return kernel;
	}
	return NULL;
}

static struct pci_address address_of(const struct vfio_pci_dependent_device *affected)
{
	return (struct pci_address){
		.domain = affected->segment,
		.bus = affected->bus,
		.device = affected->devfn >> 3,
		.function = affected->devfn & 7,
	};
}

/* Who is affected: the kernel says how many there are, then which. Freed by the caller. */
static int ask(const struct vfio_kernel_device *kernel, struct vfio_pci_hot_reset_info **out)
{
	uint32_t count = 0;

	for (unsigned i = 0; i < ASK_MAX; i++) {
		size_t size = sizeof(**out) + count * sizeof((*out)->devices[0]);
		struct vfio_pci_hot_reset_info *info = calloc(1, size);
		int err = 0;

		if (!info)
			return -ENOMEM;
		info->argsz = (uint32_t)size;
		if (ioctl(kernel->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info))
			err = -errno;
		if (!err && info->count && info->count <= count) {
			*out = info;
			return 0;
		}
		count = info->count;
		free(info);
		if (err && err != -ENOSPC)
			return err;
		if (!count || count > AFFECTED_MAX)
			return -EINVAL;
	}
	return -EAGAIN;
}

/* Why an affected function must not be reset; NULL: it may. */
static const char *in_the_way(const struct vfio_kernel_device *kernel,
			      struct vfio_device *const *devices, unsigned count,
			      const struct vfio_pci_dependent_device *affected)
{
	const struct pci_address address = address_of(affected);
	unsigned open, listed = 0;
	int fd;

	if (find_open(devices, count, &address))
		return NULL;
	if (!kernel->group) {
		if (affected->devid == (uint32_t)VFIO_PCI_DEVID_NOT_OWNED)
			return "not owned";
		return affected->devid == VFIO_PCI_DEVID_OWNED ? NULL : "in use by this VM";
	}
	if (!vfio_group_find(kernel->space, affected->group_id, &fd, &open))
		return "not owned";
	/* Of a group that is ours: some function of it is open that is not to be reset? */
	for (unsigned i = 0; i < count; i++) {
		const struct vfio_kernel_device *other =
			container_of(devices[i], struct vfio_kernel_device, device);

		listed += devices[i]->ops == &vfio_kernel_ops && other->group &&
			  vfio_device_file(devices[i]) == fd;
	}
	return listed == open ? NULL : "in use by this VM";
}

static int judge(const struct vfio_kernel_device *kernel, struct vfio_device *const *devices,
		 unsigned count, const struct vfio_pci_hot_reset_info *info, struct error *e)
{
	char names[512] = "", bdf[PCI_ADDRESS_LEN];

	for (uint32_t i = 0; i < info->count; i++) {
		const struct pci_address address = address_of(&info->devices[i]);
		const char *why = in_the_way(kernel, devices, count, &info->devices[i]);

		if (!why)
			continue;
		text_append(names, sizeof(names), "%s%s (%s)", names[0] ? ", " : "",
			    pci_address_format(&address, bdf), why);
	}
	if (!names[0])
		return 0;
	return error_set(e, EPERM, "hot-reset-not-owned",
			 "assign these functions to the VM as well, or bind them to vfio-pci",
			 "a reset of its slot or bus would take others along: %s", names);
}

/* The descriptors of all groups affected, each once, behind @request. */
static void add_groups(const struct vfio_kernel_device *kernel,
		       const struct vfio_pci_hot_reset_info *info,
		       struct vfio_pci_hot_reset *request)
{
	for (uint32_t i = 0; i < info->count; i++) {
		unsigned open;
		bool known = false;
		int fd;

		if (!vfio_group_find(kernel->space, info->devices[i].group_id, &fd, &open))
			continue;
		for (uint32_t j = 0; j < request->count; j++)
			known |= request->group_fds[j] == fd;
		if (!known)
			request->group_fds[request->count++] = fd;
	}
	request->argsz += request->count * (uint32_t)sizeof(request->group_fds[0]);
}

int vfio_hot_reset(struct vfio_kernel_device *kernel, struct vfio_device *const *devices,
		   unsigned count, uint64_t *covered, struct error *e)
{
	struct vfio_pci_hot_reset_info *info = NULL;
	struct vfio_pci_hot_reset *request = NULL;
	uint64_t start;
	int err;

	*covered = 0;
	err = ask(kernel, &info);
	if (err)
		return error_set(e, -err, "no-hot-reset", NULL,
				 "its slot or bus cannot be reset either (%s)", strerror(-err));
	err = judge(kernel, devices, count, info, e);
	if (err)
		goto out;
	request = calloc(1, sizeof(*request) + info->count * sizeof(request->group_fds[0]));
	if (!request) {
		err = error_set(e, ENOMEM, "no-memory", NULL, "no memory for a hot reset");
		goto out;
	}
	request->argsz = sizeof(*request);
	if (kernel->group)
		add_groups(kernel, info, request);
	start = monotonic_ns();
	if (ioctl(kernel->fd, VFIO_DEVICE_PCI_HOT_RESET, request)) {
		err = error_set(e, errno, "hot-reset-failed", "dmesg | tail",
				"a reset of its slot or bus failed after %.1f ms: %s",
				(double)(monotonic_ns() - start) / 1e6, strerror(errno));
		goto out;
	}
	log_info("%s: hot reset of its slot or bus, %u functions, in %.1f ms", kernel->device.name,
		 info->count, (double)(monotonic_ns() - start) / 1e6);
	for (uint32_t i = 0; i < info->count; i++) {
		const struct pci_address address = address_of(&info->devices[i]);

		for (unsigned j = 0; j < count; j++)
			if (find_open(&devices[j], 1, &address))
				*covered |= UINT64_C(1) << j;
	}
out:
	free(request);
	free(info);
	return err;
}
