// SPDX-License-Identifier: Apache-2.0
/*
 * From JSON to a type, whoever wrote it: a YAML file, an API client, our own store. One reader for all of them, so that there is one
 * place where a type is believed. It goes on after a mistake, and tells of all it finds.
 *
 * EC2's words stand beside ours (API_GpuDeviceInfo, API_InstanceTypeInfo): gpuPartitionSize, memoryInfo.sizeInMiB, vCpuInfo.defaultVCpus.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "instances/types/private.h"

#define CODE_VALUE "type-value"
#define CODE_KEY   "type-key"

static const char *const type_keys[] = {
	"name",	 "description", "vcpus",      "memory_mib", "gpus",	"displays",
	"disks", "nics",	"huge_pages", "numa",	    "vCpuInfo", "memoryInfo",
};
static const char *const gpu_keys[] = {
	"mode",	  "selector", "count",	 "provider", "mdev_type", "partition",	      "vram_mib",
	"policy", "weight",   "elastic", "credits",  "users_max", "gpuPartitionSize", "memoryInfo",
};
#define GPU_KEYS_DEDICATED \
	5 /* the first of them that a dedicated entry has; the rest is of vGPUs */
static const char *const credit_keys[] = { "baseline", "max", "initial", "surplus" };
static const char *const display_keys[] = { "width", "height" };
static const char *const disk_keys[] = { "size_mib" };
static const char *const memory_info_keys[] = { "sizeInMiB" };
static const char *const vcpu_info_keys[] = { "defaultVCpus" };

static const char *const mode_words[] = { "dedicated", "shared" };
static const char *const provider_words[] = { "whole", "sriov", "mdev" };
static const char *const numa_words[] = { "any", "local" };
static const char *const nic_words[] = { "user", "tap" };
static const char *const huge_words[] = { "none", "2M", "1G" };
static const char *const policy_words[] = { "best_effort", "equal_share", "fixed_share", "weighted",
					    "burst" };
static const enum sched_policy policies[] = { SCHED_BEST_EFFORT, SCHED_EQUAL_SHARE,
					      SCHED_FIXED_SHARE, SCHED_WEIGHTED, SCHED_BURST };

/* ---- one value -------------------------------------------------------------------------------- */

/* Whether @json is a mapping; if so, its unknown keys are complained of. */
static bool mapping(struct type_reader *r, const char *key, const json_t *json,
		    const char *const *keys, unsigned count)
{
	const char *word, *meant;
	const json_t *value;

	if (!json_is_object(json)) {
		type_complain(r, key, CODE_VALUE, NULL, "is to be a mapping (key: value)");
		return false;
	}
	json_object_foreach((json_t *)json, word, value)
	{
		bool known = false;
		char next[96];

		for (unsigned i = 0; i < count && !known; i++)
			known = !strcmp(word, keys[i]);
		if (known)
			continue;
		meant = type_nearest(word, keys, count);
		snprintf(next, sizeof(next), "write %s", meant ? meant : keys[0]);
		if (meant)
			type_complain(r, word, "type-unknown-key", next,
				      "unknown key; did you mean %s?", meant);
		else
			type_complain(r, word, "type-unknown-key", "docs/types.md", "unknown key");
	}
	return true;
}

static const json_t *need(struct type_reader *r, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	if (!value)
		type_complain(r, "", CODE_KEY, NULL, "%s is missing", key);
	return value;
}

/* What a value looks like, for complaints. */
static const char *shown(const json_t *value, char text[64])
{
	if (json_is_string(value))
		snprintf(text, 64, "\"%.50s\"", json_string_value(value));
	else if (json_is_integer(value))
		snprintf(text, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		snprintf(text, 64, "%.9g", json_real_value(value));
	else
		snprintf(text, 64, "%s",
			 json_is_object(value)	? "a mapping"
			 : json_is_array(value) ? "a list"
			 : json_is_null(value)	? "nothing"
						: "true or false");
	return text;
}

static uint64_t number(struct type_reader *r, const char *key, const json_t *value, uint64_t min,
		       uint64_t max, uint64_t otherwise)
{
	char text[64];

	if (!value)
		return otherwise;
	if (json_is_integer(value) && json_integer_value(value) >= 0 &&
	    (uint64_t)json_integer_value(value) >= min &&
	    (uint64_t)json_integer_value(value) <= max)
		return (uint64_t)json_integer_value(value);
	type_complain(r, key, CODE_VALUE, NULL,
		      "%s is not a whole number from %" PRIu64 " to %" PRIu64, shown(value, text),
		      min, max);
	return otherwise;
}

/* Printable ASCII without quotes: it is shown, matched, and handed on as a word of a command line. */
static bool text_ok(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~' || *text == '"' || *text == '\\')
			return false;
	return true;
}

static void text(struct type_reader *r, const char *key, const json_t *value, char *to, size_t size)
{
	char seen[64];

	to[0] = '\0';
	if (!value)
		return;
	if (!json_is_string(value))
		type_complain(r, key, CODE_VALUE, "put it in quotes", "%s is not text",
			      shown(value, seen));
	else if (json_string_length(value) >= size)
		type_complain(r, key, CODE_VALUE, NULL, "longer than %zu bytes", size - 1);
	else if (!text_ok(json_string_value(value)))
		type_complain(r, key, CODE_VALUE, NULL,
			      "only printable ASCII, and neither quotes nor backslashes");
	else
		snprintf(to, size, "%s", json_string_value(value));
}

/* The place of a word among @words; 0 where nothing or nonsense is said. */
static unsigned word(struct type_reader *r, const char *key, const json_t *value,
		     const char *const *words, unsigned count)
{
	char seen[64], list[128] = "", next[64];
	const char *meant;

	if (!value)
		return 0;
	for (unsigned i = 0; i < count; i++) {
		if (json_is_string(value) && !strcmp(json_string_value(value), words[i]))
			return i;
		text_append(list, sizeof(list), "%s%s", i ? ", " : "", words[i]);
	}
	meant = json_is_string(value) ? type_nearest(json_string_value(value), words, count) : NULL;
	snprintf(next, sizeof(next), "write %s", meant ? meant : words[0]);
	type_complain(r, key, CODE_VALUE, meant ? next : NULL, "%s is none of %s",
		      shown(value, seen), list);
	return 0;
}

static uint32_t share(struct type_reader *r, const char *key, const json_t *value, bool or_none)
{
	char seen[64];
	uint32_t ppm = 0;
	uint64_t none;
	double real;

	if (!value)
		return 0;
	if (json_is_string(value) && !type_share(json_string_value(value), &ppm))
		return ppm;
	if (json_is_number(value)) {
		real = json_number_value(value);
		if (real > 0 && real <= 1 && lround(real * SCHED_PPM) > 0)
			return (uint32_t)lround(real * SCHED_PPM);
		if (or_none && real == 0)
			return 0;
	}
	if (or_none && json_is_string(value) && !type_decimal(json_string_value(value), 6, &none) &&
	    !none)
		return 0;
	type_complain(r, key, CODE_VALUE, NULL,
		      "%s is no part of a GPU: above 0, up to 1, such as 0.25, 1/4 or 25%%",
		      shown(value, seen));
	return 0;
}

/* In units of a thousand-millionth of a credit, so that text and JSON's numbers mean the same. */
static uint64_t credits(struct type_reader *r, const char *key, const json_t *value,
			uint64_t otherwise)
{
	const uint64_t unit = 1000000000, most = TYPE_CREDITS_MAX * unit;
	uint64_t amount = UINT64_MAX;
	char seen[64];

	if (!value)
		return otherwise;
	if (json_is_string(value))
		amount = type_decimal(json_string_value(value), 9, &amount) ? UINT64_MAX : amount;
	else if (json_is_number(value) && json_number_value(value) >= 0 &&
		 json_number_value(value) <= TYPE_CREDITS_MAX)
		amount = (uint64_t)llround(json_number_value(value) * (double)unit);
	if (amount <= most)
		return amount * (SCHED_CREDIT_NS / unit);
	type_complain(r, key, CODE_VALUE, NULL,
		      "%s is no number of credits (minutes of a whole GPU), from 0 to %u",
		      shown(value, seen), TYPE_CREDITS_MAX);
	return otherwise;
}

/* EC2's {sizeInMiB: N} in the place of @ours. */
static const json_t *other_word(struct type_reader *r, const json_t *object, const char *ours,
				const char *theirs, const char *inner, const char *const *keys)
{
	const json_t *value = json_object_get(object, ours),
		     *their = json_object_get(object, theirs);
	size_t mark;

	if (their && inner) {
		mark = type_reader_enter(r, theirs, 0);
		their = mapping(r, "", their, keys, 1) ? need(r, their, inner) : NULL;
		type_reader_leave(r, mark);
	}
	if (value && their)
		type_complain(r, theirs, CODE_KEY, NULL, "%s says the same", ours);
	return value ? value : their;
}

/* ---- parts of a type ------------------------------------------------------------------------------ */

/* Call @read for each item of the list @key, at most @max. Returns how many. */
static unsigned list(struct type_reader *r, const json_t *object, const char *key, unsigned max,
		     void (*read)(struct type_reader *r, const json_t *item,
				  struct instance_type *type, unsigned index),
		     struct instance_type *type)
{
	const json_t *value = json_object_get(object, key);
	unsigned count;
	size_t mark;

	if (!value)
		return 0;
	if (!json_is_array(value)) {
		type_complain(r, key, CODE_VALUE, NULL, "is to be a list");
		return 0;
	}
	if (json_array_size(value) > max)
		type_complain(r, key, CODE_VALUE, NULL, "%zu of them; there can be %u",
			      json_array_size(value), max);
	count = (unsigned)MIN(json_array_size(value), (size_t)max);
	mark = type_reader_enter(r, key, 0);
	for (unsigned i = 0; i < count; i++) {
		const size_t item = type_reader_enter(r, NULL, i);

		read(r, json_array_get(value, i), type, i);
		type_reader_leave(r, item);
	}
	type_reader_leave(r, mark);
	return count;
}

static void read_credits(struct type_reader *r, const json_t *object, struct type_gpu *gpu)
{
	const json_t *json = json_object_get(object, "credits");
	uint32_t baseline;
	size_t mark;

	if (!json)
		return;
	mark = type_reader_enter(r, "credits", 0);
	if (mapping(r, "", json, credit_keys, ARRAY_SIZE(credit_keys))) {
		baseline = share(r, "baseline", json_object_get(json, "baseline"), false);
		gpu->time_ppm = baseline ? baseline : gpu->time_ppm;
		/* An hour's earnings, where nothing is said, as the simulator has it. */
		gpu->credit_max_ns = credits(r, "max", json_object_get(json, "max"),
					     gpu->time_ppm * (60 * (SCHED_CREDIT_NS / SCHED_PPM)));
		gpu->credit_initial_ns = credits(r, "initial", json_object_get(json, "initial"), 0);
		gpu->surplus_max_ns = credits(r, "surplus", json_object_get(json, "surplus"), 0);
	}
	type_reader_leave(r, mark);
}

/* The policy that the other words imply, where none is named; as for run-native. */
static enum sched_policy read_policy(struct type_reader *r, const json_t *json)
{
	const json_t *policy = json_object_get(json, "policy");

	if (policy)
		return policies[word(r, "policy", policy, policy_words, ARRAY_SIZE(policy_words))];
	if (json_object_get(json, "credits"))
		return SCHED_BURST;
	if (json_object_get(json, "weight"))
		return SCHED_WEIGHTED;
	if (json_object_get(json, "partition") || json_object_get(json, "gpuPartitionSize"))
		return SCHED_FIXED_SHARE;
	return SCHED_EQUAL_SHARE;
}

/* A key that means nothing where it stands is a mistake in it or around it. */
static void unwanted(struct type_reader *r, const json_t *json, const char *key, bool wanted,
		     const char *why)
{
	if (!wanted && json_object_get(json, key))
		type_complain(r, key, CODE_KEY, NULL, "means nothing %s", why);
}

static void read_shared(struct type_reader *r, const json_t *json, struct type_gpu *gpu)
{
	gpu->policy = read_policy(r, json);
	gpu->partition_ppm =
		share(r, "partition",
		      other_word(r, json, "partition", "gpuPartitionSize", NULL, NULL), false);
	if (gpu->policy == SCHED_FIXED_SHARE || gpu->policy == SCHED_BURST)
		gpu->time_ppm = gpu->partition_ppm;
	gpu->vram_mib =
		number(r, "vram_mib",
		       other_word(r, json, "vram_mib", "memoryInfo", "sizeInMiB", memory_info_keys),
		       1, TYPE_VRAM_MIB_MAX, 0);
	if (gpu->policy == SCHED_WEIGHTED || gpu->policy == SCHED_BURST)
		gpu->weight = (uint32_t)number(r, "weight", json_object_get(json, "weight"), 1,
					       SCHED_WEIGHT_MAX, SCHED_WEIGHT_NORMAL);
	if (gpu->policy == SCHED_FIXED_SHARE)
		gpu->elastic_ppm = share(r, "elastic", json_object_get(json, "elastic"), true);
	if (gpu->policy == SCHED_BURST)
		read_credits(r, json, gpu);
	gpu->users_max = (unsigned)number(r, "users_max", json_object_get(json, "users_max"), 1,
					  TYPE_USERS_MAX, 0);
	unwanted(r, json, "weight", gpu->policy == SCHED_WEIGHTED || gpu->policy == SCHED_BURST,
		 "but for weighted and burst");
	unwanted(r, json, "elastic", gpu->policy == SCHED_FIXED_SHARE, "but for fixed_share");
	unwanted(r, json, "credits", gpu->policy == SCHED_BURST, "but for burst");
}

static void read_entry(struct type_reader *r, const json_t *json, struct type_gpu *gpu)
{
	if (!mapping(r, "", json, gpu_keys, ARRAY_SIZE(gpu_keys)))
		return;
	gpu->mode = word(r, "mode", need(r, json, "mode"), mode_words, ARRAY_SIZE(mode_words))
			    ? TYPE_SHARED
			    : TYPE_DEDICATED;
	gpu->count = (unsigned)number(r, "count", json_object_get(json, "count"), 1,
				      TYPE_GPU_COUNT_MAX, 1);
	text(r, "selector", json_object_get(json, "selector"), gpu->selector,
	     sizeof(gpu->selector));
	if (gpu->mode == TYPE_SHARED) {
		read_shared(r, json, gpu);
		unwanted(r, json, "provider", false, "for a vGPU");
		unwanted(r, json, "mdev_type", false, "for a vGPU");
		return;
	}
	gpu->provider = (enum type_provider)word(r, "provider", json_object_get(json, "provider"),
						 provider_words, ARRAY_SIZE(provider_words));
	text(r, "mdev_type", json_object_get(json, "mdev_type"), gpu->mdev_type,
	     sizeof(gpu->mdev_type));
	unwanted(r, json, "mdev_type", gpu->provider == TYPE_MDEV, "but for provider: mdev");
	for (unsigned i = GPU_KEYS_DEDICATED; i < ARRAY_SIZE(gpu_keys); i++)
		unwanted(r, json, gpu_keys[i], false, "for a dedicated device");
}

static void read_gpu(struct type_reader *r, const json_t *json, struct instance_type *type,
		     unsigned index)
{
	struct type_gpu *gpu = &type->gpus[index];
	const bool failed_before = r->failed;

	r->failed = false;
	read_entry(r, json, gpu);
	/* What was not read can't be judged; complaints that follow from others help nobody. */
	if (!r->failed)
		type_check_gpu(r, gpu);
	r->failed |= failed_before;
}

static void read_display(struct type_reader *r, const json_t *json, struct instance_type *type,
			 unsigned index)
{
	struct type_display *display = &type->displays[index];

	if (!mapping(r, "", json, display_keys, ARRAY_SIZE(display_keys)))
		return;
	display->width =
		(unsigned)number(r, "width", need(r, json, "width"), 640, TYPE_DISPLAY_WIDTH, 640);
	display->height = (unsigned)number(r, "height", need(r, json, "height"), 480,
					   TYPE_DISPLAY_HEIGHT, 480);
}

static void read_disk(struct type_reader *r, const json_t *json, struct instance_type *type,
		      unsigned index)
{
	if (mapping(r, "", json, disk_keys, ARRAY_SIZE(disk_keys)))
		type->disks[index].size_mib =
			number(r, "size_mib", need(r, json, "size_mib"), 1, TYPE_DISK_MIB_MAX, 1);
}

static void read_nic(struct type_reader *r, const json_t *json, struct instance_type *type,
		     unsigned index)
{
	type->nics[index] =
		word(r, "", json, nic_words, ARRAY_SIZE(nic_words)) ? TYPE_NIC_TAP : TYPE_NIC_USER;
}

static void read_name(struct type_reader *r, const json_t *json, struct instance_type *type)
{
	const json_t *name = need(r, json, "name");
	char seen[64];

	if (json_is_string(name) && type_name_ok(json_string_value(name)))
		snprintf(type->name, sizeof(type->name), "%s", json_string_value(name));
	else if (name)
		type_complain(r, "name", "type-name", "a name such as s1.quarter",
			      "%s is no name: lower-case letters and digits, then also \".\" and "
			      "\"-\", up to %d of them",
			      shown(name, seen), TYPE_NAME_SIZE - 1);
}

void type_read(struct type_reader *r, const json_t *json, struct instance_type *type)
{
	static const uint64_t huge_sizes[] = { 0, 2 * MIB, GIB };
	const json_t *value;

	memset(type, 0, sizeof(*type)); /* padding too: types are compared as bytes */
	if (!mapping(r, "", json, type_keys, ARRAY_SIZE(type_keys)))
		return;
	read_name(r, json, type);
	text(r, "description", json_object_get(json, "description"), type->description,
	     sizeof(type->description));
	value = other_word(r, json, "vcpus", "vCpuInfo", "defaultVCpus", vcpu_info_keys);
	if (!value && !json_object_get(json, "vCpuInfo"))
		value = need(r, json, "vcpus");
	type->vcpus = (unsigned)number(r, "vcpus", value, 1, TYPE_VCPUS_MAX, 1);
	value = other_word(r, json, "memory_mib", "memoryInfo", "sizeInMiB", memory_info_keys);
	if (!value && !json_object_get(json, "memoryInfo"))
		value = need(r, json, "memory_mib");
	type->memory_mib = number(r, "memory_mib", value, 64, TYPE_MEMORY_MIB_MAX, 64);
	type->huge_page = huge_sizes[word(r, "huge_pages", json_object_get(json, "huge_pages"),
					  huge_words, ARRAY_SIZE(huge_words))];
	type->numa =
		word(r, "numa", json_object_get(json, "numa"), numa_words, ARRAY_SIZE(numa_words))
			? TYPE_NUMA_LOCAL
			: TYPE_NUMA_ANY;
	need(r, json, "gpus");
	type->gpu_count = list(r, json, "gpus", TYPE_GPUS_MAX, read_gpu, type);
	type->display_count = list(r, json, "displays", TYPE_DISPLAYS_MAX, read_display, type);
	type->disk_count = list(r, json, "disks", TYPE_DISKS_MAX, read_disk, type);
	type->nic_count = list(r, json, "nics", TYPE_NICS_MAX, read_nic, type);
	type_check(r, type);
}

int type_from_json(const json_t *json, const char *name, struct instance_type *type,
		   struct findings *findings)
{
	struct type_reader reader = { .name = name, .findings = findings };

	type_read(&reader, json, type);
	return reader.failed ? -EINVAL : 0;
}
