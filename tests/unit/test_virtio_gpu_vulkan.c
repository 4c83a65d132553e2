// SPDX-License-Identifier: Apache-2.0
/*
 * Vulkan programs through the whole vGPU: Mesa's Venus driver as the guest's (gpu_vtest.h), virglrenderer, a render
 * worker, lavapipe. What they compute and draw is judged by themselves (tests/live).
 */
#include "tests/unit/build_folder.h"
#include "tests/unit/gpu_vtest.h"

#include <limits.h>
#include <libgen.h>
#include <signal.h>
#include <systemd/sd-event.h>

static const char *const environment[] = {
	"VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json",
	NULL,
};
static char path[64], build[PATH_MAX];

static const struct virtio_gpu_venus_config venus = { .environment = environment };
static const struct virtio_gpu_config config = {
	.head_count = 1, .heads = { { 1280, 800 } }, .window_size = 1024 * GIB, .venus = &venus
};

static int setup(void **state)
{
	gpu_open(&config);
	snprintf(path, sizeof(path), "/tmp/test-vtest-%d", getpid());
	vtest_open(path);
	return 0;
}

static int teardown(void **state)
{
	vtest_close(path);
	return gpu_teardown(state);
}

/* ---- behind a vfio-user server ------------------------------------------------------------- */

static struct {
	struct vfio_device *device; /* the vGPU itself; guest.device is the client's view of it */
	struct mdev_server *server;
	sd_event *event;
	pthread_t thread;
	int stop;
} served;

static int on_stop(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static void *serve_loop(void *arg)
{
	sd_event_loop(served.event);
	return NULL;
}

static int setup_served(void **state)
{
	static const struct mdev_server_options options = { 0 };
	struct vfio_device *client = NULL;
	int sockets[2];

	fds_before = count_fds();
	served.device = gpu_create(&config);
	assert_int_equal(vfio_device_start(served.device, NULL), 0);
	assert_true(sd_event_new(&served.event) >= 0);
	served.stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(sd_event_add_io(served.event, NULL, served.stop, POLLIN, on_stop, NULL) >= 0);
	assert_int_equal(
		mdev_server_create(served.event, served.device, &options, &served.server, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(mdev_server_attach(served.server, sockets[0], NULL), 0);
	assert_int_equal(pthread_create(&served.thread, NULL, serve_loop, NULL), 0);
	assert_int_equal(vfio_user_open_fd(sockets[1], "vgpu", &client, NULL), 0);
	guest_open(&guest, client);
	snprintf(path, sizeof(path), "/tmp/test-vtest-%d", getpid());
	vtest_open(path);
	return 0;
}

static int teardown_served(void **state)
{
	vtest_close(path);
	guest_close(&guest);
	eventfd_write(served.stop, 1);
	pthread_join(served.thread, NULL);
	mdev_server_destroy(served.server);
	served.device->ops->close(served.device);
	sd_event_unref(served.event);
	close(served.stop);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

/* ---- programs ------------------------------------------------------------------------------- */

/* What a program printed. */
static char output[64 * KIB];

/* Start a program on the host's own driver; @to: where it prints. */
static pid_t start_natively(const char *const arguments[], int to)
{
	pid_t pid = fork();

	if (!pid) {
		dup2(to, 1);
		dup2(to, 2);
		execve(arguments[0], (char *const *)(uintptr_t)arguments,
		       (char *const *)(uintptr_t)environment);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

/* Let a program run to its end, which must be a good one. */
static void run(const char *const arguments[], bool is_guest, unsigned seconds)
{
	int to = memfd_create("output", MFD_CLOEXEC);
	ssize_t got;
	int status;
	pid_t pid;

	assert_true(to >= 0);
	pid = is_guest ? vtest_start(build, path, arguments, to) : start_natively(arguments, to);
	status = vtest_run(pid, seconds);
	if (status == -1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	got = pread(to, output, sizeof(output) - 1, 0);
	close(to);
	output[MAX(got, 0)] = '\0';
	if (status)
		fail_msg("%s: status %#x:\n%s", arguments[1], status, output);
	print_message("%s: %u contexts, %u blobs (%u within their file), %u submissions\n",
		      arguments[1], vtest.contexts, vtest.blobs, vtest.opaque, vtest.submits);
}

static const char *vkload(void)
{
	static char program[PATH_MAX + 64];

	snprintf(program, sizeof(program), "%s/tests/live/vkload", build);
	return program;
}

static void what_submissions_promise_holds(void **state)
{
	run((const char *[]){ vkload(), "test", "--in-process", "--limit", "60", NULL }, true, 110);
	assert_non_null(strstr(output, "\"failed\":0"));
	assert_true(vtest.opaque > 0);
	assert_true(vtest.submits > 0);
}

static void a_load_computes_what_it_should(void **state)
{
	run((const char *[]){ vkload(), "load", "--job", "2", "--jobs", "20", NULL }, true, 60);
	assert_non_null(strstr(output, "Virtio-GPU Venus"));
}

static void a_frame_has_the_same_pixels_as_without_a_guest(void **state)
{
	const char *const arguments[] = { vkload(), "frame", "--frames", "5", NULL };
	char hash[64], *at;

	run(arguments, false, 60);
	at = strstr(output, "\"hash\":");
	assert_non_null(at);
	snprintf(hash, sizeof(hash), "%.25s", at);
	assert_null(strstr(output, "Virtio-GPU"));
	run(arguments, true, 60);
	assert_non_null(strstr(output, "Virtio-GPU Venus"));
	assert_non_null(strstr(output, hash));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_load_computes_what_it_should, setup, teardown),
		cmocka_unit_test_setup_teardown(a_frame_has_the_same_pixels_as_without_a_guest,
						setup, teardown),
		cmocka_unit_test_setup_teardown(what_submissions_promise_holds, setup, teardown),
		{ "what_submissions_promise_holds_behind_vfio_user", what_submissions_promise_holds,
		  setup_served, teardown_served, NULL },
	};

	if (!build_folder(build, sizeof(build)))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
