// SPDX-License-Identifier: Apache-2.0
/* What this machine has and offers, where no daemon keeps books of it (here.h); and divvy types check. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "instances/cli/api.h"
#include "instances/cli/here.h"
#include "instances/placement/placement.h"

#define FITS_MAX 1000

bool here_is_asked(const struct cli *cli)
{
	const char *said = getenv("DIVVY_API");

	if (cli->root[0] || cli_value(cli, "types") || cli_value(cli, "policy"))
		return true;
	return !cli->api && !(said && said[0]) && !api_there(cli);
}

/* Vulkan is asked of the real machine only: its drivers know of no other root. */
static struct node *machine(const struct cli *cli, struct error *e)
{
	struct node_options options = { .root = cli->root };
	struct node_vulkan vulkan = { 0 };
	struct node *node = NULL;

	struct error why = { 0 };

	options.vulkan = &vulkan;
	/* Who presses a tab key waits for no driver. */
	if (!cli->root[0] && cli->verb->run != cli_complete &&
	    node_vulkan_read(NODE_VULKAN_TIMEOUT_MS, &vulkan, &why) &&
	    strcmp(why.code, "no-vulkan-device") != 0)
		cli_error_print(&why);
	return node_read(&options, &node, e) ? NULL : node;
}

/* As the API's Gpu, of a GPU that nobody has. */
static json_t *gpu_json(const struct node_gpu *gpu)
{
	const bool linked = gpu->link.mts && gpu->link.width;
	json_t *json = node_gpu_api_json(gpu);

	if (!json_object_update_new(
		    json,
		    json_pack("{s:o, s:s, s:b, s:n, s:b, s:f, s:i, s:[], s:i, s:n, s:i, s:n, s:n}",
			      "link", linked ? node_link_api_json(&gpu->link) : json_null(),
			      "state", "free", "drained", 0, "quarantine", "bound",
			      !strcmp(gpu->driver, "vfio-pci"), "share_sold", 0.0,
			      "memory_sold_bytes", 0, "vgpus", "slices", 0, "instance",
			      "resets_total", 0, "utilisation", "lease")))
		return json;
	json_decref(json);
	return NULL;
}

json_t *here_gpus(const struct cli *cli, struct error *e)
{
	struct node *node = machine(cli, e);
	json_t *list = json_array();

	if (!node) {
		json_decref(list);
		return NULL;
	}
	for (unsigned i = 0; i < node->gpu_count; i++)
		json_array_append_new(list, gpu_json(&node->gpus[i]));
	node_free(node);
	return json_pack("{s:o}", "gpus", list);
}

static json_t *type_row(struct placement_ledger *ledger, const struct instance_type *type)
{
	struct findings why = { 0 };
	const unsigned fits = placement_fits_count(ledger, type, FITS_MAX, &why);
	json_t *definition = type_json(type);

	return json_pack("{s:s, s:i, s:I, s:O, s:o, s:i, s:o}", "name", type->name, "vcpus",
			 (int)type->vcpus, "memory_mib", (json_int_t)type->memory_mib, "gpus",
			 json_object_get(definition, "gpus"), "definition", definition, "fits",
			 (int)fits, "why_not", cli_findings_json(&why));
}

/* A file, or all *.yaml of a folder. */
static void types_add(struct type_catalogue *catalogue, const char *path, struct findings *findings)
{
	struct stat st;

	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		type_catalogue_add_folder(catalogue, path, findings);
	else
		type_catalogue_add_file(catalogue, path, findings);
}

int here_catalogue(const struct cli *cli, struct type_catalogue *catalogue,
		   struct findings *findings)
{
	const char *types = cli_value(cli, "types");

	if (!types)
		return type_catalogue_load(cli->root, catalogue, findings);
	types_add(catalogue, types, findings);
	return 0;
}

static void findings_warn(const struct findings *findings)
{
	for (unsigned i = 0; i < findings->count; i++)
		if (findings->items[i].level == FINDING_BLOCKER)
			fprintf(stderr, "divvy: warning[%s]: %s (next: divvy types check)\n",
				findings->items[i].code, findings->items[i].fact);
}

json_t *here_types(const struct cli *cli, struct error *e)
{
	struct type_catalogue catalogue = { 0 };
	struct placement_ledger *ledger = NULL;
	struct placement_limits limits;
	struct findings findings = { 0 };
	struct node *node = machine(cli, e);
	json_t *list = json_array(), *json = NULL;
	const char *policy = cli_value(cli, "policy");
	int err = node ? here_catalogue(cli, &catalogue, &findings) : -ENODEV;

	if (node && err)
		error_set(e, -err, "no-types", "divvy types check", "types: %s", strerror(-err));
	if (!err) {
		placement_limits_default(node, &limits);
		if (policy && placement_policy_parse(policy, &limits.policy))
			err = error_set(e, EINVAL, "bad-value", "divvy types --help",
					"no policy is called %s", policy);
	}
	if (!err) {
		err = placement_ledger_create(node, &limits, &ledger, e);
	}
	for (unsigned i = 0; !err && i < catalogue.count; i++)
		json_array_append_new(list, type_row(ledger, &catalogue.items[i]));
	if (!err) {
		findings_warn(&findings);
		json = json_pack("{s:O}", "types", list);
	}
	json_decref(list);
	placement_ledger_destroy(ledger);
	type_catalogue_free(&catalogue);
	node_free(node);
	return json;
}

/* ---- divvy types check ------------------------------------------------------------------------------ */

int cli_types_check(struct cli *cli)
{
	struct type_catalogue catalogue = { 0 };
	struct findings findings = { 0 };
	unsigned blockers;

	if (!cli->count)
		here_catalogue(cli, &catalogue, &findings);
	for (unsigned i = 0; i < cli->count; i++)
		types_add(&catalogue, cli->words[i], &findings);
	blockers = findings_blockers(&findings);
	if (cli->json) {
		cli_json_print(cli, json_pack("{s:b, s:i, s:i, s:o}", "good", !blockers, "types",
					      (int)catalogue.count, "blockers", (int)blockers,
					      "findings", cli_findings_json(&findings)));
	} else {
		cli_findings_print(cli, &findings);
		fprintf(cli->out, "%u type%s good", catalogue.count,
			catalogue.count == 1 ? " is" : "s are");
		if (blockers)
			fprintf(cli->out, ", %u thing%s wrong", blockers,
				blockers == 1 ? " is" : "s are");
		fputc('\n', cli->out);
	}
	type_catalogue_free(&catalogue);
	return blockers ? CLI_FAILED : CLI_OK;
}
