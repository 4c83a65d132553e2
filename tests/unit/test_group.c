// SPDX-License-Identifier: Apache-2.0
/* Isolation groups: what is read of them, when they are viable, and the words when they are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "iommu/private.h"
#include "tests/unit/fake_sysfs.h"

#define PORT   "0000:00:01.0"
#define GPU    "0000:01:00.0"
#define AUDIO  "0000:01:00.1"
#define OTHER  "0000:02:00.0"
#define SWITCH "0000:02:01.0"

static struct fake_sysfs fs;
static struct iommu_group group;
static struct error err;
static unsigned fds_before;

static unsigned count_fds(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static int setup(void **state)
{
	memset(&err, 0, sizeof(err));
	fake_sysfs_create(&fs);
	fake_sysfs_add_iommu(&fs, "dmar0");
	fake_sysfs_cmdline(&fs, "quiet intel_iommu=on");
	fake_sysfs_write(&fs, "proc/interrupts",
			 "           CPU0       CPU1\n"
			 "  1:          9          0  IR-IO-APIC   1-edge      i8042\n");
	fds_before = count_fds();
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(count_fds(), fds_before);
	fake_sysfs_destroy(&fs);
	return 0;
}

/* A port with the given ACS bits (capability 0: no ACS at all). */
static void add_port(const char *bdf, const char *parent, int number, unsigned type,
		     unsigned capability, unsigned control)
{
	uint8_t config[4096];

	fake_config_bridge(config, 0x8086, 0x1901);
	fake_put16(config, 0x42, 2 | type << 4);
	fake_config_add_extended(config, 0x100, 0x01);
	if (capability)
		fake_config_add_acs(config, 0x140, capability, control);
	fake_sysfs_add_pci(&fs, &(struct fake_pci){ .bdf = bdf,
						    .class_code = 0x060400,
						    .driver = "pcieport",
						    .group = number,
						    .parent = parent,
						    .config = config,
						    .config_size = sizeof(config) });
}

static void add(const char *bdf, const char *parent, int number, const char *driver)
{
	fake_sysfs_add_pci(&fs, &(struct fake_pci){ .bdf = bdf,
						    .vendor = 0x10de,
						    .device = 0x2330,
						    .class_code = 0x030200,
						    .driver = driver,
						    .group = number,
						    .parent = parent });
}

static int load(const char *bdf)
{
	struct pci_address address;

	assert_int_equal(pci_address_parse(bdf, &address), 0);
	return iommu_group_load(fs.root, &address, &group, &err);
}

static int check(const char *bdf)
{
	struct pci_address address;

	assert_int_equal(load(bdf), 0);
	assert_int_equal(pci_address_parse(bdf, &address), 0);
	return iommu_group_check_viable(&group, &address, &err);
}

static const struct finding *find(const struct findings *findings, const char *code)
{
	for (unsigned i = 0; i < findings->count; i++)
		if (!strcmp(findings->items[i].code, code))
			return &findings->items[i];
	return NULL;
}

/* One that must be there. */
static const struct finding *get(const struct findings *findings, const char *code)
{
	const struct finding *finding = find(findings, code);

	if (!finding) {
		fail_msg("there is no finding \"%s\"", code);
		abort();
	}
	return finding;
}

static void precheck(const char *bdf, struct findings *findings)
{
	struct pci_address address;

	memset(findings, 0, sizeof(*findings));
	assert_int_equal(pci_address_parse(bdf, &address), 0);
	iommu_precheck(fs.root, &address, findings);
}

static void assert_says(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* ---- reading -------------------------------------------------------------------------------- */

static void members_are_read_in_order_with_ids_and_drivers(void **state)
{
	add_port(PORT, NULL, 1, 4, 0x1f, 0x1d);
	add(AUDIO, PORT, 2, NULL);
	add(GPU, PORT, 2, "nouveau");
	assert_int_equal(load(AUDIO), 0);
	assert_int_equal(group.id, 2);
	assert_string_equal(group.type, "DMA-FQ");
	assert_int_equal(group.member_count, 2);
	assert_int_equal(group.members[0].address.function, 0);
	assert_int_equal(group.members[0].vendor, 0x10de);
	assert_int_equal(group.members[0].device, 0x2330);
	assert_int_equal(group.members[0].class_code, 0x030200);
	assert_string_equal(group.members[0].driver, "nouveau");
	assert_false(group.members[0].is_bridge);
	assert_string_equal(group.members[1].driver, "");
}

static void upstream_bridges_come_nearest_first_with_their_acs(void **state)
{
	add_port(PORT, NULL, 1, 4, 0x1f, 0x1d);
	add_port("0000:01:00.0", PORT, 2, 5, 0, 0);
	add_port(SWITCH, "0000:01:00.0", 3, 6, 0x5f, 0);
	add("0000:03:00.0", SWITCH, 4, NULL);
	assert_int_equal(load("0000:03:00.0"), 0);
	assert_int_equal(group.upstream_count, 3);
	assert_int_equal(group.upstream[0].address.bus, 2);
	assert_int_equal(group.upstream[0].port_type, IOMMU_PORT_DOWNSTREAM);
	assert_int_equal(group.upstream[0].acs_capability, 0x5f);
	assert_int_equal(group.upstream[0].acs_control, 0);
	assert_int_equal(group.upstream[1].port_type, IOMMU_PORT_UPSTREAM);
	assert_false(group.upstream[1].has_acs);
	assert_true(group.upstream[2].has_acs);
	assert_int_equal(group.upstream[2].port_type, IOMMU_PORT_ROOT);
	assert_int_equal(group.upstream[2].acs_control, 0x1d);
}

static void reserved_regions_are_read_and_bad_lines_left_out(void **state)
{
	add(GPU, NULL, 2, NULL);
	fake_sysfs_group_reserved(&fs, 2,
				  "0x00000000fee00000 0x00000000feefffff msi\n"
				  "rubbish\n"
				  "0x2000 0x1000 direct\n"
				  "0x99999999999999999999 0x1 msi\n"
				  "0x000000fd00000000 0x000000ffffffffff reserved\n");
	assert_int_equal(load(GPU), 0);
	assert_int_equal(group.reserved_count, 2);
	assert_int_equal(group.reserved[0].start, 0xfee00000);
	assert_int_equal(group.reserved[0].last, 0xfeefffff);
	assert_string_equal(group.reserved[0].type, "msi");
	assert_string_equal(group.reserved[1].type, "reserved");
}

static void more_reserved_regions_than_fit_are_cut(void **state)
{
	char lines[8192] = "";

	add(GPU, NULL, 2, NULL);
	for (unsigned i = 0; i < 100; i++)
		snprintf(lines + strlen(lines), sizeof(lines) - strlen(lines), "0x%x 0x%x msi\n",
			 i << 16, (i << 16) + 0xfff);
	fake_sysfs_group_reserved(&fs, 2, lines);
	assert_int_equal(load(GPU), 0);
	assert_int_equal(group.reserved_count, IOMMU_GROUP_RESERVED_MAX);
}

static void a_device_that_is_not_there_is_named(void **state)
{
	assert_int_equal(load(GPU), -ENOENT);
	assert_string_equal(err.code, "no-such-device");
	assert_says(err.text, GPU);
	assert_int_equal(group.member_count, 0);
}

static void a_device_without_a_group_is_told_from_a_missing_one(void **state)
{
	add(GPU, NULL, -1, NULL);
	assert_int_equal(load(GPU), -ENODEV);
	assert_string_equal(err.code, "no-iommu-group");
	assert_says(err.next, "divvy precheck " GPU);
}

static void a_group_of_vfio_without_iommu_is_refused(void **state)
{
	add(GPU, NULL, 2, "vfio-pci");
	fake_sysfs_write(&fs, "sys/kernel/iommu_groups/2/name", "vfio-noiommu\n");
	assert_int_equal(load(GPU), -ENODEV);
	assert_string_equal(err.code, "no-iommu-group");
}

static void a_group_number_that_is_none_is_refused(void **state)
{
	add(GPU, NULL, -1, NULL);
	fake_sysfs_folder(&fs, "sys/kernel/iommu_groups/-7");
	fake_sysfs_link(&fs, "sys/devices/pci0000:01/" GPU "/iommu_group",
			"sys/kernel/iommu_groups/-7");
	assert_int_equal(load(GPU), -ENODEV);
	assert_string_equal(err.code, "no-iommu-group");
}

static void a_group_of_64_is_read_and_one_of_65_is_too_large(void **state)
{
	char bdf[16];

	for (unsigned i = 0; i < 64; i++) {
		snprintf(bdf, sizeof(bdf), "0000:05:%02x.%x", i / 8, i % 8);
		add(bdf, NULL, 5, NULL);
	}
	assert_int_equal(load("0000:05:00.0"), 0);
	assert_int_equal(group.member_count, 64);
	add("0000:05:1f.0", NULL, 5, NULL);
	assert_int_equal(load("0000:05:00.0"), -E2BIG);
	assert_string_equal(err.code, "group-too-large");
}

static void empty_and_absurd_attributes_read_as_zero(void **state)
{
	add(GPU, NULL, 2, NULL);
	fake_sysfs_device_write(&fs, GPU, "vendor", "%s", "");
	fake_sysfs_device_write(&fs, GPU, "device", "not a number\n");
	fake_sysfs_device_write(&fs, GPU, "config", "%s", "");
	assert_int_equal(load(GPU), 0);
	assert_int_equal(group.members[0].vendor, 0);
	assert_int_equal(group.members[0].device, 0);
	assert_false(group.members[0].is_bridge);
}

/* ---- configuration space of bridges ----------------------------------------------------------- */

static void sixty_four_bytes_of_config_mean_that_acs_is_unknown(void **state)
{
	struct iommu_upstream upstream;
	uint8_t config[4096];

	fake_config_bridge(config, 0x8086, 1);
	fake_config_add_acs(config, 0x100, 0x1f, 0x1d);
	config_parse_bridge(config, 64, &upstream);
	assert_false(upstream.config_readable);
	assert_false(upstream.has_acs);
	assert_int_equal(upstream.port_type, IOMMU_PORT_UNKNOWN);
	config_parse_bridge(config, 4096, &upstream);
	assert_true(upstream.config_readable);
	assert_true(upstream.has_acs);
}

/* Exactly as many bytes as there are, so that a sanitizer sees one read too many. */
static void config_cut_anywhere_is_not_read_beyond(void **state)
{
	struct iommu_upstream upstream;
	uint8_t config[4096];

	fake_config_bridge(config, 0x8086, 1);
	fake_config_add_extended(config, 0x100, 1);
	fake_config_add_acs(config, 0x148, 0x1f, 0x1d);
	for (size_t size = 0; size <= 0x160; size++) {
		uint8_t *copy = malloc(size ? size : 1);

		assert_non_null(copy);
		memcpy(copy, config, size);
		config_parse_bridge(copy, size, &upstream);
		assert_int_equal(upstream.has_acs, size >= 0x150);
		free(copy);
	}
}

static void capability_chains_that_loop_end(void **state)
{
	struct iommu_upstream upstream;
	uint8_t config[4096];

	fake_config_bridge(config, 0x8086, 1);
	config[0x40] = 0x05; /* not PCI Express, and its next is itself */
	config[0x41] = 0x40;
	fake_put32(config, 0x100, 0x0001 | 0x200u << 20);
	fake_put32(config, 0x200, 0x0001 | 0x100u << 20);
	config_parse_bridge(config, sizeof(config), &upstream);
	assert_false(upstream.has_acs);
	assert_int_equal(upstream.port_type, IOMMU_PORT_CONVENTIONAL);
	memset(config, 0xff, sizeof(config));
	config_parse_bridge(config, sizeof(config), &upstream);
	assert_false(upstream.has_acs);
}

/* ---- viability -------------------------------------------------------------------------------- */

static void a_group_of_one_on_vfio_is_viable(void **state)
{
	add(GPU, NULL, 2, "vfio-pci");
	assert_int_equal(check(GPU), 0);
}

static void driverless_members_variants_and_stubs_are_viable(void **state)
{
	add(GPU, NULL, 2, "nvgrace-gpu-vfio-pci");
	add(AUDIO, NULL, 2, NULL);
	add(OTHER, NULL, 2, "pci-stub");
	add("0000:02:00.1", NULL, 2, "mlx5_vfio_pci");
	assert_int_equal(check(GPU), 0);
}

static void bridges_in_the_group_are_exempt(void **state)
{
	add_port(PORT, NULL, 2, 4, 0, 0);
	add(GPU, PORT, 2, "vfio-pci");
	assert_int_equal(check(GPU), 0);
	assert_true(group.members[0].is_bridge);
}

static void a_companion_on_a_host_driver_is_named_with_the_port_without_acs(void **state)
{
	add_port(PORT, NULL, 2, 4, 0, 0);
	add(GPU, PORT, 2, "vfio-pci");
	add(OTHER, PORT, 2, "xhci_hcd");
	assert_int_equal(check(GPU), -EBUSY);
	assert_string_equal(err.code, "group-not-viable");
	assert_says(err.text, OTHER " (driver xhci_hcd)");
	assert_says(err.text, "port " PORT " above them has no ACS");
	assert_null(strstr(err.text, GPU " (driver"));
	assert_string_equal(err.next, "divvy bind " GPU);
}

static void acs_that_is_not_switched_on_is_told_from_none(void **state)
{
	add_port(PORT, NULL, 1, 4, 0x1f, 0x01);
	add(GPU, PORT, 2, "vfio-pci");
	add(OTHER, PORT, 2, "xhci_hcd");
	assert_int_equal(check(GPU), -EBUSY);
	assert_says(err.text, "ACS but not switched on (control 0x0001 of 0x001f)");
}

static void functions_of_one_device_are_explained(void **state)
{
	add_port(PORT, NULL, 1, 4, 0x1f, 0x1d);
	add(GPU, PORT, 2, "vfio-pci");
	add(AUDIO, PORT, 2, "snd_hda_intel");
	assert_int_equal(check(GPU), -EBUSY);
	assert_says(err.text, AUDIO " (driver snd_hda_intel)");
	assert_says(err.text, "functions of one device");
}

static void a_bridge_to_conventional_pci_is_explained(void **state)
{
	add_port(PORT, NULL, 2, 7, 0, 0);
	add(GPU, PORT, 2, "vfio-pci");
	add(OTHER, PORT, 2, "e1000");
	assert_int_equal(check(GPU), -EBUSY);
	assert_says(err.text, PORT ", a bridge to conventional PCI");
}

static void config_that_needs_root_is_said(void **state)
{
	uint8_t config[4096];

	fake_config_bridge(config, 0x8086, 1);
	fake_sysfs_add_pci(&fs, &(struct fake_pci){ .bdf = PORT,
						    .class_code = 0x060400,
						    .group = 2,
						    .config = config,
						    .config_size = 64 });
	add(GPU, PORT, 2, "vfio-pci");
	add(OTHER, PORT, 2, "e1000");
	assert_int_equal(check(GPU), -EBUSY);
	assert_says(err.text, "needs root");
}

static void the_device_itself_on_a_host_driver_is_in_the_way(void **state)
{
	add(GPU, NULL, 2, "nouveau");
	assert_int_equal(check(GPU), -EBUSY);
	assert_says(err.text, GPU " (driver nouveau)");
	assert_null(strstr(err.text, "share"));
}

static void many_members_in_the_way_are_counted(void **state)
{
	char bdf[16];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(bdf, sizeof(bdf), "0000:05:%02x.%x", i / 8, i % 8);
		add(bdf, NULL, 5, "a_driver_with_a_very_long_name_indeed_that_goes_on_and_on");
	}
	assert_int_equal(check("0000:05:00.0"), -EBUSY);
	assert_says(err.text, "and 32 more");
}

/* ---- precheck --------------------------------------------------------------------------------- */

static void nothing_in_the_way_has_no_blocker(void **state)
{
	struct findings findings;

	add_port(PORT, NULL, 1, 4, 0x1f, 0x1d);
	add(GPU, PORT, 2, "vfio-pci");
	precheck(GPU, &findings);
	assert_int_equal(findings_blockers(&findings), 0);
	assert_non_null(find(&findings, "iommu-present"));
	assert_non_null(find(&findings, "interrupt-remapping"));
	assert_non_null(find(&findings, "group"));
	assert_null(find(&findings, "group-shared"));
}

static void an_iommu_that_is_off_names_what_switches_it_on(void **state)
{
	struct findings findings;

	add(GPU, NULL, -1, NULL);
	fake_sysfs_remove(&fs, "sys/class/iommu/dmar0");
	fake_sysfs_cmdline(&fs, "quiet");
	precheck(GPU, &findings);
	assert_int_equal(get(&findings, "iommu-missing")->level, FINDING_BLOCKER);
	fake_sysfs_write(&fs, "proc/cpuinfo", "vendor_id\t: AuthenticAMD\n");
	precheck(GPU, &findings);
	assert_says(get(&findings, "iommu-missing")->next, "AMD-Vi");
	fake_sysfs_write(&fs, "sys/firmware/acpi/tables/DMAR", "DMAR");
	precheck(GPU, &findings);
	assert_says(get(&findings, "iommu-off")->next, "intel_iommu=on");
	assert_int_equal(get(&findings, "no-iommu-group")->level, FINDING_BLOCKER);
	fake_sysfs_cmdline(&fs, "intel_iommu=on,sm_off iommu=off");
	precheck(GPU, &findings);
	assert_says(get(&findings, "iommu-disabled")->fact, "iommu=off");
}

static void identity_is_a_note(void **state)
{
	struct findings findings;

	add(GPU, NULL, 2, "vfio-pci");
	fake_sysfs_group_type(&fs, 2, "identity");
	fake_sysfs_cmdline(&fs, "intel_iommu=on iommu=pt");
	precheck(GPU, &findings);
	assert_int_equal(get(&findings, "group-identity")->level, FINDING_NOTE);
	assert_says(get(&findings, "group-identity")->fact, "iommu=pt");
	assert_int_equal(findings_blockers(&findings), 0);
}

static void missing_interrupt_remapping_is_a_blocker_unless_allowed(void **state)
{
	struct findings findings;

	add(GPU, NULL, 2, "vfio-pci");
	fake_sysfs_write(&fs, "proc/interrupts",
			 "  1:  9   IO-APIC   1-edge      i8042\n"
			 " 30:  9   PCI-MSI-0000:00:02.0 0-edge eth0\n");
	precheck(GPU, &findings);
	assert_int_equal(get(&findings, "no-interrupt-remapping")->level, FINDING_BLOCKER);
	fake_sysfs_write(&fs, "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
			 "Y\n");
	precheck(GPU, &findings);
	assert_int_equal(get(&findings, "no-interrupt-remapping")->level, FINDING_NOTE);
	assert_int_equal(get(&findings, "unsafe-interrupts-allowed")->level, FINDING_NOTE);
}

static void remapping_is_found_across_read_boundaries_and_unknown_without_an_ioapic(void **state)
{
	struct findings findings;
	char text[9000];

	add(GPU, NULL, 2, "vfio-pci");
	fake_sysfs_write(&fs, "proc/interrupts", " 30:  9   PCI-MSI-0000:00:02.0 0-edge eth0\n");
	precheck(GPU, &findings);
	assert_int_equal(get(&findings, "interrupt-remapping-unknown")->level, FINDING_NOTE);
	for (unsigned at = 4080; at < 4100; at++) {
		memset(text, ' ', sizeof(text));
		memcpy(text + at, "IR-PCI-MSI-0000:00:02.0", 23);
		fake_sysfs_write_bytes(&fs, "proc/interrupts", text, sizeof(text));
		precheck(GPU, &findings);
		assert_non_null(find(&findings, "interrupt-remapping"));
	}
}

static void acs_override_and_mode_without_iommu_are_named(void **state)
{
	struct findings findings;

	add(GPU, NULL, 2, "vfio-pci");
	fake_sysfs_cmdline(&fs, "intel_iommu=on pcie_acs_override=downstream,multifunction");
	fake_sysfs_write(&fs, "sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
	precheck(GPU, &findings);
	assert_int_equal(get(&findings, "acs-override")->level, FINDING_NOTE);
	assert_int_equal(get(&findings, "no-iommu-mode")->level, FINDING_NOTE);
}

static void memory_that_firmware_keeps_is_a_blocker_but_relaxable_is_not(void **state)
{
	struct findings findings;

	add(GPU, NULL, 2, "vfio-pci");
	fake_sysfs_group_reserved(&fs, 2, "0xbd800000 0xbfffffff direct-relaxable\n");
	precheck(GPU, &findings);
	assert_int_equal(findings_blockers(&findings), 0);
	fake_sysfs_group_reserved(&fs, 2, "0xbd800000 0xbfffffff direct\n");
	precheck(GPU, &findings);
	assert_int_equal(get(&findings, "firmware-owns-memory")->level, FINDING_BLOCKER);
	assert_says(get(&findings, "firmware-owns-memory")->fact, "0xbd800000-0xbfffffff");
}

static void an_unviable_group_is_a_blocker_with_its_reason(void **state)
{
	struct findings findings;

	add_port(PORT, NULL, 2, 4, 0, 0);
	add(GPU, PORT, 2, "vfio-pci");
	add(OTHER, PORT, 2, "xhci_hcd");
	precheck(GPU, &findings);
	assert_int_equal(findings_blockers(&findings), 1);
	assert_says(get(&findings, "group-not-viable")->fact, "xhci_hcd");
	assert_says(get(&findings, "group-shared")->fact, "no ACS");
}

static void a_machine_with_nothing_readable_still_gives_findings(void **state)
{
	struct findings findings;
	struct pci_address address;

	memset(&findings, 0, sizeof(findings));
	pci_address_parse(GPU, &address);
	iommu_precheck("/nonexistent", &address, &findings);
	assert_non_null(find(&findings, "cmdline-unreadable"));
	assert_int_equal(get(&findings, "no-such-device")->level, FINDING_BLOCKER);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(members_are_read_in_order_with_ids_and_drivers),
		TEST(upstream_bridges_come_nearest_first_with_their_acs),
		TEST(reserved_regions_are_read_and_bad_lines_left_out),
		TEST(more_reserved_regions_than_fit_are_cut),
		TEST(a_device_that_is_not_there_is_named),
		TEST(a_device_without_a_group_is_told_from_a_missing_one),
		TEST(a_group_of_vfio_without_iommu_is_refused),
		TEST(a_group_number_that_is_none_is_refused),
		TEST(a_group_of_64_is_read_and_one_of_65_is_too_large),
		TEST(empty_and_absurd_attributes_read_as_zero),
		TEST(sixty_four_bytes_of_config_mean_that_acs_is_unknown),
		TEST(config_cut_anywhere_is_not_read_beyond),
		TEST(capability_chains_that_loop_end),
		TEST(a_group_of_one_on_vfio_is_viable),
		TEST(driverless_members_variants_and_stubs_are_viable),
		TEST(bridges_in_the_group_are_exempt),
		TEST(a_companion_on_a_host_driver_is_named_with_the_port_without_acs),
		TEST(acs_that_is_not_switched_on_is_told_from_none),
		TEST(functions_of_one_device_are_explained),
		TEST(a_bridge_to_conventional_pci_is_explained),
		TEST(config_that_needs_root_is_said),
		TEST(the_device_itself_on_a_host_driver_is_in_the_way),
		TEST(many_members_in_the_way_are_counted),
		TEST(nothing_in_the_way_has_no_blocker),
		TEST(an_iommu_that_is_off_names_what_switches_it_on),
		TEST(identity_is_a_note),
		TEST(missing_interrupt_remapping_is_a_blocker_unless_allowed),
		TEST(remapping_is_found_across_read_boundaries_and_unknown_without_an_ioapic),
		TEST(acs_override_and_mode_without_iommu_are_named),
		TEST(memory_that_firmware_keeps_is_a_blocker_but_relaxable_is_not),
		TEST(an_unviable_group_is_a_blocker_with_its_reason),
		TEST(a_machine_with_nothing_readable_still_gives_findings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
