/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vgpu-sched: who may run on a shared GPU next, for how long, and what it is charged.
 *
 * The core is pure: time comes in as an argument, decisions go out as values. It does no I/O, reads
 * no clock, starts no thread, draws no random number, and allocates only in sched_gpu_create(). The
 * simulator, the property tests and the live arbiter run this same object code; the same calls give
 * the same answers everywhere.
 *
 * The round of a submission: sched_submit() says that a vGPU has work; sched_pick() hands out the
 * next grant, or says when to ask again; the caller lets the work run; sched_complete() ends the
 * grant and charges the GPU time that was really used. GPU work is not preemptible, so a grant is
 * gated before and charged after: what ran too long stays as debt until it is paid.
 *
 * A vGPU is one client however many queues or contexts it has. Where several of its queues ran at
 * once the caller charges the union of their intervals.
 *
 * Threading: one struct sched_gpu is used by one thread at a time; different ones share nothing.
 * Times are nanoseconds of one monotonic clock of the caller's (simulated or CLOCK_MONOTONIC). A
 * time that runs backwards counts as the latest one seen.
 *
 * docs/scheduler.md has the promise of each policy as a formula, with the test that holds it.
 */
#ifndef VGPU_SCHED_VGPU_SCHED_H
#define VGPU_SCHED_VGPU_SCHED_H

#include <stdio.h>

#include "base/base.h"

#define SCHED_NEVER	    UINT64_MAX /* a time that does not come by itself */
#define SCHED_USED_UNKNOWN  UINT64_MAX /* sched_complete(): charge the time since the grant */
#define SCHED_PPM	    1000000u   /* shares are parts of a million of one engine */
#define SCHED_CREDIT_NS	    (60 * NSEC_PER_SEC) /* one credit: one whole GPU busy for a minute */
#define SCHED_VGPUS_MAX	    4096u
#define SCHED_DEPTH_MAX	    64u
#define SCHED_WEIGHT_MAX    1000000u
#define SCHED_WEIGHT_NORMAL 100u /* the default weight, and that of every equal_share */

/*
 * The engines of a GPU. Each is a resource of its own: shares, weights, credits and debts hold per
 * engine, with the same configuration on each; work on one is never charged to another.
 */
enum sched_engine {
	SCHED_ENGINE_GRAPHICS, /* graphics and compute */
	SCHED_ENGINE_COPY,
	SCHED_ENGINE_VIDEO,
	SCHED_ENGINES
};
const char *sched_engine_name(enum sched_engine engine); /* "graphics", "copy", "video" */

/*
 * What a vGPU is promised. On one GPU any mixture may run. Classes go in order: guaranteed time
 * (fixed_share, and burst up to its baseline), then shared time (weighted, equal_share, burst above
 * its baseline), then elastic time (fixed_share above its share), then best effort. Inside a class
 * start-time fair queueing decides; fixed_share and burst pass a token bucket first.
 *
 * In the formulas L is the longest grant (charged time, and linger_ns), D the depth of the engine, w a
 * weight.
 */
enum sched_policy {
	/* Slack only: what no other class wants. Among themselves as equals. No promise of time. */
	SCHED_BEST_EFFORT,
	/* An equal part of the shared class with whoever runs: weighted, with SCHED_WEIGHT_NORMAL. */
	SCHED_EQUAL_SHARE,
	/*
	 * A part of the engine and not more, whoever else is there: in every interval of length d at
	 * most share * (d + period) + D*L; with elastic time, at most (share + elastic) * (d +
	 * period) + D*L, of which the part above the share only while no guaranteed or shared work
	 * waits. What it leaves unused is never saved up beyond one period.
	 */
	SCHED_FIXED_SHARE,
	/*
	 * A part of the shared class in proportion to the weight: over every interval in which i and
	 * j both have work waiting, |C_i/w_i - C_j/w_j| <= (D + 1) * (L_i/w_i + L_j/w_j), at any
	 * speed of the GPU (SFQ(D): Jin, Chase, Kaur 2004).
	 */
	SCHED_WEIGHTED,
	/*
	 * Credits: earned at the baseline share, spent by running, saved up to credit_max. Until
	 * they run out it takes shared time beside its baseline; then it has its baseline. In every
	 * interval of length d at most credit_max + surplus_max + baseline * d + D*L.
	 */
	SCHED_BURST,
	SCHED_POLICIES
};
const char *sched_policy_name(enum sched_policy policy); /* "best_effort", ... */

/*
 * Who decides on a GPU. DIVVY is ours, with the policies above. The others are models of what
 * exists, for comparison only: they use what they know of a vGPU's configuration (weight) and
 * ignore the rest, as the originals do.
 */
enum sched_model {
	SCHED_MODEL_DIVVY,
	/* No scheduler: submissions in the order of their arrival. */
	SCHED_MODEL_REFERENCE_FIFO,
	/*
	 * NVIDIA vGPU's time slicing (vGPU user guide, chapter 6; slice and averaging factor as in
	 * open-gpu-kernel-modules nvrm_registry.h): round robin over the vGPUs with work (best
	 * effort), over those that are there (equal share), over a fixed number of slots (fixed
	 * share), the last two with the adaptive correction of overshoot.
	 */
	SCHED_MODEL_REFERENCE_NVIDIA_BEST_EFFORT,
	SCHED_MODEL_REFERENCE_NVIDIA_EQUAL,
	SCHED_MODEL_REFERENCE_NVIDIA_FIXED,
	/* Intel GVT-g's sched_policy.c: 1 ms ticks, a 100 ms balance by weight, reset every 1 s. */
	SCHED_MODEL_REFERENCE_GVTG,
	/* Xen's credit scheduler (sched_credit.c): 30 ms accounting, UNDER, OVER and BOOST. */
	SCHED_MODEL_REFERENCE_XEN_CREDIT,
	SCHED_MODELS
};
const char *sched_model_name(enum sched_model model); /* "divvy", "reference-fifo", ... */

/* 0 stands for the default where one is named. */
struct sched_gpu_config {
	enum sched_model model;
	unsigned vgpus_max; /* places, 1 to SCHED_VGPUS_MAX; those in debt that left hold theirs */
	unsigned depth;	    /* D: grants out at once on one engine, 1 to SCHED_DEPTH_MAX; 1 */
	/*
	 * The aim of one grant: how long the caller may go on submitting under it. Not a limit that
	 * can be held on work that is not preemptible; beyond it is overrun. 2 ms.
	 */
	uint64_t slice_ns;
	/* fixed_share and baselines: how much of a share can be saved up, as time. 100 ms. */
	uint64_t period_ns;
	/*
	 * What handing the engine over costs: the least that a grant is charged, and how long it may
	 * hold the engine without running before that is charged too. 20 us.
	 */
	uint64_t overhead_ns;
	/*
	 * The longest that a grant keeps its place among the D. After it the place goes to another,
	 * and the vGPU gets no further grant before this one ends. 250 ms.
	 */
	uint64_t hold_max_ns;
	/* Best effort waits until no other class had work for so long. 0: not at all. */
	uint64_t idle_gap_ns;
	/*
	 * For how long the engine waits for the next submission of a vGPU that has just ended its
	 * last one, before it serves one that would come after it. One that submits, waits and
	 * submits again would otherwise give its turn away each time, whatever its weight. The time
	 * waited is charged to it, and who was waited for in vain is not waited for again before it
	 * has been quick. 0: not at all, and no work waits while the engine is idle.
	 */
	uint64_t linger_ns;
	/* REFERENCE_NVIDIA_*: averaging factor, 1 to 60, 33; slots of FIXED, vgpus_max. */
	unsigned averaging_factor, slots;
};

struct sched_vgpu_config {
	/*
	 * Who it is, over its life and after: a vGPU that leaves and joins again is the same by this
	 * number, and meets the debts it left. Not 0. The caller makes sure that a guest cannot
	 * choose it.
	 */
	uint64_t identity;
	enum sched_policy policy;
	uint32_t weight;      /* WEIGHTED, BURST above its baseline: 1 to SCHED_WEIGHT_MAX; 100 */
	uint32_t share_ppm;   /* FIXED_SHARE: the share; BURST: the baseline; 1 to SCHED_PPM */
	uint32_t elastic_ppm; /* FIXED_SHARE: how much more while others leave it; 0: nothing */
	/*
	 * BURST: most that is saved up, in time of the engine; never less than what the baseline
	 * earns in one period, or waiting for a neighbour's job would cost some of it.
	 */
	uint64_t credit_max_ns;
	uint64_t surplus_max_ns; /* BURST: how far below nothing it may go ("unlimited"); 0 */
};

/*
 * What a vGPU owns and owes on each engine, to be kept where it outlives the scheduler. Fractions
 * of a nanosecond are rounded against the vGPU.
 */
struct sched_account {
	uint64_t identity;
	struct {
		uint64_t debt_ns; /* service that it had ahead of its turn */
		/*
		 * What it may still take: BURST: the credits; FIXED_SHARE: what is left of its share,
		 * elastic time included. Below zero: surplus taken and overrun.
		 */
		int64_t credit_ns;
		/* BURST, elastic FIXED_SHARE: how much of it in the guaranteed class. */
		int64_t guaranteed_ns;
	} engines[SCHED_ENGINES];
};

struct sched_decision {
	bool granted;
	/* With a grant: */
	unsigned vgpu;	   /* index, as sched_vgpu_join() gave it */
	uint64_t grant;	   /* for sched_complete(); never 0, never used twice */
	uint64_t slice_ns; /* how long the caller may go on submitting under it */
	/*
	 * Without one: the earliest time at which asking again can have another answer, if nothing
	 * is submitted, completed or changed before; SCHED_NEVER. Never in the past.
	 */
	uint64_t next_ns;
};

/* What a grant came to. */
struct sched_charge {
	unsigned vgpu;
	enum sched_engine engine;
	uint64_t granted_ns; /* when it was given */
	uint64_t used_ns;    /* the GPU time booked: what was told, at most the time since then */
	/*
	 * Charged besides: time for which the grant kept the engine idle, and the rest of the least
	 * charge. used_ns + surcharge_ns is what weights, shares and credits pay.
	 */
	uint64_t surcharge_ns;
	uint64_t overrun_ns; /* used beyond the slice */
	uint64_t debt_ns;    /* how far it now is ahead of its turn, in its own service */
};

struct sched_vgpu_stats {
	uint64_t pending;   /* submissions waiting for a grant */
	unsigned in_flight; /* grants out, overdue ones among them */
	unsigned overdue;   /* grants out for more than hold_max */
	uint64_t grants;
	uint64_t used_ns;      /* exact sum of used_ns over the charges */
	uint64_t surcharge_ns; /* exact sum, and the time for which others waited for it (linger) */
	uint64_t overrun_ns;   /* exact sum */
	uint64_t forced_ns;    /* of used_ns: what sched_charge_forced() booked */
	/* Told to sched_complete() beyond the time since the grant, or to sched_charge_forced() beyond that since it joined: not booked. */
	uint64_t disputed_ns;
	uint64_t throttled_ns; /* work waited, and its own share or credits were the reason */
	uint64_t debt_ns;      /* now, this and the next two as in struct sched_account */
	int64_t credit_ns;
	int64_t guaranteed_ns;
};

struct sched_gpu; /* one physical GPU, or one hardware partition of it */

/*
 * sched_gpu_create() - a GPU with no vGPUs, in one allocation.
 * @config: copied
 *
 * Returns 0 and *gpu, owned by the caller; -EINVAL with words for a value out of range, -ENOMEM.
 */
int sched_gpu_create(const struct sched_gpu_config *config, struct sched_gpu **gpu,
		     struct error *e);
void sched_gpu_destroy(struct sched_gpu *gpu); /* NULL is fine */

/* sched_gpu_config() - what holds, with defaults filled in. */
const struct sched_gpu_config *sched_gpu_config(const struct sched_gpu *gpu);

/*
 * sched_gpu_guaranteed_ppm() - the sum of fixed shares and baselines of those that are there.
 * The shared class is promised the rest of the engine.
 */
uint32_t sched_gpu_guaranteed_ppm(const struct sched_gpu *gpu);

/*
 * sched_vgpu_join() - a vGPU comes.
 * @config: copied
 * @account: what it owned and owed when it was last taken out; NULL: nothing. Not read where the
 *	GPU itself still knows the identity: leaving and joining again changes no debt.
 * @vgpu: its index from now on, below vgpus_max
 *
 * A newcomer starts at the current turn: no claim on time before, no debt. Returns 0, or with words
 * -EINVAL (a value out of range), -EEXIST (the identity is there), -ENOSPC (shares and baselines
 * above 1, or no place is free). Linear in vgpus_max.
 */
int sched_vgpu_join(struct sched_gpu *gpu, uint64_t now_ns, const struct sched_vgpu_config *config,
		    const struct sched_account *account, unsigned *vgpu, struct error *e);

/*
 * sched_vgpu_change() - another policy, weight or share, effective from @now_ns.
 * @config: the identity must be the vGPU's
 *
 * Time already used keeps its price; debt in nanoseconds is carried over exactly. Grants that are
 * out are charged under the new configuration. Returns 0 or as sched_vgpu_join(), nothing changed.
 */
int sched_vgpu_change(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		      const struct sched_vgpu_config *config, struct error *e);

/*
 * sched_vgpu_leave() - a vGPU goes; its waiting work is dropped, its grants end as with
 * SCHED_USED_UNKNOWN (complete them first where the time is known).
 * @account: filled with what it owns and owes; NULL: not wanted
 *
 * While it owes, the place stays taken and the identity known. Away, it earns no credit; debt is
 * paid off as it would be by waiting. Returns 0, -ENOENT.
 */
int sched_vgpu_leave(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		     struct sched_account *account);

/* sched_vgpu_account() - as sched_vgpu_leave() would fill it now. Returns 0, -ENOENT. */
int sched_vgpu_account(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		       struct sched_account *account);

/* sched_vgpu_find() - the index of @identity, or -ENOENT. Linear in vgpus_max. */
int sched_vgpu_find(const struct sched_gpu *gpu, uint64_t identity);

/*
 * sched_submit() - @count more submissions wait for a grant on @engine: they can run as soon as they
 * may (one that still waits for a semaphore is told only when the wait is over).
 * Returns 0, -ENOENT (no such vGPU or engine), -EOVERFLOW. O(log n).
 */
int sched_submit(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu, enum sched_engine engine,
		 uint64_t count);

/*
 * sched_withdraw() - @count of them wait no more: cancelled, or run under a grant that was out
 * already. Returns 0, -ENOENT, -ERANGE (fewer are waiting; nothing changed). O(log n).
 */
int sched_withdraw(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu, enum sched_engine engine,
		   uint64_t count);

/*
 * sched_pick() - the next grant on @engine, if one may be given now. Call it after every change
 * until it grants no more, and again at next_ns. One submission of the vGPU waits less with each
 * grant.
 *
 * O(log n) a grant, over any sequence of calls.
 */
struct sched_decision sched_pick(struct sched_gpu *gpu, uint64_t now_ns, enum sched_engine engine);

/*
 * sched_complete() - a grant ends and is charged.
 * @used_ns: GPU time really used under it. More than the time since the grant is not believed: that
 *	time is booked and the rest counted as disputed. SCHED_USED_UNKNOWN books it without dispute.
 * @charge: NULL: not wanted
 *
 * Returns 0, or -ENOENT for what is no grant that is out. O(log n).
 */
int sched_complete(struct sched_gpu *gpu, uint64_t now_ns, uint64_t grant, uint64_t used_ns,
		   struct sched_charge *charge);

/*
 * sched_settle() - a grant that is out while nothing waits on its engine is booked up to now and goes on, as if it were given now.
 * @used_ns: as for sched_complete(), since the grant or the last settlement
 * @charge: NULL: not wanted
 *
 * Having an engine that nobody else wanted is neither a debt nor a claim: the time used is booked, and the vGPU is where it would be had it run
 * all the time, at the turn, whatever it did and says. Only for policies without a share or credits, which are spent alone or not.
 * Returns 0, -ENOENT (no grant that is out), -EBUSY (something waits), -EPERM (a share, credits, or a model that knows no settling), -ENOSPC (its
 * place has gone to another: hold_max). O(log n).
 */
int sched_settle(struct sched_gpu *gpu, uint64_t now_ns, uint64_t grant, uint64_t used_ns,
		 struct sched_charge *charge);

/*
 * sched_charge_forced() - work ran, or runs, without a grant: the caller had to let it go though it was nobody's turn.
 * @used_ns: GPU time that it takes. All that a vGPU was ever charged so on an engine is at most the time since it joined; what is told
 *	beyond that is not booked but counted as disputed. The least charge is overhead_ns, as for a grant.
 * @charge: as of a grant whose slice was 0: all of it is overrun. NULL: not wanted
 *
 * It is paid at once and in full, out of what a grant given now would be paid from: tag, share, credits. One that has nothing waiting
 * is put at the current turn first, so that time in which it did nothing pays none of it. What a full bucket might have earned while the
 * work ran is not credited. Other vGPUs, grants that are out and the engine's idle time are not touched: what is
 * told here harms and helps nobody else. Returns 0, -ENOENT (no such vGPU or engine). O(log n).
 */
int sched_charge_forced(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
			enum sched_engine engine, uint64_t used_ns, struct sched_charge *charge);

/* sched_vgpu_stats() - Returns 0, -ENOENT. */
int sched_vgpu_stats(struct sched_gpu *gpu, uint64_t now_ns, unsigned vgpu,
		     enum sched_engine engine, struct sched_vgpu_stats *stats);

/*
 * sched_ticks() - from @begin to @end on a counter of which @valid_bits count (1 to 64; Vulkan's
 * timestampValidBits), which may have wrapped once. An end before the begin thus reads as nearly a
 * whole turn of the counter; sched_complete() does not believe it.
 */
uint64_t sched_ticks(uint64_t begin, uint64_t end, unsigned valid_bits);

/* ---- the simulator (docs/simulator.md) ------------------------------------------------------- */

struct sim_options {
	const char *scenario; /* path of a YAML file */
	/*
	 * Who decides, separated by commas: "as-written", a policy's name (every vGPU gets it), a model's
	 * name. NULL: as written. More than one are compared.
	 */
	const char *policies;
	uint64_t seed, duration_ns; /* instead of the file's; 0: as there */
	bool json_only;		    /* JSON on @out instead of tables */
	const char *json, *csv, *plot,
		*timeline; /* files to write; NULL: none. The timeline is of the first run. */
};
/* What `divvy sim --compare` compares when nothing is said. */
#define SIM_COMPARE_ALL                                                                        \
	"as-written,best_effort,reference-fifo,reference-nvidia-best-effort,reference-nvidia-" \
	"equal,reference-nvidia-fixed,reference-gvtg,reference-xen-credit"

/*
 * sim_command() - run a scenario under each of the policies, print what came of it on @out, write
 * the files. Nothing runs when anything is wrong with the scenario. One line on how fast it went is logged.
 *
 * Returns 0 or -errno: "scenario-unreadable", "bad-scenario" (file, line, key), "bad-trace",
 * "scenario-too-long", "bad-value" (an unknown policy, a plot's ending), "no-gnuplot", "output".
 */
int sim_command(const struct sim_options *options, FILE *out, struct error *e);

/* ---- the arbiter (docs/arbiter.md) --------------------------------------------------------------- */

#define ARBITER_SOCKET "/run/divvy/arbiter"
/* About what a program takes from the end of its work to its next submission. */
#define ARBITER_LINGER_NS UINT64_C(300000)

struct arbiter_options {
	const char
		*socket; /* path; NULL: ARBITER_SOCKET, whose folder is made where it is missing */
	const char *trace;  /* a CSV file that grows by a line a turn; NULL: none */
	uint64_t slice_ns;  /* 0: the core's */
	uint64_t linger_ns; /* struct sched_gpu_config's */
	uint64_t hog_ns; /* a turn that keeps others waiting so long ends its process; 0: never */
	unsigned depth;	 /* 0: 1 */
};

/*
 * arbiter_serve() - share GPUs until SIGINT or SIGTERM. Blocking; the caller has no other thread.
 * Returns 0 or -errno: "arbiter-socket", "output", "bad-value".
 */
int arbiter_serve(const struct arbiter_options *options, struct error *e);
/*
 * arbiter_status() - what every vGPU has and owes, as the arbiter on @socket tells it.
 * @json: malloc()ed text for the caller
 * Returns 0 or -errno: "no-arbiter".
 */
int arbiter_status(const char *socket, char **json, struct error *e);
/*
 * arbiter_ask() - the same for who may not wait: asks, and returns a descriptor that becomes readable (or ends), or -errno: "no-arbiter".
 * arbiter_answer() - what came on it; the descriptor stays the caller's.
 */
int arbiter_ask(const char *socket, struct error *e);
int arbiter_answer(int fd, char **json, struct error *e);
/*
 * arbiter_reweigh() - another weight for the vGPU called @name, for root and the arbiter's own user. Waits up to 10 s.
 * Returns 0 or -errno: "no-arbiter", "no-such-vgpu", "vgpu-policy", "vgpu-weight".
 */
int arbiter_reweigh(const char *socket, const char *name, uint32_t weight, struct error *e);

/* ---- GPUs as the arbiter knows them (docs/arbiter.md) ---------------------------------------------- */

#define VULKAN_GPUS_MAX 32

struct vulkan_gpu {
	char name[48];	  /* a PCI address, or what the device calls itself, as one word */
	char device[256]; /* as the device calls itself */
	bool cpu;	  /* renders on the CPU */
	uint64_t memory;  /* bytes of device-local memory */
};

/*
 * launch_gpu_list() - what Vulkan offers, without any layer. Loads every driver into this process, which has one thread: its environment changes
 * meanwhile.
 * Returns how many were written to @gpus, or -errno: "no-vulkan-device".
 */
int launch_gpu_list(struct vulkan_gpu gpus[VULKAN_GPUS_MAX], struct error *e);

/*
 * Who holds a vGPU's token may ask which processes work as it.
 *
 * vgpu_watch_open() - @socket and @token as DIVVY_VGPU_SOCKET and DIVVY_VGPU_TOKEN have them. @gpu: the physical GPU's name, as the arbiter and Vulkan
 * have it ("0000:01:00.0", or what the device calls itself). Returns a descriptor, which is readable once the arbiter or the vGPU is gone, or -errno:
 * "no-arbiter", "no-such-vgpu", "no-vgpu".
 * vgpu_watch_ask() - whether the process of @pidfd is registered. @serial: another one each time. Waits up to a tenth of a second.
 * Returns 1, 0, or -errno: -EAGAIN (no answer yet), -EPIPE and others (the arbiter or the vGPU is gone), -EOPNOTSUPP (its kernel is before 6.9).
 */
#define VGPU_GPU_NAME_SIZE 48
int vgpu_watch_open(const char *socket, const char *token, char gpu[VGPU_GPU_NAME_SIZE],
		    struct error *e);
int vgpu_watch_ask(int fd, int pidfd, uint64_t serial);

/* ---- a program under a share (docs/arbiter.md) ------------------------------------------------------ */

struct launch_options {
	const char *socket; /* of the arbiter; NULL: ARBITER_SOCKET */
	bool embedded;	    /* start an arbiter for this program alone, instead */
	const char *gpu;    /* its name, or a part of what it calls itself; NULL: the only one */
	const char *name;   /* of the vGPU, for people; NULL: the program's */
	const char *layers; /* folder of the Vulkan layer's manifest; NULL: beside the executable */
	struct sched_vgpu_config config; /* identity is not read */
	uint64_t credit_ns;		 /* burst: what it begins with */
	uint64_t memory_quota;		 /* bytes of device memory; 0: none */
	char **argv;			 /* the program and its words, NULL at the end */
};

struct launch_result {
	int status;	  /* of the program; 128 + n where a signal ended it */
	uint64_t workers; /* Vulkan instances and devices of it that ever registered for the vGPU */
	bool arbiter_lost; /* the arbiter ended before the program did: @workers is not known */
	char gpu[48], name[48];
};

/*
 * launch_program() - run a program as a vGPU of its own. It is a child that is killed when this process dies; SIGINT, SIGTERM, SIGHUP,
 * SIGQUIT, SIGUSR1 and SIGUSR2 are handed on to it. Blocking; the caller has no other thread.
 *
 * Returns 0 when the program ran, whatever came of it, or -errno: "layer-missing", "no-arbiter", "no-vulkan-device", "no-such-gpu", "which-gpu",
 * "quota-too-large", "program-not-started", and what the scheduler refuses: "gpu-shares-full", "gpu-places-full", "vgpu-share", "vgpu-elastic",
 * "vgpu-weight", "vgpu-policy", or "arbiter-refuses".
 */
int launch_program(const struct launch_options *options, struct launch_result *result,
		   struct error *e);

#endif
