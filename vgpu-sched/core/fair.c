// SPDX-License-Identifier: Apache-2.0
/*
 * Divvy's scheduler: classes in their order, start-time fair queueing inside a class (SFQ: Goyal,
 * Vin, Cheng 1997; with D outstanding: Jin, Chase, Kaur 2004), token buckets in front of it.
 *
 * A seat has a tag in each class it runs in: the service it has had there, divided by its weight. The
 * least tag is next; the turn is the highest tag that was ever next. Who comes from doing nothing
 * starts at the turn, or at its own tag where that is ahead: so sleeping gains nothing and loses no
 * debt. What a grant takes is known at its end only. Until then the tag is ahead by 1/D of what the
 * last one took, so that the next place goes to another and the bound stays (D + 1) times.
 *
 * Tags are exact: each is the floor of the true quotient in 2^-20 ns, with the remainder carried.
 * Buckets are exact too (10^-6 ns). An engine that stands idle pays the debts of its seats as if all
 * of them had been running.
 */
#include "vgpu-sched/core/core.h"

#define TAG_SHIFT 20

static void fair_layout(const struct sched_gpu_config *config, struct engine *engine,
			struct arena *arena)
{
	struct fair_engine *fair = &engine->fair;
	struct heap *heaps[RANKS + 1];

	fair->awaited = NOBODY;
	fair->awaited_since_ns = SCHED_NEVER;
	for (unsigned i = 0; i < RANKS; i++)
		heaps[i] = &fair->ready[i];
	heaps[RANKS] = &fair->timers;
	for (unsigned i = 0; i < ARRAY_SIZE(heaps); i++) {
		heaps[i]->entries = arena_take(arena, config->vgpus_max, sizeof(struct heap_entry));
		heaps[i]->places = arena_take(arena, config->vgpus_max, sizeof(uint32_t));
	}
}

/* ---- tags and turns ---------------------------------------------------------------------- */

/* @ns of service at @weight, as a distance between tags. */
static vtime quotient(uint64_t ns, uint32_t weight)
{
	if (ns < UINT64_C(1) << (63 - TAG_SHIFT))
		return (ns << TAG_SHIFT) / weight; /* two and a half hours: nearly always */
	return ((vtime)ns << TAG_SHIFT) / weight;
}

/* The tag moves on by @ns of service at @weight; nothing is lost to rounding. */
static void tag_advance(vtime *tag, uint32_t *remainder, uint32_t weight, uint64_t ns)
{
	const vtime steps = quotient(ns, weight);
	const uint32_t rest = *remainder + (uint32_t)(((vtime)ns << TAG_SHIFT) - steps * weight);

	/* Both parts are below the weight, and that is at most 2^20. */
	*tag += steps + rest / weight;
	*remainder = rest % weight;
}

/* SFQ's v(t). While nobody has work it goes on, as slowly as with everybody running. */
static vtime turn_of(const struct sched_gpu *gpu, const struct engine *engine, unsigned rank)
{
	const uint64_t weights = engine->fair.weights[rank];

	if (engine->active || !weights)
		return engine->fair.turn[rank];
	return engine->fair.turn[rank] +
	       ((vtime)(gpu->now_ns - engine->idle_since_ns) << TAG_SHIFT) / weights;
}

/* Debts that idle time has paid are written off, before weights or the engine's idleness change. */
static void pay_idle(struct sched_gpu *gpu, struct engine *engine)
{
	for (unsigned r = 0; r < RANKS; r++)
		engine->fair.turn[r] = turn_of(gpu, engine, r);
	if (!engine->active)
		engine->idle_since_ns = gpu->now_ns;
}

/*
 * Service in 2^-20 ns by which the seat is ahead of the turn of a class; below zero only for one that
 * waits and was charged less than was expected of it.
 */
static wide ahead(const struct sched_gpu *gpu, const struct engine *engine,
		  const struct fair_seat *seat, unsigned rank, const struct terms *terms)
{
	const wide distance = (wide)(seat->tags[rank] - turn_of(gpu, engine, rank));
	const uint32_t weight = terms->weights[rank];

	if (!weight || (distance < 0 && seat->rank != rank))
		return 0;
	return distance * weight + seat->remainders[rank];
}

/* The seat's tag in a class becomes @units of service ahead of the turn. */
static void put_ahead(const struct fair_engine *fair, struct fair_seat *seat, unsigned rank,
		      uint32_t weight, wide units)
{
	wide steps = units / weight, rest = units % weight;

	if (rest < 0) {
		steps--;
		rest += weight;
	}
	seat->tags[rank] = fair->turn[rank] + (vtime)steps;
	seat->remainders[rank] = (uint32_t)rest;
}

/* ---- buckets ----------------------------------------------------------------------------- */

static void earn(struct bucket *bucket, uint64_t now_ns, uint32_t ppm)
{
	bucket->balance += (wide)(now_ns - bucket->at_ns) * ppm;
	bucket->at_ns = now_ns;
}

/*
 * The cap waits while a grant is out: what the grant is using has not been taken from the balance
 * yet, and pay() puts that right.
 */
static void earn_all(const struct terms *terms, struct seat *seat, uint64_t now_ns)
{
	struct fair_seat *mine = &seat->fair;

	if (terms->limited) {
		earn(&mine->limit, now_ns, terms->limit_ppm);
		if (!seat->in_flight && mine->limit.balance > terms->limit_cap)
			mine->limit.balance = terms->limit_cap;
	}
	if (terms->guaranteed) {
		earn(&mine->guaranteed, now_ns, terms->guaranteed_ppm);
		if (!seat->in_flight && mine->guaranteed.balance > terms->guaranteed_cap)
			mine->guaranteed.balance = terms->guaranteed_cap;
	}
}

/*
 * @ns of service are paid for, as if it had been taken bit by bit over the last @over_ns: the cap
 * held until then; since then the balance has only sunk.
 */
static void pay(struct bucket *bucket, uint32_t ppm, wide cap, uint64_t ns, uint64_t over_ns)
{
	const wide meanwhile = (wide)over_ns * ppm;

	bucket->balance = MIN(bucket->balance - meanwhile, cap) + meanwhile - (wide)ns * SCHED_PPM;
}

/* One that left earns nothing, but pays what it owes. */
static void earn_away(const struct terms *terms, struct fair_seat *seat, uint64_t now_ns)
{
	const wide limit = MAX(seat->limit.balance, (wide)0);
	const wide guaranteed = MAX(seat->guaranteed.balance, (wide)0);

	earn(&seat->limit, now_ns, terms->limit_ppm);
	earn(&seat->guaranteed, now_ns, terms->guaranteed_ppm);
	seat->limit.balance = MIN(seat->limit.balance, limit);
	seat->guaranteed.balance = MIN(seat->guaranteed.balance, guaranteed);
}

/* When a bucket that is at @balance now will be at @target. */
static uint64_t reached_ns(uint64_t now_ns, wide balance, wide target, uint32_t ppm)
{
	const wide wait_ns = (target - balance + ppm - 1) / ppm;

	return wait_ns < (wide)(SCHED_NEVER - now_ns) ? now_ns + (uint64_t)wait_ns : SCHED_NEVER;
}

/* ---- where a seat belongs ---------------------------------------------------------------- */

/* The class in which the seat may run now, and when that will change by itself. */
static enum rank rank_of(const struct terms *terms, const struct fair_seat *seat, uint64_t now_ns,
			 uint64_t *until_ns)
{
	if (terms->limited && seat->limit.balance < terms->limit_floor) {
		*until_ns = reached_ns(now_ns, seat->limit.balance, terms->limit_floor,
				       terms->limit_ppm);
		return RANK_NONE;
	}
	if (!terms->guaranteed)
		return terms->rank;
	if (seat->guaranteed.balance >= 0)
		return RANK_GUARANTEED;
	*until_ns = reached_ns(now_ns, seat->guaranteed.balance, 0, terms->guaranteed_ppm);
	return terms->rank;
}

/* Puts the seat into the heap, and the timer, that it belongs into by @terms. */
static void place(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
		  const struct terms *terms)
{
	struct fair_engine *fair = &engine->fair;
	struct seat *seat = &engine->seats[vgpu];
	struct fair_seat *mine = &seat->fair;
	const bool wants = seat->pending && !seat->overdue;
	uint64_t until_ns = SCHED_NEVER;
	enum rank rank = RANK_NONE;

	if (wants) {
		earn_all(terms, seat, gpu->now_ns);
		rank = rank_of(terms, mine, gpu->now_ns, &until_ns);
	}
	if (mine->rank != rank) {
		if (mine->rank != RANK_NONE)
			heap_remove(&fair->ready[mine->rank], vgpu);
		if (rank != RANK_NONE && mine->tags[rank] < fair->turn[rank]) {
			mine->tags[rank] = fair->turn[rank];
			mine->remainders[rank] = 0;
		}
		mine->rank = rank;
	}
	if (rank != RANK_NONE)
		heap_set(&fair->ready[rank], vgpu, mine->tags[rank]);
	if (until_ns != SCHED_NEVER)
		heap_set(&fair->timers, vgpu, until_ns);
	else
		heap_remove(&fair->timers, vgpu);
	if (wants && rank == RANK_NONE) {
		if (mine->throttled_since_ns == SCHED_NEVER)
			mine->throttled_since_ns = gpu->now_ns;
	} else if (mine->throttled_since_ns != SCHED_NEVER) {
		seat->throttled_ns += gpu->now_ns - mine->throttled_since_ns;
		mine->throttled_since_ns = SCHED_NEVER;
	}
}

/* @ns of service, had over the last @over_ns, go onto the tag and out of the buckets. */
static void take(struct sched_gpu *gpu, struct seat *seat, const struct terms *terms,
		 enum rank rank, uint64_t ns, uint64_t over_ns)
{
	struct fair_seat *mine = &seat->fair;

	tag_advance(&mine->tags[rank], &mine->remainders[rank], terms->weights[rank], ns);
	if (terms->limited) {
		earn(&mine->limit, gpu->now_ns, terms->limit_ppm);
		pay(&mine->limit, terms->limit_ppm, terms->limit_cap, ns, over_ns);
	}
	if (terms->guaranteed) {
		const bool pays = rank == RANK_GUARANTEED;

		earn(&mine->guaranteed, gpu->now_ns, terms->guaranteed_ppm);
		pay(&mine->guaranteed, terms->guaranteed_ppm, terms->guaranteed_cap, pays ? ns : 0,
		    pays ? over_ns : 0);
	}
}

/* ---- waiting for who comes again soon ---------------------------------------------------- */

/* Nobody is waited for any more; who was pays for the time in which the engine had nothing else. */
static void stop_awaiting(struct sched_gpu *gpu, struct engine *engine)
{
	struct fair_engine *fair = &engine->fair;

	if (fair->awaited_since_ns != SCHED_NEVER && !engine->counted.count) {
		struct seat *seat = &engine->seats[fair->awaited];
		const uint64_t waited_ns =
			gpu->now_ns - MAX(fair->awaited_since_ns, engine->last_end_ns);

		take(gpu, seat, &gpu->clients[fair->awaited].terms, fair->awaited_rank, waited_ns,
		     waited_ns);
		seat->surcharge_ns += waited_ns;
	}
	fair->awaited = NOBODY;
	fair->awaited_since_ns = SCHED_NEVER;
}

/* The vGPU has just ended a grant; if it has nothing more, the next pick may wait for it. */
static void await(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu, enum rank rank)
{
	struct seat *seat = &engine->seats[vgpu];

	if (!gpu->config.linger_ns || seat->pending || seat->in_flight)
		return;
	stop_awaiting(gpu, engine);
	seat->fair.ended_ns = gpu->now_ns;
	if (seat->fair.pauses)
		return;
	engine->fair.awaited = vgpu;
	engine->fair.awaited_rank = rank;
}

/* The vGPU has work again. */
static void came_again(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	struct fair_seat *seat = &engine->seats[vgpu].fair;

	if (seat->ended_ns == SCHED_NEVER)
		return;
	seat->pauses = gpu->now_ns - seat->ended_ns > gpu->config.linger_ns;
	seat->ended_ns = SCHED_NEVER;
	if (engine->fair.awaited == vgpu)
		stop_awaiting(gpu, engine);
}

/* Whether @next, the first of @rank, has to wait for the one that is awaited; until when. */
static bool has_to_wait(struct sched_gpu *gpu, struct engine *engine, enum rank rank, uint32_t next,
			uint64_t *next_ns)
{
	struct fair_engine *fair = &engine->fair;
	uint64_t until_ns;

	if (fair->awaited == NOBODY)
		return false;
	struct seat *seat = &engine->seats[fair->awaited];
	const struct terms *terms = &gpu->clients[fair->awaited].terms;

	if (gpu->now_ns - seat->fair.ended_ns >= gpu->config.linger_ns) {
		stop_awaiting(gpu, engine);
		return false;
	}
	earn_all(terms, seat, gpu->now_ns);
	const enum rank its = rank_of(terms, &seat->fair, gpu->now_ns, &until_ns);

	if (its > rank || (its == rank && MAX(seat->fair.tags[its], fair->turn[its]) >=
						  engine->seats[next].fair.tags[rank]))
		return false;
	if (fair->awaited_since_ns == SCHED_NEVER)
		fair->awaited_since_ns = gpu->now_ns;
	*next_ns = MIN(*next_ns, seat->fair.ended_ns + gpu->config.linger_ns);
	return true;
}

static void fair_update(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	const enum rank before = engine->seats[vgpu].fair.rank;

	if (engine->seats[vgpu].pending)
		came_again(gpu, engine, vgpu);
	place(gpu, engine, vgpu, &gpu->clients[vgpu].terms);
	if (before < RANK_BEST_EFFORT || engine->seats[vgpu].fair.rank < RANK_BEST_EFFORT)
		engine->fair.above_ns = gpu->now_ns;
}

/* ---- decisions --------------------------------------------------------------------------- */

static uint32_t fair_pick(struct sched_gpu *gpu, struct engine *engine, uint64_t *next_ns,
			  uint64_t *slice_ns)
{
	struct fair_engine *fair = &engine->fair;
	unsigned rank = RANK_GUARANTEED;
	uint32_t next;

	/* Each timer was set by one charge and goes away here, so that they add nothing to O(log n). */
	while (fair->timers.count && fair->timers.entries[0].key <= gpu->now_ns)
		fair_update(gpu, engine, fair->timers.entries[0].id);
	if (fair->timers.count)
		*next_ns = (uint64_t)fair->timers.entries[0].key;
	while (rank < RANKS && !fair->ready[rank].count)
		rank++;
	if (rank == RANKS)
		return NOBODY;
	if (rank == RANK_BEST_EFFORT && gpu->config.idle_gap_ns && fair->above_ns &&
	    gpu->now_ns - fair->above_ns < gpu->config.idle_gap_ns) {
		*next_ns = MIN(*next_ns, fair->above_ns + gpu->config.idle_gap_ns);
		return NOBODY;
	}
	next = fair->ready[rank].entries[0].id;
	return has_to_wait(gpu, engine, (enum rank)rank, next, next_ns) ? NOBODY : next;
}

static void fair_granted(struct sched_gpu *gpu, struct engine *engine, struct grant *grant)
{
	struct fair_engine *fair = &engine->fair;
	struct fair_seat *seat = &engine->seats[grant->vgpu].fair;
	const struct terms *terms = &gpu->clients[grant->vgpu].terms;
	const enum rank rank = seat->rank;

	stop_awaiting(gpu, engine);
	grant->rank = rank;
	if (seat->tags[rank] > fair->turn[rank])
		fair->turn[rank] = seat->tags[rank];
	if (gpu->config.depth > 1) {
		grant->expected =
			quotient(seat->expected_ns, gpu->config.depth * terms->weights[rank]);
		seat->tags[rank] += grant->expected;
	}
	if (rank < RANK_BEST_EFFORT)
		fair->above_ns = gpu->now_ns;
	place(gpu, engine, grant->vgpu, terms);
}

static void fair_charge(struct sched_gpu *gpu, struct engine *engine, struct grant *grant,
			const struct sched_charge *charge)
{
	struct seat *seat = &engine->seats[grant->vgpu];
	struct fair_seat *mine = &seat->fair;
	const struct terms *terms = &gpu->clients[grant->vgpu].terms;
	const uint64_t charged_ns = charge->used_ns + charge->surcharge_ns;
	const uint64_t over_ns = MIN(charged_ns, gpu->now_ns - grant->granted_ns);
	const enum rank rank = grant->rank;

	mine->tags[rank] -= grant->expected;
	mine->expected_ns = charged_ns;
	take(gpu, seat, terms, rank, charged_ns, over_ns);
	await(gpu, engine, grant->vgpu, rank);
	if (rank < RANK_BEST_EFFORT)
		engine->fair.above_ns = gpu->now_ns;
	place(gpu, engine, grant->vgpu, terms);
}

/* The tag goes on by all the time there was, used or not, and the turn with it: nobody saves up what he let lie. */
static bool fair_settled(struct sched_gpu *gpu, struct engine *engine, struct grant *grant)
{
	struct fair_seat *mine = &engine->seats[grant->vgpu].fair;
	const struct terms *terms = &gpu->clients[grant->vgpu].terms;
	const enum rank rank = grant->rank;

	if (terms->limited || terms->guaranteed)
		return false;
	mine->tags[rank] -= grant->expected;
	tag_advance(&mine->tags[rank], &mine->remainders[rank], terms->weights[rank],
		    gpu->now_ns - grant->granted_ns);
	if (mine->tags[rank] > engine->fair.turn[rank])
		engine->fair.turn[rank] = mine->tags[rank];
	mine->tags[rank] += grant->expected;
	if (rank < RANK_BEST_EFFORT)
		engine->fair.above_ns = gpu->now_ns;
	return true;
}

/*
 * As a grant given and ended now would be: the class is the one in which the seat would run, throttled or not. Its tag there is first put where
 * a newcomer's is, or the service would go onto a tag that is left behind when the seat comes again.
 */
static void fair_forced(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu, uint64_t ns)
{
	struct seat *seat = &engine->seats[vgpu];
	struct fair_seat *mine = &seat->fair;
	const struct terms *terms = &gpu->clients[vgpu].terms;
	enum rank rank = terms->rank;
	vtime turn;

	earn_all(terms, seat, gpu->now_ns);
	if (terms->guaranteed && mine->guaranteed.balance >= 0)
		rank = RANK_GUARANTEED;
	turn = turn_of(gpu, engine, rank);
	if (mine->rank != rank && mine->tags[rank] < turn) {
		mine->tags[rank] = turn;
		mine->remainders[rank] = 0;
	}
	tag_advance(&mine->tags[rank], &mine->remainders[rank], terms->weights[rank], ns);
	if (terms->limited)
		mine->limit.balance -= (wide)ns * SCHED_PPM;
	if (rank == RANK_GUARANTEED && terms->guaranteed)
		mine->guaranteed.balance -= (wide)ns * SCHED_PPM;
	place(gpu, engine, vgpu, terms);
}

/* ---- coming, changing, going ------------------------------------------------------------- */

static void count_weights(struct fair_engine *fair, const struct terms *terms, bool in)
{
	for (unsigned r = 0; r < RANKS; r++)
		fair->weights[r] += in ? terms->weights[r] : -(uint64_t)terms->weights[r];
}

static void fair_join(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
		      const struct sched_account *account)
{
	struct fair_seat *seat = &engine->seats[vgpu].fair;
	const struct terms *terms = &gpu->clients[vgpu].terms;

	pay_idle(gpu, engine);
	for (unsigned r = 0; r < RANKS; r++)
		seat->tags[r] = engine->fair.turn[r];
	seat->rank = RANK_NONE;
	seat->expected_ns = gpu->config.overhead_ns;
	seat->throttled_since_ns = SCHED_NEVER;
	seat->ended_ns = SCHED_NEVER;
	seat->limit.at_ns = seat->guaranteed.at_ns = gpu->now_ns;
	if (account) {
		seat->limit.balance = (wide)account->engines[engine->name].credit_ns * SCHED_PPM;
		seat->guaranteed.balance =
			(wide)account->engines[engine->name].guaranteed_ns * SCHED_PPM;
		earn_all(terms, &engine->seats[vgpu], gpu->now_ns);
		put_ahead(&engine->fair, seat, terms->rank, terms->weights[terms->rank],
			  (wide)account->engines[engine->name].debt_ns << TAG_SHIFT);
	}
	count_weights(&engine->fair, terms, true);
}

static void fair_leave(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	pay_idle(gpu, engine);
	if (engine->fair.awaited == vgpu)
		stop_awaiting(gpu, engine);
	earn_all(&gpu->clients[vgpu].terms, &engine->seats[vgpu], gpu->now_ns);
	count_weights(&engine->fair, &gpu->clients[vgpu].terms, false);
}

/* In a class in which nobody is, there is nobody to owe to. */
static wide debt_units(const struct sched_gpu *gpu, const struct engine *engine, uint32_t vgpu,
		       const struct terms *terms)
{
	wide units = 0;

	for (unsigned r = 0; r < RANKS; r++)
		if (engine->fair.weights[r])
			units += ahead(gpu, engine, &engine->seats[vgpu].fair, r, terms);
	return units;
}

static bool fair_owes(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	struct fair_seat *seat = &engine->seats[vgpu].fair;
	const struct terms *terms = &gpu->clients[vgpu].terms;

	earn_away(terms, seat, gpu->now_ns);
	return debt_units(gpu, engine, vgpu, terms) > 0 ||
	       (terms->limited && seat->limit.balance < 0) ||
	       (terms->guaranteed && seat->guaranteed.balance < 0);
}

/* The debt moves, to the fraction, to the class in which the seat runs from now on. */
static void fair_change(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
			const struct terms *terms)
{
	struct fair_seat *seat = &engine->seats[vgpu].fair;
	const struct client *client = &gpu->clients[vgpu];
	const bool returns = client->presence == PLACE_LEFT;

	pay_idle(gpu, engine);
	if (engine->fair.awaited == vgpu)
		stop_awaiting(gpu, engine);
	if (returns)
		earn_away(&client->terms, seat, gpu->now_ns);
	else
		earn_all(&client->terms, &engine->seats[vgpu], gpu->now_ns);
	for (unsigned i = 0; i < gpu->config.depth; i++) {
		struct grant *grant = grant_of(gpu, engine, vgpu, i);

		if (!(engine->seats[vgpu].slots >> i & 1))
			continue;
		seat->tags[grant->rank] -= grant->expected;
		grant->expected = 0;
		if (!terms->guaranteed || grant->rank != RANK_GUARANTEED)
			grant->rank = terms->rank;
	}

	const wide units = debt_units(gpu, engine, vgpu, &client->terms);

	if (seat->rank != RANK_NONE) {
		heap_remove(&engine->fair.ready[seat->rank], vgpu);
		seat->rank = RANK_NONE;
	}
	for (unsigned r = 0; r < RANKS; r++) {
		seat->tags[r] = engine->fair.turn[r];
		seat->remainders[r] = 0;
	}
	put_ahead(&engine->fair, seat, terms->rank, terms->weights[terms->rank], units);
	seat->limit.at_ns = seat->guaranteed.at_ns = gpu->now_ns;
	earn_all(terms, &engine->seats[vgpu], gpu->now_ns);
	if (!returns)
		count_weights(&engine->fair, &client->terms, false);
	count_weights(&engine->fair, terms, true);
}

/* ---- what others see --------------------------------------------------------------------- */

static int64_t whole_ns(wide balance)
{
	wide ns = balance / SCHED_PPM;

	if (balance < 0 && ns * SCHED_PPM != balance)
		ns--;
	return ns > INT64_MAX ? INT64_MAX : ns < INT64_MIN ? INT64_MIN : (int64_t)ns;
}

static uint64_t fair_debt(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu)
{
	const wide units = debt_units(gpu, engine, vgpu, &gpu->clients[vgpu].terms);
	const wide ns = (units + (1 << TAG_SHIFT) - 1) >> TAG_SHIFT;

	return ns<0 ? 0 : ns>(wide) UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

static void fair_account(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
			 struct sched_account *account)
{
	struct fair_seat *seat = &engine->seats[vgpu].fair;
	const struct terms *terms = &gpu->clients[vgpu].terms;

	earn_all(terms, &engine->seats[vgpu], gpu->now_ns);
	account->engines[engine->name].debt_ns = fair_debt(gpu, engine, vgpu);
	account->engines[engine->name].credit_ns = whole_ns(
		terms->limited ? MIN(seat->limit.balance, terms->limit_cap) : seat->limit.balance);
	account->engines[engine->name].guaranteed_ns =
		whole_ns(terms->guaranteed ? MIN(seat->guaranteed.balance, terms->guaranteed_cap)
					   : seat->guaranteed.balance);
}

const struct model model_fair = {
	.name = "divvy",
	.layout = fair_layout,
	.join = fair_join,
	.change = fair_change,
	.leave = fair_leave,
	.owes = fair_owes,
	.account = fair_account,
	.debt = fair_debt,
	.wake = pay_idle,
	.update = fair_update,
	.pick = fair_pick,
	.granted = fair_granted,
	.settled = fair_settled,
	.forced = fair_forced,
	.charge = fair_charge,
};
