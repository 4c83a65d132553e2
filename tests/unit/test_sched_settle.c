// SPDX-License-Identifier: Apache-2.0
/*
 * A vGPU that has the engine to itself and keeps its grant (sched_settle()): it is neither behind nor ahead of others for it, whatever it did with
 * it and whatever it says.
 */
#include "tests/unit/sched_world.h"

#define GRAPHICS SCHED_ENGINE_GRAPHICS

static struct sched_gpu *open_gpu(unsigned depth, const uint32_t *weights, unsigned count)
{
	const struct sched_gpu_config config = { .vgpus_max = 8, .depth = depth };
	struct sched_gpu *gpu;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	for (unsigned i = 0; i < count; i++) {
		const struct sched_vgpu_config vgpu = { .identity = i + 1,
							.policy = SCHED_WEIGHTED,
							.weight = weights[i] };
		unsigned v;

		assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v, NULL), 0);
		assert_int_equal(v, i);
	}
	return gpu;
}

/* From @now_ns on each of @count always has work, in jobs of 1 ms: what each gets of the next @jobs. */
static void run_all(struct sched_gpu *gpu, uint64_t now_ns, unsigned count, unsigned jobs,
		    unsigned *got)
{
	memset(got, 0, count * sizeof(*got));
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(sched_submit(gpu, now_ns, i, GRAPHICS, jobs), 0);
	for (unsigned i = 0; i < jobs; i++) {
		const struct sched_decision d = sched_pick(gpu, now_ns, GRAPHICS);

		assert_true(d.granted);
		got[d.vgpu]++;
		now_ns += MS;
		assert_int_equal(sched_complete(gpu, now_ns, d.grant, MS, NULL), 0);
	}
}

static void who_was_alone_is_neither_behind_nor_ahead(void **state)
{
	static const uint32_t weights[] = { 100, 100 };
	static const uint64_t told[] = { 0, 5 * NSEC_PER_SEC, 10 * NSEC_PER_SEC, UINT64_MAX };

	for (unsigned i = 0; i < ARRAY_SIZE(told); i++) {
		struct sched_gpu *gpu = open_gpu(1, weights, 2);
		struct sched_charge charge;
		struct sched_decision d;
		unsigned got[2];

		assert_int_equal(sched_submit(gpu, 0, 0, GRAPHICS, 1), 0);
		d = sched_pick(gpu, 0, GRAPHICS);
		assert_int_equal(sched_settle(gpu, 10 * NSEC_PER_SEC, d.grant, told[i], &charge),
				 0);
		assert_int_equal(charge.used_ns, MIN(told[i], 10 * NSEC_PER_SEC));
		assert_int_equal(charge.surcharge_ns, 0);
		assert_int_equal(charge.debt_ns, 0);
		assert_int_equal(sched_complete(gpu, 10 * NSEC_PER_SEC, d.grant, 0, &charge), 0);
		assert_in_range(charge.debt_ns, 0, 20 * US);
		run_all(gpu, 10 * NSEC_PER_SEC, 2, 1000, got);
		assert_in_range(got[0], 499, 501);
		sched_gpu_destroy(gpu);
	}
}

/* Two alone, of whom one works and one only keeps its grant: no more for the latter than for the former. */
static void a_grant_that_is_kept_idle_saves_nothing_up(void **state)
{
	static const uint32_t weights[] = { 100, 100, 100 };
	struct sched_gpu *gpu = open_gpu(2, weights, 3);
	struct sched_decision d[2];
	unsigned got[3];

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(sched_submit(gpu, 0, i, GRAPHICS, 1), 0);
		d[i] = sched_pick(gpu, 0, GRAPHICS);
		assert_int_equal(d[i].vgpu, i);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
			sched_settle(gpu, NSEC_PER_SEC, d[i].grant, i * NSEC_PER_SEC, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(sched_complete(gpu, NSEC_PER_SEC, d[i].grant, 0, NULL), 0);
	run_all(gpu, NSEC_PER_SEC, 3, 900, got);
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(got[i], 298, 302);
	sched_gpu_destroy(gpu);
}

/* What one that is idle owes is paid by the time in which another had the engine, said or not. */
static void debts_of_others_are_paid_whatever_is_told(void **state)
{
	static const uint32_t weights[] = { 100, 100 };

	for (unsigned lies = 0; lies < 2; lies++) {
		struct sched_gpu *gpu = open_gpu(1, weights, 2);
		struct sched_vgpu_stats stats;
		struct sched_decision d;

		assert_int_equal(sched_submit(gpu, 0, 1, GRAPHICS, 1), 0);
		d = sched_pick(gpu, 0, GRAPHICS);
		assert_int_equal(sched_submit(gpu, 0, 0, GRAPHICS, 1), 0);
		assert_int_equal(sched_complete(gpu, 100 * MS, d.grant, 100 * MS, NULL), 0);
		d = sched_pick(gpu, 100 * MS, GRAPHICS);
		assert_int_equal(d.vgpu, 0);
		assert_int_equal(sched_vgpu_stats(gpu, 100 * MS, 1, GRAPHICS, &stats), 0);
		assert_int_equal(stats.debt_ns, 100 * MS);
		assert_int_equal(sched_settle(gpu, 160 * MS, d.grant, lies ? 0 : 60 * MS, NULL), 0);
		assert_int_equal(sched_vgpu_stats(gpu, 160 * MS, 1, GRAPHICS, &stats), 0);
		assert_int_equal(stats.debt_ns, 40 * MS);
		sched_gpu_destroy(gpu);
	}
}

static void it_is_refused_while_somebody_waits_and_where_time_is_spent(void **state)
{
	static const uint32_t weights[] = { 100, 100 };
	struct sched_gpu *gpu = open_gpu(1, weights, 2);
	const struct sched_vgpu_config fixed = { .identity = 9,
						 .policy = SCHED_FIXED_SHARE,
						 .share_ppm = 100000 };
	struct sched_decision d, other;
	unsigned v;

	assert_int_equal(sched_submit(gpu, 0, 0, GRAPHICS, 1), 0);
	d = sched_pick(gpu, 0, GRAPHICS);
	assert_int_equal(sched_submit(gpu, 0, 1, GRAPHICS, 1), 0);
	assert_int_equal(sched_settle(gpu, 100 * MS, d.grant, 0, NULL), -EBUSY);
	/* Its place goes to who waits, and is not given back. */
	other = sched_pick(gpu, 300 * MS, GRAPHICS);
	assert_true(other.granted && other.vgpu == 1);
	assert_int_equal(sched_settle(gpu, 301 * MS, d.grant, 0, NULL), -ENOSPC);
	assert_int_equal(sched_complete(gpu, 302 * MS, other.grant, 0, NULL), 0);
	/* Once there is one again it counts. */
	assert_int_equal(sched_settle(gpu, 303 * MS, d.grant, 0, NULL), 0);
	assert_int_equal(sched_submit(gpu, 303 * MS, 1, GRAPHICS, 1), 0);
	assert_false(sched_pick(gpu, 304 * MS, GRAPHICS).granted);
	assert_true(sched_pick(gpu, 554 * MS, GRAPHICS).granted);
	assert_int_equal(sched_complete(gpu, 554 * MS, d.grant, 0, NULL), 0);
	assert_int_equal(sched_settle(gpu, 554 * MS, d.grant, 0, NULL), -ENOENT);
	sched_gpu_destroy(gpu);

	gpu = open_gpu(1, weights, 0);
	assert_int_equal(sched_vgpu_join(gpu, 0, &fixed, NULL, &v, NULL), 0);
	assert_int_equal(sched_submit(gpu, 0, v, GRAPHICS, 1), 0);
	d = sched_pick(gpu, 0, GRAPHICS);
	assert_int_equal(sched_settle(gpu, MS, d.grant, 0, NULL), -EPERM);
	sched_gpu_destroy(gpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_was_alone_is_neither_behind_nor_ahead),
		cmocka_unit_test(a_grant_that_is_kept_idle_saves_nothing_up),
		cmocka_unit_test(debts_of_others_are_paid_whatever_is_told),
		cmocka_unit_test(it_is_refused_while_somebody_waits_and_where_time_is_spent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
