// SPDX-License-Identifier: Apache-2.0
/* The table of quirks (quirk.h): who is asked, in which order. */
#include "vfio/quirk.h"

static const struct vfio_quirk *const quirks[] = {
	&vfio_quirk_nvidia_p2p,
};
_Static_assert(ARRAY_SIZE(quirks) <= 32, "a bit a quirk");

int pci_quirks_init(struct vfio_pci *pci, const struct vfio_pci_options *options, struct error *e)
{
	for (unsigned i = 0; i < ARRAY_SIZE(quirks); i++) {
		int ret = quirks[i]->probe(pci, options, e);

		if (ret > 0)
			ret = quirks[i]->init(pci, options, e);
		else if (!ret)
			continue;
		if (ret)
			return ret;
		pci->quirks |= UINT32_C(1) << i;
		log_debug("%s: quirk %s", pci->device->name, quirks[i]->name);
	}
	return 0;
}

void pci_quirks_fini(struct vfio_pci *pci)
{
	for (unsigned i = ARRAY_SIZE(quirks); i-- > 0;)
		if (pci->quirks & UINT32_C(1) << i && quirks[i]->deinit)
			quirks[i]->deinit(pci);
	pci->quirks = 0;
}
