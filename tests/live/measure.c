// SPDX-License-Identifier: Apache-2.0
/*
 * `vkload measure`: what stands between a program and its device costs: a submission of next to nothing and the wait for it, and
 * bytes into and out of a buffer that is mapped, with and without the device's own copy behind it. Each several times; what
 * comes back is compared with what went.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/live/job.h"
#include "tests/live/vkload.h"

#define RUNS   9u
#define ROUNDS 300u

struct transfer {
	VkBuffer near, far; /* mapped, and where the device has its own */
	VkCommandBuffer up, down;
	VkFence fence;
	void *mapped;
	uint8_t *ours;
	size_t size;
};

static double seconds_since(uint64_t began)
{
	return (double)(monotonic_ns() - began) / 1e9;
}

static int round_trips(struct vk *vk, json_t *to, struct error *e)
{
	struct job_kind kind;
	struct job job;
	VkFence fence;

	TRY(job_kind_create(vk, 1, &kind, e));
	TRY(job_create(&kind, 1, 1, &job, e));
	TRY(vk_fence(vk, &fence, e));
	for (unsigned run = 0; run < RUNS; run++) {
		uint64_t began = monotonic_ns();

		for (unsigned i = 0; i < ROUNDS; i++)
			TRY(job_run(&job, vk->queues[0], fence, NULL, e));
		json_array_append_new(to, json_real(seconds_since(began) * 1e6 / ROUNDS));
	}
	return job_check(&job, (uint64_t)RUNS * ROUNDS, e);
}

static int record(struct vk *vk, VkCommandPool pool, VkBuffer from, VkBuffer to, size_t size,
		  VkCommandBuffer *command, struct error *e)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
	};
	const VkBufferCopy whole = { .size = size };

	TRY(vk_command_buffer(vk, pool, command, e));
	VK_TRY(vkBeginCommandBuffer(*command, &begin), e);
	vkCmdCopyBuffer(*command, from, to, 1, &whole);
	VK_TRY(vkEndCommandBuffer(*command), e);
	return 0;
}

static int transfer_create(struct vk *vk, struct transfer *transfer, struct error *e)
{
	const VkBufferUsageFlags both =
		VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
	VkCommandPool pool;

	TRY(vk_buffer(vk, transfer->size, both, &transfer->near, &transfer->mapped, e));
	TRY(vk_buffer(vk, transfer->size, both, &transfer->far, NULL, e));
	TRY(vk_command_pool(vk, &pool, e));
	TRY(record(vk, pool, transfer->near, transfer->far, transfer->size, &transfer->up, e));
	TRY(record(vk, pool, transfer->far, transfer->near, transfer->size, &transfer->down, e));
	return vk_fence(vk, &transfer->fence, e);
}

static int carry_out(struct vk *vk, const struct transfer *transfer, VkCommandBuffer command,
		     struct error *e)
{
	const struct vk_batch batch = { .commands = 1, .command = { command } };
	VkFence fence = transfer->fence;

	TRY(vk_submit(vk->queues[0], false, &batch, 1, fence, e));
	TRY(vk_wait(vk, fence, e));
	VK_TRY(vkResetFences(vk->device, 1, &fence), e);
	return 0;
}

/* The first time pages come into being, so it does not count. */
static int transfers(struct vk *vk, const struct transfer *transfer, json_t *to[4], struct error *e)
{
	const double gib = (double)transfer->size / (double)GIB;

	for (unsigned run = 0; run <= RUNS; run++) {
		double seconds[4];
		uint64_t began;

		memset(transfer->ours, (int)run + 1, transfer->size);
		began = monotonic_ns();
		memcpy(transfer->mapped, transfer->ours, transfer->size);
		seconds[0] = seconds_since(began);
		TRY(carry_out(vk, transfer, transfer->up, e));
		seconds[1] = seconds_since(began);
		memset(transfer->mapped, 0, transfer->size);
		memset(transfer->ours, 0, transfer->size);
		began = monotonic_ns();
		TRY(carry_out(vk, transfer, transfer->down, e));
		seconds[3] = seconds_since(began);
		began = monotonic_ns();
		memcpy(transfer->ours, transfer->mapped, transfer->size);
		seconds[2] = seconds_since(began);
		seconds[3] += seconds[2];
		EXPECT(transfer->ours[0] == run + 1 &&
			       !memcmp(transfer->ours, transfer->ours + 1, transfer->size - 1),
		       e, "run %u: other bytes came back", run);
		for (unsigned i = 0; i < 4 && run; i++)
			json_array_append_new(to[i], json_real(gib / seconds[i]));
	}
	return 0;
}

static int measure(struct vk *vk, struct transfer *transfer, json_t *lists[5], struct error *e)
{
	TRY(round_trips(vk, lists[0], e));
	TRY(transfer_create(vk, transfer, e));
	return transfers(vk, transfer, lists + 1, e);
}

static void report(const struct vk *vk, const struct transfer *transfer, json_t *lists[5])
{
	print_json(json_pack("{s:s, s:s, s:I, s:O, s:O, s:O, s:O, s:O}", "mode", "measure",
			     "device", vk->properties.deviceName, "bytes",
			     (json_int_t)transfer->size, "submit_us", lists[0], "write_gib_s",
			     lists[1], "upload_gib_s", lists[2], "read_gib_s", lists[3],
			     "download_gib_s", lists[4]));
}

int measure_run(const struct load_options *options, struct error *e)
{
	static struct vk vk;
	struct transfer transfer = { .size = options->chunk_mib * MIB };
	json_t *lists[5];
	int err;

	TRY(vk_open(&vk, options->device, e));
	transfer.ours = malloc(transfer.size);
	if (!transfer.ours)
		return error_set(e, ENOMEM, "memory", NULL, "no memory for %u MiB",
				 options->chunk_mib);
	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		lists[i] = json_array();
	err = measure(&vk, &transfer, lists, e);
	free(transfer.ours);
	if (!err) {
		report(&vk, &transfer, lists);
		vk_close(&vk);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		json_decref(lists[i]);
	return err;
}
