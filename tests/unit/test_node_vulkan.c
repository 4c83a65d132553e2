// SPDX-License-Identifier: Apache-2.0
/* Asking Vulkan drivers that hang, crash, end the process, and say what they like: launch_gpu_list() is theirs here, in the child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instances/node/node.h"
#include "tests/unit/resources.h"
#include "vgpu-sched/vgpu-sched.h"

static int (*driver)(struct vulkan_gpu *gpus, struct error *e);

int __wrap_launch_gpu_list(struct vulkan_gpu gpus[VULKAN_GPUS_MAX], struct error *e);
int __real_launch_gpu_list(struct vulkan_gpu gpus[VULKAN_GPUS_MAX], struct error *e);
int __wrap_launch_gpu_list(struct vulkan_gpu gpus[VULKAN_GPUS_MAX], struct error *e)
{
	return driver(gpus, e);
}

/* ---- drivers ------------------------------------------------------------------------------------------- */

static int good(struct vulkan_gpu *gpus, struct error *e)
{
	gpus[0] = (struct vulkan_gpu){ .name = "0000:01:00.0",
				       .device = "NVIDIA H100 80GB HBM3",
				       .memory = 81559 * MIB };
	gpus[1] = (struct vulkan_gpu){ .name = "llvmpipe", .device = "a\033[31mb", .cpu = true };
	return 2;
}

static int hanging(struct vulkan_gpu *gpus, struct error *e)
{
	signal(SIGTERM, SIG_IGN);
	while (pause())
		;
	return 0;
}

static int crashing(struct vulkan_gpu *gpus, struct error *e)
{
	/* As a sanitizer's own handler would not let it. */
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
	return 0;
}

static int ending(struct vulkan_gpu *gpus, struct error *e)
{
	_exit(3);
}

static int without_devices(struct vulkan_gpu *gpus, struct error *e)
{
	return error_set(e, ENODEV, "no-vulkan-device", NULL, "no driver\n was found");
}

static int lying(struct vulkan_gpu *gpus, struct error *e)
{
	memset(gpus, 0xff, VULKAN_GPUS_MAX * sizeof(*gpus));
	strcpy(gpus[3].name, "../../x y");
	strcpy(gpus[4].name, "fine");
	return 1000000;
}

/* It sees nothing of its parent but the pipe. */
static int nosy(struct vulkan_gpu *gpus, struct error *e)
{
	struct dirent *entry;
	unsigned others = 0;
	char target[64];
	DIR *dir;

	for (int fd = 0; fd < 3; fd++) {
		char link[32];
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		target[MAX(n, 0)] = '\0';
		others += strcmp(target, "/dev/null") != 0;
	}
	dir = opendir("/proc/self/fd");
	while (dir && (entry = readdir(dir)))
		others += entry->d_name[0] != '.' && atoi(entry->d_name) > 3 &&
			  atoi(entry->d_name) != dirfd(dir);
	if (dir)
		closedir(dir);
	puts("noise");
	fflush(stdout);
	gpus[0] = (struct vulkan_gpu){ .name = "n", .memory = others * MIB };
	return 1;
}

/* ---- tests ------------------------------------------------------------------------------------------------ */

static struct node_vulkan vulkan;
static struct error e;

static int ask(int (*answer)(struct vulkan_gpu *gpus, struct error *e), unsigned timeout_ms)
{
	const unsigned fds = count_fds();
	int err;

	driver = answer;
	memset(&e, 0, sizeof(e));
	err = node_vulkan_read(timeout_ms, &vulkan, &e);
	assert_int_equal(count_fds(), fds);
	/* No child is left, dead or alive. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	return err;
}

static void what_drivers_say_is_copied(void **state)
{
	assert_int_equal(ask(good, NODE_VULKAN_TIMEOUT_MS), 0);
	assert_int_equal(vulkan.count, 2);
	assert_string_equal(vulkan.gpus[0].name, "0000:01:00.0");
	assert_int_equal(vulkan.gpus[0].memory_mib, 81559);
	assert_false(vulkan.gpus[0].cpu);
	assert_true(vulkan.gpus[1].cpu);
	assert_string_equal(vulkan.gpus[1].device, "a?[31mb");
}

static void hanging_driver_is_left(void **state)
{
	assert_int_equal(ask(hanging, 50), -ETIMEDOUT);
	assert_string_equal(e.code, "vulkan-hangs");
	assert_int_equal(vulkan.count, 0);
}

static void crashing_driver_is_an_error(void **state)
{
	assert_int_equal(ask(crashing, NODE_VULKAN_TIMEOUT_MS), -EIO);
	assert_string_equal(e.code, "vulkan-crashed");
	assert_non_null(strstr(e.text, "signal 11"));
	assert_int_equal(ask(ending, NODE_VULKAN_TIMEOUT_MS), -EIO);
	assert_non_null(strstr(e.text, "status 3"));
}

static void machine_without_vulkan_says_so(void **state)
{
	assert_int_equal(ask(without_devices, NODE_VULKAN_TIMEOUT_MS), -ENODEV);
	assert_string_equal(e.code, "no-vulkan-device");
	assert_string_equal(e.text, "no driver? was found");
}

static void names_that_no_driver_may_have_are_left_out(void **state)
{
	assert_int_equal(ask(lying, NODE_VULKAN_TIMEOUT_MS), 0);
	assert_int_equal(vulkan.count, 1);
	assert_string_equal(vulkan.gpus[0].name, "fine");
	assert_true(strlen(vulkan.gpus[0].device) < sizeof(vulkan.gpus[0].device));
}

static void drivers_see_nothing_of_ours(void **state)
{
	assert_int_equal(ask(nosy, NODE_VULKAN_TIMEOUT_MS), 0);
	assert_int_equal(vulkan.gpus[0].memory_mib, 0);
}

static void real_drivers_answer(void **state)
{
	if (ask(__real_launch_gpu_list, NODE_VULKAN_TIMEOUT_MS)) {
		assert_string_equal(e.code, "no-vulkan-device");
		skip();
	}
	assert_true(vulkan.count > 0);
	assert_true(vulkan.gpus[0].name[0] && vulkan.gpus[0].device[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_drivers_say_is_copied),
		cmocka_unit_test(hanging_driver_is_left),
		cmocka_unit_test(crashing_driver_is_an_error),
		cmocka_unit_test(machine_without_vulkan_says_so),
		cmocka_unit_test(names_that_no_driver_may_have_are_left_out),
		cmocka_unit_test(drivers_see_nothing_of_ours),
		cmocka_unit_test(real_drivers_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
