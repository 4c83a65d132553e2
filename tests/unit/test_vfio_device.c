// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel VFIO devices, as far as they go without a kernel that has VFIO: region info answers, the
 * SET_IRQS argument, and what opening refuses before it opens anything. The rest is the rig's.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_sysfs.h"
#include "vfio/device.h"

/* ---- region info -------------------------------------------------------------------------- */

/* A region info answer as the kernel lays it out, with room for a chain. */
union answer {
	struct vfio_region_info info;
	uint8_t bytes[1024];
};

static void answer_init(union answer *a, uint32_t flags, uint64_t size)
{
	memset(a, 0, sizeof(*a));
	a->info.argsz = sizeof(*a);
	a->info.flags = flags;
	a->info.size = size;
}

static void put_cap(union answer *a, uint32_t at, uint16_t id, uint16_t version, uint32_t next)
{
	struct vfio_info_cap_header cap = { .id = id, .version = version, .next = next };

	memcpy(a->bytes + at, &cap, sizeof(cap));
}

static void put_sparse(union answer *a, uint32_t at, uint32_t count,
		       const struct vfio_region_sparse_mmap_area *areas, unsigned really)
{
	memcpy(a->bytes + at + sizeof(struct vfio_info_cap_header), &count, sizeof(count));
	if (really)
		memcpy(a->bytes + at + sizeof(struct vfio_region_info_cap_sparse_mmap), areas,
		       really * sizeof(*areas));
}

#define RWM (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP)

static void region_without_capabilities_is_mapped_whole(void **state)
{
	struct vfio_region region;
	union answer a;

	answer_init(&a, RWM, 0x4000);
	assert_int_equal(vfio_region_parse(&a, sizeof(a.info), &region), 0);
	assert_int_equal(region.size, 0x4000);
	assert_int_equal(region.area_count, 1);
	assert_int_equal(region.areas[0].offset, 0);
	assert_int_equal(region.areas[0].size, 0x4000);
	assert_false(region.msix_mappable);
}

static void region_without_mmap_flag_has_no_area(void **state)
{
	struct vfio_region region;
	union answer a;

	answer_init(&a, VFIO_REGION_INFO_FLAG_READ, 0x100);
	assert_int_equal(vfio_region_parse(&a, sizeof(a.info), &region), 0);
	assert_int_equal(region.area_count, 0);
	assert_false(vfio_region_mappable(&region, 0, 0x100));
}

static void region_chain_gives_sparse_areas_and_msix_mappable(void **state)
{
	const struct vfio_region_sparse_mmap_area areas[] = { { 0, 0x1000 }, { 0x3000, 0x1000 } };
	struct vfio_region region;
	union answer a;

	answer_init(&a, RWM | VFIO_REGION_INFO_FLAG_CAPS, 0x4000);
	a.info.cap_offset = 32;
	put_cap(&a, 32, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 96);
	put_sparse(&a, 32, 2, areas, 2);
	put_cap(&a, 96, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, 0);
	assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), 0);
	assert_true(region.msix_mappable);
	assert_int_equal(region.area_count, 2);
	assert_int_equal(region.areas[1].offset, 0x3000);
	assert_int_equal(region.areas[1].size, 0x1000);
	assert_true(vfio_region_mappable(&region, 0x3000, 0x1000));
	assert_false(vfio_region_mappable(&region, 0x1000, 0x1000));
	assert_false(vfio_region_mappable(&region, 0, 0x2000));
}

static void region_sparse_with_no_area_maps_nothing(void **state)
{
	struct vfio_region region;
	union answer a;

	answer_init(&a, RWM | VFIO_REGION_INFO_FLAG_CAPS, 0x1000);
	a.info.cap_offset = 32;
	put_cap(&a, 32, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0);
	put_sparse(&a, 32, 0, NULL, 0);
	assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), 0);
	assert_int_equal(region.area_count, 0);
}

static void region_capability_of_unknown_kind_is_passed_over(void **state)
{
	struct vfio_region region;
	union answer a;

	answer_init(&a, RWM | VFIO_REGION_INFO_FLAG_CAPS, 0x1000);
	a.info.cap_offset = 32;
	put_cap(&a, 32, 0x7777, 9, 48);
	put_cap(&a, 48, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, 0);
	assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), 0);
	assert_true(region.msix_mappable);
}

static void region_chain_that_goes_back_is_refused(void **state)
{
	struct vfio_region region;
	union answer a;

	answer_init(&a, RWM | VFIO_REGION_INFO_FLAG_CAPS, 0x1000);
	a.info.cap_offset = 64;
	put_cap(&a, 64, 0x7777, 1, 32);
	put_cap(&a, 32, 0x7777, 1, 64);
	assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), -EINVAL);
	put_cap(&a, 64, 0x7777, 1, 64);
	assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), -EINVAL);
}

static void region_chain_that_leaves_the_answer_is_refused(void **state)
{
	static const uint32_t offsets[] = { 1, 31, 1017, 1024, 0xfffffff8, 0xffffffff };
	struct vfio_region region;
	union answer a;

	for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++) {
		answer_init(&a, RWM | VFIO_REGION_INFO_FLAG_CAPS, 0x1000);
		a.info.cap_offset = offsets[i];
		assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), -EINVAL);
	}
	assert_int_equal(vfio_region_parse(&a, sizeof(a.info) - 1, &region), -EINVAL);
}

static void region_sparse_count_beyond_the_answer_is_refused(void **state)
{
	const struct vfio_region_sparse_mmap_area areas[] = { { 0, 0x1000 }, { 0x1000, 0x1000 } };
	const size_t one = 32 + sizeof(struct vfio_region_info_cap_sparse_mmap) + sizeof(areas[0]);
	struct vfio_region region;
	union answer a;

	answer_init(&a, RWM | VFIO_REGION_INFO_FLAG_CAPS, 0x4000);
	a.info.cap_offset = 32;
	put_cap(&a, 32, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0);
	put_sparse(&a, 32, 1, areas, 2);
	assert_int_equal(vfio_region_parse(&a, one, &region), 0);
	/* the second area is there in memory, but behind what was answered */
	put_sparse(&a, 32, 2, areas, 2);
	assert_int_equal(vfio_region_parse(&a, one, &region), -EINVAL);
	assert_int_equal(vfio_region_parse(&a, one + sizeof(areas[0]) - 1, &region), -EINVAL);
	assert_int_equal(vfio_region_parse(&a, one + sizeof(areas[0]), &region), 0);
	put_sparse(&a, 32, 0xffffffff, areas, 2);
	assert_int_equal(vfio_region_parse(&a, one, &region), -EINVAL);
}

static void region_area_outside_the_region_is_refused(void **state)
{
	const struct vfio_region_sparse_mmap_area bad[] = {
		{ 0x1000, 0x1000 }, { 0, 0x1001 }, { UINT64_MAX, 2 }, { 0x800, UINT64_MAX }
	};
	struct vfio_region region;
	union answer a;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		answer_init(&a, RWM | VFIO_REGION_INFO_FLAG_CAPS, 0x1000);
		a.info.cap_offset = 32;
		put_cap(&a, 32, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0);
		put_sparse(&a, 32, 1, &bad[i], 1);
		assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), -EINVAL);
	}
}

static void region_with_too_many_areas_is_refused(void **state)
{
	struct vfio_region_sparse_mmap_area areas[VFIO_SPARSE_AREAS_MAX + 1];
	struct vfio_region region;
	union answer a;

	for (unsigned i = 0; i < ARRAY_SIZE(areas); i++)
		areas[i] = (struct vfio_region_sparse_mmap_area){ i * 0x1000, 0x1000 };
	answer_init(&a, RWM | VFIO_REGION_INFO_FLAG_CAPS, 0x100000);
	a.info.cap_offset = 32;
	put_cap(&a, 32, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0);
	put_sparse(&a, 32, VFIO_SPARSE_AREAS_MAX, areas, VFIO_SPARSE_AREAS_MAX);
	assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), 0);
	assert_int_equal(region.area_count, VFIO_SPARSE_AREAS_MAX);
	put_sparse(&a, 32, VFIO_SPARSE_AREAS_MAX + 1, areas, VFIO_SPARSE_AREAS_MAX + 1);
	assert_int_equal(vfio_region_parse(&a, sizeof(a), &region), -E2BIG);
}

static void region_range_does_not_wrap(void **state)
{
	assert_true(vfio_region_range_ok(0x100, 0xff, 1));
	assert_true(vfio_region_range_ok(0x100, 0, 0x100));
	assert_false(vfio_region_range_ok(0x100, 0x100, 1));
	assert_false(vfio_region_range_ok(0x100, 0xff, 2));
	assert_false(vfio_region_range_ok(0x100, 1, UINT64_MAX));
	assert_false(vfio_region_range_ok(0x100, UINT64_MAX, 1));
	assert_false(vfio_region_range_ok(0x100, 0, 0));
	assert_false(vfio_region_range_ok(0, 0, 1));
}

/* ---- SET_IRQS ----------------------------------------------------------------------------- */

#define TRIGGER_FDS  (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define TRIGGER_NONE (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)
#define MASK_NONE    (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK)
#define UNMASK_BOOL  (VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_UNMASK)

static void irq_set_carries_its_eventfds(void **state)
{
	static union vfio_irq_set_buffer buf;
	const int32_t fds[] = { 5, -1, 7 };

	assert_int_equal(vfio_irq_set_build(&buf, 8, TRIGGER_FDS, 2, 4, 3, fds),
			 sizeof(struct vfio_irq_set) + sizeof(fds));
	assert_int_equal(buf.set.argsz, sizeof(struct vfio_irq_set) + sizeof(fds));
	assert_int_equal(buf.set.flags, TRIGGER_FDS);
	assert_int_equal(buf.set.index, 2);
	assert_int_equal(buf.set.start, 4);
	assert_int_equal(buf.set.count, 3);
	assert_memory_equal(buf.set.data, fds, sizeof(fds));
}

static void irq_set_carries_bools_of_one_byte(void **state)
{
	static union vfio_irq_set_buffer buf;
	const uint8_t bools[] = { 1, 0, 1 };

	assert_int_equal(vfio_irq_set_build(&buf, 3, UNMASK_BOOL, 0, 0, 3, bools),
			 sizeof(struct vfio_irq_set) + 3);
	assert_memory_equal(buf.set.data, bools, 3);
}

static void irq_set_without_data_has_the_bare_size(void **state)
{
	static union vfio_irq_set_buffer buf;

	assert_int_equal(vfio_irq_set_build(&buf, 1, MASK_NONE, 0, 0, 1, NULL),
			 sizeof(struct vfio_irq_set));
	assert_int_equal(vfio_irq_set_build(&buf, 1, TRIGGER_NONE, 0, 0, 0, NULL),
			 sizeof(struct vfio_irq_set));
}

static void irq_set_range_beyond_the_index_is_refused(void **state)
{
	static union vfio_irq_set_buffer buf;
	static const int32_t fds[4];

	assert_int_equal(vfio_irq_set_build(&buf, 4, TRIGGER_FDS, 0, 4, 1, fds), -EINVAL);
	assert_int_equal(vfio_irq_set_build(&buf, 4, TRIGGER_FDS, 0, 1, 4, fds), -EINVAL);
	assert_int_equal(vfio_irq_set_build(&buf, 4, TRIGGER_FDS, 0, UINT32_MAX, 2, fds), -EINVAL);
	assert_int_equal(vfio_irq_set_build(&buf, 4, TRIGGER_FDS, 0, 2, UINT32_MAX, fds), -EINVAL);
	assert_int_equal(vfio_irq_set_build(&buf, 0, TRIGGER_NONE, 0, 0, 0, NULL), -EINVAL);
}

static void irq_set_of_too_many_entries_is_refused(void **state)
{
	static union vfio_irq_set_buffer buf;
	static const int32_t fds[VFIO_IRQ_SET_MAX + 1];

	assert_int_equal(vfio_irq_set_build(&buf, 4096, TRIGGER_FDS, 0, 0, VFIO_IRQ_SET_MAX, fds),
			 sizeof(buf));
	assert_int_equal(
		vfio_irq_set_build(&buf, 4096, TRIGGER_FDS, 0, 0, VFIO_IRQ_SET_MAX + 1, fds),
		-E2BIG);
}

static void irq_set_flags_must_say_one_thing(void **state)
{
	static const uint32_t bad[] = {
		0,
		VFIO_IRQ_SET_DATA_NONE,
		VFIO_IRQ_SET_ACTION_TRIGGER,
		TRIGGER_FDS | VFIO_IRQ_SET_DATA_NONE,
		TRIGGER_NONE | VFIO_IRQ_SET_ACTION_MASK,
		TRIGGER_NONE | 0x40,
	};
	static union vfio_irq_set_buffer buf;
	const int32_t fd = 3;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(vfio_irq_set_build(&buf, 4, bad[i], 0, 0, 1, &fd), -EINVAL);
}

static void irq_set_without_its_data_is_refused(void **state)
{
	static union vfio_irq_set_buffer buf;

	assert_int_equal(vfio_irq_set_build(&buf, 4, TRIGGER_FDS, 0, 0, 1, NULL), -EINVAL);
	assert_int_equal(vfio_irq_set_build(&buf, 4, TRIGGER_FDS, 0, 0, 0, NULL), -EINVAL);
	assert_int_equal(vfio_irq_set_build(&buf, 4, MASK_NONE, 0, 0, 0, NULL), -EINVAL);
}

/* ---- opening: what is refused ------------------------------------------------------------- */

static unsigned open_files(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void refused(struct fake_sysfs *fs, struct iommu_space *space, const char *bdf,
		    const char *code, const char *text, const char *next)
{
	struct pci_address address;
	struct vfio_device *device = NULL;
	struct error e = { 0 };
	unsigned before = open_files();

	assert_int_equal(pci_address_parse(bdf, &address), 0);
	assert_true(vfio_device_open(fs->root, &address, space, &device, &e) < 0);
	assert_string_equal(e.code, code);
	if (!strstr(e.text, text))
		fail_msg("\"%s\" does not have \"%s\"", e.text, text);
	if (next)
		assert_string_equal(e.next, next);
	assert_null(device);
	assert_null(space->vfio_groups);
	assert_int_equal(open_files(), before);
}

static void opening_refuses_in_the_order_a_person_wants(void **state)
{
	struct iommu_space *space = iommu_space_mock(0);
	struct fake_sysfs fs;

	fake_sysfs_create(&fs);
	fake_sysfs_add_pci(
		&fs,
		&(struct fake_pci){ .bdf = "0000:00:01.0", .class_code = 0x060400, .group = 1 });
	fake_sysfs_add_pci(&fs, &(struct fake_pci){ .bdf = "0000:01:00.0",
						    .class_code = 0x030000,
						    .group = 2,
						    .driver = "nouveau" });
	fake_sysfs_add_pci(&fs, &(struct fake_pci){ .bdf = "0000:01:00.1",
						    .class_code = 0x040300,
						    .group = 2,
						    .driver = "snd_hda_intel" });
	refused(&fs, space, "0000:07:00.0", "no-such-device", "0000:07:00.0", NULL);
	refused(&fs, space, "0000:00:01.0", "is-a-bridge", "0000:00:01.0", NULL);
	refused(&fs, space, "0000:01:00.0", "not-bound-to-vfio", "nouveau",
		"divvy bind 0000:01:00.0");
	fake_sysfs_set_driver(&fs, "0000:01:00.0", NULL);
	refused(&fs, space, "0000:01:00.0", "not-bound-to-vfio", "no driver",
		"divvy bind 0000:01:00.0");
	fake_sysfs_set_driver(&fs, "0000:01:00.0", "vfio-pci");
	refused(&fs, space, "0000:01:00.0", "group-not-viable", "snd_hda_intel", NULL);
	fake_sysfs_set_driver(&fs, "0000:01:00.1", "vfio-pci");
	refused(&fs, space, "0000:01:00.0", "no-vfio", "/dev/vfio/2", "modprobe vfio-pci");
	/* a file that is no VFIO group */
	fake_sysfs_write(&fs, "dev/vfio/2", "%s", "");
	refused(&fs, space, "0000:01:00.0", "bad-device", "VFIO_GROUP_GET_STATUS", NULL);
	fake_sysfs_destroy(&fs);
	iommu_space_close(space);
}

static void closing_no_device_is_fine(void **state)
{
	vfio_device_close(NULL);
}

/* ---- reset -------------------------------------------------------------------------------- */

static int reset_busy(struct vfio_device *device)
{
	return -EBUSY;
}

static void device_without_reset_says_so(void **state)
{
	static const struct vfio_device_ops none, busy = { .reset = reset_busy };
	struct vfio_device device = { .ops = &none, .name = "soft" };
	struct error e = { 0 };

	assert_int_equal(vfio_device_reset(&device, &e), -ENOTTY);
	assert_string_equal(e.code, "no-reset");
	device.ops = &busy;
	assert_int_equal(vfio_device_reset(&device, &e), -EBUSY);
	assert_string_equal(e.code, "reset-failed");
	assert_int_equal(vfio_device_file(&device), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(region_without_capabilities_is_mapped_whole),
		cmocka_unit_test(region_without_mmap_flag_has_no_area),
		cmocka_unit_test(region_chain_gives_sparse_areas_and_msix_mappable),
		cmocka_unit_test(region_sparse_with_no_area_maps_nothing),
		cmocka_unit_test(region_capability_of_unknown_kind_is_passed_over),
		cmocka_unit_test(region_chain_that_goes_back_is_refused),
		cmocka_unit_test(region_chain_that_leaves_the_answer_is_refused),
		cmocka_unit_test(region_sparse_count_beyond_the_answer_is_refused),
		cmocka_unit_test(region_area_outside_the_region_is_refused),
		cmocka_unit_test(region_with_too_many_areas_is_refused),
		cmocka_unit_test(region_range_does_not_wrap),
		cmocka_unit_test(irq_set_carries_its_eventfds),
		cmocka_unit_test(irq_set_carries_bools_of_one_byte),
		cmocka_unit_test(irq_set_without_data_has_the_bare_size),
		cmocka_unit_test(irq_set_range_beyond_the_index_is_refused),
		cmocka_unit_test(irq_set_of_too_many_entries_is_refused),
		cmocka_unit_test(irq_set_flags_must_say_one_thing),
		cmocka_unit_test(irq_set_without_its_data_is_refused),
		cmocka_unit_test(opening_refuses_in_the_order_a_person_wants),
		cmocka_unit_test(closing_no_device_is_fine),
		cmocka_unit_test(device_without_reset_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
