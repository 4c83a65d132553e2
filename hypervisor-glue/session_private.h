/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One life of the guest, as the files that work on it while it runs see it: session.c, which builds it
 * and takes it down. All of it belongs to the event loop's thread.
 */
#ifndef GLUE_SESSION_PRIVATE_H
#define GLUE_SESSION_PRIVATE_H

#include <systemd/sd-event.h>

#include "hypervisor-glue/machine_private.h"
#include "hypervisor-glue/pci.h"
#include "hypervisor-glue/platform.h"

#define FUNCTIONS_MAX (MACHINE_DEVICES_MAX + MACHINE_SOFTWARE_MAX)

struct watch {
	struct session *session;
	const char *name;
	bool is_error; /* else a request to give the device back */
};

struct session {
	struct machine *machine;
	struct vm *vm;
	struct pci_host *pci;
	struct serial *serial;
	struct power *power;
	struct clock *clock;
	sd_event *event;
	bool console_attached, device_failed;
	bool stop_asked; /* by the host, maybe while the guest was already on its way out */
	unsigned watch_count;
	struct watch watches[2 * FUNCTIONS_MAX];
};

#endif
