// SPDX-License-Identifier: Apache-2.0
/*
 * Whole GPUs after a tenant: each function is reset, must answer as itself, with the link that it had; else the GPU is set aside until
 * somebody has looked at it. Then those go back to their drivers that were bound for it. All of it in children, since any of it may hang in
 * the kernel; between the two it is written down what the resets said, for a daemon that finds a GPU with the host's driver.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/daemon/device.h"
#include "vfio/vfio.h"

#define RELEASE_MS     180000
#define LINGER_MS      30000 /* so long a step that was cut off may take to end */
#define LINGER_LOOK_MS 20

/* ---- in a child ---------------------------------------------------------------------------------------- */

static bool link_worse(const char *before, const char *after)
{
	double speed[2] = { 0, 0 };
	unsigned width[2] = { 0, 0 };
	const char *x[2] = { strrchr(before, 'x'), strrchr(after, 'x') };

	if (!before[0] || !after[0] || !x[0] || !x[1])
		return false;
	speed[0] = strtod(before, NULL);
	speed[1] = strtod(after, NULL);
	width[0] = (unsigned)strtoul(x[0] + 1, NULL, 10);
	width[1] = (unsigned)strtoul(x[1] + 1, NULL, 10);
	/* An idle link may be slow to save power: its width is what a bad reset takes. */
	return width[1] < width[0] || (speed[1] <= 0 && speed[0] > 0);
}

/*
 * All-ones, or another's numbers: it does not answer any more (PCIe 6.0, 2.3.2). A virtual function has all-ones in the place of its
 * numbers, and only there (PCIe 6.0, 9.3.4.1).
 */
static bool answers(const struct daemon *daemon, const struct pci_address *address, char text[256])
{
	char path[4200], bdf[PCI_ADDRESS_LEN];
	uint64_t vendor = 0;
	uint8_t config[64];
	int fd;
	bool whole, is_virtual;

	device_sysfs(daemon, address, "config", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	whole = fd >= 0 && !pread_full(fd, config, sizeof(config), 0);
	fd_close(&fd);
	device_sysfs(daemon, address, "vendor", path);
	file_read_u64(AT_FDCWD, path, &vendor);
	device_sysfs(daemon, address, "physfn", path);
	is_virtual = !access(path, F_OK);
	if (whole && (config[14] & 0x7f) != 0x7f &&
	    (is_virtual || (config[0] == (vendor & 0xff) && config[1] == (vendor >> 8))))
		return true;
	snprintf(text, 256, "%s does not answer: config space %s", pci_address_format(address, bdf),
		 whole ? "is not its own" : "cannot be read");
	return false;
}

/* Nothing of the instance runs any more: who has it open is somebody else, and has been given it already. */
static bool held(const struct device_work *work, const struct pci_address *address, char text[256])
{
	struct findings findings = { 0 };

	vfio_precheck(work->daemon->options.root, address, work->memory_bytes, &findings);
	for (unsigned i = 0; i < findings.count; i++)
		if (!strcmp(findings.items[i].code, "device-in-use")) {
			snprintf(text, 256, "not reset: %.200s", findings.items[i].fact);
			return true;
		}
	return false;
}

static void function_reset(const struct device_work *work, const struct pci_address *address,
			   bool judged, struct device_result *result)
{
	char path[4200], bdf[PCI_ADDRESS_LEN], driver[64];
	int err;

	device_driver(work->daemon, address, driver);
	if (driver[0] && !strstr(driver, "vfio")) {
		/* It was taken away and came again, say: nobody resets it under the host's driver. */
		if (work->had_this_boot && !judged && !result->failed) {
			result->failed = true;
			strcpy(result->code, "came-back");
			snprintf(
				result->text, sizeof(result->text),
				"%s was not reset before %s got it: what its last user left there may still be in it",
				pci_address_format(address, bdf), driver);
		}
		return;
	}
	if (!result->failed && held(work, address, result->text)) {
		result->failed = true;
		strcpy(result->code, "device-in-use");
	}
	if (!strcmp(result->code, "device-in-use"))
		return;
	device_sysfs(work->daemon, address, "reset", path);
	err = file_write(AT_FDCWD, path, "1");
	if (!err)
		result->resets++;
	if (result->failed)
		return;
	if (err == -ENOENT && device_there(work->daemon, address)) {
		result->no_reset = true;
		err = 0;
	}
	if (err) {
		result->failed = true;
		strcpy(result->code, err == -ENOENT ? "gone" : "reset-failed");
		snprintf(result->text, sizeof(result->text),
			 "%s %s: what its last user left there may still be in it",
			 pci_address_format(address, bdf),
			 err == -ENOENT ? "was taken away before it was reset" : "was not reset");
	} else if (!answers(work->daemon, address, result->text)) {
		result->failed = true;
		strcpy(result->code, "device-silent");
	}
}

/* After all else was looked at: with a worse reason it is no excuse. */
static void no_reset_judge(const struct device_work *work, struct device_result *result)
{
	if (!result->no_reset || result->failed)
		return;
	result->failed = !work->daemon->config.allow_no_reset;
	strcpy(result->code, "no-reset");
	strcpy(result->text,
	       "a function of it cannot be reset alone: what its last user left there may still be in it");
}

static int release_work(void *opaque, void *out, struct error *e)
{
	struct device_work *work = opaque;
	struct device_result *results = out;

	for (unsigned i = 0; i < work->part_count; i++) {
		struct device_result *result = &results[i];
		const struct launch_gpu *gpu = &work->parts[i].gpu;
		struct error why = { 0 };

		if (gpu->mdev[0] &&
		    device_mdev_remove(work->daemon->options.root, gpu->mdev, &why)) {
			result->failed = true;
			strcpy(result->code, "mdev-stays");
			snprintf(result->text, sizeof(result->text), "%.250s", why.text);
		}
		for (unsigned f = 0; f < gpu->function_count; f++) {
			/* Where its start was refused, another VMM may have it: a reset is not for us to do. */
			if (work->guest_had)
				function_reset(work, &gpu->functions[f], work->parts[i].judged,
					       result);
			/* Who asks how far it is hears of those that are done. */
			__atomic_fetch_add(&result->tried, 1, __ATOMIC_RELAXED);
		}
		if (gpu->function_count)
			device_link(work->daemon, &gpu->functions[0], result->link,
				    sizeof(result->link));
		if (!result->failed && work->guest_had &&
		    link_worse(work->parts[i].before, result->link)) {
			result->failed = true;
			strcpy(result->code, "link-worse");
			snprintf(result->text, sizeof(result->text),
				 "its link was %.40s and is %.40s now", work->parts[i].before,
				 result->link);
		}
		no_reset_judge(work, result);
		/* By the daemon before this one. */
		if (!result->resets && !result->failed)
			result->resets = work->parts[i].resets;
	}
	return 0;
}

static int unbind_work(void *opaque, void *out, struct error *e)
{
	struct device_work *work = opaque;
	struct device_result *results = out;

	for (unsigned i = 0; i < work->part_count; i++) {
		struct device_result *result = &results[i];
		const struct launch_gpu *gpu = &work->parts[i].gpu;
		struct error why = { 0 };

		result->tried = gpu->function_count;
		for (unsigned f = 0;
		     f < gpu->function_count && work->parts[i].unbind && !result->failed; f++) {
			/* By what is remembered of its group: it may have been cut off between two drivers. */
			if (!device_there(work->daemon, &gpu->functions[f]))
				continue;
			if (vfio_unbind(work->daemon->options.root, work->daemon->bind,
					&gpu->functions[f], DEVICE_BIND_MS, &why)) {
				result->failed = true;
				snprintf(result->text, sizeof(result->text), "%.250s", why.text);
			}
		}
	}
	return 0;
}

/* ---- the end of a lease ---------------------------------------------------------------------------------- */

/* What the lease of part @index has of its end. */
static void end_describe(const struct instance *instance, unsigned index,
			 const struct device_result *result, struct store_lease *lease)
{
	*lease = (struct store_lease){ .resets = result->resets };
	snprintf(lease->gpu, sizeof(lease->gpu), "%s", instance->parts[index].gpu);
	snprintf(lease->link_after, sizeof(lease->link_after), "%s", result->link);
	if (result->code[0])
		snprintf(lease->verdict, sizeof(lease->verdict), "%s: %.200s", result->code,
			 result->text);
	else
		snprintf(
			lease->verdict, sizeof(lease->verdict), "%s",
			result->resets
				? "reset, and answers; its memory is cleared by what the reset clears"
			: instance->guest_had ? "not reset: the host's driver has it"
					      : "not reset: no guest had it");
}

/* The lease ends, whatever came of it. Within a transaction. */
int device_ended(struct instance *instance, struct error *e)
{
	struct daemon *daemon = instance->daemon;
	int err = 0;

	for (unsigned i = 0, at = 0; i < instance->part_count && !err; i++) {
		struct store_lease lease;
		struct gpu *gpu;

		if (!instance->parts[i].dedicated || !instance->results)
			continue;
		end_describe(instance, i, &instance->results[at++], &lease);
		lease.ended_ms = daemon_now_ms();
		gpu = gpu_find(daemon, lease.gpu, true);
		if (gpu)
			err = store_gpu_put(daemon->store, &gpu->row, e);
		if (device_leased(&instance->parts[i]) && !err)
			err = store_lease_end(daemon->store, &lease, e);
	}
	return err;
}

/* ---- release ------------------------------------------------------------------------------------------- */

static void released(struct instance *instance)
{
	for (unsigned i = 0, at = 0; i < instance->part_count && instance->results; i++) {
		const struct device_result *one;
		struct gpu *gpu;

		if (!instance->parts[i].dedicated)
			continue;
		one = &instance->results[at++];
		gpu = gpu_find(instance->daemon, instance->parts[i].gpu, true);
		if (gpu)
			gpu->row.resets += one->resets;
		if (one->failed)
			gpu_quarantine(instance->daemon, instance->parts[i].gpu, one->code,
				       one->text);
	}
	daemon_look_again(instance->daemon);
	stop_continue(instance, STEP_DONE);
}

static void unbound(void *opaque, int err, const void *out, const struct error *why)
{
	struct instance *instance = opaque;
	const struct device_result *results = out;

	instance->job = NULL;
	for (unsigned i = 0; i < LAUNCH_GPUS_MAX; i++) {
		struct device_result *result = &instance->results[i];

		if (!result->unbinds || (!err && !results[i].failed))
			continue;
		result->failed = true;
		strcpy(result->code, "unbind-failed");
		snprintf(result->text, sizeof(result->text), "%.250s",
			 err ? why->text : results[i].text);
	}
	released(instance);
}

/* Of those that the host's driver gets now: so that who finds them there knows that they were reset before. */
static void resets_note(struct instance *instance)
{
	struct store *store = instance->daemon->store;
	struct error e = { 0 };
	int err = store_begin(store, &e);

	for (unsigned i = 0, at = 0; i < instance->part_count && !err; i++) {
		struct store_lease lease;

		if (!instance->parts[i].dedicated || !instance->results[at++].unbinds)
			continue;
		end_describe(instance, i, &instance->results[at - 1], &lease);
		err = store_lease_note(store, &lease, &e);
	}
	if (!err)
		err = store_commit(store, &e);
	if (err) {
		store_rollback(store);
		log_warn("%s: %s", instance->row.name, e.text);
	}
}

struct reader {
	const char *gpu;
	struct store_lease lease;
	bool found;
};

static int lease_take(void *opaque, const struct store_lease *lease)
{
	struct reader *reader = opaque;

	reader->lease = *lease;
	reader->found = true;
	return 0;
}

/* What its lease says of it. */
static int release_make(struct instance *instance, struct device_work **out, struct error *e)
{
	struct device_work *work;
	int err = device_work_make(instance, out, e);

	if (err)
		return err;
	work = *out;
	for (unsigned i = 0, at = 0; i < instance->part_count; i++) {
		struct reader reader = { 0 };

		if (!instance->parts[i].dedicated)
			continue;
		if (!store_leases(instance->daemon->store, instance->parts[i].gpu, true, lease_take,
				  &reader, NULL) &&
		    reader.found) {
			work->parts[at].unbind = reader.lease.bound;
			work->parts[at].judged = reader.lease.verdict[0];
			work->parts[at].resets = reader.lease.resets;
			memcpy(work->parts[at].before, reader.lease.link_before,
			       sizeof(work->parts[at].before));
		}
		at++;
	}
	return 0;
}

static void unbind_begin(struct instance *instance)
{
	struct device_work *work = NULL;
	struct error e = { 0 };
	bool any = false;
	int err = release_make(instance, &work, &e);

	for (unsigned i = 0; !err && i < work->part_count; i++) {
		struct device_result *result = &instance->results[i];

		work->parts[i].unbind &= !result->failed;
		result->unbinds = work->parts[i].unbind;
		any |= result->unbinds;
	}
	if (any) {
		resets_note(instance);
		err = job_run(instance->daemon, unbind_work, work, RELEASE_MS, unbound, instance,
			      &instance->job, &e);
	}
	free(work);
	if (err)
		unbound(instance, err, NULL, &e);
	else if (!any)
		released(instance);
}

static void reset_done(void *opaque, int err, const void *result, const struct error *why)
{
	struct instance *instance = opaque;
	struct device_result *results = calloc(LAUNCH_GPUS_MAX, sizeof(*results));

	instance->job = NULL;
	free(instance->results);
	instance->results = results;
	if (!err && results && result)
		memcpy(results, result, LAUNCH_GPUS_MAX * sizeof(*results));
	for (unsigned i = 0; err && results && i < LAUNCH_GPUS_MAX; i++) {
		results[i].failed = true;
		strcpy(results[i].code, "reset-failed");
		snprintf(results[i].text, sizeof(results[i].text), "%.250s", why->text);
	}
	if (err || !results)
		released(instance);
	else
		unbind_begin(instance);
}

static int on_release_again(sd_event_source *source, uint64_t usec, void *opaque)
{
	struct instance *instance = opaque;

	instance->next++;
	device_release(instance);
	return 0;
}

/* What was cut off may be in the kernel still, and change what would be looked at. Returns whether it is waited for. */
static bool linger(struct instance *instance)
{
	struct error e = { 0 };
	int err;

	if (!job_lingers(instance->daemon, instance->life))
		return false;
	if (instance->next < LINGER_MS / LINGER_LOOK_MS) {
		instance_timer(instance, LINGER_LOOK_MS, on_release_again);
		return true;
	}
	err = error_set(&e, ETIMEDOUT, "timed-out", "dmesg",
			"not reset: the step of its start that was cut off is in the kernel still");
	reset_done(instance, err, NULL, &e);
	return true;
}

void device_release(struct instance *instance)
{
	struct device_work *work = NULL;
	struct error e = { 0 };
	int err;

	if (linger(instance))
		return;
	err = release_make(instance, &work, &e);
	if (err) {
		reset_done(instance, err, NULL, &e);
		return;
	}
	if (!work->part_count) {
		free(work);
		stop_continue(instance, STEP_DONE);
		return;
	}
	err = job_run(instance->daemon, release_work, work, RELEASE_MS, reset_done, instance,
		      &instance->job, &e);
	free(work);
	if (err)
		reset_done(instance, err, NULL, &e);
	else
		progress_watch(instance);
}
