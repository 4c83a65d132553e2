// SPDX-License-Identifier: Apache-2.0
/* divvy precheck, bind, unbind: the verbs of dedicated devices. */
#include <jansson.h>
#include <string.h>

#include "instances/cli/here.h"
#include "instances/cli/node.h"
#include "vfio/vfio.h"

static void print_text(const struct cli *cli, const char *bdf, const struct findings *f)
{
	unsigned blockers = findings_blockers(f);

	cli_findings_print(cli, f);
	if (blockers)
		fprintf(cli->out, "%s: %u thing%s in the way\n", bdf, blockers,
			blockers == 1 ? " is" : "s are");
	else
		fprintf(cli->out, "%s: ready to assign\n", bdf);
}

static int print_json(const struct cli *cli, const char *bdf, const struct findings *f)
{
	json_t *json;

	json = json_pack("{s:s, s:b, s:i, s:o}", "device", bdf, "ready", !findings_blockers(f),
			 "blockers", (int)findings_blockers(f), "findings", cli_findings_json(f));
	if (!json)
		return -1;
	cli_json_print(cli, json);
	return 0;
}

/* The one word of these verbs. */
static int address_of(const struct cli *cli, struct pci_address *address)
{
	return pci_address_parse(cli->words[0], address)
		       ? cli_usage(cli, "not a PCI address: %s", cli->words[0])
		       : 0;
}

int cli_precheck(struct cli *cli)
{
	const char *memory = cli_value(cli, "memory");
	struct findings findings = { 0 };
	char bdf[PCI_ADDRESS_LEN];
	struct pci_address address;
	uint64_t size = 0;

	if (memory && text_size(memory, &size))
		return cli_usage(cli, "not a size: %s", memory);
	if (address_of(cli, &address))
		return CLI_USAGE;
	pci_address_format(&address, bdf);
	vfio_precheck(cli->root, &address, size, &findings);
	if (!cli->json)
		print_text(cli, bdf, &findings);
	else if (print_json(cli, bdf, &findings))
		return CLI_FAILED;
	return findings_blockers(&findings) ? CLI_FAILED : CLI_OK;
}

/* What the group looks like afterwards. */
static int print_group(const struct cli *cli, const struct pci_address *address)
{
	struct iommu_group group;
	struct error e = { 0 };
	char bdf[PCI_ADDRESS_LEN];
	json_t *json, *list;

	if (iommu_group_load(cli->root, address, &group, &e))
		return cli_fail(cli, &e);
	list = json_array();
	for (unsigned i = 0; i < group.member_count; i++) {
		const struct iommu_group_member *m = &group.members[i];
		const char *driver = m->driver[0] ? m->driver : NULL;

		if (m->is_bridge)
			continue;
		pci_address_format(&m->address, bdf);
		if (!cli->json)
			fprintf(cli->out, "%s  group %u  driver %s\n", bdf, group.id,
				driver ? driver : "none");
		json_array_append_new(list,
				      json_pack("{s:s, s:s?}", "address", bdf, "driver", driver));
	}
	json = json_pack("{s:i, s:o}", "group", (int)group.id, "devices", list);
	if (cli->json && json) {
		json_dumpf(json, cli->out, JSON_INDENT(2));
		fputc('\n', cli->out);
	}
	json_decref(json);
	return CLI_OK;
}

/* Here and now, without a daemon. */
static int change_here(struct cli *cli, bool bind)
{
	const char *timeout = cli_value(cli, "timeout"), *state = cli_value(cli, "state-dir");
	struct pci_address address;
	struct error e = { 0 };
	uint64_t ms = 0;

	if (timeout && cli_number(timeout, 1, 3600000, &ms))
		return cli_usage(cli, "not a time in milliseconds: %s", timeout);
	if (address_of(cli, &address))
		return CLI_USAGE;
	if (bind ? vfio_bind(cli->root, state, &address, (unsigned)ms, &e)
		 : vfio_unbind(cli->root, state, &address, (unsigned)ms, &e))
		return cli_fail(cli, &e);
	return print_group(cli, &address);
}

/* A daemon keeps books of GPUs, and so does it there. */
static bool ask_daemon(const struct cli *cli)
{
	return !cli_value(cli, "state-dir") && !here_is_asked(cli);
}

int cli_bind(struct cli *cli)
{
	return ask_daemon(cli) ? node_gpu_post(cli, cli->words[0], "bind") : change_here(cli, true);
}

int cli_unbind(struct cli *cli)
{
	return ask_daemon(cli) ? node_gpu_post(cli, cli->words[0], "unbind")
			       : change_here(cli, false);
}
