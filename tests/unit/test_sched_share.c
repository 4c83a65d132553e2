// SPDX-License-Identifier: Apache-2.0
/*
 * Shares and credits: never above what was promised in any interval, what was promised is there
 * beside any neighbour, classes in their order, balances exact and kept. SCHED_LONG=N runs N times as
 * many random worlds.
 */
#include "tests/unit/sched_world.h"

#include <stdio.h>

__extension__ typedef __int128 wide;

#define WORLDS 150
#define EVENTS 5000

static unsigned worlds(void)
{
	const char *times = getenv("SCHED_LONG");

	return WORLDS * (times ? (unsigned)MAX(1, atoi(times)) : 1);
}

static const struct world_load busy = { .length_min_ns = MS, .outstanding = 4 };

/*
 * Over every interval [t, t + d]: the time that the vGPU really ran on the engine is at most
 * @depth_ns + @ppm * d + D*L. Exact, in 10^-6 ns.
 */
static void check_envelope(const struct world *w, unsigned vgpu, uint64_t ppm, uint64_t depth_ns,
			   uint64_t seed)
{
	const unsigned depth = sched_gpu_config(w->gpu)->depth;
	const wide bound =
		(wide)depth_ns * SCHED_PPM + (wide)depth * w->vgpus[vgpu].longest_ns * SCHED_PPM;
	wide used = 0, low = 0;

	/* used - ppm * t is lowest where a job begins and highest where one ends. */
	for (size_t k = 0; k < w->events_count; k++) {
		const struct world_event *event = &w->events[k];

		if (event->vgpu != vgpu || event->kind != WORLD_CHARGED)
			continue;
		low = MIN(low, used - (wide)event->begin_ns * ppm);
		used += (wide)event->ns * SCHED_PPM;
		const wide rise = used - (wide)event->at_ns * ppm - low;

		if (rise > bound)
			fail_msg("seed %llu: vGPU %u at %llu ns: %.4f of its envelope",
				 (unsigned long long)seed, vgpu, (unsigned long long)event->at_ns,
				 (double)rise / (double)bound);
	}
}

/* A world of limited vGPUs among others; those of @policy are first, with @elastic or surplus. */
static struct world *limited_world(uint64_t seed, enum sched_policy policy, uint64_t linger_ns,
				   struct sched_vgpu_config configs[8], unsigned *count)
{
	struct world_random r = { .state = seed };
	const struct sched_gpu_config config = { .vgpus_max = 8,
						 .depth = (unsigned)random_in(&r, 1, 4),
						 .period_ns = random_in(&r, 1, 200) * MS,
						 .hold_max_ns = 3600 * NSEC_PER_SEC,
						 .linger_ns = linger_ns };
	struct world *w = world_open(&config, seed);

	w->events_max = EVENTS;
	w->parallel = random_in(&r, 0, 4) == 0;
	*count = (unsigned)random_in(&r, 1, 4);
	for (unsigned i = 0; i < 8; i++) {
		const uint64_t length_ns =
			random_in(&r, 20 * US, random_in(&r, 0, 3) ? MS : 300 * MS);
		const struct world_load load = { .length_min_ns = length_ns,
						 .length_max_ns = length_ns * random_in(&r, 1, 4),
						 .think_min_ns = random_in(&r, 0, 1) * MS,
						 .think_max_ns = random_in(&r, 1, 20) * MS,
						 .outstanding = (unsigned)random_in(&r, 1, 8),
						 .awake_ns = random_in(&r, 1, 1000) * MS,
						 .asleep_ns = random_in(&r, 0, 1) * 500 * MS };

		configs[i] = (struct sched_vgpu_config){
			.identity = i + 1,
			.policy = i < *count ? policy : (enum sched_policy)random_in(&r, 0, 3),
			.weight = (uint32_t)random_in(&r, 1, 1000),
			.share_ppm = (uint32_t)random_in(&r, 1000, SCHED_PPM / 8),
			.credit_max_ns = random_in(&r, 0, 2000) * MS,
		};
		if (i < *count && random_in(&r, 0, 1)) {
			configs[i].elastic_ppm = (uint32_t)random_in(&r, 1, SCHED_PPM / 4);
			configs[i].surplus_max_ns = random_in(&r, 0, 1000) * MS;
		}
		world_join(w, &configs[i], &load);
	}
	return w;
}

static void fixed_share_is_never_exceeded_in_any_interval(void **state)
{
	for (unsigned seed = 1; seed <= worlds(); seed++) {
		struct sched_vgpu_config configs[8];
		unsigned count;
		struct world *w =
			limited_world(seed, SCHED_FIXED_SHARE, seed % 2 * MS, configs, &count);

		world_run(w, 100 * NSEC_PER_SEC);
		for (unsigned i = 0; i < count; i++) {
			const uint64_t ppm = configs[i].share_ppm + configs[i].elastic_ppm;
			const uint64_t period_ns = sched_gpu_config(w->gpu)->period_ns;

			check_envelope(w, i, ppm, (ppm * period_ns + SCHED_PPM - 1) / SCHED_PPM,
				       seed);
		}
		world_close(w);
	}
}

/* Never less than a period's earnings; here rounded up. */
static uint64_t credit_max(const struct world *w, const struct sched_vgpu_config *config)
{
	const uint64_t period_ns = sched_gpu_config(w->gpu)->period_ns;

	return MAX(config->credit_max_ns,
		   (period_ns * config->share_ppm + SCHED_PPM - 1) / SCHED_PPM);
}

static void burst_stays_within_its_credit_envelope_in_any_interval(void **state)
{
	for (unsigned seed = 1; seed <= worlds(); seed++) {
		struct sched_vgpu_config configs[8];
		unsigned count;
		struct world *w = limited_world(seed, SCHED_BURST, seed % 2 * MS, configs, &count);

		world_run(w, 100 * NSEC_PER_SEC);
		for (unsigned i = 0; i < count; i++)
			check_envelope(w, i, configs[i].share_ppm,
				       credit_max(w, &configs[i]) + configs[i].surplus_max_ns,
				       seed);
		world_close(w);
	}
}

static void fixed_share_is_there_beside_any_neighbour_and_unused_alone(void **state)
{
	for (unsigned alone = 0; alone < 2; alone++) {
		const struct sched_gpu_config config = { .vgpus_max = 8, .depth = 2 };
		struct world *w = world_open(&config, 1);
		unsigned quarter = world_add(w, 1, SCHED_FIXED_SHARE, 250000, &busy);
		const struct world_load hog = { .length_min_ns = 10 * MS, .outstanding = 8 };

		for (unsigned i = 0; i < 5 && !alone; i++)
			world_add(w, 2 + i, i % 2 ? SCHED_WEIGHTED : SCHED_BEST_EFFORT,
				  SCHED_WEIGHT_MAX, &hog);
		world_run(w, 20 * NSEC_PER_SEC);
		assert_true(world_share(w, quarter, w->now_ns) > 0.2495 &&
			    world_share(w, quarter, w->now_ns) < 0.2505 + 0.0025);
		if (alone) /* the rest of the engine stays unused */
			assert_true(w->busy_ns < 5051 * MS);
		else
			assert_int_equal(w->lost_ns, 0);
		world_close(w);
	}
}

static void what_is_left_unused_is_saved_up_for_one_period_only(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 1, .period_ns = 200 * MS };
	struct world *w = world_open(&config, 1);
	struct world_load later = busy;

	later.begin_ns = 60 * NSEC_PER_SEC;
	unsigned v = world_add(w, 1, SCHED_FIXED_SHARE, 100000, &later);

	world_run(w, later.begin_ns + 100 * MS);
	/* 10 % of the period saved, 10 % of the 100 ms, one job's overrun. */
	assert_in_range(w->vgpus[v].used_ns / MS, 20 + 10, 20 + 10 + 1);
	world_close(w);
}

static void elastic_time_is_taken_only_while_no_shared_work_waits(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 8 };
	const struct sched_vgpu_config elastic = { .identity = 1,
						   .policy = SCHED_FIXED_SHARE,
						   .share_ppm = 200000,
						   .elastic_ppm = 300000 };
	struct world *w = world_open(&config, 1);
	unsigned v = world_join(w, &elastic, &busy);

	/* Alone: share and elastic time. */
	world_run(w, 10 * NSEC_PER_SEC);
	assert_in_range(w->vgpus[v].used_ns / MS, 4980, 5060);
	/* Best effort comes after elastic time: nothing changes. */
	unsigned best = world_add(w, 2, SCHED_BEST_EFFORT, 0, &busy);
	const uint64_t first_ns = w->vgpus[v].used_ns;

	world_run(w, 20 * NSEC_PER_SEC);
	assert_in_range((w->vgpus[v].used_ns - first_ns) / MS, 4980, 5060);
	assert_in_range(w->vgpus[best].used_ns / MS, 4900, 5020);
	/* Shared work takes all but the share. */
	unsigned shared = world_add(w, 3, SCHED_EQUAL_SHARE, 0, &busy);
	const uint64_t second_ns = w->vgpus[v].used_ns, best_ns = w->vgpus[best].used_ns;

	world_run(w, 30 * NSEC_PER_SEC);
	assert_in_range((w->vgpus[v].used_ns - second_ns) / MS, 1980, 2060);
	assert_in_range(w->vgpus[shared].used_ns / MS, 7900, 8020);
	assert_true(w->vgpus[best].used_ns - best_ns < 20 * MS);
	world_close(w);
}

static void classes_go_in_their_order(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 8 };
	struct world *w = world_open(&config, 1);
	const struct sched_vgpu_config burst = { .identity = 3,
						 .policy = SCHED_BURST,
						 .share_ppm = 100000,
						 .weight = 100,
						 .credit_max_ns = 0 };
	unsigned fixed = world_add(w, 1, SCHED_FIXED_SHARE, 300000, &busy);
	unsigned best = world_add(w, 2, SCHED_BEST_EFFORT, 0, &busy);
	unsigned base = world_join(w, &burst, &busy);
	unsigned heavy = world_add(w, 4, SCHED_WEIGHTED, 200, &busy);
	unsigned equal = world_add(w, 5, SCHED_EQUAL_SHARE, 0, &busy);

	world_run(w, 10 * NSEC_PER_SEC);
	assert_in_range(w->vgpus[fixed].used_ns / MS, 2990, 3040);
	assert_in_range(w->vgpus[base].used_ns / MS, 990, 1010);
	assert_in_range(w->vgpus[heavy].used_ns / MS, 3950, 4020);
	assert_in_range(w->vgpus[equal].used_ns / MS, 1970, 2010);
	assert_int_equal(w->vgpus[best].used_ns, 0);
	assert_int_equal(w->lost_ns, 0);
	world_close(w);
}

/* A job every 10 ms leaves gaps; best effort stays out of those shorter than the idle gap. */
static void best_effort_waits_for_an_idle_gap(void **state)
{
	uint64_t used_ns[2], waited_ns[2];

	for (unsigned i = 0; i < 2; i++) {
		const struct sched_gpu_config config = { .vgpus_max = 2,
							 .idle_gap_ns = i ? 3 * MS : 0 };
		const struct world_load frames = { .length_min_ns = MS,
						   .think_min_ns = 2 * MS,
						   .outstanding = 1,
						   .awake_ns = 500 * MS,
						   .asleep_ns = 500 * MS };
		const struct world_load long_jobs = { .length_min_ns = 20 * MS, .outstanding = 2 };
		struct world *w = world_open(&config, 1);
		unsigned light = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &frames);
		unsigned best = world_add(w, 2, SCHED_BEST_EFFORT, 0, &long_jobs);

		world_run(w, 10 * NSEC_PER_SEC);
		used_ns[i] = w->vgpus[best].used_ns;
		waited_ns[i] = 0;
		/* Not counted: the first of each half second, which may meet best effort at work. */
		for (size_t k = 0; k < w->events_count; k++)
			if (w->events[k].vgpu == light && w->events[k].kind == WORLD_GRANTED &&
			    w->events[k].at_ns % NSEC_PER_SEC > 30 * MS)
				waited_ns[i] = MAX(waited_ns[i], w->events[k].ns);
		world_close(w);
	}
	assert_true(waited_ns[0] >= 18 * MS);
	assert_int_equal(waited_ns[1], 0);
	assert_true(used_ns[1] > 4000 * MS && used_ns[1] < used_ns[0]);
}

/* ---- credits ----------------------------------------------------------------------------- */

static int64_t credit(struct world *w, unsigned vgpu)
{
	struct sched_account account;

	assert_int_equal(sched_vgpu_account(w->gpu, w->now_ns, vgpu, &account), 0);
	return account.engines[SCHED_ENGINE_GRAPHICS].credit_ns;
}

static void credits_are_earned_spent_capped_and_throttle_to_the_baseline(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2 };
	const struct sched_vgpu_config burst = { .identity = 1,
						 .policy = SCHED_BURST,
						 .share_ppm = 200000,
						 .credit_max_ns = 2 * NSEC_PER_SEC };
	struct world *w = world_open(&config, 1);
	struct world_load late = busy;

	late.begin_ns = 30 * NSEC_PER_SEC;
	unsigned v = world_join(w, &burst, &late);

	/* Earns a fifth, up to the cap. */
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(credit(w, v), NSEC_PER_SEC);
	world_run(w, 30 * NSEC_PER_SEC);
	assert_int_equal(credit(w, v), 2 * NSEC_PER_SEC);
	/* Whole engine until they are spent: 2 s / (1 - 0.2) = 2.5 s. */
	world_run(w, 32 * NSEC_PER_SEC + 500 * MS);
	assert_in_range(w->vgpus[v].used_ns / MS, 2499, 2501);
	assert_in_range(credit(w, v) + (int64_t)MS, 0, 2 * MS);
	/* Then its baseline, no more. */
	world_run(w, 42 * NSEC_PER_SEC + 500 * MS);
	assert_in_range(w->vgpus[v].used_ns / MS, 2500 + 1999, 2500 + 2002);
	/* Silence earns again. */
	w->vgpus[v].load.end_ns = 1;
	world_run(w, 47 * NSEC_PER_SEC + 500 * MS);
	assert_in_range(credit(w, v) / (int64_t)MS, 995, 1001);
	world_close(w);
}

/* Against a second book, kept from the charges alone: equal to the nanosecond. */
static void the_balance_is_exact(void **state)
{
	for (unsigned seed = 1; seed <= 20; seed++) {
		struct sched_vgpu_config configs[8];
		unsigned count;
		struct world *w = limited_world(seed, SCHED_BURST, 0, configs, &count);
		wide balance = 0;
		uint64_t at_ns = 0;
		const wide cap =
			MAX((wide)configs[0].credit_max_ns * SCHED_PPM,
			    (wide)sched_gpu_config(w->gpu)->period_ns * configs[0].share_ppm);

		world_run(w, 100 * NSEC_PER_SEC);
		for (size_t k = 0; k <= w->events_count; k++) {
			const struct world_event end = { .at_ns = w->now_ns,
							 .kind = WORLD_CHARGED };
			const struct world_event *event =
				k < w->events_count ? &w->events[k] : &end;

			if (event->vgpu != 0 || event->kind != WORLD_CHARGED)
				continue;
			/* Fluid: the cap holds until the service began, which then is taken bit by bit. */
			const wide meanwhile =
				(wide)MIN(event->charged_ns, event->at_ns - event->granted_ns) *
				configs[0].share_ppm;

			balance += (wide)(event->at_ns - at_ns) * configs[0].share_ppm;
			balance = MIN(balance - meanwhile, cap) + meanwhile -
				  (wide)event->charged_ns * SCHED_PPM;
			at_ns = event->at_ns;
		}
		const wide floored =
			(balance - (balance < 0 ? SCHED_PPM - 1 : 0)) / (wide)SCHED_PPM;

		assert_int_equal(credit(w, 0), (int64_t)floored);
		world_close(w);
	}
}

static void surplus_goes_below_nothing_and_is_paid_back_first(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 1 };
	const struct sched_vgpu_config burst = { .identity = 1,
						 .policy = SCHED_BURST,
						 .share_ppm = 100000,
						 .credit_max_ns = NSEC_PER_SEC,
						 .surplus_max_ns = 3 * NSEC_PER_SEC };
	struct world *w = world_open(&config, 1);
	unsigned v = world_join(w, &burst, &busy);

	world_run(w, 10 * NSEC_PER_SEC);
	/* 3 s of surplus at full speed, 10 % earned meanwhile, then 10 %. */
	assert_in_range(w->vgpus[v].used_ns / MS, 3999, 4003);
	assert_in_range(credit(w, v) + 3002 * (int64_t)MS, 0, 3 * MS);
	w->vgpus[v].load.end_ns = 1;
	world_run(w, 30 * NSEC_PER_SEC);
	assert_in_range(credit(w, v) + 1005 * (int64_t)MS, 0, 8 * MS);
	world_close(w);
}

static void credits_survive_a_stop_and_earn_nothing_meanwhile(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2 };
	const struct sched_vgpu_config burst = { .identity = 77,
						 .policy = SCHED_BURST,
						 .share_ppm = 500000,
						 .credit_max_ns = 100 * SCHED_CREDIT_NS };
	struct sched_account account;
	struct sched_gpu *gpu;
	unsigned v;

	/* Two minutes earn a credit at one half. */
	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	assert_int_equal(sched_vgpu_join(gpu, 0, &burst, NULL, &v, NULL), 0);
	assert_int_equal(sched_vgpu_leave(gpu, 2 * SCHED_CREDIT_NS, v, &account), 0);
	assert_int_equal(account.identity, 77);
	assert_int_equal(account.engines[0].credit_ns, SCHED_CREDIT_NS);
	/* Back in the same scheduler a day later; the account is not needed. */
	assert_int_equal(sched_vgpu_join(gpu, 1440 * SCHED_CREDIT_NS, &burst, NULL, &v, NULL), 0);
	assert_int_equal(sched_vgpu_account(gpu, 1440 * SCHED_CREDIT_NS, v, &account), 0);
	assert_int_equal(account.engines[0].credit_ns, SCHED_CREDIT_NS);
	sched_gpu_destroy(gpu);
	/* And in another one, with it. */
	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	assert_int_equal(sched_vgpu_join(gpu, 5, &burst, &account, &v, NULL), 0);
	assert_int_equal(sched_vgpu_account(gpu, 5, v, &account), 0);
	assert_int_equal(account.engines[0].credit_ns, SCHED_CREDIT_NS);
	sched_gpu_destroy(gpu);
}

static void a_larger_cap_gives_back_nothing_that_was_lost(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 1 };
	struct sched_vgpu_config burst = { .identity = 1,
					   .policy = SCHED_BURST,
					   .share_ppm = 500000,
					   .credit_max_ns = NSEC_PER_SEC };
	struct world *w = world_open(&config, 1);
	const struct world_load idle = { 0 };
	unsigned v = world_join(w, &burst, &idle);

	w->now_ns = 10 * NSEC_PER_SEC;
	burst.credit_max_ns = 10 * NSEC_PER_SEC;
	assert_int_equal(sched_vgpu_change(w->gpu, w->now_ns, v, &burst, NULL), 0);
	assert_int_equal(credit(w, v), NSEC_PER_SEC);
	w->now_ns = 12 * NSEC_PER_SEC;
	assert_int_equal(credit(w, v), 2 * NSEC_PER_SEC);
	world_close(w);
}

static void a_burst_shares_the_engine_fairly_while_it_bursts(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 3 };
	const struct sched_vgpu_config burst = { .identity = 1,
						 .policy = SCHED_BURST,
						 .share_ppm = 100000,
						 .weight = 100,
						 .credit_max_ns = 100 * NSEC_PER_SEC };
	struct sched_account rich = { .identity = 1 };
	struct world *w = world_open(&config, 1);
	struct error e;
	unsigned index;

	rich.engines[0].credit_ns = (int64_t)(100 * NSEC_PER_SEC);
	assert_int_equal(sched_vgpu_join(w->gpu, 0, &burst, &rich, &index, &e), 0);
	w->vgpus[index] = (struct world_vgpu){ .there = true, .load = busy, .submit_count = 4 };
	unsigned b = world_add(w, 2, SCHED_WEIGHTED, 200, &busy);

	world_run(w, 10 * NSEC_PER_SEC);
	/* A tenth guaranteed, the rest of the engine at 1 : 2. */
	assert_in_range(w->vgpus[index].used_ns / MS, 3960, 4040);
	assert_in_range(w->vgpus[b].used_ns / MS, 5960, 6040);
	world_close(w);
}

/* ---- admission --------------------------------------------------------------------------- */

static void shares_and_baselines_above_one_are_refused_in_words(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 8 };
	struct sched_vgpu_config vgpu = { .identity = 1,
					  .policy = SCHED_FIXED_SHARE,
					  .share_ppm = 600000 };
	struct sched_gpu *gpu;
	struct error e;
	unsigned a, b, c;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &a, &e), 0);
	vgpu = (struct sched_vgpu_config){ .identity = 2,
					   .policy = SCHED_BURST,
					   .share_ppm = 400001 };
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &b, &e), -ENOSPC);
	assert_string_equal(e.code, "gpu-shares-full");
	assert_non_null(strstr(e.text, "40.0001 %"));
	assert_non_null(strstr(e.text, "60.0000 %"));
	vgpu.share_ppm = 400000;
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &b, &e), 0);
	assert_int_equal(sched_gpu_guaranteed_ppm(gpu), SCHED_PPM);
	/* Weighted and best effort promise no part: always admitted. */
	vgpu = (struct sched_vgpu_config){ .identity = 3, .policy = SCHED_WEIGHTED };
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &c, &e), 0);
	/* A change passes admission too, and leaves everything as it was when refused. */
	vgpu = (struct sched_vgpu_config){ .identity = 3,
					   .policy = SCHED_FIXED_SHARE,
					   .share_ppm = 1 };
	assert_int_equal(sched_vgpu_change(gpu, 0, c, &vgpu, &e), -ENOSPC);
	assert_int_equal(sched_vgpu_leave(gpu, 0, a, NULL), 0);
	assert_int_equal(sched_gpu_guaranteed_ppm(gpu), 400000);
	assert_int_equal(sched_vgpu_change(gpu, 0, c, &vgpu, &e), 0);
	assert_int_equal(sched_gpu_guaranteed_ppm(gpu), 400001);
	sched_gpu_destroy(gpu);
}

static void absurd_configurations_are_refused_in_words(void **state)
{
	static const struct {
		struct sched_vgpu_config config;
		const char *code;
	} cases[] = {
		{ { .identity = 0, .policy = SCHED_WEIGHTED }, "vgpu-identity" },
		{ { .identity = 1, .policy = SCHED_POLICIES }, "vgpu-policy" },
		{ { .identity = 1, .policy = (enum sched_policy) - 1 }, "vgpu-policy" },
		{ { .identity = 1, .policy = SCHED_WEIGHTED, .weight = SCHED_WEIGHT_MAX + 1 },
		  "vgpu-weight" },
		{ { .identity = 1, .policy = SCHED_FIXED_SHARE }, "vgpu-share" },
		{ { .identity = 1, .policy = SCHED_BURST, .share_ppm = SCHED_PPM + 1 },
		  "vgpu-share" },
		{ { .identity = 1,
		    .policy = SCHED_FIXED_SHARE,
		    .share_ppm = SCHED_PPM,
		    .elastic_ppm = 1 },
		  "vgpu-elastic" },
		{ { .identity = 1,
		    .policy = SCHED_FIXED_SHARE,
		    .share_ppm = 2,
		    .elastic_ppm = UINT32_MAX },
		  "vgpu-elastic" },
	};
	static const struct {
		struct sched_gpu_config config;
		const char *code;
	} gpus[] = {
		{ { .vgpus_max = 0 }, "gpu-vgpus" },
		{ { .vgpus_max = SCHED_VGPUS_MAX + 1 }, "gpu-vgpus" },
		{ { .vgpus_max = 1, .depth = SCHED_DEPTH_MAX + 1 }, "gpu-depth" },
		{ { .vgpus_max = 1, .model = SCHED_MODELS }, "gpu-model" },
		{ { .vgpus_max = 1, .averaging_factor = 61 }, "gpu-averaging-factor" },
		{ { .vgpus_max = 1, .slots = 2 }, "gpu-slots" },
	};
	const struct sched_gpu_config config = { .vgpus_max = 1 };
	struct sched_gpu *gpu;
	struct error e;
	unsigned v;

	for (unsigned i = 0; i < ARRAY_SIZE(gpus); i++) {
		assert_int_equal(sched_gpu_create(&gpus[i].config, &gpu, &e), -EINVAL);
		assert_string_equal(e.code, gpus[i].code);
	}
	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(sched_vgpu_join(gpu, 0, &cases[i].config, NULL, &v, &e), -EINVAL);
		assert_string_equal(e.code, cases[i].code);
	}
	sched_gpu_destroy(gpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fixed_share_is_never_exceeded_in_any_interval),
		cmocka_unit_test(burst_stays_within_its_credit_envelope_in_any_interval),
		cmocka_unit_test(fixed_share_is_there_beside_any_neighbour_and_unused_alone),
		cmocka_unit_test(what_is_left_unused_is_saved_up_for_one_period_only),
		cmocka_unit_test(elastic_time_is_taken_only_while_no_shared_work_waits),
		cmocka_unit_test(classes_go_in_their_order),
		cmocka_unit_test(best_effort_waits_for_an_idle_gap),
		cmocka_unit_test(credits_are_earned_spent_capped_and_throttle_to_the_baseline),
		cmocka_unit_test(the_balance_is_exact),
		cmocka_unit_test(surplus_goes_below_nothing_and_is_paid_back_first),
		cmocka_unit_test(credits_survive_a_stop_and_earn_nothing_meanwhile),
		cmocka_unit_test(a_larger_cap_gives_back_nothing_that_was_lost),
		cmocka_unit_test(a_burst_shares_the_engine_fairly_while_it_bursts),
		cmocka_unit_test(shares_and_baselines_above_one_are_refused_in_words),
		cmocka_unit_test(absurd_configurations_are_refused_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
