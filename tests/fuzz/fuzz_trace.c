// SPDX-License-Identifier: Apache-2.0
/* Recordings from strangers: refused in words, or jobs in order of their arrival. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "vgpu-sched/sim/scenario.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sim_trace_job *jobs = NULL;
	struct error e = { 0 };
	unsigned count = 0;

	if (sim_trace_parse((const char *)data, size, "fuzz", "", &jobs, &count, &e)) {
		if (!e.text[0])
			abort();
		return 0;
	}
	if (!count || jobs[0].at_ns)
		abort();
	for (unsigned i = 1; i < count; i++)
		if (jobs[i].at_ns < jobs[i - 1].at_ns)
			abort();
	free(jobs);
	return 0;
}
