// SPDX-License-Identifier: Apache-2.0
/* PCI addresses: read leniently, written in one form. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

int pci_address_parse(const char *text, struct pci_address *address)
{
	unsigned domain = 0, bus, device, function;
	int end = -1;

	if (strspn(text, "0123456789abcdefABCDEF:.") != strlen(text))
		return -EINVAL;
	if (sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) != 4 ||
	    end < 0 || text[end]) {
		domain = 0;
		end = -1;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &device, &function, &end) != 3 || end < 0 ||
		    text[end])
			return -EINVAL;
	}
	if (device > 31 || function > 7)
		return -EINVAL;
	*address = (struct pci_address){ (uint16_t)domain, (uint8_t)bus, (uint8_t)device,
					 (uint8_t)function };
	return 0;
}

char *pci_address_format(const struct pci_address *a, char buf[PCI_ADDRESS_LEN])
{
	snprintf(buf, PCI_ADDRESS_LEN, "%04x:%02x:%02x.%x", a->domain, a->bus, a->device & 31u,
		 a->function & 7u);
	return buf;
}

bool pci_address_equal(const struct pci_address *a, const struct pci_address *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device &&
	       a->function == b->function;
}
