// SPDX-License-Identifier: Apache-2.0
/* Devices that come, go or change: udev's events, gathered for a moment, since one card is many of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-device.h>
#include <systemd/sd-event.h>

#include "instances/node/node.h"

#define GATHER_US 200000

struct node_watch {
	sd_device_monitor *monitor;
	sd_event_source *timer;
	void (*changed)(void *opaque);
	void *opaque;
};

static int on_device(sd_device_monitor *monitor, sd_device *device, void *opaque)
{
	struct node_watch *watch = opaque;
	int enabled = SD_EVENT_OFF;

	/* The first of a burst starts the clock; one that never ends cannot put it off. */
	sd_event_source_get_enabled(watch->timer, &enabled);
	if (enabled == SD_EVENT_OFF) {
		sd_event_source_set_time_relative(watch->timer, GATHER_US);
		sd_event_source_set_enabled(watch->timer, SD_EVENT_ONESHOT);
	}
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct node_watch *watch = opaque;

	watch->changed(watch->opaque);
	return 0;
}

int node_watch_create(struct sd_event *event, void (*changed)(void *opaque), void *opaque,
		      struct node_watch **out, struct error *e)
{
	static const char *const subsystems[] = { "pci", "drm", "mdev", "node", "memory", "cpu" };
	struct node_watch *watch = calloc(1, sizeof(*watch));
	int err = watch ? 0 : -ENOMEM;

	if (!err) {
		watch->changed = changed;
		watch->opaque = opaque;
		err = sd_device_monitor_new(&watch->monitor);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(subsystems) && err >= 0; i++)
		err = sd_device_monitor_filter_add_match_subsystem_devtype(watch->monitor,
									   subsystems[i], NULL);
	if (err >= 0)
		err = sd_event_add_time_relative(event, &watch->timer, CLOCK_MONOTONIC, GATHER_US,
						 0, on_timer, watch);
	if (err >= 0)
		err = sd_event_source_set_enabled(watch->timer, SD_EVENT_OFF);
	if (err >= 0)
		err = sd_device_monitor_attach_event(watch->monitor, event);
	if (err >= 0)
		err = sd_device_monitor_start(watch->monitor, on_device, watch);
	if (err < 0) {
		node_watch_destroy(watch);
		return error_set(e, -err, "no-udev", NULL,
				 "changes of devices cannot be followed: %s", strerror(-err));
	}
	*out = watch;
	return 0;
}

void node_watch_destroy(struct node_watch *watch)
{
	if (!watch)
		return;
	sd_device_monitor_unref(watch->monitor);
	sd_event_source_disable_unref(watch->timer);
	free(watch);
}
