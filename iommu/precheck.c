// SPDX-License-Identifier: Apache-2.0
/*
 * What the IOMMU side has to say of assigning a device, as a list of facts: is there an IOMMU, does
 * it remap interrupts too, may the device's group be given away, is its isolation real.
 *
 * Reads only; what cannot be read is a finding as well. The kernel's own rules that are checked here:
 * Documentation/driver-api/vfio.rst, Documentation/admin-guide/kernel-parameters.txt,
 * Documentation/ABI/testing/sysfs-kernel-iommu_groups.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "iommu/private.h"

/* ---- small readers ------------------------------------------------------------------------ */

static const char *join(char path[PATH_MAX], const char *root, const char *rest)
{
	snprintf(path, PATH_MAX, "%s%s", root, rest);
	return path;
}

static bool exists(const char *root, const char *rest)
{
	char path[PATH_MAX];

	return access(join(path, root, rest), F_OK) == 0;
}

/* How many entries a folder has, and the name of the first; 0 when it is not there. */
static unsigned count_entries(const char *root, const char *rest, char *first, size_t size)
{
	char path[PATH_MAX];
	struct dirent *entry;
	unsigned count = 0;
	DIR *dir = opendir(join(path, root, rest));

	first[0] = '\0';
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && count++ == 0)
			snprintf(first, size, "%.*s", (int)size - 1, entry->d_name);
	if (dir)
		closedir(dir);
	return count;
}

/* A module's boolean parameter: 1, 0, or -1 when it is not there. */
static int module_flag(const char *root, const char *rest)
{
	char path[PATH_MAX], text[16];

	if (file_read(AT_FDCWD, join(path, root, rest), text, sizeof(text)) < 1)
		return -1;
	return text[0] == 'Y' || text[0] == '1';
}

/* ---- the kernel's command line ------------------------------------------------------------ */

struct cmdline {
	bool readable;
	char off[48];		/* the word that switches the IOMMU off, "" when none */
	bool intel_on;		/* intel_iommu=on */
	bool acs_override;	/* pcie_acs_override= */
	bool unsafe_interrupts; /* vfio_iommu_type1.allow_unsafe_interrupts=1 */
	char passthrough[48];	/* the word that makes identity the default, "" when none */
	char remapping_off[48]; /* the word that switches interrupt remapping off */
};

/* Whether the comma-separated values of a word "key=a,b" contain @option. */
static bool has_option(const char *word, const char *key, const char *option)
{
	size_t len = strlen(key), n = strlen(option);

	if (strncmp(word, key, len) != 0)
		return false;
	for (word += len; *word; word += *word == ',') {
		size_t span = strcspn(word, ",");

		if (span == n && !strncmp(word, option, n))
			return true;
		word += span;
	}
	return false;
}

static void read_cmdline(const char *root, struct cmdline *c)
{
	char path[PATH_MAX], text[8192], *word, *rest = text;

	memset(c, 0, sizeof(*c));
	if (file_read(AT_FDCWD, join(path, root, "/proc/cmdline"), text, sizeof(text)) < 0)
		return;
	c->readable = true;
	/* The last of several words wins, as it does in the kernel. */
	while ((word = strsep(&rest, " \t\n"))) {
		if (has_option(word, "intel_iommu=", "on")) {
			c->intel_on = true;
			c->off[0] = '\0';
		}
		if (has_option(word, "intel_iommu=", "off"))
			c->intel_on = false;
		if (has_option(word, "iommu=", "off") || has_option(word, "intel_iommu=", "off") ||
		    has_option(word, "amd_iommu=", "off"))
			snprintf(c->off, sizeof(c->off), "%.40s", word);
		if (has_option(word, "iommu=", "pt") || has_option(word, "iommu.passthrough=", "1"))
			snprintf(c->passthrough, sizeof(c->passthrough), "%.40s", word);
		if (has_option(word, "intremap=", "off") || !strcmp(word, "nointremap"))
			snprintf(c->remapping_off, sizeof(c->remapping_off), "%.40s", word);
		if (!strncmp(word, "pcie_acs_override", strlen("pcie_acs_override")))
			c->acs_override = true;
		if (has_option(word, "vfio_iommu_type1.allow_unsafe_interrupts=", "1") ||
		    has_option(word, "vfio_iommu_type1.allow_unsafe_interrupts=", "Y"))
			c->unsafe_interrupts = true;
	}
}

/* ---- is there an IOMMU -------------------------------------------------------------------- */

/* Whose IOMMU this machine would have, and what switches it on. */
struct vendor_words {
	const char *cpu;       /* vendor_id of /proc/cpuinfo */
	const char *bios;      /* what firmware calls it */
	const char *table;     /* ACPI table that describes it */
	const char *parameter; /* what the kernel wants to hear */
};

static const struct vendor_words vendors[] = {
	{ "GenuineIntel", "VT-d", "DMAR", "intel_iommu=on" },
	{ "AuthenticAMD", "AMD-Vi (IOMMU, SVM mode)", "IVRS", "no amd_iommu=off or iommu=off" },
};
static const struct vendor_words vendor_unknown = { "", "VT-d or AMD-Vi (IOMMU)", "DMAR or IVRS",
						    "intel_iommu=on on Intel machines" };

/*
 * The firmware's table says more than the processor's name (a virtual machine may mix the two), so it
 * comes first.
 */
static const struct vendor_words *find_vendor(const char *root, bool *has_table)
{
	char path[PATH_MAX], text[4096];
	int fd;
	ssize_t n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(vendors); i++) {
		char table[64];

		snprintf(table, sizeof(table), "/sys/firmware/acpi/tables/%s", vendors[i].table);
		*has_table = exists(root, table);
		if (*has_table)
			return &vendors[i];
	}
	/* Only the beginning: /proc/cpuinfo is long on large machines. */
	fd = open(join(path, root, "/proc/cpuinfo"), O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(vendors); i++)
		if (strstr(text, vendors[i].cpu))
			return &vendors[i];
	return &vendor_unknown;
}

static void check_present(const char *root, const struct cmdline *cmdline, struct findings *f)
{
	char name[64], next[160];
	bool has_table;
	const struct vendor_words *vendor = find_vendor(root, &has_table);
	unsigned count = count_entries(root, "/sys/class/iommu", name, sizeof(name));

	if (count) {
		findings_add(f, FINDING_OK, "iommu-present", "an IOMMU translates DMA", NULL,
			     "/sys/class/iommu: %u unit%s, the first is %s", count,
			     count == 1 ? "" : "s", name);
		return;
	}
	if (cmdline->off[0]) {
		snprintf(next, sizeof(next), "remove %s from the kernel command line and reboot",
			 cmdline->off);
		findings_add(f, FINDING_BLOCKER, "iommu-disabled",
			     "the IOMMU is switched off by the kernel command line", next,
			     "/sys/class/iommu is empty and /proc/cmdline has %s", cmdline->off);
		return;
	}
	if (has_table) {
		snprintf(next, sizeof(next), "boot with %s on the kernel command line",
			 vendor->parameter);
		findings_add(f, FINDING_BLOCKER, "iommu-off",
			     "the firmware offers an IOMMU, the kernel does not use it", next,
			     "/sys/class/iommu is empty, ACPI has table %s, /proc/cmdline %s",
			     vendor->table,
			     !cmdline->readable	 ? "cannot be read"
			     : cmdline->intel_on ? "has intel_iommu=on: see dmesg"
						 : "does not ask for it");
		return;
	}
	snprintf(next, sizeof(next),
		 "switch on %s in the firmware setup, then boot with %s on the command line",
		 vendor->bios, vendor->parameter);
	findings_add(f, FINDING_BLOCKER, "iommu-missing",
		     "without an IOMMU a device can reach all of the host's memory", next,
		     "/sys/class/iommu is empty and ACPI has no table %s", vendor->table);
}

/* ---- interrupt remapping ------------------------------------------------------------------ */

struct interrupts {
	bool readable, remapped, plain_ioapic;
};

/*
 * Interrupt chips go by name in /proc/interrupts: with remapping they are "IR-IO-APIC" and
 * "IR-PCI-MSI-...". The file has a column a processor and grows to megabytes, so it is scanned as a
 * stream of words, up to a bound.
 */
static void read_interrupts(const char *root, struct interrupts *found)
{
	char path[PATH_MAX], chunk[4096], word[24];
	size_t len = 0;
	ssize_t n;
	int fd = open(join(path, root, "/proc/interrupts"), O_RDONLY | O_CLOEXEC);

	memset(found, 0, sizeof(*found));
	if (fd < 0)
		return;
	for (size_t total = 0; total < 64 * MIB; total += (size_t)n) {
		n = read(fd, chunk, sizeof(chunk));
		if (n <= 0)
			break;
		found->readable = true;
		for (ssize_t i = 0; i < n; i++) {
			bool space = chunk[i] == ' ' || chunk[i] == '\n' || chunk[i] == '\t';

			if (!space) {
				/* Long words are cut: names are told by their beginning. */
				if (len < sizeof(word) - 1)
					word[len++] = chunk[i];
				continue;
			}
			word[len] = '\0';
			len = 0;
			found->remapped |= !strncmp(word, "IR-", 3);
			found->plain_ioapic |=
				!strcmp(word, "IO-APIC") || !strncmp(word, "IO-APIC-", 8);
		}
	}
	close(fd);
}

static void check_remapping(const char *root, const struct cmdline *cmdline, struct findings *f)
{
	struct interrupts found;
	bool allowed = cmdline->unsafe_interrupts ||
		       module_flag(root, "/sys/module/vfio_iommu_type1/parameters/"
					 "allow_unsafe_interrupts") == 1;

	read_interrupts(root, &found);
	if (allowed)
		findings_add(f, FINDING_NOTE, "unsafe-interrupts-allowed",
			     "VFIO does not insist on interrupt remapping: a guest can then inject "
			     "interrupts into the host",
			     "remove allow_unsafe_interrupts where the machine can remap",
			     "vfio_iommu_type1 has allow_unsafe_interrupts set");
	if (found.remapped) {
		findings_add(f, FINDING_OK, "interrupt-remapping",
			     "interrupts of devices are remapped", NULL,
			     "/proc/interrupts names remapped chips (IR-...)");
		return;
	}
	if (found.plain_ioapic) {
		findings_add(
			f, allowed ? FINDING_NOTE : FINDING_BLOCKER, "no-interrupt-remapping",
			"a device could raise any interrupt of the host; VFIO refuses to attach "
			"(EPERM)",
			cmdline->remapping_off[0]
				? "remove that word from the kernel command line and reboot"
				: "switch on interrupt remapping (and x2APIC) in the firmware setup",
			"/proc/interrupts names IO-APIC without IR-%s%s",
			cmdline->remapping_off[0] ? "; /proc/cmdline has " : "",
			cmdline->remapping_off);
		return;
	}
	findings_add(f, FINDING_NOTE, "interrupt-remapping-unknown",
		     "the kernel decides when the device is attached", NULL,
		     found.readable ? "/proc/interrupts names no I/O APIC to tell by"
				    : "/proc/interrupts cannot be read");
}

/* ---- the group ---------------------------------------------------------------------------- */

static void check_type(const struct iommu_group *group, const struct cmdline *cmdline,
		       struct findings *f)
{
	if (!strcmp(group->type, "identity")) {
		findings_add(f, FINDING_NOTE, "group-identity",
			     "only the host's own use passes untranslated; VFIO gives the device a "
			     "domain of its own while it is assigned",
			     NULL, "iommu_groups/%u/type: identity%s%s", group->id,
			     cmdline->passthrough[0] ? "; /proc/cmdline has " : "",
			     cmdline->passthrough);
		return;
	}
	findings_add(f, FINDING_OK, "group", "the device is covered by the IOMMU", NULL,
		     "IOMMU group %u: type %s, %u member%s", group->id,
		     group->type[0] ? group->type : "unread", group->member_count,
		     group->member_count == 1 ? "" : "s");
}

static void check_acs(const struct iommu_group *group, const struct pci_address *device,
		      const struct cmdline *cmdline, struct findings *f)
{
	char why[256];

	if (cmdline->acs_override)
		findings_add(f, FINDING_NOTE, "acs-override",
			     "the kernel was told to assume isolation that the hardware does not "
			     "promise: groups on this machine prove nothing between tenants",
			     "remove pcie_acs_override from the kernel command line and reboot",
			     "/proc/cmdline has pcie_acs_override");
	group_explain(group, device, why, sizeof(why));
	if (why[0])
		findings_add(f, FINDING_NOTE, "group-shared",
			     "all members can reach each other and are given away together", NULL,
			     "IOMMU group %u has %u members: %s", group->id, group->member_count,
			     why);
}

static void check_reserved(const struct iommu_group *group, struct findings *f)
{
	for (unsigned i = 0; i < group->reserved_count; i++) {
		const struct iommu_reserved_region *region = &group->reserved[i];

		/* "direct-relaxable" is for graphics and USB, and is given up on assignment. */
		if (strcmp(region->type, "direct") != 0)
			continue;
		findings_add(f, FINDING_BLOCKER, "firmware-owns-memory",
			     "the firmware demands that this device keeps reaching that memory "
			     "(RMRR or unity map); the kernel refuses to assign it",
			     "switch off what shares memory with the device in the firmware setup "
			     "(out-of-band management, shared RAID or network controller)",
			     "iommu_groups/%u/reserved_regions: 0x%" PRIx64 "-0x%" PRIx64 " direct",
			     group->id, region->start, region->last);
	}
}

static void check_backend(const char *root, struct findings *f)
{
	char name[64];
	bool cdevs = count_entries(root, "/dev/vfio/devices", name, sizeof(name)) > 0;

	if (exists(root, "/dev/iommu") && cdevs)
		findings_add(f, FINDING_OK, "iommufd", "device cdevs through iommufd are used",
			     NULL, "/dev/iommu and /dev/vfio/devices are there");
	else if (exists(root, "/dev/vfio/vfio"))
		findings_add(f, FINDING_OK, "type1", "groups and type1 containers are used", NULL,
			     "/dev/vfio/vfio is there%s",
			     exists(root, "/dev/iommu") ? ", no cdev in /dev/vfio/devices" : "");
	else
		findings_add(f, FINDING_NOTE, "vfio-not-loaded", "bind loads it",
			     "modprobe vfio-pci", "neither /dev/iommu nor /dev/vfio/vfio is there");
}

void iommu_precheck(const char *root, const struct pci_address *device, struct findings *f)
{
	struct cmdline cmdline;
	struct iommu_group group;
	struct error e;

	read_cmdline(root, &cmdline);
	if (!cmdline.readable)
		findings_add(f, FINDING_NOTE, "cmdline-unreadable",
			     "kernel parameters are not known", NULL,
			     "/proc/cmdline cannot be read");
	check_present(root, &cmdline, f);
	check_remapping(root, &cmdline, f);
	if (module_flag(root, "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") == 1)
		findings_add(
			f, FINDING_NOTE, "no-iommu-mode",
			"VFIO would hand out devices without any isolation; Divvy does not use that",
			"echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
			"vfio has enable_unsafe_noiommu_mode set");
	check_backend(root, f);

	if (iommu_group_load(root, device, &group, &e)) {
		findings_add(f, FINDING_BLOCKER, e.code, "the device cannot be isolated",
			     !strcmp(e.code, "no-iommu-group") ? NULL : e.next, "%.500s", e.text);
		return;
	}
	check_type(&group, &cmdline, f);
	check_acs(&group, device, &cmdline, f);
	check_reserved(&group, f);
	if (iommu_group_check_viable(&group, device, &e))
		findings_add(f, FINDING_BLOCKER, e.code,
			     "everything in a group must be off the host's drivers before it is "
			     "assigned",
			     e.next, "%.500s", e.text);
}
