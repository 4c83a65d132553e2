/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to pci_*.c: the parts of the guest's PCI Express between the host bridge, which knows who
 * sits where (pci_host.c, pci_place.c, pci_hotplug.c), and the pieces that can be judged alone: placement
 * (pci_windows.c), register files (pci_registers.c), root ports (pci_root_port.c), and one function's
 * ties to the VM (pci_function.c).
 */
#ifndef GLUE_PCI_INTERNAL_H
#define GLUE_PCI_INTERNAL_H

#include <pthread.h>

#include "hypervisor-glue/pci.h"

#define PCI_DEVICES_MAX	  32 /* on one bus */
#define PCI_FUNCTIONS_MAX 8  /* of one device */

/* ---- placement (pci_windows.c): pure --------------------------------------------------------- */

/* A type-1 header forwards three windows; each BAR goes into one of the three kinds. */
enum pci_window_kind {
	PCI_WINDOW_IO,
	PCI_WINDOW_MEM32,
	PCI_WINDOW_MEM64,
	PCI_WINDOW_KINDS
};

struct pci_placed_bar {
	uint64_t size; /* power of two; 0: not there */
	bool is_io, is_64, prefetchable;
	uint64_t base; /* out; 0: no room (I/O only) */
};

struct pci_placed_slot {
	bool behind_port;
	unsigned bar_count;
	struct pci_placed_bar bars[PCI_FUNCTIONS_MAX * VFIO_PCI_PLACES];
	uint64_t reserve[PCI_WINDOW_KINDS];	     /* the least size of the port's windows */
	struct pci_window windows[PCI_WINDOW_KINDS]; /* out: the port's; size 0: closed */
};

struct pci_placement {
	uint64_t ram_end; /* first byte above all guest RAM */
	unsigned physical_bits;
	const struct iommu_range *iova; /* NULL, 0: everything */
	unsigned iova_count;
	struct pci_placed_slot *slots;
	unsigned slot_count;
	struct pci_window window32, window64; /* out: what the host bridge forwards */
};

/*
 * pci_windows_place() - give every BAR its address: largest first, each naturally aligned, at the
 * lowest free place. I/O that does not fit is left without an address and logged, since PCI
 * Express functions must work without (PCIe 6.0, 2.1.1.2); memory that does not fit is an error.
 *
 * Returns 0, -ENOMEM, or -ENOSPC ("bar-window-full").
 */
int pci_windows_place(struct pci_placement *placement, struct error *e);
/*
 * pci_windows_fit() - give the BARs of @slot addresses inside the port's windows that it has. I/O without
 * room is left without an address. Returns 0 or -ENOSPC ("bar-window-full").
 */
int pci_windows_fit(struct pci_placed_slot *slot, struct error *e);

/* ---- register files (pci_registers.c): pure ------------------------------------------------------ */

#define PCI_CONFIG_SIZE 256

/* One register: its value at power-on and the bits that a guest may change. */
struct pci_register {
	uint16_t offset;
	uint8_t size; /* 1, 2, 4 */
	uint32_t reset, writable;
};

/* The config space of a function that the VMM itself plays. Not locked: its owner does that. */
struct pci_registers {
	uint8_t value[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE];
};

void pci_registers_init(struct pci_registers *config, const struct pci_register *fields,
			unsigned count);
/* More registers, over what was there. */
void pci_registers_add(struct pci_registers *config, const struct pci_register *fields,
		       unsigned count);
/* The VMM's own access, over what is writable for the guest. @offset + @size within the space. */
uint32_t pci_registers_get(const struct pci_registers *config, unsigned offset, unsigned size);
void pci_registers_set(struct pci_registers *config, unsigned offset, unsigned size,
		       uint32_t value);
/* The guest's. Beyond PCI_CONFIG_SIZE: zeroes (no extended capability), and nothing is written. */
uint32_t pci_registers_read(const struct pci_registers *config, unsigned offset, unsigned size);
void pci_registers_write(struct pci_registers *config, unsigned offset, unsigned size,
			 uint32_t value);

/* ---- root ports (pci_root_port.c): pure -------------------------------------------------------- */

struct pci_root_port {
	pthread_mutex_t lock;
	struct pci_registers config;
	/* What firmware would have set, put back by pci_root_port_reset(). */
	uint8_t number, bus;
	bool multifunction;
	bool hotplug; /* its slot takes devices while the guest runs; set before it is programmed */
	bool present; /* something is in the slot */
	struct pci_window windows[PCI_WINDOW_KINDS];
	bool notified; /* the interrupt's condition held when it was last looked at */
};

/* What a change asks of the host bridge. */
#define PCI_ROOT_PORT_RENUMBERED 1u  /* the secondary bus number changed */
#define PCI_ROOT_PORT_BUS_RESET	 2u  /* Secondary Bus Reset was set */
#define PCI_ROOT_PORT_POWER	 4u  /* power of the slot went on or off */
#define PCI_ROOT_PORT_RELEASED	 8u  /* ... off for good: what is in the slot may be taken */
#define PCI_ROOT_PORT_INTERRUPT	 16u /* send pci_root_port_message() */

void pci_root_port_init(struct pci_root_port *port);
void pci_root_port_fini(struct pci_root_port *port);
/*
 * pci_root_port_program() - what firmware does: numbers and windows; then as after a reset.
 * @number: port number of the link capability, unique among the ports
 * @bus: the secondary bus, which is the subordinate too
 */
void pci_root_port_program(struct pci_root_port *port, uint8_t number, uint8_t bus,
			   bool multifunction, const struct pci_window windows[PCI_WINDOW_KINDS]);
void pci_root_port_reset(struct pci_root_port *port);
uint8_t pci_root_port_secondary(struct pci_root_port *port);
uint32_t pci_root_port_read(struct pci_root_port *port, unsigned offset, unsigned size);
/* Returns PCI_ROOT_PORT_* for the caller to act on, with no lock held. */
unsigned pci_root_port_write(struct pci_root_port *port, unsigned offset, unsigned size,
			     uint32_t value);
/*
 * The slot of a hot-plug port: something was put in or taken out; the attention button is pressed,
 * by which the guest is asked to give up what is in it. Return PCI_ROOT_PORT_*.
 */
unsigned pci_root_port_set_present(struct pci_root_port *port, bool present);
unsigned pci_root_port_press(struct pci_root_port *port);
/* Whether what is in the slot has power (always without hot-plug), and was given up by the guest. */
bool pci_root_port_powered(struct pci_root_port *port);
bool pci_root_port_released(struct pci_root_port *port);
/* pci_root_port_message() - the message of its interrupt; false when the guest has it off. */
bool pci_root_port_message(struct pci_root_port *port, uint64_t *address, uint32_t *data);

/* ---- memory that a device shows for a while (pci_function_maps.c) ------------------------------ */

/* Of one function. The VM's slots (VM_SLOTS_MAX) are shared by all. */
#define PCI_MAPS_MAX 512

struct pci_map {
	unsigned bar;
	bool shown; /* as a memory slot */
	uint64_t offset, size;
	void *hva; /* ours */
};

struct pci_maps {
	unsigned count;
	struct pci_map items[PCI_MAPS_MAX];
};

/*
 * All with the function's decode lock held. @gpa: where the BAR is, or was until now.
 * pci_maps_add() - @asked fits the BAR (vfio_pci_map_ok()); seen at once when it decodes. Returns 0,
 * -EEXIST, -ENOSPC, or what mmap(2) or KVM says; then nothing is left.
 */
int pci_maps_add(struct pci_maps *maps, struct vm *vm, const struct vfio_region_map *asked,
		 bool decoded, uint64_t gpa);
/* Exactly what was added, else -ENOENT. */
int pci_maps_remove(struct pci_maps *maps, struct vm *vm, unsigned bar, uint64_t offset,
		    uint64_t size, uint64_t gpa);
/* The BAR decodes; it does no longer. @name: for the log */
void pci_maps_show(struct pci_maps *maps, struct vm *vm, unsigned bar, uint64_t gpa,
		   const char *name);
void pci_maps_hide(struct pci_maps *maps, struct vm *vm, unsigned bar, uint64_t gpa);
/* Everything, when nothing decodes any more. */
void pci_maps_release(struct pci_maps *maps);

/* ---- one function's ties to the VM (pci_function.c) -------------------------------------------- */

struct pci_function;

/* pci_function_create() - the virtualised function over @device (borrowed), tied to @vm. */
int pci_function_create(struct vm *vm, struct vfio_device *device,
			const struct vfio_pci_options *options, struct pci_function **out,
			struct error *e);
/*
 * pci_function_share() - BARs of a kernel device become banks of @memory (borrowed) where and while they
 * decode. Before the guest runs.
 */
void pci_function_share(struct pci_function *function, struct guest_memory *memory);
/* Takes decode, routes and eventfds out of the VM; no vCPU may run. NULL is fine. */
void pci_function_destroy(struct pci_function *function);
struct vfio_pci *pci_function_pci(const struct pci_function *function);
struct vfio_device *pci_function_device(const struct pci_function *function);
const char *pci_function_name(const struct pci_function *function);
uint64_t pci_function_traps(const struct pci_function *function);
/*
 * pci_function_retry() - BARs that could not decode where the guest put them, since something else
 * was there, are tried again. Any thread, with no function's lock held.
 */
void pci_function_retry(struct pci_function *function);
/* pci_function_route_intx() - the GSI its INTA# raises; before the guest runs. */
void pci_function_route_intx(struct pci_function *function, unsigned gsi);

/* ---- the host bridge (pci_host.c, pci_place.c, pci_hotplug.c) ----------------------------------- */

#define PCI_BUSES	256
#define PCI_DEVFN(d, f) ((d) << 3 | (f))

/* Whoever answers configuration accesses at one device and function. */
enum pci_node_kind {
	PCI_NODE_NONE,
	PCI_NODE_HOST_BRIDGE,
	PCI_NODE_ROOT_PORT,
	PCI_NODE_FUNCTION
};

struct pci_slot;

struct pci_node {
	enum pci_node_kind kind;
	struct pci_slot *slot;	   /* PCI_NODE_ROOT_PORT */
	struct vfio_pci *function; /* PCI_NODE_FUNCTION */
};

struct pci_bus {
	struct pci_node nodes[PCI_DEVICES_MAX * PCI_FUNCTIONS_MAX];
};

/* What was added together: one software device, or the functions of one assigned slot. */
struct pci_slot {
	bool behind_port;
	bool asked;	   /* the guest was asked to give it up */
	bool is_host_slot; /* whose @address is the host's */
	struct pci_address address;
	unsigned function_count;
	struct pci_function *functions[PCI_FUNCTIONS_MAX]; /* atomic: NULL where one went */
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
	bool shares_bars;
	struct pci_window window32, window64;
	unsigned slot_count, port_count, function_count;
	struct pci_slot **slots; /* as they are once placed */
	/* In order of addition; once placed, atomic and with holes where one went. */
	struct pci_function **functions;
	unsigned hotplug_ports; /* ports that there must be at least; 0: no hot-plug */
	uint64_t hotplug_window;
	int hotplug_fd;		     /* eventfd: a guest gave a slot up */
	struct pci_registers bridge; /* nothing in it ever changes */
	struct pci_bus root;
	struct pci_bus *buses[PCI_BUSES]; /* atomic entries */
	pthread_mutex_t renumber;	  /* one at a time works @buses out */
	uint32_t address;		  /* 0xcf8, atomic */
};

/* pci_host_renumber() - work out which bus answers to which number, after ports were programmed. */
void pci_host_renumber(struct pci_host *host);
/* pci_host_port_events() - do what a change of @slot's port asks for (PCI_ROOT_PORT_*). */
void pci_host_port_events(struct pci_host *host, struct pci_slot *slot, unsigned events);
/* pci_host_slot_new() - one more slot, before anything is placed; NULL when out of memory. */
struct pci_slot *pci_host_slot_new(struct pci_host *host, bool behind_port);
void pci_host_slot_free(struct pci_slot *slot);
/* The BARs of functions for pci_windows.c, and the result put into those of @slot. */
void pci_bars_gather(struct pci_function *const *functions, unsigned count,
		     struct pci_placed_slot *placed);
void pci_slot_settle(struct pci_host *host, struct pci_slot *slot,
		     const struct pci_placed_slot *placed);

#endif
