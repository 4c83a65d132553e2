// SPDX-License-Identifier: Apache-2.0
/*
 * The inventory of made-up machines after real ones (fake_machines.h), and how many instances of each shipped type they can have, as golden files;
 * identities that stay; files that lie.
 *
 * DIVVY_GOLDEN=update writes the golden files instead of comparing; look at the difference then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <systemd/sd-event.h>

#include "instances/node/private.h"
#include "instances/placement/placement.h"
#include "tests/unit/fake_machines.h"
#include "tests/unit/resources.h"

static struct fake_sysfs fs;
static struct error e;

static struct node *read_with(const struct node_vulkan *vulkan, const struct node_known *known,
			      unsigned known_count)
{
	const struct node_options options = {
		.root = fs.root, .vulkan = vulkan, .known = known, .known_count = known_count
	};
	const unsigned fds = count_fds();
	struct node *node = NULL;

	assert_int_equal(node_read(&options, &node, &e), 0);
	assert_int_equal(count_fds(), fds);
	return node;
}

/* ---- golden files -------------------------------------------------------------------------------------- */

static void expect_golden(const char *text, const char *name)
{
	static char golden[262144];
	const char *update = getenv("DIVVY_GOLDEN");
	const bool write = update && !strcmp(update, "update");
	char path[128];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "tests/unit/golden/%s", name);
	file = fopen(path, write ? "w" : "r");
	if (!file) {
		fail_msg("%s: %s", path, strerror(errno));
		return;
	}
	if (write) {
		fputs(text, file);
		fclose(file);
		return;
	}
	n = fread(golden, 1, sizeof(golden) - 1, file);
	golden[n] = '\0';
	fclose(file);
	assert_string_equal(text, golden);
}

/* Not shipped, since it is the operator who knows what his GPUs are cut into (docs/types.md). */
static const char slices[] =
	"- name: mdev\n  vcpus: 1\n  memory_mib: 1024\n"
	"  gpus: [ { mode: dedicated, provider: mdev, mdev_type: GVTg_V5_8 } ]\n"
	"- name: sriov\n  vcpus: 1\n  memory_mib: 1024\n"
	"  gpus: [ { mode: dedicated, provider: sriov } ]\n";

/* The inventory as JSON, then what fits: one file a machine. */
static void print_types(FILE *out, const struct node *node, bool unisolated)
{
	static struct findings findings;
	struct type_catalogue catalogue = { 0 };
	struct placement_ledger *ledger;
	struct placement_limits limits;

	findings.count = 0;
	assert_true(type_catalogue_add_folder(&catalogue, "instances/types.d", &findings) > 0);
	assert_int_equal(
		type_catalogue_add_text(&catalogue, slices, strlen(slices), "slices", &findings),
		2);
	placement_limits_default(node, &limits);
	limits.allow_unisolated = unisolated;
	assert_int_equal(placement_ledger_create(node, &limits, &ledger, &e), 0);
	for (unsigned i = 0; i < catalogue.count; i++) {
		const unsigned count =
			placement_fits_count(ledger, &catalogue.items[i], 1000, &findings);

		fprintf(out, "%s%-10s %3u", unisolated ? "unisolated: " : "",
			catalogue.items[i].name, count);
		for (unsigned j = 0; j < MIN(findings.count, 2u); j++)
			fprintf(out, "%s[%s] %s", j ? "\n               " : "  ",
				findings.items[j].code, findings.items[j].fact);
		if (findings.count > 2)
			fprintf(out, " (and %u more)", findings.count - 2);
		fputc('\n', out);
	}
	placement_ledger_destroy(ledger);
	type_catalogue_free(&catalogue);
}

static void without_root(char *text)
{
	const size_t size = strlen(fs.root);

	for (char *at; (at = strstr(text, fs.root));)
		memmove(at, at + size, strlen(at + size) + 1);
}

/* pci.ids goes with its time; what it has is another test's. */
static void without_names(struct node *node)
{
	for (unsigned i = 0; i < node->gpu_count; i++) {
		struct node_gpu *gpu = &node->gpus[i];

		if (!gpu->has_address)
			continue;
		snprintf(gpu->name, sizeof(gpu->name), "(name of %04x:%04x)", gpu->vendor,
			 gpu->device);
		snprintf(gpu->class_name, sizeof(gpu->class_name), "(name of class %04x)",
			 gpu->class_code >> 8);
	}
}

static void golden(void (*make)(struct fake_sysfs *fs), const struct node_vulkan *vulkan,
		   const char *name)
{
	struct node *node, *again;
	char *text = NULL, file[64];
	size_t size;
	json_t *json;
	FILE *out;

	make(&fs);
	node = read_with(vulkan, NULL, 0);
	again = read_with(vulkan, NULL, 0);
	assert_true(node_equal(node, again));
	without_names(node);
	out = open_memstream(&text, &size);
	assert_non_null(out);
	json = node_json(node);
	assert_non_null(json);
	json_dumpf(json, out, JSON_INDENT(1));
	fputc('\n', out);
	json_decref(json);
	fclose(out);
	without_root(text);
	snprintf(file, sizeof(file), "node-%s.json", name);
	expect_golden(text, file);
	free(text);

	out = open_memstream(&text, &size);
	assert_non_null(out);
	print_types(out, node, false);
	if (node->acs_override)
		print_types(out, node, true);
	fclose(out);
	without_root(text);
	snprintf(file, sizeof(file), "node-%s-types.txt", name);
	expect_golden(text, file);
	free(text);
	node_free(node);
	node_free(again);
	fake_sysfs_destroy(&fs);
}

static void eight_h100_in_pairs_on_two_sockets(void **state)
{
	struct node_vulkan vulkan;

	fake_vulkan_h100(&vulkan);
	golden(fake_machine_h100, &vulkan, "h100");
}

static void virtual_machine_with_one_h200(void **state)
{
	const struct node_vulkan vulkan = {
		.count = 1,
		.gpus = { { "0000:00:06.0", "NVIDIA H200", false, 143771 } },
	};

	golden(fake_machine_h200_vm, &vulkan, "h200-vm");
}

static void laptop_with_hybrid_graphics(void **state)
{
	const struct node_vulkan vulkan = {
		.count = 3,
		.gpus = { { "0000:00:02.0", "Intel(R) Iris(R) Xe Graphics (RPL-P)", false, 11765 },
			  { "0000:01:00.0", "NVIDIA GeForce RTX 3050 Ti Laptop GPU (NVK GA107)",
			    false, 4096 },
			  { "llvmpipe__LLVM_19.1.7__256_bits_", "llvmpipe (LLVM 19.1.7, 256 bits)",
			    true, 15687 } },
	};

	golden(fake_machine_laptop, &vulkan, "laptop");
}

static void workstation_with_audio_and_usb_functions(void **state)
{
	const struct node_vulkan vulkan = {
		.count = 2,
		.gpus = { { "0000:03:00.0", "AMD Radeon RX 7900 XTX (RADV NAVI31)", false, 24560 },
			  /* another driver for the same GPU */
			  { "0000:03:00.0", "AMD Radeon RX 7900 XTX", false, 24000 } },
	};

	golden(fake_machine_workstation, &vulkan, "workstation");
}

static void node_with_virtual_functions(void **state)
{
	const struct node_vulkan vulkan = {
		.count = 1,
		.gpus = { { "0000:4d:00.0", "Intel(R) Data Center GPU Flex 170", false, 14248 } },
	};

	golden(fake_machine_sriov, &vulkan, "sriov");
}

static void desktop_whose_driver_makes_mediated_devices(void **state)
{
	golden(fake_machine_mdev, NULL, "mdev");
}

static void node_with_acs_override(void **state)
{
	const struct node_vulkan vulkan = {
		.count = 2,
		.gpus = { { "0000:01:00.0", "NVIDIA GeForce RTX 3090 (NVK GA102)", false, 24576 },
			  /* stale: it is on vfio-pci by now */
			  { "0000:02:00.0", "NVIDIA GeForce RTX 3090 (NVK GA102)", false, 24576 } },
	};

	golden(fake_machine_acs_override, &vulkan, "acs-override");
}

static void machine_whose_iommu_is_off(void **state)
{
	golden(fake_machine_no_iommu, NULL, "no-iommu");
}

/* ---- identities ------------------------------------------------------------------------------------------ */

#define UUID "GPU-5a1f0d3c-0000-4b8e-9d2a-00000000001b"

static void id_stays_while_the_driver_that_told_it_is_away(void **state)
{
	static const uint8_t vpd[] = { 0x90, 7, 0, 'S', 'N', 4, '1', '3', '2', '0', 0x78 };
	struct node_known known[8];
	char path[PATH_MAX];
	struct node *node;

	fake_machine_h100(&fs);
	node = read_with(NULL, NULL, 0);
	assert_string_equal(node->gpus[0].id, UUID);
	for (unsigned i = 0; i < 8; i++) {
		strcpy(known[i].id, node->gpus[i].id);
		known[i].address = node->gpus[i].address;
		known[i].vendor = node->gpus[i].vendor;
		known[i].device = node->gpus[i].device;
	}
	node_free(node);
	fake_sysfs_remove(&fs, "proc/driver/nvidia/gpus/0000:1b:00.0/information");
	fake_sysfs_set_driver(&fs, "0000:1b:00.0", "vfio-pci");
	node = read_with(NULL, NULL, 0);
	assert_string_equal(node->gpus[0].id, "pci-0000:1b:00.0");
	node_free(node);
	node = read_with(NULL, known, 8);
	assert_string_equal(node->gpus[0].id, UUID);
	assert_ptr_equal(node_gpu_find(node, UUID), &node->gpus[0]);
	assert_ptr_equal(node_gpu_find(node, "1b:00.0"), &node->gpus[0]);
	assert_ptr_equal(node_gpu_find(node, "pci-0000:1b:00.0"), &node->gpus[0]);
	assert_null(node_gpu_find(node, "pci-0000:1c:00.0"));
	node_free(node);
	/* A number from elsewhere does not say that it is another. */
	fake_sysfs_device_path(&fs, "0000:1b:00.0", path);
	strcat(path, "/vpd");
	fake_sysfs_write_bytes(&fs, path, vpd, sizeof(vpd));
	node = read_with(NULL, NULL, 0);
	assert_string_equal(node->gpus[0].id, "serial-1320");
	node_free(node);
	node = read_with(NULL, known, 8);
	assert_string_equal(node->gpus[0].id, UUID);
	node_free(node);
	/* Another card in its place is another one. */
	fake_sysfs_remove(&fs, path);
	fake_sysfs_device_write(&fs, "0000:1b:00.0", "device", "0x2331\n");
	node = read_with(NULL, known, 8);
	assert_string_equal(node->gpus[0].id, "pci-0000:1b:00.0");
	node_free(node);
	fake_sysfs_destroy(&fs);
}

static void id_goes_with_the_card_to_another_slot(void **state)
{
	struct node_known known = { .id = UUID, .vendor = 0x10de, .device = 0x2330 };
	struct node *node;

	fake_machine_h100(&fs);
	/* It was at another address, where now another card is. */
	assert_int_equal(pci_address_parse("0000:43:00.0", &known.address), 0);
	node = read_with(NULL, &known, 1);
	assert_string_equal(node->gpus[0].id, UUID);
	assert_string_not_equal(node->gpus[1].id, UUID);
	node_free(node);
	fake_sysfs_destroy(&fs);
}

static void address_stays_an_id_that_was_once_given(void **state)
{
	struct node_known known = { .id = "pci-0000:1b:00.0", .vendor = 0x10de, .device = 0x2330 };
	struct node *node;

	fake_machine_h100(&fs);
	assert_int_equal(pci_address_parse("0000:1b:00.0", &known.address), 0);
	node = read_with(NULL, &known, 1);
	assert_string_equal(node->gpus[0].id, "pci-0000:1b:00.0");
	assert_string_equal(node->gpus[0].serial, UUID);
	node_free(node);
	fake_sysfs_destroy(&fs);
}

static void ids_outlive_who_reads_them(void **state)
{
	static struct node_ids ids, again;
	struct node *node;
	char path[96];

	fake_machine_h100(&fs);
	snprintf(path, sizeof(path), "%s/ids.json", fs.root);
	assert_int_equal(node_ids_load(path, &ids, &e), 0);
	assert_int_equal(ids.count, 0);
	node = read_with(NULL, NULL, 0);
	assert_true(node_ids_learn(&ids, node));
	assert_false(node_ids_learn(&ids, node));
	assert_int_equal(node_ids_save(path, &ids, &e), 0);
	node_free(node);
	fake_sysfs_remove(&fs, "proc/driver/nvidia/gpus/0000:1b:00.0/information");
	assert_int_equal(node_ids_load(path, &again, &e), 0);
	assert_int_equal(again.count, 8);
	node = read_with(NULL, again.items, again.count);
	assert_string_equal(node->gpus[0].id, UUID);
	assert_false(node_ids_learn(&again, node));
	node_free(node);
	/* Files that are none, and entries that are none. */
	fake_sysfs_write(&fs, "ids.json", "{\"gpus\": [");
	assert_int_equal(node_ids_load(path, &again, &e), -EINVAL);
	assert_string_equal(e.code, "gpu-ids-unreadable");
	fake_sysfs_write(
		&fs, "ids.json",
		"{\"gpus\": [7, {}, {\"id\": \"../x\", \"address\": \"0000:1b:00.0\", "
		"\"vendor\": \"10de\", \"device\": \"2330\"}, {\"id\": \"x\", \"address\": \"no\", "
		"\"vendor\": \"10de\", \"device\": \"2330\"}]}");
	assert_int_equal(node_ids_load(path, &again, &e), 0);
	assert_int_equal(again.count, 0);
	fake_sysfs_folder(&fs, "ids.json.new");
	assert_int_equal(node_ids_save(path, &ids, &e), -EISDIR);
	assert_string_equal(e.code, "gpu-ids-unwritten");
	fake_sysfs_destroy(&fs);
}

static void number_that_two_have_is_no_identity(void **state)
{
	struct node *node;

	fake_machine_acs_override(&fs);
	fake_sysfs_device_write(&fs, "0000:01:00.0", "unique_id", "1234567890abcdef\n");
	fake_sysfs_device_write(&fs, "0000:02:00.0", "unique_id", "1234567890abcdef\n");
	node = read_with(NULL, NULL, 0);
	assert_string_equal(node->gpus[0].id, "pci-0000:01:00.0");
	assert_string_equal(node->gpus[1].id, "pci-0000:02:00.0");
	node_free(node);
	fake_sysfs_device_write(&fs, "0000:02:00.0", "unique_id", "0\n");
	node = read_with(NULL, NULL, 0);
	assert_string_equal(node->gpus[0].id, "amdgpu-1234567890abcdef");
	assert_string_equal(node->gpus[1].id, "pci-0000:02:00.0");
	node_free(node);
	fake_sysfs_destroy(&fs);
}

static void serial_numbers_of_vpd_and_config_space(void **state)
{
	/* "Board" as the name, then read-only data with a part number and a serial number. */
	static const uint8_t vpd[] = { 0x82, 5,	  0,   'B', 'o', 'a', 'r', 'd', 0x90, 16,
				       0,    'P', 'N', 3,   'x', 'y', 'z', 'S', 'N',  7,
				       '1',  '3', '2', '0', '0', '1', ' ', 0x78 };
	char folder[PATH_MAX], path[PATH_MAX + 8];
	uint8_t config[4096];
	struct node *node;

	fake_machine_acs_override(&fs);
	fake_sysfs_device_path(&fs, "0000:01:00.0", folder);
	snprintf(path, sizeof(path), "%s/vpd", folder);
	fake_sysfs_write_bytes(&fs, path, vpd, sizeof(vpd));
	fake_sysfs_device_path(&fs, "0000:02:00.0", folder);
	snprintf(path, sizeof(path), "%s/config", folder);
	fake_config_endpoint(config, 0x10de, 0x2204, 0x030000);
	fake_config_add_extended(config, 0x100, 1);
	fake_config_add_extended(config, 0x140, 3);
	fake_put32(config, 0x144, 0x89abcdef);
	fake_put32(config, 0x148, 0x01234567);
	fake_sysfs_write_bytes(&fs, path, config, sizeof(config));
	node = read_with(NULL, NULL, 0);
	assert_string_equal(node->gpus[0].id, "serial-132001");
	assert_string_equal(node->gpus[1].id, "dsn-0123456789abcdef");
	node_free(node);
	/* What sleeps deeply is not woken for it. */
	fake_sysfs_device_write(&fs, "0000:02:00.0", "power_state", "D3cold\n");
	node = read_with(NULL, NULL, 0);
	assert_string_equal(node->gpus[1].id, "pci-0000:02:00.0");
	node_free(node);
	/* A chain that is a ring, one that leaves the file, vital product data that ends early. */
	fake_sysfs_device_write(&fs, "0000:02:00.0", "power_state", "D0\n");
	fake_put32(config, 0x140, 0x10010001);
	fake_sysfs_write_bytes(&fs, path, config, sizeof(config));
	node = read_with(NULL, NULL, 0);
	assert_string_equal(node->gpus[1].id, "pci-0000:02:00.0");
	node_free(node);
	for (size_t size = 0; size < sizeof(vpd); size++) {
		fake_sysfs_device_path(&fs, "0000:01:00.0", folder);
		snprintf(path, sizeof(path), "%s/vpd", folder);
		fake_sysfs_write_bytes(&fs, path, vpd, size);
		node = read_with(NULL, NULL, 0);
		assert_true(size >= 27 || !strcmp(node->gpus[0].id, "pci-0000:01:00.0"));
		node_free(node);
	}
	fake_sysfs_destroy(&fs);
}

/* ---- lies -------------------------------------------------------------------------------------------------- */

static void files_that_lie_are_left_out(void **state)
{
	static const char *const attributes[] = {
		"numa_node",	      "local_cpulist",	"power_state",	    "current_link_speed",
		"current_link_width", "max_link_speed", "max_link_width",   "boot_vga",
		"reset_method",	      "resource",	"unique_id",	    "mem_info_vram_total",
		"sriov_totalvfs",     "sriov_numvfs",	"subsystem_vendor", "vendor",
	};
	static const char *const lies[] = {
		"",
		"\n",
		"-1\n",
		"99999999999999999999\n",
		"0xffffffffffffffff\n",
		"\033[2J",
		"nonsense\n",
		"18446744073709551615\n",
		"4294967296\n",
		"0x\n",
		"0-99999999\n",
	};
	struct node *node;

	fake_machine_workstation(&fs);
	for (unsigned i = 0; i < ARRAY_SIZE(attributes); i++)
		for (unsigned j = 0; j < ARRAY_SIZE(lies); j++) {
			json_t *json;
			char *text;

			fake_sysfs_device_write(&fs, "0000:03:00.0", attributes[i], "%s", lies[j]);
			node = read_with(NULL, NULL, 0);
			assert_int_equal(node->gpu_count, 2);
			assert_in_range(node->gpus[0].numa_node + 1, 0, CPU_LIST_MAX);
			json = node_json(node);
			text = json_dumps(json, 0);
			assert_non_null(text);
			for (const char *c = text; *c; c++)
				assert_true(*c >= ' ' && *c <= '~');
			free(text);
			json_decref(json);
			node_free(node);
		}
	fake_sysfs_destroy(&fs);
}

static void machine_without_anything_has_nothing(void **state)
{
	struct node *node;

	snprintf(fs.root, sizeof(fs.root), "/nowhere");
	node = read_with(NULL, NULL, 0);
	assert_int_equal(node->gpu_count, 0);
	assert_int_equal(node->cpu_count, 0);
	assert_int_equal(node->numa_count, 0);
	node_free(node);
	fs.root[0] = '\0';
}

static void more_functions_than_there_is_room_for_are_said(void **state)
{
	struct node *node;

	fake_sysfs_create(&fs);
	for (unsigned i = 0; i < NODE_GPUS_MAX + 1; i++) {
		char bdf[16];

		snprintf(bdf, sizeof(bdf), "0000:%02x:%02x.0", i / 32, i % 32);
		fake_sysfs_add_pci(
			&fs, &(struct fake_pci){ .bdf = bdf, .class_code = 0x030000, .group = -1 });
	}
	node = read_with(NULL, NULL, 0);
	assert_int_equal(node->gpu_count, NODE_GPUS_MAX);
	assert_true(node->truncated);
	node_free(node);
	fake_sysfs_destroy(&fs);
}

static void selectors_name_what_they_say(void **state)
{
	const struct node_vulkan vulkan = {
		.count = 1,
		.gpus = { { "llvmpipe__LLVM_19.1.7__256_bits_", "llvmpipe (LLVM 19.1.7, 256 bits)",
			    true, 1024 } },
	};
	static const struct {
		const char *selector;
		bool gpu, software;
	} cases[] = {
		{ "", true, true },
		{ "software", false, true },
		{ "software-0", false, true },
		{ "llvmpipe", false, true },
		{ "amdgpu-a7ba6d3f1c0e52b8", true, false },
		{ "0000:03:00.0", true, false },
		{ "03:00.0", true, false },
		{ "pci-0000:03:00.0", true, false },
		{ "04:00.0", false, false },
		{ "1002:744c", true, false },
		{ "1002:744C", true, false },
		{ "1002:744d", false, false },
		{ "navi 31", true, false },
		{ "H100", false, false },
	};
	struct node *node;

	fake_machine_workstation(&fs);
	node = read_with(&vulkan, NULL, 0);
	assert_int_equal(node->gpu_count, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(node_gpu_matches(&node->gpus[0], cases[i].selector), cases[i].gpu);
		assert_int_equal(node_gpu_matches(&node->gpus[2], cases[i].selector),
				 cases[i].software);
	}
	node_free(node);
	fake_sysfs_destroy(&fs);
}

static void second_display_function_is_no_second_gpu(void **state)
{
	struct node *node;

	fake_machine_workstation(&fs);
	fake_sysfs_device_write(&fs, "0000:03:00.1", "class", "0x038000\n");
	node = read_with(NULL, NULL, 0);
	assert_int_equal(node->gpu_count, 2);
	assert_int_equal(node->gpus[0].function_count, 4);
	node_free(node);
	fake_sysfs_destroy(&fs);
	/* Virtual functions are GPUs of their own, in whatever slot. */
	fake_machine_sriov(&fs);
	node = read_with(NULL, NULL, 0);
	assert_int_equal(node->gpu_count, 4);
	node_free(node);
	fake_sysfs_destroy(&fs);
}

static void changed(void *opaque)
{
	++*(unsigned *)opaque;
}

/* No udev speaks here: what is held is that it begins, hears nothing, and leaves nothing. */
static void watch_leaves_nothing_behind(void **state)
{
	const unsigned fds = count_fds();
	struct node_watch *watch = NULL;
	sd_event *event = NULL;
	unsigned count = 0;

	assert_int_equal(sd_event_new(&event), 0);
	if (node_watch_create(event, changed, &count, &watch, &e)) {
		assert_string_equal(e.code, "no-udev");
		sd_event_unref(event);
		assert_int_equal(count_fds(), fds);
		skip();
	}
	assert_true(sd_event_run(event, 0) >= 0);
	assert_int_equal(count, 0);
	node_watch_destroy(watch);
	node_watch_destroy(NULL);
	sd_event_unref(event);
	assert_int_equal(count_fds(), fds);
}

static void names_are_those_of_pci_ids(void **state)
{
	struct node *node;

	fake_machine_h100(&fs);
	node = read_with(NULL, NULL, 0);
	assert_non_null(strstr(node->gpus[0].name, "NVIDIA"));
	assert_non_null(strstr(node->gpus[0].name, "H100"));
	assert_non_null(strstr(node->gpus[0].class_name, "3D"));
	node_free(node);
	fake_sysfs_destroy(&fs);
}

static void change_is_seen(void **state)
{
	struct node *before, *after;

	fake_machine_workstation(&fs);
	before = read_with(NULL, NULL, 0);
	fake_sysfs_set_driver(&fs, "0000:03:00.0", "vfio-pci");
	after = read_with(NULL, NULL, 0);
	assert_false(node_equal(before, after));
	node_free(before);
	node_free(after);
	fake_sysfs_destroy(&fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eight_h100_in_pairs_on_two_sockets),
		cmocka_unit_test(virtual_machine_with_one_h200),
		cmocka_unit_test(laptop_with_hybrid_graphics),
		cmocka_unit_test(workstation_with_audio_and_usb_functions),
		cmocka_unit_test(node_with_virtual_functions),
		cmocka_unit_test(desktop_whose_driver_makes_mediated_devices),
		cmocka_unit_test(node_with_acs_override),
		cmocka_unit_test(machine_whose_iommu_is_off),
		cmocka_unit_test(id_stays_while_the_driver_that_told_it_is_away),
		cmocka_unit_test(id_goes_with_the_card_to_another_slot),
		cmocka_unit_test(address_stays_an_id_that_was_once_given),
		cmocka_unit_test(ids_outlive_who_reads_them),
		cmocka_unit_test(number_that_two_have_is_no_identity),
		cmocka_unit_test(serial_numbers_of_vpd_and_config_space),
		cmocka_unit_test(files_that_lie_are_left_out),
		cmocka_unit_test(machine_without_anything_has_nothing),
		cmocka_unit_test(more_functions_than_there_is_room_for_are_said),
		cmocka_unit_test(selectors_name_what_they_say),
		cmocka_unit_test(second_display_function_is_no_second_gpu),
		cmocka_unit_test(watch_leaves_nothing_behind),
		cmocka_unit_test(names_are_those_of_pci_ids),
		cmocka_unit_test(change_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
