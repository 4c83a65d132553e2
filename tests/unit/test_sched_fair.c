// SPDX-License-Identifier: Apache-2.0
/*
 * What the shared class promises, on random worlds: the pairwise service bound over every interval,
 * the bound on waiting, work conservation, conservation of time, determinism. SCHED_LONG=N runs N
 * times as many worlds. A world that fails says its seed.
 */
#include "tests/unit/sched_world.h"

#include <stdio.h>

__extension__ typedef __int128 wide;

#define WORLDS 200
#define EVENTS 5000 /* a world's life: two a grant */

static unsigned worlds(void)
{
	const char *times = getenv("SCHED_LONG");

	return WORLDS * (times ? (unsigned)MAX(1, atoi(times)) : 1);
}

/* From @from to @to with every order of magnitude as likely. */
static uint64_t random_scale(struct world_random *r, uint64_t from, uint64_t to)
{
	uint64_t decades = 0, high;

	for (uint64_t v = from; v < to; v *= 10)
		decades++;
	high = from;
	for (uint64_t i = random_in(r, 0, decades); i; i--)
		high = MIN(high * 10, to);
	return random_in(r, from, high);
}

static struct world_load random_load(struct world_random *r, bool sleeps)
{
	struct world_load load = {
		.length_min_ns = random_scale(r, 1, 20 * MS),
		.outstanding = (unsigned)random_in(r, 1, 16),
	};

	load.length_max_ns =
		random_in(r, 0, 1) ? load.length_min_ns : load.length_min_ns * random_in(r, 1, 10);
	if (sleeps && random_in(r, 0, 2) == 0) {
		load.think_min_ns = random_scale(r, 1, 10 * MS);
		load.think_max_ns = load.think_min_ns * 2;
	}
	if (sleeps && random_in(r, 0, 3) == 0) {
		load.awake_ns = random_scale(r, US, 100 * MS);
		load.asleep_ns = random_scale(r, US, 100 * MS);
	}
	return load;
}

struct shape {
	unsigned count, depth;
	uint32_t weights[8];
	unsigned vgpus[8];
};

static struct world *random_world(uint64_t seed, bool sleeps, struct shape *shape)
{
	struct world_random r = { .state = seed * 2 + 1 };
	const struct sched_gpu_config config = {
		.vgpus_max = 8,
		.depth = (unsigned)random_in(&r, 1, 8),
		.hold_max_ns = 3600 * NSEC_PER_SEC, /* its expiry has tests of its own */
		.linger_ns = random_in(&r, 0, 2) ? 0 : random_in(&r, 0, 2 * MS),
	};
	struct world *w = world_open(&config, seed);

	w->events_max = EVENTS;
	*shape = (struct shape){ .depth = config.depth, .count = (unsigned)random_in(&r, 2, 8) };
	w->parallel = random_in(&r, 0, 3) == 0;
	for (unsigned i = 0; i < shape->count; i++) {
		struct world_load load = random_load(&r, sleeps);

		shape->weights[i] = (uint32_t)random_scale(&r, 1, SCHED_WEIGHT_MAX);
		shape->vgpus[i] = world_add(w, i + 1, SCHED_WEIGHTED, shape->weights[i], &load);
	}
	return w;
}

#define RUN_NS (10 * NSEC_PER_SEC)

/* L: the most that one grant was charged, and then the wait for the next. */
static uint64_t longest_ns(const struct world *w, unsigned vgpu)
{
	return w->vgpus[vgpu].longest_ns + sched_gpu_config(w->gpu)->linger_ns;
}

/*
 * Over every interval in which both have work waiting:
 * |C_i/w_i - C_j/w_j| <= (D + 1) * (L_i/w_i + L_j/w_j). Exact: times w_i * w_j, in integers.
 */
static void check_pair(const struct world *w, const struct shape *s, unsigned a, unsigned b)
{
	const unsigned i = s->vgpus[a], j = s->vgpus[b];
	const wide wi = s->weights[a], wj = s->weights[b];
	const wide bound =
		(s->depth + 1) * ((wide)longest_ns(w, i) * wj + (wide)longest_ns(w, j) * wi);
	wide x = 0, low = 0, high = 0;
	bool waits_i = false, waits_j = false;

	for (size_t k = 0; k < w->events_count; k++) {
		const struct world_event *event = &w->events[k];
		const bool both = waits_i && waits_j;

		if (event->vgpu != i && event->vgpu != j)
			continue;
		bool *waits = event->vgpu == i ? &waits_i : &waits_j;

		if (event->kind == WORLD_BACKLOGGED)
			*waits = true;
		else if (event->kind == WORLD_IDLE)
			*waits = false;
		else if (event->kind == WORLD_CHARGED)
			x += event->vgpu == i ? event->charged_ns * wj
					      : -(wide)event->charged_ns * wi;
		if (!both)
			low = high = x;
		low = MIN(low, x);
		high = MAX(high, x);
		if (high - low > bound)
			fail_msg(
				"vGPUs %u and %u, weights %u and %u, depth %u: apart by %.3f of the "
				"bound at %llu ns",
				i, j, s->weights[a], s->weights[b], s->depth,
				(double)(high - low) / (double)bound,
				(unsigned long long)event->at_ns);
	}
}

static void weighted_service_stays_within_the_pairwise_bound_in_every_interval(void **state)
{
	size_t events = 0;

	for (unsigned seed = 1; seed <= worlds(); seed++) {
		struct shape shape;
		struct world *w = random_world(seed, seed % 2, &shape);

		world_run(w, RUN_NS);
		for (unsigned a = 0; a < shape.count; a++)
			for (unsigned b = a + 1; b < shape.count; b++) {
				check_pair(w, &shape, a, b);
			}
		events += w->events_count;
		world_close(w);
	}
	assert_true(events > 100 * (size_t)worlds());
}

/*
 * None waits longer than sum over the others of (D + 1) * (L_j + L_i * w_j/w_i), and D * L_i for its
 * own work before: what the pairwise bound leaves to each other one while i gets nothing.
 */
static void no_vgpu_waits_longer_than_its_bound(void **state)
{
	for (unsigned seed = 1; seed <= worlds(); seed++) {
		struct shape s;
		struct world *w = random_world(seed, true, &s);

		world_run(w, RUN_NS);
		for (unsigned a = 0; a < s.count; a++) {
			const struct world_vgpu *mine = &w->vgpus[s.vgpus[a]];
			const wide own_ns = longest_ns(w, s.vgpus[a]);
			wide bound = s.depth * own_ns;
			uint64_t waited_ns = mine->waited_max_ns;

			for (unsigned b = 0; b < s.count; b++)
				if (a != b)
					bound += (s.depth + 1) *
						 ((wide)longest_ns(w, s.vgpus[b]) +
						  own_ns * s.weights[b] / s.weights[a]);
			if (mine->queued)
				waited_ns = MAX(waited_ns, w->now_ns - mine->head_since_ns);
			if (waited_ns > bound)
				fail_msg("seed %u: vGPU %u waited %llu ns, bound %.0f", seed, a,
					 (unsigned long long)waited_ns, (double)bound);
		}
		world_close(w);
	}
}

static void the_engine_never_idles_while_work_waits(void **state)
{
	for (unsigned seed = 1; seed <= worlds(); seed++) {
		struct world_random r = { .state = seed };
		const struct sched_gpu_config config = { .vgpus_max = 8,
							 .depth = (unsigned)random_in(&r, 1, 4) };
		struct world *w = world_open(&config, seed);

		w->events_max = EVENTS / 4;
		for (unsigned i = 0; i < 6; i++) {
			static const enum sched_policy conserving[] = { SCHED_BEST_EFFORT,
									SCHED_EQUAL_SHARE,
									SCHED_WEIGHTED };
			struct world_load load = random_load(&r, true);

			world_add(w, i + 1, conserving[random_in(&r, 0, 2)], 100, &load);
		}
		world_run(w, RUN_NS / 4);
		assert_int_equal(w->lost_ns, 0);
		world_close(w);
	}
}

/* To the nanosecond, whatever the policy. */
static void time_charged_is_time_used(void **state)
{
	for (unsigned seed = 1; seed <= worlds(); seed++) {
		struct world_random r = { .state = seed };
		const struct sched_gpu_config config = { .vgpus_max = 8,
							 .depth = (unsigned)random_in(&r, 1, 4),
							 .linger_ns = random_in(&r, 0, 1) * MS };
		struct world *w = world_open(&config, seed);
		uint64_t booked_ns = 0;

		w->events_max = EVENTS / 4;
		for (unsigned i = 0; i < 8; i++) {
			struct world_load load = random_load(&r, true);
			struct sched_vgpu_config vgpu = {
				.identity = i + 1,
				.policy = (enum sched_policy)random_in(&r, 0, SCHED_POLICIES - 1),
				.weight = (uint32_t)random_in(&r, 1, 1000),
				.share_ppm = (uint32_t)random_in(&r, 1, SCHED_PPM / 8),
				.credit_max_ns = random_in(&r, 0, 100 * MS),
			};

			world_join(w, &vgpu, &load);
		}
		world_run(w, RUN_NS / 4);
		for (unsigned i = 0; i < 8; i++) {
			struct sched_vgpu_stats stats;

			assert_int_equal(sched_vgpu_stats(w->gpu, w->now_ns, i,
							  SCHED_ENGINE_GRAPHICS, &stats),
					 0);
			assert_int_equal(stats.used_ns, w->vgpus[i].used_ns);
			assert_int_equal(stats.disputed_ns, 0);
			booked_ns += stats.used_ns;
		}
		assert_int_equal(booked_ns, w->busy_ns);
		world_close(w);
	}
}

static void the_same_world_runs_the_same_way(void **state)
{
	uint64_t before = 0;

	for (unsigned seed = 1; seed <= 20; seed++) {
		uint64_t hashes[2];

		for (unsigned i = 0; i < 2; i++) {
			struct shape shape;
			struct world *w = random_world(seed, true, &shape);

			world_run(w, RUN_NS / 4);
			hashes[i] = w->hash;
			world_close(w);
		}
		assert_int_equal(hashes[0], hashes[1]);
		assert_int_not_equal(hashes[0], before);
		before = hashes[0];
	}
}

static void look(struct world *w, void *arg)
{
	for (unsigned i = 0; i < 8; i++) {
		struct sched_vgpu_stats stats;

		sched_vgpu_stats(w->gpu, w->now_ns, i, SCHED_ENGINE_GRAPHICS, &stats);
	}
}

static void looking_at_it_changes_nothing(void **state)
{
	for (unsigned seed = 1; seed <= 30; seed++) {
		uint64_t hashes[2];

		for (unsigned k = 0; k < 2; k++) {
			const struct sched_gpu_config config = { .vgpus_max = 8, .depth = 2 };
			struct world_random r = { .state = seed };
			struct world *w = world_open(&config, seed);

			w->events_max = EVENTS / 4;
			for (unsigned i = 0; i < 2 + seed % 7; i++) {
				struct world_load load = random_load(&r, true);
				struct sched_vgpu_config vgpu = {
					.identity = i + 1,
					.policy = (enum sched_policy)random_in(&r, 0,
									       SCHED_POLICIES - 1),
					.weight = (uint32_t)random_in(&r, 1, SCHED_WEIGHT_MAX),
					.share_ppm = (uint32_t)random_in(&r, 1, SCHED_PPM / 8),
				};

				load.length_min_ns *= random_in(&r, 1, 20);
				load.think_min_ns += seed % 3 * MS; /* idle engines, too */
				world_join(w, &vgpu, &load);
			}
			w->hook = k ? look : NULL;
			for (unsigned i = 1; i < 2000; i++)
				world_run(w, i * 77777);
			hashes[k] = w->hash;
			world_close(w);
		}
		assert_int_equal(hashes[0], hashes[1]);
	}
}

/* Nor does idle time pay less, in pieces that are rounded, when somebody looks each nanosecond. */
static void looking_changes_no_debt(void **state)
{
	uint64_t debts_ns[2];

	for (unsigned looks = 0; looks < 2; looks++) {
		const struct sched_gpu_config config = { .vgpus_max = 2 };
		struct sched_vgpu_stats stats;
		struct sched_decision d;
		struct sched_gpu *gpu;
		unsigned v;

		assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
		for (unsigned i = 0; i < 2; i++) {
			const struct sched_vgpu_config vgpu = { .identity = i + 1,
								.policy = SCHED_WEIGHTED,
								.weight = i ? 7 : 999999 };

			assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v, NULL), 0);
		}
		assert_int_equal(sched_submit(gpu, 0, 0, SCHED_ENGINE_COPY, 1), 0);
		d = sched_pick(gpu, 0, SCHED_ENGINE_COPY);
		assert_int_equal(sched_complete(gpu, MS, d.grant, MS, NULL), 0);
		for (unsigned i = 0; i < 1000 && looks; i++)
			assert_int_equal(
				sched_vgpu_stats(gpu, MS + i, 0, SCHED_ENGINE_COPY, &stats), 0);
		assert_int_equal(sched_vgpu_stats(gpu, MS + 1000, 0, SCHED_ENGINE_COPY, &stats), 0);
		debts_ns[looks] = stats.debt_ns;
		sched_gpu_destroy(gpu);
	}
	assert_int_equal(debts_ns[0], debts_ns[1]);
	assert_in_range(debts_ns[0], MS - 1000, MS - 999);
}

/*
 * Rounding does not add up over a million grants of 1 ns, whose price at weight 1,000,000 is
 * 1.048576 steps of a tag, and 2 at the other.
 */
static void rounding_never_accumulates(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2, .overhead_ns = 1 };
	const uint32_t weights[2] = { 1000000, 524288 };
	uint64_t used[2] = { 0 };
	struct sched_gpu *gpu;
	uint64_t now_ns = 0;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		const struct sched_vgpu_config vgpu = { .identity = i + 1,
							.policy = SCHED_WEIGHTED,
							.weight = weights[i] };
		unsigned index;

		assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &index, NULL), 0);
		assert_int_equal(index, i);
		assert_int_equal(sched_submit(gpu, 0, i, SCHED_ENGINE_VIDEO, UINT64_MAX), 0);
	}
	for (unsigned i = 0; i < 1000000; i++) {
		const struct sched_decision d = sched_pick(gpu, now_ns, SCHED_ENGINE_VIDEO);

		assert_true(d.granted);
		now_ns += 1;
		used[d.vgpu] += 1;
		assert_int_equal(sched_complete(gpu, now_ns, d.grant, 1, NULL), 0);
	}
	/* Neither is off by more than a job. */
	const double due = (double)now_ns * weights[1] / (weights[0] + weights[1]);

	assert_true((double)used[1] > due - 2 && (double)used[1] < due + 2);
	sched_gpu_destroy(gpu);
}

static void equals_are_served_in_the_order_in_which_they_came(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 3 };
	const unsigned order[] = { 2, 0, 1 };
	struct sched_gpu *gpu;
	unsigned v;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		const struct sched_vgpu_config vgpu = { .identity = i + 1,
							.policy = SCHED_EQUAL_SHARE };

		assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v, NULL), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(sched_submit(gpu, i, order[i], SCHED_ENGINE_COPY, 10), 0);
	for (unsigned i = 0; i < 30; i++) {
		const struct sched_decision d = sched_pick(gpu, MS * (i + 1), SCHED_ENGINE_COPY);

		assert_true(d.granted);
		assert_int_equal(d.vgpu, order[i % 3]);
		assert_int_equal(sched_complete(gpu, MS * (i + 2), d.grant, MS, NULL), 0);
	}
	sched_gpu_destroy(gpu);
}

/* An overrun that nobody had to wait for is no debt for ever: idle time pays it. */
static void an_idle_engine_pays_debts(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2, .hold_max_ns = NSEC_PER_SEC };
	struct world *w = world_open(&config, 1);
	const struct world_load once = { .length_min_ns = 600 * MS,
					 .outstanding = 1,
					 .end_ns = MS };
	const struct world_load later = { .length_min_ns = MS,
					  .outstanding = 3,
					  .begin_ns = 3 * NSEC_PER_SEC };
	struct sched_vgpu_stats stats;
	unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &once);
	unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &later);

	world_run(w, 700 * MS);
	/* 100 ms pay 50, as if both had run. */
	assert_int_equal(sched_vgpu_stats(w->gpu, w->now_ns, a, SCHED_ENGINE_GRAPHICS, &stats), 0);
	assert_int_equal(stats.debt_ns, 550 * MS);
	w->vgpus[a].load = later;
	w->vgpus[a].submit_at[0] = later.begin_ns;
	world_run(w, 3 * NSEC_PER_SEC + 20 * MS);
	assert_in_range(w->vgpus[a].used_ns / MS, 609, 611);
	assert_in_range(w->vgpus[b].used_ns / MS, 9, 11);
	world_close(w);
}

static void weights_one_two_four_eight_with_jobs_one_to_ten(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 4, .depth = 2 };
	struct world *w = world_open(&config, 7);
	const uint64_t lengths[4] = { 5 * MS, 500 * US, 2 * MS, MS };

	for (unsigned i = 0; i < 4; i++) {
		const struct world_load load = { .length_min_ns = lengths[i], .outstanding = 4 };

		world_add(w, i + 1, SCHED_WEIGHTED, 1u << i, &load);
	}
	world_run(w, 10000 * MS);
	for (unsigned i = 0; i < 4; i++) {
		const double error = world_share(w, i, w->busy_ns) * 15 / (1u << i) - 1;

		assert_true(error > -0.01 && error < 0.01);
	}
	assert_int_equal(w->lost_ns, 0);
	world_close(w);
}

/*
 * One that submits, waits and submits again is never behind in the queue: without linger it alternates
 * with the other whatever its weight.
 */
static void a_weight_holds_for_one_submission_at_a_time_if_the_engine_lingers(void **state)
{
	const struct world_load one = { .length_min_ns = MS,
					.outstanding = 1,
					.think_min_ns = 100 * US };
	const struct world_load other = { .length_min_ns = 5 * MS, .outstanding = 3 };
	uint64_t used_ns[2];

	for (unsigned i = 0; i < 2; i++) {
		const struct sched_gpu_config config = { .vgpus_max = 2,
							 .linger_ns = i ? 500 * US : 0 };
		struct world *w = world_open(&config, 1);
		struct sched_vgpu_stats stats;
		unsigned a = world_add(w, 1, SCHED_WEIGHTED, 800, &one);

		world_add(w, 2, SCHED_WEIGHTED, 100, &other);
		world_run(w, 10 * NSEC_PER_SEC);
		used_ns[i] = w->vgpus[a].used_ns;
		assert_int_equal(
			sched_vgpu_stats(w->gpu, w->now_ns, a, SCHED_ENGINE_GRAPHICS, &stats), 0);
		/* What the engine lost is what the one that was waited for has paid. */
		assert_in_range(stats.surcharge_ns + 200 * US, w->lost_ns, w->lost_ns + 400 * US);
		world_close(w);
	}
	assert_in_range(used_ns[0] / MS, 1600, 1700);
	/* 8/9 of the engine, 1 ms out of each 1.1 of it. */
	assert_in_range(used_ns[1] / MS, 8000, 8150);
}

static void waiting_for_one_that_lets_wait_is_paid_and_ends(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2, .linger_ns = 500 * US };
	const struct world_load busy = { .length_min_ns = 5 * MS, .outstanding = 3 };
	const struct world_load loads[] = {
		/* Comes just in time each time, for next to nothing. */
		{ .length_min_ns = 20 * US, .outstanding = 1, .think_min_ns = 480 * US },
		/* Frames: comes again long after. */
		{ .length_min_ns = MS, .outstanding = 1, .think_min_ns = 15 * MS },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(loads); i++) {
		struct world *w = world_open(&config, 1);

		world_add(w, 1, SCHED_EQUAL_SHARE, 0, &loads[i]);
		unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &busy);

		world_run(w, 10 * NSEC_PER_SEC);
		if (i == 0)
			assert_true(w->vgpus[b].used_ns > 4990 * MS);
		else
			assert_true(w->lost_ns <= MS);
		world_close(w);
	}
}

static void the_engine_does_not_linger_for_one_whose_turn_it_is_not(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2, .linger_ns = 500 * US };
	const struct world_load one = { .length_min_ns = 10 * MS,
					.outstanding = 1,
					.think_min_ns = 100 * US };
	const struct world_load busy = { .length_min_ns = MS, .outstanding = 3 };
	struct world *w = world_open(&config, 1);
	unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &one);

	world_add(w, 2, SCHED_EQUAL_SHARE, 0, &busy);
	world_run(w, 10 * NSEC_PER_SEC);
	assert_int_equal(w->lost_ns, 0);
	assert_in_range(w->vgpus[a].used_ns / MS, 4980, 5020);
	world_close(w);
}

static void the_bound_holds_for_a_depth_of_sixty_four(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 3,
						 .depth = 64,
						 .hold_max_ns = 3600 * NSEC_PER_SEC };
	struct world *w = world_open(&config, 3);
	struct shape shape = { .count = 3, .depth = 64, .weights = { 1, 10, 100 } };

	for (unsigned i = 0; i < 3; i++) {
		const struct world_load load = { .length_min_ns = (3 - i) * MS,
						 .length_max_ns = (3 - i) * 3 * MS,
						 .outstanding = 1 };

		shape.vgpus[i] = world_add(w, i + 1, SCHED_WEIGHTED, shape.weights[i], &load);
		w->vgpus[i].queued = 10000;
		assert_int_equal(sched_submit(w->gpu, 0, i, SCHED_ENGINE_GRAPHICS, 10000), 0);
		world_note(w, (struct world_event){ .vgpu = i, .kind = WORLD_BACKLOGGED });
	}
	world_run(w, 5000 * MS);
	for (unsigned a = 0; a < 3; a++)
		for (unsigned b = a + 1; b < 3; b++)
			check_pair(w, &shape, a, b);
	world_close(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			weighted_service_stays_within_the_pairwise_bound_in_every_interval),
		cmocka_unit_test(no_vgpu_waits_longer_than_its_bound),
		cmocka_unit_test(the_engine_never_idles_while_work_waits),
		cmocka_unit_test(time_charged_is_time_used),
		cmocka_unit_test(the_same_world_runs_the_same_way),
		cmocka_unit_test(looking_at_it_changes_nothing),
		cmocka_unit_test(looking_changes_no_debt),
		cmocka_unit_test(rounding_never_accumulates),
		cmocka_unit_test(equals_are_served_in_the_order_in_which_they_came),
		cmocka_unit_test(an_idle_engine_pays_debts),
		cmocka_unit_test(weights_one_two_four_eight_with_jobs_one_to_ten),
		cmocka_unit_test(a_weight_holds_for_one_submission_at_a_time_if_the_engine_lingers),
		cmocka_unit_test(waiting_for_one_that_lets_wait_is_paid_and_ends),
		cmocka_unit_test(the_engine_does_not_linger_for_one_whose_turn_it_is_not),
		cmocka_unit_test(the_bound_holds_for_a_depth_of_sixty_four),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
