// SPDX-License-Identifier: Apache-2.0
/*
 * The host bridge: who sits where on the guest's PCI Express, and how a configuration access finds
 * them: by ECAM (PCIe 6.0, 7.2.2) or by ports 0xcf8/0xcfc (PCI Local Bus 3.0, 3.2.2.3.2).
 *
 *   bus 0:  00.0 host bridge | software devices | root ports (eight to a slot when slots run short)
 *   bus 1..: one assigned slot behind each root port; functions of one host slot stay together
 *
 * A lookup is two array reads, without a lock: bus number to bus, device and function to node. The
 * tables are fixed once the guest runs, but for the bus numbers, which a guest may hand out anew;
 * then the whole map is worked out again and swapped in entry by entry; and but for what is put into
 * hot-plug slots and taken out again (pci_hotplug.c), which waits for accesses under way. Each function
 * and each port has a lock of its own. I/O and memory windows of ports are not enforced: a BAR answers where it is.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci_internal.h"

#define ECAM_BUS(o)  ((unsigned)((o) >> 20) & 0xff)
#define ECAM_FN(o)   ((unsigned)((o) >> 12) & 0xff)
#define ECAM_REG(o)  ((unsigned)(o) & 0xfff)
#define PORTS_SIZE   8 /* 0xcf8-0xcff */
#define RESET_OFFSET (PORT_RESET - PORT_PCI_ADDRESS)
#define RESET_CPU    0x04 /* the rising bit that resets; Linux and our FADT write 0x06 */
#define CF8_ENABLE   0x80000000u

static const struct pci_register host_bridge_fields[] = {
	{ PCI_VENDOR_ID, 2, 0x1b36, 0 }, /* the ids of a generic PCI Express host bridge */
	{ PCI_DEVICE_ID, 2, 0x0008, 0 },	   { PCI_CLASS_REVISION, 4, 0x060000u << 8, 0 },
	{ PCI_SUBSYSTEM_VENDOR_ID, 2, 0x1b36, 0 }, { PCI_SUBSYSTEM_ID, 2, 0x0008, 0 },
};

/* ---- configuration accesses ------------------------------------------------------------------ */

void pci_host_renumber(struct pci_host *host)
{
	struct pci_bus *buses[PCI_BUSES] = { &host->root };

	pthread_mutex_lock(&host->renumber);
	for (unsigned i = 0; i < host->slot_count; i++) {
		struct pci_slot *slot = host->slots[i];
		uint8_t bus = 0;

		/* Behind a port without power nobody answers. */
		if (slot->behind_port && pci_root_port_powered(&slot->port))
			bus = pci_root_port_secondary(&slot->port);
		/* Two ports with one number: the first has it, as the first to claim a cycle would. */
		if (bus && !buses[bus])
			buses[bus] = &slot->bus;
	}
	for (unsigned i = 0; i < PCI_BUSES; i++)
		__atomic_store_n(&host->buses[i], buses[i], __ATOMIC_RELEASE);
	pthread_mutex_unlock(&host->renumber);
}

static void reset_slot(struct pci_slot *slot)
{
	for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++) {
		struct pci_function *function =
			__atomic_load_n(&slot->functions[i], __ATOMIC_ACQUIRE);
		struct error e = { 0 };

		if (function && vfio_pci_reset(pci_function_pci(function), &e))
			log_limited(LOG_LEVEL_WARN, "%s: reset asked for by the guest: %s",
				    pci_function_name(function), e.text);
	}
}

void pci_host_port_events(struct pci_host *host, struct pci_slot *slot, unsigned events)
{
	uint64_t address, one = 1;
	uint32_t data;

	if (events & (PCI_ROOT_PORT_RENUMBERED | PCI_ROOT_PORT_POWER))
		pci_host_renumber(host);
	if (events & PCI_ROOT_PORT_BUS_RESET ||
	    (events & PCI_ROOT_PORT_POWER && !pci_root_port_powered(&slot->port)))
		reset_slot(slot);
	/* Full: it is readable already, which is all that matters. */
	if (events & PCI_ROOT_PORT_RELEASED && write(host->hotplug_fd, &one, sizeof(one)) < 0 &&
	    errno != EAGAIN)
		log_limited(LOG_LEVEL_ERROR, "hot-plug eventfd: %s", strerror(errno));
	if (events & PCI_ROOT_PORT_INTERRUPT &&
	    pci_root_port_message(&slot->port, &address, &data) &&
	    vm_signal_msi(host->vm, address, data))
		log_limited(LOG_LEVEL_WARN, "a root port's interrupt cannot be delivered");
}

/* A BAR may have moved away from where another one waits for its place. */
static void retry_bars(struct pci_host *host)
{
	unsigned count = __atomic_load_n(&host->function_count, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; i < count; i++) {
		struct pci_function *function =
			__atomic_load_n(&host->functions[i], __ATOMIC_ACQUIRE);

		if (function)
			pci_function_retry(function);
	}
}

static const struct pci_node *find(struct pci_host *host, unsigned bus, unsigned devfn)
{
	static const struct pci_node nobody = { PCI_NODE_NONE, NULL, NULL };
	const struct pci_bus *b = __atomic_load_n(&host->buses[bus], __ATOMIC_ACQUIRE);

	return b ? &b->nodes[devfn] : &nobody;
}

/* @size 1, 2, 4, naturally aligned; everything else is all-ones, as nobody is (PCIe 6.0, 2.3.2). */
static uint32_t config_read(struct pci_host *host, unsigned bus, unsigned devfn, unsigned reg,
			    unsigned size)
{
	const struct pci_node *node = find(host, bus, devfn);
	uint32_t value = UINT32_MAX;

	if (size > 4 || reg % size)
		return UINT32_MAX;
	switch (__atomic_load_n(&node->kind, __ATOMIC_ACQUIRE)) {
	case PCI_NODE_HOST_BRIDGE:
		value = pci_registers_read(&host->bridge, reg, size);
		break;
	case PCI_NODE_ROOT_PORT:
		value = pci_root_port_read(&node->slot->port, reg, size);
		break;
	case PCI_NODE_FUNCTION:
		value = vfio_pci_config_read(node->function, (uint16_t)reg, size);
		break;
	case PCI_NODE_NONE:
		break;
	}
	return value;
}

static void config_write(struct pci_host *host, unsigned bus, unsigned devfn, unsigned reg,
			 unsigned size, uint32_t value)
{
	const struct pci_node *node = find(host, bus, devfn);
	unsigned events;

	if (size > 4 || reg % size)
		return;
	switch (__atomic_load_n(&node->kind, __ATOMIC_ACQUIRE)) {
	case PCI_NODE_ROOT_PORT:
		events = pci_root_port_write(&node->slot->port, reg, size, value);
		pci_host_port_events(host, node->slot, events);
		retry_bars(host);
		break;
	case PCI_NODE_FUNCTION:
		vfio_pci_config_write(node->function, (uint16_t)reg, size, value);
		retry_bars(host);
		break;
	case PCI_NODE_HOST_BRIDGE:
	case PCI_NODE_NONE:
		break;
	}
}

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
	uint64_t low;

	if (size != 8)
		return config_read(opaque, ECAM_BUS(offset), ECAM_FN(offset), ECAM_REG(offset),
				   size);
	if (offset % 8)
		return UINT64_MAX;
	low = config_read(opaque, ECAM_BUS(offset), ECAM_FN(offset), ECAM_REG(offset), 4);
	offset += 4;
	return low |
	       (uint64_t)config_read(opaque, ECAM_BUS(offset), ECAM_FN(offset), ECAM_REG(offset), 4)
		       << 32;
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	if (size == 8 && offset % 8)
		return;
	config_write(opaque, ECAM_BUS(offset), ECAM_FN(offset), ECAM_REG(offset), MIN(size, 4u),
		     (uint32_t)value);
	if (size != 8)
		return;
	offset += 4;
	config_write(opaque, ECAM_BUS(offset), ECAM_FN(offset), ECAM_REG(offset), 4,
		     (uint32_t)(value >> 32));
}

static const struct dispatch_handler ecam_handler = { .read = ecam_read, .write = ecam_write };

/* Whether [offset, offset + size) of 0xcf8-0xcff is within the data port, and an address is set. */
static bool data_port(uint64_t offset, unsigned size, uint32_t address)
{
	return offset >= 4 && offset + size <= PORTS_SIZE && address & CF8_ENABLE;
}

static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_host *host = opaque;
	uint32_t address = __atomic_load_n(&host->address, __ATOMIC_RELAXED);

	if (offset == 0 && size == 4)
		return address;
	if (offset == RESET_OFFSET && size == 1)
		return 0;
	if (!data_port(offset, size, address))
		return UINT64_MAX;
	return config_read(host, (address >> 16) & 0xff, (address >> 8) & 0xff,
			   (address & 0xfc) + (unsigned)(offset - 4), size);
}

static void ports_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_host *host = opaque;
	uint32_t address = __atomic_load_n(&host->address, __ATOMIC_RELAXED);

	if (offset == 0 && size == 4)
		__atomic_store_n(&host->address, (uint32_t)value & 0x80fffffc, __ATOMIC_RELAXED);
	else if (offset == RESET_OFFSET && size == 1 && value & RESET_CPU)
		vm_request_exit(host->vm, VM_EXIT_RESET, "reset register 0xcf9");
	else if (data_port(offset, size, address))
		config_write(host, (address >> 16) & 0xff, (address >> 8) & 0xff,
			     (address & 0xfc) + (unsigned)(offset - 4), size, (uint32_t)value);
}

static const struct dispatch_handler ports_handler = { .read = ports_read, .write = ports_write };

/* ---- life ------------------------------------------------------------------------------------ */

int pci_host_create(struct vm *vm, struct guest_memory *memory, const struct iommu_range *iova,
		    unsigned iova_count, struct pci_host **out, struct error *e)
{
	struct pci_host *host = calloc(1, sizeof(*host));
	int ret;

	if (!host)
		return error_set(e, ENOMEM, "no-memory", NULL, "PCI host bridge: out of memory");
	host->vm = vm;
	host->memory = memory;
	host->hotplug_fd = -1;
	pthread_mutex_init(&host->renumber, NULL);
	if (iova_count) {
		host->iova = calloc(iova_count, sizeof(*iova));
		if (!host->iova) {
			ret = error_set(e, ENOMEM, "no-memory", NULL,
					"PCI host bridge: out of memory");
			goto out_host;
		}
		memcpy(host->iova, iova, iova_count * sizeof(*iova));
		host->iova_count = iova_count;
	}
	pci_registers_init(&host->bridge, host_bridge_fields, ARRAY_SIZE(host_bridge_fields));
	host->root.nodes[PCI_DEVFN(0, 0)].kind = PCI_NODE_HOST_BRIDGE;
	host->buses[0] = &host->root;

	ret = dispatch_add(vm_mmio(vm), LAYOUT_ECAM_START, LAYOUT_ECAM_SIZE, &ecam_handler, host);
	if (ret) {
		error_set(e, -ret, "address-taken", NULL, "PCI host bridge: ECAM at 0x%llx: %s",
			  (unsigned long long)LAYOUT_ECAM_START, strerror(-ret));
		goto out_host;
	}
	ret = dispatch_add(vm_ports(vm), PORT_PCI_ADDRESS, PORTS_SIZE, &ports_handler, host);
	if (ret) {
		error_set(e, -ret, "address-taken", NULL, "PCI host bridge: port 0x%x: %s",
			  PORT_PCI_ADDRESS, strerror(-ret));
		goto out_ecam;
	}
	*out = host;
	return 0;

out_ecam:
	dispatch_remove(vm_mmio(vm), LAYOUT_ECAM_START);
out_host:
	free(host->iova);
	pthread_mutex_destroy(&host->renumber);
	free(host);
	return ret;
}

void pci_host_slot_free(struct pci_slot *slot)
{
	if (slot->behind_port)
		pci_root_port_fini(&slot->port);
	free(slot);
}

void pci_host_destroy(struct pci_host *host)
{
	if (!host)
		return;
	dispatch_remove(vm_ports(host->vm), PORT_PCI_ADDRESS);
	dispatch_remove(vm_mmio(host->vm), LAYOUT_ECAM_START);
	dispatch_synchronize(vm_ports(host->vm));
	dispatch_synchronize(vm_mmio(host->vm));
	for (unsigned i = host->function_count; i-- > 0;)
		pci_function_destroy(host->functions[i]);
	for (unsigned i = host->slot_count; i-- > 0;)
		pci_host_slot_free(host->slots[i]);
	fd_close(&host->hotplug_fd);
	free(host->functions);
	free(host->slots);
	free(host->iova);
	pthread_mutex_destroy(&host->renumber);
	free(host);
}

/* The slot that @address belongs to, when another function of it is here already. */
static struct pci_slot *find_slot(struct pci_host *host, const struct pci_address *address)
{
	for (unsigned i = 0; i < host->slot_count; i++) {
		struct pci_slot *slot = host->slots[i];

		if (slot->is_host_slot && slot->address.domain == address->domain &&
		    slot->address.bus == address->bus && slot->address.device == address->device)
			return slot;
	}
	return NULL;
}

struct pci_slot *pci_host_slot_new(struct pci_host *host, bool behind_port)
{
	struct pci_slot **slots = realloc(host->slots, (host->slot_count + 1) * sizeof(*slots));
	struct pci_slot *slot;

	if (!slots)
		return NULL;
	host->slots = slots;
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->behind_port = behind_port;
	if (behind_port)
		pci_root_port_init(&slot->port);
	return slot;
}

int pci_host_add(struct pci_host *host, struct vfio_device *device, bool behind_root_port,
		 const struct vfio_pci_options *options, struct error *e)
{
	struct pci_function **functions;
	struct pci_address address = { 0 };
	struct pci_slot *slot = NULL;
	struct pci_function *function;
	bool is_host_slot, is_new;
	int ret;

	if (host->placed)
		return error_set(e, EINVAL, "too-late", NULL, "%s: added after BARs were placed",
				 device->name);
	functions = realloc(host->functions, (host->function_count + 1) * sizeof(*functions));
	if (!functions)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	host->functions = functions;

	/* Assigned devices are named by their address; functions of one slot stay one slot. */
	is_host_slot = behind_root_port && !pci_address_parse(device->name, &address);
	if (is_host_slot)
		slot = find_slot(host, &address);
	is_new = !slot;
	if (is_new)
		slot = pci_host_slot_new(host, behind_root_port);
	if (!slot)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	for (unsigned i = 0; i < slot->function_count; i++)
		if (slot->numbers[i] == address.function)
			return error_set(e, EEXIST, "assigned-twice", "name each device once",
					 "%s is assigned twice", device->name);

	ret = pci_function_create(host->vm, device, options, &function, e);
	if (ret) {
		if (is_new)
			pci_host_slot_free(slot);
		return ret;
	}
	if (host->shares_bars)
		pci_function_share(function, host->memory);
	slot->is_host_slot = is_host_slot;
	slot->address = address;
	slot->numbers[slot->function_count] = address.function;
	slot->functions[slot->function_count++] = function;
	host->functions[host->function_count++] = function;
	if (is_new) {
		host->slots[host->slot_count++] = slot;
		host->port_count += behind_root_port;
	}
	return 0;
}

void pci_host_share_bars(struct pci_host *host)
{
	host->shares_bars = true;
}

int pci_host_reset(struct pci_host *host, struct error *e)
{
	int first_error = 0;

	for (unsigned i = 0; i < host->function_count; i++) {
		struct vfio_pci *pci = pci_function_pci(host->functions[i]);
		int ret = pci ? vfio_pci_reset(pci, first_error ? NULL : e) : 0;

		first_error = first_error ? first_error : ret;
	}
	for (unsigned i = 0; i < host->slot_count; i++)
		if (host->slots[i]->behind_port)
			pci_root_port_reset(&host->slots[i]->port);
	pci_host_renumber(host);
	__atomic_store_n(&host->address, 0, __ATOMIC_RELAXED);
	return first_error;
}

/* ---- questions ------------------------------------------------------------------------------- */

struct pci_window pci_host_window32(const struct pci_host *host)
{
	return host->window32;
}

struct pci_window pci_host_window64(const struct pci_host *host)
{
	return host->window64;
}

unsigned pci_host_last_bus(const struct pci_host *host)
{
	return host->port_count;
}

unsigned pci_host_function_count(const struct pci_host *host)
{
	return host->function_count;
}

struct vfio_pci *pci_host_function(const struct pci_host *host, unsigned index)
{
	return index < host->function_count ? pci_function_pci(host->functions[index]) : NULL;
}

const char *pci_host_function_name(const struct pci_host *host, unsigned index)
{
	return pci_host_function(host, index) ? pci_function_name(host->functions[index]) : NULL;
}

uint64_t pci_host_traps(const struct pci_host *host, unsigned index)
{
	return pci_host_function(host, index) ? pci_function_traps(host->functions[index]) : 0;
}
