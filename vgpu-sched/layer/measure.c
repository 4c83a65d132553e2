// SPDX-License-Identifier: Apache-2.0
/* How long what was issued really ran (measure.h). Command buffers are recorded once, a pair for each slot, and used again. */
#include "vgpu-sched/layer/measure.h"

/* ---- what a meter needs ------------------------------------------------------------------------ */

static VkResult record(struct layer_device *device, const struct meter *meter,
		       VkCommandBuffer commands, uint32_t query)
{
	static const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
	};
	/* What is beneath may be another layer, and looks for the loader's pointer in it. */
	VkResult result = device->set_loader_data(device->handle, commands);

	if (!result)
		result = device->next.BeginCommandBuffer(commands, &begin);
	if (result)
		return result;
	device->next.CmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
					meter->queries, query);
	return device->next.EndCommandBuffer(commands);
}

static VkResult recordings_create(struct layer_device *device, uint32_t family, struct meter *meter)
{
	const VkQueryPoolCreateInfo queries = { .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
						.queryType = VK_QUERY_TYPE_TIMESTAMP,
						.queryCount = 2 * METER_SLOTS };
	const VkCommandPoolCreateInfo pool = { .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
					       .queueFamilyIndex = family };
	VkCommandBufferAllocateInfo allocation = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = METER_SLOTS,
	};
	VkResult result =
		device->next.CreateQueryPool(device->handle, &queries, NULL, &meter->queries);

	if (!result)
		result = device->next.CreateCommandPool(device->handle, &pool, NULL, &meter->pool);
	if (result)
		return result;
	device->next.ResetQueryPool(device->handle, meter->queries, 0, 2 * METER_SLOTS);
	allocation.commandPool = meter->pool;
	result = device->next.AllocateCommandBuffers(device->handle, &allocation, meter->begins);
	if (!result)
		result = device->next.AllocateCommandBuffers(device->handle, &allocation,
							     meter->ends);
	for (uint32_t i = 0; !result && i < METER_SLOTS; i++) {
		result = record(device, meter, meter->begins[i], 2 * i);
		if (!result)
			result = record(device, meter, meter->ends[i], 2 * i + 1);
	}
	return result;
}

static VkResult timeline_create(struct layer_device *device, VkSemaphore *timeline)
{
	static const VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
	};
	static const VkSemaphoreCreateInfo info = { .sType =
							    VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
						    .pNext = &type };

	return device->next.CreateSemaphore(device->handle, &info, NULL, timeline);
}

VkResult meter_create(struct layer_device *device, unsigned timestamp_bits, uint32_t family,
		      struct meter *meter)
{
	VkResult result;

	*meter = (struct meter){ 0 };
	result = timeline_create(device, &meter->timeline);
	meter->timestamp_bits = timestamp_bits;
	if (!result && meter->timestamp_bits)
		result = recordings_create(device, family, meter);
	if (result)
		meter_destroy(device, meter);
	return result;
}

void meter_destroy(struct layer_device *device, struct meter *meter)
{
	device->next.DestroyCommandPool(device->handle, meter->pool, NULL);
	device->next.DestroyQueryPool(device->handle, meter->queries, NULL);
	device->next.DestroySemaphore(device->handle, meter->timeline, NULL);
	*meter = (struct meter){ 0 };
}

/* ---- batches ----------------------------------------------------------------------------------- */

bool meter_full(const struct meter *meter)
{
	return meter->issued - meter->done == METER_SLOTS;
}

static VkCommandBufferSubmitInfo command(VkCommandBuffer commands)
{
	return (VkCommandBufferSubmitInfo){ .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
					    .commandBuffer = commands };
}

void meter_add(struct meter *meter, struct work *work, bool forced)
{
	const unsigned slot = meter->issued++ % METER_SLOTS;
	VkSubmitInfo2 *submit = &work->submit;
	/* Ours are not protected, and may not be among those that are. */
	const bool timestamps = meter->queries && !(submit->flags & VK_SUBMIT_PROTECTED_BIT);

	meter->slots[slot].issued_ns = monotonic_ns();
	meter->slots[slot].expected_ns = meter->expected_ns;
	meter->slots[slot].timestamps = timestamps;
	meter->slots[slot].forced = forced;
	work->signals[submit->signalSemaphoreInfoCount++] = (VkSemaphoreSubmitInfo){
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
		.semaphore = meter->timeline,
		.value = meter->issued,
		.stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
	};
	submit->pSignalSemaphoreInfos = work->signals;
	if (!timestamps)
		return;
	work->commands[-1] = command(meter->begins[slot]);
	work->commands[submit->commandBufferInfoCount] = command(meter->ends[slot]);
	submit->pCommandBufferInfos = work->commands - 1;
	submit->commandBufferInfoCount += 2;
}

void meter_remove(struct meter *meter)
{
	meter->issued--;
}

static bool timestamps_read(struct layer_device *device, const struct meter *meter, unsigned slot,
			    uint64_t ticks[2])
{
	VkResult result = device->next.GetQueryPoolResults(
		device->handle, meter->queries, 2 * slot, 2, 2 * sizeof(ticks[0]), ticks,
		sizeof(ticks[0]), VK_QUERY_RESULT_64_BIT);

	device->next.ResetQueryPool(device->handle, meter->queries, 2 * slot, 2);
	return result == VK_SUCCESS;
}

int meter_reap(struct layer_device *device, struct meter *meter, struct device_clock *clock,
	       struct measured *out)
{
	const unsigned slot = meter->done % METER_SLOTS;
	uint64_t ticks[2], value, now, took;
	VkResult result;

	if (meter->done == meter->issued)
		return 0;
	if (meter->seen <= meter->done) {
		result = device->next.GetSemaphoreCounterValue(device->handle, meter->timeline,
							       &value);
		if (result)
			return result;
		meter->seen = MIN(value, meter->issued);
		if (meter->seen <= meter->done)
			return 0;
	}
	now = monotonic_ns();
	*out = (struct measured){ .forced = meter->slots[slot].forced,
				  .expected_ns = meter->slots[slot].expected_ns,
				  .begin_ns = MAX(meter->slots[slot].issued_ns, meter->done_ns),
				  .end_ns = now };
	if (meter->slots[slot].timestamps && timestamps_read(device, meter, slot, ticks)) {
		clock_update(device, clock, ticks[1], meter->timestamp_bits, now);
		/* Not before it was issued, nor after it was seen to be done, whatever the clocks say; as long as it took. */
		took = clock_between_ns(clock, ticks[0], ticks[1], meter->timestamp_bits);
		out->end_ns = clock_ns(clock, ticks[1], meter->timestamp_bits);
		out->end_ns = MIN(MAX(out->end_ns, meter->slots[slot].issued_ns + took), now);
		out->begin_ns =
			MAX(out->end_ns - MIN(took, out->end_ns), meter->slots[slot].issued_ns);
	}
	took = out->end_ns - MIN(out->begin_ns, out->end_ns);
	/* The longest of the last ones: one who mixes long ones with many short ones is known by the long ones. */
	meter->expected_ns = MAX(took, meter->expected_ns - meter->expected_ns / 8);
	meter->done_ns = now;
	meter->done++;
	return 1;
}
