// SPDX-License-Identifier: Apache-2.0
/*
 * SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014), and the distributions of job
 * lengths over it. Not the C library's: a scenario must give the same run everywhere.
 */
#include <math.h>

#include "vgpu-sched/sim/random.h"

#define STREAM_STEP UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio, the paper's increment */

static uint64_t next(struct sim_random *random)
{
	uint64_t z = random->state += STREAM_STEP;

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* In (0, 1]: its logarithm exists. */
static double unit(struct sim_random *random)
{
	return (double)((next(random) >> 11) + 1) * 0x1p-53;
}

void sim_random_seed(struct sim_random *random, uint64_t seed, uint64_t stream)
{
	struct sim_random first = { seed };
	struct sim_random second = { next(&first) ^ stream };

	random->state = next(&second);
}

uint64_t sim_random_below(struct sim_random *random, uint64_t end)
{
	return end ? next(random) % end : 0;
}

uint64_t sim_random_exponential(struct sim_random *random, double mean_ns)
{
	double value = -log(unit(random)) * mean_ns;

	return value >= (double)SIM_DURATION_MAX ? SIM_DURATION_MAX : (uint64_t)value;
}

uint64_t sim_random_length(struct sim_random *random, const struct sim_length *length)
{
	double a = (double)length->a_ns, b = (double)length->b_ns, value = a;

	switch (length->shape) {
	case SIM_FIXED:
		return length->a_ns;
	case SIM_UNIFORM:
		value = a + (b - a) * unit(random);
		break;
	case SIM_EXPONENTIAL:
		value = -log(unit(random)) * a;
		break;
	case SIM_PARETO:
		value = fmin(a / pow(unit(random), 1 / length->parameter), b);
		break;
	case SIM_LOGNORMAL: {
		/* Box and Muller */
		double radius = sqrt(-2 * log(unit(random))), angle = 2 * M_PI * unit(random);

		value = fmin(a * exp(length->parameter * radius * cos(angle)), b);
		break;
	}
	}
	return value < 1			   ? 1
	       : value >= (double)SIM_DURATION_MAX ? SIM_DURATION_MAX
						   : (uint64_t)value;
}
