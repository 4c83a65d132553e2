// SPDX-License-Identifier: Apache-2.0
/*
 * Compute jobs (job.h): one storage buffer a job, mapped; the command buffer is recorded once and submitted as often as one likes.
 */
#include <errno.h>

#include "tests/live/job.h"
#include "tests/live/spin.comp.h"

#define HANDLE(x)    ((uint64_t)(uintptr_t)(x))
#define OBJECT(T, h) ((T)(uintptr_t)(h))

static void destroy_set_layout(struct vk *vk, uint64_t handle)
{
	vkDestroyDescriptorSetLayout(vk->device, OBJECT(VkDescriptorSetLayout, handle), NULL);
}

static void destroy_layout(struct vk *vk, uint64_t handle)
{
	vkDestroyPipelineLayout(vk->device, OBJECT(VkPipelineLayout, handle), NULL);
}

static void destroy_pipeline(struct vk *vk, uint64_t handle)
{
	vkDestroyPipeline(vk->device, OBJECT(VkPipeline, handle), NULL);
}

static void destroy_sets(struct vk *vk, uint64_t handle)
{
	vkDestroyDescriptorPool(vk->device, OBJECT(VkDescriptorPool, handle), NULL);
}

static int create_layouts(struct job_kind *kind, struct error *e)
{
	static const VkDescriptorSetLayoutBinding binding = {
		.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
		.descriptorCount = 1,
		.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
	};
	static const VkDescriptorSetLayoutCreateInfo set_info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
		.bindingCount = 1,
		.pBindings = &binding,
	};
	static const VkPushConstantRange range = { VK_SHADER_STAGE_COMPUTE_BIT, 0,
						   sizeof(uint32_t) };
	const VkPipelineLayoutCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
		.setLayoutCount = 1,
		.pSetLayouts = &kind->set_layout,
		.pushConstantRangeCount = 1,
		.pPushConstantRanges = &range,
	};
	VkDevice device = kind->vk->device;

	VK_TRY(vkCreateDescriptorSetLayout(device, &set_info, NULL, &kind->set_layout), e);
	TRY(vk_keep(kind->vk, destroy_set_layout, HANDLE(kind->set_layout), e));
	VK_TRY(vkCreatePipelineLayout(device, &info, NULL, &kind->layout), e);
	return vk_keep(kind->vk, destroy_layout, HANDLE(kind->layout), e);
}

int job_kind_create(struct vk *vk, unsigned jobs, struct job_kind *kind, struct error *e)
{
	const VkDescriptorPoolSize size = { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, jobs };
	const VkDescriptorPoolCreateInfo pool = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
		.maxSets = jobs,
		.poolSizeCount = 1,
		.pPoolSizes = &size,
	};
	VkComputePipelineCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
		.stage = { .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
			   .stage = VK_SHADER_STAGE_COMPUTE_BIT,
			   .pName = "main" },
	};

	*kind = (struct job_kind){ .vk = vk };
	TRY(create_layouts(kind, e));
	TRY(vk_shader(vk, spin_comp, sizeof(spin_comp), &info.stage.module, e));
	info.layout = kind->layout;
	VK_TRY(vkCreateComputePipelines(vk->device, NULL, 1, &info, NULL, &kind->pipeline), e);
	TRY(vk_keep(vk, destroy_pipeline, HANDLE(kind->pipeline), e));
	VK_TRY(vkCreateDescriptorPool(vk->device, &pool, NULL, &kind->sets), e);
	TRY(vk_keep(vk, destroy_sets, HANDLE(kind->sets), e));
	return vk_command_pool(vk, &kind->pool, e);
}

static void barrier(VkCommandBuffer command, VkPipelineStageFlags to, VkAccessFlags access)
{
	const VkMemoryBarrier memory = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
					 .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
					 .dstAccessMask = access };

	vkCmdPipelineBarrier(command, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, to, 0, 1, &memory, 0,
			     NULL, 0, NULL);
}

static int record(struct job_kind *kind, const struct job *job, VkCommandBuffer *command,
		  VkDescriptorSet set, bool ordered, struct error *e)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT
	};

	if (*command)
		vkFreeCommandBuffers(kind->vk->device, kind->pool, 1, command);
	TRY(vk_command_buffer(kind->vk, kind->pool, command, e));
	VK_TRY(vkBeginCommandBuffer(*command, &begin), e);
	if (ordered)
		barrier(*command, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
			VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
	vkCmdBindPipeline(*command, VK_PIPELINE_BIND_POINT_COMPUTE, kind->pipeline);
	vkCmdBindDescriptorSets(*command, VK_PIPELINE_BIND_POINT_COMPUTE, kind->layout, 0, 1, &set,
				0, NULL);
	vkCmdPushConstants(*command, kind->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
			   sizeof(job->iterations), &job->iterations);
	vkCmdDispatch(*command, job->count / JOB_GROUP_LANES, 1, 1);
	barrier(*command, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
	VK_TRY(vkEndCommandBuffer(*command), e);
	return 0;
}

int job_record(struct job_kind *kind, struct job *job, VkBuffer buffer, struct error *e)
{
	const VkDescriptorSetAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
		.descriptorPool = kind->sets,
		.descriptorSetCount = 1,
		.pSetLayouts = &kind->set_layout,
	};
	const VkDescriptorBufferInfo range = { buffer, 0, VK_WHOLE_SIZE };
	VkWriteDescriptorSet write = { .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
				       .descriptorCount = 1,
				       .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
				       .pBufferInfo = &range };

	if (!job->set)
		VK_TRY(vkAllocateDescriptorSets(kind->vk->device, &info, &job->set), e);
	write.dstSet = job->set;
	vkUpdateDescriptorSets(kind->vk->device, 1, &write, 0, NULL);
	TRY(record(kind, job, &job->command, job->set, true, e));
	return record(kind, job, &job->unordered, job->set, false, e);
}

int job_create(struct job_kind *kind, uint32_t groups, uint32_t iterations, struct job *job,
	       struct error *e)
{
	void *map;

	*job = (struct job){ .vk = kind->vk,
			     .count = groups * JOB_GROUP_LANES,
			     .iterations = iterations };
	TRY(vk_buffer(kind->vk, job->count * sizeof(*job->lanes),
		      VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
			      VK_BUFFER_USAGE_TRANSFER_DST_BIT,
		      &job->buffer, &map, e));
	job->lanes = map;
	job_prepare(job, 1);
	return job_record(kind, job, job->buffer, e);
}

void job_prepare(struct job *job, uint32_t seed)
{
	job->seed = seed;
	for (uint32_t i = 0; i < job->count; i++)
		job->lanes[i] = seed + i * 2654435761u;
}

/* x -> a x + c, @steps times, is x -> power x + sum: by squaring. */
static void leap(uint64_t steps, uint32_t *power, uint32_t *sum)
{
	uint32_t a = 1664525, c = 1013904223;

	*power = 1;
	*sum = 0;
	for (; steps; steps >>= 1) {
		if (steps & 1) {
			*power *= a;
			*sum = *sum * a + c;
		}
		c += a * c;
		a *= a;
	}
}

int job_check(const struct job *job, uint64_t runs, struct error *e)
{
	uint32_t power, sum;

	leap(runs * job->iterations, &power, &sum);
	for (uint32_t i = 0; i < job->count; i++) {
		uint32_t want = power * (job->seed + i * 2654435761u) + sum;

		EXPECT(job->lanes[i] == want, e,
		       "lane %u of %u is 0x%08x after %llu runs, not 0x%08x", i, job->count,
		       job->lanes[i], (unsigned long long)runs, want);
	}
	return 0;
}

int job_run(struct job *job, VkQueue queue, VkFence fence, uint64_t *ns, struct error *e)
{
	const struct vk_batch batch = { .commands = 1, .command = { job->command } };
	uint64_t start = monotonic_ns();

	TRY(vk_submit(queue, false, &batch, 1, fence, e));
	TRY(vk_wait(job->vk, fence, e));
	if (ns)
		*ns = monotonic_ns() - start;
	VK_TRY(vkResetFences(job->vk->device, 1, &fence), e);
	return 0;
}

/* The shortest of many, for at least a while: what disturbs only makes it longer. */
static int shortest(struct job_kind *kind, struct job *job, uint32_t iterations, VkFence fence,
		    uint64_t *best, struct error *e)
{
	const uint64_t end = monotonic_ns() + NSEC_PER_SEC / 20;
	uint64_t ns;

	job->iterations = iterations;
	TRY(job_record(kind, job, job->buffer, e));
	*best = UINT64_MAX;
	for (unsigned i = 0; i < 5 || monotonic_ns() < end; i++) {
		TRY(job_run(job, kind->vk->queues[0], fence, &ns, e));
		*best = MIN(*best, ns);
	}
	return 0;
}

int job_calibrate(struct job_kind *kind, struct job *job, uint64_t ns, struct job_length *length,
		  struct error *e)
{
	double wanted;
	VkFence fence;

	TRY(vk_fence(kind->vk, &fence, e));
	TRY(shortest(kind, job, 1, fence, &length->empty_ns, e));
	for (uint32_t iterations = 1024;; iterations *= 4) {
		TRY(shortest(kind, job, iterations, fence, &length->job_ns, e));
		if (length->job_ns > length->empty_ns + 2 * NSEC_PER_SEC / 1000 ||
		    iterations >= 1u << 28)
			break;
	}
	if (length->job_ns <= length->empty_ns)
		return error_set(e, EDOM, "calibrate", NULL,
				 "a job of %u iterations takes no longer than an empty one",
				 job->iterations);
	wanted = ns > length->empty_ns ? (double)(ns - length->empty_ns) : 0;
	wanted = wanted * job->iterations / (double)(length->job_ns - length->empty_ns) + 1;
	return shortest(kind, job, (uint32_t)MIN(wanted, 4e9), fence, &length->job_ns, e);
}
