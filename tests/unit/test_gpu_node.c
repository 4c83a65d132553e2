// SPDX-License-Identifier: Apache-2.0
/* The nodes by which what renders for a guest gets at its GPU (mdev/gpu_node.c): found by the PCI address, or refused in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mdev/jail.h"
#include "tests/unit/fake_machines.h"

static struct fake_sysfs fs;
static char nodes[4][64];

static void render_nodes_are_those_of_the_address(void **state)
{
	struct error e = { 0 };
	char want[PATH_MAX];

	fake_machine_workstation(&fs);
	snprintf(want, sizeof(want), "%.16s/dev/dri/renderD128", fs.root);
	assert_int_equal(gpu_nodes_find(fs.root, "0000:03:00.0", nodes, 4, &e), 1);
	assert_string_equal(nodes[0], want);
	/* What renders on the CPU has none, and needs none. */
	assert_int_equal(gpu_nodes_find(fs.root, "llvmpipe__LLVM_19.1.7_", nodes, 4, &e), 0);
	/* The console has a card and no render node. */
	assert_int_equal(gpu_nodes_find(fs.root, "0000:06:00.0", nodes, 4, &e), -ENODEV);
	assert_string_equal(e.code, "no-gpu-node");
	assert_non_null(strstr(e.text, "has no render node"));
	fake_sysfs_destroy(&fs);
}

/* With nvidia_drm there are render nodes, but not by them does NVIDIA's Vulkan use the GPU. */
static void gpu_on_nvidias_driver_is_refused_and_run_native_named(void **state)
{
	struct error e = { 0 };

	fake_machine_h200_vm(&fs);
	for (unsigned with = 0; with < 2; with++) {
		if (with)
			fake_drm(&fs, "0000:00:06.0", 0, 128);
		assert_int_equal(gpu_nodes_find(fs.root, "0000:00:06.0", nodes, 4, &e), -ENODEV);
		assert_string_equal(e.code, "no-gpu-node");
		assert_non_null(strstr(e.text, "NVIDIA's driver"));
		assert_non_null(strstr(e.next, "divvy run-native"));
	}
	fake_sysfs_destroy(&fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(render_nodes_are_those_of_the_address),
		cmocka_unit_test(gpu_on_nvidias_driver_is_refused_and_run_native_named),
	};

	return cmocka_run_group_tests_name("gpu_node", tests, NULL, NULL);
}
