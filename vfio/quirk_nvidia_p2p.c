// SPDX-License-Identifier: Apache-2.0
/*
 * NVIDIA's GPUDirect P2P clique. In a VM the guest's driver keeps PCIe peer-to-peer off, since it cannot
 * know which GPUs reach each other through the host's fabric; a capability that a VMM adds tells it:
 * GPUs that show one clique number may. The BARs must be mapped for each other's DMA too (--p2p).
 *
 * Eight bytes, vendor-specific (id 09h): length 8, 'P' '2' 'P', then the clique in bits 6:3 and version
 * 0 in bits 2:0 of the next byte, then zero. At C8h or, where that is taken (MSI-X, since Turing), at
 * D4h; last in the list; on display functions only. As in QEMU's hw/vfio/pci-quirks.c, which names
 * NVIDIA's documents, and Cloud Hypervisor's docs/vfio.md.
 */
#include <errno.h>
#include <string.h>

#include "vfio/quirk.h"

#define VENDOR_NVIDIA	   0x10de
#define BASE_CLASS_DISPLAY 0x03
#define CLIQUE_MAX	   15
#define CLIQUE_SHIFT	   3

static int probe(const struct vfio_pci *pci, const struct vfio_pci_options *options,
		 struct error *e)
{
	uint16_t vendor = pci_get16(pci->original, PCI_VENDOR_ID);
	uint8_t base_class = pci->original[PCI_CLASS_DEVICE + 1];

	if (!options->in_p2p_clique)
		return 0;
	if (vendor != VENDOR_NVIDIA || base_class != BASE_CLASS_DISPLAY)
		return error_set(
			e, EINVAL, "bad-option", "leave clique= out for this function",
			"%s: a P2P clique is for NVIDIA's display functions, this is one of "
			"vendor %04x, base class %02x",
			pci->device->name, vendor, base_class);
	if (options->p2p_clique > CLIQUE_MAX)
		return error_set(e, EINVAL, "bad-option", NULL, "%s: P2P cliques are 0 to %d",
				 pci->device->name, CLIQUE_MAX);
	return 1;
}

static int init(struct vfio_pci *pci, const struct vfio_pci_options *options, struct error *e)
{
	static const uint8_t places[] = { 0xc8, 0xd4 };
	const uint8_t capability[8] = {
		0,
		0,
		sizeof(capability),
		'P',
		'2',
		'P',
		(uint8_t)(options->p2p_clique << CLIQUE_SHIFT),
	};

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		if (!pci_config_add_capability(pci, PCI_CAP_ID_VNDR, places[i], capability,
					       sizeof(capability)))
			return 0;
	return error_set(e, EEXIST, "bad-option", "leave clique= out for this function",
			 "%s: no place for the P2P clique: C8h and D4h are taken by capabilities "
			 "of the device",
			 pci->device->name);
}

const struct vfio_quirk vfio_quirk_nvidia_p2p = {
	.name = "nvidia-p2p",
	.probe = probe,
	.init = init,
};
