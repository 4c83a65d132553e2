// SPDX-License-Identifier: Apache-2.0
/*
 * Memory of a device's own that it shows in a BAR for a while (struct vfio_mapper): a vGPU's host-visible
 * blobs in its window. Each is a mapping of ours and, while the BAR decodes, a memory slot.
 *
 * The device asks from a thread of its own, or of the client that speaks for it; a guest moves the BAR meanwhile.
 * The function's decode lock is what they have in common: below it nothing waits for a device or a
 * guest. So a device may ask while a vCPU waits for its answer with the function's lock held.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "hypervisor-glue/pci_internal.h"

static struct pci_map *find(struct pci_maps *maps, unsigned bar, uint64_t offset, uint64_t size)
{
	for (unsigned i = 0; i < maps->count; i++) {
		struct pci_map *map = &maps->items[i];

		if (map->bar == bar && offset < map->offset + map->size &&
		    map->offset < offset + size)
			return map;
	}
	return NULL;
}

static int show(struct vm *vm, struct pci_map *map, uint64_t gpa)
{
	int ret = vm_slot_add(vm, gpa + map->offset, map->size, map->hva);

	map->shown = !ret;
	return ret;
}

/* A slot that KVM keeps ends the VM (vm_slot_remove()): what lies behind it is about to go. */
static void hide(struct vm *vm, struct pci_map *map, uint64_t gpa)
{
	if (map->shown)
		vm_slot_remove(vm, gpa + map->offset);
	map->shown = false;
}

int pci_maps_add(struct pci_maps *maps, struct vm *vm, const struct vfio_region_map *asked,
		 bool decoded, uint64_t gpa)
{
	struct pci_map *map;
	void *hva;
	int ret = 0;

	if (maps->count == PCI_MAPS_MAX)
		return -ENOSPC;
	if (find(maps, asked->index, asked->offset, asked->size))
		return -EEXIST;
	hva = mmap(NULL, asked->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, asked->fd,
		   (off_t)asked->fd_offset);
	if (hva == MAP_FAILED)
		return -errno;
	map = &maps->items[maps->count];
	*map = (struct pci_map){
		.bar = asked->index, .offset = asked->offset, .size = asked->size, .hva = hva
	};
	if (decoded)
		ret = show(vm, map, gpa);
	if (ret)
		munmap(hva, asked->size);
	else
		maps->count++;
	return ret;
}

int pci_maps_remove(struct pci_maps *maps, struct vm *vm, unsigned bar, uint64_t offset,
		    uint64_t size, uint64_t gpa)
{
	struct pci_map *map = find(maps, bar, offset, size);

	if (!map || map->offset != offset || map->size != size)
		return -ENOENT;
	hide(vm, map, gpa);
	munmap(map->hva, map->size);
	*map = maps->items[--maps->count];
	return 0;
}

void pci_maps_show(struct pci_maps *maps, struct vm *vm, unsigned bar, uint64_t gpa,
		   const char *name)
{
	for (unsigned i = 0; i < maps->count; i++) {
		struct pci_map *map = &maps->items[i];
		int ret = map->bar == bar ? show(vm, map, gpa) : 0;

		if (ret)
			log_limited(LOG_LEVEL_WARN,
				    "%s: BAR %u: what the device shows at 0x%llx is not seen: %s",
				    name, bar, (unsigned long long)(gpa + map->offset),
				    strerror(-ret));
	}
}

void pci_maps_hide(struct pci_maps *maps, struct vm *vm, unsigned bar, uint64_t gpa)
{
	for (unsigned i = 0; i < maps->count; i++)
		if (maps->items[i].bar == bar)
			hide(vm, &maps->items[i], gpa);
}

void pci_maps_release(struct pci_maps *maps)
{
	for (unsigned i = 0; i < maps->count; i++)
		munmap(maps->items[i].hva, maps->items[i].size);
	maps->count = 0;
}
