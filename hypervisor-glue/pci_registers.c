// SPDX-License-Identifier: Apache-2.0
/*
 * The register file of a function that the VMM itself plays (host bridge, root ports): a table says
 * what each register holds at power-on and which of its bits a guest may change, and that is all
 * there is to know. Relies on nothing, takes no lock; what is not in the table is read-only zero.
 */
#include <string.h>

#include "hypervisor-glue/pci_internal.h"

void pci_registers_init(struct pci_registers *config, const struct pci_register *fields,
			unsigned count)
{
	memset(config, 0, sizeof(*config));
	pci_registers_add(config, fields, count);
}

void pci_registers_add(struct pci_registers *config, const struct pci_register *fields,
		       unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct pci_register *f = &fields[i];

		for (unsigned byte = 0; byte < f->size; byte++) {
			config->value[f->offset + byte] = (uint8_t)(f->reset >> (8 * byte));
			config->writable[f->offset + byte] = (uint8_t)(f->writable >> (8 * byte));
		}
	}
}

uint32_t pci_registers_get(const struct pci_registers *config, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	for (unsigned byte = 0; byte < size; byte++)
		value |= (uint32_t)config->value[offset + byte] << (8 * byte);
	return value;
}

void pci_registers_set(struct pci_registers *config, unsigned offset, unsigned size, uint32_t value)
{
	for (unsigned byte = 0; byte < size; byte++)
		config->value[offset + byte] = (uint8_t)(value >> (8 * byte));
}

uint32_t pci_registers_read(const struct pci_registers *config, unsigned offset, unsigned size)
{
	if (offset + size > PCI_CONFIG_SIZE)
		return 0;
	return pci_registers_get(config, offset, size);
}

void pci_registers_write(struct pci_registers *config, unsigned offset, unsigned size,
			 uint32_t value)
{
	if (offset + size > PCI_CONFIG_SIZE)
		return;
	for (unsigned byte = 0; byte < size; byte++) {
		uint8_t mask = config->writable[offset + byte];
		uint8_t *at = &config->value[offset + byte];

		*at = (uint8_t)((*at & ~mask) | ((value >> (8 * byte)) & mask));
	}
}
