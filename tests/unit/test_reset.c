// SPDX-License-Identifier: Apache-2.0
/*
 * Resets of devices before a made-up kernel: alone, with their slot, refused for whose it is; and what
 * becomes of the link.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/fake_vfio_kernel.h"
#include "tests/unit/resources.h"
#include "vfio/device.h"

static enum iommu_kind kind;
static struct iommu_space *space;
static struct vfio_device *devices[2];
static unsigned device_count;
static char log_text[8192];

static void open_both(unsigned count)
{
	struct error e = { 0 };

	assert_int_equal(iommu_space_open(fake_kernel.fs.root, kind, &space, &e), 0);
	for (device_count = 0; device_count < count; device_count++) {
		const struct pci_address address = { .bus = 1, .function = (uint8_t)device_count };

		if (vfio_device_open(fake_kernel.fs.root, &address, space, &devices[device_count],
				     &e))
			fail_msg("%s", e.text);
	}
}

static void close_all(void)
{
	while (device_count)
		vfio_device_close(devices[--device_count]);
	iommu_space_close(space);
	space = NULL;
}

static int setup(void **state)
{
	fake_kernel_create();
	return 0;
}

static int teardown(void **state)
{
	unsigned wrong = fake_kernel.wrong;

	close_all();
	fake_kernel_destroy();
	return (int)wrong;
}

/* What @run logs. */
static const char *logged(void (*run)(void))
{
	int before = dup(STDERR_FILENO), file = memfd_create("log", MFD_CLOEXEC);
	ssize_t length;

	dup2(file, STDERR_FILENO);
	run();
	dup2(before, STDERR_FILENO);
	length = pread(file, log_text, sizeof(log_text) - 1, 0);
	log_text[length < 0 ? 0 : length] = '\0';
	close(before);
	close(file);
	return log_text;
}

static int result;
static struct error reset_error;

static void reset_all(void)
{
	memset(&reset_error, 0, sizeof(reset_error));
	result = vfio_devices_reset(devices, device_count, &reset_error);
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" does not have \"%s\"", text, part);
}

static const enum iommu_kind kinds[] = { IOMMU_TYPE1, IOMMU_IOMMUFD };

static void devices_that_can_are_reset_alone(void **state)
{
	open_both(2);
	reset_all();
	assert_int_equal(result, 0);
	assert_int_equal(fake_kernel.resets, 2);
	assert_int_equal(fake_kernel.hot_resets, 0);
}

static void one_that_cannot_is_reset_with_its_slot(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		kind = kinds[i];
		fake_kernel.resets = fake_kernel.hot_resets = 0;
		fake_kernel.no_reset = 2;
		open_both(2);
		has(logged(reset_all),
		    "0000:01:00.1: hot reset of its slot or bus, 2 functions, in ");
		assert_int_equal(result, 0);
		assert_int_equal(fake_kernel.hot_resets, 1);
		/* neither can: one reset of the slot is enough for both */
		close_all();
		fake_kernel.no_reset = 3;
		fake_kernel.resets = fake_kernel.hot_resets = 0;
		open_both(2);
		reset_all();
		assert_int_equal(fake_kernel.resets, 0);
		assert_int_equal(fake_kernel.hot_resets, 1);
		/* the other function is ours by its group, and nobody has it open */
		close_all();
		open_both(1);
		reset_all();
		assert_int_equal(result, 0);
		assert_int_equal(fake_kernel.hot_resets, 2);
		close_all();
	}
}

static void one_whose_reset_fails_is_reset_with_its_slot(void **state)
{
	kind = IOMMU_IOMMUFD;
	fake_kernel.reset_error = EIO;
	open_both(2);
	has(logged(reset_all), "function reset");
	assert_int_equal(result, 0);
	assert_int_equal(fake_kernel.hot_resets, 1);
	/* and where that fails as well, both reasons are told */
	fake_kernel.hot_reset_error = EBUSY;
	reset_all();
	assert_int_equal(result, -EIO);
	assert_string_equal(reset_error.code, "reset-failed");
	has(reset_error.text, "0000:01:00.0: function reset");
	has(reset_error.text, "a reset of its slot or bus failed");
}

static void a_slot_that_is_not_all_ours_is_left_alone(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		kind = kinds[i];
		fake_kernel.no_reset = 3;
		fake_kernel.has_other = true;
		fake_kernel.other = (struct vfio_pci_dependent_device){ .bus = 1, .devfn = 2 };
		if (kind == IOMMU_TYPE1)
			fake_kernel.other.group_id = 9;
		else
			fake_kernel.other.devid = (uint32_t)VFIO_PCI_DEVID_NOT_OWNED;
		open_both(2);
		/* it is no reason not to run: a warning that names who is in the way */
		has(logged(reset_all), "0000:01:00.2 (not owned)");
		has(log_text, "0000:01:00.0: the device has no way to be reset alone");
		assert_null(strstr(log_text, "01:00.1 ("));
		assert_int_equal(result, 0);
		assert_int_equal(fake_kernel.hot_resets, 0);
		close_all();
	}
}

static void a_function_that_runs_is_not_pulled_from_under_its_guest(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		kind = kinds[i];
		fake_kernel.no_reset = 3;
		open_both(2);
		device_count = 1; /* only the first is to be reset; the second goes on */
		has(logged(reset_all), "0000:01:00.1 (in use by this VM)");
		assert_int_equal(fake_kernel.hot_resets, 0);
		device_count = 2;
		close_all();
	}
}

/* ---- the link -------------------------------------------------------------------------------- */

static void sysfs_link(const char *speed, const char *width)
{
	fake_sysfs_write(&fake_kernel.fs, "sys/bus/pci/devices/0000:01:00.0/current_link_speed",
			 "%s\n", speed);
	fake_sysfs_write(&fake_kernel.fs, "sys/bus/pci/devices/0000:01:00.0/current_link_width",
			 "%s\n", width);
}

static void open_one(void)
{
	open_both(1);
}

static void a_link_that_drops_is_told_once_with_both_values(void **state)
{
	kind = IOMMU_TYPE1;
	/* 8 GT/s x4 in the device's register too */
	fake_kernel.link_after = 0x0043;
	open_both(1);
	reset_all();
	assert_null(strstr(logged(reset_all), "link"));
	fake_kernel.link_after = 0x0023;
	has(logged(reset_all),
	    "warn: 0000:01:00.0: its PCI Express link was x4 at 8.0 GT/s before its "
	    "reset and is x2 at 8.0 GT/s now");
	assert_null(strstr(logged(reset_all), "link"));
	fake_kernel.link_after = 0x0043; /* better again: nothing to say, until it drops again */
	assert_null(strstr(logged(reset_all), "link"));
	fake_kernel.link_after = 0x0042;
	has(logged(reset_all), "x4 at 8.0 GT/s before its reset and is x4 at 5.0 GT/s now");
	/* the reset of a slot is one as well */
	fake_kernel.link_after = 0x0012;
	fake_kernel.reset_error = EIO;
	has(logged(reset_all), "x4 at 5.0 GT/s before the reset of its slot and is x1 at 5.0 GT/s");
}

static void a_link_that_opening_brought_down_is_told(void **state)
{
	kind = IOMMU_IOMMUFD;
	/* the register says x1 at 2.5 GT/s */
	sysfs_link("16.0 GT/s PCIe", "16");
	has(logged(open_one),
	    "was x16 at 16.0 GT/s before it was opened and is x1 at 2.5 GT/s now");
	close_all();
	sysfs_link("2.5 GT/s PCIe", "1");
	assert_null(strstr(logged(open_one), "link"));
	close_all();
	sysfs_link("Unknown", "0");
	assert_null(strstr(logged(open_one), "link"));
}

static void a_link_is_read_from_what_sysfs_and_registers_say(void **state)
{
	static const struct {
		const char *speed, *width;
		struct vfio_link link;
	} cases[] = {
		{ "2.5 GT/s PCIe", "1", { 1, 2500 } }, { "64.0 GT/s PCIe", "16", { 16, 64000 } },
		{ "5.0 GT/s", "32", { 32, 5000 } },    { "Unknown", "16", { 0, 0 } },
		{ "8.0 GT/s PCIe", "0", { 0, 0 } },    { "8.0 GT/s PCIe", "255", { 0, 0 } },
		{ "8.0 GT/s PCIe", "wide", { 0, 0 } }, { "", "", { 0, 0 } },
		{ "999999.0 GT/s", "4", { 0, 0 } },
	};
	struct fake_device fake;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vfio_link link = vfio_link_parse(cases[i].speed, cases[i].width);

		assert_int_equal(link.width, cases[i].link.width);
		assert_int_equal(link.mts, cases[i].link.mts);
	}
	fake_gpu(&fake);
	fake_put(&fake, 0x84 + PCI_EXP_LNKSTA, 2, 0xf104); /* x16 at 16 GT/s, other bits set */
	assert_int_equal(vfio_link_read(&fake.device).width, 16);
	assert_int_equal(vfio_link_read(&fake.device).mts, 16000);
	fake_put(&fake, 0x84 + PCI_EXP_LNKSTA, 2, 0x0107); /* a speed that is none yet */
	assert_int_equal(vfio_link_read(&fake.device).width, 0);
	fake_release(&fake);
	fake_edu(&fake); /* conventional */
	assert_int_equal(vfio_link_read(&fake.device).width, 0);
	fake_release(&fake);
}

int main(void)
{
#define KERNEL(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		KERNEL(devices_that_can_are_reset_alone),
		KERNEL(one_that_cannot_is_reset_with_its_slot),
		KERNEL(one_whose_reset_fails_is_reset_with_its_slot),
		KERNEL(a_slot_that_is_not_all_ours_is_left_alone),
		KERNEL(a_function_that_runs_is_not_pulled_from_under_its_guest),
		KERNEL(a_link_that_drops_is_told_once_with_both_values),
		KERNEL(a_link_that_opening_brought_down_is_told),
		cmocka_unit_test(a_link_is_read_from_what_sysfs_and_registers_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
