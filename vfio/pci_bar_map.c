// SPDX-License-Identifier: Apache-2.0
/*
 * Host mappings of BARs: which parts of them a guest may reach without leaving the guest.
 *
 * Every BAR that can be mapped gets its whole size reserved without access; the device is mapped over
 * the areas a guest may reach directly (whole pages, none of them holding MSI-X table or PBA). So an
 * error in an offset faults instead of reaching something else. The addresses are congruent with the
 * guest's (BARs are naturally aligned) up to 1 GiB, so that huge page table entries can be used.
 * The mappings last as long as the function: turning decode off only takes them from the guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio/pci_internal.h"

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

static bool overlaps(const struct vfio_area *area, uint64_t offset, uint64_t size)
{
	return area->size && offset < area->offset + area->size && area->offset < offset + size;
}

bool vfio_pci_map_ok(const struct vfio_pci *pci, uint32_t bar, uint64_t offset, uint64_t size)
{
	const uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	struct vfio_area holes[2] = { 0 };
	const struct vfio_pci_bar *facts;

	if (bar >= VFIO_PCI_BARS || !size || (offset | size) & (page_size - 1))
		return false;
	facts = &pci->bars[bar].facts;
	if (facts->is_io || offset >= pci->bars[bar].region_size ||
	    size > pci->bars[bar].region_size - offset)
		return false;
	pci_msix_holes(pci, bar, holes);
	for (unsigned i = 0; i < ARRAY_SIZE(holes); i++)
		if (overlaps(&holes[i], offset, size))
			return false;
	for (unsigned i = 0; i < facts->area_count; i++)
		if (overlaps(&facts->areas[i], offset, size))
			return false;
	for (unsigned i = 0; i < facts->io_fd_count; i++) {
		const struct vfio_area doorbell = { facts->io_fds[i].offset,
						    MAX(facts->io_fds[i].size, 1u) };

		if (overlaps(&doorbell, offset, size))
			return false;
	}
	return true;
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
