// SPDX-License-Identifier: Apache-2.0
/*
 * MSI-X (PCIe 6.0, 7.7.2): the table and the pending bits, emulated wherever in the BARs they lie.
 *
 * The device's own table belongs to the kernel; the guest's is an array here. A guest that changes an
 * entry changes what the host raises for the vector's eventfd and nothing in the device, which has all
 * its vectors enabled once for as long as the guest has MSI-X enabled. Pages that hold table or PBA
 * are never mapped (pci_areas_carve()); other registers in them are forwarded by pci_bar.c.
 *
 * The specification knows aligned accesses of 4 and 8 bytes; others are undefined and here simply
 * reach the bytes they name. Bytes of an access that lie beside table and PBA read as ones and take
 * no write: forwarding half of an access could do to the device what the guest did not ask for.
 */
#include <errno.h>
#include <stdlib.h>

#include "vfio/pci_internal.h"

#define WORDS_PER_ENTRY (PCI_MSIX_ENTRY_SIZE / 4)
#define WORD_ADDRESS	(PCI_MSIX_ENTRY_LOWER_ADDR / 4)
#define WORD_UPPER	(PCI_MSIX_ENTRY_UPPER_ADDR / 4)
#define WORD_DATA	(PCI_MSIX_ENTRY_DATA / 4)
#define WORD_CONTROL	(PCI_MSIX_ENTRY_VECTOR_CTRL / 4)

/* The range lies in a memory BAR that is there, aligned as its register's type makes it. */
static bool place_ok(const struct vfio_pci *pci, unsigned bar, uint64_t offset, uint64_t size)
{
	const struct pci_bar *in = bar < VFIO_PCI_BARS ? &pci->bars[bar] : NULL;

	return in && in->facts.size && !in->facts.is_io && offset < in->facts.size &&
	       size <= in->facts.size - offset;
}

int pci_msix_init(struct vfio_pci *pci, struct error *e)
{
	struct pci_msix_place *place = &pci->msix;
	unsigned available = pci_irq_count(pci, VFIO_PCI_MSIX_IRQ_INDEX);

	/* A device that can raise none (or has no such capability) shows none. */
	if (!pci->caps.msix || !available)
		return 0;
	pci_msix_place_parse(pci->original, pci->caps.msix, place);
	if (!place_ok(pci, place->table_bar, place->table_offset, place->table_size) ||
	    !place_ok(pci, place->pba_bar, place->pba_offset, place->pba_size))
		return error_set(
			e, EINVAL, "bad-msix", NULL,
			"%s: MSI-X of %u vectors: table at BAR %u + 0x%llx, pending bits at "
			"BAR %u + 0x%llx: not within memory BARs of the device",
			pci->device->name, place->count, place->table_bar,
			(unsigned long long)place->table_offset, place->pba_bar,
			(unsigned long long)place->pba_offset);
	if (place->table_bar == place->pba_bar &&
	    place->table_offset < place->pba_offset + place->pba_size &&
	    place->pba_offset < place->table_offset + place->table_size)
		return error_set(e, EINVAL, "bad-msix", NULL,
				 "%s: MSI-X table (BAR %u + 0x%llx, %u vectors) and pending bits "
				 "(+ 0x%llx) overlap",
				 pci->device->name, place->table_bar,
				 (unsigned long long)place->table_offset, place->count,
				 (unsigned long long)place->pba_offset);

	pci->msix_table = calloc(place->count, PCI_MSIX_ENTRY_SIZE);
	if (!pci->msix_table)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory",
				 pci->device->name);
	pci->msix_count = MIN(place->count, available);
	pci_msix_reset(pci);
	return 0;
}

void pci_msix_reset(struct vfio_pci *pci)
{
	for (unsigned i = 0; i < pci->msix.count; i++) {
		uint32_t *entry = &pci->msix_table[i * WORDS_PER_ENTRY];

		entry[WORD_ADDRESS] = entry[WORD_UPPER] = entry[WORD_DATA] = 0;
		entry[WORD_CONTROL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
}

static uint16_t control(const struct vfio_pci *pci)
{
	return pci_get16(pci->config, pci->caps.msix->offset + PCI_MSIX_FLAGS);
}

bool pci_msix_enabled(const struct vfio_pci *pci)
{
	return pci->msix.count && control(pci) & PCI_MSIX_FLAGS_ENABLE;
}

void pci_msix_message(const struct vfio_pci *pci, unsigned index, struct vfio_pci_vector *vector)
{
	const uint32_t *entry = &pci->msix_table[index * WORDS_PER_ENTRY];

	vector->address = (uint64_t)entry[WORD_UPPER] << 32 | entry[WORD_ADDRESS];
	vector->data = entry[WORD_DATA];
	vector->masked = entry[WORD_CONTROL] & PCI_MSIX_ENTRY_CTRL_MASKBIT ||
			 control(pci) & PCI_MSIX_FLAGS_MASKALL;
}

unsigned pci_msix_holes(const struct vfio_pci *pci, unsigned bar, struct vfio_area holes[2])
{
	const struct pci_msix_place *place = &pci->msix;
	unsigned count = 0;

	if (place->count && bar == place->table_bar)
		holes[count++] = (struct vfio_area){ place->table_offset, place->table_size };
	if (place->count && bar == place->pba_bar)
		holes[count++] = (struct vfio_area){ place->pba_offset, place->pba_size };
	return count;
}

static bool within(uint64_t at, uint64_t start, uint64_t size)
{
	return at >= start && at - start < size;
}

static bool overlaps(uint64_t offset, unsigned size, uint64_t start, uint64_t length)
{
	return offset < start + length && start < offset + size;
}

bool pci_msix_hit(const struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size)
{
	const struct pci_msix_place *place = &pci->msix;

	return place->count && ((bar == place->table_bar &&
				 overlaps(offset, size, place->table_offset, place->table_size)) ||
				(bar == place->pba_bar &&
				 overlaps(offset, size, place->pba_offset, place->pba_size)));
}

/* The 64 pending bits that hold byte @at of the PBA; asked once for neighbouring bytes. */
struct pending_cache {
	bool valid;
	unsigned first;
	uint64_t bits;
};

static uint8_t pending_byte(struct vfio_pci *pci, struct pending_cache *cache, uint64_t at)
{
	unsigned first = (unsigned)(at / 8 * 64);

	if (!cache->valid || cache->first != first) {
		cache->valid = true;
		cache->first = first;
		cache->bits = pci->irq_mode == PCI_IRQ_MSIX ? pci_vectors_pending(pci, first) : 0;
	}
	return (uint8_t)(cache->bits >> at % 8 * 8);
}

uint64_t pci_msix_read(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size)
{
	const struct pci_msix_place *place = &pci->msix;
	struct pending_cache cache = { 0 };
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++) {
		uint64_t at = offset + i;
		uint8_t byte = 0xff;

		if (bar == place->table_bar && within(at, place->table_offset, place->table_size)) {
			at -= place->table_offset;
			byte = (uint8_t)(pci->msix_table[at / 4] >> at % 4 * 8);
		} else if (bar == place->pba_bar &&
			   within(at, place->pba_offset, place->pba_size)) {
			byte = pending_byte(pci, &cache, at - place->pba_offset);
		}
		value |= (uint64_t)byte << 8 * i;
	}
	return value;
}

void pci_msix_write(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size,
		    uint64_t value)
{
	const struct pci_msix_place *place = &pci->msix;
	unsigned first = UINT32_MAX, last = 0;

	/* The pending bits are read-only; what is written there is undefined (7.7.2.6). */
	if (bar != place->table_bar)
		return;
	for (unsigned i = 0; i < size; i++) {
		uint64_t at = offset + i;
		uint32_t *word, mask, writable = UINT32_MAX;

		if (!within(at, place->table_offset, place->table_size))
			continue;
		at -= place->table_offset;
		word = &pci->msix_table[at / 4];
		if (at / 4 % WORDS_PER_ENTRY == WORD_ADDRESS)
			writable = ~UINT32_C(3);
		else if (at / 4 % WORDS_PER_ENTRY == WORD_CONTROL)
			writable = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		mask = writable & UINT32_C(0xff) << at % 4 * 8;
		*word = (*word & ~mask) | ((uint32_t)(value >> 8 * i & 0xff) << at % 4 * 8 & mask);
		first = MIN(first, (unsigned)(at / PCI_MSIX_ENTRY_SIZE));
		last = (unsigned)(at / PCI_MSIX_ENTRY_SIZE);
	}
	if (first <= last && pci->irq_mode == PCI_IRQ_MSIX)
		pci_vectors_update(pci, first, last - first + 1);
}
