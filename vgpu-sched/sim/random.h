/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that look random and are the same for the same seed, on every machine. Private to vgpu-sched/sim/. */
#ifndef VGPU_SCHED_SIM_RANDOM_H
#define VGPU_SCHED_SIM_RANDOM_H

#include "vgpu-sched/sim/scenario.h"

struct sim_random {
	uint64_t state;
};

/* sim_random_seed() - a stream of its own for each @stream of the same @seed. */
void sim_random_seed(struct sim_random *random, uint64_t seed, uint64_t stream);
/* sim_random_length() - one length; at least 1 ns unless the length is a fixed 0. */
uint64_t sim_random_length(struct sim_random *random, const struct sim_length *length);
/* sim_random_below() - 0 to @end - 1; 0 when @end is. */
uint64_t sim_random_below(struct sim_random *random, uint64_t end);
/* sim_random_exponential() - of mean @mean_ns. */
uint64_t sim_random_exponential(struct sim_random *random, double mean_ns);

#endif
