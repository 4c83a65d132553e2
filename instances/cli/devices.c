// SPDX-License-Identifier: Apache-2.0
/*
 * divvy list devices: the PCI functions of this machine, and whether each could be assigned as its group
 * stands now. sysfs is the truth; libpci lends the names.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/cli/cli.h"
#include "instances/cli/table.h"
#include "instances/node/node.h"
#include "iommu/iommu.h"

#define CLASS_BRIDGE 0x0604

struct function {
	struct pci_address address;
	uint64_t vendor, device, class_code;
	char driver[64];
	int group; /* -1: none */
	bool is_bridge, viable;
	char name[160], class_name[96];
	char why[sizeof(((struct error *)0)->text)]; /* not viable: why */
};

static int compare_address(const void *a, const void *b)
{
	const struct pci_address *x = a, *y = b;

	if (x->domain != y->domain)
		return x->domain < y->domain ? -1 : 1;
	if (x->bus != y->bus)
		return x->bus < y->bus ? -1 : 1;
	return (x->device << 3 | x->function) - (y->device << 3 | y->function);
}

/* The addresses in ROOT/sys/bus/pci/devices, in order. False with *e filled when that fails. */
static bool read_addresses(const char *root, struct pci_address **out, size_t *out_count,
			   struct error *e)
{
	struct pci_address *list = NULL, *grown, address;
	size_t count = 0, room = 0;
	struct dirent *entry;
	char path[512];
	DIR *dir;

	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices", root);
	dir = opendir(path);
	if (!dir) {
		error_set(e, errno, "no-pci", NULL, "cannot read %s: %s", path, strerror(errno));
		return false;
	}
	while ((entry = readdir(dir))) {
		if (pci_address_parse(entry->d_name, &address))
			continue;
		if (count == room) {
			room = room ? room * 2 : 64;
			grown = reallocarray(list, room, sizeof(*list));
			if (!grown) {
				free(list);
				closedir(dir);
				error_set(e, ENOMEM, "out-of-memory", NULL,
					  "no memory for the list of devices");
				return false;
			}
			list = grown;
		}
		list[count++] = address;
	}
	closedir(dir);
	if (count)
		qsort(list, count, sizeof(*list), compare_address);
	*out = list;
	*out_count = count;
	return true;
}

static uint64_t read_id(const char *root, const char *bdf, const char *leaf)
{
	char path[512];
	uint64_t value = 0;

	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/%s", root, bdf, leaf);
	return file_read_u64(-1, path, &value) ? 0 : value;
}

static void read_driver(const char *root, const char *bdf, char driver[64])
{
	char path[512], target[512];
	const char *name;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver", root, bdf);
	n = readlink(path, target, sizeof(target) - 1);
	target[MAX(n, 0)] = '\0';
	name = strrchr(target, '/');
	snprintf(driver, 64, "%s", name ? name + 1 : "");
}

static void read_function(const char *root, struct node_pci_names *names,
			  const struct pci_address *address, struct function *f)
{
	struct iommu_group group;
	char bdf[PCI_ADDRESS_LEN];
	struct error e = { 0 };

	*f = (struct function){ .address = *address, .group = -1 };
	pci_address_format(address, bdf);
	f->vendor = read_id(root, bdf, "vendor");
	f->device = read_id(root, bdf, "device");
	f->class_code = read_id(root, bdf, "class");
	read_driver(root, bdf, f->driver);
	f->is_bridge = f->class_code >> 8 == CLASS_BRIDGE;
	node_pci_name(names, (unsigned)f->vendor & 0xffffu, (unsigned)f->device & 0xffffu, f->name,
		      sizeof(f->name));
	node_pci_class_name(names, (unsigned)f->class_code & 0xffffffu, f->class_name,
			    sizeof(f->class_name));
	if (iommu_group_load(root, address, &group, &e)) {
		snprintf(f->why, sizeof(f->why), "%s", e.text);
		return;
	}
	f->group = (int)group.id;
	if (iommu_group_check_viable(&group, address, &e))
		snprintf(f->why, sizeof(f->why), "%s", e.text);
	else
		f->viable = true;
}

static void row(struct table *table, const struct function *f)
{
	char bdf[PCI_ADDRESS_LEN], group[16] = "";

	if (f->group >= 0)
		snprintf(group, sizeof(group), "%d", f->group);
	table_cell(table, TABLE_PLAIN, "%s", pci_address_format(&f->address, bdf));
	table_cell(table, TABLE_PLAIN, "%04" PRIx64 ":%04" PRIx64, f->vendor, f->device);
	table_cell(table, TABLE_PLAIN, "%s", group);
	table_cell(table, TABLE_PLAIN, "%s", f->driver);
	table_cell(table, TABLE_PLAIN, "%s", f->is_bridge ? "bridge" : (f->viable ? "yes" : "no"));
	table_cell(table, TABLE_PLAIN, "%s: %s", f->class_name, f->name);
}

static json_t *function_json(const struct function *f)
{
	char bdf[PCI_ADDRESS_LEN], vendor[8], device[8], class_code[8];

	snprintf(vendor, sizeof(vendor), "%04x", (unsigned)f->vendor & 0xffffu);
	snprintf(device, sizeof(device), "%04x", (unsigned)f->device & 0xffffu);
	snprintf(class_code, sizeof(class_code), "%06x", (unsigned)f->class_code & 0xffffffu);
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:s?, s:o, s:b, s:b, s:o}", "address",
			 pci_address_format(&f->address, bdf), "vendor", vendor, "device", device,
			 "class", class_code, "class_name", cli_json_text(f->class_name), "name",
			 cli_json_text(f->name), "driver", f->driver[0] ? f->driver : NULL, "group",
			 f->group >= 0 ? json_integer(f->group) : json_null(), "bridge",
			 (int)f->is_bridge, "group_viable", (int)f->viable, "why_not",
			 f->why[0] ? cli_json_text(f->why) : json_null());
}

int cli_devices(struct cli *cli)
{
	static const struct table_column columns[] = {
		{ .title = "address" },
		{ .title = "id" },
		{ .title = "group", .right = true },
		{ .title = "driver", .least = 8 },
		{ .title = "viable" },
		{ .title = "what it is", .least = 12 },
	};
	struct table *table = NULL;
	struct pci_address *addresses = NULL;
	struct node_pci_names *names;
	struct error e = { 0 };
	json_t *list = NULL;
	size_t count;

	if (!read_addresses(cli->root, &addresses, &count, &e))
		return cli_fail(cli, &e);
	names = node_pci_names_open();
	if (cli->json)
		list = json_array();
	else
		table = table_create(columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < count; i++) {
		struct function f;

		read_function(cli->root, names, &addresses[i], &f);
		if (list)
			json_array_append_new(list, function_json(&f));
		else
			row(table, &f);
	}
	if (!list)
		table_print(table, cli->out, table_width(cli->out), table_colour(cli->out));
	table_destroy(table);
	cli_json_print(cli, list);
	node_pci_names_close(names);
	free(addresses);
	return CLI_OK;
}
