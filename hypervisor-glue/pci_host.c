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
 * then the whole map is worked out again and swapped in entry by entry. Each function and each port
 * has a lock of its own. I/O and memory windows of ports are not enforced: a BAR answers where it is.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci_internal.h"

#define BUSES	     256
#define ECAM_BUS(o)  ((unsigned)((o) >> 20) & 0xff)
#define ECAM_FN(o)   ((unsigned)((o) >> 12) & 0xff)
#define ECAM_REG(o)  ((unsigned)(o) & 0xfff)
#define DEVFN(d, f)  ((d) << 3 | (f))
#define PORTS_SIZE   8 /* 0xcf8-0xcff */
#define RESET_OFFSET (PORT_RESET - PORT_PCI_ADDRESS)
#define RESET_CPU    0x04 /* the rising bit that resets; Linux and our FADT write 0x06 */
#define CF8_ENABLE   0x80000000u

/* Whoever answers configuration accesses at one device and function. */
enum node_kind {
	NODE_NONE,
	NODE_HOST_BRIDGE,
	NODE_ROOT_PORT,
	NODE_FUNCTION
};

struct pci_slot;

struct node {
	enum node_kind kind;
	struct pci_slot *slot;	   /* NODE_ROOT_PORT */
	struct vfio_pci *function; /* NODE_FUNCTION */
};

struct pci_bus {
	struct node nodes[PCI_DEVICES_MAX * PCI_FUNCTIONS_MAX];
};

/* What was added together: one software device, or the functions of one assigned slot. */
struct pci_slot {
	bool behind_port;
	bool is_host_slot; /* whose @address is the host's */
	struct pci_address address;
	unsigned function_count;
	struct pci_function *functions[PCI_FUNCTIONS_MAX];
	uint8_t numbers[PCI_FUNCTIONS_MAX]; /* function numbers, on the host and for the guest */
	uint8_t device, port_function;	    /* place on bus 0, of the device or of its port */
	struct pci_root_port port;
	struct pci_bus bus; /* behind the port */
};

struct pci_host {
	struct vm *vm;
	struct guest_memory *memory;
	struct iommu_range *iova;
	unsigned iova_count;
	bool placed;
	struct pci_window window32, window64;
	unsigned slot_count, port_count, function_count;
	struct pci_slot **slots;
	struct pci_function **functions; /* in order of addition */
	struct pci_registers bridge;	 /* nothing in it ever changes */
	struct pci_bus root;
	struct pci_bus *buses[BUSES]; /* atomic entries */
	pthread_mutex_t renumber;     /* one at a time works @buses out */
	uint32_t address;	      /* 0xcf8, atomic */
};

static const struct pci_register host_bridge_fields[] = {
	{ PCI_VENDOR_ID, 2, 0x1b36, 0 }, /* the ids of a generic PCI Express host bridge */
	{ PCI_DEVICE_ID, 2, 0x0008, 0 },	   { PCI_CLASS_REVISION, 4, 0x060000u << 8, 0 },
	{ PCI_SUBSYSTEM_VENDOR_ID, 2, 0x1b36, 0 }, { PCI_SUBSYSTEM_ID, 2, 0x0008, 0 },
};

/* ---- configuration accesses ------------------------------------------------------------------ */

static void renumber_buses(struct pci_host *host)
{
	struct pci_bus *buses[BUSES] = { &host->root };

	pthread_mutex_lock(&host->renumber);
	for (unsigned i = 0; i < host->slot_count; i++) {
		struct pci_slot *slot = host->slots[i];
		uint8_t bus = slot->behind_port ? pci_root_port_secondary(&slot->port) : 0;

		/* Two ports with one number: the first has it, as the first to claim a cycle would. */
		if (bus && !buses[bus])
			buses[bus] = &slot->bus;
	}
	for (unsigned i = 0; i < BUSES; i++)
		__atomic_store_n(&host->buses[i], buses[i], __ATOMIC_RELEASE);
	pthread_mutex_unlock(&host->renumber);
}

static void reset_slot(struct pci_slot *slot)
{
	for (unsigned i = 0; i < slot->function_count; i++) {
		struct pci_function *function = slot->functions[i];
		struct error e = { 0 };

		if (vfio_pci_reset(pci_function_pci(function), &e))
			log_limited(LOG_LEVEL_WARN, "%s: bus reset asked for by the guest: %s",
				    pci_function_name(function), e.text);
	}
}

/* A BAR may have moved away from where another one waits for its place. */
static void retry_bars(struct pci_host *host)
{
	for (unsigned i = 0; i < host->function_count; i++)
		pci_function_retry(host->functions[i]);
}

static const struct node *find(struct pci_host *host, unsigned bus, unsigned devfn)
{
	static const struct node nobody = { NODE_NONE, NULL, NULL };
	const struct pci_bus *b = __atomic_load_n(&host->buses[bus], __ATOMIC_ACQUIRE);

	return b ? &b->nodes[devfn] : &nobody;
}

/* @size 1, 2, 4, naturally aligned; everything else is all-ones, as nobody is (PCIe 6.0, 2.3.2). */
static uint32_t config_read(struct pci_host *host, unsigned bus, unsigned devfn, unsigned reg,
			    unsigned size)
{
	const struct node *node = find(host, bus, devfn);
	uint32_t value = UINT32_MAX;

	if (size > 4 || reg % size)
		return UINT32_MAX;
	switch (node->kind) {
	case NODE_HOST_BRIDGE:
		value = pci_registers_read(&host->bridge, reg, size);
		break;
	case NODE_ROOT_PORT:
		value = pci_root_port_read(&node->slot->port, reg, size);
		break;
	case NODE_FUNCTION:
		value = vfio_pci_config_read(node->function, (uint16_t)reg, size);
		break;
	case NODE_NONE:
		break;
	}
	return value;
}

static void config_write(struct pci_host *host, unsigned bus, unsigned devfn, unsigned reg,
			 unsigned size, uint32_t value)
{
	const struct node *node = find(host, bus, devfn);
	unsigned events;

	if (size > 4 || reg % size)
		return;
	switch (node->kind) {
	case NODE_ROOT_PORT:
		events = pci_root_port_write(&node->slot->port, reg, size, value);
		if (events & PCI_ROOT_PORT_RENUMBERED)
			renumber_buses(host);
		if (events & PCI_ROOT_PORT_BUS_RESET)
			reset_slot(node->slot);
		retry_bars(host);
		break;
	case NODE_FUNCTION:
		vfio_pci_config_write(node->function, (uint16_t)reg, size, value);
		retry_bars(host);
		break;
	case NODE_HOST_BRIDGE:
	case NODE_NONE:
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
	host->root.nodes[DEVFN(0, 0)].kind = NODE_HOST_BRIDGE;
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

static void slot_free(struct pci_slot *slot)
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
		slot_free(host->slots[i]);
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

static struct pci_slot *slot_new(struct pci_host *host, bool behind_port)
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
		slot = slot_new(host, behind_root_port);
	if (!slot)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	for (unsigned i = 0; i < slot->function_count; i++)
		if (slot->numbers[i] == address.function)
			return error_set(e, EEXIST, "assigned-twice", "name each device once",
					 "%s is assigned twice", device->name);

	ret = pci_function_create(host->vm, device, options, &function, e);
	if (ret) {
		if (is_new)
			slot_free(slot);
		return ret;
	}
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

/* ---- placement ------------------------------------------------------------------------------- */

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

	for (unsigned i = 1; i < slot->function_count; i++)
		if (slot->numbers[i] < slot->numbers[lowest])
			lowest = i;
	slot->numbers[lowest] = 0;
}

static void gather_bars(const struct pci_slot *slot, struct pci_placed_slot *placed)
{
	placed->behind_port = slot->behind_port;
	for (unsigned i = 0; i < slot->function_count; i++) {
		for (unsigned bar = 0; bar < VFIO_PCI_BARS; bar++) {
			const struct vfio_pci_bar *facts =
				vfio_pci_bar(pci_function_pci(slot->functions[i]), bar);

			placed->bars[placed->bar_count++] = (struct pci_placed_bar){
				.size = facts->size,
				.is_io = facts->is_io,
				.is_64 = facts->is_64,
				.prefetchable = facts->prefetchable,
			};
		}
	}
}

static void place_slot(struct pci_host *host, struct pci_slot *slot,
		       const struct pci_placed_slot *placed, uint8_t bus, bool port_shares_device)
{
	struct node *port = &host->root.nodes[DEVFN(slot->device, slot->port_function)];
	struct pci_bus *where = slot->behind_port ? &slot->bus : &host->root;
	unsigned device = slot->behind_port ? 0 : slot->device;

	if (slot->behind_port) {
		pci_root_port_program(&slot->port, bus, bus, port_shares_device, placed->windows);
		*port = (struct node){ NODE_ROOT_PORT, slot, NULL };
	}
	for (unsigned i = 0; i < slot->function_count; i++) {
		struct pci_function *function = slot->functions[i];
		struct vfio_pci *pci = pci_function_pci(function);
		const struct pci_placed_bar *bars = &placed->bars[i * VFIO_PCI_BARS];

		for (unsigned bar = 0; bar < VFIO_PCI_BARS; bar++)
			if (bars[bar].size)
				vfio_pci_set_bar(pci, bar, bars[bar].base);
		vfio_pci_set_multifunction(pci, slot->function_count > 1);
		/*
		 * INTA#: behind a port it is swizzled by device 0, which changes nothing
		 * (PCI-to-PCI Bridge 1.2, 9.1), so both come out at the bus 0 device's pin A.
		 */
		pci_function_route_intx(function, GSI_INTX_FIRST + slot->device % GSI_INTX_COUNT);
		where->nodes[DEVFN(device, slot->numbers[i])] =
			(struct node){ NODE_FUNCTION, NULL, pci };
	}
}

int pci_host_place(struct pci_host *host, struct error *e)
{
	struct pci_placement placement = {
		.physical_bits = vm_physical_bits(host->vm),
		.iova = host->iova,
		.iova_count = host->iova_count,
		.slot_count = host->slot_count,
	};
	const struct memory_bank *bank;
	bool shared[PCI_DEVICES_MAX] = { false };
	uint8_t bus = 0;
	int ret;

	if (host->placed)
		return error_set(e, EINVAL, "too-late", NULL, "BARs are placed already");
	ret = number_devices(host, e);
	if (ret)
		return ret;
	for (unsigned i = 0; (bank = guest_memory_bank(host->memory, i)); i++)
		if (bank->kind == MEMORY_BANK_RAM)
			placement.ram_end = MAX(placement.ram_end, bank->gpa + bank->size);

	placement.slots = calloc(host->slot_count + 1, sizeof(*placement.slots));
	if (!placement.slots)
		return error_set(e, ENOMEM, "no-memory", NULL, "placing BARs: out of memory");
	for (unsigned i = 0; i < host->slot_count; i++) {
		gather_bars(host->slots[i], &placement.slots[i]);
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
	renumber_buses(host);
	host->placed = true;
out:
	free(placement.slots);
	return ret;
}

int pci_host_reset(struct pci_host *host, struct error *e)
{
	int first_error = 0;

	for (unsigned i = 0; i < host->function_count; i++) {
		int ret = vfio_pci_reset(pci_function_pci(host->functions[i]),
					 first_error ? NULL : e);

		first_error = first_error ? first_error : ret;
	}
	for (unsigned i = 0; i < host->slot_count; i++)
		if (host->slots[i]->behind_port)
			pci_root_port_reset(&host->slots[i]->port);
	renumber_buses(host);
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
	return index < host->function_count ? pci_function_name(host->functions[index]) : NULL;
}
