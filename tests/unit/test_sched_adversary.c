// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that wants more than its part, or wants its neighbour to get less. One test a trick; each
 * compares with what honest neighbours would have got.
 */
#include "tests/unit/sched_world.h"

static const struct world_load honest = { .length_min_ns = MS, .outstanding = 3 };

static struct world *open_world(unsigned vgpus_max, unsigned depth)
{
	const struct sched_gpu_config config = { .vgpus_max = vgpus_max, .depth = depth };

	return world_open(&config, 1);
}

static void one_huge_submission_is_paid_for(void **state)
{
	for (unsigned depth = 1; depth <= 4; depth++) {
		struct world *w = open_world(4, depth);
		/* Half a second once in a while, otherwise as the others. */
		const struct world_load huge = { .length_min_ns = 200 * MS, .outstanding = 1 };
		unsigned hog = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &huge);

		for (unsigned i = 1; i < 4; i++)
			world_add(w, i + 1, SCHED_EQUAL_SHARE, 0, &honest);
		world_run(w, 40 * NSEC_PER_SEC);
		/* A quarter each, the hog within one job. */
		assert_in_range(w->vgpus[hog].used_ns / MS, 9800, 10200);
		for (unsigned i = 1; i < 4; i++)
			assert_in_range(w->vgpus[i].used_ns / MS, 9850, 10150);
		world_close(w);
	}
}

/* Jobs of several times hold_max make no victim overdue in earnest. */
static void submissions_longer_than_hold_max_are_paid_for(void **state)
{
	for (unsigned depth = 1; depth <= 4; depth++) {
		struct world *w = open_world(4, depth);
		const struct world_load huge = { .length_min_ns = 900 * MS, .outstanding = 4 };
		unsigned hog = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &huge);

		for (unsigned i = 1; i < 4; i++)
			world_add(w, i + 1, SCHED_EQUAL_SHARE, 0, &honest);
		world_run(w, 80 * NSEC_PER_SEC);
		assert_in_range(w->vgpus[hog].used_ns / MS, 20000 - 900 * depth,
				20000 + 900 * depth);
		for (unsigned i = 1; i < 4; i++)
			assert_in_range(w->vgpus[i].used_ns / MS, 20000 - 600 * depth,
					20000 + 600 * depth);
		world_close(w);
	}
}

/*
 * Empty submissions take no GPU time to speak of, but each holds the engine for the hand-over. They are
 * charged that.
 */
static void a_flood_of_empty_submissions_gains_nothing(void **state)
{
	struct world *w = open_world(2, 1);
	const struct world_load flood = { .length_min_ns = 1,
					  .stall_ns = 15 * US,
					  .outstanding = 16 };
	unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &flood);
	unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);

	world_run(w, 10 * NSEC_PER_SEC);
	/* Half for the honest one, and a little more, since hand-overs are cheaper than their price. */
	assert_in_range(w->vgpus[b].used_ns / MS, 5000, 5900);
	assert_true(w->vgpus[a].grants > 100000);
	world_close(w);
}

/* The same at the guaranteed class, where a class below would get nothing at all. */
static void a_flood_of_empty_submissions_spends_its_share(void **state)
{
	struct world *w = open_world(2, 1);
	const struct world_load flood = { .length_min_ns = 1,
					  .stall_ns = 15 * US,
					  .outstanding = 16 };

	world_add(w, 1, SCHED_FIXED_SHARE, 300000, &flood);
	unsigned b = world_add(w, 2, SCHED_BEST_EFFORT, 0, &honest);

	world_run(w, 10 * NSEC_PER_SEC);
	assert_true(w->vgpus[b].used_ns > 6900 * MS);
	world_close(w);
}

/* A hog that sleeps after each overrun, for longer than a share's period, and comes back. */
static void sleeping_sheds_no_debt(void **state)
{
	static const enum sched_policy policies[] = { SCHED_EQUAL_SHARE, SCHED_FIXED_SHARE };

	for (unsigned i = 0; i < ARRAY_SIZE(policies); i++) {
		struct world *w = open_world(2, 1);
		const struct world_load sleeper = { .length_min_ns = 400 * MS,
						    .outstanding = 1,
						    .think_min_ns = 150 * MS };
		unsigned a = world_add(w, 1, policies[i], 250000, &sleeper);
		unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);
		const uint64_t due_ms = policies[i] == SCHED_FIXED_SHARE ? 10000 : 20000;

		world_run(w, 40 * NSEC_PER_SEC);
		assert_true(w->vgpus[a].used_ns / MS <= due_ms + 400);
		assert_true(w->vgpus[b].used_ns / MS >= 40000 - due_ms - 400);
		world_close(w);
	}
}

/* What was not used while asleep gives no claim: all of it, at once, when awake. */
static void sleeping_saves_nothing_up(void **state)
{
	struct world *w = open_world(2, 1);
	const struct world_load late = { .length_min_ns = MS,
					 .outstanding = 8,
					 .begin_ns = 10 * NSEC_PER_SEC };
	unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &late);
	unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);

	world_run(w, 10 * NSEC_PER_SEC);
	const uint64_t before_ns = w->vgpus[b].used_ns;

	world_run(w, 10 * NSEC_PER_SEC + 20 * MS);
	assert_in_range(w->vgpus[a].used_ns / MS, 9, 11);
	assert_in_range((w->vgpus[b].used_ns - before_ns) / MS, 9, 11);
	world_close(w);
}

/*
 * Submissions that wait for what does not come, for less or for more than hold_max: the time for which
 * they kept the engine is theirs to pay.
 */
static void squatting_on_a_grant_is_paid_for(void **state)
{
	static const unsigned stalls_ms[] = { 20, 200, 260, 700 };

	for (unsigned i = 0; i < ARRAY_SIZE(stalls_ms); i++) {
		struct world *w = open_world(2, 1);
		const struct world_load squatter = { .length_min_ns = 1,
						     .stall_ns = stalls_ms[i] * MS,
						     .outstanding = 4 };

		world_add(w, 1, SCHED_EQUAL_SHARE, 0, &squatter);
		unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);

		world_run(w, 40 * NSEC_PER_SEC);
		assert_true(w->vgpus[b].used_ns / MS >= 19700);
		world_close(w);
	}
}

static void squatting_spends_a_fixed_share(void **state)
{
	struct world *w = open_world(2, 1);
	const struct world_load squatter = { .length_min_ns = 1,
					     .stall_ns = 200 * MS,
					     .outstanding = 4 };

	world_add(w, 1, SCHED_FIXED_SHARE, 100000, &squatter);
	unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);

	world_run(w, 40 * NSEC_PER_SEC);
	assert_true(w->vgpus[b].used_ns / MS >= 36000 - 400);
	world_close(w);
}

/* Longer than hold_max: its place goes to another, once, and it gets no second grant meanwhile. */
static void squatting_for_ever_loses_the_place(void **state)
{
	for (unsigned depth = 1; depth <= 2; depth++) {
		struct world *w = open_world(3, depth);
		const struct world_load squatter = { .length_min_ns = 1,
						     .stall_ns = 3600 * NSEC_PER_SEC,
						     .outstanding = 8 };
		struct sched_vgpu_stats stats;
		unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &squatter);
		unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);

		world_run(w, 10 * NSEC_PER_SEC);
		assert_true(w->vgpus[b].used_ns / MS >= 10000 - 251);
		assert_true(w->vgpus[a].grants <= depth);
		assert_int_equal(
			sched_vgpu_stats(w->gpu, w->now_ns, a, SCHED_ENGINE_GRAPHICS, &stats), 0);
		assert_int_equal(stats.in_flight, w->vgpus[a].grants);
		assert_int_equal(stats.overdue, w->vgpus[a].grants);
		/* It dies: what it held is charged, everything is released. */
		world_leave(w, a, NULL);
		const struct world_load late = { .length_min_ns = MS, .outstanding = 3 };
		unsigned c = world_add(w, 3, SCHED_EQUAL_SHARE, 0, &late);
		const uint64_t used_ns = w->vgpus[b].used_ns;

		world_run(w, 12 * NSEC_PER_SEC);
		assert_in_range(w->vgpus[c].used_ns / MS, 990, 1010);
		assert_in_range((w->vgpus[b].used_ns - used_ns) / MS, 990, 1010);
		world_close(w);
	}
}

/* ---- churn ------------------------------------------------------------------------------- */

struct churn {
	struct sched_vgpu_config config;
	struct world_load load;
	unsigned vgpu;
	uint64_t charged_ns; /* when it last came */
	bool fresh_identity;
};

/* Leaves as soon as one job has ended, and joins again at once. */
static void leave_and_join(struct world *w, void *arg)
{
	struct churn *churn = arg;
	struct world_vgpu *v = &w->vgpus[churn->vgpu];

	if (v->used_ns == churn->charged_ns)
		return;
	world_leave(w, churn->vgpu, NULL);
	churn->vgpu = world_join(w, &churn->config, &churn->load);
	churn->charged_ns = w->vgpus[churn->vgpu].used_ns;
	world_submit_due(w, churn->vgpu);
}

static void leaving_and_joining_again_gains_nothing(void **state)
{
	static const enum sched_policy policies[] = { SCHED_EQUAL_SHARE, SCHED_FIXED_SHARE,
						      SCHED_BURST };

	for (unsigned i = 0; i < ARRAY_SIZE(policies); i++) {
		struct world *w = open_world(4, 1);
		struct churn churn = {
			.config = { .identity = 1, .policy = policies[i], .share_ppm = 250000 },
			.load = { .length_min_ns = 100 * MS, .outstanding = 1 },
		};
		const bool limited = policies[i] == SCHED_FIXED_SHARE;

		unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);

		churn.vgpu = world_join(w, &churn.config, &churn.load);
		w->hook = leave_and_join;
		w->hook_arg = &churn;
		world_run(w, 20 * NSEC_PER_SEC);
		const uint64_t due_ms = limited || policies[i] == SCHED_BURST ? 5000 : 10000;

		assert_true(w->vgpus[churn.vgpu].used_ns / MS <= due_ms + 200);
		assert_true(w->vgpus[b].used_ns / MS >= 20000 - due_ms - 200);
		assert_true(w->vgpus[churn.vgpu].used_ns / MS >= due_ms / 2);
		world_close(w);
	}
}

static void a_debtor_that_left_keeps_its_place_until_it_has_paid(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2 };
	struct sched_vgpu_config debtor = { .identity = 1,
					    .policy = SCHED_FIXED_SHARE,
					    .share_ppm = 100000 };
	struct sched_vgpu_config other = { .identity = 2, .policy = SCHED_BEST_EFFORT };
	struct sched_account account;
	struct sched_decision d;
	struct sched_gpu *gpu;
	struct error e;
	unsigned v, w;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	assert_int_equal(sched_vgpu_join(gpu, 0, &debtor, NULL, &v, NULL), 0);
	assert_int_equal(sched_vgpu_join(gpu, 0, &other, NULL, &w, NULL), 0);
	assert_int_equal(sched_submit(gpu, 0, v, SCHED_ENGINE_COPY, 2), 0);
	d = sched_pick(gpu, 0, SCHED_ENGINE_COPY);
	assert_true(d.granted);
	assert_int_equal(sched_complete(gpu, 1000 * MS, d.grant, 1000 * MS, NULL), 0);
	/* 100 ms earned meanwhile. */
	assert_int_equal(sched_vgpu_leave(gpu, 1000 * MS, v, &account), 0);
	assert_int_equal(account.engines[SCHED_ENGINE_COPY].credit_ns, -900 * (int64_t)MS);
	assert_int_equal(account.engines[SCHED_ENGINE_GRAPHICS].credit_ns, 10 * (int64_t)MS);
	other.identity = 3;
	assert_int_equal(sched_vgpu_join(gpu, 9999 * MS, &other, NULL, &w, &e), -ENOSPC);
	assert_string_equal(e.code, "gpu-places-full");
	/* Itself it may come back, with the rest of it. */
	assert_int_equal(sched_vgpu_join(gpu, 9999 * MS, &debtor, NULL, &v, NULL), 0);
	assert_int_equal(sched_submit(gpu, 9999 * MS, v, SCHED_ENGINE_COPY, 1), 0);
	d = sched_pick(gpu, 9999 * MS, SCHED_ENGINE_COPY);
	assert_false(d.granted);
	assert_int_equal(d.next_ns, 10000 * MS);
	assert_int_equal(sched_vgpu_leave(gpu, 9999 * MS, v, NULL), 0);
	/* It has paid (the weighted debt, which idle time pays, too): the place is free. */
	assert_int_equal(sched_vgpu_join(gpu, 10000 * MS, &other, NULL, &w, &e), 0);
	sched_gpu_destroy(gpu);
}

static void a_weighted_debtor_that_left_keeps_its_place_too(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2 };
	struct sched_vgpu_config vgpu = { .identity = 1, .policy = SCHED_WEIGHTED };
	struct sched_decision d;
	struct sched_gpu *gpu;
	uint64_t now_ns = 0;
	unsigned v[2], other;
	struct error e;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		vgpu.identity = i + 1;
		assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v[i], NULL), 0);
	}
	assert_int_equal(sched_submit(gpu, 0, v[0], SCHED_ENGINE_GRAPHICS, 1), 0);
	d = sched_pick(gpu, 0, SCHED_ENGINE_GRAPHICS);
	assert_int_equal(sched_submit(gpu, 0, v[1], SCHED_ENGINE_GRAPHICS, 1000), 0);
	now_ns = 100 * MS;
	assert_int_equal(sched_complete(gpu, now_ns, d.grant, now_ns, NULL), 0);
	assert_int_equal(sched_vgpu_leave(gpu, now_ns, v[0], NULL), 0);
	vgpu.identity = 3;
	/* The other has to have its 100 ms, and to be served once more. */
	for (unsigned i = 0; i <= 100; i++) {
		assert_int_equal(sched_vgpu_join(gpu, now_ns, &vgpu, NULL, &other, &e), -ENOSPC);
		d = sched_pick(gpu, now_ns, SCHED_ENGINE_GRAPHICS);
		assert_true(d.granted && d.vgpu == v[1]);
		if (i == 100)
			break;
		now_ns += MS;
		assert_int_equal(sched_complete(gpu, now_ns, d.grant, MS, NULL), 0);
	}
	assert_int_equal(sched_vgpu_join(gpu, now_ns, &vgpu, NULL, &other, &e), 0);
	assert_int_equal(other, v[0]);
	sched_gpu_destroy(gpu);
}

static void an_account_carries_debt_to_another_scheduler(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2 };
	const struct sched_account debt = { .identity = 1, .engines = { { .debt_ns = 50 * MS } } };
	struct world *w = open_world(2, 1);
	const struct sched_vgpu_config equal = { .identity = 1, .policy = SCHED_EQUAL_SHARE };
	struct sched_account read;
	unsigned v;

	assert_int_equal(config.vgpus_max, 2);
	assert_int_equal(sched_vgpu_join(w->gpu, 0, &equal, &debt, &v, NULL), 0);
	assert_int_equal(sched_vgpu_account(w->gpu, 0, v, &read), 0);
	assert_int_equal(read.engines[0].debt_ns, 50 * MS);
	w->vgpus[v] = (struct world_vgpu){ .there = true, .load = honest, .submit_count = 3 };
	unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);

	world_run(w, 52 * MS);
	assert_in_range(w->vgpus[b].used_ns / MS, 50, 52);
	world_run(w, 252 * MS);
	assert_in_range(w->vgpus[b].used_ns / MS, 149, 152);
	world_close(w);
}

/* ---- the rest ---------------------------------------------------------------------------- */

static void many_queues_of_one_vgpu_count_as_one(void **state)
{
	for (unsigned depth = 1; depth <= 8; depth *= 2) {
		struct world *w = open_world(2, depth);
		const struct world_load many = { .length_min_ns = MS, .outstanding = 16 };
		const struct world_load few = { .length_min_ns = MS, .outstanding = depth + 1 };
		unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &many);
		unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &few);

		world_run(w, 10 * NSEC_PER_SEC);
		assert_in_range(w->vgpus[a].used_ns / MS, 4980, 5020);
		assert_in_range(w->vgpus[b].used_ns / MS, 4980, 5020);
		world_close(w);
	}
}

static void weight_changes_take_effect_and_change_no_debt(void **state)
{
	struct world *w = open_world(2, 2);
	struct sched_vgpu_config changed = { .identity = 1,
					     .policy = SCHED_WEIGHTED,
					     .weight = 900 };
	unsigned a = world_add(w, 1, SCHED_WEIGHTED, 100, &honest);
	unsigned b = world_add(w, 2, SCHED_WEIGHTED, 100, &honest);
	struct sched_vgpu_stats before, after;

	world_run(w, 10 * NSEC_PER_SEC);
	assert_in_range(w->vgpus[a].used_ns / MS, 4995, 5005);
	const uint64_t a_ns = w->vgpus[a].used_ns, b_ns = w->vgpus[b].used_ns;

	assert_int_equal(sched_vgpu_change(w->gpu, w->now_ns, a, &changed, NULL), 0);
	world_run(w, 20 * NSEC_PER_SEC);
	assert_in_range((w->vgpus[a].used_ns - a_ns) / MS, 8990, 9010);
	assert_in_range((w->vgpus[b].used_ns - b_ns) / MS, 990, 1010);
	world_close(w);

	/* Debt stays what it is through any number of changes, at any weights and policies. */
	w = open_world(2, 1);
	const struct world_load huge = { .length_min_ns = 777777777, .outstanding = 1 };

	changed.weight = 1;
	a = world_join(w, &changed, &huge);
	b = world_add(w, 2, SCHED_WEIGHTED, 100, &honest);
	world_run(w, 800 * MS);
	w->vgpus[b].load.end_ns = 1; /* nobody runs: nothing pays */
	assert_int_equal(sched_vgpu_stats(w->gpu, w->now_ns, a, SCHED_ENGINE_GRAPHICS, &before), 0);
	assert_true(before.debt_ns > 700 * MS);
	for (unsigned i = 0; i < 1000; i++) {
		changed.weight = 1 + random_next(&w->random) % SCHED_WEIGHT_MAX;
		changed.policy = (enum sched_policy)(random_next(&w->random) % SCHED_POLICIES);
		changed.share_ppm = 1 + random_next(&w->random) % SCHED_PPM;
		assert_int_equal(sched_vgpu_change(w->gpu, w->now_ns, a, &changed, NULL), 0);
		assert_int_equal(
			sched_vgpu_stats(w->gpu, w->now_ns, a, SCHED_ENGINE_GRAPHICS, &after), 0);
		assert_int_equal(after.debt_ns, before.debt_ns);
	}
	world_close(w);
}

/* A weight raised beyond measure makes no one wait for the debt of a small weight, nor forgets it. */
static void a_raised_weight_waits_for_its_debt_in_time_not_in_turns(void **state)
{
	struct world *w = open_world(2, 1);
	const struct world_load huge = { .length_min_ns = 100 * MS, .outstanding = 2 };
	struct sched_vgpu_config changed = { .identity = 1,
					     .policy = SCHED_WEIGHTED,
					     .weight = SCHED_WEIGHT_MAX };
	unsigned a = world_add(w, 1, SCHED_WEIGHTED, 1, &huge);

	world_add(w, 2, SCHED_WEIGHTED, SCHED_WEIGHT_MAX, &honest);
	world_run(w, 150 * MS);
	assert_int_equal(w->vgpus[a].used_ns / MS, 100);
	/* At weight 1 it would wait for a million times 100 ms. */
	assert_int_equal(sched_vgpu_change(w->gpu, w->now_ns, a, &changed, NULL), 0);
	w->vgpus[a].load.length_min_ns = MS;
	world_run(w, 150 * MS + 3 * NSEC_PER_SEC);
	assert_in_range(w->vgpus[a].used_ns / MS, 1500, 1650);
	world_close(w);
}

static void weights_that_flap_gain_nothing_over_their_mean(void **state)
{
	struct world *w = open_world(2, 1);
	struct sched_vgpu_config flapping = { .identity = 1, .policy = SCHED_WEIGHTED };
	unsigned a = world_add(w, 1, SCHED_WEIGHTED, 50, &honest);
	unsigned b = world_add(w, 2, SCHED_WEIGHTED, 100, &honest);

	for (unsigned i = 0; i < 2000; i++) {
		flapping.weight = i % 2 ? 50 : 200;
		assert_int_equal(sched_vgpu_change(w->gpu, w->now_ns, a, &flapping, NULL), 0);
		world_run(w, (i + 1) * 5 * MS);
	}
	/* Between 1/3 and 2/3, as often each: a half. */
	assert_in_range(w->vgpus[a].used_ns / MS, 4600, 5400);
	assert_in_range(w->vgpus[b].used_ns / MS, 4600, 5400);
	world_close(w);
}

static void counters_wrap_and_run_backwards(void **state)
{
	assert_int_equal(sched_ticks(10, 25, 64), 15);
	assert_int_equal(sched_ticks(UINT64_MAX - 4, 10, 64), 15);
	assert_int_equal(sched_ticks((UINT64_C(1) << 36) - 5, 10, 36), 15);
	assert_int_equal(sched_ticks(0xfffffffb, 10, 32), 15);
	/* Bits beyond the valid ones are undefined (Vulkan: vkGetQueryPoolResults): no matter. */
	assert_int_equal(
		sched_ticks(UINT64_C(0xabc0000000fffffb), UINT64_C(0x123000000100000a), 24), 15);
	assert_int_equal(sched_ticks(1, 0, 1), 1);
	/* Backwards by one reads as nearly a turn. */
	assert_int_equal(sched_ticks(100, 99, 36), (UINT64_C(1) << 36) - 1);
}

static void absurd_time_is_not_believed(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 1 };
	const struct sched_vgpu_config vgpu = { .identity = 1, .policy = SCHED_WEIGHTED };
	static const uint64_t told[] = { UINT64_C(1) << 36, UINT64_MAX - 1, INT64_MAX,
					 10 * MS + 1 };
	struct sched_vgpu_stats stats;
	struct sched_charge charge;
	struct sched_gpu *gpu;
	uint64_t now_ns = 5;
	unsigned v;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v, NULL), 0);
	assert_int_equal(sched_submit(gpu, 0, v, SCHED_ENGINE_GRAPHICS, 100), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(told); i++) {
		struct sched_decision d = sched_pick(gpu, now_ns, SCHED_ENGINE_GRAPHICS);
		uint64_t disputed_ns;

		assert_true(d.granted);
		assert_int_equal(sched_vgpu_stats(gpu, now_ns, v, SCHED_ENGINE_GRAPHICS, &stats),
				 0);
		disputed_ns = stats.disputed_ns;
		now_ns += 10 * MS;
		assert_int_equal(sched_complete(gpu, now_ns, d.grant, told[i], &charge), 0);
		assert_int_equal(charge.used_ns, 10 * MS);
		assert_int_equal(sched_vgpu_stats(gpu, now_ns, v, SCHED_ENGINE_GRAPHICS, &stats),
				 0);
		/* A sum that would not fit stays at its end. */
		assert_int_equal(stats.disputed_ns - disputed_ns,
				 MIN(told[i] - 10 * MS, UINT64_MAX - disputed_ns));
		assert_int_equal(stats.used_ns, (i + 1) * 10 * MS);
	}
	/* A clock that runs backwards stands still: nothing is earned or charged twice. */
	struct sched_decision d = sched_pick(gpu, now_ns, SCHED_ENGINE_GRAPHICS);

	assert_int_equal(sched_complete(gpu, now_ns - 7 * MS, d.grant, 3 * MS, &charge), 0);
	assert_int_equal(charge.used_ns, 0);
	assert_int_equal(charge.granted_ns, now_ns);
	sched_gpu_destroy(gpu);
}

/* One that tells ten times what it used harms itself, and at most by the time that passed. */
static void a_lie_about_time_used_harms_only_the_liar(void **state)
{
	struct world *w = open_world(2, 1);
	struct world_load liar = honest;

	liar.lie_ns = 9 * MS;
	unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &liar);
	unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);

	world_run(w, NSEC_PER_SEC);
	assert_in_range(w->vgpus[a].used_ns / MS, 495, 505);
	assert_in_range(w->vgpus[b].used_ns / MS, 495, 505);
	world_close(w);
}

/* Jobs of five periods at a tenth: debt goes on from period to period. */
static void an_overrun_longer_than_the_period_is_carried(void **state)
{
	struct world *w = open_world(2, 1);
	const struct world_load huge = { .length_min_ns = 500 * MS, .outstanding = 2 };
	unsigned a = world_add(w, 1, SCHED_FIXED_SHARE, 100000, &huge);
	unsigned b = world_add(w, 2, SCHED_BEST_EFFORT, 0, &honest);

	world_run(w, 100 * NSEC_PER_SEC);
	/* Its tenth, neither more nor less, within a job. */
	assert_in_range(w->vgpus[a].used_ns / MS, 10000, 10500);
	assert_in_range(w->vgpus[b].used_ns / MS, 89400, 90100);
	world_close(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_huge_submission_is_paid_for),
		cmocka_unit_test(submissions_longer_than_hold_max_are_paid_for),
		cmocka_unit_test(a_flood_of_empty_submissions_gains_nothing),
		cmocka_unit_test(a_flood_of_empty_submissions_spends_its_share),
		cmocka_unit_test(sleeping_sheds_no_debt),
		cmocka_unit_test(sleeping_saves_nothing_up),
		cmocka_unit_test(squatting_on_a_grant_is_paid_for),
		cmocka_unit_test(squatting_spends_a_fixed_share),
		cmocka_unit_test(squatting_for_ever_loses_the_place),
		cmocka_unit_test(leaving_and_joining_again_gains_nothing),
		cmocka_unit_test(a_debtor_that_left_keeps_its_place_until_it_has_paid),
		cmocka_unit_test(a_weighted_debtor_that_left_keeps_its_place_too),
		cmocka_unit_test(an_account_carries_debt_to_another_scheduler),
		cmocka_unit_test(many_queues_of_one_vgpu_count_as_one),
		cmocka_unit_test(weight_changes_take_effect_and_change_no_debt),
		cmocka_unit_test(a_raised_weight_waits_for_its_debt_in_time_not_in_turns),
		cmocka_unit_test(weights_that_flap_gain_nothing_over_their_mean),
		cmocka_unit_test(counters_wrap_and_run_backwards),
		cmocka_unit_test(absurd_time_is_not_believed),
		cmocka_unit_test(a_lie_about_time_used_harms_only_the_liar),
		cmocka_unit_test(an_overrun_longer_than_the_period_is_carried),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
