// SPDX-License-Identifier: Apache-2.0
/*
 * Binding: a whole isolation group goes to vfio-pci, and back to the drivers it had.
 *
 * The order is what makes it safe: look (group, holders), remember on disk, then write, then look
 * again. Where writing or looking again fails, what the group was is written back, from the same
 * record that unbinding uses.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfio/bind.h"
#include "vfio/holders.h"

/* Putting things back is not given up for a caller's short limit. */
#define UNDO_MS_MIN 5000u

/* One bind or unbind; on the heap, since plans and groups are large. */
struct job {
	const struct bind_io *io;
	const char *root;
	char dir[VFIO_PATH_MAX];
	const struct pci_address *address;
	unsigned timeout_ms;
	int lock_fd, group_fd;
	char bdf[PCI_ADDRESS_LEN];
	struct iommu_group group;
	struct bind_state state;
	struct bind_plan plan;
	struct vfio_holders holders;
};

static bool has_driver(const char *root, const char *driver)
{
	char path[VFIO_PATH_MAX];

	return access(vfio_sysfs_path(path, root, "/sys/bus/pci/drivers/%s", driver), F_OK) == 0;
}

static void job_free(struct job *job)
{
	if (!job)
		return;
	fd_close(&job->lock_fd);
	fd_close(&job->group_fd);
	free(job);
}

/* Everything both directions need: the function, the lock, the group. */
static int job_create(const struct bind_io *io, const char *root, const char *state_dir,
		      const struct pci_address *address, unsigned timeout_ms, struct job **out,
		      struct error *e)
{
	struct job *job;
	int err;

	*out = NULL;
	err = vfio_sysfs_exists(root, address, e);
	if (err)
		return err;
	job = calloc(1, sizeof(*job));
	if (!job) {
		error_set(e, ENOMEM, "out-of-memory", NULL, "no memory to bind with");
		return -ENOMEM;
	}
	*out = job;
	*job = (struct job){ .io = io,
			     .root = root,
			     .address = address,
			     .timeout_ms = timeout_ms ? timeout_ms : VFIO_BIND_TIMEOUT_MS,
			     .lock_fd = -1,
			     .group_fd = -1 };
	pci_address_format(address, job->bdf);
	if (state_dir)
		vfio_sysfs_path(job->dir, "", "%s", state_dir);
	else
		vfio_sysfs_path(job->dir, root, "%s", VFIO_BIND_STATE_DIR);
	if (vfio_sysfs_is_bridge(root, address))
		return error_set(e, EINVAL, "is-a-bridge", "divvy list devices",
				 "%s is a PCI-to-PCI bridge (class 0604): bridges stay with the "
				 "host, bind what is behind it",
				 job->bdf);
	err = iommu_group_load(root, address, &job->group, e);
	if (err)
		return err;
	/* First the group's: who waits for a driver that is stuck keeps nobody from other groups. */
	job->group_fd = vfio_bind_group_lock(job->dir, job->group.id, job->timeout_ms, e);
	if (job->group_fd < 0)
		return job->group_fd;
	job->lock_fd = vfio_bind_state_lock(job->dir, job->timeout_ms, e);
	if (job->lock_fd < 0)
		return job->lock_fd;
	/* again, now that nobody else of ours is changing it */
	return iommu_group_load(root, address, &job->group, e);
}

/* Who holds the endpoints whose driver will change. */
static int refuse_holders(struct job *job, bool on_vfio, struct error *e)
{
	struct pci_address addresses[IOMMU_GROUP_MEMBERS_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < job->group.member_count; i++) {
		const struct iommu_group_member *m = &job->group.members[i];

		if (!m->is_bridge && vfio_sysfs_driver_is_vfio(m->driver) == on_vfio)
			addresses[count++] = m->address;
	}
	if (vfio_holders_find(job->root, addresses, count, on_vfio ? &job->group.id : NULL,
			      &job->holders))
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory to bind with");
	return vfio_holders_refuse(&job->holders, e);
}

/* A file of a function; "" where it cannot be read. */
static void read_leaf(const struct job *job, const struct pci_address *address, const char *leaf,
		      char text[VFIO_DRIVER_LEN])
{
	char path[VFIO_PATH_MAX];

	vfio_sysfs_pci(path, job->root, address, leaf);
	if (file_read(-1, path, text, VFIO_DRIVER_LEN) < 0)
		text[0] = '\0';
}

/* A record of each endpoint that will move and has none yet: the first one is what it was. */
static void remember(struct job *job)
{
	for (unsigned i = 0; i < job->group.member_count; i++) {
		const struct iommu_group_member *m = &job->group.members[i];
		struct bind_record *record;

		if (m->is_bridge || vfio_sysfs_driver_is_vfio(m->driver) ||
		    vfio_bind_state_find(&job->state, &m->address) ||
		    job->state.count == IOMMU_GROUP_MEMBERS_MAX)
			continue;
		record = &job->state.records[job->state.count++];
		*record = (struct bind_record){ .address = m->address };
		snprintf(record->driver, sizeof(record->driver), "%s", m->driver);
		read_leaf(job, &m->address, "driver_override", record->driver_override);
		if (!strcmp(record->driver_override, "(null)"))
			record->driver_override[0] = '\0';
		read_leaf(job, &m->address, "d3cold_allowed", record->d3cold_allowed);
		read_leaf(job, &m->address, "power/control", record->power_control);
	}
}

/* Whether every endpoint got where it should, by a fresh look; names the first that did not. */
static int verify(struct job *job, const struct bind_state *want, struct error *e)
{
	char bdf[PCI_ADDRESS_LEN];
	int err;

	err = iommu_group_load(job->root, job->address, &job->group, e);
	if (err)
		return err;
	for (unsigned i = 0; i < job->group.member_count; i++) {
		const struct iommu_group_member *m = &job->group.members[i];
		const struct bind_record *was =
			want ? vfio_bind_state_find(want, &m->address) : NULL;

		if (m->is_bridge || (want && !was))
			continue;
		if (want ? !strcmp(m->driver, was->driver) : vfio_sysfs_driver_is_vfio(m->driver))
			continue;
		return error_set(e, EIO, "bind-failed", "dmesg | tail",
				 "%s: every write went well, but its driver is %s and not %s",
				 pci_address_format(&m->address, bdf),
				 m->driver[0] ? m->driver : "none",
				 want ? (was->driver[0] ? was->driver : "none") : "vfio-pci");
	}
	return 0;
}

/*
 * Write @state back (NULL: let the kernel choose), one child a function: one that is stuck in the
 * kernel holds its own lock only, and the others still get home. The first error counts.
 */
static int restore(struct job *job, const struct bind_state *state, unsigned timeout_ms,
		   struct error *e)
{
	struct bind_plan *all = &job->plan, *one;
	struct error further;
	int err = 0, this_err;

	vfio_bind_plan_restore(&job->group, state, has_driver, job->root, all);
	one = malloc(sizeof(*one));
	if (!one)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory to unbind with");
	for (unsigned i = 0; i < job->group.member_count; i++) {
		one->count = 0;
		for (unsigned j = 0; j < all->count; j++)
			if (pci_address_equal(&all->steps[j].address,
					      &job->group.members[i].address))
				one->steps[one->count++] = all->steps[j];
		this_err = vfio_bind_execute(job->io, job->root, one, timeout_ms, job->group_fd,
					     err ? &further : e);
		if (this_err && err)
			log_error("%s", further.text);
		else if (this_err)
			err = this_err;
	}
	free(one);
	return err;
}

/* Back to what was, after a failure; what cannot be undone keeps its record on disk. */
static void undo(struct job *job, struct bind_state *before)
{
	struct error e = { 0 };
	int err;

	err = iommu_group_load(job->root, job->address, &job->group, &e);
	if (!err)
		err = restore(job, &job->state, MAX(job->timeout_ms, UNDO_MS_MIN), &e);
	if (!err)
		err = verify(job, &job->state, &e);
	if (err) {
		log_error("%s: could not be put back: %s; %s/group-%u remembers its drivers",
			  job->bdf, e.text, job->dir, job->group.id);
		return;
	}
	if (before->count)
		err = vfio_bind_state_save(job->root, job->dir, before, &e);
	else
		err = vfio_bind_state_remove(job->dir, job->group.id, &e);
	if (err)
		log_warn("%s", e.text);
}

static int need_vfio_pci(struct job *job, struct error *e)
{
	int err;

	if (has_driver(job->root, "vfio-pci"))
		return 0;
	err = job->io->load_driver(job->root, job->timeout_ms);
	if (!err && has_driver(job->root, "vfio-pci"))
		return 0;
	return error_set(e, ENODEV, "driver-missing", "modprobe vfio-pci",
			 "%s: the driver vfio-pci is not loaded and loading it failed: %s",
			 job->bdf,
			 err ? strerror(-err) : "modprobe went well, the driver is not there");
}

static int bind_job(struct job *job, struct error *e)
{
	struct bind_state *before;
	int err;

	vfio_bind_plan_take(&job->group, NULL, &job->plan);
	if (!job->plan.count)
		return 0; /* the whole group is there already */
	err = refuse_holders(job, false, e);
	if (err)
		return err;
	err = need_vfio_pci(job, e);
	if (err)
		return err;
	err = vfio_bind_state_load(job->root, job->dir, job->group.id, &job->state, e);
	if (err && err != -ENOENT)
		return err;
	before = malloc(sizeof(*before));
	if (!before)
		return error_set(e, ENOMEM, "out-of-memory", NULL, "no memory to bind with");
	*before = job->state;
	remember(job);
	vfio_bind_plan_take(&job->group, &job->state, &job->plan);
	err = vfio_bind_state_save(job->root, job->dir, &job->state, e);
	if (err)
		goto free_before;
	err = vfio_bind_execute(job->io, job->root, &job->plan, job->timeout_ms, job->group_fd, e);
	if (!err)
		err = verify(job, NULL, e);
	if (err)
		undo(job, before);
free_before:
	free(before);
	return err;
}

static int unbind_job(struct job *job, struct error *e)
{
	const struct bind_state *state = &job->state;
	int err;

	err = vfio_bind_state_load(job->root, job->dir, job->group.id, &job->state, e);
	if (err == -ENOENT)
		state = NULL; /* bound by somebody else: the kernel chooses */
	else if (err)
		return err;
	err = refuse_holders(job, true, e);
	if (err)
		return err;
	err = restore(job, state, job->timeout_ms, e);
	if (err || !state)
		return err;
	err = verify(job, state, e);
	if (err)
		return err;
	return vfio_bind_state_remove(job->dir, job->group.id, e);
}

int vfio_bind_with(const struct bind_io *io, const char *root, const char *state_dir,
		   const struct pci_address *address, unsigned timeout_ms, struct error *e)
{
	struct job *job;
	int err = job_create(io, root, state_dir, address, timeout_ms, &job, e);

	if (!err)
		err = bind_job(job, e);
	job_free(job);
	return err;
}

int vfio_unbind_with(const struct bind_io *io, const char *root, const char *state_dir,
		     const struct pci_address *address, unsigned timeout_ms, struct error *e)
{
	struct job *job;
	int err = job_create(io, root, state_dir, address, timeout_ms, &job, e);

	if (!err)
		err = unbind_job(job, e);
	job_free(job);
	return err;
}

int vfio_bind(const char *root, const char *state_dir, const struct pci_address *address,
	      unsigned timeout_ms, struct error *e)
{
	return vfio_bind_with(&vfio_bind_io, root, state_dir, address, timeout_ms, e);
}

int vfio_unbind(const char *root, const char *state_dir, const struct pci_address *address,
		unsigned timeout_ms, struct error *e)
{
	return vfio_unbind_with(&vfio_bind_io, root, state_dir, address, timeout_ms, e);
}
