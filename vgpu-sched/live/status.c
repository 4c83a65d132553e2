// SPDX-License-Identifier: Apache-2.0
/* What every vGPU has and owes, as JSON in a memfd. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vgpu-sched/live/arbiter_private.h"

static json_t *vgpu_status(const struct live_vgpu *vgpu)
{
	json_t *engines = json_object();

	for (unsigned e = 0; e < SCHED_ENGINES; e++) {
		struct sched_vgpu_stats stats = { 0 };

		sched_vgpu_stats(vgpu->gpu->sched, monotonic_ns(), vgpu->index,
				 (enum sched_engine)e, &stats);
		json_object_set_new(
			engines, sched_engine_name((enum sched_engine)e),
			json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
				  "used_ns", (json_int_t)stats.used_ns, "surcharge_ns",
				  (json_int_t)stats.surcharge_ns, "grants",
				  (json_int_t)stats.grants, "waiting", (json_int_t)stats.pending,
				  "overrun_ns", (json_int_t)stats.overrun_ns, "forced_ns",
				  (json_int_t)stats.forced_ns, "disputed_ns",
				  (json_int_t)stats.disputed_ns, "debt_ns",
				  (json_int_t)stats.debt_ns, "throttled_ns",
				  (json_int_t)stats.throttled_ns, "credit_ns",
				  (json_int_t)stats.credit_ns, "waited_ns",
				  (json_int_t)vgpu->waited_ns[e]));
	}
	return json_pack(
		"{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:o}", "name", vgpu->name,
		"gpu", vgpu->gpu->name, "policy", sched_policy_name(vgpu->config.policy), "weight",
		(int)vgpu->config.weight, "share_ppm", (int)vgpu->config.share_ppm, "elastic_ppm",
		(int)vgpu->config.elastic_ppm, "workers", (int)vgpu->workers, "workers_ever",
		(json_int_t)vgpu->workers_ever, "memory_used",
		(json_int_t)MIN(atomic_load(&vgpu->page->memory_used), (uint64_t)INT64_MAX),
		"memory_quota", (json_int_t)vgpu->memory_quota, "engines", engines);
}

int status_answer(struct client *client, struct error *e)
{
	const struct live_message reply = {
		.type = LIVE_STATUS,
		.version = LIVE_VERSION,
		.workers = client->vgpu ? client->vgpu->workers_ever : 0,
	};
	json_t *vgpus = json_array(), *json;
	char *text;
	int fd = -1, err;

	for (unsigned g = 0; g < client->arbiter->gpu_count; g++)
		for (unsigned i = 0; i < ARBITER_VGPUS_MAX; i++)
			if (client->arbiter->gpus[g]->vgpus[i])
				json_array_append_new(
					vgpus, vgpu_status(client->arbiter->gpus[g]->vgpus[i]));
	json = json_pack("{s:I, s:i, s:o}", "now_ns", (json_int_t)monotonic_ns(), "connections",
			 (int)client->arbiter->client_count, "vgpus", vgpus);
	text = json ? json_dumps(json, 0) : NULL;
	json_decref(json);
	if (text)
		fd = memfd_create("divvy-status", MFD_CLOEXEC);
	err = fd < 0 ? -ENOMEM : pwrite_full(fd, text, strlen(text), 0);
	err = err ? error_set(e, ENOMEM, "no-memory", NULL, "no memory for an answer")
		  : client_answer(client, &reply, &fd, 1);
	fd_close(&fd);
	free(text);
	return err;
}
