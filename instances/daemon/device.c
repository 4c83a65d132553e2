// SPDX-License-Identifier: Apache-2.0
/*
 * Whole GPUs before a tenant: everything that stands in the way is looked for, the slot's functions are bound, who has it from when is written
 * down. All of it in a child, since any of it may hang in the kernel. What comes after the tenant is device_release.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "instances/daemon/device.h"
#include "vfio/vfio.h"

#define PREPARE_MS 120000

/* ---- facts from sysfs -------------------------------------------------------------------------------- */

void device_sysfs(const struct daemon *daemon, const struct pci_address *address, const char *leaf,
		  char path[4200])
{
	char bdf[PCI_ADDRESS_LEN];

	snprintf(path, 4200, "%s/sys/bus/pci/devices/%s/%s", daemon->options.root,
		 pci_address_format(address, bdf), leaf);
}

void device_link(const struct daemon *daemon, const struct pci_address *address, char *text,
		 size_t size)
{
	char path[4200], speed[32], width[16];

	text[0] = '\0';
	device_sysfs(daemon, address, "current_link_speed", path);
	if (file_read(AT_FDCWD, path, speed, sizeof(speed)) <= 0)
		return;
	device_sysfs(daemon, address, "current_link_width", path);
	if (file_read(AT_FDCWD, path, width, sizeof(width)) <= 0)
		return;
	snprintf(text, size, "%.24s x%.8s", speed, width);
}

void device_driver(const struct daemon *daemon, const struct pci_address *address, char driver[64])
{
	char path[4200], target[256];
	const char *name;
	ssize_t n;

	device_sysfs(daemon, address, "driver", path);
	n = readlink(path, target, sizeof(target) - 1);
	target[MAX(n, 0)] = '\0';
	name = strrchr(target, '/');
	snprintf(driver, 64, "%.63s", name ? name + 1 : target);
}

bool device_there(const struct daemon *daemon, const struct pci_address *address)
{
	char path[4200];

	device_sysfs(daemon, address, "vendor", path);
	return !access(path, F_OK);
}

bool device_on_vfio(const struct daemon *daemon, const struct pci_address *address)
{
	char driver[64];

	device_driver(daemon, address, driver);
	return strstr(driver, "vfio") != NULL;
}

/* ---- in a child ---------------------------------------------------------------------------------------- */

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

static int ready(const struct device_work *work, const struct pci_address *address, struct error *e)
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
	struct device_work *work = opaque;
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

/* ---- leases ------------------------------------------------------------------------------------------- */

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

int device_work_make(struct instance *instance, struct device_work **out, struct error *e)
{
	struct launch_instance *launch = calloc(1, sizeof(*launch));
	struct device_work *work = calloc(1, sizeof(*work));

	if (!launch || !work) {
		free(launch);
		free(work);
		return error_set(e, ENOMEM, "no-memory", NULL, "no memory for its devices");
	}
	instance_describe(instance, launch);
	work->daemon = instance->daemon;
	work->guest_had = instance->guest_had;
	work->had_this_boot = instance->had_this_boot;
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

static int leases_begin(struct instance *instance, const struct device_work *work, struct error *e)
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
			device_link(daemon, &gpu->functions[0], lease.link_before,
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
	struct device_work *work = NULL;
	struct error e = { 0 };
	int err = device_work_make(instance, &work, &e);

	if (!err)
		err = leases_begin(instance, work, &e);
	if (!err)
		err = job_run(instance->daemon, prepare_work, work, PREPARE_MS, prepared, instance,
			      &instance->job, &e);
	free(work);
	if (err)
		instance_end(instance, STORE_FAILED, &e);
	else
		job_mark(instance->job, instance->life);
}
