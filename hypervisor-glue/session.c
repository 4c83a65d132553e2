// SPDX-License-Identifier: Apache-2.0
/*
 * One life of the guest: the VM, its PCI functions and platform are built, run under an event
 * loop until somebody asks for the end, and taken down in reverse.
 *
 * The event loop's thread only waits: for the end, for signals, for what is typed, for commands, and
 * for assigned devices that fail or are asked back by the host.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

#include "hypervisor-glue/boot.h"
#include "hypervisor-glue/control.h"
#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/session_private.h"

static int failed(struct error *e, int err, const char *what)
{
	return error_set(e, -err, "event-loop", NULL, "%s: %s", what, strerror(-err));
}

/* ---- what the event loop hears ------------------------------------------------------------- */

static int on_exit_request(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info,
			  void *opaque)
{
	struct session *session = opaque;

	session->stop_asked = true;
	vm_request_exit(session->vm, VM_EXIT_STOPPED, "signal %s from process %u",
			strsignal((int)info->ssi_signo), info->ssi_pid);
	return 0;
}

static int on_button_signal(sd_event_source *source, const struct signalfd_siginfo *info,
			    void *opaque)
{
	struct session *session = opaque;

	power_button(session->power);
	return 0;
}

static void on_command(void *opaque, enum terminal_command command)
{
	struct session *session = opaque;

	if (command == TERMINAL_POWER_BUTTON) {
		power_button(session->power);
		return;
	}
	session->stop_asked = true;
	vm_request_exit(session->vm, VM_EXIT_STOPPED, "Ctrl-A x");
}

static int on_device(sd_event_source *source, int fd, uint32_t events, void *opaque)
{
	struct watch *watch = opaque;

	/* Once is enough: the fd stays readable, the VM is on its way out. */
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	watch->session->stop_asked = true;
	if (watch->is_error) {
		watch->session->device_failed = true;
		vm_request_exit(watch->session->vm, VM_EXIT_STOPPED,
				"%s reported an uncorrectable error", watch->name);
	} else {
		vm_request_exit(watch->session->vm, VM_EXIT_STOPPED, "the host asks for %s back",
				watch->name);
	}
	return 0;
}

static int watch_add(struct session *session, int fd, const char *name, bool is_error)
{
	struct watch *watch = session->watches;
	int err;

	if (fd < 0)
		return 0;
	while (watch->session)
		if (++watch == &session->watches[ARRAY_SIZE(session->watches)])
			return -ENOSPC;
	*watch = (struct watch){ session, name, NULL, is_error };
	err = sd_event_add_io(session->event, &watch->source, fd, EPOLLIN, on_device, watch);
	if (err < 0)
		watch->session = NULL;
	return err;
}

int session_watch(struct session *session, const struct vfio_pci *function, const char *name)
{
	int err = watch_add(session, vfio_pci_error_fd(function), name, true);

	if (err >= 0)
		err = watch_add(session, vfio_pci_request_fd(function), name, false);
	if (err < 0)
		session_unwatch(session, name);
	return MIN(err, 0);
}

void session_unwatch(struct session *session, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(session->watches); i++) {
		struct watch *watch = &session->watches[i];

		if (!watch->session || (name && watch->name != name))
			continue;
		sd_event_source_disable_unref(watch->source);
		*watch = (struct watch){ 0 };
	}
}

static int events_add(struct session *session, struct error *e)
{
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP };
	struct machine *machine = session->machine;
	const struct console_target target = {
		.serial = machine->config->virtio_console ? NULL : session->serial,
		.pipe_fd = machine->console_pipe[1],
	};
	sd_event_source *exit_source = NULL;
	int err = sd_event_new(&session->event);

	if (err < 0)
		return failed(e, err, "event loop");
	err = sd_event_add_io(session->event, &exit_source, vm_exit_fd(session->vm), EPOLLIN,
			      on_exit_request, session);
	/* Last: a signal that the loop has taken from the kernel is to be heard before it ends. */
	if (err >= 0)
		err = sd_event_source_set_priority(exit_source, SD_EVENT_PRIORITY_IDLE);
	if (err >= 0)
		err = sd_event_source_set_floating(exit_source, true);
	sd_event_source_unref(exit_source);
	for (size_t i = 0; i < ARRAY_SIZE(stops) && err >= 0; i++)
		err = sd_event_add_signal(session->event, NULL, stops[i], on_stop_signal, session);
	if (err >= 0)
		err = sd_event_add_signal(session->event, NULL, SIGUSR1, on_button_signal, session);
	for (unsigned i = 0; i < pci_host_function_count(session->pci) && err >= 0; i++) {
		const struct vfio_pci *function = pci_host_function(session->pci, i);
		const char *name = pci_host_function_name(session->pci, i);

		err = session_watch(session, function, name);
	}
	if (err < 0)
		return failed(e, err, "event loop");
	err = hotplug_attach(session, e);
	if (!err && machine->control) {
		session->control = (struct control_target){ &control_vm_ops, session };
		err = control_socket_attach(machine->control, session->event, control_vm_answer,
					    &session->control, e);
		session->control_attached = !err;
	}
	if (err)
		return err;
	if (machine->console_socket) {
		err = console_socket_attach(machine->console_socket, session->event, &target, e);
		session->console_attached = !err;
		return err;
	}
	/* Only a terminal in use or input that goes somewhere is worth reading. */
	if (!machine->console)
		return 0;
	err = console_attach(machine->console, session->event, &target, on_command, session, e);
	session->console_attached = !err;
	return err;
}

/* ---- building ------------------------------------------------------------------------------ */

/* The guest addresses RAM with as many bits as its CPUID tells. */
static int memory_check(struct session *session, struct error *e)
{
	unsigned bits = vm_physical_bits(session->vm);
	const struct memory_bank *bank;

	for (unsigned i = 0; (bank = guest_memory_bank(session->machine->memory, i)); i++)
		if (bits < 64 && bank->gpa + bank->size > UINT64_C(1) << bits)
			return error_set(e, E2BIG, "memory-too-large", "lower --memory",
					 "RAM ends at 0x%llx, this processor has %u physical "
					 "address bits",
					 (unsigned long long)(bank->gpa + bank->size), bits);
	return 0;
}

/* As many ports in every life, whatever came and went. */
static int ports_add(struct session *session, struct error *e)
{
	struct machine *machine = session->machine;
	unsigned spare = machine_hotplug_ports(machine->config), empty;
	unsigned ports = pci_host_ports(session->pci, &empty);

	if (!spare)
		return 0;
	if (!machine->port_count)
		machine->port_count = ports + spare;
	return pci_host_hotplug(session->pci, MAX(machine->port_count, ports),
				machine->config->hotplug_window, e);
}

static int functions_add(struct session *session, struct error *e)
{
	struct machine *machine = session->machine;
	const struct vfio_pci_options software = { 0 };
	int err;

	for (unsigned i = 0; i < machine->software_count; i++) {
		err = pci_host_add(session->pci, machine->software[i]->device,
				   machine->software[i]->behind_root_port, &software, e);
		if (err)
			return err;
	}
	for (unsigned i = 0; i < machine->device_count; i++) {
		const struct machine_assigned *assigned = &machine->devices[i];
		const struct vfio_pci_options options = machine_device_options(machine, assigned);

		err = pci_host_add(session->pci, assigned->device, true, &options, e);
		if (err)
			return err;
	}
	err = ports_add(session, e);
	return err ? err : pci_host_place(session->pci, e);
}

static int acpi_load(struct session *session, struct error *e)
{
	const struct acpi_input input = {
		.numa = session->machine->numa.nodes ? &session->machine->numa : NULL,
		.topology = machine_topology(session->machine->config),
		.window32 = pci_host_window32(session->pci),
		.window64 = pci_host_window64(session->pci),
		.last_bus = pci_host_last_bus(session->pci),
		.hotplug = machine_hotplug_ports(session->machine->config),
	};
	uint64_t size = LAYOUT_KERNEL - LAYOUT_ACPI;
	void *ram = guest_memory_ptr(session->machine->memory, LAYOUT_ACPI, size);
	ssize_t length;

	if (!ram)
		return error_set(e, ENOMEM, "memory-too-small", NULL, "no RAM for ACPI tables");
	memset(ram, 0, size);
	length = acpi_build(&input, ram, size, LAYOUT_ACPI);
	if (length < 0)
		return error_set(e, (int)-length, "acpi", NULL, "ACPI tables: %s",
				 strerror((int)-length));
	return 0;
}

static int kernel_load(struct session *session, struct error *e)
{
	const struct machine *machine = session->machine;
	struct vm_entry entry;
	int err = boot_load(&machine->boot, &machine->boot_files, machine->memory, &entry, e);

	return err ? err : vm_set_entry(session->vm, &entry, e);
}

static int platform_create(struct session *session, struct error *e)
{
	int err = power_create(session->vm, &session->power, e);

	if (!err)
		err = clock_create(session->vm, &session->clock, e);
	if (!err && session->machine->serial_fd >= 0)
		err = serial_create(session->vm, session->machine->serial_fd, &session->serial, e);
	return err;
}

static int vcpus_add(struct session *session, struct error *e)
{
	const struct machine_config *config = session->machine->config;
	const struct cpu_topology topology = machine_topology(config);
	int err = vm_set_topology(session->vm, &topology, e);

	if (!err)
		err = vm_add_vcpus(session->vm, config->cpus, e);
	for (unsigned i = 0; i < config->cpus && !err; i++)
		vm_set_affinity(session->vm, i, machine_affinity(session->machine, i));
	return err;
}

/* Leaves what it built to session_release(). */
static int session_build(struct session *session, struct error *e)
{
	struct machine *machine = session->machine;
	uint64_t since = monotonic_ns();
	int err;

	if (machine->device_count && !machine->devices_fresh) {
		err = machine_devices_reset(machine, e);
		if (err)
			return err;
		machine_phase(&since, "reset");
	}
	machine->devices_fresh = false;

	err = vm_create_on(machine->kvm_fd, &session->vm, e);
	if (!err)
		err = memory_check(session, e);
	if (!err)
		err = vm_follow(session->vm, machine->memory, e);
	for (unsigned i = 0; i < machine->device_count && !err; i++)
		err = vm_add_vfio_file(session->vm, vfio_device_file(machine->devices[i].device),
				       e);
	if (!err)
		err = vcpus_add(session, e);
	if (!err)
		err = platform_create(session, e);
	if (err)
		return err;
	machine_phase(&since, "vm");

	err = pci_host_create(session->vm, machine->memory, machine->ranges, machine->range_count,
			      &session->pci, e);
	if (!err && machine->config->p2p)
		pci_host_share_bars(session->pci);
	if (!err)
		err = functions_add(session, e);
	if (!err)
		err = acpi_load(session, e);
	if (err)
		return err;
	machine_phase(&since, "place");

	err = kernel_load(session, e);
	if (err)
		return err;
	machine_phase(&since, "load");
	return events_add(session, e);
}

static void session_release(struct session *session)
{
	if (session->console_attached && session->machine->console_socket)
		console_socket_detach(session->machine->console_socket);
	else if (session->console_attached)
		console_detach(session->machine->console);
	if (session->control_attached)
		control_socket_detach(session->machine->control);
	hotplug_detach(session);
	session_unwatch(session, NULL);
	sd_event_unref(session->event);
	if (session->pci)
		pci_host_destroy(session->pci);
	serial_destroy(session->serial);
	clock_destroy(session->clock);
	power_destroy(session->power);
	if (session->vm)
		vm_destroy(session->vm);
	session->vm = NULL;
	hotplug_settle(session);
}

static void counters_log(struct vm *vm)
{
	struct vm_counters counters;

	vm_counters(vm, &counters);
	log_debug("exits: %llu mmio, %llu port, %llu halt, %llu other",
		  (unsigned long long)counters.mmio, (unsigned long long)counters.port,
		  (unsigned long long)counters.halt, (unsigned long long)counters.other);
}

int session_run(struct machine *machine, struct session_end *end, struct error *e)
{
	struct session session = { .machine = machine };
	uint64_t since;
	int err, loop = 0;

	memset(end, 0, sizeof(*end));
	err = session_build(&session, e);
	if (err)
		goto out;
	since = monotonic_ns();
	err = vm_start(session.vm, e);
	if (err)
		goto out;
	loop = sd_event_loop(session.event);
	if (loop < 0)
		vm_request_exit(session.vm, VM_EXIT_ERROR, "event loop: %s", strerror(-loop));
	end->why = vm_join(session.vm, end->reason);
	end->device_failed = session.device_failed;
	if (end->why == VM_EXIT_RESET && session.stop_asked) {
		/* The guest was first, which is no reason to let it live again. */
		end->why = VM_EXIT_STOPPED;
		snprintf(end->reason, sizeof(end->reason), "asked to stop while the guest reset");
	}
	machine_phase(&since, "run");
	counters_log(session.vm);
out:
	since = monotonic_ns();
	session_release(&session);
	machine_phase(&since, "down");
	return err;
}
