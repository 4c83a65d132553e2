// SPDX-License-Identifier: Apache-2.0
/*
 * Devices that come and go while the guest runs, in the slots of root ports (PCIe 6.0, 6.7).
 *
 * One thread plugs and unplugs; vCPUs meanwhile look nodes up, write to config space and drive the
 * ports. What they may still be using is taken away in this order: nobody finds it any more, accesses
 * under way have ended (they are handlers of the dispatch tables), it is reset, which takes BARs and
 * interrupts out of the VM, accesses to its BARs have ended too, it is destroyed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "hypervisor-glue/pci_internal.h"

int pci_host_hotplug(struct pci_host *host, unsigned ports, uint64_t window64, struct error *e)
{
	if (host->placed)
		return error_set(e, EINVAL, "too-late", NULL, "hot-plug ports after placement");
	host->hotplug_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (host->hotplug_fd < 0)
		return error_set(e, errno, "no-eventfd", NULL, "eventfd: %s", strerror(errno));
	host->hotplug_ports = ports;
	host->hotplug_window = window64;
	return 0;
}

int pci_host_hotplug_fd(const struct pci_host *host)
{
	return host->hotplug_fd;
}

/* ---- who is where ---------------------------------------------------------------------------- */

static struct pci_slot *slot_of(const struct pci_host *host, const struct vfio_device *device,
				unsigned *index)
{
	for (unsigned i = 0; i < host->slot_count; i++) {
		struct pci_slot *slot = host->slots[i];

		for (unsigned j = 0; j < slot->function_count; j++) {
			if (pci_function_device(slot->functions[j]) != device)
				continue;
			*index = j;
			return slot;
		}
	}
	return NULL;
}

static struct pci_slot *hotplug_slot_of(const struct pci_host *host,
					const struct vfio_device *device)
{
	unsigned index;
	struct pci_slot *slot = slot_of(host, device, &index);

	return slot && slot->behind_port && slot->port.hotplug ? slot : NULL;
}

bool pci_host_same_slot(const struct pci_host *host, const struct vfio_device *a,
			const struct vfio_device *b)
{
	unsigned index;

	return slot_of(host, a, &index) == slot_of(host, b, &index);
}

bool pci_host_removable(const struct pci_host *host, const struct vfio_device *device)
{
	return hotplug_slot_of(host, device);
}

unsigned pci_host_ports(const struct pci_host *host, unsigned *empty)
{
	*empty = 0;
	for (unsigned i = 0; i < host->slot_count; i++) {
		const struct pci_slot *slot = host->slots[i];

		*empty += slot->behind_port && slot->port.hotplug && !slot->function_count;
	}
	return host->port_count;
}

bool pci_host_address(const struct pci_host *host, const struct vfio_device *device,
		      struct pci_address *address)
{
	unsigned index;
	struct pci_slot *slot = slot_of(host, device, &index);

	if (!slot)
		return false;
	*address = (struct pci_address){ .function = slot->numbers[index] };
	if (slot->behind_port)
		address->bus = pci_root_port_secondary(&slot->port);
	else
		address->device = slot->device;
	return true;
}

/* ---- in -------------------------------------------------------------------------------------- */

/*
 * Into the list that vCPUs walk: the first hole, or one more at its end. There is room for one a port
 * (pci_place.c), so for everything that finds an empty slot.
 */
static void list_add(struct pci_host *host, struct pci_function *function)
{
	unsigned at = 0;

	while (at < host->function_count && host->functions[at])
		at++;
	__atomic_store_n(&host->functions[at], function, __ATOMIC_RELEASE);
	if (at == host->function_count)
		__atomic_store_n(&host->function_count, at + 1, __ATOMIC_RELEASE);
}

/* The first empty slot in whose port's windows the BARs fit, which stay as they were placed. */
static struct pci_slot *empty_slot(struct pci_host *host, struct pci_placed_slot *placed,
				   struct error *e)
{
	struct error full = { 0 };

	error_set(&full, ENOSPC, "no-free-port",
		  "remove a device, or start the VM with more --hotplug-ports",
		  "all %u hot-plug ports are taken", host->hotplug_ports);
	placed->behind_port = true;
	for (unsigned i = 0; i < host->slot_count; i++) {
		struct pci_slot *slot = host->slots[i];

		if (!slot->behind_port || !slot->port.hotplug || slot->function_count)
			continue;
		memcpy(placed->windows, slot->port.windows, sizeof(placed->windows));
		if (!pci_windows_fit(placed, &full))
			return slot;
	}
	if (e)
		*e = full;
	return NULL;
}

static void slot_empty(struct pci_slot *slot)
{
	for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++)
		__atomic_store_n(&slot->functions[i], NULL, __ATOMIC_RELEASE);
	slot->function_count = 0;
	slot->is_host_slot = false;
	slot->asked = false;
}

int pci_host_plug(struct pci_host *host, struct vfio_device *device,
		  const struct vfio_pci_options *options, struct vfio_pci **out, struct error *e)
{
	struct pci_placed_slot *placed;
	struct pci_function *function;
	struct pci_slot *slot;
	int ret;

	placed = calloc(1, sizeof(*placed));
	if (!placed)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	ret = pci_function_create(host->vm, device, options, &function, e);
	if (ret)
		goto out;
	if (host->shares_bars)
		pci_function_share(function, host->memory);
	pci_bars_gather(&function, 1, placed);
	slot = empty_slot(host, placed, e);
	if (!slot) {
		pci_function_destroy(function);
		ret = -ENOSPC;
		goto out;
	}
	slot->numbers[0] = 0;
	slot->function_count = 1;
	__atomic_store_n(&slot->functions[0], function, __ATOMIC_RELEASE);
	pci_slot_settle(host, slot, placed);
	list_add(host, function);
	pci_host_port_events(host, slot, pci_root_port_set_present(&slot->port, true));
	pci_host_renumber(host); /* of a guest that gave the empty slot power */
	*out = pci_function_pci(function);
out:
	free(placed);
	return ret;
}

/* ---- out ------------------------------------------------------------------------------------- */

static int not_removable(const struct vfio_device *device, struct error *e)
{
	return error_set(e, EBUSY, "not-removable", "start the VM with --hotplug-ports",
			 "%s sits in no hot-plug slot", device->name);
}

int pci_host_unplug_ask(struct pci_host *host, const struct vfio_device *device, struct error *e)
{
	struct pci_slot *slot = hotplug_slot_of(host, device);

	if (!slot)
		return not_removable(device, e);
	slot->asked = true;
	/* Without power nobody is there to be asked. */
	if (!pci_root_port_released(&slot->port))
		pci_host_port_events(host, slot, pci_root_port_press(&slot->port));
	return 0;
}

bool pci_host_unplug_ready(struct pci_host *host, const struct vfio_device *device)
{
	struct pci_slot *slot = hotplug_slot_of(host, device);

	return slot && slot->asked && pci_root_port_released(&slot->port);
}

void pci_host_unplug_forget(struct pci_host *host, const struct vfio_device *device)
{
	struct pci_slot *slot = hotplug_slot_of(host, device);

	if (slot)
		slot->asked = false;
}

static void nodes_remove(struct pci_host *host, struct pci_slot *slot)
{
	for (unsigned i = 0; i < slot->function_count; i++) {
		struct pci_node *node = &slot->bus.nodes[PCI_DEVFN(0, slot->numbers[i])];

		__atomic_store_n(&node->kind, PCI_NODE_NONE, __ATOMIC_RELEASE);
		for (unsigned j = 0; j < host->function_count; j++)
			if (host->functions[j] == slot->functions[i])
				__atomic_store_n(&host->functions[j], NULL, __ATOMIC_RELEASE);
	}
}

int pci_host_unplug(struct pci_host *host, const struct vfio_device *device, struct error *e)
{
	struct pci_slot *slot = hotplug_slot_of(host, device);
	struct pci_function *functions[PCI_FUNCTIONS_MAX];
	unsigned count;

	if (!slot)
		return not_removable(device, e);
	count = slot->function_count;
	memcpy(functions, slot->functions, sizeof(functions));
	nodes_remove(host, slot);
	slot_empty(slot);
	/* Also the end of accesses to ports: these are the same kind of handler. */
	dispatch_synchronize(vm_mmio(host->vm));
	for (unsigned i = 0; i < count; i++) {
		struct error reset = { 0 };

		if (vfio_pci_reset(pci_function_pci(functions[i]), &reset))
			log_info("%s: while it was taken away: %s", pci_function_name(functions[i]),
				 reset.text);
	}
	dispatch_synchronize(vm_mmio(host->vm));
	for (unsigned i = 0; i < count; i++)
		pci_function_destroy(functions[i]);
	pci_host_port_events(host, slot, pci_root_port_set_present(&slot->port, false));
	return 0;
}
