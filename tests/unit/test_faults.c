// SPDX-License-Identifier: Apache-2.0
/*
 * Every call that can fail does, one after the other, on the way from nothing to a device that runs and
 * back. Whatever failed, the rest is given back: descriptors, mappings, threads, DMA maps, interrupts,
 * bonds of groups and devices; and an error that is returned says what it is.
 *
 * Some failures are no reason to stop (a BAR that cannot be mapped is trapped): a run may succeed with one.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor-glue/hypervisor-glue.h"
#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci.h"
#include "hypervisor-glue/platform.h"
#include "hypervisor-glue/sandbox.h"
#include "mdev/mdev.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/fake_vfio_kernel.h"
#include "tests/unit/resources.h"
#include "tests/unit/vfio_user_server.h"

#define CALLS_MAX 5000
#define TIME_MAX  120 /* seconds of one test; a failure must not make anything wait for ever */

/* ---- the walk ------------------------------------------------------------------------------ */

struct counts {
	unsigned fds, threads, attached, armed, maps;
	uint64_t mapped;
};

static unsigned count_threads(void)
{
	DIR *folder = opendir("/proc/self/task");
	unsigned count = 0;

	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static struct counts count_all(void)
{
	return (struct counts){
		.fds = count_fds(),
		.threads = count_threads(),
		.attached = fake_kernel_attached(),
		.armed = fake_kernel_armed(),
		.maps = fake_kernel.map_count,
		.mapped = faults_mapped(),
	};
}

static void must_be_equal(const struct counts *before, const struct counts *now, unsigned long call)
{
	if (before->fds != now->fds || before->threads != now->threads ||
	    before->mapped != now->mapped || before->attached != now->attached ||
	    before->armed != now->armed || before->maps != now->maps || fake_kernel.wrong)
		fail_msg(
			"after call %lu (%s) failed: %u descriptors, %u threads, %llu bytes mapped, "
			"%u attached, %u armed, %u maps; before: %u, %u, %llu, %u, %u, %u",
			call, faults_name ? faults_name : "none", now->fds, now->threads,
			(unsigned long long)now->mapped, now->attached, now->armed, now->maps,
			before->fds, before->threads, (unsigned long long)before->mapped,
			before->attached, before->armed, before->maps);
}

static const int errors[] = { EIO, ENOMEM, EBUSY };

/* @scenario with its first call failing, its second, and so on, with the first @kinds of errors. */
static void fail_each(int (*scenario)(struct error *e), unsigned kinds)
{
	unsigned long calls = 0, tolerated = 0;
	const uint64_t start = monotonic_ns();
	struct error e = { 0 };
	struct counts before;

	alarm(TIME_MAX);
	/* What libraries keep from the first time on. */
	if (scenario(&e))
		fail_msg("without any failure: %s: %s", e.code, e.text);
	before = count_all();
	for (unsigned i = 0; i < kinds; i++) {
		for (unsigned long at = 1;; at++) {
			struct counts now;
			int ret;

			memset(&e, 0, sizeof(e));
			faults_arm(at, errors[i]);
			ret = scenario(&e);
			faults_disarm();
			now = count_all();
			/* A thread that was joined may still be on its way out of /proc. */
			for (unsigned ms = 0; now.threads > before.threads && ms < 2000; ms++) {
				usleep(1000);
				now = count_all();
			}
			must_be_equal(&before, &now, at);
			if (!faults_name) {
				assert_int_equal(ret, 0);
				calls += at - 1;
				break;
			}
			if (ret && (ret > 0 || !e.code || !e.text[0] || e.err <= 0))
				fail_msg("call %lu (%s): %d, code %s, text \"%s\"", at, faults_name,
					 ret, e.code ? e.code : "none", e.text);
			tolerated += !ret;
			assert_true(at < CALLS_MAX);
		}
	}
	alarm(0);
	print_message("%lu calls failed in turn, %lu of them without ending it, in %.1f s\n", calls,
		      tolerated, (double)(monotonic_ns() - start) / 1e9);
	/* A mechanism that reaches nothing must not look like success. */
	assert_true(calls > 20);
}

/* ---- assigned devices, over a made-up kernel ------------------------------------------------- */

static enum iommu_kind kind;

/* What a guest does with its function: decode, MSI-X, masks, a move, INTx, a reset. */
static void use_function(struct vfio_pci *pci)
{
	const uint64_t table = 0x2000;

	vfio_pci_set_bar(pci, 0, 0x10000000);
	vfio_pci_config_write(pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned i = 0; i < 4; i++) {
		vfio_pci_bar_write(pci, 0, table + i * 16, 8, 0xfee00000);
		vfio_pci_bar_write(pci, 0, table + i * 16 + 8, 8, 0x30 + i);
	}
	vfio_pci_config_write(pci, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vfio_pci_bar_write(pci, 0, table + 12, 4, 1);
	vfio_pci_bar_read(pci, 0, 0x3000, 8);
	vfio_pci_config_write(pci, PCI_BASE_ADDRESS_0, 4, 0x20000000);
	vfio_pci_bar_read(pci, 0, 0, 4);
	vfio_pci_config_write(pci, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	vfio_pci_config_write(pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	vfio_pci_reset(pci, NULL);
}

struct assigned {
	struct guest_memory *memory;
	struct iommu_space *space;
	struct vfio_device *devices[2];
	unsigned device_count;
	bool following;
	struct memory_population *population;
	struct fake_host hosts[2];
	struct vfio_pci *functions[2];
};

static int assigned_up(struct assigned *a, struct error *e)
{
	static const struct vfio_pci_options options = { .intx = true };
	struct iommu_range ranges[8];
	int err = guest_memory_create(&a->memory, e);

	if (!err)
		err = guest_memory_add_ram(a->memory, 0, MIB, e);
	if (!err)
		err = guest_memory_add_ram(a->memory, 0x100000000, 2 * MIB, e);
	if (!err)
		err = guest_memory_populate(a->memory, &a->population, e);
	if (!err)
		err = iommu_space_open(fake_kernel.fs.root, kind, &a->space, e);
	for (unsigned i = 0; i < 2 && !err; i++) {
		const struct pci_address address = { .bus = 1, .function = (uint8_t)i };

		err = vfio_device_open(fake_kernel.fs.root, &address, a->space, &a->devices[i], e);
		a->device_count += !err;
	}
	if (err)
		return err;
	a->space->ops->ranges(a->space, ranges, ARRAY_SIZE(ranges));
	err = memory_population_finish(a->population, false, e);
	a->population = NULL;
	if (!err)
		err = iommu_space_follow(a->space, a->memory, e);
	if (err)
		return err;
	a->following = true;
	/* A bank more while the devices look on. */
	err = guest_memory_add_ram(a->memory, 0x200000000, MIB, e);
	if (!err)
		err = vfio_devices_reset(a->devices, 2, e);
	for (unsigned i = 0; i < 2 && !err; i++) {
		err = vfio_pci_create(a->devices[i], &options, &fake_host_ops, &a->hosts[i],
				      &a->functions[i], e);
		if (!err)
			use_function(a->functions[i]);
	}
	return err;
}

static int assigned_life(struct error *e)
{
	static struct assigned a;
	int err;

	memset(&a, 0, sizeof(a));
	err = assigned_up(&a, e);
	memory_population_finish(a.population, true, NULL);
	for (unsigned i = 0; i < 2; i++) {
		vfio_pci_destroy(a.functions[i]);
		assert_int_equal(a.hosts[i].wrong, 0);
		assert_int_equal(fake_host_delivered(&a.hosts[i]), 0);
	}
	if (a.following)
		iommu_space_unfollow(a.space, a.memory);
	while (a.device_count)
		vfio_device_close(a.devices[--a.device_count]);
	iommu_space_close(a.space);
	guest_memory_destroy(a.memory);
	return err;
}

static int setup_kernel(void **state)
{
	fake_kernel_create();
	fake_kernel.no_reset = 1 << 1; /* the one alone, the other with its slot */
	return 0;
}

static int teardown_kernel(void **state)
{
	faults_disarm();
	fake_kernel_destroy();
	return 0;
}

static void an_assigned_device_by_its_cdev_leaves_nothing(void **state)
{
	kind = IOMMU_IOMMUFD;
	fail_each(assigned_life, ARRAY_SIZE(errors));
}

static void an_assigned_device_by_its_group_leaves_nothing(void **state)
{
	kind = IOMMU_TYPE1;
	fail_each(assigned_life, ARRAY_SIZE(errors));
}

/* ---- devices of software ---------------------------------------------------------------------- */

static char disk_path[32];

static int software_life(struct error *e)
{
	const struct virtio_blk_config disk = { .path = disk_path };
	struct vfio_device *devices[3] = { NULL };
	int err, null = -1;

	err = virtio_blk_create(&disk, &devices[0], e);
	if (!err)
		err = virtio_rng_create(&devices[1], e);
	if (!err) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0)
			err = error_set(e, errno, "test", NULL, "the test's own");
		else
			err = virtio_console_create(null, null, &devices[2], e);
	}
	for (unsigned i = 0; i < 3 && !err; i++)
		err = vfio_device_start(devices[i], e);
	for (unsigned i = 3; i-- > 0;)
		vfio_device_close(devices[i]);
	if (null >= 0)
		close(null);
	return err;
}

static int setup_disk(void **state)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	snprintf(disk_path, sizeof(disk_path), "/proc/self/fd/%d", fd);
	*state = (void *)(intptr_t)fd;
	return fd < 0 || ftruncate(fd, MIB) ? -1 : 0;
}

static int teardown_disk(void **state)
{
	faults_disarm();
	return close((int)(intptr_t)*state);
}

static void a_device_of_software_leaves_nothing(void **state)
{
	fail_each(software_life, ARRAY_SIZE(errors));
}

/* ---- a device of a vfio-user server -------------------------------------------------------------- */

static int user_life(struct error *e)
{
	static const struct vfio_pci_options options = { .intx = true };
	struct vfio_device *served, *device = NULL;
	struct vfio_pci *pci = NULL;
	struct fake_host host = { 0 };
	struct guest_memory *memory = NULL;
	struct server server;
	const struct memory_bank *bank;
	bool armed = faults_armed;
	int pair[2], err;

	/* The server is no part of what fails. */
	faults_armed = false;
	assert_int_equal(virtio_rng_create(&served, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	server_init(&server, served, pair[1]);
	assert_int_equal(server_start(&server), 0);
	faults_armed = armed;

	err = vfio_user_open_fd(pair[0], "served", &device, e);
	if (!err)
		err = guest_memory_create(&memory, e);
	if (!err)
		err = guest_memory_add_ram(memory, 0, MIB, e);
	if (!err) {
		bank = guest_memory_bank(memory, 0);
		err = device->ops->dma_map(device, bank->gpa, bank->size, bank->hva, bank->fd,
					   bank->fd_offset);
		if (err)
			error_set(e, -err, "test", NULL, "dma_map");
	}
	if (!err)
		err = vfio_device_start(device, e);
	if (!err)
		err = vfio_pci_create(device, &options, &fake_host_ops, &host, &pci, e);
	if (!err) {
		vfio_pci_set_bar(pci, 0, 0x10000000);
		vfio_pci_config_write(pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		vfio_pci_bar_read(pci, 0, 0, 4);
		vfio_pci_bar_write(pci, 0, 0x4000, 8, 0xfee00000);
		vfio_pci_bar_write(pci, 0, 0x4008, 8, 0x30);
		for (unsigned at = 0x40; at < 0x100; at += 4)
			if (vfio_pci_config_read(pci, (uint16_t)at, 1) == PCI_CAP_ID_MSIX)
				vfio_pci_config_write(pci, (uint16_t)(at + PCI_MSIX_FLAGS), 2,
						      PCI_MSIX_FLAGS_ENABLE);
		vfio_pci_reset(pci, NULL);
		device->ops->dma_unmap(device, 0, MIB);
	}
	vfio_pci_destroy(pci);
	assert_int_equal(host.wrong, 0);
	vfio_device_close(device);
	guest_memory_destroy(memory);

	faults_armed = false;
	server_join(&server);
	vfio_device_close(served);
	faults_armed = armed;
	return err;
}

/* ---- the server's side of one ---------------------------------------------------------------- */

static void client_says(int fd, uint16_t command, const void *payload, size_t size, int with)
{
	struct user_header header = { .command = command,
				      .size = (uint32_t)(sizeof(header) + size) };
	struct iovec iov[2] = { { &header, sizeof(header) }, { (void *)(uintptr_t)payload, size } };

	faults_armed = false;
	user_socket_send(fd, iov, 2, &with, with >= 0, server_deadline());
}

static void server_goes_on(sd_event *event, bool armed)
{
	faults_armed = armed;
	for (unsigned i = 0; i < 32 && sd_event_run(event, 0) > 0; i++)
		;
	faults_armed = false;
}

/* A client's life as the server sees it: version, memory, an interrupt, a register, and its end. */
static void serve_a_client(sd_event *event, int fd, bool armed)
{
	static const char version[] = "\0\0\1\0{\"capabilities\":{\"max_msg_fds\":8}}";
	const struct user_dma_map map = { 32, 3, 0, MIB, 64 * KIB };
	const struct vfio_irq_set set = { .argsz = sizeof(set),
					  .flags = VFIO_IRQ_SET_DATA_EVENTFD |
						   VFIO_IRQ_SET_ACTION_TRIGGER,
					  .index = VFIO_PCI_MSIX_IRQ_INDEX,
					  .count = 1 };
	const struct user_region_access access = { 0, VFIO_PCI_CONFIG_REGION_INDEX, 64 };
	int memory, vector;

	faults_armed = false;
	memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	vector = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(ftruncate(memory, 64 * KIB), 0);
	client_says(fd, USER_VERSION, version, sizeof(version), -1);
	server_goes_on(event, armed);
	client_says(fd, USER_DMA_MAP, &map, sizeof(map), memory);
	server_goes_on(event, armed);
	client_says(fd, USER_DEVICE_SET_IRQS, &set, sizeof(set), vector);
	server_goes_on(event, armed);
	client_says(fd, USER_REGION_READ, &access, sizeof(access), -1);
	client_says(fd, USER_DEVICE_RESET, NULL, 0, -1);
	server_goes_on(event, armed);
	close(vector);
	close(memory);
	close(fd);
	server_goes_on(event, armed);
}

static int serving_life(struct error *e)
{
	const bool armed = faults_armed;
	struct vfio_device *device = NULL;
	struct mdev_server *server = NULL;
	struct mdev_server_options options = { 0 };
	sd_event *event = NULL;
	char path[64];
	int err = sd_event_new(&event), pair[2];

	snprintf(path, sizeof(path), "/tmp/divvy-faults-%d.sock", (int)getpid());
	options.path = path;
	if (err < 0)
		err = error_set(e, -err, "test", NULL, "no event loop");
	else
		err = virtio_rng_create(&device, e);
	if (!err)
		err = mdev_server_create(event, device, &options, &server, e);
	if (!err) {
		faults_armed = false;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		faults_armed = armed;
		err = mdev_server_attach(server, pair[1], e);
		if (err)
			close(pair[0]);
		else
			serve_a_client(event, pair[0], armed);
	}
	faults_armed = armed;
	mdev_server_destroy(server);
	vfio_device_close(device);
	sd_event_unref(event);
	assert_int_equal(access(path, F_OK), -1);
	return err;
}

static void a_device_that_is_offered_leaves_nothing(void **state)
{
	server_now = &(struct server){ .fds_max = 8, .transfer_max = USER_TRANSFER_MAX };
	fail_each(serving_life, ARRAY_SIZE(errors));
}

static void a_served_device_leaves_nothing(void **state)
{
	fail_each(user_life, ARRAY_SIZE(errors));
}

/* ---- machines, on the host's own /dev/kvm ------------------------------------------------------------- */

static void need_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
}

/* Configuration as a guest writes it, through the ports. */
static void config_write(struct vm *vm, unsigned device, unsigned reg, unsigned size,
			 uint32_t value)
{
	dispatch_write(vm_ports(vm), PORT_PCI_ADDRESS, 4,
		       0x80000000u | device << 11 | (reg & 0xfc));
	dispatch_write(vm_ports(vm), PORT_PCI_DATA + (reg & 3), size, value);
}

static uint32_t config_read(struct vm *vm, unsigned device, unsigned reg, unsigned size)
{
	dispatch_write(vm_ports(vm), PORT_PCI_ADDRESS, 4,
		       0x80000000u | device << 11 | (reg & 0xfc));
	return (uint32_t)dispatch_read(vm_ports(vm), PORT_PCI_DATA + (reg & 3), size);
}

/* Decode on, MSI-X on with two vectors, masked, moved, off. */
static void use_through_ports(struct vm *vm, unsigned device)
{
	uint64_t bar = config_read(vm, device, PCI_BASE_ADDRESS_0, 4) & ~0xfu;
	unsigned at = config_read(vm, device, PCI_CAPABILITY_LIST, 1);

	bar |= (uint64_t)config_read(vm, device, PCI_BASE_ADDRESS_1, 4) << 32;
	while (at && config_read(vm, device, at, 1) != PCI_CAP_ID_MSIX)
		at = config_read(vm, device, at + 1, 1);
	config_write(vm, device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned i = 0; i < 2; i++) {
		dispatch_write(vm_mmio(vm), bar + 0x4000 + 16 * i, 8, 0xfee00000);
		dispatch_write(vm_mmio(vm), bar + 0x4008 + 16 * i, 8, 0x30 + i);
	}
	config_write(vm, device, at + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	dispatch_write(vm_mmio(vm), bar + 0x400c, 4, 1);
	config_write(vm, device, PCI_BASE_ADDRESS_1, 4, 0x7f);
	config_write(vm, device, PCI_BASE_ADDRESS_1, 4, (uint32_t)(bar >> 32));
	config_write(vm, device, at + PCI_MSIX_FLAGS, 2, 0);
	config_write(vm, device, PCI_COMMAND, 2, 0);
}

static int host_life(struct error *e)
{
	const struct vfio_pci_options options = { 0 };
	struct vfio_device *device = NULL;
	struct guest_memory *memory = NULL;
	struct pci_host *host = NULL;
	struct serial *serial = NULL;
	struct power *power = NULL;
	struct clock *clock = NULL;
	struct vm *vm = NULL;
	bool armed = faults_armed;
	int err;

	faults_armed = false;
	assert_int_equal(virtio_rng_create(&device, NULL), 0);
	faults_armed = armed;
	err = guest_memory_create(&memory, e);
	if (!err)
		err = guest_memory_add_ram(memory, 0, 8 * MIB, e);
	if (!err)
		err = vm_create(&vm, e);
	if (!err)
		err = vm_follow(vm, memory, e);
	if (!err)
		err = vm_add_vcpus(vm, 2, e);
	if (!err)
		err = power_create(vm, &power, e);
	if (!err)
		err = clock_create(vm, &clock, e);
	if (!err)
		err = serial_create(vm, -1, &serial, e);
	if (!err)
		err = vfio_device_start(device, e);
	if (!err)
		err = pci_host_create(vm, memory, NULL, 0, &host, e);
	if (!err)
		err = pci_host_add(host, device, false, &options, e);
	if (!err)
		err = pci_host_place(host, e);
	if (!err)
		use_through_ports(vm, 1);
	pci_host_destroy(host);
	serial_destroy(serial);
	clock_destroy(clock);
	power_destroy(power);
	vm_destroy(vm);
	guest_memory_destroy(memory);
	faults_armed = false;
	vfio_device_close(device);
	faults_armed = armed;
	return err;
}

static void a_virtual_machine_and_its_functions_leave_nothing(void **state)
{
	need_kvm();
	fail_each(host_life, 1);
}

static struct machine_config *config;
static char folder[] = "/tmp/divvy-test-XXXXXX";

static int machine_life(struct error *e)
{
	return machine_run(config, e);
}

static void a_whole_machine_leaves_nothing(void **state)
{
	static const char name[] = "/guest-drivers/testguest/testguest.elf";
	char command[64];

	need_kvm();
	config = calloc(1, sizeof(*config));
	assert_non_null(config);
	machine_config_init(config);
	config->sandbox = false; /* the test goes on */
	assert_true(build_folder(config->kernel, sizeof(config->kernel) - sizeof(name)));
	strcat(config->kernel, name);
	strcpy(config->cmdline, "hello");
	config->memory = 8 * MIB;
	config->disk_count = 1;
	strcpy(config->disks[0].path, disk_path);
	assert_non_null(mkdtemp(folder));
	snprintf(config->serial, sizeof(config->serial), "file:%s/serial", folder);
	snprintf(config->control, sizeof(config->control), "%s/control", folder);
	config->hotplug_ports = 1;
	fail_each(machine_life, 1);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
	free(config);
}

/* ---- what is refused rather than done badly ---------------------------------------------------- */

static void a_machine_that_does_not_remap_interrupts_is_refused(void **state)
{
	static const enum iommu_kind kinds[] = { IOMMU_IOMMUFD, IOMMU_TYPE1 };
	struct counts before = count_all(), now;

	fake_kernel.no_remapping = true;
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct error e = { 0 };

		kind = kinds[i];
		assert_int_equal(assigned_life(&e), -EPERM);
		assert_string_equal(e.code, "no-interrupt-remapping");
		now = count_all();
		must_be_equal(&before, &now, 0);
	}
}

static bool is_listed(unsigned long request)
{
	const unsigned kinds = KIND_MAIN | KINDS_BELOW_MAIN | ROLE_HOTPLUG;

	for (unsigned i = 0; i < machine_sandbox.rule_count; i++) {
		const struct sandbox_rule *rule = &machine_sandbox.rules[i];

		if (rule->syscall == SYS_ioctl && rule->test == RULE_ARGUMENT &&
		    rule->argument == 1 && (request & rule->mask) == rule->value &&
		    rule->kinds & kinds)
			return true;
	}
	return false;
}

/* A device may be added while the guest runs: what its life asks of the kernel must be allowed by then. */
static void what_a_device_asks_for_is_on_the_sandboxs_list(void **state)
{
	static const enum iommu_kind kinds[] = { IOMMU_IOMMUFD, IOMMU_TYPE1 };
	struct error e = { 0 };

	faults_request_count = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		kind = kinds[i];
		faults_arm(0, 0);
		if (assigned_life(&e))
			fail_msg("%s", e.text);
		faults_disarm();
	}
	assert_in_range(faults_request_count, 10, FAULTS_REQUESTS - 1);
	for (unsigned i = 0; i < faults_request_count; i++)
		if (!is_listed(faults_requests[i]))
			fail_msg("ioctl 0x%lx is on no list of sandbox_table.c",
				 faults_requests[i]);
}

/*
 * What lies behind a slot is unmapped next, and something of ours may be mapped there after: the guest
 * must not be running then.
 */
static void a_slot_that_kvm_keeps_ends_the_machine(void **state)
{
	struct guest_memory *memory;
	struct error e = { 0 };
	char reason[256];
	struct vm *vm;
	void *page;

	need_kvm();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(page != MAP_FAILED);
	assert_int_equal(guest_memory_create(&memory, &e), 0);
	assert_int_equal(vm_create(&vm, &e), 0);
	assert_int_equal(vm_slot_add(vm, 0xd0000000, 4096, page), 0);
	faults_keep_slots = true;
	assert_int_equal(vm_slot_remove(vm, 0xd0000000), -ENOMEM);
	faults_keep_slots = false;
	assert_int_equal(vm_join(vm, reason), VM_EXIT_ERROR);
	assert_non_null(strstr(reason, "0xd0000000"));
	vm_destroy(vm);
	guest_memory_destroy(memory);
	munmap(page, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_assigned_device_by_its_cdev_leaves_nothing,
						setup_kernel, teardown_kernel),
		cmocka_unit_test_setup_teardown(an_assigned_device_by_its_group_leaves_nothing,
						setup_kernel, teardown_kernel),
		cmocka_unit_test_setup_teardown(a_machine_that_does_not_remap_interrupts_is_refused,
						setup_kernel, teardown_kernel),
		cmocka_unit_test_setup_teardown(what_a_device_asks_for_is_on_the_sandboxs_list,
						setup_kernel, teardown_kernel),
		cmocka_unit_test(a_slot_that_kvm_keeps_ends_the_machine),
		cmocka_unit_test_setup_teardown(a_device_of_software_leaves_nothing, setup_disk,
						teardown_disk),
		cmocka_unit_test(a_served_device_leaves_nothing),
		cmocka_unit_test(a_device_that_is_offered_leaves_nothing),
		cmocka_unit_test(a_virtual_machine_and_its_functions_leave_nothing),
		cmocka_unit_test_setup_teardown(a_whole_machine_leaves_nothing, setup_disk,
						teardown_disk),
	};

	/* Thousands of failures would be thousands of lines. */
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
