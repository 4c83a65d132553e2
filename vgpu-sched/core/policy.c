// SPDX-License-Identifier: Apache-2.0
/*
 * The policies: one row each of what a vGPU under it may say and where it runs. A configuration
 * becomes terms (weights, buckets) once, when it is made or changed; decisions read only those.
 */
#include "vgpu-sched/core/core.h"

#include <errno.h>

static const struct policy {
	const char *name;
	enum rank rank;
	bool limited, guaranteed; /* which buckets it passes */
	bool weight, share;	  /* what the configuration has to say */
} policies[SCHED_POLICIES] = {
	[SCHED_BEST_EFFORT] = { "best_effort", RANK_BEST_EFFORT },
	[SCHED_EQUAL_SHARE] = { "equal_share", RANK_SHARED },
	[SCHED_FIXED_SHARE] = { "fixed_share", RANK_GUARANTEED, .limited = true, .share = true },
	[SCHED_WEIGHTED] = { "weighted", RANK_SHARED, .weight = true },
	[SCHED_BURST] = { "burst", RANK_SHARED, .limited = true, .guaranteed = true, .weight = true,
			  .share = true },
};
/* fixed_share with elastic time. */
static const struct policy elastic = { "fixed_share", RANK_ELASTIC, .limited = true,
				       .guaranteed = true, .share = true };

static const struct policy *policy_of(const struct sched_vgpu_config *config)
{
	if (config->policy == SCHED_FIXED_SHARE && config->elastic_ppm)
		return &elastic;
	return &policies[config->policy];
}

const char *sched_policy_name(enum sched_policy policy)
{
	return (unsigned)policy < SCHED_POLICIES ? policies[policy].name : "unknown";
}

int policy_check(struct sched_vgpu_config *config, struct error *e)
{
	if (!config->identity)
		return error_set(e, EINVAL, "vgpu-identity", NULL, "a vGPU's identity is 0");
	if ((unsigned)config->policy >= SCHED_POLICIES)
		return error_set(e, EINVAL, "vgpu-policy", NULL, "vGPU %llu: there is no policy %u",
				 (unsigned long long)config->identity, (unsigned)config->policy);
	const struct policy *policy = policy_of(config);

	if (!config->weight)
		config->weight = SCHED_WEIGHT_NORMAL;
	if (config->weight > SCHED_WEIGHT_MAX)
		return error_set(
			e, EINVAL, "vgpu-weight", NULL, "vGPU %llu: weight %u is not in 1 to %u",
			(unsigned long long)config->identity, config->weight, SCHED_WEIGHT_MAX);
	if (policy->share && (!config->share_ppm || config->share_ppm > SCHED_PPM))
		return error_set(
			e, EINVAL, "vgpu-share", NULL,
			"vGPU %llu: %s needs a share above 0 %% and up to 100 %%, not %.4f %%",
			(unsigned long long)config->identity, policy->name,
			config->share_ppm / 1e4);
	if (policy == &elastic && config->elastic_ppm > SCHED_PPM - config->share_ppm)
		return error_set(
			e, EINVAL, "vgpu-elastic", NULL,
			"vGPU %llu: share %.4f %% and elastic time %.4f %% are more than 100 %%",
			(unsigned long long)config->identity, config->share_ppm / 1e4,
			config->elastic_ppm / 1e4);
	return 0;
}

uint32_t policy_guaranteed_ppm(const struct sched_vgpu_config *config)
{
	return policies[config->policy].share ? config->share_ppm : 0;
}

void policy_terms(const struct sched_gpu_config *gpu, const struct sched_vgpu_config *config,
		  struct terms *terms)
{
	const struct policy *policy = policy_of(config);

	*terms = (struct terms){
		.rank = policy->rank,
		.limited = policy->limited,
		.guaranteed = policy->guaranteed,
	};
	terms->weights[policy->rank] = policy->share && !policy->weight ? config->share_ppm
				       : policy->weight			? config->weight
									: SCHED_WEIGHT_NORMAL;
	if (policy->guaranteed) {
		terms->weights[RANK_GUARANTEED] = config->share_ppm;
		terms->guaranteed_ppm = config->share_ppm;
		terms->guaranteed_cap = (wide)gpu->period_ns * config->share_ppm;
	}
	if (config->policy == SCHED_BURST) {
		terms->limit_ppm = config->share_ppm;
		terms->limit_cap =
			MAX((wide)config->credit_max_ns * SCHED_PPM, terms->guaranteed_cap);
		terms->limit_floor = -(wide)config->surplus_max_ns * SCHED_PPM;
	} else if (policy->limited) {
		terms->limit_ppm = config->share_ppm + config->elastic_ppm;
		terms->limit_cap = (wide)gpu->period_ns * terms->limit_ppm;
	}
}
