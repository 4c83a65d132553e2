// SPDX-License-Identifier: Apache-2.0
/*
 * Work that ran without a grant (sched_charge_forced()): it is paid as a grant's is, to the nanosecond, nothing is gained by it, and what is
 * told of it harms nobody else. SCHED_LONG=N runs N times as many random worlds.
 */
#include "tests/unit/sched_world.h"

#define GRAPHICS SCHED_ENGINE_GRAPHICS

static const struct world_load honest = { .length_min_ns = MS, .outstanding = 3 };

/* A vGPU that, besides what its load does, has work run without a grant: the engine is not lent to it, it only pays. */
struct forcer {
	unsigned vgpu;
	uint64_t every_ns, length_ns, next_ns, forced_ns;
};

static void force(struct world *w, void *arg)
{
	struct forcer *f = arg;

	while (f->next_ns <= w->now_ns) {
		struct sched_charge charge;

		assert_int_equal(sched_charge_forced(w->gpu, w->now_ns, f->vgpu, GRAPHICS,
						     f->length_ns, &charge),
				 0);
		assert_int_equal(charge.used_ns, f->length_ns);
		f->forced_ns += f->length_ns;
		f->next_ns += f->every_ns;
	}
}

/* A vGPU's forced work and its grants together are what its grants alone would have been. */
static void forced_work_counts_towards_a_weight(void **state)
{
	for (unsigned depth = 1; depth <= 4; depth++) {
		const struct sched_gpu_config config = { .vgpus_max = 3, .depth = depth };
		struct world *w = world_open(&config, depth);
		struct forcer f = { .every_ns = 100 * MS,
				    .length_ns = 30 * MS,
				    .next_ns = MS * 50 };
		unsigned b, c;

		f.vgpu = world_add(w, 1, SCHED_WEIGHTED, 200, &honest);
		b = world_add(w, 2, SCHED_WEIGHTED, 100, &honest);
		c = world_add(w, 3, SCHED_WEIGHTED, 100, &honest);
		w->hook = force;
		w->hook_arg = &f;
		world_run(w, 20 * NSEC_PER_SEC);
		/* 20 s of the engine and 6 s besides: a half, a quarter, a quarter of both. */
		assert_in_range((w->vgpus[f.vgpu].used_ns + f.forced_ns) / MS, 12900, 13100);
		assert_in_range(w->vgpus[b].used_ns / MS, 6450, 6550);
		assert_in_range(w->vgpus[c].used_ns / MS, 6450, 6550);
		world_close(w);
	}
}

/* Nearly as much as there is: of grants it gets what is left of its part, if anything is. */
static void forced_work_up_to_the_part_leaves_that_much_less(void **state)
{
	static const enum sched_policy policies[] = { SCHED_EQUAL_SHARE, SCHED_FIXED_SHARE,
						      SCHED_BURST };

	for (unsigned i = 0; i < ARRAY_SIZE(policies); i++) {
		const struct sched_gpu_config config = { .vgpus_max = 2 };
		struct world *w = world_open(&config, i);
		struct forcer f = { .every_ns = 10 * MS, .length_ns = 9 * MS, .next_ns = 10 * MS };
		unsigned b;

		f.vgpu = world_add(w, 1, policies[i], 250000, &honest);
		b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);
		w->hook = force;
		w->hook_arg = &f;
		world_run(w, 20 * NSEC_PER_SEC);
		/* Half of 38 s, of which it has had 18; or only what it had before the debt was there. */
		const uint64_t left_ms = policies[i] == SCHED_EQUAL_SHARE ? 1000 : 0;

		assert_true(w->vgpus[f.vgpu].used_ns / MS <= left_ms + 30);
		assert_true(w->vgpus[b].used_ns / MS >= 20000 - left_ms - 50);
		world_close(w);
	}
}

/*
 * The same service, once under a grant and once forced at the grant's end, comes to the same account; while something of it waits, is throttled or
 * has a grant out, too.
 */
static void forced_work_costs_what_a_grant_costs_to_the_nanosecond(void **state)
{
	const char *times = getenv("SCHED_LONG");
	const unsigned worlds = 2000 * (times ? (unsigned)MAX(1, atoi(times)) : 1);

	for (unsigned seed = 0; seed < worlds; seed++) {
		struct world_random r = { .state = seed };
		const struct sched_gpu_config config = { .vgpus_max = 1, .depth = 2 };
		const struct sched_vgpu_config vgpu = {
			.identity = 1,
			.policy = (enum sched_policy)(seed % SCHED_POLICIES),
			.weight = (uint32_t)random_in(&r, 1, 1000),
			.share_ppm = (uint32_t)random_in(&r, 1, 500000),
			.elastic_ppm = (uint32_t)(random_in(&r, 0, 1) * random_in(&r, 1, 500000)),
			.credit_max_ns = random_in(&r, 0, 300) * MS,
			.surplus_max_ns = random_in(&r, 0, 1) * random_in(&r, 0, 300) * MS,
		};
		struct sched_account before, after, other;
		struct sched_decision d;
		struct sched_gpu *gpu;
		struct sched_charge charge;
		uint64_t now_ns = random_in(&r, 1, 1000 * MS), used_ns;
		unsigned v;

		assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
		assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v, NULL), 0);
		assert_int_equal(sched_submit(gpu, now_ns, v, GRAPHICS, random_in(&r, 1, 4)), 0);
		d = sched_pick(gpu, now_ns, GRAPHICS);
		if (random_in(&r, 0, 1) && d.granted) {
			now_ns += random_in(&r, 0, 200 * MS);
			assert_int_equal(sched_complete(gpu, now_ns, d.grant, now_ns, NULL), 0);
		}
		used_ns = random_in(&r, 20 * US, now_ns);
		assert_int_equal(sched_vgpu_account(gpu, now_ns, v, &before), 0);
		assert_int_equal(sched_charge_forced(gpu, now_ns, v, GRAPHICS, used_ns, &charge),
				 0);
		assert_int_equal(charge.used_ns + charge.surcharge_ns, MAX(used_ns, 20 * US));
		used_ns = charge.used_ns + charge.surcharge_ns;
		assert_int_equal(sched_vgpu_account(gpu, now_ns, v, &after), 0);
		assert_int_equal(after.engines[0].debt_ns - before.engines[0].debt_ns, used_ns);
		/* Only policies with a bucket have one to take it out of. */
		if (vgpu.policy == SCHED_FIXED_SHARE || vgpu.policy == SCHED_BURST)
			assert_int_equal(before.engines[0].credit_ns - after.engines[0].credit_ns,
					 (int64_t)used_ns);
		assert_true(after.engines[0].guaranteed_ns == before.engines[0].guaranteed_ns ||
			    before.engines[0].guaranteed_ns - after.engines[0].guaranteed_ns ==
				    (int64_t)used_ns);
		/* It is the other engines' affair as little as a grant is. */
		assert_int_equal(sched_vgpu_account(gpu, now_ns, v, &other), 0);
		assert_int_equal(other.engines[1].debt_ns, 0);
		sched_gpu_destroy(gpu);
	}
}

/*
 * One that sleeps, or sits on a grant that it does not end, is behind the turn by all that others had meanwhile. That pays no forced
 * work: it would be free.
 */
static void no_sleep_and_no_squatting_pays_for_forced_work(void **state)
{
	for (unsigned squats = 0; squats < 2; squats++) {
		const struct sched_gpu_config config = { .vgpus_max = 2, .depth = 2 };
		struct world *w = world_open(&config, 1);
		const struct world_load squatter = { .length_min_ns = 1,
						     .stall_ns = 9 * NSEC_PER_SEC,
						     .outstanding = 1 };
		const struct world_load late = { .length_min_ns = MS,
						 .outstanding = 3,
						 .begin_ns = 9 * NSEC_PER_SEC };
		unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, squats ? &squatter : &late);
		unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);
		uint64_t b_ns;

		world_run(w, 8 * NSEC_PER_SEC);
		assert_int_equal(
			sched_charge_forced(w->gpu, w->now_ns, a, GRAPHICS, 4 * NSEC_PER_SEC, NULL),
			0);
		b_ns = w->vgpus[b].used_ns;
		w->vgpus[a].load = late;
		for (unsigned i = 0; i < 3; i++)
			w->vgpus[a].submit_at[w->vgpus[a].submit_count++] = 8 * NSEC_PER_SEC;
		w->vgpus[a].load.begin_ns = 0;
		world_run(w, 12 * NSEC_PER_SEC - 10 * MS);
		/* Four seconds to the other, within the jobs that were under way. */
		assert_true(w->vgpus[b].used_ns - b_ns > 3900 * MS);
		world_run(w, 20 * NSEC_PER_SEC);
		assert_in_range((w->vgpus[b].used_ns - b_ns) / MS, 7700, 8300);
		world_close(w);
	}
}

/* Its share and its neighbours' stay what they are, whatever is claimed; and the claim is bounded by the time it was there. */
static void a_lie_about_forced_work_harms_only_the_liar(void **state)
{
	static const uint64_t lies[] = { 0, 1, UINT64_MAX, UINT64_MAX - 1, INT64_MAX };

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		const struct sched_gpu_config config = { .vgpus_max = 3 };
		struct world *w = world_open(&config, i);
		unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &honest);
		unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);
		struct sched_vgpu_stats stats, neighbour;

		for (uint64_t at = MS; at <= 2000 * MS; at += MS) {
			struct sched_charge charge;

			world_run(w, at);
			for (unsigned k = 0; k < 10; k++)
				assert_int_equal(sched_charge_forced(w->gpu, w->now_ns, a, GRAPHICS,
								     lies[i], &charge),
						 0);
		}
		assert_int_equal(sched_vgpu_stats(w->gpu, w->now_ns, a, GRAPHICS, &stats), 0);
		assert_int_equal(sched_vgpu_stats(w->gpu, w->now_ns, b, GRAPHICS, &neighbour), 0);
		assert_true(stats.forced_ns <= w->now_ns);
		if (lies[i] > MS) {
			assert_int_equal(stats.forced_ns, w->now_ns);
			assert_int_equal(stats.disputed_ns, UINT64_MAX);
		}
		assert_int_equal(neighbour.forced_ns, 0);
		assert_int_equal(neighbour.disputed_ns, 0);
		assert_int_equal(neighbour.used_ns, w->vgpus[b].used_ns);
		/* Never less than its half; the liar pays for each call at least what a hand-over costs. */
		assert_true(w->vgpus[b].used_ns > 990 * MS);
		assert_true(w->vgpus[a].used_ns < 910 * MS);
		world_close(w);
	}
}

/* Nobody's grant becomes due later or earlier, and no squatter looks as if it had waited. */
static void forced_work_hides_no_squatting(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2 };
	struct world *w = world_open(&config, 1);
	const struct world_load squatter = { .length_min_ns = 1,
					     .stall_ns = 200 * MS,
					     .outstanding = 4 };
	struct forcer f = { .every_ns = MS, .next_ns = MS };
	unsigned b;

	f.vgpu = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &squatter);
	b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &honest);
	w->hook = force;
	w->hook_arg = &f;
	world_run(w, 40 * NSEC_PER_SEC);
	assert_true(w->vgpus[b].used_ns / MS >= 19700);
	world_close(w);
}

static void forced_work_is_counted_by_every_model(void **state)
{
	for (unsigned m = 0; m < SCHED_MODELS; m++) {
		const struct sched_gpu_config config = { .model = (enum sched_model)m,
							 .vgpus_max = 2 };
		const struct sched_vgpu_config vgpu = { .identity = 1, .policy = SCHED_WEIGHTED };
		struct sched_vgpu_stats stats;
		struct sched_gpu *gpu;
		unsigned v;

		assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
		assert_int_equal(sched_vgpu_join(gpu, 5 * MS, &vgpu, NULL, &v, NULL), 0);
		assert_int_equal(sched_charge_forced(gpu, 8 * MS, v, GRAPHICS, 2 * MS, NULL), 0);
		assert_int_equal(sched_charge_forced(gpu, 8 * MS, v, GRAPHICS, 2 * MS, NULL), 0);
		assert_int_equal(sched_vgpu_stats(gpu, 8 * MS, v, GRAPHICS, &stats), 0);
		/* 3 ms it was there. */
		assert_int_equal(stats.forced_ns, 3 * MS);
		assert_int_equal(stats.used_ns, 3 * MS);
		assert_int_equal(stats.overrun_ns, 3 * MS);
		assert_int_equal(stats.disputed_ns, MS);
		assert_int_equal(stats.grants, 0);
		/* Leaving and coming back makes no room for a second claim. */
		assert_int_equal(sched_vgpu_leave(gpu, 8 * MS, v, NULL), 0);
		assert_int_equal(sched_vgpu_join(gpu, 8 * MS, &vgpu, NULL, &v, NULL), 0);
		assert_int_equal(sched_charge_forced(gpu, 9 * MS, v, GRAPHICS, 2 * MS, NULL), 0);
		assert_int_equal(sched_vgpu_stats(gpu, 9 * MS, v, GRAPHICS, &stats), 0);
		assert_int_equal(stats.forced_ns, 4 * MS);
		sched_gpu_destroy(gpu);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forced_work_counts_towards_a_weight),
		cmocka_unit_test(forced_work_up_to_the_part_leaves_that_much_less),
		cmocka_unit_test(forced_work_costs_what_a_grant_costs_to_the_nanosecond),
		cmocka_unit_test(no_sleep_and_no_squatting_pays_for_forced_work),
		cmocka_unit_test(a_lie_about_forced_work_harms_only_the_liar),
		cmocka_unit_test(forced_work_hides_no_squatting),
		cmocka_unit_test(forced_work_is_counted_by_every_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
