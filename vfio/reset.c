// SPDX-License-Identifier: Apache-2.0
/* Function reset, with the method the kernel uses and the time it took in the log. */
#include <errno.h>
#include <string.h>

#include "vfio/device.h"

int vfio_device_reset(struct vfio_device *device, struct error *e)
{
	const char *methods = "software";
	uint64_t start, took;
	int err;

	if (device->ops == &vfio_kernel_ops)
		methods = container_of(device, struct vfio_kernel_device, device)->reset_methods;
	start = monotonic_ns();
	err = device->ops->reset ? device->ops->reset(device) : -ENOTTY;
	took = monotonic_ns() - start;
	if (err == -ENOTTY)
		return error_set(e, ENOTTY, "no-reset", NULL,
				 "%s: the device has no way to be reset alone", device->name);
	if (err)
		return error_set(e, -err, "reset-failed", NULL,
				 "%s: function reset (%s) failed after %.1f ms: %s", device->name,
				 methods, (double)took / 1e6, strerror(-err));
	log_info("%s: reset (%s) in %.1f ms", device->name, methods, (double)took / 1e6);
	return 0;
}
