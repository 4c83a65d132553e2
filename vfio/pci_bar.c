// SPDX-License-Identifier: Apache-2.0
/*
 * BARs and the expansion ROM: how large and of what kind, where the guest has them decode, and its
 * accesses to what it cannot reach directly (pci_bar_map.c).
 *
 * Guest accesses that trap take no lock: what they look at is set before the function is used and
 * does not change, but for `enabled`, which is read once. The ROM is a copy made once, read-only.
 */
#include <errno.h>
#include <string.h>

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
	if (pci->rom) {
		pci->bars[VFIO_PCI_ROM].facts.size = pci->rom->size;
		pci->bars[VFIO_PCI_ROM].region_size = pci->rom->size;
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
	unsigned at = pci_bar_register(index);
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

/* What COMMAND switches on; the ROM has a switch of its own besides (PCI 3.0, 6.2.5.2). */
static bool decode_on(const struct vfio_pci *pci, unsigned index)
{
	uint16_t command = pci_get16(pci->config, PCI_COMMAND);

	if (index == VFIO_PCI_ROM && !(pci->config[PCI_ROM_ADDRESS] & PCI_ROM_ADDRESS_ENABLE))
		return false;
	return command & (pci->bars[index].facts.is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
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
	uint64_t address[VFIO_PCI_PLACES];
	bool wanted[VFIO_PCI_PLACES];

	/* All that go before any that come: two BARs may change places. */
	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++) {
		const struct vfio_pci_bar *facts = &pci->bars[i].facts;

		address[i] = facts->size ? bar_address(pci, i) : 0;
		wanted[i] = facts->size && decode_on(pci, i) && address_ok(facts, address[i]);
		if (!wanted[i] || address[i] != facts->gpa)
			bar_off(pci, i);
	}
	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
		if (wanted[i] && !pci->bars[i].facts.enabled)
			bar_on(pci, i, address[i]);
}

void pci_bars_off(struct vfio_pci *pci)
{
	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
		bar_off(pci, i);
}

const struct vfio_pci_bar *vfio_pci_bar(const struct vfio_pci *pci, unsigned bar)
{
	return bar < VFIO_PCI_PLACES ? &pci->bars[bar].facts : NULL;
}

void vfio_pci_set_bar(struct vfio_pci *pci, unsigned bar, uint64_t gpa)
{
	unsigned at = pci_bar_register(bar);
	struct vfio_pci_bar *facts;

	if (bar >= VFIO_PCI_PLACES || !pci->bars[bar].facts.size)
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

/* ---- guest accesses ------------------------------------------------------------------------ */

/* Of a size there is, wholly within what the device has, while the BAR decodes. */
static bool access_ok(const struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size)
{
	const struct pci_bar *in = bar < VFIO_PCI_PLACES ? &pci->bars[bar] : NULL;

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
	if (bar == VFIO_PCI_ROM)
		memcpy(bytes, pci->rom->data + offset, size);
	else if (pci->device->ops->region_read(pci->device, bar, offset, bytes, size) !=
		 (ssize_t)size)
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

	if (bar == VFIO_PCI_ROM || !access_ok(pci, bar, offset, size))
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
