// SPDX-License-Identifier: Apache-2.0
/* MSI-X of a virtualised function: where table and pending bits lie, what a guest does to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "tests/unit/function_bench.h"

#define CTRL(i) (PCI_MSIX_ENTRY_SIZE * (i) + PCI_MSIX_ENTRY_VECTOR_CTRL)

/* An endpoint with one 64 KiB BAR and @count vectors, table and PBA at the given registers. */
static void placed(struct fake_device *fake, unsigned count, uint32_t table, uint32_t pba)
{
	fake_init(fake, 0x00101b36, 0x010802, 4096);
	fake_put(fake, PCI_CAPABILITY_LIST, 1, 0x40);
	fake_msix(fake, 0x40, 0, count, table, pba);
	fake_bar(fake, 0, 0x10000, 0);
	fake_bar(fake, 1, 0x10000, 0);
}

static void decode(struct bench *b)
{
	vfio_pci_set_bar(b->pci, 0, 0xc0000000);
	vfio_pci_set_bar(b->pci, 1, 0xc0010000);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static struct bench *with_vectors(void **state, unsigned count, uint32_t table, uint32_t pba)
{
	struct bench *b = *state;

	placed(&b->fake, count, table, pba);
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	decode(b);
	return b;
}

static void enable(struct bench *b, uint16_t more)
{
	put(b, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | more);
}

static void areas_are(struct bench *b, unsigned bar, unsigned count, const struct vfio_area *areas)
{
	const struct vfio_pci_bar *facts = vfio_pci_bar(b->pci, bar);

	assert_int_equal(facts->area_count, count);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(facts->areas[i].offset, areas[i].offset);
		assert_int_equal(facts->areas[i].size, areas[i].size);
	}
}

static void the_page_of_table_and_pending_bits_is_cut_out(void **state)
{
	struct bench *b = with_vectors(state, 16, 0x5200, 0x5800);
	const struct vfio_area areas[] = { { 0, 0x5000 }, { 0x6000, 0xa000 } };

	areas_are(b, 0, 2, areas);
	areas_are(b, 1, 1, &(struct vfio_area){ 0, 0x10000 });
}

static void a_table_over_page_borders_takes_all_its_pages(void **state)
{
	struct bench *b = with_vectors(state, 257, 0x2f80, 0x8008);
	const struct vfio_area areas[] = { { 0, 0x2000 }, { 0x4000, 0x4000 }, { 0x9000, 0x7000 } };

	areas_are(b, 0, 3, areas);
}

static void a_table_at_the_very_end_is_cut_out(void **state)
{
	struct bench *b = with_vectors(state, 16, 0xff00, 0xe000);

	areas_are(b, 0, 1, &(struct vfio_area){ 0, 0xe000 });
	vfio_pci_bar_write(b->pci, 0, 0xff00 + CTRL(15), 4, 0);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0xff00 + CTRL(15), 4), 0);
}

static void table_and_pending_bits_may_lie_in_different_bars(void **state)
{
	struct bench *b = with_vectors(state, 16, 0x0000, 0x3001);
	const struct vfio_area of_1[] = { { 0, 0x3000 }, { 0x4000, 0xc000 } };

	areas_are(b, 0, 1, &(struct vfio_area){ 0x1000, 0xf000 });
	areas_are(b, 1, 2, of_1);
	/* the same offset in the other BAR is an ordinary register */
	vfio_pci_bar_write(b->pci, 1, 0, 4, 0x1234);
	assert_int_equal(vfio_pci_bar_read(b->pci, 1, 0, 4), 0x1234);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0, 4), 0);
	assert_int_equal(vfio_pci_bar_read(b->pci, 1, 0x3000, 8), 0);
}

static void a_mappable_table_is_cut_out_all_the_same(void **state)
{
	struct bench *b = *state;

	placed(&b->fake, 4, 0, 0x1000);
	b->fake.regions[0].msix_mappable = true;
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	areas_are(b, 0, 1, &(struct vfio_area){ 0x2000, 0xe000 });
}

static void places_that_cannot_be_are_refused(void **state)
{
	static const struct {
		unsigned count;
		uint32_t table, pba;
	} cases[] = {
		{ 17, 0xff00, 0x0000 },	 /* past the end */
		{ 16, 0x0007, 0x1000 },	 /* no such BAR */
		{ 16, 0x0000, 0x1002 },	 /* an empty BAR */
		{ 16, 0x0000, 0x0008 },	 /* overlapping */
		{ 16, 0x20000, 0x1000 }, /* outside */
		{ 2048, 0xfff00000, 0 },
	};
	const struct vfio_pci_options options = { 0 };
	struct bench *b = *state;
	struct error e;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		placed(&b->fake, cases[i].count, cases[i].table, cases[i].pba);
		assert_int_equal(vfio_pci_create(&b->fake.device, &options, &fake_host_ops,
						 &b->host, &b->pci, &e),
				 -EINVAL);
		assert_string_equal(e.code, "bad-msix");
		fake_release(&b->fake);
		memset(b->fake.memory, 0, sizeof(b->fake.memory));
	}
}

static void registers_beside_the_table_are_the_devices(void **state)
{
	struct bench *b = with_vectors(state, 16, 0x5200, 0x5800);

	vfio_pci_bar_write(b->pci, 0, 0x51f8, 8, 0x1122334455667788);
	vfio_pci_bar_write(b->pci, 0, 0x5300, 4, 0xabcdef01);
	assert_int_equal(b->fake.bar_writes, 2);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x51f8, 8) == 0x1122334455667788);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0x5300, 4), 0xabcdef01);
	assert_int_equal(b->fake.bar_reads, 2);
}

static void an_access_half_in_the_table_reaches_only_that_half(void **state)
{
	struct bench *b = with_vectors(state, 16, 0x5200, 0x5800);

	vfio_pci_bar_write(b->pci, 0, 0x51fc, 8, 0x1111222233334444);
	assert_int_equal(b->fake.bar_writes, 0);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0x5200, 4), 0x11112220);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x51fc, 8) == 0x11112220ffffffff);
	vfio_pci_bar_write(b->pci, 0, 0x52fc, 8, 0);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0x5200 + CTRL(15), 4), 0);
	assert_int_equal(b->fake.bar_reads, 0);
}

static void the_table_takes_dwords_quadwords_and_bytes(void **state)
{
	struct bench *b = with_vectors(state, 16, 0x5200, 0x5800);
	const uint64_t at = 0x5200 + 16 * 3;

	assert_int_equal(vfio_pci_bar_read(b->pci, 0, at + 12, 4), 1); /* masked at power-on */
	vfio_pci_bar_write(b->pci, 0, at, 8, 0x00000001fee0100f);
	vfio_pci_bar_write(b->pci, 0, at + 8, 8, 0xfffffffe00004051);
	assert_true(vfio_pci_bar_read(b->pci, 0, at, 8) == 0x00000001fee0100c);
	assert_true(vfio_pci_bar_read(b->pci, 0, at + 8, 8) == 0x0000000000004051);
	vfio_pci_bar_write(b->pci, 0, at + 9, 1, 0x77);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, at + 8, 2), 0x7751);
	/* nothing of it reached the device */
	assert_int_equal(b->fake.bar_writes + b->fake.bar_reads, 0);
}

static void linux_enables_all_masked_and_unmasks_one_by_one_without_vfio(void **state)
{
	struct bench *b = with_vectors(state, 33, 0x2000, 0x3000);
	unsigned calls = b->fake.set_irqs_calls;

	enable(b, PCI_MSIX_FLAGS_MASKALL);
	for (unsigned i = 0; i < 33; i++)
		vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(i), 4, 1);
	enable(b, 0);
	assert_int_equal(b->fake.set_irqs_calls, calls + 1);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 33);
	assert_int_equal(b->host.msi_updates, 1);
	assert_int_equal(b->host.last_count, 33);
	assert_int_equal(fake_host_delivered(&b->host), 0);

	for (unsigned i = 0; i < 4; i++) {
		vfio_pci_bar_write(b->pci, 0, 0x2000 + 16 * i, 4, 0xfee00000);
		vfio_pci_bar_write(b->pci, 0, 0x2000 + 16 * i + 4, 4, 0);
		vfio_pci_bar_write(b->pci, 0, 0x2000 + 16 * i + 8, 4, 0x20 + i);
		vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(i), 4, 0);
	}
	assert_int_equal(b->fake.set_irqs_calls, calls + 1);
	assert_int_equal(b->host.msi_updates, 5);
	assert_int_equal(fake_host_delivered(&b->host), 4);
	assert_int_equal(b->host.vectors[2].data, 0x22);
	assert_int_equal(b->host.eventfds[2], b->fake.fds[VFIO_PCI_MSIX_IRQ_INDEX][2]);
	assert_int_equal(b->host.wrong, 0);
}

static void the_function_mask_is_one_update_for_all(void **state)
{
	struct bench *b = with_vectors(state, 8, 0x2000, 0x3000);

	for (unsigned i = 2; i < 6; i++)
		vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(i), 4, 0);
	enable(b, 0);
	assert_int_equal(fake_host_delivered(&b->host), 4);
	enable(b, PCI_MSIX_FLAGS_MASKALL);
	assert_int_equal(fake_host_delivered(&b->host), 0);
	assert_int_equal(b->host.msi_updates, 2);
	assert_int_equal(b->host.last_first, 2);
	assert_int_equal(b->host.last_count, 4);
	enable(b, 0);
	assert_int_equal(b->host.msi_updates, 3);
	assert_int_equal(fake_host_delivered(&b->host), 4);
}

static void a_masked_vector_that_fired_is_pending_until_it_is_unmasked(void **state)
{
	struct bench *b = with_vectors(state, 70, 0x2000, 0x3000);
	uint64_t one = 1, counter = 0;
	int fd;

	enable(b, 0);
	fd = b->fake.fds[VFIO_PCI_MSIX_IRQ_INDEX][66];
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3000, 8) == 0);
	assert_int_equal(write(fd, &one, 8), 8);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3008, 8) == 4);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0x3008, 4), 4);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0x3008, 1), 4);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3000, 8) == 0);
	/* looking does not consume: the event is there for the irqfd */
	vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(66), 4, 0);
	assert_int_equal(b->host.eventfds[66], fd);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3008, 8) == 0);
	assert_int_equal(read(fd, &counter, 8), 8);
	assert_int_equal(counter, 1);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3008, 8) == 0);
	/* and the pending bits cannot be written */
	vfio_pci_bar_write(b->pci, 0, 0x3008, 8, UINT64_MAX);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3008, 8) == 0);
	assert_int_equal(b->fake.bar_writes, 0);
}

static void a_new_message_of_a_live_vector_is_told(void **state)
{
	struct bench *b = with_vectors(state, 8, 0x2000, 0x3000);

	vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(1), 4, 0);
	enable(b, 0);
	vfio_pci_bar_write(b->pci, 0, 0x2000 + 16 + 8, 4, 0x31);
	assert_int_equal(b->host.msi_updates, 2);
	assert_int_equal(b->host.vectors[1].data, 0x31);
	vfio_pci_bar_write(b->pci, 0, 0x2000 + 16 + 8, 4, 0x31);
	assert_int_equal(b->host.msi_updates, 2);
	/* of a masked one it is not */
	vfio_pci_bar_write(b->pci, 0, 0x2000 + 32 + 8, 4, 0x31);
	assert_int_equal(b->host.msi_updates, 2);
}

static void disabling_takes_everything_down(void **state)
{
	struct bench *b = with_vectors(state, 2048, 0x0000, 0x8000);
	unsigned fds = fake_open_fds();

	for (unsigned i = 0; i < 2048; i++)
		vfio_pci_bar_write(b->pci, 0, CTRL(i), 4, 0);
	enable(b, 0);
	assert_int_equal(fake_open_fds(), fds + 2048);
	assert_int_equal(fake_host_delivered(&b->host), 2048);
	assert_int_equal(b->host.msi_updates, 1);
	put(b, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(fake_open_fds(), fds);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 0);
	assert_int_equal(b->host.msi_releases, 1);
	assert_int_equal(get(b, 0x40 + PCI_MSIX_FLAGS, 2), 2047);
	/* the table is the guest's and stays */
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, CTRL(7), 4), 0);
}

static void fewer_vectors_than_the_table_has_still_work(void **state)
{
	struct bench *b = with_vectors(state, 33, 0x2000, 0x3000);

	for (unsigned i = 0; i < 33; i++)
		vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(i), 4, 0);
	b->fake.most_vectors = 10;
	enable(b, 0);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 10);
	assert_int_equal(fake_host_delivered(&b->host), 10);
	/* those that are not there can be written without harm */
	vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(20), 4, 1);
	assert_true(vfio_pci_bar_read(b->pci, 0, 0x3000, 8) == 0);
	put(b, 0x40 + PCI_MSIX_FLAGS, 2, 0);

	b->fake.refusal = -ENOSPC;
	enable(b, 0);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 8);
	assert_int_equal(b->host.wrong, 0);
}

static void a_refused_enable_is_tried_again_by_the_next(void **state)
{
	struct bench *b = with_vectors(state, 8, 0x2000, 0x3000);
	unsigned fds = fake_open_fds();

	b->fake.most_vectors = 1;
	b->fake.refusal = -EBUSY;
	enable(b, 0);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 0);
	assert_int_equal(fake_open_fds(), fds);
	vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(0), 4, 0);
	assert_int_equal(b->host.msi_updates, 0);
	b->fake.most_vectors = 0;
	enable(b, 0);
	assert_int_equal(fake_host_delivered(&b->host), 1);
}

static void reset_masks_every_entry(void **state)
{
	struct bench *b = with_vectors(state, 8, 0x2000, 0x3000);

	vfio_pci_bar_write(b->pci, 0, 0x2000 + CTRL(3), 4, 0);
	enable(b, 0);
	assert_int_equal(vfio_pci_reset(b->pci, NULL), 0);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 0);
	assert_int_equal(fake_host_delivered(&b->host), 0);
	assert_int_equal(get(b, 0x40 + PCI_MSIX_FLAGS, 2), 7);
	put(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(vfio_pci_bar_read(b->pci, 0, 0x2000 + CTRL(3), 4), 1);
}

static void a_device_that_raises_none_shows_no_capability(void **state)
{
	struct bench *b = *state;

	placed(&b->fake, 8, 0x2000, 0x3000);
	b->fake.irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = 0;
	b->pci = fake_function(&b->fake, &b->host);
	assert_non_null(b->pci);
	assert_int_equal(get(b, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, 0);
	assert_int_equal(get(b, PCI_CAPABILITY_LIST, 1), 0);
	enable(b, 0);
	assert_int_equal(b->fake.armed[VFIO_PCI_MSIX_IRQ_INDEX], 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_page_of_table_and_pending_bits_is_cut_out),
		TEST(a_table_over_page_borders_takes_all_its_pages),
		TEST(a_table_at_the_very_end_is_cut_out),
		TEST(table_and_pending_bits_may_lie_in_different_bars),
		TEST(a_mappable_table_is_cut_out_all_the_same),
		TEST(places_that_cannot_be_are_refused),
		TEST(registers_beside_the_table_are_the_devices),
		TEST(an_access_half_in_the_table_reaches_only_that_half),
		TEST(the_table_takes_dwords_quadwords_and_bytes),
		TEST(linux_enables_all_masked_and_unmasks_one_by_one_without_vfio),
		TEST(the_function_mask_is_one_update_for_all),
		TEST(a_masked_vector_that_fired_is_pending_until_it_is_unmasked),
		TEST(a_new_message_of_a_live_vector_is_told),
		TEST(disabling_takes_everything_down),
		TEST(fewer_vectors_than_the_table_has_still_work),
		TEST(a_refused_enable_is_tried_again_by_the_next),
		TEST(reset_masks_every_entry),
		TEST(a_device_that_raises_none_shows_no_capability),
	};

	struct rlimit files;

	/* 2048 vectors are as many eventfds. */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
