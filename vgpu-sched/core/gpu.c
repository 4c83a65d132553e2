// SPDX-License-Identifier: Apache-2.0
/*
 * A GPU: places for vGPUs, work that waits, grants that are out. What a caller says is believed only
 * as far as it can be true: time does not run backwards, no grant used more than the time since it
 * was given, none ends twice. Who is next is the model's affair.
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

/* A grant's handle: which slot, and the how-manieth grant in it. */
#define SLOT_BITS 20
_Static_assert((uint64_t)SCHED_ENGINES *SCHED_VGPUS_MAX *SCHED_DEPTH_MAX <= 1u << SLOT_BITS,
	       "a slot's number fits its handle");

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

static void advance(struct sched_gpu *gpu, uint64_t now_ns)
{
	gpu->now_ns = MAX(gpu->now_ns, now_ns);
}

static bool is_there(const struct sched_gpu *gpu, unsigned vgpu)
{
	return vgpu < gpu->config.vgpus_max && gpu->clients[vgpu].presence == PLACE_TAKEN;
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

	advance(gpu, now_ns);
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
		for (unsigned i = 0; i < SCHED_ENGINES; i++)
			memset(&gpu->engines[i].seats[place], 0, sizeof(struct seat));
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

	advance(gpu, now_ns);
	if (!is_there(gpu, vgpu))
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
	advance(gpu, now_ns);
	if (!is_there(gpu, vgpu))
		return -ENOENT;
	*account = (struct sched_account){ .identity = gpu->clients[vgpu].config.identity };
	for (unsigned i = 0; i < SCHED_ENGINES && gpu->model->account; i++)
		gpu->model->account(gpu, &gpu->engines[i], vgpu, account);
	return 0;
}

static uint64_t handle_of(const struct engine *engine, const struct sched_gpu *gpu,
			  const struct grant *grant)
{
	const uint64_t slot = (uint64_t)engine->name * gpu->config.vgpus_max * gpu->config.depth +
			      (uint64_t)(grant - engine->grants);

	return grant->generation << SLOT_BITS | slot;
}

int sched_vgpu_leave(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		     struct sched_account *account)
{
	advance(gpu, now_ns);
	if (!is_there(gpu, vgpu))
		return -ENOENT;
	for (unsigned i = 0; i < SCHED_ENGINES; i++) {
		struct engine *engine = &gpu->engines[i];
		struct seat *seat = &engine->seats[vgpu];

		sched_withdraw(gpu, now_ns, vgpu, engine->name, seat->pending);
		while (seat->slots)
			sched_complete(gpu, now_ns,
				       handle_of(engine, gpu,
						 grant_of(gpu, engine, vgpu,
							  (unsigned)__builtin_ctzll(seat->slots))),
				       SCHED_USED_UNKNOWN, NULL);
	}
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
		if (is_there(gpu, i) && gpu->clients[i].config.identity == identity)
			return (int)i;
	return -ENOENT;
}

/* ---- work and grants --------------------------------------------------------------------- */

/* The seat's pending work becomes @pending. */
static void set_pending(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
			uint64_t pending)
{
	struct seat *seat = &engine->seats[vgpu];
	const bool was_waiting = seat->pending, waits = pending;

	seat->pending = pending;
	if (was_waiting == waits)
		return;
	engine->waiting += waits ? 1 : -1u;
	if (!seat->in_flight) {
		if (waits && !engine->active && gpu->model->wake)
			gpu->model->wake(gpu, engine);
		engine->active += waits ? 1 : -1u;
		if (!engine->active)
			engine->idle_since_ns = gpu->now_ns;
	}
	if (gpu->model->update)
		gpu->model->update(gpu, engine, vgpu);
}

int sched_submit(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu, enum sched_engine engine,
		 uint64_t count)
{
	advance(gpu, now_ns);
	if (!is_there(gpu, vgpu) || (unsigned)engine >= SCHED_ENGINES)
		return -ENOENT;
	const uint64_t pending = gpu->engines[engine].seats[vgpu].pending;

	if (count > UINT64_MAX - pending)
		return -EOVERFLOW;
	if (count && gpu->model->arrived)
		gpu->model->arrived(gpu, &gpu->engines[engine], vgpu, count, false);
	set_pending(gpu, &gpu->engines[engine], vgpu, pending + count);
	return 0;
}

int sched_withdraw(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu, enum sched_engine engine,
		   uint64_t count)
{
	advance(gpu, now_ns);
	if (!is_there(gpu, vgpu) || (unsigned)engine >= SCHED_ENGINES)
		return -ENOENT;
	const uint64_t pending = gpu->engines[engine].seats[vgpu].pending;

	if (count > pending)
		return -ERANGE;
	if (count && gpu->model->arrived)
		gpu->model->arrived(gpu, &gpu->engines[engine], vgpu, count, true);
	set_pending(gpu, &gpu->engines[engine], vgpu, pending - count);
	return 0;
}

static void list_insert(struct engine *engine, struct grant_list *list, struct grant *grant,
			bool as_newest)
{
	const uint32_t index = (uint32_t)(grant - engine->grants);

	grant->previous = as_newest ? list->newest : NOBODY;
	grant->next = as_newest ? NOBODY : list->oldest;
	if (grant->previous != NOBODY)
		engine->grants[grant->previous].next = index;
	else
		list->oldest = index;
	if (grant->next != NOBODY)
		engine->grants[grant->next].previous = index;
	else
		list->newest = index;
	list->count++;
}

static void list_remove(struct engine *engine, struct grant_list *list, struct grant *grant)
{
	if (grant->previous != NOBODY)
		engine->grants[grant->previous].next = grant->next;
	else
		list->oldest = grant->next;
	if (grant->next != NOBODY)
		engine->grants[grant->next].previous = grant->previous;
	else
		list->newest = grant->previous;
	list->count--;
}

/*
 * Whether the engine is known to have been busy from the grant until last_end: then the grant was
 * waiting for others to end, and its patience counts from there.
 */
static bool was_waiting(const struct sched_gpu *gpu, const struct engine *engine,
			const struct grant *grant)
{
	return engine->last_end_ns > grant->granted_ns &&
	       engine->busy_since_ns <= grant->granted_ns + gpu->config.overhead_ns;
}

static void set_overdue(struct sched_gpu *gpu, struct engine *engine, struct grant *grant,
			bool overdue)
{
	grant->overdue = overdue;
	engine->seats[grant->vgpu].overdue += overdue ? 1 : -1u;
	if (gpu->model->update)
		gpu->model->update(gpu, engine, grant->vgpu);
}

/*
 * For how long the grant has kept the engine, if it was not running: from where it was next on the
 * engine.
 */
static uint64_t kept_ns(const struct sched_gpu *gpu, const struct engine *engine,
			const struct grant *grant)
{
	return MIN(gpu->now_ns - MAX(grant->granted_ns, engine->last_end_ns),
		   gpu->config.hold_max_ns);
}

/*
 * Grants that are out for too long give their places up. Returns when the next one will have to. The
 * oldest is always the first to be late.
 */
static uint64_t expire(struct sched_gpu *gpu, struct engine *engine)
{
	while (engine->counted.count) {
		struct grant *grant = &engine->grants[engine->counted.oldest];
		const uint64_t since_ns =
			was_waiting(gpu, engine, grant) ? engine->last_end_ns : grant->granted_ns;

		if (gpu->now_ns - since_ns < gpu->config.hold_max_ns)
			return since_ns < SCHED_NEVER - gpu->config.hold_max_ns
				       ? since_ns + gpu->config.hold_max_ns
				       : SCHED_NEVER;
		grant->kept_ns = kept_ns(gpu, engine, grant);
		list_remove(engine, &engine->counted, grant);
		list_insert(engine, &engine->overdue, grant, true);
		set_overdue(gpu, engine, grant, true);
	}
	return SCHED_NEVER;
}

/*
 * A run of @used_ns has just ended. Those that turn out to have been waiting for it all the time were
 * no squatters: they count again, and nobody else takes their turn. (Otherwise a run longer than
 * hold_max would first make its victims overdue, and then be alone.) What was once found not to be
 * waiting never is again, so a grant comes back once at most a run.
 */
static void note_end(struct sched_gpu *gpu, struct engine *engine, uint64_t used_ns)
{
	const uint64_t began_ns = gpu->now_ns - used_ns;

	if (began_ns > engine->last_end_ns + gpu->config.overhead_ns)
		engine->busy_since_ns = began_ns;
	engine->last_end_ns = gpu->now_ns;
	while (engine->overdue.count) {
		struct grant *grant = &engine->grants[engine->overdue.newest];

		if (!was_waiting(gpu, engine, grant))
			break;
		list_remove(engine, &engine->overdue, grant);
		list_insert(engine, &engine->counted, grant, false);
		set_overdue(gpu, engine, grant, false);
	}
}

struct sched_decision sched_pick(struct sched_gpu *gpu, uint64_t now_ns, enum sched_engine name)
{
	struct sched_decision decision = { .next_ns = SCHED_NEVER };

	advance(gpu, now_ns);
	if ((unsigned)name >= SCHED_ENGINES)
		return decision;
	struct engine *engine = &gpu->engines[name];
	const uint64_t expires_ns = expire(gpu, engine);

	if (!engine->waiting)
		return decision;
	if (engine->counted.count >= gpu->config.depth) {
		decision.next_ns = expires_ns;
		return decision;
	}
	decision.slice_ns = gpu->config.slice_ns;

	const uint32_t vgpu = gpu->model->pick(gpu, engine, &decision.next_ns, &decision.slice_ns);

	if (vgpu == NOBODY)
		return decision;
	struct seat *seat = &engine->seats[vgpu];
	const unsigned slot = (unsigned)__builtin_ctzll(~seat->slots);
	struct grant *grant = grant_of(gpu, engine, vgpu, slot);

	seat->slots |= UINT64_C(1) << slot;
	seat->in_flight++;
	seat->grants++;
	seat->pending--;
	if (!seat->pending)
		engine->waiting--;
	*grant = (struct grant){ .granted_ns = gpu->now_ns,
				 .slice_ns = decision.slice_ns,
				 .generation = grant->generation + 1,
				 .vgpu = vgpu };
	list_insert(engine, &engine->counted, grant, true);
	if (gpu->model->granted)
		gpu->model->granted(gpu, engine, grant);
	decision.granted = true;
	decision.vgpu = vgpu;
	decision.grant = handle_of(engine, gpu, grant);
	return decision;
}

/* The grant that @handle names, if it is out. */
static struct grant *find_grant(struct sched_gpu *gpu, uint64_t handle, struct engine **engine)
{
	const uint64_t slot = handle & ((1u << SLOT_BITS) - 1);
	const uint64_t each = (uint64_t)gpu->config.vgpus_max * gpu->config.depth;

	if (slot >= each * SCHED_ENGINES)
		return NULL;
	*engine = &gpu->engines[slot / each];

	struct grant *grant = &(*engine)->grants[slot % each];
	const uint32_t index = (uint32_t)(slot % each);
	const uint64_t slots = (*engine)->seats[index / gpu->config.depth].slots;

	if (!(slots >> index % gpu->config.depth & 1) || grant->generation != handle >> SLOT_BITS)
		return NULL;
	return grant;
}

/*
 * What is charged besides the time used: the time for which the grant kept the engine without
 * running, since others could not; and the rest of the least charge. Handing over costs something
 * for everybody, and is free.
 */
static uint64_t surcharge(const struct sched_gpu *gpu, const struct engine *engine,
			  const struct grant *grant, uint64_t used_ns)
{
	const uint64_t overhead_ns = gpu->config.overhead_ns;
	const uint64_t held_ns = grant->overdue ? grant->kept_ns : kept_ns(gpu, engine, grant);

	if (held_ns > used_ns && held_ns - used_ns > overhead_ns)
		return held_ns - used_ns;
	return used_ns < overhead_ns ? overhead_ns - used_ns : 0;
}

int sched_complete(struct sched_gpu *gpu, uint64_t now_ns, uint64_t handle, uint64_t used_ns,
		   struct sched_charge *charge)
{
	struct engine *engine;
	struct grant *grant;

	advance(gpu, now_ns);
	grant = find_grant(gpu, handle, &engine);
	if (!grant)
		return -ENOENT;
	struct seat *seat = &engine->seats[grant->vgpu];
	const uint64_t elapsed_ns = gpu->now_ns - grant->granted_ns;
	struct sched_charge came_to = {
		.vgpu = grant->vgpu,
		.engine = engine->name,
		.granted_ns = grant->granted_ns,
		.used_ns = MIN(used_ns, elapsed_ns),
	};

	if (used_ns != SCHED_USED_UNKNOWN)
		seat->disputed_ns += used_ns - came_to.used_ns;
	came_to.surcharge_ns = surcharge(gpu, engine, grant, came_to.used_ns);
	if (came_to.used_ns > grant->slice_ns)
		came_to.overrun_ns = came_to.used_ns - grant->slice_ns;
	seat->used_ns += came_to.used_ns;
	seat->surcharge_ns += came_to.surcharge_ns;
	seat->overrun_ns += came_to.overrun_ns;

	if (grant->overdue)
		seat->overdue--;
	list_remove(engine, grant->overdue ? &engine->overdue : &engine->counted, grant);
	seat->slots &= ~(UINT64_C(1) << (unsigned)((grant - engine->grants) % gpu->config.depth));
	seat->in_flight--;
	if (!seat->in_flight && !seat->pending && !--engine->active)
		engine->idle_since_ns = gpu->now_ns;
	if (gpu->model->charge)
		gpu->model->charge(gpu, engine, grant, &came_to);
	note_end(gpu, engine, came_to.used_ns);
	if (charge) {
		if (gpu->model->debt)
			came_to.debt_ns = gpu->model->debt(gpu, engine, came_to.vgpu);
		*charge = came_to;
	}
	return 0;
}

int sched_vgpu_stats(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		     enum sched_engine engine, struct sched_vgpu_stats *stats)
{
	struct sched_account account;

	if ((unsigned)engine >= SCHED_ENGINES || sched_vgpu_account(gpu, now_ns, vgpu, &account))
		return -ENOENT;
	const struct seat *seat = &gpu->engines[engine].seats[vgpu];

	*stats = (struct sched_vgpu_stats){
		.pending = seat->pending,
		.in_flight = seat->in_flight,
		.overdue = seat->overdue,
		.grants = seat->grants,
		.used_ns = seat->used_ns,
		.surcharge_ns = seat->surcharge_ns,
		.overrun_ns = seat->overrun_ns,
		.disputed_ns = seat->disputed_ns,
		.throttled_ns = seat->throttled_ns,
		.debt_ns = account.engines[engine].debt_ns,
		.credit_ns = account.engines[engine].credit_ns,
		.guaranteed_ns = account.engines[engine].guaranteed_ns,
	};
	return 0;
}

uint64_t sched_ticks(uint64_t begin, uint64_t end, unsigned valid_bits)
{
	const uint64_t ticks = end - begin;

	return valid_bits >= 64 ? ticks : ticks & ((UINT64_C(1) << valid_bits) - 1);
}
