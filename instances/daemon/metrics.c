// SPDX-License-Identifier: Apache-2.0
/*
 * For Prometheus (text format 0.0.4): base units, counters that end in _total, a line of help each. Where NVIDIA's DCGM has a name for the same
 * quantity it is there too, under that name and in its unit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/daemon/private.h"
#include "vgpu-sched/vgpu-sched.h"

#ifndef DIVVY_VERSION
#define DIVVY_VERSION "0.1"
#endif

static void head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Names of ours hold nothing that would have to be escaped; those of devices are made so. */
static const char *label(const char *text, char *copy, size_t size)
{
	snprintf(copy, size, "%s", text);
	for (char *p = copy; *p; p++)
		if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ' || (unsigned char)*p > '~')
			*p = '?';
	return copy;
}

/* ---- GPUs ---------------------------------------------------------------------------------------------- */

struct gpu_metric {
	const char *name, *type, *help;
	/* False: there is none for this GPU. */
	bool (*value)(struct daemon *daemon, const struct node_gpu *gpu, double *value);
};

static bool gpu_utilised(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = gpu->vulkan_name[0] ? gpu_utilisation(daemon, gpu->vulkan_name) : -1;
	return *value >= 0;
}

static bool gpu_utilised_percent(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	if (!gpu_utilised(daemon, gpu, value))
		return false;
	*value *= 100;
	return true;
}

static bool gpu_memory(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = (double)gpu->vram_mib * (double)MIB;
	return gpu->vram_mib != 0;
}

static bool gpu_speed(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = gpu->link.mts * 1e6;
	return gpu->link.mts != 0;
}

static bool gpu_width(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = gpu->link.width;
	return gpu->link.width != 0;
}

static bool gpu_speed_max(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = gpu->link.max_mts * 1e6;
	return gpu->link.max_mts != 0;
}

static bool gpu_width_max(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = gpu->link.max_width;
	return gpu->link.max_width != 0;
}

static bool gpu_resets(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	const struct gpu *row = gpu_find(daemon, gpu->id, false);

	*value = row ? (double)row->row.resets : 0;
	return true;
}

static struct placement_gpu_usage usage_of(struct daemon *daemon, const struct node_gpu *gpu)
{
	struct placement_gpu_usage usage = { 0 };

	placement_gpu_usage(daemon->ledger, gpu->id, &usage);
	return usage;
}

static bool gpu_leased(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = usage_of(daemon, gpu).whole;
	return true;
}

static bool gpu_sold(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = (double)usage_of(daemon, gpu).time_ppm / SCHED_PPM;
	return true;
}

static bool gpu_memory_sold(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = (double)usage_of(daemon, gpu).vram_mib * (double)MIB;
	return true;
}

static bool gpu_users(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	*value = usage_of(daemon, gpu).users;
	return true;
}

static bool gpu_drained(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	const struct gpu *row = gpu_find(daemon, gpu->id, false);

	*value = row && row->row.drained;
	return true;
}

static bool gpu_quarantined(struct daemon *daemon, const struct node_gpu *gpu, double *value)
{
	const struct gpu *row = gpu_find(daemon, gpu->id, false);

	*value = row && row->row.quarantine_code[0];
	return true;
}

static const struct gpu_metric gpu_metrics[] = {
	{ "divvy_gpu_utilisation_ratio", "gauge",
	  "Part of the last ten seconds that its vGPUs used.", gpu_utilised },
	{ "DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %), of its vGPUs.",
	  gpu_utilised_percent },
	{ "divvy_gpu_memory_bytes", "gauge", "Device memory.", gpu_memory },
	{ "divvy_gpu_memory_sold_bytes", "gauge", "Device memory that instances have been given.",
	  gpu_memory_sold },
	{ "divvy_gpu_share_sold_ratio", "gauge",
	  "Part of its time that is promised: fixed shares and baselines, or all of it to one.",
	  gpu_sold },
	{ "divvy_gpu_vgpus", "gauge", "vGPUs on it.", gpu_users },
	{ "divvy_gpu_link_transfers_per_second", "gauge", "Speed of its PCI Express link, a lane.",
	  gpu_speed },
	{ "divvy_gpu_link_max_transfers_per_second", "gauge", "The most that it can do.",
	  gpu_speed_max },
	{ "divvy_gpu_link_lanes", "gauge", "Width of its PCI Express link.", gpu_width },
	{ "divvy_gpu_link_max_lanes", "gauge", "The most that it can do.", gpu_width_max },
	{ "divvy_gpu_resets_total", "counter", "Resets of its functions between tenants.",
	  gpu_resets },
	{ "divvy_gpu_leased", "gauge", "Whether an instance has it whole.", gpu_leased },
	{ "divvy_gpu_drained", "gauge", "Whether nothing new is placed on it.", gpu_drained },
	{ "divvy_gpu_quarantined", "gauge", "Whether it was set aside after a failed reset.",
	  gpu_quarantined },
};

static void gpus(FILE *out, struct daemon *daemon)
{
	char id[NODE_ID_SIZE], name[160], address[PCI_ADDRESS_LEN];

	for (size_t m = 0; m < ARRAY_SIZE(gpu_metrics); m++) {
		head(out, gpu_metrics[m].name, gpu_metrics[m].type, gpu_metrics[m].help);
		for (unsigned i = 0; i < daemon->node->gpu_count; i++) {
			const struct node_gpu *gpu = &daemon->node->gpus[i];
			double value;

			if (gpu_metrics[m].value(daemon, gpu, &value))
				fprintf(out,
					"%s{gpu=\"%s\",pci_bus_id=\"%s\",model_name=\"%s\"} %.17g\n",
					gpu_metrics[m].name, label(gpu->id, id, sizeof(id)),
					gpu->has_address
						? pci_address_format(&gpu->address, address)
						: "",
					label(gpu->name, name, sizeof(name)), value);
		}
	}
}

/* ---- vGPUs ----------------------------------------------------------------------------------------------- */

static const struct {
	const char *name, *type, *help, *key, *inner;
} vgpu_metrics[] = {
	{ "divvy_vgpu_share_ratio", "gauge", "Part of the GPU's time that it was sold.", "share",
	  NULL },
	{ "divvy_vgpu_share_got_ratio", "gauge", "Part of the last ten seconds that it used.",
	  "share_got", NULL },
	{ "divvy_vgpu_weight", "gauge", "Its weight beside others.", "weight", NULL },
	{ "divvy_vgpu_gpu_seconds_total", "counter", "Time of the GPU that it used.", "gpu_seconds",
	  NULL },
	{ "divvy_vgpu_gate_wait_seconds_total", "counter",
	  "Time that its work waited for turns that it then had.", "wait_seconds", NULL },
	{ "divvy_vgpu_throttled_seconds_total", "counter",
	  "Time that its work waited because of its own share or credits.", "throttled_seconds",
	  NULL },
	{ "divvy_vgpu_debt_seconds", "gauge", "How far it is ahead of its turn.", "debt_seconds",
	  NULL },
	{ "divvy_vgpu_vram_bytes", "gauge", "Device memory that it has.", "vram_bytes", NULL },
	{ "divvy_vgpu_vram_limit_bytes", "gauge", "Device memory that it may have.",
	  "vram_limit_bytes", NULL },
	{ "divvy_vgpu_workers", "gauge", "Vulkan instances and devices at work as it.", "workers",
	  NULL },
	{ "divvy_vgpu_credit_usage_total", "counter",
	  "Credits spent, each a minute of the whole GPU.", "credits", "usage" },
	{ "divvy_vgpu_credit_balance", "gauge", "Credits that it has.", "credits", "balance" },
	{ "divvy_vgpu_surplus_credit_balance", "gauge",
	  "Credits spent beyond what it had, not yet earned back.", "credits", "surplus_balance" },
	{ "divvy_vgpu_surplus_credits_charged_total", "counter",
	  "Surplus that was never earned back.", "credits", "surplus_charged" },
};

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static void vgpus(FILE *out, struct daemon *daemon, const struct http_request *request)
{
	json_t *all = api_vgpus(daemon, request), *one, *list = json_object_get(all, "vgpus");
	char name[64], gpu[NODE_ID_SIZE];
	size_t i;

	for (size_t m = 0; m < ARRAY_SIZE(vgpu_metrics); m++) {
		head(out, vgpu_metrics[m].name, vgpu_metrics[m].type, vgpu_metrics[m].help);
		json_array_foreach(list, i, one)
		{
			const json_t *value = json_object_get(one, vgpu_metrics[m].key);
			const struct instance *instance;

			if (vgpu_metrics[m].inner)
				value = json_object_get(value, vgpu_metrics[m].inner);
			if (!json_is_number(value))
				continue;
			instance = instance_find(daemon, text_of(one, "instance"));
			fprintf(out,
				"%s{vgpu=\"%s\",vm=\"%s\",uuid=\"%s\",instance_type=\"%s\",gpu=\"%s\"} %.17g\n",
				vgpu_metrics[m].name,
				label(text_of(one, "name"), name, sizeof(name)),
				text_of(one, "instance"), instance ? instance->row.uuid : "",
				instance ? instance->row.type : "",
				label(text_of(one, "gpu"), gpu, sizeof(gpu)),
				json_number_value(value));
		}
	}
	json_decref(all);
}

/* ---- the node ----------------------------------------------------------------------------------------------- */

static void node(FILE *out, struct daemon *daemon)
{
	unsigned states[STORE_STATES] = { 0 };
	struct placement_usage usage;

	placement_usage(daemon->ledger, &usage);
	for (unsigned i = 0; i < daemon->instance_count; i++)
		states[daemon->instances[i]->row.state]++;
	head(out, "divvy_build_info", "gauge", "Always 1; the version is its label.");
	fprintf(out, "divvy_build_info{version=\"%s\"} 1\n", DIVVY_VERSION);
	head(out, "divvy_start_time_seconds", "gauge", "When the daemon started, in Unix time.");
	fprintf(out, "divvy_start_time_seconds %.3f\n", (double)daemon->started_ms / 1e3);
	head(out, "divvy_instances", "gauge", "Instances, by state.");
	for (unsigned i = 0; i < STORE_STATES; i++)
		fprintf(out, "divvy_instances{state=\"%s\"} %u\n",
			store_state_name((enum store_state)i), states[i]);
	head(out, "divvy_vcpus_used", "gauge", "CPUs that instances are accounted with.");
	fprintf(out, "divvy_vcpus_used %.3f\n", (double)usage.cpu_milli / 1e3);
	head(out, "divvy_vcpus", "gauge", "CPUs that there are for instances.");
	fprintf(out, "divvy_vcpus %.3f\n", (double)usage.cpu_milli_total / 1e3);
	head(out, "divvy_memory_used_bytes", "gauge", "Memory that instances are accounted with.");
	fprintf(out, "divvy_memory_used_bytes %.0f\n", (double)usage.memory_mib * (double)MIB);
	head(out, "divvy_memory_bytes", "gauge", "Memory that there is for instances.");
	fprintf(out, "divvy_memory_bytes %.0f\n", (double)usage.memory_total_mib * (double)MIB);
	head(out, "divvy_arbiter_up", "gauge", "Whether the arbiter answers.");
	fprintf(out, "divvy_arbiter_up %d\n", daemon->arbiter_answers);
	head(out, "divvy_arbiter_ended_total", "counter",
	     "How often it ended, since the daemon started.");
	fprintf(out, "divvy_arbiter_ended_total %llu\n",
		(unsigned long long)daemon->restarts_arbiter);
}

char *metrics_text(const struct http_request *request, size_t *size)
{
	struct daemon *daemon = request->daemon;
	char *text = NULL;
	FILE *out = open_memstream(&text, size);

	if (!out)
		return NULL;
	node(out, daemon);
	gpus(out, daemon);
	vgpus(out, daemon, request);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
