// SPDX-License-Identifier: Apache-2.0
/*
 * A program under a share: which GPU it gets, how its Vulkan loader is made to take the layer, how it ends and what ends it; and all of
 * `divvy run-native`, with this very program as the one that is run ("register", below) and an arbiter of its own. What needs a Vulkan
 * device is skipped where there is none.
 */
#include "tests/unit/arbiter_fixture.h"

#include <sys/prctl.h>

#include "instances/cli/cli.h"
#include "tests/unit/terminal.h"
#include "vgpu-sched/live/launch_private.h"

#define KEEP_DRIVERS "VK_LOADER_DISABLE_DYNAMIC_LIBRARY_UNLOADING"

static char self[256];

static bool has_vulkan(void)
{
	struct vulkan_gpu gpus[VULKAN_GPUS_MAX];

	return launch_gpu_list(gpus, NULL) > 0;
}

/* A folder with a manifest and a library that is none: enough for who does not load it. */
static void make_layer(char folder[64], const char *library)
{
	char path[128];
	FILE *file;

	strcpy(folder, "/tmp/divvy-launch-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/VkLayer_divvy_vgpu.json", folder);
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file,
		"{\"layer\": {\"name\": \"VK_LAYER_DIVVY_vgpu\", \"library_path\": \"%s\"}}\n",
		library);
	fclose(file);
}

static void remove_layer(const char *folder)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/VkLayer_divvy_vgpu.json", folder);
	unlink(path);
	assert_int_equal(rmdir(folder), 0);
}

/* ---- which GPU ------------------------------------------------------------------------------------- */

static const struct vulkan_gpu machine[] = {
	{ .name = "0000:01:00.0", .device = "Great GPU 9000", .memory = 8 * GIB },
	{ .name = "0000:41:00.0", .device = "Great GPU 9000 Super", .memory = 16 * GIB },
	{ .name = "llvmpipe", .device = "llvmpipe (LLVM)", .cpu = true },
	/* Another driver for the first. */
	{ .name = "0000:01:00.0", .device = "Great GPU 9000 (NVK)", .memory = 8 * GIB },
};

static const char *choose(unsigned first, unsigned count, const char *wanted, struct error *e)
{
	const struct vulkan_gpu *gpu = launch_gpu_choose(machine + first, count, wanted, e);

	return gpu ? gpu->name : NULL;
}

static void the_gpu_is_the_only_one_or_the_one_that_is_named(void **state)
{
	struct error e = { 0 };

	assert_string_equal(choose(0, 1, NULL, &e), "0000:01:00.0");
	assert_string_equal(choose(1, 2, NULL, &e), "0000:41:00.0");
	assert_string_equal(choose(2, 1, NULL, &e), "llvmpipe");
	assert_string_equal(choose(0, 4, "0000:41:00.0", &e), "0000:41:00.0");
	assert_string_equal(choose(0, 4, "Super", &e), "0000:41:00.0");
	assert_string_equal(choose(0, 4, "LLVM", &e), "llvmpipe");
	assert_string_equal(choose(0, 4, "NVK", &e), "0000:01:00.0");
	/* The same one twice is no question. */
	assert_string_equal(choose(2, 2, NULL, &e), "0000:01:00.0");
	assert_null(choose(0, 4, NULL, &e));
	assert_string_equal(e.code, "which-gpu");
	assert_non_null(strstr(e.text, "0000:01:00.0 (Great GPU 9000), 0000:41:00.0"));
	assert_null(strstr(e.text, "llvmpipe"));
	assert_null(strchr(e.text, '\n'));
	assert_null(choose(0, 4, "9000", &e));
	assert_string_equal(e.code, "which-gpu");
	assert_null(choose(0, 4, "Small", &e));
	assert_string_equal(e.code, "no-such-gpu");
	assert_non_null(strstr(e.text, "llvmpipe"));
}

/* ---- the layer -------------------------------------------------------------------------------------- */

static const char *const variables[] = { "VK_ADD_LAYER_PATH",	     "VK_LAYER_PATH",
					 "VK_INSTANCE_LAYERS",	     "VK_LOADER_LAYERS_ALLOW",
					 "VK_LOADER_LAYERS_DISABLE", "DIVVY_VGPU_SOCKET",
					 "DIVVY_VGPU_TOKEN" };

static void clear_environment(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		unsetenv(variables[i]);
}

static void the_loader_is_told_of_the_layer_whatever_it_was_told_before(void **state)
{
	const uint8_t token[LIVE_TOKEN_SIZE] = { 0x01, 0xab, [15] = 0xff };

	clear_environment();
	assert_int_equal(launch_layer_environment("/layers", "/run/arbiter", token), 0);
	assert_string_equal(getenv("DIVVY_VGPU_SOCKET"), "/run/arbiter");
	assert_string_equal(getenv("DIVVY_VGPU_TOKEN"), "01ab00000000000000000000000000ff");
	assert_string_equal(getenv("VK_ADD_LAYER_PATH"), "/layers");
	assert_null(getenv("VK_LAYER_PATH"));
	assert_string_equal(getenv("VK_INSTANCE_LAYERS"), "VK_LAYER_DIVVY_vgpu");
	assert_string_equal(getenv("VK_LOADER_LAYERS_ALLOW"), "VK_LAYER_DIVVY_vgpu");
	clear_environment();
	setenv("VK_ADD_LAYER_PATH", "/a", 1);
	setenv("VK_LAYER_PATH", "/b:/c", 1);
	setenv("VK_INSTANCE_LAYERS", "VK_LAYER_X:VK_LAYER_Y", 1);
	setenv("VK_LOADER_LAYERS_ALLOW", "*X", 1);
	assert_int_equal(launch_layer_environment("/layers", "/run/arbiter", token), 0);
	assert_string_equal(getenv("VK_ADD_LAYER_PATH"), "/layers:/a");
	assert_string_equal(getenv("VK_LAYER_PATH"), "/layers:/b:/c");
	assert_string_equal(getenv("VK_INSTANCE_LAYERS"),
			    "VK_LAYER_X:VK_LAYER_Y:VK_LAYER_DIVVY_vgpu");
	assert_string_equal(getenv("VK_LOADER_LAYERS_ALLOW"), "VK_LAYER_DIVVY_vgpu,*X");
	clear_environment();
}

static void a_layer_without_its_library_is_missing(void **state)
{
	struct error e = { 0 };
	char folder[64], path[4096];

	make_layer(folder, "no-such-library.so");
	assert_int_equal(launch_layer_find(folder, path, &e), -ENOENT);
	assert_string_equal(e.code, "layer-missing");
	remove_layer(folder);
	assert_int_equal(launch_layer_find("/nonexistent", path, &e), -ENOENT);
	make_layer(folder, "VkLayer_divvy_vgpu.json"); /* as good as any file */
	assert_int_equal(launch_layer_find(folder, path, &e), 0);
	assert_string_equal(path, folder);
	remove_layer(folder);
}

/* ---- the child -------------------------------------------------------------------------------------- */

static int run_child(const char *script)
{
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, strdup(script), NULL };
	const unsigned fds = count_fds();
	struct launch_child child;
	struct error e = { 0 };

	launch_signals(true);
	if (launch_child_start(&child, argv, NULL, NULL, &e))
		fail_msg("%s", e.text);
	assert_int_equal(launch_child_wait(&child, -1), 0);
	launch_child_end(&child);
	launch_signals(false);
	assert_int_equal(count_fds(), fds);
	free(argv[2]);
	return child.status;
}

static void a_program_ends_as_it_would_in_a_shell(void **state)
{
	assert_int_equal(run_child("exit 0"), 0);
	assert_int_equal(run_child("exit 7"), 7);
	assert_int_equal(run_child("kill -KILL $$"), 128 + SIGKILL);
	assert_int_equal(run_child("kill -TERM $$"), 128 + SIGTERM);
	/* It begins with the signals that its launcher had. */
	assert_int_equal(run_child("grep -q '^SigBlk:.0*$' /proc/self/status"), 0);
}

static void a_program_that_cannot_be_started_is_an_error(void **state)
{
	char *argv[] = { (char[]){ "/nonexistent/program" }, NULL };
	const unsigned fds = count_fds();
	struct launch_child child;
	struct error e = { 0 };

	assert_int_equal(launch_child_start(&child, argv, NULL, NULL, &e), -ENOENT);
	assert_string_equal(e.code, "program-not-started");
	assert_string_equal(e.next, "ls -l /nonexistent/program");
	argv[0] = (char[]){ "/etc/passwd" };
	assert_int_equal(launch_child_start(&child, argv, NULL, NULL, &e), -EACCES);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void signals_are_handed_on_to_the_program(void **state)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1 };
	char *argv[] = {
		(char[]){ "sh" }, (char[]){ "-c" },
		(char[]){
			"trap 'exit 41' INT TERM HUP USR1; echo >&9; while :; do sleep 0.02; done" },
		NULL
	};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct launch_child child;
		struct error e = { 0 };
		int ready[2];
		char byte;

		assert_int_equal(pipe(ready), 0);
		assert_int_equal(dup2(ready[1], 9), 9);
		launch_signals(true);
		assert_int_equal(launch_child_start(&child, argv, NULL, NULL, &e), 0);
		close(9);
		close(ready[1]);
		assert_int_equal(read(ready[0], &byte, 1), 1);
		close(ready[0]);
		assert_int_equal(kill(getpid(), signals[i]), 0);
		assert_int_equal(launch_child_wait(&child, -1), 0);
		assert_int_equal(child.status, 41);
		launch_child_end(&child);
		launch_signals(false);
	}
}

static void wait_gone(pid_t pid)
{
	for (unsigned i = 0; i < 1000 && !kill(pid, 0); i++)
		work_for(10 * MS);
	assert_int_equal(kill(pid, 0), -1);
}

/* Whose launcher is killed has no vGPU, and does not run on without one. */
static void a_program_dies_with_its_launcher(void **state)
{
	char *argv[] = { (char[]){ "sleep" }, (char[]){ "1000" }, NULL };
	int said[2];
	pid_t launcher, program;

	/* Orphans come to us, to be reaped. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(pipe(said), 0);
	launcher = fork();
	if (!launcher) {
		struct launch_child child;

		if (!launch_child_start(&child, argv, NULL, NULL, NULL) &&
		    write(said[1], &child.pid, sizeof(child.pid)) == sizeof(child.pid))
			launch_child_wait(&child, -1);
		_exit(1);
	}
	assert_int_equal(read(said[0], &program, sizeof(program)), sizeof(program));
	close(said[0]);
	close(said[1]);
	assert_int_equal(kill(program, 0), 0);
	assert_int_equal(kill(launcher, SIGKILL), 0);
	assert_int_equal(waitpid(launcher, NULL, 0), launcher);
	assert_int_equal(waitpid(program, NULL, 0), program);
	wait_gone(program);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void an_arbiter_of_its_own_goes_with_the_launcher_and_its_folder_too(void **state)
{
	struct launch_arbiter arbiter, said;
	const unsigned fds = count_fds();
	struct error e = { 0 };
	struct stat st;
	int pipes[2];
	pid_t launcher;

	assert_int_equal(launch_arbiter_start(&arbiter, &e), 0);
	assert_int_equal(stat(arbiter.folder, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	launch_arbiter_end(&arbiter);
	assert_int_equal(stat(arbiter.folder, &st), -1);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(pipe(pipes), 0);
	launcher = fork();
	if (!launcher) {
		if (!launch_arbiter_start(&arbiter, NULL) &&
		    write(pipes[1], &arbiter, sizeof(arbiter)) == sizeof(arbiter))
			pause();
		_exit(1);
	}
	assert_int_equal(read(pipes[0], &said, sizeof(said)), sizeof(said));
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(kill(launcher, SIGKILL), 0);
	assert_int_equal(waitpid(launcher, NULL, 0), launcher);
	assert_int_equal(waitpid(said.pid, NULL, 0), said.pid);
	assert_int_equal(stat(said.folder, &st), -1);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

/* ---- divvy run-native --------------------------------------------------------------------------------- */

static int divvy_words(char **text, unsigned count, const char *const *words)
{
	char *argv[24] = { (char[]){ "divvy" }, (char[]){ "run-native" } };
	size_t size;
	FILE *out = open_memstream(text, &size);
	int argc = 2, status;

	assert_true(count < ARRAY_SIZE(argv) - 3);
	for (unsigned i = 0; i < count; i++)
		argv[argc++] = strdup(words[i]);
	status = cli_main(argc, argv, out);
	fclose(out);
	while (argc > 2)
		free(argv[--argc]);
	return status;
}
#define divvy(text, ...)                                                                \
	divvy_words(text, ARRAY_SIZE(((const char *const[]){ "", ##__VA_ARGS__ })) - 1, \
		    (const char *const[]){ "", ##__VA_ARGS__ } + 1)

static void assert_refused(const char *text, const char *code)
{
	json_t *json = json_loads(text, 0, NULL);
	json_t *error = json_object_get(json, "error");

	assert_non_null(error);
	assert_string_equal(json_string_value(json_object_get(error, "code")), code);
	assert_null(strchr(json_string_value(json_object_get(error, "text")), '\n'));
	json_decref(json);
}

static void words_that_mean_nothing_are_refused_in_one_line(void **state)
{
	static const struct {
		const char *words[6], *code;
	} bad[] = {
		{ { "--share", "125%", "true" }, "share-above-whole" },
		{ { "--share", "0%", "true" }, "bad-value" },
		{ { "--share", "a lot", "true" }, "bad-value" },
		{ { "--share", "-5", "true" }, "bad-value" },
		{ { "--share", "nan", "true" }, "bad-value" },
		{ { "--weight", "0", "true" }, "bad-value" },
		{ { "--weight", "1.5", "true" }, "bad-value" },
		{ { "--weight", "1000001", "true" }, "bad-value" },
		{ { "--share", "25%", "--weight", "3", "true" }, "bad-value" },
		{ { "--elastic", "25%", "true" }, "bad-value" },
		{ { "--credits", "5", "true" }, "bad-value" },
		{ { "--credits", "x", "true" }, "bad-value" },
		{ { "--policy", "weighted", "--surplus", "5", "true" }, "bad-value" },
		{ { "--policy", "fair", "true" }, "bad-value" },
		{ { "--policy", "burst", "true" }, "bad-value" },
		{ { "--memory-quota", "0", "true" }, "bad-value" },
		{ { "--embedded", "--socket", "/x", "true" }, "bad-value" },
		{ { "--layers", "/nonexistent", "true" }, "layer-missing" },
	};
	char *text;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const char *words[8] = { "--json" };
		unsigned count = 1;

		while (count < 7 && bad[i].words[count - 1]) {
			words[count] = bad[i].words[count - 1];
			count++;
		}
		assert_int_equal(divvy_words(&text, count, words), CLI_NOT_RUN);
		assert_refused(text, bad[i].code);
		free(text);
	}
	assert_int_equal(divvy(&text), CLI_USAGE);
	free(text);
	assert_int_equal(divvy(&text, "--share"), CLI_USAGE);
	free(text);
	assert_int_equal(divvy(&text, "--colour", "red", "true"), CLI_USAGE);
	free(text);
	assert_int_equal(divvy(&text, "--help"), CLI_OK);
	assert_non_null(strstr(text, "--embedded"));
	free(text);
}

static json_t *last_line(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	return json;
}

static void a_program_runs_under_the_share_that_was_said(void **state)
{
	char folder[64], *text;
	json_t *json;

	if (!has_vulkan())
		skip();
	make_layer(folder, "VkLayer_divvy_vgpu.json");
	assert_int_equal(divvy(&text, "--embedded", "--layers", folder, "--share", "25%",
			       "--memory-quota", "64M", "--name", "mine", "--json", "--", self,
			       "register", "mine", "67108864"),
			 33);
	json = last_line(text);
	assert_int_equal(json_integer_value(json_object_get(json, "status")), 33);
	assert_int_equal(json_integer_value(json_object_get(json, "registered")), 1);
	assert_true(json_is_true(json_object_get(json, "under_share")));
	assert_string_equal(json_string_value(json_object_get(json, "vgpu")), "mine");
	json_decref(json);
	free(text);
	/* One that never registers is not called one that did. */
	assert_int_equal(divvy(&text, "--embedded", "--layers", folder, "--json", "--", "sh", "-c",
			       "exit 5"),
			 5);
	json = last_line(text);
	assert_int_equal(json_integer_value(json_object_get(json, "registered")), 0);
	assert_true(json_is_false(json_object_get(json, "under_share")));
	json_decref(json);
	free(text);
	assert_int_equal(divvy(&text, "--embedded", "--layers", folder, "--json", "--",
			       "/nonexistent/program"),
			 CLI_NOT_RUN);
	assert_refused(text, "program-not-started");
	free(text);
	remove_layer(folder);
}

static void the_vgpus_fit_a_terminal_and_are_whole_in_a_file(void **state)
{
	static const char gpu[] = "llvmpipe__LLVM_19.1.7__256_bits_";
	struct fixture *f = *state;
	struct live_message message = { .type = LIVE_CREATE,
					.version = LIVE_VERSION,
					.policy = SCHED_WEIGHTED,
					.weight = 300,
					.memory_quota = 2048 * MIB,
					.name = "a-desktop-that-somebody-has" };
	char *argv[] = { (char[]){ "divvy" }, (char[]){ "vgpus" }, (char[]){ "--socket" }, f->path,
			 NULL };
	struct live_message reply;
	struct error e = { 0 };
	int owner = live_connect(f->path, &e), status;
	size_t size;
	char *text;
	FILE *out;

	assert_true(owner >= 0);
	strcpy(message.gpu, gpu);
	assert_int_equal(live_call(owner, &message, &reply, NULL, &e), 0);
	out = open_memstream(&text, &size);
	assert_non_null(out);
	assert_int_equal(cli_main(4, argv, out), CLI_OK);
	fclose(out);
	assert_non_null(strstr(text, message.name));
	assert_non_null(strstr(text, gpu));
	assert_non_null(strstr(text, "weighted 300"));
	free(text);
	text = on_terminal("80", 4, argv, &status);
	assert_int_equal(status, CLI_OK);
	expect_narrow(text, 80);
	assert_non_null(strstr(text, "vGPU "));
	assert_non_null(strstr(text, "0/2048\n"));
	free(text);
	close(owner);
}

static void what_the_machine_cannot_give_is_refused_in_one_line(void **state)
{
	struct fixture *f = *state;
	char folder[64], *text;
	struct vulkan_gpu gpus[VULKAN_GPUS_MAX];
	struct live_message message = { .policy = SCHED_FIXED_SHARE, .share_ppm = 800000 };
	struct live_message reply;
	struct error e = { 0 };
	int fd;

	make_layer(folder, "VkLayer_divvy_vgpu.json");
	assert_int_equal(
		divvy(&text, "--layers", folder, "--socket", "/nonexistent", "--json", "true"),
		CLI_NOT_RUN);
	assert_refused(text, "no-arbiter");
	free(text);
	setenv("VK_DRIVER_FILES", "/nonexistent", 1);
	assert_int_equal(divvy(&text, "--layers", folder, "--socket", f->path, "--json", "true"),
			 CLI_NOT_RUN);
	assert_refused(text, "no-vulkan-device");
	free(text);
	unsetenv("VK_DRIVER_FILES");
	if (launch_gpu_list(gpus, &e) == 1) {
		assert_int_equal(divvy(&text, "--layers", folder, "--socket", f->path, "--json",
				       "--memory-quota", "9999T", "true"),
				 CLI_NOT_RUN);
		assert_refused(text, "quota-too-large");
		free(text);
		assert_int_equal(divvy(&text, "--layers", folder, "--socket", f->path, "--json",
				       "--gpu", "no such GPU", "true"),
				 CLI_NOT_RUN);
		assert_refused(text, "no-such-gpu");
		free(text);
		message.type = LIVE_CREATE;
		message.version = LIVE_VERSION;
		memcpy(message.gpu, gpus[0].name, sizeof(message.gpu));
		strcpy(message.name, "other");
		fd = live_connect(f->path, &e);
		assert_int_equal(live_call(fd, &message, &reply, NULL, &e), 0);
		assert_int_equal(divvy(&text, "--layers", folder, "--socket", f->path, "--json",
				       "--share", "25%", "true"),
				 CLI_NOT_RUN);
		assert_refused(text, "gpu-shares-full");
		free(text);
		assert_int_equal(divvy(&text, "--layers", folder, "--socket", f->path, "--json",
				       "--share", "20%", "true"),
				 0);
		free(text);
		close(fd);
	}
	remove_layer(folder);
}

static void an_arbiter_that_ends_is_not_the_programs_end_and_is_told(void **state)
{
	char folder[64], *text;
	json_t *json;

	if (!has_vulkan())
		skip();
	make_layer(folder, "VkLayer_divvy_vgpu.json");
	/* The program finds its arbiter by the socket's owner and kills it. */
	assert_int_equal(divvy(&text, "--embedded", "--layers", folder, "--json", "--", self,
			       "kill-arbiter"),
			 44);
	json = last_line(text);
	assert_true(json_is_true(json_object_get(json, "arbiter_lost")));
	assert_true(json_is_false(json_object_get(json, "under_share")));
	json_decref(json);
	free(text);
	remove_layer(folder);
}

/* ---- the program that is run ----------------------------------------------------------------------------- */

static int token_of_environment(uint8_t token[LIVE_TOKEN_SIZE])
{
	const char *text = getenv("DIVVY_VGPU_TOKEN");

	for (unsigned i = 0; i < LIVE_TOKEN_SIZE; i++)
		if (!text || sscanf(text + 2 * i, "%2hhx", &token[i]) != 1)
			return -1;
	return strlen(text) == 2 * LIVE_TOKEN_SIZE ? 0 : -1;
}

static int program_register(const char *name, const char *quota)
{
	uint8_t token[LIVE_TOKEN_SIZE];
	struct live_worker worker;
	uint64_t slice;

	if (token_of_environment(token) ||
	    live_worker_open(getenv("DIVVY_VGPU_SOCKET"), token, &worker, NULL))
		return 1;
	if (strcmp(worker.name, name) != 0 || worker.memory_quota != strtoull(quota, NULL, 10) ||
	    live_worker_turn(&worker, SCHED_ENGINE_GRAPHICS, 10 * NSEC_PER_SEC, &slice) ||
	    live_worker_alone(&worker, SCHED_ENGINE_GRAPHICS))
		return 2;
	live_worker_close(&worker);
	return 33;
}

static int program_kill_arbiter(void)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);
	int fd = live_connect(getenv("DIVVY_VGPU_SOCKET"), NULL);
	char byte;

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid <= 1 ||
	    kill(peer.pid, SIGKILL) < 0)
		return 1;
	if (recv(fd, &byte, 1, 0) > 0)
		return 2;
	work_for(100 * MS);
	return 44;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_gpu_is_the_only_one_or_the_one_that_is_named),
		cmocka_unit_test(the_loader_is_told_of_the_layer_whatever_it_was_told_before),
		cmocka_unit_test(a_layer_without_its_library_is_missing),
		cmocka_unit_test(a_program_ends_as_it_would_in_a_shell),
		cmocka_unit_test(a_program_that_cannot_be_started_is_an_error),
		cmocka_unit_test(signals_are_handed_on_to_the_program),
		cmocka_unit_test(a_program_dies_with_its_launcher),
		cmocka_unit_test(an_arbiter_of_its_own_goes_with_the_launcher_and_its_folder_too),
		cmocka_unit_test(words_that_mean_nothing_are_refused_in_one_line),
		cmocka_unit_test(a_program_runs_under_the_share_that_was_said),
		cmocka_unit_test_setup_teardown(the_vgpus_fit_a_terminal_and_are_whole_in_a_file,
						setup, teardown),
		cmocka_unit_test_setup_teardown(what_the_machine_cannot_give_is_refused_in_one_line,
						setup, teardown),
		cmocka_unit_test(an_arbiter_that_ends_is_not_the_programs_end_and_is_told),
	};
	const ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[MAX(length, 0)] = '\0';
	/*
	 * What a driver keeps until the process ends is a leak to a sanitizer once the driver is unloaded. The loader asks for this before main().
	 */
	if (!getenv(KEEP_DRIVERS) && !setenv(KEEP_DRIVERS, "1", 1))
		execv(self, argv);
	if (argc == 4 && !strcmp(argv[1], "register"))
		return program_register(argv[2], argv[3]);
	if (argc == 2 && !strcmp(argv[1], "kill-arbiter"))
		return program_kill_arbiter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
