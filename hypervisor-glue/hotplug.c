// SPDX-License-Identifier: Apache-2.0
/*
 * Devices that come and go while the guest runs: what the machine has to do for it. The slots they sit
 * in are pci_hotplug.c's.
 *
 * All of it is done by the event loop's thread, which owns guest memory and its followers. The guest
 * runs on meanwhile, and whatever it does or does not do only decides whether a device leaves in order:
 * it is asked by its slot's button, has a time limit, and can be overruled. The first assigned device
 * brings the address space with it, and the last takes it away, so that nothing stays pinned.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "hypervisor-glue/session_private.h"
#include "mdev/mdev.h"

/* ---- out ------------------------------------------------------------------------------------- */

static struct departure *departure_of(struct session *session, const struct vfio_device *device)
{
	for (size_t i = 0; i < ARRAY_SIZE(session->departures); i++)
		if (session->departures[i].session && session->departures[i].device == device)
			return &session->departures[i];
	return NULL;
}

bool hotplug_leaving(const struct session *session, const struct vfio_device *device)
{
	for (size_t i = 0; i < ARRAY_SIZE(session->departures); i++)
		if (session->departures[i].session && session->departures[i].device == device)
			return true;
	return false;
}

static void departure_end(struct departure *departure)
{
	sd_event_source_disable_unref(departure->timer);
	*departure = (struct departure){ 0 };
}

/* Several devices of a type1 group are one file for KVM. */
static void kvm_file_remove(struct session *session, const struct vfio_device *device)
{
	const struct machine *machine = session->machine;
	int file = vfio_device_file(device);

	for (unsigned i = 0; i < machine->device_count; i++)
		if (machine->devices[i].device != device &&
		    vfio_device_file(machine->devices[i].device) == file)
			return;
	vm_remove_vfio_file(session->vm, file);
}

/* The guest has it no more: the machine gives it back. */
static void give_back(struct session *session, const struct vfio_device *device)
{
	struct machine *machine = session->machine;

	for (unsigned i = 0; i < machine->device_count; i++) {
		if (machine->devices[i].device != device)
			continue;
		if (session->vm)
			kvm_file_remove(session, device);
		machine_assigned_remove(machine, i);
		return;
	}
	for (unsigned i = 0; i < machine->software_count; i++)
		if (machine->software[i]->device == device) {
			machine_software_remove(machine, i);
			return;
		}
}

/* What sits in one slot with @device, and @device. */
static unsigned slot_devices(const struct session *session, const struct vfio_device *device,
			     struct vfio_device *devices[8])
{
	const struct machine *machine = session->machine;
	unsigned count = 0;

	for (unsigned i = 0; i < machine->device_count && count < 8; i++)
		if (pci_host_same_slot(session->pci, machine->devices[i].device, device))
			devices[count++] = machine->devices[i].device;
	for (unsigned i = 0; i < machine->software_count && count < 8; i++)
		if (pci_host_same_slot(session->pci, machine->software[i]->device, device))
			devices[count++] = machine->software[i]->device;
	return count;
}

static int take_away(struct session *session, struct vfio_device *device, const char *how,
		     struct error *e)
{
	struct vfio_device *devices[8];
	unsigned count;
	int err;

	if (!pci_host_removable(session->pci, device))
		return pci_host_unplug(session->pci, device, e); /* says why not */
	count = slot_devices(session, device, devices);
	for (unsigned i = 0; i < count; i++)
		session_unwatch(session, devices[i]->name);
	err = pci_host_unplug(session->pci, device, e);
	if (err)
		return err;
	for (unsigned i = 0; i < count; i++) {
		struct departure *departure = departure_of(session, devices[i]);

		if (departure)
			departure_end(departure);
		log_info("%s: %s", devices[i]->name, how);
		give_back(session, devices[i]);
	}
	return 0;
}

static int on_released(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct session *session = opaque;
	eventfd_t value;

	(void)eventfd_read(fd, &value);
	for (size_t i = 0; i < ARRAY_SIZE(session->departures); i++) {
		const struct departure *departure = &session->departures[i];

		if (departure->session && pci_host_unplug_ready(session->pci, departure->device))
			take_away(session, departure->device, "given up by the guest", NULL);
	}
	return 0;
}

static int on_time_up(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct departure *departure = opaque;
	struct session *session = departure->session;

	log_warn("%s: the guest did not give it up in %u s and keeps it", departure->device->name,
		 departure->seconds);
	pci_host_unplug_forget(session->pci, departure->device);
	departure_end(departure);
	return 0;
}

int hotplug_remove(struct session *session, struct vfio_device *device, unsigned seconds,
		   bool force, struct error *e)
{
	struct departure *departure = departure_of(session, device);
	int err;

	if (force)
		return take_away(session, device, "taken from the guest by force", e);
	if (departure)
		return error_set(e, EALREADY, "already-leaving",
				 "wait, or remove it with \"force\": true",
				 "%s: the guest was asked for it already", device->name);
	for (size_t i = 0; i < ARRAY_SIZE(session->departures) && !departure; i++)
		if (!session->departures[i].session)
			departure = &session->departures[i];
	if (!departure)
		return error_set(e, ENOSPC, "too-many-devices", NULL,
				 "%s: too many devices are leaving", device->name);
	err = pci_host_unplug_ask(session->pci, device, e);
	if (err)
		return err;
	if (pci_host_unplug_ready(session->pci, device))
		return take_away(session, device, "taken from a slot without power", e);
	*departure = (struct departure){ session, device, NULL, seconds };
	err = sd_event_add_time_relative(session->event, &departure->timer, CLOCK_MONOTONIC,
					 seconds * UINT64_C(1000000), 0, on_time_up, departure);
	if (err < 0) {
		pci_host_unplug_forget(session->pci, device);
		departure_end(departure);
		return error_set(e, -err, "event-loop", NULL, "%s: timer: %s", device->name,
				 strerror(-err));
	}
	return 0;
}

/* ---- in -------------------------------------------------------------------------------------- */

static int device_exists(const struct machine *machine, const char *name, struct error *e)
{
	bool found = false;

	for (unsigned i = 0; i < machine->device_count; i++)
		found |= !strcmp(machine->devices[i].device->name, name);
	for (unsigned i = 0; i < machine->software_count; i++)
		found |= !strcmp(machine->software[i]->device->name, name);
	return found ? error_set(e, EEXIST, "device-exists", NULL, "%s: the VM has such a device",
				 name)
		     : 0;
}

static int too_many(const char *name, unsigned most, struct error *e)
{
	return error_set(e, ENOSPC, "too-many-devices", "remove a device first",
			 "%s: the VM has %u such devices, which is the most", name, most);
}

/* A port first: opening a device resets it, mapping memory takes long. */
static int port_check(const struct session *session, const char *name, struct error *e)
{
	unsigned empty, ports = pci_host_ports(session->pci, &empty);

	if (empty)
		return 0;
	return error_set(e, ENOSPC, "no-free-port",
			 "remove a device, or start the VM with more --hotplug-ports",
			 "%s: none of the VM's %u PCIe ports is a free hot-plug port", name, ports);
}

static int show(struct session *session, struct vfio_device *device,
		const struct vfio_pci_options *options, struct error *e)
{
	struct vfio_pci *function;
	int err = pci_host_plug(session->pci, device, options, &function, e);

	if (err)
		return err;
	err = session_watch(session, function, device->name);
	if (!err)
		return 0;
	pci_host_unplug(session->pci, device, NULL);
	return error_set(e, -err, "event-loop", NULL, "%s: event loop: %s", device->name,
			 strerror(-err));
}

/* The device is in the machine's list; its address space may be new. */
static int attach(struct session *session, struct machine_assigned *assigned, struct error *e)
{
	const struct vfio_pci_options options = machine_device_options(session->machine, assigned);
	struct machine *machine = session->machine;
	uint64_t since = monotonic_ns();
	int err = machine_ranges_load(machine, e);

	if (!err && !machine->following) {
		err = iommu_space_follow(machine->space, machine->memory, e);
		machine->following = !err;
		machine_phase(&since, "map");
	}
	if (!err)
		err = vfio_device_start(assigned->device, e);
	if (!err)
		err = vm_add_vfio_file(session->vm, vfio_device_file(assigned->device), e);
	return err ? err : show(session, assigned->device, &options, e);
}

int hotplug_add_vfio(struct session *session, const struct machine_device *wanted,
		     struct vfio_device **device, struct error *e)
{
	struct machine *machine = session->machine;
	struct machine_assigned *assigned = &machine->devices[machine->device_count];
	uint64_t since = monotonic_ns();
	char text[PCI_ADDRESS_LEN];
	const char *name = machine_device_name(wanted, text);
	int err;

	if (machine->device_count == ARRAY_SIZE(machine->devices))
		return too_many(name, machine->device_count, e);
	err = device_exists(machine, name, e);
	if (!err)
		err = port_check(session, name, e);
	if (!err && !machine->space)
		err = machine_space_open(machine, e);
	if (err)
		return err;
	err = machine_assigned_open(machine, wanted, assigned, e);
	if (err) {
		if (!machine->device_count) {
			iommu_space_close(machine->space);
			machine->space = NULL;
		}
		return err;
	}
	machine->device_count++;
	machine_phase(&since, "open");
	err = attach(session, assigned, e);
	if (err) {
		give_back(session, assigned->device);
		return err;
	}
	*device = assigned->device;
	log_info("%s: put into a slot", name);
	return 0;
}

/* Takes over @device, on failure too. */
static int add_software(struct session *session, struct vfio_device *device, struct error *e)
{
	static const struct vfio_pci_options options = { 0 };
	struct machine *machine = session->machine;
	int err;

	err = device_exists(machine, device->name, e);
	if (err) {
		vfio_device_close(device);
		return err;
	}
	err = machine_software_add(machine, device, true, e);
	if (err)
		return err;
	err = vfio_device_reset(device, e);
	if (!err || err == -ENOTTY)
		err = vfio_device_start(device, e);
	if (!err)
		err = show(session, device, &options, e);
	if (err)
		give_back(session, device);
	return err;
}

int hotplug_add_user(struct session *session, const char *path, struct vfio_device **device,
		     struct error *e)
{
	int err = port_check(session, path, e);

	if (!err)
		err = vfio_user_open(path, device, e);
	return err ? err : add_software(session, *device, e);
}

int hotplug_add_disk(struct session *session, const char *path, bool readonly,
		     struct vfio_device **device, struct error *e)
{
	const struct virtio_blk_config config = { path, readonly };
	int err = port_check(session, path, e);

	if (err)
		return err;
	err = virtio_blk_create(&config, device, e);
	if (err == -EACCES && e && session->machine->config->sandbox)
		snprintf(
			e->next, sizeof(e->next),
			"start the VM with --hotplug-path, since it is confined (docs/sandbox.md)");
	return err ? err : add_software(session, *device, e);
}

/* ---- life ------------------------------------------------------------------------------------ */

int hotplug_attach(struct session *session, struct error *e)
{
	int fd = pci_host_hotplug_fd(session->pci), err;

	if (fd < 0)
		return 0;
	err = sd_event_add_io(session->event, &session->released, fd, EPOLLIN, on_released,
			      session);
	return err < 0 ? error_set(e, -err, "event-loop", NULL, "event loop: %s", strerror(-err))
		       : 0;
}

/* Who sits in one slot with @device leaves with it. */
static void departures_join(struct session *session, struct vfio_device *device)
{
	struct vfio_device *devices[8];
	unsigned count = slot_devices(session, device, devices);

	for (size_t i = 0; i < ARRAY_SIZE(session->departures) && count; i++) {
		while (count && hotplug_leaving(session, devices[count - 1]))
			count--;
		if (count && !session->departures[i].session)
			session->departures[i] =
				(struct departure){ session, devices[--count], NULL, 0 };
	}
}

void hotplug_detach(struct session *session)
{
	session->released = sd_event_source_disable_unref(session->released);
	for (size_t i = 0; i < ARRAY_SIZE(session->departures); i++) {
		struct departure *departure = &session->departures[i];

		departure->timer = sd_event_source_disable_unref(departure->timer);
		if (departure->session && session->pci)
			departures_join(session, departure->device);
	}
}

void hotplug_settle(struct session *session)
{
	for (size_t i = 0; i < ARRAY_SIZE(session->departures); i++) {
		struct departure *departure = &session->departures[i];

		if (!departure->session)
			continue;
		log_info("%s: leaves with this life of the guest", departure->device->name);
		give_back(session, departure->device);
		departure_end(departure);
	}
}
