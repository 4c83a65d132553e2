// SPDX-License-Identifier: Apache-2.0
/*
 * One function's ties to the VM: what struct vfio_pci asks of a hypervisor, done with KVM's parts.
 *
 *   BAR decode    one dispatch region a BAR for what traps; memory slots over the parts a guest may
 *                 reach directly (a slot wins over an exit), for good or while the device shows
 *                 memory there (pci_function_maps.c); ioeventfds for doorbells; where BARs
 *                 are shared, banks of guest memory, which the guest's other devices can reach
 *   MSI, MSI-X    a GSI and a route a vector, had when the vector is first unmasked; masking takes
 *                 only the irqfd away, so that unmasking the same message costs one ioctl
 *   INTx          a level-triggered irqfd with resample on the function's GSI
 *
 * The callbacks run under the function's own lock (vfio.h). Decode has a second one below it, since
 * a BAR that was put over something else is tried again when that may have gone, by whoever moved
 * it (pci_function_retry()). They are reached by guests: nothing is allocated in them, and whatever
 * KVM refuses is a log line and slower (a trapped BAR) or absent (an interrupt), never fatal.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hypervisor-glue/pci_internal.h"

struct function_bar {
	struct pci_function *function;
	unsigned index;
	bool wanted;  /* the guest has it decode at @gpa */
	bool decoded; /* and nothing else was there */
	bool is_io;
	uint64_t gpa, size; /* of the current decode */
	uint32_t slots;	    /* which of the BAR's areas are memory slots */
	uint32_t banks;	    /* which of those are banks of guest memory, for others' DMA */
	uint64_t doorbells; /* which of its io_fds are ioeventfds */
};
_Static_assert(VFIO_SPARSE_AREAS_MAX * 2 <= 32, "a bit an area");
_Static_assert(VFIO_IO_FDS_MAX <= 64, "a bit an eventfd");

struct function_vector {
	int gsi; /* -1: never unmasked yet */
	int fd;	 /* eventfd of the irqfd, -1: none */
	uint64_t address;
	uint32_t data;
};

struct pci_function {
	struct vm *vm;
	struct vfio_device *device;
	struct vfio_pci *pci;
	struct guest_memory *shared; /* whose banks its BARs become; NULL: nobody's */
	unsigned intx_gsi;
	int intx_trigger;	     /* -1: down */
	pthread_mutex_t decode_lock; /* of @bars; below the function's lock, above the VM's */
	bool waiting;		     /* atomic: a BAR is wanted and not decoded */
	uint64_t traps;		     /* atomic: accesses to BARs that came to us */
	struct function_bar bars[VFIO_PCI_PLACES];
	struct pci_maps *maps; /* under decode_lock; NULL: the device shows nothing */
	unsigned vector_count;
	struct function_vector *vectors;
};

/* ---- BARs ---------------------------------------------------------------------------------- */

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
	const struct function_bar *bar = opaque;

	__atomic_fetch_add(&bar->function->traps, 1, __ATOMIC_RELAXED);
	return vfio_pci_bar_read(bar->function->pci, bar->index, offset, size);
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	const struct function_bar *bar = opaque;

	__atomic_fetch_add(&bar->function->traps, 1, __ATOMIC_RELAXED);
	vfio_pci_bar_write(bar->function->pci, bar->index, offset, size, value);
}

static const struct dispatch_handler bar_handler = { .read = bar_read, .write = bar_write };

static void decode_off(struct pci_function *function, struct function_bar *bar)
{
	const struct vfio_pci_bar *facts;
	struct vm *vm = function->vm;

	if (!bar->decoded)
		return;
	facts = vfio_pci_bar(function->pci, bar->index);
	for (unsigned i = 0; i < facts->io_fd_count; i++) {
		const struct vfio_io_fd *fd = &facts->io_fds[i];

		if (bar->doorbells & UINT64_C(1) << i)
			vm_ioeventfd_remove(vm, bar->is_io, bar->gpa + fd->offset, fd->size, fd->fd,
					    fd->datamatch, fd->value);
	}
	/* Other devices let go first, then the guest. */
	for (unsigned i = 0; i < facts->area_count; i++)
		if (bar->banks & UINT32_C(1) << i)
			guest_memory_remove_device(function->shared,
						   bar->gpa + facts->areas[i].offset);
	for (unsigned i = 0; i < facts->area_count; i++)
		if (bar->slots & UINT32_C(1) << i)
			vm_slot_remove(vm, bar->gpa + facts->areas[i].offset);
	if (function->maps)
		pci_maps_hide(function->maps, vm, bar->index, bar->gpa);
	dispatch_remove(bar->is_io ? vm_ports(vm) : vm_mmio(vm), bar->gpa);
	bar->doorbells = 0;
	bar->banks = 0;
	bar->slots = 0;
	bar->decoded = false;
}

/* One area that the guest reaches directly now becomes reachable for its other devices. */
static void bank_add(struct pci_function *function, struct function_bar *bar, unsigned area)
{
	const struct vfio_pci_bar *facts = vfio_pci_bar(function->pci, bar->index);
	const struct vfio_area *of = &facts->areas[area];
	struct error e = { 0 };

	if (!function->shared)
		return;
	if (guest_memory_add_device(function->shared, bar->gpa + of->offset, of->size,
				    (char *)facts->hva + of->offset, &e))
		log_limited(LOG_LEVEL_WARN, "%s: no peer-to-peer DMA to BAR %u: %s",
			    function->device->name, bar->index, e.text);
	else
		bar->banks |= UINT32_C(1) << area;
}

static void decode_on(struct pci_function *function, struct function_bar *bar)
{
	const struct vfio_pci_bar *facts = vfio_pci_bar(function->pci, bar->index);
	const uint64_t gpa = bar->gpa;
	const bool is_io = bar->is_io;
	struct vm *vm = function->vm;
	int ret;

	ret = dispatch_add(is_io ? vm_ports(vm) : vm_mmio(vm), gpa, bar->size, &bar_handler, bar);
	if (ret && __atomic_load_n(&function->waiting, __ATOMIC_RELAXED))
		return; /* said already */
	if (ret) {
		/* The guest put it over something else; there it stays unanswered. */
		log_limited(LOG_LEVEL_WARN, "%s: BAR %u cannot answer at 0x%llx: %s",
			    function->device->name, bar->index, (unsigned long long)gpa,
			    strerror(-ret));
		return;
	}
	bar->decoded = true;

	for (unsigned i = 0; i < facts->area_count && facts->hva && !is_io; i++) {
		const struct vfio_area *area = &facts->areas[i];

		ret = vm_slot_add(vm, gpa + area->offset, area->size,
				  (char *)facts->hva + area->offset);
		if (!ret) {
			bar->slots |= UINT32_C(1) << i;
			bank_add(function, bar, i);
			continue;
		}
		log_limited(LOG_LEVEL_WARN,
			    "%s: BAR %u is not mapped at 0x%llx (%s); every access to it "
			    "traps, which is slow",
			    function->device->name, bar->index,
			    (unsigned long long)(gpa + area->offset), strerror(-ret));
	}
	if (function->maps)
		pci_maps_show(function->maps, vm, bar->index, gpa, function->device->name);
	for (unsigned i = 0; i < facts->io_fd_count; i++) {
		const struct vfio_io_fd *fd = &facts->io_fds[i];

		ret = vm_ioeventfd_add(vm, is_io, gpa + fd->offset, fd->size, fd->fd, fd->datamatch,
				       fd->value);
		if (!ret)
			bar->doorbells |= UINT64_C(1) << i;
		else
			log_limited(LOG_LEVEL_WARN, "%s: doorbell at 0x%llx traps: %s",
				    function->device->name, (unsigned long long)(gpa + fd->offset),
				    strerror(-ret));
	}
}

static void waiting_update(struct pci_function *function)
{
	bool waiting = false;

	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
		waiting |= function->bars[i].wanted && !function->bars[i].decoded;
	__atomic_store_n(&function->waiting, waiting, __ATOMIC_RELEASE);
}

static void bar_update(void *opaque, unsigned index, bool enabled, uint64_t gpa, uint64_t size,
		       bool is_io)
{
	struct pci_function *function = opaque;
	struct function_bar *bar;

	if (index >= VFIO_PCI_PLACES)
		return;
	bar = &function->bars[index];
	pthread_mutex_lock(&function->decode_lock);
	decode_off(function, bar);
	bar->wanted = enabled;
	bar->gpa = gpa;
	bar->size = size;
	bar->is_io = is_io;
	if (enabled)
		decode_on(function, bar);
	waiting_update(function);
	pthread_mutex_unlock(&function->decode_lock);
}

void pci_function_retry(struct pci_function *function)
{
	if (!__atomic_load_n(&function->waiting, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&function->decode_lock);
	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
		if (function->bars[i].wanted && !function->bars[i].decoded)
			decode_on(function, &function->bars[i]);
	waiting_update(function);
	pthread_mutex_unlock(&function->decode_lock);
}

/* ---- memory that the device shows ---------------------------------------------------------- */

static int map(void *opaque, const struct vfio_region_map *asked, vfio_mapped done, void *token)
{
	struct pci_function *function = opaque;
	const struct function_bar *bar;
	int ret;

	if (!vfio_pci_map_ok(function->pci, asked->index, asked->offset, asked->size))
		return -EINVAL;
	bar = &function->bars[asked->index];
	pthread_mutex_lock(&function->decode_lock);
	ret = pci_maps_add(function->maps, function->vm, asked, bar->decoded, bar->gpa);
	pthread_mutex_unlock(&function->decode_lock);
	return ret;
}

static int unmap(void *opaque, uint32_t index, uint64_t offset, uint64_t size, vfio_mapped done,
		 void *token)
{
	struct pci_function *function = opaque;
	int ret;

	if (!vfio_pci_map_ok(function->pci, index, offset, size))
		return -EINVAL;
	pthread_mutex_lock(&function->decode_lock);
	ret = pci_maps_remove(function->maps, function->vm, index, offset, size,
			      function->bars[index].gpa);
	pthread_mutex_unlock(&function->decode_lock);
	return ret;
}

static const struct vfio_mapper mapper = { .map = map, .unmap = unmap };

/* ---- interrupts ---------------------------------------------------------------------------- */

static void vector_disarm(struct pci_function *function, struct function_vector *vector)
{
	if (vector->fd < 0)
		return;
	vm_irqfd_remove(function->vm, (unsigned)vector->gsi, vector->fd);
	vector->fd = -1;
}

/* Give the vector a GSI and its message; *changed when routes must be committed. */
static int vector_route(struct pci_function *function, struct function_vector *vector,
			const struct vfio_pci_vector *wanted, bool *changed)
{
	bool fresh = vector->gsi < 0;

	if (fresh) {
		int gsi = vm_gsi_alloc(function->vm, 1);

		if (gsi < 0)
			return gsi;
		vector->gsi = gsi;
	}
	if (!fresh && vector->address == wanted->address && vector->data == wanted->data)
		return 0;
	vector->address = wanted->address;
	vector->data = wanted->data;
	vm_route_msi(function->vm, (unsigned)vector->gsi, wanted->address, wanted->data);
	*changed = true;
	return 0;
}

static int msi_update(void *opaque, unsigned first, unsigned count,
		      const struct vfio_pci_vector *wanted, const int *eventfds)
{
	struct pci_function *function = opaque;
	bool changed = false;
	int ret, first_error = 0;

	if (first > function->vector_count || count > function->vector_count - first)
		return -EINVAL;

	/* Quiet first, so that no event of a vector being masked is delivered by its new route. */
	for (unsigned i = 0; i < count; i++) {
		struct function_vector *vector = &function->vectors[first + i];

		if (wanted[i].masked || vector->fd != eventfds[i])
			vector_disarm(function, vector);
		if (wanted[i].masked)
			continue;
		ret = vector_route(function, vector, &wanted[i], &changed);
		first_error = first_error ? first_error : ret;
	}
	if (changed) {
		ret = vm_routes_commit(function->vm);
		first_error = first_error ? first_error : ret;
	}
	/* An eventfd that was signalled meanwhile raises its interrupt as the irqfd takes it. */
	for (unsigned i = 0; i < count; i++) {
		struct function_vector *vector = &function->vectors[first + i];

		if (wanted[i].masked || vector->gsi < 0 || vector->fd >= 0 || eventfds[i] < 0)
			continue;
		ret = vm_irqfd_add(function->vm, (unsigned)vector->gsi, eventfds[i], -1);
		if (!ret)
			vector->fd = eventfds[i];
		first_error = first_error ? first_error : ret;
	}
	return first_error;
}

static void msi_release(void *opaque)
{
	struct pci_function *function = opaque;
	bool changed = false;

	for (unsigned i = 0; i < function->vector_count; i++) {
		struct function_vector *vector = &function->vectors[i];

		vector_disarm(function, vector);
		if (vector->gsi < 0)
			continue;
		vm_gsi_free(function->vm, (unsigned)vector->gsi, 1);
		vector->gsi = -1;
		changed = true;
	}
	if (changed)
		vm_routes_commit(function->vm);
}

static int intx_update(void *opaque, int trigger, int resample)
{
	struct pci_function *function = opaque;
	int ret;

	if (function->intx_trigger >= 0) {
		vm_irqfd_remove(function->vm, function->intx_gsi, function->intx_trigger);
		function->intx_trigger = -1;
	}
	if (trigger < 0)
		return 0;
	ret = vm_irqfd_add(function->vm, function->intx_gsi, trigger, resample);
	if (ret) {
		log_limited(LOG_LEVEL_WARN, "%s: INTx cannot be delivered to GSI %u: %s",
			    function->device->name, function->intx_gsi, strerror(-ret));
		return ret;
	}
	function->intx_trigger = trigger;
	return 0;
}

static const struct vfio_pci_host_ops host_ops = {
	.bar_update = bar_update,
	.msi_update = msi_update,
	.msi_release = msi_release,
	.intx_update = intx_update,
};

/* ---- life ---------------------------------------------------------------------------------- */

/* As many vectors as the larger of MSI and MSI-X has. */
static unsigned device_vectors(struct vfio_device *device)
{
	static const uint32_t indexes[] = { VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX };
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(indexes); i++) {
		struct vfio_irq irq = { 0 };

		if (indexes[i] < device->irq_count && device->ops->get_irq &&
		    !device->ops->get_irq(device, indexes[i], &irq))
			count = MAX(count, irq.count);
	}
	return MIN(count, VFIO_PCI_VECTORS_MAX);
}

int pci_function_create(struct vm *vm, struct vfio_device *device,
			const struct vfio_pci_options *options, struct pci_function **out,
			struct error *e)
{
	struct pci_function *function = calloc(1, sizeof(*function));
	int ret;

	if (!function)
		return error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
	function->vm = vm;
	function->device = device;
	function->intx_trigger = -1;
	pthread_mutex_init(&function->decode_lock, NULL);
	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
		function->bars[i] = (struct function_bar){ .function = function, .index = i };
	function->vector_count = device_vectors(device);
	function->vectors = calloc(function->vector_count + 1, sizeof(*function->vectors));
	if (!function->vectors) {
		ret = error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory", device->name);
		goto out_function;
	}
	for (unsigned i = 0; i < function->vector_count; i++)
		function->vectors[i] = (struct function_vector){ .gsi = -1, .fd = -1 };
	if (device->ops->set_mapper) {
		function->maps = calloc(1, sizeof(*function->maps));
		if (!function->maps) {
			ret = error_set(e, ENOMEM, "no-memory", NULL, "%s: out of memory",
					device->name);
			goto out_vectors;
		}
	}

	ret = vfio_pci_create(device, options, &host_ops, function, &function->pci, e);
	if (ret)
		goto out_maps;
	if (function->maps)
		device->ops->set_mapper(device, &mapper, function);
	*out = function;
	return 0;

out_maps:
	free(function->maps);
out_vectors:
	free(function->vectors);
out_function:
	pthread_mutex_destroy(&function->decode_lock);
	free(function);
	return ret;
}

void pci_function_share(struct pci_function *function, struct guest_memory *memory)
{
	/* A device of software has no memory that an IOMMU could map. */
	if (!function->device->ops->dma_map)
		function->shared = memory;
}

void pci_function_destroy(struct pci_function *function)
{
	if (!function)
		return;
	if (function->maps)
		function->device->ops->set_mapper(function->device, NULL, NULL);
	vfio_pci_destroy(function->pci);
	/* No handler may still hold the BARs that went away with it. */
	dispatch_synchronize(vm_mmio(function->vm));
	dispatch_synchronize(vm_ports(function->vm));
	if (function->maps)
		pci_maps_release(function->maps);
	free(function->maps);
	free(function->vectors);
	pthread_mutex_destroy(&function->decode_lock);
	free(function);
}

struct vfio_pci *pci_function_pci(const struct pci_function *function)
{
	return function ? function->pci : NULL;
}

struct vfio_device *pci_function_device(const struct pci_function *function)
{
	return function->device;
}

uint64_t pci_function_traps(const struct pci_function *function)
{
	return __atomic_load_n(&function->traps, __ATOMIC_RELAXED);
}

const char *pci_function_name(const struct pci_function *function)
{
	return function->device->name;
}

void pci_function_route_intx(struct pci_function *function, unsigned gsi)
{
	function->intx_gsi = gsi;
	if (vfio_pci_has_intx(function->pci))
		vfio_pci_set_intx_line(function->pci, (uint8_t)gsi);
}
