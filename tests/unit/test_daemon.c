// SPDX-License-Identifier: Apache-2.0
/* The daemon: instances defined, started, stopped, failing and coming back; whole GPUs between tenants; who may do what. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/build_folder.h"
#include "tests/unit/daemon_world.h"
#include "tests/unit/held_process.h"

static void an_instance_is_defined_started_stopped_and_deleted(void **state)
{
	struct world *w = *state;
	char path[200];

	world_define(w, "a", "quarter", "");
	assert_true(world_is(w, "a", "defined"));
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	world_do(w, "a", "start", NULL, 200);
	assert_true(world_pid(w, "a", "vmm") > 0);
	assert_true(world_pid(w, "a", "gpu0") > 0);
	/* Its disk is its own. */
	snprintf(path, sizeof(path), "%s/state/instances/a/disk0.img", w->folder);
	assert_int_equal(access(path, R_OK), 0);
	world_expect(w, "DELETE", "instances/a", NULL, 409u);
	world_do(w, "a", "stop", NULL, 202);
	world_await(w, "a", "stopped");
	world_do(w, "a", "stop", NULL, 200);
	assert_int_equal(world_processes(w, false), 0);
	assert_int_equal(access(path, R_OK), 0);
	world_expect(w, "DELETE", "instances/a", NULL, 204u);
	assert_true(access(path, R_OK) < 0);
	world_expect(w, "GET", "instances/a", NULL, 404u);
	world_expect(w, "DELETE", "instances/a", NULL, 404u);
	world_stop(w);
	world_check_empty(w);
}

static void a_definition_is_idempotent_and_held_by_its_digest(void **state)
{
	struct world *w = *state;
	char body[300], *digest, head[1024], text[65536];
	json_t *first, *second;
	int fd;

	world_define(w, "a", "weighted", "");
	first = world_instance(w, "a");
	digest = strdup(json_string_value(json_object_get(first, "digest")));
	snprintf(body, sizeof(body), "{\"image\":\"%s/images/a\",\"type\":\"weighted\"}",
		 w->folder);
	world_expect(w, "PUT", "instances/a", body, 200u);
	second = world_instance(w, "a");
	assert_string_equal(digest, json_string_value(json_object_get(second, "digest")));
	assert_string_equal(json_string_value(json_object_get(first, "changed_at")),
			    json_string_value(json_object_get(second, "changed_at")));
	json_decref(first);
	json_decref(second);
	/* Somebody else changed it: whoever has the old digest is told. */
	world_expect(w, "PATCH", "instances/a/share", "{\"weight\":300}", 200u);
	snprintf(
		head, sizeof(head),
		"PUT /api/v1/instances/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIf-Match: \"%s\"\r\nContent-Length: %zu\r\n\r\n%s",
		digest, strlen(body), body);
	fd = http_connect(w->api);
	assert_int_equal(send(fd, head, strlen(head), 0), strlen(head));
	assert_int_equal(http_receive(fd, text, sizeof(text)), 412);
	close(fd);
	free(digest);
	first = world_instance(w, "a");
	assert_int_equal(json_integer_value(json_object_get(first, "weight")), 300);
	json_decref(first);
}

static void what_does_not_fit_is_refused_and_said(void **state)
{
	struct world *w = *state;
	json_t *body = NULL;
	const char *text;

	for (unsigned i = 0; i < 5; i++) {
		char name[16];

		snprintf(name, sizeof(name), "q%u", i);
		world_define(w, name, "quarter", "");
		world_do(w, name, "start", NULL, i < 4 ? 202 : 409);
	}
	assert_int_equal(world_ask(w, "POST", "instances/q4/start", NULL, &body), 409);
	text = json_string_value(json_object_get(json_object_get(body, "error"), "text"));
	assert_true(text && strlen(text) > 20);
	json_decref(body);
	for (unsigned i = 0; i < 4; i++) {
		char name[16];

		snprintf(name, sizeof(name), "q%u", i);
		world_await(w, name, "running");
	}
	/* One goes, one comes. */
	world_do(w, "q0", "stop", "{\"force\":true}", 202);
	world_await(w, "q0", "stopped");
	world_do(w, "q4", "start", NULL, 202);
	world_await(w, "q4", "running");
}

static void a_whole_gpu_is_leased_reset_and_given_to_the_next(void **state)
{
	struct world *w = *state;
	char text[64];
	json_t *body = NULL, *lease;

	world_define(w, "a", "pair", "");
	world_define(w, "b", "whole", "");
	world_do(w, "a", "start", NULL, 202);
	world_do(w, "b", "start", NULL, 409);
	world_await(w, "a", "running");
	world_expect(w, "POST", "gpus/" WORLD_GPU_A "/unbind", NULL, 409u);
	world_do(w, "a", "stop", NULL, 202);
	world_await(w, "a", "stopped");
	assert_string_equal(fake_sysfs_read(&w->fs, "sys/bus/pci/devices/" WORLD_GPU_A "/reset",
					    text, sizeof(text)),
			    "1");
	assert_int_equal(world_ask(w, "GET", "gpus/" WORLD_GPU_A "/leases", NULL, &body), 200);
	lease = json_array_get(json_object_get(body, "leases"), 0);
	assert_string_equal(json_string_value(json_object_get(lease, "instance")), "a");
	assert_string_equal(json_string_value(json_object_get(lease, "link_before")),
			    "16.0 GT/s PCIe x16");
	assert_true(json_is_string(json_object_get(lease, "ended_at")));
	assert_int_equal(json_integer_value(json_object_get(lease, "resets")), 1);
	json_decref(body);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "b", "running");
	world_do(w, "b", "stop", "{\"force\":true}", 202);
	world_await(w, "b", "stopped");
	world_stop(w);
	world_check_empty(w);
}

/*
 * What the kernel does with what the daemon writes, of WORLD_GPU_A: vfio-pci takes it, and later its own driver again. Each "unbind" is a pipe,
 * so that the daemon goes on when it has been done.
 */
static void unbind_wait(const struct world *w, const char *driver, bool begin)
{
	char path[PATH_MAX], leaf[128], text[64];
	int fd;

	snprintf(leaf, sizeof(leaf), "sys/bus/pci/drivers/%s/unbind", driver);
	fake_path(&w->fs, path, leaf);
	if (begin) {
		unlink(path);
		assert_int_equal(mkfifo(path, 0600), 0);
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text)) > 0);
	close(fd);
	unlink(path);
}

static void override_await(const struct world *w, const char *wanted)
{
	char text[64] = "?";

	for (unsigned i = 0; i < WORLD_WAIT_MS && strcmp(text, wanted) != 0; i++) {
		usleep(1000);
		fake_sysfs_read(&w->fs, "sys/bus/pci/devices/" WORLD_GPU_A "/driver_override", text,
				sizeof(text));
	}
	assert_string_equal(text, wanted);
}

static void driver_is(const struct world *w, const char *wanted)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t n;

	fake_path(&w->fs, path, "sys/bus/pci/devices/" WORLD_GPU_A "/driver");
	n = readlink(path, target, sizeof(target) - 1);
	assert_true(n > 0);
	target[n] = '\0';
	assert_string_equal(strrchr(target, '/') + 1, wanted);
}

/* By the API; no udev tells it. */
static void gpu_is_said_to_be(const struct world *w, const char *driver, double sold)
{
	json_t *body = NULL;

	assert_int_equal(world_ask(w, "GET", "gpus/" WORLD_GPU_A, NULL, &body), 200);
	assert_string_equal(json_string_value(json_object_get(body, "driver")), driver);
	assert_true(json_number_value(json_object_get(body, "share_sold")) == sold);
	json_decref(body);
}

static void a_gpu_that_its_driver_has_is_bound_for_an_instance_and_given_back(void **state)
{
	struct world *w = *state;
	char path[PATH_MAX];

	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	unbind_wait(w, "nouveau", true);
	world_define(w, "a", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	override_await(w, "vfio-pci");
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "vfio-pci");
	unbind_wait(w, "nouveau", false);
	world_await(w, "a", "running");
	gpu_is_said_to_be(w, "vfio-pci", 1);

	unbind_wait(w, "vfio-pci", true);
	world_do(w, "a", "stop", NULL, 202);
	override_await(w, "");
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	unbind_wait(w, "vfio-pci", false);
	world_await(w, "a", "stopped");
	driver_is(w, "nouveau");
	gpu_is_said_to_be(w, "nouveau", 0);
	fake_path(&w->fs, path, "sys/bus/pci/drivers/vfio-pci/" WORLD_GPU_B);
	assert_int_equal(access(path, F_OK), 0);
	world_expect(w, "GET", "gpus/" WORLD_GPU_A, NULL, 200u);
	world_stop(w);
	world_check_empty(w);
}

static bool bind_is_remembered(const struct world *w)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/state/bind/group-1", w->folder);
	return !access(path, F_OK);
}

/* What the kernel does when the daemon gives WORLD_GPU_A back that no driver has; in a process of its own. */
static pid_t kernel_gives_back(const struct world *w, const char *driver)
{
	char path[PATH_MAX], folder[PATH_MAX], link[PATH_MAX + 16], leaf[128], text[64];
	pid_t pid;
	int fd;

	snprintf(leaf, sizeof(leaf), "sys/bus/pci/drivers/%s/bind", driver);
	fake_sysfs_device_path(&w->fs, WORLD_GPU_A, folder);
	snprintf(link, sizeof(link), "%s/driver", folder);
	fake_path(&w->fs, path, leaf);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	pid = fork();
	if (pid)
		return pid;
	alarm(WORLD_WAIT_MS / 1000);
	for (strcpy(text, "?"); text[0]; usleep(1000))
		fake_sysfs_read(&w->fs, "sys/bus/pci/devices/" WORLD_GPU_A "/driver_override", text,
				sizeof(text));
	leaf[strlen(leaf) - strlen("/bind")] = '\0';
	fake_sysfs_link(&w->fs, link, leaf);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	_exit(read(fd, text, sizeof(text)) > 0 ? 0 : 1);
}

static void kernel_has_given_back(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Its driver takes its time to let go, and no kill shortens that. */
static void a_start_that_is_cut_off_while_it_binds_leaves_nothing_half_done(void **state)
{
	struct world *w = *state;
	pid_t writer, kernel;

	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	world_define(w, "a", "pair", "");
	for (unsigned round = 0; round < 2; round++) {
		unbind_wait(w, "nouveau", true);
		world_do(w, "a", "start", NULL, 202);
		override_await(w, "vfio-pci");
		writer = held_find(held_find(w->daemon));
		held_take(writer);
		assert_true(bind_is_remembered(w));
		if (round) {
			world_kill(w);
			assert_true(world_start(w, NULL));
		}
		world_do(w, "a", "stop", "{\"force\":true}", 202);
		held_await(writer);
		usleep(500000);
		assert_true(world_is(w, "a", "stopping"));
		fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, NULL);
		kernel = kernel_gives_back(w, "nouveau");
		held_let_go(writer);
		world_await(w, "a", "stopped");
		kernel_has_given_back(kernel);
		driver_is(w, "nouveau");
		assert_false(bind_is_remembered(w));
		gpu_is_said_to_be(w, "nouveau", 0);
		fake_sysfs_device_write(&w->fs, WORLD_GPU_A, "driver_override", "(null)\n");
	}
	world_stop(w);
	world_check_empty(w);
}

/* Cut off as above, but it was an admin who bound it: he is told, and unbinds it. */
static void what_is_bound_by_half_is_unbound_when_asked(void **state)
{
	struct world *w = *state;
	char request[] = "POST /api/v1/gpus/" WORLD_GPU_A
			 "/bind HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
	pid_t kernel;
	int fd;

	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	unbind_wait(w, "nouveau", true);
	fd = http_connect(w->api);
	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	override_await(w, "vfio-pci");
	held_find(held_find(w->daemon));
	world_kill(w);
	close(fd);
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, NULL);
	assert_true(world_start(w, NULL));
	assert_true(bind_is_remembered(w));
	kernel = kernel_gives_back(w, "nouveau");
	world_expect(w, "POST", "gpus/" WORLD_GPU_A "/unbind", NULL, 200u);
	kernel_has_given_back(kernel);
	driver_is(w, "nouveau");
	assert_false(bind_is_remembered(w));
	/* Once more there is nothing to do. */
	world_expect(w, "POST", "gpus/" WORLD_GPU_A "/unbind", NULL, 200u);
}

static void gpu_config(const struct world *w, const char *bdf, bool silent)
{
	char folder[PATH_MAX], path[PATH_MAX + 16];
	uint8_t bytes[64];

	memset(bytes, 0xff, sizeof(bytes));
	if (!silent)
		memcpy(bytes, (uint8_t[16]){ 0xde, 0x10, 0x30, 0x23, [0x0a] = 2, [0x0b] = 3 }, 16);
	fake_sysfs_device_path(&w->fs, bdf, folder);
	snprintf(path, sizeof(path), "%s/config", folder);
	fake_sysfs_write_bytes(&w->fs, path, bytes, sizeof(bytes));
}

/* Where they may go on to the next: what they are else is looked at as ever, and they go back to whoever had them. */
static void gpus_without_a_reset_are_judged_by_everything_else(void **state)
{
	struct world *w = *state;
	json_t *body = NULL, *lease;

	world_stop(w);
	world_write(w, "divvyd.yaml", "allow_no_reset: true\n");
	assert_true(world_start(w, NULL));
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	unbind_wait(w, "nouveau", true);
	world_define(w, "a", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	override_await(w, "vfio-pci");
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "vfio-pci");
	unbind_wait(w, "nouveau", false);
	world_await(w, "a", "running");
	fake_sysfs_remove(&w->fs, "sys/bus/pci/devices/" WORLD_GPU_A "/reset");
	fake_sysfs_remove(&w->fs, "sys/bus/pci/devices/" WORLD_GPU_B "/reset");
	gpu_config(w, WORLD_GPU_B, true);
	unbind_wait(w, "vfio-pci", true);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	override_await(w, "");
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	unbind_wait(w, "vfio-pci", false);
	world_await(w, "a", "stopped");
	driver_is(w, "nouveau");
	assert_true(world_gpu_is(w, WORLD_GPU_A, "free"));
	assert_int_equal(world_ask(w, "GET", "gpus/" WORLD_GPU_A "/leases", NULL, &body), 200);
	lease = json_array_get(json_object_get(body, "leases"), 0);
	assert_non_null(strstr(json_string_value(json_object_get(lease, "verdict")), "no-reset: "));
	json_decref(body);
	/* It has fallen off the bus. */
	world_expect_quarantine(w, WORLD_GPU_B, "device-silent");
	world_stop(w);
	world_check_empty(w);
}

/* A lost link, silence, no way to reset: each sets the GPU aside until somebody releases it. */
static void a_gpu_that_comes_back_wrong_is_set_aside(void **state)
{
	struct world *w = *state;
	uint8_t ones[64];
	char folder[PATH_MAX], path[PATH_MAX + 16];

	world_define(w, "a", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	fake_sysfs_device_write(&w->fs, WORLD_GPU_A, "current_link_width", "8\n");
	memset(ones, 0xff, sizeof(ones));
	fake_sysfs_device_path(&w->fs, WORLD_GPU_B, folder);
	snprintf(path, sizeof(path), "%s/config", folder);
	fake_sysfs_write_bytes(&w->fs, path, ones, sizeof(ones));
	world_do(w, "a", "stop", NULL, 202);
	world_await(w, "a", "stopped");
	assert_true(world_gpu_is(w, WORLD_GPU_A, "quarantined"));
	world_expect_quarantine(w, WORLD_GPU_A, "link-worse");
	assert_true(world_gpu_is(w, WORLD_GPU_B, "quarantined"));
	world_expect_quarantine(w, WORLD_GPU_B, "device-silent");
	world_define(w, "b", "whole", "");
	world_do(w, "b", "start", NULL, 409);
	/* It stays so over a restart. */
	world_stop(w);
	assert_true(world_start(w, NULL));
	world_do(w, "b", "start", NULL, 409);
	world_expect(w, "POST", "gpus/" WORLD_GPU_A "/release", NULL, 200u);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "b", "running");
	world_do(w, "b", "stop", "{\"force\":true}", 202);
	world_await(w, "b", "stopped");
}

/* While nothing can be written, nor after it: not by this daemon, nor by the next. */
static void a_gpu_is_set_aside_though_the_store_is_full(void **state)
{
	struct world *w = *state;

	world_define(w, "a", "pair", "");
	world_define(w, "b", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	gpu_config(w, WORLD_GPU_B, true);
	world_store_fails(w, 1);
	kill(world_pid(w, "a", "vmm"), SIGKILL);
	for (unsigned i = 0; i < WORLD_WAIT_MS / 10 && !world_gpu_is(w, WORLD_GPU_B, "quarantined");
	     i++)
		usleep(10000);
	assert_true(world_is(w, "a", "stopping"));
	world_store_fails(w, 0);
	world_await(w, "a", "failed");
	/* Its next tenant would have what its last one left. */
	gpu_config(w, WORLD_GPU_B, false);
	world_do(w, "b", "start", NULL, 409);
	world_kill(w);
	assert_true(world_start(w, NULL));
	assert_true(world_gpu_is(w, WORLD_GPU_B, "quarantined"));
	world_do(w, "b", "start", NULL, 409);
}

static void a_gpu_is_set_aside_however_many_were_there_before(void **state)
{
	struct world *w = *state;
	struct store *store;
	struct error e = { 0 };
	char folder[128];

	world_stop(w);
	snprintf(folder, sizeof(folder), "%s/state", w->folder);
	assert_int_equal(store_open(folder, &store, &e), 0);
	assert_int_equal(store_begin(store, &e), 0);
	for (unsigned i = 0; i < 2 * NODE_GPUS_MAX; i++) {
		struct store_gpu row = { .resets = 1 };

		snprintf(row.id, sizeof(row.id), "GPU-%08x-0000-0000-0000-000000000000", i);
		assert_int_equal(store_gpu_put(store, &row, &e), 0);
	}
	assert_int_equal(store_commit(store, &e), 0);
	store_close(store);
	assert_true(world_start(w, NULL));
	world_define(w, "a", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	gpu_config(w, WORLD_GPU_B, true);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	assert_true(world_gpu_is(w, WORLD_GPU_B, "quarantined"));
	world_do(w, "a", "start", NULL, 409);
	world_kill(w);
	assert_true(world_start(w, NULL));
	assert_true(world_gpu_is(w, WORLD_GPU_B, "quarantined"));
}

static bool was_reset(const struct world *w, const char *gpu)
{
	char leaf[128], text[64];

	snprintf(leaf, sizeof(leaf), "sys/bus/pci/devices/%s/reset", gpu);
	return strcmp(fake_sysfs_read(&w->fs, leaf, text, sizeof(text)), "0") != 0;
}

static void another_vmm(const struct world *w, bool has)
{
	char path[PATH_MAX];

	fake_sysfs_folder(&w->fs, "proc/4242/fd");
	fake_sysfs_write(&w->fs, "proc/4242/comm", "another\n");
	fake_path(&w->fs, path, "proc/4242/fd/7");
	assert_int_equal(has ? symlink("/dev/vfio/1", path) : unlink(path), 0);
}

/* On vfio-pci all along, and another VMM's: that is found out, and its guest notices nothing of it. */
static void a_gpu_that_another_vmm_has_is_left_alone(void **state)
{
	struct world *w = *state;
	json_t *body;
	int32_t vmm;

	another_vmm(w, true);
	world_define(w, "a", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "failed");
	body = world_instance(w, "a");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(body, "error"), "code")),
		"device-in-use");
	json_decref(body);
	assert_false(was_reset(w, WORLD_GPU_A) || was_reset(w, WORLD_GPU_B));
	gpu_is_said_to_be(w, "vfio-pci", 0);
	/* It is free: an instance of ours has it, and the daemon after the one that started it knows that it is to be reset. */
	another_vmm(w, false);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	vmm = world_pid(w, "a", "vmm");
	world_kill(w);
	kill(vmm, SIGKILL);
	assert_true(world_start(w, NULL));
	world_await(w, "a", "failed");
	assert_true(was_reset(w, WORLD_GPU_A) && was_reset(w, WORLD_GPU_B));
	/* Who was quicker than the reset has it, and nobody of ours gets it until somebody has looked. */
	fake_sysfs_device_write(&w->fs, WORLD_GPU_A, "reset", "0\n");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	another_vmm(w, true);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	assert_false(was_reset(w, WORLD_GPU_A));
	world_expect_quarantine(w, WORLD_GPU_A, "device-in-use");
	world_stop(w);
	world_check_empty(w);
}

/* Taken away and plugged in again, say, with nobody there to see it. */
static void a_gpu_that_came_back_by_another_way_is_set_aside(void **state)
{
	struct world *w = *state;
	int32_t vmm;

	world_define(w, "a", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	vmm = world_pid(w, "a", "vmm");
	world_kill(w);
	kill(vmm, SIGKILL);
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	assert_true(world_start(w, NULL));
	world_await(w, "a", "failed");
	assert_false(was_reset(w, WORLD_GPU_A));
	assert_true(was_reset(w, WORLD_GPU_B));
	assert_true(world_gpu_is(w, WORLD_GPU_B, "free"));
	world_expect_quarantine(w, WORLD_GPU_A, "came-back");
	world_stop(w);
	world_check_empty(w);
}

/* The daemon dies while it gives it back: the next one finds it with its driver, and knows that it was reset. */
static void a_gpu_that_was_reset_before_it_was_given_back_is_clean(void **state)
{
	struct world *w = *state;
	json_t *body = NULL, *lease;
	char path[PATH_MAX];

	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	unbind_wait(w, "nouveau", true);
	world_define(w, "a", "pair", "");
	world_do(w, "a", "start", NULL, 202);
	override_await(w, "vfio-pci");
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "vfio-pci");
	unbind_wait(w, "nouveau", false);
	world_await(w, "a", "running");
	unbind_wait(w, "vfio-pci", true);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	override_await(w, "");
	world_kill(w);
	fake_path(&w->fs, path, "sys/bus/pci/drivers/vfio-pci/unbind");
	unlink(path);
	fake_sysfs_set_driver(&w->fs, WORLD_GPU_A, "nouveau");
	assert_true(world_start(w, NULL));
	world_await(w, "a", "stopped");
	assert_true(world_gpu_is(w, WORLD_GPU_A, "free"));
	assert_false(bind_is_remembered(w));
	assert_int_equal(world_ask(w, "GET", "gpus/" WORLD_GPU_A "/leases", NULL, &body), 200);
	lease = json_array_get(json_object_get(body, "leases"), 0);
	assert_int_equal(json_integer_value(json_object_get(lease, "resets")), 1);
	assert_non_null(
		strstr(json_string_value(json_object_get(lease, "verdict")), "reset, and answers"));
	json_decref(body);
	world_stop(w);
	world_check_empty(w);
}

static void a_drained_gpu_gets_nobody_new(void **state)
{
	struct world *w = *state;

	world_define(w, "a", "quarter", "");
	world_define(w, "b", "quarter", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	world_expect(w, "POST", "gpus/" FAKE_SHARED_GPU "/drain", NULL, 200u);
	world_do(w, "b", "start", NULL, 409);
	assert_true(world_is(w, "a", "running"));
	world_stop(w);
	assert_true(world_start(w, NULL));
	world_do(w, "b", "start", NULL, 409);
	world_expect(w, "POST", "gpus/" FAKE_SHARED_GPU "/undrain", NULL, 200u);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "b", "running");
}

static void one_that_waits_for_room_gets_it_whatever_was_refused_meanwhile(void **state)
{
	struct world *w = *state;

	world_define(w, "a", "quarter", ",\"restart\":\"always\"");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	world_expect(w, "POST", "gpus/" FAKE_SHARED_GPU "/drain", NULL, 200u);
	kill(world_pid(w, "a", "vmm"), SIGKILL);
	while (!world_is(w, "a", "failed"))
		usleep(1000);
	/* A person is not more patient, and a store may be full. */
	world_do(w, "a", "start", NULL, 409);
	world_store_fails(w, 1);
	world_do(w, "a", "stop", NULL, 409);
	world_store_fails(w, 0);
	world_expect(w, "POST", "gpus/" FAKE_SHARED_GPU "/undrain", NULL, 200u);
	world_await(w, "a", "running");
}

static void what_runs_outlives_the_daemon_and_is_taken_back(void **state)
{
	struct world *w = *state;
	int32_t vmm, gpu;
	json_t *body, *one;
	size_t i;

	world_define(w, "a", "quarter", "");
	world_define(w, "b", "whole", "");
	world_do(w, "a", "start", NULL, 202);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "a", "running");
	world_await(w, "b", "running");
	vmm = world_pid(w, "a", "vmm");
	gpu = world_pid(w, "a", "gpu0");
	for (unsigned round = 0; round < 2; round++) {
		if (round)
			world_stop(w);
		else
			world_kill(w);
		assert_int_equal(kill(vmm, 0), 0);
		assert_true(world_start(w, NULL));
		assert_true(world_is(w, "a", "running"));
		assert_true(world_is(w, "b", "running"));
		assert_int_equal(world_pid(w, "a", "vmm"), vmm);
		assert_int_equal(world_pid(w, "a", "gpu0"), gpu);
	}
	body = world_instance(w, "a");
	json_array_foreach(json_object_get(body, "processes"), i, one)
	{
		assert_true(json_is_true(json_object_get(one, "adopted")));
	}
	json_decref(body);
	/* It still hears of their ends, and can end them. */
	kill(vmm, SIGKILL);
	world_await(w, "a", "failed");
	body = world_instance(w, "a");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(body, "error"), "next")),
		"divvy log a");
	json_decref(body);
	world_do(w, "b", "stop", NULL, 202);
	world_await(w, "b", "stopped");
	assert_int_equal(world_processes(w, false), 0);
	world_stop(w);
	world_check_empty(w);
}

static void what_ended_while_nobody_looked_is_found_out(void **state)
{
	struct world *w = *state;

	world_define(w, "a", "quarter", "");
	world_define(w, "b", "whole", ",\"restart\":\"always\"");
	world_do(w, "a", "start", NULL, 202);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "a", "running");
	world_await(w, "b", "running");
	{
		const int32_t gpu = world_pid(w, "a", "gpu0"), vmm = world_pid(w, "b", "vmm");

		world_kill(w);
		kill(gpu, SIGKILL);
		kill(vmm, SIGKILL);
		usleep(50000);
	}
	assert_true(world_start(w, NULL));
	world_await(w, "a", "failed");
	world_await(w, "b", "running");
	world_do(w, "b", "stop", "{\"force\":true}", 202);
	world_await(w, "b", "stopped");
	assert_int_equal(world_processes(w, false), 0);
}

static void the_restart_policy_is_kept(void **state)
{
	struct world *w = *state;
	json_t *body;
	int32_t vmm;

	world_define(w, "never", "plain", "");
	world_define(w, "failure", "plain", ",\"restart\":\"on-failure\"");
	world_define(w, "always", "plain", ",\"restart\":\"always\"");
	world_do(w, "never", "start", NULL, 202);
	world_do(w, "failure", "start", NULL, 202);
	world_do(w, "always", "start", NULL, 202);
	world_await(w, "never", "running");
	world_await(w, "failure", "running");
	world_await(w, "always", "running");
	kill(world_pid(w, "never", "vmm"), SIGKILL);
	vmm = world_pid(w, "failure", "vmm");
	kill(vmm, SIGKILL);
	world_await(w, "never", "failed");
	while (world_pid(w, "failure", "vmm") == vmm || !world_pid(w, "failure", "vmm"))
		usleep(10000);
	world_await(w, "failure", "running");
	/* A guest that switches itself off is no failure. (SIGTERM is as good as that to the VMM.) */
	kill(world_pid(w, "failure", "vmm"), SIGTERM);
	world_await(w, "failure", "stopped");
	vmm = world_pid(w, "always", "vmm");
	kill(vmm, SIGTERM);
	while (world_pid(w, "always", "vmm") == vmm || !world_pid(w, "always", "vmm"))
		usleep(10000);
	world_await(w, "always", "running");
	body = world_instance(w, "always");
	assert_int_equal(json_integer_value(json_object_get(body, "restarts")), 1);
	json_decref(body);
	/* Stopped by a person, it stays so. */
	world_do(w, "always", "stop", NULL, 202);
	world_await(w, "always", "stopped");
	world_stop(w);
	assert_true(world_start(w, NULL));
	usleep(1500000);
	assert_true(world_is(w, "always", "stopped"));
	world_do(w, "always", "restart", NULL, 202);
	world_await(w, "always", "running");
	vmm = world_pid(w, "always", "vmm");
	world_do(w, "always", "restart", NULL, 202);
	while (world_pid(w, "always", "vmm") == vmm || !world_pid(w, "always", "vmm"))
		usleep(10000);
	world_await(w, "always", "running");
}

static void divvy(const struct world *w, const char *words)
{
	char build[PATH_MAX], command[2 * PATH_MAX];

	assert_true(build_folder(build, sizeof(build)));
	snprintf(command, sizeof(command), "%s/divvy --api %s %s", build, w->api, words);
	assert_int_equal(system(command), 0);
}

/* The first lasts a second. */
static bool has_failed_or_started_anew(const struct world *w, const char *name)
{
	json_t *body = world_instance(w, name);
	const bool has = !strcmp(json_string_value(json_object_get(body, "state")), "failed") ||
			 json_integer_value(json_object_get(body, "restarts")) > 0;

	json_decref(body);
	return has;
}

/* As the machine's shutdown does it, and its next boot. */
static void who_is_stopped_to_resume_runs_again_with_the_next_daemon(void **state)
{
	static const char *const names[] = { "always", "failure", "never", "person", "pauses" };
	struct world *w = *state;
	char text[300];
	json_t *body;
	int32_t vmm;

	world_define(w, "always", "quarter", ",\"restart\":\"always\"");
	world_define(w, "failure", "plain", ",\"restart\":\"on-failure\"");
	world_define(w, "never", "plain", "");
	world_define(w, "person", "plain", ",\"restart\":\"always\"");
	world_define(w, "pauses", "plain", ",\"restart\":\"always\"");
	snprintf(text, sizeof(text),
		 "{\"name\":\"transient\",\"type\":\"plain\",\"image\":\"%s/images/a\"}",
		 w->folder);
	world_expect(w, "POST", "run", text, 202u);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		world_do(w, names[i], "start", NULL, 202);
		world_await(w, names[i], "running");
	}
	world_await(w, "transient", "running");
	world_do(w, "person", "stop", NULL, 202);
	world_await(w, "person", "stopped");
	/* Nobody is to be asked to come back at once, and to stay away. */
	world_do(w, "always", "restart", "{\"resume\":true}", 400);
	/* What fails meanwhile waits for its time, which does not come. */
	kill(world_pid(w, "pauses", "vmm"), SIGKILL);
	for (unsigned i = 0; i < WORLD_WAIT_MS && !has_failed_or_started_anew(w, "pauses"); i++)
		usleep(1000);
	divvy(w, "stop --all --resume");
	assert_int_equal(world_processes(w, false), 0);
	world_expect(w, "GET", "instances/transient", NULL, 404u);
	usleep(2500000);
	assert_int_equal(world_processes(w, false), 0);
	assert_true(world_is(w, "always", "stopped"));
	body = world_instance(w, "always");
	assert_string_equal(json_string_value(json_object_get(body, "desired")), "running");
	json_decref(body);
	world_stop(w);
	assert_true(world_start(w, NULL));
	world_await(w, "always", "running");
	world_await(w, "failure", "running");
	world_await(w, "pauses", "running");
	usleep(1500000);
	assert_true(world_is(w, "never", "stopped"));
	assert_true(world_is(w, "person", "stopped"));
	/* Its policy holds again. */
	vmm = world_pid(w, "always", "vmm");
	kill(vmm, SIGKILL);
	while (world_pid(w, "always", "vmm") == vmm || !world_pid(w, "always", "vmm"))
		usleep(10000);
	world_await(w, "always", "running");
	/* What a person says last counts. */
	divvy(w, "stop always --resume");
	divvy(w, "stop --all");
	world_stop(w);
	assert_true(world_start(w, NULL));
	usleep(1500000);
	assert_int_equal(world_processes(w, false), 0);
	assert_true(world_is(w, "always", "stopped"));
}

static void one_that_never_comes_up_is_given_longer_pauses(void **state)
{
	struct world *w = *state;
	json_t *body;
	json_int_t restarts;

	world_write(w, "ends-at-once", "");
	world_define(w, "a", "quarter", ",\"restart\":\"always\"");
	world_do(w, "a", "start", NULL, 202);
	usleep(5000000);
	body = world_instance(w, "a");
	restarts = json_integer_value(json_object_get(body, "restarts"));
	assert_in_range(restarts, 1, 4);
	assert_int_equal(json_integer_value(json_object_get(body, "exit")), 3);
	json_decref(body);
	/* Caught in a pause or in a try. */
	assert_in_range(world_ask(w, "POST", "instances/a/stop", NULL, NULL), 200, 202);
	for (unsigned i = 0; i < 1000 && world_processes(w, false); i++)
		usleep(10000);
	usleep(1500000);
	assert_int_equal(world_processes(w, false), 0);
}

static void a_guest_that_does_not_listen_is_ended_after_its_time(void **state)
{
	struct world *w = *state;

	world_write(w, "deaf", "");
	world_define(w, "a", "plain", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	world_do(w, "a", "stop", "{\"timeout\":1}", 202);
	usleep(300000);
	assert_true(world_is(w, "a", "stopping"));
	world_await(w, "a", "stopped");
	/* And one that cannot hear at all. */
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	kill(world_pid(w, "a", "vmm"), SIGSTOP);
	world_do(w, "a", "stop", "{\"timeout\":0}", 202);
	world_await(w, "a", "stopped");
	assert_int_equal(world_processes(w, false), 0);
}

static void a_transient_instance_is_gone_when_it_ends(void **state)
{
	struct world *w = *state;
	char body[300], path[200];
	json_t *answer = NULL;

	snprintf(body, sizeof(body), "{\"type\":\"plain\",\"image\":\"%s/images/a\"}", w->folder);
	assert_int_equal(world_ask(w, "POST", "run", body, &answer), 202);
	assert_string_equal(json_string_value(json_object_get(answer, "name")), "plain-1");
	json_decref(answer);
	world_await(w, "plain-1", "running");
	kill(world_pid(w, "plain-1", "vmm"), SIGTERM);
	world_await(w, "plain-1", "gone");
	snprintf(path, sizeof(path), "%s/state/instances/plain-1", w->folder);
	for (unsigned i = 0; i < 1000 && !access(path, F_OK); i++)
		usleep(1000);
	assert_true(access(path, F_OK) < 0);
	world_stop(w);
	world_check_empty(w);
}

/* The world's arbiter, if @words are in its command line; else 0. A '|' in them is the end of a word. */
static int32_t arbiter_process(const struct world *w, const char *words)
{
	char wanted[64];
	size_t length = (size_t)snprintf(wanted, sizeof(wanted), "|%s|", words);
	DIR *folder = opendir("/proc");
	struct dirent *one;
	int32_t found = 0;

	for (size_t i = 0; i < length; i++)
		if (wanted[i] == '|')
			wanted[i] = '\0';
	while ((one = readdir(folder))) {
		char path[300], text[4096];
		ssize_t size;
		int fd;

		snprintf(path, sizeof(path), "/proc/%s/cmdline", one->d_name);
		fd = atoi(one->d_name) > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		size = fd < 0 ? 0 : read(fd, text, sizeof(text));
		if (fd >= 0)
			close(fd);
		if (size > 0 && memmem(text, (size_t)size, w->folder, strlen(w->folder)) &&
		    memmem(text, (size_t)size, "\0arbiter", 9) &&
		    memmem(text, (size_t)size, wanted, length))
			found = atoi(one->d_name);
	}
	closedir(folder);
	return found;
}

/* One of somebody's own at divvyd's place. */
static void another_arbiter_is_told_of_at_once(void **state)
{
	struct world *w = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char own[32];
	json_t *body, *error;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/arbiter", w->folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 8), 0);
	world_define(w, "a", "quarter", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "failed");
	body = world_instance(w, "a");
	error = json_object_get(body, "error");
	assert_string_equal(json_string_value(json_object_get(error, "code")), "arbiter-elsewhere");
	snprintf(own, sizeof(own), "kill %d", getpid());
	assert_non_null(strstr(json_string_value(json_object_get(error, "next")), own));
	json_decref(body);
	close(fd);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
}

/* All who wait for it hear of its end, though some are forgotten by that. */
static void an_arbiter_that_ends_at_once_fails_all_who_wait_for_it(void **state)
{
	struct world *w = *state;
	char text[300];
	json_t *body;

	world_write(w, "arbiter-ends", "");
	world_define(w, "a", "quarter", "");
	world_define(w, "d", "quarter", "");
	world_do(w, "a", "start", NULL, 202);
	for (char name = 'b'; name <= 'c'; name++) {
		snprintf(text, sizeof(text),
			 "{\"name\":\"%c\",\"type\":\"weighted\",\"image\":\"%s/images/a\"}", name,
			 w->folder);
		world_expect(w, "POST", "run", text, 202u);
	}
	world_do(w, "d", "start", NULL, 202);
	world_await(w, "a", "failed");
	world_await(w, "b", "gone");
	world_await(w, "c", "gone");
	world_await(w, "d", "failed");
	body = world_instance(w, "d");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(body, "error"), "code")),
		"arbiter-ended");
	json_decref(body);
	/* It was started once: nobody asked again. */
	assert_int_equal(arbiter_process(w, "arbiter"), 0);
}

static void an_arbiter_that_ends_takes_its_vgpus_and_nobody_else(void **state)
{
	struct world *w = *state;
	json_t *body = NULL;
	int32_t arbiter;

	world_define(w, "a", "quarter", ",\"restart\":\"on-failure\"");
	world_define(w, "b", "whole", "");
	world_do(w, "a", "start", NULL, 202);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "a", "running");
	world_await(w, "b", "running");
	arbiter = arbiter_process(w, "arbiter");
	assert_true(arbiter > 0);
	kill(arbiter, SIGKILL);
	while (true) {
		bool again;

		body = world_instance(w, "a");
		again = json_integer_value(json_object_get(body, "restarts")) == 1 &&
			!strcmp(json_string_value(json_object_get(body, "state")), "running");
		json_decref(body);
		if (again)
			break;
		usleep(20000);
	}
	assert_true(world_is(w, "b", "running"));
}

static void turns_are_as_long_as_the_configuration_says(void **state)
{
	struct world *w = *state;

	world_define(w, "a", "quarter", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	assert_true(arbiter_process(w, "--slice|2") > 0);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	kill(arbiter_process(w, "arbiter"), SIGKILL);
	world_stop(w);
	world_write(w, "divvyd.yaml", "slice_ms: 10\n");
	assert_true(world_start(w, NULL));
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	assert_true(arbiter_process(w, "--slice|10") > 0);
	world_stop(w);
	world_write(w, "divvyd.yaml", "slice_ms: 0\n");
	assert_false(world_start(w, NULL));
}

static void credits_outlive_a_stop(void **state)
{
	struct world *w = *state;
	json_t *body = NULL, *vgpu, *credits;

	world_define(w, "a", "burst", "");
	for (unsigned round = 0; round < 2; round++) {
		double balance = 0;

		world_do(w, "a", "start", NULL, 202);
		world_await(w, "a", "running");
		for (unsigned i = 0; i < 500; i++) {
			assert_int_equal(world_ask(w, "GET", "vgpus", NULL, &body), 200);
			vgpu = json_array_get(json_object_get(body, "vgpus"), 0);
			credits = json_object_get(vgpu, "credits");
			balance = json_number_value(json_object_get(credits, "balance"));
			json_decref(body);
			if (balance > 0)
				break;
			usleep(20000);
		}
		/* Begun with two, and earned a little. */
		assert_true(balance >= 2 && balance < 2.5);
		usleep(1200000);
		world_do(w, "a", "stop", NULL, 202);
		world_await(w, "a", "stopped");
	}
}

/* Credits that its vGPU has used, once they have been the same so often. */
static double usage_of(const struct world *w, unsigned looks)
{
	double usage = -1, last = -1;

	unsigned same = 0;

	for (unsigned i = 0; i < 10000 && same < looks; i++) {
		json_t *body = NULL, *credits;

		assert_int_equal(world_ask(w, "GET", "vgpus", NULL, &body), 200);
		credits = json_object_get(json_array_get(json_object_get(body, "vgpus"), 0),
					  "credits");
		if (credits)
			usage = json_number_value(json_object_get(credits, "usage"));
		json_decref(body);
		same = credits && usage == last ? same + 1 : 0;
		last = usage;
		usleep(20000);
	}
	return usage;
}

static void what_was_used_is_counted_once_over_restarts_of_the_daemon(void **state)
{
	struct world *w = *state;
	char path[200];
	double usage;

	world_write(w, "works", "");
	world_define(w, "a", "burst", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	for (unsigned i = 0; i < 1000 && usage_of(w, 1) < 0.02; i++)
		usleep(100000);
	snprintf(path, sizeof(path), "%s/works", w->folder);
	unlink(path);
	/* Two looks of a second each, and more. */
	usage = usage_of(w, 150);
	assert_true(usage >= 0.02);
	world_stop(w);
	assert_true(world_start(w, NULL));
	assert_true(fabs(usage_of(w, 150) - usage) < 0.001 * usage);
	world_kill(w);
	assert_true(world_start(w, NULL));
	assert_true(fabs(usage_of(w, 150) - usage) < 0.001 * usage);
}

/* Deleted and made again four times, he has had his share of initial credits; further ones earn theirs. */
static void initial_credits_are_not_had_without_end(void **state)
{
	struct world *w = *state;
	json_t *body = NULL;

	for (unsigned round = 0; round < 6; round++) {
		char name[8], resource[32];
		double balance = -1;

		snprintf(name, sizeof(name), "i%u", round);
		world_define(w, name, "burst", "");
		/* A daemon that was away has forgotten nothing. */
		if (round == 3) {
			world_kill(w);
			assert_true(world_start(w, NULL));
		}
		world_do(w, name, "start", NULL, 202);
		world_await(w, name, "running");
		/* The arbiter's last answer may be of the one before. */
		for (unsigned i = 0; i < 500 && balance < 0; i++) {
			json_t *vgpu;
			size_t v;

			assert_int_equal(world_ask(w, "GET", "vgpus", NULL, &body), 200);
			json_array_foreach(json_object_get(body, "vgpus"), v, vgpu)
			{
				const char *of =
					json_string_value(json_object_get(vgpu, "instance"));

				if (of && !strcmp(of, name))
					balance = json_number_value(json_object_get(
						json_object_get(vgpu, "credits"), "balance"));
			}
			json_decref(body);
			usleep(20000);
		}
		if (round < 4)
			assert_true(balance >= 2);
		else
			assert_true(balance >= 0 && balance < 1);
		world_do(w, name, "stop", "{\"force\":true}", 202);
		world_await(w, name, "stopped");
		snprintf(resource, sizeof(resource), "instances/%s", name);
		world_expect(w, "DELETE", resource, NULL, 204u);
	}
}

static void a_weight_changes_while_it_runs(void **state)
{
	struct world *w = *state;
	json_t *body = NULL, *vgpu;
	json_int_t weight = 0;

	world_define(w, "a", "weighted", "");
	world_define(w, "b", "quarter", "");
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	world_expect(w, "PATCH", "instances/a/share", "{\"weight\":300}", 200u);
	for (unsigned i = 0; i < 500 && weight != 300; i++) {
		assert_int_equal(world_ask(w, "GET", "vgpus", NULL, &body), 200);
		vgpu = json_array_get(json_object_get(body, "vgpus"), 0);
		weight = json_integer_value(json_object_get(vgpu, "weight"));
		json_decref(body);
		usleep(20000);
	}
	assert_int_equal(weight, 300);
	world_expect(w, "PATCH", "instances/a/share", "{\"weight\":0}", 400u);
	world_expect(w, "PATCH", "instances/b/share", "{\"weight\":5}", 400u);
}

static void a_picture_comes_from_its_vgpu(void **state)
{
	struct world *w = *state;
	char head[256], text[65536];
	int fd;

	world_define(w, "a", "quarter", "");
	world_expect(w, "GET", "instances/a/screenshot/0", NULL, 409u);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	snprintf(
		head, sizeof(head),
		"GET /api/v1/instances/a/screenshot/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	fd = http_connect(w->api);
	assert_int_equal(send(fd, head, strlen(head), 0), strlen(head));
	assert_int_equal(http_receive(fd, text, sizeof(text)), 200);
	close(fd);
	assert_memory_equal(strstr(text, "\r\n\r\n") + 4, fake_png, 8);
	world_expect(w, "GET", "instances/a/screenshot/1", NULL, 404u);
	world_expect(w, "GET", "instances/a/screenshot/x", NULL, 404u);
}

/* Two daemons on one store: the second is told who has it, and the first goes on. */
static void a_second_daemon_is_refused(void **state)
{
	struct world *w = *state, second = *w;

	assert_true(world_start(&second, NULL) || !second.daemon);
	usleep(200000);
	if (second.daemon) {
		int status;

		/* world_wait_ready() may have found the first one's socket. */
		assert_int_equal(waitpid(second.daemon, &status, 0), second.daemon);
		assert_int_not_equal(status, 0);
	}
	world_expect(w, "GET", "node", NULL, 200u);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(an_instance_is_defined_started_stopped_and_deleted),
		T(a_definition_is_idempotent_and_held_by_its_digest),
		T(what_does_not_fit_is_refused_and_said),
		T(a_whole_gpu_is_leased_reset_and_given_to_the_next),
		T(a_gpu_that_its_driver_has_is_bound_for_an_instance_and_given_back),
		T(a_start_that_is_cut_off_while_it_binds_leaves_nothing_half_done),
		T(what_is_bound_by_half_is_unbound_when_asked),
		T(gpus_without_a_reset_are_judged_by_everything_else),
		T(a_gpu_that_comes_back_wrong_is_set_aside),
		T(a_gpu_is_set_aside_though_the_store_is_full),
		T(a_gpu_is_set_aside_however_many_were_there_before),
		T(a_gpu_that_another_vmm_has_is_left_alone),
		T(a_gpu_that_came_back_by_another_way_is_set_aside),
		T(a_gpu_that_was_reset_before_it_was_given_back_is_clean),
		T(a_drained_gpu_gets_nobody_new),
		T(one_that_waits_for_room_gets_it_whatever_was_refused_meanwhile),
		T(what_runs_outlives_the_daemon_and_is_taken_back),
		T(what_ended_while_nobody_looked_is_found_out),
		T(the_restart_policy_is_kept),
		T(who_is_stopped_to_resume_runs_again_with_the_next_daemon),
		T(one_that_never_comes_up_is_given_longer_pauses),
		T(a_guest_that_does_not_listen_is_ended_after_its_time),
		T(a_transient_instance_is_gone_when_it_ends),
		T(another_arbiter_is_told_of_at_once),
		T(an_arbiter_that_ends_at_once_fails_all_who_wait_for_it),
		T(an_arbiter_that_ends_takes_its_vgpus_and_nobody_else),
		T(turns_are_as_long_as_the_configuration_says),
		T(credits_outlive_a_stop),
		T(what_was_used_is_counted_once_over_restarts_of_the_daemon),
		T(initial_credits_are_not_had_without_end),
		T(a_weight_changes_while_it_runs),
		T(a_picture_comes_from_its_vgpu),
		T(a_second_daemon_is_refused),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
