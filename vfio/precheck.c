// SPDX-License-Identifier: Apache-2.0
/*
 * What stands in the way of assigning one PCI function: facts read from /sys, /proc and /dev, what
 * each means, and the next command. What the IOMMU has to say is iommu_precheck()'s; here is the
 * device itself, its users, and what this process may do.
 *
 * Nothing is changed and nothing is opened that would wake or reset the device.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfio/device.h"
#include "vfio/holders.h"
#include "vfio/vfio.h"

/* include/linux/ioport.h, as the resource file shows them */
#define RESOURCE_IO	  0x00000100u
#define RESOURCE_MEM	  0x00000200u
#define RESOURCE_PREFETCH 0x00002000u
#define RESOURCE_MEM_64	  0x00100000u
#define RESOURCE_UNSET	  0x20000000u

/* capabilities(7): CAP_IPC_LOCK, which RLIMIT_MEMLOCK does not bind */
#define CAPABILITY_IPC_LOCK 14

struct check {
	const char *root;
	const struct pci_address *address;
	char bdf[PCI_ADDRESS_LEN];
	char driver[VFIO_DRIVER_LEN];
	struct findings *findings;
};

/* A size as people say it; exact where it is a whole number of the unit. */
static const char *size_text(uint64_t size, char text[32])
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;

	while (unit + 1 < ARRAY_SIZE(units) && size && size % 1024 == 0) {
		size /= 1024;
		unit++;
	}
	snprintf(text, 32, "%" PRIu64 " %s", size, units[unit]);
	return text;
}

/* Returns false where nothing more can be said. */
static bool check_identity(struct check *c)
{
	char path[VFIO_PATH_MAX];
	uint64_t vendor = 0, device = 0, class_code = 0;
	struct error e = { 0 };

	if (vfio_sysfs_exists(c->root, c->address, &e)) {
		findings_add(c->findings, FINDING_BLOCKER, e.code, "there is nothing to assign",
			     e.next, "%s", e.text);
		return false;
	}
	file_read_u64(-1, vfio_sysfs_pci(path, c->root, c->address, "vendor"), &vendor);
	file_read_u64(-1, vfio_sysfs_pci(path, c->root, c->address, "device"), &device);
	file_read_u64(-1, vfio_sysfs_pci(path, c->root, c->address, "class"), &class_code);
	if (vfio_sysfs_is_bridge(c->root, c->address)) {
		findings_add(c->findings, FINDING_BLOCKER, "is-a-bridge",
			     "bridges stay with the host: assign what is behind it",
			     "divvy list devices", "%s: class %06" PRIx64 ", a PCI-to-PCI bridge",
			     c->bdf, class_code);
		return false;
	}
	findings_add(c->findings, FINDING_OK, "device", "the function is there", NULL,
		     "%s: %04" PRIx64 ":%04" PRIx64 ", class %06" PRIx64, c->bdf, vendor, device,
		     class_code);
	return true;
}

static void check_driver(struct check *c)
{
	char next[64];

	snprintf(next, sizeof(next), "divvy bind %s", c->bdf);
	if (vfio_sysfs_driver_is_vfio(c->driver))
		findings_add(c->findings, FINDING_OK, "bound-to-vfio",
			     "a VFIO driver has the function", NULL, "driver: %s", c->driver);
	else
		findings_add(c->findings, FINDING_BLOCKER, "not-bound-to-vfio",
			     "only a function on a VFIO driver can be opened", next,
			     c->driver[0] ? "driver: %s" : "driver: none", c->driver);
}

/* Of all endpoints of the group, since they are given away together. */
static void check_holders(struct check *c)
{
	struct pci_address addresses[IOMMU_GROUP_MEMBERS_MAX] = { *c->address };
	struct vfio_holders holders;
	struct iommu_group group;
	char bdf[PCI_ADDRESS_LEN];
	unsigned count = 0;
	bool has_group = iommu_group_load(c->root, c->address, &group, NULL) == 0;

	for (unsigned i = 0; has_group && i < group.member_count; i++)
		if (!group.members[i].is_bridge)
			addresses[count++] = group.members[i].address;
	if (vfio_holders_find(c->root, addresses, MAX(count, 1u), has_group ? &group.id : NULL,
			      &holders)) {
		findings_add(c->findings, FINDING_NOTE, "holders-unknown", "no memory to look",
			     NULL, "users of %s were not looked for", c->bdf);
		return;
	}
	for (unsigned i = 0; i < holders.count; i++)
		findings_add(c->findings, FINDING_BLOCKER, "device-in-use",
			     "taking it away now would break that, or hang in the kernel",
			     holders.items[i].next, "%s: %s",
			     pci_address_format(&holders.items[i].address, bdf),
			     holders.items[i].what);
	if (holders.unreadable)
		findings_add(c->findings, FINDING_NOTE, "holders-hidden",
			     "one of them may use the device", "run as root",
			     "the open files of %u processes may not be seen", holders.unreadable);
	if (!holders.count && !holders.unreadable)
		findings_add(c->findings, FINDING_OK, "not-in-use", "nothing on the host uses it",
			     NULL, "no open file, mount or interface of %s%s", c->bdf,
			     count > 1 ? " or of what shares its group" : "");
}

/* Documentation/ABI/testing/sysfs-bus-pci: reset_method (Linux 5.15), reset before that. */
static void check_reset(struct check *c)
{
	char path[VFIO_PATH_MAX], methods[128];
	ssize_t n;

	vfio_sysfs_pci(path, c->root, c->address, "reset_method");
	n = file_read(-1, path, methods, sizeof(methods));
	if (n > 0)
		findings_add(c->findings, FINDING_OK, "reset",
			     "the function can be reset between users", NULL, "reset_method: %s",
			     methods);
	else if (access(vfio_sysfs_pci(path, c->root, c->address, "reset"), F_OK) == 0)
		findings_add(c->findings, FINDING_OK, "reset",
			     "the function can be reset between users", NULL,
			     "reset: there, method not told");
	else
		findings_add(c->findings, FINDING_NOTE, "no-reset",
			     "what one guest leaves in the device, the next one finds",
			     "assign all functions of its slot or bus to one VM: they can be reset "
			     "together",
			     "no reset_method and no reset in sysfs");
}

/* A link that came up narrow stays so, whoever has the device. Slots may be narrower than cards: a note. */
static void check_link(struct check *c)
{
	struct vfio_link now = vfio_link_sysfs(c->root, c->address);
	char path[VFIO_PATH_MAX], speed[32], width[16];
	struct vfio_link most;

	vfio_sysfs_pci(path, c->root, c->address, "max_link_speed");
	if (!now.width || file_read(-1, path, speed, sizeof(speed)) <= 0)
		return; /* not PCI Express */
	vfio_sysfs_pci(path, c->root, c->address, "max_link_width");
	if (file_read(-1, path, width, sizeof(width)) <= 0)
		return;
	most = vfio_link_parse(speed, width);
	if (most.width && now.width < most.width)
		findings_add(c->findings, FINDING_NOTE, "link-narrow",
			     "the slot has fewer lanes, or a reset left some of them down",
			     "if the slot has them all: power the machine off and on",
			     "PCI Express link: x%u of x%u", now.width, most.width);
	else
		findings_add(c->findings, FINDING_OK, "link", "all lanes of the device are up",
			     NULL, "PCI Express link: x%u", now.width);
}

/* The first six lines of the resource file: "start last flags", in hex. */
static void check_bars(struct check *c)
{
	char path[VFIO_PATH_MAX], text[2048], bars[384] = "", *save = NULL, *line;

	vfio_sysfs_pci(path, c->root, c->address, "resource");
	if (file_read(-1, path, text, sizeof(text)) < 0) {
		findings_add(c->findings, FINDING_NOTE, "bars-unreadable",
			     "the sizes of its BARs are not known", NULL, "%s cannot be read",
			     path);
		return;
	}
	line = strtok_r(text, "\n", &save);
	for (unsigned bar = 0; line && bar < VFIO_PCI_BARS;
	     bar++, line = strtok_r(NULL, "\n", &save)) {
		uint64_t start, last, flags;
		char size[32];

		if (sscanf(line, "%" SCNx64 " %" SCNx64 " %" SCNx64, &start, &last, &flags) != 3 ||
		    !(flags & (RESOURCE_IO | RESOURCE_MEM)) || last < start)
			continue;
		size_text(last - start + 1, size);
		text_append(bars, sizeof(bars), "%s%u: %s%s", bars[0] ? ", " : "", bar, size,
			    flags & RESOURCE_IO		? " I/O"
			    : flags & RESOURCE_MEM_64	? " 64-bit"
			    : flags & RESOURCE_PREFETCH ? " prefetchable"
							: "");
		if (flags & RESOURCE_UNSET || (!start && flags & RESOURCE_MEM))
			findings_add(
				c->findings, FINDING_BLOCKER, "bar-unassigned",
				"the host found no room for it, so nothing can map it",
				"switch on \"Above 4G decoding\" in the firmware setup, or boot "
				"with pci=realloc",
				"BAR %u (%s) has no address", bar, size);
	}
	findings_add(c->findings, FINDING_OK, "bars", "their guest addresses are the VMM's choice",
		     NULL, "BARs: %s", bars[0] ? bars : "none");
}

/* The file the VMM will open. Asked with this process's own rights. */
static void check_node(struct check *c)
{
	char group[16], cdev[32], path[VFIO_PATH_MAX], next[160];
	bool use_cdev, found = false;

	if (!vfio_sysfs_driver_is_vfio(c->driver) ||
	    vfio_sysfs_link_name(c->root, c->address, "iommu_group", group, sizeof(group)))
		return;
	use_cdev = vfio_sysfs_cdev(vfio_sysfs_pci(path, c->root, c->address, "vfio-dev"), cdev,
				   sizeof(cdev)) == 0 &&
		   access(vfio_sysfs_path(path, c->root, "/dev/iommu"), F_OK) == 0 &&
		   access(vfio_sysfs_path(path, c->root, "/dev/vfio/devices/%s", cdev), F_OK) == 0;
	if (!use_cdev)
		vfio_sysfs_path(path, c->root, "/dev/vfio/%s", group);
	found = access(path, F_OK) == 0;
	if (found && access(path, R_OK | W_OK) == 0) {
		findings_add(c->findings, FINDING_OK, "node-access", "this user may open it", NULL,
			     "%s: readable and writable", path + strlen(c->root));
		return;
	}
	snprintf(next, sizeof(next), "run as root, or: setfacl -m u:%u:rw %s", (unsigned)geteuid(),
		 path + strlen(c->root));
	findings_add(c->findings, FINDING_BLOCKER, found ? "permission-denied" : "node-missing",
		     found ? "this user may not open it"
			   : "the function is on a VFIO driver, but has no device node",
		     found ? next : "udevadm trigger, or mount devtmpfs on /dev", "%s: %s",
		     path + strlen(c->root), strerror(errno));
}

/* "CapEff:	000001ffffffffff" of proc(5); true where the bit is set. */
static bool may_lock_everything(const char *root)
{
	char path[VFIO_PATH_MAX], text[8192], *line;
	uint64_t capabilities;

	vfio_sysfs_path(path, root, "/proc/self/status");
	if (file_read(-1, path, text, sizeof(text)) < 0)
		return false;
	line = strstr(text, "\nCapEff:");
	return line && sscanf(line, "\nCapEff: %" SCNx64, &capabilities) == 1 &&
	       capabilities >> CAPABILITY_IPC_LOCK & 1;
}

/* All of guest RAM is pinned, since a device may write anywhere in it. */
static void check_memlock(struct check *c, uint64_t memory_size)
{
	char path[VFIO_PATH_MAX], text[8192], need[32], have[32], next[96], *line, *end;
	uint64_t limit;

	size_text(memory_size, need);
	if (may_lock_everything(c->root)) {
		findings_add(c->findings, FINDING_OK, "memlock", "no limit binds this user", NULL,
			     "/proc/self/status: CAP_IPC_LOCK, for %s of guest RAM", need);
		return;
	}
	vfio_sysfs_path(path, c->root, "/proc/self/limits");
	line = file_read(-1, path, text, sizeof(text)) < 0 ? NULL
							   : strstr(text, "Max locked memory");
	if (!line) {
		findings_add(c->findings, FINDING_NOTE, "memlock-unknown",
			     "whether guest RAM may be pinned is not known", NULL,
			     "/proc/self/limits: no line \"Max locked memory\"");
		return;
	}
	line += strlen("Max locked memory");
	line += strspn(line, " ");
	errno = 0;
	limit = strtoull(line, &end, 10);
	if (end == line || errno) /* "unlimited" */
		limit = UINT64_MAX;
	if (limit >= memory_size) {
		findings_add(c->findings, FINDING_OK, "memlock", "guest RAM may be pinned", NULL,
			     "/proc/self/limits: %s may be locked, %s is needed",
			     limit == UINT64_MAX ? "any amount" : size_text(limit, have), need);
		return;
	}
	snprintf(next, sizeof(next), "ulimit -l %" PRIu64 " (as root), or run as root",
		 (memory_size + KIB - 1) / KIB);
	findings_add(c->findings, FINDING_BLOCKER, "memlock-too-small",
		     "guest RAM is pinned while a device is assigned", next,
		     "/proc/self/limits: %s may be locked, %s is needed", size_text(limit, have),
		     need);
}

static void check_power(struct check *c)
{
	char path[VFIO_PATH_MAX], state[32];

	vfio_sysfs_pci(path, c->root, c->address, "power_state");
	if (file_read(-1, path, state, sizeof(state)) <= 0)
		return; /* before Linux 5.11 it is not told */
	if (!strcmp(state, "D3cold"))
		findings_add(c->findings, FINDING_NOTE, "power-off",
			     "some devices do not come back from D3cold",
			     "echo on > power/control, and 0 > d3cold_allowed, in its sysfs folder",
			     "power_state: %s", state);
	else
		findings_add(c->findings, FINDING_OK, "power",
			     "the device answers, or can be woken", NULL, "power_state: %s", state);
}

void vfio_precheck(const char *root, const struct pci_address *address, uint64_t memory_size,
		   struct findings *findings)
{
	struct check c = { .root = root, .address = address, .findings = findings };

	pci_address_format(address, c.bdf);
	if (!check_identity(&c))
		return;
	vfio_sysfs_link_name(root, address, "driver", c.driver, sizeof(c.driver));
	iommu_precheck(root, address, findings);
	check_driver(&c);
	check_node(&c);
	check_holders(&c);
	check_reset(&c);
	check_bars(&c);
	check_link(&c);
	check_power(&c);
	if (memory_size)
		check_memlock(&c, memory_size);
}
