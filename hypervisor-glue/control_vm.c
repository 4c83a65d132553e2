// SPDX-License-Identifier: Apache-2.0
/*
 * What commands of the control socket do with a session: facts as JSON, and operations that say when
 * they do not fit the state the VM is in.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hypervisor-glue/control.h"
#include "hypervisor-glue/session_private.h"

#ifndef DIVVY_VERSION
#define DIVVY_VERSION "0.1"
#endif
#define PAUSE_TIMEOUT_MS 5000

static int wrong_state(const char *state, struct error *e)
{
	return error_set(e, EBUSY, "wrong-state", NULL, "the VM is %s", state);
}

/* ---- facts ----------------------------------------------------------------------------------- */

static json_t *device_json(const struct session *session, const struct vfio_device *device,
			   const char *kind)
{
	struct pci_address address;
	char at[PCI_ADDRESS_LEN] = "";

	if (pci_host_address(session->pci, device, &address))
		pci_address_format(&address, at);
	return json_pack("{s:s, s:s, s:s, s:b, s:s}", "id", device->name, "kind", kind,
			 "guest_address", at, "removable", pci_host_removable(session->pci, device),
			 "state", hotplug_leaving(session, device) ? "leaving" : "present");
}

/* "virtio-blk(disk.img)" is a virtio-blk, "vfio-user:gpu0.sock" a vfio-user. */
static json_t *software_json(const struct session *session, const struct vfio_device *device)
{
	char kind[sizeof(device->name)];

	snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(device->name, "(:"), device->name);
	return device_json(session, device, kind);
}

static json_t *devices_json(const struct session *session)
{
	const struct machine *machine = session->machine;
	json_t *list = json_array();

	/* Appending NULL fails, and says what of memory is short further up. */
	for (unsigned i = 0; i < machine->software_count; i++)
		json_array_append_new(list, software_json(session, machine->software[i]->device));
	for (unsigned i = 0; i < machine->device_count; i++)
		json_array_append_new(list,
				      device_json(session, machine->devices[i].device, "vfio"));
	return list;
}

static json_t *info(void *opaque)
{
	struct session *session = opaque;
	const struct machine_config *config = session->machine->config;
	unsigned empty, ports = pci_host_ports(session->pci, &empty);

	return json_pack("{s:s, s:s, s:i, s:s, s:i, s:I, s:{s:i, s:i}, s:o}", "name", config->name,
			 "version", DIVVY_VERSION, "pid", (int)getpid(), "state",
			 vm_is_paused(session->vm) ? "paused" : "running", "vcpus",
			 (int)config->cpus, "memory_bytes", (json_int_t)config->memory, "ports",
			 "total", (int)ports, "free", (int)empty, "devices", devices_json(session));
}

static json_t *counters(void *opaque)
{
	struct session *session = opaque;
	const struct machine *machine = session->machine;
	struct vm_counters exits;
	json_t *list = json_array();

	vm_counters(session->vm, &exits);
	for (unsigned i = 0; i < pci_host_function_count(session->pci); i++) {
		const char *name = pci_host_function_name(session->pci, i);

		if (name)
			json_array_append_new(
				list, json_pack("{s:s, s:I}", "id", name, "trapped_bar_accesses",
						(json_int_t)pci_host_traps(session->pci, i)));
	}
	return json_pack("{s:f, s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:o}", "uptime_s",
			 (double)(monotonic_ns() - machine->start_ns) / (double)NSEC_PER_SEC,
			 "resets", (json_int_t)machine->resets, "log_lines_dropped",
			 (json_int_t)log_dropped(), "exits", "mmio", (json_int_t)exits.mmio, "port",
			 (json_int_t)exits.port, "halt", (json_int_t)exits.halt, "other",
			 (json_int_t)exits.other, "devices", list);
}

/* ---- commands -------------------------------------------------------------------------------- */

static int pause_vm(struct session *session, struct error *e)
{
	int err = vm_pause(session->vm, PAUSE_TIMEOUT_MS);

	if (err == -EALREADY)
		return wrong_state("paused", e);
	if (err)
		return error_set(e, -err, "vcpu-busy", "try again",
				 "a vCPU did not leave the guest in %u ms: an access of it takes "
				 "that long",
				 PAUSE_TIMEOUT_MS);
	return 0;
}

static int command(void *opaque, enum control_command command, struct error *e)
{
	struct session *session = opaque;
	bool paused = vm_is_paused(session->vm);

	if (session->stop_asked)
		return wrong_state("about to end", e);
	switch (command) {
	case CONTROL_PAUSE:
		return pause_vm(session, e);
	case CONTROL_RESUME:
		return vm_resume(session->vm) ? wrong_state("running", e) : 0;
	case CONTROL_POWER_BUTTON:
		if (paused)
			return wrong_state("paused", e);
		power_button(session->power);
		return 0;
	case CONTROL_SHUTDOWN:
		session->stop_asked = true;
		vm_request_exit(session->vm, VM_EXIT_STOPPED, "control socket");
		return 0;
	case CONTROL_RESET:
		vm_request_exit(session->vm, VM_EXIT_RESET, "control socket");
		return 0;
	}
	return error_set(e, EINVAL, "bad-request", NULL, "no such command");
}

static int add(void *opaque, const struct control_device *wanted, json_t **added, struct error *e)
{
	struct session *session = opaque;
	struct vfio_device *device = NULL;
	struct machine_device assigned;
	int err = -EINVAL;

	if (session->stop_asked)
		return wrong_state("about to end", e);
	switch (wanted->kind) {
	case CONTROL_DEVICE_VFIO:
		err = machine_device_parse(wanted->text, "", &assigned, e);
		if (!err)
			err = hotplug_add_vfio(session, &assigned, &device, e);
		break;
	case CONTROL_DEVICE_USER:
		err = hotplug_add_user(session, wanted->text, &device, e);
		break;
	case CONTROL_DEVICE_DISK:
		err = hotplug_add_disk(session, wanted->text, wanted->readonly, &device, e);
		break;
	}
	if (err)
		return err;
	*added = wanted->kind == CONTROL_DEVICE_VFIO ? device_json(session, device, "vfio")
						     : software_json(session, device);
	return 0;
}

/* Of several with one name the one that can go is meant. */
static struct vfio_device *device_named(const struct session *session, const char *id)
{
	const struct machine *machine = session->machine;
	struct vfio_device *found = NULL;

	for (unsigned i = 0; i < machine->device_count; i++)
		if (!strcmp(machine->devices[i].device->name, id))
			found = machine->devices[i].device;
	for (unsigned i = 0; i < machine->software_count; i++) {
		struct vfio_device *device = machine->software[i]->device;

		if (!strcmp(device->name, id) &&
		    (!found || pci_host_removable(session->pci, device)))
			found = device;
	}
	return found;
}

static int remove_device(void *opaque, const char *id, unsigned seconds, bool force,
			 json_t **leaving, struct error *e)
{
	struct session *session = opaque;
	struct vfio_device *device = device_named(session, id);
	int err;

	if (session->stop_asked)
		return wrong_state("about to end", e);
	if (!device)
		return error_set(e, ENOENT, "no-such-device", "GET /api/v1/vm.info lists them",
				 "the VM has no such device");
	err = hotplug_remove(session, device, seconds, force, e);
	if (!err && hotplug_leaving(session, device))
		*leaving = json_pack("{s:s, s:s, s:i}", "id", id, "state", "leaving", "timeout_s",
				     (int)seconds);
	return err;
}

const struct control_ops control_vm_ops = {
	.info = info,
	.counters = counters,
	.command = command,
	.add = add,
	.remove = remove_device,
};
