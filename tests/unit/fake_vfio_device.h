/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A made-up VFIO device and a made-up hypervisor, for what turns the one into a function of the other.
 *
 * The device has a config space in an array, BARs in sparse memfds (so that what is written through a
 * mapping is read back through the region), eventfds that a test can signal, a record of what it was
 * asked, and a counter by which its n-th operation fails. The hypervisor keeps what it was told and
 * counts what it should never have been told (`wrong`). Config spaces of four real kinds of device
 * are built below: NVMe, e1000e, edu (conventional), and a GPU with large BARs.
 */
#ifndef TESTS_FAKE_VFIO_DEVICE_H
#define TESTS_FAKE_VFIO_DEVICE_H

#include <dirent.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio/vfio.h"

#define FAKE_BAR_NAME "divvy-fake-bar" /* as /proc/self/maps shows it */
#define FAKE_IRQS     5
#define FAKE_EVENTS   64

struct fake_device {
	struct vfio_device device;
	uint8_t config[VFIO_PCI_CONFIG_SIZE];
	struct vfio_region regions[VFIO_PCI_NUM_REGIONS];
	int memory[VFIO_PCI_PLACES]; /* memfds, 0: none */
	struct vfio_irq irqs[FAKE_IRQS];
	unsigned armed[FAKE_IRQS]; /* how many eventfds an index has */
	int32_t fds[FAKE_IRQS][VFIO_PCI_VECTORS_MAX];
	int32_t unmask_fd;
	unsigned most_vectors;	      /* more than these at once are refused; 0: no limit */
	int refusal;		      /* what the refusal says; 0: how many there are */
	unsigned long calls, fail_at; /* 1-based; 0: never */
	unsigned set_irqs_calls, resets, bar_reads, bar_writes, config_writes;
	uint64_t last_offset;
	unsigned last_size;
	int reset_result;
	struct vfio_io_fd io_fds[4];
	unsigned io_fd_count;
};

static inline bool fake_fails(struct fake_device *fake)
{
	return ++fake->calls == fake->fail_at;
}

static inline struct fake_device *fake_of(struct vfio_device *device)
{
	return container_of(device, struct fake_device, device);
}

static inline int fake_get_region(struct vfio_device *device, uint32_t index,
				  struct vfio_region *region)
{
	if (fake_fails(fake_of(device)))
		return -EIO;
	*region = fake_of(device)->regions[index];
	return 0;
}

static inline bool fake_range_ok(const struct vfio_region *region, uint64_t offset, uint64_t count)
{
	return offset < region->size && count <= region->size - offset;
}

static inline ssize_t fake_region_read(struct vfio_device *device, uint32_t index, uint64_t offset,
				       void *buf, size_t count)
{
	struct fake_device *fake = fake_of(device);

	if (fake_fails(fake))
		return -EIO;
	fake->bar_reads += index != VFIO_PCI_CONFIG_REGION_INDEX;
	if (!fake_range_ok(&fake->regions[index], offset, count))
		return -EINVAL;
	if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
		memcpy(buf, fake->config + offset, count);
		return (ssize_t)count;
	}
	/* The kernel reads a ROM only while it was told to decode memory. */
	if (index == VFIO_PCI_ROM_REGION_INDEX && !(fake->config[PCI_COMMAND] & PCI_COMMAND_MEMORY))
		return -EIO;
	fake->last_offset = offset;
	fake->last_size = (unsigned)count;
	return pread(fake->memory[index], buf, count, (off_t)offset);
}

static inline ssize_t fake_region_write(struct vfio_device *device, uint32_t index, uint64_t offset,
					const void *buf, size_t count)
{
	struct fake_device *fake = fake_of(device);

	if (fake_fails(fake))
		return -EIO;
	fake->bar_writes += index != VFIO_PCI_CONFIG_REGION_INDEX;
	if (!fake_range_ok(&fake->regions[index], offset, count))
		return -EINVAL;
	if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
		fake->config_writes++;
		memcpy(fake->config + offset, buf, count);
		return (ssize_t)count;
	}
	fake->last_offset = offset;
	fake->last_size = (unsigned)count;
	return pwrite(fake->memory[index], buf, count, (off_t)offset);
}

static inline int fake_region_mmap(struct vfio_device *device, uint32_t index, uint64_t offset,
				   uint64_t size, void *at)
{
	struct fake_device *fake = fake_of(device);

	if (fake_fails(fake)) {
		munmap(at, size); /* older kernels leave such a hole */
		return -EAGAIN;
	}
	if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
		 fake->memory[index], (off_t)offset) == MAP_FAILED)
		return -errno;
	return 0;
}

static inline int fake_get_irq(struct vfio_device *device, uint32_t index, struct vfio_irq *irq)
{
	if (fake_fails(fake_of(device)))
		return -EIO;
	*irq = fake_of(device)->irqs[index];
	return 0;
}

static inline int fake_set_irqs(struct vfio_device *device, uint32_t flags, uint32_t index,
				uint32_t start, uint32_t count, const void *data)
{
	struct fake_device *fake = fake_of(device);
	bool off = flags == (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER) && !count;

	fake->set_irqs_calls++;
	/* Taking down is not made to fail: the kernel's cannot. */
	if (off) {
		fake->armed[index] = 0;
		return 0;
	}
	if (fake_fails(fake))
		return -EBUSY;
	if (!(flags & VFIO_IRQ_SET_DATA_EVENTFD) || start || count > fake->irqs[index].count)
		return -EINVAL;
	if (flags & VFIO_IRQ_SET_ACTION_UNMASK) {
		if (index != VFIO_PCI_INTX_IRQ_INDEX || !fake->armed[index])
			return -EINVAL;
		memcpy(&fake->unmask_fd, data, sizeof(fake->unmask_fd));
		return 0;
	}
	/* One kind of interrupt at a time. */
	for (uint32_t other = VFIO_PCI_INTX_IRQ_INDEX; other <= VFIO_PCI_MSIX_IRQ_INDEX; other++)
		if (index <= VFIO_PCI_MSIX_IRQ_INDEX && other != index && fake->armed[other])
			return -EINVAL;
	if (fake->most_vectors && count > fake->most_vectors)
		return fake->refusal ? fake->refusal : (int)fake->most_vectors;
	memcpy(fake->fds[index], data, count * sizeof(int32_t));
	fake->armed[index] = count;
	return 0;
}

static inline int fake_reset(struct vfio_device *device)
{
	if (fake_fails(fake_of(device)))
		return -EIO;
	fake_of(device)->resets++;
	return fake_of(device)->reset_result;
}

static inline int fake_get_io_fds(struct vfio_device *device, uint32_t index,
				  struct vfio_io_fd *fds)
{
	struct fake_device *fake = fake_of(device);

	if (index)
		return 0;
	memcpy(fds, fake->io_fds, fake->io_fd_count * sizeof(fds[0]));
	return (int)fake->io_fd_count;
}

static inline int fake_dma_map(struct vfio_device *device, uint64_t iova, uint64_t size, void *hva,
			       int fd, uint64_t fd_offset)
{
	return 0;
}

static const struct vfio_device_ops fake_kernel_ops = {
	.get_region = fake_get_region,
	.region_read = fake_region_read,
	.region_write = fake_region_write,
	.region_mmap = fake_region_mmap,
	.get_irq = fake_get_irq,
	.set_irqs = fake_set_irqs,
	.reset = fake_reset,
	.get_io_fds = fake_get_io_fds,
};

/* A device of software: nothing can be mapped, guest memory is handed to it. */
static const struct vfio_device_ops fake_software_ops = {
	.get_region = fake_get_region,
	.region_read = fake_region_read,
	.region_write = fake_region_write,
	.get_irq = fake_get_irq,
	.set_irqs = fake_set_irqs,
	.reset = fake_reset,
	.dma_map = fake_dma_map,
};

static inline void fake_put(struct fake_device *fake, unsigned offset, unsigned size,
			    uint32_t value)
{
	for (unsigned i = 0; i < size; i++)
		fake->config[offset + i] = (uint8_t)(value >> 8 * i);
}

static inline uint32_t fake_get(const struct fake_device *fake, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)fake->config[offset + i] << 8 * i;
	return value;
}

static inline void fake_init(struct fake_device *fake, uint32_t id, uint32_t class_code,
			     uint32_t config_size)
{
	memset(fake, 0, sizeof(*fake));
	fake->device.ops = &fake_kernel_ops;
	snprintf(fake->device.name, sizeof(fake->device.name), "0000:01:00.0");
	fake->device.region_count = VFIO_PCI_NUM_REGIONS;
	fake->device.irq_count = FAKE_IRQS;
	fake->device.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	fake->regions[VFIO_PCI_CONFIG_REGION_INDEX].size = config_size;
	fake_put(fake, PCI_VENDOR_ID, 4, id);
	fake_put(fake, PCI_CLASS_REVISION, 4, class_code << 8 | 2);
	fake_put(fake, PCI_SUBSYSTEM_VENDOR_ID, 4, 0x11001af4);
	fake_put(fake, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	fake_put(fake, PCI_BIST, 1, 0x80);
	fake_put(fake, PCI_ROM_ADDRESS, 4, 0xfffe0001);
	fake->irqs[VFIO_PCI_ERR_IRQ_INDEX].count = 1;
	fake->irqs[VFIO_PCI_REQ_IRQ_INDEX].count = 1;
}

/* A BAR of @size with @bits in its register; mappable as a whole. */
static inline void fake_bar(struct fake_device *fake, unsigned index, uint64_t size, uint32_t bits)
{
	struct vfio_region *region = &fake->regions[index];

	fake_put(fake, PCI_BASE_ADDRESS_0 + 4 * index, 4, 0xf0000000 | bits);
	region->size = size;
	region->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	if (!(bits & PCI_BASE_ADDRESS_SPACE_IO)) {
		region->flags |= VFIO_REGION_INFO_FLAG_MMAP;
		region->area_count = 1;
		region->areas[0] = (struct vfio_area){ 0, size };
	}
	fake->memory[index] = memfd_create(FAKE_BAR_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fake->memory[index] < 0 || ftruncate(fake->memory[index], (off_t)size))
		fake->memory[index] = 0;
}

/* An expansion ROM of @size bytes that begins with its signature. */
static inline void fake_rom(struct fake_device *fake, uint64_t size)
{
	struct vfio_region *region = &fake->regions[VFIO_PCI_ROM_REGION_INDEX];
	const uint8_t head[] = { 0x55, 0xaa, 0x40 };
	int fd = memfd_create(FAKE_BAR_NAME, MFD_CLOEXEC);

	*region = (struct vfio_region){ .size = size, .flags = VFIO_REGION_INFO_FLAG_READ };
	if (fd < 0 || ftruncate(fd, (off_t)size) || pwrite(fd, head, sizeof(head), 0) < 0)
		region->size = 0;
	fake->memory[VFIO_PCI_ROM_REGION_INDEX] = fd;
}

/* A resizable-BAR capability at @at of extended space; for BAR @index, of 1 MiB << @exponent. */
static inline void fake_rebar(struct fake_device *fake, unsigned at, unsigned next,
			      unsigned entries, unsigned index, unsigned exponent)
{
	fake_put(fake, at, 4, PCI_EXT_CAP_ID_REBAR | 1 << 16 | next << 20);
	fake_put(fake, at + PCI_REBAR_CAP, 4, 0xfffffff0);
	fake_put(fake, at + PCI_REBAR_CTRL, 4,
		 index | entries << PCI_REBAR_CTRL_NBAR_SHIFT |
			 exponent << PCI_REBAR_CTRL_BAR_SHIFT);
}

static inline void fake_release(struct fake_device *fake)
{
	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
		if (fake->memory[i])
			close(fake->memory[i]);
}

static inline void fake_capability(struct fake_device *fake, unsigned at, uint8_t id, uint8_t next)
{
	fake->config[at] = id;
	fake->config[at + 1] = next;
}

static inline void fake_msix(struct fake_device *fake, unsigned at, uint8_t next, unsigned count,
			     uint32_t table, uint32_t pba)
{
	fake_capability(fake, at, PCI_CAP_ID_MSIX, next);
	fake_put(fake, at + PCI_MSIX_FLAGS, 2, count - 1);
	fake_put(fake, at + PCI_MSIX_TABLE, 4, table);
	fake_put(fake, at + PCI_MSIX_PBA, 4, pba);
	fake->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = count;
}

static inline void fake_pcie(struct fake_device *fake, unsigned at, uint8_t next, unsigned version)
{
	fake_capability(fake, at, PCI_CAP_ID_EXP, next);
	fake_put(fake, at + PCI_EXP_FLAGS, 2, version);
	fake_put(fake, at + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_FLR | 0x8001);
	fake_put(fake, at + PCI_EXP_DEVCTL, 2, 0x2810);
	fake_put(fake, at + PCI_EXP_LNKCAP, 4, 0x00000411);
	fake_put(fake, at + PCI_EXP_LNKSTA, 2, 0x0011);
	if (version >= 2)
		fake_put(fake, at + PCI_EXP_DEVCAP2, 4, 0x1f);
}

static inline void fake_pm(struct fake_device *fake, unsigned at, uint8_t next)
{
	fake_capability(fake, at, PCI_CAP_ID_PM, next);
	fake_put(fake, at + PCI_PM_PMC, 2, 0xfe23); /* D1, D2, PME from everywhere, DSI */
	fake_put(fake, at + PCI_PM_CTRL, 2, 0x0100);
}

/* NVMe: registers and MSI-X table in one 64-bit BAR. */
static inline void fake_nvme(struct fake_device *fake)
{
	fake_init(fake, 0x00101b36, 0x010802, 4096);
	fake_put(fake, PCI_INTERRUPT_PIN, 1, 1);
	fake_put(fake, PCI_CAPABILITY_LIST, 1, 0x40);
	fake_msix(fake, 0x40, 0x80, 65, 0x2000, 0x3000);
	fake_pcie(fake, 0x80, 0x60, 2);
	fake_pm(fake, 0x60, 0);
	fake_put(fake, 0x100, 4, 0x00010001); /* AER */
	fake_bar(fake, 0, 0x4000, PCI_BASE_ADDRESS_MEM_TYPE_64);
	fake->irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
}

/* e1000e (82574L): memory, flash, I/O, and MSI-X in a BAR of its own; MSI too. */
static inline void fake_e1000e(struct fake_device *fake)
{
	fake_init(fake, 0x10d38086, 0x020000, 4096);
	fake_put(fake, PCI_INTERRUPT_PIN, 1, 1);
	fake_put(fake, PCI_CAPABILITY_LIST, 1, 0xc8);
	fake_pm(fake, 0xc8, 0xd0);
	fake_capability(fake, 0xd0, PCI_CAP_ID_MSI, 0xe0);
	fake_put(fake, 0xd0 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_64BIT);
	fake_pcie(fake, 0xe0, 0xa0, 1);
	fake_msix(fake, 0xa0, 0, 5, 0x0003, 0x2003);
	fake_bar(fake, 0, 0x20000, 0);
	fake_bar(fake, 1, 0x20000, 0);
	fake_bar(fake, 2, 0x20, PCI_BASE_ADDRESS_SPACE_IO);
	fake_bar(fake, 3, 0x4000, 0);
	fake->irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
	fake->irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 1;
}

/* QEMU's edu: conventional PCI, one BAR, MSI. */
static inline void fake_edu(struct fake_device *fake)
{
	fake_init(fake, 0x11e81234, 0x00ff00, 256);
	fake_put(fake, PCI_INTERRUPT_PIN, 1, 1);
	fake_put(fake, PCI_CAPABILITY_LIST, 1, 0x40);
	fake_capability(fake, 0x40, PCI_CAP_ID_MSI, 0);
	fake_put(fake, 0x40 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_64BIT);
	fake_bar(fake, 0, 0x100000, 0);
	fake->irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
	fake->irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 1;
	fake->irqs[VFIO_PCI_ERR_IRQ_INDEX].count = 0;
}

/* A data-centre GPU: registers, 8 GiB of memory behind a 64-bit BAR, MSI with masks, MSI-X. */
static inline void fake_gpu(struct fake_device *fake)
{
	const uint32_t pref64 = PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH;

	fake_init(fake, 0x233010de, 0x030200, 4096);
	fake_put(fake, PCI_CAPABILITY_LIST, 1, 0x60);
	fake_pm(fake, 0x60, 0x68);
	fake_capability(fake, 0x68, PCI_CAP_ID_MSI, 0x84);
	fake_put(fake, 0x68 + PCI_MSI_FLAGS, 2,
		 PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 4 << 1);
	fake_pcie(fake, 0x84, 0xc0, 2);
	fake_capability(fake, 0xc0, PCI_CAP_ID_VNDR, 0xc8);
	fake_put(fake, 0xc2, 2, 0x4208);
	fake_msix(fake, 0xc8, 0, 6, 0x00b90000, 0x00ba0000);
	fake_bar(fake, 0, 16 * MIB, 0);
	fake_bar(fake, 1, 8 * GIB, pref64);
	fake_bar(fake, 3, 32 * MIB, pref64);
	fake_bar(fake, 5, 128, PCI_BASE_ADDRESS_SPACE_IO);
	fake->irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 16;
}

/* ---- the hypervisor ------------------------------------------------------------------------ */

struct fake_bar_event {
	unsigned bar;
	bool enabled;
	uint64_t gpa;
};

struct fake_host {
	bool decoded[VFIO_PCI_PLACES];
	uint64_t gpa[VFIO_PCI_PLACES];
	unsigned event_count;
	struct fake_bar_event events[FAKE_EVENTS];
	unsigned msi_updates, msi_releases, intx_updates;
	unsigned last_first, last_count;
	struct vfio_pci_vector vectors[VFIO_PCI_VECTORS_MAX];
	int eventfds[VFIO_PCI_VECTORS_MAX]; /* of vectors that are delivered; 0: none */
	int trigger, resample;		    /* 0 or -1: down */
	unsigned long calls, fail_at;	    /* of what may fail */
	unsigned wrong;			    /* what must never be said */
};

static inline void fake_bar_update(void *opaque, unsigned bar, bool enabled, uint64_t gpa,
				   uint64_t size, bool is_io)
{
	struct fake_host *host = opaque;

	if (bar >= VFIO_PCI_PLACES || !size || size & (size - 1) || gpa & (size - 1)) {
		host->wrong++;
		return;
	}
	/* Only changes, and off where it was on. */
	if (host->decoded[bar] == enabled || (!enabled && host->gpa[bar] != gpa))
		host->wrong++;
	host->decoded[bar] = enabled;
	host->gpa[bar] = gpa;
	if (host->event_count < FAKE_EVENTS)
		host->events[host->event_count++] = (struct fake_bar_event){ bar, enabled, gpa };
}

static inline int fake_msi_update(void *opaque, unsigned first, unsigned count,
				  const struct vfio_pci_vector *vectors, const int *eventfds)
{
	struct fake_host *host = opaque;

	host->msi_updates++;
	if (++host->calls == host->fail_at)
		return -ENOSPC;
	if (!count || first + count > VFIO_PCI_VECTORS_MAX) {
		host->wrong++;
		return -EINVAL;
	}
	host->last_first = first;
	host->last_count = count;
	for (unsigned i = 0; i < count; i++) {
		if (eventfds[i] < 0)
			host->wrong++;
		host->vectors[first + i] = vectors[i];
		host->eventfds[first + i] = vectors[i].masked ? 0 : eventfds[i];
	}
	return 0;
}

static inline void fake_msi_release(void *opaque)
{
	struct fake_host *host = opaque;

	host->msi_releases++;
	memset(host->vectors, 0, sizeof(host->vectors));
	memset(host->eventfds, 0, sizeof(host->eventfds));
}

static inline int fake_intx_update(void *opaque, int trigger, int resample)
{
	struct fake_host *host = opaque;

	host->intx_updates++;
	if (trigger >= 0 && ++host->calls == host->fail_at)
		return -ENOSPC;
	if ((trigger < 0) != (resample < 0))
		host->wrong++;
	host->trigger = trigger;
	host->resample = resample;
	return 0;
}

static const struct vfio_pci_host_ops fake_host_ops = {
	.bar_update = fake_bar_update,
	.msi_update = fake_msi_update,
	.msi_release = fake_msi_release,
	.intx_update = fake_intx_update,
};

/* How many vectors the hypervisor would deliver. */
static inline unsigned fake_host_delivered(const struct fake_host *host)
{
	unsigned count = 0;

	for (unsigned i = 0; i < VFIO_PCI_VECTORS_MAX; i++)
		count += host->eventfds[i] > 0;
	return count;
}

/* A function over @fake; NULL when it is refused. */
static inline struct vfio_pci *fake_function_with(struct fake_device *fake, struct fake_host *host,
						  const struct vfio_pci_options *options,
						  struct error *e)
{
	struct vfio_pci *pci = NULL;

	memset(host, 0, sizeof(*host));
	vfio_pci_create(&fake->device, options, &fake_host_ops, host, &pci, e);
	return pci;
}

/* The same with INTx offered and nothing else. */
static inline struct vfio_pci *fake_function(struct fake_device *fake, struct fake_host *host)
{
	return fake_function_with(fake, host, &(struct vfio_pci_options){ .intx = true }, NULL);
}

/* ---- what leaks ---------------------------------------------------------------------------- */

static inline unsigned fake_open_fds(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	while (folder && readdir(folder))
		count++;
	if (folder)
		closedir(folder);
	return count;
}

/* Mappings of fake BARs, and reservations: lines of /proc/self/maps without any access. */
static inline unsigned fake_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned count = 0;

	while (maps && fgets(line, sizeof(line), maps))
		count += strstr(line, FAKE_BAR_NAME) != NULL;
	if (maps)
		fclose(maps);
	return count;
}

/* Size of the process's address space in pages: a reservation left behind shows. */
static inline unsigned long fake_address_space(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (statm && fscanf(statm, "%lu", &pages) != 1)
		pages = 0;
	if (statm)
		fclose(statm);
	return pages;
}

#endif
