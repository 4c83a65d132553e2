// SPDX-License-Identifier: Apache-2.0
/* The life of a device: it ends while its work still waits for a turn, many follow each other, and nothing stays behind. */
#include <dirent.h>
#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/live/job.h"
#include "tests/live/vkload.h"

#define GROUPS	   8
#define ITERATIONS 20000

static int entries(const char *path)
{
	DIR *directory = opendir(path);
	int count = 0;

	if (!directory)
		return -1;
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* Much work, nothing waited for. */
static int pile_up(struct vk *vk, struct job *job, unsigned count, struct error *e)
{
	const struct vk_batch batch = { .commands = 1, .command = { job->command } };

	for (unsigned i = 0; i < count; i++)
		TRY(vk_submit(vk->queues[0], vk->submit2 && i % 2, &batch, 1, NULL, e));
	return 0;
}

/* What the specification asks of a program that ends: wait until idle, destroy; with all the work still before it. */
static int device_ends_behind_much_work(struct vk *vk, struct error *e)
{
	static struct vk other;
	struct job_kind kind;
	struct job job;
	VkBuffer keep;
	void *map;

	for (unsigned round = 0; round < 3; round++) {
		TRY(vk_open(&other, vk->properties.deviceName, e));
		TRY(job_kind_create(&other, 1, &kind, e));
		TRY(job_create(&kind, GROUPS, ITERATIONS, &job, e));
		TRY(vk_buffer(&other, 4096, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, &keep, &map, e));
		TRY(pile_up(&other, &job, 60, e));
		VK_TRY(vkDeviceWaitIdle(other.device), e);
		TRY(job_check(&job, 60, e));
		TRY(pile_up(&other, &job, 60, e));
		vk_close(&other); /* waits until idle itself */
	}
	return 0;
}

/* Another vkload that ends with work before it. Returns 0 or -errno. */
static int run_and_abandon(const char *how, const char *device, struct error *e)
{
	const char *const words[] = {
		"vkload", "load",     "--iterations", "20000", "--groups", "8", "--in-flight",
		"40",	  "--device", device,	      how,     "0.02",	   NULL
	};
	extern char **environ;
	int status = -1, err;
	pid_t pid;

	err = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, (char *const *)words, environ);
	EXPECT(!err, e, "posix_spawn: %s", strerror(err));
	EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7, e,
	       "%s: the process ended with status 0x%x", how, status);
	return 0;
}

/* A process that just ends, at once or by exit(3); whoever comes next finds a device that works. */
static int process_ends_before_its_work(struct vk *vk, struct error *e)
{
	struct job_kind kind;
	struct job job;
	VkFence fence;

	for (unsigned round = 0; round < 4; round++)
		TRY(run_and_abandon(round % 2 ? "--abandon" : "--abandon-exit",
				    vk->properties.deviceName, e));
	TRY(job_kind_create(vk, 1, &kind, e));
	TRY(job_create(&kind, GROUPS, ITERATIONS, &job, e));
	TRY(vk_fence(vk, &fence, e));
	TRY(job_run(&job, vk->queues[0], fence, NULL, e));
	return job_check(&job, 1, e);
}

/* Descriptors and threads are as many after twenty devices as after two. */
static int devices_leave_nothing(struct vk *vk, struct error *e)
{
	static struct vk other;
	int fds = 0, threads = 0;

	for (unsigned round = 0; round < 20; round++) {
		struct job_kind kind;
		struct job job;
		VkFence fence;

		TRY(vk_open(&other, vk->properties.deviceName, e));
		TRY(job_kind_create(&other, 1, &kind, e));
		TRY(job_create(&kind, GROUPS, 100, &job, e));
		TRY(vk_fence(&other, &fence, e));
		TRY(job_run(&job, other.queues[0], fence, NULL, e));
		TRY(job_check(&job, 1, e));
		vk_close(&other);
		if (round == 1) {
			fds = entries("/proc/self/fd");
			threads = entries("/proc/self/task");
		}
	}
	EXPECT(entries("/proc/self/fd") == fds, e, "%d descriptors after 2 devices, %d after 20",
	       fds, entries("/proc/self/fd"));
	EXPECT(entries("/proc/self/task") == threads, e, "%d threads after 2 devices, %d after 20",
	       threads, entries("/proc/self/task"));
	return 0;
}

/* Several devices of one process at once, each with work of its own. */
static int devices_side_by_side(struct vk *vk, struct error *e)
{
	static struct vk devices[4];
	static struct job_kind kinds[4];
	static struct job jobs[4];

	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		TRY(vk_open(&devices[i], vk->properties.deviceName, e));
		TRY(job_kind_create(&devices[i], 1, &kinds[i], e));
		TRY(job_create(&kinds[i], GROUPS, ITERATIONS, &jobs[i], e));
		job_prepare(&jobs[i], i);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
		TRY(pile_up(&devices[i], &jobs[i], 10 + i, e));
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		VK_TRY(vkDeviceWaitIdle(devices[i].device), e);
		TRY(job_check(&jobs[i], 10 + i, e));
		vk_close(&devices[i]);
	}
	return 0;
}

/* A structure in the pNext chain of a submission is passed on: the device mask of a group of one. */
static int chained_structures_are_passed_on(struct vk *vk, struct error *e)
{
	const uint32_t mask = 1;
	VkDeviceGroupSubmitInfo group = { .sType = VK_STRUCTURE_TYPE_DEVICE_GROUP_SUBMIT_INFO,
					  .commandBufferCount = 1,
					  .pCommandBufferDeviceMasks = &mask };
	VkSubmitInfo info = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
			      .pNext = &group,
			      .commandBufferCount = 1 };
	struct job_kind kind;
	struct job job;
	VkFence fence;

	TRY(job_kind_create(vk, 1, &kind, e));
	TRY(job_create(&kind, GROUPS, ITERATIONS, &job, e));
	TRY(vk_fence(vk, &fence, e));
	info.pCommandBuffers = &job.command;
	VK_TRY(vkQueueSubmit(vk->queues[0], 1, &info, fence), e);
	memset(&info, 0xff, sizeof(info));
	memset(&group, 0xff, sizeof(group));
	TRY(vk_wait(vk, fence, e));
	return job_check(&job, 1, e);
}

/* Whoever asks for a queue's highest priority gets a device, or is told that it may not; never a failure of another kind. */
static int high_priority_is_granted_or_refused(struct vk *vk, struct error *e)
{
	static const float priority = 1;
	const VkDeviceQueueGlobalPriorityCreateInfoKHR global = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO_KHR,
		.globalPriority = VK_QUEUE_GLOBAL_PRIORITY_REALTIME_KHR
	};
	const VkDeviceQueueCreateInfo queue = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
						.pNext = &global,
						.queueFamilyIndex = vk->family,
						.queueCount = 1,
						.pQueuePriorities = &priority };
	static const char *const extension = VK_KHR_GLOBAL_PRIORITY_EXTENSION_NAME;
	const VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
					  .queueCreateInfoCount = 1,
					  .pQueueCreateInfos = &queue,
					  .enabledExtensionCount = 1,
					  .ppEnabledExtensionNames = &extension };
	VkResult result;
	VkDevice device;

	result = vkCreateDevice(vk->physical, &info, NULL, &device);
	if (result == VK_ERROR_EXTENSION_NOT_PRESENT)
		return error_set(e, ENOTSUP, "left-out", NULL, "no VK_KHR_global_priority");
	if (result == VK_ERROR_NOT_PERMITTED_KHR)
		return 0;
	VK_TRY(result, e);
	vkDestroyDevice(device, NULL);
	return 0;
}

/* Wrong, and harmless to drivers: who judges must complain, or it judges nothing. */
static int fault_for_a_judge(struct vk *vk, struct error *e)
{
	const VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
					  .size = 64 }; /* for no use at all */
	VkBuffer buffer;

	VK_TRY(vkCreateBuffer(vk->device, &info, NULL, &buffer), e);
	vkDestroyBuffer(vk->device, buffer, NULL);
	return 0;
}

const struct live_test device_tests[] = {
	{ "device-ends-behind-much-work", device_ends_behind_much_work },
	{ "process-ends-before-its-work", process_ends_before_its_work },
	{ "devices-leave-nothing", devices_leave_nothing },
	{ "devices-side-by-side", devices_side_by_side },
	{ "chained-structures-are-passed-on", chained_structures_are_passed_on },
	{ "high-priority-is-granted-or-refused", high_priority_is_granted_or_refused },
	{ "fault-for-a-judge", fault_for_a_judge, .only_by_name = true },
	{ 0 },
};
