// SPDX-License-Identifier: Apache-2.0
/*
 * Extended config space (from 0x100 on): an allow-list of one, the resizable-BAR capability.
 *
 * A guest's driver that finds it asks it how large its BAR could be made; resizing is the host's to do,
 * before a device is bound. So each BAR is shown to have one possible size, the one it has, and the
 * control register is read-only: a write of another size is undefined by the specification anyway (PCIe
 * 6.0, 7.8.6). Where a size is outside 1 MiB to 512 GiB, which the register's 20 bits name and of
 * which it must name one, the capability is hidden as a whole. QEMU shows it in the same way.
 */
#include "vfio/pci_internal.h"

#define REBAR_ENTRY_SIZE 8
#define REBAR_BARS_MAX	 6
#define REBAR_SIZE_MIN	 MIB
#define REBAR_SIZE_MAX	 (512 * GIB)
/* An extended capability takes at least its head: no list has more steps. */
#define EXTENDED_STEPS_MAX ((VFIO_PCI_CONFIG_SIZE - PCI_CONFIG_SNAPSHOT_SIZE) / 4)

_Static_assert(PCI_EXTENDED_SHOWN_SIZE == 4 + REBAR_BARS_MAX * REBAR_ENTRY_SIZE, "all of them");

static bool device_read32(struct vfio_pci *pci, unsigned at, uint32_t *value)
{
	uint8_t bytes[4];

	if (at > pci->config_size - 4 ||
	    pci->device->ops->region_read(pci->device, VFIO_PCI_CONFIG_REGION_INDEX, at, bytes,
					  4) != 4)
		return false;
	*value = pci_get32(bytes, 0);
	return true;
}

/* Where the device has the extended capability @id; 0: nowhere. */
static unsigned find(struct vfio_pci *pci, uint16_t id)
{
	unsigned at = PCI_CONFIG_SNAPSHOT_SIZE;
	uint32_t head;

	for (unsigned step = 0; step < EXTENDED_STEPS_MAX; step++) {
		if (!device_read32(pci, at, &head) || !head || head == UINT32_MAX)
			return 0;
		if (PCI_EXT_CAP_ID(head) == id)
			return at;
		at = PCI_EXT_CAP_NEXT(head) & ~3u;
		if (at < PCI_CONFIG_SNAPSHOT_SIZE)
			return 0;
	}
	return 0;
}

/* What the guest finds for one BAR: its size as the only one. False where that cannot be said. */
static bool entry_make(const struct vfio_pci *pci, uint32_t control, unsigned count, uint8_t *entry)
{
	unsigned index = control & PCI_REBAR_CTRL_BAR_IDX, exponent;
	const struct vfio_pci_bar *facts;

	if (index >= VFIO_PCI_BARS)
		return false;
	/* The size is the BAR's, not what the register says of it. */
	facts = &pci->bars[index].facts;
	if (facts->is_io || facts->size < REBAR_SIZE_MIN || facts->size > REBAR_SIZE_MAX)
		return false;
	exponent = (unsigned)__builtin_ctzll(facts->size / MIB);
	pci_put32(entry, 0, UINT32_C(1) << (exponent + 4));
	pci_put32(entry, 4,
		  index | count << PCI_REBAR_CTRL_NBAR_SHIFT |
			  exponent << PCI_REBAR_CTRL_BAR_SHIFT);
	return true;
}

void pci_extended_init(struct vfio_pci *pci)
{
	uint8_t shown[PCI_EXTENDED_SHOWN_SIZE] = { 0 };
	uint32_t control = 0;
	unsigned at, count;

	if (pci->config_size < VFIO_PCI_CONFIG_SIZE)
		return;
	at = find(pci, PCI_EXT_CAP_ID_REBAR);
	if (!at || !device_read32(pci, at + PCI_REBAR_CTRL, &control))
		return;
	/* The number of entries is told by the first. */
	count = (control & PCI_REBAR_CTRL_NBAR_MASK) >> PCI_REBAR_CTRL_NBAR_SHIFT;
	if (!count || count > REBAR_BARS_MAX)
		return;
	pci_put32(shown, 0, PCI_EXT_CAP_ID_REBAR | 1 << 16);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *entry = shown + 4 + i * REBAR_ENTRY_SIZE;

		if (!device_read32(pci, at + PCI_REBAR_CTRL + i * REBAR_ENTRY_SIZE, &control) ||
		    !entry_make(pci, control, i ? 0 : count, entry)) {
			log_limited(LOG_LEVEL_DEBUG,
				    "%s: its resizable-BAR capability is hidden: a size outside "
				    "1 MiB to 512 GiB, or a BAR that is not there",
				    pci->device->name);
			return;
		}
	}
	for (unsigned i = 0; i < sizeof(shown); i++)
		pci->extended[i] = shown[i];
}

uint32_t pci_extended_read(const struct vfio_pci *pci, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	/* A list that begins with zero has nothing in it (PCIe 6.0, 7.6.3). */
	for (unsigned i = 0; i < size; i++) {
		unsigned at = offset + i - PCI_CONFIG_SNAPSHOT_SIZE;

		if (at < sizeof(pci->extended))
			value |= (uint32_t)pci->extended[at] << 8 * i;
	}
	return value;
}
