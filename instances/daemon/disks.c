// SPDX-License-Identifier: Apache-2.0
/*
 * An instance's disks, while it starts: what its image wants is measured, held against what is there and what was promised, and cloned. Measuring
 * and cloning are children's, since an image may lie where one waits for it; judging is not, so that two who start at once do not both get the last
 * room.
 *
 * A disk is promised whole: what guests have not written yet of theirs is not there for anybody else. With thin_disks only what is written
 * now has to fit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "instances/daemon/private.h"

#define MEASURE_MS 60000u
#define CLONE_MS   (30u * 60 * 1000)
#define USER_SHARES \
	4 /* of the file system, one user may have one part where the configuration says nothing */

struct disks {
	const struct launch_places *places;
	struct launch_instance instance;
};

/* ---- room ------------------------------------------------------------------------------------------- */

static uint64_t cloned(const struct instance *instance)
{
	const struct launch_progress *progress = instance->job ? job_result(instance->job) : NULL;

	return progress ? __atomic_load_n(&progress->done_bytes, __ATOMIC_RELAXED) : 0;
}

/* Its disks, as long as they are or will be; and what of that is not written yet but may be. */
static uint64_t taken(const struct instance *instance, uint64_t *unwritten)
{
	const bool thin = instance->daemon->config.thin_disks;
	struct launch_room held;
	uint64_t left;

	if (instance->making.size_bytes) {
		left = thin ? instance->making.data_bytes : instance->making.unwritten_bytes;
		*unwritten = left - MIN(left, cloned(instance));
		return instance->making.size_bytes;
	}
	launch_disks_held(&instance->daemon->places, instance->row.name, &held);
	*unwritten = thin ? 0 : held.size_bytes - held.data_bytes;
	return held.size_bytes;
}

static int no_room(const struct instance *instance, uint64_t wanted, uint64_t promised,
		   uint64_t left, struct error *e)
{
	return error_set(
		e, ENOSPC, "disk-space-short", "divvy list instances; thin_disks: in divvyd.yaml",
		"%s: its disks take %llu MiB; of %s %llu MiB are left, of which %llu are promised to disks that are there",
		instance->row.name, (unsigned long long)(wanted / MIB),
		instance->daemon->places.state, (unsigned long long)(left / MIB),
		(unsigned long long)(promised / MIB));
}

static int room_take(struct instance *instance, const struct launch_room *need, struct error *e)
{
	const struct daemon *daemon = instance->daemon;
	const bool limited = instance->row.owner && instance->row.owner != geteuid();
	const uint64_t wanted = daemon->config.thin_disks ? need->data_bytes : need->size_bytes;
	uint64_t promised = 0, his = 0, unwritten, limit, left;
	struct launch_room held;
	struct statvfs fs;

	/* What it has it may use, however little is left and whoever took that. */
	if (!need->size_bytes)
		return 0;
	if (statvfs(daemon->places.state, &fs) < 0)
		return error_set(e, errno, "disk-full", NULL, "%s: %s", daemon->places.state,
				 strerror(errno));
	left = (uint64_t)fs.f_bavail * fs.f_frsize;
	limit = daemon->config.disk_mib_per_user
			? (uint64_t)daemon->config.disk_mib_per_user * MIB
			: (uint64_t)fs.f_blocks * fs.f_frsize / USER_SHARES;
	for (unsigned i = 0; i < daemon->instance_count; i++) {
		const uint64_t size = taken(daemon->instances[i], &unwritten);

		promised = add_saturated(promised, unwritten);
		if (daemon->instances[i]->row.owner == instance->row.owner)
			his = add_saturated(his, size);
	}
	if (limited && (his > limit || need->size_bytes > limit - his))
		return error_set(
			e, EDQUOT, "too-much-disk",
			"divvy list instances; disk_mib_per_user: in divvyd.yaml",
			"%s: its disks take %llu MiB, and its owner has %llu of the %llu MiB that one may have",
			instance->row.name, (unsigned long long)(need->size_bytes / MIB),
			(unsigned long long)(his / MIB), (unsigned long long)(limit / MIB));
	if (promised > left || wanted > left - promised)
		return no_room(instance, wanted, promised, left, e);
	launch_disks_held(&daemon->places, instance->row.name, &held);
	instance->making.size_bytes = add_saturated(held.size_bytes, need->size_bytes);
	instance->making.unwritten_bytes =
		add_saturated(held.size_bytes - held.data_bytes, need->size_bytes);
	instance->making.data_bytes = need->data_bytes;
	return 0;
}

/* ---- steps ------------------------------------------------------------------------------------------ */

static int measure_work(void *opaque, void *result, struct error *e)
{
	struct disks *disks = opaque;

	return launch_disks_measure(disks->places, &disks->instance, result, e);
}

static int clone_work(void *opaque, void *result, struct error *e)
{
	struct disks *disks = opaque;

	return launch_disks(disks->places, &disks->instance, result, e);
}

static void on_cloned(void *opaque, int err, const void *result, const struct error *e)
{
	struct instance *instance = opaque;

	instance->job = NULL;
	if (err)
		instance_end(instance, STORE_FAILED, e);
	else
		start_continue(instance, STEP_ARBITER);
}

/* @need: what was measured; NULL: nothing yet. */
static int job_begin(struct instance *instance, const struct launch_room *need, job_work *work,
		     unsigned timeout_ms, job_done *done, struct error *e)
{
	struct disks *disks = calloc(1, sizeof(*disks));
	int err;

	if (!disks)
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for its disks");
	disks->places = &instance->daemon->places;
	instance_describe(instance, &disks->instance);
	disks->instance.disks_measured = need != NULL;
	disks->instance.disk_most_bytes = need ? need->size_bytes : 0;
	/* The child has a copy of its own. */
	err = job_run(instance->daemon, work, disks, timeout_ms, done, instance, &instance->job, e);
	free(disks);
	return err;
}

static void on_measured(void *opaque, int err, const void *result, const struct error *why)
{
	struct instance *instance = opaque;
	struct error e = { 0 };

	instance->job = NULL;
	if (err) {
		instance_end(instance, STORE_FAILED, why);
		return;
	}
	err = room_take(instance, result, &e);
	if (!err)
		err = job_begin(instance, result, clone_work, CLONE_MS, on_cloned, &e);
	if (err)
		instance_end(instance, STORE_FAILED, &e);
	else
		progress_watch(instance);
}

void disks_begin(struct instance *instance)
{
	struct launch_instance *launch = calloc(1, sizeof(*launch));
	struct error e = { 0 };
	int err = launch ? 0 : error_set(&e, ENOMEM, "no-memory", NULL, "no memory for its disks");

	if (!err) {
		instance_describe(instance, launch);
		err = launch_folders(&instance->daemon->places, launch, &e);
	}
	free(launch);
	if (!err)
		err = job_begin(instance, NULL, measure_work, MEASURE_MS, on_measured, &e);
	if (err)
		instance_end(instance, STORE_FAILED, &e);
}
