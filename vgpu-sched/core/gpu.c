// SPDX-License-Identifier: Apache-2.0
/*
 * A GPU: places for vGPUs, who comes, changes and goes, what may be promised. grant.c has the work.
 */
#include "vgpu-sched/core/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct model *const models[SCHED_MODELS] = {
	[SCHED_MODEL_DIVVY] = &model_fair,
	[SCHED_MODEL_REFERENCE_FIFO] = &reference_fifo,
	[SCHED_MODEL_REFERENCE_NVIDIA_BEST_EFFORT] = &reference_nvidia_best_effort,
	[SCHED_MODEL_REFERENCE_NVIDIA_EQUAL] = &reference_nvidia_equal,
	[SCHED_MODEL_REFERENCE_NVIDIA_FIXED] = &reference_nvidia_fixed,
	[SCHED_MODEL_REFERENCE_GVTG] = &reference_gvtg,
	[SCHED_MODEL_REFERENCE_XEN_CREDIT] = &reference_xen_credit,
};

const char *sched_engine_name(enum sched_engine engine)
{
	static const char *const names[SCHED_ENGINES] = { "graphics", "copy", "video" };

	return (unsigned)engine < SCHED_ENGINES ? names[engine] : "unknown";
}

const char *sched_model_name(enum sched_model model)
{
	return (unsigned)model < SCHED_MODELS ? models[model]->name : "unknown";
}

void *arena_take(struct arena *arena, size_t count, size_t size)
{
	void *at = arena->base ? arena->base + arena->used : NULL;

	/* A cache line is aligned enough for all that is kept here. */
	arena->used += ALIGN_UP(count * size, 64);
	return at;
}

static void lay_out(struct sched_gpu *gpu, const struct sched_gpu_config *config,
		    const struct model *model, struct arena *arena)
{
	gpu->clients = arena_take(arena, config->vgpus_max, sizeof(struct client));
	for (unsigned i = 0; i < SCHED_ENGINES; i++) {
		struct engine *engine = &gpu->engines[i];

		engine->name = (enum sched_engine)i;
		engine->counted.oldest = engine->counted.newest = NOBODY;
		engine->overdue = engine->counted;
		engine->seats = arena_take(arena, config->vgpus_max, sizeof(struct seat));
		engine->grants = arena_take(arena, (size_t)config->vgpus_max * config->depth,
					    sizeof(struct grant));
		model->layout(config, engine, arena);
	}
}

static bool is_nvidia(enum sched_model model)
{
	return model >= SCHED_MODEL_REFERENCE_NVIDIA_BEST_EFFORT &&
	       model <= SCHED_MODEL_REFERENCE_NVIDIA_FIXED;
}

static int check_config(struct sched_gpu_config *config, struct error *e)
{
	if ((unsigned)config->model >= SCHED_MODELS)
		return error_set(e, EINVAL, "gpu-model", NULL, "there is no scheduling model %u",
				 (unsigned)config->model);
	if (!config->vgpus_max || config->vgpus_max > SCHED_VGPUS_MAX)
		return error_set(e, EINVAL, "gpu-vgpus", NULL, "%u vGPUs are not in 1 to %u",
				 config->vgpus_max, SCHED_VGPUS_MAX);
	if (!config->depth)
		config->depth = 1;
	if (config->depth > SCHED_DEPTH_MAX)
		return error_set(e, EINVAL, "gpu-depth", NULL, "depth %u is not in 1 to %u",
				 config->depth, SCHED_DEPTH_MAX);
	if (!config->period_ns)
		config->period_ns = 100000000;
	if (!config->overhead_ns)
		config->overhead_ns = 20000;
	if (!config->hold_max_ns)
		config->hold_max_ns = 250000000;
	if (!config->averaging_factor)
		config->averaging_factor = 33;
	if (config->averaging_factor > 60)
		return error_set(e, EINVAL, "gpu-averaging-factor", NULL,
				 "averaging factor %u is not in 1 to 60", config->averaging_factor);
	if (!config->slots)
		config->slots = config->vgpus_max;
	if (config->slots > config->vgpus_max)
		return error_set(e, EINVAL, "gpu-slots", NULL, "%u slots for %u vGPUs",
				 config->slots, config->vgpus_max);
	if (is_nvidia(config->model) && config->slice_ns &&
	    (config->slice_ns < 1000000 || config->slice_ns > 30000000))
		return error_set(e, EINVAL, "gpu-slice", NULL,
				 "a slice of %llu ns is not in NVIDIA's range of 1 to 30 ms",
				 (unsigned long long)config->slice_ns);
	if (!config->slice_ns)
		config->slice_ns =
			is_nvidia(config->model) && config->slots > 8 ? 1000000 : 2000000;
	return 0;
}

int sched_gpu_create(const struct sched_gpu_config *config, struct sched_gpu **gpu, struct error *e)
{
	struct sched_gpu_config checked = *config;
	int rc = check_config(&checked, e);

	if (rc)
		return rc;
	const struct model *model = models[checked.model];
	struct sched_gpu measured = { 0 };
	struct arena arena = { 0 };

	arena_take(&arena, 1, sizeof(**gpu));
	lay_out(&measured, &checked, model, &arena);
	arena.base = aligned_alloc(64, arena.used);
	if (!arena.base)
		return error_set(e, ENOMEM, "gpu-memory", NULL,
				 "no memory for a scheduler of %u vGPUs (%zu bytes)",
				 checked.vgpus_max, arena.used);
	memset(arena.base, 0, arena.used);
	arena.used = 0;
	*gpu = arena_take(&arena, 1, sizeof(**gpu));
	(*gpu)->config = checked;
	(*gpu)->model = model;
	lay_out(*gpu, &checked, model, &arena);
	return 0;
}

void sched_gpu_destroy(struct sched_gpu *gpu)
{
	free(gpu);
}

const struct sched_gpu_config *sched_gpu_config(const struct sched_gpu *gpu)
{
	return &gpu->config;
}

uint32_t sched_gpu_guaranteed_ppm(const struct sched_gpu *gpu)
{
	return gpu->guaranteed_ppm;
}

/* ---- coming, changing, going ------------------------------------------------------------- */

static int admit(const struct sched_gpu *gpu, uint32_t without_ppm,
		 const struct sched_vgpu_config *config, struct error *e)
{
	const uint32_t others = gpu->guaranteed_ppm - without_ppm;
	const uint32_t wanted = policy_guaranteed_ppm(config);

	if (wanted <= SCHED_PPM - others)
		return 0;
	return error_set(
		e, ENOSPC, "gpu-shares-full", "lower the share, or use another GPU",
		"vGPU %llu asks for %.4f %% of a GPU on which %.4f %% are promised to others",
		(unsigned long long)config->identity, wanted / 1e4, others / 1e4);
}

/* A place for a newcomer: a free one, or that of one which left and owes nothing. */
static uint32_t find_place(struct sched_gpu *gpu)
{
	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++)
		if (gpu->clients[i].presence == PLACE_FREE)
			return i;
	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++) {
		bool owes = gpu->clients[i].presence == PLACE_TAKEN;

		for (unsigned k = 0; k < SCHED_ENGINES && !owes && gpu->model->owes; k++)
			owes = gpu->model->owes(gpu, &gpu->engines[k], i);
		if (!owes)
			return i;
	}
	return NOBODY;
}

int sched_vgpu_join(struct sched_gpu *gpu, uint64_t now_ns, const struct sched_vgpu_config *config,
		    const struct sched_account *account, unsigned *vgpu, struct error *e)
{
	struct sched_vgpu_config checked = *config;
	uint32_t place = NOBODY;
	struct terms terms;
	int rc;

	gpu_advance(gpu, now_ns);
	rc = policy_check(&checked, e);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++)
		if (gpu->clients[i].presence != PLACE_FREE &&
		    gpu->clients[i].config.identity == checked.identity)
			place = i;
	if (place != NOBODY && gpu->clients[place].presence == PLACE_TAKEN)
		return error_set(e, EEXIST, "vgpu-exists", NULL, "vGPU %llu is on this GPU already",
				 (unsigned long long)checked.identity);
	rc = admit(gpu, 0, &checked, e);
	if (rc)
		return rc;
	policy_terms(&gpu->config, &checked, &terms);

	const bool returns = place != NOBODY;

	if (!returns)
		place = find_place(gpu);
	if (place == NOBODY)
		return error_set(
			e, ENOSPC, "gpu-places-full", "wait, or create it with more places",
			"each of the GPU's %u places belongs to a vGPU or to the debt of one "
			"that left",
			gpu->config.vgpus_max);

	struct client *client = &gpu->clients[place];

	if (!returns) {
		for (unsigned i = 0; i < SCHED_ENGINES; i++) {
			memset(&gpu->engines[i].seats[place], 0, sizeof(struct seat));
			gpu->engines[i].seats[place].joined_ns = gpu->now_ns;
		}
		client->terms = terms;
	}
	client->config = checked;
	for (unsigned i = 0; i < SCHED_ENGINES; i++) {
		struct engine *engine = &gpu->engines[i];

		if (returns && gpu->model->change)
			gpu->model->change(gpu, engine, place, &terms);
		else if (gpu->model->join)
			gpu->model->join(gpu, engine, place, account);
	}
	client->terms = terms;
	client->presence = PLACE_TAKEN;
	gpu->guaranteed_ppm += policy_guaranteed_ppm(&checked);
	*vgpu = place;
	return 0;
}

int sched_vgpu_change(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		      const struct sched_vgpu_config *config, struct error *e)
{
	struct sched_vgpu_config checked = *config;
	struct terms terms;
	int rc;

	gpu_advance(gpu, now_ns);
	if (!gpu_has(gpu, vgpu))
		return error_set(e, ENOENT, "vgpu-unknown", NULL, "there is no vGPU %u", vgpu);
	struct client *client = &gpu->clients[vgpu];
	const uint32_t before_ppm = policy_guaranteed_ppm(&client->config);

	rc = policy_check(&checked, e);
	if (rc)
		return rc;
	if (checked.identity != client->config.identity)
		return error_set(e, EINVAL, "vgpu-identity", NULL,
				 "vGPU %llu cannot become vGPU %llu",
				 (unsigned long long)client->config.identity,
				 (unsigned long long)checked.identity);
	rc = admit(gpu, before_ppm, &checked, e);
	if (rc)
		return rc;
	policy_terms(&gpu->config, &checked, &terms);
	for (unsigned i = 0; i < SCHED_ENGINES && gpu->model->change; i++)
		gpu->model->change(gpu, &gpu->engines[i], vgpu, &terms);
	gpu->guaranteed_ppm += policy_guaranteed_ppm(&checked) - before_ppm;
	client->config = checked;
	client->terms = terms;
	for (unsigned i = 0; i < SCHED_ENGINES && gpu->model->update; i++)
		gpu->model->update(gpu, &gpu->engines[i], vgpu);
	return 0;
}

int sched_vgpu_account(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		       struct sched_account *account)
{
	gpu_advance(gpu, now_ns);
	if (!gpu_has(gpu, vgpu))
		return -ENOENT;
	*account = (struct sched_account){ .identity = gpu->clients[vgpu].config.identity };
	for (unsigned i = 0; i < SCHED_ENGINES && gpu->model->account; i++)
		gpu->model->account(gpu, &gpu->engines[i], vgpu, account);
	return 0;
}

int sched_vgpu_leave(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		     struct sched_account *account)
{
	gpu_advance(gpu, now_ns);
	if (!gpu_has(gpu, vgpu))
		return -ENOENT;
	for (unsigned i = 0; i < SCHED_ENGINES; i++)
		grants_drop(gpu, &gpu->engines[i], vgpu);
	if (account)
		sched_vgpu_account(gpu, now_ns, vgpu, account);
	for (unsigned i = 0; i < SCHED_ENGINES && gpu->model->leave; i++)
		gpu->model->leave(gpu, &gpu->engines[i], vgpu);
	gpu->clients[vgpu].presence = PLACE_LEFT;
	gpu->guaranteed_ppm -= policy_guaranteed_ppm(&gpu->clients[vgpu].config);
	return 0;
}

int sched_vgpu_find(const struct sched_gpu *gpu, uint64_t identity)
{
	for (uint32_t i = 0; i < gpu->config.vgpus_max; i++)
		if (gpu_has(gpu, i) && gpu->clients[i].config.identity == identity)
			return (int)i;
	return -ENOENT;
}
