/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scenario file as libcyaml gives it, not yet checked: what may be left out is a pointer. Private to
 * scenario.c and scenario_schema.c.
 */
#ifndef VGPU_SCHED_SIM_SCENARIO_SCHEMA_H
#define VGPU_SCHED_SIM_SCENARIO_SCHEMA_H

#include <cyaml/cyaml.h>
#include <stdbool.h>
#include <stdint.h>

struct raw_gpu {
	char *name;
	unsigned *depth;
	char *switch_cost, *slice, *period, *idle_gap, *linger;
};

struct raw_credits {
	double *initial, *max, *surplus;
};

struct raw_workload {
	int kind;
	int engine;
	char *job, *copy, *think, *on, *off, *deadline, *start, *stop, *trace, *trace_vgpu;
	double *rate;
	unsigned *in_flight;
};

struct raw_vgpu {
	char *name, *gpu, *join, *leave;
	unsigned *count;
	int policy;
	uint64_t *weight;
	double *share, *cap;
	struct raw_credits *credits;
	struct raw_workload *workloads;
	unsigned workload_count;
};

struct raw_change {
	char *at, *vgpu, *policy;
	uint64_t *weight;
	double *share;
};

struct raw_scenario {
	char *name, *duration, *warmup;
	uint64_t *seed;
	struct raw_gpu *gpus;
	struct raw_vgpu *vgpus;
	struct raw_change *changes;
	unsigned gpu_count, vgpu_count, change_count;
};

/* Of a pointer to struct raw_scenario. */
extern const cyaml_schema_value_t scenario_schema;

#endif
