// SPDX-License-Identifier: Apache-2.0
/*
 * What the way through the vGPU costs a Vulkan program: `vkload measure` on the host's driver, and as a guest's program (Mesa's
 * Venus, our whole device, virglrenderer, a render worker), by turns. Under `divvy run-native` both have the layer and the share
 * of that vGPU, without it neither. There is no virtual machine: what its exits add is not in it, and the window is mapped as
 * divvy-vmm maps it.
 *
 *   [divvy run-native --embedded --] bench_venus
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/bench/bench.h"
#include "tests/unit/build_folder.h"
#include "tests/unit/gpu_vtest.h"

#include <jansson.h>

#define TURNS 3u
/* What divvy-vgpu hands on to its render server, too. */
static const char *const handed_on[] = {
	"DIVVY_VGPU_SOCKET",  "DIVVY_VGPU_TOKEN",	"VK_ADD_LAYER_PATH", "VK_LAYER_PATH",
	"VK_INSTANCE_LAYERS", "VK_LOADER_LAYERS_ALLOW", "VK_DRIVER_FILES",
};
static const char *environment[ARRAY_SIZE(handed_on) + 2];
static const struct {
	const char *key, *name, *unit;
} figures[] = {
	{ "submit_us", "a submission of next to nothing, and its fence", "us" },
	{ "write_gib_s", "written to mapped memory", "GiB/s" },
	{ "read_gib_s", "read from mapped memory", "GiB/s" },
	{ "upload_gib_s", "written, and copied by the device", "GiB/s" },
	{ "download_gib_s", "copied by the device, and read", "GiB/s" },
};

static char build[PATH_MAX], path[64], program[PATH_MAX + 32];
static double values[2][ARRAY_SIZE(figures)][BENCH_RUNS_MAX];
static unsigned counts[2];

static void hand_on(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(handed_on); i++) {
		const char *value = getenv(handed_on[i]);
		char *word = NULL;

		/* Ours until the end. */
		if (value && asprintf(&word, "%s=%s", handed_on[i], value) > 0)
			environment[count++] = word;
	}
	environment[count] = "HOME=/dev/null";
}

static pid_t start_natively(const char *const arguments[], int to)
{
	pid_t pid = fork();

	if (!pid) {
		dup2(to, 1);
		execv(arguments[0], (char *const *)(uintptr_t)arguments);
		_exit(127);
	}
	return pid;
}

/* One run of the program, which says several values of each figure. */
static void turn(bool is_guest)
{
	const char *const arguments[] = { program, "measure", "--chunk", "64", NULL };
	int to = memfd_create("output", MFD_CLOEXEC);
	json_t *said = NULL;
	size_t count = 0;
	pid_t pid;

	assert_true(to >= 0);
	pid = is_guest ? vtest_start(build, path, arguments, to) : start_natively(arguments, to);
	assert_true(pid > 0);
	assert_int_equal(vtest_run(pid, 300), 0);
	/* A guest's Mesa says a few words before. */
	for (off_t at = 0; !said && at < lseek(to, 0, SEEK_END); at++) {
		char byte = 0;

		if (pread(to, &byte, 1, at) == 1 && byte == '{' && lseek(to, at, SEEK_SET) == at)
			said = json_loadfd(to, JSON_DISABLE_EOF_CHECK, NULL);
	}
	close(to);
	assert_non_null(said);
	assert_int_equal(
		!strncmp(json_string_value(json_object_get(said, "device")), "Virtio-GPU", 10),
		is_guest);
	for (unsigned i = 0; i < ARRAY_SIZE(figures); i++) {
		json_t *list = json_object_get(said, figures[i].key);

		count = json_array_size(list);
		for (size_t k = 0; k < count && counts[is_guest] + k < BENCH_RUNS_MAX; k++)
			values[is_guest][i][counts[is_guest] + k] =
				json_real_value(json_array_get(list, k));
	}
	counts[is_guest] = MIN(counts[is_guest] + (unsigned)count, BENCH_RUNS_MAX);
	json_decref(said);
}

static void all(void **state)
{
	static const struct virtio_gpu_venus_config venus = { .environment = environment };
	static const struct virtio_gpu_config config = { .head_count = 1,
							 .heads = { { 1280, 800 } },
							 .window_size = 64 * GIB,
							 .venus = &venus };

	gpu_open(&config);
	snprintf(path, sizeof(path), "/tmp/bench-vtest-%d", getpid());
	vtest_open(path);
	for (unsigned i = 0; i < TURNS; i++) {
		turn(false);
		turn(true);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(figures); i++)
		for (unsigned is_guest = 0; is_guest < 2; is_guest++) {
			char name[96];

			snprintf(name, sizeof(name), "%s: %s", figures[i].name,
				 is_guest ? "through the vGPU" : "on the host");
			bench_result(name, figures[i].unit, values[is_guest][i], counts[is_guest]);
		}
	vtest_close(path);
	gpu_teardown(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all) };

	if (!build_folder(build, sizeof(build)))
		return 1;
	snprintf(program, sizeof(program), "%s/tests/live/vkload", build);
	hand_on();
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
