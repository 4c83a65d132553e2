// SPDX-License-Identifier: Apache-2.0
/* BARs of a virtualised function: sizing, decode, host mappings, trapped accesses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/function_bench.h"

#define BAR(i) (PCI_BASE_ADDRESS_0 + 4 * (i))

static void a_guest_learns_sizes_by_writing_ones(void **state)
{
	struct bench *b = with(state, fake_gpu);

	for (unsigned i = 0; i < VFIO_PCI_BARS; i++)
		put(b, BAR(i), 4, 0xffffffff);
	assert_int_equal(get(b, BAR(0), 4), 0xff000000);
	assert_int_equal(get(b, BAR(1), 4), 0x0000000c); /* 8 GiB: all of the low half is offset */
	assert_int_equal(get(b, BAR(2), 4), 0xfffffffe);
	assert_int_equal(get(b, BAR(3), 4), 0xfe00000c);
	assert_int_equal(get(b, BAR(4), 4), 0xffffffff);
	assert_int_equal(get(b, BAR(5), 4), 0xffffff81);
	assert_int_equal(b->host.event_count, 0);
}

static void sizing_works_by_bytes_and_words(void **state)
{
	struct bench *b = with(state, fake_e1000e);

	for (unsigned i = 0; i < 4; i++)
		put(b, BAR(0) + i, 1, 0xff);
	put(b, BAR(1), 2, 0xffff);
	put(b, BAR(1) + 2, 2, 0xffff);
	assert_int_equal(get(b, BAR(0), 4), 0xfffe0000);
	assert_int_equal(get(b, BAR(1), 4), 0xfffe0000);
	assert_int_equal(get(b, BAR(1) + 2, 2), 0xfffe);
	assert_int_equal(get(b, BAR(4), 4), 0);
}

static void decode_follows_command_and_address(void **state)
{
	struct bench *b = with(state, fake_e1000e);

	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	vfio_pci_set_bar(b->pci, 2, 0xc000);
	assert_int_equal(b->host.event_count, 0);
	assert_int_equal(get(b, BAR(0), 4), 0xc0000000);
	assert_int_equal(get(b, BAR(2), 4), 0xc001);

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(b->host.decoded[0]);
	assert_false(b->host.decoded[1]); /* address 0 is none */
	assert_false(b->host.decoded[2]); /* I/O has its own bit */
	put(b, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	assert_true(b->host.decoded[2]);
	assert_int_equal(b->host.event_count, 2);

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	put(b, BAR(0), 4, 0xc0000000);
	assert_int_equal(b->host.event_count, 2); /* nothing moved, nothing said */

	put(b, BAR(0), 4, 0xc0040000);
	assert_int_equal(b->host.event_count, 4);
	assert_false(b->host.events[2].enabled);
	assert_true(b->host.events[2].gpa == 0xc0000000);
	assert_true(b->host.events[3].enabled);
	assert_true(b->host.events[3].gpa == 0xc0040000);
	assert_true(vfio_pci_bar(b->pci, 0)->gpa == 0xc0040000);
	assert_true(vfio_pci_bar(b->pci, 0)->enabled);

	put(b, PCI_COMMAND, 2, 0);
	assert_false(b->host.decoded[0]);
	assert_false(b->host.decoded[2]);
	assert_int_equal(b->host.wrong, 0);
}

static void sizing_with_decode_on_does_not_decode_at_the_top(void **state)
{
	struct bench *b = with(state, fake_gpu);

	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	vfio_pci_set_bar(b->pci, 3, 0x4000000000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(b, BAR(0), 4, 0xffffffff);
	assert_false(b->host.decoded[0]);
	put(b, BAR(3), 4, 0xffffffff);
	put(b, BAR(4), 4, 0xffffffff);
	assert_false(b->host.decoded[3]);
	put(b, BAR(0), 4, 0xc0000000);
	assert_true(b->host.decoded[0]);
	assert_int_equal(b->host.wrong, 0);
}

static void all_that_go_off_do_so_before_any_comes_on(void **state)
{
	struct bench *b = with(state, fake_e1000e);

	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	vfio_pci_set_bar(b->pci, 1, 0xc0020000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(b, PCI_COMMAND, 2, 0);
	put(b, BAR(0), 4, 0xc0020000);
	put(b, BAR(1), 4, 0xc0000000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(b->host.gpa[0] == 0xc0020000 && b->host.gpa[1] == 0xc0000000);
	assert_int_equal(b->host.wrong, 0);
	assert_int_equal(b->host.event_count, 6);
	for (unsigned i = 2; i < 4; i++)
		assert_false(b->host.events[i].enabled);
}

static void a_64_bit_address_has_both_halves(void **state)
{
	struct bench *b = with(state, fake_gpu);

	vfio_pci_set_bar(b->pci, 1, 0x123e00000000);
	assert_int_equal(get(b, BAR(1), 4), 0xc);
	assert_int_equal(get(b, BAR(2), 4), 0x123e);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(b->host.gpa[1] == 0x123e00000000);
	put(b, BAR(2), 4, 0x1242);
	assert_true(b->host.gpa[1] == 0x124200000000);
}

static void a_bar_that_does_not_decode_reads_ones_and_reaches_nothing(void **state)
{
	struct bench *b = with(state, fake_edu);

	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0, 8) == UINT64_MAX);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0, 2) == 0xffff);
	vfio_pci_bar_write(b->pci, 0, 0, 4, 1);
	assert_int_equal(b->fake.bar_reads + b->fake.bar_writes, 0);
}

static void a_trapped_access_goes_to_the_region_whole(void **state)
{
	static const unsigned sizes[] = { 1, 2, 4, 8 };
	struct bench *b = with(state, fake_edu);

	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t value = UINT64_C(0x8877665544332211) >> (64 - 8 * sizes[i]);

		vfio_pci_bar_write(b->pci, 0, 0x80 + 8 * i, sizes[i], value);
		assert_int_equal(b->fake.last_size, sizes[i]);
		assert_true(vfio_pci_bar_read(b->pci, 0, 0x80 + 8 * i, sizes[i]) == value);
		assert_int_equal(b->fake.last_size, sizes[i]);
		assert_true(b->fake.last_offset == 0x80 + 8 * i);
	}
	assert_int_equal(b->fake.bar_writes, 4);
}

static void accesses_outside_the_region_reach_nothing(void **state)
{
	struct bench *b = *state;

	fake_edu(&b->fake);
	b->fake.regions[0].size = 0x3000; /* the BAR is 16 KiB, the device has 12 of it */
	b->fake.regions[0].areas[0].size = 0x3000;
	b->pci = fake_function(&b->fake, &b->host);
	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(vfio_pci_bar(b->pci, 0)->size == 0x4000);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x2ffe, 4) == 0xffffffff);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3000, 1) == 0xff);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3800, 4) == 0xffffffff);
	assert_true(vfio_pci_bar_read(b->pci, 0, UINT64_MAX, 4) == 0xffffffff);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0, 3) == 0xffffff);
	assert_true(vfio_pci_bar_read(b->pci, 7, 0, 4) == 0xffffffff);
	vfio_pci_bar_write(b->pci, 0, 0x2fff, 8, 0);
	assert_int_equal(b->fake.bar_reads + b->fake.bar_writes, 0);
}

static void mappings_are_the_device_and_aligned_like_the_guest(void **state)
{
	struct bench *b = with(state, fake_gpu);
	const struct vfio_pci_bar *vram = vfio_pci_bar(b->pci, 1);
	uint32_t *word;

	assert_true(vram->size == 8 * GIB);
	assert_non_null(vram->hva);
	assert_true(((uintptr_t)vram->hva & (GIB - 1)) == 0);
	assert_true(((uintptr_t)vfio_pci_bar(b->pci, 3)->hva & (32 * MIB - 1)) == 0);
	assert_int_equal(vram->area_count, 1);
	assert_true(vram->areas[0].offset == 0 && vram->areas[0].size == 8 * GIB);

	word = (uint32_t *)((char *)vram->hva + 5 * GIB);
	*word = 0x600df00d;
	vfio_pci_set_bar(b->pci, 1, 0x4000000000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(vfio_pci_bar_read(b->pci, 1, 5 * GIB, 4) == 0x600df00d);
	/* mappings outlive decode: turning it on again maps nothing */
	put(b, PCI_COMMAND, 2, 0);
	assert_int_equal(*word, 0x600df00d);
}

/* A BAR's address is a multiple of its size, so guest and host agree wherever it is put. */
static void a_large_bar_is_congruent_wherever_the_guest_puts_it(void **state)
{
	static const uint64_t asked[] = { 0x4000000000, 0x7fe00000000, 0x4000001234, 0x2c0000000 };
	struct bench *b = with(state, fake_gpu);
	const struct vfio_pci_bar *vram = vfio_pci_bar(b->pci, 1);

	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	for (unsigned i = 0; i < ARRAY_SIZE(asked); i++) {
		put(b, BAR(1), 4, (uint32_t)asked[i]);
		put(b, BAR(2), 4, (uint32_t)(asked[i] >> 32));
		assert_true(b->host.decoded[1]);
		assert_true(b->host.gpa[1] == (asked[i] & ~(8 * GIB - 1)));
		assert_true(((b->host.gpa[1] ^ (uintptr_t)vram->hva) & (GIB - 1)) == 0);
	}
	assert_int_equal(vram->area_count, 1);
	assert_int_equal(b->host.wrong, 0);
}

static void only_whole_pages_of_named_areas_are_mapped(void **state)
{
	struct bench *b = *state;
	const struct vfio_pci_bar *bar;

	fake_edu(&b->fake);
	b->fake.regions[0].area_count = 4;
	b->fake.regions[0].areas[0] = (struct vfio_area){ 0x8000, 0x2800 };
	b->fake.regions[0].areas[1] = (struct vfio_area){ 0x0800, 0x1800 };
	b->fake.regions[0].areas[2] = (struct vfio_area){ 0x4000, 0x0800 };
	b->fake.regions[0].areas[3] = (struct vfio_area){ 0xff000, 0x2000 }; /* past the end */
	b->pci = fake_function(&b->fake, &b->host);
	bar = vfio_pci_bar(b->pci, 0);
	assert_int_equal(bar->area_count, 2);
	assert_true(bar->areas[0].offset == 0x1000 && bar->areas[0].size == 0x1000);
	assert_true(bar->areas[1].offset == 0x8000 && bar->areas[1].size == 0x2000);
}

static void small_and_io_bars_are_trapped(void **state)
{
	struct bench *b = *state;

	fake_e1000e(&b->fake);
	b->fake.regions[1].size = b->fake.regions[1].areas[0].size = 0x800;
	b->pci = fake_function(&b->fake, &b->host);
	assert_null(vfio_pci_bar(b->pci, 1)->hva);
	assert_null(vfio_pci_bar(b->pci, 2)->hva);
	assert_true(vfio_pci_bar(b->pci, 2)->is_io);
	vfio_pci_set_bar(b->pci, 2, 0xc000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_IO);
	vfio_pci_bar_write(b->pci, 2, 0x10, 4, 0xabcd);
	assert_true(vfio_pci_bar_read(b->pci, 2, 0x10, 4) == 0xabcd);
}

static void a_mapping_that_fails_is_trapped_instead(void **state)
{
	struct bench *b = *state;
	const struct vfio_pci_bar *bar;
	unsigned long before;

	fake_edu(&b->fake);
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(vfio_pci_bar(b->pci, 0)->hva);
	vfio_pci_destroy(b->pci);

	/* find the call that maps, and let it fail */
	for (unsigned long n = 1;; n++) {
		b->fake.calls = 0;
		b->fake.fail_at = n;
		before = fake_mappings();
		b->pci = fake_function(&b->fake, &b->host);
		if (b->pci && !vfio_pci_bar(b->pci, 0)->hva)
			break;
		vfio_pci_destroy(b->pci);
		assert_true(n < 200);
	}
	b->fake.fail_at = 0;
	bar = vfio_pci_bar(b->pci, 0);
	assert_int_equal(bar->area_count, 0);
	assert_int_equal(fake_mappings(), before);
	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	vfio_pci_bar_write(b->pci, 0, 0, 4, 7);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0, 4) == 7);
}

static void doorbells_outside_the_bar_are_left_out(void **state)
{
	struct bench *b = *state;
	const struct vfio_pci_bar *bar;

	fake_edu(&b->fake);
	b->fake.io_fds[0] = (struct vfio_io_fd){ .offset = 0x100, .size = 2, .fd = 0 };
	b->fake.io_fds[1] = (struct vfio_io_fd){ .offset = 0xfffff, .size = 2, .fd = 0 };
	b->fake.io_fds[2] = (struct vfio_io_fd){ .offset = 0x200, .size = 3, .fd = 0 };
	b->fake.io_fds[3] = (struct vfio_io_fd){ .offset = 0x300, .size = 4, .fd = -1 };
	b->fake.io_fd_count = 4;
	b->pci = fake_function(&b->fake, &b->host);
	bar = vfio_pci_bar(b->pci, 0);
	assert_int_equal(bar->io_fd_count, 1);
	assert_true(bar->io_fds[0].offset == 0x100);
}

static void bars_that_cannot_be_are_refused(void **state)
{
	static const struct {
		unsigned index;
		uint64_t size;
		uint32_t bits;
	} cases[] = {
		{ 5, 0x1000, PCI_BASE_ADDRESS_MEM_TYPE_64 }, /* no second register */
		{ 0, 4 * GIB, 0 },			     /* 32-bit */
		{ 0, 0x1000, 6 },			     /* reserved type */
		{ 0, 0x20000, PCI_BASE_ADDRESS_SPACE_IO },
		{ 0, UINT64_C(1) << 60, PCI_BASE_ADDRESS_MEM_TYPE_64 },
	};
	const struct vfio_pci_options options = { 0 };
	struct bench *b = *state;
	struct error e;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		fake_edu(&b->fake);
		fake_release(&b->fake);
		memset(b->fake.memory, 0, sizeof(b->fake.memory));
		fake_bar(&b->fake, cases[i].index, cases[i].size, cases[i].bits);
		assert_int_equal(vfio_pci_create(&b->fake.device, &options, &fake_host_ops,
						 &b->host, &b->pci, &e),
				 -EINVAL);
		assert_string_equal(e.code, "bad-bar");
		fake_release(&b->fake);
		memset(b->fake.memory, 0, sizeof(b->fake.memory));
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_guest_learns_sizes_by_writing_ones),
		TEST(sizing_works_by_bytes_and_words),
		TEST(decode_follows_command_and_address),
		TEST(sizing_with_decode_on_does_not_decode_at_the_top),
		TEST(all_that_go_off_do_so_before_any_comes_on),
		TEST(a_64_bit_address_has_both_halves),
		TEST(a_bar_that_does_not_decode_reads_ones_and_reaches_nothing),
		TEST(a_trapped_access_goes_to_the_region_whole),
		TEST(accesses_outside_the_region_reach_nothing),
		TEST(mappings_are_the_device_and_aligned_like_the_guest),
		TEST(a_large_bar_is_congruent_wherever_the_guest_puts_it),
		TEST(only_whole_pages_of_named_areas_are_mapped),
		TEST(small_and_io_bars_are_trapped),
		TEST(a_mapping_that_fails_is_trapped_instead),
		TEST(doorbells_outside_the_bar_are_left_out),
		TEST(bars_that_cannot_be_are_refused),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
