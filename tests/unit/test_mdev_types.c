// SPDX-License-Identifier: Apache-2.0
/*
 * Shares of devices on a made-up machine: vGPUs of two GPUs, the kernel's mediated devices, virtual functions;
 * what is listed (golden files in tests/unit/golden/), made, opened and taken away, and every way to be
 * refused.
 *
 * DIVVY_GOLDEN=update writes the golden files instead of comparing; look at the difference then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mdev/mdev.h"
#include "tests/unit/fake_sysfs.h"
#include "tests/unit/resources.h"

#define IGD	"/sys/devices/pci0000:00/0000:00:02.0"
#define KERNEL	"6e3c1f6a-0f6b-4b8e-9d2a-111111111111"
#define UUID(n) "aaaaaaaa-bbbb-4ccc-8ddd-00000000000" #n

static struct fake_sysfs fs;
static unsigned fds_before;
static const struct mdev_gpu gpus[] = {
	{ "llvmpipe", 1024, 16 },
	{ "0000:c1:00.0", 81559, 4 },
};
static struct mdev_host host = { .gpus = gpus, .gpu_count = 2 };
static struct error e;

static void kernel_type(const char *name, const char *description, const char *left)
{
	char path[256];

#define FILE_OF(file, ...)                                                         \
	(snprintf(path, sizeof(path), IGD "/mdev_supported_types/%s/" file, name), \
	 fake_sysfs_write(&fs, path, __VA_ARGS__))
	FILE_OF("description", "%s", description);
	FILE_OF("name", "%s-name\n", name);
	FILE_OF("device_api", "vfio-pci\n");
	FILE_OF("available_instances", "%s\n", left);
	FILE_OF("create", "%s", "");
}

static int setup(void **state)
{
	fake_sysfs_create(&fs);
	host.root = fs.root;
	memset(&e, 0, sizeof(e));
	fds_before = count_fds();
	fake_sysfs_add_pci(
		&fs,
		&(struct fake_pci){ .bdf = "0000:00:02.0", .class_code = 0x030000, .group = -1 });
	fake_sysfs_link(&fs, "/sys/class/mdev_bus/0000:00:02.0", IGD);
	kernel_type("i915-GVTg_V5_4",
		    "low_gm_size: 128MB\nhigh_gm_size: 512MB\nfence: 4\nresolution: 1920x1200\n"
		    "weight: 4\n",
		    "1");
	kernel_type("i915-GVTg_V5_8", "", "2");
	kernel_type("odd", "left is no number", "-3");
	fake_sysfs_write(&fs, IGD "/" KERNEL "/remove", "%s", "");
	fake_sysfs_link(&fs, IGD "/" KERNEL "/mdev_type",
			IGD "/mdev_supported_types/i915-GVTg_V5_4");
	fake_sysfs_link(&fs, "/sys/bus/mdev/devices/" KERNEL, IGD "/" KERNEL);
	/* Two parents of virtual functions, of which one has some, and one that is none. */
	for (unsigned i = 0; i < 3; i++) {
		char bdf[16];

		snprintf(bdf, sizeof(bdf), "0000:0%u:00.0", i + 3);
		fake_sysfs_add_pci(
			&fs, &(struct fake_pci){ .bdf = bdf, .class_code = 0x030200, .group = -1 });
		if (i == 2)
			continue;
		fake_sysfs_device_write(&fs, bdf, "sriov_totalvfs", "%u\n", 7 + i);
		fake_sysfs_device_write(&fs, bdf, "sriov_numvfs", "%u\n", i * 2);
	}
	for (unsigned i = 0; i < 2; i++) {
		char bdf[16], path[PATH_MAX], parent[PATH_MAX];

		snprintf(bdf, sizeof(bdf), "0000:04:10.%u", i);
		fake_sysfs_add_pci(
			&fs, &(struct fake_pci){ .bdf = bdf, .class_code = 0x030200, .group = -1 });
		fake_sysfs_device_path(&fs, bdf, path);
		fake_sysfs_device_path(&fs, "0000:04:00.0", parent);
		strcat(path, "/physfn");
		fake_sysfs_link(&fs, path, parent);
	}
	return 0;
}

static int teardown(void **state)
{
	fake_sysfs_destroy(&fs);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

/* ---- golden files -------------------------------------------------------------------------- */

/* The temporary folder is another one each time. */
static void without_root(char *text)
{
	const size_t size = strlen(fs.root);

	for (char *at; (at = strstr(text, fs.root));)
		memmove(at, at + size, strlen(at + size) + 1);
}

static void expect_golden(char *text, const char *name)
{
	static char golden[32768];
	const char *update = getenv("DIVVY_GOLDEN");
	char path[128];
	FILE *file;
	size_t n;

	assert_non_null(text);
	without_root(text);
	snprintf(path, sizeof(path), "tests/unit/golden/%s", name);
	file = fopen(path, update && !strcmp(update, "update") ? "w" : "r");
	if (!file)
		fail_msg("%s: %s", path, strerror(errno));
	if (update && !strcmp(update, "update")) {
		fputs(text, file);
		fclose(file);
		free(text);
		return;
	}
	n = fread(golden, 1, sizeof(golden) - 1, file);
	fclose(file);
	golden[n] = '\0';
	assert_string_equal(text, golden);
	free(text);
}

static void expect_types(const char *name)
{
	struct mdev_types types = { 0 };

	if (mdev_types(&host, &types, &e))
		fail_msg("%s: %s", e.code, e.text);
	expect_golden(mdev_types_json(&types), name);
	mdev_types_free(&types);
}

static void expect_instances(const char *name)
{
	struct mdev_instances instances = { 0 };

	if (mdev_instances(&host, &instances, &e))
		fail_msg("%s: %s", e.code, e.text);
	expect_golden(mdev_instances_json(&instances), name);
	mdev_instances_free(&instances);
}

static int make(const char *parent, const char *type, const char *uuid, unsigned count)
{
	const struct mdev_request request = {
		.parent = parent, .type = type, .uuid = uuid, .count = count
	};
	struct mdev_instance out;

	memset(&e, 0, sizeof(e));
	return mdev_create(&host, &request, &out, &e);
}

static void expect_refused(int err, int expected, const char *code, const char *text)
{
	if (err != expected || strcmp(e.code ? e.code : "", code) != 0 || !strstr(e.text, text))
		fail_msg("%d, %s: %s", err, e.code ? e.code : "", e.text);
}

static unsigned available(const char *parent, const char *name)
{
	struct mdev_types types = { 0 };
	unsigned left = 9999;

	assert_int_equal(mdev_types(&host, &types, NULL), 0);
	for (unsigned i = 0; i < types.count; i++)
		if (!strcmp(types.items[i].parent, parent) && !strcmp(types.items[i].name, name))
			left = types.items[i].available;
	mdev_types_free(&types);
	return left;
}

/* ---- lists --------------------------------------------------------------------------------- */

static void all_that_can_be_made_is_listed(void **state)
{
	expect_types("mdev-types.json");
	expect_instances("mdev-instances.json");
	assert_int_equal(make("llvmpipe", "divvy-2", UUID(2), 0), 0);
	assert_int_equal(make("llvmpipe", "divvy-8", UUID(1), 0), 0);
	expect_types("mdev-types-used.json");
	expect_instances("mdev-instances-used.json");
}

static void a_host_with_nothing_has_empty_lists(void **state)
{
	const struct mdev_host nothing = { .root = "/tmp/there-is-no-such-root" };
	struct mdev_types types = { 0 };
	struct mdev_instances instances = { 0 };

	assert_int_equal(mdev_types(&nothing, &types, NULL), 0);
	assert_int_equal(types.count, 0);
	assert_int_equal(mdev_instances(&nothing, &instances, NULL), 0);
	assert_int_equal(instances.count, 0);
}

/* ---- vGPUs --------------------------------------------------------------------------------- */

static void shares_of_several_sizes_fill_a_gpu_and_no_more(void **state)
{
	assert_int_equal(available("llvmpipe", "divvy-4"), 4);
	assert_int_equal(make("llvmpipe", "divvy-2", UUID(1), 0), 0);
	assert_int_equal(available("llvmpipe", "divvy-1"), 0);
	assert_int_equal(available("llvmpipe", "divvy-4"), 2);
	assert_int_equal(make("llvmpipe", "divvy-4", UUID(2), 0), 0);
	assert_int_equal(make("llvmpipe", "divvy-4", UUID(3), 0), 0);
	expect_refused(make("llvmpipe", "divvy-16", UUID(4), 0), -ENOSPC, "none-available",
		       "64 MiB");
	assert_int_equal(mdev_remove(&host, UUID(2), &e), 0);
	assert_int_equal(make("llvmpipe", "divvy-16", UUID(4), 0), 0);
	/* The other GPU has so many instances, however much memory is left. */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(make("0000:c1:00.0", "divvy-16", NULL, 0), 0);
	expect_refused(make("0000:c1:00.0", "divvy-16", NULL, 0), -ENOSPC, "none-available",
		       "an instance left");
}

static void a_vgpu_is_a_folder_with_a_socket_to_be(void **state)
{
	const struct mdev_request request = { .parent = "llvmpipe", .type = "divvy-4" };
	struct mdev_instance out, opened;
	char path[300], text[256];
	struct stat st;
	int lock = -1;

	assert_int_equal(mdev_create(&host, &request, &out, &e), 0);
	assert_int_equal(strlen(out.id), 36);
	assert_int_equal(out.id[14], '4');
	snprintf(path, sizeof(path), "%s/run/divvy/vgpu/%s/socket", fs.root, out.id);
	assert_string_equal(out.path, path);
	snprintf(path, sizeof(path), "%s/run/divvy/vgpu/%s", fs.root, out.id);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	snprintf(path, sizeof(path), "/run/divvy/vgpu/%s/instance", out.id);
	assert_string_equal(fake_sysfs_read(&fs, path, text, sizeof(text)),
			    "{\"parent\":\"llvmpipe\",\"type\":\"divvy-4\",\"memory_mib\":256}");
	assert_int_equal(mdev_open(&host, out.id, &opened, &lock, &e), 0);
	assert_string_equal(opened.path, out.path);
	assert_string_equal(opened.type, "divvy-4");
	close(lock);
}

static void who_serves_a_vgpu_has_it_alone(void **state)
{
	struct mdev_instance out;
	int lock = -1, second = -1;

	assert_int_equal(make("llvmpipe", "divvy-4", UUID(1), 0), 0);
	assert_int_equal(mdev_open(&host, UUID(1), &out, &lock, &e), 0);
	expect_refused(mdev_open(&host, UUID(1), &out, &second, &e), -EBUSY, "instance-in-use",
		       "another server");
	expect_refused(mdev_remove(&host, UUID(1), &e), -EBUSY, "instance-in-use", "a server");
	close(lock);
	assert_int_equal(mdev_remove(&host, UUID(1), &e), 0);
	expect_refused(mdev_open(&host, UUID(1), &out, &lock, &e), -ENOENT, "no-such-instance",
		       "no vGPU");
	expect_refused(mdev_remove(&host, UUID(1), &e), -ENOENT, "no-such-instance", UUID(1));
	/* Nothing of it is left, and its name can be had again. */
	assert_int_equal(make("llvmpipe", "divvy-4", UUID(1), 0), 0);
}

static void what_cannot_be_made_says_why(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"../../../../../../../../etc/passwd-xx",
		"AAAAAAAA-bbbb-4ccc-8ddd-000000000001",
		"aaaaaaaa-bbbb-4ccc-8ddd-00000000000",
		"aaaaaaaa-bbbb-4ccc-8ddd-0000000000011",
		"aaaaaaaa+bbbb-4ccc-8ddd-000000000001",
		"aaaaaaaa-bbbb-4ccc-8ddd-00000000000/",
	};
	struct mdev_instance out;
	int lock;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		expect_refused(make("llvmpipe", "divvy-4", bad[i], 0), -EINVAL, "bad-uuid", "UUID");
		expect_refused(mdev_open(&host, bad[i], &out, &lock, &e), -EINVAL, "bad-uuid",
			       "UUID");
		expect_refused(mdev_remove(&host, bad[i], &e), -ENOENT, "no-such-instance", "");
	}
	expect_refused(make("llvmpipe", "divvy-3", NULL, 0), -ENOENT, "no-such-type",
		       "it has divvy-1, divvy-2");
	expect_refused(make("nothing", "divvy-4", NULL, 0), -ENOENT, "no-such-type",
		       "nothing of nothing");
	expect_refused(make("llvmpipe", "divvy-4", NULL, 3), -EINVAL, "bad-count", "one at a time");
	assert_int_equal(make("llvmpipe", "divvy-4", UUID(1), 0), 0);
	expect_refused(make("llvmpipe", "divvy-8", UUID(1), 0), -EEXIST, "instance-exists",
		       "divvy-4 of llvmpipe");
	/* The kernel's have the same names to choose from. */
	expect_refused(make("llvmpipe", "divvy-8", KERNEL, 0), -EEXIST, "instance-exists",
		       "i915-GVTg_V5_4");
}

static void an_instance_that_cannot_be_read_can_be_removed(void **state)
{
	struct mdev_instances instances = { 0 };
	struct mdev_instance out;
	int lock;

	fake_sysfs_write(&fs, "/run/divvy/vgpu/" UUID(7) "/instance", "%s",
			 "{\"parent\":\"../x\"}");
	fake_sysfs_folder(&fs, "/run/divvy/vgpu/not-one-of-ours");
	assert_int_equal(mdev_instances(&host, &instances, &e), 0);
	assert_int_equal(instances.count, 1 + 1 + 2);
	assert_string_equal(instances.items[0].id, UUID(7));
	assert_string_equal(instances.items[0].type, "");
	mdev_instances_free(&instances);
	expect_refused(mdev_open(&host, UUID(7), &out, &lock, &e), -EINVAL, "bad-instance",
		       "not what an instance says");
	assert_int_equal(mdev_remove(&host, UUID(7), &e), 0);
	assert_int_equal(make("llvmpipe", "divvy-1", UUID(7), 0), 0);
}

/* ---- the kernel's -------------------------------------------------------------------------- */

static void a_mediated_device_is_made_and_taken_away_by_its_uuid(void **state)
{
	const struct mdev_request request = { .parent = "0000:00:02.0",
					      .type = "i915-GVTg_V5_8",
					      .uuid = UUID(1) };
	struct mdev_instance out;
	char text[256];

	assert_int_equal(mdev_create(&host, &request, &out, &e), 0);
	assert_string_equal(fake_sysfs_read(&fs, IGD "/mdev_supported_types/i915-GVTg_V5_8/create",
					    text, sizeof(text)),
			    UUID(1));
	assert_string_equal(out.provider, "mdev");
	assert_string_equal(out.path, "/sys/bus/mdev/devices/" UUID(1));
	expect_refused(make("0000:00:02.0", "odd", UUID(2), 0), -ENOSPC, "none-available", "odd");
	assert_int_equal(mdev_remove(&host, KERNEL, &e), 0);
	assert_string_equal(fake_sysfs_read(&fs, IGD "/" KERNEL "/remove", text, sizeof(text)),
			    "1");
	/* Gone between the list and the write. */
	fake_sysfs_remove(&fs, IGD "/mdev_supported_types/i915-GVTg_V5_4/create");
	expect_refused(make("0000:00:02.0", "i915-GVTg_V5_4", UUID(3), 0), -ENOENT, "sysfs-refused",
		       "create: writing " UUID(3));
}

/* ---- virtual functions --------------------------------------------------------------------- */

static void virtual_functions_come_and_go_by_number(void **state)
{
	char text[32];

	expect_refused(make("0000:03:00.0", "sriov-vf", NULL, 0), -EINVAL, "bad-count", "how many");
	expect_refused(make("0000:03:00.0", "sriov-vf", UUID(1), 2), -EINVAL, "bad-uuid",
		       "no UUID");
	expect_refused(make("0000:03:00.0", "sriov-vf", NULL, 8), -ENOSPC, "bad-count",
		       "can have 7");
	assert_int_equal(make("0000:03:00.0", "sriov-vf", NULL, 7), 0);
	assert_string_equal(fake_sysfs_read(&fs, "/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs",
					    text, sizeof(text)),
			    "7");
	expect_refused(make("0000:04:00.0", "sriov-vf", NULL, 3), -EBUSY, "none-available",
		       "has 2 virtual functions");
	assert_int_equal(mdev_remove(&host, "0000:04:00.0", &e), 0);
	assert_string_equal(fake_sysfs_read(&fs, "/sys/bus/pci/devices/0000:04:00.0/sriov_numvfs",
					    text, sizeof(text)),
			    "0");
	expect_refused(mdev_remove(&host, "0000:05:00.0", &e), -ENOENT, "no-such-instance", "");
	expect_refused(make("0000:05:00.0", "sriov-vf", NULL, 1), -ENOENT, "no-such-type",
		       "nothing of 0000:05:00.0");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(all_that_can_be_made_is_listed),
		TEST(a_host_with_nothing_has_empty_lists),
		TEST(shares_of_several_sizes_fill_a_gpu_and_no_more),
		TEST(a_vgpu_is_a_folder_with_a_socket_to_be),
		TEST(who_serves_a_vgpu_has_it_alone),
		TEST(what_cannot_be_made_says_why),
		TEST(an_instance_that_cannot_be_read_can_be_removed),
		TEST(a_mediated_device_is_made_and_taken_away_by_its_uuid),
		TEST(virtual_functions_come_and_go_by_number),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
