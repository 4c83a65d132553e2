// SPDX-License-Identifier: Apache-2.0
/*
 * The reference models do what is known of the originals, the weaknesses included: those are what
 * they are for.
 */
#include "tests/unit/sched_world.h"

static struct world *open_model(enum sched_model model, unsigned vgpus_max)
{
	const struct sched_gpu_config config = { .model = model, .vgpus_max = vgpus_max };

	return world_open(&config, 1);
}

static const struct world_load busy = { .length_min_ns = 500 * US, .outstanding = 2 };

static void fifo_serves_in_the_order_of_arrival(void **state)
{
	struct world *w = open_model(SCHED_MODEL_REFERENCE_FIFO, 4);
	const struct world_load flood = { .length_min_ns = MS, .outstanding = 16 };
	const struct world_load light = { .length_min_ns = MS, .outstanding = 1 };
	unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &flood);
	unsigned b = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &light);

	world_run(w, 1700 * MS);
	/* One place in the queue out of seventeen. */
	assert_in_range(w->vgpus[b].used_ns / MS, 98, 102);
	assert_in_range(w->vgpus[a].used_ns / MS, 1597, 1602);
	world_close(w);
}

static void fifo_keeps_order_beyond_its_runs_and_across_withdrawals(void **state)
{
	const struct sched_gpu_config config = { .model = SCHED_MODEL_REFERENCE_FIFO,
						 .vgpus_max = 2 };
	struct sched_vgpu_config vgpu = { .identity = 1, .policy = SCHED_EQUAL_SHARE };
	uint64_t granted[2] = { 0 };
	struct sched_gpu *gpu;
	unsigned v[2];

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v[0], NULL), 0);
	vgpu.identity = 2;
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v[1], NULL), 0);
	for (unsigned i = 0; i < 1000; i++)
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(sched_submit(gpu, 0, v[k], SCHED_ENGINE_COPY, 1), 0);
	assert_int_equal(sched_withdraw(gpu, 0, v[0], SCHED_ENGINE_COPY, 400), 0);
	for (uint64_t now_ns = 0;; now_ns += MS) {
		struct sched_decision d = sched_pick(gpu, now_ns, SCHED_ENGINE_COPY);

		if (!d.granted)
			break;
		granted[d.vgpu == v[1]]++;
		assert_int_equal(sched_complete(gpu, now_ns + MS, d.grant, MS, NULL), 0);
	}
	assert_int_equal(granted[0], 600);
	assert_int_equal(granted[1], 1000);
	sched_gpu_destroy(gpu);
}

static void nvidia_best_effort_gives_an_idle_turn_away(void **state)
{
	struct world *w = open_model(SCHED_MODEL_REFERENCE_NVIDIA_BEST_EFFORT, 8);
	const struct world_load idle = { 0 };
	unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &busy);

	world_add(w, 2, SCHED_EQUAL_SHARE, 0, &idle);
	world_run(w, 1000 * MS);
	assert_in_range(w->vgpus[a].used_ns / MS, 999, 1000);
	world_close(w);
}

static void nvidia_equal_and_fixed_leave_idle_turns_unused(void **state)
{
	static const struct {
		enum sched_model model;
		unsigned part; /* of the engine that one of two gets, with 8 places */
	} cases[] = { { SCHED_MODEL_REFERENCE_NVIDIA_EQUAL, 2 },
		      { SCHED_MODEL_REFERENCE_NVIDIA_FIXED, 8 } };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct world *w = open_model(cases[i].model, 8);
		const struct world_load idle = { 0 };
		unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &busy);

		world_add(w, 2, SCHED_EQUAL_SHARE, 0, &idle);
		world_run(w, 4000 * MS);
		assert_in_range(w->vgpus[a].used_ns / MS, 4000 / cases[i].part - 60,
				4000 / cases[i].part + 60);
		world_close(w);
	}
}

/* Averaging factor 33: 5 ms too much in a turn of 2 ms is paid back at 1/33 a turn. */
static void nvidia_repays_overshoot_over_many_turns(void **state)
{
	struct world *w = open_model(SCHED_MODEL_REFERENCE_NVIDIA_EQUAL, 2);
	const struct world_load once = { .length_min_ns = 7 * MS, .outstanding = 1, .end_ns = 1 };
	const struct world_load small = { .length_min_ns = 10 * US, .outstanding = 4 };
	unsigned hog = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &once);
	unsigned other = world_add(w, 2, SCHED_EQUAL_SHARE, 0, &small);

	world_run(w, 12 * MS);
	w->vgpus[hog].load = small;
	w->vgpus[hog].submit_at[0] = w->vgpus[hog].submit_at[1] = w->now_ns;
	w->vgpus[hog].submit_count = 2;
	const uint64_t before = w->vgpus[hog].used_ns, before_other = w->vgpus[other].used_ns;

	/* Ten rounds later about a quarter of the 5 ms is back: 1 - (32/33)^10 = 0.265. */
	world_run(w, 52 * MS);
	const double gained = (double)(w->vgpus[other].used_ns - before_other) -
			      (double)(w->vgpus[hog].used_ns - before);

	assert_true(gained > 0.6e6 && gained < 2.4e6);
	world_close(w);
}

static void gvtg_shares_by_weight_and_loses_time_once_it_is_spent(void **state)
{
	struct world *w = open_model(SCHED_MODEL_REFERENCE_GVTG, 4);
	unsigned a = world_add(w, 1, SCHED_WEIGHTED, 2, &busy);
	unsigned b = world_add(w, 2, SCHED_WEIGHTED, 1, &busy);

	world_run(w, 3000 * MS);
	assert_true(world_share(w, a, w->busy_ns) > 0.63 && world_share(w, a, w->busy_ns) < 0.70);
	assert_true(world_share(w, b, w->busy_ns) > 0.30);
	world_close(w);

	/* Alone with half of the weights: half of each 100 ms, the rest is idle. */
	w = open_model(SCHED_MODEL_REFERENCE_GVTG, 4);
	const struct world_load idle = { 0 };

	a = world_add(w, 1, SCHED_WEIGHTED, 1, &busy);
	world_add(w, 2, SCHED_WEIGHTED, 1, &idle);
	world_run(w, 3000 * MS);
	assert_in_range(w->vgpus[a].used_ns / MS, 1450, 1560);
	assert_true(w->lost_ns > 1400 * MS);
	world_close(w);
}

static void gvtg_forgets_debt_each_second(void **state)
{
	struct world *w = open_model(SCHED_MODEL_REFERENCE_GVTG, 2);
	const struct world_load huge = { .length_min_ns = 900 * MS, .outstanding = 1 };
	unsigned hog = world_add(w, 1, SCHED_WEIGHTED, 1, &huge);
	unsigned b = world_add(w, 2, SCHED_WEIGHTED, 1, &busy);

	world_run(w, 10000 * MS);
	/* Equal weights; the hog gets about nine tenths. */
	assert_true(w->vgpus[hog].used_ns > 5 * w->vgpus[b].used_ns);
	world_close(w);
}

static void xen_credit_shares_by_weight_and_forgets_debt_beyond_a_slice(void **state)
{
	struct world *w = open_model(SCHED_MODEL_REFERENCE_XEN_CREDIT, 4);
	unsigned a = world_add(w, 1, SCHED_WEIGHTED, 300, &busy);
	unsigned b = world_add(w, 2, SCHED_WEIGHTED, 100, &busy);

	world_run(w, 6000 * MS);
	assert_true(world_share(w, a, w->busy_ns) > 0.68 && world_share(w, a, w->busy_ns) < 0.82);
	assert_true(world_share(w, b, w->busy_ns) > 0.18);
	world_close(w);

	w = open_model(SCHED_MODEL_REFERENCE_XEN_CREDIT, 4);
	const struct world_load huge = { .length_min_ns = 900 * MS, .outstanding = 1 };

	a = world_add(w, 1, SCHED_WEIGHTED, 100, &huge);
	b = world_add(w, 2, SCHED_WEIGHTED, 100, &busy);
	world_run(w, 20000 * MS);
	assert_true(w->vgpus[a].used_ns > 4 * w->vgpus[b].used_ns);
	world_close(w);
}

static void a_long_silence_costs_no_long_loop(void **state)
{
	for (unsigned m = 0; m < SCHED_MODELS; m++) {
		struct world *w = open_model((enum sched_model)m, 8);
		unsigned a = world_add(w, 1, SCHED_EQUAL_SHARE, 0, &busy);

		world_run(w, 100 * MS);
		w->vgpus[a].load.end_ns = 1;
		world_run(w, 200 * MS);
		/* Nobody asks for 30 years. */
		w->now_ns = w->asked_next_ns = UINT64_C(1000000000000000000);
		w->vgpus[a].load.end_ns = 0;
		w->vgpus[a].load.begin_ns = w->now_ns;
		const uint64_t used_ns = w->vgpus[a].used_ns;

		world_run(w, w->now_ns + 1000 * MS);
		assert_true(w->vgpus[a].used_ns - used_ns > 100 * MS);
		world_close(w);
	}
}

static void an_impossible_slice_of_nvidias_is_refused(void **state)
{
	const struct sched_gpu_config config = { .model = SCHED_MODEL_REFERENCE_NVIDIA_EQUAL,
						 .vgpus_max = 2,
						 .slice_ns = 1 };
	struct sched_gpu *gpu;
	struct error e;

	assert_int_equal(sched_gpu_create(&config, &gpu, &e), -EINVAL);
	assert_string_equal(e.code, "gpu-slice");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fifo_serves_in_the_order_of_arrival),
		cmocka_unit_test(fifo_keeps_order_beyond_its_runs_and_across_withdrawals),
		cmocka_unit_test(nvidia_best_effort_gives_an_idle_turn_away),
		cmocka_unit_test(nvidia_equal_and_fixed_leave_idle_turns_unused),
		cmocka_unit_test(nvidia_repays_overshoot_over_many_turns),
		cmocka_unit_test(gvtg_shares_by_weight_and_loses_time_once_it_is_spent),
		cmocka_unit_test(gvtg_forgets_debt_each_second),
		cmocka_unit_test(xen_credit_shares_by_weight_and_forgets_debt_beyond_a_slice),
		cmocka_unit_test(a_long_silence_costs_no_long_loop),
		cmocka_unit_test(an_impossible_slice_of_nvidias_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
