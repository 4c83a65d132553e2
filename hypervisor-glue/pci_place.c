// SPDX-License-Identifier: Apache-2.0
/*
 * What firmware does before a guest starts: device numbers on bus 0, bus numbers behind the ports,
 * an address for every BAR, root ports programmed. Where each BAR goes is decided by pci_windows.c.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci_internal.h"

/* A GPU's registers and a frame buffer of the small kind, both below 4 GiB. */
#define HOTPLUG_MEM32 (32 * MIB)

/*
 * Places on bus 0, in order of addition: a device number each, or the ports eight to a number when
 * those do not suffice (then INTx lines are shared by more).
 */
static int number_devices(struct pci_host *host, struct error *e)
{
	bool packed = host->slot_count > PCI_DEVICES_MAX - 1;
	unsigned next = 1, next_port = 0, port_device = 0;

	for (unsigned i = 0; i < host->slot_count; i++) {
		struct pci_slot *slot = host->slots[i];

		slot->port_function = 0;
		if (!packed || !slot->behind_port) {
			slot->device = (uint8_t)MIN(next, 255u);
			next++;
			continue;
		}
		if (next_port % PCI_FUNCTIONS_MAX == 0)
			port_device = next++;
		slot->device = (uint8_t)MIN(port_device, 255u);
		slot->port_function = next_port++ % PCI_FUNCTIONS_MAX;
	}
	if (next > PCI_DEVICES_MAX)
		return error_set(e, ENOSPC, "too-many-devices", "give this VM fewer devices",
				 "%u devices need %u places on PCI bus 0, which has %u",
				 host->function_count, next - 1, PCI_DEVICES_MAX - 1);
	return 0;
}

/* A slot without a function 0 is not looked at further (PCI 3.0, 3.2.2.3.4): the lowest becomes it. */
static void number_functions(struct pci_slot *slot)
{
	unsigned lowest = 0;

	if (!slot->function_count)
		return;
	for (unsigned i = 1; i < slot->function_count; i++)
		if (slot->numbers[i] < slot->numbers[lowest])
			lowest = i;
	slot->numbers[lowest] = 0;
}

void pci_bars_gather(struct pci_function *const *functions, unsigned count,
		     struct pci_placed_slot *placed)
{
	for (unsigned i = 0; i < count; i++) {
		for (unsigned bar = 0; bar < VFIO_PCI_PLACES; bar++) {
			const struct vfio_pci_bar *facts =
				vfio_pci_bar(pci_function_pci(functions[i]), bar);

			placed->bars[placed->bar_count++] = (struct pci_placed_bar){
				.size = facts->size,
				.is_io = facts->is_io,
				.is_64 = facts->is_64,
				.prefetchable = facts->prefetchable,
			};
		}
	}
}

void pci_slot_settle(struct pci_host *host, struct pci_slot *slot,
		     const struct pci_placed_slot *placed)
{
	struct pci_bus *where = slot->behind_port ? &slot->bus : &host->root;
	unsigned device = slot->behind_port ? 0 : slot->device;

	for (unsigned i = 0; i < slot->function_count; i++) {
		struct pci_function *function = slot->functions[i];
		struct vfio_pci *pci = pci_function_pci(function);
		const struct pci_placed_bar *bars = &placed->bars[i * VFIO_PCI_PLACES];
		struct pci_node *node = &where->nodes[PCI_DEVFN(device, slot->numbers[i])];

		for (unsigned bar = 0; bar < VFIO_PCI_PLACES; bar++)
			if (bars[bar].size)
				vfio_pci_set_bar(pci, bar, bars[bar].base);
		vfio_pci_set_multifunction(pci, slot->function_count > 1);
		/*
		 * INTA#: behind a port it is swizzled by device 0, which changes nothing
		 * (PCI-to-PCI Bridge 1.2, 9.1), so both come out at the bus 0 device's pin A.
		 */
		pci_function_route_intx(function, GSI_INTX_FIRST + slot->device % GSI_INTX_COUNT);
		node->function = pci;
		__atomic_store_n(&node->kind, PCI_NODE_FUNCTION, __ATOMIC_RELEASE);
	}
}

static void place_slot(struct pci_host *host, struct pci_slot *slot,
		       const struct pci_placed_slot *placed, uint8_t bus, bool port_shares_device)
{
	struct pci_node *port = &host->root.nodes[PCI_DEVFN(slot->device, slot->port_function)];

	if (slot->behind_port) {
		slot->port.hotplug = host->hotplug_ports;
		slot->port.present = slot->function_count;
		pci_root_port_program(&slot->port, bus, bus, port_shares_device, placed->windows);
		*port = (struct pci_node){ PCI_NODE_ROOT_PORT, slot, NULL };
	}
	pci_slot_settle(host, slot, placed);
}

/* Ports for what may come, and room for them in the list that may not move any more. */
static int spare_ports(struct pci_host *host, struct error *e)
{
	struct pci_function **functions;

	while (host->port_count < host->hotplug_ports) {
		struct pci_slot *slot = pci_host_slot_new(host, true);

		if (!slot)
			goto no_memory;
		host->slots[host->slot_count++] = slot;
		host->port_count++;
	}
	functions = realloc(host->functions,
			    (host->function_count + host->hotplug_ports + 1) * sizeof(*functions));
	if (!functions)
		goto no_memory;
	host->functions = functions;
	return 0;

no_memory:
	return error_set(e, ENOMEM, "no-memory", NULL, "placing BARs: out of memory");
}

/* Each hot-plug port can take any device of usual size, whatever is in it now. */
static void reserve_windows(const struct pci_host *host, struct pci_placed_slot *placed)
{
	if (!placed->behind_port || !host->hotplug_ports)
		return;
	placed->reserve[PCI_WINDOW_MEM32] = HOTPLUG_MEM32;
	placed->reserve[PCI_WINDOW_MEM64] = host->hotplug_window;
}

int pci_host_place(struct pci_host *host, struct error *e)
{
	struct pci_placement placement = {
		.physical_bits = vm_physical_bits(host->vm),
		.iova = host->iova,
		.iova_count = host->iova_count,
	};
	const struct memory_bank *bank;
	bool shared[PCI_DEVICES_MAX] = { false };
	uint8_t bus = 0;
	int ret;

	if (host->placed)
		return error_set(e, EINVAL, "too-late", NULL, "BARs are placed already");
	ret = spare_ports(host, e);
	if (!ret)
		ret = number_devices(host, e);
	if (ret)
		return ret;
	for (unsigned i = 0; (bank = guest_memory_bank(host->memory, i)); i++)
		if (bank->kind == MEMORY_BANK_RAM)
			placement.ram_end = MAX(placement.ram_end, bank->gpa + bank->size);

	placement.slot_count = host->slot_count;
	placement.slots = calloc(host->slot_count + 1, sizeof(*placement.slots));
	if (!placement.slots)
		return error_set(e, ENOMEM, "no-memory", NULL, "placing BARs: out of memory");
	for (unsigned i = 0; i < host->slot_count; i++) {
		const struct pci_slot *slot = host->slots[i];

		placement.slots[i].behind_port = slot->behind_port;
		pci_bars_gather(slot->functions, slot->function_count, &placement.slots[i]);
		reserve_windows(host, &placement.slots[i]);
		if (host->slots[i]->port_function)
			shared[host->slots[i]->device] = true;
	}
	ret = pci_windows_place(&placement, e);
	if (ret)
		goto out;

	host->window32 = placement.window32;
	host->window64 = placement.window64;
	for (unsigned i = 0; i < host->slot_count; i++) {
		struct pci_slot *slot = host->slots[i];

		number_functions(slot);
		bus += slot->behind_port;
		place_slot(host, slot, &placement.slots[i], slot->behind_port ? bus : 0,
			   shared[slot->device]);
	}
	pci_host_renumber(host);
	host->placed = true;
out:
	free(placement.slots);
	return ret;
}
