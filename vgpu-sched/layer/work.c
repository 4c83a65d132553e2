// SPDX-License-Identifier: Apache-2.0
/*
 * Copies of what is submitted (work.h). Each is made in two passes over the same code: one that counts bytes, one that fills
 * them.
 *
 * Of a pNext chain the structures that VkSubmitInfo2 and VkBindSparseInfo may carry on Linux are copied (vk.xml,
 * "structextends"). Where there is another one the chain stays the caller's as it is.
 */
#include <string.h>

#include "vgpu-sched/layer/work.h"

struct arena {
	char *memory; /* NULL: only counting */
	size_t used;
};

static void *take(struct arena *arena, size_t size)
{
	void *at = arena->memory ? arena->memory + arena->used : NULL;

	arena->used += ALIGN_UP(size, sizeof(max_align_t));
	return at;
}

/* NULL for nothing, as well as while counting. */
static void *put(struct arena *arena, const void *data, size_t size)
{
	void *at = data && size ? take(arena, size) : NULL;

	if (at)
		memcpy(at, data, size);
	return at;
}

#define PUT(arena, data, count) put(arena, data, (size_t)(count) * sizeof(*(data)))

static const void *find(const void *chain, VkStructureType type)
{
	for (const VkBaseInStructure *at = chain; at; at = at->pNext)
		if (at->sType == type)
			return at;
	return NULL;
}

/* ---- pNext ------------------------------------------------------------------------------------- */

/* Size 0: its content goes into the copy itself. */
static const struct {
	VkStructureType type;
	size_t size;
} chainable[] = {
	{ VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO, 0 },
	{ VK_STRUCTURE_TYPE_DEVICE_GROUP_SUBMIT_INFO, 0 },
	{ VK_STRUCTURE_TYPE_PROTECTED_SUBMIT_INFO, 0 },
	{ VK_STRUCTURE_TYPE_DEVICE_GROUP_BIND_SPARSE_INFO, sizeof(VkDeviceGroupBindSparseInfo) },
	{ VK_STRUCTURE_TYPE_PERFORMANCE_QUERY_SUBMIT_INFO_KHR,
	  sizeof(VkPerformanceQuerySubmitInfoKHR) },
	{ VK_STRUCTURE_TYPE_LATENCY_SUBMISSION_PRESENT_ID_NV,
	  sizeof(VkLatencySubmissionPresentIdNV) },
	{ VK_STRUCTURE_TYPE_AMIGO_PROFILING_SUBMIT_INFO_SEC,
	  sizeof(VkAmigoProfilingSubmitInfoSEC) },
	{ VK_STRUCTURE_TYPE_FRAME_BOUNDARY_EXT, sizeof(VkFrameBoundaryEXT) },
};

static int chainable_find(VkStructureType type)
{
	for (unsigned i = 0; i < ARRAY_SIZE(chainable); i++)
		if (chainable[i].type == type)
			return (int)i;
	return -1;
}

static void frame_boundary_fill(struct arena *arena, VkFrameBoundaryEXT *copy,
				const VkFrameBoundaryEXT *from)
{
	const VkImage *images = PUT(arena, from->pImages, from->imageCount);
	const VkBuffer *buffers = PUT(arena, from->pBuffers, from->bufferCount);
	const void *tag = put(arena, from->pTag, from->tagSize);

	if (!copy)
		return;
	copy->pImages = images;
	copy->pBuffers = buffers;
	copy->pTag = tag;
}

static const void *chain_copy(struct arena *arena, const void *chain, bool *uncopied)
{
	const void *first = NULL;
	VkBaseInStructure *last = NULL;

	for (const VkBaseInStructure *at = chain; at; at = at->pNext)
		if (chainable_find(at->sType) < 0) {
			*uncopied = true;
			return chain;
		}
	for (const VkBaseInStructure *at = chain; at; at = at->pNext) {
		VkBaseInStructure *copy = put(arena, at, chainable[chainable_find(at->sType)].size);

		if (at->sType == VK_STRUCTURE_TYPE_FRAME_BOUNDARY_EXT)
			frame_boundary_fill(arena, (VkFrameBoundaryEXT *)copy,
					    (const VkFrameBoundaryEXT *)at);
		if (!copy)
			continue;
		copy->pNext = NULL;
		if (last)
			last->pNext = copy;
		else
			first = copy;
		last = copy;
	}
	return first;
}

/* ---- submits ----------------------------------------------------------------------------------- */

static struct work *work_begin(struct arena *arena, void *memory, enum work_kind kind)
{
	struct work *work;

	*arena = (struct arena){ .memory = memory };
	work = take(arena, sizeof(*work));
	if (work) {
		memset(work, 0, sizeof(*work));
		work->kind = kind;
	}
	return work;
}

static size_t submit2_fill(void *memory, const VkSubmitInfo2 *batch)
{
	struct arena arena;
	struct work *work = work_begin(&arena, memory, WORK_SUBMIT);
	bool uncopied = false;
	const void *chain = chain_copy(&arena, batch->pNext, &uncopied);
	const VkSemaphoreSubmitInfo *waits =
		PUT(&arena, batch->pWaitSemaphoreInfos, batch->waitSemaphoreInfoCount);
	VkCommandBufferSubmitInfo *commands =
		take(&arena, (batch->commandBufferInfoCount + 2ul) * sizeof(*commands));
	VkSemaphoreSubmitInfo *signals =
		take(&arena, (batch->signalSemaphoreInfoCount + 1ul) * sizeof(*signals));

	if (!work)
		return arena.used;
	commands++;
	for (uint32_t i = 0; i < batch->commandBufferInfoCount; i++) {
		commands[i] = batch->pCommandBufferInfos[i];
		uncopied |= commands[i].pNext != NULL;
	}
	for (uint32_t i = 0; i < batch->signalSemaphoreInfoCount; i++) {
		signals[i] = batch->pSignalSemaphoreInfos[i];
		uncopied |= signals[i].pNext != NULL;
	}
	for (uint32_t i = 0; i < batch->waitSemaphoreInfoCount; i++)
		uncopied |= batch->pWaitSemaphoreInfos[i].pNext != NULL;
	work->size = arena.used;
	work->uncopied = uncopied;
	work->commands = commands;
	work->signals = signals;
	work->submit = *batch;
	work->submit.pNext = chain;
	work->submit.pWaitSemaphoreInfos = waits;
	work->submit.pCommandBufferInfos = commands;
	work->submit.pSignalSemaphoreInfos = signals;
	return arena.used;
}

static VkSemaphoreSubmitInfo semaphore(VkSemaphore handle, const uint64_t *values, uint32_t count,
				       const uint32_t *devices, uint32_t device_count, uint32_t i,
				       VkPipelineStageFlags2 stages)
{
	return (VkSemaphoreSubmitInfo){ .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
					.semaphore = handle,
					.value = values && i < count ? values[i] : 0,
					.deviceIndex = devices && i < device_count ? devices[i] : 0,
					.stageMask = stages };
}

static size_t submit_fill(void *memory, const VkSubmitInfo *batch)
{
	static const VkTimelineSemaphoreSubmitInfo no_values;
	static const VkDeviceGroupSubmitInfo one_device;
	const VkTimelineSemaphoreSubmitInfo *values =
		find(batch->pNext, VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO);
	const VkDeviceGroupSubmitInfo *group =
		find(batch->pNext, VK_STRUCTURE_TYPE_DEVICE_GROUP_SUBMIT_INFO);
	const VkProtectedSubmitInfo *protect =
		find(batch->pNext, VK_STRUCTURE_TYPE_PROTECTED_SUBMIT_INFO);
	struct arena arena;
	struct work *work = work_begin(&arena, memory, WORK_SUBMIT);
	bool uncopied = false;
	const void *chain = chain_copy(&arena, batch->pNext, &uncopied);
	VkSemaphoreSubmitInfo *waits = take(&arena, batch->waitSemaphoreCount * sizeof(*waits));
	VkCommandBufferSubmitInfo *commands =
		take(&arena, (batch->commandBufferCount + 2ul) * sizeof(*commands));
	VkSemaphoreSubmitInfo *signals =
		take(&arena, (batch->signalSemaphoreCount + 1ul) * sizeof(*signals));

	if (!work)
		return arena.used;
	values = values ? values : &no_values;
	group = group ? group : &one_device;
	commands++;
	for (uint32_t i = 0; i < batch->waitSemaphoreCount; i++)
		waits[i] = semaphore(batch->pWaitSemaphores[i], values->pWaitSemaphoreValues,
				     values->waitSemaphoreValueCount,
				     group->pWaitSemaphoreDeviceIndices, group->waitSemaphoreCount,
				     i, batch->pWaitDstStageMask[i]);
	for (uint32_t i = 0; i < batch->commandBufferCount; i++)
		commands[i] = (VkCommandBufferSubmitInfo){
			.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
			.commandBuffer = batch->pCommandBuffers[i],
			.deviceMask = i < group->commandBufferCount
					      ? group->pCommandBufferDeviceMasks[i]
					      : 0,
		};
	for (uint32_t i = 0; i < batch->signalSemaphoreCount; i++)
		signals[i] = semaphore(
			batch->pSignalSemaphores[i], values->pSignalSemaphoreValues,
			values->signalSemaphoreValueCount, group->pSignalSemaphoreDeviceIndices,
			group->signalSemaphoreCount, i, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT);
	work->size = arena.used;
	work->uncopied = uncopied;
	work->commands = commands;
	work->signals = signals;
	work->submit = (VkSubmitInfo2){
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
		.pNext = chain,
		.flags = protect && protect->protectedSubmit ? VK_SUBMIT_PROTECTED_BIT : 0,
		.waitSemaphoreInfoCount = batch->waitSemaphoreCount,
		.pWaitSemaphoreInfos = waits,
		.commandBufferInfoCount = batch->commandBufferCount,
		.pCommandBufferInfos = commands,
		.signalSemaphoreInfoCount = batch->signalSemaphoreCount,
		.pSignalSemaphoreInfos = signals,
	};
	return arena.used;
}

size_t work_of_submit(void *memory, size_t room, const VkSubmitInfo *batch)
{
	size_t needed = submit_fill(NULL, batch);

	return memory && needed <= room ? submit_fill(memory, batch) : needed;
}

size_t work_of_submit2(void *memory, size_t room, const VkSubmitInfo2 *batch)
{
	size_t needed = submit2_fill(NULL, batch);

	return memory && needed <= room ? submit2_fill(memory, batch) : needed;
}

/* ---- sparse binds ------------------------------------------------------------------------------ */

static const VkTimelineSemaphoreSubmitInfo *values_copy(struct arena *arena, const void *chain)
{
	const VkTimelineSemaphoreSubmitInfo *from =
		find(chain, VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO);
	VkTimelineSemaphoreSubmitInfo *copy;
	const uint64_t *waits, *signals;

	if (!from)
		return NULL;
	copy = PUT(arena, from, 1);
	waits = PUT(arena, from->pWaitSemaphoreValues,
		    from->pWaitSemaphoreValues ? from->waitSemaphoreValueCount : 0);
	signals = PUT(arena, from->pSignalSemaphoreValues,
		      from->pSignalSemaphoreValues ? from->signalSemaphoreValueCount : 0);
	if (!copy)
		return NULL;
	copy->pNext = NULL;
	copy->pWaitSemaphoreValues = waits;
	copy->pSignalSemaphoreValues = signals;
	return copy;
}

static size_t bind_fill(void *memory, const VkBindSparseInfo *bind)
{
	struct arena arena;
	struct work *work = work_begin(&arena, memory, WORK_SPARSE);
	bool uncopied = false;
	const void *chain = chain_copy(&arena, bind->pNext, &uncopied);
	const VkTimelineSemaphoreSubmitInfo *values =
		uncopied ? NULL : values_copy(&arena, bind->pNext);
	const VkSemaphore *waits = PUT(&arena, bind->pWaitSemaphores, bind->waitSemaphoreCount);
	const VkSemaphore *signals =
		PUT(&arena, bind->pSignalSemaphores, bind->signalSemaphoreCount);
	VkSparseBufferMemoryBindInfo *buffers =
		PUT(&arena, bind->pBufferBinds, bind->bufferBindCount);
	VkSparseImageOpaqueMemoryBindInfo *opaques =
		PUT(&arena, bind->pImageOpaqueBinds, bind->imageOpaqueBindCount);
	VkSparseImageMemoryBindInfo *images = PUT(&arena, bind->pImageBinds, bind->imageBindCount);

	for (uint32_t i = 0; i < bind->bufferBindCount; i++) {
		const VkSparseMemoryBind *binds =
			PUT(&arena, bind->pBufferBinds[i].pBinds, bind->pBufferBinds[i].bindCount);
		if (buffers)
			buffers[i].pBinds = binds;
	}
	for (uint32_t i = 0; i < bind->imageOpaqueBindCount; i++) {
		const VkSparseMemoryBind *binds = PUT(&arena, bind->pImageOpaqueBinds[i].pBinds,
						      bind->pImageOpaqueBinds[i].bindCount);
		if (opaques)
			opaques[i].pBinds = binds;
	}
	for (uint32_t i = 0; i < bind->imageBindCount; i++) {
		const VkSparseImageMemoryBind *binds =
			PUT(&arena, bind->pImageBinds[i].pBinds, bind->pImageBinds[i].bindCount);
		if (images)
			images[i].pBinds = binds;
	}
	if (!work)
		return arena.used;
	work->size = arena.used;
	work->uncopied = uncopied;
	work->bind = *bind;
	work->bind.pNext = chain;
	if (values) {
		((VkTimelineSemaphoreSubmitInfo *)(uintptr_t)values)->pNext = chain;
		work->bind.pNext = values;
	}
	work->bind.pWaitSemaphores = waits;
	work->bind.pSignalSemaphores = signals;
	work->bind.pBufferBinds = buffers;
	work->bind.pImageOpaqueBinds = opaques;
	work->bind.pImageBinds = images;
	return arena.used;
}

size_t work_of_bind(void *memory, size_t room, const VkBindSparseInfo *bind)
{
	size_t needed = bind_fill(NULL, bind);

	return memory && needed <= room ? bind_fill(memory, bind) : needed;
}

/* ---- what is in it ----------------------------------------------------------------------------- */

bool work_runs(const struct work *work)
{
	return work->kind == WORK_SUBMIT && work->submit.commandBufferInfoCount;
}

uint32_t work_signal_count(const struct work *work)
{
	return work->kind == WORK_SUBMIT   ? work->submit.signalSemaphoreInfoCount
	       : work->kind == WORK_SPARSE ? work->bind.signalSemaphoreCount
					   : 0;
}

typedef bool each_semaphore(void *opaque, VkSemaphore semaphore, uint64_t value);

static bool each_of_submit(const VkSemaphoreSubmitInfo *infos, uint32_t count, each_semaphore *each,
			   void *opaque)
{
	for (uint32_t i = 0; i < count; i++)
		if (!each(opaque, infos[i].semaphore, infos[i].value))
			return false;
	return true;
}

static bool each_of_bind(const VkSemaphore *semaphores, uint32_t count, const uint64_t *values,
			 uint32_t value_count, each_semaphore *each, void *opaque)
{
	for (uint32_t i = 0; i < count; i++)
		if (!each(opaque, semaphores[i], values && i < value_count ? values[i] : 0))
			return false;
	return true;
}

bool work_waits(const struct work *work, each_semaphore *each, void *opaque)
{
	const VkTimelineSemaphoreSubmitInfo *values;

	if (work->kind == WORK_SUBMIT)
		return each_of_submit(work->submit.pWaitSemaphoreInfos,
				      work->submit.waitSemaphoreInfoCount, each, opaque);
	if (work->kind == WORK_FENCE)
		return true;
	values = find(work->bind.pNext, VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO);
	return each_of_bind(work->bind.pWaitSemaphores, work->bind.waitSemaphoreCount,
			    values ? values->pWaitSemaphoreValues : NULL,
			    values ? values->waitSemaphoreValueCount : 0, each, opaque);
}

bool work_signals(const struct work *work, each_semaphore *each, void *opaque)
{
	const VkTimelineSemaphoreSubmitInfo *values;

	if (work->kind == WORK_SUBMIT)
		return each_of_submit(work->submit.pSignalSemaphoreInfos,
				      work->submit.signalSemaphoreInfoCount, each, opaque);
	if (work->kind == WORK_FENCE)
		return true;
	values = find(work->bind.pNext, VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO);
	return each_of_bind(work->bind.pSignalSemaphores, work->bind.signalSemaphoreCount,
			    values ? values->pSignalSemaphoreValues : NULL,
			    values ? values->signalSemaphoreValueCount : 0, each, opaque);
}
