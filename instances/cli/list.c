// SPDX-License-Identifier: Apache-2.0
/* divvy list, show, types: what the daemon tells, or the machine itself where there is none. JSON is shown as it came. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "instances/cli/api.h"
#include "instances/cli/here.h"
#include "instances/cli/show.h"
#include "instances/cli/table.h"
#include "instances/types/types.h"

static const char *text(const json_t *json, const char *key)
{
	const char *value = json_string_value(json_object_get(json, key));

	return value ? value : "";
}

static json_int_t integer(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

static double number(const json_t *json, const char *key)
{
	return json_number_value(json_object_get(json, key));
}

static void print(const struct cli *cli, struct table *table, const char *none)
{
	if (table_empty(table))
		fprintf(cli->out, "%s\n", none);
	else
		table_print(table, cli->out, table_width(cli->out), table_colour(cli->out));
	table_destroy(table);
}

enum table_colour show_state_colour(const char *state)
{
	static const struct {
		const char *state;
		enum table_colour colour;
	} colours[] = { { "running", TABLE_GOOD },    { "starting", TABLE_WARN },
			{ "stopping", TABLE_WARN },   { "failed", TABLE_BAD },
			{ "quarantined", TABLE_BAD }, { "busy", TABLE_WARN },
			{ "shared", TABLE_GOOD },     { "dedicated", TABLE_GOOD },
			{ "stopped", TABLE_DIM },     { "defined", TABLE_DIM } };

	for (size_t i = 0; i < ARRAY_SIZE(colours); i++)
		if (!strcmp(state, colours[i].state))
			return colours[i].colour;
	return TABLE_PLAIN;
}

char *show_mib(char *to, size_t size, double mib)
{
	if (mib >= 10 * 1024)
		snprintf(to, size, "%.0f GiB", mib / 1024);
	else if (mib >= 1024)
		snprintf(to, size, "%.3g GiB", mib / 1024);
	else
		snprintf(to, size, "%.0f MiB", mib);
	return to;
}

/* ---- GPUs --------------------------------------------------------------------------------------- */

/* "shared, drained" */
static void gpu_state(const json_t *gpu, char *to, size_t size)
{
	snprintf(to, size, "%s", text(gpu, "state"));
	if (json_is_true(json_object_get(gpu, "drained")))
		text_append(to, size, ", drained");
}

/* Who is on it: the instance that has it whole, or how many vGPUs or slices. */
static void gpu_users(const json_t *gpu, char *to, size_t size)
{
	const size_t count = json_array_size(json_object_get(gpu, "vgpus"));
	const json_int_t slices = integer(gpu, "slices");

	snprintf(to, size, "%s", text(gpu, "instance"));
	if (count)
		snprintf(to, size, "%zu vGPU%s", count, count == 1 ? "" : "s");
	else if (slices)
		snprintf(to, size, "%lld slice%s", (long long)slices, slices == 1 ? "" : "s");
}

/* What it is, and what it is a part of or can be cut into. */
static void gpu_kind(const json_t *gpu, char *to, size_t size)
{
	const char *physical = text(gpu, "physical_function");

	snprintf(to, size, "%s", text(gpu, "name"));
	if (physical[0])
		text_append(to, size, ", virtual function of %s", physical);
	if (integer(gpu, "sriov_total"))
		text_append(to, size, ", %lld of %lld virtual functions",
			    (long long)integer(gpu, "sriov_now"),
			    (long long)integer(gpu, "sriov_total"));
	if (json_array_size(json_object_get(gpu, "mdev_types")))
		text_append(to, size, ", mediated devices");
}

static void gpus_table(const struct cli *cli, const json_t *gpus)
{
	static const struct table_column columns[] = {
		{ .title = "gpu", .least = 12 },	{ .title = "state", .least = 8 },
		{ .title = "sold", .right = true },	{ .title = "memory", .right = true },
		{ .title = "used by", .least = 8 },	{ .title = "driver", .least = 6 },
		{ .title = "what it is", .least = 12 },
	};
	struct table *table = table_create(columns, ARRAY_SIZE(columns));
	char state[64], users[64], memory[32], kind[320];
	json_t *gpu;
	size_t i;

	json_array_foreach(gpus, i, gpu)
	{
		gpu_state(gpu, state, sizeof(state));
		gpu_users(gpu, users, sizeof(users));
		gpu_kind(gpu, kind, sizeof(kind));
		memory[0] = '~';
		show_mib(memory + 1, sizeof(memory) - 1, number(gpu, "memory_bytes") / (double)MIB);
		table_cell(table, TABLE_PLAIN, "%s", text(gpu, "id"));
		table_cell(table, show_state_colour(text(gpu, "state")), "%s", state);
		table_cell(table, TABLE_PLAIN, "%.4g %%", 100 * number(gpu, "share_sold"));
		table_cell(table, TABLE_PLAIN, "%s",
			   !integer(gpu, "memory_bytes")			    ? ""
			   : json_is_true(json_object_get(gpu, "memory_estimated")) ? memory
										    : memory + 1);
		table_cell(table, TABLE_PLAIN, "%s", users);
		table_cell(table, TABLE_PLAIN, "%s", text(gpu, "driver"));
		table_cell(table, TABLE_PLAIN, "%s", kind);
	}
	print(cli, table, "no GPU was found (next: divvy list devices)");
}

/* ---- types --------------------------------------------------------------------------------------- */

/* "1/4 of a GPU", "2 GPUs", "weight 100" */
static void type_gpus(const json_t *type, char *to, size_t size)
{
	const json_t *gpus = json_object_get(type, "gpus"), *gpu;
	size_t i;

	to[0] = '\0';
	json_array_foreach((json_t *)(uintptr_t)gpus, i, gpu)
	{
		const json_int_t count = MAX(integer(gpu, "count"), 1);
		const double partition = number(gpu, "partition");

		text_append(to, size, "%s", i ? " + " : "");
		if (count > 1)
			text_append(to, size, "%lld x ", (long long)count);
		if (!strcmp(text(gpu, "provider"), "sriov"))
			text_append(to, size, "virtual function");
		else if (!strcmp(text(gpu, "provider"), "mdev"))
			text_append(to, size, "mdev %s", text(gpu, "mdev_type"));
		else if (!strcmp(text(gpu, "mode"), "dedicated"))
			text_append(to, size, "whole GPU");
		else if (partition > 0)
			text_append(to, size, "%.4g %% %s", 100 * partition, text(gpu, "policy"));
		else
			text_append(to, size, "%s", text(gpu, "policy"));
		if (integer(gpu, "weight"))
			text_append(to, size, " %lld", (long long)integer(gpu, "weight"));
	}
	if (!to[0])
		snprintf(to, size, "none");
}

static void types_table(const struct cli *cli, const json_t *types, bool reasons)
{
	static const struct table_column columns[] = {
		{ .title = "type" },
		{ .title = "vCPUs", .right = true },
		{ .title = "memory", .right = true },
		{ .title = "GPU", .least = 6 },
		{ .title = "fit now", .right = true },
		{ .title = "why not more", .least = 10, .below = true },
	};
	struct table *table = table_create(columns, reasons ? 6 : 5);
	char memory[32], gpus[128];
	json_t *type;
	size_t i;

	json_array_foreach(types, i, type)
	{
		const json_t *why = json_array_get(json_object_get(type, "why_not"), 0);
		const json_int_t fits = integer(type, "fits");

		type_gpus(type, gpus, sizeof(gpus));
		table_cell(table, TABLE_PLAIN, "%s", text(type, "name"));
		table_cell(table, TABLE_PLAIN, "%lld", (long long)integer(type, "vcpus"));
		table_cell(table, TABLE_PLAIN, "%s",
			   show_mib(memory, sizeof(memory), number(type, "memory_mib")));
		table_cell(table, TABLE_PLAIN, "%s", gpus);
		table_cell(table, fits ? TABLE_GOOD : TABLE_DIM, "%lld", (long long)fits);
		if (reasons)
			table_cell(table, TABLE_PLAIN, "%s", text(why, "fact"));
	}
	print(cli, table, "no types (next: divvy types check)");
}

/* ---- instances ----------------------------------------------------------------------------------- */

/* Where it is: GPUs, each with the part it has. */
static void instance_place(const json_t *instance, char *to, size_t size)
{
	const json_t *place;
	size_t i;

	to[0] = '\0';
	json_array_foreach(json_object_get(instance, "placement"), i, place)
	{
		text_append(to, size, "%s%s", i ? ", " : "", text(place, "gpu"));
	}
}

static void instances_table(const struct cli *cli, const json_t *instances)
{
	static const struct table_column columns[] = {
		{ .title = "instance", .least = 8 },
		{ .title = "state", .least = 8 },
		{ .title = "type", .least = 6 },
		{ .title = "on", .least = 8 },
		{ .title = "owner", .right = true },
		{ .title = "what there is to know", .least = 12, .below = true },
	};
	struct table *table = table_create(columns, ARRAY_SIZE(columns));
	char state[96], place[256];
	json_t *instance;
	size_t i;

	json_array_foreach(instances, i, instance)
	{
		const json_t *error = json_object_get(instance, "error");

		snprintf(state, sizeof(state), "%s", text(instance, "state"));
		if (text(instance, "step")[0])
			text_append(state, sizeof(state), " (%s)", text(instance, "step"));
		instance_place(instance, place, sizeof(place));
		table_cell(table, TABLE_PLAIN, "%s", text(instance, "name"));
		table_cell(table, show_state_colour(text(instance, "state")), "%s", state);
		table_cell(table, TABLE_PLAIN, "%s", text(instance, "type"));
		table_cell(table, TABLE_PLAIN, "%s", place);
		table_cell(table, TABLE_PLAIN, "%lld", (long long)integer(instance, "owner"));
		table_cell(table, TABLE_PLAIN, "%s", text(error, "text"));
	}
	print(cli, table, "no instances (next: divvy create --help)");
}

/* ---- list, types ---------------------------------------------------------------------------------- */

/* What was asked for, of the daemon or of this machine. */
static json_t *fetch(struct cli *cli, const char *what, struct error *e)
{
	char path[32];

	if (here_is_asked(cli) && !strcmp(what, "gpus"))
		return here_gpus(cli, e);
	if (here_is_asked(cli) && !strcmp(what, "types"))
		return here_types(cli, e);
	snprintf(path, sizeof(path), "/%s", what);
	return api_get(cli, path, e);
}

static int list(struct cli *cli, const char *what, bool reasons)
{
	struct error e = { 0 };
	json_t *json = fetch(cli, what, &e);

	if (!json)
		return cli_fail(cli, &e);
	if (cli->json) {
		cli_json_print(cli, json);
		return CLI_OK;
	}
	if (!strcmp(what, "gpus"))
		gpus_table(cli, json_object_get(json, "gpus"));
	else if (!strcmp(what, "types"))
		types_table(cli, json_object_get(json, "types"), reasons);
	else
		instances_table(cli, json_object_get(json, "instances"));
	json_decref(json);
	return CLI_OK;
}

/* "gpus", or "gpu" */
static bool is_kind(const char *word, const char *kind)
{
	const size_t length = strlen(kind);

	return !strncmp(word, kind, length - 1) &&
	       (!word[length - 1] || !strcmp(word + length - 1, "s"));
}

int cli_list(struct cli *cli)
{
	static const char *const kinds[] = { "gpus", "types", "instances" };

	if (is_kind(cli->words[0], "devices"))
		return cli_devices(cli);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (is_kind(cli->words[0], kinds[i]))
			return list(cli, kinds[i], false);
	return cli_usage(cli, "list what? gpus, types, instances or devices");
}

int cli_types(struct cli *cli)
{
	return list(cli, "types", true);
}

/* ---- show ----------------------------------------------------------------------------------------- */

/* A JSON value as lines of "key  value", what is inside of it further in. */
static void show_lines(const struct cli *cli, const json_t *json, unsigned depth, unsigned width)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)json, key, value)
	{
		const int indent = (int)(2 * depth), column = MAX(22 - indent, 1);
		json_t *item;
		char *said;
		size_t i;

		if (json_is_null(value) || (json_is_array(value) && !json_array_size(value)) ||
		    (json_is_object(value) && !json_object_size(value)) ||
		    (json_is_string(value) && !json_string_length(value)))
			continue;
		fprintf(cli->out, "%*s%-*s ", indent, "", column, key);
		if (json_is_object(value) && depth < 4) {
			fputc('\n', cli->out);
			show_lines(cli, value, depth + 1, width);
			continue;
		}
		if (json_is_array(value) && json_is_object(json_array_get(value, 0)) && depth < 4) {
			fputc('\n', cli->out);
			json_array_foreach(value, i, item)
			{
				show_lines(cli, item, depth + 1, width);
				if (i + 1 < json_array_size(value))
					fputc('\n', cli->out);
			}
			continue;
		}
		said = json_is_string(value)
			       ? strdup(json_string_value(value))
			       : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
		table_text_wrap(cli->out, said ? said : "", 23, 23, MAX(width, 40u));
		fputc('\n', cli->out);
		free(said);
	}
}

/* The item of a list whose @key is @name. */
static json_t *find(const json_t *list, const char *key, const char *name)
{
	json_t *item;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, item)
	{
		if (!strcmp(text(item, key), name))
			return json_incref(item);
	}
	return NULL;
}

/* What was likely meant by a name that nothing has, of all that has one; each list may be NULL. */
static void no_such(const char *name, const json_t *const lists[3], const char *next,
		    const char *what, const char *where, struct error *e)
{
	static const char *const keys[] = { "name", "id", "name" };
	size_t room = 1, count = 0, i;
	char is_it[TYPE_IS_IT_SIZE];
	const char **names;
	json_t *item;

	for (unsigned l = 0; l < ARRAY_SIZE(keys); l++)
		room += json_array_size(lists[l]);
	names = calloc(room, sizeof(*names));
	for (unsigned l = 0; names && l < ARRAY_SIZE(keys); l++)
		json_array_foreach((json_t *)(uintptr_t)lists[l], i, item)
		{
			names[count++] = text(item, keys[l]);
		}
	error_set(e, ENOENT, "no-such-name", next, "no %s is called %s%s%s", what, name, where,
		  type_is_it(name, names, (unsigned)count, is_it));
	free(names);
}

/* A GPU or a type of this machine. */
static json_t *show_here(struct cli *cli, const char *name, struct error *e)
{
	json_t *gpus = here_gpus(cli, e), *types = gpus ? here_types(cli, e) : NULL, *found = NULL;
	struct pci_address address;
	char bdf[PCI_ADDRESS_LEN];

	if (types) {
		found = find(json_object_get(gpus, "gpus"), "id", name);
		if (!found && !pci_address_parse(name, &address))
			found = find(json_object_get(gpus, "gpus"), "pci_address",
				     pci_address_format(&address, bdf));
		if (!found)
			found = find(json_object_get(types, "types"), "name", name);
		if (!found)
			no_such(name,
				(const json_t *[]){ NULL, json_object_get(gpus, "gpus"),
						    json_object_get(types, "types") },
				"divvy list gpus; divvy list types", "GPU or type here",
				", and divvyd is not running", e);
	}
	json_decref(gpus);
	json_decref(types);
	return found;
}

/* No instance, GPU or type of the daemon's. */
static void no_such_here(struct cli *cli, const char *name, struct error *e)
{
	struct error ignored = { 0 };
	json_t *instances = api_get(cli, "/instances", &ignored),
	       *gpus = api_get(cli, "/gpus", &ignored), *types = api_get(cli, "/types", &ignored);

	no_such(name,
		(const json_t *[]){ json_object_get(instances, "instances"),
				    json_object_get(gpus, "gpus"),
				    json_object_get(types, "types") },
		"divvy list instances; divvy list gpus; divvy list types", "instance, GPU or type",
		"", e);
	json_decref(instances);
	json_decref(gpus);
	json_decref(types);
}

int cli_show(struct cli *cli)
{
	static const struct {
		const char *kind, *folder;
	} kinds[] = { { "instance", "/instances/" }, { "gpu", "/gpus/" }, { "type", "/types/" } };
	const char *name = cli->words[cli->count - 1],
		   *kind = cli->count == 2 ? cli->words[0] : NULL;
	struct error e = { .err = ENOENT };
	char path[API_PATH_SIZE];
	json_t *json = NULL;

	if (kind && strcmp(kind, "instance") != 0 && strcmp(kind, "gpu") != 0 &&
	    strcmp(kind, "type") != 0)
		return cli_usage(cli, "show which %s? instance, gpu or type", kind);

	if (here_is_asked(cli)) {
		json = show_here(cli, name, &e);
	} else {
		if (!strcmp(name, "node") && !kind)
			json = api_get(cli, "/node", &e);
		/* The first of that name; one that no such thing may have is no reason to look no further. */
		for (size_t i = 0;
		     i < ARRAY_SIZE(kinds) && !json && (e.err == ENOENT || e.err == EINVAL); i++)
			if (!kind || !strcmp(kind, kinds[i].kind))
				json = api_get(cli, api_path(path, kinds[i].folder, name, ""), &e);
		/* With its kind the daemon has said it. */
		if (!json && e.err == ENOENT && !kind)
			no_such_here(cli, name, &e);
	}
	if (!json)
		return cli_fail(cli, &e);
	if (cli->json) {
		cli_json_print(cli, json);
		return CLI_OK;
	}
	show_lines(cli, json, 0, table_width(cli->out));
	json_decref(json);
	return CLI_OK;
}
