// SPDX-License-Identifier: Apache-2.0
/*
 * The scheduler's calls: what they refuse, that a grant ends once, that engines and GPUs are apart,
 * that nothing is allocated after creation; and any sequence of calls at all, garbage included,
 * under every model, against a second book. SCHED_LONG=N runs N times as many sequences.
 */
#include "tests/unit/sched_world.h"

/* ---- allocation -------------------------------------------------------------------------- */

static unsigned allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	allocations++;
	return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	allocations++;
	return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	allocations++;
	return __real_aligned_alloc(alignment, size);
}

/* ---- any sequence of calls --------------------------------------------------------------- */

#define VGPUS  6
#define STEPS  3000
#define GRANTS 64

struct book {
	struct sched_gpu *gpu;
	struct world_random random;
	uint64_t now_ns;
	unsigned depth;
	bool there[VGPUS];
	uint64_t pending[VGPUS][SCHED_ENGINES], used_ns[VGPUS][SCHED_ENGINES];
	uint64_t forced_ns[VGPUS][SCHED_ENGINES];
	struct {
		uint64_t handle, at_ns;
		unsigned vgpu, engine;
	} grants[SCHED_ENGINES * GRANTS];
	unsigned grants_count;
	uint64_t ended;				/* a handle that was once good */
	uint64_t quiet_until_ns[SCHED_ENGINES]; /* no grant before, if nothing happens */
};

static void something_happens(struct book *b)
{
	memset(b->quiet_until_ns, 0, sizeof(b->quiet_until_ns));
}

static struct sched_vgpu_config random_config(struct book *b, uint64_t identity)
{
	struct world_random *r = &b->random;

	return (struct sched_vgpu_config){
		.identity = identity,
		.policy = (enum sched_policy)random_in(r, 0, SCHED_POLICIES), /* one too many */
		.weight = (uint32_t)random_in(r, 0, 1000),
		.share_ppm = (uint32_t)random_in(r, 0, 300000),
		.elastic_ppm = (uint32_t)(random_in(r, 0, 1) * random_in(r, 0, 300000)),
		.credit_max_ns = random_in(r, 0, 1000) * MS,
		.surplus_max_ns = random_in(r, 0, 1) * random_in(r, 0, 1000) * MS,
	};
}

static void drop_grants(struct book *b, unsigned vgpu)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < b->grants_count; i++)
		if (b->grants[i].vgpu != vgpu)
			b->grants[kept++] = b->grants[i];
	b->grants_count = kept;
}

static void join_or_leave(struct book *b)
{
	const unsigned i = (unsigned)random_in(&b->random, 0, VGPUS - 1);
	const struct sched_vgpu_config config = random_config(b, 1 + random_in(&b->random, 0, 7));
	struct sched_account account;
	struct error e;
	unsigned v;

	something_happens(b);
	if (b->there[i]) {
		assert_int_equal(sched_vgpu_leave(b->gpu, b->now_ns, i, &account), 0);
		b->there[i] = false;
		memset(b->pending[i], 0, sizeof(b->pending[i]));
		drop_grants(b, i);
		return;
	}
	if (sched_vgpu_join(b->gpu, b->now_ns, &config, NULL, &v, &e))
		return;
	assert_true(v < VGPUS && !b->there[v]);
	b->there[v] = true;
	/* Statistics go on where the same one came back, and begin anew where another did. */
	for (unsigned k = 0; k < SCHED_ENGINES; k++) {
		struct sched_vgpu_stats stats;

		assert_int_equal(
			sched_vgpu_stats(b->gpu, b->now_ns, v, (enum sched_engine)k, &stats), 0);
		b->used_ns[v][k] = stats.used_ns;
		b->forced_ns[v][k] = stats.forced_ns;
		assert_true(stats.forced_ns <= stats.used_ns);
		assert_int_equal(stats.pending, 0);
		assert_int_equal(stats.in_flight, 0);
	}
}

static void change(struct book *b)
{
	const unsigned i = (unsigned)random_in(&b->random, 0, VGPUS);
	struct sched_vgpu_config config = random_config(b, 1);
	struct sched_account account;
	struct error e;

	something_happens(b);
	if (!sched_vgpu_account(b->gpu, b->now_ns, i, &account))
		config.identity = account.identity;
	sched_vgpu_change(b->gpu, b->now_ns, i, &config, &e);
}

static void submit_or_withdraw(struct book *b)
{
	const unsigned i = (unsigned)random_in(&b->random, 0, VGPUS);
	const unsigned k = (unsigned)random_in(&b->random, 0, SCHED_ENGINES);
	const uint64_t count = random_in(&b->random, 0, 5);
	const bool good = i < VGPUS && k < SCHED_ENGINES && b->there[i];
	int rc;

	something_happens(b);
	if (random_in(&b->random, 0, 3)) {
		rc = sched_submit(b->gpu, b->now_ns, i, (enum sched_engine)k, count);
		assert_int_equal(rc, good ? 0 : -ENOENT);
		if (good)
			b->pending[i][k] += count;
		return;
	}
	rc = sched_withdraw(b->gpu, b->now_ns, i, (enum sched_engine)k, count);
	if (!good)
		assert_int_equal(rc, -ENOENT);
	else if (count > b->pending[i][k])
		assert_int_equal(rc, -ERANGE);
	else
		b->pending[i][k] -= count;
}

static unsigned out_on(const struct book *b, unsigned engine)
{
	unsigned count = 0;

	for (unsigned i = 0; i < b->grants_count; i++)
		count += b->grants[i].engine == engine;
	return count;
}

static bool pick(struct book *b, unsigned k)
{
	const struct sched_decision d = sched_pick(b->gpu, b->now_ns, (enum sched_engine)k);

	if (!d.granted) {
		assert_true(d.next_ns > b->now_ns);
		if (k < SCHED_ENGINES)
			b->quiet_until_ns[k] = d.next_ns;
		return false;
	}
	assert_true(k < SCHED_ENGINES && d.vgpu < VGPUS && b->there[d.vgpu]);
	assert_true(b->pending[d.vgpu][k]);
	assert_true(d.slice_ns > 0);
	/* Whoever said "not before" has to keep it. */
	assert_true(b->now_ns >= b->quiet_until_ns[k]);
	for (unsigned i = 0; i < b->grants_count; i++)
		assert_true(b->grants[i].handle != d.grant);
	assert_true(d.grant != b->ended);
	b->pending[d.vgpu][k]--;
	assert_true(b->grants_count < ARRAY_SIZE(b->grants));
	b->grants[b->grants_count].handle = d.grant;
	b->grants[b->grants_count].at_ns = b->now_ns;
	b->grants[b->grants_count].engine = k;
	b->grants[b->grants_count++].vgpu = d.vgpu;
	return true;
}

static void complete(struct book *b, unsigned index)
{
	const unsigned v = b->grants[index].vgpu, k = b->grants[index].engine;
	const uint64_t elapsed_ns = b->now_ns - b->grants[index].at_ns;
	const uint64_t told_ns = random_in(&b->random, 0, 9) ? random_in(&b->random, 0, elapsed_ns)
							     : random_next(&b->random);
	struct sched_charge charge;

	something_happens(b);
	assert_int_equal(
		sched_complete(b->gpu, b->now_ns, b->grants[index].handle, told_ns, &charge), 0);
	assert_int_equal(charge.vgpu, v);
	assert_int_equal(charge.engine, k);
	assert_int_equal(charge.granted_ns, b->grants[index].at_ns);
	assert_int_equal(charge.used_ns, MIN(told_ns, elapsed_ns));
	b->used_ns[v][k] += charge.used_ns;
	b->ended = b->grants[index].handle;
	b->grants[index] = b->grants[--b->grants_count];
	assert_int_equal(sched_complete(b->gpu, b->now_ns, b->ended, 0, NULL), -ENOENT);
}

/* A grant goes on, under the same handle, if and only if nothing waits and it spends no share. */
static void settle(struct book *b, unsigned index)
{
	const unsigned v = b->grants[index].vgpu, k = b->grants[index].engine;
	const uint64_t told_ns = random_in(&b->random, 0, 9) ? random_in(&b->random, 0, 5 * MS)
							     : random_next(&b->random);
	struct sched_charge charge;
	uint64_t waiting = 0;
	int rc;

	something_happens(b);
	for (unsigned i = 0; i < VGPUS; i++)
		waiting += b->pending[i][k];
	rc = sched_settle(b->gpu, b->now_ns, b->grants[index].handle, told_ns, &charge);
	if (waiting)
		assert_int_equal(rc, -EBUSY);
	assert_true(!rc || rc == -EBUSY || rc == -EPERM || rc == -ENOSPC);
	if (rc)
		return;
	assert_int_equal(charge.used_ns, MIN(told_ns, b->now_ns - b->grants[index].at_ns));
	assert_int_equal(charge.surcharge_ns, 0);
	b->used_ns[v][k] += charge.used_ns;
	b->grants[index].at_ns = b->now_ns;
}

/* Nobody is believed to have run for longer than it has been there. */
static void force(struct book *b)
{
	const unsigned i = (unsigned)random_in(&b->random, 0, VGPUS);
	const unsigned k = (unsigned)random_in(&b->random, 0, SCHED_ENGINES);
	const uint64_t told_ns = random_in(&b->random, 0, 9) ? random_in(&b->random, 0, 20 * MS)
							     : random_next(&b->random);
	struct sched_charge charge;

	something_happens(b);
	if (i >= VGPUS || k >= SCHED_ENGINES || !b->there[i]) {
		assert_int_equal(sched_charge_forced(b->gpu, b->now_ns, i, (enum sched_engine)k,
						     told_ns, &charge),
				 -ENOENT);
		return;
	}
	assert_int_equal(
		sched_charge_forced(b->gpu, b->now_ns, i, (enum sched_engine)k, told_ns, &charge),
		0);
	assert_int_equal(charge.vgpu, i);
	assert_int_equal(charge.engine, k);
	assert_true(charge.used_ns <= told_ns);
	assert_int_equal(charge.overrun_ns, charge.used_ns);
	b->used_ns[i][k] += charge.used_ns;
	b->forced_ns[i][k] += charge.used_ns;
	assert_true(b->forced_ns[i][k] <= b->now_ns);
}

static void check_book(struct book *b)
{
	struct sched_vgpu_stats stats;

	for (unsigned i = 0; i < VGPUS; i++)
		for (unsigned k = 0; k < SCHED_ENGINES; k++) {
			unsigned out = 0;

			if (!b->there[i])
				continue;
			for (unsigned g = 0; g < b->grants_count; g++)
				out += b->grants[g].vgpu == i && b->grants[g].engine == k;
			assert_int_equal(sched_vgpu_stats(b->gpu, b->now_ns, i,
							  (enum sched_engine)k, &stats),
					 0);
			assert_int_equal(stats.pending, b->pending[i][k]);
			assert_int_equal(stats.used_ns, b->used_ns[i][k]);
			assert_int_equal(stats.forced_ns, b->forced_ns[i][k]);
			assert_int_equal(stats.in_flight, out);
			assert_true(stats.overdue <= out);
		}
}

static void step(struct book *b)
{
	struct world_random *r = &b->random;

	switch (random_in(r, 0, 17)) {
	case 0:
		join_or_leave(b);
		break;
	case 1:
		change(b);
		break;
	case 2 ... 5:
		submit_or_withdraw(b);
		break;
	case 6 ... 9:
		pick(b, (unsigned)random_in(r, 0, SCHED_ENGINES));
		break;
	case 10 ... 12:
		if (b->grants_count)
			complete(b, (unsigned)random_in(r, 0, b->grants_count - 1));
		break;
	case 13:
		assert_int_equal(sched_complete(b->gpu, b->now_ns, random_next(r), 1, NULL),
				 -ENOENT);
		assert_int_equal(sched_complete(b->gpu, b->now_ns, random_in(r, 0, 5000), 1, NULL),
				 -ENOENT);
		break;
	case 14:
		force(b);
		break;
	case 15:
		if (b->grants_count)
			settle(b, (unsigned)random_in(r, 0, b->grants_count - 1));
		assert_int_equal(sched_settle(b->gpu, b->now_ns, random_next(r), 1, NULL), -ENOENT);
		break;
	default:
		b->now_ns +=
			random_in(r, 0, 3) ? random_in(r, 0, 5 * MS) : random_in(r, 0, 400 * MS);
	}
}

/* Everything that waits gets its turn, if one only goes on; under whatever limit it is. */
static void drain(struct book *b)
{
	for (unsigned k = 0; k < SCHED_ENGINES; k++) {
		for (unsigned i = 0; i < 200000; i++) {
			uint64_t left = 0;

			for (unsigned v = 0; v < VGPUS; v++)
				left += b->pending[v][k];
			if (!left)
				break;
			if (pick(b, k))
				continue;
			if (out_on(b, k)) {
				b->now_ns += MS;
				for (unsigned g = 0; g < b->grants_count; g++)
					if (b->grants[g].engine == k) {
						complete(b, g);
						break;
					}
				continue;
			}
			/* Nothing is out: only time can help, and it has said when. */
			assert_true(b->quiet_until_ns[k] != SCHED_NEVER);
			b->now_ns = b->quiet_until_ns[k];
		}
		for (unsigned v = 0; v < VGPUS; v++)
			assert_int_equal(b->pending[v][k], 0);
	}
}

static void any_sequence_of_calls_keeps_the_books(void **state)
{
	const char *times = getenv("SCHED_LONG");
	const unsigned sequences = 60 * (times ? (unsigned)MAX(1, atoi(times)) : 1);

	for (unsigned seed = 0; seed < sequences * SCHED_MODELS; seed++) {
		struct book b = { .random = { .state = seed } };
		const struct sched_gpu_config config = {
			.model = (enum sched_model)(seed % SCHED_MODELS),
			.vgpus_max = VGPUS,
			.depth = (unsigned)random_in(&b.random, 1, 6),
			.idle_gap_ns = random_in(&b.random, 0, 1) * MS,
			.hold_max_ns = random_in(&b.random, 1, 300) * MS,
			.linger_ns = random_in(&b.random, 0, 1) * random_in(&b.random, 0, 5) * MS,
		};
		unsigned before;

		assert_int_equal(sched_gpu_create(&config, &b.gpu, NULL), 0);
		b.depth = config.depth;
		before = allocations;
		for (unsigned i = 0; i < STEPS; i++) {
			step(&b);
			if (i % 64 == 0)
				check_book(&b);
		}
		drain(&b);
		check_book(&b);
		assert_int_equal(allocations, before);
		sched_gpu_destroy(b.gpu);
	}
}

/* ---- the calls --------------------------------------------------------------------------- */

static void one_allocation_at_creation_and_none_after(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 1000, .depth = 4 };
	struct sched_gpu *gpu;
	const unsigned before = allocations;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	assert_int_equal(allocations, before + 1);
	for (unsigned i = 0; i < 1000; i++) {
		const struct sched_vgpu_config vgpu = {
			.identity = i + 1,
			.policy = (enum sched_policy)(i % SCHED_POLICIES),
			.share_ppm = 1000,
		};
		unsigned v;

		assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v, NULL), 0);
		assert_int_equal(sched_submit(gpu, 0, v, SCHED_ENGINE_GRAPHICS, 100), 0);
	}
	for (uint64_t now_ns = 0; now_ns < 1000 * MS; now_ns += MS) {
		const struct sched_decision d = sched_pick(gpu, now_ns, SCHED_ENGINE_GRAPHICS);

		if (d.granted)
			assert_int_equal(sched_complete(gpu, now_ns + MS, d.grant, MS, NULL), 0);
	}
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(sched_vgpu_leave(gpu, 2000 * MS, i, NULL), 0);
	assert_int_equal(allocations, before + 1);
	sched_gpu_destroy(gpu);
}

static void engines_and_gpus_are_apart(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2 };
	const struct sched_vgpu_config vgpu = { .identity = 9,
						.policy = SCHED_FIXED_SHARE,
						.share_ppm = 100000 };
	struct sched_vgpu_stats stats;
	struct sched_decision d;
	struct sched_gpu *gpus[2];
	unsigned v[2];

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(sched_gpu_create(&config, &gpus[i], NULL), 0);
		assert_int_equal(sched_vgpu_join(gpus[i], 0, &vgpu, NULL, &v[i], NULL), 0);
		for (unsigned k = 0; k < SCHED_ENGINES; k++)
			assert_int_equal(sched_submit(gpus[i], 0, v[i], (enum sched_engine)k, 2),
					 0);
	}
	/* An overrun on one engine of one GPU ... */
	d = sched_pick(gpus[0], 0, SCHED_ENGINE_VIDEO);
	assert_true(d.granted);
	assert_int_equal(sched_complete(gpus[0], 500 * MS, d.grant, 500 * MS, NULL), 0);
	assert_false(sched_pick(gpus[0], 500 * MS, SCHED_ENGINE_VIDEO).granted);
	/* ... is nobody else's. */
	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < SCHED_ENGINES; k++)
			if (i || k != SCHED_ENGINE_VIDEO)
				assert_true(sched_pick(gpus[i], 500 * MS, (enum sched_engine)k)
						    .granted);
	assert_int_equal(sched_vgpu_stats(gpus[0], 500 * MS, v[0], SCHED_ENGINE_COPY, &stats), 0);
	assert_int_equal(stats.used_ns, 0);
	for (unsigned i = 0; i < 2; i++)
		sched_gpu_destroy(gpus[i]);
}

static void unknown_things_are_refused(void **state)
{
	const struct sched_gpu_config config = { .vgpus_max = 2 };
	struct sched_vgpu_config vgpu = { .identity = 9, .policy = SCHED_WEIGHTED };
	struct sched_vgpu_stats stats;
	struct sched_account account;
	struct sched_gpu *gpu;
	struct error e;
	unsigned v, other;

	assert_int_equal(sched_gpu_create(&config, &gpu, NULL), 0);
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &v, NULL), 0);
	assert_int_equal(sched_vgpu_find(gpu, 9), (int)v);
	assert_int_equal(sched_vgpu_find(gpu, 8), -ENOENT);
	assert_int_equal(sched_vgpu_join(gpu, 0, &vgpu, NULL, &other, &e), -EEXIST);
	assert_string_equal(e.code, "vgpu-exists");
	vgpu.identity = 10;
	assert_int_equal(sched_vgpu_change(gpu, 0, v, &vgpu, &e), -EINVAL);
	assert_int_equal(sched_vgpu_change(gpu, 0, 2, &vgpu, &e), -ENOENT);
	assert_int_equal(sched_submit(gpu, 0, 2, SCHED_ENGINE_COPY, 1), -ENOENT);
	assert_int_equal(sched_submit(gpu, 0, v, SCHED_ENGINES, 1), -ENOENT);
	assert_int_equal(sched_submit(gpu, 0, v, SCHED_ENGINE_COPY, 1), 0);
	assert_int_equal(sched_submit(gpu, 0, v, SCHED_ENGINE_COPY, UINT64_MAX), -EOVERFLOW);
	assert_int_equal(sched_charge_forced(gpu, 0, 2, SCHED_ENGINE_COPY, 1, NULL), -ENOENT);
	assert_int_equal(sched_charge_forced(gpu, 0, v, SCHED_ENGINES, 1, NULL), -ENOENT);
	assert_int_equal(sched_withdraw(gpu, 0, v, SCHED_ENGINE_COPY, 2), -ERANGE);
	assert_int_equal(sched_withdraw(gpu, 0, v, SCHED_ENGINE_COPY, 1), 0);
	assert_false(sched_pick(gpu, 0, SCHED_ENGINE_COPY).granted);
	assert_int_equal(sched_vgpu_stats(gpu, 0, v, SCHED_ENGINES, &stats), -ENOENT);
	assert_int_equal(sched_vgpu_leave(gpu, 0, v, &account), 0);
	assert_int_equal(sched_vgpu_leave(gpu, 0, v, &account), -ENOENT);
	assert_int_equal(sched_vgpu_find(gpu, 9), -ENOENT);
	sched_gpu_destroy(gpu);
	sched_gpu_destroy(NULL);
}

static void names_are_for_people(void **state)
{
	assert_string_equal(sched_policy_name(SCHED_FIXED_SHARE), "fixed_share");
	assert_string_equal(sched_policy_name(SCHED_POLICIES), "unknown");
	assert_string_equal(sched_engine_name(SCHED_ENGINE_VIDEO), "video");
	assert_string_equal(sched_engine_name(SCHED_ENGINES), "unknown");
	assert_string_equal(sched_model_name(SCHED_MODEL_REFERENCE_NVIDIA_FIXED),
			    "reference-nvidia-fixed");
	assert_string_equal(sched_model_name(SCHED_MODELS), "unknown");
	for (unsigned i = 0; i < SCHED_MODELS; i++)
		assert_true(i == SCHED_MODEL_DIVVY ||
			    !strncmp(sched_model_name((enum sched_model)i), "reference-", 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_sequence_of_calls_keeps_the_books),
		cmocka_unit_test(one_allocation_at_creation_and_none_after),
		cmocka_unit_test(engines_and_gpus_are_apart),
		cmocka_unit_test(unknown_things_are_refused),
		cmocka_unit_test(names_are_for_people),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
