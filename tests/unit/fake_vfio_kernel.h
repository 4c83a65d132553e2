/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A made-up kernel side of VFIO: type1 containers and groups, iommufd and device cdevs, behind the
 * wrapped calls of faults.h, over files of a fake root (fake_sysfs.h).
 *
 * It remembers what is attached, mapped and armed, so that a test sees what was not given back, and
 * counts what no kernel would be asked by a sane program (`wrong`). One address space, one group of
 * two NVMe functions, which a hot reset takes together, and whoever else a test says. Device regions are
 * windows of a file: region i at i MiB.
 */
#ifndef TESTS_UNIT_FAKE_VFIO_KERNEL_H
#define TESTS_UNIT_FAKE_VFIO_KERNEL_H

#include <stdlib.h>
#include <string.h>

#include "tests/unit/fake_sysfs.h"
#include "tests/unit/fake_vfio_device.h"
#include "tests/unit/faults.h"

#define FAKE_KERNEL_FDS	  1024
#define FAKE_KERNEL_MAPS  64
#define FAKE_KERNEL_GROUP 3
#define FAKE_KERNEL_INFO                        \
	(sizeof(struct vfio_iommu_type1_info) + \
	 sizeof(struct vfio_iommu_type1_info_cap_iova_range) + sizeof(struct vfio_iova_range))

enum fake_kernel_file {
	FAKE_NOTHING,
	FAKE_CONTAINER,
	FAKE_GROUP,
	FAKE_IOMMUFD,
	FAKE_DEVICE,
};

static struct {
	struct fake_sysfs fs;
	struct fake_device model; /* config space and regions */
	char device_path[PATH_MAX];
	enum fake_kernel_file files[FAKE_KERNEL_FDS];
	bool attached[FAKE_KERNEL_FDS]; /* a group to the container, a cdev to the address space */
	unsigned function[FAKE_KERNEL_FDS]; /* of a device */
	unsigned no_reset;		    /* a bit for each function that cannot be reset alone */
	int reset_error, hot_reset_error;   /* errno; 0: it works */
	unsigned resets, hot_resets;
	uint16_t link_after; /* what Link Status says after a reset; 0: what it said before */
	/* Whom a hot reset takes besides functions 0 and 1 of 01:00. */
	struct vfio_pci_dependent_device other;
	bool has_other;
	unsigned armed[FAKE_KERNEL_FDS][FAKE_IRQS];
	bool has_iommu;
	bool no_remapping; /* the machine does not remap interrupts, and unsafe ones are not allowed */
	unsigned map_count;
	struct {
		uint64_t iova, size;
	} maps[FAKE_KERNEL_MAPS];
	unsigned wrong;
} fake_kernel;

static inline void fake_kernel_wrong(const char *what)
{
	fprintf(stderr, "fake kernel: %s\n", what);
	fake_kernel.wrong++;
}

static inline unsigned fake_kernel_attached(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FAKE_KERNEL_FDS; i++)
		count += fake_kernel.attached[i];
	return count;
}

static inline unsigned fake_kernel_armed(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FAKE_KERNEL_FDS; i++)
		for (unsigned index = 0; index < FAKE_IRQS; index++)
			count += fake_kernel.armed[i][index] != 0;
	return count;
}

static inline void fake_kernel_opened(int fd, const char *path)
{
	const char *at = strstr(path, "/dev/");

	if (fd >= FAKE_KERNEL_FDS ||
	    strncmp(path, fake_kernel.fs.root, strlen(fake_kernel.fs.root)))
		return;
	if (at && !strcmp(at, "/dev/iommu"))
		fake_kernel.files[fd] = FAKE_IOMMUFD;
	else if (at && !strcmp(at, "/dev/vfio/vfio"))
		fake_kernel.files[fd] = FAKE_CONTAINER;
	else if (at && !strncmp(at, "/dev/vfio/devices/vfio", 22)) {
		fake_kernel.files[fd] = FAKE_DEVICE;
		fake_kernel.function[fd] = (unsigned)(at[22] - '0');
	} else if (at && !strncmp(at, "/dev/vfio/", 10))
		fake_kernel.files[fd] = FAKE_GROUP;
}

static inline void fake_kernel_closing(int fd)
{
	if (fd < 0 || fd >= FAKE_KERNEL_FDS || fake_kernel.files[fd] == FAKE_NOTHING)
		return;
	for (unsigned index = 0; index < FAKE_IRQS; index++)
		if (fake_kernel.armed[fd][index])
			fake_kernel_wrong("a device closed with interrupts on");
	/* A cdev's bond may end by closing it; a group is to leave its container first. */
	if (fake_kernel.attached[fd])
		fake_kernel_wrong("closed while attached");
	if ((fake_kernel.files[fd] == FAKE_IOMMUFD || fake_kernel.files[fd] == FAKE_CONTAINER) &&
	    fake_kernel.map_count)
		fake_kernel_wrong("an address space closed with maps");
	fake_kernel.files[fd] = FAKE_NOTHING;
	fake_kernel.attached[fd] = false;
}

static inline int fake_kernel_error(int err)
{
	errno = err;
	return -1;
}

static inline int fake_kernel_map(uint64_t iova, uint64_t size)
{
	if (!size || (iova | size) & 4095 || !fake_kernel_attached())
		return fake_kernel_error(EINVAL);
	for (unsigned i = 0; i < fake_kernel.map_count; i++)
		if (iova < fake_kernel.maps[i].iova + fake_kernel.maps[i].size &&
		    fake_kernel.maps[i].iova < iova + size)
			return fake_kernel_error(EEXIST);
	if (fake_kernel.map_count == FAKE_KERNEL_MAPS)
		return fake_kernel_error(ENOSPC);
	fake_kernel.maps[fake_kernel.map_count].iova = iova;
	fake_kernel.maps[fake_kernel.map_count++].size = size;
	return 0;
}

/* Returns the bytes unmapped: whole maps within the range. */
static inline uint64_t fake_kernel_unmap(uint64_t iova, uint64_t size)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < fake_kernel.map_count;) {
		if (fake_kernel.maps[i].iova < iova ||
		    fake_kernel.maps[i].iova + fake_kernel.maps[i].size > iova + size) {
			i++;
			continue;
		}
		done += fake_kernel.maps[i].size;
		fake_kernel.maps[i] = fake_kernel.maps[--fake_kernel.map_count];
	}
	if (!done)
		fake_kernel_wrong("nothing is mapped where something is unmapped");
	return done;
}

static inline int fake_kernel_space(unsigned long request, void *arg)
{
	struct vfio_iommu_type1_dma_map *map = arg;
	struct vfio_iommu_type1_dma_unmap *unmap = arg;
	struct vfio_iommu_type1_info *info = arg;
	struct iommu_ioas_map *ioas_map = arg;
	struct iommu_ioas_unmap *ioas_unmap = arg;
	struct iommu_ioas_iova_ranges *ranges = arg;
	struct iommu_iova_range *range;
	/* One range, behind the two heads. */
	const struct vfio_iommu_type1_info head = { .argsz = FAKE_KERNEL_INFO,
						    .flags = VFIO_IOMMU_INFO_CAPS |
							     VFIO_IOMMU_INFO_PGSIZES,
						    .iova_pgsizes = 4096,
						    .cap_offset = sizeof(head) };
	const struct vfio_iommu_type1_info_cap_iova_range cap = {
		.header = { .id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, .version = 1 },
		.nr_iovas = 1,
	};
	const struct vfio_iova_range all = { 0, (UINT64_C(1) << 48) - 1 };
	uint8_t answer[FAKE_KERNEL_INFO];

	switch (request) {
	case VFIO_GET_API_VERSION:
		return VFIO_API_VERSION;
	case VFIO_CHECK_EXTENSION:
		return 1;
	case VFIO_SET_IOMMU:
		if (fake_kernel.no_remapping)
			return fake_kernel_error(EPERM);
		fake_kernel.has_iommu = true;
		return 0;
	case VFIO_IOMMU_GET_INFO:
		memcpy(answer, &head, sizeof(head));
		memcpy(answer + sizeof(head), &cap, sizeof(cap));
		memcpy(answer + sizeof(head) + sizeof(cap), &all, sizeof(all));
		memcpy(info, answer, MIN(info->argsz, sizeof(answer)));
		return 0;
	case VFIO_IOMMU_MAP_DMA:
		return fake_kernel_map(map->iova, map->size);
	case VFIO_IOMMU_UNMAP_DMA:
		unmap->size = fake_kernel_unmap(unmap->iova, unmap->size);
		return 0;
	case IOMMU_IOAS_ALLOC:
		((struct iommu_ioas_alloc *)arg)->out_ioas_id = 1;
		return 0;
	case IOMMU_IOAS_IOVA_RANGES:
		range = (void *)(uintptr_t)ranges->allowed_iovas;
		*range = (struct iommu_iova_range){ 0, (UINT64_C(1) << 48) - 1 };
		ranges->num_iovas = 1;
		return 0;
	case IOMMU_IOAS_MAP:
		return fake_kernel_map(ioas_map->iova, ioas_map->length);
	case IOMMU_IOAS_UNMAP:
		ioas_unmap->length = fake_kernel_unmap(ioas_unmap->iova, ioas_unmap->length);
		return 0;
	default:
		return fake_kernel_error(ENOTTY);
	}
}

static inline int fake_kernel_group(int fd, unsigned long request, void *arg)
{
	struct vfio_group_status *status = arg;
	int device;

	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		status->flags = VFIO_GROUP_FLAGS_VIABLE;
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		if (fake_kernel.attached[fd])
			fake_kernel_wrong("a group is attached twice");
		fake_kernel.attached[fd] = true;
		return 0;
	case VFIO_GROUP_UNSET_CONTAINER:
		fake_kernel.attached[fd] = false;
		if (!fake_kernel_attached() && fake_kernel.map_count)
			fake_kernel_wrong("the last group left with maps");
		return 0;
	case VFIO_GROUP_GET_DEVICE_FD:
		if (!fake_kernel.attached[fd] || !fake_kernel.has_iommu)
			return fake_kernel_error(EINVAL);
		device = __real_open64(fake_kernel.device_path, O_RDWR | O_CLOEXEC);
		if (device >= 0) {
			fake_kernel.files[device] = FAKE_DEVICE;
			fake_kernel.function[device] =
				(unsigned)(((const char *)arg)[strlen(arg) - 1] - '0');
		}
		return device;
	default:
		return fake_kernel_error(ENOTTY);
	}
}

static inline int fake_kernel_set_irqs(int fd, const struct vfio_irq_set *set)
{
	unsigned *armed = fake_kernel.armed[fd];

	if (set->index >= FAKE_IRQS ||
	    set->start + set->count > fake_kernel.model.irqs[set->index].count)
		return fake_kernel_error(EINVAL);
	if (!set->count) {
		armed[set->index] = 0;
		return 0;
	}
	if (set->flags & VFIO_IRQ_SET_ACTION_UNMASK)
		return armed[set->index] ? 0 : fake_kernel_error(EINVAL);
	for (uint32_t i = VFIO_PCI_INTX_IRQ_INDEX; i <= VFIO_PCI_MSIX_IRQ_INDEX; i++)
		if (set->index <= VFIO_PCI_MSIX_IRQ_INDEX && i != set->index && armed[i])
			return fake_kernel_error(EINVAL);
	armed[set->index] = set->count;
	return 0;
}

/* A link that comes back as it should not, in the device's own register. */
static inline void fake_kernel_retrain(int fd)
{
	unsigned at = 0x80 + PCI_EXP_LNKSTA;

	if (fake_kernel.link_after && pwrite(fd, &fake_kernel.link_after, 2,
					     VFIO_PCI_CONFIG_REGION_INDEX * (off_t)MIB + at) != 2)
		fake_kernel_wrong("the link cannot be set");
}

static inline bool fake_kernel_is_cdev(void)
{
	for (unsigned i = 0; i < FAKE_KERNEL_FDS; i++)
		if (fake_kernel.files[i] == FAKE_GROUP)
			return false;
	return true;
}

/* Whether function @number of 01:00 is open. */
static inline bool fake_kernel_is_open(unsigned number)
{
	for (unsigned i = 0; i < FAKE_KERNEL_FDS; i++)
		if (fake_kernel.files[i] == FAKE_DEVICE && fake_kernel.function[i] == number)
			return true;
	return false;
}

static inline int fake_kernel_affected(struct vfio_pci_hot_reset_info *info)
{
	uint32_t count = 2 + fake_kernel.has_other, argsz = info->argsz;
	bool cdev = fake_kernel_is_cdev();

	info->count = count;
	info->flags = 0;
	if (argsz < sizeof(*info) + count * sizeof(info->devices[0]))
		return fake_kernel_error(ENOSPC);
	info->flags = cdev ? VFIO_PCI_HOT_RESET_FLAG_DEV_ID : 0;
	for (uint8_t i = 0; i < 2; i++) {
		info->devices[i] = (struct vfio_pci_dependent_device){ .bus = 1, .devfn = i };
		if (!cdev)
			info->devices[i].group_id = FAKE_KERNEL_GROUP;
		else if (fake_kernel_is_open(i))
			info->devices[i].devid = 100u + i;
		else
			info->devices[i].devid = VFIO_PCI_DEVID_OWNED;
	}
	if (fake_kernel.has_other)
		info->devices[2] = fake_kernel.other;
	return 0;
}

static inline int fake_kernel_hot_reset(int fd, const struct vfio_pci_hot_reset *request)
{
	bool cdev = fake_kernel_is_cdev();

	if (request->argsz != sizeof(*request) + request->count * sizeof(int32_t) || request->flags)
		fake_kernel_wrong("a hot reset with a wrong size or flags");
	/* Proof of ownership: no group for cdevs; each group once, attached, for the others. */
	if (request->count != (cdev ? 0 : 1) ||
	    (!cdev && (fake_kernel.files[request->group_fds[0]] != FAKE_GROUP ||
		       !fake_kernel.attached[request->group_fds[0]])))
		fake_kernel_wrong("a hot reset without the right groups");
	if (fake_kernel.hot_reset_error)
		return fake_kernel_error(fake_kernel.hot_reset_error);
	fake_kernel.hot_resets++;
	fake_kernel_retrain(fd);
	return 0;
}

static inline int fake_kernel_device(int fd, unsigned long request, void *arg)
{
	bool has_reset = !(fake_kernel.no_reset & 1u << fake_kernel.function[fd]);
	struct vfio_device_info *info = arg;
	struct vfio_region_info *region = arg;
	struct vfio_irq_info *irq = arg;

	switch (request) {
	case VFIO_DEVICE_BIND_IOMMUFD:
		return fake_kernel.no_remapping ? fake_kernel_error(EPERM) : 0;
	case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
		if (fake_kernel.attached[fd])
			fake_kernel_wrong("a device is attached twice");
		fake_kernel.attached[fd] = true;
		return 0;
	case VFIO_DEVICE_DETACH_IOMMUFD_PT:
		fake_kernel.attached[fd] = false;
		return 0;
	case VFIO_DEVICE_GET_INFO:
		info->flags = VFIO_DEVICE_FLAGS_PCI | (has_reset ? VFIO_DEVICE_FLAGS_RESET : 0);
		info->num_regions = VFIO_PCI_NUM_REGIONS;
		info->num_irqs = FAKE_IRQS;
		return 0;
	case VFIO_DEVICE_GET_REGION_INFO:
		if (region->index >= VFIO_PCI_NUM_REGIONS)
			return fake_kernel_error(EINVAL);
		region->argsz = sizeof(*region);
		region->size = fake_kernel.model.regions[region->index].size;
		region->flags = fake_kernel.model.regions[region->index].flags;
		if (region->index == VFIO_PCI_CONFIG_REGION_INDEX)
			region->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
		region->offset = region->index * MIB;
		return 0;
	case VFIO_DEVICE_GET_IRQ_INFO:
		if (irq->index >= FAKE_IRQS)
			return fake_kernel_error(EINVAL);
		irq->count = fake_kernel.model.irqs[irq->index].count;
		irq->flags = VFIO_IRQ_INFO_EVENTFD;
		return 0;
	case VFIO_DEVICE_SET_IRQS:
		return fake_kernel_set_irqs(fd, arg);
	case VFIO_DEVICE_RESET:
		if (!has_reset)
			return fake_kernel_error(EINVAL);
		if (fake_kernel.reset_error)
			return fake_kernel_error(fake_kernel.reset_error);
		fake_kernel.resets++;
		fake_kernel_retrain(fd);
		return 0;
	case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
		return fake_kernel_affected(arg);
	case VFIO_DEVICE_PCI_HOT_RESET:
		return fake_kernel_hot_reset(fd, arg);
	default:
		return fake_kernel_error(ENOTTY);
	}
}

static inline bool fake_kernel_ioctl(int fd, unsigned long request, void *arg, int *ret)
{
	switch (fd >= 0 && fd < FAKE_KERNEL_FDS ? fake_kernel.files[fd] : FAKE_NOTHING) {
	case FAKE_CONTAINER:
	case FAKE_IOMMUFD:
		*ret = fake_kernel_space(request, arg);
		return true;
	case FAKE_GROUP:
		*ret = fake_kernel_group(fd, request, arg);
		return true;
	case FAKE_DEVICE:
		*ret = fake_kernel_device(fd, request, arg);
		return true;
	case FAKE_NOTHING:
		break;
	}
	return false;
}

/* Two functions of one group, on vfio-pci, with everything that opening them looks at. */
static inline void fake_kernel_create(void)
{
	struct fake_sysfs *fs = &fake_kernel.fs;
	char path[PATH_MAX];
	int fd;

	memset(&fake_kernel, 0, sizeof(fake_kernel));
	fake_nvme(&fake_kernel.model);
	fake_release(&fake_kernel.model);
	fake_sysfs_create(fs);
	for (unsigned i = 0; i < 2; i++) {
		char bdf[16];

		snprintf(bdf, sizeof(bdf), "0000:01:00.%u", i);
		fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = bdf,
							   .class_code = 0x010802,
							   .group = FAKE_KERNEL_GROUP,
							   .driver = "vfio-pci" });
		snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/vfio-dev/vfio%u", bdf, i);
		fake_sysfs_folder(fs, path);
		snprintf(path, sizeof(path), "dev/vfio/devices/vfio%u", i);
		fake_sysfs_write(fs, path, "%s", "");
		fake_path(fs, fake_kernel.device_path, path);
		fd = open(fake_kernel.device_path, O_RDWR | O_CLOEXEC);
		if (fd < 0 || ftruncate(fd, VFIO_PCI_NUM_REGIONS * (off_t)MIB) ||
		    pwrite(fd, fake_kernel.model.config, sizeof(fake_kernel.model.config),
			   VFIO_PCI_CONFIG_REGION_INDEX * (off_t)MIB) < 0)
			fake_die("device", path);
		close(fd);
	}
	fake_sysfs_write(fs, "dev/vfio/vfio", "%s", "");
	fake_sysfs_write(fs, "dev/vfio/3", "%s", "");
	fake_sysfs_write(fs, "dev/iommu", "%s", "");
	faults_ioctl = fake_kernel_ioctl;
	faults_opened = fake_kernel_opened;
	faults_closing = fake_kernel_closing;
}

static inline void fake_kernel_destroy(void)
{
	faults_ioctl = NULL;
	faults_opened = NULL;
	faults_closing = NULL;
	fake_sysfs_destroy(&fake_kernel.fs);
}

#endif
