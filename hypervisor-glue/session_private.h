/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One life of the guest, as the files that work on it while it runs see it: session.c, which builds it
 * and takes it down, hotplug.c, by which devices come and go, and control_vm.c, which answers commands.
 * All of it belongs to the event loop's thread.
 */
#ifndef GLUE_SESSION_PRIVATE_H
#define GLUE_SESSION_PRIVATE_H

#include "hypervisor-glue/control.h"
#include <systemd/sd-event.h>

#include "hypervisor-glue/machine_private.h"
#include "hypervisor-glue/pci.h"
#include "hypervisor-glue/platform.h"

#define FUNCTIONS_MAX (MACHINE_DEVICES_MAX + MACHINE_SOFTWARE_MAX)

struct watch {
	struct session *session; /* NULL: free */
	const char *name;	 /* the device's own, which also tells whose it is */
	sd_event_source *source;
	bool is_error; /* else a request to give the device back */
};

/* A device that the guest was asked to give up. */
struct departure {
	struct session *session; /* NULL: free */
	struct vfio_device *device;
	sd_event_source *timer;
	unsigned seconds; /* it has for that */
};

struct session {
	struct machine *machine;
	struct vm *vm;
	struct pci_host *pci;
	struct serial *serial;
	struct power *power;
	struct clock *clock;
	sd_event *event;
	struct control_target control;
	bool console_attached, control_attached, device_failed;
	bool stop_asked; /* by the host, maybe while the guest was already on its way out */
	struct watch watches[2 * FUNCTIONS_MAX];
	sd_event_source *released; /* a slot was given up */
	struct departure departures[MACHINE_DEVICES_MAX + MACHINE_USERS_MAX + MACHINE_PORTS_MAX];
};

/* ---- session.c ------------------------------------------------------------------------------ */

/* session_watch() - hear of errors and of requests for @device; session_unwatch() undoes it. */
int session_watch(struct session *session, const struct vfio_pci *function, const char *name);
void session_unwatch(struct session *session, const char *name);

/* ---- hotplug.c ------------------------------------------------------------------------------ */

/* hotplug_attach() - once the event loop is there. Devices come and go from then on. */
int hotplug_attach(struct session *session, struct error *e);
/* hotplug_detach() - before the event loop goes. Nobody is waited for any more. */
void hotplug_detach(struct session *session);
/*
 * hotplug_settle() - when the session's VM is gone: what the guest was asked to give up is closed, so that
 * its next life is without it.
 */
void hotplug_settle(struct session *session);

/*
 * hotplug_add_*() - open a device, give it guest memory, put it into an empty slot, tell the guest.
 * Blocks for as long as opening and mapping take. On failure nothing stays.
 * @device: out, the machine's
 * Errors: those of opening and mapping, "device-exists", "too-many-devices", "no-free-port",
 * "bar-window-full".
 */
int hotplug_add_vfio(struct session *session, const struct machine_device *wanted,
		     struct vfio_device **device, struct error *e);
int hotplug_add_user(struct session *session, const char *path, struct vfio_device **device,
		     struct error *e);
int hotplug_add_disk(struct session *session, const char *path, bool readonly,
		     struct vfio_device **device, struct error *e);
/*
 * hotplug_remove() - ask the guest to give up the slot of @device, which then is taken away; a guest that
 * has not after @seconds keeps it. @force: take it away at once.
 * Errors: "not-removable", "already-leaving".
 */
int hotplug_remove(struct session *session, struct vfio_device *device, unsigned seconds,
		   bool force, struct error *e);
/* hotplug_leaving() - whether the guest was asked to give it up and has not yet. */
bool hotplug_leaving(const struct session *session, const struct vfio_device *device);

#endif
