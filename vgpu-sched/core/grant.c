// SPDX-License-Identifier: Apache-2.0
/*
 * Work that waits and grants that are out. What a caller says is believed only as far as it can be
 * true: time does not run backwards, no grant used more than the time since it was given, none ends
 * twice. Who is next is the model's affair.
 */
#include "vgpu-sched/core/core.h"

#include <errno.h>

/* A grant's handle: which slot, and the how-manieth grant in it. */
#define SLOT_BITS 20
_Static_assert((uint64_t)SCHED_ENGINES *SCHED_VGPUS_MAX *SCHED_DEPTH_MAX <= 1u << SLOT_BITS,
	       "a slot's number fits its handle");

static uint64_t handle_of(const struct engine *engine, const struct sched_gpu *gpu,
			  const struct grant *grant)
{
	const uint64_t slot = (uint64_t)engine->name * gpu->config.vgpus_max * gpu->config.depth +
			      (uint64_t)(grant - engine->grants);

	return grant->generation << SLOT_BITS | slot;
}

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
	gpu_advance(gpu, now_ns);
	if (!gpu_has(gpu, vgpu) || (unsigned)engine >= SCHED_ENGINES)
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
	gpu_advance(gpu, now_ns);
	if (!gpu_has(gpu, vgpu) || (unsigned)engine >= SCHED_ENGINES)
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

	gpu_advance(gpu, now_ns);
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
	if (gpu->model->granted)
		gpu->model->granted(gpu, engine, grant);
	list_insert(engine, &engine->counted, grant, true);
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

/* What is told can be anything; its sum stays at the end of the scale. */
static void dispute(struct seat *seat, uint64_t ns)
{
	seat->disputed_ns += MIN(ns, UINT64_MAX - seat->disputed_ns);
}

int sched_complete(struct sched_gpu *gpu, uint64_t now_ns, uint64_t handle, uint64_t used_ns,
		   struct sched_charge *charge)
{
	struct engine *engine;
	struct grant *grant;

	gpu_advance(gpu, now_ns);
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
		dispute(seat, used_ns - came_to.used_ns);
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

int sched_settle(struct sched_gpu *gpu, uint64_t now_ns, uint64_t handle, uint64_t used_ns,
		 struct sched_charge *charge)
{
	struct engine *engine;
	struct grant *grant;

	gpu_advance(gpu, now_ns);
	grant = find_grant(gpu, handle, &engine);
	if (!grant)
		return -ENOENT;
	if (engine->waiting)
		return -EBUSY;
	if (grant->overdue && engine->counted.count >= gpu->config.depth)
		return -ENOSPC;
	struct seat *seat = &engine->seats[grant->vgpu];
	struct sched_charge came_to = {
		.vgpu = grant->vgpu,
		.engine = engine->name,
		.granted_ns = grant->granted_ns,
		.used_ns = MIN(used_ns, gpu->now_ns - grant->granted_ns),
	};

	if (!gpu->model->settled || !gpu->model->settled(gpu, engine, grant))
		return -EPERM;
	if (used_ns != SCHED_USED_UNKNOWN)
		dispute(seat, used_ns - came_to.used_ns);
	seat->used_ns += came_to.used_ns;
	grant->granted_ns = gpu->now_ns;
	list_remove(engine, grant->overdue ? &engine->overdue : &engine->counted, grant);
	list_insert(engine, &engine->counted, grant, true);
	if (grant->overdue)
		set_overdue(gpu, engine, grant, false);
	if (charge) {
		if (gpu->model->debt)
			came_to.debt_ns = gpu->model->debt(gpu, engine, came_to.vgpu);
		*charge = came_to;
	}
	return 0;
}

int sched_charge_forced(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
			enum sched_engine name, uint64_t used_ns, struct sched_charge *charge)
{
	gpu_advance(gpu, now_ns);
	if (!gpu_has(gpu, vgpu) || (unsigned)name >= SCHED_ENGINES)
		return -ENOENT;
	struct engine *engine = &gpu->engines[name];
	struct seat *seat = &engine->seats[vgpu];
	struct sched_charge came_to = {
		.vgpu = vgpu,
		.engine = name,
		.granted_ns = gpu->now_ns,
		.used_ns = MIN(used_ns, gpu->now_ns - seat->joined_ns - seat->forced_ns),
	};

	dispute(seat, used_ns - came_to.used_ns);
	if (came_to.used_ns < gpu->config.overhead_ns)
		came_to.surcharge_ns = gpu->config.overhead_ns - came_to.used_ns;
	came_to.overrun_ns = came_to.used_ns;
	seat->forced_ns += came_to.used_ns;
	seat->used_ns += came_to.used_ns;
	seat->surcharge_ns += came_to.surcharge_ns;
	seat->overrun_ns += came_to.overrun_ns;
	if (gpu->model->forced)
		gpu->model->forced(gpu, engine, vgpu, came_to.used_ns + came_to.surcharge_ns);
	if (charge) {
		if (gpu->model->debt)
			came_to.debt_ns = gpu->model->debt(gpu, engine, vgpu);
		*charge = came_to;
	}
	return 0;
}

void grants_drop(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	const struct seat *seat = &engine->seats[vgpu];

	sched_withdraw(gpu, gpu->now_ns, vgpu, engine->name, seat->pending);
	while (seat->slots) {
		const unsigned slot = (unsigned)__builtin_ctzll(seat->slots);

		sched_complete(gpu, gpu->now_ns,
			       handle_of(engine, gpu, grant_of(gpu, engine, vgpu, slot)),
			       SCHED_USED_UNKNOWN, NULL);
	}
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
		.forced_ns = seat->forced_ns,
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
