/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A compute job of any length, whose result the CPU can check at once (spin.comp).
 *
 * Each of its lanes is stepped `iterations` times through x -> a x + c modulo 2^32. Running a job again steps on from where it is,
 * so that how often a job ran, and in which order, can be read from its lanes.
 */
#ifndef TESTS_LIVE_JOB_H
#define TESTS_LIVE_JOB_H

#include "tests/live/vk.h"

#define JOB_GROUP_LANES 64

struct job_kind {
	struct vk *vk;
	VkDescriptorSetLayout set_layout;
	VkPipelineLayout layout;
	VkPipeline pipeline;
	VkDescriptorPool sets;
	VkCommandPool pool;
};

struct job {
	struct vk *vk;
	VkBuffer buffer;
	VkDescriptorSet set;
	VkCommandBuffer
		command; /* can be submitted again while it is pending; waits for earlier ones */
	VkCommandBuffer unordered; /* the same, but what makes it wait is left to semaphores */
	uint32_t *lanes;
	uint32_t count, iterations, seed;
};

/* job_kind_create() - the pipeline, and room for @jobs. In @vk's bag. Returns 0 or -errno. */
int job_kind_create(struct vk *vk, unsigned jobs, struct job_kind *kind, struct error *e);
/* job_create() - @groups work groups, @iterations long, in the bag; prepared with seed 1. Not thread-safe. */
int job_create(struct job_kind *kind, uint32_t groups, uint32_t iterations, struct job *job,
	       struct error *e);
/* job_record() - write the command buffers again, for another length or for work on another buffer. They must not be pending. */
int job_record(struct job_kind *kind, struct job *job, VkBuffer buffer, struct error *e);
/* job_prepare() - give its lanes their first values. It must not be pending. */
void job_prepare(struct job *job, uint32_t seed);
/* job_check() - that its lanes are what @runs runs make of them, every one. Returns 0 or -EPROTO with the first wrong lane. */
int job_check(const struct job *job, uint64_t runs, struct error *e);
/* job_run() - submit it once and wait. Returns 0 or -errno; *ns, unless NULL, is how long both took together. */
int job_run(struct job *job, VkQueue queue, VkFence fence, uint64_t *ns, struct error *e);
/* The shortest times seen, submitting and waiting included: of a job of one iteration, and of the calibrated one. */
struct job_length {
	uint64_t empty_ns, job_ns;
};
/*
 * job_calibrate() - how many iterations take @ns on this device, if nobody else uses it now. *job keeps that length.
 * Returns 0 or -errno.
 */
int job_calibrate(struct job_kind *kind, struct job *job, uint64_t ns, struct job_length *length,
		  struct error *e);

#endif
