// SPDX-License-Identifier: Apache-2.0
/*
 * The MSI capability (PCI Local Bus 3.0, 6.8.1): 1 to 32 vectors whose messages differ in the low
 * bits of the data, with or without 64-bit address and per-vector masks. All of it is virtual: the
 * kernel programs the real one; the guest's decides what the host raises for each eventfd.
 */
#include "vfio/pci_internal.h"

/* Where the registers lie after the flags depends on the flags (6.8.1). */
struct msi_layout {
	unsigned flags, address, address_high, data, mask, pending; /* 0: not there */
};

static struct msi_layout layout_of(const struct vfio_pci *pci)
{
	unsigned at = pci->caps.msi->offset;
	uint16_t flags = pci_get16(pci->original, at + PCI_MSI_FLAGS);
	bool is_64 = flags & PCI_MSI_FLAGS_64BIT, maskable = flags & PCI_MSI_FLAGS_MASKBIT;

	return (struct msi_layout){
		.flags = at + PCI_MSI_FLAGS,
		.address = at + PCI_MSI_ADDRESS_LO,
		.address_high = is_64 ? at + PCI_MSI_ADDRESS_HI : 0,
		.data = at + (is_64 ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32),
		.mask = maskable ? at + (is_64 ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32) : 0,
		.pending = maskable ? at + (is_64 ? PCI_MSI_PENDING_64 : PCI_MSI_PENDING_32) : 0,
	};
}

static uint32_t low_bits(unsigned count)
{
	return count >= 32 ? UINT32_MAX : (UINT32_C(1) << count) - 1;
}

void pci_msi_init(struct vfio_pci *pci)
{
	unsigned offered, available;

	if (!pci->caps.msi)
		return;
	/* The encodings 6 and 7 are reserved. */
	offered = (pci_get16(pci->original, pci->caps.msi->offset + PCI_MSI_FLAGS) &
		   PCI_MSI_FLAGS_QMASK) >>
		  1;
	offered = MIN(1u << offered, (unsigned)PCI_MSI_VECTORS_MAX);
	available = pci_irq_count(pci, VFIO_PCI_MSI_IRQ_INDEX);
	while (offered > available)
		offered /= 2;
	pci->msi_count = offered;
}

void pci_msi_config(struct vfio_pci *pci)
{
	const struct msi_layout l = layout_of(pci);
	uint16_t flags = pci_get16(pci->original, l.flags);

	flags &= PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT;
	flags |= (uint16_t)(__builtin_ctz(pci->msi_count) << 1);
	pci_put16(pci->power_on, l.flags, flags);
	pci_put16(pci->writable, l.flags, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	pci_put32(pci->writable, l.address, ~UINT32_C(3));
	if (l.address_high)
		pci_put32(pci->writable, l.address_high, UINT32_MAX);
	pci_put16(pci->writable, l.data, UINT16_MAX);
	if (l.mask)
		pci_put32(pci->writable, l.mask, low_bits(pci->msi_count));
}

bool pci_msi_enabled(const struct vfio_pci *pci)
{
	return pci->msi_count &&
	       pci_get16(pci->config, pci->caps.msi->offset + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE;
}

unsigned pci_msi_wanted(const struct vfio_pci *pci)
{
	unsigned log2 = (pci_get16(pci->config, pci->caps.msi->offset + PCI_MSI_FLAGS) &
			 PCI_MSI_FLAGS_QSIZE) >>
			4;

	/* More than offered is a guest's error: it gets what there is. */
	return MIN(1u << log2, pci->msi_count);
}

void pci_msi_message(const struct vfio_pci *pci, unsigned index, struct vfio_pci_vector *vector)
{
	const struct msi_layout l = layout_of(pci);
	uint16_t data = pci_get16(pci->config, l.data);

	vector->address = pci_get32(pci->config, l.address);
	if (l.address_high)
		vector->address |= (uint64_t)pci_get32(pci->config, l.address_high) << 32;
	/* The function modifies the low bits of the data to tell its vectors apart (6.8.1.6). */
	vector->data = (data & ~(pci_msi_wanted(pci) - 1)) | index;
	vector->masked = l.mask && pci_get32(pci->config, l.mask) >> index & 1;
}

void pci_msi_refresh(struct vfio_pci *pci)
{
	struct msi_layout l;

	if (!pci->msi_count)
		return;
	l = layout_of(pci);
	if (l.pending)
		pci_put32(pci->config, l.pending,
			  pci->irq_mode == PCI_IRQ_MSI ? (uint32_t)pci_vectors_pending(pci, 0) : 0);
}
