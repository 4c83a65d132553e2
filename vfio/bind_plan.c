// SPDX-License-Identifier: Apache-2.0
/*
 * What to write in sysfs so that a group changes hands: pure functions from what the group is and
 * what it was to a list of writes.
 *
 * Follows Documentation/ABI/testing/sysfs-bus-pci: driver_override, drivers_probe and the drivers'
 * bind and unbind. Never new_id, which would take every device of the same kind.
 */
#include <stdio.h>
#include <string.h>

#include "vfio/bind.h"

static void add(struct bind_plan *plan, enum bind_step_kind kind, const struct pci_address *address,
		const char *driver, const char *text)
{
	struct bind_step *step;
	char bdf[PCI_ADDRESS_LEN];

	if (plan->count == BIND_STEPS_MAX)
		return; /* cannot be: five steps a member at most */
	step = &plan->steps[plan->count++];
	step->kind = kind;
	step->address = *address;
	pci_address_format(address, bdf);
	snprintf(step->text, sizeof(step->text), "%s", text ? text : bdf);
	switch (kind) {
	case BIND_STEP_OVERRIDE:
		snprintf(step->path, sizeof(step->path), "/sys/bus/pci/devices/%s/driver_override",
			 bdf);
		break;
	case BIND_STEP_UNBIND:
		snprintf(step->path, sizeof(step->path), "/sys/bus/pci/drivers/%s/unbind", driver);
		break;
	case BIND_STEP_BIND:
		snprintf(step->path, sizeof(step->path), "/sys/bus/pci/drivers/%s/bind", driver);
		break;
	case BIND_STEP_PROBE:
		snprintf(step->path, sizeof(step->path), "/sys/bus/pci/drivers_probe");
		break;
	case BIND_STEP_D3COLD:
		snprintf(step->path, sizeof(step->path), "/sys/bus/pci/devices/%s/d3cold_allowed",
			 bdf);
		break;
	case BIND_STEP_POWER:
		snprintf(step->path, sizeof(step->path), "/sys/bus/pci/devices/%s/power/control",
			 bdf);
		break;
	}
}

/* Both files of a function, where they are there; the texts are for when they are. */
static void add_power(struct bind_plan *plan, const struct bind_record *was, const char *d3cold,
		      const char *control)
{
	if (was->d3cold_allowed[0])
		add(plan, BIND_STEP_D3COLD, &was->address, NULL, d3cold);
	if (was->power_control[0])
		add(plan, BIND_STEP_POWER, &was->address, NULL, control);
}

void vfio_bind_plan_take(const struct iommu_group *group, const struct bind_state *state,
			 struct bind_plan *plan)
{
	plan->count = 0;
	for (unsigned pass = 0; pass < 4; pass++) {
		for (unsigned i = 0; i < group->member_count; i++) {
			const struct iommu_group_member *m = &group->members[i];
			const struct bind_record *was =
				state ? vfio_bind_state_find(state, &m->address) : NULL;

			if (m->is_bridge || vfio_sysfs_driver_is_vfio(m->driver))
				continue;
			if (pass == 0)
				add(plan, BIND_STEP_OVERRIDE, &m->address, NULL, "vfio-pci");
			else if (pass == 1 && m->driver[0])
				add(plan, BIND_STEP_UNBIND, &m->address, m->driver, NULL);
			else if (pass == 2)
				add(plan, BIND_STEP_PROBE, &m->address, NULL, NULL);
			else if (pass == 3 && was)
				add_power(plan, was, "0", "on");
		}
	}
}

void vfio_bind_plan_restore(const struct iommu_group *group, const struct bind_state *state,
			    bool (*has_driver)(const char *root, const char *driver),
			    const char *root, struct bind_plan *plan)
{
	plan->count = 0;
	for (unsigned pass = 0; pass < 4; pass++) {
		for (unsigned i = 0; i < group->member_count; i++) {
			const struct iommu_group_member *m = &group->members[i];
			const struct bind_record *was =
				state ? vfio_bind_state_find(state, &m->address) : NULL;
			bool moves = was ? strcmp(m->driver, was->driver) != 0 : !state;
			const char *driver_override =
				was && was->driver_override[0] ? was->driver_override : "\n";

			if (m->is_bridge || (state && !was) ||
			    (!state && !vfio_sysfs_driver_is_vfio(m->driver)))
				continue;
			/* an empty line clears it */
			if (pass == 0)
				add(plan, BIND_STEP_OVERRIDE, &m->address, NULL, driver_override);
			else if (pass == 1 && moves && m->driver[0])
				add(plan, BIND_STEP_UNBIND, &m->address, m->driver, NULL);
			else if (pass == 2 && was && moves && was->driver[0] &&
				 has_driver(root, was->driver))
				add(plan, BIND_STEP_BIND, &m->address, was->driver, NULL);
			else if (pass == 2 && moves && (!was || was->driver[0]))
				add(plan, BIND_STEP_PROBE, &m->address, NULL, NULL);
			else if (pass == 3 && was)
				add_power(plan, was, was->d3cold_allowed, was->power_control);
		}
	}
}
