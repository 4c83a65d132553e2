// SPDX-License-Identifier: Apache-2.0
/*
 * How far it is with what takes long: the clone of a disk, the memory of a guest that is taken at once, the reset of whole GPUs. It is looked at when
 * somebody asks, and told in an event now and then.
 */
#include <string.h>

#include "instances/daemon/private.h"

#define TELL_MS 10000

static bool of_disks(const struct instance *instance, struct progress *progress)
{
	const struct launch_progress *clone;

	/* Before, its image is measured. */
	if (!instance->job || !instance->making.size_bytes)
		return false;
	clone = job_result(instance->job);
	*progress = (struct progress){
		.what = "disks",
		.unit = "bytes",
		.done = __atomic_load_n(&clone->done_bytes, __ATOMIC_RELAXED),
		.total = __atomic_load_n(&clone->total_bytes, __ATOMIC_RELAXED),
	};
	return true;
}

/* Who has a whole GPU, or huge pages, has all of its memory before it runs. */
static bool of_memory(struct instance *instance, struct progress *progress)
{
	const struct process *vmm = instance_process(instance, "vmm");

	if (!vmm || !(type_is_dedicated(&instance->type) || instance->type.huge_page))
		return false;
	*progress = (struct progress){
		.what = "memory",
		.unit = "bytes",
		.done = launch_memory_bytes(&vmm->process),
		.total = instance->type.memory_mib * MIB,
	};
	return true;
}

static bool of_resets(const struct instance *instance, struct progress *progress)
{
	const struct device_result *results;
	unsigned at = 0;

	if (!instance->job)
		return false;
	results = job_result(instance->job);
	*progress = (struct progress){ .what = "reset", .unit = "functions" };
	for (unsigned i = 0; i < instance->part_count; i++) {
		if (!instance->parts[i].dedicated)
			continue;
		progress->done += __atomic_load_n(&results[at++].tried, __ATOMIC_RELAXED);
		/* Addresses with blanks between; a mediated device has none. */
		progress->total += instance->parts[i].functions[0] != '\0';
		for (const char *c = instance->parts[i].functions; *c; c++)
			progress->total += *c == ' ';
	}
	return true;
}

bool instance_progress(struct instance *instance, struct progress *progress)
{
	bool any = instance->step == STEP_DISKS	  ? of_disks(instance, progress)
		   : instance->step == STEP_VMM	  ? of_memory(instance, progress)
		   : instance->step == STEP_RESET ? of_resets(instance, progress)
						  : false;

	if (!any || !progress->total)
		return false;
	progress->done = MIN(progress->done, progress->total);
	return true;
}

static void tell(struct instance *instance)
{
	struct progress progress;

	instance->told_ns = monotonic_ns();
	if (!instance_progress(instance, &progress))
		return;
	if (!strcmp(progress.unit, "bytes"))
		event_instance(instance, "progress", "%s: %llu of %llu MiB", progress.what,
			       (unsigned long long)(progress.done / MIB),
			       (unsigned long long)(progress.total / MIB));
	else
		event_instance(instance, "progress", "%s: %llu of %llu %s", progress.what,
			       (unsigned long long)progress.done,
			       (unsigned long long)progress.total, progress.unit);
}

void progress_tell(struct instance *instance)
{
	if (monotonic_ns() - instance->told_ns >= TELL_MS * UINT64_C(1000000))
		tell(instance);
}

static int on_time(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct instance *instance = opaque;

	tell(instance);
	instance_timer(instance, TELL_MS, on_time);
	return 0;
}

void progress_watch(struct instance *instance)
{
	instance_timer(instance, TELL_MS, on_time);
}
