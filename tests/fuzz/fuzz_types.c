// SPDX-License-Identifier: Apache-2.0
/*
 * Types from strangers, as YAML and as JSON: whatever the bytes, they are refused in words, or are types that keep what types promise, go
 * through JSON exactly, and can be placed or refused on a machine.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "instances/placement/placement.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct findings findings;

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void through_json(const struct instance_type *type)
{
	json_t *json = type_json(type);
	char *text = json_dumps(json, JSON_REAL_PRECISION(15));
	json_t *again = text ? json_loads(text, 0, NULL) : NULL;
	struct instance_type back;

	must(json && text && again);
	findings.count = 0;
	must(!type_from_json(again, "again", &back, &findings));
	memcpy(back.source, type->source, sizeof(back.source));
	must(!memcmp(&back, type, sizeof(back)));
	json_decref(json);
	json_decref(again);
	free(text);
}

static void promises(const struct instance_type *type)
{
	unsigned gpus = 0;

	must(type_name_ok(type->name) && type->vcpus && type->memory_mib && type->gpu_count);
	must(type->gpu_count <= TYPE_GPUS_MAX && type->display_count <= TYPE_DISPLAYS_MAX);
	for (unsigned i = 0; i < type->gpu_count; i++) {
		const struct type_gpu *gpu = &type->gpus[i];
		uint64_t sum = 0;

		gpus += gpu->count;
		must(gpu->time_ppm <= SCHED_PPM && gpu->time_ppm + gpu->elastic_ppm <= SCHED_PPM);
		must(gpu->mode == TYPE_DEDICATED ||
		     (gpu->count == 1 && (gpu->vram_mib || gpu->partition_ppm)));
		must(gpu->policy != SCHED_BURST || gpu->mode == TYPE_DEDICATED || gpu->time_ppm);
		for (unsigned j = 0; j < type->gpu_count; j++)
			sum += strcmp(gpu->selector, type->gpus[j].selector)
				       ? 0
				       : type->gpus[j].time_ppm;
		must(sum <= SCHED_PPM);
	}
	must(gpus <= TYPE_GPU_COUNT_MAX);
}

/* Two GPUs: one that is handed out whole or shared, one that is the CPU. */
static void place(const struct instance_type *type)
{
	static struct node_gpu gpus[2] = {
		{ .id = "pci-0000:01:00.0",
		  .name = "GPU",
		  .has_address = true,
		  .address = { .bus = 1 },
		  .assignable = true,
		  .isolated = true,
		  .providers = NODE_WHOLE | NODE_VULKAN,
		  .vram_mib = 81559 },
		{ .id = "software-0",
		  .name = "llvmpipe",
		  .software = true,
		  .providers = NODE_VULKAN,
		  .vram_mib = 16384,
		  .numa_node = -1 },
	};
	static struct node node = { .cpu_count = 64,
				    .memory_mib = 1 << 20,
				    .interrupt_remapping = true };
	struct placement_ledger *ledger;
	struct placement_limits limits;
	struct placement placement;
	struct error e;

	node.gpus = gpus;
	node.gpu_count = 2;
	placement_limits_default(&node, &limits);
	if (placement_ledger_create(&node, &limits, &ledger, &e))
		return;
	findings.count = 0;
	if (placement_find(ledger, type, &placement, &findings)) {
		must(findings_blockers(&findings) > 0);
	} else {
		must(!placement_fits(ledger, &placement, &findings));
		must(!placement_take(ledger, &placement));
		placement_release(ledger, &placement);
	}
	placement_ledger_destroy(ledger);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct type_catalogue catalogue = { 0 };
	struct instance_type type;
	json_t *json;
	int taken;

	findings.count = 0;
	taken = type_catalogue_add_text(&catalogue, (const char *)data, size, "fuzz", &findings);
	must(taken > 0 || findings_blockers(&findings) || !catalogue.count);
	for (unsigned i = 0; i < findings.count; i++)
		for (const char *c = findings.items[i].fact; *c; c++)
			must(*c >= ' ' && *c <= '~');
	for (unsigned i = 0; i < catalogue.count; i++) {
		promises(&catalogue.items[i]);
		through_json(&catalogue.items[i]);
		place(&catalogue.items[i]);
	}
	type_catalogue_free(&catalogue);

	json = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	findings.count = 0;
	if (json && !type_from_json(json, "fuzz", &type, &findings)) {
		type.source[0] = '\0';
		promises(&type);
		through_json(&type);
		place(&type);
	}
	json_decref(json);
	return 0;
}
