// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon with the real programs: a VM on the host's /dev/kvm with the freestanding test guest, a vGPU on Vulkan's software GPU, the real
 * arbiter; jailed as a user of its own where the test is root. Killed, the daemon takes them back; stopped, nothing of them is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/build_folder.h"
#include "tests/unit/daemon_world.h"

#define LAVAPIPE "/usr/share/vulkan/icd.d/lvp_icd.json"

static const char types[] =
	"- name: small\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: shared, policy: weighted, weight: 200, vram_mib: 64, selector: software }\n"
	"  displays:\n    - { width: 1024, height: 768 }\n"
	"- name: share\n  vcpus: 1\n  memory_mib: 64\n  gpus:\n"
	"    - { mode: shared, policy: fixed_share, partition: 0.1, vram_mib: 64, selector: software }\n";

static void programs_link(const struct world *w)
{
	static const char *const programs[] = { "divvyd", "divvy", "divvy-vmm", "divvy-vgpu" };
	char build[PATH_MAX], from[PATH_MAX + 128], to[128];

	assert_true(build_folder(build, sizeof(build)));
	for (unsigned i = 0; i < ARRAY_SIZE(programs); i++) {
		snprintf(from, sizeof(from), "%s/%s", build, programs[i]);
		snprintf(to, sizeof(to), "%s/bin/%s", w->folder, programs[i]);
		unlink(to);
		assert_int_equal(symlink(from, to), 0);
	}
	snprintf(from, sizeof(from),
		 "kernel %s/guest-drivers/testguest/testguest.elf\ncmdline irq count=100000\n",
		 build);
	world_write(w, "images/a/guest.conf", from);
	world_write(w, "types/types.yaml", types);
}

static int setup(void **state)
{
	static struct world world;

	*state = &world;
	if (access("/dev/kvm", R_OK | W_OK) || access(LAVAPIPE, R_OK)) {
		world.folder[0] = '\0';
		return 0;
	}
	setenv("VK_DRIVER_FILES", LAVAPIPE, 1);
	world_create(&world);
	programs_link(&world);
	return world_start(&world, NULL) ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	if (w->folder[0])
		world_destroy(w);
	return 0;
}

static json_t *vgpu_of(const struct world *w, const char *instance)
{
	json_t *body = NULL, *one, *found = NULL;
	size_t i;

	for (unsigned n = 0; n < 1000 && !found; n++) {
		assert_int_equal(world_ask(w, "GET", "vgpus", NULL, &body), 200);
		json_array_foreach(json_object_get(body, "vgpus"), i, one)
		{
			const char *whose = json_string_value(json_object_get(one, "instance"));

			if (whose && !strcmp(whose, instance))
				found = json_incref(one);
		}
		json_decref(body);
		usleep(found ? 0 : 10000);
	}
	assert_non_null(found);
	return found;
}

/* Of the process below the one that keeps it: whose it is now. */
static uint32_t user_below(int32_t keeper)
{
	char path[64], text[4096] = "";
	const char *line;
	int child = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", keeper, keeper);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &child), 1);
	fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/status", child);
	assert_true(file_read(AT_FDCWD, path, text, sizeof(text)) > 0);
	line = strstr(text, "\nUid:");
	assert_non_null(line);
	return (uint32_t)strtoul(line + 5, NULL, 10);
}

/* Through the API: what is first said at an instance's console, or by its display. */
static void expect_behind(const struct world *w, const char *what, const char *first)
{
	struct pollfd p = { .fd = http_connect(w->api), .events = POLLIN };
	char text[4096];
	const char *behind = NULL;
	size_t length = 0;

	assert_true(p.fd >= 0);
	snprintf(text, sizeof(text),
		 "GET /api/v1/instances/%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
		 "Upgrade: tcp\r\n\r\n",
		 what);
	assert_int_equal(send(p.fd, text, strlen(text), 0), strlen(text));
	while (!behind || strlen(behind) < strlen(first)) {
		ssize_t n;

		text[length] = '\0';
		if (poll(&p, 1, HTTP_TIMEOUT_MS) != 1)
			fail_msg("%s says no more than %s", what, text);
		n = recv(p.fd, text + length, sizeof(text) - 1 - length, 0);
		assert_true(n > 0);
		length += (size_t)n;
		text[length] = '\0';
		behind = strstr(text, "\r\n\r\n");
		behind = behind ? behind + 4 : NULL;
	}
	assert_int_equal(strncmp(text, "HTTP/1.1 101", 12), 0);
	if (strncmp(behind, first, strlen(first)) != 0)
		fail_msg("%s: %s", what, behind);
	close(p.fd);
}

static void machines_with_real_vgpus_run_survive_and_end(void **state)
{
	struct world *w = *state;
	char control[200], text[65536];
	json_t *body = NULL, *vgpu;
	int32_t vmm, gpu;
	int fd;

	if (!w->folder[0])
		skip();
	world_define(w, "a", "small", "");
	world_define(w, "b", "share", ",\"restart\":\"always\"");
	world_do(w, "a", "start", NULL, 202);
	world_do(w, "b", "start", NULL, 202);
	world_await(w, "a", "running");
	world_await(w, "b", "running");

	vgpu = vgpu_of(w, "a");
	assert_string_equal(json_string_value(json_object_get(vgpu, "policy")), "weighted");
	assert_int_equal(json_integer_value(json_object_get(vgpu, "weight")), 200);
	assert_int_equal(json_integer_value(json_object_get(vgpu, "vram_limit_bytes")), 64 << 20);
	assert_string_equal(json_string_value(json_object_get(vgpu, "gpu")), "software-0");
	json_decref(vgpu);
	world_expect(w, "PATCH", "instances/a/share", "{\"weight\":50}", 200u);

	/* The VMM itself says that it runs, and what it was given. */
	snprintf(control, sizeof(control), "%s/run/instances/a/vmm.ctl", w->folder);
	assert_int_equal(http(control, "GET", "/api/v1/vm.info", NULL, &body), 200);
	assert_string_equal(json_string_value(json_object_get(body, "state")), "running");
	assert_int_equal(json_integer_value(json_object_get(body, "memory_bytes")), 64 << 20);
	json_decref(body);
	fd = http_connect(w->api);
	assert_true(fd >= 0);
	snprintf(
		text, sizeof(text),
		"GET /api/v1/instances/a/screenshot/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	/* A guest that draws nothing has a picture of nothing, or none: both are answers. */
	assert_in_range(http_receive(fd, text, sizeof(text)), 200, 409);
	close(fd);

	expect_behind(w, "a/console", "ready\n");
	expect_behind(w, "a/displays/0", "RFB 003.008\n");

	vmm = world_pid(w, "a", "vmm");
	gpu = world_pid(w, "a", "gpu0");
	if (!geteuid()) {
		assert_true(user_below(vmm) >= 4200000);
		assert_true(user_below(world_pid(w, "b", "vmm")) >= 4200000);
		assert_int_not_equal(user_below(vmm), user_below(world_pid(w, "b", "vmm")));
	}
	world_kill(w);
	assert_true(world_start(w, NULL));
	assert_true(world_is(w, "a", "running"));
	assert_int_equal(world_pid(w, "a", "vmm"), vmm);
	assert_int_equal(world_pid(w, "a", "gpu0"), gpu);

	/* A vGPU's process that dies takes its instance along; the policy brings it back. */
	kill(world_pid(w, "b", "gpu0"), SIGKILL);
	for (unsigned i = 0; i < 6000; i++) {
		bool again;

		body = world_instance(w, "b");
		again = json_integer_value(json_object_get(body, "restarts")) == 1 &&
			!strcmp(json_string_value(json_object_get(body, "state")), "running");
		json_decref(body);
		if (again)
			break;
		usleep(10000);
	}
	assert_true(world_is(w, "b", "running"));
	assert_true(world_is(w, "a", "running"));

	world_do(w, "a", "stop", "{\"timeout\":1}", 202);
	world_do(w, "b", "stop", "{\"force\":true}", 202);
	world_await(w, "a", "stopped");
	world_await(w, "b", "stopped");
	assert_int_equal(world_processes(w, false), 0);
	world_stop(w);
	world_check_empty(w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(machines_with_real_vgpus_run_survive_and_end, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
