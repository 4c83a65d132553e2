// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's PCI Express as a whole: who answers where, and what a function's callbacks ask of the
 * VM. KVM and struct vfio_pci are played by small fakes that write down what they are told; the
 * dispatch tables are the real ones.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci.h"
#include "tests/unit/fake_vm.h"

#define FAKES_MAX 48

/* ---- the fake functions ---------------------------------------------------------------------- */

struct vfio_pci {
	const struct vfio_pci_host_ops *ops;
	void *opaque;
	struct vfio_pci_bar bars[VFIO_PCI_PLACES];
	uint8_t line;
	bool multifunction, intx;
	unsigned resets;
	int next_reset;
	uint32_t written, last_offset;
};

struct fake_device {
	struct vfio_device device;
	struct vfio_pci pci; /* what vfio_pci_create() hands out */
	bool refuse, live;
};

int vfio_pci_create(struct vfio_device *device, const struct vfio_pci_options *options,
		    const struct vfio_pci_host_ops *host, void *opaque, struct vfio_pci **out,
		    struct error *e)
{
	struct fake_device *fake = container_of(device, struct fake_device, device);

	if (fake->refuse)
		return error_set(e, EIO, "config-unreadable", NULL, "%s: no", device->name);
	fake->pci.ops = host;
	fake->pci.opaque = opaque;
	fake->pci.intx = options->intx;
	fake->live = true;
	*out = &fake->pci;
	return 0;
}

void vfio_pci_destroy(struct vfio_pci *pci)
{
	pci->ops->msi_release(pci->opaque);
	pci->ops->intx_update(pci->opaque, -1, -1);
	for (unsigned i = 0; i < VFIO_PCI_PLACES; i++)
		pci->ops->bar_update(pci->opaque, i, false, 0, 0, false);
	container_of(pci, struct fake_device, pci)->live = false;
}

int vfio_pci_reset(struct vfio_pci *pci, struct error *e)
{
	pci->resets++;
	return pci->next_reset ? error_set(e, -pci->next_reset, "no-reset", NULL, "no") : 0;
}

const struct vfio_pci_bar *vfio_pci_bar(const struct vfio_pci *pci, unsigned bar)
{
	return &pci->bars[bar];
}

bool vfio_pci_map_ok(const struct vfio_pci *pci, uint32_t bar, uint64_t offset, uint64_t size)
{
	return bar < VFIO_PCI_BARS && size && offset + size <= pci->bars[bar].size;
}

void vfio_pci_set_bar(struct vfio_pci *pci, unsigned bar, uint64_t gpa)
{
	pci->bars[bar].gpa = gpa;
}

void vfio_pci_set_intx_line(struct vfio_pci *pci, uint8_t line)
{
	pci->line = line;
}

bool vfio_pci_has_intx(const struct vfio_pci *pci)
{
	return pci->intx;
}

void vfio_pci_set_multifunction(struct vfio_pci *pci, bool multifunction)
{
	pci->multifunction = multifunction;
}

/* Config reads tell who answered and at which offset. */
uint32_t vfio_pci_config_read(struct vfio_pci *pci, uint16_t offset, unsigned size)
{
	const struct fake_device *fake = container_of(pci, struct fake_device, pci);

	return (uint32_t)fake->device.name[strlen(fake->device.name) - 1] << 16 | offset;
}

void vfio_pci_config_write(struct vfio_pci *pci, uint16_t offset, unsigned size, uint32_t value)
{
	pci->last_offset = offset;
	pci->written = value;
}

uint64_t vfio_pci_bar_read(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size)
{
	return bar << 16 | offset;
}

void vfio_pci_bar_write(struct vfio_pci *pci, unsigned bar, uint64_t offset, unsigned size,
			uint64_t value)
{
	pci->last_offset = (uint32_t)offset;
	pci->written = (uint32_t)value;
}

static int fake_get_irq(struct vfio_device *device, uint32_t index, struct vfio_irq *irq)
{
	*irq = (struct vfio_irq){ .count = index == VFIO_PCI_MSIX_IRQ_INDEX ? 4 : 1 };
	return 0;
}

static const struct vfio_device_ops fake_ops = { .get_irq = fake_get_irq };

/* ---- a house for them all -------------------------------------------------------------------- */

struct house {
	struct vm vm;
	struct pci_host *host;
	struct fake_device devices[FAKES_MAX];
	unsigned device_count;
};

static int setup(void **state)
{
	struct house *h = calloc(1, sizeof(*h));
	struct error e = { 0 };

	h->vm.physical_bits = 46;
	h->vm.gsi_limit = ARRAY_SIZE(h->vm.gsis);
	if (dispatch_create(&h->vm.mmio) || dispatch_create(&h->vm.ports) ||
	    pci_host_create(&h->vm, NULL, NULL, 0, &h->host, &e)) {
		free(h);
		return -1;
	}
	*state = h;
	return 0;
}

/* Whatever a test did, nothing of it may stay in the VM. */
static int teardown(void **state)
{
	struct house *h = *state;
	int left;

	pci_host_destroy(h->host);
	left = (int)(h->vm.slot_count + h->vm.irqfd_count + h->vm.doorbell_count +
		     gsis_taken(&h->vm));
	for (unsigned i = 0; i < h->device_count; i++)
		left += h->devices[i].live;
	left += dispatch_read(h->vm.mmio, LAYOUT_ECAM_START, 4) != UINT32_MAX;
	left += dispatch_read(h->vm.ports, PORT_PCI_ADDRESS, 4) != UINT32_MAX;
	dispatch_destroy(h->vm.mmio);
	dispatch_destroy(h->vm.ports);
	free(h);
	return left;
}

static struct fake_device *fake(struct house *h, const char *name)
{
	struct fake_device *d = &h->devices[h->device_count++];

	d->device.ops = &fake_ops;
	d->device.irq_count = VFIO_PCI_NUM_IRQS;
	snprintf(d->device.name, sizeof(d->device.name), "%s", name);
	d->pci.bars[0] = (struct vfio_pci_bar){ .size = 64 * KIB };
	return d;
}

static struct fake_device *add(struct house *h, const char *name, bool behind_port)
{
	static const struct vfio_pci_options options = { .intx = true };
	struct fake_device *d = fake(h, name);
	struct error e = { 0 };

	assert_int_equal(pci_host_add(h->host, &d->device, behind_port, &options, &e), 0);
	return d;
}

static void place(struct house *h)
{
	struct error e = { 0 };

	assert_int_equal(pci_host_place(h->host, &e), 0);
}

static uint64_t ecam(unsigned bus, unsigned device, unsigned function, unsigned offset)
{
	return LAYOUT_ECAM_START + (bus << 20 | device << 15 | function << 12 | offset);
}

static uint32_t get(struct house *h, unsigned bus, unsigned device, unsigned function,
		    unsigned offset)
{
	return (uint32_t)dispatch_read(h->vm.mmio, ecam(bus, device, function, offset), 4);
}

static void put(struct house *h, unsigned bus, unsigned device, unsigned offset, unsigned size,
		uint32_t value)
{
	dispatch_write(h->vm.mmio, ecam(bus, device, 0, offset), size, value);
}

/* ---- topology -------------------------------------------------------------------------------- */

static void everybody_answers_at_his_place_and_nobody_elsewhere(void **state)
{
	struct house *h = *state;

	add(h, "virtio-blk.a", false);
	add(h, "0000:3b:00.0", true);
	add(h, "virtio-net.b", false);
	add(h, "0000:5e:00.0", true);
	place(h);

	assert_int_equal(get(h, 0, 0, 0, 0), 0x00081b36);
	assert_int_equal(get(h, 0, 0, 0, 8), 0x06000000);
	assert_int_equal(get(h, 0, 1, 0, 4), 'a' << 16 | 4);
	assert_int_equal(get(h, 0, 2, 0, 0), 0x000c1b36);
	assert_int_equal(get(h, 0, 3, 0, 4), 'b' << 16 | 4);
	assert_int_equal(get(h, 0, 4, 0, 0), 0x000c1b36);
	assert_int_equal(get(h, 1, 0, 0, 0xffc), '0' << 16 | 0xffc);
	assert_int_equal(get(h, 2, 0, 0, 0), '0' << 16);
	assert_int_equal(pci_host_last_bus(h->host), 2);

	assert_int_equal(get(h, 0, 5, 0, 0), UINT32_MAX);
	assert_int_equal(get(h, 0, 1, 1, 0), UINT32_MAX);
	assert_int_equal(get(h, 1, 1, 0, 0), UINT32_MAX);
	assert_int_equal(get(h, 3, 0, 0, 0), UINT32_MAX);
	assert_int_equal(get(h, 255, 31, 7, 0xffc), UINT32_MAX);
}

static void the_ports_reach_the_same_functions_in_every_width(void **state)
{
	struct house *h = *state;
	struct fake_device *d = add(h, "0000:3b:00.0", true);
	struct dispatch *ports;

	place(h);
	ports = h->vm.ports;
	assert_int_equal(dispatch_read(ports, PORT_PCI_DATA, 4), UINT32_MAX); /* no address yet */
	dispatch_write(ports, PORT_PCI_ADDRESS, 4, 0x80000000);
	assert_int_equal(dispatch_read(ports, PORT_PCI_ADDRESS, 4), 0x80000000);
	assert_int_equal(dispatch_read(ports, PORT_PCI_DATA, 4), 0x00081b36);
	assert_int_equal(dispatch_read(ports, PORT_PCI_DATA, 2), 0x1b36);
	assert_int_equal(dispatch_read(ports, PORT_PCI_DATA + 2, 2), 0x0008);
	assert_int_equal(dispatch_read(ports, PORT_PCI_DATA + 1, 1), 0x1b);
	assert_int_equal(dispatch_read(ports, PORT_PCI_DATA + 1, 2), UINT16_MAX); /* crooked */
	dispatch_write(ports, PORT_PCI_ADDRESS, 4, 0x80010010);
	assert_int_equal(dispatch_read(ports, PORT_PCI_DATA, 4), '0' << 16 | 0x10);
	dispatch_write(ports, PORT_PCI_DATA + 2, 2, 0xbeef);
	assert_int_equal(d->pci.last_offset, 0x12);
	assert_int_equal(d->pci.written, 0xbeef);
	dispatch_write(ports, PORT_PCI_ADDRESS, 4, 0x00010010);
	dispatch_write(ports, PORT_PCI_DATA, 4, 1);
	assert_int_equal(d->pci.written, 0xbeef);
}

static void a_crooked_or_wide_ecam_access_is_all_ones_or_split(void **state)
{
	struct house *h = *state;

	add(h, "virtio-blk.a", false);
	place(h);
	assert_int_equal(dispatch_read(h->vm.mmio, ecam(0, 1, 0, 2), 4), UINT32_MAX);
	assert_int_equal(dispatch_read(h->vm.mmio, ecam(0, 1, 0, 8), 8),
			 ('a' << 16 | 8) | (uint64_t)('a' << 16 | 12) << 32);
	assert_true(dispatch_read(h->vm.mmio, ecam(0, 1, 0, 4), 8) == UINT64_MAX);
}

static void the_reset_register_resets_on_its_bit_only(void **state)
{
	struct house *h = *state;

	dispatch_write(h->vm.ports, PORT_RESET, 1, 0x02);
	assert_false(h->vm.reset_asked);
	dispatch_write(h->vm.ports, PORT_PCI_ADDRESS, 4, 0x80000600);
	assert_false(h->vm.reset_asked);
	dispatch_write(h->vm.ports, PORT_RESET, 1, 0x06);
	assert_true(h->vm.reset_asked);
}

static void functions_of_one_host_slot_stay_one_slot_with_a_function_0(void **state)
{
	struct house *h = *state;
	struct fake_device *three = add(h, "0000:3b:00.3", true);
	struct fake_device *one = add(h, "0000:3b:00.1", true);
	struct fake_device *other = add(h, "0000:3c:00.0", true);
	struct fake_device again = { .device = { .ops = &fake_ops, .name = "0000:3b:00.1" } };
	const struct vfio_pci_options options = { 0 };
	struct error e = { 0 };

	assert_int_equal(pci_host_add(h->host, &again.device, true, &options, &e), -EEXIST);
	assert_string_equal(e.code, "assigned-twice");
	place(h);
	assert_int_equal(get(h, 1, 0, 0, 0), '1' << 16); /* the lowest became function 0 */
	assert_int_equal(get(h, 1, 0, 3, 0), '3' << 16);
	assert_int_equal(get(h, 1, 0, 1, 0), UINT32_MAX);
	assert_true(one->pci.multifunction && three->pci.multifunction);
	assert_false(other->pci.multifunction);
	assert_int_equal(pci_host_function_count(h->host), 3);
	assert_string_equal(pci_host_function_name(h->host, 2), "0000:3c:00.0");
	assert_ptr_equal(pci_host_function(h->host, 0), &three->pci);
	assert_null(pci_host_function(h->host, 3));
}

static void a_whole_slot_keeps_its_numbers_and_only_they_answer(void **state)
{
	struct house *h = *state;
	struct fake_device *audio = add(h, "0000:3b:00.1", true);
	struct fake_device *gpu = fake(h, "0000:3b:00.0");
	struct fake_device *alone = add(h, "0000:3c:02.5", true);
	const struct vfio_pci_options options = { 0 };

	gpu->pci.bars[VFIO_PCI_ROM] = (struct vfio_pci_bar){ .size = 128 * KIB };
	assert_int_equal(pci_host_add(h->host, &gpu->device, true, &options, NULL), 0);
	place(h);
	for (unsigned device = 0; device < 32; device++)
		for (unsigned function = 0; function < 8; function++)
			assert_int_equal(get(h, 1, device, function, 0),
					 device || function > 1 ? UINT32_MAX
								: ('0' + function) << 16);
	assert_true(gpu->pci.multifunction && audio->pci.multifunction);
	/* one function of a slot, whatever its number and device on the host: 00.0, and no more */
	assert_int_equal(get(h, 2, 0, 0, 0), '5' << 16);
	assert_int_equal(get(h, 2, 0, 5, 0), UINT32_MAX);
	assert_false(alone->pci.multifunction);
	/* nobody may count on functions beyond the eighth: the port forwards no ARI */
	for (unsigned at = get(h, 0, 1, 0, PCI_CAPABILITY_LIST) & 0xff, next; at; at = next) {
		uint32_t head = get(h, 0, 1, 0, at);

		next = head >> 8 & 0xff;
		if ((head & 0xff) == PCI_CAP_ID_EXP)
			assert_false(get(h, 0, 1, 0, at + PCI_EXP_DEVCAP2) & PCI_EXP_DEVCAP2_ARI);
		else
			assert_int_not_equal(next, 0); /* it is the last, and it was looked at */
	}
	/* the ROM has its place among the BARs */
	assert_true(gpu->pci.bars[VFIO_PCI_ROM].gpa >= pci_host_window32(h->host).start);
	assert_int_equal(gpu->pci.bars[VFIO_PCI_ROM].gpa % (128 * KIB), 0);
	assert_true(gpu->pci.bars[VFIO_PCI_ROM].gpa != gpu->pci.bars[0].gpa);
}

static void ports_share_slots_when_slots_run_short(void **state)
{
	struct house *h = *state;

	for (unsigned i = 0; i < 26; i++)
		add(h, "virtio-blk.a", false);
	for (unsigned i = 0; i < 16; i++) {
		char name[64];

		snprintf(name, sizeof(name), "0000:%02x:00.0", i + 1);
		add(h, name, true);
	}
	place(h);
	assert_int_equal(get(h, 0, 26, 0, 0), 'a' << 16);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(get(h, 0, 27 + i / 8, i % 8, 0), 0x000c1b36);
		assert_int_equal(get(h, 0, 27 + i / 8, i % 8, 0x0c) >> 16, 0x81);
		assert_int_equal(get(h, i + 1, 0, 0, 0), '0' << 16);
	}
}

static void too_many_devices_are_refused(void **state)
{
	struct house *h = *state;
	struct error e = { 0 };

	for (unsigned i = 0; i < 32; i++)
		add(h, "virtio-blk.a", false);
	assert_int_equal(pci_host_place(h->host, &e), -ENOSPC);
	assert_string_equal(e.code, "too-many-devices");
}

static void a_device_that_cannot_be_made_a_function_leaves_nothing(void **state)
{
	const struct vfio_pci_options options = { 0 };
	struct house *h = *state;
	struct fake_device *d = fake(h, "0000:3b:00.0");
	struct error e = { 0 };

	d->refuse = true;
	assert_int_equal(pci_host_add(h->host, &d->device, true, &options, &e), -EIO);
	assert_string_equal(e.code, "config-unreadable");
	assert_int_equal(pci_host_function_count(h->host), 0);
	place(h);
	assert_int_equal(get(h, 0, 1, 0, 0), UINT32_MAX);
	assert_int_equal(pci_host_last_bus(h->host), 0);
}

static void bars_and_windows_agree(void **state)
{
	struct house *h = *state;
	struct fake_device *d = fake(h, "0000:3b:00.0");
	const struct vfio_pci_options options = { 0 };
	struct pci_window w64;
	struct error e = { 0 };

	d->pci.bars[1] = (struct vfio_pci_bar){ .size = GIB, .is_64 = true, .prefetchable = true };
	assert_int_equal(pci_host_add(h->host, &d->device, true, &options, &e), 0);
	place(h);
	w64 = pci_host_window64(h->host);
	assert_int_equal(d->pci.bars[0].gpa, LAYOUT_MMIO32_START);
	assert_int_equal(d->pci.bars[1].gpa, 5 * GIB); /* right above RAM */
	assert_int_equal(w64.start, 5 * GIB);
	assert_int_equal(w64.size, GIB);
	assert_int_equal(get(h, 0, 1, 0, PCI_MEMORY_BASE), 0xc000c000);
	assert_int_equal(get(h, 0, 1, 0, PCI_PREF_MEMORY_BASE), 0x7ff14001);
	assert_int_equal(get(h, 0, 1, 0, PCI_PREF_BASE_UPPER32), 1);
}

static void a_window_that_is_full_fails_with_its_error(void **state)
{
	struct house *h = *state;
	struct fake_device *d = fake(h, "0000:3b:00.0");
	const struct vfio_pci_options options = { 0 };
	struct error e = { 0 };

	h->vm.physical_bits = 36;
	d->pci.bars[0] =
		(struct vfio_pci_bar){ .size = 128 * GIB, .is_64 = true, .prefetchable = true };
	assert_int_equal(pci_host_add(h->host, &d->device, true, &options, &e), 0);
	assert_int_equal(pci_host_place(h->host, &e), -ENOSPC);
	assert_string_equal(e.code, "bar-window-full");
}

static void a_guest_may_number_the_buses_anew(void **state)
{
	struct house *h = *state;

	add(h, "0000:3b:00.0", true);
	add(h, "0000:5e:00.1", true);
	place(h);
	put(h, 0, 1, PCI_PRIMARY_BUS, 4, 0x00090900);
	assert_int_equal(get(h, 1, 0, 0, 0), UINT32_MAX);
	assert_int_equal(get(h, 9, 0, 0, 0), '0' << 16);
	/* Two ports with one number: the first has it. */
	put(h, 0, 2, PCI_PRIMARY_BUS, 4, 0x00090900);
	assert_int_equal(get(h, 9, 0, 0, 0), '0' << 16);
	put(h, 0, 1, PCI_SECONDARY_BUS, 1, 0);
	assert_int_equal(get(h, 9, 0, 0, 0), '1' << 16);
	assert_int_equal(get(h, 0, 0, 0, 0), 0x00081b36);
}

static void a_secondary_bus_reset_resets_what_is_behind_the_port(void **state)
{
	struct house *h = *state;
	struct fake_device *a = add(h, "0000:3b:00.0", true);
	struct fake_device *b = add(h, "0000:5e:00.0", true);

	place(h);
	put(h, 0, 1, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_BUS_RESET);
	put(h, 0, 1, PCI_BRIDGE_CONTROL, 2, 0);
	assert_int_equal(a->pci.resets, 1);
	assert_int_equal(b->pci.resets, 0);
}

static void reset_reaches_everybody_even_when_one_fails(void **state)
{
	struct house *h = *state;
	struct fake_device *a = add(h, "0000:3b:00.0", true);
	struct fake_device *b = add(h, "0000:5e:00.0", true);
	struct error e = { 0 };

	place(h);
	put(h, 0, 1, PCI_PRIMARY_BUS, 4, 0x00090900);
	dispatch_write(h->vm.ports, PORT_PCI_ADDRESS, 4, 0x80000000);
	a->pci.next_reset = -ENOTTY;
	assert_int_equal(pci_host_reset(h->host, &e), -ENOTTY);
	assert_string_equal(e.code, "no-reset");
	assert_int_equal(a->pci.resets, 1);
	assert_int_equal(b->pci.resets, 1);
	assert_int_equal(get(h, 1, 0, 0, 0), '0' << 16);
	assert_int_equal(get(h, 9, 0, 0, 0), UINT32_MAX);
	assert_int_equal(dispatch_read(h->vm.ports, PORT_PCI_ADDRESS, 4), 0);
}

/* ---- what a function asks of the VM ---------------------------------------------------------- */

static uint8_t bar_memory[64 * KIB];

static void decode_maps_what_may_be_mapped_and_traps_the_rest(void **state)
{
	static const struct vfio_io_fd doorbell = { .offset = 0x3000, .size = 2, .fd = 77 };
	struct house *h = *state;
	struct fake_device *d = add(h, "0000:3b:00.0", true);
	struct vfio_pci *pci = &d->pci;
	uint64_t gpa;

	pci->bars[0].hva = bar_memory;
	pci->bars[0].area_count = 2;
	pci->bars[0].areas[0] = (struct vfio_area){ 0, 0x2000 };
	pci->bars[0].areas[1] = (struct vfio_area){ 0x4000, 0xc000 };
	pci->bars[0].io_fd_count = 1;
	pci->bars[0].io_fds = &doorbell;
	place(h);
	gpa = pci->bars[0].gpa;
	assert_int_equal(h->vm.slot_count, 0); /* no decode yet */

	pci->ops->bar_update(pci->opaque, 0, true, gpa, 64 * KIB, false);
	assert_int_equal(h->vm.slot_count, 2);
	assert_int_equal(h->vm.slots[1].gpa, gpa + 0x4000);
	assert_int_equal(h->vm.slots[1].size, 0xc000);
	assert_ptr_equal(h->vm.slots[1].hva, bar_memory + 0x4000);
	assert_int_equal(h->vm.doorbells[0].address, gpa + 0x3000);
	assert_int_equal(dispatch_read(h->vm.mmio, gpa + 0x2010, 4), 0x2010);
	dispatch_write(h->vm.mmio, gpa + 0x2014, 4, 0xabcd);
	assert_int_equal(pci->last_offset, 0x2014);
	assert_int_equal(pci->written, 0xabcd);

	/* It moves; nothing stays at the old place. */
	pci->ops->bar_update(pci->opaque, 0, false, gpa, 64 * KIB, false);
	assert_int_equal(h->vm.slot_count + h->vm.doorbell_count, 0);
	assert_int_equal(dispatch_read(h->vm.mmio, gpa + 0x2010, 4), UINT32_MAX);
	pci->ops->bar_update(pci->opaque, 0, true, gpa + MIB, 64 * KIB, false);
	assert_int_equal(h->vm.slots[0].gpa, gpa + MIB);
	assert_int_equal(dispatch_read(h->vm.mmio, gpa + MIB + 0x2010, 4), 0x2010);
}

static void a_bar_that_cannot_be_mapped_traps(void **state)
{
	struct house *h = *state;
	struct fake_device *d = add(h, "0000:3b:00.0", true);
	struct vfio_pci *pci = &d->pci;

	pci->bars[0].hva = bar_memory;
	pci->bars[0].area_count = 1;
	pci->bars[0].areas[0] = (struct vfio_area){ 0, 64 * KIB };
	place(h);
	h->vm.refuse_slots = true;
	pci->ops->bar_update(pci->opaque, 0, true, pci->bars[0].gpa, 64 * KIB, false);
	assert_int_equal(h->vm.slot_count, 0);
	assert_int_equal(dispatch_read(h->vm.mmio, pci->bars[0].gpa + 8, 4), 8);
	pci->ops->bar_update(pci->opaque, 0, false, pci->bars[0].gpa, 64 * KIB, false);
}

static void a_bar_over_something_else_stays_unanswered(void **state)
{
	struct house *h = *state;
	struct fake_device *d = add(h, "0000:3b:00.0", true);
	struct vfio_pci *pci = &d->pci;

	pci->bars[0].hva = bar_memory;
	pci->bars[0].area_count = 1;
	pci->bars[0].areas[0] = (struct vfio_area){ 0, 64 * KIB };
	place(h);
	pci->ops->bar_update(pci->opaque, 0, true, LAYOUT_ECAM_START, 64 * KIB, false);
	assert_int_equal(h->vm.slot_count, 0);
	assert_int_equal(get(h, 0, 0, 0, 0), 0x00081b36);
	pci->ops->bar_update(pci->opaque, 0, true, UINT64_MAX - 0xfff, 64 * KIB, false);
	assert_int_equal(h->vm.slot_count, 0);
	pci->ops->bar_update(pci->opaque, 0, false, LAYOUT_ECAM_START, 64 * KIB, false);
	assert_int_equal(get(h, 0, 0, 0, 0), 0x00081b36);
}

static void a_bar_over_another_answers_once_that_has_moved(void **state)
{
	struct house *h = *state;
	struct vfio_pci *first = &add(h, "0000:3b:00.0", true)->pci;
	struct vfio_pci *second = &add(h, "0000:3c:00.0", true)->pci;
	uint64_t gpa;

	second->bars[0].hva = bar_memory;
	second->bars[0].area_count = 1;
	second->bars[0].areas[0] = (struct vfio_area){ 0, 64 * KIB };
	place(h);
	gpa = first->bars[0].gpa;
	first->ops->bar_update(first->opaque, 0, true, gpa, 64 * KIB, false);
	second->ops->bar_update(second->opaque, 0, true, gpa, 64 * KIB, false);
	assert_int_equal(h->vm.slot_count, 0);
	put(h, 1, 0, 0x10, 4, 0);
	assert_int_equal(h->vm.slot_count, 0);

	first->ops->bar_update(first->opaque, 0, false, gpa, 64 * KIB, false);
	put(h, 1, 0, 0x10, 4, 0);
	assert_int_equal(h->vm.slot_count, 1);
	assert_int_equal(h->vm.slots[0].gpa, gpa);
	assert_int_equal(dispatch_read(h->vm.mmio, gpa + 8, 4), 8);

	second->ops->bar_update(second->opaque, 0, false, gpa, 64 * KIB, false);
	put(h, 1, 0, 0x10, 4, 0);
	assert_int_equal(h->vm.slot_count, 0);
	assert_int_equal(dispatch_read(h->vm.mmio, gpa + 8, 4), UINT32_MAX);
}

static void an_io_bar_answers_at_its_ports(void **state)
{
	struct house *h = *state;
	struct fake_device *d = add(h, "0000:3b:00.0", true);
	struct vfio_pci *pci = &d->pci;

	place(h);
	pci->ops->bar_update(pci->opaque, 2, true, 0xc000, 32, true);
	assert_int_equal(dispatch_read(h->vm.ports, 0xc010, 2), 0x10);
	assert_int_equal(dispatch_read(h->vm.mmio, 0xc010, 2), UINT16_MAX);
	pci->ops->bar_update(pci->opaque, 2, false, 0xc000, 32, true);
	assert_int_equal(dispatch_read(h->vm.ports, 0xc010, 2), UINT16_MAX);
}

static void vectors_get_routes_at_once_and_masks_take_only_the_irqfd(void **state)
{
	struct vfio_pci_vector v[3] = { { 0xfee00000, 0x21, false },
					{ 0, 0, true },
					{ 0xfee01000, 0x22, false } };
	static const int fds[3] = { 101, 102, 103 };
	struct house *h = *state;
	struct vfio_pci *pci = &add(h, "0000:3b:00.0", true)->pci;

	place(h);
	assert_int_equal(gsis_taken(&h->vm), 0); /* lazily */
	assert_int_equal(pci->ops->msi_update(pci->opaque, 0, 3, v, fds), 0);
	assert_int_equal(h->vm.commits, 1);
	assert_int_equal(gsis_taken(&h->vm), 2);
	assert_int_equal(h->vm.irqfd_count, 2);
	assert_int_equal(h->vm.routes[h->vm.irqfds[1].gsi].address, 0xfee01000);
	assert_int_equal(h->vm.routes[h->vm.irqfds[1].gsi].data, 0x22);
	assert_int_equal(h->vm.irqfds[1].fd, 103);
	assert_int_equal(h->vm.irqfds[1].resample, -1);

	/* Mask and unmask with the same message: no routing at all. */
	v[2].masked = true;
	assert_int_equal(pci->ops->msi_update(pci->opaque, 2, 1, &v[2], &fds[2]), 0);
	assert_int_equal(h->vm.irqfd_count, 1);
	assert_int_equal(gsis_taken(&h->vm), 2);
	v[2].masked = false;
	assert_int_equal(pci->ops->msi_update(pci->opaque, 2, 1, &v[2], &fds[2]), 0);
	assert_int_equal(h->vm.irqfd_count, 2);
	assert_int_equal(h->vm.commits, 1);

	/* A new message for a live vector: one more commit, the same irqfd. */
	v[2].data = 0x33;
	assert_int_equal(pci->ops->msi_update(pci->opaque, 2, 1, &v[2], &fds[2]), 0);
	assert_int_equal(h->vm.commits, 2);
	assert_int_equal(h->vm.irqfd_count, 2);

	pci->ops->msi_release(pci->opaque);
	assert_int_equal(gsis_taken(&h->vm) + h->vm.irqfd_count, 0);
	assert_int_equal(h->vm.commits, 3);
}

static void vectors_beyond_what_the_device_has_are_refused(void **state)
{
	const struct vfio_pci_vector v = { 0xfee00000, 0x21, false };
	const int fd = 101;
	struct house *h = *state;
	struct vfio_pci *pci = &add(h, "0000:3b:00.0", true)->pci;

	place(h);
	assert_int_equal(pci->ops->msi_update(pci->opaque, 4, 1, &v, &fd), -EINVAL);
	assert_int_equal(pci->ops->msi_update(pci->opaque, 1, UINT32_MAX, &v, &fd), -EINVAL);
	assert_int_equal(h->vm.irqfd_count, 0);
}

static void a_vector_without_a_gsi_fails_and_the_others_work(void **state)
{
	const struct vfio_pci_vector v[2] = { { 0xfee00000, 0x21, false },
					      { 0xfee00000, 0x22, false } };
	const int fds[2] = { 101, 102 };
	struct house *h = *state;
	struct vfio_pci *pci = &add(h, "0000:3b:00.0", true)->pci;

	place(h);
	h->vm.gsi_limit = GSI_MSI_FIRST + 1;
	assert_int_equal(pci->ops->msi_update(pci->opaque, 0, 2, v, fds), -ENOSPC);
	assert_int_equal(h->vm.irqfd_count, 1);
	assert_int_equal(h->vm.irqfds[0].fd, 101);
}

static void intx_goes_to_the_gsi_that_acpi_tells(void **state)
{
	struct house *h = *state;
	struct vfio_pci *a = &add(h, "virtio-blk.a", false)->pci;
	struct vfio_pci *b = &add(h, "0000:3b:00.0", true)->pci;

	place(h);
	assert_int_equal(a->line, GSI_INTX_FIRST + 1); /* device 1, INTA# */
	assert_int_equal(b->line, GSI_INTX_FIRST + 2); /* port 2, device 0 behind it, INTA# */
	assert_int_equal(b->ops->intx_update(b->opaque, 55, 56), 0);
	assert_int_equal(h->vm.irqfds[0].gsi, GSI_INTX_FIRST + 2);
	assert_int_equal(h->vm.irqfds[0].fd, 55);
	assert_int_equal(h->vm.irqfds[0].resample, 56);
	assert_int_equal(b->ops->intx_update(b->opaque, -1, -1), 0);
	assert_int_equal(h->vm.irqfd_count, 0);
}

int main(void)
{
#define HOUSE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		HOUSE(everybody_answers_at_his_place_and_nobody_elsewhere),
		HOUSE(the_ports_reach_the_same_functions_in_every_width),
		HOUSE(a_crooked_or_wide_ecam_access_is_all_ones_or_split),
		HOUSE(the_reset_register_resets_on_its_bit_only),
		HOUSE(functions_of_one_host_slot_stay_one_slot_with_a_function_0),
		HOUSE(a_whole_slot_keeps_its_numbers_and_only_they_answer),
		HOUSE(ports_share_slots_when_slots_run_short),
		HOUSE(too_many_devices_are_refused),
		HOUSE(a_device_that_cannot_be_made_a_function_leaves_nothing),
		HOUSE(bars_and_windows_agree),
		HOUSE(a_window_that_is_full_fails_with_its_error),
		HOUSE(a_guest_may_number_the_buses_anew),
		HOUSE(a_secondary_bus_reset_resets_what_is_behind_the_port),
		HOUSE(reset_reaches_everybody_even_when_one_fails),
		HOUSE(decode_maps_what_may_be_mapped_and_traps_the_rest),
		HOUSE(a_bar_that_cannot_be_mapped_traps),
		HOUSE(a_bar_over_something_else_stays_unanswered),
		HOUSE(a_bar_over_another_answers_once_that_has_moved),
		HOUSE(an_io_bar_answers_at_its_ports),
		HOUSE(vectors_get_routes_at_once_and_masks_take_only_the_irqfd),
		HOUSE(vectors_beyond_what_the_device_has_are_refused),
		HOUSE(a_vector_without_a_gsi_fails_and_the_others_work),
		HOUSE(intx_goes_to_the_gsi_that_acpi_tells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
