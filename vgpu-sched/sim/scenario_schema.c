// SPDX-License-Identifier: Apache-2.0
/* The words of a scenario file: which keys there are, of what type, and which must be there. */
#include "vgpu-sched/sim/scenario.h"
#include "vgpu-sched/sim/scenario_schema.h"

static const cyaml_strval_t kind_words[] = {
	{ "closed", SIM_CLOSED }, { "open", SIM_OPEN },	    { "frames", SIM_FRAMES },
	{ "steps", SIM_STEPS },	  { "bursts", SIM_BURSTS }, { "trace", SIM_TRACE },
};
static const cyaml_strval_t engine_words[] = {
	{ "graphics", SCHED_ENGINE_GRAPHICS },
	{ "copy", SCHED_ENGINE_COPY },
	{ "video", SCHED_ENGINE_VIDEO },
};
static const cyaml_strval_t policy_words[] = {
	{ "best_effort", SCHED_BEST_EFFORT },
	{ "equal_share", SCHED_EQUAL_SHARE },
	{ "fixed_share", SCHED_FIXED_SHARE },
	{ "weighted", SCHED_WEIGHTED },
	{ "burst", SCHED_BURST },
};

#define OPTIONAL		    (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT_MAX		    200
#define ANY_TEXT(key, type, member) CYAML_FIELD_STRING_PTR(key, OPTIONAL, type, member, 0, TEXT_MAX)
#define NEED_TEXT(key, type, member) \
	CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER, type, member, 1, TEXT_MAX)

static const cyaml_schema_field_t gpu_fields[] = {
	NEED_TEXT("name", struct raw_gpu, name),
	CYAML_FIELD_UINT_PTR("depth", OPTIONAL, struct raw_gpu, depth),
	ANY_TEXT("switch", struct raw_gpu, switch_cost),
	ANY_TEXT("slice", struct raw_gpu, slice),
	ANY_TEXT("period", struct raw_gpu, period),
	ANY_TEXT("idle_gap", struct raw_gpu, idle_gap),
	ANY_TEXT("linger", struct raw_gpu, linger),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t gpu_value = { CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT,
								    struct raw_gpu, gpu_fields) };

static const cyaml_schema_field_t credits_fields[] = {
	CYAML_FIELD_FLOAT_PTR("initial", OPTIONAL, struct raw_credits, initial),
	CYAML_FIELD_FLOAT_PTR("max", OPTIONAL, struct raw_credits, max),
	CYAML_FIELD_FLOAT_PTR("surplus", OPTIONAL, struct raw_credits, surplus),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t workload_fields[] = {
	CYAML_FIELD_ENUM("kind", CYAML_FLAG_STRICT, struct raw_workload, kind, kind_words,
			 CYAML_ARRAY_LEN(kind_words)),
	CYAML_FIELD_ENUM("engine", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct raw_workload,
			 engine, engine_words, CYAML_ARRAY_LEN(engine_words)),
	ANY_TEXT("job", struct raw_workload, job),
	ANY_TEXT("copy", struct raw_workload, copy),
	ANY_TEXT("think", struct raw_workload, think),
	ANY_TEXT("on", struct raw_workload, on),
	ANY_TEXT("off", struct raw_workload, off),
	ANY_TEXT("deadline", struct raw_workload, deadline),
	ANY_TEXT("start", struct raw_workload, start),
	ANY_TEXT("stop", struct raw_workload, stop),
	ANY_TEXT("trace", struct raw_workload, trace),
	ANY_TEXT("trace_vgpu", struct raw_workload, trace_vgpu),
	CYAML_FIELD_FLOAT_PTR("rate", OPTIONAL, struct raw_workload, rate),
	CYAML_FIELD_UINT_PTR("in_flight", OPTIONAL, struct raw_workload, in_flight),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t workload_value = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct raw_workload, workload_fields) };

static const cyaml_schema_field_t vgpu_fields[] = {
	NEED_TEXT("name", struct raw_vgpu, name),
	ANY_TEXT("gpu", struct raw_vgpu, gpu),
	ANY_TEXT("join", struct raw_vgpu, join),
	ANY_TEXT("leave", struct raw_vgpu, leave),
	CYAML_FIELD_UINT_PTR("count", OPTIONAL, struct raw_vgpu, count),
	CYAML_FIELD_ENUM("policy", CYAML_FLAG_STRICT, struct raw_vgpu, policy, policy_words,
			 CYAML_ARRAY_LEN(policy_words)),
	CYAML_FIELD_UINT_PTR("weight", OPTIONAL, struct raw_vgpu, weight),
	CYAML_FIELD_FLOAT_PTR("share", OPTIONAL, struct raw_vgpu, share),
	CYAML_FIELD_FLOAT_PTR("cap", OPTIONAL, struct raw_vgpu, cap),
	CYAML_FIELD_MAPPING_PTR("credits", OPTIONAL, struct raw_vgpu, credits, credits_fields),
	CYAML_FIELD_SEQUENCE_COUNT("workloads", CYAML_FLAG_POINTER, struct raw_vgpu, workloads,
				   workload_count, &workload_value, 1, SIM_WORKLOADS_MAX),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t vgpu_value = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct raw_vgpu, vgpu_fields) };

static const cyaml_schema_field_t change_fields[] = {
	NEED_TEXT("at", struct raw_change, at),
	NEED_TEXT("vgpu", struct raw_change, vgpu),
	ANY_TEXT("policy", struct raw_change, policy),
	CYAML_FIELD_UINT_PTR("weight", OPTIONAL, struct raw_change, weight),
	CYAML_FIELD_FLOAT_PTR("share", OPTIONAL, struct raw_change, share),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t change_value = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct raw_change, change_fields) };

static const cyaml_schema_field_t scenario_fields[] = {
	NEED_TEXT("name", struct raw_scenario, name),
	NEED_TEXT("duration", struct raw_scenario, duration),
	ANY_TEXT("warmup", struct raw_scenario, warmup),
	CYAML_FIELD_UINT_PTR("seed", OPTIONAL, struct raw_scenario, seed),
	CYAML_FIELD_SEQUENCE_COUNT("gpus", CYAML_FLAG_POINTER, struct raw_scenario, gpus, gpu_count,
				   &gpu_value, 1, SIM_GPUS_MAX),
	CYAML_FIELD_SEQUENCE_COUNT("vgpus", CYAML_FLAG_POINTER, struct raw_scenario, vgpus,
				   vgpu_count, &vgpu_value, 1, SIM_VGPUS_MAX),
	CYAML_FIELD_SEQUENCE_COUNT("changes", OPTIONAL, struct raw_scenario, changes, change_count,
				   &change_value, 0, SIM_EVENTS_MAX),
	CYAML_FIELD_END,
};
const cyaml_schema_value_t scenario_schema = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_POINTER, struct raw_scenario, scenario_fields) };
