/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scenario: GPUs, vGPUs with what each was promised, what runs in them, and what changes meanwhile. Read from a
 * YAML file, checked once, and never changed afterwards. Private to vgpu-sched/sim/.
 */
#ifndef VGPU_SCHED_SIM_SCENARIO_H
#define VGPU_SCHED_SIM_SCENARIO_H

#include "vgpu-sched/vgpu-sched.h"

#define SIM_GPUS_MAX	  16
#define SIM_VGPUS_MAX	  1024
#define SIM_WORKLOADS_MAX 16   /* of one vGPU */
#define SIM_EVENTS_MAX	  1024 /* changes while it runs */
#define SIM_DURATION_MAX  (UINT64_C(24) * 3600 * NSEC_PER_SEC)

enum sim_shape {
	SIM_FIXED,	 /* a */
	SIM_UNIFORM,	 /* from a to b */
	SIM_EXPONENTIAL, /* of mean a */
	SIM_PARETO,	 /* at least a, tail index shape, cut at b */
	SIM_LOGNORMAL,	 /* median a, sigma shape, cut at b */
};

/* How long something takes, in nanoseconds. */
struct sim_length {
	enum sim_shape shape;
	uint64_t a_ns, b_ns;
	double parameter;
};

enum sim_workload_kind {
	SIM_CLOSED, /* @in_flight jobs at any time, the next @think after one is done */
	SIM_OPEN,   /* arrivals at random, @rate a second, whatever was answered */
	SIM_FRAMES, /* every 1/@rate s one job, due before the next; a late one is missed, not queued */
	SIM_STEPS,  /* training: copy in, compute, then the CPU for @think */
	SIM_BURSTS, /* closed, for @on at a time, then silent for @off */
	SIM_TRACE,  /* arrivals and lengths of a recording */
};

struct sim_trace_job {
	uint64_t at_ns, length_ns;
	enum sched_engine engine;
};

struct sim_workload {
	enum sim_workload_kind kind;
	enum sched_engine engine;
	struct sim_length job, copy, think;
	double rate; /* a second */
	unsigned in_flight;
	uint64_t on_ns, off_ns, deadline_ns, start_ns, stop_ns;
	struct sim_trace_job *trace; /* owned by the scenario */
	unsigned trace_count;
};

struct sim_vgpu {
	char name[48];
	unsigned gpu;
	enum sched_policy policy;
	uint32_t weight;
	double share; /* fixed share, or burst's baseline: 0 to 1 */
	double cap;   /* fixed share: how far an idle GPU may be used; 0: not beyond the share */
	double credits, credits_max, surplus_max; /* burst: GPU minutes */
	unsigned definition;			  /* which entry of the file it comes from */
	uint64_t join_ns, leave_ns;		  /* 0, 0: from begin to end */
	unsigned workload_count;
	struct sim_workload workloads[SIM_WORKLOADS_MAX];
};

struct sim_gpu {
	char name[48];
	unsigned depth;	    /* submissions in flight at once on an engine */
	uint64_t switch_ns; /* what it costs to change to another vGPU */
	uint64_t slice_ns, period_ns, idle_gap_ns,
		linger_ns; /* as of struct sched_gpu_config; 0: its defaults */
};

/* A change while the scenario runs; what is negative stays as it is. */
struct sim_change {
	uint64_t at_ns;
	unsigned vgpu;
	int policy;
	int64_t weight;
	double share;
};

struct sim_scenario {
	char name[80];
	uint64_t seed, duration_ns, warmup_ns;
	unsigned gpu_count, vgpu_count, change_count;
	struct sim_gpu gpus[SIM_GPUS_MAX];
	struct sim_vgpu *vgpus;
	struct sim_change *changes; /* in order of time */
};

/*
 * sim_scenario_load() - read and check @path; traces it names are seen from its folder.
 * Errors: "scenario-unreadable", "bad-scenario" (file, line, key and what is wrong with it), "bad-trace".
 */
int sim_scenario_load(const char *path, struct sim_scenario **out, struct error *e);
/*
 * sim_scenario_parse() - the same from memory, for tests and fuzzing.
 * @name: of the file, for messages; traces are seen from its folder
 */
int sim_scenario_parse(const char *text, size_t size, const char *name, struct sim_scenario **out,
		       struct error *e);
void sim_scenario_free(struct sim_scenario *scenario);

/* sim_duration_parse() - "2ms", "16.7 ms", "1min" to nanoseconds. Returns 0 or -EINVAL. */
int sim_duration_parse(const char *text, uint64_t *ns);
/* sim_length_parse() - "2ms", "uniform 1ms 5ms", "exponential 2ms", "pareto 1ms 1.5 50ms", "lognormal 2ms 0.5 50ms" */
int sim_length_parse(const char *text, struct sim_length *length);
/* sim_policy_parse() - a policy's word. Returns it or -EINVAL. */
int sim_policy_parse(const char *text);

/*
 * sim_trace_parse() - a recording: CSV, first line the names of its columns, of which when_ns, vgpu, engine, waited_ns and
 * ran_ns are used; the rows of @vgpu ("": all) become jobs that arrive waited_ns before when_ns.
 * @jobs: calloc()ed for the caller
 */
int sim_trace_parse(const char *text, size_t size, const char *name, const char *vgpu,
		    struct sim_trace_job **jobs, unsigned *count, struct error *e);

#endif
