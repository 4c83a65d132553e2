// SPDX-License-Identifier: Apache-2.0
/* What is shown: instances, GPUs, vGPUs, types, the node, as openapi.yaml says. Whatever text came from outside is made ASCII first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "instances/daemon/private.h"

#ifndef DIVVY_VERSION
#define DIVVY_VERSION "0.1"
#endif

#define FITS_MAX 1000 /* nobody counts further */

static json_t *ascii(const char *text)
{
	char *copy = strdup(text);
	json_t *json;

	json = json_string(copy ? text_printable(copy) : "");
	free(copy);
	return json;
}

json_t *api_time(int64_t ms)
{
	const time_t seconds = (time_t)(ms / 1000);
	char text[64];
	struct tm tm;

	if (!ms || !gmtime_r(&seconds, &tm))
		return json_null();
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
	return json_string(text);
}

json_t *api_findings(const struct findings *findings)
{
	static const char *const levels[] = { "ok", "note", "blocker" };
	json_t *list = json_array();

	for (unsigned i = 0; i < findings->count; i++) {
		const struct finding *one = &findings->items[i];

		json_array_append_new(
			list, json_pack("{s:s, s:s, s:o, s:o, s:o}", "level", levels[one->level],
					"code", one->code, "fact", ascii(one->fact), "meaning",
					ascii(one->meaning), "next", ascii(one->next)));
	}
	return list;
}

/* ---- instances ----------------------------------------------------------------------------------------- */

static json_t *placed(const struct instance *instance)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < instance->part_count; i++) {
		const struct store_reservation *part = &instance->parts[i];
		json_t *addresses = json_array();
		char copy[sizeof(part->functions)], *save = NULL;

		memcpy(copy, part->functions, sizeof(copy));
		for (char *one = strtok_r(copy, " ", &save); one; one = strtok_r(NULL, " ", &save))
			json_array_append_new(addresses, json_string(one));
		json_array_append_new(
			list,
			json_pack("{s:s, s:s, s:s, s:o, s:o, s:f, s:I}", "gpu", part->gpu, "mode",
				  part->dedicated ? "dedicated" : "shared", "provider",
				  part->provider, "pci_addresses", addresses, "mdev",
				  part->mdev[0] ? json_string(part->mdev) : json_null(), "share",
				  device_leased(part) ? 1.0 : (double)part->share_ppm / SCHED_PPM,
				  "vram_bytes", (json_int_t)part->vram_bytes));
	}
	return list;
}

static json_t *processes(const struct instance *instance)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < PROCESSES_MAX; i++)
		if (instance->processes[i].role[0])
			json_array_append_new(list,
					      json_pack("{s:s, s:i, s:b}", "role",
							instance->processes[i].role, "pid",
							instance->processes[i].process.pid,
							"adopted", instance->processes[i].adopted));
	return list;
}

static json_t *vgpu_names(const struct instance *instance)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < instance->part_count; i++) {
		char name[48];

		if (instance->parts[i].dedicated)
			continue;
		launch_vgpu_name(instance->row.name, i, name);
		json_array_append_new(list, json_string(name));
	}
	return list;
}

static const char *restart_name(enum store_restart restart)
{
	return restart == STORE_RESTART_ALWAYS	     ? "always"
	       : restart == STORE_RESTART_ON_FAILURE ? "on-failure"
						     : "never";
}

/* Where its heads are shown by VNC. */
static json_t *viewers(const struct instance *instance)
{
	json_t *list = json_array();
	bool shared = false;

	for (unsigned i = 0; i < instance->part_count; i++)
		shared |= !instance->parts[i].dedicated;
	for (unsigned d = 0; shared && d < instance->type.display_count; d++) {
		char path[108];

		launch_viewer_path(&instance->daemon->places, instance->row.name, d, path);
		json_array_append_new(list, json_string(path));
	}
	return list;
}

static json_t *progress_json(struct instance *instance)
{
	struct progress progress;

	if (!instance_progress(instance, &progress))
		return json_null();
	return json_pack("{s:s, s:I, s:I, s:s}", "what", progress.what, "done",
			 (json_int_t)progress.done, "total", (json_int_t)progress.total, "unit",
			 progress.unit);
}

json_t *api_instance(struct instance *instance)
{
	const struct store_instance *row = &instance->row;
	json_t *displays, *weight, *json;
	char control[108], console[108];

	instance_texts(instance);
	displays = json_object_get(instance->wanted, "displays");
	weight = json_object_get(instance->wanted, "weight");
	launch_path(&instance->daemon->places, row->name, "vmm.ctl", control);
	launch_path(&instance->daemon->places, row->name, "console", console);
	/* Of one that cannot be read there is none. */
	json = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:O, s:O, s:O?, s:s, s:b, s:s, s:s, s:s}",
			 "name", row->name, "uuid", row->uuid, "owner", (json_int_t)row->owner,
			 "type", row->type, "image", row->image, "restart",
			 restart_name(row->restart), "displays", displays ? displays : json_null(),
			 "weight", weight ? weight : json_null(), "definition",
			 instance->definition, "digest", row->digest, "transient", row->transient,
			 "state", store_state_name(row->state), "step", step_name(instance->step),
			 "desired", row->desired ? "running" : "stopped");
	if (!json)
		return NULL;
	json_object_set_new(json, "progress", progress_json(instance));
	json_object_set_new(json, "error",
			    row->error_code[0]
				    ? json_pack("{s:s, s:o, s:o}", "code", row->error_code, "text",
						ascii(row->error_text ? row->error_text : ""),
						"next",
						ascii(row->error_next ? row->error_next : ""))
				    : json_null());
	json_object_set_new(json, "created_at", api_time(row->created_ms));
	json_object_set_new(json, "changed_at", api_time(row->changed_ms));
	json_object_set_new(json, "started_at", api_time(row->started_ms));
	json_object_set_new(json, "restarts", json_integer(row->restarts));
	json_object_set_new(json, "exit",
			    row->exit_status < 0 ? json_null() : json_integer(row->exit_status));
	json_object_set_new(json, "placement", placed(instance));
	json_object_set_new(json, "processes", processes(instance));
	json_object_set_new(json, "vgpus", vgpu_names(instance));
	json_object_set_new(json, "control", json_string(control));
	json_object_set_new(json, "console", json_string(console));
	json_object_set_new(json, "viewers", viewers(instance));
	return json;
}

/* ---- GPUs ---------------------------------------------------------------------------------------------- */

json_t *api_lease(const struct store_lease *lease)
{
	return json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:i, s:o, s:o, s:o}", "gpu", lease->gpu,
			 "instance", lease->instance, "uuid", lease->uuid, "owner",
			 (json_int_t)lease->owner, "begun_at", api_time(lease->begun_ms),
			 "ended_at", api_time(lease->ended_ms), "resets", (int)lease->resets,
			 "link_before", ascii(lease->link_before), "link_after",
			 ascii(lease->link_after), "verdict", ascii(lease->verdict));
}

static int open_lease(void *opaque, const struct store_lease *lease)
{
	json_t **json = opaque;

	if (!*json)
		*json = api_lease(lease);
	return 0;
}

/* Who is on it: names of vGPUs that may be shown, or the one that has it whole. */
static json_t *tenants(struct daemon *daemon, const struct http_request *request, const char *id,
		       const char **whole)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < daemon->instance_count; i++)
		for (unsigned p = 0; p < daemon->instances[i]->part_count; p++) {
			const struct instance *instance = daemon->instances[i];
			char name[48];

			if (strcmp(instance->parts[p].gpu, id) != 0)
				continue;
			launch_vgpu_name(instance->row.name, p, name);
			if (device_leased(&instance->parts[p]))
				*whole = instance->row.name;
			else if (instance->parts[p].dedicated)
				continue;
			else if (!request || api_may(request, instance, false))
				json_array_append_new(list, json_string(name));
		}
	return list;
}

static json_t *quarantine(const struct gpu *gpu)
{
	if (!gpu || !gpu->row.quarantine_code[0])
		return json_null();
	return json_pack("{s:s, s:o, s:o}", "code", gpu->row.quarantine_code, "text",
			 ascii(gpu->row.quarantine_text), "since", api_time(gpu->row.since_ms));
}

static const char *gpu_state(const struct gpu *gpu, const struct placement_gpu_usage *usage,
			     const struct instance *whole)
{
	if (gpu && gpu->row.quarantine_code[0])
		return "quarantined";
	if ((gpu && gpu->busy) ||
	    (whole && (whole->step == STEP_BIND || whole->step == STEP_RESET)))
		return "busy";
	return usage->whole ? "dedicated" : usage->users || usage->slices ? "shared" : "free";
}

json_t *api_gpu(struct daemon *daemon, const struct http_request *request,
		const struct node_gpu *found)
{
	const struct gpu *gpu = gpu_find(daemon, found->id, false);
	struct placement_gpu_usage usage = { 0 };
	const struct instance *tenant;
	const char *whole = NULL;
	bool shown;
	json_t *lease = NULL, *json, *vgpus;
	double used = found->vulkan_name[0] ? gpu_utilisation(daemon, found->vulkan_name) : -1;

	placement_gpu_usage(daemon->ledger, found->id, &usage);
	vgpus = tenants(daemon, request, found->id, &whole);
	tenant = whole ? instance_find(daemon, whole) : NULL;
	shown = !request || request->role != DAEMON_USER ||
		(tenant && api_may(request, tenant, false));
	if (shown)
		store_leases(daemon->store, found->id, true, open_lease, &lease, NULL);
	json = node_gpu_api_json(found);
	if (!json) {
		json_decref(vgpus);
		json_decref(lease);
		return NULL;
	}
	json_object_set_new(json, "link",
			    found->link.width || found->link.max_width
				    ? node_link_api_json(&found->link)
				    : json_null());
	json_object_set_new(json, "state", json_string(gpu_state(gpu, &usage, tenant)));
	json_object_set_new(json, "drained", json_boolean(gpu && gpu->row.drained));
	json_object_set_new(json, "quarantine", quarantine(gpu));
	json_object_set_new(json, "bound", json_boolean(strstr(found->driver, "vfio") != NULL));
	json_object_set_new(json, "share_sold", json_real((double)usage.time_ppm / SCHED_PPM));
	json_object_set_new(json, "memory_sold_bytes",
			    json_integer((json_int_t)(usage.vram_mib * MIB)));
	json_object_set_new(json, "vgpus", vgpus);
	json_object_set_new(json, "slices", json_integer(usage.slices));
	json_object_set_new(json, "instance", whole && shown ? json_string(whole) : json_null());
	json_object_set_new(json, "resets_total",
			    json_integer(gpu ? (json_int_t)gpu->row.resets : 0));
	json_object_set_new(json, "utilisation", used < 0 ? json_null() : json_real(used));
	json_object_set_new(json, "lease", lease ? lease : json_null());
	return json;
}

/* ---- types, node ----------------------------------------------------------------------------------------- */

json_t *api_type(struct daemon *daemon, const struct instance_type *type)
{
	struct findings *findings = calloc(1, sizeof(*findings));
	json_t *definition = type_json(type), *json;
	unsigned fits =
		findings ? placement_fits_count(daemon->ledger, type, FITS_MAX, findings) : 0;

	json = json_pack("{s:s, s:i, s:I, s:O, s:o, s:i, s:o}", "name", type->name, "vcpus",
			 (int)type->vcpus, "memory_mib", (json_int_t)type->memory_mib, "gpus",
			 json_object_get(definition, "gpus"), "definition", definition, "fits",
			 (int)fits, "why_not", findings ? api_findings(findings) : json_array());
	free(findings);
	return json;
}

json_t *api_node(struct daemon *daemon, const struct http_request *request)
{
	static const char *const roles[] = { "nobody", "viewer", "user", "admin" };
	unsigned counts[5] = { 0 }, running = 0;
	struct placement_usage usage;
	char hostname[65] = "";

	gethostname(hostname, sizeof(hostname) - 1);
	placement_usage(daemon->ledger, &usage);
	for (unsigned i = 0; i < daemon->node->gpu_count; i++) {
		const struct gpu *gpu = gpu_find(daemon, daemon->node->gpus[i].id, false);
		struct placement_gpu_usage one = { 0 };

		placement_gpu_usage(daemon->ledger, daemon->node->gpus[i].id, &one);
		counts[0] += !one.whole && !one.users && !one.slices;
		counts[1] += !one.whole && (one.users || one.slices);
		counts[2] += one.whole;
		counts[3] += gpu && gpu->row.drained;
		counts[4] += gpu && gpu->row.quarantine_code[0];
	}
	for (unsigned i = 0; i < daemon->instance_count; i++)
		running += daemon->instances[i]->row.state == STORE_RUNNING;
	return json_pack(
		"{s:o, s:s, s:s, s:I, s:o, s:s, s:{s:I, s:I}, s:{s:I, s:I}, s:{s:i, s:i, s:i, s:i, s:i, s:i},"
		" s:{s:i, s:i}, s:{s:b, s:o}, s:{s:o, s:i}, s:o}",
		"hostname", ascii(hostname), "version", DIVVY_VERSION, "role", roles[request->role],
		"uid", (json_int_t)request->uid, "started_at", api_time(daemon->started_ms),
		"placement", placement_policy_name(daemon->limits.policy), "vcpus", "total",
		(json_int_t)(usage.cpu_milli_total / 1000), "used",
		(json_int_t)((usage.cpu_milli + 999) / 1000), "memory_mib", "total",
		(json_int_t)usage.memory_total_mib, "used", (json_int_t)usage.memory_mib, "gpus",
		"total", (int)daemon->node->gpu_count, "free", (int)counts[0], "shared",
		(int)counts[1], "dedicated", (int)counts[2], "drained", (int)counts[3],
		"quarantined", (int)counts[4], "instances", "defined", (int)daemon->instance_count,
		"running", (int)running, "arbiter", "running", daemon->arbiter_answers, "socket",
		ascii(daemon->arbiter_socket), "store", "path", ascii(daemon->state), "version",
		STORE_VERSION, "inventory", node_json(daemon->node));
}

/* ---- vGPUs ------------------------------------------------------------------------------------------------- */

static double engine_sum(const json_t *engines, const char *key)
{
	const char *name;
	json_t *engine;
	double sum = 0;

	json_object_foreach((json_t *)(uintptr_t)engines, name, engine)
	{
		sum += (double)json_integer_value(json_object_get(engine, key));
	}
	return sum;
}

static double credits(double ns)
{
	return ns / (double)SCHED_CREDIT_NS;
}

static json_t *credits_json(const struct instance *instance, unsigned index, const json_t *vgpu)
{
	const char *policy = json_string_value(json_object_get(vgpu, "policy"));
	const struct credit *credit;

	if (!instance || !policy || strcmp(policy, "burst") != 0)
		return json_null();
	credit = &instance->credits[index];
	return json_pack(
		"{s:f, s:f, s:f, s:f}", "usage", credits((double)credit->usage_ns), "balance",
		credits(credit->balance_ns > 0 ? (double)credit->balance_ns : 0), "surplus_balance",
		credits(credit->balance_ns < 0 ? -(double)credit->balance_ns : 0),
		"surplus_charged", credits((double)credit->charged_ns));
}

/* Whose vGPU it is, by its name. */
static struct instance *owner_of(struct daemon *daemon, const char *name, unsigned *index)
{
	const char *slash = strrchr(name, '/');
	char instance[STORE_NAME_SIZE];
	struct instance *found;
	char *end;

	if (!slash || (size_t)(slash - name) >= sizeof(instance))
		return NULL;
	snprintf(instance, sizeof(instance), "%.*s", (int)(slash - name), name);
	*index = (unsigned)strtoul(slash + 1, &end, 10);
	found = *end || !slash[1] ? NULL : instance_find(daemon, instance);
	return found && *index < found->part_count && !found->parts[*index].dedicated ? found
										      : NULL;
}

static const char *gpu_id(struct daemon *daemon, const struct instance *instance, unsigned index,
			  const char *name)
{
	if (instance)
		return instance->parts[index].gpu;
	for (unsigned i = 0; i < daemon->node->gpu_count; i++)
		if (!strcmp(daemon->node->gpus[i].vulkan_name, name))
			return daemon->node->gpus[i].id;
	return name;
}

static double real(const json_t *vgpu, const char *key, double unit)
{
	return (double)json_integer_value(json_object_get(vgpu, key)) / unit;
}

static json_t *vgpu_json(struct daemon *daemon, const struct http_request *request, json_t *vgpu)
{
	const char *name = json_string_value(json_object_get(vgpu, "name")),
		   *gpu = json_string_value(json_object_get(vgpu, "gpu"));
	json_t *engines = json_object_get(vgpu, "engines");
	struct instance *instance;
	unsigned index = 0;
	double got;

	if (!name || !gpu || !engines)
		return NULL;
	instance = owner_of(daemon, name, &index);
	if (request &&
	    (instance ? !api_may(request, instance, false) : request->role == DAEMON_USER))
		return NULL;
	got = vgpu_share_got(daemon, name);
	return json_pack(
		"{s:o, s:o, s:i, s:o, s:O, s:O, s:f, s:f, s:o, s:f, s:f, s:f, s:f, s:I, s:O, s:O, s:O, s:o, s:O}",
		"name", ascii(name), "instance",
		instance ? json_string(instance->row.name) : json_null(), "index", (int)index,
		"gpu", ascii(gpu_id(daemon, instance, index, gpu)), "policy",
		json_object_get(vgpu, "policy"), "weight", json_object_get(vgpu, "weight"), "share",
		real(vgpu, "share_ppm", SCHED_PPM), "elastic", real(vgpu, "elastic_ppm", SCHED_PPM),
		"share_got", got < 0 ? json_null() : json_real(got), "gpu_seconds",
		engine_sum(engines, "used_ns") / 1e9, "wait_seconds",
		engine_sum(engines, "waited_ns") / 1e9, "throttled_seconds",
		engine_sum(engines, "throttled_ns") / 1e9, "debt_seconds",
		engine_sum(engines, "debt_ns") / 1e9, "waiting",
		(json_int_t)engine_sum(engines, "waiting"), "workers",
		json_object_get(vgpu, "workers"), "vram_bytes",
		json_object_get(vgpu, "memory_used"), "vram_limit_bytes",
		json_object_get(vgpu, "memory_quota"), "credits",
		credits_json(instance, index, vgpu), "engines", engines);
}

json_t *api_vgpus(struct daemon *daemon, const struct http_request *request)
{
	json_t *list = json_array(), *one, *all = json_object_get(daemon->status, "vgpus");
	json_t *measured = json_object_get(daemon->status, "now_ns");
	size_t i;

	json_array_foreach(all, i, one)
	{
		json_t *shown = vgpu_json(daemon, request, one);

		if (shown)
			json_array_append_new(list, shown);
	}
	/* Whoever makes rates of the numbers needs the time that they are of, which is not that of the answer. */
	return json_pack("{s:o, s:O, s:o}", "at", api_time(daemon_now_ms()), "measured_ns",
			 measured ? measured : json_null(), "vgpus", list);
}
