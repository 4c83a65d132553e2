/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of instances/node/ share with each other and with their tests. */
#ifndef INSTANCES_NODE_PRIVATE_H
#define INSTANCES_NODE_PRIVATE_H

#include "instances/node/node.h"

#define NODE_PATH_MAX 512

/* ---- sysfs.c: small reads below a root; what is not there, or makes no sense, is empty ---------------- */

/* node_path() - ROOT and the rest. Returns @path; "" where it is too long. */
const char *node_path(char path[NODE_PATH_MAX], const char *root, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* node_pci_path() - of @leaf of a function in sysfs. */
const char *node_pci_path(char path[NODE_PATH_MAX], const char *root,
			  const struct pci_address *address, const char *leaf);
/* node_text() - one line of printable ASCII, other bytes as '?'; false and "" where there is none. */
bool node_text(const char *path, char *text, size_t size);
/* node_number() - an unsigned number, or @otherwise. */
uint64_t node_number(const char *path, uint64_t otherwise);
/* node_link_name() - the last component of a link's target, or "". */
void node_link_name(const char *path, char *name, size_t size);
/* node_names() - call @found with the entries of a folder in order, at most @max. */
void node_names(const char *path, unsigned max, void (*found)(void *opaque, const char *name),
		void *opaque);
bool node_exists(const char *path);

/* ---- machine.c: CPUs, memory, NUMA nodes, what the IOMMU is good for ---------------------------------- */

void node_machine_read(const char *root, struct node *node);

/* ---- pci.c: the GPUs among the PCI functions ----------------------------------------------------------- */

/* node_pci_read() - into @node. Returns 0 or -ENOMEM. */
int node_pci_read(const char *root, struct node *node);
/* node_gpu_add() - room for one more, zeroed; NULL: out of memory, or node->truncated. */
struct node_gpu *node_gpu_add(struct node *node);
/* node_gpu_read() - all that sysfs says of gpu->address. */
void node_gpu_read(const char *root, const struct node *node, struct node_gpu *gpu);

/* ---- mdev.c ------------------------------------------------------------------------------------------------ */

/* node_mdevs_read() - which mediated devices there are, of any parent that is a PCI function. Returns 0 or -ENOMEM. */
int node_mdevs_read(const char *root, struct node *node);
/* node_mdev_types_read() - what can be made of gpu->address, and how many there are by now (node_mdevs_read() comes before). */
void node_mdev_types_read(const char *root, const struct node *node, struct node_gpu *gpu);

/* ---- identity.c ------------------------------------------------------------------------------------------ */

/* node_serial_read() - a number of the hardware's own that a file tells, as an ID ("GPU-...", "amdgpu-...", "serial-...", "dsn-..."); "": none. */
void node_serial_read(const char *root, struct node_gpu *gpu);
/* node_identify() - an ID for each GPU. */
void node_identify(struct node *node, const struct node_known *known, unsigned known_count);

#endif
