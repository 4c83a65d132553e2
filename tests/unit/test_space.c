// SPDX-License-Identifier: Apache-2.0
/*
 * Address spaces: following guest memory, undoing at every point of failure, choosing a backend, and
 * reading what the kernel says of IOVA ranges. The real backends are proven in the rig.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/vfio.h>

#include <cmocka.h>

#include "iommu/private.h"
#include "tests/unit/fake_sysfs.h"
#include "tests/unit/resources.h"

static struct error err;
static unsigned fds_before, maps_before;
static char bar[8192] __attribute__((aligned(4096)));

static int setup(void **state)
{
	memset(&err, 0, sizeof(err));
	fds_before = count_fds();
	maps_before = count_maps();
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(count_fds(), fds_before);
	assert_int_equal(count_maps(), maps_before);
	return 0;
}

/* ---- following -------------------------------------------------------------------------------- */

static void ram_is_mapped_read_write_at_its_own_address(void **state)
{
	struct iommu_space *space = iommu_space_mock(0);
	struct guest_memory *memory;
	unsigned prot = 0;

	assert_int_equal(guest_memory_create(&memory, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(iommu_space_follow(space, memory, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 4 * GIB, MIB, &err), 0);
	assert_int_equal(space->maps, 2);
	assert_ptr_equal(iommu_mock_lookup(space, 4 * GIB + 5, &prot),
			 guest_memory_ptr(memory, 4 * GIB + 5, 1));
	assert_int_equal(prot, IOMMU_PROT_READ | IOMMU_PROT_WRITE);
	assert_null(iommu_mock_lookup(space, MIB, NULL));
	iommu_space_unfollow(space, memory);
	assert_int_equal(space->maps, 0);
	guest_memory_destroy(memory);
	iommu_space_close(space);
}

static void memory_that_goes_first_leaves_no_map(void **state)
{
	struct iommu_space *space = iommu_space_mock(0);
	struct guest_memory *memory;

	assert_int_equal(guest_memory_create(&memory, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(iommu_space_follow(space, memory, &err), 0);
	guest_memory_destroy(memory);
	assert_int_equal(space->maps, 0);
	iommu_space_close(space);
}

static void a_space_follows_one_memory_at_a_time(void **state)
{
	struct iommu_space *space = iommu_space_mock(0);
	struct guest_memory *memory;

	assert_int_equal(guest_memory_create(&memory, &err), 0);
	assert_int_equal(iommu_space_follow(space, memory, &err), 0);
	assert_int_equal(iommu_space_follow(space, memory, &err), -EBUSY);
	iommu_space_unfollow(space, memory);
	assert_int_equal(iommu_space_follow(space, memory, &err), 0);
	iommu_space_unfollow(space, memory);
	guest_memory_destroy(memory);
	iommu_space_close(space);
}

static void a_bar_that_cannot_be_mapped_is_a_warning(void **state)
{
	struct iommu_space *space = iommu_space_mock(2);
	struct guest_memory *memory;

	assert_int_equal(guest_memory_create(&memory, &err), 0);
	assert_int_equal(iommu_space_follow(space, memory, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(guest_memory_add_device(memory, GIB, 4096, bar, &err), 0);
	assert_int_equal(space->maps, 1);
	guest_memory_remove_device(memory, GIB);
	assert_int_equal(space->maps, 1);
	assert_int_equal(guest_memory_add_device(memory, GIB, 8192, bar, &err), 0);
	assert_ptr_equal(iommu_mock_lookup(space, GIB + 4096, NULL), bar + 4096);
	iommu_space_unfollow(space, memory);
	guest_memory_destroy(memory);
	iommu_space_close(space);
}

static const struct iommu_space_ops *mock_ops;
static unsigned map_calls;

/* As iommufd does. */
static int map_memory_only(struct iommu_space *space, uint64_t iova, uint64_t size, void *vaddr,
			   unsigned prot)
{
	map_calls++;
	return vaddr == bar ? -EFAULT : mock_ops->map(space, iova, size, vaddr, prot);
}

static void iommufd_is_asked_for_a_bar_once(void **state)
{
	struct iommu_space *space = iommu_space_mock(0);
	struct iommu_space_ops ops;
	struct guest_memory *memory;

	mock_ops = space->ops;
	ops = *mock_ops;
	ops.kind = IOMMU_IOMMUFD;
	ops.map = map_memory_only;
	space->ops = &ops;
	map_calls = 0;
	assert_int_equal(guest_memory_create(&memory, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	assert_int_equal(iommu_space_follow(space, memory, &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(guest_memory_add_device(memory, GIB, 4096, bar, &err), 0);
		assert_int_equal(space->maps, 1);
		guest_memory_remove_device(memory, GIB);
	}
	assert_int_equal(map_calls, 2); /* RAM, and the first BAR */
	/* what is memory goes on being mapped */
	assert_int_equal(guest_memory_add_ram(memory, 4 * GIB, MIB, &err), 0);
	assert_int_equal(space->maps, 2);
	iommu_space_unfollow(space, memory);
	guest_memory_destroy(memory);
	iommu_space_close(space);
}

/* What a VM does at start: memory, a device, follow, more memory. Returns the first error. */
static int play(struct iommu_space *space, struct guest_memory *memory, bool *attached)
{
	struct iommu_range ranges[4];
	int ret = guest_memory_add_ram(memory, 0, MIB, &err);

	if (!ret)
		ret = guest_memory_add_ram(memory, GIB, MIB, &err);
	if (!ret)
		ret = space->ops->attach(space, -1, &err);
	*attached = !ret;
	if (!ret)
		ret = space->ops->ranges(space, ranges, ARRAY_SIZE(ranges));
	if (ret > 0)
		ret = iommu_space_follow(space, memory, &err);
	if (!ret)
		ret = guest_memory_add_ram(memory, 2 * GIB, MIB, &err);
	if (!ret)
		ret = guest_memory_add_ram(memory, 3 * GIB, MIB, &err);
	return ret;
}

static void a_failure_at_any_call_is_undone_and_leaves_nothing(void **state)
{
	unsigned long calls = 0;

	/* The run without a failure says how many calls there are. */
	for (unsigned long n = 0; n <= calls; n++) {
		struct iommu_space *space = iommu_space_mock(n);
		struct guest_memory *memory;
		unsigned banks = 0;
		bool attached;
		int ret;

		assert_int_equal(guest_memory_create(&memory, &err), 0);
		ret = play(space, memory, &attached);
		if (!n) {
			assert_int_equal(ret, 0);
			calls = iommu_mock_calls(space);
			assert_int_equal(calls, 6);
		} else {
			assert_int_equal(ret, -ENOMEM);
		}
		while (guest_memory_bank(memory, banks))
			banks++;
		/* A refused bank does not exist; a refused follow maps nothing. */
		if (space->memory)
			assert_int_equal(space->maps, banks);
		else
			assert_int_equal(space->maps, 0);
		if (attached)
			space->ops->detach(space, -1);
		iommu_space_unfollow(space, memory);
		assert_int_equal(space->maps, 0);
		guest_memory_destroy(memory);
		iommu_space_close(space);
		assert_int_equal(count_fds(), fds_before);
		assert_int_equal(count_maps(), maps_before);
	}
}

/* 2.5 GiB from 512 MiB on: pieces end at 1 and 2 GiB. Any of them may fail. */
static void ram_is_mapped_in_pieces_cut_at_gibs(void **state)
{
	for (unsigned long fail_at = 0; fail_at <= 3; fail_at++) {
		struct iommu_space *space = iommu_space_mock(fail_at);
		struct guest_memory *memory;

		assert_int_equal(guest_memory_create(&memory, &err), 0);
		assert_int_equal(guest_memory_add_ram(memory, 512 * MIB, 2 * GIB + 512 * MIB, &err),
				 0);
		assert_int_equal(iommu_space_follow(space, memory, &err), fail_at ? -ENOMEM : 0);
		assert_int_equal(space->maps, fail_at ? 0 : 3);
		for (uint64_t at = 512 * MIB; at < 3 * GIB && !fail_at; at += 512 * MIB)
			assert_ptr_equal(iommu_mock_lookup(space, at + 4097, NULL),
					 guest_memory_ptr(memory, at + 4097, 1));
		if (!fail_at) {
			/* The mock takes back whole maps only: these are they. */
			assert_int_equal(space->ops->unmap(space, GIB, GIB), 0);
			assert_int_equal(space->ops->map(space, GIB, GIB,
							 guest_memory_ptr(memory, GIB, GIB),
							 IOMMU_PROT_READ),
					 0);
		}
		iommu_space_unfollow(space, memory);
		assert_int_equal(space->maps, 0);
		guest_memory_destroy(memory);
		iommu_space_close(space);
	}
}

static void a_failed_map_says_what_and_where(void **state)
{
	struct iommu_space *space = iommu_space_mock(0);
	struct guest_memory *memory;

	assert_int_equal(guest_memory_create(&memory, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, GIB, 2 * MIB, &err), 0);
	assert_int_equal(space->ops->map(space, GIB, 4096, bar, IOMMU_PROT_READ), 0);
	assert_int_equal(iommu_space_follow(space, memory, &err), -EEXIST);
	assert_string_equal(err.code, "dma-map-failed");
	assert_non_null(strstr(err.text, "0x40000000"));
	assert_non_null(strstr(err.text, "mapped there already"));
	assert_int_equal(space->ops->unmap(space, GIB, 4096), 0);
	guest_memory_destroy(memory);
	iommu_space_close(space);
}

/* ---- the mock itself --------------------------------------------------------------------------- */

static void the_mock_refuses_what_a_kernel_refuses(void **state)
{
	struct iommu_space *space = iommu_space_mock(0);

	assert_int_equal(space->ops->map(space, 0x1000, 0x1000, bar, IOMMU_PROT_READ), 0);
	assert_int_equal(space->ops->map(space, 0, 0x2000, bar, IOMMU_PROT_READ), -EEXIST);
	assert_int_equal(space->ops->map(space, 0x2001, 0x1000, bar, IOMMU_PROT_READ), -EINVAL);
	assert_int_equal(space->ops->map(space, 0x2000, 0, bar, IOMMU_PROT_READ), -EINVAL);
	assert_int_equal(space->ops->map(space, 0x2000, 0x1000, bar, 0), -EINVAL);
	assert_int_equal(space->ops->map(space, UINT64_MAX - 4095, 0x2000, bar, 1), -EINVAL);
	assert_int_equal(space->ops->unmap(space, 0x1000, 0x2000), -ENOENT);
	assert_int_equal(space->ops->unmap(space, 0x1000, 0x1000), 0);
	assert_int_equal(space->ops->unmap(space, 0x1000, 0x1000), -ENOENT);
	iommu_space_close(space);
}

/* ---- choosing a backend ------------------------------------------------------------------------- */

static void auto_takes_iommufd_only_where_cdevs_are(void **state)
{
	struct iommu_space *space;
	struct fake_sysfs fs;

	fake_sysfs_create(&fs);
	assert_int_equal(iommu_space_open(fs.root, IOMMU_AUTO, &space, &err), -ENOENT);
	assert_string_equal(err.code, "no-vfio");
	assert_string_equal(err.next, "modprobe vfio-pci");
	assert_null(space);
	assert_int_equal(iommu_space_open(fs.root, IOMMU_IOMMUFD, &space, &err), -ENOENT);
	assert_string_equal(err.code, "no-iommufd");
	/* Plain files: each backend finds out that they are no devices. */
	fake_sysfs_write(&fs, "dev/iommu", "%s", "");
	fake_sysfs_write(&fs, "dev/vfio/vfio", "%s", "");
	fake_sysfs_folder(&fs, "dev/vfio/devices");
	assert_int_equal(iommu_space_open(fs.root, IOMMU_AUTO, &space, &err), -ENOTSUP);
	assert_string_equal(err.code, "vfio-unusable");
	fake_sysfs_write(&fs, "dev/vfio/devices/vfio0", "%s", "");
	assert_int_equal(iommu_space_open(fs.root, IOMMU_AUTO, &space, &err), -ENOTTY);
	assert_string_equal(err.code, "iommufd-unusable");
	assert_int_equal(iommu_space_open(fs.root, IOMMU_MOCK, &space, &err), 0);
	assert_int_equal(space->ops->kind, IOMMU_MOCK);
	iommu_space_close(space);
	iommu_space_close(NULL);
	fake_sysfs_destroy(&fs);
}

/* ---- what the kernel says of ranges --------------------------------------------------------------- */

struct answer {
	struct vfio_iommu_type1_info info;
	struct vfio_info_cap_header other;
	/* struct vfio_iommu_type1_info_cap_iova_range, its array made of two */
	struct {
		struct vfio_info_cap_header header;
		uint32_t nr_iovas, reserved;
	} cap;
	struct vfio_iova_range ranges[2];
};

static struct answer good_answer(void)
{
	return (struct answer){
		.info = { .argsz = sizeof(struct answer),
			  .flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
			  .cap_offset = offsetof(struct answer, other) },
		.other = { .id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
			   .next = offsetof(struct answer, cap) },
		.cap = { .header = { .id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE }, .nr_iovas = 2 },
		.ranges = { { 0, 0xfedfffff }, { 0xfef00000, 0x7fffffffff } },
	};
}

static void ranges_are_found_behind_other_capabilities(void **state)
{
	struct answer answer = good_answer();
	struct iommu_range ranges[4];

	assert_int_equal(type1_parse_ranges(&answer, sizeof(answer), ranges, 4), 2);
	assert_int_equal(ranges[0].last, 0xfedfffff);
	assert_int_equal(ranges[1].start, 0xfef00000);
	assert_int_equal(type1_parse_ranges(&answer, sizeof(answer), ranges, 1), 1);
	answer.info.flags = VFIO_IOMMU_INFO_PGSIZES;
	assert_int_equal(type1_parse_ranges(&answer, sizeof(answer), ranges, 4), -ENODATA);
}

static void broken_answers_are_refused_within_bounds(void **state)
{
	struct answer answer = good_answer();
	struct iommu_range ranges[4];

	answer.other.next = offsetof(struct answer, other); /* a loop */
	assert_int_equal(type1_parse_ranges(&answer, sizeof(answer), ranges, 4), -EINVAL);
	answer = good_answer();
	answer.cap.nr_iovas = 0x40000000; /* times 16 is 0 in 32 bits */
	assert_int_equal(type1_parse_ranges(&answer, sizeof(answer), ranges, 4), -EINVAL);
	answer = good_answer();
	answer.info.cap_offset = 0xfffffff8;
	assert_int_equal(type1_parse_ranges(&answer, sizeof(answer), ranges, 4), -EINVAL);
	answer = good_answer();
	for (size_t size = 0; size < sizeof(answer); size++) {
		void *copy = malloc(size ? size : 1);

		assert_non_null(copy);
		memcpy(copy, &answer, size);
		assert_true(type1_parse_ranges(copy, size, ranges, 4) < 0);
		free(copy);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ram_is_mapped_read_write_at_its_own_address),
		TEST(memory_that_goes_first_leaves_no_map),
		TEST(a_space_follows_one_memory_at_a_time),
		TEST(a_bar_that_cannot_be_mapped_is_a_warning),
		TEST(iommufd_is_asked_for_a_bar_once),
		TEST(a_failure_at_any_call_is_undone_and_leaves_nothing),
		TEST(ram_is_mapped_in_pieces_cut_at_gibs),
		TEST(a_failed_map_says_what_and_where),
		TEST(the_mock_refuses_what_a_kernel_refuses),
		TEST(auto_takes_iommufd_only_where_cdevs_are),
		TEST(ranges_are_found_behind_other_capabilities),
		TEST(broken_answers_are_refused_within_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
