// SPDX-License-Identifier: Apache-2.0
/* Copies of submits: whole, independent of their originals, and with room for what measures them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vgpu-sched/layer/work.h"

#define SEMAPHORE(n) ((VkSemaphore)(uintptr_t)(0x100 + (n)))
#define COMMANDS(n)  ((VkCommandBuffer)(uintptr_t)(0x200 + (n)))

typedef size_t make_work(void *memory, size_t room, const void *from);

static size_t make1(void *memory, size_t room, const void *from)
{
	return work_of_submit(memory, room, from);
}

static size_t make2(void *memory, size_t room, const void *from)
{
	return work_of_submit2(memory, room, from);
}

static size_t make_bind(void *memory, size_t room, const void *from)
{
	return work_of_bind(memory, room, from);
}

/* In memory of just the size that was asked for: the sanitizers see a byte too many. */
static struct work *copy(make_work *make, const void *from)
{
	const size_t size = make(NULL, 0, from);
	struct work *work = malloc(size);

	assert_non_null(work);
	assert_int_equal(make(work, size - 1, from), size); /* too small: untouched */
	assert_int_equal(make(work, size, from), size);
	assert_int_equal(work->size, size);
	return work;
}

static bool count_one(void *opaque, VkSemaphore semaphore, uint64_t value)
{
	uint64_t *sum = opaque;

	*sum += (uint64_t)(uintptr_t)semaphore + value;
	return true;
}

static void a_submit_becomes_a_submit2_with_all_its_values(void **state)
{
	VkSemaphore waits[] = { SEMAPHORE(1), SEMAPHORE(2) }, signals[] = { SEMAPHORE(3) };
	VkPipelineStageFlags stages[] = { VK_PIPELINE_STAGE_VERTEX_SHADER_BIT,
					  VK_PIPELINE_STAGE_TRANSFER_BIT };
	VkCommandBuffer commands[] = { COMMANDS(1), COMMANDS(2) };
	uint64_t wait_values[] = { 0, 7 }, signal_values[] = { 9 };
	uint32_t masks[] = { 1, 3 }, wait_devices[] = { 0, 1 }, signal_devices[] = { 1 };
	VkTimelineSemaphoreSubmitInfo values = {
		.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
		.waitSemaphoreValueCount = 2,
		.pWaitSemaphoreValues = wait_values,
		.signalSemaphoreValueCount = 1,
		.pSignalSemaphoreValues = signal_values,
	};
	VkDeviceGroupSubmitInfo group = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_GROUP_SUBMIT_INFO,
		.pNext = &values,
		.waitSemaphoreCount = 2,
		.pWaitSemaphoreDeviceIndices = wait_devices,
		.commandBufferCount = 2,
		.pCommandBufferDeviceMasks = masks,
		.signalSemaphoreCount = 1,
		.pSignalSemaphoreDeviceIndices = signal_devices,
	};
	VkProtectedSubmitInfo protect = { .sType = VK_STRUCTURE_TYPE_PROTECTED_SUBMIT_INFO,
					  .pNext = &group,
					  .protectedSubmit = VK_TRUE };
	const VkSubmitInfo submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
				      .pNext = &protect,
				      .waitSemaphoreCount = 2,
				      .pWaitSemaphores = waits,
				      .pWaitDstStageMask = stages,
				      .commandBufferCount = 2,
				      .pCommandBuffers = commands,
				      .signalSemaphoreCount = 1,
				      .pSignalSemaphores = signals };
	struct work *work = copy(make1, &submit);
	const VkSubmitInfo2 *got = &work->submit;
	uint64_t sum = 0;

	/* The caller's memory is used for something else now. */
	memset(waits, 0xaa, sizeof(waits));
	memset(signals, 0xaa, sizeof(signals));
	memset(stages, 0xaa, sizeof(stages));
	memset(commands, 0xaa, sizeof(commands));
	memset(wait_values, 0xaa, sizeof(wait_values));
	memset(signal_values, 0xaa, sizeof(signal_values));
	memset(&values, 0xaa, sizeof(values));
	memset(&group, 0xaa, sizeof(group));
	memset(&protect, 0xaa, sizeof(protect));
	assert_int_equal(got->sType, VK_STRUCTURE_TYPE_SUBMIT_INFO_2);
	assert_null(got->pNext);
	assert_int_equal(got->flags, VK_SUBMIT_PROTECTED_BIT);
	assert_int_equal(got->waitSemaphoreInfoCount, 2);
	assert_ptr_equal(got->pWaitSemaphoreInfos[1].semaphore, SEMAPHORE(2));
	assert_int_equal(got->pWaitSemaphoreInfos[1].value, 7);
	assert_int_equal(got->pWaitSemaphoreInfos[1].deviceIndex, 1);
	assert_int_equal(got->pWaitSemaphoreInfos[0].stageMask,
			 VK_PIPELINE_STAGE_2_VERTEX_SHADER_BIT);
	assert_int_equal(got->commandBufferInfoCount, 2);
	assert_ptr_equal(got->pCommandBufferInfos[1].commandBuffer, COMMANDS(2));
	assert_int_equal(got->pCommandBufferInfos[1].deviceMask, 3);
	assert_int_equal(got->signalSemaphoreInfoCount, 1);
	assert_int_equal(got->pSignalSemaphoreInfos[0].value, 9);
	assert_int_equal(got->pSignalSemaphoreInfos[0].deviceIndex, 1);
	assert_int_equal(got->pSignalSemaphoreInfos[0].stageMask,
			 VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT);
	assert_true(work_runs(work));
	assert_false(work->uncopied);
	assert_true(work_waits(work, count_one, &sum));
	assert_int_equal(sum, 0x101 + 0x102 + 7);
	/* Room for one before, one after, and one more signal. */
	work->commands[-1] = work->commands[2] = work->commands[0];
	work->signals[1] = work->signals[0];
	free(work);
}

static void a_submit2_is_copied_with_what_it_carries(void **state)
{
	VkSemaphoreSubmitInfo wait = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
				       .semaphore = SEMAPHORE(1),
				       .value = 5 };
	VkImage images[] = { (VkImage)(uintptr_t)0x300, (VkImage)(uintptr_t)0x301 };
	char tag[] = "frame";
	VkPerformanceQuerySubmitInfoKHR query = {
		.sType = VK_STRUCTURE_TYPE_PERFORMANCE_QUERY_SUBMIT_INFO_KHR,
		.counterPassIndex = 3,
	};
	VkFrameBoundaryEXT boundary = { .sType = VK_STRUCTURE_TYPE_FRAME_BOUNDARY_EXT,
					.pNext = &query,
					.frameID = 11,
					.imageCount = 2,
					.pImages = images,
					.tagSize = sizeof(tag),
					.pTag = tag };
	const VkSubmitInfo2 submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
				       .pNext = &boundary,
				       .waitSemaphoreInfoCount = 1,
				       .pWaitSemaphoreInfos = &wait };
	struct work *work = copy(make2, &submit);
	const VkFrameBoundaryEXT *got = work->submit.pNext;
	const VkPerformanceQuerySubmitInfoKHR *after = got->pNext;

	memset(images, 0, sizeof(images));
	memset(tag, 0, sizeof(tag));
	memset(&query, 0, sizeof(query));
	memset(&boundary, 0, sizeof(boundary));
	assert_int_equal(got->sType, VK_STRUCTURE_TYPE_FRAME_BOUNDARY_EXT);
	assert_int_equal(got->frameID, 11);
	assert_ptr_equal(got->pImages[1], (VkImage)(uintptr_t)0x301);
	assert_string_equal(got->pTag, "frame");
	assert_int_equal(after->counterPassIndex, 3);
	assert_null(after->pNext);
	assert_false(work_runs(work)); /* no command buffers */
	free(work);
}

static void a_chain_with_an_unknown_structure_stays_the_callers(void **state)
{
	const VkBaseInStructure unknown = { .sType = (VkStructureType)0x7ffffff0 };
	const VkSubmitInfo2 submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
				       .pNext = &unknown };
	struct work *work = copy(make2, &submit);

	assert_true(work->uncopied);
	assert_ptr_equal(work->submit.pNext, &unknown);
	free(work);
}

static void a_sparse_bind_is_copied_to_its_last_bind(void **state)
{
	VkSparseMemoryBind memory[] = { { .size = 1 }, { .size = 2 } }, opaque = { .size = 3 };
	VkSparseImageMemoryBind image = { .memoryOffset = 4 };
	VkSparseBufferMemoryBindInfo buffer = { .bindCount = 2, .pBinds = memory };
	VkSparseImageOpaqueMemoryBindInfo opaques = { .bindCount = 1, .pBinds = &opaque };
	VkSparseImageMemoryBindInfo images = { .bindCount = 1, .pBinds = &image };
	VkSemaphore wait = SEMAPHORE(1), signal = SEMAPHORE(2);
	uint64_t wait_value = 21, signal_value = 22;
	VkTimelineSemaphoreSubmitInfo values = {
		.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
		.waitSemaphoreValueCount = 1,
		.pWaitSemaphoreValues = &wait_value,
		.signalSemaphoreValueCount = 1,
		.pSignalSemaphoreValues = &signal_value,
	};
	VkDeviceGroupBindSparseInfo group = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_GROUP_BIND_SPARSE_INFO,
		.pNext = &values,
		.memoryDeviceIndex = 1,
	};
	const VkBindSparseInfo bind = { .sType = VK_STRUCTURE_TYPE_BIND_SPARSE_INFO,
					.pNext = &group,
					.waitSemaphoreCount = 1,
					.pWaitSemaphores = &wait,
					.bufferBindCount = 1,
					.pBufferBinds = &buffer,
					.imageOpaqueBindCount = 1,
					.pImageOpaqueBinds = &opaques,
					.imageBindCount = 1,
					.pImageBinds = &images,
					.signalSemaphoreCount = 1,
					.pSignalSemaphores = &signal };
	struct work *work = copy(make_bind, &bind);
	uint64_t waits = 0, signals = 0;
	bool found = false;

	memset(memory, 0, sizeof(memory));
	memset(&opaque, 0, sizeof(opaque));
	memset(&image, 0, sizeof(image));
	memset(&buffer, 0, sizeof(buffer));
	memset(&values, 0, sizeof(values));
	wait_value = signal_value = 0;
	wait = signal = VK_NULL_HANDLE;
	assert_int_equal(work->bind.pBufferBinds[0].pBinds[1].size, 2);
	assert_int_equal(work->bind.pImageOpaqueBinds[0].pBinds[0].size, 3);
	assert_int_equal(work->bind.pImageBinds[0].pBinds[0].memoryOffset, 4);
	assert_true(work_waits(work, count_one, &waits));
	assert_int_equal(waits, 0x101 + 21);
	assert_true(work_signals(work, count_one, &signals));
	assert_int_equal(signals, 0x102 + 22);
	for (const VkBaseInStructure *at = work->bind.pNext; at; at = at->pNext)
		found |= at->sType == VK_STRUCTURE_TYPE_DEVICE_GROUP_BIND_SPARSE_INFO;
	assert_true(found);
	assert_false(work_runs(work));
	free(work);
}

static void nothing_at_all_can_be_copied(void **state)
{
	const VkSubmitInfo one = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO };
	const VkSubmitInfo2 two = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2 };
	const VkBindSparseInfo bind = { .sType = VK_STRUCTURE_TYPE_BIND_SPARSE_INFO };

	free(copy(make1, &one));
	free(copy(make2, &two));
	free(copy(make_bind, &bind));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_submit_becomes_a_submit2_with_all_its_values),
		cmocka_unit_test(a_submit2_is_copied_with_what_it_carries),
		cmocka_unit_test(a_chain_with_an_unknown_structure_stays_the_callers),
		cmocka_unit_test(a_sparse_bind_is_copied_to_its_last_bind),
		cmocka_unit_test(nothing_at_all_can_be_copied),
	};

	return cmocka_run_group_tests_name("layer_work", tests, NULL, NULL);
}
