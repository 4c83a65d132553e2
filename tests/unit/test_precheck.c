// SPDX-License-Identifier: Apache-2.0
/*
 * The command line `divvy` on a made-up machine, against golden files (tests/unit/golden/): what it
 * prints, and what it answers with its exit status.
 *
 * DIVVY_GOLDEN=update writes the golden files instead of comparing; look at the difference then.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "instances/cli/cli.h"
#include "tests/unit/fake_sysfs.h"
#include "tests/unit/terminal.h"
#include "vfio/vfio.h"

#define GPU   "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define PORT  "0000:00:01.0"

/* An Intel machine with its IOMMU on and a GPU with its audio function behind an ACS port. */
static void machine(struct fake_sysfs *fs, const char *gpu_driver, const char *audio_driver)
{
	uint8_t port[4096];

	fake_sysfs_create(fs);
	fake_sysfs_cmdline(fs, "root=/dev/vda1 intel_iommu=on");
	fake_sysfs_add_iommu(fs, "dmar0");
	fake_sysfs_write(
		fs, "proc/interrupts",
		"   CPU0\n  2: 9 IR-IO-APIC 2-edge timer\n 24: 1 IR-PCI-MSI-0000 0-edge x\n");
	fake_sysfs_write(fs, "proc/self/status", "Name:\tdivvy\nCapEff:\t0000000000000000\n");
	fake_sysfs_write(
		fs, "proc/self/limits",
		"Limit                     Soft Limit           Hard Limit           Units\n"
		"Max locked memory         8388608              8388608              bytes\n");
	fake_config_bridge(port, 0x8086, 0x1901);
	fake_config_add_acs(port, 0x100, 0x1f, 0x1d);
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = PORT,
						   .class_code = 0x060400,
						   .group = 1,
						   .driver = "pcieport",
						   .config = port,
						   .config_size = sizeof(port) });
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = GPU,
						   .class_code = 0x030000,
						   .group = 2,
						   .parent = PORT,
						   .driver = gpu_driver });
	fake_sysfs_add_pci(fs, &(struct fake_pci){ .bdf = AUDIO,
						   .class_code = 0x040300,
						   .group = 2,
						   .parent = PORT,
						   .driver = audio_driver });
	fake_sysfs_group_type(fs, 2, "DMA-FQ");
	fake_sysfs_device_write(fs, GPU, "resource",
				"0x0000000090000000 0x0000000090ffffff 0x0000000000040200\n"
				"0x0000380000000000 0x0000381fffffffff 0x000000000014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000000000000000 0x0000000001ffffff 0x000000002014220c\n"
				"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				"0x0000000000003000 0x000000000000307f 0x0000000000040101\n");
	fake_sysfs_device_write(fs, GPU, "power_state", "D0\n");
}

static void link_of_gpu(struct fake_sysfs *fs, const char *width)
{
	fake_sysfs_device_write(fs, GPU, "current_link_speed", "16.0 GT/s PCIe\n");
	fake_sysfs_device_write(fs, GPU, "current_link_width", "%s\n", width);
	fake_sysfs_device_write(fs, GPU, "max_link_speed", "32.0 GT/s PCIe\n");
	fake_sysfs_device_write(fs, GPU, "max_link_width", "16\n");
}

/* The same, all in order: bound, room for every BAR, reset, nodes, a limit that is high enough. */
static void ready_machine(struct fake_sysfs *fs)
{
	machine(fs, "vfio-pci", "vfio-pci");
	fake_sysfs_device_write(fs, GPU, "resource",
				"0x0000000090000000 0x0000000090ffffff 0x0000000000040200\n"
				"0x0000380000000000 0x0000381fffffffff 0x000000000014220c\n");
	fake_sysfs_device_write(fs, GPU, "reset_method", "flr bus\n");
	link_of_gpu(fs, "16");
	fake_sysfs_write(
		fs, "proc/self/limits",
		"Max locked memory         unlimited            unlimited            bytes\n");
	fake_sysfs_write(fs, "dev/vfio/vfio", "%s", "");
	fake_sysfs_write(fs, "dev/vfio/2", "%s", "");
}

/* Run `divvy` with the words of @line and --root; returns its status and what it printed. */
static int divvy(const struct fake_sysfs *fs, const char *line, char **printed)
{
	static char program[] = "divvy", root_option[] = "--root";
	char words[256], root[sizeof(fs->root)], *argv[16] = { program, root_option, root };
	char *save = NULL, *at;
	int argc = 3, status;
	size_t size;
	FILE *out = open_memstream(printed, &size);

	assert_non_null(out);
	snprintf(words, sizeof(words), "%s", line);
	snprintf(root, sizeof(root), "%s", fs->root);
	for (char *word = strtok_r(words, " ", &save); word && argc < 15;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	status = cli_main(argc, argv, out);
	fclose(out);
	/* the folder has another name each time */
	while (fs->root[0] && (at = strstr(*printed, fs->root))) {
		memcpy(at, "ROOT", 4);
		memmove(at + 4, at + strlen(fs->root), strlen(at + strlen(fs->root)) + 1);
	}
	return status;
}

static void compare_with_golden(const char *name, const char *text)
{
	static char golden[32768];
	const char *mode = getenv("DIVVY_GOLDEN");
	char path[128];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "tests/unit/golden/%s", name);
	if (mode && !strcmp(mode, "update")) {
		file = fopen(path, "we");
		assert_non_null(file);
		fputs(text, file);
		fclose(file);
		return;
	}
	file = fopen(path, "re");
	if (!file) {
		fail_msg("%s: %s (run from the top folder)", path, strerror(errno));
		return;
	}
	n = fread(golden, 1, sizeof(golden) - 1, file);
	fclose(file);
	golden[n] = '\0';
	assert_string_equal(text, golden);
}

static void golden(const struct fake_sysfs *fs, const char *line, int status, const char *name)
{
	char *printed = NULL;

	assert_int_equal(divvy(fs, line, &printed), status);
	compare_with_golden(name, printed);
	free(printed);
}

static void device_in_order_is_ready(void **state)
{
	struct fake_sysfs fs;

	ready_machine(&fs);
	golden(&fs, "precheck " GPU " --memory 64G", CLI_OK, "precheck-ready.txt");
	golden(&fs, "precheck 01:00.0 --memory 64G --json", CLI_OK, "precheck-ready.json");
	fake_sysfs_destroy(&fs);
}

static void everything_in_the_way_is_told_at_once(void **state)
{
	struct fake_sysfs fs;
	char path[PATH_MAX];

	machine(&fs, "nouveau", "snd_hda_intel");
	link_of_gpu(&fs, "8");
	fake_sysfs_device_write(&fs, GPU, "drm/card0/uevent",
				"MAJOR=226\nMINOR=0\nDEVNAME=dri/card0\n");
	fake_sysfs_folder(&fs, "proc/812/fd");
	fake_sysfs_write(&fs, "proc/812/comm", "Xorg\n");
	fake_path(&fs, path, "proc/812/fd/9");
	assert_int_equal(symlink("/dev/dri/card0", path), 0);
	fake_sysfs_write(&fs, "proc/interrupts", "   CPU0\n  2: 9 IO-APIC 2-edge timer\n");
	golden(&fs, "precheck " GPU " --memory 4G", CLI_FAILED, "precheck-blocked.txt");
	fake_sysfs_destroy(&fs);
}

static void machine_without_iommu_is_told_how_to_get_one(void **state)
{
	struct fake_sysfs fs;

	fake_sysfs_create(&fs);
	fake_sysfs_write(&fs, "sys/firmware/acpi/tables/DMAR", "DMAR");
	fake_sysfs_add_pci(&fs, &(struct fake_pci){ .bdf = "0000:00:03.0",
						    .class_code = 0x020000,
						    .group = -1,
						    .driver = "e1000e" });
	golden(&fs, "precheck 0000:00:03.0", CLI_FAILED, "precheck-no-iommu.txt");
	fake_sysfs_destroy(&fs);
}

static void bridge_and_absent_function_end_the_check(void **state)
{
	struct fake_sysfs fs;

	ready_machine(&fs);
	golden(&fs, "precheck " PORT, CLI_FAILED, "precheck-bridge.txt");
	golden(&fs, "precheck 0000:55:00.0", CLI_FAILED, "precheck-absent.txt");
	fake_sysfs_destroy(&fs);
}

static void function_with_vfio_but_no_node_is_blocked(void **state)
{
	struct pci_address address;
	struct findings findings = { 0 };
	struct fake_sysfs fs;
	bool found = false;

	ready_machine(&fs);
	fake_sysfs_remove(&fs, "dev/vfio/2");
	assert_int_equal(pci_address_parse(GPU, &address), 0);
	vfio_precheck(fs.root, &address, 0, &findings);
	for (unsigned i = 0; i < findings.count; i++)
		found |= !strcmp(findings.items[i].code, "node-missing") &&
			 findings.items[i].level == FINDING_BLOCKER;
	assert_true(found);
	fake_sysfs_destroy(&fs);
}

static void list_names_driver_group_and_viability(void **state)
{
	struct fake_sysfs fs;
	char *printed = NULL;

	machine(&fs, "vfio-pci", "snd_hda_intel");
	golden(&fs, "list devices", CLI_OK, "list-devices.txt");
	golden(&fs, "list gpus --json", CLI_OK, "list-gpus.json");
	assert_int_equal(divvy(&fs, "list gpus", &printed), CLI_OK);
	assert_non_null(strstr(printed, GPU));
	assert_null(strstr(printed, AUDIO));
	free(printed);
	fake_sysfs_destroy(&fs);
}

static void what_is_said_fits_a_terminal(void **state)
{
	static const char *const lines[] = { "precheck " GPU, "list devices" };
	struct fake_sysfs fs;

	machine(&fs, "nouveau", "snd_hda_intel");
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		char words[64], *argv[] = {
			(char[]){ "divvy" }, (char[]){ "--root" }, fs.root, words, NULL, NULL
		};
		int status;
		char *said;

		strcpy(words, lines[i]);
		argv[4] = words;
		strsep(&argv[4], " ");
		said = on_terminal("80", 5, argv, &status);
		expect_narrow(said, 80);
		/* Not in blocks, as below any width for a table. */
		assert_non_null(strstr(said, i ? "address       id" : "BLOCKER  "));
		free(said);
	}
	fake_sysfs_destroy(&fs);
}

static void command_line_that_says_nothing_is_usage(void **state)
{
	static const char *const lines[] = {
		"",
		"precheck",
		"precheck nowhere",
		"precheck " GPU " " AUDIO,
		"precheck " GPU " --memory",
		"precheck " GPU " --memory 4X",
		"precheck " GPU " --memory 99999999999G",
		"precheck " GPU " --colour",
		"bind",
		"bind " GPU " --timeout 0",
		"list",
		"list cats",
		("frobnicate " GPU),
	};
	struct fake_sysfs fs = { "/nonexistent" };

	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		char *printed = NULL;
		int status = divvy(&fs, lines[i], &printed);

		if (status != CLI_USAGE)
			fail_msg("\"%s\" ended with %d", lines[i], status);
		assert_string_equal(printed, "");
		free(printed);
	}
}

static void error_of_bind_is_json_too(void **state)
{
	struct fake_sysfs fs;

	machine(&fs, "nouveau", "snd_hda_intel");
	golden(&fs, "bind 0000:55:00.0 --json", CLI_FAILED, "bind-absent.json");
	fake_sysfs_destroy(&fs);
}

static void bound_group_binds_again_with_nothing_to_do(void **state)
{
	struct fake_sysfs fs;

	ready_machine(&fs);
	golden(&fs, "bind " GPU, CLI_OK, "bind-bound.txt");
	golden(&fs, "bind " GPU " --json", CLI_OK, "bind-bound.json");
	fake_sysfs_destroy(&fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_in_order_is_ready),
		cmocka_unit_test(everything_in_the_way_is_told_at_once),
		cmocka_unit_test(machine_without_iommu_is_told_how_to_get_one),
		cmocka_unit_test(bridge_and_absent_function_end_the_check),
		cmocka_unit_test(function_with_vfio_but_no_node_is_blocked),
		cmocka_unit_test(list_names_driver_group_and_viability),
		cmocka_unit_test(what_is_said_fits_a_terminal),
		cmocka_unit_test(command_line_that_says_nothing_is_usage),
		cmocka_unit_test(error_of_bind_is_json_too),
		cmocka_unit_test(bound_group_binds_again_with_nothing_to_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
