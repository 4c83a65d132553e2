// SPDX-License-Identifier: Apache-2.0
/*
 * A PCI Express root port: the type-1 function above every assigned device. GPU drivers look for one
 * (link speed and width, a bus of their own); it forwards nothing by itself, since the VMM's BARs
 * answer at their own addresses. Numbers and windows are programmed as firmware would and may be
 * reprogrammed by the guest: bus numbers take effect (pci_host.c looks functions up by them),
 * windows are only kept.
 *
 * With @hotplug its slot takes devices while the guest runs (6.7): presence, an attention button, power
 * and its indicator, in the way that QEMU's root port has them, so that what drives that drives this.
 * Commands are done when they are written (No Command Completed Support), and the link is up while
 * something is there and has power.
 *
 * Registers: PCI Express Base 6.0, 7.5.1.3 (type 1), 7.5.2 (PM), 7.5.3 (PCIe capability), 7.7.1
 * (MSI), 7.9.24 (subsystem). No AER; the only interrupt is the slot's, by MSI.
 */
#include <linux/pci_regs.h>

#include "hypervisor-glue/pci_internal.h"

#define ROOT_PORT_VENDOR 0x1b36 /* the ids of a generic root port, which Linux drives by class */
#define ROOT_PORT_DEVICE 0x000c

#define CAP_PM	   0x40
#define CAP_MSI	   0x48
#define CAP_SSVID  0x58
#define CAP_EXP	   0x60
#define LINK_GT32  5 /* encoding of 32 GT/s, and x16: no link of a real device looks limited by it */
#define LINK_WIDTH 16

static const struct pci_register root_port_fields[] = {
	{ PCI_VENDOR_ID, 2, ROOT_PORT_VENDOR, 0 },
	{ PCI_DEVICE_ID, 2, ROOT_PORT_DEVICE, 0 },
	{ PCI_COMMAND, 2, 0,
	  PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
		  PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE },
	{ PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0 },
	{ PCI_CLASS_REVISION, 4, 0x060400u << 8, 0 },
	{ PCI_CACHE_LINE_SIZE, 1, 0, 0xff },
	{ PCI_HEADER_TYPE, 1, PCI_HEADER_TYPE_BRIDGE, 0 },
	{ PCI_PRIMARY_BUS, 1, 0, 0xff },
	{ PCI_SECONDARY_BUS, 1, 0, 0xff },
	{ PCI_SUBORDINATE_BUS, 1, 0, 0xff },
	{ PCI_IO_BASE, 1, 0xf0, 0xf0 },
	{ PCI_IO_LIMIT, 1, 0, 0xf0 },
	{ PCI_MEMORY_BASE, 2, 0xfff0, 0xfff0 },
	{ PCI_MEMORY_LIMIT, 2, 0, 0xfff0 },
	{ PCI_PREF_MEMORY_BASE, 2, 0xfff0 | PCI_PREF_RANGE_TYPE_64, 0xfff0 },
	{ PCI_PREF_MEMORY_LIMIT, 2, PCI_PREF_RANGE_TYPE_64, 0xfff0 },
	{ PCI_PREF_BASE_UPPER32, 4, 0, 0xffffffff },
	{ PCI_PREF_LIMIT_UPPER32, 4, 0, 0xffffffff },
	{ PCI_CAPABILITY_LIST, 1, CAP_PM, 0 },
	{ PCI_INTERRUPT_LINE, 1, 0, 0xff },
	{ PCI_BRIDGE_CONTROL, 2, 0,
	  PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR | PCI_BRIDGE_CTL_BUS_RESET },

	{ CAP_PM + PCI_CAP_LIST_ID, 1, PCI_CAP_ID_PM, 0 },
	{ CAP_PM + PCI_CAP_LIST_NEXT, 1, CAP_MSI, 0 },
	{ CAP_PM + PCI_PM_PMC, 2, 3, 0 }, /* version 3; neither D1, D2 nor PME */
	{ CAP_PM + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET, PCI_PM_CTRL_STATE_MASK },

	{ CAP_MSI + PCI_CAP_LIST_ID, 1, PCI_CAP_ID_MSI, 0 },
	{ CAP_MSI + PCI_CAP_LIST_NEXT, 1, CAP_SSVID, 0 },
	{ CAP_MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_64BIT, PCI_MSI_FLAGS_ENABLE },
	{ CAP_MSI + PCI_MSI_ADDRESS_LO, 4, 0, 0xfffffffc },
	{ CAP_MSI + PCI_MSI_ADDRESS_HI, 4, 0, 0xffffffff },
	{ CAP_MSI + PCI_MSI_DATA_64, 2, 0, 0xffff },

	{ CAP_SSVID + PCI_CAP_LIST_ID, 1, PCI_CAP_ID_SSVID, 0 },
	{ CAP_SSVID + PCI_CAP_LIST_NEXT, 1, CAP_EXP, 0 },
	{ CAP_SSVID + PCI_SSVID_VENDOR_ID, 2, ROOT_PORT_VENDOR, 0 },
	{ CAP_SSVID + PCI_SSVID_DEVICE_ID, 2, ROOT_PORT_DEVICE, 0 },

	{ CAP_EXP + PCI_CAP_LIST_ID, 1, PCI_CAP_ID_EXP, 0 },
	{ CAP_EXP + PCI_EXP_FLAGS, 2, 2 | PCI_EXP_TYPE_ROOT_PORT << 4, 0 },
	/* Payload up to 512 bytes, extended tags, role-based error reporting. */
	{ CAP_EXP + PCI_EXP_DEVCAP, 4, 2 | PCI_EXP_DEVCAP_EXT_TAG | PCI_EXP_DEVCAP_RBER, 0 },
	{ CAP_EXP + PCI_EXP_DEVCTL, 2,
	  PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ_512B,
	  PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE | PCI_EXP_DEVCTL_URRE |
		  PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_EXT_TAG |
		  PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ },
	/* The port number is the top byte, set by pci_root_port_program(). */
	{ CAP_EXP + PCI_EXP_LNKCAP, 4, LINK_GT32 | LINK_WIDTH << 4 | PCI_EXP_LNKCAP_DLLLARC, 0 },
	{ CAP_EXP + PCI_EXP_LNKCTL, 2, 0,
	  PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES },
	{ CAP_EXP + PCI_EXP_LNKSTA, 2,
	  LINK_GT32 | LINK_WIDTH << PCI_EXP_LNKSTA_NLW_SHIFT | PCI_EXP_LNKSTA_SLC |
		  PCI_EXP_LNKSTA_DLLLA,
	  0 },
	{ CAP_EXP + PCI_EXP_RTCTL, 2, 0,
	  PCI_EXP_RTCTL_SECEE | PCI_EXP_RTCTL_SENFEE | PCI_EXP_RTCTL_SEFEE | PCI_EXP_RTCTL_PMEIE },
	{ CAP_EXP + PCI_EXP_LNKCAP2, 4, 0x3e, 0 }, /* 2.5 to 32 GT/s */
	{ CAP_EXP + PCI_EXP_LNKCTL2, 2, LINK_GT32, PCI_EXP_LNKCTL2_TLS },
};

/*
 * What a slot adds; the values at power-on depend on what is in it (slot_restore()). 7.5.3.9 has the
 * slot number from bit 19 on.
 */
static const struct pci_register slot_fields[] = {
	{ CAP_EXP + PCI_EXP_FLAGS, 2, 2 | PCI_EXP_TYPE_ROOT_PORT << 4 | PCI_EXP_FLAGS_SLOT, 0 },
	{ CAP_EXP + PCI_EXP_SLTCAP, 4,
	  PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_AIP | PCI_EXP_SLTCAP_PIP |
		  PCI_EXP_SLTCAP_HPS | PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_NCCS,
	  0 },
	{ CAP_EXP + PCI_EXP_SLTCTL, 2, 0,
	  PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_CCIE | PCI_EXP_SLTCTL_HPIE |
		  PCI_EXP_SLTCTL_AIC | PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_PCC |
		  PCI_EXP_SLTCTL_DLLSCE },
};
#define SLOT_NUMBER_SHIFT 19
#define SLOT_EVENTS	  (PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC)

/* ---- the slot: under the lock ---------------------------------------------------------------- */

static uint32_t slot_control(const struct pci_root_port *port)
{
	return pci_registers_get(&port->config, CAP_EXP + PCI_EXP_SLTCTL, 2);
}

static uint32_t slot_status(const struct pci_root_port *port)
{
	return pci_registers_get(&port->config, CAP_EXP + PCI_EXP_SLTSTA, 2);
}

static void slot_status_set(struct pci_root_port *port, uint32_t status)
{
	pci_registers_set(&port->config, CAP_EXP + PCI_EXP_SLTSTA, 2, status);
}

static bool is_powered(uint32_t control)
{
	return !(control & PCI_EXP_SLTCTL_PCC);
}

/* What a guest does last when it gives a slot up: no power, and its indicator says so. */
static bool is_released(uint32_t control)
{
	return !is_powered(control) && (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_OFF;
}

static void link_update(struct pci_root_port *port)
{
	uint32_t link = pci_registers_get(&port->config, CAP_EXP + PCI_EXP_LNKSTA, 2);
	uint32_t up = port->present && is_powered(slot_control(port)) ? PCI_EXP_LNKSTA_DLLLA : 0;

	if ((link & PCI_EXP_LNKSTA_DLLLA) == up)
		return;
	pci_registers_set(&port->config, CAP_EXP + PCI_EXP_LNKSTA, 2,
			  (link & ~(uint32_t)PCI_EXP_LNKSTA_DLLLA) | up);
	slot_status_set(port, slot_status(port) | PCI_EXP_SLTSTA_DLLSC);
}

/* 6.7.3.4: one message when the condition comes true; the guest clears all before the next. */
static unsigned interrupt_update(struct pci_root_port *port)
{
	uint32_t control = slot_control(port), status = slot_status(port);
	bool wanted = control & PCI_EXP_SLTCTL_HPIE &&
		      (status & control & (PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC) ||
		       (status & PCI_EXP_SLTSTA_DLLSC && control & PCI_EXP_SLTCTL_DLLSCE));
	bool fresh = wanted && !port->notified;

	port->notified = wanted;
	return fresh ? PCI_ROOT_PORT_INTERRUPT : 0;
}

static void slot_restore(struct pci_root_port *port)
{
	struct pci_registers *config = &port->config;
	uint32_t capability, control;

	pci_registers_add(config, slot_fields, ARRAY_SIZE(slot_fields));
	capability = pci_registers_get(config, CAP_EXP + PCI_EXP_SLTCAP, 4);
	pci_registers_set(config, CAP_EXP + PCI_EXP_SLTCAP, 4,
			  capability | (uint32_t)port->number << SLOT_NUMBER_SHIFT);
	control = port->present ? PCI_EXP_SLTCTL_PWR_IND_ON
				: PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PWR_IND_OFF;
	pci_registers_set(config, CAP_EXP + PCI_EXP_SLTCTL, 2,
			  control | PCI_EXP_SLTCTL_ATTN_IND_OFF);
	link_update(port);
	slot_status_set(port, port->present ? PCI_EXP_SLTSTA_PDS : 0);
	port->notified = false;
}

/* Written ones clear an event, wherever in the access they are. */
static void slot_events_clear(struct pci_root_port *port, unsigned offset, unsigned size,
			      uint32_t value)
{
	uint32_t written = 0;

	for (unsigned byte = 0; byte < size; byte++) {
		unsigned at = offset + byte - (CAP_EXP + PCI_EXP_SLTSTA);

		if (at < 2)
			written |= (value >> (8 * byte) & 0xff) << (8 * at);
	}
	if (written & SLOT_EVENTS)
		slot_status_set(port, slot_status(port) & ~(written & SLOT_EVENTS));
}

static unsigned slot_control_changed(struct pci_root_port *port, uint32_t before)
{
	uint32_t control = slot_control(port);
	unsigned events = 0;

	if (is_powered(control) != is_powered(before)) {
		link_update(port);
		events |= PCI_ROOT_PORT_POWER;
	}
	if (is_released(control) && !is_released(before))
		events |= PCI_ROOT_PORT_RELEASED;
	return events;
}

static unsigned slot_event(struct pci_root_port *port, uint32_t events)
{
	slot_status_set(port, slot_status(port) | events);
	return interrupt_update(port);
}

/* ---- the whole port -------------------------------------------------------------------------- */

/* Under the lock, or before anybody else knows the port. */
static void restore(struct pci_root_port *port)
{
	const struct pci_window *io = &port->windows[PCI_WINDOW_IO];
	const struct pci_window *mem = &port->windows[PCI_WINDOW_MEM32];
	const struct pci_window *pref = &port->windows[PCI_WINDOW_MEM64];
	struct pci_registers *config = &port->config;

	pci_registers_init(config, root_port_fields, ARRAY_SIZE(root_port_fields));
	pci_registers_set(config, CAP_EXP + PCI_EXP_LNKCAP + 3, 1, port->number);
	if (port->hotplug)
		slot_restore(port);
	if (port->multifunction)
		pci_registers_set(config, PCI_HEADER_TYPE, 1,
				  PCI_HEADER_TYPE_BRIDGE | PCI_HEADER_TYPE_MFD);
	pci_registers_set(config, PCI_SECONDARY_BUS, 1, port->bus);
	pci_registers_set(config, PCI_SUBORDINATE_BUS, 1, port->bus);
	/* A closed window keeps a base above its limit (7.5.1.3.6, 7.5.1.3.8). */
	if (io->size) {
		pci_registers_set(config, PCI_IO_BASE, 1, (io->start >> 8) & 0xf0);
		pci_registers_set(config, PCI_IO_LIMIT, 1,
				  ((io->start + io->size - 1) >> 8) & 0xf0);
	}
	if (mem->size) {
		pci_registers_set(config, PCI_MEMORY_BASE, 2, (mem->start >> 16) & 0xfff0);
		pci_registers_set(config, PCI_MEMORY_LIMIT, 2,
				  ((mem->start + mem->size - 1) >> 16) & 0xfff0);
	}
	if (pref->size) {
		uint64_t last = pref->start + pref->size - 1;

		pci_registers_set(config, PCI_PREF_MEMORY_BASE, 2,
				  ((pref->start >> 16) & 0xfff0) | PCI_PREF_RANGE_TYPE_64);
		pci_registers_set(config, PCI_PREF_MEMORY_LIMIT, 2,
				  ((last >> 16) & 0xfff0) | PCI_PREF_RANGE_TYPE_64);
		pci_registers_set(config, PCI_PREF_BASE_UPPER32, 4, (uint32_t)(pref->start >> 32));
		pci_registers_set(config, PCI_PREF_LIMIT_UPPER32, 4, (uint32_t)(last >> 32));
	}
}

void pci_root_port_init(struct pci_root_port *port)
{
	*port = (struct pci_root_port){ .number = 0 };
	pthread_mutex_init(&port->lock, NULL);
	restore(port);
}

void pci_root_port_fini(struct pci_root_port *port)
{
	pthread_mutex_destroy(&port->lock);
}

void pci_root_port_program(struct pci_root_port *port, uint8_t number, uint8_t bus,
			   bool multifunction, const struct pci_window windows[PCI_WINDOW_KINDS])
{
	pthread_mutex_lock(&port->lock);
	port->number = number;
	port->bus = bus;
	port->multifunction = multifunction;
	for (unsigned kind = 0; kind < PCI_WINDOW_KINDS; kind++)
		port->windows[kind] = windows[kind];
	restore(port);
	pthread_mutex_unlock(&port->lock);
}

void pci_root_port_reset(struct pci_root_port *port)
{
	pthread_mutex_lock(&port->lock);
	restore(port);
	pthread_mutex_unlock(&port->lock);
}

uint8_t pci_root_port_secondary(struct pci_root_port *port)
{
	pthread_mutex_lock(&port->lock);
	uint8_t bus = (uint8_t)pci_registers_get(&port->config, PCI_SECONDARY_BUS, 1);
	pthread_mutex_unlock(&port->lock);
	return bus;
}

uint32_t pci_root_port_read(struct pci_root_port *port, unsigned offset, unsigned size)
{
	pthread_mutex_lock(&port->lock);
	uint32_t value = pci_registers_read(&port->config, offset, size);
	pthread_mutex_unlock(&port->lock);
	return value;
}

unsigned pci_root_port_write(struct pci_root_port *port, unsigned offset, unsigned size,
			     uint32_t value)
{
	struct pci_registers *config = &port->config;
	unsigned events = 0;

	pthread_mutex_lock(&port->lock);
	uint32_t bus = pci_registers_get(config, PCI_SECONDARY_BUS, 1);
	uint32_t control = pci_registers_get(config, PCI_BRIDGE_CONTROL, 2);
	uint32_t slot = slot_control(port);

	if (port->hotplug)
		slot_events_clear(port, offset, size, value);
	pci_registers_write(config, offset, size, value);
	if (pci_registers_get(config, PCI_SECONDARY_BUS, 1) != bus)
		events |= PCI_ROOT_PORT_RENUMBERED;
	if (~control & pci_registers_get(config, PCI_BRIDGE_CONTROL, 2) & PCI_BRIDGE_CTL_BUS_RESET)
		events |= PCI_ROOT_PORT_BUS_RESET;
	if (port->hotplug) {
		events |= slot_control_changed(port, slot);
		events |= interrupt_update(port);
	}
	pthread_mutex_unlock(&port->lock);
	return events;
}

unsigned pci_root_port_set_present(struct pci_root_port *port, bool present)
{
	unsigned events;

	pthread_mutex_lock(&port->lock);
	port->present = present;
	slot_status_set(port, (slot_status(port) & ~(uint32_t)PCI_EXP_SLTSTA_PDS) |
				      (present ? PCI_EXP_SLTSTA_PDS : 0));
	link_update(port);
	/* A guest that hears of the button only (Linux, where there is one) must hear of this too. */
	events = slot_event(port, PCI_EXP_SLTSTA_PDC | (present ? PCI_EXP_SLTSTA_ABP : 0));
	pthread_mutex_unlock(&port->lock);
	return events;
}

unsigned pci_root_port_press(struct pci_root_port *port)
{
	pthread_mutex_lock(&port->lock);
	unsigned events = slot_event(port, PCI_EXP_SLTSTA_ABP);
	pthread_mutex_unlock(&port->lock);
	return events;
}

bool pci_root_port_powered(struct pci_root_port *port)
{
	pthread_mutex_lock(&port->lock);
	bool powered = !port->hotplug || is_powered(slot_control(port));
	pthread_mutex_unlock(&port->lock);
	return powered;
}

bool pci_root_port_released(struct pci_root_port *port)
{
	pthread_mutex_lock(&port->lock);
	bool released = port->hotplug && is_released(slot_control(port));
	pthread_mutex_unlock(&port->lock);
	return released;
}

bool pci_root_port_message(struct pci_root_port *port, uint64_t *address, uint32_t *data)
{
	struct pci_registers *config = &port->config;

	pthread_mutex_lock(&port->lock);
	bool enabled = pci_registers_get(config, PCI_COMMAND, 2) & PCI_COMMAND_MASTER &&
		       pci_registers_get(config, CAP_MSI + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE;
	*address = pci_registers_get(config, CAP_MSI + PCI_MSI_ADDRESS_LO, 4) |
		   (uint64_t)pci_registers_get(config, CAP_MSI + PCI_MSI_ADDRESS_HI, 4) << 32;
	*data = pci_registers_get(config, CAP_MSI + PCI_MSI_DATA_64, 2);
	pthread_mutex_unlock(&port->lock);
	return enabled;
}
