// SPDX-License-Identifier: Apache-2.0
/*
 * What a decision of the scheduler costs: one round is sched_pick(), sched_complete() and the
 * sched_submit() of the next, with every vGPU always at work (the worst case for the heaps). Time is the
 * thread's own (CLOCK_THREAD_CPUTIME_ID), so that other work on the machine counts only as far as it
 * disturbs caches. Memory is the one allocation.
 */
#include <malloc.h>
#include <stdlib.h>
#include <time.h>

#include "tests/bench/bench.h"
#include "vgpu-sched/vgpu-sched.h"

#define RUNS   9u
#define ROUNDS 100000u

static struct sched_gpu *make_gpu(enum sched_model model, unsigned vgpus, bool mixed)
{
	const struct sched_gpu_config config = { .model = model, .vgpus_max = vgpus, .depth = 2 };
	struct sched_gpu *gpu;
	struct error e;
	unsigned v;

	if (sched_gpu_create(&config, &gpu, &e)) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	for (unsigned i = 0; i < vgpus; i++) {
		const struct sched_vgpu_config vgpu = {
			.identity = i + 1,
			.policy = mixed ? (enum sched_policy)(i % SCHED_POLICIES) : SCHED_WEIGHTED,
			.weight = 1 + i % 17,
			.share_ppm = SCHED_PPM / vgpus / 2 + 1,
			.credit_max_ns = SCHED_CREDIT_NS,
		};

		if (sched_vgpu_join(gpu, 0, &vgpu, NULL, &v, &e) ||
		    sched_submit(gpu, 0, v, SCHED_ENGINE_GRAPHICS, 2)) {
			fprintf(stderr, "%s\n", e.text);
			exit(1);
		}
	}
	return gpu;
}

/* Rounds of jobs of 0.1 to 1 ms, two in flight. Returns how many were granted. */
static unsigned rounds(struct sched_gpu *gpu, unsigned count, uint64_t *now_ns, uint32_t *seed)
{
	uint64_t grants[2];
	unsigned vgpus[2], out = 0, granted = 0;

	for (unsigned i = 0; i < count; i++) {
		struct sched_decision d = sched_pick(gpu, *now_ns, SCHED_ENGINE_GRAPHICS);

		if (d.granted) {
			grants[out] = d.grant;
			vgpus[out++] = d.vgpu;
			granted++;
		} else if (!out) {
			*now_ns = d.next_ns;
			continue;
		}
		if (out < 2 && d.granted)
			continue;
		*seed = *seed * 1664525 + 1013904223;
		const uint64_t used_ns = 100000 + *seed % 900000;

		*now_ns += used_ns;
		sched_complete(gpu, *now_ns, grants[0], used_ns, NULL);
		sched_submit(gpu, *now_ns, vgpus[0], SCHED_ENGINE_GRAPHICS, 1);
		grants[0] = grants[1];
		vgpus[0] = vgpus[1];
		out--;
	}
	while (out--)
		sched_complete(gpu, *now_ns, grants[out], 0, NULL);
	return granted;
}

static double thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void measure(enum sched_model model, unsigned vgpus, bool mixed)
{
	struct sched_gpu *gpu = make_gpu(model, vgpus, mixed);
	uint64_t now_ns = 0;
	double each[RUNS];
	uint32_t seed = 1;
	char name[96];

	rounds(gpu, ROUNDS / 10, &now_ns, &seed);
	for (unsigned i = 0; i < RUNS; i++) {
		const double begin_ns = thread_ns();
		const unsigned granted = rounds(gpu, ROUNDS, &now_ns, &seed);

		each[i] = (thread_ns() - begin_ns) / (granted ? granted : 1);
	}
	snprintf(name, sizeof(name), "%s, %u vGPUs, %s", sched_model_name(model), vgpus,
		 mixed ? "all five policies" : "weighted");
	bench_result(name, "ns/decision", each, RUNS);
	sched_gpu_destroy(gpu);
}

int main(void)
{
	static const unsigned sizes[] = { 1, 10, 100, 1000, 4000 };

	for (unsigned mixed = 0; mixed < 2; mixed++)
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
			measure(SCHED_MODEL_DIVVY, sizes[i], mixed);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct sched_gpu *gpu = make_gpu(SCHED_MODEL_DIVVY, sizes[i], false);
		double kib = (double)malloc_usable_size(gpu) / 1024;
		char name[64];

		snprintf(name, sizeof(name), "memory, %u vGPUs on three engines", sizes[i]);
		bench_result(name, "KiB", &kib, 1);
		sched_gpu_destroy(gpu);
	}
	return 0;
}
