// SPDX-License-Identifier: Apache-2.0
/* Where an instance of divvy run without a daemon goes: types, the machine and placement as the daemon would have them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "instances/cli/embedded_private.h"
#include "instances/cli/here.h"
#include "instances/placement/placement.h"

static int dedicated_part(const struct node_gpu *gpu, struct launch_gpu *out, struct error *e)
{
	char bdf[PCI_ADDRESS_LEN], next[64];

	out->dedicated = true;
	for (unsigned i = 0; i < gpu->function_count; i++) {
		pci_address_format(&gpu->functions[i].address, bdf);
		snprintf(next, sizeof(next), "divvy bind %s", bdf);
		if (strcmp(gpu->functions[i].driver, "vfio-pci") != 0)
			return error_set(e, EBUSY, "not-bound", next,
					 "%s of %s is with the driver %s", bdf, gpu->name,
					 gpu->functions[i].driver[0] ? gpu->functions[i].driver
								     : "none");
		out->functions[out->function_count++] = gpu->functions[i].address;
	}
	return 0;
}

static int instance_fill(struct embedded *m, const struct node *node, const struct placement *place,
			 const json_t *definition, struct error *e)
{
	struct launch_instance *instance = &m->instance;
	struct instance_type *type = &m->type;
	const char *name = json_string_value(json_object_get(definition, "name"));
	const json_int_t weight = json_integer_value(json_object_get(definition, "weight"));
	const json_t *displays = json_object_get(definition, "displays");
	char next[ERROR_NEXT_SIZE];
	sd_id128_t id;

	snprintf(instance->name, sizeof(instance->name), "%s", name ? name : "run");
	if (sd_id128_randomize(&id) < 0)
		return error_set(e, EIO, "no-uuid", NULL, "no random numbers");
	sd_id128_to_uuid_string(id, instance->uuid);
	snprintf(m->image, sizeof(m->image), "%s",
		 json_string_value(json_object_get(definition, "image")));
	instance->image = m->image;
	instance->numa_node = place->numa_node;
	if (weight && !type_weight_set(type, (uint32_t)weight))
		return error_set(e, EINVAL, "bad-value", error_next("show type", type->name, next),
				 "a weight means nothing to %s: no GPU of it is weighted or burst",
				 type->name);
	if (json_array_size(displays))
		type_displays_set(type, displays);
	for (unsigned i = 0; i < type->nic_count; i++)
		if (type->nics[i] == TYPE_NIC_TAP)
			return error_set(e, ENOTSUP, "tap-needs-daemon", "systemctl start divvyd",
					 "%s wants a tap interface, which divvyd makes",
					 type->name);
	for (unsigned i = 0; i < place->part_count && i < LAUNCH_GPUS_MAX; i++) {
		const struct placement_part *part = &place->parts[i];
		const struct node_gpu *gpu = node_gpu_find(node, part->gpu);
		struct launch_gpu *out = &instance->gpus[instance->gpu_count++];
		int err = 0;

		if (!gpu)
			return error_set(e, ENODEV, "no-such-gpu", NULL, "%s is gone", part->gpu);
		if (part->mode == TYPE_DEDICATED && part->provider == TYPE_MDEV)
			return error_set(
				e, ENOTSUP, "mdev-needs-daemon", "systemctl start divvyd",
				"%s wants a mediated device, which divvyd makes and removes",
				type->name);
		if (part->mode == TYPE_DEDICATED) {
			err = dedicated_part(gpu, out, e);
		} else {
			snprintf(out->gpu, sizeof(out->gpu), "%s", gpu->vulkan_name);
			launch_take_share(out, &type->gpus[part->entry]);
			out->vram_bytes = part->vram_mib * MIB;
		}
		if (err)
			return err;
	}
	launch_take_type(instance, type);
	return 0;
}

/* What the first blocker says. */
static int not_placed(const struct findings *why, const char *type, struct error *e)
{
	for (unsigned i = 0; i < why->count; i++)
		if (why->items[i].level == FINDING_BLOCKER)
			return error_set(e, ENOSPC, why->items[i].code,
					 why->items[i].next[0] ? why->items[i].next : "divvy types",
					 "%s does not fit on this machine: %s", type,
					 why->items[i].fact);
	return error_set(e, ENOSPC, "no-room", "divvy types", "%s does not fit on this machine",
			 type);
}

int embedded_place(struct embedded *m, const json_t *definition, struct error *e)
{
	const char *name = json_string_value(json_object_get(definition, "type"));
	struct type_catalogue catalogue = { 0 };
	struct placement_ledger *ledger = NULL;
	struct node_options options = { .root = m->cli->root };
	struct placement_limits limits;
	struct findings findings = { 0 };
	struct placement where;
	struct node_vulkan vulkan = { 0 };
	const struct instance_type *type;
	struct node *node = NULL;
	char is_it[TYPE_IS_IT_SIZE];
	int err;

	node_vulkan_read(NODE_VULKAN_TIMEOUT_MS, &vulkan, NULL);
	options.vulkan = &vulkan;
	err = node_read(&options, &node, e);
	if (!err && here_catalogue(m->cli, &catalogue, &findings))
		err = error_set(e, ENOMEM, "no-memory", NULL, "no memory for the types");
	type = err ? NULL : type_catalogue_find(&catalogue, name);
	if (!err && !type)
		err = error_set(e, ENOENT, "no-such-type", "divvy list types",
				"there is no instance type %s%s", name,
				type_catalogue_is_it(&catalogue, name, is_it));
	if (type) {
		m->type = *type;
		placement_limits_default(node, &limits);
		err = placement_ledger_create(node, &limits, &ledger, e);
	}
	if (!err) {
		memset(&findings, 0, sizeof(findings));
		if (placement_find(ledger, type, &where, &findings))
			err = not_placed(&findings, name, e);
	}
	if (!err)
		err = instance_fill(m, node, &where, definition, e);
	placement_ledger_destroy(ledger);
	type_catalogue_free(&catalogue);
	node_free(node);
	return err;
}
