// SPDX-License-Identifier: Apache-2.0
/*
 * Resets, with the method the kernel uses and the time it took in the log: of one function, and of all
 * that a VM has, at once, where those that cannot be reset alone are reset with their slot or bus.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vfio/device.h"

#define DEVICES_MAX 64 /* a bit each */

static struct vfio_kernel_device *to_kernel(struct vfio_device *device)
{
	return device->ops == &vfio_kernel_ops
		       ? container_of(device, struct vfio_kernel_device, device)
		       : NULL;
}

int vfio_device_reset(struct vfio_device *device, struct error *e)
{
	struct vfio_kernel_device *kernel = to_kernel(device);
	const char *methods = kernel ? kernel->reset_methods : "software";
	uint64_t start, took;
	int err;

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
	if (kernel)
		vfio_link_check(kernel, "its reset");
	return 0;
}

/* What came of one device's reset alone. */
struct alone {
	struct vfio_device *const *devices;
	int results[DEVICES_MAX];
	struct error errors[DEVICES_MAX];
};

static void reset_alone(void *opaque, unsigned index)
{
	struct alone *alone = opaque;

	alone->results[index] = vfio_device_reset(alone->devices[index], &alone->errors[index]);
}

/*
 * With its slot, after it could not be reset alone for @err. Returns 0 (with what was reset in *done, or
 * with a warning), or why it failed.
 */
static int reset_together(struct vfio_device *const *devices, unsigned count, unsigned index,
			  int err, const struct error *alone, uint64_t *done, struct error *e)
{
	struct vfio_kernel_device *kernel = to_kernel(devices[index]);
	struct error together = { 0 };
	uint64_t covered;

	if (kernel && !vfio_hot_reset(kernel, devices, count, &covered, &together)) {
		if (err != -ENOTTY)
			log_limited(LOG_LEVEL_WARN, "%s", alone->text);
		*done |= covered;
		for (unsigned i = 0; i < count; i++)
			if (covered & UINT64_C(1) << i)
				vfio_link_check(to_kernel(devices[i]), "the reset of its slot");
		return 0;
	}
	if (err == -ENOTTY) {
		log_limited(LOG_LEVEL_WARN, "%s%s%s", alone->text, kernel ? "; " : "",
			    together.text);
		return 0;
	}
	return error_set(e, -err, alone->code, together.next[0] ? together.next : NULL, "%s%s%s",
			 alone->text, kernel ? "; " : "", together.text);
}

int vfio_devices_reset(struct vfio_device *const *devices, unsigned count, struct error *e)
{
	struct alone *alone;
	uint64_t done = 0;
	int first = 0;

	if (count > DEVICES_MAX)
		return error_set(e, E2BIG, "reset-failed", NULL, "more than %d devices",
				 DEVICES_MAX);
	alone = calloc(1, sizeof(*alone));
	if (!alone)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory for resets");
	alone->devices = devices;
	parallel_run("reset", count, reset_alone, alone);
	for (unsigned i = 0; i < count; i++) {
		struct error one = { 0 };
		int err = alone->results[i];

		if (err && !(done & UINT64_C(1) << i))
			err = reset_together(devices, count, i, err, &alone->errors[i], &done,
					     &one);
		else
			err = 0;
		if (err && first)
			log_error("%s", one.text);
		if (!err || first)
			continue;
		first = err;
		if (e)
			*e = one;
	}
	free(alone);
	return first;
}
