// SPDX-License-Identifier: Apache-2.0
/* A placement as JSON, as the store keeps it and the API shows it, and back: what comes back is checked as any input is. */
#include <errno.h>
#include <string.h>

#include "instances/placement/private.h"

static json_t *part_json(const struct placement_part *part)
{
	const bool shared = part->mode == TYPE_SHARED;
	json_t *json;

	json = json_pack("{s:s, s:i, s:s, s:o, s:I, s:I, s:i, s:i}", "gpu", part->gpu, "entry",
			 (int)part->entry, "mode", type_mode_name(part->mode), "policy",
			 shared ? json_string(sched_policy_name(part->policy)) : json_null(),
			 "time_ppm", (json_int_t)part->time_ppm, "vram_mib",
			 (json_int_t)part->vram_mib, "heads", (int)part->heads, "users_max",
			 (int)part->users_max);
	if (!json || shared)
		return json;
	json_object_set_new(json, "provider", json_string(type_provider_name(part->provider)));
	if (part->provider != TYPE_MDEV)
		return json;
	json_object_set_new(json, "mdev_type", json_string(part->mdev_type));
	json_object_set_new(json, "mdev", json_string(part->mdev));
	return json;
}

json_t *placement_json(const struct placement *placement)
{
	json_t *parts = json_array();

	for (unsigned i = 0; i < MIN(placement->part_count, PLACEMENT_PARTS_MAX); i++)
		if (json_array_append_new(parts, part_json(&placement->parts[i]))) {
			json_decref(parts);
			return NULL;
		}
	return json_pack(
		"{s:i, s:i, s:I, s:I, s:I, s:I, s:o}", "numa_node", placement->numa_node, "vcpus",
		(int)placement->vcpus, "cpu_milli", (json_int_t)placement->cpu_milli, "memory_mib",
		(json_int_t)placement->memory_mib, "huge_page", (json_int_t)placement->huge_page,
		"huge_count", (json_int_t)placement->huge_count, "parts", parts);
}

static bool number(const json_t *object, const char *key, uint64_t max, uint64_t *value)
{
	const json_t *json = json_object_get(object, key);

	*value = json_is_integer(json) && json_integer_value(json) >= 0
			 ? (uint64_t)json_integer_value(json)
			 : UINT64_MAX;
	return *value <= max;
}

/* What a dedicated part is; one that was written before there were several kinds is a whole GPU. */
static bool device_from(const json_t *json, struct placement_part *part)
{
	const char *provider = json_string_value(json_object_get(json, "provider"));
	const char *type = json_string_value(json_object_get(json, "mdev_type"));
	const char *mdev = json_string_value(json_object_get(json, "mdev"));

	if (provider && type_provider_parse(provider, &part->provider))
		return false;
	if (part->provider != TYPE_MDEV)
		return true;
	if (!type || !type[0] || strlen(type) >= sizeof(part->mdev_type) || !mdev ||
	    strlen(mdev) >= sizeof(part->mdev))
		return false;
	strcpy(part->mdev_type, type);
	strcpy(part->mdev, mdev);
	return true;
}

static bool part_from(const json_t *json, struct placement_part *part)
{
	const char *gpu = json_string_value(json_object_get(json, "gpu"));
	const char *mode = json_string_value(json_object_get(json, "mode"));
	const char *policy = json_string_value(json_object_get(json, "policy"));
	uint64_t entry, time, vram, heads, users;

	if (!gpu || !gpu[0] || strlen(gpu) >= sizeof(part->gpu) || !mode ||
	    (strcmp(mode, "dedicated") != 0 && strcmp(mode, "shared") != 0) ||
	    !number(json, "entry", TYPE_GPUS_MAX - 1, &entry) ||
	    !number(json, "time_ppm", SCHED_PPM, &time) ||
	    !number(json, "vram_mib", TYPE_VRAM_MIB_MAX, &vram) ||
	    !number(json, "heads", TYPE_DISPLAYS_MAX, &heads) ||
	    !number(json, "users_max", TYPE_USERS_MAX, &users))
		return false;
	*part = (struct placement_part){
		.entry = (unsigned)entry,
		.mode = !strcmp(mode, "shared") ? TYPE_SHARED : TYPE_DEDICATED,
		.time_ppm = (uint32_t)time,
		.vram_mib = vram,
		.heads = (unsigned)heads,
		.users_max = (unsigned)users,
	};
	strcpy(part->gpu, gpu);
	if (part->mode == TYPE_DEDICATED)
		return device_from(json, part);
	for (unsigned i = 0; policy && i < SCHED_POLICIES; i++)
		if (!strcmp(policy, sched_policy_name((enum sched_policy)i))) {
			part->policy = (enum sched_policy)i;
			return true;
		}
	return false;
}

int placement_from_json(const json_t *json, struct placement *placement)
{
	const json_t *parts = json_object_get(json, "parts");
	const json_t *numa = json_object_get(json, "numa_node");
	uint64_t vcpus;

	memset(placement, 0, sizeof(*placement));
	if (!number(json, "vcpus", TYPE_VCPUS_MAX, &vcpus) ||
	    !number(json, "cpu_milli", TYPE_VCPUS_MAX * UINT64_C(100000), &placement->cpu_milli) ||
	    !number(json, "memory_mib", 2 * TYPE_MEMORY_MIB_MAX, &placement->memory_mib) ||
	    !number(json, "huge_page", GIB, &placement->huge_page) ||
	    !number(json, "huge_count", TYPE_MEMORY_MIB_MAX, &placement->huge_count) ||
	    !json_is_integer(numa) || json_integer_value(numa) < -1 ||
	    json_integer_value(numa) >= CPU_LIST_MAX || !json_is_array(parts) ||
	    json_array_size(parts) > PLACEMENT_PARTS_MAX)
		return -EINVAL;
	placement->vcpus = (unsigned)vcpus;
	placement->numa_node = (int)json_integer_value(numa);
	for (; placement->part_count < json_array_size(parts); placement->part_count++)
		if (!part_from(json_array_get(parts, placement->part_count),
			       &placement->parts[placement->part_count]))
			return -EINVAL;
	return 0;
}
