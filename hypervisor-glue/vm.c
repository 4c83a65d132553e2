// SPDX-License-Identifier: Apache-2.0
/*
 * vm: the virtual machine as a whole: what the host's KVM must offer, creation, and how it ends.
 *
 * Interrupts are in vm_irq.c, memory slots in vm_memory.c, vCPUs in vcpu.c and cpuid.c. An end is
 * requested once, by whoever is first; the request is sticky, so a vCPU that is kicked between its
 * last look and KVM_RUN leaves at once (immediate_exit, Documentation/virt/kvm/api.rst section 5).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/vm_internal.h"

static const struct {
	long capability;
	const char *name;
} required[] = {
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
	{ KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
	{ KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
};

/* Which KVM module this processor wants, or why it can have none. */
static const char *kvm_module_advice(void)
{
	const char *advice = "enable virtualisation (Intel VT-x or AMD-V) in the firmware set-up, "
			     "or nested virtualisation if this is a virtual machine";
	FILE *f = fopen("/proc/cpuinfo", "re");
	char *line = NULL;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0) {
		if (strncmp(line, "flags", 5) != 0)
			continue;
		if (strstr(line, " vmx"))
			advice = "modprobe kvm_intel";
		else if (strstr(line, " svm"))
			advice = "modprobe kvm_amd";
		break;
	}
	free(line);
	if (f)
		fclose(f);
	return advice;
}

int vm_capability(int fd, long capability)
{
	return ioctl(fd, KVM_CHECK_EXTENSION, capability);
}

int vm_open_kvm(const char *path, struct error *e)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int version, ret;

	if (fd < 0) {
		ret = errno;
		switch (ret) {
		case ENOENT:
		case ENXIO:
		case ENODEV:
			return error_set(e, ret, "no-kvm", kvm_module_advice(),
					 "%s: %s: no KVM module is loaded on this host", path,
					 strerror(ret));
		case EACCES:
		case EPERM:
			return error_set(
				e, ret, "no-kvm",
				"sudo usermod -aG kvm USER, then log in again; or run as root",
				"%s: %s: user %u may not open it for reading and writing", path,
				strerror(ret), (unsigned)geteuid());
		default:
			return error_set(e, ret, "no-kvm", NULL, "%s: %s", path, strerror(ret));
		}
	}

	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version < 0) {
		ret = error_set(e, ENODEV, "no-kvm", kvm_module_advice(),
				"%s: is not the KVM device (KVM_GET_API_VERSION: %s)", path,
				strerror(errno));
		goto fail;
	}
	if (version != KVM_API_VERSION) {
		ret = error_set(e, ENOTSUP, "kvm-too-old", NULL,
				"%s: KVM API version %d, needed %d", path, version,
				KVM_API_VERSION);
		goto fail;
	}
	for (size_t i = 0; i < ARRAY_SIZE(required); i++) {
		if (vm_capability(fd, required[i].capability) > 0)
			continue;
		ret = error_set(e, ENOTSUP, "kvm-too-old", "boot Linux 6.1 or later",
				"%s: the host's KVM lacks %s", path, required[i].name);
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return ret;
}

/* KVM_CREATE_VM allocates interruptibly: a signal that is not ours to lose may cut it short. */
static int create_vm_fd(int kvm_fd)
{
	int fd = -1;

	for (int i = 0; i < 16 && fd < 0; i++) {
		fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
		if (fd < 0 && errno != EINTR)
			break;
	}
	return fd < 0 ? -errno : fd;
}

static int create_chips(struct vm *vm, struct error *e)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity = LAYOUT_IDENTITY_MAP;

	/* Both are for Intel's real mode, want three pages and one that no guest RAM covers. */
	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_SET_IDENTITY_MAP_ADDR: %s",
				 strerror(errno));
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, LAYOUT_TSS) < 0)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_SET_TSS_ADDR: %s",
				 strerror(errno));
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_CREATE_IRQCHIP: %s",
				 strerror(errno));
	if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
		return error_set(e, errno, "kvm-failed", NULL, "KVM_CREATE_PIT2: %s",
				 strerror(errno));
	return 0;
}

int vm_create(struct vm **out, struct error *e)
{
	int kvm_fd = vm_open_kvm("/dev/kvm", e), ret;

	if (kvm_fd < 0)
		return kvm_fd;
	ret = vm_create_on(kvm_fd, out, e);
	if (ret < 0)
		close(kvm_fd);
	else
		(*out)->kvm_owned = true;
	return ret;
}

int vm_create_on(int kvm_fd, struct vm **out, struct error *e)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int ret;

	if (!vm)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory for a VM");
	vm->kvm_fd = kvm_fd;
	vm->fd = vm->exit_fd = vm->vfio_fd = -1;
	pthread_mutex_init(&vm->slot_lock, NULL);
	pthread_mutex_init(&vm->route_lock, NULL);
	pthread_mutex_init(&vm->exit_lock, NULL);
	vm_pause_init(vm);

	ret = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (ret < (int)sizeof(struct kvm_run)) {
		ret = error_set(e, ret < 0 ? errno : ENOTSUP, "kvm-failed", NULL,
				"KVM_GET_VCPU_MMAP_SIZE answered %d", ret);
		goto fail;
	}
	vm->run_size = (size_t)ret;
	ret = cpuid_load(vm->kvm_fd, &vm->cpuid, e);
	if (ret < 0)
		goto fail;
	vm->tsc_deadline = vm_capability(vm->kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0;

	ret = vm->fd = create_vm_fd(vm->kvm_fd);
	if (ret < 0) {
		error_set(e, -ret, "kvm-failed",
			  ret == -EBUSY ? "stop the other hypervisor that holds the processor"
					: NULL,
			  "KVM_CREATE_VM: %s", strerror(-ret));
		goto fail;
	}
	ret = vm_capability(vm->kvm_fd, KVM_CAP_NR_MEMSLOTS);
	vm->slot_count = MIN((unsigned)(ret > 0 ? ret : 32), VM_SLOTS_MAX);
	ret = create_chips(vm, e);
	if (ret < 0)
		goto fail;
	ret = vm_irq_init(vm, e);
	if (ret < 0)
		goto fail;

	vm->exit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->exit_fd < 0) {
		ret = error_set(e, errno, "no-eventfd", NULL, "eventfd: %s", strerror(errno));
		goto fail;
	}
	ret = dispatch_create(&vm->mmio);
	if (ret == 0)
		ret = dispatch_create(&vm->ports);
	if (ret < 0) {
		error_set(e, -ret, "out-of-memory", NULL, "no memory for the exit tables");
		goto fail;
	}
	*out = vm;
	return 0;
fail:
	vm_destroy(vm);
	return ret;
}

void vm_destroy(struct vm *vm)
{
	char reason[256];

	if (!vm)
		return;
	if (vm->started) {
		vm_request_exit(vm, VM_EXIT_STOPPED, "the VM is taken down");
		vm_join(vm, reason);
	}
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_destroy(&vm->vcpus[i]);
	free(vm->vcpus);
	vm_memory_release(vm);
	dispatch_destroy(vm->ports);
	dispatch_destroy(vm->mmio);
	vm_irq_release(vm);
	fd_close(&vm->exit_fd);
	fd_close(&vm->vfio_fd);
	fd_close(&vm->fd);
	if (vm->kvm_owned)
		fd_close(&vm->kvm_fd);
	vm_pause_release(vm);
	pthread_mutex_destroy(&vm->exit_lock);
	pthread_mutex_destroy(&vm->route_lock);
	pthread_mutex_destroy(&vm->slot_lock);
	free(vm);
}

struct dispatch *vm_mmio(struct vm *vm)
{
	return vm->mmio;
}

struct dispatch *vm_ports(struct vm *vm)
{
	return vm->ports;
}

unsigned vm_physical_bits(struct vm *vm)
{
	return cpuid_physical_bits(&vm->cpuid);
}

int vm_set_topology(struct vm *vm, const struct cpu_topology *topology, struct error *e)
{
	if (vm->vcpus)
		return error_set(e, EBUSY, "vcpus-exist", NULL, "the VM has its vCPUs already");
	vm->topology = *topology;
	return 0;
}

/* How many vCPUs this host's KVM gives, and the highest number that one may have. */
static unsigned vcpus_max(const struct vm *vm, unsigned *id_max)
{
	int count = vm_capability(vm->fd, KVM_CAP_MAX_VCPUS);
	int ids = vm_capability(vm->fd, KVM_CAP_MAX_VCPU_ID);

	if (count <= 0 || count > VM_VCPUS_MAX)
		count = VM_VCPUS_MAX;
	/* "If the KVM_CAP_MAX_VCPU_ID does not exist, [...] KVM_CAP_MAX_VCPUS" (api.rst, 4.7) */
	*id_max = ids > 0 ? (unsigned)ids - 1 : (unsigned)count - 1;
	*id_max = MIN(*id_max, (unsigned)TOPOLOGY_APIC_ID_MAX);
	return (unsigned)count;
}

int vm_add_vcpus(struct vm *vm, unsigned count, struct error *e)
{
	unsigned id_max, max = vcpus_max(vm, &id_max);
	uint32_t last;
	int ret;

	if (vm->vcpus)
		return error_set(e, EBUSY, "vcpus-exist", NULL, "the VM has its vCPUs already");
	if (count == 0 || count > max)
		return error_set(e, EINVAL, "bad-vcpu-count", NULL,
				 "%u vCPUs asked for, 1 to %u are possible on this host", count,
				 max);
	if (!vm->topology.sockets)
		vm->topology = (struct cpu_topology){ 1, count, 1 };
	last = cpu_topology_place(&vm->topology, count - 1).apic_id;
	if (cpu_topology_count(&vm->topology) != count || last > id_max)
		return error_set(e, EINVAL, "bad-vcpu-count",
				 "let cores and threads be powers of two",
				 "a topology of %u x %u x %u for %u vCPUs ends with APIC ID %u, "
				 "and %u is the highest possible",
				 vm->topology.sockets, vm->topology.cores, vm->topology.threads,
				 count, last, id_max);

	vm->vcpus = aligned_alloc(_Alignof(struct vcpu), count * sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory for %u vCPUs", count);
	memset(vm->vcpus, 0, count * sizeof(*vm->vcpus));
	for (unsigned i = 0; i < count; i++) {
		ret = vcpu_create(vm, &vm->vcpus[i], i, e);
		if (ret < 0)
			goto fail;
		vm->vcpu_count = i + 1;
	}
	return 0;
fail:
	/* KVM keeps a vCPU until the VM goes: this VM cannot be given other ones. */
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_destroy(&vm->vcpus[i]);
	vm->vcpu_count = 0;
	return ret;
}

void vm_set_affinity(struct vm *vm, unsigned vcpu, const struct cpu_list *cpus)
{
	if (vcpu < vm->vcpu_count)
		vm->vcpus[vcpu].affinity = cpus;
}

int vm_start(struct vm *vm, struct error *e)
{
	char reason[256];
	int ret = 0;

	if (vm->started || vm->vcpu_count == 0)
		return error_set(e, EINVAL, "vm-not-ready", NULL,
				 vm->started ? "the VM runs already" : "the VM has no vCPU");
	ret = vcpu_kick_prepare();
	if (ret < 0)
		return error_set(e, -ret, "no-signal", NULL, "sigaction: %s", strerror(-ret));

	pthread_mutex_lock(&vm->exit_lock);
	vm->started = true;
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		ret = thread_create(&vcpu->thread, "vcpu", vcpu_thread, vcpu);
		if (ret < 0)
			break;
		vcpu->alive = vcpu->created = true;
		if (vcpu->affinity)
			ret = -pthread_setaffinity_np(vcpu->thread, sizeof(*vcpu->affinity),
						      (const cpu_set_t *)vcpu->affinity);
		if (ret < 0)
			break;
	}
	pthread_mutex_unlock(&vm->exit_lock);
	if (ret < 0) {
		error_set(e, -ret, "no-thread", NULL, "no thread for a vCPU: %s", strerror(-ret));
		vm_request_exit(vm, VM_EXIT_ERROR, "no thread for a vCPU: %s", strerror(-ret));
		/* Those that were started run the guest: the caller takes its devices away next. */
		vm_join(vm, reason);
	}
	return ret;
}

void vm_request_exit(struct vm *vm, enum vm_exit why, const char *fmt, ...)
{
	uint64_t one = 1;
	va_list args;

	pthread_mutex_lock(&vm->exit_lock);
	if (!vm->exit_requested) {
		vm->exit_why = why;
		va_start(args, fmt);
		vsnprintf(vm->exit_reason, sizeof(vm->exit_reason), fmt, args);
		va_end(args);
		__atomic_store_n(&vm->exit_requested, true, __ATOMIC_RELEASE);
		for (unsigned i = 0; i < vm->vcpu_count; i++)
			vcpu_kick(&vm->vcpus[i]);
		pthread_cond_broadcast(&vm->parking);
		/* From zero to one: it cannot be full. */
		if (write(vm->exit_fd, &one, sizeof(one)) != sizeof(one))
			log_error("vm: exit eventfd: %s", strerror(errno));
	}
	pthread_mutex_unlock(&vm->exit_lock);
}

int vm_exit_fd(struct vm *vm)
{
	return vm->exit_fd;
}

enum vm_exit vm_join(struct vm *vm, char reason[256])
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		if (!vcpu->created)
			continue;
		pthread_join(vcpu->thread, NULL);
		vcpu->created = false;
	}
	if (!__atomic_load_n(&vm->exit_requested, __ATOMIC_ACQUIRE)) {
		snprintf(reason, 256, "the VM was never started");
		return VM_EXIT_STOPPED;
	}
	memcpy(reason, vm->exit_reason, sizeof(vm->exit_reason));
	return vm->exit_why;
}

void vm_counters(struct vm *vm, struct vm_counters *counters)
{
	*counters = (struct vm_counters){ 0 };
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		const struct vm_counters *c = &vm->vcpus[i].counters;

		counters->mmio += __atomic_load_n(&c->mmio, __ATOMIC_RELAXED);
		counters->port += __atomic_load_n(&c->port, __ATOMIC_RELAXED);
		counters->halt += __atomic_load_n(&c->halt, __ATOMIC_RELAXED);
		counters->other += __atomic_load_n(&c->other, __ATOMIC_RELAXED);
	}
}
