/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an arbiter and its clients say to each other: messages of one size over a UNIX SOCK_SEQPACKET socket, and a page of
 * shared memory for each client, in which grants appear without a system call of the client's. Private to
 * vgpu-sched/live/.
 *
 * Who owns a vGPU (its launcher) makes it with CREATE and holds that connection open as long as the vGPU shall live. It gets a
 * token, which it gives to the processes that are to run as that vGPU, and to nobody else; they REGISTER with it. So no process says
 * who it is: it can only show what it was given.
 */
#ifndef VGPU_SCHED_LIVE_PROTOCOL_H
#define VGPU_SCHED_LIVE_PROTOCOL_H

#include <stdatomic.h>

#include "vgpu-sched/vgpu-sched.h"

#define LIVE_VERSION	     3
#define LIVE_TOKEN_SIZE	     16
#define LIVE_NAME_SIZE	     48
#define LIVE_DESCRIPTORS_MAX 2			       /* along with an answer */
#define LIVE_LEASE_NS	     (500 * UINT64_C(1000000)) /* of being alone */

enum live_type {
	LIVE_CREATE = 1, /* launcher: a vGPU */
	LIVE_CREATED,	 /* @error, @token */
	LIVE_REGISTER,	 /* worker: @token */
	LIVE_REGISTERED, /* @error, @gpu, @name, @memory_quota; descriptors: its page, the vGPU's page */
	LIVE_WANT,	 /* worker: work waits on @engine */
	LIVE_RELEASE, /* worker: its grant on @engine ends, @used_ns since it was last settled; @again: more waits. Without a grant: nothing waits any more */
	/*
	 * launcher: another policy, weight, share for its vGPU; with none of its own another @weight for the one called @name, and nothing
	 * else. Answered by CREATED.
	 */
	LIVE_CHANGE,
	LIVE_STATUS, /* launcher: answered by STATUS, @workers, with a descriptor: a memfd of JSON */
	LIVE_FORCED, /* worker: work of @used_ns was submitted to @engine without a grant */
	LIVE_ASK, /* who has @token: which GPU is it, and is the process whose pidfd comes along one of its workers; @used_ns: a number for the answer */
	LIVE_ANSWER, /* @error, @gpu, @name, @workers: 1 or 0; @used_ns as asked */
};

/* One size for all, so that a wrong one is easily told. Unused bytes are zero. */
struct live_message {
	uint32_t type, version;
	int32_t error; /* 0 or an errno */
	uint32_t engine, again;
	uint32_t policy, weight, share_ppm, elastic_ppm; /* CREATE, CHANGE */
	uint32_t reserved;
	uint64_t credit_max_ns, surplus_max_ns,
		credit_ns;     /* BURST; @credit_ns: what it begins with */
	uint64_t memory_quota; /* bytes; 0: none */
	uint64_t used_ns;
	uint64_t workers; /* STATUS, to the owner of a vGPU: processes that ever registered as it */
	uint8_t token[LIVE_TOKEN_SIZE];
	char gpu[LIVE_NAME_SIZE];  /* which physical GPU, as both sides name it (gpu_name.h) */
	char name[LIVE_NAME_SIZE]; /* of the vGPU, for people */
	char text[160];		   /* with @error: why */
	char code[32];		   /* and struct error's code */
};
_Static_assert(sizeof(struct live_message) == 392, "the same for every compiler");

/*
 * Written by the arbiter, but for @used_ns and @memory_used; the arbiter reads only these two, and believes of them what can harm nobody
 * but their vGPU. What a client does to its own page is its own affair.
 */
struct live_page {
	_Atomic uint32_t
		wake; /* futex: counts what there is to look at: grants, alone that becomes 0, what the process's own threads have */
	uint32_t reserved;
	struct {
		_Atomic uint64_t id; /* 0: none */
		_Atomic uint64_t slice_ns;
		/*
		 * Nobody else waits: beyond the slice it may go on until then (CLOCK_MONOTONIC); 0: somebody does. A lease that
		 * the arbiter renews, so that nobody goes on under one that has stopped.
		 */
		_Atomic uint64_t alone_until_ns;
	} grants[SCHED_ENGINES];
	/* GPU time used and not yet told: the client adds, whoever settles takes it out. */
	_Atomic uint64_t used_ns[SCHED_ENGINES];
	/* Its part of the vGPU's memory_used: what its end gives back. */
	_Atomic uint64_t memory_used;
};

/* One for each vGPU, shared by its processes and by nobody else's. */
struct live_vgpu_page {
	_Atomic uint64_t memory_used; /* bytes of device memory */
	/* Its allowance of work without a turn (client.h): when it will be whole again. */
	_Atomic uint64_t forced_until_ns;
};

#endif
