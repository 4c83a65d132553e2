// SPDX-License-Identifier: Apache-2.0
/*
 * An assigned device in words: its address, then options, "0000:01:00.0,WORD=VALUE,...". The command
 * line, files and whoever adds a device to a running VM read it here.
 */
#include <errno.h>
#include <string.h>

#include "hypervisor-glue/hypervisor-glue.h"

int machine_device_parse(const char *text, const char *folder, struct machine_device *device,
			 struct error *e)
{
	*device = (struct machine_device){ 0 };
	if (pci_address_parse(text, &device->address))
		return error_set(e, EINVAL, "bad-value", NULL,
				 "\"%.200s\" is not a PCI address such as 0000:01:00.0", text);
	return 0;
}
