// SPDX-License-Identifier: Apache-2.0
/* Where BARs and bridge windows are put, and what a root port keeps of a guest's writes. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hypervisor-glue/layout.h"
#include "hypervisor-glue/pci_internal.h"

#define EXP 0x60 /* the PCIe capability of a root port; found_capability() checks it */

static const struct pci_placed_bar gpu[] = {
	/* a data-centre GPU: registers, memory, a small window (passthrough notes: B200) */
	{ .size = 64 * MIB, .is_64 = true, .prefetchable = true },
	{ .size = 256 * GIB, .is_64 = true, .prefetchable = true },
	{ .size = 32 * MIB, .is_64 = true, .prefetchable = true },
};

static void add(struct pci_placement *p, bool behind_port, const struct pci_placed_bar *bars,
		unsigned count)
{
	struct pci_placed_slot *slot = &p->slots[p->slot_count++];

	slot->behind_port = behind_port;
	slot->bar_count = count;
	if (count)
		memcpy(slot->bars, bars, count * sizeof(*bars));
}

static int setup(void **state)
{
	struct pci_placement *p = calloc(1, sizeof(*p));

	p->slots = calloc(64, sizeof(*p->slots));
	p->ram_end = LAYOUT_RAM_HIGH_START + 1 * GIB + 5 * MIB;
	p->physical_bits = 46;
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pci_placement *p = *state;

	free(p->slots);
	free(p);
	return 0;
}

static bool inside(uint64_t base, uint64_t size, const struct pci_window *w)
{
	return base >= w->start && base + size <= w->start + w->size;
}

/* What must hold of every placement, whatever the devices. */
static void assert_sound(const struct pci_placement *p)
{
	for (unsigned i = 0; i < p->slot_count; i++) {
		const struct pci_placed_slot *slot = &p->slots[i];

		for (unsigned j = 0; j < slot->bar_count; j++) {
			const struct pci_placed_bar *bar = &slot->bars[j];
			const struct pci_window *bridge = NULL;

			if (!bar->size || (bar->is_io && !bar->base))
				continue;
			assert_true(bar->base != 0);
			assert_int_equal(bar->base % bar->size, 0);
			if (bar->is_io)
				assert_true(bar->base >= PORT_PCI_IO_START &&
					    bar->base + bar->size <= 0x10000);
			else
				assert_true(inside(bar->base, bar->size, &p->window32) ||
					    inside(bar->base, bar->size, &p->window64));
			if (!bar->is_io && !bar->is_64)
				assert_true(bar->base + bar->size <= LAYOUT_MMIO32_END);
			if (slot->behind_port) {
				bridge = &slot->windows[bar->is_io ? PCI_WINDOW_IO
							: bar->is_64 && bar->prefetchable
								? PCI_WINDOW_MEM64
								: PCI_WINDOW_MEM32];
				assert_true(inside(bar->base, bar->size, bridge));
			}
			for (unsigned k = 0; k < p->slot_count; k++) {
				const struct pci_placed_slot *other = &p->slots[k];

				for (unsigned l = 0; l < other->bar_count; l++) {
					const struct pci_placed_bar *b = &other->bars[l];

					if (b == bar || !b->size || b->is_io != bar->is_io)
						continue;
					assert_true(b->base + b->size <= bar->base ||
						    bar->base + bar->size <= b->base);
				}
				/* Nobody sits in a window that is not over him. */
				for (unsigned w = 0; w < PCI_WINDOW_KINDS && other != slot; w++) {
					const struct pci_window *win = &other->windows[w];

					if ((w == PCI_WINDOW_IO) == bar->is_io)
						assert_true(bar->base + bar->size <= win->start ||
							    win->start + win->size <= bar->base);
				}
			}
		}
	}
}

static void large_bars_come_first_and_are_naturally_aligned(void **state)
{
	struct pci_placement *p = *state;
	struct error e = { 0 };

	add(p, true, gpu, ARRAY_SIZE(gpu));
	assert_int_equal(pci_windows_place(p, &e), 0);
	assert_sound(p);
	assert_int_equal(p->slots[0].bars[1].base, 256 * GIB);
	assert_int_equal(p->slots[0].bars[0].base, 512 * GIB);
	assert_int_equal(p->slots[0].bars[2].base, 512 * GIB + 64 * MIB);
	assert_int_equal(p->window64.start, 256 * GIB);
	assert_int_equal(p->window64.size, 257 * GIB);
	assert_int_equal(p->slots[0].windows[PCI_WINDOW_MEM64].size, 256 * GIB + 96 * MIB);
}

static void eight_large_gpus_fit_a_46_bit_guest(void **state)
{
	struct pci_placement *p = *state;
	struct error e = { 0 };

	for (unsigned i = 0; i < 8; i++)
		add(p, true, gpu, ARRAY_SIZE(gpu));
	assert_int_equal(pci_windows_place(p, &e), 0);
	assert_sound(p);
}

/* What an AMD host's IOMMU says: all but interrupt messages and the HyperTransport range below 1 TiB. */
static const struct iommu_range amd[] = {
	{ 0, 0xfedfffff },
	{ 0xfef00000, 0xfcffffffff },
	{ 0x10000000000, 0xffffffffffff },
};

static void eight_large_gpus_lie_in_one_piece_around_amds_hole(void **state)
{
	static const struct {
		uint64_t ram_end, start;
	} cases[] = {
		/* 2 TiB and more do not fit below the hole; with one RAM has gone around it, too */
		{ 64 * GIB, 1024 * GIB },
		{ 1024 * GIB + 13 * GIB, 1280 * GIB },
		{ 4096 * GIB + 5 * MIB, 4352 * GIB },
	};
	struct pci_placement *p = *state;
	struct error e = { 0 };

	for (unsigned i = 0; i < 8; i++)
		add(p, true, gpu, ARRAY_SIZE(gpu));
	p->iova = amd;
	p->iova_count = ARRAY_SIZE(amd);
	p->physical_bits = 48;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		p->ram_end = cases[i].ram_end;
		assert_int_equal(pci_windows_place(p, &e), 0);
		assert_sound(p);
		assert_int_equal(p->window64.start, cases[i].start);
		/*
		 * A port's window is in one piece and has the small BARs too, so that each GPU but
		 * the last takes twice its alignment.
		 */
		assert_int_equal(p->window64.size, 7 * 512 * GIB + 257 * GIB);
		for (unsigned j = 0; j < 8; j++)
			assert_int_equal(p->slots[j].bars[1].base % (256 * GIB), 0);
	}
	/* One alone fits below it. */
	p->slot_count = 1;
	p->ram_end = 64 * GIB;
	assert_int_equal(pci_windows_place(p, &e), 0);
	assert_int_equal(p->window64.start, 256 * GIB);
}

static void gpus_beyond_what_host_or_iommu_address_are_refused_in_words(void **state)
{
	static const struct iommu_range narrow[] = { { 0, 0xfedfffff },
						     { 0xfef00000, 0x7fffffffff } };
	struct pci_placement *p = *state;
	struct error e = { 0 };

	for (unsigned i = 0; i < 8; i++)
		add(p, true, gpu, ARRAY_SIZE(gpu));
	p->iova = amd;
	p->iova_count = ARRAY_SIZE(amd);
	p->ram_end = 64 * GIB;
	p->physical_bits = 41;
	assert_int_equal(pci_windows_place(p, &e), -ENOSPC);
	assert_string_equal(e.code, "bar-window-full");
	assert_non_null(strstr(e.text, "aligned to 262144 MiB, at most 1048576 MiB available"));
	assert_non_null(strstr(e.text, "41 physical address bits"));
	/* A desktop's IOMMU: 39 bits. */
	p->physical_bits = 48;
	p->iova = narrow;
	p->iova_count = ARRAY_SIZE(narrow);
	assert_int_equal(pci_windows_place(p, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "at most 262144 MiB available"));
}

static void non_prefetchable_64_bit_bars_go_below_4_gib_behind_a_port_only(void **state)
{
	static const struct pci_placed_bar nvme = { .size = 16 * KIB, .is_64 = true };
	struct pci_placement *p = *state;
	struct error e = { 0 };

	add(p, true, &nvme, 1);
	add(p, false, &nvme, 1);
	assert_int_equal(pci_windows_place(p, &e), 0);
	assert_sound(p);
	assert_true(p->slots[0].bars[0].base < LAYOUT_MMIO32_END);
	assert_int_equal(p->slots[0].windows[PCI_WINDOW_MEM32].size, MIB);
	assert_int_equal(p->slots[0].windows[PCI_WINDOW_MEM64].size, 0);
	assert_true(p->slots[1].bars[0].base >= p->ram_end);
}

static void the_64_bit_window_lies_above_ram_at_a_gib(void **state)
{
	static const struct pci_placed_bar bar = { 4096, .is_64 = true, .prefetchable = true };
	struct pci_placement *p = *state;
	struct error e = { 0 };

	add(p, true, &bar, 1);
	assert_int_equal(pci_windows_place(p, &e), 0);
	assert_int_equal(p->window64.start, 6 * GIB);
	assert_int_equal(p->window64.size, GIB);
}

static void no_64_bit_bars_no_64_bit_window(void **state)
{
	static const struct pci_placed_bar bar = { 128 * KIB };
	struct pci_placement *p = *state;
	struct error e = { 0 };

	add(p, true, &bar, 1);
	assert_int_equal(pci_windows_place(p, &e), 0);
	assert_int_equal(p->window64.size, 0);
	assert_int_equal(p->window32.start, LAYOUT_MMIO32_START);
	assert_int_equal(p->window32.size, LAYOUT_MMIO32_END - LAYOUT_MMIO32_START);
}

static void the_first_iova_gap_that_fits_is_taken(void **state)
{
	/* RAM ends at 5 GiB + 5 MiB; the first range is too small for 16 GiB at 16 GiB. */
	static const struct iommu_range iova[] = {
		{ 40 * GIB, 200 * GIB - 1 },
		{ 0, 0xfedfffff },
		{ 0xfef00000, 20 * GIB - 1 },
	};
	static const struct pci_placed_bar bar = { 16 * GIB, .is_64 = true, .prefetchable = true };
	struct pci_placement *p = *state;
	struct error e = { 0 };

	p->iova = iova;
	p->iova_count = ARRAY_SIZE(iova);
	add(p, true, &bar, 1);
	assert_int_equal(pci_windows_place(p, &e), 0);
	assert_sound(p);
	assert_int_equal(p->slots[0].bars[0].base, 48 * GIB);
}

static void a_full_64_bit_window_says_what_is_needed_and_what_there_is(void **state)
{
	struct pci_placement *p = *state;
	struct error e = { 0 };

	p->physical_bits = 39;
	add(p, true, gpu, ARRAY_SIZE(gpu));
	add(p, true, gpu, ARRAY_SIZE(gpu));
	assert_int_equal(pci_windows_place(p, &e), -ENOSPC);
	assert_string_equal(e.code, "bar-window-full");
	/* 256 GiB to 512 GiB are free; 768 GiB + 96 MiB needed with natural alignment. */
	assert_non_null(strstr(e.text, "786528 MiB needed"));
	assert_non_null(strstr(e.text, "262144 MiB available"));
	assert_true(e.next[0]);
}

static void a_full_32_bit_window_says_what_is_needed_and_what_there_is(void **state)
{
	static const struct pci_placed_bar bar = { 256 * MIB };
	struct pci_placement *p = *state;
	struct error e = { 0 };

	for (unsigned i = 0; i < 3; i++)
		add(p, true, &bar, 1);
	assert_int_equal(pci_windows_place(p, &e), -ENOSPC);
	assert_string_equal(e.code, "bar-window-full");
	assert_non_null(strstr(e.text, "768 MiB needed"));
	assert_non_null(strstr(e.text, "512 MiB available"));
}

static void an_absurd_bar_is_refused_not_wrapped(void **state)
{
	static const struct pci_placed_bar bar = { UINT64_C(1) << 63, .is_64 = true };
	struct pci_placement *p = *state;
	struct error e = { 0 };

	add(p, false, &bar, 1);
	add(p, false, &bar, 1);
	assert_int_equal(pci_windows_place(p, &e), -ENOSPC);
}

static void io_that_does_not_fit_is_left_out_and_does_not_fail(void **state)
{
	static const struct pci_placed_bar bars[] = { { .size = 32, .is_io = true },
						      { .size = 128 * KIB } };
	struct pci_placement *p = *state;
	struct error e = { 0 };
	unsigned placed = 0;

	for (unsigned i = 0; i < 6; i++)
		add(p, true, bars, ARRAY_SIZE(bars));
	assert_int_equal(pci_windows_place(p, &e), 0);
	assert_sound(p);
	for (unsigned i = 0; i < 6; i++) {
		const struct pci_placed_slot *slot = &p->slots[i];

		assert_int_equal(slot->windows[PCI_WINDOW_IO].size,
				 slot->bars[0].base ? 0x1000 : 0);
		assert_int_equal(slot->windows[PCI_WINDOW_IO].start, slot->bars[0].base);
		placed += slot->bars[0].base != 0;
	}
	assert_int_equal(placed, 4); /* 16 KiB of ports in windows of 4 KiB */
}

static void any_mix_of_devices_is_placed_soundly(void **state)
{
	struct pci_placement *p = *state;
	unsigned seed = 1;

	for (unsigned round = 0; round < 200; round++) {
		struct error e = { 0 };

		memset(p->slots, 0, 64 * sizeof(*p->slots));
		p->slot_count = 0;
		for (unsigned i = 0; i < 1 + (unsigned)rand_r(&seed) % 12; i++) {
			struct pci_placed_bar bars[VFIO_PCI_BARS] = { 0 };

			for (unsigned j = 0; j < VFIO_PCI_BARS; j++) {
				unsigned kind = (unsigned)rand_r(&seed) % 5;

				bars[j].is_io = kind == 1;
				bars[j].is_64 = kind >= 3;
				bars[j].prefetchable = kind == 4 || kind == 2;
				bars[j].size = kind == 0   ? 0
					       : kind == 1 ? UINT64_C(4) << rand_r(&seed) % 7
					       : kind == 4 ? UINT64_C(16) << rand_r(&seed) % 32
							   : UINT64_C(16) << rand_r(&seed) % 17;
			}
			add(p, rand_r(&seed) % 2, bars, VFIO_PCI_BARS);
		}
		assert_int_equal(pci_windows_place(p, &e), 0);
		assert_sound(p);
	}
}

/* ---- room for what comes later --------------------------------------------------------------- */

static void reserve(struct pci_placement *p, unsigned slot)
{
	p->slots[slot].reserve[PCI_WINDOW_MEM32] = 32 * MIB;
	p->slots[slot].reserve[PCI_WINDOW_MEM64] = 136 * GIB;
}

static void a_port_has_at_least_the_windows_that_are_reserved(void **state)
{
	struct pci_placement *p = *state;
	const struct pci_placed_slot *empty = &p->slots[1];

	add(p, true, gpu, ARRAY_SIZE(gpu));
	add(p, true, NULL, 0);
	reserve(p, 0);
	reserve(p, 1);
	assert_int_equal(pci_windows_place(p, NULL), 0);
	assert_sound(p);
	for (unsigned i = 0; i < 2; i++) {
		const struct pci_window *w = p->slots[i].windows;

		assert_true(w[PCI_WINDOW_MEM32].size >= 32 * MIB);
		assert_true(w[PCI_WINDOW_MEM64].size >= 136 * GIB);
		assert_true(
			inside(w[PCI_WINDOW_MEM64].start, w[PCI_WINDOW_MEM64].size, &p->window64));
	}
	assert_int_equal(empty->windows[PCI_WINDOW_MEM64].start % (128 * GIB), 0);
	assert_int_equal(empty->windows[PCI_WINDOW_IO].size, 0);
}

static void what_comes_later_fits_into_the_windows_or_is_refused(void **state)
{
	static const struct pci_placed_bar h100[] = {
		{ .size = 16 * MIB },
		{ .size = 128 * GIB, .is_64 = true, .prefetchable = true },
		{ .size = 32 * MIB, .is_64 = true, .prefetchable = true },
		{ .size = 128, .is_io = true },
	};
	struct pci_placement *p = *state;
	struct pci_placed_slot *slot = &p->slots[0];
	struct error e = { 0 };

	add(p, true, NULL, 0);
	reserve(p, 0);
	assert_int_equal(pci_windows_place(p, NULL), 0);
	memcpy(slot->bars, h100, sizeof(h100));
	slot->bar_count = ARRAY_SIZE(h100);
	assert_int_equal(pci_windows_fit(slot, &e), 0);
	assert_sound(p);
	assert_int_equal(slot->bars[3].base, 0); /* I/O: no window, no address */

	slot->bars[1].size = 256 * GIB;
	assert_int_equal(pci_windows_fit(slot, &e), -ENOSPC);
	assert_string_equal(e.code, "bar-window-full");
	slot->bars[1].size = 128 * GIB;
	slot->bars[0].size = 64 * MIB;
	assert_int_equal(pci_windows_fit(slot, &e), -ENOSPC);
	slot->bars[0].size = UINT64_C(1) << 60;
	assert_int_equal(pci_windows_fit(slot, &e), -ENOSPC);
}

/* ---- root ports ------------------------------------------------------------------------------ */

static unsigned found_capability(struct pci_root_port *port, unsigned id)
{
	unsigned at = pci_root_port_read(port, PCI_CAPABILITY_LIST, 1);

	for (unsigned steps = 0; at && steps < 16; steps++) {
		assert_int_equal(at % 4, 0);
		if (pci_root_port_read(port, at, 1) == id)
			return at;
		at = pci_root_port_read(port, at + 1, 1);
	}
	return 0;
}

static void programmed(struct pci_root_port *port)
{
	const struct pci_window windows[] = {
		[PCI_WINDOW_IO] = { 0xd000, 0x1000 },
		[PCI_WINDOW_MEM32] = { 0xc0100000, 0x300000 },
		[PCI_WINDOW_MEM64] = { 0x4000000000, 0x4006000000 },
	};

	pci_root_port_init(port);
	pci_root_port_program(port, 7, 3, false, windows);
}

static void a_root_port_is_an_express_bridge_with_a_fast_wide_active_link(void **state)
{
	struct pci_root_port port;

	programmed(&port);
	assert_int_equal(pci_root_port_read(&port, PCI_CLASS_REVISION, 4), 0x06040000);
	assert_int_equal(pci_root_port_read(&port, PCI_HEADER_TYPE, 1), 1);
	assert_true(pci_root_port_read(&port, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	assert_int_equal(found_capability(&port, PCI_CAP_ID_EXP), EXP);
	assert_true(found_capability(&port, PCI_CAP_ID_MSI));
	assert_true(found_capability(&port, PCI_CAP_ID_PM));
	assert_true(found_capability(&port, PCI_CAP_ID_SSVID));
	assert_int_equal((pci_root_port_read(&port, EXP + PCI_EXP_FLAGS, 2) >> 4) & 0xf,
			 PCI_EXP_TYPE_ROOT_PORT);
	assert_int_equal(pci_root_port_read(&port, EXP + PCI_EXP_LNKSTA, 2) & 0x3ff, 0x105);
	assert_int_equal(pci_root_port_read(&port, EXP + PCI_EXP_LNKCAP, 4) & 0x3ff, 0x105);
	assert_int_equal(pci_root_port_read(&port, EXP + PCI_EXP_LNKCAP + 3, 1), 7);
	assert_int_equal(pci_root_port_read(&port, 0x100, 4), 0);
	pci_root_port_fini(&port);
}

static void windows_read_back_as_programmed(void **state)
{
	struct pci_root_port port;

	programmed(&port);
	assert_int_equal(pci_root_port_read(&port, PCI_SECONDARY_BUS, 1), 3);
	assert_int_equal(pci_root_port_read(&port, PCI_SUBORDINATE_BUS, 1), 3);
	assert_int_equal(pci_root_port_read(&port, PCI_IO_BASE, 2), 0xd0d0);
	assert_int_equal(pci_root_port_read(&port, PCI_MEMORY_BASE, 4), 0xc030c010);
	assert_int_equal(pci_root_port_read(&port, PCI_PREF_MEMORY_BASE, 4), 0x05f10001);
	assert_int_equal(pci_root_port_read(&port, PCI_PREF_BASE_UPPER32, 4), 0x40);
	assert_int_equal(pci_root_port_read(&port, PCI_PREF_LIMIT_UPPER32, 4), 0x80);
	pci_root_port_fini(&port);
}

static void windows_that_are_not_needed_are_closed(void **state)
{
	static const struct pci_window none[PCI_WINDOW_KINDS];
	struct pci_root_port port;

	pci_root_port_init(&port);
	pci_root_port_program(&port, 1, 1, true, none);
	assert_int_equal(pci_root_port_read(&port, PCI_IO_BASE, 2), 0x00f0);
	assert_int_equal(pci_root_port_read(&port, PCI_MEMORY_BASE, 4), 0x0000fff0);
	assert_int_equal(pci_root_port_read(&port, PCI_PREF_MEMORY_BASE, 4), 0x0001fff1);
	assert_int_equal(pci_root_port_read(&port, PCI_HEADER_TYPE, 1), 0x81);
	pci_root_port_fini(&port);
}

static void only_writable_bits_change(void **state)
{
	struct pci_root_port port;

	programmed(&port);
	for (unsigned at = 0; at < PCI_CONFIG_SIZE; at += 4)
		pci_root_port_write(&port, at, 4, 0xffffffff);
	assert_int_equal(pci_root_port_read(&port, PCI_VENDOR_ID, 4), 0x000c1b36);
	assert_int_equal(pci_root_port_read(&port, PCI_CLASS_REVISION, 4), 0x06040000);
	assert_int_equal(pci_root_port_read(&port, PCI_BASE_ADDRESS_0, 4), 0);
	assert_int_equal(pci_root_port_read(&port, PCI_BASE_ADDRESS_1, 4), 0);
	assert_int_equal(pci_root_port_read(&port, PCI_COMMAND, 2), 0x547);
	assert_int_equal(pci_root_port_read(&port, PCI_MEMORY_BASE, 4), 0xfff0fff0);
	assert_int_equal(pci_root_port_read(&port, PCI_PREF_MEMORY_BASE, 4), 0xfff1fff1);
	assert_int_equal(pci_root_port_read(&port, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(pci_root_port_read(&port, EXP + PCI_EXP_LNKSTA, 2) & 0x3ff, 0x105);
	/* Beyond the space: nothing, and nothing breaks. */
	pci_root_port_write(&port, 0xffc, 4, 0xffffffff);
	assert_int_equal(pci_root_port_read(&port, 0xffc, 4), 0);
	pci_root_port_fini(&port);
}

static void a_write_says_what_it_asks_of_the_host_bridge(void **state)
{
	struct pci_root_port port;

	programmed(&port);
	assert_int_equal(pci_root_port_write(&port, PCI_PRIMARY_BUS, 4, 0x00030300), 0);
	assert_int_equal(pci_root_port_write(&port, PCI_PRIMARY_BUS, 4, 0x00090900),
			 PCI_ROOT_PORT_RENUMBERED);
	assert_int_equal(pci_root_port_secondary(&port), 9);
	assert_int_equal(pci_root_port_write(&port, PCI_BRIDGE_CONTROL, 2, 0x40),
			 PCI_ROOT_PORT_BUS_RESET);
	assert_int_equal(pci_root_port_write(&port, PCI_BRIDGE_CONTROL, 2, 0x40), 0);
	assert_int_equal(pci_root_port_write(&port, PCI_BRIDGE_CONTROL, 2, 0), 0);
	pci_root_port_fini(&port);
}

static void reset_puts_the_programming_back(void **state)
{
	struct pci_root_port port;

	programmed(&port);
	pci_root_port_write(&port, PCI_PRIMARY_BUS, 4, 0x00ffff00);
	pci_root_port_write(&port, PCI_MEMORY_BASE, 4, 0);
	pci_root_port_write(&port, PCI_COMMAND, 2, 7);
	pci_root_port_reset(&port);
	assert_int_equal(pci_root_port_secondary(&port), 3);
	assert_int_equal(pci_root_port_read(&port, PCI_MEMORY_BASE, 4), 0xc030c010);
	assert_int_equal(pci_root_port_read(&port, PCI_COMMAND, 2), 0);
	pci_root_port_fini(&port);
}

int main(void)
{
#define PLACEMENT(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		PLACEMENT(large_bars_come_first_and_are_naturally_aligned),
		PLACEMENT(eight_large_gpus_fit_a_46_bit_guest),
		PLACEMENT(eight_large_gpus_lie_in_one_piece_around_amds_hole),
		PLACEMENT(gpus_beyond_what_host_or_iommu_address_are_refused_in_words),
		PLACEMENT(non_prefetchable_64_bit_bars_go_below_4_gib_behind_a_port_only),
		PLACEMENT(the_64_bit_window_lies_above_ram_at_a_gib),
		PLACEMENT(no_64_bit_bars_no_64_bit_window),
		PLACEMENT(the_first_iova_gap_that_fits_is_taken),
		PLACEMENT(a_full_64_bit_window_says_what_is_needed_and_what_there_is),
		PLACEMENT(a_full_32_bit_window_says_what_is_needed_and_what_there_is),
		PLACEMENT(an_absurd_bar_is_refused_not_wrapped),
		PLACEMENT(a_port_has_at_least_the_windows_that_are_reserved),
		PLACEMENT(what_comes_later_fits_into_the_windows_or_is_refused),
		PLACEMENT(io_that_does_not_fit_is_left_out_and_does_not_fail),
		PLACEMENT(any_mix_of_devices_is_placed_soundly),
		cmocka_unit_test(a_root_port_is_an_express_bridge_with_a_fast_wide_active_link),
		cmocka_unit_test(windows_read_back_as_programmed),
		cmocka_unit_test(windows_that_are_not_needed_are_closed),
		cmocka_unit_test(only_writable_bits_change),
		cmocka_unit_test(a_write_says_what_it_asks_of_the_host_bridge),
		cmocka_unit_test(reset_puts_the_programming_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
