// SPDX-License-Identifier: Apache-2.0
/*
 * BARs: how large and of what kind, where the guest has them decode, which parts of them it may reach
 * without leaving the guest, and its accesses to the rest.
 *
 * Every BAR that can be mapped gets its whole size reserved without access; the device is mapped over
 * the areas a guest may reach directly (whole pages, none of them holding MSI-X table or PBA). So an
 * error in an offset faults instead of reaching something else. The addresses are congruent with the
 * guest's (BARs are naturally aligned) up to 1 GiB, so that huge page table entries can be used.
 * The mappings last as long as the function: turning decode off only takes them from the guest.
 *
 * Guest accesses that trap take no lock: what they look at is set before the function is used and
 * does not change, but for `enabled`, which is read once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio/pci_internal.h"

#define PORT_SPACE_SIZE (64 * KIB)

/* ---- what there is ------------------------------------------------------------------------- */

int pci_bars_discover(struct vfio_pci *pci, struct error *e)
{
	struct vfio_device *device = pci->device;

	for (unsigned i = 0; i < VFIO_PCI_BARS; i++) {
		uint32_t reg = pci_get32(pci->original, PCI_BASE_ADDRESS_0 + 4 * i);
		struct vfio_pci_bar *facts = &pci->bars[i].facts;
		struct vfio_region region = { 0 };
		struct pci_bar_type type;
		const char *why = "";
		int ret = 0;

		if (i < device->region_count)
			ret = device->ops->get_region(device, i, &region);
		if (ret)
			return error_set(e, -ret, "bad-bar", NULL, "%s: BAR %u: %s", device->name,
					 i, strerror(-ret));
		if (!region.size)
			continue;
		facts->size = pci_bar_type_parse(reg, i, region.size, &type, &why);
		if (!facts->size)
			return error_set(e, EINVAL, "bad-bar", NULL,
					 "%s: BAR %u (register 0x%x, size 0x%llx): %s",
					 device->name, i, reg, (unsigned long long)region.size,
					 why);
		facts->is_io = type.is_io;
		facts->is_64 = type.is_64;
		facts->prefetchable = type.prefetchable;
		pci->bars[i].region_size = region.size;
		pci->decode_bits |= type.is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
		if (type.is_64)
			i++; /* the upper half is no BAR of its own */
	}
	return 0;
}

static bool is_upper_half(const struct vfio_pci *pci, unsigned index)
{
	return index && pci->bars[index - 1].facts.size && pci->bars[index - 1].facts.is_64;
}

uint32_t pci_bar_type_bits(const struct vfio_pci *pci, unsigned index)
{
	const struct vfio_pci_bar *facts = &pci->bars[index].facts;

	if (!facts->size)
		return 0;
	if (facts->is_io)
		return PCI_BASE_ADDRESS_SPACE_IO;
	return (facts->is_64 ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
	       (facts->prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
}

uint32_t pci_bar_writable(const struct vfio_pci *pci, unsigned index)
{
	const struct vfio_pci_bar *facts = &pci->bars[index].facts;

	if (is_upper_half(pci, index))
		return (uint32_t)(~(pci->bars[index - 1].facts.size - 1) >> 32);
	if (!facts->size)
		return 0;
	return (uint32_t)~(facts->size - 1);
}

/* ---- decode -------------------------------------------------------------------------------- */

static uint64_t bar_address(const struct vfio_pci *pci, unsigned index)
{
	unsigned at = PCI_BASE_ADDRESS_0 + 4 * index;
	uint64_t address = pci_get32(pci->config, at) & pci_bar_writable(pci, index);

	if (pci->bars[index].facts.is_64)
		address |= (uint64_t)pci_get32(pci->config, at + 4) << 32;
	return address;
}

/*
 * Whether an address can be decoded at all. Zero is "not assigned" on a PC, and all ones are what a
 * guest writes to learn the size, some with decode on.
 */
static bool address_ok(const struct vfio_pci_bar *facts, uint64_t address)
{
	uint64_t limit = facts->is_io	? PORT_SPACE_SIZE
			 : facts->is_64 ? UINT64_MAX
					: UINT64_C(0xffffffff);

	return address && address < limit && facts->size <= limit - address;
}

static void bar_off(struct vfio_pci *pci, unsigned index)
{
	struct vfio_pci_bar *facts = &pci->bars[index].facts;

	if (!facts->enabled)
		return;
	__atomic_store_n(&facts->enabled, false, __ATOMIC_RELEASE);
	pci->host->bar_update(pci->opaque, index, false, facts->gpa, facts->size, facts->is_io);
}

static void bar_on(struct vfio_pci *pci, unsigned index, uint64_t address)
{
	struct vfio_pci_bar *facts = &pci->bars[index].facts;

	facts->gpa = address;
	__atomic_store_n(&facts->enabled, true, __ATOMIC_RELEASE);
	pci->host->bar_update(pci->opaque, index, true, address, facts->size, facts->is_io);
}

void pci_bars_update(struct vfio_pci *pci)
{
	uint16_t command = pci_get16(pci->config, PCI_COMMAND);
	uint64_t address[VFIO_PCI_BARS];
	bool wanted[VFIO_PCI_BARS];

	/* All that go before any that come: two BARs may change places. */
	for (unsigned i = 0; i < VFIO_PCI_BARS; i++) {
		const struct vfio_pci_bar *facts = &pci->bars[i].facts;

		address[i] = facts->size ? bar_address(pci, i) : 0;
		wanted[i] = facts->size &&
			    command & (facts->is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY) &&
			    address_ok(facts, address[i]);
		if (!wanted[i] || address[i] != facts->gpa)
			bar_off(pci, i);
	}
	for (unsigned i = 0; i < VFIO_PCI_BARS; i++)
		if (wanted[i] && !pci->bars[i].facts.enabled)
			bar_on(pci, i, address[i]);
}

void pci_bars_off(struct vfio_pci *pci)
{
	for (unsigned i = 0; i < VFIO_PCI_BARS; i++)
		bar_off(pci, i);
}

const struct vfio_pci_bar *vfio_pci_bar(const struct vfio_pci *pci, unsigned bar)
{
	return bar < VFIO_PCI_BARS ? &pci->bars[bar].facts : NULL;
}

void vfio_pci_set_bar(struct vfio_pci *pci, unsigned bar, uint64_t gpa)
{
	unsigned at = PCI_BASE_ADDRESS_0 + 4 * bar;
	struct vfio_pci_bar *facts;

	if (bar >= VFIO_PCI_BARS || !pci->bars[bar].facts.size)
		return;
	facts = &pci->bars[bar].facts;
	pthread_mutex_lock(&pci->lock);
	gpa &= ~(facts->size - 1);
	bar_off(pci, bar);
	facts->gpa = gpa;
	pci_put32(pci->power_on, at, (uint32_t)gpa | pci_bar_type_bits(pci, bar));
	if (facts->is_64)
		pci_put32(pci->power_on, at + 4, (uint32_t)(gpa >> 32));
	memcpy(pci->config + at, pci->power_on + at, facts->is_64 ? 8 : 4);
	pthread_mutex_unlock(&pci->lock);
}

/* ---- host mappings ------------------------------------------------------------------------- */

/* @size bytes of address space without access, aligned to the BAR (at most 1 GiB). */
static void *reserve(uint64_t size, uint64_t page_size)
{
	uint64_t align = MAX(MIN(size, GIB), page_size), span;
	uintptr_t start, aligned;
	void *at;

	size = ALIGN_UP(size, page_size);
	span = size + align - page_size;
	at = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	start = (uintptr_t)at;
	aligned = ALIGN_UP(start, align);
	if (aligned > start)
		munmap(at, aligned - start);
	if (aligned + size < start + span)
		munmap((char *)at + (aligned - start) + size, start + span - aligned - size);
	return (char *)at + (aligned - start);
}

/*
 * Map the device over one area. A mapping that fails may have left a hole in the reservation; it is
 * filled again before something else of the process lands there and is taken for ours. Returns
 * false where even that failed and the reservation is to be given up.
 */
static bool map_area(struct vfio_pci *pci, unsigned index, void *hva, const struct vfio_area *area,
		     bool *mapped)
{
	struct vfio_device *device = pci->device;
	char *at = (char *)hva + area->offset;
	int ret = device->ops->region_mmap(device, index, area->offset, area->size, at);
	void *again;

	*mapped = !ret;
	if (!ret)
		return true;
	log_limited(LOG_LEVEL_WARN,
		    "%s: BAR %u + 0x%llx cannot be mapped (%s): its accesses trap, which is slow",
		    device->name, index, (unsigned long long)area->offset, strerror(-ret));
	again = mmap(at, area->size, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (again == at)
		return true;
	if (again == MAP_FAILED)
		return errno == EEXIST; /* the reservation (or part of it) is still there */
	munmap(again, area->size);
	return false;
}

static int bar_map(struct vfio_pci *pci, unsigned index, struct error *e)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	struct vfio_pci_bar *facts = &pci->bars[index].facts;
	struct vfio_area areas[ARRAY_SIZE(facts->areas)];
	struct vfio_device *device = pci->device;
	struct vfio_region region = { 0 };
	struct vfio_area holes[2] = { 0 };
	unsigned count, hole_count;
	void *hva;

	if (facts->is_io || !device->ops->region_mmap ||
	    device->ops->get_region(device, index, &region))
		return 0;
	/* The size was decided at discovery; a region that says otherwise now is not mapped. */
	if (region.size != pci->bars[index].region_size)
		return 0;
	hole_count = pci_msix_holes(pci, index, holes);
	count = pci_areas_carve(&region, holes, hole_count, page_size, areas, ARRAY_SIZE(areas));
	if (!count)
		return 0;
	hva = reserve(facts->size, page_size);
	if (!hva)
		return error_set(e, errno, "no-address-space", NULL,
				 "%s: BAR %u: reserving 0x%llx bytes of address space: %s",
				 device->name, index, (unsigned long long)facts->size,
				 strerror(errno));
	for (unsigned i = 0; i < count; i++) {
		bool mapped;

		if (!map_area(pci, index, hva, &areas[i], &mapped)) {
			/* Give back what lies around the piece that is no longer ours. */
			uint64_t end = areas[i].offset + areas[i].size;

			munmap(hva, areas[i].offset);
			munmap((char *)hva + end, ALIGN_UP(facts->size, page_size) - end);
			facts->area_count = 0;
			return 0;
		}
		if (mapped)
			facts->areas[facts->area_count++] = areas[i];
	}
	if (!facts->area_count) {
		munmap(hva, ALIGN_UP(facts->size, page_size));
		return 0;
	}
	facts->hva = hva;
	return 0;
}

/* Registers that take eventfds; those that do not lie in the BAR as said are left out. */
static int bar_doorbells(struct vfio_pci *pci, unsigned index, struct error *e)
{
	struct pci_bar *bar = &pci->bars[index];
	struct vfio_device *device = pci->device;
	struct vfio_io_fd *fds;
	unsigned kept = 0;
	int count;

	if (!device->ops->get_io_fds)
		return 0;
	fds = calloc(VFIO_IO_FDS_MAX, sizeof(*fds));
	if (!fds)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	count = device->ops->get_io_fds(device, index, fds);
	for (int i = 0; i < MIN(count, VFIO_IO_FDS_MAX); i++) {
		const struct vfio_io_fd *fd = &fds[i];
		bool size_ok = fd->size == 0 || fd->size == 1 || fd->size == 2 || fd->size == 4 ||
			       fd->size == 8;

		if (fd->fd < 0 || !size_ok || fd->offset >= bar->region_size ||
		    fd->size > bar->region_size - fd->offset ||
		    pci_msix_hit(pci, index, fd->offset, MAX(fd->size, 1u)))
			continue;
		fds[kept++] = *fd;
	}
	if (!kept) {
		free(fds);
		return 0;
	}
	bar->io_fds = fds;
	bar->facts.io_fds = fds;
	bar->facts.io_fd_count = kept;
	return 0;
}

int pci_bars_map(struct vfio_pci *pci, struct error *e)
{
	for (unsigned i = 0; i < VFIO_PCI_BARS; i++) {
		int ret = 0;

		if (!pci->bars[i].facts.size)
			continue;
		ret = bar_map(pci, i, e);
		if (!ret)
			ret = bar_doorbells(pci, i, e);
		if (ret)
			return ret;
	}
	return 0;
}

void pci_bars_unmap(struct vfio_pci *pci)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);

	for (unsigned i = 0; i < VFIO_PCI_BARS; i++) {
		struct pci_bar *bar = &pci->bars[i];

		if (bar->facts.hva)
			munmap(bar->facts.hva, ALIGN_UP(bar->facts.size, page_size));
		bar->facts.hva = NULL;
		bar->facts.area_count = 0;
		free(bar->io_fds);
		bar->io_fds = NULL;
		bar->facts.io_fds = NULL;
		bar->facts.io_fd_count = 0;
	}
}

/* ---- guest accesses ------------------------------------------------------------------------ */

/* Of a size there is, wholly within what the device has, while the BAR decodes. */
static bool access_ok(const struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size)
{
	const struct pci_bar *in = bar < VFIO_PCI_BARS ? &pci->bars[bar] : NULL;

	return in && (size == 1 || size == 2 || size == 4 || size == 8) &&
	       offset < in->region_size && size <= in->region_size - offset &&
	       __atomic_load_n(&in->facts.enabled, __ATOMIC_ACQUIRE);
}

uint64_t vfio_pci_bar_read(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size)
{
	uint64_t ones = size < 8 ? (UINT64_C(1) << 8 * size) - 1 : UINT64_MAX;
	uint8_t bytes[8];
	uint64_t value = 0;

	if (!access_ok(pci, bar, offset, size))
		return ones;
	if (pci_msix_hit(pci, bar, offset, size)) {
		pthread_mutex_lock(&pci->lock);
		value = pci_msix_read(pci, bar, offset, size);
		pthread_mutex_unlock(&pci->lock);
		return value;
	}
	if (pci->device->ops->region_read(pci->device, bar, offset, bytes, size) != (ssize_t)size)
		return ones;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)bytes[i] << 8 * i;
	return value;
}

void vfio_pci_bar_write(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size,
			uint64_t value)
{
	uint8_t bytes[8];
	ssize_t ret;

	if (!access_ok(pci, bar, offset, size))
		return;
	if (pci_msix_hit(pci, bar, offset, size)) {
		pthread_mutex_lock(&pci->lock);
		pci_msix_write(pci, bar, offset, size, value);
		pthread_mutex_unlock(&pci->lock);
		return;
	}
	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	ret = pci->device->ops->region_write(pci->device, bar, offset, bytes, size);
	if (ret != (ssize_t)size)
		log_limited(LOG_LEVEL_DEBUG, "%s: BAR %u + 0x%llx: a write of %u bytes failed",
			    pci->device->name, bar, (unsigned long long)offset, size);
}
