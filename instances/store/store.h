/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: what the node knows and must not forget: instances, what they have of which GPU, changes under way, leases, credits, GPUs set
 * aside, events. SQLite with a write-ahead log; what is committed survives a kill and a power cut.
 *
 * One process at a time has a store: a lock on its folder, which ends with the process. Rows are small, so every change is a call that has
 * been committed when it returns, or several between store_begin() and store_commit(). Full disk or an unreadable store is an error to
 * the caller, never half a change. One thread.
 */
#ifndef INSTANCES_STORE_STORE_H
#define INSTANCES_STORE_STORE_H

#include "base/base.h"

#define STORE_VERSION	  4
#define STORE_NAME_SIZE	  48
#define STORE_GPU_SIZE	  104
#define STORE_EVENTS_KEPT 10000
#define STORE_LEASES_KEPT 10000

struct store;

/*
 * store_open() - the store in @folder, made where there is none; older versions are migrated.
 * Returns 0 or -errno: "store-in-use" (names who), "store-corrupt" (nothing is written over: says what to do), "store-newer", "store-failed".
 */
int store_open(const char *folder, struct store **out, struct error *e);
void store_close(struct store *store); /* NULL is fine; what is not committed is undone */

/*
 * store_lock() - a folder is this process's own, as long as it lives and the descriptor that is returned is open. A process locks a folder once.
 * Returns -errno: "store-in-use".
 */
int store_lock(const char *folder, struct error *e);

/*
 * store_keep() - how many events, and leases that have ended, are kept, instead of the numbers above. Older ones go as new ones come, a bounded
 * number at a time: a store that was kept longer shrinks over some hundred changes, and no change waits for it.
 */
void store_keep(struct store *store, unsigned events, unsigned leases);

/*
 * store_begin(), store_commit(), store_rollback() - several changes as one. They do not nest. After a failed call in between,
 * roll back.
 */
int store_begin(struct store *store, struct error *e);
int store_commit(struct store *store, struct error *e);
void store_rollback(struct store *store);

/*
 * store_backup() - a copy in the new file @path: written beside it, flushed, then named. "backup-exists", "backup-failed".
 * @bytes: its size; NULL: not wanted
 */
int store_backup(struct store *store, const char *path, uint64_t *bytes, struct error *e);
/* store_check() - PRAGMA integrity_check and the foreign keys. "store-corrupt". */
int store_check(struct store *store, struct error *e);

/* ---- instances ----------------------------------------------------------------------------- */

enum store_state {
	STORE_DEFINED,
	STORE_STARTING,
	STORE_RUNNING,
	STORE_STOPPING,
	STORE_STOPPED,
	STORE_FAILED,
	STORE_STATES
};
const char *store_state_name(enum store_state state);

enum store_restart {
	STORE_RESTART_NEVER,
	STORE_RESTART_ON_FAILURE,
	STORE_RESTART_ALWAYS
};

struct store_instance {
	char name[STORE_NAME_SIZE], uuid[37], type[STORE_NAME_SIZE];
	/* malloc()ed: JSON of the type, of what was asked for, of where it is placed (NULL: nowhere) */
	char *image, *definition, *request, *placement;
	char digest[33];
	uint32_t owner;
	uint32_t uid;		 /* its processes' own, of the daemon's pool; 0: none */
	bool transient, desired; /* @desired: it shall run */
	enum store_state state;
	enum store_restart restart;
	char error_code[48];
	char *error_text, *error_next;		    /* NULL: none */
	int64_t created_ms, changed_ms, started_ms; /* UTC; 0: never */
	uint32_t restarts;
	int32_t exit_status; /* -1: none */
};
/* store_instance_free() - what it points to; not the struct. */
void store_instance_free(struct store_instance *instance);

/* store_instance_put() - insert or replace by name; what belongs to it stays. -ENOSPC for a full disk, as everywhere: "store-full". */
int store_instance_put(struct store *store, const struct store_instance *instance, struct error *e);
int store_instance_delete(struct store *store, const char *name, struct error *e);
/* store_instances() - calls @each with every one, by name; what it points to is the callee's only until it returns. */
int store_instances(struct store *store, int (*each)(void *opaque, struct store_instance *instance),
		    void *opaque, struct error *e);
/* store_uids() - calls @each with every instance's uid, but 0. */
int store_uids(struct store *store, int (*each)(void *opaque, uint32_t uid), void *opaque,
	       struct error *e);

/* ---- what an instance has of the GPUs; survives everything ------------------------------------- */

struct store_reservation {
	char instance[STORE_NAME_SIZE], gpu[STORE_GPU_SIZE];
	unsigned index;	  /* of the instance's GPUs */
	bool dedicated;	  /* by VFIO: all but a vGPU */
	char provider[8]; /* "whole", "sriov", "mdev", "vulkan" */
	char parent
		[STORE_GPU_SIZE]; /* of a virtual function, and of what is made of one: the GPU that it is a part of; "": none */
	char mdev[37];	    /* mdev: its UUID; "": none */
	uint32_t share_ppm; /* promised time: fixed share, baseline */
	uint64_t vram_bytes;
	char functions[8 * 16 + 1];	   /* dedicated: PCI addresses, with blanks between */
	char arbiter_gpu[STORE_NAME_SIZE]; /* shared: how `divvy run-native --gpu` finds it */
};
/*
 * store_reservation_add() - refused by the store itself where a GPU would be given whole and shared, or whole twice, or in slices and
 * otherwise too, or fixed shares would be above 1: "gpu-taken".
 */
int store_reservation_add(struct store *store, const struct store_reservation *reservation,
			  struct error *e);
int store_reservations_drop(struct store *store, const char *instance, struct error *e);
int store_reservations(struct store *store,
		       int (*each)(void *opaque, const struct store_reservation *reservation),
		       void *opaque, struct error *e);

/* ---- processes: written before they run ----------------------------------------------------------- */

struct store_process {
	char instance[STORE_NAME_SIZE]; /* "": the node's (the arbiter) */
	char role[16];			/* "vmm", "gpu0", "arbiter" */
	int32_t pid;
	uint64_t start_time; /* /proc/PID/stat, field 22 */
	char boot[37];	     /* /proc/sys/kernel/random/boot_id */
	uint32_t uid;
};
int store_process_put(struct store *store, const struct store_process *process, struct error *e);
int store_process_drop(struct store *store, const char *instance, const char *role,
		       struct error *e); /* @role NULL: all */
int store_processes(struct store *store,
		    int (*each)(void *opaque, const struct store_process *process), void *opaque,
		    struct error *e);

/* ---- journal --------------------------------------------------------------------------------------- */

struct store_change {
	int64_t id;
	char what[16]; /* "start", "stop", "bind", "unbind", "delete", ... */
	char instance[STORE_NAME_SIZE], gpu[STORE_GPU_SIZE]; /* "": none */
	int64_t begun_ms;
};
/* store_change_begin() - committed before the step. *id is for store_change_end(). */
int store_change_begin(struct store *store, const char *what, const char *instance, const char *gpu,
		       int64_t *id, struct error *e);
/* @outcome: "done", or why it was undone */
int store_change_end(struct store *store, int64_t id, const char *outcome, struct error *e);
/* store_changes_open() - those begun and not ended, oldest first. */
int store_changes_open(struct store *store,
		       int (*each)(void *opaque, const struct store_change *change), void *opaque,
		       struct error *e);

/* ---- GPUs, leases ------------------------------------------------------------------------------------ */

struct store_gpu {
	char id[STORE_GPU_SIZE];
	bool drained;
	char quarantine_code[48]; /* "": none */
	char quarantine_text[512];
	int64_t since_ms;
	uint64_t resets;
};
int store_gpu_put(struct store *store, const struct store_gpu *gpu, struct error *e);
int store_gpus(struct store *store, int (*each)(void *opaque, const struct store_gpu *gpu),
	       void *opaque, struct error *e);

struct store_lease {
	char gpu[STORE_GPU_SIZE], instance[STORE_NAME_SIZE], uuid[37];
	uint32_t owner;
	int64_t begun_ms, ended_ms; /* 0: runs */
	uint32_t resets;
	bool bound; /* the daemon bound the GPU for it, and unbinds it afterwards */
	char link_before[48], link_after[48], verdict[256];
};
/* store_lease_begin() - one open lease a GPU, which the store holds ("gpu-taken"); the same instance again goes on with the open one. */
int store_lease_begin(struct store *store, const struct store_lease *lease, struct error *e);
/* store_lease_note() - what is known already of the end of the open lease of @lease->gpu: resets, link_after, verdict. */
int store_lease_note(struct store *store, const struct store_lease *lease, struct error *e);
/* store_lease_end() - ends the open lease of @lease->gpu, with what @lease says of its end. None open: 0. Old ones go that have
 * ended; one that is open stays, however old. */
int store_lease_end(struct store *store, const struct store_lease *lease, struct error *e);
/* store_leases() - of @gpu, NULL: of all, newest first, 200 at most; @open: only those that run. */
int store_leases(struct store *store, const char *gpu, bool open,
		 int (*each)(void *opaque, const struct store_lease *lease), void *opaque,
		 struct error *e);

/* ---- credits ------------------------------------------------------------------------------------------ */

struct store_credit {
	char instance[STORE_NAME_SIZE];
	unsigned index;
	int64_t balance_ns;	       /* below nothing: surplus */
	uint64_t usage_ns, charged_ns; /* ever */
	uint64_t seen_ns;	       /* of the vGPU that is there, what is in usage_ns */
};
int store_credit_put(struct store *store, const struct store_credit *credit, struct error *e);
int store_credits(struct store *store, int (*each)(void *opaque, const struct store_credit *credit),
		  void *opaque, struct error *e);

/*
 * store_launch() - whether @owner may have a type's initial credits once more, *given: @limit times within 24 hours before @now_ms (UTC). If so
 * it is counted. What was counted at a time that is yet to come, since the clock was set back, counts as of now.
 */
int store_launch(struct store *store, uint32_t owner, int64_t now_ms, unsigned limit, bool *given,
		 struct error *e);

/* ---- events -------------------------------------------------------------------------------------------- */

struct store_event {
	int64_t id, at_ms;
	char kind[12], code[32], instance[STORE_NAME_SIZE], gpu[STORE_GPU_SIZE];
	uint32_t owner; /* of the instance */
	char text[512];
};
/* store_event_add() - @event->id is filled. Old ones go, beyond what is kept and a hundred. */
int store_event_add(struct store *store, struct store_event *event, struct error *e);
/* store_event_last() - the id of the last one that was ever added; 0. */
int64_t store_event_last(struct store *store);
/* store_events() - those after @since, oldest first, @limit at most. */
int store_events(struct store *store, int64_t since, unsigned limit,
		 int (*each)(void *opaque, const struct store_event *event), void *opaque,
		 struct error *e);

#endif
