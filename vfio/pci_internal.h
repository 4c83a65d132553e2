/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to vfio/pci*.c: the parts of one virtualised PCI function.
 *
 *   pci.c            life: create, reset, destroy
 *   pci_caps.c       what a config space says: capabilities, BAR types, places of MSI-X (pure)
 *   pci_config.c     permission tables, guest reads and writes of config space
 *   pci_extended.c   extended config space: the resizable-BAR capability
 *   pci_bar.c        BAR and ROM decode, guest reads and writes of them
 *   pci_bar_map.c    host mappings of BARs, doorbells
 *   pci_irq.c        which kind of interrupt is on; eventfds and messages of MSI and MSI-X
 *   pci_msi.c        the MSI capability
 *   pci_msix.c       the MSI-X capability, its table and its pending bits
 *   pci_intx.c       the interrupt pin
 *   quirk.h          what single kinds of device need besides, a file a kind
 *
 * One rule for the lock: the public functions take it, everything declared here is called with it
 * held (or during creation and destruction, when nobody else knows the function). Exceptions say so.
 */
#ifndef VFIO_PCI_INTERNAL_H
#define VFIO_PCI_INTERNAL_H

#include <linux/pci_regs.h>
#include <pthread.h>

#include "vfio/vfio.h"

/* What is looked at register by register; of the extended part, pci_extended.c makes up its own. */
#define PCI_CONFIG_SNAPSHOT_SIZE 256
#define PCI_EXTENDED_SHOWN_SIZE	 52 /* a resizable-BAR capability of six BARs */
#define PCI_CAPABILITIES_MAX	 48 /* (256 - 64) / 4 */
#define PCI_MSI_VECTORS_MAX	 32

static inline uint16_t pci_get16(const uint8_t *config, unsigned offset)
{
	return (uint16_t)(config[offset] | config[offset + 1] << 8);
}

static inline uint32_t pci_get32(const uint8_t *config, unsigned offset)
{
	return pci_get16(config, offset) | (uint32_t)pci_get16(config, offset + 2) << 16;
}

static inline void pci_put16(uint8_t *config, unsigned offset, uint16_t value)
{
	config[offset] = (uint8_t)value;
	config[offset + 1] = (uint8_t)(value >> 8);
}

static inline void pci_put32(uint8_t *config, unsigned offset, uint32_t value)
{
	pci_put16(config, offset, (uint16_t)value);
	pci_put16(config, offset + 2, (uint16_t)(value >> 16));
}

/* ---- pci_caps.c: pure --------------------------------------------------------------------- */

struct pci_capability {
	uint8_t id, offset, size;
};

struct pci_capabilities {
	unsigned count;
	struct pci_capability items[PCI_CAPABILITIES_MAX]; /* allowed ones, in the chain's order */
	const struct pci_capability *pm, *msi, *msix, *pcie; /* into items; NULL: not there */
	unsigned dropped; /* allowed by id but left out: truncated, overlapping, or a second one */
	const char *broken; /* why the walk ended early, in words; NULL when it did not */
};

/*
 * pci_capabilities_parse() - walk the list of @config (PCI_CONFIG_SNAPSHOT_SIZE bytes), keep what the
 * allow-list names. @vendor: vendor-specific capabilities too. Ends for every input.
 */
void pci_capabilities_parse(const uint8_t *config, bool vendor, struct pci_capabilities *caps);

/*
 * pci_capability_room() - whether none of [@at, @at + @size) belongs to a capability in @caps, nor holds
 * the head of one that the list of @config names, shown or not.
 */
bool pci_capability_room(const uint8_t *config, const struct pci_capabilities *caps, unsigned at,
			 unsigned size);

struct pci_bar_type {
	bool is_io, is_64, prefetchable;
};
/*
 * pci_bar_type_parse() - what the low bits of a BAR register say of a region of @size bytes.
 * Returns the decode size (power of two), or 0 with *why set when the two do not go together.
 */
uint64_t pci_bar_type_parse(uint32_t reg, unsigned index, uint64_t size, struct pci_bar_type *type,
			    const char **why);

struct pci_msix_place {
	unsigned count; /* entries of the table */
	unsigned table_bar, pba_bar;
	uint64_t table_offset, table_size, pba_offset, pba_size;
};
void pci_msix_place_parse(const uint8_t *config, const struct pci_capability *cap,
			  struct pci_msix_place *place);

/*
 * pci_areas_carve() - the page-aligned parts of the region's mappable areas that touch none of the
 * @holes. Sorted, disjoint; returns how many (at most @max).
 */
unsigned pci_areas_carve(const struct vfio_region *region, const struct vfio_area *holes,
			 unsigned hole_count, uint64_t page_size, struct vfio_area *areas,
			 unsigned max);

/* ---- state -------------------------------------------------------------------------------- */

struct vfio_rom {
	uint64_t size; /* power of two, 2 KiB to VFIO_ROM_MAX */
	uint8_t data[];
};

struct pci_bar {
	struct vfio_pci_bar facts;
	uint64_t region_size; /* what of the BAR the device really has */
	struct vfio_io_fd *io_fds;
};

enum pci_irq_mode {
	PCI_IRQ_NONE,
	PCI_IRQ_INTX,
	PCI_IRQ_MSI,
	PCI_IRQ_MSIX
};

struct vfio_pci {
	struct vfio_device *device;
	const struct vfio_pci_host_ops *host;
	void *opaque;
	pthread_mutex_t lock;

	/* Config space: a bit of the four maps belongs to the same bit of the register. */
	uint32_t config_size;			    /* 256 or 4096, as the guest sees it */
	uint8_t original[PCI_CONFIG_SNAPSHOT_SIZE]; /* as read from the device, once */
	uint8_t power_on[PCI_CONFIG_SNAPSHOT_SIZE]; /* what the guest finds after a reset */
	uint8_t config[PCI_CONFIG_SNAPSHOT_SIZE];   /* now */
	uint8_t virt[PCI_CONFIG_SNAPSHOT_SIZE];	    /* answered from @config, else by the device */
	uint8_t writable[PCI_CONFIG_SNAPSHOT_SIZE]; /* by the guest */
	struct pci_capabilities caps;
	bool has_flr;
	bool commanded;		 /* @device_command was written */
	uint16_t decode_bits;	 /* COMMAND.MEM and .IO as they stay on in the device */
	uint16_t device_command; /* COMMAND as last written to the device */

	uint8_t extended[PCI_EXTENDED_SHOWN_SIZE]; /* from 0x100 on; the guest cannot write it */
	uint32_t quirks;			   /* a bit for each of the table that is on */

	struct pci_bar bars[VFIO_PCI_PLACES];
	const struct vfio_rom *rom; /* NULL: there is none */

	/* Interrupts. */
	enum pci_irq_mode irq_mode;
	bool has_intx;
	int intx_trigger, intx_resample;
	unsigned msi_count;		/* what the device can, a power of two; 0: no MSI */
	struct pci_msix_place msix;	/* count 0: no MSI-X */
	unsigned msix_count;		/* entries that the device can raise */
	uint32_t *msix_table;		/* msix.count entries of four words */
	unsigned vector_count;		/* live message vectors: those with an eventfd */
	unsigned vector_asked;		/* how many the guest's registers asked for */
	int *eventfds;			/* of all vectors there can be; -1: not live */
	struct vfio_pci_vector *wanted; /* scratch: what the guest's registers say */
	struct vfio_pci_vector *told;	/* what the host was told last */
	int error_fd, request_fd;
};

/* ---- pci_config.c ------------------------------------------------------------------------- */

/* pci_config_snapshot() - fill @original from the device. */
int pci_config_snapshot(struct vfio_pci *pci, struct error *e);
/* pci_config_init() - tables to maps; BARs and MSI-X are known. */
void pci_config_init(struct vfio_pci *pci);
/* pci_config_restore() - power-on values, in our copy and in what guests write through. */
void pci_config_restore(struct vfio_pci *pci);
/*
 * pci_config_command() - bring the device's COMMAND to what the guest's says (decode stays on).
 * @force: also when nothing seems to have changed
 */
void pci_config_command(struct vfio_pci *pci, bool force);
/*
 * pci_config_add_capability() - a read-only capability of our own at the end of the chain, before the
 * guest runs. @bytes: @size of them, the first two (id and link) are set here
 * Returns 0, or -EEXIST where pci_capability_room() says no.
 */
int pci_config_add_capability(struct vfio_pci *pci, uint8_t id, unsigned at, const uint8_t *bytes,
			      unsigned size);

/* ---- pci_extended.c ----------------------------------------------------------------------- */

/* pci_extended_init() - what the guest finds from 0x100 on; BARs are known. */
void pci_extended_init(struct vfio_pci *pci);
/* pci_extended_read() - the guest's access, within config space and not all below 0x100. No lock. */
uint32_t pci_extended_read(const struct vfio_pci *pci, unsigned offset, unsigned size);

/* ---- pci.c -------------------------------------------------------------------------------- */

/* pci_function_reset() - vfio_pci_reset() and the guest's FLR, lock held. */
int pci_function_reset(struct vfio_pci *pci, struct error *e);

/* ---- pci_bar.c ---------------------------------------------------------------------------- */

/* pci_bars_discover() - sizes and types, before pci_msix_init(). */
int pci_bars_discover(struct vfio_pci *pci, struct error *e);
/* pci_bar_register() - where BAR @index or the ROM has its register in config space. */
static inline unsigned pci_bar_register(unsigned index)
{
	return index == VFIO_PCI_ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * index;
}
/* pci_bar_writable() - which bits of BAR register @index hold the address. */
uint32_t pci_bar_writable(const struct vfio_pci *pci, unsigned index);
/* pci_bar_type_bits() - the read-only low bits of BAR register @index. */
uint32_t pci_bar_type_bits(const struct vfio_pci *pci, unsigned index);
/* pci_bars_update() - tell the host of what COMMAND and the BAR registers changed. */
void pci_bars_update(struct vfio_pci *pci);
/* pci_bars_off() - no BAR decodes. */
void pci_bars_off(struct vfio_pci *pci);

/* ---- pci_bar_map.c ------------------------------------------------------------------------ */

/* pci_bars_map() - host mappings and doorbells, after pci_msix_init(). What cannot be mapped traps. */
int pci_bars_map(struct vfio_pci *pci, struct error *e);
void pci_bars_unmap(struct vfio_pci *pci);

/* ---- pci_irq.c ---------------------------------------------------------------------------- */

int pci_irq_init(struct vfio_pci *pci, struct error *e);
void pci_irq_fini(struct vfio_pci *pci);
/* pci_irq_count() - how many interrupts the device has at a VFIO index; 0 when it has no such. */
unsigned pci_irq_count(struct vfio_pci *pci, uint32_t index);
/* pci_irq_update() - reconcile with the guest's registers: mode, number of vectors, messages. */
void pci_irq_update(struct vfio_pci *pci);
/* pci_irq_off() - whatever is on. */
void pci_irq_off(struct vfio_pci *pci);
/* pci_vectors_update() - messages or masks of vectors [first, first + count) changed. */
void pci_vectors_update(struct vfio_pci *pci, unsigned first, unsigned count);
/*
 * pci_vectors_pending() - a bit for each of up to 64 vectors from @first that fired while masked.
 * While masked no irqfd consumes the eventfd, so that its counter is the pending bit; poll(2)
 * looks without consuming. Once the vector is unmasked the host attaches an irqfd, which finds the
 * counter and raises the interrupt: nothing else is needed to deliver what was pending.
 */
uint64_t pci_vectors_pending(struct vfio_pci *pci, unsigned first);

/* ---- pci_msi.c ---------------------------------------------------------------------------- */

void pci_msi_init(struct vfio_pci *pci);
void pci_msi_config(struct vfio_pci *pci); /* tables to maps */
bool pci_msi_enabled(const struct vfio_pci *pci);
unsigned pci_msi_wanted(const struct vfio_pci *pci); /* vectors the guest enabled */
void pci_msi_message(const struct vfio_pci *pci, unsigned index, struct vfio_pci_vector *vector);
/* pci_msi_refresh() - pending bits into our copy, before a read. */
void pci_msi_refresh(struct vfio_pci *pci);

/* ---- pci_msix.c --------------------------------------------------------------------------- */

int pci_msix_init(struct vfio_pci *pci, struct error *e);
void pci_msix_reset(struct vfio_pci *pci);
bool pci_msix_enabled(const struct vfio_pci *pci);
void pci_msix_message(const struct vfio_pci *pci, unsigned index, struct vfio_pci_vector *vector);
/* pci_msix_holes() - the places of table and PBA in @bar, at most 2. */
unsigned pci_msix_holes(const struct vfio_pci *pci, unsigned bar, struct vfio_area holes[2]);
/* pci_msix_hit() - whether an access touches table or PBA. Any thread, no lock. */
bool pci_msix_hit(const struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size);
/* For accesses that hit. Bytes beside table and PBA read as ones and take no write. */
uint64_t pci_msix_read(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size);
void pci_msix_write(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size,
		    uint64_t value);

/* ---- pci_intx.c --------------------------------------------------------------------------- */

int pci_intx_on(struct vfio_pci *pci);
void pci_intx_off(struct vfio_pci *pci);

#endif
