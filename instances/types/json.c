// SPDX-License-Identifier: Apache-2.0
/*
 * A type as JSON, in the words of a type file: what the API shows can be written into one. Keys come in a fixed order, and
 * those that mean nothing are left out; type_from_json() gives the same type again, exactly.
 */
#include "instances/building.h"
#include "instances/types/private.h"

static json_t *share(uint32_t ppm)
{
	return json_real((double)ppm / SCHED_PPM);
}

static json_t *credits(uint64_t ns)
{
	/* a credit is kept in units of its thousand-millionth */
	const uint64_t amount = ns / (SCHED_CREDIT_NS / 1000000000);

	return json_real((double)amount / 1e9);
}

static json_t *credits_json(const struct type_gpu *gpu)
{
	struct building b = { .object = json_object() };

	put(&b, "baseline", share(gpu->time_ppm));
	put(&b, "max", credits(gpu->credit_max_ns));
	put(&b, "initial", credits(gpu->credit_initial_ns));
	put(&b, "surplus", credits(gpu->surplus_max_ns));
	return done(&b);
}

static json_t *gpu_json(const struct type_gpu *gpu)
{
	struct building b = { .object = json_object() };

	put(&b, "mode", json_string(type_mode_name(gpu->mode)));
	put(&b, "count", json_integer(gpu->count));
	if (gpu->selector[0])
		put(&b, "selector", json_string(gpu->selector));
	if (gpu->mode == TYPE_DEDICATED) {
		if (gpu->provider != TYPE_WHOLE)
			put(&b, "provider", json_string(type_provider_name(gpu->provider)));
		if (gpu->mdev_type[0])
			put(&b, "mdev_type", json_string(gpu->mdev_type));
		return done(&b);
	}
	put(&b, "policy", json_string(sched_policy_name(gpu->policy)));
	if (gpu->partition_ppm)
		put(&b, "partition", share(gpu->partition_ppm));
	if (gpu->vram_mib)
		put(&b, "vram_mib", json_integer((json_int_t)gpu->vram_mib));
	if (gpu->weight)
		put(&b, "weight", json_integer(gpu->weight));
	if (gpu->elastic_ppm)
		put(&b, "elastic", share(gpu->elastic_ppm));
	if (gpu->policy == SCHED_BURST)
		put(&b, "credits", credits_json(gpu));
	if (gpu->users_max)
		put(&b, "users_max", json_integer(gpu->users_max));
	return done(&b);
}

static json_t *list_json(const struct instance_type *type, unsigned count,
			 json_t *(*item)(const struct instance_type *type, unsigned i))
{
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++)
		if (json_array_append_new(list, item(type, i))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *gpu_item(const struct instance_type *type, unsigned i)
{
	return gpu_json(&type->gpus[i]);
}

static json_t *display_item(const struct instance_type *type, unsigned i)
{
	return json_pack("{s:i, s:i}", "width", (int)type->displays[i].width, "height",
			 (int)type->displays[i].height);
}

static json_t *disk_item(const struct instance_type *type, unsigned i)
{
	return json_pack("{s:I}", "size_mib", (json_int_t)type->disks[i].size_mib);
}

static json_t *nic_item(const struct instance_type *type, unsigned i)
{
	return json_string(type->nics[i] == TYPE_NIC_TAP ? "tap" : "user");
}

json_t *type_json(const struct instance_type *type)
{
	struct building b = { .object = json_object() };

	put(&b, "name", json_string(type->name));
	if (type->description[0])
		put(&b, "description", json_string(type->description));
	put(&b, "vcpus", json_integer(type->vcpus));
	put(&b, "memory_mib", json_integer((json_int_t)type->memory_mib));
	put(&b, "gpus", list_json(type, type->gpu_count, gpu_item));
	put(&b, "displays", list_json(type, type->display_count, display_item));
	put(&b, "disks", list_json(type, type->disk_count, disk_item));
	put(&b, "nics", list_json(type, type->nic_count, nic_item));
	put(&b, "huge_pages",
	    json_string(!type->huge_page	 ? "none"
			: type->huge_page == GIB ? "1G"
						 : "2M"));
	put(&b, "numa", json_string(type->numa == TYPE_NUMA_LOCAL ? "local" : "any"));
	return done(&b);
}
