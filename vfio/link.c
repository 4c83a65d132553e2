// SPDX-License-Identifier: Apache-2.0
/*
 * Speed and width of a function's PCI Express link. A reset can leave a link narrower or slower than it was,
 * on some boards until power goes off; nothing else reports that, and the guest is merely slow. So what
 * the link was before is kept, and a drop is a warning with both values.
 *
 * PCIe 6.0, 7.5.3.8 (Link Status); sysfs prints the same as current_link_speed and current_link_width.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfio/device.h"
#include "vfio/pci_internal.h"

/* Current Link Speed 1 to 6 */
static const unsigned speeds_mts[] = { 0, 2500, 5000, 8000, 16000, 32000, 64000 };

struct vfio_link vfio_link_parse(const char *speed, const char *width)
{
	struct vfio_link link = { 0 };
	unsigned whole, tenth, lanes;

	/* "16.0 GT/s PCIe", "Unknown" */
	if (sscanf(speed, "%3u.%1u GT/s", &whole, &tenth) == 2)
		link.mts = whole * 1000 + tenth * 100;
	if (sscanf(width, "%3u", &lanes) == 1 && lanes <= 32)
		link.width = lanes;
	return link.mts && link.width ? link : (struct vfio_link){ 0 };
}

struct vfio_link vfio_link_sysfs(const char *root, const struct pci_address *address)
{
	char path[VFIO_PATH_MAX], speed[32], width[16];

	vfio_sysfs_pci(path, root, address, "current_link_speed");
	if (file_read(-1, path, speed, sizeof(speed)) <= 0)
		return (struct vfio_link){ 0 };
	vfio_sysfs_pci(path, root, address, "current_link_width");
	if (file_read(-1, path, width, sizeof(width)) <= 0)
		return (struct vfio_link){ 0 };
	return vfio_link_parse(speed, width);
}

struct vfio_link vfio_link_read(struct vfio_device *device)
{
	uint8_t config[PCI_CONFIG_SNAPSHOT_SIZE];
	struct vfio_link link = { 0 };
	struct pci_capabilities caps;
	unsigned speed, status;

	if (device->ops->region_read(device, VFIO_PCI_CONFIG_REGION_INDEX, 0, config,
				     sizeof(config)) != (ssize_t)sizeof(config))
		return link;
	pci_capabilities_parse(config, false, &caps);
	if (!caps.pcie || caps.pcie->size < PCI_EXP_LNKSTA + 2)
		return link;
	status = pci_get16(config, caps.pcie->offset + PCI_EXP_LNKSTA);
	speed = status & PCI_EXP_LNKSTA_CLS;
	if (speed >= ARRAY_SIZE(speeds_mts))
		return link;
	link.mts = speeds_mts[speed];
	link.width = (status & PCI_EXP_LNKSTA_NLW) >> PCI_EXP_LNKSTA_NLW_SHIFT;
	/* Neither is what a function without a link of its own has. */
	return link.mts && link.width ? link : (struct vfio_link){ 0 };
}

bool vfio_link_dropped(const struct vfio_link *before, const struct vfio_link *now)
{
	return before->width && now->width &&
	       (now->width < before->width || now->mts < before->mts);
}

void vfio_link_check(struct vfio_kernel_device *kernel, const char *what)
{
	struct vfio_link now = vfio_link_read(&kernel->device), before = kernel->link;

	if (!now.width)
		return;
	kernel->link = now;
	if (!vfio_link_dropped(&before, &now))
		return;
	log_warn(
		"%s: its PCI Express link was x%u at %u.%u GT/s before %s and is x%u at %u.%u GT/s now "
		"(a lower speed may be the device saving power; a lower width is not)",
		kernel->device.name, before.width, before.mts / 1000, before.mts % 1000 / 100, what,
		now.width, now.mts / 1000, now.mts % 1000 / 100);
}
