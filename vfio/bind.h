/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binding in three parts: what was there before (a state file), what to write (a plan, pure), and
 * the child that writes it (with a time limit). Private to vfio/ and its tests.
 */
#ifndef VFIO_BIND_H
#define VFIO_BIND_H

#include "vfio/sysfs.h"
#include "vfio/vfio.h"

#define VFIO_BIND_STATE_DIR  "/var/lib/divvy/bind"
#define VFIO_BIND_TIMEOUT_MS 30000u

/* ---- what was there before ---------------------------------------------------------------- */

struct bind_record {
	struct pci_address address;
	char driver[VFIO_DRIVER_LEN];	       /* "" when there was none */
	char driver_override[VFIO_DRIVER_LEN]; /* "" when there was none */
	char d3cold_allowed[VFIO_DRIVER_LEN];  /* "0", "1"; "" where the kernel has no such file */
	char power_control[VFIO_DRIVER_LEN];   /* "on", "auto"; "" as above */
};

struct bind_state {
	unsigned group;
	char boot_id[40]; /* a state of another boot says nothing of this one */
	unsigned count;
	struct bind_record records[IOMMU_GROUP_MEMBERS_MAX];
};

/* vfio_bind_state_find() - the record of one function, or NULL. */
const struct bind_record *vfio_bind_state_find(const struct bind_state *state,
					       const struct pci_address *address);
/*
 * vfio_bind_state_load() - DIR/group-N. -ENOENT when there is none (or it is of another boot),
 * -EINVAL ("bind-state-damaged") when it is not what vfio_bind_state_save() writes.
 */
int vfio_bind_state_load(const char *root, const char *dir, unsigned group,
			 struct bind_state *state, struct error *e);
/*
 * vfio_bind_state_save() - written beside, synced, renamed, the folder synced: after it returns 0,
 * the state survives a crash of the machine.
 */
int vfio_bind_state_save(const char *root, const char *dir, struct bind_state *state,
			 struct error *e);
int vfio_bind_state_remove(const char *dir, unsigned group, struct error *e);
/*
 * vfio_bind_state_lock() - make DIR where needed and lock it against another bind or unbind, for
 * at most @timeout_ms. Returns an fd to close, or -errno ("bind-busy", "permission-denied").
 */
int vfio_bind_state_lock(const char *dir, unsigned timeout_ms, struct error *e);
/*
 * vfio_bind_group_lock() - as above, of one group. It is its writer's as well (vfio_bind_execute()), which may be in the kernel still
 * when whoever started it is gone: nobody looks at a group that is being changed, nor writes to it.
 */
int vfio_bind_group_lock(const char *dir, unsigned group, unsigned timeout_ms, struct error *e);

/* ---- what to write ------------------------------------------------------------------------ */

enum bind_step_kind {
	BIND_STEP_OVERRIDE, /* which driver may take it */
	BIND_STEP_UNBIND,   /* let go */
	BIND_STEP_BIND,	    /* to one driver by name */
	BIND_STEP_PROBE,    /* to whichever driver takes it */
	BIND_STEP_D3COLD,   /* whether its power may be cut */
	BIND_STEP_POWER,    /* whether it may sleep while idle */
};

struct bind_step {
	enum bind_step_kind kind;
	struct pci_address address;
	char path[160]; /* from "/sys" */
	char text[VFIO_DRIVER_LEN + 1];
};

#define BIND_STEPS_MAX (IOMMU_GROUP_MEMBERS_MAX * 5)
struct bind_plan {
	unsigned count;
	struct bind_step steps[BIND_STEPS_MAX];
};

/*
 * vfio_bind_plan_take() - every endpoint that is not on a VFIO driver: overrides first, since they
 * change nothing yet; then unbind; then probe; then, where @state has a record of what there was, it is
 * kept awake and its power on: vfio-pci lets idle devices sleep when it takes them, and some do not come
 * back from D3cold.
 */
void vfio_bind_plan_take(const struct iommu_group *group, const struct bind_state *state,
			 struct bind_plan *plan);
/*
 * vfio_bind_plan_restore() - put every endpoint that @state has a record of back as recorded;
 * with @state NULL let the kernel choose the driver of those on a VFIO driver.
 * @has_driver: whether a driver of that name is there; one that has gone is probed for
 */
void vfio_bind_plan_restore(const struct iommu_group *group, const struct bind_state *state,
			    bool (*has_driver)(const char *root, const char *driver),
			    const char *root, struct bind_plan *plan);

/* ---- writing it --------------------------------------------------------------------------- */

/* What touches the kernel; tests give their own. */
struct bind_io {
	/* 0 or -errno; called in the child */
	int (*write)(const char *root, const struct bind_step *step);
	/* load vfio-pci; 0 or -errno; called in the parent */
	int (*load_driver)(const char *root, unsigned timeout_ms);
};
extern const struct bind_io vfio_bind_io;

/*
 * vfio_bind_execute() - write the steps in a child process, in order, until one fails. It goes with its parent, and holds @lock_fd
 * until it is gone.
 * Returns 0; the step's -errno ("bind-failed", "permission-denied"); -ETIMEDOUT ("bind-timeout")
 * when they took more than @timeout_ms: the child is killed, and when it cannot even be reaped
 * (it sleeps in the kernel) it is left behind and the text says so.
 */
int vfio_bind_execute(const struct bind_io *io, const char *root, const struct bind_plan *plan,
		      unsigned timeout_ms, int lock_fd, struct error *e);

int vfio_bind_with(const struct bind_io *io, const char *root, const char *state_dir,
		   const struct pci_address *address, unsigned timeout_ms, struct error *e);
int vfio_unbind_with(const struct bind_io *io, const char *root, const char *state_dir,
		     const struct pci_address *address, unsigned timeout_ms, struct error *e);

#endif
