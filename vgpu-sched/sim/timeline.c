// SPDX-License-Identifier: Apache-2.0
/*
 * A run as Perfetto shows it: a process for each GPU, in it a track for each engine (who ran on it) and one for each
 * vGPU (what it waited for).
 */
#include "vgpu-sched/sim/timeline.h"

#define VGPU_TRACKS 100 /* thread ids of vGPUs begin here */

static void name(struct sim_timeline *timeline, const char *what, unsigned gpu, unsigned track,
		 const char *text)
{
	fprintf(timeline->file,
		"{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":\"%s\"}},\n",
		what, gpu + 1, track, text);
}

void timeline_begin(struct sim_timeline *timeline)
{
	const struct sim_scenario *scenario = timeline->scenario;

	fprintf(timeline->file, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
	for (unsigned g = 0; g < scenario->gpu_count; g++) {
		name(timeline, "process_name", g, 0, scenario->gpus[g].name);
		for (unsigned e = 0; e < SCHED_ENGINES; e++)
			name(timeline, "thread_name", g, e + 1,
			     sched_engine_name((enum sched_engine)e));
	}
	for (unsigned i = 0; i < scenario->vgpu_count; i++)
		name(timeline, "thread_name", scenario->vgpus[i].gpu, VGPU_TRACKS + i,
		     scenario->vgpus[i].name);
}

static void slice(struct sim_timeline *timeline, unsigned gpu, unsigned track, const char *text,
		  uint64_t from, uint64_t to)
{
	fprintf(timeline->file,
		"{\"ph\":\"X\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f},\n",
		text, gpu + 1, track, (double)from / 1e3, (double)(to - from) / 1e3);
}

void timeline_add(struct sim_timeline *timeline, const struct timeline_run *run)
{
	if (timeline->events >= TIMELINE_EVENTS_MAX)
		return;
	timeline->events += 2;
	slice(timeline, run->gpu, run->engine + 1, timeline->scenario->vgpus[run->vgpu].name,
	      run->start_ns, run->end_ns);
	if (run->start_ns > run->submitted_ns)
		slice(timeline, run->gpu, VGPU_TRACKS + run->vgpu, "waits", run->submitted_ns,
		      run->start_ns);
}

void timeline_end(struct sim_timeline *timeline)
{
	/* The format allows no comma before the end: one last event that says how much there is. */
	fprintf(timeline->file,
		"{\"ph\":\"M\",\"name\":\"process_labels\",\"pid\":1,\"args\":{\"labels\":\"%s\"}}\n]}\n",
		timeline->events >= TIMELINE_EVENTS_MAX ? "cut after a million slices" : "whole");
}
