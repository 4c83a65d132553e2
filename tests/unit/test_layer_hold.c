// SPDX-License-Identifier: Apache-2.0
/* The gate where callers have to be held, and where the device is lost. */
#include "tests/unit/gate_world.h"

#include <dirent.h>
#include <sys/wait.h>

/* ---- where callers are held ------------------------------------------------------------------------- */

static void a_present_finds_its_semaphores_signal_issued_without_a_turn(void **state)
{
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	const VkPresentInfoKHR present = { .sType = VK_STRUCTURE_TYPE_PRESENT_INFO_KHR,
					   .waitSemaphoreCount = 1,
					   .pWaitSemaphores = &binary };
	VkFence done = fence();
	uint64_t before;

	neighbour_runs();
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = world_commands(&w, 20 * MS), .signal = binary },
		       done),
		VK_SUCCESS);
	before = monotonic_ns();
	assert_int_equal(w.d.QueuePresentKHR(w.queue, &present), VK_SUCCESS);
	assert_held_for_250_ms(before);
	assert_int_equal(fake_batch_count(), 2);
	assert_int_equal(fake_batch(1)->kind, FAKE_PRESENT);
	run_until(done);
	fake_run(1);
	/* It had no turn, and pays all the same. */
	for (int i = 0; i < 200 && charged("used_ns") < 20 * MS; i++)
		usleep(10000);
	assert_in_range(charged("used_ns") / MS, 20, 60);
	neighbour_ends();
	destroy_fences(&done, 1);
	w.d.DestroySemaphore(w.device, binary, NULL);
}

static void an_unknown_structure_holds_its_caller(void **state)
{
	const VkBaseInStructure unknown = { .sType = (VkStructureType)0x7ffffff0 };
	VkFence done = fence();
	uint64_t before = monotonic_ns();

	neighbour_runs();
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = world_commands(&w, 0), .chain = &unknown },
		       done),
		VK_SUCCESS);
	assert_held_for_250_ms(before);
	assert_int_equal(fake_batch_count(), 1);
	assert_int_equal(fake_batch(0)->chained, unknown.sType);
	run_until(done);
	neighbour_ends();
	destroy_fences(&done, 1);
}

static void an_exported_semaphore_is_signalled_by_what_is_issued(void **state)
{
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	VkSemaphoreGetFdInfoKHR get = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_GET_FD_INFO_KHR,
					.semaphore = binary,
					.handleType =
						VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT };
	VkFence done = fence();
	uint64_t before;
	int fd = -1;

	neighbour_runs();
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = world_commands(&w, 0), .signal = binary },
		       done),
		VK_SUCCESS);
	before = monotonic_ns();
	assert_int_equal(w.d.GetSemaphoreFdKHR(w.device, &get, &fd), VK_SUCCESS);
	fd_close(&fd);
	assert_held_for_250_ms(before);
	assert_int_equal(fake_batch_count(), 1);
	run_until(done);
	neighbour_ends();
	destroy_fences(&done, 1);
	w.d.DestroySemaphore(w.device, binary, NULL);
}

/* A program that submits without end is slowed down, and what it has submitted keeps its place. */
static void who_has_much_held_is_slowed_down(void **state)
{
	VkCommandBuffer commands[8];
	uint64_t before;

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		commands[i] = world_commands(&w, 0);
	neighbour_runs();
	before = monotonic_ns();
	for (unsigned i = 0; i < GATE_HELD_SOFT; i++)
		assert_int_equal(run(w.queue, commands[i % 8], VK_NULL_HANDLE), VK_SUCCESS);
	before = monotonic_ns();
	assert_int_equal(run(w.queue, commands[0], VK_NULL_HANDLE), VK_SUCCESS);
	assert_held_for_250_ms(before);
	assert_int_equal(fake_batch_count(), 0);
	neighbour_ends();
	for (int i = 0; i < 5000 && fake_batch_count() < GATE_HELD_SOFT + 1; i++) {
		fake_run(100);
		usleep(1000);
	}
	assert_int_equal(fake_batch_count(), GATE_HELD_SOFT + 1);
	fake_run(GATE_HELD_SOFT);
	/* Command buffers pended more than once, which no valid program does. */
	fake_forgive();
}

/* It is the same thread that will signal what they wait for. */
static void who_holds_back_its_own_work_is_not_slowed_down(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	const VkSemaphoreSignalInfo signal = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					       .semaphore = line,
					       .value = 1 };
	const struct batch waits = { .wait = line, .wait_value = 1 };
	VkFence last = fence();
	uint64_t before = monotonic_ns();

	for (unsigned i = 0; i < GATE_HELD_SOFT + 100; i++)
		assert_int_equal(submit(w.queue, &waits, VK_NULL_HANDLE), VK_SUCCESS);
	assert_int_equal(submit(w.queue, &waits, last), VK_SUCCESS);
	/* 101 of them would have taken 25 s. */
	assert_true(monotonic_ns() - before < 10 * S);
	assert_int_equal(w.d.SignalSemaphore(w.device, &signal), VK_SUCCESS);
	for (int i = 0; i < 5000 && w.d.GetFenceStatus(w.device, last) != VK_SUCCESS; i++) {
		fake_run(100);
		usleep(1000);
	}
	assert_int_equal(w.d.GetFenceStatus(w.device, last), VK_SUCCESS);
	destroy_fences(&last, 1);
	w.d.DestroySemaphore(w.device, line, NULL);
}

static void more_than_there_is_room_for_is_refused_whole(void **state)
{
	VkCommandBuffer commands = world_commands(&w, 0);
	const VkCommandBufferSubmitInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO, .commandBuffer = commands
	};
	VkSubmitInfo2 *batches = calloc(GATE_HELD_MAX + 1, sizeof(*batches));

	assert_non_null(batches);
	for (unsigned i = 0; i <= GATE_HELD_MAX; i++)
		batches[i] = (VkSubmitInfo2){ .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
					      .commandBufferInfoCount = 1,
					      .pCommandBufferInfos = &info };
	assert_int_equal(w.d.QueueSubmit2(w.queue, GATE_HELD_MAX + 1, batches, VK_NULL_HANDLE),
			 VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(fake_batch_count(), 0);
	free(batches);
}

/* What others depend on goes with it; what nobody needs stays. */
static void only_what_is_needed_goes_without_a_turn(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	VkSemaphore binary = semaphore(VK_SEMAPHORE_TYPE_BINARY);
	const VkPresentInfoKHR present = { .sType = VK_STRUCTURE_TYPE_PRESENT_INFO_KHR,
					   .waitSemaphoreCount = 1,
					   .pWaitSemaphores = &binary };
	VkCommandBuffer unrelated = world_commands(&w, 0), first = world_commands(&w, 0);
	VkCommandBuffer second = world_commands(&w, 0);
	VkFence last = fence();

	neighbour_runs();
	/* Presented is what the second queue draws when the first has computed, submitted the other way round. */
	assert_int_equal(submit(w.second,
				&(struct batch){ .commands = second,
						 .wait = line,
						 .wait_value = 1,
						 .signal = binary },
				VK_NULL_HANDLE),
			 VK_SUCCESS);
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = first, .signal = line, .signal_value = 1 },
		       VK_NULL_HANDLE),
		VK_SUCCESS);
	assert_int_equal(run(w.queue, unrelated, last), VK_SUCCESS);
	fake_run_soon(2);
	assert_int_equal(w.d.QueuePresentKHR(w.queue, &present), VK_SUCCESS);
	assert_batch_is(0, first);
	assert_batch_is(1, second);
	assert_int_equal(fake_batch(2)->kind, FAKE_PRESENT);
	usleep(300000);
	assert_int_equal(fake_batch_count(), 3);
	fake_run_done();
	neighbour_ends();
	run_until(last);
	destroy_fences(&last, 1);
	w.d.DestroySemaphore(w.device, binary, NULL);
	w.d.DestroySemaphore(w.device, line, NULL);
}

/* Who presents all the time does not get the GPU that way: 5 % of it, half a second saved up. */
static void the_allowance_without_a_turn_ends(void **state)
{
	const VkBaseInStructure unknown = { .sType = (VkStructureType)0x7ffffff0 };
	VkCommandBuffer commands = world_commands(&w, 600 * MS);
	VkFence done[2] = { fence(), fence() };
	uint64_t before;

	neighbour_runs();
	fake_run_soon(1);
	assert_int_equal(submit(w.queue, &(struct batch){ .commands = commands, .chain = &unknown },
				done[0]),
			 VK_SUCCESS);
	fake_run_done();
	for (int i = 0; i < 500 && charged("forced_ns") < 600 * MS; i++)
		usleep(10000);
	assert_true(charged("forced_ns") >= 600 * MS);
	/* The next one waits for its turn. */
	before = monotonic_ns();
	neighbour_ends_soon(1500);
	assert_int_equal(
		submit(w.queue,
		       &(struct batch){ .commands = world_commands(&w, 0), .chain = &unknown },
		       done[1]),
		VK_SUCCESS);
	assert_true(monotonic_ns() - before > 1200 * MS);
	neighbour_ends_done();
	run_until(done[1]);
	destroy_fences(done, 2);
}

/* ---- loss ---------------------------------------------------------------------------------------- */

static void assert_lost(VkFence pending)
{
	const VkSemaphoreWaitInfo none = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO };

	for (int i = 0; i < 500 && w.d.GetFenceStatus(w.device, pending) != VK_ERROR_DEVICE_LOST;
	     i++)
		usleep(10000);
	assert_int_equal(w.d.GetFenceStatus(w.device, pending), VK_ERROR_DEVICE_LOST);
	assert_int_equal(wait_one(pending, UINT64_MAX), VK_ERROR_DEVICE_LOST);
	assert_int_equal(w.d.WaitSemaphores(w.device, &none, UINT64_MAX), VK_ERROR_DEVICE_LOST);
	assert_int_equal(w.d.QueueWaitIdle(w.queue), VK_ERROR_DEVICE_LOST);
	assert_int_equal(w.d.DeviceWaitIdle(w.device), VK_ERROR_DEVICE_LOST);
	assert_int_equal(submit(w.queue, &(struct batch){ 0 }, VK_NULL_HANDLE),
			 VK_ERROR_DEVICE_LOST);
}

static void a_late_failure_is_the_device_lost(void **state)
{
	VkFence held = fence(), behind = fence();

	neighbour_runs();
	assert_int_equal(run(w.queue, world_commands(&w, 0), held), VK_SUCCESS);
	assert_int_equal(run(w.second, world_commands(&w, 0), behind), VK_SUCCESS);
	fake_fail("vkQueueSubmit2", 1, VK_ERROR_OUT_OF_DEVICE_MEMORY);
	neighbour_ends();
	assert_lost(held);
	assert_lost(behind);
	destroy_fences((VkFence[]){ held, behind }, 2);
}

static void a_failure_at_once_is_only_that_submits(void **state)
{
	VkFence first = fence(), done = fence();

	/* The turn comes; from here on the caller issues. */
	assert_int_equal(run(w.queue, world_commands(&w, 0), first), VK_SUCCESS);
	run_until(first);
	fake_fail("vkQueueSubmit2", 1, VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_ERROR_OUT_OF_HOST_MEMORY);
	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_SUCCESS);
	run_until(done);
	destroy_fences((VkFence[]){ first, done }, 2);
}

static void a_lost_gpu_ends_waits_that_are_under_way(void **state)
{
	struct idle idle = { .device = true };
	VkFence done = fence();

	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_SUCCESS);
	assert_true(fake_wait_batches(1));
	pthread_create(&idle.thread, NULL, idle_main, &idle);
	usleep(20000);
	fake_lose();
	pthread_join(idle.thread, NULL);
	assert_int_equal(idle.result, VK_ERROR_DEVICE_LOST);
	assert_lost(done);
	destroy_fences(&done, 1);
}

static void without_the_vgpu_there_is_no_device(void **state)
{
	VkFence held = fence();

	neighbour_runs();
	assert_int_equal(run(w.queue, world_commands(&w, 0), held), VK_SUCCESS);
	close(w.tenant.owner);
	w.tenant.owner = -1;
	assert_lost(held);
	assert_int_equal(fake_batch_count(), 0);
	neighbour_ends();
	destroy_fences(&held, 1);
}

static void a_device_that_goes_drops_what_it_holds(void **state)
{
	neighbour_runs();
	for (int i = 0; i < 20; i++)
		assert_int_equal(run(w.queue, world_commands(&w, 0), VK_NULL_HANDLE), VK_SUCCESS);
	world_device_close(&w);
	assert_int_equal(fake_batch_count(), 0);
	neighbour_ends();
}

/* One queue waits for the host, which waits for the other queue. */
static void an_idle_queue_is_idle_whatever_another_waits_for(void **state)
{
	VkSemaphore line = semaphore(VK_SEMAPHORE_TYPE_TIMELINE);
	const VkSemaphoreSignalInfo signal = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					       .semaphore = line,
					       .value = 1 };
	VkFence waits = fence(), runs = fence();

	assert_int_equal(submit(w.second,
				&(struct batch){ .commands = world_commands(&w, 0),
						 .wait = line,
						 .wait_value = 1 },
				waits),
			 VK_SUCCESS);
	assert_int_equal(run(w.queue, world_commands(&w, 0), runs), VK_SUCCESS);
	fake_run_soon(1);
	assert_int_equal(w.d.QueueWaitIdle(w.queue), VK_SUCCESS);
	fake_run_done();
	assert_int_equal(w.d.GetFenceStatus(w.device, runs), VK_SUCCESS);
	assert_int_equal(w.d.SignalSemaphore(w.device, &signal), VK_SUCCESS);
	run_until(waits);
	destroy_fences((VkFence[]){ waits, runs }, 2);
	w.d.DestroySemaphore(w.device, line, NULL);
}

/* Only then may it destroy what that uses. */
static void what_is_in_flight_has_ended_when_the_program_hears_of_the_loss(void **state)
{
	VkFence done = fence();

	assert_int_equal(run(w.queue, world_commands(&w, 0), done), VK_SUCCESS);
	assert_true(fake_wait_batches(1));
	close(w.tenant.owner);
	w.tenant.owner = -1;
	usleep(300000);
	assert_int_equal(w.d.GetFenceStatus(w.device, done), VK_NOT_READY);
	assert_int_equal(fake_run(1), 1);
	assert_lost(done);
	destroy_fences(&done, 1);
}

/* ---- exit() ------------------------------------------------------------------------------------------------ */

/* What a driver, or a layer beneath, takes down at exit(): who is still in it then crashes. */
static void torn_down(void)
{
	unsigned threads = 0;
	DIR *dir = opendir("/proc/self/task");

	while (dir && readdir(dir))
		threads++;
	if (threads != 3) /* ".", "..", and the one that called exit() */
		_exit(99);
	closedir(dir);
}

/* A process of its own: handlers are registered once in each. The third batch is issued when the first is seen to be done. */
static int exit_with_a_device(void)
{
	fake_reset();
	if (world_instance(&w) || world_device(&w))
		return 1;
	for (unsigned i = 0; i < 3; i++)
		if (run(w.queue, world_commands(&w, 0), VK_NULL_HANDLE))
			return 2;
	if (!fake_wait_batches(2) || atexit(torn_down) || fake_run(1) != 1 || !fake_wait_batches(3))
		return 3;
	return 7;
}

/* It was made when it was first used, long after the device. */
static void the_threads_end_before_what_is_beneath_is_torn_down(void **state)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		execl("/proc/self/exe", "test_layer_hold", "exit-with-a-device", NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_present_finds_its_semaphores_signal_issued_without_a_turn,
		     begin_with_device),
		TEST(an_unknown_structure_holds_its_caller, begin_with_device),
		TEST(an_exported_semaphore_is_signalled_by_what_is_issued, begin_with_device),
		TEST(who_has_much_held_is_slowed_down, begin_with_device),
		TEST(who_holds_back_its_own_work_is_not_slowed_down, begin_with_device),
		TEST(more_than_there_is_room_for_is_refused_whole, begin_with_device),
		TEST(only_what_is_needed_goes_without_a_turn, begin_with_device),
		TEST(the_allowance_without_a_turn_ends, begin_with_device),
		TEST(an_idle_queue_is_idle_whatever_another_waits_for, begin_with_device),
		TEST(what_is_in_flight_has_ended_when_the_program_hears_of_the_loss,
		     begin_with_device),
		TEST(a_late_failure_is_the_device_lost, begin_with_device),
		TEST(a_failure_at_once_is_only_that_submits, begin_with_device),
		TEST(a_lost_gpu_ends_waits_that_are_under_way, begin_with_device),
		TEST(without_the_vgpu_there_is_no_device, begin_with_device),
		TEST(a_device_that_goes_drops_what_it_holds, begin_with_device),
		TEST(the_threads_end_before_what_is_beneath_is_torn_down, begin),
	};

	if (argc > 1)
		return exit_with_a_device();
	return cmocka_run_group_tests_name("layer_hold", tests, NULL, NULL);
}
