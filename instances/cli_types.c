// SPDX-License-Identifier: Apache-2.0
/*
 * divvy types: what instances there can be on this machine, how many more of each, and what stands in the way of the next; and
 * divvy types check, for who writes types (docs/types.md).
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "instances/cli.h"
#include "instances/placement/placement.h"

#define COUNT_MAX 4096

static const char usage_text[] =
	"usage: divvy types                    what instances there can be, and how many more of each fit\n"
	"       divvy types check              whether the types in use are good\n"
	"       divvy types check my.yaml      whether a file is, or all *.yaml of a folder\n"
	"\n"
	"  --json             print JSON\n"
	"  --types FOLDER     these types instead of the shipped ones and /etc/divvy/types.d\n"
	"  --policy P         pack, spread, numa-first (pack)\n"
	"  --root FOLDER      read /sys, /proc and /etc beneath this folder (tests)\n"
	"\n"
	"Types are YAML files: docs/types.md has every key. Without a daemon nothing counts as taken.\n";

enum {
	OPTION_JSON = 256,
	OPTION_TYPES,
	OPTION_POLICY,
	OPTION_ROOT,
	OPTION_HELP
};

static const struct option option_table[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "types", required_argument, NULL, OPTION_TYPES },
	{ "policy", required_argument, NULL, OPTION_POLICY },
	{ "root", required_argument, NULL, OPTION_ROOT },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

struct words {
	struct cli_options options;
	const char *types;
	enum placement_policy policy;
};

static int usage(const char *problem, const char *word)
{
	fprintf(stderr, "divvy: %s%s\n%s", problem, word, usage_text);
	return CLI_USAGE;
}

/* Returns -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct words *w)
{
	int option;

	opterr = 0;
	optind = 0; /* glibc: start over */
	while ((option = getopt_long(argc, argv, ":", option_table, NULL)) != -1) {
		switch (option) {
		case OPTION_JSON:
			w->options.json = true;
			break;
		case OPTION_TYPES:
			w->types = optarg;
			break;
		case OPTION_POLICY:
			if (placement_policy_parse(optarg, &w->policy))
				return usage("no policy is called ", optarg);
			break;
		case OPTION_ROOT:
			w->options.root = optarg;
			break;
		case OPTION_HELP:
			fputs(usage_text, w->options.out);
			return CLI_OK;
		case ':':
			return usage("a value is missing after ", argv[optind - 1]);
		default:
			return usage("unknown option ", argv[optind - 1]);
		}
	}
	return -1;
}

static void dump(json_t *json, FILE *out)
{
	json_dumpf(json, out, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
	fputc('\n', out);
	json_decref(json);
}

/* ---- types check --------------------------------------------------------------------------------- */

static void check_path(struct type_catalogue *catalogue, const char *path,
		       struct findings *findings)
{
	struct stat st;

	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		type_catalogue_add_folder(catalogue, path, findings);
	else
		type_catalogue_add_file(catalogue, path, findings);
}

static int check(const struct words *w, int count, char **paths)
{
	struct findings *findings = calloc(1, sizeof(*findings));
	struct type_catalogue catalogue = { 0 };
	FILE *out = w->options.out;
	unsigned blockers;

	if (!findings)
		return CLI_FAILED;
	for (int i = 0; i < count; i++)
		check_path(&catalogue, paths[i], findings);
	if (!count && w->types)
		check_path(&catalogue, w->types, findings);
	else if (!count)
		type_catalogue_load(w->options.root, &catalogue, findings);
	blockers = findings_blockers(findings);
	if (w->options.json) {
		dump(json_pack("{s:b, s:i, s:i, s:o}", "good", !blockers, "types",
			       (int)catalogue.count, "blockers", (int)blockers, "findings",
			       cli_findings_json(findings)),
		     out);
	} else {
		cli_findings_print(findings, out);
		fprintf(out, "%u type%s good", catalogue.count,
			catalogue.count == 1 ? " is" : "s are");
		if (blockers)
			fprintf(out, ", %u thing%s wrong", blockers,
				blockers == 1 ? " is" : "s are");
		fputc('\n', out);
	}
	type_catalogue_free(&catalogue);
	free(findings);
	return blockers ? CLI_FAILED : CLI_OK;
}

/* ---- types ------------------------------------------------------------------------------------------ */

/* "25 % fixed_share", "weight 400, 25 % of memory", "2 whole" */
static const char *gpu_text(const struct instance_type *type, char text[96])
{
	text[0] = '\0';
	for (unsigned i = 0; i < type->gpu_count; i++) {
		const struct type_gpu *gpu = &type->gpus[i];

		if (i)
			text_append(text, 96, " + ");
		if (gpu->mode == TYPE_DEDICATED)
			text_append(text, 96, "%u whole", gpu->count);
		else if (gpu->time_ppm)
			text_append(text, 96, "%.3g %% %s", gpu->time_ppm / 1e4,
				    gpu->policy == SCHED_BURST ? "and credits" : "fixed");
		else if (gpu->policy == SCHED_WEIGHTED)
			text_append(text, 96, "weight %u", gpu->weight);
		else
			text_append(text, 96, "%s",
				    gpu->policy == SCHED_EQUAL_SHARE ? "equal share"
								     : "best effort");
	}
	if (type->display_count)
		text_append(text, 96, ", %u head%s", type->display_count,
			    type->display_count == 1 ? "" : "s");
	return text;
}

/* The first thing that stands in the way. */
static const struct finding *first_blocker(const struct findings *findings)
{
	for (unsigned i = 0; i < findings->count; i++)
		if (findings->items[i].level == FINDING_BLOCKER)
			return &findings->items[i];
	return NULL;
}

static json_t *type_with_count(const struct instance_type *type, unsigned fits,
			       const struct findings *why)
{
	json_t *definition = type_json(type);

	/* as the API has it (instances/openapi.yaml, Type) */
	return json_pack("{s:s, s:i, s:I, s:O, s:o, s:i, s:o}", "name", type->name, "vcpus",
			 (int)type->vcpus, "memory_mib", (json_int_t)type->memory_mib, "gpus",
			 json_object_get(definition, "gpus"), "definition", definition, "fits",
			 (int)fits, "why_not", cli_findings_json(why));
}

static int list(const struct words *w, const struct type_catalogue *catalogue,
		struct placement_ledger *ledger)
{
	struct findings *why = calloc(1, sizeof(*why));
	json_t *types = json_array();
	FILE *out = w->options.out;

	if (!why)
		return CLI_FAILED;
	if (!w->options.json)
		fprintf(out, "%-12s  %5s  %10s  %-24s  %5s  %s\n", "type", "vcpus", "memory", "gpu",
			"more", "what stands in the way of the next");
	for (unsigned i = 0; i < catalogue->count; i++) {
		const struct instance_type *type = &catalogue->items[i];
		const unsigned fits = placement_fits_count(ledger, type, COUNT_MAX, why);
		const struct finding *first = first_blocker(why);
		char gpu[96];

		if (w->options.json)
			json_array_append_new(types, type_with_count(type, fits, why));
		else
			fprintf(out, "%-12s  %5u  %6" PRIu64 " MiB  %-24s  %5u  %s\n", type->name,
				type->vcpus, type->memory_mib, gpu_text(type, gpu), fits,
				first ? first->fact : "-");
	}
	if (w->options.json)
		dump(types, out);
	else
		json_decref(types);
	free(why);
	return CLI_OK;
}

/* The machine and nothing taken. Returns the exit status. */
static int list_here(const struct words *w, const struct type_catalogue *catalogue)
{
	struct node_vulkan vulkan = { 0 };
	struct node_options what = { .root = w->options.root, .vulkan = &vulkan };
	struct placement_ledger *ledger = NULL;
	struct placement_limits limits;
	struct error e = { 0 };
	struct node *node;
	int status;

	if (!w->options.root[0] && node_vulkan_read(NODE_VULKAN_TIMEOUT_MS, &vulkan, &e) &&
	    strcmp(e.code, "no-vulkan-device") != 0)
		error_print(&e, "divvy");
	if (node_read(&what, &node, &e))
		return cli_fail(&w->options, &e);
	placement_limits_default(node, &limits);
	limits.policy = w->policy;
	status = placement_ledger_create(node, &limits, &ledger, &e) ? cli_fail(&w->options, &e)
								     : list(w, catalogue, ledger);
	placement_ledger_destroy(ledger);
	node_free(node);
	return status;
}

int cli_types(int argc, char **argv, FILE *out)
{
	struct words w = { .options = { .root = "", .out = out } };
	struct type_catalogue catalogue = { 0 };
	struct findings *findings;
	int status = parse(argc, argv, &w);

	if (status >= 0)
		return status;
	if (optind < argc && !strcmp(argv[optind], "check"))
		return check(&w, argc - optind - 1, argv + optind + 1);
	if (optind < argc)
		return usage("types what? check, or nothing; not ", argv[optind]);
	findings = calloc(1, sizeof(*findings));
	if (!findings)
		return CLI_FAILED;
	if (w.types)
		check_path(&catalogue, w.types, findings);
	else
		type_catalogue_load(w.options.root, &catalogue, findings);
	/* What is wrong with a file does not hide the others. */
	if (findings_blockers(findings))
		cli_findings_print(findings, stderr);
	status = list_here(&w, &catalogue);
	type_catalogue_free(&catalogue);
	free(findings);
	return status;
}
