// SPDX-License-Identifier: Apache-2.0
/*
 * Registered or dead. This program is started by the warden in the render server's place, with an arbiter beside it, and is what a worker may be: one that
 * registers, one that does not, one that did, one with a child; it maps a driver's library that is a file of the test's, or opens a device. And Mesa's
 * Venus as a guest's, with the real layer, and without it.
 */
#include "tests/unit/build_folder.h"
#include "tests/unit/gpu_vtest.h"

#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/sandbox.h"
#include "mdev/gpu/server.h"
#include "mdev/jail.h"
#include "vgpu-sched/live/client.h"
#include "vgpu-sched/live/launch_private.h"

#if SANDBOX_SANITIZED
#include <sanitizer/lsan_interface.h>
#else
#define __lsan_disable()
#define __lsan_enable()
#endif

#define OTHER_USER 54321
#define DEVICE	   "/dev/kvm" /* a device like any */
#define LIMIT_MS   700
#define ALIVE_S	   3  /* some limits */
#define DEAD_S	   60 /* as long as a machine that has much else to do may take to end somebody */

static char build[PATH_MAX], program[96], folder[64], manifest[96], driver[96];

/* ---- workers --------------------------------------------------------------------------------- */

static int load_driver(void)
{
	int fd = open(getenv("TEST_DRIVER"), O_RDONLY);

	return fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED;
}

/* As if a shader had been compiled. */
static int compile(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED;
}

/* As if memory of the GPU had been allocated, which is the CPU's. */
static int allocate(void)
{
	int fd = memfd_create("driver memory", MFD_CLOEXEC);

	return fd < 0 || ftruncate(fd, 4096) ||
	       mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED;
}

static int enroll(struct live_worker *worker)
{
	uint8_t token[LIVE_TOKEN_SIZE];
	struct error e = { 0 };

	if (live_token_read(getenv("DIVVY_VGPU_TOKEN"), token) ||
	    live_worker_open(getenv("DIVVY_VGPU_SOCKET"), token, worker, &e)) {
		dprintf(1, "cannot register: %s\n", e.text);
		return 1;
	}
	dprintf(1, "registered\n");
	return 0;
}

static int with_child(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		/* Its parent's connection is not its own. */
		sleep(DEAD_S);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	dprintf(1, "child %s\n", WIFSIGNALED(status) ? "was ended" : "lived");
	return 0;
}

/* In the render server's place. */
static int work(const char *how)
{
	struct live_worker worker;
	unsigned seconds = DEAD_S;

	if (strchr(how, 'r') && enroll(&worker))
		return 1;
	if (strpbrk(how, "dpm") && load_driver())
		dprintf(1, "no driver: %s\n", strerror(errno));
	if (strchr(how, 'd') && compile())
		dprintf(1, "no code: %s\n", strerror(errno));
	if (strchr(how, 'm') && allocate())
		dprintf(1, "no memory: %s\n", strerror(errno));
	if (strchr(how, 'n') && open(DEVICE, O_RDWR) < 0)
		dprintf(1, "no device: %s\n", strerror(errno));
	if (strchr(how, 'c') && with_child())
		return 1;
	if (strchr(how, 'e')) {
		sleep(1);
		live_worker_close(&worker);
	}
	/* One that is to live, after some limits; one that is not would live long. */
	if (strchr(how, 'l'))
		seconds = ALIVE_S;
	sleep(seconds);
	dprintf(1, "lives\n");
	return 0;
}

/* ---- an arbiter, and a vGPU of its ---------------------------------------------------------------- */

static struct {
	struct launch_arbiter arbiter;
	int owner, watch;
	char variables[8][160];
	const char *environment[9];
} side;

static void arbiter_begin(void)
{
	struct live_message message = { .type = LIVE_CREATE,
					.version = LIVE_VERSION,
					.policy = SCHED_EQUAL_SHARE,
					.weight = 100,
					.gpu = "llvmpipe",
					.name = "test" };
	struct live_message reply;
	char gpu[VGPU_GPU_NAME_SIZE], token[2 * LIVE_TOKEN_SIZE + 1];
	struct vulkan_gpu gpus[VULKAN_GPUS_MAX];
	struct error e = { 0 };

	memset(&side, 0, sizeof(side));
	/* Before drivers are loaded: it is a fork of this. */
	if (launch_arbiter_start(&side.arbiter, &e))
		fail_msg("%s", e.text);
	/* Drivers do not give all back when they are unloaded. */
	__lsan_disable();
	if (launch_gpu_list(gpus, &e) > 0)
		memcpy(message.gpu, gpus[0].name, sizeof(message.gpu));
	__lsan_enable();
	side.owner = live_connect(side.arbiter.socket, &e);
	assert_true(side.owner >= 0);
	if (live_call(side.owner, &message, &reply, NULL, &e))
		fail_msg("%s", e.text);
	for (unsigned i = 0; i < LIVE_TOKEN_SIZE; i++)
		snprintf(token + 2 * i, 3, "%02x", reply.token[i]);
	side.watch = vgpu_watch_open(side.arbiter.socket, token, gpu, &e);
	if (side.watch < 0)
		fail_msg("%s", e.text);
	assert_string_equal(gpu, message.gpu);
	snprintf(side.variables[0], sizeof(side.variables[0]), "DIVVY_VGPU_SOCKET=%s",
		 side.arbiter.socket);
	snprintf(side.variables[1], sizeof(side.variables[1]), "DIVVY_VGPU_TOKEN=%s", token);
}

static void arbiter_end(void)
{
	fd_close(&side.watch);
	fd_close(&side.owner);
	launch_arbiter_end(&side.arbiter);
}

/* ---- with the worker of this program ---------------------------------------------------------------- */

static char said[4096];

/* Have it work, read what it says to its end. @until: when that was said, @then is done. */
static void let_work(const char *how, struct virtio_gpu_venus_config config, const char *until,
		     void (*then)(void))
{
	struct render_server server;
	struct error e = { 0 };
	size_t length = 0;
	ssize_t got;
	int fd;

	/* In the worker's place too: it would be kept from its files. */
	if (SANDBOX_SANITIZED) {
		print_message("skipped: a sanitizer is built in\n");
		skip();
	}
	snprintf(side.variables[2], sizeof(side.variables[2]), "TEST_WORK=%s", how);
	snprintf(side.variables[3], sizeof(side.variables[3]), "VK_DRIVER_FILES=%s", manifest);
	snprintf(side.variables[4], sizeof(side.variables[4]), "TEST_DRIVER=%s", driver);
	snprintf(side.variables[5], sizeof(side.variables[5]), "TEST_UNCONFINED=1");
	for (unsigned i = 0; i < 6; i++)
		side.environment[i] = side.variables[i];
	side.environment[6] = NULL;
	config.environment = side.environment;
	config.register_ms = LIMIT_MS;
	config.watch_fd = side.watch;
	render_server_init(&server);
	if (render_server_open(&server, &config, program, "test", &e))
		fail_msg("%s: %s", e.code, e.text);
	fd = render_server_start(&server);
	if (fd < 0)
		fail_msg("%s: %s", server.why, strerror(-fd));
	said[0] = '\0';
	do {
		struct pollfd poller = { .fd = server.messages_fd, .events = POLLIN };

		assert_int_equal(poll(&poller, 1, 2 * DEAD_S * 1000), 1);
		got = read(server.messages_fd, said + length, sizeof(said) - 1 - length);
		length += (size_t)MAX(got, 0);
		said[length] = '\0';
		if (then && strstr(said, until)) {
			then();
			then = NULL;
		}
	} while (got > 0);
	close(fd);
	render_server_close(&server);
}

static int setup(void **state)
{
	arbiter_begin();
	return 0;
}

static int teardown(void **state)
{
	arbiter_end();
	return 0;
}

static const struct virtio_gpu_venus_config plain = { 0 };

static void who_registers_is_left_alone(void **state)
{
	let_work("rdl", plain, NULL, NULL);
	assert_string_equal(said, "registered\nlives\n");
}

static void who_does_not_use_the_gpu_need_not_register(void **state)
{
	let_work("l", plain, NULL, NULL);
	assert_string_equal(said, "lives\n");
}

/* The server loads drivers before it forks. */
static void a_driver_that_is_only_loaded_is_no_use_of_it(void **state)
{
	let_work("pl", plain, NULL, NULL);
	assert_string_equal(said, "lives\n");
}

static void who_has_a_drivers_code_and_does_not_register_is_ended(void **state)
{
	let_work("d", plain, NULL, NULL);
	assert_string_equal(said, "");
}

static void who_has_a_drivers_memory_and_does_not_register_is_ended(void **state)
{
	let_work("m", plain, NULL, NULL);
	assert_string_equal(said, "");
}

static void who_has_the_device_and_does_not_register_is_ended(void **state)
{
	static const char *const nodes[] = { DEVICE, NULL };
	const struct virtio_gpu_venus_config config = { .nodes = nodes };

	if (access(DEVICE, R_OK | W_OK)) {
		print_message("skipped: there is no " DEVICE "\n");
		skip();
	}
	let_work("n", config, NULL, NULL);
	assert_string_equal(said, "");
}

static void who_is_no_longer_registered_is_ended(void **state)
{
	let_work("rde", plain, NULL, NULL);
	assert_string_equal(said, "registered\n");
}

static void a_child_registers_for_itself_or_is_ended(void **state)
{
	let_work("rdcl", plain, NULL, NULL);
	assert_string_equal(said, "registered\nchild was ended\nlives\n");
}

static void end_arbiter(void)
{
	launch_arbiter_end(&side.arbiter);
}

static void end_vgpu(void)
{
	fd_close(&side.owner);
}

static void without_the_arbiter_nobody_has_the_gpu(void **state)
{
	let_work("rd", plain, "registered", end_arbiter);
	assert_string_equal(said, "registered\n");
}

static void without_the_vgpu_nobody_has_the_gpu(void **state)
{
	let_work("rd", plain, "registered", end_vgpu);
	assert_string_equal(said, "registered\n");
}

static void another_user_reaches_the_arbiter(void **state)
{
	const struct virtio_gpu_venus_config config = {
		.user = { .wanted = true, .uid = OTHER_USER, .gid = OTHER_USER },
	};
	struct error e = { 0 };

	if (geteuid()) {
		print_message("skipped: it takes root to become another user\n");
		skip();
	}
	/* The socket is its owner's alone, so far. */
	let_work("rdl", config, NULL, NULL);
	assert_non_null(strstr(said, "cannot register"));
	if (socket_share(side.arbiter.socket, OTHER_USER + 1, &e) ||
	    socket_share(side.arbiter.socket, OTHER_USER, &e) ||
	    socket_share(side.arbiter.socket, OTHER_USER - 1, &e))
		fail_msg("%s", e.text);
	let_work("rdl", config, NULL, NULL);
	assert_string_equal(said, "registered\nlives\n");
}

/* ---- Mesa's, in front of the whole vGPU ------------------------------------------------------------- */

static char path[64];

static int setup_guest(void **state, bool layer, unsigned register_ms)
{
	static struct virtio_gpu_venus_config venus;
	static struct virtio_gpu_config config;
	unsigned count = 2;

	arbiter_begin();
	if (layer) {
		snprintf(side.variables[count++], sizeof(side.variables[0]),
			 "VK_ADD_LAYER_PATH=%.120s/layers", build);
		snprintf(side.variables[count++], sizeof(side.variables[0]),
			 "VK_INSTANCE_LAYERS=" LAUNCH_LAYER);
	}
	snprintf(side.variables[count++], sizeof(side.variables[0]),
		 "VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json");
	for (unsigned i = 0; i < count; i++)
		side.environment[i] = side.variables[i];
	venus = (struct virtio_gpu_venus_config){ .environment = side.environment,
						  .register_ms = register_ms,
						  .watch_fd = side.watch };
	config = (struct virtio_gpu_config){ .head_count = 1,
					     .heads = { { 1280, 800 } },
					     .window_size = 1024 * GIB,
					     .venus = &venus };
	gpu_open(&config);
	snprintf(path, sizeof(path), "/tmp/test-vtest-%d", getpid());
	vtest_open(path);
	return 0;
}

static int setup_with_layer(void **state)
{
	return setup_guest(state, true, 20000);
}

static int setup_without_layer(void **state)
{
	return setup_guest(state, false, LIMIT_MS);
}

static int teardown_guest(void **state)
{
	vtest_close(path);
	guest_close(&guest);
	arbiter_end();
	return 0;
}

/* A Vulkan program as a guest's. Returns its status. */
static int run_vulkan(const char *const arguments[], unsigned seconds)
{
	char preload[PATH_MAX + 64], socket_name[96];
	const char *const environment[] = {
		preload,
		socket_name,
		"VN_DEBUG=vtest",
		"MESA_VK_VERSION_OVERRIDE=1.3",
		"VK_DRIVER_FILES=/usr/share/vulkan/icd.d/virtio_icd.json",
		"ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0",
		NULL,
	};
	int status;
	pid_t pid;

	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s/tests/unit/vtest_preload.so", build);
	snprintf(socket_name, sizeof(socket_name), "VTEST_SOCKET_NAME=%s", path);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execve(arguments[0], (char *const *)(uintptr_t)arguments,
		       (char *const *)(uintptr_t)environment);
		_exit(127);
	}
	assert_true(pid > 0);
	status = vtest_run(pid, seconds);
	if (status == -1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return status;
}

static void a_guest_with_one_context_after_another_is_not_harmed(void **state)
{
	char vkload[PATH_MAX + 64];

	if (SANDBOX_SANITIZED) {
		print_message(
			"skipped: a render server without a sanitizer cannot load a layer with one\n");
		skip();
	}
	snprintf(vkload, sizeof(vkload), "%s/tests/live/vkload", build);
	/* A context each, and all of them registered with one arbiter, under one warden. */
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(run_vulkan((const char *[]){ vkload, "load", "--job", "2",
							      "--jobs", "3", NULL },
					    110),
				 0);
	assert_true(vtest.contexts >= 8);
}

/* The loader was not told of the layer: what the guest wants is executed at first, and then its context is lost. */
static void a_guest_without_the_layer_loses_its_context(void **state)
{
	char vkload[PATH_MAX + 64];
	int status;

	snprintf(vkload, sizeof(vkload), "%s/tests/live/vkload", build);
	status = run_vulkan(
		(const char *[]){ vkload, "load", "--job", "2", "--seconds", "60", NULL }, 110);
	/* It ends by itself: what it waits for never comes. */
	assert_int_not_equal(status, 0);
	assert_int_not_equal(status, -1);
}

/* ---- files -------------------------------------------------------------------------------------- */

static int make_files(void **state)
{
	char line[PATH_MAX + 256];
	FILE *file;

	strcpy(folder, "/tmp/test-registered-XXXXXX");
	if (!mkdtemp(folder) || chmod(folder, 0755))
		return 1;
	snprintf(program, sizeof(program), "%s/program", folder);
	snprintf(manifest, sizeof(manifest), "%s/driver.json", folder);
	snprintf(driver, sizeof(driver), "%s/libdriver_of_the_test.so", folder);
	snprintf(line, sizeof(line), "install -m 755 /proc/%d/exe '%s' && install -m 644 '%s' '%s'",
		 getpid(), program, program, driver);
	file = fopen(manifest, "we");
	if (!file)
		return 1;
	fputs("{\"ICD\": {\"library_path\": \"./libdriver_of_the_test.so\"}}\n", file);
	fclose(file);
	return system(line);
}

static int remove_files(void **state)
{
	return unlink(program) | unlink(manifest) | unlink(driver) | rmdir(folder);
}

int main(void)
{
#define REGISTERED(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		REGISTERED(who_registers_is_left_alone),
		REGISTERED(who_does_not_use_the_gpu_need_not_register),
		REGISTERED(a_driver_that_is_only_loaded_is_no_use_of_it),
		REGISTERED(who_has_a_drivers_code_and_does_not_register_is_ended),
		REGISTERED(who_has_a_drivers_memory_and_does_not_register_is_ended),
		REGISTERED(who_has_the_device_and_does_not_register_is_ended),
		REGISTERED(who_is_no_longer_registered_is_ended),
		REGISTERED(a_child_registers_for_itself_or_is_ended),
		REGISTERED(without_the_arbiter_nobody_has_the_gpu),
		REGISTERED(without_the_vgpu_nobody_has_the_gpu),
		REGISTERED(another_user_reaches_the_arbiter),
		cmocka_unit_test_setup_teardown(a_guest_without_the_layer_loses_its_context,
						setup_without_layer, teardown_guest),
		cmocka_unit_test_setup_teardown(
			a_guest_with_one_context_after_another_is_not_harmed, setup_with_layer,
			teardown_guest),
	};

	if (getenv("TEST_WORK"))
		return work(getenv("TEST_WORK"));
	if (!build_folder(build, sizeof(build)))
		return 1;
	return cmocka_run_group_tests(tests, make_files, remove_files);
}
