// SPDX-License-Identifier: Apache-2.0
/*
 * Devices opened at once in one address space, over a made-up kernel that takes its time as the real one
 * does; and guest memory mapped by its file where the kernel knows how.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "iommu/iommu.h"
#include "tests/unit/fake_vfio_kernel.h"
#include "tests/unit/resources.h"
#include "vfio/vfio.h"

#define DEVICES	      4 /* two share a group */
#define GROUPS	      3
#define SLOW_US	      60000
#define MAP_FILE_CODE _IO(IOMMUFD_TYPE, 0x8f)

/* As in the kernel's header since Linux 6.13. */
struct map_file {
	uint32_t size, flags, ioas_id;
	int32_t fd;
	uint64_t start, length, iova;
};

static const struct pci_address addresses[DEVICES] = {
	{ .bus = 1 }, { .bus = 1, .function = 1 }, { .bus = 2 }, { .bus = 3 }
};

static struct {
	pthread_mutex_t lock;
	unsigned inside, most; /* calls that take long, at the same time */
	unsigned slow_calls, fail_slow_call;
	bool has_map_file;
	unsigned file_maps, file_asks, address_maps;
	struct map_file last;
} kernel;

static struct error err;
static unsigned fds_before;

static bool is_slow(unsigned long request)
{
	return request == VFIO_GROUP_GET_DEVICE_FD || request == VFIO_DEVICE_BIND_IOMMUFD;
}

/* Beside the others, as the kernel opens and resets different devices. Returns whether it fails. */
static bool take_time(void)
{
	bool fails;

	pthread_mutex_lock(&kernel.lock);
	fails = ++kernel.slow_calls == kernel.fail_slow_call;
	kernel.inside++;
	kernel.most = MAX(kernel.most, kernel.inside);
	pthread_mutex_unlock(&kernel.lock);
	usleep(SLOW_US);
	pthread_mutex_lock(&kernel.lock);
	kernel.inside--;
	pthread_mutex_unlock(&kernel.lock);
	return fails;
}

static bool slow_kernel(int fd, unsigned long request, void *arg, int *ret)
{
	bool known;

	/* Time for the other device of a group to look for it as well. */
	if (request == VFIO_GROUP_GET_STATUS)
		usleep(SLOW_US / 4);
	if (is_slow(request) && take_time()) {
		*ret = fake_kernel_error(EIO);
		return true;
	}
	pthread_mutex_lock(&kernel.lock);
	kernel.address_maps += request == IOMMU_IOAS_MAP;
	if (request == MAP_FILE_CODE) {
		kernel.file_asks++;
		if (kernel.has_map_file) {
			memcpy(&kernel.last, arg, sizeof(kernel.last));
			*ret = fake_kernel_map(kernel.last.iova, kernel.last.length);
			kernel.file_maps += *ret == 0;
		} else {
			*ret = fake_kernel_error(ENOTTY);
		}
		known = true;
	} else {
		known = fake_kernel_ioctl(fd, request, arg, ret);
	}
	pthread_mutex_unlock(&kernel.lock);
	return known;
}

static void opened(int fd, const char *path)
{
	pthread_mutex_lock(&kernel.lock);
	fake_kernel_opened(fd, path);
	pthread_mutex_unlock(&kernel.lock);
}

static void closing(int fd)
{
	pthread_mutex_lock(&kernel.lock);
	fake_kernel_closing(fd);
	pthread_mutex_unlock(&kernel.lock);
}

static void add_function(unsigned bus, int group, unsigned number)
{
	struct fake_sysfs *fs = &fake_kernel.fs;
	char path[PATH_MAX];
	char bdf[16];

	snprintf(bdf, sizeof(bdf), "0000:%02x:00.0", bus);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = bdf,
						   .class_code = 0x010802,
						   .group = group,
						   .driver = "vfio-pci" });
	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/vfio-dev/vfio%u", bdf, number);
	fake_sysfs_folder(fs, path);
	snprintf(path, sizeof(path), "dev/vfio/devices/vfio%u", number);
	fake_sysfs_write(fs, path, "%s", "");
	snprintf(path, sizeof(path), "dev/vfio/%d", group);
	fake_sysfs_write(fs, path, "%s", "");
}

static int setup(void **state)
{
	memset(&err, 0, sizeof(err));
	memset(&kernel, 0, sizeof(kernel));
	pthread_mutex_init(&kernel.lock, NULL);
	log_set_level(LOG_LEVEL_ERROR);
	fake_kernel_create();
	add_function(2, 4, 2);
	add_function(3, 5, 3);
	faults_ioctl = slow_kernel;
	faults_opened = opened;
	faults_closing = closing;
	fds_before = count_fds();
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(count_fds(), fds_before);
	assert_int_equal(fake_kernel_attached(), 0);
	assert_int_equal(fake_kernel.map_count, 0);
	assert_int_equal(fake_kernel.wrong, 0);
	fake_kernel_destroy();
	pthread_mutex_destroy(&kernel.lock);
	return 0;
}

struct opening {
	struct iommu_space *space;
	struct vfio_device *devices[DEVICES];
	struct error errors[DEVICES];
	int results[DEVICES];
};

static void open_one(void *opaque, unsigned index)
{
	struct opening *o = opaque;

	o->results[index] = vfio_device_open(fake_kernel.fs.root, &addresses[index], o->space,
					     &o->devices[index], &o->errors[index]);
}

static void close_one(void *opaque, unsigned index)
{
	struct opening *o = opaque;

	if (!o->results[index])
		vfio_device_close(o->devices[index]);
}

static void open_all(enum iommu_kind kind, struct opening *o)
{
	memset(o, 0, sizeof(*o));
	if (iommu_space_open(fake_kernel.fs.root, kind, &o->space, &err))
		fail_msg("%s", err.text);
	parallel_run("open", DEVICES, open_one, o);
}

static void close_all(struct opening *o)
{
	parallel_run("close", DEVICES, close_one, o);
	assert_null(o->space->vfio_groups);
	iommu_space_close(o->space);
}

static const enum iommu_kind kinds[] = { IOMMU_TYPE1, IOMMU_IOMMUFD };

static void devices_are_opened_beside_each_other(void **state)
{
	struct opening o;

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		kernel.most = 0;
		open_all(kinds[i], &o);
		for (unsigned d = 0; d < DEVICES; d++)
			if (o.results[d])
				fail_msg("%s", o.errors[d].text);
		assert_true(kernel.most > 1);
		assert_int_equal(fake_kernel_attached(),
				 kinds[i] == IOMMU_TYPE1 ? GROUPS : DEVICES);
		close_all(&o);
	}
}

static void one_that_fails_takes_no_other_with_it(void **state)
{
	struct opening o;

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		for (unsigned n = 1; n <= DEVICES; n++) {
			unsigned failed = 0;

			kernel.slow_calls = 0;
			kernel.fail_slow_call = n;
			open_all(kinds[i], &o);
			for (unsigned d = 0; d < DEVICES; d++) {
				failed += o.results[d] != 0;
				if (o.results[d])
					assert_non_null(strstr(o.errors[d].text, "0000:0"));
			}
			assert_int_equal(failed, 1);
			close_all(&o);
		}
}

static void without_threads_they_are_opened_one_after_the_other(void **state)
{
	struct opening o;

	memset(&o, 0, sizeof(o));
	assert_int_equal(iommu_space_open(fake_kernel.fs.root, IOMMU_TYPE1, &o.space, &err), 0);
	faults_arm(1, ENOMEM); /* malloc of thread_create() */
	parallel_run("open", DEVICES, open_one, &o);
	faults_disarm();
	assert_string_equal(faults_name, "malloc");
	assert_int_equal(kernel.most, 1);
	for (unsigned d = 0; d < DEVICES; d++)
		assert_int_equal(o.results[d], 0);
	close_all(&o);
}

/* ---- mediated devices ------------------------------------------------------------------------- */

#define MDEV "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

/* @group, @driver: whether it has one */
static void add_mdev(bool group, bool driver)
{
	struct fake_sysfs *fs = &fake_kernel.fs;

	fake_sysfs_folder(fs, "sys/bus/mdev/devices/" MDEV "/vfio-dev/vfio9");
	fake_sysfs_write(fs, "dev/vfio/devices/vfio9", "%s", "");
	fake_sysfs_write(fs, "dev/vfio/77", "%s", "");
	fake_sysfs_folder(fs, "sys/kernel/iommu_groups/77");
	fake_sysfs_folder(fs, "sys/bus/mdev/drivers/nvidia-vgpu-vfio");
	fake_sysfs_link(fs, "sys/bus/mdev/devices/" MDEV "/iommu_group",
			"sys/kernel/iommu_groups/77");
	if (!group)
		fake_sysfs_remove(fs, "sys/bus/mdev/devices/" MDEV "/iommu_group");
	fake_sysfs_link(fs, "sys/bus/mdev/devices/" MDEV "/driver",
			"sys/bus/mdev/drivers/nvidia-vgpu-vfio");
	if (!driver)
		fake_sysfs_remove(fs, "sys/bus/mdev/devices/" MDEV "/driver");
}

static void a_mediated_device_is_opened_by_its_uuid(void **state)
{
	add_mdev(true, true);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct vfio_device *device;
		struct opening o = { 0 };

		assert_int_equal(iommu_space_open(fake_kernel.fs.root, kinds[i], &o.space, &err),
				 0);
		if (vfio_mdev_open(fake_kernel.fs.root, MDEV, o.space, &device, &err))
			fail_msg("%s", err.text);
		assert_string_equal(device->name, MDEV);
		assert_true(vfio_device_file(device) >= 0);
		assert_int_equal(fake_kernel_attached(), 1);
		/* Beside a function of the hardware's, in one space. */
		open_one(&o, 3);
		assert_int_equal(o.results[3], 0);
		assert_int_equal(fake_kernel_attached(), 2);
		vfio_device_close(device);
		vfio_device_close(o.devices[3]);
		assert_null(o.space->vfio_groups);
		iommu_space_close(o.space);
	}
}

static void what_is_no_mediated_device_is_refused(void **state)
{
	static const struct {
		const char *uuid, *code;
		bool group, driver;
	} cases[] = {
		{ "0000:02:00.0", "no-such-device", true, true },
		{ "../../pci/devices/0000:02:00.0/vfio-", "no-such-device", true, true },
		{ "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002", "no-such-device", true, true },
		{ MDEV, "no-iommu-group", false, true },
		{ MDEV, "not-bound-to-vfio", true, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vfio_device *device = NULL;
		struct iommu_space *space;

		add_mdev(cases[i].group, cases[i].driver);
		assert_int_equal(iommu_space_open(fake_kernel.fs.root, IOMMU_TYPE1, &space, &err),
				 0);
		assert_true(vfio_mdev_open(fake_kernel.fs.root, cases[i].uuid, space, &device,
					   &err) < 0);
		assert_string_equal(err.code, cases[i].code);
		assert_null(device);
		iommu_space_close(space);
	}
}

/* ---- maps by file ------------------------------------------------------------------------------ */

static void follow_and_leave(bool by_file)
{
	const struct memory_bank *bank;
	struct guest_memory *memory;
	struct opening o;

	kernel.has_map_file = by_file;
	open_all(IOMMU_IOMMUFD, &o);
	assert_int_equal(guest_memory_create(&memory, &err), 0);
	assert_int_equal(guest_memory_add_ram(memory, 0, MIB, &err), 0);
	/* Over a multiple of a GiB: two pieces. */
	assert_int_equal(guest_memory_add_ram(memory, 5 * GIB - 2 * MIB, 4 * MIB, &err), 0);
	if (iommu_space_follow(o.space, memory, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fake_kernel.map_count, 3);
	assert_int_equal(o.space->maps, 3);
	if (by_file) {
		bank = guest_memory_bank(memory, 1);
		assert_int_equal(kernel.file_maps, 3);
		assert_int_equal(kernel.address_maps, 0);
		assert_int_equal(kernel.last.size, 40);
		assert_int_equal(kernel.last.flags, IOMMU_IOAS_MAP_FIXED_IOVA |
							    IOMMU_IOAS_MAP_READABLE |
							    IOMMU_IOAS_MAP_WRITEABLE);
		assert_int_equal(kernel.last.ioas_id, 1);
		assert_int_equal(kernel.last.fd, bank->fd);
		assert_int_equal(kernel.last.start, 2 * MIB);
		assert_int_equal(kernel.last.length, 2 * MIB);
		assert_int_equal(kernel.last.iova, 5 * GIB);
	} else {
		/* Asked once. */
		assert_int_equal(kernel.file_asks, 1);
		assert_int_equal(kernel.address_maps, 3);
	}
	iommu_space_unfollow(o.space, memory);
	assert_int_equal(o.space->maps, 0);
	guest_memory_destroy(memory);
	close_all(&o);
}

static void memory_is_mapped_by_its_file_where_the_kernel_can(void **state)
{
	follow_and_leave(true);
}

static void memory_is_mapped_by_address_where_it_cannot(void **state)
{
	follow_and_leave(false);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(devices_are_opened_beside_each_other),
		TEST(one_that_fails_takes_no_other_with_it),
		TEST(without_threads_they_are_opened_one_after_the_other),
		TEST(a_mediated_device_is_opened_by_its_uuid),
		TEST(what_is_no_mediated_device_is_refused),
		TEST(memory_is_mapped_by_its_file_where_the_kernel_can),
		TEST(memory_is_mapped_by_address_where_it_cannot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
