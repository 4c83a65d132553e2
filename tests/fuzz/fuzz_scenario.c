// SPDX-License-Identifier: Apache-2.0
/*
 * Scenario files from strangers: whatever the bytes, they are refused in words or are a scenario that runs to its end (cut to
 * a tenth of a second here).
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vgpu-sched/sim/run.h"

#define RUN_NS	      (NSEC_PER_SEC / 10)
#define RATE_SUM_MAX  1e5 /* arrivals a second: more only takes time */
#define VGPUS_RUN_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool worth_running(struct sim_scenario *scenario)
{
	double rates = 0;

	if (scenario->vgpu_count > VGPUS_RUN_MAX || scenario->warmup_ns >= RUN_NS)
		return false;
	scenario->duration_ns = MIN(scenario->duration_ns, RUN_NS);
	for (unsigned i = 0; i < scenario->vgpu_count; i++)
		for (unsigned w = 0; w < scenario->vgpus[i].workload_count; w++) {
			struct sim_workload *workload = &scenario->vgpus[i].workloads[w];

			rates += workload->rate;
			/* Jobs of nanoseconds are right, and a hundred million of them. */
			workload->job.a_ns = MAX(workload->job.a_ns, 10000);
			workload->job.b_ns = MAX(workload->job.b_ns, workload->job.a_ns);
			if (workload->job.shape == SIM_EXPONENTIAL)
				workload->job.shape = SIM_FIXED;
		}
	return rates <= RATE_SUM_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sim_run_options options = { .model = SCHED_MODEL_DIVVY,
						 .policy = -1,
						 .alone = -1 };
	struct sim_scenario *scenario = NULL;
	struct sim_result *result;
	struct error e = { 0 };

	/* It would open whatever file a trace names. */
	if (memmem(data, size, "trace", 5))
		return -1;
	if (sim_scenario_parse((const char *)data, size, "fuzz", &scenario, &e)) {
		if (!e.text[0])
			abort();
		return 0;
	}
	if (worth_running(scenario) && !sim_run(scenario, &options, &result, &e))
		sim_result_free(result);
	sim_scenario_free(scenario);
	return 0;
}
