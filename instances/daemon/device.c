// SPDX-License-Identifier: Apache-2.0
/*
 * Whole GPUs between tenants. Before: everything that stands in the way is looked for, the slot's functions are bound, who has it from when is
 * written down. After: each function is reset, must answer as itself, with the link that it had; else the GPU is set aside until somebody
 * has looked at it. All of it in a child, since any of it may hang in the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/daemon/private.h"
#include "vfio/vfio.h"

#define PREPARE_MS     120000
#define RELEASE_MS     180000
#define LINGER_MS      30000 /* so long a step that was cut off may take to end */
#define LINGER_LOOK_MS 20

/* ---- facts from sysfs -------------------------------------------------------------------------------- */

static void sysfs(const struct daemon *daemon, const struct pci_address *address, const char *leaf,
		  char path[4200])
{
	char bdf[PCI_ADDRESS_LEN];

	snprintf(path, 4200, "%s/sys/bus/pci/devices/%s/%s", daemon->options.root,
		 pci_address_format(address, bdf), leaf);
}

/* "16.0 GT/s PCIe x16"; "" where it has no link. */
static void link_read(const struct daemon *daemon, const struct pci_address *address, char *text,
		      size_t size)
{
	char path[4200], speed[32], width[16];

	text[0] = '\0';
	sysfs(daemon, address, "current_link_speed", path);
	if (file_read(AT_FDCWD, path, speed, sizeof(speed)) <= 0)
		return;
	sysfs(daemon, address, "current_link_width", path);
	if (file_read(AT_FDCWD, path, width, sizeof(width)) <= 0)
		return;
	snprintf(text, size, "%.24s x%.8s", speed, width);
}

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

/* "": none. */
static void driver_of(const struct daemon *daemon, const struct pci_address *address,
		      char driver[64])
{
	char path[4200], target[256];
	const char *name;
	ssize_t n;

	sysfs(daemon, address, "driver", path);
	n = readlink(path, target, sizeof(target) - 1);
	target[MAX(n, 0)] = '\0';
	name = strrchr(target, '/');
	snprintf(driver, 64, "%.63s", name ? name + 1 : target);
}

static bool there(const struct daemon *daemon, const struct pci_address *address)
{
	char path[4200];

	sysfs(daemon, address, "vendor", path);
	return !access(path, F_OK);
}

bool device_on_vfio(const struct daemon *daemon, const struct pci_address *address)
{
	char driver[64];

	driver_of(daemon, address, driver);
	return strstr(driver, "vfio") != NULL;
}

/* ---- what is done to a GPU's functions, in a child ------------------------------------------------------ */

struct work {
	struct daemon *daemon;
	bool guest_had;
	uint64_t memory_bytes;
	unsigned part_count;
	struct {
		bool unbind;
		char before[48];
		struct launch_gpu gpu; /* its functions, or its UUID */
		char mdev_parent[PCI_ADDRESS_LEN], mdev_type[NODE_MDEV_SIZE];
	} parts[LAUNCH_GPUS_MAX];
};

/* Found by a precheck, and no reason not to bind: binding is what is about to be done, to the whole group. The VMM looks once more. */
static bool settled_by_binding(const char *code)
{
	static const char *const codes[] = { "not-bound-to-vfio", "group-not-viable",
					     "node-missing", "permission-denied" };

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (!strcmp(code, codes[i]))
			return true;
	return false;
}

static int ready(const struct work *work, const struct pci_address *address, struct error *e)
{
	struct findings findings = { 0 };
	char bdf[PCI_ADDRESS_LEN];

	vfio_precheck(work->daemon->options.root, address, work->memory_bytes, &findings);
	for (unsigned i = 0; i < findings.count; i++) {
		const struct finding *one = &findings.items[i];

		if (one->level == FINDING_BLOCKER && !settled_by_binding(one->code))
			return error_set(e, EBUSY, one->code, one->next, "%s: %s: %s",
					 pci_address_format(address, bdf), one->fact, one->meaning);
	}
	return 0;
}

static int prepare_work(void *opaque, void *result, struct error *e)
{
	struct work *work = opaque;
	const char *root = work->daemon->options.root;
	int err = 0;

	for (unsigned i = 0; i < work->part_count && !err; i++) {
		if (work->parts[i].gpu.mdev[0])
			err = device_mdev_make(root, work->parts[i].gpu.mdev,
					       work->parts[i].mdev_parent, work->parts[i].mdev_type,
					       e);
		for (unsigned f = 0; f < work->parts[i].gpu.function_count && !err; f++) {
			const struct pci_address *address = &work->parts[i].gpu.functions[f];

			err = ready(work, address, e);
			if (!err)
				err = vfio_bind(root, work->daemon->bind, address, DEVICE_BIND_MS,
						e);
		}
	}
	return err;
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

	sysfs(daemon, address, "config", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	whole = fd >= 0 && !pread_full(fd, config, sizeof(config), 0);
	fd_close(&fd);
	sysfs(daemon, address, "vendor", path);
	file_read_u64(AT_FDCWD, path, &vendor);
	sysfs(daemon, address, "physfn", path);
	is_virtual = !access(path, F_OK);
	if (whole && (config[14] & 0x7f) != 0x7f &&
	    (is_virtual || (config[0] == (vendor & 0xff) && config[1] == (vendor >> 8))))
		return true;
	snprintf(text, 256, "%s does not answer: config space %s", pci_address_format(address, bdf),
		 whole ? "is not its own" : "cannot be read");
	return false;
}

/* Nothing of the instance runs any more: who has it open is somebody else, and has been given it already. */
static bool held(const struct work *work, const struct pci_address *address, char text[256])
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

static void function_reset(const struct work *work, const struct pci_address *address,
			   struct device_result *result)
{
	char path[4200], bdf[PCI_ADDRESS_LEN], driver[64];
	int err;

	/* It came back by another way: nobody resets it under the host's driver. */
	driver_of(work->daemon, address, driver);
	if (driver[0] && !strstr(driver, "vfio"))
		return;
	if (!result->failed && held(work, address, result->text)) {
		result->failed = true;
		strcpy(result->code, "device-in-use");
	}
	if (!strcmp(result->code, "device-in-use"))
		return;
	sysfs(work->daemon, address, "reset", path);
	err = file_write(AT_FDCWD, path, "1");
	if (!err)
		result->resets++;
	if (result->failed)
		return;
	if (err == -ENOENT && there(work->daemon, address)) {
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
static void no_reset_judge(const struct work *work, struct device_result *result)
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
	struct work *work = opaque;
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
				function_reset(work, &gpu->functions[f], result);
			/* Who asks how far it is hears of those that are done. */
			__atomic_fetch_add(&result->tried, 1, __ATOMIC_RELAXED);
		}
		if (gpu->function_count)
			link_read(work->daemon, &gpu->functions[0], result->link,
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
		for (unsigned f = 0;
		     f < gpu->function_count && work->parts[i].unbind && !result->failed; f++) {
			/* By what is remembered of its group: it may have been cut off between two drivers. */
			if (!there(work->daemon, &gpu->functions[f]))
				continue;
			if (vfio_unbind(work->daemon->options.root, work->daemon->bind,
					&gpu->functions[f], DEVICE_BIND_MS, &why)) {
				result->failed = true;
				strcpy(result->code, "unbind-failed");
				snprintf(result->text, sizeof(result->text), "%.250s", why.text);
			}
		}
	}
	return 0;
}

/* ---- leases ------------------------------------------------------------------------------------------- */

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

/* Where its driver is asked for it. */
static void mdev_describe(const struct instance *instance, unsigned part,
			  char parent[PCI_ADDRESS_LEN], char type[NODE_MDEV_SIZE])
{
	const struct node_gpu *gpu =
		node_gpu_find(instance->daemon->node, instance->parts[part].gpu);

	if (gpu && gpu->has_address)
		pci_address_format(&gpu->address, parent);
	snprintf(type, NODE_MDEV_SIZE, "%s", instance->placement.parts[part].mdev_type);
}

static int work_make(struct instance *instance, struct work **out, struct error *e)
{
	struct launch_instance *launch = calloc(1, sizeof(*launch));
	struct work *work = calloc(1, sizeof(*work));

	if (!launch || !work) {
		free(launch);
		free(work);
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for its devices");
	}
	instance_describe(instance, launch);
	work->daemon = instance->daemon;
	work->guest_had = instance->guest_had;
	work->memory_bytes = launch->memory_bytes;
	for (unsigned i = 0; i < launch->gpu_count; i++)
		if (launch->gpus[i].dedicated) {
			if (launch->gpus[i].mdev[0])
				mdev_describe(instance, i,
					      work->parts[work->part_count].mdev_parent,
					      work->parts[work->part_count].mdev_type);
			work->parts[work->part_count++].gpu = launch->gpus[i];
		}
	free(launch);
	*out = work;
	return 0;
}

static int leases_begin(struct instance *instance, const struct work *work, struct error *e)
{
	struct daemon *daemon = instance->daemon;
	int err = store_begin(daemon->store, e);

	for (unsigned i = 0, at = 0; i < instance->part_count && !err; i++) {
		const struct launch_gpu *gpu;
		struct store_lease lease = { .owner = instance->row.owner,
					     .begun_ms = daemon_now_ms() };

		if (!instance->parts[i].dedicated)
			continue;
		gpu = &work->parts[at++].gpu;
		if (!device_leased(&instance->parts[i]))
			continue;
		snprintf(lease.gpu, sizeof(lease.gpu), "%s", instance->parts[i].gpu);
		memcpy(lease.instance, instance->row.name, sizeof(lease.instance));
		memcpy(lease.uuid, instance->row.uuid, sizeof(lease.uuid));
		for (unsigned f = 0; f < gpu->function_count; f++)
			lease.bound |= !device_on_vfio(daemon, &gpu->functions[f]);
		if (gpu->function_count)
			link_read(daemon, &gpu->functions[0], lease.link_before,
				  sizeof(lease.link_before));
		err = store_lease_begin(daemon->store, &lease, e);
	}
	if (!err)
		err = store_commit(daemon->store, e);
	if (err)
		store_rollback(daemon->store);
	return err;
}

static void prepared(void *opaque, int err, const void *result, const struct error *e)
{
	struct instance *instance = opaque;

	instance->job = NULL;
	if (err) {
		instance_end(instance, STORE_FAILED, e);
		return;
	}
	for (unsigned i = 0; i < instance->part_count; i++)
		if (device_leased(&instance->parts[i]))
			event_lease(instance, instance->parts[i].gpu, "leased");
	daemon_look_again(instance->daemon);
	start_continue(instance, STEP_DISKS);
}

void device_prepare(struct instance *instance)
{
	struct work *work = NULL;
	struct error e = { 0 };
	int err = work_make(instance, &work, &e);

	if (!err)
		err = leases_begin(instance, work, &e);
	if (!err)
		err = job_run(instance->daemon, prepare_work, work, PREPARE_MS, prepared, instance,
			      &instance->job, &e);
	free(work);
	if (err)
		instance_end(instance, STORE_FAILED, &e);
}

/* The lease ends, whatever came of it. Within a transaction. */
int device_ended(struct instance *instance, struct error *e)
{
	struct daemon *daemon = instance->daemon;
	int err = 0;

	for (unsigned i = 0, at = 0; i < instance->part_count && !err; i++) {
		const struct device_result *result;
		struct store_lease lease = { .ended_ms = daemon_now_ms() };
		struct gpu *gpu;

		if (!instance->parts[i].dedicated || !instance->results)
			continue;
		result = &instance->results[at++];
		snprintf(lease.gpu, sizeof(lease.gpu), "%s", instance->parts[i].gpu);
		gpu = gpu_find(daemon, lease.gpu, true);
		if (gpu)
			err = store_gpu_put(daemon->store, &gpu->row, e);
		if (!device_leased(&instance->parts[i]) || err)
			continue;
		snprintf(lease.link_after, sizeof(lease.link_after), "%s", result->link);
		lease.resets = result->resets;
		if (result->code[0])
			snprintf(lease.verdict, sizeof(lease.verdict), "%s: %.200s", result->code,
				 result->text);
		else
			snprintf(
				lease.verdict, sizeof(lease.verdict), "%s",
				result->resets
					? "reset, and answers; its memory is cleared by what the reset clears"
				: instance->guest_had ? "not reset: the host's driver has it"
						      : "not reset: no guest had it");
		err = store_lease_end(daemon->store, &lease, e);
	}
	return err;
}

static void released(void *opaque, int err, const void *result, const struct error *why)
{
	struct instance *instance = opaque;
	struct device_result *results = calloc(LAUNCH_GPUS_MAX, sizeof(*results));
	struct gpu *gpu;

	instance->job = NULL;
	free(instance->results);
	instance->results = results;
	if (!err && results && result)
		memcpy(results, result, LAUNCH_GPUS_MAX * sizeof(*results));
	for (unsigned i = 0, at = 0; i < instance->part_count && results; i++) {
		struct device_result *one;

		if (!instance->parts[i].dedicated)
			continue;
		one = &results[at++];
		if (err) {
			one->failed = true;
			snprintf(one->code, sizeof(one->code), "reset-failed");
			snprintf(one->text, sizeof(one->text), "%.250s", why->text);
		}
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

	if (!job_lingers(instance->daemon, instance))
		return false;
	if (instance->next < LINGER_MS / LINGER_LOOK_MS) {
		instance_timer(instance, LINGER_LOOK_MS, on_release_again);
		return true;
	}
	err = error_set(&e, ETIMEDOUT, "timed-out", "dmesg",
			"not reset: the step of its start that was cut off is in the kernel still");
	released(instance, err, NULL, &e);
	return true;
}

void device_release(struct instance *instance)
{
	struct daemon *daemon = instance->daemon;
	struct work *work = NULL;
	struct error e = { 0 };
	int err = work_make(instance, &work, &e);

	if (err || !work) {
		released(instance, err ? err : -ENOMEM, NULL, &e);
		return;
	}
	if (!work->part_count) {
		free(work);
		stop_continue(instance, STEP_DONE);
		return;
	}
	if (linger(instance)) {
		free(work);
		return;
	}
	for (unsigned i = 0, at = 0; i < instance->part_count; i++) {
		struct reader reader = { 0 };

		if (!instance->parts[i].dedicated)
			continue;
		if (!store_leases(daemon->store, instance->parts[i].gpu, true, lease_take, &reader,
				  NULL) &&
		    reader.found) {
			work->parts[at].unbind = reader.lease.bound;
			memcpy(work->parts[at].before, reader.lease.link_before,
			       sizeof(work->parts[at].before));
		}
		at++;
	}
	err = job_run(daemon, release_work, work, RELEASE_MS, released, instance, &instance->job,
		      &e);
	free(work);
	if (err)
		released(instance, err, NULL, &e);
	else
		progress_watch(instance);
}
