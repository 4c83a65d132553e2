/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core: what the files of the core share. gpu.c keeps places, grant.c work that waits and grants,
 * where times are believed or disputed; a model (fair.c, or a reference_*.c) decides who is next. Everything
 * lies in the one allocation of sched_gpu_create().
 */
#ifndef VGPU_SCHED_CORE_CORE_H
#define VGPU_SCHED_CORE_CORE_H

#include "vgpu-sched/core/heap.h"
#include "vgpu-sched/vgpu-sched.h"

#define NOBODY UINT32_MAX

__extension__ typedef __int128 wide;

/* The classes, in their order. */
enum rank {
	RANK_GUARANTEED,
	RANK_SHARED,
	RANK_ELASTIC,
	RANK_BEST_EFFORT,
	RANKS,
	RANK_NONE = RANKS
};

/* Time that may still be taken, in 10^-6 ns, so that nanoseconds times parts of a million are exact. */
struct bucket {
	wide balance;
	uint64_t at_ns; /* what was earned until here is in it */
};

/* A policy as fair.c reads it: made once from the configuration (policy.c). */
struct terms {
	enum rank rank;		 /* where it runs */
	bool limited;		 /* only while `limit` is not below its floor */
	bool guaranteed;	 /* in RANK_GUARANTEED instead while that bucket is not negative */
	uint32_t weights[RANKS]; /* 0: never runs there */
	uint32_t limit_ppm, guaranteed_ppm; /* what the buckets earn */
	wide limit_cap, limit_floor, guaranteed_cap;
};

struct grant {
	uint64_t granted_ns, slice_ns;
	uint64_t generation; /* of this slot; odd: out */
	vtime expected;	     /* fair.c: put onto the tag until the time really used is known */
	uint32_t vgpu;
	uint32_t next, previous; /* in its list */
	uint64_t kept_ns;	 /* overdue: how long it had kept the engine when its place went */
	enum rank rank;
	bool overdue;
};

/* Grants that are out, oldest first. */
struct grant_list {
	uint32_t oldest, newest;
	unsigned count;
};

struct fair_seat {
	vtime tags[RANKS]; /* start tag of its next grant; below the turn: stale */
	uint32_t remainders[RANKS];
	struct bucket limit, guaranteed;
	uint64_t expected_ns; /* what its last grant was charged */
	enum rank rank;	      /* the heap it is in */
	uint64_t throttled_since_ns;
	uint64_t ended_ns; /* when its last grant ended, while it has not come again; SCHED_NEVER */
	bool pauses;	   /* it did not come again within linger_ns, the last time */
};

struct fair_engine {
	vtime turn[RANKS]; /* SFQ's v(t) */
	uint64_t weights[RANKS];
	struct heap ready[RANKS];
	struct heap timers;
	uint64_t above_ns; /* when a class above best effort last had anything */
	/* Who ended last and may come again soon; since when others wait for that (SCHED_NEVER). */
	uint32_t awaited;
	enum rank awaited_rank;
	uint64_t awaited_since_ns;
};

/* ---- states of the reference models ---- */

struct fifo_run { /* submissions of one vGPU, in one go */
	uint64_t count;
	uint32_t vgpu, next;
};

struct fifo_engine {
	struct fifo_run *runs;
	uint32_t oldest, newest, unused;
	uint32_t unused_count, without; /* runs; vGPUs that have none in the queue */
};

struct fifo_seat {
	uint64_t withdrawn; /* of its oldest, still in the runs */
	uint32_t runs;
};

struct nvidia_engine {
	uint32_t holder;
	uint64_t turn_ends_ns;
	unsigned running; /* grants out */
	bool began;
};

struct nvidia_seat {
	uint64_t overshoot_ns; /* accrued */
};

struct gvtg_engine {
	uint64_t next_tick_ns, ticks;
	uint32_t current, chosen; /* NOBODY: the idle vGPU */
	uint64_t scheduled_in_ns, turns;
	unsigned running;
	bool began, switching;
};

struct gvtg_seat {
	int64_t left_ns, allocated_ns;
	uint64_t last_turn; /* orders the list of least recent use */
	bool busy;
};

struct xen_engine {
	uint64_t next_tick_ns, ticks, order;
	uint64_t since_ns; /* when the holder was scheduled */
	int64_t balance_ns;
	uint32_t holder;
	unsigned running;
	bool began;
};

struct xen_seat {
	int64_t credit_ns;
	uint64_t order; /* in the run queue, among equals */
	int8_t priority;
	bool active, queued;
};

/* One vGPU on one engine. */
struct seat {
	uint64_t pending;
	uint64_t slots; /* of its grants: one bit each that is out */
	unsigned in_flight, overdue;
	uint64_t grants, used_ns, surcharge_ns, overrun_ns, disputed_ns, throttled_ns;
	uint64_t joined_ns, forced_ns;
	union {
		struct fair_seat fair;
		struct fifo_seat fifo;
		struct nvidia_seat nvidia;
		struct gvtg_seat gvtg;
		struct xen_seat xen;
	};
};

struct engine {
	enum sched_engine name;
	struct seat *seats;	   /* by vGPU */
	struct grant *grants;	   /* depth for each vGPU */
	struct grant_list counted; /* against the depth: those that are not overdue */
	struct grant_list overdue;
	unsigned waiting;	/* vGPUs with pending work */
	unsigned active;	/* vGPUs with pending work or grants out */
	uint64_t idle_since_ns; /* while there is none */
	uint64_t last_end_ns;	/* of a grant */
	/* The engine ran from here to last_end without a pause that would count. */
	uint64_t busy_since_ns;
	union {
		struct fair_engine fair;
		struct fifo_engine fifo;
		struct nvidia_engine nvidia;
		struct gvtg_engine gvtg;
		struct xen_engine xen;
	};
};

enum presence {
	PLACE_FREE,
	PLACE_TAKEN,
	PLACE_LEFT /* gone, but known */
};

struct client {
	enum presence presence;
	struct sched_vgpu_config config;
	struct terms terms;
};

struct sched_gpu {
	struct sched_gpu_config config;
	const struct model *model;
	uint64_t now_ns; /* the latest time seen */
	uint32_t guaranteed_ppm;
	struct client *clients;
	struct engine engines[SCHED_ENGINES];
};

/* Room for @count things of @size bytes, out of the one allocation; see sched_gpu_create(). */
struct arena {
	char *base; /* NULL: only measuring */
	size_t used;
};
void *arena_take(struct arena *arena, size_t count, size_t size);

/*
 * Who decides. NULL where a model does not care. All are called with gpu->now_ns up to date.
 */
struct model {
	const char *name;
	/* Takes the engine's memory, all zero; runs once to measure, where the pointers are NULL. */
	void (*layout)(const struct sched_gpu_config *config, struct engine *engine,
		       struct arena *arena);
	/* A new client sits down (gpu->clients[vgpu] is filled); its seat is zero. */
	void (*join)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
		     const struct sched_account *account);
	/*
	 * The seat goes on under @terms instead of gpu->clients[vgpu].terms: a change, or the return
	 * of one that left.
	 */
	void (*change)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
		       const struct terms *terms);
	void (*leave)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu);
	/* Whether one that left still owes: its place is not free. */
	bool (*owes)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu);
	void (*account)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu,
			struct sched_account *account);
	uint64_t (*debt)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu);
	/* The engine is about to have work again after idle_since_ns. */
	void (*wake)(struct sched_gpu *gpu, struct engine *engine);
	/* @count more submissions, or fewer (@withdrawn); before update(). */
	void (*arrived)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu, uint64_t count,
			bool withdrawn);
	/* The seat has begun or ceased to have pending work, or something overdue. */
	void (*update)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu);
	/*
	 * The next one, out of those with pending work and nothing overdue, or NOBODY and in
	 * *next_ns when to ask again. There is a place for a grant.
	 */
	uint32_t (*pick)(struct sched_gpu *gpu, struct engine *engine, uint64_t *next_ns,
			 uint64_t *slice_ns);
	/* It gets a grant, which does not count yet; pending is one less already. */
	void (*granted)(struct sched_gpu *gpu, struct engine *engine, struct grant *grant);
	/* The grant is settled at now: it had the engine since granted_ns. False: this vGPU's never are. NULL: nobody's. */
	bool (*settled)(struct sched_gpu *gpu, struct engine *engine, struct grant *grant);
	/* @ns of service were had without a grant. */
	void (*forced)(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu, uint64_t ns);
	/* The grant ended; the seat no longer counts it. */
	void (*charge)(struct sched_gpu *gpu, struct engine *engine, struct grant *grant,
		       const struct sched_charge *charge);
};

extern const struct model model_fair;
extern const struct model reference_fifo, reference_nvidia_best_effort, reference_nvidia_equal,
	reference_nvidia_fixed, reference_gvtg, reference_xen_credit;

static inline void gpu_advance(struct sched_gpu *gpu, uint64_t now_ns)
{
	gpu->now_ns = MAX(gpu->now_ns, now_ns);
}

static inline bool gpu_has(const struct sched_gpu *gpu, unsigned vgpu)
{
	return vgpu < gpu->config.vgpus_max && gpu->clients[vgpu].presence == PLACE_TAKEN;
}

/* grants_drop() - the vGPU's pending work is dropped and its grants end, charged for all their time. */
void grants_drop(struct sched_gpu *gpu, struct engine *engine, uint32_t vgpu);

/* Whether the vGPU has work that a grant would start. */
static inline bool seat_wants(const struct engine *engine, uint32_t vgpu)
{
	return engine->seats[vgpu].pending && !engine->seats[vgpu].overdue;
}

static inline struct grant *grant_of(const struct sched_gpu *gpu, const struct engine *engine,
				     uint32_t vgpu, unsigned slot)
{
	return &engine->grants[(size_t)vgpu * gpu->config.depth + slot];
}

/* policy_check() - fills in the defaults of *config. Returns 0 or -EINVAL with words. */
int policy_check(struct sched_vgpu_config *config, struct error *e);
void policy_terms(const struct sched_gpu_config *gpu, const struct sched_vgpu_config *config,
		  struct terms *terms);
/* What the configuration counts for in admission. */
uint32_t policy_guaranteed_ppm(const struct sched_vgpu_config *config);

#endif
