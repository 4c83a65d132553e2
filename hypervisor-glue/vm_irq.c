// SPDX-License-Identifier: Apache-2.0
/*
 * vm_irq: interrupt routes, eventfds that raise interrupts, eventfds that guest writes signal.
 *
 * KVM takes the routing table as a whole only. The table is kept here: the pins of PIC and I/O APIC
 * first, fixed, then one message per GSI that has been given one. Changes gather until
 * vm_routes_commit(), so that a guest that sets up 64 MSI-X vectors costs one ioctl and not 64.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/vm_internal.h"

static void routing_add_pin(struct kvm_irq_routing *routing, unsigned gsi, unsigned chip,
			    unsigned pin)
{
	routing->entries[routing->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

/*
 * GSI n is pin n, but for the timer: PCs have it on pin 2 of the I/O APIC, where the second PIC's
 * cascade leaves room, and the MADT's override says so.
 */
static void routing_add_pins(struct kvm_irq_routing *routing)
{
	for (unsigned gsi = 0; gsi < 16; gsi++)
		routing_add_pin(routing, gsi,
				gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi % 8);
	for (unsigned gsi = 0; gsi < VM_IOAPIC_PINS; gsi++)
		if (gsi != 2)
			routing_add_pin(routing, gsi, KVM_IRQCHIP_IOAPIC, gsi == 0 ? 2 : gsi);
}

int vm_irq_init(struct vm *vm, struct error *e)
{
	int routes = vm_capability(vm->kvm_fd, KVM_CAP_IRQ_ROUTING);
	int ret;

	/* The capability's value is the number of routes and the bound of a GSI alike. */
	vm->gsi_count = MIN((unsigned)routes, VM_GSI_MAX);
	if (vm->gsi_count < VM_IRQCHIP_ROUTES + 8)
		return error_set(e, ENOTSUP, "kvm-too-old", NULL,
				 "KVM has %d interrupt routes only", routes);
	vm->gsi_count -= VM_IRQCHIP_ROUTES - GSI_MSI_FIRST;
	vm->routing =
		calloc(1, sizeof(*vm->routing) + VM_GSI_MAX * sizeof(struct kvm_irq_routing_entry));
	if (!vm->routing)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory for the routes");
	vm->routes_changed = true;
	ret = vm_routes_commit(vm);
	if (ret < 0)
		return error_set(e, -ret, "kvm-failed", NULL, "KVM_SET_GSI_ROUTING: %s",
				 strerror(-ret));
	return 0;
}

void vm_irq_release(struct vm *vm)
{
	free(vm->routing);
	vm->routing = NULL;
}

int vm_gsi_alloc(struct vm *vm, unsigned count)
{
	unsigned run = 0;
	int first = -ENOSPC;

	if (count == 0)
		return -EINVAL;
	pthread_mutex_lock(&vm->route_lock);
	for (unsigned gsi = GSI_MSI_FIRST; gsi < vm->gsi_count; gsi++) {
		run = vm->routes[gsi].state == GSI_FREE ? run + 1 : 0;
		if (run == count) {
			first = (int)(gsi - count + 1);
			break;
		}
	}
	for (unsigned i = 0; first >= 0 && i < count; i++)
		vm->routes[first + i].state = GSI_ALLOCATED;
	pthread_mutex_unlock(&vm->route_lock);
	return first;
}

void vm_gsi_free(struct vm *vm, unsigned first, unsigned count)
{
	if (first < GSI_MSI_FIRST || first >= vm->gsi_count || count > vm->gsi_count - first)
		return;
	pthread_mutex_lock(&vm->route_lock);
	for (unsigned gsi = first; gsi < first + count; gsi++) {
		if (vm->routes[gsi].state == GSI_ROUTED)
			vm->routes_changed = true;
		vm->routes[gsi] = (struct vm_route){ GSI_FREE, 0, 0 };
	}
	pthread_mutex_unlock(&vm->route_lock);
}

void vm_route_msi(struct vm *vm, unsigned gsi, uint64_t address, uint32_t data)
{
	struct vm_route *route;

	if (gsi < GSI_MSI_FIRST || gsi >= vm->gsi_count)
		return;
	route = &vm->routes[gsi];
	pthread_mutex_lock(&vm->route_lock);
	if (route->state != GSI_FREE &&
	    (route->state != GSI_ROUTED || route->address != address || route->data != data)) {
		*route = (struct vm_route){ GSI_ROUTED, address, data };
		vm->routes_changed = true;
	}
	pthread_mutex_unlock(&vm->route_lock);
}

int vm_routes_commit(struct vm *vm)
{
	struct kvm_irq_routing *routing = vm->routing;
	int ret = 0;

	pthread_mutex_lock(&vm->route_lock);
	if (!vm->routes_changed)
		goto out;
	routing->nr = 0;
	routing_add_pins(routing);
	for (unsigned gsi = GSI_MSI_FIRST; gsi < vm->gsi_count; gsi++) {
		const struct vm_route *route = &vm->routes[gsi];

		if (route->state != GSI_ROUTED)
			continue;
		routing->entries[routing->nr++] = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = (uint32_t)route->address,
				   .address_hi = (uint32_t)(route->address >> 32),
				   .data = route->data },
		};
	}
	if (ioctl(vm->fd, KVM_SET_GSI_ROUTING, routing) < 0)
		ret = -errno;
	else
		vm->routes_changed = false;
out:
	pthread_mutex_unlock(&vm->route_lock);
	return ret;
}

int vm_irqfd_add(struct vm *vm, unsigned gsi, int fd, int resample_fd)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)fd, .gsi = gsi };

	if (gsi >= vm->gsi_count)
		return -EINVAL;
	if (resample_fd >= 0) {
		irqfd.flags |= KVM_IRQFD_FLAG_RESAMPLE;
		irqfd.resamplefd = (uint32_t)resample_fd;
	}
	return ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

int vm_irqfd_remove(struct vm *vm, unsigned gsi, int fd)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)fd,
				   .gsi = gsi,
				   .flags = KVM_IRQFD_FLAG_DEASSIGN };

	return ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

int vm_irq_line(struct vm *vm, unsigned gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	if (gsi >= GSI_MSI_FIRST)
		return -EINVAL;
	return ioctl(vm->fd, KVM_IRQ_LINE, &line) < 0 ? -errno : 0;
}

int vm_signal_msi(struct vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};

	/* Above zero is "delivered", zero is "blocked by the guest": neither is an error. */
	return ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

static int ioeventfd(struct vm *vm, bool is_port, uint64_t address, unsigned size, int fd,
		     bool datamatch, uint64_t value, uint32_t flags)
{
	struct kvm_ioeventfd io = { .addr = address, .len = size, .fd = fd, .flags = flags };

	if (is_port)
		io.flags |= KVM_IOEVENTFD_FLAG_PIO;
	if (datamatch) {
		io.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
		io.datamatch = value;
	}
	return ioctl(vm->fd, KVM_IOEVENTFD, &io) < 0 ? -errno : 0;
}

int vm_ioeventfd_add(struct vm *vm, bool is_port, uint64_t address, unsigned size, int fd,
		     bool datamatch, uint64_t value)
{
	return ioeventfd(vm, is_port, address, size, fd, datamatch, value, 0);
}

int vm_ioeventfd_remove(struct vm *vm, bool is_port, uint64_t address, unsigned size, int fd,
			bool datamatch, uint64_t value)
{
	return ioeventfd(vm, is_port, address, size, fd, datamatch, value,
			 KVM_IOEVENTFD_FLAG_DEASSIGN);
}
