// SPDX-License-Identifier: Apache-2.0
/*
 * Names of PCI devices by libpci, from pci.ids alone: no hardware, no udev, no network is asked.
 *
 * libpci does not expect its error callback to return, and this library may not end the process: a damaged pci.ids leaves the
 * call by longjmp(), and there are no names from then on.
 */
#include <pci/pci.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/node/private.h"

#define FROM_FILE PCI_LOOKUP_NO_HWDB

struct node_pci_names {
	struct pci_access *access;
	bool damaged;
};

/* Of the lookup that is under way in this thread. */
static _Thread_local jmp_buf *leave;

static void damaged(char *message, ...) __attribute__((noreturn));
static void damaged(char *message, ...)
{
	if (leave)
		longjmp(*leave, 1);
	abort(); /* not reached: libpci is called below only */
}

static void quiet(char *message, ...)
{
}

struct node_pci_names *node_pci_names_open(void)
{
	struct node_pci_names *names = calloc(1, sizeof(*names));

	if (!names)
		return NULL;
	/* not pci_init(): no access to hardware */
	names->access = pci_alloc();
	names->access->error = damaged;
	names->access->warning = quiet;
	names->access->debug = quiet;
	names->access->id_lookup_mode = 0; /* no cache of names in the caller's home */
	return names;
}

void node_pci_names_close(struct node_pci_names *names)
{
	if (!names)
		return;
	pci_cleanup(names->access);
	free(names);
}

/* False when libpci gave up. */
static bool ask(struct pci_access *access, char *name, size_t size, int flags, unsigned a,
		unsigned b)
{
	jmp_buf here;

	if (setjmp(here))
		return false;
	leave = &here;
	pci_lookup_name(access, name, (int)size, flags | FROM_FILE, (int)a, (int)b);
	leave = NULL;
	return true;
}

static void lookup(struct node_pci_names *names, char *name, size_t size, int flags, unsigned a,
		   unsigned b)
{
	if (names && !names->damaged)
		names->damaged = !ask(names->access, name, size, flags, a, b);
	leave = NULL;
	if (!names || names->damaged)
		snprintf(name, size, b ? "%04x:%04x" : "%04x", a, b);
	text_printable(name);
}

void node_pci_name(struct node_pci_names *names, unsigned vendor, unsigned device, char *name,
		   size_t size)
{
	lookup(names, name, size, PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE, vendor, device);
}

void node_pci_class_name(struct node_pci_names *names, unsigned class_code, char *name, size_t size)
{
	lookup(names, name, size, PCI_LOOKUP_CLASS, class_code >> 8, 0);
}
