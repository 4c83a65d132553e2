// SPDX-License-Identifier: Apache-2.0
/* The daemon and slices of GPUs: virtual functions between tenants; mediated devices made, removed, and found again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_mdev.h"
#include "tests/unit/held_process.h"

/* @key of @gpu as the API has it: a number, or -1. */
static int gpu_number(const struct world *w, const char *gpu, const char *key)
{
	char resource[64];
	json_t *body = NULL, *value;
	int number;

	snprintf(resource, sizeof(resource), "gpus/%s", gpu);
	assert_int_equal(world_ask(w, "GET", resource, NULL, &body), 200);
	value = json_object_get(body, key);
	number = json_is_integer(value) ? (int)json_integer_value(value) : -1;
	json_decref(body);
	return number;
}

static int fits(const struct world *w, const char *type)
{
	char resource[64];
	json_t *body = NULL;
	int number;

	snprintf(resource, sizeof(resource), "types/%s", type);
	assert_int_equal(world_ask(w, "GET", resource, NULL, &body), 200);
	number = (int)json_integer_value(json_object_get(body, "fits"));
	json_decref(body);
	return number;
}

static void run(const struct world *w, const char *name, const char *type)
{
	world_define(w, name, type, "");
	world_do(w, name, "start", NULL, 202);
	world_await(w, name, "running");
}

static void stop(const struct world *w, const char *name)
{
	world_do(w, name, "stop", "{\"force\":true}", 202);
	world_await(w, name, "stopped");
}

/* Of what an instance has, the first. */
static void placed(const struct world *w, const char *name, const char *key, char text[64])
{
	json_t *body = world_instance(w, name);
	const char *value = json_string_value(
		json_object_get(json_array_get(json_object_get(body, "placement"), 0), key));

	snprintf(text, 64, "%s", value ? value : "");
	json_decref(body);
}

static void virtual_functions_go_from_tenant_to_tenant(void **state)
{
	struct world *w = *state;
	char first[64], text[64];
	json_t *body = NULL;

	assert_int_equal(fits(w, "vf"), 2);
	run(w, "a", "vf");
	run(w, "b", "vf");
	assert_int_equal(fits(w, "vf"), 0);
	world_define(w, "c", "vf", "");
	world_do(w, "c", "start", NULL, 409);
	placed(w, "a", "provider", text);
	assert_string_equal(text, "sriov");
	placed(w, "a", "gpu", first);
	assert_string_equal(first, "pci-" WORLD_VF_A);
	placed(w, "b", "gpu", text);
	assert_string_equal(text, "pci-" WORLD_VF_B);
	assert_true(world_gpu_is(w, WORLD_VF_A, "dedicated") &&
		    world_gpu_is(w, WORLD_PF, "shared"));
	assert_int_equal(gpu_number(w, WORLD_PF, "slices"), 2);
	/* Without its driver what it is cut into would be gone. */
	world_expect(w, "POST", "gpus/" WORLD_PF "/bind", NULL, 409u);
	stop(w, "a");
	assert_string_equal(fake_sysfs_read(&w->fs, "sys/bus/pci/devices/" WORLD_VF_A "/reset",
					    text, sizeof(text)),
			    "1");
	assert_string_equal(fake_sysfs_read(&w->fs, "sys/bus/pci/devices/" WORLD_PF "/reset", text,
					    sizeof(text)),
			    "0");
	assert_int_equal(world_ask(w, "GET", "gpus/" WORLD_VF_A "/leases", NULL, &body), 200);
	assert_int_equal(json_array_size(json_object_get(body, "leases")), 1);
	json_decref(body);
	assert_true(world_gpu_is(w, WORLD_VF_A, "free"));
	world_do(w, "c", "start", NULL, 202);
	world_await(w, "c", "running");
	stop(w, "b");
	stop(w, "c");
	assert_true(world_gpu_is(w, WORLD_PF, "free"));
	world_stop(w);
	world_check_empty(w);
}

static void a_virtual_function_that_is_silent_is_set_aside_alone(void **state)
{
	struct world *w = *state;
	char folder[PATH_MAX], path[PATH_MAX + 16], text[64];
	uint8_t ones[64];

	run(w, "a", "vf");
	memset(ones, 0xff, sizeof(ones));
	fake_sysfs_device_path(&w->fs, WORLD_VF_A, folder);
	snprintf(path, sizeof(path), "%s/config", folder);
	fake_sysfs_write_bytes(&w->fs, path, ones, sizeof(ones));
	stop(w, "a");
	assert_true(world_gpu_is(w, WORLD_VF_A, "quarantined") &&
		    world_gpu_is(w, WORLD_PF, "free"));
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	placed(w, "a", "gpu", text);
	assert_string_equal(text, "pci-" WORLD_VF_B);
	stop(w, "a");
	/* Set aside with what they are a part of. */
	world_expect(w, "POST", "gpus/" WORLD_PF "/drain", NULL, 200u);
	world_do(w, "a", "start", NULL, 409);
}

/* With its driver the functions go that it is cut into. */
static void nobody_gets_a_part_of_a_gpu_whose_driver_changes(void **state)
{
	struct world *w = *state;
	char request[] =
		"POST /api/v1/gpus/" WORLD_PF
		"/bind HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
	char path[PATH_MAX], text[64] = "";
	json_t *body = NULL, *error;
	int fd, pipe_fd;

	world_define(w, "a", "vf", "");
	fake_path(&w->fs, path, "sys/bus/pci/drivers/xe/unbind");
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	fd = http_connect(w->api);
	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	for (unsigned i = 0; i < WORLD_WAIT_MS && strcmp(text, "vfio-pci") != 0; i++) {
		usleep(1000);
		fake_sysfs_read(&w->fs, "sys/bus/pci/devices/" WORLD_PF "/driver_override", text,
				sizeof(text));
	}
	assert_int_equal(world_ask(w, "POST", "instances/a/start", NULL, &body), 409);
	error = json_object_get(body, "error");
	assert_string_equal(json_string_value(json_object_get(error, "code")), "gpu-busy");
	assert_non_null(strstr(json_string_value(json_object_get(error, "text")), "pci-" WORLD_PF));
	json_decref(body);
	world_expect(w, "POST", "gpus/" WORLD_VF_A "/unbind", NULL, 409u);
	/* It is done, and is rid of them. */
	fake_sysfs_set_driver(&w->fs, WORLD_PF, "vfio-pci");
	pipe_fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(pipe_fd, text, sizeof(text)) > 0);
	close(pipe_fd);
	unlink(path);
	assert_int_equal(http_receive(fd, path, sizeof(path)), 200);
	close(fd);
}

static void mediated_devices_are_made_and_removed(void **state)
{
	struct world *w = *state;
	char first[64], second[64], path[PATH_MAX], text[64];

	assert_int_equal(fits(w, "mdev"), WORLD_MDEV_TOTAL);
	run(w, "a", "mdev");
	placed(w, "a", "mdev", first);
	assert_true(uuid_ok(first) && first[14] == '8');
	assert_int_equal(world_mdevs(w), 1);
	/* Its VMM was given it. */
	snprintf(path, sizeof(path), "%s/held-%s", w->folder, first);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(fits(w, "mdev"), 1);
	assert_int_equal(gpu_number(w, WORLD_MDEVS, "slices"), 1);
	run(w, "b", "mdev");
	placed(w, "b", "mdev", second);
	assert_string_not_equal(first, second);
	world_define(w, "c", "mdev", "");
	world_do(w, "c", "start", NULL, 409);
	stop(w, "a");
	assert_int_equal(world_mdevs(w), 1);
	assert_int_equal(fits(w, "mdev"), 1);
	/* The same again, at each start. */
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	placed(w, "a", "mdev", text);
	assert_string_equal(text, first);
	/* Over a restart of the daemon, too. */
	world_kill(w);
	assert_true(world_start(w, NULL));
	assert_true(world_is(w, "a", "running") && world_is(w, "b", "running"));
	assert_int_equal(fits(w, "mdev"), 0);
	stop(w, "a");
	stop(w, "b");
	assert_int_equal(world_mdevs(w), 0);
	assert_int_equal(fits(w, "mdev"), WORLD_MDEV_TOTAL);
	assert_true(world_gpu_is(w, WORLD_MDEVS, "free"));
	world_stop(w);
	world_check_empty(w);
}

static void what_is_left_of_them_is_removed_and_others_stay(void **state)
{
	static const char foreign[] = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
	struct world *w = *state;
	char uuid[64], create[PATH_MAX];

	run(w, "a", "mdev");
	placed(w, "a", "mdev", uuid);
	stop(w, "a");
	world_stop(w);
	/* As a driver that took too long to answer would leave it. */
	snprintf(create, sizeof(create),
		 "%s/sys/class/mdev_bus/" WORLD_MDEVS "/mdev_supported_types/fake-small/create",
		 w->fs.root);
	assert_int_equal(fake_mdev_made(create, uuid), 0);
	assert_int_equal(fake_mdev_made(create, foreign), 0);
	assert_int_equal(world_mdevs(w), 2);
	assert_true(world_start(w, NULL));
	for (unsigned i = 0; i < 6000 && world_mdevs(w) > 1; i++)
		usleep(10000);
	assert_int_equal(world_mdevs(w), 1);
	for (unsigned i = 0; i < 6000 && fits(w, "mdev") != 1; i++)
		usleep(10000);
	assert_int_equal(fits(w, "mdev"), 1);
	/* Between two starts as well. */
	assert_int_equal(fake_mdev_made(create, uuid), 0);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	stop(w, "a");
	assert_int_equal(world_mdevs(w), 1);
}

static void one_that_cannot_be_removed_sets_its_gpu_aside(void **state)
{
	struct world *w = *state;

	run(w, "a", "mdev");
	fake_sysfs_write(&w->fs, "mdev-stuck", "%s", "");
	stop(w, "a");
	assert_true(world_gpu_is(w, WORLD_MDEVS, "quarantined"));
	world_do(w, "a", "start", NULL, 409);
	fake_sysfs_remove(&w->fs, "mdev-stuck");
	world_expect(w, "POST", "gpus/" WORLD_MDEVS "/release", NULL, 200u);
	world_do(w, "a", "start", NULL, 202);
	world_await(w, "a", "running");
	stop(w, "a");
	assert_int_equal(world_mdevs(w), 0);
}

/* Nothing could be written when that was found out: it is with the instance's end, and the next daemon knows. */
static void its_gpu_stays_aside_though_the_store_was_full(void **state)
{
	struct world *w = *state;

	run(w, "a", "mdev");
	fake_sysfs_write(&w->fs, "mdev-stuck", "%s", "");
	world_store_fails(w, 1);
	kill(world_pid(w, "a", "vmm"), SIGKILL);
	for (unsigned i = 0; i < WORLD_WAIT_MS / 10 && !world_gpu_is(w, WORLD_MDEVS, "quarantined");
	     i++)
		usleep(10000);
	assert_true(world_gpu_is(w, WORLD_MDEVS, "quarantined"));
	world_store_fails(w, 0);
	world_await(w, "a", "failed");
	world_do(w, "a", "start", NULL, 409);
	world_kill(w);
	assert_true(world_start(w, NULL));
	assert_true(world_gpu_is(w, WORLD_MDEVS, "quarantined"));
	world_do(w, "a", "start", NULL, 409);
}

/* Its driver makes one, and no kill shortens that: what comes of it would be nobody's. */
static void one_that_is_still_being_made_is_waited_for(void **state)
{
	struct world *w = *state;
	pid_t makes;

	world_define(w, "a", "mdev", "");
	fake_sysfs_write(&w->fs, "mdev-slow", "%s", "");
	world_do(w, "a", "start", NULL, 202);
	makes = held_find(w->daemon);
	held_take(makes);
	world_do(w, "a", "stop", "{\"force\":true}", 202);
	held_await(makes);
	usleep(500000);
	assert_true(world_is(w, "a", "stopping"));
	fake_sysfs_remove(&w->fs, "mdev-slow");
	held_let_go(makes);
	world_await(w, "a", "stopped");
	assert_int_equal(world_mdevs(w), 0);
	assert_true(world_gpu_is(w, WORLD_MDEVS, "free"));
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup_slices, world_teardown)
	const struct CMUnitTest tests[] = {
		T(virtual_functions_go_from_tenant_to_tenant),
		T(a_virtual_function_that_is_silent_is_set_aside_alone),
		T(nobody_gets_a_part_of_a_gpu_whose_driver_changes),
		T(mediated_devices_are_made_and_removed),
		T(what_is_left_of_them_is_removed_and_others_stay),
		T(one_that_cannot_be_removed_sets_its_gpu_aside),
		T(its_gpu_stays_aside_though_the_store_was_full),
		T(one_that_is_still_being_made_is_waited_for),
	};
	int status = fake_main(argc, argv);

	if (status >= 0)
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
