/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfio: a device looks like VFIO, whatever stands behind it.
 *
 * `struct vfio_device` is one operations table: regions with offsets and flags, sparse mmap areas,
 * interrupt indexes with eventfds, DMA map/unmap, reset. The kernel's devices (cdev and group) and
 * those of vfio-user servers are here; software devices (mdev/) answer the same table.
 * `struct vfio_pci` turns such a device into a virtualised PCI function: what a guest reads and
 * writes of config space, BARs and MSI-X tables is decided here, without knowing any hypervisor.
 *
 * Follows include/uapi/linux/vfio.h, whose constants and structures are used as they are, and PCI
 * Express Base 6.0 / PCI Local Bus 3.0.
 */
#ifndef VFIO_VFIO_H
#define VFIO_VFIO_H

#include <linux/vfio.h>

#include "base/base.h"
#include "iommu/iommu.h"

/* ---- the operations table ---------------------------------------------------------------- */

#define VFIO_SPARSE_AREAS_MAX 16
#define VFIO_IO_FDS_MAX	      64

struct vfio_area {
	uint64_t offset, size; /* within the region */
};

struct vfio_region {
	uint64_t size;
	uint32_t flags;	    /* VFIO_REGION_INFO_FLAG_READ | _WRITE | _MMAP */
	bool msix_mappable; /* VFIO_REGION_INFO_CAP_MSIX_MAPPABLE */
	/* What may be mmapped; one whole-region area when the device names none and has _MMAP. */
	unsigned area_count;
	struct vfio_area areas[VFIO_SPARSE_AREAS_MAX];
};

struct vfio_irq {
	uint32_t count;
	uint32_t flags; /* VFIO_IRQ_INFO_* */
};

/* A register whose writes the device takes by eventfd (vfio-user's VFIO_USER_DEVICE_GET_REGION_IO_FDS). */
struct vfio_io_fd {
	uint64_t offset;
	uint32_t size; /* 1, 2, 4, 8; 0 = any size */
	int fd;	       /* eventfd, borrowed: lives as long as the device */
	bool datamatch;
	uint64_t value;
};

struct vfio_device;

/*
 * Memory of a device's own that it wants seen in one of its regions for a while, as a vGPU's host-visible
 * blobs are in its window. Whole pages; seen readable and writable.
 */
struct vfio_region_map {
	uint32_t index; /* of a BAR's region */
	uint64_t offset, size;
	int fd; /* of memory: memfd, tmpfs, hugetlbfs, dma-buf; borrowed for the call */
	uint64_t fd_offset;
	/*
	 * Both sides change single bits of words in it by atomic instructions. For whoever shows it by accesses, which
	 * are no such instructions (mdev/server/server_trap.c); memory that is mapped needs nothing.
	 */
	bool is_atomic;
};

/* The outcome of what a mapper could not do at once: 0 or -errno. */
typedef void (*vfio_mapped)(void *token, int result);

/*
 * Who shows it: the hypervisor's glue, or a vfio-user server that passes it on. Any thread; neither
 * waits for the guest or a peer. Both return 0 when it is done, -EINPROGRESS when @done will be called with @token, once,
 * from any thread and perhaps before this returns, or another -errno. Without @done it is never -EINPROGRESS.
 */
struct vfio_mapper {
	/* -EEXIST: something is there; -ENOSPC: too many; -EINVAL: not in a region, not whole pages. */
	int (*map)(void *opaque, const struct vfio_region_map *map, vfio_mapped done, void *token);
	/* Exactly what was mapped, else -ENOENT. */
	int (*unmap)(void *opaque, uint32_t index, uint64_t offset, uint64_t size, vfio_mapped done,
		     void *token);
};

struct vfio_device_ops {
	/*
	 * All return 0 (or a byte count for the two accessors) or -errno. An operation that is NULL
	 * is not supported by this kind of device. Region accessors may be called by any thread;
	 * everything else by one thread at a time.
	 */
	int (*get_region)(struct vfio_device *device, uint32_t index, struct vfio_region *region);
	ssize_t (*region_read)(struct vfio_device *device, uint32_t index, uint64_t offset,
			       void *buf, size_t count);
	ssize_t (*region_write)(struct vfio_device *device, uint32_t index, uint64_t offset,
				const void *buf, size_t count);
	/*
	 * Map @size bytes at @offset of the region, shared, over [@at, @at + @size), which the
	 * caller has reserved (MAP_FIXED). NULL op: nothing of this device can be mapped.
	 */
	int (*region_mmap)(struct vfio_device *device, uint32_t index, uint64_t offset,
			   uint64_t size, void *at);
	int (*get_irq)(struct vfio_device *device, uint32_t index, struct vfio_irq *irq);
	/*
	 * VFIO_DEVICE_SET_IRQS with @flags as in vfio.h; @data is an array of @count int32 eventfds
	 * (VFIO_IRQ_SET_DATA_EVENTFD, borrowed by the kernel, dup'ed by software devices), of
	 * @count bools, or NULL.
	 */
	int (*set_irqs)(struct vfio_device *device, uint32_t flags, uint32_t index, uint32_t start,
			uint32_t count, const void *data);
	int (*reset)(struct vfio_device *device);
	/*
	 * Guest memory for devices that do not sit behind an iommu_space (software devices,
	 * vfio-user): @hva may be used until dma_unmap() returns. Kernel devices: NULL.
	 */
	int (*dma_map)(struct vfio_device *device, uint64_t iova, uint64_t size, void *hva, int fd,
		       uint64_t fd_offset);
	int (*dma_unmap)(struct vfio_device *device, uint64_t iova, uint64_t size);
	/* Fills up to VFIO_IO_FDS_MAX entries for a region; returns how many. May be NULL. */
	int (*get_io_fds)(struct vfio_device *device, uint32_t index, struct vfio_io_fd *fds);
	/*
	 * The file that region_mmap() maps, for whoever does it in another process: a descriptor (borrowed),
	 * with where the region begins in it, or -errno. Sealed against shrinking. NULL: there is none.
	 */
	int (*region_file)(struct vfio_device *device, uint32_t index, uint64_t *offset);
	/*
	 * From now on @mapper (borrowed) shows the device's memory in its regions; NULL: nobody does. The one
	 * before is not called any more once this returns. NULL op: the device never asks.
	 */
	void (*set_mapper)(struct vfio_device *device, const struct vfio_mapper *mapper,
			   void *opaque);
	/* Start what threads serve it; vfio_device_start() says when. NULL: it has none. */
	int (*start)(struct vfio_device *device, struct error *e);
	void (*close)(struct vfio_device *device);
};

/* The head of every kind of device; kinds embed it first. */
struct vfio_device {
	const struct vfio_device_ops *ops;
	char name[64];	       /* for messages: "0000:01:00.0", "virtio-blk.0" */
	uint32_t region_count; /* VFIO_PCI_CONFIG_REGION_INDEX etc. are below it */
	uint32_t irq_count;
	uint32_t flags; /* VFIO_DEVICE_FLAGS_*: _RESET when reset() works, _PCI */
};

/*
 * vfio_device_open() - open a kernel VFIO device and attach it to @space.
 * @root: prefix of /sys and /dev; "" for the real ones
 * @space: type1 spaces open the group, iommufd spaces the cdev; must outlive the device
 *
 * Returns 0 or -errno: "no-such-device", "is-a-bridge", "not-bound-to-vfio" (names the driver it
 * is bound to and the bind command), "group-not-viable", "device-in-use", "permission-denied".
 * Open resets the function (vfio_pci_core_enable()). Devices of one space are opened and closed by
 * one thread at a time.
 */
int vfio_device_open(const char *root, const struct pci_address *address, struct iommu_space *space,
		     struct vfio_device **out, struct error *e);
/*
 * vfio_mdev_open() - the same for a mediated device of the kernel's, by its UUID
 * (Documentation/driver-api/vfio-mediated-device.rst). It has no address on a bus, no link and no reset method in sysfs: what a reset does
 * is its parent's driver's. Its group is its own; only its driver decides what of @space it touches.
 *
 * Returns 0 or -errno: "no-such-device", "not-bound-to-vfio", "no-iommu-group", "device-in-use", "permission-denied".
 */
int vfio_mdev_open(const char *root, const char *uuid, struct iommu_space *space,
		   struct vfio_device **out, struct error *e);
/*
 * vfio_device_start() - start the device's threads: once, before the guest runs. Until then the
 * device answers its caller's thread, but hears neither doorbells nor its peer. So a process can
 * open everything, then confine itself, and have no thread that was there before.
 * Returns 0 or -errno; the device is to be closed in any case.
 */
int vfio_device_start(struct vfio_device *device, struct error *e);
/* vfio_device_close() - detaches and closes; NULL is fine. Unmap its regions before. */
void vfio_device_close(struct vfio_device *device);
/*
 * vfio_device_file() - the descriptor a hypervisor is told of (KVM_DEV_VFIO_FILE_ADD): the group
 * (type1) or the cdev (iommufd). Borrowed; -1 where no kernel device stands behind @device.
 */
int vfio_device_file(const struct vfio_device *device);
/*
 * vfio_device_reset() - function reset with the method (sysfs reset_method, where there is one) and
 * the time it took logged. -ENOTTY when the device has no way to be reset alone.
 */
int vfio_device_reset(struct vfio_device *device, struct error *e);
/*
 * vfio_devices_reset() - reset everything that a VM has, while nothing of it runs: each device alone, all
 * at once (threads of kind "reset"), or, where that is not possible or fails, with its slot or bus. The kernel grants that when all that it affects
 * is owned; here it must also be among @devices or not open. Method and time are logged; a link that
 * is slower or narrower afterwards is a warning, and so is a device that cannot be reset at all, with the
 * functions in the way. All are tried. At most 64.
 * Returns 0 or the first -errno ("reset-failed").
 */
int vfio_devices_reset(struct vfio_device *const *devices, unsigned count, struct error *e);

/*
 * vfio_user_open() - connect to the vfio-user server that listens on the UNIX socket @path, agree on a
 * version and learn what its device is (vfio-user Protocol Specification 0.9.2; docs/vfio-user.md).
 * Guest memory reaches it by dma_map(), whose fd the server is handed; without one it asks for bytes
 * by messages. From vfio_device_start() on a thread of the device's own reads the socket until close();
 * the server's own requests are answered from then on, or during calls.
 *
 * The server is not trusted: every request has a time limit, and what does not follow the protocol
 * ends the connection. Requests under way then fail with the cause, later ones with -ENODEV.
 *
 * Returns 0 or -errno: "no-vfio-user-socket" (no server there), "vfio-user-version" (no agreement),
 * "bad-device" (what the server says of its device cannot be, or it is no PCI function).
 */
int vfio_user_open(const char *path, struct vfio_device **out, struct error *e);
/*
 * vfio_user_open_fd() - the same over a connected stream socket.
 * @fd: taken over, on failure too
 * @name: for messages, copied
 */
int vfio_user_open_fd(int fd, const char *name, struct vfio_device **out, struct error *e);

/* ---- binding ------------------------------------------------------------------------------ */

/*
 * vfio_bind() - put every endpoint of @address's isolation group on vfio-pci by driver_override
 * (never new_id), after checking that nothing holds them; the drivers they had are remembered in
 * STATE_DIR (one file a group) and restored by vfio_unbind(). The sysfs writes happen in a child
 * process that is killed after @timeout_ms. On failure what was changed is put back.
 * @root: prefix of /sys, /proc, /dev
 * @state_dir: "/var/lib/divvy/bind" by default (NULL)
 *
 * Returns 0 or -errno: "no-such-device", "is-a-bridge", "device-in-use" (names process, pid and
 * the file it holds), "driver-missing" (vfio-pci not loaded and not loadable), "bind-timeout".
 */
int vfio_bind(const char *root, const char *state_dir, const struct pci_address *address,
	      unsigned timeout_ms, struct error *e);
int vfio_unbind(const char *root, const char *state_dir, const struct pci_address *address,
		unsigned timeout_ms, struct error *e);

/*
 * vfio_precheck() - everything that stands in the way of assigning @address, as facts: existence,
 * bridge, iommu_precheck(), driver and holders, reset methods, BAR sizes, memlock for @memory_size
 * bytes of guest RAM (0: not checked), power state. Never fails; appends to @findings.
 */
void vfio_precheck(const char *root, const struct pci_address *address, uint64_t memory_size,
		   struct findings *findings);

/* ---- expansion ROMs ------------------------------------------------------------------------ */

#define VFIO_ROM_MAX (16 * MIB) /* PCI Local Bus 3.0, 6.2.5.2 */

struct vfio_rom;

/*
 * vfio_rom_load() - the contents of an expansion ROM, read once.
 * @path: a file; NULL: the device's own (memory decode is switched on for it and back). The device
 *        is asked nothing when a file is given.
 *
 * Returns 0 or -errno: "no-rom" (the device has none), "rom-unreadable", "bad-rom" (does not begin
 * with the signature 55 AA, or is larger than VFIO_ROM_MAX). Freed by vfio_rom_free(); NULL is fine.
 */
int vfio_rom_load(struct vfio_device *device, const char *path, struct vfio_rom **out,
		  struct error *e);
void vfio_rom_free(struct vfio_rom *rom);

/* ---- a virtualised PCI function ----------------------------------------------------------- */

#define VFIO_PCI_BARS	     6
#define VFIO_PCI_ROM	     VFIO_PCI_ROM_REGION_INDEX /* the expansion ROM, as one more BAR */
#define VFIO_PCI_PLACES	     (VFIO_PCI_BARS + 1)       /* BARs and ROM */
#define VFIO_PCI_VECTORS_MAX 2048 /* PCIe 6.0, 7.7.2: 11 bits of table size, plus one */
#define VFIO_PCI_CONFIG_SIZE 4096

struct vfio_pci;

struct vfio_pci_vector {
	uint64_t address; /* MSI message; meaningful when !masked */
	uint32_t data;
	bool masked; /* vector mask, function mask or disabled */
};

/*
 * What the function needs of the hypervisor. Called with the function's lock held, from the thread
 * whose config or BAR access caused it; must not call back into the same function.
 */
struct vfio_pci_host_ops {
	/*
	 * BAR (or ROM) @bar now decodes [gpa, gpa + size) (enabled), or nothing (not enabled; gpa is where
	 * it was). Directly mapped areas of it are in vfio_pci_bar(). Called only on changes, old
	 * decode off before new decode on.
	 */
	void (*bar_update)(void *opaque, unsigned bar, bool enabled, uint64_t gpa, uint64_t size,
			   bool is_io);
	/*
	 * Deliver vectors [first, first + count) as @vectors say: for each that is not masked,
	 * eventfd @eventfds[i] must raise that MSI; for a masked one it must not (the event stays
	 * pending in the eventfd). One call a change of the guest, whatever the number of vectors,
	 * so that routing is updated once. Returns 0 or -errno.
	 */
	int (*msi_update)(void *opaque, unsigned first, unsigned count,
			  const struct vfio_pci_vector *vectors, const int *eventfds);
	/* All message vectors are off: forget their routes. */
	void (*msi_release)(void *opaque);
	/*
	 * INTx: @trigger raises the function's pin level, @resample is signalled at EOI. Both -1:
	 * take it down. Returns 0 or -errno.
	 */
	int (*intx_update)(void *opaque, int trigger, int resample);
};

struct vfio_pci_options {
	bool intx; /* offer INTx (pin in config space) when the device has it */
	/*
	 * Let the guest reach vendor-specific capabilities of a kernel device too. Nobody but the
	 * vendor knows what is behind them; off unless a driver is known to need it. Software
	 * devices (those with dma_map()) always show theirs: virtio is made of them.
	 */
	bool allow_vendor_capability;
	const struct vfio_rom *rom; /* shown as expansion ROM, borrowed; NULL: there is none */
	/*
	 * NVIDIA's GPUDirect P2P clique: functions of one clique (0-15) may be told by the guest's
	 * driver to use each other's memory. "bad-option" where the function is no such GPU.
	 */
	bool in_p2p_clique;
	uint8_t p2p_clique;
};

struct vfio_pci_bar {
	uint64_t size; /* power of two; 0: not there */
	bool is_io, is_64, prefetchable;
	uint64_t gpa; /* current decode */
	bool enabled;
	/*
	 * Reserved host mapping of the whole BAR (PROT_NONE where trapped), aligned like the guest
	 * address modulo MIN(size, 1 GiB); NULL when nothing of it is mapped.
	 */
	void *hva;
	unsigned area_count; /* page-aligned parts that a guest may reach directly */
	struct vfio_area areas[VFIO_SPARSE_AREAS_MAX * 2];
	unsigned io_fd_count; /* registers that take eventfds */
	const struct vfio_io_fd *io_fds;
};

/*
 * vfio_pci_create() - take one snapshot of config space, filter it (permission tables, capability
 * allow-list: PM, MSI, MSI-X, PCIe, vendor-specific on software devices; of the extended ones,
 * resizable BARs with their present size), find BARs, carve MSI-X table and PBA out of what is mapped.
 * @device: borrowed; must outlive the function
 * @host, @opaque: borrowed
 *
 * Returns 0 or -errno ("config-unreadable", "bad-bar", "bad-msix", "bad-option"...). One lock a function; every
 * call below may come from any thread.
 */
int vfio_pci_create(struct vfio_device *device, const struct vfio_pci_options *options,
		    const struct vfio_pci_host_ops *host, void *opaque, struct vfio_pci **out,
		    struct error *e);
/* Disables interrupts and decode, unmaps; the device stays open. */
void vfio_pci_destroy(struct vfio_pci *pci);

/*
 * vfio_pci_reset() - back to power-on as the guest sees it: decode off, interrupts off, config
 * space as in the snapshot (BAR addresses as given by vfio_pci_set_bar()), and the device reset.
 */
int vfio_pci_reset(struct vfio_pci *pci, struct error *e);

/* vfio_pci_bar() - facts of one BAR or of VFIO_PCI_ROM; the pointer is stable, its gpa/enabled change under the lock. */
const struct vfio_pci_bar *vfio_pci_bar(const struct vfio_pci *pci, unsigned bar);
/* vfio_pci_set_bar() - the VMM's own placement, before the guest runs; no decode yet. */
void vfio_pci_set_bar(struct vfio_pci *pci, unsigned bar, uint64_t gpa);
/* vfio_pci_set_intx_line() - Interrupt Line, and whether pin INTA# is shown. */
void vfio_pci_set_intx_line(struct vfio_pci *pci, uint8_t line);
/* vfio_pci_has_intx() - whether the guest sees an interrupt pin. */
bool vfio_pci_has_intx(const struct vfio_pci *pci);
/* vfio_pci_set_header() - multi-function bit of the header type, for whole slots. */
void vfio_pci_set_multifunction(struct vfio_pci *pci, bool multifunction);

/*
 * Guest accesses. @size is 1, 2, 4 (8 too on BARs); others and out-of-range read all-ones and write
 * nothing. A BAR access while memory decode is off reads all-ones.
 */
uint32_t vfio_pci_config_read(struct vfio_pci *pci, uint16_t offset, unsigned size);
void vfio_pci_config_write(struct vfio_pci *pci, uint16_t offset, unsigned size, uint32_t value);
uint64_t vfio_pci_bar_read(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size);
void vfio_pci_bar_write(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size,
			uint64_t value);

/*
 * vfio_pci_map_ok() - whether [@offset, @offset + @size) of @bar may be shown as memory: whole pages of a
 * memory BAR, in what the device has of it, with no MSI-X table, pending bit, doorbell or area that is
 * mapped for good. Any thread.
 */
bool vfio_pci_map_ok(const struct vfio_pci *pci, uint32_t bar, uint64_t offset, uint64_t size);

/*
 * vfio_pci_error_fd(), vfio_pci_request_fd() - eventfds armed on VFIO_PCI_ERR_IRQ_INDEX and
 * VFIO_PCI_REQ_IRQ_INDEX: readable when the device reported an uncorrectable error, or when the host
 * asks for it back. -1 where the device has no such index. Borrowed.
 */
int vfio_pci_error_fd(const struct vfio_pci *pci);
int vfio_pci_request_fd(const struct vfio_pci *pci);

#endif
