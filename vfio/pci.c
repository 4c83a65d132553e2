// SPDX-License-Identifier: Apache-2.0
/*
 * One virtualised PCI function over any VFIO device: its life. The parts are listed in
 * pci_internal.h.
 *
 * Creation looks at the device once and asks the hypervisor for nothing; the first callback comes from
 * the first guest access. Each step of creation leaves the function in a state that
 * vfio_pci_destroy() takes apart, which is all the unwinding there is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vfio/quirk.h"

static void capabilities_find(struct vfio_pci *pci, const struct vfio_pci_options *options)
{
	const struct pci_capabilities *caps = &pci->caps;
	/* Only devices of software are handed guest memory by the operations table. */
	bool is_software = pci->device->ops->dma_map;

	pci_capabilities_parse(pci->original, is_software || options->allow_vendor_capability,
			       &pci->caps);
	if (caps->broken)
		log_limited(LOG_LEVEL_WARN, "%s: capability list ends early: %s", pci->device->name,
			    caps->broken);
	if (caps->dropped)
		log_limited(LOG_LEVEL_WARN,
			    "%s: %u capabilities hidden: truncated, overlapping or repeated",
			    pci->device->name, caps->dropped);
}

int vfio_pci_create(struct vfio_device *device, const struct vfio_pci_options *options,
		    const struct vfio_pci_host_ops *host, void *opaque, struct vfio_pci **out,
		    struct error *e)
{
	struct vfio_pci *pci = calloc(1, sizeof(*pci));
	int ret;

	if (!pci)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	pci->device = device;
	pci->host = host;
	pci->opaque = opaque;
	pci->rom = options->rom;
	pci->intx_trigger = pci->intx_resample = -1;
	pci->error_fd = pci->request_fd = -1;
	ret = pthread_mutex_init(&pci->lock, NULL);
	if (ret) {
		free(pci);
		return error_set(e, ret, "no-memory", NULL, "%s: %s", device->name, strerror(ret));
	}

	ret = pci_config_snapshot(pci, e);
	if (ret)
		goto fail;
	capabilities_find(pci, options);
	ret = pci_bars_discover(pci, e);
	if (ret)
		goto fail;
	pci_msi_init(pci);
	ret = pci_msix_init(pci, e);
	if (ret)
		goto fail;
	pci->has_intx = options->intx && pci->original[PCI_INTERRUPT_PIN] &&
			pci_irq_count(pci, VFIO_PCI_INTX_IRQ_INDEX);
	pci_config_init(pci);
	pci_extended_init(pci);
	ret = pci_quirks_init(pci, options, e);
	if (ret)
		goto fail;
	ret = pci_bars_map(pci, e);
	if (ret)
		goto fail;
	ret = pci_irq_init(pci, e);
	if (ret)
		goto fail;
	/* Decode on, bus mastering off: as a guest finds it. */
	pci_config_command(pci, true);
	*out = pci;
	return 0;

fail:
	vfio_pci_destroy(pci);
	return ret;
}

void vfio_pci_destroy(struct vfio_pci *pci)
{
	if (!pci)
		return;
	pci_quirks_fini(pci);
	/* Stop DMA before anything the device might be using goes away. */
	memset(pci->config + PCI_COMMAND, 0, 2);
	if (pci->commanded)
		pci_config_command(pci, false);
	pci_bars_off(pci);
	pci_irq_off(pci);
	pci_irq_fini(pci);
	pci_bars_unmap(pci);
	free(pci->msix_table);
	pthread_mutex_destroy(&pci->lock);
	free(pci);
}

int pci_function_reset(struct vfio_pci *pci, struct error *e)
{
	struct vfio_device *device = pci->device;
	uint8_t id[4];
	int ret = -ENOTTY;

	/* Bus mastering first, then what a reset would pull from under the guest. */
	pci_put16(pci->config, PCI_COMMAND, 0);
	pci_config_command(pci, false);
	pci_irq_off(pci);
	pci_bars_off(pci);
	if (device->ops->reset)
		ret = device->ops->reset(device);
	if (ret && ret != -ENOTTY)
		log_limited(LOG_LEVEL_WARN, "%s: reset failed: %s", device->name, strerror(-ret));

	pci_config_restore(pci);
	pci_msix_reset(pci);
	pci_config_command(pci, true);
	/* A device without a reset of its own is as quiet as it can be made. */
	if (ret && ret != -ENOTTY)
		return error_set(e, -ret, "reset-failed", NULL, "%s: reset failed: %s",
				 device->name, strerror(-ret));
	if (device->ops->region_read(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_VENDOR_ID, id, 4) !=
		    4 ||
	    memcmp(id, pci->original + PCI_VENDOR_ID, sizeof(id)) != 0) {
		log_limited(LOG_LEVEL_ERROR, "%s: does not answer after its reset", device->name);
		return error_set(e, EIO, "device-lost", NULL, "%s: does not answer after its reset",
				 device->name);
	}
	return 0;
}

int vfio_pci_reset(struct vfio_pci *pci, struct error *e)
{
	int ret;

	pthread_mutex_lock(&pci->lock);
	ret = pci_function_reset(pci, e);
	pthread_mutex_unlock(&pci->lock);
	return ret;
}

/* ---- small things the VMM asks and says ----------------------------------------------------- */

void vfio_pci_set_intx_line(struct vfio_pci *pci, uint8_t line)
{
	pthread_mutex_lock(&pci->lock);
	pci->power_on[PCI_INTERRUPT_LINE] = line;
	pci->config[PCI_INTERRUPT_LINE] = line;
	pthread_mutex_unlock(&pci->lock);
}

bool vfio_pci_has_intx(const struct vfio_pci *pci)
{
	return pci->has_intx;
}

void vfio_pci_set_multifunction(struct vfio_pci *pci, bool multifunction)
{
	uint8_t type = PCI_HEADER_TYPE_NORMAL | (multifunction ? PCI_HEADER_TYPE_MFD : 0);

	pthread_mutex_lock(&pci->lock);
	pci->power_on[PCI_HEADER_TYPE] = type;
	pci->config[PCI_HEADER_TYPE] = type;
	pthread_mutex_unlock(&pci->lock);
}

int vfio_pci_error_fd(const struct vfio_pci *pci)
{
	return pci->error_fd;
}

int vfio_pci_request_fd(const struct vfio_pci *pci)
{
	return pci->request_fd;
}
