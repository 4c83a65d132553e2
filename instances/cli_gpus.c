// SPDX-License-Identifier: Apache-2.0
/* divvy list gpus: the GPUs of this machine, and what could be made of each (docs/node.md). */
#include <inttypes.h>
#include <string.h>

#include "instances/cli.h"
#include "instances/node/node.h"

/* "32.0 x16", and after a slash what it could be */
static const char *link_text(const struct node_link *link, char text[40])
{
	snprintf(text, 40, "-");
	if (link->mts && link->width)
		snprintf(text, 40, "%u.%u x%u", link->mts / 1000, link->mts % 1000 / 100,
			 link->width);
	if (link->mts && link->width &&
	    (link->mts < link->max_mts || link->width < link->max_width))
		text_append(text, 40, " of %u.%u x%u", link->max_mts / 1000,
			    link->max_mts % 1000 / 100, link->max_width);
	return text;
}

static const char *memory_text(const struct node_gpu *gpu, char text[32])
{
	snprintf(text, 32, "-");
	if (gpu->vram_mib)
		snprintf(text, 32, "%s%" PRIu64 " MiB",
			 gpu->vram_source == NODE_VRAM_BAR ? "~" : "", gpu->vram_mib);
	return text;
}

static const char *providers_text(const struct node_gpu *gpu, char text[48])
{
	static const char *const names[] = { "whole", "sriov", "mdev", "vgpu" };

	text[0] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (gpu->providers & 1u << i)
			text_append(text, 48, "%s%s", text[0] ? "," : "", names[i]);
	return text[0] ? text : "-";
}

static void print_gpu(const struct node_gpu *gpu, FILE *out)
{
	char memory[32], link[40], numa[12] = "-", as[48];

	if (gpu->numa_node >= 0)
		snprintf(numa, sizeof(numa), "%d", gpu->numa_node);
	fprintf(out, "%-18s  %-12s  %4s  %11s  %-16s  %-14s  %s\n", gpu->id,
		gpu->driver[0] ? gpu->driver : "-", numa, memory_text(gpu, memory),
		link_text(&gpu->link, link), providers_text(gpu, as), gpu->name);
	if (gpu->has_address && !gpu->assignable && !gpu->software)
		fprintf(out, "%18s  not whole: %s\n", "", gpu->not_assignable);
}

int cli_list_gpus(const struct cli_options *options)
{
	struct node_vulkan vulkan = { 0 };
	struct node_options what = { .root = options->root, .vulkan = &vulkan };
	struct error e = { 0 };
	struct node *node;
	json_t *json;

	/* Drivers are this machine's, whatever the root is. A machine without any has GPUs all the same. */
	if (!options->root[0] && node_vulkan_read(NODE_VULKAN_TIMEOUT_MS, &vulkan, &e) &&
	    strcmp(e.code, "no-vulkan-device") != 0)
		error_print(&e, "divvy");
	if (node_read(&what, &node, &e))
		return cli_fail(options, &e);
	if (options->json) {
		json = json_array();
		for (unsigned i = 0; i < node->gpu_count; i++)
			json_array_append_new(json, node_gpu_json(&node->gpus[i]));
		json_dumpf(json, options->out, JSON_INDENT(2));
		fputc('\n', options->out);
		json_decref(json);
	} else {
		fprintf(options->out, "%-18s  %-12s  %4s  %11s  %-16s  %-14s  %s\n", "id", "driver",
			"numa", "memory", "link GT/s", "can be", "what it is");
		for (unsigned i = 0; i < node->gpu_count; i++)
			print_gpu(&node->gpus[i], options->out);
		if (node->truncated)
			fprintf(options->out, "and more than %d\n", NODE_GPUS_MAX);
	}
	node_free(node);
	return CLI_OK;
}
