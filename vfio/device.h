/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel VFIO device: its cached regions and interrupts, and the pure parts that read and build
 * the kernel's structures. Private to vfio/.
 */
#ifndef VFIO_DEVICE_H
#define VFIO_DEVICE_H

#include "vfio/sysfs.h"
#include "vfio/vfio.h"

/* vfio-pci has 9 regions and 5 interrupt indexes; device-specific ones follow. */
#define VFIO_KERNEL_REGIONS_MAX 32
#define VFIO_KERNEL_IRQS_MAX	16
/* Most vectors of one VFIO_DEVICE_SET_IRQS: PCIe 6.0, 7.7.2 bounds an MSI-X table to 2048. */
#define VFIO_IRQ_SET_MAX 2048

/* A region info answer is asked for again with room up to this for its capability chain. */
#define VFIO_REGION_INFO_MAX 65536

struct vfio_group;

/* A PCI Express link; all zero where there is none or it is not known. */
struct vfio_link {
	unsigned width; /* lanes */
	unsigned mts;	/* speed in MT/s: 16.0 GT/s is 16000 */
};

struct vfio_kernel_region {
	struct vfio_region region;
	uint64_t file_offset; /* of the region in the device's file */
};

struct vfio_kernel_device {
	struct vfio_device device;
	struct iommu_space *space; /* borrowed, outlives the device */
	struct vfio_group *group;  /* type1: one reference; NULL with a cdev */
	int fd;
	bool attached; /* cdev: bound to and attached in @space */
	struct pci_address address;
	bool is_mdev; /* no PCI function of the host: @address is nothing, its name is its UUID */
	char *root;
	char reset_methods
		[64]; /* as sysfs had them at opening: a confined process cannot ask again */
	struct vfio_link link; /* as last seen */
	struct vfio_kernel_region regions[VFIO_KERNEL_REGIONS_MAX];
	struct vfio_irq irqs[VFIO_KERNEL_IRQS_MAX];
};

/*
 * vfio_region_parse() - read a VFIO_DEVICE_GET_REGION_INFO answer with its capability chain.
 * @info, @size: the buffer and how much of it was filled
 * @region: filled; the areas are inside the region, ascending or not as the kernel gave them
 *
 * Every offset and count in @info is taken as untrusted: an answer that points outside itself, a
 * chain that does not move forward or an area outside the region is -EINVAL; more areas than
 * VFIO_SPARSE_AREAS_MAX is -E2BIG.
 */
int vfio_region_parse(const void *info, size_t size, struct vfio_region *region);

/*
 * vfio_irq_set_build() - the argument of VFIO_DEVICE_SET_IRQS in @buf, ready for ioctl(2).
 * @irq_count: how many the index has (0: the index is not there)
 * Returns the size of the argument, -EINVAL for flags that say nothing or two things, a range
 * beyond the index or data missing, -E2BIG when it has more than VFIO_IRQ_SET_MAX entries.
 */
union vfio_irq_set_buffer {
	struct vfio_irq_set set;
	uint8_t bytes[sizeof(struct vfio_irq_set) + VFIO_IRQ_SET_MAX * sizeof(int32_t)];
};
ssize_t vfio_irq_set_build(union vfio_irq_set_buffer *buf, uint32_t irq_count, uint32_t flags,
			   uint32_t index, uint32_t start, uint32_t count, const void *data);

/*
 * vfio_region_range_ok() - whether [@offset, @offset + @count) lies in a region of @size bytes and
 * @count is not 0.
 */
bool vfio_region_range_ok(uint64_t size, uint64_t offset, uint64_t count);

/* vfio_region_mappable() - whether the range lies in one area that may be mmapped. */
bool vfio_region_mappable(const struct vfio_region *region, uint64_t offset, uint64_t size);

/*
 * vfio_kernel_device_query() - fill the head, regions and interrupts of a device whose @fd is open
 * and attached. Returns 0 or -errno ("bad-device").
 */
int vfio_kernel_device_query(struct vfio_kernel_device *kernel, struct error *e);

/*
 * vfio_group_find() - whether @space has group @id open: its descriptor (borrowed), and how many devices
 * of it are open.
 */
bool vfio_group_find(const struct iommu_space *space, unsigned id, int *fd, unsigned *devices);

/*
 * vfio_hot_reset() - reset the slot or bus of @kernel, when every function that this affects is either
 * among @devices or owned by this process and not open.
 * @covered: a bit for each of @devices that was reset
 * Returns 0 or -errno: "no-hot-reset", "hot-reset-not-owned" (names the functions in the way),
 * "hot-reset-failed". The text does not name @kernel.
 */
int vfio_hot_reset(struct vfio_kernel_device *kernel, struct vfio_device *const *devices,
		   unsigned count, uint64_t *covered, struct error *e);

/* vfio_link_parse() - sysfs's current_link_speed and current_link_width. */
struct vfio_link vfio_link_parse(const char *speed, const char *width);
/* vfio_link_sysfs() - the link as sysfs tells it, before the device is opened. */
struct vfio_link vfio_link_sysfs(const char *root, const struct pci_address *address);
/* vfio_link_read() - the link as the device's config space tells it. */
struct vfio_link vfio_link_read(struct vfio_device *device);
bool vfio_link_dropped(const struct vfio_link *before, const struct vfio_link *now);
/*
 * vfio_link_check() - warn when the link is worse than when it was last seen; then that is what it is.
 * @what: since when, for "before WHAT"
 */
void vfio_link_check(struct vfio_kernel_device *kernel, const char *what);

/* The table of kernel devices. */
extern const struct vfio_device_ops vfio_kernel_ops;

/* vfio_kernel_device_release() - detach and close in reverse order of opening, and free. */
void vfio_kernel_device_release(struct vfio_kernel_device *kernel);

#endif
