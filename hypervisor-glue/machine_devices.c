// SPDX-License-Identifier: Apache-2.0
/*
 * Assigned devices at the machine's start. The kernel resets a device as it is opened, and once more when
 * asked; each takes 100 ms and more, and a large guest's memory takes longer to populate and to pin. So
 * each device has a thread to be opened by, while memory is populated, and one to be reset by, while memory
 * is mapped. Between the two, the address space tells what its devices reach.
 */
#include <errno.h>
#include <stdlib.h>

#include "hypervisor-glue/machine_private.h"

struct opening {
	struct machine *machine;
	int results[MACHINE_DEVICES_MAX];
	struct error errors[MACHINE_DEVICES_MAX];
};

static void open_one(void *opaque, unsigned index)
{
	struct opening *opening = opaque;
	struct machine *machine = opening->machine;

	opening->results[index] =
		machine_assigned_open(machine, &machine->config->devices[index],
				      &machine->devices[index], &opening->errors[index]);
}

/* All or none: the kernel resets each as it is opened, so they are opened beside each other. */
static int devices_open_all(struct machine *machine, struct error *e)
{
	unsigned count = machine->config->device_count, failed = count;
	struct opening *opening = calloc(1, sizeof(*opening));
	int err = 0;

	if (!opening)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory for devices");
	opening->machine = machine;
	parallel_run("open", count, open_one, opening);
	for (unsigned i = 0; i < count; i++) {
		if (!opening->results[i])
			continue;
		if (failed < count)
			log_error("%s", opening->errors[i].text);
		else
			failed = i;
	}
	if (failed < count) {
		err = opening->results[failed];
		if (e)
			*e = opening->errors[failed];
		for (unsigned i = count; i-- > 0;)
			if (!opening->results[i])
				machine_assigned_close(&machine->devices[i]);
	} else {
		machine->device_count = count;
	}
	free(opening);
	return err;
}

struct starting {
	struct machine *machine;
	int results[2];
	struct error errors[2];
};

/* Memory and its maps, and the devices' resets: neither needs the other. */
static void start_one(void *opaque, unsigned index)
{
	struct starting *starting = opaque;
	struct machine *machine = starting->machine;
	struct error *e = &starting->errors[index];
	int err;

	if (index) {
		err = machine_devices_reset(machine, e);
	} else {
		err = machine_memory_ready(machine, false, e);
		if (!err)
			err = iommu_space_follow(machine->space, machine->memory, e);
		machine->following = !err;
	}
	starting->results[index] = err;
}

static int devices_start(struct machine *machine, struct error *e)
{
	struct starting starting = { .machine = machine };
	unsigned failed;

	parallel_run("start", 2, start_one, &starting);
	failed = starting.results[0] ? 0 : 1;
	machine->devices_fresh = !starting.results[failed];
	if (e && starting.results[failed])
		*e = starting.errors[failed];
	return starting.results[failed];
}

int machine_devices_open(struct machine *machine, struct error *e)
{
	uint64_t since = monotonic_ns();
	int err;

	if (!machine->config->device_count)
		return 0;
	err = machine_space_open(machine, e);
	if (!err)
		err = devices_open_all(machine, e);
	if (err)
		return err;
	machine_phase(&since, "open");

	err = machine_ranges_load(machine, e);
	if (!err)
		err = devices_start(machine, e);
	machine_phase(&since, "map");
	return err;
}
