// SPDX-License-Identifier: Apache-2.0
/*
 * Which kind of interrupt the function has on, and the eventfds of its message vectors.
 *
 * The guest's registers say what should be (MSI-X before MSI before the pin; one kind at a time, as
 * VFIO has it); pci_irq_update() brings device and host there. Enabling MSI or MSI-X is one call to
 * the device for all vectors. After that nothing the guest does to messages and masks reaches the
 * device: each vector has a state the host was told last and one the registers say now, and a change
 * is one msi_update() over the vectors that differ. A masked vector's event stays in its eventfd.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "vfio/pci_internal.h"

#define IRQ_TRIGGER_EVENTFD (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define IRQ_TRIGGER_OFF	    (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)
#define ENABLE_TRIES	    16

unsigned pci_irq_count(struct vfio_pci *pci, uint32_t index)
{
	struct vfio_device *device = pci->device;
	struct vfio_irq irq = { 0 };

	if (index >= device->irq_count || !device->ops->get_irq || !device->ops->set_irqs ||
	    device->ops->get_irq(device, index, &irq))
		return 0;
	return irq.count;
}

/* ---- message vectors ----------------------------------------------------------------------- */

static uint32_t mode_index(enum pci_irq_mode mode)
{
	return mode == PCI_IRQ_MSIX ? VFIO_PCI_MSIX_IRQ_INDEX : VFIO_PCI_MSI_IRQ_INDEX;
}

static void eventfds_close(struct vfio_pci *pci, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		fd_close(&pci->eventfds[i]);
}

/* As many of @count eventfds as there can be; half of them where the process runs out. */
static unsigned eventfds_open(struct vfio_pci *pci, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		pci->eventfds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (pci->eventfds[i] >= 0)
			continue;
		log_limited(LOG_LEVEL_ERROR, "%s: eventfd %u of %u: %s (the open files limit?)",
			    pci->device->name, i + 1, count, strerror(errno));
		eventfds_close(pci, i / 2, i);
		return i / 2;
	}
	return count;
}

/* What the guest's registers say of vectors [first, first + count), into @wanted. */
static void vectors_read(struct vfio_pci *pci, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++) {
		if (pci->irq_mode == PCI_IRQ_MSIX)
			pci_msix_message(pci, i, &pci->wanted[i]);
		else
			pci_msi_message(pci, i, &pci->wanted[i]);
	}
}

static void vectors_tell(struct vfio_pci *pci, unsigned first, unsigned count)
{
	int ret = pci->host->msi_update(pci->opaque, first, count, &pci->wanted[first],
					&pci->eventfds[first]);

	if (ret) {
		/* Not remembered as told, so that the guest's next change tries again. */
		log_limited(LOG_LEVEL_ERROR, "%s: vectors %u-%u cannot be delivered: %s",
			    pci->device->name, first, first + count - 1, strerror(-ret));
		return;
	}
	memcpy(&pci->told[first], &pci->wanted[first], count * sizeof(pci->told[0]));
}

static bool vector_differs(const struct vfio_pci_vector *a, const struct vfio_pci_vector *b)
{
	if (a->masked || b->masked)
		return a->masked != b->masked;
	return a->address != b->address || a->data != b->data;
}

void pci_vectors_update(struct vfio_pci *pci, unsigned first, unsigned count)
{
	unsigned end = MIN(first + count, pci->vector_count), from = end, to = first;

	if (first >= end)
		return;
	vectors_read(pci, first, end - first);
	for (unsigned i = first; i < end; i++) {
		if (!vector_differs(&pci->wanted[i], &pci->told[i]))
			continue;
		from = MIN(from, i);
		to = i + 1;
	}
	if (from < to)
		vectors_tell(pci, from, to - from);
}

uint64_t pci_vectors_pending(struct vfio_pci *pci, unsigned first)
{
	struct pollfd fds[64];
	uint64_t pending = 0;
	unsigned count;

	if (first >= pci->vector_count)
		return 0;
	count = MIN(pci->vector_count - first, (unsigned)ARRAY_SIZE(fds));
	for (unsigned i = 0; i < count; i++) {
		/* poll(2) skips negative descriptors: an unmasked vector's event is on its way. */
		fds[i].fd = pci->told[first + i].masked ? pci->eventfds[first + i] : -1;
		fds[i].events = POLLIN;
		fds[i].revents = 0;
	}
	if (poll(fds, count, 0) <= 0)
		return 0;
	for (unsigned i = 0; i < count; i++)
		if (fds[i].revents & POLLIN)
			pending |= UINT64_C(1) << i;
	return pending;
}

static unsigned power_of_two_below(unsigned value)
{
	return value ? 1u << (31 - __builtin_clz(value)) : 0;
}

/* Enable up to @count vectors of the device at once, fewer where it has no more to give. */
static int device_on(struct vfio_pci *pci, enum pci_irq_mode mode, unsigned count)
{
	struct vfio_device *device = pci->device;
	unsigned asked = count, opened;
	int ret = -EMFILE;

	count = opened = eventfds_open(pci, count);
	for (unsigned try = 0; count && try < ENABLE_TRIES; try++) {
		unsigned next;

		/* MSI knows powers of two only. */
		if (mode == PCI_IRQ_MSI)
			count = power_of_two_below(count);
		ret = device->ops->set_irqs(device, IRQ_TRIGGER_EVENTFD, mode_index(mode), 0, count,
					    pci->eventfds);
		if (!ret)
			break;
		/* The kernel says how many it could, or only that they were too many. */
		if (ret > 0)
			next = MIN((unsigned)ret, count - 1);
		else
			next = ret == -ENOSPC ? count / 2 : 0;
		count = next;
	}
	if (ret || !count) {
		eventfds_close(pci, 0, opened);
		return ret < 0 ? ret : -ENOSPC;
	}
	eventfds_close(pci, count, opened);
	if (count < asked)
		log_limited(LOG_LEVEL_WARN, "%s: %u of %u interrupt vectors: the host has no more",
			    device->name, count, asked);
	pci->vector_count = count;
	return 0;
}

static int messages_on(struct vfio_pci *pci, enum pci_irq_mode mode, unsigned count)
{
	int ret = device_on(pci, mode, count);

	if (ret)
		return ret;
	pci->irq_mode = mode;
	pci->vector_asked = count;
	for (unsigned i = 0; i < pci->vector_count; i++)
		pci->told[i] = (struct vfio_pci_vector){ .masked = true };
	/* All at once, so that the host sets up its routes in one go. */
	vectors_read(pci, 0, pci->vector_count);
	vectors_tell(pci, 0, pci->vector_count);
	return 0;
}

static void messages_off(struct vfio_pci *pci)
{
	pci->device->ops->set_irqs(pci->device, IRQ_TRIGGER_OFF, mode_index(pci->irq_mode), 0, 0,
				   NULL);
	pci->host->msi_release(pci->opaque);
	eventfds_close(pci, 0, pci->vector_count);
	pci->vector_count = 0;
}

/* ---- reconciliation ------------------------------------------------------------------------ */

static enum pci_irq_mode mode_wanted(const struct vfio_pci *pci)
{
	uint16_t command = pci_get16(pci->config, PCI_COMMAND);

	if (pci_msix_enabled(pci))
		return PCI_IRQ_MSIX;
	if (pci_msi_enabled(pci))
		return PCI_IRQ_MSI;
	if (!pci->has_intx || command & PCI_COMMAND_INTX_DISABLE)
		return PCI_IRQ_NONE;
	/*
	 * The pin has no enable bit. A function whose registers nobody can reach has nothing to say;
	 * it begins with the first decode and lasts until it is switched off.
	 */
	if (command & (PCI_COMMAND_MEMORY | PCI_COMMAND_IO) || pci->irq_mode == PCI_IRQ_INTX)
		return PCI_IRQ_INTX;
	return PCI_IRQ_NONE;
}

void pci_irq_off(struct vfio_pci *pci)
{
	switch (pci->irq_mode) {
	case PCI_IRQ_NONE:
		break;
	case PCI_IRQ_INTX:
		pci_intx_off(pci);
		break;
	case PCI_IRQ_MSI:
	case PCI_IRQ_MSIX:
		messages_off(pci);
		break;
	}
	pci->irq_mode = PCI_IRQ_NONE;
}

void pci_irq_update(struct vfio_pci *pci)
{
	static const char *const names[] = { "none", "INTx", "MSI", "MSI-X" };
	enum pci_irq_mode mode = mode_wanted(pci);
	unsigned count = 0;
	int ret = 0;

	if (mode == PCI_IRQ_MSIX)
		count = pci->msix_count;
	else if (mode == PCI_IRQ_MSI)
		count = pci_msi_wanted(pci);

	if (mode == pci->irq_mode && (mode == PCI_IRQ_INTX || count == pci->vector_asked)) {
		pci_vectors_update(pci, 0, pci->vector_count);
		return;
	}
	pci_irq_off(pci);
	pci->vector_asked = 0;
	if (mode == PCI_IRQ_INTX) {
		ret = pci_intx_on(pci);
		if (!ret)
			pci->irq_mode = PCI_IRQ_INTX;
	} else if (mode != PCI_IRQ_NONE) {
		ret = messages_on(pci, mode, count);
	}
	/* The guest has no way to be told; its next write to these registers tries again. */
	if (ret)
		log_limited(LOG_LEVEL_ERROR, "%s: %s cannot be enabled: %s", pci->device->name,
			    names[mode], strerror(-ret));
}

/* ---- life ---------------------------------------------------------------------------------- */

/* An eventfd on one of the indexes by which the kernel speaks to us, -1 where there is none. */
static int notice_arm(struct vfio_pci *pci, uint32_t index, const char *what)
{
	struct vfio_device *device = pci->device;
	int32_t fd;
	int ret;

	if (!pci_irq_count(pci, index))
		return -1;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = fd < 0 ? -errno
		     : device->ops->set_irqs(device, IRQ_TRIGGER_EVENTFD, index, 0, 1, &fd);
	if (ret) {
		log_warn("%s: %s will not be noticed: %s", device->name, what,
			 ret < 0 ? strerror(-ret) : "refused");
		fd_close(&fd);
	}
	return fd;
}

static void notice_disarm(struct vfio_pci *pci, uint32_t index, int *fd)
{
	if (*fd < 0)
		return;
	pci->device->ops->set_irqs(pci->device, IRQ_TRIGGER_OFF, index, 0, 0, NULL);
	fd_close(fd);
}

int pci_irq_init(struct vfio_pci *pci, struct error *e)
{
	unsigned capacity = MAX(pci->msi_count, pci->msix_count);

	pci->eventfds = calloc(capacity + 1, sizeof(*pci->eventfds));
	pci->wanted = calloc(capacity + 1, sizeof(*pci->wanted));
	pci->told = calloc(capacity + 1, sizeof(*pci->told));
	if (!pci->eventfds || !pci->wanted || !pci->told)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory",
				 pci->device->name);
	for (unsigned i = 0; i < capacity; i++)
		pci->eventfds[i] = -1;
	pci->error_fd = notice_arm(pci, VFIO_PCI_ERR_IRQ_INDEX, "an error of the device");
	pci->request_fd =
		notice_arm(pci, VFIO_PCI_REQ_IRQ_INDEX, "the host's request to have it back");
	return 0;
}

void pci_irq_fini(struct vfio_pci *pci)
{
	notice_disarm(pci, VFIO_PCI_REQ_IRQ_INDEX, &pci->request_fd);
	notice_disarm(pci, VFIO_PCI_ERR_IRQ_INDEX, &pci->error_fd);
	free(pci->told);
	free(pci->wanted);
	free(pci->eventfds);
}
