// SPDX-License-Identifier: Apache-2.0
/*
 * The interrupt pin: a level, carried by two eventfds. The device signals @trigger and masks itself;
 * the host raises the pin, and when the guest has answered (EOI) it signals @resample, on which the
 * device unmasks and, if its level still stands, signals again. Nobody polls and nothing is lost.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "vfio/pci_internal.h"

#define SET_EVENTFD(action) (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_##action)

int pci_intx_on(struct vfio_pci *pci)
{
	struct vfio_device *device = pci->device;
	int32_t fd;
	int ret;

	pci->intx_trigger = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pci->intx_trigger < 0)
		return -errno;
	pci->intx_resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pci->intx_resample < 0) {
		ret = -errno;
		goto close_trigger;
	}
	/* Trigger first: unmasking by eventfd is only there for an interrupt that is on. */
	fd = pci->intx_trigger;
	ret = device->ops->set_irqs(device, SET_EVENTFD(TRIGGER), VFIO_PCI_INTX_IRQ_INDEX, 0, 1,
				    &fd);
	if (ret)
		goto close_resample;
	fd = pci->intx_resample;
	ret = device->ops->set_irqs(device, SET_EVENTFD(UNMASK), VFIO_PCI_INTX_IRQ_INDEX, 0, 1,
				    &fd);
	if (ret)
		goto device_off;
	ret = pci->host->intx_update(pci->opaque, pci->intx_trigger, pci->intx_resample);
	if (ret)
		goto device_off;
	return 0;

device_off:
	device->ops->set_irqs(device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
			      VFIO_PCI_INTX_IRQ_INDEX, 0, 0, NULL);
close_resample:
	fd_close(&pci->intx_resample);
close_trigger:
	fd_close(&pci->intx_trigger);
	return ret > 0 ? -EIO : ret;
}

void pci_intx_off(struct vfio_pci *pci)
{
	pci->device->ops->set_irqs(pci->device,
				   VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
				   VFIO_PCI_INTX_IRQ_INDEX, 0, 0, NULL);
	pci->host->intx_update(pci->opaque, -1, -1);
	fd_close(&pci->intx_resample);
	fd_close(&pci->intx_trigger);
}
