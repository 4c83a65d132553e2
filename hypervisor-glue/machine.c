// SPDX-License-Identifier: Apache-2.0
/*
 * A machine: memory, devices and terminal are acquired in the order in which each needs the ones
 * before, the guest lives one session after another, and everything is given back in reverse.
 *
 * The order for assigned devices is the kernel's: an address space, devices attached to it (type1
 * chooses its IOMMU by the first group), the ranges they can address, then guest memory mapped. What
 * takes long runs side by side: memory is populated while devices are opened, one thread each, and is
 * mapped while they are reset.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hypervisor-glue/control.h"
#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/machine_private.h"
#include "hypervisor-glue/sandbox.h"
#include "mdev/mdev.h"

#define SHORT_LIFE_NS (10 * NSEC_PER_SEC)

void machine_phase(uint64_t *since, const char *phase)
{
	uint64_t now = monotonic_ns();

	log_info("time: %-6s %9.1f ms", phase, (double)(now - *since) / 1e6);
	*since = now;
}

/* ---- assigned devices ---------------------------------------------------------------------- */

struct vfio_pci_options machine_device_options(const struct machine *machine,
					       const struct machine_assigned *assigned)
{
	return (struct vfio_pci_options){
		.intx = machine->config->intx,
		.rom = assigned->rom,
		.in_p2p_clique = assigned->wanted.in_p2p_clique,
		.p2p_clique = assigned->wanted.p2p_clique,
	};
}

int machine_assigned_open(struct machine *machine, const struct machine_device *wanted,
			  struct machine_assigned *out, struct error *e)
{
	const char *path = wanted->rom_path[0] ? wanted->rom_path : NULL;
	int err;

	*out = (struct machine_assigned){ .wanted = *wanted };
	if (wanted->mdev[0])
		err = vfio_mdev_open("", wanted->mdev, machine->space, &out->device, e);
	else
		err = vfio_device_open("", &wanted->address, machine->space, &out->device, e);
	if (err)
		return err;
	/* Once and before the guest runs: a file may be out of reach later. */
	if (path || wanted->device_rom)
		err = vfio_rom_load(out->device, path, &out->rom, e);
	if (err)
		machine_assigned_close(out);
	return err;
}

int machine_devices_reset(struct machine *machine, struct error *e)
{
	struct vfio_device *devices[MACHINE_DEVICES_MAX];

	for (unsigned i = 0; i < machine->device_count; i++)
		devices[i] = machine->devices[i].device;
	return vfio_devices_reset(devices, machine->device_count, e);
}

void machine_assigned_close(struct machine_assigned *assigned)
{
	vfio_device_close(assigned->device);
	vfio_rom_free(assigned->rom);
	*assigned = (struct machine_assigned){ 0 };
}

/* iommufd maps no BARs so far: where those are wanted, type1 is the first choice. */
int machine_space_open(struct machine *machine, struct error *e)
{
	const struct machine_config *config = machine->config;

	if (config->p2p && config->iommu == IOMMU_AUTO &&
	    !iommu_space_open("", IOMMU_TYPE1, &machine->space, NULL))
		return 0;
	return iommu_space_open("", config->iommu, &machine->space, e);
}

int machine_ranges_load(struct machine *machine, struct error *e)
{
	const struct iommu_space *space = machine->space;
	int count = space->ops->ranges(machine->space, machine->ranges, MACHINE_RANGES_MAX);

	machine->range_count = (unsigned)MAX(count, 0);
	if (count > 0)
		return machine_memory_check(machine, e);
	/* Old kernels do not tell; a map that cannot be is then refused when it is made. */
	log_warn("iommu %s: the addressable ranges are not known: %s", space->ops->name,
		 count ? strerror(-count) : "none given");
	return 0;
}

void machine_assigned_remove(struct machine *machine, unsigned index)
{
	struct machine_assigned assigned = machine->devices[index];
	bool last = machine->device_count == 1;

	/* type1 drops all maps with its last group. */
	if (last && machine->following) {
		iommu_space_unfollow(machine->space, machine->memory);
		machine->following = false;
	}
	machine->device_count--;
	memmove(&machine->devices[index], &machine->devices[index + 1],
		(machine->device_count - index) * sizeof(machine->devices[0]));
	machine_assigned_close(&assigned);
	if (!last)
		return;
	iommu_space_close(machine->space);
	machine->space = NULL;
	machine->range_count = 0;
}

/* ---- software devices ---------------------------------------------------------------------- */

/* Takes over @device, on failure too. */
int machine_software_add(struct machine *machine, struct vfio_device *device, bool behind_root_port,
			 struct error *e)
{
	struct machine_software *software = NULL;
	int err;

	if (machine->software_count < ARRAY_SIZE(machine->software))
		software = calloc(1, sizeof(*software));
	if (!software) {
		vfio_device_close(device);
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for a device");
	}
	software->device = device;
	software->behind_root_port = behind_root_port;
	machine->software[machine->software_count++] = software;
	err = device_memory_follow(&software->memory, device, machine->memory, e);
	if (err)
		machine_software_remove(machine, machine->software_count - 1);
	return err;
}

void machine_software_remove(struct machine *machine, unsigned index)
{
	struct machine_software *software = machine->software[index];

	machine->software_count--;
	memmove(&machine->software[index], &machine->software[index + 1],
		(machine->software_count - index) * sizeof(machine->software[0]));
	device_memory_unfollow(&software->memory);
	vfio_device_close(software->device);
	free(software);
}

static int disks_create(struct machine *machine, struct error *e)
{
	for (unsigned i = 0; i < machine->config->disk_count; i++) {
		const struct machine_disk *disk = &machine->config->disks[i];
		const struct virtio_blk_config config = { disk->path, disk->readonly };
		struct vfio_device *device;
		int err = virtio_blk_create(&config, &device, e);

		if (!err)
			err = machine_software_add(machine, device, false, e);
		if (err)
			return err;
	}
	return 0;
}

static int nets_create(struct machine *machine, struct error *e)
{
	for (unsigned i = 0; i < machine->config->net_count; i++) {
		const struct machine_net *net = &machine->config->nets[i];
		struct virtio_net_config config = {
			.tap = net->tap[0] ? net->tap : NULL,
			.index = i,
		};
		struct vfio_device *device;
		int err;

		memcpy(config.mac, net->mac, sizeof(config.mac));
		err = virtio_net_create(&config, &device, e);
		if (!err)
			err = machine_software_add(machine, device, false, e);
		if (err)
			return err;
	}
	return 0;
}

static int users_open(struct machine *machine, struct error *e)
{
	for (unsigned i = 0; i < machine->config->user_count; i++) {
		struct vfio_device *device;
		int err = vfio_user_open(machine->config->users[i], &device, e);

		if (err)
			return err;
		err = machine_software_add(machine, device, true, e);
		if (err)
			return err;
		/* "the device state should otherwise be retained": somebody may have had it before. */
		err = vfio_device_reset(device, e);
		if (err && err != -ENOTTY)
			return err;
	}
	return 0;
}

static int virtio_console_add(struct machine *machine, struct error *e)
{
	struct vfio_device *device;
	int err;

	if (!machine->config->virtio_console)
		return 0;
	if (pipe2(machine->console_pipe, O_CLOEXEC) < 0 ||
	    fcntl(machine->console_pipe[1], F_SETFL, O_NONBLOCK) < 0)
		return error_set(e, errno, "console", NULL, "console: pipe: %s", strerror(errno));
	err = virtio_console_create(machine->console_pipe[0],
				    machine->console_socket ? machine->serial_fd : STDOUT_FILENO,
				    &device, e);
	return err ? err : machine_software_add(machine, device, false, e);
}

static int rng_add(struct machine *machine, struct error *e)
{
	struct vfio_device *device;
	int err;

	if (!machine->config->rng)
		return 0;
	err = virtio_rng_create(&device, e);
	return err ? err : machine_software_add(machine, device, false, e);
}

static int vsock_add(struct machine *machine, struct error *e)
{
	struct vfio_device *device;
	int err;

	if (!machine->config->vsock_cid)
		return 0;
	err = virtio_vsock_create(machine->config->vsock_cid, NULL, &device, e);
	return err ? err : machine_software_add(machine, device, false, e);
}

/* ---- serial port and terminal -------------------------------------------------------------- */

static int serial_open(struct machine *machine, struct error *e)
{
	static const char file[] = "file:", at_socket[] = "socket:";
	const char *text = machine->config->serial;
	int err;

	if (!strcmp(text, "stdio")) {
		machine->serial_fd = STDOUT_FILENO;
	} else if (!strncmp(text, at_socket, strlen(at_socket))) {
		err = console_socket_create(text + strlen(at_socket), &machine->console_socket, e);
		if (err)
			return err;
		machine->serial_fd = console_socket_output(machine->console_socket);
	} else if (!strncmp(text, file, strlen(file))) {
		const char *path = text + strlen(file);

		machine->serial_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (machine->serial_fd < 0)
			return error_set(e, errno, "serial-file", NULL, "%s: %s", path,
					 strerror(errno));
		machine->serial_owned = true;
	}
	return 0;
}

static int terminal_take(struct machine *machine, struct error *e)
{
	bool guest_reads = !machine->console_socket && (machine->config->virtio_console ||
							!strcmp(machine->config->serial, "stdio"));

	/* With nothing of the guest on it, the terminal stays as it is: Ctrl-C ends the VM. */
	return guest_reads ? console_create(STDIN_FILENO, &machine->console, e) : 0;
}

/* ---- all together -------------------------------------------------------------------------- */

/* What every life of the guest begins with. */
static int boot_acquire(struct machine *machine, struct error *e)
{
	const struct machine_config *config = machine->config;
	int err;

	machine->boot = (struct boot_source){
		.kernel = config->kernel,
		.initrd = config->initrd[0] ? config->initrd : NULL,
		.cmdline = config->cmdline,
		.rsdp_gpa = LAYOUT_ACPI,
	};
	err = boot_open(&machine->boot, &machine->boot_files, e);
	if (err)
		return err;
	machine->kvm_fd = vm_open_kvm("/dev/kvm", e);
	return MIN(machine->kvm_fd, 0);
}

static int machine_acquire(struct machine *machine, struct error *e)
{
	int err = 0;

	if (machine->config->control[0])
		err = control_socket_create(machine->config->control, &machine->control, e);
	if (!err)
		err = boot_acquire(machine, e);
	if (!err)
		err = machine_cpus_acquire(machine, e);
	if (!err)
		err = machine_memory_create(machine, e);
	if (!err)
		err = serial_open(machine, e);
	if (!err)
		err = disks_create(machine, e);
	if (!err)
		err = nets_create(machine, e);
	if (!err)
		err = users_open(machine, e);
	if (!err)
		err = virtio_console_add(machine, e);
	if (!err)
		err = rng_add(machine, e);
	if (!err)
		err = vsock_add(machine, e);
	if (!err)
		err = machine_devices_open(machine, e);
	/* Nobody mapped it, so nobody waited for it. */
	if (!err)
		err = machine_memory_ready(machine, false, e);
	if (!err)
		err = terminal_take(machine, e);
	return err;
}

/* What opening a kernel device reads and opens: iommu/, vfio/device_open.c. */
static const struct sandbox_path hotplug_paths[] = {
	{ .path = "/dev/vfio", .write = true }, { .path = "/dev/iommu", .write = true },
	{ .path = "/sys/bus/pci/devices" },	{ .path = "/sys/devices" },
	{ .path = "/sys/kernel/iommu_groups" },
};

/* The folder of @path, in @folder. */
static const char *folder_of(const char *path, char *folder, size_t size)
{
	const char *slash = strrchr(path, '/');

	if (slash)
		snprintf(folder, size, "%.*s", (int)MAX(slash - path, 1), path);
	else
		snprintf(folder, size, ".");
	return folder;
}

/* RAM that an assigned device reaches may have to be locked again, by then without privilege. */
static int machine_close(const struct machine *machine, struct error *e)
{
	const struct machine_config *config = machine->config;
	bool hotplug = machine_hotplug_ports(config) && machine->control;
	struct sandbox_path paths[ARRAY_SIZE(hotplug_paths) + MACHINE_REACH_MAX + 2];
	char control_folder[sizeof(config->control)], console_folder[sizeof(config->serial)];
	struct sandbox_options options = {
		.table = &machine_sandbox,
		.first_has = machine_sandbox_first((machine->control ? ROLE_CONTROL : 0) |
						   (hotplug ? ROLE_HOTPLUG : 0) |
						   (machine->console_socket ? ROLE_CONSOLE : 0)),
		.jail = config->jail,
		.locked = machine->device_count || hotplug ? config->memory : 0,
		.paths = paths,
	};

	if (!config->sandbox)
		return 0;
	/* Their names go with them. */
	if (machine->control)
		paths[options.path_count++] =
			(struct sandbox_path){ folder_of(config->control, control_folder,
							 sizeof(control_folder)),
					       .remove = true };
	if (machine->console_socket)
		paths[options.path_count++] =
			(struct sandbox_path){ folder_of(strchr(config->serial, ':') + 1,
							 console_folder, sizeof(console_folder)),
					       .remove = true };
	for (size_t i = 0; i < ARRAY_SIZE(hotplug_paths) && hotplug; i++)
		paths[options.path_count++] = hotplug_paths[i];
	for (unsigned i = 0; i < config->hotplug_path_count && hotplug; i++)
		paths[options.path_count++] =
			(struct sandbox_path){ config->hotplug_paths[i], .write = true };
	return sandbox_close(&options, e);
}

/* Everything is open. Threads begin now, and only now. */
static int machine_start(struct machine *machine, struct error *e)
{
	uint64_t since = monotonic_ns();
	int err = machine_close(machine, e);

	for (unsigned i = 0; i < machine->software_count && !err; i++)
		err = vfio_device_start(machine->software[i]->device, e);
	for (unsigned i = 0; i < machine->device_count && !err; i++)
		err = vfio_device_start(machine->devices[i].device, e);
	if (err || !machine->config->sandbox)
		return err;
	err = sandbox_close_main(e);
	if (err)
		return err;
	dispatch_library_thread_enter();
	machine_phase(&since, "close");
	return 0;
}

/* Devices are made to stop before their memory goes; what they did not give up is told. */
static void devices_close(struct machine *machine)
{
	struct error e = { 0 };

	if (machine_devices_reset(machine, &e))
		log_error("%s", e.text);
	while (machine->device_count)
		machine_assigned_remove(machine, machine->device_count - 1);
	/* Where none could be opened. */
	iommu_space_close(machine->space);
}

static void machine_release(struct machine *machine)
{
	console_destroy(machine->console);
	machine_memory_ready(machine, true, NULL);
	devices_close(machine);
	while (machine->software_count)
		machine_software_remove(machine, machine->software_count - 1);
	fd_close(&machine->console_pipe[1]);
	fd_close(&machine->console_pipe[0]);
	if (machine->serial_owned)
		fd_close(&machine->serial_fd);
	if (machine->memory)
		guest_memory_destroy(machine->memory);
	free(machine->affinity);
	fd_close(&machine->kvm_fd);
	console_socket_destroy(machine->console_socket);
	control_socket_destroy(machine->control);
	boot_close(&machine->boot_files);
}

/* Software devices go back to power-on with the guest; assigned ones are reset by the session. */
static int software_reset(struct machine *machine, struct error *e)
{
	for (unsigned i = 0; i < machine->software_count; i++) {
		struct vfio_device *device = machine->software[i]->device;
		int err = device->ops->reset ? device->ops->reset(device) : 0;

		if (err && err != -ENOTTY)
			return error_set(e, -err, "reset-failed", NULL, "%s: reset: %s",
					 device->name, strerror(-err));
	}
	return 0;
}

/* One life after another; true when the guest wants the next. */
static int machine_live(struct machine *machine, bool *again, struct error *e)
{
	const char *name = machine->config->name, *next;
	uint64_t start = monotonic_ns();
	struct session_end end;
	int err = session_run(machine, &end, e);

	*again = false;
	if (err)
		return err;
	switch (end.why) {
	case VM_EXIT_POWER_OFF:
		log_info("%s: powered off: %s", name, end.reason);
		return 0;
	case VM_EXIT_RESET:
		machine->resets++;
		*again = !machine->config->no_reboot;
		next = *again ? ", starting again" : "";
		/* A guest that does nothing else would fill the log. */
		if (monotonic_ns() - start < SHORT_LIFE_NS)
			log_limited(LOG_LEVEL_WARN, "%s: reset (%s)%s", name, end.reason, next);
		else
			log_warn("%s: reset (%s)%s", name, end.reason, next);
		return *again ? software_reset(machine, e) : 0;
	case VM_EXIT_STOPPED:
		if (end.device_failed)
			return error_set(e, EIO, "device-error",
					 "divvy precheck says whether it can be used again",
					 "%s stopped: %s", name, end.reason);
		log_warn("%s: stopped: %s", name, end.reason);
		return 0;
	case VM_EXIT_ERROR:
		break;
	}
	return error_set(e, EIO, "guest-failed", NULL, "%s cannot go on: %s", name, end.reason);
}

int machine_run(const struct machine_config *config, struct error *e)
{
	struct machine machine = {
		.config = config,
		.start_ns = monotonic_ns(),
		.kvm_fd = -1,
		.boot_files = { -1, -1 },
		.serial_fd = -1,
		.console_pipe = { -1, -1 },
	};
	sigset_t signals, before;
	bool again = true;
	int err;

	/* Blocked before any thread exists, so that only the event loop hears them. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &signals, &before);

	err = machine_acquire(&machine, e);
	if (!err)
		err = machine_start(&machine, e);
	while (!err && again)
		err = machine_live(&machine, &again, e);
	machine_release(&machine);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}
