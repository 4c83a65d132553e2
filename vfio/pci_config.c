// SPDX-License-Identifier: Apache-2.0
/*
 * Config space: what a guest reads and writes, by permission tables over one snapshot.
 *
 * Each register that a guest may see has a line in a table: which bits it finds after power-on, which
 * are virtual (answered from our copy, the others by the device), which it may write (virtual ones
 * change our copy, the others go to the device). What no line names reads zero and takes no write, so
 * a register nobody thought of is hidden. Code is only where a
 * table cannot say it: COMMAND, power state, function reset, and what follows from a write.
 *
 * Every decision is made on our copy: what a device answers later changes no size and no place.
 */
#include <errno.h>
#include <string.h>

#include "vfio/pci_internal.h"

#define ALL 0xffffffffu

struct pci_register {
	uint8_t offset, size;
	uint32_t keep;	   /* bits of the snapshot that the guest finds after power-on */
	uint32_t set;	   /* bits it finds set whatever the snapshot says */
	uint32_t virt;	   /* bits answered from our copy */
	uint32_t writable; /* bits the guest may write */
};

#define COMMAND_WRITABLE                                                                     \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INVALIDATE | \
	 PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE)
/* Of these the device is told; decode, INTx and SERR have their own rules (pci_config_command()). */
#define COMMAND_THROUGH (PCI_COMMAND_MASTER | PCI_COMMAND_INVALIDATE | PCI_COMMAND_PARITY)

#define STATUS_ERRORS                                                                    \
	(PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT | \
	 PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY)

/* PCI Local Bus 3.0, 6.1 and 6.2. BIST, CardBus CIS and the expansion ROM are not offered. */
static const struct pci_register header_registers[] = {
	{ PCI_VENDOR_ID, 4, .keep = ALL, .virt = ALL },
	{ PCI_COMMAND, 2, .virt = ALL, .writable = COMMAND_WRITABLE },
	{ PCI_STATUS, 2, .keep = PCI_STATUS_66MHZ | PCI_STATUS_FAST_BACK | PCI_STATUS_DEVSEL_MASK,
	  .virt = ALL & ~(STATUS_ERRORS | PCI_STATUS_INTERRUPT), .writable = STATUS_ERRORS },
	{ PCI_CLASS_REVISION, 4, .keep = ALL, .virt = ALL },
	{ PCI_CACHE_LINE_SIZE, 1, .virt = ALL, .writable = ALL },
	{ PCI_LATENCY_TIMER, 1, .virt = ALL, .writable = ALL },
	{ PCI_SUBSYSTEM_VENDOR_ID, 4, .keep = ALL, .virt = ALL },
	{ PCI_INTERRUPT_LINE, 1, .virt = ALL, .writable = ALL },
	{ PCI_MIN_GNT, 2, .keep = ALL, .virt = ALL },
};

/*
 * PCI Power Management 1.2, 3.2. The power state is a register and nothing more: the device stays in
 * D0, so it loses nothing on the way back (No_Soft_Reset), and it makes no wake-up events.
 */
static const struct pci_register pm_registers[] = {
	{ PCI_PM_PMC, 2, .keep = PCI_PM_CAP_VER_MASK | PCI_PM_CAP_DSI, .virt = ALL },
	{ PCI_PM_CTRL, 2, .set = PCI_PM_CTRL_NO_SOFT_RESET, .virt = ALL,
	  .writable = PCI_PM_CTRL_STATE_MASK },
};

#define DEVCTL_REPORTING \
	(PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE | PCI_EXP_DEVCTL_URRE)
#define DEVCTL_THROUGH                                                                  \
	(PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_EXT_TAG | PCI_EXP_DEVCTL_NOSNOOP_EN | \
	 PCI_EXP_DEVCTL_READRQ)
#define DEVSTA_ERRORS \
	(PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD)
#define DEVCTL2_THROUGH                                                  \
	(PCI_EXP_DEVCTL2_COMP_TIMEOUT | PCI_EXP_DEVCTL2_COMP_TMOUT_DIS | \
	 PCI_EXP_DEVCTL2_ATOMIC_REQ | PCI_EXP_DEVCTL2_IDO_REQ_EN | PCI_EXP_DEVCTL2_IDO_CMP_EN)
#define LNKCTL_WRITABLE                                                                       \
	(PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES | \
	 PCI_EXP_LNKCTL_CLKREQ_EN)

/*
 * PCIe 6.0, 7.5.3. The link and the payload size are shared with ports the guest does not own: what
 * it writes there stays in our copy. How the function itself makes requests is the guest's choice.
 */
static const struct pci_register pcie_registers[] = {
	{ PCI_EXP_FLAGS, 2, .keep = PCI_EXP_FLAGS_VERS | PCI_EXP_FLAGS_TYPE, .virt = ALL },
	{ PCI_EXP_DEVCAP, 4, .keep = ALL & ~PCI_EXP_DEVCAP_FLR, .virt = ALL },
	{ PCI_EXP_DEVCTL, 2, .keep = PCI_EXP_DEVCTL_PAYLOAD, .virt = ALL & ~DEVCTL_THROUGH,
	  .writable = DEVCTL_REPORTING | PCI_EXP_DEVCTL_PAYLOAD | DEVCTL_THROUGH },
	{ PCI_EXP_DEVSTA, 2,
	  .virt = ALL & ~(DEVSTA_ERRORS | PCI_EXP_DEVSTA_AUXPD | PCI_EXP_DEVSTA_TRPND),
	  .writable = DEVSTA_ERRORS },
	{ PCI_EXP_LNKCAP, 4, .keep = ALL, .virt = ALL },
	{ PCI_EXP_LNKCTL, 2, .virt = ALL, .writable = LNKCTL_WRITABLE },
	{ PCI_EXP_LNKSTA, 2 },
	{ PCI_EXP_DEVCAP2, 4, .keep = ALL, .virt = ALL },
	{ PCI_EXP_DEVCTL2, 2, .virt = ALL & ~DEVCTL2_THROUGH, .writable = DEVCTL2_THROUGH },
	{ PCI_EXP_LNKCAP2, 4, .keep = ALL, .virt = ALL },
	{ PCI_EXP_LNKCTL2, 2, .keep = PCI_EXP_LNKCTL2_TLS, .virt = ALL },
	{ PCI_EXP_LNKSTA2, 2 },
};

static const struct pci_register msix_registers[] = {
	{ PCI_MSIX_FLAGS, 2, .keep = PCI_MSIX_FLAGS_QSIZE, .virt = ALL,
	  .writable = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL },
	{ PCI_MSIX_TABLE, 4, .keep = ALL, .virt = ALL },
	{ PCI_MSIX_PBA, 4, .keep = ALL, .virt = ALL },
};

/* ---- tables to maps ------------------------------------------------------------------------ */

static void registers_add(struct vfio_pci *pci, unsigned base, unsigned room,
			  const struct pci_register *registers, unsigned count)
{
	for (unsigned r = 0; r < count; r++) {
		const struct pci_register *reg = &registers[r];

		/* A short capability ends before its later registers. */
		if (reg->offset + reg->size > room)
			continue;
		for (unsigned i = 0; i < reg->size; i++) {
			unsigned at = base + reg->offset + i, shift = 8 * i;

			pci->power_on[at] = (pci->original[at] & (uint8_t)(reg->keep >> shift)) |
					    (uint8_t)(reg->set >> shift);
			pci->virt[at] = (uint8_t)(reg->virt >> shift);
			pci->writable[at] = (uint8_t)(reg->writable >> shift);
		}
	}
}

static void bars_add(struct vfio_pci *pci)
{
	for (unsigned i = 0; i < VFIO_PCI_BARS; i++) {
		unsigned at = PCI_BASE_ADDRESS_0 + 4 * i;

		pci_put32(pci->power_on, at, pci_bar_type_bits(pci, i));
		pci_put32(pci->writable, at, pci_bar_writable(pci, i));
	}
	if (pci->rom)
		pci_put32(pci->writable, PCI_ROM_ADDRESS,
			  pci_bar_writable(pci, VFIO_PCI_ROM) | PCI_ROM_ADDRESS_ENABLE);
}

static void capability_add(struct vfio_pci *pci, const struct pci_capability *cap)
{
	unsigned at = cap->offset;

	switch (cap->id) {
	case PCI_CAP_ID_PM:
		registers_add(pci, at, cap->size, pm_registers, ARRAY_SIZE(pm_registers));
		break;
	case PCI_CAP_ID_MSI:
		pci_msi_config(pci);
		break;
	case PCI_CAP_ID_MSIX:
		registers_add(pci, at, cap->size, msix_registers, ARRAY_SIZE(msix_registers));
		break;
	case PCI_CAP_ID_EXP:
		registers_add(pci, at, cap->size, pcie_registers, ARRAY_SIZE(pcie_registers));
		if (pci->has_flr)
			pci->power_on[at + PCI_EXP_DEVCAP + 3] |= PCI_EXP_DEVCAP_FLR >> 24;
		break;
	default: /* the vendor's: all of it is the device's business */
		memset(pci->virt + at, 0, cap->size);
		memset(pci->writable + at, 0xff, cap->size);
		pci->power_on[at + PCI_CAP_FLAGS] = pci->original[at + PCI_CAP_FLAGS];
		break;
	}
}

/* A capability that the device cannot back with interrupts is not shown. */
static bool capability_shown(const struct vfio_pci *pci, const struct pci_capability *cap)
{
	if (cap == pci->caps.msi)
		return pci->msi_count;
	if (cap == pci->caps.msix)
		return pci->msix.count;
	return true;
}

void pci_config_init(struct vfio_pci *pci)
{
	const struct pci_capability *pcie = pci->caps.pcie;
	unsigned link = PCI_CAPABILITY_LIST;

	memset(pci->virt, 0xff, sizeof(pci->virt));
	registers_add(pci, 0, PCI_STD_HEADER_SIZEOF, header_registers,
		      ARRAY_SIZE(header_registers));
	bars_add(pci);
	pci->power_on[PCI_INTERRUPT_PIN] = pci->has_intx ? 1 : 0;

	/* A guest's FLR is done by VFIO's reset, so it is offered where that works. */
	pci->has_flr = pcie && pci->device->flags & VFIO_DEVICE_FLAGS_RESET &&
		       pci->device->ops->reset &&
		       pci_get32(pci->original, pcie->offset + PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_FLR;

	/* The chain, relinked over what is shown. */
	for (unsigned i = 0; i < pci->caps.count; i++) {
		const struct pci_capability *cap = &pci->caps.items[i];

		if (!capability_shown(pci, cap))
			continue;
		capability_add(pci, cap);
		for (unsigned b = 0; b < 2; b++) {
			pci->virt[cap->offset + b] = 0xff;
			pci->writable[cap->offset + b] = 0;
		}
		pci->power_on[cap->offset + PCI_CAP_LIST_ID] = cap->id;
		pci->power_on[link] = cap->offset;
		link = cap->offset + PCI_CAP_LIST_NEXT;
		pci->power_on[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	}
	memcpy(pci->config, pci->power_on, sizeof(pci->config));
}

int pci_config_add_capability(struct vfio_pci *pci, uint8_t id, unsigned at, const uint8_t *bytes,
			      unsigned size)
{
	unsigned link = PCI_CAPABILITY_LIST;

	if (!pci_capability_room(pci->original, &pci->caps, at, size))
		return -EEXIST;
	/* The chain is ours by now: it ends. */
	while (pci->power_on[link])
		link = pci->power_on[link] + PCI_CAP_LIST_NEXT;
	memcpy(pci->power_on + at, bytes, size);
	memset(pci->virt + at, 0xff, size);
	memset(pci->writable + at, 0, size);
	pci->power_on[at + PCI_CAP_LIST_ID] = id;
	pci->power_on[at + PCI_CAP_LIST_NEXT] = 0;
	pci->power_on[link] = (uint8_t)at;
	pci->power_on[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	memcpy(pci->config, pci->power_on, sizeof(pci->config));
	return 0;
}

int pci_config_snapshot(struct vfio_pci *pci, struct error *e)
{
	struct vfio_device *device = pci->device;
	struct vfio_region region = { 0 };
	int ret = -EINVAL;

	if (device->region_count > VFIO_PCI_CONFIG_REGION_INDEX)
		ret = device->ops->get_region(device, VFIO_PCI_CONFIG_REGION_INDEX, &region);
	/* Linux's samples of mediated devices have 255 bytes (0xff), and so may drivers made after them. */
	if (!ret && region.size < PCI_CONFIG_SNAPSHOT_SIZE - 1)
		ret = -EINVAL;
	if (ret)
		return error_set(e, -ret, "config-unreadable", NULL,
				 "%s: no config space of 256 bytes or more (%llu bytes)",
				 device->name, (unsigned long long)region.size);
	pci->config_size = region.size >= VFIO_PCI_CONFIG_SIZE ? VFIO_PCI_CONFIG_SIZE
							       : PCI_CONFIG_SNAPSHOT_SIZE;

	for (unsigned at = 0; at < PCI_CONFIG_SNAPSHOT_SIZE; at += 4) {
		const size_t size = MIN((size_t)4, (size_t)(region.size - at));
		ssize_t got = device->ops->region_read(device, VFIO_PCI_CONFIG_REGION_INDEX, at,
						       pci->original + at, size);

		if (got != (ssize_t)size)
			return error_set(e, got < 0 ? (int)-got : EIO, "config-unreadable", NULL,
					 "%s: reading config space at 0x%x: %s", device->name, at,
					 got < 0 ? strerror((int)-got) : "short");
	}
	if (pci_get16(pci->original, PCI_VENDOR_ID) == 0xffff)
		return error_set(e, ENODEV, "config-unreadable", NULL,
				 "%s: config space reads all ones: the device does not answer",
				 device->name);
	if ((pci->original[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK) != PCI_HEADER_TYPE_NORMAL)
		return error_set(e, EINVAL, "is-a-bridge", NULL,
				 "%s: header type %u: only endpoints can be assigned", device->name,
				 pci->original[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK);
	return 0;
}

/* ---- the device's side --------------------------------------------------------------------- */

static bool device_read(struct vfio_pci *pci, unsigned offset, unsigned size, uint8_t *bytes)
{
	if (pci->device->ops->region_read(pci->device, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes,
					  size) == (ssize_t)size)
		return true;
	memset(bytes, 0xff, size);
	return false;
}

static void device_write(struct vfio_pci *pci, unsigned offset, unsigned size, const uint8_t *bytes)
{
	ssize_t ret = pci->device->ops->region_write(pci->device, VFIO_PCI_CONFIG_REGION_INDEX,
						     offset, bytes, size);

	if (ret != (ssize_t)size)
		log_limited(LOG_LEVEL_WARN, "%s: the device refused a config write at 0x%x: %s",
			    pci->device->name, offset, ret < 0 ? strerror((int)-ret) : "short");
}

void pci_config_command(struct vfio_pci *pci, bool force)
{
	uint16_t guest = pci_get16(pci->config, PCI_COMMAND);
	uint16_t command = pci->decode_bits | (guest & COMMAND_THROUGH);
	uint8_t bytes[2];

	/*
	 * Errors are reported to the host, which decided that they are: the guest's choice would hide them,
	 * and its 0 after power-on did. DEVCTL's bits for it are virtual for the same reason.
	 */
	command |= pci_get16(pci->original, PCI_COMMAND) & PCI_COMMAND_SERR;
	/*
	 * Memory decode stays on in the device whatever the guest does: its accesses are kept away by
	 * unmapping the BAR from the guest, and nothing faults or needs mapping again.
	 */
	if (!pci->has_intx || guest & PCI_COMMAND_INTX_DISABLE)
		command |= PCI_COMMAND_INTX_DISABLE;
	if (command == pci->device_command && pci->commanded && !force)
		return;
	pci->device_command = command;
	pci->commanded = true;
	pci_put16(bytes, 0, command);
	device_write(pci, PCI_COMMAND, 2, bytes);
}

/*
 * Write the bits that go to the device. A byte without such bits is not touched, one with some keeps
 * the device's others. All of the access in one piece where that can be, since a register of the
 * device may take only that.
 */
static void write_through(struct vfio_pci *pci, unsigned offset, unsigned size,
			  const uint8_t *value)
{
	uint8_t mask[4] = { 0 }, bytes[4] = { 0 };
	bool any = false, whole = true, partial = false;

	for (unsigned i = 0; i < size; i++) {
		mask[i] = pci->writable[offset + i] & (uint8_t)~pci->virt[offset + i];
		any |= mask[i] != 0;
		whole &= mask[i] != 0;
		partial |= mask[i] != 0 && mask[i] != 0xff;
	}
	if (!any || (partial && !device_read(pci, offset, size, bytes)))
		return;
	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)((bytes[i] & ~mask[i]) | (value[i] & mask[i]));
	if (whole) {
		device_write(pci, offset, size, bytes);
		return;
	}
	for (unsigned i = 0, step; i < size; i += step) {
		step = i + 1 < size && !((offset + i) & 1) && mask[i] && mask[i + 1] ? 2 : 1;
		if (mask[i])
			device_write(pci, offset + i, step, bytes + i);
	}
}

void pci_config_restore(struct vfio_pci *pci)
{
	const struct pci_capability *pcie = pci->caps.pcie;

	memcpy(pci->config, pci->power_on, sizeof(pci->config));
	if (!pcie)
		return;
	write_through(pci, pcie->offset + PCI_EXP_DEVCTL, 2,
		      pci->original + pcie->offset + PCI_EXP_DEVCTL);
	if (pcie->size >= PCI_EXP_DEVCTL2 + 2)
		write_through(pci, pcie->offset + PCI_EXP_DEVCTL2, 2,
			      pci->original + pcie->offset + PCI_EXP_DEVCTL2);
}

/* ---- guest accesses ------------------------------------------------------------------------ */

static bool size_ok(unsigned size)
{
	return size == 1 || size == 2 || size == 4;
}

static bool touches(unsigned offset, unsigned size, unsigned start, unsigned length)
{
	return offset < start + length && start < offset + size;
}

static bool touches_capability(const struct pci_capability *cap, unsigned offset, unsigned size)
{
	return cap && touches(offset, size, cap->offset, cap->size);
}

static uint32_t read_locked(struct vfio_pci *pci, unsigned offset, unsigned size)
{
	uint8_t device[4] = { 0 };
	uint32_t value = 0;

	if (touches_capability(pci->caps.msi, offset, size))
		pci_msi_refresh(pci);
	for (unsigned i = 0; i < size; i++) {
		if (pci->virt[offset + i] != 0xff) {
			device_read(pci, offset, size, device);
			break;
		}
	}
	for (unsigned i = 0; i < size; i++) {
		uint8_t virt = pci->virt[offset + i];
		uint8_t byte = (pci->config[offset + i] & virt) | (device[i] & (uint8_t)~virt);

		value |= (uint32_t)byte << 8 * i;
	}
	return value;
}

uint32_t vfio_pci_config_read(struct vfio_pci *pci, uint16_t offset, unsigned size)
{
	uint32_t value;

	if (!size_ok(size) || offset + size > pci->config_size)
		return ALL;
	if (offset + size > PCI_CONFIG_SNAPSHOT_SIZE)
		return pci_extended_read(pci, offset, size);
	pthread_mutex_lock(&pci->lock);
	value = read_locked(pci, offset, size);
	pthread_mutex_unlock(&pci->lock);
	return value;
}

/* D1 and D2 are not offered: a write of them changes nothing (PCI PM 1.2, 3.2.4). */
static void check_power_state(struct vfio_pci *pci, uint8_t before)
{
	uint8_t *pmcsr = &pci->config[pci->caps.pm->offset + PCI_PM_CTRL];
	uint8_t state = *pmcsr & PCI_PM_CTRL_STATE_MASK;

	if (state == 1 || state == 2)
		*pmcsr = before;
}

/* The guest's FLR: a bit that reads zero, so that no table holds it. */
static bool asks_flr(const struct vfio_pci *pci, unsigned offset, unsigned size,
		     const uint8_t *value)
{
	unsigned at;

	if (!pci->has_flr)
		return false;
	at = pci->caps.pcie->offset + PCI_EXP_DEVCTL + 1u;
	return at >= offset && at < offset + size &&
	       value[at - offset] & PCI_EXP_DEVCTL_BCR_FLR >> 8;
}

static void write_locked(struct vfio_pci *pci, unsigned offset, unsigned size, uint32_t value)
{
	const struct pci_capabilities *caps = &pci->caps;
	uint8_t bytes[4], pmcsr = 0;

	pci_put32(bytes, 0, value);
	if (asks_flr(pci, offset, size, bytes)) {
		pci_function_reset(pci, NULL); /* logged there; the guest sees what is left */
		return;
	}
	if (caps->pm)
		pmcsr = pci->config[caps->pm->offset + PCI_PM_CTRL];

	for (unsigned i = 0; i < size; i++) {
		uint8_t mask = pci->writable[offset + i] & pci->virt[offset + i];
		uint8_t *byte = &pci->config[offset + i];

		*byte = (uint8_t)((*byte & ~mask) | (bytes[i] & mask));
	}
	write_through(pci, offset, size, bytes);

	/* What follows from it. */
	if (caps->pm && touches_capability(caps->pm, offset, size))
		check_power_state(pci, pmcsr);
	if (touches(offset, size, PCI_COMMAND, 2))
		pci_config_command(pci, false);
	if (touches(offset, size, PCI_COMMAND, 2) ||
	    touches(offset, size, PCI_BASE_ADDRESS_0, 4 * VFIO_PCI_BARS) ||
	    touches(offset, size, PCI_ROM_ADDRESS, 4))
		pci_bars_update(pci);
	if (touches(offset, size, PCI_COMMAND, 2) || touches_capability(caps->msi, offset, size) ||
	    touches_capability(caps->msix, offset, size))
		pci_irq_update(pci);
}

void vfio_pci_config_write(struct vfio_pci *pci, uint16_t offset, unsigned size, uint32_t value)
{
	/* Nothing in the extended space can be written. */
	if (!size_ok(size) || offset + size > PCI_CONFIG_SNAPSHOT_SIZE)
		return;
	pthread_mutex_lock(&pci->lock);
	write_locked(pci, offset, size, value);
	pthread_mutex_unlock(&pci->lock);
}
