// SPDX-License-Identifier: Apache-2.0
/* divvy precheck, bind, unbind: the verbs of dedicated devices. */
#include <jansson.h>
#include <string.h>

#include "instances/cli.h"
#include "vfio/vfio.h"

static void print_text(const struct cli_options *options, const char *bdf, const struct findings *f)
{
	unsigned blockers = findings_blockers(f);

	cli_findings_print(f, options->out);
	if (blockers)
		fprintf(options->out, "%s: %u thing%s in the way\n", bdf, blockers,
			blockers == 1 ? " is" : "s are");
	else
		fprintf(options->out, "%s: ready to assign\n", bdf);
}

static int print_json(const struct cli_options *options, const char *bdf, const struct findings *f)
{
	json_t *json =
		json_pack("{s:s, s:b, s:i, s:o}", "device", bdf, "ready", !findings_blockers(f),
			  "blockers", (int)findings_blockers(f), "findings", cli_findings_json(f));

	if (!json)
		return -1;
	json_dumpf(json, options->out, JSON_INDENT(2));
	fputc('\n', options->out);
	json_decref(json);
	return 0;
}

int cli_precheck(const struct cli_options *options, const struct pci_address *address)
{
	struct findings findings = { 0 };
	char bdf[PCI_ADDRESS_LEN];

	pci_address_format(address, bdf);
	vfio_precheck(options->root, address, options->memory_size, &findings);
	if (!options->json)
		print_text(options, bdf, &findings);
	else if (print_json(options, bdf, &findings))
		return CLI_FAILED;
	return findings_blockers(&findings) ? CLI_FAILED : CLI_OK;
}

/* What the group looks like afterwards. */
static int print_group(const struct cli_options *options, const struct pci_address *address)
{
	struct iommu_group group;
	struct error e = { 0 };
	char bdf[PCI_ADDRESS_LEN];
	json_t *json, *list;

	if (iommu_group_load(options->root, address, &group, &e))
		return cli_fail(options, &e);
	list = json_array();
	for (unsigned i = 0; i < group.member_count; i++) {
		const struct iommu_group_member *m = &group.members[i];
		const char *driver = m->driver[0] ? m->driver : NULL;

		if (m->is_bridge)
			continue;
		pci_address_format(&m->address, bdf);
		if (!options->json)
			fprintf(options->out, "%s  group %u  driver %s\n", bdf, group.id,
				driver ? driver : "none");
		json_array_append_new(list,
				      json_pack("{s:s, s:s?}", "address", bdf, "driver", driver));
	}
	json = json_pack("{s:i, s:o}", "group", (int)group.id, "devices", list);
	if (options->json && json) {
		json_dumpf(json, options->out, JSON_INDENT(2));
		fputc('\n', options->out);
	}
	json_decref(json);
	return CLI_OK;
}

int cli_bind(const struct cli_options *options, const struct pci_address *address)
{
	struct error e = { 0 };

	if (vfio_bind(options->root, options->state_dir, address, options->timeout_ms, &e))
		return cli_fail(options, &e);
	return print_group(options, address);
}

int cli_unbind(const struct cli_options *options, const struct pci_address *address)
{
	struct error e = { 0 };

	if (vfio_unbind(options->root, options->state_dir, address, options->timeout_ms, &e))
		return cli_fail(options, &e);
	return print_group(options, address);
}
