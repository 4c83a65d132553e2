/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The host's display card, whose mediated devices mbochs's are in the rig (tests/rig/kernel). It stays as long as the machine does. */
#include <linux/pci.h>

static struct device *rig_card(void)
{
	struct pci_dev *card = pci_get_device(0x1234, 0x1111, NULL);

	return card ? &card->dev : NULL;
}
